// expect: a raw pointer cannot travel

#include <polyproc/polyproc.hpp>

#ifndef FIXED
struct order {
  int id = 0;
  char const* what = nullptr;
};
#else
struct order {
  int id = 0;
  std::string what;
};
#endif

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  polyproc::writer out;
  polyproc::encode(out, order{});
}
