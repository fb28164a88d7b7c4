/// The few declarations of kernel32 that the Windows backend needs, so that no user of this library gets
/// <windows.h> and its macros. They name the same C functions and the same (incomplete) structs as <windows.h> does,
/// so a program may include both, in either order; tests/backend/win32_api_test.cpp holds them against it.
/// What lives in other libraries than kernel32 is looked up when it is needed.
#pragma once

#include <cstddef>
#include <cstdint>

// The structs that occur in signatures keep the names that <windows.h> gives them.
struct HINSTANCE__;
struct _FILETIME;
struct _MEMORY_BASIC_INFORMATION;
struct _OVERLAPPED;
struct _PROCESS_INFORMATION;
struct _PROC_THREAD_ATTRIBUTE_LIST;
struct _RTL_SRWLOCK;
struct _SECURITY_ATTRIBUTES;
struct _STARTUPINFOW;

namespace polyproc::inline v0_1::detail::win32 {

using handle_type = void*;
using dword = unsigned long;  // 32 bits on every Windows
#if defined(_WIN64)
using ulong_ptr = unsigned long long;
using function = long long(__stdcall*)();
#else
using ulong_ptr = unsigned long;
using function = int(__stdcall*)();
#endif

extern "C" {
// errors, handles
__declspec(dllimport) dword __stdcall GetLastError();
__declspec(dllimport) void __stdcall SetLastError(dword);
__declspec(dllimport) int __stdcall CloseHandle(handle_type);
__declspec(dllimport) int __stdcall DuplicateHandle(handle_type, handle_type, handle_type, handle_type*, dword, int,
                                                    dword);
__declspec(dllimport) int __stdcall SetHandleInformation(handle_type, dword, dword);
__declspec(dllimport) int __stdcall GetConsoleMode(handle_type, dword*);
__declspec(dllimport) dword __stdcall GetFileType(handle_type);
__declspec(dllimport) handle_type __stdcall GetStdHandle(dword);

// processes and threads
__declspec(dllimport) handle_type __stdcall GetCurrentProcess();
__declspec(dllimport) handle_type __stdcall GetCurrentThread();
__declspec(dllimport) dword __stdcall GetCurrentProcessId();
__declspec(dllimport) dword __stdcall GetCurrentThreadId();
__declspec(dllimport) handle_type __stdcall OpenProcess(dword, int, dword);
__declspec(dllimport) handle_type __stdcall OpenThread(dword, int, dword);
__declspec(dllimport) int __stdcall GetProcessTimes(handle_type, _FILETIME*, _FILETIME*, _FILETIME*, _FILETIME*);
__declspec(dllimport) int __stdcall GetThreadTimes(handle_type, _FILETIME*, _FILETIME*, _FILETIME*, _FILETIME*);
__declspec(dllimport) int __stdcall SwitchToThread();
__declspec(dllimport) void __stdcall Sleep(dword);
__declspec(dllimport) void __stdcall AcquireSRWLockExclusive(_RTL_SRWLOCK*);
__declspec(dllimport) void __stdcall ReleaseSRWLockExclusive(_RTL_SRWLOCK*);
__declspec(dllimport) dword __stdcall ResumeThread(handle_type);
__declspec(dllimport) int __stdcall TerminateProcess(handle_type, unsigned int);
__declspec(dllimport) int __stdcall GetExitCodeProcess(handle_type, dword*);
__declspec(dllimport) int __stdcall CreateProcessW(wchar_t const*, wchar_t*, _SECURITY_ATTRIBUTES*,
                                                   _SECURITY_ATTRIBUTES*, int, dword, void*, wchar_t const*,
                                                   _STARTUPINFOW*, _PROCESS_INFORMATION*);
__declspec(dllimport) int __stdcall InitializeProcThreadAttributeList(_PROC_THREAD_ATTRIBUTE_LIST*, dword, dword,
                                                                      ulong_ptr*);
__declspec(dllimport) int __stdcall UpdateProcThreadAttribute(_PROC_THREAD_ATTRIBUTE_LIST*, dword, ulong_ptr, void*,
                                                              ulong_ptr, void*, ulong_ptr*);
__declspec(dllimport) void __stdcall DeleteProcThreadAttributeList(_PROC_THREAD_ATTRIBUTE_LIST*);
__declspec(dllimport) int __stdcall GetProcessAffinityMask(handle_type, ulong_ptr*, ulong_ptr*);
__declspec(dllimport) int __stdcall SetProcessAffinityMask(handle_type, ulong_ptr);
__declspec(dllimport) ulong_ptr __stdcall SetThreadAffinityMask(handle_type, ulong_ptr);
__declspec(dllimport) dword __stdcall GetPriorityClass(handle_type);
__declspec(dllimport) int __stdcall SetPriorityClass(handle_type, dword);
__declspec(dllimport) int __stdcall SetConsoleCtrlHandler(int(__stdcall*)(dword), int);

// waiting
__declspec(dllimport) dword __stdcall WaitForSingleObject(handle_type, dword);
__declspec(dllimport) dword __stdcall WaitForMultipleObjects(dword, handle_type const*, int, dword);
__declspec(dllimport) handle_type __stdcall CreateEventW(_SECURITY_ATTRIBUTES*, int, int, wchar_t const*);
__declspec(dllimport) handle_type __stdcall OpenEventW(dword, int, wchar_t const*);
__declspec(dllimport) int __stdcall SetEvent(handle_type);
__declspec(dllimport) int __stdcall ResetEvent(handle_type);
__declspec(dllimport) handle_type __stdcall CreateMutexW(_SECURITY_ATTRIBUTES*, int, wchar_t const*);
__declspec(dllimport) int __stdcall ReleaseMutex(handle_type);
__declspec(dllimport) int __stdcall RegisterWaitForSingleObject(handle_type*, handle_type,
                                                                void(__stdcall*)(void*, unsigned char), void*, dword,
                                                                dword);
__declspec(dllimport) int __stdcall UnregisterWaitEx(handle_type, handle_type);

// memory
__declspec(dllimport) handle_type __stdcall CreateFileMappingW(handle_type, _SECURITY_ATTRIBUTES*, dword, dword, dword,
                                                               wchar_t const*);
__declspec(dllimport) handle_type __stdcall OpenFileMappingW(dword, int, wchar_t const*);
__declspec(dllimport) void* __stdcall MapViewOfFile(handle_type, dword, dword, dword, ulong_ptr);
__declspec(dllimport) int __stdcall UnmapViewOfFile(void const*);
__declspec(dllimport) void* __stdcall VirtualAlloc(void*, ulong_ptr, dword, dword);
__declspec(dllimport) ulong_ptr __stdcall VirtualQuery(void const*, _MEMORY_BASIC_INFORMATION*, ulong_ptr);

// pipes and files
__declspec(dllimport) handle_type __stdcall CreateNamedPipeW(wchar_t const*, dword, dword, dword, dword, dword, dword,
                                                             _SECURITY_ATTRIBUTES*);
__declspec(dllimport) handle_type __stdcall CreateFileW(wchar_t const*, dword, dword, _SECURITY_ATTRIBUTES*, dword,
                                                        dword, handle_type);
__declspec(dllimport) int __stdcall ReadFile(handle_type, void*, dword, dword*, _OVERLAPPED*);
__declspec(dllimport) int __stdcall WriteFile(handle_type, void const*, dword, dword*, _OVERLAPPED*);
__declspec(dllimport) int __stdcall PeekNamedPipe(handle_type, void*, dword, dword*, dword*, dword*);
__declspec(dllimport) int __stdcall ConnectNamedPipe(handle_type, _OVERLAPPED*);
__declspec(dllimport) int __stdcall WaitNamedPipeW(wchar_t const*, dword);
__declspec(dllimport) int __stdcall GetNamedPipeInfo(handle_type, dword*, dword*, dword*, dword*);
__declspec(dllimport) int __stdcall SetNamedPipeHandleState(handle_type, dword*, dword*, dword*);
__declspec(dllimport) int __stdcall GetOverlappedResult(handle_type, _OVERLAPPED*, dword*, int);
__declspec(dllimport) int __stdcall CancelIoEx(handle_type, _OVERLAPPED*);
__declspec(dllimport) dword __stdcall GetFileAttributesW(wchar_t const*);
__declspec(dllimport) int __stdcall SetCurrentDirectoryW(wchar_t const*);

// modules
__declspec(dllimport) HINSTANCE__* __stdcall GetModuleHandleW(wchar_t const*);
__declspec(dllimport) int __stdcall GetModuleHandleExW(dword, wchar_t const*, HINSTANCE__**);
__declspec(dllimport) dword __stdcall GetModuleFileNameW(HINSTANCE__*, wchar_t*, dword);
__declspec(dllimport) HINSTANCE__* __stdcall LoadLibraryW(wchar_t const*);
__declspec(dllimport) HINSTANCE__* __stdcall LoadLibraryExW(wchar_t const*, handle_type, dword);
__declspec(dllimport) function __stdcall GetProcAddress(HINSTANCE__*, char const*);

// text and the environment
__declspec(dllimport) dword __stdcall GetEnvironmentVariableW(wchar_t const*, wchar_t*, dword);
__declspec(dllimport) wchar_t* __stdcall GetEnvironmentStringsW();
__declspec(dllimport) int __stdcall FreeEnvironmentStringsW(wchar_t*);
__declspec(dllimport) int __stdcall CompareStringOrdinal(wchar_t const*, int, wchar_t const*, int, int);
__declspec(dllimport) int __stdcall MultiByteToWideChar(unsigned int, dword, char const*, int, wchar_t*, int);
__declspec(dllimport) int __stdcall WideCharToMultiByte(unsigned int, dword, wchar_t const*, int, char*, int,
                                                        char const*, int*);
}

// Jobs: their parameter types are enums that cannot be declared in advance, so these are looked up as well.
using create_job_function = handle_type(__stdcall*)(_SECURITY_ATTRIBUTES*, wchar_t const*);
using set_job_function = int(__stdcall*)(handle_type, int, void*, dword);
using query_job_function = int(__stdcall*)(handle_type, int, void*, dword, dword*);
using assign_job_function = int(__stdcall*)(handle_type, handle_type);
using end_job_function = int(__stdcall*)(handle_type, unsigned int);

// Of ntdll and advapi32.
using query_system_function = long(__stdcall*)(int, void*, dword, dword*);
using query_process_function = long(__stdcall*)(handle_type, int, void*, dword, dword*);
using pause_process_function = long(__stdcall*)(handle_type);
using query_file_function = long(__stdcall*)(handle_type, void*, void*, dword, int);
using open_token_function = int(__stdcall*)(handle_type, dword, handle_type*);
using query_token_function = int(__stdcall*)(handle_type, int, void*, dword, dword*);
using account_of_function = int(__stdcall*)(wchar_t const*, void*, wchar_t*, dword*, wchar_t*, dword*, int*);

// The structs, with the layout that the system documents.

struct filetime {
  dword low = 0;
  dword high = 0;
};
struct security_attributes {
  dword length = sizeof(security_attributes);
  void* descriptor = nullptr;
  int inherit = 1;
};
struct overlapped {
  ulong_ptr internal = 0;
  ulong_ptr internal_high = 0;
  dword offset = 0;
  dword offset_high = 0;
  handle_type event = nullptr;
};
struct process_information {
  handle_type process = nullptr;
  handle_type thread = nullptr;
  dword process_id = 0;
  dword thread_id = 0;
};
struct startup_info {
  dword size = 0;
  wchar_t* reserved = nullptr;
  wchar_t* desktop = nullptr;
  wchar_t* title = nullptr;
  dword x = 0, y = 0, x_size = 0, y_size = 0, x_chars = 0, y_chars = 0, fill = 0;
  dword flags = 0;
  unsigned short show = 0;
  unsigned short reserved_size = 0;
  unsigned char* reserved2 = nullptr;
  handle_type input = nullptr;
  handle_type output = nullptr;
  handle_type error = nullptr;
};
struct startup_info_ex {
  startup_info base;
  _PROC_THREAD_ATTRIBUTE_LIST* attributes = nullptr;
};
struct memory_facts {  // MEMORY_BASIC_INFORMATION
  void* base = nullptr;
  void* allocation = nullptr;
  dword first_protection = 0;
  ulong_ptr size = 0;
  dword state = 0;
  dword protection = 0;
  dword type = 0;
};
struct job_limits {  // JOBOBJECT_EXTENDED_LIMIT_INFORMATION
  std::int64_t process_time = 0;
  std::int64_t job_time = 0;
  dword flags = 0;
  ulong_ptr least_working_set = 0;
  ulong_ptr most_working_set = 0;
  dword active_processes = 0;
  ulong_ptr affinity = 0;
  dword priority = 0;
  dword scheduling = 0;
  std::uint64_t io[6] = {};
  ulong_ptr process_memory = 0;
  ulong_ptr job_memory = 0;
  ulong_ptr peak_process_memory = 0;
  ulong_ptr peak_job_memory = 0;
};
struct job_cpu_rate {  // JOBOBJECT_CPU_RATE_CONTROL_INFORMATION
  dword flags = 0;
  dword rate = 0;
};
struct process_basics {  // PROCESS_BASIC_INFORMATION
  void* reserved1 = nullptr;
  void* peb = nullptr;
  void* reserved2[2] = {};
  ulong_ptr id = 0;
  ulong_ptr parent = 0;
};
struct counted_text {  // UNICODE_STRING
  unsigned short bytes = 0;
  unsigned short room = 0;
  wchar_t* text = nullptr;
};
struct system_thread {  // SYSTEM_THREAD_INFORMATION
  std::int64_t kernel_time = 0;
  std::int64_t user_time = 0;
  std::int64_t created = 0;
  dword wait_time = 0;
  void* start = nullptr;
  void* process_id = nullptr;
  void* thread_id = nullptr;
  std::int32_t priority = 0;
  std::int32_t base_priority = 0;
  dword switches = 0;
  dword state = 0;
  dword wait_reason = 0;
};
struct system_process {  // SYSTEM_PROCESS_INFORMATION; as many system_thread as it says follow
  dword next = 0;        // bytes to the next one; 0: there is none
  dword threads = 0;
  std::int64_t reserved[3] = {};
  std::int64_t created = 0;
  std::int64_t user_time = 0;
  std::int64_t kernel_time = 0;
  counted_text image;
  std::int32_t base_priority = 0;
  void* id = nullptr;
  void* parent = nullptr;
  dword handles = 0;
  dword session = 0;
  ulong_ptr key = 0;
  ulong_ptr peak_virtual = 0;
  ulong_ptr virtual_size = 0;
  dword page_faults = 0;
  ulong_ptr peak_working_set = 0;
  ulong_ptr working_set = 0;
  ulong_ptr more[7] = {};
  std::int64_t io[6] = {};
};

// Constants. Not under their usual names: those are macros of <windows.h>.

inline constexpr dword infinite = 0xFFFFFFFF;
inline constexpr dword wait_signaled = 0;     // WAIT_OBJECT_0
inline constexpr dword wait_abandoned = 128;  // WAIT_ABANDONED
inline constexpr dword wait_timed_out = 258;  // WAIT_TIMEOUT

inline constexpr dword error_file_not_found = 2;
inline constexpr dword error_path_not_found = 3;
inline constexpr dword error_access_denied = 5;
inline constexpr dword error_invalid_handle = 6;
inline constexpr dword error_not_enough_memory = 8;
inline constexpr dword error_out_of_memory = 14;  // ERROR_OUTOFMEMORY
inline constexpr dword error_handle_eof = 38;
inline constexpr dword error_invalid_parameter = 87;
inline constexpr dword error_broken_pipe = 109;
inline constexpr dword error_disk_full = 112;
inline constexpr dword error_already_exists = 183;
inline constexpr dword error_directory = 267;
inline constexpr dword error_env_not_found = 203;
inline constexpr dword error_pipe_busy = 231;
inline constexpr dword error_no_data = 232;
inline constexpr dword error_pipe_not_connected = 233;
inline constexpr dword error_more_data = 234;
inline constexpr dword error_pipe_connected = 535;
inline constexpr dword error_operation_aborted = 995;
inline constexpr dword error_io_incomplete = 996;
inline constexpr dword error_io_pending = 997;
inline constexpr dword error_not_found = 1168;
inline constexpr dword error_internal_error = 1359;
inline constexpr dword error_no_resources = 1450;     // ERROR_NO_SYSTEM_RESOURCES
inline constexpr dword error_commitment_limit = 1455;

inline constexpr dword handle_inherit = 1;  // HANDLE_FLAG_INHERIT
inline constexpr dword same_access = 2;     // DUPLICATE_SAME_ACCESS
inline constexpr dword std_input = static_cast<dword>(-10);
inline constexpr dword std_output = static_cast<dword>(-11);
inline constexpr dword std_error = static_cast<dword>(-12);

inline constexpr dword thread_access = 0x00100000 | 0x0800;  // SYNCHRONIZE | THREAD_QUERY_LIMITED_INFORMATION

inline constexpr dword process_terminate = 0x0001;
inline constexpr dword process_suspend_resume = 0x0800;
inline constexpr dword process_look = 0x1000;  // PROCESS_QUERY_LIMITED_INFORMATION
inline constexpr dword synchronize = 0x00100000;
inline constexpr dword event_modify = 2;  // EVENT_MODIFY_STATE

inline constexpr dword create_suspended = 0x4;
inline constexpr dword create_new_group = 0x200;        // CREATE_NEW_PROCESS_GROUP
inline constexpr dword create_unicode_environment = 0x400;
inline constexpr dword extended_startup_info = 0x00080000;  // EXTENDED_STARTUPINFO_PRESENT
inline constexpr dword use_std_handles = 0x100;             // STARTF_USESTDHANDLES
inline constexpr ulong_ptr attribute_handle_list = 0x00020002;
inline constexpr ulong_ptr attribute_job_list = 0x0002000D;

inline constexpr dword class_idle = 0x40;
inline constexpr dword class_below_normal = 0x4000;
inline constexpr dword class_normal = 0x20;
inline constexpr dword class_above_normal = 0x8000;
inline constexpr dword class_high = 0x80;
inline constexpr dword class_realtime = 0x100;

inline constexpr dword most_wait_objects = 64;   // MAXIMUM_WAIT_OBJECTS
inline constexpr dword wait_in_wait_thread = 4;  // WT_EXECUTEINWAITTHREAD
inline constexpr dword wait_only_once = 8;       // WT_EXECUTEONLYONCE

inline constexpr int job_extended_limits = 9;
inline constexpr int job_cpu_rate_control = 15;
inline constexpr dword job_kill_on_close = 0x2000;
inline constexpr dword job_silent_breakaway = 0x1000;

inline constexpr dword page_readwrite = 0x04;
inline constexpr dword section_reserve = 0x04000000;
inline constexpr dword section_commit = 0x08000000;
inline constexpr dword map_write = 2;
inline constexpr dword map_read = 4;
inline constexpr dword mem_commit = 0x1000;
inline constexpr dword mem_reset = 0x80000;

inline constexpr dword pipe_inbound = 1;
inline constexpr dword pipe_duplex = 3;
inline constexpr dword pipe_type_message = 4;
inline constexpr dword pipe_read_message = 2;
inline constexpr dword pipe_any_number = 255;           // PIPE_UNLIMITED_INSTANCES
inline constexpr dword only_identify_me = 0x00110000;   // SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION
inline constexpr ulong_ptr status_pending = 0x103;      // of an overlapped operation, in `internal`
inline constexpr dword flag_first_instance = 0x00080000;
inline constexpr dword flag_overlapped = 0x40000000;
inline constexpr dword pipe_reject_remote = 8;
inline constexpr dword access_generic_read = 0x80000000;
inline constexpr dword access_generic_write = 0x40000000;
inline constexpr dword access_append = 0x00120114;  // FILE_GENERIC_WRITE without FILE_WRITE_DATA
inline constexpr dword share_all = 7;               // read, write, delete
inline constexpr dword create_always = 2;
inline constexpr dword open_existing = 3;
inline constexpr dword open_always = 4;
inline constexpr dword attribute_directory = 0x10;
inline constexpr dword no_attributes = 0xFFFFFFFF;  // INVALID_FILE_ATTRIBUTES
inline constexpr dword type_character = 2;          // FILE_TYPE_CHAR
inline constexpr dword type_pipe = 3;               // FILE_TYPE_PIPE

inline constexpr int system_process_table = 5;      // SystemProcessInformation
inline constexpr dword info_length_mismatch = 0xC0000004;
inline constexpr dword token_query = 8;
inline constexpr int token_user = 1;

inline constexpr dword module_from_address = 4;
inline constexpr dword module_no_refcount = 2;
inline constexpr dword library_from_system = 0x800;  // LOAD_LIBRARY_SEARCH_SYSTEM32
inline constexpr unsigned int code_page_utf8 = 65001;

/// INVALID_HANDLE_VALUE, which some calls return and some mean "no file" by.
inline handle_type bad_handle() noexcept { return reinterpret_cast<handle_type>(~std::uintptr_t{0}); }

/// A function that not every Windows has, or that lives in another library than kernel32; nullptr if there is none.
template <class Function>
Function lookup(wchar_t const* library, char const* function_name) noexcept {
  HINSTANCE__* module = GetModuleHandleW(library);
  if (module == nullptr) module = LoadLibraryExW(library, nullptr, library_from_system);
  if (module == nullptr) return nullptr;
  return reinterpret_cast<Function>(reinterpret_cast<void*>(GetProcAddress(module, function_name)));
}

}  // namespace polyproc::inline v0_1::detail::win32
