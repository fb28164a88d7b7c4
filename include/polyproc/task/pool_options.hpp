/// What can be chosen for a pool of processes, and what it tells of itself.
#pragma once

#include <polyproc/process/process.hpp>
#include <polyproc/task/worker_state.hpp>

namespace polyproc::inline v0_1 {

/// Something that has happened in a pool.
struct pool_event {
  enum class kind : std::uint8_t { worker_started, worker_ended, task_begun, task_ended };
  kind what = kind::worker_started;
  std::size_t worker = 0;  ///< 1 to the number of workers.
  long pid = 0;            ///< Of the worker's process.
  std::string task;        ///< task_options::name; empty for workers.
  /// How it ended, in words. A task: "value", "exception", "cancelled", "time limit", "deadline", "lost", "lost, to be repeated".
  /// A worker: "exited with code 0", "was ended by signal 9", ... Empty for what begins.
  std::string how;
};

template <backend Backend = native_backend>
struct basic_process_pool_options {
  std::size_t workers = 0;    ///< 0: as many as this process may use processors. At most 512.
  std::string name = "pool";  ///< Workers are called NAME-1, NAME-2, ...
  /// How long the destructor waits for running tasks, which it asks to stop, before it ends their workers.
  std::chrono::milliseconds grace = std::chrono::seconds{1};
  start_method start = start_method::automatic;
  /// What each worker runs before its first task: {function, arguments...}. What it lets out ends that worker, and, if no other
  /// one serves, becomes the outcome of what waits.
  basic_pool_initializer<Backend> initializer = {};
  /// Tasks that have not begun, at most; submit waits for room. 0: any number.
  std::size_t max_waiting = 0;
  /// A worker that has run so many tasks is replaced. 0: never.
  std::size_t tasks_per_worker = 0;
  /// A worker whose resident memory has grown by so many bytes since its start is replaced after its task. 0: never. (Looked at
  /// ten times a second at most; where the system does not tell, never.)
  std::size_t memory_growth = 0;
  /// A worker that has had nothing to do for so long ends, until there is work again. 0: never.
  std::chrono::milliseconds idle_time{0};
  /// So many workers in a row that die before they serve, or cannot be started at all: then, if no worker serves, what waits
  /// fails with start_error. The next submission tries again.
  unsigned start_attempts = 10;
  /// The processors on which workers may run, as for process_options.
  std::vector<unsigned> affinity = {};
  /// Record who ran what when, for write_trace: the last 100 000 tasks.
  bool trace = false;
  /// Record, and write that file when the pool ends (join, shutdown, terminate, the destructor); failures to do so go to stderr.
  std::string trace_file = {};
  /// Called with each pool_event, in order, on the library's thread for callbacks. Costs a wake-up of the pool's thread for each
  /// task.
  detail::callback<pool_event const&> on_event = {};
};
using process_pool_options = basic_process_pool_options<>;

}  // namespace polyproc::inline v0_1
