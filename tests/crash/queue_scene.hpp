/// What the crash tests of queues have in common: messages that lie where a queue can have them, and the books.
#pragma once

#include "crash/crash_points.hpp"

#if !defined(POLYPROC_NO_CRASH_POINTS)

namespace queue_crash {

using namespace std::chrono_literals;
using queue = polyproc::queue<std::string>;
using arena = polyproc::detail::arena<polyproc::native_backend>;
using messages = std::vector<std::string>;

/// No two bytes that are near each other are the same, so that a torn message shows.
inline std::string text(std::size_t size, char first) {
  std::string made(size, ' ');
  for (std::size_t i = 0; i < size; ++i) made[i] = static_cast<char>(' ' + (static_cast<std::size_t>(first) + i) % 89);
  return made;
}

/// Where a message comes to lie. The queue's own chunks have 4 KiB each with room for up to 16 messages, 32 KiB without a
/// bound; a message that would take more than half of the next chunk has a block of its own.
struct kind {
  char const* name;
  std::string message;
  std::size_t capacity = 8;  // 0: none
  messages lead = {};        // put, and got, before
  messages backlog = {};     // put before it
};
inline messages many(std::size_t count, std::size_t size) { return messages(count, text(size, 'b')); }

inline kind const in_place{"message in place", text(20, 'm')};
inline kind const over_the_end{"message over a chunk's end", text(200, 'm'), 8, many(4, 1000)};
inline kind const apart{"message apart", text(3000, 'm'), 8, many(4, 1000)};
inline kind const into_block{"message into an allocated chunk", text(5000, 'm'), 0, {}, many(4, 15000)};
inline kind const out_of_block{"message out of an allocated chunk", text(6000, 'm'), 0, many(8, 15000)};
inline kind const large{"large message", text(70000, 'm')};
inline kind const* const kinds[] = {&in_place, &over_the_end, &apart, &into_block, &out_of_block, &large};

inline std::string const first = text(10, 'a');
inline std::string const third = text(30, 'c');

struct scene {
  queue q;
  std::size_t own = 0;    // a message of this size takes almost half of one of the queue's own chunks
  std::size_t bare = 0;   // what the arena has in use when there are no messages
  messages seen = {};     // in the order in which they were taken
  messages before = {};   // put before the child's operation, and not got
  bool third_is_in = false;
  std::optional<std::string> slept = {};  // what the sleeper got
  std::atomic<bool> put_asleep{false};
  std::optional<decltype(q.lease())> held = {};
  std::unique_ptr<crash_sleeper> sleeper = {};

  explicit scene(std::size_t capacity = 8) : q(capacity == 0 ? queue() : queue(capacity)), own(capacity == 0 ? 15000 : 2000) {
    bare = arena::used_bytes();
  }
  scene(scene&& other) noexcept : q(std::move(other.q)), own(other.own), bare(other.bare), before(std::move(other.before)) {}

  /// With the lead and backlog of a kind, and then these.
  scene(kind const& k, messages const& more) : scene(k.capacity) {
    for (auto const& m : k.lead) q.put(m);
    for (std::size_t i = 0; i < k.lead.size(); ++i) (void)q.get();
    for (auto const& m : k.backlog) q.put(m);
    for (auto const& m : more) q.put(m);
    before = k.backlog;
    before.insert(before.end(), more.begin(), more.end());
  }
  /// The same, the backlog got.
  static scene without_backlog(kind const& k, messages const& more) {
    scene s(k, more);
    for (std::size_t i = 0; i < k.backlog.size(); ++i) (void)s.q.get();
    s.before = more;
    return s;
  }
};

inline void take_all(scene& s) {
  while (auto m = s.q.get_for(0ms)) s.seen.push_back(std::move(*m));
}

/// The queue is empty. Messages of every kind go through as ever, and no memory is left behind.
inline void as_ever(scene& s, crash_point& at) {
  at.expect(s.q.empty(), "something is left in the queue");
  for (auto const* const k : kinds) {
    at.expect(s.q.put_for(k->message, crash_limit), "a later put fails");
    at.expect(s.q.get_for(crash_limit) == k->message, "a later get fails");
  }
  // The chunk in use is left behind. What somebody had reserved is found by those who reserve.
  auto const half = text(s.own, 'h');
  for (int i = 0; i < 8; ++i) {
    at.expect(s.q.put_for(half, crash_limit) && s.q.get_for(crash_limit) == half, "a message later on fails");
  }
  if (arena::used_bytes() != s.bare) {
    for (int i = 0; i < 33; ++i) (void)s.q.reserve(1);
    at.note("left a reservation");
  }
  if (arena::used_bytes() != s.bare) {
    // A dead one that looks at a message is asked after at intervals, by those who get.
    at.expect(!s.q.get_for(25ms), "a message came from nowhere");
    at.note("left a message it looked at");
  }
  at.expect(arena::used_bytes() == s.bare, "a block is left over");
  at.expect(s.q.empty(), "a message came from nowhere");
}

/// What was taken is `least`, with or without the messages that the killed process put or took, at that place: all of
/// them or none.
inline void balance(scene const& s, crash_point& at, messages least, messages const& perhaps, std::size_t place,
                    char const* note) {
  if (s.seen == least) return;
  least.insert(least.begin() + static_cast<std::ptrdiff_t>(place), perhaps.begin(), perhaps.end());
  at.expect(s.seen == least, "the books do not balance");
  at.note(note);
}

inline messages plus(messages all, messages const& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// What was before, the killed one's messages or not, third.
inline crash_case<scene> put_case(kind const& k) {
  return {.name = std::string("put a ") + k.name,
          .setup = [&k] { return scene(k, {first}); },
          .operation = [&k](scene& s) { s.q.put(k.message); },
          .survive =
              [&k](scene& s, crash_point& at) {
                at.expect(s.q.put_for(third, crash_limit), "the next put fails");
                take_all(s);
                balance(s, at, plus(s.before, {third}), {k.message}, s.before.size(), "left the message whole");
                as_ever(s, at);
              }};
}

/// The killed one's message or not, third.
inline crash_case<scene> get_case(kind const& k) {
  return {.name = std::string("get a ") + k.name,
          .setup = [&k] { return scene::without_backlog(k, {k.message, third}); },
          .operation = [](scene& s) { (void)s.q.get(); },
          .survive =
              [&k](scene& s, crash_point& at) {
                auto next = s.q.get_for(crash_limit);
                at.expect(next.has_value(), "the next get fails");
                if (next) s.seen.push_back(std::move(*next));
                take_all(s);
                balance(s, at, {third}, {k.message}, 0, "left the message");
                as_ever(s, at);
              }};
}

}  // namespace queue_crash

#endif
