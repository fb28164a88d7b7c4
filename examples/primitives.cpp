// Each of the library's means to keep processes in step, in a few lines: recursive_mutex, shared_mutex, semaphore,
// bounded_semaphore, condition_variable, event, barrier, latch, once_flag, guarded.
//
//   primitives
//
// What to look at: all of them are plain members of a struct in shared memory, and its handle is an argument like any
// other. Each show_ function starts processes that run the functions above it. Every run prints the same.

#include <polyproc/polyproc.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using polyproc::launch;
using polyproc::shared;

bool all_well = true;

void say(std::string const& line) {
  std::puts(line.c_str());
  std::fflush(stdout);  // before a child writes to the same place
}
void expect(bool good, char const* what) {
  if (good) return;
  all_well = false;
  say(std::string("  NOT AS PROMISED: ") + what);
}

/// Waits for all; each must have returned from its function.
void join_all(std::vector<polyproc::process>& running) {
  for (auto& p : running) p.join();
  for (auto& p : running) expect(p.exit_code() == 0, "a process ended in another way than by returning");
  running.clear();
}

// --- recursive_mutex: a function that locks calls another one that locks

struct bank {
  polyproc::recursive_mutex lock;
  long from = 2000;
  long to = 0;
};
void move_one(bank& b, long& account, long by) {
  std::scoped_lock hold{b.lock};
  account += by;
}
void transfer(shared<bank> b, int times) {
  for (int i = 0; i < times; ++i) {
    std::scoped_lock hold{b->lock};  // both sides or none, for all who look
    move_one(*b, b->from, -1);
    move_one(*b, b->to, 1);
  }
}
void show_recursive_mutex() {
  shared<bank> b;
  std::vector<polyproc::process> running;
  for (int i = 0; i < 2; ++i) running.push_back(launch(transfer, b, 1000));
  join_all(running);
  say("recursive_mutex: 2 processes moved 1000 each, locking twice over: " + std::to_string(b->from) + " left, " +
      std::to_string(b->to) + " arrived");
  expect(b->from == 0 && b->to == 2000, "money was lost");
}

// --- shared_mutex: any number of readers, or one writer

struct board {
  polyproc::shared_mutex lock;
  polyproc::latch inside{3};
  polyproc::event leave;
  long value = 1;
};
void read_board(shared<board> b) {
  polyproc::shared_lock hold{b->lock};
  b->inside.arrive_and_wait();  // this ends only if all three have the lock at the same time
  b->leave.wait();
}
void show_shared_mutex() {
  shared<board> b;
  std::vector<polyproc::process> running;
  for (int i = 0; i < 3; ++i) running.push_back(launch(read_board, b));
  b->inside.wait();
  bool const too_early = b->lock.try_lock();
  say(std::string("shared_mutex: 3 readers inside; a writer ") + (too_early ? "GOT IN" : "must wait"));
  expect(!too_early, "a writer among readers");
  if (too_early) b->lock.unlock();
  b->leave.set();
  {
    polyproc::unique_lock hold{b->lock};  // waits until the last reader has gone
    b->value = 2;
  }
  join_all(running);
  say("shared_mutex: the readers left, and the writer wrote");
}

// --- semaphore: a count of things that are there

struct mailbox {
  polyproc::semaphore letters;  // begins with none
  std::atomic<int> read{0};
};
void read_letters(shared<mailbox> box, int many) {
  for (int i = 0; i < many; ++i) {
    box->letters.acquire();
    ++box->read;
  }
}
void show_semaphore() {
  shared<mailbox> box;
  std::vector<polyproc::process> running;
  running.push_back(launch(read_letters, box, 5));
  box->letters.release();
  box->letters.release(4);
  join_all(running);
  say("semaphore: 5 released, " + std::to_string(box->read) + " acquired, " + std::to_string(box->letters.value()) +
      " left; one more in vain: " + (box->letters.try_acquire_for(10ms) ? "GOT IT" : "not within 10 ms"));
  expect(box->read == 5 && box->letters.value() == 0, "the semaphore has miscounted");
}

// --- bounded_semaphore: at most so many at once; a permit belongs to who took it, and comes back when that one dies

struct room {
  polyproc::bounded_semaphore seats{2};
  std::atomic<int> inside{0};
  std::atomic<int> too_many{0};
  polyproc::event taken;
};
void sit_down(shared<room> r) {
  r->seats.acquire();
  if (++r->inside > 2) ++r->too_many;
  std::this_thread::sleep_for(5ms);
  --r->inside;
  r->seats.release();
}
void fall_asleep(shared<room> r) {
  r->seats.acquire();
  r->taken.set();
  for (;;) std::this_thread::sleep_for(1s);
}
void show_bounded_semaphore() {
  shared<room> r;
  std::vector<polyproc::process> running;
  for (int i = 0; i < 6; ++i) running.push_back(launch(sit_down, r));
  join_all(running);
  say(std::string("bounded_semaphore: 6 processes, 2 permits: ") +
      (r->too_many == 0 ? "never more than 2 inside" : "TOO MANY inside"));
  expect(r->too_many == 0, "more than 2 had one of 2 permits");

  auto sleeper = launch(fall_asleep, r);
  r->taken.wait();
  sleeper.kill();
  sleeper.join();
  r->seats.acquire();
  r->seats.acquire();  // the one that the dead process had
  say("bounded_semaphore: a holder was killed, and both permits are there");
  r->seats.release();
  r->seats.release();
  try {
    r->seats.release();
    expect(false, "a release without a permit was let pass");
  } catch (std::system_error const& problem) {
    expect(problem.code() == std::errc::operation_not_permitted, "another error than promised");
    say("bounded_semaphore: a release too many is an error");
  }
}

// --- condition_variable: wait until something is so, without holding the lock meanwhile

struct table {
  polyproc::mutex lock;
  polyproc::condition_variable changed;
  int turn = 0;
};
void play(shared<table> t, int me, std::string const& call) {
  for (int i = 0; i < 2; ++i) {
    polyproc::unique_lock hold{t->lock};
    t->changed.wait(hold, [&] { return t->turn % 2 == me; });
    say("condition_variable: " + call);
    ++t->turn;
    t->changed.notify_one();
  }
}
void show_condition_variable() {
  shared<table> t;
  std::vector<polyproc::process> running;
  running.push_back(launch(play, t, 1, "pong"));
  running.push_back(launch(play, t, 0, "ping"));
  join_all(running);
  expect(t->turn == 4, "a turn is missing");
}

// --- event: a flag that can be waited for

struct race {
  polyproc::event go;
  std::atomic<int> started_early{0};
  std::atomic<int> ran{0};
};
void run(shared<race> r) {
  r->go.wait();
  if (!r->go.is_set()) ++r->started_early;
  ++r->ran;
}
void show_event() {
  shared<race> r;
  std::vector<polyproc::process> running;
  for (int i = 0; i < 3; ++i) running.push_back(launch(run, r));
  std::this_thread::sleep_for(20ms);
  int const before = r->ran;
  r->go.set();
  join_all(running);
  say("event: before set() " + std::to_string(before) + " went on, after it " + std::to_string(r->ran));
  expect(before == 0 && r->ran == 3 && r->started_early == 0, "somebody did not wait for the event");
}

// --- latch: wait once, until all are ready

struct start_up {
  polyproc::latch ready{3};
  std::atomic<int> prepared{0};
};
void prepare(shared<start_up> s) {
  ++s->prepared;
  s->ready.count_down();
}
void show_latch() {
  shared<start_up> s;
  std::vector<polyproc::process> running;
  for (int i = 0; i < 3; ++i) running.push_back(launch(prepare, s));
  s->ready.wait();
  say("latch: " + std::to_string(s->prepared) + " are ready");
  expect(s->prepared == 3, "the latch opened too early");
  join_all(running);
}

// --- barrier: all wait for each other, again and again; who dies is noticed

struct relay {
  polyproc::barrier meet{3};
  std::atomic<int> steps{0};
};
void walk(shared<relay> r) {
  for (int phase = 1; phase <= 3; ++phase) {
    ++r->steps;
    auto const place = r->meet.arrive_and_wait();
    bool const all_here = r->steps == 3 * phase;
    if (place == 0)
      say("barrier: phase " + std::to_string(phase) + ": " +
          (all_here ? "all 3 took their step" : "somebody is MISSING"));
    if (!all_here) throw std::logic_error("the barrier let somebody pass too early");
    (void)r->meet.arrive_and_wait();  // nobody steps on while others still count
  }
}
void get_lost(shared<relay> r) {
  r->meet.join();  // a member from now on
  r->steps = 1;
  for (;;) std::this_thread::sleep_for(1s);
}
void show_barrier() {
  shared<relay> r;
  std::vector<polyproc::process> running;
  for (int i = 0; i < 3; ++i) running.push_back(launch(walk, r));
  join_all(running);

  shared<relay> again;
  auto lost = launch(get_lost, again);
  while (again->steps == 0) std::this_thread::sleep_for(1ms);
  lost.kill();
  lost.join();
  try {
    (void)again->meet.arrive_and_wait();
    expect(false, "the barrier did not notice a death");
  } catch (polyproc::broken_barrier const&) {
    say("barrier: a member was killed, and the others are told");
  }
}

// --- once_flag: whoever comes first does it

struct setting {
  polyproc::once_flag once;
  std::atomic<int> made{0};
};
void use(shared<setting> s) {
  polyproc::call_once(s->once, [&] { ++s->made; });
  if (s->made != 1) throw std::logic_error("call_once returned before it was done");
}
void show_once_flag() {
  shared<setting> s;
  std::vector<polyproc::process> running;
  for (int i = 0; i < 3; ++i) running.push_back(launch(use, s));
  join_all(running);
  say("once_flag: 3 processes called, done " + std::to_string(s->made) + " time");
  expect(s->made == 1, "it was done more than once");
}

// --- guarded: data that cannot be reached without its lock

struct score {
  long points = 0;
  long games = 0;
};
void win(shared<polyproc::guarded<score>> s, int times) {
  for (int i = 0; i < times; ++i) {
    auto held = s->lock();
    held->points += 3;
    ++held->games;
  }
}
void show_guarded() {
  shared<polyproc::guarded<score>> s;
  std::vector<polyproc::process> running;
  for (int i = 0; i < 3; ++i) running.push_back(launch(win, s, 1000));
  join_all(running);
  s->with([](score& end) {
    say("guarded: " + std::to_string(end.games) + " games, " + std::to_string(end.points) + " points");
    expect(end.games == 3000 && end.points == 9000, "a game was lost");
  });
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);

  if (argc > 1) {
    std::fprintf(stderr, "usage: primitives\n");
    return 2;
  }
  try {
    show_recursive_mutex();
    show_shared_mutex();
    show_semaphore();
    show_bounded_semaphore();
    show_condition_variable();
    show_event();
    show_latch();
    show_barrier();
    show_once_flag();
    show_guarded();
    return all_well ? 0 : 1;
  } catch (std::exception const& problem) {
    std::fprintf(stderr, "primitives: %s\n", problem.what());
    return 1;
  }
}
