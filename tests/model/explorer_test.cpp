// The explorer itself: what is known to be wrong is found, each in the way in which it is wrong.

#include "model/explore.hpp"

using namespace std::chrono_literals;

namespace {

template <class T>
using atomic = model::atomic<T>;
constexpr auto relaxed = std::memory_order_relaxed;
constexpr auto acquire = std::memory_order_acquire;
constexpr auto release = std::memory_order_release;

// A lock word and the owner beside it, written once the lock is taken: who dies in between has locked it for ever.
struct owner_written_later {
  atomic<std::uint32_t> word{0};
  atomic<std::uint64_t> owner{0};
  void lock() {
    for (;;) {
      std::uint32_t free = 0;
      if (word.compare_exchange_strong(free, 1)) break;
      auto const holder = owner.load();
      if (holder != 0 && !model_backend::alive(holder)) {
        owner.store(0);
        word.store(0);
        continue;
      }
      model_backend::wait(word, 1, model_backend::now() + 10ms);
    }
    owner.store(model_backend::self());
  }
  void unlock() {
    owner.store(0);
    word.store(0);
    model_backend::wake_one(word);
  }
};

// Right in every respect but one, which `Fault` names.
enum class fault { none, relaxed_lock, relaxed_unlock, no_wake, sleeps_for_ever };
template <fault Fault>
struct futex_lock {
  atomic<std::uint32_t> word{0};  // 0 free, 1 held, 2 held and somebody sleeps
  void lock() {
    std::uint32_t seen = 0;
    if (word.compare_exchange_strong(seen, 1, Fault == fault::relaxed_lock ? relaxed : acquire, relaxed)) return;
    while (word.exchange(2, acquire) != 0)
      model_backend::wait(word, 2, Fault == fault::sleeps_for_ever ? polyproc::never : model_backend::now() + 10ms);
  }
  void unlock() {
    auto const before = word.exchange(0, Fault == fault::relaxed_unlock ? relaxed : release);
    if (before == 2 && Fault != fault::no_wake) model_backend::wake_one(word);
  }
};

template <class Lock>
struct lockers : model::scenario {
  explicit lockers(int n) : count(n) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    all->lock.lock();
    all->cells.add(who);
    all->lock.unlock();
  }
  void last() override {
    all->lock.lock();
    all->lock.unlock();
  }
  struct state {
    Lock lock;
    model::pair_of_cells cells;
  };
  int count;
  std::optional<state> all;
};

// One message: the flag says that it is there.
template <bool CommitFirst, std::memory_order Store, std::memory_order Load>
struct mailbox : model::scenario {
  struct state {
    model::cell<int> message;
    atomic<std::uint32_t> there{0};
  };
  explicit mailbox(int n = 2) : count(n) {}
  int participants() const override { return count; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    if (who == 0) {
      if (CommitFirst) all->there.store(1, Store);
      all->message.set(42);
      if (!CommitFirst) all->there.store(1, Store);
    } else if (all->there.load(Load) == 1) {
      model::require(all->message.get() == 42, "a message was read that was not there yet");
    }
  }
  void check() override {
    if (all->there.newest() == 1) model::require(all->message.quiet() == 42, "a message that was never written is there");
  }
  int count;
  std::optional<state> all;
};

// Both say that they come, then look whether the other does: store buffering.
template <std::memory_order Store, std::memory_order Load>
struct courtesy : model::scenario {
  struct state {
    atomic<std::uint32_t> coming[2];
    int inside = 0;
  };
  int participants() const override { return 2; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    all->coming[who].store(1, Store);
    if (all->coming[1 - who].load(Load) == 0) ++all->inside;
  }
  void check() override { model::require(all->inside <= 1, "both went in"); }
  std::optional<state> all;
};

// A permit is announced by one wake; the one that is woken may die of it.
struct single_wake : model::scenario {
  struct state {
    atomic<std::uint32_t> permits{0};
    int got = 0;
  };
  int participants() const override { return 3; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    if (who == 0) {
      all->permits.fetch_add(1);
      model_backend::wake_one(all->permits);
      return;
    }
    for (;;) {
      auto n = all->permits.load();
      while (n != 0)
        if (all->permits.compare_exchange_weak(n, 2)) {
          // The one permit is handed on: the other needs it as well.
          all->permits.store(1);
          model_backend::wake_one(all->permits);
          return;
        }
      model_backend::wait(all->permits, 0, polyproc::never);
    }
  }
  std::optional<state> all;
};

// Who rings waits until all who listened have left; a dead listener never does.
struct counted_listeners : model::scenario {
  struct state {
    atomic<std::uint32_t> listening{0};
    atomic<std::uint32_t> rung{0};
  };
  int participants() const override { return 2; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    if (who == 0) {
      all->rung.store(1);
      model_backend::wake_all(all->rung);
      for (auto n = all->listening.load(); n != 0; n = all->listening.load())
        model_backend::wait(all->listening, n, model_backend::now() + 100ms);
      return;
    }
    all->listening.fetch_add(1);
    while (all->rung.load() == 0) model_backend::wait(all->rung, 0, model_backend::now() + 100ms);
    all->listening.fetch_sub(1);
    model_backend::wake_all(all->listening);
  }
  std::optional<state> all;
};

// Each waits for the other.
struct embrace : model::scenario {
  struct state {
    futex_lock<fault::none> a;
    futex_lock<fault::none> b;
  };
  int participants() const override { return 2; }
  void reset() override { all.emplace(); }
  void body(int who) override {
    (who == 0 ? all->a : all->b).lock();
    (who == 0 ? all->b : all->a).lock();
    all->a.unlock();
    all->b.unlock();
  }
  std::optional<state> all;
};

}  // namespace

TEST_CASE("the explorer finds a lock whose owner is recorded after it was taken") {
  lockers<owner_written_later> s(2);
  model::is_caught("owner recorded too late", s, {}, "hang");
}

TEST_CASE("the explorer finds a commit before the copy, by a death and by a reader") {
  mailbox<true, release, acquire> alone(1);
  model::is_caught("commit before copy, a death", alone, {}, "never written");
  mailbox<true, release, acquire> s;
  model::is_caught("commit before copy, a reader", s, {.deaths = 0}, "race");
}

TEST_CASE("the explorer finds a single wake that a dying waiter takes with it") {
  single_wake s;
  model::is_caught("single wake", s, {}, "deadlock");
  model::holds("single wake, nobody dies", s, {.preemptions = 2, .deaths = 0});
}

TEST_CASE("the explorer finds a count that a dead waiter holds up") {
  counted_listeners s;
  model::is_caught("count of waiters", s, {}, "hang");
  model::holds("count of waiters, nobody dies", s, {.preemptions = 3, .deaths = 0});
}

TEST_CASE("the explorer finds lost wakes and deadlocks when nobody dies") {
  lockers<futex_lock<fault::none>> good(2);
  model::holds("a good lock", good, {.preemptions = 3, .deaths = 0});
  lockers<futex_lock<fault::no_wake>> forgets(2);
  model::is_caught("unlock without wake", forgets, {.deaths = 0}, "wake was lost");
  lockers<futex_lock<fault::sleeps_for_ever>> dies(2);
  model::is_caught("a lock without owner", dies, {}, "deadlock");
  embrace each_other;
  model::is_caught("two locks in two orders", each_other, {.deaths = 0}, "wake was lost");
}

TEST_CASE("the explorer finds memory orders that are too weak for the data they guard") {
  lockers<futex_lock<fault::relaxed_lock>> lock(2);
  model::is_caught("lock without acquire", lock, {.deaths = 0}, "race");
  lockers<futex_lock<fault::relaxed_unlock>> unlock(2);
  model::is_caught("unlock without release", unlock, {.deaths = 0}, "race");
  mailbox<false, release, acquire> good;
  model::holds("message passing", good, {.preemptions = 2, .deaths = 0, .stale = 2});
  mailbox<false, relaxed, acquire> no_release;
  model::is_caught("message passing without release", no_release, {.deaths = 0}, "race");
  mailbox<false, release, relaxed> no_acquire;
  model::is_caught("message passing without acquire", no_acquire, {.deaths = 0}, "race");
}

TEST_CASE("the explorer finds store buffering, and that sequential consistency forbids it") {
  courtesy<std::memory_order_seq_cst, std::memory_order_seq_cst> good;
  model::holds("store buffering, seq_cst", good, {.preemptions = 3, .deaths = 0, .stale = 2});
  courtesy<release, acquire> weak;
  model::is_caught("store buffering, release and acquire", weak, {.deaths = 0, .stale = 1}, "both");
  courtesy<std::memory_order_seq_cst, acquire> half;
  model::is_caught("store buffering, a weak load", half, {.deaths = 0, .stale = 1}, "both");
  model::holds("the same without stale loads", weak, {.preemptions = 3, .deaths = 0});
}
