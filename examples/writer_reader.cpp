// A queue between a writer and a reader: processes first, then threads.
//
//   writer_reader [--start fork|spawn|forkserver]
//
// What to look at: the same functions work on a queue, which processes share, and on a local_queue, which is for the threads of
// one process and has the same interface. Every way to put and to get has a form that waits, one with a limit, and one that
// throws instead. close() ends the reader's loop. A joinable queue knows what is still being worked on.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using example::say;

/// How a part of a program runs beside the others. Both are joined like a std::thread.
struct in_processes {
  template <class T>
  using queue = polyproc::queue<T>;
  template <class T>
  using joinable_queue = polyproc::joinable_queue<T>;
  template <class Target, class... Arguments>
  static auto start(Target target, Arguments const&... arguments) {
    return polyproc::launch(target, arguments...);
  }
};
struct in_threads {
  template <class T>
  using queue = polyproc::local_queue<T>;
  template <class T>
  using joinable_queue = polyproc::local_joinable_queue<T>;
  template <class Target, class... Arguments>
  static auto start(Target target, Arguments const&... arguments) {
    return std::thread(target, arguments...);
  }
};

// --- A to E, from one to the other

template <class Queue>
void write(Queue q) {
  for (char const* letter : {"A", "B", "C", "D", "E"}) {
    say("writer: puts ", letter);
    q.put(letter);  // waits while there are two that nobody has taken
  }
  say("writer: closes the queue");
  q.close();
}
template <class Queue>
void read(Queue q) {
  for (std::string const& letter : q) say("reader: got ", letter);  // waits for the next one; ends with the queue
  say("reader: the queue is closed and empty");
}

template <class How>
void from_a_to_e() {
  using queue = typename How::template queue<std::string>;
  queue const q(2);
  auto writer = How::start(&write<queue>, q);
  auto reader = How::start(&read<queue>, q);
  writer.join();
  reader.join();
}

// --- what cannot be done at once

template <class How>
void limits() {
  typename How::template queue<int> const q(2);
  auto const describe = [&](char const* when) {
    say("main: ", when, ": size ", q.size(), " of ", q.capacity(), q.empty() ? ", empty" : q.full() ? ", full" : "");
  };
  describe("a new queue");
  q.put(1);
  describe("after one put");
  q.put_nowait(2);
  describe("after another");
  say("main: a third one within 20 ms: ", q.put_for(3, 20ms) ? "put" : "no");
  try {
    q.put_nowait(3);
  } catch (polyproc::queue_full const& problem) {
    say("main: put_nowait: ", problem.what());
  }
  int const first = q.get();
  say("main: got ", first, " and ", q.get_for(20ms).value_or(0));
  say("main: a third one within 20 ms: ", q.get_for(20ms) ? "got" : "no");
  try {
    (void)q.get_nowait();
  } catch (polyproc::queue_empty const& problem) {
    say("main: get_nowait: ", problem.what());
  }
  polyproc::queue_status why{};
  if (!q.try_get(why)) say("main: try_get: ", why == polyproc::queue_status::empty ? "empty" : "closed");
  q.close();
  if (!q.try_get(why)) say("main: try_get after close: ", why == polyproc::queue_status::closed ? "closed" : "empty");
  try {
    q.put(3);
  } catch (polyproc::queue_closed const& problem) {
    say("main: put after close: ", problem.what());
  }
}

// --- what is still being worked on

template <class Queue>
void work(Queue tasks) {
  for (int n : tasks) {
    say("task-", n, " is done");
    tasks.task_done();
  }
}

template <class How>
void until_all_is_done() {
  using queue = typename How::template joinable_queue<int>;
  queue const tasks;  // as many as memory holds
  for (int n = 1; n <= 6; ++n) tasks.put(n);
  say("main: within 20 ms all tasks are done: ", tasks.join_for(20ms) ? "yes" : "no");  // nobody works yet
  std::vector<decltype(How::start(&work<queue>, tasks))> workers;
  for (int i = 0; i < 2; ++i) workers.push_back(How::start(&work<queue>, tasks));
  tasks.join();
  say("main: all tasks are done");
  tasks.close();
  for (auto& w : workers) w.join();
}

template <class How>
void show() {
  from_a_to_e<How>();
  limits<How>();
  until_all_is_done<How>();
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "writer_reader");

  say("-- processes");
  show<in_processes>();
  say("-- threads");
  show<in_threads>();
}
