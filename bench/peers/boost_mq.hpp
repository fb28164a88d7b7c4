// Boost.Interprocess message_queue, where it is installed.
#pragma once

#if __has_include(<boost/interprocess/ipc/message_queue.hpp>)
#define BENCH_HAS_BOOST_MQ 1

#include <boost/interprocess/ipc/message_queue.hpp>

#include <cstdint>
#include <memory>
#include <string>

#include <unistd.h>

struct boost_mq_peer {
  std::string name = "polyproc-bench-" + std::to_string(::getpid());
  std::unique_ptr<boost::interprocess::message_queue> queue;
  boost_mq_peer() {
    boost::interprocess::message_queue::remove(name.c_str());
    queue = std::make_unique<boost::interprocess::message_queue>(boost::interprocess::create_only, name.c_str(), 1024, 8);
  }
  ~boost_mq_peer() { boost::interprocess::message_queue::remove(name.c_str()); }
  void put(std::uint64_t value) const { queue->send(&value, sizeof value, 0); }
  std::uint64_t get() const {
    std::uint64_t value = 0;
    boost::interprocess::message_queue::size_type size = 0;
    unsigned priority = 0;
    queue->receive(&value, sizeof value, size, priority);
    return value;
  }
};
#endif
