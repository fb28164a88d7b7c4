/// What a process knows of itself, and what it tells the processes that it starts.
#pragma once

#include <polyproc/backend/concept.hpp>
#include <polyproc/backend/lasting.hpp>
#include <polyproc/channel/auth_key.hpp>
#include <polyproc/wire/codec.hpp>

#include <mutex>

namespace polyproc::inline v0_1 {

/// How a process is made.
enum class start_method : std::uint8_t {
  automatic,   ///< forkserver where it exists, else spawn.
  fork,        ///< A copy of this process. Not on Windows; dangerous in a program with threads.
  spawn,       ///< This program run again from its beginning.
  forkserver,  ///< A copy of a small helper that is this program run again as far as polyproc::init. Not on Windows.
};

/// How much of its own doings the library writes to stderr.
enum class log_level : std::uint8_t {
  off,      ///< Only what cannot be told in another way: an uncaught exception of a child.
  info,     ///< Starts and ends of processes.
  details,  ///< Also what was decided on the way.
};

namespace detail {

/// What a child is told of itself: the first thing in its work.
struct own_facts {
  std::string name = "main";
  bool daemon = false;
  bool worker = false;  // of a pool: a daemon that may have children all the same
  long parent_pid = 0;
  std::uint64_t parent_identity = 0;
  std::string parent_name;
  start_method default_start = start_method::automatic;
  log_level log = log_level::off;
  auth_key key{};
};

/// What a child changes in itself before its target runs.
struct surroundings {
  std::string directory;
  std::vector<unsigned> affinity;
  std::optional<int> priority;
};

/// What no child is told.
struct own_state {
  own_facts told;
  bool initialised = false;  // polyproc::init was called
  bool by_fork = false;      // exit handlers and static objects are copies of the parent's
  bool by_fork_flushed = false;  // and no stream's buffer holds anything of the parent's
  std::uint64_t record = 0;  // offset of our own
};
inline own_state& own() noexcept {
  static lasting<own_state> const mine;
  return *mine;
}
inline own_facts& facts() noexcept { return own().told; }

}  // namespace detail

/// What processes are started by that do not say it themselves, in this process and those it starts. To be set while no
/// other thread starts one. Throws std::invalid_argument for one that this system does not have.
void set_start_method(start_method method);
[[nodiscard]] inline start_method get_start_method() noexcept { return detail::facts().default_start; }

/// Has the library tell on stderr what it does, each line with the process's name; also in processes started from now on.
inline void log_to_stderr(log_level level = log_level::info) noexcept { detail::facts().log = level; }

namespace detail {

template <backend Backend>
void log(log_level level, std::string const& what) {
  auto const& mine = facts();
  if (mine.log < level) return;
  Backend::write_stderr("[polyproc " + mine.name + " " + std::to_string(Backend::current_pid()) + "] " + what + "\n");
}

}  // namespace detail
}  // namespace polyproc::inline v0_1
