/// A call in a process of its own, and a future for what it gives.
#pragma once

#include <polyproc/task/answer.hpp>
#include <polyproc/task/future.hpp>

namespace polyproc::inline v0_1 {
namespace detail {

template <class T, backend Backend>
class answered_outcome final : public outcome<T, Backend> {
 public:
  template <class F, class Kept>
  answered_outcome(process_options options, F const& target, Kept&& arguments)
      : slot_(std::in_place), process_(answering_process(std::move(options), *slot_, target, std::move(arguments))) {}

  /// Throws what process::start throws; then it is gone.
  void start(std::shared_ptr<answered_outcome> const& self) {
    process_.start(typename basic_process<Backend>::as_worker{});
    process_.on_exit_directly([self](exit_status const& status) { self->ended(status); });
  }

  bool cancel() override {
    std::uint32_t seen = open;
    if (!fate_.compare_exchange_strong(seen, cancelled)) return seen == cancelled;
    try {
      process_.kill_tree();
    } catch (...) {  // something that it has started may not be ended by this user, or there is no memory to look for it
      process_.kill();
    }
    return true;
  }

 private:
  enum : std::uint32_t { open, cancelled, over };

  void ended(exit_status const& status) noexcept {
    bool const was_cancelled = fate_.exchange(over) == cancelled;
    std::exception_ptr problem;
    std::optional<stored_result<T>> value;
    try {
      // Also when it was cancelled: what an answer holds has to be let go of.
      bool const answered = slot_->take([&](reader& in) {
        if constexpr (std::is_void_v<T>) value.emplace();
        else value.emplace(decode<T>(in));
        in.expect_end();
      });
      if (!answered && !was_cancelled) {
        auto const pid = *process_.pid();
        throw worker_lost("polyproc: process " + std::to_string(pid) + " (" + process_.name() +
                              ") was lost with the call it was running: it " + how_it_ended(status),
                          pid, status.as_code());
      }
    } catch (...) {
      problem = std::current_exception();
    }
    slot_.reset();
    if (was_cancelled)
      problem = std::make_exception_ptr(task_cancelled("polyproc: the call was cancelled, and its process was ended"));
    if (problem) this->fail(std::move(problem));
    else this->succeed(std::move(*value));
  }

  std::optional<answer_slot<Backend>> slot_;
  std::atomic<std::uint32_t> fate_{open};
  basic_process<Backend> process_;
};

}  // namespace detail

/// target(args...) in a process of its own: what may be said here is what may be said of a process (see process), and the
/// future gets what the target returns, of any size, or its exception; worker_lost{pid, exit code} if the process ends
/// without either. cancel() ends it at whatever instruction it is, with all that it has started, and the outcome is
/// task_cancelled when it is gone.
///
/// The process is a daemon, because nobody could take the answer when this process has ended; it may start processes of its
/// own. It is in a process group (Windows: job) of its own: what it has started ends with it, when this process sees it end.
/// It lives on when the future is dropped, and is waited for by nobody. Of the options all but .daemon and .group count.
/// Throws what process::start throws.
template <class F, class... Args>
[[nodiscard]] auto async(process_options options, F&& target, Args&&... args) {
  using result = std::decay_t<call_result_t<F, Args...>>;
  using outcome = detail::answered_outcome<result, native_backend>;
  if (options.name.empty()) {
    static constinit std::atomic<unsigned> started{0};
    options.name = "async-" + std::to_string(started.fetch_add(1, std::memory_order_relaxed) + 1);
  }
  options.group = true;
  std::decay_t<F> const kept(std::forward<F>(target));
  auto const made = std::make_shared<outcome>(
      std::move(options), kept, detail::convert_arguments<call_parameters_t<F, Args...>>(std::forward<Args>(args)...));
  made->start(made);
  return basic_future<result, native_backend>(made);
}

template <class F, class... Args>
  requires(!std::is_same_v<std::decay_t<F>, process_options>)
[[nodiscard]] auto async(F&& target, Args&&... args) {
  return async(process_options{}, std::forward<F>(target), std::forward<Args>(args)...);
}

}  // namespace polyproc::inline v0_1
