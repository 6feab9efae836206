// Merges of partial states: the pieces of a cut unit, the levels of a composed row, and merge_states(). Always in the order of slots and
// levels.
#pragma once

#include "backends/cpu/kernels/attention_simd/kernel.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

void merge_partials(const KernelParams& params, const VariantCode& variant, const MergeItem& item, Scratch& scratch);
void compose_levels(const KernelParams& params, const VariantCode& variant, int64_t begin, int64_t end, Scratch& scratch);
void merge_state_rows(const StatesView& states, int64_t begin, int64_t end, float* o);

}  // namespace fovea::cpu::FOVEA_CPU_ISA
