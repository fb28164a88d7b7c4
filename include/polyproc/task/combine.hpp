/// Several futures at once: all of them, any of them, one after the other as they complete.
///
/// A future here is a future<T> or a shared_future<T>, whatever completes it. Those that are combined into one (when_all,
/// when_any) are taken over: a future<T> is empty afterwards, also if it was not given by std::move. Those that are only
/// waited for (wait, as_completed) stay as they are. There is no limit to their number; who waits sleeps.
#pragma once

#include <polyproc/channel/wait_any.hpp>
#include <polyproc/task/future.hpp>

#include <ranges>

namespace polyproc::inline v0_1 {

namespace detail {

template <class F>
struct future_traits {
  static constexpr bool known = false;
};
template <class T, backend Backend>
struct future_traits<basic_future<T, Backend>> {
  static constexpr bool known = true;
  static constexpr bool shared = false;
  using value = T;
  using back = Backend;
};
template <class T, backend Backend>
struct future_traits<basic_shared_future<T, Backend>> {
  static constexpr bool known = true;
  static constexpr bool shared = true;
  using value = T;
  using back = Backend;
};
template <class F>
using traits_of = future_traits<std::remove_cvref_t<F>>;

}  // namespace detail

/// A future<T> or shared_future<T>.
template <class F>
concept any_future = detail::traits_of<F>::known;
/// A range of such.
template <class R>
concept future_range = std::ranges::forward_range<R> && any_future<std::ranges::range_reference_t<R>>;

namespace detail {

template <future_range R>
using traits_in = traits_of<std::ranges::range_reference_t<R>>;

/// One of the futures that are combined.
template <class F>
struct combined_part {
  using traits = future_traits<F>;
  using kept = stored_result<typename traits::value>;
  std::shared_ptr<outcome<typename traits::value, typename traits::back>> of;

  /// Not before it is ready. Throws what it ended by.
  [[nodiscard]] kept take() const {
    if constexpr (traits::shared) {
      static_assert(std::is_copy_constructible_v<kept>,
                    "polyproc: the value of a shared_future is copied into the combined result, and this type cannot be "
                    "copied; combine futures that are not shared");
      return of->look();
    } else {
      return of->take();
    }
  }
};
template <any_future F>
auto part_of(F&& from) {
  using plain = std::remove_cvref_t<F>;
  if constexpr (future_traits<plain>::shared) {
    return combined_part<plain>{future_access::outcome_of(from)};
  } else {
    static_assert(!std::is_const_v<std::remove_reference_t<F>>,
                  "polyproc: a future that is combined with others is taken over, and this one is const; share() it");
    return combined_part<plain>{future_access::release(from)};
  }
}

/// What the parts of a when_all have in common. Parts: a vector or a tuple of combined_part.
template <class Result, class Parts, backend Backend>
struct all_state {
  Parts parts;
  std::atomic<std::size_t> left;
  std::shared_ptr<promised_outcome<Result, Backend>> to = std::make_shared<promised_outcome<Result, Backend>>();

  all_state(Parts&& of, std::size_t count) : parts(std::move(of)), left(count) {}

  void completed(std::exception_ptr const& problem) noexcept {
    bool const last = left.fetch_sub(1, std::memory_order_acq_rel) == 1;
    if (!problem && !last) return;
    if (!to->claim()) return;
    if (problem) to->fail(problem);
    else give();
    to->forget_on_cancel();
  }
  void give() noexcept {
    try {
      if constexpr (std::is_void_v<Result>) to->succeed({});
      else to->succeed(collect(parts));
    } catch (...) {
      to->fail(std::current_exception());
    }
  }
  template <class F>
  static Result collect(std::vector<combined_part<F>> const& from) {
    Result all;
    all.reserve(from.size());
    for (auto const& each : from) all.push_back(each.take());
    return all;
  }
  template <class... F>
  static Result collect(std::tuple<combined_part<F>...> const& from) {
    return std::apply([](auto const&... each) { return Result{each.take()...}; }, from);
  }
};

template <class... F, class Visit>
void each_part(std::tuple<combined_part<F>...> const& parts, Visit&& visit) {
  std::apply([&](auto const&... one) { (visit(one), ...); }, parts);
}
template <class F, class Visit>
void each_part(std::vector<combined_part<F>> const& parts, Visit&& visit) {
  for (auto const& one : parts) visit(one);
}

template <class Result, backend Backend, class Parts>
basic_future<Result, Backend> when_all_of(Parts&& parts, std::size_t count) {
  auto const state = std::make_shared<all_state<Result, Parts, Backend>>(std::move(parts), count);
  basic_future<Result, Backend> made(state->to);
  if (count == 0) {
    if (state->to->claim()) state->give();
    return made;
  }
  state->to->on_cancel([state] { each_part(state->parts, [](auto const& one) { (void)one.of->cancel(); }); });
  each_part(state->parts, [&](auto const& one) {
    auto const* const watched = one.of.get();
    future_access::when_complete(one.of, [state, watched] { state->completed(watched->problem()); });
  });
  return made;
}

}  // namespace detail

/// A future of all values, in the order of the futures: of a std::vector<T> (of nothing, for futures of void). The first
/// failure completes it at once, and the others go on. Cancelling it cancels them all. Throws std::logic_error for an empty
/// future, std::bad_alloc.
template <future_range R>
[[nodiscard]] auto when_all(R&& futures) {
  using future_type = std::remove_cvref_t<std::ranges::range_reference_t<R>>;
  using traits = detail::future_traits<future_type>;
  std::vector<detail::combined_part<future_type>> parts;
  for (auto&& one : futures) (void)detail::future_access::outcome_of(one);  // none is taken if one is empty
  for (auto&& one : futures) parts.push_back(detail::part_of(one));
  auto const count = parts.size();
  if constexpr (std::is_void_v<typename traits::value>)
    return detail::when_all_of<void, typename traits::back>(std::move(parts), count);
  else
    return detail::when_all_of<std::vector<typename traits::value>, typename traits::back>(std::move(parts), count);
}

/// A future of a std::tuple of all values, with std::monostate for void. As above.
template <any_future F, any_future... More>
[[nodiscard]] auto when_all(F&& first, More&&... more) {
  using result = std::tuple<detail::stored_result<typename detail::traits_of<F>::value>,
                            detail::stored_result<typename detail::traits_of<More>::value>...>;
  (void)detail::future_access::outcome_of(first);
  ((void)detail::future_access::outcome_of(more), ...);
  // Braces: in this order.
  std::tuple<detail::combined_part<std::remove_cvref_t<F>>, detail::combined_part<std::remove_cvref_t<More>>...> parts{
      detail::part_of(first), detail::part_of(more)...};
  return detail::when_all_of<result, typename detail::traits_of<F>::back>(std::move(parts), 1 + sizeof...(More));
}

/// Which of the futures was ready first, and all of them, that one among them: a std::vector or a std::tuple.
template <class Futures>
struct first_ready {
  std::size_t index = 0;
  Futures futures;
};

namespace detail {

template <class Result, backend Backend>
struct any_state {
  std::optional<Result> result;  // for the one who claims `to`
  std::shared_ptr<promised_outcome<Result, Backend>> to = std::make_shared<promised_outcome<Result, Backend>>();

  explicit any_state(Result&& all) : result(std::move(all)) {}
  void completed(std::size_t index) noexcept {
    if (!to->claim()) return;
    result->index = index;
    to->succeed(std::move(*result));
    result.reset();
    to->forget_on_cancel();
  }
};

/// `visit_all(visit)` calls visit(outcome) for each, in order.
template <backend Backend, class Futures, class Outcomes>
auto when_any_of(Futures&& futures, Outcomes&& outcomes) {
  using result = first_ready<Futures>;
  auto const state = std::make_shared<any_state<result, Backend>>(result{0, std::move(futures)});
  basic_future<result, Backend> made(state->to);
  state->to->on_cancel([outcomes] { std::apply([](auto const&... list) { (list.cancel(), ...); }, outcomes); });
  std::size_t index = 0;
  std::apply(
      [&](auto const&... list) {
        (list.each([&](auto const& one) {
          auto const mine = index++;
          if (!state->to->ready()) future_access::when_complete(one, [state, mine] { state->completed(mine); });
        }),
         ...);
      },
      outcomes);
  return made;
}

/// One or several outcomes of a type.
template <class Outcome>
struct outcome_list {
  std::vector<std::shared_ptr<Outcome>> all;
  template <class Visit>
  void each(Visit&& visit) const {
    for (auto const& one : all) visit(one);
  }
  void cancel() const {
    for (auto const& one : all) (void)one->cancel();
  }
};
template <any_future F>
auto outcomes_of(F const& from) {
  using traits = traits_of<F>;
  return outcome_list<outcome<typename traits::value, typename traits::back>>{{future_access::outcome_of(from)}};
}
template <any_future F>
std::remove_cvref_t<F> taken(F&& from) {
  if constexpr (traits_of<F>::shared) return from;
  else return std::move(from);
}

}  // namespace detail

/// A future of the index of the first one that is ready, by a value or a failure, and of all the futures, to go on with.
/// Cancelling it cancels them all. Throws std::invalid_argument when there are none, std::logic_error for an empty future.
template <future_range R>
[[nodiscard]] auto when_any(R&& futures) {
  using future_type = std::remove_cvref_t<std::ranges::range_reference_t<R>>;
  using traits = detail::future_traits<future_type>;
  detail::outcome_list<detail::outcome<typename traits::value, typename traits::back>> outcomes;
  for (auto&& one : futures) outcomes.all.push_back(detail::future_access::outcome_of(one));
  if (outcomes.all.empty())
    throw std::invalid_argument("polyproc: when_any of no futures would never be ready");
  std::vector<future_type> all;
  all.reserve(outcomes.all.size());
  for (auto&& one : futures) all.push_back(detail::taken(one));
  return detail::when_any_of<typename traits::back>(std::move(all), std::tuple(std::move(outcomes)));
}
template <any_future F, any_future... More>
[[nodiscard]] auto when_any(F&& first, More&&... more) {
  auto outcomes = std::tuple(detail::outcomes_of(first), detail::outcomes_of(more)...);
  std::tuple<std::remove_cvref_t<F>, std::remove_cvref_t<More>...> all{detail::taken(first), detail::taken(more)...};
  return detail::when_any_of<typename detail::traits_of<F>::back>(std::move(all), std::move(outcomes));
}

// --- one after the other

namespace detail {

/// Where futures enter their number as they complete.
template <backend Backend>
struct completion_order {
  explicit completion_order(std::size_t count) : order(count) {}
  /// By the one who completes number `index`.
  void enter(std::size_t index) noexcept {
    order[next.fetch_add(1, std::memory_order_relaxed)].store(index + 1);
    if (waiting.load() == 0) return;
    turn.fetch_add(1);
    Backend::wake_all(turn);
  }
  /// The one that came as number `place`; nothing at the deadline.
  std::optional<std::size_t> at(std::size_t place, time_point deadline) {
    auto const there = [&] { return order[place].load() != 0; };
    if (!look<Backend>()(there)) {
      blocking_scope told;
      waiting.fetch_add(1);
      for (;;) {
        auto const seen = turn.load();
        if (there()) break;
        if (deadline != never && Backend::now() >= deadline) break;
        Backend::wait(turn, seen, no_later_than<Backend>(deadline, idle_recheck));
      }
      waiting.fetch_sub(1);
    }
    auto const found = order[place].load();
    if (found == 0) return std::nullopt;
    return found - 1;
  }

  std::vector<std::atomic<std::size_t>> order;
  std::atomic<std::size_t> next{0};
  typename Backend::template atomic<std::uint32_t> waiting{0};
  typename Backend::template atomic<std::uint32_t> turn{0};
};

}  // namespace detail

/// What as_completed gives: a range to go through once, each future when it is ready.
template <class Future>
class completed_range {
 public:
  using traits = detail::future_traits<Future>;
  using back = typename traits::back;

  class iterator {
   public:
    using value_type = Future;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;

    iterator() = default;
    [[nodiscard]] Future& operator*() const { return *of_->now_; }
    [[nodiscard]] Future* operator->() const { return of_->now_; }
    iterator& operator++() {
      of_->go_on();
      return *this;
    }
    void operator++(int) { of_->go_on(); }
    friend bool operator==(iterator const& at, std::default_sentinel_t) { return at.is_over(); }

   private:
    friend completed_range;
    explicit iterator(completed_range* of) noexcept : of_(of) {}
    [[nodiscard]] bool is_over() const noexcept { return of_->now_ == nullptr; }
    completed_range* of_ = nullptr;
  };

  completed_range(std::vector<Future>&& own, std::vector<Future*> all, time_point deadline)
      : own_(std::move(own)), all_(std::move(all)), deadline_(deadline) {
    for (auto& one : own_) all_.push_back(&one);
    order_ = std::make_shared<detail::completion_order<back>>(all_.size());
    for (auto const* one : all_) (void)detail::future_access::outcome_of(*one);
    for (std::size_t i = 0; i < all_.size(); ++i)
      detail::future_access::when_complete(detail::future_access::outcome_of(*all_[i]),
                                           [order = order_, i] { order->enter(i); });
  }
  completed_range(completed_range const&) = delete;
  completed_range& operator=(completed_range const&) = delete;
  completed_range(completed_range&&) noexcept = default;
  completed_range& operator=(completed_range&&) noexcept = default;
  ~completed_range() = default;

  /// Waits for the first one. A second call goes on where the range is.
  [[nodiscard]] iterator begin() {
    if (given_ == 0) go_on();
    return iterator(this);
  }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

  /// Where in the range that was given the one is that the iterator stands on.
  [[nodiscard]] std::size_t index() const noexcept { return index_; }
  /// How many were not given (yet).
  [[nodiscard]] std::size_t left() const noexcept { return all_.size() - given_; }
  /// Whether the range has ended at its deadline, before all were ready.
  [[nodiscard]] bool timed_out() const noexcept { return timed_out_; }

 private:
  void go_on() {
    now_ = nullptr;
    if (given_ == all_.size() || timed_out_) return;
    auto const next = order_->at(given_, deadline_);
    timed_out_ = !next;
    if (!next) return;
    ++given_;
    index_ = *next;
    now_ = all_[*next];
  }

  std::vector<Future> own_;
  std::vector<Future*> all_;
  time_point deadline_;
  std::shared_ptr<detail::completion_order<back>> order_;
  std::size_t given_ = 0;
  std::size_t index_ = 0;
  Future* now_ = nullptr;
  bool timed_out_ = false;
};

namespace detail {
template <future_range R>
auto completed_of(R&& futures, time_point deadline) {
  using future_type = std::remove_reference_t<std::ranges::range_reference_t<R>>;
  using plain = std::remove_const_t<future_type>;
  static_assert(std::is_lvalue_reference_v<R> || std::is_same_v<std::remove_cvref_t<R>, std::vector<plain>>,
                "polyproc: as_completed gives references to the futures, which must live as long as it does: give it a range "
                "that has a name, or a std::vector by std::move");
  if constexpr (std::is_lvalue_reference_v<R>) {
    static_assert(!std::is_const_v<future_type>,
                  "polyproc: as_completed gives futures whose value can be taken, and these are const");
    std::vector<plain*> all;
    for (auto& one : futures) all.push_back(&one);
    return completed_range<plain>({}, std::move(all), deadline);
  } else {
    return completed_range<plain>(std::move(futures), {}, deadline);
  }
}
}  // namespace detail

/// The futures in the order in which they become ready:
///
///     for (auto& f : polyproc::as_completed(futures)) use(f.get());
///
/// References into the range, which must live as long; a std::vector that is given by std::move is kept instead. Throws
/// std::logic_error for an empty future.
template <future_range R>
[[nodiscard]] auto as_completed(R&& futures) {
  return detail::completed_of(std::forward<R>(futures), never);
}
/// Ends at the deadline though not all are ready: timed_out() tells, and left() how many were not.
template <class Rep, class Period, future_range R>
[[nodiscard]] auto as_completed_for(std::chrono::duration<Rep, Period> wait, R&& futures) {
  return detail::completed_of(std::forward<R>(futures),
                              detail::deadline_after<typename detail::traits_in<R>::back>(wait));
}
template <class Clock, class Duration, future_range R>
[[nodiscard]] auto as_completed_until(std::chrono::time_point<Clock, Duration> when, R&& futures) {
  return detail::completed_of(std::forward<R>(futures), detail::deadline_at<typename detail::traits_in<R>::back>(when));
}

// --- waiting

/// Until when to wait for several futures.
enum class return_when : std::uint8_t {
  first_completed,  ///< Until one is ready.
  first_exception,  ///< Until one has failed, or all are ready.
  all_completed,    ///< Until all are ready.
};

/// The indexes of those that were ready and of the others, in ascending order.
struct wait_result {
  std::vector<std::size_t> done;
  std::vector<std::size_t> not_done;
};

namespace detail {

template <future_range R>
wait_result wait_futures(R& futures, return_when until, time_point deadline) {
  using future_type = std::remove_cvref_t<std::ranges::range_reference_t<R>>;
  using traits = future_traits<future_type>;
  using back = typename traits::back;
  std::vector<future_type const*> open;
  for (auto& one : futures) {
    (void)future_access::outcome_of(one);
    open.push_back(&one);
  }
  bool const any_will_do = until == return_when::first_completed;
  for (bool enough = false; !enough && !open.empty();) {
    if (until == return_when::all_completed) {
      if (!future_access::outcome_of(*open.back())->wait(deadline)) break;
      open.pop_back();
      continue;
    }
    std::erase_if(open, [&](future_type const* one) {
      if (!one->ready()) return false;
      enough |= any_will_do || future_access::outcome_of(*one)->problem() != nullptr;
      return true;
    });
    if (enough || open.empty()) break;
    if (deadline != never && back::now() >= deadline) break;
    auto const first = wait_for_first<back>(deadline, [&](auto&& visit) {
      for (auto const* one : open)
        if (visit(*one)) return;
    });
    if (!first) break;
  }
  wait_result result;
  std::size_t index = 0;
  for (auto& one : futures) (one.ready() ? result.done : result.not_done).push_back(index++);
  return result;
}

}  // namespace detail

/// Waits for several futures, which stay as they are; says which are ready then. Throws std::logic_error for an empty future.
template <future_range R>
wait_result wait(R&& futures, return_when until = return_when::all_completed) {
  return detail::wait_futures(futures, until, never);
}
/// The same with a deadline.
template <class Rep, class Period, future_range R>
wait_result wait_for(std::chrono::duration<Rep, Period> time, R&& futures, return_when until = return_when::all_completed) {
  return detail::wait_futures(futures, until, detail::deadline_after<typename detail::traits_in<R>::back>(time));
}
template <class Clock, class Duration, future_range R>
wait_result wait_until(std::chrono::time_point<Clock, Duration> when, R&& futures,
                       return_when until = return_when::all_completed) {
  return detail::wait_futures(futures, until, detail::deadline_at<typename detail::traits_in<R>::back>(when));
}

}  // namespace polyproc::inline v0_1
