/// The fixture of every test that starts processes or shares memory: afterwards descriptors, threads, children and
/// shared-memory files are what they were before.
#pragma once

#include "support/catch.hpp"
#include "support/sanitizers.hpp"

#include <polyproc/polyproc.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#ifdef POLYPROC_TEST_THREAD_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif

struct inventory {
  std::multiset<std::string> descriptors;  // what they refer to; the sockets of the fork server are as good as each other
  std::size_t threads = 0;
  std::size_t children = 0;  // with the fork server and its reserve
  std::set<std::string> shared_memory;

  static inventory take() {
    inventory all;
#if !defined(_WIN32)
    std::error_code ignored;
    for (auto const& entry : std::filesystem::directory_iterator("/proc/self/fd", ignored)) {
      auto const target = std::filesystem::read_symlink(entry.path(), ignored);
      if (!ignored) all.descriptors.insert(target.string().substr(0, target.string().find("socket:") == 0 ? 7 : std::string::npos));
      ignored.clear();
    }
    std::erase_if(all.descriptors, [](auto const& d) { return d.find("/proc/") != std::string::npos; });
    for (auto const& task : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
      ++all.threads;
      std::ifstream list(task.path() / "children");
      for (std::string pid; list >> pid;) ++all.children;
    }
    for (auto const& file : std::filesystem::directory_iterator("/dev/shm", ignored))
      if (file.path().filename().string().find("polyproc") != std::string::npos)
        all.shared_memory.insert(file.path().string());
#endif
    return all;
  }
};

inline void nothing_at_all() {}

class tidy {
 public:
  tidy() {
    auto const at_rest = children_at_rest();
    before_ = inventory::take();
    for (int i = 0; i < 1000 && before_.children < at_rest; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      before_ = inventory::take();
    }
  }
  tidy(tidy const&) = delete;
  tidy& operator=(tidy const&) = delete;
  ~tidy() {
    // A thread that was joined leaves /proc a moment later, and the fork server makes its next reserve.
    auto after = inventory::take();
    for (int i = 0; i < 400 && (after.threads > before_.threads || after.children != before_.children ||
                                after.descriptors != before_.descriptors);
         ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      (void)polyproc::active_children();  // takes the status of a fork server that had to be replaced
      after = inventory::take();
    }
    CHECK(after.descriptors == before_.descriptors);
    CHECK(after.threads <= before_.threads);
    CHECK(after.children == before_.children);
    CHECK(after.shared_memory == before_.shared_memory);
  }

 private:
  /// How many there are as long as nothing goes on: where the fork server's reserve is a child of this process it may be in the
  /// making still.
  static std::size_t children_at_rest() {
    // What a process keeps from its first use on (the family's segment, the pipe its children watch) is not a leak.
    static std::size_t const children = [] {
      std::thread([] {}).join();  // a sanitizer starts a thread of its own with the first one
#ifdef POLYPROC_TEST_THREAD_SANITIZER
      // And a program that knows the names of functions, with the first report, also one that tsan.supp suppresses.
      char name[100];
      __sanitizer_symbolize_pc(reinterpret_cast<void*>(&nothing_at_all), "%f", name, sizeof name);
#endif
      auto const others = inventory::take().children;
      polyproc::process first{{.daemon = true}, nothing_at_all};
      first.start();
      first.join();
      CHECK(first.exit_code() == 0);
      return polyproc::native_backend::name == "linux" ? others + 2 : 0;
    }();
    return children;
  }

  inventory before_;
};
