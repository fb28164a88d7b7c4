// What a Unix has for messages of any size: a pair of local sockets that keeps their boundaries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include <sys/socket.h>
#include <unistd.h>

struct seqpacket_peer {
  int ends[2] = {-1, -1};
  seqpacket_peer() {
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0) throw std::runtime_error("socketpair");
  }
  seqpacket_peer(seqpacket_peer const&) = delete;
  seqpacket_peer& operator=(seqpacket_peer const&) = delete;
  ~seqpacket_peer() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  void put_bytes(void const* from, std::size_t size) const {
    if (::send(ends[1], from, size, 0) != static_cast<ssize_t>(size)) throw std::runtime_error("send");
  }
  void get_bytes(void* to, std::size_t size) const {
    if (::recv(ends[0], to, size, 0) != static_cast<ssize_t>(size)) throw std::runtime_error("recv");
  }
  void put(std::uint64_t value) const { put_bytes(&value, sizeof value); }
  std::uint64_t get() const {
    std::uint64_t value = 0;
    get_bytes(&value, sizeof value);
    return value;
  }
};
