/// What the parts of the Windows backend share: errors, handles with a scope, deadlines, text, functions that are looked up.
#pragma once

#include <polyproc/backend/concept.hpp>
#include <polyproc/backend/win32_api.hpp>

#include <algorithm>
#include <system_error>

// <windows.h>, if the program has included it before, may have made macros of min and max: in these files they are
// called in parentheses.

namespace polyproc::inline v0_1::detail::win32 {

template <class Function>
Function kernel(char const* function_name) noexcept {
  return lookup<Function>(L"kernel32.dll", function_name);
}

[[noreturn]] inline void throw_last(char const* call, dword number = GetLastError()) {
  throw std::system_error(static_cast<int>(number), std::system_category(), std::string("polyproc: ") + call);
}

/// With what it was about in the message. The usual reasons are those that every system has.
[[noreturn]] inline void throw_path(char const* call, std::string const& path, dword number = GetLastError()) {
  auto const what = "polyproc: " + std::string(call) + " of " + path;
  auto const known = [&](std::errc reason) -> void { throw std::system_error(std::make_error_code(reason), what); };
  if (number == error_file_not_found || number == error_path_not_found) known(std::errc::no_such_file_or_directory);
  if (number == error_access_denied) known(std::errc::permission_denied);
  if (number == error_directory) known(std::errc::not_a_directory);
  throw std::system_error(static_cast<int>(number), std::system_category(), what);
}

/// Without a destructor: threads may use a static one while the program ends.
class lasting_mutex {
 public:
  void lock() noexcept { AcquireSRWLockExclusive(system()); }
  void unlock() noexcept { ReleaseSRWLockExclusive(system()); }

 private:
  _RTL_SRWLOCK* system() noexcept { return reinterpret_cast<_RTL_SRWLOCK*>(&word_); }
  void* word_ = nullptr;  // all that the system's one is made of
};

/// A handle that is closed with its scope, for the paths on which something throws.
class scoped_handle {
 public:
  scoped_handle() = default;
  explicit scoped_handle(handle_type h) noexcept : handle_(h) {}
  scoped_handle(scoped_handle&& other) noexcept : handle_(other.release()) {}
  scoped_handle& operator=(scoped_handle&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~scoped_handle() { reset(); }

  [[nodiscard]] handle_type get() const noexcept { return handle_; }
  handle_type release() noexcept { return std::exchange(handle_, nullptr); }
  void reset(handle_type h = nullptr) noexcept {
    if (handle_ != nullptr) CloseHandle(handle_);
    handle_ = h;
  }

 private:
  handle_type handle_ = nullptr;
};

/// The milliseconds to wait for a deadline: rounded up, so that no wait returns early and spins.
inline dword wait_milliseconds(time_point now, time_point deadline) noexcept {
  if (deadline == never) return infinite;
  if (deadline <= now) return 0;
  auto const left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
  return left >= 0x7FFFFFFF ? 0x7FFFFFFF : static_cast<dword>(left);
}

/// Waits for a kernel object. False at the deadline.
inline bool wait_for(handle_type object, time_point deadline) {
  for (;;) {
    auto const now = std::chrono::steady_clock::now();
    auto const got = WaitForSingleObject(object, wait_milliseconds(now, deadline));
    if (got == wait_signaled) return true;
    if (got != wait_timed_out) throw_last("WaitForSingleObject");
    if (std::chrono::steady_clock::now() >= deadline) return false;
  }
}

inline std::wstring widen(std::string_view text) {
  int const size = static_cast<int>(text.size());
  int const need = size == 0 ? 0 : MultiByteToWideChar(code_page_utf8, 0, text.data(), size, nullptr, 0);
  std::wstring wide(static_cast<std::size_t>(need), L'\0');
  if (need > 0) MultiByteToWideChar(code_page_utf8, 0, text.data(), size, wide.data(), need);
  return wide;
}

inline std::string narrow(std::wstring_view text) {
  int const size = static_cast<int>(text.size());
  int const need =
      size == 0 ? 0 : WideCharToMultiByte(code_page_utf8, 0, text.data(), size, nullptr, 0, nullptr, nullptr);
  std::string bytes(static_cast<std::size_t>(need), '\0');
  if (need > 0) WideCharToMultiByte(code_page_utf8, 0, text.data(), size, bytes.data(), need, nullptr, nullptr);
  return bytes;
}

/// The absolute path of a module; of the program for nullptr.
inline std::wstring module_path(HINSTANCE__* module) {
  std::wstring path(260, L'\0');
  for (;;) {
    auto const got = GetModuleFileNameW(module, path.data(), static_cast<dword>(path.size()));
    if (got == 0) throw_last("GetModuleFileNameW");
    if (got < path.size()) {
      path.resize(got);
      return path;
    }
    path.resize(path.size() * 2);  // cut off: longer than that
  }
}

inline void append_number(std::wstring& text, std::uint64_t number, unsigned base = 16) {
  wchar_t digits[20];
  int n = 0;
  do digits[n++] = L"0123456789abcdef"[number % base];
  while ((number /= base) != 0);
  while (n > 0) text += digits[--n];
}

inline std::uint64_t as_number(handle_type h) noexcept { return reinterpret_cast<std::uintptr_t>(h); }
inline handle_type as_handle(std::uint64_t n) noexcept {
  return reinterpret_cast<handle_type>(static_cast<std::uintptr_t>(n));
}

/// A second handle to the same object. nullptr: impossible.
inline handle_type try_duplicate(handle_type h, bool inherit) noexcept {
  handle_type copy = nullptr;
  auto const here = GetCurrentProcess();
  return DuplicateHandle(here, h, here, &copy, 0, inherit ? 1 : 0, same_access) != 0 ? copy : nullptr;
}
inline handle_type duplicate(handle_type h, bool inherit) {
  handle_type const copy = try_duplicate(h, inherit);
  if (copy == nullptr) throw_last("DuplicateHandle");
  return copy;
}

/// This process's own stream 0, 1 or 2; nullptr: it has none.
inline handle_type standard_stream(int number) noexcept {
  dword const which[3] = {std_input, std_output, std_error};
  handle_type const own = GetStdHandle(which[number]);
  return own == bad_handle() ? nullptr : own;
}

/// Throws std::system_error.
inline void random_bytes(std::span<std::byte> out) {
  using generate_function = long(__stdcall*)(void*, unsigned char*, dword, dword);
  constexpr dword preferred_generator = 2;
  auto* const generate = lookup<generate_function>(L"bcrypt.dll", "BCryptGenRandom");
  if (generate == nullptr) throw_last("LoadLibraryExW of bcrypt.dll");
  while (!out.empty()) {
    auto const part = out.first((std::min<std::size_t>)(out.size(), 1U << 20));
    auto const status = generate(nullptr, reinterpret_cast<unsigned char*>(part.data()),
                                 static_cast<dword>(part.size()), preferred_generator);
    if (status < 0) throw_last("BCryptGenRandom", static_cast<dword>(status));
    out = out.subspan(part.size());
  }
}

/// The time at which a process was created, in units of 100 ns; 0 if it is not told.
inline std::uint64_t created_process(handle_type process) noexcept {
  filetime all[4];
  auto const at = [&](int i) { return reinterpret_cast<_FILETIME*>(&all[i]); };
  if (GetProcessTimes(process, at(0), at(1), at(2), at(3)) == 0) return 0;
  return std::uint64_t{all[0].high} << 32 | all[0].low;
}

}  // namespace polyproc::inline v0_1::detail::win32
