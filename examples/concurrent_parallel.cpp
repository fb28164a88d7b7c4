// Concurrent or parallel: the same computations on one processor and on all.
//
//   concurrent_parallel [--start fork|spawn|forkserver]
//
// What to look at: the workers of both pools are equally many; one pool is kept on a single processor by `.affinity`. There its
// tasks are all under way at the same time, but at each moment only one of them goes on: they are concurrent. On several
// processors they go on at the same time: they are parallel, and done sooner. Where the system has no call for affinity, one
// worker is compared with all: then the tasks are not even concurrent.

#include "support/arguments.hpp"
#include "support/say.hpp"
#include "support/stopwatch.hpp"

#include <polyproc/polyproc.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using example::say;
using std::chrono::nanoseconds;

constexpr std::size_t columns = 60;
constexpr auto column = 500us;      // of the close look
constexpr auto each_takes = 200ms;  // alone

nanoseconds now() { return std::chrono::steady_clock::now().time_since_epoch(); }  // the same in every process

/// The smallest piece of work: some rounds of a generator of random numbers.
std::uint32_t step(std::uint32_t seed, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
  }
  return seed;
}

struct work {
  int steps = 0;
  int rounds = 0;  // in each step
};
/// What a task tells of itself: when it was done with each of its steps.
struct story {
  std::vector<nanoseconds> steps;
  std::uint32_t result = 0;
};
story compute(work w) {
  story mine;
  mine.steps.reserve(static_cast<std::size_t>(w.steps));
  mine.result = 1;
  for (int i = 0; i < w.steps; ++i) {
    mine.result = step(mine.result, w.rounds);
    mine.steps.push_back(now());
  }
  return mine;
}
int rest(int n) {
  std::this_thread::sleep_for(20ms);
  return n;
}

/// Steps of about 0.1 ms on this machine.
work measured() {
  int rounds = 1000;
  for (;; rounds *= 2) {
    auto const begin = now();
    auto const result = step(1, rounds);
    auto const took = now() - begin;
    if (result == 0) continue;  // it never is; this keeps it from being left out
    if (took >= 10ms) {
      auto const tenth = static_cast<double>(rounds) * 1e5 / static_cast<double>(took.count());
      return {static_cast<int>(each_takes / 100us), std::max(1, static_cast<int>(tenth))};
    }
  }
}

struct run_result {
  std::vector<story> stories;
  nanoseconds begin{};
  nanoseconds took{};
};
template <polyproc::executor Pool>
run_result run(Pool& pool, std::size_t tasks, work w) {
  (void)pool.map(rest, std::vector<int>(tasks, 0), {.chunk = 1});  // all workers are up and running
  run_result r;
  r.begin = now();
  r.stories = pool.map(compute, std::vector<work>(tasks, w), {.chunk = 1});
  r.took = now() - r.begin;
  return r;
}

/// '#' where the task has made steps: about as many as fit (at least half of it), '-' fewer, ' ' none.
std::string row(story const& of, nanoseconds begin, nanoseconds width) {
  std::vector<int> made(columns, 0);
  for (auto const at : of.steps) {
    auto const place = (at - begin) / width;
    if (at >= begin && place < static_cast<long>(columns)) ++made[static_cast<std::size_t>(place)];
  }
  std::string text;
  for (auto const n : made) text += n == 0 ? ' ' : n * 200us >= width ? '#' : '-';
  return text;
}

void draw(run_result const& r, nanoseconds whole) {
  say("  the whole of it, ", std::chrono::round<std::chrono::milliseconds>(whole).count(), " ms wide:");
  auto const rows = [&r](nanoseconds begin, nanoseconds width) {
    for (std::size_t i = 0; i < r.stories.size(); ++i) say("  task ", i + 1, " |", row(r.stories[i], begin, width), "|");
  };
  rows(r.begin, whole / columns);
  say("  a close look, ", std::chrono::round<std::chrono::milliseconds>(columns * column).count(), " ms wide:");
  rows(r.begin + 20ms, column);
}

template <class Pool, class Options>
void compare(char const* name, std::size_t workers, work w) {
  run_result few;
  std::string how;
  for (unsigned processor = 0;; ++processor) {
    try {
      Pool pool(Options{.workers = workers, .affinity = {processor}});
      few = run(pool, workers, w);
      how = std::to_string(workers) + " workers on one processor";
      break;
    } catch (std::system_error const& problem) {
      if (problem.code() == std::errc::invalid_argument && processor < 1024) continue;  // not one of ours
      if (problem.code() != std::errc::not_supported) throw;
      say("-- ", name, ": this system has no call that keeps a worker on a processor");
      Pool pool(Options{.workers = 1});
      few = run(pool, workers, w);
      how = "one worker";
      break;
    }
  }
  run_result many;
  {
    Pool pool(Options{.workers = workers});
    many = run(pool, workers, w);
  }
  auto const ms = [](nanoseconds t) { return std::chrono::round<std::chrono::milliseconds>(t).count(); };
  auto const whole = std::max(few.took, many.took);
  say("-- ", name, ": ", workers, " tasks, ", how, ": ", ms(few.took), " ms");
  draw(few, whole);
  say("-- ", name, ": ", workers, " tasks, ", workers, " workers on all processors: ", ms(many.took), " ms");
  draw(many, whole);
  char ratio[16];
  std::snprintf(ratio, sizeof ratio, "%.1f", static_cast<double>(few.took.count()) / static_cast<double>(many.took.count()));
  say(name, ": all processors are ", ratio, " times as fast");
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "concurrent_parallel");

  auto const processors = polyproc::usable_cpus();
  auto const workers = std::clamp<std::size_t>(processors, 2, 8);
  say("this program may use ", processors, processors == 1 ? " processor: nothing can be parallel" : " processors");
  auto const w = measured();
  compare<polyproc::process_pool, polyproc::process_pool_options>("process_pool", workers, w);
  compare<polyproc::thread_pool, polyproc::thread_pool_options>("thread_pool", workers, w);
}
