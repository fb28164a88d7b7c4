// Asynchronous tasks of Taskflow.
#pragma once

#include <taskflow/taskflow.hpp>

class taskflow_pool {
 public:
  explicit taskflow_pool(std::size_t threads) : executor_(threads) {}
  template <class F>
  void post(F f) {
    executor_.silent_async(std::move(f));
  }
  template <class F>
  auto submit(F f) {
    return executor_.async(std::move(f));
  }

 private:
  tf::Executor executor_;
};
