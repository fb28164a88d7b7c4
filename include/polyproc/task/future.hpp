/// The outcome of something that runs elsewhere: a value, or the exception that ended it.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/sync/waiting.hpp>
#include <polyproc/wire/error.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <variant>

namespace polyproc::inline v0_1 {

/// The task was given up before it ran to its end: its pool was terminated or destroyed.
class task_cancelled : public error {
 public:
  task_cancelled() : error("polyproc: the task was cancelled: its pool was terminated before the task had ended") {}
  using error::error;
};

namespace detail {

template <class T>
using stored_result = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

/// Shared by a future and whoever completes it, in one process. `state` says pending, pending and somebody is parked on
/// it, or done; value and problem are written once, before done.
template <class T, backend Backend>
class outcome {
 public:
  void succeed(stored_result<T>&& value) {
    value_.emplace(std::move(value));
    finish();
  }
  void fail(std::exception_ptr problem) noexcept {
    problem_ = std::move(problem);
    finish();
  }

  [[nodiscard]] bool ready() const noexcept { return state_.load(std::memory_order_acquire) == done; }

  bool wait(time_point deadline) noexcept {
    if (look<Backend>()([this] { return ready(); })) return true;
    for (;;) {
      auto seen = state_.load(std::memory_order_acquire);
      if (seen == done) return true;
      if (deadline != never && Backend::now() >= deadline) return false;
      if (seen == pending && !state_.compare_exchange_strong(seen, parked)) continue;
      Backend::wait(state_, parked, no_later_than<Backend>(deadline, idle_recheck));
    }
  }

  /// For wait_any.
  [[nodiscard]] word_wait<typename Backend::template atomic<std::uint32_t>> announce_wait() noexcept {
    std::uint32_t seen = pending;
    state_.compare_exchange_strong(seen, parked);
    return {&state_, parked};
  }

  stored_result<T> take() {
    if (problem_) std::rethrow_exception(problem_);
    return std::move(*value_);
  }

 private:
  enum : std::uint32_t { pending, parked, done };
  void finish() noexcept {
    if (state_.exchange(done, std::memory_order_acq_rel) == parked) Backend::wake_all(state_);
  }

  typename Backend::template atomic<std::uint32_t> state_{pending};
  std::optional<stored_result<T>> value_;
  std::exception_ptr problem_;
};

}  // namespace detail

/// Move-only; the destructor never waits. One thread at a time.
template <class T, backend Backend = native_backend>
class basic_future {
 public:
  basic_future() = default;
  explicit basic_future(std::shared_ptr<detail::outcome<T, Backend>> from) noexcept : from_(std::move(from)) {}
  basic_future(basic_future&&) noexcept = default;
  basic_future& operator=(basic_future&&) noexcept = default;

  /// Whether get may still be called.
  [[nodiscard]] bool valid() const noexcept { return from_ != nullptr; }
  /// Whether get would return at once.
  [[nodiscard]] bool ready() const { return need().ready(); }

  void wait() const { (void)need().wait(never); }
  /// False when it is not ready at the deadline.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> wait) const {
    return need().wait(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(std::chrono::time_point<Clock, Duration> when) const {
    return need().wait(detail::deadline_at<Backend>(when));
  }

  /// Waits, and gives the value or throws what ended the task: its own exception (as itself where it is a standard type,
  /// else remote_error), worker_lost when its process died, task_cancelled. Once; std::logic_error afterwards.
  T get() {
    need().wait(never);
    auto const from = std::exchange(from_, nullptr);
    if constexpr (std::is_void_v<T>)
      (void)from->take();
    else
      return from->take();
  }

 private:
  friend struct detail::wait_access;
  [[nodiscard]] bool wait_is_over(bool) const { return ready(); }
  [[nodiscard]] auto announce_wait() const { return need().announce_wait(); }

  detail::outcome<T, Backend>& need() const {
    if (!from_)
      throw std::logic_error("polyproc: this future has no outcome to give: it was made empty, moved from, or its value was "
                             "already taken");
    return *from_;
  }
  std::shared_ptr<detail::outcome<T, Backend>> from_;
};

template <class T>
using future = basic_future<T>;

}  // namespace polyproc::inline v0_1
