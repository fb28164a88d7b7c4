// timeout: 1500
// Producers and consumers of every kind on one queue, and adders on one guarded counter, in a storm of kills. The books say
// afterwards what may be missing, and it must balance.

#include "support/storm.hpp"

using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t most_lives = 2048;      // of producers
constexpr std::uint32_t most_messages = 16384;  // of one producer
constexpr std::uint32_t most_at_once = 5;       // that are put or taken in one

struct books {
  std::atomic<std::uint32_t> stop{0};
  std::atomic<std::uint32_t> confirmed[most_lives] = {};  // puts that returned
  std::atomic<std::uint8_t> seen[most_lives][most_messages] = {};
  std::atomic<std::uint32_t> torn{0};

  polyproc::mutex lock;
  std::uint64_t left = 0;  // equal to right whenever nobody holds the lock
  std::uint64_t right = 0;
  std::atomic<std::uint32_t> unequal{0};
  std::atomic<std::uint64_t> added[most_lives] = {};
};
using shared_books = polyproc::shared<books>;

/// A message: whose, its number, and what follows from these.
using message = std::vector<std::uint32_t>;
using queue = polyproc::queue<message>;
using arena = polyproc::detail::arena<polyproc::native_backend>;

std::uint32_t word(std::uint32_t life, std::uint32_t number, std::size_t i) {
  return life * 2654435761U + number * 40503U + static_cast<std::uint32_t>(i);
}
void fill(std::span<std::uint32_t> m, std::uint32_t life, std::uint32_t number) {
  m[0] = life;
  m[1] = number;
  for (std::size_t i = 2; i < m.size(); ++i) m[i] = word(life, number, i);
}
/// Mostly small, some too large for what is left of a chunk, now and then one that lies in a block of its own.
std::size_t size_of(std::uint32_t number) {
  if (number % 256 == 7) return 60000;
  if (number % 32 == 3) return 1000 + number % 1500;
  return 2 + number % 29;
}
message make(std::uint32_t life, std::uint32_t number) {
  message m(size_of(number));
  fill(m, life, number);
  return m;
}

constexpr std::uint8_t once = 1;
constexpr std::uint8_t once_in_lease = 16;

void see(books& b, std::span<std::uint32_t const> m, std::uint8_t how) {
  bool whole = m.size() >= 2 && m[0] < most_lives && m[1] < most_messages && m.size() == size_of(m[1]);
  for (std::size_t i = 2; whole && i < m.size(); ++i) whole = m[i] == word(m[0], m[1], i);
  if (!whole) {
    ++b.torn;
    return;
  }
  b.seen[m[0]][m[1]] += how;
}

void produce(queue q, shared_books b, std::uint32_t life) {
  try {
    for (std::uint32_t i = 0; i + most_at_once < most_messages && b->stop == 0;) {
      if (i % 16 < 4) {
        std::vector<message> batch;
        for (std::uint32_t n = 0; n < 1 + i % most_at_once; ++n) batch.push_back(make(life, i + n));
        q.put_many(batch);
        i += static_cast<std::uint32_t>(batch.size());
      } else if (i % 16 == 9) {
        auto room = q.reserve(size_of(i));
        fill(room.elements(), life, i);
        if (!room.commit_for(1s)) continue;
        ++i;
      } else {
        q.put(make(life, i));
        ++i;
      }
      b->confirmed[life].store(i);
      while (q.size() > 3000 && b->stop == 0) std::this_thread::sleep_for(1ms);
    }
  } catch (polyproc::queue_closed const&) {
    return;
  }
  while (b->stop == 0) std::this_thread::sleep_for(1ms);
}

/// Takes at most one along when it is killed.
void consume(queue q, shared_books b) {
  try {
    for (int i = 0;; ++i) {
      if (i % 4 == 0) {
        auto const seen = q.view();
        see(*b, seen.elements(), once);
      } else {
        see(*b, q.get(), once);
      }
    }
  } catch (polyproc::queue_closed const&) {
  }
}
/// Takes at most so many along as one batch has.
void consume_many(queue q, shared_books b) {
  try {
    for (std::uint32_t i = 0;; ++i)
      for (auto const& m : q.get_many(1 + i % most_at_once)) see(*b, m, once);
  } catch (polyproc::queue_closed const&) {
  }
}
/// Takes none along, but may have seen one that comes back.
void lease(queue q, shared_books b) {
  try {
    for (int i = 0;; ++i) {
      auto one = q.lease();
      if (i % 7 == 0) continue;  // gives it back
      if (auto another = q.try_lease(); another && i % 3 == 0) {
        see(*b, **another, once_in_lease);
        another->ack();
      }
      see(*b, *one, once_in_lease);
      one.ack();
    }
  } catch (polyproc::queue_closed const&) {
  }
}

void add(shared_books b, std::uint32_t life) {
  while (b->stop == 0) {
    try {
      std::scoped_lock hold{b->lock};
      if (b->left != b->right) ++b->unequal;
      ++b->left;
      ++b->right;
    } catch (polyproc::owner_died const&) {
      b->lock.recover([&] { b->right = b->left; });
      continue;
    }
    ++b->added[life];
  }
}

/// Blocks of the family's memory that serve a queue.
std::size_t queue_blocks() {
  std::size_t count = 0;
  arena::sweep([&](polyproc::detail::block_tag const&, std::uint64_t) {
    ++count;
    return false;
  });
  return count;
}

void rage(queue const& q, char const* what) {
  shared_books b;
  auto const blocks = queue_blocks();
  storm all(0.5);
  auto const producers = all.add(
      "producers", 4, [&](std::uint32_t life) { return polyproc::launch(produce, q, b, life); }, most_lives);
  auto const consumers = all.add("consumers", 2, [&](std::uint32_t) { return polyproc::launch(consume, q, b); });
  auto const batchers = all.add("batchers", 2, [&](std::uint32_t) { return polyproc::launch(consume_many, q, b); });
  auto const leasers = all.add("leasers", 3, [&](std::uint32_t) { return polyproc::launch(lease, q, b); });
  auto const adders = all.add(
      "adders", 2, [&](std::uint32_t life) { return polyproc::launch(add, b, life); }, most_lives);
  all.rage();
  b->stop = 1;
  all.finish(producers);
  q.close();
  all.finish(consumers);
  all.finish(batchers);
  all.finish(leasers);
  all.finish(adders);

  std::uint64_t put = 0;
  std::uint64_t missing = 0;
  std::uint64_t twice = 0;
  std::uint64_t twice_for_no_reason = 0;
  std::uint64_t invented = 0;
  for (std::uint32_t life = 0; life < all.lives(producers); ++life) {
    auto const confirmed = b->confirmed[life].load();
    put += confirmed;
    for (std::uint32_t i = 0; i < most_messages; ++i) {
      unsigned const n = b->seen[life][i].load();
      auto const times = n % once_in_lease + n / once_in_lease;
      if (times > 1) {
        twice += times - 1;
        if (n / once_in_lease == 0 || n % once_in_lease > 1) ++twice_for_no_reason;
      }
      if (i < confirmed && n == 0) ++missing;
      // Those in hand may have been put whole by a dying producer.
      if (i >= confirmed + most_at_once && n != 0) ++invented;
    }
  }
  if (b->lock.owner_is_dead()) b->lock.recover([&] { b->right = b->left; });
  std::uint64_t added = 0;
  for (auto const& a : b->added) added += a.load();

  all.report(what, std::to_string(put) + " messages, " + std::to_string(missing) + " missing, " + std::to_string(twice) +
                       " leased ones seen twice; " + std::to_string(b->left) + " additions");
  INFO("POLYPROC_STORM_SEED=" << all.seed());
  CHECK(put > 0);
  CHECK(b->torn == 0);
  CHECK(missing <= all.killed(consumers) + most_at_once * all.killed(batchers));
  CHECK(twice <= all.killed(leasers));
  CHECK(twice_for_no_reason == 0);
  CHECK(invented == 0);
  CHECK(q.empty());
  CHECK_FALSE(q.get_for(100ms));
  CHECK(b->unequal == 0);
  CHECK(b->left == b->right);
  CHECK(b->left >= added);
  CHECK(b->left - added <= all.killed(adders));
  // What the killed had reserved is found by those who reserve. What stays is the table of holds and the chunk in use.
  for (int i = 0; i < 40; ++i) (void)q.reserve(1);
  CHECK(queue_blocks() <= blocks + 2);
  CHECK(arena::sound());
}

}  // namespace

TEST_CASE_METHOD(tidy, "[H33] in a storm of kills each killed consumer accounts for one message or batch, none if leased") {
  rage(queue(64), "a queue and a mutex");
}

TEST_CASE_METHOD(tidy, "[H33] the same without a bound, with chunks that come and go") {
  rage(queue(), "a queue without a bound and a mutex");
}
