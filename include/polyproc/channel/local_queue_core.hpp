/// What the handles of a local queue share: values in memory of this process, and threads that wait for them.
#pragma once

#include <polyproc/channel/queue_store.hpp>
#include <polyproc/sync/waiting.hpp>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <vector>

namespace polyproc::inline v0_1::detail {

/// Threads that sleep until something is so, under one mutex. Who makes it so counts, under the mutex, whom it wakes, and
/// wakes when it has let go of the mutex: nobody is woken twice, and nobody is woken while all are awake.
///
/// woken_ is never more than the number of sleepers that are on their way: it grows only as long as it is below that of all
/// sleepers, and whoever comes back, for whatever reason, takes one off it.
class local_sleepers {
 public:
  /// Until woken, for no reason, or until the deadline.
  void sleep(std::unique_lock<std::mutex>& hold, time_point deadline, time_point now) {
    ++sleeping_;
    // A standard library may count on another clock, on which a deadline too far away would overflow.
    if (deadline == never)
      bell_.wait(hold);
    else
      (void)bell_.wait_until(hold, std::min(deadline, now + std::chrono::hours(1)));
    --sleeping_;
    if (woken_ != 0) --woken_;
  }
  /// How many are to be woken for `n` that can go on.
  std::size_t call(std::size_t n) noexcept {
    n = std::min(n, sleeping_ - std::min(sleeping_, woken_));
    woken_ += n;
    return n;
  }
  std::size_t call_all() noexcept { return call(sleeping_); }
  /// Without the mutex.
  void wake(std::size_t n) noexcept {
    for (; n != 0; --n) bell_.notify_one();
  }

 private:
  std::condition_variable bell_;
  std::size_t sleeping_ = 0;
  std::size_t woken_ = 0;
};

/// Values in a chain of pieces of memory: none of them moves while it waits, and a piece that is left is used again.
template <class T>
class local_store {
 public:
  local_store() = default;
  local_store(local_store const&) = delete;
  local_store& operator=(local_store const&) = delete;
  ~local_store() {
    while (size_ != 0) pop();
    release(first_);
    release(spare_);
  }

  /// Throws what T's move constructor throws, and std::bad_alloc, having changed nothing.
  void push(T&& value) {
    if (last_ == nullptr || end_ == per_piece) grow();
    std::construct_at(last_->at(end_), std::move(value));
    ++end_;
    ++size_;
  }
  [[nodiscard]] T& front() noexcept {
    if (begin_ == per_piece) {
      auto* const left = std::exchange(first_, first_->next);
      begin_ = 0;
      keep(left);
    }
    return *first_->at(begin_);
  }
  void pop() noexcept {
    std::destroy_at(&front());
    ++begin_;
    --size_;
    if (size_ == 0 && first_ == last_) begin_ = end_ = 0;
  }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  static constexpr std::size_t per_piece = std::max<std::size_t>(1, 4096 / sizeof(T));
  struct piece {
    piece* next = nullptr;
    alignas(T) std::byte room[per_piece * sizeof(T)];
    T* at(std::size_t i) noexcept { return std::launder(reinterpret_cast<T*>(room + i * sizeof(T))); }
  };
  /// Pieces that are kept for later: 64 KiB of them, or a single one if they are larger; none of 512 KiB.
  static constexpr std::size_t most_spare =
      sizeof(piece) > 524288 ? 0 : std::max<std::size_t>(1, 65536 / sizeof(piece));

  void grow() {
    auto* const more = spare_ != nullptr ? std::exchange(spare_, spare_->next) : new piece;
    if (spares_ != 0) --spares_;
    more->next = nullptr;
    if (last_ == nullptr)
      first_ = more;
    else
      last_->next = more;
    last_ = more;
    end_ = 0;
  }
  void keep(piece* left) noexcept {
    if (spares_ == most_spare) {
      delete left;
      return;
    }
    left->next = std::exchange(spare_, left);
    ++spares_;
  }
  static void release(piece* all) noexcept {
    while (all != nullptr) delete std::exchange(all, all->next);
  }

  piece* first_ = nullptr;
  piece* last_ = nullptr;
  piece* spare_ = nullptr;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t size_ = 0;
  std::size_t spares_ = 0;
};

/// A value out on lease, or come back from there.
template <class T>
struct local_lease_node {
  local_lease_node* next = nullptr;
  std::uint64_t number = 0;
  std::optional<T> value;
};

/// What a handle to a local queue can do. Those that only hold the memory (leases) can do nothing.
enum class local_end : std::uint8_t { both, sender, receiver, none };

/// What the handles of a queue share.
template <class T, backend Backend>
class local_queue_state {
  using guard = std::unique_lock<std::mutex>;

 public:
  static constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();
  using node = local_lease_node<T>;

  explicit local_queue_state(std::size_t capacity) noexcept : capacity_(capacity) {}
  local_queue_state(local_queue_state const&) = delete;
  local_queue_state& operator=(local_queue_state const&) = delete;
  ~local_queue_state() {
    for (auto* all : {returned_, free_nodes_})
      while (all != nullptr) delete std::exchange(all, all->next);
  }

  // --- handles

  void enter(local_end end) noexcept {
    handles_.fetch_add(1, std::memory_order_relaxed);
    if (end == local_end::both) both_.fetch_add(1);
    if (end == local_end::sender) {
      senders_.fetch_add(1);
      had_senders_.store(true);
    }
  }
  void leave(local_end end) noexcept {
    // Those who get may find out that nobody can put any more.
    if ((end == local_end::both && both_.fetch_sub(1) <= 2) || (end == local_end::sender && senders_.fetch_sub(1) == 1)) {
      guard hold(lock_);
      wake_getters(hold, getters_.call_all());
    }
    if (handles_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  // --- looking, without the lock

  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::size_t size() const noexcept { return waiting_.load() + come_back_.load(); }
  [[nodiscard]] bool full() const noexcept { return waiting_.load() >= capacity_; }
  [[nodiscard]] bool closed() const noexcept { return closed_.load(); }
  [[nodiscard]] std::size_t unfinished() const noexcept { return unfinished_.load(); }

  /// What a put would find now: success, full, closed.
  [[nodiscard]] queue_status for_put() const noexcept {
    if (closed_.load()) return queue_status::closed;
    return waiting_.load() < capacity_ ? queue_status::success : queue_status::full;
  }
  /// What a get would find now: success, empty, closed. (What was put before the end is seen by those who see the end.)
  [[nodiscard]] queue_status for_get(bool can_put) const noexcept {
    bool const over = closed_.load() || nobody_puts(can_put);
    if (waiting_.load() != 0 || come_back_.load() != 0) return queue_status::success;
    return over ? queue_status::closed : queue_status::empty;
  }

  [[nodiscard]] auto announce_watcher() noexcept { return watchers_.announce(); }

  // --- puts and gets

  void close() noexcept {
    guard hold(lock_);
    closed_.store(true);
    auto const put = putters_.call_all();
    wake_getters(hold, getters_.call_all());
    putters_.wake(put);
  }

  queue_status put(T&& value, time_point deadline, bool wait) {
    guard hold(lock_, std::defer_lock);
    if (auto const s = wait_for_room(hold, deadline, wait); s != queue_status::success) return s;
    or_pass_on(putters_, [&] { store_.push(std::move(value)); });
    has_put(hold, 1);
    return queue_status::success;
  }
  /// As many of them as there is room for, at least one.
  queue_status put_some(std::span<std::optional<T>> values, std::size_t& done) {
    guard hold(lock_, std::defer_lock);
    done = 0;
    if (auto const s = wait_for_room(hold, never, true); s != queue_status::success) return s;
    auto const room = std::min(values.size(), capacity_ - store_.size());
    struct finally {
      local_queue_state& q;
      guard& hold;
      std::size_t& done;
      ~finally() { q.has_put(hold, done); }
    } const then{*this, hold, done};
    or_pass_on(putters_, [&] {
      for (; done < room; ++done) store_.push(std::move(*values[done]));
    });
    return queue_status::success;
  }

  /// take(T&&) gets the oldest one, which stays in the queue if that throws.
  template <class Take>
  queue_status get(bool can_put, time_point deadline, bool wait, Take&& take) {
    guard hold(lock_, std::defer_lock);
    if (auto const s = wait_for_value(hold, can_put, deadline, wait); s != queue_status::success) return s;
    or_pass_on(getters_, [&] { take_one(take); });
    has_got(hold);
    return queue_status::success;
  }
  /// At least one and at most `most`.
  queue_status get_many(std::vector<T>& all, std::size_t most, bool can_put, time_point deadline, bool wait) {
    guard hold(lock_, std::defer_lock);
    if (auto const s = wait_for_value(hold, can_put, deadline, wait); s != queue_status::success) return s;
    struct finally {
      local_queue_state& q;
      guard& hold;
      ~finally() { q.has_got(hold); }
    } const then{*this, hold};
    or_pass_on(getters_, [&] {
      most = std::min(most, size());
      all.reserve(most);
      for (std::size_t i = 0; i < most; ++i) take_one([&](T&& value) { all.push_back(std::move(value)); });
    });
    return queue_status::success;
  }

  // --- leases

  queue_status lease(node*& into, bool can_put, time_point deadline, bool wait) {
    guard hold(lock_, std::defer_lock);
    if (auto const s = wait_for_value(hold, can_put, deadline, wait); s != queue_status::success) return s;
    if (returned_ != nullptr) {
      into = std::exchange(returned_, returned_->next);
      come_back_.store(come_back_.load(std::memory_order_relaxed) - 1);
      return queue_status::success;
    }
    or_pass_on(getters_, [&] {
      if (free_nodes_ == nullptr) keep(new node);
      free_nodes_->value.emplace(std::move(store_.front()));
    });
    auto* const made = free_nodes_;
    free_nodes_ = made->next;
    --free_count_;
    store_.pop();
    made->number = ++leased_;
    into = made;
    has_got(hold);
    return queue_status::success;
  }
  void done(node* of) noexcept {
    of->value.reset();
    guard hold(lock_);
    keep(of);
  }
  /// Before all that were not taken yet, in the order in which they were put.
  void give_back(node* of) noexcept {
    guard hold(lock_);
    auto** at = &returned_;
    while (*at != nullptr && (*at)->number < of->number) at = &(*at)->next;
    of->next = std::exchange(*at, of);
    come_back_.store(come_back_.load(std::memory_order_relaxed) + 1);
    wake_getters(hold, getters_.call(1));
  }

  // --- who waits until all is done

  void task_done() {
    guard hold(lock_);
    if (in_work_ == 0)
      throw std::logic_error("polyproc: task_done() was called more often than messages were got from the queue");
    --in_work_;
    auto const left = unfinished_.load(std::memory_order_relaxed) - 1;
    unfinished_.store(left);
    if (left != 0) return;
    auto const wake = joiners_.call_all();
    hold.unlock();
    joiners_.wake(wake);
  }
  bool join(time_point deadline) {
    guard hold(lock_, std::defer_lock);
    return wait_until(hold, joiners_, deadline, true, queue_status::full, [this] {
             return unfinished() == 0 ? queue_status::success : queue_status::full;
           }) == queue_status::success;
  }

 private:
  static constexpr std::size_t most_free = std::max<std::size_t>(1, std::min<std::size_t>(16, 65536 / sizeof(node)));

  /// Whether a put can never come again. A handle of both kinds is read first: as long as there is one, others can come from
  /// it. The caller's own does not count once there have been senders.
  [[nodiscard]] bool nobody_puts(bool can_put) const noexcept {
    if (can_put && !had_senders_.load()) return false;
    return both_.load() <= (can_put ? 1U : 0U) && senders_.load() == 0;
  }

  queue_status wait_for_room(guard& hold, time_point deadline, bool wait) {
    return wait_until(hold, putters_, deadline, wait, queue_status::full, [this] { return for_put(); });
  }
  queue_status wait_for_value(guard& hold, bool can_put, time_point deadline, bool wait) {
    return wait_until(hold, getters_, deadline, wait, queue_status::empty, [this, can_put] { return for_get(can_put); });
  }
  /// Until now() is something else than `not_yet`; with the lock then, if that is success.
  template <class Now>
  queue_status wait_until(guard& hold, local_sleepers& here, time_point deadline, bool wait, queue_status not_yet,
                          Now&& now) {
    if (auto const s = now(); s == not_yet) {
      if (!wait) return s;
      // On a busy machine a look takes as long as others run.
      (void)look<Backend>()([&] { return now() != not_yet || (deadline != never && Backend::now() >= deadline); });
    }
    hold.lock();
    for (;;) {
      if (auto const s = now(); s != not_yet || !wait) return s;
      auto const time = deadline == never ? time_point{} : Backend::now();
      if (time >= deadline) return queue_status::timeout;
      here.sleep(hold, deadline, time);
    }
  }

  /// One that was woken to do this, and fails, wakes the next one.
  template <class Do>
  static void or_pass_on(local_sleepers& others, Do&& act) {
    try {
      act();
    } catch (...) {
      others.wake(others.call(1));
      throw;
    }
  }
  template <class Take>
  void take_one(Take&& take) {
    if (returned_ != nullptr) {
      auto* const first = returned_;
      take(std::move(*first->value));
      first->value.reset();
      returned_ = first->next;
      keep(first);
      come_back_.store(come_back_.load(std::memory_order_relaxed) - 1);
    } else {
      take(std::move(store_.front()));
      store_.pop();
      ++in_work_;
    }
  }
  void keep(node* empty) noexcept {
    if (free_count_ == most_free) {
      delete empty;
      return;
    }
    empty->next = std::exchange(free_nodes_, empty);
    ++free_count_;
  }
  void has_put(guard& hold, std::size_t n) noexcept {
    unfinished_.store(unfinished_.load(std::memory_order_relaxed) + n);
    waiting_.store(store_.size());
    wake_getters(hold, getters_.call(n));
  }
  /// So many of them, and all who wait for several things: there is something to get, or never will be.
  void wake_getters(guard& hold, std::size_t n) noexcept {
    hold.unlock();
    getters_.wake(n);
    watchers_.wake_all();
  }
  void has_got(guard& hold) noexcept {
    auto const left = store_.size();
    auto const taken = waiting_.load(std::memory_order_relaxed) - left;
    waiting_.store(left);
    auto const wake = putters_.call(taken);
    hold.unlock();
    putters_.wake(wake);
  }

  // Read without the lock; all but the handles' counts are written under it.
  std::atomic<std::size_t> waiting_{0};
  std::atomic<std::size_t> come_back_{0};
  std::atomic<std::size_t> unfinished_{0};
  std::atomic<bool> closed_{false};
  std::atomic<bool> had_senders_{false};
  std::atomic<std::uint32_t> both_{0};
  std::atomic<std::uint32_t> senders_{0};
  std::atomic<std::uint32_t> handles_{0};
  std::size_t const capacity_;

  alignas(64) std::mutex lock_;
  local_store<T> store_;
  node* returned_ = nullptr;  // by number
  node* free_nodes_ = nullptr;
  std::size_t free_count_ = 0;
  std::uint64_t leased_ = 0;
  std::size_t in_work_ = 0;
  local_sleepers getters_;
  local_sleepers putters_;
  local_sleepers joiners_;
  sleepers<Backend> watchers_;  // those of wait_any
};

/// One handle.
template <class T, backend Backend, local_end End>
class local_queue_ref {
 public:
  using state = local_queue_state<T, Backend>;

  explicit local_queue_ref(state* to) noexcept : to_(to) {
    if (to_ != nullptr) to_->enter(End);
  }
  local_queue_ref(local_queue_ref const& other) noexcept : local_queue_ref(other.to_) {}
  local_queue_ref(local_queue_ref&& other) noexcept : to_(std::exchange(other.to_, nullptr)) {}
  local_queue_ref& operator=(local_queue_ref other) noexcept {
    std::swap(to_, other.to_);
    return *this;
  }
  ~local_queue_ref() {
    if (to_ != nullptr) to_->leave(End);
  }
  [[nodiscard]] state* get() const noexcept { return to_; }
  [[nodiscard]] state* operator->() const noexcept { return to_; }
  friend bool operator==(local_queue_ref const& a, local_queue_ref const& b) noexcept { return a.to_ == b.to_; }

 private:
  state* to_;
};

}  // namespace polyproc::inline v0_1::detail
