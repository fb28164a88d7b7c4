/// The Windows backend: shared memory as sections, parking on named events, children by CreateProcess and in job objects.
/// Its rooms have a file each.
#pragma once

#include <polyproc/backend/concept.hpp>
#include <polyproc/backend/win32_children.hpp>
#include <polyproc/backend/win32_code.hpp>
#include <polyproc/backend/win32_listen.hpp>
#include <polyproc/backend/win32_named.hpp>
#include <polyproc/backend/win32_pipes.hpp>
#include <polyproc/backend/whole_fences.hpp>
#include <polyproc/backend/win32_surroundings.hpp>

namespace polyproc::inline v0_1 {

struct win32_backend : detail::win32::children,
                       detail::win32::named_sections,
                       detail::win32::pipes,
                       detail::win32::streams,
                       detail::win32::code_places,
                       detail::win32::surroundings,
                       detail::whole_fences {
  template <class T>
  using atomic = std::atomic<T>;
  using handle = void*;

  static constexpr std::string_view name = "win32";
  static constexpr handle invalid_handle = nullptr;
  static constexpr bool has_fork = false;
  static constexpr bool exit_holds_lock = true;

  static time_point now() noexcept { return std::chrono::steady_clock::now(); }
  static void yield() noexcept { detail::win32::SwitchToThread(); }

  // --- parking

  static void wait(atomic<std::uint32_t> const& word, std::uint32_t expected, time_point deadline) noexcept {
    if (named_ranges_.hold(&word))
      detail::wait_in_named(word, expected, [&](std::chrono::microseconds length) { nap(length, deadline); });
    else if (word.load(std::memory_order_acquire) == expected && now() < deadline)
      parking::wait(word, expected, deadline);
  }
  static void wake_one(atomic<std::uint32_t>& word) noexcept { wake_all(word); }
  static void wake_all(atomic<std::uint32_t>& word) noexcept {
    if (!named_ranges_.hold(&word)) parking::wake(word);
  }

  static void wait_for_some(std::span<word_wait<atomic<std::uint32_t>> const> words, std::span<handle const> handles,
                            time_point deadline) {
    parking::wait_for_some(
        words, handles, deadline, [](void const* word) { return !named_ranges_.hold(word); },
        [](std::span<handle const> all, time_point until) { return wait_any(all, until); });
  }

  // --- handles

  static handle handle_duplicate(handle h) { return detail::win32::duplicate(h, false); }
  static void handle_close(handle h) noexcept {
    if (h != nullptr) detail::win32::CloseHandle(h);
  }

  // --- odds and ends

  /// There is no fork here.
  static void at_fork_child(void (*)()) noexcept {}

  [[noreturn]] static void exit_now(int code) noexcept {
    using namespace detail::win32;
    for (;;) TerminateProcess(GetCurrentProcess(), static_cast<unsigned>(code));
  }

  static void random(std::span<std::byte> out) { detail::win32::random_bytes(out); }

 private:
  /// The system's own sleep is of milliseconds, and of 15 on many machines.
  static void nap(std::chrono::microseconds length, time_point deadline) noexcept {
    using namespace detail::win32;
    auto const until = (std::min)(deadline, now() + length);
    while (now() < until) {
      if (until - now() >= std::chrono::milliseconds{1})
        Sleep(1);
      else
        SwitchToThread();
    }
  }
};

static_assert(backend<win32_backend>);

}  // namespace polyproc::inline v0_1
