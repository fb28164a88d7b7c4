// expect: this type cannot live in shared memory

#include <polyproc/polyproc.hpp>

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
#ifndef FIXED
  polyproc::shared<polyproc::guarded<std::string>> text;
#else
  polyproc::shared<polyproc::guarded<char[100]>> text;
#endif
}
