/// Holding a lock for as long as a variable lives. The standard's guards work with our locks too; these also tell
/// whether an earlier holder died, which matters where a lock's policy is on_owner_death::reports.
#pragma once

#include <polyproc/sync/waiting.hpp>

#include <mutex>
#include <system_error>
#include <utility>

namespace polyproc::inline v0_1 {

/// Locks in its constructor, unlocks in its destructor.
template <class Mutex>
class [[nodiscard]] lock {
 public:
  using mutex_type = Mutex;
  explicit lock(Mutex& locked) : mutex_(locked) { mutex_.lock(); }
  /// For one that the caller has locked.
  lock(Mutex& locked, std::adopt_lock_t) noexcept : mutex_(locked) {}
  lock(lock const&) = delete;
  lock& operator=(lock const&) = delete;
  ~lock() { mutex_.unlock(); }

  /// Whether an earlier holder died and nobody has repaired what is guarded yet.
  [[nodiscard]] bool owner_died() const noexcept { return mutex_.owner_is_dead(); }
  /// It is whole again.
  void repaired() { mutex_.repaired(); }

 private:
  Mutex& mutex_;
};
template <class Mutex>
lock(Mutex&) -> lock<Mutex>;
template <class Mutex>
lock(Mutex&, std::adopt_lock_t) -> lock<Mutex>;

namespace detail {

/// What unique_lock and shared_lock share; How says which of a mutex's functions are meant.
template <class Mutex, class How>
class [[nodiscard]] movable_lock {
 public:
  using mutex_type = Mutex;

  movable_lock() noexcept = default;
  explicit movable_lock(Mutex& of) : mutex_(&of) { lock(); }
  movable_lock(Mutex& of, std::defer_lock_t) noexcept : mutex_(&of) {}
  movable_lock(Mutex& of, std::adopt_lock_t) noexcept : mutex_(&of), owns_(true) {}
  movable_lock(Mutex& of, std::try_to_lock_t) : mutex_(&of) { (void)try_lock(); }
  template <class Rep, class Period>
  movable_lock(Mutex& of, std::chrono::duration<Rep, Period> wait) : mutex_(&of) {
    (void)try_lock_for(wait);
  }
  template <class Clock, class Duration>
  movable_lock(Mutex& of, std::chrono::time_point<Clock, Duration> when) : mutex_(&of) {
    (void)try_lock_until(when);
  }
  movable_lock(movable_lock&& other) noexcept
      : mutex_(std::exchange(other.mutex_, nullptr)), owns_(std::exchange(other.owns_, false)) {}
  movable_lock& operator=(movable_lock&& other) noexcept {
    movable_lock taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~movable_lock() {
    if (owns_) How::unlock(*mutex_);
  }

  void lock() {
    may_lock();
    How::lock(*mutex_);
    owns_ = true;
  }
  bool try_lock() {
    may_lock();
    return owns_ = How::try_lock(*mutex_);
  }
  template <class Rep, class Period>
  bool try_lock_for(std::chrono::duration<Rep, Period> wait) {
    may_lock();
    return owns_ = How::try_lock_for(*mutex_, wait);
  }
  template <class Clock, class Duration>
  bool try_lock_until(std::chrono::time_point<Clock, Duration> when) {
    may_lock();
    return owns_ = How::try_lock_until(*mutex_, when);
  }
  void unlock() {
    if (!owns_)
      throw std::system_error(std::make_error_code(std::errc::operation_not_permitted),
                              "polyproc: unlock through a guard that does not hold its lock");
    owns_ = false;
    How::unlock(*mutex_);
  }

  [[nodiscard]] bool owns_lock() const noexcept { return owns_; }
  explicit operator bool() const noexcept { return owns_; }
  [[nodiscard]] Mutex* mutex() const noexcept { return mutex_; }
  Mutex* release() noexcept {
    owns_ = false;
    return std::exchange(mutex_, nullptr);
  }
  void swap(movable_lock& other) noexcept {
    std::swap(mutex_, other.mutex_);
    std::swap(owns_, other.owns_);
  }

  /// Whether it is held and an earlier holder died and nobody has repaired what is guarded yet.
  [[nodiscard]] bool owner_died() const noexcept { return owns_ && mutex_->owner_is_dead(); }

 private:
  void may_lock() const {
    if (mutex_ == nullptr)
      throw std::system_error(std::make_error_code(std::errc::operation_not_permitted),
                              "polyproc: this guard has no lock; it was moved from, or made without one");
    if (owns_)
      throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                              "polyproc: this guard holds its lock already");
  }

  Mutex* mutex_ = nullptr;
  bool owns_ = false;
};

struct for_writing {
  static void lock(auto& m) { m.lock(); }
  static bool try_lock(auto& m) { return m.try_lock(); }
  static bool try_lock_for(auto& m, auto wait) { return m.try_lock_for(wait); }
  static bool try_lock_until(auto& m, auto when) { return m.try_lock_until(when); }
  static void unlock(auto& m) { m.unlock(); }
};
struct for_reading {
  static void lock(auto& m) { m.lock_shared(); }
  static bool try_lock(auto& m) { return m.try_lock_shared(); }
  static bool try_lock_for(auto& m, auto wait) { return m.try_lock_shared_for(wait); }
  static bool try_lock_until(auto& m, auto when) { return m.try_lock_shared_until(when); }
  static void unlock(auto& m) { m.unlock_shared(); }
};

}  // namespace detail

/// As std::unique_lock: movable, may be unlocked and locked again, tried, and timed.
template <class Mutex>
class [[nodiscard]] unique_lock : public detail::movable_lock<Mutex, detail::for_writing> {
  using base = detail::movable_lock<Mutex, detail::for_writing>;

 public:
  using base::base;
  /// What is guarded is whole again.
  void repaired() { this->mutex()->repaired(); }
};
template <class Mutex, class... How>
unique_lock(Mutex&, How...) -> unique_lock<Mutex>;

/// As std::shared_lock: the reader's side of a shared_mutex.
template <class Mutex>
class [[nodiscard]] shared_lock : public detail::movable_lock<Mutex, detail::for_reading> {
  using base = detail::movable_lock<Mutex, detail::for_reading>;

 public:
  using base::base;
};
template <class Mutex, class... How>
shared_lock(Mutex&, How...) -> shared_lock<Mutex>;

}  // namespace polyproc::inline v0_1
