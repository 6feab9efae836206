# Source text inside the library, so that an installed library compiles variants at run time with no source tree.
#
# fovea_embed(files...): embed these files (absolute paths) under their repository path; files of include/ under what users include
#   ("fovea/dtype.h"). Any folder may call it.
# fovea_write_embedded(target): after all folders: one generated file, made again whenever an embedded file changes.

function(fovea_embed)
  foreach(file IN LISTS ARGN)
    set_property(GLOBAL APPEND PROPERTY FOVEA_EMBEDDED_FILES ${file})
  endforeach()
endfunction()

function(fovea_write_embedded target)
  get_property(files GLOBAL PROPERTY FOVEA_EMBEDDED_FILES)
  list(SORT files)
  list(REMOVE_DUPLICATES files)
  set(output ${PROJECT_BINARY_DIR}/generated/embedded_sources.cc)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} -DROOT=${PROJECT_SOURCE_DIR} "-DFILES=${files}" -P
            ${PROJECT_SOURCE_DIR}/cmake/write_embedded.cmake
    DEPENDS ${files} ${PROJECT_SOURCE_DIR}/cmake/write_embedded.cmake
    VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()
