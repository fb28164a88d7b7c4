/// Workers in processes of their own, and futures for what they do.
#pragma once

#include <polyproc/process/process.hpp>
#include <polyproc/task/future.hpp>
#include <polyproc/task/pool_board.hpp>

#include <deque>
#include <iterator>
#include <ranges>
#include <thread>

namespace polyproc::inline v0_1 {

namespace detail {

/// A worker's whole life.
template <backend Backend>
void serve_pool(pool_board<Backend> board, std::uint32_t number) {
  using board_t = pool_board<Backend>;
  auto& place = board.at(number);
  auto& bell = board.top().bell;
  place.arrived.store(1);
  bell.fetch_add(1);
  Backend::wake_one(bell);
  for (;;) {
    auto const has_task = [&] { return place.now.load(std::memory_order_acquire) == board_t::given; };
    if (!look<Backend>()([&] { return has_task() || place.leave.load(std::memory_order_relaxed) != 0; })) {
      // Idle, or done and not yet picked up.
      if (auto const seen = place.now.load(); seen != board_t::given && place.leave.load() == 0)
        Backend::wait(place.now, seen, no_later_than<Backend>(never, idle_recheck));
    }
    std::uint32_t expected = board_t::given;
    if (!place.now.compare_exchange_strong(expected, board_t::running)) {
      if (place.leave.load() != 0) return;
      continue;
    }
    writer result;
    place.how = board_t::ending::value;
    try {
      reader in(board.read(place.request));
      run_call<Backend>(in, result);
      board.write(place.result, number, result.view());
    } catch (...) {
      place.how = board_t::ending::exception;
      writer problem;
      encode_exception(problem, std::current_exception());
      try {
        board.write(place.result, number, problem.view());
      } catch (std::bad_alloc const&) {
        writer little;
        encode_exception(little, std::make_exception_ptr(std::bad_alloc()));
        board.write(place.result, number, little.view());
      }
    }
    place.now.store(board_t::done, std::memory_order_release);
    result.sent();
    bell.fetch_add(1, std::memory_order_release);
    Backend::wake_one(bell);
  }
}

/// A task of any result type.
template <backend Backend>
struct pool_task {
  writer call;
  int given_up = 0;  // workers that died before they began it

  pool_task() = default;
  pool_task(pool_task const&) = delete;
  pool_task& operator=(pool_task const&) = delete;
  virtual ~pool_task() = default;
  virtual void succeed(reader& result) = 0;  // may throw what decoding throws
  virtual void fail(std::exception_ptr problem) noexcept = 0;
};

template <class R, backend Backend>
struct typed_task final : pool_task<Backend> {
  std::shared_ptr<outcome<R, Backend>> to = std::make_shared<outcome<R, Backend>>();
  void succeed(reader& result) override {
    if constexpr (std::is_void_v<R>) {
      to->succeed({});
    } else {
      auto value = decode<R>(result);
      result.expect_end();
      to->succeed(std::move(value));
    }
  }
  void fail(std::exception_ptr problem) noexcept override { to->fail(std::move(problem)); }
};

/// A map's target as an argument: a function by its place in the program, anything else by its value.
template <class F, backend Backend>
struct carried_target {
  F target;
};

/// What a worker does with one piece of a map.
template <class F, class In, class Out, backend Backend>
struct map_piece {
  std::vector<Out> operator()(carried_target<F, Backend> carried, std::vector<In> items) const {
    std::vector<Out> results;
    results.reserve(items.size());
    for (auto& item : items) results.push_back(carried.target(std::move(item)));
    return results;
  }
};

}  // namespace detail

template <class F, backend Backend>
struct codec<detail::carried_target<F, Backend>> {
  static void write(writer& out, detail::carried_target<F, Backend> const& carried) {
    if constexpr (std::is_pointer_v<F>) {
      auto const where = Backend::locate(reinterpret_cast<void const*>(carried.target));
      encode(out, where.module);
      encode(out, where.build);
      encode(out, where.offset);
    } else {
      encode(out, carried.target);
    }
  }
  static detail::carried_target<F, Backend> read(reader& in) {
    if constexpr (std::is_pointer_v<F>) {
      code_location where;
      where.module = decode<std::string>(in);
      where.build = decode<std::uint64_t>(in);
      where.offset = decode<std::uint64_t>(in);
      return {reinterpret_cast<F>(const_cast<void*>(Backend::resolve(where)))};
    } else {
      return {decode<F>(in)};
    }
  }
};

struct process_pool_options {
  std::size_t workers = 0;   ///< 0: as many as this process may use processors.
  std::string name = "pool"; ///< Workers are called NAME-1, NAME-2, ...
  /// How long the destructor waits for running tasks after it has asked the workers to leave.
  std::chrono::milliseconds grace = std::chrono::seconds{1};
};

/// N worker processes that run what is submitted, oldest first. A worker that crashes, exits or is killed fails the one
/// task it was running, with worker_lost, and is replaced; a task it had not begun is given to another; everything else
/// goes on. Workers end with this process, however it ends.
///
/// Needs polyproc::init in main. submit, apply, map, close and terminate may be called from any number of threads.
/// The destructor gives up what has not begun (task_cancelled), gives running tasks options.grace, then ends the workers.
template <backend Backend = native_backend>
class basic_process_pool {
 public:
  explicit basic_process_pool(std::size_t workers = 0) : basic_process_pool(process_pool_options{.workers = workers}) {}

  /// Throws start_error, std::system_error or std::bad_alloc when the workers cannot be started; none is left then.
  explicit basic_process_pool(process_pool_options options)
      : options_(std::move(options)), board_(count_of(options_.workers)), workers_(board_.top().places) {
    try {
      for (std::uint32_t i = 0; i < workers_.size(); ++i) start_worker(i);
      collector_ = std::thread([this] { collect(); });
    } catch (...) {
      for (auto& w : workers_) w.process = {};
      throw;
    }
  }
  basic_process_pool(basic_process_pool const&) = delete;
  basic_process_pool& operator=(basic_process_pool const&) = delete;

  ~basic_process_pool() {
    if (owner_ != Backend::current_pid()) {
      // A copy that a fork left in a child: the workers are not its own, and the collector does not exist here.
      if (collector_.joinable()) collector_.detach();
      return;
    }
    close();
    cancel_waiting();
    auto const deadline = Backend::now() + options_.grace;
    while (!idle() && Backend::now() < deadline) park_until_idle(deadline);
    finish();
  }

  /// How many workers it keeps.
  [[nodiscard]] std::size_t size() const noexcept { return workers_.size(); }
  /// The numbers of the worker processes, as of now.
  [[nodiscard]] std::vector<long> worker_pids() const {
    std::scoped_lock hold{lock_};
    std::vector<long> pids;
    for (auto const& w : workers_)
      if (auto const pid = w.process.pid()) pids.push_back(*pid);
    return pids;
  }

  /// Ends the worker with that number as if the system had done it: its task, if it runs one, fails with worker_lost. False
  /// when no worker of this pool has that number (any more).
  bool kill_worker(long pid) {
    std::scoped_lock hold{lock_};
    for (auto& w : workers_)
      if (w.process.pid() == pid) return w.process.ask(child_request::kill);
    return false;
  }

  /// Runs target(args...) in a worker; returns at once. What may be submitted is what a process may run (see process).
  /// Throws std::logic_error when the pool is closed, and what encoding the arguments throws.
  template <class F, class... Args>
  [[nodiscard]] auto submit(F&& target, Args&&... args) -> basic_future<call_result_t<F, Args...>, Backend> {
    using result = call_result_t<F, Args...>;
    auto task = std::make_unique<detail::typed_task<result, Backend>>();
    std::decay_t<F> const kept(std::forward<F>(target));
    auto const parameters =
        detail::convert_arguments<call_parameters_t<F, Args...>>(std::forward<Args>(args)...);
    detail::write_call<Backend>(task->call, kept, parameters);
    basic_future<result, Backend> promised(task->to);
    enqueue(std::move(task));
    return promised;
  }

  /// The same, and waits: the value, or the exception that ended the task.
  template <class F, class... Args>
  auto apply(F&& target, Args&&... args) -> call_result_t<F, Args...> {
    return submit(std::forward<F>(target), std::forward<Args>(args)...).get();
  }

  /// target(item) for every item, in pieces, and the results in the order of the items. The first failure (in that
  /// order) is thrown after all pieces have ended. An empty range gives an empty vector.
  template <class F, std::ranges::input_range Range>
  [[nodiscard]] auto map(F&& target, Range&& items) {
    using in = std::ranges::range_value_t<Range>;
    using out = call_result_t<F, in>;
    static_assert(!std::is_void_v<out>, "polyproc: map collects results, and this target returns none; use submit");
    std::vector<in> all;
    for (auto&& item : items) all.emplace_back(std::forward<decltype(item)>(item));
    auto const piece = std::max<std::size_t>(1, (all.size() + 4 * size() - 1) / (4 * size()));
    std::vector<basic_future<std::vector<out>, Backend>> parts;
    for (std::size_t at = 0; at < all.size(); at += piece) {
      auto const end = std::min(all.size(), at + piece);
      std::vector<in> some(std::make_move_iterator(all.begin() + static_cast<std::ptrdiff_t>(at)),
                           std::make_move_iterator(all.begin() + static_cast<std::ptrdiff_t>(end)));
      parts.push_back(submit_piece<out>(target, std::move(some)));
    }
    std::vector<out> results;
    results.reserve(all.size());
    std::exception_ptr first;
    for (auto& part : parts) {
      try {
        auto some = part.get();
        if (!first) std::move(some.begin(), some.end(), std::back_inserter(results));
      } catch (...) {
        if (!first) first = std::current_exception();
      }
    }
    if (first) std::rethrow_exception(first);
    return results;
  }

  /// No more tasks are accepted; those submitted are still done.
  void close() noexcept {
    std::scoped_lock hold{lock_};
    closed_ = true;
    ring();
  }

  /// Waits until everything submitted is done and the workers have ended. Throws std::logic_error before close() or
  /// terminate(): it would wait for ever.
  void join() {
    {
      std::scoped_lock hold{lock_};
      if (!closed_)
        throw std::logic_error("polyproc: join of a pool that still accepts tasks would wait for ever; call close() (to "
                               "finish what was submitted) or terminate() first");
    }
    while (!idle()) park_until_idle(never);
    finish();
  }

  /// Ends the workers now; every future that is not ready gets task_cancelled.
  void terminate() {
    close();
    cancel_waiting();
    {
      std::scoped_lock hold{lock_};
      terminated_ = true;
      for (auto& w : workers_)
        if (w.process.is_alive()) w.process.kill();
      ring();
    }
    while (!idle()) park_until_idle(never);
    finish();
  }

 private:
  using board_t = detail::pool_board<Backend>;
  using task_ptr = std::unique_ptr<detail::pool_task<Backend>>;

  struct worker {
    basic_process<Backend> process;
    task_ptr task;
    int stillborn = 0;  // deaths in a row before it had begun to serve
  };
  /// A worker that dies this often in a row before it serves will not serve the next time either.
  static constexpr int most_stillborn = 3;

  static std::uint32_t count_of(std::size_t asked) {
    if (asked > 4096)
      throw std::invalid_argument("polyproc: a pool has 1 to 4096 workers (0: one per usable processor)");
    return asked == 0 ? Backend::usable_cpus() : static_cast<std::uint32_t>(asked);
  }

  void start_worker(std::uint32_t i) {
    process_options options{.name = options_.name + "-" + std::to_string(i + 1), .daemon = true, .ignore_interrupt = true};
    basic_process<Backend> made(std::move(options), &detail::serve_pool<Backend>, board_, i);
    made.start(typename basic_process<Backend>::as_worker{});
    workers_[i].process = std::move(made);
  }

  template <class Out, class F, class In>
  auto submit_piece(F const& target, std::vector<In> items) {
    using kept = std::decay_t<F>;
    return submit(detail::map_piece<kept, In, Out, Backend>{}, detail::carried_target<kept, Backend>{target},
                  std::move(items));
  }

  void enqueue(task_ptr task) {
    std::scoped_lock hold{lock_};
    if (closed_)
      throw std::logic_error("polyproc: this pool is closed and accepts no more tasks; submit before close()");
    waiting_.push_back(std::move(task));
    hand_out();
  }

  /// Gives waiting tasks to idle workers. With lock_ held.
  void hand_out() {
    for (std::uint32_t i = 0; i < workers_.size() && !waiting_.empty(); ++i) {
      auto& w = workers_[i];
      if (w.task || !w.process.pid()) continue;
      auto& place = board_.at(i);
      auto task = std::move(waiting_.front());
      waiting_.pop_front();
      try {
        board_.write(place.request, i, task->call.view());
      } catch (...) {
        task->fail(std::current_exception());
        continue;
      }
      w.task = std::move(task);
      place.now.store(board_t::given, std::memory_order_release);
      Backend::wake_one(place.now);
      ++busy_;
    }
    // The collector looks after busy workers more often than it sleeps while there are none.
    if (busy_ > 0 && collector_rests_) ring();
  }

  void ring() noexcept {
    auto& bell = board_.top().bell;
    bell.fetch_add(1, std::memory_order_release);
    Backend::wake_all(bell);
  }

  [[nodiscard]] bool idle() const {
    std::scoped_lock hold{lock_};
    return busy_ == 0 && waiting_.empty();
  }
  void park_until_idle(time_point deadline) {
    auto const seen = idle_turn_.load();
    if (idle()) return;
    Backend::wait(idle_turn_, seen, detail::no_later_than<Backend>(deadline, detail::idle_recheck));
  }

  void cancel_waiting() noexcept {
    std::deque<task_ptr> given_up;
    {
      std::scoped_lock hold{lock_};
      given_up.swap(waiting_);
    }
    for (auto& task : given_up) task->fail(std::make_exception_ptr(task_cancelled()));
  }

  /// Everything is done or given up: the workers and the collector end.
  void finish() noexcept {
    std::scoped_lock only_once{finish_lock_};
    {
      std::scoped_lock hold{lock_};
      finishing_ = true;
      ring();
    }
    if (collector_.joinable()) collector_.join();
    for (std::uint32_t i = 0; i < workers_.size(); ++i) {
      board_.at(i).leave.store(1);
      Backend::wake_all(board_.at(i).now);
    }
    auto const deadline = Backend::now() + std::chrono::seconds{1};
    for (auto& w : workers_) {
      try {
        if (w.process.pid() && !w.task) (void)w.process.join_until(deadline);
      } catch (...) {  // ended below
      }
      w.process = {};  // a daemon that still runs is ended at once
      if (auto const task = std::move(w.task)) task->fail(std::make_exception_ptr(task_cancelled()));
    }
  }

  /// The pool's own thread: picks up results, replaces the dead, hands out what waits.
  void collect() {
    for (;;) {
      auto const turn = board_.top().bell.load(std::memory_order_acquire);
      bool all_done = false;
      bool const moved = pick_up(all_done);
      if (all_done) return;
      if (moved || detail::look<Backend>()([&] { return board_.top().bell.load(std::memory_order_acquire) != turn; }))
        continue;
      std::chrono::milliseconds rest{};
      {
        std::scoped_lock hold{lock_};
        if (finishing_) return;
        collector_rests_ = busy_ == 0 && !someone_missing_;
        rest = collector_rests_ ? detail::idle_recheck : detail::holder_recheck;
      }
      Backend::wait(board_.top().bell, turn, detail::no_later_than<Backend>(never, rest));
      std::scoped_lock hold{lock_};
      collector_rests_ = false;
    }
  }

  struct finished {
    task_ptr task;
    std::vector<std::byte> result;
    typename board_t::ending how{};
    std::exception_ptr lost;
  };

  /// One round over the places; whether anything had happened.
  bool pick_up(bool& all_done) {
    std::vector<finished> over;
    {
      std::scoped_lock hold{lock_};
      bool const look_after = Backend::now() >= next_look_;
      if (look_after) next_look_ = Backend::now() + detail::holder_recheck;
      someone_missing_ = false;
      for (std::uint32_t i = 0; i < workers_.size(); ++i) {
        auto& w = workers_[i];
        if (w.task && board_.at(i).now.load(std::memory_order_acquire) == board_t::done) over.push_back(take_result(i));
        if (look_after) look_after_worker(i, over);
        someone_missing_ |= !w.process.pid();
      }
      hand_out();
      all_done = finishing_;
    }
    for (auto& each : over) deliver(each);
    if (!over.empty()) {
      idle_turn_.fetch_add(1);
      Backend::wake_all(idle_turn_);
    }
    return !over.empty();
  }

  finished take_result(std::uint32_t i) {
    auto& w = workers_[i];
    auto& place = board_.at(i);
    finished out;
    out.how = place.how;
    out.task = std::move(w.task);
    out.task->call.sent();
    try {
      auto const bytes = board_.read(place.result);
      out.result.assign(bytes.begin(), bytes.end());
    } catch (...) {
      out.lost = std::current_exception();
    }
    board_t::clear(place.request);
    board_t::clear(place.result);
    place.now.store(board_t::idle, std::memory_order_release);
    w.stillborn = 0;
    --busy_;
    return out;
  }

  /// With lock_ held: a worker that has ended is replaced, and its task, if any, is accounted for.
  void look_after_worker(std::uint32_t i, std::vector<finished>& over) {
    auto& w = workers_[i];
    if (w.process.pid()) {
      if (w.process.is_alive()) return;
      auto& place = board_.at(i);
      auto const now = place.now.load(std::memory_order_acquire);
      if (w.task && now == board_t::done) over.push_back(take_result(i));
      bool const served = place.arrived.load() != 0;
      w.stillborn = served ? 0 : w.stillborn + 1;
      if (w.task) {
        --busy_;
        auto task = std::move(w.task);
        auto const status = *w.process.status();
        if (terminated_) {
          finished out;
          out.lost = std::make_exception_ptr(task_cancelled());
          out.task = std::move(task);
          over.push_back(std::move(out));
        } else if (now == board_t::running || ++task->given_up > most_stillborn) {
          finished out;
          out.lost = std::make_exception_ptr(worker_lost(*w.process.pid(), status.as_code()));
          out.task = std::move(task);
          out.task->call.sent();  // whether it had taken its handles cannot be known
          over.push_back(std::move(out));
        } else {
          waiting_.push_front(std::move(task));
        }
      }
      board_.reset(i);
      w.process = {};
    }
    if (finishing_ || terminated_ || (closed_ && waiting_.empty())) return;
    if (w.stillborn >= most_stillborn) {
      give_up_if_nobody_serves(over);
      return;
    }
    try {
      start_worker(i);
    } catch (std::exception const&) {
      // Tried again at the next look: what was short may be there again. With nobody left to serve, the tasks must
      // not wait for that.
      give_up_if_nobody_serves(over);
    }
  }

  void give_up_if_nobody_serves(std::vector<finished>& over) {
    for (auto const& w : workers_)
      if (w.process.pid()) return;
    while (!waiting_.empty()) {
      finished out;
      out.task = std::move(waiting_.front());
      waiting_.pop_front();
      out.lost = std::make_exception_ptr(start_error(
          "polyproc: no worker of this pool can be started, or all end before they begin to serve; look at what the "
          "program does before and in polyproc::init, and at the system's limits on processes and memory"));
      over.push_back(std::move(out));
    }
  }

  /// Without lock_: completing a future runs nothing of the user's, but decoding does.
  static void deliver(finished& each) noexcept {
    try {
      if (each.lost) std::rethrow_exception(each.lost);
      reader in(each.result);
      if (each.how == board_t::ending::exception)
        each.task->fail(decode_exception(in));
      else
        each.task->succeed(in);
    } catch (...) {
      each.task->fail(std::current_exception());
    }
  }

  process_pool_options options_;
  board_t board_;
  mutable std::mutex lock_;
  std::mutex finish_lock_;
  std::vector<worker> workers_;
  std::deque<task_ptr> waiting_;
  std::size_t busy_ = 0;
  bool closed_ = false;
  bool terminated_ = false;
  bool finishing_ = false;
  bool collector_rests_ = false;
  bool someone_missing_ = false;
  time_point next_look_{};
  long owner_ = Backend::current_pid();
  typename Backend::template atomic<std::uint32_t> idle_turn_{0};
  std::thread collector_;
};

using process_pool = basic_process_pool<>;

}  // namespace polyproc::inline v0_1
