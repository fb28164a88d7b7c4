// expect: more than 32 members, an array member

#include <polyproc/polyproc.hpp>

#ifndef FIXED
struct base {
  int a = 0;
  int b = 0;
};
struct both : base {
  std::string c;
};
#else
struct base {
  int a = 0;
  int b = 0;
};
struct both {
  base first;
  std::string c;
};
#endif

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  polyproc::writer out;
  polyproc::encode(out, both{});
}
