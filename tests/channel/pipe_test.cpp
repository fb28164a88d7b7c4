// timeout: 300
// Pipes: boundaries, both directions, who has an end, and what a death does to the other one.

#include "process/start_methods.hpp"

#include <polyproc/channel/pipe.hpp>
#include <polyproc/channel/queue.hpp>
#include <polyproc/channel/wait_any.hpp>

#if !defined(_WIN32)
#include <csignal>
#endif

using namespace std::chrono_literals;
using polyproc::one_way;
using polyproc::process;
using polyproc::process_options;
using polyproc::queue_status;

static_assert(!std::is_copy_constructible_v<polyproc::pipe_end<int>> && !std::is_copy_assignable_v<polyproc::pipe_end<int>>);
static_assert(!std::is_copy_constructible_v<polyproc::pipe_reader<int>> && !std::is_copy_constructible_v<polyproc::pipe_writer<int>>);
static_assert(std::is_nothrow_move_constructible_v<polyproc::pipe_end<int>>);

namespace {

void echo(polyproc::pipe_end<std::string> end) {
  while (auto m = end.recv()) end.send(*m);
}
void send_and_wait(polyproc::pipe_writer<int> end, shared_notes n) {
  end.send(1);
  n->count = 1;
  until(n->a, 1);
}
void take_and_wait(polyproc::pipe_reader<int> end, shared_notes n) {
  n->a = end.is_open() ? 1 : 2;
  n->count = 1;
  until(n->b, 1);
}

std::errc why_refused(auto&& call) {
  try {
    call();
  } catch (std::system_error const& refused) {
    return static_cast<std::errc>(refused.code().default_error_condition().value());
  }
  return {};
}

/// What an event loop does with it.
bool is_ready(polyproc::native_backend::handle h, std::chrono::milliseconds wait = 0ms) {
  return polyproc::wait_any_for(wait, h).has_value();
}
void send_later(polyproc::pipe_writer<int> end, shared_notes n) {
  until(n->a, 1);
  end.send(1);
  end.send(2);
  until(n->a, 2);
}

bool starving = false;
/// Cannot be read while there is no memory, as far as it is concerned.
struct hungry {
  std::string text;
};
/// Says when it was written, which is before it is put.
template <class End>
struct letter {
  End end;
  shared_notes written;
};
}  // namespace

template <>
struct polyproc::codec<hungry> {
  static void write(writer& out, hungry const& h) { encode(out, h.text); }
  static hungry read(reader& in) {
    if (starving) throw std::bad_alloc();
    return {decode<std::string>(in)};
  }
};
template <class End>
struct polyproc::codec<letter<End>> {
  static void write(writer& out, letter<End> const& l) {
    encode(out, l.end);
    encode(out, l.written);
    l.written->count = 1;
  }
  static letter<End> read(reader& in) {
    auto end = decode<End>(in);
    return {std::move(end), decode<shared_notes>(in)};
  }
};

namespace {

template <class End>
void send_letter(polyproc::queue<letter<End>> to, End end, shared_notes n) {
  to.put({std::move(end), n});
}
template <class End>
void send_letter_on(polyproc::pipe_end<letter<End>> to, End end, shared_notes n) {
  to.send({std::move(end), n});
}
void send_letter_and_hang(polyproc::queue<letter<polyproc::pipe_writer<int>>> to, polyproc::pipe_writer<int> end, shared_notes n) {
  to.put({std::move(end), n});
  n->a = 1;
  until(n->b, 1);
}

}  // namespace

TEST_CASE_METHOD(tidy, "pipe: a native handle is ready while there is something to receive, and at the end of file") {
  shared_notes n;
  auto [from, to] = polyproc::pipe<int>(one_way);
  auto p = polyproc::launch(send_later, std::move(to), n);
  auto const handle = from.native_handle();
  CHECK(handle == from.native_handle());
  CHECK_FALSE(is_ready(handle, 30ms));
  for (int round = 0; round < 2; ++round) {
    n->a = 1 + round;
    CHECK(is_ready(handle, 20s));
    CHECK(is_ready(handle));  // and stays so
    if (round == 1) break;
    CHECK(from.recv() == 1);
    CHECK(is_ready(handle, 20s));  // there is another one
    CHECK(from.recv() == 2);
    CHECK_FALSE(is_ready(handle, 30ms));
  }
  CHECK_FALSE(from.recv());
  CHECK(is_ready(handle));  // nothing more comes, and whoever looks is told
  p.join();
  from.close();
  CHECK_THROWS_AS(from.native_handle(), std::logic_error);
}

TEST_CASE_METHOD(tidy, "pipe: a handle follows its end when that moves, and not into a message; many rounds miss nothing") {
  auto [here, there] = polyproc::pipe<int>();
  (void)there.native_handle();
  auto moved = std::move(there);
  auto const handle = moved.native_handle();
  for (int i = 0; i < 500; ++i) {
    here.send(i);
    if (i % 3 == 0) here.send(i);
    REQUIRE(is_ready(handle, 20s));
    CHECK(moved.recv() == i);
    if (i % 3 == 0) {
      CHECK(is_ready(handle, 20s));
      CHECK(moved.recv_bytes()->size() == sizeof(int));
    }
    CHECK_FALSE(is_ready(handle));
  }
  polyproc::queue<polyproc::pipe_end<int>> mail;
  mail.put(moved);
  auto arrived = mail.get();
  here.send(7);
  CHECK(is_ready(arrived.native_handle(), 20s));
  CHECK(arrived.recv() == 7);
}

TEST_CASE_METHOD(tidy, "pipe: a handle is ready when the owner of the other end has died") {
  shared_notes n;
  auto [from, to] = polyproc::pipe<int>(one_way);
  auto p = polyproc::launch(send_later, std::move(to), n);
  auto const handle = from.native_handle();
  n->a = 1;
  CHECK(from.recv() == 1);
  CHECK(from.recv() == 2);
  CHECK_FALSE(is_ready(handle, 10ms));
  p.kill();
  CHECK(is_ready(handle, 20s));
  CHECK_FALSE(from.recv());
  p.join();
}

TEST_CASE_METHOD(tidy, "pipe: messages of every size arrive whole, in order, in both directions, under each start method") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    auto [here, there] = polyproc::pipe<std::string>();
    process p{process_options{.start = method}, echo, std::move(there)};
    p.start();
    for (std::size_t const size : {0U, 1U, 100U, 5000U, 20000U, 300000U, 9000000U}) {
      std::string const sent(size, static_cast<char>('a' + size % 26));
      here.send(sent);
      here.send("behind");
      CHECK(here.recv() == sent);
      CHECK(here.recv() == "behind");
    }
    here.close_send();
    CHECK(!here.recv());
    p.join();
    CHECK(p.exit_code() == 0);
  }
}

TEST_CASE_METHOD(tidy, "pipe: each direction has a type of its own, and a pipe in one direction a reader and a writer") {
  auto [ask, answer] = polyproc::pipe<int, std::string>();
  ask.send(4);
  CHECK(answer.recv() == 4);
  answer.send("four");
  CHECK(ask.recv() == "four");
  auto [from, to] = polyproc::pipe<double>(one_way);
  to.send(0.5);
  CHECK(from.recv() == 0.5);
}

TEST_CASE_METHOD(tidy, "[H38] pipe: an end has one owner; what was given away is empty here, and says so") {
  auto [from, to] = polyproc::pipe<int>(one_way);
  CHECK(to.is_open());
  auto moved = std::move(to);
  CHECK(!to.is_open());  // NOLINT: what is said of a moved-from end
  CHECK_THROWS_AS(to.send(1), std::logic_error);
  moved.send(1);
  polyproc::queue<polyproc::pipe_writer<int>> q{1};
  q.put(moved);  // encoded: it is on its way
  CHECK(!moved.is_open());
  CHECK_THROWS_AS(moved.send(2), std::logic_error);
  auto back = q.get();
  back.send(3);
  CHECK(from.recv() == 1);
  CHECK(from.recv() == 3);
  { auto const gone = std::move(moved); }  // the end of an empty object closes nothing
  CHECK(back.is_open());
  CHECK_FALSE(from.poll());
}

TEST_CASE_METHOD(tidy, "[H39] pipe: the end of file is seen when the other end is closed, dropped, or its owner has ended or died") {
  SECTION("closed and dropped") {
    auto [from, to] = polyproc::pipe<int>(one_way);
    to.send(1);
    to.close();
    to.close();
    CHECK(from.recv() == 1);
    CHECK(!from.recv());
    CHECK(!from.recv());
    auto [other, dropped] = polyproc::pipe<int>(one_way);
    { auto const gone = std::move(dropped); }
    CHECK(!other.recv());
  }
  SECTION("siblings that were started meanwhile keep nothing open") {
    for (auto const method : start_methods()) {
      CAPTURE(name_of(method));
      shared_notes n;
      auto [from, to] = polyproc::pipe<int>(one_way);
      process p{process_options{.start = method}, send_and_wait, std::move(to), n};
      p.start();
      until(n->count, 1);
      process sibling{process_options{.start = method}, [](shared_notes s) { until(s->b, 1); }, n};
      sibling.start();
      CHECK(from.recv() == 1);
      CHECK_FALSE(from.poll());
      p.kill();
      CHECK(!from.recv());
      n->b = 1;
      sibling.join();
      p.join();
    }
  }
  SECTION("a child that was killed before it had its end") {
    for (auto const method : start_methods()) {
      CAPTURE(name_of(method));
      for (int i = 0; i < 5; ++i) {
        shared_notes n;
        auto [from, to] = polyproc::pipe<int>(one_way);
        process p{process_options{.start = method}, send_and_wait, std::move(to), n};
        p.start();
        p.kill();
        int got = 0;
        while (from.recv()) ++got;
        CHECK(got <= 1);
        p.join();
      }
    }
  }
  SECTION("a message that nobody will read") {
    auto [from, to] = polyproc::pipe<int>(one_way);
    try {
      polyproc::queue<polyproc::pipe_writer<int>> q{1};
      q.close();
      q.put(to);
      FAIL("a put into a closed queue");
    } catch (polyproc::queue_closed const&) {
    }
    to.send(1);  // it is here again
    CHECK(from.recv() == 1);
  }
}

TEST_CASE_METHOD(tidy, "[H39] pipe: whoever is killed while it waits to send an end leaves nobody waiting, under every start method") {
  for (auto const method : start_methods()) {
    INFO(name_of(method));
    {
      auto [from, to] = polyproc::pipe<int>(one_way);
      shared_notes n;
      polyproc::queue<letter<polyproc::pipe_writer<int>>> full(1);
      full.put({std::move(polyproc::pipe<int>(one_way).second), n});
      n->count = 0;
      process p{process_options{.start = method}, send_letter<polyproc::pipe_writer<int>>, full, std::move(to), n};
      p.start();
      until(n->count, 1);
      CHECK_FALSE(from.poll());
      p.kill();
      p.join();
      CHECK(!from.recv());
    }
    {
      auto [from, to] = polyproc::pipe<int>(one_way);
      shared_notes n;
      auto [full, other] = polyproc::pipe<letter<polyproc::pipe_reader<int>>>();
      for (int i = 0; i < 1024; ++i) full.send({std::move(polyproc::pipe<int>(one_way).first), n});
      process p{process_options{.start = method}, send_letter_on<polyproc::pipe_reader<int>>, std::move(full), std::move(from), n};
      n->count = 0;
      p.start();
      until(n->count, 1);
      p.kill();
      p.join();
      CHECK(why_refused([&to = to] {  // which older compilers do not capture by itself
              for (int i = 0; i < 2000; ++i) to.send(i);
            }) == std::errc::broken_pipe);
    }
  }
}

TEST_CASE_METHOD(tidy, "pipe: a large message for which there is no memory is still there") {
  auto [from, to] = polyproc::pipe<hungry>(one_way);
  to.send({std::string(100000, 'a')});
  to.send({"b"});
  starving = true;
  CHECK_THROWS_AS(from.recv(), std::bad_alloc);
  starving = false;
  CHECK(from.recv()->text == std::string(100000, 'a'));
  CHECK(from.recv()->text == "b");
}

TEST_CASE_METHOD(tidy, "[H39] pipe: an end that was put arrives though its sender is killed then, and one not read yet stays open") {
  auto [from, to] = polyproc::pipe<int>(one_way);
  shared_notes n;
  polyproc::queue<letter<polyproc::pipe_writer<int>>> mail;
  process p{send_letter_and_hang, mail, std::move(to), n};
  p.start();
  until(n->a, 1);
  p.kill();
  p.join();
  queue_status why{};
  CHECK(!from.recv_for(600ms, why));  // longer than those who wait sleep between two looks
  CHECK(why == queue_status::timeout);
  mail.get().end.send(3);
  CHECK(from.recv() == 3);
  CHECK(!from.recv());
}

TEST_CASE_METHOD(tidy, "pipe: sending is refused when nobody can receive any more") {
  auto const broken = std::errc::broken_pipe;
  SECTION("closed") {
    auto [from, to] = polyproc::pipe<int>(one_way);
    from.close();
    CHECK(why_refused([&, &end = to] { end.send(1); }) == broken);
    CHECK(why_refused([&, &end = to] { (void)end.try_send(1); }) == broken);
    CHECK_FALSE(to.is_open());
  }
  SECTION("the receiver was killed while the sender waits for room") {
    for (auto const method : start_methods()) {
      CAPTURE(name_of(method));
      shared_notes n;
      auto [from, to] = polyproc::pipe<int>(one_way);
      process p{process_options{.start = method}, take_and_wait, std::move(from), n};
      p.start();
      until(n->count, 1);
      CHECK(n->a == 1);
      while (to.try_send(1)) {
      }
      CHECK_FALSE(to.send_for(1, 5ms));
      p.kill();
      CHECK(why_refused([&end = to] { end.send(1); }) == broken);
      p.join();
    }
  }
}

TEST_CASE_METHOD(tidy, "pipe: timed forms come back in time, and tell the deadline from the end of file") {
  auto [from, to] = polyproc::pipe<int>(one_way);
  queue_status why{};
  auto const began = std::chrono::steady_clock::now();
  CHECK(!from.recv_for(20ms, why));
  CHECK(why == queue_status::timeout);
  CHECK(!from.try_recv(why));
  CHECK(why == queue_status::empty);
  CHECK(!from.recv_until(std::chrono::steady_clock::now() + 10ms));
  CHECK_FALSE(from.poll_for(10ms));
  CHECK(std::chrono::steady_clock::now() - began < 10s);
  CHECK(to.send_for(7, 1s));
  CHECK(from.poll());
  CHECK(from.poll_for(1h));
  CHECK(from.recv_for(1h, why) == 7);
  CHECK(why == queue_status::success);
  to.close();
  CHECK(from.poll());
  CHECK(!from.recv_for(1h, why));
  CHECK(why == queue_status::closed);
  auto [more, room] = polyproc::pipe<int>(one_way);
  int sent = 0;
  while (room.try_send(sent)) ++sent;
  CHECK(sent == 1024);
  CHECK_FALSE(room.send_for(1, 10ms));
  CHECK(more.recv() == 0);
  CHECK(room.send_until(1, std::chrono::system_clock::now() + 1h));
}

TEST_CASE_METHOD(tidy, "pipe: of a large value that could not be sent nothing stays") {
  using arena = polyproc::detail::arena<polyproc::native_backend>;
  auto const before = arena::used_bytes();
  auto [from, to] = polyproc::pipe<std::vector<int>>(one_way);
  std::vector<int> large(5000);
  int sent = 0;
  for (large[4999] = 0; to.try_send(large); large[4999] = ++sent) {
  }
  CHECK(sent == 1024);
  auto const used = arena::used_bytes();
  CHECK_FALSE(to.send_for(large, 5ms));
  CHECK_FALSE(to.try_send(large));
  CHECK(arena::used_bytes() == used);
  CHECK(from.recv()->at(4999) == 0);
  CHECK(to.try_send(large));
  for (int i = 1; i <= 1024; ++i) REQUIRE(from.recv()->at(4999) == i);
  CHECK(arena::used_bytes() - before < (used - before) / 20);
  from.close();
  CHECK(why_refused([&, &end = to] { end.send(large); }) == std::errc::broken_pipe);
  CHECK(arena::used_bytes() - before < (used - before) / 20);
}

TEST_CASE_METHOD(tidy, "pipe: bytes travel as they are, and a message above the limit stays where it is") {
  auto [from, to] = polyproc::pipe<int>(one_way);
  std::vector<std::byte> const bytes(1000, std::byte{7});
  to.send_bytes(bytes);
  to.send_bytes({});
  CHECK_THROWS_AS(from.recv_bytes(999), std::length_error);
  CHECK(from.recv_bytes(1000) == bytes);
  CHECK(from.recv_bytes()->empty());
  to.close();
  CHECK(!from.recv_bytes());
}

TEST_CASE_METHOD(tidy, "pipe: an end travels through a pipe") {
  auto [carry, deliver] = polyproc::pipe<polyproc::pipe_reader<std::string>>();
  auto [from, to] = polyproc::pipe<std::string>(one_way);
  carry.send(from);
  to.send("hello");
  auto got = deliver.recv();
  REQUIRE(got);
  CHECK(got->recv() == "hello");
}

#if !defined(_WIN32)
TEST_CASE_METHOD(tidy, "pipe: the copy of an end in a forked child is the child's once it has used it") {
  auto [here, there] = polyproc::pipe<int>();
  auto child = polyproc::fork();
  if (!child) {
    auto const got = there.recv();
    there.send(got.value_or(0) + 1);
    std::_Exit(0);
  }
  here.send(4);
  CHECK(here.recv() == 5);
  CHECK_THROWS_AS(there.recv(), std::logic_error);
  child->join();
  CHECK(!here.recv());
}

TEST_CASE_METHOD(tidy, "pipe: the copy of a fork has the end, but not the thread behind its handle") {
  auto [here, there] = polyproc::pipe<int>();
  CHECK_FALSE(polyproc::wait_any_for(1ms, there.native_handle()));
  auto child = polyproc::fork();
  if (!child) {
    auto const got = there.recv();
    there.send(got.value_or(0) + 1);
    there.close();
    std::_Exit(0);
  }
  here.send(4);
  CHECK(here.recv() == 5);
  child->join();
  CHECK(!here.recv());
}

TEST_CASE_METHOD(tidy, "[H33] pipe: timed forms return in time while the other side is stopped anywhere") {
  shared_notes n;
  auto [here, there] = polyproc::pipe<int>();
  process p{polyproc::start::fork,
            [](polyproc::pipe_end<int> end, shared_notes s) {
              for (int i = 0; s->a == 0; ++i) {
                (void)end.send_for(i, 1ms);
                (void)end.recv_for(1us);
              }
            },
            std::move(there), n};
  p.start();
  for (int i = 0; i < 200; ++i) {
    ::kill(static_cast<pid_t>(*p.pid()), SIGSTOP);
    auto const began = std::chrono::steady_clock::now();
    (void)here.send_for(i, 2ms);
    (void)here.recv_for(2ms);
    (void)here.poll();
    CHECK(std::chrono::steady_clock::now() - began < 10s);
    ::kill(static_cast<pid_t>(*p.pid()), SIGCONT);
    while (here.try_recv()) {
    }
  }
  n->a = 1;
  p.join();
}
#endif
