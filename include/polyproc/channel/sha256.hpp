/// SHA-256 (FIPS 180-4) and HMAC (RFC 2104) with it: how the two sides of a connection prove that they know the same key.
#pragma once

#include <polyproc/version.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace polyproc::inline v0_1::detail {

using digest = std::array<std::byte, 32>;

class sha256 {
 public:
  sha256& add(std::span<std::byte const> bytes) noexcept {
    total_ += bytes.size();
    while (!bytes.empty()) {
      auto const part = bytes.first(std::min(bytes.size(), block_.size() - used_));
      std::memcpy(block_.data() + used_, part.data(), part.size());
      used_ += part.size();
      bytes = bytes.subspan(part.size());
      if (used_ == block_.size()) {
        mix();
        used_ = 0;
      }
    }
    return *this;
  }

  /// Once.
  [[nodiscard]] digest finish() noexcept {
    auto const bits = total_ * 8;
    block_[used_++] = std::byte{0x80};
    constexpr std::size_t length_at = 56;
    if (used_ > length_at) {
      std::fill(block_.begin() + static_cast<std::ptrdiff_t>(used_), block_.end(), std::byte{});
      mix();
      used_ = 0;
    }
    std::fill(block_.begin() + static_cast<std::ptrdiff_t>(used_), block_.end(), std::byte{});
    for (std::size_t i = 0; i < 8; ++i) block_[block_.size() - 1 - i] = static_cast<std::byte>(bits >> (8 * i));
    mix();
    digest out{};
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(state_[i / 4] >> (24 - 8 * (i % 4)));
    return out;
  }

 private:
  void mix() noexcept {
    std::array<std::uint32_t, 64> w{};
    for (std::size_t i = 0; i < 16; ++i)
      for (std::size_t j = 0; j < 4; ++j) w[i] = w[i] << 8 | std::to_integer<std::uint32_t>(block_[4 * i + j]);
    for (std::size_t i = 16; i < 64; ++i) {
      auto const a = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      auto const b = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    auto s = state_;
    for (std::size_t i = 0; i < 64; ++i) {
      auto const e = std::rotr(s[4], 6) ^ std::rotr(s[4], 11) ^ std::rotr(s[4], 25);
      auto const choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
      auto const first = s[7] + e + choice + constants[i] + w[i];
      auto const a = std::rotr(s[0], 2) ^ std::rotr(s[0], 13) ^ std::rotr(s[0], 22);
      auto const majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
      s = {first + a + majority, s[0], s[1], s[2], s[3] + first, s[4], s[5], s[6]};
    }
    for (std::size_t i = 0; i < s.size(); ++i) state_[i] += s[i];
  }

  static constexpr std::array<std::uint32_t, 64> constants{
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
      0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
      0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
      0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
      0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
      0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
      0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> block_{};
  std::size_t used_ = 0;
  std::uint64_t total_ = 0;
};

class hmac_sha256 {
 public:
  explicit hmac_sha256(std::span<std::byte const> key) noexcept {
    if (key.size() > key_.size()) {
      auto const shorter = sha256().add(key).finish();
      std::copy(shorter.begin(), shorter.end(), key_.begin());
    } else {
      std::copy(key.begin(), key.end(), key_.begin());
    }
    inner_.add(padded(std::byte{0x36}));
  }
  hmac_sha256& add(std::span<std::byte const> bytes) noexcept {
    inner_.add(bytes);
    return *this;
  }
  /// Once.
  [[nodiscard]] digest finish() noexcept {
    auto const inside = inner_.finish();
    return sha256().add(padded(std::byte{0x5c})).add(inside).finish();
  }

 private:
  [[nodiscard]] std::array<std::byte, 64> padded(std::byte with) const noexcept {
    auto block = key_;
    for (auto& b : block) b ^= with;
    return block;
  }

  std::array<std::byte, 64> key_{};
  sha256 inner_;
};

/// Takes as long whether the first byte is wrong or the last, so that time tells nothing to who guesses.
[[nodiscard]] inline bool same_secret(std::span<std::byte const> a, std::span<std::byte const> b) noexcept {
  if (a.size() != b.size()) return false;
  unsigned char volatile different = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    different = static_cast<unsigned char>(different | std::to_integer<unsigned>(a[i] ^ b[i]));
  return different == 0;
}

}  // namespace polyproc::inline v0_1::detail
