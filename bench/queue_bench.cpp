// What goes from process to process: small messages in every shape, large ones by value and in place, questions and answers.
// The partners are forked children for everybody, so that each contender works on the same kind of memory; the names are
// GROUP/contender, and tools/bench prints each group with the ratios to its limit. "pinned": producer and consumer on a
// processor each; "one_core": both on the same; otherwise where the scheduler puts them.

#include "limit/futex_pair.hpp"
#include "limit/futex_waker.hpp"
#include "limit/spsc_ring.hpp"
#include "limit/two_copies.hpp"
#include "limit/vyukov_ring.hpp"
#include "peers/boost_mq.hpp"
#include "peers/pipe.hpp"
#include "peers/posix_mq.hpp"
#include "peers/python_queue.hpp"
#include "peers/seqpacket.hpp"
#include "support/on_processor.hpp"

#include <polyproc/polyproc.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <sys/resource.h>

namespace {

using clock_type = std::chrono::steady_clock;  // one clock for all processes
using namespace std::chrono_literals;

enum class where { free, pinned, one_core };
bool fixed(where w) { return w != where::free; }
int partner_of(where w) { return w == where::pinned ? 1 : 0; }

/// A child that runs until it is killed, on the processor where it belongs.
template <class Work>
polyproc::process partner(where w, int index, Work work) {
  on_processor const here(fixed(w), index);
  polyproc::process child{polyproc::start::fork, std::move(work)};
  child.start();
  return child;
}

// --- Eight bytes.

/// Spins a little, then lets others run: with more processes than processors nothing else would go on.
template <class Ring>
struct limit_of {
  polyproc::shared<Ring> ring;
  template <class Try>
  static void until(Try&& attempt) {
    for (int i = 0; !attempt(); ++i)
      if (i >= 100) ::sched_yield();
  }
  void put(std::uint64_t value) const {
    until([&] { return ring->try_put(value); });
  }
  std::uint64_t get() const {
    std::uint64_t value = 0;
    until([&] { return ring->try_get(value); });
    return value;
  }
  void put_many(std::vector<std::uint64_t> const& values) const {
    for (std::size_t done = 0; done < values.size();)
      until([&] { return (done += ring->try_put_many(values.data() + done, values.size() - done)) == values.size(); });
  }
  std::uint64_t get_many(std::size_t most) const {
    std::uint64_t values[64];
    std::uint64_t got = 0;
    until([&] { return (got = ring->try_get_many(values, std::min<std::size_t>(most, 64))) != 0; });
    benchmark::DoNotOptimize(values);
    return got;
  }
};
using limit_ring = limit_of<spsc_ring>;
using limit_slots = limit_of<vyukov_ring>;

struct ours {
  polyproc::queue<std::uint64_t> queue{1024};
  void put(std::uint64_t value) const { queue.put(value); }
  std::uint64_t get() const { return queue.get(); }
  void put_many(std::vector<std::uint64_t> const& values) const { queue.put_many(values); }
  std::uint64_t get_many(std::size_t most) const { return queue.get_many(most).size(); }
};

constexpr std::uint64_t batch = 20000;

/// The child puts as fast as it can; the time of `batch` gets.
template <class Channel, where Where>
void one_direction(benchmark::State& state) {
  Channel channel;
  auto child = partner(Where, partner_of(Where), [&] {
    for (std::uint64_t i = 0;; ++i) channel.put(i);
  });
  on_processor const here(fixed(Where), 0);
  for (auto _ : state)
    for (std::uint64_t i = 0; i < batch; ++i) benchmark::DoNotOptimize(channel.get());
  child.kill();
  child.join();
  state.SetItemsProcessed(static_cast<std::int64_t>(batch) * state.iterations());
}

template <class Channel, where Where>
void one_way_batches(benchmark::State& state) {
  Channel channel;
  auto child = partner(Where, partner_of(Where), [&] {
    std::vector<std::uint64_t> const sixteen(16, 7);
    for (;;) channel.put_many(sixteen);
  });
  on_processor const here(fixed(Where), 0);
  std::uint64_t got = 0;
  for (auto _ : state)
    for (std::uint64_t i = 0; i < batch;) {
      auto const n = channel.get_many(16);
      i += n;
      got += n;
    }
  child.kill();
  child.join();
  state.SetItemsProcessed(static_cast<std::int64_t>(got));
}

struct counters {
  struct alignas(64) {
    std::atomic<std::uint64_t> got{0};
  } each[16];
  using polyproc_shareable = void;
};

/// This process is one of the consumers; what the others have got meanwhile counts, too.
template <class Channel, int Producers, int Consumers>
void crowd(benchmark::State& state) {
  Channel channel;
  polyproc::shared<counters> count;
  std::deque<polyproc::process> children;
  for (int p = 0; p < Producers; ++p)
    children.push_back(partner(where::free, 0, [&] {
      for (std::uint64_t i = 0;; ++i) channel.put(i);
    }));
  for (int c = 1; c < Consumers; ++c)
    children.push_back(partner(where::free, 0, [&, c] {
      for (auto& mine = count->each[c].got;; mine.store(mine.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed))
        benchmark::DoNotOptimize(channel.get());
    }));
  auto const others = [&] {
    std::uint64_t all = 0;
    for (auto const& one : count->each) all += one.got.load(std::memory_order_relaxed);
    return all;
  };
  (void)channel.get();
  auto const before = others();
  std::uint64_t got = 0;
  for (auto _ : state)
    for (std::uint64_t i = 0; i < 1000; ++i, ++got) benchmark::DoNotOptimize(channel.get());
  got += others() - before;
  for (auto& child : children) child.kill();
  for (auto& child : children) child.join();
  state.SetItemsProcessed(static_cast<std::int64_t>(got));
}

/// Python says how long it took.
template <double (*Nanoseconds)()>
void by_python(benchmark::State& state) {
  for (auto _ : state) {
    auto const nanoseconds = Nanoseconds();
    if (nanoseconds == 0) {
      state.SkipWithError("python3 does not measure");
      return;
    }
    state.SetIterationTime(nanoseconds / 1e9);
  }
}

// --- Larger ones.

template <std::size_t Bytes>
struct limit_copies {
  polyproc::shared<two_copies<Bytes>> room;
  std::vector<std::byte> mine = std::vector<std::byte>(Bytes, std::byte{1});
  void put() { room->put(mine.data()); }
  void get() { room->get(mine.data()); }
};
template <std::size_t Bytes>
struct ours_by_value {
  polyproc::queue<std::vector<std::byte>> queue{8};
  std::vector<std::byte> mine = std::vector<std::byte>(Bytes, std::byte{1});
  void put() { queue.put(mine); }
  void get() { mine = queue.get(); }
};
/// Written where it will be read; the first bytes of each are looked at.
template <std::size_t Bytes>
struct ours_in_place {
  polyproc::queue<std::vector<std::byte>> queue{8};
  void put() {
    auto room = queue.reserve(Bytes);
    room.data()[0] = std::byte{1};
    std::move(room).commit();
  }
  void get() {
    auto const seen = queue.view();
    benchmark::DoNotOptimize(seen.data()[0]);
  }
};
template <class Peer, std::size_t Bytes>
struct bytes_through {
  Peer peer;
  std::vector<std::byte> mine = std::vector<std::byte>(Bytes, std::byte{1});
  void put() { peer.put_bytes(mine.data(), Bytes); }
  void get() { peer.get_bytes(mine.data(), Bytes); }
};

/// Eight of them may be under way, but in a pipe or socket: there it is 1024, or what the system buffers.
template <class Channel>
void large(benchmark::State& state) {
  Channel channel;
  auto child = partner(where::free, 0, [&] {
    for (;;) channel.put();
  });
  constexpr int some = 64;
  for (auto _ : state)
    for (int i = 0; i < some; ++i) channel.get();
  child.kill();
  child.join();
  state.SetItemsProcessed(some * state.iterations());
}

/// A pipe's ends belong to one process each.
template <std::size_t Bytes>
void large_pipe(benchmark::State& state) {
  auto [from, to] = polyproc::pipe<std::vector<std::byte>>(polyproc::one_way);
  polyproc::process child{polyproc::start::fork,
                          [](polyproc::pipe_writer<std::vector<std::byte>> out) {
                            std::vector<std::byte> const mine(Bytes, std::byte{1});
                            for (;;) out.send(mine);
                          },
                          std::move(to)};
  child.start();
  constexpr int some = 64;
  for (auto _ : state)
    for (int i = 0; i < some; ++i) benchmark::DoNotOptimize(from.recv());
  child.kill();
  child.join();
  state.SetItemsProcessed(some * state.iterations());
}

// --- Questions and answers.

/// The child answers each message.
template <class Channel, where Where>
void there_and_back(benchmark::State& state) {
  Channel there;
  Channel back;
  auto child = partner(Where, partner_of(Where), [&] {
    for (;;) back.put(there.get());
  });
  on_processor const here(fixed(Where), 0);
  for (auto _ : state) {
    there.put(1);
    benchmark::DoNotOptimize(back.get());
  }
  child.kill();
  child.join();
}
void there_and_back_futex(benchmark::State& state) {
  polyproc::shared<futex_pair> words;
  auto child = partner(where::one_core, 0, [&] {
    for (std::uint32_t i = 1;; ++i) {
      words->there.await(i);
      words->back.next();
    }
  });
  on_processor const here(true, 0);
  std::uint32_t i = 0;
  for (auto _ : state) {
    words->there.next();
    words->back.await(++i);
  }
  child.kill();
  child.join();
}

/// Of the children that were waited for.
double processor_time() {
  rusage u{};
  ::getrusage(RUSAGE_CHILDREN, &u);
  auto const seconds = [](timeval t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(u.ru_utime) + seconds(u.ru_stime);
}

/// How long it takes until one who has waited for long has the message; and what a second of waiting costs, in milliseconds
/// of a processor.
void wake_up(benchmark::State& state) {
  polyproc::queue<std::uint64_t> queue;
  polyproc::queue<clock_type::time_point> awake;
  auto child = partner(where::free, 0, [&] {
    while (queue.get() != 0) awake.put(clock_type::now());
  });
  for (auto _ : state) {
    std::this_thread::sleep_for(20ms);
    auto const from = clock_type::now();
    queue.put(1);
    state.SetIterationTime(std::chrono::duration<double>(awake.get() - from).count());
  }
  queue.put(0);
  child.join();
  auto idle = partner(where::free, 0, [&] { (void)queue.get(); });
  auto const before = processor_time();
  std::this_thread::sleep_for(1s);
  idle.kill();
  idle.join();
  state.counters["idle_ms_per_s"] = (processor_time() - before) * 1e3;
}
void wake_up_futex(benchmark::State& state) {
  futex_waker waker;
  for (auto _ : state) {
    std::this_thread::sleep_for(20ms);
    auto const from = clock_type::now();
    state.SetIterationTime(std::chrono::duration<double>(waker.wake_up() - from).count());
  }
}

// --- As it is used: five producers with a thousand items each, five consumers, from the first start to the last join.

void five_by_five(benchmark::State& state) {
  for (auto _ : state) {
    polyproc::queue<std::optional<int>> queue;
    auto const begun = clock_type::now();
    std::deque<polyproc::process> producers;
    std::deque<polyproc::process> consumers;
    for (int i = 0; i < 5; ++i) {
      producers.emplace_back(polyproc::start::fork, [&] {
        for (int n = 0; n < 1000; ++n) queue.put(n);
      });
      consumers.emplace_back(polyproc::start::fork, [&] {
        while (queue.get()) {
        }
      });
    }
    for (auto& p : producers) p.start();
    for (auto& p : consumers) p.start();
    for (auto& p : producers) p.join();
    for (int i = 0; i < 5; ++i) queue.put(std::nullopt);
    for (auto& p : consumers) p.join();
    state.SetIterationTime(std::chrono::duration<double>(clock_type::now() - begun).count());
  }
}

void add(std::string const& name, void (*bench)(benchmark::State&)) {
  benchmark::RegisterBenchmark(name.c_str(), bench)->UseRealTime();
}
/// It says itself how long it took; that many times.
void add_timed(std::string const& name, void (*bench)(benchmark::State&), int times) {
  benchmark::RegisterBenchmark(name.c_str(), bench)->UseManualTime()->Iterations(times);
}

template <where Where>
void add_small(std::string const& suffix) {
  auto const group = "queue_1x1_8B" + suffix;
  add(group + "/limit", one_direction<limit_ring, Where>);
  add(group + "/polyproc", one_direction<ours, Where>);
  add(group + "/pipe", one_direction<pipe_peer, Where>);
  add(group + "/seqpacket", one_direction<seqpacket_peer, Where>);
  add(group + "/posix_mq", one_direction<posix_mq_peer, Where>);
#if defined(BENCH_HAS_BOOST_MQ)
  add(group + "/boost_mq", one_direction<boost_mq_peer, Where>);
#endif
  if (Where == where::free) add_timed(group + "/python", by_python<python_queue_peer::one_way>, 1);
  auto const batches = "queue_1x1_8B_batches_of_16" + suffix;
  add(batches + "/limit", one_way_batches<limit_ring, Where>);
  add(batches + "/polyproc", one_way_batches<ours, Where>);
}
template <int Producers, int Consumers>
void add_crowd() {
  auto const group = "queue_" + std::to_string(Producers) + "x" + std::to_string(Consumers) + "_8B";
  add(group + "/limit", crowd<limit_slots, Producers, Consumers>);
  add(group + "/polyproc", crowd<ours, Producers, Consumers>);
  add(group + "/pipe", crowd<pipe_peer, Producers, Consumers>);
  add(group + "/posix_mq", crowd<posix_mq_peer, Producers, Consumers>);
#if defined(BENCH_HAS_BOOST_MQ)
  add(group + "/boost_mq", crowd<boost_mq_peer, Producers, Consumers>);
#endif
}
template <std::size_t Bytes>
void add_large(std::string const& size) {
  auto const group = "queue_1x1_" + size;
  add(group + "/limit", large<limit_copies<Bytes>>);
  add(group + "/polyproc", large<ours_by_value<Bytes>>);
  add(group + "/polyproc_pipe", large_pipe<Bytes>);
  // (The socket takes no message of a megabyte.)
  if constexpr (Bytes <= 65536) add(group + "/seqpacket", large<bytes_through<seqpacket_peer, Bytes>>);
#if defined(BENCH_HAS_BOOST_MQ)
  add(group + "/boost_mq", large<bytes_through<boost_mq_of<Bytes, 8>, Bytes>>);
#endif
}
template <where Where>
void add_answers(std::string const& suffix) {
  auto const group = "queue_ping_pong_8B" + suffix;
  if (Where == where::one_core)
    add(group + "/limit", there_and_back_futex);
  else
    add(group + "/limit", there_and_back<limit_ring, Where>);
  add(group + "/polyproc", there_and_back<ours, Where>);
  add(group + "/pipe", there_and_back<pipe_peer, Where>);
  add(group + "/posix_mq", there_and_back<posix_mq_peer, Where>);
#if defined(BENCH_HAS_BOOST_MQ)
  add(group + "/boost_mq", there_and_back<boost_mq_peer, Where>);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  add_small<where::free>("");
  add_small<where::pinned>("_pinned");
  add_crowd<4, 1>();
  add_crowd<4, 4>();
  add_large<1024>("1KiB");
  add_large<65536>("64KiB");
  add_large<1048576>("1MiB");
  add("queue_in_place/polyproc_1KiB", large<ours_in_place<1024>>);
  add("queue_in_place/polyproc_64KiB", large<ours_in_place<65536>>);
  add("queue_in_place/polyproc_1MiB", large<ours_in_place<1048576>>);
  add_answers<where::free>("");
  add_answers<where::pinned>("_pinned");
  add_answers<where::one_core>("_one_core");
  add_timed("queue_wake_up/limit", wake_up_futex, 20);
  add_timed("queue_wake_up/polyproc", wake_up, 20);
  add_timed("queue_5x1000x5/polyproc", five_by_five, 3);
  add_timed("queue_5x1000x5/python", by_python<python_queue_peer::five_by_five>, 1);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
