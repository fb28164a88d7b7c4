// An empty task: one at a time, and many at once; in pools of processes and of threads. std::async is the peer that everybody
// has; it starts a thread a task. The other peers take part where they are found (see CMakeLists.txt).

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

#include <future>

namespace {

int same(int x) { return x; }
constexpr int many = 10000;

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
