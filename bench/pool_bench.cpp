// An empty task: one at a time, and many at once; in pools of processes and of threads. std::async is the peer that everybody
// has; it starts a thread a task. The other peers take part where they are found (see CMakeLists.txt).

#include "limit/bare_pool.hpp"
#include "peers/python_pools.hpp"
#include "peers/std_async.hpp"
#if defined(BENCH_HAS_TBB)
#include "peers/tbb_enqueue.hpp"
#endif
#if __has_include(<BS_thread_pool.hpp>)
#include "peers/bs_thread_pool.hpp"
#define BENCH_HAS_BS
#endif
#if __has_include(<taskflow/taskflow.hpp>)
#include "peers/taskflow.hpp"
#define BENCH_HAS_TASKFLOW
#endif

#include <polyproc/polyproc.hpp>

#include <benchmark/benchmark.h>

#include <cstring>
#include <future>

#include <sys/resource.h>

namespace {

int same(int x) { return x; }
constexpr int many = 100000;

void ours_apply(benchmark::State& state) {
  polyproc::process_pool pool(2);
  for (auto _ : state) benchmark::DoNotOptimize(pool.apply(same, 1));
}
void async_apply(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(std::async(std::launch::async, same, 1).get());
}
void ours_submit(benchmark::State& state) {
  polyproc::process_pool pool(2);
  std::vector<polyproc::future<int>> all(many);
  for (auto _ : state) {
    for (auto& f : all) f = pool.submit(same, 1);
    for (auto& f : all) benchmark::DoNotOptimize(f.get());
  }
  state.SetItemsProcessed(std::int64_t{many} * state.iterations());
}
void ours_map(benchmark::State& state) {
  polyproc::process_pool pool(2);
  std::vector<int> const in(1000000, 1);
  for (auto _ : state) benchmark::DoNotOptimize(pool.map(same, in));
  state.SetItemsProcessed(std::int64_t{1000000} * state.iterations());
}
// --- What is left on the table: bare processes and bare memory.

void bare_apply(benchmark::State& state) {
  bare_pool pool(2);
  for (auto _ : state) benchmark::DoNotOptimize(pool.get(pool.submit(same, 1)));
}
void bare_submit(benchmark::State& state) {
  bare_pool pool(2);
  for (auto _ : state) {
    std::uint64_t submitted = 0, collected = 0, first = 0;
    while (collected < many) {
      while (submitted < many && submitted - collected < bare_pool::size) {
        auto const number = pool.submit(same, 1);
        if (submitted++ == 0) first = number;
      }
      do benchmark::DoNotOptimize(pool.get(first + collected++));
      while (collected < submitted && pool.ready(first + collected));
    }
  }
  state.SetItemsProcessed(std::int64_t{many} * state.iterations());
}
void bare_map(benchmark::State& state) {
  std::vector<int> const in(1000000, 1);
  for (auto _ : state) {
    auto out = in;
    benchmark::DoNotOptimize(out.data());
  }
  state.SetItemsProcessed(std::int64_t{1000000} * state.iterations());
}

// --- 64 MiB to a worker that reads all of it, and back.

constexpr std::size_t much = std::size_t{64} << 20;
using bytes = std::vector<std::uint8_t>;

std::uint64_t read_all(std::uint8_t const* from) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < much; ++i) sum += from[i];
  return sum;
}
bytes there_and_back(bytes all) {
  all[0] = static_cast<std::uint8_t>(read_all(all.data()));
  return all;
}
std::uint64_t in_place(polyproc::shared_array<std::uint8_t> all) { return read_all(all.data()); }

void ours_by_value(benchmark::State& state) {
  polyproc::process_pool pool(1);
  bytes const in(much, 1);
  for (auto _ : state) benchmark::DoNotOptimize(pool.apply(there_and_back, in).data());
}
void ours_shared(benchmark::State& state) {
  polyproc::process_pool pool(1);
  polyproc::shared_array<std::uint8_t> const all(much);
  std::memset(all.data(), 1, much);
  for (auto _ : state) benchmark::DoNotOptimize(pool.apply(in_place, all));
}
/// Of a worker made by fork, which is told by a word and sleeps with sched_yield.
void with_bare_worker(benchmark::State& state, bool copied) {
  struct common {
    std::atomic<int> turn{0};
    alignas(64) std::uint8_t room[much];
  };
  auto* const memory = ::mmap(nullptr, sizeof(common), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto& shared = *new (memory) common;
  auto const worker = ::fork();
  if (worker == 0) {
    for (;;) {
      while (shared.turn.load() != 1) ::sched_yield();
      if (copied) {
        bytes mine(shared.room, shared.room + much);
        mine[0] = static_cast<std::uint8_t>(read_all(mine.data()));
        std::memcpy(shared.room, mine.data(), much);
      } else {
        shared.room[0] = static_cast<std::uint8_t>(read_all(shared.room));
      }
      shared.turn.store(2);
    }
  }
  bytes const in(much, 1);
  std::memcpy(shared.room, in.data(), much);
  for (auto _ : state) {
    if (copied) std::memcpy(shared.room, in.data(), much);
    shared.turn.store(1);
    while (shared.turn.load() != 2) ::sched_yield();
    if (copied) {
      bytes const out(shared.room, shared.room + much);
      benchmark::DoNotOptimize(out.data());
    }
  }
  ::kill(worker, SIGKILL);
  int status = 0;
  (void)::waitpid(worker, &status, 0);
  ::munmap(memory, sizeof(common));
}

// --- Work that takes a processor each: two workers against two forked processes that do half of it each.

int busy(int rounds) {
  unsigned x = 1;
  for (int i = 0; i < rounds * 1000; ++i) x = x * 1664525U + 1013904223U;
  return static_cast<int>(x >> 8);
}
constexpr int pieces = 64;
constexpr int rounds = 2000;

void ours_busy(benchmark::State& state) {
  polyproc::process_pool pool(2);
  std::vector<int> const in(pieces, rounds);
  for (auto _ : state) benchmark::DoNotOptimize(pool.map(busy, in, {.chunk = 1}));
}
void bare_busy(benchmark::State& state) {
  for (auto _ : state) {
    auto const half = [] {
      for (int i = 0; i < pieces / 2; ++i) benchmark::DoNotOptimize(busy(rounds));
    };
    auto const child = ::fork();
    if (child == 0) {
      half();
      ::_exit(0);
    }
    half();
    int status = 0;
    (void)::waitpid(child, &status, 0);
  }
}

/// What an idle pool of four costs: seconds of processor time for each second, its own process and its workers together.
void idle(benchmark::State& state) {
  auto const used = [](long pid) {
    for (auto const& row : polyproc::process_tree(pid))
      if (row.pid == pid && row.cpu_time) return std::chrono::duration<double>(*row.cpu_time).count();
    return 0.0;
  };
  for (auto _ : state) {
    polyproc::process_pool pool(4);
    (void)pool.apply(same, 1);
    std::this_thread::sleep_for(std::chrono::milliseconds{500});
    auto const all = [&] {
      double sum = 0;
      for (auto const pid : pool.worker_pids()) sum += used(pid);
      rusage own{};
      ::getrusage(RUSAGE_SELF, &own);
      auto const seconds = [](timeval t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
      return sum + seconds(own.ru_utime) + seconds(own.ru_stime);
    };
    auto const before = all();
    auto const looked = all() - before;  // what looking costs itself
    std::this_thread::sleep_for(std::chrono::seconds{3});
    state.counters["processor_percent"] = 100 * std::max(0.0, all() - before - 2 * looked) / 3;
  }
}

void spawn_and_join(benchmark::State& state) {
  for (auto _ : state) {
    auto p = polyproc::launch([] {});
    p.join();
  }
}
void fork_and_join(benchmark::State& state) {
  for (auto _ : state) {
    polyproc::process p{polyproc::start::fork, [] {}};
    p.start();
    p.join();
  }
}

// --- Pools of two threads. What a task does is to count, or to give a number back.

class our_threads {
 public:
  explicit our_threads(std::size_t threads) : pool_(threads) {}
  template <class F>
  void post(F f) {
    pool_.post(std::move(f));
  }
  template <class F>
  auto submit(F f) {
    return pool_.submit(std::move(f));
  }

 private:
  polyproc::thread_pool pool_;
};

template <class Pool>
void threads_detached(benchmark::State& state) {
  std::atomic<int> done{0};
  {
    Pool pool(2);
    for (auto _ : state) {
      done.store(0);
      for (int i = 0; i < many; ++i) pool.post([&done] { done.fetch_add(1, std::memory_order_relaxed); });
      while (done.load() != many) std::this_thread::yield();
    }
  }
  state.SetItemsProcessed(std::int64_t{many} * state.iterations());
}
template <class Pool, int Tasks>
void threads_many(benchmark::State& state) {
  Pool pool(2);
  using future = decltype(pool.submit([] { return 1; }));
  std::vector<future> all;
  all.reserve(Tasks);
  for (auto _ : state) {
    for (int i = 0; i < Tasks; ++i) all.push_back(pool.submit([i] { return i; }));
    for (auto& f : all) benchmark::DoNotOptimize(f.get());
    all.clear();
  }
  state.SetItemsProcessed(std::int64_t{Tasks} * state.iterations());
}
template <class Pool>
void threads_one(benchmark::State& state) {
  Pool pool(2);
  for (auto _ : state) benchmark::DoNotOptimize(pool.submit([] { return 1; }).get());
}

/// Each task waits for two more: what pools without help for those who wait cannot do on two threads.
long fib(polyproc::thread_pool& pool, int n) {
  if (n < 2) return n;
  auto a = pool.submit([&pool, n] { return fib(pool, n - 1); });
  auto const b = fib(pool, n - 2);
  return a.get() + b;
}
void threads_nested(benchmark::State& state) {
  polyproc::thread_pool pool(2);
  for (auto _ : state) benchmark::DoNotOptimize(pool.apply([&pool] { return fib(pool, 18); }));
  state.SetItemsProcessed(4181 * state.iterations());
}
void threads_map(benchmark::State& state) {
  polyproc::thread_pool pool(2);
  std::vector<int> const in(1000000, 1);
  for (auto _ : state) benchmark::DoNotOptimize(pool.map(same, in));
  state.SetItemsProcessed(std::int64_t{1000000} * state.iterations());
}
void threads_imap(benchmark::State& state) {
  polyproc::thread_pool pool(2);
  std::vector<int> const in(many, 1);
  for (auto _ : state)
    for (auto const result : pool.imap(same, in, {.window = 256})) benchmark::DoNotOptimize(result);
  state.SetItemsProcessed(std::int64_t{many} * state.iterations());
}

template <class Pool>
void add_threads(std::string const& name) {
  if constexpr (requires(Pool& pool) { pool.post([] {}); })
    benchmark::RegisterBenchmark(("thread_detached/" + name).c_str(), threads_detached<Pool>)->UseRealTime();
  // A thread a task: not too many of them.
  constexpr int tasks = std::is_same_v<Pool, async_pool> ? 500 : many;
  benchmark::RegisterBenchmark(("thread_many_at_once/" + name).c_str(), threads_many<Pool, tasks>)->UseRealTime();
  benchmark::RegisterBenchmark(("thread_one_at_a_time/" + name).c_str(), threads_one<Pool>)->UseRealTime();
}

// --- Python measures itself.

void by_python(benchmark::State& state, double (*timed)(char const*), char const* made) {
  for (auto _ : state) {
    auto const nanoseconds = timed(made);
    if (nanoseconds == 0) {
      state.SkipWithError("python3 does not measure");
      return;
    }
    state.SetIterationTime(nanoseconds / 1e9);
  }
  state.SetItemsProcessed(state.iterations());
}
void add_python() {
  using python = python_pools_peer;
  if (!python::here()) return;
  auto const add = [](char const* name, double (*timed)(char const*), char const* made) {
    benchmark::RegisterBenchmark(name, by_python, timed, made)->UseManualTime()->Iterations(1)->Unit(benchmark::kNanosecond);
  };
  add("thread_one_at_a_time/python_executor", python::one_at_a_time, python::threads);
  add("thread_many_at_once/python_executor", python::many_at_once, python::threads);
  add("task_one_at_a_time/python_executor", python::one_at_a_time, python::processes);
  add("task_many_at_once/python_executor", python::many_at_once, python::processes);
  add("task_one_at_a_time/python_pool", python::one_at_a_time, python::pool);
  add("task_many_at_once/python_pool", python::many_at_once, python::pool);
  add("task_map_1M/python_executor", python::map, python::processes);
  add("task_map_1M/python_pool", python::map, python::pool);
}

}  // namespace

BENCHMARK(bare_apply)->Name("task_one_at_a_time/limit_bare_pool")->UseRealTime();
BENCHMARK(bare_submit)->Name("task_many_at_once/limit_bare_pool")->UseRealTime();
BENCHMARK(bare_map)->Name("task_map_1M/limit_copy")->UseRealTime();
BENCHMARK_CAPTURE(with_bare_worker, copied, true)->Name("task_64MiB_by_value/limit_one_copy_each_way")->UseRealTime();
BENCHMARK(ours_by_value)->Name("task_64MiB_by_value/polyproc_process_pool")->UseRealTime();
BENCHMARK_CAPTURE(with_bare_worker, in_place, false)->Name("task_64MiB_shared/limit_in_place")->UseRealTime();
BENCHMARK(ours_shared)->Name("task_64MiB_shared/polyproc_process_pool")->UseRealTime();
BENCHMARK(bare_busy)->Name("task_two_processors/limit_two_forks")->UseRealTime();
BENCHMARK(ours_busy)->Name("task_two_processors/polyproc_process_pool")->UseRealTime();
BENCHMARK(idle)->Name("task_idle_pool/polyproc_process_pool")->UseRealTime()->Iterations(1);
BENCHMARK(ours_apply)->Name("task_one_at_a_time/polyproc_process_pool")->UseRealTime();
BENCHMARK(async_apply)->Name("task_one_at_a_time/std_async")->UseRealTime();
BENCHMARK(ours_submit)->Name("task_many_at_once/polyproc_process_pool")->UseRealTime();
BENCHMARK(ours_map)->Name("task_map_1M/polyproc_process_pool")->UseRealTime();
BENCHMARK(spawn_and_join)->Name("process_start_join/polyproc_spawn")->UseRealTime();
BENCHMARK(fork_and_join)->Name("process_start_join/polyproc_fork")->UseRealTime();

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  benchmark::Initialize(&argc, argv);
  add_threads<our_threads>("polyproc_thread_pool");
#if defined(BENCH_HAS_TBB)
  add_threads<tbb_pool>("tbb_enqueue");
#endif
#if defined(BENCH_HAS_BS)
  add_threads<bs_pool>("bs_thread_pool");
#endif
#if defined(BENCH_HAS_TASKFLOW)
  add_threads<taskflow_pool>("taskflow");
#endif
  add_threads<async_pool>("std_async");
  benchmark::RegisterBenchmark("thread_nested/polyproc_thread_pool", threads_nested)->UseRealTime();
  benchmark::RegisterBenchmark("thread_map_1M/polyproc_thread_pool", threads_map)->UseRealTime();
  benchmark::RegisterBenchmark("thread_imap/polyproc_thread_pool", threads_imap)->UseRealTime();
  add_python();
  benchmark::RunSpecifiedBenchmarks();
}
