// timeout: 1500
// Every interleaving of a few users of a lock that has favourites, with a death at every step and loads that may be stale.

#include "model/favourite.hpp"

TEST_CASE("the favourite of a lock and all others: one at a time, and none waits for the dead") {
  bool const deep = model::campaign();
  favourites<> two(2, 2);
  favourites<> three(3, 2);
  model::holds("a favourite and another", two, {.preemptions = deep ? 4 : 3, .deaths = 1});
  model::holds("a favourite and two others", three, {.preemptions = 2, .deaths = 1, .seconds = deep ? 1e9 : 10});
  model::holds("a favourite, by naps", two, {.preemptions = deep ? 3 : 2, .deaths = 1, .naps = true});
  favourites<> often(2, 4);
  model::holds("favourites in turn", often, {.preemptions = deep ? 4 : 3, .deaths = 0});
  if (deep) model::holds("a favourite, two deaths", three, {.preemptions = 1, .deaths = 2});
}

TEST_CASE("the favourite of a lock and who dismisses it see each other, whatever loads return") {
  bool const deep = model::campaign();
  favourites<> two(2, 2);
  favourites<> often(2, 3);
  model::holds("a favourite, stale loads", two, {.preemptions = deep ? 3 : 2, .deaths = 0, .stale = 3});
  model::holds("favourites in turn, stale loads", often, {.preemptions = 2, .deaths = 0, .stale = deep ? 3 : 2});
  model::holds("a favourite, stale loads and a death", two, {.preemptions = deep ? 2 : 1, .deaths = 1, .stale = 2});
}

TEST_CASE("whoever wants in while the favourite is stopped comes back in time") {
  struct timed : favourites<> {
    using favourites<>::favourites;
    void body(int who) override {
      auto& s = *all;
      for (int i = 0; i < rounds; ++i) {
        if (polyproc::detail::biased_lock<model_backend, polyproc::waiting::block>::favoured inside(s.lock); inside) {
          s.add(who);
          continue;
        }
        auto const deadline = model::explorer::get().deadline_in(std::chrono::milliseconds(5));
        polyproc::detail::repairing_hold<model_backend, polyproc::waiting::block, decltype(s.lock)> hold(s.lock, deadline,
                                                                                                        [&] { s.repair(); });
        model::require(model_backend::now() <= deadline + std::chrono::milliseconds(20), "came back late");
        if (!hold.owns()) return;
        s.add(who);
        s.lock.favour();
      }
    }
    void last() override {}
    void check() override {
      if (model::explorer::get().stops() == 0) all->balance();
    }
  };
  timed two(2, 3);
  model::holds("a favourite, stopped", two, {.preemptions = model::campaign() ? 3 : 2, .deaths = 0, .stops = 1});
}
