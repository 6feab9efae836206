# Writes the workloads' JSON into a header, as raw strings.
set(text "// Written by bench/embed_workloads.cmake.\n#pragma once\n\nnamespace fovea::bench {\n\nstruct BuiltinWorkload {\n  const char* name;\n  const char* json;\n};\n\ninline constexpr BuiltinWorkload kBuiltinWorkloads[] = {\n")
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} json)
  string(APPEND text "    {\"${name}\", R\"json(${json})json\"},\n")
endforeach()
string(APPEND text "};\n\n}  // namespace fovea::bench\n")
file(WRITE ${OUTPUT} "${text}")
