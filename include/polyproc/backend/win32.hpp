/// The Windows backend: shared memory as sections, children by CreateProcess with an explicit list of what they
/// inherit, daemons in a job object that ends them with us, parking on named events.
#pragma once

#include <polyproc/backend/concept.hpp>
#include <polyproc/backend/gate_parking.hpp>
#include <polyproc/backend/named.hpp>
#include <polyproc/backend/win32_api.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <system_error>

// <windows.h>, if the program has included it before, may have made macros of min and max: here they are called in
// parentheses.

namespace polyproc::inline v0_1 {

namespace detail::win32 {

[[noreturn]] inline void throw_last(char const* call, dword number = GetLastError()) {
  throw std::system_error(static_cast<int>(number), std::system_category(), std::string("polyproc: ") + call);
}

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

inline security_attributes const* inheritable() noexcept {
  static security_attributes const yes{};
  return &yes;
}
inline _SECURITY_ATTRIBUTES* as_parameter(security_attributes const* attributes) noexcept {
  return const_cast<_SECURITY_ATTRIBUTES*>(reinterpret_cast<_SECURITY_ATTRIBUTES const*>(attributes));
}

/// The attribute list of one CreateProcess.
class start_attributes {
 public:
  explicit start_attributes(dword count) {
    ulong_ptr size = 0;
    InitializeProcThreadAttributeList(nullptr, count, 0, &size);  // fails, and tells the size
    memory_.resize(size / sizeof(std::max_align_t) + 1);
    auto* const list = reinterpret_cast<_PROC_THREAD_ATTRIBUTE_LIST*>(memory_.data());
    if (InitializeProcThreadAttributeList(list, count, 0, &size) == 0) throw_last("InitializeProcThreadAttributeList");
    list_ = list;
  }
  start_attributes(start_attributes const&) = delete;
  start_attributes& operator=(start_attributes const&) = delete;
  ~start_attributes() { DeleteProcThreadAttributeList(list_); }

  /// `handles` must outlive this object.
  bool set(ulong_ptr attribute, std::span<handle_type> handles) noexcept {
    return UpdateProcThreadAttribute(list_, 0, attribute, handles.data(), handles.size_bytes(), nullptr, nullptr) != 0;
  }
  [[nodiscard]] _PROC_THREAD_ATTRIBUTE_LIST* get() const noexcept { return list_; }

 private:
  std::vector<std::max_align_t> memory_;
  _PROC_THREAD_ATTRIBUTE_LIST* list_ = nullptr;
};

}  // namespace detail::win32

struct win32_backend {
  template <class T>
  using atomic = std::atomic<T>;
  using handle = void*;

  static constexpr std::string_view name = "win32";
  static constexpr handle invalid_handle = nullptr;
  static constexpr bool has_fork = false;
  static constexpr std::size_t report_limit = 16 * 1024;

  /// `report` is the read end of the pipe that report() writes. Pausing nests on Windows; `stopped` keeps it from
  /// doing so, as everywhere else.
  struct child {
    handle process = nullptr;
    handle report = nullptr;
    long number = 0;
    mutable std::atomic<bool> stopped{false};

    child() = default;
    child(child&& other) noexcept { *this = std::move(other); }
    child& operator=(child&& other) noexcept {
      process = std::exchange(other.process, nullptr);
      report = std::exchange(other.report, nullptr);
      number = std::exchange(other.number, 0);
      stopped.store(other.stopped.load(std::memory_order_relaxed), std::memory_order_relaxed);
      return *this;
    }
    ~child() = default;
  };

 private:
  using dword = detail::win32::dword;
  using scoped_handle = detail::win32::scoped_handle;

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
      return detail::parking_key(word, family_, current_pid());
    }

    static bool prepare(unsigned bucket, unsigned gate) noexcept { return event(bucket, gate) != nullptr; }
    static void open(unsigned bucket, unsigned gate) noexcept {
      if (auto const e = event(bucket, gate)) detail::win32::SetEvent(e);
    }
    static void shut(unsigned bucket, unsigned gate) noexcept {
      if (auto const e = event(bucket, gate)) detail::win32::ResetEvent(e);
    }
    static bool wait(unsigned bucket, unsigned gate, unsigned other, time_point deadline) noexcept {
      using namespace detail::win32;
      handle const both[2] = {event(bucket, gate), event(bucket, other)};
      return WaitForMultipleObjects(2, both, 0, wait_milliseconds(now(), deadline)) <= wait_signaled + 1;
    }
    static void pause(time_point deadline) noexcept {
      if (now() < deadline) detail::win32::Sleep(1);
    }

   private:
    static handle event(unsigned bucket, unsigned gate) noexcept {
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
      handle const made = detail::win32::CreateEventW(nullptr, 1, 0, text);
      if (made == nullptr) return nullptr;
      handle first = nullptr;
      if (slot.compare_exchange_strong(first, made, std::memory_order_acq_rel)) return made;
      detail::win32::CloseHandle(made);
      return first;
    }
  };
  using parking = detail::gate_parking<event_gates>;

 public:
  static constexpr std::size_t family_reserved = (parking::state_bytes + 4095) / 4096 * 4096;

  static time_point now() noexcept { return std::chrono::steady_clock::now(); }
  static void yield() noexcept { detail::win32::SwitchToThread(); }

  static unsigned usable_cpus() noexcept {
    using namespace detail::win32;
    ulong_ptr mine = 0;
    ulong_ptr all = 0;
    unsigned count = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &mine, &all) != 0)
      count = static_cast<unsigned>(std::popcount(mine));
    // Zero for a process that runs in several groups of 64.
    auto* const in_group = count != 0 ? nullptr : kernel<dword(__stdcall*)(unsigned short)>("GetActiveProcessorCount");
    if (in_group != nullptr) count = static_cast<unsigned>(in_group(0xFFFF));
    if (auto* const query = kernel<query_job_function>("QueryInformationJobObject")) {
      job_cpu_rate limit;
      constexpr dword hard_cap = 1 | 4;  // enabled, and no more even if processors are idle
      if (query(nullptr, job_cpu_rate_control, &limit, sizeof limit, nullptr) != 0 &&
          (limit.flags & (hard_cap | 2)) == hard_cap && limit.rate > 0) {
        auto const allowed = (std::uint64_t{count} * limit.rate + 9999) / 10000;  // the rate counts 1/100 of a percent
        count = static_cast<unsigned>((std::min<std::uint64_t>)(count, allowed));
      }
    }
    return (std::max)(1U, count);
  }

  // --- identity: the thread's number, and the time at which it was created. Numbers are multiples of 4, and
  // below 2^26. The time is in units of 102.4 us, which wrap after 162 days. The system's clock may advance as
  // slowly as every 16 ms, and numbers are reused at once; see keep_number.

  static std::uint64_t self() noexcept {
    static thread_local std::uint64_t mine = 0;
    if (mine == 0) {
      using namespace detail::win32;
      mine = pack(GetCurrentThreadId(), created(GetCurrentThread()));
      keep_number();
    }
    return mine;
  }

  static std::uint64_t process_self() noexcept {
    using namespace detail::win32;
    return process_bit | pack(GetCurrentProcessId(), created_process(GetCurrentProcess()));
  }

  static bool alive(std::uint64_t id) noexcept {
    using namespace detail::win32;
    auto const number = static_cast<dword>((id & number_mask) << 2);
    if ((id & process_bit) != 0) {
      auto* const open = kernel<handle(__stdcall*)(dword, int, dword)>("OpenProcess");
      constexpr dword look_and_wait = 0x1000 | 0x00100000;  // query a little, synchronize
      scoped_handle const process{open == nullptr ? nullptr : open(look_and_wait, 0, number)};
      if (process.get() == nullptr) return open == nullptr || GetLastError() != error_invalid_parameter;
      if (WaitForSingleObject(process.get(), 0) == wait_signaled) return false;
      auto const begun = created_process(process.get());
      return begun == 0 || (pack(number, begun) | process_bit) == id;
    }
    scoped_handle const thread{OpenThread(thread_access, 0, number)};
    if (thread.get() == nullptr) return GetLastError() != error_invalid_parameter;  // else: hidden from us, but there
    if (WaitForSingleObject(thread.get(), 0) == wait_signaled) return false;
    auto const since = created(thread.get());
    return since == 0 || pack(number, since) == id;
  }

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

  // --- handles

  static handle handle_duplicate(handle h) { return duplicate(h, false); }
  static void handle_close(handle h) noexcept {
    if (h != nullptr) detail::win32::CloseHandle(h);
  }

  // --- shared memory

  static handle segment_create(std::size_t size) {
    return make_section(size, detail::win32::section_commit, false, "CreateFileMappingW for shared memory");
  }
  static std::byte* segment_map(handle h, std::size_t size, bool writable) {
    using namespace detail::win32;
    void* const at = MapViewOfFile(h, writable ? map_write : map_read, 0, 0, size);
    if (at == nullptr) throw_last("MapViewOfFile of shared memory");
    return static_cast<std::byte*>(at);
  }
  static void segment_unmap(std::byte* memory, std::size_t) noexcept {
    if (memory != nullptr) detail::win32::UnmapViewOfFile(memory);
  }

  static family_segment family() {
    if (family_ready_.load(std::memory_order_acquire)) return family_;
    std::scoped_lock hold{lock_};
    if (!family_ready_.load(std::memory_order_relaxed)) make_family();
    return family_;
  }

  /// Its pages are memory only once they were committed through family(); until then they fault here.
  static family_segment family_read_only() {
    auto const whole = family();
    if (auto* const there = read_view_.load(std::memory_order_acquire)) return {there, whole.size};
    std::scoped_lock hold{lock_};
    auto* view = read_view_.load(std::memory_order_relaxed);
    if (view == nullptr) {
      view = segment_map(family_handle_, whole.size, false);
      read_view_.store(view, std::memory_order_release);
    }
    return {view, whole.size};
  }

  /// The family's segment is address space without memory at first. Each process says for itself what it is going
  /// to touch; saying it again for what another one has said leaves the contents alone.
  static bool commit(std::byte* memory, std::size_t size) noexcept {
    using namespace detail::win32;
    return size == 0 || VirtualAlloc(memory, size, mem_commit, page_readwrite) != nullptr;
  }
  /// The pages stay charged to the system's commit limit (a section cannot give them back one by one), but they are
  /// not written to the page file any more.
  static void discard(std::byte* memory, std::size_t size) noexcept {
    using namespace detail::win32;
    constexpr std::uintptr_t page = 4096;
    auto const at = reinterpret_cast<std::uintptr_t>(memory);
    auto const from = (at + page - 1) / page * page;
    auto const to = (at + size) / page * page;
    if (from < to) VirtualAlloc(memory + (from - at), to - from, mem_reset, page_readwrite);
  }

  // --- named memory: sections with a name, which lives as long as somebody has a handle. What the system has no single
  // step for is done under a mutex with a name of its own. A page before the memory says how far it has come.

  static constexpr bool named_survives = false;

  static std::optional<named_memory> name_create(std::string_view called, std::size_t size, unsigned /*mode*/,
                                                 void (*fill)(std::byte*, void*), void* context) {
    using namespace detail::win32;
    detail::check_name(called);
    detail::check_named_size(size);
    if (size > SIZE_MAX / 4) throw_named("CreateFileMappingW", called, error_not_enough_memory);
    named_hold const hold{called};
    std::uint64_t const total = std::uint64_t{size} + named_page;
    handle const made = CreateFileMappingW(bad_handle(), nullptr, page_readwrite | section_commit,
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
    detail::check_name(called);
    named_hold const hold{called};
    auto section = open_section(called, writable ? detail::win32::map_write : detail::win32::map_read);
    if (!section) return std::nullopt;
    return section->release();
  }

  /// The name cannot be taken from those who have it open: it is marked instead, and means nothing from then on.
  static bool name_remove(std::string_view called, bool (*wanted)(std::byte const*, std::size_t, void*),
                          void* context) {
    detail::check_name(called);
    named_hold const hold{called};
    auto const section = open_section(called, detail::win32::map_write);
    if (!section || !wanted(section->memory(), static_cast<std::size_t>(section->head().size), context)) return false;
    section->head().state.store(named_removed, std::memory_order_release);
    return true;
  }

  static void name_close(named_memory const& named) noexcept {
    if (named.base == nullptr) return;
    {
      std::scoped_lock hold{lock_};
      named_ranges_.drop(named.base);
    }
    segment_unmap(named.base - named_page, 0);
    handle_close(as_handle(named.keep));
  }

  // --- pipes: named ones, since only those can be waited for with a deadline. Their name is a random number, no
  // second instance is possible and it takes one writer, which we are.

  static std::pair<handle, handle> pipe_create() {
    using namespace detail::win32;
    std::array<std::byte, 16> id;
    random(id);
    std::wstring path = L"\\\\.\\pipe\\polyproc-";
    for (std::byte const b : id) append_number(path, 0x100 | std::to_integer<unsigned>(b));
    constexpr dword buffer = 64 * 1024;
    handle const read = CreateNamedPipeW(path.c_str(), pipe_inbound | flag_overlapped | flag_first_instance,
                                         pipe_reject_remote, 1, buffer, buffer, 0, nullptr);
    if (read == bad_handle()) throw_last("CreateNamedPipeW");
    scoped_handle guard{read};
    handle const write = CreateFileW(path.c_str(), access_generic_write, 0, nullptr, open_existing, 0, nullptr);
    if (write == bad_handle()) throw_last("CreateFileW for the write end of a pipe");
    return {guard.release(), write};
  }

  static std::size_t pipe_read(handle h, std::span<std::byte> out) {
    using namespace detail::win32;
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

  static void pipe_write(handle h, std::span<std::byte const> in) {
    using namespace detail::win32;
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

  static bool pipe_wait(handle h, time_point deadline) {
    using namespace detail::win32;
    io_event const event;
    for (;;) {
      dword there = 0;
      if (PeekNamedPipe(h, nullptr, 0, nullptr, &there, nullptr) == 0) {
        auto const why = GetLastError();
        if (why == error_broken_pipe) return true;
        throw_last("PeekNamedPipe", why);
      }
      if (there > 0) return true;
      if (now() >= deadline) return false;
      // A read of nothing is finished when there is something to read.
      overlapped request;
      request.event = event.get();
      auto* const parameter = reinterpret_cast<_OVERLAPPED*>(&request);
      std::byte nothing{};
      dword got = 0;
      if (ReadFile(h, &nothing, 0, nullptr, parameter) == 0) {
        auto const why = GetLastError();
        if (why == error_broken_pipe) return true;
        if (why != error_io_pending) throw_last("ReadFile from a pipe", why);
        if (WaitForSingleObject(request.event, wait_milliseconds(now(), deadline)) != wait_signaled)
          CancelIoEx(h, parameter);
        GetOverlappedResult(h, parameter, &got, 1);  // `request` must not be left while the system knows it
      }
    }
  }

  // --- children

  /// Windows does not allow the file of a running program to be replaced.
  static void prepare() noexcept {}

  static child start_image(std::span<std::byte const> payload, bool daemon) {
    using namespace detail::win32;
    family();
    auto const program = module_path(nullptr);
    auto const job = daemon ? life_job() : nullptr;

    // Duplicates that may be inherited exist only until the child has them.
    handle ends[2];
    if (CreatePipe(&ends[0], &ends[1], nullptr, 64 * 1024) == 0) throw_last("CreatePipe for a child's report");
    scoped_handle report_read{ends[0]};
    scoped_handle const report_unshared{ends[1]};
    scoped_handle const report_write{duplicate(ends[1], true)};
    scoped_handle const family_copy{duplicate(family_handle_, true)};
    scoped_handle streams[3];
    std::array<handle, 6> inherited{};
    std::size_t count = 0;
    dword const which[3] = {std_input, std_output, std_error};
    for (std::size_t i = 0; i < 3; ++i) {
      handle const stream = GetStdHandle(which[i]);
      if (stream == nullptr || stream == bad_handle()) continue;
      handle copy = nullptr;
      if (DuplicateHandle(GetCurrentProcess(), stream, GetCurrentProcess(), &copy, 0, 1, same_access) == 0) continue;
      streams[i].reset(copy);
      inherited[count++] = copy;
    }

    payload_header header;
    header.size = payload.size();
    header.family_size = family_.size;
    header.family = as_number(family_copy.get());
    header.report = as_number(report_write.get());
    header.parent = GetCurrentProcessId();
    header.family_id = family_id_;
    scoped_handle const section{make_section(sizeof header + payload.size(), section_commit, true,
                                             "CreateFileMappingW for a child's work")};
    std::byte* const view = segment_map(section.get(), sizeof header + payload.size(), true);
    std::memcpy(view, &header, sizeof header);
    if (!payload.empty()) std::memcpy(view + sizeof header, payload.data(), payload.size());
    segment_unmap(view, 0);

    for (handle const h : {section.get(), family_copy.get(), report_write.get()}) inherited[count++] = h;

    std::wstring command = L'"' + program + L"\" --polyproc-child=win32:";
    append_number(command, as_number(section.get()));

    startup_info_ex start;
    start.base.size = sizeof start;
    start.base.flags = use_std_handles;
    start.base.input = streams[0].get();
    start.base.output = streams[1].get();
    start.base.error = streams[2].get();
    process_information made;
    auto const attempt = [&](bool in_job, dword flags) {
      start_attributes attributes{in_job ? 2U : 1U};
      if (!attributes.set(attribute_handle_list, {inherited.data(), count}))
        throw_last("UpdateProcThreadAttribute for the handles of a child");
      handle jobs[1] = {job};
      if (in_job && !attributes.set(attribute_job_list, jobs)) return false;
      start.attributes = attributes.get();
      std::wstring line = command;  // CreateProcessW may write to it
      return CreateProcessW(program.c_str(), line.data(), nullptr, nullptr, 1, extended_startup_info | flags, nullptr,
                            nullptr, reinterpret_cast<_STARTUPINFOW*>(&start),
                            reinterpret_cast<_PROCESS_INFORMATION*>(&made)) != 0;
    };
    bool const joined = job != nullptr && attempt(true, 0);
    if (!joined && !attempt(false, job == nullptr ? 0 : create_suspended))
      throw_last("CreateProcessW of this program");
    scoped_handle process{made.process};
    scoped_handle const thread{made.thread};
    if (job != nullptr && !joined) {
      // Before Windows 10 a job cannot be named at the start.
      auto* const assign = kernel<assign_job_function>("AssignProcessToJobObject");
      if (assign == nullptr || assign(job, made.process) == 0) {
        auto const why = GetLastError();
        TerminateProcess(made.process, code_killed);
        throw_last("AssignProcessToJobObject", why);
      }
      ResumeThread(made.thread);
    }
    child c;
    c.process = process.release();
    c.report = report_read.release();
    c.number = static_cast<long>(made.process_id);
    return c;
  }

  static std::optional<std::vector<std::byte>> adopt(int argc, char** argv) {
    using namespace detail::win32;
    constexpr std::string_view marker = "--polyproc-child=";
    std::string_view const argument = argc < 2 || argv[1] == nullptr ? "" : argv[1];
    if (argument.substr(0, marker.size()) != marker) return std::nullopt;
    auto const rest = argument.substr(marker.size());
    std::uint64_t number = 0;
    bool good = rest.substr(0, 6) == "win32:" && rest.size() > 6 && rest.size() <= 6 + 2 * sizeof(void*);
    for (std::size_t i = 6; good && i < rest.size(); ++i) {
      char const c = rest[i];
      good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
      number = number << 4 | static_cast<std::uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (!good || number == 0) not_a_child();

    handle const section = as_handle(number);
    payload_header header;
    std::byte* view = segment_map(section, sizeof header, false);
    std::memcpy(&header, view, sizeof header);
    segment_unmap(view, 0);
    if (header.magic != payload_header{}.magic || header.own_size != sizeof header ||
        header.size > SIZE_MAX - sizeof header)
      not_a_child();
    std::vector<std::byte> payload(static_cast<std::size_t>(header.size));
    view = segment_map(section, sizeof header + payload.size(), false);  // fails if the section is shorter
    if (!payload.empty()) std::memcpy(payload.data(), view + sizeof header, payload.size());
    segment_unmap(view, 0);
    CloseHandle(section);

    std::scoped_lock hold{lock_};
    family_handle_ = as_handle(header.family);
    // What was inherited would be inherited again by every program that this process starts in the simple way.
    SetHandleInformation(family_handle_, handle_inherit, 0);
    SetHandleInformation(as_handle(header.report), handle_inherit, 0);
    own_report_ = as_handle(header.report);
    own_parent_ = static_cast<long>(header.parent);
    family_id_ = header.family_id;
    map_family(static_cast<std::size_t>(header.family_size));
    return payload;
  }

  static long current_pid() noexcept { return static_cast<long>(detail::win32::GetCurrentProcessId()); }
  /// The number may have been given to another process since: Windows does not hold it for the children's sake.
  static long parent_pid() noexcept {
    using namespace detail::win32;
    if (own_parent_ != 0) return own_parent_;
    using query_function = long(__stdcall*)(handle, int, void*, dword, dword*);
    process_basics basics;
    auto* const query = lookup<query_function>(L"ntdll.dll", "NtQueryInformationProcess");
    if (query == nullptr || query(GetCurrentProcess(), 0, &basics, sizeof basics, nullptr) < 0) return 0;
    return static_cast<long>(basics.parent);
  }
  static long pid(child const& c) noexcept { return c.number; }

  static bool await_end(child const& c, time_point deadline) { return detail::win32::wait_for(c.process, deadline); }

  static end_status reap(child& c) noexcept {
    end_status status;
    dword code = 0;
    if (detail::win32::GetExitCodeProcess(c.process, &code) == 0) return status;
    status.raw = static_cast<std::uint32_t>(code);
    status.value = signal_of(code);
    status.kind = status.value == 0 ? end_kind::code : end_kind::signal;
    if (status.kind == end_kind::code) status.value = static_cast<int>(status.raw);
    return status;
  }

  static bool ask(child const& c, child_request what) {
    using namespace detail::win32;
    if (WaitForSingleObject(c.process, 0) == wait_signaled) return false;
    if (what == child_request::stop || what == child_request::resume) {
      bool const stop = what == child_request::stop;
      if (c.stopped.exchange(stop) == stop) return true;
      using pause_function = long(__stdcall*)(handle);
      auto* const pause = lookup<pause_function>(L"ntdll.dll", stop ? "NtSuspendProcess" : "NtResumeProcess");
      if (pause != nullptr && pause(c.process) >= 0) return true;
      c.stopped.store(!stop);
      if (WaitForSingleObject(c.process, 0) == wait_signaled) return false;
      throw_last(stop ? "NtSuspendProcess" : "NtResumeProcess", error_access_denied);
    }
    if (TerminateProcess(c.process, what == child_request::kill ? code_killed : code_terminated) != 0) return true;
    auto const why = GetLastError();
    // Denied for one that is on its way out already.
    if (WaitForSingleObject(c.process, 100) == wait_signaled) return false;
    throw_last("TerminateProcess", why);
  }

  static void report(std::span<std::byte const> bytes) noexcept {
    std::scoped_lock hold{lock_};
    auto const part = bytes.first((std::min)(bytes.size(), report_limit - reported_));
    if (own_report_ == nullptr || part.empty()) return;
    // The pipe holds several times report_limit, so this does not block.
    dword put = 0;
    detail::win32::WriteFile(own_report_, part.data(), static_cast<dword>(part.size()), &put, nullptr);
    reported_ += put;
  }
  static std::vector<std::byte> read_report(child& c) noexcept {
    using namespace detail::win32;
    std::vector<std::byte> all;
    dword there = 0;
    while (c.report != nullptr && PeekNamedPipe(c.report, nullptr, 0, nullptr, &there, nullptr) != 0 && there > 0) {
      auto const have = all.size();
      all.resize(have + there);
      dword got = 0;
      if (ReadFile(c.report, all.data() + have, there, &got, nullptr) == 0) got = 0;
      all.resize(have + got);
      if (got == 0) break;
    }
    return all;
  }
  static void release(child& c) noexcept {
    handle_close(std::exchange(c.process, nullptr));
    handle_close(std::exchange(c.report, nullptr));
    c.number = 0;
  }

  [[noreturn]] static void exit_now(int code) noexcept {
    using namespace detail::win32;
    for (;;) TerminateProcess(GetCurrentProcess(), static_cast<unsigned>(code));
  }

  // --- code

  static code_location locate(void const* code) {
    using namespace detail::win32;
    HINSTANCE__* module = nullptr;
    if (GetModuleHandleExW(module_from_address | module_no_refcount, static_cast<wchar_t const*>(code), &module) == 0)
      throw_last("GetModuleHandleExW for a function");
    code_location where;
    if (module != GetModuleHandleW(nullptr)) where.module = narrow(module_path(module));
    where.build = build_of(module);
    where.offset = reinterpret_cast<std::uintptr_t>(code) - reinterpret_cast<std::uintptr_t>(module);
    return where;
  }

  static void const* resolve(code_location const& where) {
    using namespace detail::win32;
    HINSTANCE__* module = nullptr;
    if (where.module.empty()) {
      module = GetModuleHandleW(nullptr);
    } else {
      auto const path = widen(where.module);
      module = GetModuleHandleW(path.c_str());
      if (module == nullptr) module = LoadLibraryW(path.c_str());
    }
    if (module == nullptr)
      throw std::runtime_error("polyproc: the library " + where.module +
                               ", which holds a function that was sent here, cannot be loaded in this process");
    if (build_of(module) != where.build)
      throw std::runtime_error("polyproc: " + (where.module.empty() ? std::string("this program") : where.module) +
                               " was rebuilt or replaced after its parent started, so a function cannot be found"
                               " in it; start the whole program again");
    return reinterpret_cast<std::byte const*>(module) + where.offset;
  }

  /// There is no fork here.
  static void at_fork_child(void (*)()) noexcept {}

  // --- odds and ends

  static void random(std::span<std::byte> out) {
    using namespace detail::win32;
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

  static std::optional<std::string> environment(char const* variable) {
    using namespace detail::win32;
    auto const wide = widen(variable);
    std::wstring value(64, L'\0');
    for (;;) {
      SetLastError(0);
      auto const got = GetEnvironmentVariableW(wide.c_str(), value.data(), static_cast<dword>(value.size()));
      if (got == 0 && GetLastError() == error_env_not_found) return std::nullopt;
      bool const whole = got < value.size();
      value.resize(got);
      if (whole) return narrow(value);
    }
  }

  static void write_stderr(std::string_view text) noexcept {
    using namespace detail::win32;
    dword put = 0;
    auto const before = GetLastError();
    WriteFile(GetStdHandle(std_error), text.data(), static_cast<dword>(text.size()), &put, nullptr);
    SetLastError(before);
  }

 private:
  // What a process ends with that we end: no program returns these by itself.
  static constexpr unsigned code_killed = 0x10000 + 9;
  static constexpr unsigned code_terminated = 0x10000 + 15;

  /// The number of the signal that would have been on Unix; 0 for an ordinary exit code.
  static int signal_of(dword code) noexcept {
    if (code == code_killed) return 9;
    if (code == code_terminated) return 15;
    switch (code) {
      case 0xC000013A: return 2;   // Ctrl-C
      case 0xC000001D:             // illegal instruction
      case 0xC0000096: return 4;   // privileged instruction
      case 0x80000003:             // breakpoint
      case 0x80000004: return 5;   // single step
      case 0xC0000409:             // abort and stack cookies of Microsoft's run-time library
      case 0xE06D7363: return 6;   // an uncaught exception, there
      case 0xC000008D:             // the floating-point exceptions, ...
      case 0xC000008E:
      case 0xC000008F:
      case 0xC0000090:
      case 0xC0000091:
      case 0xC0000092:
      case 0xC0000093:
      case 0xC0000094:             // ... integer division by zero and overflow
      case 0xC0000095: return 8;
      default: return code >> 28 == 0xC ? 11 : 0;
    }
  }

  /// At the start of the section that takes a child its work.
  struct payload_header {
    std::uint64_t magic = 0x31636f7270796c70;  // "plyproc1"
    std::uint64_t own_size = sizeof(payload_header);
    std::uint64_t size = 0;
    std::uint64_t family_size = 0;
    std::uint64_t family = 0;
    std::uint64_t report = 0;
    std::uint64_t parent = 0;
    std::array<std::byte, 16> family_id{};
  };

  [[noreturn]] static void not_a_child() {
    throw std::runtime_error(
        "polyproc: this program was started with arguments that only a child of polyproc gets, but without what such"
        " a child inherits; --polyproc-child cannot be used by hand");
  }

  static std::uint64_t as_number(handle h) noexcept { return reinterpret_cast<std::uintptr_t>(h); }
  static handle as_handle(std::uint64_t n) noexcept { return reinterpret_cast<handle>(static_cast<std::uintptr_t>(n)); }

  template <class Function>
  static Function kernel(char const* function_name) noexcept {
    return detail::win32::lookup<Function>(L"kernel32.dll", function_name);
  }

  static handle duplicate(handle h, bool inherit) {
    using namespace detail::win32;
    handle copy = nullptr;
    if (DuplicateHandle(GetCurrentProcess(), h, GetCurrentProcess(), &copy, 0, inherit, same_access) == 0)
      throw_last("DuplicateHandle");
    return copy;
  }

  static handle make_section(std::uint64_t size, dword kind, bool inherit, char const* what) {
    using namespace detail::win32;
    handle const made =
        CreateFileMappingW(bad_handle(), as_parameter(inherit ? inheritable() : nullptr), page_readwrite | kind,
                           static_cast<dword>(size >> 32), static_cast<dword>(size & 0xFFFFFFFF), nullptr);
    if (made == nullptr) throw_last(what);
    return made;
  }

  // --- named memory

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

  [[noreturn]] static void throw_named(char const* call, std::string_view called,
                                       dword number = detail::win32::GetLastError()) {
    using namespace detail::win32;
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
      using namespace detail::win32;
      // No section's name begins like this.
      auto const text = L"Local\\polyproc-lock." + std::wstring(called.begin(), called.end());
      mutex_.reset(CreateMutexW(nullptr, 0, text.c_str()));
      if (mutex_.get() == nullptr) throw_named("CreateMutexW", called);
      auto const got = WaitForSingleObject(mutex_.get(), infinite);
      if (got != wait_signaled && got != wait_abandoned) throw_named("WaitForSingleObject", called);
    }
    named_hold(named_hold const&) = delete;
    named_hold& operator=(named_hold const&) = delete;
    ~named_hold() { detail::win32::ReleaseMutex(mutex_.get()); }

   private:
    scoped_handle mutex_;
  };

  /// A section and its mapping, until they are released to a user.
  class named_section {
   public:
    named_section(handle section, dword access, std::string_view called) : section_(section) {
      using namespace detail::win32;
      view_ = static_cast<std::byte*>(MapViewOfFile(section, access, 0, 0, 0));
      if (view_ == nullptr) throw_named("MapViewOfFile", called);
      memory_facts facts;
      if (VirtualQuery(view_, reinterpret_cast<_MEMORY_BASIC_INFORMATION*>(&facts), sizeof facts) != 0)
        room_ = facts.size - named_page;
    }
    named_section(named_section&& other) noexcept
        : section_(std::move(other.section_)), view_(std::exchange(other.view_, nullptr)), room_(other.room_) {}
    named_section& operator=(named_section const&) = delete;
    ~named_section() { segment_unmap(view_, 0); }

    [[nodiscard]] named_head& head() const noexcept { return *reinterpret_cast<named_head*>(view_); }
    [[nodiscard]] std::byte* memory() const noexcept { return view_ + named_page; }
    /// What is there at most, in whole pages.
    [[nodiscard]] std::size_t room() const noexcept { return room_; }

    named_memory release() {
      {
        std::scoped_lock hold{lock_};
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
    using namespace detail::win32;
    handle const found = OpenFileMappingW(access, 0, section_name(called).c_str());
    if (found == nullptr) {
      if (GetLastError() == error_file_not_found) return std::nullopt;
      throw_named("OpenFileMappingW", called);
    }
    named_section section{found, access, called};
    bool const whole = section.head().state.load(std::memory_order_acquire) == named_whole;
    if (!whole || section.head().size > section.room()) return std::nullopt;
    return section;
  }

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

  // --- the family

  /// As large as the address space reasonably bears; it is halved where that is too much.
  static void make_family() {
    random(family_id_);
    std::size_t size = std::size_t{1} << (sizeof(void*) >= 8 ? 32 : 28);
    for (;; size /= 2) {
      try {
        scoped_handle section{make_section(size, detail::win32::section_reserve, false,
                                           "CreateFileMappingW for the family's segment")};
        family_handle_ = section.get();
        map_family(size);
        section.release();
        return;
      } catch (std::system_error const&) {
        family_handle_ = nullptr;
        if (size <= std::size_t{1} << 24) throw;
      }
    }
  }
  static void map_family(std::size_t size) {
    family_.base = segment_map(family_handle_, size, true);
    family_.size = size;
    if (!commit(family_.base, family_reserved)) {
      auto const why = detail::win32::GetLastError();
      segment_unmap(std::exchange(family_.base, nullptr), size);
      detail::win32::throw_last("VirtualAlloc in the family's segment", why);
    }
    family_ready_.store(true, std::memory_order_release);
  }

  /// The job of our daemons: it ends them when its last handle is closed, and we have the only one. Their own
  /// children are not in it.
  static handle life_job() {
    using namespace detail::win32;
    std::scoped_lock hold{lock_};
    if (job_ != nullptr) return job_;
    auto* const create = kernel<create_job_function>("CreateJobObjectW");
    auto* const set = kernel<set_job_function>("SetInformationJobObject");
    if (create == nullptr || set == nullptr) throw_last("GetProcAddress of CreateJobObjectW");
    scoped_handle job{create(nullptr, nullptr)};
    if (job.get() == nullptr) throw_last("CreateJobObjectW");
    job_limits limits;
    limits.flags = job_kill_on_close | job_silent_breakaway;
    if (set(job.get(), job_extended_limits, &limits, sizeof limits) == 0) throw_last("SetInformationJobObject");
    job_ = job.release();
    return job_;
  }

  /// FNV-1a over what the linker writes into a module: its time stamp, sizes, checksum, entry point, the table of
  /// its sections and the number of its debugging information, if there is one. A build with none of stamp, checksum
  /// and number is told from another by the sizes only.
  static std::uint64_t build_of(HINSTANCE__* module) noexcept {
    auto const* const image = reinterpret_cast<std::byte const*>(module);
    auto const read = [&]<class T>(T& into, std::size_t offset) { std::memcpy(&into, image + offset, sizeof into); };
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    auto const mix = [&](std::size_t offset, std::size_t size) {
      for (std::size_t i = 0; i < size; ++i)
        hash = (hash ^ std::to_integer<std::uint64_t>(image[offset + i])) * 0x100000001b3ULL;
    };
    std::uint32_t headers = 0;
    read(headers, 0x3C);
    std::uint16_t sections = 0;
    std::uint16_t optional_size = 0;
    std::uint16_t magic = 0;
    read(sections, headers + 6U);
    read(optional_size, headers + 20U);
    std::size_t const optional = headers + 24U;
    read(magic, optional);
    mix(headers + 8U, 4);     // TimeDateStamp
    mix(optional + 16, 4);    // AddressOfEntryPoint
    mix(optional + 56, 4);    // SizeOfImage
    mix(optional + 64, 4);    // CheckSum
    mix(optional + optional_size, std::size_t{40} * sections);
    std::size_t const directories = optional + (magic == 0x20B ? 112 : 96);
    std::uint32_t debug_at = 0;
    std::uint32_t debug_size = 0;
    if (optional + optional_size >= directories + 7 * 8) {
      read(debug_at, directories + 6 * 8);
      read(debug_size, directories + 6 * 8 + 4);
    }
    for (std::uint32_t i = 0; debug_at != 0 && i + 28 <= debug_size; i += 28) {
      std::uint32_t entry[7] = {};
      read(entry, debug_at + i);
      constexpr std::uint32_t code_view = 2;
      if (entry[3] == code_view && entry[5] != 0 && entry[4] >= 24) mix(entry[5], 24);  // "RSDS", GUID, age
    }
    return hash;
  }

  // --- identity

  static constexpr std::uint64_t process_bit = 1ULL << 61;
  static constexpr int number_bits = 24;
  static constexpr std::uint64_t number_mask = (1ULL << number_bits) - 1;

  static std::uint64_t pack(dword number, std::uint64_t since) noexcept {
    return ((since >> 10) << number_bits | (number >> 2 & number_mask)) & (process_bit - 1);
  }
  static std::uint64_t created_process(handle process) noexcept {
    using times = int(__stdcall*)(handle, _FILETIME*, _FILETIME*, _FILETIME*, _FILETIME*);
    detail::win32::filetime all[4];
    auto const at = [&](int i) { return reinterpret_cast<_FILETIME*>(&all[i]); };
    auto* const ask = kernel<times>("GetProcessTimes");
    if (ask == nullptr || ask(process, at(0), at(1), at(2), at(3)) == 0) return 0;
    return std::uint64_t{all[0].high} << 32 | all[0].low;
  }
  static std::uint64_t created(handle thread) noexcept {
    using namespace detail::win32;
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
    using namespace detail::win32;
    try {
      std::scoped_lock hold{lock_};
      auto const present = now();
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
      handle raw = nullptr;
      if (DuplicateHandle(GetCurrentProcess(), GetCurrentThread(), GetCurrentProcess(), &raw, thread_access, 0, 0) == 0)
        return;
      copy.reset(raw);
      kept.push_back({raw, time_point{}});
      copy.release();
    } catch (...) {  // no memory: then without
    }
  }

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
      event_ = detail::win32::CreateEventW(nullptr, 1, 0, nullptr);
      if (event_ == nullptr) detail::win32::throw_last("CreateEventW");
    }
    io_event(io_event const&) = delete;
    io_event& operator=(io_event const&) = delete;
    ~io_event() {
      for (auto& slot : spare_) {
        handle none = nullptr;
        if (slot.compare_exchange_strong(none, event_, std::memory_order_release, std::memory_order_relaxed)) return;
      }
      detail::win32::CloseHandle(event_);
    }
    [[nodiscard]] handle get() const noexcept { return event_; }

   private:
    handle event_ = nullptr;
    static inline std::array<std::atomic<handle>, 8> spare_{};
  };

  struct kept_thread {
    handle thread = nullptr;
    time_point ended{};
  };
  /// Never destroyed: threads may come while the program's static objects go.
  static std::vector<kept_thread>& kept_threads() {
    static auto* const all = new std::vector<kept_thread>;
    return *all;
  }

  static inline std::mutex lock_;
  static inline handle job_ = nullptr;
  static inline handle own_report_ = nullptr;
  static inline std::size_t reported_ = 0;
  static inline long own_parent_ = 0;
  static inline handle family_handle_ = nullptr;
  static inline family_segment family_{};
  static inline std::array<std::byte, 16> family_id_{};
  static inline std::atomic<bool> family_ready_{false};
  static inline std::atomic<std::byte*> read_view_{nullptr};
  static inline detail::named_ranges named_ranges_;
  static inline std::array<std::atomic<handle>, std::size_t{event_gates::buckets} * event_gates::gates> events_{};
  static inline std::size_t kept_next_ = 0;
};

static_assert(backend<win32_backend>);

}  // namespace polyproc::inline v0_1
