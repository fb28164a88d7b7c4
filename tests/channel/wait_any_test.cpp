// timeout: 200
// Waiting for the first of several things.

#include "process/start_methods.hpp"
#include "support/stage.hpp"

#include <polyproc/channel/named_queue.hpp>
#include <polyproc/channel/pipe.hpp>
#include <polyproc/channel/wait_any.hpp>

#if defined(__linux__)
#include <sys/resource.h>
#endif

using namespace std::chrono_literals;
using polyproc::process;
using polyproc::process_options;
using polyproc::wait_any;
using polyproc::wait_any_for;
using polyproc::wait_any_until;

namespace {

struct flags {
  polyproc::event seen;
};

/// Runs `then` once somebody is likely to wait.
class soon {
 public:
  template <class F>
  explicit soon(F then) : thread_([then] {
    std::this_thread::sleep_for(20ms);
    then();
  }) {}
  soon(soon const&) = delete;
  soon& operator=(soon const&) = delete;
  ~soon() { thread_.join(); }

 private:
  std::thread thread_;
};

}  // namespace

TEST_CASE_METHOD(tidy, "wait_any: says which is ready, the first if there are several, and takes nothing") {
  polyproc::queue<int> a;
  polyproc::queue<int> b;
  b.put(1);
  CHECK(wait_any(a, b) == 1);
  a.put(1);
  CHECK(wait_any(a, b) == 0);
  CHECK(a.size() == 1);
  CHECK(wait_any_for(0ms, b, a) == 0U);
}

TEST_CASE_METHOD(tidy, "wait_any: timed forms come back in time with nothing") {
  polyproc::queue<int> a;
  polyproc::shared<flags> f;
  auto const began = std::chrono::steady_clock::now();
  CHECK(!wait_any_for(20ms, a, f->seen));
  CHECK(!wait_any_until(std::chrono::system_clock::now() + 10ms, a));
  CHECK(!wait_any_for(0ms, a, f->seen));
  CHECK(std::chrono::steady_clock::now() - began < 10s);
}

TEST_CASE_METHOD(tidy, "wait_any: is woken by each kind of thing, whatever else it waits for") {
  polyproc::queue<int> q;
  polyproc::queue<int> never_one;
  polyproc::shared<flags> f;
  auto [from, to] = polyproc::pipe<int>(polyproc::one_way);
  auto [end, other] = polyproc::pipe<int>();
  auto const [read, write] = polyproc::native_backend::pipe_create();
  SECTION("queue") {
    soon const s([&] { q.put(1); });
    CHECK(wait_any(never_one, q, f->seen, from, end) == 1);
  }
  SECTION("queue, beside a handle") {
    soon const s([&] { q.put(1); });
    CHECK(wait_any(never_one, read, q) == 2);
  }
  SECTION("event") {
    soon const s([&] { f->seen.set(); });
    CHECK(wait_any(never_one, q, f->seen) == 2);
  }
  SECTION("pipe") {
    soon const s([&, &w = to] { w.send(1); });
    CHECK(wait_any(never_one, from) == 1);
  }
  SECTION("the end of file") {
    soon const s([&, &w = to] { w.close(); });
    CHECK(wait_any(never_one, from) == 1);
  }
  SECTION("duplex pipe") {
    soon const s([&, &w = other] { w.send(1); });
    CHECK(wait_any(q, end) == 1);
  }
  SECTION("closed queue") {
    soon const s([&] { q.close(); });
    CHECK(wait_any(never_one, q) == 1);
  }
  SECTION("a native handle") {
    std::byte const one{1};
    soon const s([&, w = write] { polyproc::native_backend::pipe_write(w, {&one, 1}); });
    CHECK(wait_any(never_one, read, q) == 1);
  }
  SECTION("only handles") {
    std::byte const one{1};
    soon const s([&, w = write] { polyproc::native_backend::pipe_write(w, {&one, 1}); });
    CHECK(wait_any(read) == 0);
  }
  polyproc::native_backend::handle_close(read);
  polyproc::native_backend::handle_close(write);
}

TEST_CASE_METHOD(tidy, "wait_any: processes, references to them and futures") {
  shared_notes n;
  polyproc::queue<int> never_one;
  process p{[](shared_notes s) { until(s->a, 1); }, n};
  p.start();
  CHECK(!wait_any_for(20ms, never_one, p));
  polyproc::process_ref const ref = p.ref();
  CHECK(!wait_any_for(20ms, ref, never_one));
  {
    soon const s([&] { n->a = 1; });
    CHECK(wait_any(never_one, p) == 1);
    CHECK(wait_any(never_one, ref) == 1);
  }
  p.join();
  CHECK(wait_any(p) == 0);
  polyproc::process_pool pool{2};
  auto slow = pool.submit([](shared_notes s) { until(s->b, 1); }, n);
  auto quick = pool.submit([](int i) { return i; }, 3);
  CHECK(wait_any(slow, quick) == 1);
  CHECK(quick.get() == 3);
  soon const s([&] { n->b = 1; });
  CHECK(wait_any(never_one, slow) == 1);
}

TEST_CASE_METHOD(tidy, "wait_any: a producer that was killed is noticed") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    polyproc::queue<int> q;
    polyproc::queue<int> never_one;
    auto [from, to] = polyproc::pipe<int>(polyproc::one_way);
    shared_notes n;
    process p{process_options{.start = method},
              [](polyproc::queue_sender<int>, polyproc::pipe_writer<int> w, shared_notes s) {
                w.send(1);
                s->count = 1;
                until(s->a, 1);
              },
              q.sender(), std::move(to), n};
    p.start();
    until(n->count, 1);
    CHECK(wait_any(q, from) == 1);
    (void)from.recv();
    CHECK(!wait_any_for(10ms, q, from));
    p.kill();
    CHECK(wait_any(never_one, q) == 1);
    CHECK(wait_any(never_one, from) == 1);
    CHECK(!from.recv());
    p.join();
  }
}

TEST_CASE_METHOD(tidy, "wait_any: ranges, and more things than a system call takes") {
  std::vector<polyproc::queue<int>> many(200);
  CHECK(!wait_any_for(5ms, many));
  {
    soon const s([&] { many[150].put(1); });
    CHECK(wait_any(many) == 150);
  }
  std::vector<process> all;
  shared_notes n;
  for (int i = 0; i < 80; ++i) all.emplace_back(
        [](shared_notes s, long me) {
          while (s->a.load() != me) std::this_thread::sleep_for(20ms);  // so many would keep each other from running
        },
        n, i + 1);
  for (auto& p : all) p.start();
  CHECK(!wait_any_for(5ms, all));
  n->a = 71;
  CHECK(wait_any(all) == 70);
  for (auto& p : all) p.kill();
  for (auto& p : all) p.join();
  std::vector<polyproc::queue<int>> none;
  CHECK(!wait_any_for(1ms, none));
}

#if defined(__linux__)
TEST_CASE_METHOD(tidy, "wait_any: who waits is asleep, and does not look again every few milliseconds") {
  polyproc::queue<int> q;
  polyproc::event set;
  auto [reader, writer] = polyproc::pipe<int>(polyproc::one_way);
  auto [here, there] = polyproc::stream::pair();
  auto const sleeps = [] {
    rusage used{};
    ::getrusage(RUSAGE_THREAD, &used);
    return used.ru_nvcsw;  // a yield between looks is no sleep, and is not counted here
  };
  auto const before = sleeps();
  CHECK_FALSE(wait_any_for(400ms, q, set, reader, here, there.native_handle()));
  CHECK(sleeps() - before <= 10);
  CHECK(sleeps() > before);
}
#endif

TEST_CASE_METHOD(tidy, "wait_any: a message that somebody had leased and died with makes the queue ready") {
  polyproc::queue<int> q;
  polyproc::queue<int> other;
  polyproc::queue<int> told;
  q.put(7);
  auto holder = polyproc::launch(
      [](polyproc::queue<int> from, polyproc::queue<int> to) {
        auto const held = from.lease();
        to.put(*held);
        sleep_until_killed();
      },
      q, told);
  CHECK(told.get() == 7);
  CHECK(!wait_any_for(0ms, other, q));
  holder.kill();
  holder.join();
  CHECK(wait_any_for(5s, other, q) == 1U);
  CHECK(q.try_get() == 7);
}
