/// Waiting, without the lock, for something that is changed under a lock.
///
///   asleep: somebody may be parked      turn: counts notifications
///
/// A waiter, which holds the lock, reads `turn` and sets `asleep`, lets go of the lock and parks on the value of `turn`
/// it read. A notifier that finds `asleep` set adds one to `turn` and wakes. What the waiter waits for is changed under
/// the lock, so after the waiter let go of it: then the notifier sees `asleep`, and whoever had read the old `turn` does
/// not stay parked. notify_all clears `asleep` before it changes `turn`; who reads the new `turn` sets it again.
///
/// There is no list and no count of waiters, so a waiter that dies breaks nothing. A waiter that dies after notify_one
/// woke it takes that notification with it, and a notifier that dies before its wake has notified nobody: so waiters
/// return, as if for no reason, after idle_recheck, and look for themselves.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/sync/waiting.hpp>

namespace polyproc::inline v0_1 {

/// A plain member of a shared object; all-zero bytes are one that nobody waits for. Works with any lock: a mutex of ours
/// itself, our unique_lock or std::unique_lock. As with the standard's, a wait may end for no reason (it does so at
/// least every half second): wait for a predicate.
///
/// When the lock is taken again and its holder had died, what its policy says happens here: with
/// on_owner_death::throws, owner_died leaves wait() and the lock is not held.
template <class Waiting = waiting::block, sync_backend Backend = native_backend>
class basic_condition_variable {
 public:
  constexpr basic_condition_variable() noexcept = default;
  basic_condition_variable(basic_condition_variable const&) = delete;
  basic_condition_variable& operator=(basic_condition_variable const&) = delete;

  void notify_one() noexcept {
    if (asleep_.load() == 0) return;
    turn_.fetch_add(1);
    if constexpr (Waiting::parks) Backend::wake_one(turn_);
  }
  void notify_all() noexcept {
    if (asleep_.load() == 0) return;
    asleep_.store(0);
    turn_.fetch_add(1);
    if constexpr (Waiting::parks) Backend::wake_all(turn_);
  }

  template <class Lock>
  void wait(Lock& lock) {
    (void)park(lock, never);
  }
  template <class Lock, class Predicate>
  void wait(Lock& lock, Predicate ready) {
    while (!ready()) (void)park(lock, never);
  }

  /// False when the deadline has passed; else notified, or for no reason. Takes the lock again in both cases.
  template <class Lock, class Rep, class Period>
  bool wait_for(Lock& lock, std::chrono::duration<Rep, Period> wait) {
    return park(lock, detail::deadline_after<Backend>(wait));
  }
  template <class Lock, class Clock, class Duration>
  bool wait_until(Lock& lock, std::chrono::time_point<Clock, Duration> when) {
    return park(lock, detail::deadline_at<Backend>(when));
  }
  /// What ready() says at the end.
  template <class Lock, class Rep, class Period, class Predicate>
  bool wait_for(Lock& lock, std::chrono::duration<Rep, Period> wait, Predicate ready) {
    return park_while(lock, detail::deadline_after<Backend>(wait), ready);
  }
  template <class Lock, class Clock, class Duration, class Predicate>
  bool wait_until(Lock& lock, std::chrono::time_point<Clock, Duration> when, Predicate ready) {
    return park_while(lock, detail::deadline_at<Backend>(when), ready);
  }

  using polyproc_shareable = void;

 private:
  template <class Lock>
  bool park(Lock& lock, time_point deadline) {
    auto const turn = turn_.load();
    asleep_.store(1);
    lock.unlock();
    auto const until = detail::no_later_than<Backend>(deadline, detail::idle_recheck);
    Waiting::template look<Backend>([&] { return turn_.load() != turn; });
    Waiting::template park<Backend>(turn_, turn, until);
    bool const in_time = deadline == never || Backend::now() < deadline;
    lock.lock();
    return in_time;
  }
  template <class Lock, class Predicate>
  bool park_while(Lock& lock, time_point deadline, Predicate& ready) {
    while (!ready())
      if (!park(lock, deadline)) return ready();
    return true;
  }

  typename Backend::template atomic<std::uint32_t> asleep_{0};
  typename Backend::template atomic<std::uint32_t> turn_{0};
};
using condition_variable = basic_condition_variable<>;

}  // namespace polyproc::inline v0_1
