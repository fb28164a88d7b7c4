#include "support/tidy.hpp"

#include <csignal>

using namespace std::chrono_literals;

namespace {

struct stage {
  std::atomic<int> begun{0};
  std::atomic<int> open{0};
  std::atomic<int> asked{0};
  std::atomic<long> grandchild{0};
};

int index_and_size(int index, std::string const& text) { return 100 * index + static_cast<int>(text.size()); }
void nothing(std::size_t) {}
void sleep_for_ever(polyproc::shared<stage> at) {
  at->grandchild = polyproc::this_process::pid();
  for (;;) std::this_thread::sleep_for(1h);
}
/// The one with that index fails once all have begun; the others stay.
void one_fails(int index, polyproc::shared<stage> at, int members, int who, std::string const& how) {
  ++at->begun;
  if (index != who) {
    for (;;) std::this_thread::sleep_for(1h);
  }
  while (at->begun < members) std::this_thread::sleep_for(1ms);
  if (how == "throws") throw std::out_of_range("member's own");
  if (how == "exits") polyproc::this_process::exit(7);
  if (how == "dies") polyproc::native_backend::exit_now(9);
  throw 1;
}
void with_grandchild(int index, polyproc::shared<stage> at) {
  if (index == 0) {
    while (at->grandchild == 0) std::this_thread::sleep_for(1ms);
    throw std::runtime_error("enough");
  }
  polyproc::process child(sleep_for_ever, at);
  child.start();
  child.join();
}
void wait_until_open(std::size_t, polyproc::shared<stage> at) {
  ++at->begun;
  while (at->open == 0) std::this_thread::sleep_for(1ms);
}
#if !defined(_WIN32)
void deaf(std::size_t, polyproc::shared<stage> at) {
  std::signal(SIGTERM, SIG_IGN);
  ++at->begun;
  for (;;) std::this_thread::sleep_for(1h);
}
#endif
void meet(int index, polyproc::shared<polyproc::barrier> together, polyproc::queue<int> said) {
  together->arrive_and_wait();
  said.put(index);
}
int leaves_without(std::size_t) { polyproc::this_process::exit(0); }

void until_begun(polyproc::shared<stage> const& at, int members) {
  while (at->begun < members) polyproc::native_backend::yield();
}
bool gone(long pid) {
  for (auto const end = std::chrono::steady_clock::now() + 20s; std::chrono::steady_clock::now() < end;) {
    auto const row = polyproc::native_backend::process_alone(pid);
    if (!row || row->state == polyproc::process_state::ended) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

}  // namespace

TEST_CASE_METHOD(tidy, "each member gets its index first, and the results are in the order of the indexes") {
  polyproc::process_group g{4, index_and_size, "abc"};
  CHECK(g.size() == 4);
  CHECK(g.pids().empty());
  g.start();
  CHECK(g.pids().size() == 4);
  CHECK(g.results<int>() == std::vector<int>{3, 103, 203, 303});
  CHECK(g.alive() == 0);
  CHECK_THROWS_AS(g.results<int>(), std::logic_error);
  CHECK_THROWS_AS(g.results<long>(), std::logic_error);
  g.join();
  CHECK(polyproc::run_group(3, index_and_size, std::string("x")) == std::vector<int>{1, 101, 201});
  polyproc::run_group(2, nothing);
  polyproc::run_group(0, nothing);
  CHECK(polyproc::run_group(2, [](std::size_t i) { return std::to_string(i); }) == std::vector<std::string>{"0", "1"});
}

TEST_CASE_METHOD(tidy, "what is done in the wrong order is refused") {
  polyproc::process_group g{1, nothing};
  CHECK_THROWS_AS(g.join(), std::logic_error);
  CHECK_THROWS_AS(g.terminate(), std::logic_error);
  g.start();
  CHECK_THROWS_AS(g.start(), std::logic_error);
  g.join();
  auto moved = std::move(g);
  CHECK_THROWS_AS(g.join(), std::logic_error);  // NOLINT
  moved.join();
}

TEST_CASE_METHOD(tidy, "the first failure ends the others and is thrown: which member, its number, and what it threw") {
  polyproc::shared<stage> at;
  polyproc::process_group g{{.name = "crew", .grace = 5s}, 3, one_fails, at, 3, 1, "throws"};
  g.start();
  auto const begin = std::chrono::steady_clock::now();
  try {
    g.join();
    FAIL("one has failed");
  } catch (polyproc::group_failure const& e) {
    CHECK(e.index() == 1);
    CHECK(e.pid() == g.pids()[1]);
    CHECK(e.exit_code() == 0);
    std::string const what = e.what();
    CHECK(what.find("member 1") != std::string::npos);
    CHECK(what.find("crew-1") != std::string::npos);
    CHECK(what.find("member's own") != std::string::npos);
#if defined(__GXX_RTTI)
    CHECK_THROWS_AS(std::rethrow_if_nested(e), std::out_of_range);
#endif
  }
  CHECK(std::chrono::steady_clock::now() - begin < 20s);
  CHECK(g.alive() == 0);
  CHECK_THROWS_AS(g.join(), polyproc::group_failure);
}

TEST_CASE_METHOD(tidy, "a member that exits or dies has failed, too") {
  for (auto const& [how, code] : {std::pair("exits", 7), std::pair("dies", 9)}) {
    polyproc::shared<stage> at;
    polyproc::process_group g{2, one_fails, at, 2, 0, how};
    g.start();
    try {
      g.join();
      FAIL("one has failed");
    } catch (polyproc::group_failure const& e) {
      CHECK(e.index() == 0);
      CHECK(e.exit_code() == code);
    }
  }
  polyproc::process_group without{1, leaves_without};
  without.start();
  CHECK_THROWS_AS(without.results<int>(), polyproc::group_failure);
}

TEST_CASE_METHOD(tidy, "a failure ends the others though nobody waits, with what they have started") {
  polyproc::shared<stage> at;
  polyproc::process_group g{{.grace = 0s}, 2, with_grandchild, at};
  g.start();
  while (at->grandchild == 0) polyproc::native_backend::yield();
  for (int i = 0; i < 20000 && g.alive() != 0; ++i) std::this_thread::sleep_for(1ms);
  CHECK(g.alive() == 0);
  CHECK(gone(at->grandchild));
  CHECK_THROWS_AS(g.join(), polyproc::group_failure);
}

TEST_CASE_METHOD(tidy, "join with a limit, then terminate: those that were ended are no failure") {
  polyproc::shared<stage> at;
  polyproc::process_group g{3, wait_until_open, at};
  g.start();
  until_begun(at, 3);
  CHECK_FALSE(g.join_for(10ms));
  CHECK(g.alive() == 3);
  g.terminate();
  g.join();
  polyproc::process_group h{2, wait_until_open, at};
  h.start();
  h.kill();
  CHECK(h.join_for(60s));
  at->open = 1;
  polyproc::process_group last{2, wait_until_open, at};
  last.start();
  CHECK(last.join_until(std::chrono::steady_clock::now() + 60s));
}

#if !defined(_WIN32)
TEST_CASE_METHOD(tidy, "[H47] members that do not listen are ended when the grace is over, also by the destructor") {
  polyproc::shared<stage> at;
  auto const begin = std::chrono::steady_clock::now();
  polyproc::process_group g{{.grace = 50ms}, 2, deaf, at};
  g.start();
  until_begun(at, 2);
  g.terminate();
  g.join();
  std::vector<long> pids;
  {
    polyproc::process_group h{{.grace = 50ms}, 2, deaf, at};
    h.start();
    until_begun(at, 4);
    pids = h.pids();
  }
  for (auto const pid : pids) CHECK(gone(pid));
  CHECK(std::chrono::steady_clock::now() - begin < 20s);
}
#endif

TEST_CASE_METHOD(tidy, "members share what they are given") {
  polyproc::shared<polyproc::barrier> together(std::in_place, 3U);
  polyproc::queue<int> said;
  polyproc::run_group(3, meet, together, said);
  int sum = 0;
  for (int i = 0; i < 3; ++i) sum += said.get_nowait();
  CHECK(sum == 3);
}

TEST_CASE_METHOD(tidy, "what cannot be started leaves nothing behind") {
  polyproc::process_group g{{.directory = "/there/is/no/such/folder"}, 3, nothing};
  CHECK_THROWS_AS(g.start(), std::system_error);
  g.join();
}
