// Instantiates what planner kernels and attention kernels will use of portable/: compiled only, never run.
#include "portable/batch_view.h"
#include "portable/state.h"
#include "portable/work_iterator.h"

extern "C" __global__ void walk_ranges(const __grid_constant__ fovea::KernelParams params, fovea::WorkItem* out) {
  fovea::WorkItem item;
  fovea::RangeWork work(params, 0, static_cast<int>(blockIdx.x));
  int count = 0;
  while (work.next(item)) {
    out[count++] = item;
  }
}

extern "C" __global__ void make_groups(const __grid_constant__ fovea::BatchView batch, fovea::Request* requests, fovea::RowGroup* groups,
                                       fovea::RowRef* refs) {
  const int i = static_cast<int>(blockIdx.x);
  requests[i] = fovea::make_request(batch, i);
  groups[i] = fovea::make_row_group(batch, requests, 0, i);
  refs[i] = fovea::make_row_ref(batch, requests, batch.formats[0], groups[i], i);
}

extern "C" __global__ void merge(const float* lse2, float* out) {
  const fovea::MergeWeights<float> w = fovea::merge_weights(lse2[0], lse2[1]);
  out[0] = w.a;
  out[1] = w.b;
  out[2] = w.lse2;
  const fovea::MergeWeights<double> d = fovea::merge_weights(static_cast<double>(lse2[0]), static_cast<double>(lse2[1]));
  out[3] = static_cast<float>(d.lse2);
}
