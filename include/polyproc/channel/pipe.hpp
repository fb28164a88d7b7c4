/// A pipe between two processes of one family: messages of one type in each direction, in shared memory.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/channel/pipe_half.hpp>
#include <polyproc/wire/codec.hpp>

#include <optional>
#include <utility>

namespace polyproc::inline v0_1 {

namespace detail {
struct pipe_access;
template <class End>
auto& pipe_access_of(End& end);  // its half
}

/// pipe<T>(one_way): messages go in one direction only.
struct one_way_t {};
inline constexpr one_way_t one_way{};

/// The end of a pipe into which messages go. Move-only: an end has one owner, and is used by one thread at a time. It can be
/// an argument of a process or task or a message in a queue or pipe; whoever gets it has it, and the sender's object is empty
/// then. After a fork the copy of an end belongs to whichever process uses it first (an argument of the child: to the child).
///
/// The end is closed by close(), by its destruction, and by the death of its owner. A message is sent whole or not at all,
/// whatever is killed when, and may have any size. Up to 1024 messages wait in a pipe; then send waits.
template <class T, backend Backend = native_backend>
class basic_pipe_writer {
  static_assert(encodable<T>, "polyproc: a pipe carries values that the codec can encode; T is not one of them");

 public:
  using value_type = T;

  /// Waits for room. Throws std::system_error (broken_pipe) when the other end is closed, and, having had to wait, when its
  /// owner is dead (what is sent while there is room may still go to a dead one); std::bad_alloc.
  void send(T const& value) { half_.check(put(value, never, true), "send"); }
  /// False when the deadline came first: nothing was sent.
  template <class Rep, class Period>
  [[nodiscard]] bool send_for(T const& value, std::chrono::duration<Rep, Period> wait) {
    return half_.check(put(value, detail::deadline_after<Backend>(wait), true), "send_for");
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool send_until(T const& value, std::chrono::time_point<Clock, Duration> when) {
    return half_.check(put(value, detail::deadline_at<Backend>(when), true), "send_until");
  }
  /// False when there is no room now.
  [[nodiscard]] bool try_send(T const& value) { return half_.check(put(value, never, false), "try_send"); }

  /// The bytes as a message of their own, for a receiver who calls recv_bytes.
  void send_bytes(std::span<std::byte const> bytes) { half_.check(half_.put_bytes(bytes, never, true), "send_bytes"); }

  /// The receiver finds the end of file behind what was sent. May be repeated.
  void close() noexcept { half_.close(); }
  /// Whether this is an end, and the receiver's end is not known to be closed. Costs no system call.
  [[nodiscard]] bool is_open() const noexcept { return half_.open(); }

 private:
  friend struct detail::pipe_access;

  explicit basic_pipe_writer(detail::pipe_half<Backend> half) noexcept : half_(std::move(half)) {}
  static constexpr std::uint64_t fingerprint() { return type_fingerprint<T>() ^ 0x70697065ULL; }

  queue_status put(T const& value, time_point deadline, bool wait) {
    if constexpr (detail::lies_in_one_piece<T>) {
      if (detail::is_large(value)) return half_.put_large(value, deadline, wait);
    }
    // Encodes once; the holds of what it encoded go with the message.
    return half_.put([&value](writer& out) { encode(out, value); }, deadline, wait);
  }

  detail::pipe_half<Backend> half_;
};

/// The end of a pipe from which messages come. As for pipe_writer in respect of ownership.
template <class T, backend Backend = native_backend>
class basic_pipe_reader {
  static_assert(encodable<T>, "polyproc: a pipe carries values that the codec can encode; T is not one of them");

 public:
  using value_type = T;

  /// Waits. Nothing at the end of file: the other end is closed or its owner dead, and what was sent was received. What
  /// cannot be decoded is an exception, and gone; where that is std::bad_alloc, a large message without handles is still there.
  [[nodiscard]] std::optional<T> recv() { return take(never, true); }
  /// Nothing also when the deadline came first; `why` tells (closed: end of file, timeout, success).
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> recv_for(std::chrono::duration<Rep, Period> wait) {
    return take(detail::deadline_after<Backend>(wait), true);
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> recv_for(std::chrono::duration<Rep, Period> wait, queue_status& why) {
    return take(detail::deadline_after<Backend>(wait), true, &why);
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<T> recv_until(std::chrono::time_point<Clock, Duration> when) {
    return take(detail::deadline_at<Backend>(when), true);
  }
  /// Nothing when there is nothing now; `why` tells (empty, or closed: end of file).
  [[nodiscard]] std::optional<T> try_recv() { return take(never, false); }
  [[nodiscard]] std::optional<T> try_recv(queue_status& why) { return take(never, false, &why); }

  /// What send_bytes sent; nothing at the end of file. A message of more than `limit` bytes stays where it is and throws
  /// std::length_error.
  [[nodiscard]] std::optional<std::vector<std::byte>> recv_bytes(std::size_t limit = ~std::size_t{0}) {
    return half_.get_bytes(limit);
  }

  /// Whether there is something to receive now: a message, or the end of file.
  [[nodiscard]] bool poll() { return half_.ready(time_point{}); }
  /// The same, waiting for it.
  template <class Rep, class Period>
  [[nodiscard]] bool poll_for(std::chrono::duration<Rep, Period> wait) {
    return half_.ready(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool poll_until(std::chrono::time_point<Clock, Duration> when) {
    return half_.ready(detail::deadline_at<Backend>(when));
  }

  /// For event loops that are not ours (wait_any takes the end itself): readable (Windows: signaled) while there is something
  /// to receive. It stays this object's, and is good until the end is closed, moved into a message or destroyed. The first
  /// call starts a thread, which sleeps in the pipe in place of a reader. Throws std::system_error, std::bad_alloc.
  [[nodiscard]] typename Backend::handle native_handle() const { return half_.native_handle(); }

  /// The sender finds the pipe broken. May be repeated.
  void close() noexcept { half_.close(); }
  /// Whether this is an end.
  [[nodiscard]] bool is_open() const noexcept { return half_.here(); }

 private:
  friend struct detail::pipe_access;
  friend struct detail::wait_access;
  [[nodiscard]] bool wait_is_over(bool ask) const { return half_.wait_is_over(ask); }
  [[nodiscard]] auto announce_wait() const noexcept { return half_.announce_wait(); }

  explicit basic_pipe_reader(detail::pipe_half<Backend> half) noexcept : half_(std::move(half)) {}
  static constexpr std::uint64_t fingerprint() { return type_fingerprint<T>() ^ 0x70697065ULL; }

  std::optional<T> take(time_point deadline, bool wait, queue_status* why = nullptr) {
    std::optional<T> value;
    auto const status = half_.get(deadline, wait, [&](reader& in) {
      value.emplace(decode<T>(in));
      in.expect_end();
    });
    if (why != nullptr) *why = status;
    return value;
  }

  detail::pipe_half<Backend> half_;
};

/// One end of a pipe in both directions: To goes in, From comes out. All that is said of pipe_writer and pipe_reader holds.
template <class To, class From = To, backend Backend = native_backend>
class basic_pipe_end {
 public:
  void send(To const& value) { out_.send(value); }
  template <class Rep, class Period>
  [[nodiscard]] bool send_for(To const& value, std::chrono::duration<Rep, Period> wait) {
    return out_.send_for(value, wait);
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool send_until(To const& value, std::chrono::time_point<Clock, Duration> when) {
    return out_.send_until(value, when);
  }
  [[nodiscard]] bool try_send(To const& value) { return out_.try_send(value); }
  void send_bytes(std::span<std::byte const> bytes) { out_.send_bytes(bytes); }

  [[nodiscard]] std::optional<From> recv() { return in_.recv(); }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<From> recv_for(std::chrono::duration<Rep, Period> wait) {
    return in_.recv_for(wait);
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<From> recv_for(std::chrono::duration<Rep, Period> wait, queue_status& why) {
    return in_.recv_for(wait, why);
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<From> recv_until(std::chrono::time_point<Clock, Duration> when) {
    return in_.recv_until(when);
  }
  [[nodiscard]] std::optional<From> try_recv() { return in_.try_recv(); }
  [[nodiscard]] std::optional<From> try_recv(queue_status& why) { return in_.try_recv(why); }
  [[nodiscard]] std::optional<std::vector<std::byte>> recv_bytes(std::size_t limit = ~std::size_t{0}) {
    return in_.recv_bytes(limit);
  }
  [[nodiscard]] bool poll() { return in_.poll(); }
  template <class Rep, class Period>
  [[nodiscard]] bool poll_for(std::chrono::duration<Rep, Period> wait) {
    return in_.poll_for(wait);
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool poll_until(std::chrono::time_point<Clock, Duration> when) {
    return in_.poll_until(when);
  }

  /// As for pipe_reader.
  [[nodiscard]] typename Backend::handle native_handle() const { return in_.native_handle(); }

  /// No more messages from here: the other side finds the end of file; what it sends still comes.
  void close_send() noexcept { out_.close(); }
  void close() noexcept {
    out_.close();
    in_.close();
  }
  [[nodiscard]] bool is_open() const noexcept { return in_.is_open(); }

 private:
  friend struct detail::pipe_access;
  friend struct detail::wait_access;
  [[nodiscard]] bool wait_is_over(bool ask) const { return detail::pipe_access_of(in_).wait_is_over(ask); }
  [[nodiscard]] auto announce_wait() const noexcept { return detail::pipe_access_of(in_).announce_wait(); }

  basic_pipe_end(basic_pipe_writer<To, Backend> out, basic_pipe_reader<From, Backend> in) noexcept
      : out_(std::move(out)), in_(std::move(in)) {}

  basic_pipe_writer<To, Backend> out_;
  basic_pipe_reader<From, Backend> in_;
};

namespace detail {

/// What makes ends, and takes them apart.
struct pipe_access {
  template <class To, class From, backend Backend>
  static auto two_ways() {
    using to = basic_pipe_writer<To, Backend>;
    using from = basic_pipe_writer<From, Backend>;
    using first = basic_pipe_end<To, From, Backend>;
    using second = basic_pipe_end<From, To, Backend>;
    auto there = pipe_half<Backend>::make(to::fingerprint());
    auto back = pipe_half<Backend>::make(from::fingerprint());
    return std::pair<first, second>(
        first(to(std::move(there.second)), basic_pipe_reader<From, Backend>(std::move(back.first))),
        second(from(std::move(back.second)), basic_pipe_reader<To, Backend>(std::move(there.first))));
  }
  template <class T, backend Backend>
  static auto one_way() {
    auto halves = pipe_half<Backend>::make(basic_pipe_writer<T, Backend>::fingerprint());
    return std::pair<basic_pipe_reader<T, Backend>, basic_pipe_writer<T, Backend>>(
        basic_pipe_reader<T, Backend>(std::move(halves.first)), basic_pipe_writer<T, Backend>(std::move(halves.second)));
  }
  template <class End>
  static constexpr std::uint64_t fingerprint = End::fingerprint();
  template <class End>
  static auto& half(End& end) {
    return end.half_;
  }
  template <class End, backend Backend>
  static End make(pipe_half<Backend> half) {
    return End(std::move(half));
  }
  template <class End>
  static auto& out(End& end) {
    return end.out_;
  }
  template <class End>
  static auto& in(End& end) {
    return end.in_;
  }
  template <class End, class Out, class In>
  static End join(Out&& out, In&& in) {
    return End(std::forward<Out>(out), std::forward<In>(in));
  }
};

template <class End>
auto& pipe_access_of(End& end) {
  return pipe_access::half(end);
}

template <class End, backend Backend, unsigned Side>
struct pipe_end_codec {
  static constexpr std::uint64_t fingerprint = pipe_access::fingerprint<End> ^ (Side + 0x7772ULL);
  static void write(writer& out, End const& e) { pipe_access::half(e).write(out); }
  static End read(reader& in) {
    return pipe_access::make<End>(pipe_half<Backend>::read(in, pipe_access::fingerprint<End>, Side));
  }
  static void take(End& e) noexcept { pipe_access::half(e).take_over(); }
};

}  // namespace detail

/// The two ends of a pipe: what one sends the other receives, and the other way round. Throws std::bad_alloc,
/// std::system_error.
template <class To, class From = To>
[[nodiscard]] auto pipe() {
  return detail::pipe_access::two_ways<To, From, native_backend>();
}
/// The reader and the writer of a pipe in one direction.
template <class T>
[[nodiscard]] auto pipe(one_way_t) {
  return detail::pipe_access::one_way<T, native_backend>();
}

template <class T, backend Backend>
struct codec<basic_pipe_writer<T, Backend>> : detail::pipe_end_codec<basic_pipe_writer<T, Backend>, Backend, 0> {};
template <class T, backend Backend>
struct codec<basic_pipe_reader<T, Backend>> : detail::pipe_end_codec<basic_pipe_reader<T, Backend>, Backend, 1> {};
template <class To, class From, backend Backend>
struct codec<basic_pipe_end<To, From, Backend>> {
  using end = basic_pipe_end<To, From, Backend>;
  using access = detail::pipe_access;
  using out_codec = codec<basic_pipe_writer<To, Backend>>;
  using in_codec = codec<basic_pipe_reader<From, Backend>>;
  static constexpr std::uint64_t fingerprint = out_codec::fingerprint * 31 + in_codec::fingerprint;
  static void write(writer& out, end const& e) {
    out_codec::write(out, access::out(e));
    in_codec::write(out, access::in(e));
  }
  static end read(reader& in) {
    auto out = out_codec::read(in);
    return access::join<end>(std::move(out), in_codec::read(in));
  }
  static void take(end& e) noexcept {
    out_codec::take(access::out(e));
    in_codec::take(access::in(e));
  }
};

template <class T>
using pipe_writer = basic_pipe_writer<T>;
template <class T>
using pipe_reader = basic_pipe_reader<T>;
template <class To, class From = To>
using pipe_end = basic_pipe_end<To, From>;

}  // namespace polyproc::inline v0_1
