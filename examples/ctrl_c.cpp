// Ctrl-C and which of our processes heed it.
//
//   ctrl_c [--start fork|spawn|forkserver] [--wait]
//
// What to look at: Ctrl-C at a terminal reaches every process of the foreground group, this one and its children alike. One
// child is ended by it; the other was started with .ignore_interrupt and finishes its work. --wait waits for a Ctrl-C from you;
// without it the program interrupts its children itself. (Windows has no way to do that to one process: interrupt() ends it
// there, so the one that is to ignore it is left alone.)

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <atomic>
#include <csignal>

namespace {

using example::say;

struct stage {
  polyproc::latch begun{2};
  polyproc::event finish;
};

void work(polyproc::shared<stage> s) {
  s->begun.count_down();
  s->finish.wait();
  say(polyproc::this_process::name(), ": finished my work");
}

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // which is what a signal handler may use
void on_interrupt(int) { interrupted = true; }

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "ctrl_c", {"--wait"});

  std::signal(SIGINT, on_interrupt);  // here; children do not have this handler
  polyproc::shared<stage> s;
  polyproc::process heeds{{.name = "heeds"}, work, s};
  polyproc::process ignores{{.name = "ignores", .ignore_interrupt = true}, work, s};
  heeds.start();
  ignores.start();
  s->begun.wait();

  if (given.has("--wait")) {
    say("main: press Ctrl-C");
  } else {
    heeds.interrupt();
    if constexpr (polyproc::native_backend::has_fork) ignores.interrupt();
  }
  heeds.join();
  say("main: ", heeds.name(), " ", to_string(*heeds.status()));
  say("main: ", ignores.name(), " is ", ignores.is_alive() ? "alive" : "not alive");
  if (interrupted) say("main: I was interrupted as well");
  s->finish.set();
  ignores.join();
  say("main: ", ignores.name(), " ", to_string(*ignores.status()));
}
