#include "support/tidy.hpp"

#if defined(__cpp_impl_coroutine) && __has_include(<coroutine>)
#include <coroutine>
#endif

#include <mutex>

using namespace std::chrono_literals;

namespace {

template <class T>
struct both {
  polyproc::promise<T> promise;
  polyproc::future<T> future = promise.get_future();
};

/// Until something has happened, somewhere.
struct signal {
  polyproc::promise<void> promise;
  polyproc::future<void> future = promise.get_future();
  void give() { (void)promise.set_value(); }
  void await() { REQUIRE(future.wait_for(60s)); }
};

/// Not every system can give a thread a name.
std::string thread_name() {
#if defined(__linux__)
  if (std::string_view(polyproc::native_backend::name) != "linux") return "polyproc-calls";
  std::ifstream file("/proc/thread-self/comm");
  std::string name;
  std::getline(file, name);
  return name;
#else
  return "polyproc-calls";
#endif
}

/// What a test's callbacks tell it.
struct notes {
  std::mutex lock;
  std::vector<std::string> all;
  void add(std::string what) {
    std::scoped_lock hold{lock};
    all.push_back(std::move(what));
  }
  std::vector<std::string> read() {
    std::scoped_lock hold{lock};
    return all;
  }
};

struct cannot_move {
  bool throws = false;
  explicit cannot_move(bool t) : throws(t) {}
  cannot_move(cannot_move&& other) : throws(other.throws) {
    if (throws && ++moves > 1) throw std::domain_error("this cannot be moved");
  }
  static inline int moves = 0;
};

}  // namespace

TEST_CASE_METHOD(tidy, "a promise completes its future, whose value can be taken once") {
  both<std::string> pair;
  CHECK(pair.future.valid());
  CHECK_FALSE(pair.future.ready());
  CHECK_THROWS_AS((void)pair.promise.get_future(), std::logic_error);
  CHECK(pair.promise.set_value("a"));
  CHECK(pair.future.ready());
  CHECK(pair.future.exception() == nullptr);
  CHECK(pair.future.get() == "a");
  CHECK_FALSE(pair.future.valid());
  CHECK_THROWS_AS(pair.future.get(), std::logic_error);
  CHECK_THROWS_AS(pair.future.ready(), std::logic_error);
  CHECK_THROWS_AS((void)pair.promise.set_value("b"), std::logic_error);
  CHECK_THROWS_AS((void)pair.promise.set_exception(std::runtime_error("b")), std::logic_error);
  CHECK_THROWS_AS((void)pair.promise.set_exception(std::exception_ptr{}), std::invalid_argument);
  CHECK(polyproc::make_ready_future(7).get() == 7);
  polyproc::make_ready_future().get();
}

TEST_CASE_METHOD(tidy, "a future is waited for with a limit, and by another thread until it is ready") {
  both<int> pair;
  auto const begin = std::chrono::steady_clock::now();
  CHECK_FALSE(pair.future.wait_for(20ms));
  CHECK_FALSE(pair.future.wait_until(std::chrono::system_clock::now() + 10ms));
  CHECK(std::chrono::steady_clock::now() - begin >= 20ms);
  CHECK_FALSE(pair.future.wait_for(-1s));
  std::thread giver([&] { (void)pair.promise.set_value(5); });
  pair.future.wait();
  CHECK(pair.future.wait_for(0s));
  CHECK(pair.future.get() == 5);
  giver.join();
}

TEST_CASE_METHOD(tidy, "an exception comes out of get, and exception() shows it before") {
  both<int> pair;
  CHECK(pair.promise.set_exception(std::out_of_range("far")));
  CHECK(polyproc::describe(pair.future.exception()).what == "far");
  CHECK_THROWS_AS(pair.future.get(), std::out_of_range);
}

TEST_CASE_METHOD(tidy, "a promise that is given up completes its future with broken_promise") {
  polyproc::future<int> dropped, replaced;
  {
    polyproc::promise<int> p;
    dropped = p.get_future();
  }
  CHECK_THROWS_AS(dropped.get(), polyproc::broken_promise);
  polyproc::promise<int> p;
  replaced = p.get_future();
  p = polyproc::promise<int>();
  CHECK_THROWS_AS(replaced.get(), polyproc::broken_promise);
  auto moved = std::move(p);
  CHECK_THROWS_AS((void)p.set_value(1), std::logic_error);  // NOLINT
  CHECK(moved.set_value(1));
}

TEST_CASE_METHOD(tidy, "values that can only be moved, and none at all, pass through a future") {
  both<std::unique_ptr<int>> only_moved;
  CHECK(only_moved.promise.set_value(std::make_unique<int>(3)));
  CHECK(*only_moved.future.get() == 3);
  both<void> nothing;
  CHECK(nothing.promise.set_value());
  nothing.future.get();
  both<std::vector<std::unique_ptr<int>>> several;
  std::vector<std::unique_ptr<int>> made;
  made.push_back(std::make_unique<int>(4));
  CHECK(several.promise.set_value(std::move(made)));
  CHECK(*several.future.get().front() == 4);
}

TEST_CASE_METHOD(tidy, "a value that cannot be moved into its place is an exception, not a future that is never ready") {
  cannot_move::moves = 0;
  both<cannot_move> pair;
  CHECK(pair.promise.set_value(cannot_move(true)));
  CHECK(pair.future.wait_for(60s));
  CHECK_THROWS_AS(pair.future.get(), std::domain_error);
}

TEST_CASE_METHOD(tidy, "on_done calls any number in their order, one after the other, on the library's thread, though nobody waits") {
  both<int> pair;
  notes said;
  signal over;
  for (int i = 0; i < 5; ++i)
    pair.future.on_done([&said, i](polyproc::shared_future<int> const& done) {
      said.add(std::to_string(i) + ":" + std::to_string(done.get()) + " " + thread_name());
    });
  pair.future.on_done([&](auto&) { over.give(); });
  CHECK(said.read().empty());
  CHECK(pair.promise.set_value(7));
  over.await();
  auto const all = said.read();
  REQUIRE(all.size() == 5);
  for (std::size_t i = 0; i < 5; ++i) CHECK(all[i] == std::to_string(i) + ":7 polyproc-calls");
  CHECK(pair.future.get() == 7);
}

TEST_CASE_METHOD(tidy, "on_done of what is ready runs at once, in the caller") {
  auto f = polyproc::make_ready_future(std::string("x"));
  std::thread::id where;
  std::string value;
  f.on_done([&](auto const& done) {
    where = std::this_thread::get_id();
    value = done.get();
  });
  CHECK(where == std::this_thread::get_id());
  CHECK(value == "x");
  CHECK(f.get() == "x");
}

TEST_CASE_METHOD(tidy, "a callback that throws keeps no other from running") {
  both<int> pair;
  signal over;
  pair.future.on_done([](auto const&) { throw std::runtime_error("a callback's own"); });
  pair.future.on_done([](auto const&) { throw 42; });
  pair.future.on_done([&](auto const&) { over.give(); });
  CHECK(pair.promise.set_value(1));
  over.await();
  CHECK(pair.future.get() == 1);
}

TEST_CASE_METHOD(tidy, "callbacks run though the future is gone, and see what it ended by") {
  signal over;
  std::string what;
  polyproc::promise<std::unique_ptr<int>> promise;
  promise.get_future().on_done([&](auto const& done) {
    what = polyproc::describe(done.exception()).what;
    over.give();
  });
  CHECK(promise.set_exception(std::runtime_error("all the same")));
  over.await();
  CHECK(what == "all the same");
}

TEST_CASE_METHOD(tidy, "a future that others look at is still taken whole by its owner") {
  both<std::string> pair;
  signal over;
  polyproc::shared_future<std::string> kept;
  pair.future.on_done([&](auto const& done) {
    kept = done;
    over.give();
  });
  CHECK(pair.promise.set_value("value"));
  over.await();
  CHECK(pair.future.get() == "value");
  CHECK(kept.get() == "value");
}

TEST_CASE_METHOD(tidy, "then continues with the value, with nothing, or with the future itself") {
  both<int> pair;
  auto text = pair.future.then([](int x) { return std::to_string(x); });
  CHECK_FALSE(pair.future.valid());
  auto length = text.then([](std::string const& s) { return s.size(); });
  auto nothing = length.then([](std::size_t) {});
  auto last = nothing.then([] { return 1; });
  CHECK(pair.promise.set_value(123));
  CHECK(last.get() == 1);

  both<int> fails;
  auto seen = fails.future.then([](polyproc::future<int> f) {
    try {
      return f.get();
    } catch (std::out_of_range const&) {
      return -1;
    }
  });
  CHECK(fails.promise.set_exception(std::out_of_range("x")));
  CHECK(seen.get() == -1);
  CHECK(polyproc::make_ready_future(2).then([](int x) { return 2 * x; }).get() == 4);
  CHECK(*polyproc::make_ready_future(std::make_unique<int>(6)).then([](std::unique_ptr<int> p) { return p; }).get() == 6);
}

TEST_CASE_METHOD(tidy, "an exception passes by those who take the value, and comes out at the end") {
  both<int> pair;
  bool ran = false;
  auto last = pair.future.then([&](int x) { ran = true; return x; }).then([&](int) { ran = true; });
  CHECK(pair.promise.set_exception(std::length_error("long")));
  CHECK_THROWS_AS(last.get(), std::length_error);
  CHECK_FALSE(ran);
  auto thrown = polyproc::make_ready_future(1).then([](int) -> int { throw std::domain_error("from next"); });
  CHECK_THROWS_AS(thrown.get(), std::domain_error);
}

TEST_CASE_METHOD(tidy, "a continuation that gives a future stands for that one's outcome") {
  both<int> outer, inner;
  polyproc::future<int> flat =
      outer.future.then([f = std::make_shared<polyproc::future<int>>(std::move(inner.future))](int) { return std::move(*f); });
  CHECK(outer.promise.set_value(1));
  CHECK_FALSE(flat.wait_for(5ms));
  CHECK(inner.promise.set_value(9));
  CHECK(flat.get() == 9);
  auto broken = polyproc::make_ready_future().then([] { return polyproc::promise<int>().get_future(); });
  CHECK_THROWS_AS(broken.get(), polyproc::broken_promise);
}

TEST_CASE_METHOD(tidy, "a long chain of continuations, and of futures in futures, needs no deep stack") {
  constexpr int deep = 20000;
  both<int> pair;
  auto chain = std::move(pair.future);
  for (int i = 0; i < deep; ++i) chain = chain.then([](int x) { return x + 1; });
  CHECK(pair.promise.set_value(0));
  CHECK(chain.get() == deep);

  both<int> inmost;
  auto nested = std::move(inmost.future);
  for (int i = 0; i < deep; ++i) {
    auto const kept = std::make_shared<polyproc::future<int>>(std::move(nested));
    nested = polyproc::make_ready_future().then([kept] { return std::move(*kept); });
  }
  CHECK(inmost.promise.set_value(3));
  CHECK(nested.get() == 3);
}

TEST_CASE_METHOD(tidy, "cancelling what comes last cancels what it comes from") {
  both<int> pair;
  bool told = false;
  pair.promise.on_cancel([&] { told = true; });
  auto last = pair.future.then([](int x) { return x; }).then([](int x) { return x; }).then([](int) {});
  CHECK(last.cancel());
  CHECK(told);
  CHECK(pair.promise.cancelled());
  CHECK_FALSE(pair.promise.set_value(1));
  CHECK_THROWS_AS(last.get(), polyproc::task_cancelled);

  both<int> inner;
  auto flat = polyproc::make_ready_future().then(
      [f = std::make_shared<polyproc::future<int>>(std::move(inner.future))] { return std::move(*f); });
  CHECK(flat.cancel());
  CHECK(inner.promise.cancelled());
  CHECK_THROWS_AS(flat.get(), polyproc::task_cancelled);
}

TEST_CASE_METHOD(tidy, "what has its outcome cannot be cancelled, and what is cancelled stays so") {
  both<int> done, open;
  CHECK(done.promise.set_value(1));
  CHECK_FALSE(done.future.cancel());
  CHECK(done.future.get() == 1);
  CHECK(open.future.cancel());
  CHECK_FALSE(open.future.cancel());
  CHECK_FALSE(open.promise.set_exception(std::runtime_error("too late")));
  bool told = false;
  open.promise.on_cancel([&] { told = true; });
  CHECK(told);
  CHECK_THROWS_AS(open.future.get(), polyproc::task_cancelled);
}

TEST_CASE_METHOD(tidy, "a value and a cancellation at the same time: one of them, and nobody waits for ever") {
  int values = 0;
  for (int round = 0; round < 300; ++round) {
    both<int> pair;
    std::atomic<bool> go{false};
    std::thread giver([&] {
      while (!go) polyproc::native_backend::yield();
      (void)pair.promise.set_value(1);  // never an error: it knows that it was cancelled
    });
    go = true;
    bool const cancelled = pair.future.cancel();
    REQUIRE(pair.future.wait_for(60s));
    giver.join();
    if (cancelled) {
      CHECK_THROWS_AS(pair.future.get(), polyproc::task_cancelled);
    } else {
      CHECK(pair.future.get() == 1);
      ++values;
    }
  }
  INFO(values << " of 300 had the value");
}

TEST_CASE_METHOD(tidy, "a shared future gives its value to any number of threads") {
  both<std::string> pair;
  auto const shared = pair.future.share();
  CHECK_FALSE(pair.future.valid());
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([copy = shared, &right] {
      for (int k = 0; k < 3; ++k) right += copy.get() == "shared" ? 1 : 0;
    });
  CHECK(pair.promise.set_value("shared"));
  for (auto& t : threads) t.join();
  CHECK(right == 12);
  CHECK(shared.get() == "shared");
  both<std::unique_ptr<int>> only_moved;
  auto const looked_at = only_moved.future.share();
  CHECK(only_moved.promise.set_value(std::make_unique<int>(8)));
  CHECK(*looked_at.get() == 8);
}

TEST_CASE_METHOD(tidy, "a shared future can be continued several times, and keeps its value") {
  both<std::string> pair;
  auto const shared = pair.future.share();
  auto size = shared.then([](std::string const& s) { return s.size(); });
  auto copy = shared.then([](std::string s) { return s + "!"; });
  auto itself = shared.then([](polyproc::shared_future<std::string> f) { return f.get() + "?"; });
  CHECK(pair.promise.set_value("four"));
  CHECK(size.get() == 4);
  CHECK(copy.get() == "four!");
  CHECK(itself.get() == "four?");
  CHECK(shared.get() == "four");
}

TEST_CASE_METHOD(tidy, "any number of threads wait for one future, and all are woken") {
  for (int round = 0; round < 50; ++round) {
    both<int> pair;
    auto const shared = pair.future.share();
    std::vector<std::thread> threads;
    std::atomic<int> sum{0};
    for (int i = 0; i < 3; ++i) threads.emplace_back([&] { sum += shared.get(); });
    CHECK(pair.promise.set_value(2));
    for (auto& t : threads) t.join();
    CHECK(sum == 6);
  }
}

TEST_CASE_METHOD(tidy, "a callback may wait for what another callback is to bring about") {
  both<int> first;
  both<int> second;
  signal over;
  int got = 0;
  first.future.on_done([&](auto const&) {
    auto later = second.future.then([](int x) { return x + 1; });
    (void)second.promise.set_value(1);
    got = later.get();  // runs on a thread that takes this one's place
    over.give();
  });
  CHECK(first.promise.set_value(0));
  over.await();
  CHECK(got == 2);
}

TEST_CASE_METHOD(tidy, "a burst of callbacks does not become a burst of threads") {
  auto& made = polyproc::detail::dispatcher<polyproc::native_backend>::threads_made();
  auto const before = made.load();
  constexpr int many = 100000;
  std::atomic<int> ran{0};
  signal over;
  auto const begin = std::chrono::steady_clock::now();
  for (int i = 0; i < many; ++i) {
    both<int> pair;
    pair.future.on_done([&](auto const&) {
      if (++ran == many) over.give();
    });
    (void)pair.promise.set_value(i);
  }
  over.await();
  auto const time = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin);
  auto const threads = made.load() - before;
  WARN(many << " callbacks in " << time.count() << " ms, on " << threads << " threads");
  CHECK(threads <= 20);
}

TEST_CASE_METHOD(tidy, "the end of callbacks can be waited for, and there may be more afterwards") {
  std::atomic<int> ran{0};
  for (int round = 0; round < 3; ++round) {
    both<int> pair;
    for (int i = 0; i < 10; ++i) pair.future.on_done([&](auto const&) { ++ran; });
    CHECK(pair.promise.set_value(1));
    polyproc::detail::dispatcher<polyproc::native_backend>::get().finish();
    CHECK(ran == 10 * (round + 1));
  }
}

#if defined(__cpp_impl_coroutine) && __has_include(<coroutine>)

namespace {

polyproc::future<int> sum_of(polyproc::future<int> a, polyproc::future<int> b) { co_return co_await a + co_await b; }
polyproc::future<void> note(polyproc::future<std::string> text, std::string& into) { into = co_await text; }
polyproc::future<int> passes_on(polyproc::future<int> from) {
  try {
    co_return co_await from;
  } catch (std::out_of_range const&) {
    co_return -1;
  }
}
polyproc::future<int> throws(bool before) {
  if (before) throw std::domain_error("at once");
  co_return co_await polyproc::make_ready_future(1);
}
polyproc::future<std::size_t> looks(polyproc::shared_future<std::string> text) {
  std::string const& seen = co_await text;
  co_return seen.size();
}

/// A coroutine of somebody else's type, which knows nothing of futures.
struct fire_and_forget {
  struct promise_type {
    fire_and_forget get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};
fire_and_forget await_in(polyproc::future<int> from, polyproc::promise<int> to) {
  int const value = co_await from;
  (void)to.set_value(value + 1);
}

}  // namespace

TEST_CASE_METHOD(tidy, "a function that returns a future may be a coroutine, and co_await futures") {
  both<int> a, b;
  auto sum = sum_of(std::move(a.future), std::move(b.future));
  CHECK_FALSE(sum.ready());
  CHECK(a.promise.set_value(1));
  CHECK(b.promise.set_value(2));
  CHECK(sum.get() == 3);
  both<std::string> text;
  std::string into;
  auto noted = note(std::move(text.future), into);
  CHECK(text.promise.set_value("hello"));
  noted.get();
  CHECK(into == "hello");
  both<std::string> shared;
  auto size = looks(shared.future.share());
  CHECK(shared.promise.set_value("seven.."));
  CHECK(size.get() == 7);
}

TEST_CASE_METHOD(tidy, "exceptions pass through coroutines in both directions") {
  both<int> a;
  auto seen = passes_on(std::move(a.future));
  CHECK(a.promise.set_exception(std::out_of_range("x")));
  CHECK(seen.get() == -1);
  CHECK_THROWS_AS(throws(true).get(), std::domain_error);
  CHECK(throws(false).get() == 1);
  both<int> b;
  auto broken = sum_of(std::move(b.future), polyproc::make_ready_future(1));
  CHECK(b.promise.set_exception(std::length_error("y")));
  CHECK_THROWS_AS(broken.get(), std::length_error);
}

TEST_CASE_METHOD(tidy, "cancelling a coroutine's future cancels what it waits for") {
  both<int> a;
  auto sum = sum_of(std::move(a.future), polyproc::make_ready_future(1));
  CHECK(sum.cancel());
  CHECK(a.promise.cancelled());
  CHECK_THROWS_AS(sum.get(), polyproc::task_cancelled);
}

TEST_CASE_METHOD(tidy, "futures can be awaited in coroutines of any type") {
  both<int> a;
  polyproc::promise<int> to;
  auto result = to.get_future();
  await_in(std::move(a.future), std::move(to));
  CHECK(a.promise.set_value(41));
  CHECK(result.get() == 42);
}

#endif
