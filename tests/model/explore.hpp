/// Explores a scenario within a test: prints what was covered, and on failure the schedule and what happened in it.
/// POLYPROC_MODEL=campaign goes as deep as the promise asks for, and further where that is quick.
#pragma once

#include "model/model_backend.hpp"
#include "support/catch.hpp"

#include <optional>

namespace model {

inline bool campaign() {
  char const* const wish = std::getenv("POLYPROC_MODEL");
  return wish != nullptr && std::string_view(wish) == "campaign";
}

inline void print(char const* what, scenario const& s, bounds const& b, result const& r) {
  std::printf("model: %-44s %d participants, %d preemptions, %d deaths, %d stops, %d stale: %llu runs, %llu steps, %.1f s%s%s\n", what,
              s.participants(), b.preemptions, b.deaths, b.stops, b.stale, static_cast<unsigned long long>(r.runs),
              static_cast<unsigned long long>(r.steps), r.seconds, b.naps ? ", by naps" : "", r.complete ? "" : " (not all)");
  std::fflush(stdout);
}

/// Within these bounds nothing goes wrong.
inline void holds(char const* what, scenario& s, bounds const& b) {
  auto const r = explorer::get().run(b, s);
  print(what, s, b, r);
  if (!r.failure.empty()) {
    explorer::get().replay(b, s, r.schedule, true);
    FAIL(what << ": " << r.failure);
  }
  CHECK(r.runs > 1);
}

/// Within these bounds something does: the explorer sees what it is meant to see. The schedule it prints repeats it.
inline void is_caught(char const* what, scenario& s, bounds const& b, char const* how) {
  auto const r = explorer::get().run(b, s);
  std::printf("model: known to be bad: %-30s found after %llu runs: %s\n", what,
              static_cast<unsigned long long>(r.runs), r.failure.substr(0, r.failure.find('\n')).c_str());
  INFO(what);
  REQUIRE_FALSE(r.failure.empty());
  CHECK(r.failure.find(how) != std::string::npos);
  auto const again = explorer::get().replay(b, s, r.schedule, false);
  CHECK(again.failure == r.failure.substr(0, r.failure.find("\n  schedule")));
}

/// The bounds that every lock holds within; the campaign goes on to deeper ones.
inline void holds_as_promised(char const* what, auto make) {
  auto two = make(2);
  auto three = make(3);
  holds(what, *two, {.preemptions = 3, .deaths = 1});
  holds(what, *three, {.preemptions = 2, .deaths = 1});
  holds(what, *two, {.preemptions = 3, .deaths = 0, .stale = 2});
  holds(what, *two, {.preemptions = 2, .deaths = 1, .naps = true});
  if (campaign()) {
    holds(what, *two, {.preemptions = 2, .deaths = 2});
    holds(what, *two, {.preemptions = 4, .deaths = 1, .seconds = 120});
    holds(what, *three, {.preemptions = 2, .deaths = 2, .seconds = 240});
  }
}

/// Two cells that are equal whenever nobody is at work on them.
struct pair_of_cells {
  cell<int> left;
  cell<int> right;
  int done[most_participants] = {};

  /// By one who has the lock.
  void add(int who) {
    auto const v = left.get();
    left.set(v + 1);
    require(right.get() == v, "two had the lock at once, or a half change was not told of");
    right.set(v + 1);
    ++done[who];
  }
  void repair() { right.set(left.get()); }
  /// When all is over: every addition that was finished is there, and at most one more for each who died in it.
  void balance() const {
    int sum = 0;
    for (int const d : done) sum += d;
    require(left.quiet() == right.quiet(), "a half change was left");
    require(left.quiet() >= sum, "an addition was lost");
    require(left.quiet() <= sum + explorer::get().deaths(), "an addition was made twice");
  }
};

}  // namespace model
