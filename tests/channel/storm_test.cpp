// timeout: 1500
// Producers and consumers on one queue and adders on one guarded counter in a storm of kills. The books say afterwards
// what may be missing, and it must balance.

#include "support/storm.hpp"

using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t most_lives = 2048;      // of producers
constexpr std::uint32_t most_messages = 16384;  // of one producer
constexpr int each_kind = 4;

struct message {
  std::uint32_t life = 0;
  std::uint32_t number = 0;
  std::string padding;
};

struct books {
  std::atomic<std::uint32_t> stop{0};
  std::atomic<std::uint32_t> confirmed[most_lives] = {};  // puts that returned
  std::atomic<std::uint8_t> seen[most_lives][most_messages] = {};
  std::atomic<std::uint64_t> taken{0};

  polyproc::mutex lock;
  std::uint64_t left = 0;  // equal to right whenever nobody holds the lock
  std::uint64_t right = 0;
  std::atomic<std::uint32_t> unequal{0};
  std::atomic<std::uint64_t> added[most_lives] = {};
};
using shared_books = polyproc::shared<books>;
using queue = polyproc::queue<message>;

void produce(queue q, shared_books b, std::uint32_t life) {
  try {
    for (std::uint32_t i = 0; i < most_messages && b->stop == 0; ++i) {
      // Now and then one that lies in a block of its own.
      q.put({life, i, std::string(i % 512 == 0 ? 300000 : i % 97, 'p')});
      b->confirmed[life].store(i + 1);
    }
  } catch (polyproc::queue_closed const&) {
    return;
  }
  while (b->stop == 0) std::this_thread::sleep_for(1ms);
}

void consume(queue q, shared_books b) {
  for (auto const& m : q) {
    ++b->seen[m.life][m.number];
    ++b->taken;
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

}  // namespace

TEST_CASE_METHOD(tidy, "[H33] a storm of kills loses at most one message per killed consumer, and nothing else") {
  shared_books b;
  queue q(64);
  storm all;
  auto const producers = all.add("producers", each_kind, [&](std::uint32_t life) { return polyproc::launch(produce, q, b, life); }, most_lives);
  auto const consumers = all.add("consumers", each_kind, [&](std::uint32_t) { return polyproc::launch(consume, q, b); });
  auto const adders = all.add("adders", each_kind, [&](std::uint32_t life) { return polyproc::launch(add, b, life); }, most_lives);
  all.rage();
  b->stop = 1;
  all.finish(producers);
  q.close();
  all.finish(consumers);
  all.finish(adders);

  std::uint64_t put = 0;
  std::uint64_t missing = 0;
  std::uint64_t twice = 0;
  std::uint64_t invented = 0;
  for (std::uint32_t life = 0; life < all.lives(producers); ++life) {
    auto const confirmed = b->confirmed[life].load();
    put += confirmed;
    for (std::uint32_t i = 0; i < most_messages; ++i) {
      auto const n = b->seen[life][i].load();
      if (n > 1) ++twice;
      if (i < confirmed && n == 0) ++missing;
      if (i > confirmed && n != 0) ++invented;  // number `confirmed` itself may have been put whole by a dying producer
    }
  }
  if (b->lock.owner_is_dead()) b->lock.recover([&] { b->right = b->left; });
  std::uint64_t added = 0;
  for (auto const& a : b->added) added += a.load();

  all.report("a queue and a mutex", std::to_string(put) + " messages, " + std::to_string(missing) + " missing; " +
                                         std::to_string(b->left) + " additions");
  CHECK(put > 0);
  CHECK(missing <= all.killed(consumers));
  CHECK(twice == 0);
  CHECK(invented == 0);
  CHECK(q.empty());
  CHECK(b->unequal == 0);
  CHECK(b->left == b->right);
  CHECK(b->left >= added);
  CHECK(b->left - added <= all.killed(adders));
}
