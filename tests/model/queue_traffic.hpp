/// A queue's puts and gets in the explorer: whole or not at all, each message once. The queue is a parameter, so that
/// those that are known to be bad can be looked at in the same way (tests/house/queue_mutants.py).
#pragma once

#include "model/explore.hpp"

#include <polyproc/channel/queue_core.hpp>

using namespace std::chrono_literals;
using polyproc::queue_status;

namespace polyproc::inline v0_1::detail {
template <>
inline constexpr int lingering<model_backend> = 0;  // more of the same loads
}  // namespace polyproc::inline v0_1::detail

using queue_store = polyproc::detail::family_store<model_backend>;

/// The arena's books as they are, without asking anybody for them.
struct bare_books {
  using arena = polyproc::detail::arena<model_backend>;
  using extents = polyproc::detail::extents<model_backend>;

  static bool in_use(std::uint64_t block) {
    auto* const start = model_backend::memory() + model_backend::family_reserved;
    auto* const table = reinterpret_cast<extents::entry*>(start + arena::page);
    extents const books(*reinterpret_cast<extents::header*>(start), table, 64, 64);
    auto const* const memory = arena::at(block, 1);
    for (std::uint32_t i = 0; i < books.count(); ++i)
      if (table[i].state == extents::used && memory == data() + std::size_t{table[i].first} * arena::page) return true;
    return false;
  }

 private:
  static constexpr std::size_t most_entries = 16384;
  static std::byte* data() {
    return model_backend::memory() + model_backend::family_reserved + arena::page + most_entries * sizeof(extents::entry);
  }
};

/// What each of `producers` puts is its number and a counter; the rest of the participants get until the queue is closed.
struct traffic_plan {
  int producers = 1;
  int consumers = 1;
  int each = 1;             // messages per producer
  std::size_t capacity = 1;
  std::size_t size = 8;     // bytes of a message
  std::uint32_t chunk = 64; // bytes of each of the queue's own chunks: over half of it a message has a block of its own
  bool timed = false;
  bool batches = false;     // each producer puts all in one, consumers take what is there
  bool singly = false;      // or one after the other
  bool lease = false;       // consumers lease, and the second half of their messages they give back once
  bool reserve = false;     // producers write their messages where they will be read
  bool view = false;        // consumers look at messages that have a block where they lie
  bool closer = false;      // one more closes the queue at some time
  bool close_first = false; // what is left in the end is taken from the closed queue
};

template <class Core = polyproc::detail::queue_core<model_backend, queue_store>>
struct traffic : model::scenario {
  using core = Core;
  using plan = traffic_plan;

  explicit traffic(plan p) : how(p) {}
  int participants() const override { return how.producers + how.consumers + (how.closer ? 1 : 0); }

  void reset() override {
    std::memset(model_backend::memory(), 0, 4096 + 64 * 40);  // the arena's books
    std::memset(queue_memory(), 0, core::bytes_for(how.chunk));
    core::make(queue_memory(), how.capacity, how.chunk);
    said_closed = false;
    puts_done.fill(0);
    given_back.fill(0);
    acknowledging.fill(0);
    for (auto& b : batch) b.clear();
    seen.assign(static_cast<std::size_t>(how.producers * how.each), 0);
  }

  void body(int who) override {
    core q(queue_memory(), queue_store(1));
    auto& x = model::explorer::get();
    if (who == how.producers + how.consumers) {
      q.close();
      return;
    }
    if (who < how.producers && how.batches) {
      std::array<std::vector<std::byte>, 8> all;
      for (int i = 0; i < how.each; ++i) {
        auto const bytes = message(who, i);
        all[static_cast<std::size_t>(i)].assign(bytes.begin(), bytes.end());
      }
      auto& mine = puts_done[static_cast<std::size_t>(who)];
      while (mine < how.each) {
        auto const of = [&](std::size_t i) { return std::span<std::byte const>(all[static_cast<std::size_t>(mine) + i]); };
        auto const left = static_cast<std::size_t>(how.each - mine);
        auto done = q.put_as_favourite(left, how.size, [&](auto const& row) {
          for (std::size_t i = 0; i < row.count; ++i) std::memcpy(row.at(i), of(i).data(), how.size);
        });
        auto const s = done != 0 ? queue_status::success : q.put_many(left, of, done, x.deadline_in(2000ms), true);
        model::require(s == queue_status::success || x.deaths() != 0 || x.was_slow(), "a put failed");
        if (s != queue_status::success) return;
        mine += static_cast<int>(done);
      }
      return;
    }
    if (who < how.producers) {
      for (int i = 0; i < how.each; ++i) {
        auto const deadline = x.deadline_in(how.timed ? 5ms : 2000ms);
        auto const s = how.reserve ? put_reserved(q, message(who, i), deadline) : q.put(message(who, i), deadline, true);
        if (s == queue_status::closed && how.closer) return;
        if (how.timed) model::require(model_backend::now() <= deadline + 20ms, "put came back late");
        if (s == queue_status::success) ++puts_done[static_cast<std::size_t>(who)];
        model::require(s == queue_status::success || how.timed || x.deaths() != 0 || x.was_slow(), "a put failed");
        if (s != queue_status::success) return;
      }
      return;
    }
    // A consumer's share, as far as there can be one: so many that together they take all if nobody dies.
    auto const total = how.producers * how.each;
    auto const mine = total / how.consumers + (who - how.producers < total % how.consumers ? 1 : 0);
    for (int i = 0; i < mine; ++i) {
      polyproc::detail::message_buffer m;
      auto const deadline = x.deadline_in(how.timed ? 5ms : 2000ms);
      if (how.lease) {
        polyproc::detail::queue_hold h;
        auto const s = q.hold(h, model_backend::self(), false, deadline, true);
        model::require(s == queue_status::success || x.deaths() != 0 || x.was_slow(), "a lease failed");
        if (s != queue_status::success) return;
        auto const bytes = q.bytes(h);
        copy_of(bytes, m);
        model::require(bare_books::in_use(h.block), "a held message's block was freed");
        if (i * 2 + 1 >= mine && given_back[static_cast<std::size_t>(who)]++ == 0) {
          q.give_back(h);
          --i;
          continue;
        }
        acknowledging[static_cast<std::size_t>(who)] = 1;
        model::require(bare_books::in_use(h.block) && std::ranges::equal(bytes, m.view()), "a held message changed");
        take(m);
        q.done(h);
        acknowledging[static_cast<std::size_t>(who)] = 0;
        continue;
      }
      if (how.batches && !how.singly) {
        model::require(how.size == 8, "batches are of messages of 8 bytes");
        into_batch each{batch[static_cast<std::size_t>(who)]};
        auto const s = q.template get_many<8>(static_cast<std::size_t>(mine - i), each, deadline, true);
        model::require(s == queue_status::success || x.deaths() != 0 || x.was_slow(), "a get failed");
        if (s != queue_status::success) return;
        i += static_cast<int>(each.to.size()) - 1;
        for (auto const& one : each.to) take(one);
        each.to.clear();
        continue;
      }
      polyproc::detail::queue_hold seen_there;
      auto const s = how.view ? q.get(m, seen_there, model_backend::self(), deadline, true) : q.get(m, deadline, true);
      if (s == queue_status::closed && how.closer) {
        said_closed = true;
        return;
      }
      if (how.timed) model::require(model_backend::now() <= deadline + 20ms, "get came back late");
      if (s == queue_status::timeout) {
        model::require(how.timed || x.deaths() != 0 || x.was_slow(), "nobody died, and a message did not come");
        return;
      }
      model::require(s == queue_status::success, "a get failed");
      if (seen_there.block != 0) {
        model::require(bare_books::in_use(seen_there.block), "a message's block was freed while somebody looked at it");
        copy_of(q.bytes(seen_there), m);
        take(m);
        q.done(seen_there);
        continue;
      }
      take(m);
    }
  }

  // What is left is taken by one who comes later; puts and gets go on; no memory is left behind.
  void last() override {
    core q(queue_memory(), queue_store(1));
    polyproc::detail::message_buffer m;
    auto& x = model::explorer::get();
    if (x.stops() != 0) return;
    if (how.close_first) q.close();
    // Of a dead one's leases a get learns now and then; but before it says closed it makes sure.
    bool const ask = how.lease && x.deaths() != 0 && !q.closed();
    // What the dead had reserved is found by those who reserve, and nothing else is.
    if (how.reserve && x.deaths() != 0) {
      for (int i = 0; i < 32; ++i) {
        auto const block = q.reserve(how.size, model_backend::self(), polyproc::never);
        std::memset(q.at(*block, how.size), 0xff, how.size);
        q.abandon(*block);
      }
    }
    auto status = queue_status::success;
    while ((status = next(q, m, ask ? x.deadline_in(100ms) : polyproc::never, ask)) == queue_status::success) {
      model::require(!said_closed, "a get said closed, and there was a message after that");
      take(m);
    }
    model::require(q.size() == 0, "size of an empty queue");
    if (!q.closed()) {
      model::require(status == (ask ? queue_status::timeout : queue_status::empty), "an empty queue is not closed");
      if (how.lease && !ask)
        model::require(q.get(m, x.deadline_in(5ms), true) == queue_status::timeout, "a message came from nowhere");
      // As often as it takes to leave a chunk.
      for (int i = 0; i < (how.chunk < 64 ? 12 : 1); ++i) {
        model::require(q.put(message(0, 0), polyproc::never, false) == queue_status::success, "a put failed afterwards");
        model::require(q.get(m, polyproc::never, false) == queue_status::success, "a get failed afterwards");
        model::require(std::ranges::equal(m.view(), message(0, 0)), "not what was put afterwards");
      }
      q.close();
    }
    model::require(q.put(message(0, 0), polyproc::never, false) == queue_status::closed, "a put after close");
    model::require(q.get(m, polyproc::never, false) == queue_status::closed, "a get after close");
    // (The last one of those who get may have died before it freed a block; in a closed queue nobody takes its lock.)
    if (!how.closer && !how.close_first && (how.size > 1024 || how.lease || how.chunk < 64))
      model::require(bare_books::arena::sound() && bare_books::arena::used_bytes() == 0, "a block was left");
  }

  void check() override {
    auto const& x = model::explorer::get();
    if (x.stops() != 0) return;
    int missing = 0;
    int twice = 0;
    for (int p = 0; p < how.producers; ++p)
      for (int i = 0; i < how.each; ++i) {
        auto const n = seen[static_cast<std::size_t>(p * how.each + i)];
        model::require(n <= 1 || how.lease, "a message was taken twice");
        twice += n > 1 ? 1 : 0;
        if (n == 0 && i < puts_done[static_cast<std::size_t>(p)]) ++missing;
        if (n == 1)
          model::require(how.batches || i <= puts_done[static_cast<std::size_t>(p)], "a message was taken that was not put");
      }
    int dead_consumers = 0;
    int between = 0;
    for (int p = how.producers; p < how.producers + how.consumers; ++p) {
      dead_consumers += x.is_dead(p) ? 1 : 0;
      between += x.is_dead(p) ? acknowledging[static_cast<std::size_t>(p)] : 0;
    }
    // A batch is taken in one step.
    model::require(missing <= (how.lease ? 0 : dead_consumers * (how.batches ? how.each : 1)), "a message was lost");
    model::require(twice <= between, "a leased message came back although its holder lives or was done with it");
  }

  void take(polyproc::detail::message_buffer const& m) {
    auto const bytes = m.view();
    model::require(bytes.size() == how.size, "a message of another size");
    auto const first = bytes[0];
    for (std::byte const b : bytes) model::require(b == first, "a torn message");
    auto const number = std::to_integer<std::size_t>(first) - 1;
    model::require(number < seen.size(), "a message that nobody put");
    ++seen[number];
  }
  queue_status next(core& q, polyproc::detail::message_buffer& m, polyproc::time_point deadline, bool wait) {
    if (!how.lease) return q.get(m, deadline, wait);
    polyproc::detail::queue_hold h;
    auto const s = q.hold(h, model_backend::self(), false, deadline, wait);
    if (s != queue_status::success) return s;
    model::require(bare_books::in_use(h.block), "a message's block was freed before it was held");
    copy_of(q.bytes(h), m);
    q.done(h);
    return s;
  }
  static queue_status put_reserved(core& q, std::span<std::byte const> bytes, polyproc::time_point deadline) {
    auto const block = q.reserve(bytes.size(), model_backend::self(), deadline);
    if (!block) return queue_status::timeout;
    std::memcpy(q.at(*block, bytes.size()), bytes.data(), bytes.size());
    auto const s = q.put_block(*block, 0, bytes.size(), deadline, true);
    if (s == queue_status::timeout) q.abandon(*block);
    return s;
  }
  std::span<std::byte const> message(int who, int i) {
    auto& m = made[static_cast<std::size_t>(who)];
    m.assign(how.size, static_cast<std::byte>(who * how.each + i + 1));
    return m;
  }
  struct into_batch {
    std::vector<polyproc::detail::message_buffer>& to;
    void operator()(std::span<std::byte const> bytes) { copy_of(bytes, to.emplace_back()); }
    template <class Row>
    void operator()(Row const& row) {
      for (std::size_t i = 0; i < row.count; ++i) (*this)(std::span<std::byte const>(row.at(i), row.size));
    }
  };
  static std::byte* queue_memory() {
    alignas(64) static std::byte memory[16384];
    return memory;
  }
  static void copy_of(std::span<std::byte const> bytes, polyproc::detail::message_buffer& to) {
    auto* const at = to.resize(bytes.size());
    if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
  }

  plan how;
  bool said_closed = false;
  std::array<int, 4> puts_done{};
  std::array<int, 4> given_back{};
  std::array<int, 4> acknowledging{};
  std::array<std::vector<polyproc::detail::message_buffer>, 4> batch;
  std::array<std::vector<std::byte>, 4> made;
  std::vector<int> seen;
};
