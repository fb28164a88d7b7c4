#include "support/stage.hpp"
#include "support/tidy.hpp"

using namespace std::chrono_literals;

namespace {

// What each policy guards: right is left behind when the one that holds the lock dies.
struct pair_of_numbers {
  long left = 0;
  long right = 0;
};
struct even_them {
  void operator()(pair_of_numbers& p) const { p.right = p.left; }
};
std::atomic<int> repairs_here{0};
struct count_repairs {
  void operator()() const { ++repairs_here; }
};
struct fail_twice {
  void operator()() const {
    if (++repairs_here <= 2) throw std::runtime_error("cannot repair yet");
  }
};

template <class Policy>
struct account : pair_of_numbers {
  polyproc::basic_mutex<Policy> lock;
  stage stage_of;
};
using guarded_pair = polyproc::guarded<pair_of_numbers, polyproc::on_owner_death::repairs<even_them>>;
using careful_pair = polyproc::guarded<pair_of_numbers>;
template <class T>
struct staged {
  T guarded;
  stage stage_of;
};

template <class Policy>
void die_holding(polyproc::shared<account<Policy>> a) {
  a->lock.lock();
  ++a->left;
  a->stage_of.reach(1);
  sleep_until_killed();
}
template <class Policy>
void kill_a_holder(polyproc::shared<account<Policy>> const& a) {
  auto p = polyproc::launch(die_holding<Policy>, a);
  a->stage_of.await(1);
  p.kill();
  p.join();
}
template <class T>
void die_inside(polyproc::shared<staged<T>> s) {
  auto inside = s->guarded.lock();
  ++inside->left;
  s->stage_of.reach(1);
  sleep_until_killed();
}
template <class T>
void kill_inside(polyproc::shared<staged<T>> const& s) {
  auto p = polyproc::launch(die_inside<T>, s);
  s->stage_of.await(1);
  p.kill();
  p.join();
}

}  // namespace

TEST_CASE_METHOD(tidy, "[H21] reports: the lock is taken and says so until somebody has repaired") {
  using policy = polyproc::on_owner_death::reports;
  polyproc::shared<account<policy>> a;
  kill_a_holder(a);
  for (int i = 0; i < 2; ++i) {
    polyproc::lock hold{a->lock};
    CHECK(hold.owner_died());
    CHECK(a->left == 1);
  }
  {
    polyproc::unique_lock hold{a->lock};
    CHECK(hold.owner_died());
    a->right = a->left;
    hold.repaired();
    CHECK_FALSE(hold.owner_died());
  }
  polyproc::lock hold{a->lock};
  CHECK_FALSE(hold.owner_died());
  CHECK(a->left == a->right);
}

TEST_CASE_METHOD(tidy, "[H23] only the holder may say that it has repaired") {
  polyproc::shared<account<polyproc::on_owner_death::reports>> a;
  kill_a_holder(a);
  CHECK_THROWS_AS(a->lock.repaired(), std::system_error);
  CHECK(a->lock.try_lock());
  a->lock.repaired();
  a->lock.unlock();
}

TEST_CASE_METHOD(tidy, "[H21] repairs: the next holder repairs before it goes on") {
  using policy = polyproc::on_owner_death::repairs<count_repairs>;
  polyproc::shared<account<policy>> a;
  kill_a_holder(a);
  repairs_here = 0;
  a->lock.lock();
  CHECK(repairs_here == 1);
  a->lock.unlock();
  a->lock.lock();
  CHECK(repairs_here == 1);
  a->lock.unlock();
}

TEST_CASE_METHOD(tidy, "[H21] repairs: a repair that throws is tried again by the next") {
  using policy = polyproc::on_owner_death::repairs<fail_twice>;
  polyproc::shared<account<policy>> a;
  kill_a_holder(a);
  repairs_here = 0;
  CHECK_THROWS_AS(a->lock.lock(), std::runtime_error);
  CHECK_THROWS_AS((void)a->lock.try_lock_for(1s), std::runtime_error);
  a->lock.lock();
  CHECK(repairs_here == 3);
  a->lock.unlock();
}

TEST_CASE_METHOD(tidy, "[H21] ignores: nothing is said") {
  polyproc::shared<account<polyproc::on_owner_death::ignores>> a;
  kill_a_holder(a);
  polyproc::lock hold{a->lock};
  CHECK_FALSE(hold.owner_died());
}

TEST_CASE_METHOD(tidy, "[H21] guarded: told of a death by default, repaired where the policy does that") {
  polyproc::shared<staged<careful_pair>> careful;
  kill_inside(careful);
  CHECK_THROWS_AS(careful->guarded.lock(), polyproc::owner_died);
  CHECK_THROWS_AS((void)careful->guarded.try_lock(), polyproc::owner_died);
  CHECK(careful->guarded.owner_is_dead());
  CHECK(careful->guarded.recover([](pair_of_numbers& p) { p.left = p.right; }));
  CHECK(careful->guarded.with([](pair_of_numbers& p) { return p.left; }) == 0);

  polyproc::shared<staged<guarded_pair>> repairing;
  kill_inside(repairing);
  CHECK(repairing->guarded.with([](pair_of_numbers& p) { return p.left == 1 && p.right == 1; }));
}

TEST_CASE_METHOD(tidy, "[H24] guarded: additions by several processes are all there") {
  polyproc::shared<staged<careful_pair>> s;
  std::vector<polyproc::process> all;
  for (int i = 0; i < 3; ++i)
    all.push_back(polyproc::launch(
        [](polyproc::shared<staged<careful_pair>> of) {
          for (int n = 0; n < 5000; ++n) {
            auto inside = of->guarded.lock();
            ++inside->left;
            inside->right = inside->left;
          }
        },
        s));
  for (auto& p : all) p.join();
  auto const inside = s->guarded.try_lock();
  REQUIRE(inside);
  CHECK((*inside)->left == 15000);
  CHECK((*inside)->right == 15000);
}

TEST_CASE_METHOD(tidy, "guards: unlocked, locked again, tried, timed, moved, released") {
  polyproc::shared<polyproc::mutex> m;
  polyproc::unique_lock<polyproc::mutex> none;
  CHECK_THROWS_AS(none.lock(), std::system_error);
  polyproc::unique_lock held{*m};
  CHECK_THROWS_AS(held.lock(), std::system_error);
  held.unlock();
  CHECK_THROWS_AS(held.unlock(), std::system_error);
  CHECK(held.try_lock_for(1ms));
  polyproc::unique_lock moved{std::move(held)};
  CHECK(moved.owns_lock());
  CHECK_FALSE(held.owns_lock());
  std::thread([&] {
    polyproc::unique_lock tried{*m, std::try_to_lock};
    polyproc::unique_lock timed{*m, 5ms};
    if (tried || timed) std::abort();
  }).join();
  auto* const mutex = moved.release();
  CHECK(mutex == m.get());
  CHECK_FALSE(moved);
  polyproc::lock adopted{*mutex, std::adopt_lock};
}
