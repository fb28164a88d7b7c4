/// What every Unix backend's table of processes must tell, and its kill_tree do. The file that includes this says
/// before which one it is about:
///   struct table { processes(long), process_alone(long), kill_tree(pid_t, bool group), generations }
/// generations: how long a chain of processes it must be able to end while each starts the next. Who sees only whole
/// tables is one behind until the chain ends by itself.
#pragma once

#include "support/forked.hpp"

#include <algorithm>
#include <system_error>

#include <sys/resource.h>

namespace {

using polyproc::process_row;
using polyproc::process_state;

std::vector<long> numbers(std::vector<process_row> const& rows) {
  std::vector<long> pids;
  for (auto const& row : rows) pids.push_back(row.pid);
  return pids;
}
process_state state_of(long pid) {
  auto const row = table::process_alone(pid);
  return row ? row->state : process_state::fresh;
}

TEST_CASE("the table has a process and its descendants, parents first", "[P13]") {
  troupe all;
  auto const root = all.start([&] {
    troupe::fork([&] {
      troupe::fork([&] { all.wait_here(); });
      all.wait_here();
    });
    all.wait_here();
  });
  std::vector<long> started{all.up.take(), all.up.take(), all.up.take()};
  REQUIRE(std::count(started.begin(), started.end(), -1) == 0);

  auto rows = table::processes(root);
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].pid == root);
  CHECK(rows[0].parent == ::getpid());
  CHECK(rows[1].parent == root);
  CHECK(rows[2].parent == rows[1].pid);
  auto found = numbers(rows);
  std::sort(found.begin(), found.end());
  std::sort(started.begin(), started.end());
  CHECK(found == started);

  auto const from_here = table::processes(::getpid());
  REQUIRE(from_here.size() >= 4);
  CHECK(from_here.front().pid == ::getpid());
  CHECK(from_here.front().state == process_state::running);
  for (std::size_t i = 1; i < from_here.size(); ++i) {
    auto const before = from_here.begin() + static_cast<std::ptrdiff_t>(i);
    CHECK(std::any_of(from_here.begin(), before, [&](auto const& row) { return row.pid == from_here[i].parent; }));
  }
  auto const alone = table::process_alone(rows[2].pid);
  REQUIRE(alone);
  CHECK(alone->pid == rows[2].pid);
  CHECK(alone->parent == rows[1].pid);

  // A process that lost its parent belongs to somebody else.
  auto const orphan = rows[2].pid;
  ::kill(static_cast<pid_t>(rows[1].pid), SIGKILL);
  CHECK(eventually([&] { return table::process_alone(orphan)->parent != rows[1].pid; }));
  auto const later = numbers(table::processes(root));
  CHECK(std::count(later.begin(), later.end(), orphan) == 0);
}

TEST_CASE("there is no line for what is not there", "[P13]") {
  troupe all;
  auto const gone = all.start([] {});
  CHECK(all.ended_by(gone) == 0);
  for (long const pid : {long{gone}, 0L, -1L, -2L, 0x7fffffffL, static_cast<long>(0x7fffffffffff)}) {
    CHECK(table::processes(pid).empty());
    CHECK_FALSE(table::process_alone(pid));
  }
}

TEST_CASE("what processes do is told apart", "[P13]") {
  troupe all;
  auto const sleeper = all.start([&] { all.wait_here(); });
  auto const stopped = all.start([&] { all.wait_here(); });
  auto const zombie = all.start([] {});
  auto const spinner = all.start([&] { all.spin_here(); });
  for (int i = 0; i < 3; ++i) REQUIRE(all.up.take() > 0);
  ::kill(stopped, SIGSTOP);
  REQUIRE(troupe::has(stopped, WSTOPPED));
  REQUIRE(troupe::has(zombie, WEXITED));
  CHECK(eventually([&] { return state_of(sleeper) == process_state::blocked; }));
  CHECK(eventually([&] { return state_of(stopped) == process_state::stopped; }));
  CHECK(state_of(zombie) == process_state::ended);
  CHECK(eventually([&] { return state_of(spinner) == process_state::running; }));
  auto const of_spinner = state_of(spinner);
  CHECK((of_spinner == process_state::running || of_spinner == process_state::ready));

  auto const rows = table::processes(::getpid());
  auto const found = numbers(rows);
  for (auto const pid : {sleeper, stopped, zombie, spinner}) CHECK(std::count(found.begin(), found.end(), pid) == 1);
  ::kill(stopped, SIGCONT);
  CHECK(eventually([&] { return state_of(stopped) == process_state::blocked; }));
}

TEST_CASE("a line tells the owner, the memory, the time and the priority of a process", "[P13]") {
  troupe all;
  auto const worker = all.start([&] {
    std::vector<char> much(std::size_t{30} << 20, 'x');
    int const before = ::getpriority(PRIO_PROCESS, 0);
    if (::setpriority(PRIO_PROCESS, 0, before + 3) != 0) ::_exit(1);
    for (clock_t const from = ::clock(); ::clock() - from < CLOCKS_PER_SEC * 12 / 10;) {
    }
    all.up.post(before + 3);
    all.rest.hold();
    all.up.post(much[much.size() / 2]);
  });
  auto niceness = all.up.take();
  for (int i = 0; i < 5 && niceness == -1; ++i) niceness = all.up.take();  // others may want the processors
  auto const row = table::process_alone(worker);
  REQUIRE(row);
  CHECK_FALSE(row->user.empty());
  CHECK(row->user == table::process_alone(::getpid())->user);
  if (::geteuid() == 0) CHECK(row->user == "root");
  REQUIRE(row->priority);
  CHECK(*row->priority == niceness);
  REQUIRE(row->memory);
  CHECK(*row->memory >= std::uint64_t{28} << 20);
  CHECK(*row->memory < std::uint64_t{4} << 30);
  REQUIRE(row->cpu_time);
  CHECK(*row->cpu_time >= std::chrono::seconds{1});
  CHECK(*row->cpu_time < std::chrono::seconds{60});
  CHECK_FALSE(row->name.empty());
}

TEST_CASE("kill_tree ends all that descends from a process, and nobody else", "[P13]") {
  troupe all;
  auto const sibling = all.start([&] {
    all.up.post(::getpid());
    all.life.close_write();
    all.rest.hold();
    ::_exit(7);
  });
  auto const root = all.start([&] {
    troupe::fork([&] {
      ::signal(SIGTERM, SIG_IGN);
      ::signal(SIGHUP, SIG_IGN);
      troupe::fork([&] {
        ::setsid();
        troupe::fork([&] { all.wait_here(); });
        all.wait_here();
      });
      all.wait_here();
    });
    troupe::fork([&] {
      ::setpgid(0, 0);
      all.up.post(::getpid());
      ::raise(SIGSTOP);
    });
    all.wait_here();
  });
  for (int i = 0; i < 6; ++i) REQUIRE(all.up.take() > 0);

  table::kill_tree(root, false);
  CHECK(all.ended_by(root) == SIGKILL);
  CHECK(all.life.all_gone());
  CHECK(eventually([&] { return state_of(sibling) == process_state::blocked; }));
  all.rest.close_write();
  int status = 0;
  CHECK(::waitpid(sibling, &status, 0) == sibling);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 7));
}

TEST_CASE("kill_tree ends a tree that goes on growing", "[P13]") {
  troupe all;
  SECTION("by children that live") {
    auto const root = all.start([&] {
      for (long n = 0; all.stage->over == 0; ++n) {
        if (n < 300) {
          troupe::fork([&] { all.rest.hold(); });
        } else {
          ::usleep(1000);
        }
        if (n == 20) all.up.post(n);
      }
    });
    REQUIRE(all.up.take() == 20);
    table::kill_tree(root, false);
    CHECK(all.ended_by(root) == SIGKILL);
  }
  SECTION("by children that end at once") {
    auto const root = all.start([&] {
      for (long n = 0; all.stage->over == 0; ++n) {
        auto const pid = troupe::fork([] {});
        if (n == 20) all.up.post(n);
        ::waitpid(pid, nullptr, 0);
      }
    });
    REQUIRE(all.up.take() == 20);
    table::kill_tree(root, false);
    CHECK(all.ended_by(root) == SIGKILL);
  }
  SECTION("by grandchildren of many generations") {
    auto const root = all.start([&] {
      for (int generation = 0; generation < table::generations; ++generation) {
        if (generation == 20) all.up.post(generation);
        if (troupe::fork([&] {}) < 0 || ::fork() > 0) break;
      }
      all.rest.hold();
    });
    REQUIRE(all.up.take() == 20);
    table::kill_tree(root, false);
    CHECK(all.ended_by(root) == SIGKILL);
  }
  SECTION("by threads") {
    auto const root = all.start([&] {
      auto const work = [&] {
        for (int n = 0; all.stage->over == 0; ++n) {
          if (n < 100) {
            if (::fork() == 0) {
              all.rest.hold();
              ::_exit(0);
            }
          } else {
            ::usleep(1000);
          }
          if (n == 5) all.up.post(n);
        }
      };
      std::thread one(work), two(work);
      one.join();
      two.join();
    });
    REQUIRE(all.up.take() == 5);
    REQUIRE(all.up.take() == 5);
    table::kill_tree(root, false);
    CHECK(all.ended_by(root) == SIGKILL);
  }
  SECTION("from process to process, each ending the one before") {
    // Never a child of anybody that can be found by parents: only the group tells.
    auto const root = all.start([&] {
      ::setpgid(0, 0);
      all.stage->number = ::getpid();
      if (::fork() > 0) {
        all.rest.hold();
        ::_exit(0);
      }
      for (long n = 0; all.stage->over == 0; ++n) {
        if (n == 20) all.up.post(n);
        if (::fork() != 0) ::_exit(0);
      }
    });
    REQUIRE(all.up.take() == 20);
    table::kill_tree(root, true);
    CHECK(all.ended_by(root) == SIGKILL);
  }
  CHECK(all.life.all_gone());
}

TEST_CASE("kill_tree finds by its group what a process that has ended left behind", "[P13]") {
  troupe all;
  auto const root = all.start([&] {
    ::setpgid(0, 0);
    for (int i = 0; i < 3; ++i) troupe::fork([&] { all.wait_here(); });
    troupe::fork([&] {
      // Gone from the group, but a child of one of its members.
      troupe::fork([&] {
        ::setsid();
        all.wait_here();
      });
      all.wait_here();
    });
  });
  REQUIRE(troupe::has(root, WEXITED));
  for (int i = 0; i < 5; ++i) REQUIRE(all.up.take() > 0);
  CHECK(state_of(root) == process_state::ended);
  table::kill_tree(root, true);
  CHECK(all.life.all_gone());
  CHECK(all.ended_by(root) == 0);
}

TEST_CASE("kill_tree of one that has ended and left nothing does nothing", "[P13]") {
  troupe all;
  auto const root = all.start([] { ::setpgid(0, 0); });
  REQUIRE(troupe::has(root, WEXITED));
  table::kill_tree(root, false);
  table::kill_tree(root, true);
  CHECK(all.ended_by(root) == 0);
}

TEST_CASE("kill_tree refuses this process, its ancestors and the system's own", "[P13]") {
  auto const refused = [](pid_t pid, bool group) {
    try {
      table::kill_tree(pid, group);
    } catch (std::system_error const& error) {
      return error.code() == std::errc::invalid_argument && std::string(error.what()).find("polyproc: kill_tree") == 0;
    }
    return false;
  };
  for (bool const group : {false, true}) {
    for (pid_t const pid : {-5, -1, 0, 1, ::getpid(), ::getppid()}) CHECK(refused(pid, group));
  }
  // A grandparent, which is this test.
  troupe all;
  auto const test = ::getpid();
  all.start([&] {
    troupe::fork([&] {
      all.up.post(refused(test, false) ? 1 : 0);
      all.up.post(refused(test, true) ? 1 : 0);
    });
    all.rest.hold();
  });
  CHECK(all.up.take() == 1);
  CHECK(all.up.take() == 1);
}

TEST_CASE("kill_tree by a member of the group leaves it and its ancestors alone", "[P13]") {
  troupe all;
  auto const leader = all.start([&] {
    ::setpgid(0, 0);
    troupe::fork([&] {
      ::setpgid(0, ::getppid());
      troupe::fork([&] {
        // In the group of the root, of which it is no descendant any more.
        if (!eventually([&] { return state_of(all.stage->number) == process_state::ended; }))
          ::_exit(1);
        table::kill_tree(static_cast<pid_t>(all.stage->number), true);
        all.up.post(::getpid());
        all.rest.hold();
      });
      all.up.post(::getpid());
      all.rest.hold();
    });
    troupe::fork([&] {
      all.up.post(::getpid());
      ::pause();
    });
    if (all.up.take() < 0 || all.up.take() < 0) ::_exit(1);
    all.stage->number = ::getpid();
  });
  REQUIRE(troupe::has(leader, WEXITED));
  // It says so although the third member of the group is ended.
  CHECK(all.up.take() > 0);
  all.rest.close_write();
  CHECK(all.life.all_gone());
  CHECK(all.ended_by(leader) == 0);
}

}  // namespace
