// The limit for messages by value: memory of eight messages, one copy in and one copy out, and two counters.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <sched.h>

template <std::size_t Bytes>
struct two_copies {
  static constexpr std::uint64_t places = 8;
  alignas(64) std::atomic<std::uint64_t> tail{0};
  alignas(64) std::atomic<std::uint64_t> head{0};
  alignas(64) std::byte room[places][Bytes];

  void put(std::byte const* from) {
    auto const t = tail.load(std::memory_order_relaxed);
    while (t - head.load(std::memory_order_acquire) == places) ::sched_yield();
    std::memcpy(room[t % places], from, Bytes);
    tail.store(t + 1, std::memory_order_release);
  }
  void get(std::byte* to) {
    auto const h = head.load(std::memory_order_relaxed);
    while (tail.load(std::memory_order_acquire) == h) ::sched_yield();
    std::memcpy(to, room[h % places], Bytes);
    head.store(h + 1, std::memory_order_release);
  }
  using polyproc_shareable = void;
};
