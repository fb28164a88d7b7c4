/// Several users of a biased_lock in the explorer: never two at work at once, nobody hangs, no half change goes untold. The
/// lock is a parameter, so that those that are known to be bad can be looked at in the same way (tests/house/queue_mutants.py).
#pragma once

#include "model/explore.hpp"

#include <polyproc/sync/biased_lock.hpp>

template <class Lock = polyproc::detail::biased_lock<model_backend, polyproc::waiting::block>>
struct favourites : model::scenario {
  struct state : model::pair_of_cells {
    Lock lock;
  };
  favourites(int n, int times) : count(n), rounds(times) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    for (int i = 0; i < rounds; ++i) work(who);
  }
  void last() override { work(model::most_participants - 1); }
  void check() override { all->balance(); }

  void work(int who) {
    auto& s = *all;
    if (typename Lock::favoured inside(s.lock); inside) {
      s.add(who);
      inside.leave();
      return;
    }
    polyproc::detail::repairing_hold<model_backend, polyproc::waiting::block, Lock> hold(s.lock, polyproc::never,
                                                                                        [&] { s.repair(); });
    s.add(who);
    s.lock.favour();
  }

  int count;
  int rounds;
  std::optional<state> all;
};
