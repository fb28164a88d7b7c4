// timeout: 200
// A queue that knows what is still being worked on.

#include "process/start_methods.hpp"

#include <polyproc/channel/joinable_queue.hpp>

using namespace std::chrono_literals;
using polyproc::process;
using polyproc::process_options;
using work_list = polyproc::joinable_queue<int>;

namespace {

void work_off(work_list q, shared_notes n) {
  while (auto const item = q.get_for(20s)) {
    n->b += *item;
    q.task_done();
    if (*item == 0) return;
  }
}
void take_one(work_list q, shared_notes n) {
  (void)q.get();
  n->count += 1;
  until(n->a, 1);
}

}  // namespace

TEST_CASE_METHOD(tidy, "joinable_queue: join returns when all that was put has been finished with, and not before") {
  work_list q;
  CHECK(q.join_for(0ms));
  q.put(1);
  q.put(2);
  CHECK(q.unfinished() == 2);
  CHECK_FALSE(q.join_for(10ms));
  CHECK(q.get() == 1);
  q.task_done();
  CHECK(q.get() == 2);
  CHECK(q.size() == 0);
  CHECK_FALSE(q.join_until(std::chrono::steady_clock::now() + 10ms));
  q.task_done();
  CHECK(q.unfinished() == 0);
  q.join();
  CHECK_THROWS_AS(q.task_done(), std::logic_error);
}

TEST_CASE_METHOD(tidy, "joinable_queue: workers of other processes, under each start method") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    work_list q{50};
    shared_notes n;
    std::vector<process> all;
    for (int i = 0; i < 3; ++i) all.emplace_back(process_options{.start = method}, work_off, q, n);
    for (auto& p : all) p.start();
    for (int i = 1; i <= 200; ++i) q.put(1);
    q.join();
    CHECK(n->b == 200);
    for (int i = 0; i < 3; ++i) q.put(0);
    q.join();
    for (auto& p : all) p.join();
    CHECK(q.unfinished() == 0);
  }
}

TEST_CASE_METHOD(tidy, "joinable_queue: batches, views and large messages count once each") {
  polyproc::joinable_queue<std::string> q;
  q.put_many(std::vector<std::string>{"a", "b", "c"});
  q.put(std::string(100000, 'x'));
  q.put(std::string(100000, 'y'));
  CHECK(q.get_many(2).size() == 2);
  CHECK(q.get() == "c");
  CHECK(q.get().size() == 100000);
  CHECK(q.view().size() == 100000);
  CHECK(q.unfinished() == 5);
  for (int i = 0; i < 5; ++i) q.task_done();
  q.join();
}

TEST_CASE_METHOD(tidy, "[H32] joinable_queue: what a killed worker had taken is not waited for") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    work_list q;
    shared_notes n;
    process p{process_options{.start = method}, take_one, q, n};
    p.start();
    q.put(1);
    q.put(2);
    until(n->count, 1);
    CHECK(q.get() == 2);
    q.task_done();
    CHECK_FALSE(q.join_for(30ms));
    p.kill();
    q.join();
    CHECK(q.unfinished() == 0);
    p.join();
  }
}

TEST_CASE_METHOD(tidy, "joinable_queue: any process may say that a message is finished with") {
  work_list q;
  shared_notes n;
  process p{take_one, q, n};
  p.start();
  q.put(1);
  until(n->count, 1);
  q.task_done();
  q.join();
  n->a = 1;
  p.join();
  q.put(2);
  CHECK_FALSE(q.join_for(10ms));
  (void)q.get();
  q.task_done();
  q.join();
}

TEST_CASE_METHOD(tidy, "joinable_queue: more processes than there are places, one after the other") {
  work_list q;
  for (int i = 0; i < 130; ++i) {
    process p{[](work_list inside) {
                (void)inside.get();
                inside.task_done();
              },
              q};
    q.put(i);
    p.start();
    p.join();
    REQUIRE(p.exit_code() == 0);
  }
  q.join();
}
