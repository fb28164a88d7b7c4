// Eight bytes from one process to another, and there and back. The partner is a forked child for everybody, so that each
// contender works on the same kind of memory; the names are GROUP/contender, and tools/bench prints each group with the
// ratios to its limit.

#include "limit/spsc_ring.hpp"
#include "peers/boost_mq.hpp"
#include "peers/pipe.hpp"
#include "peers/posix_mq.hpp"

#include <polyproc/polyproc.hpp>

#include <benchmark/benchmark.h>

namespace {

constexpr std::uint64_t batch = 100000;

struct limit_ring {
  polyproc::shared<spsc_ring> ring;
  void put(std::uint64_t value) const {
    while (!ring->try_put(value)) {
    }
  }
  std::uint64_t get() const {
    std::uint64_t value = 0;
    while (!ring->try_get(value)) {
    }
    return value;
  }
};

struct ours {
  polyproc::queue<std::uint64_t> queue{1024};
  void put(std::uint64_t value) const { queue.put(value); }
  std::uint64_t get() const { return queue.get(); }
};

/// The child puts as fast as it can; the time of `batch` gets.
template <class Channel>
void one_way(benchmark::State& state) {
  Channel channel;
  polyproc::process child{polyproc::start::fork, [&] {
                            for (std::uint64_t i = 0;; ++i) channel.put(i);
                          }};
  child.start();
  for (auto _ : state) {
    for (std::uint64_t i = 0; i < batch; ++i) benchmark::DoNotOptimize(channel.get());
  }
  child.kill();
  child.join();
  state.SetItemsProcessed(static_cast<std::int64_t>(batch) * state.iterations());
}

/// The child answers each message.
template <class Channel>
void there_and_back(benchmark::State& state) {
  Channel there;
  Channel back;
  polyproc::process child{polyproc::start::fork, [&] {
                            for (;;) back.put(there.get());
                          }};
  child.start();
  for (auto _ : state) {
    there.put(1);
    benchmark::DoNotOptimize(back.get());
  }
  child.kill();
  child.join();
}

}  // namespace

BENCHMARK(one_way<limit_ring>)->Name("queue_1x1_8B/limit")->UseRealTime();
BENCHMARK(one_way<ours>)->Name("queue_1x1_8B/polyproc")->UseRealTime();
BENCHMARK(one_way<pipe_peer>)->Name("queue_1x1_8B/pipe")->UseRealTime();
BENCHMARK(one_way<posix_mq_peer>)->Name("queue_1x1_8B/posix_mq")->UseRealTime();
#if defined(BENCH_HAS_BOOST_MQ)
BENCHMARK(one_way<boost_mq_peer>)->Name("queue_1x1_8B/boost_mq")->UseRealTime();
#endif
BENCHMARK(there_and_back<limit_ring>)->Name("queue_ping_pong_8B/limit")->UseRealTime();
BENCHMARK(there_and_back<ours>)->Name("queue_ping_pong_8B/polyproc")->UseRealTime();
BENCHMARK(there_and_back<pipe_peer>)->Name("queue_ping_pong_8B/pipe")->UseRealTime();
BENCHMARK(there_and_back<posix_mq_peer>)->Name("queue_ping_pong_8B/posix_mq")->UseRealTime();

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
