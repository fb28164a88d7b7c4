/// Where encoded values are written to and read from.
#pragma once

#include <polyproc/wire/error.hpp>

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace polyproc::inline v0_1 {

/// Appends bytes. Numbers are little-endian. What is written may include handles to shared things: each leaves a hold
/// that the reader takes over; a writer whose bytes are not sent (see sent) gives the holds back when it ends.
class writer {
 public:
  using discard = void (*)(std::uint64_t) noexcept;

  writer() = default;
  writer(writer const&) = delete;
  writer& operator=(writer const&) = delete;
  ~writer() { discard_all(); }

  void bytes(std::span<std::byte const> more) { bytes_.insert(bytes_.end(), more.begin(), more.end()); }

  template <class T>
    requires std::is_arithmetic_v<T>
  void raw(T value) {
    std::byte at[sizeof(T)];
    std::memcpy(at, &value, sizeof(T));
    if constexpr (std::endian::native == std::endian::big) {
      for (std::size_t i = 0; i < sizeof(T) / 2; ++i) std::swap(at[i], at[sizeof(T) - 1 - i]);
    }
    bytes({at, sizeof(T)});
  }

  /// A count: seven bits a byte, the lowest first, the eighth bit says that more follow.
  void count(std::uint64_t n) {
    for (; n >= 0x80; n >>= 7) raw(static_cast<std::uint8_t>(n | 0x80));
    raw(static_cast<std::uint8_t>(n));
  }

  [[nodiscard]] std::span<std::byte const> view() const noexcept { return bytes_; }

  /// `give_back(what)` is called unless sent() is.
  void on_discard(discard give_back, std::uint64_t what) { holds_.emplace_back(give_back, what); }
  /// The bytes are on their way: whoever reads them has the holds now.
  void sent() noexcept { holds_.clear(); }

 private:
  void discard_all() noexcept {
    for (auto const& [give_back, what] : holds_) give_back(what);
    holds_.clear();
  }
  std::vector<std::byte> bytes_;
  std::vector<std::pair<discard, std::uint64_t>> holds_;
};

/// Reads what a writer wrote, trusting nothing: everything that does not fit is a decode_error.
class reader {
 public:
  explicit reader(std::span<std::byte const> from) noexcept : all_(from) {}

  [[nodiscard]] std::size_t remaining() const noexcept { return all_.size() - at_; }
  [[nodiscard]] std::size_t offset() const noexcept { return at_; }

  std::span<std::byte const> bytes(std::size_t n) {
    if (n > remaining())
      fail(std::to_string(n) + " more bytes were expected and " + std::to_string(remaining()) + " are there");
    at_ += n;
    return all_.subspan(at_ - n, n);
  }

  template <class T>
    requires std::is_arithmetic_v<T>
  T raw() {
    std::byte at[sizeof(T)];
    std::memcpy(at, bytes(sizeof(T)).data(), sizeof(T));
    if constexpr (std::endian::native == std::endian::big) {
      for (std::size_t i = 0; i < sizeof(T) / 2; ++i) std::swap(at[i], at[sizeof(T) - 1 - i]);
    }
    T value;
    std::memcpy(&value, at, sizeof(T));
    return value;
  }

  std::uint64_t count() {
    std::uint64_t n = 0;
    for (int shift = 0;; shift += 7) {
      auto const part = raw<std::uint8_t>();
      if (shift == 63 && part > 1) fail("a count is too large");
      n |= std::uint64_t{part & 0x7FU} << shift;
      if (part < 0x80) {
        if (part == 0 && shift > 0) fail("a count is written longer than it is");
        return n;
      }
    }
  }

  /// A count of things of at least `least` bytes each: no more than can still follow.
  std::size_t count_of(std::size_t least) {
    auto const n = count();
    if (n > remaining() / least) fail("a count of " + std::to_string(n) + " is more than the rest can hold");
    return static_cast<std::size_t>(n);
  }

  /// Throws if anything is left.
  void expect_end() const {
    if (remaining() != 0) fail(std::to_string(remaining()) + " bytes are left over");
  }

  [[noreturn]] void fail(std::string const& problem) const { throw decode_error(problem, at_); }

  /// One level of nesting, for as long as it lives: bytes from a stranger must not use up the stack.
  class level {
   public:
    explicit level(reader& in) : in_(in) {
      if (++in_.depth_ > most_levels) in_.fail("values are nested deeper than " + std::to_string(most_levels));
    }
    level(level const&) = delete;
    level& operator=(level const&) = delete;
    ~level() { --in_.depth_; }

   private:
    static constexpr int most_levels = 200;
    reader& in_;
  };

 private:
  std::span<std::byte const> all_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace polyproc::inline v0_1
