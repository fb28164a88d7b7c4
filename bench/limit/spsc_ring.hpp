// The limit for a queue with one producer and one consumer: a ring with cached cursors and nothing else. It blocks
// nobody, survives nothing and carries eight bytes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

struct spsc_ring {
  static constexpr std::size_t size = 1024;
  alignas(64) std::atomic<std::uint64_t> tail{0};
  std::uint64_t head_seen = 0;
  alignas(64) std::atomic<std::uint64_t> head{0};
  std::uint64_t tail_seen = 0;
  alignas(64) std::uint64_t slots[size] = {};

  bool try_put(std::uint64_t value) {
    auto const t = tail.load(std::memory_order_relaxed);
    if (t - head_seen == size) {
      head_seen = head.load(std::memory_order_acquire);
      if (t - head_seen == size) return false;
    }
    slots[t % size] = value;
    tail.store(t + 1, std::memory_order_release);
    return true;
  }
  bool try_get(std::uint64_t& value) {
    auto const h = head.load(std::memory_order_relaxed);
    if (h == tail_seen) {
      tail_seen = tail.load(std::memory_order_acquire);
      if (h == tail_seen) return false;
    }
    value = slots[h % size];
    head.store(h + 1, std::memory_order_release);
    return true;
  }
  using polyproc_shareable = void;
};
