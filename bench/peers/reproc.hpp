// reproc, where CMake finds it (BENCH_HAS_REPROC).
#pragma once

#if defined(BENCH_HAS_REPROC)

#include <reproc/run.h>

#include <stdexcept>

struct reproc_peer {
  /// Throws when that does not end with 0.
  static void spawn_wait(char const* path, char const* argument) {
    char const* const argv[] = {path, argument, nullptr};
    reproc_options options{};
    options.redirect.parent = true;
    if (::reproc_run(argv, options) != 0) throw std::runtime_error("reproc's child ended badly");
  }
};
#endif
