/// What a pool of processes and its workers share: the ring of tasks, their slots, and a place for each worker.
///
/// Who may write what: until a slot is given, the pool; while it runs, its worker (how, result, began, ended); `stop` and
/// `wanted` the pool at any time. Requests and results too large for the slot lie in blocks of the arena tagged {board, ...};
/// of a result that its worker did not finish the pool frees the block by its tag, when the worker is dead. The blocks of large
/// tasks that are over the pool keeps for the next ones (memory/kept_blocks.hpp), also for the result of a large request: such a
/// block is offered in the slot, and is the pool's again with the task's end, whoever has written into it. A worker that is
/// stopped while it holds the arena's books holds nobody up but other workers with large results: the pool waits for no books,
/// and gives blocks back later (memory/later_frees.hpp), while it still holds the board. So no tag of a board is used twice.
///
/// Who is told. A worker that has finished looks at the slot's `wanted`, after the exchange that says done: the pool sets it
/// and then looks whether it is done; one of the two sees the other. `rung` is what the pool's process parks on; it is rung
/// when somebody wants to be told of this task, or when the pool wants to be told of all from a certain ticket on. A worker
/// that dies before it has rung is found when the pool looks after its workers, which it does while there is work.
#pragma once

#include <polyproc/memory/handle.hpp>
#include <polyproc/memory/kept_blocks.hpp>
#include <polyproc/sync/waiting.hpp>
#include <polyproc/task/task_ring.hpp>

#include <cstddef>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class pool_board {
 public:
  using ring = task_ring<Backend>;
  using state = typename ring::state;
  using word = typename Backend::template atomic<std::uint32_t>;
  using wide = typename Backend::template atomic<std::uint64_t>;
  using kept_block = typename kept_blocks<Backend>::block;
  enum class ending : std::uint32_t { value, exception };

  static constexpr std::uint32_t slots = 512;
  static constexpr std::size_t room = 976;
  static constexpr std::size_t little_room = 16;
  struct letter {
    std::uint64_t size;
    std::uint64_t block;  // 0: in the slot itself
  };
  static constexpr std::uint32_t somebody_parks = 1;  // on `turn`
  static constexpr std::uint32_t pool_asks = 2;       // and is to be rung
  static constexpr std::uint32_t ring_at_begin = 1;
  static constexpr std::uint32_t note_times = 2;
  struct alignas(64) slot {
    // In one line of the cache: all that both sides touch for every small task, but for its request.
    wide control;
    word turn;     // changes when something has happened to it
    word wanted;
    word stop;     // the lower half of the ticket that is to stop
    word reading;  // its arguments have begun to be taken over
    std::uint32_t flags;
    ending how;
    letter result;
    std::byte little_result[little_room];

    letter request;
    std::byte request_bytes[room];  // of a request in a block: the block that is offered for the result
    // Only of tasks whose time is looked at.
    wide began;    // on the clock of deadlines, in nanoseconds; 0: nobody has noted it yet
    std::int64_t ended;
    std::byte result_bytes[room];
  };
  static_assert(offsetof(slot, request) == 64 && sizeof(slot) == 2048);
  struct alignas(64) place {
    word starts;   // of workers here, this one among them
    wide pid;      // of its process
    word arrived;  // 1: serves; 2: its initializer has failed, `problem` says how
    word leave;    // is to end when it is idle
    word left;     // 1: has ended because of `leave` or of its age; 2: because there was nothing to do
    word served;   // tasks finished
    std::uint64_t problem;  // a block
    std::uint64_t problem_size;
  };
  struct alignas(64) head {
    typename ring::head_words tasks;
    alignas(64) task_watch<Backend> workers;
    alignas(64) word rung;
    word listening;  // threads of the pool's process that are parked on `rung`
    word leavers;    // workers that were about to end by themselves
    alignas(64) wide done_from;   // tickets from this one on ring when they are done
    wide begun_from;              // and when they begin
    std::uint32_t places;
    std::uint32_t tasks_per_worker;  // 0: any number
    std::uint64_t memory_growth;     // bytes; 0: any
    std::uint64_t idle_time;         // nanoseconds; 0: for ever
    std::uint32_t times;             // began and ended are to be written
    wide entries[slots];
  };

  /// What a worker is to do of itself.
  struct rules {
    std::uint32_t tasks_per_worker = 0;
    std::uint64_t memory_growth = 0;
    std::uint64_t idle_time = 0;
    bool times = false;
  };
  pool_board(std::uint32_t places, rules const& told)
      : block_(attachment<Backend>::create(bytes_before_slots(places) + slots * sizeof(slot), fingerprint(), layout,
                                           bytes_before_slots(places))) {
    top().places = places;
    top().tasks_per_worker = told.tasks_per_worker;
    top().memory_growth = told.memory_growth;
    top().idle_time = told.idle_time;
    top().times = told.times ? 1 : 0;
    top().done_from.store(nobody);
    top().begun_from.store(nobody);
    find();
  }
  static constexpr std::uint64_t nobody = ~std::uint64_t{0};

  [[nodiscard]] head& top() const noexcept { return *reinterpret_cast<head*>(block_->contents()); }
  [[nodiscard]] ring tasks() const noexcept { return {top().tasks, top().entries, slots}; }
  [[nodiscard]] place& worker(std::uint32_t i) const noexcept {
    return reinterpret_cast<place*>(block_->contents() + sizeof(head))[i];
  }
  [[nodiscard]] slot& at(std::uint32_t i) const noexcept { return first_[i]; }
  /// What will soon be written, or looked at, comes from the other processor's cache meanwhile.
  void fetch_for_writing(std::uint32_t i) const noexcept {
    prefetch<1>(&first_[i].control);
    prefetch<1>(&first_[i].request);
  }
  void fetch_control(std::uint32_t i) const noexcept { prefetch<0>(&first_[i].control); }
  [[nodiscard]] auto controls() const noexcept {
    return [first = first_](std::uint32_t i) -> wide& { return first[i].control; };
  }

  /// With whoever holds the books of shared memory.
  enum class patience : bool { none, any };

  /// Blocks for what is being written, so that it need not be copied into one.
  class blocks final : public large_memory {
   public:
    static constexpr std::size_t many = 16384;
    blocks(std::uint64_t board, patience with_books) noexcept : board_(board), with_books_(with_books) {}
    /// What the blocks are tagged with. One that is offered is used if it is large enough, and remains the offerer's.
    void for_number(std::uint64_t number, kept_block offered) noexcept {
      number_ = number;
      offered_ = offered;
      taken_ = false;
    }
    std::byte* get(std::size_t least, std::size_t& size) override {
      if (!taken_ && offered_.room >= least) {
        taken_ = true;
        return use(offered_, size);
      }
      if (with_books_ == patience::none)
        if (auto const kept = kept_blocks<Backend>::take(board_, least)) return use(kept, size);
      block_tag const tag{board_, number_};
      auto const block = with_books_ == patience::any ? arena<Backend>::allocate(size, tag)
                                                      : later_frees<Backend>::allocate(size, tag);
      return block ? use({*block, size}, size) : nullptr;
    }
    void give_back(std::byte* memory) noexcept override {
      auto const block = offset_of(memory);
      if (block == offered_.at) taken_ = false;
      else later_frees<Backend>::free(block);
    }
    /// Of the last one, or the one before.
    [[nodiscard]] std::uint64_t offset_of(std::byte const* memory) const noexcept {
      return memory == last_.memory ? last_.block : last_.block_before;
    }
    /// What the last one has room for.
    [[nodiscard]] std::uint64_t last_room() const noexcept { return last_.room; }

   private:
    std::byte* use(kept_block what, std::size_t& size) {
      size = static_cast<std::size_t>(what.room);
      last_ = {arena<Backend>::at(what.at, size), what.at, what.room, last_.memory, last_.block};
      return last_.memory;
    }
    struct {
      std::byte* memory = nullptr;
      std::uint64_t block = 0;
      std::uint64_t room = 0;
      std::byte* memory_before = nullptr;
      std::uint64_t block_before = 0;
    } last_;
    std::uint64_t board_;
    std::uint64_t number_ = requests;
    kept_block offered_;
    bool taken_ = false;
    patience with_books_;
  };
  [[nodiscard]] std::uint64_t offset() const noexcept { return block_->offset(); }

  /// A request that fits.
  static void write_request(slot& to, std::span<std::byte const> bytes) noexcept {
    to.request = {bytes.size(), 0};
    std::memcpy(to.request_bytes, bytes.data(), bytes.size());
  }
  [[nodiscard]] static std::span<std::byte const> read_request(slot const& from) { return lies(from.request, from.request_bytes); }
  /// A request that lies in a block, and a block that the result may lie in, which remains the pool's; or none.
  static void write_request(slot& to, std::uint64_t size, std::uint64_t block, kept_block offered) noexcept {
    to.request = {size, block};
    std::memcpy(to.request_bytes, &offered, sizeof(offered));
  }
  [[nodiscard]] static kept_block read_offer(slot const& from) noexcept {
    kept_block offered;
    if (from.request.block != 0) std::memcpy(&offered, from.request_bytes, sizeof(offered));
    return offered;
  }
  /// Throws std::bad_alloc; the result is empty then.
  void write_result(slot& to, std::uint64_t ticket, std::span<std::byte const> bytes) const {
    to.result = {0, 0};
    auto* there = bytes.size() <= little_room ? to.little_result : to.result_bytes;
    if (bytes.size() > room) {
      auto const block = new_block(bytes.size(), result_of(ticket));
      there = arena<Backend>::at(block, bytes.size());
      write_result(to, bytes.size(), {block, bytes.size()});
    }
    to.result.size = bytes.size();
    if (!bytes.empty()) std::memcpy(there, bytes.data(), bytes.size());
  }
  /// One that lies in a block, which has that much room.
  static void write_result(slot& to, std::uint64_t size, kept_block in) noexcept {
    to.result = {size, in.at};
    std::memcpy(to.little_result, &in.room, sizeof(in.room));
  }
  [[nodiscard]] static std::span<std::byte const> read_result(slot const& from) {
    return lies(from.result, from.result.size <= little_room ? from.little_result : from.result_bytes);
  }
  [[nodiscard]] std::uint64_t new_block(std::size_t size, std::uint64_t number) const {
    return arena<Backend>::allocate(size, {block_->offset(), number});
  }
  /// Nothing when somebody who seems to be stopped holds the books.
  [[nodiscard]] std::optional<std::uint64_t> new_block_now(std::size_t size, std::uint64_t number) const {
    return later_frees<Backend>::allocate(size, {block_->offset(), number});
  }
  /// When the task in that slot began. The first who says so counts: its worker or, if that has taken it and come no further,
  /// the pool. What was noted for another task that had the slot before must not count.
  static std::uint64_t note_began(slot& of, std::uint64_t now) noexcept {
    std::uint64_t noted = 0;
    return of.began.compare_exchange_strong(noted, now) ? now : noted;
  }
  /// `offered`: the block that was offered for it. Whether it lay in a block.
  bool clear_result(slot& of, kept_block offered) const noexcept {
    kept_block in{of.result.block, 0};
    of.result = {0, 0};
    if (!in) return false;
    std::memcpy(&in.room, of.little_result, sizeof(in.room));
    if (in.at != offered.at) kept_blocks<Backend>::keep(offset(), in);
    return true;
  }

  /// Tags of blocks, by who is to free them.
  static constexpr std::uint64_t requests = 0;
  static constexpr std::uint64_t result_of(std::uint64_t ticket) noexcept { return std::uint64_t{1} << 62 | ticket; }
  /// Of the worker that is at that place now.
  [[nodiscard]] std::uint64_t problem_of(std::uint32_t place_number) const noexcept {
    auto const starts = worker(place_number).starts.load(std::memory_order_relaxed);
    return std::uint64_t{1} << 63 | std::uint64_t{starts} << 16 | place_number;
  }
  /// After a worker's death: what it had begun to write.
  void free_blocks(std::uint64_t number) const noexcept { later_frees<Backend>::sweep({block_->offset(), number}); }

  /// So many tasks that are prepared are the workers' to take.
  void publish(std::uint64_t count) const noexcept {
    tasks().publish(count);
    top().workers.wake_for_tasks(top().tasks, count);
  }

  /// --- For workers.

  /// Has the pool's process look.
  void ring_bell() const noexcept {
    auto& h = top();
    h.rung.fetch_add(1);
    if (h.listening.load() != 0) Backend::wake_all(h.rung);
  }

  static constexpr std::uint64_t fingerprint() { return 0x626f617264ULL ^ sizeof(slot) ^ sizeof(head) << 20; }
  static constexpr std::uint64_t layout = 5;
  static constexpr char const* handle_name = "pool";

 private:
  friend handle_codec<pool_board, Backend>;
  explicit pool_board(attachment_ref<Backend> block) noexcept : block_(std::move(block)) { find(); }
  template <int ForWriting>
  static void prefetch([[maybe_unused]] void const* at) noexcept {
#if defined(__GNUC__)
    __builtin_prefetch(at, ForWriting);
#endif
  }
  [[nodiscard]] static std::span<std::byte const> lies(letter const& what, std::byte const* here) {
    auto const size = static_cast<std::size_t>(what.size);
    return {what.block == 0 ? here : arena<Backend>::at(what.block, size), size};
  }
  void find() noexcept {
    first_ = reinterpret_cast<slot*>(block_->contents() + bytes_before_slots(top().places));
  }
  static std::size_t bytes_before_slots(std::uint32_t places) noexcept { return sizeof(head) + places * sizeof(place); }

  attachment_ref<Backend> block_;
  slot* first_ = nullptr;
};

}  // namespace polyproc::inline v0_1::detail

namespace polyproc::inline v0_1 {
template <backend Backend>
struct codec<detail::pool_board<Backend>> : detail::handle_codec<detail::pool_board<Backend>, Backend> {};
}  // namespace polyproc::inline v0_1
