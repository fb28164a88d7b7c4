// timeout: 1500
// A queue's puts and gets, whole or not at all, with a death at every step. Its messages lie in plain memory, so there are
// points after each operation as well as before.

#include "model/explore.hpp"

#include <polyproc/channel/queue_core.hpp>

using namespace std::chrono_literals;
using polyproc::queue_status;

namespace {

using core = polyproc::detail::queue_core<model_backend>;
using arena = polyproc::detail::arena<model_backend>;

// What each of `producers` puts is its number and a counter; the rest of the participants get until the queue is closed.
struct traffic : model::scenario {
  struct plan {
    int producers = 1;
    int consumers = 1;
    int each = 1;             // messages per producer
    std::size_t capacity = 1;
    std::size_t size = 8;     // bytes of a message: in the slot, in the ring (over 36) or in a block of its own
    bool timed = false;
  };
  explicit traffic(plan p) : how(p) {}
  int participants() const override { return how.producers + how.consumers; }

  void reset() override {
    std::memset(model_backend::memory(), 0, 4096 + 64 * 40);  // the arena's books
    std::memset(queue_memory(), 0, core::bytes_for(how.capacity));
    core::make(queue_memory(), how.capacity);
    puts_done.fill(0);
    seen.assign(static_cast<std::size_t>(how.producers * how.each), 0);
  }

  void body(int who) override {
    core q(queue_memory(), 1);
    auto& x = model::explorer::get();
    if (who < how.producers) {
      for (int i = 0; i < how.each; ++i) {
        auto const deadline = x.deadline_in(how.timed ? 5ms : 2000ms);
        auto const s = q.put(message(who, i), deadline, true);
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
      auto const s = q.get(m, deadline, true);
      if (how.timed) model::require(model_backend::now() <= deadline + 20ms, "get came back late");
      if (s == queue_status::timeout) {
        model::require(how.timed || x.deaths() != 0 || x.was_slow(), "nobody died, and a message did not come");
        return;
      }
      model::require(s == queue_status::success, "a get failed");
      take(m);
    }
  }

  // What is left is taken by one who comes later; puts and gets go on.
  void last() override {
    core q(queue_memory(), 1);
    polyproc::detail::message_buffer m;
    if (model::explorer::get().stops() != 0) return;
    while (q.get(m, polyproc::never, false) == queue_status::success) take(m);
    model::require(q.size() == 0, "size of an empty queue");
    model::require(q.put(message(0, 0), polyproc::never, false) == queue_status::success, "a put failed afterwards");
    model::require(q.get(m, polyproc::never, false) == queue_status::success, "a get failed afterwards");
    q.close();
    model::require(q.put(message(0, 0), polyproc::never, false) == queue_status::closed, "a put after close");
    model::require(q.get(m, polyproc::never, false) == queue_status::closed, "a get after close");
    if (how.size > 1024) model::require(arena::sound() && arena::used_bytes() == 0, "a block was left");
  }

  void check() override {
    auto const& x = model::explorer::get();
    if (x.stops() != 0) return;
    int missing = 0;
    for (int p = 0; p < how.producers; ++p)
      for (int i = 0; i < how.each; ++i) {
        auto const n = seen[static_cast<std::size_t>(p * how.each + i)];
        model::require(n <= 1, "a message was taken twice");
        if (n == 0 && i < puts_done[static_cast<std::size_t>(p)]) ++missing;
        if (n == 1) model::require(i <= puts_done[static_cast<std::size_t>(p)], "a message was taken that was not put");
      }
    int dead_consumers = 0;
    for (int p = how.producers; p < participants(); ++p) dead_consumers += x.is_dead(p) ? 1 : 0;
    model::require(missing <= dead_consumers, "a message was lost");
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
  std::span<std::byte const> message(int who, int i) {
    auto& m = made[static_cast<std::size_t>(who)];
    m.assign(how.size, static_cast<std::byte>(who * how.each + i + 1));
    return m;
  }
  static std::byte* queue_memory() {
    alignas(64) static std::byte memory[16384];
    return memory;
  }

  plan how;
  std::array<int, 4> puts_done{};
  std::array<std::vector<std::byte>, 4> made;
  std::vector<int> seen;
};

void holds(char const* what, traffic::plan p, model::bounds b) {
  traffic t(p);
  b.after = true;
  b.time = 20s;
  model::holds(what, t, b);
}

}  // namespace

TEST_CASE("[H33] queue: a death at every step of put and get") {
  bool const deep = model::campaign();
  holds("queue, one to one", {.each = 2, .capacity = 1}, {.preemptions = deep ? 3 : 2});
  holds("queue, one to one, in the ring", {.each = 2, .capacity = 2, .size = 100}, {.preemptions = deep ? 3 : 2});
  holds("queue, one to one, blocks", {.each = 1, .capacity = 1, .size = 2000}, {.preemptions = deep ? 3 : 1});
  holds("queue, two producers", {.producers = 2, .each = 1, .capacity = 2}, {.preemptions = deep ? 2 : 1});
  holds("queue, two producers, room for one", {.producers = 2, .each = 1, .capacity = 1}, {.preemptions = deep ? 2 : 1});
  holds("queue, two consumers", {.consumers = 2, .each = 2, .capacity = 2}, {.preemptions = deep ? 2 : 1});
  if (deep) holds("queue, one to one", {.each = 2, .capacity = 1}, {.preemptions = 2, .deaths = 2});
}

TEST_CASE("[H33] queue: no wake is lost, with loads that may be stale") {
  bool const deep = model::campaign();
  holds("queue, one to one", {.each = 2, .capacity = 1}, {.preemptions = 2, .deaths = 0, .stale = 3});
  holds("queue, two producers", {.producers = 2, .each = 1, .capacity = 1}, {.preemptions = deep ? 3 : 2, .deaths = 0});
  holds("queue, two consumers", {.consumers = 2, .each = 2, .capacity = 2}, {.preemptions = deep ? 3 : 2, .deaths = 0});
}

TEST_CASE("[H33] queue: timed forms come back in time, whoever is stopped for ever") {
  bool const deep = model::campaign();
  holds("queue, timed", {.each = 2, .capacity = 1, .timed = true}, {.preemptions = deep ? 2 : 1, .deaths = 0, .stops = 1});
  holds("queue, timed, blocks", {.each = 1, .capacity = 1, .size = 2000, .timed = true},
        {.preemptions = 1, .deaths = deep ? 1 : 0, .stops = 1});
}
