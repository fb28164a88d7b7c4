/// Fences of which one side is free of charge: the kernel interrupts the processors that run a registered process just now
/// (membarrier, Linux 4.16), and all others have gone through a whole fence since they ran one.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace polyproc::inline v0_1::detail {

struct linux_fences {
  /// A child of a fork is registered as its parent is; a new image is not, and has not this word either.
  static void prepare_light_fences() noexcept {
    if (has_light_fences()) return;
    if (::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0)
      prepared_.store(true, std::memory_order_relaxed);
  }
  static bool has_light_fences() noexcept { return prepared_.load(std::memory_order_relaxed); }
  static void light_fence() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }
  static void heavy_fence() noexcept {
    if (::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0) return;
    // A filter of system calls, put up since, keeps this process from it. No processor keeps a store back for so long.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

 private:
  static inline std::atomic<bool> prepared_{false};
};

}  // namespace polyproc::inline v0_1::detail
