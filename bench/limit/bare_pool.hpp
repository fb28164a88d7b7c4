// The limit for a pool of processes: functions of one number, laid into padded slots of shared memory, whose numbers go to
// whichever worker is free through a bounded ring. Nobody sleeps, nobody is looked after, and a worker that dies may take all
// the others with it.
#pragma once

#include "limit/vyukov_ring.hpp"

#include <atomic>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <vector>

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

class bare_pool {
 public:
  using function = int (*)(int);
  static constexpr std::uint64_t size = 1024;

  explicit bare_pool(unsigned workers) {
    auto* const memory = ::mmap(nullptr, sizeof(common), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    common_ = new (memory) common;
    for (unsigned w = 0; w < workers; ++w) {
      auto const child = ::fork();
      if (child < 0) throw std::runtime_error("fork");
      if (child == 0) serve();
      workers_.push_back(child);
    }
  }
  bare_pool(bare_pool const&) = delete;
  bare_pool& operator=(bare_pool const&) = delete;
  ~bare_pool() {
    for (auto const worker : workers_) {
      ::kill(worker, SIGKILL);
      int status = 0;
      (void)::waitpid(worker, &status, 0);
    }
    ::munmap(common_, sizeof(common));
  }

  /// The number of the task, from 0 on. The one 1024 before it must have been collected.
  std::uint64_t submit(function f, int argument) {
    auto& s = common_->slots[next_ % size];
    s.f = f;
    s.value = argument;
    (void)common_->tasks.try_put(next_ % size);
    return next_++;
  }
  [[nodiscard]] bool ready(std::uint64_t number) const {
    return common_->slots[number % size].done.load(std::memory_order_acquire) != 0;
  }
  int get(std::uint64_t number) {
    while (!ready(number)) ::sched_yield();
    auto& s = common_->slots[number % size];
    s.done.store(0, std::memory_order_relaxed);
    return s.value;
  }

 private:
  struct alignas(64) slot {
    std::atomic<std::uint32_t> done{0};
    int value = 0;
    function f = nullptr;
  };
  struct common {
    vyukov_ring tasks;
    slot slots[size];
  };

  [[noreturn]] void serve() {
    for (;;) {
      std::uint64_t number = 0;
      while (!common_->tasks.try_get(number)) ::sched_yield();
      auto& s = common_->slots[number];
      s.value = s.f(s.value);
      s.done.store(1, std::memory_order_release);
    }
  }

  common* common_ = nullptr;
  std::vector<pid_t> workers_;
  std::uint64_t next_ = 0;
};
