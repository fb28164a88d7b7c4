/// Functions as bytes: what may be run in another process, how its arguments are converted, and how a child that runs
/// the same program finds the code again.
///
/// A call travels as the place of an instantiated trampoline (module, build, offset: see code_location), the target's own
/// value or, for a plain function, its place, and the arguments converted to the target's parameter types. No
/// registration: the trampoline is the same instantiation in both processes, because they run the same build, which is
/// checked. What arrives is trusted to come from a process of the family; the arguments are decoded with all checks.
#pragma once

#include <polyproc/backend/concept.hpp>
#include <polyproc/wire/codec.hpp>

namespace polyproc::inline v0_1 {
namespace detail {

template <class... P>
struct parameter_list {
  static constexpr std::size_t size = sizeof...(P);
};
struct unknown_parameters {};

template <class F>
struct function_shape {
  using parameters = unknown_parameters;
};
template <class R, class... P>
struct function_shape<R(P...)> {
  using parameters = parameter_list<P...>;
};
template <class R, class... P>
struct function_shape<R(P...) noexcept> : function_shape<R(P...)> {};
template <class F>
struct function_shape<F*> : function_shape<F> {};
template <class R, class C, class... P>
struct function_shape<R (C::*)(P...)> : function_shape<R(P...)> {};
template <class R, class C, class... P>
struct function_shape<R (C::*)(P...) const> : function_shape<R(P...)> {};
template <class R, class C, class... P>
struct function_shape<R (C::*)(P...) noexcept> : function_shape<R(P...)> {};
template <class R, class C, class... P>
struct function_shape<R (C::*)(P...) const noexcept> : function_shape<R(P...)> {};
template <class R, class C, class... P>
struct function_shape<R (C::*)(P...) const&> : function_shape<R(P...)> {};

/// The parameters of a target, where there is one answer.
template <class F>
constexpr auto shape_of() {
  if constexpr (std::is_pointer_v<F>) return typename function_shape<F>::parameters{};
  else if constexpr (requires { &F::operator(); }) return typename function_shape<decltype(&F::operator())>::parameters{};
  else if constexpr (requires { &F::run; } && !std::is_member_pointer_v<F>)
    return typename function_shape<decltype(&F::run)>::parameters{};
  else return unknown_parameters{};
}
template <class F>
using parameters_of = decltype(shape_of<F>());

/// What is kept of an argument for a parameter of type P: text that is only viewed must be owned on the way.
template <class P>
struct kept {
  using type = std::decay_t<P>;
};
template <class P>
  requires std::is_same_v<std::decay_t<P>, std::string_view> || std::is_same_v<std::decay_t<P>, char const*>
struct kept<P> {
  using type = std::string;
};
template <class P>
using kept_t = typename kept<P>::type;

template <class P>
consteval void check_parameter() {
  static_assert(!std::is_lvalue_reference_v<P> || std::is_const_v<std::remove_reference_t<P>>,
                "polyproc: a target in another process cannot take its argument by T&: what the child changes does not come "
                "back; take it by value and return it, or use a shared<T>");
}

template <class List, class... Args>
struct kept_arguments;
template <class... P, class... Args>
struct kept_arguments<parameter_list<P...>, Args...> {
  using type = std::tuple<kept_t<P>...>;
  static consteval void check() {
    static_assert(sizeof...(P) == sizeof...(Args),
                  "polyproc: the number of arguments is not the number of the target's parameters (defaults do not travel)");
    (check_parameter<P>(), ...);
  }
};
/// Nothing known: arrays of characters become strings, the rest decays.
template <class... Args>
struct kept_arguments<unknown_parameters, Args...> {
  template <class A>
  using plain = std::conditional_t<std::is_same_v<std::decay_t<A>, char*>, std::string, kept_t<A>>;
  using type = std::tuple<plain<Args>...>;
  static consteval void check() {}
};

/// Whether values of T really can be copied: standard containers say so whatever they hold.
template <class T, class... Seen>
consteval bool can_be_copied();
template <class... Seen, class... T>
consteval bool can_all_be_copied(std::tuple<T...>*) {
  return (can_be_copied<std::remove_cvref_t<T>, Seen...>() && ...);
}
template <class T, class... Seen>
consteval bool can_be_copied() {
  if constexpr (!std::is_copy_constructible_v<T>) return false;
  else if constexpr (seen_before<T, Seen...> || has_own_codec<T>) return true;
  else if constexpr (range_like<T> || is_optional<T>) return can_be_copied<typename T::value_type, Seen..., T>();
  else if constexpr (is_pair_or_tuple<T> || is_variant<T>)
    return can_all_be_copied<Seen..., T>(static_cast<typename as_tuple_of_types<T>::type*>(nullptr));
  else if constexpr (std::is_class_v<T> && std::is_aggregate_v<T>) {
    if constexpr (form_of<T>() == form::aggregate)
      return can_all_be_copied<Seen..., T>(static_cast<member_references<T>*>(nullptr));
    else return true;
  } else return true;
}

/// A kept argument as parameter P sees it. `last`: this is its last use, so it may be moved from.
template <class P, class Kept>
decltype(auto) as_parameter(Kept& value, bool last) {
  (void)last;
  using decayed = std::decay_t<P>;
  if constexpr (std::is_same_v<decayed, char const*>) return value.c_str();
  else if constexpr (std::is_same_v<decayed, std::string_view>) return std::string_view(value);
  else if constexpr (std::is_lvalue_reference_v<P>) return static_cast<Kept const&>(value);
  else if constexpr (can_be_copied<Kept>()) return Kept(last ? Kept(std::move(value)) : Kept(value));
  else return Kept(std::move(value));
}

template <class F, class... Args>
decltype(auto) call_target(F& target, Args&&... args) {
  if constexpr (requires { target(std::forward<Args>(args)...); }) return target(std::forward<Args>(args)...);
  else return target.run(std::forward<Args>(args)...);
}

template <class F, class... Kept, class... P, std::size_t... I>
decltype(auto) invoke_known(F& target, std::tuple<Kept...>& values, bool last, parameter_list<P...>,
                            std::index_sequence<I...>) {
  (void)values, (void)last;  // without parameters neither is used
  return call_target(target, as_parameter<P>(std::get<I>(values), last)...);
}

/// Calls the target with kept arguments.
template <class F, class Kept>
decltype(auto) invoke_call(F& target, Kept& values, bool last = false) {
  using shape = parameters_of<F>;
  if constexpr (std::is_same_v<shape, unknown_parameters>)
    return std::apply(
        [&](auto&... each) -> decltype(auto) {
          return call_target(target, as_parameter<std::remove_reference_t<decltype(each)>>(each, last)...);
        },
        values);
  else
    return invoke_known(target, values, last, shape{}, std::make_index_sequence<std::tuple_size_v<Kept>>{});
}

/// What may be sent as a target.
template <class F>
concept plain_function = std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>;
template <class F>
concept stateless_target = std::is_class_v<F> && std::is_empty_v<F> && std::is_default_constructible_v<F>;
template <class F>
concept valued_target = std::is_class_v<F> && encodable<F>;

template <class F, class Kept>
inline constexpr bool can_be_called = requires(F& target, Kept& values) { invoke_call(target, values); };

template <class F>
consteval void check_target() {
  static_assert(plain_function<F> || stateless_target<F> || valued_target<F>,
                "polyproc: this target cannot travel to another process. A lambda that captures cannot: pass what it captures as "
                "arguments, or name polyproc::start::fork. A function object must be something the codec can carry");
}

template <class Kept>
struct check_kept;
template <class... K>
struct check_kept<std::tuple<K...>> {
  static consteval void check() { (explain_part<K>(), ...); }
};

template <class R>
consteval void check_result() {
  if constexpr (!std::is_void_v<R>) explain_part<R>();
}

template <class F, class... Args>
struct call_types {
  using target = std::decay_t<F>;
  using arguments = kept_arguments<parameters_of<target>, Args...>;
  static consteval bool check() {
    check_target<target>();
    arguments::check();
    check_kept<typename arguments::type>::check();
    return true;
  }
  static_assert(check());
  using kept = typename arguments::type;
};

template <class F, class... Args>
struct call_result {
  using kept = typename call_types<F, Args...>::kept;
  using type = decltype(invoke_call(std::declval<std::decay_t<F>&>(), std::declval<kept&>()));
};

}  // namespace detail

/// What is kept and sent of the arguments of a call: a tuple of the target's decayed parameter types.
template <class F, class... Args>
using call_parameters_t = typename detail::call_types<F, Args...>::kept;

/// What a call gives back.
template <class F, class... Args>
using call_result_t = typename detail::call_result<F, Args...>::type;

namespace detail {

template <class Kept, class... Args>
Kept convert_arguments(Args&&... args) {
  return Kept(std::forward<Args>(args)...);
}

inline void write_location(writer& out, code_location const& where) {
  encode(out, where.module);
  encode(out, where.build);
  encode(out, where.offset);
}
inline code_location read_location(reader& in) {
  code_location where;
  where.module = decode<std::string>(in);
  where.build = decode<std::uint64_t>(in);
  where.offset = decode<std::uint64_t>(in);
  return where;
}

/// Where functions of the program itself are, which stays where it is as long as there is this process: to look that up each
/// time would cost more than a small task. (Libraries come and go.)
template <class Backend>
class known_code {
 public:
  static void write(writer& out, void const* function) {
    auto& known = places();
    auto const first = (reinterpret_cast<std::uintptr_t>(function) >> 4) % sets * ways;
    for (std::size_t i = first; i < first + ways; ++i)
      if (known.all[i].function == function) return out.bytes(known.all[i].written);
    auto const found = Backend::locate(function);
    writer written;
    write_location(written, found);
    out.bytes(written.view());
    auto& place = known.all[first + known.turn++ % ways];
    if (!found.module.empty() || written.view().size() != place.written.size()) return;
    place.function = function;
    std::memcpy(place.written.data(), written.view().data(), place.written.size());
  }
  static void const* resolve(code_location const& where) {
    if (!where.module.empty()) return Backend::resolve(where);
    static thread_local struct {
      std::byte const* begin = nullptr;
      std::uint64_t build = 0;
    } program;
    if (program.begin == nullptr || program.build != where.build) {
      auto const* const found = static_cast<std::byte const*>(Backend::resolve(where));
      program = {found - where.offset, where.build};
    }
    return program.begin + where.offset;
  }

 private:
  struct place {
    void const* function = nullptr;
    std::array<std::byte, 17> written{};  // no module's name, build, offset
  };
  /// A function has a few places to be in: two that are always asked for together do not drive each other out.
  static constexpr std::size_t ways = 4;
  static constexpr std::size_t sets = 16;
  struct table {
    std::array<place, ways * sets> all{};
    std::size_t turn = 0;
  };
  static table& places() noexcept {
    static thread_local table mine;
    return mine;
  }
};

template <class Backend, class F>
void write_function(writer& out, F* function) {
  known_code<Backend>::write(out, reinterpret_cast<void const*>(function));
}
template <class Backend, class F>
F* read_function(reader& in) {
  auto const where = read_location(in);
  void const* code = nullptr;
  try {
    code = known_code<Backend>::resolve(where);
  } catch (std::runtime_error const& problem) {
    throw start_error(problem.what());  // a replaced or missing module, in the backend's words
  }
  return reinterpret_cast<F*>(const_cast<void*>(code));
}

using trampoline = void(reader&, writer&);

/// Decodes a target and its arguments, calls it and encodes what it returns.
template <class Backend, class F, class Kept>
void call_trampoline(reader& in, writer& result) {
  auto target = [&] {
    if constexpr (plain_function<F>) return read_function<Backend, std::remove_pointer_t<F>>(in);
    else return decode<F>(in);
  }();
  auto values = decode<Kept>(in);
  in.expect_end();
  using returned = decltype(invoke_call(target, values, true));
  if constexpr (std::is_void_v<returned>) {
    invoke_call(target, values, true);
  } else {
    check_result<returned>();
    encode(result, static_cast<std::decay_t<returned> const&>(invoke_call(target, values, true)));
  }
}

/// Writes a call that run_call runs in another process of the same build.
template <class Backend, class F, class Kept>
void write_call(writer& out, F const& target, Kept const& values) {
  write_function<Backend>(out, &call_trampoline<Backend, F, Kept>);
  if constexpr (plain_function<F>) write_function<Backend>(out, target);
  else encode(out, target);
  encode(out, values);
}

/// The same from the arguments as they are: what has its parameter's type already is not copied for it; but what has one owner
/// is taken from the caller.
template <class Backend, class F, class... Kept, class... Args>
void write_call_of(writer& out, F const& target, std::type_identity<std::tuple<Kept...>>, Args&&... args) {
  write_function<Backend>(out, &call_trampoline<Backend, F, std::tuple<Kept...>>);
  if constexpr (plain_function<F>) write_function<Backend>(out, target);
  else encode(out, target);
  [[maybe_unused]] auto const write = [&out]<class K, class A>(std::type_identity<K>, A&& given) {
    if constexpr (std::is_same_v<std::remove_cvref_t<A>, K> && can_be_copied<K>()) encode(out, given);
    else encode(out, K(std::forward<A>(given)));
  };
  if constexpr (sizeof...(Kept) == 0) encode(out, std::tuple<>{});
  else (write(std::type_identity<Kept>{}, std::forward<Args>(args)), ...);
}

/// Runs it. Throws what Backend::resolve, decoding and the target throw.
template <class Backend>
void run_call(reader& in, writer& result) {
  read_function<Backend, trampoline>(in)(in, result);
}

}  // namespace detail
}  // namespace polyproc::inline v0_1
