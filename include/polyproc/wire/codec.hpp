/// Values as bytes. The format is the same on every system: numbers are little-endian with a fixed width (long has eight
/// bytes everywhere), counts are variable-length, an aggregate is its members in order. Nothing in it is a pointer, a type
/// name or code, so reading bytes from anywhere can make a wrong value at worst, or a decode_error.
///
/// What travels: arithmetic types (not long double), enumerations, strings, standard containers, array, pair, tuple,
/// optional, variant, chrono durations and time points, aggregates of at most 32 such members (no code needed), types
/// without state, and whatever codec<T> is specialised for.
#pragma once

#include <polyproc/wire/buffer.hpp>
#include <polyproc/wire/reflect.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <optional>
#include <string_view>
#include <variant>

namespace polyproc::inline v0_1 {

/// The customization point. Specialise it for a type of your own:
///   static void write(writer&, T const&);   static T read(reader&);
/// and, if its format may change, `static constexpr std::uint64_t fingerprint`.
template <class T>
struct codec;

template <class T>
void encode(writer& out, T const& value);
template <class T>
[[nodiscard]] T decode(reader& in);

namespace detail {

template <class T>
concept has_own_codec = requires(writer& out, reader& in, T const& value) {
  codec<T>::write(out, value);
  { codec<T>::read(in) } -> std::same_as<T>;
};

template <class T>
concept string_like = requires {
  typename T::traits_type;
  typename T::value_type;
  typename T::allocator_type;
} && requires(T s) { s.resize(1); s.data(); };

template <class T>
concept range_like = requires(T const& t) {
  typename T::value_type;
  t.begin();
  t.end();
};
template <class T>
concept map_like = range_like<T> && requires {
  typename T::key_type;
  typename T::mapped_type;
};
template <class T>
concept grows_at_end = requires(T& t, typename T::value_type&& v) { t.push_back(std::move(v)); };
template <class T>
concept grows_anywhere = requires(T& t, typename T::value_type&& v) { t.insert(std::move(v)); };
template <class T>
concept grows_behind = requires(T& t, typename T::value_type&& v) { t.insert_after(t.before_begin(), std::move(v)); };
template <class T>
concept container_like = range_like<T> && std::default_initializable<T> &&
                         (grows_at_end<T> || grows_anywhere<T> || grows_behind<T>);

template <class T>
inline constexpr bool is_view = false;
template <class C, class Traits>
inline constexpr bool is_view<std::basic_string_view<C, Traits>> = true;
template <class T, std::size_t N>
inline constexpr bool is_view<std::span<T, N>> = true;

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;
template <class T>
inline constexpr bool is_variant = false;
template <class... T>
inline constexpr bool is_variant<std::variant<T...>> = true;
template <class T>
inline constexpr bool is_pair_or_tuple = false;
template <class A, class B>
inline constexpr bool is_pair_or_tuple<std::pair<A, B>> = true;
template <class... T>
inline constexpr bool is_pair_or_tuple<std::tuple<T...>> = true;
template <class T>
inline constexpr bool is_std_array = false;
template <class T, std::size_t N>
inline constexpr bool is_std_array<std::array<T, N>> = true;
template <class T>
inline constexpr bool is_empty_array = false;
template <class T>
inline constexpr bool is_empty_array<std::array<T, 0>> = true;
template <class T>
inline constexpr bool is_duration = false;
template <class R, class P>
inline constexpr bool is_duration<std::chrono::duration<R, P>> = true;
template <class T>
inline constexpr bool is_time_point = false;
template <class C, class D>
inline constexpr bool is_time_point<std::chrono::time_point<C, D>> = true;

/// What a container's elements are read as: a map's key is not const until it is in the map.
template <class T>
struct element_of {
  using type = typename T::value_type;
};
template <map_like T>
struct element_of<T> {
  using type = std::pair<typename T::key_type, typename T::mapped_type>;
};

/// How a type travels; the order of the questions matters, and everything below asks only here.
enum class form {
  own, number, enumeration, string, view, pointer, reference, union_, polymorphic, array, optional, variant, tuple,
  duration, moment, container, stateless, aggregate, too_large, unknown
};

template <class T>
consteval form form_of() {
  if constexpr (has_own_codec<T>) return form::own;
  else if constexpr (std::is_reference_v<T>) return form::reference;
  else if constexpr (std::is_arithmetic_v<T>)
    return std::is_same_v<std::remove_cv_t<T>, long double> ? form::unknown : form::number;
  else if constexpr (std::is_enum_v<T>) return form::enumeration;
  else if constexpr (std::is_pointer_v<T> || std::is_member_pointer_v<T> || std::is_null_pointer_v<T>) return form::pointer;
  else if constexpr (std::is_bounded_array_v<T> || is_std_array<T>) return form::array;
  else if constexpr (is_view<T>) return form::view;
  else if constexpr (string_like<T>) return form::string;
  else if constexpr (is_optional<T>) return form::optional;
  else if constexpr (is_variant<T>) return form::variant;
  else if constexpr (is_pair_or_tuple<T>) return form::tuple;
  else if constexpr (is_duration<T>) return form::duration;
  else if constexpr (is_time_point<T>) return form::moment;
  else if constexpr (container_like<T>) return form::container;
  else if constexpr (std::is_union_v<T>) return form::union_;
  else if constexpr (std::is_polymorphic_v<T>) return form::polymorphic;
  else if constexpr (std::is_empty_v<T> && std::is_default_constructible_v<T>) return form::stateless;
  else if constexpr (reflectable<T>) return form::aggregate;
  else if constexpr (std::is_class_v<T> && std::is_aggregate_v<T>) return form::too_large;
  else return form::unknown;
}

template <class T, class... Seen>
inline constexpr bool seen_before = (std::is_same_v<T, Seen> || ...);

template <class T, class... Seen>
consteval bool travels();

template <class Tuple, class... Seen>
struct all_travel;
template <class... T, class... Seen>
struct all_travel<std::tuple<T...>, Seen...> {
  static constexpr bool value = (travels<std::remove_reference_t<T>, Seen...>() && ...);
};
template <class T>
struct as_tuple_of_types;
template <class A, class B>
struct as_tuple_of_types<std::pair<A, B>> {
  using type = std::tuple<A, B>;
};
template <class... T>
struct as_tuple_of_types<std::tuple<T...>> {
  using type = std::tuple<T...>;
};
template <class... T>
struct as_tuple_of_types<std::variant<T...>> {
  using type = std::tuple<T...>;
};

template <class T, class... Seen>
consteval bool travels() {
  constexpr auto f = form_of<T>();
  if constexpr (seen_before<T, Seen...>) return true;  // a type that contains itself: as far as that is concerned
  else if constexpr (f == form::own || f == form::number || f == form::enumeration || f == form::string ||
                     f == form::stateless)
    return true;
  else if constexpr (f == form::duration || f == form::moment) return form_of<typename T::rep>() == form::number;
  else if constexpr (f == form::array) {
    if constexpr (std::is_array_v<T>) return travels<std::remove_extent_t<T>, Seen..., T>();
    else return travels<typename T::value_type, Seen..., T>();
  } else if constexpr (f == form::optional) return travels<typename T::value_type, Seen..., T>();
  else if constexpr (f == form::container) return travels<typename element_of<T>::type, Seen..., T>();
  else if constexpr (f == form::variant || f == form::tuple)
    return all_travel<typename as_tuple_of_types<T>::type, Seen..., T>::value;
  else if constexpr (f == form::aggregate) return all_travel<member_references<T>, Seen..., T>::value;
  else return false;
}

}  // namespace detail

/// Whether values of T can travel to another process.
template <class T>
concept encodable = !std::is_const_v<T> && detail::travels<T>();

namespace detail {

template <class T>
consteval void explain_part();
template <class... T>
consteval void explain_all(std::tuple<T...>*);

/// Specialised for a type that cannot travel, and for which there is a better sentence than those below: say() asserts it.
template <class T>
struct refusal;

/// One sentence for a type that cannot travel. `false` depends on T so that it is said when it is used.
template <class T>
consteval void explain() {
  constexpr auto f = form_of<T>();
  constexpr bool own_words = requires { sizeof(refusal<T>); };
  if constexpr (own_words) refusal<T>::say();
  static_assert(f != form::pointer,
                "polyproc: a raw pointer cannot travel to another process: the address means nothing there; send the "
                "value, or an index into something shared");
  static_assert(f != form::reference,
                "polyproc: a reference cannot travel to another process: it refers to something in this one; send the "
                "value, or a shared<T>");
  static_assert(f != form::view,
                "polyproc: a string_view or span cannot be received: it would refer to memory of another process; send a "
                "std::string or a std::vector");
  static_assert(f != form::union_,
                "polyproc: a union cannot travel: nobody can tell which member is in use; send a std::variant");
  static_assert(f != form::polymorphic,
                "polyproc: a type with virtual functions cannot travel: its value does not say everything; specialise "
                "polyproc::codec for it, or send a plain aggregate");
  static_assert(f != form::too_large,
                "polyproc: this aggregate cannot travel as it is: it has more than 32 members, an array member of more than "
                "256 elements, or base classes; group members, use std::array, or specialise polyproc::codec");
  static_assert(f != form::unknown || own_words,
                "polyproc: this type cannot travel to another process: it is no aggregate, and polyproc cannot see how it is "
                "made; make it an aggregate, or specialise polyproc::codec for it");
  if constexpr (f == form::array) {
    if constexpr (std::is_array_v<T>) explain_part<std::remove_extent_t<T>>();
    else explain_part<typename T::value_type>();
  } else if constexpr (f == form::duration || f == form::moment) explain_part<typename T::rep>();
  else if constexpr (f == form::optional) explain_part<typename T::value_type>();
  else if constexpr (f == form::container) explain_part<typename element_of<T>::type>();
  else if constexpr (f == form::variant || f == form::tuple)
    explain_all(static_cast<typename as_tuple_of_types<T>::type*>(nullptr));
  else if constexpr (f == form::aggregate) explain_all(static_cast<member_references<T>*>(nullptr));
}
template <class T>
consteval void explain_part() {
  if constexpr (!travels<T>()) explain<T>();
}
template <class... T>
consteval void explain_all(std::tuple<T...>*) {
  (explain_part<std::remove_reference_t<T>>(), ...);
}

// --- numbers

/// The number that stands for T on the wire: the same width everywhere.
template <class T>
using wire_number = std::conditional_t<
    std::is_same_v<T, long>, std::int64_t,
    std::conditional_t<std::is_same_v<T, unsigned long>, std::uint64_t,
                       std::conditional_t<std::is_same_v<T, wchar_t>, std::uint32_t, T>>>;

/// Whether memory and wire hold a T in the same way, and any bytes of its size are one: numbers and enumerations, and
/// arrays and aggregates of nothing else that have no padding. Those are copied, one or many, in one piece.
template <class T>
consteval bool same_in_memory();
template <class... Members>
consteval std::size_t whole_members(std::tuple<Members&...>*) {
  if constexpr ((same_in_memory<std::remove_cv_t<Members>>() && ...)) return (sizeof(Members) + ... + 0);
  else return 0;
}
template <class T>
consteval bool same_in_memory() {
  constexpr auto f = form_of<T>();
  if constexpr (std::endian::native != std::endian::little || !std::is_trivially_copyable_v<T>) return false;
  else if constexpr (f == form::number)
    return !std::is_same_v<T, bool> && !std::is_same_v<T, wchar_t> && sizeof(wire_number<T>) == sizeof(T);
  else if constexpr (f == form::enumeration) return same_in_memory<std::underlying_type_t<T>>();
  else if constexpr (f == form::array) {
    if constexpr (std::is_array_v<T>) return same_in_memory<std::remove_cv_t<std::remove_extent_t<T>>>();
    else return !is_empty_array<T> && same_in_memory<std::remove_cv_t<typename T::value_type>>();
  } else if constexpr (f == form::aggregate)
    return whole_members(static_cast<member_references<T>*>(nullptr)) == sizeof(T);
  else return false;
}
template <class T>
inline constexpr bool copied_whole = same_in_memory<T>();
template <class T>
inline constexpr bool one_piece = (form_of<T>() == form::array || form_of<T>() == form::aggregate) && copied_whole<T>;

template <class T>
void write_number(writer& out, T value) {
  if constexpr (std::is_same_v<T, bool>)
    out.raw(static_cast<std::uint8_t>(value ? 1 : 0));
  else
    out.raw(static_cast<wire_number<T>>(value));
}
template <class T>
T read_number(reader& in) {
  if constexpr (std::is_same_v<T, bool>) {
    auto const n = in.raw<std::uint8_t>();
    if (n > 1) in.fail("a bool is neither 0 nor 1");
    return n == 1;
  } else if constexpr (std::is_same_v<T, wchar_t> || sizeof(wire_number<T>) != sizeof(T)) {
    auto const n = in.raw<wire_number<T>>();
    if (!std::in_range<std::conditional_t<std::is_same_v<T, wchar_t>, std::make_signed_t<std::int32_t>, T>>(n) ||
        static_cast<wire_number<T>>(static_cast<T>(n)) != n)
      in.fail("a number is too large for its type here");
    return static_cast<T>(n);
  } else {
    return static_cast<T>(in.raw<wire_number<T>>());
  }
}

/// The fewest bytes a value can take, at least 1: what bounds a count.
template <class T>
consteval std::size_t least_bytes() {
  if constexpr (std::is_arithmetic_v<T> && !has_own_codec<T>) return sizeof(wire_number<T>);
  else if constexpr (copied_whole<T>) return sizeof(T);
  else return 1;
}

// --- everything else

template <class T>
void write_value(writer& out, T const& value) {
  constexpr auto f = form_of<T>();
  if constexpr (f == form::own) codec<T>::write(out, value);
  else if constexpr (one_piece<T>) out.bytes(std::as_bytes(std::span(std::addressof(value), 1)));
  else if constexpr (f == form::number) write_number(out, value);
  else if constexpr (f == form::enumeration) write_number(out, static_cast<std::underlying_type_t<T>>(value));
  else if constexpr (f == form::string || f == form::container) {
    using item = typename element_of<T>::type;
    std::size_t n = 0;
    if constexpr (requires { value.size(); }) n = value.size();
    else for (auto it = value.begin(); it != value.end(); ++it) ++n;
    out.count(n);
    if constexpr (copied_whole<item> && requires { value.data(); }) {
      out.bytes(std::as_bytes(std::span(value.data(), n)));
    } else if constexpr (map_like<T>) {
      for (auto const& [key, mapped] : value) {
        write_value(out, key);
        write_value(out, mapped);
      }
    } else {
      for (auto const& each : value) write_value<item>(out, each);
    }
  } else if constexpr (f == form::array) {
    if constexpr (is_empty_array<T>) out.raw(std::uint8_t{0});
    else for (auto const& each : value) write_value(out, each);
  } else if constexpr (f == form::optional) {
    write_number(out, value.has_value());
    if (value) write_value(out, *value);
  } else if constexpr (f == form::variant) {
    if (value.valueless_by_exception())
      throw std::invalid_argument("polyproc: a variant without a value (valueless by exception) cannot be sent");
    out.count(value.index());
    std::visit([&](auto const& held) { write_value(out, held); }, value);
  } else if constexpr (f == form::tuple) {
    if constexpr (std::tuple_size_v<T> == 0) out.raw(std::uint8_t{0});
    else std::apply([&](auto const&... each) { (write_value(out, each), ...); }, value);
  } else if constexpr (f == form::duration) write_number(out, value.count());
  else if constexpr (f == form::moment) write_number(out, value.time_since_epoch().count());
  else if constexpr (f == form::stateless) out.raw(std::uint8_t{0});
  else if constexpr (f == form::aggregate) with_members(value, [&](auto const&... each) { (write_value(out, each), ...); });
}

template <class T>
T read_value(reader& in);

template <class T>
void read_into(reader& in, T& value) {
  if constexpr (std::is_array_v<T> && copied_whole<T>) std::memcpy(&value, in.bytes(sizeof value).data(), sizeof value);
  else if constexpr (std::is_array_v<T>) for (auto& each : value) read_into(in, each);
  else value = read_value<T>(in);
}

template <class T, class... Members>
T read_members(reader& in, std::tuple<Members&...>*) {
  if constexpr ((std::is_array_v<Members> || ...)) {
    T value{};
    with_members(value, [&](auto&... each) { (read_into(in, each), ...); });
    return value;
  } else {
    return T{read_value<std::remove_const_t<Members>>(in)...};  // braces: in this order
  }
}
template <class... Members>
std::tuple<Members...> read_tuple(reader& in, std::tuple<Members...>*) {
  return std::tuple<Members...>{read_value<Members>(in)...};
}

template <class T, std::size_t I = 0>
T read_alternative(reader& in, std::uint64_t index) {
  if constexpr (I < std::variant_size_v<T>) {
    if (index == I) return T(std::in_place_index<I>, read_value<std::variant_alternative_t<I, T>>(in));
    return read_alternative<T, I + 1>(in, index);
  } else {
    in.fail("a variant has no alternative number " + std::to_string(index));
  }
}

template <class T, std::size_t... I>
T read_array(reader& in, std::index_sequence<I...>) {
  return T{{((void)I, read_value<typename T::value_type>(in))...}};
}

template <class T>
T read_whole(reader& in) {
  auto const from = in.bytes(sizeof(T));
  if constexpr (std::is_trivially_default_constructible_v<T>) {
    T value;
    std::memcpy(&value, from.data(), sizeof value);
    return value;
  } else {
    std::array<std::byte, sizeof(T)> bytes;
    std::memcpy(bytes.data(), from.data(), bytes.size());
    return std::bit_cast<T>(bytes);
  }
}

template <class T>
T read_container(reader& in) {
  using item = typename element_of<T>::type;
  auto const n = in.count_of(least_bytes<item>());
  if constexpr (copied_whole<item> && std::default_initializable<item> && requires(T& t) { t.resize(n); t.data(); }) {
    auto const from = in.bytes(n * sizeof(item));
    if constexpr (std::is_constructible_v<T, item const*, item const*>) {
      // Into memory that nobody has set to zero before, when it lies so that it can be read where it is.
      if (n != 0 && reinterpret_cast<std::uintptr_t>(from.data()) % alignof(item) == 0) {
        auto const* const first = reinterpret_cast<item const*>(from.data());
        return T(first, first + n);
      }
    }
    T value{};
    value.resize(n);
    if (n != 0) std::memcpy(static_cast<void*>(value.data()), from.data(), from.size());
    return value;
  } else {
    T value{};
    // Not more at once than the bytes that are there justify: the elements may be larger here than on the wire.
    if constexpr (requires { value.reserve(n); }) value.reserve(std::min(n, in.remaining() / sizeof(item) + 1));
    if constexpr (grows_at_end<T>) {
      for (std::size_t i = 0; i < n; ++i) value.push_back(read_value<item>(in));
    } else if constexpr (grows_anywhere<T>) {
      for (std::size_t i = 0; i < n; ++i) {
        auto const before = value.size();
        value.insert(read_value<item>(in));
        if (value.size() == before) in.fail("a key stands twice in a container that holds each once");
      }
    } else {
      auto end = value.before_begin();
      for (std::size_t i = 0; i < n; ++i) end = value.insert_after(end, read_value<item>(in));
    }
    return value;
  }
}

/// What reader::level asks for.
template <class T>
consteval std::size_t room_of() {
  if constexpr (form_of<T>() == form::own) return sizeof(T);
  else if constexpr (form_of<T>() == form::container) return sizeof(typename element_of<T>::type);
  else return 0;
}

template <class T>
T read_value(reader& in) {
  constexpr auto f = form_of<T>();
  if constexpr (f == form::number) return read_number<T>(in);
  else if constexpr (f == form::enumeration) return static_cast<T>(read_number<std::underlying_type_t<T>>(in));
  else if constexpr (f == form::duration) return T(read_number<typename T::rep>(in));
  else if constexpr (f == form::moment) return T(typename T::duration(read_number<typename T::rep>(in)));
  else if constexpr (f == form::string) return read_container<T>(in);
  else if constexpr (one_piece<T>) return read_whole<T>(in);
  else {
    typename reader::level const nested(in, room_of<T>());
    if constexpr (f == form::own) return codec<T>::read(in);
    else if constexpr (f == form::container) return read_container<T>(in);
    else if constexpr (f == form::array) {
      if constexpr (is_empty_array<T>) {
        if (in.raw<std::uint8_t>() != 0) in.fail("an empty array is not empty");
        return T{};
      } else if constexpr (std::tuple_size_v<T> <= 64) {
        return read_array<T>(in, std::make_index_sequence<std::tuple_size_v<T>>{});
      } else {
        T value{};
        for (auto& each : value) each = read_value<typename T::value_type>(in);
        return value;
      }
    } else if constexpr (f == form::optional) {
      if (!read_number<bool>(in)) return T{};
      return T(std::in_place, read_value<typename T::value_type>(in));
    } else if constexpr (f == form::variant) return read_alternative<T>(in, in.count());
    else if constexpr (f == form::tuple) {
      if constexpr (std::tuple_size_v<T> == 0) {
        if (in.raw<std::uint8_t>() != 0) in.fail("an empty tuple is not empty");
        return T{};
      } else {
        auto parts = read_tuple(in, static_cast<typename as_tuple_of_types<T>::type*>(nullptr));
        return std::apply([](auto&... each) { return T{std::move(each)...}; }, parts);
      }
    } else if constexpr (f == form::stateless) {
      if (in.raw<std::uint8_t>() != 0) in.fail("a value without state has some");
      return T{};
    } else {
      return read_members<T>(in, static_cast<member_references<T>*>(nullptr));
    }
  }
}

// --- fingerprints

constexpr std::uint64_t mix(std::uint64_t hash, std::uint64_t more) noexcept {
  return (hash ^ (more + 0x9e3779b97f4a7c15ULL)) * 0x100000001b3ULL ^ (hash >> 29);
}

template <class T, class... Seen>
consteval std::uint64_t fingerprint_of();

template <class... Seen, class... T>
consteval std::uint64_t fingerprint_all(std::uint64_t hash, std::tuple<T...>*) {
  ((hash = mix(hash, fingerprint_of<std::remove_reference_t<T>, Seen...>())), ...);
  return mix(hash, sizeof...(T));
}

template <class T, class... Seen>
consteval std::uint64_t fingerprint_of() {
  constexpr auto f = form_of<T>();
  auto hash = mix(0xcbf29ce484222325ULL, static_cast<std::uint64_t>(f));
  if constexpr (seen_before<T, Seen...>) return mix(hash, sizeof...(Seen));
  else if constexpr (f == form::own) {
    if constexpr (requires { codec<T>::fingerprint; }) return mix(hash, codec<T>::fingerprint);
    else return hash;
  } else if constexpr (f == form::number)
    return mix(mix(hash, sizeof(wire_number<T>)),
               std::is_same_v<T, bool> ? 4 : std::is_floating_point_v<T> ? 3 : std::is_signed_v<wire_number<T>> ? 2 : 1);
  else if constexpr (f == form::enumeration) return mix(hash, fingerprint_of<std::underlying_type_t<T>>());
  else if constexpr (f == form::string || f == form::container)
    return mix(mix(hash, map_like<T> ? 2 : 1), fingerprint_of<typename element_of<T>::type, Seen..., T>());
  else if constexpr (f == form::array) {
    if constexpr (std::is_array_v<T>)
      return mix(mix(hash, std::extent_v<T>), fingerprint_of<std::remove_extent_t<T>, Seen..., T>());
    else
      return mix(mix(hash, std::tuple_size_v<T>), fingerprint_of<typename T::value_type, Seen..., T>());
  } else if constexpr (f == form::optional) return mix(hash, fingerprint_of<typename T::value_type, Seen..., T>());
  else if constexpr (f == form::variant || f == form::tuple)
    return fingerprint_all<Seen..., T>(hash, static_cast<typename as_tuple_of_types<T>::type*>(nullptr));
  else if constexpr (f == form::duration || f == form::moment) {
    using period = typename T::period;
    return mix(mix(mix(hash, fingerprint_of<typename T::rep>()), period::num), period::den);
  } else if constexpr (f == form::aggregate)
    return fingerprint_all<Seen..., T>(hash, static_cast<member_references<T>*>(nullptr));
  else return hash;
}

}  // namespace detail

/// A number that two types share only if their values look alike on the wire; the same in every build.
template <class T>
  requires encodable<T>
consteval std::uint64_t type_fingerprint() {
  return detail::fingerprint_of<T>();
}

/// Appends the value. Throws std::bad_alloc, and what a codec of yours throws.
template <class T>
void encode(writer& out, T const& value) {
  if constexpr (encodable<T>) detail::write_value(out, value);
  else detail::explain<T>();
}

/// Reads a value. Throws decode_error, std::bad_alloc, and what a codec of yours throws.
template <class T>
T decode(reader& in) {
  if constexpr (encodable<T>) return detail::read_value<T>(in);
  else detail::explain<T>();
}

/// The bytes of one value.
template <class T>
[[nodiscard]] std::vector<std::byte> to_bytes(T const& value) {
  writer out;
  encode(out, value);
  out.sent();
  return {out.view().begin(), out.view().end()};
}

/// The value that all of the bytes are. Throws as decode, also when bytes are left over.
template <class T>
[[nodiscard]] T from_bytes(std::span<std::byte const> bytes) {
  reader in(bytes);
  T value = decode<T>(in);
  in.expect_end();
  return value;
}

}  // namespace polyproc::inline v0_1
