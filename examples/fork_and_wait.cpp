// fork and wait, as Unix has them.
//
//   fork_and_wait [--start fork|spawn|forkserver]
//
// What to look at: one call returns twice, with a handle in the parent and with nothing in the child, which goes on behind the
// call with a copy of every variable. wait() tells which child has ended, and how. There is no such thing on Windows.
// (--start changes nothing: fork is named here.)

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

namespace {

using example::say;

// A template, because only there the branch not taken may hold what this system does not have.
template <class Backend>
void show() {
  if constexpr (!Backend::has_fork) {
    say("this system cannot copy a running process: there is no fork here");
  } else {
    int number = 100;
    auto const child = polyproc::fork<Backend>();
    if (!child) {
      number += 100;
      say("child: number == ", number, ", my parent's pid is ", polyproc::this_process::parent_pid());
      polyproc::this_process::exit(7);  // its result
    }
    auto const ended = polyproc::wait<Backend>();
    say("parent: number == ", number, ", my pid is ", polyproc::this_process::pid());
    say("parent: the child that ended is ", ended->pid == child->pid() ? "mine" : "ANOTHER", ", its result is ",
        ended->status.code);
    say("parent: there are ", polyproc::wait<Backend>() ? "MORE" : "no more");
  }
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "fork_and_wait");

  show<polyproc::native_backend>();
}
