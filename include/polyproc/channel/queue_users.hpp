/// Who can put into a queue: so that those who wait for messages learn that none can come any more.
///
/// A process that has handles with which it can put has a place, a word with its identity. It takes a free place, or that
/// of a dead process, by one compare-exchange, and gives it up by one store. A handle on its way in a message is counted
/// in `under_way`, by its sender before the message can be seen, and taken from there by its reader after that one has a
/// place; `changes` is counted up by every such step, so that who looks at all places one after the other can tell
/// that nothing moved behind its back.
///
/// What a death leaves: a place with a dead identity, which counts as free. A handle in the work of a child that was killed
/// before it read it is counted out by the child's parent, when that takes its status. One in a message that nobody
/// will read stays counted, and the queue is taken for one that may still be put into, which is what would be without this.
#pragma once

#include <polyproc/backend/concept.hpp>

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
  void send() noexcept {
    under_way_.fetch_add(1);
    changes_.fetch_add(1);
  }
  void arrive() noexcept {
    under_way_.fetch_sub(1);
    changes_.fetch_add(1);
  }

  [[nodiscard]] bool any_under_way() const noexcept { return static_cast<std::int32_t>(under_way_.load()) > 0; }

  /// Whether no other live process can put, and one could once.
  bool nobody_but(std::uint64_t me) noexcept {
    if (several_.load() == 0 && first_.load() == me) return false;
    for (;;) {
      auto const before = changes_.load();
      // (One that died while it counted itself in may have been counted out twice.)
      if (static_cast<std::int32_t>(under_way_.load()) > 0 || beyond_.load() != 0) return false;
      for (auto& place : places_) {
        auto id = place.load();
        if (id == 0 || id == me) continue;
        if (Backend::alive(id)) return false;
        place.compare_exchange_strong(id, 0);
      }
      if (changes_.load() == before) return true;
    }
  }

 private:
  unsigned take(std::uint64_t me) noexcept {
    for (bool const ask : {false, true}) {
      for (unsigned i = 0; i < most; ++i) {
        auto id = places_[i].load(std::memory_order_relaxed);
        if (id != 0 && (!ask || Backend::alive(id))) continue;
        if (places_[i].compare_exchange_strong(id, me)) return i;
      }
    }
    return none;
  }

  template <class T>
  using atomic = typename Backend::template atomic<T>;

  atomic<std::uint64_t> first_;
  atomic<std::uint32_t> several_;
  atomic<std::uint32_t> under_way_;
  atomic<std::uint32_t> beyond_;
  atomic<std::uint32_t> changes_;
  atomic<std::uint64_t> places_[most];
};

}  // namespace polyproc::inline v0_1::detail
