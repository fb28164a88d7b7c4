// SHA-256 and HMAC against what the standards say that they give.
#include "support/catch.hpp"

#include <polyproc/channel/sha256.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace {

using polyproc::detail::digest;
using polyproc::detail::hmac_sha256;
using polyproc::detail::same_secret;
using polyproc::detail::sha256;

std::span<std::byte const> bytes(std::string_view text) {
  return {reinterpret_cast<std::byte const*>(text.data()), text.size()};
}
std::string hex(std::span<std::byte const> all) {
  std::string text;
  for (auto const b : all) {
    text += "0123456789abcdef"[std::to_integer<unsigned>(b) >> 4];
    text += "0123456789abcdef"[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}
std::string hash(std::string_view text) { return hex(sha256().add(bytes(text)).finish()); }
std::string hmac(std::string_view key, std::string_view text) {
  return hex(hmac_sha256(bytes(key)).add(bytes(text)).finish());
}

}  // namespace

TEST_CASE("SHA-256 of what FIPS 180-4 gives as examples") {
  CHECK(hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hash("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(hash("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
             "nopqrstu") == "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  CHECK(hash(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("SHA-256 is the same however the bytes come, at every length around a block") {
  std::string text;
  for (int i = 0; i < 200; ++i) text += static_cast<char>('a' + i % 26);
  for (std::size_t size = 0; size <= text.size(); ++size) {
    auto const whole = hash(std::string_view(text).substr(0, size));
    for (std::size_t const piece : {std::size_t{1}, std::size_t{7}, std::size_t{64}}) {
      sha256 pieces;
      for (std::size_t at = 0; at < size; at += piece)
        pieces.add(bytes(std::string_view(text).substr(at, std::min(piece, size - at))));
      REQUIRE(hex(pieces.finish()) == whole);
    }
  }
}

TEST_CASE("HMAC-SHA-256 of RFC 4231's cases 1 to 7") {
  CHECK(hmac(std::string(20, '\x0b'), "Hi There") == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  CHECK(hmac("Jefe", "what do ya want for nothing?") ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK(hmac(std::string(20, '\xaa'), std::string(50, '\xdd')) ==
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
  std::string counted;
  for (char c = 1; c <= 25; ++c) counted += c;
  CHECK(hmac(counted, std::string(50, '\xcd')) == "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
  CHECK(hmac(std::string(20, '\x0c'), "Test With Truncation").substr(0, 32) == "a3b6167473100ee06e0c796c2955552b");
  CHECK(hmac(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First") ==
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
  CHECK(hmac(std::string(131, '\xaa'),
             "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
             "hashed before being used by the HMAC algorithm.") ==
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

TEST_CASE("secrets are the same only if every byte is") {
  digest one{};
  digest other{};
  CHECK(same_secret(one, other));
  for (auto& b : other) {
    b = std::byte{1};
    CHECK_FALSE(same_secret(one, other));
    b = std::byte{};
  }
  CHECK_FALSE(same_secret(one, std::span(other).first(31)));
}
