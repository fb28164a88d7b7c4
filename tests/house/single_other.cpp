// The second file of single_main.cpp.
#include "polyproc.hpp"

long other_square(long n) { return n * n; }

int other_puts_in(polyproc::queue<std::string> const& q) {
  q.put("from the other file");
  return static_cast<int>(q.size());
}
