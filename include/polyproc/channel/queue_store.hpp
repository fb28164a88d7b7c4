/// Where a queue's bytes lie: what all queues agree on about positions, records and the memory behind them.
#pragma once

#include <polyproc/memory/attachment.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

namespace polyproc::inline v0_1 {

/// What became of an operation on a queue.
enum class queue_status : std::uint8_t {
  success,
  empty,    ///< Nothing to get now.
  full,     ///< No room to put now.
  closed,   ///< No more puts; and, for a get, nothing is left.
  timeout,  ///< The deadline came first.
};

namespace detail {

/// The bytes of one message outside of the queue: small ones without an allocation.
class message_buffer {
 public:
  std::byte* resize(std::size_t size) {
    size_ = size;
    if (size <= small_.size()) return small_.data();
    large_.resize(size);
    return large_.data();
  }
  [[nodiscard]] std::span<std::byte const> view() const noexcept {
    return {size_ <= small_.size() ? small_.data() : large_.data(), size_};
  }

 private:
  std::array<std::byte, 256> small_;
  std::vector<std::byte> large_;
  std::size_t size_ = 0;
};

/// Messages lie one behind the other in chunks. A record is a word, `size << 2 | kind`, and what the kind says:
///   in_place   the message itself, padded to whole words
///   run        several messages of that size one behind the other, each padded to whole words; `count << 32` says how many
///   elsewhere  two words: the block it lies in, and how many bytes into it
///   jump       one word: the chunk in which the next record lies; the size is that chunk's
enum record_kind : std::uint64_t { in_place, elsewhere, jump, run };
inline constexpr std::size_t jump_bytes = 16;
inline constexpr std::size_t elsewhere_bytes = 24;

/// A place in the chain of chunks. Every chunk has room for a jump behind its last record.
struct queue_position {
  std::uint64_t chunk = 0;   // 1, 2: one of the queue's own two; else a block of the store
  std::uint64_t serial = 0;  // of the chunk: the first is 1
  std::uint32_t at = 0;
  std::uint32_t end = 0;
  // The consumers' may be in the middle of a run: so many messages are left of it, of so many bytes each, the first at `at`.
  std::uint32_t left = 0;
  std::uint32_t size = 0;
};

/// What the number in the tag of a queue's blocks means: a message's number (from 1), or a chunk's serial, or the identity
/// of the one who reserved it.
inline constexpr std::uint64_t chunk_mark = std::uint64_t{1} << 63;
inline constexpr std::uint64_t reserved_mark = std::uint64_t{1} << 62;

/// Memory for what a queue cannot keep in itself: the family's.
template <memory_backend Backend>
class family_store {
 public:
  /// Whether memory that is used up is a reason to wait until messages are taken.
  static constexpr bool is_bounded = false;

  explicit family_store(std::uint64_t owner) noexcept : owner_(owner) {}
  [[nodiscard]] std::uint64_t owner() const noexcept { return owner_; }
  /// Large ones cost less, but the one in use stays when a queue is empty.
  [[nodiscard]] std::uint32_t largest_chunk() const noexcept { return 128 * 1024; }

  [[nodiscard]] std::optional<std::uint64_t> allocate(std::size_t size, std::uint64_t number, time_point deadline) const {
    return arena<Backend>::allocate_until(size, {owner_, number}, deadline);
  }
  [[nodiscard]] std::byte* at(std::uint64_t offset, std::size_t size) const { return arena<Backend>::at(offset, size); }
  bool free(std::uint64_t offset, time_point deadline) const noexcept { return arena<Backend>::free(offset, deadline); }
  bool renumber(std::uint64_t offset, std::uint64_t number, time_point deadline) const noexcept {
    return arena<Backend>::renumber(offset, number, deadline);
  }
  /// Frees those of which unwanted(number, offset) is true.
  template <class Unwanted>
  bool sweep(Unwanted&& unwanted, time_point deadline) const noexcept {
    return arena<Backend>::sweep(
        [&](block_tag const& tag, std::uint64_t offset) { return tag.owner == owner_ && unwanted(tag.number, offset); },
        deadline);
  }

 private:
  std::uint64_t owner_;
};

/// The same in memory that a queue with a name was made with, behind the queue:  [books | table | units]
template <memory_backend Backend>
class own_store {
  using books_type = extents<Backend>;

 public:
  static constexpr bool is_bounded = true;
  static constexpr std::size_t unit = 4096;

  static constexpr std::uint32_t units_in(std::size_t bytes) noexcept {
    return static_cast<std::uint32_t>(std::min<std::size_t>(bytes / unit, std::uint32_t{1} << 30));
  }
  /// What `bytes` of room for messages need.
  static constexpr std::size_t bytes_for(std::size_t bytes) noexcept {
    return head_bytes + units_in(bytes) * (sizeof(typename books_type::entry) + unit) + unit;
  }

  /// Zeroed memory of bytes_for(bytes).
  own_store(std::byte* memory, std::size_t bytes) noexcept
      : head_(reinterpret_cast<typename books_type::header*>(memory)),
        table_(reinterpret_cast<typename books_type::entry*>(memory + head_bytes)),
        units_(units_in(bytes)) {
    // What lies in a unit is as aligned as `memory` is.
    auto const table_end = head_bytes + units_ * sizeof(typename books_type::entry);
    first_ = memory + (table_end + alignment - 1) / alignment * alignment;
  }
  [[nodiscard]] std::uint64_t owner() const noexcept { return 1; }
  /// At most a quarter of the memory, in whole units: the rest of a chunk is for small messages only.
  [[nodiscard]] std::uint32_t largest_chunk() const noexcept {
    return static_cast<std::uint32_t>(std::clamp<std::size_t>(units_ / 4, 1, 32) * unit);
  }

  [[nodiscard]] std::optional<std::uint64_t> allocate(std::size_t size, std::uint64_t number, time_point deadline) const {
    if (size > std::size_t{units_} * unit)
      throw std::length_error("polyproc: a message does not fit into the memory that its queue was made with; make the queue "
                              "with more");
    auto b = books();
    auto const hold = b.lock(deadline);
    if (!hold.owns()) return std::nullopt;
    // Also a message of no bytes has a place of its own: it is found again by that alone.
    auto const first = b.take(static_cast<std::uint32_t>((std::max<std::size_t>(size, 1) + unit - 1) / unit), {owner(), number});
    if (first == books_type::none) throw std::bad_alloc();
    return first_offset + std::uint64_t{first} * unit;
  }
  [[nodiscard]] std::byte* at(std::uint64_t offset, std::size_t size) const {
    if (offset < first_offset || offset - first_offset > std::size_t{units_} * unit ||
        size > std::size_t{units_} * unit - (offset - first_offset))
      throw std::out_of_range("polyproc: an offset lies outside of the memory of a queue with a name");
    return first_ + (offset - first_offset);
  }
  bool free(std::uint64_t offset, time_point deadline) const noexcept {
    auto b = books();
    auto const hold = b.lock(deadline);
    if (!hold.owns()) return false;
    if (auto const index = b.find(number_of(offset)); index != books_type::none) b.give(index);
    return true;
  }
  bool renumber(std::uint64_t offset, std::uint64_t number, time_point deadline) const noexcept {
    auto b = books();
    auto const hold = b.lock(deadline);
    if (!hold.owns()) return false;
    if (auto const index = b.find(number_of(offset)); index != books_type::none) b.renumber(index, number);
    return true;
  }
  template <class Unwanted>
  bool sweep(Unwanted&& unwanted, time_point deadline) const noexcept {
    auto b = books();
    auto const hold = b.lock(deadline);
    if (!hold.owns()) return false;
    for (std::uint32_t i = 0; i < b.count(); ++i) {
      auto const& e = b.at(i);
      if (e.state == books_type::used && unwanted(e.tag.number, first_offset + std::uint64_t{e.first} * unit)) b.give(i);
    }
    return true;
  }
  [[nodiscard]] bool sound() const {
    auto b = books();
    auto const hold = b.lock();
    return b.sound();
  }

 private:
  static constexpr std::size_t head_bytes = 512;
  static constexpr std::size_t alignment = 64;
  static constexpr std::uint64_t first_offset = 4096;  // above the numbers of a queue's own chunks
  static_assert(sizeof(typename books_type::header) <= head_bytes);

  [[nodiscard]] static std::uint32_t number_of(std::uint64_t offset) noexcept {
    return static_cast<std::uint32_t>((offset - first_offset) / unit);
  }
  [[nodiscard]] books_type books() const noexcept { return {*head_, table_, units_, units_}; }

  typename books_type::header* head_;
  typename books_type::entry* table_;
  std::uint32_t units_;
  std::byte* first_;
};

}  // namespace detail
}  // namespace polyproc::inline v0_1
