// expect: this type cannot live in shared memory

#include <polyproc/polyproc.hpp>

#ifndef FIXED
struct node {
  int value = 0;
  node* next = nullptr;
};
#else
struct node {
  int value = 0;
  int next = -1;
};
#endif

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  polyproc::shared<node> list;
}
