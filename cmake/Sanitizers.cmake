# FOVEA_SANITIZE: flags for everything built here, tests and command included. Libraries of the system stay as they are.
if(FOVEA_SANITIZE)
  list(JOIN FOVEA_SANITIZE "," fovea_sanitizers)
  add_compile_options(-fsanitize=${fovea_sanitizers} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${fovea_sanitizers})
  if(FOVEA_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()
if(FOVEA_BUILD_FUZZERS)
  add_compile_options(-fsanitize=fuzzer-no-link)  # coverage, which steers the fuzzer
endif()
