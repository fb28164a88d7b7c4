// expect: a union cannot travel

#include <polyproc/polyproc.hpp>

#ifndef FIXED
union either {
  int a;
  float b;
};
#else
using either = std::variant<int, float>;
#endif

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  polyproc::writer out;
  polyproc::encode(out, either{1});
}
