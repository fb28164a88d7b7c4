// What the tests share whose program is its own child, below polyproc::init: memory through which parent, children and
// grandchildren talk, the work that a child gets, children that do not outlive their test. Nothing above floor 0 is used.
#pragma once

#include "support/catch.hpp"

#include <polyproc/backend/native.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <dirent.h>
#endif

int run_catch(int argc, char** argv);

namespace child_program {

using namespace std::chrono_literals;
using backend = polyproc::native_backend;
using polyproc::child_request;
using polyproc::end_kind;
using polyproc::end_status;
using polyproc::never;
using polyproc::process_state;
using polyproc::stream_mode;
using polyproc::time_point;
using word = backend::atomic<std::uint32_t>;
using wide = backend::atomic<std::uint64_t>;
using start_options = polyproc::child_start<backend::handle, backend::invalid_handle>;

/// As long as anything here may take before it counts as hanging.
inline constexpr auto patience = 20s;

inline time_point in(std::chrono::milliseconds from_now) { return backend::now() + from_now; }

/// What parent, children and grandchildren talk through, in family memory.
struct board {
  word ready;    // counted up by children as they get somewhere
  word go;       // set by the test
  word ping;     // ping-pong
  word pong;
  wide ids[4];
  wide counter;
  wide numbers[4];
};

/// Waits for `of` to become at least `least`; false when patience ends.
inline bool reaches(word& of, std::uint32_t least) {
  auto const deadline = in(patience);
  for (;;) {
    auto const value = of.load(std::memory_order_acquire);
    if (value >= least) return true;
    if (backend::now() >= deadline) return false;
    // Woken by the other side; the limit is for wakes that portable backends may miss.
    backend::wait(of, value, std::min(deadline, in(100ms)));
  }
}
inline void raise(word& of, std::uint32_t to) {
  of.store(to, std::memory_order_release);
  backend::wake_all(of);
}
inline void bump(word& of) {
  of.fetch_add(1, std::memory_order_acq_rel);
  backend::wake_all(of);
}

/// For what has no event of its own.
template <class Condition>
bool eventually(Condition&& condition) {
  for (auto const deadline = in(patience); backend::now() < deadline;) {
    if (condition()) return true;
    std::this_thread::sleep_for(1ms);
  }
  return condition();
}

inline std::span<std::byte const> bytes_of(std::string_view text) {
  return {reinterpret_cast<std::byte const*>(text.data()), text.size()};
}

inline std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  std::uint32_t x = 1;
  for (auto& c : text) c = static_cast<char>((x = x * 1664525 + 1013904223) >> 24);
  return text;
}

// --- family memory: after what is the backend's the counter of all that was given out; then boards, from 64 KiB on; from
// 8 MiB on the work of children. Tests may have what is between 1 MiB and 8 MiB, and the last 1 MiB.

template <class T>
T& family_at(std::uint64_t offset, std::size_t size = sizeof(T)) {
  auto* const memory = backend::family().base + offset;
  if (!backend::commit(memory, size)) std::abort();
  return *reinterpret_cast<T*>(memory);
}

inline board& board_at(std::uint64_t offset) { return family_at<board>(offset); }

/// What a child is to do. Each program says what its numbers mean.
struct order {
  std::uint32_t what = 0;
  std::uint32_t number = 0;
  std::uint64_t board_offset = 0;
};

/// What work is an offset of: first what is the backend's.
struct work_head {
  std::uint64_t of_backend = 0;
  std::uint64_t size = 0;
  order what;
};

/// Any process of the family may call it, from any thread.
inline std::uint64_t put_work(order const& o, std::string_view more = {}) {
  auto const size = (sizeof(work_head) + more.size() + 63) / 64 * 64;
  auto const at = (std::uint64_t{8} << 20) + family_at<wide>(backend::family_reserved).fetch_add(size);
  if (at + size > backend::family().size - (1 << 20)) std::abort();
  auto& head = family_at<work_head>(at, size);
  head.size = more.size();
  head.what = o;
  if (!more.empty()) std::memcpy(&head + 1, more.data(), more.size());
  return at;
}

inline start_options options_for(order const& o, std::string_view more = {}, bool daemon = false) {
  start_options start;
  start.work = put_work(o, more);
  start.daemon = daemon;
  return start;
}

// --- what the tests use

/// Starts a child by either way.
template <class Backend>
typename Backend::child start_child(start_options const& start, bool served) {
  if (!served) return Backend::start_image(start);
  auto made = Backend::start_served(start);
  if (!made) throw std::runtime_error("start_served gave nothing");
  return std::move(*made);
}

/// A child that does not outlive its test.
class started {
 public:
  explicit started(order const& o, std::string_view more = {}, bool daemon = false)
      : started(options_for(o, more, daemon)) {}
  explicit started(start_options const& start, bool served = false) : child_(start_child<backend>(start, served)) {}
  explicit started(backend::child child) : child_(std::move(child)) {}
  started(started const&) = delete;
  started& operator=(started const&) = delete;
  ~started() {
    if (!reaped_) {
      try {
        backend::ask(child_, child_request::kill);
        if (backend::await_end(child_, in(patience))) backend::reap(child_);
      } catch (...) {
      }
    }
    backend::release(child_);
  }

  end_status end() {
    REQUIRE(backend::await_end(child_, in(patience)));
    reaped_ = true;
    return backend::reap(child_);
  }
  bool ask(child_request what) { return backend::ask(child_, what); }
  backend::child& get() { return child_; }

 private:
  backend::child child_;
  bool reaped_ = false;
};

inline end_status code(int value) { return {end_kind::code, value, false, 0}; }
inline end_status signal_number(int value) { return {end_kind::signal, value, false, 0}; }
/// Without what only some systems tell.
inline end_status plain(end_status s) { return {s.kind, s.value, false, 0}; }

/// Every test has a board of its own, and leaves no descriptors behind (where they can be counted).
class fixture {
 public:
  fixture() : before_(count()) {
    static std::uint64_t next = backend::family_reserved + (1 << 16);
    offset = next;
    next += 1024;
    b = &board_at(offset);
  }
  fixture(fixture const&) = delete;
  fixture& operator=(fixture const&) = delete;
  ~fixture() {
    // Threads that were joined may still be on their way out.
    CHECK(eventually([&] { return count() <= before_; }));
  }
  template <class Role>
  order with(Role what, std::uint32_t number = 0) const {
    return {static_cast<std::uint32_t>(what), number, offset};
  }

  std::uint64_t offset = 0;
  board* b = nullptr;

 private:
  static int count() {
    int n = 0;
#if !defined(_WIN32)
    if (DIR* const all = opendir("/dev/fd")) {
      while (readdir(all) != nullptr) ++n;
      closedir(all);
    }
#endif
    return n;
  }
  int before_;
};

/// What such a program's main does.
inline int main_of(int argc, char** argv, int (*run)(order const&, std::string_view more), order const& nothing) {
  backend::prepare();
  if (auto const work = backend::adopt(argc, argv)) {
    auto const size = family_at<work_head>(*work).size;
    auto const& head = family_at<work_head>(*work, sizeof(work_head) + size);
    try {
      return run(head.what, {reinterpret_cast<char const*>(&head + 1), size});
    } catch (std::runtime_error const&) {
      return 78;
    }
  }
  // What a process opens once and keeps is open before the first test counts.
  for (bool const served : {false, true}) {
    if (served && !backend::has_server) continue;
    started warm(options_for(nothing, {}, true), served);
    backend::await_end(warm.get(), in(patience));
  }
  return run_catch(argc, argv);
}

}  // namespace child_program

namespace Catch {
template <>
struct StringMaker<polyproc::end_status> {
  static std::string convert(polyproc::end_status const& s) {
    char const* const kinds[] = {"code ", "signal ", "unknown "};
    return kinds[static_cast<int>(s.kind)] + std::to_string(s.value);
  }
};
}  // namespace Catch
