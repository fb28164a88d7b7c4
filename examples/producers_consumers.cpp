// Five producers, five consumers, one queue.
//
//   producers_consumers [--start fork|spawn|forkserver]
//
// What to look at: each of them is an object with run() that carries the queue; the process that is made of it gets a copy, and
// the copy's queue is the same queue. Each producer puts 1000 items. When all have ended, an end mark for each consumer is put
// behind the last item. Whoever is done reports what it did and how long that took.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace {

using example::say;
using milliseconds = std::chrono::milliseconds;

constexpr int producers = 5;
constexpr int consumers = 5;
constexpr int each = 1000;

struct item {
  int producer = 0;
  int number = 0;
};
/// Nothing is the end mark.
using items = polyproc::queue<std::optional<item>>;

struct report {
  std::string who;
  int count = 0;
  bool in_order = true;  // each producer's items came in the order in which they were put
  milliseconds took{};
};
using reports = polyproc::queue<report>;

class stopwatch {
 public:
  [[nodiscard]] milliseconds elapsed() const {
    return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin_);
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

struct producer {
  int number = 0;
  items out;
  reports done;

  void run() const {
    stopwatch const time;
    for (int n = 0; n < each; ++n) out.put(item{number, n});
    done.put({"producer " + std::to_string(number), each, true, time.elapsed()});
  }
};

struct consumer {
  int number = 0;
  items in;
  reports done;

  void run() const {
    stopwatch const time;
    std::vector<int> last(producers, -1);
    report mine{.who = "consumer " + std::to_string(number)};
    while (auto const got = in.get()) {
      ++mine.count;
      auto& before = last[static_cast<std::size_t>(got->producer)];
      mine.in_order = mine.in_order && before < got->number;
      before = got->number;
    }
    mine.took = time.elapsed();
    done.put(mine);
  }
};

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "producers_consumers");

  stopwatch const time;
  items const q(100);
  reports const done;
  std::vector<polyproc::process> making;
  std::vector<polyproc::process> taking;
  for (int i = 0; i < producers; ++i) making.push_back(polyproc::launch(producer{i, q, done}));
  for (int i = 0; i < consumers; ++i) taking.push_back(polyproc::launch(consumer{i, q, done}));

  for (auto& p : making) p.join();
  for (int i = 0; i < consumers; ++i) q.put(std::nullopt);
  for (auto& c : taking) c.join();

  auto all = done.get_many(producers + consumers);  // those who reported have ended: all are there
  std::sort(all.begin(), all.end(), [](report const& a, report const& b) { return a.who < b.who; });
  int put = 0;
  int got = 0;
  bool in_order = true;
  for (auto const& r : all) {
    bool const puts = r.who.starts_with("producer");
    (puts ? put : got) += r.count;
    in_order = in_order && r.in_order;
    say(r.who, (puts ? " put " : " got "), r.count, " items in ", r.took.count(), " ms");
  }
  say("main: ", put, " items were put and ", got, " were got, ", in_order ? "each producer's in order" : "NOT IN ORDER", "; ",
      q.size(), " are left");
  say("main: all of it took ", time.elapsed().count(), " ms");
}
