// expect: A lambda that captures cannot

#include <polyproc/polyproc.hpp>

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
#ifndef FIXED
  int n = 1;
  polyproc::process p{[n] { (void)n; }};
#else
  int n = 1;
  polyproc::process p{[](int m) { (void)m; }, n};
#endif
}
