#include "support/catch.hpp"
#include "wire/chain.hpp"

#include <polyproc/wire/codec.hpp>

#include <deque>
#include <forward_list>
#include <list>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>

using polyproc::decode_error;
using polyproc::from_bytes;
using polyproc::to_bytes;

namespace {

enum class colour : std::uint16_t { red = 1, green = 700 };

struct point {
  int x = 0;
  double y = 1.5;
  friend bool operator==(point const&, point const&) = default;
};
struct nothing {
  friend bool operator==(nothing, nothing) { return true; }
};
struct deep {
  std::string name;
  std::vector<point> points;
  char letters[5] = {};
  int grid[2][3] = {};
  std::optional<point> maybe;
  std::map<std::string, std::vector<int>> table;
  nothing empty;
  friend bool operator==(deep const&, deep const&) = default;
};
struct node {
  int value = 0;
  std::vector<node> children;
  friend bool operator==(node const&, node const&) = default;
};
/// Without padding: in memory as on the wire.
struct pixel {
  std::uint16_t at[2] = {};
  colour tint = colour::red;
  std::byte rest[2] = {};
  friend bool operator==(pixel const&, pixel const&) = default;
};
struct segment {
  std::array<pixel, 2> ends;
  double const width;
  friend bool operator==(segment const&, segment const&) = default;
};
struct labelled {
  std::string label;
  int const number;
  friend bool operator==(labelled const&, labelled const&) = default;
};
struct with_bool {
  bool sure;
  char letter;
};
/// With room for much, of which little needs to be sent.
struct heavy {
  std::optional<std::array<std::uint64_t, 2048>> load;
  std::vector<heavy> below;
};
struct no_default {
  explicit no_default(int m) : n(m) {}
  int n;
  friend bool operator==(no_default const&, no_default const&) = default;
};

template <class T>
void round_trip(T const& value) {
  auto const bytes = to_bytes(value);
  CHECK(from_bytes<T>(bytes) == value);
  // Whatever is missing at the end is noticed, and where.
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    try {
      (void)from_bytes<T>(std::span(bytes).first(n));
      FAIL("read " << n << " of " << bytes.size() << " bytes as a whole value");
    } catch (decode_error const& e) {
      CHECK(e.offset() <= n);
    }
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  CHECK_THROWS_AS(from_bytes<T>(longer), decode_error);
}

std::vector<std::byte> raw(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (int const v : values) bytes.push_back(static_cast<std::byte>(v));
  return bytes;
}

deep sample() {
  return {"name", {{1, 2.5}, {-3, 0}}, {'a', 'b', 'c', 'd', 'e'}, {{1, 2, 3}, {4, 5, 6}}, point{7, 8}, {{"k", {1, 2}}, {"", {}}}, {}};
}

}  // namespace

namespace polyproc {
template <>
struct codec<no_default> {
  static void write(writer& out, no_default const& value) { out.raw(value.n); }
  static no_default read(reader& in) { return no_default(in.raw<int>()); }
};
}  // namespace polyproc

TEST_CASE("every form of value comes back as it was, and no shorter or longer bytes do") {
  round_trip(true);
  round_trip('x');
  round_trip(std::int8_t{-128});
  round_trip(std::uint16_t{65535});
  round_trip(-2147483647 - 1);
  round_trip(std::numeric_limits<long>::min());
  round_trip(std::numeric_limits<unsigned long>::max());
  round_trip(std::numeric_limits<long long>::max());
  round_trip(3.25F);
  round_trip(-0.0);
  round_trip(L'\u00e9');
  round_trip(char32_t{0x1F600});
  round_trip(colour::green);
  round_trip(std::byte{200});
  round_trip(std::string("text\0more", 9));
  round_trip(std::string());
  round_trip(std::u16string(u"\u00e9x"));
  round_trip(std::wstring(L"wide"));
  round_trip(std::vector<int>{1, 2, 3});
  round_trip(std::vector<bool>{true, false, true});
  round_trip(std::vector<std::string>{"a", "", "ccc"});
  round_trip(std::deque<long>{1, -1});
  round_trip(std::list<std::string>{"x", "y"});
  round_trip(std::forward_list<int>{3, 1, 2});
  round_trip(std::set<std::string>{"b", "a"});
  round_trip(std::multiset<int>{1, 1, 2});
  round_trip(std::unordered_set<int>{5, 6, 7});
  round_trip(std::map<int, std::string>{{1, "one"}, {2, "two"}});
  round_trip(std::multimap<int, int>{{1, 2}, {1, 3}});
  round_trip(std::unordered_map<std::string, int>{{"a", 1}, {"b", 2}});
  round_trip(std::array<int, 3>{1, 2, 3});
  round_trip(std::array<std::string, 2>{"a", "b"});
  round_trip(std::array<int, 100>{1, 2});
  round_trip(std::array<int, 0>{});
  round_trip(std::pair<int, std::string>{1, "x"});
  round_trip(std::tuple<int, char, std::string>{1, 'c', "s"});
  round_trip(std::tuple<>{});
  round_trip(std::optional<std::string>{});
  round_trip(std::optional<std::string>{"x"});
  round_trip(std::variant<std::monostate, int, std::string>{});
  round_trip(std::variant<std::monostate, int, std::string>{"x"});
  round_trip(std::chrono::milliseconds(-7));
  round_trip(std::chrono::system_clock::time_point(std::chrono::system_clock::duration(12345)));
  round_trip(point{4, 5.5});
  round_trip(nothing{});
  round_trip(sample());
  round_trip(node{1, {{2, {}}, {3, {{4, {}}}}}});
  round_trip(no_default(9));
  round_trip(std::vector<no_default>{no_default(1), no_default(2)});
  round_trip(std::optional<no_default>{no_default(3)});
}

TEST_CASE("the format is fixed") {
  CHECK(to_bytes(std::int32_t{-2}) == raw({0xFE, 0xFF, 0xFF, 0xFF}));
  CHECK(to_bytes(1L) == raw({1, 0, 0, 0, 0, 0, 0, 0}));
  CHECK(to_bytes(std::string("hi")) == raw({2, 'h', 'i'}));
  CHECK(to_bytes(std::string(300, 'x')).size() == 302);
  CHECK(to_bytes(std::vector<std::uint16_t>{1, 0x203}) == raw({2, 1, 0, 3, 2}));
  CHECK(to_bytes(std::optional<bool>{true}) == raw({1, 1}));
  CHECK(to_bytes(std::optional<bool>{}) == raw({0}));
  CHECK(to_bytes(std::variant<int, char>{'x'}) == raw({1, 'x'}));
  CHECK(to_bytes(nothing{}) == raw({0}));
  CHECK(to_bytes(std::pair<char, bool>{'a', false}) == raw({'a', 0}));
}

TEST_CASE("[H40] damaged and hostile bytes are a decode_error, and take no memory that they do not justify") {
  CHECK_THROWS_AS(from_bytes<bool>(raw({2})), decode_error);
  CHECK_THROWS_AS(from_bytes<nothing>(raw({1})), decode_error);
  CHECK_THROWS_AS((from_bytes<std::variant<int, char>>(raw({2, 0, 0, 0, 0}))), decode_error);
  CHECK_THROWS_AS(from_bytes<std::set<int>>(raw({2, 1, 0, 0, 0, 1, 0, 0, 0})), decode_error);
  // Counts of 2^60 and of 2^64 and more, of things of every least size.
  for (auto const& count : {raw({0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10}),
                            raw({0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F})}) {
    CHECK_THROWS_AS(from_bytes<std::string>(count), decode_error);
    CHECK_THROWS_AS(from_bytes<std::vector<nothing>>(count), decode_error);
    CHECK_THROWS_AS(from_bytes<std::vector<std::vector<int>>>(count), decode_error);
    CHECK_THROWS_AS((from_bytes<std::list<std::array<int, 0>>>(count)), decode_error);
    CHECK_THROWS_AS((from_bytes<std::map<int, int>>(count)), decode_error);
  }
  // One number has one form.
  CHECK_THROWS_AS(from_bytes<std::string>(raw({0x80, 0x00})), decode_error);
}

TEST_CASE("[H40] nesting without end does not use up the stack") {
  std::vector<std::byte> bomb;
  for (int i = 0; i < 100000; ++i) {
    for (int j = 0; j < 4; ++j) bomb.push_back(std::byte{0});
    bomb.push_back(std::byte{1});
  }
  CHECK_THROWS_AS(from_bytes<node>(bomb), decode_error);
  node n;
  for (int i = 0; i < 50; ++i) n = node{i, {n}};
  CHECK(from_bytes<node>(to_bytes(n)) == n);
}

TEST_CASE("[H40] large values in each other do not use up the stack, and neither does a codec that calls itself") {
  std::vector<std::byte> bomb;
  for (int i = 0; i < 1000; ++i) {
    bomb.push_back(std::byte{0});
    bomb.push_back(std::byte{1});
  }
  try {
    (void)from_bytes<heavy>(bomb);
    FAIL("a bomb was read");
  } catch (decode_error const& e) {  // before the depth itself is too much
    CHECK(std::string(e.what()).find("bytes at once") != std::string::npos);
  }
  // Some are no bomb, and small ones may go deep.
  heavy h;
  for (int i = 0; i < 7; ++i) {
    heavy outer;
    outer.below.push_back(std::move(h));
    h = std::move(outer);
  }
  auto const bytes = to_bytes(h);
  CHECK(to_bytes(from_bytes<heavy>(bytes)) == bytes);

  std::vector<std::byte> const endless(1000000, std::byte{1});
  CHECK_THROWS_AS(from_bytes<chain>(endless), decode_error);
  chain c;
  for (int i = 0; i < 50; ++i) {
    chain outer;
    outer.next = std::make_unique<chain>(std::move(c));
    c = std::move(outer);
  }
  auto const links = to_bytes(c);
  CHECK(to_bytes(from_bytes<chain>(links)) == links);
}

TEST_CASE("[H40] what has one value has one spelling") {
  std::byte const other[] = {std::byte{7}};
  CHECK_THROWS_AS(from_bytes<std::tuple<>>(other), decode_error);
  CHECK_THROWS_AS(from_bytes<nothing>(other), decode_error);
  CHECK_THROWS_AS((from_bytes<std::array<int, 0>>(other)), decode_error);
}

TEST_CASE("[H40] random damage gives some value or a decode_error, and nothing else") {
  std::mt19937 random{7};
  auto const good = to_bytes(sample());
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    auto bytes = good;
    for (unsigned n = random() % 4 + 1; n > 0; --n) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    try {
      auto const value = from_bytes<deep>(bytes);
      CHECK(from_bytes<deep>(to_bytes(value)).name == value.name);
    } catch (decode_error const& e) {
      ++refused;
      REQUIRE(e.offset() <= bytes.size());
    }
  }
  CHECK(refused > 1000);
}

TEST_CASE("[H30] fingerprints tell structures apart") {
  using polyproc::type_fingerprint;
  struct same_as_point {
    int a = 0;
    double b = 0;
  };
  struct other {
    double a = 0;
    int b = 0;
  };
  CHECK(type_fingerprint<point>() == type_fingerprint<same_as_point>());
  CHECK(type_fingerprint<point>() != type_fingerprint<other>());
  CHECK(type_fingerprint<int>() != type_fingerprint<unsigned>());
  CHECK(type_fingerprint<int>() != type_fingerprint<float>());
  CHECK(type_fingerprint<long>() == type_fingerprint<long long>());
  CHECK(type_fingerprint<std::vector<int>>() == type_fingerprint<std::list<int>>());
  CHECK(type_fingerprint<std::vector<int>>() != type_fingerprint<std::optional<int>>());
  CHECK(type_fingerprint<std::vector<int>>() != type_fingerprint<std::vector<std::vector<int>>>());
  CHECK(type_fingerprint<std::array<int, 2>>() != type_fingerprint<std::array<int, 3>>());
  CHECK(type_fingerprint<std::variant<int, char>>() != type_fingerprint<std::variant<char, int>>());
  CHECK(type_fingerprint<node>() != type_fingerprint<point>());
  CHECK(type_fingerprint<std::chrono::seconds>() != type_fingerprint<std::chrono::milliseconds>());
}

TEST_CASE("a writer that is not sent gives back what its bytes held") {
  static int given_back = 0;
  auto const count = [](std::uint64_t what) noexcept { given_back += static_cast<int>(what); };
  {
    polyproc::writer out;
    out.on_discard(count, 1);
    out.on_discard(count, 10);
  }
  CHECK(given_back == 11);
  {
    polyproc::writer out;
    out.on_discard(count, 100);
    out.sent();
  }
  CHECK(given_back == 11);
}

TEST_CASE("what lies in memory as on the wire is copied in one piece, and what does not is not") {
  using polyproc::detail::copied_whole;
  constexpr bool little = std::endian::native == std::endian::little;
  static_assert(copied_whole<pixel> == little && copied_whole<segment> == little && copied_whole<std::byte> == little);
  static_assert(copied_whole<std::array<pixel, 3>> == little && copied_whole<int[2][3]> == little);
  static_assert(!copied_whole<point>);  // padding, which would tell what was in memory before
  static_assert(!copied_whole<with_bool> && !copied_whole<bool>);  // not every byte is one
  static_assert(!copied_whole<std::chrono::seconds> && !copied_whole<std::string> && !copied_whole<node>);
  pixel const red{{1, 0x203}, colour::green, {std::byte{4}, std::byte{5}}};
  std::vector<std::byte> expected;
  for (int const b : {1, 0, 3, 2, 0xBC, 2, 4, 5}) expected.push_back(static_cast<std::byte>(b));
  CHECK(to_bytes(red) == expected);
  round_trip(red);
  round_trip(labelled{"x", 3});
  round_trip(segment{{red, pixel{}}, 2.5});
  round_trip(std::vector<segment>{{{red, red}, 1}, {{}, 2}});
  round_trip(std::vector<pixel>(3, red));
  round_trip(std::deque<pixel>(3, red));
  round_trip(std::pair<char, std::vector<pixel>>('a', {red, red}));  // off the elements' boundary
  round_trip(std::vector<std::byte>(1000, std::byte{7}));
  round_trip(std::vector<colour>{colour::red, colour::green});
  CHECK_THROWS_AS(from_bytes<with_bool>(std::vector<std::byte>{std::byte{2}, std::byte{'a'}}), decode_error);
}

TEST_CASE("what cannot travel is known at compile time") {
  struct with_pointer {
    int n = 0;
    int* p = nullptr;
  };
  static_assert(polyproc::encodable<deep>);
  static_assert(polyproc::encodable<node>);
  static_assert(!polyproc::encodable<int*>);
  static_assert(!polyproc::encodable<with_pointer>);
  static_assert(!polyproc::encodable<std::vector<with_pointer>>);
  static_assert(!polyproc::encodable<std::string_view>);
  static_assert(!polyproc::encodable<std::span<int>>);
  static_assert(!polyproc::encodable<long double>);
  static_assert(!polyproc::encodable<std::chrono::duration<long double>>);
  static_assert(polyproc::encodable<std::chrono::duration<double, std::micro>>);
  static_assert(!polyproc::encodable<std::map<int, char const*>>);
  SUCCEED("the assertions above were made by the compiler");
}
