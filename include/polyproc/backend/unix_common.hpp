/// What every Unix backend has in common: descriptors, mappings, pipes, forks. Only calls that Linux, macOS and FreeBSD
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
    for (auto i = text.size(); i-- > 0; number >>= 4) text[i] = "0123456789abcdef"[number & 15];
    return text;
  }

  std::string directory_;
  std::string path_;
  pid_t maker_;
  int fd_ = -1;
  scoped_fd own_;
  bool published_ = false;
};

template <class Derived>
struct unix_common {
  template <class T>
  using atomic = std::atomic<T>;
  using handle = int;

  static constexpr handle invalid_handle = -1;
  static constexpr bool has_fork = true;
  static constexpr bool exit_holds_lock = false;

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
  static constexpr bool environment_ignores_case = false;
  static std::vector<std::string> environment_list() {
    std::vector<std::string> all;
    for (char** one = environ; one != nullptr && *one != nullptr; ++one) all.emplace_back(*one);
    return all;
  }
  static void write_stderr(std::string_view text) noexcept {
    int const saved = errno;
    {
      sigpipe_guard quiet;
      [[maybe_unused]] auto const ignored = ::write(2, text.data(), text.size());
    }
    errno = saved;
  }

  static bool stderr_is_terminal() noexcept {
    int const saved = errno;
    bool const is = ::isatty(2) == 1;
    errno = saved;
    return is;
  }

  static void check_directory(std::string const& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) throw_errno(("stat of the directory " + path).c_str());
    if (!S_ISDIR(info.st_mode)) throw_errno(("stat of the directory " + path).c_str(), ENOTDIR);
    if (::access(path.c_str(), X_OK) != 0) throw_errno(("access to the directory " + path).c_str());
  }
  static void set_directory(std::string const& path) {
    if (::chdir(path.c_str()) != 0) throw_errno(("chdir to " + path).c_str());
  }
  static void set_priority(int niceness) {
    if (::setpriority(PRIO_PROCESS, 0, niceness) != 0) throw_errno("setpriority");
  }
  static handle open_stream(stream_mode mode, std::string const& path) {
    int flags = 0;
    switch (mode) {
      case stream_mode::null_in:
      case stream_mode::read: flags = O_RDONLY; break;
      case stream_mode::null_out: flags = O_WRONLY; break;
      case stream_mode::write: flags = O_WRONLY | O_CREAT | O_TRUNC; break;
      case stream_mode::append: flags = O_WRONLY | O_CREAT | O_APPEND; break;
    }
    bool const null = mode == stream_mode::null_in || mode == stream_mode::null_out;
    char const* const file = null ? "/dev/null" : path.c_str();
    int fd = -1;
    do fd = ::open(file, flags | O_CLOEXEC | O_NOCTTY, 0666);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) throw_errno((std::string("open of ") + file).c_str());
    scoped_fd guard{fd};
    return fd > 2 ? guard.release() : handle_duplicate(fd);
  }

  static handle stream_duplicate(int number) {
    int const copy = ::fcntl(number, F_DUPFD_CLOEXEC, 3);
    if (copy < 0 && errno != EBADF) throw_errno("fcntl(F_DUPFD_CLOEXEC) of a standard stream");
    return copy;
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
  /// A pipe whose write end this process alone holds as long as it lives. Its daemons hold the read end.
  ///
  /// A daemon may have to open that end anew (linux_backend), which only the user may do who made the pipe: so there is one
  /// for each user that this process has acted as when it started a daemon. The first ones stay, because their daemons do.
  struct life_pipe {
    uid_t user = 0;
    int read = -1;
    int write = -1;
  };

  static int life_read_end() {
    std::scoped_lock hold{life_lock_};
    watch_forks();
    auto const user = ::geteuid();
    for (life_in_use_ = 0; life_in_use_ < lives_.size(); ++life_in_use_) {
      auto& one = lives_[life_in_use_];
      if (one.read >= 0 && one.user != user) continue;
      if (one.read < 0) {
        auto const [r, w] = pipe_create();
        one = {user, r, w};
      }
      return one.read;
    }
    life_in_use_ = lives_.size() - 1;  // so many users that some daemons have to do without their own file
    return lives_[life_in_use_].read;
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
    handle_close(std::exchange(forked_life_, std::exchange(lives_[life_in_use_].read, -1)));
    for (auto& one : lives_) {
      handle_close(one.write);
      handle_close(one.read);
      one = {};
    }
    for (auto& slot : hooks_) {
      if (auto* const hook = slot.load(std::memory_order_acquire)) hook();
    }
  }

  static inline std::array<life_pipe, 8> lives_{};
  static inline std::size_t life_in_use_ = 0;  // the one that the last daemon got
  static inline int forked_life_ = -1;  // in a forked child: the read end of the parent's life pipe, until used
  static inline lasting_mutex life_lock_;
  static inline lasting_mutex hooks_lock_;
  static inline std::array<std::atomic<void (*)()>, 16> hooks_{};
};

}  // namespace polyproc::inline v0_1::detail
