/// Exceptions from one process to another: the standard types and ours arrive as themselves, with their message, their
/// code where they have one, and what was nested in them; so do types that derive from travelling_error; anything else as the
/// standard type it derives from, or as remote_error with its type's name.
#pragma once

#include <polyproc/wire/codec.hpp>

#include <exception>
#include <mutex>
#include <new>
#include <system_error>

#if defined(__GNUC__) && defined(__GXX_RTTI)
#include <cxxabi.h>
#include <typeinfo>
#endif

namespace polyproc::inline v0_1 {

/// What an exception says of itself.
struct exception_summary {
  std::string type;  ///< As the compiler spells it; "an exception of unknown type" where it cannot be known.
  std::string what;  ///< Empty for what is no std::exception.
};

namespace detail {

inline constexpr std::size_t longest_message = 64 * 1024;
inline constexpr int deepest_nesting = 32;

inline std::string current_type_name() {
#if defined(__GNUC__) && defined(__GXX_RTTI)
  if (auto const* const type = abi::__cxa_current_exception_type()) {
    int status = 0;
    char* const text = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
    std::string name = status == 0 && text != nullptr ? text : type->name();
    std::free(text);
    return name;
  }
#endif
  return "an exception of unknown type";
}

inline std::string cut(char const* text) {
  std::string message = text == nullptr ? "" : text;
  if (message.size() > longest_message) message.resize(longest_message);
  return message;
}

enum class exception_kind : std::uint8_t {
  other, logic, domain, invalid, length, range_of, runtime, range, overflow, underflow, memory, generic_code, system_code,
  library, decode, full, empty, closed, timeout, owner, start, handle, worker, remote,
  time_limit, cancelled, broken, barrier, connection, lost_connection, too_large, authentication, member, travelling
};
inline constexpr exception_kind last_exception_kind = exception_kind::travelling;

/// The exception as it lies on the wire, one level.
struct exception_record {
  exception_kind kind = exception_kind::other;
  std::string type;
  std::string what;
  std::int64_t first = 0;   // an error code, an offset, a pid, a size, the key of a travelling type
  std::int64_t second = 0;  // an exit code
  std::vector<std::byte> parts;  // of a travelling type; of a failed member, which one it is
};

/// The types of this program that can be made again from their parts, by a key that says which type it is and of which parts
/// it is made. A type enters its maker here when the module that throws or catches it is loaded, and takes it out when that
/// is unloaded; what arrives names a key and never a place in the program.
class exception_makers {
 public:
  /// The exception, with `inner` nested in it. Throws decode_error when the bytes are not its parts.
  using maker = std::exception_ptr(reader& parts, std::exception_ptr const& inner);

  class entry {
   public:
    entry(std::uint64_t key, bool only_here, maker* make) noexcept : key_(key), only_here_(only_here), make_(make) {
      std::scoped_lock hold{lock()};
      next_ = std::exchange(first(), this);
    }
    entry(entry const&) = delete;
    entry& operator=(entry const&) = delete;
    [[nodiscard]] std::uint64_t key() const noexcept { return key_; }
    ~entry() {
      std::scoped_lock hold{lock()};
      for (auto** at = &first(); *at != nullptr; at = &(*at)->next_) {
        if (*at != this) continue;
        *at = next_;
        return;
      }
    }

   private:
    friend exception_makers;
    std::uint64_t key_;
    bool only_here_;
    maker* make_;
    entry* next_ = nullptr;
  };

  /// nullptr: no such type here; or several, of one source file each, that have the same name.
  static maker* find(std::uint64_t key) {
    std::scoped_lock hold{lock()};
    entry const* found = nullptr;
    for (auto const* one = first(); one != nullptr; one = one->next_) {
      if (one->key_ != key) continue;
      if (found != nullptr && one->only_here_ && found->make_ != one->make_) return nullptr;
      found = one;
    }
    return found == nullptr ? nullptr : found->make_;
  }

 private:
  static std::mutex& lock() noexcept {
    static auto& the_lock = *new std::mutex;  // never destroyed: entries are taken out until the very end
    return the_lock;
  }
  static entry*& first() noexcept {
    static constinit entry* the_first = nullptr;
    return the_first;
  }
};

/// What all travelling errors have in common.
class travelling_base {
 public:
  virtual std::exception const& as_exception() const noexcept = 0;
  virtual std::uint64_t key() const noexcept = 0;
  virtual void write_parts(writer& out) const = 0;

 protected:
  travelling_base() = default;
  travelling_base(travelling_base const&) = default;
  travelling_base& operator=(travelling_base const&) = default;
  ~travelling_base() = default;
};

/// Fills the record of the exception that is being handled; the nested one, if there is one.
inline std::exception_ptr describe_current(exception_record& r) {
  r.type = current_type_name();
  std::exception_ptr inner;
  [[maybe_unused]] auto const look_inside = [&](std::exception const& e) {
    r.what = cut(e.what());
#if defined(__GXX_RTTI)
    if (auto const* const nested = dynamic_cast<std::nested_exception const*>(&e)) inner = nested->nested_ptr();
#endif
  };
  auto const plain = [&](exception_kind kind, std::exception const& e) {
    r.kind = kind;
    look_inside(e);
  };
  // The most derived first.
  try {
    throw;
  } catch (travelling_base const& e) {
    plain(exception_kind::travelling, e.as_exception());
    r.first = static_cast<std::int64_t>(e.key());
    try {
      writer parts;
      parts.for_strangers();  // nobody would let go of a hold
      e.write_parts(parts);
      r.parts.assign(parts.view().begin(), parts.view().end());
    } catch (...) {
      r.kind = exception_kind::other;
    }
  } catch (group_failure const& e) {
    plain(exception_kind::member, e);
    r.first = e.pid();
    r.second = e.exit_code();
    writer index;
    encode(index, static_cast<std::uint64_t>(e.index()));
    r.parts.assign(index.view().begin(), index.view().end());
  } catch (decode_error const& e) {
    plain(exception_kind::decode, e);
    r.first = static_cast<std::int64_t>(e.offset());
  } catch (queue_full const& e) { plain(exception_kind::full, e);
  } catch (queue_empty const& e) { plain(exception_kind::empty, e);
  } catch (queue_closed const& e) { plain(exception_kind::closed, e);
  } catch (time_limit_exceeded const& e) { plain(exception_kind::time_limit, e);
  } catch (timeout_error const& e) { plain(exception_kind::timeout, e);
  } catch (task_cancelled const& e) { plain(exception_kind::cancelled, e);
  } catch (broken_promise const& e) { plain(exception_kind::broken, e);
  } catch (broken_barrier const& e) { plain(exception_kind::barrier, e);
  } catch (connection_lost const& e) { plain(exception_kind::lost_connection, e);
  } catch (message_too_large const& e) {
    plain(exception_kind::too_large, e);
    r.first = static_cast<std::int64_t>(e.size());
  } catch (connection_error const& e) { plain(exception_kind::connection, e);
  } catch (authentication_error const& e) { plain(exception_kind::authentication, e);
  } catch (owner_died const& e) { plain(exception_kind::owner, e);
  } catch (start_error const& e) { plain(exception_kind::start, e);
  } catch (handle_error const& e) { plain(exception_kind::handle, e);
  } catch (worker_lost const& e) {
    plain(exception_kind::worker, e);
    r.first = e.pid();
    r.second = e.exit_code();
  } catch (remote_error const& e) {
    plain(exception_kind::remote, e);
    r.type = e.type_name();
  } catch (error const& e) { plain(exception_kind::library, e);
  } catch (std::system_error const& e) {
    bool const generic = e.code().category() == std::generic_category();
    bool const system = e.code().category() == std::system_category();
    plain(generic ? exception_kind::generic_code : system ? exception_kind::system_code : exception_kind::other, e);
    r.first = e.code().value();
  } catch (std::domain_error const& e) { plain(exception_kind::domain, e);
  } catch (std::invalid_argument const& e) { plain(exception_kind::invalid, e);
  } catch (std::length_error const& e) { plain(exception_kind::length, e);
  } catch (std::out_of_range const& e) { plain(exception_kind::range_of, e);
  } catch (std::logic_error const& e) { plain(exception_kind::logic, e);
  } catch (std::range_error const& e) { plain(exception_kind::range, e);
  } catch (std::overflow_error const& e) { plain(exception_kind::overflow, e);
  } catch (std::underflow_error const& e) { plain(exception_kind::underflow, e);
  } catch (std::runtime_error const& e) { plain(exception_kind::runtime, e);
  } catch (std::bad_alloc const& e) { plain(exception_kind::memory, e);
  } catch (std::exception const& e) { plain(exception_kind::other, e);
  } catch (...) {
    r.kind = exception_kind::other;
  }
  return inner;
}

/// A system_error whose message is the one it had: what() of a fresh one would say the code's meaning twice.
inline std::system_error same_system_error(exception_record const& r, std::error_category const& category) {
  std::error_code const code(static_cast<int>(r.first), category);
  auto text = r.what;
  if (text == code.message()) return std::system_error(code);
  auto const meaning = ": " + code.message();
  if (text.ends_with(meaning)) text.resize(text.size() - meaning.size());
  return {code, text};
}

template <class E>
[[noreturn]] void throw_as(E&& problem, std::exception_ptr const& inner) {
  if (!inner) throw std::forward<E>(problem);
  try {
    std::rethrow_exception(inner);
  } catch (...) {
    std::throw_with_nested(std::forward<E>(problem));
  }
}

[[noreturn]] inline void throw_record(exception_record const& r, std::exception_ptr const& inner) {
  switch (r.kind) {
    case exception_kind::logic: throw_as(std::logic_error(r.what), inner);
    case exception_kind::domain: throw_as(std::domain_error(r.what), inner);
    case exception_kind::invalid: throw_as(std::invalid_argument(r.what), inner);
    case exception_kind::length: throw_as(std::length_error(r.what), inner);
    case exception_kind::range_of: throw_as(std::out_of_range(r.what), inner);
    case exception_kind::runtime: throw_as(std::runtime_error(r.what), inner);
    case exception_kind::range: throw_as(std::range_error(r.what), inner);
    case exception_kind::overflow: throw_as(std::overflow_error(r.what), inner);
    case exception_kind::underflow: throw_as(std::underflow_error(r.what), inner);
    case exception_kind::memory: throw_as(std::bad_alloc(), inner);
    case exception_kind::generic_code: throw_as(same_system_error(r, std::generic_category()), inner);
    case exception_kind::system_code: throw_as(same_system_error(r, std::system_category()), inner);
    case exception_kind::library: throw_as(error(r.what), inner);
    case exception_kind::decode:
      throw_as(decode_error::received(r.what, static_cast<std::size_t>(r.first)), inner);
    case exception_kind::full: throw_as(queue_full(r.what), inner);
    case exception_kind::empty: throw_as(queue_empty(r.what), inner);
    case exception_kind::closed: throw_as(queue_closed(r.what), inner);
    case exception_kind::timeout: throw_as(timeout_error(r.what), inner);
    case exception_kind::owner: throw_as(owner_died(r.what), inner);
    case exception_kind::start: throw_as(start_error(r.what), inner);
    case exception_kind::handle: throw_as(handle_error(r.what), inner);
    case exception_kind::worker:
      throw_as(worker_lost(r.what, static_cast<long>(r.first), static_cast<int>(r.second)), inner);
    case exception_kind::time_limit: throw_as(time_limit_exceeded(r.what), inner);
    case exception_kind::cancelled: throw_as(task_cancelled(r.what), inner);
    case exception_kind::broken: throw_as(broken_promise(r.what), inner);
    case exception_kind::barrier: throw_as(broken_barrier(r.what), inner);
    case exception_kind::connection: throw_as(connection_error(r.what), inner);
    case exception_kind::lost_connection: throw_as(connection_lost(r.what), inner);
    case exception_kind::too_large: throw_as(message_too_large(r.what, static_cast<std::uint64_t>(r.first)), inner);
    case exception_kind::authentication: throw_as(authentication_error(r.what), inner);
    case exception_kind::member: {
      reader index(r.parts);
      auto const which = static_cast<std::size_t>(decode<std::uint64_t>(index));
      throw_as(group_failure(r.what, which, static_cast<long>(r.first), static_cast<int>(r.second)), inner);
    }
    case exception_kind::travelling:  // of a type that nobody here knows
    case exception_kind::remote:
    case exception_kind::other: break;
  }
  throw_as(remote_error(r.type, r.what.empty() ? "polyproc: " + r.type + " was thrown in another process" : r.what), inner);
}

/// Tells types apart, the same in each process that runs this program.
template <class T>
struct type_spelling {
  static consteval std::string_view text() { return static_cast<char const*>(__PRETTY_FUNCTION__); }
  static consteval std::uint64_t hash() {
    std::uint64_t made = 0xcbf29ce484222325ULL;
    for (char const c : text()) made = (made ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    return made;
  }
  /// Another source file may have another type of that name.
  static consteval bool only_here() {
    return text().find("anonymous") != std::string_view::npos || text().find(")::") != std::string_view::npos;
  }
};

template <class T>
struct decayed_parts;
template <class... P>
struct decayed_parts<std::tuple<P...>> {
  using type = std::tuple<std::decay_t<P>...>;
  static constexpr bool travel = (encodable<std::decay_t<P>> && ...);
  template <class T>
  static constexpr bool make = std::is_constructible_v<T, std::decay_t<P>...>;
};
template <class T>
concept has_parts = requires(T const& e) { e.parts(); };

}  // namespace detail

/// Base of an exception type of yours that arrives as itself from another process that runs this program:
///
///     struct no_such_user : polyproc::travelling_error<no_such_user> {     // : std::runtime_error
///       using travelling_error::travelling_error;
///     };
///     class disk_full : public polyproc::travelling_error<disk_full, std::runtime_error> {
///      public:
///       disk_full(std::string path, long missing);
///       auto parts() const { return std::tuple(path_, missing_); }
///
/// It is made again from what it says of itself: from what(), or, where it has parts(), from those, a std::tuple of what one
/// of its constructors takes (anything that can be a message, but no handles). Where the type is not known (another program,
/// or a library that is not loaded) it arrives as remote_error.
template <class Derived, class Base = std::runtime_error>
class travelling_error : public Base, public detail::travelling_base {
  static_assert(std::is_base_of_v<std::exception, Base>,
                "polyproc: the second argument of travelling_error is a type derived from std::exception");

 public:
  using Base::Base;

 private:
  static consteval bool check() {
    if constexpr (detail::has_parts<Derived>) {
      using parts = detail::decayed_parts<decltype(std::declval<Derived const&>().parts())>;
      static_assert(parts::travel, "polyproc: what parts() of a travelling_error gives cannot travel to another process");
      static_assert(parts::template make<Derived>,
                    "polyproc: a travelling_error is made again from what its parts() gives: it needs a constructor that "
                    "takes just that");
    } else {
      static_assert(std::is_constructible_v<Derived, std::string>,
                    "polyproc: a travelling_error is made again from what it says: it needs a constructor that takes a "
                    "std::string, or a function parts() that gives a std::tuple of what one of its constructors takes");
    }
    return true;
  }
  static std::exception_ptr make_again(reader& in, std::exception_ptr const& inner) {
    static_assert(check());
    auto made = [&] {
      if constexpr (detail::has_parts<Derived>) {
        auto parts = decode<typename detail::decayed_parts<decltype(std::declval<Derived const&>().parts())>::type>(in);
        in.expect_end();
        return std::make_from_tuple<Derived>(std::move(parts));
      } else {
        auto what = decode<std::string>(in);
        in.expect_end();
        return Derived(std::move(what));
      }
    }();
    try {
      detail::throw_as(std::move(made), inner);
    } catch (...) {
      return std::current_exception();
    }
  }
  static constexpr std::uint64_t key_of_type() {
    if constexpr (detail::has_parts<Derived>)
      return detail::mix(
          detail::type_spelling<Derived>::hash(),
          type_fingerprint<typename detail::decayed_parts<decltype(std::declval<Derived const&>().parts())>::type>());
    else
      return detail::type_spelling<Derived>::hash();
  }
  [[nodiscard]] std::exception const& as_exception() const noexcept final { return *this; }
  [[nodiscard]] std::uint64_t key() const noexcept final { return entered_.key(); }
  void write_parts(writer& out) const final {
    static_assert(check());
    auto const& self = static_cast<Derived const&>(*this);
    if constexpr (detail::has_parts<Derived>) {
      auto const parts = self.parts();
      std::apply([&](auto const&... each) { (encode(out, each), ...); }, parts);
    } else {
      encode(out, detail::cut(self.what()));
    }
  }

  static inline detail::exception_makers::entry entered_{key_of_type(), detail::type_spelling<Derived>::only_here(),
                                                         &make_again};
};

/// The type and message of an exception.
[[nodiscard]] inline exception_summary describe(std::exception_ptr const& problem) {
  detail::exception_record r;
  try {
    std::rethrow_exception(problem);
  } catch (...) {
    (void)detail::describe_current(r);
  }
  return {r.type, r.what};
}

/// Writes an exception with what is nested in it (32 levels at most; messages are cut at 64 KiB).
template <class = void>
void encode_exception(writer& out, std::exception_ptr problem) {
  std::vector<detail::exception_record> levels;
  while (problem && static_cast<int>(levels.size()) < detail::deepest_nesting) {
    std::exception_ptr inner;
    try {
      std::rethrow_exception(problem);
    } catch (...) {
      inner = detail::describe_current(levels.emplace_back());
    }
    problem = inner;
  }
  encode(out, levels);
}

/// The exception that encode_exception wrote, to be rethrown. Throws decode_error for bytes that are none.
template <class = void>
[[nodiscard]] std::exception_ptr decode_exception(reader& in) {
  auto const levels = decode<std::vector<detail::exception_record>>(in);
  if (levels.empty() || levels.size() > static_cast<std::size_t>(detail::deepest_nesting))
    in.fail("this is no exception");
  std::exception_ptr made;
  for (auto i = levels.size(); i-- > 0;) {
    auto const& level = levels[i];
    if (static_cast<std::uint8_t>(level.kind) > static_cast<std::uint8_t>(detail::last_exception_kind))
      in.fail("an exception is of no known kind");
    if (level.kind == detail::exception_kind::travelling) {
      if (auto* const make = detail::exception_makers::find(static_cast<std::uint64_t>(level.first))) {
        reader parts(level.parts);
        parts.from_strangers();
        made = make(parts, made);
        continue;
      }
    }
    if (level.kind == detail::exception_kind::member && level.parts.size() != sizeof(std::uint64_t))
      in.fail("a failure of a group's member does not say which");
    try {
      detail::throw_record(level, made);
    } catch (...) {
      made = std::current_exception();
    }
  }
  return made;
}

}  // namespace polyproc::inline v0_1
