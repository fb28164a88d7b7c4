/// Workers in processes of their own, and futures for what they do.
#pragma once

#include <polyproc/task/executor.hpp>
#include <polyproc/task/pool_core.hpp>

namespace polyproc::inline v0_1 {

namespace detail {

/// A map's target as an argument: a function by its place in the program, anything else by its value.
template <class F, backend Backend>
struct carried_target {
  F target;
};

/// What a worker does with a chunk of a map.
template <class Out, class Way, class F, class In, backend Backend>
struct map_chunk {
  auto operator()(carried_target<F, Backend> carried, std::vector<In> items) const {
    return run_chunk<Backend, Out, Way>(carried.target, std::move(items));
  }
};

}  // namespace detail

template <class F, backend Backend>
struct codec<detail::carried_target<F, Backend>> {
  static void write(writer& out, detail::carried_target<F, Backend> const& carried) {
    if constexpr (std::is_pointer_v<F>) detail::write_function<Backend>(out, carried.target);
    else encode(out, carried.target);
  }
  static detail::carried_target<F, Backend> read(reader& in) {
    if constexpr (std::is_pointer_v<F>) return {detail::read_function<Backend, std::remove_pointer_t<F>>(in)};
    else return {decode<F>(in)};
  }
};

/// N worker processes that run what is submitted: higher priorities first, and the oldest among equals. A worker that crashes,
/// exits or is killed fails the one task it was running, with worker_lost, and is replaced; everything else goes on. Tasks can
/// be cancelled and limited in time while they run: then the worker is ended, with all that it has started, and replaced. A
/// task may use processes and pools of its own. Workers end with this process, however it ends.
///
/// Needs polyproc::init in main. All functions may be called from any number of threads at once, also in tasks of thread pools
/// and in callbacks. What may be submitted is what a process may run (see process).
///
/// The destructor gives up what has not begun (task_cancelled), asks running tasks to stop, gives them options.grace, then ends
/// the workers.
template <backend Backend = native_backend>
class basic_process_pool : public detail::pool_face<basic_process_pool<Backend>, Backend> {
 public:
  using options_type = basic_process_pool_options<Backend>;
  template <class F, class... Args>
  using result_of = call_result_t<F, Args...>;

  explicit basic_process_pool(std::size_t workers = 0) : basic_process_pool(options_type{.workers = workers}) {}

  /// Throws start_error, std::system_error or std::bad_alloc when the workers cannot be started; none is left then.
  explicit basic_process_pool(options_type options)
      : core_(std::make_shared<detail::pool_core<Backend>>(std::move(options))),
        owner_(Backend::current_pid()) {
    core_->start();
  }
  basic_process_pool(basic_process_pool const&) = delete;
  basic_process_pool& operator=(basic_process_pool const&) = delete;

  ~basic_process_pool() {
    if (owner_ != Backend::current_pid()) {
      core_->abandon();
      return;
    }
    core_->close_for_good();
    core_->cancel_waiting();
    core_->stop_running(core_->options().grace);
    core_->await_all(never);  // what runs is ended after that time
    core_->finish();
  }

  /// How many workers it keeps.
  [[nodiscard]] std::size_t size() const { return own().size(); }
  /// Another number of workers, at least 1 and at most 256 or, if that is more, the number that it was made with
  /// (std::invalid_argument). Those that are too many end when they have done what they are doing.
  void resize(std::size_t workers) { own().resize(workers); }
  /// The numbers of the worker processes, as of now.
  [[nodiscard]] std::vector<long> worker_pids() const { return own().worker_pids(); }
  [[nodiscard]] pool_stats stats() const { return own().stats(); }

  /// Writes what was recorded so far, for https://ui.perfetto.dev. Throws std::logic_error if .trace was not set,
  /// std::system_error.
  void write_trace(std::string const& path) const {
    if (core_->recorder() == nullptr)
      throw std::logic_error("polyproc: this pool has recorded nothing; make it with .trace = true");
    core_->recorder()->write(path);
  }

  /// Ends the worker with that number as if the system had done it: its task, if it runs one, fails with worker_lost. False
  /// when no worker of this pool has that number (any more).
  bool kill_worker(long pid) { return own().kill_worker(pid); }

  /// Runs target(args...) in a worker, and gives the future of its result; returns at once, unless options.max_waiting is
  /// reached: then it waits for room. Throws std::logic_error when the pool is closed, and what encoding the arguments throws;
  /// nothing was submitted then.
  template <class F, class... Args>
    requires(!detail::is_task_options<F>)
  [[nodiscard]] auto submit(F&& target, Args&&... args) {
    return *enter(never, nullptr, std::forward<F>(target), std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  [[nodiscard]] auto submit(task_options options, F&& target, Args&&... args) {
    return *enter(never, &options, std::forward<F>(target), std::forward<Args>(args)...);
  }
  /// The same, an optional future: nothing if there is no room now, or not until the time is over.
  template <class F, class... Args>
    requires(!detail::is_task_options<F>)
  [[nodiscard]] auto try_submit(F&& target, Args&&... args) {
    return enter(time_point{}, nullptr, std::forward<F>(target), std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  [[nodiscard]] auto try_submit(task_options options, F&& target, Args&&... args) {
    return enter(time_point{}, &options, std::forward<F>(target), std::forward<Args>(args)...);
  }
  template <class Rep, class Period, class F, class... Args>
    requires(!detail::is_task_options<F>)
  [[nodiscard]] auto submit_for(std::chrono::duration<Rep, Period> wait, F&& target, Args&&... args) {
    return enter(detail::deadline_after<Backend>(wait), nullptr, std::forward<F>(target), std::forward<Args>(args)...);
  }
  template <class Rep, class Period, class F, class... Args>
  [[nodiscard]] auto submit_for(std::chrono::duration<Rep, Period> wait, task_options options, F&& target, Args&&... args) {
    return enter(detail::deadline_after<Backend>(wait), &options, std::forward<F>(target), std::forward<Args>(args)...);
  }

  /// For pool_face.
  static constexpr bool runs_here = false;
  template <class Out, class Way, class F, class In>
  auto submit_chunk(task_options const& options, F const& target, std::vector<In>&& items) {
    using kept = std::decay_t<F>;
    return submit(options, detail::map_chunk<Out, Way, kept, In, Backend>{}, detail::carried_target<kept, Backend>{target},
                  std::move(items));
  }

  /// No more tasks are accepted; those submitted are still done.
  void close() noexcept {
    if (core_->is_here()) core_->close();
  }

  /// Waits until everything submitted is done and the workers have ended. Throws std::logic_error before close() or
  /// terminate(): it would wait for ever.
  void join() { (void)joined_by(never); }
  /// False when that is not so at the deadline; it may be tried again.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(std::chrono::duration<Rep, Period> wait) {
    return joined_by(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool join_until(std::chrono::time_point<Clock, Duration> when) {
    return joined_by(detail::deadline_at<Backend>(when));
  }

  /// Ends the workers now; every future that is not ready gets task_cancelled.
  void terminate() {
    own().close_for_good();
    core_->cancel_waiting();
    core_->stop_running(std::chrono::milliseconds{0});
    core_->await_all(never);
    core_->finish();
  }

  /// close, and join; with cancel_pending what has not begun is given up (task_cancelled) instead of done.
  void shutdown(bool cancel_pending = false) {
    own().close();
    if (cancel_pending) core_->cancel_waiting();
    core_->await_all(never);
    core_->finish();
  }

 private:
  bool joined_by(time_point deadline) {
    if (!own().closed())
      throw std::logic_error("polyproc: join of a pool that still accepts tasks would wait for ever; call close() (to "
                             "finish what was submitted) or terminate() first");
    if (!core_->await_all(deadline)) return false;
    core_->finish();
    return true;
  }

  template <class F, class... Args>
  auto enter(time_point room_by, task_options* options, F&& target, Args&&... args)
      -> std::optional<basic_future<std::decay_t<call_result_t<F, Args...>>, Backend>> {
    using result = std::decay_t<call_result_t<F, Args...>>;
    using kept = std::decay_t<F>;
    using parameters = call_parameters_t<F, Args...>;
    core_->check_here();  // a copy that a fork has made, in a task above all, would wait for ever
    typename detail::pool_core<Backend>::room_for_one room;
    if (!core_->reserve(room, room_by)) return std::nullopt;
    auto task = std::make_shared<detail::typed_task<result, Backend>>(core_);
    auto& spare = detail::thread_own<std::unique_ptr<writer>, detail::pool_core<Backend>>();  // of the last request
    task->call = spare ? std::move(spare) : std::make_unique<writer>();
    kept const f(std::forward<F>(target));
    if (options != nullptr) {
      task->priority = options->priority;
      task->rare().options = std::move(*options);
    }
    if (task->more && task->more->options.retries > 0) {
      auto given = detail::convert_arguments<parameters>(std::forward<Args>(args)...);
      core_->encode_request(*task, [&](writer& out) { detail::write_call<Backend>(out, f, given); });
      task->more->encode_again = detail::callback<writer&>(
          [f, given = std::move(given)](writer& out) { detail::write_call<Backend>(out, f, given); });
    } else {
      core_->encode_request(*task, [&](writer& out) {
        detail::write_call_of<Backend>(out, f, std::type_identity<parameters>{}, std::forward<Args>(args)...);
      });
    }
    try {
      core_->submit(task, room, spare);
    } catch (...) {
      core_->forget_request(*task);
      throw;
    }
    return basic_future<result, Backend>(std::move(task));
  }

  /// Throws std::logic_error in a copy that a fork has made.
  [[nodiscard]] detail::pool_core<Backend>& own() const {
    core_->check_here();
    return *core_;
  }

  std::shared_ptr<detail::pool_core<Backend>> core_;
  long owner_;
};

using process_pool = basic_process_pool<>;

}  // namespace polyproc::inline v0_1
