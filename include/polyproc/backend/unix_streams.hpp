/// Streams of bytes on Unix: sockets, pipes and FIFOs (stream_backend in concept.hpp).
///
/// Sockets are read and written with MSG_DONTWAIT and waited for with poll, so that neither their mode nor another reader
/// can hold up a call beyond its deadline. Pipes have no such flag: ours are O_NONBLOCK, those that somebody else gave us
/// are written in pieces that fit when poll says so.
///
/// A local name is made in two steps: the socket is bound to a name that nobody knows, gets its mode, listens, and only then
/// is linked to its own name. So who finds the name can connect, and a refusal means that nobody will accept there any more.
/// Who replaces such a name holds a lock (a file beside it, gone afterwards), so that he removes what he has looked at.
#pragma once

#include <polyproc/backend/unix_common.hpp>

#include <bit>

#include <sys/socket.h>
#include <sys/un.h>

namespace polyproc::inline v0_1::detail {

/// What <netdb.h> has. Its macros are everyday words (TRY_AGAIN, NO_DATA, h_addr), and we are included everywhere: so what we
/// need of it is declared here, under names of our own, and so is what little we need of <netinet/in.h> and
/// <netinet/tcp.h>. A test compares it with theirs.
struct host_entry {
  int flags;
  int family;
  int type;
  int protocol;
  socklen_t size;
#if defined(__linux__)
  sockaddr* address;
  char* name;
#else
  char* name;
  sockaddr* address;
#endif
  host_entry* next;
};
inline constexpr int resolve_passive = 1;
#if defined(__linux__)
inline constexpr int resolve_says_errno = -11;
#else
inline constexpr int resolve_says_errno = 11;
#endif
inline constexpr int protocol_tcp = 6;
inline constexpr int tcp_no_delay = 1;
inline constexpr std::size_t port_at = 2;  // in the address of either kind, the higher byte first

// The name that the linker knows a function of C by.
#if defined(__APPLE__)
extern "C" int polyproc_getaddrinfo(char const*, char const*, host_entry const*, host_entry**) __asm__("_getaddrinfo");
extern "C" void polyproc_freeaddrinfo(host_entry*) __asm__("_freeaddrinfo");
extern "C" char const* polyproc_gai_strerror(int) __asm__("_gai_strerror");
#else
extern "C" int polyproc_getaddrinfo(char const*, char const*, host_entry const*, host_entry**) __asm__("getaddrinfo");
extern "C" void polyproc_freeaddrinfo(host_entry*) __asm__("freeaddrinfo");
extern "C" char const* polyproc_gai_strerror(int) __asm__("gai_strerror");
#endif

/// The path that a name of a FIFO or a local endpoint stands for. Throws std::invalid_argument.
inline std::string stream_path(std::string_view name, char const* kind) {
  constexpr std::size_t longest_name = 60;
  if (name.find('/') != std::string_view::npos) {
    if (name.find('\0') != std::string_view::npos || name.back() == '/')
      throw std::invalid_argument("polyproc: the path " + std::string(name) + " cannot be that of a socket or FIFO");
    return std::string(name);
  }
  if (name.size() > longest_name)
    throw std::invalid_argument("polyproc: the name " + std::string(name) + " of a " + kind + " has more than 60 characters");
  check_name(name, std::string("a ") + kind);
  return "/tmp/polyproc-" + std::string(kind) + '.' + std::string(name);
}

inline sockaddr_un socket_address(std::string const& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw_named("bind or connect", path, ENAMETOOLONG);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

/// What a host's name means.
class host_addresses {
 public:
  host_addresses(endpoint const& where, bool to_listen) {
    auto const host = where.name.empty() ? std::string("127.0.0.1") : where.name;
    host_entry wanted{};
    wanted.family = AF_UNSPEC;
    wanted.type = SOCK_STREAM;
    wanted.flags = to_listen ? resolve_passive : 0;
    int const error = polyproc_getaddrinfo(host.c_str(), std::to_string(where.port).c_str(), &wanted, &first_);
    if (error == resolve_says_errno) throw_named("getaddrinfo", host);
    if (error != 0)
      throw std::system_error(std::make_error_code(std::errc::address_not_available),
                              "polyproc: getaddrinfo of " + host + " (" + polyproc_gai_strerror(error) + ")");
  }
  host_addresses(host_addresses const&) = delete;
  host_addresses& operator=(host_addresses const&) = delete;
  ~host_addresses() { polyproc_freeaddrinfo(first_); }

  [[nodiscard]] host_entry const* first() const noexcept { return first_; }

 private:
  host_entry* first_ = nullptr;
};

/// Held by who replaces a name that a dead listener left. A file that is removed while its lock is held: who gets the lock
/// of one that is gone tries again. Record locks do not keep out threads of the same process: a word does, with the
/// process's number, so that a forked copy of it means nothing.
class replacing {
 public:
  explicit replacing(std::string const& path) : path_(path + ".lock") {
    auto const mine = static_cast<long>(::getpid());
    for (long seen = busy_.load(); seen == mine || !busy_.compare_exchange_strong(seen, mine); seen = busy_.load())
      pause();
    try {
      while (!locked()) pause();
    } catch (...) {
      busy_.store(0);
      throw;
    }
  }
  replacing(replacing const&) = delete;
  replacing& operator=(replacing const&) = delete;
  ~replacing() {
    ::unlink(path_.c_str());
    file_.reset();
    busy_.store(0);
  }

 private:
  bool locked() {
    file_.reset(open_named(path_, O_RDWR | O_CREAT));
    if (file_.get() < 0) throw_named("open", path_);
    if (!lock_named(file_.get(), named_byte::removal, F_WRLCK, true)) throw_named("fcntl(F_SETLKW)", path_);
    auto const there = named_info(path_);
    return there && same_file(*there, info_of(file_.get(), path_));
  }
  static void pause() noexcept {
    timespec const moment{0, 1000000};
    ::nanosleep(&moment, nullptr);
  }

  std::string path_;
  scoped_fd file_;
  static inline std::atomic<long> busy_{0};
};

template <class Derived>
struct unix_streams : unix_common<Derived> {
  using common = unix_common<Derived>;
  using common::now;

  struct stream {
    enum class kind : std::uint8_t { socket, pipe, waiting_pipe };  // the last one is not O_NONBLOCK
    int fd = -1;
    kind what = kind::socket;
    friend bool operator==(stream const&, stream const&) = default;
  };

  struct acceptor {
    scoped_fd socket;
    endpoint where;
    std::string path;  // of a local one, while it is ours to remove
    pid_t maker = 0;
  };

  static constexpr std::size_t most_passed = 64;

  // --- bytes

  static std::pair<stream, stream> stream_pair() {
    int ends[2];
    make_sockets(ends);
    return {opened(ends[0], stream::kind::socket), opened(ends[1], stream::kind::socket)};
  }

  static std::optional<std::size_t> stream_read(stream s, std::span<std::byte> out, time_point deadline) {
    for (;;) {
      ssize_t got = 0;
      if (s.what == stream::kind::socket) {
        got = ::recv(s.fd, out.data(), out.size(), MSG_DONTWAIT);
      } else {
        // Looked at first: a FIFO that nobody has opened for writing yet reads as ended, and may be waited for.
        if (!poll_for(s.fd, POLLIN, deadline)) return std::nullopt;
        got = ::read(s.fd, out.data(), out.size());
      }
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) throw_errno("read from a stream");
      if (!poll_for(s.fd, POLLIN, deadline)) return std::nullopt;
    }
  }

  static std::optional<std::size_t> stream_write(stream s, std::span<std::byte const> in, time_point deadline) {
    for (;;) {
      ssize_t put = 0;
      if (s.what == stream::kind::socket) {
        put = ::send(s.fd, in.data(), in.size(), quietly | MSG_DONTWAIT);
      } else {
        if (s.what == stream::kind::waiting_pipe) {
          if (!poll_for(s.fd, POLLOUT, deadline)) return std::nullopt;
          in = in.first(std::min<std::size_t>(in.size(), _POSIX_PIPE_BUF));
        }
        sigpipe_guard const quiet;
        put = ::write(s.fd, in.data(), in.size());
      }
      if (put >= 0) return static_cast<std::size_t>(put);
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) throw_errno("write to a stream");
      if (!poll_for(s.fd, POLLOUT, deadline)) return std::nullopt;
    }
  }

  static bool stream_wait(stream s, time_point deadline) { return poll_for(s.fd, POLLIN, deadline); }

  static void stream_shutdown_write(stream s) {
    if (s.what != stream::kind::socket) return;
    if (::shutdown(s.fd, SHUT_WR) != 0 && errno != ENOTCONN && errno != ECONNRESET) throw_errno("shutdown of a stream");
  }
  static void stream_close(stream s) noexcept {
    note(s.fd, false);  // before its number is somebody else's
    common::handle_close(s.fd);
  }
  static stream stream_copy(stream s) { return opened(common::handle_duplicate(s.fd), s.what); }

  static stream stream_of(int fd) {
    struct stat info {};
    int const mode = ::fcntl(fd, F_GETFL);
    if (mode < 0 || ::fstat(fd, &info) != 0) throw_errno("fstat of a descriptor that is to be a stream");
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) throw_errno("fcntl of a descriptor that is to be a stream");
    if (S_ISSOCK(info.st_mode)) {
      never_signals(fd);
      return opened(fd, stream::kind::socket);
    }
    return opened(fd, (mode & O_NONBLOCK) != 0 ? stream::kind::pipe : stream::kind::waiting_pipe);
  }
  static int stream_handle(stream s) noexcept { return s.fd; }
  static int acceptor_handle(acceptor const& a) noexcept { return a.socket.get(); }

  static bool streams_wait(acceptor const* waits_for, std::span<stream_look<stream>> looks, time_point deadline) {
    std::vector<pollfd> all;
    all.reserve(looks.size() + 1);
    all.push_back({waits_for != nullptr ? waits_for->socket.get() : -1, POLLIN, 0});
    for (auto const& one : looks) all.push_back({one.stream.fd, POLLIN, 0});
    for (;;) {
      int const ready = ::poll(all.data(), static_cast<nfds_t>(all.size()), poll_timeout(now(), deadline));
      if (ready < 0 && errno != EINTR) throw_errno("poll");
      if (ready > 0 || (ready == 0 && now() >= deadline)) {
        for (std::size_t i = 0; i < looks.size(); ++i) looks[i].ready = ready > 0 && all[i + 1].revents != 0;
        return ready > 0 && all[0].revents != 0;
      }
    }
  }

  // --- to a child

  static std::uint64_t stream_number(stream s) noexcept {
    return static_cast<std::uint64_t>(s.what) << 32 | static_cast<std::uint32_t>(s.fd);
  }
  static stream stream_numbered(std::uint64_t number) noexcept {
    return {static_cast<int>(static_cast<std::uint32_t>(number)), static_cast<typename stream::kind>(number >> 32 & 3)};
  }
  static stream take_passed(std::size_t index) {
    if (index >= passed_count_ || passed_[index] < 0)
      throw std::out_of_range("polyproc: this process was given no stream at that place");
    return stream_of(std::exchange(passed_[index], -1));
  }

  // --- by name

  static acceptor listen(endpoint const& where, int backlog) {
    return where.how == endpoint::kind::local ? listen_local(where, backlog) : listen_tcp(where, backlog);
  }

  static std::optional<stream> accept(acceptor& a, time_point deadline) {
    for (;;) {
      scoped_fd fd{Derived::accept_socket(a.socket.get())};
      if (fd.get() >= 0) {
        bool const local = a.where.how == endpoint::kind::local;
        if (local && !is_own(Derived::peer_user(fd.get()).value_or(::geteuid()))) continue;
        if (!local) no_delay(fd.get());
        return opened(fd.release(), stream::kind::socket);
      }
      // A client that is gone already, and what the network tells of one (Linux), are no failures of the listener.
      bool const of_client = errno == EINTR || errno == ECONNABORTED || errno == EPROTO || errno == EPERM ||
                             errno == ENETDOWN || errno == EHOSTUNREACH || errno == ENETUNREACH || errno == EHOSTDOWN;
      if (!of_client && errno != EAGAIN && errno != EWOULDBLOCK) throw_errno("accept of a connection");
      if (!poll_for(a.socket.get(), POLLIN, deadline)) return std::nullopt;
    }
  }

  static endpoint acceptor_endpoint(acceptor const& a) { return a.where; }

  static void acceptor_close(acceptor& a) noexcept {
    // The name first: as long as we accept, nobody else replaces it.
    if (!a.path.empty() && a.maker == ::getpid()) ::unlink(a.path.c_str());
    a.path.clear();
    note(a.socket.get(), false);
    a.socket.reset();
  }

  static std::optional<stream> connect(endpoint const& where, time_point deadline) {
    if (where.how == endpoint::kind::local) return connect_local(where, deadline);
    host_addresses const hosts(where, false);
    int why = hosts.first() == nullptr ? EADDRNOTAVAIL : 0;
    for (auto const* one = hosts.first(); one != nullptr; one = one->next) {
      scoped_fd fd{new_socket(one->family)};
      auto const until = share_of(deadline, now(), addresses_left(one));
      auto const done = finish_connect(fd.get(), one->address, one->size, until);
      if (!done) continue;  // another one may answer
      if (*done != 0) {
        why = *done;
        continue;
      }
      no_delay(fd.get());
      return opened(fd.release(), stream::kind::socket);
    }
    if (why == 0) return std::nullopt;
    throw_errno(("connect to " + where.name + " port " + std::to_string(where.port)).c_str(), why);
  }

  // --- FIFOs

  static bool fifo_create(std::string const& name, unsigned mode) {
    auto const path = stream_path(name, "fifo");
    if (::mkfifo(path.c_str(), static_cast<mode_t>(mode & 0777)) == 0) {
      if (::chmod(path.c_str(), static_cast<mode_t>(mode & 0777)) == 0) return true;
      int const why = errno;
      ::unlink(path.c_str());
      throw_named("chmod", path, why);
    }
    if (errno != EEXIST) throw_named("mkfifo", path);
    auto const info = named_info(path);
    if (info && !S_ISFIFO(info->st_mode)) throw_named("mkfifo", path, EEXIST);
    return false;
  }

  static std::optional<stream> fifo_open(std::string const& name, bool reading, time_point deadline) {
    auto const path = stream_path(name, "fifo");
    constexpr std::chrono::microseconds longest_nap{10000};
    for (std::chrono::microseconds nap{100};; nap = std::min(nap * 2, longest_nap)) {
      struct stat info {};
      if (::stat(path.c_str(), &info) != 0) throw_named("stat", path);
      // To open it could have effects.
      if (!S_ISFIFO(info.st_mode)) throw_named("what is there is not a FIFO: open", path, EINVAL);
      scoped_fd fd{::open(path.c_str(), (reading ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_CLOEXEC)};
      if (fd.get() >= 0) return opened(beyond_standard(std::move(fd)), stream::kind::pipe);
      if (errno != ENXIO && errno != EINTR) throw_named("open", path);
      if (now() >= deadline) return std::nullopt;  // no reader yet
      auto const left = deadline == never ? nap : std::chrono::ceil<std::chrono::microseconds>(deadline - now());
      timespec const pause{0, static_cast<long>(std::max<std::int64_t>(1, std::min(nap, left).count())) * 1000};
      ::nanosleep(&pause, nullptr);
    }
  }

  static bool fifo_remove(std::string const& name) {
    auto const path = stream_path(name, "fifo");
    auto const info = named_info(path);
    if (!info) return false;
    if (!S_ISFIFO(info->st_mode)) throw_named("what is there is not a FIFO: unlink", path, EINVAL);
    if (::unlink(path.c_str()) == 0) return true;
    if (errno == ENOENT) return false;
    throw_named("unlink", path);
  }

 protected:
#if defined(MSG_NOSIGNAL)
  static constexpr int quietly = MSG_NOSIGNAL;
#else
  static constexpr int quietly = 0;
#endif

  static void never_signals([[maybe_unused]] int fd) noexcept {
#if defined(SO_NOSIGPIPE)
    int const yes = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof yes);
#endif
  }
  static void no_delay(int fd) noexcept {
    int const yes = 1;
    ::setsockopt(fd, protocol_tcp, tcp_no_delay, &yes, sizeof yes);
  }

  /// True when something of `events` (or a failure, or the other side's end) is there, false at the deadline.
  static bool poll_for(int fd, short events, time_point deadline) {
    for (;;) {
      pollfd look{fd, events, 0};
      int const ready = ::poll(&look, 1, poll_timeout(now(), deadline));
      if (ready > 0 && (look.revents & POLLNVAL) != 0) throw_errno("poll of a stream", EBADF);
      if (ready > 0) return true;
      if (ready < 0 && errno != EINTR) throw_errno("poll of a stream");
      if (ready == 0 && now() >= deadline) return false;
    }
  }

  /// A program may run with some of 0, 1 and 2 closed; what is ours must not be taken for a standard stream.
  static int beyond_standard(scoped_fd fd) {
    return fd.get() > 2 ? fd.release() : common::handle_duplicate(fd.get());
  }

  /// Of a system call that made it: made close-on-exec (while start_hold keeps forks away, where the call could not do so).
  static int adopt_socket(int raw) {
    scoped_fd fd{raw};
    if (Derived::socket_closing == 0 && ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0) throw_errno("fcntl of a socket");
    never_signals(fd.get());
    return beyond_standard(std::move(fd));
  }
  static void make_sockets(int (&ends)[2]) {
    typename Derived::start_hold const excluding_forks;
    if (::socketpair(AF_UNIX, SOCK_STREAM | Derived::socket_closing, 0, ends) != 0) throw_errno("socketpair");
    scoped_fd second{ends[1]};
    scoped_fd first{adopt_socket(ends[0])};
    ends[1] = adopt_socket(second.release());
    ends[0] = first.release();
  }
  static int new_socket(int family) {
    typename Derived::start_hold const excluding_forks;
    int const fd = ::socket(family, SOCK_STREAM | Derived::socket_closing, 0);
    if (fd < 0) throw_errno("socket");
    return adopt_socket(fd);
  }

  // --- what is open, so that a forked child can let go of what it was not given

  static stream opened(int fd, typename stream::kind what) noexcept {
    note(fd, true);
    return {fd, what};
  }
  static void note(int fd, bool open) noexcept {
    auto const place = static_cast<std::size_t>(fd);
    if (fd < 0 || place / 64 >= open_.size()) return;
    auto const bit = std::uint64_t{1} << (place % 64);
    if (open) open_[place / 64].fetch_or(bit, std::memory_order_relaxed);
    else open_[place / 64].fetch_and(~bit, std::memory_order_relaxed);
  }
  /// In a forked child. Objects that know these numbers are copied with the memory, and may even be used: so the numbers are
  /// not given back, but stand for something that has ended.
  static void close_all_but(std::span<std::uint64_t const> kept) noexcept {
    int dead = -1;
    for (std::size_t i = 0; i < open_.size(); ++i) {
      auto bits = open_[i].load(std::memory_order_relaxed);
      for (; bits != 0; bits &= bits - 1) {
        int const fd = static_cast<int>(i * 64) + std::countr_zero(bits);
        auto const is = [fd](std::uint64_t number) { return stream_numbered(number).fd == fd; };
        if (std::any_of(kept.begin(), kept.end(), is)) continue;
        int ends[2];
        if (dead < 0 && ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0) {
          ::close(ends[1]);
          dead = ends[0];
        }
        if (dead >= 0) ::dup2(dead, fd);
        else ::close(fd);
        ::fcntl(fd, F_SETFD, FD_CLOEXEC);
      }
    }
    common::handle_close(dead);
  }

  static bool is_own(uid_t user) noexcept { return user == ::geteuid() || user == 0; }

  /// Of connect: 0, an error, or nothing at the deadline.
  static std::optional<int> finish_connect(int fd, sockaddr const* to, socklen_t size, time_point deadline) {
    int const mode = ::fcntl(fd, F_GETFL);
    if (mode < 0 || ::fcntl(fd, F_SETFL, mode | O_NONBLOCK) != 0) throw_errno("fcntl of a socket");
    int why = 0;
    for (;;) {
      why = ::connect(fd, to, size) == 0 ? 0 : errno;
      if (why == EISCONN) why = 0;
      if (why != EAGAIN) break;  // the listener's list is full, of a local socket
      if (now() >= deadline) return std::nullopt;
      timespec const pause{0, 1000000};
      ::nanosleep(&pause, nullptr);
    }
    if (why == EINPROGRESS || why == EINTR) {
      if (!poll_for(fd, POLLOUT, deadline)) return std::nullopt;
      socklen_t length = sizeof why;
      if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &length) != 0) why = errno;
    }
    ::fcntl(fd, F_SETFL, mode);
    return why;
  }

  static std::optional<stream> connect_local(endpoint const& where, time_point deadline) {
    auto const path = stream_path(where.name, "socket");
    auto const address = socket_address(path);
    scoped_fd fd{new_socket(AF_UNIX)};
    auto const done = finish_connect(fd.get(), reinterpret_cast<sockaddr const*>(&address), sizeof address, deadline);
    if (!done) return std::nullopt;
    if (*done != 0) throw_named("connect", path, *done);
    // Somebody else may have been quicker to take the name.
    auto user = Derived::peer_user(fd.get());
    if (!user) {
      if (auto const info = named_info(path)) user = info->st_uid;
    }
    if (user && !is_own(*user)) throw_named("what listens is another user's: connect", path, EACCES);
    return opened(fd.release(), stream::kind::socket);
  }

  static acceptor listen_local(endpoint const& where, int backlog) {
    acceptor made;
    made.where = where;
    made.maker = ::getpid();
    auto const path = stream_path(where.name, "socket");
    (void)socket_address(path);  // not too long?
    std::uint64_t number = 0;
    if (::getentropy(&number, sizeof number) != 0) throw_errno("getentropy");
    auto draft = path.substr(0, path.rfind('/') + 1) + ".polyproc.";
    for (int i = 0; i < 16; ++i, number >>= 4) draft += "0123456789abcdef"[number & 15];
    auto const address = socket_address(draft);
    made.socket.reset(new_socket(AF_UNIX));
    if (::bind(made.socket.get(), reinterpret_cast<sockaddr const*>(&address), sizeof address) != 0)
      throw_named("bind", path);
    struct gone {
      std::string const& name;
      ~gone() { ::unlink(name.c_str()); }
    } const gone_afterwards{draft};
    if (::chmod(draft.c_str(), 0600) != 0) throw_named("chmod", path);
    begin_listening(made.socket.get(), backlog, path);
    if (!publish(draft, path)) {
      replacing const alone{path};
      while (!publish(draft, path)) {
        if (accepts(path)) throw_named("somebody accepts connections there: bind", path, EADDRINUSE);
        if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw_named("unlink", path);
      }
    }
    made.path = path;
    note(made.socket.get(), true);
    return made;
  }
  static void begin_listening(int fd, int backlog, std::string const& what) {
    if (::listen(fd, std::max(1, backlog)) != 0) throw_named("listen", what);
    int const mode = ::fcntl(fd, F_GETFL);
    if (mode < 0 || ::fcntl(fd, F_SETFL, mode | O_NONBLOCK) != 0) throw_named("fcntl", what);
  }
  /// False when the name exists.
  static bool publish(std::string const& draft, std::string const& path) {
    if (::link(draft.c_str(), path.c_str()) == 0) return true;
    if (errno == EEXIST) return false;
    int const why = errno;
    // Some file systems have no links. Then two who come at the same moment both believe that they have the name.
    if (named_info(path)) return false;
    if ((why != EPERM && why != ENOTSUP && why != EOPNOTSUPP) || ::rename(draft.c_str(), path.c_str()) != 0)
      throw_named("link", path, why);
    return true;
  }
  /// Whether anybody does, at a name that exists. Asked several times, because some systems refuse also when the list of
  /// those who wait is full.
  static bool accepts(std::string const& path) {
    auto const info = named_info(path);
    if (!info) return false;
    if (!S_ISSOCK(info->st_mode)) throw_named("what is there is not a socket: bind", path, EADDRINUSE);
    auto const address = socket_address(path);
    for (int tries = 0; tries < 3; ++tries) {
      scoped_fd const fd{new_socket(AF_UNIX)};
      auto const told = finish_connect(fd.get(), reinterpret_cast<sockaddr const*>(&address), sizeof address, time_point{});
      if (!told || (*told != ECONNREFUSED && *told != ENOENT)) return true;
      if (*told == ENOENT) return false;
      timespec const pause{0, 2000000};
      ::nanosleep(&pause, nullptr);
    }
    return false;
  }

  static acceptor listen_tcp(endpoint const& where, int backlog) {
    acceptor made;
    made.where = where;
    if (made.where.name.empty()) made.where.name = "127.0.0.1";
    made.maker = ::getpid();
    auto const what = made.where.name + " port " + std::to_string(where.port);
    host_addresses const hosts(where, true);
    int why = EADDRNOTAVAIL;
    for (auto const* one = hosts.first(); one != nullptr; one = one->next) {
      made.socket.reset(new_socket(one->family));
      int const yes = 1;
      ::setsockopt(made.socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
      why = ::bind(made.socket.get(), one->address, one->size) == 0 ? 0 : errno;
      if (why == 0) break;
    }
    if (why != 0) throw_named("bind", what, why);
    begin_listening(made.socket.get(), backlog, what);
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    if (::getsockname(made.socket.get(), reinterpret_cast<sockaddr*>(&own), &size) != 0) throw_named("getsockname", what);
    std::array<unsigned char, 2> port{};
    std::memcpy(port.data(), reinterpret_cast<std::byte const*>(&own) + port_at, port.size());
    made.where.port = static_cast<std::uint16_t>(port[0] << 8 | port[1]);
    note(made.socket.get(), true);
    return made;
  }

  /// What this process was given at its start, by place; -1: taken.
  static inline std::array<int, most_passed> passed_{};
  static inline std::size_t passed_count_ = 0;
  /// A bit for each number. What lies beyond is not let go.
  static inline std::array<std::atomic<std::uint64_t>, 1024> open_{};
};

}  // namespace polyproc::inline v0_1::detail
