// own-main: a program whose main does not call polyproc::init.

#include <polyproc/polyproc.hpp>

#include <cstdio>
#include <cstring>

int main(int argc, char** argv) {
  // Were this program run again by mistake, it would be seen here.
  if (argc > 1 && std::strncmp(argv[1], "--polyproc", 10) == 0) {
    std::puts("main was run again instead of the function");
    return 3;
  }
  int failures = 0;
  auto const refuses = [&](char const* what, auto&& attempt) {
    try {
      attempt();
      std::printf("FAILED: %s was not refused\n", what);
      ++failures;
    } catch (polyproc::start_error const& e) {
      if (std::strstr(e.what(), "polyproc::init") == nullptr) {
        std::printf("FAILED: %s was refused without a word of init: %s\n", what, e.what());
        ++failures;
      }
    }
  };
  refuses("a process", [] { polyproc::launch([] {}).join(); });
  refuses("a pool", [] { polyproc::process_pool pool(2); });
#if !defined(_WIN32)
  polyproc::process forked{polyproc::start::fork, [] {}};
  forked.start();
  forked.join();
  if (forked.exit_code() != 0) {
    std::puts("FAILED: start::fork needs no init");
    ++failures;
  }
#endif
  std::printf("test cases: 1 | %d failed\n", failures == 0 ? 0 : 1);
  return failures == 0 ? 0 : 1;
}
