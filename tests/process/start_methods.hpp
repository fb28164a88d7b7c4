/// Every way in which this system starts processes.
#pragma once

#include "support/tidy.hpp"

#include <initializer_list>

inline std::vector<polyproc::start_method> start_methods() {
  using polyproc::start_method;
  std::vector<start_method> all{start_method::spawn};
  if (polyproc::native_backend::has_fork) all.push_back(start_method::fork);
  if (polyproc::native_backend::has_server) all.push_back(start_method::forkserver);
  return all;
}
inline char const* name_of(polyproc::start_method method) {
  switch (method) {
    case polyproc::start_method::fork: return "fork";
    case polyproc::start_method::spawn: return "spawn";
    case polyproc::start_method::forkserver: return "forkserver";
    case polyproc::start_method::automatic: break;
  }
  return "automatic";
}

/// Words that a test's children and the test tell each other by.
struct notes {
  std::atomic<long> a{0};
  std::atomic<long> b{0};
  std::atomic<long> c{0};
  std::atomic<long> count{0};
};
using shared_notes = polyproc::shared<notes>;

inline void until(std::atomic<long> const& word, long value) {
  while (word.load() != value) std::this_thread::sleep_for(std::chrono::microseconds(200));
}
