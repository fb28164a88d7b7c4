/// How the two sides of a message connection come to trust each other before anything is decoded.
///
///   client                                            listener
///   hello: role, version, types, nonce    ---------->
///                                         <----------  hello: role, version, types, nonce
///   HMAC(key, "client", both hellos)      ---------->                                          (with a key only)
///                                         <----------  verdict, HMAC(key, "server", both hellos, verdict)
///
/// All four have fixed sizes. The nonces, 32 random bytes from each side, make every proof a new one; the roles in it keep
/// one side from being sent back its own; that both hellos are in it binds version and types to the key. The client proves
/// first, so that a listener answers nothing made with the key to those who do not know it. Compared in constant time. The
/// key itself is never sent. What it does not do is hide what is sent afterwards, or keep others on the way from changing
/// it: for a network that is not trusted, a tunnel is needed besides.
#pragma once

#include <polyproc/channel/auth_key.hpp>
#include <polyproc/channel/sha256.hpp>
#include <polyproc/channel/stream.hpp>

namespace polyproc::inline v0_1::detail {

/// What a side sends and receives: type_fingerprint of each.
struct spoken_types {
  std::uint64_t sends = 0;
  std::uint64_t receives = 0;
  friend bool operator==(spoken_types const&, spoken_types const&) = default;
  [[nodiscard]] spoken_types other_way() const noexcept { return {receives, sends}; }
};

enum class handshake_verdict : std::uint8_t { welcome, wrong_key, wrong_types };

/// The first message of each side.
class hello {
 public:
  static constexpr std::size_t size = 64;
  static constexpr std::uint32_t version = 1;
  enum class role : char { client = 'C', listener = 'L' };

  hello() = default;
  /// Of this side. Throws std::system_error.
  template <backend Backend>
  static hello make(role who, bool with_key, spoken_types types) {
    hello made;
    std::memcpy(made.bytes_.data(), magic.data(), magic.size());
    made.bytes_[magic.size()] = static_cast<std::byte>(who);
    made.number(8, version, 4);
    made.number(12, with_key ? 1 : 0, 4);
    made.number(16, types.sends, 8);
    made.number(24, types.receives, 8);
    Backend::random(std::span(made.bytes_).subspan(32));
    return made;
  }

  [[nodiscard]] std::span<std::byte> bytes() noexcept { return bytes_; }
  [[nodiscard]] std::span<std::byte const> bytes() const noexcept { return bytes_; }
  /// Whether it is a hello at all, from such a side.
  [[nodiscard]] bool is_from(role who) const noexcept {
    return std::memcmp(bytes_.data(), magic.data(), magic.size()) == 0 && bytes_[magic.size()] == static_cast<std::byte>(who);
  }
  [[nodiscard]] bool same_version() const noexcept { return number(8, 4) == version; }
  [[nodiscard]] bool with_key() const noexcept { return number(12, 4) == 1; }
  [[nodiscard]] spoken_types types() const noexcept { return {number(16, 8), number(24, 8)}; }

 private:
  static constexpr std::string_view magic = "polypro";

  void number(std::size_t at, std::uint64_t value, std::size_t width) noexcept {
    for (std::size_t i = 0; i < width; ++i) bytes_[at + i] = static_cast<std::byte>(value >> (8 * i));
  }
  [[nodiscard]] std::uint64_t number(std::size_t at, std::size_t width) const noexcept {
    std::uint64_t value = 0;
    for (std::size_t i = width; i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(bytes_[at + i]);
    return value;
  }

  std::array<std::byte, size> bytes_{};
};

[[nodiscard]] inline digest prove(auth_key const& key, hello::role who, hello const& client, hello const& listener,
                                  handshake_verdict verdict = handshake_verdict::welcome) noexcept {
  std::array<std::byte, 16> label{};
  auto const text = who == hello::role::client ? std::string_view("polyproc client") : std::string_view("polyproc server");
  std::memcpy(label.data(), text.data(), text.size());
  label.back() = static_cast<std::byte>(verdict);
  return hmac_sha256(key.bytes()).add(label).add(client.bytes()).add(listener.bytes()).finish();
}

/// The last message: what the listener decided, and its proof (zeros without a key, or for who does not know it).
struct verdict_message {
  static constexpr std::size_t size = 40;
  std::array<std::byte, size> bytes{};
};

/// The listener's side, one of many at a time: a state that advances when something has come, and never waits.
template <backend Backend>
class listener_handshake {
 public:
  using stream_end = typename Backend::stream;
  enum class outcome : std::uint8_t { waits, done, ended, garbage, wrong_key, wrong_types };

  /// The stream is the caller's.
  listener_handshake(stream_end end, time_point deadline) noexcept : end_(end), deadline_(deadline) {}

  [[nodiscard]] stream_end end() const noexcept { return end_; }
  [[nodiscard]] time_point deadline() const noexcept { return deadline_; }
  void deadline(time_point when) noexcept { deadline_ = when; }

  /// Reads what is there. `key`: nullptr if there is none. Throws std::system_error only for want of random bytes.
  outcome advance(auth_key const* key, spoken_types types) {
    for (;;) {
      auto const wanted = proving_ ? proof_.size() : hello::size;
      auto const into = (proving_ ? std::span<std::byte>(proof_) : client_.bytes()).subspan(have_);
      std::optional<std::size_t> got;
      try {
        got = Backend::stream_read(end_, into, time_point{});
      } catch (std::system_error const&) {  // it is gone
        return outcome::ended;
      }
      if (!got) return outcome::waits;
      if (*got == 0) return outcome::ended;
      have_ += *got;
      // What begins like something else need not be waited for.
      if (!proving_ && have_ >= 8 && !client_.is_from(hello::role::client)) return outcome::garbage;
      if (have_ < wanted) continue;
      have_ = 0;
      auto const next = proving_ ? judge(key, types) : answer(key, types);
      if (next != outcome::waits || !proving_) return next;
    }
  }

 private:
  outcome answer(auth_key const* key, spoken_types types) {
    own_ = hello::make<Backend>(hello::role::listener, key != nullptr, types);
    if (!say(own_.bytes())) return outcome::ended;
    if (!client_.same_version()) return outcome::garbage;  // the client sees in our hello what we speak
    if (client_.with_key() != (key != nullptr)) return outcome::wrong_key;  // this one too
    proving_ = key != nullptr;
    return proving_ ? outcome::waits : decide(nullptr, handshake_verdict::welcome, types);
  }
  outcome judge(auth_key const* key, spoken_types types) {
    bool const good = key != nullptr && same_secret(proof_, prove(*key, hello::role::client, client_, own_));
    return decide(good ? key : nullptr, good ? handshake_verdict::welcome : handshake_verdict::wrong_key, types);
  }
  outcome decide(auth_key const* key, handshake_verdict verdict, spoken_types types) {
    bool const same = client_.types() == types.other_way() && own_.types() == types;
    if (verdict == handshake_verdict::welcome && !same) verdict = handshake_verdict::wrong_types;
    verdict_message last;
    last.bytes[0] = static_cast<std::byte>(verdict);
    if (key != nullptr) {
      auto const proof = prove(*key, hello::role::listener, client_, own_, verdict);
      std::copy(proof.begin(), proof.end(), last.bytes.begin() + 8);
    }
    bool const told = say(last.bytes);
    if (verdict == handshake_verdict::wrong_key) return outcome::wrong_key;
    if (verdict == handshake_verdict::wrong_types) return outcome::wrong_types;
    return told ? outcome::done : outcome::ended;
  }
  /// A few bytes, for which a fresh connection has room: who has none for them does not read.
  bool say(std::span<std::byte const> bytes) noexcept {
    try {
      while (!bytes.empty()) {
        auto const put = Backend::stream_write(end_, bytes, time_point{});
        if (!put) return false;
        bytes = bytes.subspan(*put);
      }
      return true;
    } catch (std::exception const&) {
      return false;
    }
  }

  stream_end end_;
  time_point deadline_;
  hello client_;
  hello own_;
  digest proof_{};
  std::size_t have_ = 0;
  bool proving_ = false;
};

/// The client's side, to its end. Throws authentication_error, connection_error, timeout_error, std::system_error.
template <backend Backend>
void client_handshake(typename Backend::stream end, auth_key const* key, spoken_types types, time_point deadline) {
  auto const say = [&](std::span<std::byte const> bytes) {
    while (!bytes.empty()) {
      auto const put = Backend::stream_write(end, bytes, deadline);
      if (!put) throw timeout_error();
      bytes = bytes.subspan(*put);
    }
  };
  auto const hear = [&](std::span<std::byte> bytes) {
    while (!bytes.empty()) {
      auto const got = Backend::stream_read(end, bytes, deadline);
      if (!got) throw timeout_error();
      if (*got == 0)
        throw connection_lost("polyproc: the other side closed a connection before both knew each other: it may speak "
                              "another protocol, or have waited too long");
      bytes = bytes.subspan(*got);
    }
  };
  auto const own = hello::make<Backend>(hello::role::client, key != nullptr, types);
  say(own.bytes());
  hello other;
  hear(other.bytes().first(8));
  hear(other.bytes().subspan(8));
  if (!other.is_from(hello::role::listener) || !other.same_version())
    throw connection_error("polyproc: what answers at this address is no listener of this version of polyproc");
  if (other.with_key() != (key != nullptr))
    throw authentication_error(key != nullptr ? "polyproc: the other side of a connection does not prove that it knows the "
                                                "authkey: it was made without one"
                                              : "polyproc: the other side of a connection asks for an authkey; give the same "
                                                "one to both");
  if (key != nullptr) say(prove(*key, hello::role::client, own, other));
  verdict_message last;
  hear(last.bytes);
  auto const verdict = static_cast<handshake_verdict>(last.bytes[0]);
  bool proven = key == nullptr;
  if (!proven && verdict != handshake_verdict::wrong_key)
    proven = same_secret(std::span(last.bytes).subspan(8), prove(*key, hello::role::listener, own, other, verdict));
  if (!proven)
    throw authentication_error("polyproc: the two sides of a connection do not have the same authkey; programs that were not "
                               "started from a common one need set_authkey, or .authkey on both sides");
  if (verdict != handshake_verdict::welcome || other.types() != types.other_way())
    throw connection_error("polyproc: the two sides of a connection do not speak of the same types: what one sends must be "
                           "what the other receives");
}

}  // namespace polyproc::inline v0_1::detail
