/// One direction of a pipe, and who has which of its two ends.
///
///   [queue | ends[2]: 0 the writer's, 1 the reader's]
///
/// `who` of an end:   owner << 2 | state        `turn` counts its owners
///
///   held       by an object in process `owner` that knows this turn
///   under way  in a message that `owner` has written; its object still exists, but is empty
///   orphaned   the same, and that object is gone
///   closed
///
///   held --(codec writes)--> under way --(the object ends)--> orphaned      under way, orphaned --(codec reads)--> held
///   under way --(not sent after all)--> held                                orphaned --(never read)--> closed
///   held --(close, end of the object; anybody who finds the owner dead)--> closed
///   under way, orphaned --(anybody who finds the owner dead, and the message not sent)--> closed
///
/// Each arrow is one atomic step of the one named; closing an end closes the queue as well, in a second step, and who finds
/// an end closed and the queue not does it again.
///
/// `unsent`, beside them, is the turn of an owner who has written the end into a message and does not yet know that it was put
/// (he may wait for room). He sets it before the end is under way, and takes it back when the message was put; of any other
/// turn it says nothing.
///
/// What a death leaves, which the other side finds out when it has to wait:
///   an owner's            an end held by a dead owner: closed
///   an owner's, while he puts the message, or after it can be seen but before he has noted that
///                         an end under way from a dead owner, and unsent: closed, unless its reader comes first (one who
///                         comes later finds that it was closed on its way)
///   a reader's, after the message was taken and before it has the end
///                         an end under way that nobody will read: not closed
#pragma once

#include <polyproc/channel/doorbell.hpp>
#include <polyproc/channel/process_identity.hpp>
#include <polyproc/channel/one_piece.hpp>
#include <polyproc/memory/handle.hpp>

#include <system_error>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class pipe_half {
  using core_type = queue_core<Backend>;

 public:
  static constexpr std::uint64_t messages = 1024;

  /// The reader's and the writer's half of a new one.
  static std::pair<pipe_half, pipe_half> make(std::uint64_t fingerprint) {
    auto const chunk = core_type::chunk_for(messages);
    auto const size = core_type::bytes_for(chunk);
    attachment_ref<Backend> block(
        attachment<Backend>::create(size + sizeof(end_state) * 2, fingerprint, layout, core_type::head_bytes));
    core_type::make(block->contents(), messages, chunk);
    auto* const ends = new (block->contents() + size) end_state[2]();
    auto const me = process_identity<Backend>();
    for (auto* end : {ends, ends + 1}) {
      end->turn.store(1, std::memory_order_relaxed);
      end->who.store(me << 2 | held, std::memory_order_relaxed);
    }
    return {pipe_half(block, 1, me, 1), pipe_half(std::move(block), 0, me, 1)};
  }

  pipe_half(pipe_half&& other) noexcept
      : block_(std::move(other.block_)), side_(other.side_), owner_(other.owner_), turn_(other.turn_),
        bell_(std::move(other.bell_)), bell_of_(other.bell_of_) {}
  pipe_half& operator=(pipe_half&& other) noexcept {
    if (this == &other) return *this;
    let_go();
    block_ = std::move(other.block_);
    side_ = other.side_;
    owner_ = other.owner_;
    turn_ = other.turn_;
    bell_ = std::move(other.bell_);
    bell_of_ = other.bell_of_;
    return *this;
  }
  ~pipe_half() { let_go(); }

  /// Whether this object has its end.
  [[nodiscard]] bool here() const noexcept {
    return block_ && mine().turn.load(std::memory_order_relaxed) == turn_ && mine().who.load() == (owner_ << 2 | held);
  }
  [[nodiscard]] bool open() const noexcept { return here() && !core().closed(); }

  void close() noexcept {
    if (!block_) return;
    drop_copied_bell();
    bell_.reset();
    if (own()) {
      mine().who.store(closed);
      core().close();
    }
  }

  // --- the writer's

  template <class Encode>
  queue_status put(Encode&& encode, time_point deadline, bool wait) {
    use("send");
    writer out;
    encode(out);
    auto const status = core().put(out.view(), deadline, wait, other_is_gone{this});
    if (status == queue_status::success) out.sent();
    return status;
  }
  /// A value that lies in one piece.
  template <class T>
  queue_status put_large(T const& value, time_point deadline, bool wait) {
    use("send");
    using element = typename elements_of<T>::type;
    struct reservation {
      core_type q;
      std::optional<room_for_elements<element>> room;
      bool spent = false;
      ~reservation() {
        if (room && !spent) q.abandon(room->block);
      }
    } r{core(), {}};
    auto const until = wait ? deadline : Backend::now() + holder_recheck;
    r.room = room_for_elements<element>::reserve(r.q, value.size(), owner_, until);
    if (!r.room) return wait ? queue_status::timeout : queue_status::full;
    std::memcpy(r.room->elements.data(), value.data(), r.room->elements.size_bytes());
    auto const status = r.q.put_block(r.room->block, r.room->skip, r.room->bytes(), deadline, wait, other_is_gone{this});
    r.spent = status == queue_status::success || status == queue_status::closed;
    return status;
  }
  queue_status put_bytes(std::span<std::byte const> bytes, time_point deadline, bool wait) {
    use("send_bytes");
    return core().put(bytes, deadline, wait, other_is_gone{this});
  }
  /// False for what a deadline makes of it.
  static bool check(queue_status status, char const* what) {
    if (status == queue_status::closed)
      throw std::system_error(std::make_error_code(std::errc::broken_pipe),
                              std::string("polyproc: ") + what +
                                  " into a pipe whose other end is closed, or whose owner has ended");
    return status == queue_status::success;
  }

  // --- the reader's

  /// use(reader) is called with a message. closed: the end of file. A large message for which use has no memory goes back,
  /// unless what came with it was taken over.
  template <class Use>
  queue_status get(time_point deadline, bool wait, Use&& use_it) {
    use("recv");
    message_buffer small;
    queue_hold large;
    auto q = core();
    auto const status = q.get(small, large, owner_, deadline, wait, other_is_gone{this});
    if (status != queue_status::success) return status;
    struct answering {
      pipe_half& half;
      ~answering() { half.answer(); }
    } const at_last{*this};
    if (large.block == 0) {
      reader in(small.view());
      use_it(in);
      return status;
    }
    struct guard {
      core_type& q;
      queue_hold& hold;
      bool back = false;
      ~guard() { back ? q.give_back(hold) : q.done(hold); }
    } until_used{q, large};
    reader in(q.bytes(large));
    try {
      use_it(in);
    } catch (std::bad_alloc const&) {
      until_used.back = !in.has_handles();
      throw;
    }
    return status;
  }
  std::optional<std::vector<std::byte>> get_bytes(std::size_t limit) {
    use("recv_bytes");
    auto q = core();
    queue_hold h;
    if (q.hold(h, owner_, false, never, true, other_is_gone{this}) != queue_status::success) return std::nullopt;
    if (h.size > limit) {
      q.give_back(h);
      throw std::length_error("polyproc: the next message in a pipe has " + std::to_string(h.size) +
                              " bytes and the limit given is " + std::to_string(limit) +
                              "; it is still there, for a call with a higher limit");
    }
    std::optional<std::vector<std::byte>> bytes;
    try {
      auto const all = q.bytes(h);
      bytes.emplace(all.begin(), all.end());
    } catch (...) {
      q.give_back(h);
      throw;
    }
    q.done(h);
    answer();
    return bytes;
  }
  /// A message, or the end of file, by the deadline.
  bool ready(time_point deadline) {
    use("poll");
    return core().await_any(deadline, other_is_gone{this});
  }

  /// Ready while there is something to receive. The first call makes it. Throws std::system_error, std::bad_alloc.
  [[nodiscard]] typename Backend::handle native_handle() const {
    use("native_handle");
    drop_copied_bell();
    if (!bell_) {
      bell_of_ = process_identity<Backend>();
      bell_ = std::make_unique<doorbell<Backend>>(
          [block = block_, side = side_](std::atomic<bool> const& stop) {
            pace<Backend> looking{idle_recheck};
            pipe_half const view(block, side, 0, 0);  // nobody's: it only looks
            auto q = view.core();
            auto const over = [&] { return q.has_any() || stop.load(); };
            using slept = typename sleepers<Backend, waiting::adaptive>::slept;
            if (q.getters().sleep(never, looking, over, [&] { q.fence_getters(); }) == slept::long_) (void)other_is_gone{&view}();
            return q.has_any_or_end();
          },
          [block = block_, side = side_] { pipe_half(block, side, 0, 0).core().wake_getters(); });
    }
    return bell_->native_handle();
  }

  // --- travel

  void write(writer& out) const {
    out.must_stay_in_family(what_it_is);
    if (!own())
      throw std::logic_error("polyproc: an end of a pipe that is not here any more (closed, moved from, or already sent to "
                             "somebody) cannot be sent");
    out.on_discard_of_owned(&not_sent, block_->offset() | side_);  // this and the next do nothing before the end is under way
    out.on_settled(&sent_or_not, block_->offset() | side_);
    mine().unsent.store(turn_);
    mine().who.store(owner_ << 2 | under_way);
    block_->hold_for_message();
    out.on_discard(&attachment<Backend>::release_message, block_->offset());
    out.raw(block_->offset());
    drop_copied_bell();
    bell_.reset();
  }
  static pipe_half read(reader& in, std::uint64_t fingerprint, unsigned side) {
    auto const offset = in.template raw<std::uint64_t>();
    in.must_come_from_family(what_it_is);
    attachment_ref<Backend> block(attachment<Backend>::adopt(offset, fingerprint, layout, what_it_is));
    auto& end = end_of(block->contents(), side);
    auto who = end.who.load();
    auto const in_message = [&] {
      if ((who & 3) != under_way && (who & 3) != orphaned)
        throw handle_error("polyproc: an end of a pipe arrived that somebody else has, or that was closed on its way");
    };
    in_message();
    auto const me = process_identity<Backend>();
    auto const turn = end.turn.load() + 1;
    // First the turn: from there on the old owner's mark says nothing, and he is not asked after any more.
    end.turn.store(turn);
    while (!end.who.compare_exchange_strong(who, me << 2 | held)) in_message();
    return pipe_half(std::move(block), side, me, turn);
  }

  /// In the child of a fork whose argument this is, or rather of what it is a copy: that has been written to nobody else.
  void take_over() noexcept {
    if (!block_ || mine().turn.load() != turn_) return;
    auto const me = process_identity<Backend>();
    for (auto const left : {under_way, orphaned}) {
      auto seen = owner_ << 2 | left;
      if (mine().who.compare_exchange_strong(seen, me << 2 | held)) break;
    }
    owner_ = me;
  }

  /// Of the reader's half, for those who wait for several things.
  [[nodiscard]] core_type core() const noexcept {
    return core_type(block_->contents(), family_store<Backend>(block_->offset()));
  }
  [[nodiscard]] bool wait_is_over(bool ask) const {
    use("wait_any");
    auto q = core();
    return q.has_any() || (ask && (q.has_any_or_end() || other_is_gone{this}()));
  }
  [[nodiscard]] auto announce_wait() const noexcept {
    auto const q = core();
    auto const how = q.getters().announce();
    q.fence_getters();
    return how;
  }

 private:
  template <class T>
  using atomic = typename Backend::template atomic<T>;
  enum state : std::uint64_t { orphaned = 0, held = 1, under_way = 2, closed = 3 };
  struct alignas(64) end_state {
    atomic<std::uint64_t> who;
    atomic<std::uint32_t> turn;
    atomic<std::uint32_t> unsent;
  };
  static constexpr std::uint64_t layout = core_type::layout ^ 0x1000;
  static constexpr char const* what_it_is = "pipe";

  pipe_half(attachment_ref<Backend> block, unsigned side, std::uint64_t owner, std::uint32_t turn) noexcept
      : block_(std::move(block)), side_(side), owner_(owner), turn_(turn) {
    Backend::prepare_light_fences();
  }

  static end_state& end_of(std::byte* contents, unsigned side) noexcept {
    return reinterpret_cast<end_state*>(contents + core_type::bytes_for(core_type::chunk_for(messages)))[side];
  }
  [[nodiscard]] end_state& mine() const noexcept { return end_of(block_->contents(), side_); }

  /// Whether this object has its end; the copy of a fork takes it, if the one it is a copy of still has it.
  [[nodiscard]] bool own() const noexcept {
    if (!block_ || mine().turn.load(std::memory_order_relaxed) != turn_) return false;
    auto const me = process_identity<Backend>();
    auto seen = owner_ << 2 | held;
    if (me == owner_) return mine().who.load() == seen;
    if (!mine().who.compare_exchange_strong(seen, me << 2 | held)) return false;
    owner_ = me;
    return true;
  }
  void use(char const* what) const {
    if (!own())
      throw std::logic_error(std::string("polyproc: ") + what +
                             " on an end of a pipe that is not here (closed, moved from, or given to another process)");
  }

  void answer() {
    drop_copied_bell();
    if (bell_) bell_->answer([this] { return core().has_any(); });
  }
  /// The thread of a bell is not in the child of a fork: there it is as if nobody had asked for a handle.
  void drop_copied_bell() const noexcept {
    if (bell_ && bell_of_ != process_identity<Backend>()) bell_.release()->leave_alone();
  }

  void let_go() noexcept {
    if (!block_) return;
    drop_copied_bell();
    bell_.reset();
    auto const me = process_identity<Backend>();
    if (me == owner_ && mine().turn.load(std::memory_order_relaxed) == turn_) {
      auto seen = owner_ << 2 | under_way;
      if (mine().who.load() == (owner_ << 2 | held)) {
        mine().who.store(closed);
        core().close();
      } else {
        mine().who.compare_exchange_strong(seen, owner_ << 2 | orphaned);
      }
    }
    block_ = {};
  }
  /// A message with an end was not sent, or will not be read.
  static void not_sent(std::uint64_t place) noexcept {
    auto const offset = place & ~std::uint64_t{63};
    auto* const contents = contents_at(place);
    auto& end = end_of(contents, static_cast<unsigned>(place & 1));
    auto who = end.who.load();
    while ((who & 3) == under_way || (who & 3) == orphaned) {
      bool const back = (who & 3) == under_way;
      if (!end.who.compare_exchange_strong(who, back ? (who & ~std::uint64_t{3}) | held : std::uint64_t{closed})) continue;
      if (!back) core_type(contents, family_store<Backend>(offset)).close();
      return;
    }
  }

  /// The message with an end that this process wrote was sent, or will not be.
  static void sent_or_not(std::uint64_t place) noexcept {
    auto& end = end_of(contents_at(place), static_cast<unsigned>(place & 1));
    auto turn = end.unsent.load();
    auto const who = end.who.load();
    // If somebody has read it, the mark may be his by now.
    if (who >> 2 == process_identity<Backend>() && ((who & 3) == under_way || (who & 3) == orphaned))
      end.unsent.compare_exchange_strong(turn, 0);
  }
  static std::byte* contents_at(std::uint64_t place) noexcept {
    return arena<Backend>::at(place & ~std::uint64_t{63}, shared_block_header) + shared_block_header;
  }

  struct other_is_gone {
    pipe_half const* half;
    bool operator()() const noexcept {
      auto& other = end_of(half->block_->contents(), half->side_ ^ 1);
      for (bool again = true;; again = false) {
        auto who = other.who.load();
        if ((who & 3) == closed) break;
        // (An owner who has died sets no mark any more; it counts if it is of the turn in which the end is still under way.)
        if (((who & 3) == held || other.unsent.load() == other.turn.load()) && !Backend::alive(who >> 2)) {
          if (other.who.compare_exchange_strong(who, closed)) break;
          continue;
        }
        auto* const look = look_after_children.load(std::memory_order_relaxed);
        if ((who & 3) == held || look == nullptr || !again) return false;
        look();  // the child that was to get it may be dead
      }
      half->core().close();
      return true;
    }
  };

  attachment_ref<Backend> block_;
  unsigned side_ = 0;
  mutable std::uint64_t owner_ = 0;
  std::uint32_t turn_ = 0;
  mutable std::unique_ptr<doorbell<Backend>> bell_;  // of the reader's half, when somebody has asked for a handle
  mutable std::uint64_t bell_of_ = 0;                // the process that has its thread
};

}  // namespace polyproc::inline v0_1::detail
