/// The shared part of a queue: bytes in, bytes out, in the order in which the puts were committed.
///
///   [head, some cache lines | users | chunk 1 | chunk 2]        more chunks, and large messages: blocks of the store
///
/// Messages lie one behind the other in a chain of chunks (records: channel/queue_store.hpp). Two words say all:
///
///   tail = messages put since the beginning << 2 | flip << 1 | closed      head = messages taken << 1 | flip
///
/// and for each end two positions in the chain, of which that word's `flip` names the one that holds: the next operation
/// writes the other one, and its commit turns the flip in the same step in which it counts. So the commit of a put, or of
/// many, is one compare-exchange of tail (which fails if the queue was closed meanwhile), that of a get one store of
/// head, and what was written before it means nothing until then.
///
/// Who may write what: the holder of put_lock writes behind the newest message, tail_at, own_serial, and moves tail;
/// the holder of get_lock writes head_at, moves head, and then head_serial; anybody may set tail's lowest bit. Each of the
/// two may have a favourite (sync/biased_lock.hpp), who does the same without the lock, for small messages
/// (channel/queue_favourite.hpp); its commit of a put is a plain store of tail.
///
/// The end. stage goes from open to closing (from then on every put that begins fails) to sealed, by anybody who finds that
/// no favourite is in the middle of a put: then tail's lowest bit is set, which nobody can overwrite, and only then a get
/// that finds nothing says closed. A favourite that was in the middle seals when it leaves; one that died there is found
/// by those who get.
///
/// Chunks. The two of the queue itself are used in turn as long as consumers keep up. Whether one of them is free follows
/// from numbers alone: it is if the chunk for which it was last used (own_serial) comes before the one in which the
/// consumers are (head_serial, which may lag behind), or after the one in which the producers are (then a producer died
/// before its commit). Otherwise a block is taken, tagged with its serial; the consumer that leaves it frees it.
///
/// Holds. A message that is leased, or looked at where it lies, is in a block of its own, and in the table of holds: a word
/// with holder (a process) and state, the block, the message's number. The entry is made before head moves past the
/// message, and counts only from then on. States: held (a lease: goes back if its holder dies), viewed (is gone then),
/// returned, done. The holder changes held and viewed to returned or done, and sets `unsettled`, which makes the next
/// one who gets look at the table; the holder of get_lock changes what a dead one left, gives a returned message to
/// somebody (one store), counts those that are left, and frees what is done: first the entry, then the block. Holders are
/// asked after now and then (first_look), and once more before a get says closed: what the dead leave comes first. What the
/// living hold is not waited for.
///
/// What a death leaves. A producer before its commit: bytes that the next one overwrites, and perhaps blocks whose tags
/// are ahead of tail, which the next holder of put_lock, told by the lock, frees. After it: the message; if nobody was woken
/// yet, sleepers look again (idle_recheck). A consumer before its commit: nothing was taken (and an entry that does not
/// count); after it: the message is gone with it, and blocks behind head that no entry names, which the next holder of
/// get_lock frees. A holder: its entries, found by those who get. One who reserved: a block tagged with its identity,
/// found by those who reserve. One that is stopped anywhere holds up its own end only, and there the timed forms return
/// in time.
///
/// Sleeping is that of sync/waiting.hpp: no sleeper is counted anywhere, so none that dies can be missed or waited for.
/// (Both sides wake all: whoever finds nothing left goes back to sleep.) A favourite has only a light fence between its
/// commit and its look for sleepers, so where the other end has one a sleeper makes a heavy one.
///
/// Memory that is bounded (a queue with a name). Who finds none left waits until some is freed (frees). So that an empty
/// queue has all of it for one message, its ends leave a chunk that is a block (leave_block).
#pragma once

#include <polyproc/channel/census.hpp>
#include <polyproc/channel/queue_favourite.hpp>

#include <stdexcept>

namespace polyproc::inline v0_1::detail {

/// Asked now and then by those who wait: whether nobody is left who could end their waiting. For them the queue is closed then.
struct never_alone {
  bool operator()() const noexcept { return false; }
};
/// No other process can put any more, and one could once.
template <sync_backend Backend>
struct alone_with_queue {
  queue_users<Backend>* users;
  std::uint64_t me;
  bool operator()() const noexcept {
    if (users->nobody_but(me)) return true;
    auto* const look = look_after_children.load(std::memory_order_relaxed);
    if (look == nullptr || !users->any_under_way()) return false;
    look();
    return users->nobody_but(me);
  }
};

/// How often one who waits for room gives way before it looks whether there is some.
template <class Backend>
inline constexpr int lingering = 2;

/// What the holder of a message has in hand.
struct queue_hold {
  std::uint32_t entry = 0;
  std::uint64_t number = 0;
  std::uint64_t block = 0;
  std::uint64_t skip = 0;
  std::uint64_t size = 0;
};

template <memory_backend Backend, class Store = family_store<Backend>>
class queue_core {
  template <class T>
  using atomic = typename Backend::template atomic<T>;
  using slept = typename sleepers<Backend, waiting::adaptive>::slept;

 public:
  static constexpr std::uint64_t layout = 4;
  static constexpr bool waits_for_memory = Store::is_bounded;
  static constexpr std::uint64_t unbounded = std::uint64_t{1} << 60;

  /// Of each of a queue's own two chunks, for a capacity.
  static constexpr std::uint32_t chunk_for(std::uint64_t capacity) noexcept {
    return capacity >= 128 ? 32768 : std::max<std::uint32_t>(4096, std::bit_ceil(static_cast<std::uint32_t>(capacity)) * 256);
  }
  static constexpr std::size_t bytes_for(std::uint32_t own_chunk) noexcept { return head_bytes + 2 * std::size_t{own_chunk}; }
  /// As much of it must be zero.
  static constexpr std::size_t head_bytes = 2304;

  static void make(std::byte* memory, std::uint64_t capacity, std::uint32_t own_chunk) noexcept {
    auto& h = *reinterpret_cast<header*>(memory);
    h.capacity = capacity;
    h.own_chunk = own_chunk;
    h.tail_at[0] = h.head_at[0] = {1, 1, 0, own_chunk};
    h.own_serial[0] = 1;
    h.head_serial.store(1, std::memory_order_relaxed);
  }

  queue_core(std::byte* memory, Store store) noexcept
      : head_(reinterpret_cast<header*>(memory)), chunks_(memory + head_bytes), store_(store) {}

  /// What this object takes is added there, just before it counts as taken.
  void count_takes(atomic<std::uint64_t>& count) noexcept { count_ = &count; }
  /// There this process keeps of how many puts it knows: a get of those looks at no producer's word.
  void remember_puts(std::atomic<std::uint64_t>& known) noexcept { known_puts_ = &known; }

  [[nodiscard]] std::uint64_t capacity() const noexcept { return head_->capacity; }
  [[nodiscard]] std::uint32_t own_chunk() const noexcept { return head_->own_chunk; }
  /// Snapshots: exact at some moment during the call; never wait.
  /// (While messages are leased and come back, one that does so during the call may count or not.)
  [[nodiscard]] std::uint64_t size() const noexcept {
    for (;;) {
      auto const taken = head_->head.load();
      auto const there = waiting() + (head_->holds.load() != 0 ? returned() : 0);
      if (taken == head_->head.load()) return there;  // else one may be counted twice, or not at all
    }
  }
  [[nodiscard]] bool full() const noexcept { return waiting() >= head_->capacity; }
  /// Messages put since the beginning.
  [[nodiscard]] std::uint64_t puts() const noexcept { return head_->tail.load() >> 2; }
  [[nodiscard]] bool closed() const noexcept { return head_->stage.load() != header::open; }
  [[nodiscard]] queue_users<Backend>& users() const noexcept { return head_->users; }

  void close() noexcept {
    std::uint32_t seen = header::open;
    head_->stage.compare_exchange_strong(seen, header::closing);
    // A favourite in the middle of a put is through in a moment. One that is stopped there seals the queue itself, or
    // those who get do when it has died.
    (void)look<Backend>()([this] { return seal(); });
    wake_getters();
    head_->putters.wake_all();
  }
  /// Those who wait for messages look whether it still makes sense.
  void wake_getters() noexcept { head_->getters.wake_all(); }

  /// success, full, closed; timeout when the deadline of a waiting put came first. Throws std::bad_alloc, having changed
  /// nothing, when there is no memory for the message.
  template <class Alone = never_alone, std::size_t Extent>
  [[gnu::always_inline]] queue_status put(std::span<std::byte const, Extent> message, time_point deadline, bool wait,
                                          Alone alone = {}) {
    auto const write = [=](message_row<std::byte> to) { copy(to.first, message); };
    if (put_as_favourite(1, message.size(), write) != 0) return queue_status::success;
    auto const quickly = [&] { return put_as_favourite(1, message.size(), write) != 0; };
    return put_when_room(deadline, wait, alone, quickly, [&](time_point until) {
      put_in_progress p(*this);
      if (auto const s = p.open(); s != queue_status::success) return s;
      if (!p.write(message, until)) return queue_status::timeout;
      return p.commit();
    });
  }

  /// As many of `count` messages as there is room for, at least one, in one step; `done` says how many. each(i) gives the
  /// bytes of message i.
  template <class Each>
  queue_status put_many(std::size_t count, Each&& each, std::size_t& done, time_point deadline, bool wait) {
    never_alone alone;
    return put_when_room(deadline, wait, alone, [] { return false; }, [&](time_point until) {
      put_in_progress p(*this);
      if (auto const s = p.open(); s != queue_status::success) return s;
      done = 0;
      bool whole = true;
      try {
        while (done < count && (done == 0 || p.room()) && (whole = p.write(each(done), until))) ++done;
      } catch (std::exception const&) {  // no memory for it, now or ever
        if (done == 0) throw;
        whole = false;
      }
      if (done == 0) return queue_status::timeout;
      auto const s = p.commit();
      // The one that failed may have got as far as a block.
      if (!whole && s == queue_status::success) repair_put(Backend::now() + holder_recheck);
      if (s != queue_status::success) done = 0;
      return s;
    });
  }

  /// As many of `count` small messages of one size as the favourite of this end can put at once: how many. None is no answer.
  /// write(row) writes the first row.count of them.
  template <class Write>
  [[gnu::always_inline]] std::size_t put_as_favourite(std::size_t count, std::size_t size, Write&& write) noexcept {
    auto const did = queue_favourite<Backend>::put(*head_, [this](auto const& p) { return chunk_at(p); }, count, size, write);
    if (did.count == 0) return 0;
    if (head_->getters.any_asleep()) head_->getters.wake_all();
    if (did.dismissed && closed() && seal()) wake_getters();
    return did.count;
  }

  /// A block for a message of `size` bytes that is to be written where it will be read; nothing if the store's books were
  /// held by somebody until the deadline. Throws std::bad_alloc.
  [[nodiscard]] std::optional<std::uint64_t> reserve(std::size_t size, std::uint64_t me, time_point deadline) {
    give_way(size);
    if (head_->reservations.fetch_add(1) % 32 == 31) sweep_reservations(Backend::now() + holder_recheck);
    try {
      return store_.allocate(size, reserved_mark | me, deadline);
    } catch (std::bad_alloc const&) {
      sweep_reservations(Backend::now() + holder_recheck);
    }
    return store_.allocate(size, reserved_mark | me, deadline);
  }
  [[nodiscard]] std::byte* at(std::uint64_t block, std::size_t size) const { return store_.at(block, size); }
  /// (If the books are held by somebody who is stopped, it stays until this process or the queue ends.)
  void abandon(std::uint64_t block) noexcept {
    store_.free(block, Backend::now() + holder_recheck);
    if constexpr (Store::is_bounded) {
      head_->frees.fetch_add(1);
      wake_putters();
    }
  }
  /// Puts the message that lies in a reserved block from `skip` on. Success or closed: the block is the queue's.
  template <class Alone = never_alone>
  queue_status put_block(std::uint64_t block, std::uint64_t skip, std::uint64_t size, time_point deadline, bool wait,
                         Alone alone = {}) {
    bool given = false;
    auto const status = put_when_room(deadline, wait, alone, [] { return false; }, [&](time_point until) {
      put_in_progress p(*this);
      if (auto const s = p.open(); s != queue_status::success) return s;
      if (!p.write_elsewhere(block, skip, size, until) || !p.own(block, until)) return queue_status::timeout;
      given = true;
      return p.commit();
    });
    if (status == queue_status::closed && !given) abandon(block);
    return status;
  }

  /// success, empty, closed; timeout. Throws std::bad_alloc, having taken nothing.
  template <class Alone = never_alone>
  queue_status get(message_buffer& into, time_point deadline, bool wait, Alone alone = {}) {
    return get_when_there(deadline, wait, alone, copying(into),
                          [&](time_point until) { return take_one(into, nullptr, 0, until); });
  }
  /// The same; a large message is not copied but handed over as with hold() to be viewed (`large` has a block then).
  template <class Alone = never_alone>
  queue_status get(message_buffer& into, queue_hold& large, std::uint64_t me, time_point deadline, bool wait, Alone alone = {}) {
    return get_when_there(deadline, wait, alone, copying(into),
                          [&](time_point until) { return take_one(into, &large, me, until); });
  }
  /// At least one and at most `most`: each(bytes) copies each of them, in order, before they are taken. What it throws is
  /// passed on, and nothing is taken. With `Size`, that of all messages, each(row) does it for many of them at once.
  template <std::size_t Size = 0, class Each, class Alone = never_alone>
  [[gnu::always_inline]] queue_status get_many(std::size_t most, Each&& each, time_point deadline, bool wait,
                                               Alone alone = {}) {
    auto const quickly = [&] {
      if constexpr (Size != 0) return get_as_favourite<Size>(most, each) != 0;
      else return false;
    };
    if constexpr (Size != 0) {
      if (get_as_favourite<Size>(most, each) != 0) return queue_status::success;
    }
    return get_when_there(deadline, wait, alone, quickly, [&](time_point until) { return take_many(most, each, until); });
  }
  /// At most `most` small messages of those that are there, if this end's favourite asks: how many. None is no answer. What
  /// each(row) throws is passed on, and nothing is taken. With `Size` only messages of so many bytes.
  template <std::size_t Size = 0, class Each>
  [[gnu::always_inline]] std::size_t get_as_favourite(std::size_t most, Each&& each) {
    auto const did =
        queue_favourite<Backend>::template get<Size>(*head_, [this](auto const& p) { return chunk_at(p); }, most, each, count_,
                                                     known_puts_);
    if (did.count == 0) return 0;
    if (head_->putters.any_asleep()) head_->putters.wake_all();
    return did.count;
  }

  /// The same as get, but the message goes back if process `me` ends before it says done(). With `view` it is gone then.
  template <class Alone = never_alone>
  queue_status hold(queue_hold& into, std::uint64_t me, bool view, time_point deadline, bool wait, Alone alone = {}) {
    return get_when_there(
        deadline, wait, alone, [] { return false; }, [&](time_point until) { return take_hold(into, me, view, until); });
  }
  /// Until there is something to get, or the queue is closed: true; false at the deadline.
  template <class Alone = never_alone>
  bool await_any(time_point deadline, Alone alone = {}) {
    pace<Backend> looking{first_look};
    for (unsigned round = 0;; ++round) {
      if (has_any_or_end()) return true;
      if (deadline == time_point{} || round != 0) {
        ask_after_holders();
        if (has_any() || alone()) return true;
        if (deadline == time_point{}) return false;
      }
      if (round == 1) looking = pace<Backend>{idle_recheck};
      if (sleep_until_any(deadline, looking) == slept::late) return false;
    }
  }
  /// For those who wait for several things: whether there is something, or none will come; and on what to sleep.
  [[nodiscard]] bool has_any() noexcept { return !empty_now() || sealed(); }
  [[nodiscard]] bool has_any_or_end() noexcept { return has_any() || (closed() && seal()); }
  /// For them, now and then: what a dead one had leased comes back.
  void ask_after_holders() noexcept {
    if (head_->holds.load() == 0) return;
    auto const until = Backend::now() + holder_recheck;
    end_hold hold{head_->get_lock, until, [&] { repair_get_after_death(until); }};
    if (hold.owns()) tidy_holds(until, true);
  }
  [[nodiscard]] auto& getters() const noexcept { return head_->getters; }
  /// To be called between announcing a sleep there and the look that follows.
  void fence_getters() const noexcept {
    if (head_->put_lock.has_favourite()) Backend::heavy_fence();
  }

  /// Where a held message lies.
  [[nodiscard]] std::span<std::byte const> bytes(queue_hold const& h) const {
    return {store_.at(h.block, h.skip + h.size) + h.skip, h.size};
  }
  /// The held message is finished with.
  void done(queue_hold const& h) noexcept {
    auto& e = entry_at(h.entry);
    e.word.store(is_done);
    auto const until = Backend::now() + holder_recheck;
    end_hold lock{head_->get_lock, until, [&] { repair_get_after_death(until); }};
    if (!lock.owns()) {
      head_->unsettled.store(1);
      return;
    }
    // Somebody else may have freed it by now, and a new message be in its place; so its number is looked at, too.
    if (e.number.load(std::memory_order_relaxed) != h.number || e.word.load() != is_done) return;
    head_->holds.fetch_sub(1);
    free_done(e, until);
    lock.release();
    if constexpr (Store::is_bounded) wake_putters();
  }
  /// The held message goes back before all that were not taken yet.
  void give_back(queue_hold const& h) noexcept {
    entry_at(h.entry).word.store(is_returned);
    head_->unsettled.store(1);
    head_->getters.wake_all();
  }

  /// For tests.
  [[nodiscard]] std::uint64_t holds() const noexcept { return head_->holds.load(); }
  [[nodiscard]] Store const& store() const noexcept { return store_; }

 private:
  static constexpr std::uint64_t closed_bit = 1;
  static constexpr std::chrono::milliseconds first_look{20};
  static constexpr std::uint32_t most_holds = 1024;
  static constexpr std::uint32_t own_holds = queue_header<Backend>::own_holds;

  /// holder << 2 | state; without a holder: free, returned, done.
  enum hold_state : std::uint64_t { is_free = 0, is_returned = 1, is_done = 2 };
  static constexpr std::uint64_t held_word(std::uint64_t holder) noexcept { return holder << 2 | is_returned; }
  static constexpr std::uint64_t viewed_word(std::uint64_t holder) noexcept { return holder << 2 | is_done; }

  using header = queue_header<Backend>;
  using hold_entry = typename header::hold_entry;
  using end_hold = typename header::end_hold;
  static_assert(sizeof(queue_position) == 32 && sizeof(header) <= head_bytes);

  /// try_ forms do not wait for what is not there, but a lock that is held for a moment is not a reason to fail.
  static time_point lock_deadline(time_point deadline, bool wait) noexcept {
    return wait ? deadline : Backend::now() + holder_recheck;
  }
  /// Those that nobody has taken yet.
  [[nodiscard]] std::uint64_t waiting() const noexcept {
    for (;;) {
      auto const taken = head_->head.load();
      auto const put = head_->tail.load() >> 2;
      if (taken == head_->head.load()) return put - (taken >> 1);
    }
  }
  /// Those that came back.
  [[nodiscard]] std::uint64_t returned() const noexcept {
    auto const taken = head_->head.load() >> 1;
    std::uint64_t count = 0;
    for (std::uint32_t i = 0; i < head_->hold_top.load(); ++i) {
      auto const& e = entry_at(i);
      if (e.word.load() == is_returned && e.number.load(std::memory_order_relaxed) <= taken) ++count;
    }
    return count;
  }
  [[nodiscard]] bool empty_now() const noexcept {
    if (known_puts_ != nullptr && known_puts_->load(std::memory_order_relaxed) > head_->head.load() >> 1) return false;
    return head_->head.load() >> 1 == head_->tail.load() >> 2 && head_->returned.load() == 0 && head_->unsettled.load() == 0;
  }
  [[nodiscard]] [[gnu::always_inline]] std::byte* chunk_at(queue_position const& p) const {
    if (p.chunk <= 2) return chunks_ + (p.chunk - 1) * head_->own_chunk;
    return store_.at(p.chunk, p.end);
  }
  template <std::size_t Extent>
  static void copy(std::byte* to, std::span<std::byte const, Extent> from) noexcept {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
  }
  static void write_words(std::byte* to, std::initializer_list<std::uint64_t> words) noexcept {
    std::memcpy(to, words.begin(), words.size() * 8);
  }
  static std::uint64_t word_at(std::byte const* from, std::size_t i) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, from + i * 8, 8);
    return word;
  }

  void wake_putters() noexcept { head_->putters.wake_all(); }

  // --- the end

  /// Whether no put can be committed any more, so that what is there is all there will be.
  [[nodiscard]] bool sealed() const noexcept { return head_->stage.load() == header::sealed; }
  /// Of a queue that is being closed. False as long as a favourite is in the middle of a put, which does not look at tail
  /// before it writes it; all others do.
  bool seal() noexcept {
    if (sealed()) return true;
    if (!head_->put_lock.dismiss()) return false;
    head_->tail.fetch_or(closed_bit);
    head_->stage.store(header::sealed);
    return true;
  }

  // --- puts

  /// quickly(): whether it could be done at once by the favourite; locked(until): by the holder of put_lock.
  template <class Alone, class Quickly, class Locked>
  [[gnu::noinline]] queue_status put_when_room(time_point deadline, bool wait, Alone& alone, Quickly&& quickly,
                                               Locked&& locked) {
    pace<Backend> looking{idle_recheck};
    for (;;) {
      if (quickly()) return queue_status::success;
      auto const until = lock_deadline(deadline, wait);
      std::optional<std::uint32_t> starved;  // what frees was before the store had no room, though the queue has
      auto status = queue_status::full;
      if (!wait || !full() || closed()) {
        end_hold hold{head_->put_lock, until, [&] { repair_put(until); }};
        if (!hold.owns()) return wait ? queue_status::timeout : queue_status::full;
        if constexpr (Store::is_bounded) {
          for (bool again = true;; again = false) {
            starved = head_->frees.load();
            try {
              status = locked(until);
              starved.reset();
            } catch (std::bad_alloc const&) {
              if (again && leave_block(until)) continue;
            }
            break;
          }
        } else {
          status = locked(until);
        }
        // (One who closes looks for a favourite after having said so.)
        if (status == queue_status::success && head_->put_lock.favour() && closed()) head_->put_lock.withdraw();
      }
      if (status == queue_status::success) {
        head_->getters.wake_all();
        return status;
      }
      if (status == queue_status::timeout) return wait ? status : queue_status::full;
      if (status == queue_status::closed && seal()) wake_getters();
      if (status == queue_status::closed || !wait) return status;
      if (!starved && linger()) continue;
      auto const room = [&] { return starved ? head_->frees.load() != *starved : !full(); };
      for (;;) {
        auto const fence = [this] {
          if (head_->get_lock.has_favourite()) Backend::heavy_fence();
        };
        if (head_->putters.sleep(deadline, looking, [&] { return room() || closed(); }, fence) == slept::late)
          return queue_status::timeout;
        if (room() || closed()) break;
        if (alone()) return queue_status::closed;
        if (starved) break;  // one who died may have had no time to count what it freed
      }
    }
  }

  /// For the holder of put_lock, where memory is bounded: an empty queue needs no other chunk than its own. Both ends move
  /// there, the producers' by a jump with no message behind it, and the consumers' after it. True if a block became free.
  bool leave_block(time_point until) noexcept {
    until = std::min(until, Backend::now() + holder_recheck);
    auto const tail = head_->tail.load();
    if ((tail & closed_bit) != 0 || tail >> 2 != head_->head.load() >> 1) return false;
    put_in_progress p(*this);
    if (p.open() == queue_status::closed || !p.move_to_own()) return false;
    end_hold hold{head_->get_lock, until, [&] { repair_get_after_death(until); }};
    if (!hold.owns()) return false;
    get_in_progress g(*this);
    if (g.open() != queue_status::empty) return false;
    return g.follow(until);
  }

  /// Of one who waits for room: whether there is some, after a moment in which there may come more. Where producer and
  /// consumer are both awake, they would otherwise go on in lock step, one message at a time, and that costs several times
  /// what the messages do.
  bool linger() noexcept {
    auto const capacity = head_->capacity;
    auto const enough = std::min<std::uint64_t>(capacity / 2 + 1, 128);
    auto const room = [&] { return capacity - std::min(capacity, waiting()); };
    for (int looks = 0; looks < lingering<Backend> && room() < enough; ++looks) Backend::yield();
    return !full();
  }

  /// Of one who is about to take memory for a large message. Memory that was used a moment ago costs a fraction of what the
  /// system must find and clear; so who is far ahead of those who get lets them come nearer, for no longer than the clearing
  /// would take. If nothing was taken in that time, nobody waits again before something is.
  void give_way(std::size_t size) noexcept {
    if constexpr (lingering<Backend> == 0) return;
    constexpr std::uint64_t ahead = 8;
    auto const there = waiting();
    auto const taken = head_->head.load();
    if (there < ahead || head_->idle_at.load(std::memory_order_relaxed) == taken) return;
    auto const until = Backend::now() + std::chrono::nanoseconds(std::min<std::size_t>(size, 1 << 22) / 4);
    while (waiting() > there - 2 && Backend::now() < until) Backend::yield();
    if (head_->head.load() == taken) head_->idle_at.store(taken, std::memory_order_relaxed);
  }

  /// One put, or several in one, of the holder of put_lock.
  class put_in_progress {
   public:
    explicit put_in_progress(queue_core& q) noexcept : q_(q), h_(*q.head_) {}
    put_in_progress(put_in_progress const&) = delete;
    put_in_progress& operator=(put_in_progress const&) = delete;
    ~put_in_progress() {
      if (blocks_ != 0) q_.repair_put(Backend::now() + holder_recheck);  // taken for what was not put
    }

    queue_status open() noexcept {
      tail_ = h_.tail.load(std::memory_order_relaxed);
      if (q_.closed()) return queue_status::closed;
      at_ = h_.tail_at[tail_ >> 1 & 1];
      return room() ? queue_status::success : queue_status::full;
    }
    [[nodiscard]] bool room() noexcept {
      auto const waiting = [&] { return (tail_ >> 2) + written_ - h_.seen_taken; };
      if (waiting() < h_.capacity) return true;
      h_.seen_taken = h_.head.load() >> 1;
      return waiting() < h_.capacity;
    }

    /// False: somebody held the store's books until the deadline.
    bool write(std::span<std::byte const> message, time_point until) {
      auto const need = record_bytes(message.size());
      if (!fits(need)) {
        auto const next = next_place();
        if (need > next.end / 2) return write_apart(message, until);
        if (!go_on_in(next, until)) return false;
      }
      auto* const to = q_.chunk_at(at_) + at_.at;
      write_words(to, {std::uint64_t{message.size()} << 2 | in_place});
      copy(to + 8, message);
      at_.at += static_cast<std::uint32_t>(need);
      ++written_;
      return true;
    }
    bool write_elsewhere(std::uint64_t block, std::uint64_t skip, std::uint64_t size, time_point until) {
      if (!fits(elsewhere_bytes) && !go_on_in(next_place(), until)) return false;
      write_words(q_.chunk_at(at_) + at_.at, {size << 2 | elsewhere, block, skip});
      at_.at += static_cast<std::uint32_t>(elsewhere_bytes);
      ++written_;
      return true;
    }
    /// The reserved block of the message written last becomes the queue's.
    bool own(std::uint64_t block, time_point until) noexcept {
      if (!q_.store_.renumber(block, number() - 1, until)) return false;
      ++blocks_;
      return true;
    }

    /// From a block into one of the queue's own chunks, if one is free; counts no message.
    bool move_to_own() noexcept {
      if (at_.chunk <= 2) return true;  // somebody has been there before, and then died
      auto const next = next_place();
      if (next.chunk == 0) return false;
      h_.own_serial[next.chunk - 1] = next.serial;
      write_words(q_.chunk_at(at_) + at_.at, {std::uint64_t{next.end} << 2 | jump, next.chunk});
      at_ = next;
      return commit() == queue_status::success;
    }

    queue_status commit() noexcept {
      h_.tail_at[(tail_ >> 1 & 1) ^ 1] = at_;
      // Closed is the only change that others can make to tail.
      if (!h_.tail.compare_exchange_strong(tail_, (tail_ + (written_ << 2)) ^ 2)) return queue_status::closed;
      blocks_ = 0;
      return queue_status::success;
    }

   private:
    [[nodiscard]] std::uint64_t number() const noexcept { return (tail_ >> 2) + written_ + 1; }
    [[nodiscard]] bool fits(std::uint64_t need) const noexcept { return need + jump_bytes <= at_.end - at_.at; }
    /// The next chunk; its number is 0 if it must be allocated.
    [[nodiscard]] queue_position next_place() const noexcept {
      auto const consumers = h_.head_serial.load(std::memory_order_acquire);
      for (std::uint64_t i = 0; i < 2; ++i)
        if (h_.own_serial[i] < consumers || h_.own_serial[i] > at_.serial) return {i + 1, at_.serial + 1, 0, h_.own_chunk};
      auto const size = std::min(q_.store_.largest_chunk(), 2 * std::max(at_.end, h_.own_chunk));
      return {0, at_.serial + 1, 0, size};
    }
    bool go_on_in(queue_position next, time_point until) {
      if (next.chunk != 0) {
        h_.own_serial[next.chunk - 1] = next.serial;
      } else {
        auto const block = q_.store_.allocate(next.end, chunk_mark | next.serial, until);
        if (!block) return false;
        ++blocks_;
        next.chunk = *block;
        (void)q_.store_.at(*block, next.end);
      }
      write_words(q_.chunk_at(at_) + at_.at, {std::uint64_t{next.end} << 2 | jump, next.chunk});
      at_ = next;
      return true;
    }
    bool write_apart(std::span<std::byte const> message, time_point until) {
      auto const block = q_.store_.allocate(message.size(), number(), until);
      if (!block) return false;
      ++blocks_;
      copy(q_.store_.at(*block, message.size()), message);
      return write_elsewhere(*block, 0, message.size(), until);
    }

    queue_core& q_;
    header& h_;
    std::uint64_t tail_ = 0;
    std::uint64_t written_ = 0;
    unsigned blocks_ = 0;
    queue_position at_{};
  };

  void repair_put(time_point deadline) noexcept {
    auto const tail = head_->tail.load();
    auto const put = tail >> 2;
    auto const serial = head_->tail_at[tail >> 1 & 1].serial;
    // What is left lying gets into the past as messages are put, and is then found by repair_get.
    if (!store_.sweep(
            [&](std::uint64_t number, std::uint64_t) {
              if ((number & chunk_mark) != 0) return (number ^ chunk_mark) > serial;
              return (number & reserved_mark) == 0 && number > put;
            },
            deadline))
      head_->litter.store(1);
  }
  void sweep_reservations(time_point deadline) noexcept {
    census<Backend> owners;
    store_.sweep(
        [&](std::uint64_t number, std::uint64_t) {
          return (number & chunk_mark) == 0 && (number & reserved_mark) != 0 && !owners.alive(number & ~reserved_mark);
        },
        deadline);
  }

  // --- gets

  auto copying(message_buffer& into) {
    return [this, &into] {
      return get_as_favourite(1, [&](message_row<std::byte const> row) {
               copy(into.resize(row.size), std::span<std::byte const>(row.first, row.size));
             }) != 0;
    };
  }
  slept sleep_until_any(time_point deadline, pace<Backend>& looking) {
    return head_->getters.sleep(deadline, looking, [this] { return has_any(); }, [this] { fence_getters(); });
  }

  /// quickly(): whether it could be done at once by the favourite; locked(until): by the holder of get_lock.
  template <class Alone, class Quickly, class Locked>
  [[gnu::noinline]] queue_status get_when_there(time_point deadline, bool wait, Alone& alone, Quickly&& quickly,
                                                Locked&& locked) {
    pace<Backend> looking{first_look};
    for (unsigned round = 0;; ++round) {
      if (quickly()) return queue_status::success;
      // If nobody can put any more, what is looked at after that is all there will be.
      bool const last = (!wait || round != 0) && empty_now() && alone();
      if (last && head_->holds.load() == 0 && empty_now()) return queue_status::closed;
      if (last || round != 0 || !empty_now() || head_->holds.load() != 0) {
        auto const until = lock_deadline(deadline, wait);
        end_hold hold{head_->get_lock, until, [&] { repair_get_after_death(until); }};
        if (!hold.owns()) return wait ? queue_status::timeout : queue_status::empty;
        auto status = locked(until);
        if ((last && status == queue_status::empty) || status == queue_status::closed) {
          // That is the last word; so the dead who have left something are asked after now.
          if (head_->holds.load() != 0) tidy_holds(until, true);
          status = head_->returned.load() != 0 ? locked(until) : queue_status::closed;
        }
        if (status == queue_status::success) head_->get_lock.favour();
        hold.release();
        if (status == queue_status::success) {
          if (Store::is_bounded || head_->capacity != unbounded) head_->putters.wake_all();
          return status;
        }
        if (status == queue_status::timeout) return wait ? status : queue_status::empty;
        if (status == queue_status::closed) return status;
      } else if (closed() && seal() && empty_now()) {
        return queue_status::closed;
      }
      if (!wait) return queue_status::empty;
      // Whose end would go unnoticed is asked after: soon, once; then at leisure, but for those who hold messages.
      if (round == 1) looking = pace<Backend>{idle_recheck};
      if (head_->holds.load(std::memory_order_relaxed) != 0 || closed()) looking = pace<Backend>{first_look};
      for (;;) {
        auto const how = sleep_until_any(deadline, looking);
        if (how == slept::late) return queue_status::timeout;
        if (how == slept::long_ || has_any()) break;
        if (alone()) break;
      }
    }
  }

  /// The oldest message, not yet taken: where its record ends, and what must be freed when it has been.
  struct found {
    std::span<std::byte const> bytes;
    std::uint64_t block = 0;
    std::uint64_t skip = 0;
  };
  class get_in_progress {
   public:
    explicit get_in_progress(queue_core& q) noexcept : q_(q), h_(*q.head_) {}

    queue_status open() noexcept {
      head_ = h_.head.load(std::memory_order_relaxed);
      at_ = h_.head_at[head_ & 1];
      if (more()) return queue_status::success;
      // What was put before the end was sealed is still there to be taken.
      if (!q_.closed() || !q_.seal()) return queue_status::empty;
      return more() ? queue_status::success : queue_status::closed;
    }
    [[nodiscard]] bool more() noexcept {
      auto const next = (head_ >> 1) + taken_;
      if (h_.seen_put > next) return true;
      tail_ = h_.tail.load();
      h_.seen_put = tail_ >> 2;
      if (q_.known_puts_ != nullptr) q_.known_puts_->store(tail_ >> 2, std::memory_order_relaxed);
      return h_.seen_put > next;
    }
    [[nodiscard]] std::uint64_t number() const noexcept { return (head_ >> 1) + taken_ + 1; }

    found read() {
      if (at_.left != 0) return read_of_run();
      found f;
      auto const* from = q_.chunk_at(at_) + at_.at;
      auto word = word_at(from, 0);
      while ((word & 3) == jump) {
        if (at_.chunk > 2) left_.push(at_.chunk);
        at_ = {word_at(from, 1), at_.serial + 1, 0, static_cast<std::uint32_t>(word >> 2)};
        from = q_.chunk_at(at_);
        word = word_at(from, 0);
      }
      if ((word & 3) == run) {
        at_.at += 8;
        at_.left = static_cast<std::uint32_t>(word >> 32);
        at_.size = static_cast<std::uint32_t>(word) >> 2;
        return read_of_run();
      }
      auto const size = word >> 2;
      if ((word & 3) == in_place) {
        f.bytes = {from + 8, size};
        at_.at += static_cast<std::uint32_t>(record_bytes(size));
      } else {
        f.block = word_at(from, 1);
        f.skip = word_at(from, 2);
        f.bytes = {q_.store_.at(f.block, f.skip + size) + f.skip, size};
        at_.at += elsewhere_bytes;
      }
      return f;
    }
    /// Of an empty queue: to where the producers are.
    bool follow(time_point until) noexcept {
      auto const& goal = h_.tail_at[tail_ >> 1 & 1];
      while (at_.serial != goal.serial) {
        auto const* const from = q_.chunk_at(at_) + at_.at;
        if (at_.chunk > 2) left_.push(at_.chunk);
        at_ = {word_at(from, 1), at_.serial + 1, 0, static_cast<std::uint32_t>(word_at(from, 0) >> 2)};
      }
      bool const some = left_.count != 0;
      commit(until);
      return some;
    }
    /// The message that was read last is to be taken; its block, if it has one, is freed.
    void take(std::uint64_t block) noexcept {
      ++taken_;
      if (block != 0) left_.push(block);
    }
    [[nodiscard]] bool enough() const noexcept { return left_.count + 4 > left_.all.size(); }

    void commit(time_point until) noexcept {
      auto const before = h_.head_at[head_ & 1].serial;
      if (q_.count_ != nullptr) q_.count_->fetch_add(taken_);
      h_.head_at[(head_ & 1) ^ 1] = at_;
      h_.head.store((head_ + (taken_ << 1)) ^ 1);
      if (at_.serial != before) h_.head_serial.store(at_.serial, std::memory_order_release);
      // The books may be held by one who is stopped, and others wait for this end: what cannot be freed soon is litter.
      if (left_.count != 0 || h_.litter.load(std::memory_order_relaxed) != 0)
        until = std::min(until, Backend::now() + holder_recheck);
      for (std::size_t i = 0; i < left_.count; ++i) q_.drop(left_.all[i], until);
      if (h_.litter.load(std::memory_order_relaxed) != 0) q_.repair_get(until);
    }
    [[nodiscard]] std::uint64_t taken() const noexcept { return taken_; }

   private:
    found read_of_run() noexcept {
      found f;
      f.bytes = {q_.chunk_at(at_) + at_.at, at_.size};
      at_.at += static_cast<std::uint32_t>(padded(at_.size));
      --at_.left;
      return f;
    }

    struct {
      std::array<std::uint64_t, 16> all;
      std::size_t count = 0;
      void push(std::uint64_t block) noexcept { all.at(count++) = block; }
    } left_;
    queue_core& q_;
    header& h_;
    std::uint64_t head_ = 0;
    std::uint64_t tail_ = 0;
    std::uint64_t taken_ = 0;
    queue_position at_{};
  };

  queue_status take_one(message_buffer& into, queue_hold* large, std::uint64_t me, time_point until) {
    if (auto const back = returned_one(until)) {
      auto& e = entry_at(*back);
      if (large != nullptr) {
        *large = {*back, e.number.load(std::memory_order_relaxed), e.block, e.skip, e.size};
        e.word.store(viewed_word(me));
        head_->returned.fetch_sub(1);
        return queue_status::success;
      }
      copy(into.resize(e.size), std::span<std::byte const>(store_.at(e.block, e.skip + e.size) + e.skip, e.size));
      settle(e, until);
      return queue_status::success;
    }
    get_in_progress g(*this);
    if (auto const s = g.open(); s != queue_status::success) return s;
    auto const f = g.read();
    if (large != nullptr && f.block != 0) {
      std::optional<std::uint32_t> place;
      try {
        place = free_entry(until);
      } catch (std::bad_alloc const&) {  // copied, then
      }
      if (place) {
        hold_and_commit(g, f, *place, viewed_word(me), *large, until);
        return queue_status::success;
      }
    }
    copy(into.resize(f.bytes.size()), f.bytes);
    g.take(f.block);
    g.commit(until);
    return queue_status::success;
  }
  void hold_and_commit(get_in_progress& g, found const& f, std::uint32_t place, std::uint64_t word, queue_hold& into,
                       time_point until) noexcept {
    into = {place, g.number(), f.block, f.skip, f.bytes.size()};
    auto& e = entry_at(place);
    e.number.store(g.number(), std::memory_order_relaxed);
    e.block = into.block;
    e.skip = into.skip;
    e.size = into.size;
    e.word.store(word);
    head_->holds.fetch_add(1);
    g.take(0);
    g.commit(until);
  }

  template <class Each>
  queue_status take_many(std::size_t most, Each& each, time_point until) {
    std::array<std::uint32_t, 16> back;
    std::size_t came_back = 0;
    for (std::uint64_t after = 0; came_back < std::min(most, back.size()); ++came_back) {
      auto const one = returned_one(until, after);
      if (!one || head_->returned.load() <= came_back) break;
      auto const& e = entry_at(*one);
      each(std::span<std::byte const>(store_.at(e.block, e.skip + e.size) + e.skip, e.size));
      back[came_back] = *one;
      after = e.number.load(std::memory_order_relaxed);
    }
    get_in_progress g(*this);
    auto const s = g.open();
    if (came_back == 0 && s != queue_status::success) return s;
    // There may be more that came back, which go first.
    if (s == queue_status::success && came_back < back.size()) {
      for (auto count = came_back; count < most && g.more() && !g.enough(); ++count) {
        auto const f = g.read();
        each(f.bytes);
        g.take(f.block);
      }
    }
    // Nothing is thrown from here on.
    for (std::size_t i = 0; i < came_back; ++i) settle(entry_at(back[i]), until);
    if (g.taken() != 0) g.commit(until);
    return queue_status::success;
  }

  queue_status take_hold(queue_hold& into, std::uint64_t me, bool view, time_point until) {
    auto const mine = view ? viewed_word(me) : held_word(me);
    if (auto const back = returned_one(until)) {
      auto& e = entry_at(*back);
      into = {*back, e.number.load(std::memory_order_relaxed), e.block, e.skip, e.size};
      e.word.store(mine);
      head_->returned.fetch_sub(1);
      return queue_status::success;
    }
    get_in_progress g(*this);
    if (auto const s = g.open(); s != queue_status::success) return s;
    auto const place = free_entry(until);
    if (!place) return queue_status::timeout;
    auto f = g.read();
    if (f.block == 0) {
      auto const block = store_.allocate(f.bytes.size(), g.number(), until);
      if (!block) return queue_status::timeout;
      copy(store_.at(*block, f.bytes.size()), f.bytes);
      f.block = *block;
    }
    hold_and_commit(g, f, *place, mine, into, until);
    return queue_status::success;
  }

  /// Frees a block that no message needs any more. The books may be held by somebody who is stopped: then it stays, and a
  /// later get, or the end of the queue, tidies up.
  void drop(std::uint64_t block, time_point until) noexcept {
    if (!store_.free(block, until)) head_->litter.store(1);
    if constexpr (Store::is_bounded) head_->frees.fetch_add(1);
  }

  void repair_get_after_death(time_point deadline) noexcept {
    repair_get(deadline);
    head_->litter.store(1);  // a copy for a hold may belong to the next message, and is only known for litter after that
  }
  void repair_get(time_point deadline) noexcept {
    auto const head = head_->head.load();
    auto const taken = head >> 1;
    auto const serial = head_->head_at[head & 1].serial;
    head_->head_serial.store(serial, std::memory_order_release);
    head_->litter.store(0);
    tidy_holds(deadline, true);
    if (!store_.sweep(
            [&](std::uint64_t number, std::uint64_t offset) {
              if (number == 0 || offset == head_->hold_table.load(std::memory_order_relaxed)) return false;
              if ((number & chunk_mark) != 0) return (number ^ chunk_mark) < serial;
              if ((number & reserved_mark) != 0 || number > taken) return false;
              return !is_held_block(offset);
            },
            deadline))
      head_->litter.store(1);
  }

  // --- holds; all for the holder of get_lock

  [[nodiscard]] hold_entry& entry_at(std::uint32_t i) const {
    if (i < own_holds) return head_->first_holds[i];
    auto const table = head_->hold_table.load(std::memory_order_acquire);
    return reinterpret_cast<hold_entry*>(store_.at(table, table_bytes))[i - own_holds];
  }
  static constexpr std::size_t table_bytes = (most_holds - own_holds) * sizeof(hold_entry);

  /// An entry that is free; nothing if the books are held. Throws std::bad_alloc when all are in use.
  std::optional<std::uint32_t> free_entry(time_point until) {
    if (head_->holds.load() >= most_holds) tidy_holds(until, true);
    for (std::uint32_t i = 0; i < most_holds; ++i) {
      if (i >= own_holds && head_->hold_table.load(std::memory_order_relaxed) == 0) {
        auto const block = store_.allocate(table_bytes, 0, until);
        if (!block) return std::nullopt;
        std::memset(store_.at(*block, table_bytes), 0, table_bytes);
        // One who dies before leaves a block that goes with the queue.
        head_->hold_table.store(*block, std::memory_order_release);
      }
      if (i >= head_->hold_top.load()) head_->hold_top.store(i + 1);
      if (entry_at(i).word.load() == is_free) return i;
    }
    throw std::bad_alloc();
  }

  /// Frees what is done, counts the rest; with `ask`, sees to what the dead have left.
  void tidy_holds(time_point until, bool ask) noexcept {
    head_->unsettled.store(0);
    auto const taken = head_->head.load() >> 1;
    std::uint32_t in_use = 0;
    std::uint32_t returned = 0;
    census<Backend> holders;
    for (std::uint32_t i = 0; i < head_->hold_top.load(); ++i) {
      auto& e = entry_at(i);
      auto word = e.word.load();
      if (word == is_free) continue;
      if (e.number.load(std::memory_order_relaxed) > taken) {  // its maker died before the message was taken
        e.word.store(is_free);
        continue;
      }
      if (ask && word >> 2 != 0 && !holders.alive(word >> 2)) {
        word &= 3;
        e.word.store(word);
      }
      if (word == is_done) {
        free_done(e, until);
        continue;
      }
      ++in_use;
      if (word == is_returned) ++returned;
    }
    head_->holds.store(in_use);
    head_->returned.store(returned);
  }
  void free_done(hold_entry& e, time_point until) noexcept {
    until = std::min(until, Backend::now() + holder_recheck);
    auto const block = e.block;
    e.word.store(is_free);
    drop(block, until);
  }

  /// The oldest message that came back, of those behind number `after`.
  std::optional<std::uint32_t> returned_one(time_point until, std::uint64_t after = 0) {
    if (head_->holds.load(std::memory_order_relaxed) == 0) {
      // One who gave back a message that was found and taken before it could say so has said so since.
      if (head_->unsettled.load() != 0) head_->unsettled.store(0);
      return std::nullopt;
    }
    auto const now = Backend::now().time_since_epoch().count();
    bool const ask = now - head_->holds_seen >= std::chrono::duration_cast<time_point::duration>(first_look).count();
    if (ask) head_->holds_seen = now;
    if (ask || head_->unsettled.load() != 0) tidy_holds(until, ask);
    if (head_->returned.load() == 0) return std::nullopt;
    std::optional<std::uint32_t> oldest;
    for (std::uint32_t i = 0; i < head_->hold_top.load(); ++i) {
      auto const& e = entry_at(i);
      auto const number = e.number.load(std::memory_order_relaxed);
      if (e.word.load() != is_returned || number <= after) continue;
      if (!oldest || number < entry_at(*oldest).number.load(std::memory_order_relaxed)) oldest = i;
    }
    return oldest;
  }
  void settle(hold_entry& e, time_point until) noexcept {
    e.word.store(is_done);
    head_->returned.fetch_sub(1);
    free_done(e, until);
  }
  [[nodiscard]] bool is_held_block(std::uint64_t offset) const noexcept {
    for (std::uint32_t i = 0; i < head_->hold_top.load(); ++i) {
      auto const& e = entry_at(i);
      if (e.word.load() != is_free && e.block == offset) return true;
    }
    return false;
  }

  header* head_;
  std::byte* chunks_;
  Store store_;
  atomic<std::uint64_t>* count_ = nullptr;
  std::atomic<std::uint64_t>* known_puts_ = nullptr;
};

}  // namespace polyproc::inline v0_1::detail
