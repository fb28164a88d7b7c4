// How many processors a program is told that it may use.
#include "support/catch.hpp"

#include <polyproc/process/this_process.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

TEST_CASE("usable_cpus is at least one, and no more than there are", "[H20]") {
  CHECK(polyproc::usable_cpus() >= 1);
  if (auto const all = std::thread::hardware_concurrency(); all != 0) CHECK(polyproc::usable_cpus() <= all);
}

#if defined(__linux__)

constexpr bool respects_limits = polyproc::native_backend::name == "linux";

/// What a forked child that has prepared itself is told; 0 if it could not.
template <class Prepare>
unsigned told_in_child(Prepare&& prepare) {
  auto const pid = ::fork();
  if (pid == 0) ::_exit(prepare() ? static_cast<int>(polyproc::usable_cpus()) : 0);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  REQUIRE(WIFEXITED(status));
  return static_cast<unsigned>(WEXITSTATUS(status));
}

std::vector<std::size_t> allowed() {
  cpu_set_t set;
  CPU_ZERO(&set);
  REQUIRE(::sched_getaffinity(0, sizeof set, &set) == 0);
  std::vector<std::size_t> processors;
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) processors.push_back(cpu);
  }
  return processors;
}
bool keep_to(std::vector<std::size_t> const& processors) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (auto const cpu : processors) CPU_SET(cpu, &set);
  return ::sched_setaffinity(0, sizeof set, &set) == 0;
}

TEST_CASE("usable_cpus respects affinity", "[H20]") {
  if (!respects_limits) {
    std::printf("SKIP: affinity has no portable call; the posix backend counts all processors\n");
    return;
  }
  auto const mine = allowed();
  auto const here = polyproc::usable_cpus();
  CHECK(here <= mine.size());
  for (auto const cpu : {mine.front(), mine.back()}) CHECK(told_in_child([&] { return keep_to({cpu}); }) == 1);
  CHECK(told_in_child([&] { return keep_to(mine); }) == here);
  // That of the calling thread, as for everything it starts.
  unsigned in_thread = 0;
  std::thread([&] {
    if (keep_to({mine.back()})) in_thread = polyproc::usable_cpus();
  }).join();
  CHECK(in_thread == 1);
  CHECK(polyproc::usable_cpus() == here);
}

/// A control group for processors that is removed again. Empty path: cannot be had here.
class group {
 public:
  group() : group(parent_for_tests()) {}
  explicit group(std::string const& parent) {
    if (parent.empty()) return;
    static int made = 0;
    auto const path = parent + "/polyproc-test-" + std::to_string(::getpid()) + "-" + std::to_string(++made);
    if (::mkdir(path.c_str(), 0755) != 0) return;
    path_ = path;
    // Whether quotas are kept here is told by their files.
    if (!set(-1, 100000)) *this = group(std::string());
  }
  group& operator=(group&& other) noexcept {
    remove();
    path_ = std::exchange(other.path_, {});
    return *this;
  }
  ~group() { remove(); }

  [[nodiscard]] std::string const& path() const { return path_; }
  bool set(long quota, long period) const {
    if (std::ifstream(path_ + "/cpu.cfs_quota_us").good())
      return put("cpu.cfs_period_us", std::to_string(period)) && put("cpu.cfs_quota_us", std::to_string(quota));
    return put("cpu.max", (quota < 0 ? "max" : std::to_string(quota)) + " " + std::to_string(period));
  }
  /// The calling process from now on.
  bool enter() const { return put("cgroup.procs", "0"); }

 private:
  bool put(char const* file, std::string const& text) const {
    std::ofstream out(path_ + "/" + file, std::ios::in);
    out << text << std::flush;
    return out.good();
  }
  void remove() {
    // A process that was reaped may be in it for a moment.
    for (int i = 0; i < 1000 && !path_.empty() && ::rmdir(path_.c_str()) != 0; ++i) ::usleep(1000);
    path_.clear();
  }
  /// The group of this process, in the first version's hierarchy for processors or else the second's.
  static std::string parent_for_tests() {
    std::ifstream groups("/proc/self/cgroup");
    std::string second;
    for (std::string text; std::getline(groups, text);) {
      auto const controllers = text.find(':') + 1;
      auto const path = text.find(':', controllers) + 1;
      auto const which = "," + text.substr(controllers, path - controllers - 1) + ",";
      if (which.find(",cpu,") != std::string::npos) return "/sys/fs/cgroup/cpu" + text.substr(path);
      if (which == ",,") second = "/sys/fs/cgroup" + text.substr(path);
    }
    return second;
  }

  std::string path_;
};

TEST_CASE("usable_cpus respects the quota of the control group", "[H20]") {
  if (!respects_limits) {
    std::printf("SKIP: quotas have no portable call\n");
    return;
  }
  group const limited;
  if (limited.path().empty()) {
    std::printf("SKIP: no control group for processors can be made here\n");
    return;
  }
  auto const here = polyproc::usable_cpus();
  auto const with = [&](long quota, long period) {
    REQUIRE(limited.set(quota, period));
    return told_in_child([&] { return limited.enter(); });
  };
  CHECK(with(-1, 100000) == here);
  CHECK(with(50000, 100000) == 1);
  CHECK(with(100000, 100000) == 1);
  CHECK(with(150000, 100000) == std::min(here, 2U));  // rounded up: half a processor is of use
  CHECK(with(30000, 20000) == std::min(here, 2U));
  CHECK(with(250000, 250000) == 1);
  CHECK(with(1000000, 10000) == std::min(here, 100U));
  // The narrower of the two limits.
  CHECK(told_in_child([&] { return limited.enter() && keep_to({allowed().front()}); }) == 1);

  // Nobody has more than the groups that theirs is in.
  REQUIRE(limited.set(50000, 100000));
  group const inner{limited.path()};
  if (inner.path().empty()) {
    std::printf("SKIP: no control group within another can be made here\n");
    return;
  }
  CHECK(told_in_child([&] { return inner.enter(); }) == 1);
}

#endif

}  // namespace
