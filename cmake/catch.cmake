# Target polyproc_catch: Catch2, version 2 or 3, as found on this machine.
add_library(polyproc_catch INTERFACE)
if(CMAKE_CROSSCOMPILING)
  find_package(Catch2 3 QUIET)
  if(TARGET Catch2::Catch2)
    target_link_libraries(polyproc_catch INTERFACE Catch2::Catch2)
    return()
  endif()
  # Version 2 is one header, the same for every system; only that one is taken, not the directory full of headers of the
  # build machine in which it lies.
  find_file(POLYPROC_CATCH_HEADER catch2/catch.hpp PATHS /usr/include /usr/local/include NO_CMAKE_FIND_ROOT_PATH)
  if(NOT POLYPROC_CATCH_HEADER)
    message(FATAL_ERROR "polyproc: the tests need Catch2: catch2/catch.hpp of version 2 (Debian: apt-get install catch2) "
                        "or version 3 built for ${CMAKE_SYSTEM_NAME}. Without tests: -DPOLYPROC_BUILD_TESTS=OFF")
  endif()
  configure_file("${POLYPROC_CATCH_HEADER}" "${PROJECT_BINARY_DIR}/catch/catch2/catch.hpp" COPYONLY)
  target_include_directories(polyproc_catch SYSTEM INTERFACE "${PROJECT_BINARY_DIR}/catch")
  return()
endif()

find_package(Catch2 QUIET)
if(TARGET Catch2::Catch2)
  target_link_libraries(polyproc_catch INTERFACE Catch2::Catch2)
else()
  find_path(POLYPROC_CATCH_INCLUDE catch2/catch.hpp)
  if(NOT POLYPROC_CATCH_INCLUDE)
    message(FATAL_ERROR "polyproc: the tests need Catch2, version 2 or 3 (Debian: apt-get install catch2). "
                        "Without tests: -DPOLYPROC_BUILD_TESTS=OFF")
  endif()
  target_include_directories(polyproc_catch SYSTEM INTERFACE "${POLYPROC_CATCH_INCLUDE}")
endif()
