/// A pool of processes from the inside: which task is where, who collects results, and what becomes of workers that die, are to
/// be ended, or are to be started.
///
/// A task waits in the pool's list, is given (in a slot of the board, for any worker), is begun by a worker, and is over. Any
/// thread of the pool's process may move it along, with the lock held: the one that submits, the one that waits for an outcome,
/// and the pool's own, which sleeps as long as nobody needs it. Whoever takes a finished task out of its slot decodes and
/// completes it without the lock, and gives the slot back afterwards.
///
/// Order: the highest priority first, among equals the oldest. While all are equal as many are given as there are slots: a
/// worker need not wait for this process then. While they are not, few are, and what is given is taken back for something more
/// urgent. No worker has more than the one task that it runs.
///
/// A worker's death costs the task that names it in its slot. It is found by looking at the workers, every few milliseconds while
/// there is work, twice a second while there is none. To end a task that runs its slot is condemned first: so its worker, which
/// may finish at the same moment, can not have begun another task when it is ended.
#pragma once

#include <polyproc/backend/thread_own.hpp>
#include <polyproc/channel/process_identity.hpp>
#include <polyproc/process/process.hpp>
#include <polyproc/task/executor.hpp>
#include <polyproc/task/pool_options.hpp>
#include <polyproc/task/pool_task.hpp>
#include <polyproc/task/pool_worker.hpp>
#include <polyproc/task/trace.hpp>

#include <deque>
#include <map>
#include <thread>

namespace polyproc::inline v0_1::detail {

/// When the program ends, the library ends its daemons, the workers of pools that are never destroyed among them: no pool is to
/// start them anew then, while what it needs for that is being destroyed.
template <backend Backend>
class start_gate {
 public:
  /// After the first child: handlers run in the reverse order, and this one is to be before the one that ends daemons.
  static start_gate& get() {
    static start_gate* const one = [] {
      (void)child_list<Backend>::get();
      there() = new start_gate;  // never destroyed
      Backend::at_fork_child([] { std::construct_at(&there()->lock_); });
      std::atexit([] {
        std::scoped_lock hold{there()->lock_};
        there()->shut_ = true;
      });
      return there();
    }();
    return *one;
  }
  template <class Start>
  auto pass(Start&& start) {
    std::scoped_lock hold{lock_};
    if (shut_) throw start_error("polyproc: no worker is started any more: this program is ending");
    return start();
  }

 private:
  static start_gate*& there() noexcept {
    static constinit start_gate* one = nullptr;
    return one;
  }
  std::mutex lock_;
  bool shut_ = false;
};

template <backend Backend>
class pool_core : public std::enable_shared_from_this<pool_core<Backend>> {
 public:
  using task = pool_task<Backend>;
  using task_ptr = std::shared_ptr<task>;
  using options_t = basic_process_pool_options<Backend>;

  explicit pool_core(options_t options)
      : options_(std::move(options)), board_(places_for(options_.workers), rules_of(options_)), pids_(board_.top().places) {
    target_ = count_of(options_.workers);
    workers_.resize(board_.top().places);
    by_slot_.resize(board_t::slots);
    free_.reserve(board_t::slots);
    running_.reserve(board_t::slots);
    for (std::uint32_t i = board_t::slots; i-- > 0;) free_.push_back(static_cast<std::uint16_t>(i));
    if (options_.trace || !options_.trace_file.empty()) recorder_ = std::make_unique<trace_recorder>(options_.name);
  }

  /// Throws what starting throws; no worker is left then.
  void start() {
    try {
      for (std::uint32_t i = 0; i < target_; ++i) {
        workers_[i].process = made_worker(i);
        note_start(i);
      }
      (void)start_gate<Backend>::get();
      managed_ = true;
      manager_ = std::thread([this] { manage(); });
    } catch (...) {
      for (auto& w : workers_) w.process = {};
      throw;
    }
  }
  /// Not in a copy that a fork has made: what it would do to the board it would do to the pool of the other process.
  [[nodiscard]] bool is_here() const { return identity_ == process_identity<Backend>(); }
  /// Throws std::logic_error in a copy.
  void check_here() const {
    if (!is_here())
      throw std::logic_error("polyproc: this pool belongs to the process that made it; a task or another child that needs a pool "
                             "makes one of its own");
  }
  /// A copy that a fork left in a child: the workers are not its own, and the threads do not exist here.
  void abandon() noexcept {
    if (manager_.joinable()) manager_.detach();
  }

  // --- Submitting.

  /// Room for one task: what is to be submitted is touched only when there is room for it.
  class room_for_one {
   public:
    room_for_one() = default;
    room_for_one(room_for_one const&) = delete;
    room_for_one& operator=(room_for_one const&) = delete;
    ~room_for_one() {
      if (of_ == nullptr) return;
      std::scoped_lock hold{of_->lock_};
      --of_->reserved_;
      if (of_->without_room_ > 0) of_->wake_those_without_room();
    }

   private:
    friend pool_core;
    pool_core* of_ = nullptr;
  };
  /// False when there was none until the deadline. Throws std::logic_error when the pool is closed.
  bool reserve(room_for_one& place, time_point deadline) {
    if (options_.max_waiting == 0) return true;
    std::unique_lock hold{lock_};
    if (!room(hold, deadline)) return false;
    check_open();
    ++reserved_;
    place.of_ = this;
    return true;
  }
  /// Throws std::logic_error when the pool is closed. `spare` gets the task's writer if that is not needed any more.
  void submit(task_ptr what, room_for_one& place, std::unique_ptr<writer>& spare) {
    work out;
    {
      std::scoped_lock hold{lock_};
      check_open();
      if (std::exchange(place.of_, nullptr) != nullptr) --reserved_;
      auto& t = *what;
      if (t.more && t.more->options.deadline != never) {
        t.more->deadline = deadlines_.emplace(t.more->options.deadline, what);
        t.more->in_deadlines = true;
        if (t.more->deadline == deadlines_.begin()) board_.ring_bell();
      }
      bool const simple = backlog_size_ == 0 && !mixed_ && (t.priority == common_priority_ || given_none()) && !free_.empty() &&
                          ring_room();
      if (simple) {
        common_priority_ = t.priority;
        if (give(what, out)) {
          spare = std::move(spare_);
        } else {
          enter_or_undo(std::move(what), spare);
          board_.ring_bell();  // the pool's thread tries again
        }
        count_submitted();
        publish();
      } else {
        enter_or_undo(std::move(what), spare);
        count_submitted();
      }
      try {
        // Where the workers are is not looked at each time: it costs them and us. What they finish with the list there they tell.
        if (!simple && free_.empty() && ++submitted_into_backlog_ % 8 == 0 &&
            (submitted_into_backlog_ % 32 == 0 || given_none()))
          harvest(out);
        if (!simple) hand_out(out);
        set_marks(out);
      } catch (std::bad_alloc const&) {  // it was submitted all the same, and the pool's thread goes on with it
        publish();
        board_.ring_bell();
      }
      resting_ = false;
      if (absent_ > 0) {
        start_now_ = true;
        board_.ring_bell();
      }
    }
    settle(out);
  }

  // --- For those who wait.

  /// True when the outcome is there; false at the deadline, or when it will be completed though nobody helps.
  bool help(task& t, time_point deadline) noexcept {
    bool asked = false;
    for (;;) {
      auto const over = [&] { return t.result().ready() || finished(t) || behind(t); };
      if (over() || look<Backend>()(over)) {
        if (t.result().ready()) return true;
        if (!collect()) return false;  // somebody else has it, and will complete it in no time
        if (t.result().ready()) return true;
        continue;
      }
      if (deadline != never && Backend::now() >= deadline) return false;
      auto const where = t.where.load();
      if (where == task::nowhere) return ask_for(t), false;
      auto& slot = board_.at(static_cast<std::uint32_t>(where & 0xFFFFU));
      auto const turn = slot.turn.load();
      slot.wanted.fetch_or(board_t::somebody_parks);
      if (t.where.load() != where || t.result().ready() || finished(t)) continue;
      blocking_scope told;
      Backend::wait(slot.turn, turn, no_later_than<Backend>(deadline, asked ? idle_recheck : std::chrono::milliseconds{5}));
      if (!asked && slot.turn.load() == turn) {
        // It takes longer: the pool's thread looks after the workers from now on.
        asked = true;
        ask_for(t);
        board_.ring_bell();
      }
    }
  }

  /// For those who ask again and again instead.
  void glance(task& t) noexcept {
    if (finished(t) || behind(t)) (void)collect();
  }

  /// It is to be completed though nobody asks.
  void ask_for(task& t) noexcept {
    if (t.asked_for.exchange(true)) return;
    auto const where = t.where.load();
    if (where == task::nowhere) return;  // whoever gives it will see asked_for
    auto& slot = board_.at(static_cast<std::uint32_t>(where & 0xFFFFU));
    slot.wanted.fetch_or(board_t::pool_asks);
    if (finished(t)) board_.ring_bell();
    else if (pool_rests_.load()) board_.ring_bell();
  }

  bool cancel(task& t) {
    work out;
    {
      std::scoped_lock hold{lock_};
      switch (t.at) {
        case task::place::over: return false;
        case task::place::between:
          if (t.why == task::reason::none) t.why = task::reason::cancelled;
          return task::is_cancelled(t.why);
        case task::place::waiting:
          out.stop(leave_backlog(t), task::reason::cancelled);
          break;
        case task::place::slot: {
          auto const slot = slot_of(t);
          auto const now = board_.at(slot).control.load();
          if (ring_t::state_of(now) == state::given && ring_t::recall(board_.at(slot).control, ring_t::ticket_of(now))) {
            out.stop(take_back(slot), task::reason::cancelled);
            break;
          }
          auto const then = ring_t::state_of(board_.at(slot).control.load());
          if (then == state::done || t.why != task::reason::none) return task::is_cancelled(t.why);
          ask_to_stop(t, slot, task::reason::cancelled);
          board_.ring_bell();
          return true;
        }
      }
      hand_out(out);
      set_marks(out);
      if (without_room_ > 0) wake_those_without_room();
    }
    settle(out);
    return true;
  }

  // --- The ways to end.

  void close() noexcept {
    std::scoped_lock hold{lock_};
    closed_ = true;
    wake_those_without_room();
  }
  [[nodiscard]] bool closed() const {
    std::scoped_lock hold{lock_};
    return closed_;
  }
  /// What a lost worker was running is not repeated any more, and the lost are not replaced.
  void close_for_good() noexcept {
    std::scoped_lock hold{lock_};
    closed_ = closed_for_good_ = true;
    wake_those_without_room();
  }
  /// Gives up what has not begun.
  void cancel_waiting() {
    work out;
    {
      std::scoped_lock hold{lock_};
      give_up_waiting(out, nullptr);
    }
    settle(out);
  }
  /// Asks what runs to stop; what still runs after that time is ended.
  void stop_running(std::chrono::milliseconds grace) {
    std::scoped_lock hold{lock_};
    work out;
    harvest(out);
    later_.append(std::move(out));
    for (auto const slot : running_)
      if (auto const& t = by_slot_[slot]) {
        // Here the pool's grace counts, not the task's own, unless that is running already.
        bool const asked = t->why != task::reason::none;
        if (!asked) ask_to_stop(*t, slot, task::reason::pool_ends);
        auto const by = deadline_after<Backend>(grace);
        auto& end_by = t->rare().end_by;
        end_by = asked ? std::min(end_by, by) : by;
      }
    board_.ring_bell();
  }
  /// False if something is not over at the deadline.
  bool await_all(time_point deadline) {
    {
      std::scoped_lock hold{lock_};
      ++attentive_;
      work out;
      set_marks(out);
      later_.append(std::move(out));
    }
    board_.ring_bell();
    bool done = false;
    for (;;) {
      auto const turn = all_over_.load();
      (void)collect();
      {
        std::scoped_lock hold{lock_};
        done = pending_ == 0;
      }
      if (done || (deadline != never && Backend::now() >= deadline)) break;
      blocking_scope told;
      Backend::wait(all_over_, turn, no_later_than<Backend>(deadline, std::chrono::milliseconds{100}));
    }
    std::scoped_lock hold{lock_};
    --attentive_;
    return done;
  }
  /// All is over: the workers and the pool's thread end.
  void finish() noexcept {
    std::scoped_lock only_once{finish_lock_};
    {
      std::scoped_lock hold{lock_};
      finishing_ = true;
    }
    board_.ring_bell();
    if (manager_.joinable()) manager_.join();
    kept_blocks<Backend>::drop(board_.offset());
    for (std::uint32_t i = 0; i < workers_.size(); ++i)
      if (workers_[i].process.pid()) board_.worker(i).leave.store(1);
    wake_all_idle();
    auto const deadline = Backend::now() + std::chrono::seconds{1};
    for (std::uint32_t i = 0; i < workers_.size(); ++i) {
      auto& w = workers_[i];
      if (!w.process.pid()) continue;
      try {
        (void)w.process.join_until(deadline);
      } catch (...) {  // ended below
      }
      std::scoped_lock hold{lock_};
      auto const status = w.process.status();
      tell_end(i, status ? to_string(*status) : "was ended with the pool");
      w.process = {};  // a daemon that still runs is ended at once
      --live_;
    }
    write_trace_file();
  }

  // --- Looking at it.

  [[nodiscard]] std::size_t size() const {
    std::scoped_lock hold{lock_};
    return target_;
  }
  void resize(std::size_t asked) {
    auto const most = workers_.size();
    if (asked == 0 || asked > most)
      throw std::invalid_argument("polyproc: this pool can have 1 to " + std::to_string(most) + " workers, and " +
                                  std::to_string(asked) + " were asked for; a pool that is made with more can have more");
    std::scoped_lock hold{lock_};
    target_ = static_cast<std::uint32_t>(asked);
    resting_ = false;
    for (std::uint32_t i = target_; i < most; ++i)
      if (workers_[i].process.pid()) board_.worker(i).leave.store(1);
    for (std::uint32_t i = 0; i < target_; ++i) workers_[i].rests = false;
    wake_all_idle();
    count_absent();
    start_now_ = true;
    board_.ring_bell();
  }
  [[nodiscard]] std::vector<long> worker_pids() const {
    std::scoped_lock hold{lock_};
    std::vector<long> pids;
    for (auto const& w : workers_)
      if (auto const pid = w.process.pid()) pids.push_back(*pid);
    return pids;
  }
  bool kill_worker(long pid) {
    std::scoped_lock hold{lock_};
    for (auto& w : workers_)
      if (w.process.pid() == pid) return w.process.ask(child_request::kill);
    return false;
  }
  [[nodiscard]] pool_stats stats() {
    work out;
    pool_stats now;
    {
      std::scoped_lock hold{lock_};
      harvest(out);
      hand_out(out);
      set_marks(out);
      now = stats_;
      now.workers = target_;
      // One may have served before whoever has started it comes to count it.
      for (std::uint32_t i = 0; i < target_; ++i) now.restarted += workers_[i].starting && board_.worker(i).arrived.load() != 0;
      now.running = running_.size();
      now.waiting = waiting();
    }
    settle(out);
    return now;
  }
  [[nodiscard]] options_t const& options() const noexcept { return options_; }
  [[nodiscard]] trace_recorder const* recorder() const noexcept { return recorder_.get(); }

 private:
  using board_t = pool_board<Backend>;
  using ring_t = typename board_t::ring;
  using state = typename board_t::state;

  struct higher_first {
    bool operator()(int a, int b) const noexcept { return a > b; }
  };
  struct worker_entry {
    basic_process<Backend> process;
    bool rests = false;     // left because there was nothing to do
    bool starting = false;  // by the pool's thread, without the lock
    bool told = false;      // that it was started, before that was over
  };

  /// What is to be done when the lock has been let go.
  struct work {
    struct finished {
      task_ptr what;
      std::uint32_t slot;
    };
    enum class count : std::uint8_t { cancelled, failed, lost };
    struct failed {
      task_ptr what;
      std::exception_ptr problem;
      count as;
    };
    /// Lost with its worker, and to be encoded once more.
    struct repeated {
      task_ptr what;
      std::exception_ptr lost;
      std::uint32_t worker;
      bool encoded = false;
    };
    std::vector<finished> done;
    std::vector<failed> fail;
    std::vector<repeated> repeat;

    void give_up(task_ptr what, std::exception_ptr problem, count as = count::failed) {
      if (what) fail.push_back({std::move(what), std::move(problem), as});
    }
    void stop(task_ptr what, typename task::reason why) {
      if (!what) return;
      auto problem = stopped(*what, why);
      give_up(std::move(what), std::move(problem), count::cancelled);
    }
    void clear() noexcept {
      done.clear();
      fail.clear();
      repeat.clear();
    }
    [[nodiscard]] bool empty() const noexcept { return done.empty() && fail.empty() && repeat.empty(); }
    void append(work&& more) {
      for (auto& one : more.done) done.push_back(std::move(one));
      for (auto& one : more.fail) fail.push_back(std::move(one));
      for (auto& one : more.repeat) repeat.push_back(std::move(one));
    }
  };

  static constexpr std::chrono::milliseconds look_after_workers_every{10};
  static constexpr std::chrono::milliseconds longest_start_pause{100};
  static constexpr std::uint64_t most_prepared = 16;
  static constexpr std::size_t most_aside = 256;
  static constexpr std::uint64_t looked_ahead = 4;

  static std::uint32_t count_of(std::size_t asked) {
    if (asked > board_t::slots)
      throw std::invalid_argument("polyproc: a pool of processes has 1 to " + std::to_string(board_t::slots) +
                                  " workers (0: one per usable processor)");
    return asked == 0 ? Backend::usable_cpus() : static_cast<std::uint32_t>(asked);
  }
  /// More than there are at first, for resize.
  static std::uint32_t places_for(std::size_t asked) { return std::max(256U, count_of(asked)); }
  /// 0 remains 0; what would be centuries is none.
  static std::uint64_t nanoseconds_of(std::chrono::milliseconds time) noexcept {
    constexpr auto most = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::nanoseconds::max() / 4);
    return time > most || time.count() <= 0 ? 0 : static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count());
  }
  static typename board_t::rules rules_of(options_t const& o) {
    return {static_cast<std::uint32_t>(std::min<std::size_t>(o.tasks_per_worker, ~std::uint32_t{0})), o.memory_growth,
            nanoseconds_of(o.idle_time), o.trace || !o.trace_file.empty()};
  }

  // --- Slots and the list. All with the lock held.

  [[nodiscard]] static std::uint32_t slot_of(task const& t) noexcept {
    return static_cast<std::uint32_t>(t.where.load(std::memory_order_relaxed) & 0xFFFFU);
  }
  [[nodiscard]] std::uint64_t head() { return board_.tasks().head(board_.controls()); }
  /// Given and not begun, as far as is known. What was taken back from between others still has its entry in the ring.
  [[nodiscard]] std::size_t given() {
    return std::min(static_cast<std::size_t>(board_.tasks().tail() + prepared_ - head()), unbegun_);
  }
  [[nodiscard]] bool given_none() { return given() == 0; }
  [[nodiscard]] std::size_t waiting() { return backlog_size_ + given(); }
  /// The entries that have not been looked at must stay.
  [[nodiscard]] bool ring_room() noexcept { return board_.tasks().tail() + prepared_ - scanned_ < board_t::slots; }

  /// Whether something that was given has finished, without the lock.
  [[nodiscard]] bool finished(task const& t) const noexcept {
    auto const where = t.where.load(std::memory_order_acquire);
    if (where == task::nowhere) return false;
    auto const control = board_.at(static_cast<std::uint32_t>(where & 0xFFFFU)).control.load();
    return ring_t::state_of(control) == state::done && ring_t::ticket_of(control) == where >> 16;
  }
  /// Whether it waits in the list while others have finished.
  [[nodiscard]] bool behind(task const& t) const noexcept {
    return t.where.load(std::memory_order_relaxed) == task::nowhere &&
           board_.top().tasks.head.load(std::memory_order_relaxed) >= scanned_hint_.load(std::memory_order_relaxed) + 64;
  }

  void count_submitted() noexcept {
    ++stats_.submitted;
    ++pending_;
  }
  /// Throws std::bad_alloc; then it was not submitted. (Who submits has the task still.)
  void enter_or_undo(task_ptr what, std::unique_ptr<writer>& spare) {
    auto& t = *what;
    try {
      enter(std::move(what), spare);
    } catch (...) {
      if (t.more && std::exchange(t.more->in_deadlines, false)) deadlines_.erase(t.more->deadline);
      throw;
    }
  }
  void enter(task_ptr what, std::unique_ptr<writer>& spare) {
    auto& t = *what;
    auto const size = t.block() == 0 ? t.call->view().size() : 0;
    if (size != 0 && size <= task::little_room && !t.call->has_holds()) {
      std::memcpy(t.little, t.call->view().data(), size);
      t.little_size = static_cast<std::uint8_t>(size);
      spare = std::move(t.call);
    }
    if (backlog_size_ == 0 && given_none()) mixed_ = false, common_priority_ = t.priority;
    if (t.priority != common_priority_) mixed_ = true;
    if (mixed_) take_back_below(t.priority);
    t.at = task::place::waiting;
    backlog_[t.priority].push_back(std::move(what));
    ++backlog_size_;
  }
  /// What is given and less urgent goes to the front of the list again.
  void take_back_below(int priority) {
    auto const ring = board_.tasks();
    for (auto ticket = ring.tail(); ticket-- > head();) {
      auto const slot = slot_at(ticket);
      auto const& t = by_slot_[slot];
      if (!t || t->priority >= priority || !is_ticket(slot, ticket)) continue;
      fetch_request(*t, slot);
      if (ring_t::recall(board_.at(slot).control, ticket)) to_the_front(take_back(slot));
      else if (t->call) t->call->forget_bytes();
    }
  }
  void to_the_front(task_ptr what) {
    what->at = task::place::waiting;
    auto const priority = what->priority;
    if (priority != common_priority_) mixed_ = true;
    backlog_[priority].push_front(std::move(what));
    ++backlog_size_;
  }
  /// Those that have left it by cancel() are passed over.
  task_ptr next_of_backlog() {
    while (!backlog_.empty()) {
      auto const level = backlog_.begin();
      while (!level->second.empty()) {
        auto what = std::move(level->second.front());
        level->second.pop_front();
        if (what->at != task::place::waiting) continue;
        --backlog_size_;
        return what;
      }
      backlog_.erase(level);
    }
    return nullptr;
  }
  task_ptr leave_backlog(task& t) {
    auto& level = backlog_[t.priority];
    // Many that are given up are mostly so in their order, or in the reverse one: no long search then.
    while (!level.empty() && level.front()->at != task::place::waiting) level.pop_front();
    while (!level.empty() && level.back()->at != task::place::waiting) level.pop_back();
    if (!level.empty() && level.back().get() == &t) {
      auto what = std::move(level.back());
      level.pop_back();
      t.at = task::place::over;
      --backlog_size_;
      return what;
    }
    for (auto& one : level) {
      if (one.get() != &t) continue;
      auto what = one;  // the entry stays, and is passed over
      t.at = task::place::over;
      --backlog_size_;
      return what;
    }
    return nullptr;
  }
  [[nodiscard]] std::uint32_t slot_at(std::uint64_t ticket) const noexcept {
    return static_cast<std::uint32_t>(board_.top().entries[ticket % board_t::slots].load(std::memory_order_relaxed) & 0xFFFFU);
  }
  [[nodiscard]] bool is_ticket(std::uint32_t slot, std::uint64_t ticket) const noexcept {
    return ring_t::ticket_of(board_.at(slot).control.load(std::memory_order_relaxed)) == ticket;
  }

  /// Out of the list and into slots, as many as may be given.
  void hand_out(work& out) {
    if (backlog_size_ == 0) {
      if (!backlog_.empty()) backlog_.clear();
      return;
    }
    if (mixed_ && backlog_.size() == 1 && given_none()) mixed_ = false, common_priority_ = backlog_.begin()->first;
    std::vector<task_ptr> aside;
    while (backlog_size_ > 0 && !free_.empty() && ring_room() && (!mixed_ || given() < target_)) {
      auto what = next_of_backlog();
      if (!what) break;
      bool const not_now = !aside.empty() && needs_block(*what);  // as the one before
      if (not_now || !give(what, out)) {
        aside.push_back(std::move(what));
        if (aside.size() == most_aside) break;
      }
      if (prepared_ == most_prepared) publish();
    }
    publish();
    // Those that need memory that cannot be had now do not keep the small ones waiting.
    while (!aside.empty()) {
      to_the_front(std::move(aside.back()));
      aside.pop_back();
    }
  }
  [[nodiscard]] static bool needs_block(task const& t) noexcept {
    return t.block() == 0 && t.call && t.call->view().size() > board_t::room;
  }
  /// The workers see what is given only now: to tell them of each one alone would have us wait for each one's memory.
  void publish() noexcept {
    if (prepared_ == 0) return;
    auto const from = board_.tasks().tail();
    auto const until = from + std::exchange(prepared_, 0);
    board_.publish(until - from);
    for (auto ticket = from; ticket != until; ++ticket) {
      auto const number = slot_at(ticket);
      auto& t = *by_slot_[number];
      // Against ask_for's exchange, which comes before it looks where the task is: one of the two is the later one, and sees what
      // the other has done.
      bool asked = false;
      if (t.asked_for.compare_exchange_strong(asked, false)) continue;
      board_.at(number).wanted.fetch_or(board_t::pool_asks);
      if (finished(t)) board_.ring_bell();
    }
  }

  /// Prepares it, to be published; it is not the caller's any more. False when it cannot be given now, because somebody who seems
  /// to be stopped holds the books of shared memory.
  bool give(task_ptr& what, work& out) {
    auto& t = *what;
    if (t.more && t.more->options.deadline != never && Backend::now() >= t.more->options.deadline) {
      t.at = task::place::over;
      out.stop(std::move(what), task::reason::deadline);
      return true;
    }
    auto const number = free_.back();
    auto& slot = board_.at(number);
    try {
      if (t.little_size != 0) {
        board_t::write_request(slot, {t.little, t.little_size});
      } else if (t.block() == 0 && t.call->view().size() <= board_t::room) {
        board_t::write_request(slot, t.call->view());
        if (t.call->has_holds()) t.call->forget_bytes();
        else spare_ = std::move(t.call);
      } else {
        if (t.block() == 0 && !move_to_block(t)) return false;
        auto& rare = *t.more;
        if (!rare.offered && results_are_large_.load(std::memory_order_relaxed))
          rare.offered = kept_blocks<Backend>::take(board_.offset(), rare.block_size);
        board_t::write_request(slot, rare.block_size, rare.block, rare.offered);
      }
    } catch (...) {
      t.at = task::place::over;
      out.give_up(std::move(what), std::current_exception());
      return true;
    }
    free_.pop_back();
    if (!free_.empty()) board_.fetch_for_writing(free_.back());
    by_slot_[number] = std::move(what);
    ++unbegun_;
    t.at = task::place::slot;
    slot.result.block = 0;
    slot.reading.store(0, std::memory_order_relaxed);
    slot.flags = t.more && t.more->options.time_limit ? board_t::ring_at_begin | board_t::note_times : 0;
    if (slot.flags != 0 || recorder_) slot.began.store(0, std::memory_order_relaxed);
    slot.wanted.store(0, std::memory_order_relaxed);
    auto const ticket = board_.tasks().tail() + prepared_++;
    // Any value but those that ask: this one to stop, or the one that had the slot before, whose token somebody may have still.
    slot.stop.store(static_cast<std::uint32_t>(ticket) ^ 0x80000000U, std::memory_order_relaxed);
    t.where.store(ticket << 16 | number, std::memory_order_release);
    board_.tasks().prepare(slot.control, number, ticket);
    return true;
  }
  bool move_to_block(task& t) {
    auto const bytes = t.call->view();
    auto& rare = t.rare();
    auto const block = board_.new_block_now(bytes.size(), board_t::requests);
    if (!block) return false;
    rare.block = *block;
    rare.block_size = rare.block_room = bytes.size();
    std::memcpy(arena<Backend>::at(rare.block, bytes.size()), bytes.data(), bytes.size());
    t.call->forget_bytes();
    return true;
  }

 public:
  /// Encodes a request; a large one where it is to lie.
  template <class Encode>
  void encode_request(task& t, Encode&& encode) {
    t.little_size = 0;
    typename board_t::blocks large(board_.offset(), board_t::patience::none);
    t.call->use_for_many(&large, board_t::blocks::many);
    try {
      encode(*t.call);
      if (t.call->wrote_many()) {
        auto& rare = t.rare();
        rare.block_size = t.call->view().size();
        rare.block_room = large.last_room();
        rare.block = large.offset_of(t.call->take_many());
      }
    } catch (...) {
      t.call->use_for_many(nullptr, 0);
      throw;
    }
    t.call->use_bytes_alone();
  }
  /// What a finished task has in shared memory, before anybody sees that it has finished.
  void let_go_of(task& t, std::uint32_t number) noexcept {
    auto& slot = board_.at(number);
    if (t.call && slot.reading.load(std::memory_order_relaxed) != 0) t.call->sent();
    bool const large = board_.clear_result(slot, t.more ? t.more->offered : typename kept_blocks<Backend>::block{});
    if (t.block() != 0 && slot.how == board_t::ending::value) results_are_large_.store(large, std::memory_order_relaxed);
    free_block(t);
  }
  /// Of one that is not submitted after all.
  void forget_request(task& t) noexcept {
    if (t.block() != 0) later_frees<Backend>::free(std::exchange(t.more->block, 0));
  }

 private:
  /// Of a task in a slot: its request where it was before.
  void fetch_request(task& t, std::uint32_t number) {
    auto const& slot = board_.at(number);
    if (slot.request.block != 0 || t.little_size != 0) return;
    if (!t.call) t.call = std::make_unique<writer>();
    t.call->bytes(board_t::read_request(slot));
  }

  /// What nobody has begun, after its recall.
  task_ptr take_back(std::uint32_t number) {
    --unbegun_;
    auto what = take_out(number);
    if (what->more) kept_blocks<Backend>::keep(board_.offset(), std::exchange(what->more->offered, {}));
    return what;
  }
  /// The slot is free; its task is somebody's to complete, or to give again.
  task_ptr take_out(std::uint32_t number) {
    auto what = std::move(by_slot_[number]);
    what->where.store(task::nowhere);
    what->at = task::place::over;
    free_slot(number);
    return what;
  }
  void free_slot(std::uint32_t number) {
    auto& slot = board_.at(number);
    ring_t::free(slot.control, ring_t::ticket_of(slot.control.load(std::memory_order_relaxed)));
    free_.push_back(static_cast<std::uint16_t>(number));
    if ((slot.wanted.load() & board_t::somebody_parks) != 0) {
      slot.turn.fetch_add(1);
      Backend::wake_all(slot.turn);
    }
  }

  /// Takes what has finished; `running_` are those that have begun and not finished, afterwards.
  void harvest(work& out) {
    auto const until = head();
    // Nothing that is taken out below may be lost for want of memory.
    auto const at_most = running_.size() + static_cast<std::size_t>(until - scanned_);
    if (out.done.capacity() - out.done.size() < at_most) out.done.reserve(std::max(out.done.size() + at_most, 2 * out.done.size()));
    std::erase_if(running_, [&](std::uint32_t slot) {
      auto const now = ring_t::state_of(board_.at(slot).control.load());
      if (now == state::done) take_finished(slot, out);
      return now != state::running && now != state::condemned;
    });
    for (; scanned_ < until; ++scanned_) {
      auto const slot = slot_at(scanned_);
      if (scanned_ + looked_ahead < until) board_.fetch_control(slot_at(scanned_ + looked_ahead));
      auto const control = board_.at(slot).control.load();
      if (ring_t::ticket_of(control) != scanned_ || !by_slot_[slot]) continue;
      auto const now = ring_t::state_of(control);
      if (now == state::done) {
        --unbegun_;
        if (options_.on_event) tell_begin(slot);
        take_finished(slot, out);
      } else if (now == state::running || now == state::condemned) {
        --unbegun_;
        running_.push_back(slot);
        if (options_.on_event) tell_begin(slot);
      }
    }
    scanned_hint_.store(scanned_, std::memory_order_relaxed);
    if (without_room_ > 0) wake_those_without_room();
  }
  void take_finished(std::uint32_t slot, work& out) {
    auto what = std::move(by_slot_[slot]);
    what->at = task::place::over;
    failed_starts_ = 0;
    if (what->why != task::reason::none) ++stats_.cancelled;
    else ++(board_.at(slot).how == board_t::ending::value ? stats_.done : stats_.failed);
    if (options_.on_event) tell_finished(*what, slot);
    if (recorder_) record(*what, slot, ending_of(*what, slot));
    out.done.push_back({std::move(what), slot});
  }

  /// Who is to be told of what, from now on.
  void set_marks(work& out) {
    auto& top = board_.top();
    auto const attention = attentive_ > 0 || without_room_ > 0 || options_.on_event;
    auto const tail = board_.tasks().tail();
    auto done_from = board_t::nobody;
    if (attention || (backlog_size_ > 0 && mixed_)) done_from = 0;
    else if (backlog_size_ > 0) done_from = tail > board_t::slots / 2 ? tail - board_t::slots / 2 : 0;
    auto const begun_from = without_room_ > 0 || options_.on_event ? 0 : board_t::nobody;
    bool lower = false;
    auto const set = [&](typename board_t::wide& mark, std::uint64_t value) {
      auto const before = mark.load(std::memory_order_relaxed);
      if (before == value) return;
      mark.store(value);
      lower |= value < before;
    };
    set(top.done_from, done_from);
    set(top.begun_from, begun_from);
    if (!lower) return;
    // What finished before that has told nobody.
    harvest(out);
    hand_out(out);
  }

  // --- Without the lock.

  /// Takes part in what the pool has to do; whether there was anything.
  bool collect() noexcept {
    auto& memory = thread_own<work>();  // is not there for one that is called by a decoder of one below
    work out = std::exchange(memory, {});
    {
      std::scoped_lock hold{lock_};
      if (!later_.empty()) out.append(std::exchange(later_, {}));
      harvest(out);
      hand_out(out);
      set_marks(out);
    }
    bool const some = !out.empty();
    settle(out);
    memory = std::move(out);
    return some;
  }

  /// Completes what is over; gives slots back and what waits to them, until there is nothing more to do.
  void settle(work& out) noexcept {
    while (!out.empty()) {
      // Whoever has an outcome sees it counted.
      if (!out.fail.empty()) {
        std::scoped_lock hold{lock_};
        for (auto const& one : out.fail) ++(one.as == work::count::cancelled ? stats_.cancelled : stats_.failed);
      }
      for (auto const& one : out.done) complete(one);
      for (auto& one : out.fail) {
        free_block(*one.what);
        one.what->result().fail(std::move(one.problem));
      }
      for (auto& one : out.repeat)
        if (!one.encoded) one.encoded = encoded_again(*one.what);
      work more;
      {
        std::scoped_lock hold{lock_};
        for (auto& one : out.repeat) repeat(one, more);
        for (auto const& one : out.done) free_slot(one.slot);
        for (auto const& one : out.done) forget(*one.what);
        for (auto const& one : out.fail) forget(*one.what);
        pending_ -= out.done.size() + out.fail.size();
        if (pending_ == 0) {
          all_over_.fetch_add(1);
          Backend::wake_all(all_over_);
        }
        hand_out(more);
        set_marks(more);
      }
      out.clear();
      if (!more.empty()) out = std::move(more);
    }
  }

  /// Nobody will have it, and what it holds is ours.
  static void discard(task& t, typename board_t::slot const& slot) noexcept {
    if (slot.how != board_t::ending::value) return;
    try {
      reader in(board_t::read_result(slot));
      t.discard(in);
    } catch (...) {  // it could not have been had anyway
    }
  }
  void complete(typename work::finished const& one) noexcept {
    auto& t = *one.what;
    auto& slot = board_.at(one.slot);
    try {
      if (t.why != task::reason::none) {
        discard(t, slot);
        let_go_of(t, one.slot);
        t.result().fail(stopped(t, t.why));
      } else {
        reader in(board_t::read_result(slot));
        if (slot.how == board_t::ending::value) {
          t.succeed(in, one.slot);
        } else {
          auto problem = decode_exception(in);
          let_go_of(t, one.slot);
          t.result().fail(std::move(problem));
        }
      }
    } catch (...) {
      if (t.why == task::reason::none && slot.how == board_t::ending::value) {
        std::scoped_lock hold{lock_};
        --stats_.done;  // its value cannot be read
        ++stats_.failed;
      }
      let_go_of(t, one.slot);
      t.result().fail(std::current_exception());
    }
  }
  void free_block(task& t) noexcept {
    if (!t.more) return;
    kept_blocks<Backend>::keep(board_.offset(), {std::exchange(t.more->block, 0), t.more->block_room});
    kept_blocks<Backend>::keep(board_.offset(), std::exchange(t.more->offered, {}));
  }
  static std::exception_ptr stopped(task const& t, typename task::reason why) {
    auto const which = "polyproc: the task" + t.label();
    switch (why) {
      case task::reason::limit:
        return std::make_exception_ptr(time_limit_exceeded(which + " was ended: it ran for longer than its time limit"));
      case task::reason::deadline:
        return std::make_exception_ptr(time_limit_exceeded(which + " was given up: it had not ended at its deadline"));
      case task::reason::pool_ends:
        return std::make_exception_ptr(task_cancelled(
            which + " was cancelled: its pool was terminated, shut down or destroyed before it had ended; close() and join() "
                    "have all done first"));
      case task::reason::cancelled:
      case task::reason::none: break;
    }
    return std::make_exception_ptr(task_cancelled(which + " was cancelled"));
  }

  void forget(task& t) {
    free_block(t);
    if (t.more && std::exchange(t.more->in_deadlines, false)) deadlines_.erase(t.more->deadline);
  }

  void write_trace_file() noexcept {
    if (options_.trace_file.empty() || std::exchange(trace_written_, true)) return;
    try {
      recorder_->write(options_.trace_file);
    } catch (std::exception const& problem) {
      try {
        Backend::write_stderr(std::string(problem.what()) + "\n");
      } catch (...) {  // no memory to say it with
      }
    }
  }

  // --- Events, in order.

  void tell(pool_event::kind what, std::uint32_t worker, task const* of, std::string how) noexcept {
    try {
      auto const* const task_name = of != nullptr && of->more ? of->more->options.name.c_str() : "";
      pool_event e{what, worker + std::size_t{1}, pid_of(worker), task_name, std::move(how)};
      callback<> call([self = this->shared_from_this(), e = std::move(e)] { self->options_.on_event(e); });
      (void)dispatcher<Backend>::get().post_unless_over(call);  // at the end of the program nobody is told: the lock is held here
    } catch (...) {  // no memory, no thread: the same
    }
  }
  [[nodiscard]] long pid_of(std::uint32_t worker) const noexcept { return pids_[worker].load(std::memory_order_relaxed); }
  /// With the lock held: so it comes before whatever happens to that worker afterwards.
  void tell_finished(task const& t, std::uint32_t number) {
    auto const& slot = board_.at(number);
    tell(pool_event::kind::task_ended, ring_t::worker_of(slot.control.load(std::memory_order_relaxed)), &t,
         ending_of(t, number));
  }
  /// Why a task was asked to stop.
  [[nodiscard]] static char const* word_for(typename task::reason why) noexcept {
    return why == task::reason::limit ? "time limit" : why == task::reason::deadline ? "deadline" : "cancelled";
  }
  [[nodiscard]] char const* ending_of(task const& t, std::uint32_t number) const noexcept {
    if (t.why != task::reason::none) return word_for(t.why);
    return board_.at(number).how == board_t::ending::value ? "value" : "exception";
  }
  /// One that was lost with its worker has no end but this one.
  void record(task const& t, std::uint32_t number, char const* how) noexcept {
    auto const& slot = board_.at(number);
    auto const control = slot.control.load(std::memory_order_relaxed);
    auto const worker = ring_t::worker_of(control);
    auto const at = [](std::uint64_t nanoseconds) {
      return time_point(std::chrono::duration_cast<time_point::duration>(std::chrono::nanoseconds(nanoseconds)));
    };
    auto const now = Backend::now();
    auto const noted = slot.began.load(std::memory_order_relaxed);
    auto const begin = noted != 0 ? at(noted) : now;
    auto const end = ring_t::state_of(control) == state::done ? at(static_cast<std::uint64_t>(slot.ended)) : now;
    try {
      recorder_->add({t.more ? t.more->options.name : std::string(), pid_of(worker), worker + std::uint64_t{1}, begin, end, how});
      recorder_->name_worker(pid_of(worker), worker + std::uint64_t{1}, options_.name + "-" + std::to_string(worker + 1));
    } catch (...) {  // no memory: then it is not in the trace
    }
  }
  void tell_begin(std::uint32_t slot) {
    auto const worker = ring_t::worker_of(board_.at(slot).control.load(std::memory_order_relaxed));
    if (workers_[worker].starting && !std::exchange(workers_[worker].told, true)) {
      // It is at work already, and whoever started it has not come back from that.
      auto const pid = board_.worker(worker).pid.load(std::memory_order_relaxed);
      pids_[worker].store(static_cast<long>(pid), std::memory_order_relaxed);
      tell(pool_event::kind::worker_started, worker, nullptr, "");
    }
    tell(pool_event::kind::task_begun, worker, by_slot_[slot].get(), "");
  }
  void tell_end(std::uint32_t worker, std::string how) {
    if (options_.on_event) tell(pool_event::kind::worker_ended, worker, nullptr, std::move(how));
  }

  // --- Room for those who submit.

  [[nodiscard]] bool is_room() { return options_.max_waiting == 0 || closed_ || waiting() + reserved_ < options_.max_waiting; }
  void check_open() const {
    if (closed_) throw std::logic_error("polyproc: this pool is closed and accepts no more tasks; submit before close()");
  }
  bool room(std::unique_lock<std::mutex>& hold, time_point deadline) {
    if (is_room()) return true;
    ++without_room_;
    bool got = false;
    for (;;) {
      work out;
      harvest(out);
      hand_out(out);
      set_marks(out);
      auto const turn = room_turn_.load();
      got = is_room();
      bool const late = deadline != never && Backend::now() >= deadline;
      if (out.empty() && (got || late)) break;
      hold.unlock();
      if (!out.empty()) {
        settle(out);
      } else {
        if (pool_rests_.load()) board_.ring_bell();
        blocking_scope told;
        Backend::wait(room_turn_, turn, no_later_than<Backend>(deadline, std::chrono::milliseconds{100}));
      }
      hold.lock();
    }
    --without_room_;
    return got;
  }
  void wake_those_without_room() noexcept {
    room_turn_.fetch_add(1);
    Backend::wake_all(room_turn_);
  }

  // --- Stopping.

  void give_up_waiting(work& out, std::exception_ptr const& problem) {
    auto const add = [&](task_ptr what) {
      if (!what) return;
      if (problem) out.give_up(std::move(what), problem);
      else out.stop(std::move(what), task::reason::pool_ends);
    };
    harvest(out);
    auto const ring = board_.tasks();
    for (auto ticket = head(); ticket < ring.tail(); ++ticket) {
      auto const slot = slot_at(ticket);
      if (by_slot_[slot] && is_ticket(slot, ticket) && ring_t::recall(board_.at(slot).control, ticket)) add(take_back(slot));
    }
    while (auto what = next_of_backlog()) {
      what->at = task::place::over;
      add(std::move(what));
    }
    set_marks(out);
  }

  void ask_to_stop(task& t, std::uint32_t slot, typename task::reason why) {
    auto& rare = t.rare();
    t.why = why;
    rare.end_by = deadline_after<Backend>(rare.options.grace);
    auto& s = board_.at(slot);
    s.stop.store(static_cast<std::uint32_t>(ring_t::ticket_of(s.control.load()) + 1));
    Backend::wake_all(s.stop);
  }

  // --- Workers.

  basic_process<Backend> made_worker(std::uint32_t i) {
    process_options o{.name = options_.name + "-" + std::to_string(i + 1), .daemon = true, .start = options_.start,
                      .group = true, .ignore_interrupt = true, .affinity = options_.affinity};
    basic_process<Backend> made(std::move(o), &serve_pool<Backend>, board_, i, options_.initializer);
    board_.worker(i).starts.fetch_add(1, std::memory_order_relaxed);
    made.start(typename basic_process<Backend>::as_worker{.not_wait = managed_});
    return made;
  }
  void note_start(std::uint32_t i) {
    ++live_;
    if (managed_) ++stats_.restarted;
    pids_[i].store(workers_[i].process.pid().value_or(0), std::memory_order_relaxed);
    if (!std::exchange(workers_[i].told, false) && options_.on_event)
      tell(pool_event::kind::worker_started, i, nullptr, "");
  }
  void count_absent() noexcept {
    absent_ = 0;
    for (std::uint32_t i = 0; i < target_; ++i) absent_ += !workers_[i].process.pid() && !workers_[i].starting;
  }
  void wake_all_idle() noexcept { board_.top().workers.wake_all(); }

  /// Notices those that have ended, and accounts for what they had.
  void look_after_workers(work& out) {
    bool some = false;
    for (std::uint32_t i = 0; i < workers_.size(); ++i) {
      auto& w = workers_[i];
      if (!w.process.pid() || w.process.is_alive()) continue;
      some = true;
      auto const status = w.process.status();
      auto const pid = w.process.pid().value_or(0);
      w.process = {};
      --live_;
      harvest(out);
      auto const slots = running_;
      for (auto const slot : slots)
        if (ring_t::worker_of(board_.at(slot).control.load()) == i) lose(slot, i, pid, status, out);
      tell_end(i, status ? to_string(*status) : "ended");
      board_.top().workers.forget(i);
      auto& place = board_.worker(i);
      auto const left = place.left.load();
      if (place.arrived.load() == 0) board_.free_blocks(board_.problem_of(i));  // of one that was about to say so
      if (place.arrived.load() == 2) {
        initializer_failed(place, i, out);
      } else if (place.arrived.load() == 0 && left == 0) {
        note_failed_start();
        if (failed_starts_ >= options_.start_attempts)
          cannot_start(out, "polyproc: the workers of this pool die before they serve; the last one " +
                                (status ? to_string(*status) : std::string("ended")) +
                                "; look at what they write to stderr, at .initializer, and at what is made before main");
      } else {
        failed_starts_ = 0;  // it has served
        resting_ = false;    // and is to be replaced
      }
      w.rests = left == 2;
      place.arrived.store(0);
      place.leave.store(0);
      place.left.store(0);
    }
    if (!some) return;
    count_absent();
    wake_all_idle();
  }
  /// One that is about to may fail as well: it does not count.
  [[nodiscard]] bool somebody_serves() const {
    return std::any_of(workers_.begin(), workers_.end(), [&](worker_entry const& w) {
      auto const place = static_cast<std::uint32_t>(&w - workers_.data());
      return w.process.pid() && board_.worker(place).arrived.load() == 1 && w.process.is_alive();
    });
  }
  void initializer_failed(typename board_t::place& place, std::uint32_t i, work& out) {
    std::exception_ptr problem;
    try {
      auto const size = static_cast<std::size_t>(place.problem_size);
      reader in({arena<Backend>::at(place.problem, size), size});
      problem = decode_exception(in);
    } catch (...) {
      problem = std::current_exception();
    }
    board_.free_blocks(board_.problem_of(i));
    give_up_starting(out, problem);
  }
  /// Not faster and faster when they all die at once.
  void note_failed_start() noexcept {
    ++failed_starts_;
    if (failed_starts_ >= 3)
      start_not_before_ = Backend::now() + std::min(std::chrono::milliseconds{failed_starts_}, longest_start_pause);
  }
  void cannot_start(work& out, std::string const& why) {
    give_up_starting(out, std::make_exception_ptr(start_error(why)));
  }
  /// Until the next submission, or until one that serves has ended. What waits is left to those who serve, if there are any.
  void give_up_starting(work& out, std::exception_ptr const& problem) {
    failed_starts_ = 0;
    resting_ = true;
    if (somebody_serves()) start_not_before_ = Backend::now() + longest_start_pause;
    else give_up_waiting(out, problem);
  }

  void lose(std::uint32_t number, std::uint32_t worker, long pid, std::optional<exit_status> const& status, work& out) {
    auto& slot = board_.at(number);
    if (ring_t::state_of(slot.control.load()) == state::condemned) --doomed_;
    std::erase(running_, number);
    if (recorder_ && by_slot_[number])
      record(*by_slot_[number], number, by_slot_[number]->why == task::reason::none ? "lost" : word_for(by_slot_[number]->why));
    auto const ticket = ring_t::ticket_of(slot.control.load(std::memory_order_relaxed));
    auto what = take_out(number);
    auto& t = *what;
    board_.free_blocks(board_t::result_of(ticket));
    bool const read = slot.reading.load(std::memory_order_relaxed) != 0;
    if (t.why != task::reason::none) {
      if (read && t.call) t.call->sent();  // what it had taken over is lost with it
      tell_lost(t, worker, word_for(t.why));
      out.stop(std::move(what), t.why);
      return;
    }
    ++stats_.lost;
    bool const lies_there = !(read && t.call) && t.block() != 0;  // its request, as it was
    if (read && t.call) t.call->sent();
    auto const how = status ? to_string(*status) : std::string("ended");
    auto const code = status ? status->as_code() : unknown_exit_code;
    auto problem = std::make_exception_ptr(worker_lost("polyproc: worker process " + std::to_string(pid) +
                                                           " was lost with the task it was running" + t.label() + ": it " + how,
                                                       pid, code));
    if (t.more && t.more->tries < t.more->options.retries && !closed_for_good_) {
      ++t.more->tries;
      t.at = task::place::between;
      out.repeat.push_back({std::move(what), std::move(problem), worker, lies_there});
      return;
    }
    tell_lost(t, worker, "lost");
    out.give_up(std::move(what), std::move(problem), work::count::lost);
  }
  /// After the encoding, with the lock held again.
  void repeat(typename work::repeated& one, work& out) {
    auto& t = *one.what;
    if (t.why != task::reason::none) {
      tell_lost(t, one.worker, word_for(t.why));
      out.stop(std::move(one.what), t.why);
    } else if (!one.encoded || closed_for_good_) {
      tell_lost(t, one.worker, "lost");
      out.give_up(std::move(one.what), std::move(one.lost), work::count::lost);
    } else {
      ++stats_.repeated;
      tell_lost(t, one.worker, "lost, to be repeated");
      to_the_front(std::move(one.what));
      resting_ = false;  // what waited while it was encoded may have been given up, and workers with it
      if (absent_ > 0) {
        start_now_ = true;
        board_.ring_bell();
      }
    }
  }
  void tell_lost(task const& t, std::uint32_t worker, char const* how) {
    if (options_.on_event) tell(pool_event::kind::task_ended, worker, &t, how);
  }
  /// Its arguments as they were, by the user's code; false when they cannot be had. Without the lock.
  bool encoded_again(task& t) noexcept {
    try {
      free_block(t);
      t.call = std::make_unique<writer>();
      encode_request(t, t.more->encode_again);
      return true;
    } catch (...) {
      return false;
    }
  }

  // --- The pool's own thread.

  void manage() noexcept {
    Backend::begin_own_thread("polyproc-pool");
    auto& top = board_.top();
    auto next_look = Backend::now() + look_after_workers_every;
    for (;;) {
      auto const rung = top.rung.load();
      work out;
      std::vector<std::uint32_t> to_start, to_end;
      auto sleep_until = never;
      {
        std::scoped_lock hold{lock_};
        if (finishing_) return;
        bool const books_free = !later_frees<Backend>::behind() || later_frees<Backend>::catch_up();
        out.append(std::exchange(later_, {}));
        harvest(out);
        auto const now = Backend::now();
        if (auto const leavers = top.leavers.load(); std::exchange(leavers_seen_, leavers) != leavers)
          some_leave_until_ = now + std::chrono::seconds{1};
        bool const some_leave = now < some_leave_until_;
        if (now >= next_look || doomed_ > 0 || start_now_) {
          bool const look = doomed_ > 0 || some_leave || Backend::maybe_ended() || ++unforced_looks_ % 16 == 0;
          if (look) look_after_workers(out);
          // Nobody has begun anything since the last look: whoever was to be woken was stopped, or is dead.
          if (scanned_ == scanned_at_last_look_ && !given_none()) wake_all_idle();
          scanned_at_last_look_ = scanned_;
          next_look = now + look_after_workers_every;
        }
        sleep_until = look_at_clocks(now, out, to_end);
        sleep_until = std::min(sleep_until, choose_whom_to_start(now, to_start));
        hand_out(out);
        set_marks(out);
        bool const busy = pending_ > 0 || doomed_ > 0 || without_room_ > 0 || some_leave || !books_free;
        pool_rests_.store(!busy);
        auto const rest = doomed_ > 0 ? std::chrono::milliseconds{1} : busy ? look_after_workers_every : idle_recheck;
        sleep_until = std::min(sleep_until, now + rest);
      }
      sleep_until = std::min(sleep_until, kept_blocks<Backend>::let_go_of_old(board_.offset(), Backend::now()));
      for (auto const i : to_end) end_worker(i);
      for (auto const i : to_start) start_worker(i);
      bool const some = !out.empty() || !to_start.empty() || !to_end.empty();
      settle(out);
      if (some) continue;
      if (look<Backend>()([&] { return top.rung.load(std::memory_order_acquire) != rung; })) continue;
      top.listening.fetch_add(1);
      if (top.rung.load() == rung) Backend::wait(top.rung, rung, sleep_until);
      top.listening.fetch_sub(1);
    }
  }

  /// Deadlines and limits; when to look again at the latest.
  time_point look_at_clocks(time_point now, work& out, std::vector<std::uint32_t>& to_end) {
    auto next = never;
    while (!deadlines_.empty()) {
      auto const first = deadlines_.begin();
      if (first->first > now) {
        next = first->first;
        break;
      }
      auto const what = first->second;
      what->more->in_deadlines = false;
      deadlines_.erase(first);
      if (what->at == task::place::waiting) {
        out.stop(leave_backlog(*what), task::reason::deadline);
      } else if (what->at == task::place::slot) {
        auto const slot = slot_of(*what);
        auto const control = board_.at(slot).control.load();
        if (ring_t::state_of(control) == state::given && ring_t::recall(board_.at(slot).control, ring_t::ticket_of(control)))
          out.stop(take_back(slot), task::reason::deadline);
        else if (what->why == task::reason::none)
          ask_to_stop(*what, slot, task::reason::deadline);
      } else if (what->at == task::place::between && what->why == task::reason::none) {
        what->why = task::reason::deadline;
      }
    }
    for (auto const number : running_) {
      auto& slot = board_.at(number);
      auto const& t = by_slot_[number];
      if (!t || ring_t::state_of(slot.control.load()) != state::running) continue;
      if (t->why == task::reason::none && t->more && t->more->options.time_limit) {
        auto const since = std::chrono::nanoseconds(now.time_since_epoch()).count();
        auto const began = board_t::note_began(slot, static_cast<std::uint64_t>(since));
        auto const start = time_point(std::chrono::duration_cast<time_point::duration>(std::chrono::nanoseconds(began)));
        auto const limit =  // it may have begun after that look at the clock
            deadline_after<Backend>(*t->more->options.time_limit - std::max(now - start, time_point::duration{0}));
        if (now >= limit) ask_to_stop(*t, number, task::reason::limit);
        else next = std::min(next, limit);
      }
      if (t->why == task::reason::none) continue;
      if (now < t->more->end_by) {
        next = std::min(next, t->more->end_by);
      } else if (ring_t::condemn(slot.control)) {
        to_end.push_back(ring_t::worker_of(slot.control.load()));
        ++doomed_;
      }
    }
    return next;
  }

  /// One at a time: starting takes time, and limits are to be kept meanwhile. Gives when to come again at the latest.
  time_point choose_whom_to_start(time_point now, std::vector<std::uint32_t>& to_start) {
    start_now_ = false;
    if (absent_ == 0 || resting_ || closed_for_good_) return never;
    if (now < start_not_before_) return start_not_before_;
    bool const needed = pending_ > 0;
    for (std::uint32_t i = 0; i < target_; ++i) {
      auto& w = workers_[i];
      if (w.process.pid() || w.starting || (w.rests && !needed)) continue;
      w.rests = false;
      w.starting = true;
      to_start.push_back(i);
      break;
    }
    count_absent();
    return never;
  }
  void start_worker(std::uint32_t i) noexcept {
    basic_process<Backend> made;
    std::exception_ptr problem;
    try {
      made = start_gate<Backend>::get().pass([&] { return made_worker(i); });
    } catch (...) {
      problem = std::current_exception();
    }
    work out;
    {
      std::scoped_lock hold{lock_};
      workers_[i].starting = false;
      if (problem == nullptr) {
        workers_[i].process = std::move(made);
        note_start(i);
        if (i >= target_) {  // fewer are wanted since it was chosen
          board_.worker(i).leave.store(1);
          wake_all_idle();
        }
      } else if (is_books_held(problem)) {
        start_not_before_ = Backend::now() + look_after_workers_every;
      } else {
        note_failed_start();
        if (failed_starts_ >= options_.start_attempts) give_up_starting(out, problem);
      }
      count_absent();
    }
    settle(out);
  }
  static bool is_books_held(std::exception_ptr const& problem) noexcept {
    try {
      std::rethrow_exception(problem);
    } catch (books_held const&) {
      return true;
    } catch (...) {
      return false;
    }
  }
  /// It and all that it has started.
  void end_worker(std::uint32_t i) noexcept {
    auto& process = workers_[i].process;  // which nobody but this thread replaces
    try {
      process.kill_tree();
    } catch (...) {
      try {
        process.kill();
      } catch (...) {  // it may not be ended: nothing more can be done about it
      }
    }
  }

  std::uint64_t const identity_ = process_identity<Backend>();
  options_t options_;
  board_t board_;
  struct without_kept_blocks {
    std::uint64_t owner;
    ~without_kept_blocks() { kept_blocks<Backend>::drop(owner); }
  } kept_{board_.offset()};  // before the board, and with it the blocks, may go
  std::atomic<bool> results_are_large_{false};  // of large requests: the last one was
  mutable std::mutex lock_;
  std::uint32_t target_ = 0;
  std::vector<worker_entry> workers_;
  std::vector<std::atomic<long>> pids_;
  std::vector<task_ptr> by_slot_;
  std::vector<std::uint16_t> free_;
  std::unique_ptr<writer> spare_;  // for the next request
  std::vector<std::uint32_t> running_;  // slots that a worker has begun
  std::uint64_t scanned_ = 0;           // tickets before this one have begun, or were taken back
  std::atomic<std::uint64_t> scanned_hint_{0};
  std::uint64_t scanned_at_last_look_ = 0;
  std::map<int, std::deque<task_ptr>, higher_first> backlog_;
  std::size_t backlog_size_ = 0;
  std::size_t unbegun_ = 0;  // in slots, and not seen to have begun
  std::size_t pending_ = 0;  // submitted and not completed
  int common_priority_ = 0;  // of all that wait, unless
  bool mixed_ = false;       // they differ
  unsigned submitted_into_backlog_ = 0;
  std::multimap<time_point, task_ptr> deadlines_;
  work later_;
  unsigned attentive_ = 0;     // who want to know of each end
  unsigned without_room_ = 0;  // who wait for room
  std::uint32_t leavers_seen_ = 0;
  time_point some_leave_until_{};
  std::uint64_t prepared_ = 0;  // given, and not published
  std::size_t reserved_ = 0;   // room of those who are encoding
  unsigned failed_starts_ = 0;
  time_point start_not_before_{};
  unsigned unforced_looks_ = 0;
  bool managed_ = false;    // the first workers are there; before the pool's thread is
  std::size_t live_ = 0;    // workers that run
  std::size_t absent_ = 0;  // workers that should be there and are not
  unsigned doomed_ = 0;     // tasks condemned, whose workers have not ended
  bool resting_ = false;    // starting workers is pointless until somebody submits something
  bool start_now_ = false;
  bool closed_ = false;
  bool closed_for_good_ = false;
  bool finishing_ = false;
  std::atomic<bool> pool_rests_{false};
  pool_stats stats_;
  typename Backend::template atomic<std::uint32_t> all_over_{0};
  typename Backend::template atomic<std::uint32_t> room_turn_{0};
  std::unique_ptr<trace_recorder> recorder_;
  bool trace_written_ = false;
  std::mutex finish_lock_;
  std::thread manager_;
};

}  // namespace polyproc::inline v0_1::detail
