// The limit for a queue with several producers and consumers: a bounded ring of padded slots, each with a turn of its own
// (after D. Vyukov's bounded MPMC queue, 1024cores.net, 2011). Whoever dies between taking a slot and handing it on stops
// everybody.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

struct vyukov_ring {
  static constexpr std::uint64_t size = 1024;
  struct alignas(64) slot {
    std::atomic<std::uint64_t> turn;
    std::uint64_t value;
  };
  alignas(64) std::atomic<std::uint64_t> tail{0};
  alignas(64) std::atomic<std::uint64_t> head{0};
  slot slots[size];

  vyukov_ring() {
    for (std::uint64_t i = 0; i < size; ++i) slots[i].turn.store(i, std::memory_order_relaxed);
  }
  bool try_put(std::uint64_t value) {
    auto t = tail.load(std::memory_order_relaxed);
    for (;;) {
      auto& s = slots[t % size];
      auto const turn = s.turn.load(std::memory_order_acquire);
      if (turn == t) {
        if (!tail.compare_exchange_weak(t, t + 1, std::memory_order_relaxed)) continue;
        s.value = value;
        s.turn.store(t + 1, std::memory_order_release);
        return true;
      }
      if (turn < t) return false;
      t = tail.load(std::memory_order_relaxed);
    }
  }
  bool try_get(std::uint64_t& value) {
    auto h = head.load(std::memory_order_relaxed);
    for (;;) {
      auto& s = slots[h % size];
      auto const turn = s.turn.load(std::memory_order_acquire);
      if (turn == h + 1) {
        if (!head.compare_exchange_weak(h, h + 1, std::memory_order_relaxed)) continue;
        value = s.value;
        s.turn.store(h + size, std::memory_order_release);
        return true;
      }
      if (turn < h + 1) return false;
      h = head.load(std::memory_order_relaxed);
    }
  }
  using polyproc_shareable = void;
};
