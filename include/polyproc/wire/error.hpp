/// Every exception of the library. They share the base polyproc::error; failures of the operating system are
/// std::system_error, and misuse that the program could have avoided is std::logic_error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace polyproc::inline v0_1 {

class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Bytes that are not what they should be: cut short, foreign, or damaged.
class decode_error : public error {
 public:
  decode_error(std::string const& problem, std::size_t offset)
      : error("polyproc: these bytes cannot be read: " + problem + ", at byte " + std::to_string(offset) +
              "; they were cut short, damaged, or written for another type"),
        offset_(offset) {}
  /// As it came from another process.
  static decode_error received(std::string const& what, std::size_t offset) { return {as_it_is{}, what, offset}; }
  /// Where in the message it was found, in bytes from its beginning.
  [[nodiscard]] std::size_t offset() const noexcept { return offset_; }

 private:
  struct as_it_is {};
  decode_error(as_it_is, std::string const& what, std::size_t offset) : error(what), offset_(offset) {}
  std::size_t offset_;
};

class queue_full : public error {
 public:
  queue_full() : error("polyproc: the queue is full; wait with put or put_for, or try again later") {}
  using error::error;
};
class queue_empty : public error {
 public:
  queue_empty() : error("polyproc: the queue is empty; wait with get or get_for, or try again later") {}
  using error::error;
};
class queue_closed : public error {
 public:
  queue_closed() : error("polyproc: the queue is closed: nothing can be put any more, and what was in it is taken") {}
  using error::error;
};

/// A deadline passed in a form that has no other way to say so.
class timeout_error : public error {
 public:
  timeout_error() : error("polyproc: the time limit has passed") {}
  using error::error;
};

/// A task ran for longer than its time limit, or had not ended at its deadline. It is not running any more.
class time_limit_exceeded : public timeout_error {
 public:
  time_limit_exceeded() : timeout_error("polyproc: the task was ended: it ran for longer than its time limit") {}
  using timeout_error::timeout_error;
};

/// A task was given up before it ran to its end: it was cancelled, or its pool was terminated or destroyed.
class task_cancelled : public error {
 public:
  task_cancelled() : error("polyproc: the task was cancelled: its pool was terminated before the task had ended") {}
  using error::error;
};

/// A promise was destroyed before it was given a value or an exception.
class broken_promise : public error {
 public:
  broken_promise()
      : error("polyproc: nobody will complete this future: its promise was destroyed before it was given a value or an "
              "exception") {}
  using error::error;
};

/// A lock's holder ended while it held it; see mutex::recover.
class owner_died : public error {
 public:
  using error::error;
};

/// A barrier lost a member, or was told to break.
class broken_barrier : public error {
 public:
  broken_barrier()
      : error("polyproc: the barrier is broken: a member ended, gave up waiting or called abort(); call reset() when those "
              "that are to go on are known") {}
  using error::error;
};

/// A process could not be started, or what it was to run cannot be found in it.
class start_error : public error {
 public:
  using error::error;
};

/// A handle does not refer to what it should: to another type, or to something that is gone.
class handle_error : public error {
 public:
  using error::error;
};

/// A connection cannot do what it should: the other side speaks of other types, or something went wrong on it before.
class connection_error : public error {
 public:
  using error::error;
};
/// The other side is gone, or has closed, in the middle of something.
class connection_lost : public connection_error {
 public:
  using connection_error::connection_error;
};
/// A message is larger than what this side is willing to take. No memory was taken for it.
class message_too_large : public connection_error {
 public:
  message_too_large(std::uint64_t size, std::uint64_t limit)
      : connection_error("polyproc: the other side announces a message of " + std::to_string(size) + " bytes, and at most " +
                         std::to_string(limit) + " are taken here; if it is to be so large, raise max_message"),
        size_(size) {}
  message_too_large(std::string const& what, std::uint64_t size) : connection_error(what), size_(size) {}
  /// What was announced, or has come.
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

 private:
  std::uint64_t size_;
};
/// The two sides of a connection do not have the same authkey.
class authentication_error : public error {
 public:
  using error::error;
};

/// The worker process that ran a task ended before the task did.
class worker_lost : public error {
 public:
  /// `code` as process::exit_code: N for exit N, -N for signal N.
  worker_lost(long pid, int code)
      : error("polyproc: worker process " + std::to_string(pid) + " was lost with the task it was running: it " +
              (code < 0 ? "was ended by signal " + std::to_string(-static_cast<long>(code))
                        : "exited with code " + std::to_string(code))),
        pid_(pid),
        code_(code) {}
  worker_lost(std::string const& what, long pid, int code) : error(what), pid_(pid), code_(code) {}
  [[nodiscard]] long pid() const noexcept { return pid_; }
  [[nodiscard]] int exit_code() const noexcept { return code_; }
  /// 0 if it was not a signal.
  [[nodiscard]] int signal() const noexcept { return code_ < 0 ? -code_ : 0; }

 private:
  long pid_;
  int code_;
};

/// A member of a process_group failed. What it threw, if it threw something, is nested in this.
class group_failure : public error {
 public:
  /// `code` as process::exit_code.
  group_failure(std::string const& what, std::size_t index, long pid, int code)
      : error(what), index_(index), pid_(pid), code_(code) {}
  /// Which member, from 0.
  [[nodiscard]] std::size_t index() const noexcept { return index_; }
  [[nodiscard]] long pid() const noexcept { return pid_; }
  /// 0 when it threw an exception.
  [[nodiscard]] int exit_code() const noexcept { return code_; }

 private:
  std::size_t index_;
  long pid_;
  int code_;
};

/// An exception of a type that cannot be made here was thrown in another process.
class remote_error : public error {
 public:
  remote_error(std::string type, std::string const& what) : error(what), type_(std::move(type)) {}
  /// What the type is called there.
  [[nodiscard]] std::string const& type_name() const noexcept { return type_; }

 private:
  std::string type_;
};

}  // namespace polyproc::inline v0_1
