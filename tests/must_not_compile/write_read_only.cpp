// expect: (read-only|returns a const value)

#include <polyproc/polyproc.hpp>

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  polyproc::shared<int> number;
#ifndef FIXED
  polyproc::shared<int const> seen = number;
  *seen = 1;
#else
  polyproc::shared<int const> seen = number;
  return *seen;
#endif
}
