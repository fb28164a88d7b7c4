/// The shared part of a queue: bytes in, bytes out, in the order in which the puts were committed.
///
///   [head page | slots, one cache line each | ring of payload bytes]      large messages: a block of the arena each
///
/// tail = 2 * (messages put since the beginning) + (1 if closed), head = messages taken. Message n lies in slot
/// n % slots: inline if it is small, else in the ring (from `begin` to `end`, positions that only grow), else in a
/// block of its own tagged {this queue, n + 1}.
///
/// Who may write what: the holder of put_lock writes slots [tail, ...), the ring between the newest and the oldest
/// message, and moves tail; the holder of get_lock moves head; anybody may set tail's lowest bit. The commit of a put
/// is one compare-exchange of tail (which fails if the queue was closed meanwhile); the commit of a get is one store of
/// head. Everything else follows from those two numbers, so:
///   a producer that dies before its commit leaves a slot and ring bytes that the next one overwrites, and perhaps a
///     block tagged with a number past tail: the next holder of put_lock, told by the lock, frees it;
///   a producer that dies after it has put the message; if it had not yet woken anybody, sleepers find it when they
///     look again (idle_recheck);
///   a consumer that dies before its commit has taken nothing; after it, the message is gone with it, and a block
///     tagged with a number up to head is freed by the next holder of get_lock;
///   one that is stopped anywhere holds up its own side only, and there the timed forms return in time.
///
/// Sleeping is that of sync/waiting.hpp: no sleeper is counted anywhere, so none that dies can be missed or waited for.
/// (Both sides wake all: whoever finds nothing left goes back to sleep.)
#pragma once

#include <polyproc/memory/attachment.hpp>

#include <array>
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

template <memory_backend Backend>
class queue_core {
 public:
  static constexpr std::uint64_t layout = 1;

  static std::size_t bytes_for(std::uint64_t capacity) {
    return head_bytes + std::bit_ceil(capacity) * sizeof(slot) + ring_for(capacity);
  }
  /// In zeroed memory of bytes_for(capacity).
  static void make(std::byte* memory, std::uint64_t capacity) {
    auto& h = *reinterpret_cast<header*>(memory);
    h.capacity = capacity;
    h.slots = std::bit_ceil(capacity);
    h.ring = ring_for(capacity);
  }

  queue_core(std::byte* memory, std::uint64_t offset) noexcept
      : head_(reinterpret_cast<header*>(memory)),
        slots_(reinterpret_cast<slot*>(memory + head_bytes)),
        ring_(memory + head_bytes + head_->slots * sizeof(slot)),
        offset_(offset) {}

  [[nodiscard]] std::uint64_t capacity() const noexcept { return head_->capacity; }
  /// Snapshots: exact at some moment during the call; never wait.
  [[nodiscard]] std::uint64_t size() const noexcept {
    for (;;) {
      auto const taken = head_->head.load();
      auto const put = head_->tail.load() >> 1;
      if (taken == head_->head.load()) return put - taken;
    }
  }
  [[nodiscard]] bool closed() const noexcept { return (head_->tail.load() & 1) != 0; }

  void close() noexcept {
    head_->tail.fetch_or(1);
    head_->getters.wake_all();
    head_->putters.wake_all();
  }

  /// success, full, closed; timeout when the deadline of a waiting put came first. Throws std::bad_alloc, having changed
  /// nothing, when there is no memory for a large message.
  queue_status put(std::span<std::byte const> message, time_point deadline, bool wait) {
    pace<Backend> looking{idle_recheck};
    for (;;) {
      if (full_now()) {
        if (closed()) return queue_status::closed;
        if (!wait) return queue_status::full;
      } else {
        repairing_hold<Backend> hold{head_->put_lock, lock_deadline(deadline, wait),
                                     [&] { repair_put(lock_deadline(deadline, wait)); }};
        if (!hold.owns()) return wait ? queue_status::timeout : queue_status::full;
        auto const status = put_locked(message, lock_deadline(deadline, wait));
        hold.release();
        if (status == queue_status::success) {
          head_->getters.wake_all();
          return status;
        }
        if (status == queue_status::timeout) return wait ? status : queue_status::full;
        if (status == queue_status::closed || !wait) return status;
      }
      if (head_->putters.sleep(deadline, looking, [this] { return !full_now() || closed(); }) == slept::late)
        return queue_status::timeout;
    }
  }

  /// success, empty, closed; timeout. Throws std::bad_alloc, having taken nothing.
  queue_status get(message_buffer& into, time_point deadline, bool wait) {
    pace<Backend> looking{idle_recheck};
    for (;;) {
      if (empty_now()) {
        if (closed() && empty_now()) return queue_status::closed;
        if (!wait) return queue_status::empty;
      } else {
        repairing_hold<Backend> hold{head_->get_lock, lock_deadline(deadline, wait),
                                     [&] { repair_get(lock_deadline(deadline, wait)); }};
        if (!hold.owns()) return wait ? queue_status::timeout : queue_status::empty;
        auto const status = get_locked(into, lock_deadline(deadline, wait));
        hold.release();
        if (status == queue_status::success) {
          head_->putters.wake_all();
          return status;
        }
        if (status == queue_status::closed || !wait) return status;
      }
      if (head_->getters.sleep(deadline, looking, [this] { return !empty_now() || closed(); }) == slept::late)
        return queue_status::timeout;
    }
  }

 private:
  template <class T>
  using atomic = typename Backend::template atomic<T>;
  using slept = typename sleepers<Backend, waiting::adaptive>::slept;

  struct alignas(64) header {
    std::uint64_t capacity;
    std::uint64_t slots;  // a power of two, at least capacity
    std::uint64_t ring;   // bytes

    alignas(64) owner_lock<Backend> put_lock;
    atomic<std::uint64_t> tail;
    alignas(64) owner_lock<Backend> get_lock;
    atomic<std::uint64_t> head;
    alignas(64) sleepers<Backend, waiting::adaptive> getters;
    alignas(64) sleepers<Backend, waiting::adaptive> putters;
    atomic<std::uint32_t> litter;  // a block of a message that is gone could not be freed at the time
  };
  enum place : std::uint32_t { in_slot, in_ring, in_block };
  struct alignas(64) slot {
    std::uint64_t begin;
    std::uint64_t end;
    std::uint64_t size;
    std::uint32_t where;
    std::byte data[36];
  };
  static constexpr std::size_t head_bytes = 512;
  static_assert(sizeof(slot) == 64 && sizeof(header) <= head_bytes);

  static std::uint64_t ring_for(std::uint64_t capacity) noexcept {
    return std::clamp<std::uint64_t>(std::bit_ceil(capacity) * 256, 4096, 1 << 20);
  }

  /// try_ forms do not wait for what is not there, but a lock that is held for a moment is not a reason to fail.
  static time_point lock_deadline(time_point deadline, bool wait) noexcept {
    return wait ? deadline : Backend::now() + holder_recheck;
  }

  [[nodiscard]] bool full_now() const noexcept { return size() >= head_->capacity; }
  [[nodiscard]] bool empty_now() const noexcept {
    return head_->head.load() == head_->tail.load() >> 1;
  }
  [[nodiscard]] slot& at(std::uint64_t n) const noexcept { return slots_[n & (head_->slots - 1)]; }

  queue_status put_locked(std::span<std::byte const> message, time_point deadline) {
    auto tail = head_->tail.load(std::memory_order_relaxed);
    if ((tail & 1) != 0) return queue_status::closed;
    auto const n = tail >> 1;
    auto const taken = head_->head.load(std::memory_order_acquire);
    if (n - taken >= head_->capacity) return queue_status::full;

    auto& s = at(n);
    std::uint64_t const newest = n == 0 ? 0 : at(n - 1).end;
    std::uint64_t block = 0;
    s.begin = s.end = newest;
    s.size = message.size();
    if (message.size() <= sizeof s.data) {
      s.where = in_slot;
      copy(s.data, message);
    } else if (auto const begin = room(message.size(), newest, taken == n ? newest : at(taken).begin); begin != no_room) {
      s.where = in_ring;
      s.begin = begin;
      s.end = begin + message.size();
      copy(ring_ + begin % head_->ring, message);
    } else {
      auto const taken_block = arena<Backend>::allocate_until(message.size(), {offset_, n + 1}, deadline);
      if (!taken_block) return queue_status::timeout;
      block = *taken_block;
      copy(arena<Backend>::at(block, message.size()), message);
      s.where = in_block;
      std::memcpy(s.data, &block, sizeof block);
    }
    if (head_->tail.compare_exchange_strong(tail, tail + 2)) return queue_status::success;
    if (block != 0) drop(block, deadline);
    return queue_status::closed;  // the only change that others can make to tail
  }

  queue_status get_locked(message_buffer& into, time_point deadline) {
    auto const n = head_->head.load(std::memory_order_relaxed);
    auto const tail = head_->tail.load();
    if (n == tail >> 1) return (tail & 1) != 0 ? queue_status::closed : queue_status::empty;
    auto const& s = at(n);
    auto* const out = into.resize(s.size);
    std::uint64_t block = 0;
    switch (s.where) {
      case in_slot: std::memcpy(out, s.data, s.size); break;
      case in_ring: std::memcpy(out, ring_ + s.begin % head_->ring, s.size); break;
      default:
        std::memcpy(&block, s.data, sizeof block);
        std::memcpy(out, arena<Backend>::at(block, s.size), s.size);
    }
    head_->head.store(n + 1);
    if (block != 0) drop(block, deadline);
    if (head_->litter.load(std::memory_order_relaxed) != 0) repair_get(deadline);
    return queue_status::success;
  }

  /// Frees a block that no message needs any more. The arena's books may be held by somebody who is stopped: then it
  /// stays, and a later get, or the end of the queue, tidies up.
  void drop(std::uint64_t block, time_point deadline) noexcept {
    if (!arena<Backend>::free(block, deadline)) head_->litter.store(1, std::memory_order_relaxed);
  }

  static constexpr std::uint64_t no_room = ~0ULL;

  /// Where a message of that size can lie in one piece behind the newest without touching the oldest.
  [[nodiscard]] std::uint64_t room(std::uint64_t size, std::uint64_t newest, std::uint64_t oldest) const noexcept {
    auto const ring = head_->ring;
    if (size > ring / 4) return no_room;
    auto begin = newest;
    if (begin % ring + size > ring) begin += ring - begin % ring;
    return begin + size - oldest <= ring ? begin : no_room;
  }

  static void copy(std::byte* to, std::span<std::byte const> from) noexcept {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
  }

  void repair_put(time_point deadline) noexcept {
    auto const put = head_->tail.load() >> 1;
    // A block that is left lying gets into the past as messages are put, and is then found by repair_get.
    if (!arena<Backend>::sweep([&](block_tag const& tag) { return tag.owner == offset_ && tag.number > put; }, deadline))
      head_->litter.store(1, std::memory_order_relaxed);
  }
  void repair_get(time_point deadline) noexcept {
    auto const taken = head_->head.load();
    head_->litter.store(0, std::memory_order_relaxed);
    if (!arena<Backend>::sweep([&](block_tag const& tag) { return tag.owner == offset_ && tag.number <= taken; }, deadline))
      head_->litter.store(1, std::memory_order_relaxed);
  }

  header* head_;
  slot* slots_;
  std::byte* ring_;
  std::uint64_t offset_;
};

}  // namespace detail
}  // namespace polyproc::inline v0_1
