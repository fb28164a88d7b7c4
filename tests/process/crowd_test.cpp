// Many children, started by many threads, killed at random; and a program whose threads hold every lock there is.
// POLYPROC_CROWD sets how many children (default 1000; under Wine, where a start costs 40 ms, 200).
// timeout: 400

#include "process/start_methods.hpp"

#include <cstdio>
#include <cstdlib>
#include <random>

#if !defined(_WIN32)
#include <csignal>
#include <sys/resource.h>
#endif

using namespace std::chrono_literals;
using polyproc::process;
using polyproc::process_options;
using kind = polyproc::exit_status::kind;

namespace {

int crowd() {
  char const* const text = std::getenv("POLYPROC_CROWD");
  if (text != nullptr) return std::atoi(text);
  return polyproc::native_backend::has_fork ? 1000 : 200;
}

int exit_with(int code) { polyproc::this_process::exit(code); }
void sleep_for_ever() { std::this_thread::sleep_for(std::chrono::hours(1)); }

/// Every thread starts its share: one half ends with a code of its own, the other half is killed at a random moment.
void start_a_crowd(polyproc::start_method method, int children) {
  constexpr int threads = 8;
  std::atomic<int> wrong{0};
  std::atomic<int> killed{0};
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t)
    all.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t) + 1);
      for (int i = 0; i < children / threads; ++i) {
        bool const victim = i % 2 == 0;
        int const code = (t * 31 + i) % 100;
        process p = victim ? process{process_options{.start = method}, sleep_for_ever}
                           : process{process_options{.start = method}, exit_with, code};
        p.start();
        if (victim) {
          for (auto spins = random() % 200; spins > 0; --spins) std::this_thread::yield();
          p.kill();
        }
        p.join();
        auto const status = *p.status();
        bool const right = victim ? status.how == kind::signal && status.signal == 9
                                  : status.how == kind::normal && status.code == code;
        if (!right) {
          ++wrong;
          std::fprintf(stderr, "child %d of thread %d: %s\n", i, t, to_string(status).c_str());
        }
        if (victim) ++killed;
      }
    });
  for (auto& t : all) t.join();
  CHECK(wrong == 0);
  CHECK(killed > 0);
  CHECK(polyproc::active_children().empty());
}

}  // namespace

TEST_CASE_METHOD(tidy, "a crowd of children, started by 8 threads, half of them killed: every status is right, none is left") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    start_a_crowd(method, crowd());
  }
}

TEST_CASE_METHOD(tidy, "[H43] a program whose 20 threads hold locks all the time starts children, and none hangs") {
  std::atomic<bool> stop{false};
  std::mutex own;
  std::vector<std::thread> busy;
  std::FILE* const sink = std::tmpfile();
  REQUIRE(sink != nullptr);
  for (int i = 0; i < 20; ++i)
    busy.emplace_back([&, i] {
      while (!stop) {
        switch (i % 3) {
          case 0: {
            std::vector<std::string> rubbish(20, std::string(100, 'x'));
            break;
          }
          case 1: std::fprintf(sink, "%d\n", i); break;
          default: {
            std::scoped_lock hold{own};
            std::this_thread::yield();
          }
        }
      }
    });
  int const children = polyproc::native_backend::has_fork ? crowd() : crowd() / 5;
  for (int i = 0; i < children; ++i) {
    // The default method; the child uses the same locks.
    process p{[](int n) {
                std::vector<std::string> some(50, std::string(200, 'y'));
                std::fprintf(stderr, "%s", n < 0 ? some[0].c_str() : "");
                if (static_cast<int>(some.size()) != 50) polyproc::this_process::exit(3);
              },
              i};
    p.start();
    REQUIRE(p.join_for(60s));
    REQUIRE(p.exit_code() == 0);
  }
  stop = true;
  for (auto& t : busy) t.join();
  std::fclose(sink);
}

#if !defined(_WIN32)
TEST_CASE_METHOD(tidy, "a thousand children may live at once within the usual limit of descriptors") {
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit usual = before;
  usual.rlim_cur = std::min<rlim_t>(1200, before.rlim_max);
  setrlimit(RLIMIT_NOFILE, &usual);
  int const count = std::min(crowd(), 1000);
  shared_notes n;
  {
    std::vector<process> all;
    for (int i = 0; i < count; ++i) {
      all.emplace_back([](shared_notes notes) {
        ++notes->count;
        while (notes->b == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }, n);
      all.back().start();
    }
    CHECK(polyproc::active_children().size() == static_cast<std::size_t>(count));
    n->b = 1;
    for (auto& p : all) p.join();
    CHECK(n->count == count);
  }
  setrlimit(RLIMIT_NOFILE, &before);
}
#endif
