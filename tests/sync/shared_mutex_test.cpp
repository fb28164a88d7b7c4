#include "support/stage.hpp"
#include "support/tidy.hpp"

#include <mutex>
#include <shared_mutex>

using namespace std::chrono_literals;

namespace {
struct page {
  polyproc::shared_mutex lock;
  stage stage_of;
  stage readers;
  std::atomic<int> inside{0};
  std::atomic<int> most_inside{0};
  long left = 0;
  long right = 0;
  std::atomic<int> torn{0};
};
using shared_page = polyproc::shared<page>;

void write_often(shared_page p) {
  for (int i = 0; i < 3000; ++i) {
    std::scoped_lock hold{p->lock};
    ++p->left;
    ++p->right;
  }
}
void read_often(shared_page p) {
  for (int i = 0; i < 3000; ++i) {
    std::shared_lock hold{p->lock};
    if (p->left != p->right) ++p->torn;
  }
}
void read_together(shared_page p) {
  polyproc::shared_lock hold{p->lock};
  p->readers.add();
  p->readers.await(3);
}
void hold_reading(shared_page p) {
  p->lock.lock_shared();
  p->stage_of.add();
  sleep_until_killed();
}
void hold_writing(shared_page p) {
  p->lock.lock();
  ++p->left;
  p->stage_of.add();
  sleep_until_killed();
}
void wait_to_write(shared_page p) {
  p->stage_of.add();
  p->lock.lock();
  ++p->torn;  // not to be reached
}
}  // namespace

TEST_CASE_METHOD(tidy, "writers exclude all, readers only writers, in all processes") {
  shared_page p;
  std::vector<polyproc::process> all;
  all.push_back(polyproc::launch(write_often, p));
  all.push_back(polyproc::launch(read_often, p));
  all.push_back(polyproc::launch(write_often, p));
  read_often(p);
  for (auto& one : all) one.join();
  CHECK(p->left == 6000);
  CHECK(p->right == 6000);
  CHECK(p->torn == 0);
  all.clear();
  for (int i = 0; i < 3; ++i) all.push_back(polyproc::launch(read_together, p));
  for (auto& one : all) {
    CHECK(one.join_for(60s));  // they wait for each other while they hold it
    CHECK(one.exit_code() == 0);
  }
}

TEST_CASE_METHOD(tidy, "[H21] a dead reader is simply gone") {
  shared_page p;
  auto one = polyproc::launch(hold_reading, p);
  auto two = polyproc::launch(hold_reading, p);
  p->stage_of.await(2);
  CHECK_FALSE(p->lock.try_lock());
  CHECK(p->lock.try_lock_shared());
  p->lock.unlock_shared();
  one.kill();
  one.join();
  CHECK_FALSE(p->lock.try_lock_for(30ms));
  two.kill();
  auto const took = time_of([&] { p->lock.lock(); });
  INFO("it took " << std::chrono::duration_cast<std::chrono::milliseconds>(took).count() << " ms; promised: 20 ms");
  CHECK(took < soon);
  CHECK_FALSE(p->lock.owner_is_dead());
  p->lock.unlock();
  two.join();
}

TEST_CASE_METHOD(tidy, "[H21] after a writer's death readers and writers are told until it is repaired") {
  shared_page p;
  auto one = polyproc::launch(hold_writing, p);
  p->stage_of.await(1);
  CHECK_FALSE(p->lock.try_lock_shared());
  one.kill();
  one.join();
  CHECK_THROWS_AS(p->lock.lock_shared(), polyproc::owner_died);
  CHECK_THROWS_AS(p->lock.lock(), polyproc::owner_died);
  CHECK_THROWS_AS((void)p->lock.try_lock(), polyproc::owner_died);
  CHECK_THROWS_AS((void)p->lock.try_lock_shared_for(1s), polyproc::owner_died);
  CHECK(p->lock.owner_is_dead());
  CHECK(p->lock.recover([&] { p->left = p->right; }));
  CHECK_FALSE(p->lock.recover([] {}));
  {
    std::shared_lock hold{p->lock};
    CHECK(p->left == p->right);
  }
  write_often(p);
}

TEST_CASE_METHOD(tidy, "[H21] a writer that dies while it waits for readers has harmed nothing") {
  shared_page p;
  p->lock.lock_shared();
  auto one = polyproc::launch(wait_to_write, p);
  p->stage_of.await(1);
  // It has the word and waits for us when others can no longer read.
  bool closed = false;
  std::thread([&] {
    while (!closed) {
      if (p->lock.try_lock_shared())
        p->lock.unlock_shared();
      else
        closed = true;
    }
  }).join();
  one.kill();
  one.join();
  std::thread([&] {
    p->lock.lock_shared();
    p->lock.unlock_shared();
  }).join();
  p->lock.unlock_shared();
  p->lock.lock();
  p->lock.unlock();
  CHECK(p->torn == 0);
}

TEST_CASE_METHOD(tidy, "[H23] misuse of a shared mutex is an error, not a hang") {
  shared_page p;
  CHECK_THROWS_AS(p->lock.unlock(), std::system_error);
  CHECK_THROWS_AS(p->lock.unlock_shared(), std::system_error);
  p->lock.lock_shared();
  CHECK_THROWS_AS(p->lock.lock(), std::system_error);
  CHECK_THROWS_AS(p->lock.unlock(), std::system_error);
  p->lock.unlock_shared();
  p->lock.lock();
  CHECK_THROWS_AS(p->lock.lock(), std::system_error);
  CHECK_THROWS_AS(p->lock.lock_shared(), std::system_error);
  p->lock.unlock();
}

TEST_CASE_METHOD(tidy, "[H22] timed forms of a shared mutex return in time while its holder is stopped") {
  shared_page p;
  auto writer = polyproc::launch(hold_writing, p);
  p->stage_of.await(1);
  REQUIRE(writer.ask(polyproc::child_request::stop));
  CHECK(time_of([&] { CHECK_FALSE(p->lock.try_lock_for(10ms)); }) < soon);
  CHECK(time_of([&] { CHECK_FALSE(p->lock.try_lock_shared_for(10ms)); }) < soon);
  CHECK(time_of([&] { CHECK_FALSE(p->lock.try_lock_shared()); }) < soon);
  writer.kill();
  writer.join();
}
