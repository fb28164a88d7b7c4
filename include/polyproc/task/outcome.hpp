/// What a future and whoever completes it share, in one process.
///
/// `state` says pending, pending and somebody is parked on it, or done; in a fork's copy for a moment that it is given up, by
/// the one who is writing that down. Value or problem are written once, before done, by
/// the one who completes it; everybody else reads them after having seen done. What is to run when it is done hangs in a
/// list whose head, once it was taken by the one who completes it, is `closed`: whoever finds that runs his call himself.
#pragma once

#include <polyproc/backend/lasting.hpp>
#include <polyproc/process/dispatcher.hpp>
#include <polyproc/sync/blocking.hpp>
#include <polyproc/sync/waiting.hpp>
#include <polyproc/wire/callable.hpp>
#include <polyproc/wire/error.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <variant>

namespace polyproc::inline v0_1 {

namespace detail {

template <class T>
using stored_result = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

template <backend Backend>
class outcome_base {
 public:
  outcome_base() = default;
  outcome_base(outcome_base const&) = delete;
  outcome_base& operator=(outcome_base const&) = delete;
  virtual ~outcome_base() {
    auto* one = calls_.load(std::memory_order_acquire);
    while (one != nullptr && one != closed()) delete std::exchange(one, one->next);
  }

  [[nodiscard]] bool ready() const noexcept { return state_.load(std::memory_order_acquire) == done; }

  /// Somebody is going to park on the word, or to wait for his call: it has to be completed though nobody asks any more.
  virtual void must_complete() noexcept {}
  /// Somebody asks whether it is ready, and does not wait: what has ended elsewhere is to be collected now, if anything has.
  virtual void glance() noexcept {}
  /// False at the deadline. Who completes it may let the one who waits do some of the work.
  virtual bool wait(time_point deadline) noexcept { return park(deadline); }
  /// False, and it has an outcome now, in a copy that a fork has made of what another process is to complete.
  virtual bool belongs_here() noexcept { return true; }
  /// Whether it was not too late: its outcome will be task_cancelled.
  virtual bool cancel() { return false; }

  /// For wait_any.
  [[nodiscard]] word_wait<typename Backend::template atomic<std::uint32_t>> announce_wait() noexcept {
    must_complete();
    std::uint32_t seen = pending;
    state_.compare_exchange_strong(seen, parked);
    return {&state_, parked};
  }

  /// Something to run when it is done.
  struct pending_call {
    explicit pending_call(bool at_once) noexcept : direct(at_once) {}
    pending_call(pending_call const&) = delete;
    pending_call& operator=(pending_call const&) = delete;
    virtual ~pending_call() = default;
    virtual void run() noexcept = 0;

    pending_call* next = nullptr;
    bool const direct;  // by the one who completes it: takes no time, waits for nothing. Else by the dispatcher's thread.
  };
  /// False when it is done already: the caller has the call still, to be run by himself.
  bool add(std::unique_ptr<pending_call>& what) noexcept {
    (void)belongs_here();
    auto* head = calls_.load(std::memory_order_acquire);
    do {
      if (head == closed()) return false;
      what->next = head;
    } while (!calls_.compare_exchange_weak(head, what.get(), std::memory_order_acq_rel, std::memory_order_acquire));
    (void)what.release();
    must_complete();
    return true;
  }

  /// Not before it is done.
  [[nodiscard]] std::exception_ptr const& problem() const noexcept { return problem_; }

  void fail(std::exception_ptr problem) noexcept {
    problem_ = std::move(problem);
    finish();
  }

  /// Others may look at the value besides the one who takes it: it is to be copied if it can be.
  void is_looked_at() noexcept { looked_at_.store(true, std::memory_order_relaxed); }

 protected:
  bool park(time_point deadline) noexcept {
    if (look<Backend>()([this] { return ready(); })) return true;
    blocking_scope told;
    for (;;) {
      auto seen = state_.load(std::memory_order_acquire);
      if (seen == done) return true;
      if (deadline != never && Backend::now() >= deadline) return false;
      if (seen == pending && !state_.compare_exchange_strong(seen, parked)) continue;
      Backend::wait(state_, parked, no_later_than<Backend>(deadline, idle_recheck));
    }
  }

  void finish() noexcept {
    if (state_.exchange(done, std::memory_order_acq_rel) == parked) Backend::wake_all(state_);
    auto* last_first = calls_.exchange(closed(), std::memory_order_acq_rel);
    if (last_first != nullptr) run_calls(last_first);
  }
  /// In a copy that a fork has made: whoever waits here for the outcome must not wait for ever. The calls are those of the
  /// process that was copied; they are left as they are.
  void give_up_copy(char const* what) noexcept {
    auto seen = state_.load(std::memory_order_acquire);
    for (;;) {
      if (seen == done) return;
      if (seen != given_up && state_.compare_exchange_weak(seen, given_up)) break;
      if (seen == given_up) Backend::yield();  // another thread is about to be done with that
      seen = state_.load(std::memory_order_acquire);
    }
    try {
      problem_ = std::make_exception_ptr(std::logic_error(what));
    } catch (...) {
      problem_ = std::current_exception();
    }
    auto* first = calls_.exchange(closed());
    if (first != nullptr && first != closed()) {
      auto* last = first;
      while (last->next != nullptr) last = last->next;
      last->next = left_alone_.load();
      while (!left_alone_.compare_exchange_weak(last->next, first)) {
      }
    }
    state_.store(done);
  }
  [[nodiscard]] bool looked_at() const noexcept { return looked_at_.load(std::memory_order_relaxed); }

 private:
  enum : std::uint32_t { pending, parked, done, given_up };

  static pending_call* closed() noexcept {
    struct mark final : pending_call {
      mark() noexcept : pending_call(true) {}
      void run() noexcept override {}
    };
    static lasting<mark> const the_mark;
    return &*the_mark;
  }

  /// In the order in which they were added.
  static void run_calls(pending_call* last_first) noexcept {
    pending_call* first = nullptr;
    while (last_first != nullptr) {
      auto* const next = last_first->next;
      last_first->next = first;
      first = last_first;
      last_first = next;
    }
    while (first != nullptr) {
      std::unique_ptr<pending_call> one(std::exchange(first, first->next));
      if (one->direct) run_direct(std::move(one));
      else dispatch(std::move(one));
    }
  }
  /// One that completes the next outcome, whose call completes another: in turn, not one inside the other, however long the
  /// chain is.
  static void run_direct(std::unique_ptr<pending_call> one) noexcept {
    static thread_local pending_call** end = nullptr;  // where the next one hangs, while one runs
    if (end != nullptr) {
      one->next = nullptr;
      *end = one.release();
      end = &(*end)->next;
      return;
    }
    pending_call* rest = nullptr;
    end = &rest;
    one->run();
    one.reset();
    while (rest != nullptr) {
      std::unique_ptr<pending_call> now(rest);
      rest = now->next;
      if (rest == nullptr) end = &rest;
      now->run();
    }
    end = nullptr;
  }
  static void dispatch(std::unique_ptr<pending_call> one) noexcept {
    try {
      auto* const what = one.get();
      dispatcher<Backend>::get().post([what] {
        std::unique_ptr<pending_call> const owned(what);
        owned->run();
      });
      (void)one.release();
      return;
    } catch (...) {  // no thread, or no memory: then by this one
    }
    one->run();
  }

  static constinit inline std::atomic<pending_call*> left_alone_{nullptr};  // so that they can be found, and are no leaks

  typename Backend::template atomic<std::uint32_t> state_{pending};
  std::atomic<bool> looked_at_{false};
  std::atomic<pending_call*> calls_{nullptr};
  std::exception_ptr problem_;
};

template <class T, backend Backend>
class outcome : public outcome_base<Backend> {
 public:
  /// A value that cannot be moved here becomes the exception that said so: whoever waits must not wait for ever.
  void succeed(stored_result<T>&& value) noexcept {
    try {
      value_.emplace(std::move(value));
    } catch (...) {
      return this->fail(std::current_exception());
    }
    this->finish();
  }

  /// Once, by the one who has the future: the value, or throws the problem.
  stored_result<T> take() {
    if (this->problem()) std::rethrow_exception(this->problem());
    if constexpr (can_be_copied<stored_result<T>>()) {
      if (this->looked_at()) return *value_;
    }
    return std::move(*value_);
  }
  [[nodiscard]] stored_result<T> const& look() const {
    if (this->problem()) std::rethrow_exception(this->problem());
    return *value_;
  }

 private:
  std::optional<stored_result<T>> value_;
};

}  // namespace detail
}  // namespace polyproc::inline v0_1
