// expect: the number of arguments is not the number

#include <polyproc/polyproc.hpp>

void work(int, int);
void work(int, int) {}

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
#ifndef FIXED
  polyproc::process p{work, 1};
#else
  polyproc::process p{work, 1, 2};
#endif
}
