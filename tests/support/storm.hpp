/// A storm: processes at work, of which a random one is killed, stopped for a while, or left alone for a while, every few
/// milliseconds, for a given time. The killed are replaced. What may be missing afterwards is in the test's own ledger.
/// POLYPROC_STORM_SECONDS sets how long (default 5), POLYPROC_STORM_SEED repeats a choice of victims.
#pragma once

#include "support/tidy.hpp"

#include <functional>
#include <random>
#include <vector>

class storm {
 public:
  template <class T>
  static T setting(char const* name, T otherwise) {
    char const* const text = std::getenv(name);
    return text == nullptr ? otherwise : static_cast<T>(std::strtoull(text, nullptr, 10));
  }

  /// `share` of the time that is set.
  explicit storm(double share = 1.0)
      : time_(static_cast<long long>(1000 * share * setting<double>("POLYPROC_STORM_SECONDS", 5))),
        seed_(setting<unsigned>("POLYPROC_STORM_SEED", std::random_device{}())),
        random_(seed_) {}

  /// `count` processes of a kind at once; begin(life) starts the life-th of the kind. At most most_lives in all.
  std::size_t add(char const* kind, int count, std::function<polyproc::process(std::uint32_t life)> begin,
                  std::uint32_t most_lives = 100000) {
    kinds_.push_back({kind, std::move(begin), most_lives});
    for (int i = 0; i < count; ++i) {
      actors_.push_back({kinds_.size() - 1, {}});
      begin_life(actors_.back());
    }
    return kinds_.size() - 1;
  }

  void rage() {
    using namespace std::chrono_literals;
    auto const end = std::chrono::steady_clock::now() + time_;
    while (std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1 + random_() % 30));
      auto& victim = actors_[random_() % actors_.size()];
      if (victim.ended) continue;
      auto& kind = kinds_[victim.kind];
      if (random_() % 8 == 0) {
        victim.process.ask(polyproc::child_request::stop);
        std::this_thread::sleep_for(std::chrono::milliseconds(random_() % 20));
        victim.process.ask(polyproc::child_request::resume);
        ++stopped_;
        continue;
      }
      if (kind.lives >= kind.most_lives) continue;
      victim.process.kill();
      victim.process.join();
      // One that had come to its own end just before was not killed.
      if (victim.process.exit_code() != 0) ++kind.killed;
      begin_life(victim);
    }
  }

  /// Those of a kind come to their own end within a minute, all well.
  void finish(std::size_t kind) {
    for (auto& a : actors_) {
      if (a.kind != kind) continue;
      INFO("a " << kinds_[kind].name << " hangs; POLYPROC_STORM_SEED=" << seed_);
      REQUIRE(a.process.join_for(std::chrono::seconds(60)));
      CHECK(a.process.exit_code() == 0);
      a.ended = true;
    }
  }

  [[nodiscard]] std::uint32_t lives(std::size_t kind) const { return kinds_[kind].lives; }
  [[nodiscard]] unsigned killed(std::size_t kind) const { return kinds_[kind].killed; }
  [[nodiscard]] unsigned seed() const { return seed_; }

  void report(char const* what, std::string const& ledger) const {
    std::printf("storm: %s, %.1f s, seed %u:", what, static_cast<double>(time_.count()) / 1000, seed_);
    for (auto const& k : kinds_) std::printf(" %u %s killed,", k.killed, k.name);
    std::printf(" %u stopped; %s\n", stopped_, ledger.c_str());
    std::fflush(stdout);
  }

 private:
  struct species {
    char const* name;
    std::function<polyproc::process(std::uint32_t)> begin;
    std::uint32_t most_lives;
    std::uint32_t lives = 0;
    unsigned killed = 0;
  };
  struct actor {
    std::size_t kind;
    polyproc::process process;
    bool ended = false;
  };
  void begin_life(actor& a) { a.process = kinds_[a.kind].begin(kinds_[a.kind].lives++); }

  std::chrono::milliseconds time_;
  unsigned seed_;
  std::mt19937 random_;
  std::vector<species> kinds_;
  std::vector<actor> actors_;
  unsigned stopped_ = 0;
};
