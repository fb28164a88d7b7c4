#include "support/stage.hpp"
#include "support/tidy.hpp"

#include <mutex>

using namespace std::chrono_literals;

namespace {
struct account {
  polyproc::recursive_mutex lock;
  stage stage_of;
  long balance = 0;
};
void deposit(account& a, int depth) {
  std::scoped_lock hold{a.lock};
  if (depth == 0)
    ++a.balance;
  else
    deposit(a, depth - 1);
}
void deposit_often(polyproc::shared<account> a) {
  for (int i = 0; i < 2000; ++i) deposit(*a, 3);
}
void die_deep(polyproc::shared<account> a) {
  for (int i = 0; i < 5; ++i) a->lock.lock();
  a->stage_of.reach(1);
  sleep_until_killed();
}
}  // namespace

TEST_CASE_METHOD(tidy, "a recursive mutex excludes others until it is unlocked as often as it was locked") {
  polyproc::shared<account> a;
  auto p = polyproc::launch(deposit_often, a);
  auto q = polyproc::launch(deposit_often, a);
  deposit_often(a);
  p.join();
  q.join();
  CHECK(a->balance == 6000);
  a->lock.lock();
  CHECK(a->lock.try_lock());
  CHECK(a->lock.try_lock_for(1ms));
  a->lock.unlock();
  a->lock.unlock();
  std::thread([&] {
    if (a->lock.try_lock()) std::abort();
  }).join();
  a->lock.unlock();
  std::thread([&] {
    if (!a->lock.try_lock()) std::abort();
    a->lock.unlock();
  }).join();
}

TEST_CASE_METHOD(tidy, "[H21] a recursive mutex whose holder died is told of, however deep it was") {
  polyproc::shared<account> a;
  auto p = polyproc::launch(die_deep, a);
  a->stage_of.await(1);
  p.kill();
  p.join();
  CHECK_THROWS_AS(a->lock.lock(), polyproc::owner_died);
  CHECK(a->lock.recover([] {}));
  a->lock.lock();
  a->lock.unlock();
  CHECK_THROWS_AS(a->lock.unlock(), std::system_error);
}

TEST_CASE_METHOD(tidy, "[H23] unlocking a recursive mutex of another is an error") {
  polyproc::shared<account> a;
  CHECK_THROWS_AS(a->lock.unlock(), std::system_error);
  a->lock.lock();
  std::thread([&] { CHECK_THROWS_AS(a->lock.unlock(), std::system_error); }).join();
  CHECK_THROWS_AS(a->lock.recover([] {}), std::system_error);
  a->lock.unlock();
}
