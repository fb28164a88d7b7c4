/// Blocks of the family's shared memory, handed out so that no kill can break the books.
///
/// The segment is divided into extents of whole pages (4096 bytes). A table of entries says what each is; entry
/// order means nothing. All-zero memory is an arena without blocks, so nobody has to initialise it.
///
///   [backend's own | head: lock, top, log | table of entries | pages ...]
///
/// Protocol. Only the holder of head.lock writes head and table. A change of several entries is one commit: the new
/// contents of at most three entries and of `top` are written to the log, then log.count is stored (the commit
/// point), then they are applied, then log.count is zeroed. A death before the commit leaves the table as it was; a
/// death after it is finished by the next holder, who applies the log again (applying twice changes nothing more).
/// A block that was given out belongs to whoever holds its offset; what becomes of blocks whose holder died is said
/// where they are used: the `tag` says for whom a block was taken, so that its survivors can find and free it.
#pragma once

#include <polyproc/sync/owner_lock.hpp>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <new>
#include <optional>

namespace polyproc::inline v0_1::detail {

/// For whom a block was taken: `owner` is the offset of the object it serves (0: nobody), `number` orders the blocks
/// of one owner.
struct block_tag {
  std::uint64_t owner = 0;
  std::uint64_t number = 0;
  friend bool operator==(block_tag const&, block_tag const&) = default;
};

template <memory_backend Backend>
class arena {
 public:
  static constexpr std::size_t page = 4096;

  /// At least `size` bytes, aligned to 64; their contents are arbitrary. The offset from the segment's base, never 0.
  /// Throws std::bad_alloc when memory (or the table) is used up; nothing has changed then.
  static std::uint64_t allocate(std::size_t size, block_tag tag = {}) { return *allocate_until(size, tag, never); }

  /// The same; nothing when the books are held by somebody (who may be stopped) until the deadline.
  static std::optional<std::uint64_t> allocate_until(std::size_t size, block_tag tag, time_point deadline) {
    if (size > std::numeric_limits<std::uint32_t>::max() * std::uint64_t{page} / 2) throw std::bad_alloc();
    auto const pages = static_cast<std::uint32_t>((std::max<std::size_t>(size, 1) + page - 1) / page);
    auto& self = get();
    auto const hold = self.lock(deadline);
    if (!hold.owns()) return std::nullopt;
    auto const first = self.take(pages, tag);
    auto* const at = self.address(first);
    if (!Backend::commit(at, pages * page)) {
      self.give(self.find(first));
      throw std::bad_alloc();
    }
    return self.offset(first);
  }

  /// Gives back what allocate returned. Ignored when no such block is in use (it was freed by somebody who tidied up).
  /// False when the books were held by somebody until the deadline; the block is still in use then.
  static bool free(std::uint64_t offset, time_point deadline = never) noexcept {
    auto& self = get();
    auto const hold = self.lock(deadline);
    if (!hold.owns()) return false;
    if (auto const index = self.find(self.first_page(offset)); index != none) self.give(index);
    return true;
  }

  /// Frees every block whose tag makes `unwanted` true. False as for free.
  template <class Unwanted>
  static bool sweep(Unwanted&& unwanted, time_point deadline = never) noexcept {
    auto& self = get();
    auto const hold = self.lock(deadline);
    if (!hold.owns()) return false;
    for (std::uint32_t i = 0; i < self.head_->entries; ++i) {
      auto const& e = self.table_[i];
      if (e.state == used && e.tag.owner != 0 && unwanted(e.tag)) self.give(i);
    }
    return true;
  }

  /// Where an offset lies in this process; memory is made ready for access. `size` is what will be used of it.
  static std::byte* at(std::uint64_t offset, std::size_t size) {
    auto& self = get();
    if (offset < self.data_start_ || offset > self.segment_.size || size > self.segment_.size - offset)
      throw std::out_of_range("polyproc: a shared-memory offset lies outside of the family's memory");
    auto* const memory = self.segment_.base + offset;
    if (!Backend::commit(memory, size)) throw std::bad_alloc();
    return memory;
  }

  /// For tests: whether the extents in the table cover [0, top) without gap or overlap, and no two vacant ones touch.
  static bool sound() {
    auto& self = get();
    auto const hold = self.lock();
    std::uint64_t at = 0;
    bool after_vacant = false;
    while (at < self.head_->top) {
      auto next = none;
      for (std::uint32_t i = 0; i < self.head_->entries; ++i) {
        auto const& e = self.table_[i];
        if (e.state == unused || e.first != at) continue;
        if (next != none) return false;
        next = i;
      }
      if (next == none || self.table_[next].pages == 0) return false;
      bool const vacant_here = self.table_[next].state == vacant;
      if (vacant_here && after_vacant) return false;
      after_vacant = vacant_here;
      at += self.table_[next].pages;
    }
    return at == self.head_->top && !after_vacant;
  }

  /// Bytes in blocks now.
  static std::size_t used_bytes() {
    auto& self = get();
    auto const hold = self.lock();
    std::size_t pages = 0;
    for (std::uint32_t i = 0; i < self.head_->entries; ++i)
      if (self.table_[i].state == used) pages += self.table_[i].pages;
    return pages * page;
  }

 private:
  static constexpr std::uint32_t most_entries = 16384;
  static constexpr std::uint32_t none = ~0U;
  enum state : std::uint32_t { unused = 0, vacant = 1, used = 2 };

  struct entry {
    std::uint32_t first;
    std::uint32_t pages;
    block_tag tag;
    std::uint32_t state;
    std::uint32_t spare;
  };
  struct log_record {
    std::uint32_t index;
    entry contents;
  };
  struct header {
    owner_lock<Backend> lock;
    std::uint32_t top;      // pages [top, end) were never given out
    std::uint32_t entries;  // entries [entries, most_entries) were never used
    typename Backend::template atomic<std::uint32_t> log_count;
    std::uint32_t log_top;
    log_record log[3];
  };
  static_assert(sizeof(header) <= page && sizeof(entry) == 32);

  /// The books of this process: where the segment lies.
  static arena& get() {
    static arena mine;
    return mine;
  }

  arena() : segment_(Backend::family()) {
    auto* const start = segment_.base + Backend::family_reserved;
    constexpr std::size_t books = page + most_entries * sizeof(entry);
    if (!Backend::commit(start, books)) throw std::bad_alloc();
    head_ = reinterpret_cast<header*>(start);
    table_ = reinterpret_cast<entry*>(start + page);
    data_start_ = Backend::family_reserved + books;
    end_ = static_cast<std::uint32_t>(
        std::min<std::size_t>((segment_.size - data_start_) / page, std::numeric_limits<std::uint32_t>::max()));
  }

  repairing_hold<Backend> lock(time_point deadline = never) {
    return {head_->lock, deadline, [this] { apply(); }};
  }

  [[nodiscard]] std::byte* address(std::uint32_t first) const { return segment_.base + offset(first); }
  [[nodiscard]] std::uint64_t offset(std::uint32_t first) const { return data_start_ + std::uint64_t{first} * page; }
  [[nodiscard]] std::uint32_t first_page(std::uint64_t at) const {
    return at < data_start_ ? none : static_cast<std::uint32_t>((at - data_start_) / page);
  }

  /// The entry in use that starts at that page.
  [[nodiscard]] std::uint32_t find(std::uint32_t first) const {
    for (std::uint32_t i = 0; i < head_->entries; ++i)
      if (table_[i].state == used && table_[i].first == first) return i;
    return none;
  }
  [[nodiscard]] std::uint32_t fresh_entry() const {
    for (std::uint32_t i = 0; i < head_->entries; ++i)
      if (table_[i].state == unused) return i;
    return head_->entries < most_entries ? head_->entries : none;
  }

  /// A page range in use with that tag: its first page.
  std::uint32_t take(std::uint32_t pages, block_tag tag) {
    auto best = none;
    for (std::uint32_t i = 0; i < head_->entries; ++i) {
      auto const& e = table_[i];
      if (e.state == vacant && e.pages >= pages && (best == none || e.pages < table_[best].pages)) best = i;
      if (best != none && table_[best].pages == pages) break;
    }
    staged_ = 0;
    new_top_ = head_->top;
    if (best == none) {
      auto const index = fresh_entry();
      if (index == none || pages > end_ - head_->top) throw std::bad_alloc();
      stage(index, {head_->top, pages, tag, used, 0});
      new_top_ = head_->top + pages;
      auto const first = head_->top;
      commit();
      return first;
    }
    auto const old = table_[best];
    auto const rest = old.pages == pages ? none : fresh_entry();
    // Without an entry for the rest the whole extent is given: wasteful, but right.
    stage(best, {old.first, rest == none ? old.pages : pages, tag, used, 0});
    if (rest != none) stage(rest, {old.first + pages, old.pages - pages, {}, vacant, 0});
    commit();
    return old.first;
  }

  /// Entry `index` becomes vacant, as one with its vacant neighbours.
  void give(std::uint32_t index) {
    auto freed = table_[index];
    // Small blocks are soon used again; large ones go back to the system at once.
    if (freed.pages >= 16) Backend::discard(address(freed.first), std::size_t{freed.pages} * page);
    staged_ = 0;
    new_top_ = head_->top;
    auto before = none;
    auto after = none;
    for (std::uint32_t i = 0; i < head_->entries; ++i) {
      auto const& e = table_[i];
      if (e.state != vacant) continue;
      if (e.first + e.pages == freed.first) before = i;
      if (freed.first + freed.pages == e.first) after = i;
    }
    entry merged{freed.first, freed.pages, {}, vacant, 0};
    if (before != none) {
      merged.first = table_[before].first;
      merged.pages += table_[before].pages;
      stage(before, {});
    }
    if (after != none) {
      merged.pages += table_[after].pages;
      stage(after, {});
    }
    if (merged.first + merged.pages == head_->top) {
      new_top_ = merged.first;
      merged = {};
    }
    stage(index, merged);
    commit();
  }

  void stage(std::uint32_t index, entry const& contents) { head_->log[staged_++] = {index, contents}; }

  void commit() {
    head_->log_top = new_top_;
    head_->log_count.store(staged_, std::memory_order_release);
    apply();
  }

  void apply() {
    auto const count = head_->log_count.load(std::memory_order_acquire);
    if (count == 0) return;
    for (std::uint32_t i = 0; i < count; ++i) {
      auto const& record = head_->log[i];
      table_[record.index] = record.contents;
      if (record.index >= head_->entries) head_->entries = record.index + 1;
    }
    head_->top = head_->log_top;
    head_->log_count.store(0, std::memory_order_release);
  }

  family_segment segment_;
  header* head_ = nullptr;
  entry* table_ = nullptr;
  std::uint64_t data_start_ = 0;
  std::uint32_t end_ = 0;
  std::uint32_t staged_ = 0;   // these two belong to the holder of head_->lock, who is a thread of this process
  std::uint32_t new_top_ = 0;
};

}  // namespace polyproc::inline v0_1::detail
