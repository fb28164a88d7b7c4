/// A process's hold on one block of memory that several processes share: a block of the family's arena, or named memory.
///
/// Each block of the arena starts with a header that counts the holds on it: one per attachment, and one per message that
/// carries a handle and was not yet read (the reader's attachment takes that one over). In a process any number of
/// handles share one attachment. The last hold that is let go frees the block. A process that is killed does not let
/// go: its blocks stay until the family ends, when the whole segment goes; nothing outlives the last process.
///
/// After a fork by polyproc the child has holds of its own on all that the parent held (taken before the fork). After a
/// fork that polyproc did not make, the child's copies are used on the parent's hold and let go of nothing.
///
/// Named memory has the same header and is mapped while there are handles to it; who counts its users is the system. See
/// memory/named.hpp.
#pragma once

#include <polyproc/memory/kept_blocks.hpp>
#include <polyproc/wire/buffer.hpp>
#include <polyproc/wire/error.hpp>

#include <array>
#include <memory>
#include <mutex>
#include <string>

namespace polyproc::inline v0_1::detail {

/// Called by those who must know whether a child that was given something still lives: its parent takes the status of the
/// dead, and takes back what they never read. Set by whoever has children.
inline std::atomic<void (*)() noexcept> look_after_children{nullptr};

/// What a shared block starts with; its contents follow at `shared_block_header` bytes.
template <backend Backend>
struct block_header {
  static constexpr std::uint64_t magic_value = 0x6b636f6c62707070ULL;  // "pppblock"
  std::uint64_t magic;
  std::uint64_t fingerprint;  // of the type of what is inside
  std::uint64_t size;         // bytes of what is inside
  std::uint64_t layout;       // version of the layout of what is inside
  typename Backend::template atomic<std::uint32_t> holds;
};
inline constexpr std::size_t shared_block_header = 64;

template <backend Backend>
class attachment {
 public:
  using header = block_header<Backend>;
  static_assert(sizeof(header) <= shared_block_header);

  /// A new block with contents of `size` bytes, aligned to 64, of which the first `zeroed` are zero; one hold, ours.
  static attachment* create(std::size_t size, std::uint64_t fingerprint, std::uint64_t layout, std::size_t zeroed = ~std::size_t{0}) {
    auto const offset = create_block(size, fingerprint, layout, zeroed);
    try {
      return new attachment(offset, arena<Backend>::at(offset, size + shared_block_header));
    } catch (...) {
      later_frees<Backend>::free(offset);
      throw;
    }
  }
  /// The same without an attachment: the offset of the block; its one hold is the caller's to count (release_message).
  /// With `not_wait`, throws books_held when the arena's books are held by somebody who seems to be stopped.
  static std::uint64_t create_block(std::size_t size, std::uint64_t fingerprint, std::uint64_t layout,
                                    std::size_t zeroed = ~std::size_t{0}, bool not_wait = false) {
    auto const offset = not_wait ? allocated_now<Backend>(size + shared_block_header, {})
                                 : arena<Backend>::allocate(size + shared_block_header);
    std::byte* memory = nullptr;
    try {
      memory = arena<Backend>::at(offset, size + shared_block_header);
    } catch (...) {
      later_frees<Backend>::free(offset);
      throw;
    }
    std::memset(memory, 0, std::min(size, zeroed) + shared_block_header);
    auto* const head = reinterpret_cast<header*>(memory);
    head->fingerprint = fingerprint;
    head->size = size;
    head->layout = layout;
    head->holds.store(1, std::memory_order_relaxed);
    head->magic = header::magic_value;
    return offset;
  }

  /// Takes over a hold that somebody else took for us (see hold_for_message). Throws handle_error, and leaves the
  /// hold alone, when the block is not what the fingerprint says.
  static attachment* adopt(std::uint64_t offset, std::uint64_t fingerprint, std::uint64_t layout, char const* what) {
    return new attachment(offset, look_at(offset, fingerprint, layout, what));
  }
  /// The block itself, on a hold that somebody else counts.
  static std::byte* look_at(std::uint64_t offset, std::uint64_t fingerprint, std::uint64_t layout, char const* what) {
    auto* const memory = arena<Backend>::at(offset, shared_block_header);
    auto const* const head = reinterpret_cast<header const*>(memory);
    if (head->magic != header::magic_value)
      throw handle_error(std::string("polyproc: a handle to a ") + what +
                               " points at memory that holds none; was it already destroyed?");
    if (head->fingerprint != fingerprint || head->layout != layout)
      throw handle_error(std::string("polyproc: a handle to a ") + what +
                               " was opened for another type than it was made for; both sides must name the same type");
    return arena<Backend>::at(offset, shared_block_header + head->size);
  }

  attachment(attachment const&) = delete;
  attachment& operator=(attachment const&) = delete;

  /// What named memory needs besides.
  struct name_part {
    named_memory map;
    std::size_t header;  // bytes before the contents
    std::string name;
    std::array<std::byte, 16> instance;
    bool writable;
    bool (*end)(name_part const&);  // called by the process that created it, with its last handle; may be nullptr
  };
  /// Takes over what was mapped.
  explicit attachment(name_part&& named)
      : memory_(named.map.base), contents_(named.map.base + named.header), owner_(Backend::current_pid()),
        named_(std::make_unique<name_part>(std::move(named))) {
    enlist();
  }
  [[nodiscard]] name_part const* named() const noexcept { return named_.get(); }

  [[nodiscard]] std::byte* contents() const noexcept { return contents_; }
  [[nodiscard]] std::size_t size() const noexcept { return head()->size; }
  /// 0 for named memory.
  [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }

  /// The same where it cannot be written. Throws std::system_error; handle_error when it has a name that was removed.
  [[nodiscard]] std::byte const* contents_for_reading() const {
    if (named_ == nullptr) return Backend::family_read_only().base + offset_ + shared_block_header;
    if (!named_->writable) return contents_;
    std::scoped_lock hold{registry().lock};
    if (for_reading_.base == nullptr) {
      auto const map = Backend::name_open(named_->name, false);
      if (!map) throw_removed(named_->name);
      bool const same = map->size >= named_->header && std::memcmp(map->base, memory_, named_->header) == 0;
      if (!same) {
        Backend::name_close(*map);
        throw_removed(named_->name);
      }
      for_reading_ = *map;
    }
    return for_reading_.base + named_->header;
  }
  [[noreturn]] static void throw_removed(std::string const& name) {
    throw handle_error("polyproc: the shared memory \"" + name +
                       "\" was removed, or made anew, since this handle was made; open it by its name again");
  }

  [[nodiscard]] bool same_memory_as(attachment const& other) const noexcept {
    if (named_ != nullptr && other.named_ != nullptr) return named_->instance == other.named_->instance;
    return named_ == nullptr && other.named_ == nullptr && offset_ == other.offset_;
  }

  void add_handle() noexcept { handles_.fetch_add(1, std::memory_order_relaxed); }

  /// One handle less; with the last one the hold is let go, and with the last hold the block is freed, together with
  /// the blocks that were taken for it.
  void drop_handle() noexcept {
    if (handles_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    bool const ours = unlink();
    if (named_ != nullptr) {
      if (ours && named_->end != nullptr) named_->end(*named_);
      if (for_reading_.base != nullptr) Backend::name_close(for_reading_);
      Backend::name_close(named_->map);
    } else if (ours) {
      let_go(offset_);
    }
    delete this;
  }

  /// A hold for a message on its way. Given back by release_message when the message is not sent after all.
  void hold_for_message() const noexcept { head()->holds.fetch_add(1, std::memory_order_relaxed); }
  static void hold_for_message(std::uint64_t offset) noexcept {
    auto* const memory = arena<Backend>::at(offset, shared_block_header);
    reinterpret_cast<header*>(memory)->holds.fetch_add(1, std::memory_order_relaxed);
  }
  static void release_message(std::uint64_t offset) noexcept {
    let_go(offset);
  }

  /// What else is to be done around a fork by polyproc, by those who count more than holds: called before and after what
  /// these functions do themselves. One set; a null function is not called.
  struct fork_work {
    void (*before)() noexcept = nullptr;
    void (*failed)() noexcept = nullptr;
    void (*succeeded)() noexcept = nullptr;
    void (*in_child)() noexcept = nullptr;
    /// What is to be given back if the child dies before in_child.
    writer::hold_list (*holds)() = nullptr;
  };
  static void around_fork(fork_work more) noexcept { more_ = more; }

  /// Around a fork by polyproc: before it, one hold per attachment for the child; if the fork failed they are given
  /// back. In the child all attachments are its own.
  static void before_fork() noexcept {
    if (more_.before != nullptr) more_.before();
    registry().lock.lock();
    for (auto* a = registry().first; a != nullptr; a = a->next_)
      if (a->named_ == nullptr) a->head()->holds.fetch_add(1, std::memory_order_relaxed);
  }
  /// Between before_fork and the fork.
  [[nodiscard]] static writer::hold_list fork_holds() { return more_.holds != nullptr ? more_.holds() : writer::hold_list{}; }
  static void fork_failed() noexcept {
    for (auto* a = registry().first; a != nullptr; a = a->next_)
      if (a->named_ == nullptr) a->head()->holds.fetch_sub(1, std::memory_order_relaxed);
    registry().lock.unlock();
    if (more_.failed != nullptr) more_.failed();
  }
  static void fork_succeeded() noexcept {
    registry().lock.unlock();
    if (more_.succeeded != nullptr) more_.succeeded();
  }
  static void in_forked_child() noexcept {
    for (auto* a = registry().first; a != nullptr; a = a->next_)
      if (a->named_ == nullptr) a->owner_ = Backend::current_pid();
    if (more_.in_child != nullptr) more_.in_child();
  }

  /// At the orderly end of a child: lets go of all, whatever handles still exist; they must not be used afterwards.
  static void let_all_go() noexcept {
    kept_blocks<Backend>::drop_for_good();
    std::scoped_lock hold{registry().lock};
    for (auto* a = std::exchange(registry().first, nullptr); a != nullptr;) {
      auto* const next = a->next_;
      if (a->named_ == nullptr && a->owner_ == Backend::current_pid()) let_go(a->offset_);
      a->owner_ = -1;
      a->next_ = a->previous_ = nullptr;
      a = next;
    }
    later_frees<Backend>::last_chance();
  }

 private:
  struct list {
    std::mutex lock;
    attachment* first = nullptr;
  };
  static list& registry() {
    // Never destroyed: handles in static objects are let go after it would be.
    static list* const all = [] {
      auto* const made = new list;
      // Whoever held the lock when a process was forked does not exist in the child.
      Backend::at_fork_child([] { std::construct_at(&registry().lock); });
      return made;
    }();
    return *all;
  }

  attachment(std::uint64_t offset, std::byte* memory)
      : offset_(offset), memory_(memory), contents_(memory + shared_block_header), owner_(Backend::current_pid()) {
    enlist();
  }
  ~attachment() = default;

  void enlist() {
    std::scoped_lock hold{registry().lock};
    next_ = registry().first;
    if (next_ != nullptr) next_->previous_ = this;
    registry().first = this;
  }

  /// Out of the list; whether the hold is this process's own.
  bool unlink() noexcept {
    std::scoped_lock hold{registry().lock};
    if (next_ != nullptr) next_->previous_ = previous_;
    if (previous_ != nullptr)
      previous_->next_ = next_;
    else if (registry().first == this)
      registry().first = next_;
    return owner_ == Backend::current_pid();
  }

  static void let_go(std::uint64_t offset) noexcept { later_frees<Backend>::let_go(offset, &was_last); }
  /// One hold less; whether it was the last.
  static bool was_last(std::uint64_t offset) noexcept {
    auto& head = *reinterpret_cast<header*>(arena<Backend>::at(offset, shared_block_header));  // it was used before: it is there
    if (head.holds.fetch_sub(1, std::memory_order_acq_rel) != 1) return false;
    head.magic = 0;
    return true;
  }

  [[nodiscard]] header* head() const noexcept { return reinterpret_cast<header*>(memory_); }

  static inline fork_work more_{};

  std::uint64_t offset_ = 0;
  std::byte* memory_;
  std::byte* contents_;
  long owner_;  // the process whose hold this is; of named memory: that opened it
  std::unique_ptr<name_part> named_;
  mutable named_memory for_reading_{};
  std::atomic<std::uint32_t> handles_{1};
  attachment* next_ = nullptr;
  attachment* previous_ = nullptr;
};

/// One handle on an attachment: copyable, a reference count in this process.
template <backend Backend>
class attachment_ref {
 public:
  attachment_ref() = default;
  explicit attachment_ref(attachment<Backend>* taken) noexcept : to_(taken) {}
  attachment_ref(attachment_ref const& other) noexcept : to_(other.to_) {
    if (to_ != nullptr) to_->add_handle();
  }
  attachment_ref(attachment_ref&& other) noexcept : to_(std::exchange(other.to_, nullptr)) {}
  attachment_ref& operator=(attachment_ref other) noexcept {
    std::swap(to_, other.to_);
    return *this;
  }
  ~attachment_ref() {
    if (to_ != nullptr) to_->drop_handle();
  }
  attachment<Backend>* operator->() const noexcept { return to_; }
  explicit operator bool() const noexcept { return to_ != nullptr; }
  friend bool operator==(attachment_ref const& a, attachment_ref const& b) noexcept {
    return a.to_ == b.to_ || (a.to_ != nullptr && b.to_ != nullptr && a.to_->same_memory_as(*b.to_));
  }

 private:
  attachment<Backend>* to_ = nullptr;
};

}  // namespace polyproc::inline v0_1::detail
