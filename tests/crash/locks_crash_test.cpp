// timeout: 1500
// alone
//
// A process is killed after every single instruction of the operations on locks other than the mutex, and on what threads
// signal to each other with. See crash_points.hpp.

#include "crash/lock_case.hpp"

#if defined(POLYPROC_NO_CRASH_POINTS)

TEST_CASE("[H33] a kill at any instruction of the other locks") { crash_points_skipped(POLYPROC_NO_CRASH_POINTS); }

#else

using namespace std::chrono_literals;

namespace {

/// One object, and somebody who sleeps in it.
template <class T>
struct scene {
  polyproc::shared<T> it;
  std::atomic<int> slept{0};  // what the sleeper came back with
  std::unique_ptr<crash_sleeper> sleeper;
  scene() = default;
  explicit scene(polyproc::shared<T> made) : it(std::move(made)) {}
  scene(scene&& other) noexcept : it(std::move(other.it)) {}

  template <class Wait>
  void sleep(Wait wait) {
    sleeper = std::make_unique<crash_sleeper>([this, wait] { slept = wait(*it); });
  }
};
constexpr auto long_enough = 3 * crash_limit;

struct letter_box {
  polyproc::mutex lock;
  polyproc::condition_variable changed;
  int letters = 0;
};
struct pair_to_meet {
  polyproc::barrier meet{2};
};

}  // namespace

TEST_CASE_METHOD(tidy, "[H33] recursive_mutex: a kill at any instruction of lock and unlock") {
  crash_points(lock_case<polyproc::recursive_mutex>("recursive_mutex lock, lock, change, unlock, unlock", [](auto& a) {
    polyproc::lock outer{a->lock};
    polyproc::lock inner{a->lock};
    change(a);
  })).check();
}

TEST_CASE_METHOD(tidy, "[H33] shared_mutex: a kill at any instruction of lock and unlock, for writing and reading") {
  // With few places for readers, of which a writer looks at each.
  using shared_mutex = polyproc::basic_shared_mutex<polyproc::on_owner_death::throws, polyproc::waiting::adaptive, 4>;
  crash_points(lock_case<shared_mutex>("shared_mutex lock, change, unlock", [](auto& a) {
    polyproc::lock hold{a->lock};
    change(a);
  })).check();
  auto reader = lock_case<shared_mutex>("shared_mutex lock_shared, unlock_shared",
                                                  [](auto& a) { polyproc::shared_lock hold{a->lock}; });
  crash_points(reader).check();
  auto stopped = reader;
  stopped.name += ", stopped there";
  stopped.while_stopped = [](auto& a, crash_point& at) {
    at.expect(a->lock.try_lock_shared_for(crash_limit), "a reader keeps others from reading");
    a->lock.unlock_shared();
    if (a->lock.try_lock_for(5ms)) a->lock.unlock();
  };
  stopped.whole = false;
  crash_points(stopped).check();
}

TEST_CASE_METHOD(tidy, "[H33] bounded_semaphore: a kill at any instruction of acquire and release") {
  using one = polyproc::bounded_semaphore;
  crash_points(crash_case<polyproc::shared<one>>{
                   .name = "bounded_semaphore acquire, release",
                   .setup = [] { return polyproc::shared<one>(std::in_place, 1U); },
                   .operation =
                       [](auto& s) {
                         s->acquire();
                         s->release();
                       },
                   .survive =
                       [](auto& s, crash_point& at) {
                         if (s->value() == 0) at.note("died with the permit");
                         at.expect(s->try_acquire_for(crash_limit), "the permit does not come back");
                         at.expect(!s->try_acquire(), "two permits of one");
                         s->release();
                         at.expect(s->value() == 1, "not as many permits as there were");
                       },
                   .whole = true})
      .check();
}

TEST_CASE_METHOD(tidy, "[H33] semaphore: a kill at any instruction of acquire and release, somebody asleep") {
  crash_points(crash_case<polyproc::shared<polyproc::semaphore>>{
                   .name = "semaphore acquire, release",
                   .setup = [] { return polyproc::shared<polyproc::semaphore>(std::in_place, 2U); },
                   .operation =
                       [](auto& s) {
                         s->acquire();
                         s->release();
                       },
                   .survive =
                       [](auto& s, crash_point& at) {
                         auto const left = s->value();
                         if (left == 1) at.note("died with a permit");
                         at.expect(left == 1 || left == 2, "a permit too many, or too few");
                         at.expect(s->try_acquire(), "a permit that is there is not to be had");
                         s->release();
                       },
                   .whole = true})
      .check();
  crash_points(crash_case<scene<polyproc::semaphore>>{
                   .name = "semaphore release, somebody asleep",
                   .setup = [] { return scene<polyproc::semaphore>{}; },
                   .begun = [](auto& s) { s.sleep([](auto& it) { return it.try_acquire_for(long_enough) ? 1 : 2; }); },
                   .operation = [](auto& s) { s.it->release(); },
                   .survive =
                       [](auto& s, crash_point& at) {
                         if (s.it->value() == 0 && !s.sleeper->ended()) {
                           at.note("died before");
                           s.it->release();
                         }
                         at.expect(s.sleeper->ends(), "the sleeper does not see the permit");
                         at.expect(s.slept == 1, "the sleeper does not get the permit");
                       }})
      .check();
}

TEST_CASE_METHOD(tidy, "[H33] condition_variable: a kill at any instruction of wait and notify") {
  // The one that is killed waits for what is there already after its first wait: a whole wait, whatever wakes it.
  crash_points(crash_case<scene<letter_box>>{
                   .name = "condition_variable wait that times out",
                   .setup = [] { return scene<letter_box>{}; },
                   .operation =
                       [](auto& s) {
                         polyproc::unique_lock hold{s.it->lock};
                         (void)s.it->changed.wait_for(hold, 50us);
                       },
                   .survive =
                       [](auto& s, crash_point& at) {
                         s.it->lock.recover([&] { at.note("left the lock to be repaired"); });
                         s.it->changed.notify_one();
                         s.it->changed.notify_all();
                         at.expect(s.it->lock.try_lock_for(crash_limit), "the lock is not to be had");
                         s.it->lock.unlock();
                       }})
      .check();
  for (bool const all : {false, true})
    crash_points(crash_case<scene<letter_box>>{
                     .name = all ? "condition_variable notify_all, somebody asleep" : "condition_variable notify_one, somebody asleep",
                     .setup = [] { return scene<letter_box>{}; },
                     .begun =
                         [](auto& s) {
                           s.sleep([](letter_box& it) {
                             polyproc::unique_lock hold{it.lock};
                             return it.changed.wait_for(hold, long_enough, [&] { return it.letters > 0; }) ? 1 : 2;
                           });
                           polyproc::lock hold{s.it->lock};
                           ++s.it->letters;
                         },
                     .operation =
                         [all](auto& s) {
                           if (all)
                             s.it->changed.notify_all();
                           else
                             s.it->changed.notify_one();
                         },
                     .survive =
                         [](auto& s, crash_point& at) {
                           at.expect(s.sleeper->ends(), "the sleeper never looks again");
                           at.expect(s.slept == 1, "the sleeper does not see what was changed");
                         }})
        .check();
}

TEST_CASE_METHOD(tidy, "[H33] event: a kill at any instruction of set, somebody asleep") {
  crash_points(crash_case<scene<polyproc::event>>{
                   .name = "event set, somebody asleep",
                   .setup = [] { return scene<polyproc::event>{}; },
                   .begun = [](auto& s) { s.sleep([](auto& it) { return it.wait_for(long_enough) ? 1 : 2; }); },
                   .operation = [](auto& s) { s.it->set(); },
                   .survive =
                       [](auto& s, crash_point& at) {
                         if (!s.it->is_set()) {
                           at.note("died before");
                           s.it->set();
                         }
                         at.expect(s.sleeper->ends(), "the sleeper does not see that it is set");
                         at.expect(s.slept == 1, "the sleeper gave up");
                         s.it->clear();
                         at.expect(!s.it->is_set(), "cleared, and set");
                       }})
      .check();
}

TEST_CASE_METHOD(tidy, "[H33] barrier: a kill at any instruction of joining and arriving") {
  // The child arrives last, and both go on; or it dies first, and the survivor, who waits, is told.
  crash_points(crash_case<scene<pair_to_meet>>{
                   .name = "barrier join, arrive, the other asleep",
                   .setup = [] { return scene<pair_to_meet>{}; },
                   .prepare = [](auto& s) { s.it->meet.join(); },
                   .begun =
                       [](auto& s) {
                         s.sleep([](pair_to_meet& it) {
                           try {
                             return it.meet.arrive_and_wait_for(long_enough) ? 1 : 2;
                           } catch (polyproc::broken_barrier const&) {
                             return 3;
                           }
                         });
                       },
                   .operation = [](auto& s) { (void)s.it->meet.arrive_and_wait_for(1ms); },
                   .survive =
                       [](auto& s, crash_point& at) {
                         at.expect(s.sleeper->ends(), "the other waits for ever");
                         at.expect(s.slept == 1 || s.slept == 3, "the other had to give up");
                         if (s.slept == 3) {
                           at.note("broke the barrier");
                           at.expect(s.it->meet.is_broken(), "broken, and not broken");
                         } else {
                           at.note("completed the phase");
                         }
                         s.it->meet.reset();
                         at.expect(!s.it->meet.is_broken(), "broken after reset");
                       }})
      .check();
}

TEST_CASE_METHOD(tidy, "[H33] latch and once: a kill at any instruction") {
  crash_points(crash_case<scene<polyproc::latch>>{
                   .name = "latch count_down, somebody asleep",
                   .setup = [] { return scene<polyproc::latch>{polyproc::shared<polyproc::latch>(std::in_place, 1U)}; },
                   .begun = [](auto& s) { s.sleep([](auto& it) { return it.wait_for(long_enough) ? 1 : 2; }); },
                   .operation = [](auto& s) { s.it->count_down(); },
                   .survive =
                       [](auto& s, crash_point& at) {
                         if (!s.it->try_wait()) {
                           at.note("died before");
                           s.it->count_down();
                         }
                         at.expect(s.sleeper->ends(), "the sleeper does not see that it is open");
                         at.expect(s.slept == 1, "the sleeper gave up");
                       }})
      .check();
  struct made {
    polyproc::once_flag once;
    int times = 0;
    int value = 0;
  };
  crash_points(crash_case<polyproc::shared<made>>{
                   .name = "call_once",
                   .setup = [] { return polyproc::shared<made>{}; },
                   .operation =
                       [](auto& m) {
                         polyproc::call_once(m->once, [&] {
                           m->value = 41;
                           m->value = 42;
                           ++m->times;
                         });
                       },
                   .survive =
                       [](auto& m, crash_point& at) {
                         if (m->once.called()) at.note("was done");
                         polyproc::call_once(m->once, [&] {
                           m->value = 42;
                           ++m->times;
                         });
                         at.expect(m->value == 42, "not done");
                         at.expect(m->times == 1 || m->times == 2, "done too often");
                         at.expect(m->once.called(), "done, and not called");
                       },
                   .whole = true})
      .check();
}

#endif
