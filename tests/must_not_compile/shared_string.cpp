// expect: this type cannot live in shared memory

#include <polyproc/polyproc.hpp>

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
#ifndef FIXED
  polyproc::shared<std::string> text;
#else
  polyproc::shared<char[100]> text;
#endif
}
