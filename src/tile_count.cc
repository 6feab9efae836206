#include "src/tile_count.h"

#include "portable/schedule.h"
#include "portable/work_iterator.h"

namespace fovea {
namespace {

/// Packed rows of one row tile, on one kv head.
struct RowTile {
  const RowGroup& group;
  std::int32_t kv_head, row_begin, row_end;
};

Position<Interval> position_of_token(const KernelParams& params, const RowGroup& group, std::int32_t i) {
  RowRef ref{group.q_row_begin + i, group.request, group.q_pos + i, group.num_cols};
  if (group.rows >= 0) {
    ref = params.plan.row_refs[group.rows + i];
  }
  const Request& request = params.plan.requests[ref.request];
  return {.request = ref.request,
          .qo_idx = ref.row - request.qo_begin,
          .q_pos = ref.q_pos,
          .kv_pos = 0,
          .qo_head = 0,
          .kv_head = 0,
          .qo_len = request.qo_len,
          .kv_len = request.kv_len};
}

/// What the rows of a tile are, between them.
Position<Interval> position_of_rows(const KernelParams& params, const RowTile& rows) {
  const std::int32_t first = rows.row_begin / params.group_size, last = (rows.row_end - 1) / params.group_size;
  Position<Interval> all = position_of_token(params, rows.group, first);
  for (std::int32_t i = first + 1; i <= last; ++i) {
    const Position<Interval> at = position_of_token(params, rows.group, i);
    all.request = hull(all.request, at.request);
    all.qo_idx = hull(all.qo_idx, at.qo_idx);
    all.q_pos = hull(all.q_pos, at.q_pos);
    all.qo_len = hull(all.qo_len, at.qo_len);
    all.kv_len = hull(all.kv_len, at.kv_len);
  }
  const std::int32_t head = rows.kv_head * params.group_size;
  all.qo_head = {head, head + params.group_size - 1};
  if (first == last) {
    all.qo_head = {head + rows.row_begin % params.group_size, head + (rows.row_end - 1) % params.group_size};
  }
  all.kv_head = rows.kv_head;
  return all;
}

TileClass class_of(const KernelParams& params, const VariantInfo& variant, const RowGroup& group, const Position<Interval>& rows,
                   Span columns) {
  const QueryPositions q{rows.q_pos.lo, rows.q_pos.hi};
  const SpanPair visible = visible_columns(group, params.range, q, false);
  if (full_columns(group, params.range, q, false).contains(columns)) {
    return TileClass::full;
  }
  const Span a{max_(visible.first.begin, columns.begin), min_(visible.first.end, columns.end)};
  const Span b{max_(visible.second.begin, columns.begin), min_(visible.second.end, columns.end)};
  if (a.empty() && b.empty()) {
    return TileClass::empty;
  }
  if (params.range.exact || variant.class_of == nullptr) {
    return TileClass::mixed;
  }
  Position<Interval> tile = rows;
  const std::int32_t begin = a.empty() ? b.begin : a.begin, last = (b.empty() ? a.end : b.end) - 1;
  tile.kv_pos = {group.kv_pos + begin * group.kv_pos_stride, group.kv_pos + last * group.kv_pos_stride};
  const TileClass found = variant.class_of(params.mask, tile);
  return found == TileClass::full && !visible.contains(columns) ? TileClass::mixed : found;
}

void count_row_tile(const KernelParams& params, const VariantInfo& variant, const RowTile& rows, std::int32_t tile_kv, TileCounts& counts) {
  const RowGroup& group = rows.group;
  if (params.kv[group.format].by_index) {
    counts.mixed += ceil_div(group.num_cols, tile_kv);  // positions are known once the table is read
    return;
  }
  const Position<Interval> of_rows = position_of_rows(params, rows);
  for (std::int32_t column = 0; column < group.num_cols; column += tile_kv) {
    const TileClass found = class_of(params, variant, group, of_rows, {column, min_(column + tile_kv, group.num_cols)});
    (found == TileClass::empty ? counts.empty : found == TileClass::full ? counts.full : counts.mixed) += 1;
  }
}

}  // namespace

VariantDescription describe(const VariantInfo& variant) {
  const auto names_of = [](const FieldList& fields) {
    std::vector<std::string> names;
    for (std::int32_t i = 0; i < fields.count; ++i) {
      names.emplace_back(fields.fields[i].name);
    }
    return names;
  };
  static constexpr const char* kAnswers[] = {"exact", "sound", "opaque"};
  return {.name = variant.name,
          .masks = names_of(variant.mask_fields),
          .params = names_of(variant.param_fields),
          .interval = kAnswers[static_cast<int>(variant.tile_answer)]};
}

TileCounts count_tiles(const KernelParams& params, const VariantInfo& variant) {
  TileCounts counts;
  for (std::int32_t g = 0; g < *params.plan.num_groups; ++g) {
    const RowGroup& group = params.plan.groups[g];
    const std::int32_t packed_rows = packed_rows_of(group, params.group_size);
    if (packed_rows == 0) {
      continue;
    }
    const KernelConfig& config = params.configs[config_of(params.configs, params.num_configs, packed_rows)];
    const std::int32_t step = config.form == PlanForm::ranges ? packed_rows : rows_per_tile(config, params.group_size);
    for (std::int32_t h = 0; h < num_heads_of(group, params.num_kv_heads); ++h) {
      const std::int32_t kv_head = group.kv_head == kAllHeads ? h : group.kv_head;
      for (std::int32_t row = 0; row < packed_rows; row += step) {
        count_row_tile(params, variant, {group, kv_head, row, min_(row + step, packed_rows)}, config.tile_kv, counts);
      }
    }
  }
  return counts;
}

}  // namespace fovea
