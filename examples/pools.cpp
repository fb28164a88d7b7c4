// The same code on a pool of processes and on a pool of threads.
//
//   pools [--start fork|spawn|forkserver]
//
// What to look at: `tour` is written against the concept polyproc::executor and knows nothing of the pool that it is given. Its
// futures are asked, waited for, cancelled, combined and told of in the same way, and both pools print the same. What only one of
// them can do comes afterwards: a process can be ended, and can crash without harm; a thread sees what its creator sees.

#include "support/arguments.hpp"
#include "support/say.hpp"
#include "support/stopwatch.hpp"

#include <polyproc/polyproc.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using example::say;
using example::stopwatch;

using flag = polyproc::shared<std::atomic<bool>>;

// --- Tasks. What a process is to run has no captures, and arguments that can travel; threads do not mind.

int after(std::chrono::milliseconds time, int value) {
  std::this_thread::sleep_for(time);
  return value;
}
int fail_after(std::chrono::milliseconds time) {
  std::this_thread::sleep_for(time);
  throw std::invalid_argument("no such dish");
}
int square(int n) { return n * n; }
/// Works until it is asked to stop.
int until_stopped(flag begun) {
  *begun = true;
  while (polyproc::this_task::sleep_for(10ms)) continue;
  return 0;
}
void endless(flag begun) {
  *begun = true;
  bool volatile for_ever = true;
  while (for_ever) continue;
}
void crash() { std::abort(); }

// --- What both pools do alike.

std::string how_it_ended(std::exception_ptr const& problem) {
  if (!problem) return "a value";
  try {
    std::rethrow_exception(problem);
  } catch (polyproc::task_cancelled const&) {
    return "task_cancelled";
  } catch (polyproc::time_limit_exceeded const&) {
    return "time_limit_exceeded";
  } catch (std::invalid_argument const& error) {
    return std::string("std::invalid_argument, ") + error.what();
  } catch (std::exception const& error) {
    return error.what();
  }
}

template <polyproc::executor Pool>
std::vector<polyproc::future<int>> three(Pool& pool) {
  std::vector<polyproc::future<int>> all;
  all.push_back(pool.submit(after, 300ms, 30));
  all.push_back(pool.submit(after, 100ms, 10));
  all.push_back(pool.submit(after, 200ms, 20));
  return all;
}

template <class Numbers>
std::string listed(Numbers const& numbers) {
  std::string text;
  for (auto const n : numbers) text += " " + std::to_string(n);
  return text;
}

template <polyproc::executor Pool>
void tour(Pool& pool) {
  // One future.
  auto f = pool.submit(after, 50ms, 1);
  bool const early = f.ready();
  f.wait();
  bool const late = f.ready();
  int const one = f.get();
  say("a future: ready at first: ", early ? "yes" : "no", ", after wait: ", late ? "yes" : "no", "; its value: ", one);
  say("an exception: ", how_it_ended(pool.submit(fail_after, 0ms).exception()));

  polyproc::queue<std::string> const heard;
  pool.submit(after, 20ms, 2).on_done([&heard](auto const& done) { heard.put("a value, " + std::to_string(done.get())); });
  say("a callback heard of ", heard.get());
  pool.submit(fail_after, 20ms).on_done([&heard](auto const& done) { heard.put(how_it_ended(done.exception())); });
  say("another one heard of ", heard.get());
  auto next = pool.submit(after, 20ms, 3).then([](int n) { return n + 1; });
  say("then, and then: ", next.then([](int n) { return "three makes " + std::to_string(n); }).get());

  // Cancelling, a task that runs and one that waits.
  flag const begun;
  auto running = pool.submit(until_stopped, begun);
  while (!*begun) std::this_thread::sleep_for(1ms);
  std::vector<polyproc::future<int>> busy;
  for (std::size_t i = 0; i < pool.size(); ++i) busy.push_back(pool.submit(after, 200ms, 0));
  flag const begun_too;
  auto waiting = pool.submit(until_stopped, begun_too);
  bool const one_stopped = waiting.cancel();
  bool const other_stopped = running.cancel();
  say("cancel of one that waits: ", one_stopped ? "yes, " : "no, ", how_it_ended(waiting.exception()),
      *begun_too ? "; it had begun" : "; it never began");
  say("cancel of one that runs: ", other_stopped ? "yes, " : "no, ", how_it_ended(running.exception()));
  say("cancel of one that is done: ", busy[0].exception() || busy[0].cancel() ? "yes" : "no");
  flag const limited;
  auto long_one = pool.submit({.time_limit = 50ms}, until_stopped, limited);
  say("a time limit: ", how_it_ended(long_one.exception()));

  // Several futures.
  {
    auto all = three(pool);
    auto const some = polyproc::wait(all, polyproc::return_when::first_completed);
    say("wait for the first: done", listed(some.done), ", not done", listed(some.not_done));
    auto const rest = polyproc::wait(all);
    say("wait for all: done", listed(rest.done), ", not done", listed(rest.not_done));
  }
  {
    auto all = three(pool);
    all[1] = pool.submit(fail_after, 100ms);
    auto const some = polyproc::wait(all, polyproc::return_when::first_exception);
    say("wait for the first exception: done", listed(some.done), ", not done", listed(some.not_done));
    polyproc::wait(all);
  }
  {
    auto all = three(pool);
    std::vector<int> values;
    for (auto& done : polyproc::as_completed(all)) values.push_back(done.get());
    say("as_completed:", listed(values));
  }
  say("when_all:", listed(polyproc::when_all(three(pool)).get()));
  {
    auto first = polyproc::when_any(three(pool)).get();
    say("when_any: number ", first.index, ", ", first.futures[first.index].get());
    polyproc::wait_for(1s, std::vector<polyproc::shared_future<int>>{first.futures[0].share(), first.futures[2].share()});
  }
  say("map:", listed(pool.map(square, std::vector<int>{1, 2, 3, 4, 5})));

  auto const sum = pool.stats();
  say("so far ", sum.done, " gave a value, ", sum.failed, " failed, ", sum.cancelled, " were stopped, ", sum.lost,
      " were lost; restarted workers: ", sum.restarted);
}

// --- What only one of them can do.

void only_processes(polyproc::process_pool& pool) {
  flag const begun;
  auto stuck = pool.submit(endless, begun);
  while (!*begun) std::this_thread::sleep_for(1ms);
  stopwatch const time;
  (void)stuck.cancel();
  say("an endless loop is cancelled: ", how_it_ended(stuck.exception()), ", ", time.elapsed() < 2s ? "at once" : "late");
  auto lost = pool.submit({.name = "the last soup"}, crash);
  try {
    lost.get();
  } catch (polyproc::worker_lost const& problem) {
    bool const told = std::string(problem.what()).find("the last soup") != std::string::npos;
    say("a crash: worker_lost", told ? ", and its message names the task" : "");
  }
  say("the pool goes on:", listed(pool.map(square, std::vector<int>{6, 7, 8})), ", with ", pool.size(), " workers");
}

void only_threads(polyproc::thread_pool& pool) {
  int eggs = 3;
  pool.submit([&eggs] { eggs += 4; }).get();
  say("a capture by reference: ", eggs, " eggs");
  auto two_squares = [&pool](int n) { return pool.submit(square, n).get() + pool.submit(square, n + 1).get(); };
  auto outer = pool.map(two_squares, std::vector<int>{1, 2, 3, 4, 5, 6});
  say("tasks that wait for tasks of their own pool:", listed(outer));
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "pools");

  say("-- process_pool");
  polyproc::process_pool processes{3};
  tour(processes);
  say("-- thread_pool");
  polyproc::thread_pool threads{3};
  tour(threads);
  say("-- only processes");
  only_processes(processes);
  say("-- only threads");
  only_threads(threads);
}
