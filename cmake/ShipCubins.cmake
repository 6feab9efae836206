# Cubins inside the library (backends/cuda/shipped.h), so that a known model compiles nothing where it runs.
#
# fovea_ship_cubins(): with FOVEA_SHIP_CUBINS a program made of the library without them compiles the list with NVRTC, into files that the
#   library includes. What a cubin was made from names it in FOVEA_SHIP_CACHE, which outlives reconfiguring: a build compiles what changed.

set(FOVEA_NVRTC "" CACHE PATH "Folder of the NVRTC that compiles the shipped cubins; empty: what a user's machine would take")
set(FOVEA_SHIP_ARCHITECTURES "sm_80;sm_90a" CACHE STRING "GPU architectures that cubins are shipped for")
set(FOVEA_SHIP_CACHE "${PROJECT_SOURCE_DIR}/build/cubins" CACHE PATH "Where builds keep the cubins they compiled")

function(fovea_ship_cubins)
  if(NOT FOVEA_SHIP_CUBINS)
    target_sources(fovea PRIVATE ${PROJECT_SOURCE_DIR}/backends/cuda/no_shipped_cubins.cc)
    return()
  endif()
  get_property(objects GLOBAL PROPERTY FOVEA_OBJECTS)
  add_executable(fovea_make_cubins ${PROJECT_SOURCE_DIR}/backends/cuda/make_cubins.cc
                                   ${PROJECT_SOURCE_DIR}/backends/cuda/no_shipped_cubins.cc $<TARGET_OBJECTS:fovea_core> ${objects})
  target_include_directories(fovea_make_cubins PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR})
  target_include_directories(fovea_make_cubins SYSTEM PRIVATE ${PROJECT_SOURCE_DIR}/third_party/dlpack)
  target_link_libraries(fovea_make_cubins PRIVATE TBB::tbb fmt::fmt ${CMAKE_DL_LIBS})
  fovea_warnings(fovea_make_cubins)

  set(folder ${PROJECT_BINARY_DIR}/generated)
  set(environment FOVEA_CACHE_DIR=${FOVEA_SHIP_CACHE})
  if(FOVEA_NVRTC)
    list(APPEND environment FOVEA_NVRTC_PATH=${FOVEA_NVRTC})
  endif()
  add_custom_command(
    OUTPUT ${folder}/shipped_cubins.cc ${folder}/shipped_cubins.bin
    COMMAND ${CMAKE_COMMAND} -E env ${environment} $<TARGET_FILE:fovea_make_cubins> ${folder} ${FOVEA_SHIP_ARCHITECTURES}
    DEPENDS fovea_make_cubins
    COMMENT "Cubins for ${FOVEA_SHIP_ARCHITECTURES}"
    COMMAND_EXPAND_LISTS VERBATIM)
  set_source_files_properties(${folder}/shipped_cubins.cc PROPERTIES OBJECT_DEPENDS ${folder}/shipped_cubins.bin)
  target_sources(fovea PRIVATE ${folder}/shipped_cubins.cc)
endfunction()
