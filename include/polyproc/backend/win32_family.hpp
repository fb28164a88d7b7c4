/// Shared memory on Windows: sections, the family's segment among them, and parking on the words in it.
#pragma once

#include <polyproc/backend/gate_parking.hpp>
#include <polyproc/backend/win32_support.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>

namespace polyproc::inline v0_1::detail::win32 {

struct segments {
  static handle_type segment_create(std::size_t size) {
    return make_section(size, section_commit, "CreateFileMappingW for shared memory");
  }
  static std::byte* segment_map(handle_type h, std::size_t size, bool writable) {
    void* const at = MapViewOfFile(h, writable ? map_write : map_read, 0, 0, size);
    if (at == nullptr) throw_last("MapViewOfFile of shared memory");
    return static_cast<std::byte*>(at);
  }
  static void segment_unmap(std::byte* memory, std::size_t) noexcept {
    if (memory != nullptr) UnmapViewOfFile(memory);
  }

  static family_segment family() {
    if (family_ready_.load(std::memory_order_acquire)) return family_;
    std::scoped_lock hold{family_lock_};
    if (!family_ready_.load(std::memory_order_relaxed)) make_family();
    return family_;
  }

  /// Its pages are memory only once they were committed through family(); until then they fault here.
  static family_segment family_read_only() {
    auto const whole = family();
    if (auto* const there = read_view_.load(std::memory_order_acquire)) return {there, whole.size};
    std::scoped_lock hold{family_lock_};
    auto* view = read_view_.load(std::memory_order_relaxed);
    if (view == nullptr) {
      view = segment_map(family_handle_, whole.size, false);
      read_view_.store(view, std::memory_order_release);
    }
    return {view, whole.size};
  }

  /// The family's segment is address space without memory at first. Each process says for itself what it is going
  /// to touch; saying it again for what another one has said leaves the contents alone. What it has said once is not
  /// said again: that is a call into the system, and there is one for each use of an offset. Pages of a section stay
  /// committed as long as there is the section, so the notes never have to be taken back.
  static bool commit(std::byte* memory, std::size_t size) noexcept {
    if (!family_ready_.load(std::memory_order_acquire)) return commit_pages(memory, size);
    auto const at = static_cast<std::size_t>(memory - family_.base);
    if (at >= family_.size || size > family_.size - at) return commit_pages(memory, size);
    if (size == 0) return true;
    auto const first = at / noted_unit;
    auto const last = (at + size - 1) / noted_unit;
    bool said = true;
    for (auto i = first; said && i <= last; ++i) said = (noted_[i / 64].load(std::memory_order_relaxed) >> i % 64 & 1) != 0;
    if (said) return true;
    auto const from = first * noted_unit;
    if (!commit_pages(family_.base + from, std::min((last + 1) * noted_unit, family_.size) - from))
      return commit_pages(memory, size);  // no memory for what was rounded up, perhaps
    for (auto i = first; i <= last; ++i) noted_[i / 64].fetch_or(std::uint64_t{1} << i % 64, std::memory_order_relaxed);
    return true;
  }
  /// The pages stay charged to the system's commit limit (a section cannot give them back one by one), but they are
  /// not written to the page file any more.
  static void discard(std::byte* memory, std::size_t size) noexcept {
    constexpr std::uintptr_t page = 4096;
    auto const at = reinterpret_cast<std::uintptr_t>(memory);
    auto const from = (at + page - 1) / page * page;
    auto const to = (at + size) / page * page;
    if (from < to) VirtualAlloc(memory + (from - at), to - from, mem_reset, page_readwrite);
  }

 private:
  /// Gates are manual-reset events, found by the family's number, the bucket and the gate. An event that is set
  /// releases everybody who waits for it at that moment, even if it is reset before they run.
  struct event_gates {
    static constexpr unsigned buckets = 64;
    static constexpr unsigned gates = 8;

    static std::byte* state() noexcept {
      if (family_ready_.load(std::memory_order_acquire)) return family_.base;
      try {
        return family().base;
      } catch (...) {
        return nullptr;
      }
    }
    static std::uint64_t key(void const* word) noexcept {
      auto const* const view = read_view_.load(std::memory_order_relaxed);
      auto const in_view = reinterpret_cast<std::uintptr_t>(word) - reinterpret_cast<std::uintptr_t>(view);
      if (view != nullptr && in_view < family_.size) return in_view;
      return parking_key(word, family_, static_cast<long>(GetCurrentProcessId()));
    }

    static bool prepare(unsigned bucket, unsigned gate) noexcept { return event(bucket, gate) != nullptr; }
    static void open(unsigned bucket, unsigned gate) noexcept {
      if (auto const e = event(bucket, gate)) SetEvent(e);
    }
    static void shut(unsigned bucket, unsigned gate) noexcept {
      if (auto const e = event(bucket, gate)) ResetEvent(e);
    }
    static handle_type handle(unsigned bucket, unsigned gate) noexcept { return event(bucket, gate); }
    static bool wait(unsigned bucket, unsigned gate, unsigned other, time_point deadline) noexcept {
      handle_type const both[2] = {event(bucket, gate), event(bucket, other)};
      auto const most = wait_milliseconds(std::chrono::steady_clock::now(), deadline);
      return WaitForMultipleObjects(2, both, 0, most) <= wait_signaled + 1;
    }
    static void pause(time_point deadline) noexcept {
      if (std::chrono::steady_clock::now() < deadline) Sleep(1);
    }

   private:
    static handle_type event(unsigned bucket, unsigned gate) noexcept {
      auto& slot = events_[bucket * gates + gate];
      if (auto const there = slot.load(std::memory_order_acquire)) return there;
      wchar_t text[80] = L"Local\\polyproc-";
      wchar_t* at = text + 15;
      auto const hex = [&](unsigned value) {
        *at++ = L"0123456789abcdef"[value >> 4 & 15];
        *at++ = L"0123456789abcdef"[value & 15];
      };
      for (std::byte const b : family_id_) hex(std::to_integer<unsigned>(b));
      *at++ = L'-';
      hex(bucket);
      *at++ = L'-';
      hex(gate);
      *at = L'\0';
      handle_type const made = CreateEventW(nullptr, 1, 0, text);
      if (made == nullptr) return nullptr;
      handle_type first = nullptr;
      if (slot.compare_exchange_strong(first, made, std::memory_order_acq_rel)) return made;
      CloseHandle(made);
      return first;
    }
  };

  /// In the segment, after the state of the gates: what a child learns from it, so that it needs to be told a handle only.
  struct family_head {
    std::uint64_t magic = 0x32796c696d616670;  // "pfamily2"
    std::uint64_t size = 0;
    std::array<std::byte, 16> id{};
  };

 protected:
  using parking = gate_parking<event_gates>;

 public:
  static constexpr std::size_t family_reserved = (parking::state_bytes + sizeof(family_head) + 4095) / 4096 * 4096;

 protected:
  [[nodiscard]] static handle_type family_handle() {
    family();
    return family_handle_;
  }

  /// In a child, before anything else uses the family. The handle is ours from then on. False: that is no family.
  static bool join_family(handle_type section) {
    std::scoped_lock hold{family_lock_};
    auto* const view = segment_map(section, 0, true);  // all of it
    family_head head{0, 0, {}};
    if (commit_pages(view, family_reserved)) std::memcpy(&head, view + parking::state_bytes, sizeof head);
    if (head.magic != family_head{}.magic || head.size > largest_family || family_ready_.load(std::memory_order_relaxed)) {
      segment_unmap(view, 0);
      return false;
    }
    // What was inherited would be inherited again by every program that this process starts in the simple way.
    SetHandleInformation(section, handle_inherit, 0);
    family_handle_ = section;
    family_id_ = head.id;
    family_ = {view, static_cast<std::size_t>(head.size)};
    family_ready_.store(true, std::memory_order_release);
    return true;
  }

 private:
  static bool commit_pages(std::byte* memory, std::size_t size) noexcept {
    return size == 0 || VirtualAlloc(memory, size, mem_commit, page_readwrite) != nullptr;
  }

  static handle_type make_section(std::uint64_t size, dword kind, char const* what) {
    handle_type const made =
        CreateFileMappingW(bad_handle(), nullptr, page_readwrite | kind, static_cast<dword>(size >> 32),
                           static_cast<dword>(size & 0xFFFFFFFF), nullptr);
    if (made == nullptr) throw_last(what);
    return made;
  }

  /// As large as the address space reasonably bears; it is halved where that is too much.
  static void make_family() {
    random_bytes(family_id_);
    std::size_t size = largest_family;
    for (;; size /= 2) {
      try {
        scoped_handle section{make_section(size, section_reserve, "CreateFileMappingW for the family's segment")};
        auto* const view = segment_map(section.get(), size, true);
        if (!commit_pages(view, family_reserved)) {
          auto const why = GetLastError();
          segment_unmap(view, size);
          throw_last("VirtualAlloc in the family's segment", why);
        }
        family_head const head{family_head{}.magic, size, family_id_};
        std::memcpy(view + parking::state_bytes, &head, sizeof head);
        family_ = {view, size};
        family_handle_ = section.release();
        family_ready_.store(true, std::memory_order_release);
        return;
      } catch (std::system_error const&) {
        if (size <= std::size_t{1} << 24) throw;
      }
    }
  }

  static constexpr std::size_t largest_family = std::size_t{1} << (sizeof(void*) >= 8 ? 32 : 28);
  static constexpr std::size_t noted_unit = 65536;

  static inline lasting_mutex family_lock_;
  static inline handle_type family_handle_ = nullptr;
  static inline family_segment family_{};
  static inline std::array<std::byte, 16> family_id_{};
  static inline std::atomic<bool> family_ready_{false};
  static inline std::atomic<std::byte*> read_view_{nullptr};
  static inline std::array<std::atomic<std::uint64_t>, largest_family / noted_unit / 64> noted_{};
  static inline std::array<std::atomic<handle_type>, std::size_t{event_gates::buckets} * event_gates::gates> events_{};
};

}  // namespace polyproc::inline v0_1::detail::win32
