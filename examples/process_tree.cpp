// What the children of a program are doing, as the system tells.
//
//   process_tree [--start fork|spawn|forkserver]
//
// What to look at: the table of this process and all that descends from it, while children compute, sleep and wait; what the
// system does not tell is a "?" there. Below it the state of each child: new before the start; ready or running while it
// computes (ready: it could, but others are served); blocked while it sleeps or waits; stopped; ended.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <chrono>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;
using example::say;
using polyproc::process_state;

struct stage {
  polyproc::latch begun{3};
  polyproc::event enough;
};
using shared_stage = polyproc::shared<stage>;

void compute(shared_stage s) {
  s->begun.count_down();
  while (!s->enough.is_set()) continue;
}
void sleep_long(shared_stage s) {
  s->begun.count_down();
  std::this_thread::sleep_for(1h);
}
void wait_for_end(shared_stage s) {
  s->begun.count_down();
  s->enough.wait();
}

/// A child that has just begun may still be on its way to what it is to do. (Unknown: this system does not tell.)
process_state settle(polyproc::process const& p, std::initializer_list<process_state> expected) {
  auto const give_up = std::chrono::steady_clock::now() + 5s;
  for (;;) {
    auto const now = p.state();
    if (now == process_state::unknown) return now;
    for (auto const each : expected)
      if (now == each) return now;
    if (std::chrono::steady_clock::now() > give_up) return now;
  }
}
void tell(polyproc::process const& p, std::initializer_list<process_state> expected) {
  say(p.name(), p.pid() ? ", pid " + std::to_string(*p.pid()) : "", ": ", to_string(settle(p, expected)));
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "process_tree");

  shared_stage s;
  polyproc::process computes{{.name = "computes"}, compute, s};
  polyproc::process sleeps{{.name = "sleeps"}, sleep_long, s};
  polyproc::process waits{{.name = "waits"}, wait_for_end, s};
  tell(computes, {process_state::fresh});
  for (auto* p : {&computes, &sleeps, &waits}) p->start();
  s->begun.wait();

  settle(sleeps, {process_state::blocked});
  settle(waits, {process_state::blocked});
  std::fputs(format_process_tree(polyproc::process_tree()).c_str(), stdout);

  tell(computes, {process_state::running, process_state::ready});
  tell(sleeps, {process_state::blocked});
  tell(waits, {process_state::blocked});
  computes.ask(polyproc::child_request::stop);
  tell(computes, {process_state::stopped});
  computes.ask(polyproc::child_request::resume);
  tell(computes, {process_state::running, process_state::ready});

  s->enough.set();
  sleeps.terminate();
  for (auto* p : {&computes, &sleeps, &waits}) {
    p->join();
    tell(*p, {process_state::ended});
  }
}
