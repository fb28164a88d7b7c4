/// A mutex that many readers or one writer may hold.
///
///   writer: an owner_lock      phase: [ harmed : 1 | open, closing or writing : 2 ]      readers: owner_slots
///
/// Who may write what: only the holder of `writer` changes `phase`. A reader takes a place, then looks at the phase; a
/// writer takes `writer`, sets the phase to closing, then waits until it has seen every place free once; both in the one
/// order of sequentially consistent accesses, so either the reader sees `closing` (and gives its place up again) or the
/// writer sees the place. Then the writer sets the phase to writing. To unlock it sets the phase to open (the commit)
/// and lets go of `writer`. So while the phase is not open, `writer` has a holder, perhaps a dead one.
///
/// What a death leaves:
///   a reader: its place, with a dead identity, which a writer that waits for it clears within holder_recheck; nothing
///     was changed, so nobody is told;
///   a writer before it had waited for all readers (closing): nothing was changed; the next one who takes `writer`, or
///     a reader that waits, finds that its holder is dead and opens the phase again;
///   a writer that had the lock (writing): the same, and `harmed` is set, which stays until somebody has repaired;
///   a writer that had opened the phase and not yet let go of `writer`: nothing but a dead holder to be replaced.
/// One that dies while it sets such things right leaves `writer` with a dead holder, and all of it to the next.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/sync/owner_death.hpp>
#include <polyproc/sync/owner_slots.hpp>

namespace polyproc::inline v0_1 {

/// A plain member of a shared object; all-zero bytes are an unlocked one. Meets the standard's SharedTimedMutex. At most
/// 64 readers at once (MostReaders); further ones wait for a place. Writers go first: while one waits, new readers wait too. A reader
/// may not become a writer: that, and a lock of any kind by the writer, is an error (resource_deadlock_would_occur). A
/// second lock_shared by a reader is let pass while no writer waits, and is the same error when one does.
///
/// A reader that dies is simply gone. After the death of a writer everybody, readers too, is told as the policy says,
/// until recover() has run.
template <class OnOwnerDeath = on_owner_death::throws, class Waiting = waiting::adaptive, unsigned MostReaders = 64,
          sync_backend Backend = native_backend>
class basic_shared_mutex {
 public:
  static constexpr unsigned most_readers = MostReaders;

  constexpr basic_shared_mutex() noexcept = default;
  basic_shared_mutex(basic_shared_mutex const&) = delete;
  basic_shared_mutex& operator=(basic_shared_mutex const&) = delete;

  /// For writing.
  void lock() { (void)finish(write_until(never, true, keeps_harmed), "lock"); }
  [[nodiscard]] bool try_lock() { return finish(write_until(never, false, keeps_harmed), "try_lock"); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(std::chrono::duration<Rep, Period> wait) {
    return finish(write_until(detail::deadline_after<Backend>(wait), true, keeps_harmed), "try_lock_for");
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(std::chrono::time_point<Clock, Duration> when) {
    return finish(write_until(detail::deadline_at<Backend>(when), true, keeps_harmed), "try_lock_until");
  }
  void unlock() {
    if (!writer_.mine()) detail::throw_not_holder("unlock", kind);
    reopen();
  }

  /// For reading.
  void lock_shared() { (void)share(never, true, "lock_shared"); }
  [[nodiscard]] bool try_lock_shared() { return share(never, false, "try_lock_shared"); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_shared_for(std::chrono::duration<Rep, Period> wait) {
    return share(detail::deadline_after<Backend>(wait), true, "try_lock_shared_for");
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_shared_until(std::chrono::time_point<Clock, Duration> when) {
    return share(detail::deadline_at<Backend>(when), true, "try_lock_shared_until");
  }
  void unlock_shared() {
    if (!readers_.give_up(Backend::self(), most_readers)) detail::throw_not_holder("unlock_shared", kind);
    closing_.wake_all();
  }

  /// As basic_mutex::recover: holds the mutex for writing while repair() runs.
  template <class Repair>
  bool recover(Repair&& repair) {
    auto const got = write_until(never, true, true);
    if (got == outcome::already_mine) detail::throw_relocked("recover", kind);
    auto const release = [this] { reopen(); };
    if (got == outcome::locked) {
      release();
      return false;
    }
    detail::repair_and_release(std::forward<Repair>(repair), [this] { phase_.store(writing); }, release);
    return true;
  }
  [[nodiscard]] bool owner_is_dead() const noexcept { return (phase_.load() & harmed) != 0; }
  /// By the writer: what the mutex guards is whole again.
  void repaired() {
    if (!writer_.mine()) detail::throw_not_holder("repaired", kind);
    phase_.store(writing);
  }

  using polyproc_shareable = void;

 private:
  using outcome = detail::lock_outcome;
  using sleepers = detail::sleepers<Backend, Waiting>;
  static constexpr char const* kind = "shared mutex";
  static constexpr std::uint32_t open = 0;
  static constexpr std::uint32_t closing = 1;
  static constexpr std::uint32_t writing = 2;
  static constexpr std::uint32_t phase_mask = 3;
  static constexpr std::uint32_t harmed = 4;
  static constexpr bool keeps_harmed = !detail::throwing_policy<OnOwnerDeath>;

  /// Only the holder of `writer` writes it, so this need not be one step.
  void set_phase(std::uint32_t phase) noexcept { phase_.store(phase | (phase_.load(std::memory_order_relaxed) & harmed)); }

  void reopen() noexcept {
    set_phase(open);
    waiting_readers_.wake_all();
    writer_.unlock();
  }

  /// For the holder of `writer` whose predecessor died.
  void settle() noexcept {
    auto const left = phase_.load();
    if ((left & phase_mask) == writing)
      phase_.store(open | harmed);
    else
      set_phase(open);
    writer_.mark_clean();
  }

  /// locked_dirty: as locked if `accept_harmed`, else nothing was taken.
  outcome write_until(time_point deadline, bool wait, bool accept_harmed) {
    auto const got = wait ? writer_.lock_until(deadline) : writer_.try_lock();
    if (got == outcome::not_locked || got == outcome::already_mine) return got;
    if (got == outcome::locked_dirty) settle();
    bool const broken = (phase_.load(std::memory_order_relaxed) & harmed) != 0;
    if (broken && !accept_harmed) {
      reopen();  // a dead writer may have left readers asleep
      return outcome::locked_dirty;
    }
    set_phase(closing);
    auto const me = Backend::self();
    for (unsigned i = 0; i < most_readers; ++i) {
      auto const place = await_free(i, me, deadline, wait);
      if (place == outcome::locked) continue;
      reopen();
      return place;
    }
    set_phase(writing);
    return broken ? outcome::locked_dirty : outcome::locked;
  }

  /// Until nobody reads at that place.
  outcome await_free(unsigned i, std::uint64_t me, time_point deadline, bool wait) {
    detail::pace<Backend> asking{detail::holder_recheck};
    for (bool last = !wait, ask = last;;) {
      auto const id = readers_.holder(i);
      if (id == 0 || (ask && readers_.clear_dead(i, id))) return outcome::locked;
      if (id == me) return outcome::already_mine;
      if (last) return outcome::not_locked;
      auto const s = closing_.sleep(deadline, asking, [&] { return readers_.holder(i) != id; });
      ask = s != sleepers::slept::woken;
      last = s == sleepers::slept::late;
    }
  }

  /// locked_dirty: as locked if the policy keeps such a lock, else nothing was taken.
  outcome read_until(time_point deadline, bool wait) {
    auto const me = Backend::self();
    detail::pace<Backend> asking{detail::holder_recheck};
    for (bool last = !wait, ask = last;;) {
      bool placed = true;
      if ((phase_.load(std::memory_order_relaxed) & phase_mask) == open) {
        placed = readers_.claim(me, most_readers, ask);
        if (placed) {
          auto const phase = phase_.load();
          if ((phase & phase_mask) == open) {
            if ((phase & harmed) == 0) return outcome::locked;
            if constexpr (!keeps_harmed) give_back(me);
            return outcome::locked_dirty;
          }
          give_back(me);
        }
      }
      if (writer_.mine() || readers_.has(me, most_readers)) return outcome::already_mine;
      if (ask && placed && revive()) continue;
      if (last) return outcome::not_locked;
      auto const s =
          placed ? waiting_readers_.sleep(deadline, asking, [&] { return (phase_.load() & phase_mask) == open; })
                 : closing_.sleep(deadline, asking, [&] { return readers_.taken(most_readers) < most_readers; });
      ask = s != sleepers::slept::woken;
      last = s == sleepers::slept::late;
    }
  }
  void give_back(std::uint64_t me) noexcept {
    readers_.give_up(me, most_readers);
    closing_.wake_all();
  }

  /// If the writer has ended: opens the phase again. True if it found the phase open or opened it.
  bool revive() noexcept {
    auto const got = writer_.try_lock();
    if (got == outcome::locked_dirty) settle();
    if (got == outcome::locked || got == outcome::locked_dirty) reopen();
    return (phase_.load() & phase_mask) == open;
  }

  bool finish(outcome got, char const* what) {
    switch (got) {
      case outcome::locked: return true;
      case outcome::not_locked: return false;
      case outcome::already_mine: detail::throw_relocked(what, kind);
      case outcome::locked_dirty: break;
    }
    if constexpr (!keeps_harmed) detail::throw_owner_died(kind);
    detail::meet_owner_death<OnOwnerDeath>(
        kind, *this, [this] { phase_.store(writing); }, [this] { reopen(); });
    return true;
  }

  /// What the dead writer guarded cannot be repaired under a reader's lock: where the policy repairs, the reader does
  /// so as a writer and then reads.
  bool share(time_point deadline, bool wait, char const* what) {
    for (;;) {
      auto const got = read_until(deadline, wait);
      if (got == outcome::already_mine) detail::throw_relocked(what, kind);
      if (got != outcome::locked_dirty) return got == outcome::locked;
      if constexpr (!keeps_harmed) detail::throw_owner_died(kind);
      if constexpr (!detail::repairing_policy<OnOwnerDeath>) return true;
      unlock_shared();
      auto const written = write_until(deadline, wait, true);
      if (written == outcome::not_locked) return false;
      if (written == outcome::already_mine) detail::throw_relocked(what, kind);
      (void)finish(written, what);
      reopen();
    }
  }

  detail::owner_lock<Backend, Waiting> writer_;
  typename Backend::template atomic<std::uint32_t> phase_{0};
  sleepers closing_;          // a writer that waits for readers to go, and readers that wait for a place
  sleepers waiting_readers_;  // for the phase to be open
  detail::owner_slots<Backend, most_readers> readers_;
};

using shared_mutex = basic_shared_mutex<>;

}  // namespace polyproc::inline v0_1
