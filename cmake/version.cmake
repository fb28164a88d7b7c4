# Sets POLYPROC_VERSION from include/polyproc/version.hpp, the one place where it stands.
file(READ "${CMAKE_CURRENT_LIST_DIR}/../include/polyproc/version.hpp" polyproc_version_text)
foreach(part IN ITEMS major minor patch)
  if(NOT polyproc_version_text MATCHES "constexpr int version_${part} = ([0-9]+);")
    message(FATAL_ERROR "polyproc: include/polyproc/version.hpp does not say version_${part}.")
  endif()
  set(polyproc_version_${part} "${CMAKE_MATCH_1}")
endforeach()
set(POLYPROC_VERSION "${polyproc_version_major}.${polyproc_version_minor}.${polyproc_version_patch}")
# A changed version configures anew.
set_property(
  DIRECTORY
  APPEND
  PROPERTY CMAKE_CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/../include/polyproc/version.hpp")
