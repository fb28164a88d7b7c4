// Connections by name and over TCP: who gets in, who does not, and that nobody keeps others waiting.
// apart: it replaces getaddrinfo
#include "process/start_methods.hpp"

#include <random>
#include <thread>

#if defined(__GLIBC__)
#include <dlfcn.h>
#include <netdb.h>

/// In place of the system's: it knows one more host.
extern "C" int getaddrinfo(char const* host, char const* service, addrinfo const* wanted, addrinfo** found) {
  auto const of_system = reinterpret_cast<decltype(&getaddrinfo)>(dlsym(RTLD_NEXT, "getaddrinfo"));
  if (std::string_view(host) != "two-addresses") return of_system(host, service, wanted, found);
  addrinfo* second = nullptr;
  if (int const why = of_system("127.0.0.1", service, wanted, &second); why != 0) return why;
  int const why = of_system("127.0.0.2", service, wanted, found);
  if (why != 0) freeaddrinfo(second);
  else (*found)->ai_next = second;
  return why;
}
#endif

namespace {

using namespace std::chrono_literals;
using polyproc::authentication_error;
using polyproc::connect;
using polyproc::connect_stream;
using polyproc::connection;
using polyproc::connection_error;
using polyproc::endpoint;
using polyproc::listener;
using polyproc::local_address;
using polyproc::process;
using polyproc::start_method;
using polyproc::stream;
using polyproc::tcp;

constexpr auto patience = 20s;

std::string own_name(char const* what) {
  return std::string("test-") + what + '-' + std::to_string(polyproc::this_process::pid());
}
std::vector<endpoint> everywhere(char const* what) { return {local_address(own_name(what)), tcp("127.0.0.1", 0)}; }

void serves(connection<std::string> c) {
  while (auto const text = c.recv()) c.send(*text + " back");
}
void serves_bytes(stream s) {
  while (auto const line = s.read_line()) s.write(*line + " back\n");
}
void calls(endpoint where, int number) {
  auto c = connect<std::string>(where);
  c.send(std::to_string(number));
  if (c.recv() != std::to_string(number) + " back") throw std::runtime_error("wrong answer");
}
void listens(endpoint where, shared_notes n) {
  listener const l(where);
  n->a = 1;
  std::this_thread::sleep_for(1h);
}
void nothing_more() {}

static_assert(!std::is_copy_constructible_v<listener> && std::is_nothrow_move_constructible_v<listener>, "[H38]");
static_assert(!polyproc::encodable<listener>);

}  // namespace

TEST_CASE("addresses in words") {
  CHECK(to_string(tcp("", 80)) == "127.0.0.1:80");
  CHECK(to_string(tcp("::1", 80)) == "[::1]:80");
  CHECK(to_string(tcp("example.org", 80)) == "example.org:80");
  CHECK(to_string(local_address("name")) == "name");
}

TEST_CASE("messages and raw streams over local sockets and TCP") {
  tidy t;
  for (auto const& where : everywhere("both")) {
    CAPTURE(to_string(where));
    listener l(where);
    auto const address = l.address();
    CHECK((address.how == endpoint::kind::local || address.port != 0));
    CHECK_FALSE(l.accept_for<int>(5ms));
    CHECK_FALSE(l.accept_stream_for(5ms));
    std::thread client([&] {
      auto c = connect<std::string, int>(address);
      CHECK(c.max_message() == std::uint64_t{1} << 30);
      c.send("seven");
      CHECK(c.recv() == 7);
      CHECK_FALSE(c.recv());
      auto s = connect_stream(address);
      s.write("line\n");
      CHECK(s.read_line() == "LINE");
    });
    {
      auto c = l.accept<int, std::string>();
      CHECK(c.recv() == "seven");
      c.send(7);
    }
    auto s = l.accept_stream();
    CHECK(s.read_line() == "line");
    s.write("LINE\n");
    client.join();
    CHECK(l.refused() == 0);
    l.close();
    CHECK_FALSE(l.is_open());
    CHECK_THROWS_AS(l.accept<int>(), std::logic_error);
    CHECK_THROWS_AS(l.address(), std::logic_error);
    CHECK_THROWS_AS(connect_stream(address), std::system_error);
    CHECK_THROWS_AS(connect<int>(address), std::system_error);
  }
}

TEST_CASE("listeners, connections and streams are among what is waited for together") {
  tidy t;
  listener l(tcp("", 0));
  auto [here, there] = stream::pair();
  auto [one, other] = connection<int>::pair();
  CHECK_FALSE(polyproc::wait_any_for(5ms, l, here, one));
  CHECK_FALSE(l.poll());
  other.send(1);
  CHECK(polyproc::wait_any(l, here, one) == 2);
  CHECK(one.recv() == 1);
  there.write("one\ntwo\n");
  CHECK(polyproc::wait_any(l, here, one) == 1);
  CHECK(here.read_line() == "one");
  CHECK(polyproc::wait_any(l, here, one) == 1);  // what was read ahead
  CHECK(here.read_line() == "two");
  std::thread client([&] { connect<int>(l.address()).send(2); });
  CHECK(polyproc::wait_any(l, here, one) == 0);
  auto c = l.accept_for<int>(patience);
  client.join();
  REQUIRE(c.has_value());
  CHECK(polyproc::wait_any(l, *c) == 1);
  CHECK(c->recv() == 2);
}

TEST_CASE("a listener can be moved; a name is one listener's, and free when that is closed") {
  tidy t;
  auto const where = local_address(own_name("one"));
  listener l(where);
  CHECK_THROWS_AS(listener(where), std::system_error);
  listener other = std::move(l);
  CHECK_FALSE(l.is_open());
  other = listener(local_address(own_name("other")));
  listener again(where);
  CHECK(again.address() == where);
}

TEST_CASE("what a killed listener left is taken over; a child's copy of one removes nothing") {
  tidy t;
  auto const where = local_address(own_name("stale"));
  shared_notes n;
  process p{listens, where, n};
  p.start();
  until(n->a, 1);
  CHECK_THROWS_AS(listener(where), std::system_error);
  p.kill();
  p.join();
  listener l(where);
  if constexpr (polyproc::native_backend::has_fork) {
    process copy{polyproc::start::fork, [](listener mine) { mine.close(); }, listener(local_address(own_name("sub")))};
    copy.start();
    copy.join();
    CHECK(copy.exit_code() == 0);
  }
  std::thread client([&] { (void)connect_stream(where); });
  CHECK(l.accept_stream().read_all().empty());
  client.join();
}

TEST_CASE("a process per connection: an accepted end goes to a child, under every start method") {
  tidy t;
  for (auto const& where : everywhere("serve")) {
    for (auto const method : start_methods()) {
      CAPTURE(to_string(where), name_of(method));
      listener l(where);
      std::vector<process> clients;
      std::vector<process> servers;
      for (int i = 0; i < 3; ++i) {
        clients.emplace_back(calls, l.address(), i);
        clients.back().start();
      }
      for (int i = 0; i < 3; ++i) {
        servers.emplace_back(polyproc::process_options{.start = method}, serves, l.accept<std::string>());
        servers.back().start();
      }
      for (auto& one : clients) {
        one.join();
        CHECK(one.exit_code() == 0);
      }
      for (auto& one : servers) {
        one.join();
        CHECK(one.exit_code() == 0);
      }
      std::thread raw([&] {
        auto s = connect_stream(l.address());
        s.write("raw\n");
        s.close_write();
        CHECK(s.read_all() == "raw back\n");
      });
      process server{{.start = method}, serves_bytes, l.accept_stream()};
      server.start();
      raw.join();
      server.join();
      CHECK(server.exit_code() == 0);
    }
  }
}

TEST_CASE("silent and garbage clients do not hold up a good one [H40]") {
  tidy t;
  for (auto const& where : everywhere("crowd")) {
    CAPTURE(to_string(where));
    listener l(where);
    std::vector<stream> crowd;
    auto const come = [&] {
      for (int i = 0; i < 200; ++i) {
        crowd.push_back(connect_stream(l.address()));
        crowd.push_back(connect_stream(l.address()));
        crowd.back().write(std::string(static_cast<std::size_t>(1 + i), static_cast<char>(i)));
      }
    };
    // The listener's list is shorter than the crowd, so somebody must be in accept while they come.
    std::atomic<bool> there{false};
    std::thread everybody([&] {
      come();
      there = true;
    });
    while (!there) CHECK_FALSE(l.accept_for<std::string>(10ms));
    everybody.join();
    std::chrono::steady_clock::duration took{};
    std::thread good([&] {
      auto const before = std::chrono::steady_clock::now();
      auto c = connect<std::string>(l.address());
      c.send("good");
      CHECK(c.recv() == "good back");
      took = std::chrono::steady_clock::now() - before;
    });
    serves(l.accept<std::string>());
    good.join();
    std::printf("one in a crowd of 400 was served after %.1f ms\n", std::chrono::duration<double, std::milli>(took).count());
    CHECK(took < 10s);
    CHECK(l.refused() >= 150);
    crowd.clear();
  }
}

namespace {

/// Nobody gets in, and in the end that many were sent away.
bool refuses(listener& l, std::uint64_t count) {
  auto const late = std::chrono::steady_clock::now() + patience;
  while (l.refused() < count && std::chrono::steady_clock::now() < late)
    if (l.accept_for<int>(20ms)) return false;
  return l.refused() >= count;
}

}  // namespace

TEST_CASE("a silent client is given up after its time, which runs only during accept") {
  tidy t;
  listener l(tcp("", 0), {.handshake_time = 500ms});
  auto silent = connect_stream(l.address());
  CHECK_FALSE(l.accept_for<int>(10ms));
  std::this_thread::sleep_for(600ms);
  CHECK_FALSE(l.accept_for<int>(10ms));
  CHECK(l.refused() == 0);
  CHECK(refuses(l, 1));
  CHECK(silent.read_all().empty());
}

TEST_CASE("more clients than are talked to at the same time: the oldest are given up") {
  tidy t;
  listener l(local_address(own_name("most")));
  std::vector<stream> crowd;
  std::uint64_t given_up = 0;
  try {
    // Some systems give a process fewer descriptors than that; then it is they who run out first, in either role.
    for (int i = 0; i < 1100; ++i) {
      crowd.push_back(connect_stream(l.address()));
      if (i % 50 == 0) (void)l.accept_for<int>(0ms);
    }
    given_up = 1;
  } catch (std::system_error const&) {
    for (int i = 0; i < 10; ++i) crowd.pop_back();
  }
  CHECK(refuses(l, given_up));
  std::thread good([&] { connect<int>(l.address()).send(1); });
  CHECK(l.accept<int>().recv() == 1);
  good.join();
}

TEST_CASE("a client that dies in the middle of the handshake, at every byte") {
  tidy t;
  listener l(tcp("", 0));
  using polyproc::detail::hello;
  auto const first = hello::make<polyproc::native_backend>(hello::role::client, true, {1, 2});
  for (std::size_t size = 0; size <= hello::size; size += 3) {
    auto s = connect_stream(l.address());
    s.write(first.bytes().first(size));
    (void)l.accept_for<int>(1ms);
    s.close();
  }
  CHECK(refuses(l, 22));
}

TEST_CASE("the other types are told to both sides") {
  tidy t;
  for (auto const& where : everywhere("types")) {
    listener l(where, {.throw_refused = true});
    std::thread client([&] { CHECK_THROWS_AS((connect<int, std::string>(l.address())), connection_error); });
    CHECK_THROWS_AS((l.accept<int, std::string>()), connection_error);  // not exchanged
    client.join();
    std::thread other([&] { CHECK(connect<int, std::string>(l.address()).recv() == "x"); });
    l.accept<std::string, int>().send("x");
    other.join();
  }
}

TEST_CASE("what answers is no polyproc, or nobody answers") {
  tidy t;
  listener l(tcp("", 0));
  std::thread server([&] {
    auto s = l.accept_stream();
    s.write("HTTP/1.1 400 Bad Request\r\n\r\nThis is longer than a hello of polyproc is, by far, so that it is read.\r\n");
    std::array<std::byte, 64> hello{};
    (void)s.read_exactly(hello);
    auto closes = l.accept_stream();
    (void)closes.read_exactly(hello);
  });
  CHECK_THROWS_AS(connect<int>(l.address()), connection_error);
  CHECK_THROWS_AS(connect<int>(l.address()), polyproc::connection_lost);
  server.join();
  auto const before = std::chrono::steady_clock::now();
  CHECK_THROWS_AS(connect<int>(l.address(), {.timeout = 50ms}), polyproc::timeout_error);
  CHECK(std::chrono::steady_clock::now() - before >= 50ms);
}

#if defined(__GLIBC__)
TEST_CASE("a host of which one address does not answer is reached at the other one, within the time") {
  tidy t;
  listener good(tcp("127.0.0.1", 0));
  auto const port = good.address().port;
  listener full(tcp("127.0.0.2", port), {.backlog = 1});
  // Of those whom it has no room for the system answers none.
  std::vector<stream> waiting;
  auto const fill = [&] {
    for (int i = 0; i < 100; ++i) {
      try {
        waiting.push_back(connect_stream(tcp("127.0.0.2", port), 100ms));
      } catch (polyproc::timeout_error const&) {
        return true;
      }
    }
    return false;
  };
  REQUIRE(fill());
  {
    auto const before = std::chrono::steady_clock::now();
    auto c = connect_stream(tcp("two-addresses", port), 20s);
    CHECK(std::chrono::steady_clock::now() - before < 20s);
    c.write("x");
    std::array<std::byte, 1> got{};
    CHECK(good.accept_stream().read_exactly(got));
  }
  good.close();
  auto const refused = [&] {
    try {
      (void)connect_stream(tcp("two-addresses", port), 200ms);
    } catch (std::system_error const& why) {
      return why.code() == std::errc::connection_refused;
    }
    return false;
  };
  CHECK(refused());
  full.close();
  CHECK(refused());
}
#endif

TEST_CASE("a limit for messages comes from the options of each side") {
  tidy t;
  listener l(tcp("", 0), {.max_message = 1000});
  std::thread client([&] {
    auto c = connect<std::string>(l.address(), {.max_message = 100});
    c.send(std::string(500, 'x'));
    CHECK_THROWS_AS(c.recv(), polyproc::message_too_large);
    auto d = connect<std::string>(l.address());
    d.send(std::string(1500, 'x'));
    CHECK_FALSE(d.recv());
  });
  auto c = l.accept<std::string>();
  CHECK(c.recv().value().size() == 500);
  c.send(std::string(500, 'x'));
  {
    auto d = l.accept<std::string>();
    CHECK_THROWS_AS(d.recv(), polyproc::message_too_large);
    // What is under way is read, so that the other side is not told of a reset.
    std::array<std::byte, 10> rest{};
    (void)rest;
  }
  client.join();
}

TEST_CASE("siblings started meanwhile keep no connection open [H39]") {
  tidy t;
  listener l(tcp("", 0));
  std::optional<connection<int>> here;
  std::thread client([&] { here = connect<int>(l.address()); });
  auto there = l.accept<int>();
  client.join();
  process p{{.daemon = true}, nothing_more};
  p.start();
  there.send(1);
  there.close();
  CHECK(here->recv() == 1);
  CHECK_FALSE(here->recv());
  p.join();
}

TEST_CASE("whatever a stranger says, a listener goes on [H40]") {
  tidy t;
  std::mt19937 random(7);
  using polyproc::detail::hello;
  listener l(tcp("", 0), {.authkey = "key", .handshake_time = 200ms});
  for (int round = 0; round < 300; ++round) {
    auto bytes = hello::make<polyproc::native_backend>(hello::role::client, random() % 2 == 0, {random(), random()});
    std::vector<std::byte> said(bytes.bytes().begin(), bytes.bytes().end());
    for (auto n = random() % 80; n-- > 0;) said.push_back(static_cast<std::byte>(random()));
    for (auto n = random() % 3; n-- > 0;) said[random() % said.size()] = static_cast<std::byte>(random());
    if (random() % 3 == 0) said.resize(random() % said.size());
    auto s = connect_stream(l.address());
    s.write(said);
    if (random() % 2 == 0) s.close();
    CHECK_FALSE(l.accept_for<int>(1ms));
  }
  std::thread good([&] { connect<int>(l.address(), {.authkey = "key"}).send(1); });
  CHECK(l.accept<int>().recv() == 1);
  good.join();
}
