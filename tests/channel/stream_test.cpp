// Bytes between processes: what one end writes the other reads, under every start method, whoever dies.
#include "process/start_methods.hpp"

#include <thread>

namespace {

using namespace std::chrono_literals;
using polyproc::process;
using polyproc::start_method;
using polyproc::stream;

constexpr auto patience = 20s;

std::span<std::byte const> bytes_of(std::string_view text) {
  return {reinterpret_cast<std::byte const*>(text.data()), text.size()};
}
std::string text_of(std::span<std::byte const> bytes) {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

void upper(stream s) {
  while (auto line = s.read_line()) {
    for (char& c : *line) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
    s.write(*line + "\n");
  }
}
void sleeps(shared_notes n) {
  n->a = 1;
  std::this_thread::sleep_for(1h);
}
void writes_half(stream s, shared_notes n) {
  s.write("half a line");
  n->a = 1;
  std::this_thread::sleep_for(1h);
}
void takes_both(std::pair<stream, std::string> first, std::vector<stream> more) {
  first.first.write(first.second);
  for (auto& one : more) one.write(first.second);
}
void fails(stream) { throw std::runtime_error("on purpose"); }
void passes_on(stream s) {
  process below{upper, std::move(s)};
  below.start();
  below.join();
}
void nothing_more() {}

static_assert(!std::is_copy_constructible_v<stream> && std::is_nothrow_move_constructible_v<stream>, "[H38]");
static_assert(!std::is_copy_assignable_v<stream> && std::is_nothrow_move_assignable_v<stream>, "[H38]");

}  // namespace

TEST_CASE("an end has one owner: it can be moved and not be copied [H38]") {
  tidy t;
  auto [here, there] = stream::pair();
  CHECK(here.is_open());
  stream moved = std::move(here);
  CHECK_FALSE(here.is_open());
  CHECK_THROWS_AS(here.write("x"), std::logic_error);
  CHECK_THROWS_AS(here.poll(), std::logic_error);
  CHECK(here.native_handle() == polyproc::native_backend::invalid_handle);
  moved.write("x\n");
  CHECK(there.read_line() == "x");
  moved = stream();
  CHECK(there.read_line() == std::nullopt);
  CHECK(there.at_end());
  there.close();
  there.close();
  CHECK_FALSE(there.is_open());
}

TEST_CASE("bytes are read as they come, exactly, by lines and to the end, with and without a deadline") {
  tidy t;
  auto [here, there] = stream::pair();
  std::array<std::byte, 5> five{};

  CHECK_FALSE(here.poll());
  CHECK_FALSE(here.poll_for(5ms));
  CHECK_FALSE(here.poll_until(std::chrono::system_clock::now() + 5ms));
  CHECK_FALSE(here.read_some_for(five, 5ms));
  there.write("abc");
  CHECK(here.poll());
  CHECK(here.read_some(five) == 3);
  CHECK(text_of(std::span(five).first(3)) == "abc");

  there.write("12");
  CHECK_FALSE(here.read_exactly_for(five, 10ms));
  CHECK_FALSE(here.at_end());
  there.write("345678");
  CHECK(here.read_exactly(five));
  CHECK(text_of(five) == "12345");
  CHECK(here.read_exactly_for(std::span(five).first(3), patience));
  CHECK(text_of(std::span(five).first(3)) == "678");

  there.write("one\ntwo\n\nth");
  CHECK(here.read_line() == "one");
  CHECK(here.poll());
  CHECK(here.read_some(five) == 5);  // what was read ahead comes first
  CHECK(text_of(five) == "two\n\n");
  CHECK(here.read_line_for(10ms) == std::nullopt);
  CHECK_FALSE(here.at_end());
  there.write("ree\nlast");
  CHECK(here.read_line_until(std::chrono::steady_clock::now() + patience) == "three");
  there.close_write();
  here.write("still open\n");
  CHECK(there.read_line() == "still open");
  CHECK(here.read_line() == "last");
  CHECK(here.read_line() == std::nullopt);
  CHECK(here.read_some(five) == 0);
  CHECK_FALSE(here.read_exactly(five));
  CHECK(here.at_end());
  CHECK(here.poll());

  here.write("all of it");
  CHECK(there.read_all_for(10ms) == std::nullopt);
  here.close();
  CHECK(there.read_all() == "all of it");
  CHECK(there.read_all().empty());
}

TEST_CASE("what belongs together and is cut short is told from the end of file") {
  tidy t;
  std::array<std::byte, 5> five{};
  for (bool const timed : {false, true}) {
    auto [here, there] = stream::pair();
    there.write("abc");
    there.close();
    if (timed) CHECK_THROWS_AS(here.read_exactly_for(five, patience), polyproc::connection_lost);
    else CHECK_THROWS_AS(here.read_exactly(five), polyproc::connection_lost);
  }
}

TEST_CASE("lines and whole texts have a limit, up to which they are read") {
  tidy t;
  auto [here, there] = stream::pair();
  there.write("12345\n");
  CHECK(here.read_line(5) == "12345");
  there.write("123456\n");
  CHECK_THROWS_AS(here.read_line(5), polyproc::message_too_large);
  CHECK(here.read_line(6) == "123456");
  there.write(std::string(100, 'x'));
  CHECK_THROWS_AS(here.read_line(99), polyproc::message_too_large);
  there.write("\n");
  CHECK(here.read_line(100) == std::string(100, 'x'));
  there.write("1234");
  there.close();
  CHECK_THROWS_AS(here.read_all(3), polyproc::message_too_large);
  CHECK(here.read_all(4) == "1234");
}

TEST_CASE("a write ends at its deadline, tells how far it came, and can be continued") {
  tidy t;
  auto [here, there] = stream::pair();
  std::string const text(std::size_t{8} << 20, 'x');
  auto const before = std::chrono::steady_clock::now();
  auto const done = here.write_for(text, 50ms);
  CHECK(std::chrono::steady_clock::now() - before >= 50ms);
  CHECK(std::chrono::steady_clock::now() - before < 5s);
  REQUIRE(done > 0);
  REQUIRE(done < text.size());
  CHECK(here.write_until(bytes_of("y"), std::chrono::steady_clock::now() + 5ms) == 0);
  std::thread reader([&end = there, &text] { CHECK(end.read_all() == text); });
  here.write(std::string_view(text).substr(done));
  here.close();
  reader.join();
}

TEST_CASE("a write to nobody throws broken_pipe, and raises no signal") {
  tidy t;
  auto [here, there] = stream::pair();
  there.close();
  try {
    here.write("x");
    FAIL("written");
  } catch (std::system_error const& failure) {
    CHECK(failure.code() == std::errc::broken_pipe);
  }
}

TEST_CASE("one thread reads while another writes") {
  tidy t;
  auto [here, there] = stream::pair();
  std::string text;
  for (int i = 0; i < 300000; ++i) text += std::to_string(i) + ' ';
  std::thread echo([&end = there] {
    std::array<std::byte, 4096> part;
    while (auto const got = end.read_some(part)) end.write(std::span(part).first(got));
    end.close_write();
  });
  std::thread writer([&end = here, &text] {
    end.write(text);
    end.close_write();
  });
  CHECK(here.read_all() == text);
  writer.join();
  echo.join();
}

TEST_CASE("an end goes to a child as an argument, and is gone here, under every start method [H39]") {
  tidy t;
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    auto [here, there] = stream::pair();
    // Siblings that are started before and after do not keep the ends open.
    process before{{.daemon = true}, sleeps, n};
    before.start();
    until(n->a, 1);
    process p{{.start = method}, upper, std::move(there)};
    CHECK_FALSE(there.is_open());
    p.start();
    process after{{.daemon = true}, nothing_more};
    after.start();
    here.write("hello\nfather");
    here.close_write();
    CHECK(here.read_line() == "HELLO");
    CHECK(here.read_line() == "FATHER");
    CHECK(here.read_line() == std::nullopt);  // the child's end was the only one
    p.join();
    CHECK(p.exit_code() == 0);
    CHECK_THROWS_AS(p.run(), std::logic_error);
    before.kill();
    before.join();
    after.join();
  }
}

TEST_CASE("a child sees the end of file when this process closes its end, and has no others [H39]") {
  tidy t;
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    auto [here, there] = stream::pair();
    auto [unrelated, other] = stream::pair();
    process p{{.start = method}, upper, std::move(there)};
    p.start();
    unrelated.close();
    std::array<std::byte, 1> byte{};
    CHECK(other.read_some_for(byte, patience) == 0U);  // the child does not keep it open
    here.close();
    CHECK(p.join_for(patience));
    CHECK(p.exit_code() == 0);
  }
}

namespace {

/// A template, so that what needs fork is not compiled where there is none.
template <class Backend>
void fork_with_captures() {
  if constexpr (Backend::has_fork) {
    auto [here, there] = stream::pair();
    auto [back, forth] = stream::pair();
    process p{polyproc::start::fork, [&end = there, to = std::move(forth)]() mutable {
                end.write("by reference");
                to.write("moved");
              }};
    p.start();
    there.close();
    CHECK(here.read_all() == "by reference");
    CHECK(back.read_all() == "moved");
    p.join();
    CHECK(p.exit_code() == 0);
  }
}

}  // namespace

TEST_CASE("what a target captures is there, where captures are possible") {
  tidy t;
  fork_with_captures<polyproc::native_backend>();
}

TEST_CASE("what was read ahead goes along with an end") {
  tidy t;
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    auto [here, there] = stream::pair();
    here.write("for the parent\nfor the child\n");
    here.close_write();
    CHECK(there.read_line() == "for the parent");
    process p{{.start = method}, upper, std::move(there)};
    p.start();
    CHECK(here.read_all() == "FOR THE CHILD\n");
    p.join();
    CHECK(p.exit_code() == 0);
  }
}

TEST_CASE("ends inside of other arguments, and many") {
  tidy t;
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    std::vector<stream> ours;
    std::vector<stream> theirs;
    for (int i = 0; i < 40; ++i) {
      auto [here, there] = stream::pair();
      ours.push_back(std::move(here));
      theirs.push_back(std::move(there));
    }
    auto [here, there] = stream::pair();
    process p{{.start = method}, takes_both, std::pair(std::move(there), std::string("text")), std::move(theirs)};
    p.start();
    CHECK(here.read_all() == "text");
    for (auto& one : ours) CHECK(one.read_all() == "text");
    p.join();
    CHECK(p.exit_code() == 0);
  }
}

TEST_CASE("a child passes an end on to a child of its own") {
  tidy t;
  auto [here, there] = stream::pair();
  process p{passes_on, std::move(there)};
  p.start();
  here.write("down and up\n");
  here.close_write();
  CHECK(here.read_all() == "DOWN AND UP\n");
  p.join();
  CHECK(p.exit_code() == 0);
}

TEST_CASE("a start that fails leaves the end where it was") {
  tidy t;
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    auto [here, there] = stream::pair();
    process p{{.start = method, .directory = "/nonesuch"}, upper, std::move(there)};
    CHECK_THROWS_AS(p.start(), std::system_error);
    here.write("x\n");
    CHECK_FALSE(here.poll_for(10ms));  // not at its end
    here.close_write();
    p.run();
    CHECK(here.read_all() == "X\n");
  }
}

TEST_CASE("a target that throws closes its ends") {
  tidy t;
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    auto [here, there] = stream::pair();
    process p{{.start = method}, fails, std::move(there)};
    p.start();
    CHECK(here.read_all().empty());
    p.join();
    CHECK(p.exit_code() == 1);
  }
}

TEST_CASE("a killed writer's end is the end of file, after what it wrote") {
  tidy t;
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    auto [here, there] = stream::pair();
    process p{{.start = method}, writes_half, std::move(there), n};
    p.start();
    until(n->a, 1);
    CHECK(here.read_line_for(20ms) == std::nullopt);
    CHECK_FALSE(here.at_end());
    p.kill();
    CHECK(here.read_line() == "half a line");
    CHECK(here.read_line() == std::nullopt);
    p.join();
  }
}

TEST_CASE("an end is no message, and no argument of a task") {
  tidy t;
  auto [here, there] = stream::pair();
  CHECK_THROWS_AS(polyproc::to_bytes(here), std::logic_error);
  here.write("still usable\n");
  CHECK(there.read_line() == "still usable");
  // Nor does one come out of bytes.
  std::array<std::byte, 3> const zeros{};
  CHECK_THROWS_AS(polyproc::from_bytes<stream>(zeros), polyproc::decode_error);
  CHECK_THROWS_AS(polyproc::process(upper, stream()).start(), std::logic_error);
}

TEST_CASE("an end is one of those that an event loop waits for") {
  tidy t;
  auto [here, there] = stream::pair();
  auto [other, end] = stream::pair();
  std::array const handles{other.native_handle(), here.native_handle()};
  CHECK_FALSE(polyproc::native_backend::wait_any(handles, polyproc::native_backend::now() + 5ms));
  there.write("x");
  CHECK(polyproc::native_backend::wait_any(handles, polyproc::never) == 1U);
}
