/// Crash points: an operation is done by a child that is killed after its Nth instruction inside it, for every N. After
/// each kill a survivor finishes its own work under a deadline, and the books must balance.
///
/// One child records the way through the operation, instruction by instruction (ptrace). Then there is a fresh state
/// and a fresh child for every point: it runs at full speed to the last place before the point to which the way came
/// for the first time there (a breakpoint), is stepped the rest, and gets SIGKILL, or is left standing there
/// (while_stopped). So a point costs a fork and a few steps, not the whole way. Should a child go astray, because its
/// way depends on time or chance, it is killed wherever it got: that is a crash point as good as another, and counted.
///
/// A system call is one instruction: nothing is killed in the middle of one. Of `rep movs` and its like the first,
/// last, middle and a few random iterations are tried. When the time does not suffice (POLYPROC_CRASH_SECONDS, 40, of
/// which each sweep may use a 20th) the points are taken in an order that spreads any beginning of it evenly;
/// POLYPROC_CRASH_SEED repeats one.
#pragma once

#include "support/tidy.hpp"

#include <cstdio>

/// Why there are no crash points here, or nothing.
#if defined(POLYPROC_TEST_ADDRESS_SANITIZER) || defined(POLYPROC_TEST_THREAD_SANITIZER)
#define POLYPROC_NO_CRASH_POINTS "sanitizers' own locks do not survive a kill"
#endif
#if !defined(POLYPROC_NO_CRASH_POINTS)
#if !defined(__linux__) || defined(POLYPROC_BACKEND_POSIX)
#define POLYPROC_NO_CRASH_POINTS "they are for the Linux backend"
#elif !defined(__x86_64__) && !defined(__aarch64__)
#define POLYPROC_NO_CRASH_POINTS "they are for x86-64 and aarch64"
#endif
#endif

inline void crash_points_skipped(char const* why) {
  std::printf("SKIPPED: crash points: %s\n", why);
  WARN("SKIPPED: crash points: " << why);
}

#if !defined(POLYPROC_NO_CRASH_POINTS)

#include <csignal>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <unordered_set>
#include <vector>

#include <elf.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/// What a survivor may need at most: ten times what is promised under load.
inline constexpr std::chrono::seconds crash_limit{2};

/// Handed to a survivor, who writes down there what it found.
class crash_point {
 public:
  void expect(bool good, std::string const& what) {
    if (!good) wrong_.push_back(what);
  }
  /// Counted in the printed line: "41 left the lock to be repaired".
  void note(std::string const& what) { notes_.insert(what); }

  [[nodiscard]] std::vector<std::string> const& wrong() const noexcept { return wrong_; }
  [[nodiscard]] std::set<std::string> const& notes() const noexcept { return notes_; }

 private:
  std::vector<std::string> wrong_;
  std::set<std::string> notes_;
};

/// What to do. State is whatever holds the handles to the shared objects; all but `name`, `setup`, `operation` and
/// `survive` may be left out.
template <class State>
struct crash_case {
  std::string name;
  std::function<State()> setup;                                    ///< Anew for each point.
  std::function<void(State&)> prepare = {};                        ///< In the child, before the first instruction.
  std::function<void(State&)> begun = {};                          ///< Here, while the child stands before the first.
  std::function<void(State&)> operation;                           ///< In the child, who is killed somewhere in it.
  std::function<void(State&, crash_point&)> while_stopped = {};    ///< Here, while the child stands at the point.
  std::function<void(State&, crash_point&)> survive;               ///< Here, after the child was killed.
  bool whole = false;   ///< Every point, however long it takes.
  bool zombie = false;  ///< The dead child is not waited for before the survivor is through.
};

struct crash_report {
  std::string name;
  bool skipped = false;
  std::string trouble;  // why the sweep could not be done
  std::size_t instructions = 0;
  std::size_t points = 0;
  std::size_t tried = 0;
  std::size_t astray = 0;
  std::map<std::string, std::size_t> notes;
  std::vector<std::string> bad;

  /// For operations that must survive everything.
  void check() const {
    if (skipped) return;
    INFO("crash points: " << name);
    CHECK(trouble == "");
    CHECK(tried > 0);
    CHECK(astray <= tried / 2);
    for (std::size_t i = 0; i < bad.size() && i < 5; ++i) FAIL_CHECK(bad[i]);
    CHECK(bad.size() == 0);
  }
};

/// A thread of this process that is asleep inside of wait() when the constructor comes back. wait() must end by itself
/// some time, longer than crash_limit.
class crash_sleeper {
 public:
  template <class Wait>
  explicit crash_sleeper(Wait wait)
      : thread_([this, wait] {
          number_ = ::syscall(SYS_gettid);
          wait();
          ended_ = true;
        }) {
    for (int i = 0; i < 20000 && !asleep(); ++i) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  crash_sleeper(crash_sleeper const&) = delete;
  crash_sleeper& operator=(crash_sleeper const&) = delete;
  ~crash_sleeper() { thread_.join(); }

  [[nodiscard]] bool ended() const noexcept { return ended_; }
  /// Whether it has ended by itself within crash_limit from now.
  [[nodiscard]] bool ends() const {
    for (auto const end = std::chrono::steady_clock::now() + crash_limit; !ended_;) {
      if (std::chrono::steady_clock::now() >= end) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return true;
  }

 private:
  [[nodiscard]] bool asleep() const {
    if (number_ == 0) return false;
    std::ifstream file("/proc/self/task/" + std::to_string(number_) + "/stat");
    std::string const text{std::istreambuf_iterator<char>(file), {}};
    auto const name_end = text.rfind(')');
    return ended_ || (name_end != std::string::npos && text.substr(name_end, 3) == ") S");
  }

  std::atomic<long> number_{0};
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

namespace crash {

using registers = user_regs_struct;

#if defined(__x86_64__)
inline void mark() noexcept { asm volatile("int3" ::: "memory"); }
inline auto& program_counter(registers& r) noexcept { return r.rip; }
inline constexpr std::uint64_t breakpoint = 0xcc;
inline constexpr std::uint64_t breakpoint_mask = 0xff;
inline constexpr std::uint64_t past_breakpoint = 1;  // how far behind it the program counter stands when it has hit
inline constexpr std::uint64_t past_mark = 0;        // how far to go on by hand
#else
inline void mark() noexcept { asm volatile("brk #0" ::: "memory"); }
inline auto& program_counter(registers& r) noexcept { return r.pc; }
inline constexpr std::uint64_t breakpoint = 0xd4200000;
inline constexpr std::uint64_t breakpoint_mask = 0xffffffff;
inline constexpr std::uint64_t past_breakpoint = 0;
inline constexpr std::uint64_t past_mark = 4;
#endif

/// What the child tells us, in memory of both.
struct board {
  std::atomic<bool> ended{false};  // the operation is through
  std::atomic<bool> threw{false};
};

/// A child of which we decide how far it gets.
class child {
 public:
  /// Comes back when the child stands behind a mark() in body, or has ended; see standing().
  template <class Body>
  explicit child(Body&& body) {
    pid_ = ::fork();
    if (pid_ == 0) {
      try {
        if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0) body();
      } catch (...) {
        ::_exit(1);
      }
      ::_exit(0);
    }
    if (pid_ < 0 || !wait()) return;
    ::ptrace(PTRACE_SETOPTIONS, pid_, nullptr, static_cast<unsigned long>(PTRACE_O_EXITKILL));
    if (past_mark != 0) go_on_at(look() + past_mark);
  }
  child(child const&) = delete;
  child& operator=(child const&) = delete;
  ~child() { kill(false); }

  [[nodiscard]] bool standing() const noexcept { return pid_ > 0 && standing_; }
  /// Why not.
  [[nodiscard]] std::string why() const {
    if (pid_ < 0) return "no child could be started";
    return "the child ended or got a signal, wait status " + std::to_string(raw_);
  }

  /// Where it stands: the address of its next instruction.
  std::uint64_t look() {
    iovec all{&seen_, sizeof seen_};
    ::ptrace(PTRACE_GETREGSET, pid_, static_cast<unsigned long>(NT_PRSTATUS), &all);
    return program_counter(seen_);
  }

  /// One instruction; one with a repeat prefix until it is through, and `repeats` is how often that was.
  bool advance(std::uint64_t& repeats) {
    auto const from = look();
    if (::ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) != 0 || !wait()) return false;
    if (look() != from) return true;
#if defined(__x86_64__)
    if (auto const length = repeat_length(from); length != 0) {
      repeats = seen_.rcx + 1;
      return run_to(from + length) == there;
    }
#else
    (void)repeats;
#endif
    return true;
  }

  enum arrival { there, elsewhere, no_breakpoint };
  /// At full speed to the next time it is there. It may stand there already.
  arrival run_to(std::uint64_t address) {
    errno = 0;
    auto const text = ::ptrace(PTRACE_PEEKTEXT, pid_, address, nullptr);
    auto const with = (static_cast<std::uint64_t>(text) & ~breakpoint_mask) | breakpoint;
    if (errno != 0 || ::ptrace(PTRACE_POKETEXT, pid_, address, with) != 0) return no_breakpoint;
    bool const trapped = ::ptrace(PTRACE_CONT, pid_, nullptr, nullptr) == 0 && wait();
    if (standing_) ::ptrace(PTRACE_POKETEXT, pid_, address, text);
    if (!trapped || look() != address + past_breakpoint) return elsewhere;
    go_on_at(address);
    return there;
  }

  /// From before an instruction with a repeat prefix to the middle of it.
  void enter_repeats([[maybe_unused]] std::uint64_t count) {
#if defined(__x86_64__)
    auto const at = look();
    auto const all = seen_.rcx;
    auto const length = repeat_length(at);
    if (length == 0 || all <= count) return;
    seen_.rcx = count;
    go_on_at(at);
    if (run_to(at + length) != there) return;
    look();
    seen_.rcx = all - count;
    go_on_at(at);
#endif
  }

  /// SIGKILL; when this returns the child is gone altogether, or a zombie if so asked.
  void kill(bool zombie) {
    if (pid_ <= 0) return;
    standing_ = false;
    ::kill(pid_, SIGKILL);
    if (zombie) {
      siginfo_t info;
      while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) < 0 && errno == EINTR) {}
      return;
    }
    do wait();
    while (standing_);
  }

 private:
  bool wait() {
    pid_t got = 0;
    do got = ::waitpid(pid_, &raw_, __WALL);
    while (got < 0 && errno == EINTR);
    standing_ = got == pid_ && WIFSTOPPED(raw_);
    if (!standing_) pid_ = 0;
    return standing_ && WSTOPSIG(raw_) == SIGTRAP;
  }

  void go_on_at(std::uint64_t address) {
    program_counter(seen_) = address;
    iovec all{&seen_, sizeof seen_};
    ::ptrace(PTRACE_SETREGSET, pid_, static_cast<unsigned long>(NT_PRSTATUS), &all);
  }

#if defined(__x86_64__)
  /// Of `rep movs` and `rep stos` of any width; otherwise 0.
  [[nodiscard]] std::uint64_t repeat_length(std::uint64_t address) const {
    auto const text = static_cast<std::uint64_t>(::ptrace(PTRACE_PEEKTEXT, pid_, address, nullptr));
    auto const is_string = [](std::uint64_t code) { return (code & 0xfe) == 0xa4 || (code & 0xfe) == 0xaa; };
    if ((text & 0xff) != 0xf3) return 0;
    if (is_string(text >> 8 & 0xff)) return 2;
    return (text >> 8 & 0xf0) == 0x40 && is_string(text >> 16 & 0xff) ? 3 : 0;
  }
#endif

  pid_t pid_ = -1;
  int raw_ = 0;
  bool standing_ = false;
  registers seen_{};
};

/// The way through an operation.
struct way {
  struct place {
    std::uint64_t address;
    std::uint64_t repeats;
    std::size_t last_new;  // the last place up to here with an address that was not on the way before
  };
  struct point {
    std::size_t place;
    std::uint64_t repeats;  // that are done
  };
  std::vector<place> places;
  std::string trouble;

  static constexpr std::size_t most_places = 5'000'000;

  static way record(child& c, board const& told) {
    way made;
    std::unordered_set<std::uint64_t> known;
    while (!told.ended && made.places.size() < most_places) {
      auto const address = c.look();
      auto const last_new = known.insert(address).second ? made.places.size() : made.places.back().last_new;
      made.places.push_back({address, 0, last_new});
      if (!c.advance(made.places.back().repeats)) break;
    }
    if (!c.standing())
      made.trouble = c.why();
    else if (told.threw)
      made.trouble = "the operation threw";
    else if (!told.ended)
      made.trouble = "the operation does not come to its end";
    return made;
  }

  [[nodiscard]] std::vector<point> points(std::mt19937& random) const {
    std::vector<point> all;
    for (std::size_t i = 0; i < places.size(); ++i) {
      all.push_back({i, 0});
      auto const many = places[i].repeats;
      std::set<std::uint64_t> some{1, many / 2, many - 1};
      for (int more = 0; more < 5 && many > 1; ++more) some.insert(random() % many);
      for (auto const n : some)
        if (n > 0 && n < many) all.push_back({i, n});
    }
    return all;
  }

  /// Whether it got there.
  [[nodiscard]] bool bring(child& c, board const& told, point to) const {
    auto at = places[to.place].last_new;
    for (; at != 0; at = places[at - 1].last_new) {
      auto const arrival = c.run_to(places[at].address);
      if (arrival == child::elsewhere) return false;
      if (arrival == child::there) break;
    }
    std::uint64_t repeats = 0;
    for (; at < to.place && !told.ended; ++at)
      if (!c.advance(repeats)) return false;
    if (told.ended || c.look() != places[to.place].address) return false;
    if (to.repeats != 0) c.enter_repeats(to.repeats);
    return true;
  }
};

/// Aborts the program, and says where, when one point takes longer than anything here may.
class watchdog {
 public:
  watchdog() {
    struct sigaction action {};
    action.sa_handler = [](int) {
      [[maybe_unused]] auto const ignored = ::write(2, text_, ::strlen(text_));
      std::abort();
    };
    ::sigaction(SIGALRM, &action, &before_);
  }
  watchdog(watchdog const&) = delete;
  watchdog& operator=(watchdog const&) = delete;
  ~watchdog() {
    ::alarm(0);
    ::sigaction(SIGALRM, &before_, nullptr);
  }
  static void at(std::string const& name, std::size_t place, char const* doing) {
    ::alarm(0);
    std::snprintf(text_, sizeof text_, "crash points: %s: hangs at instruction %zu, %s\n", name.c_str(), place, doing);
    ::alarm(patience);
  }

 private:
  static constexpr unsigned patience = 40;  // seconds
  static inline char text_[256];
  struct sigaction before_ {};
};

/// This thread and its children on one processor: stepping is twice as fast then.
class one_processor {
 public:
  one_processor() {
    ::sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(std::max(0, ::sched_getcpu())), &one);
    ::sched_setaffinity(0, sizeof one, &one);
  }
  one_processor(one_processor const&) = delete;
  one_processor& operator=(one_processor const&) = delete;
  ~one_processor() { ::sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_{};
};

inline unsigned setting(char const* name, unsigned otherwise) {
  char const* const text = std::getenv(name);
  return text == nullptr ? otherwise : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

/// Why children cannot be traced here, or null.
inline char const* hindrance() {
#if defined(__aarch64__)
  // Stepping clears the exclusive monitor, so that a load-exclusive loop never ends.
  if ((::getauxval(AT_HWCAP) & HWCAP_ATOMICS) == 0) return "this processor has no atomic instructions to step";
#endif
  static bool const works = [] {
    child c([] { mark(); });
    std::uint64_t repeats = 0;
    return c.standing() && c.advance(repeats) && c.run_to(c.look()) == child::there;
  }();
  return works ? nullptr : "ptrace is not permitted here";
}

}  // namespace crash

/// Tries the points of an operation, prints a line about it, and says what was found.
template <class State>
crash_report crash_points(crash_case<State> const& what) {
  using namespace crash;
  using arena = polyproc::detail::arena<polyproc::native_backend>;
  using clock = std::chrono::steady_clock;
  using seconds = std::chrono::duration<double>;
  using milliseconds = std::chrono::duration<double, std::milli>;
  crash_report report;
  report.name = what.name;
  if (auto const* const why = hindrance(); why != nullptr) {
    crash_points_skipped(why);
    report.skipped = true;
    return report;
  }
  auto const began = clock::now();
  auto const budget = std::chrono::seconds(setting("POLYPROC_CRASH_SECONDS", 40)) / 20;
  auto const seed = setting("POLYPROC_CRASH_SEED", std::random_device{}());
  std::mt19937 random{seed};

  void* const page = ::mmap(nullptr, sizeof(board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(page != MAP_FAILED);
  auto* const told = ::new (page) board;
  one_processor const pinned;
  watchdog const dog;
  arena::sound();  // whoever is the first to ask maps the books

  // Somebody does the operation on a spare state first, so that what happens once in a process is not on the way.
  struct scene {
    explicit scene(crash_case<State> const& how, board& told_there) : state(how.setup()), spare(how.setup()) {
      told_there.ended = told_there.threw = false;
      actor = std::make_unique<child>([&] {
#if defined(__GLIBC__)
        ::mallopt(M_MMAP_THRESHOLD, 4096);  // the way through malloc does not depend on what the heap looks like
#endif
        auto const& prepare = how.prepare ? how.prepare : [](State&) {};
        prepare(*spare);
        how.operation(*spare);
        prepare(state);
        mark();
        try {
          how.operation(state);
        } catch (...) {
          told_there.threw = true;
        }
        told_there.ended = true;
        mark();
      });
      spare.reset();
      if (actor->standing() && how.begun) how.begun(state);
    }
    State state;
    std::optional<State> spare;
    std::unique_ptr<child> actor;
  };

  way path;
  {
    watchdog::at(what.name, 0, "recording the way");
    scene s(what, *told);
    path.trouble = s.actor->why();
    if (s.actor->standing()) path = way::record(*s.actor, *told);
    s.actor->kill(false);
    crash_point ignored;
    what.survive(s.state, ignored);
  }
  report.instructions = path.places.size();
  report.trouble = path.trouble;

  auto const points = report.trouble.empty() ? path.points(random) : std::vector<way::point>{};
  report.points = points.size();
  auto const phase = points.empty() ? 0 : random() % points.size();
  auto stride = std::max<std::size_t>(1, points.size() * 618 / 1000);
  while (std::gcd(stride, points.size()) > 1) ++stride;
  auto slowest = clock::duration::zero();

  // Bad points may take long each, so there is an end also to a whole sweep that has found some.
  auto const go_on = [&] { return (what.whole && report.bad.empty()) || clock::now() - began < budget; };
  for (std::size_t i = 0; i < points.size() && (i == 0 || go_on()); ++i) {
    auto const to = points[(phase + i * stride) % points.size()];
    auto const used = arena::used_bytes();
    crash_point at;
    auto const timed = [&](char const* doing, auto const& act, State& state) {
      watchdog::at(what.name, to.place, doing);
      auto const from = clock::now();
      try {
        act(state, at);
      } catch (std::exception const& e) {
        at.expect(false, std::string("an exception: ") + e.what());
      }
      auto const took = clock::now() - from;
      slowest = std::max(slowest, took);
      at.expect(took < 2 * crash_limit, std::string(doing) + " took " + std::to_string(milliseconds(took).count()) + " ms");
    };
    {
      watchdog::at(what.name, to.place, "on the way there");
      scene s(what, *told);
      if (!s.actor->standing() || !path.bring(*s.actor, *told, to)) ++report.astray;
      at.expect(!told->threw, "the operation threw");
      at.expect(s.actor->standing(), s.actor->why());
      if (what.while_stopped) timed("going on while it is stopped there", what.while_stopped, s.state);
      s.actor->kill(what.zombie);
      timed("surviving", what.survive, s.state);
    }
    watchdog::at(what.name, to.place, "looking at the arena's books");
    at.expect(arena::sound(), "the arena is not sound");
    at.expect(arena::used_bytes() == used, "memory is left over in the arena");

    ++report.tried;
    for (auto const& note : at.notes()) ++report.notes[note];
    if (at.wrong().empty()) continue;
    auto const where = polyproc::native_backend::locate(reinterpret_cast<void const*>(path.places[to.place].address));
    char text[64];
    std::snprintf(text, sizeof text, "+0x%llx", static_cast<unsigned long long>(where.offset));
    std::string line = what.name + ": killed at instruction " + std::to_string(to.place) + " of " +
                       std::to_string(path.places.size()) + " (" +
                       (where.module.empty() ? std::string("this program") : where.module) + text + "): ";
    for (auto const& wrong : at.wrong()) line += wrong + "; ";
    report.bad.push_back(line);
  }
  ::munmap(page, sizeof(board));

  std::string line = "crash points: " + what.name + ": " + std::to_string(report.instructions) + " instructions, ";
  line += std::to_string(report.tried) + " tried";
  if (report.tried < report.points) line += " (seed " + std::to_string(seed) + ")";
  if (report.astray != 0) line += ", " + std::to_string(report.astray) + " astray";
  for (auto const& [note, count] : report.notes) line += ", " + std::to_string(count) + " " + note;
  if (!report.bad.empty()) line += ", " + std::to_string(report.bad.size()) + " BAD";
  if (!report.trouble.empty()) line += ", " + report.trouble;
  std::printf("%s; the slowest survivor %.1f ms; %.1f s\n", line.c_str(), milliseconds(slowest).count(),
              seconds(clock::now() - began).count());
  std::fflush(stdout);
  return report;
}

#endif
