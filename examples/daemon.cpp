// A daemon ends with its parent, however that ends.
//
//   daemon [--start fork|spawn|forkserver] [--kill]
//
// What to look at: when main returns, daemons are ended first, then the others are waited for. So the daemon's second line
// never appears, though another child still runs, which has even seen the daemon end. With --kill the program kills itself,
// as `kill -9` would: the daemon ends all the same. A daemon may not start processes, and who is one is decided before the
// start.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <chrono>
#include <stdexcept>
#include <thread>

namespace {

using namespace std::chrono_literals;
using example::say;

using flag = polyproc::shared<polyproc::event>;

void watch(flag first_line_said) {
  try {
    auto child = polyproc::launch([] {});
  } catch (std::logic_error const& problem) {
    say("daemon: ", problem.what());
  }
  say("daemon: my first line");
  first_line_said->set();
  std::this_thread::sleep_for(5s);
  say("daemon: my second line");
}

void work(polyproc::process_ref daemon, flag begun) {
  say("worker: the daemon is ", daemon.is_alive() ? "alive" : "not alive");
  begun->set();
  daemon.join();
  say("worker: the daemon has ended, and I still work");
}

// They live longer than main: a process object that is destroyed ends its process, and here the end of main shall do that.
polyproc::process daemon_child, worker;

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "daemon", {"--kill"});

  flag first_line_said, worker_begun;
  daemon_child = polyproc::process{{.name = "watcher", .daemon = true}, watch, first_line_said};
  daemon_child.start();
  try {
    daemon_child.set_daemon(false);
  } catch (std::logic_error const& problem) {
    say("main: ", problem.what());
  }
  first_line_said->wait();
  worker = polyproc::launch(work, daemon_child.ref(), worker_begun);
  worker_begun->wait();

  if (given.has("--kill")) {
    say("main: kills itself");
    polyproc::this_process::self().kill();
  }
  say("main: returns");
}
