// A reference to a process, given to another process, which waits for it and ends it.
//
//   give_handle [--start fork|spawn|forkserver]
//
// What to look at: a process_ref is an argument or a message like any other value. Whoever has it can ask whether that process
// lives, wait for it, and end it, without being its parent; it never means another process that was given the same number.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <chrono>
#include <thread>

namespace {

using namespace std::chrono_literals;
using example::say;

struct stage {
  polyproc::event go_home;
};
using shared_stage = polyproc::shared<stage>;

void return_when_told(shared_stage s) { s->go_home.wait(); }
void sleep_long() { std::this_thread::sleep_for(1h); }

void watch_over(polyproc::queue<polyproc::process_ref> which, shared_stage s) {
  auto const first = which.get();
  say("warden: ", first.name(), " is ", first.is_alive() ? "alive" : "not alive");
  s->go_home.set();
  first.join();
  say("warden: ", first.name(), " has ended by itself");

  auto const second = which.get();
  say("warden: ", second.name(), (second.join_for(50ms) ? " has" : " has not"), " ended within 50 ms");
  second.terminate();
  second.join();
  say("warden: ", second.name(), " was ended by me");
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "give_handle");

  shared_stage s;
  polyproc::queue<polyproc::process_ref> which(2);
  auto warden = polyproc::launch(watch_over, which, s);

  polyproc::process homely{{.name = "homely"}, return_when_told, s};
  polyproc::process stubborn{{.name = "stubborn"}, sleep_long};
  homely.start();
  stubborn.start();
  which.put(homely.ref());
  which.put(stubborn.ref());
  warden.join();

  homely.join();
  stubborn.join();
  say("main: ", homely.name(), " ", to_string(*homely.status()));
  say("main: ", stubborn.name(), " ", to_string(*stubborn.status()));
}
