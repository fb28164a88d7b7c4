#include "support/tidy.hpp"

#include <future>
#include <numeric>

using namespace std::chrono_literals;

namespace {

long fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
std::string twice(std::string const& s) { return s + s; }
std::vector<std::byte> large(std::size_t size) { return std::vector<std::byte>(size, std::byte{7}); }
void nothing() {}
long own_pid() { return polyproc::this_process::pid(); }
std::string own_name() { return polyproc::this_process::name(); }

class own_error : public polyproc::travelling_error<own_error> {
 public:
  explicit own_error(int number) : travelling_error("number " + std::to_string(number)), number_(number) {}
  [[nodiscard]] std::tuple<int> parts() const { return {number_}; }
  [[nodiscard]] int number() const { return number_; }

 private:
  int number_;
};

int fail(std::string const& how) {
  if (how == "range") throw std::out_of_range("too far");
  if (how == "own") throw own_error(17);
  if (how == "nested") {
    try {
      throw own_error(3);
    } catch (...) {
      std::throw_with_nested(std::runtime_error("outside"));
    }
  }
  if (how == "exit") polyproc::this_process::exit(3);
  if (how == "at once") polyproc::native_backend::exit_now(4);
  if (how == "abort") std::abort();
  throw 42;
}

struct unreadable {
  int value = 0;
};
unreadable give_unreadable() { return {1}; }
struct unwritable {
  int value = 0;
};
unwritable give_unwritable() { return {1}; }

struct place {
  std::atomic<long> pid{0};
  std::atomic<long> child{0};
  std::atomic<int> open{0};
};
void stay(polyproc::shared<place> at) {
  at->pid = polyproc::this_process::pid();
  for (;;) std::this_thread::sleep_for(1h);
}
void stay_with_child(polyproc::shared<place> at) {
  polyproc::process child(stay, at);
  child.start();
  while (at->pid == 0) polyproc::native_backend::yield();
  at->child = *child.pid();
  for (;;) std::this_thread::sleep_for(1h);
}
int until_open(polyproc::shared<place> at, int value) {
  at->pid = polyproc::this_process::pid();
  while (at->open == 0) std::this_thread::sleep_for(1ms);
  return value;
}
polyproc::queue<int> make_queue() {
  polyproc::queue<int> q;
  q.put(11);
  return q;
}
void put(polyproc::queue<int> q, int value) { q.put(value); }
long nested(int depth) {
  if (depth == 0) return 1;
  auto left = polyproc::async(nested, depth - 1);
  return left.get() + 1;
}
int read_end(polyproc::pipe_reader<int> from) { return from.recv().value_or(-1); }

long wait_for(std::atomic<long>& what) {
  while (what == 0) polyproc::native_backend::yield();
  return what;
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

template <>
struct polyproc::codec<unreadable> {
  static void write(writer& out, unreadable const& value) { encode(out, value.value); }
  static unreadable read(reader& in) { in.fail("this is never liked"); }
};
template <>
struct polyproc::codec<unwritable> {
  static void write(writer&, unwritable const&) { throw std::length_error("cannot be written"); }
  static unwritable read(reader&) { return {}; }
};

TEST_CASE_METHOD(tidy, "async computes in a process of its own, and the future has what it returns") {
  auto answer = polyproc::async(fib, 20);
  static_assert(std::is_same_v<decltype(answer), polyproc::future<long>>);
  CHECK(answer.get() == 6765);
  CHECK(polyproc::async(own_pid).get() != polyproc::this_process::pid());
  CHECK(polyproc::async(twice, "ab").get() == "abab");
  CHECK(polyproc::async([](int a, int b) { return a * b; }, 6, 7).get() == 42);
  polyproc::async(nothing).get();
  CHECK(polyproc::async({.name = "mine"}, own_name).get() == "mine");
  CHECK(polyproc::async(polyproc::process_options{.start = polyproc::start_method::spawn}, fib, 10).get() == 55);
}

TEST_CASE_METHOD(tidy, "results of any size arrive, and their memory is given back") {
  auto const before = polyproc::detail::arena<polyproc::native_backend>::used_bytes();
  for (std::size_t const size : {0U, 800U, 900U, 1000U, 5000U, 1U << 20, 32U << 20})
    CHECK(polyproc::async(large, size).get() == std::vector<std::byte>(size, std::byte{7}));
  // Less: what a process of before had may have been there at the beginning.
  for (int i = 0; i < 2000 && polyproc::detail::arena<polyproc::native_backend>::used_bytes() > before; ++i)
    std::this_thread::sleep_for(1ms);
  CHECK(polyproc::detail::arena<polyproc::native_backend>::used_bytes() <= before);
}

TEST_CASE_METHOD(tidy, "[H8] exceptions arrive as themselves, types of the user's too, with what is nested in them") {
  CHECK_THROWS_AS(polyproc::async(fail, "range").get(), std::out_of_range);
  CHECK_THROWS_AS(polyproc::async(fail, "").get(), polyproc::remote_error);
  try {
    (void)polyproc::async(fail, "own").get();
    FAIL("it throws");
  } catch (own_error const& e) {
    CHECK(e.number() == 17);
  }
#if defined(__GXX_RTTI)
  try {
    (void)polyproc::async(fail, "nested").get();
    FAIL("it throws");
  } catch (std::runtime_error const& e) {
    CHECK_THROWS_AS(std::rethrow_if_nested(e), own_error);
  }
#endif
}

TEST_CASE_METHOD(tidy, "[H1] a process that ends without an answer is worker_lost, with its number and how it ended") {
  auto const lost = [](std::string const& how) {
    try {
      (void)polyproc::async(fail, how).get();
    } catch (polyproc::worker_lost const& e) {
      CHECK(e.pid() > 0);
      CHECK(std::string(e.what()).find(std::to_string(e.pid())) != std::string::npos);
      return e.exit_code();
    }
    return 0;
  };
  CHECK(lost("exit") == 3);
  CHECK(lost("at once") == 4);
  CHECK(lost("abort") != 0);
  polyproc::shared<place> at;
  auto f = polyproc::async(stay, at);
  auto const pid = wait_for(at->pid);
  for (auto const& child : polyproc::active_children())
    if (child.pid() == pid) child.kill();
  try {
    f.get();
    FAIL("it was killed");
  } catch (polyproc::worker_lost const& e) {
    CHECK(e.pid() == pid);
    CHECK(e.exit_code() == -9);
  }
}

TEST_CASE_METHOD(tidy, "[H9] an answer that cannot be written or read is that error") {
  CHECK_THROWS_AS(polyproc::async(give_unwritable).get(), std::length_error);
  CHECK_THROWS_AS(polyproc::async(give_unreadable).get(), polyproc::decode_error);
}

TEST_CASE_METHOD(tidy, "[H4] cancel ends what runs, with all that it has started, at once") {
  polyproc::shared<place> at;
  auto f = polyproc::async(stay_with_child, at);
  auto const child = wait_for(at->child);
  auto const begin = std::chrono::steady_clock::now();
  CHECK(f.cancel());
  CHECK_THROWS_AS(f.get(), polyproc::task_cancelled);
  auto const took = std::chrono::steady_clock::now() - begin;
  CHECK(took < 5s);
  CHECK(gone(child));
  auto done = polyproc::async(fib, 5);
  done.wait();
  CHECK_FALSE(done.cancel());
  CHECK(done.get() == 5);
}

TEST_CASE_METHOD(tidy, "a cancellation at any moment gives task_cancelled or the value") {
  unsigned cancelled = 0;
  for (int i = 0; i < 30; ++i) {
    auto f = polyproc::async(fib, 10);
    if (i % 3 != 0) std::this_thread::sleep_for(std::chrono::microseconds(100 * i));
    if (f.cancel()) {
      ++cancelled;
      CHECK_THROWS_AS(f.get(), polyproc::task_cancelled);
    } else {
      CHECK(f.get() == 55);
    }
  }
  CHECK(cancelled > 0);
}

TEST_CASE_METHOD(tidy, "[H15] a future that is dropped waits for nobody, and the process comes to its end") {
  polyproc::shared<place> at;
  auto const begin = std::chrono::steady_clock::now();
  { auto dropped = polyproc::async(until_open, at, 1); }
  CHECK(std::chrono::steady_clock::now() - begin < 5s);
  auto const pid = wait_for(at->pid);
  at->open = 1;
  CHECK(gone(pid));
}

TEST_CASE_METHOD(tidy, "queues are arguments and results, and what a dropped answer held is let go of") {
  auto const before = polyproc::detail::arena<polyproc::native_backend>::used_bytes();
  {
    polyproc::queue<int> q;
    polyproc::async(put, q, 5).get();
    CHECK(q.get() == 5);
    CHECK(polyproc::async(make_queue).get().get() == 11);
    std::promise<void> over;
    polyproc::async(make_queue).on_done([&](auto const&) { over.set_value(); });
    over.get_future().wait();
    auto [from, to] = polyproc::pipe<int>(polyproc::one_way);
    auto got = polyproc::async(read_end, std::move(from));
    to.send(9);
    CHECK(got.get() == 9);
  }
  // Less: what the process of a dropped future had was still there at the beginning.
  for (int i = 0; i < 2000 && polyproc::detail::arena<polyproc::native_backend>::used_bytes() > before; ++i)
    std::this_thread::sleep_for(1ms);
  CHECK(polyproc::detail::arena<polyproc::native_backend>::used_bytes() <= before);
}

TEST_CASE_METHOD(tidy, "[H16] what runs in an async process may use async") {
  for (int round = 0; round < 3; ++round) CHECK(polyproc::async(nested, 4).get() == 5);
}

namespace {

struct exit_notes {
  std::atomic<int> begun{0};
  std::atomic<int> exiting{0};
  std::atomic<int> made{0};
  std::atomic<int> next_ran{0};
};
polyproc::shared<exit_notes>& notes_of_exit() {
  static auto* const one = new polyproc::shared<exit_notes>;
  return *one;
}

/// Ends with a callback that makes a static object with a destructor when exit handlers run already, and one behind it.
void exit_beside_a_callback(polyproc::shared<exit_notes> notes) {
  notes_of_exit() = notes;
  polyproc::promise<void> told;
  auto first = told.get_future();
  first.on_done([](auto&) {
    auto& n = *notes_of_exit();
    ++n.begun;
    while (n.exiting == 0) std::this_thread::sleep_for(1ms);
    static std::vector<int> const with_destructor(10, 7);
    n.made = with_destructor[3];
  });
  first.on_done([](auto&) { ++notes_of_exit()->next_ran; });
  told.set_value();
  while (notes->begun == 0) std::this_thread::sleep_for(1ms);
  std::atexit([] { ++notes_of_exit()->exiting; });
}

}  // namespace

TEST_CASE_METHOD(tidy, "a process ends though a callback needs what its exit holds, and the other callbacks run") {
  polyproc::shared<exit_notes> notes;
  polyproc::process p(exit_beside_a_callback, notes);
  p.start();
  REQUIRE(p.join_for(60s));
  CHECK(p.exit_code() == 0);
  CHECK(notes->next_ran == 1);
#if !defined(_WIN32)  // there it waits until the process is gone
  CHECK(notes->made == 7);
#endif
}

TEST_CASE_METHOD(tidy, "a callback that takes its time keeps no other future from its outcome, and may wait for one") {
  std::promise<void> release;
  auto const open = release.get_future().share();
  auto slow = polyproc::async(fib, 1);
  std::promise<long> from_inside;
  std::promise<void> over;
  slow.on_done([&](auto const&) {
    from_inside.set_value(polyproc::async(fib, 10).then([](long x) { return x + 1; }).get());
    open.wait();  // of a future that is not ours: nobody can take this thread's place
    over.set_value();
  });
  CHECK(from_inside.get_future().get() == 56);
  CHECK(polyproc::async(fib, 11).get() == 89);
  release.set_value();
  over.get_future().wait();
  CHECK(slow.get() == 1);
}

TEST_CASE_METHOD(tidy, "many at once all arrive") {
  std::vector<polyproc::future<long>> all;
  for (int i = 0; i < 60; ++i) all.push_back(polyproc::async(fib, i % 15));
  for (int i = 0; i < 60; ++i) CHECK(all[static_cast<std::size_t>(i)].get() == fib(i % 15));
}
