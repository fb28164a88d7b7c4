#include "support/tidy.hpp"

#include <polyproc/backend/thread_own.hpp>

#include <algorithm>
#include <array>
#include <thread>

using polyproc::detail::thread_own;

namespace {

std::atomic<int> made{0};
std::atomic<int> whole{0};

struct noticed {
  std::array<unsigned char, 200> content{};
  noticed() {
    content.fill(7);
    ++made;
  }
  noticed(noticed const&) = delete;
  noticed& operator=(noticed const&) = delete;
  ~noticed() {
    if (std::all_of(content.begin(), content.end(), [](unsigned char c) { return c == 7; })) ++whole;
  }
};
struct another {};

}  // namespace

TEST_CASE("what a thread has of its own is whole when it is destroyed, at the thread's end") {
  for (int i = 0; i < 20; ++i) {
    std::thread([] {
      auto* const mine = &thread_own<noticed>();
      auto* const other = &thread_own<noticed, another>();
      if (mine == other || mine != &thread_own<noticed>()) made = -1000;
      thread_own<std::vector<int>>().assign(1000, 3);
      thread_own<std::shared_ptr<int>>() = std::make_shared<int>(3);
    }).join();
  }
  CHECK(made == 40);
  CHECK(whole == 40);
}
