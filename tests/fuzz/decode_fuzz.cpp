// Everything that reads bytes of another process or of a stranger, for libFuzzer.
//
// The first byte of an input says what the rest is read as. What must hold: reading gives a value or the exception that is
// documented; it asks for no more memory than the bytes justify; a value that was read and written again is the same bytes
// (of types that have one spelling), or the same value; streams and connections give out what a plain reading of all bytes
// at once finds, however they come in pieces; nobody is let in without the key.
//
// POLYPROC_FUZZ_SEEDS=FOLDER writes the corpus's seeds there and ends: real encodings of each kind.
// POLYPROC_FUZZ_WRONG=length|end|spelling|key reads with a decoder that is known to be wrong, which must be found.
#include "../wire/chain.hpp"

#include <polyproc/channel/connection.hpp>
#include <polyproc/channel/handshake.hpp>
#include <polyproc/wire/callable.hpp>
#include <polyproc/wire/exception.hpp>

#include <deque>
#include <forward_list>
#include <fstream>
#include <iostream>
#include <list>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace {

std::size_t requested = 0;  // bytes asked of operator new

}  // namespace

// Counted here, because it is what was asked for that matters, also where the system would give it untouched.
void* operator new(std::size_t size) {
  requested += size;
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void* operator new[](std::size_t size) { return operator new(size); }
// All forms, because an address sanitizer's own would not go together with these.
void* operator new(std::size_t size, std::nothrow_t const&) noexcept { return std::malloc(size == 0 ? 1 : size); }
void* operator new[](std::size_t size, std::nothrow_t const&) noexcept { return std::malloc(size == 0 ? 1 : size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace polyproc;
using input = std::span<std::byte const>;
using bytes = std::vector<std::byte>;

[[noreturn]] void broken(char const* what) {
  std::fprintf(stderr, "decode_fuzz: %s\n", what);
  std::abort();
}
void must(bool holds, char const* what) {
  if (!holds) broken(what);
}

/// Since it was made no more than so much was asked for. An answer of a fixed size (a message for people) is always allowed.
class memory_bound {
 public:
  explicit memory_bound(std::size_t most) : most_(requested + most + 16384) {}
  void check() const { must(requested <= most_, "more memory was asked for than the input justifies"); }

 private:
  std::size_t most_;
};

// --- values

enum class spelling {
  one,      // what is read is what would be written
  ordered,  // keys are sorted
  any,      // unordered containers: only the values are the same
  size,     // and those whose elements may be equal to nothing, not even to themselves
};

/// Factor: bytes of memory that a byte of input may cost; most are asked for when a container of large things grows.
template <class T, spelling How = spelling::one, std::size_t Factor = 256>
void values(input in) {
  std::optional<T> value;
  memory_bound const bound(Factor * in.size());
  try {
    value.emplace(from_bytes<T>(in));
  } catch (decode_error const& problem) {
    must(problem.offset() <= in.size(), "a decode_error is at a place behind the end");
  }
  bound.check();
  if (!value) return;
  auto const written = to_bytes(*value);
  if constexpr (How == spelling::one) {
    must(std::ranges::equal(written, in), "what was read is written in another way");
    return;
  }
  T const again = from_bytes<T>(written);
  if constexpr (How == spelling::ordered) must(to_bytes(again) == written, "what was written again is read as another value");
  if constexpr (How == spelling::any) must(again == *value, "what was written again is read as another value");
  if constexpr (How == spelling::size) must(again.size() == value->size(), "what was written again is of another size");
}

// Enumerations whose underlying type is fixed: others can hold less than it.
enum class colour : std::uint8_t { red, green };
enum plain : short { up, down };

struct nothing {};
struct point {
  int x = 0;
  double y = 0;
};
struct person {
  std::string name;
  int age = 0;
  std::vector<std::string> tags;
  std::optional<point> place;
  int marks[3] = {};
  nothing none;
};
struct tree {
  std::int16_t number = 0;
  std::vector<tree> below;
};
/// Two bytes a level, and much room in each.
struct heavy {
  std::optional<std::array<std::uint64_t, 8192>> load;
  std::vector<heavy> below;
};
struct wide {
  char a = 0;
  bool b = false, c = false;
  long d = 0;
  unsigned long long e = 0;
  char16_t f = 0;
  wchar_t g = 0;
  std::array<bool, 3> h{};
  std::array<std::string, 70> i;
};
using choice = std::variant<std::monostate, bool, std::string, std::vector<int>, point>;

/// One that is wrong: it takes every byte for a bool.
struct lenient {
  bool value = false;
};

}  // namespace

template <>
struct polyproc::codec<lenient> {
  static void write(writer& out, lenient const& l) { encode(out, l.value); }
  static lenient read(reader& in) { return {in.raw<std::uint8_t>() != 0}; }
};

namespace {

// --- exceptions

class travelling : public travelling_error<travelling> {
 public:
  travelling(std::string text, int number) : travelling_error(text), text_(std::move(text)), number_(number) {}
  [[nodiscard]] auto parts() const { return std::tie(text_, number_); }

 private:
  std::string text_;
  int number_;
};

void exceptions(input in) {
  bytes first;
  memory_bound const bound(512 * in.size());
  try {
    reader from(in);
    auto const problem = decode_exception(from);
    bound.check();
    must(problem != nullptr, "an exception was read that is none");
    (void)describe(problem);
    writer out;
    encode_exception(out, problem);
    first.assign(out.view().begin(), out.view().end());
  } catch (decode_error const& problem) {
    bound.check();
    must(problem.offset() <= in.size(), "a decode_error is at a place behind the end");
    return;
  }
  // A message with a zero in it, which no exception has, may change once more.
  for (int passes = 0;; ++passes) {
    reader from(first);
    writer out;
    encode_exception(out, decode_exception(from));
    if (std::ranges::equal(out.view(), first)) return;
    must(passes == 0, "an exception changes with every process it passes");
    first.assign(out.view().begin(), out.view().end());
  }
}

bytes exception_bytes(std::exception_ptr problem) {
  writer out;
  encode_exception(out, std::move(problem));
  return {out.view().begin(), out.view().end()};
}

// --- calls

struct adder {
  std::uint64_t factor = 1;
  std::uint64_t operator()(std::uint64_t a, std::string const& b, std::vector<std::uint16_t> c) const {
    return (a + b.size() + c.size()) * factor;
  }
};
using adder_arguments = std::tuple<std::uint64_t, std::string, std::vector<std::uint16_t>>;

/// What a trampoline reads of a target with a value. Where code lies is not tried: that is said by this family alone.
void calls(input in) {
  try {
    reader from(in);
    writer result;
    detail::call_trampoline<native_backend, adder, adder_arguments>(from, result);
    (void)from_bytes<std::uint64_t>(result.view());
  } catch (decode_error const& problem) {
    must(problem.offset() <= in.size(), "a decode_error is at a place behind the end");
  }
}
void places(input in) {
  memory_bound const bound(4 * in.size());
  try {
    reader from(in);
    auto const where = detail::read_location(from);
    from.expect_end();
    bound.check();
    writer out;
    detail::write_location(out, where);
    must(std::ranges::equal(out.view(), in), "what was read is written in another way");
  } catch (decode_error const&) {
    bound.check();
  }
}

// --- streams

/// What comes in through a stream that is only memory: pieces of a given size, a late one between any two.
struct script {
  input rest;
  std::size_t piece = 1;
  bool late_between = false;
  bool gone_at_end = false;  // the other side is lost, instead of end of file
  bool late = false;
  bytes written;
};
script* playing = nullptr;

struct scripted : native_backend {
  static std::optional<std::size_t> stream_read(stream, std::span<std::byte> into, time_point deadline) {
    auto& s = *playing;
    must(!into.empty(), "a read of nothing");
    if (s.late_between && deadline != never && (s.late = !s.late)) return std::nullopt;
    if (s.rest.empty() && s.gone_at_end)
      throw std::system_error(std::make_error_code(std::errc::connection_reset), "read");
    auto const n = std::min({s.piece, into.size(), s.rest.size()});
    if (n != 0) std::memcpy(into.data(), s.rest.data(), n);
    s.rest = s.rest.subspan(n);
    return n;
  }
  static std::optional<std::size_t> stream_write(stream, std::span<std::byte const> from, time_point) {
    playing->written.insert(playing->written.end(), from.begin(), from.end());
    return from.size();
  }
  static bool stream_wait(stream, time_point) { return true; }
  static void stream_shutdown_write(stream) {}
  static void stream_close(stream) noexcept {}
  // The same each time, so that a seed can hold a proof that is right.
  static void random(std::span<std::byte> out) { std::ranges::fill(out, std::byte{0x5A}); }
};
scripted::stream scripted_end() {
  scripted::stream end;
  end.fd = 1 << 20;
  return end;
}

/// Its first byte says how the rest comes.
script script_of(input& in) {
  script s;
  if (in.empty()) return s;
  auto const how = std::to_integer<unsigned>(in[0]);
  constexpr std::size_t pieces[] = {1, 2, 3, 7, 8, 64, 1000, std::size_t{1} << 30};
  s.piece = pieces[how & 7];
  s.late_between = (how & 8) != 0;
  s.gone_at_end = (how & 16) != 0;
  in = in.subspan(1);
  s.rest = in;
  return s;
}

std::uint64_t number_at(input in) {
  std::uint64_t n = 0;
  for (std::size_t i = 8; i-- > 0;) n = n << 8 | std::to_integer<std::uint64_t>(in[i]);
  return n;
}

/// Frames, as bytes. The second byte is the largest that is taken.
void frames(input in) {
  auto s = script_of(in);
  if (in.empty()) return;
  auto const most = 4 * std::to_integer<std::uint64_t>(in[0]);
  s.rest = in = in.subspan(1);
  playing = &s;
  // What is kept of a stream is read in pieces of 4 KiB, and once in one of 64.
  memory_bound const bound(32 * in.size() + 131072);
  basic_connection<int, int, scripted> c(basic_stream<scripted>(scripted_end()), most);
  auto rest = in;
  try {
    for (;;) {
      auto const message = c.recv_bytes_for(std::chrono::seconds{1});
      if (!message && !c.at_end()) continue;
      if (!message) break;
      must(rest.size() >= 8 && number_at(rest) == message->size() && message->size() <= most &&
               rest.size() - 8 >= message->size() && std::ranges::equal(rest.subspan(8, message->size()), *message),
           "a message is not what was sent");
      rest = rest.subspan(8 + message->size());
    }
    must(rest.empty() && !s.gone_at_end, "a connection is at its end before all messages were received");
  } catch (message_too_large const& problem) {
    must(rest.size() >= 8 && number_at(rest) > most && problem.size() == number_at(rest), "a message is not too large");
    try {
      (void)c.recv();
      broken("a connection goes on behind a message that was refused");
    } catch (connection_error const&) {
    }
  } catch (connection_lost const&) {
    must(!rest.empty() && !s.gone_at_end, "a connection is lost where it is at its end");
    must(rest.size() < 8 || rest.size() - 8 < number_at(rest), "a whole message was lost");
  } catch (std::system_error const&) {
    must(s.gone_at_end, "the stream has not failed");
    must(rest.size() < 8 || rest.size() - 8 < number_at(rest), "a whole message was lost");
  }
  bound.check();
}

/// Frames, as values: one that cannot be read must not spoil the next one.
void messages(input in) {
  using value = std::vector<std::string>;
  auto s = script_of(in);
  playing = &s;
  memory_bound const bound(512 * in.size() + 131072);
  basic_connection<value, value, scripted> c(basic_stream<scripted>(scripted_end()), 1 << 20);
  auto rest = in;
  try {
    for (bool ended = false; !ended;) {
      (void)c.poll();
      try {
        auto const message = s.late_between ? c.recv_for(std::chrono::seconds{1}) : c.recv();
        ended = !message && c.at_end();
        if (!message) continue;
        must(rest.size() >= 8 && rest.size() - 8 >= number_at(rest) &&
                 std::ranges::equal(to_bytes(*message), rest.subspan(8, static_cast<std::size_t>(number_at(rest)))),
             "a message is not what was sent");
      } catch (decode_error const&) {
        must(rest.size() >= 8 && rest.size() - 8 >= number_at(rest), "what is no message was read as one");
      }
      rest = rest.subspan(8 + static_cast<std::size_t>(number_at(rest)));
    }
  } catch (message_too_large const&) {
    must(rest.size() >= 8 && number_at(rest) > 1 << 20, "a message is not too large");
  } catch (connection_lost const&) {
  } catch (std::system_error const&) {
    must(s.gone_at_end, "the stream has not failed");
  }
  bound.check();
}

std::string text_of(input in) { return {reinterpret_cast<char const*>(in.data()), in.size()}; }

/// Lines, of at most 100 bytes; then the rest.
void lines(input in) {
  auto s = script_of(in);
  s.gone_at_end = false;
  playing = &s;
  basic_stream<scripted> from(scripted_end());
  auto rest = text_of(in);
  try {
    for (int n = 0; n < 20;) {
      auto const line = from.read_line_for(std::chrono::seconds{1}, 100);
      if (!line && !from.at_end()) continue;
      if (!line) break;
      auto const end = std::min(rest.find('\n'), rest.size());
      must(*line == rest.substr(0, end), "a line is not what was sent");
      rest.erase(0, std::min(end + 1, rest.size()));
      ++n;
    }
  } catch (message_too_large const&) {
    must(std::min(rest.find('\n'), rest.size()) > 100, "a line is not too large");
  }
  std::array<std::byte, 5> five;
  try {
    if (from.read_exactly(five)) {
      must(text_of(five) == rest.substr(0, 5), "what is read exactly is not what was sent");
      rest.erase(0, 5);
    }
  } catch (connection_lost const&) {
    must(!rest.empty() && rest.size() < 5, "a stream is lost where it is at its end");
    rest.clear();
  }
  must(from.read_all() == rest && from.at_end(), "the rest is not what was sent");
}

/// A connection as an argument: its stream came along under a number.
void passed_connections(input in) {
  using travelling = basic_connection<int, int, scripted>;
  memory_bound const bound(16 * in.size());
  script s;
  playing = &s;
  std::optional<travelling> made;
  try {
    reader from(in);
    from.take_passed_by([](std::size_t place) -> std::uint64_t {
      if (place >= 3) throw std::out_of_range("no such stream");
      return scripted::stream_number(scripted_end());
    });
    made.emplace(decode<travelling>(from));
    from.expect_end();
  } catch (decode_error const& problem) {
    must(problem.offset() <= in.size(), "a decode_error is at a place behind the end");
  } catch (std::out_of_range const&) {
  }
  bound.check();
  try {  // in a message it is refused whatever it is
    (void)from_bytes<basic_stream<scripted>>(in);
    broken("a message has a stream in it");
  } catch (decode_error const&) {
  }
}

// --- handshakes

constexpr detail::spoken_types ours{0x1111, 0x2222};
auth_key const& key() {
  static auth_key const k("a key for tests");
  return k;
}

void listening(input in, bool with_key) {
  auto s = script_of(in);
  playing = &s;
  using handshake = detail::listener_handshake<scripted>;
  using outcome = handshake::outcome;
  handshake h(scripted_end(), time_point{});
  auto const* const k = with_key ? &key() : nullptr;
  auto got = outcome::waits;
  // A last look finds the end of file.
  for (std::size_t looks = 2 * in.size() + 4; got == outcome::waits; --looks) {
    must(looks != 0, "a handshake does not come to its end");
    got = h.advance(k, ours);
  }
  auto const& said = s.written;
  must(said.size() <= detail::hello::size + detail::verdict_message::size, "a listener says more than it should");
  detail::hello client, own;
  bool const greeted = in.size() >= detail::hello::size;
  must(greeted || said.empty(), "a listener answers before it was greeted");
  if (!greeted || said.size() < detail::hello::size) {
    must(got == outcome::ended || got == outcome::garbage, "a handshake without a greeting succeeds");
    return;
  }
  std::ranges::copy(in.first(detail::hello::size), client.bytes().begin());
  std::ranges::copy(input(said).first(detail::hello::size), own.bytes().begin());
  auto const proof = detail::prove(key(), detail::hello::role::client, client, own);
  auto const offered = in.subspan(detail::hello::size);
  bool const proven = with_key && offered.size() >= proof.size() && std::ranges::equal(proof, offered.first(proof.size()));
  auto const sent = input(said).subspan(detail::hello::size);
  if (with_key && !proven) {
    must(got != outcome::done && got != outcome::wrong_types, "somebody without the key is let in, or told of types");
    must(sent.empty() || std::ranges::all_of(sent.subspan(1), [](std::byte b) { return b == std::byte{}; }),
         "somebody without the key is given something that was made with it");
  }
  if (got == outcome::done)
    must(client.is_from(detail::hello::role::client) && client.same_version() && client.with_key() == with_key &&
             client.types() == ours.other_way() && sent.size() == detail::verdict_message::size && sent[0] == std::byte{},
         "somebody is let in who speaks another language");
}
void listening_with_key(input in) { listening(in, true); }
void listening_without_key(input in) { listening(in, false); }

void calling(input in, bool with_key) {
  auto s = script_of(in);
  s.late_between = false;
  playing = &s;
  try {
    detail::client_handshake<scripted>(scripted_end(), with_key ? &key() : nullptr, ours, never);
  } catch (authentication_error const&) {
    return;
  } catch (connection_error const&) {
    return;
  } catch (std::system_error const&) {
    must(s.gone_at_end, "the stream has not failed");
    return;
  }
  detail::hello own, other;
  must(in.size() >= 104 && s.written.size() == (with_key ? 96U : 64U), "a client believes what was not said");
  std::ranges::copy(input(s.written).first(64), own.bytes().begin());
  std::ranges::copy(in.first(64), other.bytes().begin());
  must(other.types() == ours.other_way() && in[64] == std::byte{}, "a client speaks to who speaks another language");
  if (with_key)
    must(std::ranges::equal(detail::prove(key(), detail::hello::role::listener, own, other), in.subspan(72, 32)),
         "a client believes who does not know the key");
}
void calling_with_key(input in) { calling(in, true); }
void calling_without_key(input in) { calling(in, false); }

bytes operator+(bytes left, input right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}
bytes numbers(std::initializer_list<unsigned> each) {
  bytes all;
  for (auto const n : each) all.push_back(static_cast<std::byte>(n));
  return all;
}
bytes text(std::string_view of) {
  auto const b = std::as_bytes(std::span(of));
  return {b.begin(), b.end()};
}
bytes frame(input message) {
  writer out;
  out.raw(static_cast<std::uint64_t>(message.size()));
  out.bytes(message);
  return {out.view().begin(), out.view().end()};
}
/// What the one side says in a handshake that succeeds.
bytes said_by(detail::hello::role who, bool with_key, unsigned how) {
  using detail::hello;
  auto const client = hello::make<scripted>(hello::role::client, with_key, ours.other_way());
  auto const listener = hello::make<scripted>(hello::role::listener, with_key, ours);
  // Seen from the client under test, "ours" are its types.
  auto const mine = hello::make<scripted>(hello::role::client, with_key, ours);
  auto const theirs = hello::make<scripted>(hello::role::listener, with_key, ours.other_way());
  auto said = numbers({how});
  if (who == hello::role::client) {
    said = said + client.bytes();
    if (with_key) said = said + detail::prove(key(), who, client, listener);
    return said;
  }
  said = said + theirs.bytes() + bytes(8);
  return with_key ? said + detail::prove(key(), who, mine, theirs) : said + bytes(32);
}

// --- all of them

struct kind {
  char const* name;
  void (*read)(input);
  std::vector<bytes> seeds;
};
template <class T, spelling How = spelling::one, std::size_t Factor = 256>
kind of(char const* name, std::initializer_list<T> samples) {
  kind k{name, &values<T, How, Factor>, {}};
  for (auto const& each : samples) k.seeds.push_back(to_bytes(each));
  return k;
}
template <class E>
bytes nested(E const& outer) {
  try {
    try {
      throw std::system_error(std::make_error_code(std::errc::io_error), "read");
    } catch (...) {
      std::throw_with_nested(outer);
    }
  } catch (...) {
    return exception_bytes(std::current_exception());
  }
}

tree a_tree(int depth) {
  tree t{static_cast<std::int16_t>(depth), {}};
  if (depth > 0) t.below = {a_tree(depth - 1), a_tree(0)};
  return t;
}
heavy a_heavy(int depth) {
  heavy h;
  if (depth > 0) h.below.push_back(a_heavy(depth - 1));
  return h;
}
bytes levels(std::size_t n, std::initializer_list<unsigned> each, std::initializer_list<unsigned> last) {
  bytes all;
  for (std::size_t i = 0; i < n; ++i) all = all + numbers(each);
  return all + numbers(last);
}

/// New ones are added at the end: an input's first byte is the place here.
std::vector<kind> const& kinds() {
  using namespace std::chrono;
  static std::vector<kind> const all = [] {
    std::vector<kind> k;
    k.push_back(of<bool>("bool", {true}));
    k.push_back(of<std::int8_t>("int8", {-1}));
    k.push_back(of<long>("long", {-2, 1L << 40}));
    k.push_back(of<double>("double", {0.5}));
    k.push_back(of<wchar_t>("wchar", {L'x'}));
    k.push_back(of<colour>("enum-class", {colour::green}));
    k.push_back(of<plain>("enum", {down}));
    k.push_back(of<std::string>("string", {"", "hello", std::string(200, 'x')}));
    k.push_back(of<std::u16string>("u16string", {u"hello"}));
    k.push_back(of<std::wstring>("wstring", {L"hello"}));
    k.push_back(of<std::vector<bool>>("vector-bool", {{true, false, true}}));
    k.push_back(of<std::vector<std::uint32_t>>("vector-uint32", {{1, 2, 3}}));
    k.push_back(of<std::vector<std::string>>("vector-string", {{"a", "", "bcd"}}));
    k.push_back(of<std::vector<std::vector<std::vector<long>>>>("vectors", {{{{1, 2}, {}}, {{3}}}}));
    k.push_back(of<std::deque<std::int16_t>>("deque", {{1, 2, 3}}));
    k.push_back(of<std::list<std::string>>("list", {{"a", "b"}}));
    k.push_back(of<std::forward_list<int>>("forward-list", {{1, 2}}));
    k.push_back(of<std::map<std::string, int>, spelling::ordered>("map", {{{"a", 1}, {"b", 2}}}));
    k.push_back(of<std::set<double>, spelling::ordered>("set-double", {{1.5, -2}}));
    k.push_back(of<std::multimap<int, std::string>, spelling::ordered>("multimap", {{{1, "a"}, {1, "b"}}}));
    k.push_back(of<std::unordered_map<std::string, std::vector<int>>, spelling::any>(
        "unordered-map", {{{"a", {1}}, {"b", {}}}}));
    k.push_back(of<std::unordered_set<std::uint16_t>, spelling::any>("unordered-set", {{1, 2, 3}}));
    k.push_back(of<std::unordered_multiset<float>, spelling::size>("unordered-multiset", {{1, 1, 2}}));
    k.push_back(of<std::optional<std::string>>("optional", {std::nullopt, "a"}));
    k.push_back(of<std::optional<std::optional<bool>>>("optionals", {std::optional<bool>(true)}));
    k.push_back(of<choice>("variant", {true, std::string("a"), std::vector{1, 2}, point{1, 2}}));
    k.push_back(of<std::tuple<int, std::string, std::pair<bool, char>>>("tuple", {{1, "a", {true, 'c'}}}));
    k.push_back(of<std::tuple<>>("tuple-empty", {{}}));
    k.push_back(of<std::array<std::uint16_t, 3>>("array", {{1, 2, 3}}));
    k.push_back(of<std::array<std::string, 0>>("array-empty", {{}}));
    k.push_back(of<std::array<bool, 100>>("array-large", {{true}}));
    k.push_back(of<std::pair<nanoseconds, system_clock::time_point>>("chrono", {{5ns, system_clock::time_point(7s)}}));
    k.push_back(of<duration<double>>("chrono-double", {duration<double>(0.5)}));
    k.push_back(of<nothing>("stateless", {{}}));
    k.push_back(of<point>("aggregate", {{1, 2}}));
    k.push_back(of<person>("aggregates", {{"egon", 18, {"a", "b"}, point{1, 2}, {1, 2, 3}, {}}}));
    k.push_back(of<wide>("aggregate-wide", {wide{}}));
    k.push_back(of<tree>("tree", {a_tree(0), a_tree(4), a_tree(60)}));
    k.push_back(of<heavy, spelling::one, 200000>("tree-of-heavy", {a_heavy(2)}));
    k.back().seeds.push_back(levels(250, {0, 1}, {0, 0}));
    k.push_back(of<std::vector<std::optional<std::array<std::uint64_t, 128>>>, spelling::one, 5000>(
        "vector-of-large", {{std::nullopt, std::nullopt}}));
    k.push_back(of<std::vector<nothing>>("vector-stateless", {{{}, {}}}));
    k.push_back(of<std::map<std::vector<std::pair<bool, bool>>, std::set<std::string>>, spelling::ordered>(
        "maps", {{{{{true, false}}, {"a"}}}}));
    k.push_back({"exception", &exceptions, {}});
    std::system_error const without_text(std::make_error_code(std::errc::io_error), "");
    k.back().seeds = {exception_bytes(std::make_exception_ptr(std::logic_error("a"))),
                      exception_bytes(std::make_exception_ptr(std::bad_alloc())),
                      exception_bytes(std::make_exception_ptr(without_text)),
                      exception_bytes(std::make_exception_ptr(queue_closed())),
                      exception_bytes(std::make_exception_ptr(worker_lost(7, -9))),
                      exception_bytes(std::make_exception_ptr(decode_error("a", 3))),
                      exception_bytes(std::make_exception_ptr(5)),
                      exception_bytes(std::make_exception_ptr(group_failure("a", 2, 7, -9))),
                      nested(std::out_of_range("a")),
                      nested(owner_died("a"))};
    k.push_back({"call", &calls, {to_bytes(adder{2}) + to_bytes(adder_arguments{1, "a", {2, 3}})}});
    writer place;
    detail::write_location(place, {"libother.so", 0x123456789, 0x4000});
    k.push_back({"place", &places, {{place.view().begin(), place.view().end()}}});
    auto const two = frame(text("hello")) + frame({});
    k.push_back({"frames", &frames, {numbers({7, 200}) + two, numbers({8, 1}) + two, numbers({0x1A, 9}) + two}});
    auto const values_ = frame(to_bytes(std::vector<std::string>{"a", "bc"}));
    k.push_back({"messages", &messages, {numbers({7}) + values_ + frame(text("no")) + values_, numbers({0x18}) + values_}});
    k.push_back({"lines", &lines, {numbers({7}) + text("one\ntwo\n\nand the rest"), numbers({9}) + text("a\n")}});
    k.push_back({"passed-connection", &passed_connections,
                 {numbers({1, 0, 3, 'a', 'b', 'c'}) + bytes(8) + numbers({2, 1, 'd'})}});
    using detail::hello;
    k.push_back({"listening-with-key", &listening_with_key,
                 {said_by(hello::role::client, true, 7), said_by(hello::role::client, true, 9)}});
    k.push_back({"listening-without-key", &listening_without_key, {said_by(hello::role::client, false, 7)}});
    k.push_back({"calling-with-key", &calling_with_key,
                 {said_by(hello::role::listener, true, 7), said_by(hello::role::listener, true, 1)}});
    k.push_back({"calling-without-key", &calling_without_key, {said_by(hello::role::listener, false, 7)}});
    k.push_back({"chain", &values<chain>, {levels(3, {1}, {0}), levels(300, {1}, {0})}});
    return k;
  }();
  return all;
}

// --- what is known to be wrong

/// Takes memory for a count before it knows that so many can follow.
void trusts_a_length(input in) {
  memory_bound const bound(256 * in.size());
  try {
    reader from(in);
    std::vector<std::uint32_t> all;
    all.reserve(static_cast<std::size_t>(from.raw<std::uint16_t>()) << 4);
    while (from.remaining() != 0) all.push_back(from.raw<std::uint32_t>());
  } catch (decode_error const&) {
  }
  bound.check();
}
/// Reads as many as are announced.
void reads_past_the_end(input in) {
  if (in.empty()) return;
  unsigned sum = 0;
  for (std::size_t i = 1; i <= std::to_integer<std::size_t>(in[0]); ++i) sum += std::to_integer<unsigned>(in.data()[i]);
  auto volatile const kept = sum;
  (void)kept;
}
/// Compares no more of a proof than has come.
void compares_a_beginning(input in) {
  auto const right = detail::prove(key(), detail::hello::role::client, {}, {});
  auto const n = std::min(right.size(), in.size());
  must(n == right.size() || !std::ranges::equal(input(right).first(n), in.first(n)), "somebody without the key is let in");
}

void (*wrong_one())(input) {
  char const* const asked = std::getenv("POLYPROC_FUZZ_WRONG");
  if (asked == nullptr) return nullptr;
  std::string_view const name = asked;
  if (name == "length") return &trusts_a_length;
  if (name == "end") return &reads_past_the_end;
  if (name == "spelling") return &values<lenient>;
  if (name == "key") return &compares_a_beginning;
  broken("there is no such wrong decoder");
}

void write_seeds(std::string const& folder) {
  for (std::size_t i = 0; i < kinds().size(); ++i) {
    auto const& k = kinds()[i];
    for (std::size_t j = 0; j < k.seeds.size(); ++j) {
      auto const all = numbers({static_cast<unsigned>(i)}) + k.seeds[j];
      std::ofstream file(folder + "/" + k.name + "-" + std::to_string(j), std::ios::binary);
      file.write(reinterpret_cast<char const*>(all.data()), static_cast<std::streamsize>(all.size()));
      must(file.good(), "a seed cannot be written");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  if (char const* const folder = std::getenv("POLYPROC_FUZZ_SEEDS")) {
    write_seeds(folder);
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  static auto* const wrong = wrong_one();
  input const all = std::as_bytes(std::span(data, size));
  if (wrong != nullptr) {
    wrong(all);
    return 0;
  }
  if (all.empty() || std::to_integer<std::size_t>(all[0]) >= kinds().size()) return 0;
  kinds()[std::to_integer<std::size_t>(all[0])].read(all.subspan(1));
  return 0;
}
