/// What backends share about named memory: what a name may be, and how to wait for a word in memory that belongs to no
/// family where parking knows only the family's (gate_parking.hpp). The system has no call that would do it there, and
/// whoever sleeps has no place to say so that the other side's wake could find. So the sleeper looks again by itself:
/// soon at first, and less often the longer it was in vain.
#pragma once

#include <polyproc/backend/concept.hpp>

#include <algorithm>
#include <stdexcept>

namespace polyproc::inline v0_1::detail {

/// Throws std::invalid_argument for what cannot be a name everywhere.
inline void check_name(std::string_view name, std::string const& of = "shared memory") {
  constexpr std::size_t longest = 200;
  bool good = !name.empty() && name.size() <= longest && name.front() != '.';
  for (char const c : name) {
    good = good && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                    c == '_' || c == '-');
  }
  if (!good)
    throw std::invalid_argument(
        "polyproc: the name of " + of + " has 1 to 200 characters, only letters of A to Z and a to z, digits, '.',"
        " '_' and '-', and does not begin with '.'");
}

inline void check_named_size(std::size_t size) {
  if (size == 0) throw std::invalid_argument("polyproc: shared memory with a name cannot have a size of 0");
}

/// Where named memory lies in this process. Asked at every wait and wake, so asking costs one load while there is none,
/// and takes no lock. Entries are used again but never freed, so a reader never meets one that is gone; the version says
/// whether it has met one that was being changed.
class named_ranges {
 public:
  [[nodiscard]] bool hold(void const* word) const noexcept {
    if (count_.load(std::memory_order_relaxed) == 0) return false;
    auto const at = reinterpret_cast<std::uintptr_t>(word);
    for (;;) {
      auto const before = version_.load(std::memory_order_acquire);
      bool found = false;
      for (range const* one = first_.load(std::memory_order_acquire); one != nullptr && !found; one = one->next)
        found = at - one->base.load(std::memory_order_acquire) < one->size.load(std::memory_order_acquire);
      if (before % 2 == 0 && version_.load(std::memory_order_relaxed) == before) return found;
    }
  }

  /// Both under a lock of the backend's, which forks wait for.
  void add(std::byte const* base, std::size_t size) {
    range* one = first_.load(std::memory_order_relaxed);
    while (one != nullptr && one->size.load(std::memory_order_relaxed) != 0) one = one->next;
    bool const fresh = one == nullptr;
    if (fresh) one = new range;
    change(*one, base, size);
    if (fresh) {
      one->next = first_.load(std::memory_order_relaxed);
      first_.store(one, std::memory_order_release);
    }
    count_.fetch_add(1, std::memory_order_relaxed);
  }
  void drop(std::byte const* base) noexcept {
    auto const at = reinterpret_cast<std::uintptr_t>(base);
    for (range* one = first_.load(std::memory_order_relaxed); one != nullptr; one = one->next) {
      if (one->size.load(std::memory_order_relaxed) == 0 || one->base.load(std::memory_order_relaxed) != at) continue;
      change(*one, nullptr, 0);
      count_.fetch_sub(1, std::memory_order_relaxed);
      return;
    }
  }

 private:
  struct range {
    std::atomic<std::uintptr_t> base{0};
    std::atomic<std::size_t> size{0};
    range* next = nullptr;
  };

  void change(range& one, std::byte const* base, std::size_t size) noexcept {
    version_.fetch_add(1, std::memory_order_relaxed);
    one.base.store(reinterpret_cast<std::uintptr_t>(base), std::memory_order_release);
    one.size.store(size, std::memory_order_release);
    version_.fetch_add(1, std::memory_order_release);
  }

  std::atomic<std::uint32_t> count_{0};
  std::atomic<std::uint32_t> version_{0};  // odd while an entry changes
  std::atomic<range*> first_{nullptr};
};
static_assert(std::is_trivially_destructible_v<named_ranges>);

/// One wait for a word in named memory: a pause, of 50 microseconds at first and up to 2 milliseconds while the calling
/// thread waits for the same word in vain. `nap(length)` sleeps that long or until the deadline.
template <class Nap>
void wait_in_named(std::atomic<std::uint32_t> const& word, std::uint32_t expected, Nap&& nap) noexcept {
  struct patience {
    void const* word = nullptr;
    std::uint32_t expected = 0;
    std::chrono::microseconds length{};
  };
  constexpr std::chrono::microseconds shortest{50};
  constexpr std::chrono::microseconds longest{2000};
  static thread_local patience mine;
  if (word.load(std::memory_order_acquire) != expected) return;
  bool const again = mine.word == &word && mine.expected == expected;
  mine = {&word, expected, again ? (std::min)(mine.length * 2, longest) : shortest};
  nap(mine.length);
  if (word.load(std::memory_order_acquire) != expected) mine.word = nullptr;
}

}  // namespace polyproc::inline v0_1::detail
