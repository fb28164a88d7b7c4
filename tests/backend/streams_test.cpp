// own-main: this program is its own child, below polyproc::init.
//
// What concept.hpp asks of a backend's streams, asked of the native one. Nothing above floor 0 is used.
#include "child_program.hpp"

#include <array>
#include <cstddef>
#include <system_error>

#if !defined(_WIN32)
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

using namespace child_program;
using polyproc::endpoint;
using stream = backend::stream;

// --- what children do

enum class role : std::uint32_t {
  leave,        // at once
  echo,         // `number` streams: reads each to its end, writes it back; exit code: how many bytes
  hold,         // has been given nothing; stays until it is ended
  too_many,     // exit code: whether a place beyond the last is refused
  listen,       // at the local name that follows, until it is ended
  write_much,   // to the stream, for ever
  connect,      // to the local name that follows, and writes "hello"
};

std::string read_all(stream s) {
  std::string text;
  std::array<std::byte, 1000> part;
  while (auto const got = backend::stream_read(s, part, in(patience))) {
    if (*got == 0) return text;
    text.append(reinterpret_cast<char const*>(part.data()), *got);
  }
  return "not in time, after: " + text;
}
void write_all(stream s, std::string_view text) {
  auto bytes = bytes_of(text);
  while (!bytes.empty()) {
    auto const put = backend::stream_write(s, bytes, in(patience));
    if (!put) throw std::runtime_error("not written in time");
    bytes = bytes.subspan(*put);
  }
}
endpoint local(std::string name) { return {endpoint::kind::local, std::move(name), 0}; }
endpoint tcp(std::string host, std::uint16_t port = 0) { return {endpoint::kind::tcp, std::move(host), port}; }
/// A name that no other run uses.
std::string own_name(char const* what) {
  return std::string("test-") + what + '-' + std::to_string(backend::current_pid());
}
std::errc code_of(std::system_error const& failure) {
  return static_cast<std::errc>(failure.code().default_error_condition().value());
}
/// What a call throws; errc{} if nothing.
template <class Call>
std::errc thrown_by(Call&& call) {
  try {
    call();
  } catch (std::system_error const& failure) {
    return code_of(failure);
  }
  return std::errc{};
}

int run(order const& o, std::string_view more) {
  board& b = board_at(o.board_offset);
  switch (static_cast<role>(o.what)) {
    case role::leave: return 0;
    case role::echo: {
      std::size_t bytes = 0;
      std::vector<stream> all;
      for (std::size_t i = 0; i < o.number; ++i) all.push_back(backend::take_passed(i));
      for (auto const s : all) {
        auto const text = read_all(s);
        bytes += text.size();
        write_all(s, text);
        backend::stream_close(s);
      }
      return static_cast<int>(bytes % 200);
    }
    case role::hold:
      bump(b.ready);
      for (;;) backend::wait(b.ping, 0, never);
    case role::too_many:
      for (std::size_t const place : {std::size_t{1}, std::size_t{64}, std::size_t(-1)}) {
        try {
          (void)backend::take_passed(place);
          return 1;
        } catch (std::out_of_range const&) {
        }
      }
      backend::stream_close(backend::take_passed(0));
      try {
        (void)backend::take_passed(0);
        return 2;
      } catch (std::out_of_range const&) {
        return 0;
      }
    case role::listen: {
      auto const acceptor = backend::listen(local(std::string(more)), 5);
      bump(b.ready);
      for (;;) backend::wait(b.ping, 0, never);
    }
    case role::write_much: {
      auto const s = backend::take_passed(0);
      std::string const text(100000, 'x');
      bump(b.ready);
      for (;;) write_all(s, text);
    }
    case role::connect: {
      auto const s = backend::connect(local(std::string(more)), in(patience));
      write_all(s.value(), "hello");
      backend::stream_close(s.value());
      return 0;
    }
  }
  return 99;
}

/// Both ends of something, closed with their scope.
struct ends {
  stream one;
  stream other;
  ends() { std::tie(one, other) = backend::stream_pair(); }
  ends(stream a, stream b) : one(a), other(b) {}
  ends(ends const&) = delete;
  ends& operator=(ends const&) = delete;
  ~ends() {
    backend::stream_close(one);
    backend::stream_close(other);
  }
  void close(stream& which) { backend::stream_close(std::exchange(which, stream{})); }
};

/// A connection over a listener at `where`.
ends connected(endpoint const& where) {
  auto acceptor = backend::listen(where, 5);
  auto const one = backend::connect(backend::acceptor_endpoint(acceptor), in(patience));
  auto const other = backend::accept(acceptor, in(patience));
  backend::acceptor_close(acceptor);
  return {one.value(), other.value()};
}

bool has_ipv6() {
  try {
    auto acceptor = backend::listen(tcp("::1"), 1);
    backend::acceptor_close(acceptor);
    return true;
  } catch (std::system_error const&) {
    return false;
  }
}

std::array<std::byte, 10> ten{};

void check_pair(ends& pair) {
  CHECK_FALSE(backend::stream_wait(pair.other, in(5ms)));
  CHECK_FALSE(backend::stream_read(pair.other, ten, time_point{}));
  auto const before = backend::now();
  CHECK_FALSE(backend::stream_read(pair.other, ten, in(30ms)));
  CHECK(backend::now() - before >= 30ms);
  write_all(pair.one, "to the other");
  CHECK(backend::stream_wait(pair.other, in(patience)));
  CHECK(backend::stream_read(pair.other, ten, never) == 10U);
  CHECK(backend::stream_read(pair.other, ten, in(patience)) == 2U);
  write_all(pair.other, "and back");
  CHECK(backend::stream_read(pair.one, ten, time_point{}).value_or(0) > 0);
  CHECK_FALSE(backend::stream_wait(pair.one, time_point{}));
}

}  // namespace

static_assert(polyproc::stream_backend<backend>);

#if !defined(_WIN32)
// What floor 0 declares for itself is what the system's headers say.
namespace d = polyproc::detail;
static_assert(sizeof(d::host_entry) == sizeof(addrinfo));
static_assert(offsetof(d::host_entry, flags) == offsetof(addrinfo, ai_flags));
static_assert(offsetof(d::host_entry, family) == offsetof(addrinfo, ai_family));
static_assert(offsetof(d::host_entry, type) == offsetof(addrinfo, ai_socktype));
static_assert(offsetof(d::host_entry, protocol) == offsetof(addrinfo, ai_protocol));
static_assert(offsetof(d::host_entry, size) == offsetof(addrinfo, ai_addrlen));
static_assert(offsetof(d::host_entry, address) == offsetof(addrinfo, ai_addr));
static_assert(offsetof(d::host_entry, name) == offsetof(addrinfo, ai_canonname));
static_assert(offsetof(d::host_entry, next) == offsetof(addrinfo, ai_next));
static_assert(d::resolve_passive == AI_PASSIVE && d::resolve_says_errno == EAI_SYSTEM);
static_assert(d::protocol_tcp == IPPROTO_TCP && d::tcp_no_delay == TCP_NODELAY);
static_assert(d::port_at == offsetof(sockaddr_in, sin_port) && d::port_at == offsetof(sockaddr_in6, sin6_port));
#endif

TEST_CASE("both ends of every kind of stream are read from and written to, until a deadline, to the end of file") {
  fixture f;
  auto const way = GENERATE(0, 1, 2, 3);
  CAPTURE(way);
  if (way == 3 && !has_ipv6()) return;
  auto pair = way == 0 ? ends() : connected(way == 1 ? local(own_name("pair")) : way == 2 ? tcp("") : tcp("::1"));
  check_pair(pair);
  SECTION("the end of one is the end of file of the other, after what was written") {
    write_all(pair.one, "last");
    pair.close(pair.one);
    CHECK(read_all(pair.other) == "last");
    CHECK(backend::stream_wait(pair.other, time_point{}));
    CHECK(backend::stream_read(pair.other, ten, time_point{}) == 0U);
  }
  SECTION("one direction ends alone") {
    write_all(pair.one, "last");
    backend::stream_shutdown_write(pair.one);
    CHECK(read_all(pair.other) == "last");
    write_all(pair.other, "answer");
    pair.close(pair.other);
    CHECK(read_all(pair.one) == "answer");
  }
  SECTION("a write that nobody will read says so, without a signal") {
    pair.close(pair.other);
    auto const why = thrown_by([&] {
      for (int i = 0; i < 100; ++i) {
        write_all(pair.one, "x");
        std::this_thread::sleep_for(1ms);
      }
    });
    CHECK((why == std::errc::broken_pipe || why == std::errc::connection_reset));
  }
  SECTION("a write ends at its deadline when nobody reads, and goes on when somebody does") {
    std::string const text = pattern(std::size_t{1} << 20);
    auto bytes = bytes_of(text);
    std::size_t total = 0;
    std::string expected;
    auto const before = backend::now();
    while (auto const put = backend::stream_write(pair.one, bytes, in(30ms))) {
      REQUIRE(*put > 0);
      expected.append(text, text.size() - bytes.size(), *put);
      bytes = bytes.subspan(*put);
      total += *put;
      if (bytes.empty()) bytes = bytes_of(text);
      REQUIRE(total < std::size_t{1} << 30);
    }
    CHECK(backend::now() - before >= 30ms);
    std::thread reader([&] {
      CHECK(read_all(pair.other) == expected + "the end");
    });
    write_all(pair.one, "the end");
    pair.close(pair.one);
    reader.join();
  }
}

TEST_CASE("a second stream of the same object has a life of its own; handles can be waited for") {
  fixture f;
  ends pair;
  ends more;
  auto const copy = backend::stream_copy(pair.one);
  pair.close(pair.one);
  write_all(copy, "x");
  std::array const handles{backend::stream_handle(more.other), backend::stream_handle(pair.other)};
  CHECK(backend::wait_any(handles, in(patience)) == 1U);
  backend::stream_close(copy);
  CHECK(read_all(pair.other) == "x");
  CHECK_FALSE(backend::wait_any(std::span(handles).first(1), in(10ms)));
}

TEST_CASE("many streams and an acceptor are waited for together") {
  fixture f;
  auto acceptor = backend::listen(local(own_name("many")), 50);
  std::vector<polyproc::stream_look<stream>> looks;
  std::vector<stream> others;
  for (int i = 0; i < 100; ++i) {
    auto const [one, other] = backend::stream_pair();
    looks.push_back({one, true});
    others.push_back(other);
  }
  CHECK_FALSE(backend::streams_wait(&acceptor, looks, in(10ms)));
  for (auto const& one : looks) CHECK_FALSE(one.ready);
  write_all(others[7], "x");
  backend::stream_close(std::exchange(others[99], stream{}));
  CHECK(eventually([&] {
    bool const somebody = backend::streams_wait(&acceptor, looks, in(patience));
    CHECK_FALSE(somebody);
    return looks[7].ready && looks[99].ready;
  }));
  for (std::size_t i = 0; i < looks.size(); ++i) CHECK(looks[i].ready == (i == 7 || i == 99));
  auto const client = backend::connect(backend::acceptor_endpoint(acceptor), in(patience));
  CHECK(backend::streams_wait(&acceptor, std::span(looks).first(3), in(patience)));
  auto const accepted = backend::accept(acceptor, in(patience));
  CHECK_FALSE(backend::streams_wait(nullptr, std::span(looks).first(3), in(5ms)));
  backend::stream_close(client.value());
  backend::stream_close(accepted.value());
  for (auto const& one : looks) backend::stream_close(one.stream);
  for (auto const& one : others) backend::stream_close(one);
  backend::acceptor_close(acceptor);
}

TEST_CASE("nobody listens") {
  fixture f;
  auto const name = own_name("nobody");
  auto const why = thrown_by([&] { (void)backend::connect(local(name), in(patience)); });
  CHECK(why == std::errc::no_such_file_or_directory);
  std::uint16_t port = 0;
  {
    auto acceptor = backend::listen(tcp("127.0.0.1"), 5);
    port = backend::acceptor_endpoint(acceptor).port;
    CHECK(port != 0);
    CHECK(thrown_by([&] { (void)backend::listen(tcp("127.0.0.1", port), 5); }) == std::errc::address_in_use);
    CHECK_FALSE(backend::accept(acceptor, in(10ms)));
    CHECK_FALSE(backend::accept(acceptor, time_point{}));
    backend::acceptor_close(acceptor);
  }
  CHECK(thrown_by([&] { (void)backend::connect(tcp("127.0.0.1", port), in(patience)); }) == std::errc::connection_refused);
  // A port that was left a moment ago.
  auto again = backend::listen(tcp("127.0.0.1", port), 5);
  CHECK(backend::acceptor_endpoint(again).port == port);
  backend::acceptor_close(again);
}

TEST_CASE("what cannot be a name is refused") {
  fixture f;
  for (std::string const name : {"", ".hidden", "a b", "ä"}) {
    CAPTURE(name);
    CHECK_THROWS_AS(backend::listen(local(name), 5), std::invalid_argument);
    CHECK_THROWS_AS(backend::connect(local(name), in(1s)), std::invalid_argument);
    CHECK_THROWS_AS(backend::fifo_create(name, 0600), std::invalid_argument);
  }
  CHECK_THROWS_AS(backend::listen(local(std::string(61, 'x')), 5), std::invalid_argument);
  auto longest = backend::listen(local(std::string(60 - own_name("").size(), 'x') + own_name("")), 5);
  backend::acceptor_close(longest);
}

TEST_CASE("a local name is one listener's, and gone with it") {
  fixture f;
  auto const name = own_name("own");
  auto acceptor = backend::listen(local(name), 5);
  CHECK(backend::acceptor_endpoint(acceptor) == local(name));
  CHECK(thrown_by([&] { (void)backend::listen(local(name), 5); }) == std::errc::address_in_use);
  backend::acceptor_close(acceptor);
  CHECK(thrown_by([&] { (void)backend::connect(local(name), in(1s)); }) == std::errc::no_such_file_or_directory);
  auto again = backend::listen(local(name), 5);
  auto moved = std::move(again);
  auto const client = backend::connect(local(name), in(patience));
  backend::acceptor_close(moved);
  backend::stream_close(client.value());
}

TEST_CASE("a name that a killed listener left is replaced, by one of those who try at once") {
  fixture f;
  auto const name = own_name("stale");
  started child(f.with(role::listen), name);
  REQUIRE(reaches(f.b->ready, 1));
  CHECK(thrown_by([&] { (void)backend::listen(local(name), 5); }) == std::errc::address_in_use);
  child.ask(child_request::kill);
  (void)child.end();
  std::atomic<int> in_use{0};
  std::atomic<int> mine{0};
  std::vector<std::thread> all;
  std::vector<backend::acceptor> acceptors(4);
  for (auto& one : acceptors)
    all.emplace_back([&] {
      try {
        one = backend::listen(local(name), 5);
        ++mine;
      } catch (std::system_error const& failure) {
        if (code_of(failure) == std::errc::address_in_use) ++in_use;
      }
    });
  for (auto& one : all) one.join();
  CHECK(mine == 1);
  CHECK(in_use == 3);
  auto const client = backend::connect(local(name), in(patience));
  backend::stream_close(client.value());
  for (auto& one : acceptors) backend::acceptor_close(one);
}

TEST_CASE("another process connects by name") {
  fixture f;
  auto const name = own_name("child");
  auto acceptor = backend::listen(local(name), 5);
  started child(f.with(role::connect), name);
  auto const s = backend::accept(acceptor, in(patience));
  CHECK(read_all(s.value()) == "hello");
  backend::stream_close(s.value());
  backend::acceptor_close(acceptor);
  CHECK(plain(child.end()) == code(0));
}

TEST_CASE("a child has the streams that it was given, and what was given to others it has not [H39]") {
  fixture f;
  bool const served = backend::has_server && GENERATE(false, true);
  CAPTURE(served);
  auto const count = GENERATE(std::size_t{1}, std::size_t{3}, backend::most_passed);
  std::vector<ends> pairs(count);
  std::vector<std::uint64_t> numbers;
  for (auto const& one : pairs) {
    numbers.push_back(backend::stream_number(one.other));
    CHECK(backend::stream_numbered(numbers.back()) == one.other);
  }
  // Nor do those that are started meanwhile keep the ends open.
  started before(options_for(f.with(role::hold)), served);
  REQUIRE(reaches(f.b->ready, 1));
  auto options = options_for(f.with(role::echo, static_cast<std::uint32_t>(count)));
  options.pass = numbers;
  started child(options, served);
  started after(options_for(f.with(role::hold)), served);
  REQUIRE(reaches(f.b->ready, 2));
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < count; ++i) {
    pairs[i].close(pairs[i].other);
    auto const text = "stream " + std::to_string(i);
    write_all(pairs[i].one, text);
    backend::stream_shutdown_write(pairs[i].one);
    bytes += text.size();
  }
  for (std::size_t i = 0; i < count; ++i) CHECK(read_all(pairs[i].one) == "stream " + std::to_string(i));
  CHECK(plain(child.end()) == code(static_cast<int>(bytes % 200)));
}

TEST_CASE("a stream that a child was not given it cannot take") {
  fixture f;
  bool const served = backend::has_server && GENERATE(false, true);
  ends pair;
  std::uint64_t const number = backend::stream_number(pair.other);
  auto options = options_for(f.with(role::too_many));
  options.pass = {&number, 1};
  started child(options, served);
  CHECK(plain(child.end()) == code(0));
}

TEST_CASE("more streams than a child can be given are refused, and nothing is left behind") {
  fixture f;
  bool const served = backend::has_server && GENERATE(false, true);
  ends pair;
  std::vector<std::uint64_t> const numbers(backend::most_passed + 1, backend::stream_number(pair.other));
  auto options = options_for(f.with(role::leave));
  options.pass = numbers;
  CHECK(thrown_by([&] { (void)start_child<backend>(options, served); }) == std::errc::argument_list_too_long);
  started other(options_for(f.with(role::leave)), served);
  CHECK(plain(other.end()) == code(0));
}

TEST_CASE("the end of a killed writer is the end of file, in the middle of what it wrote") {
  fixture f;
  bool const served = backend::has_server && GENERATE(false, true);
  ends pair;
  std::uint64_t const number = backend::stream_number(pair.other);
  auto options = options_for(f.with(role::write_much));
  options.pass = {&number, 1};
  started child(options, served);
  pair.close(pair.other);
  REQUIRE(reaches(f.b->ready, 1));
  CHECK(backend::stream_read(pair.one, ten, in(patience)) == 10U);
  CHECK(child.ask(child_request::stop));
  std::this_thread::sleep_for(5ms);
  auto const before = backend::now();
  std::array<std::byte, 4096> part;
  while (backend::stream_read(pair.one, part, in(20ms)).value_or(0) > 0) REQUIRE(backend::now() - before < patience);
  CHECK(child.ask(child_request::kill));
  (void)child.end();
  CHECK(backend::stream_read(pair.one, part, in(patience)) == 0U);
}

TEST_CASE("a FIFO carries bytes from writers to a reader, by name") {
  fixture f;
  auto const name = own_name("fifo");
  REQUIRE(backend::fifo_create(name, 0600));
  CHECK_FALSE(backend::fifo_open(name, false, in(20ms)));  // no reader
  std::optional<stream> writer;
  std::thread other([&] {
    writer = backend::fifo_open(name, false, in(patience));
    std::this_thread::sleep_for(20ms);
    if (writer) write_all(*writer, "from the writer");
  });
  auto const reader = backend::fifo_open(name, true, in(patience));
  REQUIRE(reader);
  // Without a writer it is not at its end.
  CHECK(backend::stream_read(*reader, ten, in(patience)) == 10U);
  other.join();
  REQUIRE(writer);
  CHECK(backend::stream_read(*reader, ten, in(patience)) == 5U);
  CHECK_FALSE(backend::stream_read(*reader, ten, in(5ms)));
  backend::stream_close(*writer);
  CHECK(backend::stream_read(*reader, ten, in(patience)) == 0U);
  backend::stream_close(*reader);
  (void)backend::fifo_remove(name);
}

#if !defined(_WIN32)

TEST_CASE("a FIFO is a file, whatever the umask is; what else is there stays") {
  fixture f;
  auto const name = own_name("file");
  auto const path = "/tmp/" + name;
  auto const mask = ::umask(0777);
  CHECK(backend::fifo_create(path, 0640));
  ::umask(mask);
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK(S_ISFIFO(info.st_mode));
  CHECK((info.st_mode & 0777) == 0640);
  CHECK_FALSE(backend::fifo_create(path, 0600));
  auto const before = backend::now();
  CHECK_FALSE(backend::fifo_open(path, false, in(30ms)));
  CHECK(backend::now() - before >= 30ms);
  CHECK(backend::fifo_remove(path));
  CHECK_FALSE(backend::fifo_remove(path));
  CHECK(thrown_by([&] { (void)backend::fifo_open(path, true, never); }) == std::errc::no_such_file_or_directory);
  int const file = ::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  ::close(file);
  CHECK(thrown_by([&] { (void)backend::fifo_create(path, 0600); }) == std::errc::file_exists);
  CHECK(thrown_by([&] { (void)backend::fifo_open(path, true, never); }) == std::errc::invalid_argument);
  CHECK(thrown_by([&] { (void)backend::fifo_remove(path); }) == std::errc::invalid_argument);
  CHECK(thrown_by([&] { (void)backend::listen(local(path), 5); }) == std::errc::address_in_use);
  ::unlink(path.c_str());
}

TEST_CASE("a FIFO that is full takes what has room until the deadline, and a write without a reader says so") {
  fixture f;
  auto const path = "/tmp/" + own_name("full");
  REQUIRE(backend::fifo_create(path, 0600));
  auto const reader = backend::fifo_open(path, true, in(1s));
  auto const writer = backend::fifo_open(path, false, in(1s));
  std::string const text(std::size_t{1} << 20, 'x');
  std::size_t total = 0;
  while (auto const put = backend::stream_write(*writer, bytes_of(text), in(20ms))) total += *put;
  CHECK(total > 0);
  backend::stream_close(*reader);
  CHECK(thrown_by([&] { write_all(*writer, "x"); }) == std::errc::broken_pipe);
  backend::stream_close(*writer);
  CHECK(backend::fifo_remove(path));
}

TEST_CASE("a descriptor becomes a stream, in whatever mode it is") {
  fixture f;
  bool const waits = GENERATE(true, false);
  int both[2];
  REQUIRE(::pipe(both) == 0);
  if (!waits) {
    ::fcntl(both[0], F_SETFL, O_NONBLOCK);
    ::fcntl(both[1], F_SETFL, O_NONBLOCK);
  }
  ends pair(backend::stream_of(both[0]), backend::stream_of(both[1]));
  CHECK((::fcntl(both[0], F_GETFD) & FD_CLOEXEC) != 0);
  CHECK_FALSE(backend::stream_read(pair.one, ten, in(5ms)));
  std::string const text = pattern(300000);
  std::thread reader([&] { CHECK(read_all(pair.one) == text); });
  write_all(pair.other, text);
  pair.close(pair.other);
  reader.join();
  auto const bad = thrown_by([&] { (void)backend::stream_of(12345); });
  CHECK(bad == std::errc::bad_file_descriptor);
  // Full, and nobody reads.
  auto const [in_end, out_end] = backend::pipe_create();
  ends full(backend::stream_of(in_end), backend::stream_of(out_end));
  auto const before = backend::now();
  while (backend::stream_write(full.other, bytes_of(text), in(30ms))) REQUIRE(backend::now() - before < patience);
  CHECK(backend::stream_read(full.one, ten, time_point{}) == 10U);
}

TEST_CASE("a standard stream can be passed on: the child has it under another number") {
  fixture f;
  bool const served = backend::has_server && GENERATE(false, true);
  int const saved = backend::stream_duplicate(0);
  ends pair;
  REQUIRE(::dup2(backend::stream_handle(pair.other), 0) == 0);
  std::uint64_t const number = backend::stream_number(backend::stream_of(0));
  auto options = options_for(f.with(role::echo, 1));
  options.pass = {&number, 1};
  {
    started child(options, served);
    ::dup2(saved, 0);
    ::close(saved);
    pair.close(pair.other);
    write_all(pair.one, "x");
    backend::stream_shutdown_write(pair.one);
    CHECK(read_all(pair.one) == "x");
    CHECK(plain(child.end()) == code(1));
  }
}

TEST_CASE("a local listener's file is this user's alone, and its name is free to others only when nobody accepts") {
  fixture f;
  auto const path = "/tmp/" + own_name("mode");
  auto const mask = ::umask(0);
  auto acceptor = backend::listen(local(path), 5);
  ::umask(mask);
  struct stat info {};
  REQUIRE(::lstat(path.c_str(), &info) == 0);
  CHECK(S_ISSOCK(info.st_mode));
  CHECK((info.st_mode & 0777) == 0600);
  // A copy of it in a forked child removes nothing.
  auto const child = ::fork();
  if (child == 0) {
    backend::acceptor_close(acceptor);
    ::_exit(0);
  }
  CHECK(eventually([&] { return ::waitpid(child, nullptr, WNOHANG) == child; }));
  CHECK(::lstat(path.c_str(), &info) == 0);
  backend::acceptor_close(acceptor);
  CHECK(::lstat(path.c_str(), &info) != 0);
  // A path that is too long is refused in words.
  CHECK(thrown_by([&] { (void)backend::listen(local("/tmp/" + std::string(150, 'x')), 5); }) == std::errc::filename_too_long);
  CHECK_THROWS_AS(backend::listen(local("/tmp/x/"), 5), std::invalid_argument);
}

#endif

int main(int argc, char** argv) {
  return main_of(argc, argv, &run, {static_cast<std::uint32_t>(role::leave), 0, backend::family_reserved + 4096});
}
