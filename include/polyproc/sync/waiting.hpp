/// How to wait: policies, and the sleepers that locks and queues are made of.
#pragma once

#include <polyproc/backend/concept.hpp>

namespace polyproc::inline v0_1 {

namespace detail {

/// What wait_any asks of the things it waits for.
struct wait_access;

/// A sleeper behind something that somebody holds looks again at least this often, because its holder may have
/// died, or the one who was woken instead of it.
inline constexpr std::chrono::milliseconds holder_recheck{5};

/// A sleeper that waits for something to come (an item, a task) looks again at least this often: the one who
/// brought it may have died between bringing it and waking.
inline constexpr std::chrono::milliseconds idle_recheck{500};

/// Looking a few times with a yield between the looks, then parking, is 5 to 30 times faster than parking at once when
/// the other side is awake; and it burns time when it is not. So the number of looks follows what has paid off: it grows
/// while looking succeeds and falls to almost nothing while it does not (an idle consumer, or one processor shared by
/// both sides).
template <sync_backend Backend>
class adaptive_look {
 public:
  /// Calls ready() until it is true or the looks are used up; its last value.
  template <class Ready>
  bool operator()(Ready&& ready) {
    int const budget = looks_ > 0 ? looks_ : probe();
    for (int i = 0; i < budget; ++i) {
      if (ready()) {
        looks_ = std::min(most_looks, std::max(looks_ + looks_ / 4, 2 * i) + 8);
        return true;
      }
      Backend::yield();
    }
    looks_ /= 2;
    return ready();
  }

 private:
  /// Now and then, to find out whether looking would pay off again; sometimes for as long as it takes to wake somebody: two
  /// who both sleep until the other one wakes them would not find out otherwise.
  int probe() noexcept {
    ++idle_;
    return idle_ % (4 * probe_every) == 0 ? most_looks : idle_ % probe_every == 0 ? probe_looks : 0;
  }

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

}  // namespace detail

/// How a thread waits for what is not there yet: a policy of every lock.
namespace waiting {

/// Parks at once: costs no processor time, and a wake of the kernel's (some 5 to 15 microseconds) each time.
struct block {
  template <sync_backend, class Ready>
  static bool look(Ready&& ready) {
    return ready();
  }
  template <sync_backend Backend>
  static void park(typename Backend::template atomic<std::uint32_t> const& word, std::uint32_t seen, time_point until) {
    Backend::wait(word, seen, until);
  }
  static constexpr bool parks = true;
};

/// Looks for as long as that has paid off lately, then parks. The default.
struct adaptive : block {
  template <sync_backend Backend, class Ready>
  static bool look(Ready&& ready) {
    return detail::look<Backend>()(ready);
  }
};

/// Never parks; gives way to others between looks. For threads that have a processor each and wait for very short
/// times. All who use the same lock do so.
struct spin {
  template <sync_backend, class Ready>
  static bool look(Ready&& ready) {
    return ready();
  }
  template <sync_backend Backend>
  static void park(typename Backend::template atomic<std::uint32_t> const& word, std::uint32_t seen, time_point until) {
    while (word.load(std::memory_order_acquire) == seen && Backend::now() < until) Backend::yield();
  }
  static constexpr bool parks = false;
};

}  // namespace waiting

namespace detail {

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

/// When it is time to ask whether somebody has died, for one who may be woken often and for nothing meanwhile.
template <sync_backend Backend>
class pace {
 public:
  explicit pace(std::chrono::milliseconds every) noexcept : every_(every) {}
  /// The first time is counted from the first call: one who need not sleep does not look at the clock.
  [[nodiscard]] time_point next() noexcept {
    if (next_ == time_point{}) next_ = Backend::now() + every_;
    return next_;
  }
  /// Whether it is; then not again before that time has passed once more.
  bool due() noexcept {
    auto const now = Backend::now();
    if (now < next_) return false;
    next_ = now + every_;
    return true;
  }

 private:
  std::chrono::milliseconds every_;
  time_point next_{};
};

/// Those who wait until something is so, with nothing in shared memory that the death of one of them could break.
///
/// Protocol. A sleeper reads `turn`, sets `asleep`, looks again whether it may go on, and parks on the value of `turn` it
/// read. A waker makes the thing so, and if it finds `asleep` set clears it, adds one to `turn` and wakes. Both look at
/// the other's word after having written their own, all in the one order of sequentially consistent accesses: so either
/// the waker sees `asleep`, or the sleeper sees that the thing is so. A waker that saw `asleep` has changed `turn`
/// after the sleeper read it (the park returns at once), or the sleeper set it for the next waker.
///
/// wake_all: whoever goes back to sleep sets `asleep` again. wake_one: `asleep` is clear although others may still sleep,
/// and wakers in that time wake nobody; so the one that was woken sets it again when it is done (pass_on), and wakes the
/// next one if there is something left for it.
///
/// What a death leaves: a sleeper: `asleep`, which costs the next waker one call. A waker between its change and the wake,
/// or one that was woken and had to pass on: sleepers that find out when they look again.
template <sync_backend Backend, class Waiting = waiting::block>
class sleepers {
 public:
  /// Whether wake_all would wake anybody.
  [[nodiscard]] bool any_asleep() const noexcept { return asleep_.load() != 0; }
  void wake_all() noexcept {
    if (!any_asleep()) return;
    asleep_.store(0);
    turn_.fetch_add(1);
    if constexpr (Waiting::parks) Backend::wake_all(turn_);
  }

  /// Whether somebody may be asleep whom nobody has woken yet.
  [[nodiscard]] bool any() const noexcept { return asleep_.load() != 0; }

  void wake_one() noexcept {
    if (asleep_.load() == 0 || asleep_.exchange(0) == 0) return;
    turn_.fetch_add(1);
    if constexpr (Waiting::parks) Backend::wake_one(turn_);
  }
  /// For one that has slept since the last wake_one, when it is done; `more`: whether the next one could go on.
  template <class More>
  void pass_on(More&& more) noexcept {
    asleep_.store(1);
    if (more()) wake_one();
  }

  /// For one who is going to park on several words: the one of these sleepers, and the value with which to park, unless what
  /// it waits for is so when it looks after this call.
  [[nodiscard]] word_wait<typename Backend::template atomic<std::uint32_t>> announce() noexcept {
    auto const turn = turn_.load();
    asleep_.store(1);
    return {&turn_, turn};
  }

  enum class slept : std::uint8_t {
    woken,  ///< Or for no reason: look again.
    long_,  ///< It is time to ask whether somebody has died.
    late,   ///< The deadline has passed; ready() was false after that.
  };
  /// Sleeps, unless ready() is true, until woken, until it is time to ask, or until the deadline. ready() must read what it
  /// looks at with sequentially consistent loads. fence() is called between the sleeper's word and its look, for the case
  /// that wakers have only a light fence between the two.
  template <class Ready>
  slept sleep(time_point deadline, pace<Backend>& asking, Ready&& ready) {
    return sleep(deadline, asking, ready, [] {});
  }
  template <class Ready, class Fence>
  slept sleep(time_point deadline, pace<Backend>& asking, Ready&& ready, Fence&& fence) {
    if (Waiting::template look<Backend>(ready)) return slept::woken;
    auto const turn = turn_.load();
    asleep_.store(1);
    fence();
    bool const late = deadline != never && Backend::now() >= deadline;
    if (ready()) return slept::woken;
    if (late) return slept::late;
    Waiting::template park<Backend>(turn_, turn, std::min(deadline, asking.next()));
    return asking.due() ? slept::long_ : slept::woken;
  }

 private:
  typename Backend::template atomic<std::uint32_t> asleep_{0};
  typename Backend::template atomic<std::uint32_t> turn_{0};
};

}  // namespace detail
}  // namespace polyproc::inline v0_1
