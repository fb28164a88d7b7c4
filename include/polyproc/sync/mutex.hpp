/// A mutex for threads of any number of processes that survives the death of its holder.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/sync/owner_death.hpp>

namespace polyproc::inline v0_1 {

/// A plain member of a shared object, like std::mutex; all-zero bytes are an unlocked one, and nothing needs to be
/// done at its end. Meets the standard's TimedLockable, so std::lock_guard, std::unique_lock and std::scoped_lock
/// work with it. Not recursive: a second lock by its holder throws std::system_error
/// (resource_deadlock_would_occur) instead of hanging; unlocking by a thread that does not hold it throws
/// (operation_not_permitted).
///
/// A thread or process that ends, or is killed, while it holds the mutex does not shut it for the others: within
/// 20 ms they learn of it as the policy OnOwnerDeath says. Waiting: one of waiting::adaptive, block, spin.
template <class OnOwnerDeath = on_owner_death::throws, class Waiting = waiting::adaptive,
          sync_backend Backend = native_backend>
class basic_mutex {
 public:
  constexpr basic_mutex() noexcept = default;
  basic_mutex(basic_mutex const&) = delete;
  basic_mutex& operator=(basic_mutex const&) = delete;

  /// Waits until the mutex is free and takes it. Throws owner_died (by policy), or std::system_error as said above.
  void lock() { (void)finish(lock_.lock_until(never), "lock"); }

  /// Takes it if it is free (or its holder is dead) now. Throws as lock().
  [[nodiscard]] bool try_lock() { return finish(lock_.try_lock(), "try_lock"); }

  /// Waits for at most that long; false when it did not get the mutex. Throws as lock().
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(std::chrono::duration<Rep, Period> wait) {
    return finish(lock_.lock_until(detail::deadline_after<Backend>(wait)), "try_lock_for");
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(std::chrono::time_point<Clock, Duration> when) {
    return finish(lock_.lock_until(detail::deadline_at<Backend>(when)), "try_lock_until");
  }

  void unlock() {
    if (!lock_.unlock()) detail::throw_not_holder("unlock", kind);
  }

  /// After a holder's death: takes the mutex, calls repair() while holding it, and opens it for everybody again;
  /// true. When nobody died, or somebody else has repaired meanwhile: false, and repair is not called. When repair
  /// throws, the mutex stays as it was and the exception goes to the caller; when the repairer is killed, the next
  /// one is asked.
  template <class Repair>
  bool recover(Repair&& repair) {
    auto const outcome = lock_.lock_until(never);
    if (outcome == detail::lock_outcome::already_mine) detail::throw_relocked("recover", kind);
    auto const release = [this] { lock_.unlock(); };
    if (outcome == detail::lock_outcome::locked) {
      release();
      return false;
    }
    detail::repair_and_release(std::forward<Repair>(repair), [this] { lock_.mark_clean(); }, release);
    return true;
  }

  /// Whether a holder died and nobody has repaired yet. A snapshot; never waits. A death is noticed by the next
  /// one who wants the mutex, so this may still be false right after one.
  [[nodiscard]] bool owner_is_dead() const noexcept { return lock_.dirty(); }

  /// By the holder: what the mutex guards is whole again. Throws std::system_error for another thread.
  void repaired() {
    if (!lock_.mine()) detail::throw_not_holder("repaired", kind);
    lock_.mark_clean();
  }

  /// May live in shared<T>.
  using polyproc_shareable = void;

 private:
  static constexpr char const* kind = "mutex";

  bool finish(detail::lock_outcome outcome, char const* what) {
    switch (outcome) {
      case detail::lock_outcome::locked: return true;
      case detail::lock_outcome::not_locked: return false;
      case detail::lock_outcome::already_mine: detail::throw_relocked(what, kind);
      case detail::lock_outcome::locked_dirty: break;
    }
    detail::meet_owner_death<OnOwnerDeath>(
        kind, *this, [this] { lock_.mark_clean(); }, [this] { lock_.unlock(); });
    return true;
  }

  detail::owner_lock<Backend, Waiting> lock_;
};

using mutex = basic_mutex<>;

}  // namespace polyproc::inline v0_1
