// expect: this type cannot live in shared memory

#include <polyproc/polyproc.hpp>

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
#ifndef FIXED
  polyproc::shared<int*> where;
#else
  polyproc::shared<int> value;
#endif
}
