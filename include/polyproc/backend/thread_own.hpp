/// An object of each thread's own that has a destructor.
///
/// With the GCC of mingw-w64 the memory of thread_local objects is given back at the end of their thread before their destructors
/// run: each destructor that looks at its object then damages the heap. There the object lies in memory of its own, and the
/// compiler's runtime is asked for its destruction in the words in which the compiler would ask. (What has no destructor may be
/// thread_local everywhere.)
#pragma once

#if defined(__MINGW32__) && defined(__GNUC__) && !defined(__clang__)
#include <cxxabi.h>

#include <memory>
#endif

namespace polyproc::inline v0_1::detail {

/// T() for each thread and each Tag, made at the thread's first use.
template <class T, class Tag = T>
T& thread_own() {
#if defined(__MINGW32__) && defined(__GNUC__) && !defined(__clang__)
  static thread_local T* mine = nullptr;
  if (mine == nullptr) {
    auto made = std::make_unique<T>();
    (void)abi::__cxa_thread_atexit([](void* own) { delete static_cast<T*>(own); }, made.get(), nullptr);
    mine = made.release();
  }
  return *mine;
#else
  static thread_local T mine;
  return mine;
#endif
}

}  // namespace polyproc::inline v0_1::detail
