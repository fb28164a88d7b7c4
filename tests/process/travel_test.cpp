// timeout: 300
// Everything that is shared travels: as an argument under every start method, through every channel, as a result; to
// processes that did not exist when it was made; and it outlives whoever sent it. A new kind of thing, or of way, is one
// line in the lists below.

#include "support/stage.hpp"
#include "support/tidy.hpp"

using namespace std::chrono_literals;

namespace {

struct account {
  polyproc::mutex lock;
  polyproc::shared_mutex pages;
  polyproc::semaphore items;
  polyproc::event seen;
  polyproc::guarded<long> kept;
  long balance = 0;
};
using numbers = std::vector<int, polyproc::heap_allocator<int>>;

std::string fresh_name() {
  static int next = 0;
  return "travel-" + std::to_string(polyproc::native_backend::current_pid()) + "-" + std::to_string(next++);
}

/// A kind of thing: how one is made, and what a process does to it that others can see.
template <class T>
struct kind_of;
template <>
struct kind_of<polyproc::shared<account>> {
  static constexpr char const* name = "shared object with locks";
  static polyproc::shared<account> make() { return {}; }
  static void touch(polyproc::shared<account> const& a) {
    polyproc::lock hold{a->lock};
    polyproc::lock write{a->pages};
    a->kept.with([](long& k) { ++k; });
    a->items.release();
    a->seen.set();
    ++a->balance;
  }
  static bool touched(polyproc::shared<account> const& a, int times) {
    return a->balance == times && a->items.value() == static_cast<unsigned>(times) && a->seen.is_set();
  }
};
/// The same object with a name.
struct named_account {
  polyproc::shared<account> it;
};
template <>
struct kind_of<named_account> {
  static constexpr char const* name = "named object";
  static named_account make() {
    return {polyproc::shared<account>::create(fresh_name(), {.lifetime = polyproc::lifetime::owner})};
  }
  static void touch(named_account const& a) { kind_of<polyproc::shared<account>>::touch(a.it); }
  static bool touched(named_account const& a, int times) { return kind_of<polyproc::shared<account>>::touched(a.it, times); }
};
template <>
struct kind_of<polyproc::shared_array<long>> {
  static constexpr char const* name = "shared array";
  static polyproc::shared_array<long> make() { return polyproc::shared_array<long>(100000); }
  static void touch(polyproc::shared_array<long> const& a) { ++a.back(); }
  static bool touched(polyproc::shared_array<long> const& a, int times) { return a.back() == times; }
};
template <>
struct kind_of<polyproc::shared_segment> {
  static constexpr char const* name = "shared segment";
  static polyproc::shared_segment make() { return polyproc::shared_segment(10); }
  static void touch(polyproc::shared_segment const& s) { s.bytes()[9] = std::byte(std::to_integer<int>(s.bytes()[9]) + 1); }
  static bool touched(polyproc::shared_segment const& s, int times) { return s.bytes()[9] == std::byte(times); }
};
template <>
struct kind_of<polyproc::shared_heap> {
  static constexpr char const* name = "shared heap";
  static polyproc::shared_heap make() { return polyproc::shared_heap(10000); }
  static void touch(polyproc::shared_heap const& h) { h.root<numbers>().push_back(1); }
  static bool touched(polyproc::shared_heap const& h, int times) {
    return h.root<numbers>().size() == static_cast<std::size_t>(times);
  }
};
template <>
struct kind_of<polyproc::queue<int>> {
  static constexpr char const* name = "queue";
  static polyproc::queue<int> make() { return polyproc::queue<int>(100); }
  static void touch(polyproc::queue<int> const& q) { q.put(1); }
  static bool touched(polyproc::queue<int> const& q, int times) { return q.size() == static_cast<std::size_t>(times); }
};
/// A thing seen for reading only, together with itself: what is written through the one is read through the other.
struct seen_array {
  polyproc::shared_array<long> written;
  polyproc::shared_array<long const> read;
};
template <>
struct kind_of<seen_array> {
  static constexpr char const* name = "read-only array";
  static seen_array make() {
    polyproc::shared_array<long> a(10);
    return {a, a};
  }
  static void touch(seen_array const& a) {
    auto const before = a.read[5];
    ++a.written[5];
    if (a.read[5] != before + 1) std::abort();
  }
  static bool touched(seen_array const& a, int times) { return a.read[5] == times; }
};

template <class T>
void touch(T thing) {
  kind_of<T>::touch(thing);
}
template <class T>
void touch_from_queue(polyproc::queue<T> q) {
  kind_of<T>::touch(q.get());
}
template <class T>
T make_and_touch(int) {
  auto made = kind_of<T>::make();
  kind_of<T>::touch(made);
  return made;
}
template <class T>
void put_and_end(polyproc::queue<T> q) {
  auto made = kind_of<T>::make();
  kind_of<T>::touch(made);
  q.put(made);
}
/// A grandchild gets it from a child that ends at once.
template <class T>
void pass_on(T thing) {
  polyproc::launch(touch<T>, thing).join();
}
int ended(polyproc::process& p) {
  p.join();
  return p.exit_code().value();
}

/// What the maker's end takes with it: a name whose owner ends. Then nobody who comes later can open it.
template <class T>
inline constexpr bool outlives_maker = !std::is_same_v<T, named_account>;

template <class T>
void travels() {
  INFO(kind_of<T>::name);
  auto const thing = kind_of<T>::make();
  int touches = 0;
  auto const seen = [&] { return kind_of<T>::touched(thing, ++touches); };

  auto spawned = polyproc::launch(touch<T>, thing);
  CHECK(ended(spawned) == 0);
  CHECK(seen());
  if constexpr (polyproc::native_backend::has_fork) {
    polyproc::process forked{polyproc::start::fork, [thing] { kind_of<T>::touch(thing); }};
    forked.start();
    CHECK(ended(forked) == 0);
    CHECK(seen());
    polyproc::process with_argument{polyproc::start::fork, touch<T>, thing};
    with_argument.start();
    CHECK(ended(with_argument) == 0);
    CHECK(seen());
  }
  auto through_two = polyproc::launch(pass_on<T>, thing);
  CHECK(ended(through_two) == 0);
  CHECK(seen());
  {
    // To a process that is there already, through a queue; and to one that is not there yet.
    polyproc::queue<T> q(2);
    auto early = polyproc::launch(touch_from_queue<T>, q);
    q.put(thing);
    CHECK(ended(early) == 0);
    CHECK(seen());
    q.put(thing);
    auto late = polyproc::launch(touch_from_queue<T>, q);
    CHECK(ended(late) == 0);
    CHECK(seen());
  }
  polyproc::process_pool pool(1);
  pool.apply(touch<T>, thing);
  CHECK(seen());
  pool.submit(touch<T>, thing).get();
  CHECK(seen());
  if constexpr (outlives_maker<T>) {
    CHECK(kind_of<T>::touched(pool.apply(make_and_touch<T>, 0), 1));
    polyproc::queue<T> q(1);
    auto maker = polyproc::launch(put_and_end<T>, q);
    CHECK(ended(maker) == 0);
    auto const got = q.get();
    CHECK(kind_of<T>::touched(got, 1));
    auto other = polyproc::launch(touch<T>, got);
    CHECK(ended(other) == 0);
    CHECK(kind_of<T>::touched(got, 2));
  }
}

}  // namespace

TEST_CASE_METHOD(tidy, "shared objects, and the locks in them, travel") { travels<polyproc::shared<account>>(); }
TEST_CASE_METHOD(tidy, "named objects travel") { travels<named_account>(); }
TEST_CASE_METHOD(tidy, "shared arrays travel") { travels<polyproc::shared_array<long>>(); }
TEST_CASE_METHOD(tidy, "arrays for reading only travel") { travels<seen_array>(); }
TEST_CASE_METHOD(tidy, "shared segments travel") { travels<polyproc::shared_segment>(); }
TEST_CASE_METHOD(tidy, "shared heaps travel") { travels<polyproc::shared_heap>(); }
TEST_CASE_METHOD(tidy, "queues travel") { travels<polyproc::queue<int>>(); }
