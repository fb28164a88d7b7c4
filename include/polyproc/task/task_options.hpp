/// What can be said of a single task when it is submitted.
#pragma once

#include <polyproc/backend/concept.hpp>

#include <optional>
#include <string>

namespace polyproc::inline v0_1 {

struct task_options {
  /// In traces, and in the message of worker_lost.
  std::string name = {};
  /// How long it may run, counted from its beginning. After that it is asked to stop (this_task::stop_requested), `grace` later
  /// its worker process is ended with all that it has started, and the future holds time_limit_exceeded. A thread cannot be
  /// ended: in a thread_pool it is asked, and the outcome is time_limit_exceeded when it has ended by itself.
  std::optional<std::chrono::nanoseconds> time_limit = {};
  /// A point in time after which the outcome is of no use: what has not begun then never begins, what runs is ended as above.
  time_point deadline = never;
  /// How often it may be repeated after the worker that ran it was lost. For tasks that may be begun twice.
  unsigned retries = 0;
  /// Higher ones first; among equals the oldest.
  int priority = 0;
  /// Between asking it to stop (after cancel() too) and ending its worker process.
  std::chrono::milliseconds grace{50};
};

}  // namespace polyproc::inline v0_1
