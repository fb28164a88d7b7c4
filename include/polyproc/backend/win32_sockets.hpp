/// TCP on Windows. All of Winsock is looked up when the first socket is wanted: who wants none pays nothing, and links
/// nothing.
///
/// Sockets are never waiting ones here: a read or write takes what can be done at once and says exactly how much that was
/// (an overlapped write that is called off does not); what waits is select, or a read of nothing (win32_streams.hpp).
#pragma once

#include <polyproc/backend/win32_support.hpp>

#include <array>
#include <cstring>

namespace polyproc::inline v0_1::detail::win32 {

using socket_type = ulong_ptr;
inline constexpr socket_type no_socket = ~socket_type{0};

struct socket_buffer {  // WSABUF
  dword size = 0;
  char* data = nullptr;
};
struct socket_set {  // the beginning of an fd_set
  unsigned count = 0;
  socket_type all[1] = {};
};
struct socket_time {  // timeval
  std::int32_t seconds = 0;
  std::int32_t microseconds = 0;
};
struct address_info {  // ADDRINFOW
  int flags = 0;
  int family = 0;
  int kind = 0;
  int protocol = 0;
  std::size_t length = 0;
  wchar_t* name = nullptr;
  void* address = nullptr;
  address_info* next = nullptr;
};
/// WSAPROTOCOL_INFOW; nobody but the system looks into it.
struct socket_description {
  std::array<std::uint32_t, 157> words{};
};
struct function_name {  // GUID
  std::uint32_t first;
  std::uint16_t second;
  std::uint16_t third;
  std::array<std::uint8_t, 8> rest;
};

inline constexpr int kind_stream = 1;                      // SOCK_STREAM
inline constexpr int protocol_tcp = 6;
inline constexpr int resolve_passive = 1;                  // AI_PASSIVE
inline constexpr dword socket_overlapped = 1;              // WSA_FLAG_OVERLAPPED
inline constexpr dword socket_not_inherited = 0x80;        // WSA_FLAG_NO_HANDLE_INHERIT
inline constexpr int from_description = -1;                // FROM_PROTOCOL_INFO
inline constexpr int level_socket = 0xFFFF;                // SOL_SOCKET
inline constexpr int option_error = 0x1007;                // SO_ERROR
inline constexpr int option_accept_context = 0x700B;       // SO_UPDATE_ACCEPT_CONTEXT
inline constexpr int option_no_delay = 1;                  // TCP_NODELAY
inline constexpr int shutdown_send = 1;                    // SD_SEND
inline constexpr std::uint32_t control_not_waiting = 0x8004667E;   // FIONBIO
inline constexpr dword control_get_function = 0xC8000006;          // SIO_GET_EXTENSION_FUNCTION_POINTER
inline constexpr dword control_first_timeout = 0x98000011;         // SIO_TCP_INITIAL_RTO
inline constexpr function_name accept_ex_name{0xb5367df1, 0xcbac, 0x11cf, {0x95, 0xca, 0x00, 0x80, 0x5f, 0x48, 0xa1, 0x92}};

inline constexpr dword socket_would_block = 10035;
inline constexpr dword socket_invalid = 10022;
inline constexpr dword socket_not_connected = 10057;

/// Those that every system has under their usual names.
[[noreturn]] inline void throw_socket(std::string const& call, dword number = GetLastError()) {
  struct meaning {
    dword number;
    std::errc reason;
  };
  constexpr meaning meanings[] = {
      {10013, std::errc::permission_denied},
      {10024, std::errc::too_many_files_open},
      {10038, std::errc::not_a_socket},
      {10048, std::errc::address_in_use},
      {10049, std::errc::address_not_available},
      {10050, std::errc::network_down},
      {10051, std::errc::network_unreachable},
      {10052, std::errc::connection_reset},
      {10053, std::errc::connection_reset},  // "aborted": found out by us, but the same
      {10054, std::errc::connection_reset},
      {64, std::errc::connection_reset},     // what overlapped operations say
      {1236, std::errc::connection_reset},
      {10055, std::errc::no_buffer_space},
      {10057, std::errc::not_connected},
      {10058, std::errc::broken_pipe},       // after our own shutdown
      {10060, std::errc::timed_out},
      {10061, std::errc::connection_refused},
      {10064, std::errc::host_unreachable},
      {10065, std::errc::host_unreachable},
  };
  for (auto const& one : meanings) {
    if (one.number == number) throw std::system_error(std::make_error_code(one.reason), "polyproc: " + call);
  }
  throw_last(call.c_str(), number);
}

struct winsock {
  int(__stdcall* start)(unsigned short, void*) = nullptr;
  socket_type(__stdcall* make)(int, int, int, socket_description*, unsigned, dword) = nullptr;
  int(__stdcall* describe)(socket_type, dword, socket_description*) = nullptr;
  int(__stdcall* close)(socket_type) = nullptr;
  int(__stdcall* bind)(socket_type, void const*, int) = nullptr;
  int(__stdcall* listen)(socket_type, int) = nullptr;
  int(__stdcall* connect)(socket_type, void const*, int) = nullptr;
  int(__stdcall* own_address)(socket_type, void*, int*) = nullptr;
  int(__stdcall* set_option)(socket_type, int, int, char const*, int) = nullptr;
  int(__stdcall* get_option)(socket_type, int, int, char*, int*) = nullptr;
  int(__stdcall* control)(socket_type, long, unsigned long*) = nullptr;
  int(__stdcall* control_ex)(socket_type, dword, void*, dword, void*, dword, dword*, _OVERLAPPED*, void*) = nullptr;
  int(__stdcall* select)(int, socket_set*, socket_set*, socket_set*, socket_time const*) = nullptr;
  int(__stdcall* send)(socket_type, char const*, int, int) = nullptr;
  int(__stdcall* receive)(socket_type, char*, int, int) = nullptr;
  int(__stdcall* receive_ex)(socket_type, socket_buffer*, dword, dword*, dword*, _OVERLAPPED*, void*) = nullptr;
  int(__stdcall* shutdown)(socket_type, int) = nullptr;
  int(__stdcall* resolve)(wchar_t const*, wchar_t const*, address_info const*, address_info**) = nullptr;
  void(__stdcall* free_resolved)(address_info*) = nullptr;

  static winsock const& get() {
    static winsock const functions = load();
    return functions;
  }

 private:
  template <class Function>
  static void find(Function& function_pointer, char const* called) {
    function_pointer = lookup<Function>(L"ws2_32.dll", called);
    if (function_pointer == nullptr) throw_last((std::string("GetProcAddress of ") + called + " in ws2_32.dll").c_str());
  }
  static winsock load() {
    winsock f;
    find(f.start, "WSAStartup");
    find(f.make, "WSASocketW");
    find(f.describe, "WSADuplicateSocketW");
    find(f.close, "closesocket");
    find(f.bind, "bind");
    find(f.listen, "listen");
    find(f.connect, "connect");
    find(f.own_address, "getsockname");
    find(f.set_option, "setsockopt");
    find(f.get_option, "getsockopt");
    find(f.control, "ioctlsocket");
    find(f.control_ex, "WSAIoctl");
    find(f.select, "select");
    find(f.send, "send");
    find(f.receive, "recv");
    find(f.receive_ex, "WSARecv");
    find(f.shutdown, "shutdown");
    find(f.resolve, "GetAddrInfoW");
    find(f.free_resolved, "FreeAddrInfoW");
    std::array<std::uint64_t, 64> facts{};  // a WSADATA has 408 bytes
    if (int const why = f.start(0x0202, facts.data()); why != 0) throw_socket("WSAStartup", static_cast<dword>(why));
    return f;
  }
};

class scoped_socket {
 public:
  scoped_socket() = default;
  explicit scoped_socket(socket_type s) noexcept : socket_(s) {}
  scoped_socket(scoped_socket&& other) noexcept : socket_(other.release()) {}
  scoped_socket& operator=(scoped_socket&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~scoped_socket() { reset(); }

  [[nodiscard]] socket_type get() const noexcept { return socket_; }
  [[nodiscard]] handle_type handle() const noexcept { return as_handle(socket_); }
  socket_type release() noexcept { return std::exchange(socket_, no_socket); }
  void reset(socket_type s = no_socket) noexcept {
    if (socket_ != no_socket) winsock::get().close(socket_);
    socket_ = s;
  }

 private:
  socket_type socket_ = no_socket;
};

inline void never_wait(socket_type s) {
  unsigned long yes = 1;
  if (winsock::get().control(s, static_cast<long>(static_cast<std::int32_t>(control_not_waiting)), &yes) != 0)
    throw_socket("ioctlsocket");
}
inline void no_delay(socket_type s) {
  std::int32_t const yes = 1;
  winsock::get().set_option(s, protocol_tcp, option_no_delay, reinterpret_cast<char const*>(&yes), sizeof yes);
}

inline scoped_socket new_socket(int family, int kind, int protocol, socket_description* of = nullptr) {
  auto const& w = winsock::get();
  scoped_socket made{w.make(family, kind, protocol, of, 0, socket_overlapped | socket_not_inherited)};
  // Windows 7 without its service pack knows no such flag.
  if (made.get() == no_socket && GetLastError() == socket_invalid) {
    made.reset(w.make(family, kind, protocol, of, 0, socket_overlapped));
    if (made.get() != no_socket) SetHandleInformation(made.handle(), handle_inherit, 0);
  }
  if (made.get() == no_socket) throw_socket("WSASocketW");
  never_wait(made.get());
  return made;
}
inline scoped_socket new_socket(int family) { return new_socket(family, kind_stream, protocol_tcp); }

/// A second socket of the same connection, which Winsock knows as such: what is only inherited or duplicated it takes for
/// a socket in some calls and not in others.
inline scoped_socket socket_copy(socket_type s) {
  socket_description description;
  if (winsock::get().describe(s, GetCurrentProcessId(), &description) != 0) throw_socket("WSADuplicateSocketW");
  return new_socket(from_description, from_description, from_description, &description);
}

/// What there is at once; nullopt: nothing yet.
inline std::optional<std::size_t> socket_read(socket_type s, std::span<std::byte> out) {
  auto const most = static_cast<int>((std::min<std::size_t>)(out.size(), 1U << 30));
  auto const got = winsock::get().receive(s, reinterpret_cast<char*>(out.data()), most, 0);
  if (got >= 0) return static_cast<std::size_t>(got);
  if (GetLastError() != socket_would_block) throw_socket("recv from a stream");
  return std::nullopt;
}
inline std::optional<std::size_t> socket_write(socket_type s, std::span<std::byte const> in) {
  auto const most = static_cast<int>((std::min<std::size_t>)(in.size(), 1U << 30));
  auto const put = winsock::get().send(s, reinterpret_cast<char const*>(in.data()), most, 0);
  if (put > 0) return static_cast<std::size_t>(put);
  if (put < 0 && GetLastError() != socket_would_block) throw_socket("send to a stream");
  return std::nullopt;
}
/// Until something can be written, or a connection is made or refused; false at the deadline.
inline bool socket_wait_writable(socket_type s, time_point deadline) {
  for (;;) {
    auto const now = std::chrono::steady_clock::now();
    socket_set writes{1, {s}};
    socket_set failures{1, {s}};
    constexpr dword longest = 60'000;
    auto const wait = (std::min)(wait_milliseconds(now, deadline), longest);
    socket_time const length{static_cast<std::int32_t>(wait / 1000), static_cast<std::int32_t>(wait % 1000 * 1000)};
    int const ready = winsock::get().select(0, nullptr, &writes, &failures, &length);
    if (ready > 0) return true;
    if (ready < 0) throw_socket("select");
    if (std::chrono::steady_clock::now() >= deadline) return false;
  }
}

/// What a host's name means.
class host_addresses {
 public:
  host_addresses(endpoint const& where, bool to_listen)
      : text_((where.name.empty() ? "127.0.0.1" : where.name) + " port " + std::to_string(where.port)) {
    auto const host = widen(where.name.empty() ? "127.0.0.1" : where.name);
    address_info wanted;
    wanted.kind = kind_stream;
    wanted.protocol = protocol_tcp;
    wanted.flags = to_listen ? resolve_passive : 0;
    int const error = winsock::get().resolve(host.c_str(), std::to_wstring(where.port).c_str(), &wanted, &first_);
    if (error != 0)
      throw std::system_error(std::make_error_code(std::errc::address_not_available),
                              "polyproc: GetAddrInfoW of " + where.name + " (" + std::to_string(error) + ")");
  }
  host_addresses(host_addresses const&) = delete;
  host_addresses& operator=(host_addresses const&) = delete;
  ~host_addresses() { winsock::get().free_resolved(first_); }

  [[nodiscard]] address_info const* first() const noexcept { return first_; }
  [[nodiscard]] std::string const& text() const noexcept { return text_; }

 private:
  address_info* first_ = nullptr;
  std::string text_;
};

/// This machine refuses a connection by itself at once, but Windows asks it three times more, half a second apart.
inline void ask_only_once(socket_type s, address_info const& whom) {
  constexpr int version_4 = 2;
  auto const* const bytes = static_cast<unsigned char const*>(whom.address);
  constexpr unsigned char loopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  if (whom.family == version_4 ? bytes[4] != 127 : std::memcmp(bytes + 8, loopback, sizeof loopback) != 0) return;
  struct {
    std::uint16_t time = 0xFFFF;  // as it is
    std::uint8_t again = 0xFE;    // never
  } first_timeout;
  dword none = 0;
  winsock::get().control_ex(s, control_first_timeout, &first_timeout, sizeof first_timeout, nullptr, 0, &none, nullptr,
                            nullptr);  // older systems do not have it
}

inline std::optional<socket_type> tcp_connect(endpoint const& where, time_point deadline) {
  auto const& w = winsock::get();
  host_addresses const hosts(where, false);
  dword last = hosts.first() == nullptr ? 10049 : 0;
  for (auto const* one = hosts.first(); one != nullptr; one = one->next) {
    auto made = new_socket(one->family);
    ask_only_once(made.get(), *one);
    auto const until = share_of(deadline, std::chrono::steady_clock::now(), addresses_left(one));
    dword why = w.connect(made.get(), one->address, static_cast<int>(one->length)) == 0 ? 0 : GetLastError();
    if (why == socket_would_block) {
      if (!socket_wait_writable(made.get(), until)) continue;  // another one may answer
      std::int32_t told = 0;
      int size = sizeof told;
      why = w.get_option(made.get(), level_socket, option_error, reinterpret_cast<char*>(&told), &size) == 0
                ? static_cast<dword>(told)
                : GetLastError();
    }
    if (why != 0) {
      last = why;
      continue;
    }
    no_delay(made.get());
    return made.release();
  }
  if (last == 0) return std::nullopt;
  throw_socket("connect to " + hosts.text(), last);
}

/// With the port that was found. Without SO_REUSEADDR, which here gives a port to a second one while the first has it; a
/// port that nobody listens at is free at once without it.
inline scoped_socket tcp_listen(endpoint& where, int backlog) {
  auto const& w = winsock::get();
  if (where.name.empty()) where.name = "127.0.0.1";
  host_addresses const hosts(where, true);
  scoped_socket made;
  dword why = 10049;
  for (auto const* one = hosts.first(); one != nullptr; one = one->next) {
    made = new_socket(one->family);
    why = w.bind(made.get(), one->address, static_cast<int>(one->length)) == 0 ? 0 : GetLastError();
    if (why == 0) break;
  }
  if (why != 0) throw_socket("bind to " + hosts.text(), why);
  if (w.listen(made.get(), (std::max)(1, backlog)) != 0) throw_socket("listen at " + hosts.text());
  std::array<unsigned char, 128> own{};
  int size = static_cast<int>(own.size());
  if (w.own_address(made.get(), own.data(), &size) != 0) throw_socket("getsockname");
  where.port = static_cast<std::uint16_t>(own[2] << 8 | own[3]);  // in both kinds of address
  return made;
}

using accept_ex_function = int(__stdcall*)(socket_type, socket_type, void*, dword, dword, dword, dword*, _OVERLAPPED*);

inline accept_ex_function accept_ex(socket_type s) {
  accept_ex_function found = nullptr;
  auto called = accept_ex_name;
  dword size = 0;
  if (winsock::get().control_ex(s, control_get_function, &called, sizeof called, reinterpret_cast<void*>(&found),
                                sizeof found, &size, nullptr, nullptr) != 0)
    throw_socket("WSAIoctl for AcceptEx");
  return found;
}

}  // namespace polyproc::inline v0_1::detail::win32
