/// What the tests of pools of processes let workers do, and how they wait for it.
#pragma once

#include "support/stage.hpp"
#include "support/tidy.hpp"

#include <cstdio>
#include <future>
#include <numeric>

namespace pool_tasks {

using namespace std::chrono_literals;
using polyproc::process_pool;
using polyproc::process_pool_options;
using polyproc::task_cancelled;
using polyproc::task_options;
using polyproc::time_limit_exceeded;
using polyproc::worker_lost;
using refs = polyproc::queue<polyproc::process_ref>;

/// As long as anything may take before it counts as hanging.
inline constexpr auto patience = 60s;
/// Far more than what is promised for the end of a task that was told to stop (100 ms), which is printed: the machine itself may
/// be away for a while.
inline constexpr auto gone_by = 4s;

struct gate {
  std::atomic<long> begun{0};
  std::atomic<long> open{0};
  std::atomic<long> count{0};
  std::atomic<std::int64_t> asked{0};
};
using shared_gate = polyproc::shared<gate>;

inline bool eventually(auto&& so, std::chrono::steady_clock::duration within = patience) {
  auto const end = std::chrono::steady_clock::now() + within;
  while (!so()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}
inline bool until_begun(shared_gate const& g, long n = 1) {
  return eventually([&] { return g->begun >= n; });
}
template <class T>
T outcome_of(polyproc::future<T>& f) {
  REQUIRE(f.wait_for(patience));
  return f.get();
}
inline long long in_ms(std::chrono::steady_clock::duration d) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}
inline void measured(char const* what, std::chrono::steady_clock::duration took, char const* promised) {
  std::printf("measured: %s: %lld ms (promised: %s)\n", what, in_ms(took), promised);
  std::fflush(stdout);
}

inline int square(int x) { return x * x; }
inline void nothing() {}
inline std::string twice(std::string const& s) { return s + s; }
inline long own_pid() { return polyproc::this_process::pid(); }
inline void wait_at(shared_gate g) {
  g->begun += 1;
  while (g->open == 0) std::this_thread::sleep_for(200us);
}
inline void throw_range() { throw std::out_of_range("too far"); }
inline long exit_with(int code) { polyproc::native_backend::exit_now(code); }
inline long fault() {
  int volatile* volatile nowhere = nullptr;
  *nowhere = 1;
  return 0;
}
inline void burn(shared_gate g) {
  g->begun += 1;
  for (std::uint64_t volatile i = 0;;) i = i + 1;
}
inline void sleep_for_ever() { sleep_until_killed(); }
/// An endless loop, and a process that it has started.
inline void burn_with_child(shared_gate g, refs to) {
  g->asked = std::chrono::nanoseconds(polyproc::native_backend::now().time_since_epoch()).count();
  polyproc::process child{sleep_for_ever};
  child.start();
  to.put(child.ref());
  to.put(polyproc::this_process::self());
  burn(g);
}
/// Ends by itself when it is asked to.
inline int ends_when_asked(shared_gate g, std::chrono::milliseconds takes) {
  g->begun += 1;
  while (!polyproc::this_task::stop_requested()) (void)polyproc::this_task::sleep_for(10s);
  g->asked += 1;
  std::this_thread::sleep_for(takes);
  g->count += 1;
  return 5;
}

/// One worker that is busy until it is told to go on.
struct held_worker {
  shared_gate gate;
  polyproc::future<void> task;
  explicit held_worker(process_pool& pool, task_options options = {}) : task(pool.submit(std::move(options), wait_at, gate)) {
    REQUIRE(until_begun(gate));
  }
  held_worker(held_worker const&) = delete;
  held_worker& operator=(held_worker const&) = delete;
  ~held_worker() { let_go(); }
  void let_go() const { gate->open = 1; }
};

}  // namespace pool_tasks
