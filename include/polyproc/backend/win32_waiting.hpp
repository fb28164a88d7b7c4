/// How the parts of the Windows backend wait: events for operations that go on meanwhile, and many objects at once.
#pragma once

#include <polyproc/backend/win32_support.hpp>

#include <array>
#include <atomic>

namespace polyproc::inline v0_1::detail::win32 {

/// An event for one overlapped operation; a few are kept for the next.
class io_event {
 public:
  io_event() {
    for (auto& slot : spare_) {
      if (auto const there = slot.exchange(nullptr, std::memory_order_acquire)) {
        event_ = there;
        return;
      }
    }
    event_ = CreateEventW(nullptr, 1, 0, nullptr);
    if (event_ == nullptr) throw_last("CreateEventW");
  }
  io_event(io_event const&) = delete;
  io_event& operator=(io_event const&) = delete;
  ~io_event() {
    for (auto& slot : spare_) {
      handle_type none = nullptr;
      if (slot.compare_exchange_strong(none, event_, std::memory_order_release, std::memory_order_relaxed)) return;
    }
    CloseHandle(event_);
  }
  [[nodiscard]] handle_type get() const noexcept { return event_; }

 private:
  handle_type event_ = nullptr;
  static inline std::array<std::atomic<handle_type>, 8> spare_{};
};

/// Whether a file or pipe was opened in the simple way: then every read and write of it waits as long as it takes.
inline bool is_waiting_file(handle_type h) noexcept {
  constexpr int mode_information = 16;         // FileModeInformation
  constexpr std::uint32_t waiting = 0x10 | 0x20;  // FILE_SYNCHRONOUS_IO_(NON)ALERT
  auto* const query = lookup<query_file_function>(L"ntdll.dll", "NtQueryInformationFile");
  std::array<ulong_ptr, 2> status{};
  std::uint32_t mode = 0;
  return query != nullptr && query(h, status.data(), &mode, sizeof mode, mode_information) >= 0 && (mode & waiting) != 0;
}

inline void __stdcall set_event(void* event, unsigned char) { SetEvent(event); }

/// One call takes 64 at most. So the system's own pool of threads is asked to set an event when any of them is signaled.
inline void wait_for_many(std::vector<handle_type> const& objects, time_point deadline) {
  io_event const woken;
  ResetEvent(woken.get());
  struct registrations {
    std::vector<handle_type> all;
    ~registrations() {
      for (handle_type const one : all) UnregisterWaitEx(one, bad_handle());  // and waits for what it has called
    }
  } waits;
  waits.all.reserve(objects.size());
  for (handle_type const object : objects) {
    handle_type registered = nullptr;
    if (RegisterWaitForSingleObject(&registered, object, &set_event, woken.get(), infinite,
                                    wait_in_wait_thread | wait_only_once) == 0)
      throw_last("RegisterWaitForSingleObject");
    waits.all.push_back(registered);
  }
  wait_for(woken.get(), deadline);
}

/// Until one of them is signaled, the deadline, or a while.
inline void wait_for_one(std::vector<handle_type> const& objects, time_point deadline) {
  auto const most = wait_milliseconds(std::chrono::steady_clock::now(), deadline);
  if (objects.empty()) return Sleep(most);
  if (objects.size() > most_wait_objects) return wait_for_many(objects, deadline);
  auto const got = WaitForMultipleObjects(static_cast<dword>(objects.size()), objects.data(), 0, most);
  if (got >= objects.size() && got != wait_timed_out) throw_last("WaitForMultipleObjects");
}

}  // namespace polyproc::inline v0_1::detail::win32
