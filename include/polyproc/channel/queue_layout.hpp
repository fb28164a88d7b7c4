/// What a queue's processes share besides the messages: channel/queue_core.hpp says who may write what.
#pragma once

#include <polyproc/channel/queue_store.hpp>
#include <polyproc/channel/queue_users.hpp>
#include <polyproc/sync/biased_lock.hpp>

namespace polyproc::inline v0_1::detail {

template <sync_backend Backend>
struct alignas(64) queue_header {
  template <class T>
  using atomic = typename Backend::template atomic<T>;
  using end_lock = biased_lock<Backend>;
  using end_hold = repairing_hold<Backend, waiting::adaptive, end_lock>;

  struct hold_entry {
    atomic<std::uint64_t> word;
    atomic<std::uint64_t> number;
    std::uint64_t block;
    std::uint64_t skip;
    std::uint64_t size;
  };
  static constexpr std::uint32_t own_holds = 8;  // entries for which no table is needed
  /// closing: every put fails; sealed: and none is under way that could still be committed.
  enum : std::uint32_t { open, closing, sealed };

  std::uint64_t capacity;
  std::uint32_t own_chunk;
  atomic<std::uint32_t> stage;

  // The producers'.
  alignas(64) end_lock put_lock;
  alignas(64) queue_position tail_at[2];
  alignas(64) std::uint64_t seen_taken;  // what head was known to be
  std::uint64_t own_serial[2];
  atomic<std::uint32_t> reservations;
  atomic<std::uint64_t> idle_at;         // what head was when somebody waited in vain for it to move
  alignas(64) atomic<std::uint64_t> tail;

  // The consumers'.
  alignas(64) end_lock get_lock;
  alignas(64) queue_position head_at[2];
  alignas(64) std::uint64_t seen_put;
  atomic<std::uint64_t> hold_table;      // a block; 0: none yet
  typename time_point::rep holds_seen;   // when holders were last asked after
  alignas(64) atomic<std::uint64_t> head;
  atomic<std::uint64_t> head_serial;

  alignas(64) sleepers<Backend, waiting::adaptive> getters;
  alignas(64) sleepers<Backend, waiting::adaptive> putters;
  atomic<std::uint32_t> frees;      // where memory is bounded: how often some came back
  atomic<std::uint32_t> litter;     // a block that nobody needs could not be freed at the time
  atomic<std::uint32_t> unsettled;  // a hold was ended since its table was last looked at
  atomic<std::uint32_t> returned;   // messages that had come back then
  atomic<std::uint32_t> holds;      // entries that were not free then, or are since
  atomic<std::uint32_t> hold_top;   // entries from here on were never used

  alignas(64) hold_entry first_holds[own_holds];
  alignas(64) queue_users<Backend> users;
};

inline constexpr std::uint64_t padded(std::uint64_t size) noexcept { return (size + 7) / 8 * 8; }
/// Of a message in place.
inline constexpr std::uint64_t record_bytes(std::uint64_t size) noexcept { return 8 + padded(size); }

/// Messages of `size` bytes each at regular distances.
template <class Byte>
struct message_row {
  Byte* first;
  std::size_t count;
  std::size_t size;
  std::size_t step;
  [[nodiscard]] bool is_dense() const noexcept { return step == size; }
  [[nodiscard]] Byte* at(std::size_t i) const noexcept { return first + i * step; }
};

}  // namespace polyproc::inline v0_1::detail
