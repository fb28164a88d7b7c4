// Which processor a bench runs on.
#pragma once

#include <sched.h>

/// This process, and those it forks, on one processor for a while; the index is taken round the usable ones.
class on_processor {
 public:
  on_processor(bool pinned, int index) {
    CPU_ZERO(&before_);
    ::sched_getaffinity(0, sizeof before_, &before_);
    if (!pinned) return;
    index %= CPU_COUNT(&before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &before_) && index-- == 0) CPU_SET(cpu, &one);
    ::sched_setaffinity(0, sizeof one, &one);
  }
  on_processor(on_processor const&) = delete;
  on_processor& operator=(on_processor const&) = delete;
  ~on_processor() { ::sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_;
};
