/// What every Unix backend has in common: descriptors, mappings, pipes, the life of children, and the arguments
/// by which a child that runs a fresh image finds what it inherited. Only calls that Linux, macOS and FreeBSD
/// all have are made here; what differs is asked of `Derived` (linux_backend, posix_backend).
#pragma once

#include <polyproc/backend/concept.hpp>
#include <polyproc/backend/named.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <system_error>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <sys/random.h>
#endif

extern "C" char** environ;

namespace polyproc::inline v0_1::detail {

[[noreturn]] inline void throw_errno(char const* call, int number = errno) {
  throw std::system_error(number, std::generic_category(), std::string("polyproc: ") + call);
}

/// A descriptor that is closed with its scope, for the paths on which something throws.
class scoped_fd {
 public:
  scoped_fd() = default;
  explicit scoped_fd(int fd) noexcept : fd_(fd) {}
  scoped_fd(scoped_fd&& other) noexcept : fd_(other.release()) {}
  scoped_fd& operator=(scoped_fd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~scoped_fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// A mutex that is never destroyed, because threads may still be running when the program's statics are: that of
/// the standard library has a destructor on some systems.
class lasting_mutex {
 public:
  void lock() noexcept { ::pthread_mutex_lock(&mutex_); }
  bool try_lock() noexcept { return ::pthread_mutex_trylock(&mutex_) == 0; }
  void unlock() noexcept { ::pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};
static_assert(std::is_trivially_destructible_v<lasting_mutex>);

/// The milliseconds poll should sleep for a deadline: rounded up, so that it never returns early and spins.
inline int poll_timeout(time_point now, time_point deadline) noexcept {
  if (deadline == never) return -1;
  if (deadline <= now) return 0;
  auto const left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
  return left > INT_MAX ? INT_MAX : static_cast<int>(left);
}

/// Keeps SIGPIPE from reaching the program while this thread writes to a pipe that may be broken, without
/// touching the disposition, which belongs to the program: blocks it in this thread and swallows the one that
/// the write may have raised.
class sigpipe_guard {
 public:
  sigpipe_guard() noexcept {
    sigemptyset(&pipe_only_);
    sigaddset(&pipe_only_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    if (!was_pending_) pthread_sigmask(SIG_BLOCK, &pipe_only_, &before_);
  }
  sigpipe_guard(sigpipe_guard const&) = delete;
  sigpipe_guard& operator=(sigpipe_guard const&) = delete;
  ~sigpipe_guard() {
    if (was_pending_) return;
    int const saved = errno;
    sigset_t pending;
    sigpending(&pending);
    if (sigismember(&pending, SIGPIPE) == 1) {
      int taken = 0;
      sigwait(&pipe_only_, &taken);
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    errno = saved;
  }

 private:
  sigset_t pipe_only_{};
  sigset_t before_{};
  bool was_pending_ = false;
};

// --- Named memory: regular files in a directory on which all programs of a machine agree, whatever their environment.
// A file is made under no name (linux_backend) or under that of a draft, and linked to its own when it is whole.

[[noreturn]] inline void throw_named(char const* call, std::string const& path, int number = errno) {
  throw std::system_error(number, std::generic_category(), "polyproc: " + std::string(call) + " of " + path);
}

inline char const* named_directory() noexcept {
  struct stat info {};
  bool const shared = ::stat("/dev/shm", &info) == 0 && S_ISDIR(info.st_mode) && ::access("/dev/shm", W_OK | X_OK) == 0;
  return shared ? "/dev/shm" : "/tmp";
}
/// Throws std::invalid_argument for what cannot be a name.
inline std::string named_path(std::string_view name) {
  check_name(name);
  return std::string(named_directory()) + "/polyproc." + std::string(name);
}

/// What a path means, without following links; nothing if there is no such thing.
inline std::optional<struct stat> named_info(std::string const& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0) return info;
  if (errno != ENOENT) throw_named("lstat", path);
  return std::nullopt;
}
inline bool same_file(struct stat const& a, struct stat const& b) noexcept {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}
inline void must_be_file(struct stat const& info, std::string const& path) {
  if (!S_ISREG(info.st_mode)) throw_named("what is there is not a file, so it cannot be memory: open", path, EINVAL);
}
inline struct stat info_of(int fd, std::string const& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) throw_named("fstat", path);
  return info;
}

/// While this lives nothing is opened under the number of a standard stream, even where the program runs without them.
/// To move a descriptor afterwards would mean to close one, which costs a process its record locks on that file.
class streams_taken {
 public:
  streams_taken() noexcept {
    for (int stream = 0; stream < 3; ++stream) {
      if (::fcntl(stream, F_GETFD) < 0) held_[stream] = ::open("/", O_RDONLY | O_CLOEXEC);
    }
  }
  streams_taken(streams_taken const&) = delete;
  streams_taken& operator=(streams_taken const&) = delete;
  ~streams_taken() {
    for (int const fd : held_) {
      if (fd >= 0) ::close(fd);
    }
  }

 private:
  int held_[3] = {-1, -1, -1};
};

/// errno tells why when it is -1. Never a standard stream.
inline int open_named(std::string const& path, int flags) noexcept {
  streams_taken const taken;
  int fd = -1;
  do fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  while (fd < 0 && errno == EINTR);
  int const why = errno;
  if (fd >= 0) return fd;
  errno = why;
  return -1;
}

/// A mapping of a whole file, gone with its scope.
class named_view {
 public:
  named_view() = default;
  named_view(int fd, std::size_t size, bool writable, std::string const& path) : size_(size) {
    if (size == 0) return;
    void* const at = ::mmap(nullptr, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) throw_named("mmap", path);
    base_ = static_cast<std::byte*>(at);
  }
  named_view(named_view&& other) noexcept : base_(std::exchange(other.base_, nullptr)), size_(other.size_) {}
  named_view& operator=(named_view const&) = delete;
  ~named_view() {
    if (base_ != nullptr) ::munmap(base_, size_);
  }

  [[nodiscard]] std::byte* base() const noexcept { return base_; }
  named_memory release(std::uintptr_t keep) noexcept { return {std::exchange(base_, nullptr), size_, keep}; }

 private:
  std::byte* base_ = nullptr;
  std::size_t size_ = 0;
};

/// Gives an empty file its size, with memory behind every page: to touch one for which there is no room is a SIGBUS.
inline void reserve_named(int fd, std::size_t size, std::string const& path) {
  constexpr std::size_t piece = std::size_t{1} << 20;
  // To exceed this limit would raise SIGXFSZ.
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && size > limit.rlim_cur)
    throw_named("ftruncate beyond this process's limit (ulimit -f)", path, EFBIG);
  bool const possible = static_cast<off_t>(size) >= 0 && static_cast<std::size_t>(static_cast<off_t>(size)) == size;
  if (!possible) throw_named("ftruncate", path, ENOSPC);
  int done = 0;
  do done = ::ftruncate(fd, static_cast<off_t>(size));
  while (done != 0 && errno == EINTR);
  if (done != 0) throw_named("ftruncate", path, errno == EFBIG || errno == EINVAL ? ENOSPC : errno);
#if defined(_POSIX_ADVISORY_INFO) && _POSIX_ADVISORY_INFO > 0
  // All at once, because the system sees then at once that there is no room. If a signal came, which undoes what an
  // unfinished call did, in pieces.
  int error = 0;
  std::size_t most = size;
  for (std::size_t at = 0; at < size && error == 0;) {
    auto const part = std::min(most, size - at);
    error = ::posix_fallocate(fd, static_cast<off_t>(at), static_cast<off_t>(part));
    if (error == EINTR) {
      most = piece;
      error = 0;
    } else if (error == 0) {
      at += part;
    }
  }
  if (error == 0) return;
  if (error == ENOSPC || error == EFBIG || error == EDQUOT) throw_named("posix_fallocate", path, ENOSPC);
  if (error == ENOMEM) throw_named("posix_fallocate", path, error);
#endif
  // No such call, or not for this file system.
  std::vector<std::byte> const zeros(std::min(size, piece));
  for (std::size_t at = 0; at < size;) {
    auto const put = ::pwrite(fd, zeros.data(), std::min(zeros.size(), size - at), static_cast<off_t>(at));
    if (put > 0)
      at += static_cast<std::size_t>(put);
    else if (put == 0 || errno != EINTR)
      throw_named("pwrite", path, put == 0 || errno == EFBIG || errno == EDQUOT ? ENOSPC : errno);
  }
}

/// Memory in a file that has no name yet, as it is to be found under its name.
inline named_view fill_named(int fd, std::string const& path, std::size_t size, unsigned mode,
                             void (*fill)(std::byte*, void*), void* context) {
  reserve_named(fd, size, path);
  named_view view{fd, size, true, path};
  if (fill != nullptr) fill(view.base(), context);
  if (::fchmod(fd, static_cast<mode_t>(mode & 0777)) != 0) throw_named("fchmod", path);
  return view;
}

/// Bytes of a file of named memory that mean something when they are locked, by a record lock, which falls with its
/// process. A process does not notice its own locks, and gives up those of all its threads at once: so each purpose has
/// a byte. (posix_backend locks others for the identities of threads.)
enum class named_byte : unsigned char {
  removal = 0,  ///< Somebody is about to remove the name.
  draft = 1,    ///< Somebody is making the file.
};
inline constexpr unsigned named_bytes = 2;

inline bool lock_named(int fd, named_byte which, short kind, bool waits) noexcept {
  struct flock lock {};
  lock.l_type = kind;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(which);
  lock.l_len = 1;
  int done = 0;
  do done = ::fcntl(fd, waits ? F_SETLKW : F_SETLK, &lock);
  while (done != 0 && errno == EINTR);
  return done == 0;
}

/// A file that is being made, for systems where a file cannot be without a name: ".polyproc.", a number of this process,
/// a random number. Its maker has it locked: so a draft whose lock is free was left by somebody dead (or belongs to
/// somebody who is just about to lock it, and who looks after having done so whether it is still there).
class named_draft {
 public:
  static constexpr std::string_view prefix = ".polyproc.";

  explicit named_draft(std::uint64_t tag) : directory_(named_directory()), maker_(::getpid()) {
    for (;;) {
      std::uint64_t number = 0;
      if (::getentropy(&number, sizeof number) != 0) throw_errno("getentropy");
      path_ = directory_ + '/' + std::string(prefix) + hex(tag) + hex(number);
      fd_ = open_named(path_, O_RDWR | O_CREAT | O_EXCL);
      if (fd_ < 0 && errno == EEXIST) continue;
      if (fd_ < 0) throw_named("open", path_);
      own_.reset(fd_);
      if (lock_named(fd_, named_byte::draft, F_WRLCK, false)) {
        if (info_of(fd_, path_).st_nlink == 1) return;
      } else if (errno != EAGAIN && errno != EACCES) {
        int const why = errno;
        ::unlink(path_.c_str());
        throw_named("fcntl(F_SETLK)", path_, why);
      }
      ::unlink(path_.c_str());
    }
  }
  named_draft(named_draft const&) = delete;
  named_draft& operator=(named_draft const&) = delete;
  ~named_draft() {
    if (!published_ && ::getpid() == maker_) ::unlink(path_.c_str());
  }

  [[nodiscard]] int fd() const noexcept { return fd_; }
  /// From now on somebody else closes it.
  void disown() noexcept { own_.release(); }

  /// False when the name exists.
  bool publish(std::string const& path) {
    if (::link(path_.c_str(), path.c_str()) != 0) {
      if (errno == EEXIST) return false;
      throw_named("link", path);
    }
    published_ = true;
    ::unlink(path_.c_str());
    lock_named(fd_, named_byte::draft, F_UNLCK, false);
    return true;
  }

  /// Half of it random, half the number of the process: another one after a fork. Never removed by this process itself.
  static std::uint64_t tag_of_process() {
    static std::atomic<std::uint64_t> known{0};
    auto const number = static_cast<std::uint32_t>(::getpid());
    auto tag = known.load(std::memory_order_relaxed);
    while (static_cast<std::uint32_t>(tag) != number) {
      std::uint32_t unique = 0;
      if (::getentropy(&unique, sizeof unique) != 0) throw_errno("getentropy");
      auto const mine = std::uint64_t{unique} << 32 | number;
      if (known.compare_exchange_strong(tag, mine, std::memory_order_relaxed)) return mine;
    }
    return tag;
  }

  /// Removes what makers of this user left when they died. For each draft that is not of this process
  /// judge(path, info) says whether its lock is free and, if so, removes it.
  template <class Judge>
  static void sweep(std::uint64_t tag, Judge&& judge) {
    std::string const directory = named_directory();
    auto const mine = std::string(prefix) + hex(tag);
    struct closer {
      DIR* all;
      ~closer() { ::closedir(all); }
    };
    DIR* const opened = ::opendir(directory.c_str());
    if (opened == nullptr) return;  // may be written to but not be read
    closer const all{opened};
    while (dirent const* const entry = ::readdir(opened)) {
      std::string_view const called{entry->d_name};
      if (!called.starts_with(prefix) || called.size() != prefix.size() + 32 || called.starts_with(mine)) continue;
      auto const path = directory + '/' + std::string(called);
      struct stat info {};
      if (::lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == ::geteuid()) judge(path, info);
    }
  }
  /// For files that this process has no locks on: they would fall.
  static void remove_if_free(std::string const& path) noexcept {
    scoped_fd const file{open_named(path, O_RDWR)};
    if (file.get() >= 0 && lock_named(file.get(), named_byte::draft, F_WRLCK, false)) ::unlink(path.c_str());
  }

 private:
  static std::string hex(std::uint64_t number) {
    std::string text(16, '0');
    for (auto at = text.rbegin(); at != text.rend(); ++at, number >>= 4) *at = "0123456789abcdef"[number & 15];
    return text;
  }

  std::string directory_;
  std::string path_;
  pid_t maker_;
  int fd_ = -1;
  scoped_fd own_;
  bool published_ = false;
};

/// The words of the argument by which a child of start_image knows itself: "--polyproc-child=NAME:n:n:...".
inline constexpr std::string_view child_marker = "--polyproc-child=";

template <class Derived>
struct unix_common {
  template <class T>
  using atomic = std::atomic<T>;
  using handle = int;

  static constexpr handle invalid_handle = -1;
  static constexpr bool has_fork = true;
  static constexpr std::size_t report_limit = 4096;

  /// `end` becomes readable (or hung up) when the child ends: a pidfd, or the read end of a pipe whose other
  /// end the child holds. `report` is the read end of the pipe that report() writes.
  struct child {
    pid_t pid = 0;
    int end = -1;
    int report = -1;
  };

  static time_point now() noexcept { return std::chrono::steady_clock::now(); }
  static void yield() noexcept { ::sched_yield(); }

  // --- handles

  static handle handle_duplicate(handle h) {
    int const copy = ::fcntl(h, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) throw_errno("fcntl(F_DUPFD_CLOEXEC)");
    return copy;
  }
  static void handle_close(handle h) noexcept {
    if (h >= 0) ::close(h);
  }

  // --- mappings

  static std::byte* segment_map(handle h, std::size_t size, bool writable) {
    void* const at = ::mmap(nullptr, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, h, 0);
    if (at == MAP_FAILED) throw_errno("mmap of shared memory");
    return static_cast<std::byte*>(at);
  }
  static void segment_unmap(std::byte* memory, std::size_t size) noexcept {
    if (memory != nullptr) ::munmap(memory, size);
  }

  // --- pipes

  static std::pair<handle, handle> pipe_create() {
    int ends[2];
    Derived::raw_pipe(ends);
    return {ends[0], ends[1]};
  }
  static std::size_t pipe_read(handle h, std::span<std::byte> out) {
    for (;;) {
      auto const got = ::read(h, out.data(), out.size());
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR) throw_errno("read from a pipe");
    }
  }
  static void pipe_write(handle h, std::span<std::byte const> in) {
    sigpipe_guard quiet;
    while (!in.empty()) {
      auto const put = ::write(h, in.data(), in.size());
      if (put >= 0)
        in = in.subspan(static_cast<std::size_t>(put));
      else if (errno != EINTR)
        throw_errno("write to a pipe");
    }
  }
  static bool pipe_wait(handle h, time_point deadline) { return poll_until(h, deadline); }

  /// True when h is readable or hung up, false at the deadline.
  static bool poll_until(int h, time_point deadline) {
    for (;;) {
      pollfd p{h, POLLIN, 0};
      int const ready = ::poll(&p, 1, poll_timeout(now(), deadline));
      if (ready > 0) return true;
      if (ready < 0 && errno != EINTR) throw_errno("poll");
      if (ready == 0 && now() >= deadline) return false;
    }
  }

  // --- this process

  static long current_pid() noexcept { return ::getpid(); }
  static long parent_pid() noexcept { return ::getppid(); }
  [[noreturn]] static void exit_now(int code) noexcept { ::_exit(code); }

  static void random(std::span<std::byte> out) {
    while (!out.empty()) {
      auto const part = out.first(std::min<std::size_t>(out.size(), 256));  // getentropy's limit
      if (::getentropy(part.data(), part.size()) != 0) throw_errno("getentropy");
      out = out.subspan(part.size());
    }
  }
  static std::optional<std::string> environment(char const* name) {
    char const* const value = std::getenv(name);
    if (value == nullptr) return std::nullopt;
    return std::string(value);
  }
  static void write_stderr(std::string_view text) noexcept {
    int const saved = errno;
    {
      sigpipe_guard quiet;
      [[maybe_unused]] auto const ignored = ::write(2, text.data(), text.size());
    }
    errno = saved;
  }

  // --- children

  static long pid(child const& c) noexcept { return c.pid; }

  static end_status reap(child& c) noexcept {
    end_status status;
    int raw = 0;
    pid_t got = 0;
    do got = ::waitpid(c.pid, &raw, 0);
    while (got < 0 && errno == EINTR);
    if (got != c.pid) return status;  // somebody else took it, or SIGCHLD is ignored: unknown
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

  static void report(std::span<std::byte const> bytes) noexcept {
    int const fd = own_.report;
    if (fd < 0) return;
    sigpipe_guard quiet;
    auto const room = report_limit - std::min(report_limit, own_.reported);
    auto const part = bytes.first(std::min(bytes.size(), room));
    if (part.empty()) return;
    // Not blocking: a fresh pipe holds at least report_limit bytes on every Unix, so this is one whole write.
    auto const put = ::write(fd, part.data(), part.size());
    if (put > 0) own_.reported += static_cast<std::size_t>(put);
  }
  static std::vector<std::byte> read_report(child& c) noexcept {
    std::vector<std::byte> all;
    if (c.report < 0) return all;
    all.resize(report_limit);
    std::size_t have = 0;
    // The read end does not block: a grandchild that inherited the write end by fork must not hold us up.
    while (have < all.size()) {
      auto const got = ::read(c.report, all.data() + have, all.size() - have);
      if (got > 0)
        have += static_cast<std::size_t>(got);
      else if (got == 0 || errno != EINTR)
        break;
    }
    all.resize(have);
    return all;
  }
  static void release(child& c) noexcept {
    handle_close(std::exchange(c.end, -1));
    handle_close(std::exchange(c.report, -1));
    c.pid = 0;
  }

  static void at_fork_child(void (*hook)()) noexcept {
    std::scoped_lock hold{hooks_lock_};
    watch_forks();
    for (auto& slot : hooks_) {
      auto* const there = slot.load(std::memory_order_relaxed);
      if (there == hook) return;
      if (there == nullptr) {
        slot.store(hook, std::memory_order_release);
        return;
      }
    }
  }

 protected:
  /// What this process was given by the one that started it.
  struct own_state {
    int report = -1;           // write end of the report pipe
    int alive = -1;            // write end of the pipe whose closing tells the parent of our end (posix_backend)
    int parent = -1;           // read end of the parent's life pipe, while we are a daemon
    std::size_t reported = 0;
  };
  /// A pipe whose write end this process alone holds as long as it lives. Its daemons hold the read end.
  struct life_pipe {
    int read = -1;
    int write = -1;
  };

  /// Both ends of the pipe of a child that is being started, kept out of other children by close-on-exec.
  static void make_report_pipe(scoped_fd& read, scoped_fd& write) {
    auto const [r, w] = pipe_create();
    read.reset(r);
    write.reset(w);
    ::fcntl(r, F_SETFL, O_NONBLOCK);
  }

  static int life_read_end() {
    std::scoped_lock hold{life_lock_};
    watch_forks();
    if (life_.read < 0) {
      auto const [r, w] = pipe_create();
      life_ = {r, w};
    }
    return life_.read;
  }

  /// From now on every fork of this process, ours or the program's own, leaves a child that knows it is new.
  static void watch_forks() noexcept {
    static bool const once = [] {
      ::pthread_atfork([] { Derived::fork_prepare(); }, [] { Derived::fork_parent(); }, [] { Derived::forked(); });
      return true;
    }();
    (void)once;
  }

  /// Before a fork: our own locks are taken, so that the child does not inherit one that nobody will open.
  /// A backend with more locks shadows these three and calls them.
  static void fork_prepare() noexcept {
    hooks_lock_.lock();
    life_lock_.lock();
  }
  static void fork_parent() noexcept {
    life_lock_.unlock();
    hooks_lock_.unlock();
  }

  /// In the child of a fork: what belonged to the parent as a process is let go.
  static void forked() noexcept {
    life_lock_.unlock();
    hooks_lock_.unlock();
    handle_close(std::exchange(own_.report, -1));
    handle_close(std::exchange(own_.alive, -1));
    handle_close(std::exchange(own_.parent, -1));
    own_.reported = 0;
    handle_close(std::exchange(life_.write, -1));
    handle_close(std::exchange(forked_life_, std::exchange(life_.read, -1)));
    for (auto& slot : hooks_) {
      if (auto* const hook = slot.load(std::memory_order_acquire)) hook();
    }
  }

  /// A payload as a descriptor: anonymous memory that holds a header and the bytes. Never blocks, any size.
  struct payload_header {
    std::uint64_t magic = 0;
    std::uint64_t size = 0;
    std::int64_t parent = 0;
    std::uint64_t flags = 0;
  };
  static constexpr std::uint64_t payload_magic = 0x3164'6C68'6370'7070ULL;  // "pppchld1"

  static scoped_fd make_payload(std::span<std::byte const> payload, bool daemon) {
    auto const total = sizeof(payload_header) + payload.size();
    scoped_fd fd{Derived::segment_create(total)};
    fill_payload(fd.get(), payload, daemon);
    return fd;
  }
  static void fill_payload(int fd, std::span<std::byte const> payload, bool daemon) {
    auto const total = sizeof(payload_header) + payload.size();
    auto* const at = segment_map(fd, total, true);
    payload_header const header{payload_magic, payload.size(), ::getpid(), daemon ? 1U : 0U};
    std::memcpy(at, &header, sizeof header);
    if (!payload.empty()) std::memcpy(at + sizeof header, payload.data(), payload.size());
    segment_unmap(at, total);
  }

  /// Reads what make_payload wrote and closes the descriptor; checks everything, because the number came from a
  /// command line that anybody can type.
  static std::vector<std::byte> take_payload(int fd, bool& daemon) {
    struct stat info {};
    if (::fstat(fd, &info) != 0 || info.st_size < static_cast<off_t>(sizeof(payload_header))) not_a_child();
    auto const total = static_cast<std::size_t>(info.st_size);
    auto* const at = segment_map(fd, total, false);
    payload_header header;
    std::memcpy(&header, at, sizeof header);
    if (header.magic != payload_magic || header.size > total - sizeof header) {
      segment_unmap(at, total);
      not_a_child();
    }
    std::vector<std::byte> payload(at + sizeof header, at + sizeof header + header.size);
    segment_unmap(at, total);
    ::close(fd);
    daemon = (header.flags & 1U) != 0;
    return payload;
  }

  [[noreturn]] static void not_a_child() {
    throw std::runtime_error(
        "polyproc: the argument --polyproc-child is only for processes that polyproc starts itself; "
        "run the program without it");
  }

  /// The numbers after "NAME:" in the marker argument, or nothing if this is not a child.
  template <std::size_t N>
  static bool parse_marker(int argc, char** argv, std::array<int, N>& numbers) {
    if (argc != 2 || argv[1] == nullptr) return false;
    std::string_view text{argv[1]};
    if (!text.starts_with(child_marker)) return false;
    text.remove_prefix(child_marker.size());
    std::string_view const name{Derived::name};
    if (!text.starts_with(name) || text.size() <= name.size() || text[name.size()] != ':') not_a_child();
    text.remove_prefix(name.size() + 1);
    for (std::size_t i = 0; i < N; ++i) {
      int value = 0;
      std::size_t digits = 0;
      bool const negative = !text.empty() && text[0] == '-';
      if (negative) text.remove_prefix(1);
      while (digits < text.size() && digits < 9 && text[digits] >= '0' && text[digits] <= '9')
        value = value * 10 + (text[digits++] - '0');
      if (digits == 0) not_a_child();
      numbers[i] = negative ? -1 : value;
      text.remove_prefix(digits);
      if (i + 1 < N) {
        if (text.empty() || text[0] != ':') not_a_child();
        text.remove_prefix(1);
      }
    }
    if (!text.empty()) not_a_child();
    for (int const fd : numbers) {
      if (fd >= 0 && (fd < 3 || ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)) not_a_child();
    }
    return true;
  }

  template <std::size_t N>
  static std::string make_marker(std::array<int, N> const& numbers) {
    std::string text{child_marker};
    text += Derived::name;
    for (int const n : numbers) text += ':' + std::to_string(n < 0 ? -1 : n);
    return text;
  }

  static inline own_state own_{};
  static inline life_pipe life_{};
  static inline int forked_life_ = -1;  // in a forked child: the read end of the parent's life pipe, until used
  static inline lasting_mutex life_lock_;
  static inline lasting_mutex hooks_lock_;
  static inline std::array<std::atomic<void (*)()>, 16> hooks_{};
};

}  // namespace polyproc::inline v0_1::detail
