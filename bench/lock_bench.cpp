// A lock that several processes want: all at once, the one who sleeps for it, and the one who waits for a dead holder.
// "pinned": the processes on the usable processors in turn (two on two of them); "free": where the scheduler puts them.

#include "limit/futex_lock.hpp"
#include "peers/boost_mutex.hpp"
#include "peers/pthread_mutex.hpp"
#include "support/on_processor.hpp"

#include <polyproc/polyproc.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

namespace {

using clock_type = std::chrono::steady_clock;  // one clock for all processes
using namespace std::chrono_literals;

template <class Waiting>
struct our_mutex {
  polyproc::basic_mutex<polyproc::on_owner_death::throws, Waiting> mutex;
  void lock() { mutex.lock(); }
  void unlock() { mutex.unlock(); }
  bool lock_after_death() {
    try {
      mutex.lock();
    } catch (polyproc::owner_died const&) {
      return true;
    }
    return false;
  }
  using polyproc_shareable = void;
};
using ours = our_mutex<polyproc::waiting::adaptive>;
using ours_block = our_mutex<polyproc::waiting::block>;
using ours_spin = our_mutex<polyproc::waiting::spin>;

template <class Ready>
void yield_until(Ready&& ready) {
  while (!ready()) ::sched_yield();
}

double median(std::vector<double>& of) {
  auto const middle = of.begin() + static_cast<std::ptrdiff_t>(of.size() / 2);
  std::nth_element(of.begin(), middle, of.end());
  return *middle;
}

double since(clock_type::time_point from, clock_type::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// Of those that were waited for.
double processor_time_of_children() {
  rusage u{};
  ::getrusage(RUSAGE_CHILDREN, &u);
  auto const seconds = [](timeval t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(u.ru_utime) + seconds(u.ru_stime);
}

// --- Everybody wants it.

constexpr int most_processes = 8;

template <class Lock>
struct contest {
  alignas(64) Lock lock;
  std::uint64_t counter = 0;  // in the lock's cache line, for everybody
  alignas(64) std::atomic<int> here{0};
  std::atomic<bool> go{false};
  alignas(64) std::atomic<bool> stop{false};
  struct alignas(64) {
    std::uint64_t rounds = 0;
  } each[most_processes];
  using polyproc_shareable = void;
};

template <class Lock>
void compete(contest<Lock>& c, int me) {
  c.here.fetch_add(1);
  yield_until([&] { return c.go.load(); });
  std::uint64_t rounds = 0;
  for (; !c.stop.load(std::memory_order_relaxed); ++rounds) {
    c.lock.lock();
    ++c.counter;
    c.lock.unlock();
  }
  c.each[me].rounds = rounds;
}

/// One iteration is a contest of 0.3 s.
template <class Lock>
void contended(benchmark::State& state, int processes, bool pinned) {
  std::int64_t total = 0;
  for (auto _ : state) {
    polyproc::shared<contest<Lock>> c;
    std::vector<polyproc::process> all;
    for (int i = 0; i < processes; ++i) {
      on_processor const place{pinned, i};
      all.push_back(polyproc::launch(polyproc::start::fork, [&c, i] { compete(*c, i); }));
    }
    yield_until([&] { return c->here.load() == processes; });
    auto const used = processor_time_of_children();
    auto const from = clock_type::now();
    c->go = true;
    std::this_thread::sleep_for(300ms);
    c->stop = true;
    auto const seconds = since(from, clock_type::now());
    for (auto& p : all) p.join();
    state.SetIterationTime(seconds);
    // On a busy machine they seldom run at the same time, and then nobody measures contention.
    state.counters["processors"] = (processor_time_of_children() - used) / seconds;
    std::vector<double> each;
    for (int i = 0; i < processes; ++i) each.push_back(static_cast<double>(c->each[i].rounds));
    auto const [least, most] = std::minmax_element(each.begin(), each.end());
    state.counters["fairness"] = *least / std::max(*most, 1.0);
    auto const sum = std::accumulate(each.begin(), each.end(), 0.0);
    if (sum != static_cast<double>(c->counter)) state.SkipWithError("two had the lock at once");
    total += static_cast<std::int64_t>(sum);
  }
  state.SetItemsProcessed(total);
}

// --- One sleeps for it.

/// Whether a process sleeps in the kernel.
class sleep_watch {
 public:
  explicit sleep_watch(polyproc::process const& p)
      : stat_(::open(("/proc/" + std::to_string(*p.pid()) + "/stat").c_str(), O_RDONLY | O_CLOEXEC)) {}
  sleep_watch(sleep_watch const&) = delete;
  sleep_watch& operator=(sleep_watch const&) = delete;
  ~sleep_watch() { ::close(stat_); }

  /// Until it does, and its processor has found something else to do.
  void await() const {
    char text[256];
    for (auto const give_up = clock_type::now() + 1s; clock_type::now() < give_up;) {
      auto const got = ::pread(stat_, text, sizeof text - 1, 0);
      if (got <= 0) return;
      text[got] = '\0';
      auto const* const name_end = std::strrchr(text, ')');
      if (name_end != nullptr && name_end[1] == ' ' && name_end[2] == 'S') break;
    }
    for (auto const until = clock_type::now() + 50us; clock_type::now() < until;) {
    }
  }

 private:
  int stat_;
};

template <class Lock>
struct stage {
  alignas(64) Lock lock;
  alignas(64) std::atomic<int> round{0};
  alignas(64) std::atomic<int> at_the_door{0};
  alignas(64) std::atomic<int> done{0};
  clock_type::time_point in;
  int cpu = -1;
  bool told = false;
  using polyproc_shareable = void;
};

/// One iteration is the median of many times from unlock to the waiter's next instruction. `processors`: 0 leaves both
/// free; then the figure hangs on where the scheduler puts them, for to wake an idle processor takes several times as
/// long as to switch on the same one. So the share of the latter is shown.
template <class Lock>
void hand_over(benchmark::State& state, int processors) {
  constexpr int rounds = 400;
  bool const pinned = processors > 0;
  for (auto _ : state) {
    polyproc::shared<stage<Lock>> s;
    auto waiter = [&] {
      on_processor const place{pinned, processors - 1};
      return polyproc::launch(polyproc::start::fork, [&s] {
        for (int round = 1; round <= rounds; ++round) {
          yield_until([&] { return s->round.load() == round; });
          s->at_the_door = round;
          s->lock.lock();
          s->in = clock_type::now();
          s->cpu = ::sched_getcpu();
          s->lock.unlock();
          s->done = round;
        }
      });
    }();
    on_processor const place{pinned, 0};
    sleep_watch const watch{waiter};
    std::vector<double> times;
    int same = 0;
    for (int round = 1; round <= rounds; ++round) {
      s->lock.lock();
      s->round = round;
      yield_until([&] { return s->at_the_door.load() == round; });
      watch.await();
      auto const cpu = ::sched_getcpu();
      auto const from = clock_type::now();
      s->lock.unlock();
      yield_until([&] { return s->done.load() == round; });
      times.push_back(since(from, s->in));
      same += s->cpu == cpu ? 1 : 0;
    }
    waiter.join();
    state.SetIterationTime(median(times));
    state.counters["on_one_processor"] = static_cast<double>(same) / rounds;
  }
}

// --- The holder is killed.

/// One iteration is the median of many deaths, each at another moment of the waiter's sleep.
template <class Lock>
void recovery(benchmark::State& state) {
  constexpr int deaths = 25;
  for (auto _ : state) {
    std::vector<double> times;
    for (int i = 0; i < deaths; ++i) {
      polyproc::shared<stage<Lock>> s;
      auto holder = polyproc::launch(polyproc::start::fork, [&s] {
        s->lock.lock();
        s->round = 1;
        for (;;) ::pause();
      });
      yield_until([&] { return s->round.load() == 1; });
      auto waiter = polyproc::launch(polyproc::start::fork, [&s] {
        s->at_the_door = 1;
        s->told = s->lock.lock_after_death();
        s->in = clock_type::now();
      });
      yield_until([&] { return s->at_the_door.load() == 1; });
      sleep_watch{waiter}.await();
      std::this_thread::sleep_for(i * 11ms / deaths);
      auto const from = clock_type::now();
      holder.kill();
      waiter.join();
      holder.join();
      if (!s->told) state.SkipWithError("the waiter was not told of the death");
      times.push_back(since(from, s->in));
    }
    state.SetIterationTime(median(times));
    state.counters["worst_ms"] = *std::max_element(times.begin(), times.end()) * 1e3;
  }
}

// --- The list.

void once(std::string const& name, auto measure) {
  benchmark::RegisterBenchmark(name.c_str(), measure)->UseManualTime()->Iterations(1);
}

template <class Lock>
void contests(std::string const& contender) {
  for (int const processes : {2, 4, 8})
    for (bool const pinned : {true, false})
      once("lock_" + std::to_string(processes) + "_processes_" + (pinned ? "pinned/" : "free/") + contender,
           [=](benchmark::State& state) { contended<Lock>(state, processes, pinned); });
}
template <class Lock>
void hand_overs(std::string const& contender) {
  char const* const where[] = {"free/", "one_processor/", "pinned/"};
  for (int processors = 0; processors <= 2; ++processors)
    once(std::string("lock_hand_over_") + where[processors] + contender,
         [=](benchmark::State& state) { hand_over<Lock>(state, processors); });
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  contests<ours>("polyproc");
  contests<ours_block>("polyproc_block");
  contests<ours_spin>("polyproc_spin");
  contests<pthread_mutex_peer<false>>("pthread_shared");
  contests<pthread_mutex_peer<true>>("pthread_robust");
  hand_overs<futex_lock>("limit_futex_wake");
  hand_overs<ours>("polyproc");
  hand_overs<ours_block>("polyproc_block");
  hand_overs<pthread_mutex_peer<false>>("pthread_shared");
  hand_overs<pthread_mutex_peer<true>>("pthread_robust");
#if defined(BENCH_HAS_BOOST_MUTEX)
  contests<boost_mutex_peer>("boost");
  hand_overs<boost_mutex_peer>("boost");
#endif
  once("lock_recovery/polyproc", [](benchmark::State& state) { recovery<ours>(state); });
  once("lock_recovery/pthread_robust", [](benchmark::State& state) { recovery<pthread_mutex_peer<true>>(state); });
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
