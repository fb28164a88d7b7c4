/// Doing something once, in whichever process comes first.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/sync/owner_death.hpp>

namespace polyproc::inline v0_1 {

/// A plain member of a shared object; all-zero bytes are one that was not called yet. See call_once.
template <class Waiting = waiting::adaptive, sync_backend Backend = native_backend>
class basic_once_flag {
 public:
  constexpr basic_once_flag() noexcept = default;
  basic_once_flag(basic_once_flag const&) = delete;
  basic_once_flag& operator=(basic_once_flag const&) = delete;

  /// Whether the function has returned.
  [[nodiscard]] bool called() const noexcept { return done_.load(std::memory_order_acquire) != 0; }

  using polyproc_shareable = void;

 private:
  template <class W, sync_backend B, class F, class... Args>
  friend void call_once(basic_once_flag<W, B>& flag, F&& f, Args&&... args);

  // `done` is set by the holder of `lock` when the function has returned: the commit point.
  detail::owner_lock<Backend, Waiting> lock_;
  typename Backend::template atomic<std::uint32_t> done_{0};
};
using once_flag = basic_once_flag<>;

/// Calls f(args...) if it has not been called for this flag; returns when it has returned, here or elsewhere. When it
/// throws, the exception goes to this caller and the next one calls it; so it is when the caller ends or is killed in it:
/// f must be able to begin again over what it did half. A call from within f throws std::system_error
/// (resource_deadlock_would_occur).
template <class Waiting, sync_backend Backend, class F, class... Args>
void call_once(basic_once_flag<Waiting, Backend>& flag, F&& f, Args&&... args) {
  if (flag.called()) return;
  if (flag.lock_.lock_until(never) == detail::lock_outcome::already_mine) detail::throw_relocked("call_once", "once_flag");
  struct at_the_end {
    basic_once_flag<Waiting, Backend>& flag;
    ~at_the_end() {
      flag.lock_.mark_clean();
      flag.lock_.unlock();
    }
  } const end{flag};
  if (flag.called()) return;
  std::forward<F>(f)(std::forward<Args>(args)...);
  flag.done_.store(1, std::memory_order_release);
}

}  // namespace polyproc::inline v0_1
