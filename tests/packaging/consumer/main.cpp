// A project that uses polyproc: says so if a child did the work.
#include <polyproc/polyproc.hpp>

#include <cstdio>

static int twice(int n) { return 2 * n; }

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  polyproc::process_pool pool{1};
  int const got = pool.apply(twice, 21);
  std::printf("polyproc %d.%d.%d: %d\n", polyproc::version_major, polyproc::version_minor, polyproc::version_patch, got);
#if defined(EXPECT_POSIX) != defined(POLYPROC_BACKEND_POSIX)
#error "the option for the backend did not arrive"
#endif
  return got == 42 ? 0 : 1;
}
