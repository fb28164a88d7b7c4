// The helper from which children are forked: it may be killed, stopped, or be of no use, and nobody notices.
// timeout: 240

#include "process/start_methods.hpp"

#if !defined(_WIN32)

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace std::chrono_literals;
using polyproc::process;
using polyproc::process_options;

namespace {

/// The children of this process that it did not start itself: the helper and (where it is ours too) the reserve.
std::vector<pid_t> helpers() {
  std::set<long> known;
  for (auto const& child : polyproc::active_children()) known.insert(child.pid());
  std::vector<pid_t> all;
  for (auto const& row : polyproc::process_tree())
    if (row.parent == polyproc::this_process::pid() && known.count(row.pid) == 0 && row.name != "ps" &&
        row.state != polyproc::process_state::ended)
      all.push_back(static_cast<pid_t>(row.pid));
  return all;
}

/// And they are dead: a reserve that is only dying could still be given work.
void kill_helpers() {
  auto const victims = helpers();
  for (auto const pid : victims) ::kill(pid, SIGKILL);
  for (auto const pid : victims)
    while (true) {
      auto const row = polyproc::native_backend::process_alone(pid);
      if (!row || row->state == polyproc::process_state::ended) break;
    }
}

int run(int code) {
  process p{process_options{.start = polyproc::start_method::forkserver},
            [](int c) { polyproc::this_process::exit(c); }, code};
  p.start();
  if (!p.join_for(60s)) return -1000;
  return *p.exit_code();
}

void work_on(shared_notes n) {
  ++n->count;
  until(n->b, 1);
}

void work_on_less(shared_notes n) {
  ++n->count;
  until(n->c, 1);
}
void take_ends(polyproc::pipe_end<int, int> const&, polyproc::queue_sender<int> const&) {}

/// A process that finds this in its environment is not ready before it could read to the end of the file of that name.
constexpr char const* held_by = "POLYPROC_TEST_HELD_BY";
[[maybe_unused]] bool const held = [] {
  if (char const* const file = std::getenv(held_by)) {
    char byte = 0;
    int const gate = ::open(file, O_RDONLY | O_CLOEXEC);
    while (::read(gate, &byte, 1) > 0) {
    }
    ::close(gate);
  }
  return true;
}();

}  // namespace

TEST_CASE_METHOD(tidy, "the helper is killed at any time: children that run go on, and the next start finds another one") {
  for (int round = 0; round < 10; ++round) {
    shared_notes n;
    process p{process_options{.start = polyproc::start_method::forkserver}, work_on, n};
    p.start();
    until(n->count, 1);
    kill_helpers();
    for (int i = 0; i < 5; ++i) REQUIRE(run(i) == i);
    CHECK(p.is_alive());
    n->b = 1;
    p.join();
    // Of a child of a helper that is dead nobody can tell how it ended.
    CHECK((p.exit_code() == 0 || (polyproc::native_backend::name == "posix" &&
                                  p.exit_code() == polyproc::unknown_exit_code)));
  }
}

TEST_CASE_METHOD(tidy, "helpers are killed all the time while threads start children: every start gives a child or its reason") {
  std::atomic<bool> stop{false};
  std::thread killer([&] {
    while (!stop) {
      for (auto const pid : helpers()) {
        // Not one that was started by now and is not yet known as such.
        if (polyproc::native_backend::name == "linux") ::kill(pid, SIGKILL);
        break;
      }
      std::this_thread::sleep_for(2ms);
    }
  });
  std::atomic<int> wrong{0};
  std::atomic<int> killed{0};
  std::vector<std::thread> starters;
  for (int t = 0; t < 2; ++t)
    starters.emplace_back([&] {
      for (int i = 0; i < 100; ++i) {
        auto const code = run(i % 50);
        if (code == -9) ++killed;  // the killer took it for a helper
        else if (code != i % 50) {
          ++wrong;
          std::fprintf(stderr, "%d instead of %d\n", code, i % 50);
        }
      }
    });
  for (auto& t : starters) t.join();
  stop = true;
  killer.join();
  CHECK(wrong == 0);
  for (int i = 0; i < 3; ++i) CHECK(run(7) == 7);  // with a helper that lives
}

TEST_CASE_METHOD(tidy, "a helper that is stopped does not keep anybody from starting children") {
  REQUIRE(run(1) == 1);
  for (auto const pid : helpers()) ::kill(pid, SIGSTOP);
  auto const begin = std::chrono::steady_clock::now();
  CHECK(run(2) == 2);
  CHECK(run(3) == 3);
  CHECK(std::chrono::steady_clock::now() - begin < 30s);
  for (auto const pid : helpers()) ::kill(pid, SIGCONT);
}

TEST_CASE_METHOD(tidy, "while a start waits for a slow helper, timed operations of other threads keep their deadlines") {
  auto const fifo = std::filesystem::temp_directory_path() / ("polyproc-test-" + std::to_string(::getpid()));
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  process whole{polyproc::start::fork, [fifo] {
                  shared_notes n;
                  int step = 0;
                  auto const must = [&](bool holds) {
                    ++step;
                    if (holds) return;
                    n->b = n->c = 1;
                    polyproc::native_backend::exit_now(step);
                  };
                  process runs{process_options{.start = polyproc::start_method::forkserver}, work_on, n};
                  process ends{process_options{.start = polyproc::start_method::forkserver}, work_on_less, n};
                  runs.start();
                  ends.start();
                  until(n->count, 2);
                  // Ends of channels that are on their way to a child: whoever waits at the other ends looks after the
                  // children.
                  auto [here, there] = polyproc::pipe<int>();
                  polyproc::queue<int> q;
                  auto const from = q.receiver();
                  process slow{process_options{.start = polyproc::start_method::forkserver}, take_ends, std::move(there),
                               q.sender()};
                  q = polyproc::queue<int>();

                  // Another group needs another helper. It waits until the gate is closed.
                  ::setpgid(0, 0);
                  ::setenv(held_by, fifo.c_str(), 1);
                  std::atomic<bool> started{false};
                  std::thread starter([&, &of = slow] {
                    of.start();
                    started = true;
                  });
                  int const gate = ::open(fifo.c_str(), O_WRONLY | O_CLOEXEC);  // until the helper is there
                  must(gate >= 0);
                  must(!from.get_for(300ms) && !started);
                  must(!here.poll_for(300ms) && !started);
                  must(!runs.join_for(10ms) && !started);
                  must(runs.is_alive() && !started);
                  n->c = 1;
                  must(ends.join_for(60s));
                  must(ends.exit_code() == 0);
                  must(polyproc::active_children().size() == 1);
                  must(!started);  // it would be over if one of them had waited for it
                  ::unsetenv(held_by);
                  ::close(gate);
                  starter.join();
                  slow.join();
                  must(slow.exit_code() == 0);
                  n->b = 1;
                  runs.join();
                  must(runs.exit_code() == 0);
                }};
  whole.start();
  whole.join();
  ::unlink(fifo.c_str());
  CHECK(to_string(*whole.status()) == "exited with code 0");
}

TEST_CASE_METHOD(tidy, "Ctrl-C and its like, sent to the whole group, do not touch the helper or what it has in reserve") {
  REQUIRE(run(1) == 1);
  auto const before = helpers();
  for (int const number : {SIGINT, SIGQUIT, SIGHUP, SIGTSTP})
    for (auto const pid : before) ::kill(pid, number);
  CHECK(run(4) == 4);
  CHECK(run(5) == 5);
}

TEST_CASE_METHOD(tidy, "a signal that went to the whole group before does not end the next child") {
  REQUIRE(run(1) == 1);
  for (int const number : {SIGTERM, SIGUSR1, SIGALRM}) {
    for (auto const& row : polyproc::process_tree())
      if (row.pid != polyproc::this_process::pid() && row.name != "ps") ::kill(static_cast<pid_t>(row.pid), number);
    CHECK(run(4) == 4);
    CHECK(run(5) == 5);
  }
}

TEST_CASE_METHOD(tidy, "children of a helper that was killed can still be ended") {
  shared_notes n;
  process p{process_options{.start = polyproc::start_method::forkserver}, work_on, n};
  p.start();
  until(n->count, 1);
  kill_helpers();
  REQUIRE(run(1) == 1);  // by another one
  CHECK(p.ask(polyproc::child_request::kill));
  CHECK(p.join_for(60s));
  for (int i = 0; i < 2; ++i) CHECK(run(2) == 2);
}

TEST_CASE_METHOD(tidy, "niceness and processors are as here, also when they were changed after the first start") {
  process p{polyproc::start::fork, [] {
              if (run(1) != 1) polyproc::this_process::exit(1);
              if (::nice(3) == -1) polyproc::this_process::exit(2);
              shared_notes n;
              process q{process_options{.start = polyproc::start_method::forkserver},
                        [](shared_notes notes) { notes->a = ::nice(0); }, n};
              q.start();
              q.join();
              polyproc::this_process::exit(n->a == ::nice(0) ? 0 : 3);
            }};
  p.start();
  p.join();
  CHECK(p.exit_code() == 0);
}

TEST_CASE_METHOD(tidy, "a program that forks by itself while its threads start children: no copy falls over") {
  std::atomic<bool> stop{false};
  std::vector<std::thread> starters;
  for (int t = 0; t < 3; ++t)
    starters.emplace_back([&] {
      while (!stop) {
        process p{nothing_at_all};
        p.start();
        (void)p.is_alive();
        (void)polyproc::active_children();
        p.join();
      }
    });
  int wrong = 0;
  for (int i = 0; i < 300; ++i) {
    auto const child = ::fork();
    if (child == 0) ::_exit(0);
    int status = 0;
    if (::waitpid(child, &status, 0) != child || status != 0) ++wrong;
  }
  stop = true;
  for (auto& t : starters) t.join();
  CHECK(wrong == 0);
}

TEST_CASE_METHOD(tidy, "a change of the process group is a change for the children, too") {
  process p{polyproc::start::fork, [] {
              if (run(1) != 1) polyproc::this_process::exit(1);
              ::setpgid(0, 0);
              shared_notes n;
              process q{process_options{.start = polyproc::start_method::forkserver},
                        [](shared_notes notes) { notes->a = ::getpgrp(); }, n};
              q.start();
              q.join();
              polyproc::this_process::exit(n->a == ::getpgrp() ? 0 : 2);
            }};
  p.start();
  p.join();
  CHECK(p.exit_code() == 0);
}

TEST_CASE_METHOD(tidy, "a child of the fork server is this process's own, with all that belongs to that") {
  shared_notes n;
  process p{process_options{.start = polyproc::start_method::forkserver}, [](shared_notes notes) {
              notes->a = ::getppid();
              // What the C library knows of this thread is right: raise and abort find it.
              notes->b = ::pthread_kill(::pthread_self(), 0) == 0 ? 1 : 2;
              std::thread([] {}).join();
              process below{[] {}};
              below.start();
              below.join();
              ::raise(SIGUSR1);
            }, n};
  p.start();
  p.join();
  CHECK(p.exit_code() == -SIGUSR1);
  if (polyproc::native_backend::name == "linux") CHECK(n->a == ::getpid());
  CHECK(n->b == 1);
  process a{process_options{.start = polyproc::start_method::forkserver}, [] { std::abort(); }};
  a.start();
  a.join();
  CHECK(a.exit_code() == -SIGABRT);
}

#endif
