#include "support/tidy.hpp"

#include <mutex>

using namespace std::chrono_literals;
using polyproc::progress_facts;
using polyproc::progress_text;

namespace {

/// Writes into memory, by a clock of its own.
struct paper_backend : polyproc::native_backend {
  static inline std::mutex lock;
  static inline std::string written;
  static inline std::atomic<std::int64_t> clock{1};
  static inline bool terminal = false;

  static polyproc::time_point now() noexcept { return polyproc::time_point{std::chrono::nanoseconds{clock.load()}}; }
  static void write_stderr(std::string_view text) noexcept {
    std::scoped_lock hold{lock};
    written += text;
  }
  static bool stderr_is_terminal() noexcept { return terminal; }

  static void pass(std::chrono::nanoseconds time) { clock += time.count(); }
  static std::string take() {
    std::scoped_lock hold{lock};
    return std::exchange(written, {});
  }
};
using paper_progress = polyproc::basic_progress<paper_backend>;

}  // namespace

TEST_CASE_METHOD(tidy, "a line of progress has count, share, rate and the time that is left") {
  CHECK(progress_text({"files", 250, 1000, 5s}) == "files: 250/1000 (25%), 50/s, 0:15 left");
  CHECK(progress_text({"files", 1000, 1000, 20s}) == "files: 1000/1000 (100%), 50/s, 0:20");
  CHECK(progress_text({"files", 250, {}, 5s}) == "files: 250, 50/s, 0:05");
  CHECK(progress_text({"", 1, 3, 90s}) == "1/3 (33%), 0.011/s, 3:00 left");
  CHECK(progress_text({"x", 0, 10, 5s}) == "x: 0/10 (0%)");
  CHECK(progress_text({"x", 0, {}, 5s}) == "x: 0, 0:05");
  CHECK(progress_text({"x", 7, 10, 0s}) == "x: 7/10 (70%)");
  CHECK(progress_text({"x", 0, 0, 1s}) == "x: 0/0 (100%), 0:01");
  CHECK(progress_text({"x", 12, 10, 2s}) == "x: 12/10 (120%), 6/s, 0:02");
}

TEST_CASE_METHOD(tidy, "100% means all, and numbers have three digits that count") {
  CHECK(progress_text({"", 999999, 1000000, 1s}) == "999999/1000000 (99%), 1M/s, 0:00 left");
  auto const rate = [](std::uint64_t done, std::chrono::nanoseconds time) {
    auto const text = progress_text({"", done, {}, time});
    auto const from = text.find(", ") + 2;
    return text.substr(from, text.find("/s") - from);
  };
  CHECK(rate(1, 1s) == "1");
  CHECK(rate(5, 2s) == "2.5");
  CHECK(rate(314, 100s) == "3.14");
  CHECK(rate(1234, 100s) == "12.3");
  CHECK(rate(9999, 10s) == "1k");
  CHECK(rate(123456, 10s) == "12.3k");
  CHECK(rate(4560000, 1s) == "4.56M");
  CHECK(rate(1, 1000s) == "0.001");
  CHECK(rate(10, 3s) == "3.33");
  CHECK(rate(9999, 1000s) == "10");
  CHECK(rate(1'000'000'000'000'000'000, 1ms) == "1000000P");
}

TEST_CASE_METHOD(tidy, "long times are told in hours and days, and endless ones not at all") {
  CHECK(progress_text({"", 1, {}, 59499ms}) == "1, 0.017/s, 0:59");
  CHECK(progress_text({"", 1, {}, 59500ms}) == "1, 0.017/s, 1:00");
  CHECK(progress_text({"", 1, 3, 3723s}) == "1/3 (33%), 0/s, 2:04:06 left");
  CHECK(progress_text({"", 1, {}, 51h}) == "1, 0/s, 2d 03:00");
  CHECK(progress_text({"", 1, 1'000'000'000'000, 1h}) == "1/1000000000000 (0%), 0/s");
}

TEST_CASE_METHOD(tidy, "a log gets a line every ten seconds, and the last one at the end") {
  paper_backend::terminal = false;
  (void)paper_backend::take();
  {
    paper_progress bar{{.name = "log", .total = 4}};
    bar.add();
    CHECK(paper_backend::take().empty());
    paper_backend::pass(10s);
    bar.add();
    CHECK(paper_backend::take() == "log: 2/4 (50%), 0.2/s, 0:10 left\n");
    bar.add();
    paper_backend::pass(5s);
    bar.add();
    CHECK(paper_backend::take().empty());
    CHECK(bar.done() == 4);
    CHECK(progress_text(bar.facts()) == "log: 4/4 (100%), 0.267/s, 0:15");
  }
  CHECK(paper_backend::take() == "log: 4/4 (100%), 0.267/s, 0:15\n");
}

TEST_CASE_METHOD(tidy, "on a terminal one line is written over, whole") {
  paper_backend::terminal = true;
  (void)paper_backend::take();
  paper_progress bar{{.name = "bar", .total = 10}};
  bar.add();
  CHECK(paper_backend::take().empty());
  paper_backend::pass(100ms);
  bar.add(8);
  CHECK(paper_backend::take() == "\rbar: 9/10 (90%), 90/s, 0:00 left");
  paper_backend::pass(50ms);
  bar.add();
  CHECK(paper_backend::take().empty());
  bar.finish();
  CHECK(paper_backend::take() == "\rbar: 10/10 (100%), 66.7/s, 0:00 \n");
  paper_backend::pass(1h);
  bar.add();
  bar.finish();
  CHECK(paper_backend::take().empty());
  paper_progress tall{{.name = std::string(100, 'x'), .terminal = true}};
  tall.finish();
  CHECK(paper_backend::take() == "\r" + std::string(79, 'x') + "\n");
}

TEST_CASE_METHOD(tidy, "threads may count together, and no line is torn") {
  paper_backend::terminal = false;
  (void)paper_backend::take();
  {
    paper_progress bar{{.name = "all", .total = 40000, .log_every = 1ms}};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 10000; ++i) {
          paper_backend::pass(1us);
          bar.add();
        }
      });
    for (auto& t : threads) t.join();
    CHECK(bar.done() == 40000);
  }
  auto const text = paper_backend::take();
  std::size_t lines = 0;
  for (std::size_t at = 0; at < text.size();) {
    auto const end = text.find('\n', at);
    REQUIRE(end != std::string::npos);
    CHECK(text.compare(at, 5, "all: ") == 0);
    CHECK(text.substr(at, end - at).find("all: ", 1) == std::string::npos);
    ++lines;
    at = end + 1;
  }
  CHECK(lines >= 10);
  CHECK(lines <= 41);
}
