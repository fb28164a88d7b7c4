/// A count that goes down to zero once, and those who wait for that.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/sync/waiting.hpp>

#include <stdexcept>

namespace polyproc::inline v0_1 {

/// A plain member of a shared object. Nobody owns a part of the count: when a process dies before it has counted down,
/// the latch stays where it is (use the timed forms, or a barrier, which knows its members); after it has, that counts.
/// The commit of count_down is one atomic operation; one who dies between it and the wake: sleepers find out within half
/// a second.
template <class Waiting = waiting::adaptive, sync_backend Backend = native_backend>
class basic_latch {
 public:
  constexpr explicit basic_latch(std::uint32_t expected) noexcept : count_{expected} {}
  basic_latch(basic_latch const&) = delete;
  basic_latch& operator=(basic_latch const&) = delete;

  /// Throws std::invalid_argument, having changed nothing, when that is more than is left.
  void count_down(std::uint32_t by = 1) {
    auto seen = count_.load(std::memory_order_relaxed);
    do {
      if (by > seen)
        throw std::invalid_argument("polyproc: a latch was to be counted down by more than is left; it was made for fewer "
                                    "arrivals");
    } while (!count_.compare_exchange_weak(seen, seen - by));
    if (seen == by && by != 0) waiting_.wake_all();
  }
  /// Whether the count is zero now.
  [[nodiscard]] bool try_wait() const noexcept { return count_.load() == 0; }
  void wait() { (void)wait_till(never); }
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> wait) {
    return wait_till(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(std::chrono::time_point<Clock, Duration> when) {
    return wait_till(detail::deadline_at<Backend>(when));
  }
  void arrive_and_wait(std::uint32_t by = 1) {
    count_down(by);
    wait();
  }

  using polyproc_shareable = void;

 private:
  bool wait_till(time_point deadline) {
    using slept = typename detail::sleepers<Backend, Waiting>::slept;
    detail::pace<Backend> looking{detail::idle_recheck};
    while (!try_wait())
      if (waiting_.sleep(deadline, looking, [this] { return try_wait(); }) == slept::late) return try_wait();
    return true;
  }

  typename Backend::template atomic<std::uint32_t> count_;
  detail::sleepers<Backend, Waiting> waiting_;
};
using latch = basic_latch<>;

}  // namespace polyproc::inline v0_1
