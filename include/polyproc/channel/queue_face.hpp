/// What every queue offers to those who put and to those who get.
#pragma once

#include <polyproc/channel/one_piece.hpp>
#include <polyproc/wire/error.hpp>

#include <exception>
#include <iterator>
#include <string>

namespace polyproc::inline v0_1 {
namespace detail {

[[noreturn]] inline void raise_failure(queue_status status) {
  switch (status) {
    case queue_status::empty: throw queue_empty();
    case queue_status::full: throw queue_full();
    case queue_status::closed: throw queue_closed();
    default: throw timeout_error();
  }
}
[[gnu::always_inline]] inline void raise(queue_status status) {
  if (status != queue_status::success) raise_failure(status);
}

template <class Queue, class T, backend Backend>
class puts_into_queue;
template <class Queue, class T, backend Backend>
class gets_from_queue;

/// A message that is written where it will be read.
template <class E, class Queue>
class queue_reservation {
 public:
  queue_reservation(queue_reservation&& other) noexcept
      : queue_(std::exchange(other.queue_, nullptr)), room_(other.room_) {}
  queue_reservation& operator=(queue_reservation other) noexcept {
    std::swap(queue_, other.queue_);
    std::swap(room_, other.room_);
    return *this;
  }
  /// What was not committed is given up.
  ~queue_reservation() {
    if (queue_ != nullptr) queue_->core().abandon(room_.block);
  }

  /// Where the message's elements go; what is not written to is arbitrary. Aligned to 64 bytes.
  [[nodiscard]] std::span<E> elements() const noexcept { return room_.elements; }
  [[nodiscard]] E* data() const noexcept { return elements().data(); }
  [[nodiscard]] std::size_t size() const noexcept { return elements().size(); }
  [[nodiscard]] E* begin() const noexcept { return data(); }
  [[nodiscard]] E* end() const noexcept { return data() + size(); }

  /// Puts it; waits for room. Throws queue_closed; the reservation is spent then.
  void commit() && { raise(put(never, true)); }
  /// False when the deadline came first (it is still reserved, and can be committed again), or when the queue is closed.
  template <class Rep, class Period>
  [[nodiscard]] bool commit_for(std::chrono::duration<Rep, Period> wait) {
    return put(Queue::deadline_after(wait), true) == queue_status::success;
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool commit_until(std::chrono::time_point<Clock, Duration> when) {
    return put(Queue::deadline_at(when), true) == queue_status::success;
  }
  [[nodiscard]] bool try_commit() { return put(never, false) == queue_status::success; }

 private:
  friend Queue;
  template <class, class, backend>
  friend class puts_into_queue;
  queue_reservation(Queue const& queue, room_for_elements<E> const& room) noexcept : queue_(&queue), room_(room) {}
  queue_status put(time_point deadline, bool wait) {
    if (queue_ == nullptr)
      throw std::logic_error("polyproc: commit of a reservation that was committed before, or moved from; reserve anew");
    auto const status = queue_->core().put_block(room_.block, room_.skip, room_.bytes(), deadline, wait);
    if (status == queue_status::success || status == queue_status::closed) queue_ = nullptr;
    return status;
  }

  Queue const* queue_;
  room_for_elements<E> room_;
};

/// A message that is read where it lies.
template <class E, class Queue>
class queue_view {
 public:
  queue_view(queue_view&& other) noexcept
      : queue_(std::exchange(other.queue_, nullptr)), hold_(other.hold_), kept_(std::move(other.kept_)),
        elements_(other.elements_) {}
  queue_view& operator=(queue_view other) noexcept {
    std::swap(queue_, other.queue_);
    std::swap(hold_, other.hold_);
    std::swap(kept_, other.kept_);
    std::swap(elements_, other.elements_);
    return *this;
  }
  ~queue_view() { release(); }

  [[nodiscard]] std::span<E const> elements() const noexcept { return elements_; }
  [[nodiscard]] E const* data() const noexcept { return elements_.data(); }
  [[nodiscard]] std::size_t size() const noexcept { return elements_.size(); }
  [[nodiscard]] E const* begin() const noexcept { return elements_.data(); }
  [[nodiscard]] E const* end() const noexcept { return elements_.data() + elements_.size(); }

  /// Its memory is given back; there is nothing to be seen any more.
  void release() noexcept {
    elements_ = {};
    if (queue_ != nullptr) std::exchange(queue_, nullptr)->core().done(hold_);
  }

 private:
  template <class, class, backend>
  friend class gets_from_queue;
  queue_view(Queue const& queue, queue_hold const& hold) : queue_(&queue), hold_(hold) {
    try {
      auto const bytes = queue.core().bytes(hold);
      reader in(bytes);
      auto const count = in.count_of(sizeof(E));
      auto const rest = in.bytes(count * sizeof(E));
      in.expect_end();
      elements_ = {reinterpret_cast<E const*>(rest.data()), count};
      if (reinterpret_cast<std::uintptr_t>(rest.data()) % alignof(E) != 0) {  // a small one, put among others
        kept_.resize(count);
        std::memcpy(kept_.data(), rest.data(), rest.size());
        elements_ = kept_;
      }
    } catch (std::bad_alloc const&) {
      // It can be looked at again. Not where it is counted who has taken what.
      if constexpr (!requires { queue.plain_core(); }) std::exchange(queue_, nullptr)->core().give_back(hold_);
      release();
      throw;
    } catch (...) {
      release();
      throw;
    }
  }

  Queue const* queue_;
  queue_hold hold_;
  std::vector<E> kept_;
  std::span<E const> elements_;
};

}  // namespace detail

/// A message that was taken for as long as this lives: destroyed without ack(), or its process dead, it goes back before
/// everything not yet taken. Must not outlive the handle it came from.
///
/// One that cannot be decoded is gone, for it never can; but for want of memory (std::bad_alloc) it goes back, unless there are
/// handles in it, of which some may have been taken over.
template <class T, class Queue>
class basic_lease {
 public:
  basic_lease(basic_lease&& other) noexcept
      : queue_(std::exchange(other.queue_, nullptr)), hold_(other.hold_), holds_(std::move(other.holds_)),
        value_(std::move(other.value_)) {}
  basic_lease& operator=(basic_lease other) noexcept {
    std::swap(queue_, other.queue_);
    std::swap(hold_, other.hold_);
    std::swap(holds_, other.holds_);
    std::swap(value_, other.value_);
    return *this;
  }
  ~basic_lease() { give_back(); }

  [[nodiscard]] T& operator*() noexcept { return *value_; }
  [[nodiscard]] T const& operator*() const noexcept { return *value_; }
  [[nodiscard]] T* operator->() noexcept { return &*value_; }
  [[nodiscard]] T const* operator->() const noexcept { return &*value_; }

  /// The message has done its work: it will not come back. The value stays readable here. A second time does nothing.
  void ack() noexcept {
    if (queue_ == nullptr) return;
    std::exchange(queue_, nullptr)->core().done(hold_);
    for (auto const& h : std::exchange(holds_, {})) h.give_back(h.what);
  }
  /// It goes back now. After ack() nothing.
  void give_back() noexcept {
    if (queue_ != nullptr) std::exchange(queue_, nullptr)->core().give_back(hold_);
  }

 private:
  template <class, class, backend>
  friend class detail::gets_from_queue;
  basic_lease(Queue const& queue, detail::queue_hold const& hold) : queue_(&queue), hold_(hold) {
    reader in(queue.core().bytes(hold));
    try {
      value_.emplace(decode<T>(in));
      in.expect_end();
      if constexpr (!detail::lies_in_one_piece<T> && !std::is_arithmetic_v<T>) {
        // If there are handles in it, the value has the holds that came with the message, which may be read once more.
        writer again;
        encode(again, *value_);
        holds_ = again.sent_with_holds();
      }
    } catch (std::bad_alloc const&) {
      if (!in.has_handles()) give_back();
      ack();
      throw;
    } catch (...) {
      ack();  // what cannot be decoded now never can
      throw;
    }
  }

  Queue const* queue_;
  detail::queue_hold hold_;
  writer::hold_list holds_;  // of the message as it lies in the queue
  std::optional<T> value_;
};

namespace detail {

/// Deadlines as users give them.
template <backend Backend>
struct queue_times {
  template <class Rep, class Period>
  static time_point deadline_after(std::chrono::duration<Rep, Period> wait) {
    return detail::deadline_after<Backend>(wait);
  }
  template <class Clock, class Duration>
  static time_point deadline_at(std::chrono::time_point<Clock, Duration> when) {
    return detail::deadline_at<Backend>(when);
  }
};

/// Base of handles with which one can put. Queue has core().
template <class Queue, class T, backend Backend>
class puts_into_queue {
 public:
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
  [[nodiscard]] bool try_put(T const& value) const { return put_value(value, never, false) == queue_status::success; }
  [[nodiscard]] bool try_put(T const& value, queue_status& why) const {
    why = put_value(value, never, false);
    return why == queue_status::success;
  }
  /// Throws queue_full or queue_closed instead of waiting.
  void put_nowait(T const& value) const { raise(put_value(value, never, false)); }

  /// Puts all of them in their order, waiting for room; cheaper than one by one. Others may put in between. Each is put whole
  /// or not at all. Throws as put; those before are put then.
  template <std::ranges::input_range Range>
    requires std::convertible_to<std::ranges::range_reference_t<Range>, T const&>
  void put_many(Range&& values) const {
    if constexpr (copied_whole<T> && lies_in_a_row<Range>) {
      put_row(std::span<T const>(std::ranges::data(values), std::ranges::size(values)));
      return;
    }
    if constexpr (copied_whole<T> && sizeof(T) <= 256) {
      // Its own encoding; copied, since what a range gives need not stay where it is.
      std::array<std::byte, lot * sizeof(T)> copies;
      put_in_lots(
          values, [&](std::size_t i, T const& value) { std::memcpy(copies.data() + i * sizeof(T), &value, sizeof(T)); },
          [&](std::size_t i) { return std::span<std::byte const>(copies).subspan(i * sizeof(T), sizeof(T)); },
          [](std::size_t) {});
      return;
    }
    std::array<writer, lot> encoded;
    put_in_lots(
        values,
        [&](std::size_t i, T const& value) {
          encoded[i].clear();
          if constexpr (requires { Queue::for_strangers; }) encoded[i].for_strangers();
          encode(encoded[i], value);
        },
        [&](std::size_t i) { return encoded[i].view(); }, [&](std::size_t i) { encoded[i].sent(); });
  }

  /// Room for a message of that many elements, to be written where it will be read: no copy is made, whatever its size. Needs
  /// a std::string or a std::vector of numbers for T. Does not wait for room in the queue (commit does). Throws
  /// std::bad_alloc. Must not outlive this handle.
  [[nodiscard]] auto reserve(std::size_t count) const
    requires lies_in_one_piece<T>
  {
    return *make_room<typename elements_of<T>::type>(count, never);
  }

 private:
  [[nodiscard]] Queue const& queue() const noexcept {
    auto const& q = static_cast<Queue const&>(*this);
    if constexpr (requires { q.link_->about_to_put(); }) q.link_->about_to_put();
    return q;
  }

  [[nodiscard]] auto put_core() const noexcept {
    auto const& q = queue();
    if constexpr (requires { q.plain_core(); })
      return q.plain_core();
    else
      return q.core();
  }

  static constexpr std::size_t lot = 64;
  template <class Range>
  static constexpr bool lies_in_a_row = std::ranges::contiguous_range<Range> && std::ranges::sized_range<Range> &&
                                        std::same_as<std::ranges::range_value_t<Range>, T>;

  /// Values that are their own encoding, and stay where they are.
  void put_row(std::span<T const> values) const {
    while (!values.empty()) {
      auto const* const first = values.data();
      auto done = put_core().put_as_favourite(values.size(), sizeof(T), [first](message_row<std::byte> to) {
        if (to.is_dense()) std::memcpy(to.first, first, to.count * sizeof(T));
        else for (std::size_t i = 0; i < to.count; ++i) std::memcpy(to.at(i), first + i, sizeof(T));
      });
      if (done == 0)
        raise(put_core().put_many(
            values.size(), [&](std::size_t i) { return std::as_bytes(values.subspan(i, 1)); }, done, never, true));
      values = values.subspan(done);
    }
  }

  /// fill(i, value) makes the bytes of the i-th of a lot, view(i) tells them, sent(i) is called when they were put.
  template <class Range, class Fill, class View, class Sent>
  void put_in_lots(Range& values, Fill&& fill, View&& view, Sent&& sent) const {
    auto from = std::ranges::begin(values);
    auto const end = std::ranges::end(values);
    while (from != end) {
      std::size_t ready = 0;
      std::exception_ptr failed;
      try {
        for (; ready < lot && from != end; ++from, ++ready) {
          T const& value = *from;
          fill(ready, value);
        }
      } catch (...) {
        failed = std::current_exception();  // those before it are put first
      }
      for (std::size_t at = 0; at < ready;) {
        std::size_t done = 0;
        if constexpr (copied_whole<T>) {
          done = put_core().put_as_favourite(ready - at, sizeof(T), [&](message_row<std::byte> to) {
            for (std::size_t i = 0; i < to.count; ++i) std::memcpy(to.at(i), view(at + i).data(), sizeof(T));
          });
          at += done;
          if (done != 0) continue;
        }
        raise(put_core().put_many(
            ready - at, [&](std::size_t i) { return view(at + i); }, done, never, true));
        for (; done > 0; --done) sent(at++);
      }
      if (failed) std::rethrow_exception(failed);
    }
  }

  template <class E>
  [[nodiscard]] std::optional<queue_reservation<E, Queue>> make_room(std::size_t count, time_point deadline) const {
    auto core = put_core();
    auto const room = room_for_elements<E>::reserve(core, count, queue().me(), deadline);
    if (!room) return std::nullopt;
    return queue_reservation<E, Queue>(queue(), *room);
  }

  queue_status put_value(T const& value, time_point deadline, bool wait) const {
    if constexpr (lies_in_one_piece<T>) {
      using element = typename elements_of<T>::type;
      if (is_large(value)) {
        try {
          auto room = make_room<element>(value.size(), wait ? deadline : Backend::now() + holder_recheck);
          if (!room) return wait ? queue_status::timeout : queue_status::full;
          std::memcpy(room->data(), value.data(), value.size() * sizeof(element));
          return room->put(deadline, wait);
        } catch (std::bad_alloc const&) {
          // Memory of its own that is used up comes back as messages are taken: then this waits with the others.
          if constexpr (!decltype(put_core())::waits_for_memory) throw;
        } catch (std::length_error const&) {  // it may fit without being aligned
        }
      }
    }
    if constexpr (copied_whole<T>) return put_core().put(std::as_bytes(std::span<T const, 1>(&value, 1)), deadline, wait);
    writer out;
    if constexpr (requires { Queue::for_strangers; }) out.for_strangers();
    encode(out, value);
    auto const status = put_core().put(out.view(), deadline, wait);
    if (status == queue_status::success) out.sent();
    return status;
  }
};

/// Base of handles with which one can get. Queue has core() and asker().
template <class Queue, class T, backend Backend>
class gets_from_queue {
 public:
  /// Waits for a message. Throws queue_closed when the queue is closed and drained, or when no live process but this one
  /// holds a handle that can put, and one has. What cannot be decoded is an exception, and gone; where that is std::bad_alloc, a
  /// large message without handles goes back (a lease of one of any size does).
  [[nodiscard]] T get() const { return take(never, true); }
  /// Nothing when the deadline came first, or the queue is closed and drained.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> get_for(std::chrono::duration<Rep, Period> wait) const {
    queue_status why{};
    return take_optional(detail::deadline_after<Backend>(wait), true, why);
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> get_for(std::chrono::duration<Rep, Period> wait, queue_status& why) const {
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

  /// Waits for one, and takes up to `most` of those that are there, in their order. Throws queue_closed. One that cannot be
  /// decoded ends the batch before it, and is an exception, and gone, when it is the first; one with handles to what has no
  /// name comes alone. Where there is no memory for all of them there are fewer; for the first: std::bad_alloc, and nothing is
  /// taken. (They are decoded before they are taken: a codec of yours must not get from the same queue.)
  [[nodiscard]] std::vector<T> get_many(std::size_t most) const {
    queue_status why{};
    auto all = take_many(most, never, true, why);
    raise(why);
    return all;
  }
  /// Nothing when the deadline came first, or the queue is closed and drained.
  template <class Rep, class Period>
  [[nodiscard]] std::vector<T> get_many_for(std::size_t most, std::chrono::duration<Rep, Period> wait) const {
    queue_status why{};
    return take_many(most, detail::deadline_after<Backend>(wait), true, why);
  }
  [[nodiscard]] std::vector<T> try_get_many(std::size_t most) const {
    queue_status why{};
    return take_many(most, never, false, why);
  }

  /// As get, try_get, get_for, but the message goes back unless ack() is called.
  [[nodiscard]] basic_lease<T, Queue> lease() const { return *take_held<basic_lease<T, Queue>>(never, true, false, true); }
  [[nodiscard]] std::optional<basic_lease<T, Queue>> try_lease() const {
    return take_held<basic_lease<T, Queue>>(never, false, false, false);
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<basic_lease<T, Queue>> lease_for(std::chrono::duration<Rep, Period> wait) const {
    return take_held<basic_lease<T, Queue>>(detail::deadline_after<Backend>(wait), true, false, false);
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<basic_lease<T, Queue>> lease_until(std::chrono::time_point<Clock, Duration> when) const {
    return take_held<basic_lease<T, Queue>>(detail::deadline_at<Backend>(when), true, false, false);
  }

  /// As get, try_get, get_for, but the message is looked at where it lies. For a std::string or a std::vector of numbers.
  [[nodiscard]] auto view() const
    requires lies_in_one_piece<T>
  {
    return *take_held<view_type<T>>(never, true, true, true);
  }
  [[nodiscard]] auto try_view() const
    requires lies_in_one_piece<T>
  {
    return take_held<view_type<T>>(never, false, true, false);
  }
  template <class Rep, class Period>
  [[nodiscard]] auto view_for(std::chrono::duration<Rep, Period> wait) const
    requires lies_in_one_piece<T>
  {
    return take_held<view_type<T>>(detail::deadline_after<Backend>(wait), true, true, false);
  }

  /// Takes messages one by one, until the queue is closed and drained.
  class iterator {
   public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;

    explicit iterator(gets_from_queue const& from) : from_(&from) { ++*this; }
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
    gets_from_queue const* from_;
    mutable std::optional<T> value_;
  };
  [[nodiscard]] iterator begin() const { return iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  friend struct wait_access;
  /// For wait_any. `ask`: also whether anybody is left who can put.
  [[nodiscard]] bool wait_is_over(bool ask) const {
    auto core = queue().core();
    if (core.has_any()) return true;
    if (!ask) return false;
    core.ask_after_holders();
    return core.has_any_or_end() || queue().asker()();
  }
  [[nodiscard]] auto announce_wait() const {
    auto const core = queue().core();
    auto const how = core.getters().announce();
    core.fence_getters();
    return how;
  }

  template <class U>
  using view_type = queue_view<typename elements_of<U>::type, Queue>;

  [[nodiscard]] Queue const& queue() const noexcept { return static_cast<Queue const&>(*this); }

  /// Plain values, as they lie in memory, behind those that are in `to` already; `wrong`: one of another size was among them.
  struct plain {
    std::vector<T>& to;
    bool wrong = false;
    void operator()(std::span<std::byte const> message) {
      to.emplace_back();
      if (message.size() == sizeof(T)) std::memcpy(static_cast<void*>(&to.back()), message.data(), sizeof(T));
      else wrong = true;
    }
    void operator()(message_row<std::byte const> row) {
      if (row.is_dense() && alignof(T) <= 8) {
        auto const* const values = reinterpret_cast<T const*>(row.first);
        to.insert(to.end(), values, values + row.count);
        return;
      }
      auto const before = to.size();
      to.resize(before + row.count);
      for (std::size_t i = 0; i < row.count; ++i)
        std::memcpy(static_cast<void*>(to.data() + before + i), row.at(i), sizeof(T));
    }
  };

  T take(time_point deadline, bool wait) const {
    if constexpr (copied_whole<T> && std::default_initializable<T>) {
      T got{};
      auto const keep = [&](message_row<std::byte const> row) {
        std::memcpy(static_cast<void*>(&got), row.first, sizeof(T));
      };
      if (queue().core().template get_as_favourite<sizeof(T)>(1, keep) != 0) return got;
    }
    message_buffer message;
    large_one large{queue(), {}};
    raise(queue().core().get(message, large.hold, queue().me(), deadline, wait, queue().asker()));
    return large.read(message);
  }
  std::optional<T> take_optional(time_point deadline, bool wait, queue_status& why) const {
    message_buffer message;
    large_one large{queue(), {}};
    why = queue().core().get(message, large.hold, queue().me(), deadline, wait, queue().asker());
    if (why != queue_status::success) return std::nullopt;
    return std::optional<T>(large.read(message));
  }
  /// A message that is decoded where it lies.
  struct large_one {
    Queue const& queue;
    queue_hold hold;
    ~large_one() {
      if (hold.block != 0) queue.core().done(hold);
    }
    [[nodiscard]] T read(message_buffer const& small) {
      if (hold.block == 0) return from_bytes<T>(small.view());
      reader in(queue.core().bytes(hold));
      try {
        T value = decode<T>(in);
        in.expect_end();
        return value;
      } catch (std::bad_alloc const&) {
        if constexpr (!requires { queue.plain_core(); }) {  // as with a view
          if (!in.has_handles()) {
            queue.core().give_back(hold);
            hold.block = 0;
          }
        }
        throw;
      }
    }
  };
  std::vector<T> take_many(std::size_t most, time_point deadline, bool wait, queue_status& why) const {
    std::vector<T> all;
    if (most == 0) return all;
    if constexpr (copied_whole<T> && std::default_initializable<T>) {
      all.reserve(std::min<std::size_t>(most, 64));
      plain into{all};
      why = queue().core().template get_many<sizeof(T)>(most, into, deadline, wait, queue().asker());
      if (into.wrong) throw decode_error("a message has another size than the type of its queue", 0);
      return all;
    }
    for (;;) {
      bool refused = false;
      try {
        why = queue().core().get_many(
            most,
            [&](std::span<std::byte const> message) {
              try {
                reader in(message);
                in.without_handles();  // what it took over would be gone if the message is then not taken
                T value = decode<T>(in);
                in.expect_end();
                all.push_back(std::move(value));
              } catch (std::bad_alloc const&) {
                refused = !all.empty();
                throw;
              } catch (...) {
                refused = true;
                throw;
              }
            },
            deadline, wait, queue().asker());
        return all;
      } catch (...) {
        if (!refused) throw;
      }
      // Nothing was taken. So those before it, if there are any; else it alone.
      most = all.size();
      all.clear();
      if (most == 0) {
        if (auto one = take_optional(deadline, wait, why)) all.push_back(std::move(*one));
        return all;
      }
    }
  }
  template <class Held>
  std::optional<Held> take_held(time_point deadline, bool wait, bool view, bool or_throw) const {
    queue_hold h;
    auto const why = queue().core().hold(h, queue().me(), view, deadline, wait, queue().asker());
    if (why == queue_status::success) return Held(queue(), h);
    if (or_throw) raise(why);
    return std::nullopt;
  }
};

/// Base of all handles to a queue.
template <class Queue>
class looks_at_queue {
 public:
  /// Snapshots, exact at some moment during the call; they never wait for anybody.
  [[nodiscard]] std::size_t size() const noexcept { return static_cast<std::size_t>(core().size()); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  [[nodiscard]] bool full() const noexcept { return core().full(); }
  /// The number of messages it may hold; std::numeric_limits<std::size_t>::max() when memory alone is the bound.
  [[nodiscard]] std::size_t capacity() const noexcept {
    auto const most = core().capacity();
    return most >= std::uint64_t{1} << 60 ? std::numeric_limits<std::size_t>::max() : static_cast<std::size_t>(most);
  }

  /// From now on every put fails; gets drain what is there and then report closed. Never waits; may be repeated.
  void close() const noexcept { core().close(); }
  [[nodiscard]] bool is_closed() const noexcept { return core().closed(); }

 private:
  [[nodiscard]] auto core() const noexcept {
    auto const& queue = static_cast<Queue const&>(*this);
    if constexpr (requires { queue.plain_core(); })
      return queue.plain_core();
    else
      return queue.core();
  }
};

}  // namespace detail
}  // namespace polyproc::inline v0_1
