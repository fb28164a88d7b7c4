// Boost.Interprocess message_queue, where it is installed.
#pragma once

#if __has_include(<boost/interprocess/ipc/message_queue.hpp>)
#define BENCH_HAS_BOOST_MQ 1

#include <boost/interprocess/ipc/message_queue.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <unistd.h>

template <std::size_t Bytes = 8, std::size_t Places = 1024>
struct boost_mq_of {
  std::string name = "polyproc-bench-" + std::to_string(::getpid());
  std::unique_ptr<boost::interprocess::message_queue> queue;
  boost_mq_of() {
    boost::interprocess::message_queue::remove(name.c_str());
    queue = std::make_unique<boost::interprocess::message_queue>(boost::interprocess::create_only, name.c_str(), Places, Bytes);
  }
  ~boost_mq_of() { boost::interprocess::message_queue::remove(name.c_str()); }
  void put_bytes(void const* from, std::size_t bytes) const { queue->send(from, bytes, 0); }
  void get_bytes(void* to, std::size_t bytes) const {
    boost::interprocess::message_queue::size_type size = 0;
    unsigned priority = 0;
    queue->receive(to, bytes, size, priority);
  }
  void put(std::uint64_t value) const { put_bytes(&value, sizeof value); }
  std::uint64_t get() const {
    std::uint64_t value = 0;
    get_bytes(&value, sizeof value);
    return value;
  }
};
using boost_mq_peer = boost_mq_of<>;
#endif
