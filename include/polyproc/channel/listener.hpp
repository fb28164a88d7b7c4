/// Connections between programs, by name on one machine or over a network.
#pragma once

#include <polyproc/channel/connection.hpp>
#include <polyproc/channel/handshake.hpp>

#include <algorithm>

namespace polyproc::inline v0_1 {

/// A place on this machine, for programs of this user. The name has 1 to 60 characters of [A-Za-z0-9._-] and does not begin
/// with a dot; with a '/' in it, it is the path of a socket file (not on Windows).
[[nodiscard]] inline endpoint local_address(std::string name) { return {endpoint::kind::local, std::move(name), 0}; }

/// A place in a network. Host: an address in figures or a name; empty: only this machine (127.0.0.1). Port 0, for a listener:
/// any that is free, see listener::address().
[[nodiscard]] inline endpoint tcp(std::string host, std::uint16_t port) {
  return {endpoint::kind::tcp, std::move(host), port};
}

[[nodiscard]] inline std::string to_string(endpoint const& where) {
  if (where.how == endpoint::kind::local) return where.name;
  auto const host = where.name.empty() ? std::string("127.0.0.1") : where.name;
  bool const figures = host.find(':') != std::string::npos;
  return (figures ? '[' + host + ']' : host) + ':' + std::to_string(where.port);
}

/// When the two sides of a message connection must prove that they have the same key.
enum class authentication : std::uint8_t {
  automatic,  ///< Over TCP, and wherever an authkey is given.
  required,   ///< Always.
  none,       ///< Never: also over TCP, where everybody can connect then.
};

struct listener_options {
  /// How many connections the system keeps that were not yet accepted.
  int backlog = 128;
  /// Nothing: polyproc::authkey(), if one is needed.
  std::optional<auth_key> authkey = {};
  authentication authenticate = authentication::automatic;
  /// How long a client may take to say who it is. Counts only while somebody is in accept().
  std::chrono::milliseconds handshake_time = std::chrono::seconds{5};
  /// The largest message that the connections take, in bytes.
  std::uint64_t max_message = std::uint64_t{1} << 30;
  /// Whether accept() throws authentication_error or connection_error for each client that was turned away for its key or
  /// types. If not (strangers could make a server throw as they like), refused() counts them.
  bool throw_refused = false;
};

struct connect_options {
  std::optional<auth_key> authkey = {};
  authentication authenticate = authentication::automatic;
  /// Until the connection stands, which needs the other side to be in accept().
  std::chrono::milliseconds timeout = std::chrono::seconds{30};
  std::uint64_t max_message = std::uint64_t{1} << 30;
};

namespace detail {

/// Who is meant by the options; nothing if no key is needed.
template <backend Backend>
std::optional<auth_key> key_for(endpoint const& where, std::optional<auth_key> const& given, authentication when) {
  if (given && given->empty()) throw std::invalid_argument("polyproc: an authkey is not empty: everybody would know it");
  if (when == authentication::none) return std::nullopt;
  if (given) return given;
  if (when == authentication::automatic && where.how == endpoint::kind::local) return std::nullopt;
  return process_key<Backend>();
}

}  // namespace detail

/// Waits for connections at a place. Move-only; closing it (or its destructor) removes a local name; connections that were
/// made go on. A local name that a killed process has left behind is taken over.
///
/// Nobody who connects and then does nothing, or the wrong thing, holds up others: accept() leads the conversations with
/// all who have connected at the same time, up to 1024 (then the oldest is given up), each within handshake_time. Used by
/// one thread at a time.
template <backend Backend = native_backend>
class basic_listener {
 public:
  using handle = typename Backend::handle;

  basic_listener() = default;
  /// Throws std::system_error (address_in_use while somebody else accepts there), std::invalid_argument for what cannot be a
  /// name or key.
  explicit basic_listener(endpoint const& where, listener_options options = {})
      : options_(std::move(options)), key_(detail::key_for<Backend>(where, options_.authkey, options_.authenticate)),
        acceptor_(Backend::listen(where, options_.backlog)), open_(true) {}
  basic_listener(basic_listener&& other) noexcept
      : options_(std::move(other.options_)), key_(std::move(other.key_)), acceptor_(std::move(other.acceptor_)),
        open_(std::exchange(other.open_, false)), talks_(std::exchange(other.talks_, {})), left_at_(other.left_at_),
        refused_(std::exchange(other.refused_, 0)) {}
  basic_listener& operator=(basic_listener&& other) noexcept {
    if (this == &other) return *this;
    close();
    options_ = std::move(other.options_);
    key_ = std::move(other.key_);
    acceptor_ = std::move(other.acceptor_);
    open_ = std::exchange(other.open_, false);
    talks_ = std::exchange(other.talks_, {});
    left_at_ = other.left_at_;
    refused_ = std::exchange(other.refused_, 0);
    return *this;
  }
  ~basic_listener() { close(); }

  /// Waits for a client that has the key and speaks of the same types: `To` go to it, `From` come from it. Throws
  /// std::system_error, std::logic_error if it is not open; see throw_refused.
  template <class To, class From = To>
  [[nodiscard]] basic_connection<To, From, Backend> accept() {
    return std::move(*accepted<To, From>(never));
  }
  /// Nothing when the deadline came first.
  template <class To, class From = To, class Rep, class Period>
  [[nodiscard]] std::optional<basic_connection<To, From, Backend>> accept_for(std::chrono::duration<Rep, Period> wait) {
    return accepted<To, From>(detail::deadline_after<Backend>(wait));
  }
  template <class To, class From = To, class Clock, class Duration>
  [[nodiscard]] std::optional<basic_connection<To, From, Backend>> accept_until(
      std::chrono::time_point<Clock, Duration> when) {
    return accepted<To, From>(detail::deadline_at<Backend>(when));
  }

  /// Any client, with whatever program: just bytes, without key or handshake. One that broke its connection before it was
  /// accepted may never be seen here: some systems forget it.
  [[nodiscard]] basic_stream<Backend> accept_stream() { return std::move(*any(never)); }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<basic_stream<Backend>> accept_stream_for(std::chrono::duration<Rep, Period> wait) {
    return any(detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<basic_stream<Backend>> accept_stream_until(std::chrono::time_point<Clock, Duration> when) {
    return any(detail::deadline_at<Backend>(when));
  }

  /// Whether somebody has connected, or one of those that accept() is talking to has said something.
  [[nodiscard]] bool poll() {
    must_be_open();
    std::vector<stream_look<typename Backend::stream>> looks;
    for (auto const& one : talks_) looks.push_back({one.end(), false});
    bool const somebody = Backend::streams_wait(&acceptor_, looks, time_point{});
    return somebody || std::any_of(looks.begin(), looks.end(), [](auto const& one) { return one.ready; });
  }

  /// Where it is: with the port that was found. What clients connect to.
  [[nodiscard]] endpoint address() const {
    must_be_open();
    return Backend::acceptor_endpoint(acceptor_);
  }
  /// How many clients were turned away or given up in accept(): for a wrong key, other types, silence, or what is no
  /// polyproc at all.
  [[nodiscard]] std::uint64_t refused() const noexcept { return refused_; }

  void close() noexcept {
    for (auto const& one : talks_) Backend::stream_close(one.end());
    talks_.clear();
    if (std::exchange(open_, false)) Backend::acceptor_close(acceptor_);
  }
  [[nodiscard]] bool is_open() const noexcept { return open_; }
  /// For event loops and wait_any: becomes readable (Windows: signaled) when somebody connects. It does not see the answers
  /// of a client in the middle of its handshake: so give accept_for() the time for one, some milliseconds in a local network.
  /// Backend::invalid_handle if not open.
  [[nodiscard]] handle native_handle() const {
    return open_ ? Backend::acceptor_handle(acceptor_) : Backend::invalid_handle;
  }

 private:
  using talk = detail::listener_handshake<Backend>;
  static constexpr std::size_t most_talks = 1024;
  static constexpr int most_at_once = 64;

  void must_be_open() const {
    if (!open_)
      throw std::logic_error("polyproc: a listener that is not open (it never was, was closed, or moved from) was used");
  }

  template <class To, class From>
  std::optional<basic_connection<To, From, Backend>> accepted(time_point deadline) {
    auto const end = introduced({type_fingerprint<To>(), type_fingerprint<From>()}, deadline);
    if (!end) return std::nullopt;
    return basic_connection<To, From, Backend>(basic_stream<Backend>(*end), options_.max_message);
  }

  std::optional<basic_stream<Backend>> any(time_point deadline) {
    must_be_open();
    auto const end = Backend::accept(acceptor_, deadline);
    if (!end) return std::nullopt;
    return basic_stream<Backend>(*end);
  }

  /// The first one whose handshake succeeds. The others stay where they are until the next call.
  std::optional<typename Backend::stream> introduced(detail::spoken_types types, time_point deadline) {
    must_be_open();
    // Nobody can be blamed for the time that passed outside.
    if (auto const away = Backend::now() - left_at_; !talks_.empty())
      for (auto& one : talks_) one.deadline(one.deadline() + away);
    struct leaving {
      time_point& at;
      ~leaving() { at = Backend::now(); }
    } const note{left_at_};
    std::vector<stream_look<typename Backend::stream>> looks;
    for (int late = 0;;) {
      looks.clear();
      auto wake = deadline;
      for (auto const& one : talks_) {
        looks.push_back({one.end(), false});
        wake = std::min(wake, one.deadline());
      }
      bool const somebody = Backend::streams_wait(&acceptor_, looks, wake);
      for (std::size_t i = 0, at = 0; i < looks.size(); ++i) {
        if (!looks[i].ready) {
          ++at;
          continue;
        }
        auto const outcome = talks_[at].advance(key_ ? &*key_ : nullptr, types);
        if (outcome == talk::outcome::waits) {
          ++at;
          continue;
        }
        auto const end = talks_[at].end();
        talks_.erase(talks_.begin() + static_cast<std::ptrdiff_t>(at));
        if (outcome == talk::outcome::done) return end;
        Backend::stream_close(end);
        turned_away(outcome);
      }
      auto const time = Backend::now();
      for (std::size_t at = 0; at < talks_.size();) {
        if (talks_[at].deadline() <= time) give_up(at);
        else ++at;
      }
      bool const more = somebody && let_in(time);
      // Who has come just in time is still heard; but a crowd must not keep us here.
      if (time >= deadline && (!more || ++late > 3)) return std::nullopt;
    }
  }

  /// True if there was one.
  bool let_in(time_point time) {
    for (int count = 0; count < most_at_once; ++count) {
      std::optional<typename Backend::stream> end;
      try {
        talks_.reserve(talks_.size() + 1);
        end = Backend::accept(acceptor_, time_point{});
      } catch (std::system_error const& failure) {
        bool const full = failure.code() == std::errc::too_many_files_open ||
                          failure.code() == std::errc::too_many_files_open_in_system;
        if (!full || talks_.empty()) throw;
        give_up(0);
        continue;
      }
      if (!end) return count > 0;
      if (talks_.size() >= most_talks) give_up(0);
      talks_.emplace_back(*end, time + options_.handshake_time);
    }
    return true;
  }

  void give_up(std::size_t at) noexcept {
    Backend::stream_close(talks_[at].end());
    talks_.erase(talks_.begin() + static_cast<std::ptrdiff_t>(at));
    ++refused_;
  }
  void turned_away(typename talk::outcome why) {
    ++refused_;
    if (!options_.throw_refused) return;
    if (why == talk::outcome::wrong_key)
      throw authentication_error("polyproc: a client was turned away, because it does not have the listener's authkey");
    if (why == talk::outcome::wrong_types)
      throw connection_error("polyproc: a client was turned away, because it speaks of other types than the listener");
  }

  listener_options options_;
  std::optional<auth_key> key_;
  typename Backend::acceptor acceptor_{};
  bool open_ = false;
  std::vector<talk> talks_;  // the oldest first
  time_point left_at_{};
  std::uint64_t refused_ = 0;
};

using listener = basic_listener<>;

/// A connection to a listener that does accept<From, To>() there: `To` go to it, `From` come from it. Throws
/// authentication_error when the keys differ, connection_error when the types do (or what answers is no polyproc),
/// timeout_error, std::system_error (connection_refused, no_such_file_or_directory: nobody listens). A host with several
/// addresses is tried at one after the other, each for its share of the time that is left. The time does not bound how long
/// the system takes to find the addresses of a name (an address instead of a name needs no time).
template <class To, class From = To, backend Backend = native_backend>
[[nodiscard]] basic_connection<To, From, Backend> connect(endpoint const& where, connect_options const& options = {}) {
  auto const key = detail::key_for<Backend>(where, options.authkey, options.authenticate);
  auto const deadline = detail::deadline_after<Backend>(options.timeout);
  auto const end = Backend::connect(where, deadline);
  if (!end) throw timeout_error();
  basic_stream<Backend> over(*end);
  detail::client_handshake<Backend>(*end, key ? &*key : nullptr, {type_fingerprint<To>(), type_fingerprint<From>()},
                                    deadline);
  return basic_connection<To, From, Backend>(std::move(over), options.max_message);
}

/// A connection without key or handshake, to whatever program listens there. Throws timeout_error, std::system_error. Of
/// hosts and time as for connect.
template <backend Backend = native_backend>
[[nodiscard]] basic_stream<Backend> connect_stream(endpoint const& where,
                                                   std::chrono::milliseconds timeout = std::chrono::seconds{30}) {
  auto const end = Backend::connect(where, detail::deadline_after<Backend>(timeout));
  if (!end) throw timeout_error();
  return basic_stream<Backend>(*end);
}

}  // namespace polyproc::inline v0_1
