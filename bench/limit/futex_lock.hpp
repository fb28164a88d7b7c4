// The limit for handing a lock to somebody who sleeps: one word, one wake, each time. It knows no owner and survives no
// death.
#pragma once

#include <atomic>
#include <cstdint>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

struct futex_lock {
  std::atomic<std::uint32_t> word{0};
  void lock() {
    while (word.exchange(1, std::memory_order_acquire) != 0) ::syscall(SYS_futex, &word, FUTEX_WAIT, 1, nullptr);
  }
  void unlock() {
    word.store(0, std::memory_order_release);
    ::syscall(SYS_futex, &word, FUTEX_WAKE, 1);
  }
  using polyproc_shareable = void;
};
