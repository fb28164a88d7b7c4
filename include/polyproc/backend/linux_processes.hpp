/// The table of processes as Linux tells it: /proc, where every process is a directory.
///
/// What a process does is told by its threads, all of them. Which threads of those that could run do run is not told at
/// all: the kernel calls both "R". It does say for how long each has run; so that is asked twice, see tell_running.
#pragma once

#include <polyproc/backend/unix_tree.hpp>

#include <sys/syscall.h>

namespace polyproc::inline v0_1::detail {

/// A template, though of nothing, so that it costs those who do not use it next to no time to compile.
template <class = void>
struct linux_processes {
  /// The process with that number and all its descendants, parents before their children. Empty when there is none, or
  /// no /proc. Throws std::system_error when this process is out of descriptors or memory.
  static std::vector<process_row> processes(long root) {
    std::vector<process_link> all;
    if (root <= 0 || !list(all)) return {};
    std::vector<std::size_t> from;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i].pid == root) from.push_back(i);
    }
    reading look;
    for (auto const i : with_descendants(all, from, 0, std::vector<char>(all.size()))) {
      auto row = look.describe(all[i]);
      // Who is a child of a process that is gone by now, or was given to another, is none of ours.
      if (row && (row->pid == root || look.has(row->parent))) look.add(std::move(*row));
    }
    return look.finish();
  }

  /// That one line. A thread that is not its process's first has none.
  static std::optional<process_row> process_alone(long pid) {
    if (pid <= 0 || pid > INT_MAX || !is_ours()) return std::nullopt;
    stat_line line;
    if (!read_stat(path_of(static_cast<pid_t>(pid), "stat"), line) || !is_process(static_cast<pid_t>(pid)))
      return std::nullopt;
    reading look;
    auto row = look.describe(link_of(line));
    if (!row) return std::nullopt;
    look.add(std::move(*row));
    return std::move(look.finish().front());
  }

  /// Ends root and all that descends from it; with group also who is in the process group of that number, and their
  /// descendants. For a root that has not been reaped; if it might have been, a pidfd tells it apart from who was given
  /// its number (pidfd < 0: there is none). A root that has ended already leaves only the group to find. It takes six
  /// seconds at most (see tree_killer), unless the machine is so loaded that the table itself cannot be read.
  /// Throws std::system_error: when somebody may not be signalled, after all others were; when the tree grows faster
  /// than it can be stopped; when the root is this process or one that it descends from, and then nothing was done.
  static void kill_tree(pid_t root, int pidfd, bool group) {
    signals table{root, pidfd};
    tree_killer<signals>(table, root, group).run();
  }

 private:
  /// What is used of a process's or thread's stat file.
  struct stat_line {
    pid_t pid = 0;
    std::string name;
    char state = '?';
    pid_t parent = 0;
    pid_t group = 0;
    std::uint64_t ticks = 0;  // user and system
    int nice = 0;
    unsigned threads = 0;
    std::int64_t start = 0;
    std::uint64_t pages = 0;
    int processor = 0;
  };

  // --- files under /proc

  /// Not to be opened: nothing is there, any more or for us. That this process is out of descriptors or memory says
  /// nothing about the other, and is thrown.
  static scoped_fd open_at(int directory, std::string const& path, int flags) {
    int fd = -1;
    do fd = ::openat(directory, path.c_str(), flags | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
      throw_errno(("openat of /proc/... " + path).c_str());
    return scoped_fd{fd};
  }
  static std::string path_of(pid_t pid, char const* file) { return "/proc/" + std::to_string(pid) + '/' + file; }

  template <std::size_t N>
  static std::size_t slurp(int directory, std::string const& path, char (&into)[N]) {
    auto const file = open_at(directory, path, O_RDONLY);
    if (file.get() < 0) return 0;
    ssize_t got = 0;
    do got = ::read(file.get(), into, N - 1);
    while (got < 0 && errno == EINTR);
    auto const size = got > 0 ? static_cast<std::size_t>(got) : 0;
    into[size] = '\0';
    return size;
  }

  /// Calls each(number) for every entry of a directory whose name is one; false if it cannot be read.
  template <class Each>
  static bool each_number(int directory, std::string const& path, Each&& each) {
    auto file = open_at(directory, path, O_RDONLY | O_DIRECTORY);
    if (file.get() < 0) return false;
    struct closer {
      DIR* all;
      ~closer() { ::closedir(all); }
    };
    DIR* const opened = ::fdopendir(file.get());
    if (opened == nullptr) {
      if (errno == ENOMEM) throw_errno("fdopendir");
      return false;  // it has ended since
    }
    file.release();
    closer const all{opened};
    for (;;) {
      errno = 0;
      dirent const* const entry = ::readdir(all.all);
      if (entry == nullptr) return errno == 0;
      char* end = nullptr;
      auto const number = std::strtol(entry->d_name, &end, 10);
      if (end != entry->d_name && *end == '\0' && number >= 0 && number <= INT_MAX) each(static_cast<int>(number));
    }
  }

  static bool read_stat(std::string const& path, stat_line& line, int directory = AT_FDCWD) {
    char text[2048];
    auto const size = slurp(directory, path, text);
    return size != 0 && parse_stat(text, line);
  }
  static bool parse_stat(char const* text, stat_line& line) {
    // The name, in parentheses, may hold anything: also blanks, line ends and parentheses. After the last one are only
    // a letter and numbers.
    char const* const open = std::strchr(text, '(');
    char const* const close = std::strrchr(text, ')');
    if (open == nullptr || close == nullptr || close < open || close[1] != ' ' || close[2] == '\0') return false;
    line.pid = static_cast<pid_t>(std::strtol(text, nullptr, 10));
    line.name.assign(open + 1, close);
    line.state = close[2];
    line.ticks = 0;
    char const* at = close + 3;
    int field = 4;
    for (; field <= 39; ++field) {
      char* next = nullptr;
      auto const value = std::strtoll(at, &next, 10);  // unsigned ones that are larger are none of those below
      if (next == at) break;
      at = next;
      switch (field) {
        case 4:
          line.parent = static_cast<pid_t>(value);
          break;
        case 5:
          line.group = static_cast<pid_t>(value);
          break;
        case 14:
        case 15:
          line.ticks += static_cast<std::uint64_t>(value);
          break;
        case 19:
          line.nice = static_cast<int>(value);
          break;
        case 20:
          line.threads = static_cast<unsigned>(value);
          break;
        case 22:
          line.start = value;
          break;
        case 24:
          line.pages = static_cast<std::uint64_t>(value);
          break;
        case 39:
          line.processor = static_cast<int>(value);
          break;
        default:
          break;
      }
    }
    return field > 24;
  }

  static bool has_ended(char state) noexcept { return state == 'Z' || state == 'X' || state == 'x'; }
  static bool is_stopped(char state) noexcept { return state == 'T' || state == 't'; }

  static process_link link_of(stat_line const& line) noexcept {
    process_link link;
    link.pid = line.pid;
    link.parent = line.parent;
    link.group = line.group;
    link.start = line.start;
    // A process whose first thread has ended looks like one that has; but then it has others.
    link.ended = has_ended(line.state) && line.threads <= 1;
    return link;
  }

  /// Whether /proc shows the numbers that this process knows: it may be that of another namespace.
  static bool is_ours() {
    char name[16];
    auto const size = ::readlink("/proc/self", name, sizeof name - 1);
    if (size <= 0) return false;
    name[size] = '\0';
    return std::strtol(name, nullptr, 10) == ::getpid();
  }
  /// Threads are to be found under their numbers as well.
  static bool is_process(pid_t pid) {
    char text[1024];
    if (slurp(AT_FDCWD, path_of(pid, "status"), text) == 0) return false;
    char const* const at = std::strstr(text, "\nTgid:");
    return at != nullptr && std::strtol(at + 6, nullptr, 10) == pid;
  }

  /// Every process that can be seen. They are looked at one after the other, so the lines are of different moments.
  static bool list(std::vector<process_link>& all) {
    if (!is_ours()) return false;
    return each_number(AT_FDCWD, "/proc", [&](int pid) {
      stat_line line;
      if (read_stat(path_of(pid, "stat"), line)) all.push_back(link_of(line));
    });
  }

  // --- lines of the table

  /// A thread that could run when it was looked at.
  struct runner {
    std::size_t row = 0;
    pid_t pid = 0;
    pid_t thread = 0;
    int processor = 0;
    std::uint64_t ran = 0;      // nanoseconds, until then
    std::uint64_t advance = 0;  // and since
  };

  /// The lines that were found, and what is still to be found out about them.
  class reading {
   public:
    /// Everything about one process, or nothing if it is gone. Its files are reached through its directory, which is that
    /// of this very process, whoever is given its number later.
    std::optional<process_row> describe(process_link const& link) {
      runners_here_.clear();
      auto const directory = open_at(AT_FDCWD, "/proc/" + std::to_string(link.pid), O_RDONLY | O_DIRECTORY);
      if (directory.get() < 0) return std::nullopt;
      stat_line line;
      if (!read_stat("stat", line, directory.get()) || line.start != link.start) return std::nullopt;
      process_row row;
      row.pid = line.pid;
      row.parent = line.parent;
      row.name = as_utf8(line.name);
      row.threads = line.threads;
      row.priority = line.nice;
      struct stat info {};
      // Of the directory itself the owner is always the effective user; of what is in it, not of every process.
      if (::fstat(directory.get(), &info) == 0) row.user = name_of(info.st_uid);
      // The first thread may have ended before others; memory and descriptors are theirs then.
      pid_t witness = line.pid;
      row.state = state_of(directory.get(), line, witness);
      if (witness != line.pid) {
        stat_line other;
        if (read_stat("task/" + std::to_string(witness) + "/stat", other, directory.get())) line.pages = other.pages;
      }
      row.memory = line.pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
      row.descriptors = row.state == process_state::ended
                            ? std::optional<unsigned>(0)
                            : descriptors_of(directory.get(), "task/" + std::to_string(witness) + "/fd", line.pid);
      row.cpu_time = cpu_time_of(line);
      // Only if it is still there was the clock that of this process.
      if (!read_stat("stat", line, directory.get())) return std::nullopt;
      return row;
    }

    /// After describe: that line is wanted.
    void add(process_row&& row) {
      for (auto& one : runners_here_) {
        one.row = rows_.size();
        runners_.push_back(one);
      }
      auto const at = std::lower_bound(numbers_.begin(), numbers_.end(), row.pid);
      numbers_.insert(at, row.pid);
      rows_.push_back(std::move(row));
    }
    bool has(long pid) const { return std::binary_search(numbers_.begin(), numbers_.end(), pid); }

    std::vector<process_row> finish() {
      if (!runners_.empty()) tell_running();
      return std::move(rows_);
    }

   private:
    /// From all threads. Of one that could run it is to be seen whether it does; until then the process is called ready.
    process_state state_of(int directory, stat_line const& first, pid_t& witness) {
      if (first.threads <= 1) return state_of_threads(directory, {first}, first.pid);
      std::vector<stat_line> threads;
      bool const seen = each_number(directory, "task", [&](int thread) {
        stat_line line;
        if (read_stat("task/" + std::to_string(thread) + "/stat", line, directory)) threads.push_back(std::move(line));
      });
      if (!seen || threads.empty()) threads = {first};
      for (auto const& one : threads) {
        if (has_ended(first.state) && !has_ended(one.state)) witness = one.pid;
      }
      return state_of_threads(directory, threads, first.pid);
    }

    process_state state_of_threads(int directory, std::vector<stat_line> const& threads, pid_t pid) {
      bool ready = false, running = false, waits = false, stopped = false, unknown = false;
      for (auto const& one : threads) {
        if (one.state == 'R') {
          runner found{};
          found.pid = pid;
          found.thread = one.pid;
          found.processor = one.processor;
          // This process is on a processor: it is just asking.
          if (pid != ::getpid() && ran(directory, one.pid, found.ran)) {
            runners_here_.push_back(found);
            ready = true;
          } else {
            running = true;
          }
        } else if (one.state == 'S' || one.state == 'D' || one.state == 'I') {
          waits = true;
        } else if (is_stopped(one.state)) {
          stopped = true;
        } else if (!has_ended(one.state)) {
          unknown = true;
        }
      }
      if (running) {
        runners_here_.clear();
        return process_state::running;
      }
      if (ready) return process_state::ready;
      if (waits) return process_state::blocked;
      if (stopped) return process_state::stopped;
      return unknown ? process_state::unknown : process_state::ended;
    }

    /// For how long a thread has been on a processor; false where the kernel does not count that.
    static bool ran(int directory, pid_t thread, std::uint64_t& nanoseconds) {
      char text[128];
      if (slurp(directory, "task/" + std::to_string(thread) + "/schedstat", text) == 0) return false;
      char* at = nullptr;
      nanoseconds = std::strtoull(text, &at, 10);
      std::strtoull(at, &at, 10);  // for how long it waited for one
      // How often it came to one: more than never, if it is counted.
      return std::strtoull(at, nullptr, 10) != 0;
    }

    /// Tells those that run from those that wait for a processor: who runs has run longer at a second look.
    ///
    /// The time of a thread that stays on its processor is brought up to date by the tick, so the pause is one tick (1 to
    /// 10 ms, as the kernel was built), and a bit. It is not longer because meanwhile others may get their turn. That
    /// also happens where the pause became longer by itself, on a loaded machine: but on one processor is one thread, so
    /// of those that ran on the same one only that which ran longest is told to run.
    /// (Where the tick is off, nohz_full, it is the reading of `stat` that brings the time up to date.)
    void tell_running() {
      timespec tick{0, 4000000};
      ::clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
      auto const until = std::chrono::steady_clock::now() + std::chrono::seconds{tick.tv_sec} +
                         std::chrono::nanoseconds{tick.tv_nsec} + std::chrono::microseconds{200};
      for (auto left = until - std::chrono::steady_clock::now(); left.count() > 0;
           left = until - std::chrono::steady_clock::now())
        doze(left);
      for (auto& one : runners_) {
        stat_line line;
        std::uint64_t now = 0;
        if (!read_stat(path_of(one.pid, "task/") + std::to_string(one.thread) + "/stat", line)) {
          one.advance = UINT64_MAX;  // nobody ends without running
          one.processor = -1;
        } else if (ran(AT_FDCWD, one, now) && now > one.ran) {
          one.advance = now - one.ran;
          one.processor = line.processor;
        }
      }
      std::sort(runners_.begin(), runners_.end(), [](runner const& a, runner const& b) {
        return a.processor != b.processor ? a.processor < b.processor : a.advance > b.advance;
      });
      for (std::size_t i = 0; i < runners_.size(); ++i) {
        bool const longest = i == 0 || runners_[i - 1].processor != runners_[i].processor || runners_[i].processor < 0;
        if (longest && runners_[i].advance != 0) rows_[runners_[i].row].state = process_state::running;
      }
    }
    static bool ran(int directory, runner const& one, std::uint64_t& nanoseconds) {
      char text[128];
      if (slurp(directory, path_of(one.pid, "task/") + std::to_string(one.thread) + "/schedstat", text) == 0)
        return false;
      nanoseconds = std::strtoull(text, nullptr, 10);
      return true;
    }

    /// The clock of the process counts nanoseconds and, unlike the sum over /proc/PID/task, those of threads that have
    /// ended. stat, which is the same in hundredths of a second, is for what has no such clock.
    static std::chrono::microseconds cpu_time_of(stat_line const& line) noexcept {
      clockid_t clock{};
      timespec time{};
      if (::clock_getcpuclockid(line.pid, &clock) == 0 && ::clock_gettime(clock, &time) == 0)
        return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::seconds{time.tv_sec} +
                                                                     std::chrono::nanoseconds{time.tv_nsec});
      auto const per_second = static_cast<std::uint64_t>(std::max(1L, ::sysconf(_SC_CLK_TCK)));
      return std::chrono::microseconds{line.ticks * 1000000 / per_second};
    }

    static std::optional<unsigned> descriptors_of(int directory, std::string const& path, pid_t pid) {
      unsigned count = 0;
      bool const own = pid == ::getpid();
      // Since Linux 6.2 this is the directory's size, which everybody may see.
      struct stat info {};
      if (::fstatat(directory, path.c_str(), &info, 0) == 0 && info.st_size > 0) {
        count = static_cast<unsigned>(info.st_size);
        return own && count > 0 ? count - 1 : count;  // without the one by which we look
      }
      if (!each_number(directory, path, [&](int) { ++count; })) return std::nullopt;
      return own && count > 1 ? count - 2 : count;
    }

    std::string const& name_of(uid_t user) {
      for (auto const& [number, name] : users_) {
        if (number == user) return name;
      }
      return users_.emplace_back(user, user_name(user)).second;
    }

    std::vector<process_row> rows_;
    std::vector<long> numbers_;  // of the rows, sorted
    std::vector<runner> runners_;
    std::vector<runner> runners_here_;
    std::vector<std::pair<uid_t, std::string>> users_;
  };

  /// A name is bytes, cut after 15 of them: what is not UTF-8 becomes question marks, and a character cut in two is left
  /// out.
  static std::string as_utf8(std::string_view bytes) {
    std::string text;
    for (std::size_t at = 0; at < bytes.size();) {
      auto const first = static_cast<unsigned char>(bytes[at]);
      std::size_t const length = first < 0x80   ? 1
                                 : first < 0xc2 ? 0
                                 : first < 0xe0 ? 2
                                 : first < 0xf0 ? 3
                                 : first < 0xf5 ? 4
                                                : 0;
      std::size_t have = length == 0 ? 0 : 1;
      for (; have != 0 && have < length && at + have < bytes.size(); ++have) {
        auto const next = static_cast<unsigned char>(bytes[at + have]);
        // The second byte also rules out what could be said shorter, surrogates, and what is beyond the last character.
        unsigned const least = have == 1 && first == 0xe0 ? 0xa0 : have == 1 && first == 0xf0 ? 0x90 : 0x80;
        unsigned const most = have == 1 && first == 0xed ? 0x9f : have == 1 && first == 0xf4 ? 0x8f : 0xbf;
        if (next < least || next > most) break;
      }
      if (have != 0 && have == length) {
        text.append(bytes, at, length);
        at += length;
      } else if (have != 0 && at + have == bytes.size()) {
        break;
      } else {
        text += '?';
        ++at;
      }
    }
    return text;
  }

  // --- kill_tree

  /// How a tree_killer sees and reaches processes.
  struct signals {
    static constexpr std::chrono::seconds patience{5};
    static constexpr std::int64_t slack = 0;
    static constexpr bool can_look = true;

    pid_t root;
    int root_fd;

    static bool list(std::vector<process_link>& all) { return linux_processes::list(all); }
    static char const* sender() noexcept { return "pidfd_send_signal"; }

    /// Also true for one that has ended, as long as nobody has taken its status.
    bool root_there() const noexcept {
      return root_fd < 0 || ::syscall(SYS_pidfd_send_signal, root_fd, 0, nullptr, 0U) == 0 || errno != ESRCH;
    }
    int send_root(int signal) const noexcept {
      if (root_fd < 0) return ::kill(root, signal) == 0 ? 0 : errno;
      return through(root_fd, root, signal);
    }

    /// A descriptor for whoever has the number now; if that is still the same process after it was made, it is its own.
    static int send(process_link const& to, int signal) {
      scoped_fd const fd{static_cast<int>(::syscall(SYS_pidfd_open, to.pid, 0U))};
      if (fd.get() < 0 && errno == ESRCH) return ESRCH;
      stat_line line;
      if (!read_stat(path_of(to.pid, "stat"), line) || line.start != to.start) return ESRCH;
      // Without one (an old kernel, a filter of system calls, too many open files) the check must do.
      if (fd.get() < 0) return ::kill(to.pid, signal) == 0 ? 0 : errno;
      return through(fd.get(), to.pid, signal);
    }

    static motion look(process_link const& link) {
      stat_line line;
      if (!read_stat(path_of(link.pid, "stat"), line) || line.start != link.start) return motion::still;
      auto does = moves(line.state);
      if (line.threads > 1) {
        // A stop reaches one thread after the other.
        each_number(AT_FDCWD, path_of(link.pid, "task"), [&](int thread) {
          stat_line one;
          if (!read_stat(path_of(link.pid, "task/") + std::to_string(thread) + "/stat", one)) return;
          does = std::min(does, moves(one.state));
        });
      }
      return does;
    }

    /// Nothing where the kernel was built without these files.
    static void children(process_link const& link, std::vector<process_link>& into) {
      each_number(AT_FDCWD, path_of(link.pid, "task"), [&](int thread) {
        char text[4096];
        slurp(AT_FDCWD, path_of(link.pid, "task/") + std::to_string(thread) + "/children", text);
        char* at = text;
        for (;;) {
          char* end = nullptr;
          auto const child = std::strtol(at, &end, 10);
          if (end == at || *end != ' ') return;  // the last may be cut
          at = end;
          stat_line line;
          if (child > 1 && child <= INT_MAX && read_stat(path_of(static_cast<pid_t>(child), "stat"), line) &&
              line.parent == link.pid && line.start >= link.start && !link_of(line).ended)
            into.push_back(link_of(line));
        }
      });
    }

   private:
    static motion moves(char state) noexcept {
      if (has_ended(state) || is_stopped(state)) return motion::still;
      return state == 'R' ? motion::moving : motion::held;
    }
    static int through(int fd, pid_t pid, int signal) noexcept {
      if (::syscall(SYS_pidfd_send_signal, fd, signal, nullptr, 0U) == 0) return 0;
      if (errno != ENOSYS) return errno;
      return ::kill(pid, signal) == 0 ? 0 : errno;
    }
  };
};

}  // namespace polyproc::inline v0_1::detail
