// The hand-made declarations of win32_api.hpp against those of the system. Built only for Windows, twice: here ours
// come first, in win32_api_windows_first_test.cpp <windows.h> does.
#if defined(POLYPROC_TEST_WINDOWS_FIRST)
#include <windows.h>

#include <polyproc/backend/win32.hpp>
#else
#include <polyproc/backend/win32.hpp>

#if defined(WINAPI) || defined(CreateEvent) || defined(min) || defined(ERROR) || defined(INFINITE)
#error "our headers let macros of <windows.h> through"
#endif

#include <windows.h>
#endif
#include <winternl.h>

#include "support/catch.hpp"

#include <cstddef>
#include <type_traits>

namespace {

namespace ours = polyproc::detail::win32;

static_assert(std::is_same_v<ours::handle_type, HANDLE>);
static_assert(std::is_same_v<ours::dword, DWORD>);
static_assert(std::is_same_v<ours::ulong_ptr, ULONG_PTR>);
static_assert(std::is_same_v<ours::ulong_ptr, SIZE_T>);
static_assert(std::is_same_v<ours::function, FARPROC>);
static_assert(std::is_same_v<HINSTANCE__*, HMODULE>);

// A different signature would not compile at all, both being C functions of one name; this also sees the result.
#define POLYPROC_TEST_FUNCTION(name) static_assert(std::is_same_v<decltype(&ours::name), decltype(&::name)>)
POLYPROC_TEST_FUNCTION(GetLastError);
POLYPROC_TEST_FUNCTION(SetLastError);
POLYPROC_TEST_FUNCTION(CloseHandle);
POLYPROC_TEST_FUNCTION(DuplicateHandle);
POLYPROC_TEST_FUNCTION(SetHandleInformation);
POLYPROC_TEST_FUNCTION(GetStdHandle);
POLYPROC_TEST_FUNCTION(GetCurrentProcess);
POLYPROC_TEST_FUNCTION(GetCurrentThread);
POLYPROC_TEST_FUNCTION(GetCurrentProcessId);
POLYPROC_TEST_FUNCTION(GetCurrentThreadId);
POLYPROC_TEST_FUNCTION(OpenThread);
POLYPROC_TEST_FUNCTION(GetThreadTimes);
POLYPROC_TEST_FUNCTION(SwitchToThread);
POLYPROC_TEST_FUNCTION(Sleep);
POLYPROC_TEST_FUNCTION(ResumeThread);
POLYPROC_TEST_FUNCTION(TerminateProcess);
POLYPROC_TEST_FUNCTION(GetExitCodeProcess);
POLYPROC_TEST_FUNCTION(CreateProcessW);
POLYPROC_TEST_FUNCTION(InitializeProcThreadAttributeList);
POLYPROC_TEST_FUNCTION(UpdateProcThreadAttribute);
POLYPROC_TEST_FUNCTION(DeleteProcThreadAttributeList);
POLYPROC_TEST_FUNCTION(GetProcessAffinityMask);
POLYPROC_TEST_FUNCTION(WaitForSingleObject);
POLYPROC_TEST_FUNCTION(WaitForMultipleObjects);
POLYPROC_TEST_FUNCTION(CreateEventW);
POLYPROC_TEST_FUNCTION(SetEvent);
POLYPROC_TEST_FUNCTION(ResetEvent);
POLYPROC_TEST_FUNCTION(CreateMutexW);
POLYPROC_TEST_FUNCTION(ReleaseMutex);
POLYPROC_TEST_FUNCTION(CreateFileMappingW);
POLYPROC_TEST_FUNCTION(OpenFileMappingW);
POLYPROC_TEST_FUNCTION(MapViewOfFile);
POLYPROC_TEST_FUNCTION(UnmapViewOfFile);
POLYPROC_TEST_FUNCTION(VirtualAlloc);
POLYPROC_TEST_FUNCTION(VirtualQuery);
POLYPROC_TEST_FUNCTION(CreatePipe);
POLYPROC_TEST_FUNCTION(CreateNamedPipeW);
POLYPROC_TEST_FUNCTION(CreateFileW);
POLYPROC_TEST_FUNCTION(ReadFile);
POLYPROC_TEST_FUNCTION(WriteFile);
POLYPROC_TEST_FUNCTION(PeekNamedPipe);
POLYPROC_TEST_FUNCTION(GetOverlappedResult);
POLYPROC_TEST_FUNCTION(CancelIoEx);
POLYPROC_TEST_FUNCTION(GetModuleHandleW);
POLYPROC_TEST_FUNCTION(GetModuleHandleExW);
POLYPROC_TEST_FUNCTION(GetModuleFileNameW);
POLYPROC_TEST_FUNCTION(LoadLibraryW);
POLYPROC_TEST_FUNCTION(LoadLibraryExW);
POLYPROC_TEST_FUNCTION(GetProcAddress);
POLYPROC_TEST_FUNCTION(GetEnvironmentVariableW);
POLYPROC_TEST_FUNCTION(MultiByteToWideChar);
POLYPROC_TEST_FUNCTION(WideCharToMultiByte);

// Functions that are looked up: an enum or a handle may differ in name, never in size.
static_assert(sizeof(JOBOBJECTINFOCLASS) == sizeof(int) && sizeof(PROCESSINFOCLASS) == sizeof(int));
static_assert(std::is_invocable_v<decltype(&::CreateJobObjectW), _SECURITY_ATTRIBUTES*, wchar_t const*>);

#define POLYPROC_TEST_STRUCT(mine, system) \
  static_assert(sizeof(ours::mine) == sizeof(system) && alignof(ours::mine) == alignof(system))
#define POLYPROC_TEST_FIELD(mine, field, system, Field)                      \
  static_assert(offsetof(ours::mine, field) == offsetof(system, Field) &&    \
                sizeof(ours::mine::field) == sizeof(std::declval<system>().Field))
POLYPROC_TEST_STRUCT(filetime, FILETIME);
POLYPROC_TEST_FIELD(filetime, low, FILETIME, dwLowDateTime);
POLYPROC_TEST_FIELD(filetime, high, FILETIME, dwHighDateTime);
POLYPROC_TEST_STRUCT(security_attributes, SECURITY_ATTRIBUTES);
POLYPROC_TEST_FIELD(security_attributes, length, SECURITY_ATTRIBUTES, nLength);
POLYPROC_TEST_FIELD(security_attributes, descriptor, SECURITY_ATTRIBUTES, lpSecurityDescriptor);
POLYPROC_TEST_FIELD(security_attributes, inherit, SECURITY_ATTRIBUTES, bInheritHandle);
POLYPROC_TEST_STRUCT(overlapped, OVERLAPPED);
POLYPROC_TEST_FIELD(overlapped, offset, OVERLAPPED, Offset);
POLYPROC_TEST_FIELD(overlapped, event, OVERLAPPED, hEvent);
POLYPROC_TEST_STRUCT(process_information, PROCESS_INFORMATION);
POLYPROC_TEST_FIELD(process_information, process, PROCESS_INFORMATION, hProcess);
POLYPROC_TEST_FIELD(process_information, thread, PROCESS_INFORMATION, hThread);
POLYPROC_TEST_FIELD(process_information, process_id, PROCESS_INFORMATION, dwProcessId);
POLYPROC_TEST_STRUCT(startup_info, STARTUPINFOW);
POLYPROC_TEST_FIELD(startup_info, size, STARTUPINFOW, cb);
POLYPROC_TEST_FIELD(startup_info, flags, STARTUPINFOW, dwFlags);
POLYPROC_TEST_FIELD(startup_info, show, STARTUPINFOW, wShowWindow);
POLYPROC_TEST_FIELD(startup_info, reserved2, STARTUPINFOW, lpReserved2);
POLYPROC_TEST_FIELD(startup_info, input, STARTUPINFOW, hStdInput);
POLYPROC_TEST_FIELD(startup_info, output, STARTUPINFOW, hStdOutput);
POLYPROC_TEST_FIELD(startup_info, error, STARTUPINFOW, hStdError);
POLYPROC_TEST_STRUCT(startup_info_ex, STARTUPINFOEXW);
POLYPROC_TEST_FIELD(startup_info_ex, attributes, STARTUPINFOEXW, lpAttributeList);
POLYPROC_TEST_STRUCT(memory_facts, MEMORY_BASIC_INFORMATION);
POLYPROC_TEST_FIELD(memory_facts, base, MEMORY_BASIC_INFORMATION, BaseAddress);
POLYPROC_TEST_FIELD(memory_facts, size, MEMORY_BASIC_INFORMATION, RegionSize);
POLYPROC_TEST_STRUCT(job_limits, JOBOBJECT_EXTENDED_LIMIT_INFORMATION);
POLYPROC_TEST_FIELD(job_limits, flags, JOBOBJECT_EXTENDED_LIMIT_INFORMATION, BasicLimitInformation.LimitFlags);
POLYPROC_TEST_FIELD(job_limits, io, JOBOBJECT_EXTENDED_LIMIT_INFORMATION, IoInfo);
POLYPROC_TEST_FIELD(job_limits, process_memory, JOBOBJECT_EXTENDED_LIMIT_INFORMATION, ProcessMemoryLimit);
POLYPROC_TEST_STRUCT(process_basics, PROCESS_BASIC_INFORMATION);
POLYPROC_TEST_FIELD(process_basics, id, PROCESS_BASIC_INFORMATION, UniqueProcessId);

static_assert(ours::infinite == INFINITE);
static_assert(ours::wait_signaled == WAIT_OBJECT_0);
static_assert(ours::wait_timed_out == WAIT_TIMEOUT);
static_assert(ours::wait_abandoned == WAIT_ABANDONED);
static_assert(ours::error_file_not_found == ERROR_FILE_NOT_FOUND);
static_assert(ours::error_access_denied == ERROR_ACCESS_DENIED);
static_assert(ours::error_not_enough_memory == ERROR_NOT_ENOUGH_MEMORY);
static_assert(ours::error_out_of_memory == ERROR_OUTOFMEMORY);
static_assert(ours::error_disk_full == ERROR_DISK_FULL);
static_assert(ours::error_already_exists == ERROR_ALREADY_EXISTS);
static_assert(ours::error_no_resources == ERROR_NO_SYSTEM_RESOURCES);
static_assert(ours::error_commitment_limit == ERROR_COMMITMENT_LIMIT);
static_assert(ours::error_invalid_parameter == ERROR_INVALID_PARAMETER);
static_assert(ours::error_broken_pipe == ERROR_BROKEN_PIPE);
static_assert(ours::error_env_not_found == ERROR_ENVVAR_NOT_FOUND);
static_assert(ours::error_no_data == ERROR_NO_DATA);
static_assert(ours::error_io_pending == ERROR_IO_PENDING);
static_assert(ours::handle_inherit == HANDLE_FLAG_INHERIT);
static_assert(ours::same_access == DUPLICATE_SAME_ACCESS);
static_assert(ours::std_input == STD_INPUT_HANDLE);
static_assert(ours::std_output == STD_OUTPUT_HANDLE);
static_assert(ours::std_error == STD_ERROR_HANDLE);
static_assert(ours::thread_access == (SYNCHRONIZE | THREAD_QUERY_LIMITED_INFORMATION));
static_assert(ours::create_suspended == CREATE_SUSPENDED);
static_assert(ours::extended_startup_info == EXTENDED_STARTUPINFO_PRESENT);
static_assert(ours::use_std_handles == STARTF_USESTDHANDLES);
static_assert(ours::attribute_handle_list == PROC_THREAD_ATTRIBUTE_HANDLE_LIST);
static_assert(ours::job_extended_limits == JobObjectExtendedLimitInformation);
static_assert(ours::job_cpu_rate_control == 15);  // some versions of the header lack the name
static_assert(ours::job_kill_on_close == JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE);
static_assert(ours::job_silent_breakaway == JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK);
static_assert(ours::page_readwrite == PAGE_READWRITE);
static_assert(ours::section_reserve == SEC_RESERVE);
static_assert(ours::section_commit == SEC_COMMIT);
static_assert(ours::map_write == FILE_MAP_WRITE);
static_assert(ours::map_read == FILE_MAP_READ);
static_assert(ours::mem_commit == MEM_COMMIT);
static_assert(ours::mem_reset == MEM_RESET);
static_assert(ours::pipe_inbound == PIPE_ACCESS_INBOUND);
static_assert(ours::flag_first_instance == FILE_FLAG_FIRST_PIPE_INSTANCE);
static_assert(ours::flag_overlapped == FILE_FLAG_OVERLAPPED);
static_assert(ours::pipe_reject_remote == PIPE_REJECT_REMOTE_CLIENTS);
static_assert(ours::access_generic_write == GENERIC_WRITE);
static_assert(ours::open_existing == OPEN_EXISTING);
static_assert(ours::module_from_address == GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS);
static_assert(ours::module_no_refcount == GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT);
static_assert(ours::library_from_system == LOAD_LIBRARY_SEARCH_SYSTEM32);
static_assert(ours::code_page_utf8 == CP_UTF8);

}  // namespace

#if defined(POLYPROC_TEST_WINDOWS_FIRST)
TEST_CASE("our declarations follow those of <windows.h>") {
#else
TEST_CASE("our declarations precede those of <windows.h>") {
#endif
  CHECK(ours::bad_handle() == INVALID_HANDLE_VALUE);
  CHECK(ours::GetCurrentProcessId() == ::GetCurrentProcessId());
}
