/// Which types may live in memory that several processes see at different addresses.
#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace polyproc::inline v0_1 {

/// Opt in (or out) for a type of your own: `template <> inline constexpr bool enable_shareable<my_type> = true;`
/// You then promise that its bytes mean the same in every process: no pointers, no references, no handles of one
/// process, nothing to be destroyed.
template <class T>
inline constexpr bool enable_shareable = false;

namespace detail {

template <class T>
inline constexpr bool is_std_atomic = false;
template <class T>
inline constexpr bool is_std_atomic<std::atomic<T>> = std::atomic<T>::is_always_lock_free;

/// A rule by kind, where structure can be seen; an aggregate's own members are not looked into further than the
/// language lets us see without registering them: it must be trivially destructible and not hold a pointer that
/// would be visible as its only member. What structure cannot show (a pointer among members) is documented.
template <class T>
consteval bool shareable_kind() {
  using U = std::remove_cv_t<T>;
  if constexpr (enable_shareable<U>) {
    return true;
  } else if constexpr (std::is_pointer_v<U> || std::is_member_pointer_v<U> || std::is_reference_v<U> ||
                       std::is_null_pointer_v<U> || std::is_polymorphic_v<U> || std::is_union_v<U>) {
    return false;
  } else if constexpr (std::is_arithmetic_v<U> || std::is_enum_v<U> || is_std_atomic<U>) {
    return true;
  } else if constexpr (std::is_array_v<U>) {
    return shareable_kind<std::remove_all_extents_t<U>>();
  } else if constexpr (requires { typename U::polyproc_shareable; }) {
    return true;
  } else {
    return std::is_aggregate_v<U> && std::is_trivially_destructible_v<U>;
  }
}

/// What tells one shared type from another at run time: size, alignment and kind. Two programs of one build never
/// confuse types anyway; this is for the others.
template <class T>
constexpr std::uint64_t shared_fingerprint() {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  // The compiler's own spelling of this function names T; it needs no run-time type information.
  for (char const* c = __PRETTY_FUNCTION__; *c != '\0'; ++c)
    hash = (hash ^ static_cast<unsigned char>(*c)) * 0x100000001b3ULL;
  return (hash ^ sizeof(T)) * 0x100000001b3ULL ^ alignof(T);
}

}  // namespace detail
}  // namespace polyproc::inline v0_1
