#include "support/tidy.hpp"

#include <map>

using namespace std::chrono_literals;
using polyproc::queue_status;

namespace {

struct order {
  int id = 0;
  std::string what;
  std::vector<double> prices;
  friend bool operator==(order const&, order const&) = default;
};

struct item {
  int producer = 0;
  int number = 0;
};

void produce(polyproc::queue<item> q, int who, int count) {
  for (int i = 0; i < count; ++i) q.put({who, i});
}

void consume(polyproc::queue<item> from, polyproc::queue<item> to) {
  for (auto const& i : from) to.put(i);
}

void put_one(polyproc::queue<std::string> q, std::string text) { q.put(text); }

void get_and_answer(polyproc::queue<polyproc::queue<int>> mail) {
  auto const to = mail.get();
  to.put(42);
}

void wait_for_ever(polyproc::queue<int> q) { (void)q.get(); }

void churn_large(polyproc::queue<std::string> q) {
  std::string const text(400000, 'z');
  for (;;) {
    (void)q.put_for(text, 1ms);
    (void)q.try_get();
  }
}

}  // namespace

TEST_CASE_METHOD(tidy, "values come out as they went in, in order") {
  polyproc::queue<order> q(10);
  std::vector<order> const orders{{1, "apples", {1.5, 2.5}}, {2, "", {}}, {3, std::string(100000, 'x'), {0.25}}};
  for (auto const& o : orders) q.put(o);
  CHECK(q.size() == 3);
  for (auto const& o : orders) CHECK(q.get() == o);
  CHECK(q.empty());
}

TEST_CASE_METHOD(tidy, "[H36] capacity is exact, and size, empty and full agree with it") {
  for (std::size_t const capacity : {1U, 2U, 3U, 7U, 100U}) {
    polyproc::queue<int> q(capacity);
    CHECK(q.capacity() == capacity);
    CHECK(q.empty());
    for (std::size_t i = 0; i < capacity; ++i) {
      CHECK_FALSE(q.full());
      CHECK(q.try_put(static_cast<int>(i)));
      CHECK(q.size() == i + 1);
    }
    CHECK(q.full());
    queue_status why{};
    CHECK_FALSE(q.try_put(0, why));
    CHECK(why == queue_status::full);
    CHECK_THROWS_AS(q.put_nowait(0), polyproc::queue_full);
    CHECK_FALSE(q.put_for(0, 5ms));
    for (std::size_t i = 0; i < capacity; ++i) CHECK(q.get() == static_cast<int>(i));
    CHECK_FALSE(q.try_get(why));
    CHECK(why == queue_status::empty);
    CHECK_THROWS_AS(q.get_nowait(), polyproc::queue_empty);
    CHECK_FALSE(q.get_for(5ms));
  }
  CHECK_THROWS_AS(polyproc::queue<int>(0), std::invalid_argument);
}

TEST_CASE_METHOD(tidy, "[H37] a closed queue refuses puts, is drained, then says closed") {
  polyproc::queue<int> q(4);
  q.put(1);
  q.put(2);
  q.close();
  CHECK(q.is_closed());
  CHECK_THROWS_AS(q.put(3), polyproc::queue_closed);
  queue_status why{};
  CHECK_FALSE(q.try_put(3, why));
  CHECK(why == queue_status::closed);
  CHECK(q.get() == 1);
  CHECK(q.try_get() == 2);
  CHECK_FALSE(q.try_get(why));
  CHECK(why == queue_status::closed);
  CHECK_THROWS_AS(q.get(), polyproc::queue_closed);
  CHECK_FALSE(q.get_for(1h));
  for (int i : q) FAIL("there is nothing left, but got " << i);
}

TEST_CASE_METHOD(tidy, "close wakes those who wait on either side") {
  polyproc::queue<int> q(1);
  polyproc::queue<int> full(1);
  full.put(1);
  std::atomic<int> told{0};  // the test library's macros are for one thread
  auto const expect_closed = [&](auto&& wait) {
    try {
      wait();
    } catch (polyproc::queue_closed const&) {
      ++told;
    }
  };
  std::thread getter([&] { expect_closed([&] { (void)q.get(); }); });
  std::thread putter([&] { expect_closed([&] { full.put(2); }); });
  std::this_thread::sleep_for(20ms);  // long enough to be asleep most of the time; both ways must end
  q.close();
  full.close();
  getter.join();
  putter.join();
  CHECK(told == 2);
}

TEST_CASE_METHOD(tidy, "messages of every size pass, from nothing to more than the ring holds") {
  polyproc::queue<std::string> q(3);
  for (std::size_t size = 0; size < 300; ++size) {
    q.put(std::string(size, 'a'));
    CHECK(q.get() == std::string(size, 'a'));
  }
  for (std::size_t const size : {1000U, 4095U, 4096U, 5000U, 70000U, 1U << 20, 20U << 20}) {
    std::string const text(size, 'z');
    q.put(text);
    q.put("in between");
    CHECK(q.get() == text);
    CHECK(q.get() == "in between");
  }
}

TEST_CASE_METHOD(tidy, "the ring wraps without a message being cut or overwritten") {
  polyproc::queue<std::string> q(5);
  std::size_t put = 0;
  std::size_t got = 0;
  auto const text = [](std::size_t n) { return std::string(40 + n * 37 % 900, static_cast<char>('a' + n % 26)); };
  for (int round = 0; round < 3000; ++round) {
    while (q.try_put(text(put))) ++put;
    for (int i = 0; i < 1 + round % 5; ++i) {
      auto const t = q.try_get();
      if (!t) break;
      REQUIRE(*t == text(got));
      ++got;
    }
  }
  CHECK(put - got == q.size());
}

TEST_CASE_METHOD(tidy, "memory for large messages is given back") {
  polyproc::queue<std::string> q(4);
  auto const before = polyproc::detail::arena<polyproc::native_backend>::used_bytes();
  for (int i = 0; i < 20; ++i) {
    q.put(std::string(3 << 20, 'x'));
    (void)q.get();
  }
  CHECK(polyproc::detail::arena<polyproc::native_backend>::used_bytes() == before);
  {
    polyproc::queue<std::string> dropped(4);
    dropped.put(std::string(3 << 20, 'x'));
  }
  CHECK(polyproc::detail::arena<polyproc::native_backend>::used_bytes() == before);
}

TEST_CASE_METHOD(tidy, "many producers and consumers in processes lose nothing and see nothing twice") {
  constexpr int each = 2000;
  polyproc::queue<item> in(50);
  polyproc::queue<item> out(70);
  std::vector<polyproc::process> producers;
  std::vector<polyproc::process> consumers;
  for (int i = 0; i < 3; ++i) producers.push_back(polyproc::launch(produce, in, i, each));
  for (int i = 0; i < 3; ++i) consumers.push_back(polyproc::launch(consume, in, out));
  std::map<std::pair<int, int>, int> seen;
  for (int i = 0; i < 3 * each; ++i) {
    auto const got = out.get();
    ++seen[{got.producer, got.number}];
  }
  CHECK(seen.size() == 3U * each);
  for (auto& p : producers) p.join();
  in.close();
  for (auto& p : consumers) {
    p.join();
    CHECK(p.exit_code() == 0);
  }
  CHECK(out.empty());
}

TEST_CASE_METHOD(tidy, "one consumer sees each producer's messages in the order of their puts") {
  polyproc::queue<item> q(10);
  auto a = polyproc::launch(produce, q, 0, 3000);
  auto b = polyproc::launch(produce, q, 1, 3000);
  std::map<int, int> next;
  for (int i = 0; i < 6000; ++i) {
    auto const got = q.get();
    REQUIRE(got.number == next[got.producer]++);
  }
  a.join();
  b.join();
}

TEST_CASE_METHOD(tidy, "[H32] a child ends though nobody has read what it put") {
  polyproc::queue<std::string> q(4);
  auto p = polyproc::launch(put_one, q, std::string(1 << 20, 'x'));
  p.join();
  CHECK(p.exit_code() == 0);
  CHECK(q.get().size() == 1 << 20);
}

TEST_CASE_METHOD(tidy, "a queue can be a message in a queue, and its reader may outlive its sender") {
  polyproc::queue<polyproc::queue<int>> mail(2);
  polyproc::queue<int> answers(1);
  auto p = polyproc::launch(get_and_answer, mail);
  {
    polyproc::queue<int> const lent = answers;
    mail.put(lent);
  }
  CHECK(answers.get() == 42);
  p.join();
  mail.put(polyproc::queue<int>(3));  // the only handle is in the message
  CHECK(mail.get().capacity() == 3);
}

TEST_CASE_METHOD(tidy, "a handle that could not be put lets go of what it held") {
  auto const before = polyproc::detail::arena<polyproc::native_backend>::used_bytes();
  {
    polyproc::queue<polyproc::queue<int>> mail(1);
    polyproc::queue<int> a(1);
    mail.put(a);
    CHECK_FALSE(mail.try_put(a));
    (void)mail.get();
  }
  CHECK(polyproc::detail::arena<polyproc::native_backend>::used_bytes() == before);
}

TEST_CASE_METHOD(tidy, "[H33] killed while it waits in get, a consumer leaves the queue to the others") {
  polyproc::queue<int> q(4);
  for (int round = 0; round < 5; ++round) {
    auto p = polyproc::launch(wait_for_ever, q);
    std::this_thread::sleep_for(10ms);
    p.kill();
    p.join();
    q.put(round);
    CHECK(q.get_for(5s) == round);
  }
}

TEST_CASE_METHOD(tidy, "a timed get and put return in time") {
  polyproc::queue<int> q(1);
  for (auto const wait : {0ms, 2ms, 40ms}) {
    auto begin = std::chrono::steady_clock::now();
    CHECK_FALSE(q.get_for(wait));
    auto late = std::chrono::steady_clock::now() - begin - wait;
    CHECK(late >= 0ms);
    CHECK(late < 2s);
  }
  q.put(1);
  auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(q.put_until(2, begin + 30ms));
  auto const took = std::chrono::steady_clock::now() - begin;
  CHECK(took >= 30ms);
  CHECK(took < 2s);
}

TEST_CASE_METHOD(tidy, "timed forms return in time while somebody who allocates is stopped") {
  // The process is stopped at arbitrary places of puts and gets of large messages; now and then it holds a lock of the queue
  // or the books of the shared memory.
  polyproc::queue<std::string> theirs(2);
  polyproc::queue<std::string> ours(2);
  auto p = polyproc::launch(churn_large, theirs);
  ours.put(std::string(400000, 'x'));
  auto worst = 0ms;
  for (int round = 0; round < 60; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(300 + 37 * round));
    REQUIRE(p.ask(polyproc::child_request::stop));
    for (auto* q : {&ours, &theirs}) {
      auto begin = std::chrono::steady_clock::now();
      auto const got = q->get_for(5ms);
      (void)q->put_for(std::string(400000, 'y'), 5ms);
      (void)q->try_put("small");
      (void)q->try_get();
      (void)q->size();
      // Four operations with two limits of 5 ms, each of which may be 20 ms late.
      worst = std::max(worst, std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin));
    }
    REQUIRE(p.ask(polyproc::child_request::resume));
  }
  INFO("the slowest round took " << worst.count() << " ms; promised: 90 ms, under load 810");
  CHECK(worst < 8s);
  p.kill();
  p.join();
}
