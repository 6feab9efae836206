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

// Hooks are compiled for the vectors they need; instruction sets with the same vectors share them.
namespace fovea::cpu::FOVEA_CPU_VARIANTS {
#define FOVEA_CPU_VARIANT(name, identifier) extern const VariantCode kVariant_##identifier;
#include "generated/cpu_variants.inc"
#undef FOVEA_CPU_VARIANT
}  // namespace fovea::cpu::FOVEA_CPU_VARIANTS

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
  bool k_pairs, v_pairs;        // AsPairs for q . k, for weights . v
};

/// One of them: its part of the scratch.
struct Item {
  const KernelParams& params;
  const VariantCode& variant;
  const SetColumns& columns;
  const Scratch& scratch;
  const WorkItem& work;
  const void* q;   // [num_rows, padded head_dim_qk] of k's arithmetic
  float* o;        // [num_rows, padded head_dim_vo]
  float* row_max;  // [num_rows]
  float* row_sum;  // [num_rows]
  ItemRow* rows;   // [num_rows]
  float* scores;   // [num_rows, tile_kv]
  int32_t num_rows;
  bool direct, k_pairs, v_pairs;
};

Item item_of(const ItemSet& set, int32_t i) {
  const int64_t first = static_cast<int64_t>(i) * set.num_rows;
  return {.params = set.params,
          .variant = set.variant,
          .columns = set.columns,
          .scratch = set.scratch,
          .work = set.items[i],
          .q = query_row(set.scratch, first, padded(set.params.head_dim_qk), set.k_pairs),
          .o = set.scratch.o + first * padded(set.params.head_dim_vo),
          .row_max = set.scratch.row_max + first,
          .row_sum = set.scratch.row_sum + first,
          .rows = set.scratch.rows + first,
          .scores = set.scratch.scores + first * set.columns.tile_kv,
          .num_rows = set.num_rows,
          .direct = set.direct,
          .k_pairs = set.k_pairs,
          .v_pairs = set.v_pairs};
}

DotArgs dot_args(const Item& item, const HeadColumns& head, AskAhead* ahead) {
  return {.q = item.q,
          .q_stride = padded(item.params.head_dim_qk),
          .rows = item.num_rows,
          .k = {head.table->k_rows, head.k_offset},
          .column_begin = 0,
          .column_end = item.columns.tile_kv,
          .head_dim = item.params.head_dim_qk,
          .scores = item.scores,
          .score_stride = item.columns.tile_kv,
          .ahead = ahead};
}

/// Weights are where the scores were, as wide as v's arithmetic has them.
AccumulateArgs accumulate_args(const Item& item, const HeadColumns& head, AskAhead* ahead) {
  const int32_t per_word = item.v_pairs ? 2 : 1;
  return {.weights = item.scores,
          .weight_stride = item.columns.tile_kv * per_word,
          .rows = item.num_rows,
          .v = {head.table->v_rows, head.v_offset},
          .column_begin = head.table->live_begin / per_word * per_word,
          .column_end = ceil_div(head.table->live_end, per_word) * per_word,
          .head_dim = item.params.head_dim_vo,
          .o = item.o,
          .o_stride = padded(item.params.head_dim_vo),
          .ahead = ahead};
}

void compute_scores(const Item& item, const HeadColumns& head, AskAhead* ahead) {
  const DotArgs args = dot_args(item, head, ahead);
  const int32_t tile_kv = item.columns.tile_kv;
  with_arithmetic(item.columns.kv.k.dtype, item.k_pairs, [&]<class A>() {
    if (item.direct) {
      dot_rows<A>(args);
      return;
    }
    pack_k<A>(args.k, tile_kv, args.head_dim, item.scratch.k_panels, ahead);
    panel_product<typename A::Packed>({.a = args.q,
                                       .a_stride = args.q_stride,
                                       .panel = item.scratch.k_panels,
                                       .depth = ceil_div(args.head_dim, A::kPerWord),
                                       .c = args.scores,
                                       .c_stride = args.score_stride,
                                       .adds = false},
                                      item.num_rows, tile_kv / kPanel);
  });
}

void accumulate_values(const Item& item, const HeadColumns& head, AskAhead* ahead) {
  const AccumulateArgs args = accumulate_args(item, head, ahead);
  const int32_t tile_kv = item.columns.tile_kv;
  with_arithmetic(item.columns.kv.v.dtype, item.v_pairs, [&]<class A>() {
    if (item.direct) {
      accumulate_rows<A>(args);
      return;
    }
    pack_v<A>(args.v, tile_kv, args.head_dim, item.scratch.v_panels, ahead);
    panel_product<typename A::Packed>({.a = args.weights,
                                       .a_stride = args.weight_stride,
                                       .panel = item.scratch.v_panels,
                                       .depth = tile_kv / A::kPerWord,
                                       .c = args.o,
                                       .c_stride = args.o_stride,
                                       .adds = true},
                                      item.num_rows, args.o_stride / kPanel);
  });
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
  with_arithmetic(kv.v.dtype, item.v_pairs, [&]<class A>() {
    for (int32_t r = 0; r < tile.num_rows; ++r) {
      narrow_weights<A>(tile.scores + static_cast<int64_t>(r) * tile.stride, tile.num_columns);
    }
  });
}

bool has_tile(const ItemSet& set, const WorkItem& work, int32_t first_column) {
  return first_column + set.columns.tile_kv > work.col_begin && first_column < work.col_end;
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
    AskAhead k{.rows = nullptr,
               .then = nullptr,
               .num_rows = 0,
               .per_row = 1,
               .chunk_bytes = static_cast<int32_t>(columns.k_row_bytes),
               .offset = h * columns.cache.k_head_bytes};
    AskAhead v{.rows = nullptr,
               .then = nullptr,
               .num_rows = 0,
               .per_row = 1,
               .chunk_bytes = static_cast<int32_t>(columns.v_row_bytes),
               .offset = h * columns.cache.v_head_bytes};
    if (next != nullptr) {
      k.then = next->table.k_rows;
      v.then = next->table.v_rows;
    }
    compute_scores(item, head, next != nullptr ? &k : nullptr);
    weigh(item, *head.table);
    accumulate_values(item, head, next != nullptr ? &v : nullptr);
  }
}

/// Columns that heads take turns at, where the heads of a token are adjacent: memory is read in its own order, and what is asked for ahead
/// fits the first-level cache. Divides every tile. More rows do more arithmetic a column, and gain more from running sums that stay in
/// registers.
int32_t columns_per_turn(int32_t num_rows) { return num_rows <= 4 ? 4 : (num_rows <= 8 ? 8 : 16); }

/// Up to so many rows, what is a turn ahead is asked for a second time, so many columns further on, for the second-level cache: where
/// reading comes to a page that doesn't follow the one before, questions of the first kind alone leave memory idle for a while.
/// Perf: decode, groups 1 / 4: 0.72 / 0.75 to 0.75 / 0.80 of the read loop (Zen 5, 2026-11-23); slower from 8 rows on.
constexpr int32_t kMaxRowsAskedTwice = 4;
constexpr int32_t kColumnsFurther = 16;

/// What heads that take turns ask for: the rows of `rows` from `first` on, then those of `then`.
AskAhead ahead_of_turns(const ItemSet& set, int32_t first, const void* const* rows, const void* const* then, int64_t row_bytes) {
  return {.rows = rows + first,
          .then = then,
          .num_rows = set.columns.tile_kv - first,
          .per_row = set.num_items,
          .chunk_bytes = static_cast<int32_t>(row_bytes),
          .offset = 0};
}

/// One line of every 4 KiB of columns [first, end) of the next tile: their addresses are translated by the time that they are wanted.
/// Perf: groups 8 / 16: 0.67 / 0.66 to 0.70 / 0.71 (Zen 5, 2026-11-23); nothing where rows are asked for twice.
void touch_columns(const ItemSet& set, const void* const* rows, int32_t first, int32_t end, int64_t row_bytes) {
  constexpr uint64_t kPage = 4096;
  for (int32_t c = first; rows != nullptr && c < end; ++c) {
    const auto begin = reinterpret_cast<uint64_t>(rows[c]);
    const uint64_t line = (begin + kPage - 1) / kPage * kPage;
    if (line < begin + static_cast<uint64_t>(row_bytes * set.num_items)) {
      ask_for(line);
    }
  }
}

void compute_by_turns(const ItemSet& set, TileColumns& tile, const TileColumns* next) {
  const SetColumns& columns = set.columns;
  const int32_t turn = columns_per_turn(set.num_rows);
  const bool asks_twice = set.num_rows <= kMaxRowsAskedTwice;
  const void* const* next_k = next != nullptr ? next->table.k_rows : nullptr;
  const void* const* next_v = next != nullptr ? next->table.v_rows : nullptr;
  AskAhead ask_k = ahead_of_turns(set, turn, tile.table.k_rows, tile.table.v_rows, columns.k_row_bytes);
  AskAhead ask_v = ahead_of_turns(set, turn, tile.table.v_rows, next_k, columns.v_row_bytes);
  const int32_t further = min_(turn + kColumnsFurther, columns.tile_kv);
  AskAhead further_k = ahead_of_turns(set, further, tile.table.k_rows, tile.table.v_rows, columns.k_row_bytes);
  AskAhead further_v = ahead_of_turns(set, further, tile.table.v_rows, next_k, columns.v_row_bytes);
  HeadColumns heads[kMaxSetItems];
  DotArgs dots[kMaxSetItems];
  AccumulateArgs sums[kMaxSetItems];
  int32_t present[kMaxSetItems];
  int32_t count = 0;
  for (int32_t i = 0; i < set.num_items; ++i) {
    if (has_tile(set, set.items[i], tile.table.first_column)) {
      present[count] = i;
      heads[count] = select_head(columns, set.items[i].kv_head - columns.first_head, tile);
      dots[count] = dot_args(item_of(set, i), heads[count], &ask_k);
      dots[count].further = asks_twice ? &further_k : nullptr;
      ++count;
    }
  }
  with_arithmetic(columns.kv.k.dtype, set.k_pairs, [&]<class A>() {
    for (int32_t c = 0; c < columns.tile_kv; c += turn) {
      touch_columns(set, asks_twice ? nullptr : next_k, c, c + turn, columns.k_row_bytes);
      for (int32_t n = 0; n < count; ++n) {
        dots[n].column_begin = c;
        dots[n].column_end = c + turn;
        dot_rows<A>(dots[n]);
      }
    }
  });
  for (int32_t n = 0; n < count; ++n) {
    const Item item = item_of(set, present[n]);
    weigh(item, *heads[n].table);
    sums[n] = accumulate_args(item, heads[n], &ask_v);
    sums[n].further = asks_twice ? &further_v : nullptr;
  }
  const int32_t live_begin = tile.table.live_begin / turn * turn, live_end = ceil_div(tile.table.live_end, turn) * turn;
  with_arithmetic(columns.kv.v.dtype, set.v_pairs, [&]<class A>() {
    for (int32_t c = live_begin; c < live_end; c += turn) {
      touch_columns(set, asks_twice ? nullptr : next_v, c, c + turn, columns.v_row_bytes);
      for (int32_t n = 0; n < count; ++n) {
        sums[n].column_begin = c;
        sums[n].column_end = c + turn;
        accumulate_rows<A>(sums[n]);
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
    with_arithmetic(item.columns.kv.v.dtype, item.v_pairs, [&]<class A>() { put_in_order<A>(state.o, stride); });
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
RowBounds start_items(const KernelParams& params, const VariantCode& variant, const WorkItem* items, int32_t num_items, bool k_pairs,
                      Scratch& scratch) {
  const int32_t num_rows = items[0].row_end - items[0].row_begin;
  const RowGroup& group = params.plan.groups[items[0].row_group];
  RowBounds bounds{};
  for (int32_t i = 0; i < num_items; ++i) {
    ItemRow* rows = scratch.rows + static_cast<int64_t>(i) * num_rows;
    bounds = make_rows(params, {.group = group, .kv_head = items[i].kv_head, .row_begin = items[i].row_begin, .row_end = items[i].row_end},
                       rows);
  }
  const int32_t all_rows = num_items * num_rows;
  if (k_pairs) {
    copy_queries(params, scratch.rows, all_rows, scratch.q);
  } else {
    auto* q = static_cast<float*>(scratch.q);
    with_dtype(params.q.dtype, [&]<DType D>() { load_queries<D>(params, scratch.rows, all_rows, q); });
    if (variant.transform_query != nullptr) {
      transform_queries(params, variant, scratch.rows, all_rows, q);
    }
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
  const int32_t num_rows = items[0].row_end - items[0].row_begin;
  const Transforms transforms = transforms_of(params, variant, scratch);
  const KvView staged = transforms.variant != nullptr ? staged_view(source, variant) : KvView{};
  const KvView& kv = transforms.variant != nullptr ? staged : source;
  const bool k_pairs = kHasPairs && params.q.dtype == DType::bf16 && variant.transform_query == nullptr && kv.k.dtype == DType::bf16;
  // Products of bf16 are exact in float; weights have to be rounded to bf16, which an output of bf16 hides and a wider one doesn't.
  const bool v_pairs = kHasPairs && params.q.dtype == DType::bf16 && params.out.dtype == DType::bf16 && kv.v.dtype == DType::bf16;
  const RowBounds bounds = start_items(params, variant, items, num_items, k_pairs, scratch);
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
                    .direct = config.tile_q <= kMaxDirectRows,
                    .k_pairs = k_pairs,
                    .v_pairs = v_pairs};
  compute_tiles(set);
  for (int32_t i = 0; i < num_items; ++i) {
    store_rows(item_of(set, i));
  }
}

}  // namespace

constexpr NamedVariant kVariants[] = {
#define FOVEA_CPU_VARIANT(name, identifier) {name, &FOVEA_CPU_VARIANTS::kVariant_##identifier},
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
