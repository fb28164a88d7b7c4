#include "support/tidy.hpp"

#include <random>

namespace {

using backend = polyproc::native_backend;
using arena = polyproc::detail::arena<backend>;

constexpr std::uint64_t one_owner = 64;  // tags only need to be the same

/// Takes, writes, checks and frees blocks for ever. A block that somebody else was given as well would show.
void churn(polyproc::shared<std::atomic<int>> wrong, std::uint64_t me) {
  std::mt19937 random{static_cast<unsigned>(me)};
  struct block {
    std::uint64_t at = 0;
    std::size_t words = 0;
  };
  std::vector<block> mine;
  for (;;) {
    if (mine.size() < 20 && random() % 3 != 0) {
      auto const words = std::size_t{1} + random() % 4000;
      auto const at = arena::allocate(words * sizeof me, {one_owner, me});
      auto* const memory = reinterpret_cast<std::uint64_t*>(arena::at(at, words * sizeof me));
      std::fill_n(memory, words, me);
      mine.push_back({at, words});
    } else if (!mine.empty()) {
      auto const index = random() % mine.size();
      auto const chosen = mine[index];
      auto const* const memory = reinterpret_cast<std::uint64_t const*>(arena::at(chosen.at, chosen.words * sizeof me));
      for (std::size_t i = 0; i < chosen.words; ++i)
        if (memory[i] != me) ++*wrong;
      arena::free(chosen.at);
      mine.erase(mine.begin() + static_cast<std::ptrdiff_t>(index));
    }
  }
}

}  // namespace

TEST_CASE_METHOD(tidy, "blocks do not overlap, and what is freed is used again") {
  auto const before = arena::used_bytes();
  std::mt19937 random{3};
  std::vector<std::pair<std::uint64_t, std::size_t>> blocks;
  for (int i = 0; i < 3000; ++i) {
    if (blocks.size() < 100 && random() % 2 == 0) {
      auto const size = std::size_t{random() % 50000};
      auto const at = arena::allocate(size);
      for (auto const& [other, length] : blocks) REQUIRE((at + size <= other || other + length <= at));
      CHECK(at % 64 == 0);
      blocks.emplace_back(at, size);
    } else if (!blocks.empty()) {
      std::swap(blocks[random() % blocks.size()], blocks.back());
      arena::free(blocks.back().first);
      blocks.pop_back();
    }
  }
  CHECK(arena::sound());
  for (auto const& block : blocks) arena::free(block.first);
  CHECK(arena::sound());
  CHECK(arena::used_bytes() == before);
}

TEST_CASE_METHOD(tidy, "what is no block is not freed, and what is too large is refused") {
  auto const before = arena::used_bytes();
  auto const at = arena::allocate(100);
  arena::free(0);
  arena::free(at + 4096 * 1000);
  arena::free(at);
  arena::free(at);
  CHECK(arena::used_bytes() == before);
  CHECK_THROWS_AS(arena::allocate(std::size_t{1} << 46), std::bad_alloc);
  CHECK_THROWS_AS(arena::at(1, 1), std::out_of_range);
  CHECK_THROWS_AS(arena::at(at, std::size_t{1} << 60), std::out_of_range);
  CHECK(arena::sound());
}

TEST_CASE_METHOD(tidy, "blocks are found by whom they serve") {
  auto const before = arena::used_bytes();
  for (std::uint64_t n = 1; n <= 10; ++n) (void)arena::allocate(5000, {one_owner, n});
  arena::sweep([](auto const& tag, std::uint64_t) { return tag.owner == one_owner && tag.number > 4; });
  CHECK(arena::used_bytes() == before + 4 * 8192);
  arena::sweep([](auto const& tag, std::uint64_t) { return tag.owner == one_owner; });
  CHECK(arena::used_bytes() == before);
}

TEST_CASE_METHOD(tidy, "the books are right whenever a process that allocates and frees is killed") {
  polyproc::shared<std::atomic<int>> wrong;
  std::vector<polyproc::process> all;
  std::uint64_t lives = 0;
  for (int i = 0; i < 3; ++i) all.push_back(polyproc::launch(churn, wrong, ++lives));
  std::mt19937 random{std::random_device{}()};
  for (int round = 0; round < 60; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 15));
    auto& victim = all[random() % all.size()];
    victim.kill();
    victim.join();
    REQUIRE(arena::sound());
    victim = polyproc::launch(churn, wrong, ++lives);
  }
  all.clear();
  CHECK(*wrong == 0);
  CHECK(arena::sound());
  // What the dead had is still in the books, under their names.
  arena::sweep([](auto const& tag, std::uint64_t) { return tag.owner == one_owner; });
  CHECK(arena::sound());
}
