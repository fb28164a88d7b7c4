/// Pipes on Windows: named ones, since only those can be waited for with a deadline. And waiting for many things at once.
#pragma once

#include <polyproc/backend/win32_waiting.hpp>

#include <array>
#include <memory>

namespace polyproc::inline v0_1::detail::win32 {

struct pipes {
  /// The name of a pipe is a random number, no second instance is possible and it takes one writer, which we are.
  static std::pair<handle_type, handle_type> pipe_create() {
    std::array<std::byte, 16> id;
    random_bytes(id);
    std::wstring path = L"\\\\.\\pipe\\polyproc-";
    for (std::byte const b : id) append_number(path, 0x100 | std::to_integer<unsigned>(b));
    constexpr dword buffer = 64 * 1024;
    handle_type const read = CreateNamedPipeW(path.c_str(), pipe_inbound | flag_overlapped | flag_first_instance,
                                              pipe_reject_remote, 1, buffer, buffer, 0, nullptr);
    if (read == bad_handle()) throw_last("CreateNamedPipeW");
    scoped_handle guard{read};
    handle_type const write = CreateFileW(path.c_str(), access_generic_write, 0, nullptr, open_existing, 0, nullptr);
    if (write == bad_handle()) throw_last("CreateFileW for the write end of a pipe");
    return {guard.release(), write};
  }

  static std::size_t pipe_read(handle_type h, std::span<std::byte> out) {
    if (out.empty()) return 0;
    io_event const event;
    for (;;) {
      overlapped request;
      request.event = event.get();
      auto* const parameter = reinterpret_cast<_OVERLAPPED*>(&request);
      auto const most = static_cast<dword>((std::min<std::size_t>)(out.size(), 1U << 30));
      dword got = 0;
      if (ReadFile(h, out.data(), most, nullptr, parameter) == 0) {
        auto const why = GetLastError();
        if (why == error_broken_pipe) return 0;
        if (why != error_io_pending) throw_last("ReadFile from a pipe", why);
      }
      if (GetOverlappedResult(h, parameter, &got, 1) == 0) {
        auto const why = GetLastError();
        if (why == error_broken_pipe) return 0;
        throw_last("ReadFile from a pipe", why);
      }
      if (got > 0) return got;  // nothing: somebody wrote nothing; that is not the end here
    }
  }

  static void pipe_write(handle_type h, std::span<std::byte const> in) {
    while (!in.empty()) {
      auto const most = static_cast<dword>((std::min<std::size_t>)(in.size(), 1U << 30));
      dword put = 0;
      if (WriteFile(h, in.data(), most, &put, nullptr) == 0) {
        auto const why = GetLastError();
        if (why == error_no_data || why == error_broken_pipe)
          throw std::system_error(std::make_error_code(std::errc::broken_pipe), "polyproc: WriteFile to a pipe");
        throw_last("WriteFile to a pipe", why);
      }
      in = in.subspan(put);
    }
  }

  static bool pipe_wait(handle_type h, time_point deadline) {
    for (;;) {
      if (has_bytes(h)) return true;
      if (std::chrono::steady_clock::now() >= deadline) return false;
      empty_read const read{h};
      if (read.pending()) wait_for(read.event(), deadline);
    }
  }

  /// Pipes take part through an empty read each, everything else is waited for itself. A pipe that others have opened in
  /// the simple way cannot be read without waiting: it is looked at again and again.
  static std::optional<std::size_t> wait_any(std::span<handle_type const> handles, time_point deadline) {
    for (;;) {
      for (std::size_t i = 0; i < handles.size(); ++i) {
        if (is_ready(handles[i])) return i;
      }
      if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
      std::vector<std::unique_ptr<empty_read>> reads;
      std::vector<handle_type> objects;
      bool again = false;
      auto until = deadline;
      for (handle_type const h : handles) {
        if (h == nullptr) continue;
        bool const pipe = GetFileType(h) == type_pipe;
        if (pipe && is_waiting_file(h)) {
          until = (std::min)(deadline, std::chrono::steady_clock::now() + std::chrono::milliseconds(5));
        } else if (pipe) {
          reads.push_back(std::make_unique<empty_read>(h));
          again = again || !reads.back()->pending();
          objects.push_back(reads.back()->event());
        } else {
          objects.push_back(h);
        }
      }
      if (!again) wait_for_one(objects, until);
    }
  }

 private:
  /// A read of nothing, which is finished when there is something to read. It is called off with its scope.
  class empty_read {
   public:
    explicit empty_read(handle_type pipe) : pipe_(pipe) {
      request_.event = event_.get();
      ResetEvent(request_.event);
      if (ReadFile(pipe, &nothing_, 0, nullptr, parameter()) != 0) return;
      auto const why = GetLastError();
      if (why != error_io_pending && why != error_broken_pipe) throw_last("ReadFile from a pipe", why);
      pending_ = why == error_io_pending;
    }
    empty_read(empty_read const&) = delete;
    empty_read& operator=(empty_read const&) = delete;
    ~empty_read() {
      if (!pending_) return;
      dword got = 0;
      CancelIoEx(pipe_, parameter());
      GetOverlappedResult(pipe_, parameter(), &got, 1);  // it must not be left while the system knows it
    }
    /// False: it is finished already.
    [[nodiscard]] bool pending() const noexcept { return pending_; }
    [[nodiscard]] handle_type event() const noexcept { return request_.event; }

   private:
    _OVERLAPPED* parameter() noexcept { return reinterpret_cast<_OVERLAPPED*>(&request_); }

    handle_type pipe_;
    io_event event_;
    overlapped request_;
    std::byte nothing_{};
    bool pending_ = false;
  };

  static bool has_bytes(handle_type pipe) {
    dword there = 0;
    if (PeekNamedPipe(pipe, nullptr, 0, nullptr, &there, nullptr) != 0) return there > 0;
    auto const why = GetLastError();
    if (why == error_broken_pipe) return true;  // the end of the file
    throw_last("PeekNamedPipe", why);
  }

  static bool is_ready(handle_type h) {
    if (h == nullptr) return false;
    if (GetFileType(h) == type_pipe) return has_bytes(h);
    auto const got = WaitForSingleObject(h, 0);
    if (got != wait_signaled && got != wait_timed_out) throw_last("WaitForSingleObject");
    return got == wait_signaled;
  }
};

}  // namespace polyproc::inline v0_1::detail::win32
