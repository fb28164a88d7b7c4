// expect: what the child changes does not come\s+back

#include <polyproc/polyproc.hpp>

#ifndef FIXED
void work(int&);
void work(int& n) { ++n; }
#else
void work(int const&);
void work(int const&) {}
#endif

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  int n = 1;
  polyproc::process p{work, n};
}
