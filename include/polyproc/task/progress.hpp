/// How far something has come: a line on stderr.
#pragma once

#include <polyproc/backend/native.hpp>

#include <atomic>
#include <optional>

namespace polyproc::inline v0_1 {

/// What a line of progress says.
struct progress_facts {
  std::string name = {};
  std::uint64_t done = 0;
  std::optional<std::uint64_t> total = {};  ///< Nothing when nobody knows.
  std::chrono::nanoseconds elapsed{};
};

namespace detail {

/// Three digits that count: 0.042, 3.14, 250, 12.3k, 4.56M.
template <class = void>
std::string short_number(double value) {
  char const* const units[] = {"", "k", "M", "G", "T", "P"};
  std::size_t unit = 0;
  while (value >= 999.5 && unit < 5) {
    value /= 1000;
    ++unit;
  }
  int digits = value >= 99.95 ? 0 : value >= 9.995 ? 1 : value >= 0.9995 ? 2 : 3;
  double scale = 1;
  for (int i = 0; i < digits; ++i) scale *= 10;
  auto const all = static_cast<std::uint64_t>(value * scale + 0.5);
  auto whole = std::to_string(all / static_cast<std::uint64_t>(scale));
  auto rest = std::to_string(all % static_cast<std::uint64_t>(scale));
  while (digits > 0 && static_cast<int>(rest.size()) < digits) rest.insert(0, 1, '0');
  if (digits > 0) {
    while (!rest.empty() && rest.back() == '0') rest.pop_back();
    if (!rest.empty()) whole += "." + rest;
  }
  return whole + units[unit];
}

/// 0:07, 12:05, 1:02:03, 2d 03:00.
template <class = void>
std::string short_time(std::chrono::nanoseconds time) {
  auto const two = [](std::int64_t n) { return (n < 10 ? "0" : "") + std::to_string(n); };
  auto const seconds = std::chrono::duration_cast<std::chrono::seconds>(time + std::chrono::milliseconds{500}).count();
  auto const minutes = seconds / 60;
  auto const hours = minutes / 60;
  if (hours >= 48) return std::to_string(hours / 24) + "d " + two(hours % 24) + ":" + two(minutes % 60);
  if (hours > 0) return std::to_string(hours) + ":" + two(minutes % 60) + ":" + two(seconds % 60);
  return std::to_string(minutes) + ":" + two(seconds % 60);
}

}  // namespace detail

/// "NAME: 250/1000 (25%), 50/s, 0:15 left": count, share, steps in a second since the beginning, and how long the rest takes
/// if it goes on like that. Without a total "NAME: 250, 50/s, 0:05"; when all is done "NAME: 1000/1000 (100%), 50/s, 0:20".
/// Of fewer facts fewer words: no rate before anything is done.
template <class = void>
[[nodiscard]] std::string progress_text(progress_facts const& facts) {
  auto text = facts.name.empty() ? std::string() : facts.name + ": ";
  text += std::to_string(facts.done);
  if (facts.total) {
    text += "/" + std::to_string(*facts.total);
    // Rounded down: 100% means all.
    auto const all = static_cast<double>(*facts.total);
    auto const share = facts.done == *facts.total ? 100.0 : all == 0 ? 100.0 : 100.0 * static_cast<double>(facts.done) / all;
    text += " (" + std::to_string(static_cast<std::uint64_t>(share)) + "%)";
  }
  auto const seconds = std::chrono::duration<double>(facts.elapsed).count();
  bool const has_rate = facts.done > 0 && seconds > 0;
  if (has_rate) text += ", " + detail::short_number(static_cast<double>(facts.done) / seconds) + "/s";
  if (facts.total && facts.done < *facts.total) {
    if (!has_rate) return text;
    auto const rest = seconds / static_cast<double>(facts.done) * static_cast<double>(*facts.total - facts.done);
    if (rest > 100.0 * 365 * 86400) return text;
    auto const left = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(rest));
    return text + ", " + detail::short_time(left) + " left";
  }
  return text + ", " + detail::short_time(facts.elapsed);
}

struct progress_options {
  std::string name = {};
  /// How many steps there will be, if that is known.
  std::optional<std::uint64_t> total = {};
  /// Between two lines of a log, and between two versions of the line on a terminal.
  std::chrono::milliseconds log_every = std::chrono::seconds{10};
  std::chrono::milliseconds terminal_every{100};
  /// Whether stderr is a terminal, where the line is written over; nothing: to be found out.
  std::optional<bool> terminal = {};
};

/// Counts steps and now and then tells on stderr how far it has come: on a terminal in one line that is written over,
/// elsewhere (a file, a pipe) a line every ten seconds; and a last one at the end. A step costs one atomic addition and a
/// look at the clock. add may be called from any number of threads at once, the others by one.
///
///     polyproc::progress bar{{.name = "files", .total = files.size()}};
///     for (auto& f : polyproc::as_completed(files)) { use(f.get()); bar.add(); }
template <backend Backend = native_backend>
class basic_progress {
 public:
  explicit basic_progress(std::uint64_t total) : basic_progress(progress_options{.total = total}) {}
  explicit basic_progress(progress_options options = {})
      : options_(std::move(options)),
        terminal_(options_.terminal ? *options_.terminal : Backend::stderr_is_terminal()),
        begin_(Backend::now()),
        next_(ticks(begin_ + (terminal_ ? options_.terminal_every : options_.log_every))) {}
  basic_progress(basic_progress const&) = delete;
  basic_progress& operator=(basic_progress const&) = delete;
  ~basic_progress() { finish(); }

  void add(std::uint64_t steps = 1) noexcept {
    done_.fetch_add(steps, std::memory_order_relaxed);
    auto const now = Backend::now();
    auto due = next_.load(std::memory_order_relaxed);
    if (ticks(now) < due) return;
    // One of those who see that it is time.
    auto const next = ticks(now + (terminal_ ? options_.terminal_every : options_.log_every));
    if (next_.compare_exchange_strong(due, next, std::memory_order_relaxed)) show(now, false);
  }

  [[nodiscard]] std::uint64_t done() const noexcept { return done_.load(std::memory_order_relaxed); }
  [[nodiscard]] progress_facts facts() const { return facts_at(Backend::now()); }

  /// Writes the last line; once. What is added afterwards is counted and not shown.
  void finish() noexcept {
    if (std::exchange(finished_, true)) return;
    next_.store(ticks(never), std::memory_order_relaxed);
    show(Backend::now(), true);
  }

 private:
  static std::int64_t ticks(time_point when) noexcept { return when.time_since_epoch().count(); }
  [[nodiscard]] progress_facts facts_at(time_point now) const {
    return {options_.name, done(), options_.total, now - begin_};
  }

  void show(time_point now, bool last) noexcept {
    // Who comes while another one writes has nothing newer to say, except at the end.
    while (writing_.exchange(true, std::memory_order_acquire)) {
      if (!last) return;
      Backend::yield();
    }
    try {
      auto text = progress_text(facts_at(now));
      if (terminal_) {
        if (text.size() > longest_line) text.resize(longest_line);
        auto const size = text.size();
        if (size < shown_) text.append(shown_ - size, ' ');
        shown_ = size;
        text.insert(0, 1, '\r');
      }
      if (!terminal_ || last) text += '\n';
      Backend::write_stderr(text);
    } catch (...) {  // no memory: not now
    }
    writing_.store(false, std::memory_order_release);
  }

  /// A longer one would be broken on most terminals, and could not be written over.
  static constexpr std::size_t longest_line = 79;

  progress_options options_;
  bool terminal_;
  time_point begin_;
  std::atomic<std::uint64_t> done_{0};
  std::atomic<std::int64_t> next_;
  std::atomic<bool> writing_{false};
  std::size_t shown_ = 0;  // how long the line on the terminal is
  bool finished_ = false;
};

using progress = basic_progress<>;

}  // namespace polyproc::inline v0_1
