// own-main: a program made of two files, each with the single header and nothing else.
#include <cstdio>
#include <string>
#include <vector>

#include "polyproc.hpp"

long other_square(long n);
int other_puts_in(polyproc::queue<std::string> const& q);

static long square(long n) { return n * n; }
static void answer(polyproc::queue<std::string> q, std::string const& name) { q.put("hello " + name); }

int main(int argc, char** argv) {
  polyproc::init(argc, argv);

  polyproc::queue<std::string> q{8};
  polyproc::process p{answer, q, "single header"};
  p.start();
  auto const said = q.get();
  p.join();

  polyproc::process_pool pool{2};
  auto const squares = pool.map(square, std::vector<long>{1, 2, 3});
  auto const elsewhere = pool.submit(other_square, 4).get();
  pool.close();
  pool.join();

  bool const right = said == "hello single header" && p.exit_code() == 0 && squares == std::vector<long>{1, 4, 9} &&
                     elsewhere == 16 && other_puts_in(q) == 1 && q.get() == "from the other file";
  std::puts(right ? "right" : "wrong");
  return right ? 0 : 1;
}
