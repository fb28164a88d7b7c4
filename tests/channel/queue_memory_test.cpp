// timeout: 600
// What queues cost: memory as used, given back; nothing left of queues that are gone; nothing lost when there is none.

#include "support/stage.hpp"
#include "support/tidy.hpp"

#include <fstream>

#if defined(__linux__)
#include <sys/resource.h>
#endif

using namespace std::chrono_literals;

namespace {

using arena = polyproc::detail::arena<polyproc::native_backend>;

constexpr std::size_t mebibyte = std::size_t{1} << 20;

std::string text(std::size_t number, std::size_t size) {
  std::string made(size, static_cast<char>('a' + number % 26));
  for (std::size_t i = 0; i < size; i += 512) made[i] = static_cast<char>('a' + (number + i / 512) % 26);
  return made;
}

/// Mappings of this process, where the system tells.
std::size_t mappings() {
  std::size_t lines = 0;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) ++lines;
  return lines;
}

/// As long as this lives nothing can be taken from the family's memory: its table is full of blocks of one page.
class exhausted {
 public:
  exhausted() {
    REQUIRE_THROWS_AS(take_all(), std::bad_alloc);
  }
  exhausted(exhausted const&) = delete;
  exhausted& operator=(exhausted const&) = delete;
  ~exhausted() {
    arena::sweep([](polyproc::detail::block_tag const& tag, std::uint64_t) { return tag.owner == 1; });
  }
  /// One block more can be taken.
  void spare() {
    bool spared = false;
    arena::sweep([&](polyproc::detail::block_tag const& tag, std::uint64_t) {
      return tag.owner == 1 && !std::exchange(spared, true);
    });
  }

 private:
  [[noreturn]] static void take_all() {
    for (std::uint64_t i = 1;; ++i) (void)arena::allocate(1, {1, i});
  }
};

void drain_slowly(polyproc::queue<std::string> q, polyproc::queue<std::size_t> answers) {
  std::size_t bytes = 0;
  for (auto const& m : q) bytes += m.size();
  answers.put(bytes);
}

}  // namespace

TEST_CASE_METHOD(tidy, "after 1 GiB has passed through, of it 256 MiB at once, less than 1 MiB is held") {
  polyproc::queue<std::string> q;
  auto const before = arena::used_bytes();
  constexpr std::size_t size = 8000;
  constexpr std::size_t backlog = 256 * mebibyte / size;
  std::size_t put = 0;
  std::size_t got = 0;
  std::string const pattern = text(7, size);
  for (int round = 0; round < 4; ++round) {
    for (std::size_t i = 0; i < backlog; ++i, ++put) {
      std::string m = pattern;
      m[0] = static_cast<char>(put);
      m[size - 1] = static_cast<char>(put >> 8);
      q.put(m);
    }
    if (round == 0) CHECK(arena::used_bytes() - before >= 255 * mebibyte);
    for (std::size_t i = 0; i < backlog; ++i, ++got) {
      auto const m = q.get();
      if (m.size() != size || m[0] != static_cast<char>(got) || m[size - 1] != static_cast<char>(got >> 8) ||
          m[1000] != pattern[1000])
        FAIL("message " << got << " is not what was put");
    }
    CHECK(arena::used_bytes() - before < mebibyte);
  }
  CHECK(put * size >= 1023 * mebibyte);
}

#if defined(__linux__) && !defined(POLYPROC_BACKEND_POSIX)
namespace {

/// Bytes of the family's memory that are there and that this process has seen.
std::size_t resident() {
  std::ifstream maps("/proc/self/smaps");
  auto const base = reinterpret_cast<std::uintptr_t>(polyproc::native_backend::family().base);
  bool ours = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long long from = 0;
    unsigned long long to = 0;
    unsigned long long kibibytes = 0;
    if (std::sscanf(line.c_str(), "%llx-%llx ", &from, &to) == 2) ours = from <= base && base < to;
    if (ours && std::sscanf(line.c_str(), "Rss: %llu kB", &kibibytes) == 1) return kibibytes * 1024;
  }
  throw std::runtime_error("the family's memory is not among the mappings");
}

}  // namespace

TEST_CASE_METHOD(tidy, "what queues do not need any more is given back to the system, but for less than 1 MiB") {
  polyproc::queue<std::string> q;
  auto const before = resident();
  for (std::size_t const size : {100U, 20000U, 65536U, 300000U, 5000000U}) {
    auto const m = text(1, size);
    std::size_t const count = 32 * mebibyte / size;
    for (std::size_t i = 0; i < count; ++i) q.put(m);
    CHECK(resident() >= before + count * size / 10 * 9);
    for (std::size_t i = 0; i < count; ++i) REQUIRE(q.get().size() == size);
    CHECK(resident() < before + mebibyte);
  }
}

TEST_CASE_METHOD(tidy, "large messages that come and go use the same memory again") {
  polyproc::queue<std::vector<std::byte>> q;
  auto const come = [&] {
    auto room = q.reserve(mebibyte);
    std::memset(room.data(), 1, mebibyte);
    std::move(room).commit();
  };
  auto const go = [&] { return q.view().data()[mebibyte - 1]; };
  for (int i = 0; i < 4; ++i) come();
  auto const round = [&] {
    come();
    CHECK(go() == std::byte{1});
  };
  for (int i = 0; i < 8; ++i) round();
  auto const faults = [] {
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    return used.ru_minflt;
  };
  // Memory that was asked for anew would be touched for the first time, 256 pages each.
  auto const before = faults();
  for (int i = 0; i < 50; ++i) round();
  CHECK(faults() - before < 50 * 64);
}
#endif

TEST_CASE_METHOD(tidy, "what is in a queue is what it holds of memory, for messages of every kind") {
  polyproc::queue<std::string> q;
  auto const before = arena::used_bytes();
  for (std::size_t const size : {10U, 1000U, 15000U, 100000U}) {
    std::size_t const count = 16 * mebibyte / size;
    for (std::size_t i = 0; i < std::min<std::size_t>(count, 50000); ++i) q.put(std::string(size, 'm'));
    auto const held = q.size() * (size + 16);
    CHECK(arena::used_bytes() - before <= held + held / 4 + mebibyte);
    for (std::size_t i = 0; !q.empty(); ++i) REQUIRE(q.get().size() == size);
    CHECK(arena::used_bytes() - before < mebibyte);
  }
}

TEST_CASE_METHOD(tidy, "memory goes back also when those who get are other processes") {
  polyproc::queue<std::string> q;
  polyproc::queue<std::size_t> answers;
  auto const before = arena::used_bytes();
  std::size_t bytes = 0;
  {
    for (std::size_t i = 0; i < 3000; ++i) {
      auto const m = text(i, i * 13 % 20000);
      bytes += m.size();
      q.put(m);
    }
    std::vector<polyproc::process> all;
    for (int i = 0; i < 3; ++i) all.push_back(polyproc::launch(drain_slowly, q, answers));
    for (std::size_t i = 0; i < 1000; ++i) {
      auto const m = text(i, i * 17 % 30000);
      bytes += m.size();
      q.put(m);
    }
    q.close();
    for (int i = 0; i < 3; ++i) bytes -= answers.get();
    for (auto& p : all) p.join();
  }
  CHECK(bytes == 0);
  CHECK(arena::used_bytes() - before < mebibyte);
}

TEST_CASE_METHOD(tidy, "messages have any size, up to 64 MiB here") {
  polyproc::queue<std::string> bounded(3);
  polyproc::queue<std::string> unbounded;
  for (auto* const q : {&bounded, &unbounded}) {
    auto const before = arena::used_bytes();
    for (std::size_t size = 0; size <= 64 * mebibyte; size = size < 16 ? size + 1 : size * 2 + size % 3) {
      auto const large = text(size, size);
      auto const odd = text(1, size / 3);
      q->put(large);
      q->put(odd);
      REQUIRE(q->get() == large);
      REQUIRE(q->get() == odd);
    }
    auto const largest = text(5, 64 * mebibyte);
    REQUIRE(q->try_put(largest));
    REQUIRE(q->get() == largest);
    CHECK(arena::used_bytes() - before < mebibyte);
  }
}

TEST_CASE_METHOD(tidy, "100 000 queues that came and went leave nothing") {
  { polyproc::queue<int> const first(1); }
  auto const used = arena::used_bytes();
  auto const maps = mappings();
  for (int i = 0; i < 100000; ++i) {
    polyproc::queue<int> q(1);
    if (i % 1000 == 0) {
      q.put(i);
      REQUIRE(q.get() == i);
    }
  }
  CHECK(arena::used_bytes() == used);
  CHECK(mappings() <= maps + 2);  // the heap's own
}

TEST_CASE_METHOD(tidy, "a thousand queues live at once, and each is its own") {
  auto const used = arena::used_bytes();
  {
    std::vector<polyproc::queue<std::string>> all;
    for (std::size_t i = 0; i < 1000; ++i) all.emplace_back(4);
    for (int round = 0; round < 2; ++round) {
      for (std::size_t i = 0; i < all.size(); ++i) all[i].put(text(i, i * 7 % 3000));
      for (std::size_t i = 0; i < all.size(); ++i) REQUIRE(all[i].get() == text(i, i * 7 % 3000));
    }
    for (auto const& q : all) q.put("left in it");
  }
  CHECK(arena::used_bytes() == used);
}

TEST_CASE_METHOD(tidy, "without memory a put is std::bad_alloc and changes nothing, and all that was put is there") {
  polyproc::queue<std::string> q;
  auto const before = arena::used_bytes();
  std::size_t put = 0;
  for (; put < 20; ++put) q.put(text(put, 30000));
  {
    exhausted memory;
    auto const used = arena::used_bytes();
    // Small messages have room in the chunk in use, for a while.
    for (bool full = false; !full; ++put) {
      try {
        q.put(text(put, 3000));
      } catch (std::bad_alloc const&) {
        full = true;
        --put;
      }
    }
    for (int i = 0; i < 3; ++i) {
      CHECK_THROWS_AS(q.put(text(0, 3000)), std::bad_alloc);
      CHECK_THROWS_AS(q.try_put(text(0, 100000)), std::bad_alloc);
      CHECK_THROWS_AS(q.put_for(text(0, 3000), 1h), std::bad_alloc);
      CHECK_THROWS_AS(q.reserve(100), std::bad_alloc);
      CHECK_THROWS_AS(q.put_many(std::vector<std::string>{text(0, 3000), "after it"}), std::bad_alloc);
    }
    CHECK(q.size() == put);
    CHECK(arena::used_bytes() == used);
    CHECK(arena::sound());
    // Some are taken without any memory; then others can be put.
    for (std::size_t i = 0; i < 5; ++i) CHECK(q.get() == text(i, 30000));
    q.put(text(put++, 30000));
    for (std::size_t i = 5; i < 20; ++i) CHECK(q.get() == text(i, 30000));
  }
  q.put("again");
  for (std::size_t i = 20; i + 1 < put; ++i) CHECK(q.get() == text(i, 3000));
  CHECK(q.get() == text(put - 1, 30000));
  CHECK(q.get() == "again");
  CHECK(q.empty());
  CHECK(arena::used_bytes() - before < mebibyte);
}

TEST_CASE_METHOD(tidy, "of many, those for which there is memory are put before std::bad_alloc, and no block is left") {
  polyproc::queue<std::string> q;
  {
    exhausted memory;
    for (int blocks = 3; blocks < 6; ++blocks) {
      memory.spare();
      std::vector<std::string> many;
      for (std::size_t n = 0; n < 60; ++n) many.push_back(text(n, n % 2 == 0 ? 3500 : 15000));
      CHECK_THROWS_AS(q.put_many(many), std::bad_alloc);
      auto const put = q.size();
      CHECK(put < 60);
      CHECK(put > 0);
      for (std::size_t n = 0; n < put; ++n) CHECK(q.get() == many[n]);
      CHECK(q.empty());
    }
  }
  for (int i = 0; i < 100; ++i) {
    q.put(std::string(1000, 'c'));
    (void)q.get();
  }
  auto const used = arena::used_bytes();
  q = polyproc::queue<std::string>(1000);
  CHECK(arena::used_bytes() == used);  // of the old one there was nothing but itself
}

TEST_CASE_METHOD(tidy, "without memory a lease is std::bad_alloc, and the message is there for a get") {
  polyproc::queue<std::string> q;
  q.put("small");
  q.put(std::string(100000, 'x'));
  polyproc::queue<std::string> many;
  for (std::size_t i = 0; i < 12; ++i) many.put(text(i, 50000));
  std::vector<decltype(many.view())> seen;
  {
    exhausted const memory;
    CHECK_THROWS_AS(q.lease(), std::bad_alloc);
    CHECK_THROWS_AS(q.view(), std::bad_alloc);
    CHECK(q.size() == 2);
    CHECK(q.get() == "small");
    auto const leased = q.lease();  // it has a block of its own already
    CHECK(leased->size() == 100000);
    // Nor is there any for a table of holds: what is got is copied then.
    for (int i = 0; i < 8; ++i) seen.push_back(many.view());
    CHECK_THROWS_AS(many.view(), std::bad_alloc);
    for (std::size_t i = 8; i < 12; ++i) CHECK(many.get() == text(i, 50000));
  }
  CHECK(q.get() == std::string(100000, 'x'));
  CHECK(q.empty());
}
