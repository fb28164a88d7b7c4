/// Connections, listeners and FIFOs on Windows: the functions of stream_backend (concept.hpp).
#pragma once

#include <polyproc/backend/win32_fifo.hpp>

namespace polyproc::inline v0_1::detail::win32 {

/// The functions of stream_backend.
struct streams {
  /// Each costs a pipe. Those who come when none is free wait (in connect) until one is accepted.
  static constexpr int most_doors = 64;

  struct stream {
    stream_state* state = nullptr;
    friend bool operator==(stream const&, stream const&) = default;
  };

  struct acceptor {
    endpoint where;
    scoped_handle name;  // tells others that somebody listens
    scoped_socket socket;
    std::unique_ptr<doorway> doors;

    acceptor() = default;
    acceptor(acceptor&&) noexcept = default;
    acceptor& operator=(acceptor&& other) noexcept {
      close();
      where = std::move(other.where);
      name = std::move(other.name);
      socket = std::move(other.socket);
      doors = std::move(other.doors);
      return *this;
    }
    ~acceptor() = default;
    void close() noexcept {
      doors.reset();
      socket.reset();
      name.reset();
    }
  };

  static std::pair<stream, stream> stream_pair() {
    std::array<std::byte, 16> id;
    random_bytes(id);
    std::wstring path = L"\\\\.\\pipe\\polyproc-";
    for (std::byte const b : id) append_number(path, 0x100 | std::to_integer<unsigned>(b));
    scoped_handle one{make_pipe(path, true)};
    if (one.get() == nullptr) throw_last("CreateNamedPipeW");
    scoped_handle other{open_pipe(path)};
    if (other.get() == nullptr) throw_last("CreateFileW for the other end of a pipe");
    auto first = std::make_unique<pipe_stream>(one.get());
    one.release();
    auto second = std::make_unique<pipe_stream>(other.get());
    other.release();
    return {stream{first.release()}, stream{second.release()}};
  }

  static std::optional<std::size_t> stream_read(stream s, std::span<std::byte> out, time_point deadline) {
    return of(s).read(out, deadline);
  }
  static std::optional<std::size_t> stream_write(stream s, std::span<std::byte const> in, time_point deadline) {
    return of(s).write(in, deadline);
  }
  static bool stream_wait(stream s, time_point deadline) { return of(s).wait(deadline); }
  static void stream_shutdown_write(stream s) { of(s).shut_write(); }
  static void stream_close(stream s) noexcept { delete s.state; }
  static stream stream_copy(stream s) { return {of(s).copy().release()}; }

  static stream stream_of(handle_type h) {
    auto const type = GetFileType(h);
    dword flags = 0;
    if (type == 0 && GetLastError() != 0) throw_last("GetFileType of a handle that is to be a stream");
    SetHandleInformation(h, handle_inherit, 0);
    if (type == type_pipe && GetNamedPipeInfo(h, &flags, nullptr, nullptr, nullptr) == 0) {
      never_wait(static_cast<socket_type>(as_number(h)));
      return {new socket_stream(scoped_socket(static_cast<socket_type>(as_number(h))))};
    }
    if (type != type_pipe || is_waiting_file(h)) return {new waiting_stream(h)};
    dword mode = pipe_read_message;
    bool const messages =
        (flags & pipe_type_message) != 0 && SetNamedPipeHandleState(h, &mode, nullptr, nullptr) != 0;
    return {new pipe_stream(h, messages ? stream_state::kind::message_pipe : stream_state::kind::byte_pipe)};
  }
  static handle_type stream_handle(stream s) { return of(s).handle(); }
  static handle_type acceptor_handle(acceptor const& a) noexcept { return a.doors ? a.doors->event() : nullptr; }

  static bool streams_wait(acceptor const* waits_for, std::span<stream_look<stream>> looks, time_point deadline) {
    std::vector<handle_type> events;
    for (;;) {
      bool const comes = waits_for != nullptr && waits_for->doors && waits_for->doors->refresh();
      bool any = comes;
      for (auto& one : looks) {
        one.ready = one.stream.state != nullptr && one.stream.state->ready();
        any = any || one.ready;
      }
      auto const now = std::chrono::steady_clock::now();
      if (any || now >= deadline) return comes;
      auto until = deadline;
      events.clear();
      if (waits_for != nullptr && waits_for->doors) events.push_back(waits_for->doors->event());
      for (auto const& one : looks) {
        if (one.stream.state == nullptr) continue;
        if (auto const event = one.stream.state->event())
          events.push_back(event);
        else
          until = (std::min)(deadline, now + std::chrono::milliseconds(stream_state::glance));
      }
      wait_for_one(events, until);
    }
  }

  // --- to a child

  static constexpr std::size_t most_passed = passed_streams::most;
  static stream take_passed(std::size_t place) {
    auto const numbers = passed_streams::take(place);
    if ((numbers[0] & pass_list::fifo) != 0) return {fifo_names::reader(numbers).release()};
    return {numbered(numbers[0]).release()};
  }
  static std::uint64_t stream_number(stream s) noexcept { return reinterpret_cast<std::uintptr_t>(s.state); }
  static stream stream_numbered(std::uint64_t number) noexcept {
    return {reinterpret_cast<stream_state*>(static_cast<std::uintptr_t>(number))};
  }

  // --- by name

  static acceptor listen(endpoint const& where, int backlog) {
    acceptor made;
    made.where = where;
    if (where.how == endpoint::kind::tcp) {
      made.socket = tcp_listen(made.where, backlog);
      auto const s = made.socket.get();
      auto* const accept_function = accept_ex(s);
      made.doors = std::make_unique<doorway>([=] { return std::make_unique<socket_door>(s, accept_function); }, 1);
      return made;
    }
    place_name const place(where.name, "socket");
    made.name.reset(CreateEventW(only_for_user(), 1, 0, place.event.c_str()));
    auto const why = GetLastError();
    if (made.name.get() == nullptr || why == error_already_exists) {
      made.name.reset();
      if (why == error_already_exists || why == error_access_denied || why == error_invalid_handle)
        throw_place("somebody accepts connections there: CreateNamedPipeW", where.name, std::errc::address_in_use);
      throw_place("CreateEventW", where.name, why);
    }
    auto const count = static_cast<std::size_t>((std::clamp)(backlog, 1, most_doors));
    made.doors = std::make_unique<doorway>(
        [path = place.pipe, name = where.name] {
          auto one = std::make_unique<pipe_door>(path);
          // Somebody else may have made the first pipe of that name, and so say who may come in.
          if (!is_of_user(one->pipe())) throw_place("CreateNamedPipeW", name, std::errc::address_in_use);
          return one;
        },
        count);
    return made;
  }

  static std::optional<stream> accept(acceptor& a, time_point deadline) {
    if (!a.doors)
      throw std::system_error(std::make_error_code(std::errc::bad_file_descriptor), "polyproc: nothing is accepted here");
    for (;;) {
      if (auto got = a.doors->take()) return stream{got.release()};
      if (!wait_for(a.doors->event(), deadline)) return std::nullopt;
    }
  }
  static endpoint acceptor_endpoint(acceptor const& a) { return a.where; }
  static void acceptor_close(acceptor& a) noexcept { a.close(); }

  static std::optional<stream> connect(endpoint const& where, time_point deadline) {
    if (where.how == endpoint::kind::tcp) {
      auto const made = tcp_connect(where, deadline);
      if (!made) return std::nullopt;
      return stream{new socket_stream(scoped_socket(*made))};
    }
    place_name const place(where.name, "socket");
    scoped_handle end{reach_pipe(place.pipe, where.name, deadline, false, [&] {
      return scoped_handle(OpenEventW(synchronize, 0, place.event.c_str())).get() != nullptr;
    })};
    return end.get() == nullptr ? std::nullopt : std::optional(stream{own_pipe(end, nullptr, false)});
  }

  // --- FIFOs

  static bool fifo_create(std::string const& name, unsigned /*mode*/) {
    return fifo_names::create(place_name(name, "fifo"), name);
  }
  static std::optional<stream> fifo_open(std::string const& name, bool reading, time_point deadline) {
    place_name const place(name, "fifo");
    auto keep = fifo_names::open(place, name);
    if (keep.get() == nullptr) throw_place("OpenEventW", name, error_file_not_found);
    if (reading) return stream{fifo_names::reader(place, name, std::move(keep)).release()};
    scoped_handle end{reach_pipe(place.pipe, name, deadline, true, [&] {
      return WaitForSingleObject(keep.get(), 0) != wait_signaled;
    })};
    return end.get() == nullptr ? std::nullopt : std::optional(stream{own_pipe(end, keep.release(), true)});
  }
  static bool fifo_remove(std::string const& name) { return fifo_names::remove(place_name(name, "fifo"), name); }

 private:
  static stream_state& of(stream s) {
    if (s.state == nullptr)
      throw std::system_error(std::make_error_code(std::errc::bad_file_descriptor), "polyproc: this is no stream");
    return *s.state;
  }
  static stream_state* own_pipe(scoped_handle& end, handle_type keep, bool one_way) {
    scoped_handle kept{keep};
    auto made = std::make_unique<pipe_stream>(end.get(), stream_state::kind::message_pipe, one_way, keep);
    end.release();
    kept.release();
    return made.release();
  }
};

}  // namespace polyproc::inline v0_1::detail::win32
