"""The defects that tools/mutation.py plants: (file, text as it is, text with the defect), one or more replacements each.

A text must be in its file exactly once. Where code has moved on, move the defect along: a list that shrinks proves less each time.
"""

KERNEL = "backends/cpu/kernels/attention_simd/"

DEFECTS = {
    "sink counted in every split": [
        (KERNEL + "kernel.cc",
         "    } else {\n      write_partial(params.partial, static_cast<int64_t>(work.partial_slot)",
         "    } else {\n      state.lse2 = item.variant.finish_row(params.mask, params.variant_params, row.at, state.lse2, state.o, params.head_dim_vo);\n"
         "      write_partial(params.partial, static_cast<int64_t>(work.partial_slot)")],
    "causal off by one": [
        ("variants/causal.h", "return at.kv_pos <= at.q_pos;", "return at.kv_pos < at.q_pos;")],
    "window off by one": [
        ("variants/sliding_window.h", "(at.q_pos - at.kv_pos <= window_left)", "(at.q_pos - at.kv_pos < window_left)")],
    "window's tiles begin one token late": [
        ("portable/kv_range.h",
         "max_(range.left == kUnbounded ? 0 : max_(0, q_lo - range.left), chunks.begin);",
         "max_(range.left == kUnbounded ? 0 : max_(0, q_lo - range.left + 1), chunks.begin);")],
    "page tail dropped": [
        ("portable/batch_view.h", "return (entries - 1) * f.page_size + last;", "return (entries - 1) * f.page_size;")],
    "head scale of the wrong head": [
        (KERNEL + "columns.h",
         "return scale.data == nullptr ? scale.number : scale.data[kv_head * scale.head_stride];",
         "return scale.data == nullptr ? scale.number : scale.data[0];")],
    "k scale used for v": [
        (KERNEL + "kernel.cc", "const float v_scale = head_scale(item.columns.kv.v.scale,", "const float v_scale = head_scale(item.columns.kv.k.scale,")],
    "token scale of the wrong slot": [
        (KERNEL + "columns.h", "kv.v.scale.data + page * kv.v.scale.page_stride + slot * kv.v.scale.token_stride;",
         "kv.v.scale.data + page * kv.v.scale.page_stride;")],
    "stale merge slot": [
        ("backends/cpu/kernels/merge/merge.cc",
         "static_cast<int64_t>(item.slot_begin + s) * partial.rows_per_slot",
         "static_cast<int64_t>(item.slot_begin + (s + 1 < item.num_slots ? s : 0)) * partial.rows_per_slot")],
    "merge weights swapped": [
        (KERNEL + "output.h",
         "const Vec a = broadcast(w.a);\n    const Vec b = broadcast(w.b);",
         "const Vec a = broadcast(w.b);\n    const Vec b = broadcast(w.a);")],
    "lse in the wrong base": [
        (KERNEL + "output.h", "params.lse_base2 ? lse2 : lse2 * math::kLn2;", "lse2 * math::kLn2;")],
    "lse with the sink unasked": [
        (KERNEL + "output.h", "lse2 = params.lse_with_extra ? with_extra : lse2;", "lse2 = with_extra;")],
    "position of a row reference ignored": [
        (KERNEL + "rows.h", "    q_pos = ref.q_pos;\n", "")],
    "column end of an item ignored": [
        (KERNEL + "rows.h", "const int32_t end = min_(item.end, bounds.col_end_max);", "const int32_t end = bounds.col_end_max;"),
        (KERNEL + "kernel.cc", "> work.col_begin && first_column < work.col_end;", "> work.col_begin;")],
    "column end of row references from the wrong head": [
        ("src/schedule/groups.cc",
         "    widest.num_cols = max_(widest.num_cols, arrays.groups[f.first_group + set * f.heads_per_set + h].num_cols);\n",
         "")],
    "kv_pos ignored": [
        (KERNEL + "columns.h",
         "const int64_t position = set.group.kv_pos + place * set.group.kv_pos_stride;",
         "const int64_t position = place * set.group.kv_pos_stride;")],
    "stride of positions ignored": [
        (KERNEL + "columns.h",
         "const int64_t position = set.group.kv_pos + place * set.group.kv_pos_stride;",
         "const int64_t position = set.group.kv_pos + place;")],
    "table_rows ignored": [
        ("portable/batch_view.h", "static_cast<int64_t>(f.table_rows != nullptr ? f.table_rows[g] : g)", "static_cast<int64_t>(g)")],
    "mask of the last tile skipped": [
        (KERNEL + "columns.h",
         "table.full = set.tiles.full.contains(whole);",
         "table.full = set.tiles.full.contains(whole) || set.tiles.columns.first.end == whole.end;")],
    "group packing wrong": [
        (KERNEL + "rows.h",
         "const int32_t head = span.kv_head * params.group_size + packed_row % params.group_size;",
         "const int32_t head = span.kv_head + packed_row % params.group_size * params.num_kv_heads;")],
    "v strides taken from k": [
        (KERNEL + "columns.h", ".v_page_bytes = kv.v.page_stride * v_bytes,", ".v_page_bytes = kv.k.page_stride * v_bytes,")],
    "NaN of unused slots leaks": [
        (KERNEL + "columns.h", "!kv.by_index || (position < set.bounds.kv_len_max &&", "!kv.by_index || (true &&"),
        (KERNEL + "kernel.cc", "drop_unweighted_columns(tile, item.columns.zeros, table);", "")],
    "kv_len of by_index formats unchecked": [
        ("backends/cpu/device/logits.h", "tile.by_index ? row.at.kv_len : kUnbounded", "kUnbounded")],
    "level state not merged": [
        ("backends/cpu/kernels/merge/merge.cc",
         "if ((composed.level_mask >> format & 1u) != 0) {",
         "if ((composed.level_mask >> format & 1u) != 0 && (format == 0 || format + 1 < params.num_formats)) {")],
    "level state of an absent level merged": [
        ("backends/cpu/kernels/merge/merge.cc", "if ((composed.level_mask >> format & 1u) != 0) {", "{")],
    "empty state not zeroed": [
        (KERNEL + "kernel.cc", "empty ? 0.0f : v_scale / sum", "v_scale / sum")],
    "logit transform after the mask": [
        ("backends/cpu/device/logits.h",
         "const float masked = V::use_softmax ? -math::infinity<float>() : 0.0f;",
         "const float masked = V::use_softmax ? transformed_logit(v, -math::infinity<float>(), row.at) : 0.0f;")],
    "soft cap before the scale": [
        ("backends/cpu/device/logits.h",
         "transformed_logit(v, scores[c] * tile.scale, at);",
         "transformed_logit(v, scores[c], at) * tile.scale;")],
    "planner skips the last tile of a chunk": [
        ("src/schedule/list.cc",
         "columns_of_tiles(chunks.tiles, chunk.begin, chunk.end, a.config.tile_kv",
         "columns_of_tiles(chunks.tiles, chunk.begin, max_(chunk.begin, chunk.end - 1), a.config.tile_kv")],
    "planner gives a tile to two chunks": [
        ("src/schedule/list.cc",
         "columns_of_tiles(chunks.tiles, chunk.begin, chunk.end, a.config.tile_kv",
         "columns_of_tiles(chunks.tiles, max_(0, chunk.begin - 1), chunk.end, a.config.tile_kv")],
    "ranges give a tile to two workers": [
        ("src/schedule/ranges.cc", "write_cursor(a.out.cursors[w], begin, end, slot);",
         "write_cursor(a.out.cursors[w], {begin.group, begin.head, max_(0, begin.tile - 1)}, end, slot);")],
    "merges read a slot off by one": [
        ("src/schedule/ranges.cc", "merge_slot = slot - 1;", "merge_slot = slot;")],
    "last partial of a merge left out": [
        ("src/schedule/ranges.cc", ".num_slots = slot + 1 - merge_slot;", ".num_slots = slot - merge_slot;")],
    "q_scale ignored": [
        ("src/problem/run.cc", "checked_scale(problem, args) * (variant.transforms_query ? 1.0f : args.q_scale);", "checked_scale(problem, args);")],
    "default position of later formats forgotten": [
        ("portable/batch_view.h", "tokens_before(b, request, i) : 0);", "0 : 0);")],
    "keys turn the other way": [
        ("portable/rope.h", "x.a * angle.a - x.b * angle.b, x.b * angle.a + x.a * angle.b", "x.a * angle.a + x.b * angle.b, x.b * angle.a - x.a * angle.b")],
    "a full tile where any pair is kept": [
        ("portable/interval.h", "Tri operator<=(Interval a, Interval b) { return {a.lo <= b.hi, a.hi <= b.lo}; }",
         "Tri operator<=(Interval a, Interval b) { return {a.lo <= b.hi, a.lo <= b.lo}; }")],
    "rows of other requests left out of a tile's bounds": [
        (KERNEL + "columns.h", "for (int32_t r = 1; r < num_rows; ++r) {\n    const Position<>& at", "for (int32_t r = num_rows; r < num_rows; ++r) {\n    const Position<>& at")],
    "a full tile's missing columns": [
        (KERNEL + "columns.h", "table.full = tile_class == TileClass::full && set.tiles.columns.contains(whole) && whole.end <= set.bounds.col_end_min;",
         "table.full = tile_class == TileClass::full;")],
    "keys staged without their scale": [
        (KERNEL + "stage.h", "args.scales != nullptr ? args.scales[c] : args.scale, row);", "args.scales != nullptr ? args.scales[c] : 1.0f, row);")],
    "query scale lost where queries transform": [
        (KERNEL + "rows.h", "const Vec scale = broadcast(params.q_scale);", "const Vec scale = broadcast(1.0f);")],
    "rotary rows turn the other way": [
        ("portable/rope.h", "a[i] = before * cosines[i] - b[i] * sines[i];", "a[i] = before * cosines[i] + b[i] * sines[i];")],
    "classes of tiles: the last of several is not looked at": [
        ("portable/tile_class.h", "j <= tile.kv_pos.hi / map.tile_kv; ++j", "j < max_(tile.kv_pos.lo / map.tile_kv + 1, tile.kv_pos.hi / map.tile_kv); ++j")],
    "chunks begin one token late": [
        ("portable/kv_range.h", "max_(0, q_first / range.chunk * range.chunk)", "max_(0, q_first / range.chunk * range.chunk + 1)")],
}
