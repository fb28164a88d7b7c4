#include "support/stage.hpp"
#include "support/tidy.hpp"

#include <mutex>

using namespace std::chrono_literals;

namespace {
template <class Mutex>
struct shelf {
  Mutex lock;
  polyproc::condition_variable changed;
  stage stage_of;
  int items = 0;
  int taken = 0;
};
template <class Mutex>
void take(polyproc::shared<shelf<Mutex>> s, int count) {
  for (int i = 0; i < count; ++i) {
    std::unique_lock hold{s->lock};
    s->changed.wait(hold, [&] { return s->items > 0; });
    --s->items;
    ++s->taken;
  }
}
using simple = shelf<polyproc::mutex>;

void wait_for_ever(polyproc::shared<simple> s) {
  polyproc::unique_lock hold{s->lock};
  s->stage_of.add();
  for (;;) s->changed.wait(hold);
}
void die_with_the_lock(polyproc::shared<simple> s) {
  s->stage_of.await(1);
  s->lock.lock();
  polyproc::native_backend::exit_now(0);
}

template <class Mutex>
void give_and_take() {
  polyproc::shared<shelf<Mutex>> s;
  std::vector<polyproc::process> all;
  for (int i = 0; i < 3; ++i) all.push_back(polyproc::launch(take<Mutex>, s, 500));
  for (int i = 0; i < 1500; ++i) {
    {
      std::scoped_lock hold{s->lock};
      ++s->items;
    }
    if (i % 2 == 0)
      s->changed.notify_one();
    else
      s->changed.notify_all();
  }
  for (auto& p : all) {
    CHECK(p.join_for(60s));
    CHECK(p.exit_code() == 0);
  }
  CHECK(s->taken == 1500);
}
}  // namespace

TEST_CASE_METHOD(tidy, "a condition variable works with every lock of ours") {
  give_and_take<polyproc::mutex>();
  give_and_take<polyproc::recursive_mutex>();
  give_and_take<polyproc::shared_mutex>();
}

TEST_CASE_METHOD(tidy, "[H22] a wait on a condition variable returns at its deadline") {
  polyproc::shared<simple> s;
  std::unique_lock hold{s->lock};
  auto const begin = std::chrono::steady_clock::now();
  CHECK_FALSE(s->changed.wait_for(hold, 20ms, [] { return false; }));
  auto const took = std::chrono::steady_clock::now() - begin;
  CHECK(took >= 20ms);
  CHECK(took < soon);
  CHECK(hold.owns_lock());
  CHECK_FALSE(s->changed.wait_until(hold, std::chrono::system_clock::now() + 5ms, [] { return false; }));
}

TEST_CASE_METHOD(tidy, "[H22] waiters that are killed keep nobody from waiting and notifying") {
  polyproc::shared<simple> s;
  auto survivor = polyproc::launch(take<polyproc::mutex>, s, 1);
  for (int round = 0; round < 20; ++round) {
    auto p = polyproc::launch(wait_for_ever, s);
    s->stage_of.await(round + 1);
    for (int i = 0; i < 3; ++i) s->changed.notify_one();
    p.kill();
    p.join();
    // It may have died with the lock.
    s->lock.recover([] {});
    CHECK(time_of([&] {
            s->changed.notify_one();
            s->changed.notify_all();
          }) < soon);
  }
  {
    std::scoped_lock hold{s->lock};
    ++s->items;
  }
  s->changed.notify_one();
  CHECK(survivor.join_for(60s));
}

TEST_CASE_METHOD(tidy, "[H21] a waiter is told when the lock it takes again has lost its holder") {
  polyproc::shared<simple> s;
  auto p = polyproc::launch(die_with_the_lock, s);
  {
    std::unique_lock hold{s->lock};
    s->stage_of.reach(1);
    CHECK_THROWS_AS(s->changed.wait_for(hold, 60s, [] { return false; }), polyproc::owner_died);
    CHECK_FALSE(hold.owns_lock());
  }
  p.join();
  s->lock.recover([] {});
}
