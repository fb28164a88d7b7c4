/// Static objects that are never destroyed.
#pragma once

#include <cstddef>
#include <new>
#include <utility>

namespace polyproc::inline v0_1::detail {

/// A T in static memory without a destructor's call at the exit. Threads and other exit handlers use it to the end; and with
/// some C libraries what is registered for the exit takes a lock that is held while handlers run: a thread that comes to such
/// an object for the first time would wait there for a process that waits for the thread.
template <class T>
class lasting {
 public:
  template <class... Args>
  explicit lasting(Args&&... args) {
    ::new (static_cast<void*>(memory_)) T(std::forward<Args>(args)...);
  }
  lasting(lasting const&) = delete;
  lasting& operator=(lasting const&) = delete;
  T& operator*() const noexcept { return *std::launder(reinterpret_cast<T*>(memory_)); }

 private:
  alignas(T) mutable std::byte memory_[sizeof(T)];
};

}  // namespace polyproc::inline v0_1::detail
