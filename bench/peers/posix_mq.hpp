// POSIX message queues: the kernel's own typed-by-length queue between processes.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include <fcntl.h>
#include <mqueue.h>
#include <unistd.h>

struct posix_mq_peer {
  mqd_t queue;
  posix_mq_peer() {
    auto const name = "/polyproc-bench-" + std::to_string(::getpid());
    mq_attr attributes{};
    attributes.mq_maxmsg = 10;
    attributes.mq_msgsize = 8;
    queue = ::mq_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
    if (queue == static_cast<mqd_t>(-1)) throw std::runtime_error("mq_open");
    ::mq_unlink(name.c_str());
  }
  posix_mq_peer(posix_mq_peer const&) = delete;
  posix_mq_peer& operator=(posix_mq_peer const&) = delete;
  ~posix_mq_peer() { ::mq_close(queue); }
  void put(std::uint64_t value) const {
    if (::mq_send(queue, reinterpret_cast<char const*>(&value), sizeof value, 0) != 0) throw std::runtime_error("mq_send");
  }
  std::uint64_t get() const {
    std::uint64_t value = 0;
    if (::mq_receive(queue, reinterpret_cast<char*>(&value), sizeof value, nullptr) != sizeof value)
      throw std::runtime_error("mq_receive");
    return value;
  }
};
