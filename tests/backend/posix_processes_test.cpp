// timeout: 600
//
// The table of processes as ps prints it, and kill_tree by it. The processes are plain forks.
#include "support/catch.hpp"

#include <polyproc/backend/posix_processes.hpp>

#include <cstdlib>
#include <string>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace {

/// As much of a backend as is needed.
struct pipes {
  static std::pair<int, int> pipe_create() {
    int ends[2];
    if (::pipe(ends) != 0) polyproc::detail::throw_errno("pipe");
    for (int const end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
    return {ends[0], ends[1]};
  }
  static bool poll_until(int fd, polyproc::time_point deadline) {
    for (;;) {
      auto const now = std::chrono::steady_clock::now();
      pollfd look{fd, POLLIN, 0};
      if (::poll(&look, 1, polyproc::detail::poll_timeout(now, deadline)) > 0) return true;
      if (std::chrono::steady_clock::now() >= deadline) return false;
    }
  }
};
using ps_table = polyproc::detail::posix_processes<pipes>;

struct table {
  static constexpr int generations = 40;
  static auto processes(long root) { return ps_table::processes(root); }
  static auto process_alone(long pid) { return ps_table::process_alone(pid); }
  static void kill_tree(pid_t root, bool group) { ps_table::kill_tree(root, group); }
};

}  // namespace

#include "support/process_table_cases.hpp"

#include <cstdio>

#include <sys/stat.h>

namespace {

TEST_CASE("ps itself is not in the table, and is no child afterwards", "[P13]") {
  for (auto const& row : table::processes(::getpid())) CHECK(row.pid == ::getpid());
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
  CHECK(errno == ECHILD);
}

TEST_CASE("what ps cannot tell is not there", "[P13]") {
  auto const row = table::process_alone(::getpid());
  REQUIRE(row);
  CHECK_FALSE(row->threads);
  CHECK_FALSE(row->descriptors);
}

TEST_CASE("it does not matter what this program does with signals, streams and its surroundings", "[P13]") {
  troupe all;
  line verdict;
  all.start([&] {
    ::signal(SIGCHLD, SIG_IGN);  // then there is no status
    sigset_t every;
    sigfillset(&every);
    ::sigprocmask(SIG_SETMASK, &every, nullptr);
    ::setenv("COLUMNS", "20", 1);
    ::setenv("PS_FORMAT", "pid", 1);
    ::setenv("LC_ALL", "de_DE.UTF-8", 1);
    for (int stream = 0; stream < 3; ++stream) ::close(stream);
    auto const row = table::process_alone(::getpid());
    verdict.post(row && row->pid == ::getpid() && row->cpu_time && row->state == process_state::running ? 1 : 0);
  });
  CHECK(verdict.take() == 1);
}

/// A directory with a `ps` of its own.
class false_ps {
 public:
  explicit false_ps(std::string const& script) {
    REQUIRE(::mkdtemp(directory_.data()) != nullptr);
    if (!script.empty()) {
      auto const path = directory_ + "/ps";
      std::FILE* const file = std::fopen(path.c_str(), "w");
      REQUIRE(file != nullptr);
      std::fputs(("#!/bin/sh\n" + script).c_str(), file);
      std::fclose(file);
      ::chmod(path.c_str(), 0755);
    }
    before_ = std::getenv("PATH");
    ::setenv("PATH", directory_.c_str(), 1);
  }
  false_ps(false_ps const&) = delete;
  false_ps& operator=(false_ps const&) = delete;
  ~false_ps() {
    ::setenv("PATH", before_.c_str(), 1);
    ::unlink((directory_ + "/ps").c_str());
    ::rmdir(directory_.c_str());
  }

 private:
  std::string directory_ = "/tmp/polyproc-ps-XXXXXX";
  std::string before_;
};

TEST_CASE("what other systems' ps print is understood", "[P13]") {
  false_ps const other(
      "echo '  PID  PPID  PGID   UID STAT NI    RSS      TIME     ELAPSED COMM'\n"
      "echo '  501     1   501     0 Ss    0   1024   1:02.50       03:00 /usr/libexec/a daemon'\n"
      "echo '  502   501   501  4999 U+   -3  20480 100:00.00    01:00:00 b'\n"
      "echo '  503   502   501     0 T     0      0   0:00.07 02-01:00:00 c'\n"
      "echo '  504   502   501     0 I     0    512 2-03:04:05  1-00:00:10 d  e  '\n"
      "echo '  505   504   501     0 Z     -      -         -           - <defunct>'\n"
      "echo '  506   501   501     0 ?E   20      7   0:01,25       00:01 f'\n"
      "echo '  508   506   501     0 S     0      7   0:00.00 441077234-00:18:40 just started'\n"
      "echo '  509   508   501     0 S     0      7   0:00.00           - ageless'\n"
      "echo 'ps: something is wrong'\n"
      "echo ' 507'\n");
  using namespace std::chrono_literals;
  // 503 is older than its parent: that got the number of the true one.
  auto const rows = table::processes(501);
  CHECK(numbers(rows) == std::vector<long>{501, 506, 508, 509});
  REQUIRE(rows.size() == 4);
  CHECK(rows[0].name == "a daemon");
  CHECK(rows[0].state == process_state::blocked);
  CHECK(rows[0].cpu_time == 62500ms);
  CHECK(rows[0].memory == std::uint64_t{1} << 20);
  CHECK(rows[0].priority == 0);
  CHECK(rows[1].state == process_state::unknown);
  CHECK(rows[1].cpu_time == 1250ms);
  CHECK(rows[1].priority == 20);
  auto const b = table::process_alone(502);
  REQUIRE(b);
  CHECK(b->state == process_state::blocked);
  CHECK(b->priority == -3);
  CHECK(b->cpu_time == 100min);
  CHECK(b->user == "4999");
  CHECK(table::process_alone(503)->state == process_state::stopped);
  CHECK(table::process_alone(503)->cpu_time == 70ms);
  auto const d = table::process_alone(504);
  REQUIRE(d);
  CHECK(d->name == "d  e");
  CHECK(d->cpu_time == 51h + 4min + 5s);
  auto const z = table::process_alone(505);
  REQUIRE(z);
  CHECK(z->state == process_state::ended);
  CHECK_FALSE(z->priority);
  CHECK_FALSE(z->memory);
  CHECK_FALSE(z->cpu_time);
  CHECK_FALSE(table::process_alone(507));
}

TEST_CASE("without a ps that answers there is no table, and kill_tree has the root and its group", "[P13]") {
  auto const script = GENERATE(as<std::string>{}, "", "exit 1\n", "echo nonsense\n");
  false_ps const none(script);
  CHECK(table::processes(::getpid()).empty());
  CHECK_FALSE(table::process_alone(::getpid()));
  troupe all;
  auto const root = all.start([&] {
    ::setpgid(0, 0);
    troupe::fork([&] { all.wait_here(); });
    all.wait_here();
  });
  REQUIRE(all.up.take() > 0);
  REQUIRE(all.up.take() > 0);
  table::kill_tree(root, true);
  CHECK(all.ended_by(root) == SIGKILL);
  CHECK(all.life.all_gone());
}

TEST_CASE("a ps that hangs is ended", "[P13]") {
  false_ps const hanging("trap '' TERM HUP INT\nwhile :; do :; done\n");
  auto const from = std::chrono::steady_clock::now();
  CHECK_FALSE(table::process_alone(::getpid()));
  auto const took = std::chrono::steady_clock::now() - from;
  CHECK(took >= std::chrono::seconds{4});
  CHECK(took < std::chrono::seconds{50});
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
  CHECK(errno == ECHILD);
}

}  // namespace
