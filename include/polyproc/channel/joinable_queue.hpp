/// A queue that knows what is still being worked on.
#pragma once

#include <polyproc/channel/queue.hpp>

namespace polyproc::inline v0_1 {

namespace detail {

/// Who has taken how many messages and finished with how many.
///
/// A process that gets has a place: its identity and two counts that only it adds to (`taken` under the queue's get_lock,
/// just before the message counts as taken). It takes a free place by one compare-exchange, without a lock, so that nobody
/// who is stopped holds up those who come. What is unfinished is what waits in the queue, read first, and the difference of
/// all counts, if nothing was put meanwhile: a message moves from the first to the second, so it may be seen in both for a
/// moment, and is never missed.
///
/// Whoever finds a place of a dead process takes `lock`, makes its counts equal (what it had taken is lost with it) and then
/// frees the place. Others may have said that they finished with what it had taken: then only so much is lost as was
/// unfinished at all, and the rest of the difference moves to `left_over`. That is one step: a log says what is to be done,
/// `logged` that it is (place + 1), and whoever takes the lock of a dead one does it again; the place itself only if it is
/// still the dead one's, because a freed one may have been taken since.
template <sync_backend Backend>
class queue_takers {
  template <class T>
  using atomic = typename Backend::template atomic<T>;

 public:
  static constexpr unsigned most = 112;
  struct place {
    atomic<std::uint64_t> who;
    atomic<std::uint64_t> taken;
    atomic<std::uint64_t> done;
  };

  /// Throws std::runtime_error when there are too many processes.
  place& of(std::uint64_t me) {
    auto const first = static_cast<unsigned>((me * 0x9e3779b97f4a7c15ULL >> 32) % most);
    for (unsigned i = 0; i < most; ++i)
      if (auto& p = places_[(first + i) % most]; p.who.load(std::memory_order_relaxed) == me) return p;
    for (int round = 0; round < 2; ++round) {
      for (unsigned i = 0; i < most; ++i) {
        auto& p = places_[(first + i) % most];
        std::uint64_t nobody = 0;
        if (p.who.load(std::memory_order_relaxed) == 0 && p.who.compare_exchange_strong(nobody, me)) return p;
      }
      bury(Backend::now() + holder_recheck);
    }
    throw std::runtime_error("polyproc: more than 112 processes get from one joinable_queue at the same time");
  }
  /// Of those that were taken.
  [[nodiscard]] std::uint64_t unfinished() const noexcept {
    std::uint64_t sum = left_over_.load();
    for (auto const& p : places_)
      if (p.who.load() != 0) sum += p.taken.load() - p.done.load();
    // Counts are read one after the other: one of somebody who is done may be seen before that of the one who took.
    return static_cast<std::int64_t>(sum) < 0 ? 0 : sum;
  }
  /// What the dead had taken is not waited for. False if somebody holds the lock.
  bool bury(time_point until) noexcept {
    repairing_hold<Backend> hold{lock_, until, [this] { apply(); }};
    if (!hold.owns()) return false;
    for (unsigned i = 0; i < most; ++i)
      if (auto const who = places_[i].who.load(); who != 0 && !Backend::alive(who)) free(i);
    return true;
  }
  sleepers<Backend, waiting::adaptive>& joiners() noexcept { return joiners_; }

 private:
  void free(unsigned i) noexcept {
    auto const& p = places_[i];
    auto const its = p.taken.load() - p.done.load();
    auto const lost = static_cast<std::int64_t>(its) < 0 ? 0 : std::min(its, unfinished());
    log_ = left_over_.load() + its - lost;
    logged_who_ = p.who.load();
    logged_.store(i + 1);
    apply();
  }
  void apply() noexcept {
    auto const which = logged_.load();
    if (which == 0) return;
    auto& p = places_[which - 1];
    left_over_.store(log_);
    if (auto who = logged_who_; p.who.load() == who) {
      p.done.store(p.taken.load());
      p.who.compare_exchange_strong(who, 0);
    }
    logged_.store(0);
  }

  owner_lock<Backend> lock_;
  std::uint64_t log_;
  std::uint64_t logged_who_;
  atomic<std::uint32_t> logged_;
  atomic<std::uint64_t> left_over_;
  sleepers<Backend, waiting::adaptive> joiners_;
  place places_[most];
};

}  // namespace detail

/// A queue whose users say task_done() for each message that they have finished with, and where one can wait until all are.
/// Otherwise as queue<T>, but for leases, which it has not.
///
/// A message that was taken by a process that died before task_done() counts as finished: join() waits for nobody who
/// cannot come. (At most 112 processes may get from one such queue at a time.)
template <class T, backend Backend = native_backend>
class basic_joinable_queue : public detail::puts_into_queue<basic_joinable_queue<T, Backend>, T, Backend>,
                             public detail::gets_from_queue<basic_joinable_queue<T, Backend>, T, Backend>,
                             public detail::looks_at_queue<basic_joinable_queue<T, Backend>>,
                             public detail::queue_times<Backend> {
  static_assert(encodable<T>, "polyproc: a queue carries values that the codec can encode; T is not one of them");
  using link = detail::queue_link<Backend>;
  using takers_type = detail::queue_takers<Backend>;

 public:
  using value_type = T;

  /// As for queue<T>.
  basic_joinable_queue() : link_(link::create(detail::queue_core<Backend>::unbounded, fingerprint(), sizeof(takers_type))) {}
  explicit basic_joinable_queue(std::size_t capacity)
      : link_(link::create(link::checked(capacity), fingerprint(), sizeof(takers_type))) {}

  /// A message that was got has done its work. Any process may say so for any other. Throws std::logic_error when it is said
  /// more often than messages were got.
  void task_done() const {
    auto& all = takers();
    auto& mine = all.of(me());
    if (unfinished() == 0)
      throw std::logic_error("polyproc: task_done() was called more often than messages were got from the queue");
    mine.done.fetch_add(1);
    if (unfinished() == 0) all.joiners().wake_all();
  }

  /// Until every message that was put has been got and finished with.
  void join() const { (void)joined(never); }
  /// False when the deadline came first.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(std::chrono::duration<Rep, Period> wait) const {
    return joined(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool join_until(std::chrono::time_point<Clock, Duration> when) const {
    return joined(detail::deadline_at<Backend>(when));
  }
  /// How many are not finished with. A snapshot.
  [[nodiscard]] std::size_t unfinished() const noexcept {
    // One who puts and then is done with something else, all between the two looks, would be seen as done only.
    for (auto const core = link_->core();;) {
      auto const put = core.puts();
      auto const waiting = core.size();
      auto const taken = takers().unfinished();
      if (core.puts() == put) return static_cast<std::size_t>(waiting + taken);
    }
  }

  void lease() const = delete;
  void try_lease() const = delete;
  template <class... D>
  void lease_for(D...) const = delete;
  template <class... D>
  void lease_until(D...) const = delete;

  friend bool operator==(basic_joinable_queue const& a, basic_joinable_queue const& b) noexcept { return a.link_ == b.link_; }

 private:
  friend detail::puts_into_queue<basic_joinable_queue, T, Backend>;
  friend detail::gets_from_queue<basic_joinable_queue, T, Backend>;
  friend detail::looks_at_queue<basic_joinable_queue>;
  friend detail::queue_handle_codec<basic_joinable_queue, Backend>;
  template <class, class>
  friend class detail::queue_reservation;
  template <class, class>
  friend class detail::queue_view;

  explicit basic_joinable_queue(detail::queue_link_ref<Backend> to) noexcept : link_(std::move(to)) {}

  static constexpr bool can_put = true;
  static constexpr std::uint64_t fingerprint() { return type_fingerprint<T>() ^ 0x6a6f696e61626c65ULL; }
  static constexpr char const* handle_name = "joinable queue";

  [[nodiscard]] takers_type& takers() const noexcept { return *reinterpret_cast<takers_type*>(link_->more()); }
  /// For all but getting, which needs a place.
  [[nodiscard]] auto plain_core() const noexcept { return link_->core(); }
  [[nodiscard]] auto core() const {
    auto made = link_->core();
    made.count_takes(takers().of(me()).taken);
    return made;
  }
  [[nodiscard]] auto asker() const noexcept { return link_->asker(); }
  [[nodiscard]] std::uint64_t me() const noexcept { return link_->process(); }

  bool joined(time_point deadline) const {
    auto& all = takers();
    detail::pace<Backend> looking{std::chrono::milliseconds{20}};
    for (;;) {
      if (unfinished() == 0) return true;
      using slept = typename detail::sleepers<Backend, waiting::adaptive>::slept;
      auto const how = all.joiners().sleep(deadline, looking, [&] { return unfinished() == 0; });
      if (how == slept::woken) continue;
      all.bury(Backend::now() + detail::holder_recheck);
      if (unfinished() == 0) return true;
      if (how == slept::late) return false;
      looking = detail::pace<Backend>{detail::idle_recheck};
    }
  }

  detail::queue_link_ref<Backend> link_;
};

template <class T, backend Backend>
struct codec<basic_joinable_queue<T, Backend>> : detail::queue_handle_codec<basic_joinable_queue<T, Backend>, Backend> {};

template <class T>
using joinable_queue = basic_joinable_queue<T>;

}  // namespace polyproc::inline v0_1
