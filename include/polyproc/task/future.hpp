/// The outcome of something that runs elsewhere: a value, or the exception that ended it.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/task/outcome.hpp>

#include <stdexcept>
#include <tuple>
#include <type_traits>

namespace polyproc::inline v0_1 {

template <class T, backend Backend = native_backend>
class basic_future;
template <class T, backend Backend = native_backend>
class basic_shared_future;
template <class T, backend Backend = native_backend>
class basic_promise;

/// Which side of a future's life somebody stands on who only wants to know how it ended.
template <backend Backend = native_backend>
class basic_completion {
 public:
  explicit basic_completion(std::shared_ptr<detail::outcome_base<Backend>> of) noexcept : of_(std::move(of)) {}
  /// What ended it, or null if it has a value.
  [[nodiscard]] std::exception_ptr exception() const { return of_->problem(); }

 private:
  std::shared_ptr<detail::outcome_base<Backend>> of_;
};

namespace detail {

template <class T, backend Backend>
class outcome;
template <class Future, class F, class T, backend Backend>
auto continue_with(std::shared_ptr<outcome<T, Backend>> const& of, F&& next);
template <class Future>
struct future_awaiter;

template <class T>
inline constexpr bool is_future = false;
template <class T, backend Backend>
inline constexpr bool is_future<basic_future<T, Backend>> = true;

/// What stands behind future and shared_future alike.
template <class T, backend Backend>
class future_face {
 public:
  using value_type = T;

  /// Whether there is an outcome to ask for.
  [[nodiscard]] bool valid() const noexcept { return from_ != nullptr; }
  /// Whether get would return at once. May collect what others have done, and waits for nothing.
  [[nodiscard]] bool ready() const {
    auto& of = need();
    if (!of.ready()) of.glance();
    return of.ready();
  }

  /// May let this thread do what it waits for, or collect what others have done.
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

  /// Waits; what ended it, or null if it has a value. The value stays.
  [[nodiscard]] std::exception_ptr exception() const {
    need().wait(never);
    return from_->problem();
  }

  /// Has it not run, or stops it: true if its outcome will be task_cancelled, at once when it had not begun, else as soon as
  /// it is really gone (see the pools). False if it has its outcome, or comes from something that cannot be stopped.
  bool cancel() const {
    if (need().ready()) return false;
    return from_->cancel();
  }

  /// Calls `call(done)` once it has its outcome, on a thread of the library's though nobody waits; at once, in this thread,
  /// when it has it already. `done` is a shared_future of it (of a type that can only be moved: something with exception()
  /// alone). Any number of calls, in their order; what one lets out goes to stderr and does not keep the others from running.
  template <class Call>
  void on_done(Call&& call) const {
    struct todo final : outcome_base<Backend>::pending_call {
      std::shared_ptr<outcome<T, Backend>> of;
      std::decay_t<Call> target;
      todo(std::shared_ptr<outcome<T, Backend>> from, Call&& given)
          : outcome_base<Backend>::pending_call(false), of(std::move(from)), target(std::forward<Call>(given)) {}
      void run() noexcept override {
        guarded_run<Backend>([this] {
          if constexpr (can_be_copied<stored_result<T>>()) {
            basic_shared_future<T, Backend> const done(of);
            target(done);
          } else {
            basic_completion<Backend> const done(of);
            target(done);
          }
        });
      }
    };
    need().is_looked_at();
    std::unique_ptr<typename outcome_base<Backend>::pending_call> made =
        std::make_unique<todo>(from_, std::forward<Call>(call));
    if (!from_->add(made)) made->run();
  }

 protected:
  future_face() = default;
  explicit future_face(std::shared_ptr<outcome<T, Backend>> from) noexcept : from_(std::move(from)) {}
  future_face(future_face const&) = default;
  future_face(future_face&&) noexcept = default;
  future_face& operator=(future_face const&) = default;
  future_face& operator=(future_face&&) noexcept = default;
  ~future_face() = default;

  outcome<T, Backend>& need() const {
    if (!from_)
      throw std::logic_error("polyproc: this future has no outcome to give: it was made empty, moved from, or its value was "
                             "already taken");
    return *from_;
  }

  std::shared_ptr<outcome<T, Backend>> from_;

 private:
  friend struct wait_access;
  friend struct future_access;
  [[nodiscard]] bool wait_is_over(bool) const { return ready(); }
  [[nodiscard]] auto announce_wait() const { return need().announce_wait(); }
};

/// For the parts of the library that combine futures.
struct future_access {
  template <class T, backend Backend>
  static std::shared_ptr<outcome<T, Backend>> const& outcome_of(future_face<T, Backend> const& f) {
    (void)f.need();
    return f.from_;
  }
  template <class T, backend Backend>
  static std::shared_ptr<outcome<T, Backend>> release(basic_future<T, Backend>& f) {
    (void)f.need();
    return std::exchange(f.from_, nullptr);
  }
  /// run(of) by whoever completes it, at once if that has happened; it takes no time and waits for nothing.
  template <class T, backend Backend, class Run>
  static void when_complete(std::shared_ptr<outcome<T, Backend>> const& of, Run&& run) {
    struct todo final : outcome_base<Backend>::pending_call {
      std::decay_t<Run> target;
      explicit todo(Run&& given) : outcome_base<Backend>::pending_call(true), target(std::forward<Run>(given)) {}
      void run() noexcept override { target(); }
    };
    std::unique_ptr<typename outcome_base<Backend>::pending_call> made = std::make_unique<todo>(std::forward<Run>(run));
    if (!of->add(made)) made->run();
  }
};

/// What a promise completes. One of several who may want to complete it at the same time claims that.
template <class T, backend Backend>
class promised_outcome : public outcome<T, Backend> {
 public:
  [[nodiscard]] bool claim() noexcept { return move_on(completed); }
  [[nodiscard]] bool cancelled() const noexcept { return fate_.load(std::memory_order_acquire) == was_cancelled; }

  /// Called once when it is cancelled; at once if it was. What was depended on is to be cancelled too, for example.
  void on_cancel(callback<> call) {
    {
      std::scoped_lock hold{lock_};
      if (!cancelled()) {
        // What has its outcome is not cancelled any more, and who sees the outcome come forgets the call.
        if (!this->ready()) on_cancel_ = std::move(call);
        return;
      }
    }
    guarded_run<Backend>(call);
  }

  bool cancel() override {
    if (!move_on(was_cancelled)) return false;
    callback<> call;
    bool has_call = false;
    {
      std::scoped_lock hold{lock_};
      has_call = on_cancel_.has_value();
      if (has_call) call = std::move(*std::exchange(on_cancel_, std::nullopt));
    }
    this->fail(std::make_exception_ptr(task_cancelled("polyproc: this future was cancelled")));
    if (has_call) guarded_run<Backend>(call);
    return true;
  }
  /// Nobody needs to be told any more.
  void forget_on_cancel() noexcept {
    std::scoped_lock hold{lock_};
    on_cancel_.reset();
  }

 private:
  // One word, so that whoever cannot complete it any more knows why.
  enum : std::uint8_t { open, completed, was_cancelled };
  [[nodiscard]] bool move_on(std::uint8_t to) noexcept {
    std::uint8_t seen = open;
    return fate_.compare_exchange_strong(seen, to, std::memory_order_acq_rel);
  }
  std::atomic<std::uint8_t> fate_{open};
  std::mutex lock_;
  std::optional<callback<>> on_cancel_;
};

}  // namespace detail

/// Completes a future. Move-only; a promise that is destroyed before it has completed its future completes it with
/// broken_promise. From any thread, but one at a time.
template <class T, backend Backend>
class basic_promise {
 public:
  basic_promise() : to_(std::make_shared<detail::promised_outcome<T, Backend>>()) {}
  basic_promise(basic_promise&&) noexcept = default;
  basic_promise& operator=(basic_promise&& other) noexcept {
    if (this != &other) {
      give_up();
      to_ = std::move(other.to_);
      given_ = std::exchange(other.given_, false);
    }
    return *this;
  }
  ~basic_promise() { give_up(); }

  /// Once; std::logic_error afterwards.
  [[nodiscard]] basic_future<T, Backend> get_future() {
    if (std::exchange(given_, true))
      throw std::logic_error("polyproc: this promise has given its future away already; share() that future where several "
                             "are to see the outcome");
    return basic_future<T, Backend>(need());
  }

  /// Throws std::logic_error when it has completed its future before. What was cancelled meanwhile stays so: then the value
  /// goes nowhere, and the result is false.
  template <class... V>
    requires(std::is_void_v<T> ? sizeof...(V) == 0 : sizeof...(V) == 1)
  bool set_value(V&&... value) {
    detail::stored_result<T> made(std::forward<V>(value)...);
    auto const to = need();  // whoever sees the value may destroy this promise before this function returns
    if (!claim()) return false;
    to->succeed(std::move(made));
    to->forget_on_cancel();
    return true;
  }
  bool set_exception(std::exception_ptr problem) {
    if (!problem) throw std::invalid_argument("polyproc: set_exception was given no exception");
    auto const to = need();
    if (!claim()) return false;
    to->fail(std::move(problem));
    to->forget_on_cancel();
    return true;
  }
  template <class E>
    requires(!std::is_same_v<std::decay_t<E>, std::exception_ptr>)
  bool set_exception(E&& problem) {
    return set_exception(std::make_exception_ptr(std::forward<E>(problem)));
  }

  /// Whether the future was cancelled: then nobody waits for what this promise would give.
  [[nodiscard]] bool cancelled() const { return to_ && to_->cancelled(); }
  /// Calls `call()` when the future is cancelled, in the thread that cancels; at once if it was. The last one given counts.
  template <class Call>
  void on_cancel(Call&& call) {
    need()->on_cancel(detail::callback<>(std::forward<Call>(call)));
  }

 private:
  [[nodiscard]] std::shared_ptr<detail::promised_outcome<T, Backend>> const& need() const {
    if (!to_) throw std::logic_error("polyproc: this promise was moved from");
    return to_;
  }
  bool claim() {
    if (need()->claim()) return true;
    if (to_->cancelled()) return false;
    throw std::logic_error("polyproc: this promise has completed its future already");
  }
  void give_up() noexcept {
    if (to_ && to_->claim()) {
      to_->fail(std::make_exception_ptr(broken_promise()));
      to_->forget_on_cancel();
    }
  }
  std::shared_ptr<detail::promised_outcome<T, Backend>> to_;
  bool given_ = false;
};

/// Copyable; any number of threads may use copies at once.
template <class T, backend Backend>
class basic_shared_future : public detail::future_face<T, Backend> {
 public:
  basic_shared_future() = default;
  explicit basic_shared_future(std::shared_ptr<detail::outcome<T, Backend>> from) noexcept
      : detail::future_face<T, Backend>(std::move(from)) {}

  /// Waits, and gives the value, which stays, or throws what ended the task, each time.
  std::add_lvalue_reference_t<std::add_const_t<T>> get() const {
    this->need().wait(never);
    auto const& value = this->from_->look();
    if constexpr (!std::is_void_v<T>) return value;
  }

  /// As future::then, but this one keeps its outcome: `next` is called with a reference to the value, or with a
  /// shared_future. Cancelling what is given back cancels what it comes from, for all who share it.
  template <class F>
  auto then(F&& next) const {
    return detail::continue_with<basic_shared_future>(detail::future_access::outcome_of<T, Backend>(*this),
                                                      std::forward<F>(next));
  }

  /// co_await f: suspends until it has its outcome, then as get().
  auto operator co_await() const { return detail::future_awaiter<basic_shared_future>{*this}; }
};

namespace detail {

/// What a continuation of a future is given: its value, or the future itself.
template <class Future>
struct continued;
template <class T, backend Backend>
struct continued<basic_future<T, Backend>> {
  using value = T;
  using argument = T;
  using back = Backend;
  static T value_of(outcome<T, Backend>& from) {
    if constexpr (std::is_void_v<T>) (void)from.take();
    else return from.take();
  }
};
template <class T, backend Backend>
struct continued<basic_shared_future<T, Backend>> {
  using value = T;
  using argument = std::add_lvalue_reference_t<T const>;
  using back = Backend;
  static argument value_of(outcome<T, Backend>& from) {
    if constexpr (std::is_void_v<T>) (void)from.look();
    else return from.look();
  }
};

/// Whether it takes the value; else it takes the future.
template <class Future, class F>
consteval bool takes_value() {
  using argument = typename continued<Future>::argument;
  if constexpr (std::is_void_v<argument>) return std::is_invocable_v<F&>;
  else return std::is_invocable_v<F&, argument>;
}
template <class Future, class F>
struct continuation_result {
  static_assert(takes_value<Future, F>() || std::is_invocable_v<F&, Future>,
                "polyproc: what is given to then() must be callable with the future's value (with nothing for future<void>), "
                "or with the future itself, to see its exception");
  static auto probe() {
    using argument = typename continued<Future>::argument;
    if constexpr (!takes_value<Future, F>()) return std::type_identity<std::invoke_result_t<F&, Future>>{};
    else if constexpr (std::is_void_v<argument>) return std::type_identity<std::invoke_result_t<F&>>{};
    else return std::type_identity<std::invoke_result_t<F&, argument>>{};
  }
  using type = std::decay_t<typename decltype(probe())::type>;
};
template <class R>
struct flattened {
  using type = R;
};
template <class R, backend Backend>
struct flattened<basic_future<R, Backend>> {
  using type = R;
};

/// Passes on what one outcome becomes to the promise of another.
template <class R, backend Backend>
void forward_outcome(basic_future<R, Backend> from, std::shared_ptr<basic_promise<R, Backend>> to) {
  auto const of = future_access::release(from);
  to->on_cancel([of] { (void)of->cancel(); });
  future_access::when_complete(of, [of, to] {
    try {
      if (of->problem()) (void)to->set_exception(of->problem());
      else if constexpr (std::is_void_v<R>) (void)to->set_value();
      else (void)to->set_value(of->take());
    } catch (...) {
      (void)to->set_exception(std::current_exception());
    }
  });
}

/// Completes a promise with what run() gives.
template <class Made, class R, backend Backend, class Run>
void settle(std::shared_ptr<basic_promise<R, Backend>> const& to, Run&& run) {
  if constexpr (is_future<Made>) {
    forward_outcome(run(), to);
  } else if constexpr (std::is_void_v<Made>) {
    run();
    (void)to->set_value();
  } else {
    (void)to->set_value(run());
  }
}

/// The future of what `next` makes of another one.
template <class Future, class F, class T, backend Backend>
auto continue_with(std::shared_ptr<outcome<T, Backend>> const& of, F&& next) {
  using target = std::decay_t<F>;
  using made = typename continuation_result<Future, target>::type;
  using result = typename flattened<made>::type;
  auto promise = std::make_shared<basic_promise<result, Backend>>();
  auto after = promise->get_future();
  promise->on_cancel([of] { (void)of->cancel(); });

  struct todo final : outcome_base<Backend>::pending_call {
    std::shared_ptr<outcome<T, Backend>> from;
    std::shared_ptr<basic_promise<result, Backend>> to;
    target what;
    todo(std::shared_ptr<outcome<T, Backend>> f, std::shared_ptr<basic_promise<result, Backend>> t, F&& w)
        : outcome_base<Backend>::pending_call(false), from(std::move(f)), to(std::move(t)), what(std::forward<F>(w)) {}
    void run() noexcept override {
      try {
        if (to->cancelled()) return;
        if constexpr (!takes_value<Future, target>()) {
          settle<made>(to, [this]() -> decltype(auto) { return what(Future(from)); });
        } else if (from->problem()) {
          (void)to->set_exception(from->problem());
        } else if constexpr (std::is_void_v<T>) {
          settle<made>(to, [this]() -> decltype(auto) { return what(); });
        } else {
          settle<made>(to, [this]() -> decltype(auto) { return what(continued<Future>::value_of(*from)); });
        }
      } catch (...) {
        try {
          (void)to->set_exception(std::current_exception());
        } catch (...) {  // it was completed: what was thrown afterwards has nowhere to go
        }
      }
    }
  };
  std::unique_ptr<typename outcome_base<Backend>::pending_call> call =
      std::make_unique<todo>(of, std::move(promise), std::forward<F>(next));
  if (!of->add(call)) call->run();
  return after;
}

/// What a coroutine does with a future that it waits for.
template <class Future>
struct future_awaiter {
  using back = typename continued<Future>::back;
  Future from;

  [[nodiscard]] bool await_ready() const { return from.ready(); }
  /// Not inlined: some compilers keep what is local here in the coroutine's frame, which may be gone before the end.
  template <class Handle>
  [[gnu::noinline]] bool await_suspend(Handle waiting) {
    struct todo final : outcome_base<back>::pending_call {
      Handle to;
      explicit todo(Handle h) noexcept : outcome_base<back>::pending_call(false), to(h) {}
      void run() noexcept override {
        guarded_run<back>([this] { to.resume(); });
      }
    };
    std::unique_ptr<typename outcome_base<back>::pending_call> call = std::make_unique<todo>(waiting);
    auto const kept = future_access::outcome_of(from);  // the coroutine, with this in it, may be gone when add returns
    if constexpr (requires { waiting.promise().waits_for(kept); }) waiting.promise().waits_for(kept);
    return kept->add(call);
  }
  decltype(auto) await_resume() { return from.get(); }
};

}  // namespace detail

/// Move-only; the destructor never waits, and what it stands for goes on. One thread at a time.
template <class T, backend Backend>
class basic_future : public detail::future_face<T, Backend> {
 public:
  basic_future() = default;
  explicit basic_future(std::shared_ptr<detail::outcome<T, Backend>> from) noexcept
      : detail::future_face<T, Backend>(std::move(from)) {}
  basic_future(basic_future const&) = delete;
  basic_future& operator=(basic_future const&) = delete;
  basic_future(basic_future&&) noexcept = default;
  basic_future& operator=(basic_future&&) noexcept = default;
  ~basic_future() = default;

  /// Waits, and gives the value or throws what ended the task: its own exception (as itself where it is a standard type,
  /// else remote_error), worker_lost when its process died, task_cancelled. Once; std::logic_error afterwards.
  T get() {
    this->need().wait(never);
    auto const from = std::exchange(this->from_, nullptr);
    if constexpr (std::is_void_v<T>)
      (void)from->take();
    else
      return from->take();
  }

  /// For several who want to see the outcome. This future is empty afterwards.
  [[nodiscard]] basic_shared_future<T, Backend> share() {
    this->need().is_looked_at();
    return basic_shared_future<T, Backend>(std::exchange(this->from_, nullptr));
  }

  /// What comes after it: `next(value)` (next() after future<void>) runs on a thread of the library's when there is a value,
  /// and the future given back stands for what next gives (where that is a future itself, for that one's outcome). An
  /// exception passes by next and becomes the outcome; but a `next` that takes the future<T> itself is called in each case.
  /// Cancelling what is given back cancels what it comes from. This future is empty afterwards.
  template <class F>
  auto then(F&& next) {
    auto const of = detail::future_access::outcome_of<T, Backend>(*this);
    auto after = detail::continue_with<basic_future>(of, std::forward<F>(next));
    this->from_.reset();
    return after;
  }

  /// co_await f: suspends until it has its outcome, then as get(). The coroutine goes on on a thread of the library's. From a
  /// coroutine of any type.
  auto operator co_await() {
    return detail::future_awaiter<basic_future>{basic_future(detail::future_access::release(*this))};
  }

  /// A function that returns a future may be a coroutine: it runs in the caller up to the first thing it waits for.
  struct promise_type;
};

namespace detail {
struct goes_on_at_once {
  [[nodiscard]] bool await_ready() const noexcept { return true; }
  template <class Handle>
  void await_suspend(Handle) const noexcept {}
  void await_resume() const noexcept {}
};
template <class T, backend Backend>
struct coroutine_result {
  basic_promise<T, Backend> promise;
  template <class V>
  void return_value(V&& value) {
    (void)promise.set_value(std::forward<V>(value));
  }
};
template <backend Backend>
struct coroutine_result<void, Backend> {
  basic_promise<void, Backend> promise;
  void return_void() { (void)promise.set_value(); }
};
}  // namespace detail

template <class T, backend Backend>
struct basic_future<T, Backend>::promise_type : detail::coroutine_result<T, Backend> {
  [[nodiscard]] basic_future get_return_object() { return this->promise.get_future(); }
  [[nodiscard]] detail::goes_on_at_once initial_suspend() const noexcept { return {}; }
  [[nodiscard]] detail::goes_on_at_once final_suspend() const noexcept { return {}; }
  void unhandled_exception() noexcept {
    try {
      (void)this->promise.set_exception(std::current_exception());
    } catch (std::logic_error const&) {  // out of a destructor, after co_return had given the value
    }
  }
  /// Who cancels the coroutine's future cancels what the coroutine waits for.
  template <class U>
  void waits_for(std::shared_ptr<detail::outcome<U, Backend>> const& of) {
    this->promise.on_cancel([of] { (void)of->cancel(); });
  }
};

/// A future that has its outcome already.
template <class T>
[[nodiscard]] basic_future<std::decay_t<T>> make_ready_future(T&& value) {
  basic_promise<std::decay_t<T>> made;
  auto f = made.get_future();
  (void)made.set_value(std::forward<T>(value));
  return f;
}
template <class = void>
[[nodiscard]] basic_future<void> make_ready_future() {
  basic_promise<void> made;
  auto f = made.get_future();
  (void)made.set_value();
  return f;
}

template <class T>
using future = basic_future<T>;
template <class T>
using shared_future = basic_shared_future<T>;
template <class T>
using promise = basic_promise<T>;

}  // namespace polyproc::inline v0_1
