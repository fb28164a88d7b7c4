/// What surrounds a process on Windows and it can change: directory, processors, priority, streams, environment, names.
#pragma once

#include <polyproc/backend/win32_processes.hpp>

#include <bit>

namespace polyproc::inline v0_1::detail::win32 {

struct surroundings {
  static unsigned usable_cpus() noexcept {
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

  static void check_directory(std::string const& path) {
    auto const attributes = GetFileAttributesW(widen(path).c_str());
    if (attributes == no_attributes) throw_path("GetFileAttributesW", path);
    if ((attributes & attribute_directory) == 0) throw_path("SetCurrentDirectoryW", path, error_directory);
  }
  static void set_directory(std::string const& path) {
    if (SetCurrentDirectoryW(widen(path).c_str()) == 0) throw_path("SetCurrentDirectoryW", path);
  }

  /// Processors of this process's group, of which it has up to 64.
  static void check_affinity(std::vector<unsigned> const& processors) { affinity_mask(processors); }
  static void set_affinity(std::vector<unsigned> const& processors) {
    if (SetProcessAffinityMask(GetCurrentProcess(), affinity_mask(processors)) == 0) throw_last("SetProcessAffinityMask");
  }

  /// Of two classes that are as near the one that is served later. Without the right to the highest the system silently
  /// gives the one below.
  static void set_priority(int niceness) {
    auto const* nearest = &priority_classes[0];
    auto const far_from = [&](priority_class const& one) {
      return one.niceness > niceness ? one.niceness - niceness : niceness - one.niceness;
    };
    for (auto const& one : priority_classes) {
      if (far_from(one) < far_from(*nearest)) nearest = &one;
    }
    if (SetPriorityClass(GetCurrentProcess(), nearest->number) == 0) throw_last("SetPriorityClass");
  }

  static handle_type open_stream(stream_mode mode, std::string const& path) {
    bool const null = mode == stream_mode::null_in || mode == stream_mode::null_out;
    bool const reads = mode == stream_mode::null_in || mode == stream_mode::read;
    dword access = reads ? access_generic_read : access_generic_write;
    dword how = open_existing;
    if (mode == stream_mode::write) how = create_always;
    if (mode == stream_mode::append) {
      how = open_always;
      access = access_append;  // every write goes to the end, whoever else writes
    }
    auto const wide = null ? std::wstring(L"NUL") : widen(path);
    handle_type const opened = CreateFileW(wide.c_str(), access, share_all, nullptr, how, 0, nullptr);
    if (opened == bad_handle()) throw_path("CreateFileW", null ? "NUL" : path);
    return opened;
  }

  static handle_type stream_duplicate(int number) {
    handle_type const own = standard_stream(number);
    if (own == nullptr) return nullptr;
    handle_type const copy = try_duplicate(own, false);
    if (copy == nullptr && GetLastError() != error_invalid_handle) throw_last("DuplicateHandle of a standard stream");
    return copy;  // what was closed behind the system's back is none either
  }

  static constexpr bool environment_ignores_case = true;

  static std::optional<std::string> environment(char const* variable) {
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

  /// Without what the system keeps there for itself: names that begin with '=', the directories of other drives.
  static std::vector<std::string> environment_list() {
    std::vector<std::string> all;
    wchar_t* const block = GetEnvironmentStringsW();
    if (block == nullptr) throw_last("GetEnvironmentStringsW");
    struct scope {
      wchar_t* block;
      ~scope() { FreeEnvironmentStringsW(block); }
    } const freed{block};
    for (wchar_t const* at = block; *at != L'\0';) {
      std::wstring_view const one{at};
      if (one[0] != L'=') all.push_back(narrow(one));
      at += one.size() + 1;
    }
    return all;
  }

  static void set_thread_affinity(std::vector<unsigned> const& processors) {
    if (SetThreadAffinityMask(GetCurrentThread(), affinity_mask(processors)) == 0) throw_last("SetThreadAffinityMask");
  }
  static void begin_own_thread(char const* text) noexcept { name_thread(text); }
  static void name_thread(char const* text) noexcept {
    using describe_function = long(__stdcall*)(handle_type, wchar_t const*);
    auto* describe = kernel<describe_function>("SetThreadDescription");
    if (describe == nullptr) describe = lookup<describe_function>(L"kernelbase.dll", "SetThreadDescription");
    if (describe == nullptr) return;  // older than Windows 10
    try {
      auto called = widen(text);
      called.resize((std::min<std::size_t>)(called.size(), 15));
      describe(GetCurrentThread(), called.c_str());
    } catch (...) {  // no memory: then without
    }
  }

  static void write_stderr(std::string_view text) noexcept {
    dword put = 0;
    auto const before = GetLastError();
    WriteFile(GetStdHandle(std_error), text.data(), static_cast<dword>(text.size()), &put, nullptr);
    SetLastError(before);
  }
  static bool stderr_is_terminal() noexcept {
    dword mode = 0;
    auto const before = GetLastError();
    bool const is = GetConsoleMode(GetStdHandle(std_error), &mode) != 0;
    SetLastError(before);
    return is;
  }

 private:
  static ulong_ptr affinity_mask(std::vector<unsigned> const& processors) {
    ulong_ptr mine = 0;
    ulong_ptr all = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &mine, &all) == 0) throw_last("GetProcessAffinityMask");
    ulong_ptr mask = 0;
    for (unsigned const one : processors) {
      if (one >= 8 * sizeof all || (all >> one & 1) == 0)
        throw std::system_error(std::make_error_code(std::errc::invalid_argument),
                                "polyproc: there is no processor " + std::to_string(one) + " for this process");
      mask |= ulong_ptr{1} << one;
    }
    if (mask == 0)
      throw std::system_error(std::make_error_code(std::errc::invalid_argument),
                              "polyproc: a process has to have a processor");
    return mask;
  }
};

}  // namespace polyproc::inline v0_1::detail::win32
