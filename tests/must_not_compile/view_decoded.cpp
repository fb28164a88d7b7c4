// expect: a string_view or span cannot be received

#include <polyproc/polyproc.hpp>

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
#ifndef FIXED
  polyproc::reader in{{}};
  (void)polyproc::decode<std::span<int>>(in);
#else
  polyproc::reader in{{}};
  (void)polyproc::decode<std::vector<int>>(in);
#endif
}
