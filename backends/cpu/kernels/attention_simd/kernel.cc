// attention_simd: a set of work items, whole. Compiled once per instruction set, for all variants: only the hooks behind VariantCode know
// them.
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

/// The items on their way.
struct ItemSet {
  const KernelParams& params;
  const VariantCode& variant;
  const SetColumns& columns;
  Scratch& scratch;
  const WorkItem* items;
  int32_t num_items, num_rows;  // rows of each
  bool direct;                  // few rows: no panels
};

/// One of them: its part of the scratch.
struct Item {
  const KernelParams& params;
  const VariantCode& variant;
  const SetColumns& columns;
  const Scratch& scratch;
  const WorkItem& work;
  float* q;        // [num_rows, padded head_dim_qk]
  float* o;        // [num_rows, padded head_dim_vo]
  float* row_max;  // [num_rows]
  float* row_sum;  // [num_rows]
  ItemRow* rows;   // [num_rows]
  float* scores;   // [num_rows, tile_kv]
  int32_t num_rows;
  bool direct;
};

Item item_of(const ItemSet& set, int32_t i) {
  const int64_t first = static_cast<int64_t>(i) * set.num_rows;
  return {.params = set.params,
          .variant = set.variant,
          .columns = set.columns,
          .scratch = set.scratch,
          .work = set.items[i],
          .q = set.scratch.q + first * padded(set.params.head_dim_qk),
          .o = set.scratch.o + first * padded(set.params.head_dim_vo),
          .row_max = set.scratch.row_max + first,
          .row_sum = set.scratch.row_sum + first,
          .rows = set.scratch.rows + first,
          .scores = set.scratch.scores + first * set.columns.tile_kv,
          .num_rows = set.num_rows,
          .direct = set.direct};
}

DotArgs dot_args(const Item& item, const HeadColumns& head, AskAhead ahead) {
  return {.q = item.q,
          .q_stride = padded(item.params.head_dim_qk),
          .rows = item.num_rows,
          .k = {head.table->k_rows, head.k_offset},
          .columns = item.columns.tile_kv,
          .head_dim = item.params.head_dim_qk,
          .scores = item.scores,
          .score_stride = item.columns.tile_kv,
          .ahead = ahead};
}

AccumulateArgs accumulate_args(const Item& item, const HeadColumns& head, AskAhead ahead) {
  return {.weights = item.scores,
          .weight_stride = item.columns.tile_kv,
          .rows = item.num_rows,
          .v = {head.table->v_rows, head.v_offset},
          .column_begin = head.table->live_begin,
          .column_end = head.table->live_end,
          .head_dim = item.params.head_dim_vo,
          .o = item.o,
          .o_stride = padded(item.params.head_dim_vo),
          .ahead = ahead};
}

/// The part of a tile's work that columns [begin, end) are.
DotArgs part_of(DotArgs args, int32_t begin, int32_t end, AskAhead ahead) {
  args.k.rows += begin;
  args.scores += begin;
  args.columns = end - begin;
  args.ahead = ahead;
  return args;
}

AccumulateArgs part_of(AccumulateArgs args, int32_t begin, int32_t end, AskAhead ahead) {
  args.v.rows += begin;
  args.weights += begin;
  args.column_begin = max_(args.column_begin - begin, 0);
  args.column_end = min_(args.column_end, end) - begin;
  args.ahead = ahead;
  return args;
}

void compute_scores(const Item& item, const HeadColumns& head, AskAhead ahead) {
  const DotArgs args = dot_args(item, head, ahead);
  const DType dtype = item.columns.kv.k.dtype;
  if (item.direct) {
    with_dtype(dtype, [&]<DType D>() { dot_rows<D>(args); });
    return;
  }
  with_dtype(dtype, [&]<DType D>() { pack_k<D>(args.k, args.columns, args.head_dim, item.scratch.k_panels, ahead); });
  panel_product({.a = args.q,
                 .a_stride = args.q_stride,
                 .panel = item.scratch.k_panels,
                 .depth = args.head_dim,
                 .c = args.scores,
                 .c_stride = args.score_stride,
                 .adds = false},
                item.num_rows, args.columns / kPanel);
}

void accumulate_values(const Item& item, const HeadColumns& head, AskAhead ahead) {
  const AccumulateArgs args = accumulate_args(item, head, ahead);
  const DType dtype = item.columns.kv.v.dtype;
  if (item.direct) {
    with_dtype(dtype, [&]<DType D>() { accumulate_rows<D>(args); });
    return;
  }
  const int32_t tile_kv = item.columns.tile_kv;
  with_dtype(dtype, [&]<DType D>() { pack_v<D>(args.v, tile_kv, args.head_dim, item.scratch.v_panels, ahead); });
  panel_product({.a = args.weights,
                 .a_stride = args.weight_stride,
                 .panel = item.scratch.v_panels,
                 .depth = tile_kv,
                 .c = args.o,
                 .c_stride = args.o_stride,
                 .adds = true},
                item.num_rows, args.o_stride / kPanel);
}

/// Scores become weights.
void weigh(const Item& item, ColumnTable& table) {
  const KvView& kv = item.columns.kv;
  const ScoreTile tile{.scores = item.scores,
                       .stride = item.columns.tile_kv,
                       .num_rows = item.num_rows,
                       .num_columns = item.columns.tile_kv,
                       .rows = item.rows,
                       .columns = &table,
                       .scale = item.params.sm_scale * head_scale(kv.k.scale, item.work.kv_head),
                       .k_scale_per_column = kv.k.scale.per_token != 0,
                       .by_index = kv.by_index != 0};
  const bool only_scales = item.variant.scale_only && table.full && !tile.k_scale_per_column;
  if (!only_scales) {
    item.variant.make_logits(tile, item.params.mask, item.params.variant_params);
  }
  if (item.variant.use_softmax) {
    const RunningRows running{.row_max = item.row_max, .row_sum = item.row_sum, .o = item.o, .o_stride = padded(item.params.head_dim_vo)};
    softmax_tile(tile, only_scales ? tile.scale : 1.0f, running);
  }
  if (!table.full) {
    drop_unweighted_columns(tile, item.columns.zeros, table);
  }
  if (kv.v.scale.per_token) {
    scale_weights(tile);
  }
}

bool has_tile(const ItemSet& set, const WorkItem& work, int32_t first_column) {
  return first_column + set.columns.tile_kv > work.col_begin && first_column < work.col_end;
}

/// A head's K rows, or V rows, of the next tile.
AskAhead ahead_of_head(const void* const* rows, int64_t offset, int64_t row_bytes) {
  return {.rows = rows, .offset = offset, .chunk_bytes = static_cast<int32_t>(row_bytes)};
}

/// Head after head, the next tile's memory asked for meanwhile.
void compute_head_by_head(const ItemSet& set, TileColumns& tile, const TileColumns* next) {
  const SetColumns& columns = set.columns;
  for (int32_t i = 0; i < set.num_items; ++i) {
    if (!has_tile(set, set.items[i], tile.table.first_column)) {
      continue;
    }
    const Item item = item_of(set, i);
    const int32_t h = set.items[i].kv_head - columns.first_head;
    const HeadColumns head = select_head(columns, h, tile);
    const bool asks = next != nullptr;
    const HeadCache& cache = columns.cache;
    compute_scores(item, head, asks ? ahead_of_head(next->table.k_rows, h * cache.k_head_bytes, columns.k_row_bytes) : AskAhead{});
    weigh(item, *head.table);
    accumulate_values(item, head, asks ? ahead_of_head(next->table.v_rows, h * cache.v_head_bytes, columns.v_row_bytes) : AskAhead{});
  }
}

/// Columns that heads take turns at, where the heads of a token are adjacent: memory is read in its own order, and what is asked for ahead
/// fits the first-level cache. Divides every tile. More rows do more arithmetic a column, and gain more from running sums that stay in
/// registers.
int32_t columns_per_turn(int32_t num_rows) { return num_rows <= 2 ? 4 : (num_rows < 8 ? 8 : 16); }

/// What item `i` asks for at its turn at columns from `c` on: its part of the turn after this one, of `then` after the last.
AskAhead ahead_of_turn(const ItemSet& set, const void* const* rows, const void* const* then, int64_t row_bytes, int32_t c, int32_t i) {
  const int32_t turn = columns_per_turn(set.num_rows);
  const bool same_tile = c + turn < set.columns.tile_kv;
  return {.rows = same_tile ? rows + c + turn : then,
          .first = i * turn,
          .per_row = set.num_items,
          .chunk_bytes = static_cast<int32_t>(row_bytes),
          .inverse = ((1u << 16) + static_cast<uint32_t>(set.num_items) - 1) / static_cast<uint32_t>(set.num_items)};
}

void compute_by_turns(const ItemSet& set, TileColumns& tile, const TileColumns* next) {
  const SetColumns& columns = set.columns;
  const int32_t turn = columns_per_turn(set.num_rows);
  HeadColumns heads[kMaxSetItems];
  DotArgs dots[kMaxSetItems];
  AccumulateArgs sums[kMaxSetItems];
  int32_t present[kMaxSetItems];
  int32_t count = 0;
  for (int32_t i = 0; i < set.num_items; ++i) {
    if (has_tile(set, set.items[i], tile.table.first_column)) {
      heads[i] = select_head(columns, set.items[i].kv_head - columns.first_head, tile);
      dots[i] = dot_args(item_of(set, i), heads[i], {});
      sums[i] = accumulate_args(item_of(set, i), heads[i], {});
      present[count++] = i;
    }
  }
  with_dtype(columns.kv.k.dtype, [&]<DType D>() {
    for (int32_t c = 0; c < columns.tile_kv; c += turn) {
      for (int32_t n = 0; n < count; ++n) {
        const int32_t i = present[n];
        const AskAhead ahead = ahead_of_turn(set, tile.table.k_rows, tile.table.v_rows, columns.k_row_bytes, c, i);
        dot_rows<D>(part_of(dots[i], c, c + turn, ahead));
      }
    }
  });
  for (int32_t n = 0; n < count; ++n) {
    weigh(item_of(set, present[n]), *heads[present[n]].table);
  }
  const void* const* then = next != nullptr ? next->table.k_rows : nullptr;
  with_dtype(columns.kv.v.dtype, [&]<DType D>() {
    for (int32_t c = 0; c < columns.tile_kv; c += turn) {
      for (int32_t n = 0; n < count; ++n) {
        const int32_t i = present[n];
        const AskAhead ahead = ahead_of_turn(set, tile.table.v_rows, then, columns.v_row_bytes, c, i);
        accumulate_rows<D>(part_of(sums[i], c, c + turn, ahead));
      }
    }
  });
}

/// One tile for every item that has it.
void compute_tile_of_set(const ItemSet& set, TileColumns& tile, const TileColumns* next) {
  if (set.direct && set.num_items > 1 && set.columns.heads_adjacent && set.columns.transforms.variant == nullptr) {
    compute_by_turns(set, tile, next);
  } else {
    compute_head_by_head(set, tile, next);
  }
}

/// All tiles, with the next tile's addresses known while one is computed, so that its memory can be asked for.
void compute_tiles(const ItemSet& set) {
  const VisibleTiles& tiles = set.columns.tiles.tiles;
  const int32_t count = tiles.count();
  TileColumns* current = nullptr;
  int32_t used = 0;
  for (int32_t n = 0; n < count; ++n) {
    TileColumns& tile = set.scratch.tiles[used];
    if (!fill_tile(set.columns, tiles.tile(n), tile)) {
      continue;
    }
    if (current != nullptr) {
      compute_tile_of_set(set, *current, &tile);
    }
    current = &tile;
    used ^= 1;
  }
  if (current != nullptr) {
    compute_tile_of_set(set, *current, nullptr);
  }
}

void store_rows(const Item& item) {
  const KernelParams& params = item.params;
  const WorkItem& work = item.work;
  const int32_t stride = padded(params.head_dim_vo);
  const float v_scale = head_scale(item.columns.kv.v.scale, work.kv_head);
  for (int32_t r = 0; r < item.num_rows; ++r) {
    const ItemRow& row = item.rows[r];
    RowState state{.o = item.o + static_cast<int64_t>(r) * stride, .lse2 = 0.0f};
    if (item.variant.use_softmax) {
      const float sum = item.row_sum[r];
      const bool empty = sum == 0.0f;  // NaN is not: it has to come out
      state.lse2 = empty ? -math::infinity<float>() : (sum > 0.0f ? item.row_max[r] * math::kLog2e + math::log2(sum) : sum);
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

/// Rows, queries and empty states of every item; what the rows see between them is the same for all heads.
RowBounds start_items(const KernelParams& params, const VariantCode& variant, const WorkItem* items, int32_t num_items, Scratch& scratch) {
  const int32_t num_rows = items[0].row_end - items[0].row_begin;
  const RowGroup& group = params.plan.groups[items[0].row_group];
  RowBounds bounds{};
  for (int32_t i = 0; i < num_items; ++i) {
    ItemRow* rows = scratch.rows + static_cast<int64_t>(i) * num_rows;
    bounds = make_rows(params, {.group = group, .kv_head = items[i].kv_head, .row_begin = items[i].row_begin, .row_end = items[i].row_end},
                       rows);
  }
  const int32_t all_rows = num_items * num_rows;
  with_dtype(params.q.dtype, [&]<DType D>() { load_queries<D>(params, scratch.rows, all_rows, scratch.q); });
  if (variant.transform_query != nullptr) {
    transform_queries(params, variant, scratch.rows, all_rows, scratch.q);
  }
  for (int32_t r = 0; r < all_rows; ++r) {
    scratch.row_max[r] = -math::infinity<float>();
    scratch.row_sum[r] = 0.0f;
  }
  for (int64_t d = 0; d < static_cast<int64_t>(all_rows) * padded(params.head_dim_vo); d += kLanes) {
    store(scratch.o + d, zero());
  }
  return bounds;
}

void attend(const KernelParams& params, const VariantCode& variant, const WorkItem* items, int32_t num_items, Scratch& scratch) {
  const KernelConfig& config = params.configs[items[0].config];
  const RowGroup& group = params.plan.groups[items[0].row_group];
  const KvView& source = params.kv[group.format];
  const RowBounds bounds = start_items(params, variant, items, num_items, scratch);
  const int32_t num_rows = items[0].row_end - items[0].row_begin;
  const Transforms transforms = transforms_of(params, variant, scratch);
  const KvView staged = transforms.variant != nullptr ? staged_view(source, variant) : KvView{};
  const KvView& kv = transforms.variant != nullptr ? staged : source;
  Span all{items[0].col_begin, items[0].col_end};
  for (int32_t i = 1; i < num_items; ++i) {
    all = {min_(all.begin, items[i].col_begin), max_(all.end, items[i].col_end)};
  }
  const SetColumns columns{.group = group,
                           .source = source,
                           .kv = kv,
                           .question = tile_question(params, variant, source, scratch.rows, num_items * num_rows),
                           .transforms = transforms,
                           .cache = head_cache(source, items[0].kv_head),
                           .tiles = item_tiles(params, all, group, bounds, config.tile_kv),
                           .bounds = bounds,
                           .range = params.range,
                           .first_head = items[0].kv_head,
                           .num_heads = items[num_items - 1].kv_head - items[0].kv_head + 1,
                           .tile_kv = config.tile_kv,
                           .k_row_bytes = params.head_dim_qk * bytes_per_element(source.k.dtype),
                           .v_row_bytes = params.head_dim_vo * bytes_per_element(source.v.dtype),
                           .heads_adjacent = source.k.head_stride == params.head_dim_qk && source.v.head_stride == params.head_dim_vo,
                           .zeros = scratch.zeros};
  const ItemSet set{.params = params,
                    .variant = variant,
                    .columns = columns,
                    .scratch = scratch,
                    .items = items,
                    .num_items = num_items,
                    .num_rows = num_rows,
                    .direct = config.tile_q <= kMaxDirectRows};
  compute_tiles(set);
  for (int32_t i = 0; i < num_items; ++i) {
    store_rows(item_of(set, i));
  }
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
