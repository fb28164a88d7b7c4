/// A mutex that its holder may lock again.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/sync/owner_death.hpp>

#include <limits>

namespace polyproc::inline v0_1 {

/// As basic_mutex, but a thread that holds it may lock it again (up to 2^32 - 1 times, then std::system_error,
/// resource_unavailable_try_again) and unlocks it as often. The depth is written by the holder alone and means nothing
/// once it is dead: whoever takes the mutex begins with 1.
template <class OnOwnerDeath = on_owner_death::throws, class Waiting = waiting::adaptive,
          sync_backend Backend = native_backend>
class basic_recursive_mutex {
 public:
  constexpr basic_recursive_mutex() noexcept = default;
  basic_recursive_mutex(basic_recursive_mutex const&) = delete;
  basic_recursive_mutex& operator=(basic_recursive_mutex const&) = delete;

  void lock() { (void)finish(lock_.lock_until(never)); }
  [[nodiscard]] bool try_lock() { return finish(lock_.try_lock()); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(std::chrono::duration<Rep, Period> wait) {
    return finish(lock_.lock_until(detail::deadline_after<Backend>(wait)));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(std::chrono::time_point<Clock, Duration> when) {
    return finish(lock_.lock_until(detail::deadline_at<Backend>(when)));
  }

  void unlock() {
    if (!lock_.mine()) detail::throw_not_holder("unlock", kind);
    if (depth_ > 1)
      --depth_;
    else
      lock_.unlock();
  }

  /// As basic_mutex::recover; not for a thread that holds the mutex.
  template <class Repair>
  bool recover(Repair&& repair) {
    auto const outcome = lock_.lock_until(never);
    if (outcome == detail::lock_outcome::already_mine) detail::throw_relocked("recover", kind);
    auto const release = [this] { lock_.unlock(); };
    if (outcome == detail::lock_outcome::locked) {
      release();
      return false;
    }
    depth_ = 1;
    detail::repair_and_release(std::forward<Repair>(repair), [this] { lock_.mark_clean(); }, release);
    return true;
  }
  [[nodiscard]] bool owner_is_dead() const noexcept { return lock_.dirty(); }
  void repaired() {
    if (!lock_.mine()) detail::throw_not_holder("repaired", kind);
    lock_.mark_clean();
  }

  using polyproc_shareable = void;

 private:
  static constexpr char const* kind = "recursive mutex";

  bool finish(detail::lock_outcome outcome) {
    switch (outcome) {
      case detail::lock_outcome::not_locked: return false;
      case detail::lock_outcome::locked: depth_ = 1; return true;
      case detail::lock_outcome::already_mine:
        if (depth_ == std::numeric_limits<std::uint32_t>::max())
          throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                                  "polyproc: a recursive mutex was locked 2^32 - 1 times by its holder; unlock it first");
        ++depth_;
        return true;
      case detail::lock_outcome::locked_dirty: break;
    }
    depth_ = 1;
    detail::meet_owner_death<OnOwnerDeath>(
        kind, *this, [this] { lock_.mark_clean(); }, [this] { lock_.unlock(); });
    return true;
  }

  detail::owner_lock<Backend, Waiting> lock_;
  std::uint32_t depth_ = 0;
};

using recursive_mutex = basic_recursive_mutex<>;

}  // namespace polyproc::inline v0_1
