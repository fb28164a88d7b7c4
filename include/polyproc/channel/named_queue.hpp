/// A queue with a name, for programs that do not come from one family.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/channel/process_identity.hpp>
#include <polyproc/channel/queue_face.hpp>
#include <polyproc/memory/shared.hpp>

namespace polyproc::inline v0_1 {

/// How a queue with a name is made.
struct named_queue_options {
  /// Messages it may hold; 0: as many as its memory holds.
  std::size_t capacity = 0;
  /// Memory for messages, in bytes, besides some 70 KiB of its own: taken as a whole when it is made, and never more.
  std::size_t memory = std::size_t{1} << 20;
  /// Who may open it, and how long it lives.
  name_options name{};
};

/// A handle to a first-in-first-out queue that unrelated programs find by its name. All that is said of queue<T> holds, but:
/// its memory is bounded, so a put also waits while that is used up; get never reports closed because nobody is left who can
/// put (the next program may come any time); and T must mean something to a stranger (handles to what has no name do not
/// and are refused by put with a handle_error).
///
/// It lives until remove() or until the system restarts; on Windows until its last handle is closed. Any of its users may die at
/// any instruction: whoever opens it afterwards finds a sound queue with its messages. A message that could not fit into its
/// memory if it were empty is refused by put with a std::length_error.
///
/// On other systems than Linux those who wait for it nap between looks (2 ms at most).
template <class T, backend Backend = native_backend>
class basic_named_queue : public detail::puts_into_queue<basic_named_queue<T, Backend>, T, Backend>,
                          public detail::gets_from_queue<basic_named_queue<T, Backend>, T, Backend>,
                          public detail::looks_at_queue<basic_named_queue<T, Backend>>,
                          public detail::queue_times<Backend> {
  static_assert(encodable<T>, "polyproc: a queue carries values that the codec can encode; T is not one of them");
  using store = detail::own_store<Backend>;
  using core_type = detail::queue_core<Backend, store>;
  using names = detail::naming<basic_named_queue, Backend>;

 public:
  using value_type = T;

  /// Throws std::system_error (file_exists if there is one), std::invalid_argument for a name that cannot be one (1 to 200
  /// characters of [A-Za-z0-9._-], the first no dot) or options out of range.
  [[nodiscard]] static basic_named_queue create(std::string_view name, named_queue_options options = {}) {
    auto const size = checked(options);
    return names::create(name, size, kind(), options.name, maker{options});
  }
  /// Throws std::system_error (no_such_file_or_directory if there is none); handle_error if it is something else.
  [[nodiscard]] static basic_named_queue open(std::string_view name) { return names::open(name, kind()); }
  [[nodiscard]] static std::optional<basic_named_queue> try_open(std::string_view name) {
    return names::try_open(name, kind());
  }
  /// What is there has the capacity and memory with which it was made.
  [[nodiscard]] static basic_named_queue open_or_create(std::string_view name, named_queue_options options = {}) {
    auto const size = checked(options);
    return names::open_or_create(name, size, kind(), options.name, maker{options});
  }
  /// Those who have it open keep it. False if there is none.
  static bool remove(std::string_view name) { return detail::named_block<Backend>::remove(name); }

  [[nodiscard]] std::string_view name() const noexcept { return block_->named()->name; }
  /// Bytes for messages.
  [[nodiscard]] std::size_t memory() const noexcept { return head().memory; }

  friend bool operator==(basic_named_queue const& a, basic_named_queue const& b) noexcept { return a.block_ == b.block_; }

 private:
  friend detail::puts_into_queue<basic_named_queue, T, Backend>;
  friend detail::gets_from_queue<basic_named_queue, T, Backend>;
  friend detail::looks_at_queue<basic_named_queue>;
  friend detail::handle_codec<basic_named_queue, Backend>;
  friend names;
  template <class, class>
  friend class detail::queue_reservation;
  template <class, class>
  friend class detail::queue_view;
  template <class, class>
  friend class basic_lease;

  /// In front of the queue.
  struct alignas(64) facts {
    std::uint64_t memory;
  };

  explicit basic_named_queue(detail::attachment_ref<Backend> block) noexcept : block_(std::move(block)) {
    Backend::prepare_light_fences();
  }

  static constexpr bool writable = true;
  static constexpr bool for_strangers = true;
  static constexpr std::uint64_t fingerprint() { return type_fingerprint<T>() ^ 0x6e616d6564ULL; }
  static constexpr std::uint64_t layout = core_type::layout;
  static constexpr char const* handle_name = "named queue";
  static constexpr typename detail::named_block<Backend>::kind kind() { return {fingerprint(), layout, handle_name}; }
  static constexpr std::uint32_t own_chunk = 32768;

  static std::size_t checked(named_queue_options const& o) {
    constexpr std::size_t most = std::size_t{1} << (sizeof(std::size_t) == 8 ? 42 : 30);
    if (o.memory < 65536 || o.memory > most)
      throw std::invalid_argument("polyproc: the memory of a queue with a name is at least 65536 bytes, and at most 2^42");
    if (static_cast<std::uint64_t>(o.capacity) > std::uint64_t{1} << 32)
      throw std::invalid_argument("polyproc: a queue's capacity is the number of messages it may hold: 1 to 2^32, or 0 for "
                                  "as many as its memory holds");
    return sizeof(facts) + core_type::bytes_for(own_chunk) + store::bytes_for(o.memory);
  }
  struct maker {
    named_queue_options options;
    void operator()(std::byte* memory) const {
      reinterpret_cast<facts*>(memory)->memory = options.memory;
      core_type::make(memory + sizeof(facts), options.capacity == 0 ? core_type::unbounded : options.capacity, own_chunk);
    }
  };

  [[nodiscard]] facts const& head() const noexcept { return *reinterpret_cast<facts const*>(block_->contents()); }
  [[nodiscard]] auto core() const noexcept {
    auto* const at = block_->contents() + sizeof(facts);
    return core_type(at, store(at + core_type::bytes_for(own_chunk), memory()));
  }
  [[nodiscard]] detail::never_alone asker() const noexcept { return {}; }
  [[nodiscard]] std::uint64_t me() const noexcept { return detail::process_identity<Backend>(); }

  detail::attachment_ref<Backend> block_;
};

/// Travels as its name.
template <class T, backend Backend>
struct codec<basic_named_queue<T, Backend>> : detail::handle_codec<basic_named_queue<T, Backend>, Backend> {};

template <class T>
using named_queue = basic_named_queue<T>;

}  // namespace polyproc::inline v0_1
