// The protocol of gate_parking.hpp over gates made of a mutex and a condition variable, which are looked at again
// after waking like pipes are: the weakest gates that the protocol allows.
#include "support/catch.hpp"

#include <polyproc/backend/gate_parking.hpp>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using polyproc::time_point;
using clock_type = time_point::clock;

/// One bucket, so that everything meets there. `stall` is called between any two steps of the protocol.
template <int Tag>
struct test_gates {
  static constexpr unsigned buckets = 1;
  static constexpr unsigned gates = 8;

  static inline std::mutex lock;
  static inline std::condition_variable changed;
  static inline std::array<bool, gates> is_open{};
  alignas(64) static inline std::array<std::byte, 64> memory{};
  static inline void (*stall)() = nullptr;
  static inline std::atomic<int> opened{0};
  static inline std::atomic<int> shut_count{0};
  static inline bool have_memory = true;
  static inline bool have_gates = true;
  static inline std::atomic<int> pauses{0};

  static std::byte* state() noexcept { return have_memory ? memory.data() : nullptr; }
  static std::uint64_t key(void const* word) noexcept { return polyproc::detail::parking_key(word, {}, 1); }
  static bool prepare(unsigned, unsigned) noexcept { return have_gates; }
  static void open(unsigned, unsigned n) noexcept {
    if (stall != nullptr) stall();
    ++opened;
    {
      std::scoped_lock hold{lock};
      is_open[n] = true;
    }
    changed.notify_all();
    if (stall != nullptr) stall();
  }
  static void shut(unsigned, unsigned n) noexcept {
    if (stall != nullptr) stall();
    ++shut_count;
    {
      std::scoped_lock hold{lock};
      is_open[n] = false;
    }
    if (stall != nullptr) stall();
  }
  static bool wait(unsigned, unsigned n, unsigned other, time_point deadline) noexcept {
    std::unique_lock hold{lock};
    return changed.wait_until(hold, deadline, [&] { return is_open[n] || is_open[other]; });
  }
  static void pause(time_point) noexcept {
    ++pauses;
    std::this_thread::sleep_for(1ms);
  }
};

void raise_word(std::atomic<std::uint32_t>& word, std::uint32_t to) { word.store(to, std::memory_order_release); }

/// `pairs` pairs of threads pass a number to and fro. How many waits ran into their limit. Where none is to, it is one that a
/// machine which stands still for a moment does not reach.
template <class Gates>
int ping_pong(unsigned pairs, std::uint32_t rounds, std::chrono::seconds most = 10s) {
  using parking = polyproc::detail::gate_parking<Gates>;
  struct words {
    std::atomic<std::uint32_t> there{0};
    std::atomic<std::uint32_t> back{0};
  };
  std::vector<words> all(pairs);
  std::atomic<int> missed{0};
  auto const until = [&missed, most](std::atomic<std::uint32_t>& word, std::uint32_t value) {
    for (;;) {
      auto const now = word.load(std::memory_order_acquire);
      if (now >= value) return;
      auto const limit = clock_type::now() + most;
      parking::wait(word, now, limit);
      if (clock_type::now() >= limit) ++missed;
    }
  };
  std::vector<std::thread> threads;
  for (auto& w : all) {
    threads.emplace_back([&w, &until, rounds] {
      for (std::uint32_t i = 1; i <= rounds; ++i) {
        raise_word(w.there, i);
        parking::wake(w.there);
        until(w.back, i);
      }
    });
    threads.emplace_back([&w, &until, rounds] {
      for (std::uint32_t i = 1; i <= rounds; ++i) {
        until(w.there, i);
        raise_word(w.back, i);
        parking::wake(w.back);
      }
    });
  }
  for (auto& t : threads) t.join();
  return missed;
}

}  // namespace

TEST_CASE("nobody sleeps through a wake") {
  using gates = test_gates<0>;
  CHECK(ping_pong<gates>(1, 3000) == 0);
}

TEST_CASE("with many in one bucket hardly anybody does") {
  // What the header says about being overtaken: a few of 8000 may have to look again by themselves, more of them where many
  // others want the processors.
  CHECK(ping_pong<test_gates<1>>(4, 1000, 1s) <= 40);
}

TEST_CASE("not even when everybody stalls between the steps") {
  using gates = test_gates<2>;
  gates::stall = [] {
    static std::atomic<unsigned> n{0};
    if (n.fetch_add(1) % 7 == 0) std::this_thread::sleep_for(20us);
  };
  CHECK(ping_pong<gates>(3, 500, 1s) <= 10);
}

TEST_CASE("waking nobody touches no gate") {
  using gates = test_gates<3>;
  using parking = polyproc::detail::gate_parking<gates>;
  std::atomic<std::uint32_t> word{0};
  for (int i = 0; i < 100; ++i) parking::wake(word);
  CHECK(gates::opened == 0);
  // A sleeper that died leaves the bucket marked: one wake for nothing, and it is clean again.
  parking::wait(word, 0, clock_type::now() + 1ms);
  parking::wake(word);
  CHECK(gates::opened == 1);
  parking::wake(word);
  CHECK(gates::opened == 1);
}

TEST_CASE("gates that were left open cost some returns for no reason, and heal") {
  using gates = test_gates<4>;
  using parking = polyproc::detail::gate_parking<gates>;
  gates::is_open.fill(true);
  std::atomic<std::uint32_t> word{0};
  int early = 0;
  for (; early < 20; ++early) {
    auto const limit = clock_type::now() + 500ms;
    parking::wait(word, 0, limit);
    if (clock_type::now() >= limit) break;
  }
  CHECK(early >= 1);
  CHECK(early <= 9);
  CHECK(ping_pong<gates>(1, 200) == 0);
}

TEST_CASE("a waker that died after opening the gate has woken") {
  using gates = test_gates<5>;
  using parking = polyproc::detail::gate_parking<gates>;
  std::atomic<std::uint32_t> word{0};
  parking::wait(word, 0, clock_type::now() + 1ms);
  gates::is_open[0] = true;  // as the waker left it
  auto const before = clock_type::now();
  parking::wait(word, 0, before + 10s);
  CHECK(clock_type::now() - before < 5s);
  CHECK(ping_pong<gates>(1, 200) == 0);
}

TEST_CASE("without memory or gates waiting is a short sleep") {
  using gates = test_gates<6>;
  using parking = polyproc::detail::gate_parking<gates>;
  std::atomic<std::uint32_t> word{0};
  gates::have_gates = false;
  parking::wait(word, 0, clock_type::now() + 10s);
  parking::wait(word, 1, clock_type::now() + 10s);
  gates::have_memory = false;
  parking::wait(word, 0, clock_type::now() + 10s);
  parking::wait(word, 1, clock_type::now() + 10s);
  parking::wake(word);
  CHECK(gates::pauses == 2);
}
