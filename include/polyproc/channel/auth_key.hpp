/// The secret by which the two sides of a connection know that they belong together.
#pragma once

#include <polyproc/backend/lasting.hpp>
#include <polyproc/backend/native.hpp>
#include <polyproc/wire/codec.hpp>

namespace polyproc::inline v0_1 {

/// Any bytes that both sides know and nobody else; the more and the less guessable the better (32 random ones are made for
/// every program). Never sent, and never shown by the library.
class auth_key {
 public:
  auth_key() = default;
  auth_key(char const* text) : auth_key(std::string_view(text)) {}
  auth_key(std::string const& text) : auth_key(std::string_view(text)) {}
  auth_key(std::string_view text) : bytes_(reinterpret_cast<std::byte const*>(text.data()),
                                           reinterpret_cast<std::byte const*>(text.data() + text.size())) {}
  auth_key(std::span<std::byte const> bytes) : bytes_(bytes.begin(), bytes.end()) {}

  /// 32 bytes that nobody can guess. Throws std::system_error.
  template <backend Backend = native_backend>
  [[nodiscard]] static auth_key random() {
    auth_key made;
    made.bytes_.resize(32);
    Backend::random(made.bytes_);
    return made;
  }

  [[nodiscard]] std::span<std::byte const> bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool empty() const noexcept { return bytes_.empty(); }

 private:
  std::vector<std::byte> bytes_;
};

template <>
struct codec<auth_key> {
  static void write(writer& out, auth_key const& key) {
    out.count(key.bytes().size());
    out.bytes(key.bytes());
  }
  static auth_key read(reader& in) { return auth_key(in.bytes(in.count_of(1))); }
};

namespace detail {

/// Of this process: made at the first need, which is before its first child is started, or what its parent had.
template <backend Backend>
auth_key& process_key() {
  static lasting<auth_key> const mine(auth_key::random<Backend>());
  return *mine;
}

}  // namespace detail

/// The key of connections that are not given one of their own: the same in all processes that polyproc has started from a
/// common root, and 32 random bytes if nobody has set it. Throws std::system_error.
[[nodiscard]] inline auth_key authkey() { return detail::process_key<native_backend>(); }

/// For this process and those that it starts from now on: so that programs of different families can talk. To be set while
/// no other thread starts a process or makes a connection. Throws std::invalid_argument if it is empty.
inline void set_authkey(auth_key key) {
  if (key.empty()) throw std::invalid_argument("polyproc: an authkey is not empty: everybody would know it");
  detail::process_key<native_backend>() = std::move(key);
}

}  // namespace polyproc::inline v0_1
