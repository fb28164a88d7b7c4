// timeout: 1500
// What threads tell each other: condition variables, events, barriers, latches, once.

#include "model/explore.hpp"

#include <polyproc/sync/barrier.hpp>
#include <polyproc/sync/condition_variable.hpp>
#include <polyproc/sync/event.hpp>
#include <polyproc/sync/guards.hpp>
#include <polyproc/sync/latch.hpp>
#include <polyproc/sync/mutex.hpp>
#include <polyproc/sync/once.hpp>

using namespace std::chrono_literals;

namespace {

using polyproc::waiting::block;
using mutex = polyproc::basic_mutex<polyproc::on_owner_death::ignores, block, model_backend>;

// Participant 0 puts tokens under the lock, the others take one each.
struct tokens : model::scenario {
  struct state {
    mutex lock;
    polyproc::basic_condition_variable<block, model_backend> changed;
    model::cell<int> there;
    int taken = 0;
  };
  tokens(int n, bool notify_all, bool several) : count(n), all_at_once(notify_all), spare(several) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    auto& s = *all;
    if (who == 0) {
      int const tokens_each = spare ? 2 : 1;
      if (all_at_once) {
        {
          polyproc::lock hold{s.lock};
          s.there.set((count - 1) * tokens_each);
        }
        s.changed.notify_all();
        return;
      }
      for (int i = 0; i < (count - 1) * tokens_each; ++i) {
        {
          polyproc::lock hold{s.lock};
          s.there.set(s.there.get() + 1);
        }
        s.changed.notify_one();
      }
    } else {
      polyproc::unique_lock hold{s.lock};
      if (spare) {
        // With deaths: the giver may be dead, so whoever takes gives up after a while.
        auto const deadline = model::explorer::get().deadline_in(700ms);
        if (!s.changed.wait_until(hold, deadline, [&] { return s.there.get() != 0; })) {
          model::require(model_backend::now() >= deadline, "gave up early");
          auto const& x = model::explorer::get();
          model::require(x.deaths() != 0 || x.was_slow(), "nobody died, and a token did not come");
          return;
        }
      } else {
        s.changed.wait(hold, [&] { return s.there.get() != 0; });
      }
      s.there.set(s.there.get() - 1);
      ++s.taken;
    }
  }
  void check() override {
    auto const& x = model::explorer::get();
    if (x.deaths() == 0 && !x.was_slow()) model::require(all->taken == count - 1, "a token was not taken");
    // A taker that lives gets a token if they were all put before somebody died.
    if (spare && x.has_finished(0) && !x.was_slow()) {
      for (int p = 1; p < count; ++p) model::require(x.is_dead(p) || all->taken > 0, "a token was there and was not seen");
    }
  }
  int count;
  bool all_at_once;
  bool spare;
  std::optional<state> all;
};

struct starters : model::scenario {
  struct state {
    polyproc::basic_event<block, model_backend> go;
    model::cell<int> what;
    int seen = 0;
  };
  starters(int n, bool p) : count(n), pulse(p) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    if (who == 0) {
      all->what.set(1);
      all->go.set();
      return;
    }
    if (!pulse) {
      all->go.wait();
      model::require(all->what.get() == 1, "went on too early");
      ++all->seen;
      return;
    }
    // One that sees the event set clears it; another that waited must have gone on all the same, or the event is set
    // again by nobody: so it waits with a deadline, and coming late is an answer.
    auto const deadline = model::explorer::get().deadline_in(5ms);
    if (all->go.wait_until(deadline)) {
      ++all->seen;
      all->go.clear();
    }
  }
  void last() override {
    auto const& x = model::explorer::get();
    if (pulse) model::require(x.deaths() != 0 || x.was_slow() || all->seen > 0, "a pulse was seen by nobody");
  }
  int count;
  bool pulse;
  std::optional<state> all;
};
// A setter that dies before it has set leaves those who wait waiting: that is what an event is. With deaths, participants
// 0 and 1 both set.
struct two_starters : starters {
  explicit two_starters(int n) : starters(n, false) {}
  void body(int who) override {
    if (who <= 1) {
      all->go.set();
    } else {
      all->go.wait();
    }
  }
};

struct members : model::scenario {
  struct state {
    explicit state(int n) : meet{static_cast<std::uint32_t>(n)} {}
    polyproc::basic_barrier<block, model_backend> meet;
    model::cell<int> work[4][2];
    int broken = 0;
    int through[4] = {};
  };
  members(int n, int r) : count(n), rounds(r) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(count); }
  void body(int who) override {
    auto& s = *all;
    try {
      become_member();
      for (int round = 0; round < rounds; ++round) {
        s.work[who][round].set(1);
        s.meet.arrive_and_wait();
        ++s.through[who];
        for (int p = 0; p < count; ++p) model::require(s.work[p][round].get() == 1, "somebody went on before all were there");
      }
    } catch (polyproc::broken_barrier const&) {
      ++s.broken;
      model::require(model::explorer::get().deaths() != 0, "broken though nobody died");
    }
  }
  // Of one that dies before it is a member nobody can know.
  void become_member() {
    model::explorer::get().shield(true);
    struct at_the_end {
      ~at_the_end() { model::explorer::get().shield(false); }
    } const end;
    all->meet.join();
  }
  void last() override {
    auto const& x = model::explorer::get();
    if (x.deaths() == 0) model::require(!all->meet.is_broken(), "broken though nobody died");
    // As new after a reset.
    all->meet.reset();
    model::require(!all->meet.is_broken(), "still broken after reset");
  }
  void check() override {
    auto const& x = model::explorer::get();
    for (int p = 0; p < count; ++p)
      if (x.deaths() == 0) model::require(all->through[p] == rounds, "somebody did not get through");
  }
  int count;
  int rounds;
  std::optional<state> all;
};
// One gives up in time, or is stopped for ever.
struct late_members : members {
  using members::members;
  void body(int) override {
    auto const deadline = model::explorer::get().deadline_in(30ms);
    try {
      if (!all->meet.arrive_and_wait_until(deadline)) model::require(all->meet.is_broken(), "gave up, and others may wait");
    } catch (polyproc::broken_barrier const&) {
    }
    model::require(model_backend::now() <= deadline + 20ms, "a timed form came back late");
  }
  void last() override {}
  void check() override {}
};
// One leaves in the first round.
struct leavers : members {
  explicit leavers(int n) : members(n, 2) {}
  void body(int who) override {
    try {
      become_member();
      if (who == 0) {
        all->meet.arrive_and_drop();
        return;
      }
      for (int round = 0; round < 2; ++round) all->meet.arrive_and_wait();
      ++all->through[who];
    } catch (polyproc::broken_barrier const&) {
      model::require(model::explorer::get().deaths() != 0, "broken though nobody died");
    }
  }
  void check() override {}
};

struct countdown : model::scenario {
  struct state {
    explicit state(int n) : left{static_cast<std::uint32_t>(n)} {}
    polyproc::basic_latch<block, model_backend> left;
    model::cell<int> work[4];
  };
  explicit countdown(int n) : count(n) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(count - 1); }
  void body(int who) override {
    if (who != 0) {
      all->work[who].set(1);
      all->left.count_down();
      return;
    }
    auto const deadline = model::explorer::get().deadline_in(700ms);
    if (all->left.wait_until(deadline)) {
      for (int p = 1; p < count; ++p) model::require(all->work[p].get() == 1, "went on too early");
    } else {
      auto const& x = model::explorer::get();
      model::require(x.deaths() != 0 || x.was_slow(), "all have counted down, and the waiter did not see it");
    }
  }
  int count;
  std::optional<state> all;
};

struct firsts : model::scenario {
  struct state {
    polyproc::basic_once_flag<block, model_backend> once;
    model::cell<int> made;
    int finished = 0;
  };
  explicit firsts(int n) : count(n) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int) override { use(); }
  void last() override { use(); }
  void check() override { model::require(all->finished == 1, "it was done twice, or not at all"); }
  void use() {
    polyproc::call_once(all->once, [&] {
      all->made.set(0);
      all->made.set(42);
      ++all->finished;
    });
    model::require(all->made.get() == 42, "went on before it was done");
  }
  int count;
  std::optional<state> all;
};
// Killed after the last line of the function but before the flag says so, it is done again: at least once.
struct firsts_with_deaths : firsts {
  using firsts::firsts;
  void check() override {
    model::require(all->finished >= 1 && all->finished <= 1 + model::explorer::get().deaths(), "done too often, or not at all");
  }
};

}  // namespace

TEST_CASE("[H22] condition_variable: no notification is lost, a death at every step") {
  bool const deep = model::campaign();
  for (bool const at_once : {false, true}) {
    char const* const what = at_once ? "condition_variable, notify_all" : "condition_variable, notify_one";
    tokens two(2, at_once, false);
    model::holds(what, two, {.preemptions = 3, .deaths = 0});
    model::holds(what, two, {.preemptions = 2, .deaths = 0, .stale = 2});
    tokens three(3, at_once, false);
    model::holds(what, three, {.preemptions = deep ? 3 : 2, .deaths = 0});
    tokens two_die(2, at_once, true);
    model::holds(what, two_die, {.preemptions = 3});
    tokens three_die(3, at_once, true);
    model::holds(what, three_die, {.preemptions = deep || at_once ? 2 : 1});
  }
}

TEST_CASE("[H22] event: set lets all go on, a death at every step") {
  bool const deep = model::campaign();
  starters two(2, false);
  model::holds("event", two, {.preemptions = 4, .deaths = 0, .stale = 1});
  starters three(3, false);
  model::holds("event", three, {.preemptions = 3, .deaths = 0});
  starters pulsed(3, true);
  model::holds("event, set and cleared", pulsed, {.preemptions = 2});
  two_starters both(3);
  model::holds("event, two setters", both, {.preemptions = deep ? 4 : 3});
}

TEST_CASE("[H22] barrier: all or broken, a death at every step") {
  bool const deep = model::campaign();
  members two(2, 2);
  model::holds("barrier, two rounds", two, {.preemptions = deep ? 3 : 2});
  model::holds("barrier, two rounds", two, {.preemptions = 2, .deaths = 0, .stale = 2});
  model::holds("barrier, two rounds", two, {.preemptions = 1, .naps = true});
  members three(3, 1);
  model::holds("barrier", three, {.preemptions = deep ? 2 : 1});
  late_members late(2, 1);
  model::holds("barrier, timed", late, {.preemptions = 2, .deaths = 0, .stops = 1});
  leavers leave(3);
  model::holds("barrier, one leaves", leave, {.preemptions = deep ? 2 : 1});
}

TEST_CASE("[H22] latch: zero is seen, a death at every step") {
  countdown two(2);
  model::holds("latch", two, {.preemptions = 4});
  countdown three(3);
  model::holds("latch", three, {.preemptions = model::campaign() ? 3 : 2});
  model::holds("latch", three, {.preemptions = 1, .deaths = 0, .stale = 1});
}

TEST_CASE("[H22] once: done once, and again only if the one that did it died") {
  firsts two(2);
  model::holds("once", two, {.preemptions = 3, .deaths = 0, .stale = 1});
  firsts_with_deaths dying(2);
  model::holds("once", dying, {.preemptions = 3});
  firsts_with_deaths three(3);
  model::holds("once", three, {.preemptions = 2});
}
