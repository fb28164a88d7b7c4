/// One object that every process sees.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/memory/handle.hpp>
#include <polyproc/memory/shareable.hpp>

#include <optional>

namespace polyproc::inline v0_1 {

namespace detail {

// A user who gives fewer values than an aggregate has members means it.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#endif
/// Makes a T at a place from args: parentheses or, for an aggregate, its members in order.
template <class T, class... Args>
void construct_shared(std::byte* place, Args&&... args) {
  if constexpr (sizeof...(Args) == 0)
    ::new (static_cast<void*>(place)) T{};
  else if constexpr (std::is_constructible_v<T, Args...>)
    ::new (static_cast<void*>(place)) T(std::forward<Args>(args)...);
  else
    ::new (static_cast<void*>(place)) T{std::forward<Args>(args)...};
}
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

[[noreturn]] inline void throw_name_exists(std::string_view name) {
  throw std::system_error(std::make_error_code(std::errc::file_exists),
                          "polyproc: shared memory \"" + std::string(name) +
                              "\" exists already; open it, use open_or_create, or remove it");
}
[[noreturn]] inline void throw_no_such_name(std::string_view name) {
  throw std::system_error(std::make_error_code(std::errc::no_such_file_or_directory),
                          "polyproc: there is no shared memory \"" + std::string(name) +
                              "\"; create it, or use open_or_create");
}

/// What shared, shared_array and shared_segment do with names. H makes a handle from an attachment_ref; `kind` is what
/// its memory holds.
template <class H, backend Backend>
struct naming {
  using block = named_block<Backend>;
  using ref = attachment_ref<Backend>;

  template <class Fill>
  static H create(std::string_view name, std::size_t size, typename block::kind k, name_options options, Fill&& fill) {
    ref made(block::create(name, size, k, options, fill));
    if (!made) throw_name_exists(name);
    return H(std::move(made));
  }
  static std::optional<H> try_open(std::string_view name, typename block::kind k) {
    ref found(block::open(name, k, H::writable));
    if (!found) return std::nullopt;
    return H(std::move(found));
  }
  static H open(std::string_view name, typename block::kind k) {
    auto found = try_open(name, k);
    if (!found) throw_no_such_name(name);
    return std::move(*found);
  }
  template <class Fill>
  static H open_or_create(std::string_view name, std::size_t size, typename block::kind k, name_options options,
                          Fill&& fill) {
    for (;;) {
      if (auto found = try_open(name, k)) return std::move(*found);
      if (ref made(block::create(name, size, k, options, fill)); made) return H(std::move(made));
    }
  }
};

}  // namespace detail

/// A handle to one T in shared memory; copies refer to the same object, in every process, and it lives until the last
/// handle is gone. What several processes change is guarded by the user: put a polyproc::mutex (or atomics) into T. A
/// process that is killed keeps its hold on the object until the whole family of processes ends; the object itself is
/// as the last completed instruction left it.
///
/// shared<T const> is a handle through which the object can only be read: it is mapped without the permission to write,
/// so a write (through a cast) is a fault that ends that process alone. Every shared<T> can be made into one.
///
/// With a name the object is found by programs of other families too; see create, open and remove.
template <class T, backend Backend = native_backend>
class basic_shared {
  using object = std::remove_const_t<T>;
  static_assert(detail::shareable_kind<object>(),
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
    detail::construct_shared<object>(block_->contents(), std::forward<Args>(args)...);
    look();
  }

  /// For reading only. Throws std::system_error; handle_error when it has a name that was removed.
  template <class U>
    requires(std::is_const_v<T> && std::is_same_v<U, object>)
  basic_shared(basic_shared<U, Backend> const& other)
      : block_(other.block_) {
    look();
  }

  /// With a name, made from args. Throws std::system_error (file_exists when there is such a name already, permission_denied,
  /// no_space_on_device ...); then there is none. Whoever is killed in it leaves no name either.
  template <class... Args>
  [[nodiscard]] static basic_shared create(std::string_view name, name_options options, Args&&... args)
    requires(!std::is_const_v<T>)
  {
    return names::create(name, sizeof(T), kind(), options,
                         [&](std::byte* at) { detail::construct_shared<object>(at, std::forward<Args>(args)...); });
  }
  [[nodiscard]] static basic_shared create(std::string_view name)
    requires(!std::is_const_v<T>)
  {
    return create(name, name_options{});
  }
  /// The object of that name. Throws std::system_error (no_such_file_or_directory, permission_denied ...), handle_error when
  /// what has that name is something else.
  [[nodiscard]] static basic_shared open(std::string_view name) { return names::open(name, kind()); }
  /// Nothing if there is no such name; else as open.
  [[nodiscard]] static std::optional<basic_shared> try_open(std::string_view name) { return names::try_open(name, kind()); }
  /// What is there, or a new one made from args: all who call this at once get the same.
  template <class... Args>
  [[nodiscard]] static basic_shared open_or_create(std::string_view name, name_options options, Args&&... args)
    requires(!std::is_const_v<T>)
  {
    return names::open_or_create(name, sizeof(T), kind(), options,
                                 [&](std::byte* at) { detail::construct_shared<object>(at, args...); });
  }
  [[nodiscard]] static basic_shared open_or_create(std::string_view name)
    requires(!std::is_const_v<T>)
  {
    return open_or_create(name, name_options{});
  }
  /// Takes the name away; those who have the object keep it. False if there was none. (Windows: the name stays in use until
  /// they are gone.)
  static bool remove(std::string_view name) { return detail::named_block<Backend>::remove(name); }

  [[nodiscard]] T& operator*() const noexcept { return *get(); }
  [[nodiscard]] T* operator->() const noexcept { return get(); }
  [[nodiscard]] T* get() const noexcept {
    if constexpr (writable)
      return std::launder(reinterpret_cast<T*>(block_->contents()));
    else
      return std::launder(reinterpret_cast<T*>(seen_.at));
  }
  /// Empty without a name.
  [[nodiscard]] std::string_view name() const noexcept {
    auto const* const named = block_->named();
    return named == nullptr ? std::string_view{} : std::string_view(named->name);
  }

  /// Whether two handles refer to the same object.
  friend bool operator==(basic_shared const& a, basic_shared const& b) noexcept { return a.block_ == b.block_; }

 private:
  friend detail::handle_codec<basic_shared, Backend>;
  friend detail::naming<basic_shared, Backend>;
  friend std::optional<basic_shared>;
  template <class, backend>
  friend class basic_shared;
  using names = detail::naming<basic_shared, Backend>;

  explicit basic_shared(detail::attachment_ref<Backend> block) : block_(std::move(block)) { look(); }

  static constexpr bool writable = !std::is_const_v<T>;
  static constexpr std::uint64_t fingerprint() { return detail::shared_fingerprint<object>(); }
  static constexpr std::uint64_t layout = 1;
  static constexpr char const* handle_name = "shared object";
  static constexpr typename detail::named_block<Backend>::kind kind() { return {fingerprint(), layout, handle_name}; }

  /// Where it is for reading is found once: it costs a call, and may fail.
  void look() {
    if constexpr (!writable) seen_.at = block_->contents_for_reading();
  }
  struct nothing {};
  struct seen {
    std::byte const* at = nullptr;
  };

  detail::attachment_ref<Backend> block_;
  [[no_unique_address]] std::conditional_t<writable, nothing, seen> seen_;
};

/// A handle travels as a reference to the same object.
template <class T, backend Backend>
struct codec<basic_shared<T, Backend>> : detail::handle_codec<basic_shared<T, Backend>, Backend> {};

template <class T>
using shared = basic_shared<T>;

}  // namespace polyproc::inline v0_1
