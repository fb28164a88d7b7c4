#include "support/tidy.hpp"

#include "task/counting.hpp"

#include <deque>
#include <list>
#include <numeric>
#include <sstream>

using namespace std::chrono_literals;

namespace {

int square(int x) { return x * x; }
int plus(int a, int b) { return a + b; }
void nothing(int) {}
bool is_odd(int x) { return x % 2 != 0; }
std::string twice(std::string const& s) { return s + s; }
int picky(int x) {
  if (x % 10 == 3) throw std::out_of_range("picky about " + std::to_string(x));
  return x;
}
int stuck(int) {
  while (!polyproc::this_task::stop_requested()) std::this_thread::sleep_for(1ms);
  return 0;
}

/// Values that are there only once each: reading the next one takes it away.
class stream_of_ints {
 public:
  explicit stream_of_ints(std::string const& text) : in_(text) {}
  struct iterator {
    using iterator_concept = std::input_iterator_tag;
    using value_type = int;
    using difference_type = std::ptrdiff_t;
    stream_of_ints* from = nullptr;
    int const& operator*() const { return from->now_; }
    iterator& operator++() {
      from->read();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return !from->in_; }
  };
  iterator begin() {
    read();
    return {this};
  }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }

 private:
  void read() { in_ >> now_; }
  std::istringstream in_;
  int now_ = 0;
};

/// Fails at its fourth item.
struct failing {
  struct iterator {
    using iterator_concept = std::input_iterator_tag;
    using value_type = int;
    using difference_type = std::ptrdiff_t;
    int now = 0;
    int operator*() const { return now; }
    iterator& operator++() {
      if (++now == 3) throw std::runtime_error("no more input");
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return false; }
  };
  [[nodiscard]] iterator begin() const { return {}; }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }
};

/// Written against the concept alone.
template <polyproc::executor Pool>
int sum_of_squares(Pool& pool, int n) {
  std::vector<int> in(static_cast<std::size_t>(n));
  std::iota(in.begin(), in.end(), 0);
  auto const out = pool.map(square, in);
  return std::accumulate(out.begin(), out.end(), 0);
}

}  // namespace

static_assert(polyproc::executor<polyproc::thread_pool> && polyproc::executor<polyproc::process_pool>);

// Every pool for which the promises below hold. What they run is what a process can run.
#define POOLS polyproc::thread_pool, polyproc::process_pool

TEMPLATE_TEST_CASE("code may be written against the concept", "", POOLS) {
  tidy const clean;
  TestType pool(2);
  CHECK(sum_of_squares(pool, 100) == 328350);
  CHECK(pool.size() == 2);
  auto f = pool.submit(plus, 2, 3);
  CHECK(f.get() == 5);
  CHECK(pool.submit({.name = "with options", .priority = 1}, plus, 2, 3).get() == 5);
  CHECK(pool.apply(plus, 4, 5) == 9);
  CHECK(pool.apply({.time_limit = 1h}, plus, 4, 5) == 9);
  CHECK(pool.try_submit(square, 2).value().get() == 4);
  CHECK(pool.submit_for(1h, square, 3).value().get() == 9);
  CHECK(pool.apply(twice, std::string("ab")) == "abab");
  pool.close();
  pool.join();
  auto const s = pool.stats();
  CHECK(s.submitted == s.done);
  CHECK(s.waiting + s.running + s.failed + s.cancelled == 0);
}

TEMPLATE_TEST_CASE("map keeps the order of its items, whatever the size of its chunks", "", POOLS) {
  tidy const clean;
  TestType pool(2);
  std::vector<int> in(1001);
  std::iota(in.begin(), in.end(), 0);
  for (std::size_t const chunk : {0U, 1U, 7U, 1000U, 5000U}) {
    auto const out = pool.map(square, in, {.chunk = chunk});
    REQUIRE(out.size() == in.size());
    for (std::size_t i = 0; i < in.size(); ++i) CHECK(out[i] == in[i] * in[i]);
  }
  CHECK(pool.map(square, std::vector<int>{}).empty());
  CHECK(pool.map([](int x) { return std::to_string(x); }, std::list<int>{1, 2}) == std::vector<std::string>{"1", "2"});
  CHECK(pool.map(is_odd, std::vector<int>{1, 2}) == std::vector<bool>{true, false});
  CHECK(pool.map([](bool b) { return !b; }, std::vector<bool>{true, false}) == std::vector<bool>{false, true});
  CHECK(pool.map(square, counting(4)) == std::vector<int>{0, 1, 4, 9});
  CHECK(pool.map(square, stream_of_ints("1 2 3"), {.chunk = 2}) == std::vector<int>{1, 4, 9});
  int const array[] = {1, 2};
  CHECK(pool.map(square, array) == std::vector<int>{1, 4});
  pool.map(nothing, in);
  pool.for_each(nothing, in);
  pool.for_each(square, counting(100));
}

TEMPLATE_TEST_CASE("starmap takes the parts of each item as arguments", "", POOLS) {
  tidy const clean;
  TestType pool(2);
  CHECK(pool.starmap(plus, std::vector<std::pair<int, int>>{{1, 2}, {3, 4}}) == std::vector<int>{3, 7});
  CHECK(pool.starmap([](std::string const& s, int n) { return s + std::to_string(n); },
                     std::vector<std::tuple<std::string, int>>{{"a", 1}, {"b", 2}}) == std::vector<std::string>{"a1", "b2"});
}

TEMPLATE_TEST_CASE("a map throws the first failure in the order of its items, after all has ended", "", POOLS) {
  tidy const clean;
  TestType pool(2);
  for (std::size_t const chunk : {0U, 1U, 3U}) {
    std::vector<int> in(100);
    std::iota(in.begin(), in.end(), 0);
    CHECK_THROWS_WITH(pool.map(picky, in, {.chunk = chunk}), "picky about 3");
    CHECK_THROWS_WITH(pool.for_each(picky, in, {.chunk = chunk}), "picky about 3");
    auto const s = pool.stats();
    CHECK(s.waiting + s.running == 0);
  }
  CHECK(pool.apply(square, 3) == 9);
}

TEMPLATE_TEST_CASE("[H10] imap takes no more of its input than its window, so the input may be infinite", "", POOLS) {
  tidy const clean;
  TestType pool(2);
  for (int const window : {1, 3, 8}) {
    counting const input;
    int given = 0;
    auto results = pool.imap(square, input, {.window = static_cast<std::size_t>(window)});
    CHECK(input.taken() == 0);  // nothing begins before begin()
    for (auto const r : results) {
      CHECK(r == given * given);
      ++given;
      CHECK(input.taken() <= given + window - 1);
      if (given == 50) break;
    }
    CHECK(given == 50);
  }
  counting const by_default;
  int given = 0;
  for (auto const r : pool.imap(square, by_default)) {
    CHECK(r == given * given);
    if (++given == 10) break;
  }
  CHECK(by_default.taken() <= 10 + 8);
  counting const chunks;
  given = 0;
  for (auto const r : pool.imap(square, chunks, {.window = 20, .chunk = 5})) {
    CHECK(r == given * given);
    ++given;
    CHECK(chunks.taken() <= given + 20 + 4);
    if (given == 52) break;
  }
}

TEMPLATE_TEST_CASE("[H10] imap works with inputs that can be read once, and ends with them", "", POOLS) {
  tidy const clean;
  TestType pool(2);
  std::vector<int> out;
  for (auto const r : pool.imap(square, stream_of_ints("1 2 3 4 5 6 7"), {.window = 2})) out.push_back(r);
  CHECK(out == std::vector<int>{1, 4, 9, 16, 25, 36, 49});
  out.clear();
  for (auto const r : pool.imap(square, stream_of_ints(""))) out.push_back(r);
  CHECK(out.empty());
  std::vector<int> const in{3, 4};
  for (auto const r : pool.imap(square, in, {.chunk = 100})) out.push_back(r);
  CHECK(out == std::vector<int>{9, 16});
  int count = 0;
  for ([[maybe_unused]] auto&& done : pool.imap(nothing, in)) ++count;
  CHECK(count == 2);
}

TEMPLATE_TEST_CASE("[H10] imap_unordered gives each result as it comes", "", POOLS) {
  tidy const clean;
  TestType pool(2);
  std::vector<int> out;
  for (auto const r : pool.imap_unordered(square, counting(500), {.window = 7})) out.push_back(r);
  std::sort(out.begin(), out.end());
  REQUIRE(out.size() == 500);
  for (int i = 0; i < 500; ++i) CHECK(out[static_cast<std::size_t>(i)] == i * i);
  // The first one does not end before the others were given.
  auto results = pool.imap_unordered(
      [](int x) {
        if (x == 0) (void)stuck(0);
        return x;
      },
      counting(5), {.window = 5});
  out.clear();
  auto it = results.begin();
  for (int i = 0; i < 4; ++i, i < 4 ? void(++it) : void()) out.push_back(*it);
  std::sort(out.begin(), out.end());
  CHECK(out == std::vector<int>{1, 2, 3, 4});
}

TEMPLATE_TEST_CASE("[H10] an imap that is left early cancels what it has under way", "", POOLS) {
  tidy const clean;
  TestType pool(2);
  {
    auto results = pool.imap(
        [](int x) {
          if (x != 0) (void)stuck(0);
          return x;
        },
        counting(), {.window = 10});
    auto const it = results.begin();
    CHECK(*it == 0);
  }
  CHECK(pool.apply(square, 3) == 9);  // nobody is stuck
  {
    auto results = pool.imap_unordered(square, counting());
    (void)results.begin();
  }
  { auto const never_begun = pool.imap(square, counting()); }
  CHECK(pool.apply(square, 3) == 9);
}

TEMPLATE_TEST_CASE("a failure in an imap is that one result's, and one can go on after it", "", POOLS) {
  tidy const clean;
  TestType pool(2);
  for (bool const ordered : {true, false}) {
    int failures = 0;
    int values = 0;
    auto const go_through = [&](auto results) {
      for (auto it = results.begin(); it != results.end(); ++it) {
        try {
          (void)*it;
          ++values;
        } catch (std::out_of_range const&) {
          ++failures;
        }
      }
    };
    if (ordered) go_through(pool.imap(picky, counting(40)));
    else go_through(pool.imap_unordered(picky, counting(40)));
    CHECK(failures == 4);
    CHECK(values == 36);
  }
  // A failure of the input comes in its place, and is the end.
  std::vector<int> out;
  auto results = pool.imap(square, failing{});
  auto it = results.begin();
  for (; out.size() < 3; ++it) out.push_back(*it);
  CHECK(out == std::vector<int>{0, 1, 4});
  CHECK(it != results.end());
  CHECK_THROWS_WITH(*it, "no more input");
  ++it;
  CHECK(it == results.end());
  CHECK_THROWS_WITH(pool.for_each(square, failing{}), "no more input");
}

TEMPLATE_TEST_CASE("results of an imap may be ones that can only be moved, and it may be moved itself", "", POOLS) {
  tidy const clean;
  TestType pool(2);
  auto results = pool.imap([](int x) { return std::vector<std::string>(1, std::to_string(x)); }, counting());
  auto moved = std::move(results);
  int i = 0;
  for (auto r : moved) {
    CHECK(r == std::vector<std::string>{std::to_string(i)});
    if (++i == 10) break;
  }
  static_assert(std::ranges::input_range<decltype(moved)>);
  static_assert(std::ranges::view<decltype(moved)>);
}

TEMPLATE_TEST_CASE("a closed pool refuses every way to give it work", "", POOLS) {
  tidy const clean;
  TestType pool(1);
  pool.close();
  CHECK_THROWS_AS((void)pool.submit(square, 1), std::logic_error);
  CHECK_THROWS_AS((void)pool.try_submit(square, 1), std::logic_error);
  CHECK_THROWS_AS((void)pool.submit_for(1ms, square, 1), std::logic_error);
  CHECK_THROWS_AS(pool.apply(square, 1), std::logic_error);
  CHECK_THROWS_AS(pool.map(square, std::vector<int>{1}), std::logic_error);
  CHECK_THROWS_AS(pool.for_each(square, std::vector<int>{1}), std::logic_error);
  auto results = pool.imap(square, std::vector<int>{1});
  auto const it = results.begin();
  CHECK_THROWS_AS(*it, std::logic_error);
  pool.shutdown(true);
}

TEMPLATE_TEST_CASE("a join with a limit tells whether all has ended, and may be tried again", "", POOLS) {
  tidy const clean;
  TestType pool(1);
  CHECK_THROWS_AS((void)pool.join_for(1ms), std::logic_error);
  auto f = pool.submit(stuck, 1);
  auto waits = pool.submit(square, 2);
  pool.close();
  CHECK_FALSE(pool.join_for(20ms));
  CHECK_FALSE(pool.join_until(std::chrono::steady_clock::now()));
  CHECK(f.cancel());
  CHECK(pool.join_for(1h));
  CHECK(waits.get() == 4);
  CHECK(pool.join_for(0ms));
  pool.join();
}

#if !defined(__clang__) || __clang_major__ >= 16  // older ones cannot compile the views of GCC's library
TEMPLATE_TEST_CASE("[H10] imap and map go with the views of the standard library, on both sides", "", POOLS) {
  tidy const clean;
  TestType pool(2);
  CHECK(pool.map(square, std::views::iota(0, 4)) == std::vector<int>{0, 1, 4, 9});
  int sum = 0;
  for (auto const r : pool.imap(square, std::views::iota(0)) | std::views::take(4)) sum += r;
  CHECK(sum == 14);
  auto odd = std::views::iota(0) | std::views::filter(is_odd);
  sum = 0;
  for (auto const r : pool.imap(square, odd, {.window = 4})) {
    sum += r;
    if (r == 25) break;
  }
  CHECK(sum == 35);
}
#endif
