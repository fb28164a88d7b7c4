# What only polyproc's own tests, examples and benchmarks use.
if(NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(POLYPROC_CCACHE ccache)
  if(POLYPROC_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${POLYPROC_CCACHE}")
  endif()
endif()
set(CMAKE_CXX_EXTENSIONS OFF)

# The name of the backend that this tree's programs use.
if(WIN32)
  set(polyproc_backend_name win32)
elseif(POLYPROC_BACKEND STREQUAL "posix" OR NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(polyproc_backend_name posix)
else()
  set(polyproc_backend_name linux)
endif()

add_library(polyproc_development INTERFACE)
target_link_libraries(polyproc_development INTERFACE polyproc::polyproc)
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  # The same list as in tests/house/house.py.
  target_compile_options(
    polyproc_development
    INTERFACE -Wall
              -Wextra
              -Wpedantic
              -Wconversion
              -Wsign-conversion
              -Wshadow
              -Wnon-virtual-dtor
              -Wold-style-cast
              -Wcast-qual
              -Woverloaded-virtual
              -Wundef
              "$<$<BOOL:${POLYPROC_WERROR}>:-Werror>")
endif()
if(MINGW)
  # Programs run without the compiler's own libraries beside them.
  target_link_options(polyproc_development INTERFACE -static)
endif()
