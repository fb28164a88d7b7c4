/// An array that every process sees.
#pragma once

#include <polyproc/memory/shared.hpp>

#include <initializer_list>
#include <iterator>
#include <span>

namespace polyproc::inline v0_1 {

/// A handle to `size` objects of type T side by side in shared memory; copies refer to the same array. As for shared<T> in
/// every respect: names, shared_array<T const> for reading only, how long it lives. Parts of it are spans, which are valid
/// while there is a handle in this process.
template <class T, backend Backend = native_backend>
class basic_shared_array {
  using object = std::remove_const_t<T>;
  static_assert(detail::shareable_kind<object>(),
                "polyproc: this type cannot live in shared memory: its bytes mean something in one process only "
                "(a pointer, a container, a string, something with a destructor); use arrays of fixed size, atomics and "
                "polyproc primitives, or send values through a queue");
  static_assert(alignof(T) <= 64, "polyproc: shared objects are aligned to at most 64 bytes");

 public:
  using value_type = object;
  using element_type = T;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  using reference = T&;
  using iterator = T*;

  /// `size` value-initialised objects. Throws std::bad_alloc, std::system_error, and what T's constructor throws.
  explicit basic_shared_array(std::size_t size) : basic_shared_array(new_block(size)) { fill(block_->contents(), size); }
  /// Copies of one value.
  basic_shared_array(std::size_t size, object const& value) : basic_shared_array(new_block(size)) {
    for (std::size_t i = 0; i < size; ++i) ::new (static_cast<void*>(block_->contents() + i * sizeof(T))) object(value);
  }
  /// Copies of those.
  basic_shared_array(std::initializer_list<object> values) : basic_shared_array(std::span<object const>(values)) {}
  explicit basic_shared_array(std::span<object const> values) : basic_shared_array(new_block(values.size())) {
    for (std::size_t i = 0; i < values.size(); ++i)
      ::new (static_cast<void*>(block_->contents() + i * sizeof(T))) object(values[i]);
  }

  /// For reading only.
  template <class U>
    requires(std::is_const_v<T> && std::is_same_v<U, object>)
  basic_shared_array(basic_shared_array<U, Backend> const& other)
      : basic_shared_array(other.block_) {}

  /// With a name: as for shared<T>, with `size` value-initialised objects.
  [[nodiscard]] static basic_shared_array create(std::string_view name, std::size_t size, name_options options = {})
    requires(!std::is_const_v<T>)
  {
    return names::create(name, bytes_for(size), kind(), options, [&](std::byte* at) { fill(at, size); });
  }
  [[nodiscard]] static basic_shared_array open(std::string_view name) { return names::open(name, kind()); }
  [[nodiscard]] static std::optional<basic_shared_array> try_open(std::string_view name) {
    return names::try_open(name, kind());
  }
  /// What is there has the size with which it was made, which may be another one.
  [[nodiscard]] static basic_shared_array open_or_create(std::string_view name, std::size_t size, name_options options = {})
    requires(!std::is_const_v<T>)
  {
    return names::open_or_create(name, bytes_for(size), kind(), options, [&](std::byte* at) { fill(at, size); });
  }
  static bool remove(std::string_view name) { return detail::named_block<Backend>::remove(name); }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] T* data() const noexcept { return data_; }
  [[nodiscard]] T* begin() const noexcept { return data_; }
  [[nodiscard]] T* end() const noexcept { return data_ + size_; }
  [[nodiscard]] T& operator[](std::size_t i) const noexcept { return data_[i]; }
  [[nodiscard]] T& front() const noexcept { return data_[0]; }
  [[nodiscard]] T& back() const noexcept { return data_[size_ - 1]; }
  /// Throws std::out_of_range.
  [[nodiscard]] T& at(std::size_t i) const {
    if (i >= size_)
      throw std::out_of_range("polyproc: element " + std::to_string(i) + " of a shared array of " + std::to_string(size_));
    return data_[i];
  }
  [[nodiscard]] std::span<T> span() const noexcept { return {data_, size_}; }
  /// `count` elements from `first` on. Throws std::out_of_range when they are not all there.
  [[nodiscard]] std::span<T> slice(std::size_t first, std::size_t count) const {
    if (first > size_ || count > size_ - first)
      throw std::out_of_range("polyproc: a slice of " + std::to_string(count) + " elements from " + std::to_string(first) +
                              " of a shared array of " + std::to_string(size_));
    return {data_ + first, count};
  }
  /// Empty without a name.
  [[nodiscard]] std::string_view name() const noexcept {
    auto const* const named = block_->named();
    return named == nullptr ? std::string_view{} : std::string_view(named->name);
  }

  /// Whether two handles refer to the same array.
  friend bool operator==(basic_shared_array const& a, basic_shared_array const& b) noexcept { return a.block_ == b.block_; }

 private:
  friend detail::handle_codec<basic_shared_array, Backend>;
  friend detail::naming<basic_shared_array, Backend>;
  template <class, backend>
  friend class basic_shared_array;
  using names = detail::naming<basic_shared_array, Backend>;

  explicit basic_shared_array(detail::attachment_ref<Backend> block) : block_(std::move(block)) {
    size_ = block_->size() / sizeof(T);
    if constexpr (writable)
      data_ = reinterpret_cast<T*>(block_->contents());
    else
      data_ = reinterpret_cast<T*>(block_->contents_for_reading());
  }

  static std::size_t bytes_for(std::size_t size) {
    if (size > std::numeric_limits<std::size_t>::max() / 2 / sizeof(T)) throw std::bad_alloc();
    return size * sizeof(T);
  }
  static detail::attachment_ref<Backend> new_block(std::size_t size) {
    return detail::attachment_ref<Backend>(detail::attachment<Backend>::create(bytes_for(size), fingerprint(), layout));
  }
  /// What value-initialisation makes of zeroed memory is mostly nothing, and then nothing is touched.
  static void fill(std::byte* at, std::size_t size) {
    if constexpr (!std::is_arithmetic_v<object> && !std::is_enum_v<object>) {
      for (std::size_t i = 0; i < size; ++i) ::new (static_cast<void*>(at + i * sizeof(T))) object{};
    }
  }

  static constexpr bool writable = !std::is_const_v<T>;
  static constexpr std::uint64_t fingerprint() { return detail::shared_fingerprint<object>() ^ 0x6172726179ULL; }
  static constexpr std::uint64_t layout = 1;
  static constexpr char const* handle_name = "shared array";
  static constexpr typename detail::named_block<Backend>::kind kind() { return {fingerprint(), layout, handle_name}; }

  detail::attachment_ref<Backend> block_;
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

template <class T, backend Backend>
struct codec<basic_shared_array<T, Backend>> : detail::handle_codec<basic_shared_array<T, Backend>, Backend> {};

template <class T>
using shared_array = basic_shared_array<T>;

}  // namespace polyproc::inline v0_1
