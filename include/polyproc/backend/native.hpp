/// Picks the backend of this build. The backend's type is part of every mangled name, so translation units
/// built for different backends do not link with each other.
#pragma once

#include <polyproc/backend/concept.hpp>
#include <polyproc/backend/lasting.hpp>

#if defined(_WIN32)
#include <polyproc/backend/win32.hpp>
#elif defined(POLYPROC_BACKEND_POSIX) || !defined(__linux__)
#include <polyproc/backend/posix.hpp>
#else
#include <polyproc/backend/linux.hpp>
#endif

namespace polyproc::inline v0_1 {

#if defined(_WIN32)
using native_backend = win32_backend;
#elif defined(POLYPROC_BACKEND_POSIX) || !defined(__linux__)
using native_backend = posix_backend;
#else
using native_backend = linux_backend;
#endif

static_assert(backend<native_backend>);

}  // namespace polyproc::inline v0_1
