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

  /// write(i, to) writes message i; chunk_at(position) is where a chunk begins.
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
    auto const need = record_bytes(size);
    auto const space = at.end - at.at - jump_bytes;  // every chunk has room for a jump behind its last record
    auto n = std::min<std::uint64_t>(count, room);
    if (need * n > space) n = space / need;
    if (n == 0 || (tail & 1) != 0) return {};
    auto* to = chunk_at(at) + at.at;
    std::uint64_t const word = std::uint64_t{size} << 2 | in_place;
    for (std::size_t i = 0; i < n; ++i, to += need) {
      std::memcpy(to, &word, 8);
      write(i, to + 8);
    }
    move_on(h.tail_at[(tail >> 1 & 1) ^ 1], at, at.at + static_cast<std::uint32_t>(n * need));
    h.tail.store((tail + (n << 2)) ^ 2, std::memory_order_release);
    return {static_cast<std::size_t>(n), !inside.leave()};
  }

  /// each(bytes) copies a message. With `Size` only messages of so many bytes are taken, and each(first, count) copies that many,
  /// which lie side by side: record_bytes(Size) from one to the next. `taken` and `known_puts` may be null.
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
    std::uint64_t n = 0;
    auto const word_at = [&](std::uint32_t where) {
      std::uint64_t word = 0;
      std::memcpy(&word, from + where, 8);
      return word;
    };
    if constexpr (Size != 0) {
      // Where the next one begins is known without this one: their lines are fetched side by side.
      constexpr auto step = static_cast<std::uint32_t>(record_bytes(Size));
      while (n < there && word_at(next) == (std::uint64_t{Size} << 2 | in_place)) {
        next += step;
        ++n;
      }
      if (n == 0) return {};
      each(from + at.at + 8, static_cast<std::size_t>(n));
    } else {
      for (; n < there; ++n) {
        auto const word = word_at(next);
        if ((word & 3) != in_place) break;
        each(std::span<std::byte const>(from + next + 8, static_cast<std::size_t>(word >> 2)));
        next += static_cast<std::uint32_t>(record_bytes(word >> 2));
      }
      if (n == 0) return {};
    }
    if (taken != nullptr) taken->fetch_add(n);
    move_on(h.head_at[(head & 1) ^ 1], at, next);
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
