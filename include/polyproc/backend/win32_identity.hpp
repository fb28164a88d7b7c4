/// Who a thread or a process is, on Windows, and whether it is still there.
#pragma once

#include <polyproc/backend/win32_support.hpp>

#include <mutex>
#include <vector>

namespace polyproc::inline v0_1::detail::win32 {

/// An identity is the thread's number, and the time at which it was created. Numbers are multiples of 4, and below 2^26.
/// The time is in units of 102.4 us, which wrap after 162 days. The system's clock may advance as slowly as every 16 ms,
/// and numbers are reused at once; see keep_number. That of a process is made in the same way, and bears a bit that says so.
struct identities {
  static std::uint64_t self() noexcept {
    static thread_local std::uint64_t mine = 0;
    if (mine == 0) {
      mine = pack(GetCurrentThreadId(), created(GetCurrentThread()));
      keep_number();
    }
    return mine;
  }

  static std::uint64_t process_self() noexcept {
    return process_identity(GetCurrentProcessId(), created_process(GetCurrentProcess()));
  }

  static bool alive(std::uint64_t id) noexcept {
    auto const number = static_cast<dword>((id & number_mask) << 2);
    if ((id & process_bit) != 0) {
      scoped_handle const process{OpenProcess(process_look | synchronize, 0, number)};
      if (process.get() == nullptr) return GetLastError() != error_invalid_parameter;
      if (WaitForSingleObject(process.get(), 0) == wait_signaled) return false;
      auto const begun = created_process(process.get());
      return begun == 0 || process_identity(number, begun) == id;
    }
    scoped_handle const thread{OpenThread(thread_access, 0, number)};
    if (thread.get() == nullptr) return GetLastError() != error_invalid_parameter;  // else: hidden from us, but there
    if (WaitForSingleObject(thread.get(), 0) == wait_signaled) return false;
    auto const since = created(thread.get());
    return since == 0 || pack(number, since) == id;
  }

 protected:
  static constexpr std::uint64_t process_bit = 1ULL << 61;
  static constexpr int number_bits = 24;
  static constexpr std::uint64_t number_mask = (1ULL << number_bits) - 1;

  static std::uint64_t pack(dword number, std::uint64_t since) noexcept {
    return ((since >> 10) << number_bits | (number >> 2 & number_mask)) & (process_bit - 1);
  }
  static std::uint64_t process_identity(dword number, std::uint64_t since) noexcept {
    return process_bit | pack(number, since);
  }

 private:
  static std::uint64_t created(handle_type thread) noexcept {
    filetime made;
    filetime ended;
    filetime kernel_time;
    filetime user_time;
    auto const at = [](filetime& t) { return reinterpret_cast<_FILETIME*>(&t); };
    if (GetThreadTimes(thread, at(made), at(ended), at(kernel_time), at(user_time)) == 0) return 0;
    return std::uint64_t{made.high} << 32 | made.low;
  }

  /// A thread's number is not given to another one while somebody has a handle to the thread. So this process keeps
  /// one to each of its threads that has an identity, until some time after the thread has ended: the next one
  /// with the same number then has another time of creation, however slowly the clock ticks.
  static void keep_number() noexcept {
    try {
      std::scoped_lock hold{kept_lock_};
      auto const present = std::chrono::steady_clock::now();
      // A few of the old ones are looked at each time a new one comes, so there are never many more than threads.
      auto& kept = kept_threads();
      for (int i = 0; i < 4 && !kept.empty(); ++i) {
        kept_next_ = (kept_next_ + 1) % kept.size();
        auto& old = kept[kept_next_];
        if (WaitForSingleObject(old.thread, 0) != wait_signaled) continue;
        if (old.ended == time_point{}) {
          old.ended = present;
        } else if (present - old.ended > std::chrono::milliseconds(64)) {
          CloseHandle(old.thread);
          old = kept.back();
          kept.pop_back();
        }
      }
      scoped_handle copy;
      handle_type raw = nullptr;
      if (DuplicateHandle(GetCurrentProcess(), GetCurrentThread(), GetCurrentProcess(), &raw, thread_access, 0, 0) == 0)
        return;
      copy.reset(raw);
      kept.push_back({raw, time_point{}});
      copy.release();
    } catch (...) {  // no memory: then without
    }
  }

  struct kept_thread {
    handle_type thread = nullptr;
    time_point ended{};
  };
  /// Never destroyed: threads may come while the program's static objects go.
  static std::vector<kept_thread>& kept_threads() {
    static auto* const all = new std::vector<kept_thread>;
    return *all;
  }

  static inline lasting_mutex kept_lock_;
  static inline std::size_t kept_next_ = 0;
};

}  // namespace polyproc::inline v0_1::detail::win32
