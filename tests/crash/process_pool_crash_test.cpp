// timeout: 600
// alone
//
// A pool's real worker is stepped, instruction by instruction, into waking, taking, running and finishing a task, and killed
// after the Nth, for a sample of all N. Its task's future completes each time: with its value, if the worker had come so far,
// else with worker_lost; the pool goes on; nothing that the worker had taken stays behind.
// POLYPROC_CRASH_SECONDS (40) says how long in all, POLYPROC_CRASH_SEED repeats a choice of points.

#include "crash/crash_points.hpp"

#if defined(POLYPROC_NO_CRASH_POINTS)

TEST_CASE("[H1] a kill at any instruction of a pool's worker") { crash_points_skipped(POLYPROC_NO_CRASH_POINTS); }

#else

#include "task/pool_tasks.hpp"

using namespace pool_tasks;

namespace {

template <class T>
T setting(char const* name, T otherwise) {
  char const* const text = std::getenv(name);
  return text == nullptr ? otherwise : static_cast<T>(std::strtoull(text, nullptr, 10));
}

/// A worker of a pool of this process, under our control. It must run nothing but its own thread.
class stepped {
 public:
  explicit stepped(long pid) : pid_(static_cast<pid_t>(pid)) {
    if (::ptrace(PTRACE_SEIZE, pid_, nullptr, static_cast<unsigned long>(PTRACE_O_EXITKILL)) != 0 ||
        ::ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr) != 0)
      throw std::system_error(errno, std::generic_category(), "ptrace of a worker");
    if (!stops()) throw std::runtime_error("the worker does not stop");
  }
  /// One instruction; false when it is inside a system call that does not come back.
  bool step() { return ::ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) == 0 && stops(); }

 private:
  bool stops() const {
    // It looks again twice a second though nobody wakes it.
    for (int i = 0, slept = 0; slept < 1000; ++i) {
      int status = 0;
      auto const got = ::waitpid(pid_, &status, WNOHANG | __WALL);
      if (got == pid_) return WIFSTOPPED(status);
      if (got < 0) return false;
      if (i > 2000) {
        std::this_thread::sleep_for(std::chrono::microseconds(20));
        ++slept;
      }
    }
    return false;
  }
  pid_t pid_;
};

/// The only worker, asleep.
long sleeping_worker(process_pool& pool, long not_this) {
  for (;;) {
    for (auto const pid : pool.worker_pids()) {
      if (pid == not_this) continue;
      std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
      std::string const text{std::istreambuf_iterator<char>(file), {}};
      std::ifstream call_file("/proc/" + std::to_string(pid) + "/syscall");
      std::string call;
      call_file >> call;
      auto const end = text.rfind(')');
      if (end != std::string::npos && text.substr(end, 3) == ") S" && call == std::to_string(SYS_futex)) return pid;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

/// submit() gives the future; good() looks at its value. prepare() is called while the worker runs freely.
template <class Submit, class Good>
void sweep(char const* what, double share, bool repeats, Submit submit, Good good,
           void (*prepare)(process_pool&) = [](process_pool&) {}) {
  auto const seed = setting<unsigned>("POLYPROC_CRASH_SEED", std::random_device{}());
  INFO(what << ", POLYPROC_CRASH_SEED=" << seed);
  std::mt19937 random(seed);
  auto const end = std::chrono::steady_clock::now() +
                   std::chrono::milliseconds(static_cast<long>(1000 * share * setting<double>("POLYPROC_CRASH_SECONDS", 40)));
  process_pool pool({.workers = 1, .start_attempts = 1000000});
  CHECK(good(submit(pool)));
  // How long the way is, until the worker sleeps again.
  std::size_t way = 0;
  long last = 0;
  {
    prepare(pool);
    last = sleeping_worker(pool, 0);
    stepped worker(last);
    auto f = submit(pool);
    while (way < 2000000 && worker.step()) ++way;
    CHECK(pool.kill_worker(last));
    CHECK(good(std::move(f)));
  }
  auto const before = polyproc::detail::arena<polyproc::native_backend>::used_bytes();
  std::size_t points = 0, values = 0, lost = 0, astray = 0;
  while (points < 10 || std::chrono::steady_clock::now() < end) {
    prepare(pool);
    auto const pid = sleeping_worker(pool, last);
    // Every part of the way, the ends of it above all.
    auto const n = random() % 4 == 0 ? random() % std::min<std::size_t>(way, 300) : random() % (way + 1);
    stepped worker(pid);
    auto f = submit(pool);
    std::size_t done = 0;
    while (done < n && worker.step()) ++done;
    astray += done < n;
    CHECK(pool.kill_worker(pid));
    last = pid;
    ++points;
    INFO("after " << n << " of " << way << " instructions");
    REQUIRE(f.wait_for(crash_limit));
    try {
      bool const right = good(std::move(f));
      CHECK(right);
      ++values;
    } catch (worker_lost const& e) {
      ++lost;
      CHECK(e.pid() == pid);
      CHECK(e.signal() == SIGKILL);
      CHECK_FALSE(repeats);
    }
    auto next = pool.submit(square, 5);
    REQUIRE(next.wait_for(crash_limit));
    CHECK(next.get() == 25);
  }
  CHECK(points > 0);
  CHECK(good(submit(pool)));
  auto const after = polyproc::detail::arena<polyproc::native_backend>::used_bytes();
  std::printf("crash points: %s, seed %u: %zu points on a way of %zu instructions, %zu gave their value, %zu lost, %zu "
              "astray; %lld bytes of shared memory more than before\n",
              what, seed, points, way, values, lost, astray, static_cast<long long>(after) - static_cast<long long>(before));
  std::fflush(stdout);
  CHECK(after <= before + 4096);
}

/// The worker is left standing after the Nth instruction, for as long as it takes; so it may hold what it has locked.
void stand_still(double share) {
  auto const seed = setting<unsigned>("POLYPROC_CRASH_SEED", std::random_device{}());
  INFO("POLYPROC_CRASH_SEED=" << seed);
  std::mt19937 random(seed);
  auto const end = std::chrono::steady_clock::now() +
                   std::chrono::milliseconds(static_cast<long>(1000 * share * setting<double>("POLYPROC_CRASH_SECONDS", 40)));
  using arena = polyproc::detail::arena<polyproc::native_backend>;
  constexpr std::size_t large = 20000;
  auto const echo = [](std::string text) { return text; };
  process_pool pool({.workers = 1, .start_attempts = 1000000});
  process_pool others({.workers = 1});
  CHECK(pool.apply(echo, std::string(large, 'a')).size() == large);
  auto const books_held = [] {
    auto const probe = arena::allocate_until(1, {}, {});
    if (probe) arena::free(*probe);
    return !probe;
  };
  std::size_t way = 0;
  std::vector<std::size_t> inside;  // after so many instructions it holds the books of shared memory
  long last = 0;
  {
    last = sleeping_worker(pool, 0);
    stepped worker(last);
    auto f = pool.submit(echo, std::string(large, 'a'));
    for (; way < 2000000 && worker.step(); ++way)
      if (books_held()) inside.push_back(way + 1);
    CHECK(pool.kill_worker(last));
    CHECK(f.get().size() == large);
  }
  REQUIRE_FALSE(inside.empty());
  auto const before = arena::used_bytes();
  std::size_t points = 0, values = 0, late = 0, cancelled = 0, held = 0;
  std::chrono::nanoseconds longest{0};
  auto const timed = [&](auto&& what) {
    auto const begin = std::chrono::steady_clock::now();
    what();
    longest = std::max<std::chrono::nanoseconds>(longest, std::chrono::steady_clock::now() - begin);
  };
  while (points < 10 || std::chrono::steady_clock::now() < end) {
    auto const pid = sleeping_worker(pool, last);
    auto const n = random() % 4 == 0 ? random() % (way + 1) : inside[random() % inside.size()];
    auto worker = std::make_unique<stepped>(pid);
    auto const submitted = std::chrono::steady_clock::now();
    bool const by_deadline = points % 4 == 3;
    auto f = pool.submit({.deadline = by_deadline ? polyproc::native_backend::now() + 500ms : polyproc::never, .grace = 5ms},
                         echo, std::string(large, 'a'));
    std::size_t done = 0;
    while (done < n && worker->step()) ++done;
    last = pid;
    ++points;
    INFO("after " << n << " of " << way << " instructions");
    // Somebody else's task, which needs the same books: handed over, taken back.
    bool const books = books_held();
    held += books;
    timed([&] {
      auto g = others.try_submit(echo, std::string(large, 'b'));
      REQUIRE(g);
      auto small = others.submit(square, 3);  // needs none
      CHECK(small.wait_for(crash_limit));
      CHECK(small.get() == 9);
      if (books) (void)g->cancel();
      CHECK(g->wait_for(crash_limit));
    });
    if (by_deadline) std::this_thread::sleep_until(submitted + 500ms);
    else (void)f.cancel();
    timed([&] { REQUIRE(f.wait_for(crash_limit)); });
    try {
      bool const right = f.get() == std::string(large, 'a');
      CHECK(right);
      ++values;
    } catch (polyproc::time_limit_exceeded const&) {
      ++late;
      CHECK(by_deadline);
    } catch (polyproc::task_cancelled const&) {
      ++cancelled;
      CHECK_FALSE(by_deadline);
    }
    (void)pool.kill_worker(pid);  // one that had finished, or not begun
    worker.reset();
    auto next = pool.submit(echo, std::string(large, 'c'));
    REQUIRE(next.wait_for(crash_limit));
    CHECK(next.get() == std::string(large, 'c'));
  }
  CHECK(others.apply(echo, std::string(large, 'd')).size() == large);
  std::printf("stopped: seed %u: %zu points on a way of %zu instructions, %zu gave their value, %zu were cancelled, %zu given up "
              "at their deadline, %zu times the books of shared memory were held; nobody waited longer than %lld ms\n",
              seed, points, way, values, cancelled, late, held,
              static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(longest).count()));
  std::fflush(stdout);
  CHECK(held > 0);
  CHECK(arena::used_bytes() <= before + 4096);
}

std::string fill(std::size_t size) { return std::string(size, 'f'); }
int from_gate(shared_gate g, std::string const& text) {
  g->count += 1;
  return static_cast<int>(text.size());
}

}  // namespace

TEST_CASE_METHOD(tidy, "[H1] a kill at any instruction of a worker: a small task") {
  sweep("a small task", 0.3, false, [](process_pool& pool) { return pool.submit(square, 3); },
        [](auto f) { return f.get() == 9; });
}

TEST_CASE_METHOD(tidy, "[H2] a kill at any instruction of a worker: a small task that may be repeated gives its value") {
  sweep("a small task, repeated", 0.2, true, [](process_pool& pool) { return pool.submit({.retries = 3}, square, 3); },
        [](auto f) { return f.get() == 9; });
}

TEST_CASE_METHOD(tidy, "[H1] a kill at any instruction of a worker: a result that needs memory of its own") {
  sweep("a large result", 0.2, false, [](process_pool& pool) { return pool.submit(fill, std::size_t{20000}); },
        [](auto f) { return f.get().size() == 20000; });
}

TEST_CASE_METHOD(tidy, "[H1] a kill at any instruction of a worker: a result in a block that the pool had kept and offers") {
  using kept = polyproc::detail::kept_blocks<polyproc::native_backend>;
  struct lowered {
    std::uint64_t const before = kept::least().exchange(4096);  // a mebibyte has too many instructions
    ~lowered() { kept::least() = before; }
  } const here;
  static std::string const letters(20000, 'r');
  sweep(
      "an offered block", 0.2, false, [](process_pool& pool) { return pool.submit(twice, letters); },
      [](auto f) { return f.get() == letters + letters; },
      [](process_pool& pool) {
        for (int i = 0; i < 2; ++i) CHECK(pool.apply(twice, letters).size() == 2 * letters.size());
      });
}

TEST_CASE_METHOD(tidy, "[H1] a kill at any instruction of a worker: a large request with a handle in it") {
  shared_gate const g;
  sweep("a large request with a handle", 0.2, false,
        [&](process_pool& pool) { return pool.submit(from_gate, g, std::string(5000, 'r')); },
        [](auto f) { return f.get() == 5000; });
}

TEST_CASE_METHOD(tidy, "a worker that is stopped at any instruction holds up no deadline, no cancel and no try_submit") {
  stand_still(0.3);
}

TEST_CASE_METHOD(tidy, "[H1] a kill at any instruction of a worker: a task that throws") {
  sweep("a task that throws", 0.1, false, [](process_pool& pool) { return pool.submit(throw_range); },
        [](auto f) {
          try {
            f.get();
            return false;
          } catch (std::out_of_range const&) {
            return true;
          }
        });
}

#endif
