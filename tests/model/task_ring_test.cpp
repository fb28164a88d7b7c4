// timeout: 1500
// How a pool gives tasks to its workers: every interleaving of the pool's thread, which gives, recalls, condemns, frees and
// uses slots again, with workers that take and finish, and with a death of a worker at every step. No task is taken twice or
// lost, a slot's word always says whose it is, and nobody sleeps while there is something to take.

#include "model/explore.hpp"

#include <polyproc/task/task_ring.hpp>

using namespace std::chrono_literals;

namespace {

using ring_type = polyproc::detail::task_ring<model_backend>;
using state = ring_type::state;

struct plan {
  int workers = 2;
  int tasks = 3;
  bool recalls = false;   // each task is taken back once, if nobody has begun it, and given again
  bool condemns = false;  // the first one that is seen running is condemned
  bool wakes = true;      // whoever gives wakes somebody
  std::uint64_t batch = 1;  // so many are given at once, if there are so many
  bool sleeps = true;     // workers sleep for want of tasks; else they look all the time
};

/// Participant 0 is the pool's thread, which is not killed: its process's death ends all. The others are workers.
struct giving : model::scenario {
  static constexpr std::uint32_t slots = 2;
  static constexpr int most_tasks = 4;
  struct shared {
    ring_type::head_words words;
    polyproc::detail::task_watch<model_backend> idle;
    model::atomic<std::uint64_t> entries[slots];
    model::atomic<std::uint32_t> rung;
    model::atomic<std::uint32_t> leave;
    struct slot {
      model::atomic<std::uint64_t> control;
      model::cell<int> request;
      model::cell<int> result;
    } at[slots];
  };

  explicit giving(plan p) : wanted(p) {}
  int participants() const override { return wanted.workers + 1; }
  void reset() override {
    all.emplace();
    ring.emplace(all->words, all->entries, slots);
    for (auto& each : tasks) each = {};
    for (auto& each : begun) each = 0;
    for (auto& each : given_up) each = false;
    prepared = 0;
  }
  void body(int who) override {
    if (who == 0) {
      model::explorer::get().shield(true);
      pool();
    } else {
      worker(static_cast<std::uint32_t>(who));
    }
  }
  void check() override {
    int over = 0, lost = 0;
    for (int i = 0; i < wanted.tasks; ++i) {
      over += tasks[i].over == 1;
      lost += tasks[i].lost;
      model::require(tasks[i].over <= 1, "a task ended twice");
    }
    model::require(over == wanted.tasks, "a task has no end");
    model::require(lost <= model::explorer::get().deaths() + (condemned ? 1 : 0), "a task is lost, and nobody died");
  }

  // --- The pool's thread.

  struct task {
    int over = 0;
    bool lost = false;
    int slot = -1;
    std::uint64_t ticket = 0;
    bool recalled = false;
  };

  auto controls() {
    return [this](std::uint32_t i) -> model::atomic<std::uint64_t>& { return all->at[i].control; };
  }
  [[nodiscard]] static bool living(std::uint32_t worker) {
    return model_backend::alive(static_cast<std::uint64_t>(worker) + 16);
  }

  void give(int i, std::uint32_t slot) {
    prepare(i, slot);
    publish();
  }
  void prepare(int i, std::uint32_t slot) {
    auto& t = tasks[i];
    all->at[slot].request.set(i + 1);
    t.slot = static_cast<int>(slot);
    t.ticket = ring->tail() + prepared++;
    ring->prepare(all->at[slot].control, slot, t.ticket);
  }
  void publish() {
    if (prepared == 0) return;
    ring->publish(prepared);
    if (wanted.wakes) all->idle.wake_for_tasks(all->words, prepared);
    prepared = 0;
  }
  [[nodiscard]] int free_slot() const {
    for (std::uint32_t s = 0; s < slots; ++s) {
      bool used = false;
      for (auto const& t : tasks) used |= t.slot == static_cast<int>(s);
      if (!used) return static_cast<int>(s);
    }
    return -1;
  }
  void end(task& t, bool lost) {
    auto& s = all->at[t.slot];
    ring_type::free(s.control, t.ticket);
    t.slot = -1;
    t.lost = lost;
    ++t.over;
  }
  /// Whether anything has ended.
  bool harvest() {
    bool some = false;
    for (int i = 0; i < wanted.tasks; ++i) {
      auto& t = tasks[i];
      if (t.slot < 0) continue;
      auto& s = all->at[t.slot];
      auto now = s.control.load();
      model::require(ring_type::ticket_of(now) == t.ticket, "a slot's word names another ticket");
      auto const is = ring_type::state_of(now);
      auto const worker = ring_type::worker_of(now);
      if (is == state::given) {
        model::require(worker == 0, "a given slot names a worker");
        continue;
      }
      model::require(worker >= 1 && worker <= static_cast<std::uint32_t>(wanted.workers), "a slot does not name its worker");
      if (is == state::running && wanted.condemns && !condemned && ring_type::condemn(s.control)) {
        condemned = true;
        given_up[worker] = true;
        continue;
      }
      if (is != state::done) {
        if (living(worker)) continue;
        all->idle.forget(worker);
        all->idle.wake_all();
        now = s.control.load();
      }
      if (ring_type::state_of(now) == state::done) {
        model::require(s.result.get() == 10 * (i + 1) + static_cast<int>(worker), "a result is not its task's");
        end(t, false);
      } else {
        end(t, true);
      }
      some = true;
    }
    return some;
  }
  void pool() {
    condemned = false;
    int next = 0;
    for (;;) {
      auto const rung = all->rung.load();
      bool some = harvest();
      while (next < wanted.tasks) {
        auto const slot = free_slot();
        if (slot < 0 || ring->tail() + prepared - ring->head(controls()) >= slots) break;
        prepare(next++, static_cast<std::uint32_t>(slot));
        if (prepared == wanted.batch) publish();
        some = true;
      }
      publish();
      if (wanted.recalls) some |= recall_one();
      int over = 0, workers = 0;
      for (int i = 0; i < wanted.tasks; ++i) over += tasks[i].over;
      if (over == wanted.tasks) break;
      for (int w = 1; w <= wanted.workers; ++w) workers += living(static_cast<std::uint32_t>(w));
      if (workers == 0) {
        nobody_is_left(next);
        break;
      }
      if (some) continue;
      if (wanted.sleeps) model_backend::wait(all->rung, rung, model_backend::now() + 10ms);
      else model_backend::yield();
      look_after_the_dead();
    }
    all->leave.store(1);
    all->idle.wake_all();
  }
  void look_after_the_dead() {
    for (std::uint32_t w = 1; w <= static_cast<std::uint32_t>(wanted.workers); ++w)
      if (!living(w)) {
        all->idle.forget(w);
        all->idle.wake_all();
      }
  }
  bool recall_one() {
    for (int i = 0; i < wanted.tasks; ++i) {
      auto& t = tasks[i];
      if (t.slot < 0 || t.recalled) continue;
      t.recalled = true;
      auto& s = all->at[t.slot];
      if (!ring_type::recall(s.control, t.ticket)) continue;
      auto const slot = static_cast<std::uint32_t>(t.slot);
      model::require(begun[t.ticket] == 0, "what a worker has begun was recalled");
      ring_type::free(s.control, t.ticket);
      t.slot = -1;
      // Given again in the same slot at once, as another ticket, where there is room for that.
      if (ring->tail() - ring->head(controls()) < slots) {
        give(i, slot);
      } else {
        t.over = 1;
      }
      return true;
    }
    return false;
  }
  /// What nobody has begun can be taken back; what the dead had is theirs.
  void nobody_is_left(int next) {
    for (int i = 0; i < next; ++i) {
      auto& t = tasks[i];
      if (t.slot < 0) continue;
      auto& s = all->at[t.slot];
      auto const now = s.control.load();
      if (ring_type::state_of(now) == state::given) {
        model::require(ring_type::recall(s.control, t.ticket), "what nobody has begun cannot be recalled");
        t.over = 1;
        continue;
      }
      end(t, ring_type::state_of(now) != state::done);
    }
    for (int i = next; i < wanted.tasks; ++i) tasks[i].over = 1;
  }

  // --- A worker.

  std::uint32_t next(std::uint32_t me) {
    auto const ready = [&] { return ring->any() || all->leave.load() != 0; };
    polyproc::detail::pace<model_backend> asking(500ms);
    bool slept = false;
    for (;;) {
      bool const leave = all->leave.load() != 0;
      auto const slot = leave ? ring->none : ring->take(me, controls());
      if (leave || slot != ring->none) {
        if (slept) all->idle.idle.pass_on([&] { return ring->any(); });
        return slot;
      }
      if (!wanted.sleeps) {
        model_backend::yield();
        continue;
      }
      if (all->idle.watch(me, ready)) continue;
      (void)all->idle.idle.sleep(polyproc::never, asking, ready);
      slept = true;
    }
  }
  void worker(std::uint32_t me) {
    for (;;) {
      auto const number = next(me);
      if (number == ring->none) return;
      auto& s = all->at[number];
      auto const ticket = ring_type::ticket_of(s.control.load(std::memory_order_relaxed));
      model::require(ticket < std::size(begun) && ++begun[ticket] == 1, "a task was begun twice");
      s.result.set(10 * s.request.get() + static_cast<int>(me));
      if (!ring_type::finish(s.control, me, ticket)) {
        model::require(given_up[me], "a worker could not finish, and was not condemned");
        ring_the_bell();
        return;  // it is ended
      }
      ring_the_bell();
    }
  }
  void ring_the_bell() {
    all->rung.fetch_add(1);
    model_backend::wake_all(all->rung);
  }

  plan wanted;
  bool condemned = false;
  std::optional<shared> all;
  std::optional<ring_type> ring;
  task tasks[most_tasks];
  int begun[2 * most_tasks + 2] = {};
  std::uint64_t prepared = 0;
  bool given_up[model::most_participants] = {};
};

void holds(char const* what, plan p, model::bounds b) {
  giving s(p);
  model::holds(what, s, b);
}

}  // namespace

TEST_CASE("[H1] a pool's ring: no task is taken twice or lost, with a death of a worker at every step") {
  bool const deep = model::campaign();
  holds("ring, one worker", {.workers = 1, .tasks = 3}, {.preemptions = deep ? 4 : 2, .seconds = deep ? 1e9 : 6});
  holds("ring, two workers", {.tasks = 2}, {.preemptions = 2, .seconds = deep ? 1e9 : 6});
  holds("ring, two workers, used again", {.tasks = 3}, {.preemptions = deep ? 2 : 1, .seconds = deep ? 1e9 : 6});
  holds("ring, two workers, two at once", {.tasks = 3, .batch = 2}, {.preemptions = deep ? 2 : 1, .seconds = deep ? 1e9 : 6});
  if (deep) holds("ring, two workers, both die", {.tasks = 3}, {.preemptions = 1, .deaths = 2});
}

TEST_CASE("[H2] a pool's ring: what is taken back and given again, with a death of a worker at every step") {
  bool const deep = model::campaign();
  holds("ring, one worker, recalls", {.workers = 1, .tasks = 2, .recalls = true},
        {.preemptions = deep ? 4 : 2, .seconds = deep ? 1e9 : 6});
  holds("ring, two workers, recalls", {.tasks = 2, .recalls = true}, {.preemptions = 2, .seconds = deep ? 1e9 : 6});
}

TEST_CASE("[H4] a pool's ring: a condemned worker has no other task, with a death of a worker at every step") {
  bool const deep = model::campaign();
  holds("ring, one worker, condemned", {.workers = 1, .tasks = 2, .condemns = true},
        {.preemptions = deep ? 4 : 2, .seconds = deep ? 1e9 : 6});
  holds("ring, two workers, condemned", {.tasks = 2, .condemns = true}, {.preemptions = 2, .seconds = deep ? 1e9 : 6});
}

TEST_CASE("the model of a pool's ring finds what is wrong") {
  giving silent({.tasks = 1, .wakes = false});
  model::is_caught("a pool that wakes nobody", silent, {.preemptions = 2, .deaths = 0}, "wake");
}

TEST_CASE("a pool's ring and its sleepers: no wake is lost, with loads that may be stale") {
  bool const deep = model::campaign();
  holds("ring, one worker", {.workers = 1, .tasks = 2},
        {.preemptions = 2, .deaths = 0, .stale = 2, .seconds = deep ? 1e9 : 6});
  holds("ring, two workers", {.tasks = 2}, {.preemptions = 1, .deaths = 0, .stale = 1, .seconds = deep ? 1e9 : 6});
  holds("ring, two workers, two at once", {.tasks = 2, .batch = 2},
        {.preemptions = 1, .deaths = 0, .stale = 1, .seconds = deep ? 1e9 : 6});
  holds("ring, two workers", {.tasks = 2}, {.preemptions = 3, .deaths = 0, .seconds = deep ? 1e9 : 6});
}
