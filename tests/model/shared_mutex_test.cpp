// timeout: 1500
#include "model/explore.hpp"

#include <polyproc/sync/guards.hpp>
#include <polyproc/sync/shared_mutex.hpp>

using namespace std::chrono_literals;

namespace {

// Participant 0 writes, the others read; with `writers`, the first two write.
struct readers_and_writers : model::scenario {
  struct state : model::pair_of_cells {
    polyproc::basic_shared_mutex<polyproc::on_owner_death::throws, polyproc::waiting::block, 2, model_backend> lock;
  };
  readers_and_writers(int n, int w) : count(n), writers(w) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    if (who < writers)
      write(who);
    else
      read();
  }
  void last() override {
    read();
    write(model::most_participants - 1);
    read();
  }
  void check() override { all->balance(); }

  template <class F>
  void until_sound(F&& f) {
    for (;;) {
      try {
        f();
        return;
      } catch (polyproc::owner_died const&) {
        all->lock.recover([&] { all->repair(); });
      }
    }
  }
  void write(int who) {
    until_sound([&] {
      polyproc::lock hold{all->lock};
      all->add(who);
    });
  }
  void read() {
    until_sound([&] {
      polyproc::shared_lock hold{all->lock};
      model::require(all->left.get() == all->right.get(), "a reader saw a half change");
    });
  }
  int count;
  int writers;
  std::optional<state> all;
};

struct timed_readers_and_writers : readers_and_writers {
  using readers_and_writers::readers_and_writers;
  void body(int who) override {
    auto const deadline = model::explorer::get().deadline_in(5ms);
    try {
      if (who < writers) {
        if (all->lock.try_lock_until(deadline)) {
          all->add(who);
          all->lock.unlock();
        }
      } else if (all->lock.try_lock_shared_until(deadline)) {
        all->lock.unlock_shared();
      }
    } catch (polyproc::owner_died const&) {
    }
    model::require(model_backend::now() <= deadline + 20ms, "a timed form came back late");
  }
  void last() override {}
  void check() override {}
};

}  // namespace

TEST_CASE("[H21] shared_mutex: every interleaving, a death at every step") {
  bool const deep = model::campaign();
  readers_and_writers one_each(2, 1);
  model::holds("shared_mutex, a writer and a reader", one_each, {.preemptions = 3});
  model::holds("shared_mutex, a writer and a reader", one_each, {.preemptions = 2, .deaths = 0, .stale = 2});
  readers_and_writers two_writers(2, 2);
  model::holds("shared_mutex, two writers", two_writers, {.preemptions = 3});
  readers_and_writers two_readers(3, 1);
  model::holds("shared_mutex, a writer and two readers", two_readers, {.preemptions = 2});
  readers_and_writers crowd(3, 2);
  model::holds("shared_mutex, two writers and a reader", crowd, {.preemptions = 2, .seconds = deep ? 600.0 : 30.0});
  model::holds("shared_mutex, a writer and a reader", one_each, {.preemptions = 2, .naps = true});
  if (deep) model::holds("shared_mutex, a writer and a reader", one_each, {.preemptions = 2, .deaths = 2});
}

TEST_CASE("[H22] timed forms of shared_mutex come back in time, whoever is stopped for ever") {
  timed_readers_and_writers one_each(2, 1);
  model::holds("shared_mutex, timed", one_each, {.preemptions = 2, .deaths = 0, .stops = 1});
  model::holds("shared_mutex, timed", one_each, {.preemptions = 1, .deaths = 1, .stops = 1});
}
