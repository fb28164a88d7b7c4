// FIFOs between processes that know a name and nothing else.
#include "process/start_methods.hpp"

#include <thread>

namespace {

using namespace std::chrono_literals;
using polyproc::fifo;
using polyproc::process;
using polyproc::stream;

std::string own_name(char const* what) {
  return std::string("test-") + what + '-' + std::to_string(polyproc::this_process::pid());
}

void writes(std::string name, std::string text) {
  auto w = fifo::open_writer(name);
  w.write(text);
}
void writes_and_waits(std::string name, shared_notes n) {
  auto w = fifo::open_writer(name);
  w.write("half");
  n->a = 1;
  std::this_thread::sleep_for(1h);
}
void reads(stream from, shared_notes n) { n->a = static_cast<long>(from.read_all().size()); }

struct named {
  std::string name;
  explicit named(char const* what) : name(own_name(what)) { CHECK(fifo::create(name)); }
  named(named const&) = delete;
  named& operator=(named const&) = delete;
  ~named() { (void)fifo::remove(name); }
};

}  // namespace

TEST_CASE("what is written by several processes one after the other is read, to the end of file") {
  tidy t;
  named const f("several");
  process p{writes, f.name, "one\ntwo\n"};
  p.start();
  auto r = fifo::open_reader(f.name);
  CHECK(r.read_line() == "one");
  CHECK(r.read_line() == "two");
  CHECK(r.read_line() == std::nullopt);
  p.join();
  CHECK(p.exit_code() == 0);
  process q{writes, f.name, std::string(300000, 'x')};
  q.start();
  auto again = fifo::open_reader(f.name);
  CHECK(again.read_all().size() == 300000);
  q.join();
  CHECK(q.exit_code() == 0);
}

TEST_CASE("deadlines: no reader, no writer, nothing written") {
  tidy t;
  named const f("late");
  CHECK_FALSE(fifo::open_writer_for(f.name, 20ms));
  CHECK_FALSE(fifo::open_writer_until(f.name, std::chrono::steady_clock::now() + 5ms));
  std::atomic<bool> now_write{false};
  std::thread writer([&] {
    auto w = fifo::open_writer_for(f.name, 20s);
    REQUIRE(w.has_value());
    while (!now_write) std::this_thread::sleep_for(1ms);
    w->write("x\n");
  });
  auto r = fifo::open_reader_for(f.name, 20s);
  REQUIRE(r.has_value());
  CHECK(r->read_line_for(5ms) == std::nullopt);
  CHECK_FALSE(r->at_end());
  now_write = true;
  CHECK(r->read_line() == "x");
  writer.join();
}

TEST_CASE("a killed writer's end is the end of file") {
  tidy t;
  named const f("killed");
  shared_notes n;
  process p{writes_and_waits, f.name, n};
  p.start();
  auto r = fifo::open_reader(f.name);
  until(n->a, 1);
  p.kill();
  CHECK(r.read_all() == "half");
  p.join();
}

TEST_CASE("a write without a reader throws broken_pipe") {
  tidy t;
  named const f("broken");
  std::optional<stream> reader;
  std::thread opens([&] { reader = fifo::open_reader(f.name); });
  auto w = fifo::open_writer(f.name);
  opens.join();
  reader->close();
  try {
    for (int i = 0; i < 100; ++i) w.write("x");
    FAIL("written");
  } catch (std::system_error const& failure) {
    CHECK(failure.code() == std::errc::broken_pipe);
  }
}

TEST_CASE("an end goes to a child as an argument") {
  tidy t;
  named const f("travels");
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    std::optional<stream> w;
    std::thread opens([&] { w = fifo::open_writer(f.name); });
    auto r = fifo::open_reader(f.name);
    opens.join();
    process p{{.start = method}, reads, std::move(r), n};
    p.start();
    w->write("12345");
    w->close();
    p.join();
    CHECK(p.exit_code() == 0);
    CHECK(n->a == 5);
  }
}

TEST_CASE("names that cannot be, and that are not there") {
  tidy t;
  CHECK_THROWS_AS(fifo::create(""), std::invalid_argument);
  CHECK_THROWS_AS(fifo::create("a b"), std::invalid_argument);
  CHECK_THROWS_AS(fifo::open_reader("a:b"), std::invalid_argument);
  if (polyproc::native_backend::name != "win32") {
    CHECK_FALSE(fifo::remove(own_name("nothing")));
    CHECK_THROWS_AS(fifo::open_reader(own_name("nothing")), std::system_error);
    CHECK_THROWS_AS(fifo::open_writer(own_name("nothing")), std::system_error);
    named const f("twice");
    CHECK_FALSE(fifo::create(f.name));
  }
}
