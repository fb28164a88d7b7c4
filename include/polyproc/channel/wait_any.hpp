/// Waiting for the first of several things.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/sync/blocking.hpp>
#include <polyproc/sync/waiting.hpp>

#include <optional>
#include <ranges>
#include <span>
#include <vector>

namespace polyproc::inline v0_1 {

namespace detail {

/// How a thing says that it is ready, and what to wait on until it is. Each of:
///   wait_is_over(ask), announce_wait()    a word in memory: queues, pipe ends, events, futures
///   is_alive(), sentinel()                a process
///   poll(), native_handle()               what the system keeps: streams, connections, listeners
///   a native handle
struct wait_access {
  template <class T>
  static constexpr bool has_word = requires(T& thing) {
    thing.wait_is_over(true);
    thing.announce_wait();
  };
  template <class T>
  static constexpr bool is_child = requires(T& thing) {
    thing.is_alive();
    thing.sentinel();
  };
  template <class T>
  static constexpr bool is_process = requires(T& thing) {
    thing.is_alive();
    thing.exit_code();
  };
  template <class T>
  static constexpr bool has_handle = requires(T& thing) {
    thing.poll();
    thing.native_handle();
  };
  template <class T, backend Backend>
  static constexpr bool known = has_word<T> || is_process<T> || has_handle<T> ||
                                std::is_same_v<std::remove_const_t<T>, typename Backend::handle>;

  template <backend Backend>
  struct wait_list {
    std::vector<word_wait<typename Backend::template atomic<std::uint32_t>>> words;
    std::vector<typename Backend::handle> handles;
    time_point look_again;
  };

  template <backend Backend, class T>
  static bool over(T& thing, bool ask) {
    if constexpr (has_word<T>) {
      return thing.wait_is_over(ask);
    } else if constexpr (is_process<T>) {
      return !thing.is_alive();
    } else if constexpr (has_handle<T>) {
      return thing.poll();
    } else {
      typename Backend::handle const one[] = {thing};
      return Backend::wait_any(one, time_point{}).has_value();
    }
  }
  template <backend Backend, class T>
  static void announce(T& thing, wait_list<Backend>& all) {
    if constexpr (has_word<T>) {
      all.words.push_back(thing.announce_wait());
    } else if constexpr (is_child<T>) {
      all.handles.push_back(thing.sentinel());
    } else if constexpr (is_process<T>) {
      // Somebody else's child, which has nothing that could be waited for together with other things.
      all.look_again = std::min(all.look_again, Backend::now() + std::chrono::milliseconds{20});
    } else if constexpr (has_handle<T>) {
      all.handles.push_back(thing.native_handle());
    } else {
      all.handles.push_back(thing);
    }
  }
};

/// each(visit) calls visit(thing) for each until it is told true; `visit` counts.
template <backend Backend, class Each>
std::optional<std::size_t> wait_for_first(time_point deadline, Each&& each) {
  std::optional<std::size_t> first;
  auto const look = [&](bool ask) {
    std::size_t i = 0;
    each([&](auto& thing) {
      if (wait_access::over<Backend>(thing, ask)) first = i;
      ++i;
      return first.has_value();
    });
    return first.has_value();
  };
  for (bool ask = deadline != never && deadline <= Backend::now();; ask = true) {
    if (look(ask)) return first;
    if (deadline != never && Backend::now() >= deadline) return std::nullopt;
    wait_access::wait_list<Backend> all;
    all.look_again = Backend::now() + (ask ? idle_recheck : std::chrono::milliseconds{20});
    each([&](auto& thing) {
      wait_access::announce<Backend>(thing, all);
      return false;
    });
    if (look(false)) return first;
    blocking_scope told;
    Backend::wait_for_some(all.words, all.handles, std::min(deadline, all.look_again));
  }
}

template <backend Backend, class... T>
std::optional<std::size_t> wait_for_first_of(time_point deadline, T&... things) {
  static_assert((wait_access::known<T, Backend> && ...),
                "polyproc: wait_any waits for queues, pipe ends, events, futures, processes, streams, connections, listeners "
                "and native handles; one of its arguments is none of these");
  return wait_for_first<Backend>(deadline, [&](auto&& visit) { (void)(visit(things) || ...); });
}

template <class R>
concept waitable_range = std::ranges::forward_range<R> && !wait_access::known<std::remove_reference_t<R>, native_backend>;

}  // namespace detail

/// Waits until one of the things is ready, and says which: its index. Several may be; the first of them is named. Ready is
///   a queue, a receiving pipe end or a connection     with which a get or recv would not wait (a message, or the end)
///   a stream or a listener                            from which something can be read, or accepted
///   a process                                         that has ended
///   a future                                          that has its outcome
///   an event                                          that is set
///   a native handle (descriptor, HANDLE)              that can be read from, or is signaled
/// Takes nothing: another thread or process may be faster. Sleeps meanwhile, and there is no limit to their number. Throws
/// std::system_error; std::logic_error when something cannot be waited for (an empty future, an end that is not here).
template <class... T>
  requires(sizeof...(T) > 1 || !(detail::waitable_range<T> && ...))
std::size_t wait_any(T&&... things) {
  return *detail::wait_for_first_of<native_backend>(never, things...);
}
/// Nothing when the time is over.
template <class Rep, class Period, class... T>
  requires(sizeof...(T) > 1 || !(detail::waitable_range<T> && ...))
std::optional<std::size_t> wait_any_for(std::chrono::duration<Rep, Period> wait, T&&... things) {
  return detail::wait_for_first_of<native_backend>(detail::deadline_after<native_backend>(wait), things...);
}
template <class Clock, class Duration, class... T>
  requires(sizeof...(T) > 1 || !(detail::waitable_range<T> && ...))
std::optional<std::size_t> wait_any_until(std::chrono::time_point<Clock, Duration> when, T&&... things) {
  return detail::wait_for_first_of<native_backend>(detail::deadline_at<native_backend>(when), things...);
}

/// The same for the elements of a range. An empty one is never ready.
template <detail::waitable_range R>
std::size_t wait_any(R&& things) {
  return *detail::wait_for_first<native_backend>(never, [&](auto&& visit) {
    for (auto& one : things)
      if (visit(one)) return;
  });
}
template <class Rep, class Period, detail::waitable_range R>
std::optional<std::size_t> wait_any_for(std::chrono::duration<Rep, Period> wait, R&& things) {
  return detail::wait_for_first<native_backend>(detail::deadline_after<native_backend>(wait), [&](auto&& visit) {
    for (auto& one : things)
      if (visit(one)) return;
  });
}
template <class Clock, class Duration, detail::waitable_range R>
std::optional<std::size_t> wait_any_until(std::chrono::time_point<Clock, Duration> when, R&& things) {
  return detail::wait_for_first<native_backend>(detail::deadline_at<native_backend>(when), [&](auto&& visit) {
    for (auto& one : things)
      if (visit(one)) return;
  });
}

}  // namespace polyproc::inline v0_1
