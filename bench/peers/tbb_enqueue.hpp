// task_arena::enqueue of oneTBB. It has no futures of its own: std::promise's are what its users take.
#pragma once

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <future>
#include <memory>

class tbb_pool {
 public:
  explicit tbb_pool(int threads)
      : limit_(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(threads) + 1), arena_(threads, 0) {}
  template <class F>
  void post(F f) {
    arena_.enqueue(std::move(f));
  }
  template <class F>
  auto submit(F f) {
    using result = decltype(f());
    auto const promise = std::make_shared<std::promise<result>>();
    auto future = promise->get_future();
    arena_.enqueue([promise, f] { promise->set_value(f()); });
    return future;
  }

 private:
  tbb::global_control limit_;
  tbb::task_arena arena_;
};
