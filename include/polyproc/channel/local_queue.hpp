/// A queue between the threads of one process, with the interface of queue<T>.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/channel/local_queue_core.hpp>
#include <polyproc/channel/queue_face.hpp>

namespace polyproc::inline v0_1 {

namespace detail {

/// As queue_reservation.
template <class T, backend Backend>
class local_reservation {
  using element = typename elements_of<T>::type;

 public:
  [[nodiscard]] std::span<element> elements() noexcept { return value_; }
  [[nodiscard]] element* data() noexcept { return value_.data(); }
  [[nodiscard]] std::size_t size() const noexcept { return value_.size(); }
  [[nodiscard]] element* begin() noexcept { return value_.data(); }
  [[nodiscard]] element* end() noexcept { return value_.data() + value_.size(); }

  void commit() && { raise(put(never, true)); }
  template <class Rep, class Period>
  [[nodiscard]] bool commit_for(std::chrono::duration<Rep, Period> wait) {
    return put(detail::deadline_after<Backend>(wait), true) == queue_status::success;
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool commit_until(std::chrono::time_point<Clock, Duration> when) {
    return put(detail::deadline_at<Backend>(when), true) == queue_status::success;
  }
  [[nodiscard]] bool try_commit() { return put(never, false) == queue_status::success; }

 private:
  template <class, class, backend>
  friend class puts_into_local_queue;
  local_reservation(local_queue_state<T, Backend>* to, std::size_t count) : to_(to), value_(count, element{}) {}
  queue_status put(time_point deadline, bool wait) {
    if (to_.get() == nullptr)
      throw std::logic_error("polyproc: commit of a reservation that was committed before, or moved from; reserve anew");
    auto const status = to_->put(std::move(value_), deadline, wait);
    if (status == queue_status::success || status == queue_status::closed)
      to_ = local_queue_ref<T, Backend, local_end::none>(nullptr);
    return status;
  }

  local_queue_ref<T, Backend, local_end::none> to_;
  T value_;
};

/// As queue_view.
template <class T>
class local_view {
  using element = typename elements_of<T>::type;

 public:
  [[nodiscard]] std::span<element const> elements() const noexcept { return value_; }
  [[nodiscard]] element const* data() const noexcept { return value_.data(); }
  [[nodiscard]] std::size_t size() const noexcept { return value_.size(); }
  [[nodiscard]] element const* begin() const noexcept { return value_.data(); }
  [[nodiscard]] element const* end() const noexcept { return value_.data() + value_.size(); }
  void release() noexcept { T().swap(value_); }

 private:
  template <class, class, backend>
  friend class gets_from_local_queue;
  explicit local_view(T&& value) noexcept : value_(std::move(value)) {}
  T value_;
};

template <class Queue, class T, backend Backend>
class gets_from_local_queue;

}  // namespace detail

/// A message that was taken for as long as this lives: destroyed without ack() it goes back before everything not yet taken,
/// as it is then.
template <class T, backend Backend = native_backend>
class basic_local_lease {
 public:
  basic_local_lease(basic_local_lease&& other) noexcept
      : queue_(std::move(other.queue_)), node_(std::exchange(other.node_, nullptr)), acknowledged_(other.acknowledged_) {}
  basic_local_lease& operator=(basic_local_lease other) noexcept {
    std::swap(queue_, other.queue_);
    std::swap(node_, other.node_);
    std::swap(acknowledged_, other.acknowledged_);
    return *this;
  }
  ~basic_local_lease() {
    if (acknowledged_ && node_ != nullptr)
      queue_->done(node_);
    else
      give_back();
  }

  /// Not after give_back().
  [[nodiscard]] T& operator*() noexcept { return *node_->value; }
  [[nodiscard]] T const& operator*() const noexcept { return *node_->value; }
  [[nodiscard]] T* operator->() noexcept { return &*node_->value; }
  [[nodiscard]] T const* operator->() const noexcept { return &*node_->value; }

  /// The message has done its work: it will not come back. The value stays readable here. A second time does nothing.
  void ack() noexcept { acknowledged_ = true; }
  /// It goes back now. After ack() nothing.
  void give_back() noexcept {
    if (!acknowledged_ && node_ != nullptr) queue_->give_back(std::exchange(node_, nullptr));
  }

 private:
  template <class, class, backend>
  friend class detail::gets_from_local_queue;
  basic_local_lease(detail::local_queue_state<T, Backend>* queue, detail::local_lease_node<T>* node) noexcept
      : queue_(queue), node_(node) {}

  detail::local_queue_ref<T, Backend, detail::local_end::none> queue_;
  detail::local_lease_node<T>* node_;
  bool acknowledged_ = false;
};

namespace detail {

/// Base of handles with which one can put. Queue has core(). Where nothing is put (full, closed, too late, std::bad_alloc),
/// nothing is moved from either.
template <class Queue, class T, backend Backend>
class puts_into_local_queue {
 public:
  /// Waits for room. Throws queue_closed; std::bad_alloc; what T's copy or move throws. Nothing is put then.
  void put(T const& value) const
    requires std::copy_constructible<T>
  {
    raise(copy(value, never, true));
  }
  void put(T&& value) const { raise(core().put(std::move(value), never, true)); }
  /// False when the deadline came first or the queue is closed.
  template <class Rep, class Period>
  [[nodiscard]] bool put_for(T const& value, std::chrono::duration<Rep, Period> wait) const
    requires std::copy_constructible<T>
  {
    return copy(value, detail::deadline_after<Backend>(wait), true) == queue_status::success;
  }
  template <class Rep, class Period>
  [[nodiscard]] bool put_for(T&& value, std::chrono::duration<Rep, Period> wait) const {
    return core().put(std::move(value), detail::deadline_after<Backend>(wait), true) == queue_status::success;
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool put_until(T const& value, std::chrono::time_point<Clock, Duration> when) const
    requires std::copy_constructible<T>
  {
    return copy(value, detail::deadline_at<Backend>(when), true) == queue_status::success;
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool put_until(T&& value, std::chrono::time_point<Clock, Duration> when) const {
    return core().put(std::move(value), detail::deadline_at<Backend>(when), true) == queue_status::success;
  }
  /// False when it cannot be done now (full or closed; `why` tells which).
  [[nodiscard]] bool try_put(T const& value) const
    requires std::copy_constructible<T>
  {
    return copy(value, never, false) == queue_status::success;
  }
  [[nodiscard]] bool try_put(T&& value) const { return core().put(std::move(value), never, false) == queue_status::success; }
  [[nodiscard]] bool try_put(T const& value, queue_status& why) const
    requires std::copy_constructible<T>
  {
    why = copy(value, never, false);
    return why == queue_status::success;
  }
  [[nodiscard]] bool try_put(T&& value, queue_status& why) const {
    why = core().put(std::move(value), never, false);
    return why == queue_status::success;
  }
  /// Throws queue_full or queue_closed instead of waiting.
  void put_nowait(T const& value) const
    requires std::copy_constructible<T>
  {
    raise(copy(value, never, false));
  }
  void put_nowait(T&& value) const { raise(core().put(std::move(value), never, false)); }

  /// Puts all of them in their order, waiting for room; cheaper than one by one. Others may put in between. Throws as put, and
  /// what the range or a copy throws; those before are put then. Values that a range of rvalues (std::move_iterator) names are
  /// moved out of it some at a time, up to 64: when the queue is closed while they wait for room those are gone, and none is
  /// moved when it was closed before.
  template <std::ranges::input_range Range>
    requires std::convertible_to<std::ranges::range_reference_t<Range>, T>
  void put_many(Range&& values) const {
    std::array<std::optional<T>, std::clamp<std::size_t>(4096 / sizeof(T), 1, 64)> batch;
    auto from = std::ranges::begin(values);
    auto const end = std::ranges::end(values);
    while (from != end) {
      if (core().closed()) throw queue_closed();
      std::size_t ready = 0;
      std::exception_ptr failed;
      try {
        for (; ready < batch.size() && from != end; ++from, ++ready) batch[ready].emplace(*from);
      } catch (...) {
        failed = std::current_exception();  // those before it are put first
      }
      for (std::size_t at = 0; at < ready;) {
        std::size_t done = 0;
        raise(core().put_some(std::span(batch).subspan(at, ready - at), done));
        at += done;
      }
      if (failed) std::rethrow_exception(failed);
    }
  }

  /// As for queue<T>, for code that is to work with both: room for a message of that many elements (which are zero here).
  /// Here put(T&&) does as well.
  [[nodiscard]] auto reserve(std::size_t count) const
    requires lies_in_one_piece<T>
  {
    return local_reservation<T, Backend>(&core(), count);
  }

 private:
  [[nodiscard]] auto& core() const noexcept { return static_cast<Queue const&>(*this).core(); }

  /// The copy is made before anybody else has to wait for it, and not for nothing.
  queue_status copy(T const& value, time_point deadline, bool wait) const {
    if (!wait)
      if (auto const s = core().for_put(); s != queue_status::success) return s;
    T made(value);
    return core().put(std::move(made), deadline, wait);
  }
};

/// Base of handles with which one can get. Queue has core() and can_put.
template <class Queue, class T, backend Backend>
class gets_from_local_queue {
  using lease_type = basic_local_lease<T, Backend>;

 public:
  /// Waits for a message. Throws queue_closed when the queue is closed and drained, or when nobody can put any more (see
  /// local_queue).
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

  /// Waits for one, and takes up to `most` of those that are there, in their order. Throws queue_closed.
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
  [[nodiscard]] lease_type lease() const {
    queue_status why{};
    auto held = take_lease(never, true, why);
    raise(why);
    return std::move(*held);
  }
  [[nodiscard]] std::optional<lease_type> try_lease() const {
    queue_status why{};
    return take_lease(never, false, why);
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<lease_type> lease_for(std::chrono::duration<Rep, Period> wait) const {
    queue_status why{};
    return take_lease(detail::deadline_after<Backend>(wait), true, why);
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<lease_type> lease_until(std::chrono::time_point<Clock, Duration> when) const {
    queue_status why{};
    return take_lease(detail::deadline_at<Backend>(when), true, why);
  }

  /// As for queue<T>, for code that is to work with both. Here get() copies no more than this.
  [[nodiscard]] local_view<T> view() const
    requires lies_in_one_piece<T>
  {
    return local_view<T>(get());
  }
  [[nodiscard]] std::optional<local_view<T>> try_view() const
    requires lies_in_one_piece<T>
  {
    return as_view(try_get());
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<local_view<T>> view_for(std::chrono::duration<Rep, Period> wait) const
    requires lies_in_one_piece<T>
  {
    return as_view(get_for(wait));
  }

  /// Takes messages one by one, until the queue is closed and drained.
  class iterator {
   public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;

    explicit iterator(gets_from_local_queue const& from) : from_(&from) { ++*this; }
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
    gets_from_local_queue const* from_;
    mutable std::optional<T> value_;
  };
  [[nodiscard]] iterator begin() const { return iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

  /// For wait_any.
  [[nodiscard]] bool wait_is_over(bool) const noexcept { return core().for_get(Queue::can_put) != queue_status::empty; }
  [[nodiscard]] auto announce_wait() const noexcept { return core().announce_watcher(); }

 private:
  [[nodiscard]] auto& core() const noexcept { return static_cast<Queue const&>(*this).core(); }

  T take(time_point deadline, bool wait) const {
    queue_status why{};
    auto value = take_optional(deadline, wait, why);
    raise(why);
    return std::move(*value);
  }
  std::optional<T> take_optional(time_point deadline, bool wait, queue_status& why) const {
    std::optional<T> value;
    why = core().get(Queue::can_put, deadline, wait, [&](T&& taken) { value.emplace(std::move(taken)); });
    return value;
  }
  std::vector<T> take_many(std::size_t most, time_point deadline, bool wait, queue_status& why) const {
    std::vector<T> all;
    if (most != 0) why = core().get_many(all, most, Queue::can_put, deadline, wait);
    return all;
  }
  std::optional<lease_type> take_lease(time_point deadline, bool wait, queue_status& why) const {
    local_lease_node<T>* node = nullptr;
    why = core().lease(node, Queue::can_put, deadline, wait);
    if (why != queue_status::success) return std::nullopt;
    return lease_type(&core(), node);
  }
  static std::optional<local_view<T>> as_view(std::optional<T>&& value) {
    if (!value) return std::nullopt;
    return local_view<T>(std::move(*value));
  }
};

/// Base of all handles.
template <class Queue>
class looks_at_local_queue {
 public:
  /// Snapshots, exact at some moment during the call; they never wait for anybody.
  [[nodiscard]] std::size_t size() const noexcept { return core().size(); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  [[nodiscard]] bool full() const noexcept { return core().full(); }
  /// The number of messages it may hold; std::numeric_limits<std::size_t>::max() when memory alone is the bound.
  [[nodiscard]] std::size_t capacity() const noexcept { return core().capacity(); }

  /// From now on every put fails; gets drain what is there and then report closed. May be repeated.
  void close() const noexcept { core().close(); }
  [[nodiscard]] bool is_closed() const noexcept { return core().closed(); }

 private:
  [[nodiscard]] auto& core() const noexcept { return static_cast<Queue const&>(*this).core(); }
};

/// A handle of one kind to a local queue.
template <class T, backend Backend, local_end End>
class local_handle {
 public:
  using value_type = T;
  static_assert(std::is_object_v<T> && std::move_constructible<T> && std::is_destructible_v<T>,
                "polyproc: a local_queue carries values that can be moved");

 protected:
  using state = local_queue_state<T, Backend>;
  explicit local_handle(state* to) noexcept : to_(to) {}
  static state* make(std::size_t capacity) { return new state(capacity); }
  static std::size_t checked(std::size_t capacity) {
    if (capacity == 0 || static_cast<std::uint64_t>(capacity) > std::uint64_t{1} << 32)
      throw std::invalid_argument("polyproc: a queue's capacity is the number of messages it may hold: 1 to 2^32, or none "
                                  "for a queue that is bounded by memory alone");
    return capacity;
  }
  [[nodiscard]] state& core() const noexcept { return *to_.get(); }
  [[nodiscard]] bool same_as(local_handle const& other) const noexcept { return to_ == other.to_; }
  static constexpr bool can_put = End == local_end::both || End == local_end::sender;

 private:
  local_queue_ref<T, Backend, End> to_;
};

}  // namespace detail

template <class T, backend Backend>
class basic_local_queue_sender;
template <class T, backend Backend>
class basic_local_queue_receiver;

/// A handle to a first-in-first-out queue for the threads of this process; copies refer to the same queue. What works with
/// queue<T> works with it. T can be anything that can be moved: nothing is encoded, and what is put as an rvalue is moved.
/// The queue lives until its last handle and lease are gone; in a child made by fork, a copy is a queue of its own.
///
/// Order: that in which the puts took place. Any number of threads may use the same handle.
///
/// End: gets report closed when the queue is closed and drained. A receiver's also do when no sender and no local_queue is
/// left; a local_queue's when there have been senders, none is left, and this is the last local_queue.
///
/// Memory: allocated by pieces of some 4096 bytes; up to 64 KiB that are not in use are kept. In the steady state nothing is
/// allocated.
template <class T, backend Backend = native_backend>
class basic_local_queue : public detail::puts_into_local_queue<basic_local_queue<T, Backend>, T, Backend>,
                          public detail::gets_from_local_queue<basic_local_queue<T, Backend>, T, Backend>,
                          public detail::looks_at_local_queue<basic_local_queue<T, Backend>>,
                          private detail::local_handle<T, Backend, detail::local_end::both> {
  using base = detail::local_handle<T, Backend, detail::local_end::both>;

 public:
  using typename base::value_type;
  using sender_type = basic_local_queue_sender<T, Backend>;
  using receiver_type = basic_local_queue_receiver<T, Backend>;

  /// Bounded by memory alone: a put does not wait for room. Throws std::bad_alloc.
  basic_local_queue() : base(base::make(base::state::unbounded)) {}
  /// Room for exactly `capacity` messages (1 to 2^32). Throws std::bad_alloc; std::invalid_argument for a capacity out of
  /// range.
  explicit basic_local_queue(std::size_t capacity) : base(base::make(base::checked(capacity))) {}

  /// The same queue for those who only put, or only get.
  [[nodiscard]] sender_type sender() const noexcept { return sender_type(&core()); }
  [[nodiscard]] receiver_type receiver() const noexcept { return receiver_type(&core()); }

  /// Whether two handles refer to the same queue.
  friend bool operator==(basic_local_queue const& a, basic_local_queue const& b) noexcept { return a.same_as(b); }

 private:
  friend detail::puts_into_local_queue<basic_local_queue, T, Backend>;
  friend detail::gets_from_local_queue<basic_local_queue, T, Backend>;
  friend detail::looks_at_local_queue<basic_local_queue>;
  using base::can_put;
  using base::core;
};

/// A handle to a local_queue<T> with which one can put, look and close.
template <class T, backend Backend = native_backend>
class basic_local_queue_sender : public detail::puts_into_local_queue<basic_local_queue_sender<T, Backend>, T, Backend>,
                                 public detail::looks_at_local_queue<basic_local_queue_sender<T, Backend>>,
                                 private detail::local_handle<T, Backend, detail::local_end::sender> {
  using base = detail::local_handle<T, Backend, detail::local_end::sender>;

 public:
  using typename base::value_type;
  friend bool operator==(basic_local_queue_sender const& a, basic_local_queue_sender const& b) noexcept {
    return a.same_as(b);
  }

 private:
  friend basic_local_queue<T, Backend>;
  friend detail::puts_into_local_queue<basic_local_queue_sender, T, Backend>;
  friend detail::looks_at_local_queue<basic_local_queue_sender>;
  using base::core;

  explicit basic_local_queue_sender(typename base::state* to) noexcept : base(to) {}
};

/// A handle to a local_queue<T> with which one can get, look and close.
template <class T, backend Backend = native_backend>
class basic_local_queue_receiver : public detail::gets_from_local_queue<basic_local_queue_receiver<T, Backend>, T, Backend>,
                                   public detail::looks_at_local_queue<basic_local_queue_receiver<T, Backend>>,
                                   private detail::local_handle<T, Backend, detail::local_end::receiver> {
  using base = detail::local_handle<T, Backend, detail::local_end::receiver>;

 public:
  using typename base::value_type;
  friend bool operator==(basic_local_queue_receiver const& a, basic_local_queue_receiver const& b) noexcept {
    return a.same_as(b);
  }

 private:
  friend basic_local_queue<T, Backend>;
  friend detail::gets_from_local_queue<basic_local_queue_receiver, T, Backend>;
  friend detail::looks_at_local_queue<basic_local_queue_receiver>;
  using base::can_put;
  using base::core;

  explicit basic_local_queue_receiver(typename base::state* to) noexcept : base(to) {}
};

/// A local_queue whose users say task_done() for each message that they have finished with, and where one can wait until all
/// are. As joinable_queue<T>, it has no leases.
template <class T, backend Backend = native_backend>
class basic_local_joinable_queue : public detail::puts_into_local_queue<basic_local_joinable_queue<T, Backend>, T, Backend>,
                                   public detail::gets_from_local_queue<basic_local_joinable_queue<T, Backend>, T, Backend>,
                                   public detail::looks_at_local_queue<basic_local_joinable_queue<T, Backend>>,
                                   private detail::local_handle<T, Backend, detail::local_end::both> {
  using base = detail::local_handle<T, Backend, detail::local_end::both>;

 public:
  using typename base::value_type;

  /// As for local_queue<T>.
  basic_local_joinable_queue() : base(base::make(base::state::unbounded)) {}
  explicit basic_local_joinable_queue(std::size_t capacity) : base(base::make(base::checked(capacity))) {}

  /// A message that was got has done its work. Any thread may say so for any other. Throws std::logic_error when it is said
  /// more often than messages were got.
  void task_done() const { core().task_done(); }

  /// Until every message that was put has been got and finished with.
  void join() const { (void)core().join(never); }
  /// False when the deadline came first.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(std::chrono::duration<Rep, Period> wait) const {
    return core().join(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool join_until(std::chrono::time_point<Clock, Duration> when) const {
    return core().join(detail::deadline_at<Backend>(when));
  }
  /// How many are not finished with. A snapshot.
  [[nodiscard]] std::size_t unfinished() const noexcept { return core().unfinished(); }

  void lease() const = delete;
  void try_lease() const = delete;
  template <class... D>
  void lease_for(D...) const = delete;
  template <class... D>
  void lease_until(D...) const = delete;

  friend bool operator==(basic_local_joinable_queue const& a, basic_local_joinable_queue const& b) noexcept {
    return a.same_as(b);
  }

 private:
  friend detail::puts_into_local_queue<basic_local_joinable_queue, T, Backend>;
  friend detail::gets_from_local_queue<basic_local_joinable_queue, T, Backend>;
  friend detail::looks_at_local_queue<basic_local_joinable_queue>;
  using base::can_put;
  using base::core;
};

namespace detail {

template <class T>
struct local_queue_refusal {
  template <class Asked = T>
  static consteval void say() {
    static_assert(sizeof(Asked) == 0,
                  "polyproc: a local_queue is for the threads of one process and cannot travel to another one; send a "
                  "queue<T>, which has the same interface");
  }
};
template <class T, backend Backend>
struct refusal<basic_local_queue<T, Backend>> : local_queue_refusal<T> {};
template <class T, backend Backend>
struct refusal<basic_local_queue_sender<T, Backend>> : local_queue_refusal<T> {};
template <class T, backend Backend>
struct refusal<basic_local_queue_receiver<T, Backend>> : local_queue_refusal<T> {};
template <class T, backend Backend>
struct refusal<basic_local_joinable_queue<T, Backend>> : local_queue_refusal<T> {};

}  // namespace detail

template <class T>
using local_queue = basic_local_queue<T>;
template <class T>
using local_queue_sender = basic_local_queue_sender<T>;
template <class T>
using local_queue_receiver = basic_local_queue_receiver<T>;
template <class T>
using local_joinable_queue = basic_local_joinable_queue<T>;
template <class T>
using local_lease = basic_local_lease<T>;

}  // namespace polyproc::inline v0_1
