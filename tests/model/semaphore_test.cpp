// timeout: 1500
#include "model/explore.hpp"

#include <polyproc/sync/semaphore.hpp>

using namespace std::chrono_literals;

namespace {

// One permit: the same as a lock, except that nobody is told of a death.
struct owners : model::scenario {
  struct state {
    polyproc::basic_bounded_semaphore<polyproc::waiting::block, model_backend> permits{1};
    model::cell<int> inside;
  };
  explicit owners(int n) : count(n) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int who) override { use(who); }
  void last() override { use(model::most_participants - 1); }
  void check() override { model::require(all->permits.value() == 1, "a permit was lost"); }
  void use(int who) {
    all->permits.acquire();
    auto const before = all->inside.get();
    model::require(before == 0 || model::explorer::get().is_dead(before - 1), "two had the one permit");
    all->inside.set(who + 1);
    model::require(all->inside.get() == who + 1, "two had the one permit");
    all->inside.set(0);
    all->permits.release();
  }
  int count;
  std::optional<state> all;
};

// Participant 0 makes as many permits as there are others; each other takes one and is not killed.
struct signals : model::scenario {
  struct state {
    polyproc::basic_semaphore<polyproc::waiting::block, model_backend> items;
    int taken = 0;
  };
  explicit signals(int n) : count(n) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    if (who == 0) {
      for (int i = 1; i < count; ++i) all->items.release();
    } else {
      all->items.acquire();
      ++all->taken;
    }
  }
  // What a dead participant 0 did not give, and so what the others still wait for, is given by nobody: see lost.
  int count;
  std::optional<state> all;
};
struct signals_without_deaths : signals {
  using signals::signals;
  void check() override {
    model::require(all->taken == count - 1, "somebody did not get its permit");
    model::require(all->items.value() == 0, "a permit too many");
  }
};
// Enough for one taker more than there are: whoever dies, the others get theirs.
struct signals_with_deaths : signals {
  using signals::signals;
  void reset() override {
    signals::reset();
    all->items.release(static_cast<std::uint32_t>(count - 1));
  }
  void check() override {
    auto const permits = 2 * (count - 1);
    auto const left = static_cast<int>(all->items.value());
    auto const& x = model::explorer::get();
    model::require(left + all->taken <= permits, "a permit was taken by two");
    if (x.deaths() == 0) model::require(left + all->taken == permits, "a permit was lost");
  }
};

}  // namespace

TEST_CASE("[H21] bounded_semaphore: every interleaving, a death at every step; a dead holder's permit comes back") {
  model::holds_as_promised("bounded_semaphore", [](int n) { return std::make_unique<owners>(n); });
}

TEST_CASE("semaphore: no permit is lost or taken twice, no wake is lost") {
  signals_without_deaths two(2);
  model::holds("semaphore", two, {.preemptions = 4, .deaths = 0});
  model::holds("semaphore", two, {.preemptions = 2, .deaths = 0, .stale = 2});
  signals_without_deaths three(3);
  model::holds("semaphore", three, {.preemptions = model::campaign() ? 4 : 3, .deaths = 0});
  signals_without_deaths four(4);
  model::holds("semaphore", four, {.preemptions = model::campaign() ? 2 : 1, .deaths = 0});
}

TEST_CASE("[H22] semaphore: a death at every step of releasing and acquiring") {
  signals_with_deaths two(2);
  model::holds("semaphore", two, {.preemptions = 3});
  signals_with_deaths three(3);
  model::holds("semaphore", three, {.preemptions = model::campaign() ? 3 : 2});
}
