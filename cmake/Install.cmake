# `cmake --install`: library, public headers with the DLPack header they include, the command, and a package that find_package(fovea) finds.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(
  TARGETS fovea
  EXPORT fovea-targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/fovea DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(DIRECTORY ${PROJECT_SOURCE_DIR}/third_party/dlpack/dlpack DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
if(TARGET fovea_cli)
  install(TARGETS fovea_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

set(fovea_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fovea)
get_target_property(fovea_library_type fovea TYPE)
if(fovea_library_type STREQUAL "STATIC_LIBRARY")
  set(FOVEA_PACKAGE_IS_STATIC TRUE)  # then the user's program links TBB and fmt itself
else()
  set(FOVEA_PACKAGE_IS_STATIC FALSE)
endif()
configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/cmake/fovea-config.cmake.in ${PROJECT_BINARY_DIR}/fovea-config.cmake INSTALL_DESTINATION ${fovea_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/fovea-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/fovea-config.cmake ${PROJECT_BINARY_DIR}/fovea-config-version.cmake DESTINATION ${fovea_package_dir})
install(
  EXPORT fovea-targets
  NAMESPACE fovea::
  DESTINATION ${fovea_package_dir})
