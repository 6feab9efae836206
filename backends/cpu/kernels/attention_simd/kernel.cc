// attention_simd: one work item, whole. Compiled once per instruction set, for all variants: only the hooks behind VariantCode know them.
//   columns (addresses of a kv tile) -> scores (q . k) -> logits (hooks) -> weights (online softmax) -> o += weights . v -> store
#include "backends/cpu/kernels/attention_simd/kernel.h"

#include "backends/cpu/device/accumulate.h"
#include "backends/cpu/device/dot.h"
#include "backends/cpu/device/panel.h"
#include "backends/cpu/device/softmax.h"
#include "backends/cpu/kernels/attention_simd/columns.h"
#include "backends/cpu/kernels/attention_simd/output.h"
#include "backends/cpu/kernels/attention_simd/rows.h"
#include "backends/cpu/kernels/merge/merge.h"

namespace fovea::cpu::FOVEA_CPU_ISA {
namespace {

/// An item on its way.
struct Item {
  const KernelParams& params;
  const VariantCode& variant;
  const ItemColumns& columns;
  Scratch& scratch;
  int32_t num_rows;
  bool direct;  // few rows: no panels
};

void compute_scores(const Item& item, const ColumnTable& table) {
  const Scratch& scratch = item.scratch;
  const int32_t head_dim = item.params.head_dim_qk;
  const int32_t tile_kv = item.columns.tile_kv;
  const DType dtype = item.columns.kv.k.dtype;
  if (item.direct) {
    const PrefetchRows ahead{.rows = table.v_rows,
                             .row_bytes = static_cast<int32_t>(item.params.head_dim_vo * bytes_per_element(item.columns.kv.v.dtype))};
    const DotArgs args{.q = scratch.q,
                       .q_stride = padded(head_dim),
                       .rows = item.num_rows,
                       .k_rows = table.k_rows,
                       .columns = tile_kv,
                       .head_dim = head_dim,
                       .scores = scratch.scores,
                       .score_stride = tile_kv,
                       .prefetch = ahead};
    with_dtype(dtype, [&]<DType D>() { dot_rows<D>(args); });
    return;
  }
  with_dtype(dtype, [&]<DType D>() { pack_k<D>(table.k_rows, tile_kv, head_dim, scratch.k_panels); });
  panel_product({.a = scratch.q,
                 .a_stride = padded(head_dim),
                 .panel = scratch.k_panels,
                 .depth = head_dim,
                 .c = scratch.scores,
                 .c_stride = tile_kv,
                 .adds = false},
                item.num_rows, tile_kv / kPanel);
}

void accumulate_values(const Item& item, const ColumnTable& table, const ColumnTable* next) {
  const Scratch& scratch = item.scratch;
  const int32_t head_dim = item.params.head_dim_vo;
  const int32_t tile_kv = item.columns.tile_kv;
  const DType dtype = item.columns.kv.v.dtype;
  if (item.direct) {
    PrefetchRows ahead;
    if (next != nullptr) {
      ahead = {.rows = next->k_rows,
               .row_bytes = static_cast<int32_t>(item.params.head_dim_qk * bytes_per_element(item.columns.kv.k.dtype))};
    }
    const AccumulateArgs args{.weights = scratch.scores,
                              .weight_stride = tile_kv,
                              .rows = item.num_rows,
                              .v_rows = table.v_rows,
                              .column_begin = table.live_begin,
                              .column_end = table.live_end,
                              .head_dim = head_dim,
                              .o = scratch.o,
                              .o_stride = padded(head_dim),
                              .prefetch = ahead};
    with_dtype(dtype, [&]<DType D>() { accumulate_rows<D>(args); });
    return;
  }
  with_dtype(dtype, [&]<DType D>() { pack_v<D>(table.v_rows, tile_kv, head_dim, scratch.v_panels); });
  panel_product({.a = scratch.scores,
                 .a_stride = tile_kv,
                 .panel = scratch.v_panels,
                 .depth = tile_kv,
                 .c = scratch.o,
                 .c_stride = padded(head_dim),
                 .adds = true},
                item.num_rows, padded(head_dim) / kPanel);
}

void compute_tile(const Item& item, ColumnTable& table, const ColumnTable* next) {
  compute_scores(item, table);
  const KvView& kv = item.columns.kv;
  const ScoreTile tile{.scores = item.scratch.scores,
                       .stride = item.columns.tile_kv,
                       .num_rows = item.num_rows,
                       .num_columns = item.columns.tile_kv,
                       .rows = item.scratch.rows,
                       .columns = &table,
                       .scale = item.params.sm_scale * head_scale(kv.k.scale, item.columns.kv_head),
                       .k_scale_per_column = kv.k.scale.per_token != 0,
                       .by_index = kv.by_index != 0};
  const bool only_scales = item.variant.scale_only && table.full && !tile.k_scale_per_column;
  if (!only_scales) {
    item.variant.make_logits(tile, item.params.mask, item.params.variant_params);
  }
  if (item.variant.use_softmax) {
    const RunningRows running{
        .row_max = item.scratch.row_max, .row_sum = item.scratch.row_sum, .o = item.scratch.o, .o_stride = padded(item.params.head_dim_vo)};
    softmax_tile(tile, only_scales ? tile.scale * math::kLog2e : 1.0f, running);
  }
  if (!table.full) {
    drop_unweighted_columns(tile, item.columns.zeros, table);
  }
  if (kv.v.scale.per_token) {
    scale_weights(tile);
  }
  accumulate_values(item, table, next);
}

/// All tiles, with the next tile's addresses known while one is computed, so that its rows can be asked for.
void compute_tiles(const Item& item) {
  const VisibleTiles& tiles = item.columns.tiles.tiles;
  const int32_t count = tiles.count();
  ColumnTable* current = nullptr;
  int32_t used = 0;
  for (int32_t n = 0; n < count; ++n) {
    ColumnTable& table = item.scratch.columns[used];
    if (!fill_columns(item.columns, tiles.tile(n), table)) {
      continue;
    }
    if (current != nullptr) {
      compute_tile(item, *current, &table);
    }
    current = &table;
    used ^= 1;
  }
  if (current != nullptr) {
    compute_tile(item, *current, nullptr);
  }
}

void store_rows(const Item& item, const WorkItem& work) {
  const KernelParams& params = item.params;
  const int32_t stride = padded(params.head_dim_vo);
  const float v_scale = head_scale(item.columns.kv.v.scale, item.columns.kv_head);
  for (int32_t r = 0; r < item.num_rows; ++r) {
    const ItemRow& row = item.scratch.rows[r];
    RowState state{.o = item.scratch.o + static_cast<int64_t>(r) * stride, .lse2 = 0.0f};
    if (item.variant.use_softmax) {
      const float sum = item.scratch.row_sum[r];
      const bool empty = sum == 0.0f;  // NaN is not: it has to come out
      state.lse2 = empty ? -math::infinity<float>() : (sum > 0.0f ? item.scratch.row_max[r] + math::log2(sum) : sum);
      scale_row(state.o, params.head_dim_vo, empty ? 0.0f : v_scale / sum);
    } else {
      scale_row(state.o, params.head_dim_vo, v_scale);
    }
    if (work.partial_slot == kFinal) {
      write_output(params, item.variant, row, state);
    } else if (work.partial_slot == kLevelState) {
      write_partial(params.partial, level_index(params, item.columns.group.format, row.token, row.at.qo_head), params.head_dim_vo, state);
    } else {
      write_partial(params.partial, static_cast<int64_t>(work.partial_slot) * params.partial.rows_per_slot + r, params.head_dim_vo, state);
    }
  }
}

void attend(const KernelParams& params, const VariantCode& variant, const WorkItem& work, Scratch& scratch) {
  const KernelConfig& config = params.configs[work.config];
  const RowGroup& group = params.plan.groups[work.row_group];
  const int32_t num_rows = work.row_end - work.row_begin;
  const RowBounds bounds =
      make_rows(params, {.group = group, .kv_head = work.kv_head, .row_begin = work.row_begin, .row_end = work.row_end}, scratch.rows);
  const KvView& kv = params.kv[group.format];
  const ItemColumns columns{.group = group,
                            .kv = kv,
                            .cache = head_cache(kv, work.kv_head),
                            .tiles = item_tiles(params, work, group, bounds, config.tile_kv),
                            .bounds = bounds,
                            .range = params.range,
                            .kv_head = work.kv_head,
                            .tile_kv = config.tile_kv,
                            .zeros = scratch.zeros};
  const Item item{.params = params,
                  .variant = variant,
                  .columns = columns,
                  .scratch = scratch,
                  .num_rows = num_rows,
                  .direct = config.tile_q <= kMaxDirectRows};
  const int32_t o_stride = padded(params.head_dim_vo);
  for (int32_t r = 0; r < num_rows; ++r) {
    scratch.row_max[r] = -math::infinity<float>();
    scratch.row_sum[r] = 0.0f;
  }
  for (int64_t d = 0; d < static_cast<int64_t>(num_rows) * o_stride; d += kLanes) {
    store(scratch.o + d, zero());
  }
  if (columns.tiles.tiles.count() > 0) {
    with_dtype(params.q.dtype, [&]<DType D>() { load_queries<D>(params, scratch.rows, num_rows, scratch.q); });
    compute_tiles(item);
  }
  store_rows(item, work);
}

}  // namespace

#define FOVEA_CPU_VARIANT(name, identifier) extern const VariantCode kVariant_##identifier;
#include "generated/cpu_variants.inc"
#undef FOVEA_CPU_VARIANT

constexpr NamedVariant kVariants[] = {
#define FOVEA_CPU_VARIANT(name, identifier) {name, &kVariant_##identifier},
#include "generated/cpu_variants.inc"
#undef FOVEA_CPU_VARIANT
};

#define FOVEA_STRING_OF(x) #x
#define FOVEA_STRING(x) FOVEA_STRING_OF(x)

extern const IsaCode kIsaCode;
const IsaCode kIsaCode{.name = FOVEA_STRING(FOVEA_CPU_ISA),
                       .attend = attend,
                       .merge_partials = merge_partials,
                       .compose_levels = compose_levels,
                       .merge_states = merge_state_rows,
                       .variants = kVariants,
                       .num_variants = sizeof(kVariants) / sizeof(kVariants[0])};

}  // namespace fovea::cpu::FOVEA_CPU_ISA
