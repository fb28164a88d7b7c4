// An empty task: one at a time, and many at once. std::async is the peer that everybody has; it starts a thread a task.

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
  benchmark::RunSpecifiedBenchmarks();
}
