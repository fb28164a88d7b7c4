// expect: a type with virtual functions cannot travel

#include <polyproc/polyproc.hpp>

#ifndef FIXED
struct shape {
  virtual ~shape() = default;
};
#else
struct shape {
  int sides = 0;
};
#endif

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  polyproc::writer out;
  polyproc::encode(out, shape{});
}
