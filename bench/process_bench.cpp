// Starting processes: an empty one and its join, with more and more memory in this process; how soon its function begins;
// and what one child of a thousand costs. Where the scheduler puts parent, helper and child changes much: see also
// `taskset -c 0` and `taskset -c 0,1`.

#include "limit/bare_process.hpp"
#include "limit/futex_waker.hpp"
#include "peers/boost_process.hpp"
#include "peers/python_process.hpp"
#include "peers/reproc.hpp"

#include <polyproc/polyproc.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using clock_type = std::chrono::steady_clock;  // one clock for all processes
using namespace std::chrono_literals;

/// Main returns at once when this is its argument.
constexpr char const* do_nothing = "--do-nothing";
constexpr char const* this_program = "/proc/self/exe";
/// For one median.
constexpr auto patience = 250ms;

double since(clock_type::time_point from, clock_type::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

double median(std::vector<double>& of) {
  auto const middle = of.begin() + static_cast<std::ptrdiff_t>(of.size() / 2);
  std::nth_element(of.begin(), middle, of.end());
  return *middle;
}

/// Private memory in use, in small pages, as a program has that has run for a while.
class ballast {
 public:
  explicit ballast(std::size_t mebibytes) : size_(mebibytes << 20) {
    if (size_ == 0) return;
    at_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at_ == MAP_FAILED) throw std::runtime_error("mmap");
    ::madvise(at_, size_, MADV_NOHUGEPAGE);
    for (std::size_t i = 0; i < size_; i += 4096) static_cast<char volatile*>(at_)[i] = 1;
  }
  ballast(ballast const&) = delete;
  ballast& operator=(ballast const&) = delete;
  ~ballast() {
    if (size_ != 0) ::munmap(at_, size_);
  }

 private:
  std::size_t size_;
  void* at_ = nullptr;
};

// --- Start and join.

void nothing() {}

template <class Tag>
void start_and_join(Tag tag) {
  auto p = polyproc::launch(tag, nothing);
  p.join();
}

/// One iteration is the median of many. `with_memory_x` is how much longer it takes than without that memory.
void time_starts(benchmark::State& state, std::size_t mebibytes, auto once) {
  for (auto _ : state) {
    once();  // what is made the first time is made now
    auto const without = mebibytes == 0 ? 0 : bare_process::median_time(once, patience);
    ballast const memory{mebibytes};
    auto const with = bare_process::median_time(once, patience);
    state.SetIterationTime(with);
    if (mebibytes != 0) state.counters["with_memory_x"] = with / without;
  }
}

void time_python(benchmark::State& state, char const* method) {
  for (auto _ : state) {
    auto const nanoseconds = python_process_peer::start_and_join(method);
    if (nanoseconds > 0)
      state.SetIterationTime(nanoseconds / 1e9);
    else
      state.SkipWithError("python3 does not measure");
  }
}

// --- How soon the function begins.

/// A clock's value that a child leaves here: by a way that needs nothing of polyproc, so that taking the time really is the
/// first thing that the function does.
class stamp {
 public:
  stamp() : fd_(::memfd_create("stamp", MFD_CLOEXEC)) {
    if (fd_ < 0 || ::ftruncate(fd_, 8) != 0) throw std::runtime_error("memfd_create");
  }
  stamp(stamp const&) = delete;
  stamp& operator=(stamp const&) = delete;
  ~stamp() { ::close(fd_); }

  [[nodiscard]] int number() const { return fd_; }
  [[nodiscard]] clock_type::time_point read() const {
    clock_type::rep ticks = 0;
    if (::pread(fd_, &ticks, sizeof ticks, 0) != sizeof ticks || ticks == 0) throw std::runtime_error("no stamp");
    return clock_type::time_point{clock_type::duration{ticks}};
  }

 private:
  int fd_;
};

/// The target.
void leave_stamp(long parent, int number) {
  auto const ticks = clock_type::now().time_since_epoch().count();
  auto const path = "/proc/" + std::to_string(parent) + "/fd/" + std::to_string(number);
  int const fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0 || ::pwrite(fd, &ticks, sizeof ticks, 0) != sizeof ticks) std::terminate();
}

struct ours_begins {
  stamp at;
  template <class Tag>
  double once(Tag tag) {
    auto const from = clock_type::now();
    auto p = polyproc::launch(tag, leave_stamp, static_cast<long>(::getpid()), at.number());
    p.join();
    return since(from, at.read());
  }
};

double thread_begins() {
  clock_type::time_point begun;
  auto const from = clock_type::now();
  std::thread{[&begun] { begun = clock_type::now(); }}.join();
  return since(from, begun);
}

double median_of_rounds(int rounds, std::chrono::microseconds pause, auto&& once) {
  std::vector<double> times;
  for (int i = 0; i < rounds; ++i) {
    if (pause.count() > 0) std::this_thread::sleep_for(pause);
    times.push_back(once());
  }
  return median(times);
}

template <class Tag>
void ours_to_first_line(benchmark::State& state, Tag tag, std::chrono::microseconds pause, int rounds) {
  for (auto _ : state) {
    ours_begins ours;
    (void)ours.once(tag);
    auto const time = median_of_rounds(rounds, pause, [&] { return ours.once(tag); });
    state.SetIterationTime(time);
    state.counters["of_std_thread_x"] = time / median_of_rounds(rounds, pause, thread_begins);
  }
}
void thread_to_first_line(benchmark::State& state, std::chrono::microseconds pause, int rounds) {
  for (auto _ : state) state.SetIterationTime(median_of_rounds(rounds, pause, thread_begins));
}
void futex_to_first_line(benchmark::State& state, std::chrono::microseconds pause, int rounds) {
  for (auto _ : state) {
    futex_waker waker;
    // Without any pause it would not sleep yet.
    state.SetIterationTime(median_of_rounds(rounds, std::max<std::chrono::microseconds>(pause, 100us), [&] {
      auto const from = clock_type::now();
      return since(from, waker.wake_up());
    }));
  }
}

// --- Many at once.

void until_ended() {
  for (;;) ::pause();
}

struct crowd {
  std::vector<polyproc::process> all;
  explicit crowd(int size) {
    for (int i = 0; i < size; ++i) all.push_back(one());
  }
  static polyproc::process one() { return polyproc::launch({.daemon = true}, polyproc::start::forkserver, until_ended); }
};

void alive_of(benchmark::State& state, int size) {
  for (auto _ : state) {
    crowd const c{size};
    auto const from = clock_type::now();
    int alive = 0;
    for (int i = 0; i < 1000; ++i) alive += c.all[static_cast<std::size_t>(i % size)].is_alive() ? 1 : 0;
    state.SetIterationTime(since(from, clock_type::now()) / 1000);
    if (alive != 1000) state.SkipWithError("not all of them live");
  }
}

/// The join alone, of one that has ended.
void join_of(benchmark::State& state, int size) {
  for (auto _ : state) {
    crowd c{size};
    std::vector<double> times;
    for (int i = 0; i < 50; ++i) {
      auto& p = c.all[static_cast<std::size_t>(i * 7919 % size)];
      p.kill();
      siginfo_t info{};
      ::waitid(P_PID, static_cast<id_t>(*p.pid()), &info, WEXITED | WNOWAIT);
      auto const from = clock_type::now();
      p.join();
      times.push_back(since(from, clock_type::now()));
      p = crowd::one();
    }
    state.SetIterationTime(median(times));
  }
}

/// The start and join of another one.
void start_beside(benchmark::State& state, int size) {
  for (auto _ : state) {
    crowd const c{size};
    state.SetIterationTime(bare_process::median_time([] { start_and_join(polyproc::start::forkserver); }, patience));
  }
}

/// For each of them.
void active_of(benchmark::State& state, int size) {
  for (auto _ : state) {
    crowd const c{size};
    std::vector<double> times;
    for (int i = 0; i < 50; ++i) {
      auto const from = clock_type::now();
      auto const found = polyproc::active_children();
      times.push_back(since(from, clock_type::now()));
      if (static_cast<int>(found.size()) != size) state.SkipWithError("not all of them were found");
    }
    state.SetIterationTime(median(times) / size);
  }
}

// --- The list.

void once(std::string const& name, auto measure) {
  benchmark::RegisterBenchmark(name.c_str(), measure)->UseManualTime()->Iterations(1);
}

void starts(std::size_t mebibytes, bare_process::fork_helper& helper) {
  auto const of = [mebibytes](std::string const& method, std::string const& contender) {
    return "process_" + method + "_beside_" + std::to_string(mebibytes) + "_MiB/" + contender;
  };
  auto const add = [mebibytes](std::string const& name, auto start) {
    once(name, [mebibytes, start](benchmark::State& state) { time_starts(state, mebibytes, start); });
  };
  using namespace polyproc;
  add(of("fork", "limit_fork_exit_wait"), bare_process::fork_exit_wait);
  add(of("fork", "polyproc"), [] { start_and_join(start::fork); });

  once(of("forkserver", "limit_small_fork_exit_wait"), [mebibytes, &helper](benchmark::State& state) {
    for (auto _ : state) {
      ballast const memory{mebibytes};
      state.SetIterationTime(helper.measure(std::chrono::duration<double>(patience).count()));
    }
  });
  add(of("forkserver", "polyproc"), [] { start_and_join(start::forkserver); });

  add(of("spawn", "limit_posix_spawn"), [] { bare_process::spawn_wait(this_program, do_nothing); });
  add(of("spawn", "polyproc"), [] { start_and_join(start::spawn); });
  add(of("spawn", "posix_spawn_bin_true"), [] { bare_process::spawn_wait("/bin/true"); });
#if defined(BENCH_HAS_BOOST_PROCESS)
  add(of("spawn", "boost_process"), [] { boost_process_peer::spawn_wait(this_program, do_nothing); });
#endif
#if defined(BENCH_HAS_REPROC)
  add(of("spawn", "reproc"), [] { reproc_peer::spawn_wait(this_program, do_nothing); });
#endif
  if (mebibytes != 0 || !python_process_peer::here()) return;
  for (auto const* method : {"fork", "forkserver", "spawn"})
    once(of(method, "python"), [method](benchmark::State& state) { time_python(state, method); });
}

void first_lines(std::string const& group, std::chrono::microseconds pause, int rounds) {
  auto const with = [=](auto measure) { return [=](benchmark::State& state) { measure(state, pause, rounds); }; };
  auto const ours = [=](auto tag) {
    return [=](benchmark::State& state) { ours_to_first_line(state, tag, pause, rounds); };
  };
  once(group + "/limit_futex_wake", with(futex_to_first_line));
  once(group + "/std_thread", with(thread_to_first_line));
  once(group + "/polyproc", ours(polyproc::start::forkserver));
  once(group + "/polyproc_fork", ours(polyproc::start::fork));
}

void crowds(std::string const& group, void (*measure)(benchmark::State&, int)) {
  for (int const size : {10, 1000})
    once(group + "/polyproc_" + std::to_string(size) + "_live",
         [=](benchmark::State& state) { measure(state, size); });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], do_nothing) == 0) return 0;
  polyproc::init(argc, argv);
  bare_process::fork_helper helper;  // while this process is small
  // A thousand children are as many descriptors.
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  for (std::size_t const mebibytes : std::initializer_list<std::size_t>{0, 256, 1024}) starts(mebibytes, helper);
  first_lines("process_first_line", 0us, 300);
  first_lines("process_first_line_after_2_ms", 2ms, 100);
  crowds("process_is_alive", alive_of);
  crowds("process_join_of_an_ended_one", join_of);
  crowds("process_active_children_each", active_of);
  crowds("process_start_join_beside_others", start_beside);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
