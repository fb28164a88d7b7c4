/// The threads of a pool, and how work comes to them.
///
/// Work is pushed onto an inbox without a lock. A thread that looks for some moves the inbox into lines, one for each
/// priority, under a lock, and takes from there; when many wait it takes several, which others may take from it again as long
/// as they have not begun. Whoever wants to run a task, or to give it up, claims it first: so the one who waits for a task
/// may run it himself, and what is then left of it in the lines is a husk that is thrown away later.
///
/// At most one idle thread looks, for as long as that has paid off lately; the others are parked. Who brings work wakes one
/// of them, unless one looks. One that stops looking because it has found something passes that on if there is more.
///
/// A thread that parks in a wait for a future does not serve meanwhile. If that leaves fewer threads than the pool is to
/// have, and work waits, a spare one goes on; one too many stands by as soon as it is done with its task, and ends after a
/// while.
#pragma once

#include <polyproc/backend/lasting.hpp>
#include <polyproc/channel/process_identity.hpp>
#include <polyproc/process/child.hpp>
#include <polyproc/task/executor.hpp>
#include <polyproc/task/trace.hpp>
#include <polyproc/task/worker_state.hpp>

#include <algorithm>
#include <map>
#include <mutex>
#include <thread>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class crew;
template <backend Backend>
class crew_member;

/// Why a task that runs is asked to stop.
enum class stop_reason : std::uint8_t { cancelled, out_of_time };

template <backend Backend>
class crew_job {
 public:
  crew_job() = default;
  crew_job(crew_job const&) = delete;
  crew_job& operator=(crew_job const&) = delete;

  /// By the thread that took it out of the line; it may be gone afterwards.
  virtual void run(crew_member<Backend>& by) noexcept = 0;
  /// Instead of run: it never begins.
  virtual void give_up() noexcept = 0;
  /// Whether nothing but a husk is left of it; that is thrown away by give_up.
  [[nodiscard]] virtual bool is_husk() const noexcept { return false; }
  virtual void ask_to_stop(stop_reason) noexcept {}

  crew_job* next = nullptr;   // in the inbox or a line
  crew_job* below = nullptr;  // what its thread was running when it began
  int priority = 0;

 protected:
  ~crew_job() = default;
};

/// Calls what has its time, in a thread that there is once something was given to it.
template <backend Backend>
class crew_clock {
 public:
  crew_clock() = default;
  crew_clock(crew_clock const&) = delete;
  crew_clock& operator=(crew_clock const&) = delete;
  ~crew_clock() {
    if (!thread_.joinable()) return;
    {
      std::scoped_lock hold{state_->lock};
      state_->leave = true;
    }
    state_->ring();
    // The last one to have a task may be the clock, and the task the last one to have its pool.
    if (thread_.get_id() == std::this_thread::get_id()) thread_.detach();
    else thread_.join();
  }

  /// Throws std::system_error, std::bad_alloc.
  void watch(time_point when, std::weak_ptr<crew_job<Backend>> job) {
    bool earliest = false;
    {
      std::scoped_lock hold{state_->lock};
      if (!thread_.joinable()) thread_ = std::thread([state = state_] { state->serve(); });
      earliest = state_->add(when, std::move(job));
    }
    if (earliest) state_->ring();
  }

 private:
  struct entry {
    time_point when;
    std::weak_ptr<crew_job<Backend>> job;
    /// Of a heap whose front is the earliest.
    friend bool operator<(entry const& a, entry const& b) noexcept { return a.when > b.when; }
  };
  struct state {
    std::mutex lock;
    std::vector<entry> heap;
    std::size_t clean_at = 64;
    bool leave = false;
    typename Backend::template atomic<std::uint32_t> bell{0};

    void ring() noexcept {
      bell.fetch_add(1);
      Backend::wake_all(bell);
    }
    /// Whether it is now the earliest. Tasks that have ended are forgotten now and then: they keep memory.
    bool add(time_point when, std::weak_ptr<crew_job<Backend>>&& job) {
      if (heap.size() >= clean_at) {
        std::erase_if(heap, [](entry const& one) { return one.job.expired(); });
        std::make_heap(heap.begin(), heap.end());
        clean_at = 2 * heap.size() + 64;
      }
      heap.push_back({when, std::move(job)});
      std::push_heap(heap.begin(), heap.end());
      return heap.front().when == when;
    }
    void serve() noexcept {
      Backend::begin_own_thread("polyproc-clock");
      std::unique_lock hold{lock};
      while (!leave) {
        auto const now = Backend::now();
        if (!heap.empty() && heap.front().when <= now) {
          std::pop_heap(heap.begin(), heap.end());
          auto job = heap.back().job.lock();
          heap.pop_back();
          hold.unlock();
          if (job) job->ask_to_stop(stop_reason::out_of_time);
          job.reset();
          hold.lock();
          continue;
        }
        auto const until = heap.empty() ? never : heap.front().when;
        auto const seen = bell.load();
        hold.unlock();
        Backend::wait(bell, seen, no_later_than<Backend>(until, idle_recheck));
        hold.lock();
      }
    }
  };
  std::shared_ptr<state> state_ = std::make_shared<state>();
  std::thread thread_;
};

/// A thread of a crew, and what it has taken.
template <backend Backend>
class alignas(64) crew_member final : public blocking_observer {
 public:
  using job = crew_job<Backend>;

  crew_member(crew<Backend>& of, std::uint32_t place) noexcept : home(of), number(place) {}
  crew_member(crew_member const&) = delete;
  crew_member& operator=(crew_member const&) = delete;

  static crew_member*& of_this_thread() noexcept {
    static thread_local crew_member* mine = nullptr;
    return mine;
  }

  void begin_blocking() noexcept override {
    if (blocked_++ == 0) home.stop_serving();
  }
  void end_blocking() noexcept override {
    if (--blocked_ == 0) home.serve_again();
  }

  // What runs here, the latest first. Who wants to ask it to stop pins the list meanwhile.
  void begin(job& one) noexcept {
    count(begun);
    auto seen = top_.load(std::memory_order_relaxed);
    do {
      while ((seen & pinned) != 0) {
        Backend::yield();
        seen = top_.load();
      }
      one.below = reinterpret_cast<job*>(seen);
    } while (!top_.compare_exchange_weak(seen, reinterpret_cast<std::uintptr_t>(&one)));
    if (home.all_asked()) one.ask_to_stop(stop_reason::cancelled);
  }
  void end(job& one) noexcept {
    for (;;) {
      auto mine = reinterpret_cast<std::uintptr_t>(&one);
      if (top_.compare_exchange_strong(mine, reinterpret_cast<std::uintptr_t>(one.below))) return;
      Backend::yield();
    }
  }
  void ask_all_to_stop() noexcept {
    auto seen = top_.load();
    for (;;) {
      if (seen == 0) return;
      if ((seen & pinned) == 0 && top_.compare_exchange_weak(seen, seen | pinned)) break;
      if ((seen & pinned) != 0) {
        Backend::yield();
        seen = top_.load();
      }
    }
    for (auto* each = reinterpret_cast<job*>(seen); each != nullptr; each = each->below)
      each->ask_to_stop(stop_reason::cancelled);
    top_.store(seen);
  }

  // Several jobs that were taken at once. Each is taken from its slot by whoever runs it.
  static constexpr std::size_t most_taken = 16;
  /// Before any of them can be taken.
  void put(job* one) noexcept {
    auto const n = filled_.load(std::memory_order_relaxed);
    slots_[n].store(one, std::memory_order_release);
    filled_.store(n + 1, std::memory_order_release);
  }
  [[nodiscard]] bool has_slots() const noexcept { return at_ < filled_.load(std::memory_order_relaxed); }
  [[nodiscard]] job* next_of_slots() noexcept {
    auto const n = filled_.load(std::memory_order_relaxed);
    job* one = nullptr;
    while (one == nullptr && at_ < n) one = slots_[at_++].exchange(nullptr, std::memory_order_acq_rel);
    if (at_ == n) {
      filled_.store(0, std::memory_order_release);
      at_ = 0;
    }
    return one;
  }
  /// By any thread.
  [[nodiscard]] job* steal() noexcept {
    auto const n = filled_.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < n; ++i) {
      if (slots_[i].load(std::memory_order_relaxed) == nullptr) continue;
      if (auto* const one = slots_[i].exchange(nullptr, std::memory_order_acq_rel); one != nullptr) return one;
    }
    return nullptr;
  }
  [[nodiscard]] bool can_be_stolen_from() const noexcept {
    auto const n = filled_.load();
    for (std::size_t i = 0; i < n; ++i)
      if (slots_[i].load() != nullptr) return true;
    return false;
  }

  using counter = std::atomic<std::uint64_t>;
  /// Only by the thread itself.
  static void count(counter& of) noexcept { of.store(of.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }

  crew<Backend>& home;
  std::uint32_t const number;  // from 1
  crew_member* following = nullptr;
  // Under the crew's lock.
  std::thread thread;
  bool lives = false;

  counter begun{0};
  counter done{0};
  counter failed{0};
  counter cancelled{0};
  int slots_priority = 0;

 private:
  static constexpr std::uintptr_t pinned = 1;

  std::atomic<std::uintptr_t> top_{0};
  unsigned blocked_ = 0;
  std::size_t at_ = 0;
  std::atomic<std::size_t> filled_{0};
  std::array<std::atomic<job*>, most_taken> slots_{};
};

struct crew_settings {
  std::size_t threads = 1;
  std::string name;
  std::size_t most_waiting = 0;
  std::vector<unsigned> affinity;
  thread_initializer initializer;
  bool trace = false;
};

template <backend Backend>
class crew : public std::enable_shared_from_this<crew<Backend>> {
 public:
  using job = crew_job<Backend>;
  using member = crew_member<Backend>;

  /// Spares for threads that wait are bounded: for each thread that serves four, and 64.
  static constexpr std::size_t spares_for(std::size_t threads) noexcept { return 4 * threads + 64; }
  /// A thread that is not needed ends after that time.
  static constexpr std::chrono::seconds stand_by_time{1};

  explicit crew(crew_settings settings)
      : settings_(std::move(settings)),
        recorder_(settings_.trace ? std::make_unique<trace_recorder>(settings_.name) : nullptr),
        pid_(Backend::current_pid()) {
    size_.store(settings_.threads);
    // A child that one of the threads forks is no thread of the copied crew.
    static bool const watching = [] {
      Backend::at_fork_child([] {
        member::of_this_thread() = nullptr;
        blocking_observer::of_this_thread() = nullptr;
      });
      return true;
    }();
    (void)watching;
  }
  crew(crew const&) = delete;
  crew& operator=(crew const&) = delete;
  ~crew() {
    auto* each = members_.load();
    while (each != nullptr) delete std::exchange(each, each->following);
  }

  /// Throws std::system_error when there can be no threads, and what the initializer let out; then none is left.
  void start() {
    try {
      std::scoped_lock hold{lock_};
      while (serving_.load() < settings_.threads) spawn();
    } catch (...) {
      close();
      join_threads();
      throw;
    }
    if (!settings_.initializer && settings_.affinity.empty()) {
      std::scoped_lock hold{lock_};
      is_open_ = true;
      return;
    }
    for (;;) {
      auto const seen = begun_.load();
      if (seen >= settings_.threads) break;
      Backend::wait(begun_, seen, no_later_than<Backend>(never, idle_recheck));
    }
    std::exception_ptr problem;
    {
      std::scoped_lock hold{lock_};
      problem = first_problem_;
      is_open_ = !problem;
    }
    if (problem) {
      close();
      join_threads();
      std::rethrow_exception(problem);
    }
  }

  // --- Work comes.

  /// For one that waits; false at the deadline, or when it is closed. The crew's own threads do not wait here: what they wait
  /// for may be themselves.
  [[nodiscard]] bool take_room(time_point deadline) {
    if (settings_.most_waiting == 0) return true;
    if (deadline == never && here() != nullptr) {
      waiting_.fetch_add(1);
      return true;
    }
    pace<Backend> pause(idle_recheck);
    bool slept = false;
    bool got = false;
    for (;;) {
      auto now = waiting_.load();
      while (now < settings_.most_waiting && !got) got = waiting_.compare_exchange_weak(now, now + 1);
      if (got || is_closed() || deadline == time_point{}) break;
      blocking_scope told;
      slept = true;
      if (room_.sleep(deadline, pause, [this] { return waiting_.load() < settings_.most_waiting || is_closed(); }) ==
          sleepers<Backend>::slept::late)
        break;
    }
    if (slept) room_.pass_on([this] { return waiting_.load() < settings_.most_waiting || is_closed(); });
    return got;
  }
  void leave_room() noexcept {
    if (settings_.most_waiting == 0) return;
    waiting_.fetch_sub(1);
    room_.wake_one();
  }

  /// False when it is closed: then the job is still the caller's.
  [[nodiscard]] bool push(job& one) noexcept {
    bool const urgent = one.priority > 0;
    submitted_.fetch_add(1, std::memory_order_relaxed);
    auto* head = inbox_.load(std::memory_order_relaxed);
    do {
      if (head == closed_mark()) {
        submitted_.fetch_sub(1, std::memory_order_relaxed);
        return false;
      }
      one.next = head;
    } while (!inbox_.compare_exchange_weak(head, &one));
    if (urgent) urgent_.store(true);
    call_for_work();
    return true;
  }

  /// A job in the lines has become a husk. By its claimer, before others can see that he is done with it.
  void count_husk() noexcept {
    auto const husks = husks_.fetch_add(1, std::memory_order_relaxed) + 1;
    if (husks > 1024 && 2 * husks > queued_.load(std::memory_order_relaxed)) sweep_ = true;
  }
  void count_given_up() noexcept { given_up_.fetch_add(1, std::memory_order_relaxed); }
  /// Without any lock, by one of the crew's threads.
  void sweep_if_needed() noexcept {
    if (sweep_.load(std::memory_order_relaxed) && sweep_.exchange(false)) sweep();
  }

  // --- Ends.

  [[nodiscard]] bool is_closed() const noexcept { return inbox_.load() == closed_mark(); }
  [[nodiscard]] bool all_asked() const noexcept { return all_asked_.load() != 0; }

  /// Nothing more comes in.
  void close() noexcept {
    {
      std::scoped_lock hold{queue_lock_};
      if (is_closed()) return;
      line_up(inbox_.exchange(closed_mark()));
    }
    room_.wake_all();
    wake_everybody();
    if (has_work()) call_for_work();
  }
  /// What has not begun never does.
  void give_up_waiting() noexcept {
    job* all = nullptr;
    auto const collect = [&](job* one) {
      one->next = all;
      all = one;
    };
    {
      std::scoped_lock hold{queue_lock_};
      if (!is_closed()) line_up(inbox_.exchange(nullptr));
      for (auto& [priority, each] : others_)
        while (auto* const one = each.pop()) collect(one);
      others_.clear();
      while (auto* const one = plain_.pop()) collect(one);
      queued_.store(0);
    }
    for (auto* each = members_.load(); each != nullptr; each = each->following)
      while (auto* const one = each->steal()) collect(one);
    // The oldest first.
    job* first = nullptr;
    while (all != nullptr) {
      auto* const one = std::exchange(all, all->next);
      one->next = std::exchange(first, one);
    }
    std::swap(first, all);
    while (all != nullptr) {
      auto* const one = std::exchange(all, all->next);
      one->give_up();
    }
  }
  void ask_running() noexcept {
    all_asked_.store(1);
    Backend::wake_all(all_asked_);
    for (auto* each = members_.load(); each != nullptr; each = each->following) each->ask_all_to_stop();
  }
  /// After close(): until every thread has ended. Not by one of them.
  void join_threads() noexcept {
    blocking_scope told;
    std::scoped_lock one_at_a_time{join_lock_};
    for (;;) {
      std::thread ending;
      {
        std::scoped_lock hold{lock_};
        for (auto* each = members_.load(); each != nullptr && !ending.joinable(); each = each->following)
          if (each->thread.joinable()) ending = std::move(each->thread);
      }
      if (!ending.joinable()) return;
      ending.join();
    }
  }
  /// After close(): whether every thread is about to end before the deadline.
  bool await_threads(time_point deadline) noexcept {
    blocking_scope told;
    for (;;) {
      auto const seen = gone_.load();
      {
        std::scoped_lock hold{lock_};
        if (lives_ == 0) return true;
      }
      if (deadline != never && Backend::now() >= deadline) return false;
      Backend::wait(gone_, seen, no_later_than<Backend>(deadline, idle_recheck));
    }
  }
  /// They end when there is nothing to do, and nobody waits for that.
  void let_threads_go() noexcept {
    std::scoped_lock hold{lock_};
    let_go_ = true;
    for (auto* each = members_.load(); each != nullptr; each = each->following)
      if (each->thread.joinable()) each->thread.detach();
  }

  // --- How many.

  [[nodiscard]] std::size_t size() const noexcept { return size_.load(); }
  void resize(std::size_t threads) {
    {
      std::scoped_lock hold{lock_};
      size_.store(threads);
      if (is_closed()) return;
      while (serving_.load() < threads) {
        if (!recall()) spawn();
      }
    }
    wake_everybody();  // those that are too many stand by
  }
  [[nodiscard]] pool_stats stats() const {
    pool_stats all;
    std::uint64_t begun = 0;
    // What has ended is counted before what has begun, and that before what was submitted: so that none of them ended first.
    all.cancelled = given_up_.load();
    for (auto* each = members_.load(); each != nullptr; each = each->following) {
      all.done += each->done.load();
      all.failed += each->failed.load();
      all.cancelled += each->cancelled.load();
    }
    auto const ended = all.done + all.failed + all.cancelled;
    for (auto* each = members_.load(); each != nullptr; each = each->following) begun += each->begun.load();
    begun += given_up_.load();
    all.submitted = submitted_.load();
    all.workers = size();
    all.running = static_cast<std::size_t>(begun - std::min(begun, ended));
    all.waiting = static_cast<std::size_t>(all.submitted - std::min(all.submitted, begun));
    return all;
  }
  [[nodiscard]] trace_recorder* recorder() const noexcept { return recorder_.get(); }
  [[nodiscard]] long pid() const noexcept { return pid_; }
  /// Not in a copy that a fork has made.
  [[nodiscard]] bool is_here() const { return identity_ == process_identity<Backend>(); }
  [[nodiscard]] crew_clock<Backend>& clock() noexcept { return clock_; }
  /// The calling thread, if it is of this crew.
  [[nodiscard]] member* here() noexcept {
    auto* const mine = member::of_this_thread();
    return mine != nullptr && &mine->home == this ? mine : nullptr;
  }

  void stop_serving() noexcept {
    {
      std::scoped_lock hold{lock_};
      serving_.fetch_sub(1);
    }
    if (has_work()) call_for_work();
  }
  void serve_again() noexcept {
    std::scoped_lock hold{lock_};
    serving_.fetch_add(1);
  }

 private:
  struct line {
    job* first = nullptr;
    job* last = nullptr;
    std::size_t size = 0;
    void push(job* one) noexcept {
      one->next = nullptr;
      (last == nullptr ? first : last->next) = one;
      last = one;
      ++size;
    }
    job* pop() noexcept {
      auto* const one = first;
      if (one == nullptr) return nullptr;
      first = one->next;
      if (first == nullptr) last = nullptr;
      --size;
      return one;
    }
  };

  struct higher_first {
    bool operator()(int a, int b) const noexcept { return a > b; }
  };

  static job* closed_mark() noexcept {
    struct mark final : job {
      void run(member&) noexcept override {}
      void give_up() noexcept override {}
    };
    static lasting<mark> const the_mark;
    return &*the_mark;
  }

  // --- Taking work.

  [[nodiscard]] bool in_lines() const noexcept {
    auto* const head = inbox_.load();
    return (head != nullptr && head != closed_mark()) || queued_.load() != 0;
  }
  [[nodiscard]] bool has_work() const noexcept {
    if (in_lines()) return true;
    for (auto* each = members_.load(); each != nullptr; each = each->following)
      if (each->can_be_stolen_from()) return true;
    return false;
  }

  /// For good, when it is closed. While somebody moves jobs from one place to another they may be in neither.
  [[nodiscard]] bool nothing_is_left() noexcept {
    std::scoped_lock hold{queue_lock_};
    return !has_work();
  }

  /// With queue_lock_ held: what came in, the latest first, joins the lines.
  void line_up(job* latest) noexcept {
    if (latest == nullptr || latest == closed_mark()) return;
    job* first = nullptr;
    std::size_t count = 0;
    while (latest != nullptr) {
      auto* const one = std::exchange(latest, latest->next);
      one->next = std::exchange(first, one);
      ++count;
    }
    while (first != nullptr) {
      auto* const one = std::exchange(first, first->next);
      line_of(one->priority).push(one);
    }
    queued_.store(queued_.load(std::memory_order_relaxed) + count);
  }
  line& line_of(int priority) noexcept {
    if (priority == 0) return plain_;
    try {
      return others_[priority];
    } catch (...) {  // no memory: its turn comes, but not early
      return plain_;
    }
  }
  void refresh() noexcept {
    urgent_.store(false);
    if (auto* const head = inbox_.load(); head != nullptr && head != closed_mark()) line_up(inbox_.exchange(nullptr));
  }

  /// The best one, if it is better than `above`; and some of its equals into the slots of `by` if many wait and `by` has
  /// none.
  job* take_from_lines(member& by, int above, bool& more) noexcept {
    std::scoped_lock hold{queue_lock_};
    refresh();
    auto best = others_.begin();
    if (best != others_.end() && best->first < 0 && plain_.size != 0) best = others_.end();
    auto& from = best != others_.end() ? best->second : plain_;
    int const priority = best != others_.end() ? best->first : 0;
    job* one = nullptr;
    if (from.size != 0 && priority > above) {
      auto some = priority < 0 || by.has_slots() ? std::size_t{0}
                                                 : std::min(member::most_taken, from.size / (2 * size_.load() + 1));
      auto const left = queued_.load(std::memory_order_relaxed) - some - 1;
      one = from.pop();
      more = some + left != 0;
      if (some != 0) by.slots_priority = priority;
      for (; some != 0; --some) by.put(from.pop());
      queued_.store(left);  // after that: whoever looks sees each of them in one place at least
      if (best != others_.end() && from.size == 0) others_.erase(best);
    }
    if (!others_.empty() && others_.begin()->first > 0) urgent_.store(true);
    return one;
  }
  job* take(member& by, bool& more) noexcept {
    if (by.has_slots()) {
      if (urgent_.load(std::memory_order_relaxed))
        if (auto* const one = take_from_lines(by, by.slots_priority, more)) return one;
      if (auto* const one = by.next_of_slots()) return one;
    }
    if (in_lines())
      if (auto* const one = take_from_lines(by, std::numeric_limits<int>::min(), more)) return one;
    for (auto* each = members_.load(std::memory_order_acquire); each != nullptr; each = each->following)
      if (auto* const one = each->steal()) return one;
    return nullptr;
  }

  void sweep() noexcept {
    job* husks = nullptr;
    {
      std::scoped_lock hold{queue_lock_};
      refresh();
      husks_.store(0, std::memory_order_relaxed);
      std::size_t left = 0;
      auto const clean = [&](line& of) {
        line kept;
        while (auto* const one = of.pop()) {
          if (!one->is_husk()) {
            kept.push(one);
          } else {
            one->next = husks;
            husks = one;
          }
        }
        of = kept;
        left += of.size;
      };
      clean(plain_);
      for (auto each = others_.begin(); each != others_.end();) {
        clean(each->second);
        each = each->second.size == 0 ? others_.erase(each) : std::next(each);
      }
      queued_.store(left);
      if (!others_.empty() && others_.begin()->first > 0) urgent_.store(true);
    }
    while (husks != nullptr) {
      auto* const one = std::exchange(husks, husks->next);
      one->give_up();
    }
  }

  // --- Idle threads.

  /// After work was brought, or left.
  void call_for_work() noexcept {
    if (looking_.load() != 0) return;
    if (parked_.load() != 0) {
      {
        std::scoped_lock hold{idle_lock_};
        if (looking_.load() != 0 || parked_.load() == 0) return;
        looking_.store(1);
        looker_is_called_ = true;
        parked_.fetch_sub(1);
        calls_.fetch_add(1);
      }
      Backend::wake_one(calls_);
      return;
    }
    if (serving_.load() < size_.load()) bring_spare();
  }
  void wake_everybody() noexcept {
    {
      std::scoped_lock hold{idle_lock_};
      calls_.fetch_add(parked_.load());
      parked_.store(0);
    }
    Backend::wake_all(calls_);
    std::scoped_lock hold{lock_};
    while (recall()) {
    }
  }
  /// With idle_lock_ held: the call that one answers; whether it is the one that looks now.
  bool answer_call() noexcept {
    calls_.fetch_sub(1);
    return std::exchange(looker_is_called_, false);
  }
  /// Until called, or for no reason; whether it looks now.
  bool park() noexcept {
    {
      std::scoped_lock hold{idle_lock_};
      parked_.fetch_add(1);
    }
    // From here on work that comes is told to one of the parked.
    bool come = has_work() || is_closed() || serving_.load() > size_.load();
    while (!come) {
      if (calls_.load() == 0) Backend::wait(calls_, 0, no_later_than<Backend>(never, idle_recheck));
      come = calls_.load() != 0 || has_work();
      std::scoped_lock hold{idle_lock_};
      if (calls_.load() != 0) return answer_call();
    }
    std::scoped_lock hold{idle_lock_};
    if (calls_.load() != 0) return answer_call();
    parked_.fetch_sub(1);
    return false;
  }
  void stop_looking(bool& looks) noexcept {
    if (std::exchange(looks, false)) looking_.store(0);
  }

  void serve(member& me) noexcept {
    bool looks = false;
    for (;;) {
      if (serving_.load(std::memory_order_relaxed) > size_.load(std::memory_order_relaxed) && !me.has_slots()) {
        // Somebody else has to look instead.
        stop_looking(looks);
        if (!stand_by(me)) return;
      }
      bool more = false;
      if (auto* const one = take(me, more)) {
        stop_looking(looks);
        if (more) call_for_work();
        one->run(me);
        sweep_if_needed();
        continue;
      }
      if (is_closed() && nothing_is_left()) {
        stop_looking(looks);
        break;
      }
      if (!looks) {
        std::uint32_t nobody = 0;
        looks = looking_.compare_exchange_strong(nobody, 1);
      }
      if (looks) {
        if (look<Backend>()([this] { return has_work() || is_closed(); })) continue;
        stop_looking(looks);
      }
      looks = park();
    }
    std::scoped_lock hold{lock_};
    serving_.fetch_sub(1);
    leave(me);
  }

  // --- Threads.

  /// With lock_ held. Throws std::system_error, std::bad_alloc.
  void spawn() {
    member* place = nullptr;
    std::uint32_t number = 1;
    for (auto* each = members_.load(); each != nullptr; each = each->following) {
      number = std::max(number, each->number + 1);
      if (!each->lives) place = each;
    }
    if (place == nullptr) {
      place = new member(*this, number);
      place->following = members_.load();
      members_.store(place);
    }
    place->lives = true;
    try {
      auto const before = std::make_shared<std::thread>();
      std::swap(*before, place->thread);
      try {
        place->thread = std::thread([own = this->shared_from_this(), before, place] {
          if (before->joinable()) before->join();  // which is at its very end
          own->live(*place);
        });
      } catch (...) {
        std::swap(*before, place->thread);
        throw;
      }
      if (let_go_) place->thread.detach();
    } catch (...) {
      place->lives = false;
      throw;
    }
    ++lives_;
    serving_.fetch_add(1);
  }
  /// With lock_ held.
  void leave(member& me) noexcept {
    me.lives = false;
    --lives_;
    gone_.fetch_add(1);
    Backend::wake_all(gone_);
  }

  void live(member& me) noexcept {
    {
      std::scoped_lock hold{lock_};  // not before the one who made it is done
    }
    auto const called = [&] {
      try {
        return settings_.name + "-" + std::to_string(me.number);
      } catch (...) {
        return std::string{};
      }
    }();
    Backend::name_thread(called.c_str());
    bool good = true;
    try {
      if (recorder_) recorder_->name_worker(pid_, me.number, called);
      if (!settings_.affinity.empty()) Backend::set_thread_affinity(settings_.affinity);
      this_threads_worker().number = me.number;
      if (settings_.initializer) settings_.initializer.run();
    } catch (...) {
      good = false;
      std::scoped_lock hold{lock_};
      if (is_open_) say_not_begun(std::current_exception());
      else if (!first_problem_) first_problem_ = std::current_exception();
      serving_.fetch_sub(1);
      leave(me);
    }
    begun_.fetch_add(1);
    Backend::wake_all(begun_);
    if (!good) return;
    member::of_this_thread() = &me;
    blocking_observer::of_this_thread() = &me;
    current_stop_token<Backend>() = basic_stop_token<Backend>(all_asked_, 1, this->shared_from_this());
    serve(me);
    current_stop_token<Backend>() = {};
    this_threads_worker() = {};
    blocking_observer::of_this_thread() = nullptr;
    member::of_this_thread() = nullptr;
  }

  /// With lock_ held: one that stands by serves again.
  bool recall() noexcept {
    if (standing_by_ == 0) return false;
    --standing_by_;
    serving_.fetch_add(1);
    recalls_.fetch_add(1);
    Backend::wake_one(recalls_);
    return true;
  }
  /// Of a thread that comes later than the first ones: nobody waits for it. With lock_ held; the first time only.
  void say_not_begun(std::exception_ptr const& problem) noexcept {
    if (std::exchange(has_said_so_, true)) return;
    try {
      auto const said = describe(problem);
      Backend::write_stderr("polyproc: a thread of the pool " + settings_.name + " could not begin: " + said.type + ": " +
                            said.what + "; the pool goes on with those that it has, see its .initializer\n");
    } catch (...) {  // no memory to say it with
    }
  }
  void bring_spare() noexcept {
    try {
      std::scoped_lock hold{lock_};
      if (serving_.load() >= size_.load() || recall()) return;
      if (lives_ < size_.load() + spares_for(size_.load())) spawn();
    } catch (...) {  // not now: those who wait go on some time
    }
  }
  /// One too many: sleeps until it is needed. False when it is to end.
  bool stand_by(member& me) noexcept {
    {
      std::scoped_lock hold{lock_};
      if (serving_.load() <= size_.load()) return true;
      serving_.fetch_sub(1);
      if (is_closed()) {
        leave(me);
        return false;
      }
      ++standing_by_;
    }
    if (has_work()) call_for_work();
    auto const until = Backend::now() + stand_by_time;
    for (;;) {
      if (recalls_.load() == 0) Backend::wait(recalls_, 0, until);
      std::scoped_lock hold{lock_};
      if (recalls_.load() != 0) {
        recalls_.fetch_sub(1);
        return true;
      }
      if (Backend::now() >= until) {
        --standing_by_;
        leave(me);
        return false;
      }
    }
  }

  std::uint64_t const identity_ = process_identity<Backend>();
  crew_settings settings_;
  std::unique_ptr<trace_recorder> const recorder_;
  long const pid_;

  // Who brings work writes these.
  alignas(64) std::atomic<job*> inbox_{nullptr};
  std::atomic<std::uint64_t> submitted_{0};
  std::atomic<bool> urgent_{false};
  // Seldom written.
  alignas(64) std::atomic<std::uint32_t> looking_{0};
  std::atomic<std::uint32_t> parked_{0};
  std::atomic<std::size_t> serving_{0};
  std::atomic<std::size_t> size_{0};
  std::atomic<member*> members_{nullptr};
  std::atomic<bool> sweep_{false};
  typename Backend::template atomic<std::uint32_t> all_asked_{0};
  // Those who take work.
  alignas(64) std::mutex queue_lock_;
  line plain_;
  std::atomic<std::size_t> queued_{0};
  std::map<int, line, higher_first> others_;  // but of priority 0

  alignas(64) std::mutex idle_lock_;
  bool looker_is_called_ = false;
  typename Backend::template atomic<std::uint32_t> calls_{0};

  std::atomic<std::size_t> husks_{0};
  std::atomic<std::uint64_t> given_up_{0};
  std::atomic<std::size_t> waiting_{0};  // only where it is bounded
  sleepers<Backend> room_;

  std::mutex lock_;
  std::mutex join_lock_;
  typename Backend::template atomic<std::uint32_t> gone_{0};  // changes when a thread leaves
  std::size_t lives_ = 0;
  std::size_t standing_by_ = 0;
  bool let_go_ = false;
  std::exception_ptr first_problem_;
  bool is_open_ = false;  // the first threads have all begun
  bool has_said_so_ = false;
  typename Backend::template atomic<std::uint32_t> recalls_{0};
  typename Backend::template atomic<std::uint32_t> begun_{0};
  crew_clock<Backend> clock_;
};

}  // namespace polyproc::inline v0_1::detail
