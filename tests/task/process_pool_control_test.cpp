#include "support/tidy.hpp"
// timeout: 600
// alone
//
// What can be done to a pool of processes and its tasks from outside: stopping, limits, order, room, numbers of workers,
// ends. Promises about time are checked at ten times the figure, and what was measured is printed.

#include "process/start_methods.hpp"
#include "task/pool_tasks.hpp"

#include <ctime>
#include <set>

using namespace pool_tasks;

namespace {

/// Asks its pool whenever it is written.
struct asks_its_pool {
  long value = 0;
  static inline process_pool* pool = nullptr;
  static inline std::atomic<int> written{0};
};
long value_at_second_try(asks_its_pool given, shared_gate g) {
  if (g->count.fetch_add(1) < 1) polyproc::native_backend::exit_now(3);
  return given.value;
}

struct diary {
  polyproc::shared<std::atomic<std::uint32_t>> next;
  polyproc::shared_array<std::atomic<std::uint32_t>> when = polyproc::shared_array<std::atomic<std::uint32_t>>(4096);
};
void note(diary d, std::uint32_t who) { d.when[who] = ++*d.next; }

int fails_at_first(shared_gate g, long times) {
  if (g->count.fetch_add(1) < times) polyproc::native_backend::exit_now(3);
  return 8;
}
struct workshop {
  int first;
  long pid;
  int uses = 0;
};
workshop set_up(int first, shared_gate g) {
  g->count += 1;
  return {first, own_pid()};
}
int use_workshop(int x) {
  auto& w = polyproc::this_worker::state<workshop>();
  if (w.pid != own_pid()) return -1;
  ++w.uses;
  return w.first + x + 100 * w.uses;
}
std::size_t number_of_worker() { return polyproc::this_worker::number(); }
long eat_memory(std::size_t bytes) {
  static std::vector<std::vector<char>> kept;
  kept.emplace_back(bytes, 'x');
  return own_pid();
}
long pid_after(std::chrono::milliseconds pause) {
  std::this_thread::sleep_for(pause);
  return own_pid();
}
long sum_by_pool(int n) {
  process_pool pool(2);
  auto const all = pool.map(square, std::vector<int>(static_cast<std::size_t>(n), 3));
  return std::accumulate(all.begin(), all.end(), 0L);
}
void note_sum_by_pool(shared_gate g, int n) { g->count = sum_by_pool(n); }
long nest(int depth) {
  if (depth == 0) return 1;
  process_pool pool(1);
  return 1 + pool.apply(nest, depth - 1);
}
std::unique_ptr<process_pool>& leaked() {
  static auto* const one = new std::unique_ptr<process_pool>;
  return *one;
}
/// Leaves main with work under way in a pool that is destroyed after that, or never.
void leave_static_pool(shared_gate g, refs to, bool destroyed) {
  if (destroyed) {
    static process_pool pool(2);
    for (int i = 0; i < 5; ++i) (void)pool.submit(burn_with_child, g, to);
  } else {
    leaked() = std::make_unique<process_pool>(2);
    for (int i = 0; i < 5; ++i) (void)leaked()->submit(burn_with_child, g, to);
  }
  until_begun(g, 2);
}
void send_square(polyproc::pipe_end<int, int> end) {
  while (auto x = end.recv()) end.send(*x * *x);
}
int sum_of(polyproc::queue<int> q) {
  int sum = 0;
  for (int x : q) sum += x;
  return sum;
}
polyproc::queue<int> make_queue(int first) {
  polyproc::queue<int> q(3);
  q.put(first);
  return q;
}

}  // namespace

template <>
struct polyproc::codec<asks_its_pool> {
  static void write(writer& out, asks_its_pool const& value) {
    ++asks_its_pool::written;
    if (asks_its_pool::pool != nullptr) (void)asks_its_pool::pool->stats();
    encode(out, value.value);
  }
  static asks_its_pool read(reader& in) { return {decode<long>(in)}; }
};

// --- Stopping.

TEST_CASE_METHOD(tidy, "cancel of a task that waits is done at once, and it never begins") {
  process_pool pool(1);
  held_worker held(pool);
  shared_gate never;
  auto f = pool.submit(wait_at, never);
  CHECK(f.cancel());
  CHECK(f.ready());
  CHECK_THROWS_AS(f.get(), task_cancelled);
  // More than there are slots: some wait in the pool's own list.
  std::vector<polyproc::future<void>> many;
  for (int i = 0; i < 20000; ++i) many.push_back(pool.submit(wait_at, never));
  auto const took = time_of([&] {
    for (std::size_t i = 0; i < many.size(); i += 2) CHECK(many[i].cancel());
    for (std::size_t i = many.size() - 1; i < many.size(); i -= 2) CHECK(many[i].cancel());
  });
  measured("cancelling 20000 waiting tasks", took, "quickly");
  for (auto& each : many) CHECK_THROWS_AS(each.get(), task_cancelled);
  CHECK(pool.stats().waiting == 0);
  held.let_go();
  held.task.get();
  CHECK(never->begun == 0);
  CHECK(pool.stats().cancelled == 20001);
  CHECK(pool.apply(square, 3) == 9);
  auto done = pool.submit(square, 4);
  done.wait();
  CHECK_FALSE(done.cancel());
  CHECK(done.get() == 16);
}

TEST_CASE_METHOD(tidy, "cancel ends an endless loop and all that its worker has started within 100 ms") {
  process_pool pool(2);
  for (int round = 0; round < 5; ++round) {
    shared_gate g;
    refs started(4);
    auto f = pool.submit(burn_with_child, g, started);
    auto const child = started.get(), worker = started.get();
    REQUIRE(until_begun(g));
    CHECK(child.is_alive());
    auto const took = time_of([&] {
      CHECK(f.cancel());
      CHECK(f.wait_for(patience));
      CHECK(child.join_for(patience));
      CHECK(worker.join_for(patience));
    });
    CHECK_THROWS_AS(f.get(), task_cancelled);
    measured("from cancel() to the end of an endless loop and its child", took, "100 ms");
    CHECK(took < gone_by);
    CHECK(pool.apply(square, round) == round * round);
  }
  CHECK(eventually([&] { return pool.worker_pids().size() == 2; }));
}

TEST_CASE_METHOD(tidy, "a task that sees that it is asked to stop ends by itself, and its worker lives on") {
  process_pool pool(1);
  auto const pid = pool.apply(own_pid);
  shared_gate g;
  auto f = pool.submit({.grace = 30s}, ends_when_asked, g, 0ms);
  REQUIRE(until_begun(g));
  CHECK(f.cancel());
  (void)f.cancel();  // once more; it may have ended by now
  CHECK_THROWS_AS(outcome_of(f), task_cancelled);
  CHECK(g->asked == 1);
  CHECK(pool.apply(own_pid) == pid);
  CHECK_FALSE(pool.apply([] { return polyproc::this_task::stop_requested(); }));
  auto limited = pool.submit({.time_limit = 50ms, .grace = 30s}, ends_when_asked, g, 0ms);
  CHECK_THROWS_AS(outcome_of(limited), time_limit_exceeded);
  CHECK(g->asked == 2);
  CHECK(pool.apply(own_pid) == pid);
}

TEST_CASE_METHOD(tidy, "a time limit ends a task, and all that it has started, within 100 ms of it") {
  process_pool pool(2);
  for (int round = 0; round < 3; ++round) {
    shared_gate g;
    refs started(4);
    auto const before = polyproc::native_backend::now();
    auto f = pool.submit({.name = "too slow", .time_limit = 1500ms}, burn_with_child, g, started);
    auto const child = started.get(), worker = started.get();
    REQUIRE(f.wait_for(patience));
    CHECK(child.join_for(patience));
    CHECK(worker.join_for(patience));
    auto const took = std::chrono::nanoseconds(polyproc::native_backend::now().time_since_epoch()) -
                      std::chrono::nanoseconds(g->asked);
    try {
      f.get();
      FAIL("it cannot have ended");
    } catch (time_limit_exceeded const& e) {
      CHECK(std::string(e.what()).find("too slow") != std::string::npos);
    }
    measured("a task with a limit of 1500 ms, and its child, are gone after", took, "1600 ms");
    CHECK(polyproc::native_backend::now() - before >= 1500ms);
    CHECK(took < 1500ms + gone_by);
  }
  CHECK(pool.apply(square, 3) == 9);
}

TEST_CASE_METHOD(tidy, "a deadline ends what runs, and what has not begun never begins") {
  process_pool pool(1);
  shared_gate g, never;
  auto const early = polyproc::native_backend::now() + 200ms;
  auto const deadline = early + 3s;  // so long after the others that this thread has looked by then
  auto runs = pool.submit({.deadline = deadline}, burn, g);
  auto waits = pool.submit({.deadline = early}, wait_at, never);
  std::vector<polyproc::future<void>> far_behind;
  for (int i = 0; i < 700; ++i) far_behind.push_back(pool.submit({.deadline = early}, wait_at, never));
  REQUIRE(waits.wait_for(patience));
  CHECK_FALSE(runs.ready());
  REQUIRE(runs.wait_for(patience));
  auto const late = polyproc::native_backend::now() - deadline;
  measured("a task is gone after its deadline by", late, "100 ms");
  CHECK(late < gone_by);
  CHECK_THROWS_AS(runs.get(), time_limit_exceeded);
  CHECK_THROWS_AS(waits.get(), time_limit_exceeded);
  for (auto& each : far_behind) CHECK_THROWS_AS(each.get(), time_limit_exceeded);
  CHECK(pool.apply(square, 3) == 9);
  CHECK(never->begun == 0);
  auto in_time = pool.submit({.deadline = polyproc::native_backend::now() + 1h}, square, 5);
  CHECK(in_time.get() == 25);
}

TEST_CASE_METHOD(tidy, "a time limit counts from the beginning of that task alone, also where others had limits before it") {
  process_pool pool(2);
  std::vector<polyproc::future<int>> all;
  for (int i = 0; i < 1000; ++i) all.push_back(pool.submit({.time_limit = 10s}, square, i));
  for (auto& f : all) (void)f.get();
  std::this_thread::sleep_for(2500ms);  // so long ago that it would be too late for the next ones
  auto const end = std::chrono::steady_clock::now() + 2s;
  int ended = 0, wrong = 0;
  while (std::chrono::steady_clock::now() < end) {
    all.clear();
    auto const begun = std::chrono::steady_clock::now();
    int late = 0;
    for (int i = 0; i < 200; ++i) all.push_back(pool.submit({.time_limit = 2s}, square, i));
    for (auto& f : all) {
      try {
        (void)f.get();
        ++ended;
      } catch (time_limit_exceeded const&) {
        ++late;
      }
    }
    if (std::chrono::steady_clock::now() - begun < 2s) wrong += late;  // else one of them may have been at it for so long
  }
  CHECK(wrong == 0);
  CHECK(ended > 0);
}

// --- Order and room.

TEST_CASE_METHOD(tidy, "one worker takes the highest priority first, and among equals the oldest") {
  process_pool pool(1);
  diary d;
  held_worker held(pool);
  std::vector<std::pair<int, std::uint32_t>> order;
  std::vector<polyproc::future<void>> all;
  std::uint32_t random = 7;
  for (std::uint32_t i = 0; i < 700; ++i) {
    random = random * 1103515245 + 12345;
    auto const priority = static_cast<int>(random >> 16) % 5 - 2;
    order.emplace_back(-priority, i);
    all.push_back(pool.submit({.priority = priority}, note, d, i));
  }
  held.let_go();
  for (auto& f : all) f.get();
  std::sort(order.begin(), order.end());
  int wrong = 0;
  for (std::uint32_t at = 0; at < order.size(); ++at) wrong += d.when[order[at].second] != at + 1;
  CHECK(wrong == 0);
}

TEST_CASE_METHOD(tidy, "an urgent task submitted behind 1000 others is the next") {
  for (int const common : {0, -5}) {
    process_pool pool(1);
    diary d;
    held_worker held(pool);
    std::vector<polyproc::future<void>> all;
    for (std::uint32_t i = 0; i < 1000; ++i) all.push_back(pool.submit({.priority = common}, note, d, i));
    for (std::uint32_t i = 1000; i < 1003; ++i) all.push_back(pool.submit({.priority = common + 1}, note, d, i));
    auto urgent = pool.submit({.priority = common + 2}, note, d, 1003U);
    held.let_go();
    urgent.get();
    for (auto& f : all) f.get();
    CHECK(d.when[1003] == 1);
    for (std::uint32_t i = 0; i < 3; ++i) CHECK(d.when[1000 + i] == 2 + i);
    for (std::uint32_t i = 0; i < 1000; i += 99) CHECK(d.when[i] == 5 + i);
  }
}

TEST_CASE_METHOD(tidy, "large requests and handles survive being taken back for something more urgent") {
  process_pool pool(1);
  held_worker held(pool);
  std::vector<polyproc::future<std::string>> large;
  std::vector<polyproc::queue<int>> queues;
  std::vector<polyproc::future<int>> sums;
  for (int i = 0; i < 50; ++i) {
    large.push_back(pool.submit(twice, std::string(static_cast<std::size_t>(i) * 200, 'l')));
    queues.emplace_back(4);
    queues.back().put(i);
    queues.back().close();
    sums.push_back(pool.submit(sum_of, queues.back()));
    if (i % 10 == 9) CHECK(pool.submit({.priority = i}, square, i).valid());
  }
  held.let_go();
  for (int i = 0; i < 50; ++i) {
    CHECK(large[static_cast<std::size_t>(i)].get().size() == static_cast<std::size_t>(i) * 400);
    CHECK(sums[static_cast<std::size_t>(i)].get() == i);
  }
}

TEST_CASE_METHOD(tidy, "a task is repeated as often as it may be, and no more") {
  process_pool pool(1);
  shared_gate twice_lost;
  CHECK(pool.apply({.retries = 2}, fails_at_first, twice_lost, 2L) == 8);
  CHECK(twice_lost->count == 3);
  CHECK(pool.stats().repeated == 2);
  shared_gate too_often;
  try {
    (void)pool.apply({.name = "fragile", .retries = 1}, fails_at_first, too_often, 2L);
    FAIL("it cannot have ended");
  } catch (worker_lost const& e) {
    CHECK(e.exit_code() == 3);
    CHECK(std::string(e.what()).find("fragile") != std::string::npos);
  }
  CHECK(too_often->count == 2);
  // With arguments that do not fit into a slot, and with handles.
  shared_gate once;
  auto f = pool.submit({.retries = 5}, [](shared_gate g, std::string text, polyproc::queue<int> q) {
    if (g->count.fetch_add(1) < 3) polyproc::native_backend::exit_now(3);
    q.put(static_cast<int>(text.size()));
    return text.size();
  }, once, std::string(300000, 'r'), polyproc::queue<int>(1));
  CHECK(outcome_of(f) == 300000);
}

TEST_CASE_METHOD(tidy, "what is encoded once more may ask the pool, and is cancelled like everything else") {
  process_pool pool(1);
  asks_its_pool::pool = &pool;
  asks_its_pool::written = 0;
  shared_gate g;
  auto f = pool.submit({.retries = 3}, value_at_second_try, asks_its_pool{8}, g);
  REQUIRE(f.wait_for(patience));
  CHECK(f.get() == 8);
  CHECK(asks_its_pool::written >= 2);
  CHECK(pool.stats().repeated == 1);
  asks_its_pool::pool = nullptr;
}

TEST_CASE_METHOD(tidy, "what there is no room for stays with its owner") {
  process_pool pool({.workers = 1, .max_waiting = 1});
  held_worker held(pool);
  auto first = pool.submit(square, 1);
  auto [from, to] = polyproc::pipe<int>(polyproc::one_way);
  CHECK_FALSE(pool.try_submit([](polyproc::pipe_writer<int> end) { end.send(7); }, std::move(to)));
  CHECK_FALSE(pool.submit_for(5ms, [](polyproc::pipe_writer<int> end) { end.send(7); }, std::move(to)));
  to.send(6);
  CHECK(from.recv() == 6);
  held.let_go();
  first.get();
  pool.submit([](polyproc::pipe_writer<int> end) { end.send(7); }, std::move(to)).get();
  CHECK(from.recv() == 7);
}

TEST_CASE_METHOD(tidy, "room: submit waits, try_submit does not, submit_for for a while; close lets them go") {
  process_pool pool({.workers = 1, .max_waiting = 2});
  held_worker held(pool);
  auto a = pool.submit(square, 1);
  auto b = pool.try_submit(square, 2);
  REQUIRE(b);
  CHECK_FALSE(pool.try_submit(square, 3));
  auto const took = time_of([&] { CHECK_FALSE(pool.submit_for(50ms, square, 3)); });
  CHECK(took >= 50ms);
  CHECK(took < 5s);
  auto waits = std::async(std::launch::async, [&] { return pool.submit(square, 4).get(); });
  auto waits_for = std::async(std::launch::async, [&] {
    auto f = pool.submit_for(patience, square, 5);
    return f ? f->get() : -1;
  });
  CHECK(waits.wait_for(50ms) == std::future_status::timeout);
  CHECK(b->cancel());
  CHECK(eventually([&] { return pool.stats().submitted >= 4; }));
  held.let_go();
  REQUIRE(waits.wait_for(patience) == std::future_status::ready);
  CHECK(waits.get() == 16);
  CHECK(waits_for.get() == 25);
  CHECK(a.get() == 1);

  held_worker again(pool);
  auto c = pool.submit(square, 1), d = pool.submit(square, 2);
  auto refused = std::async(std::launch::async, [&] { (void)pool.submit(square, 6); });
  CHECK(refused.wait_for(50ms) == std::future_status::timeout);
  pool.close();
  CHECK_THROWS_AS(refused.get(), std::logic_error);
  again.let_go();
  CHECK(c.get() == 1);
  CHECK(d.get() == 4);
}

TEST_CASE_METHOD(tidy, "room for few, a stream of many from several threads") {
  process_pool pool({.workers = 2, .max_waiting = 3});
  std::atomic<long> sum{0};
  std::vector<std::thread> all;
  for (int t = 0; t < 4; ++t)
    all.emplace_back([&] {
      std::vector<polyproc::future<int>> mine;
      for (int i = 0; i < 500; ++i) mine.push_back(pool.submit(square, 2));
      for (auto& f : mine) sum += f.get();
    });
  for (auto& t : all) t.join();
  CHECK(sum == 4 * 500 * 4);
  CHECK(pool.stats().done == 2000);
}

// --- Workers.

TEST_CASE_METHOD(tidy, "each worker runs the initializer once, and keeps what it returned") {
  shared_gate g;
  process_pool pool({.workers = 1, .initializer = {set_up, 7, g}});
  CHECK(pool.apply(use_workshop, 3) == 110);
  CHECK(pool.apply(use_workshop, 3) == 210);
  CHECK(pool.apply(number_of_worker) == 1);
  CHECK(polyproc::this_worker::number() == 0);
  CHECK(g->count == 1);
  CHECK_THROWS_AS(pool.apply(exit_with, 2), worker_lost);
  CHECK(pool.apply(use_workshop, 3) == 110);
  CHECK(g->count == 2);
  CHECK_THROWS_AS(pool.apply([] { return polyproc::this_worker::state<int>(); }), std::logic_error);
}

TEST_CASE_METHOD(tidy, "tasks_per_worker, memory_growth and idle_time replace workers, and no task is lost by it") {
  {
    process_pool pool({.workers = 1, .tasks_per_worker = 3});
    std::map<long, int> served;
    for (int i = 0; i < 12; ++i) ++served[pool.apply(own_pid)];
    CHECK(served.size() >= 4);
    for (auto const& each : served) CHECK(each.second == 3);
    CHECK(pool.stats().lost == 0);
  }
  if (auto const row = polyproc::native_backend::process_alone(own_pid()); row && row->memory) {
    process_pool pool({.workers = 1, .memory_growth = std::size_t{32} << 20});
    auto const first = pool.apply(own_pid);
    CHECK(pool.apply(pid_after, 150ms) == first);
    CHECK(pool.apply(eat_memory, std::size_t{64} << 20) == first);
    CHECK(eventually([&] { return pool.apply(pid_after, 20ms) != first; }, 10s));
    CHECK(pool.stats().lost == 0);
  }
  {
    process_pool pool({.workers = 2, .idle_time = 100ms});
    CHECK(pool.apply(square, 2) == 4);
    auto const took = time_of([&] { CHECK(eventually([&] { return pool.worker_pids().empty(); })); });
    measured("idle workers with an idle time of 100 ms are gone after", took, "some 100 ms");
    for (int i = 0; i < 100; ++i) CHECK(pool.apply(square, i) == i * i);
    CHECK(eventually([&] { return pool.worker_pids().empty(); }));
    auto f = pool.submit(square, 9);
    CHECK(outcome_of(f) == 81);
    CHECK(pool.stats().lost == 0);
  }
}

TEST_CASE_METHOD(tidy, "workers that leave at the very moment when tasks come: every task is done") {
  process_pool pool({.workers = 2, .tasks_per_worker = 2, .idle_time = 3ms});
  for (int i = 0; i < 60; ++i) {
    auto f = pool.submit(square, i), g = pool.submit(square, i);
    CHECK(outcome_of(f) == i * i);
    CHECK(outcome_of(g) == i * i);
    std::this_thread::sleep_for(std::chrono::milliseconds(i % 7));
  }
}

TEST_CASE_METHOD(tidy, "resize: more at once, fewer when they have done what they are doing") {
  process_pool pool(1);
  shared_gate g;
  std::vector<polyproc::future<void>> all;
  for (int i = 0; i < 4; ++i) all.push_back(pool.submit(wait_at, g));
  REQUIRE(until_begun(g));
  CHECK(g->begun == 1);
  pool.resize(4);
  CHECK(pool.size() == 4);
  CHECK(until_begun(g, 4));
  pool.resize(2);
  CHECK(pool.size() == 2);
  g->open = 1;
  for (auto& f : all) outcome_of(f);
  CHECK(eventually([&] { return pool.worker_pids().size() == 2; }));
  for (int round = 0; round < 20; ++round) {
    pool.resize(1 + static_cast<std::size_t>(round) % 4);
    CHECK(pool.apply(square, round) == round * round);
  }
  pool.resize(3);
  CHECK(eventually([&] { return pool.worker_pids().size() == 3; }));
  CHECK_THROWS_AS(pool.resize(0), std::invalid_argument);
  CHECK_THROWS_AS(pool.resize(100000), std::invalid_argument);
  CHECK(pool.stats().lost == 0);
}

TEST_CASE_METHOD(tidy, "stats say what was done, and what is under way") {
  process_pool pool(1);
  CHECK(pool.stats().submitted == 0);
  (void)pool.apply(square, 2);
  CHECK_THROWS_AS(pool.apply(throw_range), std::out_of_range);
  CHECK_THROWS_AS(pool.apply(exit_with, 4), worker_lost);
  held_worker held(pool);
  auto a = pool.submit(square, 1), b = pool.submit(square, 1);
  CHECK(b.cancel());
  auto const s = pool.stats();
  CHECK(s.workers == 1);
  CHECK(s.running == 1);
  CHECK(s.waiting == 1);
  CHECK(s.submitted == 6);
  CHECK(s.done == 1);
  CHECK(s.failed == 2);
  CHECK(s.cancelled == 1);
  CHECK(s.lost == 1);
  CHECK(s.restarted == 1);
  held.let_go();
  CHECK(a.get() == 1);
}

TEST_CASE_METHOD(tidy, "events come in order: a worker's start, its tasks' beginnings and ends, its end") {
  struct life {
    bool runs = false;
    std::string task;
  };
  std::mutex lock;
  std::map<long, life> workers;
  std::vector<std::string> wrong;
  std::map<std::string, int> counts;
  auto const see = [&](polyproc::pool_event const& e) {
    std::scoped_lock hold{lock};
    auto& w = workers[e.pid];
    auto const expect = [&](bool good, char const* what) {
      if (!good) wrong.push_back(std::string(what) + ": " + e.task + " " + e.how);
    };
    using kind = polyproc::pool_event::kind;
    switch (e.what) {
      case kind::worker_started:
        expect(!w.runs && e.pid > 0 && e.worker >= 1, "started twice");
        w = {true, ""};
        ++counts["started"];
        break;
      case kind::task_begun:
        expect(w.runs, "a task of a worker that does not run");
        expect(w.task.empty() && !e.task.empty(), "two tasks at once");
        w.task = e.task;
        ++counts["begun"];
        break;
      case kind::task_ended:
        expect(w.runs, "the end of a task of a worker that does not run");
        expect(w.task == e.task, "the end of another task");
        w.task.clear();
        ++counts[e.how];
        break;
      case kind::worker_ended:
        expect(w.runs && w.task.empty(), "the end of a worker with a task");
        w.runs = false;
        ++counts["ended"];
        break;
    }
  };
  {
    process_pool pool({.workers = 3, .tasks_per_worker = 20, .on_event = see});
    std::vector<polyproc::future<int>> all;
    for (int i = 0; i < 400; ++i) all.push_back(pool.submit({.name = "t" + std::to_string(i)}, square, i));
    std::vector<polyproc::future<long>> lost;
    for (int i = 0; i < 5; ++i) lost.push_back(pool.submit({.name = "e" + std::to_string(i)}, exit_with, 1));
    for (auto& f : all) (void)f.get();
    for (auto& f : lost) CHECK_THROWS_AS(f.get(), worker_lost);
    shared_gate g;
    auto cancelled = pool.submit({.name = "c"}, burn, g);
    REQUIRE(until_begun(g));
    CHECK(cancelled.cancel());
    CHECK_THROWS_AS(cancelled.get(), task_cancelled);
    auto failed = pool.submit({.name = "f"}, throw_range);
    CHECK_THROWS_AS(failed.get(), std::out_of_range);
  }
  CHECK(eventually([&] {
    std::scoped_lock hold{lock};
    return counts["ended"] == counts["started"];
  }));
  std::scoped_lock hold{lock};
  for (std::size_t i = 0; i < wrong.size() && i < 5; ++i) FAIL_CHECK(wrong[i]);
  CHECK(counts["begun"] == 407);
  CHECK(counts["value"] == 400);
  CHECK(counts["lost"] == 5);
  CHECK(counts["cancelled"] == 1);
  CHECK(counts["exception"] == 1);
  CHECK(counts["started"] >= 3 + 400 / 20 - 3);
}

TEST_CASE_METHOD(tidy, "events say why a task was ended") {
  struct heard_of {
    std::mutex lock;
    std::set<std::string> ends;
  };
  auto const heard = std::make_shared<heard_of>();  // the last events may come when this test is over
  auto const see = [heard](polyproc::pool_event const& e) {
    std::scoped_lock hold{heard->lock};
    if (e.what == polyproc::pool_event::kind::task_ended) heard->ends.insert(e.how);
  };
  {
    process_pool pool({.workers = 1, .on_event = see});
    shared_gate g;
    auto limited = pool.submit({.time_limit = 10ms, .grace = 1ms}, burn, g);
    CHECK_THROWS_AS(outcome_of(limited), time_limit_exceeded);
    int tries = 0;
    for (long const before = g->begun; g->begun == before && tries < 100; ++tries) {  // it may not have begun in time
      auto late = pool.submit({.deadline = polyproc::native_backend::now() + 200ms, .grace = 1ms}, burn, g);
      CHECK_THROWS_AS(outcome_of(late), time_limit_exceeded);
    }
    auto repeated = pool.submit({.retries = 1}, exit_with, 1);
    CHECK_THROWS_AS(outcome_of(repeated), worker_lost);
    auto listens = pool.submit({.time_limit = 10ms, .grace = 60s}, ends_when_asked, g, 0ms);
    CHECK_THROWS_AS(outcome_of(listens), time_limit_exceeded);
  }
  std::set<std::string> const expected{"time limit", "deadline", "lost", "lost, to be repeated"};
  CHECK(eventually([&] {
    std::scoped_lock hold{heard->lock};
    return heard->ends == expected;
  }));
  std::scoped_lock hold{heard->lock};
  CHECK(heard->ends == expected);
}

TEST_CASE_METHOD(tidy, "what is submitted after its deadline never begins, and costs no worker") {
  process_pool pool(1);
  shared_gate g;
  auto const pid = pool.apply(own_pid);
  for (int i = 0; i < 100; ++i) {
    auto f = pool.submit({.deadline = polyproc::native_backend::now() - 1ms}, wait_at, g);
    CHECK_THROWS_AS(outcome_of(f), time_limit_exceeded);
  }
  CHECK(g->begun == 0);
  CHECK(pool.apply(own_pid) == pid);
}

TEST_CASE_METHOD(tidy, "the longest times that there are mean no limit") {
  constexpr auto longest = std::chrono::milliseconds::max();
  process_pool pool({.workers = 1, .grace = longest, .idle_time = longest});
  auto const pid = pool.apply(own_pid);
  auto f = pool.submit({.time_limit = std::chrono::nanoseconds::max()}, own_pid);
  CHECK(outcome_of(f) == pid);
  shared_gate g;
  auto asked = pool.submit({.grace = longest}, ends_when_asked, g, 20ms);
  REQUIRE(until_begun(g));
  CHECK(asked.cancel());
  CHECK_THROWS_AS(outcome_of(asked), task_cancelled);
  CHECK(g->count == 1);
  CHECK(pool.apply(own_pid) == pid);
}

// --- Ends.

TEST_CASE_METHOD(tidy, "the destructor gives a task the pool's grace to end by itself, not the task's own") {
  shared_gate g;
  polyproc::future<int> f;
  {
    process_pool pool({.workers = 1, .grace = 30s});
    f = pool.submit(ends_when_asked, g, 400ms);
    REQUIRE(until_begun(g));
  }
  CHECK(g->asked == 1);
  CHECK(g->count == 1);
  CHECK(f.ready());
  CHECK_THROWS_AS(f.get(), task_cancelled);
}

TEST_CASE_METHOD(tidy, "terminate is bounded in time whatever runs, and whatever waits") {
  shared_gate g;
  process_pool pool({.workers = 2, .grace = 1h});
  std::vector<polyproc::future<void>> all;
  for (int i = 0; i < 1000; ++i) all.push_back(pool.submit(burn, g));
  REQUIRE(until_begun(g, 2));
  auto const took = time_of([&] { pool.terminate(); });
  measured("terminate() of 2 endless loops and 998 that wait", took, "some 100 ms");
  CHECK(took < 5s);
  for (auto& f : all) {
    CHECK(f.ready());
    CHECK_THROWS_AS(f.get(), task_cancelled);
  }
  CHECK(pool.worker_pids().empty());
  CHECK_THROWS_AS((void)pool.submit(square, 1), std::logic_error);
  pool.terminate();
  pool.join();
  pool.shutdown();
}

TEST_CASE_METHOD(tidy, "shutdown does what was submitted, or gives up what has not begun") {
  for (bool const give_up : {false, true}) {
    process_pool pool(1);
    held_worker held(pool);
    std::vector<polyproc::future<int>> all;
    for (int i = 0; i < 600; ++i) all.push_back(pool.submit(square, i));
    auto ends = std::async(std::launch::async, [&] { pool.shutdown(give_up); });
    if (give_up) CHECK(eventually([&] { return all[599].ready(); }));
    CHECK(ends.wait_for(20ms) == std::future_status::timeout);
    held.let_go();
    REQUIRE(ends.wait_for(patience) == std::future_status::ready);
    for (int i = 0; i < 600; ++i) {
      auto& f = all[static_cast<std::size_t>(i)];
      CHECK(f.ready());
      if (give_up) CHECK_THROWS_AS(f.get(), task_cancelled);
      else CHECK(f.get() == i * i);
    }
    held.task.get();
  }
}

TEST_CASE_METHOD(tidy, "close, shutdown, terminate and the destructor may be called by callbacks") {
  for (int const which : {0, 1, 2, 3}) {
    shared_gate g;
    auto pool = std::make_unique<process_pool>(2);
    auto busy = pool->submit(burn, g);
    REQUIRE(until_begun(g));
    std::vector<polyproc::future<int>> all;
    auto first = pool->submit(square, 3);
    std::promise<void> over;
    first.on_done([&](auto&) {
      if (which == 0) pool->close(), pool->terminate(), pool->join();
      if (which == 1) (void)busy.cancel(), pool->shutdown(true);
      if (which == 2) pool->terminate();
      if (which == 3) pool.reset();
      over.set_value();
    });
    REQUIRE(over.get_future().wait_for(patience) == std::future_status::ready);
    CHECK(busy.ready());
    CHECK_THROWS_AS(busy.get(), task_cancelled);
  }
}

TEST_CASE_METHOD(tidy, "ends by several threads at once, while others submit") {
  for (int round = 0; round < 8; ++round) {
    process_pool pool(2);
    std::atomic<int> refused{0}, ended{0};
    std::vector<std::thread> all;
    for (int t = 0; t < 3; ++t)
      all.emplace_back([&] {
        std::vector<polyproc::future<int>> mine;
        try {
          for (;;) mine.push_back(pool.submit(square, 2));
        } catch (std::logic_error const&) {
          ++refused;
        }
        for (auto& f : mine) {
          try {
            (void)f.get();
          } catch (task_cancelled const&) {
          }
          ++ended;
        }
      });
    std::this_thread::sleep_for(std::chrono::milliseconds(5 * round));
    std::thread one([&] { pool.terminate(); }), two([&] { pool.shutdown(true); });
    one.join();
    two.join();
    for (auto& t : all) t.join();
    CHECK(refused == 3);
    CHECK(static_cast<std::uint64_t>(ended) == pool.stats().submitted);
  }
}

TEST_CASE_METHOD(tidy, "futures outlive their pool") {
  std::vector<polyproc::future<std::string>> all;
  polyproc::future<int> never;
  {
    process_pool pool(2);
    for (int i = 0; i < 100; ++i) all.push_back(pool.submit(twice, std::string(static_cast<std::size_t>(i) * 100, 'o')));
    pool.close();
    pool.join();
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(all[i].ready());
    CHECK_FALSE(all[i].cancel());
    CHECK(all[i].get().size() == 200 * i);
  }
}

TEST_CASE_METHOD(tidy, "a future that was dropped: its task is done, and its worker's death is nobody's problem") {
  process_pool pool(1);
  shared_gate g;
  for (int i = 0; i < 10; ++i) (void)pool.submit([](shared_gate at) { at->count += 1; }, g);
  (void)pool.submit(exit_with, 1);
  for (int i = 0; i < 10; ++i) (void)pool.submit([](shared_gate at) { at->count += 1; }, g);
  pool.close();
  pool.join();
  CHECK(g->count == 20);
}

TEST_CASE_METHOD(tidy, "what the result of a cancelled task holds is let go") {
  process_pool pool(1);
  auto const before = polyproc::detail::arena<polyproc::native_backend>::used_bytes();
  {
    shared_gate g;
    auto f = pool.submit({.grace = std::chrono::milliseconds(patience)}, [](shared_gate at) {
      at->begun = 1;
      while (at->open == 0) std::this_thread::sleep_for(1ms);
      return polyproc::shared<std::array<char, 100000>>();
    }, g);
    REQUIRE(until_begun(g));
    CHECK(f.cancel());
    g->open = 1;
    REQUIRE(f.wait_for(patience));
    CHECK_THROWS_AS(f.get(), polyproc::task_cancelled);
  }
  CHECK(eventually([&] { return polyproc::detail::arena<polyproc::native_backend>::used_bytes() <= before; }));
}

TEST_CASE_METHOD(tidy, "[H15] a program that ends with work in a pool, destroyed or not, leaves nothing behind") {
  for (bool const destroyed : {true, false}) {
    shared_gate g;
    refs started(20);
    polyproc::process program{polyproc::start::spawn, leave_static_pool, g, started, destroyed};
    auto const begin = std::chrono::steady_clock::now();
    program.start();
    REQUIRE(program.join_for(patience));
    measured("a program that leaves a busy pool ends within", std::chrono::steady_clock::now() - begin, "some seconds");
    CHECK(program.exit_code() == 0);
    int seen = 0;
    while (auto const one = started.try_get()) {
      CHECK(one->join_for(10s));
      ++seen;
    }
    CHECK(seen == 4);
  }
}

// --- Where pools are used, and with what.

TEST_CASE_METHOD(tidy, "pools in pools, and in processes of every kind, with workers of every kind") {
  process_pool pool(2);
  CHECK(pool.apply(nest, 3) == 4);
  CHECK(pool.map(sum_by_pool, std::vector<int>{1, 2, 3}) == std::vector<long>{9, 18, 27});
  for (auto const method : start_methods()) {
    INFO(name_of(method));
#if defined(POLYPROC_TEST_THREAD_SANITIZER)
    if (method == polyproc::start_method::fork) continue;  // the sanitizer allows a forked child no threads
#endif
    process_pool own({.workers = 2, .start = method});
    CHECK(own.apply(square, 5) == 25);
    CHECK_THROWS_AS(own.apply(exit_with, 5), worker_lost);
    CHECK(own.apply(sum_by_pool, 4) == 36);
    shared_gate g;
    polyproc::process user{{.start = method}, note_sum_by_pool, g, 10};
    user.start();
    REQUIRE(user.join_for(patience));
    CHECK(user.exit_code() == 0);
    CHECK(g->count == 90);
  }
}

TEST_CASE_METHOD(tidy, "several threads submit large and small tasks at once") {
  process_pool pool(3);
  std::atomic<int> wrong{0};
  std::vector<std::thread> all;
  for (int t = 0; t < 4; ++t)
    all.emplace_back([&, t] {
      for (int i = 0; i < 30; ++i) {
        auto const size = i % 10 == 0 ? std::size_t{3} << 20 : 900 + static_cast<std::size_t>(i) * 9;
        std::string const text(size, static_cast<char>('a' + t));
        auto a = pool.submit(twice, text);
        auto b = pool.submit(square, i);
        wrong += b.get() != i * i;
        wrong += a.get() != text + text;
      }
    });
  for (auto& t : all) t.join();
  CHECK(wrong == 0);
}

TEST_CASE_METHOD(tidy, "queues and pipes are arguments and results of tasks") {
  process_pool pool(1);
  polyproc::queue<int> q(3);
  auto sum = pool.submit(sum_of, q);
  for (int i = 1; i <= 100; ++i) q.put(i);
  q.close();
  CHECK(outcome_of(sum) == 5050);
  auto [here, there] = polyproc::pipe<int>();
  auto squares = pool.submit(send_square, std::move(there));
  for (int i = 0; i < 10; ++i) {
    here.send(i);
    CHECK(here.recv() == i * i);
  }
  here.close();
  outcome_of(squares);
  auto made = pool.apply(make_queue, 42);
  CHECK(made.get() == 42);
}

TEST_CASE_METHOD(tidy, "wait_any names the future that is ready") {
  process_pool pool(2);
  held_worker held(pool);
  polyproc::queue<int> q(1);
  auto quick = pool.submit(square, 6);
  CHECK(polyproc::wait_any(held.task, quick, q) == 1);
  CHECK(quick.get() == 36);
  auto lost = pool.submit(exit_with, 1);
  CHECK(polyproc::wait_any(held.task, q, lost) == 2);
  CHECK_FALSE(polyproc::wait_any_for(10ms, held.task, q));
  held.let_go();
  CHECK(polyproc::wait_any(q, held.task) == 1);
}

TEST_CASE_METHOD(tidy, "10000 futures call back, once each, though nobody waits for them") {
  process_pool pool(2);
  std::atomic<int> values{0}, lost{0}, others{0};
  for (int i = 0; i < 10000; ++i) {
    auto const count = [&](auto& f) {
      if (f.exception()) ++lost;
      else if (f.get() == 9) ++values;
      else ++others;
    };
    if (i % 1000 == 999) pool.submit([](int) -> int { polyproc::native_backend::exit_now(1); }, i).on_done(count);
    else pool.submit(square, 3).on_done(count);
  }
  CHECK(eventually([&] { return values + lost + others == 10000; }));
  CHECK(values == 9990);
  CHECK(lost == 10);
}

TEST_CASE_METHOD(tidy, "idle workers and their pool use no measurable processor time") {
  process_pool pool(4);
  for (int i = 0; i < 100; ++i) (void)pool.apply(square, i);
  auto const used = [&] {
    auto sum = std::chrono::microseconds(static_cast<long long>(1e6 * static_cast<double>(std::clock()) / CLOCKS_PER_SEC));
#if defined(_WIN32)
    sum = {};  // there that is the clock on the wall
#endif
    for (auto const pid : pool.worker_pids())
      if (auto const row = polyproc::native_backend::process_alone(pid); row && row->cpu_time) sum += *row->cpu_time;
    return sum;
  };
  std::this_thread::sleep_for(200ms);
  auto const before = used();
  std::this_thread::sleep_for(4s);
  auto const took = used() - before;
  std::printf("measured: 4 idle workers and their pool used %.1f ms of processor time in 4 s\n",
              static_cast<double>(took.count()) / 1000);
  CHECK(took < 100ms);
}
