// timeout: 300
// Messages that are held where they lie: leased, written in place, looked at in place.

#include "process/start_methods.hpp"
#include "support/stage.hpp"

#include <numeric>

using namespace std::chrono_literals;
using polyproc::queue_status;

namespace {

using arena = polyproc::detail::arena<polyproc::native_backend>;
using shared_stage = polyproc::shared<stage>;
using numbers = std::vector<std::uint64_t>;

constexpr std::size_t most_leases = 1024;

bool starving = false;
/// Cannot be read while there is no memory, as far as it is concerned.
struct hungry {
  std::string text;
};
/// Cannot be read if it is 3.
struct picky {
  int value;
};
std::vector<int> values_of(std::vector<picky> const& all) {
  std::vector<int> values;
  for (auto const& one : all) values.push_back(one.value);
  return values;
}

}  // namespace

template <>
struct polyproc::codec<hungry> {
  static void write(writer& out, hungry const& h) { encode(out, h.text); }
  static hungry read(reader& in) {
    if (starving) throw std::bad_alloc();
    return {decode<std::string>(in)};
  }
};
template <>
struct polyproc::codec<picky> {
  static void write(writer& out, picky const& p) { encode(out, p.value); }
  static picky read(reader& in) {
    picky const got{decode<int>(in)};
    if (got.value == 3) in.fail("it is 3");
    return got;
  }
};

namespace {

void lease_and_hang(polyproc::queue<std::string> q, shared_stage s, int count) {
  std::vector<decltype(q.lease())> held;
  for (int i = 0; i < count; ++i) held.push_back(q.lease());
  s->reach(1);
  sleep_until_killed();
}
void lease_and_exit(polyproc::queue<std::string> q) {
  auto const held = q.lease();
  std::_Exit(held->empty() ? 1 : 0);
}
/// Acknowledges the one and gives the other back.
void lease_two(polyproc::queue<std::string> q) {
  auto one = q.lease();
  auto const two = q.lease();
  one.ack();
}
void receive_and_hang(polyproc::queue_receiver<std::string> from, shared_stage s) {
  auto const held = from.lease();
  s->reach(1);
  sleep_until_killed();
}
void view_and_hang(polyproc::queue<std::string> q, shared_stage s) {
  auto const seen = q.view();
  s->reach(1);
  sleep_until_killed();
}
void reserve_and_hang(polyproc::queue<std::string> q, shared_stage s) {
  auto const room = q.reserve(1 << 20);
  s->reach(1);
  sleep_until_killed();
}

std::uint64_t offset_of(void const* p) {
  return static_cast<std::uint64_t>(static_cast<std::byte const*>(p) - polyproc::native_backend::family().base);
}
/// Where a message lies in the family's memory, and what it adds up to.
struct seen_there {
  std::uint64_t offset = 0;
  std::uint64_t sum = 0;
  std::uint64_t used = 0;  // of the arena
};
void look(polyproc::queue<numbers> q, polyproc::queue<seen_there> answers) {
  auto const seen = q.view();
  answers.put({offset_of(seen.data()), std::accumulate(seen.begin(), seen.end(), std::uint64_t{0}), arena::used_bytes()});
}

void put_one(polyproc::queue<int> q, int value) { q.put(value); }

/// What can be put but not read.
struct unreadable {
  int number = 0;
};

/// Until all the dead were asked after.
template <class T>
std::vector<T> all_of(polyproc::queue<T> const& q) {
  std::vector<T> got;
  while (auto one = q.get_for(100ms)) got.push_back(std::move(*one));
  return got;
}

using words = std::vector<std::string>;

}  // namespace

template <>
struct polyproc::codec<unreadable> {
  static void write(writer& out, unreadable const& value) { out.raw(value.number); }
  static unreadable read(reader& in) {
    auto const number = in.raw<int>();
    if (number < 0) in.fail("a number below zero");
    return {number};
  }
};

TEST_CASE_METHOD(tidy, "a leased message is gone once it is acknowledged, and its value stays") {
  polyproc::queue<std::string> q(4);
  for (auto const& text : {std::string("small"), std::string(100000, 'x')}) {
    q.put(text);
    auto leased = q.lease();
    CHECK(*leased == text);
    CHECK(leased->size() == text.size());
    CHECK(q.empty());
    CHECK_FALSE(q.try_get());
    leased.ack();
    leased.ack();
    leased.give_back();
    CHECK(*leased == text);
    CHECK(q.empty());
    CHECK_FALSE(q.get_for(1ms));
  }
}

TEST_CASE_METHOD(tidy, "a lease that is dropped goes back before everything not yet taken") {
  polyproc::queue<std::string> q(8);
  q.put_many(words{"a", "b", "c", "d", "e"});
  {
    auto const a = q.lease();
    CHECK(q.size() == 4);
  }
  CHECK(q.size() == 5);
  auto a = q.lease();
  auto b = q.lease();
  auto c = q.lease();
  CHECK((*a + *b + *c) == "abc");
  // In whatever order they come back, they are got in that of their puts.
  c.give_back();
  CHECK(q.size() == 3);
  a.give_back();
  b.give_back();
  CHECK(q.size() == 5);
  CHECK(all_of(q) == words{"a", "b", "c", "d", "e"});
}

TEST_CASE_METHOD(tidy, "what came back is leased, got, and got with others, like any other message") {
  polyproc::queue<std::string> q(64);
  words all;
  for (std::size_t i = 0; i < 40; ++i) all.push_back(std::string(i * 1000, static_cast<char>('a' + i % 26)));
  q.put_many(all);
  {
    std::vector<decltype(q.lease())> held;
    for (int i = 0; i < 30; ++i) held.push_back(q.lease());
  }
  CHECK(q.size() == 40);
  words got;
  {
    auto again = q.lease();
    got.push_back(*again);
    again.ack();
  }
  got.push_back(q.get());
  while (!q.empty())
    for (auto& one : q.get_many(7)) got.push_back(std::move(one));
  CHECK(got == all);
}

TEST_CASE_METHOD(tidy, "a leased message whose holder is killed goes back, under every start method") {
  for (auto const method : start_methods()) {
    INFO(name_of(method));
    polyproc::queue<std::string> q;
    shared_stage s;
    q.put_many(words{"one", std::string(70000, '2'), "three", "four"});
    auto p = polyproc::launch({.start = method}, lease_and_hang, q, s, 3);
    s->await(1);
    CHECK(q.size() == 1);
    CHECK_FALSE(p.join_for(0s));
    p.kill();
    p.join();
    auto const got = all_of(q);
    // "four" may be got before it is known that they died, but what came back keeps its order.
    REQUIRE(got.size() == 4);
    words back;
    for (auto const& one : got)
      if (one != "four") back.push_back(one);
    CHECK(back == words{"one", std::string(70000, '2'), "three"});
  }
}

TEST_CASE_METHOD(tidy, "one who waits in get is given what a dead holder leaves") {
  polyproc::queue<std::string> q(4);
  shared_stage s;
  q.put("work");
  auto p = polyproc::launch(lease_and_hang, q, s, 1);
  s->await(1);
  std::thread killer([&] {
    std::this_thread::sleep_for(20ms);  // most of the time the other waits by then; both ways must end
    p.kill();
  });
  auto const took = time_of([&] { CHECK(q.get() == "work"); });
  killer.join();
  p.join();
  CHECK(took < soon);
}

TEST_CASE_METHOD(tidy, "a holder that exits without a word gives back, one that returns does what its leases do") {
  polyproc::queue<std::string> q(4);
  q.put("left");
  auto quiet = polyproc::launch(lease_and_exit, q);
  quiet.join();
  CHECK(quiet.exit_code() == 0);
  CHECK(all_of(q) == words{"left"});
  q.put_many(words{"first", "second"});
  auto orderly = polyproc::launch(lease_two, q);
  orderly.join();
  CHECK(orderly.exit_code() == 0);
  CHECK(q.size() == 1);
  CHECK(q.get() == "second");
}

TEST_CASE_METHOD(tidy, "a lease may be moved, and acknowledged by another thread") {
  polyproc::queue<std::string> q(4);
  q.put_many(words{"a", "b"});
  auto first = q.lease();
  auto second = std::move(first);
  std::thread([&] { second.ack(); }).join();
  CHECK(q.size() == 1);
  first = q.lease();
  CHECK(*first == "b");
  std::thread([held = std::move(first)] { CHECK_NOTHROW(*held); }).join();
  CHECK(q.get_for(soon) == "b");
}

TEST_CASE_METHOD(tidy, "the forms of lease wait as those of get do") {
  polyproc::queue<std::string> q(4);
  CHECK_FALSE(q.try_lease());
  CHECK_FALSE(q.lease_for(1ms));
  CHECK_FALSE(q.lease_until(std::chrono::steady_clock::now() + 1ms));
  q.put("a");
  CHECK(**q.try_lease() == "a");  // and gives it back
  CHECK(**q.lease_for(1h) == "a");
  q.close();
  auto leased = q.lease();
  leased.ack();
  CHECK_FALSE(q.lease_for(1h));
  CHECK_THROWS_AS(q.lease(), polyproc::queue_closed);
}

TEST_CASE_METHOD(tidy, "as many messages as there are entries can be leased at once, and one more is std::bad_alloc") {
  polyproc::queue<int> q;
  std::vector<int> all(most_leases + 2);
  std::iota(all.begin(), all.end(), 0);
  q.put_many(all);
  auto const before = arena::used_bytes();
  std::vector<decltype(q.lease())> held;
  for (std::size_t i = 0; i < most_leases; ++i) {
    held.push_back(q.lease());
    REQUIRE(*held.back() == static_cast<int>(i));
  }
  CHECK_THROWS_AS(q.lease(), std::bad_alloc);
  CHECK_THROWS_AS(q.lease_for(1h), std::bad_alloc);
  CHECK(q.size() == 2);
  for (std::size_t i = 0; i < most_leases; i += 2) held[i].ack();
  {
    auto const one_more = q.lease();
    CHECK(*one_more == static_cast<int>(most_leases));
  }
  held.clear();
  CHECK(q.size() == most_leases / 2 + 2);
  for (std::size_t i = 1; i < most_leases; i += 2) REQUIRE(q.get() == static_cast<int>(i));
  CHECK(q.get() == static_cast<int>(most_leases));
  CHECK(q.get() == static_cast<int>(most_leases + 1));
  CHECK(q.empty());
  CHECK(arena::used_bytes() <= before + 128 * 1024);  // the table itself stays
}

TEST_CASE_METHOD(tidy, "[H37] what comes back to a closed queue is got before it says closed") {
  polyproc::queue<std::string> q(4);
  shared_stage s;
  queue_status why{};
  q.put_many(words{"kept", "given back", "left by the dead"});
  auto kept = q.lease();
  auto back = q.lease();
  auto p = polyproc::launch(lease_and_hang, q, s, 1);
  s->await(1);
  q.close();
  CHECK_FALSE(q.try_get(why));
  CHECK(why == queue_status::closed);  // whoever holds the others may never give them back
  back.give_back();
  CHECK(q.get() == "given back");
  CHECK_FALSE(q.try_get());
  p.kill();
  p.join();
  // Known at once, though the dead were asked after just now.
  CHECK(q.get() == "left by the dead");
  kept.ack();
  CHECK_THROWS_AS(q.get(), polyproc::queue_closed);
}

TEST_CASE_METHOD(tidy, "[H35] what a dead holder leaves is got before a queue that nobody can put into says closed") {
  polyproc::queue<std::string> q(4);
  shared_stage s;
  q.put("work");
  auto p = polyproc::launch(lease_and_hang, q, s, 1);
  s->await(1);
  CHECK_FALSE(q.try_get());
  p.kill();
  p.join();
  CHECK(q.get() == "work");
  CHECK_THROWS_AS(q.get(), polyproc::queue_closed);

  // One that can only get.
  q.put("more");
  shared_stage t;
  auto r = polyproc::launch(receive_and_hang, q.receiver(), t);
  t->await(1);
  queue_status why{};
  CHECK_FALSE(q.try_get(why));
  CHECK(why == queue_status::closed);
  r.kill();
  r.join();
  CHECK(q.get() == "more");
}

TEST_CASE_METHOD(tidy, "a handle in a leased message is good for whoever gets it in the end") {
  auto const before = arena::used_bytes();
  {
    polyproc::queue<polyproc::queue<int>> mail(2);
    polyproc::queue<int> answers;
    mail.put(answers);
    for (int i = 0; i < 3; ++i) {
      auto const seen = mail.lease();
      seen->put(i);
    }
    auto last = mail.lease();
    last.ack();
    last->put(3);
    for (int i = 0; i < 4; ++i) CHECK(answers.get() == i);
    // The only handle is in the message.
    mail.put(polyproc::queue<int>(7));
    {
      auto const seen = mail.lease();
    }
    CHECK(mail.get().capacity() == 7);
    // Nobody else can put into it any more.
    auto p = polyproc::launch(put_one, answers, 4);
    p.join();
    CHECK(answers.get() == 4);
    CHECK_THROWS_AS(answers.get(), polyproc::queue_closed);
  }
  CHECK(arena::used_bytes() == before);
}

TEST_CASE_METHOD(tidy, "a leased message that cannot be decoded is an exception, and does not come back") {
  polyproc::queue<unreadable> q(4);
  q.put({-1});
  q.put({1});
  CHECK_THROWS_AS(q.lease(), polyproc::decode_error);
  CHECK(q.get().number == 1);
  CHECK_FALSE(q.get_for(50ms));
}

TEST_CASE_METHOD(tidy, "a leased message for which there is no memory goes back, of any size") {
  for (std::size_t const size : {std::size_t{10}, std::size_t{100000}}) {
    polyproc::queue<hungry> q;
    q.put({std::string(size, 'a')});
    q.put({"b"});
    starving = true;
    CHECK_THROWS_AS(q.lease(), std::bad_alloc);
    starving = false;
    CHECK(q.size() == 2);
    auto const held = q.lease();
    CHECK(held->text == std::string(size, 'a'));
    CHECK(q.get().text == "b");
  }
}

TEST_CASE_METHOD(tidy, "a large message for which there is no memory goes back, and is got by the next") {
  polyproc::queue<hungry> q;
  q.put({std::string(100000, 'a')});
  q.put({"b"});
  starving = true;
  CHECK_THROWS_AS(q.get(), std::bad_alloc);
  starving = false;
  CHECK(q.size() == 2);
  CHECK(q.get().text == std::string(100000, 'a'));
  CHECK(q.get().text == "b");
}

TEST_CASE_METHOD(tidy, "a leased message with a handle for which there is no memory is gone, and what it referred to is let go of once") {
  polyproc::queue<int> inner;
  {
    polyproc::queue<std::pair<polyproc::queue<int>, hungry>> q;
    q.put({inner, {"a"}});
    starving = true;
    CHECK_THROWS_AS(q.lease(), std::bad_alloc);
    starving = false;
    CHECK(q.empty());
  }
  inner.put(1);
  CHECK(inner.get() == 1);
}

TEST_CASE_METHOD(tidy, "a batch ends before a message that cannot be decoded, which is then alone an exception and gone") {
  polyproc::queue<picky> q;
  for (int i = 1; i <= 7; ++i) q.put({i % 4});
  CHECK(values_of(q.get_many(10)) == std::vector<int>{1, 2});
  CHECK(q.size() == 5);
  CHECK_THROWS_AS(q.get_many(10), polyproc::decode_error);
  CHECK(values_of(q.try_get_many(10)) == std::vector<int>{0, 1, 2});
  CHECK_THROWS_AS(q.try_get_many(10), polyproc::decode_error);
  CHECK(q.try_get_many(10).empty());
  // Also where one goes back after it was leased.
  q.put({3});
  q.put({1});
  CHECK_THROWS_AS(q.get_many_for(10, 1s), polyproc::decode_error);
  CHECK(values_of(q.get_many_for(10, 1s)) == std::vector<int>{1});
}

TEST_CASE_METHOD(tidy, "a batch for which there is no memory is left as it was") {
  polyproc::queue<hungry> q;
  q.put({"a"});
  q.put({std::string(100000, 'b')});
  starving = true;
  CHECK_THROWS_AS(q.get_many(2), std::bad_alloc);
  starving = false;
  CHECK(q.size() == 2);
  auto const all = q.get_many(2);
  REQUIRE(all.size() == 2);
  CHECK(all[0].text + all[1].text == "a" + std::string(100000, 'b'));
}

TEST_CASE_METHOD(tidy, "messages with handles come one by one of a batch, each with what it refers to") {
  polyproc::queue<std::optional<polyproc::queue<int>>> q;
  polyproc::queue<int> const one;
  polyproc::queue<int> const other;
  q.put(std::nullopt);
  q.put(one);
  q.put(other);
  q.put(std::nullopt);
  std::vector<std::optional<polyproc::queue<int>>> all;
  while (all.size() < 4)
    for (auto& each : q.get_many(10)) all.push_back(std::move(each));
  CHECK_FALSE(all[0].has_value());
  CHECK(all[1] == one);
  CHECK(all[2] == other);
  CHECK_FALSE(all[3].has_value());
}

TEST_CASE_METHOD(tidy, "[H41] 64 MiB written in place are read in place, by another process, from the same memory") {
  polyproc::queue<numbers> q(2);
  polyproc::queue<seen_there> answers(1);
  constexpr std::size_t count = (std::size_t{64} << 20) / sizeof(std::uint64_t);
  auto const before = arena::used_bytes();
  auto room = q.reserve(count);
  REQUIRE(room.size() == count);
  auto const used = arena::used_bytes();
  CHECK(used - before < (std::size_t{64} << 20) + 8192);
  CHECK(reinterpret_cast<std::uintptr_t>(room.data()) % 64 == 0);
  std::iota(room.begin(), room.end(), std::uint64_t{1});
  auto const offset = offset_of(room.data());
  std::move(room).commit();
  CHECK(arena::used_bytes() == used);
  {
    auto p = polyproc::launch(look, q, answers);
    auto const there = answers.get();
    CHECK(there.offset == offset);
    CHECK(there.sum == std::uint64_t{count} * (count + 1) / 2);
    CHECK(there.used < used + 65536);  // no second copy (the process itself has a few pages)
    p.join();
    CHECK(p.exit_code() == 0);
  }
  CHECK(arena::used_bytes() == before);
}

TEST_CASE_METHOD(tidy, "[H41] a large message that is put is copied once, whoever reads it and how") {
  polyproc::queue<numbers> q(2);
  numbers const large(std::size_t{1} << 20, 7);
  auto const before = arena::used_bytes();
  q.put(large);
  auto const used = arena::used_bytes();
  CHECK(used - before < large.size() * sizeof(std::uint64_t) + 8192);
  {
    auto const seen = q.view();
    CHECK(seen.size() == large.size());
    CHECK(seen.elements().back() == 7);
    CHECK(reinterpret_cast<std::uintptr_t>(seen.data()) % 64 == 0);
    CHECK(arena::used_bytes() == used);
  }
  CHECK(arena::used_bytes() == before);
  q.put(large);
  auto leased = q.lease();
  CHECK(*leased == large);
  CHECK(arena::used_bytes() == used);
  leased.ack();
  CHECK(arena::used_bytes() == before);
  q.put(large);
  CHECK(q.get() == large);
  CHECK(arena::used_bytes() == before);
}

TEST_CASE_METHOD(tidy, "what is written in place and what is put are the same to all who read") {
  polyproc::queue<std::string> q(8);
  for (std::size_t const size : {0U, 1U, 5U, 127U, 128U, 20000U, 3000000U}) {
    std::string text(size, 'x');
    for (std::size_t i = 0; i < size; i += 7) text[i] = static_cast<char>('a' + i % 26);
    for (int way = 0; way < 3; ++way) {
      auto room = q.reserve(size);
      std::copy(text.begin(), text.end(), room.begin());
      std::move(room).commit();
      q.put(text);
    }
    CHECK(q.get() == text);
    CHECK(q.get() == text);
    for (int i = 0; i < 2; ++i) {
      auto const seen = q.view();
      CHECK(std::string(seen.begin(), seen.end()) == text);
    }
    CHECK(*q.lease() == text);
    CHECK(q.get_many(5) == words{text, text});
  }
}

TEST_CASE_METHOD(tidy, "small messages are looked at, too, whatever their alignment") {
  polyproc::queue<std::vector<double>> q(8);
  std::vector<double> const some{1.5, 2.5, 3.5};
  for (int i = 0; i < 5; ++i) q.put(some);
  for (int i = 0; i < 5; ++i) {
    auto seen = q.view();
    auto const moved = std::move(seen);
    REQUIRE(moved.size() == 3);
    CHECK(std::vector<double>(moved.begin(), moved.end()) == some);
    CHECK(reinterpret_cast<std::uintptr_t>(moved.data()) % alignof(double) == 0);
    CHECK(seen.size() == moved.size());
  }
  CHECK_FALSE(q.try_view());
  CHECK_FALSE(q.view_for(1ms));
  q.close();
  CHECK_THROWS_AS(q.view(), polyproc::queue_closed);
}

TEST_CASE_METHOD(tidy, "several can be looked at and let go of in any order, while others are got") {
  polyproc::queue<numbers> q;
  auto const before = arena::used_bytes();
  for (std::uint64_t i = 0; i < 30; ++i) q.put(numbers(10000, i));
  {
    std::vector<decltype(q.view())> seen;
    for (int i = 0; i < 10; ++i) {
      seen.push_back(q.view());
      CHECK(q.get().front() == static_cast<std::uint64_t>(2 * i + 1));
    }
    for (std::size_t i = 0; i < 10; i += 3) seen[i].release();
    CHECK(seen[3].size() == 0);
    for (std::size_t i = 1; i < 10; i += 3) CHECK(seen[i].elements()[9999] == 2 * i);
    for (std::uint64_t i = 20; i < 30; ++i) CHECK(q.get() == numbers(10000, i));
  }
  CHECK(q.empty());
  CHECK(arena::used_bytes() <= before + 128 * 1024);
}

TEST_CASE_METHOD(tidy, "a message that is looked at is taken: when its reader dies its memory comes back, and it does not") {
  polyproc::queue<std::string> q(4);
  shared_stage s;
  auto const before = arena::used_bytes();
  {
    q.put(std::string(1 << 20, 'x'));
    auto p = polyproc::launch(view_and_hang, q, s);
    s->await(1);
    CHECK(q.empty());
    p.kill();
    p.join();
    CHECK_FALSE(q.get_for(100ms));
  }
  CHECK(arena::used_bytes() == before);
}

TEST_CASE_METHOD(tidy, "a reservation that is not committed puts nothing and keeps nothing") {
  polyproc::queue<std::string> q(1);
  auto const before = arena::used_bytes();
  {
    auto room = q.reserve(1 << 20);
    auto other = std::move(room);
    room = q.reserve(10);
    CHECK(other.size() == 1 << 20);
  }
  CHECK(q.empty());
  CHECK(arena::used_bytes() == before);
  CHECK_THROWS_AS(q.reserve(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
  CHECK(arena::used_bytes() == before);
}

TEST_CASE_METHOD(tidy, "a reservation waits for room in the queue when it is committed, and can be tried again") {
  polyproc::queue<std::string> q(1);
  auto const before = arena::used_bytes();
  auto room = q.reserve(3);
  std::copy_n("abc", 3, room.begin());
  q.put("full");
  CHECK_FALSE(room.try_commit());
  CHECK_FALSE(room.commit_for(1ms));
  CHECK_FALSE(room.commit_until(std::chrono::steady_clock::now() + 1ms));
  CHECK(q.get() == "full");
  CHECK(room.try_commit());
  CHECK_THROWS_AS(room.try_commit(), std::logic_error);
  CHECK(q.get() == "abc");
  auto late = q.reserve(5);
  auto refused = q.reserve(5);
  q.close();
  CHECK_FALSE(late.commit_for(1h));
  CHECK_THROWS_AS(std::move(refused).commit(), polyproc::queue_closed);
  CHECK(arena::used_bytes() == before);
}

TEST_CASE_METHOD(tidy, "what was reserved by one who was killed is found by those who reserve") {
  polyproc::queue<std::string> q(4);
  shared_stage s;
  auto const before = arena::used_bytes();
  {
    auto p = polyproc::launch(reserve_and_hang, q, s);
    s->await(1);
    p.kill();
    p.join();
  }
  CHECK(arena::used_bytes() > before);
  CHECK(q.empty());
  for (int i = 0; i < 40; ++i) (void)q.reserve(1);
  CHECK(arena::used_bytes() == before);
}

#if !defined(_WIN32)
TEST_CASE_METHOD(tidy, "one who is stopped while it has the books of memory holds up nobody who gets") {
  polyproc::queue<std::string> q;
  std::string const text(1000, 't');
  for (int i = 0; i < 300; ++i) q.put(text);  // in several chunks, each of which is freed when it is left
  shared_stage s;
  auto keeper = polyproc::launch(
      [](shared_stage told) {
        bool first = true;
        arena::sweep(
            [&](polyproc::detail::block_tag const&, std::uint64_t) {
              if (std::exchange(first, false)) {
                told->add();
                sleep_until_killed();
              }
              return false;
            },
            polyproc::never);
      },
      s);
  s->await(1);
  auto const took = time_of([&] {
    for (int i = 0; i < 300; ++i) REQUIRE(q.get() == text);
  });
  CHECK(took < 20s);  // they would wait as long as the one who is stopped
  keeper.kill();
  keeper.join();
  // What could not be freed meanwhile is freed afterwards.
  for (int i = 0; i < 300; ++i) q.put(text);
  for (int i = 0; i < 300; ++i) REQUIRE(q.get() == text);
}
#endif
