// Programmatic dependent launch (sm_90 and newer; nothing on older): a kernel starts while the one before it ends, and waits before it
// reads.
#pragma once

namespace fovea::ptx {

/// Returns when the kernels this one depends on have ended and their writes can be seen.
__device__ __forceinline__ void wait_for_previous_grid() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel start as soon as there is room for it.
__device__ __forceinline__ void let_next_grid_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

}  // namespace fovea::ptx
