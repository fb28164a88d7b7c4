/// What a process that runs one call gives back: a value or an exception, laid down in shared memory.
///
///   state of an answer:  none --(child)--> value | exception        one store, by which the bytes are published
///
/// The child writes, once; the process that started it reads after the child's end. A death before the store leaves `none`,
/// and what was written until then is gone with the block, which is the owner of the piece of the arena that holds a long
/// answer.
#pragma once

#include <polyproc/memory/handle.hpp>
#include <polyproc/process/process.hpp>

namespace polyproc::inline v0_1 {
namespace detail {

template <backend Backend>
class answer_slot {
 public:
  answer_slot() : block_(attachment<Backend>::create(sizeof(contents), fingerprint(), layout)) {}

  /// Runs run(writer) and lays down what it has written, or what it let out. Throws std::bad_alloc when there is no room even
  /// for the news that there is none.
  template <class Run>
  void fill(Run&& run) const {
    auto how = value;
    writer result;
    try {
      run(result);
      lay_down(result.view());
    } catch (...) {
      how = exception;
      writer problem;
      encode_exception(problem, std::current_exception());
      try {
        lay_down(problem.view());
      } catch (std::bad_alloc const&) {
        writer little;
        encode_exception(little, std::make_exception_ptr(std::bad_alloc()));
        lay_down(little.view());
      }
    }
    at().state.store(how, std::memory_order_release);
    if (how == value) result.sent();
  }

  /// After the child's end. False: it has left no answer. read(reader) is called when that is a value; else throws what it
  /// says, or what reading throws.
  template <class Read>
  [[nodiscard]] bool take(Read&& read) const {
    auto& c = at();
    auto const how = c.state.load(std::memory_order_acquire);
    if (how == none) return false;
    auto const size = static_cast<std::size_t>(c.size);
    reader in({c.block == 0 ? c.data : arena<Backend>::at(c.block, size), size});
    if (how == exception) std::rethrow_exception(decode_exception(in));
    read(in);
    return true;
  }

  static constexpr std::uint64_t fingerprint() { return 0x616e73776572ULL ^ sizeof(contents); }
  static constexpr std::uint64_t layout = 1;
  static constexpr char const* handle_name = "answer";

 private:
  friend handle_codec<answer_slot, Backend>;
  enum : std::uint32_t { none, value, exception };
  static constexpr std::size_t room = 1024 - shared_block_header - 32;
  struct contents {
    typename Backend::template atomic<std::uint32_t> state;
    std::uint64_t size;
    std::uint64_t block;  // 0: in data
    std::byte data[room];
  };

  explicit answer_slot(attachment_ref<Backend> block) noexcept : block_(std::move(block)) {}
  [[nodiscard]] contents& at() const noexcept { return *reinterpret_cast<contents*>(block_->contents()); }

  void lay_down(std::span<std::byte const> bytes) const {
    auto& c = at();
    auto* to = c.data;
    if (bytes.size() > room) {
      c.block = arena<Backend>::allocate(bytes.size(), {block_->offset(), 0});
      to = arena<Backend>::at(c.block, bytes.size());
    }
    c.size = bytes.size();
    if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
  }

  attachment_ref<Backend> block_;
};

/// A target as an argument: a function by its place in the program, anything else by its value.
template <class F, backend Backend>
struct sent_target {
  F target;
};

/// What such a process runs.
template <class F, class Kept, backend Backend>
struct answered_call;
template <class F, class... K, backend Backend>
struct answered_call<F, std::tuple<K...>, Backend> {
  void operator()(answer_slot<Backend> const& slot, sent_target<F, Backend> call, K... arguments) const {
    slot.fill([&](writer& result) {
      std::tuple<K...> values(std::move(arguments)...);
      using returned = decltype(invoke_call(call.target, values, true));
      if constexpr (std::is_void_v<returned>) {
        invoke_call(call.target, values, true);
      } else {
        check_result<std::decay_t<returned>>();
        encode(result, static_cast<std::decay_t<returned> const&>(invoke_call(call.target, values, true)));
      }
    });
  }
};

/// A process, not yet started, that answers with target(arguments).
template <class F, class... K, backend Backend>
basic_process<Backend> answering_process(process_options options, answer_slot<Backend> const& slot, F const& target,
                                         std::tuple<K...>&& arguments) {
  options.daemon = true;
  return std::apply(
      [&](K&... each) {
        return basic_process<Backend>(std::move(options), answered_call<F, std::tuple<K...>, Backend>{}, slot,
                                      sent_target<F, Backend>{target}, std::move(each)...);
      },
      arguments);
}

/// Why a process that ended without an answer has lost it, as a sentence goes on: "it ...".
template <class = void>
std::string how_it_ended(exit_status const& status) {
  if (status.how == exit_status::kind::exception)
    return "ended by an uncaught " + status.exception_type + ": " + status.exception_what;
  auto const code = status.as_code();
  if (code < 0) return "was ended by signal " + std::to_string(-static_cast<long>(code));
  return "exited with code " + std::to_string(code);
}

}  // namespace detail

template <backend Backend>
struct codec<detail::answer_slot<Backend>> : detail::handle_codec<detail::answer_slot<Backend>, Backend> {};

template <class F, backend Backend>
struct codec<detail::sent_target<F, Backend>> {
  static void write(writer& out, detail::sent_target<F, Backend> const& sent) {
    if constexpr (detail::plain_function<F>) detail::write_function<Backend>(out, sent.target);
    else encode(out, sent.target);
  }
  static detail::sent_target<F, Backend> read(reader& in) {
    if constexpr (detail::plain_function<F>) return {detail::read_function<Backend, std::remove_pointer_t<F>>(in)};
    else return {decode<F>(in)};
  }
};

}  // namespace polyproc::inline v0_1
