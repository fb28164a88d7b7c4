#include "support/tidy.hpp"

#include <polyproc/task/process_pool.hpp>

#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;

int after_a_while(int n) {
  std::this_thread::sleep_for(30ms);
  return n;
}

/// Looks at nothing but ready(); how long that took.
template <class Future>
std::chrono::nanoseconds ask(Future const& f) {
  auto const begin = std::chrono::steady_clock::now();
  while (!f.ready() && std::chrono::steady_clock::now() < begin + 30s) std::this_thread::sleep_for(1ms);
  return std::chrono::steady_clock::now() - begin;
}

}  // namespace

TEST_CASE_METHOD(tidy, "who only asks whether a future is ready learns of it when it is") {
  polyproc::process_pool pool(1);
  REQUIRE(pool.apply(after_a_while, 1) == 1);
  std::this_thread::sleep_for(600ms);  // the pool's own thread is asleep
  auto least = std::chrono::steady_clock::duration::max();  // the machine may be away now and then
  for (int i = 0; i < 5; ++i) {
    auto f = pool.submit(after_a_while, i);
    least = std::min(least, ask(f));
    CHECK(f.get() == i);
  }
  INFO(std::chrono::duration_cast<std::chrono::milliseconds>(least).count() << " ms");
  CHECK(least < 230ms);
}

TEST_CASE_METHOD(tidy, "asking for the last of many futures is enough") {
  polyproc::process_pool pool(2);
  std::vector<polyproc::future<int>> all;
  for (int i = 0; i < 3000; ++i) all.push_back(pool.submit([](int n) { return n + 1; }, i));
  auto const took = ask(all.back());
  INFO(std::chrono::duration_cast<std::chrono::milliseconds>(took).count() << " ms");
  CHECK(took < 5s);
  for (int i = 0; i < 3000; ++i) CHECK(all[static_cast<std::size_t>(i)].get() == i + 1);
}
