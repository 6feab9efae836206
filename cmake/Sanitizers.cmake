# FOVEA_SANITIZE: flags for everything built here, tests and command included. Libraries of the system stay as they are.
if(FOVEA_SANITIZE)
  list(JOIN FOVEA_SANITIZE "," fovea_sanitizers)
  add_compile_options(-fsanitize=${fovea_sanitizers} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${fovea_sanitizers})
  if(FOVEA_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
  if(FOVEA_SANITIZE MATCHES "thread")
    # Half of oneTBB is in its headers: instrumented alone, without the library's half, it looks like races.
    add_compile_options(-fsanitize-ignorelist=${PROJECT_SOURCE_DIR}/tests/tsan_ignore.txt)
  endif()
endif()
if(FOVEA_BUILD_FUZZERS)
  add_compile_options(-fsanitize=fuzzer-no-link)  # coverage, which steers the fuzzer
endif()
