/// Books of what is in use of a range of shared memory, kept so that no kill can break them.
///
/// The range is divided into units; a table of entries says what each extent of units is, and entry order means nothing.
/// All-zero books are those of a range of which nothing is in use, so nobody has to initialise them.
///
/// Protocol. Only the holder of head.lock writes head and table. A change of several entries is one commit: the new
/// contents of at most three entries and of `top` are written to the log, then log.count is stored (the commit
/// point), then they are applied, then log.count is zeroed. A death before the commit leaves the table as it was; a
/// death after it is finished by the next holder, who applies the log again (applying twice changes nothing more).
/// An extent that was given out belongs to whoever knows where it is; what becomes of extents whose user died is said
/// where they are used: the `tag` says for whom one was taken, so that its survivors can find and free it.
#pragma once

#include <polyproc/sync/owner_lock.hpp>

#include <algorithm>
#include <limits>
#include <new>

namespace polyproc::inline v0_1::detail {

/// For whom an extent was taken: `owner` is the offset of the object it serves (0: nobody), `number` orders the extents of
/// one owner.
struct block_tag {
  std::uint64_t owner = 0;
  std::uint64_t number = 0;
  friend bool operator==(block_tag const&, block_tag const&) = default;
};

template <sync_backend Backend>
class extents {
 public:
  static constexpr std::uint32_t none = ~0U;
  enum state : std::uint32_t { unused = 0, vacant = 1, used = 2 };

  struct entry {
    std::uint32_t first;
    std::uint32_t units;
    block_tag tag;
    std::uint32_t state;
    std::uint32_t kept;  // of a vacant one: units that may still have memory; at least as many as have
  };
  struct log_record {
    std::uint32_t index;
    entry contents;
  };
  struct header {
    owner_lock<Backend> lock;
    std::uint32_t top;      // units [top, end) were never given out
    std::uint32_t entries;  // entries [entries, most_entries) were never used
    typename Backend::template atomic<std::uint32_t> log_count;
    std::uint32_t log_top;
    log_record log[3];
    std::uint32_t kept_top;  // units [top, kept_top) may still have memory
  };

  /// A view of books that lie in shared memory: `most_entries` of table, `end` units in all.
  extents(header& head, entry* table, std::uint32_t most_entries, std::uint32_t end) noexcept
      : head_(&head), table_(table), most_entries_(most_entries), end_(end) {}

  /// Everything below is for one who holds this.
  repairing_hold<Backend> lock(time_point deadline = never) {
    return {head_->lock, deadline, [this] { apply(); }};
  }

  /// A range in use with that tag: its first unit. `none`: there is no room for it, in the range or in the table.
  std::uint32_t take(std::uint32_t units, block_tag tag) noexcept {
    auto best = none;
    for (std::uint32_t i = 0; i < head_->entries; ++i) {
      auto const& e = table_[i];
      if (e.state == vacant && e.units >= units && (best == none || e.units < table_[best].units)) best = i;
      if (best != none && table_[best].units == units) break;
    }
    begin_change();
    if (best == none) {
      auto const index = fresh_entry();
      auto const first = head_->top;
      if (index == none || units > end_ - first) return none;
      stage(index, {first, units, tag, used, 0});
      new_top_ = first + units;
      commit();
      return first;
    }
    auto const old = table_[best];
    auto const rest = old.units == units ? none : fresh_entry();
    // Without an entry for the rest the whole extent is given: wasteful, but right.
    stage(best, {old.first, rest == none ? old.units : units, tag, used, 0});
    if (rest != none) stage(rest, {old.first + units, old.units - units, {}, vacant, std::min(old.kept, old.units - units)});
    commit();
    return old.first;
  }

  /// The entry in use that starts at that unit.
  [[nodiscard]] std::uint32_t find(std::uint32_t first) const noexcept {
    for (std::uint32_t i = 0; i < head_->entries; ++i)
      if (table_[i].state == used && table_[i].first == first) return i;
    return none;
  }
  [[nodiscard]] std::uint32_t count() const noexcept { return head_->entries; }
  [[nodiscard]] entry const& at(std::uint32_t index) const noexcept { return table_[index]; }

  /// Entry `index`, which is in use, becomes vacant, as one with its vacant neighbours. `kept`: its memory is still there.
  void give(std::uint32_t index, bool kept = false) noexcept {
    auto const freed = table_[index];
    begin_change();
    auto before = none;
    auto after = none;
    for (std::uint32_t i = 0; i < head_->entries; ++i) {
      auto const& e = table_[i];
      if (e.state != vacant) continue;
      if (e.first + e.units == freed.first) before = i;
      if (freed.first + freed.units == e.first) after = i;
    }
    entry merged{freed.first, freed.units, {}, vacant, kept ? freed.units : 0};
    if (before != none) {
      merged.first = table_[before].first;
      merged.units += table_[before].units;
      merged.kept += table_[before].kept;
      stage(before, {});
    }
    if (after != none) {
      merged.units += table_[after].units;
      merged.kept += table_[after].kept;
      stage(after, {});
    }
    if (merged.first + merged.units == head_->top) {
      if (merged.kept != 0) head_->kept_top = std::max(head_->kept_top, head_->top);
      new_top_ = merged.first;
      merged = {};
    }
    stage(index, merged);
    commit();
  }

  /// Another number in the tag of entry `index`: one store.
  void renumber(std::uint32_t index, std::uint64_t number) noexcept { table_[index].tag.number = number; }

  /// Vacant units that may still have memory.
  [[nodiscard]] std::uint64_t kept() const noexcept {
    std::uint64_t units = head_->kept_top > head_->top ? head_->kept_top - head_->top : 0;
    for (std::uint32_t i = 0; i < head_->entries; ++i)
      if (table_[i].state == vacant) units += table_[i].kept;
    return units;
  }
  /// discard(first, units) gives back the memory of each range that may have some. Who dies in it leaves the rest for the
  /// next one.
  template <class Discard>
  void discard_kept(Discard&& discard) noexcept {
    for (std::uint32_t i = 0; i < head_->entries; ++i) {
      auto& e = table_[i];
      if (e.state != vacant || e.kept == 0) continue;
      discard(e.first, e.units);
      e.kept = 0;
    }
    if (head_->kept_top > head_->top) discard(head_->top, head_->kept_top - head_->top);
    head_->kept_top = 0;
  }

  /// Units in use.
  [[nodiscard]] std::uint64_t in_use() const noexcept {
    std::uint64_t units = 0;
    for (std::uint32_t i = 0; i < head_->entries; ++i)
      if (table_[i].state == used) units += table_[i].units;
    return units;
  }

  /// Whether the extents in the table cover [0, top) without gap or overlap, and no two vacant ones touch.
  [[nodiscard]] bool sound() const noexcept {
    std::uint64_t at = 0;
    bool after_vacant = false;
    while (at < head_->top) {
      auto next = none;
      for (std::uint32_t i = 0; i < head_->entries; ++i) {
        auto const& e = table_[i];
        if (e.state == unused || e.first != at) continue;
        if (next != none) return false;
        next = i;
      }
      if (next == none || table_[next].units == 0) return false;
      bool const vacant_here = table_[next].state == vacant;
      if (vacant_here && after_vacant) return false;
      after_vacant = vacant_here;
      at += table_[next].units;
    }
    return at == head_->top && !after_vacant;
  }

 private:
  [[nodiscard]] std::uint32_t fresh_entry() const noexcept {
    for (std::uint32_t i = 0; i < head_->entries; ++i)
      if (table_[i].state == unused) return i;
    return head_->entries < most_entries_ ? head_->entries : none;
  }

  void begin_change() noexcept {
    staged_ = 0;
    new_top_ = head_->top;
  }
  void stage(std::uint32_t index, entry const& contents) noexcept { head_->log[staged_++] = {index, contents}; }
  void commit() noexcept {
    head_->log_top = new_top_;
    head_->log_count.store(staged_, std::memory_order_release);
    apply();
  }
  void apply() noexcept {
    auto const staged = head_->log_count.load(std::memory_order_acquire);
    if (staged == 0) return;
    for (std::uint32_t i = 0; i < staged; ++i) {
      auto const& record = head_->log[i];
      table_[record.index] = record.contents;
      if (record.index >= head_->entries) head_->entries = record.index + 1;
    }
    head_->top = head_->log_top;
    head_->log_count.store(0, std::memory_order_release);
  }

  header* head_;
  entry* table_;
  std::uint32_t most_entries_;
  std::uint32_t end_;
  std::uint32_t staged_ = 0;
  std::uint32_t new_top_ = 0;
};

}  // namespace polyproc::inline v0_1::detail
