// Waiting for processes: in any order, and not for ever.
//
//   join_order [--start fork|spawn|forkserver] [--quick]
//
// What to look at: a list of processes is joined in its own order, whichever ends first. join_for() says whether the
// process has ended; one that has not lives on. To wait for what was never started is an error, and so it is when the
// target only ran in the caller. With --quick a second is a quarter of one.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using example::say;

constexpr std::size_t children = 3;
struct ends {
  polyproc::event of[children];
};

/// Each waits for the one behind it in the list: the last one ends first.
void wait_for_next(polyproc::shared<ends> ended, std::size_t number) {
  if (number + 1 < children) ended->of[number + 1].wait();
  say("child ", number + 1, " ends");
  ended->of[number].set();
}

void a_list() {
  polyproc::shared<ends> ended;
  std::vector<polyproc::process> all;
  for (std::size_t i = 0; i < children; ++i) all.push_back(polyproc::launch(wait_for_next, ended, i));
  for (auto& p : all) p.join();  // the first one ends last: then the others are waited for already
  say("main: joined all, the first one first");
  all.front().join();  // as often as one likes
}

void with_a_limit(std::chrono::milliseconds second) {
  // A parameter of a target may be a duration, a container, an aggregate: whatever the codec carries.
  auto p = polyproc::launch([](std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }, 2 * second);
  bool const ended = p.join_for(1 * second);
  say("main: after 1 s the child that takes 2 s has ", ended ? "ended" : "not ended", ", it is ",
      p.is_alive() ? "alive" : "not alive");
  bool const late = p.join_until(std::chrono::steady_clock::now() + 1min);
  say("main: within another minute it has ", late ? "ended" : "not ended", ", exit code ", p.exit_code().value_or(-1));
}

void never_started() {
  polyproc::process p{[] { say("the target runs in ", polyproc::this_process::name()); }};
  auto const try_join = [&](char const* when) {
    try {
      p.join();
    } catch (std::logic_error const& problem) {
      say(when, ": ", problem.what());
    }
  };
  try_join("join before start");
  p.run();
  try_join("join after run() alone");
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "join_order", {"--quick"});

  a_list();
  with_a_limit(given.has("--quick") ? 250ms : 1000ms);
  never_started();
}
