// Form list: units cut into chunks, items counted per cost bucket, then written to their places: a counting sort in two passes. Kv heads of
// a group have the same units, so both passes look at one and multiply.
#include "src/schedule/assign.h"
#include "src/support/check.h"

namespace fovea {

namespace {

/// Items per cost bucket.
struct BucketCounts {
  std::int32_t items[kNumCostBuckets] = {};
  std::uint32_t used = 0;  // bit b: items[b] may not be 0

  void add(std::int32_t bucket, std::int32_t count) {
    items[bucket] += count;
    used |= 1u << bucket;
  }
};

/// What one kv head of a group brings.
struct HeadCounts {
  BucketCounts buckets;
  std::int32_t slots = 0;
  std::int32_t merges = 0;
};

UnitChunks chunks_of(const Assignment& a, const ChunkRule& rule, std::int32_t g, std::int32_t row_tile) {
  const RowGroup& group = a.groups[static_cast<std::size_t>(g)];
  return unit_chunks(rule, a.row_tiles[a.work[g].first_row_tile + row_tile],
                     stays_whole(rule, group.format, packed_rows_of(group, a.group_size)));
}

HeadCounts count_head(const Assignment& a, const ChunkRule& rule, std::int32_t g) {
  HeadCounts counts;
  for (std::int32_t t = 0; t < a.work[g].num_row_tiles; ++t) {
    const UnitChunks chunks = chunks_of(a, rule, g, t);
    for (std::int32_t i = 0; i < chunks.count; ++i) {
      counts.buckets.add(cost_bucket(cost_of_tiles(a.config.cost, chunks.chunk(i).length())), 1);
    }
    if (chunks.count > 1) {
      counts.slots += chunks.count;
      ++counts.merges;
    }
  }
  return counts;
}

/// Where the next item of each bucket, the next slot and the next merge go.
struct Places {
  std::int32_t next_item[kNumCostBuckets] = {};
  std::int32_t slot = 0;
  std::int32_t merge = 0;
};

/// First pass: room for every bucket, the longest first. Throws before anything is written beyond a bound.
Places count_all(const Assignment& a, const ChunkRule& rule, std::int32_t& num_items, std::int32_t& num_slots, std::int32_t& num_merges) {
  std::int64_t items[kNumCostBuckets] = {};
  std::int64_t slots = 0, merges = 0, total = 0;
  for (std::int32_t g = 0; g < static_cast<std::int32_t>(a.groups.size()); ++g) {
    if (a.work[g].config != a.config_index) {
      continue;
    }
    const HeadCounts counts = count_head(a, rule, g);
    const std::int64_t heads = a.work[g].heads;
    for (std::int32_t b = 0; b < kNumCostBuckets; ++b) {
      items[b] += heads * counts.buckets.items[b];
    }
    slots += heads * counts.slots;
    merges += heads * counts.merges;
  }
  for (const std::int64_t count : items) {
    total += count;
  }
  FOVEA_ASSERT(total <= a.max_items && slots <= a.slots.length() && merges <= a.max_merges,
               "a list needs {} items, {} slots, {} merges; there is room for {}, {}, {}", total, slots, merges, a.max_items,
               a.slots.length(), a.max_merges);
  Places places{.slot = a.slots.begin};
  std::int32_t next = 0;
  for (std::int32_t b = kNumCostBuckets - 1; b >= 0; --b) {
    places.next_item[b] = next;
    next += static_cast<std::int32_t>(items[b]);
  }
  num_items = static_cast<std::int32_t>(total);
  num_slots = static_cast<std::int32_t>(slots);
  num_merges = static_cast<std::int32_t>(merges);
  return places;
}

/// Second pass for one unit position of a group, on all its kv heads. `done`: items, slots and merges of the row tiles before, on one head;
/// `head`: those of all row tiles.
void write_row_tile(const Assignment& a, const ChunkRule& rule, std::int32_t g, std::int32_t t, const Places& places,
                    const HeadCounts& head, HeadCounts& done) {
  const RowGroup& group = a.groups[static_cast<std::size_t>(g)];
  const UnitChunks chunks = chunks_of(a, rule, g, t);
  const std::int32_t rows = rows_per_tile(a.config, a.group_size);
  const std::int32_t row_begin = t * rows;
  const std::int32_t row_end = min_(row_begin + rows, packed_rows_of(group, a.group_size));
  const std::int32_t whole = a.composed ? kLevelState : kFinal;
  for (std::int32_t i = 0; i < chunks.count; ++i) {
    const Span chunk = chunks.chunk(i);
    const Span columns = columns_of_tiles(chunks.tiles, chunk.begin, chunk.end, a.config.tile_kv, group.num_cols);
    const std::int32_t bucket = cost_bucket(cost_of_tiles(a.config.cost, chunk.length()));
    for (std::int32_t h = 0; h < a.work[g].heads; ++h) {
      a.out.items[places.next_item[bucket] + h * head.buckets.items[bucket] + done.buckets.items[bucket]] = {
          .row_group = g,
          .kv_head = group.kv_head == kAllHeads ? static_cast<std::uint16_t>(h) : group.kv_head,
          .config = static_cast<std::uint16_t>(a.config_index),
          .row_begin = row_begin,
          .row_end = row_end,
          .col_begin = columns.begin,
          .col_end = columns.end,
          .partial_slot = chunks.count > 1 ? places.slot + h * head.slots + done.slots + i : whole,
          .flags = 0};
    }
    done.buckets.add(bucket, 1);
  }
  if (chunks.count == 1) {
    return;
  }
  for (std::int32_t h = 0; h < a.work[g].heads; ++h) {
    a.out.merges[places.merge + h * head.merges + done.merges] = {
        .row_group = g,
        .kv_head = group.kv_head == kAllHeads ? static_cast<std::uint16_t>(h) : group.kv_head,
        .config = static_cast<std::uint16_t>(a.config_index),
        .row_begin = row_begin,
        .row_end = row_end,
        .slot_begin = places.slot + h * head.slots + done.slots,
        .num_slots = chunks.count,
        .reserved = {}};
  }
  done.slots += chunks.count;
  ++done.merges;
}

}  // namespace

std::int32_t assign_list(const Assignment& a, const ChunkRule& rule) {
  std::int32_t num_items, num_slots, num_merges;
  Places places = count_all(a, rule, num_items, num_slots, num_merges);
  for (std::int32_t g = 0; g < static_cast<std::int32_t>(a.groups.size()); ++g) {
    if (a.work[g].config != a.config_index) {
      continue;
    }
    const HeadCounts head = count_head(a, rule, g);
    HeadCounts done;
    for (std::int32_t t = 0; t < a.work[g].num_row_tiles; ++t) {
      write_row_tile(a, rule, g, t, places, head, done);
    }
    const std::int32_t heads = a.work[g].heads;
    for (std::int32_t b = 0; b < kNumCostBuckets; ++b) {
      places.next_item[b] += heads * head.buckets.items[b];
    }
    places.slot += heads * head.slots;
    places.merge += heads * head.merges;
  }
  *a.out.num_items = num_items;
  *a.out.num_merges = num_merges;
  return num_slots;
}

}  // namespace fovea
