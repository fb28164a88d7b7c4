/// Runs a scenario of a few participants in every way in which a scheduler could, within bounds, and with deaths and stops
/// at every step.
///
/// Participants are fibers on one thread; they give up control at points: before (and, where asked, after) every
/// operation on an atomic of model_backend, every access to a cell, every call that parks, wakes or asks who is alive. At
/// each point the explorer chooses: go on; kill this participant (its stack is dropped, nothing is cleaned up); stop it
/// for ever; let another one go on (a preemption); let the time come at which one that sleeps looks again. The choices of
/// a run are a list of numbers; depth-first search goes through all lists within the budgets (preemptions, deaths, stops,
/// stale loads). A list printed after a failure repeats that run.
///
/// Killing or stopping another than the one that runs makes a difference only where its life is looked at, so it is
/// offered there only: when somebody asks whether it is alive, and when a wake could go to it.
///
/// The clock is virtual: it stands still while anybody can run. When nobody can, it goes on to the earliest time for
/// which somebody waits. If nobody was killed or stopped until then and that is not a deadline which the scenario itself
/// set (see deadline_in), a wake has been lost, and the run has failed; so it has when nobody waits for any time
/// (deadlock), when too much time has passed or too many steps were made (livelock), or the scenario calls fail.
///
/// Memory orders. Every operation records what it makes visible by its order (vector clocks, with release sequences), and
/// two accesses to a cell of which one writes and neither happens before the other are a failure: so an order that is too
/// weak for the data a lock guards is found although the interleavings are sequentially consistent. With a budget of
/// stale loads, a load may also return an older value than the newest, as far as coherence, what happens before, and the
/// single order of sequentially consistent operations allow: store buffering and message passing without the needed
/// orders are found that way. Not covered: loads that see values written later (load buffering), stale values in a failed
/// compare-exchange, and memory that is neither an atomic nor a cell.
#pragma once

#include "model/fiber.hpp"

#include <polyproc/backend/concept.hpp>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

namespace model {

using polyproc::never;
using polyproc::time_point;

struct bounds {
  int preemptions = 2;
  int deaths = 1;
  int stops = 0;
  int stale = 0;               ///< Loads that may return something older than the newest.
  bool after = false;          ///< Points also after each operation: for code that touches memory which is no cell.
  bool naps = false;           ///< Who sleeps is woken by nobody and looks every 2 ms: parking of the portable backends.
  std::chrono::milliseconds time{3000};  ///< Virtual time within which all must be done.
  std::uint64_t steps = 20000;
  std::uint64_t runs = ~0ULL;  ///< Stop after so many.
  double seconds = 1e9;        ///< Stop after so long.
};

struct result {
  std::uint64_t runs = 0;
  std::uint64_t steps = 0;
  std::uint64_t deaths = 0;
  std::uint64_t stops = 0;
  double seconds = 0;
  bool complete = false;       ///< All within the bounds was tried.
  std::string failure;         ///< Empty if none; else what, with the schedule.
  std::vector<int> schedule;
};

inline constexpr int most_participants = 5;  // the last one is for what a scenario does at the end

struct vector_clock {
  std::array<std::uint32_t, most_participants> at{};
  void join(vector_clock const& other) {
    for (std::size_t i = 0; i < at.size(); ++i) at[i] = std::max(at[i], other.at[i]);
  }
};

/// What a scenario is: state that reset() makes afresh, what each participant does, and what must hold at the end.
class scenario {
 public:
  virtual ~scenario() = default;
  virtual int participants() const = 0;
  virtual void reset() = 0;
  virtual void body(int who) = 0;
  /// Done by one more participant, alone, when all others have ended: puts right what the dead left, and finds that all
  /// goes on. Then check().
  virtual void last() {}
  virtual void check() {}
};

class explorer {
 public:
  enum class state : std::uint8_t { ready, parked, finished, dead, stopped };

  static explorer& get() {
    static explorer one;
    return one;
  }

  result run(bounds const& b, scenario& s) {
    begin_exploration(b, s);
    auto const start = std::chrono::steady_clock::now();
    do {
      one_run();
      ++result_.runs;
      if (result_.runs % 256 == 0)
        result_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (!failure_.empty()) {
        report();
        return result_;
      }
      if (result_.runs >= b.runs) return result_;
      if (result_.seconds > b.seconds) return result_;
    } while (next_schedule());
    result_.complete = true;
    return result_;
  }

  /// Repeats one run and returns its result; with a trace on stdout.
  result replay(bounds const& b, scenario& s, std::vector<int> const& schedule, bool trace) {
    begin_exploration(b, s);
    for (int const c : schedule) choices_.push_back({c, c + 1});
    tracing_ = trace;
    one_run();
    tracing_ = false;
    result_.runs = 1;
    result_.failure = failure_;
    return result_;
  }

  // --- what participants call

  [[nodiscard]] bool inside() const noexcept { return current_ >= 0; }
  [[nodiscard]] int current() const noexcept { return current_; }
  [[nodiscard]] time_point now() const noexcept { return now_; }
  [[nodiscard]] int deaths() const noexcept { return deaths_; }
  [[nodiscard]] int stops() const noexcept { return stops_; }
  /// Whether somebody slept through its time while others that could have run did not: then being late is no fault.
  [[nodiscard]] bool was_slow() const noexcept { return slow_; }
  /// The one that calls cannot be killed for now.
  void shield(bool on) { people_[index(current_)].shielded = on; }
  [[nodiscard]] bool is_dead(int who) const noexcept { return people_[index(who)].is == state::dead; }
  [[nodiscard]] bool is_stopped(int who) const noexcept { return people_[index(who)].is == state::stopped; }
  [[nodiscard]] bool has_finished(int who) const noexcept { return people_[index(who)].is == state::finished; }

  [[noreturn]] void fail(std::string const& why) {
    if (failure_.empty()) failure_ = why;
    if (inside()) leave_for_good();
    throw std::runtime_error(why);
  }

  /// The scenario's own deadline, `wait` from now: when time comes to it, no wake was lost.
  time_point deadline_in(std::chrono::milliseconds wait) {
    auto const when = now_ + wait;
    people_[index(current_)].deadline = when;
    return when;
  }

  /// A place where anything may happen to the one that runs.
  void point(char const* what, void const* where = nullptr, std::uint64_t value = 0) {
    if (!inside()) return;
    if (++steps_ > bounds_.steps) fail("livelock: too many steps");
    if (tracing_) trace(what, where, value);
    if (current_ == last_one()) return;
    for (;;) {
      options_.clear();
      options_.push_back({action::go_on, current_});
      if (deaths_ < bounds_.deaths && !people_[index(current_)].shielded) options_.push_back({action::die, current_});
      if (stops_ < bounds_.stops) options_.push_back({action::stop, current_});
      if (preemptions_ < bounds_.preemptions) {
        for (int p = 0; p < count_; ++p) {
          if (p == current_) continue;
          auto const& other = people_[index(p)];
          if (other.is == state::ready) options_.push_back({action::preempt, p});
          if (other.is == state::parked && other.until != never) options_.push_back({action::time_comes, p});
        }
      }
      auto const what_now = options_[static_cast<std::size_t>(choose(static_cast<int>(options_.size())))];
      switch (what_now.what) {
        case action::go_on: return;
        case action::die: die(current_); leave_for_good();
        case action::stop:
          ++stops_;
          ++result_.stops;
          if (tracing_) std::printf("      %d is stopped\n", current_);
          people_[index(current_)].is = state::stopped;
          leave_for_good();
        case action::preempt:
          ++preemptions_;
          next_ = what_now.who;
          leave();
          return;
        case action::time_comes:
          ++preemptions_;
          slow_ = true;
          now_ = std::max(now_, people_[index(what_now.who)].until);
          wake_late();
          next_ = what_now.who;
          leave();
          return;
      }
    }
  }
  void point_after(char const* what) {
    if (bounds_.after) point(what);
  }

  void yield() {
    if (!inside()) return;
    if (++steps_ > bounds_.steps) fail("livelock: too many steps");
    bool others = false;
    for (int p = 0; p < count_; ++p) others = others || (p != current_ && people_[index(p)].is == state::ready);
    if (!others) {
      pass_time(now_ + std::chrono::microseconds(100));
      return;
    }
    yielded_ = current_;
    leave();
  }

  /// Until somebody wakes `where` or the time has come.
  void park(void const* where, time_point until) {
    if (!inside() || now_ >= until) return;
    auto& me = people_[index(current_)];
    me.is = state::parked;
    me.where = where;
    me.until = bounds_.naps ? std::min(until, now_ + std::chrono::milliseconds(2)) : until;
    if (tracing_) std::printf("      %d parks\n", current_);
    leave();
  }
  void wake(void const* where, bool all) {
    if (bounds_.naps) return;
    for (;;) {
      std::array<int, most_participants> asleep{};
      int n = 0;
      for (int p = 0; p < count_; ++p)
        if (people_[index(p)].is == state::parked && people_[index(p)].where == where) asleep[index(n++)] = p;
      if (n == 0) return;
      if (all) {
        for (int i = 0; i < n; ++i) people_[index(asleep[index(i)])].is = state::ready;
        return;
      }
      bool may_kill = deaths_ < bounds_.deaths && current_ != last_one();
      for (int i = 0; i < n; ++i) may_kill = may_kill && !people_[index(asleep[index(i)])].shielded;
      int const c = choose(may_kill ? 2 * n : n);
      if (c < n) {
        if (tracing_) std::printf("      %d is woken\n", asleep[index(c)]);
        people_[index(asleep[index(c)])].is = state::ready;
        return;
      }
      die(asleep[index(c - n)]);
    }
  }

  bool alive(int who) {
    if (who < 0 || who >= most_participants) return false;
    auto& other = people_[index(who)];
    bool living = other.is == state::ready || other.is == state::parked || other.is == state::stopped;
    if (living && who != current_ && deaths_ < bounds_.deaths && !other.shielded && inside() && current_ != last_one() && choose(2) == 1) {
      die(who);
      living = false;
    }
    // Whatever it did is visible to one who knows that it has ended.
    if (!living && inside()) {
      people_[index(current_)].clock.join(other.clock);
      join_views(people_[index(current_)].view, other.view);
    }
    return living;
  }

  /// One of `count` ways, all of which are gone through.
  int choose(int count) {
    if (count == 1) return 0;
    if (depth_ < choices_.size()) {
      auto const c = choices_[depth_++];
      return c.chosen < count ? c.chosen : 0;
    }
    choices_.push_back({0, count});
    ++depth_;
    return 0;
  }

  // --- memory orders

  struct stored {
    std::uint64_t value = 0;
    vector_clock released;
    std::vector<std::uint32_t> view;
  };
  struct location {
    std::uint32_t number = 0;
    vector_clock released;          // by the newest store and the read-modify-writes upon it
    std::vector<stored> history;    // with stale loads only
    std::uint32_t last_consistent = 0;  // the newest sequentially consistent store
  };
  location& at(void const* where) {
    // Open addressing; entries of earlier runs count as free.
    for (auto i = reinterpret_cast<std::uintptr_t>(where) / 4;; ++i) {
      auto& e = index_[i % index_.size()];
      if (e.run == run_number_ && e.where == where) return locations_[e.number];
      if (e.run == run_number_) continue;
      if (used_ == locations_.size()) throw std::length_error("model: too many locations");
      e = {where, run_number_, used_};
      auto& l = locations_[used_];
      l.number = used_++;
      l.released = {};
      l.history.clear();
      l.last_consistent = 0;
      return l;
    }
  }
  vector_clock& my_clock() { return people_[index(current_)].clock; }

  static bool acquires(std::memory_order o) {
    return o == std::memory_order_acquire || o == std::memory_order_acq_rel || o == std::memory_order_seq_cst ||
           o == std::memory_order_consume;
  }
  static bool releases(std::memory_order o) {
    return o == std::memory_order_release || o == std::memory_order_acq_rel || o == std::memory_order_seq_cst;
  }

  /// What a load of `where`, which holds `newest`, returns.
  std::uint64_t load(void const* where, std::uint64_t newest, std::memory_order order) {
    if (!inside()) return newest;
    auto& l = at(where);
    if (bounds_.stale == 0) {
      if (acquires(order)) my_clock().join(l.released);
      return newest;
    }
    if (l.history.empty()) l.history.push_back({newest, {}, {}});
    auto& view = people_[index(current_)].view;
    if (view.size() <= l.number) view.resize(l.number + 1);
    auto oldest = view[l.number];
    if (order == std::memory_order_seq_cst) oldest = std::max(oldest, l.last_consistent);
    auto const top = static_cast<std::uint32_t>(l.history.size() - 1);
    auto pick = top;
    if (oldest < top && stale_ < bounds_.stale && current_ != last_one()) {
      auto const c = static_cast<std::uint32_t>(choose(static_cast<int>(top - oldest) + 1));
      if (c != 0) ++stale_;
      pick = top - c;
    }
    view[l.number] = pick;
    if (acquires(order)) {
      my_clock().join(l.history[pick].released);
      join_views(view, l.history[pick].view);
    }
    if (tracing_ && pick != top) std::printf("      (an older value: %llu)\n", static_cast<unsigned long long>(l.history[pick].value));
    return l.history[pick].value;
  }
  /// Before a store: what is to become visible with it.
  void store(void const* where, std::uint64_t before, std::uint64_t value, std::memory_order order, bool upon) {
    if (!inside()) return;
    auto& l = at(where);
    auto& me = people_[index(current_)];
    if (upon && acquires(order)) me.clock.join(l.released);
    if (!upon) l.released = {};
    if (releases(order)) l.released.join(me.clock);
    if (bounds_.stale != 0) {
      if (l.history.empty()) l.history.push_back({before, {}, {}});
      stored s{value, l.released, {}};
      if (me.view.size() <= l.number) me.view.resize(l.number + 1);
      if (upon) {
        s.view = l.history.back().view;
        if (acquires(order)) join_views(me.view, l.history.back().view);
      }
      me.view[l.number] = static_cast<std::uint32_t>(l.history.size());
      if (releases(order)) join_views(s.view, me.view);
      l.history.push_back(std::move(s));
      if (order == std::memory_order_seq_cst) l.last_consistent = static_cast<std::uint32_t>(l.history.size() - 1);
    }
    if (releases(order)) ++me.clock.at[index(current_)];
  }
  /// From now on no load, whoever's, returns what was old before.
  void heavy_fence() {
    if (!inside() || bounds_.stale == 0) return;
    std::vector<std::uint32_t> newest(used_);
    for (std::uint32_t i = 0; i < used_; ++i)
      newest[i] = locations_[i].history.empty() ? 0 : static_cast<std::uint32_t>(locations_[i].history.size() - 1);
    for (auto& one : people_) join_views(one.view, newest);
  }

 private:
  struct person {
    fiber stack;
    state is = state::finished;
    bool shielded = false;
    void const* where = nullptr;
    time_point until = never;
    time_point deadline = never;  // the scenario's own
    vector_clock clock;
    std::vector<std::uint32_t> view;
  };
  struct choice {
    int chosen;
    int count;
  };
  enum class action : std::uint8_t { go_on, die, stop, preempt, time_comes };
  struct option {
    action what;
    int who;
  };

  static std::size_t index(int i) { return static_cast<std::size_t>(i); }
  [[nodiscard]] static constexpr int last_one() { return most_participants - 1; }

  static void join_views(std::vector<std::uint32_t>& into, std::vector<std::uint32_t> const& from) {
    if (into.size() < from.size()) into.resize(from.size());
    for (std::size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
  }

  void begin_exploration(bounds const& b, scenario& s) {
    bounds_ = b;
    scenario_ = &s;
    count_ = s.participants();
    choices_.clear();
    result_ = {};
    failure_.clear();
  }

  void one_run() {
    depth_ = 0;
    steps_ = 0;
    preemptions_ = deaths_ = stops_ = stale_ = 0;
    slow_ = false;
    now_ = time_point{} + std::chrono::hours(1);
    start_ = now_;
    used_ = 0;
    ++run_number_;
    failure_.clear();
    current_ = -1;
    scenario_->reset();
    for (int p = 0; p < most_participants; ++p) {
      auto& one = people_[index(p)];
      one.is = p < count_ ? state::ready : state::finished;
      one.deadline = one.until = never;
      one.shielded = false;
      one.clock = {};
      one.clock.at[index(p)] = 1;
      one.view.clear();
      if (p < count_) one.stack.begin(&run_body);
    }
    next_ = -1;
    yielded_ = -1;
    while (failure_.empty()) {
      int const who = pick();
      if (who < 0) break;
      enter(who);
    }
    if (failure_.empty()) {
      auto& one = people_[index(last_one())];
      one.is = state::ready;
      // The end comes after all that happened, whoever did it.
      for (int p = 0; p < count_; ++p) {
        one.clock.join(people_[index(p)].clock);
        join_views(one.view, people_[index(p)].view);
      }
      one.stack.begin(&run_body);
      while (failure_.empty() && one.is != state::finished) {
        if (one.is == state::parked && !pass_to_next_time()) break;
        if (one.is == state::ready) enter(last_one());
      }
    }
    if (failure_.empty()) {
      try {
        scenario_->check();
      } catch (std::exception const& e) {
        if (failure_.empty()) failure_ = e.what();
      }
    }
    result_.steps += steps_;
  }

  /// Who runs next; -1 when all have ended, or one has failed.
  int pick() {
    for (;;) {
      if (next_ >= 0 && people_[index(next_)].is == state::ready) return std::exchange(next_, -1);
      next_ = -1;
      int able = 0;
      bool parked = false;
      for (int p = 0; p < count_; ++p) {
        if (people_[index(p)].is == state::ready && p != yielded_) ++able;
        parked = parked || people_[index(p)].is == state::parked;
      }
      if (able == 0 && yielded_ >= 0 && people_[index(yielded_)].is == state::ready) return std::exchange(yielded_, -1);
      if (able > 0) {
        int c = choose(able);
        for (int p = 0; p < count_; ++p)
          if (people_[index(p)].is == state::ready && p != yielded_ && c-- == 0) {
            yielded_ = -1;
            return p;
          }
      }
      if (!parked) return -1;
      if (!pass_to_next_time()) return -1;
    }
  }

  bool pass_to_next_time() {
    auto earliest = never;
    for (auto const& one : people_)
      if (one.is == state::parked) earliest = std::min(earliest, one.until);
    if (earliest == never) {
      failure_ = "deadlock: everybody sleeps, and nobody will look again";
      return false;
    }
    bool expected = deaths_ != 0 || stops_ != 0 || bounds_.naps;
    for (auto const& one : people_) expected = expected || (one.is == state::parked && one.deadline == earliest);
    if (!expected) {
      failure_ = "a wake was lost: nobody died, all sleep, and only looking again would help";
      return false;
    }
    pass_time(earliest);
    return failure_.empty();
  }
  void pass_time(time_point until) {
    now_ = std::max(now_, until);
    wake_late();
    if (now_ - start_ > bounds_.time) failure_ = "a hang: not done after too long a time";
    if (!failure_.empty() && inside()) leave_for_good();
  }
  void wake_late() {
    for (auto& one : people_)
      if (one.is == state::parked && one.until <= now_) one.is = state::ready;
  }

  void die(int who) {
    ++deaths_;
    ++result_.deaths;
    if (tracing_) std::printf("      %d is killed\n", who);
    people_[index(who)].is = state::dead;
  }

  void enter(int who) {
    current_ = who;
    people_[index(who)].stack.enter();
    current_ = -1;
  }
  void leave() { people_[index(current_)].stack.leave(); }
  [[noreturn]] void leave_for_good() {
    leave();
    std::abort();
  }

  static void run_body() {
    auto& self = get();
    int const who = self.current_;
    try {
      if (who == last_one())
        self.scenario_->last();
      else
        self.scenario_->body(who);
    } catch (std::exception const& e) {
      if (self.failure_.empty()) self.failure_ = std::string("participant ") + std::to_string(who) + " threw: " + e.what();
    }
    self.people_[index(who)].is = state::finished;
    self.leave_for_good();
  }

  bool next_schedule() {
    while (!choices_.empty() && choices_.back().chosen + 1 >= choices_.back().count) choices_.pop_back();
    if (choices_.empty()) return false;
    ++choices_.back().chosen;
    return true;
  }

  void trace(char const* what, void const* where, std::uint64_t value) {
    if (where == nullptr)
      std::printf("  %d: %s\n", current_, what);
    else
      std::printf("  %d: %s %s (%llu)\n", current_, what, name_of(where).c_str(), static_cast<unsigned long long>(value));
  }
  std::string name_of(void const* where) {
    auto const [it, fresh] = names_.try_emplace(where, "w" + std::to_string(names_.size()));
    return it->second;
  }

  void report() {
    for (auto const& c : choices_) result_.schedule.push_back(c.chosen);
    while (!result_.schedule.empty() && result_.schedule.back() == 0) result_.schedule.pop_back();
    std::string list;
    for (int const c : result_.schedule) list += (list.empty() ? "" : ",") + std::to_string(c);
    result_.failure = failure_ + "\n  schedule: " + (list.empty() ? "(the first)" : list);
  }

  bounds bounds_;
  scenario* scenario_ = nullptr;
  int count_ = 0;
  std::array<person, most_participants> people_;
  std::vector<choice> choices_;
  std::size_t depth_ = 0;
  std::vector<option> options_;
  struct indexed {
    void const* where = nullptr;
    std::uint64_t run = 0;
    std::uint32_t number = 0;
  };
  std::vector<indexed> index_ = std::vector<indexed>(4096);
  std::vector<location> locations_ = std::vector<location>(1024);
  std::uint32_t used_ = 0;
  std::uint64_t run_number_ = 0;
  std::unordered_map<void const*, std::string> names_;
  int current_ = -1;
  int next_ = -1;
  int yielded_ = -1;
  time_point now_{};
  time_point start_{};
  std::uint64_t steps_ = 0;
  int preemptions_ = 0;
  int deaths_ = 0;
  int stops_ = 0;
  int stale_ = 0;
  bool slow_ = false;
  bool tracing_ = false;
  std::string failure_;
  result result_;
};

/// For scenarios: ends the run as a failure.
[[noreturn]] inline void fail(std::string const& why) { explorer::get().fail(why); }
inline void require(bool held, char const* why) {
  if (!held) fail(why);
}

/// Plain data that a lock guards: each access is a point, and two that are not ordered by what happens before are a
/// failure.
template <class T>
class cell {
 public:
  cell() = default;
  T get() {
    auto& x = explorer::get();
    x.point("read", this);
    if (x.inside()) {
      if (writer_ >= 0 && written_ > x.my_clock().at[static_cast<std::size_t>(writer_)])
        fail("a data race: a cell is read that another wrote, and nothing orders the two");
      readers_.at[static_cast<std::size_t>(x.current())] = x.my_clock().at[static_cast<std::size_t>(x.current())];
    }
    return value_;
  }
  void set(T value) {
    auto& x = explorer::get();
    x.point("write", this);
    if (x.inside()) {
      auto const& mine = x.my_clock();
      if (writer_ >= 0 && written_ > mine.at[static_cast<std::size_t>(writer_)])
        fail("a data race: a cell is written by two, and nothing orders the two");
      for (std::size_t i = 0; i < mine.at.size(); ++i)
        if (readers_.at[i] > mine.at[i]) fail("a data race: a cell is written that another reads, and nothing orders the two");
      writer_ = x.current();
      written_ = mine.at[static_cast<std::size_t>(writer_)];
    }
    value_ = value;
  }
  /// At the end, when all is quiet.
  T quiet() const { return value_; }

 private:
  T value_{};
  int writer_ = -1;
  std::uint32_t written_ = 0;
  vector_clock readers_;
};

}  // namespace model
