/// Workers that are threads of this process, and futures for what they do.
#pragma once

#include <polyproc/task/crew.hpp>

namespace polyproc::inline v0_1 {

namespace detail {

/// A target and its arguments, called once.
template <class F, class... Args>
struct bound_call {
  F target;
  std::tuple<Args...> args;
  template <class G, class... A>
  explicit bound_call(std::in_place_t, G&& f, A&&... a) : target(std::forward<G>(f)), args(std::forward<A>(a)...) {}
  decltype(auto) operator()() {
    return std::apply([this](Args&... each) -> decltype(auto) { return call_anything(target, std::move(each)...); }, args);
  }
};
template <class F, class... Args>
using bound_call_t = bound_call<std::decay_t<F>, std::decay_t<Args>...>;

/// What task_options say that few tasks need.
struct task_details {
  std::string name;
  std::optional<std::chrono::nanoseconds> time_limit;
  time_point deadline = never;

  static std::unique_ptr<task_details> of(task_options const* options) {
    if (options == nullptr || (options->name.empty() && !options->time_limit && options->deadline == never)) return nullptr;
    return std::make_unique<task_details>(task_details{options->name, options->time_limit, options->deadline});
  }
  static int priority_of(task_options const* options) noexcept {
    return options == nullptr ? 0 : std::max(options->priority, -std::numeric_limits<int>::max());
  }
};

/// For the trace, if there is one.
template <backend Backend>
struct task_times {
  trace_recorder* recorder;
  time_point begin{};
  explicit task_times(crew<Backend> const& of) noexcept : recorder(of.recorder()) {
    if (recorder != nullptr) begin = Backend::now();
  }
  void record(crew_member<Backend> const& by, task_details const* details, char const* how) const noexcept {
    if (recorder == nullptr) return;
    trace_event event;
    try {
      if (details != nullptr) event.name = details->name;
    } catch (...) {  // no memory: nameless
    }
    event.pid = by.home.pid();
    event.worker = by.number;
    event.begin = begin;
    event.end = Backend::now();
    event.how = how;
    recorder->add(std::move(event));
  }
};

/// A task with an outcome; its allocation is all that a submission needs. `phase_` says who has it: whoever moves it on from
/// waiting. While it is `busy` somebody does the books for that, and whoever takes it out of the line waits for him: so the
/// crew, which does not end before its lines are empty, is there.
template <class R, class Call, backend Backend>
class crew_task final : public outcome<R, Backend>, public crew_job<Backend> {
 public:
  using home = crew<Backend>;
  using member = crew_member<Backend>;

  template <class... Parts>
  crew_task(home& of, task_options const* options, Parts&&... parts)
      : home_(&of), details_(task_details::of(options)), call_(std::in_place, std::in_place, std::forward<Parts>(parts)...) {
    this->priority = task_details::priority_of(options);
  }

  /// The crew has a hold of it until it was run or given up.
  void hold(std::shared_ptr<crew_task> self) noexcept { self_ = std::move(self); }
  void let_go() noexcept { auto const last = std::move(self_); }
  [[nodiscard]] task_details const* details() const noexcept { return details_.get(); }

  /// One of the crew's own threads does itself what it would wait for.
  bool wait(time_point deadline) noexcept override {
    if (deadline == never && !this->ready()) {
      auto* const me = member::of_this_thread();
      if (me != nullptr && &me->home == home_ && claim(busy)) {
        auto keep = self_;
        home_->leave_room();
        home_->count_husk();
        phase_.store(running, std::memory_order_release);
        execute(std::move(keep), *me);
        me->home.sweep_if_needed();
        return true;
      }
    }
    return this->ready() || !belongs_here() || this->park(deadline);
  }
  bool belongs_here() noexcept override {
    if (made_in_ == process_identity<Backend>()) return true;  // not by way of the crew, which may be gone
    this->give_up_copy("polyproc: this future is a copy that a fork has made; its task belongs to the process that submitted it, "
                       "and runs there");
    return false;
  }

  bool cancel() override {
    if (!belongs_here()) return false;
    for (;;) {
      switch (phase_.load(std::memory_order_acquire)) {
        case waiting:
          if (!claim(busy)) break;
          never_begins(
              std::make_exception_ptr(task_cancelled("polyproc: the task" + label() + " was cancelled before it had begun")));
          return true;
        case running:
          if (ask(stopping)) return true;
          break;
        case busy: Backend::yield(); break;
        case stopping: return true;
        default: return false;
      }
    }
  }
  void ask_to_stop(stop_reason why) noexcept override {
    if (why == stop_reason::cancelled) {
      (void)ask(stopping);
      return;
    }
    for (;;) {
      switch (phase_.load(std::memory_order_acquire)) {
        case waiting:
          if (!claim(busy)) break;
          never_begins(too_late(false));
          return;
        case running:
          if (ask(late)) return;
          break;
        case busy: Backend::yield(); break;
        default: return;
      }
    }
  }

  void run(member& by) noexcept override {
    if (!claim(running)) {
      drop_husk();
      return;
    }
    by.home.leave_room();
    execute(std::move(self_), by);
  }
  void give_up() noexcept override {
    if (!claim(over)) {
      drop_husk();
      return;
    }
    home_->leave_room();
    home_->count_given_up();
    call_.reset();
    this->fail(std::make_exception_ptr(task_cancelled("polyproc: the task" + label() +
                                                      " was cancelled: its pool was terminated, shut down or destroyed before it "
                                                      "had begun; close() and join() have all done first")));
    let_go();
  }
  [[nodiscard]] bool is_husk() const noexcept override { return phase_.load(std::memory_order_relaxed) != waiting; }

 private:
  enum phase : std::uint32_t { waiting, busy, running, stopping, late, over };

  [[nodiscard]] bool claim(phase into) noexcept {
    std::uint32_t expected = waiting;
    return phase_.compare_exchange_strong(expected, into, std::memory_order_acq_rel);
  }
  /// Of one that runs.
  [[nodiscard]] bool ask(phase into) noexcept {
    std::uint32_t expected = running;
    if (!phase_.compare_exchange_strong(expected, into, std::memory_order_acq_rel)) return false;
    asked_.store(1);
    Backend::wake_all(asked_);
    return true;
  }
  /// While busy.
  void never_begins(std::exception_ptr problem) noexcept {
    home_->leave_room();
    home_->count_husk();
    home_->count_given_up();
    phase_.store(over, std::memory_order_release);
    call_.reset();
    this->fail(std::move(problem));
  }
  void drop_husk() noexcept {
    while (phase_.load(std::memory_order_acquire) == busy) Backend::yield();
    let_go();
  }
  [[nodiscard]] std::string label() const {
    return details_ && !details_->name.empty() ? " (" + details_->name + ")" : std::string();
  }
  [[nodiscard]] std::exception_ptr too_late(bool has_begun) const noexcept {
    try {
      auto const which = "polyproc: the task" + label();
      if (!has_begun) return std::make_exception_ptr(time_limit_exceeded(which + " had not begun at its deadline, and never does"));
      return std::make_exception_ptr(time_limit_exceeded(
          which + (details_ && details_->time_limit && details_->deadline == never
                       ? " ran for longer than its time limit; it was asked to stop, and has ended"
                       : " ran beyond its deadline or its time limit; it was asked to stop, and has ended")));
    } catch (...) {
      return std::current_exception();
    }
  }

  /// Claimed; `keep` keeps it, in the stop token of the thread, until another task has one there.
  void execute(std::shared_ptr<crew_task> keep, member& by) noexcept {
    std::exception_ptr problem;
    if (details_ && details_->deadline != never && Backend::now() >= details_->deadline) {
      member::count(by.begun);
      phase_.store(over, std::memory_order_release);
      call_.reset();
      member::count(by.cancelled);
      this->fail(too_late(false));
      return;
    }
    auto& token = current_stop_token<Backend>();
    auto const outer = std::exchange(token, basic_stop_token<Backend>(asked_, 1, keep));
    by.begin(*this);
    task_times<Backend> const times(by.home);
    std::optional<stored_result<R>> value;
    try {
      if (details_ && details_->time_limit)
        by.home.clock().watch(deadline_after<Backend>(*details_->time_limit), keep);
      if constexpr (std::is_void_v<R>) {
        (void)(*call_)();
        value.emplace();
      } else {
        value.emplace((*call_)());
      }
    } catch (...) {
      problem = std::current_exception();
    }
    call_.reset();
    by.end(*this);
    auto const how = phase_.exchange(over, std::memory_order_acq_rel);
    token = outer;
    times.record(by, details_.get(),
                 how == stopping ? "cancelled" : how == late ? "time limit" : problem ? "exception" : "value");
    member::count(how != running ? by.cancelled : problem ? by.failed : by.done);
    if (how == stopping)
      this->fail(std::make_exception_ptr(
          task_cancelled("polyproc: the task" + label() + " was asked to stop while it ran, and has ended")));
    else if (how == late)
      this->fail(too_late(true));
    else if (problem)
      this->fail(std::move(problem));
    else
      succeed_with(std::move(*value));
  }
  void succeed_with(stored_result<R>&& value) noexcept {
    try {
      this->succeed(std::move(value));
    } catch (...) {
      this->fail(std::current_exception());
    }
  }

  home* home_;
  std::uint64_t const made_in_ = process_identity<Backend>();
  std::atomic<std::uint32_t> phase_{waiting};
  typename Backend::template atomic<std::uint32_t> asked_{0};
  std::shared_ptr<crew_task> self_;
  std::unique_ptr<task_details> details_;
  std::optional<Call> call_;
};

template <backend Backend>
void say_posted_failed(std::exception_ptr const& problem) noexcept {
  try {
    auto const said = describe(problem);
    Backend::write_stderr("polyproc: a posted task let out an uncaught " + said.type + ": " + said.what +
                          "; use submit to learn of it in the program\n");
  } catch (...) {  // no memory to say it with
  }
}

/// A task that nobody waits for.
template <class Call, backend Backend>
class posted_task final : public crew_job<Backend> {
 public:
  template <class... Parts>
  explicit posted_task(crew<Backend>& of, Parts&&... parts)
      : home_(&of), call_(std::in_place, std::forward<Parts>(parts)...) {}

  void run(crew_member<Backend>& by) noexcept override {
    std::unique_ptr<posted_task> const own(this);
    by.home.leave_room();
    by.count(by.begun);
    task_times<Backend> const times(by.home);
    try {
      (void)call_();
      by.count(by.done);
      times.record(by, nullptr, "value");
    } catch (...) {
      by.count(by.failed);
      times.record(by, nullptr, "exception");
      say_posted_failed<Backend>(std::current_exception());
    }
  }
  void give_up() noexcept override {
    std::unique_ptr<posted_task> const own(this);
    home_->leave_room();
    home_->count_given_up();
  }

 private:
  crew<Backend>* home_;
  Call call_;
};

/// For targets that can only be moved: all chunks of a map call the same one.
template <class F>
struct shared_target {
  std::shared_ptr<F> target;
  template <class... Args>
  decltype(auto) operator()(Args&&... args) const {
    return call_anything(*target, std::forward<Args>(args)...);
  }
};

}  // namespace detail

struct thread_pool_options {
  /// How many tasks run at once, at most 4096. 0: as many as this process may use processors.
  std::size_t workers = 0;
  /// Threads are called NAME-1, NAME-2, ...
  std::string name = "threads";
  /// How many tasks may wait to begin: submit waits for room, try_submit gives nothing. 0: as many as memory takes. The
  /// pool's own tasks may exceed it by submit and post: they would wait for themselves.
  std::size_t max_waiting = 0;
  /// What each thread runs before its first task, several at once; spare threads too: {function, arguments...}. What it returns,
  /// if anything, is the thread's state: this_worker::state<T>(). What it lets out is thrown by the constructor;
  /// in a thread that comes later it goes to stderr.
  thread_initializer initializer = {};
  /// The numbers of the processors that the threads may use; empty: all. std::errc::not_supported where the system has no
  /// such thing.
  std::vector<unsigned> affinity = {};
  /// Record who ran what when, for write_trace: the last 100 000 tasks.
  bool trace = false;
  /// Record, and write that file when the pool ends (join, shutdown, the destructor); failures to do so go to stderr.
  std::string trace_file = {};
};

/// N threads that run what is submitted, oldest first, higher priorities before lower ones. Idle ones sleep.
///
/// A task may wait for others of its pool, whatever their number: it runs itself what has not begun, and while it waits for
/// anything else by a future another thread takes its place. It may submit, close, terminate and resize, too.
///
/// A thread cannot be ended from outside. cancel(), time limits, terminate and the destructor ask tasks to stop: those that
/// want to end early look at this_task::stop_requested() now and then, or sleep with this_task::sleep_for.
///
/// Any number of threads may use it at once. The destructor gives up what has not begun (task_cancelled), asks what runs to
/// stop, and waits for that; within one of the pool's own tasks it does not wait. In a copy that a fork left in a child it
/// does nothing: threads are not copied.
template <backend Backend = native_backend>
class basic_thread_pool : public detail::pool_face<basic_thread_pool<Backend>, Backend> {
  using crew = detail::crew<Backend>;
  using face = detail::pool_face<basic_thread_pool, Backend>;

 public:
  /// What target(args...) gives; the arguments are moved into it.
  template <class F, class... Args>
  using result_of =
      decltype(detail::call_anything(std::declval<std::decay_t<F>&>(), std::declval<std::decay_t<Args>>()...));

  explicit basic_thread_pool(std::size_t workers = 0) : basic_thread_pool(thread_pool_options{.workers = workers}) {}
  /// Throws std::system_error when threads cannot be made, std::invalid_argument, and what the initializer lets out.
  explicit basic_thread_pool(thread_pool_options options)
      : trace_file_(std::move(options.trace_file)), owner_(Backend::current_pid()) {
    if (!options.affinity.empty()) Backend::check_affinity(options.affinity);
    crew_ = std::make_shared<crew>(detail::crew_settings{.threads = count_of(options.workers),
                                                         .name = std::move(options.name),
                                                         .most_waiting = options.max_waiting,
                                                         .affinity = std::move(options.affinity),
                                                         .initializer = std::move(options.initializer),
                                                         .trace = options.trace || !trace_file_.empty()});
    crew_->start();
  }
  basic_thread_pool(basic_thread_pool const&) = delete;
  basic_thread_pool& operator=(basic_thread_pool const&) = delete;
  ~basic_thread_pool() {
    if (owner_ != Backend::current_pid()) {
      // A fork's copy, in the middle of whatever its threads did.
      (void)new std::shared_ptr<crew>(std::move(crew_));
      return;
    }
    if (detached_.load()) return;
    terminate();
    if (crew_->here() != nullptr) crew_->let_threads_go();
  }

  /// How many tasks it runs at once.
  [[nodiscard]] std::size_t size() const noexcept { return crew_->size(); }
  [[nodiscard]] pool_stats stats() const { return crew_->stats(); }

  /// Runs target(args...) in one of the threads; returns at once. Target and arguments are kept as std::thread keeps them
  /// (decayed copies, moved where they are given away) and handed over as rvalues. Throws std::logic_error when the pool is
  /// closed, std::bad_alloc, and what copying them throws. With max_waiting: waits for room.
  template <class F, class... Args>
    requires(!detail::is_task_options<F>)
  [[nodiscard]] auto submit(F&& target, Args&&... args) {
    return std::move(*enqueue(never, nullptr, std::forward<F>(target), std::forward<Args>(args)...));
  }
  template <class F, class... Args>
  [[nodiscard]] auto submit(task_options const& options, F&& target, Args&&... args) {
    return std::move(*enqueue(never, &options, std::forward<F>(target), std::forward<Args>(args)...));
  }
  /// nullopt when there is no room; then nothing was moved from.
  template <class F, class... Args>
    requires(!detail::is_task_options<F>)
  [[nodiscard]] auto try_submit(F&& target, Args&&... args) {
    return enqueue(time_point{}, nullptr, std::forward<F>(target), std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  [[nodiscard]] auto try_submit(task_options const& options, F&& target, Args&&... args) {
    return enqueue(time_point{}, &options, std::forward<F>(target), std::forward<Args>(args)...);
  }
  /// nullopt when there is no room for that long; then nothing was moved from.
  template <class Rep, class Period, class F, class... Args>
    requires(!detail::is_task_options<F>)
  [[nodiscard]] auto submit_for(std::chrono::duration<Rep, Period> wait, F&& target, Args&&... args) {
    return enqueue(detail::deadline_after<Backend>(wait), nullptr, std::forward<F>(target), std::forward<Args>(args)...);
  }
  template <class Rep, class Period, class F, class... Args>
  [[nodiscard]] auto submit_for(std::chrono::duration<Rep, Period> wait, task_options const& options, F&& target,
                                Args&&... args) {
    return enqueue(detail::deadline_after<Backend>(wait), &options, std::forward<F>(target), std::forward<Args>(args)...);
  }

  /// As submit, for what nobody waits for: cheaper. An exception goes to stderr. It is asked to stop only when the pool ends.
  template <class F, class... Args>
    requires(!detail::is_task_options<F>)
  void post(F&& target, Args&&... args) {
    using call = detail::bound_call_t<F, Args...>;
    check_here();
    if (!crew_->take_room(never)) refuse();
    try {
      auto task =
          std::make_unique<detail::posted_task<call, Backend>>(*crew_, std::forward<F>(target), std::forward<Args>(args)...);
      if (!crew_->push(*task)) refuse();
      (void)task.release();
    } catch (...) {
      crew_->leave_room();
      throw;
    }
  }
  template <class F, class... Args>
  void post(task_options const& options, F&& target, Args&&... args) {
    (void)submit(options, [call = detail::bound_call_t<F, Args...>(std::in_place, std::forward<F>(target),
                                                                   std::forward<Args>(args)...)]() mutable {
      try {
        (void)call();
      } catch (...) {
        detail::say_posted_failed<Backend>(std::current_exception());
        throw;
      }
    });
  }

  /// No more tasks are accepted; those submitted are still done.
  void close() noexcept {
    if (crew_->is_here()) crew_->close();
  }
  /// Waits until everything submitted is done and the threads have ended. Throws std::logic_error before close() or
  /// terminate(): it would wait for ever; and in one of the pool's own tasks, for the same reason.
  void join() {
    check_join();
    finish();
  }
  /// False when that is not so at the deadline; it may be tried again.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(std::chrono::duration<Rep, Period> wait) {
    return joined_by(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool join_until(std::chrono::time_point<Clock, Duration> when) {
    return joined_by(detail::deadline_at<Backend>(when));
  }
  /// Closes, gives up what has not begun, asks what runs to stop, and waits for that, except in one of the pool's own tasks.
  /// Every future that was not ready gets task_cancelled.
  void terminate() {
    check_here();
    close();
    crew_->give_up_waiting();
    crew_->ask_running();
    // What was taken out of the lines at that moment has begun, and was asked, or asked itself.
    if (crew_->here() == nullptr) finish();
  }
  /// Closes, and waits until everything has ended, what has not begun too unless it is to be given up. In one of the pool's
  /// own tasks it does not wait.
  void shutdown(bool cancel_pending = false) {
    check_here();
    close();
    if (cancel_pending) crew_->give_up_waiting();
    if (crew_->here() == nullptr) finish();
  }
  /// Closes, and lets go of the threads: they do what was submitted, and end, and neither the destructor nor the program's
  /// end waits for them. What they use must be there for that long.
  void detach() {
    check_here();
    close();
    if (!detached_.exchange(true)) crew_->let_threads_go();
  }

  /// From now on that many tasks at once (0: as many as this process may use processors). Those that are too many end when
  /// they are done with what they do. Throws std::system_error when there can be no more threads; what an initializer lets out in
  /// one of the new ones goes to stderr, and that thread does not come.
  void resize(std::size_t workers) {
    check_here();
    crew_->resize(count_of(workers));
  }

  /// Writes what was recorded so far, for https://ui.perfetto.dev. Throws std::logic_error if .trace was not set,
  /// std::system_error.
  void write_trace(std::string const& path) const {
    if (crew_->recorder() == nullptr)
      throw std::logic_error("polyproc: this pool has recorded nothing; make it with .trace = true");
    crew_->recorder()->write(path);
  }

  /// The pool's own.
  static constexpr bool runs_here = true;
  template <class Out, class Way, class F, class In>
  auto submit_chunk(task_options const& options, F const& target, std::vector<In>&& items) {
    return submit(options, [target, some = std::move(items)]() mutable {
      return detail::run_chunk<Backend, Out, Way>(target, std::move(some));
    });
  }

 private:
  friend face;

  void check_here() const {
    if (!crew_->is_here())
      throw std::logic_error("polyproc: this pool's threads are in the process that made it, and this is a copy that a fork has "
                             "made; a child that needs a pool makes one of its own");
  }
  void check_join() const {
    check_here();
    if (!crew_->is_closed())
      throw std::logic_error("polyproc: join of a pool that still accepts tasks would wait for ever; call close() (to finish "
                             "what was submitted) or terminate() first");
    if (crew_->here() != nullptr)
      throw std::logic_error("polyproc: a task that joins its own pool would wait for itself");
  }
  bool joined_by(time_point deadline) {
    check_join();
    if (!detached_.load() && !crew_->await_threads(deadline)) return false;
    finish();
    return true;
  }

  static std::size_t count_of(std::size_t asked) {
    if (asked > 4096) throw std::invalid_argument("polyproc: a pool has 1 to 4096 workers (0: one per usable processor)");
    return asked == 0 ? Backend::usable_cpus() : asked;
  }
  [[noreturn]] static void refuse() {
    throw std::logic_error("polyproc: this pool is closed and accepts no more tasks; submit before close()");
  }

  template <class F>
  static auto keep_target(F&& target) {
    using plain = std::decay_t<F>;
    if constexpr (std::is_copy_constructible_v<plain>) return plain(std::forward<F>(target));
    else return detail::shared_target<plain>{std::make_shared<plain>(std::forward<F>(target))};
  }

  template <class F, class... Args>
  auto enqueue(time_point until, task_options const* options, F&& target, Args&&... args) {
    using result = std::decay_t<result_of<F, Args...>>;
    using task_type = detail::crew_task<result, detail::bound_call_t<F, Args...>, Backend>;
    check_here();
    std::optional<basic_future<result, Backend>> promised;
    if (!crew_->take_room(until)) {
      if (crew_->is_closed()) refuse();
      return promised;
    }
    std::shared_ptr<task_type> task;
    try {
      task = std::make_shared<task_type>(*crew_, options, std::forward<F>(target), std::forward<Args>(args)...);
      task->hold(task);
      if (!crew_->push(*task)) {
        task->let_go();
        refuse();
      }
    } catch (...) {
      crew_->leave_room();
      throw;
    }
    if (options != nullptr && options->deadline != never) {
      try {
        crew_->clock().watch(options->deadline, task);
      } catch (...) {
        (void)task->cancel();
        throw;
      }
    }
    promised.emplace(std::move(task));
    return promised;
  }

  void finish() noexcept {
    if (detached_.load()) return;
    crew_->join_threads();
    if (trace_file_.empty() || traced_.exchange(true)) return;
    try {
      crew_->recorder()->write(trace_file_);
    } catch (std::exception const& problem) {
      try {
        Backend::write_stderr(std::string(problem.what()) + "\n");
      } catch (...) {  // no memory to say it with
      }
    }
  }

  std::shared_ptr<crew> crew_;
  std::string trace_file_;
  long owner_;
  std::atomic<bool> detached_{false};
  std::atomic<bool> traced_{false};
};

using thread_pool = basic_thread_pool<>;

}  // namespace polyproc::inline v0_1
