#include "backends/cpu/isa.h"

#include <cpuid.h>

#include <cstring>
#include <iterator>

#include "src/support/check.h"

namespace fovea::cpu {

namespace avx2 {
extern const IsaCode kIsaCode;
}
namespace avx512 {
extern const IsaCode kIsaCode;
}
namespace avx512_bf16 {
extern const IsaCode kIsaCode;
}

namespace {

/// __builtin_cpu_supports also asks whether the operating system saves the registers.
bool runs_avx2() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
  return f16c && __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
}

[[maybe_unused]] bool runs_avx512() {
  return runs_avx2() && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
}

[[maybe_unused]] bool runs_avx512_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return runs_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & bit_AVX512BF16) != 0;
}

/// Measured: prefill 0.75 times as fast as with avx512 on an Intel Xeon, 1.6 times on AMD Zen 5 (notes.md of attention_simd).
[[maybe_unused]] bool prefers_avx512_bf16() { return runs_avx512_bf16() && __builtin_cpu_is("amd") != 0; }

struct Entry {
  const IsaCode* code;
  bool (*runs)();
  bool (*is_default)();  // where nobody asks for a set by name
  const char* needs;
};

/// What is compiled in (FOVEA_CPU_ISAS), fastest first.
constexpr Entry kIsas[] = {
#ifdef FOVEA_CPU_HAS_AVX512_BF16
    {&avx512_bf16::kIsaCode, runs_avx512_bf16, prefers_avx512_bf16, "AVX-512 F, BW, DQ, VL and BF16"},
#endif
#ifdef FOVEA_CPU_HAS_AVX512
    {&avx512::kIsaCode, runs_avx512, runs_avx512, "AVX-512 F, BW, DQ and VL"},
#endif
#ifdef FOVEA_CPU_HAS_AVX2
    {&avx2::kIsaCode, runs_avx2, runs_avx2, "AVX2, FMA and F16C"},
#endif
};

}  // namespace

const IsaCode& choose_isa(std::string_view name) {
  std::string known;
  for (const Entry& entry : kIsas) {
    if (name.empty() ? entry.is_default() : name == entry.code->name) {
      if (!entry.runs()) {
        throw Unsupported(fmt::format("engine: isa '{}' needs {}, which this processor ({}) or its operating system lacks", name,
                                      entry.needs, processor_name()));
      }
      return *entry.code;
    }
    known += known.empty() ? "" : ", ";
    known += entry.code->name;
  }
  if (!name.empty()) {
    throw InvalidArgument(fmt::format("engine: no isa is named '{}'; known: {}", name, known));
  }
  throw Unsupported(fmt::format("engine: the cpu backend needs {}, which this processor ({}) lacks", kIsas[std::size(kIsas) - 1].needs,
                                processor_name()));
}

std::string processor_name() {
  unsigned words[12] = {};
  for (unsigned i = 0; i < 3; ++i) {
    unsigned* w = words + 4 * i;
    if (__get_cpuid(0x80000002u + i, w, w + 1, w + 2, w + 3) == 0) {
      return "unnamed";
    }
  }
  char name[sizeof words + 1] = {};
  std::memcpy(name, words, sizeof words);
  std::string trimmed = name;
  trimmed.erase(0, trimmed.find_first_not_of(' '));
  trimmed.erase(trimmed.find_last_not_of(' ') + 1);
  return trimmed.empty() ? "unnamed" : trimmed;
}

std::vector<std::string> variant_flags(std::string_view isa) {
  struct IsaFlags {
    std::string_view isa;
    std::vector<std::string> flags;
  };
  static const IsaFlags all[] = {
#include "generated/cpu_isa_flags.inc"
  };
  for (const IsaFlags& entry : all) {
    if (entry.isa == isa) {
      return entry.flags;
    }
  }
  FOVEA_ASSERT(false, "isa '{}' is compiled in but its flags are not written down", isa);
}

const VariantCode& variant_code(const IsaCode& isa, std::string_view variant) {
  for (int32_t i = 0; i < isa.num_variants; ++i) {
    if (variant == isa.variants[i].name) {
      return *isa.variants[i].code;
    }
  }
  FOVEA_ASSERT(false, "variant '{}' is listed but not compiled for {}", variant, isa.name);
}

}  // namespace fovea::cpu
