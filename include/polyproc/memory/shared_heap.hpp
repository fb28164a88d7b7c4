/// A heap in shared memory, and an allocator over it for containers.
///
///   [header: books (memory/extents.hpp), root | table of the books | units of 64 bytes ...]
///
/// The root: one object by which everything else in the heap is found. It is made under root_lock, and published by one
/// store of its offset (the commit point) when it is complete; whoever dies before leaves no root, and memory that stays in
/// use until the heap ends. The same holds for what a process was about to put into a container when it was killed.
#pragma once

#include <polyproc/memory/offset_ptr.hpp>
#include <polyproc/memory/shared.hpp>

#include <memory>

namespace polyproc::inline v0_1 {

namespace detail {

/// Lies at the beginning of the heap's memory. All it knows is relative to where it lies.
template <sync_backend Backend>
class heap_core {
 public:
  using books_type = extents<Backend>;
  static constexpr std::size_t unit = 64;

  /// Of all-zero memory of `size` bytes, aligned to 64.
  static void make(std::byte* at, std::size_t size) {
    auto& h = *::new (static_cast<void*>(at)) heap_core;
    // On average four units for each entry: containers take few and large pieces.
    h.entries_ = static_cast<std::uint32_t>(std::clamp<std::size_t>(size / (4 * unit), 16, 1U << 20));
    auto const before = h.data_at();
    h.units_ = before >= size
                   ? 0
                   : static_cast<std::uint32_t>(std::min<std::size_t>((size - before) / unit, books_type::none - 1));
  }

  std::byte* allocate(std::size_t size) {
    auto const units = std::max<std::size_t>(1, size / unit + (size % unit != 0 ? 1 : 0));
    if (units > units_) throw std::bad_alloc();
    auto b = books();
    auto const hold = b.lock();
    auto const first = b.take(static_cast<std::uint32_t>(units), {});
    if (first == b.none) throw std::bad_alloc();
    return memory() + data_at() + std::size_t{first} * unit;
  }
  /// Nothing for what is not the beginning of a piece in use.
  void free(std::byte const* at) noexcept {
    auto const offset = static_cast<std::size_t>(at - memory()) - data_at();
    auto b = books();
    auto const hold = b.lock();
    if (auto const index = b.find(static_cast<std::uint32_t>(offset / unit)); index != b.none && offset % unit == 0)
      b.give(index);
  }
  std::size_t in_use() noexcept {
    auto b = books();
    auto const hold = b.lock();
    return static_cast<std::size_t>(b.in_use()) * unit;
  }
  bool sound() noexcept {
    auto b = books();
    auto const hold = b.lock();
    return b.sound();
  }
  [[nodiscard]] std::size_t capacity() const noexcept { return std::size_t{units_} * unit; }

  /// nullptr if there is none. Throws handle_error when it is of another type.
  std::byte* root(std::uint64_t fingerprint) {
    auto const at = root_.load(std::memory_order_acquire);
    if (at == 0) return nullptr;
    if (root_type_ != fingerprint)
      throw handle_error("polyproc: the root object of this heap is of another type; both sides must name the same type");
    return memory() + at;
  }
  [[nodiscard]] bool root_is_there() const noexcept { return root_.load(std::memory_order_acquire) != 0; }
  owner_lock<Backend>& root_lock() noexcept { return root_lock_; }
  void set_root(std::byte const* at, std::uint64_t fingerprint) noexcept {
    root_type_ = fingerprint;
    root_.store(static_cast<std::uint64_t>(at - memory()), std::memory_order_release);
  }

 private:
  [[nodiscard]] std::byte* memory() const noexcept {
    return reinterpret_cast<std::byte*>(const_cast<heap_core*>(this));
  }
  static constexpr std::size_t table_at() { return (sizeof(heap_core) + unit - 1) / unit * unit; }
  [[nodiscard]] std::size_t data_at() const noexcept {
    return (table_at() + entries_ * sizeof(typename books_type::entry) + unit - 1) / unit * unit;
  }
  [[nodiscard]] books_type books() noexcept {
    return {books_, reinterpret_cast<typename books_type::entry*>(memory() + table_at()), entries_, units_};
  }

  typename books_type::header books_{};
  std::uint32_t entries_ = 0;
  std::uint32_t units_ = 0;
  owner_lock<Backend> root_lock_;
  typename Backend::template atomic<std::uint64_t> root_{0};
  std::uint64_t root_type_ = 0;
};

/// Nodes in which this standard library keeps plain pointers, whatever the allocator's pointer type is.
template <class T>
consteval bool node_with_plain_pointers() {
  std::string_view const name = __PRETTY_FUNCTION__;
  for (std::string_view const node : {"std::_List_node<", "std::_Rb_tree_node<", "std::_Fwd_list_node<", "std::__detail::_Hash_node<",
                                      "std::_Fwd_list_node_base", "std::_List_node_base", "std::__detail::_Hash_node_base"})
    if (name.find(node) != std::string_view::npos) return true;
  return false;
}

}  // namespace detail

/// An allocator over a shared heap, for containers that lie in that heap and accept pointer types other than T*:
/// std::vector and std::deque everywhere; std::basic_string, map, set, list and the unordered ones only with standard
/// libraries that accept them there too (libc++); elsewhere the compiler refuses them. Text in a std::vector<char> works
/// everywhere. Each allocation costs a lock and
/// a walk through the heap's books, so reserve() what is needed. Throws std::bad_alloc when the heap is full.
template <class T, backend Backend = native_backend>
class heap_allocator {
  static_assert(!detail::node_with_plain_pointers<T>(),
                "polyproc: this container keeps plain pointers in its nodes, which mean nothing in other processes; in a "
                "shared heap use std::vector or std::deque");

 public:
  using value_type = T;
  using pointer = offset_ptr<T>;
  using const_pointer = offset_ptr<T const>;
  using void_pointer = offset_ptr<void>;
  using const_void_pointer = offset_ptr<void const>;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  using is_always_equal = std::false_type;

  explicit heap_allocator(detail::heap_core<Backend>* heap) noexcept : heap_(heap) {}
  template <class U>
  heap_allocator(heap_allocator<U, Backend> const& other) noexcept : heap_(other.heap()) {}

  [[nodiscard]] pointer allocate(std::size_t n) {
    static_assert(alignof(T) <= detail::heap_core<Backend>::unit);
    if (n > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_alloc();
    return pointer(reinterpret_cast<T*>(heap_->allocate(n * sizeof(T))));
  }
  void deallocate(pointer const& p, std::size_t) noexcept { heap_->free(reinterpret_cast<std::byte const*>(p.get())); }

  [[nodiscard]] detail::heap_core<Backend>* heap() const noexcept { return heap_.get(); }
  friend bool operator==(heap_allocator const& a, heap_allocator const& b) noexcept { return a.heap() == b.heap(); }

 private:
  offset_ptr<detail::heap_core<Backend>> heap_;
};

/// A handle to a heap of `size` bytes, books included; copies refer to the same heap. As for shared<T> in respect of names
/// and of how long it lives. What lies in it is not destroyed; its memory goes with the last handle. A container that
/// several processes change is guarded by the user, and may be half changed after the death of one who was changing it:
/// put it, with a polyproc::mutex, into the root object, and let recover() make it new.
template <backend Backend = native_backend>
class basic_shared_heap {
  using core = detail::heap_core<Backend>;

 public:
  template <class T>
  using allocator_type = heap_allocator<T, Backend>;

  /// Throws std::bad_alloc, std::system_error.
  explicit basic_shared_heap(std::size_t size)
      : basic_shared_heap(detail::attachment_ref<Backend>(
            detail::attachment<Backend>::create(at_least(size), fingerprint(), layout))) {
    core::make(block_->contents(), at_least(size));
  }
  [[nodiscard]] static basic_shared_heap create(std::string_view name, std::size_t size, name_options options = {}) {
    return names::create(name, at_least(size), kind(), options, [&](std::byte* at) { core::make(at, at_least(size)); });
  }
  [[nodiscard]] static basic_shared_heap open(std::string_view name) { return names::open(name, kind()); }
  [[nodiscard]] static std::optional<basic_shared_heap> try_open(std::string_view name) {
    return names::try_open(name, kind());
  }
  [[nodiscard]] static basic_shared_heap open_or_create(std::string_view name, std::size_t size, name_options options = {}) {
    return names::open_or_create(name, at_least(size), kind(), options,
                                 [&](std::byte* at) { core::make(at, at_least(size)); });
  }
  static bool remove(std::string_view name) { return detail::named_block<Backend>::remove(name); }

  template <class T>
  [[nodiscard]] heap_allocator<T, Backend> allocator() const noexcept {
    return heap_allocator<T, Backend>(heap());
  }

  /// The root object; made from args (and the heap's allocator behind them, if T takes one) by the first who asks for it,
  /// whichever process that is. Throws handle_error when the root is of another type, and what T's constructor throws.
  template <class T, class... Args>
  T& root(Args&&... args) const {
    auto const type = detail::shared_fingerprint<T>();
    if (auto* const there = heap()->root(type)) return *std::launder(reinterpret_cast<T*>(there));
    // One who died in here has published nothing, so there is nothing to repair.
    detail::repairing_hold<Backend> const hold{heap()->root_lock(), never, [] {}};
    if (!hold.owns())
      throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                              "polyproc: the root object of a shared heap was asked for by its own constructor");
    if (auto* const there = heap()->root(type)) return *std::launder(reinterpret_cast<T*>(there));
    auto* const at = heap()->allocate(sizeof(T));
    T* made = nullptr;
    try {
      made = make<T>(at, std::forward<Args>(args)...);
    } catch (...) {
      heap()->free(at);
      throw;
    }
    heap()->set_root(at, type);
    return *made;
  }
  [[nodiscard]] bool has_root() const noexcept { return heap()->root_is_there(); }

  /// Bytes for contents in all, and in use now.
  [[nodiscard]] std::size_t capacity() const noexcept { return heap()->capacity(); }
  [[nodiscard]] std::size_t in_use() const noexcept { return heap()->in_use(); }
  /// For tests: whether the books are consistent.
  [[nodiscard]] bool sound() const noexcept { return heap()->sound(); }
  [[nodiscard]] std::string_view name() const noexcept {
    auto const* const named = block_->named();
    return named == nullptr ? std::string_view{} : std::string_view(named->name);
  }

  friend bool operator==(basic_shared_heap const& a, basic_shared_heap const& b) noexcept { return a.block_ == b.block_; }

 private:
  friend detail::handle_codec<basic_shared_heap, Backend>;
  friend detail::naming<basic_shared_heap, Backend>;
  using names = detail::naming<basic_shared_heap, Backend>;

  explicit basic_shared_heap(detail::attachment_ref<Backend> block) noexcept : block_(std::move(block)) {}
  [[nodiscard]] core* heap() const noexcept { return std::launder(reinterpret_cast<core*>(block_->contents())); }

  static std::size_t at_least(std::size_t size) { return std::max<std::size_t>(size, 4096); }

  template <class T, class... Args>
  T* make(std::byte* at, Args&&... args) const {
    static_assert(alignof(T) <= core::unit, "polyproc: objects in a shared heap are aligned to at most 64 bytes");
    auto const from = allocator<std::byte>();
    if constexpr (std::is_constructible_v<T, Args..., heap_allocator<std::byte, Backend> const&>)
      return ::new (static_cast<void*>(at)) T(std::forward<Args>(args)..., from);
    else if constexpr (std::is_constructible_v<T, Args...>)
      return ::new (static_cast<void*>(at)) T(std::forward<Args>(args)...);
    else
      return ::new (static_cast<void*>(at)) T{std::forward<Args>(args)...};
  }

  static constexpr bool writable = true;
  static constexpr std::uint64_t fingerprint() { return 0x68656170ULL; }
  static constexpr std::uint64_t layout = 1;
  static constexpr char const* handle_name = "shared heap";
  static constexpr typename detail::named_block<Backend>::kind kind() { return {fingerprint(), layout, handle_name}; }

  detail::attachment_ref<Backend> block_;
};

template <backend Backend>
struct codec<basic_shared_heap<Backend>> : detail::handle_codec<basic_shared_heap<Backend>, Backend> {};

using shared_heap = basic_shared_heap<>;

}  // namespace polyproc::inline v0_1
