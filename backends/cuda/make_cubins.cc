// Run by the build: compiles what the library ships (shipped.h) and writes it as a C++ file and the bytes it includes.
//   fovea_make_cubins FOLDER sm_80 sm_90a
// Fails where a kernel spills registers or ptxas says that it slowed one down: what we ship is as fast as we measured it.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "backends/cuda/shipped.h"
#include "src/jit/compile_log.h"
#include "src/support/check.h"
#include "src/support/file.h"

namespace fovea::cuda {
namespace {

constexpr std::size_t kMostBytes = 40 << 20;  // of all cubins: a wheel has a limit, and so has patience

struct Made {
  jit::Digest digest;
  std::size_t begin, bytes;
  std::string label;
};

void require_clean(const CompileRequest& request, std::string_view architecture, const jit::Artefact& cubin) {
  const jit::CompileReport report = jit::read_compile_log(cubin.log);
  const bool slow = !report.slow.empty() || (report.spilled_bytes > 0 && !request.tolerates_spills);
  if (slow || !report.warnings.empty()) {
    throw CompileFailed(fmt::format("{} for {} can't be shipped: {}{}\n{}\n{}", request.label, architecture, report.complaints(),
                                    report.warnings.empty() ? "" : "; " + report.warnings.front(), request.program.source, cubin.log));
  }
}

int major_of(const jit::Artefact& cubin) {
  int major = 0;
  FOVEA_ASSERT(std::sscanf(cubin.log.c_str(), "made by NVRTC %d.", &major) == 1, "a log begins with '{}'", cubin.log.substr(0, 40));
  return major;
}

void write(const std::string& path, std::string_view text) {
  if (const std::string error = write_file(path, text); !error.empty()) {
    throw DeviceFailed(error);
  }
}

/// The bytes go in by .incbin: C++ compilers take minutes and gigabytes for arrays of this size.
std::string source_of(const std::vector<Made>& made, const std::string& bytes_path, int major) {
  std::string text = fmt::format(
      "// Written by fovea_make_cubins.\n#include \"backends/cuda/shipped.h\"\n\n"
      "asm(\".section .rodata\\n.balign 64\\nfovea_shipped_bytes:\\n.incbin \\\"{}\\\"\\n.byte 0\\n.previous\\n\");\n"
      "extern \"C\" {{\n[[gnu::visibility(\"hidden\")]] extern const char fovea_shipped_bytes[];\n}}\n\n"
      "namespace fovea::cuda {{\n\nShippedCubins shipped_cubins() {{\n  static const ShippedCubin cubins[] = {{\n",
      bytes_path);
  for (const Made& m : made) {
    text += fmt::format("      {{{{{:#x}u, {:#x}u}}, {{fovea_shipped_bytes + {}, {}}}}},  // {}\n", m.digest.high, m.digest.low, m.begin,
                        m.bytes, m.label);
  }
  return text + fmt::format("  }};\n  return {{cubins, {}}};\n}}\n\n}}  // namespace fovea::cuda\n", major);
}

int run(const std::string& folder, const std::vector<std::string>& architectures) {
  std::vector<Made> made;
  std::string bytes;
  int major = 0;
  double cpu_seconds = 0;
  for (const std::string& architecture : architectures) {
    const Compiler compiler(architecture, 0);
    const std::vector<CompileRequest> requests = shipped_requests(architecture);
    const std::vector<jit::Artefact> cubins = compiler.compile(requests, "what is shipped");
    for (std::size_t i = 0; i < cubins.size(); ++i) {
      require_clean(requests[i], architecture, cubins[i]);
      major = std::max(major, major_of(cubins[i]));
      cpu_seconds += cubins[i].cpu_seconds;
      bytes.resize((bytes.size() + 63) / 64 * 64);
      made.push_back({.digest = digest_of(requests[i], architecture),
                      .begin = bytes.size(),
                      .bytes = cubins[i].bytes.size(),
                      .label = fmt::format("{} {}", requests[i].label, architecture)});
      bytes += cubins[i].bytes;
    }
  }
  if (bytes.size() > kMostBytes) {
    throw CompileFailed(fmt::format("{} cubins have {} bytes; at most {} are shipped", made.size(), bytes.size(), kMostBytes));
  }
  const std::string bytes_path = folder + "/shipped_cubins.bin";
  write(bytes_path, bytes);
  write(folder + "/shipped_cubins.cc", source_of(made, bytes_path, major));
  fmt::print("{} cubins, {:.1f} MB, {:.1f} CPU s of compiling\n", made.size(), static_cast<double>(bytes.size()) / 1e6, cpu_seconds);
  return 0;
}

}  // namespace
}  // namespace fovea::cuda

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: fovea_make_cubins FOLDER ARCHITECTURE...\n");
    return 2;
  }
  try {
    return fovea::cuda::run(argv[1], {argv + 2, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "fovea_make_cubins: {}\n", error.what());
    return 1;
  }
}
