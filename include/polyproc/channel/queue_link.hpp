/// What a process has of a queue: its hold on the memory, and its place among those who can put.
#pragma once

#include <polyproc/channel/queue_core.hpp>
#include <polyproc/memory/handle.hpp>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class queue_link_ref;

/// Shared by all handles of one kind in a process. One that can put has a place in queue_users, which the last of its
/// handles gives up; a child of a fork by polyproc gets a place of its own (counted as under way before the fork), any
/// other copy of this process leaves its parent's alone.
template <backend Backend>
class queue_link {
 public:
  using core_type = queue_core<Backend>;

  /// `more`: bytes behind the queue, zero at first, for what else its users share.
  static queue_link_ref<Backend> create(std::uint64_t capacity, std::uint64_t fingerprint, std::size_t more = 0) {
    auto const chunk = core_type::chunk_for(capacity);
    auto const size = core_type::bytes_for(chunk);
    attachment_ref<Backend> block(
        attachment<Backend>::create(size + more, fingerprint, core_type::layout, core_type::head_bytes));
    core_type::make(block->contents(), capacity, chunk);
    if (more != 0) std::memset(block->contents() + size, 0, more);
    return queue_link_ref<Backend>(new queue_link(std::move(block), true));
  }
  static std::uint64_t checked(std::size_t capacity) {
    if (capacity == 0 || static_cast<std::uint64_t>(capacity) > std::uint64_t{1} << 32)
      throw std::invalid_argument("polyproc: a queue's capacity is the number of messages it may hold: 1 to 2^32, or none "
                                  "for a queue that is bounded by memory alone");
    return capacity;
  }

  queue_link(attachment_ref<Backend> block, bool can_put) : block_(std::move(block)), can_put_(can_put) {
    process_.store(Backend::process_self(), std::memory_order_relaxed);
    Backend::prepare_light_fences();
    std::scoped_lock hold{registry().lock};
    if (can_put_) place_ = core().users().enter(process());
    next_ = registry().first;
    if (next_ != nullptr) next_->previous_ = this;
    registry().first = this;
  }
  queue_link(queue_link const&) = delete;
  queue_link& operator=(queue_link const&) = delete;

  [[nodiscard]] core_type core() const noexcept {
    core_type made(block_->contents(), family_store<Backend>(block_->offset()));
    made.remember_puts(known_puts_);
    return made;
  }
  /// What lies behind the queue.
  [[nodiscard]] std::byte* more() const noexcept { return block_->contents() + core_type::bytes_for(core().own_chunk()); }
  [[nodiscard]] std::uint64_t process() const noexcept {
    auto const known = process_.load(std::memory_order_relaxed);
    return known != 0 ? known : Backend::process_self();
  }
  [[nodiscard]] alone_with_queue<Backend> asker() const noexcept { return {&core().users(), process()}; }
  [[nodiscard]] bool can_put() const noexcept { return can_put_; }
  /// Before a put: who puts has the handle in earnest.
  void about_to_put() noexcept {
    if (!by_copy_.load(std::memory_order_relaxed)) return;
    core().users().given();
    by_copy_.store(false, std::memory_order_relaxed);
  }
  /// A child that will be a copy of this process is given a handle.
  void lend() const noexcept {
    if (can_put_) core().users().given();
  }
  [[nodiscard]] attachment_ref<Backend> const& block() const noexcept { return block_; }

  /// A handle that was under way to somebody who will not read it.
  static void came_back(std::uint64_t offset) noexcept {
    auto* const memory = arena<Backend>::at(offset, shared_block_header) + shared_block_header;
    core_type(memory, family_store<Backend>(offset)).users().arrive();
  }

  /// A handle is under way, in a message that is not put yet. The writer has a handle of its own as long as that is so, so that
  /// this has its place.
  void begin_to_send() noexcept {
    add_handle();
    bool const noted = unsent_.fetch_add(1, std::memory_order_relaxed) < queue_users<Backend>::most_unsent && ours_;
    core().users().send(noted ? place_ : queue_users<Backend>::none);
  }
  static void end_sending(std::uint64_t link) noexcept {
    auto* const one = reinterpret_cast<queue_link*>(static_cast<std::uintptr_t>(link));
    // In the copy of a process the writer is a copy, too, and has counted nothing.
    if (one->unsent_.load(std::memory_order_relaxed) != 0 &&
        one->unsent_.fetch_sub(1, std::memory_order_relaxed) <= queue_users<Backend>::most_unsent && one->ours_)
      one->core().users().end_sending(one->place_);
    one->drop_handle();
  }

  void add_handle() noexcept { handles_.fetch_add(1, std::memory_order_relaxed); }
  void drop_handle() noexcept {
    if (handles_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

 private:
  struct list {
    std::mutex lock;
    queue_link* first = nullptr;
  };
  static list& registry() {
    // Never destroyed: handles in static objects are let go after it would be.
    static list* const all = [] {
      auto* const made = new list;
      Backend::at_fork_child(&queue_link::forked);
      attachment<Backend>::around_fork({&before_fork, &fork_failed, &fork_succeeded, &in_forked_child, &fork_holds});
      return made;
    }();
    return *all;
  }
  /// After any fork: what this process has it has from another one.
  static void forked() noexcept {
    std::construct_at(&registry().lock);
    for (auto* one = registry().first; one != nullptr; one = one->next_) {
      one->process_.store(0, std::memory_order_relaxed);
      one->unsent_.store(0, std::memory_order_relaxed);
      one->ours_ = false;
    }
  }
  static void before_fork() noexcept {
    registry().lock.lock();
    for (auto* one = registry().first; one != nullptr; one = one->next_)
      if (one->can_put_) one->core().users().send();
  }
  static void fork_failed() noexcept {
    for (auto* one = registry().first; one != nullptr; one = one->next_)
      if (one->can_put_) one->core().users().arrive();
    registry().lock.unlock();
  }
  static void fork_succeeded() noexcept { registry().lock.unlock(); }
  static writer::hold_list fork_holds() {
    writer::hold_list all;
    for (auto* one = registry().first; one != nullptr; one = one->next_)
      if (one->can_put_) all.push_back({&came_back, one->block_->offset(), false});
    return all;
  }
  static void in_forked_child() noexcept {
    auto const me = Backend::process_self();
    for (auto* one = registry().first; one != nullptr; one = one->next_) {
      one->process_.store(me, std::memory_order_relaxed);
      one->ours_ = true;
      if (!one->can_put_) continue;
      one->place_ = one->core().users().enter_as_copy(me);
      one->by_copy_ = true;
      one->core().users().arrive();
    }
  }

  ~queue_link() {
    {
      std::scoped_lock hold{registry().lock};
      if (next_ != nullptr) next_->previous_ = previous_;
      (previous_ != nullptr ? previous_->next_ : registry().first) = next_;
    }
    if (!can_put_ || !ours_) return;
    core().users().leave(place_);
    core().wake_getters();
  }

  attachment_ref<Backend> block_;
  bool can_put_;
  bool ours_ = true;
  std::atomic<bool> by_copy_{false};  // nobody gave it to this process, so far
  unsigned place_ = 0;
  std::atomic<std::uint64_t> process_{0};
  alignas(64) mutable std::atomic<std::uint64_t> known_puts_{0};
  std::atomic<std::uint32_t> handles_{1};
  std::atomic<std::uint32_t> unsent_{0};  // by this process, since it is one
  queue_link* next_ = nullptr;
  queue_link* previous_ = nullptr;
};

/// One handle on a link.
template <backend Backend>
class queue_link_ref {
 public:
  explicit queue_link_ref(queue_link<Backend>* taken) noexcept : to_(taken) {}
  queue_link_ref(queue_link_ref const& other) noexcept : to_(other.to_) {
    if (to_ != nullptr) to_->add_handle();
  }
  queue_link_ref(queue_link_ref&& other) noexcept : to_(std::exchange(other.to_, nullptr)) {}
  queue_link_ref& operator=(queue_link_ref other) noexcept {
    std::swap(to_, other.to_);
    return *this;
  }
  // GCC does not see that an optional handle that is empty is not destroyed.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
  ~queue_link_ref() {
    if (to_ != nullptr) to_->drop_handle();
  }
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
  queue_link<Backend>* operator->() const noexcept { return to_; }
  /// The same queue, as one who can put or as one who cannot.
  [[nodiscard]] queue_link_ref with(bool can_put) const {
    if (to_->can_put() == can_put) return *this;
    return queue_link_ref(new queue_link<Backend>(to_->block(), can_put));
  }
  friend bool operator==(queue_link_ref const& a, queue_link_ref const& b) noexcept {
    return a.to_ == b.to_ || (a.to_ != nullptr && b.to_ != nullptr && a.to_->block() == b.to_->block());
  }

 private:
  queue_link<Backend>* to_;
};

/// Base of the codec of a handle H to a queue, which has link_, fingerprint(), can_put, handle_name and a constructor from a
/// queue_link_ref.
template <class H, backend Backend>
struct queue_handle_codec {
  static constexpr std::uint64_t fingerprint = H::fingerprint() ^ (H::can_put ? 0x68616e646c65ULL : 0x676574ULL);

  static void write(writer& out, H const& handle) {
    out.must_stay_in_family(H::handle_name);
    auto const& block = handle.link_->block();
    if (H::can_put) {
      auto& link = *handle.link_.operator->();
      out.on_discard_and_settled(&queue_link<Backend>::came_back, block->offset(), &queue_link<Backend>::end_sending,
                                 reinterpret_cast<std::uintptr_t>(&link));
      link.begin_to_send();
      if (out.is_for_start()) link.lend();
    }
    block->hold_for_message();
    out.on_discard(&attachment<Backend>::release_message, block->offset());
    out.raw(block->offset());
  }
  /// As an argument of a child that is a copy of this process.
  static void lend(H const& handle) noexcept { handle.link_->lend(); }
  static H read(reader& in) {
    auto const offset = in.template raw<std::uint64_t>();
    if (offset == 0)
      throw handle_error(std::string("polyproc: a handle to a ") + H::handle_name + " refers to nothing");
    in.must_come_from_family(H::handle_name);
    attachment_ref<Backend> block(
        attachment<Backend>::adopt(offset, H::fingerprint(), queue_core<Backend>::layout, H::handle_name));
    queue_link_ref<Backend> made(new queue_link<Backend>(std::move(block), H::can_put));
    if (H::can_put) made->core().users().arrive();
    return H(std::move(made));
  }
};

}  // namespace polyproc::inline v0_1::detail
