#include "support/stage.hpp"
#include "support/tidy.hpp"

#include <polyproc/sync/biased_lock.hpp>

using namespace std::chrono_literals;

namespace {

using backend = polyproc::native_backend;
using lock_type = polyproc::detail::biased_lock<backend>;
using hold_type = polyproc::detail::repairing_hold<backend, polyproc::waiting::adaptive, lock_type>;

struct room {
  lock_type lock;
  long left = 0;  // two that are equal whenever nobody is at work
  long right = 0;
  std::atomic<long> repairs{0};
  std::atomic<long> as_favourite{0};
  std::atomic<long> told{0};
  stage stage_of;
  using polyproc_shareable = void;
};
using shared_room = polyproc::shared<room>;

/// One addition; whether by the favourite.
bool add(room& r) {
  if (lock_type::favoured inside(r.lock); inside) {
    ++r.left;
    ++r.right;
    return true;
  }
  hold_type const hold(r.lock, polyproc::never, [&] {
    ++r.repairs;
    r.right = r.left;
  });
  ++r.left;
  ++r.right;
  r.lock.favour();
  return false;
}
void add_often(shared_room r, int times) {
  backend::prepare_light_fences();
  long favoured = 0;
  for (int i = 0; i < times; ++i) favoured += add(*r) ? 1 : 0;
  r->as_favourite += favoured;
}
/// Becomes the favourite, goes inside, makes half a change, and stays.
void stay_inside(shared_room r) {
  backend::prepare_light_fences();
  while (!add(*r)) {
  }
  lock_type::favoured const inside(r->lock);
  ++r->left;
  r->stage_of.add();
  sleep_until_killed();
}
/// Becomes the favourite, and stays outside.
void stay_outside(shared_room r) {
  backend::prepare_light_fences();
  while (!add(*r)) {
  }
  r->stage_of.add();
  sleep_until_killed();
}

bool has_favourites() {
  backend::prepare_light_fences();
  return backend::has_light_fences();
}

}  // namespace

TEST_CASE_METHOD(tidy, "whoever uses a lock alone becomes its favourite") {
  shared_room r;
  add_often(r, 1000);
  CHECK(r->left == 1000);
  CHECK(r->right == 1000);
  if (has_favourites()) CHECK(r->as_favourite > 900);
}

TEST_CASE_METHOD(tidy, "the favourite and all others, threads and processes, are at work one at a time") {
  shared_room r;
  constexpr int times = 30000;
  std::vector<polyproc::process> all;
  for (int i = 0; i < 2; ++i) all.push_back(polyproc::launch(add_often, r, times));
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) threads.emplace_back([&] { add_often(r, times); });
  add_often(r, times);
  for (auto& t : threads) t.join();
  for (auto& p : all) p.join();
  CHECK(r->left == 5 * times);
  CHECK(r->right == 5 * times);
  CHECK(r->repairs == 0);
}

TEST_CASE_METHOD(tidy, "a favourite that is outside holds up nobody, also when it is stopped or was killed") {
  if (!has_favourites()) return;
  shared_room r;
  auto child = polyproc::launch(stay_outside, r);
  r->stage_of.await(1);
  auto const before = r->left;
  CHECK(child.ask(polyproc::child_request::stop));
  add(*r);
  CHECK(r->left == before + 1);
  child.kill();
  child.join();
  add_often(r, 10);
  CHECK(r->left == before + 11);
  CHECK(r->repairs == 0);
}

TEST_CASE_METHOD(tidy, "a favourite that was killed inside is found out, and what it left is repaired once") {
  if (!has_favourites()) return;
  shared_room r;
  auto child = polyproc::launch(stay_inside, r);
  r->stage_of.await(1);
  {
    auto const began = backend::now();
    hold_type const hold(r->lock, began + 20ms, [] {});
    CHECK_FALSE(hold.owns());
    CHECK(backend::now() - began < 10s);
  }
  child.kill();
  child.join();
  add(*r);
  CHECK(r->repairs == 1);
  CHECK(r->left == r->right);
  add_often(r, 1000);
  CHECK(r->repairs == 1);
  CHECK(r->left == r->right);
}
