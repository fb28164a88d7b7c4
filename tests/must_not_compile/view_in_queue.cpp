// expect: a queue carries values that the codec can encode

#include <polyproc/polyproc.hpp>

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
#ifndef FIXED
  polyproc::queue<std::string_view> q(1);
#else
  polyproc::queue<std::string> q(1);
#endif
}
