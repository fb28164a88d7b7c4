/// The Linux backend: futexes, pidfds, memfds, and identities taken from the kernel's own thread numbers.
#pragma once

#include <polyproc/backend/linux_fences.hpp>
#include <polyproc/backend/linux_processes.hpp>
#include <polyproc/backend/unix_server.hpp>

#include <thread>

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

struct linux_backend : detail::unix_server<linux_backend>, detail::linux_fences {
  static constexpr std::string_view name = "linux";

  /// Nothing in the family's segment is ours: futexes and thread numbers need no state of their own.
  static constexpr std::size_t family_reserved = 0;

  // --- identity: the thread's number (22 bits at most) and the time it was started (ticks of 10 ms since boot).
  // A number is not given out twice within one tick, so the pair is unique while the machine runs. A thread that cannot
  // read when it was started, for lack of a descriptor, takes the time at which it asks, and a bit says so: whoever has
  // that number later was started later.

  static std::uint64_t self() noexcept {
    if (self_ == 0) find_self();
    return self_;
  }

  /// The first thread's number stands for the process, and a bit says that the process is meant.
  static std::uint64_t process_self() noexcept {
    auto const pid = static_cast<std::uint64_t>(::getpid());
    auto known = process_self_.load(std::memory_order_relaxed);
    if ((known & ((1ULL << tid_bits) - 1)) == pid) return known;
    auto const mine = process_bit | number_at(start_time("/proc/self/stat"), pid);
    return process_self_.compare_exchange_strong(known, mine) ? mine : known;
  }

  static bool alive(std::uint64_t id) noexcept {
    auto const tid = static_cast<int>(id & ((1ULL << tid_bits) - 1));
    char path[32];
    proc_path(path, static_cast<unsigned>(tid), "/stat");
    auto const found = start_time(path);
    // Not readable: gone, or hidden from us (hidepid). Only the number can be asked about then.
    if (!found.read) return ::kill(tid, 0) == 0 || errno == EPERM;
    if ((id & asked_bit) != 0) {
      if (found.ticks > (id & ticks_mask) >> tid_bits) return false;
    } else if (number_at(found, static_cast<std::uint64_t>(tid)) != (id & (ticks_mask | asked_bit))) {
      return false;
    }
    // A process whose first thread has ended looks like one that has; but then it has others.
    return !found.ended || ((id & process_bit) != 0 && found.threads > 1);
  }

  // --- parking

  /// A deadline as the kernel takes it.
  class kernel_time {
   public:
    explicit kernel_time(time_point deadline) noexcept : never_(deadline == never) {
      auto const since = std::max(deadline.time_since_epoch(), time_point::duration::zero());
      auto const whole = std::chrono::floor<std::chrono::seconds>(since);
      seconds_ = static_cast<long>(whole.count());
      nanoseconds_ = static_cast<long>(std::chrono::nanoseconds(since - whole).count());
    }
    [[nodiscard]] void const* get() const noexcept { return never_ ? nullptr : &seconds_; }

   private:
    bool never_;
    long seconds_ = 0;
    long nanoseconds_ = 0;
  };

  static void wait(atomic<std::uint32_t> const& word, std::uint32_t expected, time_point deadline) noexcept {
    kernel_time const at(deadline);
    ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, expected, at.get(), nullptr, FUTEX_BITSET_MATCH_ANY);
  }
  static void wake_one(atomic<std::uint32_t>& word) noexcept { ::syscall(SYS_futex, &word, FUTEX_WAKE, 1); }
  static void wake_all(atomic<std::uint32_t>& word) noexcept { ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX); }

  static void wait_for_some(std::span<word_wait<atomic<std::uint32_t>> const> words, std::span<int const> handles,
                            time_point deadline) {
    for (auto const& one : words)
      if (one.word->load(std::memory_order_acquire) != one.expected) return;
    if (words.empty()) {
      wait_any(handles, deadline);
      return;
    }
    std::vector<futex_waiter> all;
    for (auto const& one : words) all.push_back({one.expected, reinterpret_cast<std::uint64_t>(one.word), 2, 0});
    if (handles.empty()) {
      wait_for_words(all, deadline);
      return;
    }
    // The kernel waits for words or for descriptors: a second thread waits for the words.
    atomic<std::uint32_t> stop{0};
    all.insert(all.begin(), {0, reinterpret_cast<std::uint64_t>(&stop), 2, 0});
    auto const [read, write] = pipe_create();
    detail::scoped_fd const bell{read};
    detail::scoped_fd const rope{write};
    std::thread other([&] {
      begin_own_thread("polyproc-words");
      wait_for_words(all, deadline);
      char const byte = 0;
      (void)!::write(rope.get(), &byte, 1);
    });
    struct ending {
      std::thread& thread;
      atomic<std::uint32_t>& stop;
      ~ending() {
        stop.store(1);
        wake_all(stop);
        thread.join();
      }
    } const at_end{other, stop};
    std::vector<int> look(handles.begin(), handles.end());
    look.push_back(bell.get());
    wait_any(look, deadline);
  }

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

  static child start_image(start const& s) { return start_this_image(s, -1); }

  static std::optional<child> start_fork(start const& s) {
    family();
    alive_pipe alive;
    if (!watched_by_pidfd()) alive.make();
    if (s.daemon) life_read_end();
    auto const parent = ::getpid();
    signals_held quiet;
    auto const pid = ::fork();
    if (pid < 0) detail::throw_errno("fork");
    if (pid == 0) {
      alive.read.reset();
      own_.alive = alive.write.release();
      begin_forked(s);
      if (!s.as_it_is) quiet.leave_as_they_are();
      if (s.daemon) die_with(std::exchange(forked_life_, -1), parent);
      return std::nullopt;
    }
    s.copied = true;
    child made;
    made.pid = pid;
    made.group = s.group;
    try {
      watch_by_pidfd(made);
    } catch (...) {  // a child that cannot be watched is not left behind
      ::kill(pid, SIGKILL);
      reap(made);
      throw;
    }
    if (made.end < 0) made.end = alive.read.release();
    return made;
  }

  template <class Self = linux_backend>
  static std::optional<std::uint64_t> adopt(int argc, char** argv) {
    marker<marker_head> numbers{};
    if (!parse_marker(argc, argv, numbers)) return std::nullopt;
    if (numbers[family_at] < 0) not_a_child();
    own_.alive = static_cast<int>(numbers[alive_at]);
    {
      std::scoped_lock hold{life_lock_};
      family_fd_ = static_cast<int>(numbers[family_at]);
      map_family();
    }
    own_name_ = base_name(argv[0]);
    ::prctl(PR_SET_NAME, own_name_);  // execveat through a descriptor leaves a number as the name
    auto const life = static_cast<int>(numbers[life_at]);
    auto const server = static_cast<int>(numbers[server_at]);
    if (server >= 0) {
      if (life < 0) not_a_child();
      die_with(handle_duplicate(life), -1);
      return Self::serve(server, life);
    }
    if (life >= 0) die_with(life, -1);
    return static_cast<std::uint64_t>(numbers[work_at]);
  }

  static constexpr bool identity_from_outside = true;
  static std::uint64_t identity_of(child const& c) noexcept {
    if (c.identity != 0) return c.identity;
    char path[32];
    proc_path(path, static_cast<unsigned>(c.pid), "/stat");
    auto const found = start_time(path);
    return found.read ? process_bit | number_at(found, static_cast<std::uint64_t>(c.pid)) : 0;
  }

  static std::optional<child> open_process(long number, std::uint64_t identity) {
    child found;
    found.pid = static_cast<pid_t>(number);
    found.identity = 0;
    if (watched_by_pidfd()) {
      // Held before it is looked at: what had that number then has it now, if it is the one that is meant.
      int const fd = static_cast<int>(::syscall(SYS_pidfd_open, found.pid, 0U));
      if (fd < 0 && errno == ESRCH) return std::nullopt;
      if (fd < 0) detail::throw_errno("pidfd_open");
      found.end = fd;
      found.by_pidfd = true;
    }
    char path[32];
    proc_path(path, static_cast<unsigned>(found.pid), "/stat");
    auto const line = start_time(path);
    if (line.refused != 0) {
      release(found);
      detail::throw_errno("open of /proc/.../stat", line.refused);
    }
    auto const there = line.read ? process_bit | number_at(line, static_cast<std::uint64_t>(found.pid)) : 0;
    if (((identity & asked_bit) == 0 && there != identity) || !alive(identity)) {
      release(found);
      return std::nullopt;
    }
    found.identity = identity;
    return found;
  }

  // Templates, because what they use takes longer to compile than all the rest; most programs do not.
  template <class Table = detail::linux_processes<>>
  static void kill_tree(child const& c) {
    Table::kill_tree(c.pid, c.by_pidfd ? c.end : -1, c.group || (c.identity != 0 && ::getpgid(c.pid) == c.pid));
  }
  template <class Table = detail::linux_processes<>>
  static std::vector<process_row> processes(long root) {
    return Table::processes(root);
  }
  template <class Table = detail::linux_processes<>>
  static std::optional<process_row> process_alone(long pid) {
    return Table::process_alone(pid);
  }

  static void check_affinity(std::vector<unsigned> const& numbers) {
    cpu_set_t set;
    if (::sched_getaffinity(0, sizeof set, &set) != 0) detail::throw_errno("sched_getaffinity");
    // A process may widen what it has, within what its control group allows: only the system knows that.
    bool const some = std::any_of(numbers.begin(), numbers.end(), [](unsigned n) { return n < CPU_SETSIZE; });
    if (!some) detail::throw_errno("sched_setaffinity: no such processor", EINVAL);
    long const there = ::sysconf(_SC_NPROCESSORS_CONF);
    for (unsigned const n : numbers)
      if (n >= CPU_SETSIZE || (there > 0 && n >= static_cast<unsigned long>(there)))
        detail::throw_errno(("sched_setaffinity: processor " + std::to_string(n) + " does not exist").c_str(), EINVAL);
  }
  static void set_affinity(std::vector<unsigned> const& numbers) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned const n : numbers)
      if (n < CPU_SETSIZE) CPU_SET(n, &set);
    if (::sched_setaffinity(0, sizeof set, &set) != 0) detail::throw_errno("sched_setaffinity");
  }
  static void begin_own_thread(char const* called) noexcept {
    hold_all_signals();
    name_thread(called);
  }
  static void name_thread(char const* called) noexcept { ::prctl(PR_SET_NAME, called); }  // takes the first 15 characters
  /// The system keeps it for each thread: a process's is that of its first one, which others get when they begin.
  static void set_thread_affinity(std::vector<unsigned> const& numbers) { set_affinity(numbers); }

  /// Whether this process has no thread but the calling one.
  static bool is_only_thread() noexcept { return start_time("/proc/self/stat").threads == 1; }

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
  friend detail::unix_common<linux_backend>;
  friend detail::unix_streams<linux_backend>;
  friend detail::unix_children<linux_backend>;
  friend detail::unix_server<linux_backend>;

  static constexpr int tid_bits = 22;  // PID_MAX_LIMIT is 2^22
  static constexpr std::uint64_t process_bit = 1ULL << 61;
  static constexpr std::uint64_t asked_bit = 1ULL << 60;
  static constexpr std::uint64_t ticks_mask = asked_bit - 1;  // with the number

  /// "/proc/N" and what follows
  static void proc_path(char (&into)[32], unsigned number, char const* what) noexcept {
    std::memcpy(into, "/proc/", 6);
    char digits[12];
    int n = 0;
    for (; number > 0; number /= 10) digits[n++] = static_cast<char>('0' + number % 10);
    char* at = into + 6;
    while (n > 0) *at++ = digits[--n];
    std::strcpy(at, what);
  }

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
    process_self_.store(0, std::memory_order_relaxed);
    unix_server::forked();
  }

  /// What futex_waitv takes (the C library's headers may be older than the call).
  struct futex_waiter {
    std::uint64_t expected;
    std::uint64_t word;
    std::uint32_t flags;
    std::uint32_t reserved;
  };
  static constexpr std::size_t most_futexes = 128;

  /// Until one of them is not as expected or is woken, the deadline, or no reason.
  static void wait_for_words(std::vector<futex_waiter> const& all, time_point deadline) noexcept {
    // What is too much for one call, or for an old kernel (before 5.16), is looked at again soon.
    auto const count = std::min(all.size(), most_futexes);
    if (count < all.size()) deadline = std::min(deadline, now() + std::chrono::milliseconds{2});
    kernel_time const at(deadline);
    constexpr long futex_waitv = 449;
    auto const done = ::syscall(futex_waitv, all.data(), count, 0, at.get(), CLOCK_MONOTONIC);
    if (done < 0 && errno != EAGAIN && errno != EINTR && errno != ETIMEDOUT && now() < deadline)
      std::this_thread::sleep_until(std::min(deadline, now() + std::chrono::milliseconds{2}));
  }

  struct stat_line {
    bool read = false;
    bool ended = false;
    int refused = 0;  // why it was not read, if that is this process's own want
    long threads = 0;
    std::uint64_t ticks = 0;
  };

  /// Field 22 of a /proc stat file, and whether field 3 says that the thread is a zombie or gone.
  static stat_line start_time(char const* path) noexcept {
    stat_line found;
    int const saved = errno;
    int const fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) found.refused = errno;
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

  /// Once for each thread, so not where self() is used.
  [[gnu::noinline]] static void find_self() noexcept {
    watch_forks();
    auto const tid = static_cast<std::uint64_t>(::syscall(SYS_gettid));
    self_ = number_at(start_time("/proc/thread-self/stat"), tid);
  }
  /// The number with its ticks: those of its start, or of now.
  static std::uint64_t number_at(stat_line const& start, std::uint64_t number) noexcept {
    if (start.read) return (start.ticks << tid_bits | number) & ticks_mask;
    timespec at{};
    ::clock_gettime(CLOCK_BOOTTIME, &at);
    auto const per_second = static_cast<std::uint64_t>(std::max(1L, ::sysconf(_SC_CLK_TCK)));
    auto const ticks = static_cast<std::uint64_t>(at.tv_sec) * per_second +
                       static_cast<std::uint64_t>(at.tv_nsec) * per_second / 1'000'000'000;
    return asked_bit | ((ticks << tid_bits | number) & ticks_mask);
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
        // A group has no more than those that it is in. Inside a container the path may name one outside of what is mounted:
        // then only the root is found.
        char* const group = second + 1;
        if (std::strlen(group) > 1500) group[0] = '\0';
        for (char* last = group + std::strlen(group);; last = std::strrchr(group, '/')) {
          if (last == nullptr) break;
          *last = '\0';
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
    int const own = own_file(life);
    if (own >= 0) ::close(life);
    watch_life(own >= 0 ? own : life, own >= 0 && arm(own), parent);
  }
  /// Owner and signal belong to the open file, which all our siblings share: a file of one's own is needed.
  static int own_file(int life) noexcept {
    char path[40];
    own_path(path, life);
    return ::open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  }
  static bool arm(int own) noexcept {
    return ::fcntl(own, F_SETSIG, SIGKILL) == 0 && ::fcntl(own, F_SETOWN, ::getpid()) == 0 &&
           ::fcntl(own, F_SETFL, O_ASYNC | O_NONBLOCK) == 0;
  }
  static void watch_life(int life, bool armed, pid_t parent) noexcept {
    own_.parent = life;
    if (!armed) ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // no /proc: the next best thing
    pollfd look{own_.parent, POLLIN, 0};
    if (::poll(&look, 1, 0) != 0 || (parent > 0 && ::getppid() != parent)) ::kill(::getpid(), SIGKILL);
  }

  /// What start_this_image's child needs: it runs in our memory, so everything is prepared before.
  struct image_start {
    std::array<int, marker_head> pass{};
    std::span<int const> passengers{};
    std::array<int, 3> streams{};
    char** argv = nullptr;
    char** environment = nullptr;
    int image = -1;
    bool group = false;
    bool ignore_interrupt = false;
    int error = 0;
  };

  /// Runs in the child, on a stack of its own but in the parent's memory, which waits. Nothing here may allocate,
  /// lock or be instrumented.
  __attribute__((no_sanitize("address", "thread", "undefined"))) static int exec_child(void* data) {
    auto& start = *static_cast<image_start*>(data);
    if (start.group) ::setpgid(0, 0);
    ::syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
    for (int i = 0; i < 3; ++i) {
      if (start.streams[static_cast<std::size_t>(i)] >= 0) ::dup2(start.streams[static_cast<std::size_t>(i)], i);
    }
    for (int const fd : start.pass) {
      if (fd >= 0) ::fcntl(fd, F_SETFD, 0);
    }
    for (std::size_t i = 0; i < start.passengers.size(); ++i) ::fcntl(start.passengers.data()[i], F_SETFD, 0);
    clean_signals(start.ignore_interrupt);
    if (start.image >= 0)
      ::syscall(SYS_execveat, start.image, "", start.argv, start.environment, AT_EMPTY_PATH);
    ::execve("/proc/self/exe", start.argv, start.environment);
    start.error = errno;
    ::_exit(127);
  }

  static child start_this_image(start const& s, int server) {
    family();
    alive_pipe alive;
    bool const pidfds = watched_by_pidfd();
    if (!pidfds) alive.make();
    marker<marker_head> numbers{};
    numbers[work_at] = static_cast<std::int64_t>(s.work);
    numbers[flags_at] = flags_of(s);
    numbers[alive_at] = alive.write.get();
    numbers[life_at] = s.daemon ? life_read_end() : -1;
    numbers[family_at] = family_fd_;
    numbers[server_at] = server;

    image_start go;
    for (std::size_t i = alive_at; i < marker_head; ++i) go.pass[i] = static_cast<int>(numbers[i]);
    for (std::size_t i = 0; i < alive_at; ++i) go.pass[i] = -1;
    go.streams = s.streams;
    go.group = s.group;
    go.ignore_interrupt = s.ignore_interrupt;
    passengers const passed(s);
    go.passengers = passed.all();
    std::string text = make_marker(numbers, passed);
    std::string self_name = own_name();
    char* argv[] = {self_name.data(), text.data(), nullptr};
    go.argv = argv;
    go.environment = environ;
    std::vector<char*> variables;
    if (s.environment != nullptr) {
      for (auto const& one : *s.environment) variables.push_back(const_cast<char*>(one.c_str()));
      variables.push_back(nullptr);
      go.environment = variables.data();
    }
    go.image = image_;
    child made;
    made.group = s.group;
    clone_and_exec(go, made, pidfds);
    if (made.end < 0) made.end = alive.read.release();
    return made;
  }

  static void clone_and_exec(image_start& go, child& made, bool pidfds) {
    constexpr std::size_t stack_size = 64 * 1024;
    void* const stack =
        ::mmap(nullptr, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) detail::throw_errno("mmap of a child's first stack");
    int pidfd = -1;
    int pid = -1;
    int why = 0;
    {
      // No signal handler of the program may run in the child while it shares our memory.
      signals_held const quiet;
      int (*clone_call)(int (*)(void*), void*, int, void*, ...) = &::clone;
      if (&::__clone != nullptr) clone_call = &::__clone;
      pid = clone_call(&exec_child, static_cast<std::byte*>(stack) + stack_size,
                       CLONE_VM | CLONE_VFORK | (pidfds ? CLONE_PIDFD : 0) | SIGCHLD, &go, &pidfd);
      why = errno;
    }
    ::munmap(stack, stack_size);
    if (pid < 0) detail::throw_errno("clone", why);
    made.pid = pid;
    made.end = pidfd;
    made.by_pidfd = pidfd >= 0;
    if (go.error != 0) {
      reap(made);
      release(made);
      detail::throw_errno("execveat of this program", go.error);
    }
  }

  // --- watching

  /// Since Linux 5.3; a sandbox may not allow it.
  static bool watched_by_pidfd() noexcept {
    auto known = pidfds_.load(std::memory_order_relaxed);
    if (known == 0) {
      int const fd = static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0U));
      if (fd < 0 && errno != ENOSYS && errno != EPERM && errno != EINVAL) return true;  // no descriptor left, or no memory
      known = fd >= 0 ? 1 : 2;
      handle_close(fd);
      pidfds_.store(known, std::memory_order_relaxed);
    }
    return known == 1;
  }
  static void watch_by_pidfd(child& c) {
    if (!watched_by_pidfd()) return;
    c.end = static_cast<int>(::syscall(SYS_pidfd_open, c.pid, 0U));
    if (c.end < 0) detail::throw_errno("pidfd_open");
    c.by_pidfd = true;
  }
  static bool signal_by_pidfd(int fd, int number) {
    if (::syscall(SYS_pidfd_send_signal, fd, number, nullptr, 0U) == 0) return true;
    if (errno == ESRCH) return false;
    detail::throw_errno("pidfd_send_signal");
  }

  // --- what unix_streams asks

  static int accept_socket(int listening) {
    int const fd = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    return fd < 0 ? fd : adopt_socket(fd);
  }
  static std::optional<uid_t> peer_user(int socket) noexcept {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
    return peer.uid;
  }

  // --- what unix_server asks

  static constexpr bool children_are_ours = true;
  static constexpr bool reserve_is_armed = true;
  static constexpr int receive_closing = MSG_CMSG_CLOEXEC;
  static constexpr int socket_closing = SOCK_CLOEXEC;
  static constexpr int open_to_enter = O_PATH;
  static bool can_pass_directory(bool) noexcept { return true; }
  static std::uint64_t more_facts() noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    ::sched_getaffinity(0, sizeof set, &set);
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    auto const* const bytes = reinterpret_cast<unsigned char const*>(&set);
    for (std::size_t i = 0; i < sizeof set; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
    return hash;
  }
  struct start_hold {
    start_hold() noexcept {}  // descriptors are close-on-exec from their making
  };
  static void watch_reserve(child& c, pid_t) { watch_by_pidfd(c); }
  static void helper_begins() noexcept { ::prctl(PR_SET_NAME, "polyproc-server"); }
  /// By poll: who waits in recvmsg is woken also when the other side has read what was sent to it, and then the helper would
  /// run in the child's place.
  static bool helper_waits(int control, std::vector<helper_child> const&) noexcept {
    pollfd look{control, POLLIN, 0};
    return ::poll(&look, 1, -1) > 0;
  }
  static void helper_lingers(std::vector<helper_child> const&, pid_t) noexcept {}

  /// Where the C library keeps this thread's number, which must be right in a child that it did not fork itself.
  static int* thread_number() noexcept {
    int* at = nullptr;
    return ::prctl(PR_GET_TID_ADDRESS, &at) == 0 ? at : nullptr;
  }
  /// Threads that static constructors have started would not exist in the copies, but their locks would.
  static bool cannot_serve() noexcept {
    auto const* const number = thread_number();
    if (number == nullptr || *number != ::getpid()) return true;
    return !is_only_thread();
  }

  /// A fork whose child is our parent's. What the C library does in its fork besides is done by hand: the number of the
  /// thread, its list of robust locks, and our own hooks. Its locks are free, because there is no other thread.
  static pid_t fork_for_parent(newest_child& newest) noexcept {
    auto* const number = thread_number();
    void* robust = nullptr;
    std::size_t robust_size = 0;
    ::syscall(SYS_get_robust_list, 0, &robust, &robust_size);
    fork_prepare();
    // The fourth and the fifth argument change places between processors; the other one is not looked at.
    unsigned long const flags =
        CLONE_PARENT | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
#if defined(__s390__)
    auto const pid = static_cast<pid_t>(::syscall(SYS_clone, nullptr, flags, &newest, number, number));
#else
    auto const pid = static_cast<pid_t>(::syscall(SYS_clone, flags, nullptr, &newest, number, number));
#endif
    int const why = errno;
    if (pid == 0) {
      if (robust != nullptr) ::syscall(SYS_set_robust_list, robust, robust_size);
      forked();
    } else {
      fork_parent();
    }
    errno = why;
    return pid;
  }
  /// What each copy needs of its own to die with the parent (die_with); made here, where /proc knows the paths already.
  static int reserve_watch(int life) noexcept { return own_file(life); }
  static bool keep_from_copies(std::byte* memory, std::size_t size) noexcept {
    return ::madvise(memory, size, MADV_DONTFORK) == 0;
  }
  static void reserve_begins(int watch, int life, pid_t parent) {
    if (watch >= 0) {
      watch_life(watch, arm(watch), parent);
      ::close(life);
    } else {
      die_with(life, parent);
    }
  }
  static void reserve_works(bool daemon, bool, int) noexcept {
    ::prctl(PR_SET_NAME, own_name_);
    if (daemon) return;
    handle_close(std::exchange(own_.parent, -1));
    ::prctl(PR_SET_PDEATHSIG, 0);
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
  static inline std::atomic<std::uint64_t> process_self_{0};  // right if it has this process's number
  static inline std::atomic<int> pidfds_{0};  // 1: there are; 2: there are none
  static inline char const* own_name_ = "";
  static inline int image_ = -1;
  static inline int family_fd_ = -1;
  static inline family_segment family_{};
  static inline std::atomic<bool> family_ready_{false};
  static inline std::atomic<std::byte*> read_view_{nullptr};
};

static_assert(forking_backend<linux_backend> && stream_backend<linux_backend>);

}  // namespace polyproc::inline v0_1
