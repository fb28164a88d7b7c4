/// The Linux backend: futexes, pidfds, memfds, and identities taken from the kernel's own thread numbers.
#pragma once

#include <polyproc/backend/unix_common.hpp>

#include <dlfcn.h>
#include <link.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

// The name under which glibc's clone is not replaced by the thread sanitizer, which takes a clone that shares memory for a
// fork and marks the parent's own state as a child's. Weak, because other libraries may not have it.
extern "C" __attribute__((weak)) int __clone(int (*)(void*), void*, int, void*, ...);

// Weak: a static program has none, and then no plug-in either.
#pragma weak dlopen

namespace polyproc::inline v0_1 {

struct linux_backend : detail::unix_common<linux_backend> {
  static constexpr std::string_view name = "linux";

  /// Nothing in the family's segment is ours: futexes and thread numbers need no state of their own.
  static constexpr std::size_t family_reserved = 0;

  // --- identity: the thread's number (22 bits at most) and the time it was started (ticks of 10 ms since boot).
  // A number is not given out twice within one tick, so the pair is unique while the machine runs.

  static std::uint64_t self() noexcept {
    if (self_ == 0) {
      watch_forks();
      auto const tid = static_cast<std::uint64_t>(::syscall(SYS_gettid));
      self_ = (start_time("/proc/thread-self/stat").ticks << tid_bits | tid) & id_mask;
    }
    return self_;
  }

  /// The first thread's number stands for the process, and a bit says that the process is meant.
  static std::uint64_t process_self() noexcept {
    auto const pid = static_cast<std::uint64_t>(::getpid());
    return process_bit | ((start_time("/proc/self/stat").ticks << tid_bits | pid) & id_mask);
  }

  static bool alive(std::uint64_t id) noexcept {
    auto const tid = static_cast<int>(id & ((1ULL << tid_bits) - 1));
    char path[32] = "/proc/";
    char digits[12];
    int n = 0;
    for (int rest = tid; rest > 0; rest /= 10) digits[n++] = static_cast<char>('0' + rest % 10);
    char* at = path + 6;
    while (n > 0) *at++ = digits[--n];
    std::memcpy(at, "/stat", 6);
    auto const found = start_time(path);
    // Not readable: gone, or hidden from us (hidepid). Only the number can be asked about then.
    if (!found.read) return ::kill(tid, 0) == 0 || errno == EPERM;
    if (((found.ticks << tid_bits | static_cast<std::uint64_t>(tid)) & id_mask) != (id & id_mask)) return false;
    // A process whose first thread has ended looks like one that has; but then it has others.
    return !found.ended || ((id & process_bit) != 0 && found.threads > 1);
  }

  // --- parking

  static void wait(atomic<std::uint32_t> const& word, std::uint32_t expected, time_point deadline) noexcept {
    struct {
      long seconds;
      long nanoseconds;
    } at{};
    if (deadline != never) {
      auto const since = std::max(deadline.time_since_epoch(), time_point::duration::zero());
      auto const whole = std::chrono::floor<std::chrono::seconds>(since);
      at.seconds = static_cast<long>(whole.count());
      at.nanoseconds = static_cast<long>(std::chrono::nanoseconds(since - whole).count());
    }
    ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, expected, deadline == never ? nullptr : &at, nullptr,
              FUTEX_BITSET_MATCH_ANY);
  }
  static void wake_one(atomic<std::uint32_t>& word) noexcept { ::syscall(SYS_futex, &word, FUTEX_WAKE, 1); }
  static void wake_all(atomic<std::uint32_t>& word) noexcept { ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX); }

  // --- processors

  static unsigned usable_cpus() noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    unsigned count = 0;
    if (::sched_getaffinity(0, sizeof set, &set) == 0)
      count = static_cast<unsigned>(CPU_COUNT(&set));
    else
      count = static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
    return std::max(1U, std::min(count, cgroup_quota()));
  }

  // --- shared memory

  static handle segment_create(std::size_t size) {
    int const fd = static_cast<int>(::syscall(SYS_memfd_create, "polyproc", 1U /* MFD_CLOEXEC */));
    if (fd < 0) detail::throw_errno("memfd_create");
    detail::scoped_fd guard{beyond_streams(fd)};
    if (::ftruncate(guard.get(), static_cast<off_t>(size)) != 0) detail::throw_errno("ftruncate of shared memory");
    return guard.release();
  }

  static family_segment family() {
    if (family_ready_.load(std::memory_order_acquire)) return family_;
    std::scoped_lock hold{life_lock_};
    watch_forks();
    if (!family_ready_.load(std::memory_order_relaxed)) make_family();
    return family_;
  }

  /// The pages of a memfd come from no quota that could be checked beforehand: when memory ends the kernel's
  /// out-of-memory killer decides, as for any other memory.
  static bool commit(std::byte*, std::size_t) noexcept { return true; }

  static void discard(std::byte* memory, std::size_t size) noexcept {
    auto const page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    auto const from = (reinterpret_cast<std::uintptr_t>(memory) + page - 1) / page * page;
    auto const to = (reinterpret_cast<std::uintptr_t>(memory) + size) / page * page;
    if (from < to) ::madvise(memory + (from - reinterpret_cast<std::uintptr_t>(memory)), to - from, MADV_REMOVE);
  }

  static family_segment family_read_only() {
    auto const whole = family();
    if (auto* const there = read_view_.load(std::memory_order_acquire)) return {there, whole.size};
    std::scoped_lock hold{life_lock_};
    auto* view = read_view_.load(std::memory_order_relaxed);
    if (view == nullptr) {
      view = segment_map(family_fd_, whole.size, false);
      ::madvise(view, whole.size, MADV_DONTDUMP);
      read_view_.store(view, std::memory_order_release);
    }
    return {view, whole.size};
  }

  // --- named memory: a file without a name until it is whole, so that a dead maker leaves nothing. Futexes and
  // identities know no families.

  static constexpr bool named_survives = true;

  static std::optional<named_memory> name_create(std::string_view called, std::size_t size, unsigned mode,
                                                 void (*fill)(std::byte*, void*), void* context) {
    auto const path = detail::named_path(called);
    detail::check_named_size(size);
    if (detail::named_info(path)) return std::nullopt;
    detail::scoped_fd const file{open_nameless()};
    if (file.get() < 0) return create_from_draft(path, size, mode, fill, context);
    auto view = detail::fill_named(file.get(), path, size, mode, fill, context);
    char own[40];
    own_path(own, file.get());
    if (::linkat(AT_FDCWD, own, AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) return view.release(0);
    if (errno == EEXIST) return std::nullopt;
    detail::throw_named("linkat", path);
  }

  static std::optional<named_memory> name_open(std::string_view called, bool writable) {
    auto const path = detail::named_path(called);
    detail::scoped_fd const file{open_existing(path, writable ? O_RDWR : O_RDONLY)};
    if (file.get() < 0) return std::nullopt;
    auto const size = static_cast<std::size_t>(detail::info_of(file.get(), path).st_size);
    return detail::named_view(file.get(), size, writable, path).release(0);
  }

  /// Who removes a name has its file locked meanwhile.
  static bool name_remove(std::string_view called, bool (*wanted)(std::byte const*, std::size_t, void*),
                          void* context) {
    auto const path = detail::named_path(called);
    for (;;) {
      detail::scoped_fd const file{open_existing(path, O_RDONLY)};
      if (file.get() < 0) return false;
      file_hold const hold{file.get(), path};
      // Somebody may have removed it before we had the lock, and somebody else made another.
      auto const info = detail::info_of(file.get(), path);
      auto const present = detail::named_info(path);
      if (!present) return false;
      if (!detail::same_file(info, *present)) continue;
      auto const size = static_cast<std::size_t>(info.st_size);
      detail::named_view const view{file.get(), size, false, path};
      if (!wanted(view.base(), size, context)) return false;
      if (::unlink(path.c_str()) == 0) return true;
      if (errno == ENOENT) return false;
      detail::throw_named("unlink", path);
    }
  }

  static void name_close(named_memory const& named) noexcept { segment_unmap(named.base, named.size); }

  // --- children

  static void prepare() noexcept {
    if (image_ < 0) image_ = ::open("/proc/self/exe", O_PATH | O_CLOEXEC);
    watch_forks();
  }

  static child start_image(std::span<std::byte const> payload, bool daemon) {
    family();
    auto const fd = make_payload(payload, daemon);
    detail::scoped_fd report_read;
    detail::scoped_fd report_write;
    make_report_pipe(report_read, report_write);

    image_start start;
    start.pass = {fd.get(), report_write.get(), daemon ? life_read_end() : -1, family_fd_};
    std::string marker = make_marker(start.pass);
    std::string self_name = own_name();
    char* argv[] = {self_name.data(), marker.data(), nullptr};
    start.argv = argv;

    child made;
    start_by_vfork(start, made);
    made.report = report_read.release();
    return made;
  }

  static std::optional<child> start_fork(bool daemon) {
    family();
    detail::scoped_fd report_read;
    detail::scoped_fd report_write;
    make_report_pipe(report_read, report_write);
    if (daemon) life_read_end();
    auto const parent = ::getpid();
    auto const pid = ::fork();
    if (pid < 0) detail::throw_errno("fork");
    if (pid == 0) {
      report_read.reset();
      own_.report = report_write.release();
      if (daemon) die_with(std::exchange(forked_life_, -1), parent);
      return std::nullopt;
    }
    child made;
    made.pid = pid;
    made.report = report_read.release();
    made.end = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U));
    if (made.end < 0) {
      // A child that cannot be watched is not left behind.
      int const why = errno;
      ::kill(pid, SIGKILL);
      reap(made);
      release(made);
      detail::throw_errno("pidfd_open", why);
    }
    return made;
  }

  static std::optional<std::vector<std::byte>> adopt(int argc, char** argv) {
    std::array<int, 4> fds{};
    if (!parse_marker(argc, argv, fds)) return std::nullopt;
    if (fds[0] < 0 || fds[3] < 0) not_a_child();
    bool daemon = false;
    auto payload = take_payload(fds[0], daemon);
    own_.report = fds[1];
    {
      std::scoped_lock hold{life_lock_};
      family_fd_ = fds[3];
      map_family();
    }
    ::prctl(PR_SET_NAME, base_name(argv[0]));  // execveat through a descriptor leaves a number as the name
    if (daemon) die_with(fds[2], -1);
    return payload;
  }

  static bool await_end(child const& c, time_point deadline) { return poll_until(c.end, deadline); }

  static bool ask(child const& c, child_request what) {
    if (poll_until(c.end, time_point{})) return false;
    if (::syscall(SYS_pidfd_send_signal, c.end, signal_number(what), nullptr, 0U) == 0) return true;
    if (errno == ESRCH) return false;
    detail::throw_errno("pidfd_send_signal");
  }

  // --- code

  static code_location locate(void const* code) {
    module_search search;
    search.address = reinterpret_cast<std::uintptr_t>(code);
    ::dl_iterate_phdr(&module_search::visit, &search);
    return {search.path, search.build, search.offset};
  }

  static void const* resolve(code_location const& where) {
    for (bool loaded = false;; loaded = true) {
      module_search search;
      search.by_name = true;
      search.path = where.module;
      ::dl_iterate_phdr(&module_search::visit, &search);
      if (search.found) {
        if (search.build != where.build)
          throw std::runtime_error("polyproc: " + (where.module.empty() ? std::string("this program") : where.module) +
                                   " was rebuilt or replaced after its parent started, so a function cannot be found"
                                   " in it; start the whole program again");
        return reinterpret_cast<void const*>(search.base + where.offset);
      }
      if (loaded || where.module.empty() || &::dlopen == nullptr ||
          ::dlopen(where.module.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr)
        throw std::runtime_error("polyproc: the library " + where.module +
                                 ", which holds a function that was sent here, cannot be loaded in this process");
    }
  }

 private:
  friend unix_common<linux_backend>;

  static constexpr int tid_bits = 22;  // PID_MAX_LIMIT is 2^22
  static constexpr std::uint64_t process_bit = 1ULL << 61;
  static constexpr std::uint64_t id_mask = process_bit - 1;

  static void raw_pipe(int (&ends)[2]) {
    if (::pipe2(ends, O_CLOEXEC) != 0) detail::throw_errno("pipe2");
    detail::scoped_fd other{ends[1]};
    ends[0] = beyond_streams(ends[0]);
    detail::scoped_fd one{ends[0]};
    ends[1] = beyond_streams(other.release());
    one.release();
  }

  /// A program may run with some of 0, 1 and 2 closed; what is ours must not be taken for a standard stream.
  static int beyond_streams(int fd) {
    if (fd > 2) return fd;
    detail::scoped_fd low{fd};
    return handle_duplicate(fd);
  }

  static void forked() noexcept {
    self_ = 0;
    unix_common::forked();
  }

  struct stat_line {
    bool read = false;
    bool ended = false;
    long threads = 0;
    std::uint64_t ticks = 0;
  };

  /// Field 22 of a /proc stat file, and whether field 3 says that the thread is a zombie or gone.
  static stat_line start_time(char const* path) noexcept {
    stat_line found;
    int const saved = errno;
    int const fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
      char text[512];
      auto const got = ::read(fd, text, sizeof text - 1);
      ::close(fd);
      if (got > 0) {
        text[got] = '\0';
        // The name in field 2 may hold anything, parentheses too: fields count from the last one.
        if (char const* at = std::strrchr(text, ')'); at != nullptr && at[1] == ' ') {
          found.read = true;
          found.ended = at[2] == 'Z' || at[2] == 'X' || at[2] == 'x';
          at += 2;
          for (int field = 3; field < 22 && at != nullptr; ++field) {
            at = std::strchr(at, ' ');
            if (at != nullptr) ++at;
            if (at != nullptr && field + 1 == 20) found.threads = std::strtol(at, nullptr, 10);
          }
          if (at != nullptr) found.ticks = std::strtoull(at, nullptr, 10);
        }
      }
    }
    errno = saved;
    return found;
  }

  /// Processors' worth of time that the control group allows, rounded up; a large number when there is no limit.
  static unsigned cgroup_quota() noexcept {
    unsigned best = UINT_MAX;
    auto const consider = [&](long long quota, long long period) {
      if (quota > 0 && period > 0)
        best = std::min(best, static_cast<unsigned>(std::max(1LL, (quota + period - 1) / period)));
    };
    char text[4096];
    if (!slurp("/proc/self/cgroup", text)) return best;
    for (char* line = text; line != nullptr && *line != '\0';) {
      char* const end = std::strchr(line, '\n');
      if (end != nullptr) *end = '\0';
      char* const first = std::strchr(line, ':');
      char* const second = first == nullptr ? nullptr : std::strchr(first + 1, ':');
      if (second != nullptr) {
        std::string_view const controllers{first + 1, static_cast<std::size_t>(second - first - 1)};
        char path[2048];
        char value[128];
        // Inside a container the path may name a group outside of what is mounted: the root is looked at as well.
        for (char const* group : {static_cast<char const*>(second + 1), ""}) {
          if (std::strlen(group) > 1500) continue;
          if (controllers.empty()) {
            if (slurp(join(path, "/sys/fs/cgroup", group, "/cpu.max"), value) && value[0] != 'm') {
              char* rest = nullptr;
              auto const quota = std::strtoll(value, &rest, 10);
              consider(quota, std::strtoll(rest, nullptr, 10));
            }
          } else if ((',' + std::string(controllers) + ',').find(",cpu,") != std::string::npos) {
            if (slurp(join(path, "/sys/fs/cgroup/cpu", group, "/cpu.cfs_quota_us"), value)) {
              auto const quota = std::strtoll(value, nullptr, 10);
              if (slurp(join(path, "/sys/fs/cgroup/cpu", group, "/cpu.cfs_period_us"), value))
                consider(quota, std::strtoll(value, nullptr, 10));
            }
          }
        }
      }
      line = end == nullptr ? nullptr : end + 1;
    }
    return best;
  }

  template <std::size_t N>
  static bool slurp(char const* path, char (&into)[N]) noexcept {
    int const fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    auto const got = ::read(fd, into, N - 1);
    ::close(fd);
    into[got > 0 ? got : 0] = '\0';
    return got > 0;
  }
  template <std::size_t N>
  static char const* join(char (&into)[N], char const* a, char const* b, char const* c) noexcept {
    std::size_t n = 0;
    for (char const* part : {a, b, c}) {
      for (; *part != '\0' && n + 1 < N; ++part) into[n++] = *part;
    }
    into[n] = '\0';
    return into;
  }

  /// As large as the address space reasonably bears; nothing is used until it is touched. Where the address
  /// space is limited (32 bits, ulimit -v) it is halved until it fits.
  static void make_family() {
    std::size_t size = sizeof(void*) >= 8 ? std::size_t{1} << 36 : std::size_t{1} << 28;
    for (;; size /= 2) {
      try {
        detail::scoped_fd fd{segment_create(size)};
        family_.base = segment_map(fd.get(), size, true);
        family_.size = size;
        family_fd_ = fd.release();
        break;
      } catch (std::system_error const&) {
        if (size <= std::size_t{1} << 24) throw;
      }
    }
    ::madvise(family_.base, family_.size, MADV_DONTDUMP);
    family_ready_.store(true, std::memory_order_release);
  }
  static void map_family() {
    struct stat info {};
    if (::fstat(family_fd_, &info) != 0) detail::throw_errno("fstat of the family's segment");
    family_.size = static_cast<std::size_t>(info.st_size);
    family_.base = segment_map(family_fd_, family_.size, true);
    ::madvise(family_.base, family_.size, MADV_DONTDUMP);
    family_ready_.store(true, std::memory_order_release);
  }

  /// "/proc/self/fd/N"
  static void own_path(char (&into)[40], int fd) noexcept {
    std::memcpy(into, "/proc/self/fd/", 14);
    char digits[12];
    int n = 0;
    for (int rest = fd; rest > 0; rest /= 10) digits[n++] = static_cast<char>('0' + rest % 10);
    char* at = into + 14;
    while (n > 0) *at++ = digits[--n];
    *at = '\0';
  }

  // --- named memory

  /// -1 where a file cannot be without a name, or not be given one later.
  static int open_nameless() {
    detail::scoped_fd file{detail::open_named(std::string(detail::named_directory()) + "/.", O_TMPFILE | O_RDWR)};
    char own[40];
    own_path(own, file.get());
    if (file.get() < 0 || ::access(own, F_OK) != 0) return -1;
    return file.release();
  }

  static std::optional<named_memory> create_from_draft(std::string const& path, std::size_t size, unsigned mode,
                                                       void (*fill)(std::byte*, void*), void* context) {
    auto const tag = detail::named_draft::tag_of_process();
    detail::named_draft::sweep(
        tag, [](std::string const& draft, struct stat const&) { detail::named_draft::remove_if_free(draft); });
    detail::named_draft draft{tag};
    auto view = detail::fill_named(draft.fd(), path, size, mode, fill, context);
    if (!draft.publish(path)) return std::nullopt;
    return view.release(0);
  }

  /// -1 when there is no such name. A thing that is not a file is not opened: that could have effects.
  static int open_existing(std::string const& path, int access) {
    auto const info = detail::named_info(path);
    if (!info) return -1;
    detail::must_be_file(*info, path);
    detail::scoped_fd file{detail::open_named(path, access)};
    if (file.get() < 0 && errno == ENOENT) return -1;
    if (file.get() < 0) detail::throw_named("open", path);
    detail::must_be_file(detail::info_of(file.get(), path), path);
    return file.release();
  }

  struct file_hold {
    int fd;
    file_hold(int file, std::string const& path) : fd(file) {
      int done = 0;
      do done = ::flock(fd, LOCK_EX);
      while (done != 0 && errno == EINTR);
      if (done != 0) detail::throw_named("flock", path);
    }
    file_hold(file_hold const&) = delete;
    file_hold& operator=(file_hold const&) = delete;
    /// Said, because a child that was forked meanwhile has the descriptor, and the lock with it.
    ~file_hold() { ::flock(fd, LOCK_UN); }
  };

  /// Has the kernel SIGKILL this process when the other end of `life` is closed, that is when the parent is gone:
  /// a pipe end in signal-driven mode whose signal is SIGKILL. Unlike PR_SET_PDEATHSIG this does not follow the
  /// thread that started us, and unlike a watching thread it works while we are stopped.
  static void die_with(int life, pid_t parent) noexcept {
    if (life < 0) return;
    // Owner and signal belong to the open file, which all our siblings share: a file of our own is needed.
    char path[40];
    own_path(path, life);
    int const own = ::open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    bool armed = false;
    if (own >= 0) {
      armed = ::fcntl(own, F_SETSIG, SIGKILL) == 0 && ::fcntl(own, F_SETOWN, ::getpid()) == 0 &&
              ::fcntl(own, F_SETFL, O_ASYNC | O_NONBLOCK) == 0;
      ::close(life);
      own_.parent = own;
    } else {
      own_.parent = life;
    }
    if (!armed) ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // no /proc: the next best thing
    pollfd look{own_.parent, POLLIN, 0};
    if (::poll(&look, 1, 0) != 0 || (parent > 0 && ::getppid() != parent)) ::kill(::getpid(), SIGKILL);
  }

  /// What start_by_vfork's child needs: it runs in our memory, so everything is prepared before.
  struct image_start {
    std::array<int, 4> pass{};
    char** argv = nullptr;
    int image = -1;
    int error = 0;
  };

  /// Runs in the child, on a stack of its own but in the parent's memory, which waits. Nothing here may allocate,
  /// lock or be instrumented.
  __attribute__((no_sanitize("address", "thread", "undefined"))) static int exec_child(void* data) {
    auto& start = *static_cast<image_start*>(data);
    for (int number = 1; number < NSIG; ++number) {
      struct sigaction action {};
      if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_DFL) {
        action = {};
        action.sa_handler = SIG_DFL;
        ::sigaction(number, &action, nullptr);
      }
    }
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
    for (int const fd : start.pass) {
      if (fd >= 0) ::fcntl(fd, F_SETFD, 0);
    }
    if (start.image >= 0)
      ::syscall(SYS_execveat, start.image, "", start.argv, environ, AT_EMPTY_PATH);
    ::execve("/proc/self/exe", start.argv, environ);
    start.error = errno;
    ::_exit(127);
  }

  static void start_by_vfork(image_start& start, child& made) {
    start.image = image_;
    constexpr std::size_t stack_size = 64 * 1024;
    void* const stack =
        ::mmap(nullptr, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) detail::throw_errno("mmap of a child's first stack");
    // No signal handler of the program may run in the child while it shares our memory.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &before);
    int pidfd = -1;
    int (*clone_call)(int (*)(void*), void*, int, void*, ...) = &::clone;
    if (&::__clone != nullptr) clone_call = &::__clone;
    int const pid = clone_call(&exec_child, static_cast<std::byte*>(stack) + stack_size,
                               CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &start, &pidfd);
    int const why = errno;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::munmap(stack, stack_size);
    if (pid < 0) detail::throw_errno("clone", why);
    made.pid = pid;
    made.end = pidfd;
    if (start.error != 0) {
      reap(made);
      release(made);
      detail::throw_errno("execveat of this program", start.error);
    }
  }

  static std::string own_name() {
    char text[4096];
    if (slurp("/proc/self/cmdline", text)) return text;
    return "polyproc";
  }
  static char const* base_name(char const* path) noexcept {
    char const* const slash = std::strrchr(path, '/');
    return slash == nullptr ? path : slash + 1;
  }

  /// One walk over the loaded modules: by an address in one of them, or by name.
  struct module_search {
    std::uintptr_t address = 0;
    bool by_name = false;
    bool found = false;
    bool first = true;
    std::uintptr_t base = 0;
    std::uintptr_t offset = 0;
    std::uint64_t build = 0;
    std::string path;

    static int visit(dl_phdr_info* info, std::size_t, void* data) {
      auto& search = *static_cast<module_search*>(data);
      bool const program = std::exchange(search.first, false);  // the program itself always comes first
      std::string called;
      if (!program) called = absolute(info->dlpi_name);
      if (search.by_name) {
        if (called != search.path) return 0;
      } else {
        if (!holds(*info, search.address)) return 0;
        search.path = std::move(called);
        search.offset = search.address - info->dlpi_addr;
      }
      search.found = true;
      search.base = info->dlpi_addr;
      search.build = build_of(*info);
      return 1;
    }
    static std::string absolute(char const* given) {
      if (given == nullptr || given[0] == '\0' || given[0] == '/') return given == nullptr ? "" : given;
      std::string text = given;
      if (char* const full = ::realpath(given, nullptr)) {
        text = full;
        std::free(full);
      }
      return text;
    }
    static bool holds(dl_phdr_info const& info, std::uintptr_t address) {
      for (int i = 0; i < info.dlpi_phnum; ++i) {
        auto const& part = info.dlpi_phdr[i];
        if (part.p_type == PT_LOAD && address - info.dlpi_addr - part.p_vaddr < part.p_memsz) return true;
      }
      return false;
    }
    /// FNV-1a over the program headers and every loaded note, the build-id among them. Without a build-id
    /// (-Wl,--build-id=none) the sizes and places of the parts still differ between most builds.
    static std::uint64_t build_of(dl_phdr_info const& info) {
      std::uint64_t hash = 0xcbf29ce484222325ULL;
      auto const mix = [&](void const* data, std::size_t size) {
        auto const* const bytes = static_cast<unsigned char const*>(data);
        for (std::size_t i = 0; i < size; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
      };
      for (int i = 0; i < info.dlpi_phnum; ++i) {
        auto const& part = info.dlpi_phdr[i];
        mix(&part, sizeof part);
        if (part.p_type == PT_NOTE) mix(reinterpret_cast<void const*>(info.dlpi_addr + part.p_vaddr), part.p_memsz);
      }
      return hash;
    }
  };

  static inline thread_local std::uint64_t self_ = 0;
  static inline int image_ = -1;
  static inline int family_fd_ = -1;
  static inline family_segment family_{};
  static inline std::atomic<bool> family_ready_{false};
  static inline std::atomic<std::byte*> read_view_{nullptr};
};

static_assert(forking_backend<linux_backend>);

}  // namespace polyproc::inline v0_1
