// win32_api_test.cpp with <windows.h> before our headers, with its macros of min and max.
#define POLYPROC_TEST_WINDOWS_FIRST
#include "win32_api_test.cpp"
