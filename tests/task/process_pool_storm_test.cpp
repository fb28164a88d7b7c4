// timeout: 600
// alone
//
// Workers are killed at random instants while a long stream of tasks runs: each task's future completes; exactly those whose
// worker died with them are lost, and each lost one had begun once at most; nobody hangs; in the end all workers are there.
// POLYPROC_STORM_SEED repeats the choice of victims.

#include "support/storm.hpp"

using namespace std::chrono_literals;

namespace {

#if defined(_WIN32)
constexpr std::size_t least_tasks = 5000, least_kills = 50;
#elif defined(POLYPROC_TEST_ADDRESS_SANITIZER) || defined(POLYPROC_TEST_THREAD_SANITIZER)
constexpr std::size_t least_tasks = 10000, least_kills = 100;
#else
constexpr std::size_t least_tasks = 100000, least_kills = 1000;
#endif
constexpr std::size_t most_tasks = 40 * least_tasks;

using counts = polyproc::shared_array<std::atomic<std::uint32_t>>;
struct ledger {
  counts begun;
  counts ended;
};

ledger open_books(counts begun, counts ended) { return {std::move(begun), std::move(ended)}; }
/// Small ones, with now and then one of which request and result do not fit into a slot.
std::string work(std::uint32_t i, std::string text) {
  auto& books = polyproc::this_worker::state<ledger>();
  books.begun[i] += 1;
  if (i % 64 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  text += std::to_string(i);
  books.ended[i] += 1;
  return text;
}
std::string text_of(std::uint32_t i) { return std::string(i % 128 == 5 ? 20000 : i % 16, 'x'); }

struct outcome_of_all {
  std::size_t tasks = 0, kills = 0, lost = 0, values = 0;
  std::uint64_t begun = 0, repeated = 0;
};

void rage(char const* what, unsigned retries) {
  auto const seed = storm::setting<unsigned>("POLYPROC_STORM_SEED", std::random_device{}());
  INFO("POLYPROC_STORM_SEED=" << seed);
  auto const begin = std::chrono::steady_clock::now();
  counts begun(most_tasks), ended(most_tasks);
  outcome_of_all sum;
  constexpr std::size_t workers = 3;
  polyproc::process_pool pool({.workers = workers, .initializer = {open_books, begun, ended}, .start_attempts = 1000000});

  std::atomic<std::size_t> progress{0}, kills{0};
  std::set<long> killed;  // a worker may be hit again before its end is noticed
  std::atomic<bool> over{false};
  std::thread killer([&] {
    std::mt19937 random(seed);
    std::size_t next = 0;
    while (!over) {
      if (progress < next) {
        std::this_thread::sleep_for(20us);
        continue;
      }
      next = progress + random() % (2 * least_tasks / least_kills);
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
      auto const pids = pool.worker_pids();
      if (pids.empty()) continue;
      auto const victim = pids[random() % pids.size()];
      if (!pool.kill_worker(victim)) continue;
      killed.insert(victim);
      ++kills;
    }
  });

  std::deque<std::pair<std::uint32_t, polyproc::future<std::string>>> under_way;
  bool hangs = false;
  std::size_t wrong = 0;
  auto const take_first = [&] {
    auto const i = under_way.front().first;
    auto& f = under_way.front().second;
    if (!f.wait_for(60s)) {
      hangs = true;
      return;
    }
    try {
      wrong += f.get() != text_of(i) + std::to_string(i) || ended[i] == 0;
      if (retries == 0) wrong += begun[i] != 1 || ended[i] != 1;
      ++sum.values;
    } catch (polyproc::worker_lost const& e) {
      ++sum.lost;
      wrong += begun[i] > 1 || e.pid() == 0;
    }
    under_way.pop_front();
    ++progress;
  };
  std::mt19937 random(seed + 1);
  // Until a kill has hit a task, too: most hit workers between two.
  while (!hangs && sum.tasks < most_tasks && (sum.tasks < least_tasks || kills < least_kills || pool.stats().lost == 0)) {
    auto const i = static_cast<std::uint32_t>(sum.tasks++);
    under_way.emplace_back(i, pool.submit({.retries = retries}, work, i, text_of(i)));
    auto const window = 1 + random() % 1500;
    while (!hangs && under_way.size() > window) take_first();
  }
  while (!hangs && !under_way.empty()) take_first();
  over = true;
  killer.join();
  REQUIRE_FALSE(hangs);
  sum.kills = kills;
  CHECK(wrong == 0);
  CHECK(sum.values + sum.lost == sum.tasks);
  CHECK(sum.lost <= sum.kills);
  if (retries > 0) CHECK(sum.lost == 0);
  std::uint64_t never_begun = 0;
  for (std::size_t i = 0; i < sum.tasks; ++i) {
    sum.begun += begun[i];
    never_begun += begun[i] == 0;
  }
  auto const stats = pool.stats();
  sum.repeated = stats.repeated;
  CHECK(stats.submitted == sum.tasks);
  CHECK(stats.done == sum.values);
  CHECK(stats.failed == sum.lost);
  CHECK(stats.waiting + stats.running == 0);
  if (retries == 0) CHECK(stats.lost == sum.lost);
  // A lost one may have been taken and not have come as far as its first line.
  CHECK(never_begun <= sum.lost);
  CHECK(sum.begun <= sum.tasks + sum.repeated);
  CHECK(stats.lost > 0);

  // All workers are there again, without anything being submitted.
  auto const until = std::chrono::steady_clock::now() + 60s;
  while (pool.stats().restarted < killed.size() && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(1ms);
  CHECK(pool.stats().restarted >= killed.size());
  CHECK(pool.stats().restarted <= sum.kills);
  CHECK(pool.worker_pids().size() == workers);
  CHECK(pool.apply(work, static_cast<std::uint32_t>(most_tasks - 1), std::string("all ")) ==
        "all " + std::to_string(most_tasks - 1));
  auto const took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("storm: %s, seed %u, %.1f s: %zu tasks, %zu kills, %zu lost (%llu of them before their first line), %llu "
              "repeated\n",
              what, seed, took, sum.tasks, sum.kills, sum.lost, static_cast<unsigned long long>(never_begun),
              static_cast<unsigned long long>(sum.repeated));
  std::fflush(stdout);
}

}  // namespace

TEST_CASE_METHOD(tidy, "[H2] workers killed at random instants: exactly the tasks that were hit are lost, others run once") {
  rage("a pool's workers killed", 0);
}

TEST_CASE_METHOD(tidy, "[H2] workers killed at random instants: tasks that may be repeated all give their values") {
  rage("a pool's workers killed, with retries", 1000000);
}
