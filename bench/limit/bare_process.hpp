// The limits for starting processes: what the kernel and the C library take for one that does nothing, with nobody to
// watch it, tell it anything or hear from it but its end.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <vector>

#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace bare_process {

inline void await(pid_t child) {
  int status = 0;
  pid_t got = 0;
  do got = ::waitpid(child, &status, 0);
  while (got < 0 && errno == EINTR);
  if (got != child || status != 0) throw std::runtime_error("a bare child ended badly");
}

inline void fork_exit_wait() {
  auto const child = ::fork();
  if (child == 0) ::_exit(0);
  if (child < 0) throw std::runtime_error("fork");
  await(child);
}

inline void spawn_wait(char const* path, char const* argument = nullptr) {
  char* argv[] = {const_cast<char*>(path), const_cast<char*>(argument), nullptr};
  pid_t child = 0;
  if (::posix_spawn(&child, path, nullptr, nullptr, argv, environ) != 0) throw std::runtime_error("posix_spawn");
  await(child);
}

/// Seconds: the median of calls of `once`, as many as fit into the time, but five at least.
template <class Once>
double median_time(Once&& once, std::chrono::duration<double> time) {
  using clock_type = std::chrono::steady_clock;
  std::vector<double> all;
  auto const begin = clock_type::now();
  for (auto from = begin; all.size() < 5 || from - begin < time;) {
    once();
    auto const to = clock_type::now();
    all.push_back(std::chrono::duration<double>(to - from).count());
    from = to;
  }
  auto const middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  std::nth_element(all.begin(), middle, all.end());
  return *middle;
}

/// A process that is small, as long as it is made early, and forks there on request. It ends with this object, or with
/// the process that has it.
class fork_helper {
 public:
  fork_helper() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw std::runtime_error("socketpair");
    helper_ = ::fork();
    if (helper_ < 0) throw std::runtime_error("fork");
    socket_ = ends[helper_ == 0 ? 1 : 0];
    ::close(ends[helper_ == 0 ? 0 : 1]);
    if (helper_ == 0) serve();
  }
  fork_helper(fork_helper const&) = delete;
  fork_helper& operator=(fork_helper const&) = delete;
  ~fork_helper() {
    ::close(socket_);
    ::waitpid(helper_, nullptr, 0);
  }

  /// Seconds for a child there, measured there.
  double measure(double time) {
    double result = 0;
    if (::write(socket_, &time, sizeof time) != sizeof time || ::read(socket_, &result, sizeof result) != sizeof result)
      throw std::runtime_error("the helper is gone");
    return result;
  }

 private:
  [[noreturn]] void serve() const {
    double time = 0;
    while (::read(socket_, &time, sizeof time) == sizeof time) {
      auto const result = median_time(fork_exit_wait, std::chrono::duration<double>(time));
      if (::write(socket_, &result, sizeof result) != sizeof result) break;
    }
    ::_exit(0);
  }

  int socket_ = -1;
  pid_t helper_ = 0;
};

}  // namespace bare_process
