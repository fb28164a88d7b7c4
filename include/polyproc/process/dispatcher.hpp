/// The threads on which things happen that nobody waits for.
///
/// "polyproc-watch" sees children end and times come; what it does then takes no time and is the library's own. User's
/// callbacks run on "polyproc-calls", one after the other in the order in which they became due: a slow one delays other
/// callbacks, but never that a future gets its outcome. There is each of the two while it has something to do and shortly
/// after, so that a burst of callbacks does not become a burst of threads; then there is none.
///
/// A callback may wait for what another callback is to bring about. While one waits for a future, the next ones run on a
/// thread that takes its place: the one who waits gives the role of the caller away (`caller_` is a number that says who has
/// it).
#pragma once

#include <polyproc/process/child.hpp>
#include <polyproc/sync/blocking.hpp>

#include <deque>
#include <optional>
#include <thread>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class dispatcher {
 public:
  using control = child_control<Backend>;

  /// Never destroyed: exit handlers use it.
  static dispatcher& get() {
    static bool const once = [] {
      there().store(new dispatcher, std::memory_order_release);
      std::atexit([] { get().finish_for_good(); });
      Backend::at_fork_child([] {
        // A thread that does not exist here may have been changing it: it is left alone.
        auto* const copy = there().load(std::memory_order_acquire);
        copy->close_bell();
        auto* const made = new dispatcher;
        made->left_alone_ = copy;
        there().store(made, std::memory_order_release);
      });
      return true;
    }();
    (void)once;
    return *there().load(std::memory_order_acquire);
  }

  /// Runs its callbacks when it has ended. Throws std::system_error when there can be no thread.
  void watch(std::shared_ptr<control> child) {
    std::scoped_lock hold{lock_};
    watched_.push_back(std::move(child));
    try {
      wake_watcher();
    } catch (...) {
      watched_.pop_back();
      throw;
    }
  }
  /// Runs it soon. When the program is at its end and these threads are gone: at once, in this thread.
  void post(callback<> call) {
    if (!post_unless_over(call)) guarded_run<Backend>(call);
  }
  /// For those who hold a lock that it may want: false, and it is still the caller's, when the program is at its end.
  bool post_unless_over(callback<>& call) {
    std::scoped_lock hold{lock_};
    if (over_) return false;
    calls_.push_back(std::move(call));
    try {
      wake_caller();
    } catch (...) {
      calls_.pop_back();
      throw;
    }
    return true;
  }
  /// Runs it at that time, on the thread that watches: it must take no time and wait for nothing. Never if the program ends
  /// before. The number is for forget.
  std::uint64_t post_at(time_point when, callback<> call) {
    std::scoped_lock hold{lock_};
    timers_.push_back({when, std::move(call), ++last_timer_});
    try {
      wake_watcher();
    } catch (...) {
      timers_.pop_back();
      throw;
    }
    return last_timer_;
  }
  /// What was to run at some time is not to run any more. It may be running.
  void forget(std::uint64_t timer_number) noexcept {
    std::optional<timer> gone;  // destroyed without the lock
    std::scoped_lock hold{lock_};
    for (auto& one : timers_) {
      if (one.number != timer_number) continue;
      gone.emplace(std::move(one));
      if (&one != &timers_.back()) one = std::move(timers_.back());
      timers_.pop_back();
      if (watching_) ring();
      return;
    }
  }

  /// Until all that was posted has run and the threads are gone. Children that still run are not waited for, nor are, for
  /// long, callbacks that wait for something themselves. From a callback: does nothing.
  void finish() noexcept { finish(false); }

  /// For tests: how many threads it has made.
  [[nodiscard]] static std::atomic<unsigned>& threads_made() noexcept {
    static constinit std::atomic<unsigned> count{0};
    return count;
  }

 private:
  using handle = typename Backend::handle;
  using list = std::vector<std::shared_ptr<control>>;
  struct timer {
    time_point when;
    callback<> call;
    std::uint64_t number;
  };

  /// How long a thread stays that has nothing to do.
  static constexpr std::chrono::milliseconds linger{100};
  /// How long a call may take at the exit where it may be waiting for the exit itself.
  static constexpr std::chrono::seconds exit_patience{5};
  static constexpr int most_left_stuck = 3;

  static std::atomic<dispatcher*>& there() noexcept {
    static constinit std::atomic<dispatcher*> one{nullptr};
    return one;
  }
  /// Whose thread the calling thread is.
  static dispatcher const*& thread_of() noexcept {
    static thread_local dispatcher const* of = nullptr;
    return of;
  }

  void finish_for_good() noexcept { finish(true); }
  void finish(bool for_good) noexcept {
    if (thread_of() == this) return;
    std::unique_lock hold{lock_};
    finishing_ = true;
    time_point patience = never;
    auto steps = steps_;
    auto stuck = Backend::now() + exit_patience;
    int left_stuck = 0;
    while (watching_ || caller_ != 0 || (threads_ != 0 && Backend::now() < patience)) {
      if (watching_) ring();
      bell_for_caller();
      if (Backend::exit_holds_lock && for_good) {
        if (std::exchange(steps, steps_) != steps_) stuck = Backend::now() + exit_patience;
        if (Backend::now() >= stuck) {
          // Others may be waited for by the one that is stuck, or be stuck as well: each gets a thread of its own.
          if (calls_.empty() || ++left_stuck > most_left_stuck) break;
          caller_ = 0;
          try {
            wake_caller();
          } catch (...) {
            break;
          }
          stuck = Backend::now() + exit_patience;
        }
      }
      // Those that are left are callbacks that wait.
      if (!watching_ && caller_ == 0 && patience == never) patience = Backend::now() + std::chrono::milliseconds{500};
      auto const seen = ended_.load();
      hold.unlock();
      Backend::wait(ended_, seen, Backend::now() + std::chrono::milliseconds{20});
      hold.lock();
    }
    finishing_ = false;
    over_ = over_ || for_good;
  }

  // --- With lock_ held.

  /// Throws std::system_error.
  template <class Run>
  void make_thread(Run&& run) {
    try {
      std::thread made(std::forward<Run>(run));
      ++threads_;
      threads_made().fetch_add(1, std::memory_order_relaxed);
      made.detach();  // it is waited for by finish()
    } catch (std::system_error const& refused) {
      throw std::system_error(refused.code(), "polyproc: the making of a thread for callbacks");
    }
  }
  void thread_ends() noexcept {
    --threads_;
    ended_.fetch_add(1);
    Backend::wake_all(ended_);
  }

  void wake_caller() {
    if (caller_ != 0) {
      bell_for_caller();
      return;
    }
    if (++last_caller_ == 0) ++last_caller_;
    auto const number = last_caller_;
    make_thread([this, number] { serve_calls(number); });
    caller_ = number;
  }
  void bell_for_caller() noexcept {
    if (!std::exchange(caller_sleeps_, false)) return;
    caller_bell_.fetch_add(1);
    Backend::wake_all(caller_bell_);
  }

  void wake_watcher() {
    if (over_) return;  // what ends with this process is looked after by child_list
    if (watching_) {
      ring();
      return;
    }
    auto const [read, write] = Backend::pipe_create();
    bell_[0] = read;
    bell_[1] = write;
    rung_ = false;
    try {
      make_thread([this] { serve_watched(); });
      watching_ = true;
    } catch (...) {
      close_bell();
      throw;
    }
  }
  void ring() noexcept {
    if (std::exchange(rung_, true)) return;
    std::byte const one{};
    try {
      Backend::pipe_write(bell_[1], {&one, 1});
    } catch (...) {  // it looks again by itself
    }
  }
  void close_bell() noexcept {
    for (auto& end : bell_) Backend::handle_close(std::exchange(end, Backend::invalid_handle));
  }

  // --- The threads.

  struct substitution final : blocking_observer {
    dispatcher& of;
    unsigned const number;
    substitution(dispatcher& whose, unsigned mine) noexcept : of(whose), number(mine) {}
    void begin_blocking() noexcept override {
      if (there().load(std::memory_order_acquire) != &of) return;  // a copy that a fork has made
      std::scoped_lock hold{of.lock_};
      if (of.caller_ != number) return;
      of.caller_ = 0;
      if (of.calls_.empty()) return;  // whoever posts the next one makes the substitute
      try {
        of.wake_caller();
      } catch (...) {
        of.caller_ = number;  // they have to wait
      }
    }
    void end_blocking() noexcept override {}
  };

  void serve_calls(unsigned number) noexcept {
    Backend::begin_own_thread("polyproc-calls");
    thread_of() = this;
    substitution told(*this, number);
    blocking_observer::of_this_thread() = &told;
    std::unique_lock hold{lock_};
    for (bool mine = true; mine;) {
      while (mine && !calls_.empty()) {
        auto call = std::move(calls_.front());
        calls_.pop_front();
        hold.unlock();
        guarded_run<Backend>(call);
        { auto const gone = std::move(call); }  // what it held may end here, and that may post something
        hold.lock();
        ++steps_;
        if (caller_ == 0) caller_ = number;  // it had waited, and nobody was needed meanwhile
        mine = caller_ == number;
      }
      if (!mine || finishing_ || over_) break;
      auto const until = Backend::now() + linger;
      while (calls_.empty() && !finishing_ && Backend::now() < until) {
        caller_sleeps_ = true;
        auto const seen = caller_bell_.load();
        hold.unlock();
        Backend::wait(caller_bell_, seen, until);
        hold.lock();
        caller_sleeps_ = false;
      }
      if (calls_.empty()) break;
    }
    if (caller_ == number) caller_ = 0;
    blocking_observer::of_this_thread() = nullptr;
    thread_ends();
  }

  void serve_watched() noexcept {
    Backend::begin_own_thread("polyproc-watch");
    thread_of() = this;
    std::unique_lock hold{lock_};
    time_point until = never;  // set while there is nothing to do
    while (!finishing_) {
      bool const idle = watched_.empty() && timers_.empty();
      if (!idle) until = never;
      else if (until == never) until = Backend::now() + linger;
      if (idle && Backend::now() >= until) break;
      auto deadline = until;
      for (auto const& one : timers_) deadline = std::min(deadline, one.when);
      looked_at_ = watched_;
      hold.unlock();
      auto over = look(deadline);
      hold.lock();
      std::erase_if(watched_, [&](auto const& child) { return std::find(over.begin(), over.end(), child) != over.end(); });
      auto due = take_due();
      if (over.empty() && due.empty()) continue;
      hold.unlock();
      for (auto const& child : over) run_callbacks(*child);
      for (auto& one : due) guarded_run<Backend>(one.call);
      over.clear();
      due.clear();
      hold.lock();
      ++steps_;
    }
    // Those that end at the same time as this process.
    auto const rest = finishing_ ? std::exchange(watched_, {}) : list{};
    if (finishing_) timers_.clear();
    hold.unlock();
    for (auto const& child : rest) run_callbacks(*child);
    hold.lock();
    close_bell();
    watching_ = false;
    thread_ends();
  }

  /// With lock_ held.
  std::vector<timer> take_due() {
    std::vector<timer> due;
    if (timers_.empty()) return due;
    auto const now = Backend::now();
    for (std::size_t i = 0; i < timers_.size();) {
      if (timers_[i].when > now) {
        ++i;
        continue;
      }
      due.push_back(std::move(timers_[i]));
      timers_.erase(timers_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return due;
  }

  /// Waits until one of them has ended, the bell rings, or the time has come; those that have ended.
  list look(time_point until) noexcept {
    list over;
    bool some_over = false;
    handles_.assign(1, bell_[0]);
    for (auto const& child : looked_at_) {
      auto const end = child->watch();
      some_over |= end == Backend::invalid_handle;
      if (end != Backend::invalid_handle) handles_.push_back(end);
    }
    try {
      auto const deadline =
          some_over ? time_point{} : std::min(until, Backend::now() + std::chrono::milliseconds{500});
      auto const ready = Backend::wait_any(handles_, deadline);
      if (ready == 0) {
        std::scoped_lock hold{lock_};
        std::byte one{};
        (void)Backend::pipe_read(bell_[0], {&one, 1});
        rung_ = false;
      }
      for (auto const& child : looked_at_)
        if (child->wait(time_point{})) over.push_back(child);
      // It has closed its end of a pipe, and lives on.
      if (over.empty() && ready.value_or(0) > 0) std::this_thread::sleep_for(std::chrono::milliseconds{10});
    } catch (std::exception const& problem) {
      log<Backend>(log_level::details, std::string("the thread that looks after children: ") + problem.what());
      std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
    for (auto const& child : looked_at_) child->unwatch();
    looked_at_.clear();
    return over;
  }

  /// Direct ones here, those of users by the other thread.
  void run_callbacks(control& child) noexcept {
    for (auto& one : child.take_callbacks()) {
      std::shared_ptr<typename control::exit_call> kept;
      try {
        if (!one.direct) {
          kept = std::make_shared<typename control::exit_call>(std::move(one));
          post([kept, status = child.status()] { kept->call(status); });
          continue;
        }
      } catch (...) {  // no thread, or no memory: then here
      }
      guarded_run<Backend>([&] { (kept ? kept->call : one.call)(child.status()); });
    }
  }

  std::mutex lock_;
  std::deque<callback<>> calls_;
  list watched_;
  // What the watching thread is at. Members, so that a leak checker also sees them in a copy that fork has made.
  list looked_at_;
  std::vector<handle> handles_;
  std::vector<timer> timers_;
  unsigned caller_ = 0;  // the number of the thread that runs calls; 0: nobody does
  unsigned last_caller_ = 0;
  unsigned threads_ = 0;
  std::uint64_t last_timer_ = 0;
  std::uint64_t steps_ = 0;  // calls that have returned
  bool caller_sleeps_ = false;
  bool watching_ = false;
  bool rung_ = false;
  bool finishing_ = false;
  bool over_ = false;
  typename Backend::template atomic<std::uint32_t> caller_bell_{0};
  typename Backend::template atomic<std::uint32_t> ended_{0};
  std::array<handle, 2> bell_{Backend::invalid_handle, Backend::invalid_handle};
  dispatcher const* left_alone_ = nullptr;  // keeps in sight of a leak checker what a fork has copied
};

}  // namespace polyproc::inline v0_1::detail
