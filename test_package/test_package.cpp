#include <polyproc/polyproc.hpp>

static int twice(int n) { return 2 * n; }

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  polyproc::process_pool pool{1};
  return pool.apply(twice, 21) == 42 ? 0 : 1;
}
