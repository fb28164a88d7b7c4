// timeout: 1500
// Every interleaving of a few holders of a mutex, with a death at every step: nobody hangs, nobody is alone with a half
// change that it was not told of.

#include "model/explore.hpp"

#include <polyproc/sync/guarded.hpp>
#include <polyproc/sync/guards.hpp>
#include <polyproc/sync/mutex.hpp>
#include <polyproc/sync/recursive_mutex.hpp>

using namespace std::chrono_literals;

namespace {

template <template <class, class, polyproc::sync_backend> class Mutex, class Policy, class Waiting>
struct adders : model::scenario {
  struct state : model::pair_of_cells {
    Mutex<Policy, Waiting, model_backend> lock;
  };
  explicit adders(int n) : count(n) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int who) override { add(who); }
  void last() override { add(model::most_participants - 1); }
  void check() override { all->balance(); }

  void add(int who) {
    auto& s = *all;
    for (;;) {
      try {
        polyproc::lock hold{s.lock};
        if constexpr (std::is_same_v<Policy, polyproc::on_owner_death::reports>) {
          if (hold.owner_died()) {
            s.repair();
            hold.repaired();
          }
        }
        s.add(who);
        return;
      } catch (polyproc::owner_died const&) {
        s.lock.recover([&] { s.repair(); });
      }
    }
  }
  int count;
  std::optional<state> all;
};

template <class Policy, class Waiting = polyproc::waiting::block>
auto make_mutex = [](int n) { return std::make_unique<adders<polyproc::basic_mutex, Policy, Waiting>>(n); };

struct recursive_adders : model::scenario {
  struct state : model::pair_of_cells {
    polyproc::basic_recursive_mutex<polyproc::on_owner_death::throws, polyproc::waiting::block, model_backend> lock;
  };
  explicit recursive_adders(int n) : count(n) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int who) override { add(who); }
  void last() override { add(model::most_participants - 1); }
  void check() override { all->balance(); }
  void add(int who) {
    auto& s = *all;
    for (;;) {
      try {
        polyproc::lock outer{s.lock};
        polyproc::lock inner{s.lock};
        s.add(who);
        return;
      } catch (polyproc::owner_died const&) {
        s.lock.recover([&] { s.repair(); });
      }
    }
  }
  int count;
  std::optional<state> all;
};

struct repair_cells {
  void operator()(model::pair_of_cells& cells) const { cells.repair(); }
};
struct guarded_adders : model::scenario {
  using guarded = polyproc::basic_guarded<model::pair_of_cells, polyproc::on_owner_death::repairs<repair_cells>,
                                          polyproc::waiting::block, model_backend>;
  explicit guarded_adders(int n) : count(n) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    all->with([&](auto& cells) { cells.add(who); });
  }
  void last() override {
    all->with([&](auto& cells) {
      cells.add(model::most_participants - 1);
      cells.balance();
    });
  }
  int count;
  std::optional<guarded> all;
};

// One that may be stopped for ever anywhere, and others who give up in time.
struct timed_adders : model::scenario {
  struct state : model::pair_of_cells {
    polyproc::basic_mutex<polyproc::on_owner_death::throws, polyproc::waiting::block, model_backend> lock;
  };
  explicit timed_adders(int n) : count(n) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    auto& s = *all;
    auto const deadline = model::explorer::get().deadline_in(5ms);
    try {
      if (s.lock.try_lock_until(deadline)) {
        s.add(who);
        s.lock.unlock();
      } else {
        model::require(model_backend::now() >= deadline, "a timed lock gave up early");
      }
    } catch (polyproc::owner_died const&) {
      model::require(model::explorer::get().deaths() != 0, "told of a death that did not happen");
    }
    model::require(model_backend::now() <= deadline + 20ms, "a timed lock came back late");
  }
  int count;
  std::optional<state> all;
};

}  // namespace

TEST_CASE("[H21] mutex: every interleaving, a death at every step") {
  model::holds_as_promised("mutex (throws)", make_mutex<polyproc::on_owner_death::throws>);
  model::holds_as_promised("mutex (reports)", make_mutex<polyproc::on_owner_death::reports>);
}

TEST_CASE("[H21] mutex that spins: every interleaving, a death at every step") {
  auto two = make_mutex<polyproc::on_owner_death::throws, polyproc::waiting::spin>(2);
  model::holds("mutex (spins)", *two, {.preemptions = 3, .deaths = 1, .steps = 200000});
}

TEST_CASE("[H21] recursive_mutex: every interleaving, a death at every step") {
  model::holds_as_promised("recursive_mutex", [](int n) { return std::make_unique<recursive_adders>(n); });
}

TEST_CASE("[H21] guarded that repairs: every interleaving, a death at every step") {
  model::holds_as_promised("guarded (repairs)", [](int n) { return std::make_unique<guarded_adders>(n); });
}

TEST_CASE("[H22] a timed lock comes back in time, whoever is stopped for ever") {
  timed_adders two(2);
  model::holds("mutex, timed", two, {.preemptions = 2, .deaths = 1, .stops = 1});
  timed_adders three(3);
  model::holds("mutex, timed", three, {.preemptions = 1, .deaths = 0, .stops = model::campaign() ? 2 : 1});
}
