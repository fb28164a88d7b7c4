#include "support/stage.hpp"
#include "support/tidy.hpp"

using namespace std::chrono_literals;

namespace {
struct room {
  polyproc::bounded_semaphore places{2};
  polyproc::semaphore items;
  stage stage_of;
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  std::atomic<int> taken{0};
};
using shared_room = polyproc::shared<room>;

void visit_often(shared_room r) {
  for (int i = 0; i < 2000; ++i) {
    r->places.acquire();
    int const now = ++r->inside;
    for (int most = r->most; now > most && !r->most.compare_exchange_weak(most, now);) {
    }
    --r->inside;
    r->places.release();
  }
}
void stay(shared_room r) {
  r->places.acquire();
  r->stage_of.add();
  sleep_until_killed();
}
void take_items(shared_room r, int count) {
  for (int i = 0; i < count; ++i) {
    r->items.acquire();
    ++r->taken;
  }
}
}  // namespace

TEST_CASE_METHOD(tidy, "a bounded semaphore lets as many in as it has permits") {
  shared_room r;
  std::vector<polyproc::process> all;
  for (int i = 0; i < 3; ++i) all.push_back(polyproc::launch(visit_often, r));
  visit_often(r);
  for (auto& p : all) p.join();
  CHECK(r->most <= 2);
  CHECK(r->most >= 1);
  CHECK(r->places.value() == 2);
}

TEST_CASE_METHOD(tidy, "[H21] the permit of a killed holder comes back") {
  shared_room r;
  auto one = polyproc::launch(stay, r);
  auto two = polyproc::launch(stay, r);
  r->stage_of.await(2);
  CHECK(r->places.value() == 0);
  CHECK_FALSE(r->places.try_acquire());
  CHECK_FALSE(r->places.try_acquire_for(20ms));
  one.kill();
  auto const took = time_of([&] { r->places.acquire(); });
  INFO("it took " << std::chrono::duration_cast<std::chrono::milliseconds>(took).count() << " ms; promised: 20 ms");
  CHECK(took < soon);
  two.kill();
  one.join();
  two.join();
  CHECK(r->places.try_acquire());
  r->places.release();
  r->places.release();
  CHECK(r->places.value() == 2);
}

TEST_CASE_METHOD(tidy, "[H23] releasing what one does not hold, or more than there can be, is an error") {
  shared_room r;
  CHECK_THROWS_AS(r->places.release(), std::system_error);
  r->places.acquire();
  std::thread([&] { CHECK_THROWS_AS(r->places.release(), std::system_error); }).join();
  r->places.release();
  r->items.release(5);
  CHECK_THROWS_AS(r->items.release(polyproc::semaphore::max() - 4), std::overflow_error);
  CHECK(r->items.value() == 5);
  CHECK_THROWS_AS(polyproc::bounded_semaphore(0), std::invalid_argument);
  CHECK_THROWS_AS(polyproc::bounded_semaphore(65), std::invalid_argument);
}

TEST_CASE_METHOD(tidy, "every permit of a semaphore is taken once") {
  shared_room r;
  std::vector<polyproc::process> all;
  for (int i = 0; i < 3; ++i) all.push_back(polyproc::launch(take_items, r, 1000));
  for (int i = 0; i < 2000; ++i) r->items.release();
  for (int i = 0; i < 100; ++i) r->items.release(10);
  for (auto& p : all) {
    CHECK(p.join_for(60s));
    CHECK(p.exit_code() == 0);
  }
  CHECK(r->taken == 3000);
  CHECK(r->items.value() == 0);
  CHECK_FALSE(r->items.try_acquire());
  CHECK(time_of([&] { CHECK_FALSE(r->items.try_acquire_for(5ms)); }) < soon);
}

TEST_CASE_METHOD(tidy, "[H22] a waiter that is killed takes nobody's permit with it") {
  shared_room r;
  auto one = polyproc::launch(take_items, r, 1);
  auto two = polyproc::launch(take_items, r, 1);
  CHECK_FALSE(one.join_for(50ms));  // meanwhile they sleep
  one.kill();
  one.join();
  r->items.release();
  CHECK(two.join_for(60s));
  CHECK(r->taken == 1);
}
