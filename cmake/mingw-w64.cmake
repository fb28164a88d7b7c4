# Builds for 64-bit Windows on Unix and runs what it built under Wine.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)

# Debian has both thread models under these names; elsewhere there is one, without a suffix.
find_program(POLYPROC_MINGW_CXX NAMES x86_64-w64-mingw32-g++-posix x86_64-w64-mingw32-g++ REQUIRED)
find_program(POLYPROC_MINGW_CC NAMES x86_64-w64-mingw32-gcc-posix x86_64-w64-mingw32-gcc REQUIRED)
set(CMAKE_CXX_COMPILER "${POLYPROC_MINGW_CXX}")
set(CMAKE_C_COMPILER "${POLYPROC_MINGW_CC}")

set(CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

find_program(POLYPROC_WINE NAMES wine64 wine PATHS /usr/lib/wine /usr/lib64/wine)
if(POLYPROC_WINE)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${POLYPROC_WINE}")
endif()
