# Headers, the CMake package and the pkg-config file. All of it is independent of the processor and finds its way from
# where it lies, so an installed tree can be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(POLYPROC_INSTALL_CMAKEDIR "${CMAKE_INSTALL_DATADIR}/cmake/polyproc"
    CACHE STRING "Where the CMake package goes, below the prefix")
set(POLYPROC_INSTALL_PKGCONFIGDIR "${CMAKE_INSTALL_DATADIR}/pkgconfig"
    CACHE STRING "Where the pkg-config file goes, below the prefix")

install(
  DIRECTORY "${CMAKE_CURRENT_LIST_DIR}/../include/"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING
  PATTERN "*.hpp")
install(FILES "${CMAKE_CURRENT_LIST_DIR}/../LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/polyproc")

set_property(TARGET polyproc PROPERTY EXPORT_NAME polyproc)
install(TARGETS polyproc EXPORT polyprocTargets INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(
  EXPORT polyprocTargets
  NAMESPACE polyproc::
  DESTINATION "${POLYPROC_INSTALL_CMAKEDIR}")
configure_package_config_file(
  "${CMAKE_CURRENT_LIST_DIR}/polyprocConfig.cmake.in" "${PROJECT_BINARY_DIR}/polyprocConfig.cmake"
  INSTALL_DESTINATION "${POLYPROC_INSTALL_CMAKEDIR}")
# Before 1.0 a minor version may change anything.
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/polyprocConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion
  ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/polyprocConfig.cmake" "${PROJECT_BINARY_DIR}/polyprocConfigVersion.cmake"
        DESTINATION "${POLYPROC_INSTALL_CMAKEDIR}")

set(polyproc_pc_cflags "")
if(POLYPROC_BACKEND STREQUAL "posix")
  set(polyproc_pc_cflags "-DPOLYPROC_BACKEND_POSIX")
endif()
set(polyproc_pc_libs "")
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(polyproc_pc_libs "-lrt -ldl")
endif()
# The prefix is where the file lies, as many steps up as it was put down.
file(RELATIVE_PATH polyproc_pc_up "/prefix/${POLYPROC_INSTALL_PKGCONFIGDIR}" "/prefix")
string(REGEX REPLACE "/$" "" polyproc_pc_up "${polyproc_pc_up}")
set(polyproc_pc_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
configure_file("${CMAKE_CURRENT_LIST_DIR}/../packaging/polyproc.pc.in" "${PROJECT_BINARY_DIR}/polyproc.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/polyproc.pc" DESTINATION "${POLYPROC_INSTALL_PKGCONFIGDIR}")
