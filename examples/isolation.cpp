// Processes do not share their variables.
//
//   isolation [--start fork|spawn|forkserver]
//
// What to look at: the child sets n to 200, and the parent's n is 100 all the same, under fork too, where the child begins as a
// copy of the parent. What is to be shared is asked for: a polyproc::shared<T>.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <atomic>

namespace {

using example::say;

int n = 100;

void change(polyproc::shared<std::atomic<int>> common) {
  n = 200;
  *common = 200;
  say("child: n == ", n, ", *common == ", *common);
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "isolation");

  polyproc::shared<std::atomic<int>> common;
  *common = 100;
  auto p = polyproc::launch(change, common);
  p.join();
  say("main: n == ", n, ", *common == ", *common);
}
