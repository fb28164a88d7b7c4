// expect: map collects results, and this target returns none

#include <polyproc/polyproc.hpp>

#ifndef FIXED
void work(int);
void work(int) {}
#else
int work(int);
int work(int n) { return n; }
#endif

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  polyproc::process_pool pool(1);
  (void)pool.map(work, std::vector<int>{1});
}
