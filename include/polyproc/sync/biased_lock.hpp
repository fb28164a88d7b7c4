/// A lock for one end of a queue, which mostly one thread uses: for that one, its favourite, entering and leaving take no
/// atomic read-modify-write, which is what makes a queue with one producer and one consumer as fast as a bare ring.
///
/// Below lies an owner_lock, which everybody can take in the usual way. Who has taken it often enough without anybody else
/// in between becomes the favourite, until somebody else wants in.
///
///   favourite   identity of the favourite << 2 | its seat; 0: none         seats   who, busy: one for each favourite
///   current     that seat + 1, until its favourite is known to be outside
///
/// Who may write what. The holder of the lock writes current, makes a favourite, gives away seats; favourite is set to 0
/// by anybody (dismissal). A seat's busy is written by the thread whose seat it is, and by nobody else while that one
/// lives: so a thread that is on its way into a seat that was its own, long after it was dismissed, disturbs nobody. A
/// seat is given to another thread only when its own has ended. If there is none to give, there is no favourite.
///
/// The favourite enters: writes busy, then looks whether it is still the favourite (else it leaves at once). One who
/// dismisses: sets favourite to 0, then looks at busy. A light fence between the two on the one side and a heavy one on
/// the other see to it that at least one sees what the other wrote: so either the favourite does not come in, or it is
/// waited for. It leaves by clearing busy and then looks at favourite again, in the same way: so either the one who
/// waits sees that it has left, or it sees that it was dismissed, and wakes.
///
/// Dismissal by the holder of the lock ends with current = 0 when the favourite is outside, or has died: inside, then what
/// the lock guards may be half changed, as with a dead holder. Each dismissal doubles what it takes to become the favourite.
///
/// What a death leaves. The favourite: a seat with a dead identity. The holder while it makes a favourite or dismisses one:
/// a dirty lock, and current as long as anybody may be inside; the next holder begins anew. One who is stopped inside
/// holds up those who want in, as a holder of the lock does, and their deadlines hold.
#pragma once

#include <polyproc/sync/owner_lock.hpp>

namespace polyproc::inline v0_1::detail {

/// So many times in succession make a favourite, for a start.
template <class Backend>
inline constexpr std::uint32_t favourite_after = 32;

/// Where a favourite in this process was dismissed by another process, and then another thread of this one has the lock, it
/// is the other process that orders the two: the thread sanitizer, which looks at one process, is told what it cannot see.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool is_thread_sanitized = true;
#elif defined(__has_feature)
inline constexpr bool is_thread_sanitized = __has_feature(thread_sanitizer);
#else
inline constexpr bool is_thread_sanitized = false;
#endif

template <sync_backend Backend, class Waiting = waiting::adaptive>
class biased_lock {
  template <class T>
  using atomic = typename Backend::template atomic<T>;

 public:
  /// The favourite's stay inside; nothing for anybody else.
  class favoured {
   public:
    [[gnu::always_inline]] explicit favoured(biased_lock& lock) noexcept {
      auto const word = lock.favourite_.load(std::memory_order_relaxed);
      if (word >> seat_bits != Backend::self()) return;
      lock.seats_[word & seat_mask].busy.store(1, std::memory_order_relaxed);
      Backend::light_fence();
      lock_ = &lock;
      word_ = word;
      if (lock.favourite_.load(std::memory_order_relaxed) != word) leave();
    }
    favoured(favoured const&) = delete;
    favoured& operator=(favoured const&) = delete;
    [[gnu::always_inline]] ~favoured() {
      if (lock_ != nullptr) leave();
    }
    explicit operator bool() const noexcept { return lock_ != nullptr; }

    /// False if it was dismissed meanwhile. What the caller loads after this, it loads after it has left.
    [[gnu::always_inline]] bool leave() noexcept {
      auto& l = *std::exchange(lock_, nullptr);
      l.seats_[word_ & seat_mask].busy.store(0, std::memory_order_release);
      Backend::light_fence();
      if (l.favourite_.load(std::memory_order_relaxed) == word_) return true;
      l.tell();
      return false;
    }

   private:
    biased_lock* lock_ = nullptr;
    std::uint64_t word_ = 0;
  };

  // --- in the usual way, as owner_lock

  lock_outcome lock_until(time_point deadline) noexcept {
    auto const outcome = lock_.lock_until(deadline);
    if (outcome == lock_outcome::not_locked || outcome == lock_outcome::already_mine) return outcome;
    if constexpr (is_thread_sanitized) {
      for (auto const& s : seats_) (void)s.busy.load(std::memory_order_acquire);
    }
    auto const current = current_.load(std::memory_order_relaxed);
    if (current == 0) return outcome;
    auto& its = seats_[current - 1];
    if (its.who.load(std::memory_order_relaxed) == Backend::self()) {  // who is here, and not inside
      if (favourite_.load(std::memory_order_relaxed) == 0) dismissed();
      return outcome;
    }
    favourite_.store(0);
    Backend::heavy_fence();
    auto const end = await(its, deadline);
    if (end == stay::goes_on) {
      lock_.unlock();
      return lock_outcome::not_locked;
    }
    if (end == stay::died) its.busy.store(0, std::memory_order_relaxed);
    dismissed();
    return end == stay::died ? lock_outcome::locked_dirty : outcome;
  }
  bool unlock() noexcept { return lock_.unlock(); }
  void mark_clean() noexcept { lock_.mark_clean(); }

  /// The holder has been at work. True: now it is the favourite.
  bool favour() noexcept {
    auto const me = Backend::self();
    if (last_ != me) {
      last_ = me;
      streak_ = 0;
    }
    if (++streak_ < std::uint64_t{favourite_after<Backend>} << std::min(dismissals_, most_doublings)) return false;
    streak_ = 0;
    if (current_.load(std::memory_order_relaxed) != 0 || !Backend::has_light_fences()) return false;
    for (std::uint32_t i = 0; i < seats; ++i) {
      auto& s = seats_[i];
      auto const who = s.who.load(std::memory_order_relaxed);
      if (who != me && who != 0 && Backend::alive(who)) continue;
      s.busy.store(0, std::memory_order_relaxed);  // a dead one may have been on its way in
      s.who.store(me, std::memory_order_relaxed);
      current_.store(i + 1);
      favourite_.store(me << seat_bits | i);
      Backend::heavy_fence();
      return true;
    }
    return false;
  }
  /// The holder does without it.
  void withdraw() noexcept {
    favourite_.store(0);
    current_.store(0);
  }

  // --- for anybody, without the lock

  /// Whether light fences stand on this end, so that who sleeps on it needs a heavy one. Sequentially consistent.
  [[nodiscard]] bool has_favourite() const noexcept { return current_.load() != 0; }
  /// Dismisses the favourite. True if there is none inside: then, as long as none is made, only holders of the lock are.
  bool dismiss() noexcept {
    auto const current = current_.load();
    if (current == 0) return true;
    favourite_.store(0);
    Backend::heavy_fence();
    auto& its = seats_[current - 1];
    return its.busy.load(std::memory_order_acquire) == 0 || !Backend::alive(its.who.load(std::memory_order_relaxed));
  }

 private:
  static constexpr unsigned seats = 3;
  static constexpr int seat_bits = 2;
  static constexpr std::uint64_t seat_mask = 3;
  static constexpr std::uint32_t most_doublings = 20;
  struct seat {
    atomic<std::uint64_t> who;
    atomic<std::uint64_t> busy;
  };

  /// The one who was dismissed has left.
  [[gnu::noinline]] void tell() noexcept {
    left_.fetch_add(1);
    if constexpr (Waiting::parks) Backend::wake_all(left_);
  }
  void dismissed() noexcept {
    ++dismissals_;
    current_.store(0);
  }

  enum class stay : std::uint8_t { over, died, goes_on };
  /// How the stay of the one in this seat, who was dismissed, has ended; goes_on: it had not at the deadline.
  stay await(seat& its, time_point deadline) noexcept {
    auto const outside = [&] { return its.busy.load(std::memory_order_acquire) == 0; };
    // Inside still when it has certainly ended: it died there.
    auto const died = [&] { return !Backend::alive(its.who.load(std::memory_order_relaxed)) && !outside(); };
    pace<Backend> asking{holder_recheck};
    for (;;) {
      if (Waiting::template look<Backend>(outside)) return stay::over;
      auto const turn = left_.load(std::memory_order_acquire);
      bool const late = deadline != never && Backend::now() >= deadline;
      if (outside()) return stay::over;
      if (late) return died() ? stay::died : stay::goes_on;
      Waiting::template park<Backend>(left_, turn, std::min(deadline, asking.next()));
      if (asking.due() && died()) return stay::died;
    }
  }

  owner_lock<Backend, Waiting> lock_;
  std::uint64_t last_ = 0;        // who was at work last
  std::uint32_t streak_ = 0;      // how often in succession
  std::uint32_t dismissals_ = 0;
  alignas(64) atomic<std::uint64_t> favourite_{0};
  atomic<std::uint32_t> current_{0};
  atomic<std::uint32_t> left_{0};
  seat seats_[seats]{};
};

}  // namespace polyproc::inline v0_1::detail
