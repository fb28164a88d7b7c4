/// Bytes between processes, without boundaries.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/sync/waiting.hpp>
#include <polyproc/wire/codec.hpp>
#include <polyproc/wire/error.hpp>

#include <memory>

namespace polyproc::inline v0_1 {

namespace detail {

/// Bytes that were read and not yet given out. Unlike a vector it does not fill room that is to be read into.
class byte_store {
 public:
  byte_store() = default;
  byte_store(byte_store&& other) noexcept
      : all_(std::move(other.all_)), room_(std::exchange(other.room_, 0)), from_(std::exchange(other.from_, 0)),
        to_(std::exchange(other.to_, 0)) {}
  byte_store& operator=(byte_store&& other) noexcept {
    all_ = std::move(other.all_);
    room_ = std::exchange(other.room_, 0);
    from_ = std::exchange(other.from_, 0);
    to_ = std::exchange(other.to_, 0);
    return *this;
  }

  [[nodiscard]] std::size_t size() const noexcept { return to_ - from_; }
  [[nodiscard]] std::span<std::byte const> view() const noexcept { return {all_.get() + from_, size()}; }

  /// Room for at least that many more bytes (and `wish`, if memory has to be taken); what is written to its beginning is kept
  /// by added(). Throws std::bad_alloc.
  std::span<std::byte> room_for(std::size_t least, std::size_t wish) {
    if (room_ - to_ < least) {
      auto const held = size();
      // Moved to the front only when that frees more than it moves: so no byte is moved more often than a few times.
      if (held <= from_ && room_ - held >= least) {
        if (held != 0) std::memmove(all_.get(), all_.get() + from_, held);
      } else {
        auto const needed = held + std::max(least, wish);
        auto larger = std::make_unique_for_overwrite<std::byte[]>(needed);
        if (held != 0) std::memcpy(larger.get(), all_.get() + from_, held);
        all_ = std::move(larger);
        room_ = needed;
      }
      from_ = 0;
      to_ = held;
    }
    return {all_.get() + to_, room_ - to_};
  }
  void added(std::size_t bytes) noexcept { to_ += bytes; }
  void add(std::span<std::byte const> bytes) {
    if (bytes.empty()) return;
    std::memcpy(room_for(bytes.size(), 0).data(), bytes.data(), bytes.size());
    added(bytes.size());
  }
  void forget(std::size_t bytes) noexcept {
    from_ += bytes;
    if (from_ < to_) return;
    from_ = to_ = 0;
    if (room_ > largest_kept) clear();
  }
  void clear() noexcept {
    all_.reset();
    room_ = from_ = to_ = 0;
  }

 private:
  static constexpr std::size_t largest_kept = 262144;  // memory held while there is nothing in it

  std::unique_ptr<std::byte[]> all_;
  std::size_t room_ = 0;
  std::size_t from_ = 0;
  std::size_t to_ = 0;
};

}  // namespace detail

/// One end of a connection through which bytes flow: of a pair, a FIFO, a local socket or TCP. Move-only: an end has one
/// owner, who closes it by letting it go. As an argument of a process it goes to the child (under every start method), and
/// this process has it no longer once the child has been started; if the start fails it is still here.
///
/// End of file comes when the other end was closed or its last owner has died, however that happened; processes started
/// meanwhile do not keep it open. The exception are copies of this process that may need everything: one made by start::fork
/// whose target captures something or is given pointers or references, and those of fork().
///
/// One thread may read while another one writes; otherwise one at a time. Timed forms return at most 20 ms late on an idle
/// machine, also when the other side is stopped. Failures of the system are std::system_error: broken_pipe when nobody can
/// read any more (there is never a SIGPIPE), connection_reset when the other side is gone and has lost what was under way.
/// All functions but is_open, close and native_handle throw std::logic_error on an end that is not open.
template <backend Backend = native_backend>
class basic_stream {
 public:
  using handle = typename Backend::handle;

  /// Not open.
  basic_stream() = default;
  basic_stream(basic_stream&& other) noexcept
      : end_(std::exchange(other.end_, {})), ahead_(std::move(other.ahead_)), at_end_(std::exchange(other.at_end_, false)) {}
  basic_stream& operator=(basic_stream&& other) noexcept {
    if (this == &other) return *this;
    close();
    end_ = std::exchange(other.end_, {});
    ahead_ = std::move(other.ahead_);
    at_end_ = std::exchange(other.at_end_, false);
    return *this;
  }
  ~basic_stream() { close(); }

  /// Two ends that are connected to each other; what is written to one is read from the other. Throws std::system_error.
  [[nodiscard]] static std::pair<basic_stream, basic_stream> pair() {
    auto const both = Backend::stream_pair();
    return {basic_stream(both.first), basic_stream(both.second)};
  }
  /// Takes over a descriptor (Windows: HANDLE) of a socket, pipe, FIFO or terminal. Throws std::system_error; the descriptor
  /// is still the caller's then.
  [[nodiscard]] static basic_stream from_native(handle given) { return basic_stream(Backend::stream_of(given)); }

  // --- reading

  /// Waits until there is something and reads what is there, at most what fits: how many bytes; 0 at the end of file (and
  /// from then on).
  [[nodiscard]] std::size_t read_some(std::span<std::byte> into) { return *some(into, never); }
  /// Nothing when the deadline came first.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<std::size_t> read_some_for(std::span<std::byte> into, std::chrono::duration<Rep, Period> wait) {
    return some(into, detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<std::size_t> read_some_until(std::span<std::byte> into,
                                                           std::chrono::time_point<Clock, Duration> when) {
    return some(into, detail::deadline_at<Backend>(when));
  }

  /// Waits until `into` is full. False at the end of file; throws connection_lost if that comes in the middle.
  [[nodiscard]] bool read_exactly(std::span<std::byte> into) { return exactly(into, never); }
  /// False also when the deadline came first: at_end() tells. What has come is kept for later.
  template <class Rep, class Period>
  [[nodiscard]] bool read_exactly_for(std::span<std::byte> into, std::chrono::duration<Rep, Period> wait) {
    return exactly(into, detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool read_exactly_until(std::span<std::byte> into, std::chrono::time_point<Clock, Duration> when) {
    return exactly(into, detail::deadline_at<Backend>(when));
  }

  /// A line without its '\n', or what was left before the end of file; nothing at the end of file. Throws
  /// message_too_large when a line has more than `most` bytes (what has come is kept).
  [[nodiscard]] std::optional<std::string> read_line(std::size_t most = longest_line) { return line(never, most); }
  /// Nothing also when the deadline came first: at_end() tells. What has come is kept for later.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<std::string> read_line_for(std::chrono::duration<Rep, Period> wait,
                                                         std::size_t most = longest_line) {
    return line(detail::deadline_after<Backend>(wait), most);
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<std::string> read_line_until(std::chrono::time_point<Clock, Duration> when,
                                                           std::size_t most = longest_line) {
    return line(detail::deadline_at<Backend>(when), most);
  }

  /// Everything up to the end of file. Throws message_too_large when it is more than `most`.
  [[nodiscard]] std::string read_all(std::size_t most = std::size_t(-1)) { return *all(never, most); }
  /// Nothing when the deadline came first. What has come is kept for later.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<std::string> read_all_for(std::chrono::duration<Rep, Period> wait,
                                                        std::size_t most = std::size_t(-1)) {
    return all(detail::deadline_after<Backend>(wait), most);
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<std::string> read_all_until(std::chrono::time_point<Clock, Duration> when,
                                                          std::size_t most = std::size_t(-1)) {
    return all(detail::deadline_at<Backend>(when), most);
  }

  /// Whether a read would not wait: something is there, or the end of file.
  [[nodiscard]] bool poll() { return ready(time_point{}); }
  template <class Rep, class Period>
  [[nodiscard]] bool poll_for(std::chrono::duration<Rep, Period> wait) {
    return ready(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool poll_until(std::chrono::time_point<Clock, Duration> when) {
    return ready(detail::deadline_at<Backend>(when));
  }
  /// Whether a read has met the end of file, and nothing is kept any more that was before it.
  [[nodiscard]] bool at_end() const noexcept { return at_end_ && kept() == 0; }

  // --- writing

  /// Waits until all of it is written: then it is on its way, and survives this process.
  void write(std::span<std::byte const> bytes) { (void)put(bytes, never); }
  void write(std::string_view text) { (void)put(bytes_of(text), never); }
  /// How many bytes were written: fewer than all when the deadline came first. To go on: write the rest.
  template <class Rep, class Period>
  [[nodiscard]] std::size_t write_for(std::span<std::byte const> bytes, std::chrono::duration<Rep, Period> wait) {
    return put(bytes, detail::deadline_after<Backend>(wait));
  }
  template <class Rep, class Period>
  [[nodiscard]] std::size_t write_for(std::string_view text, std::chrono::duration<Rep, Period> wait) {
    return put(bytes_of(text), detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::size_t write_until(std::span<std::byte const> bytes, std::chrono::time_point<Clock, Duration> when) {
    return put(bytes, detail::deadline_at<Backend>(when));
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::size_t write_until(std::string_view text, std::chrono::time_point<Clock, Duration> when) {
    return put(bytes_of(text), detail::deadline_at<Backend>(when));
  }

  // --- the end

  /// The other side reads end of file after what was written, while this side can still read. Of a FIFO: does nothing.
  void close_write() { Backend::stream_shutdown_write(open_end()); }
  /// What was written is still delivered. May be repeated.
  void close() noexcept {
    if (is_open()) Backend::stream_close(std::exchange(end_, {}));
    ahead_.clear();
    at_end_ = false;
  }
  [[nodiscard]] bool is_open() const noexcept { return !(end_ == typename Backend::stream{}); }

  /// For event loops: becomes readable (Windows: signaled) when there is something to read. It stays this object's. What
  /// was read ahead (by read_line and the timed forms) is not seen by it: ask poll() first. Backend::invalid_handle if
  /// not open.
  [[nodiscard]] handle native_handle() const {
    return is_open() ? Backend::stream_handle(end_) : Backend::invalid_handle;
  }

  static constexpr std::size_t longest_line = std::size_t{1} << 20;

  // --- for the parts of the library that are made of streams

  explicit basic_stream(typename Backend::stream end) noexcept : end_(end) {}
  [[nodiscard]] typename Backend::stream open_end() const {
    if (!is_open())
      throw std::logic_error("polyproc: a stream that is not open (it never was, was closed, or moved from) was used");
    return end_;
  }

  enum class fill_result : std::uint8_t { there, ended, late };
  /// Until `wanted` bytes are kept; room is made for `expected` ones. Memory grows only as bytes come, whatever is wanted.
  fill_result keep(std::size_t wanted, time_point deadline, std::size_t expected = 0) {
    auto const end = open_end();
    while (kept() < wanted) {
      if (at_end_) return fill_result::ended;
      auto const least = std::min(wanted - kept(), smallest_read);
      auto const missing = std::max(std::max(wanted, expected) - kept(), smallest_read);
      auto const wish = std::min(missing, std::max(kept(), largest_first));
      auto const got = Backend::stream_read(end, ahead_.room_for(least, wish), deadline);
      if (!got) return fill_result::late;
      ahead_.added(*got);
      if (*got == 0) at_end_ = true;
    }
    return fill_result::there;
  }
  /// What is kept; valid until anything is called but this.
  [[nodiscard]] std::span<std::byte const> kept_bytes() const noexcept { return ahead_.view(); }
  [[nodiscard]] std::size_t kept() const noexcept { return ahead_.size(); }
  void forget(std::size_t bytes) noexcept { ahead_.forget(bytes); }
  /// How many were written.
  std::size_t put(std::span<std::byte const> bytes, time_point deadline) {
    auto const end = open_end();
    std::size_t done = 0;
    while (done < bytes.size()) {
      auto const some = Backend::stream_write(end, bytes.subspan(done), deadline);
      if (!some) break;
      done += *some;
    }
    return done;
  }
  bool ready(time_point deadline) {
    auto const end = open_end();
    return kept() != 0 || at_end_ || Backend::stream_wait(end, deadline);
  }

 private:
  friend codec<basic_stream>;

  static constexpr std::size_t smallest_read = 4096;
  static constexpr std::size_t largest_first = 65536;  // bytes taken on trust, before any has come

  static std::span<std::byte const> bytes_of(std::string_view text) noexcept {
    return {reinterpret_cast<std::byte const*>(text.data()), text.size()};
  }
  [[nodiscard]] std::string taken(std::size_t bytes) {
    return {reinterpret_cast<char const*>(kept_bytes().data()), bytes};
  }

  std::optional<std::size_t> some(std::span<std::byte> into, time_point deadline) {
    auto const end = open_end();
    if (into.empty()) return 0;
    if (kept() != 0) {
      auto const here = kept_bytes().first(std::min(kept(), into.size()));
      std::memcpy(into.data(), here.data(), here.size());
      forget(here.size());
      return here.size();
    }
    if (at_end_) return 0;
    auto const got = Backend::stream_read(end, into, deadline);
    if (got && *got == 0) at_end_ = true;
    return got;
  }

  bool exactly(std::span<std::byte> into, time_point deadline) {
    (void)open_end();
    if (into.empty()) return true;
    if (deadline == never) {  // straight into its place
      std::size_t done = 0;
      while (done < into.size()) {
        auto const got = *some(into.subspan(done), never);
        if (got == 0 && done == 0) return false;
        if (got == 0) cut_short(done, into.size());
        done += got;
      }
      return true;
    }
    auto const result = keep(into.size(), deadline);
    if (result == fill_result::ended && kept() != 0) cut_short(kept(), into.size());
    if (result != fill_result::there) return false;
    std::memcpy(into.data(), kept_bytes().data(), into.size());
    forget(into.size());
    return true;
  }
  [[noreturn]] static void cut_short(std::size_t came, std::size_t wanted) {
    throw connection_lost("polyproc: a stream ended after " + std::to_string(came) + " of " + std::to_string(wanted) +
                          " bytes that belong together");
  }

  [[noreturn]] static void too_large(char const* what, std::size_t size, std::size_t most) {
    throw message_too_large("polyproc: " + std::string(what) + " has more than " + std::to_string(most) + " bytes", size);
  }

  std::optional<std::string> line(time_point deadline, std::size_t most) {
    std::size_t seen = 0;
    for (;;) {
      auto const here = kept_bytes();
      auto const rest = here.subspan(seen);
      auto const at = static_cast<std::size_t>(std::find(rest.begin(), rest.end(), std::byte{'\n'}) - rest.begin()) + seen;
      if (at > most) too_large("a line", at, most);
      if (at < here.size()) {
        auto text = taken(at);
        forget(at + 1);
        return text;
      }
      seen = here.size();
      auto const result = keep(seen + 1, deadline, 2 * seen);
      if (result == fill_result::late || (result == fill_result::ended && kept() == 0)) return std::nullopt;
      if (result == fill_result::ended) {
        auto text = taken(kept());
        forget(text.size());
        return text;
      }
    }
  }

  std::optional<std::string> all(time_point deadline, std::size_t most) {
    for (;;) {
      auto const result = keep(kept() + 1, deadline, 2 * kept());
      if (kept() > most) too_large("what is read up to the end of file", kept(), most);
      if (result == fill_result::late) return std::nullopt;
      if (result == fill_result::ended) {
        auto text = taken(kept());
        forget(text.size());
        return text;
      }
    }
  }

  typename Backend::stream end_{};
  detail::byte_store ahead_;  // what was read before it was asked for
  bool at_end_ = false;
};

/// As an argument of a process, and nowhere else. What was read ahead goes along.
template <backend Backend>
struct codec<basic_stream<Backend>> {
  static void write(writer& out, basic_stream<Backend> const& end) {
    out.pass(Backend::stream_number(end.open_end()));
    out.raw(static_cast<std::uint8_t>(end.at_end_ ? 1 : 0));
    out.count(end.kept());
    out.bytes(end.kept_bytes());
  }
  static basic_stream<Backend> read(reader& in) {
    basic_stream<Backend> end(Backend::stream_numbered(in.passed()));
    end.at_end_ = in.raw<std::uint8_t>() != 0;
    end.ahead_.add(in.bytes(in.count_of(1)));
    return end;
  }
};

using stream = basic_stream<>;

}  // namespace polyproc::inline v0_1
