// Moving registers between the warpgroups of a CTA (sm_90a). HW: counts are multiples of 8 in 24..256; a warpgroup executes it together; it
// needs a register cap at entry (__launch_bounds__ with both numbers) and roles in branches of one if.
#pragma once

namespace fovea::ptx {

template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace fovea::ptx
