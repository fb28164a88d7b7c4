/// The members of an aggregate, without any code by its author: how many there are is found by trying to initialise it,
/// and a structured binding names them. At most 32 members; members may be arrays.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <tuple>
#include <type_traits>
#include <utility>

namespace polyproc::inline v0_1::detail {

/// Converts to whatever a member is.
struct any_member {
  std::size_t ignored = 0;
  template <class T>
  operator T() const noexcept {
    std::abort();  // never called; without a body Clang warns of types without linkage
  }
};

template <class T, std::size_t... Before, std::size_t... Inside, std::size_t... After>
consteval bool initialises(std::index_sequence<Before...>, std::index_sequence<Inside...>,
                           std::index_sequence<After...>) {
  return requires { T{any_member{Before}..., {any_member{Inside}...}, any_member{After}...}; };
}
template <class T, std::size_t... I>
consteval bool initialises(std::index_sequence<I...>) {
  return requires { T{any_member{I}...}; };
}

inline constexpr std::size_t most_members = 32;
/// Elements of array members count here one by one, because braces around them may be left away.
inline constexpr std::size_t most_initialisers = 256;

template <class T, std::size_t N = 0>
consteval std::size_t initialiser_count() {
  if constexpr (N > most_initialisers)
    return most_initialisers + 1;
  else if constexpr (initialises<T>(std::make_index_sequence<N + 1>{}))
    return initialiser_count<T, N + 1>();
  else
    return N;
}

/// How many initialisers the member that begins at initialiser At takes: more than one for an array.
template <class T, std::size_t Total, std::size_t At, std::size_t Size = 2>
consteval std::size_t member_width() {
  if constexpr (At + Size > Total) {
    return 1;
  } else {
    // An array of Size elements leaves room for exactly the rest; a class with Size members leaves room for more.
    constexpr bool fits = initialises<T>(std::make_index_sequence<At>{}, std::make_index_sequence<Size>{},
                                         std::make_index_sequence<Total - At - Size>{});
    constexpr bool more = initialises<T>(std::make_index_sequence<At>{}, std::make_index_sequence<Size>{},
                                         std::make_index_sequence<Total - At - Size + 1>{});
    if constexpr (fits && !more)
      return Size;
    else
      return member_width<T, Total, At, Size + 1>();
  }
}

template <class T, std::size_t Total, std::size_t At = 0>
consteval std::size_t count_members() {
  if constexpr (At >= Total)
    return 0;
  else
    return 1 + count_members<T, Total, At + member_width<T, Total, At>()>();
}

/// The number of members; more than most_members when there are too many.
template <class T>
inline constexpr std::size_t member_count = [] {
  constexpr auto total = initialiser_count<T>();
  if constexpr (total > most_initialisers)
    return most_members + 1;
  else
    return count_members<T, total>();
}();

/// Converts to a base class of T only.
template <class T>
struct any_base_of {
  template <class U>
    requires(std::is_base_of_v<U, T> && !std::is_same_v<U, T>)
  operator U() const noexcept {
    std::abort();  // never called
  }
};
/// An aggregate's bases come before its members, and a structured binding does not name them.
template <class T>
concept has_bases = requires { T{any_base_of<T>{}}; };

/// A class whose members a structured binding can name.
template <class T>
concept reflectable = std::is_class_v<T> && std::is_aggregate_v<T> && !std::is_empty_v<T> && !std::is_polymorphic_v<T> &&
                      !requires { std::tuple_size<T>::value; } && !has_bases<T> &&
                      member_count<T> >= 1 && member_count<T> <= most_members;

/// Calls f(member...) with all members of `of`.
template <class T, class F>
constexpr decltype(auto) with_members(T& of, F&& f) {
  constexpr auto n = member_count<std::remove_const_t<T>>;
  if constexpr (n == 1) {
    auto& [m0] = of;
    return f(m0);
  } else if constexpr (n == 2) {
    auto& [m0, m1] = of;
    return f(m0, m1);
  } else if constexpr (n == 3) {
    auto& [m0, m1, m2] = of;
    return f(m0, m1, m2);
  } else if constexpr (n == 4) {
    auto& [m0, m1, m2, m3] = of;
    return f(m0, m1, m2, m3);
  } else if constexpr (n == 5) {
    auto& [m0, m1, m2, m3, m4] = of;
    return f(m0, m1, m2, m3, m4);
  } else if constexpr (n == 6) {
    auto& [m0, m1, m2, m3, m4, m5] = of;
    return f(m0, m1, m2, m3, m4, m5);
  } else if constexpr (n == 7) {
    auto& [m0, m1, m2, m3, m4, m5, m6] = of;
    return f(m0, m1, m2, m3, m4, m5, m6);
  } else if constexpr (n == 8) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7);
  } else if constexpr (n == 9) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8);
  } else if constexpr (n == 10) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9);
  } else if constexpr (n == 11) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10);
  } else if constexpr (n == 12) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11);
  } else if constexpr (n == 13) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12);
  } else if constexpr (n == 14) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13);
  } else if constexpr (n == 15) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14);
  } else if constexpr (n == 16) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15);
  } else if constexpr (n == 17) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16);
  } else if constexpr (n == 18) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17);
  } else if constexpr (n == 19) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18);
  } else if constexpr (n == 20) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19);
  } else if constexpr (n == 21) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20);
  } else if constexpr (n == 22) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21);
  } else if constexpr (n == 23) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21,
          m22] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22);
  } else if constexpr (n == 24) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23);
  } else if constexpr (n == 25) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24);
  } else if constexpr (n == 26) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25);
  } else if constexpr (n == 27) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25, m26] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25, m26);
  } else if constexpr (n == 28) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25, m26, m27] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25, m26, m27);
  } else if constexpr (n == 29) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25, m26, m27, m28] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25, m26, m27, m28);
  } else if constexpr (n == 30) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25, m26, m27, m28, m29] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25, m26, m27, m28, m29);
  } else if constexpr (n == 31) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25, m26, m27, m28, m29, m30] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25, m26, m27, m28, m29, m30);
  } else if constexpr (n == 32) {
    auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25, m26, m27, m28, m29, m30, m31] = of;
    return f(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
          m23, m24, m25, m26, m27, m28, m29, m30, m31);
  }
}

struct tie_all {
  template <class... Members>
  constexpr std::tuple<Members&...> operator()(Members&... each) const {
    return {each...};
  }
};

/// A tuple of references to the members, for looking at their types.
template <class T>
struct members_of {
  using type = decltype(with_members(std::declval<T&>(), tie_all{}));
};
template <class T>
using member_references = typename members_of<T>::type;

}  // namespace polyproc::inline v0_1::detail
