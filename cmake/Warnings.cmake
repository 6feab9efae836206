# fovea_warnings(target): the warnings all of our own code is held to.
# -Wno-missing-field-initializers: designated initialisers leave the rest at its default on purpose.
# -Wno-bitwise-instead-of-logical: a `keep` joins its comparisons with & and |, which vectorise; && and || branch.
# -Wno-restrict: g++ 12 warns about std::string's own code at -O3 (GCC bug 105651, mended in 13).
function(fovea_warnings target)
  target_compile_options(
    ${target}
    PRIVATE -Wall -Wextra -Wno-missing-field-initializers $<$<CXX_COMPILER_ID:Clang>:-Wno-bitwise-instead-of-logical>
            $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>
            $<$<BOOL:${FOVEA_WERROR}>:-Werror>)
endfunction()
