#include "support/tidy.hpp"

#include <array>

using namespace std::chrono_literals;
using polyproc::process;

namespace {

using backend = polyproc::native_backend;
using arena = polyproc::detail::arena<backend>;
using later = polyproc::detail::later_frees<backend>;

constexpr std::uint64_t some_owner = 128;  // tags only need to be the same
constexpr std::uint64_t other_owner = 192;

struct holder_state {
  std::atomic<int> holds{0};
};

/// Keeps the books of shared memory locked, as one does who is stopped at the wrong moment.
void hold_the_books(polyproc::shared<holder_state> said) {
  (void)arena::sweep([&](polyproc::detail::block_tag const&, std::uint64_t) -> bool {
    said->holds = 1;
    while (said->holds == 1) std::this_thread::sleep_for(1ms);
    return false;
  });
}

/// The same for all: who is killed keeps what he was given.
polyproc::shared<holder_state>& said() {
  static auto* const one = new polyproc::shared<holder_state>;
  return *one;
}

/// Somebody who holds the books, as long as this lives.
class held_books {
 public:
  held_books() : tagged_(arena::allocate(1, {some_owner, 0})), holder_({.daemon = true}, hold_the_books, said()) {
    said()->holds = 0;
    holder_.start();
    while (said()->holds == 0) std::this_thread::sleep_for(1ms);
  }
  ~held_books() {
    let_go();
    arena::free(tagged_);
  }
  held_books(held_books const&) = delete;
  held_books& operator=(held_books const&) = delete;
  /// It goes on by itself.
  void resume() { said()->holds = 2; }
  /// It is killed.
  void let_go() {
    if (!holder_.is_alive()) return;
    holder_.kill();
    holder_.join();
  }

 private:
  std::uint64_t tagged_;
  process holder_;
};

struct ending_gate {
  std::atomic<int> ready{0};
  std::atomic<int> go{0};
};
using large_thing = polyproc::shared<std::array<char, 1000000>>;
/// Ends in order while it has something to give back and cannot, and holds what its parent holds too.
void end_with_a_note(polyproc::shared<ending_gate> gate, large_thing both) {
  auto mine = std::make_unique<polyproc::shared<int>>();
  gate->ready = 1;
  while (gate->go == 0) std::this_thread::sleep_for(1ms);
  mine.reset();
  (*both)[0] = later::behind() ? 'n' : '-';
}

std::size_t used() {
  (void)said();
  return arena::used_bytes();
}

}  // namespace

TEST_CASE_METHOD(tidy, "giving back waits for nobody who holds the books, and is made good when they are free") {
  auto const before = used();
  {
    auto const one = arena::allocate(100000);
    auto const owner = arena::allocate(64);
    (void)arena::allocate(50000, {owner, 1});
    (void)arena::allocate(50000, {owner, 2});
    (void)arena::allocate(50000, {other_owner, 7});
    held_books books;
    auto const begin = std::chrono::steady_clock::now();
    later::free(one);
    later::sweep(polyproc::detail::block_tag{owner, 2});
    later::let_go(owner, [](std::uint64_t) noexcept { return true; });
    later::sweep(polyproc::detail::block_tag{other_owner, 7});
    CHECK_FALSE(later::catch_up());
    CHECK(later::behind());
    CHECK(std::chrono::steady_clock::now() - begin < 10s);
    books.let_go();
    CHECK(later::catch_up(backend::now() + 10s));
    CHECK_FALSE(later::behind());
  }
  CHECK(used() == before);
}

TEST_CASE_METHOD(tidy, "an object is held as long as its blocks are to be given back") {
  static std::atomic<int> asked;
  asked = 0;
  auto const before = used();
  {
    auto const owner = arena::allocate(64);
    auto const block = arena::allocate(50000, {owner, 1});
    held_books books;
    later::free(block);
    later::let_go(owner, [](std::uint64_t) noexcept {
      ++asked;
      return false;  // others hold it
    });
    CHECK(asked == 0);
    books.let_go();
    CHECK(later::catch_up(backend::now() + 10s));
    CHECK(asked == 1);
    arena::free(owner);
  }
  CHECK(used() == before);
}

TEST_CASE_METHOD(tidy, "who ends while the books are held still lets go of what others hold") {
  polyproc::shared<ending_gate> gate;
  auto const before = used();
  {
    large_thing both;
    (*both)[0] = '?';
    process child({.daemon = true}, end_with_a_note, gate, both);
    child.start();
    while (gate->ready == 0) std::this_thread::sleep_for(1ms);
    held_books books;
    gate->go = 1;
    REQUIRE(child.join_for(60s));
    CHECK(child.exit_code() == 0);
    CHECK((*both)[0] == 'n');
    books.let_go();
  }
  CHECK(later::catch_up(backend::now() + 10s));
  // What the child alone had, and was still to give back, is lost; not what we had too.
  CHECK(used() < before + 500000);
}

TEST_CASE_METHOD(tidy, "what could not be given back is so though this process does nothing more, and nobody asks") {
  auto const before = used();
  {
    auto const block = arena::allocate(50000);
    held_books books;
    later::free(block);
    REQUIRE(later::behind());
    books.resume();
    for (auto const end = std::chrono::steady_clock::now() + 20s; later::behind() && std::chrono::steady_clock::now() < end;)
      std::this_thread::sleep_for(1ms);
    CHECK_FALSE(later::behind());
  }
  CHECK(used() == before);
}

TEST_CASE_METHOD(tidy, "who asks for memory now is told when somebody holds the books, and gets it afterwards") {
  auto const before = used();
  {
    held_books books;
    for (int i = 0; i < 100; ++i) CHECK_FALSE(later::allocate(100, {}));
    CHECK_THROWS_AS(polyproc::detail::allocated_now<backend>(100, {}), polyproc::detail::books_held);
    books.let_go();
    auto const got = later::allocate(100, {});
    REQUIRE(got);
    later::free(*got);
  }
  CHECK(used() == before);
}

TEST_CASE_METHOD(tidy, "shared things are let go while somebody holds the books, and their memory comes back at the next use") {
  auto const before = used();
  {
    auto value = std::make_unique<polyproc::shared<std::array<char, 100000>>>();
    auto queue = std::make_unique<polyproc::queue<std::string>>();
    for (int i = 0; i < 10; ++i) queue->put(std::string(50000, 'q'));
    held_books books;
    value.reset();
    queue.reset();
    CHECK(later::behind());
    books.let_go();
    arena::free(arena::allocate(1));
    CHECK(later::catch_up(backend::now() + 10s));
  }
  CHECK(used() == before);
}
