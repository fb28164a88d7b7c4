// own-main: this program is also the program of another family, when it is called with --named.
// alone: what it makes has names that others would count as left behind
// timeout: 300
//
// What concept.hpp asks of named memory and of the family's view for reading only.
#include "support/tidy.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace {

using namespace std::chrono_literals;
using backend = polyproc::native_backend;
using polyproc::named_memory;
using polyproc::time_point;
using word = backend::atomic<std::uint32_t>;
using wide = backend::atomic<std::uint64_t>;

constexpr auto patience = 20s;
constexpr bool on_windows = backend::name == "win32";

time_point in(std::chrono::milliseconds from_now) { return backend::now() + from_now; }

bool reaches(word& of, std::uint32_t least, time_point deadline = in(patience)) {
  for (;;) {
    auto const value = of.load(std::memory_order_acquire);
    if (value >= least) return true;
    if (backend::now() >= deadline) return false;
    backend::wait(of, value, std::min(deadline, in(100ms)));
  }
}
void raise(word& of, std::uint32_t to) {
  of.store(to, std::memory_order_release);
  backend::wake_all(of);
}
void bump(word& of) {
  of.fetch_add(1, std::memory_order_acq_rel);
  backend::wake_all(of);
}
template <class Condition>
bool eventually(Condition&& condition) {
  for (auto const deadline = in(patience); backend::now() < deadline;) {
    if (condition()) return true;
    std::this_thread::sleep_for(1ms);
  }
  return condition();
}

// --- names

/// One that no other test, and no other run, has.
std::string fresh(std::string_view label) {
  static int next = 0;
  return "test-" + std::to_string(backend::current_pid()) + "-" + std::to_string(++next) + "-" + std::string(label);
}

bool yes(std::byte const*, std::size_t, void*) { return true; }
bool no(std::byte const*, std::size_t, void*) { return false; }

/// Open as long as it lives.
class opened {
 public:
  opened() = default;
  explicit opened(std::optional<named_memory> memory) : memory_(memory) {}
  opened(opened&& other) noexcept : memory_(std::exchange(other.memory_, std::nullopt)) {}
  opened& operator=(opened&& other) noexcept {
    close();
    memory_ = std::exchange(other.memory_, std::nullopt);
    return *this;
  }
  ~opened() { close(); }
  void close() {
    if (memory_) backend::name_close(*std::exchange(memory_, std::nullopt));
  }
  explicit operator bool() const { return memory_.has_value(); }
  std::byte* base() const { return memory_.value().base; }
  std::size_t size() const { return memory_.value().size; }
  template <class T>
  T& as() const {
    return *reinterpret_cast<T*>(base());
  }

 private:
  std::optional<named_memory> memory_;
};

opened create(std::string const& name, std::size_t size, unsigned mode = 0600) {
  return opened(backend::name_create(name, size, mode, nullptr, nullptr));
}
opened open(std::string const& name, bool writable = true) { return opened(backend::name_open(name, writable)); }
/// Until it is there.
opened open_when_there(std::string const& name) {
  for (auto const deadline = in(patience); backend::now() < deadline; std::this_thread::sleep_for(1ms)) {
    if (auto there = open(name)) return there;
  }
  return {};
}
bool remove(std::string const& name) { return backend::name_remove(name, yes, nullptr); }

/// A name that is gone after the test.
struct named {
  std::string name;
  explicit named(std::string_view label) : name(fresh(label)) {}
  named(named const&) = delete;
  named& operator=(named const&) = delete;
  ~named() {
    try {
      remove(name);
    } catch (std::system_error const&) {
    }
  }
};

#if !defined(_WIN32)
std::string directory() {
  return ::access("/dev/shm", W_OK | X_OK) == 0 && std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : "/tmp";
}
#endif

/// The error's code, or nothing if there was none.
template <class Attempt>
std::error_code code_of(Attempt&& attempt) {
  try {
    attempt();
  } catch (std::system_error const& failure) {
    INFO(failure.what());
    CHECK(std::string(failure.what()).starts_with("polyproc: "));
    return failure.code();
  }
  return {};
}

// --- what others do

/// What programs talk through, in named memory.
struct board {
  word ready;
  word go;
  word ping;
  word pong;
  wide ids[4];
  wide numbers[8];
  std::byte bytes[64];
};

/// A page and a bit of what can be checked.
struct picture {
  static constexpr std::size_t words = 2000;
  std::uint64_t numbers[words];

  static void paint(std::byte* memory, void* context) {
    auto const seed = *static_cast<std::uint64_t const*>(context);
    auto& all = reinterpret_cast<picture*>(memory)->numbers;
    for (std::size_t i = words; i-- > 0;) all[i] = seed * 1000003 + i;
  }
  static void paint_slowly(std::byte* memory, void* context) {
    paint(memory, context);
    auto& last = reinterpret_cast<picture*>(memory)->numbers[words - 1];
    auto const right = std::exchange(last, 0);
    std::this_thread::sleep_for(3ms);
    last = right;
  }
  [[nodiscard]] bool whole(std::uint64_t seed) const {
    for (std::size_t i = 0; i < words; ++i) {
      if (numbers[i] != seed * 1000003 + i) return false;
    }
    return true;
  }
};

std::string own_path;

/// What this program does when it is called as that of another family.
int other_family(std::vector<std::string> const& words) {
  auto const& what = words.at(0);
  auto const b = open_when_there(words.at(1));
  if (!b) return 90;
  auto& shared = b.as<board>();
  if (what == "greet") {  // answer what is there
    if (std::memcmp(shared.bytes, "hello", 5) != 0) return 1;
    std::memcpy(shared.bytes, "world", 5);
    return 0;
  }
  if (what == "ask") {  // 0: alive, 1: ended
    return backend::alive(std::stoull(words.at(2))) ? 0 : 1;
  }
  if (what == "watch") {  // ask until told to stop; how often it was told "ended"
    auto const id = std::stoull(words.at(2));
    bump(shared.ready);
    int ended = 0;
    while (shared.go.load() == 0) {
      if (!backend::alive(id)) ++ended;
      shared.numbers[0].fetch_add(1);
    }
    return std::min(ended, 100);
  }
  if (what == "live" || what == "die") {  // tell identities; answer whether the other side's is alive; leave or die
    shared.ids[0].store(backend::self());
    std::thread other([&] {
      shared.ids[1].store(backend::self());
      bump(shared.ready);
      reaches(shared.go, 1);
    });
    if (!reaches(shared.ready, 1)) return 1;
    shared.numbers[0].store(backend::alive(shared.ids[2].load()) ? 1 : 2);
    shared.numbers[1].store(backend::alive(shared.ids[3].load()) ? 1 : 2);
    bump(shared.ready);
    if (!reaches(shared.go, 1)) return 2;
    other.join();
    if (!reaches(shared.go, 2)) return 3;
    if (what == "die") backend::exit_now(0);
    return 0;
  }
  if (what == "play") {  // ping-pong
    for (std::uint32_t i = 1; i <= static_cast<std::uint32_t>(std::stoul(words.at(2))); ++i) {
      if (!reaches(shared.ping, i)) return 1;
      raise(shared.pong, i);
    }
    return 0;
  }
  if (what == "hold") {  // have it open until told
    bump(shared.ready);
    return reaches(shared.go, 1) ? 0 : 1;
  }
  return 91;
}

std::string command(std::string const& what, std::string const& name, std::string const& more = "") {
  return '"' + own_path + "\" --named " + what + ' ' + name + ' ' + more;
}
int exit_code_of(int status) {
#if defined(_WIN32)
  return status;
#else
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
#endif
}
/// A program of another family, run to its end.
int run_other(std::string const& what, std::string const& name, std::string const& more = "") {
  return exit_code_of(std::system(command(what, name, more).c_str()));
}
/// One that runs beside us.
class beside {
 public:
  beside(std::string const& what, std::string const& name, std::string const& more = "")
      : thread_([this, line = command(what, name, more)] { code_ = exit_code_of(std::system(line.c_str())); }) {}
  beside(beside const&) = delete;
  beside& operator=(beside const&) = delete;
  ~beside() {
    if (thread_.joinable()) thread_.join();
  }
  int end() {
    thread_.join();
    return code_;
  }

 private:
  int code_ = -1;
  std::thread thread_;
};

// Targets of processes of our own family.

void greet(std::string const& name) {
  auto const there = open(name);
  if (!there || std::memcmp(there.as<board>().bytes, "hello", 5) != 0) throw std::runtime_error("not there");
  std::memcpy(there.as<board>().bytes, "world", 5);
}

void write_to(std::byte* memory) {
  std::signal(SIGSEGV, SIG_DFL);  // sanitizers catch them
#if defined(SIGBUS)
  std::signal(SIGBUS, SIG_DFL);
#endif
  *const_cast<std::byte volatile*>(memory) = std::byte{1};
}
void write_to_named(std::string const& name) { write_to(open(name, false).base()); }
void write_to_family(std::uint64_t offset) { write_to(backend::family_read_only().base + offset); }

void family_reader(std::uint64_t offset) {
  auto const view = backend::family_read_only();
  if (view.base == backend::family().base || view.size != backend::family().size) throw std::runtime_error("view");
  auto const& b = *reinterpret_cast<board const*>(view.base + offset);
  auto& writable = *reinterpret_cast<board*>(backend::family().base + offset);
  for (std::uint32_t i = 1; i <= 100; ++i) {
    // Waits where it can only read; is woken where the other side writes.
    while (b.ping.load(std::memory_order_acquire) < i) backend::wait(b.ping, i - 1, in(patience));
    raise(writable.pong, i);
  }
}

void die_in_fill(std::string const& name, int how) {
  backend::name_create(
      name, sizeof(picture), 0600,
      [](std::byte* memory, void* context) {
        std::uint64_t seed = 1;
        picture::paint(memory, &seed);
        if (*static_cast<int*>(context) == 0) backend::exit_now(0);
        std::signal(SIGABRT, SIG_DFL);
        std::abort();
      },
      &how);
}

void create_and_remove_for_ever(std::string const& board_name, std::string const& name) {
  auto const b = open_when_there(board_name);
  std::uint64_t seed = 7;
  for (bump(b.as<board>().ready);;) {
    try {
      opened(backend::name_create(name, sizeof(picture), 0600, picture::paint, &seed));
      remove(name);
    } catch (std::system_error const&) {  // the test looks at it
    }
  }
}

/// `rounds` names; a line each on the board: who made it, how many saw it whole.
void race(std::string const& board_name, std::string const& prefix, std::uint64_t me, int rounds) {
  auto const b = open_when_there(board_name);
  auto& shared = b.as<board>();
  std::vector<opened> all;  // so that a name lives on everywhere
  bump(shared.ready);
  for (int round = 0; round < rounds; ++round) {
    if (!reaches(shared.go, static_cast<std::uint32_t>(round + 1))) throw std::runtime_error("no start");
    auto const name = prefix + std::to_string(round);
    opened mine(backend::name_create(name, sizeof(picture), 0600, picture::paint_slowly, &me));
    if (mine) {
      shared.numbers[0].fetch_add(1);
      shared.numbers[1].store(me);
    } else {
      mine = open(name);
      // Whoever is told that it exists finds it.
      if (!mine) throw std::runtime_error("exists and is not there");
      auto const& there = mine.as<picture>();
      auto const seed = there.numbers[0] / 1000003;
      if (!there.whole(seed)) throw std::runtime_error("seen half made");
      shared.numbers[2].fetch_add(1);
    }
    all.push_back(std::move(mine));
    bump(shared.ready);
  }
  reaches(shared.go, static_cast<std::uint32_t>(rounds + 1));
}

struct lease {
  wide generation;
  word given_up;
};
/// Removes what was given up, until told.
void reclaim(std::string const& board_name, std::string const& name) {
  auto const b = open_when_there(board_name);
  auto& shared = b.as<board>();
  bump(shared.ready);
  while (shared.go.load() == 0) {
    bool const removed = backend::name_remove(
        name,
        [](std::byte const* memory, std::size_t size, void*) {
          return size == sizeof(lease) && reinterpret_cast<lease const*>(memory)->given_up.load() == 1;
        },
        nullptr);
    if (removed) shared.numbers[0].fetch_add(1);
  }
}

}  // namespace

static_assert(backend::named_survives == !on_windows);

// --- the view for reading only

TEST_CASE_METHOD(tidy, "the family can be had for reading only") {
  static std::uint64_t const offset = backend::family_reserved + (std::uint64_t{1} << 20);
  auto const whole = backend::family();
  REQUIRE(backend::commit(whole.base + offset, sizeof(board)));
  auto& b = *reinterpret_cast<board*>(whole.base + offset);
  std::memset(static_cast<void*>(&b), 0, sizeof b);

  // Made once, whoever comes first.
  std::array<std::byte*, 4> seen{};
  std::vector<std::thread> threads;
  for (auto& one : seen) threads.emplace_back([&one] { one = backend::family_read_only().base; });
  for (auto& t : threads) t.join();
  auto const view = backend::family_read_only();
  for (auto* const one : seen) CHECK(one == view.base);
  CHECK(view.base != whole.base);
  CHECK(view.size == whole.size);
  std::memcpy(b.bytes, "see me", 6);
  CHECK(std::memcmp(view.base + offset + offsetof(board, bytes), "see me", 6) == 0);

  SECTION("a write there ends who writes, and nobody else") {
    auto p = polyproc::launch(write_to_family, offset);
    p.join();
    REQUIRE(p.exit_code().has_value());
    CHECK(*p.exit_code() < 0);
    CHECK(b.ready.load() == 0);
  }
  SECTION("who waits there is woken") {
    auto p = polyproc::launch(family_reader, offset);
    int late = 0;
    for (std::uint32_t i = 1; i <= 100; ++i) {
      auto const before = backend::now();
      raise(b.ping, i);
      REQUIRE(reaches(b.pong, i));
      if (i > 1 && backend::now() - before >= 1s) ++late;
    }
    CHECK(late <= 3);
    p.join();
    CHECK(p.exit_code().value_or(-1) == 0);
  }
}

// --- names

TEST_CASE_METHOD(tidy, "only some texts are names") {
  for (std::string const bad :
       {"", ".", "..", ".hidden", "a/b", "/a", "a b", "a\\b", "caf\xC3\xA9", "a\n", "a*", "a:b"}) {
    INFO(bad);
    CHECK_THROWS_AS(backend::name_create(bad, 64, 0600, nullptr, nullptr), std::invalid_argument);
    CHECK_THROWS_AS(backend::name_open(bad, true), std::invalid_argument);
    CHECK_THROWS_AS(backend::name_remove(bad, yes, nullptr), std::invalid_argument);
  }
  using namespace std::string_view_literals;
  CHECK_THROWS_AS(backend::name_open("a\0b"sv, true), std::invalid_argument);
  CHECK_THROWS_AS(backend::name_open(std::string(201, 'a'), true), std::invalid_argument);
  CHECK_THROWS_AS(backend::name_create(fresh("nothing"), 0, 0600, nullptr, nullptr), std::invalid_argument);
  auto const unique = fresh("");
  for (auto const& good : {unique + "AZaz09._-", unique + std::string(200 - unique.size(), 'x'), "lock." + unique}) {
    INFO(good);
    auto const made = create(good, 64);
    CHECK(made);
    CHECK(open(good));
    CHECK(remove(good));
  }
}

TEST_CASE_METHOD(tidy, "memory has its name, its size, zeros and what fill wrote") {
  named n("basic");
  CHECK(!open(n.name));
  CHECK(!remove(n.name));
  for (std::size_t const size : {std::size_t{1}, std::size_t{4096}, std::size_t{1000001}}) {
    struct seen {
      std::string name;
      bool zero = false;
      bool there = true;
      std::size_t size = 0;
    } what{n.name};
    what.size = size;
    opened made(backend::name_create(
        n.name, size, 0600,
        [](std::byte* memory, void* context) {
          auto& s = *static_cast<seen*>(context);
          s.zero = std::all_of(memory, memory + s.size, [](std::byte b) { return b == std::byte{0}; });
          s.there = backend::name_open(s.name, false).has_value();
          memory[s.size - 1] = std::byte{42};
        },
        &what));
    REQUIRE(made);
    CHECK(what.zero);
    CHECK_FALSE(what.there);
    CHECK(made.size() == size);
    CHECK(reinterpret_cast<std::uintptr_t>(made.base()) % 4096 == 0);
    CHECK(made.base()[size - 1] == std::byte{42});

    auto const never_called = [](std::byte*, void*) { FAIL("filled though the name exists"); };
    CHECK_FALSE(backend::name_create(n.name, size, 0600, never_called, nullptr));
    {
      auto const writer = open(n.name);
      auto const reader = open(n.name, false);
      REQUIRE(writer);
      REQUIRE(reader);
      CHECK(writer.size() == size);
      CHECK(reader.size() == size);
      writer.base()[0] = std::byte{7};
      CHECK(made.base()[0] == std::byte{7});
      CHECK(reader.base()[0] == std::byte{7});
    }
    made.base()[0] = std::byte{8};  // still there
    {
      made.close();
      bool const lives = static_cast<bool>(open(n.name));
      CHECK(lives == backend::named_survives);
      CHECK(remove(n.name) == lives);
    }
    CHECK(!open(n.name));
    CHECK(!remove(n.name));
  }
}

TEST_CASE_METHOD(tidy, "what is opened for reading cannot be written") {
  named n("reader");
  auto const made = create(n.name, 4096);
  auto p = polyproc::launch(write_to_named, n.name);
  p.join();
  REQUIRE(p.exit_code().has_value());
  CHECK(*p.exit_code() < 0);
  CHECK(made.base()[0] == std::byte{0});
}

TEST_CASE_METHOD(tidy, "fill may throw; then there is nothing") {
  named n("throws");
  CHECK_THROWS_AS(backend::name_create(
                      n.name, 64, 0600, [](std::byte*, void*) { throw std::out_of_range("no"); }, nullptr),
                  std::out_of_range);
  CHECK(!open(n.name));
  CHECK(create(n.name, 128).size() == 128);
}

TEST_CASE_METHOD(tidy, "two processes see the same memory, of one family and of two") {
  named n("shared");
  auto const made = create(n.name, sizeof(board));
  auto& b = made.as<board>();
  std::memcpy(b.bytes, "hello", 5);
  SECTION("one family") {
    auto p = polyproc::launch(greet, n.name);
    p.join();
    CHECK(p.exit_code().value_or(-1) == 0);
  }
  SECTION("two families") { CHECK(run_other("greet", n.name) == 0); }
  CHECK(std::memcmp(b.bytes, "world", 5) == 0);
}

TEST_CASE_METHOD(tidy, "memory that is removed stays with those who have it open") {
  named n("removed");
  auto made = create(n.name, sizeof(board));
  {
    beside other("hold", n.name);
    CHECK(reaches(made.as<board>().ready, 1));
    CHECK(remove(n.name));
    CHECK(!remove(n.name));
    CHECK(!open(n.name));
    if (backend::named_survives) {
      auto const second = create(n.name, 64);
      CHECK(second);
      CHECK(open(n.name).size() == 64);
      CHECK(remove(n.name));
    } else {
      CHECK(code_of([&] { create(n.name, 64); }) == std::errc::device_or_resource_busy);
    }
    made.as<board>().numbers[0].store(5);
    raise(made.as<board>().go, 1);
    CHECK(other.end() == 0);
  }
  made.close();
  CHECK(create(n.name, 64));
}

TEST_CASE_METHOD(tidy, "a name is only removed when it is wanted") {
  named n("wanted");
  std::uint64_t seed = 3;
  opened made(backend::name_create(n.name, sizeof(picture), 0600, picture::paint, &seed));
  struct {
    std::size_t size = 0;
    bool whole = false;
    bool answer = false;
  } seen;
  auto const look = [](std::byte const* memory, std::size_t size, void* context) {
    auto& s = *static_cast<decltype(seen)*>(context);
    s.size = size;
    s.whole = size == sizeof(picture) && reinterpret_cast<picture const*>(memory)->whole(3);
    return s.answer;
  };
  CHECK_FALSE(backend::name_remove(n.name, no, nullptr));
  CHECK_FALSE(backend::name_remove(n.name, look, &seen));
  CHECK(seen.size == sizeof(picture));
  CHECK(seen.whole);
  CHECK(open(n.name));
  CHECK_THROWS_AS(backend::name_remove(
                      n.name, [](std::byte const*, std::size_t, void*) -> bool { throw std::out_of_range("no"); },
                      nullptr),
                  std::out_of_range);
  CHECK(open(n.name));
  seen.answer = true;
  CHECK(backend::name_remove(n.name, look, &seen));
  CHECK(!open(n.name));
}

// --- death

TEST_CASE_METHOD(tidy, "a creator that dies while it fills leaves no name and is in nobody's way") {
  named n("dies");
  for (int how = 0; how < 2; ++how) {
    auto p = polyproc::launch(die_in_fill, n.name, how);
    p.join();
    CHECK(!open(n.name));
    std::uint64_t seed = 9;
    opened const made(backend::name_create(n.name, sizeof(picture), 0600, picture::paint, &seed));
    REQUIRE(made);
    CHECK(made.as<picture>().whole(9));
    CHECK(remove(n.name));
  }
}

TEST_CASE_METHOD(tidy, "a creator may be killed at any moment") {
  named n("killed");
  named of_board("killed-board");
  auto const shared = create(of_board.name, sizeof(board));
  std::mt19937 random(static_cast<unsigned>(backend::current_pid()));
  std::uint32_t const rounds = on_windows ? 30 : 150;
  for (std::uint32_t round = 1; round <= rounds; ++round) {
    auto p = polyproc::launch(create_and_remove_for_ever, of_board.name, n.name);
    REQUIRE(reaches(shared.as<board>().ready, round));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    p.kill();
    p.join();
    if (auto const there = open(n.name)) REQUIRE(there.as<picture>().whole(7));
    remove(n.name);
    std::uint64_t seed = 11;
    opened made(backend::name_create(n.name, sizeof(picture), 0600, picture::paint, &seed));
    REQUIRE(made);
    REQUIRE(made.as<picture>().whole(11));
    REQUIRE(remove(n.name));
  }
}

// --- races

TEST_CASE_METHOD(tidy, "of eight who create a name one wins, and the others find it whole") {
  named n("race");
  constexpr std::uint32_t racers = 8;
  int const rounds = 25;
  auto const made = create(n.name, sizeof(board));
  auto& b = made.as<board>();
  std::vector<polyproc::process> all;
  for (std::uint64_t i = 1; i <= racers; ++i) all.push_back(polyproc::launch(race, n.name, n.name + ".", i, rounds));
  REQUIRE(reaches(b.ready, racers));
  for (int round = 0; round < rounds; ++round) {
    b.numbers[0].store(0);
    b.numbers[2].store(0);
    auto const done = racers * static_cast<std::uint32_t>(round + 2);
    raise(b.go, static_cast<std::uint32_t>(round + 1));
    if (!reaches(b.ready, done)) break;
    CHECK(b.numbers[0].load() == 1);
    CHECK(b.numbers[2].load() == racers - 1);
    auto const there = open(n.name + "." + std::to_string(round));
    REQUIRE(there);
    CHECK(there.as<picture>().whole(b.numbers[1].load()));
    CHECK(remove(n.name + "." + std::to_string(round)));
  }
  raise(b.go, static_cast<std::uint32_t>(rounds + 1));
  for (auto& p : all) {
    p.join();
    CHECK(p.exit_code().value_or(-1) == 0);
  }
}

TEST_CASE_METHOD(tidy, "who reclaims a name that was given up never takes its successor's") {
  named n("reclaim");
  named of_board("reclaim-board");
  auto const made = create(of_board.name, sizeof(board));
  auto& b = made.as<board>();
  std::vector<polyproc::process> all;
  for (int i = 0; i < 2; ++i) all.push_back(polyproc::launch(reclaim, of_board.name, n.name));
  // One that lives in this process: locks may not tell threads apart.
  std::thread third([&] { reclaim(of_board.name, n.name); });
  CHECK(reaches(b.ready, 3));
  std::mt19937 random(1);
  std::uint64_t const rounds = on_windows ? 100 : 500;
  std::uint64_t stolen = 0;
  std::uint64_t generation = 0;
  auto const until = in(60s);
  while (generation < rounds && backend::now() < until) {
    opened mine;
    auto const next = generation + 1;
    try {
      mine = opened(backend::name_create(
          n.name, sizeof(lease), 0600,
          [](std::byte* memory, void* context) {
            reinterpret_cast<lease*>(memory)->generation.store(*static_cast<std::uint64_t const*>(context));
          },
          const_cast<std::uint64_t*>(&next)));
    } catch (std::system_error const& failure) {
      if (failure.code() != std::errc::device_or_resource_busy) throw;
    }
    if (!mine) {
      std::this_thread::yield();  // not reclaimed yet
      continue;
    }
    ++generation;
    for (int look = 0; look < 3; ++look) {
      auto const there = open(n.name, false);
      if (!there || there.as<lease const>().generation.load() != generation) ++stolen;
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 200));
    }
    mine.as<lease>().given_up.store(1);
    // Where a name ends with its last user, somebody must have it until it is reclaimed.
    if (!backend::named_survives) eventually([&] { return !open(n.name, false); });
  }
  raise(b.go, 1);
  third.join();
  for (auto& p : all) {
    p.join();
    CHECK(p.exit_code().value_or(-1) == 0);
  }
  CHECK(generation == rounds);
  CHECK(stolen == 0);
  CHECK(b.numbers[0].load() >= rounds - 1);
  CHECK(b.numbers[0].load() <= rounds);
}

TEST_CASE_METHOD(tidy, "the threads of one process may do it all at once") {
  named n("threads");
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (std::uint64_t i = 1; i <= 4; ++i) {
    threads.emplace_back([&, i] {
      std::uint64_t seed = i;
      for (int round = 0; round < (on_windows ? 50 : 200); ++round) {
        try {
          opened const mine(backend::name_create(n.name, sizeof(picture), 0600, picture::paint, &seed));
          auto const there = open(n.name, round % 2 == 0);
          if (mine && !mine.as<picture>().whole(i)) ++wrong;
          if (there && !there.as<picture>().whole(there.as<picture>().numbers[0] / 1000003)) ++wrong;
          std::thread([&] {
            if (!backend::alive(backend::self())) ++wrong;
          }).join();
          if (round % 3 == 0) remove(n.name);
        } catch (std::system_error const& failure) {
          if (failure.code() != std::errc::device_or_resource_busy) ++wrong;
        }
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(wrong == 0);
}

// --- the system says no

TEST_CASE_METHOD(tidy, "what there is no room for is an error and leaves nothing") {
  named n("large");
  auto const none = [&](std::size_t size) {
    INFO(size);
    auto const code = code_of([&] { create(n.name, size); });
    CHECK((code == std::errc::no_space_on_device || code == std::errc::not_enough_memory));
    CHECK(!open(n.name));
  };
  if constexpr (sizeof(std::size_t) == 8) none(std::size_t{1} << 60);
  none(~std::size_t{0});
  none(~std::size_t{0} - 5000);
  none(std::size_t{1} << (8 * sizeof(std::size_t) - 1));
#if !defined(_WIN32)
  if (directory() == "/dev/shm") {
    auto const space = std::filesystem::space("/dev/shm");
    none(space.capacity + (std::size_t{1} << 30));
    // On a large one it would take all the machine's memory to find out.
    if (space.capacity < (std::size_t{1} << 30)) none(space.available + (std::size_t{1} << 20));
  }
#endif
  CHECK(create(n.name, 64));
}

#if !defined(_WIN32)
namespace {
std::string file_of(std::string const& name) { return directory() + "/polyproc." + name; }

/// Exit code 0: it may not be opened.
void open_as_nobody(std::string const& name) {
  if (::seteuid(65534) != 0) throw std::runtime_error("seteuid");
  int denied = 0;
  for (auto const attempt : {+[](std::string const& n) { open(n, false); }, +[](std::string const& n) { remove(n); }}) {
    try {
      attempt(name);
    } catch (std::system_error const& failure) {
      if (failure.code() == std::errc::permission_denied) ++denied;
    }
  }
  if (::seteuid(0) != 0) throw std::runtime_error("seteuid");  // leak checkers have to look at this process
  if (denied != 2) throw std::runtime_error("not denied");
}
}  // namespace

TEST_CASE_METHOD(tidy, "permissions are exactly what was asked for") {
  for (mode_t const mask : {mode_t{0}, mode_t{077}, mode_t{0777}}) {
    auto const before = ::umask(mask);
    for (unsigned const mode : {0600U, 0644U, 0666U, 0660U, 0400U, 0777U}) {
      named n("mode");
      auto const made = create(n.name, 64, mode);
      struct stat info {};
      CHECK(::stat(file_of(n.name).c_str(), &info) == 0);
      CHECK((info.st_mode & 07777) == mode);
      CHECK(info.st_size == 64);
      CHECK(info.st_nlink == 1);
      ::chmod(file_of(n.name).c_str(), 0600);  // so that it can be removed
    }
    ::umask(before);
  }
  if (::geteuid() == 0) {
    named n("private");
    auto const made = create(n.name, 64);
    auto p = polyproc::launch(open_as_nobody, n.name);
    p.join();
    CHECK(p.exit_code().value_or(-1) == 0);
    CHECK(open(n.name));
  }
}

TEST_CASE_METHOD(tidy, "what is not memory is not opened, and an empty file is no memory") {
  named n("odd");
  auto const path = file_of(n.name);
  auto const is_refused = [&] {
    CHECK(code_of([&] { open(n.name); }).value() != 0);
    CHECK(code_of([&] { open(n.name, false); }).value() != 0);
    CHECK(code_of([&] { remove(n.name); }).value() != 0);
    CHECK(!create(n.name, 64));
  };
  SECTION("directory") {
    std::filesystem::create_directory(path);
    is_refused();
    std::filesystem::remove(path);
  }
  SECTION("link to a file elsewhere") {
    named target("target");
    auto const made = create(target.name, 64);
    std::filesystem::create_symlink(file_of(target.name), path);
    is_refused();
    std::filesystem::remove(path);
  }
  SECTION("link to nowhere") {
    std::filesystem::create_symlink("/nowhere", path);
    is_refused();
    std::filesystem::remove(path);
  }
  SECTION("pipe") {
    CHECK(::mkfifo(path.c_str(), 0600) == 0);
    is_refused();
    std::filesystem::remove(path);
  }
  SECTION("empty file") {
    std::ofstream{path};
    auto const there = backend::name_open(n.name, true);
    REQUIRE(there);
    CHECK(there->base == nullptr);
    CHECK(there->size == 0);
    backend::name_close(*there);
    CHECK(!create(n.name, 64));
    CHECK(remove(n.name));
  }
  SECTION("foreign file") {
    std::ofstream{path} << "who is there";
    auto const there = open(n.name, false);
    REQUIRE(there);
    CHECK(there.size() == 12);
    CHECK(std::memcmp(there.base(), "who is there", 12) == 0);
  }
}
#else
TEST_CASE_METHOD(tidy, "memory that a dead thread left half made can be made good") {
  namespace api = polyproc::detail::win32;
  named n("half");
  auto const text = L"Local\\polyproc." + std::wstring(n.name.begin(), n.name.end());
  auto const section = api::CreateFileMappingW(api::bad_handle(), nullptr, api::page_readwrite | api::section_commit, 0,
                                               3 * 4096, text.c_str());
  REQUIRE(section != nullptr);
  auto* const view = static_cast<std::byte*>(api::MapViewOfFile(section, api::map_write, 0, 0, 0));
  std::memset(view + 4096, 0x55, 8192);
  CHECK(!open(n.name));
  CHECK(!remove(n.name));
  CHECK(code_of([&] { create(n.name, 8193); }) == std::errc::device_or_resource_busy);
  auto const made = create(n.name, 5000);
  REQUIRE(made);
  CHECK(made.size() == 5000);
  CHECK(std::all_of(made.base(), made.base() + 5000, [](std::byte b) { return b == std::byte{0}; }));
  CHECK(open(n.name).size() == 5000);
  api::UnmapViewOfFile(view);
  api::CloseHandle(section);
}
#endif

// --- life across families

TEST_CASE_METHOD(tidy, "threads of another family are alive until they end") {
  for (std::string const how : {"live", "die"}) {
    named n("alive");
    auto const mine = backend::self();  // before it is open here
    auto const made = create(n.name, sizeof(board));
    auto& b = made.as<board>();
    b.ids[2].store(mine);
    word done{0};
    std::thread late([&] {  // after
      b.ids[3].store(backend::self());
      reaches(done, 1);
    });
    REQUIRE(eventually([&] { return b.ids[3].load() != 0; }));
    beside other(how, n.name);
    bool const told = reaches(b.ready, 2);
    CHECK(told);
    if (told) {
      CHECK(b.numbers[0].load() == 1);
      CHECK(b.numbers[1].load() == 1);
      CHECK(backend::alive(b.ids[0].load()));
      CHECK(backend::alive(b.ids[1].load()));
      CHECK(b.ids[0].load() != mine);
    }
    raise(b.go, 1);
    CHECK(eventually([&] { return !backend::alive(b.ids[1].load()); }));
    CHECK(backend::alive(b.ids[0].load()));
    raise(b.go, 2);
    CHECK(other.end() == 0);
    CHECK(eventually([&] { return !backend::alive(b.ids[0].load()); }));

    CHECK(run_other("ask", n.name, std::to_string(mine)) == 0);
    CHECK(run_other("ask", n.name, std::to_string(b.ids[3].load())) == 0);
    raise(done, 1);
    late.join();
    CHECK(run_other("ask", n.name, std::to_string(b.ids[3].load())) == 1);
    CHECK(run_other("ask", n.name, std::to_string(b.ids[0].load())) == 1);
  }
}

TEST_CASE_METHOD(tidy, "whatever else is done with a name, its users do not look dead") {
  named n("trap");
  named of_board("trap-board");
  auto const mine = backend::self();
  auto const made = create(n.name, sizeof(board));
  auto const asked = [&] { return run_other("ask", n.name, std::to_string(mine)); };
  CHECK(asked() == 0);
  SECTION("opened and closed once more") {
    for (bool const writable : {true, false}) CHECK(open(n.name, writable));
    CHECK(asked() == 0);
  }
  SECTION("not removed") {
    CHECK_FALSE(backend::name_remove(n.name, no, nullptr));
    CHECK(asked() == 0);
  }
  SECTION("created in vain") {
    CHECK(!create(n.name, 100));
    CHECK(asked() == 0);
  }
  SECTION("first opened for reading") {
    // A program that has it for reading only, before and besides for writing.
    auto const second = create(of_board.name, sizeof(board));
    auto reader = open(of_board.name, false);
    auto const again = [&] { return run_other("ask", of_board.name, std::to_string(mine)); };
    CHECK(again() == 0);
    auto writer = open(of_board.name, true);
    writer.base()[0] = std::byte{1};
    reader.close();
    CHECK(again() == 0);
    writer.close();
    CHECK(again() == 0);
  }
  SECTION("by many threads, while another family looks") {
    beside other("watch", n.name, std::to_string(mine));
    auto& b = made.as<board>();
    CHECK(reaches(b.ready, 1));
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&, i] {
        auto const begun = backend::now();
        auto const enough = [&] { return backend::now() > begun + 700ms && b.numbers[0].load() > 50; };
        while (!enough() && backend::now() < begun + patience) {
          open(n.name, i == 0);
          if (i == 1) backend::name_remove(n.name, no, nullptr);
          if (i == 2) create(n.name, 64);
        }
      });
    }
    for (auto& t : threads) t.join();
    raise(b.go, 1);
    CHECK(other.end() == 0);
    CHECK(b.numbers[0].load() > 50);
  }
}

namespace {
/// A template, so that what needs fork is not compiled where there is none.
template <class Backend>
void fork_tests() {
  if constexpr (Backend::has_fork) {
    named n("forked");
    auto const mine = Backend::self();
    auto const made = create(n.name, sizeof(board));
    auto& b = made.template as<board>();
    auto const view = Backend::family_read_only();
    auto child = Backend::start_fork({.daemon = true});
    if (!child) {
      if (Backend::family_read_only().base != view.base) Backend::exit_now(1);
      b.ids[0].store(Backend::self());
      bump(b.ready);
      if (!reaches(b.go, 1)) Backend::exit_now(2);
      // What it inherited it may close, and open again.
      Backend::name_close(*Backend::name_open(n.name, true));
      bump(b.ready);
      if (!reaches(b.go, 2)) Backend::exit_now(3);
      Backend::exit_now(7);
    }
    CHECK(reaches(b.ready, 1));
    auto const childs = b.ids[0].load();
    CHECK(childs != mine);
    auto const ask = [&](std::uint64_t id) { return run_other("ask", n.name, std::to_string(id)); };
    CHECK(Backend::alive(childs));
    CHECK(ask(childs) == 0);
    CHECK(ask(mine) == 0);
    raise(b.go, 1);
    CHECK(reaches(b.ready, 2));
    CHECK(ask(childs) == 0);
    CHECK(ask(mine) == 0);
    raise(b.go, 2);
    CHECK(Backend::await_end(*child, in(patience)));
    CHECK(Backend::reap(*child).value == 7);
    Backend::release(*child);
    CHECK(ask(childs) == 1);
    CHECK(ask(mine) == 0);
  }
}

/// Sanitizers' own locks do not survive a fork beside threads.
#if defined(POLYPROC_TEST_ADDRESS_SANITIZER) || defined(POLYPROC_TEST_THREAD_SANITIZER)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

/// Forks in a program whose threads are at it.
template <class Backend>
void fork_storm() {
  if constexpr (Backend::has_fork && !sanitized) {
    named n("storm");
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        while (!stop) {
          create(n.name, 4096);
          open(n.name, false);
          remove(n.name);
        }
      });
    }
    for (int round = 0; round < 100; ++round) {
      auto child = Backend::start_fork({});
      if (!child) {
        try {
          create(n.name + ".child", 4096);
          bool const good = open(n.name + ".child") && remove(n.name + ".child") && Backend::alive(Backend::self());
          Backend::exit_now(good ? 7 : 1);
        } catch (...) {
          Backend::exit_now(2);
        }
      }
      CHECK(Backend::await_end(*child, in(patience)));
      CHECK(Backend::reap(*child).value == 7);
      Backend::release(*child);
    }
    stop = true;
    for (auto& t : threads) t.join();
  }
}
}  // namespace

TEST_CASE_METHOD(tidy, "a forked child has what its parent had open, and an identity there") { fork_tests<backend>(); }
TEST_CASE_METHOD(tidy, "a program may fork while its threads use names") { fork_storm<backend>(); }

// --- parking

TEST_CASE_METHOD(tidy, "who waits for a word in named memory is woken by another family") {
  named n("parking");
  auto const made = create(n.name, sizeof(board));
  auto& b = made.as<board>();
  constexpr std::uint32_t rounds = 100;
  beside other("play", n.name, std::to_string(rounds));
  int late = 0;
  for (std::uint32_t i = 1; i <= rounds; ++i) {
    auto const before = backend::now();
    raise(b.ping, i);
    if (!reaches(b.pong, i)) break;
    if (i > 1 && backend::now() - before >= 1s) ++late;
    if (i % 20 == 0) std::this_thread::sleep_for(20ms);  // so that the other sleeps deeper
  }
  CHECK(other.end() == 0);
  CHECK(late <= 3);
}

TEST_CASE_METHOD(tidy, "waiting in named memory keeps its deadline, and memory that is closed is as any other") {
  named n("deadline");
  auto made = create(n.name, sizeof(board));
  {
    auto& b = made.as<board>();
    backend::wait(b.ping, 1, polyproc::never);
    auto const before = backend::now();
    backend::wait(b.ping, 0, before);
    backend::wait(b.ping, 0, time_point{});
    while (backend::now() < before + 50ms) backend::wait(b.ping, 0, before + 50ms);
    CHECK(backend::now() - before >= 50ms);
    CHECK(backend::now() - before < 10s);
    backend::wake_one(b.ping);
    auto const reader = open(n.name, false);
    backend::wait(reader.as<board const>().ping, 1, polyproc::never);
    backend::wait(reader.as<board const>().ping, 0, in(10ms));
  }
  made.close();
  // A private word wakes as ever.
  word w{0};
  word back{0};
  std::thread t([&] {
    for (std::uint32_t i = 1; i <= 100; ++i) {
      reaches(w, i);
      raise(back, i);
    }
  });
  for (std::uint32_t i = 1; i <= 100; ++i) {
    raise(w, i);
    reaches(back, i);
  }
  t.join();
  CHECK(back.load() == 100);
}

int run_catch(int argc, char** argv);

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  own_path = argv[0];
  if (argc > 2 && std::strcmp(argv[1], "--named") == 0) {
    try {
      return other_family({argv + 2, argv + argc});
    } catch (std::exception const& failure) {
      std::fprintf(stderr, "another family: %s\n", failure.what());
      return 92;
    }
  }
  return run_catch(argc, argv);
}
