// own-main: this program is also programs of other families, on systems that refuse this and that; see main.
// timeout: 240
//
// What the system refuses: every call by which a process is started and watched fails here, one after the other.
//
// The calls of the C library are defined in this program once more. They pass on what they are asked for, unless a `refusal`
// lives in the calling thread that says otherwise; children refuse nothing. Named as such, and not by the names of the
// headers, they clash with no declaration.
#if defined(_FORTIFY_SOURCE)
#undef _FORTIFY_SOURCE  // by which some of them would be called by other names
#endif

#include "process/start_methods.hpp"

#if !defined(_WIN32)

#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

// Sanitizers replace the same calls, and static programs have nobody to pass them on to.
#if defined(__linux__) && defined(__GLIBC__) && defined(__LP64__) && !defined(POLYPROC_TEST_ADDRESS_SANITIZER) && \
    !defined(POLYPROC_TEST_THREAD_SANITIZER)
#define REFUSALS_INTERPOSED 1
#include <dlfcn.h>
#include <sched.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

using namespace std::chrono_literals;
using polyproc::process;
using polyproc::process_options;
using polyproc::start_method;
using backend = polyproc::native_backend;

namespace {

[[maybe_unused]] constexpr bool is_linux = backend::name == "linux";

// --- what this program looks like from outside

struct look {
  inventory there;
  std::size_t used = 0;

  static look take() {
    (void)polyproc::active_children();  // takes the status of fork servers that were given up
    return {inventory::take(), polyproc::detail::arena<backend>::used_bytes()};
  }
  friend bool operator==(look const& a, look const& b) {
    return a.there.descriptors == b.there.descriptors && a.there.threads == b.there.threads &&
           a.there.children == b.there.children && a.there.shared_memory == b.there.shared_memory && a.used == b.used;
  }
  [[nodiscard]] std::string text() const {
    std::string all = std::to_string(there.descriptors.size()) + " descriptors, " + std::to_string(there.threads) +
                      " threads, " + std::to_string(there.children) + " children, " +
                      std::to_string(there.shared_memory.size()) + " shared, " + std::to_string(used) + " bytes:";
    for (auto const& one : there.descriptors) all += ' ' + one;
    return all;
  }
};
/// The fork server makes its next reserve, and what has ended leaves /proc, a moment later.
[[maybe_unused]] look settled(look const& as) {
  auto now = look::take();
  for (int i = 0; i < 2000 && !(now == as); ++i) {
    std::this_thread::sleep_for(1ms);
    now = look::take();
  }
  return now;
}

void swallow(std::string const& text, long size) {
  if (static_cast<long>(text.size()) != size) polyproc::this_process::exit(9);
}
[[maybe_unused]] void wait_for(shared_notes n) { until(n->a, 1); }
[[maybe_unused]] void sleep_on() {
  for (;;) ::pause();
}

std::string own_path;  // set by main

/// Runs this program with these variables and arguments; its exit code, or -1 if it did not end in time.
[[maybe_unused]] int run_this_program(std::vector<std::string> const& arguments, std::vector<std::string> const& variables) {
  std::vector<char const*> argv{own_path.c_str()};
  for (auto const& one : arguments) argv.push_back(one.c_str());
  argv.push_back(nullptr);
  std::vector<std::string> all = variables;
  for (char** one = environ; *one != nullptr; ++one) all.emplace_back(*one);
  std::vector<char const*> envp;
  for (auto const& one : all) envp.push_back(one.c_str());
  envp.push_back(nullptr);
  auto const pid = ::fork();
  if (pid == 0) {
    ::execve(own_path.c_str(), const_cast<char**>(argv.data()), const_cast<char**>(envp.data()));
    ::_exit(99);
  }
  int raw = 0;
  for (int i = 0; i < 60000 && ::waitpid(pid, &raw, WNOHANG) == 0; ++i) {
    if (i + 1 == 60000) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, &raw, 0);
      return -1;
    }
    std::this_thread::sleep_for(1ms);
  }
  return WIFEXITED(raw) ? WEXITSTATUS(raw) : -WTERMSIG(raw);
}

}  // namespace

// --- a child that dies at its very beginning: when the variable says so, and this is one that polyproc has started

namespace {

struct dies_at_once {
  dies_at_once() {
    char const* const how = std::getenv("REFUSALS_DIE");
    if (how == nullptr) return;
    std::ifstream line("/proc/self/cmdline");
    std::string text;
    std::getline(line, text);
    if (text.find("--polyproc-child=") == std::string::npos) return;
    if (how[0] == 'a') std::abort();
    ::_exit(77);
  }
} const dies_at_once_;

}  // namespace

// --- the calls

#if defined(REFUSALS_INTERPOSED)

namespace {

enum point : int {
  at_fork, at_clone, at_execveat, at_execve, at_posix_spawn, at_adddup2, at_actions_init, at_pipe, at_pipe2, at_socketpair,
  at_open, at_dupfd, at_mmap, at_ftruncate, at_shm_open, at_memfd_create, at_pidfd_open, at_pidfd_send_signal, at_poll,
  at_sendmsg, at_recvmsg, at_waitid, at_waitpid, at_posix_fallocate, at_pthread_create, points
};
constexpr char const* point_names[points] = {
    "fork", "clone", "execveat", "execve", "posix_spawn", "posix_spawn_file_actions_adddup2",
    "posix_spawn_file_actions_init", "pipe", "pipe2", "socketpair", "open", "F_DUPFD_CLOEXEC", "mmap", "ftruncate",
    "shm_open", "memfd_create", "pidfd_open", "pidfd_send_signal", "poll", "sendmsg", "recvmsg", "waitid", "waitpid",
    "posix_fallocate", "pthread_create"};

/// Shared with forked copies of this program, which try what can be tried only once.
struct counts {
  std::atomic<long> refused[points];
  std::atomic<long> old_kernel;
  std::atomic<int> last;
};
counts* counted = nullptr;

/// While it lives the calls of this thread, in this process, are counted, and the one whose turn it is fails.
class refusal {
 public:
  refusal(long turn, int error, bool lasting) noexcept : pid_(::getpid()), left_(turn), error_(error), lasting_(lasting) {
    now = this;
  }
  refusal(refusal const&) = delete;
  refusal& operator=(refusal const&) = delete;
  ~refusal() { disarm(); }
  void disarm() noexcept { now = nullptr; }

  /// How often it said no.
  [[nodiscard]] long refused() const noexcept { return refused_; }
  /// The last call that it said no to.
  [[nodiscard]] char const* name() const noexcept { return last_ < 0 ? "nothing" : point_names[last_]; }

  /// 0 or an error number. Also called by the child that runs in our memory until its exec; for that `image`.
  static int of(point what, bool image = false) noexcept {
    auto* const mine = now;
    if (mine == nullptr || (!image && mine->pid_ != ::getpid()) || !can_fail_so(what, mine->error_)) return 0;
    if (mine->left_ > 1 || (mine->left_ < 1 && !mine->lasting_)) {
      --mine->left_;
      return 0;
    }
    --mine->left_;
    ++mine->refused_;
    mine->last_ = what;
    counted->last = what;
    counted->refused[what].fetch_add(1);
    return mine->error_;
  }

 private:
  static bool can_fail_so(point what, int error) noexcept {
    bool const waits = what == at_waitid || what == at_waitpid;  // never of resources
    if (error == EINTR) return waits || what == at_poll || what == at_sendmsg || what == at_recvmsg || what == at_shm_open ||
                               what == at_posix_fallocate;
    return !waits;
  }

  static inline constinit thread_local refusal* now = nullptr;
  pid_t pid_;
  long left_;
  int error_;
  bool lasting_;
  long refused_ = 0;
  int last_ = -1;
};

/// The one that the C library has.
template <class F>
struct original {
  char const* name;
  std::atomic<F*> known{nullptr};
  F* get() noexcept {
    auto* found = known.load(std::memory_order_relaxed);
    if (found == nullptr) {
      found = reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
      known.store(found, std::memory_order_relaxed);
    }
    return found;
  }
};

constinit original<pid_t()> fork_{"fork"};
constinit original<int(int (*)(void*), void*, int, void*, void*, void*, void*)> clone_{"clone"};
constinit original<int(char const*, char* const*, char* const*)> execve_{"execve"};
constinit original<int(pid_t*, char const*, void const*, void const*, char* const*, char* const*)> spawn_{"posix_spawn"};
constinit original<int(void*, int, int)> adddup2_{"posix_spawn_file_actions_adddup2"};
constinit original<int(void*)> actions_init_{"posix_spawn_file_actions_init"};
constinit original<int(int*)> pipe_{"pipe"};
constinit original<int(int*, int)> pipe2_{"pipe2"};
constinit original<int(int, int, int, int*)> socketpair_{"socketpair"};
constinit original<int(char const*, int, unsigned)> open_{"open"};
constinit original<int(int, int, void*)> fcntl_{"fcntl"};
constinit original<void*(void*, std::size_t, int, int, int, off_t)> mmap_{"mmap"};
constinit original<int(int, off_t)> ftruncate_{"ftruncate"};
constinit original<int(char const*, int, mode_t)> shm_open_{"shm_open"};
constinit original<long(long, long, long, long, long, long, long)> syscall_{"syscall"};
constinit original<int(pollfd*, nfds_t, int)> poll_{"poll"};
constinit original<ssize_t(int, msghdr const*, int)> sendmsg_{"sendmsg"};
constinit original<ssize_t(int, msghdr*, int)> recvmsg_{"recvmsg"};
constinit original<int(int, id_t, siginfo_t*, int)> waitid_{"waitid"};
constinit original<pid_t(pid_t, int*, int)> waitpid_{"waitpid"};
constinit original<int(int, off_t, off_t)> posix_fallocate_{"posix_fallocate"};
constinit original<int(pthread_t*, void const*, void* (*)(void*), void*)> pthread_create_{"pthread_create"};
constinit original<int(int, unsigned long, unsigned long, unsigned long, unsigned long)> prctl_{"prctl"};

/// What this program and its children do not have at all.
enum : unsigned { old_kernel = 1, no_clone_parent = 2, no_thread_number = 4 };
constinit unsigned missing = 0;

/// Before anything global of this program (and after what the C library's own do): all that may be needed in a child that
/// runs in its parent's memory is known then.
__attribute__((constructor(101))) void find_all() {
  (void)fork_.get(), (void)clone_.get(), (void)execve_.get(), (void)spawn_.get(), (void)adddup2_.get();
  (void)actions_init_.get(), (void)pipe_.get(), (void)pipe2_.get(), (void)socketpair_.get(), (void)open_.get();
  (void)fcntl_.get(), (void)mmap_.get(), (void)ftruncate_.get(), (void)shm_open_.get(), (void)syscall_.get();
  (void)poll_.get(), (void)sendmsg_.get(), (void)recvmsg_.get(), (void)waitid_.get(), (void)waitpid_.get();
  (void)posix_fallocate_.get(), (void)pthread_create_.get(), (void)prctl_.get();
  counted = static_cast<counts*>(
      mmap_.get()(nullptr, sizeof(counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (char const* const mode = std::getenv("REFUSALS_MISSING")) missing = static_cast<unsigned>(std::atoi(mode));
}

template <class Result>
bool refused(point what, Result& result) noexcept {
  int const error = refusal::of(what);
  if (error == 0) return false;
  errno = error;
  result = Result(-1);
  return true;
}
long none(int error) noexcept {
  if (counted != nullptr) counted->old_kernel.fetch_add(1);
  errno = error;
  return -1;
}

}  // namespace

extern "C" {

pid_t my_fork() noexcept asm("fork");
pid_t my_fork() noexcept {
  pid_t no = 0;
  return refused(at_fork, no) ? no : fork_.get()();
}
int my_clone(int (*f)(void*), void* stack, int flags, void* data, void* a, void* b, void* c) asm("__clone");
int my_clone(int (*f)(void*), void* stack, int flags, void* data, void* a, void* b, void* c) {
  int no = 0;
  if (refused(at_clone, no)) return no;
  if ((missing & old_kernel) != 0) flags &= ~0x1000;  // CLONE_PIDFD: what it does not know is not looked at
  return clone_.get()(f, stack, flags, data, a, b, c);
}
int my_execve(char const* path, char* const* argv, char* const* envp) noexcept asm("execve");
int my_execve(char const* path, char* const* argv, char* const* envp) noexcept {
  if (int const error = refusal::of(at_execve, true); error != 0) {
    errno = error;
    return -1;
  }
  return execve_.get()(path, argv, envp);
}
int my_spawn(pid_t* pid, char const* path, void const* actions, void const* attributes, char* const* argv,
             char* const* envp) noexcept asm("posix_spawn");
int my_spawn(pid_t* pid, char const* path, void const* actions, void const* attributes, char* const* argv,
             char* const* envp) noexcept {
  int const error = refusal::of(at_posix_spawn);
  return error != 0 ? error : spawn_.get()(pid, path, actions, attributes, argv, envp);
}
int my_adddup2(void* actions, int from, int to) noexcept asm("posix_spawn_file_actions_adddup2");
int my_adddup2(void* actions, int from, int to) noexcept {
  int const error = refusal::of(at_adddup2);
  return error != 0 ? error : adddup2_.get()(actions, from, to);
}
int my_actions_init(void* actions) noexcept asm("posix_spawn_file_actions_init");
int my_actions_init(void* actions) noexcept {
  int const error = refusal::of(at_actions_init);
  return error != 0 ? error : actions_init_.get()(actions);
}
int my_pipe(int* ends) noexcept asm("pipe");
int my_pipe(int* ends) noexcept {
  int no = 0;
  return refused(at_pipe, no) ? no : pipe_.get()(ends);
}
int my_pipe2(int* ends, int flags) noexcept asm("pipe2");
int my_pipe2(int* ends, int flags) noexcept {
  int no = 0;
  return refused(at_pipe2, no) ? no : pipe2_.get()(ends, flags);
}
int my_socketpair(int domain, int type, int protocol, int* ends) noexcept asm("socketpair");
int my_socketpair(int domain, int type, int protocol, int* ends) noexcept {
  int no = 0;
  return refused(at_socketpair, no) ? no : socketpair_.get()(domain, type, protocol, ends);
}
int my_open(char const* path, int flags, unsigned mode) asm("open");
int my_open(char const* path, int flags, unsigned mode) {
  int no = 0;
  return refused(at_open, no) ? no : open_.get()(path, flags, mode);
}
int my_fcntl(int fd, int what, void* argument) asm("fcntl");
int my_fcntl(int fd, int what, void* argument) {
  int no = 0;
  return what == F_DUPFD_CLOEXEC && refused(at_dupfd, no) ? no : fcntl_.get()(fd, what, argument);
}
void* my_mmap(void* at, std::size_t size, int access, int flags, int fd, off_t from) noexcept asm("mmap");
void* my_mmap(void* at, std::size_t size, int access, int flags, int fd, off_t from) noexcept {
  long no = 0;
  return refused(at_mmap, no) ? MAP_FAILED : mmap_.get()(at, size, access, flags, fd, from);
}
int my_ftruncate(int fd, off_t size) noexcept asm("ftruncate");
int my_ftruncate(int fd, off_t size) noexcept {
  int no = 0;
  return refused(at_ftruncate, no) ? no : ftruncate_.get()(fd, size);
}
int my_shm_open(char const* name, int flags, mode_t mode) noexcept asm("shm_open");
int my_shm_open(char const* name, int flags, mode_t mode) noexcept {
  int no = 0;
  return refused(at_shm_open, no) ? no : shm_open_.get()(name, flags, mode);
}
int my_poll(pollfd* all, nfds_t count, int time) asm("poll");
int my_poll(pollfd* all, nfds_t count, int time) {
  int no = 0;
  return refused(at_poll, no) ? no : poll_.get()(all, count, time);
}
ssize_t my_sendmsg(int fd, msghdr const* message, int flags) asm("sendmsg");
ssize_t my_sendmsg(int fd, msghdr const* message, int flags) {
  ssize_t no = 0;
  return refused(at_sendmsg, no) ? no : sendmsg_.get()(fd, message, flags);
}
ssize_t my_recvmsg(int fd, msghdr* message, int flags) asm("recvmsg");
ssize_t my_recvmsg(int fd, msghdr* message, int flags) {
  ssize_t no = 0;
  return refused(at_recvmsg, no) ? no : recvmsg_.get()(fd, message, flags);
}
int my_waitid(int kind, id_t id, siginfo_t* info, int options) asm("waitid");
int my_waitid(int kind, id_t id, siginfo_t* info, int options) {
  int no = 0;
  return refused(at_waitid, no) ? no : waitid_.get()(kind, id, info, options);
}
pid_t my_waitpid(pid_t pid, int* raw, int options) asm("waitpid");
pid_t my_waitpid(pid_t pid, int* raw, int options) {
  pid_t no = 0;
  return refused(at_waitpid, no) ? no : waitpid_.get()(pid, raw, options);
}
int my_posix_fallocate(int fd, off_t from, off_t size) asm("posix_fallocate");
int my_posix_fallocate(int fd, off_t from, off_t size) {
  int const error = refusal::of(at_posix_fallocate);
  return error != 0 ? error : posix_fallocate_.get()(fd, from, size);
}
int my_pthread_create(pthread_t* made, void const* how, void* (*run)(void*), void* data) noexcept asm("pthread_create");
int my_pthread_create(pthread_t* made, void const* how, void* (*run)(void*), void* data) noexcept {
  int const error = refusal::of(at_pthread_create);
  return error != 0 ? error : pthread_create_.get()(made, how, run, data);
}
int my_prctl(int what, unsigned long a, unsigned long b, unsigned long c, unsigned long d) noexcept asm("prctl");
int my_prctl(int what, unsigned long a, unsigned long b, unsigned long c, unsigned long d) noexcept {
  if ((missing & no_thread_number) != 0 && what == PR_GET_TID_ADDRESS) return static_cast<int>(none(EINVAL));
  return prctl_.get()(what, a, b, c, d);
}
long my_syscall(long what, long a, long b, long c, long d, long e, long f) noexcept asm("syscall");
long my_syscall(long what, long a, long b, long c, long d, long e, long f) noexcept {
  long no = 0;
  switch (what) {
    case SYS_memfd_create:
      if (refused(at_memfd_create, no)) return no;
      break;
    case SYS_pidfd_open:
      if ((missing & old_kernel) != 0) return none(ENOSYS);
      if (refused(at_pidfd_open, no)) return no;
      break;
    case SYS_pidfd_send_signal:
      if ((missing & old_kernel) != 0) return none(ENOSYS);
      if (refused(at_pidfd_send_signal, no)) return no;
      break;
    case SYS_close_range:
      if ((missing & old_kernel) != 0) return none(ENOSYS);
      break;
    case SYS_execveat:
      if ((missing & old_kernel) != 0) return none(ENOSYS);
      if (int const error = refusal::of(at_execveat, true); error != 0) {
        errno = error;
        return -1;
      }
      break;
    case SYS_clone:
      if ((missing & no_clone_parent) != 0 && (a & CLONE_PARENT) != 0) return none(EINVAL);
      break;
    default: break;
  }
  return syscall_.get()(what, a, b, c, d, e, f);
}

}  // extern "C"

namespace {

constexpr char const* error_name(int error) {
  switch (error) {
    case EAGAIN: return "EAGAIN";
    case ENOMEM: return "ENOMEM";
    case EMFILE: return "EMFILE";
    case EINTR: return "EINTR";
    default: return "another error";
  }
}

/// What an attempt came to: nothing, if it was done; else what was said.
template <class Attempt>
std::optional<std::string> said(Attempt&& attempt) {
  try {
    attempt();
    return std::nullopt;
  } catch (std::bad_alloc const&) {
    return "bad_alloc";
  } catch (std::system_error const& e) {
    return e.what();
  } catch (std::exception const& e) {
    return std::string("wrong type of exception: ") + e.what();
  }
}
/// Whether that names the call which was refused.
bool names(std::string const& text, std::string const& call) {
  if (text == "bad_alloc") return call == "posix_fallocate";
  return text.find("polyproc: ") == 0 && text.find(call == "pthread_create" ? "thread" : call) != std::string::npos;
}

/// Of what is done very often, one in eight will do.
long skipped(int& before) {
  int const now = counted->last;
  bool const often = now == at_adddup2 || now == at_pipe || now == at_memfd_create || now == at_posix_fallocate;
  bool const again = std::exchange(before, now) == now && often;
  return again ? 7 : 0;
}

process_options rich(start_method method) {
  process_options o;
  o.start = method;
  o.output = polyproc::child_stream::null();
  o.error = polyproc::child_stream::as_output();
  o.environment = {{"REFUSALS_OTHER", "value"}};
  o.daemon = true;
  return o;
}
process large(process_options o, std::string const& text) {
  if (o.start == start_method::fork) return process{o, polyproc::start::fork, swallow, text, static_cast<long>(text.size())};
  return process{o, swallow, text, static_cast<long>(text.size())};
}

std::string hit_list() {
  std::string all;
  for (int i = 0; i < points; ++i) {
    auto const n = counted->refused[i].load();
    if (n != 0) all += std::string(" ") + point_names[i] + ":" + std::to_string(n);
  }
  return all;
}

/// The steps of one method with one error, in one directory; how many.
long refuse_each(start_method method, int error, bool lasting) {
  std::string const text(200000, 'x');
  // As it is after a start by this method; and one more, because the fork server makes its reserve after the first.
  for (int i = 0; i < 2; ++i) {
    process p = large(rich(method), text);
    p.start();
    p.join();
    REQUIRE(p.exit_code() == 0);
  }
  auto before = look::take();
  for (int i = 0; i < 50; ++i) {
    std::this_thread::sleep_for(1ms);
    before = look::take();
  }
  int before_that = -1;
  long tried = 0;
  for (long n = 1;; n += 1 + skipped(before_that)) {
    std::optional<std::string> refused;
    long how_often = 0;
    std::string call;
    auto const begin = std::chrono::steady_clock::now();
    {
      process p = large(rich(method), text);
      {
        refusal here(n, error, lasting);
        refused = said([&] { p.start(); });
        here.disarm();
        how_often = here.refused();
        call = here.name();
      }
      INFO(name_of(method) << " " << error_name(error) << (lasting ? " from call " : " at call ") << n << " (" << call
                           << "): " << refused.value_or("done"));
      if (refused) {
        CHECK(how_often > 0);
        CHECK(names(*refused, call));
        CHECK(error != EINTR);
        CHECK_FALSE(p.pid().has_value());
        p.start();
      }
      REQUIRE(p.join_for(20s));
      CHECK(p.exit_code() == 0);
    }
    {
      process p = large(rich(method), text);  // with a fork server in its usual state
      p.start();
      REQUIRE(p.join_for(20s));
      CHECK(p.exit_code() == 0);
    }
    auto const after = settled(before);
    INFO(name_of(method) << " " << error_name(error) << (lasting ? " from call " : " at call ") << n << " (" << call
                         << "): " << refused.value_or("done"));
    INFO("before: " << before.text());
    INFO("after: " << after.text());
    CHECK(after == before);
    CHECK(std::chrono::steady_clock::now() - begin < 20s);
    if (how_often == 0) break;
    ++tried;
  }
  return tried;
}

}  // namespace

TEST_CASE_METHOD(tidy, "whatever the system refuses when a process is started is told by name and leaves nothing behind") {
  char here[4096];
  REQUIRE(::getcwd(here, sizeof here) != nullptr);
  for (auto const method : start_methods()) {
    for (int const error : {EAGAIN, ENOMEM, EMFILE, EINTR}) {
      auto const once = refuse_each(method, error, false);
      // Another directory than the fork server has, unless it was started since.
      if (method == start_method::forkserver && (error == EMFILE || error == EINTR)) {
        REQUIRE(::chdir("/") == 0);
        (void)refuse_each(method, error, false);
        REQUIRE(::chdir(here) == 0);
      }
      auto const always = error == EINTR ? 0 : refuse_each(method, error, true);
      std::printf("%s, %s: %ld calls refused once, %ld from then on\n", name_of(method), error_name(error), once, always);
      CHECK((once > 0 || error == EINTR));
    }
  }
  REQUIRE(::chdir(here) == 0);
  std::printf("refused:%s\n", hit_list().c_str());
  std::vector<point> must_be{at_fork, at_socketpair, at_open, at_dupfd, at_mmap, at_ftruncate, at_poll, at_sendmsg,
                             at_recvmsg, at_waitid};
  for (auto const more : is_linux ? std::vector{at_clone, at_execveat, at_execve, at_memfd_create, at_pidfd_open}
                                  : std::vector{at_posix_spawn, at_adddup2, at_actions_init, at_pipe, at_shm_open})
    must_be.push_back(more);
  for (auto const must : must_be) {
    INFO(point_names[must]);
    CHECK(counted->refused[must] > 0);
  }
}

namespace {

/// A started child, something that is done with it, and what must be true whatever was refused.
template <class Do, class After>
long refuse_watching(start_method method, int error, bool lasting, Do&& what, After&& after) {
  long n = 1;
  for (;; ++n) {
    shared_notes notes;
    process p{process_options{.start = method == start_method::fork ? start_method::automatic : method}, wait_for, notes};
    if (method == start_method::fork) p = process{polyproc::start::fork, wait_for, notes};
    p.start();
    long how_often = 0;
    std::string call;
    std::optional<std::string> refused;
    {
      refusal here(n, error, lasting);
      refused = said([&] { what(p, notes); });
      here.disarm();
      how_often = here.refused();
      call = here.name();
    }
    INFO(name_of(method) << " " << error_name(error) << (lasting ? " from call " : " at call ") << n << " (" << call
                         << "): " << refused.value_or("done"));
    if (refused) {
      CHECK(names(*refused, call));
      CHECK(error != EINTR);
    }
    after(p, notes, refused.has_value());
    CHECK(p.status().has_value());
    if (how_often == 0) break;
  }
  return n - 1;
}

}  // namespace

TEST_CASE_METHOD(tidy, "whatever the system refuses when a process is watched is told by name, and not for ever") {
  auto used = polyproc::detail::arena<backend>::used_bytes();
  long all = 0;
  for (auto const method : start_methods()) {
    for (int const error : {EAGAIN, ENOMEM, EINTR}) {
      for (bool const lasting : {false, true}) {
        if (lasting && error == EINTR) continue;
        auto const ends_well = [](process& p, shared_notes& n, bool) {
          n->a = 1;
          REQUIRE(p.join_for(20s));
          CHECK(p.exit_code() == 0);
        };
        all += refuse_watching(method, error, lasting, [](process& p, shared_notes& n) { n->a = 1, p.join(); }, ends_well);
        all += refuse_watching(
            method, error, lasting, [](process& p, shared_notes&) { (void)p.join_for(3ms), (void)p.is_alive(); }, ends_well);
        all += refuse_watching(
            method, error, lasting,
            [](process& p, shared_notes&) { (void)backend::wait_any(std::vector{p.sentinel()}, backend::now() + 1ms); },
            ends_well);
        // Who is killed lets go of nothing.
        auto const before = polyproc::detail::arena<backend>::used_bytes();
        all += refuse_watching(
            method, error, lasting, [](process& p, shared_notes&) { p.kill(); },
            [](process& p, shared_notes&, bool refused) {
              if (refused) p.kill();
              REQUIRE(p.join_for(20s));
              CHECK(p.exit_code() == -SIGKILL);
            });
        used += polyproc::detail::arena<backend>::used_bytes() - before;
        std::atomic<int> told{0};
        all += refuse_watching(
            method, error, lasting, [&](process& p, shared_notes&) { p.on_exit([&](auto const&) { ++told; }); },
            [&](process& p, shared_notes& n, bool refused) {
              if (refused) p.on_exit([&](auto const&) { ++told; });
              n->a = 1;
              REQUIRE(p.join_for(20s));
              for (int i = 0; i < 4000 && told != 1; ++i) std::this_thread::sleep_for(1ms);
              CHECK(told == 1);
              told = 0;
              // The thread that told it lingers: the next one is to be made anew.
              polyproc::detail::dispatcher<backend>::get().finish();
            });
      }
    }
  }
  std::printf("watching: %ld calls refused; so far refused:%s\n", all, hit_list().c_str());
  CHECK(all > 0);
  for (int i = 0; i < 2000 && polyproc::detail::arena<backend>::used_bytes() != used; ++i) std::this_thread::sleep_for(1ms);
  CHECK(polyproc::detail::arena<backend>::used_bytes() == used);
  CHECK(counted->refused[at_poll] > 0);
  CHECK(counted->refused[at_pthread_create] > 0);
}

TEST_CASE_METHOD(tidy, "a thread that cannot read when it was started is alive for others until it ends") {
  if (!is_linux) return;  // elsewhere there is nothing to be read
  for (int const error : {EAGAIN, ENOMEM, EMFILE}) {
    std::uint64_t id = 0;
    std::uint64_t known = 0;
    std::atomic<int> stage{0};
    std::thread t([&] {
      {
        refusal here(1, error, true);
        id = backend::self();
        here.disarm();
        CHECK(here.refused() > 0);
      }
      known = backend::self();
      stage = 1;
      while (stage != 2) std::this_thread::sleep_for(1ms);
    });
    while (stage != 1) std::this_thread::sleep_for(1ms);
    auto const alive_elsewhere = [](std::uint64_t asked) {
      process p{polyproc::start::fork, [asked] { polyproc::this_process::exit(backend::alive(asked) ? 1 : 0); }};
      p.start();
      p.join();
      return p.exit_code();
    };
    CHECK(id == known);
    CHECK(backend::alive(id));
    CHECK(alive_elsewhere(id) == 1);
    std::this_thread::sleep_for(20ms);
    std::thread second([&] { CHECK(backend::self() != id); });
    second.join();
    stage = 2;
    t.join();
    for (int i = 0; i < 2000 && backend::alive(id); ++i) std::this_thread::sleep_for(1ms);
    CHECK_FALSE(backend::alive(id));
    CHECK(alive_elsewhere(id) == 0);
    // The same for a process as such.
    process p{polyproc::start::fork, [error] {
                std::uint64_t mine = 0;
                {
                  refusal here(1, error, true);
                  mine = backend::process_self();
                }
                bool const right = mine == backend::process_self() && backend::alive(mine);
                auto there = backend::open_process(::getpid(), mine);
                bool const found = there.has_value();
                if (there) backend::release(*there);
                polyproc::this_process::exit(right && found ? 0 : 1);
              }};
    p.start();
    p.join();
    CHECK(p.exit_code() == 0);
  }
}

// --- what happens once in a process

namespace {

/// The first start of a process, in a copy of this program that has done nothing yet. 0: as it should be, 1: nothing was
/// refused, so that was the last one; else wrong.
int first_start(start_method method, long n, int error, bool lasting, long& descriptors) {
  ::alarm(30);
  char* argv[] = {own_path.data(), nullptr};
  std::string const text(200000, 'x');
  auto const wrong = [&](std::string const& what, std::string const& call) {
    std::fprintf(stderr, "the first %s, %s%s call %ld (%s): %s\n", name_of(method), error_name(error),
                 lasting ? " from" : " at", n, call.c_str(), what.c_str());
    return 3;
  };
  std::optional<std::string> refused;
  std::string call;
  long how_often = 0;
  std::optional<process> p;
  {
    refusal here(n, error, lasting);
    polyproc::init(1, argv);
    p = large(rich(method), text);
    refused = said([&] { p->start(); });
    here.disarm();
    how_often = here.refused();
    call = here.name();
  }
  if (refused) {
    if (how_often == 0 || error == EINTR || !names(*refused, call)) return wrong(*refused, call);
    p->start();
  }
  if (!p->join_for(20s) || p->exit_code() != 0) return wrong("did not end well", call);
  // Identities are right, whatever was refused: this thread is alive for others, and knows itself.
  auto const id = backend::self();
  process other{polyproc::start::fork, [id, own = backend::process_self()] {
                  polyproc::this_process::exit(backend::alive(id) && backend::alive(own) ? 0 : 1);
                }};
  other.start();
  other.join();
  if (other.exit_code() != 0) return wrong("is not known to be alive", call);
  for (int i = 0; i < 2; ++i) {
    process again = large(rich(method), text);
    again.start();
    again.join();
    if (again.exit_code() != 0) return wrong("a later one did not end well", call);
  }
  auto const now = static_cast<long>(inventory::take().descriptors.size());
  if (how_often == 0) descriptors = now;
  // What init could not open (the program's own file) is found by name.
  if (now != descriptors && now != descriptors - 1)
    return wrong(std::to_string(now) + " descriptors instead of " + std::to_string(descriptors), call);
  return how_often == 0 ? 1 : 0;
}

/// Every call of the first start, by every method, is refused. The exit code of the program that does it.
int first_starts() {
  auto* const descriptors = static_cast<long*>(
      mmap_.get()(nullptr, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  int failures = 0;
  for (auto const method : start_methods()) {
    for (int const error : {ENOMEM, EMFILE, EINTR}) {
      if (!is_linux && error == ENOMEM && method != start_method::spawn) continue;  // there is much to be done at the first
      for (bool const lasting : {false, true}) {
        if (lasting && error == EINTR) continue;
        if (lasting && !is_linux && method != start_method::forkserver) continue;
        long tried = 0;
        *descriptors = 0;
        bool measured = false;
        int before = -1;
        for (long n = 1;; ++n) {
          std::fflush(nullptr);
          // The first of all without a refusal, to see what there should be.
          auto const pid = ::fork();
          if (pid == 0) std::exit(first_start(method, measured ? n : 1000000, error, lasting, *descriptors));
          int raw = 0;
          ::waitpid(pid, &raw, 0);
          bool const none = WIFEXITED(raw) && WEXITSTATUS(raw) == 1;
          if (!none && (!WIFEXITED(raw) || WEXITSTATUS(raw) != 0)) {
            ++failures;
            if (!WIFEXITED(raw))
              std::fprintf(stderr, "the first %s, %s call %ld: signal %d\n", name_of(method), error_name(error), n,
                           WTERMSIG(raw));
          }
          if (!measured) {
            measured = true;
            n = 0;
            continue;
          }
          if (none || failures > 20) break;
          ++tried;
          n += skipped(before);
        }
        std::printf("the first %s, %s%s: %ld calls refused\n", name_of(method), error_name(error),
                    lasting ? " from then on" : "", tried);
      }
    }
  }
  std::printf("refused at the first:%s\n", hit_list().c_str());
  std::vector<point> const first_linux{at_memfd_create, at_ftruncate, at_mmap, at_pidfd_open, at_pipe2, at_open};
  std::vector<point> const first_posix{at_pipe, at_shm_open, at_ftruncate, at_mmap, at_posix_fallocate, at_open};
  for (auto const must : is_linux ? first_linux : first_posix) {
    if (counted->refused[must] != 0) continue;
    std::fprintf(stderr, "%s was never refused\n", point_names[must]);
    ++failures;
  }
  std::fflush(nullptr);
  return failures == 0 ? 0 : 4;
}

}  // namespace

TEST_CASE_METHOD(tidy, "whatever the system refuses to a program's first start is told by name, and the next one works") {
  CHECK(run_this_program({"--first-starts"}, {}) == 0);
}

// --- older systems and sandboxes

namespace {

int failed_line = 0;
void must(bool holds, int line) {
  if (holds) return;
  if (failed_line == 0) failed_line = line;
  std::fprintf(stderr, "refusals_test.cpp:%d does not hold\n", line);
}

void wait_by_reference(polyproc::process_ref to, shared_notes n) {
  if (!to.is_alive()) polyproc::this_process::exit(2);
  n->b = 1;
  if (!to.join_for(20s)) polyproc::this_process::exit(3);
}
void kill_by_reference(polyproc::process_ref to) {
  to.kill();
  to.join();
}
void grow(shared_notes n) {
  process below{process_options{.start = start_method::spawn}, sleep_on};
  below.start();
  n->c = *below.pid();
  n->b = 1;
  below.join();
}

/// All that can be done with processes. The exit code of the program that does it.
int whole_life() {
  for (auto const method : start_methods()) {
    auto const make = [&](auto target, auto... arguments) {
      if (method == start_method::fork) return process{polyproc::start::fork, target, arguments...};
      return process{process_options{.start = method}, target, arguments...};
    };
    {
      process p = make(swallow, std::string(5, 'x'), 5L);
      p.start();
      p.join();
      must(p.exit_code() == 0, __LINE__);
    }
    {
      process p = make(swallow, std::string(5, 'x'), 6L);
      p.start();
      must(p.join_for(20s), __LINE__);
      must(p.exit_code() == 9, __LINE__);
      must(p.status().has_value(), __LINE__);
    }
    {
      shared_notes n;
      process p = make(wait_for, n);
      p.start();
      must(!p.join_for(20ms), __LINE__);
      must(p.is_alive(), __LINE__);
      must(!p.status().has_value(), __LINE__);
      process other = make(wait_by_reference, p.ref(), n);
      other.start();
      until(n->b, 1);
      n->a = 1;
      must(p.join_for(20s), __LINE__);
      must(other.join_for(20s), __LINE__);
      must(p.exit_code() == 0, __LINE__);
      must(other.exit_code() == 0, __LINE__);
    }
    {
      process p = make(sleep_on);
      p.start();
      std::atomic<int> told{0};
      p.on_exit([&](polyproc::exit_status const& how) { told = how.signal; });
      p.kill();
      auto const begin = std::chrono::steady_clock::now();
      must(p.join_for(20s), __LINE__);
      must(std::chrono::steady_clock::now() - begin < 5s, __LINE__);
      must(p.exit_code() == -SIGKILL, __LINE__);
      for (int i = 0; i < 4000 && told == 0; ++i) std::this_thread::sleep_for(1ms);
      must(told == SIGKILL, __LINE__);
      p.kill();  // nothing
    }
    {
      process p = make(sleep_on);
      p.start();
      std::thread killer([to = p.ref(), &make] {
        process other = make(kill_by_reference, to);
        other.start();
        std::this_thread::sleep_for(20ms);
        other.join();
      });
      must(p.join_for(20s), __LINE__);
      must(p.exit_code() == -SIGKILL, __LINE__);
      killer.join();
    }
    {
      shared_notes n;
      process p = make(grow, n);
      p.start();
      until(n->b, 1);
      p.kill_tree();
      must(p.join_for(20s), __LINE__);
      auto const below = static_cast<pid_t>(n->c.load());
      for (int i = 0; i < 4000; ++i) {
        auto const row = backend::process_alone(below);
        if (!row || row->state == polyproc::process_state::ended) break;
        must(i + 1 < 4000, __LINE__);
        std::this_thread::sleep_for(1ms);
      }
    }
    {
      process p = make(sleep_on);
      p.start();
      must(p.ask(polyproc::child_request::stop), __LINE__);
      must(p.ask(polyproc::child_request::resume), __LINE__);
      p.terminate();
      must(p.join_for(20s), __LINE__);
      must(p.exit_code() == -SIGTERM, __LINE__);
      must(!p.ask(polyproc::child_request::stop), __LINE__);
    }
    {
      // A daemon ends with its parent.
      shared_notes n;
      process p = make(+[](shared_notes notes) {
        process below{process_options{.daemon = true, .start = start_method::spawn}, sleep_on};
        below.start();
        notes->c = *below.pid();
        ::kill(::getpid(), SIGKILL);
      }, n);
      p.start();
      must(p.join_for(20s), __LINE__);
      auto const below = static_cast<pid_t>(n->c.load());
      for (int i = 0; i < 4000 && ::kill(below, 0) == 0; ++i) {
        auto const row = backend::process_alone(below);
        if (!row || row->state == polyproc::process_state::ended) break;
        must(i + 1 < 4000, __LINE__);
        std::this_thread::sleep_for(1ms);
      }
    }
  }
  return failed_line == 0 ? 0 : 5;
}

/// The same, and no fork server is there afterwards.
int life_without_server() {
  int const code = whole_life();
  for (int i = 0; i < 200 && inventory::take().children != 0; ++i) {
    (void)polyproc::active_children();
    std::this_thread::sleep_for(1ms);
  }
  must(inventory::take().children == 0, __LINE__);
  return failed_line == 0 ? code : 6;
}

}  // namespace

TEST_CASE_METHOD(tidy, "an old kernel: no pidfds, no close_range, no execveat") {
  if (!is_linux) return;
  CHECK(run_this_program({"--whole-life", "refused"}, {"REFUSALS_MISSING=" + std::to_string(old_kernel)}) == 0);
}

TEST_CASE_METHOD(tidy, "a system that makes no children for a parent, or hides the number of a thread: no fork server") {
  if (!is_linux) return;
  unsigned const all = old_kernel | no_clone_parent | no_thread_number;
  for (unsigned const what : {unsigned{no_clone_parent}, unsigned{no_thread_number}, all}) {
    INFO(what);
    CHECK(run_this_program({"--no-server"}, {"REFUSALS_MISSING=" + std::to_string(what)}) == 0);
  }
}

#else

TEST_CASE("calls are not refused here: they cannot be replaced in this kind of program") {
  std::printf("skipped: the calls of the C library cannot be replaced on this system, or beside a sanitizer\n");
}

#endif

// --- an image that is broken

TEST_CASE_METHOD(tidy, "a child that dies at its very beginning keeps neither its start nor its join [H52]") {
  for (auto const how : {"abort", "exit"}) {
    for (auto const method : {start_method::spawn, start_method::forkserver}) {
      INFO(how << " " << name_of(method));
      // In a process of its own, which has no fork server yet and is not to have one later.
      process apart{polyproc::start::fork, [&] {
                      ::setenv("REFUSALS_DIE", how, 1);
                      for (std::size_t const size : {std::size_t{10}, std::size_t{5} << 20}) {
                        for (int i = 0; i < 3; ++i) {
                          std::string const text(size, 'x');
                          process p{process_options{.start = method}, swallow, text, static_cast<long>(size)};
                          p.start();
                          if (!p.join_for(20s)) polyproc::this_process::exit(1);
                          auto const wanted = how[0] == 'a' ? -SIGABRT : 77;
                          if (p.exit_code() != wanted) polyproc::this_process::exit(2);
                        }
                      }
                      ::unsetenv("REFUSALS_DIE");
                      std::string const text(5, 'x');
                      process p{process_options{.start = method}, swallow, text, 5L};
                      p.start();
                      if (!p.join_for(20s) || p.exit_code() != 0) polyproc::this_process::exit(3);
                    }};
      auto const begin = std::chrono::steady_clock::now();
      apart.start();
      REQUIRE(apart.join_for(60s));
      CHECK(apart.exit_code() == 0);
      CHECK(std::chrono::steady_clock::now() - begin < 10s);
    }
  }
}

// --- limits

namespace {

class limit {
 public:
  limit(int what, rlim_t to) : what_(what) {
    REQUIRE(getrlimit(resource(), &before_) == 0);
    rlimit lower = before_;
    lower.rlim_cur = to;
    REQUIRE(setrlimit(resource(), &lower) == 0);
  }
  limit(limit const&) = delete;
  limit& operator=(limit const&) = delete;
  ~limit() { setrlimit(resource(), &before_); }

 private:
  decltype(RLIMIT_NOFILE) resource() const { return static_cast<decltype(RLIMIT_NOFILE)>(what_); }
  int what_;
  rlimit before_{};
};

}  // namespace

TEST_CASE_METHOD(tidy, "with few descriptors left a start is refused by name, or works; with more it works") {
  for (auto const method : start_methods()) {
    auto const make = [&](long size) {
      std::string const text(100, 'x');
      process_options o{.start = method, .output = polyproc::child_stream::null(), .environment = {{"A", "b"}}};
      if (method == start_method::fork) return process{o, polyproc::start::fork, swallow, text, size};
      return process{o, swallow, text, size};
    };
    for (int i = 0; i < 2; ++i) {
      process p = make(100);
      p.start();
      p.join();
      REQUIRE(p.exit_code() == 0);
    }
    int refused = 0;
    int more = 0;
    for (int in_a_row = 0; in_a_row < 3 && more < 40; ++more) {
      INFO(name_of(method) << " with " << more << " descriptors");
      process p = make(100);
      std::string said = "nothing";
      auto const begin = std::chrono::steady_clock::now();
      {
        int const first = ::fcntl(0, F_DUPFD_CLOEXEC, 3);
        REQUIRE(first >= 0);
        ::close(first);
        limit const few(static_cast<int>(RLIMIT_NOFILE), static_cast<rlim_t>(first + more));
        try {
          p.start();
        } catch (std::system_error const& e) {
          said = e.what();
        }
      }
      CHECK(std::chrono::steady_clock::now() - begin < 20s);
      if (said != "nothing") {
        ++refused;
        in_a_row = 0;
        CHECK(said.find("polyproc: ") == 0);
        CHECK_FALSE(p.pid().has_value());
        p.start();
      } else {
        ++in_a_row;
      }
      REQUIRE(p.join_for(20s));
      CHECK(p.exit_code() == 0);
    }
    std::printf("%s: refused with %d of %d numbers of descriptors left\n", name_of(method), refused, more);
    CHECK(refused > 0);
    CHECK(more < 40);
  }
}

TEST_CASE_METHOD(tidy, "with a low limit of descriptors a fresh image still inherits nothing that it should not") {
  int const open_to_all = ::fcntl(0, F_DUPFD, 3);
  REQUIRE(open_to_all >= 0);
  {
    limit const low(static_cast<int>(RLIMIT_NOFILE), 120);
    process p{process_options{.start = start_method::spawn},
              [](int fd) { polyproc::this_process::exit(::fcntl(fd, F_GETFD) >= 0 ? 1 : 0); }, open_to_all};
    p.start();
    p.join();
    // Another file may have that number there.
    process q{process_options{.start = start_method::spawn}, [](int fd) {
                struct stat mine {};
                struct stat null {};
                bool const known = ::fstat(fd, &mine) == 0 && ::stat("/dev/null", &null) == 0;
                polyproc::this_process::exit(known && mine.st_rdev == null.st_rdev ? 1 : 0);
              }, open_to_all};
    q.start();
    q.join();
    CHECK((p.exit_code() == 0 || q.exit_code() == 0));
  }
  ::close(open_to_all);
}

TEST_CASE_METHOD(tidy, "with no more processes allowed a start is refused by name") {
  if (::getuid() == 0) {
    std::printf("skipped: this limit does not count for root\n");
    return;
  }
  for (auto const method : start_methods()) {
    INFO(name_of(method));
    process p = method == start_method::fork ? process{polyproc::start::fork, nothing_at_all}
                                             : process{process_options{.start = method}, nothing_at_all};
    std::string said = "nothing";
    {
      limit const none(static_cast<int>(RLIMIT_NPROC), 1);
      try {
        p.start();
      } catch (std::system_error const& e) {
        said = e.what();
      }
    }
    // The fork server has one in reserve.
    if (method != start_method::forkserver) CHECK(said != "nothing");
    if (said != "nothing") {
      CHECK(said.find("polyproc: ") == 0);
      p.start();
    }
    p.join();
    CHECK(p.exit_code() == 0);
  }
}

int run_catch(int argc, char** argv);

int main(int argc, char** argv) {
  own_path = std::filesystem::absolute(argv[0]).string();
#if defined(REFUSALS_INTERPOSED)
  if (argc > 1 && std::strcmp(argv[1], "--first-starts") == 0) return first_starts();
#endif
  polyproc::init(argc, argv);
#if defined(REFUSALS_INTERPOSED)
  if (argc > 1 && std::strcmp(argv[1], "--whole-life") == 0) {
    int const code = whole_life();
    if (argc > 2 && counted->old_kernel == 0) return 7;  // nothing was missing
    return code;
  }
  if (argc > 1 && std::strcmp(argv[1], "--no-server") == 0) return life_without_server();
#endif
  return run_catch(argc, argv);
}

#else

int run_catch(int argc, char** argv);

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  return run_catch(argc, argv);
}

#endif
