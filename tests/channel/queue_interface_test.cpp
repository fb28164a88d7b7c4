// What is written as a template against a queue's interface works with the queues of processes and of threads alike.

#include "support/tidy.hpp"

#include <array>

using namespace std::chrono_literals;
using polyproc::queue_status;

namespace {

/// Every call that one can put with. Puts 1 to 9; then the queue, which has room for that, is full.
template <class Sender>
void put_in_all_ways(Sender const& to) {
  using value = typename Sender::value_type;
  value const one{1};
  to.put(one);
  to.put(value{2});
  to.put_nowait(value{3});
  CHECK(to.put_for(value{4}, 1s));
  CHECK(to.put_until(value{5}, std::chrono::steady_clock::now() + 1s));
  CHECK(to.try_put(value{6}));
  queue_status why{};
  CHECK(to.try_put(value{7}, why));
  CHECK(why == queue_status::success);
  std::array<value, 1> const batch{value{8}};
  to.put_many(batch);
  to.put_many(std::vector<value>{value{9}});
  CHECK_FALSE(to.try_put(one, why));
  CHECK(why == queue_status::full);
  CHECK_FALSE(to.put_for(one, 1ms));
  CHECK_FALSE(to.put_until(one, std::chrono::system_clock::now()));
  CHECK_THROWS_AS(to.put_nowait(one), polyproc::queue_full);
}

/// Every call that one can get with, of any queue.
template <class Receiver>
void get_in_all_ways(Receiver const& from) {
  using value = typename Receiver::value_type;
  static_assert(std::is_same_v<decltype(from.get()), value>);
  static_assert(std::is_same_v<decltype(from.try_get()), std::optional<value>>);
  static_assert(std::is_same_v<decltype(from.get_many(1)), std::vector<value>>);
  static_assert(std::input_iterator<decltype(from.begin())>);
  queue_status why{};
  CHECK(from.get() == value{1});
  CHECK(from.get_nowait() == value{2});
  CHECK(from.get_for(1s) == value{3});
  CHECK(from.get_for(1s, why) == value{4});
  CHECK(from.get_until(std::chrono::steady_clock::now() + 1s) == value{5});
  CHECK(from.try_get() == value{6});
  CHECK(from.try_get(why) == value{7});
  CHECK(from.get_many(1) == std::vector<value>{value{8}});
  CHECK(from.get_many_for(5, 1s) == std::vector<value>{value{9}});
  CHECK(from.try_get_many(5).empty());
  CHECK_FALSE(from.try_get(why));
  CHECK(why == queue_status::empty);
  CHECK_FALSE(from.get_for(1ms, why));
  CHECK(why == queue_status::timeout);
  CHECK_THROWS_AS(from.get_nowait(), polyproc::queue_empty);
}

template <class Handle>
void look_at(Handle const& q, std::size_t size, std::size_t capacity) {
  CHECK(q.size() == size);
  CHECK(q.empty() == (size == 0));
  CHECK(q.full() == (size == capacity));
  CHECK(q.capacity() == capacity);
  CHECK_FALSE(q.is_closed());
  Handle const copy = q;
  CHECK(copy == q);
}

template <class Queue>
void lease_from(Queue const& q) {
  using value = typename Queue::value_type;
  q.put_many(std::vector<value>{value{1}, value{2}, value{3}, value{4}});
  {
    auto one = q.lease();
    auto two = q.try_lease();
    auto three = q.lease_for(1s);
    auto four = q.lease_until(std::chrono::steady_clock::now() + 1s);
    CHECK(*one == value{1});
    CHECK(**two == value{2});
    two->ack();
    three->give_back();
    four->ack();
  }
  CHECK(q.get_many(5) == std::vector<value>{value{1}, value{3}});
}

template <class Queue>
void close_and_drain(Queue const& q) {
  using value = typename Queue::value_type;
  q.put(value{1});
  q.put(value{2});
  q.close();
  CHECK(q.is_closed());
  CHECK_THROWS_AS(q.put(value{3}), polyproc::queue_closed);
  std::vector<value> all;
  for (auto v : q) all.push_back(v);
  CHECK(all == std::vector<value>{value{1}, value{2}});
  queue_status why{};
  CHECK_FALSE(q.try_get(why));
  CHECK(why == queue_status::closed);
  CHECK_THROWS_AS(q.get(), polyproc::queue_closed);
}

template <class Queue>
void in_place(Queue const& q) {
  auto room = q.reserve(3);
  for (auto& element : room) element = 7;
  room.elements()[1] = 8;
  CHECK(room.size() == 3);
  std::move(room).commit();
  CHECK(q.reserve(1).try_commit());
  CHECK(q.reserve(1).commit_for(1s));
  CHECK(q.reserve(1).commit_until(std::chrono::steady_clock::now() + 1s));
  {
    auto const seen = q.view();
    CHECK(std::vector<int>(seen.begin(), seen.end()) == std::vector<int>{7, 8, 7});
  }
  auto seen = q.try_view();
  REQUIRE(seen);
  CHECK(seen->elements().size() == 1);
  seen->release();
  CHECK(q.view_for(1s).has_value());
  (void)q.get();
}

template <class Queue>
void the_whole_interface() {
  Queue const q(9);
  put_in_all_ways(q);
  look_at(q, 9, 9);
  get_in_all_ways(q);
  look_at(q, 0, 9);
  lease_from(q);
  auto const in = q.sender();
  auto const out = q.receiver();
  put_in_all_ways(in);
  look_at(in, 9, 9);
  look_at(out, 9, 9);
  get_in_all_ways(out);
  static_assert(std::is_same_v<decltype(in), typename Queue::sender_type const>);
  static_assert(std::is_same_v<decltype(out), typename Queue::receiver_type const>);
  close_and_drain(q);
  CHECK(Queue().capacity() == std::numeric_limits<std::size_t>::max());
  CHECK_THROWS_AS(Queue(0), std::invalid_argument);
}

template <class Queue>
void work_to_be_done() {
  Queue const q(9);
  put_in_all_ways(q);
  look_at(q, 9, 9);
  get_in_all_ways(q);
  CHECK(q.unfinished() == 9);
  CHECK_FALSE(q.join_for(1ms));
  for (int i = 0; i < 9; ++i) q.task_done();
  CHECK(q.join_until(std::chrono::steady_clock::now() + 1s));
  q.join();
  CHECK_THROWS_AS(q.task_done(), std::logic_error);
  close_and_drain(q);
}

}  // namespace

TEMPLATE_TEST_CASE("one interface for processes and for threads", "", polyproc::queue<int>, polyproc::local_queue<int>,
                   polyproc::queue<std::vector<int>>, polyproc::local_queue<std::vector<int>>) {
  tidy const after;
  the_whole_interface<TestType>();
}

TEMPLATE_TEST_CASE("one interface for messages that are written and read in place", "", polyproc::queue<std::vector<int>>,
                   polyproc::local_queue<std::vector<int>>) {
  tidy const after;
  in_place(TestType(5));
}

TEMPLATE_TEST_CASE("one interface for work that is waited for", "", polyproc::joinable_queue<int>,
                   polyproc::local_joinable_queue<int>) {
  tidy const after;
  work_to_be_done<TestType>();
}

static_assert(polyproc::encodable<polyproc::queue<int>>);
static_assert(!polyproc::encodable<polyproc::local_queue<int>>);
static_assert(!polyproc::encodable<polyproc::local_queue<int>::sender_type>);
static_assert(!polyproc::encodable<polyproc::local_queue<int>::receiver_type>);
static_assert(!polyproc::encodable<polyproc::local_joinable_queue<int>>);
