// multiprocessing.Queue of Python, timed by Python itself.
#pragma once

#include <cstdio>

struct python_queue_peer {
  /// Nanoseconds for 5 producers with 1000 items each and 5 consumers that stop at an end mark, from the first start to
  /// the last join; 0 when there is no telling.
  static double five_by_five() {
    return timed(
        "def put(q):\n"
        "    for i in range(1000): q.put(i)\n"
        "def get(q):\n"
        "    while q.get() is not None: pass\n"
        "q = m.Queue()\n"
        "begun = time.perf_counter()\n"
        "producers = [m.Process(target=put, args=(q,)) for _ in range(5)]\n"
        "consumers = [m.Process(target=get, args=(q,)) for _ in range(5)]\n"
        "for p in producers + consumers: p.start()\n"
        "for p in producers: p.join()\n"
        "for _ in consumers: q.put(None)\n"
        "for p in consumers: p.join()\n"
        "print((time.perf_counter() - begun) * 1e9)\n");
  }
  /// Nanoseconds for each of many small messages from one process to another.
  static double one_way() {
    return timed(
        "def put(q):\n"
        "    for i in range(50001): q.put(i)\n"
        "q = m.Queue(1024)\n"
        "p = m.Process(target=put, args=(q,))\n"
        "p.start()\n"
        "q.get()\n"
        "begun = time.perf_counter()\n"
        "for _ in range(50000): q.get()\n"
        "print((time.perf_counter() - begun) * 1e9 / 50000)\n"
        "p.join()\n");
  }

 private:
  static double timed(char const* program) {
    char command[2000];
    std::snprintf(command, sizeof command,
                  "timeout 60 python3 -c 'import multiprocessing, time\n"
                  "m = multiprocessing.get_context(\"fork\")\n%s' 2>/dev/null",
                  program);
    auto* const python = ::popen(command, "r");
    if (python == nullptr) return 0;
    double nanoseconds = 0;
    bool const read = std::fscanf(python, "%lf", &nanoseconds) == 1;
    ::pclose(python);
    return read ? nanoseconds : 0;
  }
};
