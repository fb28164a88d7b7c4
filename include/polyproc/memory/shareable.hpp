/// Which types may live in memory that several processes see at different addresses.
#pragma once

#include <polyproc/wire/reflect.hpp>

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

template <class T>
consteval bool shareable_kind();

template <class... Members>
consteval bool all_shareable(std::tuple<Members&...>*) {
  return (shareable_kind<Members>() && ...);
}

/// Recursively: numbers, enumerations, lock-free atomics, our primitives, arrays and aggregates of such. An aggregate with
/// more members than reflection counts, or with large arrays, is only looked at from outside: it must be trivially
/// destructible, and what its members are is its author's to know.
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
    // One of ours: void, or the type on which it depends.
    if constexpr (std::is_void_v<typename U::polyproc_shareable>)
      return true;
    else
      return shareable_kind<typename U::polyproc_shareable>();
  } else if constexpr (!std::is_aggregate_v<U> || !std::is_trivially_destructible_v<U>) {
    return false;
  } else if constexpr (requires { std::tuple_size<U>::value; typename U::value_type; }) {
    return shareable_kind<typename U::value_type>();  // std::array
  } else if constexpr (reflectable<U>) {
    return all_shareable(static_cast<member_references<U>*>(nullptr));
  } else {
    return true;
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
