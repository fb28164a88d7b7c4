// apart: it replaces operator new
#include "support/tidy.hpp"

#include <map>
#include <memory>
#include <numeric>

using namespace std::chrono_literals;
using polyproc::local_joinable_queue;
using polyproc::local_queue;
using polyproc::queue_status;

namespace {

struct item {
  int producer = 0;
  int number = 0;
};

/// Counts its living, and throws from a move when told to.
struct counted {
  static inline std::atomic<int> alive{0};
  static inline std::atomic<int> moves{0};
  static inline bool throws = false;
  explicit counted(int n) : number(n) { ++alive; }
  counted(counted&& other) : number(std::exchange(other.number, -1)) {
    if (throws) {
      other.number = number;
      throw std::runtime_error("not now");
    }
    ++alive;
    ++moves;
  }
  counted& operator=(counted&&) = delete;
  ~counted() { --alive; }
  int number;
};

/// The elements of a vector, as rvalues.
struct moved_from {
  std::vector<std::unique_ptr<int>>& all;
  [[nodiscard]] auto begin() const { return std::move_iterator(all.begin()); }
  [[nodiscard]] auto end() const { return std::move_iterator(all.end()); }
};

}  // namespace

#if !defined(POLYPROC_TEST_THREAD_SANITIZER)  // which has operators of its own
static std::atomic<std::size_t> allocations{0};

// Not inline: a compiler that sees malloc and free in them takes them for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* const memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, std::nothrow_t const&) noexcept {
  ++allocations;
  return std::malloc(size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

TEST_CASE_METHOD(tidy, "values come out as they went in, in order") {
  local_queue<std::string> q(10);
  q.put("apples");
  std::string const pears = "pears";
  q.put(pears);
  q.put(std::string(100000, 'x'));
  CHECK(q.size() == 3);
  CHECK(q.get() == "apples");
  CHECK(q.get() == "pears");
  CHECK(q.get() == std::string(100000, 'x'));
  CHECK(q.empty());
}

TEST_CASE_METHOD(tidy, "a local queue's capacity is exact, and size, empty and full agree with it") {
  for (std::size_t const capacity : {1U, 2U, 3U, 7U, 100U, 5000U}) {
    local_queue<int> q(capacity);
    CHECK(q.capacity() == capacity);
    CHECK(q.empty());
    for (std::size_t i = 0; i < capacity; ++i) {
      CHECK_FALSE(q.full());
      CHECK(q.try_put(static_cast<int>(i)));
      CHECK(q.size() == i + 1);
    }
    CHECK(q.full());
    queue_status why{};
    CHECK_FALSE(q.try_put(0, why));
    CHECK(why == queue_status::full);
    CHECK_THROWS_AS(q.put_nowait(0), polyproc::queue_full);
    CHECK_FALSE(q.put_for(0, 5ms));
    for (std::size_t i = 0; i < capacity; ++i) CHECK(q.get() == static_cast<int>(i));
    CHECK_FALSE(q.try_get(why));
    CHECK(why == queue_status::empty);
    CHECK_THROWS_AS(q.get_nowait(), polyproc::queue_empty);
    CHECK_FALSE(q.get_for(5ms, why));
    CHECK(why == queue_status::timeout);
  }
  CHECK_THROWS_AS(local_queue<int>(0), std::invalid_argument);
  local_queue<int> q;
  CHECK(q.capacity() == std::numeric_limits<std::size_t>::max());
  CHECK_FALSE(q.full());
}

TEST_CASE_METHOD(tidy, "a closed local queue refuses puts, is drained, then says closed") {
  local_queue<int> q(4);
  q.put(1);
  q.put(2);
  q.close();
  q.close();
  CHECK(q.is_closed());
  CHECK_THROWS_AS(q.put(3), polyproc::queue_closed);
  CHECK_THROWS_AS(q.put_nowait(3), polyproc::queue_closed);
  CHECK_THROWS_AS(q.put_many(std::vector<int>{1, 2}), polyproc::queue_closed);
  queue_status why{};
  CHECK_FALSE(q.try_put(3, why));
  CHECK(why == queue_status::closed);
  CHECK(q.get() == 1);
  CHECK(q.try_get() == 2);
  CHECK_FALSE(q.try_get(why));
  CHECK(why == queue_status::closed);
  CHECK_THROWS_AS(q.get(), polyproc::queue_closed);
  CHECK_THROWS_AS(q.get_many(3), polyproc::queue_closed);
  CHECK_THROWS_AS(q.lease(), polyproc::queue_closed);
  CHECK_FALSE(q.get_for(1h));
  for (int i : q) FAIL("there is nothing left, but got " << i);
}

TEST_CASE_METHOD(tidy, "close wakes all who wait on either side") {
  for (int round = 0; round < 20; ++round) {
    local_queue<int> q(1);
    local_queue<int> full(1);
    full.put(1);
    std::atomic<int> told{0};  // the test library's macros are for one thread
    auto const expect_closed = [&](auto&& wait) {
      try {
        wait();
      } catch (polyproc::queue_closed const&) {
        ++told;
      }
    };
    std::vector<std::thread> all;
    for (int i = 0; i < 3; ++i) {
      all.emplace_back([&] { expect_closed([&] { (void)q.get(); }); });
      all.emplace_back([&] { expect_closed([&] { full.put(2); }); });
    }
    if (round % 2 == 0) std::this_thread::sleep_for(5ms);  // most of the time all are asleep then; both ways must end
    q.close();
    full.close();
    for (auto& t : all) t.join();
    CHECK(told == 6);
  }
}

TEST_CASE_METHOD(tidy, "values that can only be moved pass, and stay where they are when nothing is put") {
  local_queue<std::unique_ptr<int>> q(1);
  auto one = std::make_unique<int>(1);
  auto two = std::make_unique<int>(2);
  q.put(std::move(one));
  CHECK_FALSE(q.try_put(std::move(two)));
  CHECK_FALSE(q.put_for(std::move(two), 2ms));
  CHECK_THROWS_AS(q.put_nowait(std::move(two)), polyproc::queue_full);
  REQUIRE(two);
  CHECK(*q.get() == 1);
  CHECK(q.put_until(std::move(two), std::chrono::steady_clock::now()));
  {
    auto held = q.lease();
    CHECK(**held == 2);
  }
  CHECK(**q.try_get() == 2);
  std::vector<std::unique_ptr<int>> many;
  for (int i = 0; i < 100; ++i) many.push_back(std::make_unique<int>(i));
  local_queue<std::unique_ptr<int>> wide;
  wide.put_many(moved_from{many});
  auto const back = wide.get_many(1000);
  REQUIRE(back.size() == 100);
  for (int i = 0; i < 100; ++i) CHECK(*back[static_cast<std::size_t>(i)] == i);
  auto in_thread = wide;
  std::thread t([in_thread] { in_thread.put(std::make_unique<int>(7)); });
  CHECK(*wide.get() == 7);
  t.join();
}

TEST_CASE_METHOD(tidy, "many at once: a closed queue moves none, and those before one that cannot be copied are put") {
  local_queue<std::unique_ptr<int>> closed;
  closed.close();
  std::vector<std::unique_ptr<int>> many;
  for (int i = 0; i < 3; ++i) many.push_back(std::make_unique<int>(i));
  CHECK_THROWS_AS(closed.put_many(moved_from{many}), polyproc::queue_closed);
  for (auto const& one : many) CHECK(one);

  struct no_third {
    int number;
    explicit no_third(int n) : number(n) {}
    no_third(no_third const& other) : number(other.number) {
      if (number == 3) throw std::runtime_error("the third cannot be copied");
    }
    no_third(no_third&& other) noexcept : number(other.number) {}
    no_third& operator=(no_third const&) = default;
  };
  std::vector<no_third> numbers;
  for (int i = 1; i <= 4; ++i) numbers.emplace_back(i);
  local_queue<no_third> q;
  CHECK_THROWS_AS(q.put_many(numbers), std::runtime_error);
  CHECK(q.size() == 2);
  CHECK(q.get().number == 1);
  CHECK(q.get().number == 2);
}

TEST_CASE_METHOD(tidy, "every value that is put is destroyed once, also those nobody gets; one that cannot be moved stays") {
  {
    local_queue<counted> q;
    for (int i = 0; i < 1000; ++i) q.put(counted(i));
    for (int i = 0; i < 300; ++i) CHECK(q.get().number == i);
    CHECK(counted::alive == 700);
    counted::throws = true;
    CHECK_THROWS_AS(q.get(), std::runtime_error);
    CHECK_THROWS_AS(q.try_lease(), std::runtime_error);
    counted last(1000);
    CHECK_THROWS_AS(q.put(std::move(last)), std::runtime_error);
    counted::throws = false;
    CHECK(last.number == 1000);
    CHECK(q.size() == 700);
    CHECK(q.get().number == 300);
    auto held = q.try_lease();
    CHECK((*held)->number == 301);
    auto other = std::move(held);
    other->ack();
  }
  CHECK(counted::alive == 0);
}

#if !defined(POLYPROC_TEST_THREAD_SANITIZER)
TEST_CASE_METHOD(tidy, "in the steady state nothing is allocated") {
  local_queue<std::array<int, 20>> q(100);
  local_queue<std::array<char, 6000>> large(4);
  std::array<char, 6000> page{};
  auto const work = [&] {
    for (int i = 0; i < 90; ++i) q.put({i});
    for (int i = 0; i < 90; ++i) (void)q.get();
    for (int i = 0; i < 4; ++i) large.put(page);
    for (int i = 0; i < 4; ++i) (void)large.get();
    auto held = q.try_lease();
    q.put({1});
    { auto again = q.lease(); }
    auto again = q.lease();
    again.ack();
  };
  work();
  auto const before = allocations.load();
  for (int i = 0; i < 100; ++i) work();
  CHECK(allocations.load() == before);
}
#endif

TEST_CASE_METHOD(tidy, "many threads lose nothing and see nothing twice") {
  constexpr int each = 3000;
  local_queue<item> in(50);
  local_queue<item> out;
  std::vector<std::thread> producers;
  std::vector<std::thread> consumers;
  for (int i = 0; i < 4; ++i)
    producers.emplace_back([in, i] {
      for (int n = 0; n < each; ++n) in.put({i, n});
    });
  for (int i = 0; i < 4; ++i)
    consumers.emplace_back([in, out] {
      for (auto const& each_item : in) out.put(each_item);
    });
  std::map<std::pair<int, int>, int> seen;
  for (int i = 0; i < 4 * each; ++i) {
    auto const got = out.get();
    ++seen[{got.producer, got.number}];
  }
  CHECK(seen.size() == 4U * each);
  for (auto& t : producers) t.join();
  in.close();
  for (auto& t : consumers) t.join();
  CHECK(out.empty());
}

TEST_CASE_METHOD(tidy, "batches: each producer's messages in their order, and every form of taking") {
  constexpr int each = 3000;
  local_queue<item> q(10);
  std::vector<std::thread> producers;
  for (int i = 0; i < 2; ++i)
    producers.emplace_back([q, i] {
      std::vector<item> batch;
      for (int n = 0; n < each; ++n) {
        batch.push_back({i, n});
        if (static_cast<int>(batch.size()) == 1 + n % 37 || n + 1 == each) q.put_many(std::exchange(batch, {}));
      }
    });
  std::map<int, int> next;
  int seen = 0;
  auto const see = [&](item const& got) {
    REQUIRE(got.number == next[got.producer]++);
    ++seen;
  };
  for (int round = 0;; ++round) {
    if (seen == 2 * each) break;
    if (round % 4 == 0)
      for (auto const& got : q.get_many(7)) see(got);
    else if (round % 4 == 1)
      for (auto const& got : q.try_get_many(3)) see(got);
    else if (round % 4 == 2)
      for (auto const& got : q.get_many_for(1000, 1ms)) see(got);
    else if (auto const got = q.get_for(1ms))
      see(*got);
  }
  for (auto& t : producers) t.join();
  CHECK(q.get_many(0).empty());
}

TEST_CASE_METHOD(tidy, "what a lease gives back precedes everything not yet taken, in its order") {
  local_queue<int> q(5);
  for (int i = 1; i <= 5; ++i) q.put(i);
  {
    auto one = q.lease();
    auto two = q.try_lease();
    auto three = q.lease_for(1s);
    auto four = q.lease_until(std::chrono::steady_clock::now() + 1s);
    CHECK(*one == 1);
    CHECK(**two == 2);
    CHECK(**three == 3);
    CHECK(**four == 4);
    CHECK(q.size() == 1);
    three->ack();
    three->ack();
    CHECK(**three == 3);
    four->give_back();
    CHECK(q.size() == 2);
    *one = 11;
  }
  CHECK(q.size() == 4);
  CHECK_FALSE(q.full());
  q.put(6);
  {
    auto again = q.lease();
    CHECK(*again == 11);
  }
  CHECK(q.get_many(10) == std::vector<int>{11, 2, 4, 5, 6});
  CHECK_FALSE(q.try_lease());
  CHECK_FALSE(q.lease_for(2ms));
  // The holder's thread has ended, and somebody waits for what it held.
  q.put(7);
  auto held = std::optional(q.lease());
  std::thread t([&] { held.reset(); });
  CHECK(q.get() == 7);
  t.join();
  // A lease may outlive all handles.
  std::optional<polyproc::local_lease<std::string>> last;
  {
    local_queue<std::string> short_lived;
    short_lived.put("still here");
    last.emplace(short_lived.lease());
  }
  CHECK(**last == "still here");
}

TEST_CASE_METHOD(tidy, "gets report closed when nobody can put any more") {
  // Handles of both kinds are worth a sender, but for the caller's own.
  queue_status why{};
  {
    local_queue<int> q(4);
    CHECK_FALSE(q.try_get(why));
    CHECK(why == queue_status::empty);
    {
      auto const other = q;
    }
    CHECK_FALSE(q.try_get(why));
    CHECK(why == queue_status::empty);  // threads may share this very handle
    std::thread t([s = q.sender()] {
      for (int i = 0; i < 100; ++i) s.put(i);
    });
    int next = 0;
    for (int i : q) CHECK(i == next++);
    CHECK(next == 100);
    CHECK_FALSE(q.try_get(why));
    CHECK(why == queue_status::closed);
    CHECK_FALSE(q.is_closed());
    t.join();
    q.put(1);  // but this one can
    CHECK(q.get() == 1);
  }
  {
    std::optional<local_queue<int>> q(std::in_place, 4U);
    auto const r = q->receiver();
    auto const copy = r;
    CHECK(r == copy);
    std::thread t([s = q->sender()] { s.put(1); });
    t.join();
    CHECK(r.get() == 1);
    CHECK_FALSE(r.try_get(why));
    CHECK(why == queue_status::empty);
    std::atomic<bool> closed{false};
    std::thread waiting([&] {
      for (int i : copy) (void)i;
      closed = true;
    });
    std::this_thread::sleep_for(5ms);
    CHECK_FALSE(closed);
    q.reset();
    waiting.join();
    CHECK(closed);
    CHECK_THROWS_AS(r.get(), polyproc::queue_closed);
  }
  {
    // As a sender ends, its last message is seen before the end.
    for (int round = 0; round < 300; ++round) {
      local_queue<int> q(4);
      std::thread t([s = q.sender()] { s.put(1); });
      int sum = 0;
      for (int i : q) sum += i;
      CHECK(sum <= 1);
      t.join();
      if (sum == 0) CHECK(q.get() == 1);  // asked before the thread had its copy of the sender: does not happen
      else CHECK(sum == 1);
    }
  }
}

TEST_CASE_METHOD(tidy, "a local queue's timed forms return in time") {
  local_queue<int> q(1);
  for (auto const wait : {0ms, 2ms, 40ms}) {
    auto begin = std::chrono::steady_clock::now();
    CHECK_FALSE(q.get_for(wait));
    auto late = std::chrono::steady_clock::now() - begin - wait;
    CHECK(late >= 0ms);
    CHECK(late < 10s);
    begin = std::chrono::steady_clock::now();
    CHECK_FALSE(q.get_until(std::chrono::system_clock::now() + wait));
    CHECK(std::chrono::steady_clock::now() - begin - wait < 10s);
  }
  CHECK_FALSE(q.get_until(std::chrono::steady_clock::time_point{}));
  q.put(1);
  auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(q.put_until(2, begin + 30ms));
  auto const took = std::chrono::steady_clock::now() - begin;
  CHECK(took >= 30ms);
  CHECK(took < 10s);
  // As long as there is no end in sight.
  CHECK(q.get_for(std::chrono::hours::max()) == 1);
  std::thread t([&] { q.put(2); });
  CHECK(q.get_for(std::chrono::hours(24 * 365 * 200)) == 2);
  t.join();
}

TEST_CASE_METHOD(tidy, "sleepers that give up take nobody's wake with them") {
  local_queue<int> q;
  std::atomic<int> got{0};
  std::atomic<bool> over{false};
  std::vector<std::thread> all;
  for (int i = 0; i < 3; ++i)
    all.emplace_back([&] {
      while (!over)
        if (q.get_for(std::chrono::microseconds(50))) ++got;
    });
  all.emplace_back([&] {
    for ([[maybe_unused]] int n : q) ++got;  // sleeps without a limit
  });
  for (int i = 0; i < 3000; ++i) {
    q.put(i);
    if (i % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(i % 100));
  }
  auto const limit = std::chrono::steady_clock::now() + 30s;
  while (got < 3000 && std::chrono::steady_clock::now() < limit) std::this_thread::sleep_for(1ms);
  CHECK(got == 3000);
  over = true;
  q.close();
  for (auto& t : all) t.join();
}

TEST_CASE_METHOD(tidy, "a local joinable queue's join waits until all is done") {
  local_joinable_queue<int> q(5);
  q.join();
  CHECK_THROWS_AS(q.task_done(), std::logic_error);
  q.put(1);
  CHECK(q.unfinished() == 1);
  CHECK_FALSE(q.join_for(2ms));
  CHECK_THROWS_AS(q.task_done(), std::logic_error);
  CHECK(q.get() == 1);
  CHECK_FALSE(q.join_until(std::chrono::steady_clock::now() + 2ms));
  q.task_done();
  CHECK(q.join_for(0ms));
  // Work that makes more work: join never sees a moment without any.
  for (int round = 0; round < 50; ++round) {
    local_joinable_queue<int> work;
    std::atomic<int> done{0};
    std::vector<std::thread> workers;
    for (int i = 0; i < 3; ++i)
      workers.emplace_back([&] {
        for (int depth : work) {
          if (depth != 0) work.put(depth - 1);
          ++done;
          work.task_done();
        }
      });
    for (int i = 0; i < 10; ++i) work.put(20);
    work.join();
    CHECK(done == 210);
    CHECK(work.unfinished() == 0);
    work.close();
    for (auto& t : workers) t.join();
  }
}

TEST_CASE_METHOD(tidy, "messages written and read in place, as for queue") {
  local_queue<std::vector<double>> q(1);
  auto room = q.reserve(1000);
  CHECK(room.size() == 1000);
  std::iota(room.begin(), room.end(), 1.0);
  CHECK(room.try_commit());
  CHECK_THROWS_AS(room.try_commit(), std::logic_error);
  auto more = q.reserve(3);
  more.data()[2] = 7;
  CHECK_FALSE(more.commit_for(2ms));
  {
    auto const seen = q.view();
    CHECK(std::accumulate(seen.begin(), seen.end(), 0.0) == 500500);
  }
  std::move(more).commit();
  auto seen = q.try_view();
  REQUIRE(seen);
  CHECK(seen->elements()[2] == 7);
  seen->release();
  CHECK(seen->size() == 0);
  CHECK_FALSE(q.try_view());
  CHECK_FALSE(q.view_for(1ms));
}

TEST_CASE_METHOD(tidy, "wait_any waits for local queues, too") {
  local_queue<int> const a;
  local_queue<int> const b(1);
  polyproc::queue<int> const c;
  CHECK_FALSE(polyproc::wait_any_for(2ms, a, b, c));
  b.put(1);
  CHECK(polyproc::wait_any(a, b, c) == 1);
  CHECK(b.get() == 1);
  for (int round = 0; round < 50; ++round) {
    auto const begin = std::chrono::steady_clock::now();
    std::thread t([&] {
      if (round % 2 == 0) std::this_thread::sleep_for(1ms);
      if (round % 3 == 0) c.put(1);
      else a.put(1);
    });
    CHECK(polyproc::wait_any(a, b, c) == (round % 3 == 0 ? 2U : 0U));
    CHECK(std::chrono::steady_clock::now() - begin < 5s);
    (void)(round % 3 == 0 ? c.get() : a.get());
    t.join();
  }
  std::vector const all{a, b, a};
  std::thread t([&] { b.close(); });
  CHECK(polyproc::wait_any(all) == 1);
  t.join();
  std::optional<polyproc::local_queue_sender<int>> last(a.sender());
  std::thread u([&] { last.reset(); });
  auto const receiver = a.receiver();
  CHECK_FALSE(polyproc::wait_any_for(2ms, receiver));  // `all` has handles that can put
  u.join();
  std::optional<local_queue<int>> only(std::in_place);
  auto const left = only->receiver();
  std::thread v([&] { only.reset(); });
  CHECK(polyproc::wait_any_for(5s, a.receiver(), left) == 1U);
  v.join();
}
