/// A queue of values between any number of threads of any number of processes.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/channel/queue_core.hpp>
#include <polyproc/memory/handle.hpp>
#include <polyproc/wire/codec.hpp>
#include <polyproc/wire/error.hpp>

#include <iterator>
#include <optional>

namespace polyproc::inline v0_1 {

/// A handle to a bounded first-in-first-out queue; copies refer to the same queue, and a copy may be an argument of a
/// process or task or a message in another queue. T is whatever the codec can carry; values are encoded by the caller of
/// put, so that an error surfaces there.
///
/// Order: one order for all producers, that in which their puts were committed. A put happens whole or not at all. Any
/// process may be killed at any instruction: the others go on, a killed producer's last message is there whole or not at
/// all, and a killed consumer takes at most one message with it. A process that is stopped inside an operation holds up
/// its own side; the timed forms return in time all the same.
///
/// Time: every `*_for` and `*_until` form returns at most 20 ms late on an idle machine; `try_*` forms do not wait for
/// room or for messages.
template <class T, backend Backend = native_backend>
class basic_queue {
  static_assert(encodable<T>, "polyproc: a queue carries values that the codec can encode; T is not one of them");

 public:
  using value_type = T;

  /// Room for exactly `capacity` messages (1 to 2^32). Throws std::bad_alloc, std::system_error; std::invalid_argument
  /// for a capacity out of range.
  explicit basic_queue(std::size_t capacity) {
    if (capacity == 0 || capacity > std::uint64_t{1} << 32)
      throw std::invalid_argument("polyproc: a queue's capacity is the number of messages it may hold: 1 to 2^32");
    block_ = detail::attachment_ref<Backend>(
        detail::attachment<Backend>::create(core::bytes_for(capacity), fingerprint(), core::layout));
    core::make(block_->contents(), capacity);
  }

  /// Waits for room. Throws queue_closed; std::bad_alloc when there is no memory for the message. Nothing is put then.
  void put(T const& value) const { raise(put_value(value, never, true)); }
  /// False when the deadline came first or the queue is closed.
  template <class Rep, class Period>
  [[nodiscard]] bool put_for(T const& value, std::chrono::duration<Rep, Period> wait) const {
    return put_value(value, detail::deadline_after<Backend>(wait), true) == queue_status::success;
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool put_until(T const& value, std::chrono::time_point<Clock, Duration> when) const {
    return put_value(value, detail::deadline_at<Backend>(when), true) == queue_status::success;
  }
  /// False when it cannot be done now (full or closed; `why` tells which).
  [[nodiscard]] bool try_put(T const& value) const {
    return put_value(value, never, false) == queue_status::success;
  }
  [[nodiscard]] bool try_put(T const& value, queue_status& why) const {
    why = put_value(value, never, false);
    return why == queue_status::success;
  }
  /// Throws queue_full or queue_closed instead of waiting.
  void put_nowait(T const& value) const { raise(put_value(value, never, false)); }

  /// Waits for a message. Throws queue_closed when the queue is closed and drained.
  [[nodiscard]] T get() const { return take(never, true); }
  /// Nothing when the deadline came first, or the queue is closed and drained.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> get_for(std::chrono::duration<Rep, Period> wait) const {
    queue_status why{};
    return take_optional(detail::deadline_after<Backend>(wait), true, why);
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<T> get_until(std::chrono::time_point<Clock, Duration> when) const {
    queue_status why{};
    return take_optional(detail::deadline_at<Backend>(when), true, why);
  }
  /// Nothing when there is nothing now; `why` tells empty from closed.
  [[nodiscard]] std::optional<T> try_get() const {
    queue_status why{};
    return take_optional(never, false, why);
  }
  [[nodiscard]] std::optional<T> try_get(queue_status& why) const { return take_optional(never, false, why); }
  /// Throws queue_empty or queue_closed instead of waiting.
  [[nodiscard]] T get_nowait() const { return take(never, false); }

  /// Snapshots, exact at some moment during the call; they never wait for anybody.
  [[nodiscard]] std::size_t size() const noexcept { return static_cast<std::size_t>(shared().size()); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  [[nodiscard]] bool full() const noexcept { return size() >= capacity(); }
  [[nodiscard]] std::size_t capacity() const noexcept { return static_cast<std::size_t>(shared().capacity()); }

  /// From now on every put fails; gets drain what is there and then report closed. Never waits; may be repeated.
  void close() const noexcept { shared().close(); }
  [[nodiscard]] bool is_closed() const noexcept { return shared().closed(); }

  /// Whether two handles refer to the same queue.
  friend bool operator==(basic_queue const& a, basic_queue const& b) noexcept { return a.block_ == b.block_; }

  /// Takes messages one by one, until the queue is closed and drained.
  class iterator {
   public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;

    explicit iterator(basic_queue const& from) : from_(&from) { ++*this; }
    T& operator*() const noexcept { return *value_; }
    iterator& operator++() {
      value_.reset();
      queue_status why{};
      if (auto next = from_->take_optional(never, true, why)) value_.emplace(std::move(*next));
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(iterator const& at, std::default_sentinel_t) noexcept { return !at.value_.has_value(); }

   private:
    basic_queue const* from_;
    mutable std::optional<T> value_;
  };
  [[nodiscard]] iterator begin() const { return iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  using core = detail::queue_core<Backend>;
  friend detail::handle_codec<basic_queue, Backend>;

  explicit basic_queue(detail::attachment_ref<Backend> block) noexcept : block_(std::move(block)) {}

  static constexpr std::uint64_t fingerprint() { return type_fingerprint<T>() ^ 0x7175657565ULL; }
  static constexpr std::uint64_t layout = core::layout;
  static constexpr char const* handle_name = "queue";

  [[nodiscard]] core shared() const noexcept { return core(block_->contents(), block_->offset()); }

  queue_status put_value(T const& value, time_point deadline, bool wait) const {
    writer out;
    encode(out, value);
    auto const status = shared().put(out.view(), deadline, wait);
    if (status == queue_status::success) out.sent();
    return status;
  }

  T take(time_point deadline, bool wait) const {
    detail::message_buffer message;
    raise(shared().get(message, deadline, wait));
    return from_bytes<T>(message.view());
  }
  std::optional<T> take_optional(time_point deadline, bool wait, queue_status& why) const {
    detail::message_buffer message;
    why = shared().get(message, deadline, wait);
    if (why != queue_status::success) return std::nullopt;
    return std::optional<T>(from_bytes<T>(message.view()));
  }

  static void raise(queue_status status) {
    switch (status) {
      case queue_status::success: return;
      case queue_status::empty: throw queue_empty();
      case queue_status::full: throw queue_full();
      case queue_status::closed: throw queue_closed();
      case queue_status::timeout: throw timeout_error();
    }
  }

  detail::attachment_ref<Backend> block_;
};

/// A queue handle travels as a reference to the same queue.
template <class T, backend Backend>
struct codec<basic_queue<T, Backend>> : detail::handle_codec<basic_queue<T, Backend>, Backend> {};

template <class T>
using queue = basic_queue<T>;

}  // namespace polyproc::inline v0_1
