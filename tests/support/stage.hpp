/// How processes of a test wait for each other, other than by what is being tested.
#pragma once

#include <polyproc/polyproc.hpp>

#include <chrono>
#include <thread>

/// A number that says how far things are.
struct stage {
  std::atomic<int> at{0};

  void reach(int value) { at = value; }
  void add() { ++at; }
  void await(int value) const {
    while (at.load() < value) polyproc::native_backend::yield();
  }
};

[[noreturn]] inline void sleep_until_killed() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

/// Far more than is promised under load (200 ms): the machine itself may be away for a while.
inline constexpr std::chrono::seconds soon{10};

/// Runs f and returns how long it took.
template <class F>
auto time_of(F&& f) {
  auto const begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::steady_clock::now() - begin;
}
