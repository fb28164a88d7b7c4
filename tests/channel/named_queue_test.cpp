// timeout: 200
// Queues that unrelated programs find by name.

#include "process/start_methods.hpp"

#include <polyproc/channel/named_queue.hpp>

using namespace std::chrono_literals;
using polyproc::process;
using polyproc::process_options;
using texts = polyproc::named_queue<std::string>;

namespace {

std::string fresh_name() {
  static int next = 0;
  return "nqueue-" + std::to_string(polyproc::native_backend::current_pid()) + "-" + std::to_string(next++);
}
struct removed_at_end {
  std::string name;
  ~removed_at_end() { texts::remove(name); }
};
/// Its encoding is just its bytes, so one of none takes none.
struct all_the_rest {
  std::string bytes;
};

}  // namespace

template <>
struct polyproc::codec<all_the_rest> {
  static void write(writer& out, all_the_rest const& r) { out.bytes(std::as_bytes(std::span(r.bytes))); }
  static all_the_rest read(reader& in) {
    all_the_rest got{std::string(in.remaining(), ' ')};
    auto const from = in.bytes(got.bytes.size());
    std::transform(from.begin(), from.end(), got.bytes.begin(), [](std::byte b) { return static_cast<char>(b); });
    return got;
  }
};

TEST_CASE_METHOD(tidy, "named_queue: create, open, open or create, remove; what is not there or there already is said") {
  auto const name = fresh_name();
  removed_at_end const end{name};
  CHECK(!texts::try_open(name));
  CHECK_THROWS_AS(texts::open(name), std::system_error);
  auto q = texts::create(name, {.capacity = 3, .memory = 100000});
  CHECK_THROWS_AS(texts::create(name), std::system_error);
  auto other = texts::open(name);
  CHECK(other == q);
  CHECK(other.capacity() == 3);
  CHECK(other.memory() == 100000);
  CHECK(texts::open_or_create(name, {.capacity = 50}).capacity() == 3);
  CHECK(other.name() == name);
  CHECK_THROWS_AS(polyproc::named_queue<int>::open(name), polyproc::handle_error);
  q.put("a");
  q.put("b");
  q.put("c");
  CHECK(other.full());
  CHECK_FALSE(other.try_put("d"));
  CHECK(other.get() == "a");
  texts::remove(name);
  CHECK(q.get() == "b");  // those who have it open keep it
  CHECK_THROWS_AS(texts::create(fresh_name(), {.memory = 100}), std::invalid_argument);
  CHECK_THROWS_AS(texts::create("no/name"), std::invalid_argument);
}

TEST_CASE_METHOD(tidy, "named_queue: messages of all sizes that its memory holds; it is full when that is used up, and none is lost") {
  auto const name = fresh_name();
  removed_at_end const end{name};
  auto q = texts::create(name, {.memory = 200000});
  CHECK_THROWS_AS(q.put(std::string(300000, 'x')), std::length_error);
  std::vector<std::string> sent;
  for (std::size_t size = 1;; size = size * 3 % 50021) {
    std::string const text(size, static_cast<char>('a' + sent.size() % 26));
    if (!q.try_put(text)) break;
    sent.push_back(text);
    REQUIRE(sent.size() < 100000);
  }
  CHECK(sent.size() > 5);
  CHECK(q.size() == sent.size());
  CHECK_FALSE(q.put_for(std::string(60000, 'z'), 20ms));
  std::thread later([&] {
    for (auto const& text : sent) CHECK(q.get() == text);
  });
  q.put(std::string(60000, 'z'));  // waits until there is room
  later.join();
  CHECK(q.get().size() == 60000);
  for (int i = 0; i < 1000; ++i) {  // memory comes back
    q.put(std::string(40000, 'y'));
    REQUIRE(q.get().size() == 40000);
  }
}

TEST_CASE_METHOD(tidy, "named_queue: what is written and looked at in place is aligned to 64 bytes, whatever memory it was made with") {
  using numbers = polyproc::named_queue<std::vector<double>>;
  for (std::size_t const units : std::initializer_list<std::size_t>{16, 17, 18, 19, 33}) {
    auto const name = fresh_name();
    removed_at_end const end{name};
    auto q = numbers::create(name, {.memory = units * 4096});
    auto room = q.reserve(1000);
    CHECK(reinterpret_cast<std::uintptr_t>(room.data()) % 64 == 0);
    room.elements()[999] = 5;
    std::move(room).commit();
    auto const seen = q.view();
    CHECK(reinterpret_cast<std::uintptr_t>(seen.data()) % 64 == 0);
    CHECK(seen.elements()[999] == 5);
  }
}

TEST_CASE_METHOD(tidy, "named_queue: a leased message of no bytes has a place of its own, and nobody else's is touched") {
  auto const name = fresh_name();
  removed_at_end const end{name};
  auto q = polyproc::named_queue<all_the_rest>::create(name, {.memory = 65536});
  auto const text = [](char of, std::size_t size) { return all_the_rest{std::string(size, of)}; };
  q.put(text('f', 20000));
  q.put(text('a', 16400));
  q.put(text('b', 16400));
  q.put(text('z', 0));
  q.put(text('c', 16400));
  for (char const of : {'f', 'a', 'b'}) CHECK(q.get().bytes[0] == of);
  auto held = q.lease();
  CHECK(held->bytes.empty());
  q.put(text('d', 16400));
  held.ack();
  bool const room = q.try_put(text('e', 16400));
  CHECK(q.get().bytes == std::string(16400, 'c'));
  CHECK(q.get().bytes == std::string(16400, 'd'));
  if (room) CHECK(q.get().bytes == std::string(16400, 'e'));
  CHECK(q.empty());
}

TEST_CASE_METHOD(tidy, "named_queue: when all its users were killed the next one finds a sound queue with its messages") {
  if (!polyproc::native_backend::named_survives) return;
  for (int round = 0; round < 10; ++round) {
    auto const name = fresh_name();
    removed_at_end const end{name};
    shared_notes n;
    {
      auto made = texts::create(name);
      made.put("first");
    }
    auto const use = [](std::string const& called, shared_notes s) {
      auto q = texts::open(called);
      for (int i = 0;; ++i) {
        q.put("message " + std::to_string(i) + std::string(static_cast<std::size_t>(i * 37 % 30000), '.'));
        s->count += 1;
        if (i > 5) (void)q.get();
      }
    };
    std::vector<process> all;
    for (int i = 0; i < 3; ++i) all.emplace_back(use, name, n);
    for (auto& p : all) p.start();
    while (n->count < 30 + round) std::this_thread::sleep_for(1ms);
    for (auto& p : all) p.kill();
    for (auto& p : all) p.join();
    auto q = texts::open(name);
    std::size_t left = 0;
    for (auto const size = q.size(); left < size; ++left) {
      auto const m = q.try_get();
      REQUIRE(m);
      CHECK((*m == "first" || m->rfind("message ", 0) == 0));
    }
    CHECK(q.empty());
    q.put("as ever");
    CHECK(q.get() == "as ever");
  }
}

TEST_CASE_METHOD(tidy, "named_queue: what means nothing to a stranger is refused by put, and nothing is put") {
  auto const name = fresh_name();
  struct removed {
    std::string called;
    ~removed() { polyproc::named_queue<polyproc::shared<int>>::remove(called); }
  } const end{name};
  auto q = polyproc::named_queue<polyproc::shared<int>>::create(name);
  CHECK_THROWS_AS(q.put(polyproc::shared<int>{}), polyproc::handle_error);
  CHECK_THROWS_AS(q.put_many(std::vector<polyproc::shared<int>>(2)), polyproc::handle_error);
  CHECK(q.empty());
}

TEST_CASE_METHOD(tidy, "named_queue: a handle travels, leases go back, processes talk through it") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    auto const name = fresh_name();
    removed_at_end const end{name};
    auto q = texts::create(name);
    shared_notes n;
    process p{process_options{.start = method},
              [](texts t, shared_notes s) {
                auto const held = t.lease();
                t.put("got " + *held);
                s->count = 1;
                until(s->a, 1);
              },
              q, n};
    p.start();
    q.put("hello");
    until(n->count, 1);
    CHECK(q.get() == "got hello");
    p.kill();
    CHECK(q.get() == "hello");
    p.join();
  }
}

TEST_CASE_METHOD(tidy, "named_queue: an empty one has all its memory for one message, whatever has gone through before") {
  auto const name = fresh_name();
  removed_at_end const end{name};
  auto q = texts::create(name, {.memory = 65536});
  for (int round = 0; round < 3; ++round) {
    // Small ones until the queue has memory of the store for them, too; then they are taken.
    std::size_t count = 0;
    while (q.try_put(std::string(1000, 's'))) ++count;
    CHECK(count > 64);
    for (std::size_t i = 0; i < count; ++i) REQUIRE(q.get().size() == 1000);
    REQUIRE(q.try_put(std::string(65000, 'l')));
    CHECK(q.get().size() == 65000);
    CHECK_THROWS_AS(q.put(std::string(65600, 'x')), std::length_error);
  }
  CHECK(q.empty());
}

TEST_CASE_METHOD(tidy, "named_queue: large messages go through one after the other, and none is called too large") {
  auto const name = fresh_name();
  removed_at_end const end{name};
  using bytes = polyproc::named_queue<std::vector<std::string>>;
  auto q = bytes::create(name, {.memory = 65536});
  constexpr int count = 300;
  std::thread producer([&] {
    for (int i = 0; i < count; ++i) q.put(std::vector<std::string>(1, std::string(50000, static_cast<char>('a' + i % 26))));
  });
  for (int i = 0; i < count; ++i) {
    auto const got = q.get();
    REQUIRE((got.size() == 1 && got[0].size() == 50000 && got[0][0] == static_cast<char>('a' + i % 26)));
  }
  producer.join();
}

TEST_CASE_METHOD(tidy, "named_queue: a put waits for memory that somebody has reserved or looks at, and goes on when it comes back") {
  auto const name = fresh_name();
  removed_at_end const end{name};
  auto q = texts::create(name, {.memory = 65536});
  {
    auto const room = q.reserve(40000);
    CHECK_FALSE(q.put_for(std::string(40000, 'a'), 20ms));
  }
  CHECK(q.put_for(std::string(40000, 'a'), 1s));
  std::optional<decltype(q.view())> seen(q.view());
  std::atomic<bool> waits{false};
  std::thread producer([&] {
    waits = true;
    q.put(std::string(40000, 'b'));
  });
  while (!waits) std::this_thread::yield();
  CHECK_FALSE(q.try_get());
  seen.reset();
  producer.join();
  CHECK(q.get() == std::string(40000, 'b'));
}
