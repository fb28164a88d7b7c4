/// How to wait. Looking a few times with a yield between the looks, then parking, is 5 to 30 times faster than
/// parking at once when the other side is awake; and it burns time when it is not. So the number of looks
/// follows what has paid off: it grows while looking succeeds and falls to almost nothing while it does not
/// (an idle consumer, or one processor shared by both sides).
#pragma once

#include <polyproc/backend/concept.hpp>

namespace polyproc::inline v0_1::detail {

/// A sleeper behind something that somebody holds looks again at least this often, because its holder may have
/// died, or the one who was woken instead of it.
inline constexpr std::chrono::milliseconds holder_recheck{10};

/// A sleeper that waits for something to come (an item, a task) looks again at least this often: the one who
/// brought it may have died between bringing it and waking.
inline constexpr std::chrono::milliseconds idle_recheck{500};

template <sync_backend Backend>
class adaptive_look {
 public:
  /// Calls ready() until it is true or the looks are used up; its last value.
  template <class Ready>
  bool operator()(Ready&& ready) {
    int const budget = looks_ > 0 ? looks_ : (++idle_ % probe_every == 0 ? probe_looks : 0);
    for (int i = 0; i < budget; ++i) {
      if (ready()) {
        looks_ = std::min(most_looks, looks_ + looks_ / 4 + 8);
        return true;
      }
      Backend::yield();
    }
    looks_ /= 2;
    return ready();
  }

 private:
  static constexpr int most_looks = 128;
  static constexpr int probe_every = 16;
  static constexpr int probe_looks = 8;
  int looks_ = 32;
  int idle_ = 0;
};

/// The calling thread's own measure: a thread mostly waits for one kind of thing.
template <sync_backend Backend>
adaptive_look<Backend>& look() noexcept {
  static thread_local adaptive_look<Backend> mine;
  return mine;
}

/// The earlier of a deadline and a moment from now.
template <sync_backend Backend>
time_point no_later_than(time_point deadline, std::chrono::milliseconds from_now) noexcept {
  return std::min(deadline, Backend::now() + from_now);
}

/// A point in time from a duration, without overflow: what is too far away does not come.
template <sync_backend Backend, class Rep, class Period>
time_point deadline_after(std::chrono::duration<Rep, Period> wait) noexcept {
  auto const now = Backend::now();
  using seconds = std::chrono::duration<double>;
  if (std::chrono::duration_cast<seconds>(wait) >= std::chrono::duration_cast<seconds>(never - now) / 2) return never;
  return now + std::chrono::ceil<time_point::duration>(wait);
}

/// A deadline given on any clock, on ours.
template <sync_backend Backend, class Clock, class Duration>
time_point deadline_at(std::chrono::time_point<Clock, Duration> when) {
  if constexpr (std::is_same_v<Clock, time_point::clock>) {
    return std::chrono::time_point_cast<time_point::duration>(when);
  } else {
    return deadline_after<Backend>(when - Clock::now());
  }
}

}  // namespace polyproc::inline v0_1::detail
