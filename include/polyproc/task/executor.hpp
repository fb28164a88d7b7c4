/// What pools of processes and of threads have in common: the concept, and the part of their face that is built on
/// submitting.
#pragma once

#include <polyproc/task/future.hpp>
#include <polyproc/task/stop.hpp>
#include <polyproc/task/task_options.hpp>

#include <algorithm>
#include <deque>
#include <iterator>
#include <mutex>
#include <ranges>
#include <tuple>
#include <vector>

namespace polyproc::inline v0_1 {

/// What a pool has done so far, and does now. Taken at one moment, and old the next.
struct pool_stats {
  std::size_t workers = 0;        ///< That it keeps.
  std::size_t waiting = 0;        ///< Tasks that have not begun.
  std::size_t running = 0;        ///< Tasks that have begun and have not ended.
  std::uint64_t submitted = 0;    ///< All that were ever accepted.
  std::uint64_t done = 0;         ///< Of these, how many gave a value,
  std::uint64_t failed = 0;       ///< ... ended by an exception, or by the loss of their worker,
  std::uint64_t cancelled = 0;    ///< ... were given up: cancelled, past their time, or left over at the pool's end.
  std::uint64_t lost = 0;         ///< Times that a task's worker died with it,
  std::uint64_t repeated = 0;     ///< ... and that it was given to another one after that (task_options::retries).
  std::uint64_t restarted = 0;    ///< Workers that were started in the place of another. Threads are not.
};

struct map_options {
  /// Items that travel and run together, one after the other. 0: as many as give each worker four pieces of work.
  std::size_t chunk = 0;
  /// For each chunk.
  task_options task = {};
};

struct imap_options {
  /// How many items may be taken from the input whose results were not asked for yet. 0: four chunks for each worker.
  std::size_t window = 0;
  /// Items that travel and run together; at most window. When one of them fails, so do all.
  std::size_t chunk = 1;
  /// For each chunk.
  task_options task = {};
};

namespace detail {

template <class T>
inline constexpr bool is_task_options = std::is_same_v<std::remove_cvref_t<T>, task_options>;

/// Calls whatever can be called: functions, function objects, pointers to members, objects with run(...).
template <class F, class... Args>
decltype(auto) call_anything(F& target, Args&&... args) {
  if constexpr (requires { target(std::forward<Args>(args)...); })
    return target(std::forward<Args>(args)...);
  else if constexpr (std::is_invocable_v<F&, Args...>)
    return std::apply(target, std::forward_as_tuple(std::forward<Args>(args)...));
  else
    return target.run(std::forward<Args>(args)...);
}

/// How a target takes an item of a range: as its argument, or the item's parts as its arguments.
struct as_one {
  template <class F, class In>
  static decltype(auto) call(F& target, In&& item) {
    return call_anything(target, std::forward<In>(item));
  }
};
struct as_parts {
  template <class F, class In>
  static decltype(auto) call(F& target, In&& item) {
    return std::apply(
        [&](auto&&... parts) -> decltype(auto) { return call_anything(target, std::forward<decltype(parts)>(parts)...); },
        std::forward<In>(item));
  }
};

/// What a worker does with a chunk. Asked to stop, it does so before the next item.
template <backend Backend, class Out, class Way, class F, class In>
auto run_chunk(F& target, std::vector<In>&& items) {
  if constexpr (std::is_void_v<Out>) {
    for (auto&& item : items) {
      this_task::throw_if_stop_requested<Backend>();
      (void)Way::call(target, static_cast<In&&>(item));
    }
  } else {
    std::vector<Out> results;
    results.reserve(items.size());
    for (auto&& item : items) {
      this_task::throw_if_stop_requested<Backend>();
      results.push_back(Way::call(target, static_cast<In&&>(item)));
    }
    return results;
  }
}

/// The item under an iterator of a range that was given as Range: moved out of a container that nobody else has.
template <class Range, class Iterator>
decltype(auto) item_of(Iterator const& at) {
  using plain = std::remove_cvref_t<Range>;
  if constexpr (std::is_lvalue_reference_v<Range> || std::is_const_v<Range> || std::ranges::view<plain> ||
                std::ranges::borrowed_range<plain>)
    return *at;
  else
    return std::ranges::iter_move(at);
}

/// A range to go through later: a reference to what somebody else has, else the range itself.
template <class Range>
struct kept_range {
  using plain = std::remove_reference_t<Range>;
  std::conditional_t<std::is_lvalue_reference_v<Range>, plain*, plain> range;
  explicit kept_range(Range&& from) : range(hold(from)) {}
  plain& get() noexcept {
    if constexpr (std::is_lvalue_reference_v<Range>) return *range;
    else return range;
  }

 private:
  static decltype(auto) hold(plain& from) noexcept {
    if constexpr (std::is_lvalue_reference_v<Range>) return &from;
    else return static_cast<plain&&>(from);
  }
};
/// A view is small and refers to what it shows: it is kept as it is.
template <class Range>
  requires(std::is_lvalue_reference_v<Range> && std::ranges::view<std::remove_cvref_t<Range>> &&
           std::copy_constructible<std::remove_cvref_t<Range>>)
struct kept_range<Range> {
  std::remove_cvref_t<Range> range;
  explicit kept_range(Range const& from) : range(from) {}
  auto& get() noexcept { return range; }
};

/// Who of several was completed, in that order.
template <backend Backend>
struct completed_first {
  std::mutex lock;
  std::vector<std::size_t> numbers;  // has room for all that are pending
  std::size_t taken = 0;
  typename Backend::template atomic<std::uint32_t> turn{0};

  void add(std::size_t number) noexcept {
    {
      std::scoped_lock hold{lock};
      numbers.push_back(number);
      turn.fetch_add(1);
    }
    Backend::wake_all(turn);
  }
  void make_room(std::size_t pending) {
    std::scoped_lock hold{lock};
    if (taken != 0) {
      numbers.erase(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(taken));
      taken = 0;
    }
    numbers.reserve(pending);
  }
  [[nodiscard]] std::optional<std::size_t> try_take() {
    std::scoped_lock hold{lock};
    if (taken == numbers.size()) return std::nullopt;
    return numbers[taken++];
  }
  [[nodiscard]] std::size_t take() {
    std::optional<std::size_t> got;
    if (look<Backend>()([&] { return (got = try_take()).has_value(); })) return *got;
    blocking_scope told;
    for (;;) {
      auto const seen = turn.load();
      if (got = try_take(); got) return *got;
      Backend::wait(turn, seen, no_later_than<Backend>(never, idle_recheck));
    }
  }
};

/// What an imap has under way. The input is gone through by whoever asks for results, never further than the window.
template <class Pool, backend Backend, class Out, class Way, bool Ordered, class Target, class Range>
class imap_state {
 public:
  using input = std::remove_reference_t<decltype(std::declval<kept_range<Range>&>().get())>;
  using item = std::ranges::range_value_t<input>;
  using given = stored_result<Out>;
  using part = std::conditional_t<std::is_void_v<Out>, void, std::vector<given>>;

  imap_state(Pool& pool, Target target, Range&& items, imap_options options)
      : pool_(&pool), options_(std::move(options)), target_(std::move(target)), input_(std::forward<Range>(items)) {
    options_.chunk = std::max<std::size_t>(1, options_.chunk);
    if (options_.window == 0) options_.window = 4 * std::max<std::size_t>(1, pool.size()) * options_.chunk;
    options_.chunk = std::min(options_.chunk, options_.window);
  }
  imap_state(imap_state const&) = delete;
  imap_state& operator=(imap_state const&) = delete;
  ~imap_state() {
    for (auto& each : pending_) {
      try {
        if (each.result.valid()) (void)each.result.cancel();
      } catch (...) {  // it runs to its end then, for nobody
      }
    }
  }

  /// Goes to the next result; false when there is none. Failures are results: see get().
  bool next() {
    current_.reset();
    failure_ = nullptr;
    if (at_ == results_.size()) {
      fill();
      if (in_flight_ == 0) return (failure_ = std::exchange(input_failure_, nullptr)) != nullptr;
      take_part();
      if (failure_) return true;
    }
    current_.emplace(std::move(results_[at_++]));
    return true;
  }
  given& get() {
    if (failure_) std::rethrow_exception(failure_);
    return *current_;
  }
  /// Instead of get(): null if there is a value.
  [[nodiscard]] std::exception_ptr const& failure() const noexcept { return failure_; }

 private:
  struct under_way {
    std::size_t items = 0;
    basic_future<part, Backend> result;
  };

  void fill() {
    while (!ended_ && (in_flight_ == 0 || in_flight_ + options_.chunk <= options_.window)) {
      std::vector<item> some;
      try {
        some.reserve(options_.chunk);
        while (some.size() < options_.chunk && advance()) some.emplace_back(item_of<Range>(*input_at_));
      } catch (...) {
        ended_ = true;
        input_failure_ = std::current_exception();
      }
      if (some.empty()) return;
      try {
        submit(std::move(some));
      } catch (...) {
        ended_ = true;
        input_failure_ = std::current_exception();
      }
    }
  }
  /// Only when the next item is wanted: in some inputs this is what takes it.
  bool advance() {
    auto& range = input_.get();
    if (!input_at_) input_at_.emplace(std::ranges::begin(range));
    else ++*input_at_;
    ended_ = *input_at_ == std::ranges::end(range);
    return !ended_;
  }
  void submit(std::vector<item>&& some) {
    auto const items = some.size();
    if constexpr (!Ordered) order_->make_room(pending_.size() + 1);
    pending_.push_back({});
    try {
      pending_.back() = {items, pool_->template submit_chunk<Out, Way>(options_.task, target_, std::move(some))};
    } catch (...) {
      pending_.pop_back();
      throw;
    }
    in_flight_ += items;
    if constexpr (!Ordered) {
      auto const number = first_ + pending_.size() - 1;
      auto const order = order_;
      try {
        future_access::when_complete(future_access::outcome_of<part, Backend>(pending_.back().result),
                                     [order, number] { order->add(number); });
      } catch (...) {  // nobody would say that it is there
        in_flight_ -= items;
        auto const lost = std::move(pending_.back().result);
        pending_.pop_back();
        (void)lost.cancel();
        throw;
      }
    }
  }
  void take_part() {
    results_.clear();
    at_ = 0;
    auto one = [&] {
      if constexpr (Ordered) {
        auto front = std::move(pending_.front());
        pending_.pop_front();
        return front;
      } else {
        auto ready = std::move(pending_[order_->take() - first_]);
        for (; !pending_.empty() && !pending_.front().result.valid(); ++first_) pending_.pop_front();
        return ready;
      }
    }();
    in_flight_ -= one.items;
    try {
      if constexpr (std::is_void_v<Out>) {
        one.result.get();
        results_.resize(one.items);
      } else {
        results_ = one.result.get();
      }
    } catch (...) {
      failure_ = std::current_exception();
    }
  }

  Pool* pool_;
  imap_options options_;
  Target target_;
  kept_range<Range> input_;
  std::optional<std::ranges::iterator_t<input>> input_at_;
  bool ended_ = false;
  std::exception_ptr input_failure_;

  std::deque<under_way> pending_;
  std::size_t in_flight_ = 0;
  std::size_t first_ = 0;  // the number of pending_'s first one
  std::shared_ptr<completed_first<Backend>> order_ = Ordered ? nullptr : std::make_shared<completed_first<Backend>>();

  std::vector<given> results_;
  std::size_t at_ = 0;
  std::optional<given> current_;
  std::exception_ptr failure_;
};

/// What imap and imap_unordered give: an input range, to be gone through once. Move-only.
template <class State>
class imap_range {
 public:
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using difference_type = std::ptrdiff_t;
    using value_type = typename State::given;

    iterator() = default;
    explicit iterator(State* of) noexcept : of_(of) {}
    iterator(iterator&&) noexcept = default;
    iterator& operator=(iterator&&) noexcept = default;
    iterator(iterator const&) = delete;
    iterator& operator=(iterator const&) = delete;
    ~iterator() = default;

    /// The result, or throws what ended its task; one may go on to the next one after that.
    value_type&& operator*() const { return std::move(of_->get()); }
    iterator& operator++() {
      over_ = !of_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(iterator const& it, std::default_sentinel_t) noexcept { return it.over_; }

   private:
    friend imap_range;
    State* of_ = nullptr;
    bool over_ = false;
  };

  explicit imap_range(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}

  /// Once. Takes the first items of the input, and waits for the first result.
  [[nodiscard]] iterator begin() {
    iterator first(state_.get());
    ++first;
    return first;
  }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  std::unique_ptr<State> state_;
};

template <class Face, class F, class In>
struct result_of_one {
  using type = std::decay_t<typename Face::template result_of<F, In>>;
};
template <class Face, class F, class Tuple, class = std::make_index_sequence<std::tuple_size_v<Tuple>>>
struct result_of_parts;
template <class Face, class F, class Tuple, std::size_t... I>
struct result_of_parts<Face, F, Tuple, std::index_sequence<I...>> {
  using type = std::decay_t<typename Face::template result_of<F, std::tuple_element_t<I, Tuple>...>>;
};

/// What both pools build on their submit. Of Derived it needs
///   size()
///   template <class F, class... Args> using result_of          what target(args...) gives, as is or decayed; public
///   submit(f, args...), submit(task_options, f, args...)        -> basic_future<R, Backend>
///   template <class Out, class Way, class F, class In>
///   submit_chunk(task_options const&, F const& target, std::vector<In>&& items)
///                                                              -> basic_future<std::vector<Out>, Backend>, or of void
/// where the worker runs run_chunk<Backend, Out, Way>(target, items); public, and not for users. Where targets need to be
/// kept in another way while many chunks are submitted, Derived has a keep_target of its own.
template <class Derived, backend Backend>
class pool_face {
 public:
  /// target(args...) in a worker, and waits: the value, or throws the exception that ended the task.
  template <class F, class... Args>
    requires(!is_task_options<F>)
  auto apply(F&& target, Args&&... args) {
    return derived().submit(std::forward<F>(target), std::forward<Args>(args)...).get();
  }
  template <class F, class... Args>
  auto apply(task_options options, F&& target, Args&&... args) {
    return derived().submit(std::move(options), std::forward<F>(target), std::forward<Args>(args)...).get();
  }

  /// target(item) for each item, in chunks, and waits: the results in the order of the items (nothing where target gives
  /// nothing). The first failure, in that order, is thrown after all chunks have ended; in a chunk nothing runs after a
  /// failure. Each item is copied for its worker, or moved out of a container that is given away (std::move(v)).
  template <class F, std::ranges::input_range Range>
  auto map(F&& target, Range&& items, map_options const& options = {}) {
    using out = one_result<F, std::ranges::range_value_t<Range>>;
    return map_by<out, as_one>(Derived::keep_target(std::forward<F>(target)), std::forward<Range>(items), options);
  }
  /// The same with target(parts of the item...), for tuples, pairs and arrays.
  template <class F, std::ranges::input_range Range>
  auto starmap(F&& target, Range&& items, map_options const& options = {}) {
    using out = parts_result<F, std::ranges::range_value_t<Range>>;
    return map_by<out, as_parts>(Derived::keep_target(std::forward<F>(target)), std::forward<Range>(items), options);
  }

  /// target(item) for each item, results are dropped; waits. Takes the items a bounded number at a time (4096 for each worker at
  /// most, unless options.chunk is more), so that any input is short enough. The first failure, in the order of the items, is
  /// thrown after all have ended.
  template <class F, std::ranges::input_range Range>
  void for_each(F&& target, Range&& items, map_options const& options = {}) {
    auto chunk = options.chunk;
    if constexpr (std::ranges::sized_range<Range>) {
      if (chunk == 0) chunk = std::min(chunk_for(static_cast<std::size_t>(std::ranges::size(items))), most_ahead);
    }
    auto const all = imap_by<void, as_one, true>(Derived::keep_target(std::forward<F>(target)), std::forward<Range>(items),
                                                 {.chunk = std::max<std::size_t>(1, chunk), .task = options.task});
    std::exception_ptr first;
    while (all->next())
      if (!first) first = all->failure();
    if (first) std::rethrow_exception(first);
  }

  /// A range of the results of target(item), in the order of the items, each as soon as it is there (monostate where target
  /// gives nothing). Lazy: nothing begins before begin(), and at most .window items are taken from the input ahead of the
  /// results that were asked for, by the thread that asks; so the input may be infinite. Dereferencing throws what ended that
  /// task; `++` goes on; a chunk that fails is one position of the range, the others of its items are not in it. Destroyed early
  /// it cancels what it has under way, and does not wait for it: what has begun may still use what the target refers to. An input
  /// that is an lvalue, and the pool, must live longer than the range. One thread at a time.
  template <class F, std::ranges::input_range Range>
  [[nodiscard]] auto imap(F&& target, Range&& items, imap_options options = {}) {
    return as_range(imap_by<one_result<F, std::ranges::range_value_t<Range>>, as_one, true>(
        Derived::keep_target(std::forward<F>(target)), std::forward<Range>(items), std::move(options)));
  }
  /// The same, the results in the order in which they come.
  template <class F, std::ranges::input_range Range>
  [[nodiscard]] auto imap_unordered(F&& target, Range&& items, imap_options options = {}) {
    return as_range(imap_by<one_result<F, std::ranges::range_value_t<Range>>, as_one, false>(
        Derived::keep_target(std::forward<F>(target)), std::forward<Range>(items), std::move(options)));
  }

 protected:
  pool_face() = default;
  ~pool_face() = default;

  template <class F>
  static std::decay_t<F> keep_target(F&& target) {
    return std::forward<F>(target);
  }

 private:
  template <class F, class In>
  using one_result = typename result_of_one<Derived, F, In>::type;
  template <class F, class In>
  using parts_result = typename result_of_parts<Derived, F, In>::type;

  Derived& derived() noexcept { return static_cast<Derived&>(*this); }

  /// In a chunk of for_each: there are four for each worker.
  static constexpr std::size_t most_ahead = 1024;

  [[nodiscard]] std::size_t chunk_for(std::size_t items) {
    auto const pieces = 4 * std::max<std::size_t>(1, derived().size());
    return std::max<std::size_t>(1, items / pieces + (items % pieces != 0 ? 1 : 0));
  }

  /// The chunks of a map. What is left of them when something goes wrong in between is given up, and where it runs in this
  /// process waited for: it may use what its target refers to.
  template <class Part>
  struct chunks {
    std::vector<basic_future<Part, Backend>> all;
    chunks() = default;
    chunks(chunks const&) = delete;
    chunks& operator=(chunks const&) = delete;
    ~chunks() {
      for (auto& each : all) {
        try {
          if (each.valid()) (void)each.cancel();
        } catch (...) {  // it runs to its end then, for nobody
        }
      }
      if constexpr (Derived::runs_here) {
        for (auto& each : all)
          if (each.valid()) each.wait();
      }
    }
  };

  template <class Out, class Way, class Target, class Range>
  auto map_by(Target const& target, Range&& items, map_options const& options) {
    using in = std::ranges::range_value_t<Range>;
    auto chunk = options.chunk;
    if constexpr (std::ranges::sized_range<Range>) {
      if (chunk == 0) chunk = chunk_for(static_cast<std::size_t>(std::ranges::size(items)));
    } else if (chunk == 0) {
      std::vector<in> all;
      for (auto at = std::ranges::begin(items); at != std::ranges::end(items); ++at)
        all.emplace_back(item_of<Range>(at));
      return map_by<Out, Way>(target, std::move(all), {.chunk = chunk_for(all.size()), .task = options.task});
    }

    using part = std::conditional_t<std::is_void_v<Out>, void, std::vector<Out>>;
    chunks<part> under_way;
    std::size_t count = 0;
    auto at = std::ranges::begin(items);
    auto const end = std::ranges::end(items);
    while (at != end) {
      std::vector<in> some;
      some.reserve(std::min<std::size_t>(chunk, 65536));
      for (; at != end && some.size() < chunk; ++at) some.emplace_back(item_of<Range>(at));
      count += some.size();
      under_way.all.emplace_back();
      under_way.all.back() = derived().template submit_chunk<Out, Way>(options.task, target, std::move(some));
    }

    std::exception_ptr first;
    if constexpr (std::is_void_v<Out>) {
      for (auto& each : under_way.all) {
        try {
          each.get();
        } catch (...) {
          if (!first) first = std::current_exception();
        }
      }
      if (first) std::rethrow_exception(first);
    } else {
      std::vector<Out> results;
      results.reserve(count);
      for (auto& each : under_way.all) {
        try {
          auto some = each.get();
          if (!first) std::move(some.begin(), some.end(), std::back_inserter(results));
        } catch (...) {
          if (!first) first = std::current_exception();
        }
      }
      if (first) std::rethrow_exception(first);
      return results;
    }
  }

  template <class Out, class Way, bool Ordered, class Target, class Range>
  auto imap_by(Target target, Range&& items, imap_options options) {
    using state = imap_state<Derived, Backend, Out, Way, Ordered, Target, Range>;
    return std::make_unique<state>(derived(), std::move(target), std::forward<Range>(items), std::move(options));
  }
  template <class State>
  static imap_range<State> as_range(std::unique_ptr<State> state) {
    return imap_range<State>(std::move(state));
  }
};

template <class F, class R>
concept future_of = requires(F f) {
  { f.get() } -> std::same_as<R>;
  { f.ready() } -> std::same_as<bool>;
  { f.cancel() } -> std::same_as<bool>;
};

}  // namespace detail

/// What one can write code against that is to run on either pool: process_pool and thread_pool model it. What holds in all:
/// any number of threads may use it at once, except for its destruction; what is submitted after close() is refused with
/// std::logic_error; the destructor gives up what has not begun and asks what has to stop.
///
/// Code for both keeps to what a process can do: targets without captures, arguments and results that the codec can carry.
template <class E>
concept executor = requires(E& pool, E const& seen, task_options const& options, int (*target)(int), int (*two)(int, int),
                            std::vector<int> const& items, std::vector<std::pair<int, int>> const& pairs,
                            std::chrono::milliseconds wait, bool flag) {
  { pool.submit(target, 1) } -> detail::future_of<int>;
  { pool.submit(options, target, 1) } -> detail::future_of<int>;
  // Where waiting tasks are bounded in number: nullopt when there is no room (for that long).
  { *pool.try_submit(target, 1) } -> detail::future_of<int>;
  { *pool.submit_for(wait, target, 1) } -> detail::future_of<int>;
  { pool.apply(target, 1) } -> std::same_as<int>;
  { pool.map(target, items) } -> std::same_as<std::vector<int>>;
  { pool.starmap(two, pairs) } -> std::same_as<std::vector<int>>;
  { pool.imap(target, items) } -> std::ranges::input_range;
  { pool.imap_unordered(target, items) } -> std::ranges::input_range;
  { pool.for_each(target, items) };
  { seen.size() } -> std::convertible_to<std::size_t>;
  { seen.stats() } -> std::convertible_to<pool_stats>;
  { pool.close() };
  { pool.join() };
  { pool.join_for(wait) } -> std::same_as<bool>;  // whether it has
  { pool.terminate() };
  // Closes; what has not begun is given up (true), or done (false); returns when all has ended.
  { pool.shutdown(flag) };
};

}  // namespace polyproc::inline v0_1

template <class State>
inline constexpr bool std::ranges::enable_view<polyproc::detail::imap_range<State>> = true;
