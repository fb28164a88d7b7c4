/// Exceptions from one process to another: the standard types and ours arrive as themselves, with their message, their
/// code where they have one, and what was nested in them; anything else as remote_error with its type's name.
#pragma once

#include <polyproc/wire/codec.hpp>

#include <exception>
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
  library, decode, full, empty, closed, timeout, owner, start, handle, worker, remote
};

/// The exception as it lies on the wire, one level.
struct exception_record {
  exception_kind kind = exception_kind::other;
  std::string type;
  std::string what;
  std::int64_t first = 0;   // an error code, an offset, a pid
  std::int64_t second = 0;  // an exit code
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
  } catch (decode_error const& e) {
    plain(exception_kind::decode, e);
    r.first = static_cast<std::int64_t>(e.offset());
  } catch (queue_full const& e) { plain(exception_kind::full, e);
  } catch (queue_empty const& e) { plain(exception_kind::empty, e);
  } catch (queue_closed const& e) { plain(exception_kind::closed, e);
  } catch (timeout_error const& e) { plain(exception_kind::timeout, e);
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
    case exception_kind::remote:
    case exception_kind::other: break;
  }
  throw_as(remote_error(r.type, r.what.empty() ? "polyproc: " + r.type + " was thrown in another process" : r.what), inner);
}

}  // namespace detail

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
    if (static_cast<std::uint8_t>(level.kind) > static_cast<std::uint8_t>(detail::exception_kind::remote))
      in.fail("an exception is of no known kind");
    try {
      detail::throw_record(level, made);
    } catch (...) {
      made = std::current_exception();
    }
  }
  return made;
}

}  // namespace polyproc::inline v0_1
