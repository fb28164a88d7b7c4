/// Giving blocks of the arena back without waiting for whoever holds its books.
///
/// A process that is killed while it holds the books leaves them to the next one. One that is stopped there (by a debugger, a
/// signal, a frozen control group) keeps them. What must go on all the same, such as ending that very process because its time is
/// over, gives blocks back through here: what cannot be done at once is noted, in this process's own memory, and done by a later
/// call of this process. Notes are done in the order in which they were made, so a block whose owner's blocks are to be swept first
/// is not somebody else's before that. If this process is killed with notes, those blocks stay until the family ends.
#pragma once

#include <polyproc/backend/lasting.hpp>
#include <polyproc/memory/arena.hpp>

#include <atomic>
#include <mutex>
#include <system_error>
#include <vector>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class later_frees {
 public:
  /// As arena::free, now or later.
  static void free(std::uint64_t offset) noexcept { now_or_later({note::one, offset, 0}); }
  /// Frees all blocks with that owner, now or later.
  static void sweep(std::uint64_t owner) noexcept { now_or_later({note::all, owner, 0}); }
  /// Frees all blocks with that tag. Nobody may use the tag for anything new, for it may happen much later.
  static void sweep(block_tag const& tag) noexcept { now_or_later({note::tagged, tag.owner, tag.number}); }

  /// As arena::allocate; nothing when the books are held by somebody who seems to be stopped.
  static std::optional<std::uint64_t> allocate(std::size_t size, block_tag tag) {
    if (behind()) (void)catch_up();
    auto got = arena<Backend>::allocate_until(size, tag, time_point{});
    if (!got && !held().load(std::memory_order_relaxed))
      got = arena<Backend>::allocate_until(size, tag, Backend::now() + patience);
    held().store(!got, std::memory_order_relaxed);
    return got;
  }

  /// Whether something is noted.
  [[nodiscard]] static bool behind() noexcept { return notes_count().load(std::memory_order_acquire) != 0; }
  /// Does what is noted, unless the books are held; whether nothing is left.
  static bool catch_up(time_point until = time_point{}) noexcept {
    std::scoped_lock hold{notes().lock};
    auto& all = notes().in_order;
    auto next = all.begin();
    while (next != all.end() && done(*next, until)) ++next;
    all.erase(all.begin(), next);
    notes_count().store(all.size(), std::memory_order_release);
    if (all.empty()) held().store(false, std::memory_order_relaxed);
    return all.empty();
  }

 private:
  /// Longer than who holds the books and runs takes, even if it is interrupted.
  static constexpr std::chrono::milliseconds patience{20};

  struct note {
    enum what : std::uint32_t { one, all, tagged } kind;
    std::uint64_t at;  // the block, or the owner
    std::uint64_t number;
  };
  struct list {
    std::mutex lock;
    std::vector<note> in_order;
  };
  static list& notes() {
    static lasting<list> const mine;
    static bool const once = [] {
      arena<Backend>::before_counting().store([]() noexcept { (void)catch_up(Backend::now() + patience); });
      // What a parent has noted is the parent's to do.
      Backend::at_fork_child([] {
        std::construct_at(&notes());
        notes_count().store(0);
      });
      return true;
    }();
    (void)once;
    return *mine;
  }
  static std::atomic<std::size_t>& notes_count() noexcept {
    static constinit std::atomic<std::size_t> count{0};
    return count;
  }
  /// The books were held for longer than patience when this process last wanted them.
  static std::atomic<bool>& held() noexcept {
    static constinit std::atomic<bool> is{false};
    return is;
  }

  static bool done(note const& what, time_point until) noexcept {
    if (what.kind == note::one) return arena<Backend>::free(what.at, until);
    return arena<Backend>::sweep(
        [&](block_tag const& tag, std::uint64_t) {
          return tag.owner == what.at && (what.kind == note::all || tag.number == what.number);
        },
        until);
  }
  static void now_or_later(note const& what) noexcept {
    if (!behind() || catch_up()) {
      if (done(what, time_point{})) return;
      if (!held().load(std::memory_order_relaxed) && done(what, Backend::now() + patience)) return;
    }
    held().store(true, std::memory_order_relaxed);
    try {
      std::scoped_lock hold{notes().lock};
      notes().in_order.push_back(what);
      notes_count().store(notes().in_order.size(), std::memory_order_release);
    } catch (...) {  // no memory for a note
      (void)done(what, never);
    }
  }
};

/// What needs shared memory cannot be done as long as a process is stopped that holds its books.
class books_held : public std::system_error {
 public:
  books_held()
      : std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                          "polyproc: a process that is stopped holds the books of shared memory; resume it, or end it") {}
};

/// Throws std::bad_alloc, or books_held.
template <backend Backend>
std::uint64_t allocated_now(std::size_t size, block_tag tag) {
  auto const got = later_frees<Backend>::allocate(size, tag);
  if (!got) throw books_held();
  return *got;
}

}  // namespace polyproc::inline v0_1::detail
