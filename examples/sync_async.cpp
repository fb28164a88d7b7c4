// Having things done: synchronously or asynchronously, blocking or not.
//
//   sync_async [--start fork|spawn|forkserver]
//
// What to look at: `apply` submits and waits, `submit` returns at once with a future. How that ended is learnt by asking
// (`ready`), by waiting (`wait_for`, `get`) or by being told (`on_done`, `then`, `co_await`). The same four tasks are done in the
// four ways that this makes: one after the other or side by side, with main asleep in a call or at work of its own meanwhile. And
// whatever can wait has three forms: one that does not, one with a limit, and one that waits until it is done. All times are in
// milliseconds, of the caller.

#include "support/arguments.hpp"
#include "support/say.hpp"
#include "support/stopwatch.hpp"

#include <polyproc/polyproc.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__cpp_impl_coroutine) && __has_include(<coroutine>)
#include <coroutine>
#define EXAMPLE_HAS_COROUTINES 1
#else
#define EXAMPLE_HAS_COROUTINES 0
#endif

namespace {

using namespace std::chrono_literals;
using example::say;
using example::stopwatch;

constexpr int workers = 4;

int slow_square(int n) {
  std::this_thread::sleep_for(100ms);
  return n * n;
}
void nap() { std::this_thread::sleep_for(100ms); }

// --- Submitting, and the ways to learn how it ended. For any pool.

#if EXAMPLE_HAS_COROUTINES
/// A coroutine: goes on when what it waits for is there.
template <polyproc::executor Pool>
polyproc::future<int> square_twice(Pool& pool, int n) {
  int const once = co_await pool.submit(slow_square, n);
  co_return co_await pool.submit(slow_square, once);
}
#endif

/// What somebody else is told.
class note {
 public:
  void write(std::string text) {
    {
      std::scoped_lock hold{lock_};
      text_ = std::move(text);
    }
    there_.notify_one();
  }
  std::string read() {
    std::unique_lock hold{lock_};
    there_.wait(hold, [this] { return text_.has_value(); });
    return *text_;
  }

 private:
  std::mutex lock_;
  std::condition_variable there_;
  std::optional<std::string> text_;
};

template <polyproc::executor Pool>
void submission(Pool& pool) {
  {
    stopwatch const time;
    int const got = pool.apply(slow_square, 7);
    say("apply: ", got, " after ", time.ms());
  }
  {
    stopwatch const time;
    auto f = pool.submit(slow_square, 8);
    say("submit: returned after ", time.ms());
    long asked = 0;
    bool first = f.ready();
    for (bool ready = first; !ready; ready = f.ready()) {
      ++asked;
      std::this_thread::sleep_for(1ms);  // here it could do something else
    }
    say("asking: ready at first: ", first ? "yes" : "no", ", later: yes, ", f.get(), " after ", time.ms(), ", having asked ",
        asked > 1 ? "more than once" : "once");
  }
  {
    stopwatch const time;
    auto f = pool.submit(slow_square, 9);
    bool const soon = f.wait_for(30ms);
    auto const limited = time.ms();
    int const got = f.get();
    say("waiting: wait_for(30ms): ", soon ? "ready" : "not yet", " after ", limited, ", get: ", got, " after ", time.ms());
  }
  {
    stopwatch const time;
    note heard;
    pool.submit(slow_square, 10).on_done([&heard, &time](auto const& done) {
      heard.write(std::to_string(done.get()) + " after " + std::to_string(time.ms()));
    });
    auto const returned = time.ms();
    say("on_done: main went on after ", returned, "; it was told ", heard.read());
  }
  {
    stopwatch const time;
    auto f = pool.submit(slow_square, 11).then([](int n) { return "the square is " + std::to_string(n); });
    auto const returned = time.ms();
    auto const got = f.get();
    say("then: main went on after ", returned, "; ", got, " after ", time.ms());
  }
#if EXAMPLE_HAS_COROUTINES
  {
    stopwatch const time;
    auto f = square_twice(pool, 3);
    auto const returned = time.ms();
    int const got = f.get();
    say("co_await: main went on after ", returned, "; ", got, " after ", time.ms(), ", two tasks one after the other");
  }
#else
  say("co_await: this compiler has no coroutines");
#endif
}

// --- Four tasks in four ways.

/// Keeps this thread busy for about a millisecond.
void step_of_own_work() {
  auto const until = std::chrono::steady_clock::now() + 1ms;
  while (std::chrono::steady_clock::now() < until) continue;
}

/// The steps of own work that main got done, and how long it was in calls that wait.
struct account {
  long steps = 0;
  long waited = 0;
};

template <polyproc::executor Pool>
account synchronous_blocking(Pool& pool) {
  account mine;
  for (int i = 0; i < workers; ++i) {
    stopwatch const time;
    (void)pool.apply(slow_square, i);
    mine.waited += time.ms();
  }
  return mine;
}
template <polyproc::executor Pool>
account synchronous_non_blocking(Pool& pool) {
  account mine;
  for (int i = 0; i < workers; ++i) {
    auto f = pool.submit(slow_square, i);
    while (!f.ready()) {
      step_of_own_work();
      ++mine.steps;
    }
    (void)f.get();
  }
  return mine;
}
template <polyproc::executor Pool>
account asynchronous_blocking(Pool& pool) {
  account mine;
  std::vector<polyproc::future<int>> all;
  for (int i = 0; i < workers; ++i) all.push_back(pool.submit(slow_square, i));
  stopwatch const time;
  for (auto& each : all) (void)each.get();
  mine.waited = time.ms();
  return mine;
}
template <polyproc::executor Pool>
account asynchronous_non_blocking(Pool& pool) {
  account mine;
  std::atomic<int> done{0};
  std::vector<polyproc::future<int>> all;
  for (int i = 0; i < workers; ++i) {
    all.push_back(pool.submit(slow_square, i));
    all.back().on_done([&done](auto const&) { ++done; });
  }
  while (done < workers) {
    step_of_own_work();
    ++mine.steps;
  }
  return mine;
}

template <class Way>
void tell_way(char const* name, Way const& way) {
  stopwatch const time;
  account const mine = way();
  char line[100];
  std::snprintf(line, sizeof line, "%-28s %6ld %15ld %10ld", name, time.ms(), mine.waited, mine.steps);
  say(line);
}

template <polyproc::executor Pool>
void four_ways(Pool& pool) {
  say("4 tasks of 100 ms              took   main slept for  own steps");
  tell_way("synchronous, blocking", [&] { return synchronous_blocking(pool); });
  tell_way("synchronous, non-blocking", [&] { return synchronous_non_blocking(pool); });
  tell_way("asynchronous, blocking", [&] { return asynchronous_blocking(pool); });
  tell_way("asynchronous, non-blocking", [&] { return asynchronous_non_blocking(pool); });
}

// --- What can wait, in its three forms. Each becomes possible after 100 ms.

/// `at_once` and `limited` say whether it could be done.
template <class AtOnce, class Limited, class Waiting>
void three_forms(char const* what, AtOnce const& at_once, Limited const& limited, Waiting const& waiting) {
  stopwatch const first;
  bool const could = at_once();
  auto const tried = first.ms();
  stopwatch const second;
  bool const in_time = limited();
  auto const gave_up = second.ms();
  stopwatch const third;
  waiting();
  char line[100];
  std::snprintf(line, sizeof line, "%-22s %6s %5ld %10s %5ld %12ld", what, could ? "yes" : "no", tried, in_time ? "yes" : "no",
                gave_up, third.ms());
  say(line);
}

/// Does something after 100 ms, in a thread of its own.
template <class What>
std::thread later(What what) {
  return std::thread([what = std::move(what)] {
    std::this_thread::sleep_for(100ms);
    what();
  });
}

struct locks {
  polyproc::mutex lock;
  polyproc::semaphore permits{0};
  polyproc::event flag;
  std::atomic<bool> held{false};
};
void send_later(polyproc::pipe_end<int> out) {
  std::this_thread::sleep_for(100ms);
  out.send(1);
}
void hold_for_a_while(polyproc::shared<locks> s) {
  std::scoped_lock hold{s->lock};
  s->held = true;
  std::this_thread::sleep_for(100ms);
}

void all_that_waits() {
  say("                       at once, in    in 30 ms, in    waited for");
  {
    polyproc::process_pool pool({.workers = 1, .max_waiting = 1});
    (void)pool.apply(slow_square, 0);
    auto running = pool.submit(nap);
    while (pool.stats().running == 0) std::this_thread::sleep_for(1ms);
    auto waiting = pool.submit(nap);
    three_forms(
        "submit to a full pool", [&] { return pool.try_submit(slow_square, 1).has_value(); },
        [&] { return pool.submit_for(30ms, slow_square, 1).has_value(); }, [&] { (void)pool.submit(slow_square, 1); });
    auto f = pool.submit(slow_square, 2);
    while (!waiting.ready() || pool.stats().waiting > 0) std::this_thread::sleep_for(1ms);
    three_forms(
        "a future", [&] { return f.ready(); }, [&] { return f.wait_for(30ms); }, [&] { (void)f.get(); });
  }
  {
    auto p = polyproc::launch(nap);
    three_forms(
        "join of a process", [&] { return !p.is_alive(); }, [&] { return p.join_for(30ms); }, [&] { p.join(); });
  }
  {
    polyproc::queue<int> const q(1);
    auto taker = later([q] { (void)q.get(); });
    q.put(1);
    three_forms(
        "put to a full queue", [&] { return q.try_put(2); }, [&] { return q.put_for(2, 30ms); }, [&] { q.put(2); });
    taker.join();
    (void)q.get();
    auto giver = later([q] { q.put(3); });
    three_forms(
        "get from an empty one", [&] { return q.try_get().has_value(); }, [&] { return q.get_for(30ms).has_value(); },
        [&] { (void)q.get(); });
    giver.join();
  }
  {
    auto [here, there] = polyproc::pipe<int>();
    auto sender = polyproc::launch(send_later, std::move(there));
    three_forms(
        "recv from a pipe", [&end = here] { return end.poll(); }, [&end = here] { return end.poll_for(30ms); },
        [&end = here] { (void)end.recv(); });
    sender.join();
  }
  {
    polyproc::shared<locks> const s;
    auto holder = polyproc::launch(hold_for_a_while, s);
    while (!s->held) std::this_thread::sleep_for(1ms);
    three_forms(
        "a lock", [&] { return s->lock.try_lock(); }, [&] { return s->lock.try_lock_for(30ms); },
        [&] {
          s->lock.lock();
          s->lock.unlock();
        });
    holder.join();
    auto releaser = later([s] { s->permits.release(); });
    three_forms(
        "a semaphore", [&] { return s->permits.try_acquire(); }, [&] { return s->permits.try_acquire_for(30ms); },
        [&] { s->permits.acquire(); });
    releaser.join();
    auto setter = later([s] { s->flag.set(); });
    three_forms(
        "an event", [&] { return s->flag.is_set(); }, [&] { return s->flag.wait_for(30ms); }, [&] { s->flag.wait(); });
    setter.join();
  }
}

template <polyproc::executor Pool>
void show(char const* name, Pool&& pool) {
  std::vector<int> const some(workers, 0);
  (void)pool.map(slow_square, some, {.chunk = 1});  // all workers are up and running
  say("-- ", name, ": submission, and the outcome");
  submission(pool);
  say("-- ", name, ": four ways");
  four_ways(pool);
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "sync_async");

  show("process_pool", polyproc::process_pool{workers});
  show("thread_pool", polyproc::thread_pool{workers});
  say("-- what can wait, in three forms");
  all_that_waits();
}
