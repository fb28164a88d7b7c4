# An overlay port: it takes the source in which it lies (or the one that POLYPROC_SOURCE_DIR names).
if(DEFINED ENV{POLYPROC_SOURCE_DIR})
  set(SOURCE_PATH "$ENV{POLYPROC_SOURCE_DIR}")
else()
  get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
endif()
set(VCPKG_BUILD_TYPE release) # there is nothing but headers

vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}" OPTIONS -DPOLYPROC_BUILD_TESTS=OFF -DPOLYPROC_BUILD_EXAMPLES=OFF
                                       -DPOLYPROC_BUILD_BENCH=OFF -DPOLYPROC_INSTALL=ON)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH share/cmake/polyproc)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug" "${CURRENT_PACKAGES_DIR}/lib" "${CURRENT_PACKAGES_DIR}/share/licenses")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
