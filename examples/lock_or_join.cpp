// Three processes print three lines each, and the lines of one are to stay together: with a lock, or by joining.
//
//   lock_or_join [--no-lock]
//
// What to look at: a mutex in shared memory is the same lock in every process, so each task has its say undisturbed, in
// whatever order they come. To join each task before the next is started fixes the order as well, but then no two run
// side by side. A guard unlocks however its scope is left. A second lock by the holder is an error and not a hang. With
// --no-lock the lock is left away, and the lines mix.

#include <polyproc/polyproc.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;

constexpr unsigned lines = 3;
constexpr char const* names[] = {"Anna", "Ben", "Carla"};
constexpr unsigned tasks = 3;

/// The lock guards the terminal. The record says who printed which line, so that main can judge it.
struct console {
  polyproc::mutex lock;
  std::atomic<unsigned> printed{0};
  unsigned by[tasks * lines] = {};
};

void say(std::string const& line) {
  std::puts(line.c_str());
  std::fflush(stdout);  // at once: kept in a buffer, the lines of a process would come together by themselves
}

/// A task.
void three_lines(polyproc::shared<console> out, unsigned task, bool locked) {
  polyproc::unique_lock hold{out->lock, std::defer_lock};
  if (locked) hold.lock();
  for (unsigned i = 1; i <= lines; ++i) {
    say(names[task] + std::string(" line ") + std::to_string(i));
    out->by[out->printed++] = task;
    std::this_thread::sleep_for(20ms);  // time for the others to interrupt
  }
}  // the guard unlocks here

/// A task that finds the lock held by its parent.
void knock(polyproc::shared<console> out) {
  polyproc::unique_lock const hold{out->lock, 50ms};
  if (hold) throw std::logic_error("two processes hold one lock");
  say("  the child waited for 50 ms and did not get it");
}

/// A task that gives up while it holds the lock.
void stumble(polyproc::shared<console> out) {
  try {
    std::scoped_lock hold{out->lock};
    throw std::runtime_error("it stumbled");
  } catch (std::runtime_error const& problem) {
    say(std::string("  the child says: ") + problem.what());
  }
}

bool lines_stay_together(console const& out) {
  for (unsigned i = 0; i < tasks * lines; ++i)
    if (out.by[i] != out.by[i - i % lines]) return false;
  return out.printed == tasks * lines;
}
bool in_order_of_start(console const& out) {
  for (unsigned i = 0; i < tasks * lines; ++i)
    if (out.by[i] != i / lines) return false;
  return out.printed == tasks * lines;
}

bool with_a_lock(bool locked) {
  say(locked ? "-- with a lock: the lines stay together, the order of the tasks is free"
             : "-- without the lock: the lines may mix");
  polyproc::shared<console> out;
  std::vector<polyproc::process> running;
  for (unsigned task = 0; task < tasks; ++task) running.push_back(polyproc::launch(three_lines, out, task, locked));
  for (auto& p : running) p.join();
  bool const together = lines_stay_together(*out);
  say(together ? "  together" : "  mixed");
  return together || !locked;
}

bool with_join() {
  say("-- with join: the order is that of the starts, and only one runs at a time");
  polyproc::shared<console> out;
  for (unsigned task = 0; task < tasks; ++task) {
    auto p = polyproc::launch(three_lines, out, task, false);
    p.join();
  }
  bool const ordered = in_order_of_start(*out);
  say(ordered ? "  in order" : "  NOT in order");
  return ordered;
}

bool one_lock_for_all() {
  say("-- the same lock in all processes: main holds it");
  polyproc::shared<console> out;
  std::scoped_lock hold{out->lock};
  auto p = polyproc::launch(knock, out);
  p.join();
  return p.exit_code() == 0;
}

bool guards_unlock() {
  say("-- a guard unlocks, also when an exception leaves its scope");
  polyproc::shared<console> out;
  auto p = polyproc::launch(stumble, out);
  p.join();
  polyproc::unique_lock const hold{out->lock, std::try_to_lock};
  say(hold ? "  main has the lock" : "  the lock is STILL HELD");
  return p.exit_code() == 0 && hold.owns_lock();
}

bool second_lock() {
  say("-- a second lock by the holder");
  polyproc::shared<console> out;
  std::scoped_lock hold{out->lock};
  try {
    out->lock.lock();
  } catch (std::system_error const& problem) {
    say(std::string("  ") + problem.what());
    return problem.code() == std::errc::resource_deadlock_would_occur;
  }
  say("  it was LET PASS");
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);

  bool const locked = argc < 2 || std::string_view(argv[1]) != "--no-lock";
  if (argc > 2 || (argc == 2 && locked)) {
    std::fprintf(stderr, "usage: lock_or_join [--no-lock]\n");
    return 2;
  }
  try {
    bool good = with_a_lock(locked);
    good &= with_join();
    good &= one_lock_for_all();
    good &= guards_unlock();
    good &= second_lock();
    return good ? 0 : 1;
  } catch (std::exception const& problem) {
    std::fprintf(stderr, "lock_or_join: %s\n", problem.what());
    return 1;
  }
}
