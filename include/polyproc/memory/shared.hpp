/// One object that every process sees.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/memory/handle.hpp>
#include <polyproc/memory/shareable.hpp>

namespace polyproc::inline v0_1 {

/// A handle to one T in the family's shared memory; copies refer to the same object, in every process, and it lives
/// until the last handle is gone. What several processes change is guarded by the user: put a polyproc::mutex (or
/// atomics) into T. A process that is killed keeps its hold on the object until the whole family of processes ends; the
/// object itself is as the last completed instruction left it.
template <class T, backend Backend = native_backend>
class basic_shared {
  static_assert(detail::shareable_kind<T>(),
                "polyproc: this type cannot live in shared memory: its bytes mean something in one process only "
                "(a pointer, a container, a string, something with a destructor); use arrays of fixed size, atomics and "
                "polyproc primitives, or send values through a queue");
  static_assert(alignof(T) <= 64, "polyproc: shared objects are aligned to at most 64 bytes");

 public:
  using element_type = T;

  /// A value-initialised T. Throws std::bad_alloc, std::system_error, and what T's constructor throws.
  basic_shared() : basic_shared(std::in_place) {}

  /// A T made from args (parentheses or, for an aggregate, its members in order).
  template <class... Args>
  explicit basic_shared(std::in_place_t, Args&&... args)
      : block_(detail::attachment<Backend>::create(sizeof(T), fingerprint(), layout)) {
    if constexpr (sizeof...(Args) == 0)
      ::new (static_cast<void*>(block_->contents())) T{};
    else if constexpr (std::is_constructible_v<T, Args...>)
      ::new (static_cast<void*>(block_->contents())) T(std::forward<Args>(args)...);
    else
      ::new (static_cast<void*>(block_->contents())) T{std::forward<Args>(args)...};
  }

  [[nodiscard]] T& operator*() const noexcept { return *get(); }
  [[nodiscard]] T* operator->() const noexcept { return get(); }
  [[nodiscard]] T* get() const noexcept { return std::launder(reinterpret_cast<T*>(block_->contents())); }

  /// Whether two handles refer to the same object.
  friend bool operator==(basic_shared const& a, basic_shared const& b) noexcept { return a.block_ == b.block_; }

 private:
  friend detail::handle_codec<basic_shared, Backend>;
  explicit basic_shared(detail::attachment_ref<Backend> block) noexcept : block_(std::move(block)) {}

  static constexpr std::uint64_t fingerprint() { return detail::shared_fingerprint<T>(); }
  static constexpr std::uint64_t layout = 1;
  static constexpr char const* handle_name = "shared object";

  detail::attachment_ref<Backend> block_;
};

/// A handle travels as a reference to the same object.
template <class T, backend Backend>
struct codec<basic_shared<T, Backend>> : detail::handle_codec<basic_shared<T, Backend>, Backend> {};

template <class T>
using shared = basic_shared<T>;

}  // namespace polyproc::inline v0_1
