/// The table of processes where the system has no /proc: what the standard utility `ps` prints. No call of the system
/// for it is the same everywhere, and those of macOS and FreeBSD show little of other users' processes; ps may look.
///
/// It cannot tell: who runs from who waits for a processor (both are called running), threads, descriptors. Times are in
/// whole seconds on Linux, hundredths elsewhere.
#pragma once

#include <polyproc/backend/unix_tree.hpp>

#include <spawn.h>

namespace polyproc::inline v0_1::detail {

/// Backend has pipe_create() (close-on-exec) and poll_until(fd, deadline).
template <class Backend>
struct posix_processes {
  /// The process with that number and all its descendants, parents before their children. Empty when there is none, or
  /// no ps that understands us, or it does not answer within five seconds. Throws std::system_error when it cannot be
  /// started for want of something.
  static std::vector<process_row> processes(long root) {
    std::vector<listed> all;
    if (root <= 0 || !list(all)) return {};
    std::vector<process_link> links;
    std::vector<std::size_t> from;
    for (auto const& one : all) {
      if (one.link.pid == root) from.push_back(links.size());
      links.push_back(one.link);
    }
    std::vector<process_row> rows;
    std::vector<std::pair<uid_t, std::string>> users;
    for (auto const i : with_descendants(links, from, slack, std::vector<char>(all.size())))
      rows.push_back(row_of(std::move(all[i]), users));
    return rows;
  }

  static std::optional<process_row> process_alone(long pid) {
    std::vector<listed> all;
    if (pid <= 0 || !list(all)) return std::nullopt;
    std::vector<std::pair<uid_t, std::string>> users;
    for (auto& one : all) {
      if (one.link.pid == pid) return row_of(std::move(one), users);
    }
    return std::nullopt;
  }

  /// Ends root and all that descends from it; with group also who is in the process group of that number, and their
  /// descendants. For a root that has not been reaped: its number is not given to anybody else then. That of another
  /// process may be, and is told apart by its age, in seconds. Without a ps only root and group are ended. It takes ten
  /// seconds at most (see tree_killer), and ps's own where it does not answer. Throws std::system_error: when somebody
  /// may not be signalled, after all others were; when the tree grows faster than it can be stopped; when the root is
  /// this process or one that it descends from, and then nothing was done.
  static void kill_tree(pid_t root, bool group) {
    signals table{root};
    tree_killer<signals>(table, root, group).run();
  }

 private:
  static constexpr std::chrono::seconds ps_patience{5};
  /// By how many seconds a start that was told as an age may be wrong.
  static constexpr std::int64_t slack = 2;

  struct listed {
    process_link link;
    process_row row;
    uid_t user = 0;
  };

  static process_row row_of(listed&& one, std::vector<std::pair<uid_t, std::string>>& users) {
    auto at = std::find_if(users.begin(), users.end(), [&](auto const& known) { return known.first == one.user; });
    if (at == users.end()) at = users.insert(at, {one.user, user_name(one.user)});
    one.row.user = at->second;
    return std::move(one.row);
  }

  /// All that ps tells, without itself; false if it tells nothing.
  static bool list(std::vector<listed>& all) {
    std::string text;
    pid_t ps = 0;
    auto const before = std::chrono::steady_clock::now();
    if (!run_ps(text, ps)) return false;
    // Ages are counted from about the moment at which it began to look.
    auto const now = std::chrono::duration_cast<std::chrono::seconds>(before.time_since_epoch()).count();
    for (std::string_view rest{text}; !rest.empty();) {
      auto const end = rest.find('\n');
      listed one;
      // What is not a line of the table (the heading, a complaint) does not begin with four numbers.
      if (parse(rest.substr(0, end), now, one) && one.link.pid != ps) all.push_back(std::move(one));
      rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
    return !all.empty();
  }

  // --- running ps

  /// The columns that procps, macOS and the BSDs have in common. (rss and stat are not POSIX's; uid instead of user,
  /// because names are cut to a column's width.) The heading is left on: suppressing it (pid=) is not possible for all of
  /// them on older BSDs, where some are other names for others.
  static constexpr char const* columns = "pid,ppid,pgid,uid,stat,nice,rss,time,etime,comm";

  static void check(int error, char const* call) {
    if (error != 0) throw_errno(call, error);
  }

  struct spawn_request {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    spawn_request() {
      check(::posix_spawn_file_actions_init(&actions), "posix_spawn_file_actions_init");
      if (int const error = ::posix_spawnattr_init(&attributes); error != 0) {
        ::posix_spawn_file_actions_destroy(&actions);
        throw_errno("posix_spawnattr_init", error);
      }
      // What this program ignores or blocks is not ps's business.
      sigset_t set;
      sigemptyset(&set);
      ::posix_spawnattr_setsigmask(&attributes, &set);
      sigfillset(&set);
      sigdelset(&set, SIGKILL);
      sigdelset(&set, SIGSTOP);
      ::posix_spawnattr_setsigdefault(&attributes, &set);
      ::posix_spawnattr_setflags(&attributes, static_cast<short>(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK));
    }
    spawn_request(spawn_request const&) = delete;
    spawn_request& operator=(spawn_request const&) = delete;
    ~spawn_request() {
      ::posix_spawnattr_destroy(&attributes);
      ::posix_spawn_file_actions_destroy(&actions);
    }
  };

  /// ps, which is ended and reaped with its scope: by its own number, and only as long as that is certainly its own.
  class ps_process {
   public:
    ps_process() = default;
    ps_process(ps_process const&) = delete;
    ps_process& operator=(ps_process const&) = delete;
    ~ps_process() {
      if (number == 0 || reaped(std::chrono::steady_clock::now())) return;
      ::kill(number, SIGKILL);
      // Who is stuck in the kernel does not even end of that at once, and is not waited for.
      reaped(std::chrono::steady_clock::now() + std::chrono::seconds{1});
    }
    /// True when it has ended; its status may have been taken by somebody else.
    bool reaped(time_point deadline) noexcept {
      for (auto nap = std::chrono::microseconds{100}; number != 0;
           nap = std::min(nap * 2, std::chrono::microseconds{5000})) {
        auto const got = ::waitpid(number, &status, WNOHANG);
        if (got == number || (got < 0 && errno != EINTR))
          number = 0;
        else if (std::chrono::steady_clock::now() >= deadline)
          return false;
        else
          doze(nap);
      }
      return true;
    }

    pid_t number = 0;
    int status = 0;
  };

  static bool run_ps(std::string& text, pid_t& number) {
    auto const deadline = std::chrono::steady_clock::now() + ps_patience;
    ps_process ps;
    auto const [read, write] = Backend::pipe_create();
    scoped_fd const in{read};
    scoped_fd out{write};
    // Not a terminal, whose width it would keep to; and nothing of what it complains about.
    scoped_fd const nothing{::open("/dev/null", O_RDWR | O_CLOEXEC)};
    if (nothing.get() < 0) throw_errno("open of /dev/null");
    std::string name = "ps", all = "-A", chosen = "-o", which = columns;
    char* const argv[] = {name.data(), all.data(), chosen.data(), which.data(), nullptr};
    // Many variables change what it prints; in this language times are written as we know them.
    std::string language = "LC_ALL=C";
    char* const surroundings[] = {language.data(), nullptr};
    {
      spawn_request request;
      // In this order: that of the pipe and of nothing are never standard streams themselves, see numbered_high.
      scoped_fd const high_out{numbered_high(out.get())};
      scoped_fd const high_nothing{numbered_high(nothing.get())};
      check(::posix_spawn_file_actions_adddup2(&request.actions, high_nothing.get(), 0),
            "posix_spawn_file_actions_adddup2");
      check(::posix_spawn_file_actions_adddup2(&request.actions, high_out.get(), 1),
            "posix_spawn_file_actions_adddup2");
      check(::posix_spawn_file_actions_adddup2(&request.actions, high_nothing.get(), 2),
            "posix_spawn_file_actions_adddup2");
      int const error =
          ::posix_spawnp(&ps.number, name.c_str(), &request.actions, &request.attributes, argv, surroundings);
      if (error != 0) ps.number = 0;
      if (error == ENOENT || error == EACCES || error == ENOTDIR || error == ENOEXEC) return false;
      check(error, "posix_spawnp of ps");
    }
    number = ps.number;
    out.reset();
    for (;;) {
      if (!Backend::poll_until(in.get(), deadline)) return false;
      char bytes[4096];
      auto const got = ::read(in.get(), bytes, sizeof bytes);
      if (got == 0) break;
      if (got > 0) text.append(bytes, static_cast<std::size_t>(got));
      if (got < 0 && errno != EINTR) throw_errno("read of what ps prints");
    }
    if (!ps.reaped(deadline)) return false;
    // 0 as well when somebody else took it: then what it printed must do.
    return ps.status == 0;
  }
  /// A copy that is not one of the standard streams, which a program may be running without.
  static int numbered_high(int fd) {
    int const copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) throw_errno("fcntl(F_DUPFD_CLOEXEC)");
    return copy;
  }

  // --- what it prints

  static std::string_view word(std::string_view& line) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    auto const found = line.substr(0, line.find(' '));
    line.remove_prefix(found.size());
    return found;
  }
  static bool number(std::string_view text, std::int64_t& value) {
    bool const negative = !text.empty() && text.front() == '-';
    if (negative) text.remove_prefix(1);
    if (text.empty() || text.size() > 18) return false;
    value = 0;
    for (char const c : text) {
      if (c < '0' || c > '9') return false;
      value = value * 10 + (c - '0');
    }
    if (negative) value = -value;
    return true;
  }
  /// [[days-]hours:]minutes:seconds[.fraction]; minutes may be more than 59.
  static std::optional<std::chrono::microseconds> duration(std::string_view text) {
    std::int64_t days = 0;
    if (auto const dash = text.find('-'); dash != std::string_view::npos) {
      if (!number(text.substr(0, dash), days)) return std::nullopt;
      text.remove_prefix(dash + 1);
    }
    std::int64_t fraction = 0;
    if (auto const point = text.find_first_of(".,"); point != std::string_view::npos) {
      std::string digits{text.substr(point + 1, 6)};
      digits.resize(6, '0');
      if (!number(digits, fraction) || fraction < 0) return std::nullopt;
      text = text.substr(0, point);
    }
    std::int64_t whole = 0;
    int parts = 0;
    for (bool more = true; more; ++parts) {
      auto const colon = text.find(':');
      more = colon != std::string_view::npos;
      std::int64_t part = 0;
      if (parts > 2 || !number(text.substr(0, colon), part) || part < 0 || part > 1000000000) return std::nullopt;
      whole = whole * 60 + part;
      if (more) text.remove_prefix(colon + 1);
    }
    if (parts < 2 || days < 0 || days > 1000000) return std::nullopt;
    return std::chrono::seconds{days * 86400 + whole} + std::chrono::microseconds{fraction};
  }

  static process_state state_of(char letter) noexcept {
    switch (letter) {
      case 'R':
        return process_state::running;
      case 'S':
      case 'I':
      case 'D':
      case 'U':
      case 'L':
      case 'W':
        return process_state::blocked;
      case 'T':
      case 't':
        return process_state::stopped;
      case 'Z':
      case 'X':
        return process_state::ended;
      default:
        return process_state::unknown;
    }
  }

  static bool parse(std::string_view line, std::int64_t now, listed& one) {
    std::int64_t pid = 0, parent = 0, group = 0, user = 0, nice = 0, kilobytes = 0;
    if (!number(word(line), pid) || !number(word(line), parent) || !number(word(line), group) ||
        !number(word(line), user))
      return false;
    auto const state = word(line);
    if (pid <= 0 || pid > INT_MAX || state.empty()) return false;
    one.row.pid = static_cast<long>(pid);
    one.row.parent = static_cast<long>(parent);
    // This process waits for ps at the moment, but not otherwise.
    one.row.state = pid == ::getpid() ? process_state::running : state_of(state.front());
    one.user = static_cast<uid_t>(user);
    // A hyphen is for what has no meaning for that process.
    if (number(word(line), nice)) one.row.priority = static_cast<int>(nice);
    if (number(word(line), kilobytes) && kilobytes >= 0) one.row.memory = static_cast<std::uint64_t>(kilobytes) * 1024;
    one.row.cpu_time = duration(word(line));
    auto const age = word(line);
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    line = line.substr(0, line.find_last_not_of(' ') + 1);
    // On macOS it is the whole path.
    if (!line.empty() && line.front() == '/') line.remove_prefix(line.rfind('/') + 1);
    one.row.name = line;

    one.link.pid = static_cast<pid_t>(pid);
    one.link.parent = static_cast<pid_t>(parent);
    one.link.group = static_cast<pid_t>(group);
    if (age == "-") {
      one.link.start = unknown_start;
    } else {
      // procps has been seen to print 441077234-00:18:40 (days, hours...) for a process that had just been started.
      auto const told = duration(age).value_or(std::chrono::microseconds{0});
      one.link.start =
          now -
          (told < std::chrono::hours{24 * 36500} ? std::chrono::duration_cast<std::chrono::seconds>(told).count() : 0);
    }
    one.link.ended = one.row.state == process_state::ended;
    one.link.moves = one.link.ended || one.row.state == process_state::stopped ? motion::still
                     : one.row.state == process_state::running                 ? motion::moving
                                                                               : motion::held;
    return true;
  }

  // --- kill_tree

  /// How a tree_killer sees and reaches processes.
  struct signals {
    static constexpr std::chrono::seconds patience{5};
    static constexpr std::int64_t slack = posix_processes::slack;
    static constexpr bool can_look = false;

    pid_t root;

    static bool list(std::vector<process_link>& all) {
      std::vector<listed> lines;
      bool const there = posix_processes::list(lines);
      for (auto const& one : lines) all.push_back(one.link);
      return there;
    }
    static char const* sender() noexcept { return "kill"; }
    static bool root_there() noexcept { return true; }
    int send_root(int signal) const noexcept { return ::kill(root, signal) == 0 ? 0 : errno; }
    static int send(process_link const& to, int signal) noexcept { return ::kill(to.pid, signal) == 0 ? 0 : errno; }
  };
};

}  // namespace polyproc::inline v0_1::detail
