#include "support/tidy.hpp"

#include <csignal>

#include <numeric>

using namespace std::chrono_literals;

namespace {

struct gate {
  std::atomic<long> begun{0};
  std::atomic<long> open{0};
};

int square(int x) { return x * x; }
void nothing(int) {}
std::string twice(std::string const& s) { return s + s; }
long which_process() { return polyproc::this_process::pid(); }
int fail(std::string const& how) {
  if (how == "range") throw std::out_of_range("too far");
  if (how == "own") throw 42;
  if (how == "exit") polyproc::native_backend::exit_now(3);
  throw std::runtime_error(how);
}
void wait_at(polyproc::shared<gate> g) {
  g->begun += 1;
  while (g->open == 0) std::this_thread::sleep_for(1ms);
}
long die_at(polyproc::shared<gate> g) {
  g->begun = polyproc::this_process::pid();
  for (;;) std::this_thread::sleep_for(1h);
}
void put(polyproc::queue<int> q, int value) { q.put(value); }
long nested(int n) {
  polyproc::process_pool inner(2);
  auto const all = inner.map(square, std::vector<int>(static_cast<std::size_t>(n), 2));
  return std::accumulate(all.begin(), all.end(), 0L);
}

long until_begun(polyproc::shared<gate> const& g) {
  while (g->begun == 0) polyproc::native_backend::yield();
  return g->begun;
}

}  // namespace

TEST_CASE_METHOD(tidy, "submitted functions run in workers and their results come back") {
  polyproc::process_pool pool(2);
  CHECK(pool.size() == 2);
  std::vector<polyproc::future<int>> all;
  for (int i = 0; i < 200; ++i) all.push_back(pool.submit(square, i));
  for (int i = 0; i < 200; ++i) CHECK(all[static_cast<std::size_t>(i)].get() == i * i);
  CHECK(pool.apply(which_process) != polyproc::this_process::pid());
  pool.submit(nothing, 1).get();
  CHECK(pool.apply([](int a, int b) { return a + b; }, 2, 3) == 5);
}

TEST_CASE_METHOD(tidy, "arguments and results of any size pass, and their memory is given back") {
  polyproc::process_pool pool(1);
  auto const before = polyproc::detail::arena<polyproc::native_backend>::used_bytes();
  std::vector<std::size_t> sizes{3000, 3968, 4000, std::size_t{1} << 20, std::size_t{8} << 20};
  // Around all the places where a request or a result can lie.
  for (std::size_t size = 0; size < 1000; size += size < 40 || size > 440 ? 1 : 50) sizes.push_back(size);
  for (auto const size : sizes) {
    auto text = std::string(size, 'x');
    for (std::size_t i = 0; i < size; i += 3) text[i] = static_cast<char>('a' + i % 26);
    CHECK(pool.apply(twice, text) == text + text);
  }
  CHECK(polyproc::detail::arena<polyproc::native_backend>::used_bytes() == before);
}

TEST_CASE_METHOD(tidy, "map keeps the order of its items") {
  polyproc::process_pool pool(3);
  std::vector<int> in(1001);
  std::iota(in.begin(), in.end(), 0);
  auto const out = pool.map(square, in);
  REQUIRE(out.size() == in.size());
  for (std::size_t i = 0; i < in.size(); ++i) CHECK(out[i] == in[i] * in[i]);
  CHECK(pool.map(square, std::vector<int>{}).empty());
  CHECK(pool.map([](int x) { return std::to_string(x); }, std::vector<int>{1, 2}) == std::vector<std::string>{"1", "2"});
}

TEST_CASE_METHOD(tidy, "[H8] exceptions cross as themselves where the type is a standard one") {
  polyproc::process_pool pool(1);
  CHECK_THROWS_AS(pool.apply(fail, "range"), std::out_of_range);
  CHECK_THROWS_WITH(pool.apply(fail, "range"), "too far");
  CHECK_THROWS_AS(pool.apply(fail, "plain"), std::runtime_error);
  CHECK_THROWS_AS(pool.apply(fail, "own"), polyproc::remote_error);
  CHECK(pool.apply(square, 3) == 9);
}

TEST_CASE_METHOD(tidy, "[H1] a killed worker fails the one task it was running, saying who and how") {
  polyproc::process_pool pool(2);
  polyproc::shared<gate> g;
  auto lost = pool.submit(die_at, g);
  auto const pid = until_begun(g);
  std::vector<polyproc::future<int>> others;
  for (int i = 0; i < 50; ++i) others.push_back(pool.submit(square, i));
  CHECK(pool.kill_worker(pid));
  try {
    (void)lost.get();
    FAIL("the task cannot have ended");
  } catch (polyproc::worker_lost const& e) {
    CHECK(e.pid() == pid);
    CHECK(e.signal() == 9);
    CHECK(e.exit_code() == -9);
    CHECK(std::string(e.what()).find(std::to_string(pid)) != std::string::npos);
  }
  for (int i = 0; i < 50; ++i) CHECK(others[static_cast<std::size_t>(i)].get() == i * i);
}

TEST_CASE_METHOD(tidy, "[H2] the pool replaces the dead and is never broken") {
  polyproc::process_pool pool(2);
  for (int round = 0; round < 5; ++round) {
    polyproc::shared<gate> g;
    auto lost = pool.submit(die_at, g);
    CHECK(pool.kill_worker(until_begun(g)));
    CHECK_THROWS_AS(lost.get(), polyproc::worker_lost);
    CHECK(pool.apply(square, round) == round * round);
  }
  CHECK_THROWS_AS(pool.apply(fail, "exit"), polyproc::worker_lost);
  CHECK(pool.apply(square, 4) == 16);
}

TEST_CASE_METHOD(tidy, "idle workers that are killed cost nothing but their replacement") {
  polyproc::process_pool pool(2);
  CHECK(pool.apply(square, 2) == 4);
  for (int round = 0; round < 3; ++round) {
    for (auto const pid : pool.worker_pids()) (void)pool.kill_worker(pid);
    std::vector<polyproc::future<int>> all;
    for (int i = 0; i < 20; ++i) all.push_back(pool.submit(square, i));
    for (int i = 0; i < 20; ++i) CHECK(all[static_cast<std::size_t>(i)].get() == i * i);
  }
}

TEST_CASE_METHOD(tidy, "close refuses new tasks and join waits for the old ones") {
  polyproc::process_pool pool(2);
  polyproc::shared<gate> g;
  std::vector<polyproc::future<void>> all;
  for (int i = 0; i < 4; ++i) all.push_back(pool.submit(wait_at, g));
  CHECK_THROWS_AS(pool.join(), std::logic_error);
  pool.close();
  CHECK_THROWS_AS((void)pool.submit(square, 1), std::logic_error);
  CHECK_FALSE(all[3].ready());
  g->open = 1;
  pool.join();
  for (auto& f : all) {
    CHECK(f.ready());
    f.get();
  }
  pool.join();
}

TEST_CASE_METHOD(tidy, "[H13] a destroyed or terminated pool gives its tasks up, within bounds") {
  polyproc::shared<gate> g;
  std::vector<polyproc::future<void>> all;
  auto const begin = std::chrono::steady_clock::now();
  {
    polyproc::process_pool pool(polyproc::process_pool_options{.workers = 1, .grace = 50ms});
    for (int i = 0; i < 3; ++i) all.push_back(pool.submit(wait_at, g));
    while (g->begun == 0) polyproc::native_backend::yield();
  }
  for (auto& f : all) {
    CHECK(f.ready());
    CHECK_THROWS_AS(f.get(), polyproc::task_cancelled);
  }
  polyproc::process_pool pool(2);
  auto f = pool.submit(wait_at, g);
  pool.terminate();
  CHECK_THROWS_AS(f.get(), polyproc::task_cancelled);
  pool.join();
  CHECK(std::chrono::steady_clock::now() - begin < 30s);
}

TEST_CASE_METHOD(tidy, "a future waits with a limit, and gives its value once") {
  polyproc::process_pool pool(1);
  polyproc::shared<gate> g;
  auto f = pool.submit(wait_at, g);
  CHECK_FALSE(f.wait_for(10ms));
  CHECK_FALSE(f.ready());
  g->open = 1;
  CHECK(f.wait_for(60s));
  f.get();
  CHECK_FALSE(f.valid());
  CHECK_THROWS_AS(f.get(), std::logic_error);
}

TEST_CASE_METHOD(tidy, "queues and shared objects are arguments of tasks, also when made after the workers") {
  polyproc::process_pool pool(2);
  polyproc::queue<int> q(10);
  auto f = pool.submit(put, q, 7);
  CHECK(q.get() == 7);
  f.get();
}

TEST_CASE_METHOD(tidy, "[H16] a task may use a pool of its own") {
  polyproc::process_pool pool(1);
  CHECK(pool.apply(nested, 10) == 40);
}

#if !defined(_WIN32)
TEST_CASE_METHOD(tidy, "[H54] Ctrl-C does not reach the workers: only the process that owns the pool decides") {
  polyproc::process_pool pool(2);
  for (int i = 0; i < 10; ++i) {
    auto f = pool.submit([](int x) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      return 2 * x;
    }, i);
    for (long const pid : pool.worker_pids()) ::kill(static_cast<pid_t>(pid), SIGINT);
    CHECK(f.get() == 2 * i);
  }
}
#endif
