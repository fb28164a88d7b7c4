/// Who can put into a queue: so that those who wait for messages learn that none can come any more.
///
/// A process that has handles with which it can put has a place, a word with its identity. It takes a free place, or that
/// of a dead process, by one compare-exchange, and gives it up by one store. A handle on its way in a message is counted
/// in `under_way`, by its sender before the message can be seen, and taken from there by its reader after that one has a
/// place; `changes` is counted up by every such step, so that who looks at all places one after the other can tell
/// that nothing moved behind its back.
///
/// A message that was written is not yet one that was put: its sender may wait for room, and be killed there. So beside
/// each place stands how many of the handles under way are `unsent` of that process: after `under_way` was raised, and until
/// the put has succeeded (then they stay under way) or failed (then they are taken from there, in this order). Only the
/// owner of a place changes what stands beside it, so who clears up after a dead one takes the place first.
///
/// What a death leaves:
///   a place with a dead identity, which counts as free
///   a sender's, while it puts: what stands beside its place, which is then taken from `under_way`
///   a sender's, between the two steps of a count, of the clearer's between its own: one too many under way
///   a sender's, after its message can be seen, but before it has noted that: the same as while it puts. So that handle is
///     not known to be under way until its reader has it, and a place; `under_way` never goes below zero, because that handle
///     is counted out twice
///   a reader's, after the message was taken and before it has counted itself in: one too many under way
///   a child's before it has read its work: its parent counts the handles in that out, when it takes the child's status
/// One too many under way: the queue is taken for one that may still be put into, which is what would be without this. A live
/// process that has a handle has a place, so none is ever overlooked.
#pragma once

#include <polyproc/backend/concept.hpp>

#include <algorithm>

namespace polyproc::inline v0_1::detail {

template <sync_backend Backend>
class queue_users {
 public:
  static constexpr unsigned most = 112;
  static constexpr unsigned none = most;

  /// A place for process `me`; none if all are taken (the queue is then never taken for abandoned).
  unsigned enter(std::uint64_t me) noexcept {
    std::uint64_t nobody = 0;
    if (!first_.compare_exchange_strong(nobody, me) && nobody != me) given();
    return enter_as_copy(me);
  }
  /// The same for one that has a handle only because it is a copy of a process that has: it counts while it lives, but
  /// nobody gave it the handle, unless given() says so.
  unsigned enter_as_copy(std::uint64_t me) noexcept {
    auto const place = take(me);
    if (place == none) beyond_.fetch_add(1);
    changes_.fetch_add(1);
    return place;
  }
  /// More than one process was given a handle (or is about to be: it may be killed before it has entered).
  void given() noexcept { several_.store(1); }
  void leave(unsigned place) noexcept {
    if (place == none)
      beyond_.fetch_sub(1);
    else
      places_[place].store(0);
    changes_.fetch_add(1);
  }
  /// How many handles beside one place can be unsent; more are taken for sent.
  static constexpr unsigned most_unsent = 255;
  /// A handle is under way; of the caller's place, if it has one: in a message that is not put yet, until end_sending.
  void send(unsigned place = none) noexcept {
    under_way_.fetch_add(1);
    if (place != none) unsent_[place].fetch_add(1);
    changes_.fetch_add(1);
  }
  void end_sending(unsigned place) noexcept {
    if (place != none) unsent_[place].fetch_sub(1);
  }
  void arrive() noexcept { count_out(1); }

  [[nodiscard]] bool any_under_way() const noexcept { return under_way_.load() != 0; }

  /// Whether no other live process can put, and one could once.
  bool nobody_but(std::uint64_t me) noexcept {
    if (several_.load() == 0 && first_.load() == me) return false;
    for (;;) {
      auto const before = changes_.load();
      if (beyond_.load() != 0) return false;
      for (unsigned i = 0; i < most; ++i) {
        auto id = places_[i].load();
        if (id == 0 || id == me) continue;
        if (Backend::alive(id)) return false;
        if (!places_[i].compare_exchange_strong(id, me)) continue;
        forget_unsent(i);
        places_[i].store(0);
      }
      if (under_way_.load() != 0) return false;
      if (changes_.load() == before) return true;
    }
  }

 private:
  unsigned take(std::uint64_t me) noexcept {
    for (bool const ask : {false, true}) {
      for (unsigned i = 0; i < most; ++i) {
        auto id = places_[i].load(std::memory_order_relaxed);
        if (id != 0 && (!ask || Backend::alive(id))) continue;
        if (!places_[i].compare_exchange_strong(id, me)) continue;
        forget_unsent(i);
        return i;
      }
    }
    return none;
  }
  /// Of the dead process whose place this was, and is the caller's now.
  void forget_unsent(unsigned place) noexcept {
    if (unsent_[place].load() != 0) count_out(unsent_[place].exchange(0));
  }
  void count_out(std::uint32_t handles) noexcept {
    auto counted = under_way_.load();
    while (!under_way_.compare_exchange_strong(counted, counted - std::min(counted, handles))) {
    }
    changes_.fetch_add(1);
  }

  template <class T>
  using atomic = typename Backend::template atomic<T>;

  atomic<std::uint64_t> first_;
  atomic<std::uint32_t> several_;
  atomic<std::uint32_t> under_way_;
  atomic<std::uint32_t> beyond_;
  atomic<std::uint32_t> changes_;
  atomic<std::uint64_t> places_[most];
  atomic<std::uint8_t> unsent_[most];
};

}  // namespace polyproc::inline v0_1::detail
