#include "support/tidy.hpp"

#include <numeric>

namespace {

using backend = polyproc::native_backend;
using arena = polyproc::detail::arena<backend>;

struct board {
  std::atomic<long> sum{0};
  int numbers[100] = {};
};
struct pair_of_shared {
  polyproc::shared<board> first;
  polyproc::shared<std::atomic<int>> second;
};

void add_up(polyproc::shared<board> b) { b->sum = std::accumulate(std::begin(b->numbers), std::end(b->numbers), 0L); }
void set_both(pair_of_shared both) {
  both.first->sum = 5;
  *both.second = 6;
}
polyproc::shared<board> make_one(long value) {
  polyproc::shared<board> made;
  made->sum = value;
  return made;
}

}  // namespace

TEST_CASE_METHOD(tidy, "an object is seen by every process that has a handle") {
  polyproc::shared<board> b;
  CHECK(b->sum == 0);
  std::iota(std::begin(b->numbers), std::end(b->numbers), 1);
  auto p = polyproc::launch(add_up, b);
  p.join();
  CHECK(b->sum == 5050);
}

TEST_CASE_METHOD(tidy, "objects are made from arguments, and handles are compared by what they refer to") {
  polyproc::shared<std::atomic<int>> n{std::in_place, 42};
  CHECK(*n == 42);
  auto const copy = n;
  CHECK(copy == n);
  CHECK_FALSE(polyproc::shared<std::atomic<int>>{std::in_place, 42} == n);
  polyproc::shared<double[3]> row;
  (*row)[2] = 1.5;
  CHECK((*row)[0] == 0.0);
}

TEST_CASE_METHOD(tidy, "handles travel inside aggregates, as results, and back") {
  pair_of_shared both;
  auto p = polyproc::launch(set_both, both);
  p.join();
  CHECK(both.first->sum == 5);
  CHECK(*both.second == 6);
  polyproc::process_pool pool(1);
  auto const made = pool.apply(make_one, 77L);  // the worker's own handle is gone by now
  CHECK(made->sum == 77);
}

TEST_CASE_METHOD(tidy, "the last handle, wherever it is, gives the memory back") {
  auto const before = arena::used_bytes();
  {
    polyproc::shared<board> b;
    auto const copy = b;
    CHECK(arena::used_bytes() > before);
    auto p = polyproc::launch(add_up, b);
    p.join();
  }
  CHECK(arena::used_bytes() == before);
}
