/// What posix_backend does around posix_spawn, and the thread that ends a daemon with its parent.
#pragma once

#include <polyproc/backend/unix_common.hpp>

#include <spawn.h>
#if defined(__APPLE__)
#include <crt_externs.h>
#endif

namespace polyproc::inline v0_1::detail {

/// Of a call that returns its error's number.
inline void must(int error, char const* call) {
  if (error != 0) throw_errno(call, error);
}

  /// One call of posix_spawn: signals as in a fresh program, and the descriptors and the group that the child is to have.
struct spawn_request {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    explicit spawn_request(bool hold_interrupt) {
      must(::posix_spawn_file_actions_init(&actions), "posix_spawn_file_actions_init");
      if (int const error = ::posix_spawnattr_init(&attributes); error != 0) {
        ::posix_spawn_file_actions_destroy(&actions);
        throw_errno("posix_spawnattr_init", error);
      }
      // A child that is to ignore Ctrl-C does not notice one that comes before it can say so (adopt).
      sigset_t set;
      sigemptyset(&set);
      if (hold_interrupt) sigaddset(&set, SIGINT);
      ::posix_spawnattr_setsigmask(&attributes, &set);
      sigfillset(&set);
      // These have no disposition, and some systems object to being told one.
      sigdelset(&set, SIGKILL);
      sigdelset(&set, SIGSTOP);
      ::posix_spawnattr_setsigdefault(&attributes, &set);
      int flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
#if defined(__APPLE__)
      flags |= POSIX_SPAWN_CLOEXEC_DEFAULT;
#endif
      ::posix_spawnattr_setflags(&attributes, static_cast<short>(flags));
    }
    spawn_request(spawn_request const&) = delete;
    spawn_request& operator=(spawn_request const&) = delete;
    ~spawn_request() {
      ::posix_spawnattr_destroy(&attributes);
      ::posix_spawn_file_actions_destroy(&actions);
    }

    /// 0: one of its own.
    void join_group(pid_t group) {
      // A group that is gone cannot be joined, and the attempt would keep the child from starting.
      if (group != 0 && ::kill(-group, 0) != 0 && errno == ESRCH) return;
      short flags = 0;
      ::posix_spawnattr_getflags(&attributes, &flags);
      ::posix_spawnattr_setflags(&attributes, static_cast<short>(flags | POSIX_SPAWN_SETPGROUP));
      ::posix_spawnattr_setpgroup(&attributes, group);
    }

    /// What the child is to have, under the same numbers; all else that can be found is closed in it.
    void pass_on(std::span<std::int64_t const> pass, std::array<int, 3> const& streams) {
      for (int i = 0; i < 3; ++i) {
        int const from = streams[static_cast<std::size_t>(i)];
        if (from >= 0) must(::posix_spawn_file_actions_adddup2(&actions, from, i), "posix_spawn_file_actions_adddup2");
#if defined(__APPLE__)
        else if (::fcntl(i, F_GETFD) >= 0)
          must(::posix_spawn_file_actions_addinherit_np(&actions, i), "posix_spawn_file_actions_addinherit_np");
#endif
      }
#if defined(__APPLE__)
      for (auto const fd : pass) {
        if (fd >= 0)
          must(::posix_spawn_file_actions_addinherit_np(&actions, static_cast<int>(fd)),
                "posix_spawn_file_actions_addinherit_np");
      }
#else
      // To the same number means: clear close-on-exec.
      for (auto const number : pass) {
        auto const fd = static_cast<int>(number);
        if (fd >= 0) must(::posix_spawn_file_actions_adddup2(&actions, fd, fd), "posix_spawn_file_actions_adddup2");
      }
      // poll says of a whole block of numbers at once which of them are in use; unless it may not be asked about so many
      // (ulimit -n), or has no memory.
      constexpr int block = 256;
      std::array<pollfd, block> look;
      for (int first = 0, unused = 0; unused < 4; first += block) {
        for (int i = 0; i < block; ++i) look[static_cast<std::size_t>(i)] = {first + i, 0, 0};
        bool const told = ::poll(look.data(), block, 0) >= 0;
        ++unused;
        for (auto const& one : look) {
          if (told && (one.revents & POLLNVAL) != 0) continue;
          int const flags = ::fcntl(one.fd, F_GETFD);
          if (flags < 0) continue;
          unused = 0;
          if (one.fd < 3 || (flags & FD_CLOEXEC) != 0) continue;
          // Not possible for a number beyond a limit that was lowered since.
          int const error = ::posix_spawn_file_actions_addclose(&actions, one.fd);
          if (error != EBADF) must(error, "posix_spawn_file_actions_addclose");
        }
      }
#endif
    }
  };

  inline char** environment_block() noexcept {
#if defined(__APPLE__)
    return *::_NSGetEnviron();
#else
    return environ;
#endif
  }

  inline void* watch_parent_loop(void* data) noexcept {
    int const life = static_cast<int>(reinterpret_cast<std::intptr_t>(data));
    for (;;) {
      pollfd p{life, POLLIN, 0};
      if (::poll(&p, 1, -1) <= 0) continue;
      if ((p.revents & POLLNVAL) != 0) return nullptr;
      char byte = 0;
      if (::read(life, &byte, 1) == 0) ::kill(::getpid(), SIGKILL);
    }
  }

  /// Nobody ever writes to that pipe, so what comes is its end. 0 or an error number.
  inline int watch_parent(int life) noexcept {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread{};
    int const error =
        ::pthread_create(&thread, nullptr, &watch_parent_loop, reinterpret_cast<void*>(std::intptr_t{life}));
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (error == 0) ::pthread_detach(thread);
    return error;
  }

}  // namespace polyproc::inline v0_1::detail
