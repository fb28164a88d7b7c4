#include "support/tidy.hpp"

#include <numeric>

using namespace std::chrono_literals;

namespace {

/// Several promises and their futures.
template <class T>
struct several {
  std::vector<polyproc::promise<T>> promises;
  std::vector<polyproc::future<T>> futures;
  explicit several(std::size_t count) : promises(count) {
    for (auto& p : promises) futures.push_back(p.get_future());
  }
};

int twice(int x) { return 2 * x; }
int after_gate(polyproc::shared<polyproc::event> gate, int x) {
  gate->wait();
  return x;
}
int fails(std::string const& how) { throw std::out_of_range(how); }

}  // namespace

TEST_CASE_METHOD(tidy, "when_all gives all values in the order of the futures") {
  several<int> s(3);
  auto all = polyproc::when_all(std::move(s.futures));
  (void)s.promises[2].set_value(3);
  (void)s.promises[0].set_value(1);
  CHECK_FALSE(all.ready());
  (void)s.promises[1].set_value(2);
  CHECK(all.get() == std::vector<int>{1, 2, 3});
  several<void> nothing(2);
  polyproc::future<void> done = polyproc::when_all(nothing.futures);
  for (auto& f : nothing.futures) CHECK_FALSE(f.valid());
  for (auto& p : nothing.promises) (void)p.set_value();
  done.get();
  CHECK(polyproc::when_all(std::vector<polyproc::future<int>>{}).get().empty());
  several<std::unique_ptr<int>> only_moved(2);
  auto moved = polyproc::when_all(only_moved.futures);
  for (auto& p : only_moved.promises) (void)p.set_value(std::make_unique<int>(4));
  CHECK(*moved.get().back() == 4);
}

TEST_CASE_METHOD(tidy, "when_all of futures of different types is a tuple, with monostate for void") {
  polyproc::promise<int> a;
  polyproc::promise<void> b;
  polyproc::promise<std::string> c;
  auto const shared = c.get_future().share();
  polyproc::future<std::tuple<int, std::monostate, std::string>> all = polyproc::when_all(a.get_future(), b.get_future(), shared);
  (void)a.set_value(1);
  (void)b.set_value();
  (void)c.set_value("c");
  CHECK(all.get() == std::tuple(1, std::monostate{}, std::string("c")));
  CHECK(shared.get() == "c");
}

TEST_CASE_METHOD(tidy, "the first failure completes when_all at once, and the others go on") {
  several<int> s(3);
  auto all = polyproc::when_all(s.futures);
  (void)s.promises[1].set_exception(std::domain_error("first"));
  CHECK(all.ready());
  CHECK(s.promises[0].set_value(1));
  CHECK(s.promises[2].set_exception(std::length_error("second")));
  CHECK_THROWS_AS(all.get(), std::domain_error);
}

TEST_CASE_METHOD(tidy, "cancelling when_all or when_any cancels all of them") {
  several<int> s(3), t(2);
  auto all = polyproc::when_all(s.futures);
  CHECK(all.cancel());
  for (auto& p : s.promises) CHECK(p.cancelled());
  CHECK_THROWS_AS(all.get(), polyproc::task_cancelled);
  auto any = polyproc::when_any(t.futures);
  CHECK(any.cancel());
  for (auto& p : t.promises) CHECK(p.cancelled());
  CHECK_THROWS_AS(any.get(), polyproc::task_cancelled);
}

TEST_CASE_METHOD(tidy, "when_any gives the index of the first one that is ready, and all futures back") {
  several<int> s(3);
  auto any = polyproc::when_any(std::move(s.futures));
  (void)s.promises[1].set_exception(std::domain_error("x"));
  auto first = any.get();
  CHECK(first.index == 1);
  REQUIRE(first.futures.size() == 3);
  CHECK_THROWS_AS(first.futures[1].get(), std::domain_error);
  CHECK_FALSE(first.futures[0].ready());
  first.futures.erase(first.futures.begin() + 1);
  auto next = polyproc::when_any(first.futures);
  (void)s.promises[2].set_value(7);
  auto second = next.get();
  CHECK(second.index == 1);
  CHECK(second.futures[1].get() == 7);

  polyproc::promise<int> a;
  auto both = polyproc::when_any(a.get_future(), polyproc::make_ready_future(std::string("b")));
  auto got = both.get();
  CHECK(got.index == 1);
  CHECK(std::get<1>(got.futures).get() == "b");
  CHECK_THROWS_AS(polyproc::when_any(std::vector<polyproc::future<int>>{}), std::invalid_argument);
}

TEST_CASE_METHOD(tidy, "combinations can be combined, and continued") {
  several<int> s(4);
  std::vector<polyproc::future<std::vector<int>>> halves;
  halves.push_back(polyproc::when_all(s.futures[0], s.futures[1]).then([](std::tuple<int, int> both) {
    return std::vector<int>{std::get<0>(both), std::get<1>(both)};
  }));
  halves.push_back(polyproc::when_all(std::span(s.futures).subspan(2)));
  auto sum = polyproc::when_all(halves).then([](std::vector<std::vector<int>> const& all) {
    return all[0][0] + all[0][1] + all[1][0] + all[1][1];
  });
  for (int i = 0; i < 4; ++i) (void)s.promises[static_cast<std::size_t>(i)].set_value(i);
  CHECK(sum.get() == 6);
}

TEST_CASE_METHOD(tidy, "an empty future is refused, and no other is taken") {
  several<int> s(2);
  (void)polyproc::future<int>(std::move(s.futures[1]));
  CHECK_THROWS_AS(polyproc::when_all(s.futures), std::logic_error);
  CHECK_THROWS_AS(polyproc::when_any(s.futures), std::logic_error);
  CHECK_THROWS_AS(polyproc::as_completed(s.futures), std::logic_error);
  CHECK_THROWS_AS(polyproc::wait(s.futures), std::logic_error);
  CHECK(s.futures[0].valid());
}

TEST_CASE_METHOD(tidy, "as_completed gives the futures in the order in which they become ready") {
  several<int> s(4);
  std::size_t const order[] = {2, 0, 3, 1};
  (void)s.promises[order[0]].set_value(2);
  std::size_t next = 1;
  std::vector<int> got;
  auto range = polyproc::as_completed(s.futures);
  for (auto& f : range) {
    CHECK(&f == &s.futures[range.index()]);
    got.push_back(f.get());
    if (next < 4) (void)s.promises[order[next]].set_value(static_cast<int>(order[next]));
    ++next;
  }
  CHECK(got == std::vector<int>{2, 0, 3, 1});
  CHECK(range.left() == 0);
  CHECK_FALSE(range.timed_out());
  several<int> t(2);
  for (auto& p : t.promises) (void)p.set_value(1);
  int sum = 0;
  for (auto& f : polyproc::as_completed(std::move(t.futures))) sum += f.get();
  CHECK(sum == 2);
}

TEST_CASE_METHOD(tidy, "as_completed sleeps until another thread completes something") {
  several<int> s(50);
  std::atomic<std::size_t> taken{0};
  std::thread giver([&] {
    for (std::size_t i = 0; i < 50; ++i) {
      while (taken < i) std::this_thread::yield();
      (void)s.promises[49 - i].set_value(static_cast<int>(49 - i));
    }
  });
  int expected = 49;
  for (auto& f : polyproc::as_completed(s.futures)) {
    CHECK(f.get() == expected--);
    ++taken;
  }
  giver.join();
}

TEST_CASE_METHOD(tidy, "as_completed ends at its deadline, and tells how many were not ready") {
  several<int> s(3);
  (void)s.promises[1].set_value(5);
  auto range = polyproc::as_completed_for(20ms, s.futures);
  int count = 0;
  for (auto& f : range) count += f.get();
  CHECK(count == 5);
  CHECK(range.timed_out());
  CHECK(range.left() == 2);
  // What is ready is given though the deadline has passed.
  (void)s.promises[0].set_value(6);
  std::vector<polyproc::future<int>> ready;
  ready.push_back(std::move(s.futures[0]));
  auto late = polyproc::as_completed_until(std::chrono::steady_clock::now() - 1s, ready);
  for (auto& f : late) CHECK(f.get() == 6);
  CHECK_FALSE(late.timed_out());
}

TEST_CASE_METHOD(tidy, "wait returns at the first, at the first failure, or when all are ready") {
  using polyproc::return_when;
  several<int> s(4);
  (void)s.promises[1].set_value(1);
  auto first = polyproc::wait(s.futures, return_when::first_completed);
  CHECK(first.done == std::vector<std::size_t>{1});
  CHECK(first.not_done == std::vector<std::size_t>{0, 2, 3});

  auto none = polyproc::wait_for(5ms, s.futures, return_when::first_exception);
  CHECK(none.done == std::vector<std::size_t>{1});
  std::thread giver([&] {
    (void)s.promises[3].set_value(3);
    (void)s.promises[2].set_exception(std::runtime_error("x"));
  });
  auto failed = polyproc::wait(s.futures, return_when::first_exception);
  CHECK(failed.done == std::vector<std::size_t>{1, 2, 3});
  giver.join();

  CHECK(polyproc::wait_until(std::chrono::system_clock::now() + 5ms, s.futures).not_done == std::vector<std::size_t>{0});
  std::thread last([&] { (void)s.promises[0].set_value(0); });
  CHECK(polyproc::wait(s.futures).not_done.empty());
  last.join();
  CHECK(polyproc::wait(s.futures, return_when::first_exception).done.size() == 4);
  CHECK(s.futures[3].get() == 3);
  CHECK(polyproc::wait(std::vector<polyproc::future<int>>{}, return_when::first_completed).done.empty());
}

TEST_CASE_METHOD(tidy, "waiting does not make the futures heavier, however often it is done") {
  several<int> s(3);
  for (int i = 0; i < 2000; ++i)
    CHECK(polyproc::wait_for(0s, s.futures, polyproc::return_when::first_completed).done.empty());
  for (auto& p : s.promises) (void)p.set_value(1);
}

TEST_CASE_METHOD(tidy, "there is no limit to how many are combined") {
  constexpr std::size_t many = 1000;
  several<int> s(many);
  std::thread giver([&] {
    for (std::size_t i = many; i-- > 0;) (void)s.promises[i].set_value(static_cast<int>(i));
  });
  auto const first = polyproc::wait(s.futures, polyproc::return_when::first_completed);
  CHECK_FALSE(first.done.empty());
  CHECK(polyproc::wait(s.futures).done.size() == many);
  giver.join();
  std::vector<polyproc::shared_future<int>> shared;
  for (auto& f : s.futures) shared.push_back(f.share());
  std::size_t count = 0;
  for (auto& f : polyproc::as_completed(shared)) count += f.ready() ? 1U : 0U;
  CHECK(count == many);
  auto const all = polyproc::when_all(shared).get();
  CHECK(std::accumulate(all.begin(), all.end(), 0) == static_cast<int>(many * (many - 1) / 2));
}

TEST_CASE_METHOD(tidy, "futures of processes, of a pool and of promises go together") {
  polyproc::process_pool pool(1);
  polyproc::shared<polyproc::event> gate;
  polyproc::promise<int> promised;
  std::vector<polyproc::future<int>> all;
  all.push_back(polyproc::async(after_gate, gate, 1));
  all.push_back(pool.submit(twice, 21));
  all.push_back(promised.get_future());
  std::vector<std::size_t> order;
  auto range = polyproc::as_completed(all);
  for (auto& f : range) {
    order.push_back(range.index());
    CHECK(f.ready());
    if (order.size() == 1) (void)promised.set_value(3);
    if (order.size() == 2) gate->set();
  }
  CHECK(order == std::vector<std::size_t>{1, 2, 0});
  CHECK(polyproc::when_all(all).get() == std::vector<int>{1, 42, 3});

  std::vector<polyproc::future<int>> some;
  some.push_back(polyproc::async(fails, "here"));
  some.push_back(polyproc::make_ready_future(1));
  CHECK(polyproc::wait(some, polyproc::return_when::first_exception).done.size() == 2);
  CHECK_THROWS_AS(polyproc::when_all(some).get(), std::out_of_range);
}

TEST_CASE_METHOD(tidy, "many are completed by many threads while somebody waits for them") {
  for (int round = 0; round < 20; ++round) {
    several<int> s(200);
    std::vector<std::thread> givers;
    std::atomic<std::size_t> next{0};
    for (int t = 0; t < 3; ++t)
      givers.emplace_back([&] {
        for (std::size_t i; (i = next++) < 200;) (void)s.promises[i].set_value(1);
      });
    int sum = 0;
    if (round % 2 == 0) {
      for (auto& f : polyproc::as_completed(s.futures)) sum += f.get();
    } else {
      for (int one : polyproc::when_all(s.futures).get()) sum += one;
    }
    CHECK(sum == 200);
    for (auto& t : givers) t.join();
  }
}
