/// One function in several processes that succeed or fail together.
#pragma once

#include <polyproc/task/answer.hpp>
#include <polyproc/task/future.hpp>

namespace polyproc::inline v0_1 {
namespace detail {

/// What the members of a group have given, of any type.
template <backend Backend>
struct group_results {
  explicit group_results(void const* of) noexcept : type(of) {}
  group_results(group_results const&) = delete;
  group_results& operator=(group_results const&) = delete;
  virtual ~group_results() = default;
  virtual void read(std::size_t index, reader& in) = 0;
  /// Whether a member must give something.
  virtual bool needed() const noexcept = 0;
  void const* const type;
};
template <class R>
inline constexpr char result_type_mark = 0;  // its address is what counts
template <class R, backend Backend>
struct typed_group_results final : group_results<Backend> {
  std::vector<std::optional<stored_result<R>>> all;
  explicit typed_group_results(std::size_t count) : group_results<Backend>(&result_type_mark<R>), all(count) {}
  void read(std::size_t index, reader& in) override {
    if constexpr (std::is_void_v<R>) all[index].emplace();
    else all[index].emplace(decode<R>(in));
    in.expect_end();
  }
  bool needed() const noexcept override { return !std::is_void_v<R>; }
};

/// What a group and those who see its members end have in common.
template <backend Backend>
class group_state {
 public:
  struct member {
    std::optional<answer_slot<Backend>> slot;
    basic_process<Backend> process;
  };
  std::vector<member> members;  // does not change after the start
  std::unique_ptr<group_results<Backend>> results;
  std::chrono::milliseconds grace{};

  static void start(std::shared_ptr<group_state> const& self) {
    auto& s = *self;
    s.left_ = s.members.size();
    std::size_t started = 0;
    try {
      for (; started < s.members.size(); ++started)
        s.members[started].process.start(typename basic_process<Backend>::as_worker{});
      for (std::size_t i = 0; i < s.members.size(); ++i)
        s.members[i].process.on_exit_directly([self, i](exit_status const& status) { self->ended(self, i, status); });
    } catch (...) {
      {
        std::scoped_lock hold{s.lock_};
        s.ending_ = true;
      }
      s.kill_all();
      for (std::size_t i = 0; i < started; ++i) s.members[i].process.join();
      std::scoped_lock hold{s.lock_};
      s.left_ = 0;
      throw;
    }
  }

  /// Asks all that still run to end, and sees to it that they do. Once.
  static void end(std::shared_ptr<group_state> const& self) noexcept {
    {
      std::scoped_lock hold{self->lock_};
      if (std::exchange(self->ending_, true) || self->left_ == 0) return;
    }
    end_rest(self);
  }

  void kill_all() noexcept {
    {
      std::scoped_lock hold{lock_};
      ending_ = true;
    }
    for (auto& one : members) {
      try {
        if (one.process.is_alive()) one.process.kill_tree();
      } catch (...) {
        try {
          one.process.kill();
        } catch (...) {  // it may not be ended by this user: it is waited for
        }
      }
    }
  }

  /// All have ended; false at the deadline.
  bool wait(time_point deadline) {
    blocking_scope told;
    for (;;) {
      auto const seen = turn_.load();
      if (left() == 0) return true;
      if (deadline != never && Backend::now() >= deadline) return false;
      Backend::wait(turn_, seen, no_later_than<Backend>(deadline, idle_recheck));
    }
  }
  [[nodiscard]] std::size_t left() const {
    std::scoped_lock hold{lock_};
    return left_;
  }
  [[nodiscard]] std::exception_ptr failure() const {
    std::scoped_lock hold{lock_};
    return failure_;
  }

 private:
  static void end_rest(std::shared_ptr<group_state> const& self) noexcept {
    for (auto& one : self->members) {
      try {
        if (one.process.is_alive()) one.process.terminate();
      } catch (...) {  // it is ended below
      }
    }
    try {
      auto const number = dispatcher<Backend>::get().post_at(deadline_after<Backend>(self->grace), [self] { self->kill_all(); });
      std::scoped_lock hold{self->lock_};
      if (self->left_ != 0) self->timer_ = number;
      else dispatcher<Backend>::get().forget(number);
    } catch (...) {
      self->kill_all();
    }
  }

  static void ended(std::shared_ptr<group_state> const& self, std::size_t index, exit_status const& status) noexcept {
    auto& s = *self;
    auto const problem = s.what_went_wrong(index, status);
    bool first = false;
    {
      std::scoped_lock hold{s.lock_};
      if (problem && !s.ending_) {
        s.ending_ = first = true;
        s.failure_ = problem;
      }
    }
    if (first) end_rest(self);
    {
      std::scoped_lock hold{s.lock_};
      if (s.left_ != 0 && --s.left_ == 0 && s.timer_ != 0) dispatcher<Backend>::get().forget(s.timer_);
    }
    s.turn_.fetch_add(1);
    Backend::wake_all(s.turn_);
  }

  std::exception_ptr what_went_wrong(std::size_t index, exit_status const& status) noexcept {
    auto& one = members[index];
    try {
      auto const who = "polyproc: member " + std::to_string(index) + " of a process_group (" + one.process.name() +
                       ", process " + std::to_string(*one.process.pid()) + ") ";
      auto const pid = *one.process.pid();
      bool answered = false;
      try {
        answered = one.slot->take([&](reader& in) { results->read(index, in); });
      } catch (...) {
        one.slot.reset();
        auto const said = describe(std::current_exception());
        std::throw_with_nested(group_failure(who + "failed by " + said.type + ": " + said.what, index, pid, 0));
      }
      one.slot.reset();
      if (answered) return nullptr;
      auto const code = status.as_code();
      if (code == 0 && !results->needed()) return nullptr;
      throw group_failure(who + how_it_ended(status) + (code == 0 ? " without a result" : ""), index, pid, code);
    } catch (...) {
      return std::current_exception();
    }
  }

  mutable std::mutex lock_;
  std::size_t left_ = 0;  // that have not ended
  bool ending_ = false;
  std::uint64_t timer_ = 0;  // after which those that do not listen are ended
  std::exception_ptr failure_;
  typename Backend::template atomic<std::uint32_t> turn_{0};
};

}  // namespace detail

/// target(0, args...), target(1, args...), ... in a process each, not yet started. When one fails (by an exception, a code
/// other than 0, a signal) the others are asked to end, and ended options.grace later with all that they have started; join
/// throws the first failure. Nobody needs to be in join for that.
///
/// The members are daemons in process groups (Windows: jobs) of their own: they end with this process, however that ends;
/// they may start processes, which live no longer than they do. Of the options all but .daemon and .group count; member i is
/// called NAME-i. Functions may be called from any number of threads at once, except start, moves and destruction. The
/// destructor asks the members to end, waits options.grace, then ends them.
template <backend Backend = native_backend>
class basic_process_group {
 public:
  template <class F, class... Args>
    requires(!std::is_same_v<std::decay_t<F>, process_options>)
  basic_process_group(std::size_t count, F&& target, Args&&... args)
      : basic_process_group(process_options{.name = "group"}, count, std::forward<F>(target), std::forward<Args>(args)...) {}

  /// The arguments are copied for each member.
  template <class F, class... Args>
  basic_process_group(process_options options, std::size_t count, F&& target, Args&&... args) {
    using result = std::decay_t<call_result_t<F, std::size_t, Args const&...>>;
    using parameters = call_parameters_t<F, std::size_t, Args const&...>;
    if (options.name.empty()) options.name = "group";
    options.group = true;  // what a member leaves behind ends with it
    auto const state = std::make_shared<detail::group_state<Backend>>();
    state->grace = options.grace;
    state->results = std::make_unique<detail::typed_group_results<result, Backend>>(count);
    state->members.resize(count);
    std::decay_t<F> const kept(std::forward<F>(target));
    for (std::size_t i = 0; i < count; ++i) {
      auto& one = state->members[i];
      auto own = options;
      own.name += "-" + std::to_string(i);
      one.slot.emplace();
      one.process = detail::answering_process(std::move(own), *one.slot, kept,
                                              detail::convert_arguments<parameters>(i, std::as_const(args)...));
    }
    state_ = state;
  }
  basic_process_group(basic_process_group&&) noexcept = default;
  basic_process_group& operator=(basic_process_group&& other) noexcept {
    if (this != &other) {
      end();
      state_ = std::move(other.state_);
      started_ = std::exchange(other.started_, false);
    }
    return *this;
  }
  ~basic_process_group() { end(); }

  /// Starts all. Throws what process::start throws; then none is left. std::logic_error the second time.
  void start() {
    auto const& s = need();
    if (std::exchange(started_, true))
      throw std::logic_error("polyproc: this process_group was already started; make another one to start it again");
    s->start(s);
  }

  /// Waits until all have ended. Throws the first failure, a group_failure with the member's exception nested in it, each
  /// time; std::logic_error before start(). After terminate() or kill() those that were ended are no failures.
  void join() { (void)joined(never); }
  /// False when one still runs at the deadline.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(std::chrono::duration<Rep, Period> wait) {
    return joined(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool join_until(std::chrono::time_point<Clock, Duration> when) {
    return joined(detail::deadline_at<Backend>(when));
  }

  /// join, and what the members have returned, in the order of their indexes; once. R: the target's (decayed) result type;
  /// std::logic_error for another.
  template <class R>
    requires(!std::is_void_v<R>)
  [[nodiscard]] std::vector<R> results() {
    auto const& s = need();
    if (s->results->type != &detail::result_type_mark<R>)
      throw std::logic_error("polyproc: results<R> of a process_group: R is not what its function returns");
    join();
    auto& from = static_cast<detail::typed_group_results<R, Backend>&>(*s->results).all;
    std::vector<R> all;
    all.reserve(from.size());
    for (auto& one : from) {
      if (!one)
        throw std::logic_error("polyproc: this process_group has no results: they were taken already, or its members were "
                               "ended");
      all.push_back(std::move(*one));
      one.reset();
    }
    return all;
  }

  /// Asks all to end; options.grace later those that have not are ended. Returns at once.
  void terminate() { started()->end(state_); }
  /// Ends all, and what they have started, at whatever instruction they are.
  void kill() { started()->kill_all(); }

  [[nodiscard]] std::size_t size() const { return need()->members.size(); }
  /// How many have not ended.
  [[nodiscard]] std::size_t alive() const { return started()->left(); }
  /// The numbers of the processes, in the order of the indexes; empty before the start.
  [[nodiscard]] std::vector<long> pids() const {
    std::vector<long> all;
    for (auto const& one : need()->members)
      if (auto const pid = one.process.pid()) all.push_back(*pid);
    return all;
  }

 private:
  using state_ptr = std::shared_ptr<detail::group_state<Backend>>;

  [[nodiscard]] state_ptr const& need() const {
    if (!state_) throw std::logic_error("polyproc: this process_group was moved from");
    return state_;
  }
  [[nodiscard]] state_ptr const& started() const {
    auto const& s = need();
    if (!started_) throw std::logic_error("polyproc: this process_group was not started; call start() first");
    return s;
  }
  bool joined(time_point deadline) {
    auto const& s = started();
    if (!s->wait(deadline)) return false;
    if (auto const problem = s->failure()) std::rethrow_exception(problem);
    return true;
  }

  /// Not by way of the thread that watches, which is gone when the program is at its end.
  void end() noexcept {
    if (!state_ || !started_ || owner_ != Backend::current_pid()) return;
    try {
      if (state_->left() != 0) {
        state_->end(state_);
        auto const deadline = detail::deadline_after<Backend>(state_->grace);
        for (auto& one : state_->members)
          if (!one.process.join_until(deadline)) break;
        state_->kill_all();
        for (auto& one : state_->members) one.process.join();
      }
    } catch (...) {  // one that was never started, or may not be waited for
    }
    state_.reset();
  }

  state_ptr state_;
  bool started_ = false;
  long owner_ = Backend::current_pid();
};

using process_group = basic_process_group<>;

/// Starts target(0, args...) to target(count - 1, args...) in a process each and waits: what they have returned, in that
/// order. The first failure ends the others and is thrown, as by process_group::join.
template <class F, class... Args>
auto run_group(std::size_t count, F&& target, Args&&... args) {
  using result = std::decay_t<call_result_t<F, std::size_t, Args const&...>>;
  process_group group(count, std::forward<F>(target), std::forward<Args>(args)...);
  group.start();
  if constexpr (std::is_void_v<result>) group.join();
  else return group.template results<result>();
}

}  // namespace polyproc::inline v0_1
