/// Messages over a stream.
#pragma once

#include <polyproc/channel/stream.hpp>

#include <exception>
#include <system_error>

namespace polyproc::inline v0_1 {

/// One end of a connection through which values travel, each whole: `To` are sent, `From` are received, of any types that
/// the codec can carry. Move-only; as an argument of a process it goes to the child, as a stream does (stream.hpp says what
/// that means, and what of end of file, threads, deadlines and failures).
///
/// On the stream each message is its length, 64 bits little-endian, and its bytes. What comes is not trusted: a message
/// longer than the limit is refused before memory is taken for it, memory grows only as bytes come, and what cannot be read
/// as a From is a decode_error, after which the next message can be received.
template <class To, class From = To, backend Backend = native_backend>
class basic_connection {
  static_assert(encodable<To> && encodable<From>,
                "polyproc: a connection carries values that the codec can encode; To or From is not one of them");

 public:
  using stream_type = basic_stream<Backend>;
  using handle = typename Backend::handle;
  static constexpr std::uint64_t no_limit = ~std::uint64_t{0};

  /// Not open.
  basic_connection() = default;
  /// Over a stream whose other side does the same with To and From exchanged: that is not checked.
  /// `strangers`: the other side may be a program of another family, to which a handle without a name means nothing (to send
  /// one is a handle_error then).
  explicit basic_connection(stream_type over, std::uint64_t max_message = no_limit, bool strangers = true) noexcept
      : stream_(std::move(over)), most_(max_message), strangers_(strangers) {}
  basic_connection(basic_connection&&) noexcept = default;
  basic_connection& operator=(basic_connection&&) noexcept = default;

  /// Two ends that are connected to each other. Throws std::system_error.
  [[nodiscard]] static std::pair<basic_connection, basic_connection<From, To, Backend>> pair() {
    auto [one, other] = stream_type::pair();
    return {basic_connection(std::move(one), no_limit, false),
            basic_connection<From, To, Backend>(std::move(other), no_limit, false)};
  }

  // --- sending

  /// Waits until it is on its way.
  void send(To const& value) { (void)send_value(value, never); }
  /// False when not one byte of it was sent before the deadline. Once it has begun it is sent, whatever happens: then true,
  /// and what did not get away in time (unsent()) is kept, and goes before the next message, or with flush().
  template <class Rep, class Period>
  [[nodiscard]] bool send_for(To const& value, std::chrono::duration<Rep, Period> wait) {
    return send_value(value, detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool send_until(To const& value, std::chrono::time_point<Clock, Duration> when) {
    return send_value(value, detail::deadline_at<Backend>(when));
  }
  /// A message that is just these bytes.
  void send_bytes(std::span<std::byte const> message) { (void)send_raw(message, never); }
  template <class Rep, class Period>
  [[nodiscard]] bool send_bytes_for(std::span<std::byte const> message, std::chrono::duration<Rep, Period> wait) {
    return send_raw(message, detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool send_bytes_until(std::span<std::byte const> message, std::chrono::time_point<Clock, Duration> when) {
    return send_raw(message, detail::deadline_at<Backend>(when));
  }

  /// How many bytes of the last message are kept because a deadline came.
  [[nodiscard]] std::size_t unsent() const noexcept { return rest_.size(); }
  /// Waits until nothing is kept. It is lost if this end is closed before.
  void flush() { (void)send_rest(never); }
  template <class Rep, class Period>
  [[nodiscard]] bool flush_for(std::chrono::duration<Rep, Period> wait) {
    return send_rest(detail::deadline_after<Backend>(wait));
  }

  // --- receiving

  /// Waits for a message. Nothing at the end of file. Throws std::bad_alloc when there is no memory for a message, which can be
  /// received again then (unless there are handles in it); connection_lost when the end of file comes in the middle of one;
  /// message_too_large, and connection_error from then on, because what follows cannot be found any more.
  [[nodiscard]] std::optional<From> recv() { return receive_value(never); }
  /// Nothing also when the deadline came first: at_end() tells. What has come of a message is kept for the next call.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<From> recv_for(std::chrono::duration<Rep, Period> wait) {
    return receive_value(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<From> recv_until(std::chrono::time_point<Clock, Duration> when) {
    return receive_value(detail::deadline_at<Backend>(when));
  }
  /// The bytes of a message, of at most `most`.
  [[nodiscard]] std::optional<std::vector<std::byte>> recv_bytes(std::uint64_t most = no_limit) {
    return receive_bytes(never, most);
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<std::vector<std::byte>> recv_bytes_for(std::chrono::duration<Rep, Period> wait,
                                                                     std::uint64_t most = no_limit) {
    return receive_bytes(detail::deadline_after<Backend>(wait), most);
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<std::vector<std::byte>> recv_bytes_until(std::chrono::time_point<Clock, Duration> when,
                                                                       std::uint64_t most = no_limit) {
    return receive_bytes(detail::deadline_at<Backend>(when), most);
  }

  /// Whether recv would not wait: a whole message is there, or the end of file, or something that it would throw.
  [[nodiscard]] bool poll() { return ready(time_point{}); }
  template <class Rep, class Period>
  [[nodiscard]] bool poll_for(std::chrono::duration<Rep, Period> wait) {
    return ready(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool poll_until(std::chrono::time_point<Clock, Duration> when) {
    return ready(detail::deadline_at<Backend>(when));
  }
  [[nodiscard]] bool at_end() const noexcept { return stream_.at_end(); }

  // --- the rest

  /// The other side reads end of file after the last message, while this side can still receive. Throws std::logic_error
  /// while something is unsent().
  void close_write() {
    if (!rest_.empty())
      throw std::logic_error("polyproc: close_write of a connection of which a message is not yet sent; call flush() first");
    stream_.close_write();
  }
  void close() noexcept {
    stream_.close();
    rest_.clear();
    broken_ = false;
    failure_ = nullptr;
  }
  [[nodiscard]] bool is_open() const noexcept { return stream_.is_open(); }
  /// As a stream's: what has come may already be kept here, so ask poll() first.
  [[nodiscard]] handle native_handle() const { return stream_.native_handle(); }

  [[nodiscard]] std::uint64_t max_message() const noexcept { return most_; }
  void set_max_message(std::uint64_t bytes) noexcept { most_ = bytes; }

 private:
  friend codec<basic_connection>;
  static constexpr std::size_t head = sizeof(std::uint64_t);
  using fill = typename stream_type::fill_result;

  bool send_value(To const& value, time_point deadline) {
    writer out;
    if (strangers_) out.for_strangers();
    out.raw(std::uint64_t{0});
    encode(out, value);
    out.overwrite(0, static_cast<std::uint64_t>(out.view().size() - head));
    if (!send_frame(out.view(), {}, deadline)) return false;
    out.sent();
    return true;
  }
  bool send_raw(std::span<std::byte const> message, time_point deadline) {
    writer out;
    out.raw(static_cast<std::uint64_t>(message.size()));
    // A short one in one piece, because the other side is woken by each.
    if (message.size() > 65536) return send_frame(out.view(), message, deadline);
    out.bytes(message);
    return send_frame(out.view(), {}, deadline);
  }

  bool send_frame(std::span<std::byte const> first, std::span<std::byte const> second, time_point deadline) {
    if (!send_rest(deadline)) return false;
    if (deadline == never) {
      (void)stream_.put(first, never);
      (void)stream_.put(second, never);
      return true;
    }
    // Room for the rest beforehand: a message that was begun must not be lost for want of memory.
    rest_.reserve(first.size() + second.size());
    auto const done = stream_.put(first, deadline);
    if (done == 0) return false;
    auto const more = done < first.size() ? 0 : stream_.put(second, deadline);
    rest_.assign(first.begin() + static_cast<std::ptrdiff_t>(done), first.end());
    rest_.insert(rest_.end(), second.begin() + static_cast<std::ptrdiff_t>(more), second.end());
    return true;
  }
  bool send_rest(time_point deadline) {
    if (!rest_.empty()) {
      auto const done = stream_.put(rest_, deadline);
      rest_.erase(rest_.begin(), rest_.begin() + static_cast<std::ptrdiff_t>(done));
    } else {
      (void)stream_.open_end();
    }
    return rest_.empty();
  }

  [[nodiscard]] std::uint64_t length() const noexcept {
    std::uint64_t size = 0;
    auto const bytes = stream_.kept_bytes();
    for (std::size_t i = head; i-- > 0;) size = size << 8 | std::to_integer<std::uint64_t>(bytes[i]);
    return size;
  }

  /// Until a whole message is kept: its length; nothing at the deadline and at the end of file.
  std::optional<std::size_t> next(time_point deadline, std::uint64_t most) {
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    if (broken_ && stream_.is_open())
      throw connection_error("polyproc: a connection on which a message was refused as too large was used further; close it");
    auto result = stream_.keep(head, deadline);
    if (result == fill::there) {
      auto const size = length();
      // More than an address space is more than any limit.
      if (size > std::min<std::uint64_t>(most, std::size_t(-1) / 2 - head)) {
        broken_ = true;
        throw message_too_large(size, most);
      }
      result = stream_.keep(head + static_cast<std::size_t>(size), deadline);
      if (result == fill::there) return static_cast<std::size_t>(size);
    }
    if (result == fill::ended && stream_.kept() != 0) {
      auto const came = stream_.kept();
      stream_.forget(came);
      throw connection_lost("polyproc: the other side of a connection is gone after " + std::to_string(came) +
                            " bytes of a message");
    }
    return std::nullopt;
  }

  std::optional<From> receive_value(time_point deadline) {
    auto const size = next(deadline, most_);
    if (!size) return std::nullopt;
    taken_at_end whole{stream_, head + *size};
    reader in(stream_.kept_bytes().subspan(head, *size));
    if (strangers_) in.from_strangers();
    try {
      std::optional<From> message(decode<From>(in));
      in.expect_end();
      return message;
    } catch (std::bad_alloc const&) {
      if (!in.has_handles()) whole.bytes = 0;
      throw;
    }
  }
  std::optional<std::vector<std::byte>> receive_bytes(time_point deadline, std::uint64_t most) {
    auto const size = next(deadline, std::min(most, most_));
    if (!size) return std::nullopt;
    auto const bytes = stream_.kept_bytes().subspan(head, *size);
    std::vector<std::byte> message(bytes.begin(), bytes.end());
    stream_.forget(head + *size);
    return message;
  }
  bool ready(time_point deadline) {
    if (broken_ || failure_) return true;
    try {
      return complete(deadline);
    } catch (std::system_error const&) {
      // The system says it once; the next recv does.
      failure_ = std::current_exception();
      return true;
    }
  }
  bool complete(time_point deadline) {
    if (stream_.keep(head, deadline) == fill::late) return false;
    if (stream_.kept() < head) return true;
    auto const size = length();
    return size > most_ || size > std::size_t(-1) / 2 - head ||
           stream_.keep(head + static_cast<std::size_t>(size), deadline) != fill::late;
  }

  /// A message is gone when it was read, also when it could not be (but for want of memory).
  struct taken_at_end {
    stream_type& from;
    std::size_t bytes;
    taken_at_end(stream_type& where, std::size_t size) noexcept : from(where), bytes(size) {}
    taken_at_end(taken_at_end const&) = delete;
    taken_at_end& operator=(taken_at_end const&) = delete;
    ~taken_at_end() { from.forget(bytes); }
  };

  stream_type stream_;
  std::uint64_t most_ = no_limit;
  std::vector<std::byte> rest_;  // of a message whose beginning was sent
  bool broken_ = false;
  bool strangers_ = true;
  std::exception_ptr failure_;  // what was found while nobody received
};

/// As a stream: an argument of a process.
template <class To, class From, backend Backend>
struct codec<basic_connection<To, From, Backend>> {
  using connection_type = basic_connection<To, From, Backend>;
  static void write(writer& out, connection_type const& end) {
    codec<basic_stream<Backend>>::write(out, end.stream_);
    out.raw(end.most_);
    out.raw(static_cast<std::uint8_t>((end.broken_ ? 1 : 0) | (end.strangers_ ? 2 : 0) | (end.failure_ ? 4 : 0)));
    out.count(end.rest_.size());
    out.bytes(end.rest_);
  }
  static connection_type read(reader& in) {
    connection_type end(codec<basic_stream<Backend>>::read(in));
    end.most_ = in.raw<std::uint64_t>();
    auto const flags = in.raw<std::uint8_t>();
    end.broken_ = (flags & 1) != 0;
    end.strangers_ = (flags & 2) != 0;
    if ((flags & 4) != 0)
      end.failure_ = std::make_exception_ptr(connection_lost("polyproc: the other side of a connection is gone"));
    auto const rest = in.bytes(in.count_of(1));
    end.rest_.assign(rest.begin(), rest.end());
    return end;
  }
};

template <class To, class From = To>
using connection = basic_connection<To, From>;

}  // namespace polyproc::inline v0_1
