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
#include <polyproc/backend/posix_code.hpp>
#include <polyproc/backend/posix_processes.hpp>
#include <polyproc/backend/posix_spawn.hpp>
#include <polyproc/backend/unix_server.hpp>
#include <polyproc/backend/whole_fences.hpp>

#include <memory>

namespace polyproc::inline v0_1 {

struct posix_backend : detail::unix_server<posix_backend>, detail::whole_fences {
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
    static int handle(unsigned bucket, unsigned gate) noexcept { return gate_pipes_[bucket][gate][0]; }
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

 public:
  static void wait_for_some(std::span<word_wait<atomic<std::uint32_t>> const> words, std::span<int const> handles,
                            time_point deadline) {
    parking::wait_for_some(
        words, handles, deadline, [](void const* word) { return !named_ranges_.hold(word); },
        [](std::span<int const> all, time_point until) { return wait_any(all, until); });
  }

 private:

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
      if (image_path_ == nullptr) image_path_ = new std::string(code::find_image());
    } catch (...) {  // out of memory: start_image tries again
    }
  }

  /// Closes in the child what this program left open to it, as far as it can be found: descriptors beyond a
  /// thousand unused numbers are not, and would be inherited unless marked close-on-exec.
  static child start_image(start const& s) { return start_this_image(s, -1); }

  static std::optional<child> start_fork(start const& s) {
    family();
    start_hold excluding_forks;
    alive_pipe alive;
    alive.make();
    if (s.daemon) life_read_end();
    signals_held quiet;
    child made;
    made.group = s.group;
    made.pid = ::fork();
    if (made.pid < 0) detail::throw_errno("fork");
    // Said by both, so that it is done whoever runs first.
    if (s.daemon || s.group)
      ::setpgid(made.pid, made.pid);
    else if (apart_)
      ::setpgid(made.pid, home_group());
    if (made.pid == 0) {
      alive.read.reset();
      own_.alive = alive.write.release();
      begin_forked(s);
      if (!s.as_it_is) quiet.leave_as_they_are();
      begin_daemon(s.daemon, s.group, std::exchange(forked_life_, -1));
      return std::nullopt;
    }
    made.end = alive.read.release();
    return made;
  }

  static std::optional<std::uint64_t> adopt(int argc, char** argv) {
    marker<marker_numbers> numbers{};
    if (!parse_marker(argc, argv, numbers)) return std::nullopt;
    for (std::size_t i = family_at; i < numbers.size(); ++i) {
      if (numbers[i] < 0 && i != server_at) not_a_child();
    }
    watch_forks();
    auto const number = [&](std::size_t i) { return static_cast<int>(numbers[i]); };
    if ((numbers[flags_at] & flag_ignore_interrupt) != 0) clean_signals(true);
    own_.alive = number(alive_at);
    adopt_life_file(number(life_file_at));
    {
      std::scoped_lock hold{life_lock_};
      auto next = gates_at;
      for (auto& bucket : gate_pipes_) {
        for (auto& gate : bucket) {
          gate[0] = number(next++);
          gate[1] = number(next++);
        }
      }
      gates_made_ = true;
      map_family(number(family_at));
    }
    if (number(server_at) >= 0) {
      if (number(life_at) < 0) not_a_child();
      return serve(number(server_at), number(life_at));
    }
    bool const daemon = number(life_at) >= 0;
    apart_ = daemon && (numbers[flags_at] & flag_group) == 0;
    if (daemon) {
      own_.parent = number(life_at);
      check(detail::watch_parent(own_.parent), "pthread_create of the thread that ends a daemon with its parent");
    }
    return static_cast<std::uint64_t>(numbers[work_at]);
  }

  /// Identities are bytes of a file that their owners have locked: nobody else can say which.
  static constexpr bool identity_from_outside = false;
  static std::uint64_t identity_of(child const& c) noexcept { return c.identity; }

  static std::optional<child> open_process(long number, std::uint64_t identity) {
    if (!alive(identity)) return std::nullopt;
    child found;
    found.pid = static_cast<pid_t>(number);
    found.identity = identity;
    return found;
  }

  static void kill_tree(child const& c) {
    table::kill_tree(c.pid, c.group || (c.identity != 0 && ::getpgid(c.pid) == c.pid));
  }
  static std::vector<process_row> processes(long root) { return table::processes(root); }
  static std::optional<process_row> process_alone(long pid) { return table::process_alone(pid); }

  /// There is no portable call.
  static void check_affinity(std::vector<unsigned> const&) {
    throw std::system_error(std::make_error_code(std::errc::not_supported),
                            "polyproc: the choice of processors, which POSIX does not have");
  }
  static void set_affinity(std::vector<unsigned> const& numbers) { check_affinity(numbers); }
  /// There is no portable call for a name.
  static void begin_own_thread(char const*) noexcept { hold_all_signals(); }
  static void name_thread(char const*) noexcept {}
  static void set_thread_affinity(std::vector<unsigned> const& numbers) { check_affinity(numbers); }

  // --- code

  static code_location locate(void const* address) { return code::locate(address); }
  static void const* resolve(code_location const& where) { return code::resolve(where); }

 private:
  using code = detail::posix_code;
  friend detail::unix_common<posix_backend>;
  friend detail::unix_streams<posix_backend>;
  friend detail::unix_children<posix_backend>;
  friend detail::unix_server<posix_backend>;
  using table = detail::posix_processes<posix_backend>;
  friend table;

  // --- locks and forks. Order: start_lock_, server_lock_, hooks_lock_, life_lock_, living_lock_; reapable_lock_ in each.

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
    unix_server::fork_prepare();
    living_lock_.lock();
  }
  static void fork_parent() noexcept {
    living_lock_.unlock();
    unix_server::fork_parent();
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
    unix_server::forked();
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

  /// The head that all have, then the life file and the gates.
  static constexpr std::size_t life_file_at = marker_head;
  static constexpr std::size_t gates_at = life_file_at + 1;
  static constexpr std::size_t marker_numbers = gates_at + std::size_t{2} * gate_buckets * gates_per_bucket;

  static child start_this_image(start const& s, int server) {
    family();
    code::check_image(image_path());
    start_hold excluding_forks;
    alive_pipe alive;
    alive.make();

    marker<marker_numbers> pass{};
    pass[work_at] = static_cast<std::int64_t>(s.work);
    pass[flags_at] = flags_of(s);
    pass[alive_at] = alive.write.get();
    pass[life_at] = s.daemon ? life_read_end() : -1;
    pass[family_at] = family_file_;
    pass[server_at] = server;
    pass[life_file_at] = life_file_.load(std::memory_order_relaxed);
    auto next = gates_at;
    for (auto const& bucket : gate_pipes_) {
      for (auto const& gate : bucket) {
        pass[next++] = gate[0];
        pass[next++] = gate[1];
      }
    }

    passengers const passed(s);
    std::string text = make_marker(pass, passed);
    std::vector<std::int64_t> inherited(pass.begin() + alive_at, pass.end());
    inherited.insert(inherited.end(), passed.all().begin(), passed.all().end());
    std::string path = *image_path_;
    char* argv[] = {path.data(), text.data(), nullptr};
    std::vector<char*> variables;
    if (s.environment != nullptr) {
      for (auto const& one : *s.environment) variables.push_back(const_cast<char*>(one.c_str()));
      variables.push_back(nullptr);
    }
    child made;
    made.group = s.group;
    {
      detail::spawn_request request{s.ignore_interrupt};
      request.pass_on(inherited, s.streams);
      if (server < 0 && (s.daemon || s.group)) request.join_group(0);
      else if (apart_) request.join_group(home_group());
      check(::posix_spawn(&made.pid, path.c_str(), &request.actions, &request.attributes, argv,
                          s.environment != nullptr ? variables.data() : detail::environment_block()),
            "posix_spawn of this program");
    }
    made.end = alive.read.release();
    return made;
  }

  static std::string const& image_path() {
    std::scoped_lock hold{life_lock_};
    prepare();
    if (image_path_ == nullptr) throw std::bad_alloc();
    return *image_path_;
  }

  static pid_t home_group() noexcept {
    std::int64_t group = 0;
    std::memcpy(&group, family_.base + home_group_at, sizeof group);
    return static_cast<pid_t>(group);
  }

  /// In a child whose work begins.
  static void begin_daemon(bool daemon, bool group, int life) noexcept {
    apart_ = daemon && !group;
    if (!daemon || detail::watch_parent(life) == 0) return;
    write_stderr("polyproc: a daemon process could not start the thread that ends it with its parent\n");
    ::kill(::getpid(), SIGKILL);
  }

  // --- what unix_streams asks

  static int accept_socket(int listening) {
    start_hold excluding_forks;
    int const fd = ::accept(listening, nullptr, nullptr);
    return fd < 0 ? fd : adopt_socket(fd);
  }
  /// Where nobody can say, the mode of the socket's file has to do, and its owner.
  static std::optional<uid_t> peer_user([[maybe_unused]] int socket) noexcept {
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) || defined(__DragonFly__)
    uid_t user = 0;
    gid_t group = 0;
    if (::getpeereid(socket, &user, &group) == 0) return user;
#endif
    return std::nullopt;
  }

  // --- what unix_server asks

  static constexpr bool children_are_ours = false;
  static constexpr bool reserve_is_armed = false;
  static constexpr int socket_closing = 0;
  static constexpr int receive_closing = 0;  // marked one by one, while nobody else may fork
  static constexpr int open_to_enter = O_RDONLY;
  /// A directory that may be entered but not be read cannot be passed as a descriptor.
  static bool can_pass_directory(bool changed) noexcept { return !changed || ::access(".", R_OK) == 0; }
  static std::uint64_t more_facts() noexcept { return 0; }
  static bool watched_by_pidfd() noexcept { return false; }
  static void watch_reserve(child& c, pid_t helper) noexcept { c.helper = helper; }
  static bool cannot_serve() noexcept { return false; }
  static pid_t fork_for_parent(newest_child&) noexcept { return ::fork(); }

  /// The end of a child wakes the helper by a signal that does nothing but write to a pipe.
  static void helper_begins() {
    auto const [r, w] = pipe_create();
    ::fcntl(r, F_SETFL, O_NONBLOCK);
    ::fcntl(w, F_SETFL, O_NONBLOCK);
    child_ended_ = {r, w};
    struct sigaction action {};
    action.sa_handler = [](int) {
      int const saved = errno;
      char const byte = 0;
      [[maybe_unused]] auto const ignored = ::write(child_ended_[1], &byte, 1);
      errno = saved;
    };
    action.sa_flags = SA_RESTART | SA_NOCLDSTOP;
    ::sigaction(SIGCHLD, &action, nullptr);
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGCHLD);
    ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  }

  /// Until the parent has something to say: true; false when only children have ended, whose status is told then. They
  /// stay zombies until the parent says that it needs their numbers no longer.
  static bool helper_waits(int control, std::vector<helper_child>& ours) noexcept {
    tell_of_ends(ours);  // one that had ended before it was known to be the child
    pollfd look[2]{{control, POLLIN, 0}, {child_ended_[0], POLLIN, 0}};
    if (::poll(look, 2, -1) < 0) return false;
    if (look[1].revents != 0) {
      char bytes[64];
      while (::read(child_ended_[0], bytes, sizeof bytes) > 0) {
      }
    }
    tell_of_ends(ours);
    return look[0].revents != 0;
  }
  static void tell_of_ends(std::vector<helper_child>& ours) noexcept {
    for (auto& one : ours) {
      siginfo_t info{};
      if (one.told || ::waitid(P_PID, static_cast<id_t>(one.pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
          info.si_pid == 0)
        continue;
      one.told = true;
      int const raw = info.si_code == CLD_EXITED ? (info.si_status & 0xFF) << 8
                                                 : info.si_status | (info.si_code == CLD_DUMPED ? 0x80 : 0);
      auto* const word = reinterpret_cast<std::atomic<std::uint64_t>*>(family_.base + one.work);
      word->store(std::uint64_t{1} << 32 | static_cast<std::uint32_t>(raw), std::memory_order_release);
    }
  }

  /// The parent wants no more children from here, but lives: the ends of those that there are have to be told.
  static void helper_lingers(std::vector<helper_child>& ours, pid_t parent) noexcept {
    tell_of_ends(ours);
    std::erase_if(ours, [](helper_child const& one) { return one.told; });
    while (!ours.empty() && ::getppid() == parent) {
      pollfd look{child_ended_[0], POLLIN, 0};
      ::poll(&look, 1, 1000);
      char bytes[64];
      while (::read(child_ended_[0], bytes, sizeof bytes) > 0) {
      }
      tell_of_ends(ours);
      std::erase_if(ours, [](helper_child const& one) { return one.told; });
    }
  }

  static int reserve_watch(int) noexcept { return -1; }
  static bool keep_from_copies(std::byte*, std::size_t) noexcept { return false; }
  static void reserve_begins(int, int, pid_t) noexcept {
    hold_signals();
    ::close(std::exchange(child_ended_[0], -1));
    ::close(std::exchange(child_ended_[1], -1));
  }
  static void reserve_works(bool daemon, bool group, int life) noexcept {
    if (daemon) ::setpgid(0, 0);
    begin_daemon(daemon, group, life);
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
  static inline std::array<int, 2> child_ended_{-1, -1};  // in a helper
  static inline bool apart_ = false;  // a daemon's group is its own, but its children belong to the first one's
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

static_assert(forking_backend<posix_backend> && stream_backend<posix_backend>);

}  // namespace polyproc::inline v0_1
