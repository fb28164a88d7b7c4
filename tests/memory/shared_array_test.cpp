#include "support/stage.hpp"
#include "support/tidy.hpp"

#include <deque>
#include <numeric>
#include <ranges>
#include <vector>

using namespace std::chrono_literals;

namespace {

using arena = polyproc::detail::arena<polyproc::native_backend>;

struct cell {
  int value = 7;
  char const padding[3] = {};
};

void fill(polyproc::shared_array<double> all, std::size_t from, std::size_t count) {
  auto const part = all.slice(from, count);
  std::iota(part.begin(), part.end(), static_cast<double>(from));
}
void write_anyway(polyproc::shared<int const> seen) { const_cast<int&>(*seen) = 1; }
void write_anyway_array(polyproc::shared_array<int const> seen) { const_cast<int&>(seen[0]) = 1; }
void write_anyway_bytes(polyproc::read_only_segment seen) { const_cast<std::byte&>(seen.bytes()[0]) = std::byte{1}; }
void copy_bytes(polyproc::shared_segment to, polyproc::read_only_segment from) {
  std::ranges::copy(from.bytes(), to.bytes().begin());
}
long sum(polyproc::shared_array<long const> all) { return std::accumulate(all.begin(), all.end(), 0L); }

template <class T>
using vector = std::vector<T, polyproc::heap_allocator<T>>;
struct library {
  explicit library(polyproc::heap_allocator<std::byte> const& in) : numbers(in), lines(in), waiting(in) {}
  polyproc::mutex lock;
  vector<int> numbers;
  vector<vector<char>> lines;
  std::deque<long, polyproc::heap_allocator<long>> waiting;
};
void write_library(polyproc::shared_heap heap, int count) {
  auto& l = heap.root<library>();
  for (int i = 0; i < count; ++i) {
    polyproc::lock hold{l.lock};
    l.numbers.push_back(i);
    l.lines.emplace_back(std::size_t{50}, static_cast<char>('a' + i % 26), heap.allocator<char>());
    l.waiting.push_back(i);
  }
}
struct endless {
  polyproc::mutex lock;
  polyproc::offset_ptr<int> piece;
};
void allocate_and_free(polyproc::shared_heap heap, polyproc::shared<stage> s) {
  auto numbers = heap.allocator<int>();
  s->add();
  for (std::size_t n = 1;; n = n % 500 + 7) numbers.deallocate(numbers.allocate(n), n);
}

int end_of(polyproc::process& p) {
  p.join();
  return p.exit_code().value();
}

}  // namespace

TEST_CASE_METHOD(tidy, "an array is seen by every process, whole or in parts, and travels") {
  polyproc::shared_array<double> all(1000);
  CHECK(all.size() == 1000);
  CHECK(std::ranges::all_of(all, [](double d) { return d == 0.0; }));
  auto p = polyproc::launch(fill, all, std::size_t{0}, std::size_t{500});
  auto q = polyproc::launch(fill, all, std::size_t{500}, std::size_t{500});
  p.join();
  q.join();
  CHECK(all[999] == 999.0);
  CHECK(std::ranges::is_sorted(all));
  polyproc::queue<polyproc::shared_array<double>> letters(1);
  letters.put(all);
  CHECK(letters.get() == all);
  polyproc::process_pool pool(1);
  CHECK(pool.apply(sum, polyproc::shared_array<long>{1, 2, 3}) == 6);
}

TEST_CASE_METHOD(tidy, "arrays are made of values, zeros or initial values, and know their bounds") {
  polyproc::shared_array<int> three{1, 2, 3};
  CHECK(three.front() == 1);
  CHECK(three.back() == 3);
  CHECK(three.at(2) == 3);
  CHECK_THROWS_AS(three.at(3), std::out_of_range);
  CHECK_THROWS_AS(three.slice(2, 2), std::out_of_range);
  CHECK_THROWS_AS(three.slice(4, 0), std::out_of_range);
  CHECK(three.slice(3, 0).empty());
  polyproc::shared_array<int> const sevens(10, 7);
  CHECK(std::ranges::all_of(sevens, [](int i) { return i == 7; }));
  CHECK(polyproc::shared_array<cell>(4)[3].value == 7);
  CHECK(polyproc::shared_array<int>(0).empty());
  std::vector<int> const from(100, 3);
  CHECK(polyproc::shared_array<int>(std::span<int const>(from)).size() == 100);
  CHECK_THROWS_AS(polyproc::shared_array<long>(std::size_t{1} << 62), std::bad_alloc);
  CHECK(three.span().size() == 3);
}

TEST_CASE_METHOD(tidy, "the memory of an array is given back, and is zero when it is used again") {
  auto const before = arena::used_bytes();
  for (int round = 0; round < 3; ++round) {
    polyproc::shared_array<long> a(100000);
    CHECK(std::ranges::count(a, 0L) == 100000);
    std::ranges::fill(a, 1L);
  }
  CHECK(arena::used_bytes() == before);
}

TEST_CASE_METHOD(tidy, "what is shared for reading only cannot be written, and one that tries falls alone") {
  polyproc::shared<int> number{std::in_place, 42};
  polyproc::shared<int const> seen = number;
  CHECK(*seen == 42);
  *number = 43;
  CHECK(*seen == 43);
  auto p = polyproc::launch(write_anyway, number);
  CHECK(end_of(p) == -11);
  auto again = polyproc::launch(write_anyway, seen);
  CHECK(end_of(again) == -11);
  CHECK(*seen == 43);

  polyproc::shared_array<int> const array{1, 2, 3};
  auto q = polyproc::launch(write_anyway_array, array);
  CHECK(end_of(q) == -11);
  CHECK(array[0] == 1);

  polyproc::shared_segment const bytes(100);
  auto r = polyproc::launch(write_anyway_bytes, bytes);
  CHECK(end_of(r) == -11);
  polyproc::shared_segment const other(100);
  bytes.bytes()[99] = std::byte{9};
  auto s = polyproc::launch(copy_bytes, other, bytes);
  CHECK(end_of(s) == 0);
  CHECK(other.bytes()[99] == std::byte{9});
  CHECK_THROWS_AS(other.slice(99, 2), std::out_of_range);
}

TEST_CASE_METHOD(tidy, "[H29] spans of an array are good while there is a handle, whatever other handles do") {
  std::span<int> part;
  {
    polyproc::shared_array<int> kept(10, 1);
    part = kept.slice(0, 5);
    {
      auto const copy = kept;
      auto const moved = std::move(kept);
      kept = moved;
    }
    CHECK(std::ranges::count(part, 1) == 5);
  }
}

TEST_CASE_METHOD(tidy, "[H31] containers live in a shared heap, at different addresses in different processes") {
  polyproc::shared_heap heap(1 << 20);
  CHECK_FALSE(heap.has_root());
  std::vector<polyproc::process> all;
  for (int i = 0; i < 2; ++i) all.push_back(polyproc::launch(write_library, heap, 200));
  write_library(heap, 200);
  for (auto& p : all) CHECK(end_of(p) == 0);
  auto& l = heap.root<library>();
  CHECK(l.numbers.size() == 600);
  CHECK(std::accumulate(l.numbers.begin(), l.numbers.end(), 0) == 3 * 199 * 200 / 2);
  CHECK(std::ranges::all_of(l.lines, [](auto const& line) { return line.size() == 50 && line[0] == line[49]; }));
  CHECK(std::accumulate(l.waiting.begin(), l.waiting.end(), 0L) == 3 * 199 * 200 / 2);
  CHECK(heap.sound());
  CHECK_THROWS_AS(heap.root<int>(), polyproc::handle_error);
  auto const used = heap.in_use();
  {
    vector<int> here(heap.allocator<int>());
    here.assign(1000, 5);
    CHECK(heap.in_use() > used);
    auto const copy = here;
    CHECK(copy == here);
  }
  CHECK(heap.in_use() == used);
}

TEST_CASE_METHOD(tidy, "a full heap says so, and what is in it is unharmed") {
  polyproc::shared_heap heap(8192);
  vector<char> v(heap.allocator<char>());
  v.assign(100, 'x');
  CHECK_THROWS_AS(v.reserve(1 << 20), std::bad_alloc);
  CHECK_THROWS_AS(v.reserve(heap.capacity()), std::bad_alloc);
  CHECK(std::ranges::count(v, 'x') == 100);
  CHECK(heap.sound());
}

TEST_CASE_METHOD(tidy, "a heap whose users are killed in the middle is sound") {
  polyproc::shared_heap heap(1 << 20);
  for (int round = 0; round < 15; ++round) {
    polyproc::shared<stage> s;
    auto p = polyproc::launch(allocate_and_free, heap, s);
    s->await(1);
    std::this_thread::sleep_for(std::chrono::microseconds(round * 300));
    p.kill();
    p.join();
    CHECK(heap.sound());
    auto one = heap.allocator<long>();
    auto const piece = one.allocate(10);
    one.deallocate(piece, 10);
  }
  CHECK(heap.in_use() <= 15 * 4096);  // at most one piece for each of the dead
}

TEST_CASE_METHOD(tidy, "an offset_ptr means the same when its memory is elsewhere") {
  struct links {
    int numbers[3] = {1, 2, 3};
    polyproc::offset_ptr<int> to;
  };
  links a;
  a.to = &a.numbers[1];
  links b;
  std::memcpy(static_cast<void*>(&b), &a, sizeof a);
  CHECK(*b.to == 2);
  CHECK(b.to.get() == &b.numbers[1]);
  CHECK(b.to[1] == 3);
  auto p = b.to;
  CHECK(p == b.to);
  CHECK(*++p == 3);
  CHECK(p - b.to == 1);
  CHECK(p > b.to);
  polyproc::offset_ptr<int const> constant = p;
  CHECK(*constant == 3);
  polyproc::offset_ptr<void> anything = p;
  CHECK(static_cast<polyproc::offset_ptr<int>>(anything) == p);
  p = nullptr;
  CHECK_FALSE(p);
  CHECK(p == nullptr);
  CHECK(std::to_address(b.to) == &b.numbers[1]);
  static_assert(std::random_access_iterator<polyproc::offset_ptr<int>>);
}
