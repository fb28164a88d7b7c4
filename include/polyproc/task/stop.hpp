/// Asking work to stop: the one who asks has a stop_source, the one who is asked looks at a stop_token now and then. Nobody is
/// interrupted by it.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/memory/shared.hpp>
#include <polyproc/sync/waiting.hpp>
#include <polyproc/wire/error.hpp>

#include <memory>

namespace polyproc::inline v0_1 {

/// Whether to stop, to be looked at by the work itself; costs one load. Copyable, for this process: to have somebody in another
/// process stopped, send a stop_source. Made by default it is never asked.
template <backend Backend = native_backend>
class basic_stop_token {
 public:
  using word = typename Backend::template atomic<std::uint32_t>;

  basic_stop_token() = default;
  /// Stop is asked for once `where` has that value; `keep` keeps the word.
  basic_stop_token(word const& where, std::uint32_t value, std::shared_ptr<void const> keep) noexcept
      : word_(&where), value_(value), keep_(std::move(keep)) {}

  [[nodiscard]] bool stop_requested() const noexcept {
    return word_ != nullptr && word_->load(std::memory_order_acquire) == value_;
  }
  /// Whether there is somebody who could ask.
  [[nodiscard]] bool stop_possible() const noexcept { return word_ != nullptr; }

  /// Sleeps until asked to stop: a pause that ends early. False when the time is over first.
  template <class Rep, class Period>
  bool wait_for(std::chrono::duration<Rep, Period> wait) const {
    return sleep(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  bool wait_until(std::chrono::time_point<Clock, Duration> when) const {
    return sleep(detail::deadline_at<Backend>(when));
  }

 private:
  friend struct detail::wait_access;
  [[nodiscard]] bool wait_is_over(bool) const noexcept { return stop_requested(); }
  [[nodiscard]] word_wait<word> announce_wait() const noexcept {
    static constinit word never_asked{0};
    auto const& where = word_ != nullptr ? *word_ : never_asked;
    auto const seen = where.load();
    return {&where, seen == value_ && word_ != nullptr ? seen + 1 : seen};
  }

  bool sleep(time_point deadline) const {
    for (;;) {
      if (stop_requested()) return true;
      if (deadline != never && Backend::now() >= deadline) return false;
      auto const until = detail::no_later_than<Backend>(deadline, detail::idle_recheck);
      auto const at = announce_wait();
      Backend::wait(*at.word, at.expected, until);
    }
  }

  word const* word_ = nullptr;
  std::uint32_t value_ = 0;
  std::shared_ptr<void const> keep_;
};

/// Asks all who have a token of it to stop. Copyable; copies are the same source, also in other processes (it may be an
/// argument, a message, a part of one). What is asked for cannot be taken back.
template <backend Backend = native_backend>
class basic_stop_source {
 public:
  /// Throws std::bad_alloc, std::system_error.
  basic_stop_source() = default;

  /// False when that was asked for before.
  bool request_stop() const noexcept {
    if (state_->asked.exchange(1) != 0) return false;
    Backend::wake_all(state_->asked);
    return true;
  }
  [[nodiscard]] bool stop_requested() const noexcept { return state_->asked.load(std::memory_order_acquire) != 0; }
  [[nodiscard]] basic_stop_token<Backend> get_token() const {
    return {state_->asked, 1, std::make_shared<basic_shared<state, Backend>>(state_)};
  }

  friend bool operator==(basic_stop_source const&, basic_stop_source const&) = default;

 private:
  friend codec<basic_stop_source>;
  struct state {
    typename Backend::template atomic<std::uint32_t> asked;
  };
  explicit basic_stop_source(basic_shared<state, Backend> from) noexcept : state_(std::move(from)) {}
  basic_shared<state, Backend> state_;
};

template <backend Backend>
struct codec<basic_stop_source<Backend>> {
  using source = basic_stop_source<Backend>;
  static void write(writer& out, source const& value) { encode(out, value.state_); }
  static source read(reader& in) { return source(decode<basic_shared<typename source::state, Backend>>(in)); }
};

using stop_token = basic_stop_token<>;
using stop_source = basic_stop_source<>;

namespace detail {
/// Of the task that the calling thread is running; who sets it takes it back before the thread ends. It is never destroyed:
/// with mingw-w64 the objects of a thread are destroyed after their memory was freed.
template <backend Backend>
basic_stop_token<Backend>& current_stop_token() noexcept {
  using token = basic_stop_token<Backend>;
  alignas(token) static thread_local std::byte room[sizeof(token)];
  static thread_local token* mine = nullptr;
  if (mine == nullptr) mine = std::construct_at(reinterpret_cast<token*>(room));
  return *mine;
}
}  // namespace detail

/// What a task of a pool, of processes or of threads, can learn of itself.
namespace this_task {

/// Asked to stop by cancel(), by its time limit or deadline, and when its pool is given up. Outside of a task: never asked.
template <backend Backend = native_backend>
[[nodiscard]] basic_stop_token<Backend> get_stop_token() {
  return detail::current_stop_token<Backend>();
}
template <backend Backend = native_backend>
[[nodiscard]] bool stop_requested() noexcept {
  return detail::current_stop_token<Backend>().stop_requested();
}
/// Ends the task by task_cancelled if it is asked to stop.
template <backend Backend = native_backend>
void throw_if_stop_requested() {
  if (stop_requested<Backend>()) throw task_cancelled("polyproc: the task saw that it was asked to stop");
}
/// Sleeps; false when it was asked to stop before the time was over.
template <backend Backend = native_backend, class Rep, class Period>
bool sleep_for(std::chrono::duration<Rep, Period> time) {
  return !detail::current_stop_token<Backend>().wait_for(time);
}

}  // namespace this_task
}  // namespace polyproc::inline v0_1
