/// How tasks get from a pool to whichever of its workers is free, such that a worker may die at any instruction and it is
/// always known which task it had, if any.
///
/// A task lies in a slot. The slot's control word says all that counts about it, in one word:
///
///     state | worker | ticket
///
///   free       nobody's but the pool's                 (pool)   -> given
///   given      to be taken by any worker               (worker) -> running   (pool) -> recalled
///   running    by that worker                          (worker) -> done      (pool) -> condemned
///   condemned  its worker is going to be ended         (pool, when that is dead) -> free
///   recalled   the pool has taken it back              (pool)   -> free, given
///   done       the result is whole                     (pool)   -> free
///
/// Each arrow is one compare-exchange or, out of states that are the pool's alone, one store, by the side named in it. A ticket
/// is used once; so a worker that was held up between looking and taking takes nothing that it did not look at.
///
/// The ring says in which order slots are to be taken: entry t % size names ticket t and its slot. The pool alone writes
/// entries, then `tail`. `head` is a hint that everybody helps forward past entries whose slot is no longer given with that
/// ticket; the slot's own word decides. An entry is not written anew before head has passed it: a worker that reads it late
/// sees another ticket than it looked for and starts again.
///
/// What a death costs. A worker before its exchange: nothing. After it: that one task, whose slot names the worker; others
/// help head past it. After done: nothing. The pool's process: everything, its workers end with it.
#pragma once

#include <polyproc/sync/waiting.hpp>

namespace polyproc::inline v0_1::detail {

template <sync_backend Backend>
class task_ring {
 public:
  using word = typename Backend::template atomic<std::uint64_t>;

  enum class state : std::uint8_t { free, given, running, condemned, recalled, done };
  static constexpr std::uint64_t make(state now, std::uint32_t worker, std::uint64_t ticket) noexcept {
    return ticket << 24 | std::uint64_t{worker & 0xFFFFU} << 8 | static_cast<std::uint64_t>(now);
  }
  static constexpr state state_of(std::uint64_t control) noexcept { return static_cast<state>(control & 0xFFU); }
  static constexpr std::uint32_t worker_of(std::uint64_t control) noexcept {
    return static_cast<std::uint32_t>(control >> 8) & 0xFFFFU;
  }
  static constexpr std::uint64_t ticket_of(std::uint64_t control) noexcept { return control >> 24; }

  static constexpr std::uint32_t none = ~std::uint32_t{0};
  static constexpr std::uint32_t most_slots = 0xFFFF;

  /// All zero to begin with. The two words have lines of their own: the pool writes one, workers the other.
  struct alignas(64) head_words {
    word tail;
    alignas(64) word head;
  };

  task_ring(head_words& words, word* entries, std::uint32_t size) noexcept : words_(&words), entries_(entries), size_(size) {}

  /// --- For workers. control(slot) is the slot's word.

  /// Whether there may be something to take. Sequentially consistent.
  [[nodiscard]] bool any() const noexcept { return words_->head.load() < words_->tail.load(); }

  /// The slot that is this worker's from now on, or none.
  template <class Control>
  std::uint32_t take(std::uint32_t worker, Control&& control) noexcept {
    for (;;) {
      auto at = words_->head.load(std::memory_order_acquire);
      if (at >= words_->tail.load(std::memory_order_acquire)) return none;
      auto const entry = entries_[at % size_].load(std::memory_order_acquire);
      if (entry >> 16 != (at & ticket_mask)) continue;  // head has moved on, and the entry been used again
      auto const slot = static_cast<std::uint32_t>(entry & 0xFFFFU);
      auto expected = make(state::given, 0, at);
      bool const mine = control(slot).compare_exchange_strong(expected, make(state::running, worker, at));
      pass(at);
      if (mine) return slot;
    }
  }

  /// The slot of a ticket that was given and is probably still to be taken, or none.
  [[nodiscard]] std::uint32_t to_come(std::uint64_t ticket) const noexcept {
    if (ticket >= words_->tail.load(std::memory_order_relaxed) || ticket < words_->head.load(std::memory_order_relaxed)) return none;
    return static_cast<std::uint32_t>(entries_[ticket % size_].load(std::memory_order_relaxed) & 0xFFFFU);
  }

  /// The result is whole. False when it is too late: the pool is going to end this worker, who is to wait for that. After true
  /// the slot is the pool's.
  static bool finish(word& control, std::uint32_t worker, std::uint64_t ticket) noexcept {
    auto expected = make(state::running, worker, ticket);
    return control.compare_exchange_strong(expected, make(state::done, worker, ticket));
  }

  /// --- For the pool, one thread at a time.

  [[nodiscard]] std::uint64_t tail() const noexcept { return words_->tail.load(std::memory_order_relaxed); }
  /// The first entry that has not been taken or recalled.
  template <class Control>
  std::uint64_t head(Control&& control) noexcept {
    auto const end = tail();
    auto at = words_->head.load(std::memory_order_acquire);
    while (at < end) {
      auto const slot = static_cast<std::uint32_t>(entries_[at % size_].load(std::memory_order_relaxed) & 0xFFFFU);
      if (control(slot).load(std::memory_order_acquire) == make(state::given, 0, at)) break;
      pass(at);
      at = words_->head.load(std::memory_order_acquire);
    }
    return at;
  }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }

  /// The slot, which is free or recalled and whole, is to be taken as that ticket: tail()'s, or one of those that follow it. No
  /// worker looks at it before publish. Fewer than size() entries must lie between head() and the ticket.
  void prepare(word& control, std::uint32_t slot, std::uint64_t ticket) noexcept {
    control.store(make(state::given, 0, ticket), std::memory_order_relaxed);
    entries_[ticket % size_].store((ticket & ticket_mask) << 16 | slot, std::memory_order_relaxed);
  }
  /// The next `count` tickets, which are prepared, may be taken from now on.
  void publish(std::uint64_t count) noexcept { words_->tail.store(tail() + count); }
  /// Takes back what no worker has begun.
  static bool recall(word& control, std::uint64_t ticket) noexcept {
    auto expected = make(state::given, 0, ticket);
    return control.compare_exchange_strong(expected, make(state::recalled, 0, ticket));
  }
  /// The worker that runs it is going to be ended; false when it has finished.
  static bool condemn(word& control) noexcept {
    auto now = control.load();
    return state_of(now) == state::running &&
           control.compare_exchange_strong(now, make(state::condemned, worker_of(now), ticket_of(now)));
  }
  static void free(word& control, std::uint64_t ticket) noexcept {
    control.store(make(state::free, 0, ticket), std::memory_order_release);
  }

 private:
  static constexpr std::uint64_t ticket_mask = (std::uint64_t{1} << 40) - 1;

  void pass(std::uint64_t at) noexcept { words_->head.compare_exchange_strong(at, at + 1); }

  head_words* words_;
  word* entries_;
  std::uint32_t size_;
};

/// Workers that have nothing to do. One of them may look for a task all the time: then nobody need be woken for the next one.
///
/// Protocol. Who gives tasks changes the ring's tail, then reads `watching`. Who watches clears `watching`, then looks at the
/// ring once more. All in the one order of sequentially consistent accesses: so either the giver sees that nobody watches, and
/// wakes somebody, or the one who watched sees a task. The one who watches takes one task; for a second one somebody is woken.
/// One that dies while it watches is found by the pool, which clears `watching` for it and wakes all.
template <sync_backend Backend>
class task_watch {
 public:
  sleepers<Backend> idle;

  /// After so many tasks were given.
  void wake_for_tasks(typename task_ring<Backend>::head_words const& ring, std::uint64_t count) noexcept {
    for (; count != 0 && idle.any(); --count) {
      // In this order: who watches after one was left will see that one; who watched before may have taken another.
      bool const one_is_left = ring.tail.load(std::memory_order_relaxed) - ring.head.load() <= 1;
      if (one_is_left && watching_.load() != 0) return;
      idle.wake_one();
    }
  }

  /// Looks for a task for a while, if nobody else does: one is enough, and more would take processors from those who work.
  template <class Ready>
  bool watch(std::uint32_t worker, Ready const& ready) {
    std::uint32_t nobody = 0;
    if (watching_.load(std::memory_order_relaxed) != 0 || !watching_.compare_exchange_strong(nobody, worker + 1)) return false;
    bool const found = look<Backend>()(ready);
    watching_.store(0);
    return found || ready();
  }

  /// That worker is dead. Afterwards all are to be woken: whoever was to take the next task may have been it.
  void forget(std::uint32_t worker) noexcept {
    auto watcher = worker + 1;
    watching_.compare_exchange_strong(watcher, 0);
  }
  void wake_all() noexcept {
    (void)idle.announce();  // one that was woken and has died may have been the last who knew of sleepers
    idle.wake_all();
  }

 private:
  typename Backend::template atomic<std::uint32_t> watching_{0};  // the number of the worker that looks, plus 1
};

}  // namespace polyproc::inline v0_1::detail
