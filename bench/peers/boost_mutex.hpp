// Boost.Interprocess interprocess_mutex, where it is installed.
#pragma once

#if __has_include(<boost/interprocess/sync/interprocess_mutex.hpp>)
#define BENCH_HAS_BOOST_MUTEX 1

#include <boost/interprocess/sync/interprocess_mutex.hpp>

struct boost_mutex_peer {
  boost::interprocess::interprocess_mutex mutex;
  void lock() { mutex.lock(); }
  void unlock() { mutex.unlock(); }
  using polyproc_shareable = void;
};
#endif
