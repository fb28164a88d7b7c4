// BS::thread_pool, from version 4 on.
#pragma once

#include <BS_thread_pool.hpp>

class bs_pool {
 public:
  explicit bs_pool(unsigned threads) : pool_(threads) {}
  template <class F>
  void post(F f) {
    pool_.detach_task(std::move(f));
  }
  template <class F>
  auto submit(F f) {
    return pool_.submit_task(std::move(f));
  }

 private:
#if defined(BS_THREAD_POOL_VERSION_MAJOR) && BS_THREAD_POOL_VERSION_MAJOR < 5
  BS::thread_pool pool_;
#else
  BS::thread_pool<> pool_;
#endif
};
