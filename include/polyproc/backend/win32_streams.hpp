/// Streams of bytes on Windows: named pipes and sockets, and what others hand us (stream_backend in concept.hpp). A stream
/// is a pointer to what this process knows of it.
///
/// Our own pipes are of messages, and are read as such. Nobody sees their borders, but a message of nothing is the mark that
/// its writer has shut down, which pipes do not have otherwise. Every write with a deadline is at most as large as the
/// pipe's buffer, so that one which is called off was either taken whole or not at all: a reader that begins to take it
/// makes room for the rest, and that finishes it.
///
/// To wait for reading is to read ahead: one byte from a pipe of messages (a read of nothing would swallow the mark), nothing
/// from all else. What is under way stays so between calls, and has an event, which therefore is what event loops wait for.
/// Windows calls it off when the thread that began it ends; then it is begun again by who looks next.
#pragma once

#include <polyproc/backend/win32_sockets.hpp>
#include <polyproc/backend/win32_user.hpp>
#include <polyproc/backend/win32_waiting.hpp>

#include <memory>
#include <stdexcept>

namespace polyproc::inline v0_1::detail::win32 {

/// What a pipe takes before anybody reads; the system has memory for it only while it is used.
inline constexpr dword pipe_room = 128 * 1024;

inline _OVERLAPPED* parameter_of(overlapped& request) noexcept { return reinterpret_cast<_OVERLAPPED*>(&request); }

inline bool under_way(overlapped const& request) noexcept {
  return *const_cast<ulong_ptr const volatile*>(&request.internal) == status_pending;
}

/// Whether the other side of a pipe is no more.
inline bool is_pipe_end(dword error) noexcept {
  return error == error_broken_pipe || error == error_pipe_not_connected || error == error_no_data ||
         error == error_handle_eof;
}

struct io_outcome {
  dword error = 0;
  dword bytes = 0;
};

/// One overlapped operation. nullopt: it was called off at the deadline, or with the thread.
template <class Begin>
std::optional<io_outcome> do_until(handle_type object, time_point deadline, Begin&& begin) {
  io_event const event;
  overlapped request;
  request.event = event.get();
  auto* const parameter = parameter_of(request);
  io_outcome out;
  if (begin(&out.bytes, parameter)) return out;
  out.error = GetLastError();
  if (out.error == error_io_pending) {
    try {
      if (!wait_for(request.event, deadline)) CancelIoEx(object, parameter);
    } catch (...) {
      CancelIoEx(object, parameter);
    }
  } else if (out.error != error_more_data) {
    return out;
  }
  out.error = GetOverlappedResult(object, parameter, &out.bytes, 1) != 0 ? 0 : GetLastError();
  if (out.error == error_operation_aborted) return std::nullopt;
  return out;
}

/// What a child is given: handles that it may inherit, and the numbers under which it knows what they are. A stream has one
/// number: in its lowest byte what it is, then what was read ahead of it, then its handle. The reading end of a FIFO has
/// more: it (fifo; the second byte: how many numbers its name takes), how many pipes it has, its name, its pipes.
struct pass_list {
  static constexpr std::uint64_t ended = 4;
  static constexpr std::uint64_t shut = 8;
  static constexpr std::uint64_t one_way = 16;
  static constexpr std::uint64_t ahead = 32;
  static constexpr std::uint64_t fifo = 64;
  static constexpr std::uint64_t door = 128;  // of a FIFO: a pipe that nobody has come by yet

  std::vector<scoped_handle> copies;
  std::vector<std::uint64_t> numbers;

  void add(handle_type object, std::uint64_t what, std::uint64_t second_byte = 0) {
    copies.emplace_back(duplicate(object, true));
    // The system uses 32 bits of handles at most, so that programs of 32 bits can inherit them.
    numbers.push_back(as_number(copies.back().get()) << 16 | second_byte << 8 | what);
  }
};

/// What a process knows of a stream.
class stream_state {
 public:
  enum class kind : std::uint8_t { message_pipe, byte_pipe, waiting, socket };

  stream_state() = default;
  stream_state(stream_state const&) = delete;
  stream_state& operator=(stream_state const&) = delete;
  virtual ~stream_state() = default;

  virtual std::optional<std::size_t> read(std::span<std::byte> out, time_point deadline) = 0;
  virtual std::optional<std::size_t> write(std::span<std::byte const> in, time_point deadline) = 0;
  /// Whether a read would not wait. If it would, event() is signaled when it is worth asking again.
  virtual bool ready() = 0;
  /// nullptr: there is none, ask again every few milliseconds.
  [[nodiscard]] virtual handle_type event() const noexcept = 0;
  /// Signaled as long as ready() says so; from the first call on.
  virtual handle_type handle() = 0;
  virtual void shut_write() {}
  virtual std::unique_ptr<stream_state> copy() = 0;

  /// Adds what a child is to be given. Nothing is under way then.
  virtual void pass(pass_list& to_child) = 0;
  /// After pass(): the child has started, or has not.
  virtual void passed(bool /*to_child*/) noexcept {}

  bool wait(time_point deadline) {
    for (;;) {
      if (ready()) return true;
      auto const now = std::chrono::steady_clock::now();
      if (now >= deadline) return false;
      if (event() != nullptr)
        wait_for(event(), deadline);
      else
        Sleep((std::min)(wait_milliseconds(now, deadline), glance));
    }
  }

  static constexpr dword glance = 5;  // milliseconds between looks at what has no event
};

/// What can be looked at ahead.
class looking_stream : public stream_state {
 public:
  bool ready() override {
    for (;;) {
      if (look_ == look::none) begin();
      if (look_ == look::pending) check();
      if (look_ != look::none) return look_ == look::done;
    }
  }
  [[nodiscard]] handle_type event() const noexcept override { return event_; }
  handle_type handle() override {
    exposed_ = true;
    need_event();
    if (ready()) SetEvent(event_);
    return event_;
  }
  void passed(bool to_child) noexcept override {
    if (to_child) {
      // What would be read ahead from now on would be the child's.
      exposed_ = false;
      forget();
    } else if (exposed_ && look_ == look::none) {
      try {
        begin();
      } catch (...) {  // not even an event: then nobody waits for it
      }
    }
  }

  /// One event for several streams, of which nobody knows by itself which one it is.
  void share_event(handle_type shared) noexcept { event_ = shared; }
  [[nodiscard]] bool looking() const noexcept { return look_ != look::none; }

 protected:
  enum class look : std::uint8_t { none, pending, done };

  virtual handle_type object() const noexcept = 0;
  /// Begins the read; true when it is finished.
  virtual bool begin_look(dword* bytes, _OVERLAPPED* request) = 0;
  virtual void end_look(io_outcome const&) noexcept {}
  /// What was read ahead is not this process's any more.
  virtual void forget() noexcept { look_ = look::none; }

  void need_event() {
    if (event_ != nullptr) return;
    own_event_.reset(CreateEventW(nullptr, 1, 0, nullptr));
    if (own_event_.get() == nullptr) throw_last("CreateEventW");
    event_ = own_event_.get();
  }
  void begin() {
    need_event();
    request_ = {};
    request_.event = event_;
    ResetEvent(event_);
    io_outcome out;
    if (!begin_look(&out.bytes, parameter_of(request_))) out.error = GetLastError();
    look_ = look::pending;
    if (out.error == error_io_pending) return;
    if (out.error == error_more_data) out.bytes = 1;
    finish(out);
    SetEvent(event_);  // an operation that fails at once does not
  }
  void check() noexcept {
    if (under_way(request_)) return;
    io_outcome out;
    if (GetOverlappedResult(object(), parameter_of(request_), &out.bytes, 0) == 0) out.error = GetLastError();
    if (out.error != error_io_incomplete) finish(out);
  }
  /// Nothing is under way afterwards.
  void settle() noexcept {
    if (look_ != look::pending) return;
    CancelIoEx(object(), parameter_of(request_));
    // The event may be one of several operations.
    while (under_way(request_)) {
      WaitForSingleObject(event_, 1);
      SwitchToThread();
    }
    check();
  }
  /// After a read: what was seen ahead is out of date.
  virtual void renew() {
    settle();
    look_ = look::none;
    if (exposed_) begin();
  }
  void finish(io_outcome const& out) noexcept {
    look_ = out.error == error_operation_aborted ? look::none : look::done;
    if (look_ == look::done) end_look(out);
  }

  look look_ = look::none;
  bool exposed_ = false;
  handle_type event_ = nullptr;

 private:
  overlapped request_;
  scoped_handle own_event_;
};

class pipe_stream final : public looking_stream {
 public:
  /// `keep` is closed with it.
  explicit pipe_stream(handle_type pipe, kind what = kind::message_pipe, bool one_way = false, handle_type keep = nullptr)
      : pipe_(pipe), keep_(keep), messages_(what == kind::message_pipe), one_way_(one_way) {}
  pipe_stream(handle_type pipe, std::uint64_t from_parent)
      : pipe_stream(pipe, static_cast<kind>(from_parent & 3), (from_parent & pass_list::one_way) != 0) {
    ended_ = (from_parent & pass_list::ended) != 0;
    shut_ = (from_parent & pass_list::shut) != 0;
    if ((from_parent & pass_list::ahead) != 0) ahead_ = static_cast<std::byte>(from_parent >> 8 & 0xFF);
  }
  ~pipe_stream() override { settle(); }

  std::optional<std::size_t> read(std::span<std::byte> out, time_point deadline) override {
    for (;;) {
      if (look_ == look::pending && !wait(deadline)) return std::nullopt;
      if (ended_) return 0;
      std::size_t got = 0;
      if (ahead_) {
        out[got++] = *ahead_;
        ahead_.reset();
        out = out.subspan(1);
        if (out.empty() || !has_bytes()) {
          renew();
          return got;
        }
        deadline = time_point{};
      }
      auto const most = static_cast<dword>((std::min<std::size_t>)(out.size(), 1U << 30));
      auto const done = do_until(pipe_.get(), deadline, [&](dword* bytes, _OVERLAPPED* request) {
        return ReadFile(pipe_.get(), out.data(), most, bytes, request) != 0;
      });
      if (done && done->error != 0 && done->error != error_more_data && !is_pipe_end(done->error) && got == 0)
        throw_last("ReadFile from a stream", done->error);
      bool const end = done && (is_pipe_end(done->error) || (messages_ && done->error == 0 && done->bytes == 0));
      if (end && got == 0) {
        ended_ = true;
        renew();
        return 0;
      }
      if (end && done->error == 0) ended_ = true;  // told by the next read; of an end without a mark it is told anyway
      if (done) got += done->bytes;
      if (got > 0) {
        renew();
        return got;
      }
      if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
    }
  }

  std::optional<std::size_t> write(std::span<std::byte const> in, time_point deadline) override {
    if (shut_) throw_no_reader();
    // What cannot be called off may be larger. The room in a pipe of others is not known, but is a page at least.
    constexpr std::size_t much = std::size_t{1} << 20;
    auto const piece = deadline == never ? much : messages_ ? std::size_t{pipe_room} / 2 : 4096;
    auto const most = static_cast<dword>((std::min)(in.size(), piece));
    for (;;) {
      auto const done = do_until(pipe_.get(), deadline, [&](dword* bytes, _OVERLAPPED* request) {
        return WriteFile(pipe_.get(), in.data(), most, bytes, request) != 0;
      });
      if (done && is_pipe_end(done->error)) throw_no_reader();
      if (done && done->error != 0) throw_last("WriteFile to a stream", done->error);
      if (done && done->bytes > 0) return done->bytes;
      if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
    }
  }

  bool ready() override { return ended_ || ahead_ || looking_stream::ready(); }

  void shut_write() override {
    if (!messages_ || one_way_ || std::exchange(shut_, true)) return;
    // It needs no room, so it does not wait.
    auto const done = do_until(pipe_.get(), never, [&](dword* bytes, _OVERLAPPED* request) {
      return WriteFile(pipe_.get(), "", 0, bytes, request) != 0;
    });
    if (done && done->error != 0 && !is_pipe_end(done->error)) throw_last("WriteFile to shut down a stream", done->error);
  }

  std::unique_ptr<stream_state> copy() override {
    scoped_handle pipe{duplicate(pipe_.get(), false)};
    scoped_handle keep{keep_.get() == nullptr ? nullptr : duplicate(keep_.get(), false)};
    auto made = std::make_unique<pipe_stream>(pipe.get(), what(), one_way_, keep.get());
    pipe.release();
    keep.release();
    made->ended_ = ended_;
    made->shut_ = shut_;
    return made;
  }

  void pass(pass_list& to_child) override {
    settle();
    auto number = static_cast<std::uint64_t>(what());
    if (ended_) number |= pass_list::ended;
    if (shut_) number |= pass_list::shut;
    if (one_way_) number |= pass_list::one_way;
    if (ahead_) number |= pass_list::ahead;
    to_child.add(pipe_.get(), number, std::to_integer<std::uint64_t>(ahead_.value_or(std::byte{0})));
  }

  /// Seen ahead, or by a read: nothing more is to come.
  [[nodiscard]] bool has_ended() const noexcept { return ended_ || broken_; }

 private:
  [[nodiscard]] kind what() const noexcept { return messages_ ? kind::message_pipe : kind::byte_pipe; }
  handle_type object() const noexcept override { return pipe_.get(); }

  bool begin_look(dword* bytes, _OVERLAPPED* request) override {
    return ReadFile(pipe_.get(), &next_, messages_ ? 1 : 0, bytes, request) != 0;
  }
  void end_look(io_outcome const& out) noexcept override {
    broken_ = is_pipe_end(out.error);
    if (!messages_ || (out.error != 0 && out.error != error_more_data)) return;
    if (out.bytes == 0)
      ended_ = true;
    else
      ahead_ = next_;
  }
  void forget() noexcept override {
    ahead_.reset();
    look_ = look::none;
  }
  void renew() override {
    if (!ended_) return looking_stream::renew();
    if (exposed_) SetEvent(event_);
  }

  [[nodiscard]] bool has_bytes() const noexcept {
    dword there = 0;
    return PeekNamedPipe(pipe_.get(), nullptr, 0, nullptr, &there, nullptr) != 0 && there > 0;
  }
  [[noreturn]] static void throw_no_reader() {
    throw std::system_error(std::make_error_code(std::errc::broken_pipe), "polyproc: WriteFile to a stream");
  }

  scoped_handle pipe_;
  scoped_handle keep_;
  bool const messages_;
  bool const one_way_;
  bool ended_ = false;
  bool broken_ = false;
  bool shut_ = false;
  std::byte next_{};  // where the system writes what is read ahead
  std::optional<std::byte> ahead_;
};

class socket_stream final : public looking_stream {
 public:
  explicit socket_stream(scoped_socket made) noexcept : socket_(std::move(made)) {}
  ~socket_stream() override { settle(); }

  std::optional<std::size_t> read(std::span<std::byte> out, time_point deadline) override {
    for (;;) {
      if (auto const got = socket_read(socket_.get(), out)) {
        renew();
        return got;
      }
      if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
      if (look_ == look::done) look_ = look::none;  // somebody else has read it
      if (!wait(deadline)) return std::nullopt;
    }
  }
  std::optional<std::size_t> write(std::span<std::byte const> in, time_point deadline) override {
    for (;;) {
      if (auto const put = socket_write(socket_.get(), in)) return put;
      if (!socket_wait_writable(socket_.get(), deadline)) return std::nullopt;
    }
  }
  void shut_write() override {
    if (winsock::get().shutdown(socket_.get(), shutdown_send) == 0) return;
    auto const why = GetLastError();
    if (why == socket_not_connected) return;
    try {
      throw_socket("shutdown of a stream", why);
    } catch (std::system_error const& e) {
      if (e.code() != std::errc::connection_reset) throw;
    }
  }
  std::unique_ptr<stream_state> copy() override { return std::make_unique<socket_stream>(socket_copy(socket_.get())); }
  void pass(pass_list& to_child) override {
    settle();
    to_child.add(socket_.handle(), static_cast<std::uint64_t>(kind::socket));
  }

 private:
  handle_type object() const noexcept override { return socket_.handle(); }
  bool begin_look(dword* bytes, _OVERLAPPED* request) override {
    socket_buffer nothing{0, &nothing_};
    dword flags = 0;
    return winsock::get().receive_ex(socket_.get(), &nothing, 1, bytes, &flags, request, nullptr) == 0;
  }

  scoped_socket socket_;
  char nothing_ = 0;
};

/// What others have opened in the simple way: every read and write waits as long as it takes. A read from a pipe keeps its
/// deadline nevertheless, since one can look whether something is there; a write does not.
class waiting_stream final : public stream_state {
 public:
  explicit waiting_stream(handle_type object) noexcept : object_(object), type_(GetFileType(object)) {}

  std::optional<std::size_t> read(std::span<std::byte> out, time_point deadline) override {
    for (;;) {
      if (deadline != never && !wait(deadline)) return std::nullopt;
      dword got = 0;
      auto const most = static_cast<dword>((std::min<std::size_t>)(out.size(), 1U << 30));
      if (ReadFile(object_.get(), out.data(), most, &got, nullptr) == 0) {
        auto const why = GetLastError();
        if (is_pipe_end(why)) return 0;
        if (why != error_more_data) throw_last("ReadFile from a stream", why);
      }
      if (got > 0 || type_ != type_pipe) return got;  // else somebody has written nothing
    }
  }
  std::optional<std::size_t> write(std::span<std::byte const> in, time_point /*deadline*/) override {
    dword put = 0;
    auto const most = static_cast<dword>((std::min<std::size_t>)(in.size(), pipe_room));
    while (put == 0) {
      if (WriteFile(object_.get(), in.data(), most, &put, nullptr) != 0) continue;
      auto const why = GetLastError();
      if (is_pipe_end(why))
        throw std::system_error(std::make_error_code(std::errc::broken_pipe), "polyproc: WriteFile to a stream");
      throw_last("WriteFile to a stream", why);
    }
    return put;
  }
  bool ready() override {
    if (type_ == type_character) return WaitForSingleObject(object_.get(), 0) == wait_signaled;
    dword there = 0;
    return type_ != type_pipe || PeekNamedPipe(object_.get(), nullptr, 0, nullptr, &there, nullptr) == 0 || there > 0;
  }
  [[nodiscard]] handle_type event() const noexcept override {
    return type_ == type_character ? object_.get() : nullptr;
  }
  handle_type handle() override { return object_.get(); }
  std::unique_ptr<stream_state> copy() override {
    scoped_handle second{duplicate(object_.get(), false)};
    auto made = std::make_unique<waiting_stream>(second.get());
    second.release();
    return made;
  }
  void pass(pass_list& to_child) override { to_child.add(object_.get(), static_cast<std::uint64_t>(kind::waiting)); }

 private:
  scoped_handle object_;
  dword const type_;
};

/// What a parent has passed, in the child. The handle is taken over.
inline std::unique_ptr<stream_state> numbered(std::uint64_t from_parent) {
  using kind = stream_state::kind;
  scoped_handle object{as_handle(from_parent >> 16)};
  std::unique_ptr<stream_state> made;
  switch (static_cast<kind>(from_parent & 3)) {
    case kind::socket: {
      made = std::make_unique<socket_stream>(socket_copy(static_cast<socket_type>(as_number(object.get()))));
      if (winsock::get().close(static_cast<socket_type>(as_number(object.get()))) == 0) object.release();
      return made;
    }
    case kind::waiting: made = std::make_unique<waiting_stream>(object.get()); break;
    default: made = std::make_unique<pipe_stream>(object.get(), from_parent);
  }
  object.release();
  return made;
}

/// Streams on their way to a child: duplicates that may be inherited exist only until it has them.
class passing {
 public:
  explicit passing(std::span<std::uint64_t const> streams) {
    streams_.reserve(streams.size());
    try {
      for (auto const one : streams) {
        auto* const state = reinterpret_cast<stream_state*>(static_cast<std::uintptr_t>(one));
        if (state == nullptr)
          throw std::system_error(std::make_error_code(std::errc::bad_file_descriptor),
                                  "polyproc: what is passed to a child is no stream");
        streams_.push_back(state);
        state->pass(list_);
      }
    } catch (...) {
      end();
      throw;
    }
  }
  passing(passing const&) = delete;
  passing& operator=(passing const&) = delete;
  ~passing() { end(); }
  void started() noexcept { started_ = true; }

  [[nodiscard]] pass_list const& list() const noexcept { return list_; }

 private:
  void end() noexcept {
    for (auto* const one : streams_) one->passed(started_);
  }

  std::vector<stream_state*> streams_;
  pass_list list_;
  bool started_ = false;
};

/// And in the child, by place; empty: taken.
class passed_streams {
 public:
  static constexpr std::size_t most = 64;
  static constexpr std::size_t most_numbers = 4096;

  /// False: they were not inherited. What was would be inherited again by every program that is started in the simple way.
  static bool adopt(std::span<std::uint64_t const> numbers) {
    auto const ours = [](std::uint64_t one) { return SetHandleInformation(as_handle(one >> 16), handle_inherit, 0) != 0; };
    while (!numbers.empty()) {
      std::size_t size = 1;
      std::size_t name = 0;
      if ((numbers[0] & pass_list::fifo) != 0) {
        name = static_cast<std::size_t>(numbers[0] >> 8 & 0xFF) + 1;
        if (numbers.size() <= name || numbers[1] > numbers.size() - 1 - name) return false;
        size += name + static_cast<std::size_t>(numbers[1]);
      }
      for (std::size_t i = 0; i < size; ++i) {
        if ((i == 0 || i > name) && !ours(numbers[i])) return false;
      }
      all().emplace_back(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(size));
      numbers = numbers.subspan(size);
    }
    return true;
  }
  static std::vector<std::uint64_t> take(std::size_t place) {
    if (place >= all().size() || all()[place].empty())
      throw std::out_of_range("polyproc: this process was given no stream at that place");
    return std::exchange(all()[place], {});
  }

 private:
  static std::vector<std::vector<std::uint64_t>>& all() {
    static lasting<std::vector<std::vector<std::uint64_t>>> const those;
    return *those;
  }
};

/// Opens the client's end of a pipe of ours. nullptr: not possible, see GetLastError.
inline handle_type open_pipe(std::wstring const& path) {
  scoped_handle end;
  auto const opened = CreateFileW(path.c_str(), access_generic_read | access_generic_write, 0, nullptr, open_existing,
                                  flag_overlapped | only_identify_me, nullptr);
  if (opened == bad_handle()) return nullptr;
  end.reset(opened);
  dword mode = pipe_read_message;
  if (SetNamedPipeHandleState(end.get(), &mode, nullptr, nullptr) == 0) throw_last("SetNamedPipeHandleState");
  return end.release();
}
/// The server's end. nullptr: not possible, see GetLastError.
inline handle_type make_pipe(std::wstring const& path, bool alone) {
  auto const made = CreateNamedPipeW(path.c_str(), pipe_duplex | flag_overlapped | (alone ? flag_first_instance : 0),
                                     pipe_type_message | pipe_read_message | pipe_reject_remote,
                                     alone ? 1 : pipe_any_number, pipe_room, pipe_room, 0, only_for_user());
  return made == bad_handle() ? nullptr : made;
}

}  // namespace polyproc::inline v0_1::detail::win32
