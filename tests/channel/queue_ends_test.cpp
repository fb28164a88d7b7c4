// timeout: 300
// Those who can put, those who can get, and how the latter learn that nobody can put any more.

#include "process/start_methods.hpp"
#include "support/stage.hpp"

using namespace std::chrono_literals;
using polyproc::queue_status;

namespace {

using numbers = polyproc::queue<int>;
using sender = polyproc::queue_sender<int>;
using receiver = polyproc::queue_receiver<int>;
using shared_stage = polyproc::shared<stage>;

void put_some(numbers q, int count) {
  for (int i = 0; i < count; ++i) q.put(i);
}
void send_some(sender to, int count) {
  for (int i = 0; i < count; ++i) to.put(i);
}
void send_and_hang(sender to, shared_stage s) {
  to.put(1);
  s->reach(1);
  sleep_until_killed();
}
/// Lets go of its handle when told to, and lives on.
void send_and_let_go(sender to, shared_stage s) {
  std::optional<sender> mine(std::move(to));
  mine->put(1);
  s->reach(1);
  s->await(2);
  mine.reset();
  s->reach(3);
  s->await(4);
}
/// Becomes one that can only get, and lives on.
void narrow(numbers q, shared_stage s) {
  std::optional<numbers> whole(std::move(q));
  auto const mine = whole->receiver();
  whole.reset();
  s->reach(1);
  s->await(2);
}
void hang_with_receiver(receiver, shared_stage s) {
  s->reach(1);
  sleep_until_killed();
}
/// Until closed; says how many it got.
void count_them(receiver from, polyproc::queue<int> answers) {
  int n = 0;
  for (int const value : from) n += value >= 0 ? 1 : 0;
  answers.put(n);
}
/// Takes a handle from the mail, puts through it, and lets it go.
void open_mail(polyproc::queue<sender> mail, shared_stage s) {
  s->await(1);
  mail.get().put(5);
}
/// Says when it was written, which is before it is put.
struct letter {
  std::vector<sender> handles;
  shared_stage written;
};
}  // namespace

template <>
struct polyproc::codec<letter> {
  static void write(writer& out, letter const& l) {
    encode(out, l.handles);
    encode(out, l.written);
    l.written->add();
  }
  static letter read(reader& in) {
    auto handles = decode<std::vector<sender>>(in);
    return {std::move(handles), decode<shared_stage>(in)};
  }
};

namespace {
void send_letter(polyproc::queue<letter> mail, sender to, shared_stage written) { mail.put({{to, to}, written}); }
void send_letters(polyproc::queue<letter> mail, sender to, shared_stage written) {
  mail.put_many(std::vector<letter>{{{to}, written}, {{to, to}, written}, {{to}, written}});
}
void send_two_letters(polyproc::queue<letter> mail, sender to, shared_stage written) {
  mail.put({{to}, written});
  mail.put({{to}, written});
}
void do_nothing_with(numbers) {}
void have_a_child_put(numbers q, int count) {
  auto p = polyproc::launch(send_some, q.sender(), count);
  q = numbers(1);
  p.join();
}

/// A forked child has a copy of all that its parent had, and has it until it ends.
std::vector<polyproc::start_method> methods_but_fork() {
  auto all = start_methods();
  std::erase(all, polyproc::start_method::fork);
  return all;
}

/// What try_get says when there is nothing.
queue_status nothing_in(auto const& q) {
  auto why = queue_status::success;
  CHECK_FALSE(q.try_get(why));
  return why;
}

}  // namespace

TEST_CASE_METHOD(tidy, "[H35] a queue that only ever one process had is empty, not closed") {
  numbers q;
  CHECK(nothing_in(q) == queue_status::empty);
  queue_status why{};
  CHECK_FALSE(q.get_for(50ms, why));
  CHECK(why == queue_status::timeout);
  auto const from = q.receiver();
  CHECK(nothing_in(from) == queue_status::empty);
  auto const to = q.sender();
  q = numbers(1);
  to.put(1);
  CHECK(from.get() == 1);
  CHECK(nothing_in(from) == queue_status::empty);
}

TEST_CASE_METHOD(tidy, "[H35] get says closed when the only other process has returned, under every start method") {
  for (auto const method : start_methods()) {
    INFO(name_of(method));
    numbers q;
    auto p = polyproc::launch({.start = method}, put_some, q, 3);
    // What was put comes first; only then is it known.
    for (int i = 0; i < 3; ++i) CHECK(q.get() == i);
    auto const took = time_of([&] { CHECK_THROWS_AS(q.get(), polyproc::queue_closed); });
    CHECK(took < soon);
    p.join();
    CHECK(nothing_in(q) == queue_status::closed);
    CHECK_FALSE(q.get_for(1h));
    CHECK_FALSE(q.is_closed());
    // We ourselves can put, and then there is something to get.
    q.put(7);
    CHECK(q.get() == 7);
    CHECK_THROWS_AS(q.get_nowait(), polyproc::queue_closed);
  }
}

TEST_CASE_METHOD(tidy, "[H35] get says closed when the last of the others was killed, under every start method") {
  for (auto const method : start_methods()) {
    INFO(name_of(method));
    numbers q;
    shared_stage s;
    auto p = polyproc::launch({.start = method}, send_and_hang, q.sender(), s);
    s->await(1);
    CHECK(q.get() == 1);
    CHECK(nothing_in(q) == queue_status::empty);
    queue_status why{};
    CHECK_FALSE(q.get_for(50ms, why));
    CHECK(why == queue_status::timeout);
    p.kill();
    CHECK_THROWS_AS(q.get(), polyproc::queue_closed);
    p.join();
  }
}

TEST_CASE_METHOD(tidy, "[H35] one who waits is told in time that the last of the others was killed") {
  numbers q;
  shared_stage s;
  auto p = polyproc::launch(send_and_hang, q.sender(), s);
  s->await(1);
  CHECK(q.get() == 1);
  std::atomic<bool> told{false};
  auto took = 0ns;
  std::chrono::steady_clock::time_point killed;
  std::thread waiter([&] {
    try {
      (void)q.get();
    } catch (polyproc::queue_closed const&) {
      took = std::chrono::steady_clock::now() - killed;
      told = true;
    }
  });
  std::this_thread::sleep_for(30ms);  // it is asleep then most of the time; told it must be either way
  killed = std::chrono::steady_clock::now();
  p.kill();
  p.join();
  waiter.join();
  CHECK(told);
  CHECK(took < 10s);  // ten times what is promised: twice a second
}

TEST_CASE_METHOD(tidy, "[H35] a process that is killed before it has read its arguments leaves nobody waiting") {
  for (auto const method : start_methods()) {
    INFO(name_of(method));
    for (int i = 0; i < 20; ++i) {
      numbers q;
      auto p = polyproc::launch({.start = method}, do_nothing_with, q);
      if (i % 4 != 0) std::this_thread::sleep_for(std::chrono::microseconds(100 * i));
      p.kill();
      p.join();
      auto const took = time_of([&] { CHECK_THROWS_AS(q.get(), polyproc::queue_closed); });
      REQUIRE(took < 10s);
    }
  }
}

TEST_CASE_METHOD(tidy, "[H35] a process that is killed while it waits to put a handle leaves nobody waiting") {
  for (auto const method : start_methods()) {
    INFO(name_of(method));
    for (auto* const send : {send_letter, send_letters}) {
      numbers q;
      shared_stage written;
      polyproc::queue<letter> mail(1);
      mail.put({{}, written});
      // More than once, since each leaves something behind.
      for (int i = 0; i < 3; ++i) {
        written->reach(0);
        auto p = polyproc::launch({.start = method}, send, mail, q.sender(), written);
        written->await(1);
        CHECK(nothing_in(q) == queue_status::empty);
        p.kill();
        p.join();
        auto const took = time_of([&] { CHECK_THROWS_AS(q.get(), polyproc::queue_closed); });
        CHECK(took < 10s);
      }
      // What is under way from the living counts as it did.
      CHECK(mail.get().handles.empty());
      mail.put({{q.sender()}, written});
      CHECK(nothing_in(q) == queue_status::empty);
      mail.get().handles.at(0).put(1);
      CHECK(q.get() == 1);
      CHECK(nothing_in(q) == queue_status::closed);
    }
  }
}

TEST_CASE_METHOD(tidy, "[H35] a handle that was put counts though its sender is killed while it waits to put another") {
  numbers q;
  shared_stage written;
  polyproc::queue<letter> mail(1);
  auto p = polyproc::launch(send_two_letters, mail, q.sender(), written);
  written->await(2);  // so the first is put
  p.kill();
  p.join();
  queue_status why{};
  CHECK_FALSE(q.get_for(600ms, why));  // longer than those who wait sleep between two looks
  CHECK(why == queue_status::timeout);
  mail.get().handles.at(0).put(1);
  CHECK(q.get() == 1);
  CHECK(nothing_in(q) == queue_status::closed);
}

TEST_CASE("who can put: a handle that its dead sender could not note as sent is not counted out for another one") {
  auto dead_one = polyproc::native_backend::process_self() ^ 0x5500;  // of nobody who lives
  while (polyproc::native_backend::alive(dead_one)) ++dead_one;
  polyproc::detail::queue_users<polyproc::native_backend> users{};
  auto const me = polyproc::native_backend::process_self();
  (void)users.enter(dead_one);
  users.given();
  for (int i = 0; i < 150; ++i) {
    auto const place = users.enter_as_copy(dead_one);
    users.send(place);
    if (i % 2 == 0) CHECK(users.nobody_but(me));
    // Its message is there all the same, and is read, once it was counted out or before.
    auto const reader = users.enter_as_copy(me);
    users.arrive();
    users.leave(reader);
    CHECK(users.nobody_but(me));
    CHECK_FALSE(users.any_under_way());
    // From now on all is counted as it should be.
    users.send();
    CHECK_FALSE(users.nobody_but(me));
    users.arrive();
    CHECK(users.nobody_but(me));
  }
}

TEST_CASE_METHOD(tidy, "[H35] it does not say closed while one of several lives") {
  numbers q;
  shared_stage s;
  std::vector<polyproc::process> all;
  for (int i = 0; i < 4; ++i) all.push_back(polyproc::launch(put_some, q, 100));
  auto last = polyproc::launch(send_and_hang, q.sender(), s);
  for (auto& p : all) p.join();
  s->await(1);
  for (int i = 0; i < 401; ++i) (void)q.get();
  CHECK(nothing_in(q) == queue_status::empty);
  CHECK_FALSE(q.get_for(600ms));  // longer than those who wait sleep between two looks
  CHECK(nothing_in(q) == queue_status::empty);
  last.kill();
  CHECK_THROWS_AS(q.get(), polyproc::queue_closed);
  last.join();
}

TEST_CASE_METHOD(tidy, "[H35] a process that lets go of its handle, and lives on, does not count") {
  for (auto const method : methods_but_fork()) {
    INFO(name_of(method));
    numbers q;
    shared_stage s;
    auto p = polyproc::launch({.start = method}, send_and_let_go, q.sender(), s);
    s->await(1);
    CHECK(q.get() == 1);
    CHECK(nothing_in(q) == queue_status::empty);
    s->reach(2);
    // Who waits is woken by that.
    auto const took = time_of([&] { CHECK_THROWS_AS(q.get(), polyproc::queue_closed); });
    CHECK(took < soon);
    s->await(3);
    s->reach(4);
    p.join();
    CHECK(p.exit_code() == 0);
  }
}

TEST_CASE_METHOD(tidy, "[H35] a forked child counts for as long as it lives, having what its parent had") {
  if (!polyproc::native_backend::has_fork) return;
  numbers q;
  shared_stage s;
  auto p = polyproc::launch({.start = polyproc::start_method::fork}, send_and_let_go, q.sender(), s);
  s->await(1);
  CHECK(q.get() == 1);
  s->reach(2);
  s->await(3);
  CHECK(nothing_in(q) == queue_status::empty);
  s->reach(4);
  CHECK_THROWS_AS(q.get(), polyproc::queue_closed);
  p.join();

  // If it was not given any, that it had a copy does not mean that anybody else could ever put.
  numbers r;
  shared_stage t;
  auto other = polyproc::launch({.start = polyproc::start_method::fork}, hang_with_receiver, r.receiver(), t);
  t->await(1);
  CHECK(nothing_in(r) == queue_status::empty);
  other.kill();
  other.join();
  CHECK(nothing_in(r) == queue_status::empty);
}

TEST_CASE_METHOD(tidy, "[H35] a process that has narrowed its handle to getting does not count") {
  numbers q;
  shared_stage s;
  auto p = polyproc::launch(narrow, q, s);
  s->await(1);
  CHECK(nothing_in(q) == queue_status::closed);
  s->reach(2);
  p.join();

  // Nor does one that was only ever given that.
  shared_stage t;
  auto r = polyproc::launch(hang_with_receiver, q.receiver(), t);
  t->await(1);
  CHECK(nothing_in(q) == queue_status::closed);
  r.kill();
  r.join();
}

TEST_CASE_METHOD(tidy, "[H35] receivers in other processes are told when the sender lets go") {
  for (auto const method : methods_but_fork()) {
    INFO(name_of(method));
    numbers q;
    numbers answers;
    std::vector<polyproc::process> readers;
    for (int i = 0; i < 3; ++i)
      readers.push_back(polyproc::launch({.start = method}, count_them, q.receiver(), answers));
    {
      auto const to = q.sender();
      q = numbers(1);
      for (int i = 0; i < 300; ++i) to.put(i);
    }
    int sum = 0;
    for (int i = 0; i < 3; ++i) sum += answers.get();
    CHECK(sum == 300);
    for (auto& p : readers) {
      p.join();
      CHECK(p.exit_code() == 0);
    }
  }
}

TEST_CASE_METHOD(tidy, "[H35] a handle that is under way in a message counts, and does not once it was read and let go") {
  numbers q;
  polyproc::queue<sender> mail;
  shared_stage s;
  auto p = polyproc::launch(open_mail, mail, s);
  mail.put(q.sender());
  auto const from = q.receiver();
  q = numbers(1);
  CHECK(nothing_in(from) == queue_status::empty);
  CHECK_FALSE(from.get_for(600ms));
  CHECK(nothing_in(from) == queue_status::empty);
  s->reach(1);
  CHECK(from.get() == 5);
  CHECK_THROWS_AS(from.get(), polyproc::queue_closed);
  p.join();
  CHECK(p.exit_code() == 0);
}

TEST_CASE_METHOD(tidy, "[H35] a handle that could not be put is not under way") {
  numbers q;
  auto child = polyproc::launch(do_nothing_with, q);
  child.join();
  polyproc::queue<numbers> mail(1);
  mail.put(numbers(1));
  CHECK_FALSE(mail.try_put(q));
  CHECK_FALSE(mail.put_for(q, 1ms));
  mail.close();
  CHECK_THROWS_AS(mail.put(q), polyproc::queue_closed);
  CHECK_THROWS_AS(mail.put_many(std::vector<numbers>{q, q}), polyproc::queue_closed);
  CHECK(nothing_in(q) == queue_status::closed);
}

TEST_CASE_METHOD(tidy, "[H35] more handles than there are places are still handles") {
  numbers q;
  {
    polyproc::queue<numbers> mail;
    std::vector<numbers> held;
    for (int i = 0; i < 150; ++i) mail.put(q);
    for (int i = 0; i < 150; ++i) held.push_back(mail.get());
    auto p = polyproc::launch(put_some, q, 1);
    CHECK(q.get() == 0);
    p.join();
    held.front().put(1);
    CHECK(q.get() == 1);
  }
  auto p = polyproc::launch(put_some, q, 1);
  p.join();
  CHECK(q.get() == 0);
  CHECK_THROWS_AS(q.get(), polyproc::queue_closed);
}

TEST_CASE_METHOD(tidy, "[H35] the child of a child counts, too") {
  numbers q;
  auto p = polyproc::launch(have_a_child_put, q, 50);
  int n = 0;
  for (int const value : q) n += value >= 0 ? 1 : 0;
  CHECK(n == 50);
  p.join();
  CHECK(p.exit_code() == 0);
}

TEST_CASE_METHOD(tidy, "senders and receivers refer to their queue, and travel") {
  numbers q(3);
  auto const to = q.sender();
  auto const from = q.receiver();
  CHECK(to == q.sender());
  CHECK(from == q.receiver());
  CHECK_FALSE(to == numbers(3).sender());
  CHECK(to.capacity() == 3);
  to.put(1);
  CHECK(from.size() == 1);
  CHECK(to.size() == 1);
  CHECK(from.get() == 1);
  CHECK(from.try_get_many(1).empty());
  to.put_many(std::vector<int>{2, 3, 4});
  CHECK(to.full());
  CHECK(*from.lease() == 2);
  CHECK(from.get_many(2) == std::vector<int>{2, 3});
  polyproc::queue<receiver> mail;
  mail.put(from);
  CHECK(mail.get().get() == 4);
  from.close();
  CHECK(to.is_closed());
  CHECK_THROWS_AS(to.put(1), polyproc::queue_closed);
}

TEST_CASE_METHOD(tidy, "[H35] 64 producers come and go, and the end is told once all have gone") {
  numbers q(100);
  std::vector<polyproc::process> all;
  for (int i = 0; i < 64; ++i) all.push_back(polyproc::launch(put_some, q, 20));
  int n = 0;
  for (int const value : q) n += value >= 0 ? 1 : 0;
  CHECK(n == 64 * 20);
  for (auto& p : all) p.join();
}
