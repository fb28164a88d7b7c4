// expect: a raw pointer cannot travel

#include <polyproc/polyproc.hpp>

#ifndef FIXED
void work(int*);
void work(int* p) { ++*p; }
#else
void work(int);
void work(int n) { ++n; }
#endif

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
#ifndef FIXED
  int n = 1;
  polyproc::process p{work, &n};
#else
  polyproc::process p{work, 1};
#endif
}
