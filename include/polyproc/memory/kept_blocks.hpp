/// Large blocks of the arena that their owner is likely to want again at once.
///
/// Memory that comes from the system costs some four times as much to fill as memory that was there. A process through which
/// large blocks come and go, one after the other under the same owner, keeps the last of them here for a moment instead of giving
/// them back: at most `most_bytes`, until let_go_of_old, or until this process needs memory or counts it.
///
/// To the books of the arena such a block is in use: its tag names its owner as before, with whatever number it had. So whoever
/// frees blocks by their numbers must not use one of them twice; and when the owner's last holder lets go of it the blocks go with
/// it: nothing may be kept any more then (drop, and drop_for_good where this process lets go of all). If this process is killed
/// they stay until the family ends, as all that it holds. That it keeps them it knows alone, and a copy that a fork makes of it
/// does not.
#pragma once

#include <polyproc/memory/later_frees.hpp>

#include <array>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class kept_blocks {
 public:
  struct block {
    std::uint64_t at = 0;    // 0: none
    std::uint64_t room = 0;  // bytes, so many at least
    explicit operator bool() const noexcept { return at != 0; }
  };
  static constexpr std::uint64_t most_bytes = std::uint64_t{160} << 20;

  /// Milliseconds that one is kept for. More is for tests alone.
  static std::atomic<int>& for_so_long() noexcept {
    static constinit std::atomic<int> milliseconds{100};
    return milliseconds;
  }

  /// What smaller ones have is given back at once. Less is for tests alone.
  static std::atomic<std::uint64_t>& least() noexcept {
    static constinit std::atomic<std::uint64_t> bytes{std::uint64_t{1} << 20};
    return bytes;
  }

  /// One that has room for `size` bytes, and not much more; or none. The caller's from now on.
  static block take(std::uint64_t owner, std::uint64_t size) noexcept {
    if (size < least().load(std::memory_order_relaxed)) return {};
    auto* const mine = there().load(std::memory_order_acquire);
    if (mine == nullptr || mine->of != Backend::current_pid()) return {};
    std::scoped_lock hold{mine->lock};
    for (auto& each : mine->all) {
      if (each.owner != owner || !each.what || each.what.room < size || each.what.room / 4 > size) continue;
      mine->bytes -= each.what.room;
      return std::exchange(each, {}).what;
    }
    return {};
  }

  /// Keeps a block of that owner's, which the caller holds; or gives it back, if it is small or enough are kept.
  static void keep(std::uint64_t owner, block what) noexcept {
    if (!what) return;
    constexpr auto page = arena<Backend>::page;
    what.room = (what.room + page - 1) / page * page;
    if (what.room >= least().load(std::memory_order_relaxed) && kept(owner, what)) return;
    later_frees<Backend>::free(what.at);
  }

  /// Gives those of that owner back that nobody has taken for a while. When to come again.
  static time_point let_go_of_old(std::uint64_t owner, time_point now) noexcept {
    auto next = never;
    free_those([&](entry const& e) {
      if (e.owner != owner) return false;
      if (e.until <= now) return true;
      next = std::min(next, e.until);
      return false;
    });
    return next;
  }
  /// Before the caller lets go of the owner.
  static void drop(std::uint64_t owner) noexcept {
    free_those([&](entry const& e) { return e.owner == owner; });
  }
  /// Because memory is wanted for something else, or counted.
  static void drop_all() noexcept {
    free_those([](entry const&) { return true; });
  }

  /// This process lets go of all that it holds: nothing is kept any more.
  static void drop_for_good() noexcept {
    // Whoever keeps something has made the list, and then looks at this: one of the two sees what the other has done.
    over().store(Backend::current_pid());
    drop_all();
  }

  /// For tests: bytes in the blocks that are kept.
  [[nodiscard]] static std::uint64_t bytes() noexcept {
    auto* const mine = there().load(std::memory_order_acquire);
    if (mine == nullptr || mine->of != Backend::current_pid()) return 0;
    std::scoped_lock hold{mine->lock};
    return mine->bytes;
  }

 private:
  struct entry {
    std::uint64_t owner = 0;
    block what;
    time_point until{};
  };
  using entries = std::array<entry, 16>;
  struct list {
    explicit list(list* copied) noexcept : of(Backend::current_pid()), left_alone(copied) {}
    long const of;
    list* const left_alone;  // a parent's, in a copy that a fork has made
    std::mutex lock;
    entries all{};
    std::uint64_t bytes = 0;
  };
  /// The process that keeps nothing any more.
  static std::atomic<long>& over() noexcept {
    static constinit std::atomic<long> pid{0};
    return pid;
  }
  static std::atomic<list*>& there() noexcept {
    static constinit std::atomic<list*> one{nullptr};
    return one;
  }
  /// This process's, never destroyed; nullptr if there is no memory for it.
  static list* made() noexcept {
    auto* seen = there().load(std::memory_order_acquire);
    while (seen == nullptr || seen->of != Backend::current_pid()) {
      auto* const fresh = new (std::nothrow) list(seen);
      if (fresh == nullptr) return nullptr;
      if (there().compare_exchange_strong(seen, fresh)) {
        arena<Backend>::before_counting().store([]() noexcept {
          drop_all();
          later_frees<Backend>::before_counting();
        });
        return fresh;
      }
      delete fresh;
    }
    return seen;
  }

  static bool kept(std::uint64_t owner, block const& what) noexcept {
    auto* const mine = made();
    if (mine == nullptr) return false;
    std::scoped_lock hold{mine->lock};
    if (over().load() == mine->of || mine->bytes + what.room > std::min<std::uint64_t>(most_bytes, arena<Backend>::room() / 16)) return false;
    for (auto& each : mine->all) {
      if (each.what) continue;
      each = {owner, what, Backend::now() + std::chrono::milliseconds{for_so_long().load(std::memory_order_relaxed)}};
      mine->bytes += what.room;
      return true;
    }
    return false;
  }
  /// The system's part of giving back takes long: without the lock.
  template <class Which>
  static void free_those(Which&& which) noexcept {
    auto* const mine = there().load();
    if (mine == nullptr || mine->of != Backend::current_pid()) return;
    std::array<std::uint64_t, std::tuple_size_v<entries>> gone{};
    std::size_t count = 0;
    {
      std::scoped_lock hold{mine->lock};
      for (auto& each : mine->all) {
        if (!each.what || !which(std::as_const(each))) continue;
        mine->bytes -= each.what.room;
        gone[count++] = std::exchange(each, {}).what.at;
      }
    }
    for (std::size_t i = 0; i < count; ++i) later_frees<Backend>::free(gone[i]);
  }
};

}  // namespace polyproc::inline v0_1::detail
