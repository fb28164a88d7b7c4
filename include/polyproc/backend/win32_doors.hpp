/// Places that others connect to on Windows. A local one is a named pipe, of which several instances wait for whoever comes,
/// so that a client never finds none as long as somebody listens.
///
/// Whether somebody listens is told by an event with a name, which goes with the process at the latest; the pipe itself is
/// there also as long as any connection made through it.
#pragma once

#include <polyproc/backend/named.hpp>
#include <polyproc/backend/win32_streams.hpp>

#include <functional>

namespace polyproc::inline v0_1::detail::win32 {

/// What one client comes in by: an operation that is finished when he has.
class door {
 public:
  door() = default;
  door(door const&) = delete;
  door& operator=(door const&) = delete;
  virtual ~door() = default;

  void begin(handle_type event) {
    request_ = {};
    request_.event = event;
    auto const error = begin_waiting(parameter_of(request_));
    // What fails at once leaves the request as if it were under way.
    waiting_ = error == error_io_pending;
    open_ = error == 0;
    if (!open_ && !waiting_) throw_last(what(), error);
  }
  enum class seen : std::uint8_t { shut, open, failed };
  seen look() noexcept {
    if (open_) return seen::open;
    if (waiting_ && under_way(request_)) return seen::shut;
    dword none = 0;
    if (waiting_ && GetOverlappedResult(object(), parameter_of(request_), &none, 0) != 0)
      open_ = true;
    else if (waiting_ && GetLastError() == error_io_incomplete)
      return seen::shut;
    waiting_ = false;
    return open_ ? seen::open : seen::failed;
  }
  /// Neither begun nor open.
  [[nodiscard]] bool idle() const noexcept { return !waiting_ && !open_; }
  /// The connection; the door is of no more use.
  virtual std::unique_ptr<looking_stream> take() = 0;

 protected:
  /// An error's number, error_io_pending among them; 0: somebody is there already.
  virtual dword begin_waiting(_OVERLAPPED* request) = 0;
  virtual handle_type object() const noexcept = 0;
  virtual char const* what() const noexcept = 0;
  /// For destructors, which know the object still.
  void call_off() noexcept {
    if (!std::exchange(waiting_, false) || !under_way(request_)) return;
    CancelIoEx(object(), parameter_of(request_));
    while (under_way(request_)) {
      WaitForSingleObject(request_.event, 1);  // it is of many doors
      SwitchToThread();
    }
  }

 private:
  overlapped request_;
  bool waiting_ = false;
  bool open_ = false;
};

class pipe_door final : public door {
 public:
  explicit pipe_door(std::wstring const& path) : pipe_(make_pipe(path, false)) {
    if (pipe_.get() == nullptr) throw_last("CreateNamedPipeW");
  }
  /// Through which somebody may have come already.
  explicit pipe_door(scoped_handle pipe) noexcept : pipe_(std::move(pipe)) {}
  ~pipe_door() override { call_off(); }
  std::unique_ptr<looking_stream> take() override {
    auto made = std::make_unique<pipe_stream>(pipe_.get());
    pipe_.release();
    return made;
  }
  [[nodiscard]] handle_type pipe() const noexcept { return pipe_.get(); }
  /// Nobody is waited for from now on, until begin().
  void rest() noexcept { call_off(); }

 private:
  dword begin_waiting(_OVERLAPPED* request) override {
    if (ConnectNamedPipe(pipe_.get(), request) != 0) return 0;
    auto const why = GetLastError();
    // Who came and has gone again may have left something to be read.
    return why == error_pipe_connected || why == error_no_data ? 0 : why;
  }
  handle_type object() const noexcept override { return pipe_.get(); }
  char const* what() const noexcept override { return "ConnectNamedPipe"; }

  scoped_handle pipe_;
};

/// The socket that a connection gets exists before it, so that no child can inherit it for a moment.
class socket_door final : public door {
 public:
  socket_door(socket_type listening, accept_ex_function accept) : listening_(listening), accept_(accept) {
    std::array<unsigned char, 128> own{};
    int size = static_cast<int>(own.size());
    if (winsock::get().own_address(listening, own.data(), &size) != 0) throw_socket("getsockname");
    std::uint16_t family = 0;
    std::memcpy(&family, own.data(), sizeof family);
    made_ = new_socket(family);
  }
  ~socket_door() override { call_off(); }
  std::unique_ptr<looking_stream> take() override {
    winsock::get().set_option(made_.get(), level_socket, option_accept_context, reinterpret_cast<char const*>(&listening_),
                              sizeof listening_);
    never_wait(made_.get());
    no_delay(made_.get());
    return std::make_unique<socket_stream>(std::move(made_));
  }

 private:
  dword begin_waiting(_OVERLAPPED* request) override {
    constexpr dword address_room = 64;
    dword size = 0;
    if (accept_(listening_, made_.get(), addresses_.data(), 0, address_room, address_room, &size, request) != 0) return 0;
    return GetLastError();
  }
  handle_type object() const noexcept override { return as_handle(listening_); }
  char const* what() const noexcept override { return "AcceptEx"; }

  socket_type listening_;
  accept_ex_function accept_;
  scoped_socket made_;
  std::array<unsigned char, 128> addresses_{};
};

/// Some doors, and one event that is signaled as long as one of them is open. Beginning an operation resets its event, which
/// is all doors': so after that all are looked at.
class doorway {
 public:
  using maker = std::function<std::unique_ptr<door>()>;

  doorway(maker make, std::size_t count) : make_(std::move(make)), own_event_(CreateEventW(nullptr, 1, 0, nullptr)) {
    if (own_event_.get() == nullptr) throw_last("CreateEventW");
    for (std::size_t i = 0; i < count; ++i) add(make_());
    refresh();
  }
  doorway(maker make, std::vector<std::unique_ptr<door>> there) : doorway(std::move(make), 0) {
    for (auto& one : there) add(std::move(one));
    refresh();
  }

  [[nodiscard]] handle_type event() const noexcept { return own_event_.get(); }

  /// Whether one is open. Those that failed (the client, or the thread that began it, is gone) are replaced.
  bool refresh() {
    for (;;) {
      bool failed = false;
      for (std::size_t i = 0; i < doors_.size() && !failed; ++i) {
        auto const seen = doors_[i]->look();
        if (seen == door::seen::open) {
          SetEvent(event());
          return true;
        }
        failed = seen == door::seen::failed;
        if (failed) doors_.erase(doors_.begin() + static_cast<std::ptrdiff_t>(i));
      }
      if (!failed) return false;
      add(make_());
    }
  }

  /// Who came first; nullptr: nobody is there.
  std::unique_ptr<looking_stream> take() {
    ResetEvent(event());
    if (!refresh()) return nullptr;
    auto const found = std::find_if(doors_.begin(), doors_.end(),
                                    [](auto const& one) { return one->look() == door::seen::open; });
    auto const mine = std::move(*found);
    doors_.erase(found);
    // First a new one: a client must not find none. If there is no room for it now, the others do.
    try {
      add(make_());
    } catch (...) {
      if (doors_.empty()) throw;
    }
    ResetEvent(event());
    refresh();
    return mine->take();
  }

  std::vector<std::unique_ptr<door>>& all() noexcept { return doors_; }

 private:
  void add(std::unique_ptr<door> one) {
    doors_.push_back(std::move(one));
    try {
      doors_.back()->begin(event());
    } catch (...) {
      doors_.pop_back();
      throw;
    }
  }

  maker make_;
  scoped_handle own_event_;
  std::vector<std::unique_ptr<door>> doors_;
};

/// The name of a pipe, and of the event beside it.
struct place_name {
  std::wstring pipe;
  std::wstring event;

  place_name(std::string_view name, char const* kind) {
    constexpr std::size_t longest = 60;
    if (name.size() > longest)
      throw std::invalid_argument("polyproc: the name " + std::string(name) + " of a " + kind +
                                  " has more than 60 characters");
    check_name(name, std::string("a ") + kind);
    auto const text = widen("polyproc-" + std::string(kind) + '.' + std::string(name));
    pipe = L"\\\\.\\pipe\\" + text;
    event = L"Global\\" + text;
  }
};

[[noreturn]] inline void throw_place(char const* call, std::string_view name, std::errc why) {
  throw std::system_error(std::make_error_code(why), "polyproc: " + std::string(call) + " of " + std::string(name));
}
[[noreturn]] inline void throw_place(char const* call, std::string_view name, dword number) {
  throw_path(call, std::string(name), number);
}

/// Connects to a pipe that others wait at. nullptr: not before the deadline. `exists`: whether anybody may come to be there;
/// `waits`: also if there is no such pipe yet.
template <class Exists>
handle_type reach_pipe(std::wstring const& path, std::string const& name, time_point deadline, bool waits, Exists&& exists) {
  for (;;) {
    if (scoped_handle end{open_pipe(path)}; end.get() != nullptr) {
      if (!is_of_user(end.get())) throw_place("what is there is another user's: CreateFileW", name, error_access_denied);
      return end.release();
    }
    auto const why = GetLastError();
    bool const none = why == error_file_not_found;
    if (why != error_pipe_busy && !none) throw_place("CreateFileW", name, why);
    if ((none && !waits) || !exists()) throw_place("CreateFileW", name, error_file_not_found);
    auto const now = std::chrono::steady_clock::now();
    if (now >= deadline) return nullptr;
    // In pieces: the last who accepts there may end meanwhile.
    constexpr dword longest = 50;
    auto const piece = (std::min)(wait_milliseconds(now, deadline), longest);
    if (none)
      Sleep((std::min)(piece, stream_state::glance));
    else
      WaitNamedPipeW(path.c_str(), piece);
  }
}

}  // namespace polyproc::inline v0_1::detail::win32
