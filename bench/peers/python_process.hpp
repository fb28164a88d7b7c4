// multiprocessing.Process of Python, timed by Python itself.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

struct python_process_peer {
  static bool here() { return std::system("command -v python3 >/dev/null 2>&1") == 0; }

  /// Nanoseconds for start and join of an empty process, by "fork", "forkserver" or "spawn"; 0 when there is no telling.
  static double start_and_join(std::string const& method) {
    // What is run is a function of a module, because this program has no file that a child could read it from.
    std::string const command =
        "timeout 60 python3 -c '\n"
        "import multiprocessing, os, statistics, time\n"
        "context = multiprocessing.get_context(\"" + method + "\")\n"
        "times = []\n"
        "def once():\n"
        "    begin = time.perf_counter()\n"
        "    process = context.Process(target=os.getpid)\n"
        "    process.start()\n"
        "    process.join()\n"
        "    times.append(time.perf_counter() - begin)\n"
        "once()\n"
        "end = time.perf_counter() + 0.5\n"
        "times.clear()\n"
        "while len(times) < 5 or time.perf_counter() < end: once()\n"
        "print(statistics.median(times) * 1e9)' 2>/dev/null";
    auto* const python = ::popen(command.c_str(), "r");
    if (python == nullptr) return 0;
    double nanoseconds = 0;
    bool const read = std::fscanf(python, "%lf", &nanoseconds) == 1;
    ::pclose(python);
    return read ? nanoseconds : 0;
  }
};
