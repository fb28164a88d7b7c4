// own-main: this program is its own child, below polyproc::init.
//
// What concept.hpp asks of a backend, asked of the native one. Nothing above floor 0 is used.
#include "child_program.hpp"

#include <array>
#include <csignal>
#include <cstdlib>
#include <set>

#if !defined(_WIN32)
#include <fcntl.h>
#include <unistd.h>
#endif

namespace {

using namespace child_program;

// --- what children do

enum class role : std::uint32_t {
  leave,             // return `number` from main
  leave_at_once,     // exit_now(number)
  checksum,          // exit code: whether what follows is as expected
  wait_for_go,       // tell the identity, wait for `go`
  wait_on_word,      // tell the identity, then wait on `ping` for ever
  play,              // ping-pong, `number` rounds
  spin,              // tell the identity, count up
  threads,           // tell the identities of two threads, wait for ever
  crash,             // an access that faults
  numbers,           // pid, parent's pid
  family_block,      // check and change a block at offset `number` KiB
  call,              // resolve the location that follows, call it
  middle_daemon,     // start a daemon that answers; wait for ever
  middle_thread,     // the same from a thread that ends
  middle_stopped,    // the same, and pause it
  middle_plain,      // the same, but not a daemon
  middle_fork,       // the same with start_fork
};

int twice(int value) { return 2 * value; }

/// A grandchild: tells its identity, and then answers each ping until `go`.
int answer(board& b) {
  b.ids[1].store(backend::self());
  bump(b.ready);
  std::uint32_t seen = 0;
  while (b.go.load(std::memory_order_acquire) == 0) {
    auto const now = b.ping.load(std::memory_order_acquire);
    if (now == seen) {
      backend::wait(b.ping, now, in(100ms));
      continue;
    }
    seen = now;
    raise(b.pong, now);
  }
  return 0;
}

constexpr std::uint32_t answering = 1000;  // the number that makes wait_for_go answer pings

/// A template, so that what needs fork is not compiled where there is none.
template <class Backend>
void fork_answering(typename Backend::child& made, board& b) {
  if constexpr (Backend::has_fork) {
    auto child = Backend::start_fork(options_for({}, {}, true));
    if (!child) Backend::exit_now(answer(b));
    made = std::move(*child);
  }
}

int middle(order const& o, board& b) {
  order const below{static_cast<std::uint32_t>(role::wait_for_go), answering, o.board_offset};
  auto const how = static_cast<role>(o.what);
  backend::child grandchild;
  switch (how) {
    case role::middle_thread:
      std::thread([&] { grandchild = backend::start_image(options_for(below, {}, true)); }).join();
      break;
    case role::middle_fork:
      std::thread([&] { fork_answering<backend>(grandchild, b); }).join();
      break;
    default: grandchild = backend::start_image(options_for(below, {}, how != role::middle_plain));
  }
  if (!reaches(b.ready, 1)) return 1;
  if (how == role::middle_stopped) backend::ask(grandchild, child_request::stop);
  b.numbers[0].store(static_cast<std::uint64_t>(backend::pid(grandchild)));
  bump(b.ready);
  return reaches(b.go, 1) ? 0 : 2;
}

int run(order const& o, std::string_view more) {
  board& b = board_at(o.board_offset);
  switch (static_cast<role>(o.what)) {
    case role::leave: return static_cast<int>(o.number);
    case role::leave_at_once: backend::exit_now(static_cast<int>(o.number)); break;
    case role::checksum: return more == pattern(o.number) ? 0 : 1;
    case role::wait_for_go:
      if (o.number == answering) return answer(b);
      b.ids[0].store(backend::self());
      bump(b.ready);
      return reaches(b.go, 1) ? 0 : 1;
    case role::wait_on_word:
      b.ids[0].store(backend::self());
      bump(b.ready);
      for (;;) backend::wait(b.ping, 0, never);
    case role::play:
      for (std::uint32_t i = 1; i <= o.number; ++i) {
        if (!reaches(b.ping, i)) return 1;
        raise(b.pong, i);
      }
      return 0;
    case role::spin:
      b.ids[0].store(backend::self());
      bump(b.ready);
      for (;;) {
        b.counter.fetch_add(1);
        backend::yield();
      }
    case role::threads: {
      b.ids[0].store(backend::self());
      std::thread other([&] {
        b.ids[1].store(backend::self());
        bump(b.ready);
        for (;;) backend::wait(b.ping, 0, never);
      });
      other.join();
      return 0;
    }
    case role::crash: {
      std::signal(SIGSEGV, SIG_DFL);  // sanitizers catch it
      auto* const nowhere = reinterpret_cast<int volatile*>(std::uintptr_t{16});
      *nowhere = 1;
      return 0;
    }
    case role::numbers:
      b.numbers[0].store(static_cast<std::uint64_t>(backend::current_pid()));
      b.numbers[1].store(static_cast<std::uint64_t>(backend::parent_pid()));
      return 0;
    case role::family_block: {
      std::size_t const size = 1 << 16;
      auto* const block = backend::family().base + std::size_t{1024} * o.number;
      if (!backend::commit(block, size)) return 1;
      auto const expected = pattern(size);
      if (std::memcmp(block, expected.data(), size) != 0) return 2;
      std::memset(block, 0x5A, size);
      return 0;
    }
    case role::call: {
      polyproc::code_location where;
      std::memcpy(&where.build, more.data(), 8);
      std::memcpy(&where.offset, more.data() + 8, 8);
      where.module = more.substr(16);
      return reinterpret_cast<int (*)(int)>(const_cast<void*>(backend::resolve(where)))(21);
    }
    case role::middle_daemon:
    case role::middle_thread:
    case role::middle_stopped:
    case role::middle_plain:
    case role::middle_fork: return middle(o, b);
  }
  return 99;
}

}  // namespace

static_assert(polyproc::backend<backend>);
static_assert(!backend::has_fork || polyproc::forking_backend<backend>);

// --- identity

TEST_CASE("an identity is stable, in range, and one thread's alone") {
  fixture f;
  auto const mine = backend::self();
  REQUIRE(mine >= 1);
  REQUIRE(mine < (std::uint64_t{1} << 62));
  REQUIRE(backend::self() == mine);
  REQUIRE(backend::alive(mine));

  std::set<std::uint64_t> seen{mine};
  // One after the other, so that the system has every chance to reuse numbers.
  for (int i = 0; i < 200; ++i) {
    std::uint64_t id = 0;
    std::thread([&] { id = backend::self(); }).join();
    REQUIRE(seen.insert(id).second);
  }
  // And all at once.
  std::array<std::uint64_t, 8> ids{};
  word here{0};
  std::vector<std::thread> threads;
  for (auto& id : ids) {
    threads.emplace_back([&id, &here] {
      id = backend::self();
      bump(here);
      reaches(here, 8);
    });
  }
  for (auto& t : threads) t.join();
  for (auto const id : ids) {
    REQUIRE(id < (std::uint64_t{1} << 62));
    REQUIRE(seen.insert(id).second);
  }
}

TEST_CASE("a thread is alive until it ends") {
  fixture f;
  word here{0};
  word go{0};
  std::uint64_t id = 0;
  std::thread t([&] {
    id = backend::self();
    raise(here, 1);
    reaches(go, 1);
  });
  CHECK(reaches(here, 1));
  CHECK(backend::alive(id));
  raise(go, 1);
  t.join();
  CHECK(eventually([&] { return !backend::alive(id); }));
}

TEST_CASE("the threads of a process are alive until it is killed") {
  fixture f;
  started child(f.with(role::threads));
  REQUIRE(reaches(f.b->ready, 1));
  auto const first = f.b->ids[0].load();
  auto const second = f.b->ids[1].load();
  CHECK(first != second);
  CHECK(first != backend::self());
  CHECK(backend::alive(first));
  CHECK(backend::alive(second));
  CHECK(child.ask(child_request::kill));
  REQUIRE(backend::await_end(child.get(), in(patience)));
  CHECK(eventually([&] { return !backend::alive(first) && !backend::alive(second); }));
  CHECK(plain(child.end()) == signal_number(9));
  CHECK(!backend::alive(first));
}

TEST_CASE("a stopped process is alive, has not ended, and goes on when resumed") {
  fixture f;
  started child(f.with(role::spin));
  REQUIRE(reaches(f.b->ready, 1));
  auto const id = f.b->ids[0].load();
  auto const moves = [&] {
    auto const before = f.b->counter.load();
    std::this_thread::sleep_for(30ms);
    return f.b->counter.load() != before;
  };
  CHECK(child.ask(child_request::stop));
  CHECK(child.ask(child_request::stop));  // twice is as good as once
  CHECK(eventually([&] { return !moves(); }));
  CHECK(backend::alive(id));
  CHECK(!backend::await_end(child.get(), in(50ms)));
  CHECK(child.ask(child_request::resume));
  CHECK(eventually(moves));
  CHECK(child.ask(child_request::stop));
  CHECK(child.ask(child_request::kill));  // also while stopped
  CHECK(plain(child.end()) == signal_number(9));
  CHECK(!backend::alive(id));
}

// --- parking

TEST_CASE("wait returns at once if the word is not as expected") {
  fixture f;
  word w{5};
  auto const before = backend::now();
  backend::wait(w, 4, never);
  backend::wait(w, 6, in(patience));
  f.b->ping.store(1);
  backend::wait(f.b->ping, 0, never);
  CHECK(backend::now() - before < 5s);
}

TEST_CASE("wait keeps its deadline") {
  fixture f;
  for (word* const w : {&f.b->ping, &f.b->pong}) {
    auto const before = backend::now();
    auto const deadline = before + 50ms;
    while (backend::now() < deadline) backend::wait(*w, 0, deadline);
    CHECK(backend::now() - before >= 50ms);
    CHECK(backend::now() - before < 10s);
    backend::wait(*w, 0, before);  // passed already
    backend::wait(*w, 0, time_point{});
    CHECK(backend::now() - before < 10s);
  }
  word private_word{0};
  auto const before = backend::now();
  while (backend::now() < before + 50ms) backend::wait(private_word, 0, before + 50ms);
  CHECK(backend::now() - before < 10s);
}

TEST_CASE("a wake reaches the threads that wait on a private word") {
  fixture f;
  word w{0};
  word back{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (std::uint32_t round = 1; round <= 50; ++round) {
        if (!reaches(w, round)) return;
        bump(back);
      }
    });
  }
  bool good = true;
  for (std::uint32_t round = 1; round <= 50; ++round) {
    raise(w, round);
    good = good && reaches(back, 4 * round);
  }
  for (auto& t : threads) t.join();
  CHECK(good);
}

TEST_CASE("wake_one ends the wait of one at least") {
  fixture f;
  word w{0};
  word out{0};
  word in_there{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      bump(in_there);
      while (w.load() == 0) backend::wait(w, 0, in(500ms));
      w.fetch_sub(1);
      bump(out);
    });
  }
  CHECK(reaches(in_there, 3));
  for (std::uint32_t i = 1; i <= 3; ++i) {
    w.fetch_add(1);
    backend::wake_one(w);
    CHECK(reaches(out, i));
    if (w.load() > 3) w.store(0);  // several saw the same one
  }
  w.store(3);
  backend::wake_all(w);
  for (auto& t : threads) t.join();
}

TEST_CASE("a wake reaches another process, at once") {
  fixture f;
  constexpr std::uint32_t rounds = 500;
  started child(f.with(role::play, rounds));
  // Of waits that are limited to a second none may need the limit: the wake has to arrive.
  int missed = 0;
  for (std::uint32_t i = 1; i <= rounds; ++i) {
    raise(f.b->ping, i);
    auto const deadline = in(patience);
    while (f.b->pong.load(std::memory_order_acquire) < i && backend::now() < deadline) {
      auto const before = backend::now();
      backend::wait(f.b->pong, i - 1, in(1s));
      if (i > 1 && backend::now() - before >= 1s) ++missed;
    }
    REQUIRE(f.b->pong.load() >= i);
  }
  CHECK(missed <= 3);  // for a machine that stands still
  CHECK(plain(child.end()) == code(0));
}

TEST_CASE("a killed waiter leaves nothing that stops others from waiting and waking") {
  fixture f;
  for (int i = 0; i < 3; ++i) {
    started victim(f.with(role::wait_on_word));
    REQUIRE(reaches(f.b->ready, static_cast<std::uint32_t>(i + 1)));
    std::this_thread::sleep_for(5ms);  // into the wait, mostly
    victim.ask(child_request::kill);
    CHECK(plain(victim.end()) == signal_number(9));
  }
  started child(f.with(role::play, 20));
  for (std::uint32_t i = 1; i <= 20; ++i) {
    raise(f.b->ping, i);
    REQUIRE(reaches(f.b->pong, i));
  }
  CHECK(plain(child.end()) == code(0));
}

// --- memory

TEST_CASE("a segment is zero at first and the same memory wherever it is mapped") {
  fixture f;
  constexpr std::size_t size = (1 << 20) + 4096;
  auto const segment = backend::segment_create(size);
  auto* const one = backend::segment_map(segment, size, true);
  auto const copy = backend::handle_duplicate(segment);
  backend::handle_close(segment);
  auto* const two = backend::segment_map(copy, size, true);
  auto* const three = backend::segment_map(copy, size, false);
  backend::handle_close(copy);
  CHECK(one != two);
  bool zero = true;
  for (std::size_t i = 0; i < size; ++i) zero = zero && one[i] == std::byte{0};
  CHECK(zero);
  one[size - 1] = std::byte{42};
  two[5] = std::byte{43};
  CHECK(two[size - 1] == std::byte{42});
  CHECK(three[size - 1] == std::byte{42});
  CHECK(one[5] == std::byte{43});
  backend::segment_unmap(two, size);
  backend::segment_unmap(one, size);
  CHECK(three[5] == std::byte{43});
  backend::segment_unmap(three, size);
  backend::handle_close(backend::invalid_handle);
}

TEST_CASE("a segment that cannot be is an error that names the call") {
  fixture f;
  // Some systems find out when it is made, some when it is mapped.
  constexpr std::size_t too_large = SIZE_MAX / 2 - 4095;
  auto segment = backend::invalid_handle;
  try {
    segment = backend::segment_create(too_large);
    backend::segment_map(segment, too_large, true);
    FAIL("mapped");
  } catch (std::system_error const& e) {
    CHECK(std::string(e.what()).find("polyproc") != std::string::npos);
  }
  backend::handle_close(segment);
  CHECK_THROWS_AS(backend::handle_duplicate(backend::invalid_handle), std::system_error);
}

TEST_CASE("family memory is seen by parent and child, both ways") {
  fixture f;
  auto const family = backend::family();
  REQUIRE(family.base != nullptr);
  REQUIRE(backend::family().base == family.base);
  REQUIRE(family.size >= (std::size_t{1} << 24));
  REQUIRE(backend::family_reserved % 4096 == 0);
  constexpr std::size_t size = 1 << 16;
  auto const expected = pattern(size);
  // Early in the segment, odd, and at its very end.
  for (std::size_t const at : {std::size_t{1} << 20, (std::size_t{3} << 20) + 1024, family.size - size}) {
    auto* const block = family.base + at;
    REQUIRE(backend::commit(block, size));
    REQUIRE(backend::commit(block, size));
    std::memcpy(block, expected.data(), size);
    started child(f.with(role::family_block, static_cast<std::uint32_t>(at / 1024)));
    CHECK(plain(child.end()) == code(0));
    bool changed = true;
    for (std::size_t i = 0; i < size; ++i) changed = changed && block[i] == std::byte{0x5A};
    CHECK(changed);
    // Given back and taken again it can be written like any other.
    backend::discard(block, size);
    REQUIRE(backend::commit(block, size));
    block[0] = std::byte{1};
    block[size - 1] = std::byte{2};
    CHECK(block[0] == std::byte{1});
    CHECK(block[size - 1] == std::byte{2});
    backend::discard(block, size);
  }
  CHECK(backend::commit(family.base, 0));
}

TEST_CASE("discard leaves alone what shares a page with the range") {
  fixture f;
  auto* const block = backend::family().base + (std::size_t{2} << 20);
  constexpr std::size_t size = 1 << 16;
  REQUIRE(backend::commit(block, size));
  std::memset(block, 7, size);
  backend::discard(block + 100, 50);
  backend::discard(block + 5000, size - 10000);
  backend::discard(block, 0);
  CHECK(block[99] == std::byte{7});
  CHECK(block[4999] == std::byte{7});
  CHECK(block[size - 5000] == std::byte{7});
  CHECK(block[120] == std::byte{7});
}

// --- pipes

TEST_CASE("a pipe carries bytes, ends with its writers, and says when nobody reads") {
  fixture f;
  auto [read, write] = backend::pipe_create();
  std::array<std::byte, 16> into{};
  CHECK(!backend::pipe_wait(read, backend::now()));
  backend::pipe_write(write, bytes_of("hello"));
  CHECK(backend::pipe_wait(read, never));
  CHECK(backend::pipe_wait(read, time_point{}));
  CHECK(backend::pipe_read(read, std::span(into).first(2)) == 2);
  CHECK(backend::pipe_read(read, into) == 3);
  CHECK(into[0] == std::byte{'l'});
  auto const second = backend::handle_duplicate(write);
  backend::pipe_write(write, bytes_of("x"));
  backend::handle_close(write);
  CHECK(backend::pipe_read(read, into) == 1);
  CHECK(!backend::pipe_wait(read, in(20ms)));  // the duplicate keeps it open
  backend::pipe_write(second, bytes_of("rest"));
  backend::handle_close(second);
  CHECK(backend::pipe_wait(read, never));
  CHECK(backend::pipe_read(read, into) == 4);  // what was written before the end comes first
  CHECK(backend::pipe_wait(read, never));
  CHECK(backend::pipe_read(read, into) == 0);
  CHECK(backend::pipe_read(read, into) == 0);
  backend::handle_close(read);

  auto const [read2, write2] = backend::pipe_create();
  backend::handle_close(read2);
  try {
    backend::pipe_write(write2, bytes_of("nobody"));
    FAIL("written");
  } catch (std::system_error const& e) {
    CHECK(e.code() == std::errc::broken_pipe);
  }
  backend::handle_close(write2);
}

TEST_CASE("waiting for a pipe keeps its deadline and sees what comes later") {
  fixture f;
  auto [read, write] = backend::pipe_create();
  auto const before = backend::now();
  CHECK(!backend::pipe_wait(read, before + 50ms));
  CHECK(backend::now() - before >= 50ms);
  CHECK(backend::now() - before < 10s);

  std::array<std::byte, 4> into{};
  for (int i = 0; i < 20; ++i) {
    std::thread writer([w = write] { backend::pipe_write(w, bytes_of("a")); });
    CHECK(backend::pipe_wait(read, in(patience)));
    CHECK(backend::pipe_read(read, into) == 1);
    writer.join();
  }
  // Several may wait at once, and while one of them gives up the others go on.
  word got{0};
  std::vector<std::thread> waiters;
  for (int i = 0; i < 3; ++i) {
    waiters.emplace_back([&got, r = read, i] {
      if (backend::pipe_wait(r, i == 0 ? in(30ms) : in(patience)) || i == 0) bump(got);
    });
  }
  CHECK(reaches(got, 1));
  std::thread closer([w = write] { backend::handle_close(w); });
  CHECK(backend::pipe_wait(read, in(patience)));
  CHECK(reaches(got, 3));
  for (auto& t : waiters) t.join();
  closer.join();
  CHECK(backend::pipe_read(read, into) == 0);
  backend::handle_close(read);
}

TEST_CASE("a pipe takes more than it holds, while somebody reads") {
  fixture f;
  auto [read, write] = backend::pipe_create();
  auto const all = pattern(3'000'001);
  std::thread writer([&, w = write] {
    backend::pipe_write(w, bytes_of(all));
    backend::handle_close(w);
  });
  std::string back;
  std::vector<std::byte> part(70'000);
  while (auto const n = backend::pipe_read(read, part)) back.append(reinterpret_cast<char const*>(part.data()), n);
  writer.join();
  CHECK((back == all));
  backend::handle_close(read);
}

// --- children

TEST_CASE("a child finds its work, wherever in the family's memory it lies") {
  fixture f;
  for (std::uint32_t const size : {0U, 1U, 4096U, 1U << 20}) {
    started child(f.with(role::checksum, size), pattern(size));
    CHECK(plain(child.end()) == code(0));
  }
  auto const family = backend::family();
  start_options start;
  start.work = family.size - (1 << 18);
  auto& head = family_at<work_head>(start.work);
  head = {};
  head.what = f.with(role::leave, 5);
  started child(start);
  CHECK(plain(child.end()) == code(5));
}

TEST_CASE("exit codes arrive") {
  fixture f;
  for (std::uint32_t const value : {0U, 1U, 42U, 255U}) {
    started one(f.with(role::leave, value));
    started two(f.with(role::leave_at_once, value));
    CHECK(plain(one.end()) == code(static_cast<int>(value)));
    CHECK(plain(two.end()) == code(static_cast<int>(value)));
  }
}

TEST_CASE("a fault reads as signal 11") {
  fixture f;
  started child(f.with(role::crash));
  CHECK(plain(child.end()) == signal_number(11));
}

TEST_CASE("children can be interrupted, terminated and killed, whatever the parent does with signals") {
  fixture f;
  // The parent's dispositions are not the child's.
  auto const old_interrupt = std::signal(SIGINT, SIG_IGN);
  auto const old_terminate = std::signal(SIGTERM, SIG_IGN);
  std::uint32_t n = 0;
  for (auto const what : {child_request::interrupt, child_request::terminate, child_request::kill}) {
    started child(f.with(role::wait_for_go));
    CHECK(reaches(f.b->ready, ++n));
    CHECK(child.ask(what));
    REQUIRE(backend::await_end(child.get(), in(patience)));
    CHECK(!child.ask(what));
    int const interrupted = backend::has_fork ? 2 : 15;
    int const expected = what == child_request::kill ? 9 : what == child_request::terminate ? 15 : interrupted;
    CHECK(plain(child.end()) == signal_number(expected));
  }
  std::signal(SIGINT, old_interrupt);
  std::signal(SIGTERM, old_terminate);
}

TEST_CASE("the end of a child can be awaited with a deadline and by several threads") {
  fixture f;
  started child(f.with(role::wait_for_go));
  REQUIRE(reaches(f.b->ready, 1));
  auto const before = backend::now();
  CHECK(!backend::await_end(child.get(), before + 50ms));
  CHECK(backend::now() - before >= 50ms);
  CHECK(backend::now() - before < 10s);
  CHECK(!backend::await_end(child.get(), time_point{}));
  word ended{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      if (backend::await_end(child.get(), in(patience))) bump(ended);
    });
  }
  raise(f.b->go, 1);
  for (auto& t : threads) t.join();
  CHECK(ended.load() == 3);
  CHECK(backend::await_end(child.get(), time_point{}));
  CHECK(plain(child.end()) == code(0));
}

TEST_CASE("parent and child know each other's numbers") {
  fixture f;
  CHECK(backend::current_pid() > 0);
  CHECK(backend::parent_pid() >= 0);
  started child(f.with(role::numbers));
  auto const number = backend::pid(child.get());
  CHECK(plain(child.end()) == code(0));
  CHECK(f.b->numbers[0].load() == static_cast<std::uint64_t>(number));
  CHECK(f.b->numbers[1].load() == static_cast<std::uint64_t>(backend::current_pid()));
  CHECK(number != backend::current_pid());
}

TEST_CASE("children can be started by several threads at once") {
  fixture f;
  word good{0};
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (std::uint32_t k = 0; k < 3; ++k) {
        auto child = backend::start_image(options_for(f.with(role::leave, 10 * i + k), {}, k == 1));
        if (backend::await_end(child, in(patience)) && plain(backend::reap(child)) == code(static_cast<int>(10 * i + k)))
          bump(good);
        backend::release(child);
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(good.load() == 12);
}

TEST_CASE("a child inherits no handles of its parent") {
  fixture f;
  auto [read, write] = backend::pipe_create();
  started child(f.with(role::wait_for_go));
  REQUIRE(reaches(f.b->ready, 1));
  backend::handle_close(write);
  CHECK(backend::pipe_wait(read, in(5s)));  // the end of the file: nobody else had the write end
  backend::handle_close(read);
  raise(f.b->go, 1);
  CHECK(plain(child.end()) == code(0));
}

TEST_CASE("a released child is let go, and an empty one holds nothing") {
  fixture f;
  backend::child none;
  backend::release(none);
  started child(f.with(role::wait_for_go));
  REQUIRE(reaches(f.b->ready, 1));
  backend::child moved = std::move(child.get());
  child.get() = std::move(moved);
  raise(f.b->go, 1);
  CHECK(plain(child.end()) == code(0));
}

namespace {

bool answers(board& b, std::uint32_t number) {
  raise(b.ping, number);
  return reaches(b.pong, number);
}

void daemon_dies(role how) {
  fixture f;
  started middle(f.with(how));
  REQUIRE(reaches(f.b->ready, 2));
  auto const grandchild = f.b->ids[1].load();
  // It outlives the thread that started it ...
  if (how != role::middle_stopped) CHECK(answers(*f.b, 1));
  CHECK(backend::alive(grandchild));
  // ... but not the process.
  CHECK(middle.ask(child_request::kill));
  CHECK(plain(middle.end()) == signal_number(9));
  CHECK(eventually([&] { return !backend::alive(grandchild); }));
}

}  // namespace

TEST_CASE("a daemon ends with its parent, however that ends") {
  daemon_dies(role::middle_daemon);
  fixture f;
  started middle(f.with(role::middle_daemon));
  REQUIRE(reaches(f.b->ready, 2));
  auto const grandchild = f.b->ids[1].load();
  middle.ask(child_request::terminate);
  CHECK(plain(middle.end()) == signal_number(15));
  CHECK(eventually([&] { return !backend::alive(grandchild); }));
}

TEST_CASE("a daemon outlives the thread that started it and ends with the process") {
  daemon_dies(role::middle_thread);
}

TEST_CASE("a daemon ends with its parent even if it is stopped") { daemon_dies(role::middle_stopped); }

TEST_CASE("a child that is no daemon outlives its parent") {
  fixture f;
  started middle(f.with(role::middle_plain));
  REQUIRE(reaches(f.b->ready, 2));
  auto const grandchild = f.b->ids[1].load();
  CHECK(middle.ask(child_request::kill));
  CHECK(plain(middle.end()) == signal_number(9));
  CHECK(answers(*f.b, 1));
  CHECK(backend::alive(grandchild));
  raise(f.b->go, 1);
  CHECK(eventually([&] { return !backend::alive(grandchild); }));
}

TEST_CASE("arguments that only look like a child's are an error") {
  fixture f;
  std::string program = "program";
  std::string ordinary = "--help";
  char* plain_arguments[] = {program.data(), ordinary.data(), nullptr};
  CHECK(!backend::adopt(2, plain_arguments));
  CHECK(!backend::adopt(1, plain_arguments));
  for (char const* const rest : {"", ":", ":7a31", ":zz", ":-1:-1:-1:-1", ":1:2:3", ":99999999999999999999"}) {
    std::string forged = "--polyproc-child=" + std::string(backend::name) + rest;
    char* arguments[] = {program.data(), forged.data(), nullptr};
    CHECK_THROWS_AS(backend::adopt(2, arguments), std::runtime_error);  // std::system_error is one
  }
}

// --- code

TEST_CASE("code is found again, here and in a child, unless the build is another") {
  fixture f;
  auto const* const code_address = reinterpret_cast<void const*>(&twice);
  auto const where = backend::locate(code_address);
  CHECK(where.module.empty());
  CHECK(where.build != 0);
  CHECK(backend::resolve(where) == code_address);
  auto const send = [&](polyproc::code_location const& to) {
    std::string text(16, '\0');
    std::memcpy(text.data(), &to.build, 8);
    std::memcpy(text.data() + 8, &to.offset, 8);
    return text + to.module;
  };
  started child(f.with(role::call), send(where));
  CHECK(plain(child.end()) == code(42));

  auto other = where;
  other.build ^= 1;
  CHECK_THROWS_AS(backend::resolve(other), std::runtime_error);
  started stranger(f.with(role::call), send(other));
  CHECK(plain(stranger.end()) == code(78));  // see main
  other = where;
  other.module = "/there/is/no/such/library.so";
  CHECK_THROWS_AS(backend::resolve(other), std::runtime_error);
}

// --- odds and ends

TEST_CASE("random bytes are random, the environment is read, processors are counted") {
  fixture f;
  std::array<std::byte, 32> one{};
  std::array<std::byte, 32> two{};
  backend::random(one);
  backend::random(two);
  CHECK(one != two);
  backend::random({});
  std::vector<std::byte> many(100'000);
  backend::random(many);
  int zeros = 0;
  for (auto const x : many) zeros += x == std::byte{0} ? 1 : 0;
  CHECK(zeros < 1000);

  auto const path = backend::environment("PATH");
  REQUIRE(path.has_value());
  CHECK(!path->empty());
  CHECK(!backend::environment("POLYPROC_TEST_NO_SUCH_VARIABLE").has_value());
  CHECK(backend::usable_cpus() >= 1);
  CHECK(std::string_view(backend::name).size() > 3);
}

TEST_CASE("stderr is told to be a terminal when it is one") {
  fixture f;
#if !defined(_WIN32)
  int const own = ::dup(2);
  int const terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(own >= 0);
  REQUIRE(terminal >= 0);
  REQUIRE(::grantpt(terminal) == 0);
  REQUIRE(::unlockpt(terminal) == 0);
  int const seen = ::open(::ptsname(terminal), O_RDWR | O_NOCTTY);
  REQUIRE(seen >= 0);
  ::dup2(seen, 2);
  bool const there = backend::stderr_is_terminal();
  int const nowhere = ::open("/dev/null", O_RDWR);
  ::dup2(nowhere, 2);
  bool const not_there = backend::stderr_is_terminal();
  ::close(2);
  bool const closed = backend::stderr_is_terminal();
  ::dup2(own, 2);
  for (int const one : {own, terminal, seen, nowhere}) ::close(one);
  CHECK(there);
  CHECK_FALSE(not_there);
  CHECK_FALSE(closed);
#else
  polyproc::detail::win32::SetLastError(1234);
  bool const there = backend::stderr_is_terminal();
  CHECK(polyproc::detail::win32::GetLastError() == 1234);
  CHECK(there == backend::stderr_is_terminal());
#endif
}

TEST_CASE("the clock does not go back, and is one for all") {
  fixture f;
  auto const before = backend::now();
  auto last = before;
  for (int i = 0; i < 1000; ++i) {
    auto const now = backend::now();
    REQUIRE(now >= last);
    last = now;
    backend::yield();
  }
}

// --- fork

namespace {
std::atomic<int> hook_calls{0};
void hook() { hook_calls.fetch_add(1); }

template <class Backend>
void fork_tests() {
  if constexpr (Backend::has_fork) {
    SECTION("the child has this memory, another identity, and the family") {
      fixture f;
      Backend::at_fork_child(&hook);
      Backend::at_fork_child(&hook);
      auto const mine = Backend::self();
      int value = 4;
      auto made = Backend::start_fork(options_for({}));
      if (!made) {
        f.b->ids[0].store(Backend::self());
        f.b->numbers[0].store(static_cast<std::uint64_t>(hook_calls.load()));
        f.b->numbers[1].store(static_cast<std::uint64_t>(Backend::current_pid()));
        f.b->numbers[2].store(static_cast<std::uint64_t>(Backend::parent_pid()));
        Backend::exit_now(++value);
      }
      started child(std::move(*made));
      CHECK(plain(child.end()) == code(5));
      CHECK(value == 4);
      CHECK(f.b->ids[0].load() != 0);
      CHECK(f.b->ids[0].load() != mine);
      CHECK(Backend::self() == mine);
      CHECK(!Backend::alive(f.b->ids[0].load()));
      CHECK(f.b->numbers[0].load() == 1);
      CHECK(hook_calls.load() == 0);
      CHECK(f.b->numbers[1].load() == static_cast<std::uint64_t>(Backend::pid(child.get())));
      CHECK(f.b->numbers[2].load() == static_cast<std::uint64_t>(Backend::current_pid()));
    }
    SECTION("it waits and wakes with its parent, and can be killed") {
      fixture f;
      auto made = Backend::start_fork(options_for({}, {}, true));
      if (!made) {
        for (std::uint32_t i = 1; i <= 100; ++i) {
          if (!reaches(f.b->ping, i)) Backend::exit_now(1);
          raise(f.b->pong, i);
        }
        f.b->ids[0].store(Backend::self());
        bump(f.b->ready);
        for (;;) Backend::wait(f.b->go, 0, never);
      }
      started child(std::move(*made));
      for (std::uint32_t i = 1; i <= 100; ++i) {
        raise(f.b->ping, i);
        REQUIRE(reaches(f.b->pong, i));
      }
      REQUIRE(reaches(f.b->ready, 1));
      CHECK(Backend::alive(f.b->ids[0].load()));
      CHECK(child.ask(child_request::stop));
      CHECK(child.ask(child_request::kill));
      CHECK(plain(child.end()) == signal_number(9));
      CHECK(!Backend::alive(f.b->ids[0].load()));
    }
    SECTION("a forked child starts children of its own") {
      fixture f;
      auto made = Backend::start_fork(options_for({}));
      if (!made) {
        auto below = Backend::start_image(options_for(f.with(role::leave, 6)));
        bool const ended = Backend::await_end(below, in(patience));
        Backend::exit_now(ended ? Backend::reap(below).value : 1);
      }
      started child(std::move(*made));
      CHECK(plain(child.end()) == code(6));
    }
    SECTION("a forked daemon outlives the thread and ends with the process") { daemon_dies(role::middle_fork); }
  }
}
}  // namespace

TEST_CASE("of two who write and then look, one with a light fence between and one with a heavy one, one sees the other") {
  backend::prepare_light_fences();
  if (!backend::has_light_fences()) {
    WARN("this system has no light fences: nobody relies on them then");
    return;
  }
  struct alignas(64) word {
    std::atomic<int> value{0};
  };
  word mine;
  word its;
  word turn;
  word done;
  std::atomic<int> seen_there{0};
  constexpr int rounds = 20000;
  std::thread light([&] {
    for (int round = 1; round <= rounds; ++round) {
      while (turn.value.load(std::memory_order_acquire) != round) backend::yield();
      mine.value.store(round, std::memory_order_relaxed);
      backend::light_fence();
      seen_there.store(its.value.load(std::memory_order_relaxed), std::memory_order_relaxed);
      done.value.store(round, std::memory_order_release);
    }
  });
  int missed = 0;
  for (int round = 1; round <= rounds; ++round) {
    turn.value.store(round, std::memory_order_release);
    for (volatile int wait = round % 50; wait > 0;) wait = wait - 1;
    its.value.store(round, std::memory_order_relaxed);
    backend::heavy_fence();
    auto const seen_here = mine.value.load(std::memory_order_relaxed);
    while (done.value.load(std::memory_order_acquire) != round) backend::yield();
    if (seen_here != round && seen_there.load(std::memory_order_relaxed) != round) ++missed;
  }
  light.join();
  CHECK(missed == 0);
}

TEST_CASE("fork, where there is one") { fork_tests<backend>(); }

int main(int argc, char** argv) {
  return main_of(argc, argv, &run, {static_cast<std::uint32_t>(role::leave), 0, backend::family_reserved + 4096});
}
