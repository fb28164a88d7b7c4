// The hand-made declarations of win32_api.hpp against those of the system. Built only for Windows, twice: here ours
// come first, in win32_api_windows_first_test.cpp <windows.h> does.
#if defined(POLYPROC_TEST_WINDOWS_FIRST)
#include <winsock2.h>
#include <windows.h>

#include <polyproc/backend/win32.hpp>
#else
#include <polyproc/backend/win32.hpp>

#if defined(WINAPI) || defined(CreateEvent) || defined(min) || defined(ERROR) || defined(INFINITE)
#error "our headers let macros of <windows.h> through"
#endif

#include <winsock2.h>
#include <windows.h>
#endif
#include <mswsock.h>
#include <winternl.h>
#include <ws2tcpip.h>

#include "support/catch.hpp"

#include <cstddef>
#include <cstring>
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
POLYPROC_TEST_FUNCTION(GetConsoleMode);
POLYPROC_TEST_FUNCTION(GetFileType);
POLYPROC_TEST_FUNCTION(GetStdHandle);
POLYPROC_TEST_FUNCTION(GetCurrentProcess);
POLYPROC_TEST_FUNCTION(GetCurrentThread);
POLYPROC_TEST_FUNCTION(GetCurrentProcessId);
POLYPROC_TEST_FUNCTION(GetCurrentThreadId);
POLYPROC_TEST_FUNCTION(OpenProcess);
POLYPROC_TEST_FUNCTION(OpenThread);
POLYPROC_TEST_FUNCTION(GetProcessTimes);
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
POLYPROC_TEST_FUNCTION(SetProcessAffinityMask);
POLYPROC_TEST_FUNCTION(GetPriorityClass);
POLYPROC_TEST_FUNCTION(SetPriorityClass);
POLYPROC_TEST_FUNCTION(SetConsoleCtrlHandler);
POLYPROC_TEST_FUNCTION(WaitForSingleObject);
POLYPROC_TEST_FUNCTION(WaitForMultipleObjects);
POLYPROC_TEST_FUNCTION(CreateEventW);
POLYPROC_TEST_FUNCTION(OpenEventW);
POLYPROC_TEST_FUNCTION(SetEvent);
POLYPROC_TEST_FUNCTION(ResetEvent);
POLYPROC_TEST_FUNCTION(CreateMutexW);
POLYPROC_TEST_FUNCTION(ReleaseMutex);
POLYPROC_TEST_FUNCTION(RegisterWaitForSingleObject);
POLYPROC_TEST_FUNCTION(UnregisterWaitEx);
POLYPROC_TEST_FUNCTION(CreateFileMappingW);
POLYPROC_TEST_FUNCTION(OpenFileMappingW);
POLYPROC_TEST_FUNCTION(MapViewOfFile);
POLYPROC_TEST_FUNCTION(UnmapViewOfFile);
POLYPROC_TEST_FUNCTION(VirtualAlloc);
POLYPROC_TEST_FUNCTION(VirtualQuery);
POLYPROC_TEST_FUNCTION(CreateNamedPipeW);
POLYPROC_TEST_FUNCTION(ConnectNamedPipe);
POLYPROC_TEST_FUNCTION(WaitNamedPipeW);
POLYPROC_TEST_FUNCTION(GetNamedPipeInfo);
POLYPROC_TEST_FUNCTION(SetNamedPipeHandleState);
POLYPROC_TEST_FUNCTION(CreateFileW);
POLYPROC_TEST_FUNCTION(ReadFile);
POLYPROC_TEST_FUNCTION(WriteFile);
POLYPROC_TEST_FUNCTION(PeekNamedPipe);
POLYPROC_TEST_FUNCTION(GetOverlappedResult);
POLYPROC_TEST_FUNCTION(CancelIoEx);
POLYPROC_TEST_FUNCTION(GetFileAttributesW);
POLYPROC_TEST_FUNCTION(SetCurrentDirectoryW);
POLYPROC_TEST_FUNCTION(GetModuleHandleW);
POLYPROC_TEST_FUNCTION(GetModuleHandleExW);
POLYPROC_TEST_FUNCTION(GetModuleFileNameW);
POLYPROC_TEST_FUNCTION(LoadLibraryW);
POLYPROC_TEST_FUNCTION(LoadLibraryExW);
POLYPROC_TEST_FUNCTION(GetProcAddress);
POLYPROC_TEST_FUNCTION(GetEnvironmentVariableW);
POLYPROC_TEST_FUNCTION(GetEnvironmentStringsW);
POLYPROC_TEST_FUNCTION(FreeEnvironmentStringsW);
POLYPROC_TEST_FUNCTION(CompareStringOrdinal);
POLYPROC_TEST_FUNCTION(MultiByteToWideChar);
POLYPROC_TEST_FUNCTION(WideCharToMultiByte);

// Functions that are looked up: an enum or a handle may differ in name, never in size.
static_assert(sizeof(JOBOBJECTINFOCLASS) == sizeof(int) && sizeof(PROCESSINFOCLASS) == sizeof(int));
static_assert(sizeof(SYSTEM_INFORMATION_CLASS) == sizeof(int) && sizeof(TOKEN_INFORMATION_CLASS) == sizeof(int));
static_assert(std::is_invocable_v<decltype(&::CreateJobObjectW), _SECURITY_ATTRIBUTES*, wchar_t const*>);
static_assert(std::is_same_v<ours::assign_job_function, decltype(&::AssignProcessToJobObject)>);
static_assert(std::is_same_v<ours::end_job_function, decltype(&::TerminateJobObject)>);
static_assert(std::is_same_v<ours::open_token_function, decltype(&::OpenProcessToken)>);
static_assert(std::is_invocable_v<decltype(&::LookupAccountSidW), wchar_t const*, void*, wchar_t*, DWORD*, wchar_t*,
                                  DWORD*, SID_NAME_USE*>);
static_assert(sizeof(SID_NAME_USE) == sizeof(int));

static_assert(std::is_invocable_v<decltype(&::GetKernelObjectSecurity), HANDLE, DWORD, void*, DWORD, DWORD*>);

// Winsock: what is a socket address there has no type here, pointers to it are void*.
static_assert(std::is_same_v<ours::socket_type, SOCKET> && ours::no_socket == INVALID_SOCKET);
static_assert(sizeof(WSADATA) <= sizeof(std::uint64_t[64]));
static_assert(std::is_same_v<decltype(ours::winsock::close), decltype(&::closesocket)>);
static_assert(std::is_same_v<decltype(ours::winsock::listen), decltype(&::listen)>);
static_assert(std::is_same_v<decltype(ours::winsock::set_option), decltype(&::setsockopt)>);
static_assert(std::is_same_v<decltype(ours::winsock::get_option), decltype(&::getsockopt)>);
static_assert(std::is_same_v<decltype(ours::winsock::control), decltype(&::ioctlsocket)>);
static_assert(std::is_same_v<decltype(ours::winsock::send), decltype(&::send)>);
static_assert(std::is_same_v<decltype(ours::winsock::receive), decltype(&::recv)>);
static_assert(std::is_same_v<decltype(ours::winsock::shutdown), decltype(&::shutdown)>);
static_assert(std::is_invocable_r_v<int, decltype(&::bind), SOCKET, sockaddr const*, int>);
static_assert(std::is_invocable_r_v<int, decltype(&::connect), SOCKET, sockaddr const*, int>);
static_assert(std::is_invocable_r_v<int, decltype(&::getsockname), SOCKET, sockaddr*, int*>);
static_assert(std::is_invocable_r_v<int, decltype(&::WSAStartup), unsigned short, WSADATA*>);
static_assert(std::is_invocable_r_v<SOCKET, decltype(&::WSASocketW), int, int, int, WSAPROTOCOL_INFOW*, unsigned, DWORD>);
static_assert(std::is_invocable_r_v<int, decltype(&::WSADuplicateSocketW), SOCKET, DWORD, WSAPROTOCOL_INFOW*>);
static_assert(std::is_invocable_r_v<int, decltype(&::WSARecv), SOCKET, WSABUF*, DWORD, DWORD*, DWORD*, OVERLAPPED*,
                                    LPWSAOVERLAPPED_COMPLETION_ROUTINE>);
static_assert(std::is_invocable_r_v<int, decltype(&::WSAIoctl), SOCKET, DWORD, void*, DWORD, void*, DWORD, DWORD*,
                                    OVERLAPPED*, LPWSAOVERLAPPED_COMPLETION_ROUTINE>);
static_assert(std::is_invocable_r_v<int, decltype(&::GetAddrInfoW), wchar_t const*, wchar_t const*, ADDRINFOW const*,
                                    ADDRINFOW**>);
static_assert(std::is_invocable_r_v<void, decltype(&::FreeAddrInfoW), ADDRINFOW*>);
static_assert(std::is_invocable_r_v<BOOL, LPFN_ACCEPTEX, SOCKET, SOCKET, void*, DWORD, DWORD, DWORD, DWORD*, OVERLAPPED*>);

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
POLYPROC_TEST_FIELD(overlapped, internal, OVERLAPPED, Internal);
POLYPROC_TEST_STRUCT(socket_buffer, WSABUF);
POLYPROC_TEST_FIELD(socket_buffer, size, WSABUF, len);
POLYPROC_TEST_FIELD(socket_buffer, data, WSABUF, buf);
POLYPROC_TEST_STRUCT(socket_time, timeval);
POLYPROC_TEST_FIELD(socket_time, microseconds, timeval, tv_usec);
static_assert(offsetof(ours::socket_set, all) == offsetof(fd_set, fd_array));
POLYPROC_TEST_STRUCT(address_info, ADDRINFOW);
POLYPROC_TEST_FIELD(address_info, kind, ADDRINFOW, ai_socktype);
POLYPROC_TEST_FIELD(address_info, length, ADDRINFOW, ai_addrlen);
POLYPROC_TEST_FIELD(address_info, address, ADDRINFOW, ai_addr);
POLYPROC_TEST_FIELD(address_info, next, ADDRINFOW, ai_next);
POLYPROC_TEST_STRUCT(socket_description, WSAPROTOCOL_INFOW);
POLYPROC_TEST_STRUCT(function_name, GUID);
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
POLYPROC_TEST_STRUCT(counted_text, UNICODE_STRING);
POLYPROC_TEST_FIELD(counted_text, bytes, UNICODE_STRING, Length);
POLYPROC_TEST_FIELD(counted_text, text, UNICODE_STRING, Buffer);
POLYPROC_TEST_STRUCT(system_process, SYSTEM_PROCESS_INFORMATION);
POLYPROC_TEST_FIELD(system_process, next, SYSTEM_PROCESS_INFORMATION, NextEntryOffset);
POLYPROC_TEST_FIELD(system_process, threads, SYSTEM_PROCESS_INFORMATION, NumberOfThreads);
POLYPROC_TEST_FIELD(system_process, image, SYSTEM_PROCESS_INFORMATION, ImageName);
POLYPROC_TEST_FIELD(system_process, id, SYSTEM_PROCESS_INFORMATION, UniqueProcessId);
POLYPROC_TEST_FIELD(system_process, handles, SYSTEM_PROCESS_INFORMATION, HandleCount);
POLYPROC_TEST_STRUCT(system_thread, SYSTEM_THREAD_INFORMATION);
POLYPROC_TEST_FIELD(system_thread, state, SYSTEM_THREAD_INFORMATION, ThreadState);
POLYPROC_TEST_FIELD(system_thread, wait_reason, SYSTEM_THREAD_INFORMATION, WaitReason);
// These have other names, or none, in Microsoft's header.
#if defined(__MINGW32__)
POLYPROC_TEST_FIELD(system_process, created, SYSTEM_PROCESS_INFORMATION, CreateTime);
POLYPROC_TEST_FIELD(system_process, user_time, SYSTEM_PROCESS_INFORMATION, UserTime);
POLYPROC_TEST_FIELD(system_process, kernel_time, SYSTEM_PROCESS_INFORMATION, KernelTime);
POLYPROC_TEST_FIELD(system_process, parent, SYSTEM_PROCESS_INFORMATION, InheritedFromUniqueProcessId);
POLYPROC_TEST_FIELD(system_process, peak_virtual, SYSTEM_PROCESS_INFORMATION, VirtualMemoryCounters.PeakVirtualSize);
POLYPROC_TEST_FIELD(system_process, working_set, SYSTEM_PROCESS_INFORMATION, VirtualMemoryCounters.WorkingSetSize);
POLYPROC_TEST_FIELD(system_process, io, SYSTEM_PROCESS_INFORMATION, IoCounters);
#endif

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
static_assert(ours::error_path_not_found == ERROR_PATH_NOT_FOUND);
static_assert(ours::error_invalid_handle == ERROR_INVALID_HANDLE);
static_assert(ours::error_directory == ERROR_DIRECTORY);
static_assert(ours::process_terminate == PROCESS_TERMINATE);
static_assert(ours::process_suspend_resume == PROCESS_SUSPEND_RESUME);
static_assert(ours::process_look == PROCESS_QUERY_LIMITED_INFORMATION);
static_assert(ours::synchronize == SYNCHRONIZE);
static_assert(ours::create_new_group == CREATE_NEW_PROCESS_GROUP);
static_assert(ours::create_unicode_environment == CREATE_UNICODE_ENVIRONMENT);
static_assert(ours::class_idle == IDLE_PRIORITY_CLASS);
static_assert(ours::class_below_normal == BELOW_NORMAL_PRIORITY_CLASS);
static_assert(ours::class_normal == NORMAL_PRIORITY_CLASS);
static_assert(ours::class_above_normal == ABOVE_NORMAL_PRIORITY_CLASS);
static_assert(ours::class_high == HIGH_PRIORITY_CLASS);
static_assert(ours::class_realtime == REALTIME_PRIORITY_CLASS);
static_assert(ours::most_wait_objects == MAXIMUM_WAIT_OBJECTS);
static_assert(ours::wait_in_wait_thread == WT_EXECUTEINWAITTHREAD);
static_assert(ours::wait_only_once == WT_EXECUTEONLYONCE);
static_assert(ours::access_generic_read == GENERIC_READ);
static_assert(ours::access_append == (FILE_GENERIC_WRITE & ~static_cast<DWORD>(FILE_WRITE_DATA)));
static_assert(ours::share_all == (FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE));
static_assert(ours::create_always == CREATE_ALWAYS);
static_assert(ours::open_always == OPEN_ALWAYS);
static_assert(ours::attribute_directory == FILE_ATTRIBUTE_DIRECTORY);
static_assert(ours::no_attributes == INVALID_FILE_ATTRIBUTES);
static_assert(ours::type_character == FILE_TYPE_CHAR);
static_assert(ours::type_pipe == FILE_TYPE_PIPE);
static_assert(ours::error_handle_eof == ERROR_HANDLE_EOF);
static_assert(ours::error_more_data == ERROR_MORE_DATA);
static_assert(ours::error_pipe_busy == ERROR_PIPE_BUSY);
static_assert(ours::error_pipe_not_connected == ERROR_PIPE_NOT_CONNECTED);
static_assert(ours::error_pipe_connected == ERROR_PIPE_CONNECTED);
static_assert(ours::error_operation_aborted == ERROR_OPERATION_ABORTED);
static_assert(ours::error_io_incomplete == ERROR_IO_INCOMPLETE);
static_assert(ours::event_modify == EVENT_MODIFY_STATE);
static_assert(ours::pipe_duplex == PIPE_ACCESS_DUPLEX);
static_assert(ours::pipe_type_message == PIPE_TYPE_MESSAGE);
static_assert(ours::pipe_read_message == PIPE_READMODE_MESSAGE);
static_assert(ours::pipe_any_number == PIPE_UNLIMITED_INSTANCES);
static_assert(ours::only_identify_me == (SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION));
static_assert(ours::status_pending == STATUS_PENDING);
static_assert(ours::kind_stream == SOCK_STREAM);
static_assert(ours::protocol_tcp == IPPROTO_TCP);
static_assert(ours::resolve_passive == AI_PASSIVE);
static_assert(ours::socket_overlapped == WSA_FLAG_OVERLAPPED);
static_assert(ours::socket_not_inherited == WSA_FLAG_NO_HANDLE_INHERIT);
static_assert(ours::from_description == FROM_PROTOCOL_INFO);
static_assert(ours::level_socket == SOL_SOCKET);
static_assert(ours::option_error == SO_ERROR);
static_assert(ours::option_accept_context == SO_UPDATE_ACCEPT_CONTEXT);
static_assert(ours::option_no_delay == TCP_NODELAY);
static_assert(ours::shutdown_send == SD_SEND);
static_assert(ours::control_not_waiting == static_cast<std::uint32_t>(FIONBIO));
static_assert(ours::control_get_function == SIO_GET_EXTENSION_FUNCTION_POINTER);
static_assert(ours::control_first_timeout == _WSAIOW(IOC_VENDOR, 17));  // SIO_TCP_INITIAL_RTO
static_assert(ours::socket_would_block == WSAEWOULDBLOCK);
static_assert(ours::socket_invalid == WSAEINVAL);
static_assert(ours::socket_not_connected == WSAENOTCONN);
static_assert(ours::system_process_table == SystemProcessInformation);
static_assert(ours::token_query == TOKEN_QUERY);
static_assert(ours::token_user == TokenUser);

}  // namespace

#if defined(POLYPROC_TEST_WINDOWS_FIRST)
TEST_CASE("our declarations follow those of <windows.h>") {
#else
TEST_CASE("our declarations precede those of <windows.h>") {
#endif
  CHECK(ours::bad_handle() == INVALID_HANDLE_VALUE);
  GUID const accept_ex = WSAID_ACCEPTEX;
  CHECK(std::memcmp(&accept_ex, &ours::accept_ex_name, sizeof accept_ex) == 0);
  CHECK(ours::GetCurrentProcessId() == ::GetCurrentProcessId());
}
