/// Fences where the system cannot make other processes' processors take part: both sides pay for them.
#pragma once

#include <atomic>

namespace polyproc::inline v0_1::detail {

struct whole_fences {
  static void prepare_light_fences() noexcept {}
  static bool has_light_fences() noexcept { return true; }
  static void light_fence() noexcept { std::atomic_thread_fence(std::memory_order_seq_cst); }
  static void heavy_fence() noexcept { std::atomic_thread_fence(std::memory_order_seq_cst); }
};

}  // namespace polyproc::inline v0_1::detail
