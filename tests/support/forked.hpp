/// Plain forked processes for tests of what the system says about processes and does to them: no polyproc starts them,
/// so only what is tested is at work. Unix.
#pragma once

#include "support/catch.hpp"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>
#include <new>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/// Bytes between processes. Close-on-exec.
class line {
 public:
  line() {
    REQUIRE(::pipe(ends_) == 0);
    for (int const end : ends_) ::fcntl(end, F_SETFD, FD_CLOEXEC);
  }
  line(line const&) = delete;
  line& operator=(line const&) = delete;
  ~line() {
    close_read();
    close_write();
  }
  void close_read() { close(ends_[0]); }
  void close_write() { close(ends_[1]); }
  [[nodiscard]] int write_end() const { return ends_[1]; }

  void post(long value) const {
    // Not a whole number means that the test is over.
    if (::write(ends_[1], &value, sizeof value) != static_cast<ssize_t>(sizeof value)) ::_exit(99);
  }
  /// The next value, for which it waits; -1 when there will be none.
  long take() const {
    long value = -1;
    pollfd look{ends_[0], POLLIN, 0};
    if (::poll(&look, 1, 20000) <= 0) return -1;
    return ::read(ends_[0], &value, sizeof value) == static_cast<ssize_t>(sizeof value) ? value : -1;
  }
  /// Waits until nobody else has the write end: then all who had it have ended. What was posted is thrown away.
  bool all_gone() {
    close_write();
    for (;;) {
      pollfd look{ends_[0], POLLIN, 0};
      if (::poll(&look, 1, 20000) <= 0) return false;
      char bytes[4096];
      if (::read(ends_[0], bytes, sizeof bytes) == 0) return true;
    }
  }
  /// Blocks until the test lets go of the write end. To be called in a child, which has it as well.
  void hold() {
    close_write();
    char byte = 0;
    while (::read(ends_[0], &byte, 1) != 0) {
    }
  }

 private:
  static void close(int& fd) {
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
  int ends_[2]{-1, -1};
};

/// Memory that a test shares with the processes that it forks.
struct stage_memory {
  std::atomic<int> over{0};
  std::atomic<long> number{0};
};
class shared_stage {
 public:
  shared_stage() : at_(::mmap(nullptr, sizeof(stage_memory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANON, -1, 0)) {
    REQUIRE(at_ != MAP_FAILED);
    ::new (at_) stage_memory;
  }
  shared_stage(shared_stage const&) = delete;
  shared_stage& operator=(shared_stage const&) = delete;
  ~shared_stage() { ::munmap(at_, sizeof(stage_memory)); }
  stage_memory* operator->() const { return static_cast<stage_memory*>(at_); }

 private:
  void* at_;
};

/// What most tests need: `up` for what the children say, `life` whose write end they all have, `rest` to block on, and
/// memory where `over` ends those that do not block.
struct troupe {
  line up;
  line life;
  line rest;
  shared_stage stage;

  troupe() = default;
  troupe(troupe const&) = delete;
  troupe& operator=(troupe const&) = delete;
  /// Whatever a failed test left behind ends here. Children that are stopped would never notice.
  ~troupe() {
    stage->over = 1;
    rest.close_write();
    for (auto const pid : children_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }

  /// A child of whoever calls this; it does not return there.
  template <class Body>
  static pid_t fork(Body&& body) {
    auto const pid = ::fork();
    if (pid == 0) {
      body();
      ::_exit(0);
    }
    return pid;
  }
  /// A child of the test, ended with it.
  template <class Body>
  pid_t start(Body&& body) {
    auto const pid = fork(std::forward<Body>(body));
    REQUIRE(pid > 0);
    children_.push_back(pid);
    return pid;
  }
  /// Says its number and blocks.
  void wait_here() {
    up.post(::getpid());
    rest.hold();
  }
  void spin_here() {
    up.post(::getpid());
    while (stage->over == 0) {
    }
  }
  /// Takes the status of a child of the test: the signal that ended it, or 0.
  int ended_by(pid_t pid) {
    std::erase(children_, pid);
    int status = 0;
    if (::waitpid(pid, &status, 0) != pid) return -1;
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
  /// Waits until a child of the test has ended, or was stopped; leaves the status in place.
  static bool has(pid_t pid, int what) {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(pid), &info, what | WNOWAIT) == 0;
  }

 private:
  std::vector<pid_t> children_;
};

template <class Condition>
bool eventually(Condition&& condition) {
  for (auto const end = std::chrono::steady_clock::now() + std::chrono::seconds{20};
       std::chrono::steady_clock::now() < end;) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return condition();
}
