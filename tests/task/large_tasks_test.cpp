#include "support/tidy.hpp"
//
// Tasks whose arguments or results are large, in shared memory that is kept from one to the next.

#include "task/pool_tasks.hpp"

#include <random>

using namespace pool_tasks;

namespace {

using bytes = std::vector<std::uint8_t>;
using arena = polyproc::detail::arena<polyproc::native_backend>;
using kept = polyproc::detail::kept_blocks<polyproc::native_backend>;
constexpr std::size_t mebibyte = std::size_t{1} << 20;

std::uint8_t byte_at(std::size_t i, unsigned seed) { return static_cast<std::uint8_t>(i * 7 + i / 251 + seed); }
bytes filled(std::size_t size, unsigned seed) {
  bytes all(size);
  for (std::size_t i = 0; i < size; ++i) all[i] = byte_at(i, seed);
  return all;
}
bool is_filled(bytes const& all, std::size_t size, unsigned seed) {
  if (all.size() != size) return false;
  for (std::size_t i = 0; i < size; ++i)
    if (all[i] != byte_at(i, seed)) return false;
  return true;
}

struct order {
  std::size_t come = 0;  // bytes of the argument
  std::size_t go = 0;    // and of the result
  unsigned seed = 0;
};
bytes answer(bytes const& all, order what) {
  if (!is_filled(all, what.come, what.seed)) throw std::logic_error("not what was sent");
  return filled(what.go, what.seed + 1);
}
bytes fails(bytes const& all) { throw std::out_of_range(std::to_string(all.size())); }
bytes dies(bytes const& all) {
  if (!all.empty()) polyproc::native_backend::exit_now(3);
  return all;
}
/// Ends its process while the result is being written, somewhere in the block that is for it.
struct deadly {
  std::size_t size = 0;
};
deadly write_deadly(bytes const& all) { return {all.size()}; }
struct sent_out {
  polyproc::future<bytes> result;
  order told;
  bool cancelled = false;
};
bool right_or_cancelled(sent_out& one) {
  try {
    return is_filled(one.result.get(), one.told.go, one.told.seed + 1);
  } catch (task_cancelled const&) {
    return one.cancelled;
  }
}
/// The first time it ends its process.
bytes dies_once(bytes const& all, shared_gate g) {
  if (g->count.fetch_add(1) == 0) polyproc::native_backend::exit_now(3);
  return all;
}
std::vector<std::string> twice_as_many(std::vector<std::string> all) {
  all.insert(all.end(), all.begin(), all.end());
  return all;
}
/// Ends in order, with a pool that is never destroyed and keeps blocks.
void leaves_a_pool(std::size_t size, shared_gate g) {
  kept::for_so_long() = static_cast<int>(in_ms(2 * patience));
  static auto* const pool = new process_pool(1);  // leak checkers see that somebody knows it
  auto const all = filled(size, 1);
  g->open = eventually([&] { return pool->apply(answer, all, order{size, size, 1}).size() == size && kept::bytes() >= 2 * size; });
}
/// Blocks are kept for longer than any machine is away.
struct kept_for_long {
  int const before = kept::for_so_long().exchange(static_cast<int>(in_ms(2 * patience)));
  ~kept_for_long() { kept::for_so_long() = before; }
};
bytes wait_and_give_back(bytes const& all, shared_gate g) {
  wait_at(g);
  return all;
}

}  // namespace

template <>
struct polyproc::codec<deadly> {
  static void write(polyproc::writer& out, deadly const& d) {
    encode(out, bytes(d.size, 1));
    polyproc::native_backend::exit_now(4);
  }
  static deadly read(polyproc::reader& in) { return {decode<bytes>(in).size()}; }
};

TEST_CASE_METHOD(tidy, "large tasks that follow each other use the same memory, which goes back when there are no more") {
  auto const before = arena::used_bytes();
  process_pool pool(1);
  CHECK(kept::bytes() == 0);
  auto const all = filled(8 * mebibyte, 1);
  auto const once = [&] {
    CHECK(is_filled(pool.apply(answer, all, order{8 * mebibyte, 8 * mebibyte, 1}), 8 * mebibyte, 2));
    // That of the result is kept when its future has it.
    CHECK(eventually([] { return kept::bytes() >= 16 * mebibyte; }));
    CHECK(kept::bytes() < 17 * mebibyte);  // were they not used again, the third one would be
  };
  {
    kept_for_long const all_of_them;
    for (int i = 0; i < 5; ++i) once();
  }
  CHECK(is_filled(pool.apply(answer, all, order{8 * mebibyte, 8 * mebibyte, 1}), 8 * mebibyte, 2));
  CHECK(eventually([] { return kept::bytes() == 0; }));
  CHECK(pool.apply(answer, all, order{8 * mebibyte, 5, 1}).size() == 5);
  // Whoever counts, or needs memory, has it at once.
  CHECK(arena::used_bytes() - before < 2 * mebibyte);
  CHECK(kept::bytes() == 0);
  CHECK(pool.apply(answer, all, order{8 * mebibyte, 5, 1}).size() == 5);
}

TEST_CASE_METHOD(tidy, "what a pool has kept goes with it, also when it ends with large tasks under way") {
  kept_for_long const all_of_them;
  auto const before = arena::used_bytes();
  auto const all = filled(3 * mebibyte, 1);
  {
    process_pool pool(2);
    for (int i = 0; i < 6; ++i) CHECK(pool.apply(answer, all, order{all.size(), all.size(), 1}).size() == all.size());
  }
  CHECK(kept::bytes() == 0);
  CHECK(arena::used_bytes() - before < 2 * mebibyte);
  {
    process_pool pool(2);
    shared_gate g;
    std::vector<polyproc::future<bytes>> under_way;
    for (int i = 0; i < 6; ++i) CHECK(pool.apply(answer, all, order{all.size(), all.size(), 1}).size() == all.size());
    for (int i = 0; i < 6; ++i) under_way.push_back(pool.submit(wait_and_give_back, all, g));
    CHECK(until_begun(g, 2));
    CHECK(under_way[0].cancel());
    CHECK(under_way[5].cancel());
    pool.terminate();
  }
  CHECK(kept::bytes() == 0);
  CHECK(arena::used_bytes() - before < 2 * mebibyte);  // what a worker held that was killed: the pool's board
}

TEST_CASE_METHOD(tidy, "what a process has kept goes back when it ends, though its pool is never destroyed") {
  auto const before = arena::used_bytes();
  shared_gate g;
  polyproc::process p{{.daemon = false}, leaves_a_pool, 3 * mebibyte, g};
  p.start();
  REQUIRE(p.join_for(patience));
  CHECK(p.exit_code() == 0);
  CHECK(g->open == 1);
  CHECK(arena::used_bytes() - before < 2 * mebibyte);  // the board, which its worker held that was ended, stays
}

TEST_CASE_METHOD(tidy, "a block in which a worker dies is used again") {
  kept_for_long const all_of_them;
  auto const before = arena::used_bytes();
  {
    process_pool pool(1);
    auto const all = filled(3 * mebibyte, 1);
    auto const next = [&] { return is_filled(pool.apply(answer, all, order{all.size(), all.size(), 1}), all.size(), 2); };
    auto const two_are_kept = [&] { return next() && kept::bytes() >= 2 * all.size(); };
    for (int i = 0; i < 3; ++i) {
      CHECK(eventually(two_are_kept));
      CHECK_THROWS_AS(pool.apply(dies, all), worker_lost);
      CHECK(eventually(two_are_kept));
      CHECK_THROWS_AS(pool.apply(write_deadly, all), worker_lost);
      CHECK(next());
      CHECK_THROWS_WITH(pool.apply(fails, all), std::to_string(all.size()));
      CHECK(next());
      shared_gate g;
      CHECK(pool.submit(task_options{.retries = 1}, dies_once, all, g).get() == all);
      CHECK(kept::bytes() < 3 * all.size());
    }
  }
  CHECK(arena::used_bytes() - before < 2 * mebibyte);
}

TEST_CASE_METHOD(tidy, "results of any size, for arguments of any size, are what they should be") {
  auto const before = arena::used_bytes();
  {
    process_pool pool(3);
    std::mt19937 random(7);
    auto const any_size = [&] { return random() % 4 == 0 ? random() % 3000 : random() % (2 * mebibyte); };
    std::vector<sent_out> all;
    for (unsigned i = 0; i < 70; ++i) {
      order const what{any_size(), any_size(), i};
      // Nobody is ended who has begun: what the board holds would stay.
      all.push_back({pool.submit(task_options{.grace = patience}, answer, filled(what.come, i), what), what});
      if (random() % 7 == 0) all.back().cancelled = all.back().result.cancel();
      if (random() % 3 != 0) continue;
      auto& one = all[random() % all.size()];
      if (one.result.valid()) CHECK(right_or_cancelled(one));
    }
    for (auto& one : all)
      if (one.result.valid()) CHECK(right_or_cancelled(one));
  }
  CHECK(arena::used_bytes() - before < 2 * mebibyte);  // a board, should a worker not have ended in time
}

TEST_CASE_METHOD(tidy, "values that are written piece by piece grow out of the block that was kept") {
  kept_for_long const all_of_them;
  process_pool pool(1);
  auto const all_of = [](std::size_t count) {
    std::vector<std::string> all;
    for (std::size_t i = 0; i < count; ++i) all.push_back(std::string(50 + i % 50, static_cast<char>('a' + i % 26)));
    return all;
  };
  for (std::size_t const count : {30000U, 10000U, 60000U, 30000U, 60000U}) {
    auto const all = all_of(count);
    CHECK(eventually([&] { return pool.apply(twice_as_many, all) == twice_as_many(all) && kept::bytes() >= mebibyte; }));
  }
}
