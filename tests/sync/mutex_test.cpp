#include "support/tidy.hpp"

#include <mutex>

using namespace std::chrono_literals;

namespace {

struct account {
  polyproc::mutex lock;
  long balance = 0;
  long mirror = 0;  // equal to balance whenever nobody holds the lock
};
struct gate {
  std::atomic<int> state{0};
};

void wait_for(std::atomic<int> const& state, int value) {
  while (state.load() != value) polyproc::native_backend::yield();
}

void add(polyproc::shared<account> a, int times) {
  for (int i = 0; i < times; ++i) {
    std::scoped_lock hold{a->lock};
    ++a->balance;
    ++a->mirror;
  }
}

void hold_until_killed(polyproc::shared<account> a, polyproc::shared<gate> g) {
  a->lock.lock();
  ++a->balance;  // half of the change
  g->state = 1;
  for (;;) std::this_thread::sleep_for(1h);
}

void lock_and_exit(polyproc::shared<account> a) {
  a->lock.lock();
  ++a->balance;
  polyproc::native_backend::exit_now(0);
}

void make_it_die(polyproc::shared<account> const& a) {
  polyproc::shared<gate> g;
  auto p = polyproc::launch(hold_until_killed, a, g);
  wait_for(g->state, 1);
  p.kill();
  p.join();
}

void recover(account& a) {
  a.lock.recover([&] { a.balance = a.mirror; });
}

}  // namespace

TEST_CASE_METHOD(tidy, "a mutex excludes threads and processes") {
  polyproc::shared<account> a;
  std::vector<polyproc::process> all;
  for (int i = 0; i < 3; ++i) all.push_back(polyproc::launch(add, a, 20000));
  std::thread here([&] { add(a, 20000); });
  add(a, 20000);
  here.join();
  for (auto& p : all) {
    p.join();
    CHECK(p.exit_code() == 0);
  }
  CHECK(a->balance == 100000);
  CHECK(a->mirror == 100000);
}

TEST_CASE_METHOD(tidy, "[H21] after the death of its holder a mutex tells everybody until it is repaired") {
  polyproc::shared<account> a;
  make_it_die(a);
  CHECK_THROWS_AS(a->lock.lock(), polyproc::owner_died);
  CHECK_THROWS_AS(a->lock.lock(), polyproc::owner_died);
  CHECK_THROWS_AS(a->lock.try_lock(), polyproc::owner_died);
  CHECK_THROWS_AS(a->lock.try_lock_for(1s), polyproc::owner_died);
  CHECK(a->lock.owner_is_dead());
  bool repaired = false;
  CHECK(a->lock.recover([&] {
    repaired = true;
    CHECK(a->balance == 1);
    CHECK(a->mirror == 0);
    a->balance = a->mirror;
  }));
  CHECK(repaired);
  CHECK_FALSE(a->lock.recover([] { FAIL("nothing is broken any more"); }));
  add(a, 10);
  CHECK(a->balance == 10);
}

TEST_CASE_METHOD(tidy, "[H21] a repair that throws leaves the mutex broken, not shut") {
  polyproc::shared<account> a;
  make_it_die(a);
  CHECK_THROWS_AS(a->lock.recover([] { throw std::runtime_error("cannot"); }), std::runtime_error);
  CHECK_THROWS_AS(a->lock.lock(), polyproc::owner_died);
  recover(*a);
  CHECK(a->lock.try_lock());
  a->lock.unlock();
}

TEST_CASE_METHOD(tidy, "[H21] a sleeping waiter learns of the holder's death") {
  polyproc::shared<account> a;
  polyproc::shared<gate> g;
  auto p = polyproc::launch(hold_until_killed, a, g);
  wait_for(g->state, 1);
  std::atomic<bool> told{false};
  time_t const begin = time(nullptr);
  std::thread waiter([&] {
    try {
      a->lock.lock();
    } catch (polyproc::owner_died const&) {
      told = true;
    }
  });
  CHECK_FALSE(a->lock.try_lock_for(50ms));  // meanwhile the waiter has gone to sleep
  auto const killed = std::chrono::steady_clock::now();
  p.kill();
  p.join();
  waiter.join();
  auto const took = std::chrono::steady_clock::now() - killed;
  CHECK(told);
  INFO("it took " << std::chrono::duration_cast<std::chrono::milliseconds>(took).count() << " ms; promised: 20 ms, under load 200");
  CHECK(took < 10s);
  CHECK(time(nullptr) - begin < 60);
}

TEST_CASE_METHOD(tidy, "[H21] a process that ends by itself while it holds a mutex is dead too") {
  polyproc::shared<account> a;
  auto p = polyproc::launch(lock_and_exit, a);
  p.join();
  CHECK(p.exit_code() == 0);
  CHECK_THROWS_AS(a->lock.lock(), polyproc::owner_died);
  recover(*a);
}

TEST_CASE_METHOD(tidy, "[H21] a thread that ends while it holds a mutex is dead, though its process lives") {
  polyproc::shared<account> a;
  std::thread([&] { a->lock.lock(); }).join();
  CHECK_THROWS_AS(a->lock.lock(), polyproc::owner_died);
  recover(*a);
}

TEST_CASE_METHOD(tidy, "[H23] locking twice and unlocking another's mutex are errors, not hangs") {
  polyproc::shared<account> a;
  a->lock.lock();
  CHECK_THROWS_AS(a->lock.lock(), std::system_error);
  CHECK_THROWS_AS(a->lock.try_lock(), std::system_error);
  std::thread([&] {
    CHECK_THROWS_AS(a->lock.unlock(), std::system_error);
    CHECK_FALSE(a->lock.try_lock());
  }).join();
  a->lock.unlock();
  CHECK_THROWS_AS(a->lock.unlock(), std::system_error);
}

TEST_CASE_METHOD(tidy, "a timed lock returns in time while the holder is stopped") {
  polyproc::shared<account> a;
  polyproc::shared<gate> g;
  auto p = polyproc::launch(hold_until_killed, a, g);
  wait_for(g->state, 1);
  REQUIRE(p.ask(polyproc::child_request::stop));
  for (auto const wait : {0ms, 1ms, 30ms}) {
    auto const begin = std::chrono::steady_clock::now();
    CHECK_FALSE(a->lock.try_lock_for(wait));
    auto const late = std::chrono::steady_clock::now() - begin - wait;
    CHECK(late >= 0ms);
    INFO("late by " << std::chrono::duration_cast<std::chrono::microseconds>(late).count() << " us; promised: 20 ms, under load 200");
    CHECK(late < 10s);
  }
  p.kill();
  p.join();
}

TEST_CASE_METHOD(tidy, "standard guards work with a mutex") {
  polyproc::shared<account> a;
  {
    std::lock_guard<polyproc::mutex> hold{a->lock};
  }
  {
    std::unique_lock<polyproc::mutex> hold{a->lock, 10ms};
    CHECK(hold.owns_lock());
  }
  {
    polyproc::shared<account> b;
    std::scoped_lock both{a->lock, b->lock};
  }
  static_assert(std::is_trivially_destructible_v<polyproc::mutex>);
}
