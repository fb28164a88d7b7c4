// The limit for having somebody begin: a process that exists already and sleeps on a word is woken.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <new>
#include <stdexcept>

#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

class futex_waker {
 public:
  using clock_type = std::chrono::steady_clock;

  futex_waker() {
    void* const at = ::mmap(nullptr, sizeof(page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::runtime_error("mmap");
    page_ = new (at) page;
    sleeper_ = ::fork();
    if (sleeper_ < 0) throw std::runtime_error("fork");
    if (sleeper_ == 0) sleep();
  }
  futex_waker(futex_waker const&) = delete;
  futex_waker& operator=(futex_waker const&) = delete;
  ~futex_waker() {
    wake(last);
    ::waitpid(sleeper_, nullptr, 0);
    ::munmap(page_, sizeof(page));
  }

  /// Wakes it, and says when it was awake. It needs a moment between two calls to sleep again.
  clock_type::time_point wake_up() {
    wake(++round_);
    while (page_->awake.load(std::memory_order_acquire) != round_) ::sched_yield();
    return page_->when;
  }

 private:
  static constexpr std::uint32_t last = UINT32_MAX;
  struct page {
    alignas(64) std::atomic<std::uint32_t> round{0};
    alignas(64) std::atomic<std::uint32_t> awake{0};
    clock_type::time_point when;
  };

  void wake(std::uint32_t round) const {
    page_->round.store(round, std::memory_order_release);
    ::syscall(SYS_futex, &page_->round, FUTEX_WAKE, 1);
  }
  [[noreturn]] void sleep() const {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (std::uint32_t seen = 0; seen != last;) {
      auto const now = page_->round.load(std::memory_order_acquire);
      if (now == seen) {
        ::syscall(SYS_futex, &page_->round, FUTEX_WAIT, seen, nullptr);
        continue;
      }
      page_->when = clock_type::now();
      page_->awake.store(seen = now, std::memory_order_release);
    }
    ::_exit(0);
  }

  page* page_ = nullptr;
  pid_t sleeper_ = 0;
  std::uint32_t round_ = 0;
};
