/// What every Unix backend does alike for children: the arguments by which a fresh image finds what it inherited, what is
/// changed in a child before its work begins, and its end.
///
/// How an end is noticed: by a pidfd where the system has them, else by a pipe whose other end the child alone holds. Whose
/// child it is: this process's, or that of the helper (unix_server.hpp, portable backend only), which then puts its status
/// into a word of shared memory; or somebody else's, known by its identity.
#pragma once

#include <polyproc/backend/unix_streams.hpp>

namespace polyproc::inline v0_1::detail {

/// The words of the argument by which a child of start_image knows itself: "--polyproc-child=NAME:n:n:...".
inline constexpr std::string_view child_marker = "--polyproc-child=";

template <class Derived>
struct unix_children : unix_streams<Derived> {
  using unix_common<Derived>::now;
  using unix_common<Derived>::poll_until;
  using unix_common<Derived>::handle_close;
  using unix_streams<Derived>::passed_;
  using unix_streams<Derived>::passed_count_;

  using start = child_start<int, -1>;

  struct child {
    pid_t pid = 0;
    int end = -1;  // see above; of somebody else's child perhaps none
    bool by_pidfd = false;
    bool group = false;                          // the leader of one of its own
    pid_t helper = 0;                            // whose child it is; 0: ours
    std::atomic<std::uint64_t>* word = nullptr;  // where the helper says how it ended
    std::uint64_t identity = 0;                  // of somebody else's child, which is never reaped here
  };

  /// As the system has it; of a child whom a helper made, as if it had been made directly, while that parent lives.
  static long parent_pid() noexcept {
    auto const parent = own_.parent_pid;
    return parent != 0 && ::kill(parent, 0) == 0 ? parent : ::getppid();
  }

  /// As the system has it: the maker, who lives then.
  static long direct_parent_pid() noexcept { return ::getppid(); }

  static long pid(child const& c) noexcept { return c.pid; }
  static int sentinel(child const& c) noexcept { return c.end; }
  static void release(child& c) noexcept {
    handle_close(std::exchange(c.end, -1));
    c = child{};
  }

  static bool await_end(child const& c, time_point deadline) {
    if (c.by_pidfd) return poll_until(c.end, deadline);
    if (c.identity != 0) return await_stranger(c, deadline);
    // Normally the pipe tells. But somebody who is neither of us may hold the child's end of it too (one that the
    // child forked by means that run no fork handlers), so the child itself is asked now and then.
    constexpr std::chrono::milliseconds glance{250};
    bool hung_up = false;
    while (!hung_up) {
      auto const glance_at = now() + glance;
      hung_up = poll_until(c.end, std::min(deadline, glance_at));
      if (!hung_up) {
        if (ended(c, false)) return true;
        if (now() >= deadline) return false;
      }
    }
    // Its descriptors are closed. Its end comes a moment later, unless it closed them itself.
    auto patience = now() + std::chrono::milliseconds{200};
    for (std::chrono::microseconds pause{20};;) {
      if (ended(c, true)) return true;
      auto const time = now();
      bool const late = time >= deadline;
      if (c.helper != 0 && (late || time >= patience)) {  // which may have been stopped
        ::kill(c.helper, SIGCONT);
        patience = time + std::chrono::seconds{1};
      }
      if (late) return false;
      nap(pause, deadline);
      pause = std::min<std::chrono::microseconds>(pause * 2, std::chrono::milliseconds{10});
    }
  }

  static end_status reap(child& c) noexcept {
    if (c.helper != 0) {
      auto const told = c.word->load(std::memory_order_acquire);
      Derived::helper_may_reap(c);
      return told == 0 ? end_status{} : status_of(static_cast<int>(static_cast<std::uint32_t>(told)));
    }
    int raw = 0;
    pid_t got = 0;
    do got = ::waitpid(c.pid, &raw, 0);
    while (got < 0 && errno == EINTR);
    if (got != c.pid) return {};  // somebody else took it, or SIGCHLD is ignored: unknown
    return status_of(raw);
  }

  static bool ask(child const& c, child_request what) {
    int const number = signal_number(what);
    if constexpr (requires { Derived::signal_by_pidfd(c.end, number); }) {
      if (c.by_pidfd) return !poll_until(c.end, time_point{}) && Derived::signal_by_pidfd(c.end, number);
    }
    // Its number is not given to anybody else before we (or the helper, told by us) have reaped it. A stranger's may be
    // in the moment between these two calls: nothing portable can prevent that.
    if (c.identity != 0 ? !Derived::alive(c.identity) : ended(c, c.end < 0 || poll_until(c.end, time_point{}))) return false;
    if (::kill(c.pid, number) != 0) {
      if (errno == ESRCH) return false;
      throw_errno("kill");
    }
    if (what == child_request::stop && c.helper == 0 && c.identity == 0) await_stop(c);
    return true;
  }

  /// The system does it in one step: nobody in the group can be starting another one meanwhile.
  static void kill_group(child const& c) noexcept {
    if (c.group && c.pid > 0) ::kill(-c.pid, SIGKILL);
  }

  static bool maybe_ended() noexcept {
    int const saved = errno;
    siginfo_t info{};
    int got = 0;
    do got = ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
    while (got != 0 && errno == EINTR);
    bool const one = got == 0 && info.si_pid != 0;
    errno = saved;
    return Derived::helpers_have_children() || one;
  }

  static std::optional<std::size_t> wait_any(std::span<int const> handles, time_point deadline) {
    std::array<pollfd, 16> few;
    std::vector<pollfd> many(handles.size() > few.size() ? handles.size() : 0);
    auto const look = std::span<pollfd>(many.empty() ? few.data() : many.data(), handles.size());
    for (std::size_t i = 0; i < look.size(); ++i) look[i] = {handles[i], POLLIN, 0};
    for (;;) {
      int const ready = ::poll(look.data(), static_cast<nfds_t>(look.size()), poll_timeout(now(), deadline));
      if (ready < 0 && errno != EINTR) throw_errno("poll");
      for (std::size_t i = 0; ready > 0 && i < look.size(); ++i) {
        if ((look[i].revents & POLLNVAL) != 0) throw_errno("poll", EBADF);
        if (look[i].revents != 0) return i;
      }
      if (ready == 0 && now() >= deadline) return std::nullopt;
    }
  }

  static int signal_number(child_request what) noexcept {
    switch (what) {
      case child_request::interrupt: return SIGINT;
      case child_request::terminate: return SIGTERM;
      case child_request::kill: return SIGKILL;
      case child_request::stop: return SIGSTOP;
      case child_request::resume: return SIGCONT;
    }
    return 0;
  }

 protected:
  /// What this process was given by the one that started it.
  struct own_state {
    int alive = -1;   // write end of the pipe whose closing tells the parent of our end, where there are no pidfds
    int parent = -1;  // read end of the parent's life pipe, while we are a daemon
    pid_t parent_pid = 0;  // of a copy of a helper: who had it made
  };

  static void forked() noexcept {
    handle_close(std::exchange(own_.alive, -1));
    handle_close(std::exchange(own_.parent, -1));
    own_.parent_pid = 0;
    unix_common<Derived>::forked();
  }

  // --- what every child finds

  enum : unsigned { flag_daemon = 1, flag_group = 2, flag_ignore_interrupt = 4 };
  static unsigned flags_of(start const& s) noexcept {
    return (s.daemon ? flag_daemon : 0U) | (s.group ? flag_group : 0U) | (s.ignore_interrupt ? flag_ignore_interrupt : 0U);
  }

  /// The numbers that every marker begins with; a backend may have more behind them.
  enum marker_place : std::size_t { work_at, flags_at, alive_at, life_at, family_at, server_at, marker_head };
  template <std::size_t N>
  using marker = std::array<std::int64_t, N>;

  [[noreturn]] static void not_a_child() {
    throw std::runtime_error(
        "polyproc: the argument --polyproc-child is only for processes that polyproc starts itself; "
        "run the program without it");
  }

  /// The streams that a child is to have besides. Those that have the number of a standard stream go under another one.
  class passengers {
   public:
    explicit passengers(start const& s) {
      if (s.pass.size() > unix_streams<Derived>::most_passed)
        throw_errno("the start of a process that is to have more than 64 streams", E2BIG);
      for (auto const number : s.pass) {
        int fd = unix_streams<Derived>::stream_numbered(number).fd;
        if (fd < 3) {
          copies_.emplace_back(unix_common<Derived>::handle_duplicate(fd));
          fd = copies_.back().get();
        }
        all_.push_back(fd);
      }
    }
    [[nodiscard]] std::span<int const> all() const noexcept { return all_; }

   private:
    std::vector<int> all_;
    std::vector<scoped_fd> copies_;
  };

  /// The numbers after "NAME:" in the marker argument; false if this is not a child. All but the first two are
  /// descriptors, or -1. Behind them come those of the streams that the child is given.
  template <std::size_t N>
  static bool parse_marker(int argc, char** argv, marker<N>& numbers) {
    if (argc != 2 || argv[1] == nullptr) return false;
    std::string_view text{argv[1]};
    if (!text.starts_with(child_marker)) return false;
    text.remove_prefix(child_marker.size());
    std::string_view const name{Derived::name};
    if (!text.starts_with(name) || text.size() <= name.size() || text[name.size()] != ':') not_a_child();
    text.remove_prefix(name.size() + 1);
    std::size_t count = 0;
    for (; count < N || !text.empty(); ++count) {
      if (count > 0) {
        if (text.empty() || text[0] != ':') not_a_child();
        text.remove_prefix(1);
      }
      auto const number = parse_number(text);
      if (count < N) {
        numbers[count] = number;
      } else {
        if (count - N >= passed_.size() || number < 0) not_a_child();
        passed_[count - N] = kept_open(number);
      }
    }
    if (numbers[work_at] < 0 || numbers[flags_at] < 0) not_a_child();
    for (std::size_t i = alive_at; i < N; ++i) {
      if (numbers[i] >= 0) kept_open(numbers[i]);
    }
    passed_count_ = count - N;
    return true;
  }
  static std::int64_t parse_number(std::string_view& text) {
    std::int64_t value = 0;
    std::size_t digits = 0;
    bool const negative = !text.empty() && text[0] == '-';
    if (negative) text.remove_prefix(1);
    while (digits < text.size() && digits < 17 && text[digits] >= '0' && text[digits] <= '9')
      value = value * 10 + (text[digits++] - '0');
    if (digits == 0) not_a_child();
    text.remove_prefix(digits);
    return negative ? -1 : value;
  }
  /// A descriptor that was inherited on purpose, and is not to be any further.
  static int kept_open(std::int64_t fd) {
    if (fd < 3 || fd > INT_MAX || ::fcntl(static_cast<int>(fd), F_SETFD, FD_CLOEXEC) != 0) not_a_child();
    return static_cast<int>(fd);
  }
  template <std::size_t N>
  static std::string make_marker(marker<N> const& numbers, passengers const& pass) {
    std::string text{child_marker};
    text += Derived::name;
    for (auto const n : numbers) text += ':' + std::to_string(n < 0 ? -1 : n);
    for (int const fd : pass.all()) text += ':' + std::to_string(fd);
    return text;
  }

  /// The pipe that tells of a child's end.
  struct alive_pipe {
    scoped_fd read;
    scoped_fd write;
    void make() {
      auto const [r, w] = unix_common<Derived>::pipe_create();
      read.reset(r);
      write.reset(w);
    }
  };

  /// In a child that goes on with this image: signals are as in a fresh one. Nothing that may allocate or lock: it also
  /// runs between vfork and exec, in the parent's memory.
  __attribute__((no_sanitize("address", "thread", "undefined"))) static void clean_dispositions(bool ignore_interrupt) noexcept {
    for (int number = 1; number < NSIG; ++number) {
      bool const ignored = ignore_interrupt && number == SIGINT;
      struct sigaction action {};
      if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler != (ignored ? SIG_IGN : SIG_DFL)) {
        action = {};
        action.sa_handler = ignored ? SIG_IGN : SIG_DFL;
        ::sigaction(number, &action, nullptr);
      }
    }
  }
  __attribute__((no_sanitize("address", "thread", "undefined"))) static void clean_signals(bool ignore_interrupt) noexcept {
    clean_dispositions(ignore_interrupt);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
  }

  /// All signals, of this thread, while it makes a child: no handler of the program may run in the child before its
  /// signals are clean.
  class signals_held {
   public:
    signals_held() noexcept {
      sigset_t all;
      ::sigfillset(&all);
      ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    signals_held(signals_held const&) = delete;
    signals_held& operator=(signals_held const&) = delete;
    ~signals_held() {
      if (held_) ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    /// In the child, whose signals clean_signals has set.
    void leave_as_they_are() noexcept { held_ = false; }

   private:
    sigset_t before_;
    bool held_ = true;
  };

  static void hold_all_signals() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  }

  /// The environment of a process that may go on changing it: the strings live as long as the process.
  static void replace_environment(std::vector<std::string> const& all) {
    auto** const block = new char*[all.size() + 1];
    for (std::size_t i = 0; i < all.size(); ++i) {
      block[i] = new char[all[i].size() + 1];
      std::memcpy(block[i], all[i].c_str(), all[i].size() + 1);
    }
    block[all.size()] = nullptr;
    environ = block;
  }

  /// In a child made by fork, after forked(). What is thrown here would come out of start() a second time: so it ends the
  /// child.
  static void begin_forked(start const& s) noexcept {
    if (s.only_passed) unix_streams<Derived>::close_all_but(s.pass);
    for (int i = 0; i < 3; ++i) {
      auto const from = s.streams[static_cast<std::size_t>(i)];
      if (from >= 0) ::dup2(from, i);
    }
    if (s.environment != nullptr) replace_environment(*s.environment);
    if (s.group) ::setpgid(0, 0);
    if (!s.as_it_is) clean_signals(s.ignore_interrupt);
  }

  // --- its end

  static end_status status_of(int raw) noexcept {
    end_status status;
    status.raw = static_cast<std::uint32_t>(raw);
    if (WIFEXITED(raw)) {
      status.kind = end_kind::code;
      status.value = WEXITSTATUS(raw);
    } else if (WIFSIGNALED(raw)) {
      status.kind = end_kind::signal;
      status.value = WTERMSIG(raw);
#ifdef WCOREDUMP
      status.core = WCOREDUMP(raw);
#endif
    }
    return status;
  }

  /// Looks without taking the status. `hung_up`: its end of the pipe is closed.
  static bool ended(child const& c, bool hung_up) noexcept {
    if (c.helper != 0)
      return c.word->load(std::memory_order_acquire) != 0 || (hung_up && !Derived::helper_lives(c));
    int const saved = errno;
    siginfo_t info{};
    int got = 0;
    do got = ::waitid(P_PID, static_cast<id_t>(c.pid), &info, WEXITED | WNOHANG | WNOWAIT);
    while (got != 0 && errno == EINTR);
    // Not ours to wait for: the status was taken by somebody else or thrown away (SIGCHLD ignored).
    bool const gone = got == 0 ? info.si_pid != 0 : hung_up || (::kill(c.pid, 0) != 0 && errno == ESRCH);
    errno = saved;
    return gone;
  }

  static bool await_stranger(child const& c, time_point deadline) {
    for (std::chrono::microseconds pause{100};;) {
      if (!Derived::alive(c.identity)) return true;
      if (now() >= deadline) return false;
      nap(pause, deadline);
      pause = std::min<std::chrono::microseconds>(pause * 2, std::chrono::milliseconds{20});
    }
  }

  /// Until it has stopped, ended, or a tenth of a second has passed. On the portable backend only a daemon that has really
  /// stopped is resumed by the system when its parent ends.
  static void await_stop(child const& c) noexcept {
    auto const deadline = now() + std::chrono::milliseconds{100};
    for (std::chrono::microseconds pause{10}; now() < deadline; pause *= 2) {
      siginfo_t info{};
      int const got = ::waitid(P_PID, static_cast<id_t>(c.pid), &info, WSTOPPED | WEXITED | WNOHANG | WNOWAIT);
      if (got == 0 ? info.si_pid != 0 : errno != EINTR) return;
      nap(pause, deadline);
    }
  }

  /// Naps at most until the deadline. poll counts in milliseconds, so this is for shorter ones too.
  static void nap(std::chrono::microseconds length, time_point deadline) noexcept {
    auto const left = deadline == never ? length : std::chrono::ceil<std::chrono::microseconds>(deadline - now());
    auto const micros = std::min(length, left).count();
    if (micros <= 0) return;
    timespec const pause{static_cast<time_t>(micros / 1000000), static_cast<long>(micros % 1000000) * 1000};
    ::nanosleep(&pause, nullptr);
  }

  static inline own_state own_{};
};

}  // namespace polyproc::inline v0_1::detail
