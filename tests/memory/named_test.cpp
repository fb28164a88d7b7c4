#include "support/stage.hpp"
#include "support/tidy.hpp"

#include <cstdio>

using namespace std::chrono_literals;

namespace {

constexpr bool survives = polyproc::native_backend::named_survives;

/// A name of this run's own, which is gone at the end whatever happens.
struct name_of_test {
  std::string text = "test-" + std::to_string(polyproc::native_backend::current_pid()) + "-" + std::to_string(next++);
  ~name_of_test() { polyproc::shared_segment::remove(text); }
  operator std::string_view() const { return text; }
  static inline int next = 0;
};

struct account {
  polyproc::mutex lock;
  long balance = 0;
  long mirror = 0;
};
struct start {
  long value;
};
struct fails {
  fails() { throw std::runtime_error("no"); }
};

void deposit(std::string name, int times) {
  auto const a = polyproc::shared<account>::open(name);
  for (int i = 0; i < times; ++i) {
    std::scoped_lock hold{a->lock};
    ++a->balance;
    ++a->mirror;
  }
}
void deposit_by_handle(polyproc::shared<account> a) {
  std::scoped_lock hold{a->lock};
  ++a->balance;
}
void die_with_the_lock(std::string name, polyproc::shared<stage> s) {
  auto const a = polyproc::shared<account>::open(name);
  a->lock.lock();
  ++a->balance;
  s->add();
  sleep_until_killed();
}
void create_and_exit(std::string name) { (void)polyproc::shared<start>::create(name, {}, 5L); }
void create_and_stay(std::string name, polyproc::lifetime lives, polyproc::shared<stage> s) {
  auto const mine = polyproc::shared<start>::create(name, {.lifetime = lives}, 5L);
  s->add();
  sleep_until_killed();
}
void create_half(std::string name, polyproc::shared<stage> s) {
  struct slow {
    explicit slow(stage* at) {
      at->add();
      sleep_until_killed();
    }
    using polyproc_shareable = void;
  };
  (void)polyproc::shared<slow>::create(name, {}, s.get());
}
long race(std::string name, long mine) { return polyproc::shared<start>::open_or_create(name, {}, mine)->value; }
void write_read_only(std::string name) { const_cast<long&>(polyproc::shared<start const>::open(name)->value) = 1; }
int sees(std::string name) { return polyproc::shared<start>::try_open(name) ? 1 : 0; }

template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (polyproc::handle_error const& e) {
    return e.what();
  }
  return {};
}

}  // namespace

TEST_CASE_METHOD(tidy, "a named object is one for all who open the name, with its locks") {
  name_of_test name;
  auto a = polyproc::shared<account>::create(name);
  CHECK(a.name() == name.text);
  std::vector<polyproc::process> all;
  for (int i = 0; i < 3; ++i) all.push_back(polyproc::launch(deposit, name.text, 3000));
  deposit(name.text, 3000);
  for (auto& p : all) {
    p.join();
    CHECK(p.exit_code() == 0);
  }
  CHECK(a->balance == 12000);
  auto p = polyproc::launch(deposit_by_handle, a);
  p.join();
  CHECK(a->balance == 12001);
  CHECK_THROWS_AS(polyproc::shared<account>::create(name), std::system_error);
  CHECK(polyproc::shared<account>::open_or_create(name)->balance == 12001);
}

TEST_CASE_METHOD(tidy, "[H21] the death of a holder is told of in named memory too") {
  name_of_test name;
  auto a = polyproc::shared<account>::create(name);
  polyproc::shared<stage> s;
  auto p = polyproc::launch(die_with_the_lock, name.text, s);
  s->await(1);
  CHECK_FALSE(a->lock.try_lock_for(20ms));
  p.kill();
  p.join();
  CHECK(time_of([&] { CHECK_THROWS_AS(a->lock.lock(), polyproc::owner_died); }) < soon);
  a->lock.recover([&] { a->balance = a->mirror; });
  deposit(name.text, 1);
  CHECK(a->balance == 1);
}

TEST_CASE_METHOD(tidy, "[H25] who opens a name and ends does not take it away from the others") {
  name_of_test name;
  auto const mine = polyproc::shared<start>::create(name, {}, 5L);
  polyproc::process_pool pool(1);
  CHECK(pool.apply(sees, name.text) == 1);
  pool.close();
  pool.join();
  auto p = polyproc::launch([](std::string of) { (void)polyproc::shared<start>::open(of); polyproc::native_backend::exit_now(3); },
                            name.text);
  p.join();
  CHECK(polyproc::shared<start>::try_open(name));
}

TEST_CASE_METHOD(tidy, "[H27] no process and no thread keeps books of shared memory") {
  name_of_test name;
  auto const before = inventory::take();
  polyproc::shared<account> const anonymous;
  auto const named = polyproc::shared<account>::create(name, {.lifetime = polyproc::lifetime::owner});
  polyproc::shared_array<long> const array(1000);
  polyproc::shared_heap const heap(10000);
  auto const during = inventory::take();
  CHECK(during.children == before.children);
  CHECK(during.threads == before.threads);
}

TEST_CASE_METHOD(tidy, "[H28] a name lives as long as the backend says, and what was opened longer") {
  name_of_test name;
  auto p = polyproc::launch(create_and_exit, name.text);
  p.join();
  CHECK(p.exit_code() == 0);
  CHECK(polyproc::shared<start>::try_open(name).has_value() == survives);
  auto const held = polyproc::shared<start>::open_or_create(name, {}, 5L);
  CHECK(polyproc::shared<start>::remove(name));
  CHECK_FALSE(polyproc::shared<start>::remove(name));
  CHECK_FALSE(polyproc::shared<start>::try_open(name));
  CHECK(held->value == 5);
  if (survives) {
    auto const next = polyproc::shared<start>::create(name, {}, 6L);
    CHECK(held->value == 5);
    CHECK(next->value == 6);
    CHECK_FALSE(held == next);
  }
}

TEST_CASE_METHOD(tidy, "[H26] a name with a dead owner is reclaimed, one with a living owner is not") {
  name_of_test name;
  polyproc::shared<stage> s;
  auto owner = polyproc::launch(create_and_stay, name.text, polyproc::lifetime::owner, s);
  s->await(1);
  {
    auto const opened = polyproc::shared<start>::try_open(name);
    REQUIRE(opened);
    CHECK_THROWS_AS(polyproc::shared<start>::create(name, {}, 6L), std::system_error);
  }
  owner.kill();
  owner.join();
  CHECK_FALSE(polyproc::shared<start>::try_open(name));
  auto const next = polyproc::shared<start>::create(name, {}, 6L);
  CHECK(next->value == 6);

  name_of_test other;
  auto lasting = polyproc::launch(create_and_stay, other.text, polyproc::lifetime::until_removed, s);
  s->await(2);
  lasting.kill();
  lasting.join();
  CHECK(polyproc::shared<start>::try_open(other).has_value() == survives);
}

TEST_CASE_METHOD(tidy, "the owner's last handle removes the name") {
  name_of_test name;
  {
    auto const mine = polyproc::shared<start>::create(name, {.lifetime = polyproc::lifetime::owner}, 5L);
    auto const copy = mine;
    // A thread's end is not the process's.
    std::thread([&] { CHECK(polyproc::shared<start>::try_open(name)); }).join();
  }
  CHECK_FALSE(polyproc::shared<start>::try_open(name));
}

TEST_CASE_METHOD(tidy, "a creator that dies or fails half-way leaves no name") {
  name_of_test name;
  polyproc::shared<stage> s;
  auto p = polyproc::launch(create_half, name.text, s);
  s->await(1);
  p.kill();
  p.join();
  CHECK_FALSE(polyproc::shared<start>::try_open(name));
  CHECK_THROWS_AS((polyproc::shared_array<long>::create(name, std::size_t{1} << 62)), std::exception);
  CHECK_FALSE(polyproc::shared<start>::try_open(name));
  CHECK(polyproc::shared<start>::create(name, {}, 7L)->value == 7);
}

TEST_CASE_METHOD(tidy, "all who open or create a name at once get the same object") {
  for (int round = 0; round < 5; ++round) {
    name_of_test name;
    auto const held = round % 2 == 0 ? std::optional<polyproc::shared<start>>{} : polyproc::shared<start>::open_or_create(name, {}, 99L);
    polyproc::process_pool pool(4);
    std::vector<polyproc::future<long>> results;
    for (long i = 1; i <= 8; ++i) results.push_back(pool.submit(race, name.text, i));
    std::set<long> seen;
    for (auto& r : results) seen.insert(r.get());
    // Where names do not survive, each may have been alone.
    if (survives || held) CHECK(seen.size() == 1);
  }
}

TEST_CASE_METHOD(tidy, "[H30] what has the name must be what is wanted, or is refused with a sentence") {
  name_of_test name;
  auto const made = polyproc::shared<account>::create(name);
  auto const other_type = refusal([&] { (void)polyproc::shared<start>::open(name); });
  CHECK(other_type.find("another type") != std::string::npos);
  CHECK(refusal([&] { (void)polyproc::shared_array<long>::open(name); }).find("another type") != std::string::npos);
  CHECK(refusal([&] { (void)polyproc::shared_segment::open(name); }).find("another type") != std::string::npos);
  CHECK(refusal([&] { (void)polyproc::shared<start>::open_or_create(name, {}, 1L); }) == other_type);
  name_of_test array;
  auto const ten = polyproc::shared_array<char>::create(array, 10);
  CHECK(polyproc::shared_array<char>::open(array).size() == 10);  // as asked, not rounded up to pages
  CHECK(polyproc::shared_array<char>::open_or_create(array, 99).size() == 10);

  // Made by something else: no mark, another size.
  name_of_test foreign;
  auto const raw = polyproc::native_backend::name_create(foreign.text, 100, 0600, nullptr, nullptr);
  REQUIRE(raw);
  CHECK(refusal([&] { (void)polyproc::shared<start>::open(foreign); }).find("not polyproc's") != std::string::npos);
  polyproc::native_backend::name_close(*raw);
  name_of_test damaged;
  auto const whole = polyproc::shared<account>::create(damaged);
  auto const header = polyproc::native_backend::name_open(damaged.text, true);
  REQUIRE(header);
  auto& size = reinterpret_cast<polyproc::detail::block_header<polyproc::native_backend>*>(header->base)->size;
  size = 1 << 20;
  CHECK(refusal([&] { (void)polyproc::shared<account>::open(damaged); }).find("smaller than it was made") != std::string::npos);
  size = sizeof(account);
  polyproc::native_backend::name_close(*header);

  CHECK_THROWS_AS(polyproc::shared<start>::open("no/slashes"), std::invalid_argument);
  CHECK_THROWS_AS(polyproc::shared<start>::open("test-there-is-none"), std::system_error);
}

TEST_CASE_METHOD(tidy, "a named object opened for reading only cannot be written") {
  name_of_test name;
  auto const made = polyproc::shared<start>::create(name, {}, 5L);
  auto const seen = polyproc::shared<start const>::open(name);
  CHECK(seen->value == 5);
  made->value = 6;
  CHECK(seen->value == 6);
  polyproc::shared<start const> const converted = made;
  CHECK(converted->value == 6);
  auto p = polyproc::launch(write_read_only, name.text);
  p.join();
  CHECK(p.exit_code() == -11);
  CHECK(made->value == 6);
}

TEST_CASE_METHOD(tidy, "a handle to a name that was removed since does not open its successor") {
  name_of_test name;
  auto held = polyproc::shared<start>::create(name, {}, 5L);
  auto const sent = polyproc::to_bytes(held);
  CHECK(polyproc::from_bytes<polyproc::shared<start>>(sent)->value == 5);
  polyproc::shared<start>::remove(name);
  CHECK_THROWS_AS(polyproc::from_bytes<polyproc::shared<start>>(sent), polyproc::handle_error);
  CHECK_THROWS_AS(polyproc::shared<start const>(held), polyproc::handle_error);
  if (survives) {
    auto const next = polyproc::shared<start>::create(name, {}, 6L);
    CHECK_THROWS_AS(polyproc::from_bytes<polyproc::shared<start>>(sent), polyproc::handle_error);
  }
}

TEST_CASE_METHOD(tidy, "no room for a named object: an error, and nothing is there") {
  name_of_test name;
  for (auto const size : {std::size_t{1} << 60, std::size_t{1} << 42}) {
    try {
      (void)polyproc::shared_segment::create(name, size);
      FAIL("more than there is");
    } catch (std::system_error const& e) {
      CHECK(std::string(e.what()).find(name.text) != std::string::npos);
    } catch (std::bad_alloc const&) {
    }
    CHECK_FALSE(polyproc::shared_segment::try_open(name));
  }
}

TEST_CASE_METHOD(tidy, "a heap with a name is found with its contents") {
  name_of_test name;
  using numbers = std::vector<int, polyproc::heap_allocator<int>>;
  auto const heap = polyproc::shared_heap::create(name, 1 << 16);
  heap.root<numbers>().assign(100, 3);
  auto p = polyproc::launch(
      [](std::string of) {
        auto const there = polyproc::shared_heap::open(of);
        there.root<numbers>().push_back(4);
      },
      name.text);
  p.join();
  CHECK(heap.root<numbers>().size() == 101);
  CHECK(heap.root<numbers>().back() == 4);
}
