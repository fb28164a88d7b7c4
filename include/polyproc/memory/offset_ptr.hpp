/// A pointer that means the same wherever the memory in which it lies is mapped.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <type_traits>

namespace polyproc::inline v0_1 {

/// Holds the distance from itself to what it points to, so it must lie in the same block of shared memory as that. It
/// is copied by what it points to, not by its bytes. Works as the pointer type of an allocator; null if made from
/// nothing. (An offset_ptr cannot point to the byte behind its own first: that distance, 1, means null.)
template <class T>
class offset_ptr {
 public:
  using element_type = T;
  using value_type = std::remove_cv_t<T>;
  using difference_type = std::ptrdiff_t;
  using pointer = offset_ptr;
  using reference = std::add_lvalue_reference_t<T>;
  using iterator_category = std::random_access_iterator_tag;
  template <class U>
  using rebind = offset_ptr<U>;

  constexpr offset_ptr() noexcept = default;
  constexpr offset_ptr(std::nullptr_t) noexcept {}
  offset_ptr(T* to) noexcept { set(to); }
  offset_ptr(offset_ptr const& other) noexcept { set(other.get()); }
  template <class U>
    requires std::is_convertible_v<U*, T*>
  offset_ptr(offset_ptr<U> const& other) noexcept {
    set(other.get());
  }
  /// As static_cast between pointers.
  template <class U>
    requires(!std::is_convertible_v<U*, T*> && requires(U* p) { static_cast<T*>(p); })
  explicit offset_ptr(offset_ptr<U> const& other) noexcept {
    set(static_cast<T*>(other.get()));
  }
  offset_ptr& operator=(offset_ptr const& other) noexcept {
    set(other.get());
    return *this;
  }

  [[nodiscard]] T* get() const noexcept {
    if (distance_ == null) return nullptr;
    return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(this) + static_cast<std::uintptr_t>(distance_));
  }
  explicit operator bool() const noexcept { return distance_ != null; }
  explicit operator T*() const noexcept { return get(); }
  T* operator->() const noexcept { return get(); }
  reference operator*() const noexcept
    requires(!std::is_void_v<T>)
  {
    return *get();
  }
  reference operator[](difference_type i) const noexcept
    requires(!std::is_void_v<T>)
  {
    return get()[i];
  }
  template <class U = T>
    requires(!std::is_void_v<U>)
  static offset_ptr pointer_to(U& to) noexcept {
    return offset_ptr(std::addressof(to));
  }

  offset_ptr& operator+=(difference_type n) noexcept {
    set(get() + n);
    return *this;
  }
  offset_ptr& operator-=(difference_type n) noexcept { return *this += -n; }
  offset_ptr& operator++() noexcept { return *this += 1; }
  offset_ptr& operator--() noexcept { return *this += -1; }
  offset_ptr operator++(int) noexcept {
    auto const before = *this;
    ++*this;
    return before;
  }
  offset_ptr operator--(int) noexcept {
    auto const before = *this;
    --*this;
    return before;
  }
  friend offset_ptr operator+(offset_ptr const& p, difference_type n) noexcept { return offset_ptr(p.get() + n); }
  friend offset_ptr operator+(difference_type n, offset_ptr const& p) noexcept { return offset_ptr(p.get() + n); }
  friend offset_ptr operator-(offset_ptr const& p, difference_type n) noexcept { return offset_ptr(p.get() - n); }
  friend difference_type operator-(offset_ptr const& a, offset_ptr const& b) noexcept { return a.get() - b.get(); }
  friend bool operator==(offset_ptr const& a, offset_ptr const& b) noexcept { return a.get() == b.get(); }
  friend auto operator<=>(offset_ptr const& a, offset_ptr const& b) noexcept {
    return std::compare_three_way{}(a.get(), b.get());
  }
  friend bool operator==(offset_ptr const& a, std::nullptr_t) noexcept { return a.distance_ == null; }

 private:
  static constexpr std::ptrdiff_t null = 1;
  void set(T* to) noexcept {
    distance_ = to == nullptr ? null
                              : static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(to) -
                                                            reinterpret_cast<std::uintptr_t>(this));
  }
  std::ptrdiff_t distance_ = null;
};

}  // namespace polyproc::inline v0_1
