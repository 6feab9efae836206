#include "src/tile_count.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "portable/schedule.h"
#include "portable/work_iterator.h"
#include "src/support/check.h"

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
    return TileClass::mixed;  // by range
  }
  Position<Interval> tile = rows;
  const std::int32_t begin = a.empty() ? b.begin : a.begin, last = (b.empty() ? a.end : b.end) - 1;
  tile.kv_pos = {group.kv_pos + begin * group.kv_pos_stride, group.kv_pos + last * group.kv_pos_stride};
  const TileClass known = class_in(params.tile_map, tile);
  const TileClass found = known == TileClass::mixed ? variant.class_of(params.mask, tile) : known;
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

/// What range and `keep` make of a tile of one request and head.
TileClass class_of_tile(const Classification& c, const Position<Interval>& tile) {
  const Span keys{tile.kv_pos.lo, tile.kv_pos.hi + 1};
  const SpanPair some = positions_some_see(c.range, tile.q_pos.lo, tile.q_pos.hi);
  const bool seen =
      (keys.begin < some.first.end && some.first.begin < keys.end) || (keys.begin < some.second.end && some.second.begin < keys.end);
  if (!seen) {
    return TileClass::empty;
  }
  const TileClass found = c.variant.class_of(c.mask, tile);
  return found == TileClass::mixed ? c.variant.class_of_pairs(c.mask, tile) : found;
}

/// The tiles of some query tokens of one request and head: they are next to each other in the answer.
struct Strip {
  std::int32_t request, head, qo_begin;
  std::size_t first;  // of its classes
};

void classify_strip(const Classification& c, const Strip& strip, std::uint8_t* classes) {
  const Request request = make_request(c.view, strip.request);
  const std::int32_t i = strip.qo_begin, last_row = min_(i + c.options.tile_q, request.qo_len) - 1;
  for (std::int32_t j = 0; j < request.kv_len; j += c.options.tile_kv) {
    const Position<Interval> tile{.request = strip.request,
                                  .qo_idx = {i, last_row},
                                  .q_pos = {request.q_pos + i, request.q_pos + last_row},
                                  .kv_pos = {j, min_(j + c.options.tile_kv, request.kv_len) - 1},
                                  .qo_head = strip.head,
                                  .kv_head = strip.head / c.problem.group_size,
                                  .qo_len = request.qo_len,
                                  .kv_len = request.kv_len};
    *classes++ = static_cast<std::uint8_t>(class_of_tile(c, tile));
  }
}

/// With every head's classes the same: those of head 0, else as they are.
ClassifiedTiles without_like_heads(ClassifiedTiles tiles, std::int32_t heads) {
  ClassifiedTiles first{.classes = {}, .class_indptr = {0}, .tile_q = tiles.tile_q, .tile_kv = tiles.tile_kv, .per_head = false};
  for (std::size_t r = 0; r + 1 < tiles.class_indptr.size(); ++r) {
    const std::ptrdiff_t count = (tiles.class_indptr[r + 1] - tiles.class_indptr[r]) / heads;
    const auto head_0 = tiles.classes.begin() + tiles.class_indptr[r];
    for (std::int32_t h = 1; h < heads; ++h) {
      if (!std::equal(head_0, head_0 + count, head_0 + h * count)) {
        return tiles;
      }
    }
    first.classes.insert(first.classes.end(), head_0, head_0 + count);
    first.class_indptr.push_back(static_cast<std::int32_t>(first.classes.size()));
  }
  return first;
}

}  // namespace

ClassifiedTiles classify_tiles(const Classification& c, const Backend& backend) {
  const std::int32_t heads = c.options.heads_alike ? 1 : c.problem.spec.num_qo_heads;
  ClassifiedTiles tiles{
      .classes = {}, .class_indptr = {0}, .tile_q = c.options.tile_q, .tile_kv = c.options.tile_kv, .per_head = heads > 1};
  std::vector<Strip> strips;
  std::size_t count = 0;
  for (std::int32_t r = 0; r < c.view.num_requests; ++r) {
    const Request request = make_request(c.view, r);
    for (std::int32_t h = 0; h < heads; ++h) {
      for (std::int32_t i = 0; i < request.qo_len; i += c.options.tile_q) {
        strips.push_back({.request = r, .head = h, .qo_begin = i, .first = count});
        count += static_cast<std::size_t>(ceil_div(request.kv_len, c.options.tile_kv));
      }
    }
    FOVEA_CHECK(count <= static_cast<std::size_t>(kHighestInt),
                "classify_tiles: {} tiles of {} query tokens x {} positions are too many; at most {}: make them larger", count,
                c.options.tile_q, c.options.tile_kv, kHighestInt);
    tiles.class_indptr.push_back(static_cast<std::int32_t>(count));
  }
  tiles.classes.resize(count);
  backend.for_each(static_cast<std::int64_t>(strips.size()), [&](std::int64_t s) {
    const Strip& strip = strips[static_cast<std::size_t>(s)];
    classify_strip(c, strip, tiles.classes.data() + strip.first);
  });
  return without_like_heads(std::move(tiles), heads);
}

TileClasses ClassifiedTiles::view() const {
  return {
      .classes = TensorView::contiguous(const_cast<std::uint8_t*>(classes.data()), DType::u8, {static_cast<std::int64_t>(classes.size())}),
      .class_indptr = TensorView::of(class_indptr),
      .tile_q = tile_q,
      .tile_kv = tile_kv,
      .per_head = per_head};
}

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
