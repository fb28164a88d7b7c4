/// Data that can be reached only through its lock.
#pragma once

#include <polyproc/sync/mutex.hpp>

#include <optional>

namespace polyproc::inline v0_1 {

/// A T and its mutex in one. May live in shared<...> if T may. The policy is that of a mutex, except that a repair
/// (on_owner_death::repairs<F>) is given the T.
template <class T, class OnOwnerDeath = on_owner_death::throws, class Waiting = waiting::adaptive,
          sync_backend Backend = native_backend>
class basic_guarded {
  using mutex_type = basic_mutex<on_owner_death::reports, Waiting, Backend>;

 public:
  using value_type = T;

  constexpr basic_guarded() = default;
  /// The T is made from args (parentheses or, for an aggregate, its members in order).
  template <class... Args>
  constexpr explicit basic_guarded(std::in_place_t, Args&&... args) : value_{std::forward<Args>(args)...} {}
  basic_guarded(basic_guarded const&) = delete;
  basic_guarded& operator=(basic_guarded const&) = delete;

  /// The way to the T while it lives; lets go of the lock at its end. Move-only.
  class [[nodiscard]] access {
   public:
    access(access&& other) noexcept : of_(std::exchange(other.of_, nullptr)) {}
    access& operator=(access&& other) noexcept {
      access taken(std::move(other));
      std::swap(of_, taken.of_);
      return *this;
    }
    ~access() {
      if (of_ != nullptr) of_->mutex_.unlock();
    }
    T& operator*() const noexcept { return of_->value_; }
    T* operator->() const noexcept { return &of_->value_; }
    /// With on_owner_death::reports: whether an earlier holder died and nobody has called repaired() yet.
    [[nodiscard]] bool owner_died() const noexcept { return of_->mutex_.owner_is_dead(); }
    void repaired() const { of_->mutex_.repaired(); }

   private:
    friend basic_guarded;
    explicit access(basic_guarded& of) noexcept : of_(&of) {}
    basic_guarded* of_;
  };

  /// Waits for the lock. Throws as basic_mutex::lock.
  access lock() {
    mutex_.lock();
    return meet();
  }
  /// Nothing if somebody else has it now, or until the deadline.
  [[nodiscard]] std::optional<access> try_lock() { return met(mutex_.try_lock()); }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<access> try_lock_for(std::chrono::duration<Rep, Period> wait) {
    return met(mutex_.try_lock_for(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<access> try_lock_until(std::chrono::time_point<Clock, Duration> when) {
    return met(mutex_.try_lock_until(when));
  }

  /// What f(T&) returns, called while holding the lock.
  template <class F>
  decltype(auto) with(F&& f) {
    auto const held = lock();
    return std::forward<F>(f)(*held);
  }

  /// As basic_mutex::recover, with repair(T&).
  template <class Repair>
  bool recover(Repair&& repair) {
    return mutex_.recover([&] { std::forward<Repair>(repair)(value_); });
  }
  [[nodiscard]] bool owner_is_dead() const noexcept { return mutex_.owner_is_dead(); }

  using polyproc_shareable = T;

 private:
  access meet() {
    if (mutex_.owner_is_dead())
      detail::meet_owner_death<OnOwnerDeath>(
          "guarded object", value_, [this] { mutex_.repaired(); }, [this] { mutex_.unlock(); });
    return access(*this);
  }
  std::optional<access> met(bool locked) {
    if (!locked) return std::nullopt;
    return meet();
  }

  mutex_type mutex_;
  T value_{};
};

template <class T, class OnOwnerDeath = on_owner_death::throws>
using guarded = basic_guarded<T, OnOwnerDeath>;

}  // namespace polyproc::inline v0_1
