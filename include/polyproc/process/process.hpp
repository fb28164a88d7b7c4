/// A function in a process of its own.
#pragma once

#include <polyproc/process/init.hpp>
#include <polyproc/sync/waiting.hpp>

#include <tuple>

namespace polyproc::inline v0_1 {

/// How a process is started, where it is said by a tag.
namespace start {
/// A copy of this process, as it is: what the target captures and refers to is there, with the values of this moment,
/// and what the child changes stays in the child. Only the calling thread exists in it. Not on Windows.
struct fork_t {
  explicit fork_t() = default;
};
inline constexpr fork_t fork{};
/// This program run again from its beginning; the target and its arguments travel as bytes. Needs polyproc::init as the
/// first line of main.
struct spawn_t {
  explicit spawn_t() = default;
};
inline constexpr spawn_t spawn{};
}  // namespace start

struct process_options {
  /// Empty: "process-N".
  std::string name = {};
  /// Ended with this process, however that ends; may not start processes itself.
  bool daemon = false;
  /// How long ~process and stop() wait after asking before they end the process.
  std::chrono::milliseconds grace = std::chrono::seconds{1};
};

namespace detail {

/// What a process does, before it is started.
template <backend Backend>
struct work {
  work() = default;
  work(work const&) = delete;
  work& operator=(work const&) = delete;
  virtual ~work() = default;
  virtual void run() = 0;
  virtual void write(writer&) = 0;
};

template <backend Backend, class F, class Parameters>
struct travelling_work final : work<Backend> {
  F target;
  Parameters parameters;
  template <class G, class... Args>
  explicit travelling_work(G&& g, Args&&... args)
      : target(std::forward<G>(g)), parameters(convert_arguments<Parameters>(std::forward<Args>(args)...)) {}
  void run() override { (void)invoke_call(target, parameters); }
  void write(writer& out) override { write_call<Backend>(out, target, parameters); }
};

/// Runs only by fork (or in the caller): target and arguments stay where they are.
template <backend Backend, class F, class... Args>
struct staying_work final : work<Backend> {
  F target;
  std::tuple<Args...> arguments;
  template <class G, class... Given>
  explicit staying_work(std::in_place_t, G&& g, Given&&... given)
      : target(std::forward<G>(g)), arguments(std::forward<Given>(given)...) {}
  void run() override {
    std::apply(
        [this](Args&... each) {
          if constexpr (requires { target(std::move(each)...); })
            (void)target(std::move(each)...);
          else
            (void)target.run(std::move(each)...);
        },
        arguments);
  }
  void write(writer&) override {}
};

template <class F>
inline constexpr bool is_start_word = std::is_same_v<F, start::fork_t> || std::is_same_v<F, start::spawn_t> ||
                                      std::is_same_v<F, process_options>;

}  // namespace detail

/// Holds a target and its arguments, not yet started; start() runs it in a process of its own. Move-only.
///
/// Its functions may be called from any number of threads at once, except start, moves and destruction. The destructor
/// of a process that runs asks it to end, waits options.grace, then ends it; a daemon is ended at once. A copy that a
/// fork left in a child does nothing there.
template <backend Backend = native_backend>
class basic_process {
 public:
  basic_process() = default;

  /// The arguments become the target's (decayed) parameter types here.
  template <class F, class... Args>
    requires(!std::is_same_v<std::decay_t<F>, basic_process> && !detail::is_start_word<std::decay_t<F>>)
  explicit basic_process(F&& target, Args&&... args)
      : basic_process(process_options{}, start::spawn, std::forward<F>(target), std::forward<Args>(args)...) {}

  template <class F, class... Args>
    requires(!detail::is_start_word<std::decay_t<F>>)
  explicit basic_process(process_options options, F&& target, Args&&... args)
      : basic_process(std::move(options), start::spawn, std::forward<F>(target), std::forward<Args>(args)...) {}

  template <class F, class... Args>
  explicit basic_process(start::fork_t, F&& target, Args&&... args)
      : basic_process(process_options{}, start::fork, std::forward<F>(target), std::forward<Args>(args)...) {}
  template <class F, class... Args>
  explicit basic_process(start::spawn_t, F&& target, Args&&... args)
      : basic_process(process_options{}, start::spawn, std::forward<F>(target), std::forward<Args>(args)...) {}

  template <class F, class... Args>
  explicit basic_process(process_options options, start::fork_t, F&& target, Args&&... args)
      : state_(std::make_unique<state>(std::move(options))) {
    static_assert(Backend::has_fork,
                  "polyproc: start::fork does not exist on this system, which cannot copy a running process; leave it "
                  "away and pass what the target needs as arguments");
    state_->by_fork = true;
    state_->work = std::make_unique<detail::staying_work<Backend, std::decay_t<F>, std::decay_t<Args>...>>(
        std::in_place, std::forward<F>(target), std::forward<Args>(args)...);
  }

  template <class F, class... Args>
  explicit basic_process(process_options options, start::spawn_t, F&& target, Args&&... args)
      : state_(std::make_unique<state>(std::move(options))) {
    using work = detail::travelling_work<Backend, std::decay_t<F>, call_parameters_t<F, Args...>>;
    state_->work = std::make_unique<work>(std::forward<F>(target), std::forward<Args>(args)...);
  }

  basic_process(basic_process&&) noexcept = default;
  basic_process& operator=(basic_process&& other) noexcept {
    if (this != &other) {
      end();
      state_ = std::move(other.state_);
    }
    return *this;
  }
  ~basic_process() { end(); }

  /// Starts it. Throws std::logic_error on the second call, or when this process is a daemon (which may not have
  /// children); start_error when polyproc::init was not called; std::system_error naming the system's call that failed.
  /// Nothing is left behind then, and start may be tried again.
  void start() {
    auto& s = get("start");
    if (s.child)
      throw std::logic_error("polyproc: this process was already started; make another object to start it again");
    auto const& own = detail::facts();
    if (own.daemon && !own.worker)
      throw std::logic_error("polyproc: a daemon may not start processes: they would be left behind when it is ended; "
                             "start it without .daemon, or let the parent start them");
    if (!s.by_fork && !own.initialised)
      throw start_error("polyproc: main does not begin with polyproc::init(argc, argv), so a child that runs this program "
                        "again would not find its work but run main once more; add that line (or name "
                        "polyproc::start::fork where it exists)");
    auto& list = detail::child_list<Backend>::get();
    list.sweep();
    s.child = s.by_fork ? fork(s) : spawn(s);
    list.add(s.child);
  }

  /// Waits until it has ended. Throws std::logic_error if it was never started.
  void join() { (void)started("join").wait(never); }
  /// False when it still runs at the deadline.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(std::chrono::duration<Rep, Period> wait) {
    return started("join_for").wait(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool join_until(std::chrono::time_point<Clock, Duration> when) {
    return started("join_until").wait(detail::deadline_at<Backend>(when));
  }

  /// Started and not yet ended.
  [[nodiscard]] bool is_alive() const { return state_ && state_->child && !state_->child->wait(time_point{}); }

  /// Nothing before the start and while it runs; then 0, the code given, -N after signal N, 1 after an uncaught
  /// exception, unknown_exit_code when somebody else took the status.
  [[nodiscard]] std::optional<int> exit_code() const {
    if (!state_ || !state_->child || !state_->child->wait(time_point{})) return std::nullopt;
    return state_->child->status().as_code();
  }
  /// All that is known of its end; nothing before.
  [[nodiscard]] std::optional<exit_status> status() const {
    if (!state_ || !state_->child || !state_->child->wait(time_point{})) return std::nullopt;
    return state_->child->status();
  }

  /// Asks it to end (SIGTERM; Windows: ends it). Asynchronous; nothing once it has ended. Throws std::logic_error
  /// before the start, std::system_error when the system forbids it.
  void terminate() { started("terminate").ask(child_request::terminate); }
  /// Ends it at whatever instruction it is. Asynchronous; nothing once it has ended.
  void kill() { started("kill").ask(child_request::kill); }
  /// Any other request to the system; false once it has ended.
  bool ask(child_request what) { return started("ask").ask(what); }

  /// Asks, waits for at most `grace`, then ends it; returns when it has ended.
  template <class Rep, class Period>
  void stop(std::chrono::duration<Rep, Period> grace) {
    auto& child = started("stop");
    child.ask(child_request::terminate);
    if (!child.wait(detail::deadline_after<Backend>(grace))) child.ask(child_request::kill);
    child.wait(never);
  }

  /// Runs the target here, in the caller. The process itself stays unstarted.
  void run() { get("run").work->run(); }

  /// Lets it go on by itself, whatever becomes of this process (a daemon still ends with it).
  void detach() {
    auto& s = get("detach");
    if (s.child) detail::child_list<Backend>::get().remove(s.child);
    state_.reset();
  }

  /// The system's number; nothing before the start.
  [[nodiscard]] std::optional<long> pid() const {
    if (!state_ || !state_->child) return std::nullopt;
    return state_->child->pid();
  }
  [[nodiscard]] std::string const& name() const { return get("name").options.name; }
  [[nodiscard]] bool daemon() const { return get("daemon").options.daemon; }

  /// For the parts of the library that start processes of a kind of their own.
  struct as_worker {};
  void start(as_worker) {
    get("start").worker = true;
    start();
  }

 private:
  using control = detail::child_control<Backend>;

  struct state {
    explicit state(process_options given) : options(std::move(given)) {
      if (options.name.empty()) options.name = "process-" + std::to_string(++made);
    }
    process_options options;
    std::unique_ptr<detail::work<Backend>> work;
    std::shared_ptr<control> child;
    bool by_fork = false;
    bool worker = false;

    static inline std::atomic<unsigned> made{0};
  };

  [[nodiscard]] state& get(char const* what) const {
    if (!state_)
      throw std::logic_error(std::string("polyproc: ") + what +
                             " of a process object that holds no process (it was made without a target, or moved from)");
    return *state_;
  }
  [[nodiscard]] control& started(char const* what) const {
    auto& s = get(what);
    if (!s.child)
      throw std::logic_error(std::string("polyproc: ") + what +
                             " of a process that was not started; call start() first");
    return *s.child;
  }

  static std::shared_ptr<control> spawn(state& s) {
    writer out;
    detail::write_facts(out, {s.options.name, s.options.daemon, s.worker, false});
    s.work->write(out);
    // Made before there is a child: memory that ends afterwards would leave one behind.
    auto child = std::make_shared<control>(s.options.daemon);
    child->started(Backend::start_image(out.view(), s.options.daemon));
    out.sent();
    return child;
  }

  static std::shared_ptr<control> fork(state& s) {
    if constexpr (forking_backend<Backend>) {
      using attached = detail::attachment<Backend>;
      auto child = std::make_shared<control>(s.options.daemon);
      std::fflush(nullptr);  // what stands in buffers would be written by both
      attached::before_fork();
      std::optional<typename Backend::child> made;
      try {
        made = Backend::start_fork(s.options.daemon);
      } catch (...) {
        attached::fork_failed();
        throw;
      }
      if (made) {
        attached::fork_succeeded();
        child->started(std::move(*made));
        return child;
      }
      attached::in_forked_child();
      detail::facts().name = s.options.name;
      detail::facts().daemon = s.options.daemon;
      detail::facts().worker = s.worker;
      int const code = detail::run_target<Backend>([&] { s.work->run(); });
      detail::child_list<Backend>::at_exit();
      std::fflush(nullptr);
      attached::let_all_go();
      Backend::exit_now(code);  // the parent's exit handlers and static objects are not ours to run
    }
    return {};
  }

  void end() noexcept {
    if (!state_) return;
    auto const child = state_->child;
    try {
      if (child && child->ours() && !child->wait(time_point{})) {
        if (state_->options.daemon) {
          child->ask(child_request::kill);
        } else {
          child->ask(child_request::terminate);
          if (!child->wait(detail::deadline_after<Backend>(state_->options.grace))) child->ask(child_request::kill);
        }
        child->wait(never);
      }
    } catch (...) {  // the child may not be ours to end any more (another user's): nothing to be done
    }
    if (child && child->ours()) detail::child_list<Backend>::get().remove(child);
    state_.reset();
  }

  std::unique_ptr<state> state_;
};

using process = basic_process<>;

/// Made and started.
template <class... Args>
[[nodiscard]] process launch(Args&&... args) {
  process made(std::forward<Args>(args)...);
  made.start();
  return made;
}

}  // namespace polyproc::inline v0_1
