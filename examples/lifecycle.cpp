// A process from before its start until after its end.
//
//   lifecycle [--start fork|spawn|forkserver]
//
// What to look at: names and numbers, in the parent and in the child; terminate() and kill() are requests, so a process may
// still be alive right after them, and is not after join(); when it has ended they do nothing.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;
using example::say;
namespace this_process = polyproc::this_process;

/// A target that is an object gives the process its class's name.
struct sleeper {
  polyproc::shared<polyproc::event> ready;

  void run() const {
    say(this_process::name(), ": pid ", this_process::pid(), ", parent ", this_process::parent_pid(), ", whose name is ",
        this_process::parent()->name());
    ready->set();
    std::this_thread::sleep_for(1h);
  }
};

std::string text(std::optional<long> number) { return number ? std::to_string(*number) : "none"; }
std::string text(std::optional<int> number) { return number ? std::to_string(*number) : "none"; }

void describe(char const* when, polyproc::process const& p) {
  say("main: ", when, ": pid ", text(p.pid()), ", ", p.is_alive() ? "alive" : "not alive", ", exit code ",
      text(p.exit_code()), ", active children ", polyproc::active_children().size());
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "lifecycle");

  say("main: pid ", this_process::pid(), ", parent ", this_process::parent_pid(),
      ", started by polyproc: ", this_process::parent() ? "yes" : "no");

  polyproc::shared<polyproc::event> ready;
  polyproc::process p{sleeper{ready}};
  say("main: its name is ", p.name());
  p.set_name("dozer");
  describe("before the start", p);
  p.start();
  ready->wait();
  describe("after the start", p);
  for (auto const& child : polyproc::active_children())
    say("main: an active child: ", child.name(), ", pid ", child.pid());
  try {
    p.set_name("too late");
  } catch (std::logic_error const& problem) {
    say("main: ", problem.what());
  }

  p.terminate();
  // Here p.is_alive() may be true or false: the request is on its way.
  p.join();
  describe("after terminate and join", p);
  p.terminate();
  p.kill();
  describe("after two more requests", p);

  ready->clear();
  auto q = polyproc::launch(sleeper{ready});
  ready->wait();
  q.kill();
  q.join();
  describe("after kill and join", q);
}
