// The limit for a queue with one producer and one consumer: a ring with cached cursors and nothing else. It blocks
// nobody, survives nothing and carries eight bytes.
#pragma once

#include <algorithm>
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
  /// As many as there is room for, or are there, made known in one step.
  std::size_t try_put_many(std::uint64_t const* values, std::size_t count) {
    auto const t = tail.load(std::memory_order_relaxed);
    if (size - (t - head_seen) < count) head_seen = head.load(std::memory_order_acquire);
    auto const n = std::min<std::uint64_t>(count, size - (t - head_seen));
    for (std::uint64_t i = 0; i < n; ++i) slots[(t + i) % size] = values[i];
    if (n != 0) tail.store(t + n, std::memory_order_release);
    return n;
  }
  std::size_t try_get_many(std::uint64_t* values, std::size_t most) {
    auto const h = head.load(std::memory_order_relaxed);
    if (tail_seen - h < most) tail_seen = tail.load(std::memory_order_acquire);
    auto const n = std::min<std::uint64_t>(most, tail_seen - h);
    for (std::uint64_t i = 0; i < n; ++i) values[i] = slots[(h + i) % size];
    if (n != 0) head.store(h + n, std::memory_order_release);
    return n;
  }
  using polyproc_shareable = void;
};
