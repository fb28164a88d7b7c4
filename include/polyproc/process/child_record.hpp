/// What is known of a child, in shared memory, where every process can read it that has a reference to the child.
///
///   [block header | fields | bytes: the child's work, later its last words]
///
/// Written by                          what                                            published by
/// the parent, before the start        name, creator, the work                         the start itself
/// the child, at its beginning         identity (where only it can know), begun,       a release store of each
///                                     call_begun, work_read
/// the child, at its end               its last words (an uncaught exception)          a release store of report_size
/// whoever takes its status (parent)   status                                          a release store of ended
///
/// A death before such a store leaves what was there before; nothing is written twice. Two holds keep the block: the
/// parent's, let go when its last object for the child is gone, and the child's own, which the parent lets go once the
/// child's status is taken (when nothing will be written any more); a child that outlives its parent does it itself. The
/// references have holds of their own.
#pragma once

#include <polyproc/memory/attachment.hpp>
#include <polyproc/process/exit_status.hpp>
#include <polyproc/wire/exception.hpp>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
struct child_record {
  template <class T>
  using atomic = typename Backend::template atomic<T>;

  static constexpr std::uint64_t fingerprint = 0x6368696c64ULL;  // "child"
  static constexpr std::uint64_t layout = 1;
  static constexpr char const* handle_name = "process";
  static constexpr std::size_t longest_name = 64;
  /// With the fields and the block's header this is one page.
  static constexpr std::size_t room = 4096 - shared_block_header - 192;

  atomic<std::uint64_t> of_backend;
  atomic<std::uint64_t> identity;
  std::uint64_t creator;  // identity of the process that started it
  std::uint64_t work_at;  // a block of the arena, when `bytes` is too small; 0: in bytes
  std::uint64_t work_size;
  atomic<std::uint32_t> begun;
  atomic<std::uint32_t> ended;
  atomic<std::uint32_t> report_size;
  std::uint32_t how;
  std::int32_t code;
  std::int32_t signal;
  std::uint32_t core;
  std::uint32_t raw;
  atomic<std::uint32_t> call_begun;  // the target and its arguments are being read: what they hold becomes the child's
  atomic<std::uint32_t> work_read;   // all of it: what it held is the child's
  std::uint32_t name_size;
  char name[longest_name];
  std::byte bytes[room];

  /// With `not_wait`, throws books_held rather than wait for somebody who seems to be stopped.
  static child_record* create(std::uint64_t& offset, bool not_wait = false) {
    offset = attachment<Backend>::create_block(sizeof(child_record), fingerprint, layout, ~std::size_t{0}, not_wait);
    return at(offset);
  }
  static child_record* at(std::uint64_t offset) {
    return of(attachment<Backend>::look_at(offset, fingerprint, layout, handle_name));
  }
  static child_record* of(std::byte* block) noexcept {
    return reinterpret_cast<child_record*>(block + shared_block_header);
  }
  /// What a backend calls the work: where of_backend lies.
  static std::uint64_t work_of(std::uint64_t offset) noexcept { return offset + shared_block_header; }
  static std::uint64_t offset_of(std::uint64_t work) noexcept { return work - shared_block_header; }

  void write_name(std::string_view text) noexcept {
    name_size = static_cast<std::uint32_t>(std::min(text.size(), longest_name));
    std::memcpy(name, text.data(), name_size);
  }
  [[nodiscard]] std::string read_name() const { return {name, std::min<std::size_t>(name_size, longest_name)}; }

  /// Throws std::bad_alloc; with `not_wait`, books_held.
  void write_work(std::span<std::byte const> work, std::uint64_t own_offset, bool not_wait = false) {
    work_size = work.size();
    std::byte* to = bytes;
    if (work.size() > room) {
      block_tag const gone_with_this_block{own_offset, 0};  // if nobody frees it
      work_at = not_wait ? allocated_now<Backend>(work.size(), gone_with_this_block)
                         : arena<Backend>::allocate(work.size(), gone_with_this_block);
      to = arena<Backend>::at(work_at, work.size());
    }
    if (!work.empty()) std::memcpy(to, work.data(), work.size());
  }
  [[nodiscard]] std::span<std::byte const> read_work() {
    auto const size = static_cast<std::size_t>(work_size);
    if (work_at == 0) return {bytes, std::min(size, room)};
    return {arena<Backend>::at(work_at, size), size};
  }
  /// By the child.
  void work_was_read() noexcept {
    work_read.store(1, std::memory_order_release);
    free_work();
  }
  /// When it was read, or the child is dead.
  void free_work() noexcept {
    if (work_at != 0) later_frees<Backend>::free(std::exchange(work_at, 0));
  }

  /// The last words, of the exception that ended the child. The work was read by then.
  void report(exception_summary said) {
    said.type.resize(std::min<std::size_t>(said.type.size(), 512));
    said.what.resize(std::min<std::size_t>(said.what.size(), room - 512 - 32));
    writer out;
    encode(out, said.type);
    encode(out, said.what);
    std::memcpy(bytes, out.view().data(), out.view().size());
    report_size.store(static_cast<std::uint32_t>(out.view().size()), std::memory_order_release);
  }

  void write_status(end_status const& taken) noexcept {
    raw = taken.raw;
    core = taken.core ? 1 : 0;
    auto kind = exit_status::kind::unknown;
    if (taken.kind == end_kind::code) {
      kind = exit_status::kind::normal;
      code = taken.value;
      if (report_size.load(std::memory_order_acquire) != 0 && code == 1) kind = exit_status::kind::exception;
    } else if (taken.kind == end_kind::signal) {
      kind = exit_status::kind::signal;
      signal = taken.value;
    }
    how = static_cast<std::uint32_t>(kind);
    ended.store(1, std::memory_order_release);
    Backend::wake_all(ended);
  }
  /// Nothing until somebody has taken it.
  [[nodiscard]] std::optional<exit_status> read_status() const {
    if (ended.load(std::memory_order_acquire) == 0) return std::nullopt;
    exit_status status;
    status.how = static_cast<exit_status::kind>(how);
    status.code = code;
    status.signal = signal;
    status.core_dumped = core != 0;
    status.raw = raw;
    if (status.how == exit_status::kind::exception) {
      reader in({bytes, std::min<std::size_t>(report_size.load(std::memory_order_relaxed), room)});
      status.exception_type = decode<std::string>(in);
      status.exception_what = decode<std::string>(in);
    }
    return status;
  }
};

}  // namespace polyproc::inline v0_1::detail
