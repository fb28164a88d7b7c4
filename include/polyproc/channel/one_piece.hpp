/// Large values that lie in memory as they go into a message: they are copied once on their way in, to where they will be
/// read.
#pragma once

#include <polyproc/channel/queue_core.hpp>
#include <polyproc/wire/codec.hpp>

#include <limits>
#include <string>

namespace polyproc::inline v0_1::detail {

/// Values whose encoding is a count and then the elements as they lie in memory.
template <class T>
struct elements_of {};
template <>
struct elements_of<std::string> {
  using type = char;
};
template <class E>
  requires(copied_whole<E> && alignof(E) <= 64)
struct elements_of<std::vector<E>> {
  using type = E;
};
template <class T>
concept lies_in_one_piece = std::endian::native == std::endian::little && requires { typename elements_of<T>::type; };

/// From this size on (in bytes) a message is not copied more often than must be.
inline constexpr std::size_t large_message = 16384;

template <class T>
[[nodiscard]] bool is_large(T const& value) noexcept {
  if constexpr (lies_in_one_piece<T>) return value.size() >= large_message / sizeof(typename elements_of<T>::type);
  else return false;
}

/// A reserved block for a message of elements: they lie on a boundary of 64 bytes, right behind their count.
template <class E>
struct room_for_elements {
  std::uint64_t block;
  std::size_t skip;
  std::span<E> elements;

  /// Nothing if the store's books were held by somebody until the deadline. Throws std::bad_alloc.
  template <class Core>
  static std::optional<room_for_elements> reserve(Core& core, std::size_t count, std::uint64_t me, time_point deadline) {
    if (count > (std::numeric_limits<std::size_t>::max() - 64) / sizeof(E)) throw std::bad_alloc();
    auto const bytes = 64 + count * sizeof(E);
    auto const block = core.reserve(bytes, me, deadline);
    if (!block) return std::nullopt;
    auto* const memory = core.at(*block, bytes);
    writer head;
    head.count(count);
    auto const skip = 64 - head.view().size();
    std::memcpy(memory + skip, head.view().data(), head.view().size());
    return room_for_elements{*block, skip, std::span<E>(reinterpret_cast<E*>(memory + 64), count)};
  }
  /// Of the message.
  [[nodiscard]] std::size_t bytes() const noexcept { return elements.size_bytes() + 64 - skip; }
};

}  // namespace polyproc::inline v0_1::detail
