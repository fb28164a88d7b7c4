/// The portable Unix backend: only calls that macOS and FreeBSD have as well as Linux. (Where no call is common to
/// all, such as for the path of the running program, each system's own is behind its own #if.)
///
/// What replaces the kernel's conveniences:
/// - a thread is known by a random number, and lives as long as the byte with that number of one file, the family's
///   life file, is locked: record locks fall with their process, however it ends. Programs of other families have other
///   life files; for them the same byte is locked of the file of each named memory that this process has open. A process
///   loses all its locks on a file when it closes any descriptor of it: so each of those files is opened once in a
///   process, and a program must not open them by itself;
/// - sleepers wait for pipes (gate_parking.hpp);
/// - a child holds the write end of a pipe whose hanging-up tells its parent that it may have ended;
/// - a daemon has a thread that waits for the same thing in the other direction. A stopped one has to be resumed for
///   that, and the system does so (with SIGHUP and SIGCONT) for a stopped process group whose last tie to its session
///   ends: so each daemon is a process group of its own. Its children, other than daemons, go back to the family's
///   group. A terminal's Ctrl-C and Ctrl-Z therefore do not reach daemons, and they should not read from it.
///
/// What it cannot do: a stopped daemon stays when its parent had left the session, when a process of the same session
/// adopts the orphan, or when somebody stops it in the very moment in which its parent ends; a program whose file was
/// replaced cannot start further images (it says so); memory given back by discard() stays in use; a program that
/// closes descriptors it did not open (closefrom) takes the ground from under the threads of its own process.
#pragma once

#include <polyproc/backend/gate_parking.hpp>
#include <polyproc/backend/unix_common.hpp>

#include <memory>

#include <dlfcn.h>
#include <spawn.h>

#if defined(__APPLE__)
#include <crt_externs.h>
#include <mach-o/dyld.h>
#else
#include <link.h>
#endif
#if defined(__FreeBSD__) || defined(__DragonFly__)
#include <sys/sysctl.h>
#endif

// Weak: a static program has none of them, and then no plug-in either.
#pragma weak dladdr
#pragma weak dlopen
#pragma weak dlclose
#if !defined(__APPLE__)
#pragma weak dlinfo
// Where the linker puts the head of the image that this code is part of; for static programs.
extern "C" __attribute__((weak, visibility("hidden"))) char const __ehdr_start[];
#endif

namespace polyproc::inline v0_1 {

struct posix_backend : detail::unix_common<posix_backend> {
 private:
  static constexpr unsigned gate_buckets = 4;
  static constexpr unsigned gates_per_bucket = 8;

  /// The kernel objects of gate_parking: pipes that are open when a byte is in them.
  struct gates_of_pipes {
    static constexpr unsigned buckets = gate_buckets;
    static constexpr unsigned gates = gates_per_bucket;

    static std::byte* state() noexcept {
      if (family_ready_.load(std::memory_order_acquire)) return family_.base;
      try {
        return family().base;
      } catch (...) {
        return nullptr;
      }
    }
    static std::uint64_t key(void const* word) noexcept {
      auto const* const view = read_view_.load(std::memory_order_relaxed);
      auto const in_view = reinterpret_cast<std::uintptr_t>(word) - reinterpret_cast<std::uintptr_t>(view);
      if (view != nullptr && in_view < family_.size) return in_view;
      return detail::parking_key(word, family_, process_number());
    }
    static bool prepare(unsigned, unsigned) noexcept { return true; }  // all are made with the family
    static void open(unsigned bucket, unsigned gate) noexcept {
      int const saved = errno;
      char const byte = 0;
      // A full pipe (EAGAIN) is as open as can be. Nobody raises SIGPIPE here: we hold the read end ourselves.
      while (::write(gate_pipes_[bucket][gate][1], &byte, 1) < 0 && errno == EINTR) {
      }
      errno = saved;
    }
    static void shut(unsigned bucket, unsigned gate) noexcept {
      int const saved = errno;
      char bytes[256];
      for (;;) {
        auto const got = ::read(gate_pipes_[bucket][gate][0], bytes, sizeof bytes);
        if (got <= 0 && !(got < 0 && errno == EINTR)) break;
      }
      errno = saved;
    }
    static bool wait(unsigned bucket, unsigned gate, unsigned other, time_point deadline) noexcept {
      int const saved = errno;
      bool opened = false;
      for (;;) {
        pollfd look[2]{{gate_pipes_[bucket][gate][0], POLLIN, 0}, {gate_pipes_[bucket][other][0], POLLIN, 0}};
        int const ready = ::poll(look, 2, detail::poll_timeout(now(), deadline));
        if (ready > 0) opened = ((look[0].revents | look[1].revents) & POLLIN) != 0;
        if (ready > 0 || (ready < 0 && errno != EINTR) || now() >= deadline) break;
      }
      errno = saved;
      return opened;
    }
    static void pause(time_point deadline) noexcept { nap(std::chrono::milliseconds{2}, deadline); }
  };
  using parking = detail::gate_parking<gates_of_pipes>;

  // The head of the family's segment: the parking's state, the number of the process group that the first of the
  // family was in, then one bit per granule that is known to have memory.
  static constexpr std::size_t largest_family = sizeof(void*) >= 8 ? std::size_t{1} << 34 : std::size_t{1} << 28;
  static constexpr std::size_t smallest_family = std::size_t{1} << 24;
  static constexpr std::size_t granule = std::size_t{1} << 16;
  static constexpr std::size_t home_group_at = std::size_t{64} * gate_buckets;
  static constexpr std::size_t committed_at = 4096;
  static constexpr std::size_t committed_bytes = (largest_family / granule / 8 + 4095) / 4096 * 4096;
  static_assert(home_group_at + sizeof(std::int64_t) <= committed_at);

 public:
  static constexpr std::string_view name = "posix";
  static constexpr std::size_t family_reserved = committed_at + committed_bytes;

  // --- identity

  /// Ends the program with a sentence when no life file can be made or locked: without one, others would take
  /// this thread for dead while it holds their locks.
  static std::uint64_t self() noexcept {
    if (self_ == 0) begin_identity();
    return self_;
  }

  /// As for a thread, without a thread's end.
  static std::uint64_t process_self() noexcept {
    if (process_self_.load(std::memory_order_acquire) == 0) begin_identity(false);
    return process_self_.load(std::memory_order_acquire);
  }

  static bool alive(std::uint64_t id) noexcept {
    if (id == self_ && id != 0) return true;
    if (id < detail::named_bytes || id > largest_id) return false;
    int const file = life_file_.load(std::memory_order_acquire);
    // A process is not told of its own record locks.
    std::unique_lock hold{living_lock_};
    for (living const* one = living_; one != nullptr; one = one->next) {
      if (one->id == id) return true;
    }
    if (named_ == nullptr) hold.unlock();
    if (file < 0 && !hold.owns_lock()) return true;  // nobody to ask
    bool found = file >= 0 && locked_elsewhere(file, id);
    if (hold.owns_lock()) {  // of another family, then
      for (named_file const* one = named_; one != nullptr && !found; one = one->next)
        found = locked_elsewhere(one->fd, id);
    }
    return found;
  }

  // --- parking

  static void wait(atomic<std::uint32_t> const& word, std::uint32_t expected, time_point deadline) noexcept {
    if (named_ranges_.hold(&word))
      detail::wait_in_named(word, expected, [&](std::chrono::microseconds length) { nap(length, deadline); });
    else
      parking::wait(word, expected, deadline);
  }
  static void wake_one(atomic<std::uint32_t>& word) noexcept { wake_all(word); }
  static void wake_all(atomic<std::uint32_t>& word) noexcept {
    if (!named_ranges_.hold(&word)) parking::wake(word);
  }

  // --- processors

  /// Those that are online; affinity and quotas have no portable call.
  static unsigned usable_cpus() noexcept {
    return static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  }

  // --- shared memory

  static handle segment_create(std::size_t size) {
    // Processes that will share it must be able to ask after each other's threads.
    make_life_file();
    return new_segment(size).release();
  }

  static family_segment family() {
    if (family_ready_.load(std::memory_order_acquire)) return family_;
    watch_forks();
    make_life_file();
    start_hold excluding_forks;
    std::scoped_lock hold{life_lock_};
    if (!family_ready_.load(std::memory_order_relaxed)) make_family();
    return family_;
  }

  /// Shared memory on Linux and FreeBSD comes from a file system of limited size, and to touch a page for which there
  /// is no room is a SIGBUS: so the room is taken here. macOS has no such limit, and no such call.
  static bool commit([[maybe_unused]] std::byte* memory, [[maybe_unused]] std::size_t size) noexcept {
#if defined(_POSIX_ADVISORY_INFO) && _POSIX_ADVISORY_INFO > 0
    auto const from = static_cast<std::size_t>(memory - family_.base);
    if (size == 0 || from >= family_.size || size > family_.size - from) return true;
    for (auto number = from / granule; number * granule < from + size; ++number) {
      auto& bits = committed(number);
      auto const bit = std::uint64_t{1} << (number % 64);
      if ((bits.load(std::memory_order_relaxed) & bit) != 0) continue;
      auto const at = number * granule;
      if (!allocate(family_file_, at, std::min(granule, family_.size - at))) return false;
      bits.fetch_or(bit, std::memory_order_relaxed);
    }
#endif
    return true;
  }

  /// Nothing: no portable call gives a part of shared memory back.
  static void discard(std::byte*, std::size_t) noexcept {}

  static family_segment family_read_only() {
    auto const whole = family();
    if (auto* const there = read_view_.load(std::memory_order_acquire)) return {there, whole.size};
    std::scoped_lock hold{life_lock_};
    auto* view = read_view_.load(std::memory_order_relaxed);
    if (view == nullptr) {
      view = segment_map(family_file_, whole.size, false);
      read_view_.store(view, std::memory_order_release);
    }
    return {view, whole.size};
  }

  // --- named memory

  static constexpr bool named_survives = true;

  static std::optional<named_memory> name_create(std::string_view called, std::size_t size, unsigned mode,
                                                 void (*fill)(std::byte*, void*), void* context) {
    auto const path = detail::named_path(called);
    detail::check_named_size(size);
    watch_forks();
    if (detail::named_info(path)) return std::nullopt;
    auto const tag = detail::named_draft::tag_of_process();
    detail::named_draft::sweep(tag, remove_stale_draft);
    detail::named_draft draft{tag};
    auto view = detail::fill_named(draft.fd(), path, size, mode, fill, context);
    // Everybody who will find it there can ask after this process's threads.
    named_use file;
    {
      std::scoped_lock hold{living_lock_};
      file.take(add_named(draft.fd(), true, path));
      draft.disown();
    }
    named_range range{view.base(), size};
    if (!draft.publish(path)) return std::nullopt;
    range.stay();
    return view.release(file.release());
  }

  static std::optional<named_memory> name_open(std::string_view called, bool writable) {
    auto const path = detail::named_path(called);
    auto file = use_named(path, writable);
    if (!file) return std::nullopt;
    auto const size = static_cast<std::size_t>(detail::info_of(file.fd(), path).st_size);
    detail::named_view view{file.fd(), size, writable, path};
    if (size == 0) return named_memory{};
    named_range range{view.base(), size};
    range.stay();
    return view.release(file.release());
  }

  /// Who removes a name has its file locked meanwhile. That keeps out other processes, and the flag our own threads.
  static bool name_remove(std::string_view called, bool (*wanted)(std::byte const*, std::size_t, void*),
                          void* context) {
    auto const path = detail::named_path(called);
    for (;;) {
      auto const file = use_named(path, true);
      if (!file) return false;
      removal const hold{file.fd(), path};
      // Somebody may have removed it before we had the lock, and somebody else made another.
      auto const info = detail::info_of(file.fd(), path);
      auto const present = detail::named_info(path);
      if (!present) return false;
      if (!detail::same_file(info, *present)) continue;
      auto const size = static_cast<std::size_t>(info.st_size);
      detail::named_view const view{file.fd(), size, false, path};
      if (!wanted(view.base(), size, context)) return false;
      if (::unlink(path.c_str()) == 0) return true;
      if (errno == ENOENT) return false;
      detail::throw_named("unlink", path);
    }
  }

  static void name_close(named_memory const& named) noexcept {
    if (named.base == nullptr) return;
    {
      std::scoped_lock hold{living_lock_};
      named_ranges_.drop(named.base);
    }
    segment_unmap(named.base, named.size);
    named_use file;
    file.take(reinterpret_cast<named_file*>(named.keep));
  }

  // --- children

  static void prepare() noexcept {
    watch_forks();
    try {
      if (image_path_ == nullptr) image_path_ = new std::string(find_image());
    } catch (...) {  // out of memory: start_image tries again
    }
  }

  /// Closes in the child what this program left open to it, as far as it can be found: descriptors beyond a
  /// thousand unused numbers are not, and would be inherited unless marked close-on-exec.
  static child start_image(std::span<std::byte const> payload, bool daemon) {
    family();
    check_image();
    auto const bytes = make_payload(payload, daemon);
    start_hold excluding_forks;
    pipes_of_child pipes;

    std::array<int, marker_numbers> pass{};
    pass[0] = bytes.get();
    pass[1] = pipes.report_write.get();
    pass[2] = pipes.alive_write.get();
    pass[3] = daemon ? life_read_end() : -1;
    pass[4] = life_file_.load(std::memory_order_relaxed);
    pass[5] = family_file_;
    auto* next = pass.data() + 6;
    for (auto const& bucket : gate_pipes_) {
      for (auto const& gate : bucket) {
        *next++ = gate[0];
        *next++ = gate[1];
      }
    }

    std::string marker = make_marker(pass);
    std::string path = *image_path_;
    char* argv[] = {path.data(), marker.data(), nullptr};
    child made;
    {
      spawn_request request;
      request.pass_on(pass);
      request.join_group(daemon);
      check(::posix_spawn(&made.pid, path.c_str(), &request.actions, &request.attributes, argv, environment_block()),
            "posix_spawn of this program");
    }
    made.end = pipes.alive_read.release();
    made.report = pipes.report_read.release();
    return made;
  }

  static std::optional<child> start_fork(bool daemon) {
    family();
    start_hold excluding_forks;
    pipes_of_child pipes;
    if (daemon) life_read_end();
    child made;
    made.pid = ::fork();
    if (made.pid < 0) detail::throw_errno("fork");
    // Said by both, so that it is done whoever runs first.
    if (daemon)
      ::setpgid(made.pid, made.pid);
    else if (apart_)
      ::setpgid(made.pid, home_group());
    if (made.pid == 0) {
      apart_ = daemon;
      own_.report = pipes.report_write.release();
      own_.alive = pipes.alive_write.release();
      if (daemon && watch_parent(std::exchange(forked_life_, -1)) != 0) {
        write_stderr("polyproc: a daemon process could not start the thread that ends it with its parent\n");
        ::kill(::getpid(), SIGKILL);
      }
      return std::nullopt;
    }
    made.end = pipes.alive_read.release();
    made.report = pipes.report_read.release();
    return made;
  }

  static std::optional<std::vector<std::byte>> adopt(int argc, char** argv) {
    std::array<int, marker_numbers> numbers{};
    if (!parse_marker(argc, argv, numbers)) return std::nullopt;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (numbers[i] < 0 && i != 3) not_a_child();
    }
    watch_forks();
    bool daemon = false;
    auto payload = take_payload(numbers[0], daemon);
    own_.report = numbers[1];
    own_.alive = numbers[2];
    adopt_life_file(numbers[4]);
    {
      std::scoped_lock hold{life_lock_};
      auto const* next = numbers.data() + 6;
      for (auto& bucket : gate_pipes_) {
        for (auto& gate : bucket) {
          gate[0] = *next++;
          gate[1] = *next++;
        }
      }
      map_family(numbers[5]);
    }
    apart_ = daemon;
    if (daemon) {
      own_.parent = numbers[3];
      check(watch_parent(own_.parent), "pthread_create of the thread that ends a daemon with its parent");
    }
    return payload;
  }

  static bool await_end(child const& c, time_point deadline) {
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
    for (std::chrono::microseconds pause{20};;) {
      if (ended(c, true)) return true;
      if (now() >= deadline) return false;
      nap(pause, deadline);
      pause = std::min<std::chrono::microseconds>(pause * 2, std::chrono::milliseconds{10});
    }
  }

  static bool ask(child const& c, child_request what) {
    if (ended(c, true)) return false;
    if (::kill(c.pid, signal_number(what)) != 0) {
      if (errno == ESRCH) return false;
      detail::throw_errno("kill");
    }
    if (what == child_request::stop) await_stop(c);
    return true;
  }

  // --- code

  static code_location locate(void const* code) {
    Dl_info info{};
    if (&::dladdr == nullptr || ::dladdr(code, &info) == 0 || info.dli_fbase == nullptr)
      return {"", build_of(program_base()), distance(code, program_base())};
    code_location found;
    if (info.dli_fbase != program_base()) found.module = absolute(info.dli_fname);
    found.build = build_of(info.dli_fbase);
    found.offset = distance(code, info.dli_fbase);
    return found;
  }

  static void const* resolve(code_location const& where) {
    void const* base = where.module.empty() ? program_base() : loaded_base(where.module.c_str());
    if (base == nullptr && &::dlopen != nullptr &&
        ::dlopen(where.module.c_str(), RTLD_NOW | RTLD_LOCAL) != nullptr)
      base = loaded_base(where.module.c_str());
    if (base == nullptr)
      throw std::runtime_error("polyproc: the library " + where.module +
                               ", which holds a function that was sent here, cannot be loaded in this process");
    if (build_of(base) != where.build)
      throw std::runtime_error("polyproc: " + (where.module.empty() ? std::string("this program") : where.module) +
                               " was rebuilt or replaced after its parent started, so a function cannot be found"
                               " in it; start the whole program again");
    return static_cast<std::byte const*>(base) + where.offset;
  }

 private:
  friend unix_common<posix_backend>;

  // --- locks and forks. Order: start_lock_, hooks_lock_, life_lock_, living_lock_.

  /// Held while descriptors exist that would leak into a child: between a pipe's making and its being marked
  /// close-on-exec (no portable call does both at once), and from the making of a child's pipes until the child
  /// has them. Forks of the program's own wait for it too. Only posix_spawn and vfork called by the program itself
  /// can come in between. May be nested.
  struct start_hold {
    start_hold() noexcept { enter(); }
    start_hold(start_hold const&) = delete;
    start_hold& operator=(start_hold const&) = delete;
    ~start_hold() { leave(); }

    static void enter() noexcept {
      if (start_depth_++ == 0) start_lock_.lock();
    }
    static void leave() noexcept {
      if (--start_depth_ == 0) start_lock_.unlock();
    }
  };

  static void fork_prepare() noexcept {
    start_hold::enter();
    unix_common::fork_prepare();
    living_lock_.lock();
  }
  static void fork_parent() noexcept {
    living_lock_.unlock();
    unix_common::fork_parent();
    start_hold::leave();
  }
  static void forked() noexcept {
    // The parent's threads are not here, and neither are their locks on the life file.
    while (living_ != nullptr) spare(std::exchange(living_, living_->next));
    if (self_ != 0) ::pthread_setspecific(thread_end_, nullptr);
    self_ = 0;
    process_self_.store(0, std::memory_order_relaxed);
    process_number_.store(0, std::memory_order_relaxed);
    removing_.store(false, std::memory_order_relaxed);
    living_lock_.unlock();
    start_hold::leave();
    unix_common::forked();
  }

  // --- descriptors

  static void check(int error, char const* call) {
    if (error != 0) detail::throw_errno(call, error);
  }

  /// A program may run with some of 0, 1 and 2 closed; what is ours must not be taken for a standard stream.
  static int beyond_streams(int fd, char const* call) {
    detail::scoped_fd low{fd};
    if (fd > 2) return low.release();
    int const high = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (high < 0) detail::throw_errno(call);
    return high;
  }

  static void raw_pipe(int (&ends)[2]) {
    start_hold excluding_forks;
    if (::pipe(ends) != 0) detail::throw_errno("pipe");
    detail::scoped_fd first{ends[0]};
    detail::scoped_fd second{ends[1]};
    for (auto* one : {&first, &second}) {
      one->reset(beyond_streams(one->release(), "fcntl of a pipe"));
      if (::fcntl(one->get(), F_SETFD, FD_CLOEXEC) != 0) detail::throw_errno("fcntl of a pipe");
    }
    ends[0] = first.release();
    ends[1] = second.release();
  }

  /// Naps at most until the deadline. poll counts in milliseconds, so this is for shorter ones too.
  static void nap(std::chrono::microseconds length, time_point deadline) noexcept {
    auto const left = deadline == never ? length : std::chrono::ceil<std::chrono::microseconds>(deadline - now());
    auto const micros = std::min(length, left).count();
    if (micros <= 0) return;
    timespec const pause{static_cast<time_t>(micros / 1000000), static_cast<long>(micros % 1000000) * 1000};
    ::nanosleep(&pause, nullptr);
  }

  static std::array<char, 33> random_name() {
    std::array<std::byte, 16> bytes;
    random(bytes);
    std::array<char, 33> text{};
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      auto const value = std::to_integer<unsigned>(bytes[i]);
      text[2 * i] = "0123456789abcdef"[value >> 4];
      text[2 * i + 1] = "0123456789abcdef"[value & 15];
    }
    return text;
  }

  // --- identity

  /// Whatever a record lock can reach.
  static constexpr std::uint64_t largest_id =
      sizeof(off_t) >= 8 ? (std::uint64_t{1} << 62) - 1 : (std::uint64_t{1} << 31) - 2;

  struct living {
    std::uint64_t id = 0;
    living* next = nullptr;
  };

  /// Locks or unlocks the byte of an identity. A shared lock will do: nobody else has that number, and a file that is
  /// only open for reading can be locked so.
  static bool lock_identity(int fd, short kind, std::uint64_t id) noexcept {
    auto const lock = record(kind, id);
    int done = 0;
    do done = ::fcntl(fd, F_SETLK, &lock);
    while (done != 0 && errno == EINTR);
    return done == 0;
  }
  /// Whether another process has it locked. True too when the question cannot be asked.
  static bool locked_elsewhere(int fd, std::uint64_t id) noexcept {
    int const saved = errno;
    auto question = record(F_WRLCK, id);
    bool const locked = ::fcntl(fd, F_GETLK, &question) != 0 || question.l_type != F_UNLCK;
    errno = saved;
    return locked;
  }

  static struct flock record(short kind, std::uint64_t id) noexcept {
    struct flock lock {};
    lock.l_type = kind;
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(id);
    lock.l_len = 1;
    return lock;
  }

  static void spare(living* one) noexcept {
    one->next = spare_;
    spare_ = one;
  }

  [[noreturn]] static void no_identity(char const* why) noexcept {
    write_stderr(std::string_view{"polyproc: a thread cannot be made known to other processes: "});
    write_stderr(std::string_view{why});
    write_stderr(std::string_view{" failed; locks would not be safe, so the program ends\n"});
    std::abort();
  }

  static void begin_identity(bool of_thread = true) noexcept {
    int const saved = errno;
    watch_forks();
    try {
      make_life_file();
      std::scoped_lock hold{living_lock_};
      if (!thread_end_made_) {
        // Not a thread_local with a destructor: the destructors of the program's own come first this way, and they
        // may still hold our locks.
        check(::pthread_key_create(&thread_end_, &end_identity), "pthread_key_create");
        thread_end_made_ = true;
      }
      if (!of_thread && process_self_.load(std::memory_order_relaxed) != 0) return;
      living* one = spare_;
      if (one != nullptr)
        spare_ = one->next;
      else
        one = new living;
      one->id = lock_new_id();
      for (named_file const* file = named_; file != nullptr; file = file->next) {
        if (!lock_identity(file->fd, F_RDLCK, one->id)) detail::throw_errno("fcntl(F_SETLK) on named memory");
      }
      one->next = living_;
      living_ = one;
      if (of_thread) {
        check(::pthread_setspecific(thread_end_, one), "pthread_setspecific");
        self_ = one->id;
      } else {
        process_self_.store(one->id, std::memory_order_release);
      }
    } catch (std::exception const& failure) {
      no_identity(failure.what());
    }
    errno = saved;
  }

  static std::uint64_t lock_new_id() {
    for (int tries = 0;; ++tries) {
      std::uint64_t id = 0;
      random(std::as_writable_bytes(std::span{&id, 1}));
      id = id % (largest_id - detail::named_bytes) + detail::named_bytes;
      auto known = [](std::uint64_t wanted) {
        for (living const* one = living_; one != nullptr; one = one->next) {
          if (one->id == wanted) return true;
        }
        return false;
      };
      if (known(id)) continue;
      auto const lock = record(F_WRLCK, id);
      if (::fcntl(life_file_.load(std::memory_order_relaxed), F_SETLK, &lock) == 0) return id;
      bool const taken = errno == EAGAIN || errno == EACCES;  // by another process, where numbers are short
      if (errno != EINTR && (!taken || tries > 1000)) detail::throw_errno("fcntl(F_SETLK) on the life file");
    }
  }

  /// At the end of a thread. May come several times, when destructors that run after the first use our locks.
  static void end_identity(void* known) noexcept {
    std::scoped_lock hold{living_lock_};
    for (living** link = &living_; *link != nullptr; link = &(*link)->next) {
      if (*link != known) continue;
      living* const one = *link;
      *link = one->next;
      lock_identity(life_file_.load(std::memory_order_relaxed), F_UNLCK, one->id);
      for (named_file const* file = named_; file != nullptr; file = file->next)
        lock_identity(file->fd, F_UNLCK, one->id);
      spare(one);
      break;
    }
    self_ = 0;
  }

  static void make_life_file() {
    if (life_file_.load(std::memory_order_acquire) >= 0) return;
    watch_forks();
    start_hold excluding_forks;
    std::scoped_lock hold{life_lock_};
    if (life_file_.load(std::memory_order_relaxed) < 0)
      life_file_.store(open_life_file(), std::memory_order_release);
  }

  /// An empty file without a name. It is never closed, and never opened again: closing any descriptor of it drops
  /// all locks of the process.
  static int open_life_file() {
    auto const unique = random_name();
    char const* const wished = std::getenv("TMPDIR");
    int fd = -1;
    for (char const* directory : {wished, "/tmp", "/var/tmp"}) {
      if (directory == nullptr || *directory != '/') continue;
      std::string const path = std::string(directory) + "/polyproc-" + unique.data();
      do fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
      while (fd < 0 && errno == EINTR);
      if (fd < 0) continue;
      ::unlink(path.c_str());
      // Some file systems have no locks.
      auto const probe = record(F_WRLCK, largest_id);
      auto const undo = record(F_UNLCK, largest_id);
      if (::fcntl(fd, F_SETLK, &probe) == 0 && ::fcntl(fd, F_SETLK, &undo) == 0)
        return beyond_streams(fd, "fcntl of the life file");
      int const why = errno;
      ::close(fd);
      errno = why;
    }
    detail::throw_errno("open of a temporary file that can be locked, in TMPDIR, /tmp and /var/tmp");
  }

  /// Threads that were known before the family was joined (something global used a lock) are made known there.
  static void adopt_life_file(int fd) {
    std::scoped_lock hold{living_lock_};
    life_file_.store(fd, std::memory_order_release);
    for (living const* one = living_; one != nullptr; one = one->next) {
      auto const lock = record(F_WRLCK, one->id);
      if (::fcntl(fd, F_SETLK, &lock) != 0) detail::throw_errno("fcntl(F_SETLK) on the life file");
    }
  }

  // --- named memory: the files that this process has open. living_lock_ guards them, because whoever has an identity is
  // locked in all of them: who begins one there, who opens one for all who live.

  struct named_file {
    dev_t device{};
    ino_t number{};
    int fd = -1;
    bool writable = false;     // so was fd opened
    std::size_t users = 0;
    std::vector<int> more{};   // descriptors of the same file that must not be closed before it
    named_file* next = nullptr;
  };

  static named_file* find_named(struct stat const& info) noexcept {
    for (named_file* one = named_; one != nullptr; one = one->next) {
      if (one->device == info.st_dev && one->number == info.st_ino) return one;
    }
    return nullptr;
  }

  /// With living_lock_ held. The descriptor belongs to what it returns, unless it throws.
  static named_file* add_named(int fd, bool writable, std::string const& path) {
    auto const info = detail::info_of(fd, path);
    if (named_file* const known = find_named(info)) {
      // Opened under a name that has just got another meaning, or for writing where there was one for reading.
      ++known->users;
      int other = fd;
      if (writable && !known->writable) {
        std::swap(known->fd, other);
        known->writable = true;
      }
      try {
        known->more.push_back(other);
      } catch (std::bad_alloc const&) {  // stays open for ever: to close it would cost us our locks
      }
      return known;
    }
    detail::must_be_file(info, path);
    auto made = std::make_unique<named_file>();
    made->device = info.st_dev;
    made->number = info.st_ino;
    made->fd = fd;
    made->writable = writable;
    made->users = 1;
    for (living const* one = living_; one != nullptr; one = one->next) {
      if (!lock_identity(fd, F_RDLCK, one->id)) detail::throw_named("fcntl(F_SETLK)", path);
    }
    made->next = named_;
    named_ = made.release();
    return named_;
  }

  /// One of those who use a file.
  class named_use {
   public:
    named_use() = default;
    named_use(named_use&& other) noexcept : file_(std::exchange(other.file_, nullptr)) {}
    named_use& operator=(named_use const&) = delete;
    ~named_use() {
      if (file_ == nullptr) return;
      std::scoped_lock hold{living_lock_};
      if (--file_->users > 0) return;
      named_file** link = &named_;
      while (*link != file_) link = &(*link)->next;
      *link = file_->next;
      ::close(file_->fd);
      for (int const fd : file_->more) ::close(fd);
      delete file_;
    }

    explicit operator bool() const noexcept { return file_ != nullptr; }
    void take(named_file* file) noexcept { file_ = file; }
    std::uintptr_t release() noexcept { return reinterpret_cast<std::uintptr_t>(std::exchange(file_, nullptr)); }
    [[nodiscard]] int fd() const {
      std::scoped_lock hold{living_lock_};  // another thread may open it for writing
      return file_->fd;
    }

   private:
    named_file* file_ = nullptr;
  };

  /// Nothing when there is no such name. A thing that is not a file is not opened: that could have effects.
  static named_use use_named(std::string const& path, bool writable) {
    watch_forks();
    named_use file;
    std::scoped_lock hold{living_lock_};
    auto const info = detail::named_info(path);
    if (!info) return file;
    detail::must_be_file(*info, path);
    named_file* const known = find_named(*info);
    if (known != nullptr && (known->writable || !writable)) {
      ++known->users;
      file.take(known);
      return file;
    }
    detail::scoped_fd opened{detail::open_named(path, writable ? O_RDWR : O_RDONLY)};
    if (opened.get() < 0 && errno == ENOENT) return file;
    if (opened.get() < 0) detail::throw_named("open", path);
    file.take(add_named(opened.get(), writable, path));
    opened.release();
    return file;
  }

  /// Whether a draft's maker is gone is asked of its lock, which we must not have ourselves on that file.
  static void remove_stale_draft(std::string const& draft, struct stat const& info) noexcept {
    std::scoped_lock hold{living_lock_};
    named_file const* const known = find_named(info);
    if (info.st_nlink > 1)  // whole: it has its name already
      ::unlink(draft.c_str());
    else if (known == nullptr)
      detail::named_draft::remove_if_free(draft);
    else if (!locked_elsewhere(known->fd, static_cast<std::uint64_t>(detail::named_byte::draft)))
      ::unlink(draft.c_str());
  }

  struct removal {
    int fd;
    removal(int file, std::string const& path) : fd(file) {
      while (removing_.exchange(true, std::memory_order_acquire)) nap(std::chrono::microseconds{100}, never);
      // Two who each hold nothing else cannot be in each other's way, but the system may take threads of a process
      // for one and believe so.
      while (!detail::lock_named(fd, detail::named_byte::removal, F_WRLCK, true)) {
        if (errno == EDEADLK) {
          nap(std::chrono::microseconds{100}, never);
          continue;
        }
        int const why = errno;
        removing_.store(false, std::memory_order_release);
        detail::throw_named("fcntl(F_SETLKW)", path, why);
      }
    }
    removal(removal const&) = delete;
    removal& operator=(removal const&) = delete;
    ~removal() {
      detail::lock_named(fd, detail::named_byte::removal, F_UNLCK, false);
      removing_.store(false, std::memory_order_release);
    }
  };

  /// Where named memory lies here, for wait and wake.
  struct named_range {
    std::byte const* base;
    named_range(std::byte const* memory, std::size_t size) : base(memory) {
      std::scoped_lock hold{living_lock_};
      named_ranges_.add(memory, size);
    }
    named_range(named_range const&) = delete;
    named_range& operator=(named_range const&) = delete;
    ~named_range() {
      if (base == nullptr) return;
      std::scoped_lock hold{living_lock_};
      named_ranges_.drop(base);
    }
    void stay() noexcept { base = nullptr; }
  };

  static long process_number() noexcept {
    long number = process_number_.load(std::memory_order_relaxed);
    if (number == 0) {
      number = ::getpid();
      process_number_.store(number, std::memory_order_relaxed);
    }
    return number;
  }

  // --- shared memory

  static detail::scoped_fd new_segment(std::size_t size) {
    // To exceed this limit would raise SIGXFSZ.
    rlimit limit{};
    if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && size > limit.rlim_cur)
      detail::throw_errno("ftruncate of shared memory", EFBIG);
    auto const unique = random_name();
    std::string const path = std::string("/polyproc-") + (unique.data() + 12);  // macOS allows 31 characters
    int fd = -1;
    do fd = ::shm_open(path.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) detail::throw_errno("shm_open");
    ::shm_unlink(path.c_str());
    detail::scoped_fd guard{beyond_streams(fd, "fcntl of shared memory")};
    int done = 0;
    do done = ::ftruncate(guard.get(), static_cast<off_t>(size));
    while (done != 0 && errno == EINTR);
    if (done != 0) detail::throw_errno("ftruncate of shared memory");
    return guard;
  }

  /// False when there is no room. True too where the question cannot be asked.
  static bool allocate([[maybe_unused]] int fd, [[maybe_unused]] std::size_t at,
                       [[maybe_unused]] std::size_t size) noexcept {
#if defined(_POSIX_ADVISORY_INFO) && _POSIX_ADVISORY_INFO > 0
    // In pieces, because a signal undoes what an unfinished call did.
    constexpr std::size_t piece = std::size_t{1} << 20;
    while (size > 0) {
      auto const now_size = std::min(piece, size);
      int const error = ::posix_fallocate(fd, static_cast<off_t>(at), static_cast<off_t>(now_size));
      if (error == EINTR) continue;
      if (error == ENOSPC || error == EFBIG || error == ENOMEM || error == EDQUOT) return false;
      if (error != 0) return true;
      at += now_size;
      size -= now_size;
    }
#endif
    return true;
  }

  static std::atomic<std::uint64_t>& committed(std::size_t number) noexcept {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(family_.base + committed_at + number / 64 * 8);
  }

  /// As large as the system gives; little of it is used before it is touched or committed.
  static void make_family() {
    make_gates();
    for (std::size_t size = largest_family;; size /= 2) {
      try {
        auto fd = new_segment(size);
        if (!allocate(fd.get(), 0, family_reserved))
          detail::throw_errno("posix_fallocate of the first of the family's shared memory", ENOSPC);
        family_.base = segment_map(fd.get(), size, true);
        family_.size = size;
        family_file_ = fd.release();
        std::int64_t const group = ::getpgrp();
        std::memcpy(family_.base + home_group_at, &group, sizeof group);
        break;
      } catch (std::system_error const& failure) {
        bool const too_large = failure.code().value() == ENOMEM || failure.code().value() == EFBIG ||
                               failure.code().value() == ENOSPC || failure.code().value() == EINVAL;
        if (!too_large || size <= smallest_family) throw;
      }
    }
    family_ready_.store(true, std::memory_order_release);
  }

  static void map_family(int fd) {
    struct stat info {};
    if (::fstat(fd, &info) != 0) detail::throw_errno("fstat of the family's segment");
    auto const size = static_cast<std::size_t>(info.st_size);
    if (size < family_reserved) not_a_child();
    family_.base = segment_map(fd, size, true);
    family_.size = size;
    family_file_ = fd;
    family_ready_.store(true, std::memory_order_release);
  }

  static void make_gates() {
    if (gates_made_) return;  // by an attempt that failed later
    std::array<std::array<detail::scoped_fd, 2>, std::size_t{gate_buckets} * gates_per_bucket> fresh;
    for (auto& pipe : fresh) {
      auto const [r, w] = pipe_create();
      pipe[0].reset(r);
      pipe[1].reset(w);
      for (int const end : {r, w}) {
        if (::fcntl(end, F_SETFL, O_NONBLOCK) != 0) detail::throw_errno("fcntl of a pipe");
      }
    }
    auto* next = fresh.data();
    for (auto& bucket : gate_pipes_) {
      for (auto& gate : bucket) {
        gate[0] = (*next)[0].release();
        gate[1] = (*next)[1].release();
        ++next;
      }
    }
    gates_made_ = true;
  }

  // --- children

  /// Payload, report, alive, parent's life, life file, family's segment, gates.
  static constexpr std::size_t marker_numbers = 6 + std::size_t{2} * gate_buckets * gates_per_bucket;

  struct pipes_of_child {
    detail::scoped_fd report_read;
    detail::scoped_fd report_write;
    detail::scoped_fd alive_read;
    detail::scoped_fd alive_write;

    pipes_of_child() {
      make_report_pipe(report_read, report_write);
      auto const [r, w] = pipe_create();
      alive_read.reset(r);
      alive_write.reset(w);
    }
  };

  static detail::scoped_fd make_payload(std::span<std::byte const> payload, bool daemon) {
    auto const total = sizeof(payload_header) + payload.size();
    auto fd = new_segment(total);
    if (!allocate(fd.get(), 0, total)) detail::throw_errno("posix_fallocate of a child's payload", ENOSPC);
    fill_payload(fd.get(), payload, daemon);
    return fd;
  }

  static pid_t home_group() noexcept {
    std::int64_t group = 0;
    std::memcpy(&group, family_.base + home_group_at, sizeof group);
    return static_cast<pid_t>(group);
  }

  struct spawn_request {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    spawn_request() {
      check(::posix_spawn_file_actions_init(&actions), "posix_spawn_file_actions_init");
      if (int const error = ::posix_spawnattr_init(&attributes); error != 0) {
        ::posix_spawn_file_actions_destroy(&actions);
        detail::throw_errno("posix_spawnattr_init", error);
      }
      sigset_t set;
      sigemptyset(&set);
      ::posix_spawnattr_setsigmask(&attributes, &set);
      sigfillset(&set);
      // These have no disposition, and some systems object to being told one.
      sigdelset(&set, SIGKILL);
      sigdelset(&set, SIGSTOP);
      ::posix_spawnattr_setsigdefault(&attributes, &set);
      int flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
#if defined(__APPLE__)
      flags |= POSIX_SPAWN_CLOEXEC_DEFAULT;
#endif
      ::posix_spawnattr_setflags(&attributes, static_cast<short>(flags));
    }
    spawn_request(spawn_request const&) = delete;
    spawn_request& operator=(spawn_request const&) = delete;
    ~spawn_request() {
      ::posix_spawnattr_destroy(&attributes);
      ::posix_spawn_file_actions_destroy(&actions);
    }

    void join_group(bool daemon) {
      // A group that is gone cannot be joined, and the attempt would keep the child from starting.
      if (!daemon && (!apart_ || (::kill(-home_group(), 0) != 0 && errno == ESRCH))) return;
      short flags = 0;
      ::posix_spawnattr_getflags(&attributes, &flags);
      ::posix_spawnattr_setflags(&attributes, static_cast<short>(flags | POSIX_SPAWN_SETPGROUP));
      ::posix_spawnattr_setpgroup(&attributes, daemon ? 0 : home_group());
    }

    /// What the child is to have, under the same numbers; all else that can be found is closed in it.
    template <std::size_t N>
    void pass_on(std::array<int, N> const& pass) {
#if defined(__APPLE__)
      for (int const fd : {0, 1, 2}) {
        if (::fcntl(fd, F_GETFD) >= 0)
          check(::posix_spawn_file_actions_addinherit_np(&actions, fd), "posix_spawn_file_actions_addinherit_np");
      }
      for (int const fd : pass) {
        if (fd >= 0)
          check(::posix_spawn_file_actions_addinherit_np(&actions, fd), "posix_spawn_file_actions_addinherit_np");
      }
#else
      // To the same number means: clear close-on-exec.
      for (int const fd : pass) {
        if (fd >= 0) check(::posix_spawn_file_actions_adddup2(&actions, fd, fd), "posix_spawn_file_actions_adddup2");
      }
      // poll says of a whole block of numbers at once which of them are in use.
      constexpr int block = 256;
      std::array<pollfd, block> look;
      for (int first = 0, unused = 0; unused < 4; first += block) {
        for (int i = 0; i < block; ++i) look[static_cast<std::size_t>(i)] = {first + i, 0, 0};
        if (::poll(look.data(), block, 0) < 0 && errno != EINTR) return;
        ++unused;
        for (auto const& one : look) {
          if ((one.revents & POLLNVAL) != 0) continue;
          unused = 0;
          int const flags = one.fd < 3 ? -1 : ::fcntl(one.fd, F_GETFD);
          if (flags < 0 || (flags & FD_CLOEXEC) != 0) continue;
          check(::posix_spawn_file_actions_addclose(&actions, one.fd), "posix_spawn_file_actions_addclose");
        }
      }
#endif
    }
  };

  static char** environment_block() noexcept {
#if defined(__APPLE__)
    return *::_NSGetEnviron();
#else
    return environ;
#endif
  }

  /// Looks without taking the status. `hung_up`: its end of the pipe is closed.
  static bool ended(child const& c, bool hung_up) noexcept {
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

  /// Until it has stopped, ended, or a tenth of a second has passed. Only a daemon that has really stopped is resumed
  /// by the system when its parent ends: see above.
  static void await_stop(child const& c) noexcept {
    auto const deadline = now() + std::chrono::milliseconds{100};
    for (std::chrono::microseconds pause{10}; now() < deadline; pause *= 2) {
      siginfo_t info{};
      int const got = ::waitid(P_PID, static_cast<id_t>(c.pid), &info, WSTOPPED | WEXITED | WNOHANG | WNOWAIT);
      if (got == 0 ? info.si_pid != 0 : errno != EINTR) return;
      nap(pause, deadline);
    }
  }

  static void* watch_parent_loop(void* data) noexcept {
    int const life = static_cast<int>(reinterpret_cast<std::intptr_t>(data));
    for (;;) {
      pollfd p{life, POLLIN, 0};
      if (::poll(&p, 1, -1) <= 0) continue;
      if ((p.revents & POLLNVAL) != 0) return nullptr;
      char byte = 0;
      if (::read(life, &byte, 1) == 0) ::kill(::getpid(), SIGKILL);
    }
  }

  /// Nobody ever writes to that pipe, so what comes is its end. 0 or an error number.
  static int watch_parent(int life) noexcept {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread{};
    int const error =
        ::pthread_create(&thread, nullptr, &watch_parent_loop, reinterpret_cast<void*>(std::intptr_t{life}));
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (error == 0) ::pthread_detach(thread);
    return error;
  }

  // --- code

  /// The absolute path of this program.
  static std::string find_image() {
#if defined(__APPLE__)
    std::string path(1024, '\0');
    auto size = static_cast<std::uint32_t>(path.size());
    if (::_NSGetExecutablePath(path.data(), &size) != 0) {
      path.resize(size);
      ::_NSGetExecutablePath(path.data(), &size);
    }
    return absolute(path.c_str());
#elif defined(__FreeBSD__) || defined(__DragonFly__)
    int const question[] = {CTL_KERN, KERN_PROC, KERN_PROC_PATHNAME, -1};
    std::string path(PATH_MAX, '\0');
    std::size_t size = path.size();
    if (::sysctl(question, 4, path.data(), &size, nullptr, 0) != 0) size = 1;
    path.resize(size - 1);
    return path;
#else
    // Only the name by which it was called is known: looked for as a shell would.
    char const* const called = program_invocation_name;
    if (std::strchr(called, '/') != nullptr) return absolute(called);
    char const* const list = std::getenv("PATH");
    for (std::string_view rest{list == nullptr ? "/bin:/usr/bin" : list};;) {
      auto const end = rest.find(':');
      std::string candidate{rest.substr(0, end)};
      candidate += candidate.empty() ? "./" : "/";
      candidate += called;
      struct stat info {};
      if (::access(candidate.c_str(), X_OK) == 0 && ::stat(candidate.c_str(), &info) == 0 && S_ISREG(info.st_mode))
        return absolute(candidate.c_str());
      if (end == std::string_view::npos) return {};
      rest.remove_prefix(end + 1);
    }
#endif
  }

  /// That the file is still there and still this program; the child would find out otherwise, but not in words.
  static void check_image() {
    {
      std::scoped_lock hold{life_lock_};
      prepare();
      if (image_path_ == nullptr) throw std::bad_alloc();
    }
    if (image_path_->empty()) detail::throw_errno("finding the file of this program by its name", ENOENT);
#if !defined(__APPLE__)  // there a file may begin with the table of contents of several programs
    detail::scoped_fd file{::open(image_path_->c_str(), O_RDONLY | O_CLOEXEC)};
    if (file.get() < 0) {
      if (errno == EACCES) return;  // may be run but not be read
      detail::throw_errno("open of this program's file");
    }
    alignas(8) std::array<std::byte, head_size> head{};
    auto const got = ::pread(file.get(), head.data(), head.size(), 0);
    if (got != static_cast<ssize_t>(head.size()) || program_base() == nullptr) return;
    if (build_of(head.data()) != build_of(program_base()))
      detail::throw_errno("posix_spawn of this program, whose file was replaced; start the whole program again;",
                          ESTALE);
#endif
  }

  static std::string absolute(char const* given) {
    if (given == nullptr) return {};
    std::string text = given;
    if (char* const full = ::realpath(given, nullptr)) {
      text = full;
      std::free(full);
    }
    return text;
  }

  static std::uint64_t distance(void const* code, void const* base) noexcept {
    return reinterpret_cast<std::uintptr_t>(code) - reinterpret_cast<std::uintptr_t>(base);
  }

  /// FNV-1a over the head of the module as it is in memory. It holds the sizes and places of its parts and, right
  /// behind them, the build-id (ELF) or among them the UUID (Mach-O) that the linker makes of the contents. Nothing
  /// writes there, so the file begins with the same bytes.
  static constexpr std::size_t head_size = 4096;
  static std::uint64_t build_of(void const* base) noexcept {
    if (base == nullptr) return 0;
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    auto const* const bytes = static_cast<unsigned char const*>(base);
    for (std::size_t i = 0; i < head_size; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
    return hash;
  }

  /// Where the program itself is loaded.
  static void const* program_base() noexcept {
    static void const* const base = loaded_base(nullptr);
    return base;
  }

  /// Where a module that is loaded is loaded; no name: the program itself.
  static void const* loaded_base(char const* path) noexcept {
#if defined(__APPLE__)
    for (std::uint32_t i = 0, count = ::_dyld_image_count(); i < count; ++i) {
      auto const* const header = ::_dyld_get_image_header(i);
      char const* const called = ::_dyld_get_image_name(i);
      if (header == nullptr || called == nullptr) continue;
      if (path == nullptr ? header->filetype == MH_EXECUTE : absolute(called) == path) return header;
    }
    return nullptr;
#else
    void const* base = nullptr;
    if (&::dlopen != nullptr && &::dlinfo != nullptr && &::dladdr != nullptr && &::dlclose != nullptr) {
      if (void* const module = ::dlopen(path, RTLD_NOW | (path == nullptr ? 0 : RTLD_NOLOAD))) {
        // The link map's own idea of a base address differs between systems, but not what dladdr makes of an
        // address inside.
        link_map* map = nullptr;
        Dl_info info{};
        if (::dlinfo(module, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr && ::dladdr(map->l_ld, &info) != 0)
          base = info.dli_fbase;
        ::dlclose(module);
      }
    }
    return base == nullptr && path == nullptr ? static_cast<void const*>(__ehdr_start) : base;
#endif
  }

  static inline thread_local std::uint64_t self_ = 0;
  static inline std::atomic<std::uint64_t> process_self_{0};
  static inline thread_local int start_depth_ = 0;
  static inline detail::lasting_mutex start_lock_;

  static inline detail::lasting_mutex living_lock_;
  static inline living* living_ = nullptr;  // the threads of this process that have an identity
  static inline living* spare_ = nullptr;
  static inline pthread_key_t thread_end_{};
  static inline bool thread_end_made_ = false;
  static inline std::atomic<int> life_file_{-1};
  static inline std::atomic<long> process_number_{0};

  static inline std::string* image_path_ = nullptr;  // never freed: threads may start children during exit
  static inline bool apart_ = false;  // this process, or the one that forked it, is a daemon
  static inline int family_file_ = -1;
  static inline family_segment family_{};
  static inline std::atomic<bool> family_ready_{false};
  static inline std::atomic<std::byte*> read_view_{nullptr};
  static inline named_file* named_ = nullptr;
  static inline detail::named_ranges named_ranges_;
  static inline std::atomic<bool> removing_{false};
  static inline int gate_pipes_[gate_buckets][gates_per_bucket][2]{};
  static inline bool gates_made_ = false;
};

static_assert(forking_backend<posix_backend>);

}  // namespace polyproc::inline v0_1
