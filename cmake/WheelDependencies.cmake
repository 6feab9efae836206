# What `pip install .` builds with where a system package may be missing: oneTBB from PyPI's tbb-devel, fmt and xxHash from third_party/.
# Included in builds by scikit-build-core alone; all others find system packages.
find_package(Python COMPONENTS Interpreter REQUIRED)
execute_process(
  COMMAND "${Python_EXECUTABLE}" -c [[
import importlib.metadata as metadata
def path(distribution, end):
    return next(f.locate().resolve() for f in metadata.files(distribution) if str(f).endswith(end))
print(path("tbb-devel", "include/oneapi/tbb.h").parents[1], path("tbb", "/libtbb.so.12"), sep=";")
]]
  OUTPUT_VARIABLE fovea_tbb
  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
list(GET fovea_tbb 0 fovea_tbb_include)
list(GET fovea_tbb 1 FOVEA_TBB_LIBRARY)
add_library(TBB::tbb SHARED IMPORTED GLOBAL)  # older wheels of tbb-devel have no CMake package
set_target_properties(TBB::tbb PROPERTIES IMPORTED_LOCATION "${FOVEA_TBB_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${fovea_tbb_include}")

add_library(fovea_bundled_fmt INTERFACE)
add_library(fmt::fmt ALIAS fovea_bundled_fmt)
target_include_directories(fovea_bundled_fmt SYSTEM INTERFACE ${PROJECT_SOURCE_DIR}/third_party/fmt ${PROJECT_SOURCE_DIR}/third_party/xxhash)
target_compile_definitions(fovea_bundled_fmt INTERFACE FMT_HEADER_ONLY)
