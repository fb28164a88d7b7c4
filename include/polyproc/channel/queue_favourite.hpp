/// The shortest way through a queue: what the favourite of an end (sync/biased_lock.hpp) does by itself, without a lock, and
/// without an atomic read-modify-write.
///
/// It is what the holder of that end's lock does (channel/queue_core.hpp), in the same order, with a store as the commit:
/// only holders and the favourite move tail or head, and a queue is sealed only when its favourite is outside. Only small
/// messages that lie in the present chunk go this way; everything else, and whatever asks for a decision, goes the other.
#pragma once

#include <polyproc/channel/queue_layout.hpp>

#include <algorithm>
#include <cstring>

namespace polyproc::inline v0_1::detail {

template <sync_backend Backend>
struct queue_favourite {
  using header = queue_header<Backend>;
  using favoured = typename biased_lock<Backend>::favoured;
  struct outcome {
    std::size_t count = 0;
    bool dismissed = false;
  };

  /// Puts up to `count` messages of one size: several of them are one record. write(row) writes the first row.count of them;
  /// chunk_at(position) is where a chunk begins.
  template <class ChunkAt, class Write>
  [[gnu::always_inline]] static outcome put(header& h, ChunkAt&& chunk_at, std::size_t count, std::size_t size, Write&& write) {
    favoured inside(h.put_lock);
    if (!inside) return {};
    auto const tail = h.tail.load(std::memory_order_relaxed);
    auto const& at = h.tail_at[tail >> 1 & 1];
    auto room = h.capacity - ((tail >> 2) - h.seen_taken);
    if (room < count) {
      h.seen_taken = h.head.load(std::memory_order_acquire) >> 1;
      room = h.capacity - ((tail >> 2) - h.seen_taken);
    }
    auto const step = padded(size);
    auto const space = at.end - at.at - jump_bytes;  // every chunk has room for a jump behind its last record
    auto n = std::min<std::uint64_t>(count, room);
    if (8 + n * step > space) n = 8 + step > space ? 0 : (space - 8) / step;
    if (n == 0 || (tail & 1) != 0) return {};
    auto* const to = chunk_at(at) + at.at;
    std::uint64_t const word = std::uint64_t{size} << 2 | (n == 1 ? std::uint64_t{in_place} : n << 32 | run);
    std::memcpy(to, &word, 8);
    write(message_row<std::byte>{to + 8, static_cast<std::size_t>(n), size, step});
    move_on(h.tail_at[(tail >> 1 & 1) ^ 1], at, at.at + static_cast<std::uint32_t>(8 + n * step));
    h.tail.store((tail + (n << 2)) ^ 2, std::memory_order_release);
    return {static_cast<std::size_t>(n), !inside.leave()};
  }

  /// each(row) copies messages: all of those that are taken, row by row. With `Size` only messages of so many bytes are
  /// taken. `taken` and `known_puts` may be null.
  template <std::size_t Size, class ChunkAt, class Each, class Count>
  [[gnu::always_inline]] static outcome get(header& h, ChunkAt&& chunk_at, std::size_t most, Each&& each, Count* taken,
                     std::atomic<std::uint64_t>* known_puts) {
    favoured inside(h.get_lock);
    if (!inside) return {};
    auto const special = h.holds.load(std::memory_order_relaxed) | h.unsettled.load(std::memory_order_relaxed) |
                         h.litter.load(std::memory_order_relaxed);
    auto const head = h.head.load(std::memory_order_relaxed);
    if (h.seen_put - (head >> 1) < most) {
      h.seen_put = h.tail.load(std::memory_order_acquire) >> 2;
      if (known_puts != nullptr) known_puts->store(h.seen_put, std::memory_order_relaxed);
    }
    auto const there = std::min<std::uint64_t>(most, h.seen_put - (head >> 1));
    if (there == 0 || special != 0) return {};
    auto const& at = h.head_at[head & 1];
    auto const* const from = chunk_at(at);
    auto next = at.at;
    auto left = at.left;
    auto size = at.size;
    std::uint64_t n = 0;
    auto const word_at = [&](std::uint32_t where) {
      std::uint64_t word = 0;
      std::memcpy(&word, from + where, 8);
      return word;
    };
    while (n < there) {
      std::uint64_t word = 0;
      if (left == 0 && ((word = word_at(next)) & 3) == run) {
        left = static_cast<std::uint32_t>(word >> 32);
        size = static_cast<std::uint32_t>(word) >> 2;
        next += 8;
      }
      message_row<std::byte const> row{from + next, 1, Size, padded(Size)};
      if (left != 0) {
        if (Size != 0 && size != Size) break;
        if (Size == 0) row.size = row.step = size;
        row.count = static_cast<std::size_t>(std::min<std::uint64_t>(left, there - n));
        left -= static_cast<std::uint32_t>(row.count);
        next += static_cast<std::uint32_t>(row.count * padded(row.size));
      } else if (Size != 0 && word == (std::uint64_t{Size} << 2 | in_place)) {
        // Where the next one begins is known without this one: their lines are fetched side by side.
        row.first += 8;
        row.step = record_bytes(Size);
        do next += static_cast<std::uint32_t>(row.step);
        while (n + row.count < there && word_at(next) == word && ++row.count);
      } else if (Size == 0 && (word & 3) == in_place) {
        row.first += 8;
        row.size = row.step = static_cast<std::size_t>(word >> 2);
        next += static_cast<std::uint32_t>(record_bytes(word >> 2));
      } else {
        break;
      }
      each(row);
      n += row.count;
    }
    if (n == 0) return {};
    // Who takes many at once is through with them before a processor has looked ahead as far as the next ones. (The other
    // side may still be writing where it was last seen: lines are not taken from it.)
    if (n > 1 && h.seen_put - (head >> 1) >= 3 * n)
      for (std::uint32_t ahead = 128; ahead < 384; ahead += 64) __builtin_prefetch(from + next + ahead);
    if (taken != nullptr) taken->fetch_add(n);
    auto& to = h.head_at[(head & 1) ^ 1];
    move_on(to, at, next);
    to.left = left;
    to.size = size;
    h.head.store((head + (n << 1)) ^ 1, std::memory_order_release);
    return {static_cast<std::size_t>(n), !inside.leave()};
  }

 private:
  /// What another position of the same chunk says of it is right, also if somebody died before its commit.
  /// As few stores as can be, since a processor keeps only so many of them back while it waits for a line that the other side
  /// has; and none that is narrower than the load which follows, because that one would wait until all have gone out.
  static void move_on(queue_position& to, queue_position const& from, std::uint32_t at) noexcept {
    if (to.serial != from.serial) {
      to.chunk = from.chunk;
      to.serial = from.serial;
      to.end = from.end;
    }
    to.at = at;
  }
};

}  // namespace polyproc::inline v0_1::detail
