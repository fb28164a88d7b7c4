/// A native handle for what the system knows nothing of: messages in shared memory.
///
/// A thread of this process sleeps where any consumer sleeps, and when there is something it puts a byte into a stream, whose
/// handle is what event loops wait for; then it waits until that was answered. So the handle is ready from the moment when
/// there is something until the owner, having taken a message, finds nothing more. There is one such thread for each
/// doorbell, and none for those who never ask for a handle.
///
/// Protocol. `rung` is written under the mutex only: the thread sets it with the byte in the stream, the owner clears it
/// with the byte out again, having seen that nothing is there. What comes after that look finds the thread awake, or wakes
/// it, as it would any consumer. What a death leaves: nothing in shared memory but the mark of a sleeper.
#pragma once

#include <polyproc/channel/stream.hpp>
#include <polyproc/sync/waiting.hpp>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class doorbell {
 public:
  using handle = typename Backend::handle;

  /// `sleep(stop)` sleeps until there is something or `stop` is true, and says whether there is something; `wake` wakes it.
  /// Both are called by the thread, or beside it, until the destructor has come back. Throws std::system_error.
  doorbell(std::function<bool(std::atomic<bool> const&)> sleep, std::function<void()> wake)
      : sleep_(std::move(sleep)), wake_(std::move(wake)), ends_(basic_stream<Backend>::pair()) {
    ringer_ = std::thread([this] { run(); });
  }
  doorbell(doorbell const&) = delete;
  doorbell& operator=(doorbell const&) = delete;
  ~doorbell() {
    {
      std::scoped_lock hold{lock_};
      stop_ = true;
    }
    answered_.notify_all();
    wake_();
    ringer_.join();
  }

  /// In a child of a fork, where its thread is not: it can neither be used nor destroyed. It stays reachable, so that nobody
  /// who looks for leaks finds one.
  void leave_alone() noexcept {
    left_next_ = left_alone_.exchange(this);
  }

  [[nodiscard]] handle native_handle() const { return ends_.first.native_handle(); }

  /// After something was taken; `more()`: whether there is more.
  template <class More>
  void answer(More&& more) noexcept {
    try {
      std::scoped_lock hold{lock_};
      if (!rung_ || more()) return;
      std::byte one{};
      (void)ends_.first.read_some({&one, 1});
      (void)ends_.first.poll();  // on some systems that makes the handle ready for the next byte
      rung_ = false;
    } catch (std::exception const&) {
      return;  // it stays ready: to look for nothing is better than to miss something
    }
    answered_.notify_all();
  }

 private:
  void run() noexcept {
    Backend::begin_own_thread("polyproc-bell");
    while (!stop_) {
      if (!sleep_(stop_)) continue;
      std::unique_lock hold{lock_};
      if (stop_) return;
      try {
        std::byte const one{};
        ends_.second.write({&one, 1});
      } catch (std::exception const&) {
        return;  // nothing can be told any more
      }
      rung_ = true;
      answered_.wait(hold, [this] { return !rung_ || stop_; });
    }
  }

  std::function<bool(std::atomic<bool> const&)> const sleep_;
  std::function<void()> const wake_;
  std::pair<basic_stream<Backend>, basic_stream<Backend>> ends_;
  std::mutex lock_;
  std::condition_variable answered_;
  bool rung_ = false;
  std::atomic<bool> stop_{false};
  std::thread ringer_;
  doorbell* left_next_ = nullptr;
  static inline std::atomic<doorbell*> left_alone_{nullptr};
};

}  // namespace polyproc::inline v0_1::detail
