// The limit for one question and one answer where nobody may spin: a word each way, slept on with futex.
#pragma once

#include <atomic>
#include <cstdint>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

struct futex_word {
  alignas(64) std::atomic<std::uint32_t> round{0};
  void next() {
    round.fetch_add(1, std::memory_order_release);
    ::syscall(SYS_futex, &round, FUTEX_WAKE, 1);
  }
  void await(std::uint32_t wanted) {
    for (;;) {
      auto const now = round.load(std::memory_order_acquire);
      if (now == wanted) return;
      ::syscall(SYS_futex, &round, FUTEX_WAIT, now, nullptr);
    }
  }
};

struct futex_pair {
  futex_word there;
  futex_word back;
  using polyproc_shareable = void;
};
