/// A flag that threads of any process can wait for.
///
///   word: [ times set : 30 | sleepers : 1 | set : 1 ]
///
/// Each change is one compare-exchange. Who waits goes on when the flag is set or has been set since it began to wait
/// (so set() directly followed by clear() releases all who waited). Sleepers park on the word itself. A setter that dies
/// between its change and the wake: sleepers find out within idle_recheck. A sleeper that dies leaves the `sleepers` bit,
/// which costs the next set() one call.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/sync/waiting.hpp>

namespace polyproc::inline v0_1 {

/// A plain member of a shared object; all-zero bytes are an event that is not set. Nobody owns it: after set() it is set,
/// whoever dies, until somebody calls clear().
template <class Waiting = waiting::adaptive, sync_backend Backend = native_backend>
class basic_event {
 public:
  constexpr basic_event() noexcept = default;
  basic_event(basic_event const&) = delete;
  basic_event& operator=(basic_event const&) = delete;

  /// Lets all go on who wait, and all who will until clear().
  void set() noexcept {
    auto seen = word_.load(std::memory_order_relaxed);
    for (;;) {
      if ((seen & set_bit) != 0) {
        // The same as a set of our own, for those whom this one lets go on.
        if (word_.compare_exchange_weak(seen, seen)) return;
      } else if (word_.compare_exchange_weak(seen, (seen & ~sleepers_bit) + one_time + set_bit)) {
        break;
      }
    }
    if ((seen & sleepers_bit) == 0) return;
    if constexpr (Waiting::parks) Backend::wake_all(word_);
  }
  void clear() noexcept { word_.fetch_and(~set_bit); }
  [[nodiscard]] bool is_set() const noexcept { return (word_.load() & set_bit) != 0; }

  void wait() { (void)wait_till(never); }
  /// Whether it was set in time.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> wait) {
    return wait_till(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(std::chrono::time_point<Clock, Duration> when) {
    return wait_till(detail::deadline_at<Backend>(when));
  }

  using polyproc_shareable = void;

 private:
  friend struct detail::wait_access;
  [[nodiscard]] bool wait_is_over(bool) const noexcept { return is_set(); }
  [[nodiscard]] word_wait<typename Backend::template atomic<std::uint32_t>> announce_wait() noexcept {
    auto seen = word_.load();
    while ((seen & (set_bit | sleepers_bit)) == 0 && !word_.compare_exchange_strong(seen, seen | sleepers_bit)) {
    }
    return {&word_, seen | sleepers_bit};
  }

  static constexpr std::uint32_t set_bit = 1;
  static constexpr std::uint32_t sleepers_bit = 2;
  static constexpr std::uint32_t one_time = 4;

  bool wait_till(time_point deadline) {
    auto seen = word_.load();
    auto const times = seen / one_time;
    auto const go_on = [&] {
      seen = word_.load();
      return (seen & set_bit) != 0 || seen / one_time != times;
    };
    while (!Waiting::template look<Backend>(go_on)) {
      auto const now = Backend::now();
      if (deadline != never && now >= deadline) return false;
      auto const wanted = seen | sleepers_bit;
      if (seen != wanted && !word_.compare_exchange_strong(seen, wanted)) continue;
      Waiting::template park<Backend>(word_, wanted, std::min(deadline, now + detail::idle_recheck));
    }
    return true;
  }

  typename Backend::template atomic<std::uint32_t> word_{0};
};
using event = basic_event<>;

}  // namespace polyproc::inline v0_1
