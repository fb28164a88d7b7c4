#include "support/tidy.hpp"
// timeout: 400
//
// What makes pools of processes hang, break or leak elsewhere, by its number, and what holds here instead. H16 and H54 are in
// process_pool_test.

#include "process/start_methods.hpp"
#include "task/counting.hpp"
#include "task/pool_tasks.hpp"

#include <set>

using namespace pool_tasks;

namespace {

int die_if_odd(int x) {
  if (x % 2 == 1) polyproc::native_backend::exit_now(5);
  return x;
}
void fail_to_set_up(shared_gate g) {
  g->count += 1;
  throw std::invalid_argument("no model here");
}
void die_setting_up(shared_gate g) {
  g->count += 1;
  polyproc::native_backend::exit_now(6);
}
/// Two workers can be set up, and no other one.
void set_up_two(shared_gate g) {
  if ((g->count += 1) > 2) throw std::invalid_argument("no third model");
}
/// Some die while others are still at it.
void die_setting_up_at_last(shared_gate g) {
  auto const number = g->count += 1;
  std::this_thread::sleep_for(10ms * (number % 5));
  polyproc::native_backend::exit_now(7);
}
struct not_to_be_made_again : std::exception {
  not_to_be_made_again(int, int) {}
  [[nodiscard]] char const* what() const noexcept override { return "of a type of its own"; }
};
int throw_own() { throw not_to_be_made_again(1, 2); }
struct unwritable {
  int x = 0;
};
long first_of(unwritable const& u) { return u.x; }
int slowly(int x) {
  std::this_thread::sleep_for(300us);
  return 2 * x;
}
/// Owns a pool with a busy worker and idle ones, and is killed.
void own_a_pool(refs to) {
  process_pool pool(3);
  shared_gate g;
  auto f = pool.submit(burn_with_child, g, to);
  auto const pids = pool.map([](int) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return polyproc::this_process::self();
  }, std::vector<int>(4));
  for (auto const& each : pids) to.put(each);
  sleep_until_killed();
}
process_pool* the_pool = nullptr;
int wait_for_own_pool() {
  try {
    return the_pool->apply(square, 2);
  } catch (std::logic_error const&) {
    return -1;
  }
}
long meet(shared_gate g, long all) {
  g->begun += 1;
  auto const until = std::chrono::steady_clock::now() + 60s;
  while (g->begun < all && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(1ms);
  return polyproc::this_process::pid();
}

}  // namespace

template <>
struct polyproc::codec<unwritable> {
  static void write(writer&, unwritable const&) { throw std::length_error("cannot be carried"); }
  static unwritable read(reader&) { return {}; }
};

TEST_CASE_METHOD(tidy, "[H1] map ends when workers die, and says that one was lost") {
  process_pool pool(2);
  std::vector<int> items(100);
  std::iota(items.begin(), items.end(), 0);
  CHECK_THROWS_AS(pool.map(die_if_odd, items), worker_lost);
  CHECK_THROWS_AS(pool.map(die_if_odd, items, {.chunk = 1}), worker_lost);
  int got = 0, lost = 0;
  auto all = pool.imap(die_if_odd, items);
  for (auto it = all.begin(); it != all.end(); ++it) {
    try {
      got += *it % 2 == 0;
    } catch (worker_lost const& e) {
      lost += e.exit_code() == 5;
    }
  }
  CHECK(got == 50);
  CHECK(lost == 50);
}

TEST_CASE_METHOD(tidy, "[H2] however many workers die, the pool takes tasks, and those that wait are run") {
  process_pool pool(2);
  std::vector<polyproc::future<int>> all;
  for (int i = 0; i < 200; ++i) all.push_back(pool.submit(die_if_odd, i));
  for (int i = 0; i < 200; ++i) {
    auto& f = all[static_cast<std::size_t>(i)];
    if (i % 2 == 0) CHECK(outcome_of(f) == i);
    else CHECK_THROWS_AS(outcome_of(f), worker_lost);
  }
  CHECK(eventually([&] { return pool.worker_pids().size() == 2; }));
}

TEST_CASE_METHOD(tidy, "[H3] the error says who died, how, and with which task") {
  process_pool pool(1);
  auto const pid = pool.apply(own_pid);
  try {
    (void)pool.apply({.name = "the heavy one"}, exit_with, 42);
    FAIL("it cannot have ended");
  } catch (worker_lost const& e) {
    CHECK(e.pid() == pid);
    CHECK(e.exit_code() == 42);
    CHECK(e.signal() == 0);
    std::string const what = e.what();
    CHECK(what.find(std::to_string(pid)) != std::string::npos);
    CHECK(what.find("the heavy one") != std::string::npos);
    CHECK(what.find("42") != std::string::npos);
  }
}

TEST_CASE_METHOD(tidy, "[H4] a running task can be cancelled, and runs only when a worker has really begun it") {
  process_pool pool(1);
  shared_gate g, never;
  auto runs = pool.submit(burn, g);
  REQUIRE(until_begun(g));
  std::vector<polyproc::future<void>> wait;
  for (int i = 0; i < 5; ++i) wait.push_back(pool.submit(wait_at, never));
  CHECK(pool.stats().running == 1);
  CHECK(pool.stats().waiting == 5);
  for (auto& f : wait) {
    CHECK(f.cancel());
    CHECK(f.ready());
  }
  auto const took = time_of([&] {
    CHECK(runs.cancel());
    CHECK(runs.wait_for(patience));
  });
  measured("from cancel() of an endless loop to its outcome", took, "100 ms");
  CHECK(took < gone_by);
  CHECK_THROWS_AS(runs.get(), task_cancelled);
  CHECK(pool.apply(square, 4) == 16);
  CHECK(never->begun == 0);
}

TEST_CASE_METHOD(tidy, "[H5] a time limit ends the task, not only the waiting for it; waiting with a limit ends nothing") {
  process_pool pool(1);
  shared_gate g;
  auto const pid = pool.apply(own_pid);
  auto f = pool.submit({.time_limit = 100ms}, burn, g);
  CHECK_THROWS_AS(outcome_of(f), time_limit_exceeded);
  CHECK(pool.apply(own_pid) != pid);
  held_worker held(pool);
  CHECK_FALSE(held.task.wait_for(20ms));
  held.let_go();
  CHECK_NOTHROW(outcome_of(held.task));
}

TEST_CASE_METHOD(tidy, "[H6] recycling strands no task, also when the pool is ended at once") {
  for (std::size_t const each : {1U, 2U, 7U}) {
    process_pool pool({.workers = 2, .tasks_per_worker = each});
    std::vector<polyproc::future<int>> all;
    for (int i = 0; i < 60; ++i) all.push_back(pool.submit(square, i));
    pool.close();
    if (each == 2) pool.shutdown();
    for (int i = 0; i < 60; ++i) CHECK(outcome_of(all[static_cast<std::size_t>(i)]) == i * i);
    pool.join();
    CHECK(pool.stats().lost == 0);
  }
}

TEST_CASE_METHOD(tidy, "[H7] a failing initializer is the outcome of all that wait, and no workers are started without end") {
  for (auto* const initializer : {fail_to_set_up, die_setting_up, die_setting_up_at_last}) {
    bool const throws = initializer == fail_to_set_up;
    shared_gate g;
    process_pool pool({.workers = 2, .initializer = {initializer, g}, .start_attempts = 5});
    std::vector<polyproc::future<int>> all;
    for (int i = 0; i < 20; ++i) all.push_back(pool.submit(square, i));
    for (auto& f : all) {
      if (throws) CHECK_THROWS_AS(outcome_of(f), std::invalid_argument);
      else CHECK_THROWS_AS(outcome_of(f), polyproc::start_error);
    }
    // As many as were to be started for a submission, at most.
    long const started = g->count;
    CHECK(started <= 21 * (throws ? 2 : 7));
    // Two may be on their way; after them nobody comes.
    long later = started;
    CHECK(eventually([&] {
      std::this_thread::sleep_for(1200ms);
      return std::exchange(later, g->count.load()) == g->count;
    }));
    CHECK(later <= started + 2);
    auto again = pool.submit(square, 1);
    if (throws) CHECK_THROWS_AS(outcome_of(again), std::invalid_argument);
    else CHECK_THROWS_AS(outcome_of(again), polyproc::start_error);
    CHECK(time_of([&] { pool.shutdown(); }) < 10s);
  }
}

TEST_CASE_METHOD(tidy, "[H6] an initializer that fails in one worker fails no task while another worker serves") {
  shared_gate g;
  process_pool pool({.workers = 2, .initializer = {set_up_two, g}});
  auto const both = [&] { return pool.submit(square, 3).get() == 9 && g->count >= 2; };
  REQUIRE(eventually(both));
  CHECK_THROWS_AS(pool.apply(exit_with, 1), worker_lost);
  REQUIRE(eventually([&] { return pool.submit(square, 2).get() == 4 && g->count >= 3; }));  // one more was tried
  for (int i = 0; i < 100; ++i) {
    auto f = pool.submit(square, i);
    CHECK(outcome_of(f) == i * i);
  }
  // The one that serves dies with a task that may be repeated, and others behind it: nobody is left who could do them.
  auto repeated = pool.submit({.retries = 5}, exit_with, 1);
  auto behind = pool.submit(square, 1);
  pool.close();
  CHECK_THROWS_AS(outcome_of(repeated), std::invalid_argument);
  CHECK_THROWS_AS(outcome_of(behind), std::invalid_argument);
  pool.join();
}

TEST_CASE_METHOD(tidy, "[H8] an exception of a type that cannot be made again fails its own future, with type and message") {
  process_pool pool(1);
  auto const pid = pool.apply(own_pid);
  try {
    (void)pool.apply(throw_own);
    FAIL("it cannot have ended");
  } catch (polyproc::remote_error const& e) {
    CHECK(std::string(e.what()).find("of a type of its own") != std::string::npos);
#if defined(__GXX_RTTI)
    CHECK(e.type_name().find("not_to_be_made_again") != std::string::npos);
#endif
  }
  CHECK(pool.apply(own_pid) == pid);
}

TEST_CASE_METHOD(tidy, "[H9] what cannot be written is thrown by submit, and the pool is as before") {
  process_pool pool(1);
  CHECK_THROWS_AS((void)pool.submit(first_of, unwritable{1}), std::length_error);
  CHECK_THROWS_AS((void)pool.apply(first_of, unwritable{1}), std::length_error);
  CHECK(pool.stats().submitted == 0);
  CHECK(pool.apply(square, 3) == 9);
}

TEST_CASE_METHOD(tidy, "[H10] imap takes no more of its input than its window, so an infinite input is no trouble") {
  process_pool pool(2);
  {
    counting const endless;
    auto all = pool.imap(slowly, endless, {.window = 10});
    CHECK(endless.taken() == 0);
    int got = 0;
    for (int x : all) {
      CHECK(x == 2 * got);
      ++got;
      CHECK(endless.taken() <= got + 10);
      if (got == 200) break;
    }
  }
  counting const endless;
  std::set<int> seen;
  for (int x : pool.imap_unordered(slowly, endless, {.window = 16, .chunk = 4})) {
    CHECK(seen.insert(x).second);
    CHECK(endless.taken() <= static_cast<int>(seen.size()) + 16);
    if (seen.size() == 100) break;
  }
  CHECK(pool.apply(square, 3) == 9);
}

TEST_CASE_METHOD(tidy, "[H11] no more tasks wait than the pool was told") {
  process_pool pool({.workers = 1, .max_waiting = 5});
  std::vector<polyproc::future<int>> all;
  std::size_t most = 0;
  for (int i = 0; i < 200; ++i) {
    all.push_back(pool.submit(slowly, i));
    most = std::max(most, pool.stats().waiting);
  }
  CHECK(most <= 5);
  for (int i = 0; i < 200; ++i) CHECK(all[static_cast<std::size_t>(i)].get() == 2 * i);
}

TEST_CASE_METHOD(tidy, "[H12] tasks that wait for tasks use a pool of their own, and do not block each other") {
  process_pool pool(1);
  auto const nested = pool.submit([](int n) {
    process_pool own(1);
    return own.apply([](int x) {
      process_pool innermost(1);
      return innermost.apply(square, x) + 1;
    }, n);
  }, 4);
  CHECK(nested.wait_for(patience));
  // A forked worker has a copy of the pool: it is told so, and does not wait for itself.
  if constexpr (polyproc::native_backend::has_fork) {
    process_pool forked({.workers = 1, .start = polyproc::start_method::fork});
    the_pool = &forked;
    CHECK_THROWS_AS(forked.apply(exit_with, 1), worker_lost);  // its successor sees the_pool
    auto waits = forked.submit(wait_for_own_pool);
    CHECK(outcome_of(waits) == -1);
    the_pool = nullptr;
  }
}

#if !defined(_WIN32)
TEST_CASE_METHOD(tidy, "[H12] a copy of a pool and its futures in a forked child leaves the original as it is") {
  process_pool pool(2);
  shared_gate g;
  auto runs = pool.submit(wait_at, g);
  auto runs_too = pool.submit(wait_at, g);
  REQUIRE(until_begun(g, 2));
  std::vector<polyproc::future<int>> all;
  for (int i = 0; i < 600; ++i) all.push_back(pool.submit(square, i));  // some of them in the list, behind the slots
  polyproc::process child{polyproc::start::fork, [&] {
    auto const refuses = [](auto&& call) {
      try {
        call();
        return false;
      } catch (std::logic_error const&) {
        return true;
      }
    };
    int wrong = 0;
    auto const expect = [&](bool so, int which) {
      if (!so && wrong == 0) wrong = which;
    };
    expect(!all[0].cancel() && !all[599].cancel(), 1);
    expect(all[1].ready() && refuses([&] { (void)all[1].get(); }), 2);
    expect(runs.wait_for(0s) && refuses([&] { runs.get(); }), 3);
    bool told = false;
    all[2].on_done([&](auto const& done) { told = done.exception() != nullptr; });
    expect(told, 4);
    expect(polyproc::wait_any_for(60s, all[3]) == std::size_t{0}, 5);
    expect(refuses([&] { (void)pool.submit(square, 1); }), 6);
    expect(refuses([&] { pool.terminate(); }) && refuses([&] { pool.shutdown(true); }) && refuses([&] { pool.join(); }), 7);
    expect(refuses([&] { (void)pool.stats(); }) && refuses([&] { pool.resize(1); }), 8);
    expect(refuses([&] { (void)pool.kill_worker(1); }) && refuses([&] { (void)pool.worker_pids(); }), 9);
    pool.close();
    all.clear();
    polyproc::native_backend::exit_now(wrong);
  }};
  child.start();
  child.join();
  CHECK(child.exit_code() == 0);
  CHECK_FALSE(runs.ready());
  g->open = 1;
  for (int i = 0; i < 600; ++i) CHECK(outcome_of(all[static_cast<std::size_t>(i)]) == i * i);
  outcome_of(runs);
  outcome_of(runs_too);
  CHECK(pool.stats().done == 602);
  pool.close();
  pool.join();
}
#endif

TEST_CASE_METHOD(tidy, "[H14] shutdown at any moment of a stream of tasks and deaths ends, and all futures have outcomes") {
  for (int round = 0; round < 12; ++round) {
    process_pool pool({.workers = 2, .tasks_per_worker = round % 3 == 0 ? 3U : 0U});
    std::vector<polyproc::future<int>> all;
    for (int i = 0; i < 40; ++i) all.push_back(pool.submit(die_if_odd, i % 5));
    std::this_thread::sleep_for(std::chrono::microseconds(500 * round));
    CHECK(time_of([&] { pool.shutdown(round % 2 == 0); }) < 30s);
    for (auto& f : all) {
      CHECK(f.ready());
      try {
        int const value = f.get();
        CHECK(value % 2 == 0);
      } catch (worker_lost const&) {
      } catch (task_cancelled const&) {
      }
    }
    CHECK(pool.worker_pids().empty());
  }
}

TEST_CASE_METHOD(tidy, "[H15] only the destructor waits for what runs, and not for longer than its grace") {
  shared_gate g;
  auto pool = std::make_unique<process_pool>(process_pool_options{.workers = 1, .grace = 100ms});
  (void)pool->submit(burn, g);
  REQUIRE(until_begun(g));
  auto const took = time_of([&] { pool.reset(); });
  measured("the end of a pool with an endless loop and a grace of 100 ms", took, "200 ms");
  CHECK(took < 10s);
}

TEST_CASE_METHOD(tidy, "[H17] workers, idle or busy, end with their pool's process, however that ends") {
  refs told(20);
  polyproc::process owner{{.start = polyproc::start_method::spawn}, own_a_pool, told};
  owner.start();
  std::vector<polyproc::process_ref> all;
  for (int i = 0; i < 6; ++i) {
    auto one = told.get_for(patience);
    REQUIRE(one);
    all.push_back(std::move(*one));
  }
  CHECK(all[0].is_alive());
  owner.kill();
  owner.join();
  auto const took = time_of([&] {
    // The child of a task is not the pool's own; its parent's end is what ends it, where it is a daemon.
    for (std::size_t i = 1; i < all.size(); ++i) CHECK(all[i].join_for(20s));
  });
  measured("workers end after their pool's process was killed within", took, "100 ms");
  if (all[0].is_alive()) all[0].kill();
}

TEST_CASE_METHOD(tidy, "[H18] more than 64 workers, all at work at once, all looked after") {
  std::size_t const workers = 70;
  process_pool pool(workers);
  shared_gate g;
  std::vector<polyproc::future<long>> all;
  for (std::size_t i = 0; i < workers; ++i) all.push_back(pool.submit(meet, g, static_cast<long>(workers)));
  std::set<long> pids;
  for (auto& f : all) pids.insert(outcome_of(f));
  CHECK(pids.size() == workers);
  CHECK(g->begun == static_cast<long>(workers));
  // Also the last ones are seen to die.
  auto const some = pool.worker_pids();
  for (std::size_t i = 60; i < some.size(); ++i) CHECK(pool.kill_worker(some[i]));
  CHECK(eventually([&] { return pool.stats().restarted >= 10; }));
  CHECK(eventually([&] { return pool.worker_pids().size() == workers; }));
  CHECK(pool.apply(square, 5) == 25);
}

TEST_CASE_METHOD(tidy, "[H19] a worker is replaced after a number of tasks, and a new one has nothing of the old") {
  process_pool pool({.workers = 1, .tasks_per_worker = 5});
  std::vector<std::pair<long, int>> seen;
  for (int i = 0; i < 20; ++i)
    seen.push_back(pool.apply([] {
      static int uses = 0;
      return std::pair(polyproc::this_process::pid(), ++uses);
    }));
  std::set<long> pids;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    pids.insert(seen[i].first);
    CHECK(seen[i].second == static_cast<int>(i % 5) + 1);
  }
  CHECK(pids.size() >= 2);
  CHECK(pool.stats().restarted >= 3);
}
