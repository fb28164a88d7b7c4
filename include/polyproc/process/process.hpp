/// A function in a process of its own.
#pragma once

#include <polyproc/process/child_stream.hpp>
#include <polyproc/process/dispatcher.hpp>
#include <polyproc/process/this_process.hpp>

#include <tuple>

namespace polyproc::inline v0_1 {

/// How a process is started, where it is said by a tag.
namespace start {
/// A copy of this process, as it is: what the target captures and refers to is there, with the values of this moment,
/// and what the child changes stays in the child. Only the calling thread exists in it: locks that other threads hold at
/// this moment stay shut there. Costs the more the more memory is in use. Not on Windows.
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
/// As spawn, but a copy of a helper that is this program run again as far as polyproc::init: as safe, and much faster. File
/// mode mask, resource limits and what a sandbox took away are as at the moment when the helper was started, at the first
/// need. Handlers of pthread_atfork that static constructors have registered do not run on Linux. Not on Windows.
struct forkserver_t {
  explicit forkserver_t() = default;
};
inline constexpr forkserver_t forkserver{};
}  // namespace start

struct process_options {
  /// Empty: the class's name of a target that is an object, else "process"; and a number.
  std::string name = {};
  /// Ended with this process, however that ends; may not start processes itself.
  bool daemon = false;
  /// How long ~process waits after asking before it ends the process.
  std::chrono::milliseconds grace = std::chrono::seconds{1};
  /// For targets that travel; one that captures can only be forked.
  start_method start = start_method::automatic;
  /// A process group (Windows: job) of its own, which lives no longer than the child that leads it: when that child's end is
  /// noticed here, all that is left in the group is ended. kill_tree() finds everything. Ctrl-C at a terminal does not reach it.
  bool group = false;
  /// Ctrl-C at the terminal does nothing to it: only this process decides.
  bool ignore_interrupt = false;
  child_stream input = child_stream::null();
  child_stream output = child_stream::inherited();
  child_stream error = child_stream::inherited();
  /// Empty: as here.
  std::string directory = {};
  /// What is different in its environment: a value, or nothing for a variable that is not to be there.
  std::vector<std::pair<std::string, std::optional<std::string>>> environment = {};
  /// The numbers of the processors on which it may run; empty: as here. Not with the portable POSIX backend.
  std::vector<unsigned> affinity = {};
  /// Niceness: -20 is served first, 19 last (Windows: the nearest priority class). Lower than here needs a privilege.
  std::optional<int> priority = {};
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
  /// Whether the child has it for itself, so that nothing of it is to stay here: what cannot be copied is passed on by
  /// moving it. (The other side of a stream is told of its end only when nobody has it open any more.)
  [[nodiscard]] virtual bool moves() const noexcept = 0;
  /// Those parts that cannot be copied, as for a child that is no copy of this process; false when nobody can tell which
  /// streams are among all, because the target may refer to anything.
  virtual bool write_streams(writer&) const = 0;
  /// After a fork: the child was given its copy. In that child: what has one owner is its own now.
  virtual void lend() noexcept = 0;
  virtual void take() noexcept = 0;
};

template <class T>
bool write_streams_of(writer& out, T const& part) {
  (void)out, (void)part;
  if constexpr (plain_function<T>) {
    return true;
  } else if constexpr (encodable<T>) {
    if constexpr (!can_be_copied<T>()) encode(out, part);
    return true;
  } else {
    return false;
  }
}
template <class... T>
bool write_streams_of(writer& out, std::tuple<T...> const& parts) {
  bool known = true;
  std::apply([&](T const&... each) { (void)std::initializer_list<bool>{(known = write_streams_of(out, each) && known)...}; }, parts);
  return known;
}

template <class T>
void lend_part(T const& part) noexcept {
  if constexpr (requires { codec<T>::lend(part); }) codec<T>::lend(part);
}
template <class... T>
void lend_part(std::tuple<T...> const& parts) noexcept {
  std::apply([](T const&... each) { (lend_part(each), ...); }, parts);
}
template <class T>
void take_part(T& part) noexcept {
  if constexpr (requires { codec<T>::take(part); }) codec<T>::take(part);
}
template <class... T>
void take_part(std::tuple<T...>& parts) noexcept {
  std::apply([](T&... each) { (take_part(each), ...); }, parts);
}

template <class... T>
inline constexpr bool moved_only = !(can_be_copied<T>() && ...);

template <backend Backend, class F, class Parameters>
struct travelling_work final : work<Backend> {
  F target;
  Parameters parameters;
  template <class G, class... Args>
  explicit travelling_work(G&& g, Args&&... args)
      : target(std::forward<G>(g)), parameters(convert_arguments<Parameters>(std::forward<Args>(args)...)) {}
  void run() override { (void)invoke_call(target, parameters); }
  void write(writer& out) override { write_call<Backend>(out, target, parameters); }
  [[nodiscard]] bool moves() const noexcept override { return moved_only<F, Parameters>; }
  bool write_streams(writer& out) const override {
    bool const known = write_streams_of(out, target);
    return write_streams_of(out, parameters) && known;
  }
  void lend() noexcept override {
    lend_part(target);
    lend_part(parameters);
  }
  void take() noexcept override {
    take_part(target);
    take_part(parameters);
  }
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
  [[nodiscard]] bool moves() const noexcept override { return moved_only<F, Args...>; }
  bool write_streams(writer& out) const override {
    bool const known = write_streams_of(out, target);
    return write_streams_of(out, arguments) && known;
  }
  void lend() noexcept override {
    lend_part(target);
    lend_part(arguments);
  }
  void take() noexcept override {
    take_part(target);
    take_part(arguments);
  }
};

template <class F>
inline constexpr bool is_start_tag = std::is_same_v<F, start::fork_t> || std::is_same_v<F, start::spawn_t> ||
                                     std::is_same_v<F, start::forkserver_t>;
template <class F>
inline constexpr bool is_start_word = is_start_tag<F> || std::is_same_v<F, process_options>;

/// The compiler's own spelling of a class that can be named, without what qualifies it; "process" otherwise.
template <class F>
std::string class_name() {
  std::string_view text = static_cast<char const*>(__PRETTY_FUNCTION__);
  auto const from = text.find("F = ");
  if (!std::is_class_v<F> || from == std::string_view::npos) return "process";
  text.remove_prefix(from + 4);
  text = text.substr(0, text.find_first_of(";]"));
  if (text.find_first_of("<({ ") != std::string_view::npos && text.find("(anonymous") == std::string_view::npos &&
      text.find("{anonymous}") == std::string_view::npos)
    return "process";
  if (auto const scope = text.rfind("::"); scope != std::string_view::npos) text.remove_prefix(scope + 2);
  bool const plain = !text.empty() && text.find_first_of("<({ ") == std::string_view::npos;
  return plain ? std::string(text) : "process";
}

/// A start that was named: what the compiler can know of it.
template <backend Backend, class Tag>
consteval start_method method_of() {
  if constexpr (std::is_same_v<Tag, start::fork_t>) {
    static_assert(Backend::has_fork,
                  "polyproc: start::fork does not exist on this system, which cannot copy a running process; leave it "
                  "away and pass what the target needs as arguments");
    return start_method::fork;
  } else if constexpr (std::is_same_v<Tag, start::forkserver_t>) {
    static_assert(Backend::has_server,
                  "polyproc: start::forkserver does not exist on this system, which cannot copy a running process; leave "
                  "it away: the default is the best that there is on each system");
    return start_method::forkserver;
  } else {
    return start_method::spawn;
  }
}

}  // namespace detail

/// Holds a target and its arguments, not yet started; start() runs it in a process of its own. Move-only.
///
/// Its functions may be called from any number of threads at once, except start, set_*, detach, moves and destruction. The destructor
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
      : basic_process(process_options{}, std::forward<F>(target), std::forward<Args>(args)...) {}

  template <class F, class... Args>
    requires(!detail::is_start_word<std::decay_t<F>>)
  explicit basic_process(process_options options, F&& target, Args&&... args)
      : state_(std::make_unique<contents>(std::move(options), detail::class_name<std::decay_t<F>>())) {
    travels(std::forward<F>(target), std::forward<Args>(args)...);
  }

  template <class Tag, class F, class... Args>
    requires(detail::is_start_tag<Tag>)
  explicit basic_process(Tag tag, F&& target, Args&&... args)
      : basic_process(process_options{}, tag, std::forward<F>(target), std::forward<Args>(args)...) {}

  template <class Tag, class F, class... Args>
    requires(detail::is_start_tag<Tag>)
  explicit basic_process(process_options options, Tag, F&& target, Args&&... args)
      : state_(std::make_unique<contents>(std::move(options), detail::class_name<std::decay_t<F>>())) {
    constexpr auto named = detail::method_of<Backend, Tag>();
    if (state_->options.start != start_method::automatic && state_->options.start != named)
      throw std::invalid_argument("polyproc: a process was given two start methods, one by a tag and another by .start; "
                                  "leave one away");
    state_->options.start = named;
    if constexpr (std::is_same_v<Tag, start::fork_t>) {
      state_->work = std::make_unique<detail::staying_work<Backend, std::decay_t<F>, std::decay_t<Args>...>>(
          std::in_place, std::forward<F>(target), std::forward<Args>(args)...);
    } else {
      travels(std::forward<F>(target), std::forward<Args>(args)...);
    }
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
  /// children); start_error when polyproc::init was not called; std::invalid_argument for options that cannot be;
  /// std::system_error naming the system's call that failed. Nothing is left behind then, and start may be tried again.
  void start() {
    auto& s = get("start");
    if (s.child)
      throw std::logic_error("polyproc: this process was already started; make another object to start it again");
    auto const& own = detail::own();
    if (own.told.daemon && !own.told.worker)
      throw std::logic_error("polyproc: a daemon may not start processes: they would be left behind when it is ended; "
                             "start it without .daemon, or let the parent start them");
    auto const method = s.method();
    if (method != start_method::fork && !own.initialised)
      throw start_error("polyproc: main does not begin with polyproc::init(argc, argv), so a child that runs this program "
                        "again would not find its work but run main once more; add that line (or name "
                        "polyproc::start::fork where it exists)");
    (void)Backend::family();  // can be refused in words here; later, where identities are made, it could not
    auto& list = detail::child_list<Backend>::get();
    list.sweep_if_any();
    s.child = begin(s, method);
    list.add(s.child);
    if (own.told.log >= log_level::info)
      detail::log<Backend>(log_level::info,
                           "started process " + s.options.name + " (" + std::to_string(s.child->pid()) + ")");
  }

  /// Waits until it has ended. Throws std::logic_error if it was never started.
  void join() { (void)joined("join", never); }
  /// False when it still runs at the deadline.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(std::chrono::duration<Rep, Period> wait) {
    return joined("join_for", detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool join_until(std::chrono::time_point<Clock, Duration> when) {
    return joined("join_until", detail::deadline_at<Backend>(when));
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

  /// Asks it to end, as Ctrl-C at a terminal would (SIGINT; Windows: ends it). Asynchronous; nothing once it has ended.
  /// Throws std::logic_error before the start, std::system_error when the system forbids it.
  void interrupt() { started("interrupt").ask(child_request::interrupt); }
  /// Asks it to end (SIGTERM; Windows: ends it). As above.
  void terminate() { started("terminate").ask(child_request::terminate); }
  /// Ends it at whatever instruction it is. As above.
  void kill() { started("kill").ask(child_request::kill); }
  /// Ends it and everything that it has started, and what those have started, at whatever instruction they are. Those whose
  /// own parent had already ended are found only if it was started with options.group. Nothing once it has ended and was
  /// waited for. Throws std::system_error when one of them may not be ended; the others are then.
  void kill_tree() { started("kill_tree").kill_tree(); }
  /// Any other request to the system; false once it has ended.
  bool ask(child_request what) { return started("ask").ask(what); }

  /// Asks, waits for at most `grace`, then ends it; returns when it has ended. With options.group all that it has started
  /// ends with it.
  template <class Rep, class Period>
  void stop(std::chrono::duration<Rep, Period> grace) {
    auto& child = started("stop");
    child.ask(child_request::terminate);
    if (!child.wait(detail::deadline_after<Backend>(grace))) child.ask(child_request::kill);
    child.wait(never);
  }

  /// What it is doing, as far as the system tells. Takes some milliseconds.
  [[nodiscard]] process_state state() const {
    if (!state_ || !state_->child) return process_state::fresh;
    if (state_->child->wait(time_point{})) return process_state::ended;
    auto const row = Backend::process_alone(state_->child->pid());
    return row ? row->state : process_state::unknown;
  }

  /// Calls `call(exit_status const&)` once, on a thread of the library, when it has ended, though nobody waits; at once, in
  /// this thread, if it is known to have ended. What it lets out goes to stderr. Any number of calls.
  template <class Call>
  void on_exit(Call&& call) {
    call_at_exit(std::forward<Call>(call), false);
  }

  /// A descriptor (Windows: HANDLE) for event loops that becomes readable (signaled) at its end. It stays this object's,
  /// and is valid until that is destroyed, assigned to or detached. Backend::invalid_handle if the end was noticed before the
  /// first call.
  [[nodiscard]] typename Backend::handle sentinel() const {
    auto& child = started("sentinel");
    std::scoped_lock hold{state_->sentinel_lock};
    if (!state_->watching) state_->sentinel = child.watch();
    state_->watching = true;
    return state_->sentinel;
  }

  /// A reference that can be copied and sent to other processes.
  [[nodiscard]] basic_process_ref<Backend> ref() const {
    (void)started("ref");
    return basic_process_ref<Backend>(*state_->child);
  }

  /// Runs the target here, in the caller. The process itself stays unstarted. Throws std::logic_error once the target or its
  /// arguments, which can only be moved, have gone to the child.
  void run() {
    auto& s = get("run");
    if (!s.work)
      throw std::logic_error("polyproc: run of a process that was started with arguments that can only be moved: the child "
                             "has them now");
    s.work->run();
  }

  /// Lets it go on by itself, whatever becomes of this process (a daemon still ends with it). The object holds no process
  /// then. Waits until its function is about to begin, two seconds at most: until then a child of the fork server ends with
  /// this process. So does one that was not detached yet when this process was killed right after start().
  void detach() {
    auto& s = get("detach");
    if (s.child && !s.options.daemon) s.child->await_begin();
    if (s.child) s.child->detach();
    state_.reset();
  }

  /// The system's number; nothing before the start.
  [[nodiscard]] std::optional<long> pid() const {
    if (!state_ || !state_->child) return std::nullopt;
    return state_->child->pid();
  }
  [[nodiscard]] std::string const& name() const { return get("name").options.name; }
  [[nodiscard]] bool daemon() const { return get("daemon").options.daemon; }
  /// Before the start. Throw std::logic_error after it.
  void set_name(std::string name) { unstarted("set_name").options.name = std::move(name); }
  void set_daemon(bool daemon) { unstarted("set_daemon").options.daemon = daemon; }

  /// What polyproc::fork does.
  static std::optional<basic_process> copy_of_this(process_options options) {
    if (options.start != start_method::automatic || !options.directory.empty() || !options.environment.empty() ||
        !options.affinity.empty() || options.priority || options.ignore_interrupt ||
        !options.input.is_default(child_stream::null()) || !options.output.is_default(child_stream::inherited()) ||
        !options.error.is_default(child_stream::inherited()))
      throw std::invalid_argument("polyproc: a copy by fork() goes on as it was; of the options only name, daemon, group and "
                                  "grace have a meaning for it");
    auto const& own = detail::own();
    if (own.told.daemon && !own.told.worker)
      throw std::logic_error("polyproc: a daemon may not start processes: they would be left behind when it is ended");
    basic_process made;
    made.state_ = std::make_unique<contents>(std::move(options), "process");
    auto& s = *made.state_;
    (void)Backend::family();
    auto const told = facts_for(s);
    auto& list = detail::child_list<Backend>::get();
    list.sweep_if_any();
    s.child = recorded(s.options, told, false);
    s.child->made_by_itself();
    start_type start;
    start.work = detail::child_record<Backend>::work_of(s.child->offset());
    start.daemon = s.options.daemon;
    start.group = s.options.group;
    start.as_it_is = true;
    if (auto* const record = fork_into(start, told, *s.child)) {
      record->work_was_read();
      return std::nullopt;
    }
    list.add(s.child);
    return made;
  }

  /// For the parts of the library that start processes of a kind of their own.
  struct as_worker {
    bool not_wait = false;  // for whoever is stopped and holds the books of shared memory: throws books_held
  };
  void start(as_worker how) {
    get("start").worker = true;
    get("start").not_wait = how.not_wait;
    start();
  }
  /// As on_exit, on whatever thread sees the end first: it takes no time and waits for nothing.
  template <class Call>
  void on_exit_directly(Call&& call) {
    call_at_exit(std::forward<Call>(call), true);
  }

 private:
  using control = detail::child_control<Backend>;

  struct contents {
    contents(process_options given, std::string const& kind_of_target) : options(std::move(given)) {
      if (options.name.empty()) options.name = kind_of_target + '-' + std::to_string(++made);
    }
    [[nodiscard]] start_method method() const {
      auto chosen = options.start != start_method::automatic ? options.start : get_start_method();
      if (chosen == start_method::automatic)
        chosen = Backend::has_server ? start_method::forkserver : start_method::spawn;
      bool const there = (chosen != start_method::fork || Backend::has_fork) &&
                         (chosen != start_method::forkserver || Backend::has_server);
      if (!there)
        throw std::invalid_argument("polyproc: this system cannot copy a running process, so there is only "
                                    "start_method::spawn (start_method::automatic chooses it here)");
      return chosen;
    }

    process_options options;
    std::unique_ptr<detail::work<Backend>> work;
    std::shared_ptr<control> child;
    bool worker = false;
    bool not_wait = false;
    std::mutex sentinel_lock;  // for the two below: any number of threads may ask
    bool watching = false;
    typename Backend::handle sentinel = Backend::invalid_handle;

    ~contents() {
      if (watching) child->unwatch();
    }
    contents(contents const&) = delete;
    contents& operator=(contents const&) = delete;

    static inline std::atomic<unsigned> made{0};
  };

  template <class Call>
  void call_at_exit(Call&& call, bool direct) {
    auto& child = started("on_exit");
    typename control::callback kept(std::forward<Call>(call));
    // Watched first: a call that was refused must not be run.
    if (child.must_be_watched()) {
      try {
        detail::dispatcher<Backend>::get().watch(state_->child);
      } catch (...) {
        child.not_watched();
        throw;
      }
    }
    child.on_exit(std::move(kept), direct);
  }

  template <class F, class... Args>
  void travels(F&& target, Args&&... args) {
    using work = detail::travelling_work<Backend, std::decay_t<F>, call_parameters_t<F, Args...>>;
    state_->work = std::make_unique<work>(std::forward<F>(target), std::forward<Args>(args)...);
  }

  [[nodiscard]] contents& get(char const* what) const {
    if (!state_)
      throw std::logic_error(std::string("polyproc: ") + what +
                             " of a process object that holds no process (it was made without a target, or moved from)");
    return *state_;
  }
  [[nodiscard]] control& started(char const* what) const {
    auto& s = get(what);
    if (!s.child)
      throw std::logic_error(std::string("polyproc: ") + what +
                             " of a process that was not started; call start() first (run() runs the target in the "
                             "caller, and starts nothing)");
    return *s.child;
  }

  bool joined(char const* what, time_point deadline) {
    if (!started(what).wait(deadline)) return false;
    detail::child_list<Backend>::get().remove(state_->child);
    return true;
  }
  [[nodiscard]] contents& unstarted(char const* what) const {
    auto& s = get(what);
    if (s.child)
      throw std::logic_error(std::string("polyproc: ") + what + " of a process that was started; set it before start()");
    return s;
  }

  using start_type = child_start<typename Backend::handle, Backend::invalid_handle>;

  static std::shared_ptr<control> begin(contents& s, start_method method) {
    auto const& o = s.options;
    auto const told = facts_for(s);
    detail::surroundings const there{o.directory, o.affinity, o.priority};
    // What would fail in the child fails here, where somebody can be told.
    if (!there.directory.empty()) Backend::check_directory(there.directory);
    if (!there.affinity.empty()) Backend::check_affinity(there.affinity);
    if (there.priority && (*there.priority < -20 || *there.priority > 19))
      throw std::invalid_argument("polyproc: a process's priority is a niceness from -20 (served first) to 19 (served last)");
    detail::child_streams<Backend> const streams(o.input, o.output, o.error);
    auto const environment = changed_environment(o.environment);
    auto child = recorded(o, told, s.not_wait);

    start_type start;
    start.work = detail::child_record<Backend>::work_of(child->offset());
    start.daemon = o.daemon;
    start.group = o.group;
    start.ignore_interrupt = o.ignore_interrupt;
    start.streams = streams.get();
    if (environment) start.environment = &*environment;

    if (method == start_method::fork) {
      std::vector<std::uint64_t> kept;
      writer given(writer::for_start);
      start.only_passed = s.work->write_streams(given);
      kept.assign(given.passed().begin(), given.passed().end());
      start.pass = kept;
      auto* const record = fork_into(start, told, *child);
      if (record == nullptr) {
        child->work_holds(given.sent_to_copy());
        s.work->lend();
        if (s.work->moves()) s.work.reset();
        return child;
      }
      given.sent();
      s.work->take();
      record->work_was_read();
      int const code = detail::run_target<Backend>(record, [&] {
        detail::enter_surroundings<Backend>(there);
        s.work->run();
      });
      detail::end_work<Backend>();
      Backend::exit_now(code);  // the parent's exit handlers and static objects are not ours to run
    }
    writer out(writer::for_start);
    encode(out, told);
    encode(out, there);
    s.work->write(out);
    start.pass = out.passed();
    child->shared().write_work(out.view(), child->offset(), s.not_wait);
    if (method == start_method::forkserver) {
      if (auto served = Backend::start_served(start)) {
        child->started(std::move(*served));
        child->made_by_server();
        child->work_holds(out.sent_with_holds());
        if (!out.passed().empty() || s.work->moves()) s.work.reset();
        return child;
      }
      detail::log<Backend>(log_level::details, "no fork server here: process " + o.name + " is started by spawn");
    }
    child->started(Backend::start_image(start));
    child->work_holds(out.sent_with_holds());
    if (!out.passed().empty() || s.work->moves()) s.work.reset();
    return child;
  }

  /// Made before there is a child: memory that ends afterwards would leave one behind.
  static std::shared_ptr<control> recorded(process_options const& o, detail::own_facts const& told, bool not_wait) {
    std::uint64_t offset = 0;
    auto* const record = detail::child_record<Backend>::create(offset, not_wait);
    detail::attachment<Backend>::hold_for_message(offset);  // the child's
    record->creator = told.parent_identity;
    record->write_name(o.name);
    try {
      return std::make_shared<control>(offset, record, o.daemon, o.group);
    } catch (...) {
      detail::attachment<Backend>::release_message(offset);
      detail::attachment<Backend>::release_message(offset);
      throw;
    }
  }

  static detail::own_facts facts_for(contents const& s) {
    auto const& own = detail::own();
    detail::own_facts told;
    told.name = s.options.name;
    told.daemon = s.options.daemon;
    told.worker = s.worker;
    told.parent_pid = Backend::current_pid();
    told.parent_identity = own_identity();
    told.parent_name = own.told.name;
    told.default_start = own.told.default_start;
    told.log = own.told.log;
    told.key = detail::process_key<Backend>();
    return told;
  }
  /// Asking the system for it each time would be a part of what a start costs.
  static std::uint64_t own_identity() {
    static std::atomic<std::uint64_t> known{0};
    static std::atomic<long> of{0};
    auto const pid = Backend::current_pid();
    if (of.load(std::memory_order_acquire) != pid) {
      known.store(Backend::process_self(), std::memory_order_relaxed);
      of.store(pid, std::memory_order_release);
    }
    return known.load(std::memory_order_relaxed);
  }

  static std::optional<std::vector<std::string>> changed_environment(
      std::vector<std::pair<std::string, std::optional<std::string>>> const& changes) {
    if (changes.empty()) return std::nullopt;
    auto const same = [](std::string_view variable, std::string_view name) {
      if (variable.size() <= name.size() || variable[name.size()] != '=') return false;
      for (std::size_t i = 0; i < name.size(); ++i) {
        auto const lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; };
        if (Backend::environment_ignores_case ? lower(variable[i]) != lower(name[i]) : variable[i] != name[i]) return false;
      }
      return true;
    };
    auto all = Backend::environment_list();
    for (auto const& [name, value] : changes) {
      if (name.empty() || name.find('=') != std::string::npos || name.find('\0') != std::string::npos ||
          (value && value->find('\0') != std::string::npos))
        throw std::invalid_argument("polyproc: the environment variable \"" + name +
                                    "\" cannot be set: its name is empty or holds '=', or a zero byte is in it");
      std::erase_if(all, [&, &changed = name](std::string const& variable) { return same(variable, changed); });
      if (value) all.push_back(name + '=' + *value);
    }
    return all;
  }

  /// In the parent nullptr, and `child` is started; in the child its record.
  static detail::child_record<Backend>* fork_into(start_type const& start, detail::own_facts const& told, control& child) {
    if constexpr (forking_backend<Backend>) {
      using attached = detail::attachment<Backend>;
      bool const flushed = detail::flush_streams<Backend>();  // what stands in buffers would be written by both
      attached::before_fork();
      std::optional<typename Backend::child> made;
      writer::hold_list holds;
      try {
        holds = attached::fork_holds();
        made = Backend::start_fork(start);
      } catch (...) {
        // Of a copy that was made and ended again nobody knows what it had let go of.
        if (start.copied) attached::fork_succeeded();
        else attached::fork_failed();
        throw;
      }
      if (made) {
        attached::fork_succeeded();
        child.started(std::move(*made));
        child.work_holds(std::move(holds));
        return nullptr;
      }
      return [&]() noexcept {  // what is thrown here would come out of start() a second time: it ends the child
        attached::in_forked_child();
        detail::facts() = told;
        detail::own().by_fork = true;
        detail::own().by_fork_flushed = flushed;
        return detail::begin_work<Backend>(detail::child_record<Backend>::offset_of(start.work));
      }();
    }
    return nullptr;
  }

  void end() noexcept {
    if (!state_) return;
    auto const child = state_->child;
    try {
      if (child && child->ours() && !child->done()) {
        if (!child->wait(time_point{})) {
          if (state_->options.daemon) {
            child->ask(child_request::kill);
          } else {
            child->ask(child_request::terminate);
            if (!child->wait(detail::deadline_after<Backend>(state_->options.grace))) child->ask(child_request::kill);
          }
          child->wait(never);
        }
      }
    } catch (...) {  // it may not be ours to end any more (another user's): it goes on, and is reaped some time
    }
    if (child && child->ours()) {
      if (child->done())
        detail::child_list<Backend>::get().remove(child);
      else
        child->detach();
    }
    state_.reset();
  }

  std::unique_ptr<contents> state_;
};

using process = basic_process<>;

/// Made and started: launch(target, args...), launch({.name = "x"}, target, args...), launch(start::spawn, target, args...).
template <class First, class... Args>
  requires(!std::is_same_v<std::decay_t<First>, process_options>)
[[nodiscard]] process launch(First&& first, Args&&... args) {
  process made(std::forward<First>(first), std::forward<Args>(args)...);
  made.start();
  return made;
}
template <class... Args>
[[nodiscard]] process launch(process_options options, Args&&... args) {
  process made(std::move(options), std::forward<Args>(args)...);
  made.start();
  return made;
}

}  // namespace polyproc::inline v0_1
