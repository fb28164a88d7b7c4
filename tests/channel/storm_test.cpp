// Producers and consumers on one queue and adders on one guarded counter, while a random one of them is killed (or
// stopped for a while) and replaced every 20 ms. The books say afterwards what may be missing, and it must balance.
// POLYPROC_STORM_SECONDS sets how long (default 5), POLYPROC_STORM_SEED repeats a choice of victims.

#include "support/tidy.hpp"

#include <random>

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

struct actor {
  enum { producer, consumer, adder } kind = producer;
  polyproc::process process;
};

template <class T>
T setting(char const* name, T otherwise) {
  char const* const text = std::getenv(name);
  return text == nullptr ? otherwise : static_cast<T>(std::strtoull(text, nullptr, 10));
}

}  // namespace

TEST_CASE_METHOD(tidy, "[H33] a storm of kills loses at most one message per killed consumer, and nothing else") {
  auto const seconds = setting<unsigned>("POLYPROC_STORM_SECONDS", 5);
  auto const seed = setting<unsigned>("POLYPROC_STORM_SEED", std::random_device{}());
  CAPTURE(seed);
  std::mt19937 random{seed};

  shared_books b;
  queue q(64);
  std::uint32_t lives = 0;
  std::uint32_t adders = 0;
  unsigned killed[3] = {};
  std::vector<actor> actors(3 * each_kind);
  auto const begin_life = [&](actor& a) {
    switch (a.kind) {
      case actor::producer: a.process = polyproc::launch(produce, q, b, lives++); break;
      case actor::consumer: a.process = polyproc::launch(consume, q, b); break;
      case actor::adder: a.process = polyproc::launch(add, b, adders++); break;
    }
  };
  for (std::size_t i = 0; i < actors.size(); ++i) {
    actors[i].kind = static_cast<decltype(actor::kind)>(i % 3);
    begin_life(actors[i]);
  }

  auto const end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (std::chrono::steady_clock::now() < end && lives < most_lives && adders < most_lives) {
    std::this_thread::sleep_for(20ms);
    auto& victim = actors[random() % actors.size()];
    if (random() % 8 == 0) {
      victim.process.ask(polyproc::child_request::stop);
      std::this_thread::sleep_for(10ms);
      victim.process.ask(polyproc::child_request::resume);
      continue;
    }
    victim.process.kill();
    victim.process.join();
    ++killed[victim.kind];
    begin_life(victim);
  }

  b->stop = 1;
  auto const finish = [&](auto kind) {
    for (auto& a : actors) {
      if (a.kind != kind) continue;
      INFO("a " << kind << " hangs");
      REQUIRE(a.process.join_for(60s));
      CHECK(a.process.exit_code() == 0);
    }
  };
  finish(actor::producer);
  q.close();
  finish(actor::consumer);
  finish(actor::adder);

  std::uint64_t put = 0;
  std::uint64_t missing = 0;
  std::uint64_t twice = 0;
  std::uint64_t invented = 0;
  for (std::uint32_t life = 0; life < lives; ++life) {
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

  std::printf("storm of %u s, seed %u: %llu messages, %llu missing (%u consumers killed), %u producers killed; "
              "%llu additions, %u adders killed\n",
              seconds, seed, static_cast<unsigned long long>(put), static_cast<unsigned long long>(missing),
              killed[actor::consumer], killed[actor::producer], static_cast<unsigned long long>(b->left),
              killed[actor::adder]);
  CHECK(put > 0);
  CHECK(missing <= killed[actor::consumer]);
  CHECK(twice == 0);
  CHECK(invented == 0);
  CHECK(q.empty());
  CHECK(b->unequal == 0);
  CHECK(b->left == b->right);
  CHECK(b->left >= added);
  CHECK(b->left - added <= killed[actor::adder]);
}
