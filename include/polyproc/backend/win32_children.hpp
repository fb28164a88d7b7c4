/// Children on Windows: CreateProcess with an explicit list of what they inherit, daemons in a job object that ends them
/// with us, groups in one each.
#pragma once

#include <polyproc/backend/win32_family.hpp>
#include <polyproc/backend/win32_identity.hpp>
#include <polyproc/backend/win32_processes.hpp>
#include <polyproc/backend/win32_streams.hpp>

#include <array>
#include <mutex>
#include <stdexcept>

namespace polyproc::inline v0_1::detail::win32 {

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

/// The block of memory that CreateProcessW takes for an environment: sorted by name in the way that Windows compares names.
inline std::wstring environment_block(std::vector<std::string> const& variables) {
  std::vector<std::wstring> wide;
  for (auto const& one : variables) {
    if (!one.empty() && one[0] != '\0') wide.push_back(widen(std::string_view(one).substr(0, one.find('\0'))));
  }
  auto const name_of = [](std::wstring const& one) { return std::wstring_view(one).substr(0, one.find(L'=', 1)); };
  std::stable_sort(wide.begin(), wide.end(), [&](std::wstring const& a, std::wstring const& b) {
    auto const first = name_of(a);
    auto const second = name_of(b);
    constexpr int less = 1;
    return CompareStringOrdinal(first.data(), static_cast<int>(first.size()), second.data(),
                                static_cast<int>(second.size()), 1) == less;
  });
  std::wstring block;
  for (auto const& one : wide) block.append(one).push_back(L'\0');
  if (block.empty()) block.push_back(L'\0');
  return block;  // the end of the string is the other zero
}

struct children : segments, identities, process_table {
  /// `group` is the job of a child that has one of its own. Pausing nests on Windows; `stopped` keeps it from doing so,
  /// as everywhere else (among those who use this object).
  struct child {
    handle_type process = nullptr;
    handle_type group = nullptr;
    long number = 0;
    bool deaf = false;  // to Ctrl-C: an interrupt does nothing to it
    mutable std::atomic<bool> stopped{false};

    child() = default;
    child(child&& other) noexcept { *this = std::move(other); }
    child& operator=(child&& other) noexcept {
      process = std::exchange(other.process, nullptr);
      group = std::exchange(other.group, nullptr);
      number = std::exchange(other.number, 0);
      deaf = std::exchange(other.deaf, false);
      stopped.store(other.stopped.load(std::memory_order_relaxed), std::memory_order_relaxed);
      return *this;
    }
    ~child() = default;
  };
  using start_options = child_start<handle_type, nullptr>;

  static constexpr bool has_server = false;
  static constexpr bool identity_from_outside = true;

  /// Windows does not allow the file of a running program to be replaced.
  static void prepare() noexcept {}

  static child start_image(start_options const& how) {
    if (how.pass.size() > passed_streams::most)
      throw std::system_error(std::make_error_code(std::errc::argument_list_too_long),
                              "polyproc: a child is passed 64 streams at most");
    auto const program = module_path(nullptr);
    // The group's job comes second and so lies in the other one: nobody breaks out of the inner one, thus of neither.
    scoped_handle group{how.group ? make_job(0) : nullptr};
    std::array<handle_type, 2> jobs{};
    std::size_t job_count = 0;
    if (how.daemon) jobs[job_count++] = life_job();
    if (how.group) jobs[job_count++] = group.get();

    // Duplicates that may be inherited exist only until the child has them.
    scoped_handle const family_copy{duplicate(family_handle(), true)};
    scoped_handle streams[3];
    passing passed{how.pass};
    std::vector<handle_type> inherited{family_copy.get()};
    for (auto const& one : passed.list().copies) inherited.push_back(one.get());
    for (std::size_t i = 0; i < 3; ++i) {
      handle_type const asked = how.streams[i];
      // Our own may be absent, or closed behind the system's back: then the child has none either.
      streams[i].reset(asked != nullptr ? duplicate(asked, true)
                                        : try_duplicate(standard_stream(static_cast<int>(i)), true));
      handle_type const copy = streams[i].get();
      // Consoles before Windows 8 have numbers in place of handles; those pass by themselves and are refused in the list.
      bool const console_number = (as_number(copy) & 3) == 3 && GetFileType(copy) == type_character;
      if (copy != nullptr && !console_number) inherited.push_back(copy);
    }

    std::wstring command = L'"' + program + L"\" --polyproc-child=win32";
    for (std::uint64_t const number : {as_number(family_copy.get()), how.work, std::uint64_t{GetCurrentProcessId()},
                                       std::uint64_t{how.ignore_interrupt ? 1U : 0U}}) {
      command += L':';
      append_number(command, number);
    }
    for (std::uint64_t const number : passed.list().numbers) {
      command += L':';
      append_number(command, number);
    }
    std::wstring block;
    if (how.environment != nullptr) block = environment_block(*how.environment);

    startup_info_ex start;
    start.base.size = sizeof start;
    start.base.flags = use_std_handles;
    start.base.input = streams[0].get();
    start.base.output = streams[1].get();
    start.base.error = streams[2].get();
    dword flags = extended_startup_info | create_unicode_environment;
    // The first process of a console group is deaf to Ctrl-C until it wants to hear it: from its first instruction on.
    if (how.ignore_interrupt) flags |= create_new_group;
    process_information made;
    auto const attempt = [&](bool in_jobs, dword more) {
      start_attributes attributes{in_jobs ? 2U : 1U};
      if (!attributes.set(attribute_handle_list, inherited))
        throw_last("UpdateProcThreadAttribute for the handles of a child");
      if (in_jobs && !attributes.set(attribute_job_list, {jobs.data(), job_count})) return false;
      start.attributes = attributes.get();
      // Wine says "internal error" when the new process has ended before it was set up, which happens now and then on a busy
      // machine. Nothing of the program has run then.
      for (int tries = 3;; --tries) {
        std::wstring line = command;  // CreateProcessW may write to it
        if (CreateProcessW(program.c_str(), line.data(), nullptr, nullptr, 1, flags | more,
                           how.environment != nullptr ? block.data() : nullptr, nullptr,
                           reinterpret_cast<_STARTUPINFOW*>(&start),
                           reinterpret_cast<_PROCESS_INFORMATION*>(&made)) != 0)
          return true;
        if (GetLastError() != error_internal_error || tries == 1) return false;
      }
    };
    bool const joined = job_count > 0 && attempt(true, 0);
    bool const late = job_count > 0 && !joined;  // before Windows 10 jobs cannot be named at the start
    if (!joined && !attempt(false, late ? create_suspended : 0)) throw_last("CreateProcessW of this program");
    scoped_handle process{made.process};
    scoped_handle const thread{made.thread};
    for (std::size_t i = 0; late && i < job_count; ++i) {
      auto* const assign = kernel<assign_job_function>("AssignProcessToJobObject");
      if (assign != nullptr && assign(jobs[i], made.process) != 0) continue;
      auto const why = GetLastError();
      TerminateProcess(made.process, code_killed);
      throw_last("AssignProcessToJobObject", why);
    }
    if (late) ResumeThread(made.thread);
    passed.started();
    child c;
    c.process = process.release();
    c.group = group.release();
    c.number = static_cast<long>(made.process_id);
    c.deaf = how.ignore_interrupt;
    not_reaped_.fetch_add(1, std::memory_order_relaxed);
    return c;
  }

  /// There is no way to copy a process here.
  static std::optional<child> start_served(start_options const&) { return std::nullopt; }

  static std::optional<std::uint64_t> adopt(int argc, char** argv) {
    constexpr std::string_view marker = "--polyproc-child=";
    std::string_view const argument = argc < 2 || argv[1] == nullptr ? "" : argv[1];
    if (argument.substr(0, marker.size()) != marker) return std::nullopt;
    auto rest = argument.substr(marker.size());
    if (rest.substr(0, 5) != "win32") not_a_child();
    rest.remove_prefix(5);
    std::uint64_t numbers[4] = {};
    for (auto& number : numbers) number = take_number(rest);
    std::vector<std::uint64_t> passed;
    while (!rest.empty() && passed.size() < passed_streams::most_numbers) passed.push_back(take_number(rest));
    auto const [section, work, parent, deaf] = numbers;
    if (!rest.empty() || section == 0) not_a_child();
    if (!join_family(as_handle(section)) || !passed_streams::adopt(passed)) not_a_child();
    own_parent_ = static_cast<long>(parent);
    // Children inherit this from their parents.
    SetConsoleCtrlHandler(nullptr, deaf != 0 ? 1 : 0);
    return work;
  }

  static long current_pid() noexcept { return static_cast<long>(GetCurrentProcessId()); }
  /// The number may have been given to another process since: Windows does not hold it for the children's sake.
  static long parent_pid() noexcept {
    if (own_parent_ != 0) return own_parent_;
    process_basics basics;
    auto* const query = lookup<query_process_function>(L"ntdll.dll", "NtQueryInformationProcess");
    if (query == nullptr || query(GetCurrentProcess(), 0, &basics, sizeof basics, nullptr) < 0) return 0;
    return static_cast<long>(basics.parent);
  }

  static long pid(child const& c) noexcept { return c.number; }

  static bool await_end(child const& c, time_point deadline) { return wait_for(c.process, deadline); }

  static end_status reap(child& c) noexcept {
    not_reaped_.fetch_sub(1, std::memory_order_relaxed);
    end_status status;
    dword code = 0;
    if (GetExitCodeProcess(c.process, &code) == 0) return status;
    status.raw = static_cast<std::uint32_t>(code);
    status.value = signal_of(code);
    status.kind = status.value == 0 ? end_kind::code : end_kind::signal;
    if (status.kind == end_kind::code) status.value = static_cast<int>(status.raw);
    return status;
  }

  static bool ask(child const& c, child_request what) {
    if (WaitForSingleObject(c.process, 0) == wait_signaled) return false;
    if (what == child_request::interrupt && c.deaf) return true;
    if (what == child_request::stop || what == child_request::resume) {
      bool const stop = what == child_request::stop;
      if (c.stopped.exchange(stop) == stop) return true;
      auto* const pause = lookup<pause_process_function>(L"ntdll.dll", stop ? "NtSuspendProcess" : "NtResumeProcess");
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

  /// Of those it leaves behind its own children are found also without a group, since the number of an ended process means
  /// it as long as somebody has it open.
  static void kill_tree(child const& c) {
    if (c.group != nullptr) {
      auto* const end = kernel<end_job_function>("TerminateJobObject");
      if (end == nullptr || end(c.group, code_killed) == 0) throw_last("TerminateJobObject");
    }
    auto const denied = end_tree(c.process, static_cast<dword>(c.number), code_killed);
    if (denied != 0) throw_last("TerminateProcess of a process and its descendants", denied);
  }

  static void kill_group(child const& c) noexcept {
    auto* const end = c.group == nullptr ? nullptr : kernel<end_job_function>("TerminateJobObject");
    if (end != nullptr) end(c.group, code_killed);
  }

  static handle_type sentinel(child const& c) noexcept { return c.process; }

  static std::uint64_t identity_of(child const& c) noexcept {
    return process_identity(static_cast<dword>(c.number), created_process(c.process));
  }

  static std::optional<child> open_process(long number, std::uint64_t id) {
    constexpr dword look = process_look | synchronize;
    scoped_handle process;
    // Of a process that is not ours to end or to pause one may still want to know the end.
    for (dword const rights : {look | process_terminate | process_suspend_resume, look}) {
      process.reset(OpenProcess(rights, 0, static_cast<dword>(number)));
      if (process.get() != nullptr || GetLastError() != error_access_denied) break;
    }
    if (process.get() == nullptr) {
      if (GetLastError() == error_invalid_parameter) return std::nullopt;  // there is none
      throw_last("OpenProcess");
    }
    if (process_identity(static_cast<dword>(number), created_process(process.get())) != id) return std::nullopt;
    if (WaitForSingleObject(process.get(), 0) == wait_signaled) return std::nullopt;
    child c;
    c.process = process.release();
    c.number = number;
    return c;
  }

  /// Nothing of an ended child hinders anybody here, it costs a handle only. So this counts and asks nobody.
  static bool maybe_ended() noexcept { return not_reaped_.load(std::memory_order_relaxed) != 0; }

  static void release(child& c) noexcept {
    if (c.process != nullptr) CloseHandle(std::exchange(c.process, nullptr));
    if (c.group != nullptr) CloseHandle(std::exchange(c.group, nullptr));
    c.number = 0;
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

  [[noreturn]] static void not_a_child() {
    throw std::runtime_error(
        "polyproc: this program was started with arguments that only a child of polyproc gets, but without what such"
        " a child inherits; --polyproc-child cannot be used by hand");
  }

  /// Takes ":", a hexadecimal number, off the front.
  static std::uint64_t take_number(std::string_view& text) {
    if (text.empty() || text[0] != ':') not_a_child();
    std::uint64_t number = 0;
    std::size_t at = 1;
    for (; at < text.size() && text[at] != ':'; ++at) {
      char const c = text[at];
      if (at > 16 || !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) not_a_child();
      number = number << 4 | static_cast<std::uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (at == 1) not_a_child();
    text.remove_prefix(at);
    return number;
  }

  static handle_type make_job(dword limits) {
    auto* const create = kernel<create_job_function>("CreateJobObjectW");
    auto* const set = kernel<set_job_function>("SetInformationJobObject");
    if (create == nullptr || set == nullptr) throw_last("GetProcAddress of CreateJobObjectW");
    scoped_handle job{create(nullptr, nullptr)};
    if (job.get() == nullptr) throw_last("CreateJobObjectW");
    job_limits all;
    all.flags = limits;
    if (limits != 0 && set(job.get(), job_extended_limits, &all, sizeof all) == 0) throw_last("SetInformationJobObject");
    return job.release();
  }

  /// The job of our daemons: it ends them when its last handle is closed, and we have the only one. Their own children are
  /// not in it, except those of a daemon with a group.
  static handle_type life_job() {
    std::scoped_lock hold{job_lock_};
    if (job_ == nullptr) job_ = make_job(job_kill_on_close | job_silent_breakaway);
    return job_;
  }

  static inline lasting_mutex job_lock_;
  static inline handle_type job_ = nullptr;
  static inline long own_parent_ = 0;
  static inline std::atomic<std::size_t> not_reaped_{0};
};

}  // namespace polyproc::inline v0_1::detail::win32
