// Messages over a stream: whole or not at all, of any size up to the limit, whatever the other side sends.
#include "process/start_methods.hpp"

#include <polyproc/channel/wait_any.hpp>

#include <map>
#include <random>
#include <thread>

namespace {

using namespace std::chrono_literals;
using polyproc::connection;
using polyproc::process;
using polyproc::start_method;
using polyproc::stream;

constexpr auto patience = 20s;

struct question {
  std::string text;
  std::map<std::string, int> numbers;
  friend bool operator==(question const&, question const&) = default;
};
struct answer {
  std::size_t length = 0;
  std::vector<double> values;
};

std::span<std::byte const> bytes_of(std::string_view text) {
  return {reinterpret_cast<std::byte const*>(text.data()), text.size()};
}
/// What a message is on the stream.
std::vector<std::byte> frame(std::uint64_t length, std::span<std::byte const> bytes) {
  std::vector<std::byte> all;
  for (int i = 0; i < 8; ++i) all.push_back(static_cast<std::byte>(length >> (8 * i)));
  all.insert(all.end(), bytes.begin(), bytes.end());
  return all;
}

void answers(connection<answer, question> c) {
  while (auto const asked = c.recv()) {
    answer given{asked->text.size(), {}};
    for (auto const& [name, value] : asked->numbers) given.values.push_back(value + static_cast<double>(name.size()) / 10);
    c.send(given);
  }
}
void sends_half(connection<std::string> c, shared_notes n) {
  n->a = 1;
  // The kernel has room for a part of it.
  c.send(std::string(std::size_t{8} << 20, 'x'));
}
void does_not_read(connection<int> c, shared_notes n) {
  n->a = 1;
  until(n->b, 1);
  int sum = 0;
  while (auto const i = c.recv()) sum += *i;
  n->c = sum;
}

bool starving = false;
/// Cannot be read while there is no memory, as far as it is concerned.
struct hungry {
  std::string text;
};

static_assert(!std::is_copy_constructible_v<connection<int>> && std::is_nothrow_move_constructible_v<connection<int>>, "[H38]");

}  // namespace

template <>
struct polyproc::codec<hungry> {
  static void write(writer& out, hungry const& h) { encode(out, h.text); }
  static hungry read(reader& in) {
    if (starving) throw std::bad_alloc();
    return {decode<std::string>(in)};
  }
};

TEST_CASE("values travel both ways, whole and in order") {
  tidy t;
  auto [here, there] = connection<question, answer>::pair();
  CHECK_FALSE(there.poll());
  here.send({"one", {{"a", 1}}});
  here.send({"", {}});
  CHECK(there.poll());
  CHECK(there.recv() == question{"one", {{"a", 1}}});
  CHECK(there.recv_for(patience) == question{"", {}});
  CHECK_FALSE(there.recv_for(5ms));
  CHECK_FALSE(there.recv_until(std::chrono::system_clock::now() + 5ms));
  CHECK_FALSE(there.poll_for(5ms));
  CHECK_FALSE(there.at_end());
  there.send({7, {0.5}});
  CHECK(here.recv().value().length == 7);
  here.send_bytes(bytes_of("just bytes"));
  CHECK(there.recv_bytes() == std::vector<std::byte>(bytes_of("just bytes").begin(), bytes_of("just bytes").end()));
  here.send_bytes({});
  CHECK(there.recv_bytes_for(patience) == std::vector<std::byte>{});
  here.send({"last", {}});
  here.close_write();
  CHECK(there.recv().value().text == "last");
  CHECK_FALSE(there.recv());
  CHECK(there.at_end());
  CHECK(there.poll());
  there.send({1, {}});
  there.close();
  CHECK(here.recv().value().length == 1);
  CHECK_FALSE(here.recv());
  here.close();
  CHECK_THROWS_AS(here.send({}), std::logic_error);
  CHECK_THROWS_AS(here.recv(), std::logic_error);
}

TEST_CASE("an end goes to a child as an argument, under every start method") {
  tidy t;
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    auto [here, there] = connection<question, answer>::pair();
    // What has come before, and was even read ahead, is still there.
    here.send({"early", {{"x", 1}}});
    CHECK(there.poll_for(patience));
    process p{{.start = method}, answers, std::move(there)};
    p.start();
    CHECK_FALSE(there.is_open());
    here.send({"late", {}});
    auto const first = here.recv();
    REQUIRE(first);
    CHECK(first->length == 5);
    CHECK(first->values == std::vector{1.1});
    CHECK(here.recv().value().length == 4);
    here.close_write();
    CHECK_FALSE(here.recv());
    p.join();
    CHECK(p.exit_code() == 0);
  }
}

TEST_CASE("a message of many megabytes is whole [H42]") {
  tidy t;
  auto [here, there] = connection<std::string>::pair();
  std::string text(std::size_t{40} << 20, 'x');
  for (std::size_t i = 0; i < text.size(); i += 4099) text[i] = static_cast<char>('a' + i % 26);
  std::thread sender([&end = there, &text] {
    end.send(text);
    end.send("small");
    end.send_bytes(bytes_of(text));
  });
  CHECK(here.recv().value() == text);
  CHECK(here.recv() == "small");
  auto const raw = here.recv_bytes();
  sender.join();
  REQUIRE(raw.has_value());
  CHECK(raw->size() == text.size());
  CHECK(std::memcmp(raw->data(), text.data(), text.size()) == 0);
}

TEST_CASE("a partial receive is kept, and continued by the next one") {
  tidy t;
  auto [end, raw] = stream::pair();
  connection<std::string> c(std::move(end));
  auto const message = polyproc::to_bytes(std::string(20000, 'y'));
  auto const whole = frame(message.size(), message);
  for (std::size_t at = 0; at < whole.size();) {
    auto const step = std::min<std::size_t>(at < 12 ? 1 : 1999, whole.size() - at);
    CHECK_FALSE(c.poll());
    CHECK_FALSE(c.recv_for(1ms));
    raw.write(std::span(whole).subspan(at, step));
    at += step;
  }
  CHECK(c.poll());
  CHECK(c.recv() == std::string(20000, 'y'));
}

TEST_CASE("a send that has not begun at its deadline has not happened; one that has begun goes on with the next") {
  tidy t;
  auto [here, there] = connection<std::string>::pair();
  std::string const large(std::size_t{4} << 20, 'x');
  REQUIRE(here.send_for(large, 30ms));
  CHECK(here.unsent() > 0);
  CHECK(here.unsent() < large.size());
  CHECK_THROWS_AS(here.close_write(), std::logic_error);
  auto const before = std::chrono::steady_clock::now();
  CHECK_FALSE(here.send_for("next", 30ms));
  CHECK_FALSE(here.flush_for(1ms));
  CHECK(std::chrono::steady_clock::now() - before >= 30ms);
  std::thread receiver([&end = there, &large] {
    CHECK(end.recv() == large);
    CHECK(end.recv() == "next");
    CHECK_FALSE(end.recv());
  });
  here.send("next");
  CHECK(here.unsent() == 0);
  here.close();
  receiver.join();

  // And by flush.
  auto [one, other] = connection<std::string>::pair();
  REQUIRE(one.send_bytes_for(bytes_of(large), 30ms));
  CHECK(one.unsent() > 0);
  std::thread second([&end = other, &large] { CHECK(end.recv_bytes().value().size() == large.size()); });
  one.flush();
  CHECK(one.unsent() == 0);
  second.join();
}

TEST_CASE("a rest that is not yet sent goes to the child with the end") {
  tidy t;
  for (auto const method : start_methods()) {
    auto [here, there] = connection<std::string>::pair();
    std::string const large(std::size_t{2} << 20, 'x');
    REQUIRE(here.send_for(large, 10ms));
    REQUIRE(here.unsent() > 0);
    process p{{.start = method}, [](connection<std::string> c) {
      c.send("from the child");
    }, std::move(here)};
    p.start();
    CHECK(there.recv() == large);
    CHECK(there.recv() == "from the child");
    CHECK_FALSE(there.recv());
    p.join();
    CHECK(p.exit_code() == 0);
  }
}

TEST_CASE("a message that is too large is refused before memory is taken for it [H40]") {
  tidy t;
  for (std::uint64_t const length : {std::uint64_t{1001}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    auto [end, raw] = stream::pair();
    connection<std::string> c(std::move(end), 1000);
    CHECK(c.max_message() == 1000);
    raw.write(frame(length, {}));
    CHECK(c.poll_for(patience));
    try {
      (void)c.recv();
      FAIL("received");
    } catch (polyproc::message_too_large const& refused) {
      CHECK(refused.size() == length);
    }
    CHECK_THROWS_AS(c.recv(), polyproc::connection_error);
    CHECK_THROWS_AS(c.recv_for(1ms), polyproc::connection_error);
  }
  // Also without a limit: nobody has so much memory.
  auto [end, raw] = stream::pair();
  connection<std::string> c(std::move(end));
  raw.write(frame(~std::uint64_t{0}, {}));
  CHECK_THROWS_AS(c.recv(), polyproc::message_too_large);
}

TEST_CASE("an announced length takes no memory before the bytes are there [H40]") {
  tidy t;
  auto [end, raw] = stream::pair();
  connection<std::string> c(std::move(end));
  raw.write(frame(std::uint64_t{1} << 45, {}));  // 32 TiB
  CHECK_FALSE(c.recv_for(20ms));
  raw.write(std::string(100000, 'x'));
  CHECK_FALSE(c.recv_for(20ms));
  raw.close();
  CHECK_THROWS_AS(c.recv(), polyproc::connection_lost);
  CHECK_FALSE(c.recv());
  CHECK(c.at_end());
}

TEST_CASE("recv_bytes has a limit of its own") {
  tidy t;
  auto [here, there] = connection<std::string>::pair();
  there.send_bytes(bytes_of("12345"));
  there.send_bytes(bytes_of("123456"));
  CHECK(here.recv_bytes(5).value().size() == 5);
  CHECK_THROWS_AS(here.recv_bytes(5), polyproc::message_too_large);
}

TEST_CASE("the end of file in the middle of a message is an error, wherever it comes") {
  tidy t;
  auto const message = polyproc::to_bytes(std::string("a message"));
  auto const whole = frame(message.size(), message);
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    auto [end, raw] = stream::pair();
    connection<std::string> c(std::move(end));
    raw.write(std::span(whole).first(size));
    raw.close();
    if (size == 0) CHECK_FALSE(c.recv());
    else if (size == whole.size()) CHECK(c.recv() == "a message");
    else CHECK_THROWS_AS(c.recv(), polyproc::connection_lost);
    CHECK_FALSE(c.recv_for(1ms));
    CHECK(c.at_end());
  }
}

TEST_CASE("a peer that is killed in the middle of a message") {
  tidy t;
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    auto [here, there] = connection<std::string>::pair();
    process p{{.start = method}, sends_half, std::move(there), n};
    p.start();
    until(n->a, 1);
    std::array const handles{here.native_handle()};
    CHECK(polyproc::native_backend::wait_any(handles, polyproc::never) == 0U);
    p.kill();
    p.join();
    CHECK_THROWS_AS(here.recv(), polyproc::connection_lost);
    CHECK_FALSE(here.recv());
  }
}

TEST_CASE("a peer that is stopped holds up no deadline") {
  tidy t;
  shared_notes n;
  auto [here, there] = connection<int>::pair();
  process p{does_not_read, std::move(there), n};
  p.start();
  until(n->a, 1);
  p.ask(polyproc::child_request::stop);
  long sum = 0;
  for (int i = 1;; ++i) {
    auto const before = std::chrono::steady_clock::now();
    bool const sent = here.send_for(i % 10, 20ms);
    CHECK(std::chrono::steady_clock::now() - before < 5s);
    if (!sent || here.unsent() > 0) {
      if (sent) sum += i % 10;
      break;
    }
    sum += i % 10;
  }
  CHECK_FALSE(here.recv_for(20ms));
  p.ask(polyproc::child_request::resume);
  n->b = 1;
  here.flush();
  here.close();
  p.join();
  CHECK(n->c.load() == sum);
}

TEST_CASE("bytes that are no value are a decode_error, and the next message is received [H40]") {
  tidy t;
  auto [end, raw] = stream::pair();
  connection<question> c(std::move(end));
  raw.write(frame(4, bytes_of("\xff\xff\xff\xff")));
  auto const message = polyproc::to_bytes(question{"good", {}});
  raw.write(frame(message.size() + 1, {}));
  raw.write(message);
  raw.write("x");  // one byte too many
  raw.write(frame(message.size(), message));
  CHECK_THROWS_AS(c.recv(), polyproc::decode_error);
  CHECK_THROWS_AS(c.recv(), polyproc::decode_error);
  CHECK(c.recv().value().text == "good");
}

TEST_CASE("a message for which there is no memory can be received again") {
  tidy t;
  auto [one, other] = connection<hungry>::pair();
  one.send({"a"});
  one.send({"b"});
  starving = true;
  CHECK_THROWS_AS(other.recv(), std::bad_alloc);
  CHECK_THROWS_AS(other.recv(), std::bad_alloc);
  starving = false;
  CHECK(other.recv()->text == "a");
  CHECK(other.recv()->text == "b");
}

TEST_CASE("a connection whose other side is gone with what was under way is ready, and says so to who receives") {
  tidy t;
  auto const lost = [](auto& c) {
    try {
      return !c.recv();
    } catch (std::system_error const& failure) {
      return failure.code() == std::errc::connection_reset;
    }
  };
  for (bool const together : {false, true}) {
    auto [one, other] = connection<std::string>::pair();
    auto [quiet, away] = connection<std::string>::pair();
    one.send("not read");
    other.close();
    if (together) CHECK(polyproc::wait_any_for(patience, quiet, one) == 1);
    CHECK(one.poll_for(patience));
    CHECK(one.poll());
    auto moved = std::move(one);
    CHECK(moved.poll());
    CHECK(lost(moved));
    // It goes on as it does without having been asked.
    CHECK(moved.poll_for(patience));
    CHECK(lost(moved));
    moved.close();
    CHECK_THROWS_AS(moved.poll(), std::logic_error);
  }
}

TEST_CASE("a handle without a name is taken from nobody but the family [H40]") {
  // As the family would send it; the numbers are right, so only who said them counts.
  polyproc::shared<long> here;
  polyproc::queue<int> q;
  auto [reader, writer] = polyproc::pipe<int>(polyproc::one_way);
  polyproc::writer out;
  auto const say = [&](auto const& handle) {
    out.clear();
    encode(out, handle);
    auto const frame_of = frame(out.view().size(), out.view());
    return frame_of;
  };
  auto const refuses = [](auto& from, std::vector<std::byte> const& message) {
    auto [raw, other] = stream::pair();
    raw.write(message);
    from = std::decay_t<decltype(from)>(std::move(other));
    try {
      (void)from.recv();
      return false;
    } catch (polyproc::decode_error const& e) {
      return std::string(e.what()).find("another family") != std::string::npos;
    }
  };
  connection<polyproc::shared<long>> shares;
  CHECK(refuses(shares, say(here)));
  connection<polyproc::queue<int>> queues;
  CHECK(refuses(queues, say(q)));
  connection<polyproc::pipe_writer<int>> ends;
  CHECK(refuses(ends, say(writer)));

  // Of a process, its number and identity; nothing that lies in memory.
  process p{[] {}};
  p.start();
  connection<polyproc::process_ref> refs;
  CHECK(refuses(refs, say(p.ref())));
  auto [one, two] = stream::pair();
  connection<polyproc::process_ref> from(std::move(one)), to(std::move(two));
  from.send(p.ref());
  auto const received = *to.recv();
  CHECK(received.pid() == p.pid());
  CHECK(received.join_for(patience));
  p.join();
  CHECK_FALSE(received.is_alive());
  // Numbers that stand for many processes, or for nobody's.
  for (std::int64_t const number : {std::int64_t{-1}, std::int64_t{1} << 31, (std::int64_t{1} << 32) - 1}) {
    polyproc::writer forged;
    encode(forged, number);
    encode(forged, std::uint64_t{1});
    encode(forged, std::string());
    encode(forged, std::uint64_t{0});
    CHECK_THROWS_AS(polyproc::from_bytes<polyproc::process_ref>(forged.view()), polyproc::decode_error);
  }
  polyproc::writer unknown;
  encode(unknown, std::int64_t{*p.pid()});
  encode(unknown, std::uint64_t{0});
  encode(unknown, std::string());
  encode(unknown, std::uint64_t{0});
  auto const nobody = polyproc::from_bytes<polyproc::process_ref>(unknown.view());
  CHECK_FALSE(nobody.is_alive());
  nobody.kill();
  CHECK(nobody.join_for(patience));

  // What has a name is found by it; one that nothing can have is no reason for another error.
  polyproc::writer named;
  encode(named, std::uint64_t{0});
  encode(named, std::string("../no/name"));
  encode(named, std::array<std::byte, 16>{});
  auto [raw, other] = stream::pair();
  raw.write(frame(named.view().size(), named.view()));
  connection<polyproc::shared<long>> names(std::move(other));
  CHECK_THROWS_AS(names.recv(), polyproc::decode_error);
  // Within the family all of it goes on as before.
  auto [left, right] = connection<polyproc::shared<long>>::pair();
  left.send(here);
  CHECK(*right.recv() == here);
}

TEST_CASE("whatever comes, a connection gives values or errors, and ends [H40]") {
  tidy t;
  std::mt19937 random(42);
  auto const good = [&] {
    auto const message = polyproc::to_bytes(question{std::string(random() % 50, 'x'), {{"a", 1}, {"b", 2}}});
    return frame(message.size(), message);
  };
  for (int round = 0; round < 500; ++round) {
    std::vector<std::byte> bytes;
    for (auto n = random() % 4; n-- > 0;) {
      auto const one = good();
      bytes.insert(bytes.end(), one.begin(), one.end());
    }
    for (auto n = random() % 4; n-- > 0 && !bytes.empty();) {
      auto const at = random() % bytes.size();
      switch (random() % 3) {
        case 0: bytes[at] ^= static_cast<std::byte>(1U << (random() % 8)); break;
        case 1: bytes.resize(at); break;
        default: bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), static_cast<std::byte>(random()));
      }
    }
    auto [end, raw] = stream::pair();
    connection<question> c(std::move(end), 100000);
    std::size_t const middle = bytes.empty() ? 0 : random() % bytes.size();
    raw.write(std::span(bytes).first(middle));
    int steps = 0;
    bool over = false;
    auto const step = [&](auto&& receive) {
      try {
        over = !receive() && c.at_end();
      } catch (polyproc::decode_error const&) {
      } catch (polyproc::connection_error const&) {
        over = true;
      }
    };
    step([&] { return c.recv_for(0ms).has_value(); });
    raw.write(std::span(bytes).subspan(middle));
    raw.close();
    while (!over && ++steps < 1000) step([&] { return c.recv().has_value(); });
    REQUIRE(steps < 1000);
  }
}
