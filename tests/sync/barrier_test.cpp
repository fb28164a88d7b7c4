#include "support/stage.hpp"
#include "support/tidy.hpp"

using namespace std::chrono_literals;

namespace {
constexpr int rounds = 300;
struct meeting {
  polyproc::barrier meet{4};
  polyproc::barrier pair{2};
  polyproc::latch left{3};
  stage stage_of;
  std::atomic<int> arrived[rounds] = {};
  std::atomic<int> early{0};
  std::atomic<int> broken{0};
  std::atomic<unsigned> places{0};
};
using shared_meeting = polyproc::shared<meeting>;

void go_round(shared_meeting m) {
  for (int i = 0; i < rounds; ++i) {
    ++m->arrived[i];
    auto const place = m->meet.arrive_and_wait();
    if (m->arrived[i] != 4) ++m->early;
    if (i == 0) m->places.fetch_or(1U << place);
  }
}
void arrive_and_stay(shared_meeting m) {
  m->pair.join();
  m->stage_of.add();
  sleep_until_killed();
}
void arrive(shared_meeting m) {
  m->stage_of.add();
  try {
    m->pair.arrive_and_wait();
  } catch (polyproc::broken_barrier const&) {
    ++m->broken;
  }
}
}  // namespace

TEST_CASE_METHOD(tidy, "nobody passes a barrier before all have come, round after round") {
  shared_meeting m;
  std::vector<polyproc::process> all;
  for (int i = 0; i < 3; ++i) all.push_back(polyproc::launch(go_round, m));
  go_round(m);
  for (auto& p : all) {
    CHECK(p.join_for(60s));
    CHECK(p.exit_code() == 0);
  }
  CHECK(m->early == 0);
  CHECK(m->places == 0b1111U);
}

TEST_CASE_METHOD(tidy, "[H22] a barrier that lost a member is broken for all, until it is reset") {
  shared_meeting m;
  auto p = polyproc::launch(arrive_and_stay, m);
  m->stage_of.await(1);
  std::thread waiter([&] {
    try {
      m->pair.arrive_and_wait();
    } catch (polyproc::broken_barrier const&) {
      ++m->broken;
    }
  });
  p.kill();
  auto const took = time_of([&] { waiter.join(); });
  p.join();
  INFO("it took " << std::chrono::duration_cast<std::chrono::milliseconds>(took).count() << " ms; promised: 20 ms");
  CHECK(took < soon);
  CHECK(m->broken == 1);
  CHECK(m->pair.is_broken());
  CHECK_THROWS_AS(m->pair.arrive_and_wait(), polyproc::broken_barrier);
  m->pair.reset();
  auto q = polyproc::launch(arrive, m);
  m->pair.arrive_and_wait();
  q.join();
  CHECK(m->broken == 1);
}

TEST_CASE_METHOD(tidy, "[H22] one that gives up waiting breaks the barrier, as does abort") {
  shared_meeting m;
  CHECK(time_of([&] { CHECK_FALSE(m->pair.arrive_and_wait_for(10ms)); }) < soon);
  CHECK(m->pair.is_broken());
  CHECK_THROWS_AS(m->pair.arrive_and_wait_for(10ms), polyproc::broken_barrier);
  m->pair.reset();
  auto p = polyproc::launch(arrive, m);
  m->stage_of.await(1);
  m->pair.abort();
  CHECK(p.join_for(60s));
  CHECK(m->broken == 1);
}

TEST_CASE_METHOD(tidy, "a member that drops out is not waited for; a thread too many is an error") {
  shared_meeting m;
  m->pair.arrive_and_drop();
  std::thread([&] {
    for (int i = 0; i < 10; ++i) m->pair.arrive_and_wait();
    std::thread([&] { CHECK_THROWS_AS(m->pair.arrive_and_wait(), std::logic_error); }).join();
    m->pair.arrive_and_drop();
  }).join();
  CHECK_THROWS_AS(polyproc::barrier(0), std::invalid_argument);
  CHECK_THROWS_AS(polyproc::barrier(65), std::invalid_argument);
}

TEST_CASE_METHOD(tidy, "a latch opens when it has been counted down") {
  shared_meeting m;
  CHECK_FALSE(m->left.try_wait());
  CHECK(time_of([&] { CHECK_FALSE(m->left.wait_for(5ms)); }) < soon);
  auto const count = [](shared_meeting of) { of->left.count_down(); };
  auto p = polyproc::launch(count, m);
  auto q = polyproc::launch(count, m);
  m->left.arrive_and_wait();
  CHECK(m->left.try_wait());
  CHECK_THROWS_AS(m->left.count_down(), std::invalid_argument);
  p.join();
  q.join();
}
