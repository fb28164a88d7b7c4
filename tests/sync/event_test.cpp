#include "support/stage.hpp"
#include "support/tidy.hpp"

using namespace std::chrono_literals;

namespace {
struct signals {
  polyproc::event go;
  polyproc::event back;
  polyproc::once_flag once;
  stage stage_of;
  std::atomic<int> runs{0};
  std::atomic<int> seen{0};
};
using shared_signals = polyproc::shared<signals>;

void wait_for_go(shared_signals s) {
  s->stage_of.add();
  s->go.wait();
  ++s->seen;
}
void answer(shared_signals s) {
  for (int i = 0; i < 500; ++i) {
    s->go.wait();
    s->go.clear();
    s->back.set();
  }
}
void initialise(shared_signals s) {
  polyproc::call_once(s->once, [&] {
    std::this_thread::sleep_for(5ms);
    ++s->runs;
  });
  if (s->runs == 1) ++s->seen;
}
void die_initialising(shared_signals s) {
  polyproc::call_once(s->once, [&] {
    s->stage_of.add();
    sleep_until_killed();
  });
}
}  // namespace

TEST_CASE_METHOD(tidy, "an event lets all go on who wait, and all who come until it is cleared") {
  shared_signals s;
  CHECK_FALSE(s->go.is_set());
  CHECK(time_of([&] { CHECK_FALSE(s->go.wait_for(5ms)); }) < soon);
  auto p = polyproc::launch(wait_for_go, s);
  auto q = polyproc::launch(wait_for_go, s);
  s->stage_of.await(2);
  s->go.set();
  CHECK(p.join_for(60s));
  CHECK(q.join_for(60s));
  CHECK(s->seen == 2);
  CHECK(s->go.wait_for(0ms));
  s->go.clear();
  CHECK_FALSE(s->go.is_set());
}

TEST_CASE_METHOD(tidy, "no set of an event is lost in five hundred round trips") {
  shared_signals s;
  auto p = polyproc::launch(answer, s);
  for (int i = 0; i < 500; ++i) {
    s->go.set();
    REQUIRE(s->back.wait_for(60s));
    s->back.clear();
  }
  CHECK(p.join_for(60s));
}

TEST_CASE_METHOD(tidy, "[H22] waiters that are killed keep nobody from setting and waiting") {
  shared_signals s;
  auto survivor = polyproc::launch(wait_for_go, s);
  s->stage_of.await(1);
  for (int i = 0; i < 5; ++i) {
    auto p = polyproc::launch(wait_for_go, s);
    s->stage_of.await(i + 2);
    p.kill();
    p.join();
  }
  CHECK(time_of([&] { s->go.set(); }) < soon);
  CHECK(survivor.join_for(60s));
  CHECK(s->seen == 1);
}

TEST_CASE_METHOD(tidy, "once: one process does it, the others wait until it is done") {
  shared_signals s;
  std::vector<polyproc::process> all;
  for (int i = 0; i < 3; ++i) all.push_back(polyproc::launch(initialise, s));
  initialise(s);
  for (auto& p : all) p.join();
  CHECK(s->runs == 1);
  CHECK(s->seen == 4);
  CHECK(s->once.called());
}

TEST_CASE_METHOD(tidy, "[H21] once: when the one that does it is killed or fails, the next one does it") {
  shared_signals s;
  auto p = polyproc::launch(die_initialising, s);
  s->stage_of.await(1);
  p.kill();
  CHECK_THROWS_AS(polyproc::call_once(s->once, [] { throw std::runtime_error("not yet"); }), std::runtime_error);
  CHECK_THROWS_AS(polyproc::call_once(s->once, [&] { polyproc::call_once(s->once, [] {}); }), std::system_error);
  initialise(s);
  CHECK(s->runs == 1);
  p.join();
}
