/// The version, here and nowhere else: CMake, Meson, the Conan recipe and the tests read it from these lines.
#pragma once

namespace polyproc::inline v0_1 {

inline constexpr int version_major = 0;
inline constexpr int version_minor = 1;
inline constexpr int version_patch = 0;

}  // namespace polyproc::inline v0_1
