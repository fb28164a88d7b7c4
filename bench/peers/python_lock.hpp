// multiprocessing.Lock of Python, timed by Python itself; with the interpreter's share, which its users pay too.
#pragma once

#include <cstdio>
#include <cstdlib>

struct python_lock_peer {
  static bool here() { return std::system("command -v python3 >/dev/null 2>&1") == 0; }

  /// Nanoseconds for acquire and release; 0 when there is no telling.
  static double uncontended() {
    auto* const python = ::popen(
        "timeout 60 python3 -c '\n"
        "import multiprocessing, timeit\n"
        "lock = multiprocessing.Lock()\n"
        "both = {\"a\": lock.acquire, \"r\": lock.release}\n"
        "print(timeit.timeit(\"a();r()\", globals=both, number=1000000) * 1e3)' 2>/dev/null",
        "r");
    if (python == nullptr) return 0;
    double nanoseconds = 0;
    bool const read = std::fscanf(python, "%lf", &nanoseconds) == 1;
    ::pclose(python);
    return read ? nanoseconds : 0;
  }
};
