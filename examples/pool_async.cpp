// A pool of four processes: tasks, maps, callbacks, workers with a state, and the ways in which a pool ends.
//
//   pool_async [--start fork|spawn|forkserver] [--progress]
//
// What to look at: `submit` returns at once, so twenty tasks run four at a time, and their futures give the results in the
// order of submission, whoever was done first. `apply` waits for each, so twenty tasks take twenty times as long as one. `imap`
// takes no more from its input than it has to: here that never ends. `join` is refused before `close`, and `submit` after it.
// With --progress stderr says how far the twenty tasks have come.

#include "support/arguments.hpp"
#include "support/say.hpp"
#include "support/stopwatch.hpp"

#include <polyproc/polyproc.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <iterator>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using example::say;
using example::stopwatch;

constexpr int tasks = 20;
constexpr auto nap = 50ms;

// --- What the workers run.

int square(int n) { return n * n; }
int power(int base, int exponent) { return exponent == 0 ? 1 : base * power(base, exponent - 1); }

int told_square(int n) {
  std::this_thread::sleep_for(nap);
  say(polyproc::this_process::name(), ": task ", n);
  return n * n;
}
int slow_square(int n) {
  std::this_thread::sleep_for(nap);
  return n * n;
}
/// The first items take longest.
int falling_square(int n) {
  std::this_thread::sleep_for((5 - n) * 100ms);
  return n * n;
}
int fail(int n) { throw std::out_of_range("there is no task " + std::to_string(n)); }
void sleep_long() { std::this_thread::sleep_for(1h); }
long who() {
  std::this_thread::sleep_for(5ms);  // so that others get some, too
  return polyproc::this_process::pid();
}

/// What each worker has of its own, made by its initializer.
struct cookbook {
  std::string title;
  int looked_up = 0;
};
cookbook open_book(std::string const& title, int pages) { return {title + " with " + std::to_string(pages) + " pages"}; }
std::string look_up(std::string const& dish) {
  auto& mine = polyproc::this_worker::state<cookbook>();
  ++mine.looked_up;
  return dish + ", number " + std::to_string(mine.looked_up) + " from " + mine.title;
}

// --- The show.

template <class Range>
std::string listed(Range&& values) {
  std::string line;
  for (auto&& value : values) line += " " + std::to_string(value);
  return line;
}

void twenty_tasks(bool with_progress) {
  say("-- 4 processes, 20 tasks");
  polyproc::process_pool pool{4};
  std::vector<polyproc::future<int>> results;
  for (int n = 0; n < tasks; ++n) results.push_back(pool.submit(told_square, n));
  if (with_progress) {
    polyproc::progress bar{{.name = "tasks", .total = tasks}};
    for ([[maybe_unused]] auto& done : polyproc::as_completed(results)) bar.add();
  }
  pool.close();
  pool.join();
  say("all done");
  for (std::size_t n = 0; n < results.size(); ++n) say("result ", n, ": ", results[n].get());
}

void apply_and_submit() {
  say("-- apply waits, submit does not");
  polyproc::process_pool pool{4};
  (void)pool.map(slow_square, std::vector<int>(4, 0), {.chunk = 1});  // all four are up and running

  stopwatch const one_by_one;
  for (int n = 0; n < tasks; ++n) (void)pool.apply(slow_square, n);
  auto const applied = one_by_one.ms();

  stopwatch const together;
  std::vector<polyproc::future<int>> results;
  for (int n = 0; n < tasks; ++n) results.push_back(pool.submit(slow_square, n));
  auto const returned = together.ms();
  for (auto& each : results) (void)each.get();
  auto const submitted = together.ms();

  char ratio[16];
  std::snprintf(ratio, sizeof ratio, "%.1f", static_cast<double>(applied) / static_cast<double>(submitted));
  say("apply: 20 tasks that sleep ", nap.count(), " ms took ", applied, " ms");
  say("submit: all were submitted after ", returned, " ms, and done after ", submitted, " ms");
  say("the ratio is ", ratio);
}

/// 1, 2, 3, and so on without end. Counts how many were taken.
struct endless {
  int* taken = nullptr;

  struct iterator {
    using iterator_concept = std::input_iterator_tag;
    using value_type = int;
    using difference_type = std::ptrdiff_t;
    int* taken = nullptr;
    int now = 1;

    int operator*() const { return *taken = now; }
    iterator& operator++() {
      ++now;
      return *this;
    }
    void operator++(int) { ++now; }
    bool operator==(std::default_sentinel_t) const { return false; }
  };
  [[nodiscard]] iterator begin() const { return {taken}; }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }
};

void maps() {
  say("-- map and the like");
  polyproc::process_pool pool{4};
  std::vector<int> const numbers{1, 2, 3, 4};
  say("map:", listed(pool.map(square, numbers)));
  say("starmap:", listed(pool.starmap(power, std::vector<std::pair<int, int>>{{2, 10}, {3, 4}, {7, 2}})));
  say("imap, the first takes longest:", listed(pool.imap(falling_square, numbers)));
  say("imap_unordered:", listed(pool.imap_unordered(falling_square, numbers)));

  int taken = 0;
  int sum = 0;
  int seen = 0;
  for (int const value : pool.imap(square, endless{&taken}, {.window = 8})) {
    sum += value;
    if (++seen == 100) break;
  }
  say("imap over endless input: the first 100 squares make ", sum, ", and at most 8 more were taken: ",
      taken <= 108 ? "yes" : "no");
  pool.shutdown();
}

void callbacks() {
  say("-- callbacks");
  polyproc::process_pool pool{4};
  std::mutex lock;
  std::vector<int> heard;
  std::string problem;
  std::atomic<int> left{6};
  auto const main_thread = std::this_thread::get_id();
  std::atomic<bool> elsewhere{true};
  for (int n = 1; n <= 6; ++n) {
    pool.submit(n == 4 ? fail : slow_square, n).on_done([&](auto const& done) {
      std::scoped_lock hold{lock};
      if (std::this_thread::get_id() == main_thread) elsewhere = false;
      try {
        heard.push_back(done.get());
      } catch (std::exception const& error) {
        problem = error.what();
      }
      --left;
    });
  }
  while (left > 0) std::this_thread::sleep_for(1ms);  // main looks at no future
  std::sort(heard.begin(), heard.end());
  say("heard of:", listed(heard), ", and of a problem: ", problem);
  say("on a thread of the library's: ", elsewhere ? "yes" : "no");
  auto twice = pool.submit(square, 6).then([](int n) { return 2 * n; });
  say("then: ", twice.get());
  pool.shutdown();
}

void states() {
  say("-- an initializer");
  polyproc::process_pool pool({.workers = 1, .initializer = {open_book, "Eggs", 80}});
  for (auto const* dish : {"soup", "omelette"}) say(pool.apply(look_up, dish));
  pool.shutdown();
}

void recycling() {
  say("-- workers that leave after 3 tasks");
  polyproc::process_pool pool({.workers = 2, .tasks_per_worker = 3});
  std::map<long, int> by;
  for (long const pid : pool.map([](int) { return who(); }, std::vector<int>(12), {.chunk = 1})) ++by[pid];
  int most = 0;
  for (auto const& [pid, n] : by) most = std::max(most, n);
  say("12 tasks ran in ", by.size(), " processes, in none more than ", most);
  pool.shutdown();
}

void ends() {
  say("-- the end of a pool");
  polyproc::process_pool pool{4};
  try {
    pool.join();
  } catch (std::logic_error const& problem) {
    say("join before close: ", problem.what());
  }
  auto last = pool.submit(slow_square, 9);
  pool.close();
  try {
    (void)pool.submit(square, 10);
  } catch (std::logic_error const& problem) {
    say("submit after close: ", problem.what());
  }
  pool.join();
  bool const done = last.ready();
  say("what was submitted before is done: ", done ? "yes, " : "no, ", last.get());

  polyproc::process_pool other{4};
  std::vector<polyproc::future<void>> never;
  for (int i = 0; i < 8; ++i) never.push_back(other.submit(sleep_long));
  std::this_thread::sleep_for(nap);  // some have begun
  stopwatch const time;
  other.terminate();
  int cancelled = 0;
  for (auto& each : never) {
    try {
      each.get();
    } catch (polyproc::task_cancelled const&) {
      ++cancelled;
    }
  }
  say("terminate: ", cancelled, " of 8 tasks of an hour were given up ", time.elapsed() < 5s ? "at once" : "too late");
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "pool_async", {"--progress"});

  twenty_tasks(given.has("--progress"));
  apply_and_submit();
  maps();
  callbacks();
  states();
  recycling();
  ends();
}
