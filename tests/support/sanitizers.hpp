/// Which sanitizers this is compiled with, said in one way for GCC and Clang: defined or not.
#pragma once

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POLYPROC_TEST_ADDRESS_SANITIZER
#endif
#if __has_feature(thread_sanitizer)
#define POLYPROC_TEST_THREAD_SANITIZER
#endif
#else
#if defined(__SANITIZE_ADDRESS__)
#define POLYPROC_TEST_ADDRESS_SANITIZER
#endif
#if defined(__SANITIZE_THREAD__)
#define POLYPROC_TEST_THREAD_SANITIZER
#endif
#endif
