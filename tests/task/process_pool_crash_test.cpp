#include "support/tidy.hpp"
// timeout: 400
//
// Everything that can go wrong on a task's way to its worker and back: only its own future is hit, others and later ones
// work, nothing hangs, and the workers are all there again.

#include "task/pool_tasks.hpp"

#include <csignal>

using namespace pool_tasks;

namespace {

/// What an argument or a result does when it is written or read.
enum class trouble : std::uint8_t { none, throws, throws_own, exits, faults };

void cause(trouble what) {
  switch (what) {
    case trouble::none: return;
    case trouble::throws: throw std::range_error("cannot be carried");
    case trouble::throws_own: throw 42;
    case trouble::exits: polyproc::native_backend::exit_now(7);
    case trouble::faults: (void)fault(); return;
  }
}

/// Carries out its troubles only in the processes that they are meant for.
struct parcel {
  trouble when_written = trouble::none;
  trouble when_read = trouble::none;
  long written_by = 0;  // 0: any
  long not_read_by = 0;
  std::string load;
};

std::size_t weigh(parcel const& p) { return p.load.size(); }
parcel pack(trouble when_written, trouble when_read, std::string load) {
  return {when_written, when_read, 0, 0, std::move(load)};
}
void exit_in_order() { polyproc::this_process::exit(9); }
long throw_anything(int which) {
  if (which == 0) throw std::invalid_argument("invalid");
  if (which == 1) throw std::system_error(std::make_error_code(std::errc::no_space_on_device), "disk");
  if (which == 2) throw 42;
  throw std::runtime_error(std::string(std::size_t{3} << 20, 'e'));
}
}  // namespace

template <>
struct polyproc::codec<parcel> {
  static void write(writer& out, parcel const& p) {
    if (p.written_by == 0 || p.written_by == polyproc::this_process::pid()) cause(p.when_written);
    encode(out, static_cast<std::uint8_t>(p.when_written));
    encode(out, static_cast<std::uint8_t>(p.when_read));
    encode(out, p.written_by);
    encode(out, p.not_read_by);
    encode(out, p.load);
  }
  static parcel read(reader& in) {
    parcel p;
    p.when_written = static_cast<trouble>(decode<std::uint8_t>(in));
    p.when_read = static_cast<trouble>(decode<std::uint8_t>(in));
    p.written_by = decode<long>(in);
    p.not_read_by = decode<long>(in);
    p.load = decode<std::string>(in);
    if (p.not_read_by != polyproc::this_process::pid()) cause(p.when_read);
    return p;
  }
};

namespace {

/// A result whose writing begins, says so, and does not end.
struct endless {
  shared_gate gate;
};
endless make_endless(shared_gate g) { return {std::move(g)}; }

}  // namespace

template <>
struct polyproc::codec<endless> {
  static void write(writer& out, endless const& e) {
    std::string const much(std::size_t{8} << 20, 'm');
    encode(out, much);
    e.gate->begun = polyproc::this_process::pid();
    while (e.gate->open == 0) encode(out, std::uint8_t{1}), std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  static endless read(reader& in) {
    (void)decode<std::string>(in);
    return {};
  }
};

namespace {

/// A pool with work of others before, beside and after what goes wrong.
class surrounded {
 public:
  explicit surrounded(std::size_t workers = 2) : pool(workers), workers_(workers) {
    CHECK(pool.apply(square, 2) == 4);
    held_ = std::make_unique<held_worker>(pool);
    if (workers == 1) held_->let_go(), held_->task.get();
  }
  surrounded(surrounded const&) = delete;
  surrounded& operator=(surrounded const&) = delete;
  ~surrounded() {
    std::vector<polyproc::future<int>> after;
    for (int i = 0; i < 600; ++i) after.push_back(pool.submit(square, i));
    for (int i = 0; i < 600; ++i) CHECK(outcome_of(after[static_cast<std::size_t>(i)]) == i * i);
    CHECK(eventually([&] { return pool.worker_pids().size() == workers_; }));
    if (workers_ > 1) {
      CHECK_FALSE(held_->task.ready());
      held_->let_go();
      CHECK_NOTHROW(outcome_of(held_->task));
    }
  }
  template <class F, class... Args>
  auto take(F f, Args... args) {
    auto task = pool.submit(f, std::move(args)...);
    next_ = pool.submit(square, 11);
    REQUIRE(task.wait_for(patience));
    CHECK(outcome_of(next_) == 121);
    return task;
  }
  /// It is lost, ended by that code.
  template <class F, class... Args>
  void loses(int code, F f, Args... args) {
    auto const before = pool.stats();
    auto task = take(f, std::move(args)...);
    try {
      (void)task.get();
      FAIL_CHECK("it cannot have ended");
    } catch (worker_lost const& e) {
      CHECK(e.exit_code() == code);
      CHECK(e.pid() != 0);
    }
    auto const now = pool.stats();
    CHECK(now.lost == before.lost + 1);
    CHECK(now.failed == before.failed + 1);
    CHECK(now.done == before.done + 1);
  }

  process_pool pool;

 private:
  std::size_t workers_;
  std::unique_ptr<held_worker> held_;
  polyproc::future<int> next_;
};

#if !defined(_WIN32) && defined(POLYPROC_TEST_ADDRESS_SANITIZER) && !defined(__clang__)
constexpr int fault_code = 1;  // GCC's sanitizer for undefined behaviour reports the fault, and exits
#else
constexpr int fault_code = -11;  // also with the thread sanitizer: a child has no signal handlers of its parent's
#endif

std::vector<std::string> loads() {
  std::vector<std::string> all;
  for (std::size_t const size : {std::size_t{0}, std::size_t{900}, std::size_t{5000}, std::size_t{5} << 20})
    all.emplace_back(size, 'l');
  return all;
}
parcel parcel_of(trouble when_written, trouble when_read, std::string load) {
  return {when_written, when_read, 0, 0, std::move(load)};
}

}  // namespace

TEST_CASE_METHOD(tidy, "crash table: an argument that cannot be written is an error of submit, and nothing was submitted") {
  surrounded s;
  auto const before = s.pool.stats().submitted;
  for (auto const& load : loads()) {
    CHECK_THROWS_AS((void)s.pool.submit(weigh, parcel_of(trouble::throws, trouble::none, load)), std::range_error);
    CHECK_THROWS_AS((void)s.pool.submit({.retries = 2}, weigh, parcel_of(trouble::throws_own, trouble::none, load)), int);
  }
  CHECK(s.pool.stats().submitted == before);
}

TEST_CASE_METHOD(tidy, "crash table: a worker that exits or crashes while it reads a task loses that task only") {
  surrounded s;
  for (auto const& load : loads()) {
    s.loses(7, weigh, parcel_of(trouble::none, trouble::exits, load));
    s.loses(fault_code, weigh, parcel_of(trouble::none, trouble::faults, load));
  }
  surrounded alone(1);
  alone.loses(7, weigh, parcel_of(trouble::none, trouble::exits, "x"));
}

TEST_CASE_METHOD(tidy, "crash table: a task that cannot be read in the worker fails, saying why") {
  surrounded s;
  auto const pids = s.pool.worker_pids();
  for (auto const& load : loads()) {
    auto task = s.take(weigh, parcel_of(trouble::none, trouble::throws, load));
    CHECK_THROWS_AS(task.get(), std::range_error);
    auto own = s.take(weigh, parcel_of(trouble::none, trouble::throws_own, load));
    CHECK_THROWS_AS(own.get(), polyproc::remote_error);
  }
  CHECK(s.pool.worker_pids() == pids);
}

TEST_CASE_METHOD(tidy, "crash table: a fault in the function loses that task only, and its signal is named") {
  surrounded s;
  for (int i = 0; i < 5; ++i) s.loses(fault_code, fault);
  surrounded alone(1);
  alone.loses(fault_code, fault);
}

TEST_CASE_METHOD(tidy, "crash table: exit in the function loses that task only, and the code is named") {
  surrounded s;
  for (int const code : {0, 1, 5}) s.loses(code, exit_with, code);
  s.loses(9, exit_in_order);
}

TEST_CASE_METHOD(tidy, "crash table: an exception in the function arrives, and its worker lives on") {
  surrounded s;
  auto const pids = s.pool.worker_pids();
  auto a = s.take(throw_anything, 0);
  CHECK_THROWS_AS(a.get(), std::invalid_argument);
  auto b = s.take(throw_anything, 1);
  CHECK_THROWS_AS(b.get(), std::system_error);
  auto c = s.take(throw_anything, 2);
  CHECK_THROWS_AS(c.get(), polyproc::remote_error);
  auto d = s.take(throw_anything, 3);
  try {
    (void)d.get();
    FAIL_CHECK("it cannot have ended");
  } catch (std::runtime_error const& e) {
    CHECK(std::string(e.what()).size() >= 60000);  // very long ones are cut short
  }
  CHECK(s.pool.worker_pids() == pids);
}

TEST_CASE_METHOD(tidy, "crash table: a crash, an exit or an error while the result is written") {
  surrounded s;
  for (auto const& load : loads()) {
    s.loses(fault_code, pack, trouble::faults, trouble::none, load);
    s.loses(7, pack, trouble::exits, trouble::none, load);
    auto const pids = s.pool.worker_pids();
    auto task = s.take(pack, trouble::throws, trouble::none, load);
    CHECK_THROWS_AS(task.get(), std::range_error);
    auto own = s.take(pack, trouble::throws_own, trouble::none, load);
    CHECK_THROWS_AS(own.get(), polyproc::remote_error);
    CHECK(s.pool.worker_pids() == pids);
  }
}

TEST_CASE_METHOD(tidy, "crash table: a result that cannot be read here fails its own future, whoever reads it") {
  surrounded s;
  for (auto const& load : loads()) {
    auto task = s.take(pack, trouble::none, trouble::throws, load);
    CHECK_THROWS_AS(task.get(), std::range_error);
    std::atomic<bool> told{false};
    s.pool.submit(pack, trouble::none, trouble::throws_own, load).on_done([&](auto& f) {
      try {
        (void)f.get();
      } catch (int) {
        told = true;
      }
    });
    CHECK(eventually([&] { return told.load(); }));
  }
}

TEST_CASE_METHOD(tidy, "crash table: an idle or busy worker that is killed from outside costs at most the task it runs") {
  process_pool pool(3);
  for (int round = 0; round < 5; ++round) {
    auto const killed = pool.worker_pids();
    for (auto const pid : killed) CHECK(pool.kill_worker(pid));
    CHECK(eventually([&] {
      auto const now = pool.worker_pids();
      return now.size() == 3 && std::find_first_of(now.begin(), now.end(), killed.begin(), killed.end()) == now.end();
    }));
    std::vector<polyproc::future<int>> all;
    for (int i = 0; i < 50; ++i) all.push_back(pool.submit(square, i));
    for (int i = 0; i < 50; ++i) CHECK(outcome_of(all[static_cast<std::size_t>(i)]) == i * i);
  }
  CHECK(pool.stats().lost == 0);
  held_worker a(pool), b(pool);
  shared_gate g;
  auto victim = pool.submit([](shared_gate at) {
    at->count = polyproc::this_process::pid();
    sleep_until_killed();
  }, g);
  std::vector<polyproc::future<int>> waiting;
  for (int i = 0; i < 50; ++i) waiting.push_back(pool.submit(square, i));
  REQUIRE(eventually([&] { return g->count != 0; }));
  auto const took = time_of([&] {
    CHECK(pool.kill_worker(g->count));
    CHECK(victim.wait_for(patience));
  });
  measured("from a worker's death until its future knows", took, "one wake-up, or 10 ms");
  CHECK(took < 10s);
  CHECK_THROWS_AS(victim.get(), worker_lost);
  for (int i = 0; i < 50; ++i) CHECK(outcome_of(waiting[static_cast<std::size_t>(i)]) == i * i);
  CHECK_FALSE(pool.kill_worker(g->count));
  CHECK_FALSE(a.task.ready());
  a.let_go(), b.let_go();
  a.task.get(), b.task.get();
}

TEST_CASE_METHOD(tidy, "crash table: a crash after the end was asked for: all others are still done, and the end comes") {
  for (bool const cancels : {false, true}) {
    process_pool pool(2);
    held_worker a(pool), b(pool);
    auto first = pool.submit(exit_with, 3), second = pool.submit(fault);
    auto later = pool.submit(square, 5);
    std::thread end([&] { pool.shutdown(cancels); });
    CHECK(eventually([&] {
      try {
        (void)pool.submit(square, 1);
        return false;
      } catch (std::logic_error const&) {
        return true;
      }
    }));
    a.let_go();
    for (auto const pid : pool.worker_pids()) (void)pool.kill_worker(pid);
    b.let_go();
    CHECK(time_of([&] { end.join(); }) < 10s);
    for (auto* const each : {&a, &b}) {
      CHECK(each->task.ready());
      try {
        each->task.get();
      } catch (worker_lost const&) {  // it was hit
      }
    }
    if (cancels) {
      CHECK_THROWS_AS(later.get(), polyproc::error);
      CHECK_THROWS_AS(first.get(), polyproc::error);
      CHECK_THROWS_AS(second.get(), polyproc::error);
    } else {
      CHECK(later.get() == 25);
      CHECK_THROWS_AS(first.get(), worker_lost);
      CHECK_THROWS_AS(second.get(), worker_lost);
    }
  }
}

TEST_CASE_METHOD(tidy, "crash table: a task that cannot be written, and then the end") {
  {
    process_pool pool(1);
    CHECK_THROWS_AS((void)pool.submit(weigh, parcel_of(trouble::throws, trouble::none, "x")), std::range_error);
    pool.shutdown();
  }
  process_pool pool(1);
  CHECK_THROWS_AS((void)pool.submit(weigh, parcel_of(trouble::throws, trouble::none, "x")), std::range_error);
  pool.terminate();
}

TEST_CASE_METHOD(tidy, "crash table: a worker killed while it writes more than any buffer holds: no hang, others run") {
  surrounded s;
  for (int i = 0; i < 3; ++i) {
    shared_gate g;
    auto task = s.pool.submit(make_endless, g);
    REQUIRE(eventually([&] { return g->begun != 0; }));
    auto next = s.pool.submit(square, 8);
    CHECK(s.pool.kill_worker(g->begun));
    CHECK_THROWS_AS(outcome_of(task), worker_lost);
    CHECK(outcome_of(next) == 64);
  }
}

TEST_CASE_METHOD(tidy, "memory that killed workers had taken for requests and results is given back") {
  process_pool pool(1);
  std::string const load(std::size_t{2} << 20, 'm');
  CHECK(pool.apply(twice, load).size() == 2 * load.size());
  auto const before = polyproc::detail::arena<polyproc::native_backend>::used_bytes();
  for (int i = 0; i < 5; ++i) {
    auto read = pool.submit(weigh, parcel_of(trouble::none, trouble::exits, load));
    CHECK_THROWS_AS(outcome_of(read), worker_lost);
    auto written = pool.submit(pack, trouble::exits, trouble::none, load);
    CHECK_THROWS_AS(outcome_of(written), worker_lost);
    auto cancelled = pool.submit(weigh, parcel_of(trouble::none, trouble::none, load));
    (void)cancelled.cancel();
    auto unread = pool.submit(pack, trouble::none, trouble::throws, load);
    CHECK_THROWS_AS(outcome_of(unread), std::range_error);
  }
  CHECK(pool.apply(square, 2) == 4);
  CHECK(polyproc::detail::arena<polyproc::native_backend>::used_bytes() == before);
}
