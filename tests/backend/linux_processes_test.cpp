// timeout: 300
//
// The table of processes and kill_tree as the Linux kernel has them. The processes are plain forks.
#include "support/catch.hpp"

#include <polyproc/backend/linux_processes.hpp>

namespace {
using linux_table = polyproc::detail::linux_processes<>;

struct table {
  static constexpr int generations = 1000;
  static auto processes(long root) { return linux_table::processes(root); }
  static auto process_alone(long pid) { return linux_table::process_alone(pid); }
  static void kill_tree(pid_t root, bool group) {
    polyproc::detail::scoped_fd const fd{root > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, root, 0U)) : -1};
    linux_table::kill_tree(root, fd.get(), group);
  }
};
}  // namespace

#include "support/process_table_cases.hpp"

#include <cstring>
#include <string>

#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>

namespace {

TEST_CASE("a name may hold anything", "[P13]") {
  troupe all;
  struct given {
    char const* name;
    char const* shown;
  };
  for (auto const& one : {given{"a) R (b", "a) R (b"}, given{") Z 1 1", ") Z 1 1"}, given{"two\nlines", "two\nlines"},
                          given{"", ""}, given{"\xc3\xa4\xff\xe2\x82\xac", "\xc3\xa4?\xe2\x82\xac"},
                          given{"fifteen bytes \xc3\xa4", "fifteen bytes "}, given{"\xed\xa0\x80", "???"}}) {
    auto const pid = all.start([&] {
      ::prctl(PR_SET_NAME, one.name);
      all.wait_here();
    });
    REQUIRE(all.up.take() == pid);
    auto const row = table::process_alone(pid);
    REQUIRE(row);
    CHECK(row->name == one.shown);
    CHECK(row->parent == ::getpid());
    CHECK(eventually([&] { return state_of(pid) == process_state::blocked; }));
  }
}

TEST_CASE("one that runs and one that waits for a processor are told apart", "[P13]") {
  troupe all;
  constexpr int count = 4;
  auto const root = all.start([&] {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    ::sched_getaffinity(0, sizeof allowed, &allowed);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &allowed)) {
        CPU_SET(cpu, &one);
        break;
      }
    }
    ::sched_setaffinity(0, sizeof one, &one);
    for (int i = 0; i < count; ++i) troupe::fork([&] { all.spin_here(); });
    all.rest.hold();
  });
  std::vector<long> spinners;
  for (int i = 0; i < count; ++i) spinners.push_back(all.up.take());
  REQUIRE(std::count(spinners.begin(), spinners.end(), -1) == 0);
  // Another program may have that processor at the moment.
  CHECK(eventually([&] {
    int running = 0;
    int ready = 0;
    for (auto const& row : table::processes(root)) {
      if (row.pid == root) continue;
      running += row.state == process_state::running ? 1 : 0;
      ready += row.state == process_state::ready ? 1 : 0;
    }
    CHECK(running <= 1);
    return running == 1 && ready == count - 1;
  }));
  all.stage->over = 1;
}

TEST_CASE("what any of a process's threads does counts", "[P13]") {
  troupe all;
  auto const busy = all.start([&] {
    std::thread worker([&] { all.spin_here(); });
    all.up.post(0);
    worker.join();
  });
  REQUIRE(all.up.take() >= 0);
  REQUIRE(all.up.take() >= 0);
  CHECK(eventually([&] { return state_of(busy) == process_state::running; }));
  CHECK(table::process_alone(busy)->threads == 2u);

  // The first thread ends, which makes the process look like a zombie; the other blocks.
  auto const headless = all.start([&] {
    std::thread([&] {
      all.up.post(::getpid());
      all.rest.hold();
      ::_exit(0);
    }).detach();
    ::syscall(SYS_exit, 0);  // of this thread alone
  });
  REQUIRE(all.up.take() == headless);
  CHECK(eventually([&] { return state_of(headless) == process_state::blocked; }));
  auto const row = table::process_alone(headless);
  REQUIRE(row);
  CHECK(row->memory.value_or(0) > 0);
  CHECK(row->descriptors.value_or(0) >= 3);
  table::kill_tree(headless, false);
  CHECK(all.ended_by(headless) == SIGKILL);

  // A thread's number is not a process's.
  long thread = 0;
  std::thread([&] {
    thread = ::syscall(SYS_gettid);
    CHECK_FALSE(table::process_alone(thread));
  }).join();
}

TEST_CASE("open descriptors are counted", "[P13]") {
  troupe all;
  line more;
  auto const pid = all.start([&] {
    all.up.post(::getpid());
    for (int i = 0; i < 10; ++i) {
      if (::dup(0) < 0 && ::open("/dev/null", O_RDONLY) < 0) ::_exit(1);
    }
    if (more.take() < 0) ::_exit(1);
    all.up.post(::getpid());
    all.rest.hold();
  });
  REQUIRE(all.up.take() == pid);
  more.post(1);
  REQUIRE(all.up.take() == pid);
  // It inherited what is open here, and has ten more; its read of `rest` begins with closing one.
  unsigned here = 0;
  for (int fd = 0; fd < 4096; ++fd) here += ::fcntl(fd, F_GETFD) >= 0 ? 1U : 0U;
  CHECK(eventually([&] { return table::process_alone(pid)->descriptors == here + 9; }));
  CHECK(table::process_alone(::getpid())->descriptors == here);
  unsigned after = 0;
  for (int fd = 0; fd < 4096; ++fd) after += ::fcntl(fd, F_GETFD) >= 0 ? 1U : 0U;
  CHECK(after == here);
}

TEST_CASE("being out of descriptors is an error, not an empty table", "[P13]") {
  troupe all;
  line verdict;
  all.start([&] {
    auto const child = troupe::fork([&] { all.wait_here(); });
    rlimit few{3, 3};
    ::setrlimit(RLIMIT_NOFILE, &few);
    auto const failed = [](auto&& what) {
      try {
        what();
      } catch (std::system_error const& error) {
        return error.code() == std::errc::too_many_files_open;
      }
      return false;
    };
    bool const both =
        failed([&] { table::processes(child); }) && failed([&] { linux_table::kill_tree(child, -1, false); });
    verdict.post(both ? 1 : 0);
    ::kill(child, SIGKILL);
  });
  CHECK(verdict.take() == 1);
}

TEST_CASE("kill_tree needs no descriptor of the root", "[P13]") {
  troupe all;
  auto const root = all.start([&] {
    troupe::fork([&] { all.wait_here(); });
    all.wait_here();
  });
  REQUIRE(all.up.take() > 0);
  REQUIRE(all.up.take() > 0);
  linux_table::kill_tree(root, -1, false);
  CHECK(all.ended_by(root) == SIGKILL);
  CHECK(all.life.all_gone());
}

TEST_CASE("kill_tree by a descriptor of one that is gone touches nobody of its number", "[P13]") {
  troupe all;
  // The number of a live process, and a descriptor of another that was reaped: as if the number had been given away.
  auto const innocent = all.start([&] {
    ::setpgid(0, 0);
    troupe::fork([&] { all.wait_here(); });
    all.wait_here();
  });
  REQUIRE(all.up.take() > 0);
  REQUIRE(all.up.take() > 0);
  auto const gone = all.start([] {});
  polyproc::detail::scoped_fd const fd{static_cast<int>(::syscall(SYS_pidfd_open, gone, 0U))};
  REQUIRE(fd.get() >= 0);
  CHECK(all.ended_by(gone) == 0);
  linux_table::kill_tree(innocent, fd.get(), true);
  auto const rows = table::processes(innocent);
  REQUIRE(rows.size() == 2);
  for (auto const& row : rows) CHECK(eventually([&] { return state_of(row.pid) == process_state::blocked; }));
  table::kill_tree(innocent, true);
}

/// On a stack of its own in its parent's memory, which no sanitizer understands.
__attribute__((no_sanitize("address", "thread", "undefined"))) int borrower(void* up) {
  long const value = 1;
  if (::write(*static_cast<int*>(up), &value, sizeof value) > 0) ::pause();
  return 0;
}

TEST_CASE("kill_tree ends a tree whose member waits in vfork", "[P13]") {
  // Such a one cannot be stopped until its child starts a program or ends; and that child is stopped.
  troupe all;
  auto const root = all.start([&] {
    alignas(16) static char stack[65536];
    int up = all.up.write_end();
    ::clone(&borrower, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &up);
  });
  REQUIRE(all.up.take() == 1);
  table::kill_tree(root, false);
  CHECK(all.ended_by(root) == SIGKILL);
  CHECK(all.life.all_gone());
}

TEST_CASE("kill_tree kills what it may and says whom it may not", "[P13]") {
  if (::geteuid() != 0) {
    std::printf("SKIP: only root can make a process that another user may not signal\n");
    return;
  }
  troupe all;
  auto const root = all.start([&] {
    troupe::fork([&] {
      troupe::fork([&] {
        if (::setgroups(0, nullptr) != 0 || ::setuid(65534) != 0) ::_exit(1);
        all.wait_here();
      });
      // Stays root.
      all.stage->number = ::getpid();
      all.life.close_write();
      all.wait_here();
    });
    if (::setgroups(0, nullptr) != 0 || ::setuid(65534) != 0) ::_exit(1);
    all.wait_here();
  });
  for (int i = 0; i < 3; ++i) REQUIRE(all.up.take() > 0);
  all.start([&] {
    all.life.close_write();
    if (::setgroups(0, nullptr) != 0 || ::setuid(65534) != 0) ::_exit(1);
    try {
      table::kill_tree(root, false);
      all.up.post(0);
    } catch (std::system_error const& error) {
      auto const whom = std::to_string(all.stage->number);
      bool const named =
          std::strstr(error.what(), ("polyproc: pidfd_send_signal to process " + whom).c_str()) != nullptr;
      all.up.post(error.code() == std::errc::operation_not_permitted && named ? 1 : 0);
    }
  });
  CHECK(all.up.take() == 1);
  CHECK(all.ended_by(root) == SIGKILL);
  CHECK(all.life.all_gone());  // also the one below it
  CHECK(eventually([&] { return state_of(all.stage->number) == process_state::blocked; }));
  all.rest.close_write();
}

TEST_CASE("a /proc that hides the processes of others shows the rest", "[P13]") {
  troupe all;
  auto const other = all.start([&] { all.wait_here(); });  // root's
  REQUIRE(all.up.take() == other);
  line verdict;
  all.start([&] {
    bool const hidden = ::geteuid() == 0 && ::unshare(CLONE_NEWNS) == 0 &&
                        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                        ::mount("proc", "/proc", "proc", 0, "hidepid=2") == 0 && ::setgroups(0, nullptr) == 0 &&
                        ::setgid(65534) == 0 && ::setuid(65534) == 0;
    if (!hidden) {
      verdict.post(2);
      return;
    }
    ::prctl(PR_SET_DUMPABLE, 1);  // else we and ours were hidden from ourselves
    auto const child = troupe::fork([&] {
      troupe::fork([&] { all.wait_here(); });
      all.wait_here();
    });
    if (all.up.take() < 0 || all.up.take() < 0) ::_exit(1);
    bool good = table::processes(child).size() == 2 && !table::process_alone(other) && table::processes(other).empty();
    table::kill_tree(child, false);
    int status = 0;
    good = good && ::waitpid(child, &status, 0) == child && WIFSIGNALED(status);
    verdict.post(good ? 1 : 0);
  });
  auto const said = verdict.take();
  if (said == 2)
    std::printf("SKIP: /proc cannot be mounted here with hidepid=2\n");
  else
    CHECK(said == 1);
}

}  // namespace
