/// Shared memory with a name, for programs that do not come from one family.
///
///   [block_header : 64 | named_header : 64 | contents]
///
/// A name appears with all of that in place, in one step of the backend's (name_create), so nobody ever sees it half made,
/// and a creator that dies leaves none. Whoever opens it believes nothing: mark, version, backend, size and type are
/// compared first, and each mismatch is refused with a sentence.
///
/// lifetime::owner: the creator's last handle removes the name. When it died instead, the name is left, and says whose it
/// was: the next one who opens or creates it finds the owner dead and removes it, by name_remove, which looks at
/// what the name means at that very moment, so that two who do so at once cannot remove a successor's.
#pragma once

#include <polyproc/memory/attachment.hpp>
#include <polyproc/version.hpp>

#include <string_view>
#include <system_error>

namespace polyproc::inline v0_1 {

/// How long a name lives. (On Windows no name outlives its last user.)
enum class lifetime : std::uint32_t {
  until_removed,  ///< Until somebody calls remove(), or the system restarts.
  owner,          ///< As until_removed, but no longer than the process that created it.
};

struct name_options {
  /// Who may open it: permission bits of a Unix file, whatever the umask says. Without meaning on Windows, where it is
  /// the session's.
  unsigned permissions = 0600;
  polyproc::lifetime lifetime = polyproc::lifetime::until_removed;
};

namespace detail {

struct named_header {
  std::uint64_t owner;  // process_self of the creator
  std::array<std::byte, 16> instance;
  std::uint32_t lifetime;
  std::uint32_t version;
  std::array<char, 16> backend;
};

template <backend Backend>
class named_block {
 public:
  using attachment_type = attachment<Backend>;
  static constexpr std::size_t contents_at = 2 * shared_block_header;
  static_assert(sizeof(named_header) <= shared_block_header);

  /// What is to be in the memory.
  struct kind {
    std::uint64_t fingerprint;
    std::uint64_t layout;
    char const* what;
  };

  /// fill(contents) writes what is in it; what it throws is passed on, and there is no name then. nullptr if the name
  /// exists. Throws std::system_error, std::invalid_argument.
  template <class Fill>
  static attachment_type* create(std::string_view name, std::size_t size, kind k, name_options options, Fill&& fill) {
    struct order {
      kind what;
      name_options options;
      std::size_t size;
      Fill& fill;
      named_header made;
    } job{k, options, size, fill, {}};
    Backend::random(std::span<std::byte>(job.made.instance));
    job.made.owner = Backend::process_self();
    job.made.lifetime = static_cast<std::uint32_t>(options.lifetime);
    job.made.version = version_number;
    job.made.backend = padded_name();
    auto const write = [](std::byte* memory, void* context) {
      auto const& todo = *static_cast<order*>(context);
      auto& head = *reinterpret_cast<block_header<Backend>*>(memory);
      head.fingerprint = todo.what.fingerprint;
      head.size = todo.size;
      head.layout = todo.what.layout;
      std::memcpy(memory + shared_block_header, &todo.made, sizeof todo.made);
      todo.fill(memory + contents_at);
      head.magic = block_header<Backend>::magic_value;
    };
    for (bool again = true;; again = false) {
      if (size > std::numeric_limits<std::size_t>::max() - contents_at) throw std::bad_alloc();
      if (auto const map = Backend::name_create(name, size + contents_at, options.permissions, write, &job)) {
        auto* const end = options.lifetime == lifetime::owner ? &remove_own : nullptr;
        return attach({*map, contents_at, std::string(name), job.made.instance, true, end});
      }
      if (!again || !reclaim(name)) return nullptr;
    }
  }

  /// nullptr if there is no such name. Throws handle_error when it is something else, std::system_error.
  static attachment_type* open(std::string_view name, kind k, bool writable) {
    for (;;) {
      opened const map(Backend::name_open(name, writable));
      if (!map.here) return nullptr;
      if (is_abandoned(*map.here)) {
        // On some systems the name stays while others have it open: it is as good as gone all the same.
        if (!remove_same(name, *map.here)) return nullptr;
        continue;
      }
      auto const head = check(name, *map.here, k);
      auto const taken = *std::exchange(map.here, std::nullopt);
      return attach({taken, contents_at, std::string(name), head.instance, writable, nullptr});
    }
  }

  static bool remove(std::string_view name) {
    return Backend::name_remove(name, [](std::byte const*, std::size_t, void*) { return true; }, nullptr);
  }

 private:
  static constexpr std::uint32_t version_number = version_major * 10000 + version_minor * 100;

  static attachment_type* attach(typename attachment_type::name_part&& part) {
    auto const map = part.map;
    try {
      return new attachment_type(std::move(part));
    } catch (...) {
      Backend::name_close(map);
      throw;
    }
  }

  static std::array<char, 16> padded_name() {
    std::array<char, 16> text{};
    Backend::name.copy(text.data(), text.size());
    return text;
  }
  static named_header read(std::byte const* memory) {
    named_header h{};
    std::memcpy(&h, memory + shared_block_header, sizeof h);
    return h;
  }
  static bool has_mark(std::byte const* memory, std::size_t size) {
    return size >= contents_at &&
           reinterpret_cast<block_header<Backend> const*>(memory)->magic == block_header<Backend>::magic_value;
  }
  static bool same_kind_of_program(named_header const& h) {
    return h.version == version_number && h.backend == padded_name();
  }
  /// Closes it unless it was taken over.
  struct opened {
    explicit opened(std::optional<named_memory> map) noexcept : here(map) {}
    opened(opened const&) = delete;
    opened& operator=(opened const&) = delete;
    ~opened() {
      if (here) Backend::name_close(*here);
    }
    mutable std::optional<named_memory> here;
  };

  /// Who asks after the owner must have the memory open.
  static bool is_abandoned(named_memory const& map) {
    if (!has_mark(map.base, map.size)) return false;
    auto const h = read(map.base);
    return same_kind_of_program(h) && h.lifetime == static_cast<std::uint32_t>(lifetime::owner) && !Backend::alive(h.owner);
  }
  /// Removes the name if it still means what is mapped here.
  static bool remove_same(std::string_view name, named_memory const& map) {
    auto mine = read(map.base).instance;
    return Backend::name_remove(
        name,
        [](std::byte const* memory, std::size_t size, void* context) {
          return has_mark(memory, size) && read(memory).instance == *static_cast<std::array<std::byte, 16>*>(context);
        },
        &mine);
  }
  static bool reclaim(std::string_view name) {
    opened const map(Backend::name_open(name, false));
    return !map.here || (is_abandoned(*map.here) && remove_same(name, *map.here));
  }
  static bool remove_own(typename attachment_type::name_part const& part) {
    try {
      return remove_same(part.name, part.map);
    } catch (std::exception const&) {
      return false;  // then it is left, and reclaimed by the next one who wants it once we have ended
    }
  }

  static named_header check(std::string_view name, named_memory const& map, kind k) {
    auto const refuse = [&](char const* why) {
      throw handle_error("polyproc: the shared memory \"" + std::string(name) + "\" cannot be opened as a " + k.what + ": " +
                         why);
    };
    if (!has_mark(map.base, map.size))
      refuse("it is not polyproc's, or was damaged; if nobody needs it, remove it and create it anew");
    auto const h = read(map.base);
    if (!same_kind_of_program(h))
      refuse("it was made by another version of polyproc, or with another backend; both programs must use the same");
    auto const& head = *reinterpret_cast<block_header<Backend> const*>(map.base);
    if (head.fingerprint != k.fingerprint || head.layout != k.layout)
      refuse("it holds another type (or was made by a program of another compiler); both sides must name the same type");
    if (head.size > map.size - contents_at) refuse("it is smaller than it was made; it was cut short");
    return h;
  }
};

}  // namespace detail
}  // namespace polyproc::inline v0_1
