/// Blocks of the family's shared memory.
///
///   [backend's own | head of the books, one page | table of the books | pages ...]      the books: memory/extents.hpp
#pragma once

#include <polyproc/memory/extents.hpp>

#include <atomic>
#include <bit>
#include <cstring>
#include <optional>
#include <stdexcept>

namespace polyproc::inline v0_1::detail {

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
    auto const& self = get();
    bool full = false;
    auto const attempt = [&]() -> std::optional<std::uint64_t> {
      full = false;
      auto books = self.books();
      auto const hold = books.lock(deadline);
      if (!hold.owns()) return std::nullopt;
      auto const first = books.take(pages, tag);
      full = first == books.none;
      if (full) return std::nullopt;
      full = !Backend::commit(self.address(first), pages * page);
      if (full) {
        books.give(books.find(first));
        return std::nullopt;
      }
      return self.offset(first);
    };
    auto got = attempt();
    if (auto* const make_room = before_counting().load(); full && make_room != nullptr) {
      make_room();
      got = attempt();
    }
    if (full) throw std::bad_alloc();
    return got;
  }

  /// Gives back what allocate returned. Ignored when no such block is in use (it was freed by somebody who tidied up).
  /// False when the books were held by somebody until the deadline; the block is still in use then.
  static bool free(std::uint64_t offset, time_point deadline = never) noexcept {
    auto const& self = get();
    auto books = self.books();
    auto const hold = books.lock(deadline);
    if (!hold.owns()) return false;
    if (auto const index = books.find(self.first_page(offset)); index != books.none) self.give(books, index);
    return true;
  }

  /// Changes the number in the tag of a block in use, in one step. False as for free.
  static bool renumber(std::uint64_t offset, std::uint64_t number, time_point deadline = never) noexcept {
    auto const& self = get();
    auto books = self.books();
    auto const hold = books.lock(deadline);
    if (!hold.owns()) return false;
    if (auto const index = books.find(self.first_page(offset)); index != books.none) books.renumber(index, number);
    return true;
  }

  /// Frees every block for which `unwanted(tag, offset)` is true. False as for free.
  template <class Unwanted>
  static bool sweep(Unwanted&& unwanted, time_point deadline = never) noexcept {
    auto const& self = get();
    auto books = self.books();
    auto const hold = books.lock(deadline);
    if (!hold.owns()) return false;
    for (std::uint32_t i = 0; i < books.count(); ++i) {
      auto const& e = books.at(i);
      if (e.state == books.used && e.tag.owner != 0 && unwanted(e.tag, self.offset(e.first))) self.give(books, i);
    }
    return true;
  }

  /// Where an offset lies in this process; memory is made ready for access. `size` is what will be used of it.
  static std::byte* at(std::uint64_t offset, std::size_t size) {
    auto const& self = get();
    if (offset < self.data_start_ || offset > self.segment_.size || size > self.segment_.size - offset)
      throw std::out_of_range("polyproc: a shared-memory offset lies outside of the family's memory");
    auto* const memory = self.segment_.base + offset;
    if (!Backend::commit(memory, size)) throw std::bad_alloc();
    return memory;
  }

  /// Has what the first access here costs behind it.
  static void touch() { (void)*static_cast<std::byte const volatile*>(reinterpret_cast<std::byte*>(get().head_)); }

  /// Bytes that blocks can have in all.
  static std::size_t room() { return std::size_t{get().end_} * page; }

  /// For tests.
  static bool sound() {
    auto books = get().books();
    auto const hold = books.lock();
    return books.sound();
  }
  /// Bytes in blocks now.
  static std::size_t used_bytes() {
    if (auto* const first = before_counting().load()) first();
    auto books = get().books();
    auto const hold = books.lock();
    return static_cast<std::size_t>(books.in_use()) * page;
  }

  /// What this process does before it counts, and when memory is used up: gives back what it could give back.
  static std::atomic<void (*)() noexcept>& before_counting() noexcept {
    static constinit std::atomic<void (*)() noexcept> call{nullptr};
    return call;
  }

 private:
  using books_type = extents<Backend>;
  static constexpr std::uint32_t most_entries = 16384;
  static constexpr std::uint64_t always_kept = 96;  // pages: 384 KiB
  static constexpr std::uint64_t most_kept = 4096;  // 16 MiB
  static_assert(sizeof(typename books_type::header) <= page && sizeof(typename books_type::entry) == 32);

  /// Where the segment lies in this process.
  static arena const& get() {
    static arena const mine;
    return mine;
  }

  arena() : segment_(Backend::family()) {
    auto* const start = segment_.base + Backend::family_reserved;
    constexpr std::size_t books_bytes = page + most_entries * sizeof(typename books_type::entry);
    if (!Backend::commit(start, books_bytes)) throw std::bad_alloc();
    head_ = reinterpret_cast<typename books_type::header*>(start);
    table_ = reinterpret_cast<typename books_type::entry*>(start + page);
    data_start_ = Backend::family_reserved + books_bytes;
    end_ = static_cast<std::uint32_t>(
        std::min<std::size_t>((segment_.size - data_start_) / page, std::numeric_limits<std::uint32_t>::max()));
  }

  [[nodiscard]] books_type books() const noexcept { return {*head_, table_, most_entries, end_}; }
  /// Blocks that are given back are soon used again where messages come and go, and memory that has to be asked for anew costs
  /// more than writing it. So as much as is in use may lie idle, but no more than most_kept, and always_kept when nothing
  /// is in use. What is more goes back to the system.
  void give(books_type& books, std::uint32_t index) const noexcept {
    auto const e = books.at(index);
    auto const allowed = always_kept + std::min<std::uint64_t>(books.in_use() - e.units, most_kept);
    auto const kept = books.kept();
    auto const discard = [this](std::uint32_t first, std::uint32_t units) {
      Backend::discard(address(first), std::size_t{units} * page);
    };
    bool const keep = kept + e.units <= allowed;
    if (!keep) discard(e.first, e.units);
    books.give(index, keep);
    if (!keep && kept > allowed) books.discard_kept(discard);
  }

  [[nodiscard]] std::byte* address(std::uint32_t first) const { return segment_.base + offset(first); }
  [[nodiscard]] std::uint64_t offset(std::uint32_t first) const { return data_start_ + std::uint64_t{first} * page; }
  [[nodiscard]] std::uint32_t first_page(std::uint64_t at) const {
    return at < data_start_ ? books_type::none : static_cast<std::uint32_t>((at - data_start_) / page);
  }

  family_segment segment_;
  typename books_type::header* head_ = nullptr;
  typename books_type::entry* table_ = nullptr;
  std::uint64_t data_start_ = 0;
  std::uint32_t end_ = 0;
};

}  // namespace polyproc::inline v0_1::detail
