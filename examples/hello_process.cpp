// Functions in processes of their own.
//
//   hello_process [--start fork|spawn|forkserver]
//
// What to look at: a process holds a function and its arguments; start() runs it, join() waits for its end. An aggregate
// parameter with designated initializers does what keyword arguments do in Python. The target may be a function, a lambda
// that captures nothing, a function object, or an object with run(): of that one only run() executes in the child. The
// same program works under every start method.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using example::say;
namespace this_process = polyproc::this_process;

void task(std::string const& name) {
  say(name, " running");
  std::this_thread::sleep_for(50ms);
  say(name, " done");
}

struct person {
  std::string name;
  int age = 0;
};
void task_of_person(person const& who) {
  say(who.name, " running");
  say(who.name, " is ", who.age);
  std::this_thread::sleep_for(50ms);
  say(who.name, " done");
}

void four_children() {
  std::vector<polyproc::process> all;
  for (char const* name : {"alex", "ben", "coco"}) all.emplace_back(task, name);  // as std::thread, but not started
  all.emplace_back(task_of_person, person{.name = "egon", .age = 18});
  say("main: four processes are made, none was started");
  for (auto& p : all) p.start();
  for (auto& p : all) p.join();
  say("main: all have ended");
}

void started_twice() {
  polyproc::process p{[] {}};
  p.start();
  try {
    p.start();
  } catch (std::logic_error const& problem) {
    say("a second start: ", problem.what());
  }
  p.join();
}

// --- what a target may be

void function(int n) { say("a function got ", n, " in ", this_process::name()); }

struct adder {
  int by = 0;
  void operator()(int n) const { say("a function object makes ", n + by, " of ", n, " in ", this_process::name()); }
};

/// Who would derive from Process and override run in Python writes this.
struct download {
  std::string file;
  void check() const { say("download: check() of ", file, " in ", this_process::name()); }
  void run() const { say("download: run() of ", file, " in ", this_process::name()); }
};

void all_kinds_of_targets() {
  // Without a name of its own a process is called by its target's class, or "process", and a number.
  polyproc::process f{{.name = "the first child"}, function, 1};
  f.start();
  f.join();
  polyproc::process l{{.name = "the second child"},
                      [](int n) { say("a lambda got ", n, " in ", this_process::name()); }, 2};
  l.start();
  l.join();
  auto o = polyproc::launch(adder{.by = 10}, 3);  // made and started
  o.join();

  download const work{"eggs.txt"};
  work.check();
  polyproc::process p{work};
  p.start();
  p.join();
  p.run();  // here, in the caller
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "hello_process");

  four_children();
  started_twice();
  all_kinds_of_targets();
}
