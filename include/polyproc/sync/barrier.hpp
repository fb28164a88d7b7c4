/// A place where a fixed number of threads wait for each other, again and again.
///
///   phase: [ resets : 31 | number : 32 | broken : 1 ]
///   member: [ identity : 62 | left : 1 ], and the number of the phase it arrived in, plus 1
///
/// Who may write what: a thread becomes a member by a compare-exchange of a free place; only it writes its arrival, and
/// `left`, which counts as an arrival in every phase. When all places are taken and all have arrived, anybody who sees it
/// may compare-exchange the phase to the next number: the commit, after which those who wait go on. A phase is broken by a
/// compare-exchange as well, so it is completed or broken, never both. reset() frees the places of a broken barrier, then
/// counts resets and goes on to the next number: so one who waited can tell it from the end of its phase, and what a
/// member writes that has not yet seen it is no arrival in any later phase.
///
/// What a death leaves: before it took a place: nothing (then the others cannot know that it was to come). A member that
/// had not arrived: its place; those who wait ask after all members every holder_recheck and break the phase. A member
/// that had arrived: its arrival, which counts; the next phase is broken. One that completed the phase and woke nobody:
/// sleepers find out at their next look. One that was to complete it: another does.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/sync/owner_death.hpp>

#include <stdexcept>

namespace polyproc::inline v0_1 {

/// A plain member of a shared object, for 1 to 64 threads. A thread is a member from its first arrival (or join()) until it
/// drops out (arrive_and_drop) or reset() is called. A barrier that lost a member (it ended, was killed, or gave up waiting) is
/// broken: all who wait or arrive get broken_barrier, until reset().
template <class Waiting = waiting::adaptive, sync_backend Backend = native_backend>
class basic_barrier {
 public:
  static constexpr std::uint32_t most_parties = 64;

  /// Throws std::invalid_argument for a number out of range.
  constexpr explicit basic_barrier(std::uint32_t parties) : parties_(parties) {
    if (parties == 0 || parties > most_parties)
      throw std::invalid_argument("polyproc: a barrier is for 1 to 64 threads");
  }
  basic_barrier(basic_barrier const&) = delete;
  basic_barrier& operator=(basic_barrier const&) = delete;

  [[nodiscard]] std::uint32_t parties() const noexcept { return parties_; }

  /// Makes the caller a member before its first arrival, so that its death is noticed from now on. Does nothing for one
  /// that is. Throws as arrive_and_wait.
  void join() {
    auto const phase = phase_.load();
    if ((phase & broken_bit) != 0) throw broken_barrier();
    (void)place_of(Backend::self() << 1, phase);
  }

  /// Arrives, and waits until all have. The number of the caller's place, 0 to parties - 1, different for each member.
  /// Throws broken_barrier; std::logic_error when all places belong to other (living) threads.
  std::uint32_t arrive_and_wait() { return *arrive(never, true); }
  /// Nothing when the deadline came first; the barrier is broken then, since an arrival cannot be taken back.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<std::uint32_t> arrive_and_wait_for(std::chrono::duration<Rep, Period> wait) {
    return arrive(detail::deadline_after<Backend>(wait), true);
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<std::uint32_t> arrive_and_wait_until(std::chrono::time_point<Clock, Duration> when) {
    return arrive(detail::deadline_at<Backend>(when), true);
  }
  /// Counts as arrived, in this phase and all to come; does not wait.
  void arrive_and_drop() { (void)arrive(never, false); }

  [[nodiscard]] bool is_broken() const noexcept { return (phase_.load() & broken_bit) != 0; }
  /// Breaks it: whoever waits or arrives gets broken_barrier. For a member that cannot go on.
  void abort() noexcept {
    auto phase = phase_.load();
    while ((phase & broken_bit) == 0 && !phase_.compare_exchange_weak(phase, phase | broken_bit)) {
    }
    waiting_.wake_all();
  }
  /// A barrier as new, without members. Those who wait get broken_barrier.
  void reset() noexcept {
    abort();
    for (std::uint32_t i = 0; i < parties_; ++i) members_[i].store(0);
    auto phase = phase_.load();
    while ((phase & broken_bit) != 0 && !phase_.compare_exchange_weak(phase, next(phase & ~broken_bit) + one_reset)) {
    }
    waiting_.wake_all();
  }

  using polyproc_shareable = void;

 private:
  static constexpr std::uint64_t broken_bit = 1;
  static constexpr std::uint64_t one_phase = 2;
  static constexpr std::uint64_t one_reset = one_phase << 32;
  static constexpr std::uint64_t left_bit = 1;
  using slept = typename detail::sleepers<Backend, Waiting>::slept;

  /// Never 0.
  static constexpr std::uint32_t arrival(std::uint64_t phase) noexcept {
    return static_cast<std::uint32_t>(phase / one_phase % 0xffffffffU) + 1;
  }
  static constexpr std::uint64_t next(std::uint64_t phase) noexcept {
    return (phase & ~(one_reset - 1)) | ((phase + one_phase) & (one_reset - 1));
  }

  std::optional<std::uint32_t> arrive(time_point deadline, bool wait) {
    auto const phase = phase_.load();
    if ((phase & broken_bit) != 0) throw broken_barrier();
    auto const me = Backend::self() << 1;
    auto place = place_of(me, phase);
    if (!wait) {
      auto mine = me;
      members_[place].compare_exchange_strong(mine, me | left_bit);
      complete(phase);
      return place;
    }
    arrived_[place].store(arrival(phase));
    detail::pace<Backend> asking{detail::holder_recheck};
    for (slept s = slept::woken;;) {
      // Of two resets at once the slower one may free a place that was taken after the faster one.
      if (phase_.load() == phase && members_[place].load() != me) {
        place = place_of(me, phase);
        arrived_[place].store(arrival(phase));
      }
      complete(phase);
      if (s != slept::woken && somebody_is_missing(phase)) break_up(phase);
      if (s == slept::late) break_up(phase);
      auto const now = phase_.load();
      if ((now & ~broken_bit) == next(phase)) return place;  // if broken, then after our phase
      if (now == (phase | broken_bit)) {
        if (s == slept::late) return std::nullopt;
        throw broken_barrier();
      }
      if (now != phase) {
        // A reset. If it came before we joined, the place is ours again, and somebody else's to take.
        auto mine = me;
        members_[place].compare_exchange_strong(mine, 0);
        throw broken_barrier();
      }
      s = waiting_.sleep(deadline, asking, [&] { return phase_.load() != phase; });
    }
  }

  /// The caller's place.
  std::uint32_t place_of(std::uint64_t me, std::uint64_t phase) {
    for (std::uint32_t i = 0; i < parties_; ++i)
      if ((members_[i].load(std::memory_order_relaxed) & ~left_bit) == me) {
        members_[i].store(me);  // one that had dropped out comes back
        return i;
      }
    for (std::uint32_t i = 0; i < parties_; ++i) {
      std::uint64_t nobody = 0;
      if (members_[i].compare_exchange_strong(nobody, me)) return i;
    }
    for (std::uint32_t i = 0; i < parties_; ++i)
      if (auto const m = members_[i].load(); m != 0 && (m & left_bit) == 0 && !Backend::alive(m >> 1) && members_[i].load() == m)
        break_up(phase);
    if (phase_.load() != phase) throw broken_barrier();
    throw std::logic_error("polyproc: more threads arrive at this barrier than it was made for; a member that leaves calls "
                           "arrive_and_drop, and reset() makes room for others");
  }

  [[nodiscard]] bool has_arrived(std::uint32_t i, std::uint64_t member, std::uint64_t phase) const noexcept {
    return (member & left_bit) != 0 || arrived_[i].load() == arrival(phase);
  }
  void complete(std::uint64_t phase) noexcept {
    for (std::uint32_t i = 0; i < parties_; ++i)
      if (auto const m = members_[i].load(); m == 0 || !has_arrived(i, m, phase)) return;
    if (phase_.compare_exchange_strong(phase, next(phase))) waiting_.wake_all();
  }
  [[nodiscard]] bool somebody_is_missing(std::uint64_t phase) const noexcept {
    for (std::uint32_t i = 0; i < parties_; ++i) {
      auto const m = members_[i].load();
      if (m == 0 || has_arrived(i, m, phase) || Backend::alive(m >> 1)) continue;
      // It may have arrived, or dropped out, and then come to its end, since we looked.
      if (members_[i].load() == m && !has_arrived(i, m, phase)) return true;
    }
    return false;
  }
  void break_up(std::uint64_t phase) noexcept {
    if (phase_.compare_exchange_strong(phase, phase | broken_bit)) waiting_.wake_all();
  }

  std::uint32_t parties_;
  typename Backend::template atomic<std::uint64_t> phase_{0};
  detail::sleepers<Backend, Waiting> waiting_;
  typename Backend::template atomic<std::uint64_t> members_[most_parties]{};
  typename Backend::template atomic<std::uint32_t> arrived_[most_parties]{};
};
using barrier = basic_barrier<>;

}  // namespace polyproc::inline v0_1
