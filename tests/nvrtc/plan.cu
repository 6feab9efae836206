// Instantiates in kernels what planner kernels and attention kernels will use of portable/: compiled only, never run.
#include "portable/batch_view.h"
#include "portable/schedule.h"
#include "portable/state.h"
#include "portable/work_iterator.h"

extern "C" __global__ void make_groups(const __grid_constant__ fovea::BatchView batch, fovea::Request* requests, fovea::RowGroup* groups,
                                       fovea::RowRef* refs) {
  const int i = static_cast<int>(blockIdx.x);
  requests[i] = fovea::make_request(batch, i);
  groups[i] = fovea::make_row_group(batch, requests, 0, i);
  refs[i] = fovea::make_row_ref(batch, requests, batch.formats[0], groups[i], i);
}

extern "C" __global__ void plan_ranges(const __grid_constant__ fovea::KernelParams params, const uint64_t* cost_before, uint64_t total,
                                       int max_slots, fovea::RangePlace* places, int* partials) {
  const int w = static_cast<int>(blockIdx.x);
  const fovea::KernelConfig& config = params.configs[0];
  const fovea::RowGroup& group = params.plan.groups[w];
  const int rows = fovea::packed_rows_of(group, params.group_size);
  const fovea::VisibleTiles tiles =
      fovea::unit_tiles(group, params.range, 0, fovea::min_(rows, fovea::rows_per_tile(config, params.group_size)), params.group_size,
                        config.tile_kv, params.kv[group.format].by_index != 0);
  const fovea::Span slots = fovea::slots_of_config(max_slots, 0, total, total);
  const bool cut = fovea::may_cut(w, params.num_workers, slots.length());
  const uint64_t offset = fovea::share_of(total, params.num_workers) * static_cast<uint64_t>(w) - cost_before[w];
  const int heads = fovea::num_heads_of(group, params.num_kv_heads);
  const fovea::RangePlace place = fovea::range_place(config.cost, w, heads, tiles.count(), offset, cut);
  places[w] = w > 0 ? fovea::later(places[w - 1], place) : place;
  partials[w] = fovea::partial_items(places[w], place) + (fovea::begins_merge(places[w], place) ? 1 : 0);
}

extern "C" __global__ void plan_list(const __grid_constant__ fovea::KernelParams params, fovea::ChunkRule rule, uint64_t total,
                                     int max_slots, fovea::WorkItem* items, int* buckets) {
  const int g = static_cast<int>(blockIdx.x);
  const fovea::RowGroup& group = params.plan.groups[g];
  const int packed_rows = fovea::packed_rows_of(group, params.group_size);
  const int c = fovea::config_of(params.configs, params.num_configs, packed_rows);
  const fovea::KernelConfig& config = params.configs[c];
  if (rule.split_tiles == 0) {
    rule = fovea::throughput_rule(config.cost, total, params.num_workers, max_slots);
  }
  const fovea::VisibleTiles tiles =
      fovea::unit_tiles(group, params.range, 0, packed_rows, params.group_size, config.tile_kv, params.kv[group.format].by_index != 0);
  const fovea::UnitChunks chunks = fovea::unit_chunks(rule, tiles, fovea::stays_whole(rule, group.format, packed_rows));
  for (int i = 0; i < chunks.count; ++i) {
    const fovea::Span chunk = chunks.chunk(i);
    const fovea::Span columns = fovea::columns_of_tiles(tiles, chunk.begin, chunk.end, config.tile_kv, group.num_cols);
    buckets[i] = fovea::cost_bucket(fovea::cost_of_tiles(config.cost, chunk.length()));
    items[i] = {.row_group = g,
                .kv_head = group.kv_head,
                .config = static_cast<uint16_t>(c),
                .row_begin = 0,
                .row_end = packed_rows,
                .col_begin = columns.begin,
                .col_end = columns.end,
                .partial_slot = fovea::kFinal,
                .flags = 0};
  }
}

extern "C" __global__ void walk_ranges(const __grid_constant__ fovea::KernelParams params, fovea::WorkItem* out) {
  fovea::WorkItem item;
  fovea::RangeWork work(params, 0, static_cast<int>(blockIdx.x));
  int count = 0;
  while (work.next(item)) {
    out[count++] = item;
  }
}

extern "C" __global__ void merge(const float* lse2, float* out) {
  const fovea::MergeWeights<float> w = fovea::merge_weights(lse2[0], lse2[1]);
  out[0] = w.a;
  out[1] = w.b;
  out[2] = w.lse2;
  const fovea::MergeWeights<double> d = fovea::merge_weights(static_cast<double>(lse2[0]), static_cast<double>(lse2[1]));
  out[3] = static_cast<float>(d.lse2);
}
