/// Named memory on Windows: sections with a name, which lives as long as somebody has a handle. What the system has no single
/// step for is done under a mutex with a name of its own. A page before the memory says how far it has come.
#pragma once

#include <polyproc/backend/named.hpp>
#include <polyproc/backend/win32_support.hpp>

#include <cstring>
#include <mutex>

namespace polyproc::inline v0_1::detail::win32 {

struct named_sections {
  static constexpr bool named_survives = false;

  static std::optional<named_memory> name_create(std::string_view called, std::size_t size, unsigned /*mode*/,
                                                 void (*fill)(std::byte*, void*), void* context) {
    check_name(called);
    check_named_size(size);
    if (size > SIZE_MAX / 4) throw_named("CreateFileMappingW", called, error_not_enough_memory);
    named_hold const hold{called};
    std::uint64_t const total = std::uint64_t{size} + named_page;
    handle_type const made = CreateFileMappingW(bad_handle(), nullptr, page_readwrite | section_commit,
                                                static_cast<dword>(total >> 32), static_cast<dword>(total & 0xFFFFFFFF),
                                                section_name(called).c_str());
    auto const why = GetLastError();
    if (made == nullptr) throw_named("CreateFileMappingW", called, why);
    named_section section{made, map_write, called};
    if (why == error_already_exists) {
      auto const state = section.head().state.load(std::memory_order_acquire);
      if (state == named_whole) return std::nullopt;
      // Removed; or left half made by a thread that ended, and its process has not: that can be made good.
      if (state == named_removed || section.room() < size) throw_taken(called);
      std::memset(section.memory(), 0, size);
    }
    section.head().size = size;
    if (fill != nullptr) fill(section.memory(), context);
    section.head().state.store(named_whole, std::memory_order_release);
    return section.release();
  }

  static std::optional<named_memory> name_open(std::string_view called, bool writable) {
    check_name(called);
    named_hold const hold{called};
    auto section = open_section(called, writable ? map_write : map_read);
    if (!section) return std::nullopt;
    return section->release();
  }

  /// The name cannot be taken from those who have it open: it is marked instead, and means nothing from then on.
  static bool name_remove(std::string_view called, bool (*wanted)(std::byte const*, std::size_t, void*), void* context) {
    check_name(called);
    named_hold const hold{called};
    auto const section = open_section(called, map_write);
    if (!section || !wanted(section->memory(), static_cast<std::size_t>(section->head().size), context)) return false;
    section->head().state.store(named_removed, std::memory_order_release);
    return true;
  }

  static void name_close(named_memory const& named) noexcept {
    if (named.base == nullptr) return;
    {
      std::scoped_lock hold{ranges_lock_};
      named_ranges_.drop(named.base);
    }
    UnmapViewOfFile(named.base - named_page);
    CloseHandle(as_handle(named.keep));
  }

 protected:
  /// Where named memory lies in this process.
  static inline named_ranges named_ranges_;

 private:
  struct named_head {
    std::atomic<std::uint64_t> state;
    std::uint64_t size;
  };
  static constexpr std::size_t named_page = 4096;
  static constexpr std::uint64_t named_whole = 0x31656d616e796c70;    // "plyname1"; before, and for ever if its maker died: 0
  static constexpr std::uint64_t named_removed = 0x30656d616e796c70;  // "plyname0"

  static std::wstring section_name(std::string_view called) {
    return L"Local\\polyproc." + std::wstring(called.begin(), called.end());
  }

  [[noreturn]] static void throw_named(char const* call, std::string_view called, dword number = GetLastError()) {
    auto const what = "polyproc: " + std::string(call) + " of the memory named " + std::string(called);
    for (dword const no_room : {error_not_enough_memory, error_out_of_memory, error_disk_full, error_no_resources,
                                error_commitment_limit}) {
      if (number == no_room) throw std::system_error(std::make_error_code(std::errc::not_enough_memory), what);
    }
    if (number == error_access_denied)
      throw std::system_error(std::make_error_code(std::errc::permission_denied), what);
    throw std::system_error(static_cast<int>(number), std::system_category(), what);
  }
  [[noreturn]] static void throw_taken(std::string_view called) {
    throw std::system_error(std::make_error_code(std::errc::device_or_resource_busy),
                            "polyproc: the name " + std::string(called) +
                                " was given up, but on this system it stays taken until the last one who has that"
                                " memory open closes it");
  }

  /// The mutex of a name. Its owner's death counts as its release.
  class named_hold {
   public:
    explicit named_hold(std::string_view called) {
      // No section's name begins like this.
      auto const text = L"Local\\polyproc-lock." + std::wstring(called.begin(), called.end());
      mutex_.reset(CreateMutexW(nullptr, 0, text.c_str()));
      if (mutex_.get() == nullptr) throw_named("CreateMutexW", called);
      auto const got = WaitForSingleObject(mutex_.get(), infinite);
      if (got != wait_signaled && got != wait_abandoned) throw_named("WaitForSingleObject", called);
    }
    named_hold(named_hold const&) = delete;
    named_hold& operator=(named_hold const&) = delete;
    ~named_hold() { ReleaseMutex(mutex_.get()); }

   private:
    scoped_handle mutex_;
  };

  /// A section and its mapping, until they are released to a user.
  class named_section {
   public:
    named_section(handle_type section, dword access, std::string_view called) : section_(section) {
      view_ = static_cast<std::byte*>(MapViewOfFile(section, access, 0, 0, 0));
      if (view_ == nullptr) throw_named("MapViewOfFile", called);
      memory_facts facts;
      if (VirtualQuery(view_, reinterpret_cast<_MEMORY_BASIC_INFORMATION*>(&facts), sizeof facts) != 0)
        room_ = facts.size - named_page;
    }
    named_section(named_section&& other) noexcept
        : section_(std::move(other.section_)), view_(std::exchange(other.view_, nullptr)), room_(other.room_) {}
    named_section& operator=(named_section const&) = delete;
    ~named_section() {
      if (view_ != nullptr) UnmapViewOfFile(view_);
    }

    [[nodiscard]] named_head& head() const noexcept { return *reinterpret_cast<named_head*>(view_); }
    [[nodiscard]] std::byte* memory() const noexcept { return view_ + named_page; }
    /// What is there at most, in whole pages.
    [[nodiscard]] std::size_t room() const noexcept { return room_; }

    named_memory release() {
      {
        std::scoped_lock hold{ranges_lock_};
        named_ranges_.add(memory(), static_cast<std::size_t>(head().size));
      }
      named_memory const named{memory(), static_cast<std::size_t>(head().size), as_number(section_.release())};
      view_ = nullptr;
      return named;
    }

   private:
    scoped_handle section_;
    std::byte* view_ = nullptr;
    std::size_t room_ = 0;
  };

  /// Nothing when there is none, or not a whole one any more or yet.
  static std::optional<named_section> open_section(std::string_view called, dword access) {
    handle_type const found = OpenFileMappingW(access, 0, section_name(called).c_str());
    if (found == nullptr) {
      if (GetLastError() == error_file_not_found) return std::nullopt;
      throw_named("OpenFileMappingW", called);
    }
    named_section section{found, access, called};
    bool const whole = section.head().state.load(std::memory_order_acquire) == named_whole;
    if (!whole || section.head().size > section.room()) return std::nullopt;
    return section;
  }

  static inline lasting_mutex ranges_lock_;
};

}  // namespace polyproc::inline v0_1::detail::win32
