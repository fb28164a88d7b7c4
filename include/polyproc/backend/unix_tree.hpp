/// Who descends from whom, and how a whole tree of processes is ended that goes on growing meanwhile. Where the lines
/// of the table come from, and how a signal reaches its process, is each backend's own (linux_processes.hpp,
/// posix_processes.hpp).
#pragma once

#include <polyproc/backend/unix_common.hpp>

#include <exception>

#include <pwd.h>
#include <time.h>

namespace polyproc::inline v0_1::detail {

#if defined(__APPLE__)
inline constexpr auto weak_getpwuid_r = &::getpwuid_r;
#else
// Weak by another name, so that a program's own calls stay what they are: a static program does not get this one, which
// needs shared libraries there, for our sake.
static int weak_getpwuid_r(uid_t, struct passwd*, char*, std::size_t, struct passwd**)
    __attribute__((weakref("getpwuid_r")));
#endif

/// A user's name, or number where there is no name.
inline std::string user_name(uid_t user) {
  if (&*weak_getpwuid_r != nullptr) {
    std::vector<char> room(1024);
    for (;;) {
      struct passwd entry {};
      struct passwd* found = nullptr;
      int const error = weak_getpwuid_r(user, &entry, room.data(), room.size(), &found);
      if (error == EINTR) continue;
      if (error == 0 && found != nullptr && entry.pw_name != nullptr) return entry.pw_name;
      if (error != ERANGE || room.size() > std::size_t{1} << 20) break;
      room.resize(room.size() * 2);
    }
  }
  return std::to_string(static_cast<unsigned long>(user));
}

/// A thread's sleep of that length, or shorter if a signal comes.
inline void doze(std::chrono::nanoseconds length) noexcept {
  int const saved = errno;
  timespec const wanted{static_cast<time_t>(length.count() / 1000000000),
                        static_cast<long>(length.count() % 1000000000)};
  ::nanosleep(&wanted, nullptr);
  errno = saved;
}

/// What a process does that was told to stop.
enum class motion : std::uint8_t {
  moving,  ///< It runs, or is about to: may still start others.
  held,    ///< It waits in the system, where the signal has not reached it yet. It may be about to start one.
  still,   ///< It starts nothing more: it is stopped, or has ended.
};

inline constexpr std::int64_t unknown_start = INT64_MIN;

/// A line of the table of all processes, as much as tells who descends from whom.
struct process_link {
  pid_t pid = 0;
  pid_t parent = 0;
  pid_t group = 0;
  std::int64_t start = 0;  ///< Grows with the time; in the table's own unit. unknown_start: cannot be told.
  bool ended = false;
  motion moves = motion::moving;
};

/// Those of `all` at the places `from`, and their descendants: parents before their children, brothers by age. What
/// `left_out` says stays out, with what only it leads to. `slack` is by how much start times may be wrong: a child never
/// started before its parent, so a number that was given to somebody else while the table was read is seen by that.
template <class = void>
std::vector<std::size_t> with_descendants(std::vector<process_link> const& all, std::vector<std::size_t> const& from,
                                          std::int64_t slack, std::vector<char> left_out) {
  std::vector<std::size_t> by_parent(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) by_parent[i] = i;
  std::sort(by_parent.begin(), by_parent.end(), [&](std::size_t a, std::size_t b) {
    auto const& x = all[a];
    auto const& y = all[b];
    if (x.parent != y.parent) return x.parent < y.parent;
    return x.start != y.start ? x.start < y.start : x.pid < y.pid;
  });
  std::vector<std::size_t> found;
  std::vector<std::size_t> next;
  for (auto i = from.size(); i-- > 0;) next.push_back(from[i]);
  while (!next.empty()) {
    auto const here = next.back();
    next.pop_back();
    if (left_out[here] != 0) continue;
    left_out[here] = 1;
    found.push_back(here);
    auto const first = std::partition_point(by_parent.begin(), by_parent.end(),
                                            [&](std::size_t i) { return all[i].parent < all[here].pid; });
    auto last = first;
    while (last != by_parent.end() && all[*last].parent == all[here].pid) ++last;
    while (last != first) {
      --last;
      bool const unknown = all[*last].start == unknown_start || all[here].start == unknown_start;
      if (unknown || all[*last].start + slack >= all[here].start) next.push_back(*last);
    }
  }
  return found;
}

/// Ends a process and its descendants.
///
/// A process that is ended leaves its children to others, and they are not to be found any more: so nothing is ended
/// until everything is known. The first process is stopped, then whatever the table shows below it, again and again
/// until all that is known had come to rest *before* a reading of the table in which there is nothing new. Then there is
/// nobody left who could start another, and all are ended.
///
/// Who has borrowed its memory to a child (vfork) waits in the system until that child starts a program or ends, and a
/// stopped child does neither. So when somebody is held there for long, his children are ended as soon as theirs are known.
///
/// Those who leave the tree by themselves (their parent ended first) are found only by the group. The system signals a
/// whole group in one step, to which also a fork under way belongs.
///
/// Against a tree that grows faster than it can be stopped this gives up after Table::patience and one more reading of
/// the table: what is known is ended and std::errc::timed_out thrown.
///
/// Never signalled are this process, its ancestors, and numbers up to 1. A root that is one of them is refused with
/// std::errc::invalid_argument, before anything was done.
///
/// A Table has
///   patience                  how long to go on looking
///   slack                     by how much two start times of the same process may differ
///   bool list(all)            every process; false when the system has no such table
///   bool root_there()         whether the root's number is still the root's
///   int send(link, signal)    0 or an error number; ESRCH when that very process is gone
///   int send_root(signal)
///   char const* sender()      the call by which it does that
///   can_look                  whether it has also, without reading the whole table:
///   motion look(link)         what that process does now, all of its threads
///   void children(link, list) adds its living children, as many as can be found
template <class Table>
class tree_killer {
 public:
  tree_killer(Table& table, pid_t root, bool group) noexcept : table_(table), root_(root), group_(group) {}

  void run() {
    if (root_ <= 1 || root_ == ::getpid() || root_ == ::getppid()) refuse();
    std::exception_ptr trouble;
    try {
      stop_all();
    } catch (...) {
      if (!begun_) throw;  // nothing is known yet, not even whether the root may be signalled
      trouble = std::current_exception();
    }
    kill_all();
    if (error_ != 0)
      throw_errno((std::string(table_.sender()) + " to process " + std::to_string(error_of_)).c_str(), error_);
    if (trouble) std::rethrow_exception(trouble);
    if (grows_)
      throw_errno(("the descendants of process " + std::to_string(root_) +
                   " start others faster than they can be stopped; not all were found:")
                      .c_str(),
                  ETIMEDOUT);
  }

 private:
  static constexpr std::chrono::milliseconds long_held{100};

  struct victim {
    process_link link;
    time_point told{};      // when it was told to stop
    bool immune = false;    // we may not signal it
    bool settled = false;   // it starts nothing more
    bool complete = false;  // and did not when the table was read the last time: all its children are known
    bool killed = false;
  };

  [[noreturn]] void refuse() const {
    throw_errno(("kill_tree of process " + std::to_string(root_) +
                 ", which is this process, one that it descends from, or the system's own:")
                    .c_str(),
                EINVAL);
  }

  void stop_all() {
    auto const give_up = std::chrono::steady_clock::now() + Table::patience;
    bool quiet = false;  // everybody known had come to rest before the table was read
    std::vector<process_link> all;
    for (;;) {
      for (auto& one : victims_) one.complete = one.settled;
      all.clear();
      bool const table = table_.list(all);
      std::sort(all.begin(), all.end(), [](auto const& a, auto const& b) { return a.pid < b.pid; });
      auto const spared = spare(all);
      bool const there = table_.root_there();
      if (!begun_) {
        for (std::size_t i = 0; i < all.size(); ++i) {
          if (spared[i] != 0 && all[i].pid == root_) refuse();
        }
        begun_ = true;
        table_.send_root(SIGSTOP);
      }
      whole_group_ = group_ && ::getpgrp() != root_;
      for (std::size_t i = 0; i < all.size(); ++i) whole_group_ = whole_group_ && !(spared[i] != 0 && all[i].group == root_);
      signal_group(SIGSTOP);
      if (!table) return;

      std::vector<std::size_t> from;
      for (std::size_t i = 0; i < all.size(); ++i) {
        bool const ours = there && (all[i].pid == root_ || (group_ && all[i].group == root_));
        if (ours || known(all[i]) != nullptr) from.push_back(i);
      }
      std::vector<process_link> grown;
      for (auto const i : with_descendants(all, from, Table::slack, spared)) {
        if (auto* const old = known(all[i])) {
          auto const seen = old->link.moves;
          old->link = all[i];
          if (Table::can_look) old->link.moves = seen;
        } else if (!all[i].ended) {
          grown.push_back(all[i]);
        }
      }
      if (grown.empty() && quiet) return;
      // The youngest first: they are the ones at work, and were the last to be read.
      std::sort(grown.begin(), grown.end(),
                [](auto const& a, auto const& b) { return a.start != b.start ? a.start > b.start : a.pid > b.pid; });
      // What each has started meanwhile is looked for at once, as far as the system tells: a chain of processes, each of
      // which starts the next, would be one ahead whenever the whole table had been read.
      for (std::vector<process_link> next; auto const& link : grown) {
        next.push_back(link);
        while (!next.empty()) {
          auto const one = next.back();
          next.pop_back();
          if (known(one) != nullptr) continue;
          stop(one);
          if constexpr (Table::can_look) {
            if (std::chrono::steady_clock::now() < give_up) table_.children(one, next);
          }
        }
      }
      if (std::chrono::steady_clock::now() >= give_up) {
        grows_ = !grown.empty();
        return;
      }
      if (grown.empty()) end_children_of_held();
      quiet = settle(give_up);
    }
  }

  void stop(process_link const& link) {
    if (link.pid <= 1 || link.pid == ::getpid() || link.pid == ::getppid()) return;
    victim added{link};
    added.immune = send(link, SIGSTOP) != 0;
    added.told = std::chrono::steady_clock::now();
    auto const at = place_of(link.pid);
    if (at != victims_.end() && at->link.pid == link.pid)
      *at = added;
    else
      victims_.insert(at, added);
  }

  /// Which of them are never to be signalled.
  static std::vector<char> spare(std::vector<process_link> const& all) {
    std::vector<char> spared(all.size());
    for (std::size_t i = 0; i < all.size() && all[i].pid <= 1; ++i) spared[i] = 1;
    pid_t line = ::getpid();
    for (std::size_t steps = 0; steps <= all.size(); ++steps) {
      auto const at =
          std::lower_bound(all.begin(), all.end(), line, [](auto const& a, pid_t pid) { return a.pid < pid; });
      if (at == all.end() || at->pid != line) break;
      spared[static_cast<std::size_t>(at - all.begin())] = 1;
      line = at->parent;
    }
    return spared;
  }

  auto place_of(pid_t pid) {
    return std::lower_bound(victims_.begin(), victims_.end(), pid,
                            [](victim const& one, pid_t wanted) { return one.link.pid < wanted; });
  }
  victim* find(pid_t pid) {
    auto const at = place_of(pid);
    return at != victims_.end() && at->link.pid == pid ? &*at : nullptr;
  }
  victim* known(process_link const& link) {
    auto* const at = find(link.pid);
    if (at == nullptr || at->link.start == unknown_start || link.start == unknown_start) return at;
    auto const apart = at->link.start - link.start;
    return apart <= Table::slack && -apart <= Table::slack ? at : nullptr;
  }

  /// Whether everybody that is known starts nothing more. Waits for it, if that can be seen without another table.
  bool settle(time_point give_up) {
    for (auto nap = std::chrono::microseconds{100};; nap = std::min(nap * 2, std::chrono::microseconds{5000})) {
      bool quiet = true;
      bool held = false;
      auto const now = std::chrono::steady_clock::now();
      for (auto& one : victims_) {
        if (one.settled || one.immune) continue;
        if constexpr (Table::can_look) one.link.moves = table_.look(one.link);
        one.settled = one.link.moves == motion::still;
        quiet = quiet && one.settled;
        held = held || is_long_held(one, now);
      }
      if (quiet || !Table::can_look || now >= give_up) return quiet;
      doze(nap);
      if (held) return false;
    }
  }
  static bool is_long_held(victim const& one, time_point now) noexcept {
    return !one.settled && !one.immune && one.link.moves == motion::held && now - one.told > long_held;
  }
  /// Nothing new was in the last table.
  void end_children_of_held() {
    auto const now = std::chrono::steady_clock::now();
    for (auto& one : victims_) {
      auto const* const parent = find(one.link.parent);
      if (!one.complete || one.killed || parent == nullptr || !is_long_held(*parent, now)) continue;
      one.killed = true;
      send(one.link, SIGKILL);
    }
  }

  /// The first process last: when its end is seen, all have been told.
  void kill_all() {
    signal_group(SIGKILL);
    for (auto i = victims_.size(); i-- > 0;) {
      auto const& link = victims_[i].link;
      if (link.pid != root_) note(send(link, SIGKILL), link.pid);
    }
    note(table_.send_root(SIGKILL), root_);
    signal_group(SIGKILL);
  }

  int send(process_link const& link, int signal) {
    return link.pid == root_ && table_.root_there() ? table_.send_root(signal) : table_.send(link, signal);
  }
  void note(int error, pid_t pid) noexcept {
    if (error == 0 || error == ESRCH || error_ != 0) return;
    error_ = error;
    error_of_ = pid;
  }

  /// Not where this process or one of its ancestors is in that group; then each member is signalled by itself.
  void signal_group(int signal) noexcept {
    if (whole_group_ && table_.root_there()) ::kill(-root_, signal);
  }

  Table& table_;
  pid_t root_;
  bool group_;
  bool whole_group_ = false;
  bool begun_ = false;
  bool grows_ = false;
  int error_ = 0;
  pid_t error_of_ = 0;
  std::vector<victim> victims_;  // by their numbers
};

}  // namespace polyproc::inline v0_1::detail
