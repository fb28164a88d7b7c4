/// Who ran what when, for looking at: https://ui.perfetto.dev and chrome://tracing show the files that are written here.
#pragma once

#include <polyproc/backend/concept.hpp>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <system_error>

namespace polyproc::inline v0_1::detail {

/// A task that has ended.
struct trace_event {
  std::string name;          // of the task; empty: "task"
  long pid = 0;              // of the process that ran it
  std::uint64_t worker = 0;  // which worker, from 1; a thread to those who look at it
  time_point begin{};
  time_point end{};
  char const* how = "value";  // it ended: "value", "exception", "cancelled", "time limit", "lost"; lives for ever
};

/// Keeps the last `most` events (each takes some 100 bytes, and its name); how many older ones it has dropped is in the file.
/// Any number of threads may use it at once. An owner that is to record nothing has none.
class trace_recorder {
 public:
  static constexpr std::size_t usual_most = 100000;

  explicit trace_recorder(std::string process_name, std::size_t most = usual_most)
      : process_name_(std::move(process_name)), most_(std::max<std::size_t>(1, most)) {}
  trace_recorder(trace_recorder const&) = delete;
  trace_recorder& operator=(trace_recorder const&) = delete;
  ~trace_recorder() = default;

  /// Without memory the event is dropped.
  void add(trace_event event) noexcept {
    std::scoped_lock hold{lock_};
    try {
      events_.push_back(std::move(event));
    } catch (...) {
      ++dropped_;
      return;
    }
    if (events_.size() > most_) {
      events_.pop_front();
      ++dropped_;
    }
  }
  /// What a worker is called where it is shown; else "worker N".
  void name_worker(long pid, std::uint64_t worker, std::string name) {
    std::scoped_lock hold{lock_};
    workers_[{pid, worker}] = std::move(name);
  }

  [[nodiscard]] std::size_t size() const {
    std::scoped_lock hold{lock_};
    return events_.size();
  }
  [[nodiscard]] std::uint64_t dropped() const {
    std::scoped_lock hold{lock_};
    return dropped_;
  }

  /// All of it as text in the trace event format (JSON). Times are those of time_point: traces of several pools, and of
  /// several processes, fit together.
  [[nodiscard]] std::string text() const {
    std::scoped_lock hold{lock_};
    std::string out = "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"dropped\":" + std::to_string(dropped_) +
                      "},\"traceEvents\":[";
    auto named = workers_;
    for (auto const& e : events_) named.try_emplace({e.pid, e.worker}, "worker " + std::to_string(e.worker));
    bool first = true;
    auto const next = [&] {
      out += first ? "\n" : ",\n";
      first = false;
    };
    long last = -1;
    for (auto const& [who, name] : named) {
      auto const where = ",\"pid\":" + std::to_string(who.first) + ",\"tid\":" + std::to_string(who.second);
      if (who.first != std::exchange(last, who.first)) {
        next();
        out += "{\"ph\":\"M\",\"name\":\"process_name\"" + where + ",\"args\":{\"name\":" + quoted(process_name_) + "}}";
      }
      next();
      out += "{\"ph\":\"M\",\"name\":\"thread_name\"" + where + ",\"args\":{\"name\":" + quoted(name) + "}}";
    }
    for (auto const& e : events_) {
      next();
      out += "{\"ph\":\"X\",\"cat\":\"task\",\"name\":" + quoted(e.name.empty() ? "task" : e.name) +
             ",\"pid\":" + std::to_string(e.pid) + ",\"tid\":" + std::to_string(e.worker) +
             ",\"ts\":" + microseconds(e.begin.time_since_epoch()) + ",\"dur\":" + microseconds(e.end - e.begin) +
             ",\"args\":{\"ended\":" + quoted(e.how) + "}}";
    }
    return out + "\n]}\n";
  }

  /// Throws std::system_error naming the file. One that is there is replaced.
  void write(std::string const& path) const {
    auto const all = text();
    struct closer {
      void operator()(std::FILE* file) const noexcept { (void)std::fclose(file); }
    };
    std::unique_ptr<std::FILE, closer> file(std::fopen(path.c_str(), "wb"));
    bool good = file && std::fwrite(all.data(), 1, all.size(), file.get()) == all.size();
    if (file) good = (std::fclose(file.release()) == 0) && good;
    if (!good)
      throw std::system_error(std::make_error_code(std::errc::io_error),
                              "polyproc: the trace could not be written to " + path +
                                  "; look whether its directory is there, may be written to, and has room");
  }

 private:
  static std::string microseconds(std::chrono::nanoseconds time) {
    auto const ns = std::max<std::int64_t>(0, time.count());
    auto const rest = std::to_string(ns % 1000);
    return std::to_string(ns / 1000) + "." + std::string(3 - rest.size(), '0') + rest;
  }

  /// As a JSON string. What is not UTF-8 in it is replaced by U+FFFD.
  static std::string quoted(std::string_view text) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string out = "\"";
    for (std::size_t i = 0; i < text.size();) {
      auto const c = static_cast<unsigned char>(text[i]);
      if (c == '"' || c == '\\') {
        out += '\\';
        out += text[i++];
      } else if (c < 0x20 || c == 0x7F) {
        out += "\\u00";
        out += digits[c >> 4];
        out += digits[c & 15];
        ++i;
      } else if (auto const length = sequence(text.substr(i)); length != 0) {
        out += text.substr(i, length);
        i += length;
      } else {
        out += "\\ufffd";
        ++i;
      }
    }
    return out + '"';
  }
  /// The bytes of the character at the beginning of `text`; 0 if there is none.
  static std::size_t sequence(std::string_view text) noexcept {
    auto const at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    auto const first = at(0);
    if (first < 0x80) return 1;
    std::size_t const length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4) return 0;
    for (std::size_t i = 1; i < length; ++i)
      if ((at(i) & 0xC0) != 0x80) return 0;
    // Longer than needed, a half of a surrogate pair, or beyond the last one.
    auto const second = at(1);
    if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) || (first == 0xF0 && second < 0x90) ||
        (first == 0xF4 && second > 0x8F))
      return 0;
    return length;
  }

  std::string process_name_;
  std::size_t most_;
  mutable std::mutex lock_;
  std::deque<trace_event> events_;
  std::map<std::pair<long, std::uint64_t>, std::string> workers_;
  std::uint64_t dropped_ = 0;
};

}  // namespace polyproc::inline v0_1::detail
