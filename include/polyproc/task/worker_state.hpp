/// What a worker of a pool keeps between its tasks, and what prepares it.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/backend/thread_own.hpp>
#include <polyproc/process/callback.hpp>
#include <polyproc/wire/callable.hpp>
#include <polyproc/wire/codec.hpp>

#include <memory>
#include <stdexcept>
#include <tuple>

namespace polyproc::inline v0_1 {

namespace detail {

/// Of the calling thread, if it is a worker.
struct own_worker {
  std::uint32_t number = 0;  // 0: none
  std::shared_ptr<void> state;
  void const* state_type = nullptr;
};
inline own_worker& this_threads_worker() noexcept {
  return thread_own<own_worker>();
}
template <class T>
inline constexpr char type_mark = 0;

/// Runs an initializer and keeps what it gives.
template <class Run>
void keep_state(Run&& run) {
  using given = std::invoke_result_t<Run>;
  if constexpr (std::is_void_v<given>) {
    run();
  } else {
    auto& mine = this_threads_worker();
    mine.state = std::make_shared<std::decay_t<given>>(run());
    mine.state_type = &type_mark<std::decay_t<given>>;
  }
}

/// The initializer of a pool of processes, whose types only it knows.
struct initializer_call {
  initializer_call() = default;
  initializer_call(initializer_call const&) = delete;
  initializer_call& operator=(initializer_call const&) = delete;
  virtual ~initializer_call() = default;
  virtual void run() = 0;
  virtual void write(writer& out) const = 0;
};
template <backend Backend, class F, class Kept>
struct typed_initializer final : initializer_call {
  F target;
  Kept parameters;
  typed_initializer(F f, Kept p) : target(std::move(f)), parameters(std::move(p)) {}
  void run() override {
    keep_state([this]() -> decltype(auto) { return invoke_call(target, parameters, true); });
  }
  void write(writer& out) const override {
    write_function<Backend>(out, &read);
    if constexpr (plain_function<F>) write_function<Backend>(out, target);
    else encode(out, target);
    encode(out, parameters);
  }
  static std::shared_ptr<initializer_call> read(reader& in) {
    auto f = [&] {
      if constexpr (plain_function<F>) return read_function<Backend, std::remove_pointer_t<F>>(in);
      else return decode<F>(in);
    }();
    auto p = decode<Kept>(in);
    return std::make_shared<typed_initializer>(std::move(f), std::move(p));
  }
};

}  // namespace detail

/// A function with arguments that each worker of a process_pool runs before its first task. What it returns, if anything, is the
/// worker's state: this_worker::state<T>(). If it throws, the tasks that wait get that exception.
///
///     process_pool pool({.workers = 4, .initializer = {load_model, "model.bin"}});
template <backend Backend = native_backend>
class basic_pool_initializer {
 public:
  basic_pool_initializer() = default;
  /// What may be run in a process. The arguments become the target's parameter types here.
  template <class F, class... Args>
    requires(!std::is_same_v<std::decay_t<F>, basic_pool_initializer>)
  basic_pool_initializer(F&& target, Args&&... args) {  // NOLINT: without `explicit` for the sake of braces
    using f = std::decay_t<F>;
    using kept = call_parameters_t<F, Args...>;
    call_ = std::make_shared<detail::typed_initializer<Backend, f, kept>>(
        std::forward<F>(target), detail::convert_arguments<kept>(std::forward<Args>(args)...));
  }

  explicit operator bool() const noexcept { return call_ != nullptr; }
  void run() const {
    if (call_) call_->run();
  }

 private:
  friend codec<basic_pool_initializer>;
  std::shared_ptr<detail::initializer_call> call_;
};

template <backend Backend>
struct codec<basic_pool_initializer<Backend>> {
  using initializer = basic_pool_initializer<Backend>;
  static void write(writer& out, initializer const& value) {
    encode(out, value.call_ != nullptr);
    if (value.call_) value.call_->write(out);
  }
  static initializer read(reader& in) {
    initializer made;
    if (decode<bool>(in)) made.call_ = detail::read_function<Backend, std::shared_ptr<detail::initializer_call>(reader&)>(in)(in);
    return made;
  }
};

using pool_initializer = basic_pool_initializer<>;

/// The same for a thread_pool: anything that can be called, with copies of its arguments in each thread.
class thread_initializer {
 public:
  thread_initializer() = default;
  template <class F, class... Args>
    requires(!std::is_same_v<std::decay_t<F>, thread_initializer>)
  thread_initializer(F&& target, Args&&... args)  // NOLINT: without `explicit` for the sake of braces
      : run_([kept = std::make_tuple(std::forward<F>(target), std::forward<Args>(args)...)] {
          detail::keep_state([&]() -> decltype(auto) {
            return std::apply([](auto f, auto... each) -> decltype(auto) { return f(std::move(each)...); }, kept);
          });
        }) {}

  explicit operator bool() const noexcept { return static_cast<bool>(run_); }
  void run() { run_(); }

 private:
  detail::callback<> run_;
};

/// For tasks of a pool, of processes or of threads.
namespace this_worker {

/// 1 to the number of the pool's workers; 0 outside of a task.
[[nodiscard]] inline std::size_t number() noexcept { return detail::this_threads_worker().number; }

/// What the pool's initializer returned in this worker; tasks may change it. Throws std::logic_error when it returned nothing, or
/// something of another type.
template <class T>
[[nodiscard]] T& state() {
  auto& mine = detail::this_threads_worker();
  if (mine.state_type != &detail::type_mark<T>)
    throw std::logic_error(mine.state_type == nullptr
                               ? "polyproc: this_worker::state: there is none; give the pool an .initializer that returns it, "
                                 "and ask in a task"
                               : "polyproc: this_worker::state was asked for another type than the pool's initializer returned");
  return *static_cast<T*>(mine.state.get());
}

}  // namespace this_worker
}  // namespace polyproc::inline v0_1
