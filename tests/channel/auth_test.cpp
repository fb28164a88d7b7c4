// Who has the key talks, and nobody else.
#include "process/start_methods.hpp"

#include <thread>

namespace {

using namespace std::chrono_literals;
using polyproc::auth_key;
using polyproc::authentication;
using polyproc::authentication_error;
using polyproc::connect;
using polyproc::connect_options;
using polyproc::connect_stream;
using polyproc::connection;
using polyproc::detail::hello;
using polyproc::endpoint;
using polyproc::listener;
using polyproc::listener_options;
using polyproc::local_address;
using polyproc::process;
using polyproc::stream;
using polyproc::tcp;
using backend = polyproc::native_backend;

std::string own_name(char const* what) {
  return std::string("test-") + what + '-' + std::to_string(polyproc::this_process::pid());
}
bool same(auth_key const& a, auth_key const& b) { return std::ranges::equal(a.bytes(), b.bytes()); }

void calls(endpoint where, shared_notes n) {
  try {
    auto c = connect<int>(where);
    c.send(1);
    n->a = c.recv().value_or(-1);
  } catch (authentication_error const&) {
    n->a = -2;
  }
}
void calls_below(endpoint where, shared_notes n) {
  process below{calls, where, n};
  below.start();
  below.join();
}
void calls_with_another(endpoint where, shared_notes n) {
  polyproc::set_authkey("another");
  calls_below(where, n);
}

/// A client and a listener with these options: what each is told. 0: connected, 1: authentication_error, 2: another error.
std::pair<int, int> meet(endpoint const& where, listener_options there, connect_options const& here) {
  there.throw_refused = true;
  listener l(where, std::move(there));
  int client_told = 2;
  std::thread client([&] {
    try {
      auto c = connect<std::string>(l.address(), here);
      client_told = 0;
      c.send("hello");
    } catch (authentication_error const&) {
      client_told = 1;
    } catch (std::exception const&) {
    }
  });
  int told = 2;
  try {
    auto c = l.accept<std::string>();
    told = c.recv() == "hello" ? 0 : 3;
  } catch (authentication_error const&) {
    told = 1;
  }
  client.join();
  return {told, client_told};
}

}  // namespace

TEST_CASE("a key is 32 random bytes, made once, the same in all children under every start method") {
  tidy t;
  CHECK(polyproc::authkey().bytes().size() == 32);
  CHECK(same(polyproc::authkey(), polyproc::authkey()));
  CHECK_FALSE(same(auth_key::random(), auth_key::random()));
  CHECK_THROWS_AS(polyproc::set_authkey(auth_key{}), std::invalid_argument);
  listener l(tcp("", 0));
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    process p{{.start = method}, calls, l.address(), n};
    p.start();
    auto c = l.accept<int>();
    c.send(c.recv().value() + 1);
    p.join();
    CHECK(n->a == 2);
    // And in theirs.
    process q{{.start = method}, calls_below, l.address(), n};
    q.start();
    auto d = l.accept<int>();
    d.send(d.recv().value() + 2);
    q.join();
    CHECK(n->a == 3);
  }
}

TEST_CASE("a child that has set another key, and its children, do not get in") {
  tidy t;
  listener l(tcp("", 0), {.throw_refused = true});
  shared_notes n;
  process p{calls_with_another, l.address(), n};
  p.start();
  CHECK_THROWS_AS(l.accept<int>(), authentication_error);
  p.join();
  CHECK(n->a == -2);
  CHECK(l.refused() == 1);
}

TEST_CASE("a key that was set here counts here and in children from then on") {
  tidy t;
  auto const before = polyproc::authkey();
  polyproc::set_authkey("shared secret");
  listener l(tcp("", 0), {.authkey = "shared secret"});
  shared_notes n;
  process p{calls, l.address(), n};
  p.start();
  auto c = l.accept<int>();
  c.send(c.recv().value() + 1);
  p.join();
  CHECK(n->a == 2);
  polyproc::set_authkey(before);
}

TEST_CASE("with equal keys both get in, with others both are told") {
  tidy t;
  auto const told = std::pair(1, 1);
  auto const in = std::pair(0, 0);
  auto const both = [](char const* what) { return local_address(own_name(what)); };
  CHECK(meet(tcp("", 0), {}, {}) == in);
  CHECK(meet(tcp("", 0), {.authkey = "a"}, {.authkey = "a"}) == in);
  CHECK(meet(tcp("", 0), {.authkey = "a"}, {.authkey = "b"}) == told);
  CHECK(meet(tcp("", 0), {.authkey = "a"}, {}) == told);
  CHECK(meet(tcp("", 0), {}, {.authkey = "a"}) == told);
  CHECK(meet(tcp("", 0), {}, {.authenticate = authentication::none}) == told);
  CHECK(meet(tcp("", 0), {.authenticate = authentication::none}, {}) == told);
  CHECK(meet(tcp("", 0), {.authenticate = authentication::none}, {.authenticate = authentication::none}) == in);
  CHECK(meet(both("none"), {}, {}) == in);
  CHECK(meet(both("key"), {.authkey = "a"}, {.authkey = "a"}) == in);
  CHECK(meet(both("other"), {.authkey = "a"}, {.authkey = "b"}) == told);
  CHECK(meet(both("one"), {.authkey = "a"}, {}) == told);
  CHECK(meet(both("two"), {}, {.authkey = "a"}) == told);
  CHECK(meet(both("own"), {.authenticate = authentication::required}, {.authenticate = authentication::required}) == in);
  std::string const longer(1000, 'k');
  CHECK(meet(tcp("", 0), {.authkey = longer}, {.authkey = longer}) == in);
  CHECK(meet(tcp("", 0), {.authkey = longer}, {.authkey = longer + "k"}) == told);
  CHECK_THROWS_AS(listener(tcp("", 0), {.authkey = ""}), std::invalid_argument);
}

TEST_CASE("nothing of a client is decoded that has not proven the key [H40]") {
  tidy t;
  listener l(tcp("", 0), {.authkey = "a", .throw_refused = true});
  auto s = connect_stream(l.address());
  auto const types = polyproc::type_fingerprint<std::string>();
  auto const own = hello::make<backend>(hello::role::client, true, {types, types});
  s.write(own.bytes());
  s.write(std::string(32, '\0'));  // no proof, and then what would be a message
  s.write(std::string_view("\x05\0\0\0\0\0\0\0\x04text", 13));
  CHECK_THROWS_AS(l.accept<std::string>(), authentication_error);
  CHECK(l.refused() == 1);
}

TEST_CASE("a proof is for one connection, one direction and one meaning") {
  auto const client = hello::make<backend>(hello::role::client, true, {1, 2});
  auto const server = hello::make<backend>(hello::role::listener, true, {2, 1});
  auto const other = hello::make<backend>(hello::role::listener, true, {2, 1});
  auto const types = hello::make<backend>(hello::role::client, true, {1, 3});
  auth_key const key("k");
  using polyproc::detail::handshake_verdict;
  using polyproc::detail::prove;
  auto const proof = prove(key, hello::role::client, client, server);
  CHECK(proof == prove(key, hello::role::client, client, server));
  CHECK(proof != prove(key, hello::role::listener, client, server));
  CHECK(proof != prove(key, hello::role::client, client, other));
  CHECK(proof != prove(key, hello::role::client, types, server));
  CHECK(proof != prove(auth_key("K"), hello::role::client, client, server));
  CHECK(prove(key, hello::role::listener, client, server) !=
        prove(key, hello::role::listener, client, server, handshake_verdict::wrong_types));
  // Nonces never come twice.
  CHECK_FALSE(std::ranges::equal(server.bytes().subspan(32), other.bytes().subspan(32)));
}

TEST_CASE("who sends back what he is sent proves nothing") {
  tidy t;
  // A listener that knows no key: it answers with the client's own bytes.
  listener l(tcp("", 0));
  std::thread mirror([&] {
    auto s = l.accept_stream();
    std::array<std::byte, 4096> part;
    while (auto const got = s.read_some(part)) s.write(std::span(part).first(got));
  });
  CHECK_THROWS_AS(connect<int>(l.address(), {.authkey = "a"}), polyproc::connection_error);
  mirror.join();
  // The same with a hello of its own, and the client's proof as its own.
  std::thread better([&] {
    auto s = l.accept_stream();
    std::array<std::byte, hello::size> first{};
    CHECK(s.read_exactly(first));
    auto const types = polyproc::type_fingerprint<int>();
    s.write(hello::make<backend>(hello::role::listener, true, {types, types}).bytes());
    std::array<std::byte, 32> proof{};
    CHECK(s.read_exactly(proof));
    std::array<std::byte, 40> last{};
    std::copy(proof.begin(), proof.end(), last.begin() + 8);
    s.write(last);
    CHECK(s.read_all().empty());
  });
  CHECK_THROWS_AS(connect<int>(l.address(), {.authkey = "a"}), authentication_error);
  better.join();
}

TEST_CASE("a listener that claims to be without a key gets no client that has one") {
  tidy t;
  listener l(tcp("", 0));
  std::thread liar([&] {
    auto s = l.accept_stream();
    std::array<std::byte, hello::size> first{};
    CHECK(s.read_exactly(first));
    auto const types = polyproc::type_fingerprint<int>();
    s.write(hello::make<backend>(hello::role::listener, false, {types, types}).bytes());
    s.write(std::string(40, '\0'));
    try {
      (void)s.read_all();
    } catch (std::system_error const&) {  // the client has left without reading the rest
    }
  });
  CHECK_THROWS_AS(connect<int>(l.address(), {.authkey = "a"}), authentication_error);
  liar.join();
}

TEST_CASE("an authentication_error is an error of the library") {
  CHECK(std::is_base_of_v<polyproc::error, authentication_error>);
}
