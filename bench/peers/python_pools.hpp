// The pools of Python, timed by Python itself: concurrent.futures with threads and with processes, multiprocessing.Pool.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

struct python_pools_peer {
  static bool here() { return std::system("command -v python3 >/dev/null 2>&1") == 0; }

  // What makes a pool of two, and how a task is submitted to it. abs is a function that a child can read from a module.
  static constexpr char const* threads = "concurrent.futures.ThreadPoolExecutor(2)";
  static constexpr char const* processes = "concurrent.futures.ProcessPoolExecutor(2, mp_context=m)";
  static constexpr char const* pool = "m.Pool(2)";

  /// Nanoseconds of one task after the other, each waited for; 0 when there is no telling.
  static double one_at_a_time(char const* made) {
    return timed(made, 2000, "for _ in range(n): give(1).get() if old else give(1).result()\n");
  }
  /// Nanoseconds of each of many that are submitted before the first one is waited for.
  static double many_at_once(char const* made) {
    return timed(made, 10000, "all = [give(1) for _ in range(n)]\nfor f in all: f.get() if old else f.result()\n");
  }
  /// Nanoseconds of each item of a map with chunks that are chosen by Python where it does, else of 1000 items.
  static double map(char const* made) {
    return timed(made, 200000, "list(p.map(abs, range(n)) if old else p.map(abs, range(n), chunksize=1000))\n");
  }

 private:
  static double timed(std::string const& made, int count, std::string const& work) {
    auto const command =
        "timeout 60 python3 -c '\n"
        "import concurrent.futures, multiprocessing, time\n"
        "m = multiprocessing.get_context(\"fork\")\n"
        "n = " + std::to_string(count) + "\n"
        "p = " + made + "\n"
        "old = not hasattr(p, \"submit\")\n"
        "give = (lambda x: p.apply_async(abs, (x,))) if old else (lambda x: p.submit(abs, x))\n"
        "give(1).get() if old else give(1).result()\n"
        "begun = time.perf_counter()\n" + work +
        "print((time.perf_counter() - begun) * 1e9 / n)' 2>/dev/null";
    auto* const python = ::popen(command.c_str(), "r");
    if (python == nullptr) return 0;
    double nanoseconds = 0;
    bool const read = std::fscanf(python, "%lf", &nanoseconds) == 1;
    ::pclose(python);
    return read ? nanoseconds : 0;
  }
};
