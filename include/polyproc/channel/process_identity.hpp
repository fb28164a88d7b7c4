/// Who the calling process is, for those who need it with every operation.
#pragma once

#include <polyproc/backend/concept.hpp>

#include <atomic>

namespace polyproc::inline v0_1::detail {

/// Of the calling process; the system is asked once.
template <backend Backend>
std::uint64_t process_identity() {
  static std::atomic<std::uint64_t> known{0};
  if (auto const id = known.load(std::memory_order_relaxed); id != 0) return id;
  static bool const watching = [] {
    Backend::at_fork_child([] { known.store(0, std::memory_order_relaxed); });
    return true;
  }();
  (void)watching;
  auto const id = Backend::process_self();
  known.store(id, std::memory_order_relaxed);
  return id;
}

}  // namespace polyproc::inline v0_1::detail
