# fovea_warnings(target): the warnings all of our own code is held to.
function(fovea_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wno-missing-field-initializers $<$<BOOL:${FOVEA_WERROR}>:-Werror>)
endfunction()
