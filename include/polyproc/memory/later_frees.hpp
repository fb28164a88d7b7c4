/// Giving blocks of the arena back without waiting for whoever holds its books.
///
/// A process that is killed while it holds the books leaves them to the next one. One that is stopped there (by a debugger, a
/// signal, a frozen control group) keeps them. What must go on all the same, such as ending that very process because its time is
/// over, gives blocks back through here: what cannot be done at once is noted, in this process's own memory, and done later, by a
/// thread that is there as long as there are notes, or by whoever comes first.
///
/// Notes are done in the order in which they were made, and while there are any, letting go of an object is noted as well. So as
/// long as a note about a block is not done, this process still holds the object whose block it is: neither its place nor its tag
/// can be somebody else's yet. If this process ends with notes, those blocks and objects stay until the family ends.
#pragma once

#include <polyproc/memory/arena.hpp>

#include <atomic>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class later_frees {
 public:
  /// As arena::free, now or later. The caller holds the object whose block it is.
  static void free(std::uint64_t offset) noexcept { now_or_later({note::one, offset, 0, nullptr}); }
  /// Frees all blocks with that tag. Nobody uses it for anything new as long as its owner, which the caller holds, is there.
  static void sweep(block_tag const& tag) noexcept { now_or_later({note::tagged, tag.owner, tag.number, nullptr}); }
  /// Lets go of an object, and frees it with all its blocks if `last` says so, which is asked once.
  static void let_go(std::uint64_t offset, bool (*last)(std::uint64_t) noexcept) noexcept {
    if (behind()) now_or_later({note::hold, offset, 0, last});
    else if (last(offset)) now_or_later({note::all, offset, 0, nullptr});
  }

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
    auto* const mine = notes();
    if (mine == nullptr) return false;
    std::scoped_lock hold{mine->lock};
    return caught_up(*mine, until);
  }

  /// What this process does before it counts what is in use, or when nothing is left.
  static void before_counting() noexcept {
    if (behind()) (void)catch_up(Backend::now() + patience);
  }

  /// This process ends. To let go of what others hold too needs no books; they free its blocks when they let go of it.
  static void last_chance() noexcept {
    if (!behind() || catch_up(Backend::now() + std::chrono::milliseconds{500})) return;
    auto* const mine = notes();
    if (mine == nullptr) return;
    std::scoped_lock hold{mine->lock};
    auto& all = mine->in_order;
    std::size_t kept = 0;
    for (auto& each : all) {
      if (each.kind == note::one || each.kind == note::tagged) continue;
      if (each.kind == note::hold && done(each, time_point{})) continue;
      all[kept++] = each;
    }
    all.resize(kept, note{});
    notes_count().store(mine->in_order.size(), std::memory_order_release);
  }

 private:
  /// Longer than who holds the books and runs takes, even if it is interrupted.
  static constexpr std::chrono::milliseconds patience{20};

  struct note {
    enum what : std::uint32_t { one, all, itself, tagged, hold } kind;
    std::uint64_t at;  // the block, or the owner
    std::uint64_t number;
    bool (*last)(std::uint64_t) noexcept;
  };
  struct list {
    explicit list(list* copied) noexcept : of(Backend::current_pid()), left_alone(copied) {}
    long const of;
    list* const left_alone;  // a parent's, in a copy that a fork has made: what it has noted is the parent's to do
    std::mutex lock;
    std::vector<note> in_order;
    bool thread = false;
  };
  static std::atomic<list*>& there() noexcept {
    static constinit std::atomic<list*> one{nullptr};
    return one;
  }
  /// This process's, never destroyed; nullptr if there is no memory for it. Made without a lock that a fork could leave locked.
  static list* notes() noexcept {
    auto* seen = there().load(std::memory_order_acquire);
    while (seen == nullptr || seen->of != Backend::current_pid()) {
      auto* const made = new (std::nothrow) list(seen);
      if (made == nullptr) return nullptr;
      if (there().compare_exchange_strong(seen, made, std::memory_order_acq_rel, std::memory_order_acquire)) {
        void (*nobody)() noexcept = nullptr;
        (void)arena<Backend>::before_counting().compare_exchange_strong(nobody, [] () noexcept { before_counting(); });
        return made;
      }
      delete made;
    }
    return seen;
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

  static bool caught_up(list& mine, time_point until) noexcept {
    auto& all = mine.in_order;
    auto next = all.begin();
    while (next != all.end() && done(*next, until)) ++next;
    all.erase(all.begin(), next);
    notes_count().store(all.size(), std::memory_order_release);
    if (all.empty()) held().store(false, std::memory_order_relaxed);
    return all.empty();
  }
  /// False when the books are held until then; what is left to do is in the note.
  static bool done(note& what, time_point until) noexcept {
    if (what.kind == note::hold) {
      if (!what.last(what.at)) return true;
      what.kind = note::all;
    }
    if (what.kind == note::all || what.kind == note::tagged) {
      bool const swept = arena<Backend>::sweep(
          [&](block_tag const& tag, std::uint64_t) {
            return tag.owner == what.at && (what.kind == note::all || tag.number == what.number);
          },
          until);
      if (!swept || what.kind == note::tagged) return swept;
      what.kind = note::itself;
    }
    return arena<Backend>::free(what.at, until);
  }
  static void now_or_later(note what) noexcept {
    if (!behind() || catch_up()) {
      if (done(what, time_point{})) return;
      if (!held().load(std::memory_order_relaxed) && done(what, Backend::now() + patience)) return;
    }
    held().store(true, std::memory_order_relaxed);
    if (auto* const mine = notes(); mine != nullptr && noted(*mine, what)) return;
    // No memory for a note. In short turns, so that others come to the list meanwhile.
    while ((behind() && !catch_up(Backend::now() + patience)) || !done(what, Backend::now() + patience)) {
    }
  }
  static bool noted(list& mine, note const& what) noexcept {
    std::scoped_lock hold{mine.lock};
    try {
      mine.in_order.push_back(what);
    } catch (...) {
      return false;
    }
    notes_count().store(mine.in_order.size(), std::memory_order_release);
    if (mine.thread) return true;
    try {
      std::thread([&mine] { serve(mine); }).detach();
      mine.thread = true;
    } catch (...) {  // then whoever comes next
    }
    return true;
  }
  static void serve(list& mine) noexcept {
    Backend::begin_own_thread("polyproc-frees");
    for (int looks = 0;; ++looks) {
      std::this_thread::sleep_for(looks < 50 ? std::chrono::milliseconds{10} : std::chrono::milliseconds{100});
      std::scoped_lock hold{mine.lock};
      if (!caught_up(mine, time_point{})) continue;
      mine.thread = false;
      return;
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
