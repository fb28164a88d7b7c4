// expect: a raw pointer cannot travel

#include <polyproc/polyproc.hpp>

#ifndef FIXED
char const* work();
char const* work() { return ""; }
#else
std::string work();
std::string work() { return {}; }
#endif

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  polyproc::process_pool pool(1);
  (void)pool.submit(work);
}
