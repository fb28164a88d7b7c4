#include "support/tidy.hpp"

#include <ctime>
#include <numeric>

using namespace std::chrono_literals;

namespace {

/// What tasks wait at until somebody opens it. They do not look whether they are asked to stop.
struct gate {
  std::atomic<int> begun{0};
  std::atomic<bool> open{false};
  void pass() {
    ++begun;
    while (!open) std::this_thread::sleep_for(1ms);
  }
  void until_begun(int n) const {
    while (begun < n) polyproc::native_backend::yield();
  }
};
/// Opens it at the end of the test, whatever happens.
struct opened_at_end {
  gate& which;
  ~opened_at_end() { which.open = true; }
};

/// Runs until it is asked to stop.
void until_asked(std::atomic<int>& begun) {
  ++begun;
  while (!polyproc::this_task::stop_requested()) std::this_thread::sleep_for(1ms);
}
void until(std::atomic<int> const& value, int n) {
  while (value < n) polyproc::native_backend::yield();
}

/// A program that ends while a thread of its pool goes on for ever.
void leave_pool_to_itself(polyproc::shared<std::atomic<bool>> begun) {
  polyproc::thread_pool pool(1);
  pool.post([begun] {
    *begun = true;
    for (;;) std::this_thread::sleep_for(1ms);
  });
  while (!*begun) polyproc::native_backend::yield();
  pool.detach();
}

long fib(polyproc::thread_pool& pool, int n) {
  if (n < 2) return n;
  auto a = pool.submit([&pool, n] { return fib(pool, n - 1); });
  auto b = pool.submit([&pool, n] { return fib(pool, n - 2); });
  return a.get() + b.get();
}

}  // namespace

TEST_CASE_METHOD(tidy, "what is submitted runs in the pool's threads and its results come back") {
  polyproc::thread_pool pool(2);
  CHECK(pool.size() == 2);
  std::vector<polyproc::future<int>> all;
  for (int i = 0; i < 1000; ++i) all.push_back(pool.submit([i] { return i * i; }));
  for (int i = 0; i < 1000; ++i) CHECK(all[static_cast<std::size_t>(i)].get() == i * i);
  CHECK(pool.apply([] { return std::this_thread::get_id(); }) != std::this_thread::get_id());
  CHECK(pool.apply([](int a, std::string const& b) { return b + std::to_string(a); }, 2, "x") == "x2");
  pool.submit([] {}).get();
  struct has_run {
    int run(int x) { return x + 1; }
  };
  CHECK(pool.apply(has_run{}, 1) == 2);
  std::string text = "abc";
  CHECK(pool.apply(&std::string::size, text) == 3);
}

TEST_CASE_METHOD(tidy, "callables, arguments and results that can only be moved are moved") {
  polyproc::thread_pool pool(1);
  using owned = std::unique_ptr<int>;
  auto f = pool.submit([held = std::make_unique<int>(1)](owned given) { return std::make_unique<int>(*held + *given); },
                       std::make_unique<int>(2));
  CHECK(*f.get() == 3);
  std::vector<owned> items;
  for (int i = 0; i < 10; ++i) items.push_back(std::make_unique<int>(i));
  auto const out = pool.map([held = std::make_unique<int>(10)](owned x) { return *x + *held; }, std::move(items));
  for (int i = 0; i < 10; ++i) CHECK(out[static_cast<std::size_t>(i)] == i + 10);
}

TEST_CASE_METHOD(tidy, "what a task holds is gone before its future is ready") {
  gate g;
  polyproc::thread_pool pool(1);
  opened_at_end const at_end{g};
  auto const held = std::make_shared<int>(1);
  for (int i = 0; i < 100; ++i) {
    pool.submit([held] {}).get();
    CHECK(held.use_count() == 1);
  }
  auto busy = pool.submit([&] { g.pass(); });
  auto f = pool.submit([held] {});
  CHECK(f.cancel());
  CHECK(held.use_count() == 1);
}

TEST_CASE_METHOD(tidy, "exceptions arrive as themselves") {
  struct own {
    int value;
  };
  polyproc::thread_pool pool(2);
  CHECK_THROWS_AS(pool.apply([] { throw own{3}; }), own);
  auto f = pool.submit([]() -> int { throw std::out_of_range("too far"); });
  CHECK_THROWS_WITH(f.get(), "too far");
  CHECK(pool.apply([] { return 1; }) == 1);
}

TEST_CASE_METHOD(tidy, "the oldest first; higher priorities before lower ones, also before what a worker has taken along") {
  polyproc::thread_pool pool(1);
  gate g;
  auto busy = pool.submit([&] { g.pass(); });
  g.until_begun(1);
  std::vector<int> order;  // one worker: no lock
  std::vector<polyproc::future<void>> all;
  for (int i = 0; i < 100; ++i) all.push_back(pool.submit([&order, i] { order.push_back(i); }));
  all.push_back(pool.submit({.priority = -1}, [&] { order.push_back(-1); }));
  all.push_back(pool.submit({.priority = 5}, [&] { order.push_back(1005); }));
  all.push_back(pool.submit({.priority = 7}, [&] { order.push_back(1007); }));
  all.push_back(pool.submit({.priority = 5}, [&] { order.push_back(2005); }));
  g.open = true;
  for (auto& f : all) f.get();
  std::vector<int> expected{1007, 1005, 2005};
  for (int i = 0; i < 100; ++i) expected.push_back(i);
  expected.push_back(-1);
  CHECK(order == expected);

  // Submitted while the worker is in the middle of many.
  order.clear();
  all.clear();
  g.open = false;
  for (int i = 0; i < 100; ++i)
    all.push_back(pool.submit([&, i] {
      order.push_back(i);
      if (i == 3) g.pass();
    }));
  g.until_begun(2);
  all.push_back(pool.submit({.priority = 1}, [&] { order.push_back(1000); }));
  g.open = true;
  for (auto& f : all) f.get();
  CHECK(order[4] == 1000);
  CHECK(order.size() == 101);
}

TEST_CASE_METHOD(tidy, "[H4] a queued task that is cancelled never begins, and its future is ready at once") {
  polyproc::thread_pool pool(1);
  gate g;
  opened_at_end const at_end{g};
  auto busy = pool.submit([&] { g.pass(); });
  g.until_begun(1);
  std::atomic<int> ran{0};
  std::vector<polyproc::future<void>> all;
  for (int i = 0; i < 50; ++i) all.push_back(pool.submit([&] { ++ran; }));
  for (auto& f : all) {
    CHECK(f.cancel());
    CHECK(f.ready());
    CHECK_FALSE(f.cancel());
    CHECK_THROWS_AS(f.get(), polyproc::task_cancelled);
  }
  CHECK(pool.stats().cancelled == 50);
  CHECK(pool.stats().waiting == 0);
  auto after = pool.submit([] { return 7; });
  g.open = true;
  CHECK(after.get() == 7);
  CHECK(ran == 0);
  CHECK_FALSE(busy.cancel());
  busy.get();
}

TEST_CASE_METHOD(tidy, "[H4] a running task that is cancelled is asked to stop, and is task_cancelled when it has ended") {
  polyproc::thread_pool pool(1);
  std::atomic<int> begun{0};
  auto f = pool.submit([&] {
    until_asked(begun);
    return 1;
  });
  until(begun, 1);
  CHECK(f.cancel());
  CHECK(f.cancel());
  CHECK_THROWS_AS(f.get(), polyproc::task_cancelled);

  auto sleeper = pool.submit([&] {
    ++begun;
    return polyproc::this_task::sleep_for(1h);
  });
  until(begun, 2);
  CHECK(sleeper.cancel());
  CHECK_THROWS_AS(sleeper.get(), polyproc::task_cancelled);

  // A copy of its token may outlive it.
  polyproc::stop_token kept;
  auto giver = pool.submit([&] {
    kept = polyproc::this_task::get_stop_token();
    until_asked(begun);
    polyproc::this_task::throw_if_stop_requested();
  });
  until(begun, 3);
  CHECK_FALSE(kept.stop_requested());
  CHECK(giver.cancel());
  CHECK_THROWS_AS(giver.get(), polyproc::task_cancelled);
  CHECK(kept.stop_requested());
  // The next one is not asked.
  CHECK_FALSE(pool.apply([] { return polyproc::this_task::stop_requested(); }));
  CHECK_FALSE(polyproc::this_task::stop_requested());
}

TEST_CASE_METHOD(tidy, "[H5] a time limit counts from the beginning, and asks the task to stop") {
  polyproc::thread_pool pool(1);
  std::atomic<int> begun{0};
  gate g;
  auto busy = pool.submit([&] { g.pass(); });
  auto limited = pool.submit({.name = "limited", .time_limit = 20ms}, [&] { until_asked(begun); });
  auto quick = pool.submit({.time_limit = 1h}, [] { return 5; });
  std::this_thread::sleep_for(40ms);  // more than the limit, and it does not run yet
  CHECK_FALSE(limited.ready());
  CHECK(begun == 0);
  g.open = true;
  CHECK_THROWS_AS(limited.get(), polyproc::time_limit_exceeded);
  CHECK(begun == 1);
  CHECK(quick.get() == 5);
  CHECK(pool.stats().cancelled == 1);
}

TEST_CASE_METHOD(tidy, "[H5] what has not begun at its deadline never does; what runs then is asked to stop") {
  polyproc::thread_pool pool(1);
  std::atomic<int> begun{0};
  auto running = pool.submit({.deadline = std::chrono::steady_clock::now() + 1s}, [&] { until_asked(begun); });
  until(begun, 1);
  CHECK_THROWS_AS(running.get(), polyproc::time_limit_exceeded);
  gate g;
  opened_at_end const at_end{g};
  auto busy = pool.submit([&] { g.pass(); });
  g.until_begun(1);
  auto late = pool.submit({.deadline = std::chrono::steady_clock::now() + 10ms}, [&] { ++begun; });
  CHECK_THROWS_AS(late.get(), polyproc::time_limit_exceeded);  // while the only worker is busy
  auto passed = pool.submit({.deadline = std::chrono::steady_clock::now() - 1s}, [&] { ++begun; });
  CHECK_THROWS_AS(passed.get(), polyproc::time_limit_exceeded);
  g.open = true;
  pool.submit([] {}).get();
  CHECK(begun == 1);
}

TEST_CASE_METHOD(tidy, "[H11] where waiting tasks are bounded, submission waits, or says that there is no room") {
  polyproc::thread_pool pool(polyproc::thread_pool_options{.workers = 1, .max_waiting = 2});
  gate g;
  opened_at_end const at_end{g};
  auto busy = pool.submit([&] { g.pass(); });
  g.until_begun(1);
  auto first = pool.submit([] { return 1; });
  auto second = pool.try_submit([] { return 2; });
  REQUIRE(second);
  auto kept = std::make_unique<int>(3);
  CHECK_FALSE(pool.try_submit([](std::unique_ptr<int> x) { return *x; }, std::move(kept)));
  REQUIRE(kept);
  CHECK(*kept == 3);
  CHECK_FALSE(pool.submit_for(10ms, [] {}));
  CHECK(pool.stats().waiting == 2);
  // Cancelling makes room.
  CHECK(first.cancel());
  auto third = pool.submit_for(1h, [](std::unique_ptr<int> x) { return *x; }, std::move(kept));
  REQUIRE(third);
  CHECK_FALSE(pool.try_submit({.priority = 1}, [] {}));
  std::atomic<int> got_in{0};
  std::thread other([&] {
    auto f = pool.submit([] { return 4; });
    ++got_in;
    CHECK(f.get() == 4);
  });
  CHECK(got_in == 0);
  g.open = true;
  other.join();
  CHECK(second->get() == 2);
  CHECK(third->get() == 3);
  // A task of the pool's own does not wait for itself.
  CHECK(pool.apply([&] {
    std::vector<polyproc::future<int>> all;
    for (int i = 0; i < 10; ++i) all.push_back(pool.submit([i] { return i; }));
    int sum = 0;
    for (auto& f : all) sum += f.get();
    return sum;
  }) == 45);
}

TEST_CASE_METHOD(tidy, "[H11] many who wait for room all get in, and closing sends them away") {
  polyproc::thread_pool pool(polyproc::thread_pool_options{.workers = 2, .max_waiting = 3});
  std::atomic<int> ran{0};
  std::vector<std::thread> crowd;
  for (int t = 0; t < 4; ++t)
    crowd.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        if (i % 2 == 0) pool.post([&] { ++ran; });
        else (void)pool.submit([&] { ++ran; });
      }
    });
  for (auto& each : crowd) each.join();
  crowd.clear();
  while (ran < 2000) polyproc::native_backend::yield();
  gate g;
  opened_at_end const at_end{g};
  for (int i = 0; i < 5; ++i) pool.post([&] { g.pass(); });
  std::atomic<int> sent_away{0};
  for (int t = 0; t < 3; ++t)
    crowd.emplace_back([&] {
      try {
        (void)pool.submit([] {});
        (void)pool.submit([] {});
      } catch (std::logic_error const&) {
        ++sent_away;
      }
    });
  std::this_thread::sleep_for(10ms);
  pool.close();
  for (auto& each : crowd) each.join();
  CHECK(sent_away == 3);
  g.open = true;
  pool.join();
}

TEST_CASE_METHOD(tidy, "[H12] tasks that wait for tasks of their pool do not deadlock, however deep") {
  for (std::size_t const workers : {1U, 2U}) {
    polyproc::thread_pool pool(workers);
    CHECK(pool.apply([&] { return fib(pool, 20); }) == 6765);
    CHECK(fib(pool, 10) == 55);
  }
  polyproc::thread_pool pool(1);
  CHECK(pool.apply([&] {
    auto const squares = pool.map([](int x) { return x * x; }, std::vector<int>(100, 2));
    int sum = std::accumulate(squares.begin(), squares.end(), 0);
    for (auto const r : pool.imap([](int x) { return x; }, std::vector<int>(50, 1))) sum += r;
    for (auto const r : pool.imap_unordered([](int x) { return x; }, std::vector<int>(50, 1))) sum += r;
    pool.for_each([](int) {}, std::vector<int>(50, 1));
    return sum;
  }) == 500);
}

TEST_CASE_METHOD(tidy, "[H12] while a worker waits by a future for something else, another thread goes on in its place") {
  polyproc::thread_pool pool(1);
  // Five that wait for the last one, which is no task of this pool when they begin to wait.
  polyproc::promise<int> given;
  auto const shared = given.get_future().share();
  std::atomic<int> begun{0};
  std::vector<polyproc::future<int>> all;
  for (int i = 0; i < 5; ++i)
    all.push_back(pool.submit([&, shared] {
      ++begun;
      return shared.get();
    }));
  until(begun, 5);
  auto giver = pool.submit([&] { given.set_value(4); });
  for (auto& f : all) CHECK(f.get() == 4);
  giver.get();
  // Waiting with a deadline.
  CHECK(pool.apply([&] {
    auto f = pool.submit([] { return 1; });
    return f.wait_for(1h) && f.get() == 1;
  }));
}

TEST_CASE_METHOD(tidy, "[H12] nothing else runs on top of a task that waits") {
  polyproc::thread_pool pool(2);
  std::atomic<int> unrelated_on_top{0};
  static thread_local int depth = 0;
  std::vector<polyproc::future<void>> all;
  for (int i = 0; i < 200; ++i)
    all.push_back(pool.submit([&] {
      if (depth != 0) ++unrelated_on_top;
      ++depth;
      auto inner = pool.submit([] { return depth; });  // this one may, for it is waited for
      (void)inner.get();
      --depth;
    }));
  for (auto& f : all) f.get();
  CHECK(unrelated_on_top == 0);
}

#if !defined(_WIN32)
TEST_CASE_METHOD(tidy, "[H12] spare threads are bounded in number and end when they are not needed") {
  auto const before = inventory::take().threads;
  polyproc::thread_pool pool(1);
  polyproc::promise<void> given;
  auto const shared = given.get_future().share();
  std::vector<polyproc::future<void>> all;
  for (int i = 0; i < 200; ++i) all.push_back(pool.submit([shared] { shared.get(); }));
  std::this_thread::sleep_for(100ms);
  CHECK(inventory::take().threads <= before + 1 + polyproc::detail::crew<polyproc::native_backend>::spares_for(1));
  given.set_value();
  for (auto& f : all) f.get();
  for (int i = 0; i < 2000 && inventory::take().threads > before + 1; ++i) std::this_thread::sleep_for(5ms);
  CHECK(inventory::take().threads <= before + 1);
  CHECK(pool.apply([] { return 1; }) == 1);
}
#endif

TEST_CASE_METHOD(tidy, "[H13] a pool that is destroyed gives up what has not begun and asks what runs to stop") {
  std::atomic<int> begun{0};
  std::vector<polyproc::future<void>> all;
  {
    polyproc::thread_pool pool(2);
    for (int i = 0; i < 20; ++i) all.push_back(pool.submit([&] { until_asked(begun); }));
    pool.post([&] { until_asked(begun); });
    until(begun, 2);
  }
  for (auto& f : all) {
    CHECK(f.ready());
    CHECK_THROWS_AS(f.get(), polyproc::task_cancelled);
  }
  CHECK(begun == 2);
}

TEST_CASE_METHOD(tidy, "[H13] posted tasks are asked to stop when their pool ends") {
  std::atomic<int> begun{0};
  polyproc::thread_pool pool(1);
  pool.post([&] { until_asked(begun); });
  until(begun, 1);
  pool.terminate();
  CHECK(begun == 1);
}

TEST_CASE_METHOD(tidy, "[H13] terminate may be called from a callback, from a task, and by several at once") {
  {
    polyproc::thread_pool pool(2);
    std::atomic<bool> over{false};
    auto f = pool.submit([] { return 1; });
    std::atomic<int> begun{0};
    auto other = pool.submit([&] { until_asked(begun); });
    f.on_done([&](auto const&) {
      pool.terminate();
      over = true;
    });
    while (!over) std::this_thread::sleep_for(1ms);
    CHECK_THROWS_AS(other.get(), polyproc::task_cancelled);
  }
  {
    polyproc::thread_pool pool(2);
    std::atomic<int> begun{0};
    auto other = pool.submit([&] { until_asked(begun); });
    auto f = pool.submit([&] {
      until(begun, 1);
      pool.terminate();
    });
    CHECK_THROWS_AS(f.get(), polyproc::task_cancelled);
    CHECK_THROWS_AS(other.get(), polyproc::task_cancelled);
    CHECK_THROWS_AS((void)pool.submit([] {}), std::logic_error);
    pool.join();
  }
  {
    polyproc::thread_pool pool(3);
    std::atomic<int> begun{0};
    std::vector<polyproc::future<void>> all;
    for (int i = 0; i < 10; ++i) all.push_back(pool.submit([&] { until_asked(begun); }));
    std::vector<std::thread> crowd;
    for (int i = 0; i < 4; ++i) crowd.emplace_back([&] { pool.terminate(); });
    for (auto& each : crowd) each.join();
    for (auto& f : all) CHECK_THROWS_AS(f.get(), polyproc::task_cancelled);
  }
}

TEST_CASE_METHOD(tidy, "[H13] a pool may be destroyed by one of its own tasks") {
  auto pool = std::make_shared<polyproc::thread_pool>(2);
  auto f = pool->submit([held = pool]() mutable {
    while (held.use_count() > 1) polyproc::native_backend::yield();
    held.reset();
  });
  pool.reset();
  (void)f.exception();
}

TEST_CASE_METHOD(tidy, "[H14] close refuses new tasks and join waits for the old ones") {
  polyproc::thread_pool pool(2);
  gate g;
  std::vector<polyproc::future<void>> all;
  for (int i = 0; i < 10; ++i) all.push_back(pool.submit([&] { g.pass(); }));
  CHECK_THROWS_AS(pool.join(), std::logic_error);
  pool.close();
  CHECK_THROWS_AS((void)pool.submit([] {}), std::logic_error);
  CHECK_THROWS_AS((void)pool.try_submit([] {}), std::logic_error);
  CHECK_THROWS_AS(pool.post([] {}), std::logic_error);
  CHECK_FALSE(all[9].ready());
  g.open = true;
  pool.join();
  for (auto& f : all) {
    CHECK(f.ready());
    f.get();
  }
  pool.join();
  pool.close();
  pool.terminate();
  auto const s = pool.stats();
  CHECK(s.done == 10);
  CHECK(s.submitted == 10);
  CHECK(s.waiting == 0);
  CHECK(s.running == 0);
}

TEST_CASE_METHOD(tidy, "[H14] shutdown does what was submitted, or gives up what has not begun") {
  for (bool const cancel : {false, true}) {
    polyproc::thread_pool pool(1);
    gate g;
    auto busy = pool.submit([&] {
      g.pass();
      return 1;
    });
    auto waits = pool.submit([] { return 2; });
    g.until_begun(1);
    std::thread ends([&] { pool.shutdown(cancel); });
    if (cancel) CHECK_THROWS_AS(waits.get(), polyproc::task_cancelled);
    g.open = true;
    ends.join();
    CHECK(busy.get() == 1);
    if (!cancel) CHECK(waits.get() == 2);
  }
}

TEST_CASE_METHOD(tidy, "[H14] a task that joins its own pool is told so, and may shut it down") {
  polyproc::thread_pool pool(1);
  auto f = pool.submit([&] {
    pool.close();
    pool.join();
  });
  CHECK_THROWS_AS(f.get(), std::logic_error);
  pool.join();
  polyproc::thread_pool other(1);
  other.submit([&] { other.shutdown(); }).get();
  other.join();
}

TEST_CASE_METHOD(tidy, "[H14] pools end at any moment of a stream of tasks, and every future is completed") {
  for (int round = 0; round < 50; ++round) {
    auto pool = std::make_unique<polyproc::thread_pool>(2);
    std::atomic<long> ran{0};
    std::vector<polyproc::future<int>> all;
    std::atomic<bool> under_way{false};
    std::thread feeder([&] {
      try {
        for (int i = 0; i < 5000; ++i) {
          if (i == 20 * round) under_way = true;
          all.push_back(pool->submit([&ran] { return static_cast<int>(++ran); }));
        }
      } catch (std::logic_error const&) {
      }
      under_way = true;
    });
    while (!under_way) polyproc::native_backend::yield();
    if (round % 3 == 0) pool->terminate();
    else if (round % 3 == 1) pool->shutdown(true);
    else pool->shutdown();
    feeder.join();
    long values = 0;
    for (auto& f : all) {
      CHECK(f.ready());
      if (!f.exception()) ++values;
    }
    CHECK(values <= ran);
    if (round % 3 != 0) CHECK(values == ran);
    if (round % 3 == 2) CHECK(values == static_cast<long>(all.size()));
    auto const s = pool->stats();
    CHECK(s.submitted == all.size());
    CHECK(s.done + s.cancelled == all.size());
  }
}

TEST_CASE_METHOD(tidy, "[H15] a pool may be let go: its threads do what was submitted, and nobody waits for them") {
  struct counted {
    std::atomic<int> ran{0};
    gate g;
  };
  auto const shared = std::make_shared<counted>();
  polyproc::future<void> last;
  {
    polyproc::thread_pool pool(2);
    for (int i = 0; i < 10; ++i)
      pool.post([shared] {
        shared->g.pass();
        ++shared->ran;
      });
    last = pool.submit([shared] { ++shared->ran; });
    pool.detach();
    CHECK_THROWS_AS(pool.post([] {}), std::logic_error);
  }
  CHECK_FALSE(last.ready());
  shared->g.open = true;
  last.get();
  until(shared->ran, 11);
  while (shared.use_count() > 1) polyproc::native_backend::yield();
}

TEST_CASE_METHOD(tidy, "a pool grows and shrinks while it works") {
  polyproc::thread_pool pool(1);
  gate g;
  opened_at_end const at_end{g};
  std::vector<polyproc::future<void>> all;
  for (int i = 0; i < 4; ++i) all.push_back(pool.submit([&] { g.pass(); }));
  g.until_begun(1);
  pool.resize(4);
  CHECK(pool.size() == 4);
  g.until_begun(4);
  pool.resize(1);
  g.open = true;
  for (auto& f : all) f.get();
  // One at a time now.
  std::atomic<int> at_once{0};
  std::atomic<int> most{0};
  all.clear();
  for (int i = 0; i < 100; ++i)
    all.push_back(pool.submit([&] {
      int const now = ++at_once;
      int seen = most;
      while (seen < now && !most.compare_exchange_weak(seen, now)) {
      }
      polyproc::native_backend::yield();
      --at_once;
    }));
  for (auto& f : all) f.get();
  CHECK(most == 1);
  pool.apply([&] { pool.resize(3); });
  CHECK(pool.size() == 3);
  CHECK_THROWS_AS(pool.resize(5000), std::invalid_argument);
  CHECK_THROWS_AS(polyproc::thread_pool(5000), std::invalid_argument);
}

TEST_CASE_METHOD(tidy, "[H7] each thread is initialized before its first task; a failure to do so is the constructor's") {
  static thread_local int mine = 0;
  std::atomic<int> made{0};
  {
    polyproc::thread_pool pool(polyproc::thread_pool_options{.workers = 3, .initializer = [&] {
                                                               mine = 42;
                                                               ++made;
                                                             }});
    CHECK(made == 3);
    for (int i = 0; i < 100; ++i) CHECK(pool.apply([] { return mine; }) == 42);
  }
  CHECK_THROWS_WITH(polyproc::thread_pool(polyproc::thread_pool_options{
                        .workers = 2, .initializer = [] { throw std::runtime_error("not today"); }}),
                    "not today");
}

TEST_CASE_METHOD(tidy, "each thread keeps what the initializer returned, and tasks know whose it is") {
  struct book {
    std::string title;
    std::thread::id owner;
  };
  polyproc::thread_pool pool(polyproc::thread_pool_options{
      .workers = 3, .initializer = {[](std::string title) { return book{std::move(title), std::this_thread::get_id()}; }, "Eggs"}});
  for (int i = 0; i < 100; ++i) {
    auto const number = pool.apply([] {
      auto const& mine = polyproc::this_worker::state<book>();
      return mine.title == "Eggs" && mine.owner == std::this_thread::get_id() ? polyproc::this_worker::number() : 0;
    });
    CHECK(number >= 1);
    CHECK(number <= 3);
  }
  CHECK_THROWS_AS(pool.apply([] { (void)polyproc::this_worker::state<int>(); }), std::logic_error);
  CHECK(polyproc::this_worker::number() == 0);
}

TEST_CASE_METHOD(tidy, "posted tasks run without a future, in their order, and their exceptions end nothing") {
  polyproc::thread_pool pool(1);
  std::vector<int> order;
  for (int i = 0; i < 1000; ++i) pool.post([&order, i, held = std::make_unique<int>(i)] { order.push_back(*held + i - i); });
  pool.post([] { throw std::runtime_error("expected here"); });
  pool.post({.priority = 1}, [] { throw std::runtime_error("expected here, too"); });
  pool.post([](std::string const& text, int n) { CHECK(text.size() == static_cast<std::size_t>(n)); }, std::string("abc"), 3);
  pool.close();
  pool.join();
  REQUIRE(order.size() == 1000);
  for (int i = 0; i < 1000; ++i) CHECK(order[static_cast<std::size_t>(i)] == i);
  CHECK(pool.stats().failed == 2);
  CHECK(pool.stats().done == 1001);
}

TEST_CASE_METHOD(tidy, "tasks from everywhere, cancelled at random: each future has one outcome, and the books are right") {
  polyproc::thread_pool pool(3);
  std::atomic<std::uint64_t> values{0};
  std::atomic<std::uint64_t> cancels{0};
  std::vector<std::thread> crowd;
  for (unsigned t = 0; t < 3; ++t)
    crowd.emplace_back([&, t] {
      unsigned random = 12345 + t;
      std::vector<polyproc::future<int>> mine;
      for (int i = 0; i < 3000; ++i) {
        random = random * 1664525 + 1013904223;
        auto f = pool.submit({.priority = static_cast<int>(random >> 28) % 3 - 1}, [&pool, i] {
          return i % 7 == 0 ? pool.submit([i] { return i; }).get() : i;
        });
        if ((random >> 20) % 3 == 0) (void)f.cancel();
        mine.push_back(std::move(f));
      }
      for (auto& f : mine) {
        try {
          (void)f.get();
          ++values;
        } catch (polyproc::task_cancelled const&) {
          ++cancels;
        }
      }
    });
  for (auto& each : crowd) each.join();
  CHECK(values + cancels == 9000);
  pool.shutdown();
  auto const s = pool.stats();
  CHECK(s.submitted == s.done + s.cancelled);
  CHECK(s.cancelled == cancels);
}

TEST_CASE_METHOD(tidy, "husks of cancelled tasks do not pile up") {
  polyproc::thread_pool pool(1);
  // Everything is cancelled or run by the one who waits while the only worker never comes back to the lines.
  auto const alive = std::make_shared<int>(0);
  pool.apply([&] {
    for (int i = 0; i < 20000; ++i) {
      auto f = pool.submit([alive] { return alive; });
      if (i % 2 == 0) (void)f.cancel();
      else CHECK(f.get() == alive);
    }
  });
  CHECK(alive.use_count() == 1);
}

#if !defined(_WIN32)  // where std::clock is the time of day
TEST_CASE_METHOD(tidy, "idle pools use no processor time") {
  polyproc::thread_pool pool(4);
  pool.for_each([](int) {}, std::vector<int>(100, 1));
  std::this_thread::sleep_for(200ms);
  double least = 1;  // of three: where a machine stands still, that may count as the time of whoever looks up just then
  for (int i = 0; i < 3 && least >= 0.05; ++i) {
    auto const before = std::clock();
    std::this_thread::sleep_for(1s);
    least = std::min(least, static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC);
  }
  CHECK(least < 0.05);
}
#endif

TEST_CASE_METHOD(tidy, "threads may be bound to processors, where the system can") {
  polyproc::thread_pool_options options{.workers = 2, .affinity = {0}};
  try {
    polyproc::thread_pool pool(std::move(options));
    CHECK(pool.apply([] { return 1; }) == 1);
  } catch (std::system_error const& refused) {
    CHECK(refused.code() == std::errc::not_supported);
  }
}

#if !defined(_WIN32)
TEST_CASE_METHOD(tidy, "a copy of a pool that a fork left in a child does nothing there") {
  auto pool = std::make_unique<polyproc::thread_pool>(2);
  CHECK(pool->apply([] { return 1; }) == 1);
  polyproc::process child{polyproc::start::fork, [&] { pool.reset(); }};
  child.start();
  child.join();
  CHECK(child.exit_code() == 0);
  CHECK(pool->apply([] { return 2; }) == 2);
}
#endif

TEST_CASE_METHOD(tidy, "futures of a pool have callbacks and continuations, also when the pool is gone") {
  std::atomic<int> called{0};
  polyproc::future<int> after, f;
  {
    polyproc::thread_pool pool(1);
    f = pool.submit([] { return 20; });
    f.on_done([&](auto const& done) { called += done.get(); });
    after = f.then([](int x) { return x + 1; });
    CHECK(after.get() == 21);
    until(called, 20);
    f = pool.submit([] { return 30; });
    f.wait();
  }
  CHECK(called == 20);
  CHECK_FALSE(f.cancel());
  f.on_done([&](auto const& done) { called += done.get(); });
  CHECK(called == 50);
  CHECK(f.then([](int x) { return x + 1; }).get() == 31);
}

TEST_CASE_METHOD(tidy, "[H15] the end of a program does not wait for the threads of a pool that was let go") {
  polyproc::process program{polyproc::start::spawn, leave_pool_to_itself, polyproc::shared<std::atomic<bool>>()};
  program.start();
  CHECK(program.join_for(60s));
  CHECK(program.exit_code() == 0);
}

TEST_CASE_METHOD(tidy, "[H12] a task may wait by wait_any for one of its own pool, also where that is all threads") {
  polyproc::thread_pool pool(1);
  auto f = pool.submit([&] {
    auto inner = pool.submit([] { return 7; });
    return polyproc::wait_any_for(60s, inner) == std::size_t{0} ? inner.get() : 0;
  });
  CHECK(f.get() == 7);
}

TEST_CASE_METHOD(tidy, "[H15] a pool may be terminated in a callback while its task waits for another callback") {
  polyproc::thread_pool pool(1);
  polyproc::promise<int> first, second;
  auto chained = second.get_future().then([](int x) { return x + 1; });
  auto started = first.get_future();
  std::atomic<int> waits{0}, over{0};
  auto f = pool.submit([&] {
    ++waits;
    return chained.get();
  });
  until(waits, 1);
  started.on_done([&](auto const&) {
    (void)second.set_value(1);  // what comes after it is to be called behind this
    pool.terminate();
    ++over;
  });
  (void)first.set_value(0);
  until(over, 1);
  CHECK_THROWS_AS(f.get(), polyproc::task_cancelled);
}

TEST_CASE_METHOD(tidy, "a map that throws because of its input has ended: nothing runs any more that it had begun") {
  struct fragile {
    int n;
    explicit fragile(int i) : n(i) {}
    fragile(fragile const& other) : n(other.n) {
      if (n == 30) throw std::runtime_error("it broke");
    }
    fragile& operator=(fragile const&) = delete;
  };
  std::vector<fragile> items;
  items.reserve(40);
  for (int i = 0; i < 40; ++i) items.emplace_back(i);
  polyproc::thread_pool pool(2);
  {
    std::atomic<int> running{0};
    auto const slow = [&](fragile const& f) {
      ++running;
      std::this_thread::sleep_for(20ms);
      --running;
      return f.n;
    };
    CHECK_THROWS_AS(pool.map(slow, items, {.chunk = 1}), std::runtime_error);
    CHECK(running == 0);
  }
  CHECK(pool.apply([] { return 1; }) == 1);
}

TEST_CASE_METHOD(tidy, "[H10] for_each takes a bounded number of items ahead, also of an input that knows its size") {
  constexpr long size_of_line = 1L << 30;
  struct line {
    std::atomic<long>* done;
    std::atomic<long>* ahead;
    struct iterator {
      using iterator_concept = std::input_iterator_tag;
      using value_type = long;
      using difference_type = std::ptrdiff_t;
      line const* of = nullptr;
      long at = 0;
      long operator*() const {
        *of->ahead = std::max(of->ahead->load(), at + 1 - of->done->load());
        if (at == 60000) throw std::out_of_range("far enough");
        return at;
      }
      iterator& operator++() {
        ++at;
        return *this;
      }
      void operator++(int) { ++at; }
      bool operator==(std::default_sentinel_t) const { return at == size_of_line; }
    };
    [[nodiscard]] iterator begin() const { return {this, 0}; }
    [[nodiscard]] std::default_sentinel_t end() const { return {}; }
    [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(size_of_line); }
  };
  std::atomic<long> done{0}, ahead{0};
  polyproc::thread_pool pool(2);
  CHECK_THROWS_AS(pool.for_each([&](long) { ++done; }, line{&done, &ahead}), std::out_of_range);
  CHECK(ahead <= 2 * 4096 + 1);
  CHECK(done <= 60000);
  CHECK(done >= 60000 - 1024);  // but for the chunk that could not be filled
}

TEST_CASE_METHOD(tidy, "an initializer that fails in a thread that comes later costs that thread, and no task") {
  std::atomic<int> begun{0};
  polyproc::thread_pool pool({.workers = 1, .initializer = {[&] {
                                if (++begun > 1) throw std::invalid_argument("one is enough");
                              }}});
  pool.resize(3);
  until(begun, 3);
  std::vector<polyproc::future<int>> all;
  for (int i = 0; i < 100; ++i) all.push_back(pool.submit([i] { return i; }));
  for (int i = 0; i < 100; ++i) CHECK(all[static_cast<std::size_t>(i)].get() == i);
}

#if !defined(_WIN32)
TEST_CASE_METHOD(tidy, "[H12] a child that a task has forked runs nothing of the pool, and is told so") {
  polyproc::shared<std::atomic<int>> const ran;
  polyproc::thread_pool pool(1);
  auto f = pool.submit([&] {
    std::vector<polyproc::future<void>> more;
    for (int i = 0; i < 10; ++i) more.push_back(pool.submit([&] { *ran += 1; }));
    polyproc::process child{polyproc::start::fork, [&] {
      auto const refuses = [](auto&& call) {
        try {
          call();
          return false;
        } catch (std::logic_error const&) {
          return true;
        }
      };
      polyproc::promise<int> nobody;
      (void)nobody.get_future().wait_for(20ms);  // a thread of the pool would be stood in for
      bool const good = refuses([&] { more[0].get(); }) && refuses([&] { (void)pool.submit([] {}); }) &&
                        refuses([&] { pool.terminate(); }) && refuses([&] { pool.resize(2); }) && !more[1].cancel();
      polyproc::native_backend::exit_now(good ? 0 : 3);
    }};
    child.start();
    child.join();
    return child.exit_code().value_or(-1);
  });
  CHECK(f.get() == 0);
  pool.close();
  pool.join();
  CHECK(*ran == 10);
}
#endif
