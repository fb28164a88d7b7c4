/// The lock word under every lock of the library: it says who holds it, in the same atomic step that takes it,
/// so that a waiter can tell a slow holder from a dead one and take over from the latter.
///
///   word: [ identity of the holder : 62 | dirty : 1 | sleepers : 1 ]      turn: counts wakes
///
/// States: identity 0 is free. `sleepers`: somebody may be parked on `turn`. `dirty`: a holder died, and what the
/// lock guards may be half changed; stays until a holder calls mark_clean.
///
/// Who may write what: a thread changes the identity from 0 to its own, from its own to 0, or from that of a dead
/// thread to its own, each by one atomic operation on the whole word (the commit point). Any thread may set
/// `sleepers`. Only the holder changes `dirty`; taking over sets it in the same operation.
///
/// A sleeper reads `turn`, then sets `sleepers` in a word that shows another holder, then parks on the value of
/// `turn` it read. An unlocker that finds `sleepers` set adds one to `turn` after freeing the word, then wakes one.
/// If it frees the word after the sleeper read `turn`, the sleeper's park returns at once; if before, the sleeper's
/// attempt to set `sleepers` fails and it looks again. Whoever takes the lock after having parked leaves `sleepers`
/// set, since others may still be parked.
///
/// What a death leaves: before taking: nothing. While holding: the word with a dead identity; the next one who finds
/// it (sleepers look every holder_recheck) takes over, dirty. After freeing the word and before the wake: parked
/// sleepers find it free at their next look. A sleeper that was woken and died: the same. A sleeper leaves only the
/// `sleepers` bit behind, which costs the next unlocker one needless wake. A thread that is stopped anywhere holds up
/// those who need the lock it holds, and nobody else; their deadlines hold.
#pragma once

#include <polyproc/sync/waiting.hpp>

namespace polyproc::inline v0_1::detail {

enum class lock_outcome : std::uint8_t {
  locked,
  locked_dirty,  ///< Locked; a holder died since the last mark_clean.
  not_locked,    ///< Somebody else has it (or: the deadline has passed).
  already_mine,  ///< The calling thread has it.
};

template <sync_backend Backend, class Waiting = waiting::adaptive>
class owner_lock {
 public:
  /// Never waits, except that it asks whether the holder is alive.
  lock_outcome try_lock() noexcept {
    auto const me = Backend::self() << id_shift;
    std::uint64_t seen = 0;
    if (word_.compare_exchange_strong(seen, me, std::memory_order_acquire, std::memory_order_relaxed))
      return lock_outcome::locked;
    auto const got = attempt(me, seen, 0);
    return got == lock_outcome::not_locked ? take_over(me) : got;
  }

  /// not_locked only when the deadline has passed.
  lock_outcome lock_until(time_point deadline) noexcept {
    auto const me = Backend::self() << id_shift;
    std::uint64_t seen = 0;
    if (word_.compare_exchange_strong(seen, me, std::memory_order_acquire, std::memory_order_relaxed))
      return lock_outcome::locked;
    return lock_slowly(me, seen, deadline);
  }

  /// False, and nothing done, if the calling thread does not have it.
  bool unlock() noexcept {
    auto const me = Backend::self() << id_shift;
    auto seen = me;
    if (word_.compare_exchange_strong(seen, 0, std::memory_order_release, std::memory_order_relaxed)) return true;
    if ((seen & id_mask) != me) return false;
    auto const before = word_.exchange(seen & dirty_bit, std::memory_order_acq_rel);
    if ((before & sleepers_bit) != 0) {
      turn_.fetch_add(1, std::memory_order_release);
      if constexpr (Waiting::parks) Backend::wake_one(turn_);
    }
    return true;
  }

  /// The guarded data is whole again. Only for the holder.
  void mark_clean() noexcept { word_.fetch_and(~dirty_bit, std::memory_order_relaxed); }

  /// Snapshots; never wait.
  [[nodiscard]] bool dirty() const noexcept { return (word_.load(std::memory_order_acquire) & dirty_bit) != 0; }
  [[nodiscard]] bool mine() const noexcept {
    return (word_.load(std::memory_order_relaxed) & id_mask) == Backend::self() << id_shift;
  }

 private:
  static constexpr std::uint64_t sleepers_bit = 1;
  static constexpr std::uint64_t dirty_bit = 2;
  static constexpr int id_shift = 2;
  static constexpr std::uint64_t id_mask = ~(sleepers_bit | dirty_bit);

  /// Takes a free word; `with` are flags to leave set.
  lock_outcome attempt(std::uint64_t me, std::uint64_t& seen, std::uint64_t with) noexcept {
    for (;;) {
      auto const holder = seen & id_mask;
      if (holder == me) return lock_outcome::already_mine;
      if (holder != 0) return lock_outcome::not_locked;
      if (word_.compare_exchange_weak(seen, me | (seen & ~id_mask) | with, std::memory_order_acquire,
                                      std::memory_order_relaxed))
        return (seen & dirty_bit) != 0 ? lock_outcome::locked_dirty : lock_outcome::locked;
    }
  }

  /// Takes the word of a holder that has ended. A live one: not_locked.
  lock_outcome take_over(std::uint64_t me) noexcept {
    auto seen = word_.load(std::memory_order_acquire);
    for (;;) {
      auto const got = attempt(me, seen, 0);
      if (got != lock_outcome::not_locked) return got;
      auto const holder = seen & id_mask;
      if (Backend::alive(holder >> id_shift)) return lock_outcome::not_locked;
      while ((seen & id_mask) == holder) {
        if (word_.compare_exchange_weak(seen, me | dirty_bit | sleepers_bit, std::memory_order_acq_rel,
                                        std::memory_order_acquire))
          return lock_outcome::locked_dirty;
      }
    }
  }

  lock_outcome lock_slowly(std::uint64_t me, std::uint64_t seen, time_point deadline) noexcept {
    auto outcome = attempt(me, seen, 0);
    if (outcome != lock_outcome::not_locked) return outcome;
    if (Waiting::template look<Backend>([&] {
          seen = word_.load(std::memory_order_relaxed);
          outcome = attempt(me, seen, 0);
          return outcome != lock_outcome::not_locked;
        }))
      return outcome;
    pace<Backend> asking{holder_recheck};
    for (bool suspect = false;;) {
      auto const turn = turn_.load(std::memory_order_acquire);
      auto const late = deadline != never && Backend::now() >= deadline;
      seen = word_.load(std::memory_order_relaxed);
      // To ask after the holder costs as much as a wake, so it is done when it kept us waiting, and at the end.
      outcome = suspect || late ? take_over(me) : attempt(me, seen, sleepers_bit);
      if (outcome != lock_outcome::not_locked) {
        if (outcome != lock_outcome::already_mine) word_.fetch_or(sleepers_bit, std::memory_order_relaxed);
        return outcome;
      }
      if (late) return outcome;
      if ((seen & id_mask) == 0) continue;
      if ((seen & sleepers_bit) == 0 &&
          !word_.compare_exchange_weak(seen, seen | sleepers_bit, std::memory_order_relaxed,
                                       std::memory_order_relaxed))
        continue;
      Waiting::template park<Backend>(turn_, turn, std::min(deadline, asking.next()));
      suspect = asking.due();
    }
  }

  typename Backend::template atomic<std::uint64_t> word_{0};
  typename Backend::template atomic<std::uint32_t> turn_{0};
};

/// Holds an owner_lock, or one with the same functions, whose data any new holder can put right by itself.
template <sync_backend Backend, class Waiting = waiting::adaptive, class Lock = owner_lock<Backend, Waiting>>
class repairing_hold {
 public:
  /// Locks; after a holder's death runs repair() first. False (see owns) when the deadline came first.
  template <class Repair>
  repairing_hold(Lock& lock, time_point deadline, Repair&& repair) : lock_(&lock) {
    switch (lock.lock_until(deadline)) {
      case lock_outcome::locked: return;
      case lock_outcome::locked_dirty:
        repair();
        lock.mark_clean();
        return;
      default: lock_ = nullptr;
    }
  }
  repairing_hold(repairing_hold const&) = delete;
  repairing_hold& operator=(repairing_hold const&) = delete;
  ~repairing_hold() { release(); }

  void release() noexcept {
    if (lock_ != nullptr) std::exchange(lock_, nullptr)->unlock();
  }
  [[nodiscard]] bool owns() const noexcept { return lock_ != nullptr; }

 private:
  Lock* lock_;
};

}  // namespace polyproc::inline v0_1::detail
