/// Telling somebody that a thread waits and does no work meanwhile.
#pragma once

namespace polyproc::inline v0_1::detail {

/// What has to know that one of its threads waits: a pool of threads, for its own threads, and those who run callbacks.
class blocking_observer {
 public:
  virtual void begin_blocking() noexcept = 0;
  virtual void end_blocking() noexcept = 0;

  static blocking_observer*& of_this_thread() noexcept {
    static thread_local blocking_observer* mine = nullptr;
    return mine;
  }

 protected:
  ~blocking_observer() = default;
};

class blocking_scope {
 public:
  blocking_scope() noexcept : told_(blocking_observer::of_this_thread()) {
    if (told_ != nullptr) told_->begin_blocking();
  }
  blocking_scope(blocking_scope const&) = delete;
  blocking_scope& operator=(blocking_scope const&) = delete;
  ~blocking_scope() {
    if (told_ != nullptr) told_->end_blocking();
  }

 private:
  blocking_observer* told_;
};

}  // namespace polyproc::inline v0_1::detail
