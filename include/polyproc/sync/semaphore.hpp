/// Semaphores between threads of any number of processes.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/sync/owner_death.hpp>
#include <polyproc/sync/owner_slots.hpp>

#include <limits>
#include <stdexcept>

namespace polyproc::inline v0_1 {

namespace detail {

/// Until take() succeeds (then true) or the deadline has passed. ready(): whether it is worth trying, read sequentially
/// consistently; take(ask): with `ask`, also after the dead.
template <sync_backend Backend, class Waiting, class Take, class Ready>
bool take_until(sleepers<Backend, Waiting>& waiting, time_point deadline, bool wait, std::chrono::milliseconds recheck,
                Take&& take, Ready&& ready) {
  using slept = typename sleepers<Backend, Waiting>::slept;
  pace<Backend> asking{recheck};
  for (bool last = !wait, ask = last, has_slept = false;;) {
    bool const got = take(ask);
    if (got || last) {
      // Woken for something that is not needed after all, or while more came: the next sleeper has a right to it.
      if (has_slept) waiting.pass_on(ready);
      return got;
    }
    auto const s = waiting.sleep(deadline, asking, ready);
    has_slept = true;
    ask = s != slept::woken;
    last = s == slept::late;
  }
}

}  // namespace detail

/// A number of permits; anybody may add to it and take from it. A plain member of a shared object; all-zero bytes are
/// one without permits. For signals: "so many items are there". A permit belongs to nobody, so one that a killed process
/// had taken is gone, as if it had been used; where permits are to come back, use bounded_semaphore.
///
/// The commit of acquire and of release is one atomic operation on the count. A process that is killed after releasing
/// and before waking anybody: sleepers find the permit within half a second. One that is killed while it waits: nothing.
template <class Waiting = waiting::adaptive, sync_backend Backend = native_backend>
class basic_semaphore {
 public:
  constexpr basic_semaphore() noexcept = default;
  /// With `permits` at the beginning.
  constexpr explicit basic_semaphore(std::uint32_t permits) noexcept : count_{permits} {}
  basic_semaphore(basic_semaphore const&) = delete;
  basic_semaphore& operator=(basic_semaphore const&) = delete;

  static constexpr std::uint32_t max() noexcept { return std::numeric_limits<std::uint32_t>::max(); }

  /// Waits for a permit and takes it.
  void acquire() { (void)take(never, true); }
  [[nodiscard]] bool try_acquire() { return take(never, false); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(std::chrono::duration<Rep, Period> wait) {
    return take(detail::deadline_after<Backend>(wait), true);
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_acquire_until(std::chrono::time_point<Clock, Duration> when) {
    return take(detail::deadline_at<Backend>(when), true);
  }

  /// Adds `permits`. Throws std::overflow_error, having added nothing, when there would be more than max().
  void release(std::uint32_t permits = 1) {
    auto seen = count_.load(std::memory_order_relaxed);
    do {
      if (permits > max() - seen)
        throw std::overflow_error("polyproc: a semaphore cannot hold more than 2^32 - 1 permits; is it released more often "
                                  "than acquired?");
    } while (!count_.compare_exchange_weak(seen, seen + permits));
    if (permits == 1)
      waiting_.wake_one();
    else if (permits != 0)
      waiting_.wake_all();
  }

  /// A snapshot; never waits.
  [[nodiscard]] std::uint32_t value() const noexcept { return count_.load(); }

  using polyproc_shareable = void;

 private:
  bool take(time_point deadline, bool wait) {
    return detail::take_until(
        waiting_, deadline, wait, detail::idle_recheck,
        [this](bool) {
          auto seen = count_.load(std::memory_order_relaxed);
          while (seen != 0)
            if (count_.compare_exchange_weak(seen, seen - 1)) return true;
          return false;
        },
        [this] { return count_.load() != 0; });
  }

  typename Backend::template atomic<std::uint32_t> count_{0};
  detail::sleepers<Backend, Waiting> waiting_;
};
using semaphore = basic_semaphore<>;

/// At most so many threads at once (1 to 64): a permit belongs to the thread that acquired it, who must release it
/// itself; to release what one does not hold throws std::system_error (operation_not_permitted). A thread may hold
/// several. A plain member of a shared object.
///
/// The permit of a thread or process that ends, or is killed, comes back: those who wait for one find it within 20 ms.
template <class Waiting = waiting::adaptive, sync_backend Backend = native_backend>
class basic_bounded_semaphore {
 public:
  static constexpr std::uint32_t most_permits = 64;

  /// Throws std::invalid_argument for a number of permits out of range.
  constexpr explicit basic_bounded_semaphore(std::uint32_t permits) : permits_(permits) {
    if (permits == 0 || permits > most_permits)
      throw std::invalid_argument("polyproc: a bounded_semaphore has 1 to 64 permits; for more use semaphore");
  }
  basic_bounded_semaphore(basic_bounded_semaphore const&) = delete;
  basic_bounded_semaphore& operator=(basic_bounded_semaphore const&) = delete;

  [[nodiscard]] std::uint32_t max() const noexcept { return permits_; }

  void acquire() { (void)take(never, true); }
  [[nodiscard]] bool try_acquire() { return take(never, false); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(std::chrono::duration<Rep, Period> wait) {
    return take(detail::deadline_after<Backend>(wait), true);
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_acquire_until(std::chrono::time_point<Clock, Duration> when) {
    return take(detail::deadline_at<Backend>(when), true);
  }
  void release() {
    if (!holders_.give_up(Backend::self(), permits_)) detail::throw_not_holder("release", "bounded semaphore");
    waiting_.wake_one();
  }

  /// Permits that nobody has; those of the dead count as taken until somebody needs them. A snapshot; never waits.
  [[nodiscard]] std::uint32_t value() const noexcept { return permits_ - holders_.taken(permits_); }

  using polyproc_shareable = void;

 private:
  bool take(time_point deadline, bool wait) {
    return detail::take_until(
        waiting_, deadline, wait, detail::holder_recheck,
        [this](bool ask) { return holders_.claim(Backend::self(), permits_, ask); },
        [this] { return holders_.taken(permits_) < permits_; });
  }

  std::uint32_t permits_;
  detail::sleepers<Backend, Waiting> waiting_;
  detail::owner_slots<Backend, most_permits> holders_;
};
using bounded_semaphore = basic_bounded_semaphore<>;

}  // namespace polyproc::inline v0_1
