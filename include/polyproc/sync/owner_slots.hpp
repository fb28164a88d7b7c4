/// Places that each belong to one thread or to nobody: for locks that several may hold at once.
///
/// A place is a word that is 0 or the identity of its holder. A thread takes a place by changing 0, or the identity of
/// a dead thread, to its own by one compare-exchange, and gives it up by one store: there is no moment at which a taken
/// place does not say by whom. What a death leaves is a place with a dead identity, which the next one who needs it
/// takes or clears.
#pragma once

#include <polyproc/sync/waiting.hpp>

namespace polyproc::inline v0_1::detail {

template <sync_backend Backend, unsigned Count>
class owner_slots {
 public:
  /// One of the first `limit` places for `me`. With `ask`, those of dead threads count as free.
  bool claim(std::uint64_t me, unsigned limit, bool ask) noexcept {
    auto const start = first_for(me, limit);
    for (unsigned i = 0; i < limit; ++i) {
      auto& place = places_[(start + i) % limit];
      std::uint64_t nobody = 0;
      if (place.load(std::memory_order_relaxed) == 0 && place.compare_exchange_strong(nobody, me)) return true;
    }
    if (!ask) return false;
    for (unsigned i = 0; i < limit; ++i) {
      auto id = places_[i].load();
      if ((id == 0 || !Backend::alive(id)) && places_[i].compare_exchange_strong(id, me)) return true;
    }
    return false;
  }

  /// One place of `me` becomes free; false if it has none.
  bool give_up(std::uint64_t me, unsigned limit) noexcept {
    auto const start = first_for(me, limit);
    for (unsigned i = 0; i < limit; ++i) {
      auto& place = places_[(start + i) % limit];
      if (place.load(std::memory_order_relaxed) != me) continue;
      place.store(0);
      return true;
    }
    return false;
  }

  [[nodiscard]] bool has(std::uint64_t me, unsigned limit) const noexcept {
    for (unsigned i = 0; i < limit; ++i)
      if (places_[i].load(std::memory_order_relaxed) == me) return true;
    return false;
  }
  [[nodiscard]] unsigned taken(unsigned limit) const noexcept {
    unsigned count = 0;
    for (unsigned i = 0; i < limit; ++i) count += places_[i].load() != 0 ? 1U : 0U;
    return count;
  }

  [[nodiscard]] std::uint64_t holder(unsigned i) const noexcept { return places_[i].load(); }
  /// If that thread has ended and still has the place, nobody has it afterwards: true.
  bool clear_dead(unsigned i, std::uint64_t id) noexcept {
    if (Backend::alive(id)) return false;
    places_[i].compare_exchange_strong(id, 0);
    return true;
  }

 private:
  /// Threads begin to look at different places, and each always at the same.
  static unsigned first_for(std::uint64_t me, unsigned limit) noexcept {
    return static_cast<unsigned>((me * 0x9e3779b97f4a7c15ULL >> 32) % limit);
  }

  typename Backend::template atomic<std::uint64_t> places_[Count]{};
};

}  // namespace polyproc::inline v0_1::detail
