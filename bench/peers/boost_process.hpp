// Boost.Process. Its headers take long to compile and are no friends of strict warnings, so they have a file of their own,
// boost_process.cpp, which takes part where CMake finds them (BENCH_HAS_BOOST_PROCESS).
#pragma once

#if defined(BENCH_HAS_BOOST_PROCESS)

struct boost_process_peer {
  /// Throws when that does not end with 0.
  static void spawn_wait(char const* path, char const* argument);
};
#endif
