// What becomes of processes whose parent does not look after them.
//
//   orphan_and_zombie [--start fork|spawn|forkserver]
//
// What to look at: a process that has ended stays in the system's table, as a zombie, until its parent takes its status;
// polyproc does that at join, at the next start, at active_children and when the process object is destroyed. A process that
// was detached goes on when its parent ends, as an orphan, which the system gives another parent. Windows has no zombies.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <chrono>
#include <optional>
#include <thread>
#include <utility>

namespace {

using namespace std::chrono_literals;
using example::say;

/// What the system's table of processes says of one of them, if it descends from `ancestor` (or is it).
std::optional<polyproc::process_row> row_of(long pid, long ancestor) {
  for (auto const& row : polyproc::process_tree(ancestor))
    if (row.pid == pid) return row;
  return std::nullopt;
}
std::optional<polyproc::process_row> row_of(long pid) { return row_of(pid, pid); }

/// Looks again until the table says what is awaited: the system needs a moment.
template <class Condition>
std::optional<polyproc::process_row> look_until(long pid, Condition const& awaited) {
  auto const give_up = std::chrono::steady_clock::now() + 10s;
  auto row = row_of(pid);
  while (!awaited(row) && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::sleep_for(1ms);
    row = row_of(pid);
  }
  return row;
}

/// A child that ends while its parent does something else; then `take`, which takes its status.
template <class Take>
void zombie(char const* what, Take take) {
  auto p = polyproc::launch([] {});
  auto const pid = *p.pid();
  // p itself is not asked: to find out that it has ended is to take its status.
  if constexpr (polyproc::native_backend::has_fork) {
    auto const row = look_until(pid, [](auto const& r) { return r && r->state == polyproc::process_state::ended; });
    say("zombie: the table says ", row ? to_string(row->state) : "gone");
  } else {
    auto const row = look_until(pid, [](auto const& r) { return !r; });
    say("zombie: the table says ", row ? to_string(row->state) : "gone", ": there are none on Windows");
  }
  take(p);
  say("zombie: after ", what, " the table says ", row_of(pid) ? "STILL THERE" : "gone");
}

void zombies() {
  zombie("join()", [](polyproc::process& p) { p.join(); });
  zombie("active_children()", [](polyproc::process&) { (void)polyproc::active_children(); });
  zombie("the next start()", [](polyproc::process&) {
    auto other = polyproc::launch([] {});
    other.join();
  });
  zombie("the end of its object", [](polyproc::process& p) { auto const last = std::move(p); });
}

struct stage {
  polyproc::event begun;
  polyproc::event seen;
  polyproc::event enough;
};

void go_on_alone(polyproc::shared<stage> s) {
  auto const parent = *polyproc::this_process::parent();
  say("orphan: my parent is ", parent.name(), ", it is ", parent.is_alive() ? "alive" : "not alive");
  s->begun.set();
  parent.join();
  say("orphan: my parent has ended, I go on");
  s->enough.wait();
  say("orphan: enough");
}
void leave_a_child(polyproc::shared<stage> s, polyproc::queue<polyproc::process_ref> to) {
  polyproc::process p{{.name = "orphan"}, go_on_alone, s};
  p.start();
  to.put(p.ref());  // for those who still want to know of it
  p.detach();       // otherwise it would be ended with p
  s->seen.wait();
}

void orphan() {
  polyproc::shared<stage> s;
  polyproc::queue<polyproc::process_ref> children(1);
  polyproc::process middle{{.name = "middle"}, leave_a_child, s, children};
  middle.start();
  auto const left = children.get();
  s->begun.wait();
  auto const before = row_of(left.pid(), *middle.pid());
  say("main: the table has ", left.name(), before ? " below middle" : " ELSEWHERE");
  s->seen.set();
  middle.join();
  say("main: middle has ended, ", left.name(), " is ", left.is_alive() ? "alive" : "not alive");
  if constexpr (polyproc::native_backend::has_fork) {
    auto const has_moved = [&](auto const& row) { return row && before && row->parent != before->parent; };
    say("main: the table has ", left.name(),
        has_moved(look_until(left.pid(), has_moved)) ? " below another parent" : " WHERE IT WAS");
  } else {
    say("main: Windows gives an orphan no other parent");
  }
  s->enough.set();
  left.join();
  say("main: ", left.name(), " has ended too");
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "orphan_and_zombie");

  zombies();
  orphan();
}
