/// A backend whose atomics, parking, clock and liveness are those of the explorer: the shipping templates run on it as they
/// are.
#pragma once

#include "model/explorer.hpp"

#include <polyproc/sync/biased_lock.hpp>

#include <bit>
#include <type_traits>

namespace model {

template <class T>
std::uint64_t bits_of(T value) {
  return static_cast<std::uint64_t>(value);
}

/// The part of std::atomic that the library uses. All-zero bytes are the value 0.
template <class T>
class atomic {
 public:
  constexpr atomic() noexcept = default;
  constexpr atomic(T value) noexcept : value_(value) {}
  atomic(atomic const&) = delete;
  atomic& operator=(atomic const&) = delete;

  T load(std::memory_order order = std::memory_order_seq_cst) const noexcept {
    auto& x = explorer::get();
    x.point("load", this, bits_of(value_));
    auto const got = static_cast<T>(x.load(this, bits_of(value_), order));
    x.point_after("loaded");
    return got;
  }
  void store(T value, std::memory_order order = std::memory_order_seq_cst) noexcept {
    auto& x = explorer::get();
    x.point("store", this, bits_of(value));
    x.store(this, bits_of(value_), bits_of(value), order, false);
    value_ = value;
    x.point_after("stored");
  }
  T exchange(T value, std::memory_order order = std::memory_order_seq_cst) noexcept {
    return change("exchange", order, [&](T) { return value; });
  }
  T fetch_add(T by, std::memory_order order = std::memory_order_seq_cst) noexcept {
    return change("add", order, [&](T old) { return static_cast<T>(old + by); });
  }
  T fetch_sub(T by, std::memory_order order = std::memory_order_seq_cst) noexcept {
    return change("subtract", order, [&](T old) { return static_cast<T>(old - by); });
  }
  T fetch_or(T bits, std::memory_order order = std::memory_order_seq_cst) noexcept {
    return change("or", order, [&](T old) { return static_cast<T>(old | bits); });
  }
  T fetch_and(T bits, std::memory_order order = std::memory_order_seq_cst) noexcept {
    return change("and", order, [&](T old) { return static_cast<T>(old & bits); });
  }
  bool compare_exchange_strong(T& expected, T desired, std::memory_order success = std::memory_order_seq_cst) noexcept {
    return compare_exchange_strong(expected, desired, success, without_release(success));
  }
  bool compare_exchange_strong(T& expected, T desired, std::memory_order success, std::memory_order failure) noexcept {
    auto& x = explorer::get();
    x.point("compare-exchange", this, bits_of(desired));
    bool const same = value_ == expected;
    if (same) {
      x.store(this, bits_of(value_), bits_of(desired), success, true);
      value_ = desired;
    } else {
      if (x.inside() && explorer::acquires(failure)) x.my_clock().join(x.at(this).released);
      expected = value_;
    }
    x.point_after("compare-exchanged");
    return same;
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order success = std::memory_order_seq_cst) noexcept {
    return compare_exchange_strong(expected, desired, success);
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order success, std::memory_order failure) noexcept {
    return compare_exchange_strong(expected, desired, success, failure);
  }

  /// The newest value, for the model itself.
  [[nodiscard]] T newest() const noexcept { return value_; }

 private:
  static constexpr std::memory_order without_release(std::memory_order o) {
    if (o == std::memory_order_acq_rel) return std::memory_order_acquire;
    if (o == std::memory_order_release) return std::memory_order_relaxed;
    return o;
  }
  template <class F>
  T change(char const* what, std::memory_order order, F&& f) noexcept {
    auto& x = explorer::get();
    auto const seen = value_;
    x.point(what, this, bits_of(f(seen)));
    auto const old = value_;
    auto const next = f(old);
    x.store(this, bits_of(old), bits_of(next), order, true);
    value_ = next;
    x.point_after(what);
    return old;
  }

  T value_{};
};

}  // namespace model

struct model_backend {
  template <class T>
  using atomic = model::atomic<T>;
  static constexpr std::string_view name = "model";

  static polyproc::time_point now() noexcept { return model::explorer::get().now(); }
  static void yield() noexcept { model::explorer::get().yield(); }
  static unsigned usable_cpus() noexcept { return 2; }

  // An identity says which participant it is, and is none that a zeroed word could be taken for.
  static std::uint64_t self() noexcept { return static_cast<std::uint64_t>(model::explorer::get().current()) + 16; }
  static bool alive(std::uint64_t id) noexcept {
    auto& x = model::explorer::get();
    x.point("is it alive", nullptr);
    return x.alive(static_cast<int>(id) - 16);
  }

  static void wait(atomic<std::uint32_t> const& word, std::uint32_t expected, polyproc::time_point until) noexcept {
    auto& x = model::explorer::get();
    x.point("wait", &word, word.newest());
    if (word.newest() == expected) x.park(&word, until);
  }
  static void wake_one(atomic<std::uint32_t>& word) noexcept {
    auto& x = model::explorer::get();
    x.point("wake one", &word);
    x.wake(&word, false);
  }
  static void wake_all(atomic<std::uint32_t>& word) noexcept {
    auto& x = model::explorer::get();
    x.point("wake all", &word);
    x.wake(&word, true);
  }

  // A light fence keeps the order of the code, and nothing else; a heavy one shows everybody everything.
  static void prepare_light_fences() noexcept {}
  static bool has_light_fences() noexcept { return true; }
  static void light_fence() noexcept {}
  static void heavy_fence() noexcept {
    auto& x = model::explorer::get();
    x.point("heavy fence");
    x.heavy_fence();
  }

  // --- memory: a block of this process, which only as much of is cleared before each run as a small scenario uses.
  static constexpr std::size_t family_reserved = 0;
  static polyproc::family_segment family() { return {memory(), memory_size}; }
  static bool commit(std::byte*, std::size_t) noexcept { return true; }
  static void discard(std::byte*, std::size_t) noexcept {}

  static constexpr std::size_t memory_size = std::size_t{2} << 20;
  static std::byte* memory() {
    static std::byte* const all = static_cast<std::byte*>(
        ::mmap(nullptr, memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    return all;
  }
};

namespace polyproc::inline v0_1::detail {
/// Looking before parking is more of the same loads: left out, and with it a memory that would outlive a run.
template <>
class adaptive_look<model_backend> {
 public:
  template <class Ready>
  bool operator()(Ready&& ready) {
    return ready();
  }
};
/// At once: what happens between two favourites is what is to be looked at.
template <>
inline constexpr std::uint32_t favourite_after<model_backend> = 1;
}  // namespace polyproc::inline v0_1::detail

static_assert(polyproc::memory_backend<model_backend>);
