#include "backends/cuda/kernels.h"

#include <fmt/format.h>

#include "backends/cuda/kernels/attention_simt/select.h"
#include "backends/cuda/kernels/attention_sm80/select.h"
#include "backends/cuda/kernels/attention_sm90_decode/select.h"

namespace fovea::cuda {

std::span<const AttentionKernel> attention_kernels() {
  static constexpr AttentionKernel kKernels[] = {
      {"attention_sm90_decode", attention_sm90_decode::candidate, attention_sm90_decode::code},
      {"attention_sm80", attention_sm80::candidate, attention_sm80::code, 16},
      {"attention_simt", attention_simt::candidate, attention_simt::code},
  };
  return kKernels;
}

std::string source_of(const KernelCode& code) {
  return fmt::format(
      "constexpr {};\n"
      "static_assert(sizeof(fovea::KernelParams) == {}, \"host and device disagree about KernelParams\");\n"
      "extern \"C\" __global__ void __launch_bounds__({}, {})\n"
      "attention(const __grid_constant__ fovea::KernelParams params, const __grid_constant__ Rule::Mask mask,\n"
      "          const __grid_constant__ Rule::Params variant_params, int32_t config{}) {{\n"
      "  {}(params, mask, variant_params, config{});\n"
      "}}",
      code.definition, sizeof(KernelParams), code.threads, code.ctas,
      code.extra.empty() ? "" : fmt::format(", const __grid_constant__ {} extra", code.extra), code.call,
      code.extra.empty() ? "" : ", extra");
}

}  // namespace fovea::cuda
