// timeout: 1500
// alone
//
// A process is killed after every single instruction of the operations on locks. See crash_points.hpp.

#include "crash/lock_case.hpp"

#include <mutex>

#if defined(POLYPROC_NO_CRASH_POINTS)

TEST_CASE("[H33] a kill at any instruction of a lock") { crash_points_skipped(POLYPROC_NO_CRASH_POINTS); }

#else

using namespace std::chrono_literals;

namespace {

using backend = polyproc::native_backend;

using account = shared_sums<polyproc::mutex>;

void lock_change_unlock(account& a) {
  std::scoped_lock hold{a->lock};
  change(a);
}

}  // namespace

TEST_CASE_METHOD(tidy, "[H33] mutex: a kill at any instruction of lock and unlock") {
  crash_points(lock_case("mutex lock, change, unlock", lock_change_unlock)).check();
}

TEST_CASE_METHOD(tidy, "[H33] mutex: a holder that nobody has waited for yet is dead all the same") {
  auto dead = lock_case("mutex lock, change, unlock, by a zombie", lock_change_unlock);
  dead.zombie = true;
  crash_points(dead).check();
}

TEST_CASE_METHOD(tidy, "[H33] mutex: a kill at any instruction of try_lock and unlock") {
  crash_points(lock_case("mutex try_lock, change, unlock", [](account& a) {
    if (!a->lock.try_lock()) return;
    change(a);
    a->lock.unlock();
  })).check();
}

TEST_CASE_METHOD(tidy, "[H33] mutex: a stop at any instruction of lock and unlock") {
  auto stopped = lock_case("mutex lock, change, unlock, stopped there", lock_change_unlock);
  stopped.while_stopped = [](account& a, crash_point& at) {
    if (!a->lock.try_lock_for(5ms)) {
      at.note("kept the lock");
      return;
    }
    at.expect(a->left == a->right, "somebody else is inside");
    a->lock.unlock();
  };
  crash_points(stopped).check();
}

TEST_CASE_METHOD(tidy, "[H33] mutex: a kill at any instruction of an unlock while somebody is asleep") {
  struct scene {
    account a;
    std::atomic<int> slept{0};  // 1: it got the lock, 2: it was told of the death, 3: neither
    std::unique_ptr<crash_sleeper> sleeper;
    explicit scene(int) {}
    scene(scene&& other) noexcept : a(std::move(other.a)) {}
  };
  crash_points(crash_case<scene>{
                   .name = "mutex unlock, somebody asleep",
                   .setup = [] { return scene(0); },
                   .prepare =
                       [](scene& s) {
                         s.a->lock.lock();
                         change(s.a);
                       },
                   .begun =
                       [](scene& s) {
                         s.sleeper = std::make_unique<crash_sleeper>([&s] {
                           try {
                             bool const got = s.a->lock.try_lock_for(3 * crash_limit);
                             s.slept = got ? 1 : 3;
                             if (got) s.a->lock.unlock();
                           } catch (polyproc::owner_died const&) {
                             s.slept = 2;
                           }
                         });
                       },
                   .operation = [](scene& s) { s.a->lock.unlock(); },
                   .survive =
                       [](scene& s, crash_point& at) {
                         at.expect(s.sleeper->ends(), "the sleeper is not told");
                         at.expect(s.slept == 1 || s.slept == 2, "the sleeper does not get the lock");
                         come_later(s.a, at);
                       },
                   .whole = true})
      .check();
}

TEST_CASE_METHOD(tidy, "[H33] mutex: a kill at any instruction of a timed lock that is given up") {
  auto waits = lock_case("mutex timed lock while another holds it",
                         [](account& a) { (void)a->lock.try_lock_for(100us); });
  waits.setup = [] {
    account a;
    a->lock.lock();
    return a;
  };
  waits.survive = [](account& a, crash_point& at) {
    a->lock.unlock();
    come_later(a, at);
  };
  waits.whole = false;
  crash_points(waits).check();
}

TEST_CASE_METHOD(tidy, "[H33] mutex: a kill at any instruction of recover") {
  auto repairs = lock_case("mutex recover", [](account& a) { a->lock.recover([&] { a->right = a->left; }); });
  repairs.setup = [] {
    account a;
    std::thread([&] {
      a->lock.lock();
      ++a->left;
    }).join();
    return a;
  };
  repairs.whole = false;
  crash_points(repairs).check();
}

TEST_CASE_METHOD(tidy, "crash points find a lock whose owner is recorded after it is taken") {
  struct late_owner {
    std::atomic<std::uint32_t> taken{0};
    std::atomic<std::uint64_t> owner{0};

    bool try_lock() {
      if (taken.exchange(1) != 0) {
        // A lock that is taken by nobody yet: its owner will say who it is in a moment. Or not.
        auto const who = owner.load();
        if (who == 0 || backend::alive(who)) return false;
      }
      owner.store(backend::self());
      return true;
    }
    void unlock() {
      owner.store(0);
      taken.store(0);
    }
    using polyproc_shareable = void;
  };
  using bad = polyproc::shared<late_owner>;
  auto const report = crash_points(crash_case<bad>{
      .name = "a lock that is known to be bad",
      .setup = [] { return bad{}; },
      .operation =
          [](bad& b) {
            if (b->try_lock()) b->unlock();
          },
      .survive =
          [](bad& b, crash_point& at) {
            bool got = false;
            for (auto const end = backend::now() + 20ms; !got && backend::now() < end; backend::yield())
              got = b->try_lock();
            at.expect(got, "the lock is not to be had");
          },
      .whole = true});
  if (report.skipped) return;
  CHECK(report.trouble.empty());
  CHECK(report.tried == report.points);
  // Between the two stores of either direction, and nowhere else.
  CHECK(report.bad.size() >= 2);
  CHECK(report.bad.size() < report.tried);
}

#endif
