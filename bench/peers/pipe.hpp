// The peer that every Unix has: eight bytes at a time through a pipe.
#pragma once

#include <cstdint>
#include <stdexcept>

#include <unistd.h>

struct pipe_peer {
  int ends[2] = {-1, -1};
  pipe_peer() {
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
  }
  pipe_peer(pipe_peer const&) = delete;
  pipe_peer& operator=(pipe_peer const&) = delete;
  ~pipe_peer() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  void put(std::uint64_t value) const {
    if (::write(ends[1], &value, sizeof value) != sizeof value) throw std::runtime_error("write");
  }
  std::uint64_t get() const {
    std::uint64_t value = 0;
    if (::read(ends[0], &value, sizeof value) != sizeof value) throw std::runtime_error("read");
    return value;
  }
};
