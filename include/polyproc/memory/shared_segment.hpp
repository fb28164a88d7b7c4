/// A piece of shared memory as bytes.
#pragma once

#include <polyproc/memory/shared.hpp>

#include <span>

namespace polyproc::inline v0_1 {

/// How a segment is mapped.
enum class access : std::uint8_t { read_write, read_only };

/// A handle to `size` bytes, zero at first and aligned to 64; copies refer to the same bytes. What they mean is the
/// user's business. As for shared<T> in respect of names and of how long it lives; basic_shared_segment<access::read_only>
/// (read_only_segment) is for reading only, and every segment can be made into one.
template <access Access = access::read_write, backend Backend = native_backend>
class basic_shared_segment {
  static constexpr bool may_write = Access == access::read_write;

 public:
  using byte_type = std::conditional_t<may_write, std::byte, std::byte const>;

  /// Throws std::bad_alloc, std::system_error.
  explicit basic_shared_segment(std::size_t size)
    requires may_write
      : basic_shared_segment(detail::attachment_ref<Backend>(
            detail::attachment<Backend>::create(size, fingerprint(), layout))) {}
  template <access Other>
    requires(!may_write && Other == access::read_write)
  basic_shared_segment(basic_shared_segment<Other, Backend> const& other)
      : basic_shared_segment(other.block_) {}

  [[nodiscard]] static basic_shared_segment create(std::string_view name, std::size_t size, name_options options = {})
    requires may_write
  {
    return names::create(name, size, kind(), options, [](std::byte*) {});
  }
  [[nodiscard]] static basic_shared_segment open(std::string_view name) { return names::open(name, kind()); }
  [[nodiscard]] static std::optional<basic_shared_segment> try_open(std::string_view name) {
    return names::try_open(name, kind());
  }
  /// What is there has the size with which it was made, which may be another one.
  [[nodiscard]] static basic_shared_segment open_or_create(std::string_view name, std::size_t size, name_options options = {})
    requires may_write
  {
    return names::open_or_create(name, size, kind(), options, [](std::byte*) {});
  }
  static bool remove(std::string_view name) { return detail::named_block<Backend>::remove(name); }

  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
  [[nodiscard]] byte_type* data() const noexcept { return bytes_.data(); }
  [[nodiscard]] std::span<byte_type> bytes() const noexcept { return bytes_; }
  /// `count` bytes from `first` on. Throws std::out_of_range when they are not all there.
  [[nodiscard]] std::span<byte_type> slice(std::size_t first, std::size_t count) const {
    if (first > size() || count > size() - first)
      throw std::out_of_range("polyproc: a slice of " + std::to_string(count) + " bytes from " + std::to_string(first) +
                              " of a shared segment of " + std::to_string(size()));
    return bytes_.subspan(first, count);
  }
  [[nodiscard]] std::string_view name() const noexcept {
    auto const* const named = block_->named();
    return named == nullptr ? std::string_view{} : std::string_view(named->name);
  }

  friend bool operator==(basic_shared_segment const& a, basic_shared_segment const& b) noexcept {
    return a.block_ == b.block_;
  }

 private:
  friend detail::handle_codec<basic_shared_segment, Backend>;
  friend detail::naming<basic_shared_segment, Backend>;
  template <access, backend>
  friend class basic_shared_segment;
  using names = detail::naming<basic_shared_segment, Backend>;

  explicit basic_shared_segment(detail::attachment_ref<Backend> block) : block_(std::move(block)) {
    if constexpr (may_write)
      bytes_ = {block_->contents(), block_->size()};
    else
      bytes_ = {block_->contents_for_reading(), block_->size()};
  }

  static constexpr bool writable = may_write;
  static constexpr std::uint64_t fingerprint() { return 0x7365676d656e74ULL; }
  static constexpr std::uint64_t layout = 1;
  static constexpr char const* handle_name = "shared segment";
  static constexpr typename detail::named_block<Backend>::kind kind() { return {fingerprint(), layout, handle_name}; }

  detail::attachment_ref<Backend> block_;
  std::span<byte_type> bytes_;
};

template <access Access, backend Backend>
struct codec<basic_shared_segment<Access, Backend>>
    : detail::handle_codec<basic_shared_segment<Access, Backend>, Backend> {};

using shared_segment = basic_shared_segment<>;
using read_only_segment = basic_shared_segment<access::read_only>;

}  // namespace polyproc::inline v0_1
