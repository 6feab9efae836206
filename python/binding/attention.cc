// Functions of a prepared attention and of its plans: plan, run, and what they say of themselves. plan() and run() are the hot ones: in
// steady state they allocate nothing.
#include <algorithm>
#include <optional>
#include <span>

#include "python/binding/arguments.h"
#include "python/binding/objects.h"
#include "python/binding/readers.h"

namespace fovea::python {

namespace {

/// What python/fovea/attention.py writes in place of a mask's number of values.
constexpr std::int64_t kAnyMask = -1;
constexpr std::int64_t kNoMask = -2;  // of a run: none of its own

/// Flags of a run, as python/fovea/attention.py sets them.
enum RunFlag : std::int64_t { kStates = 1, kLseBase2 = 2, kLseWithExtra = 4 };

/// Lists of a call. They keep their memory from call to call.
struct Lists {
  std::vector<KvTables> tables;
  std::vector<KvCache> caches;
  std::vector<Value> params;
  std::vector<std::vector<Value>> mask_values;
  std::vector<MaskValues> masks;
};

Lists& lists() {
  thread_local Lists of_this_thread;
  return of_this_thread;
}

/// A number of masks, then each: how many values, the values, its tiles.
std::span<const MaskValues> masks_from(Arguments& from, Lists& memory) {
  const auto count = static_cast<std::size_t>(from.integer("masks"));
  memory.masks.assign(count, MaskValues{});
  memory.mask_values.resize(std::max(count, memory.mask_values.size()));
  for (std::size_t m = 0; m < count; ++m) {
    const std::int64_t num_values = from.integer("mask");
    memory.masks[m].any = num_values == kAnyMask;
    values_from(from, std::max<std::int64_t>(num_values, 0), memory.mask_values[m]);
    memory.masks[m].values = memory.mask_values[m];
    memory.masks[m].tiles = tiles_from(from);
  }
  return memory.masks;
}

/// The tables of a batch: `tables` must outlive it.
Batch batch_from(Arguments& from, std::vector<KvTables>& tables) {
  Batch batch;
  batch.qo_indptr = from.optional_lengths("qo_indptr");
  batch.kv_len = from.optional_lengths("kv_len");
  batch.q_pos = from.optional_lengths("q_pos");
  batch.num_requests = from.optional_tensor("num_requests");
  batch.max_query_tokens = from.integer32("max_query_tokens");
  tables.resize(static_cast<std::size_t>(from.integer("formats")));
  for (KvTables& format : tables) {
    format = tables_from(from);
  }
  batch.kv = tables;
  return batch;
}

ffi::Any new_plan(Arguments& from) { return ffi::ObjectRef(ffi::make_object<PlanObject>(from.object<AttentionObject>())); }

ffi::Any plan(Arguments& from) {
  PlanObject& self = from.object<PlanObject>();
  const Stream stream = from.stream(self.device);
  Lists& memory = lists();
  const Batch batch = batch_from(from, memory.tables);
  self.attention.plan(self.plan, batch, {.masks = masks_from(from, memory)}, stream);
  return nullptr;
}

ffi::Any run(Arguments& from) {
  PlanObject& self = from.object<PlanObject>();
  const Stream stream = from.stream(self.device);
  Lists& memory = lists();
  RunArgs args;
  args.q = from.tensor("q");
  args.o = from.tensor("out");
  args.lse = from.optional_tensor("lse");
  if (!from.is_none()) {
    args.sm_scale = static_cast<float>(from.number("sm_scale"));
  }
  args.q_scale = static_cast<float>(from.number("q_scale"));
  const std::int64_t flags = from.integer("flags");
  args.output = (flags & kStates) != 0 ? Output::states : Output::finalised;
  args.lse_base2 = (flags & kLseBase2) != 0;
  args.lse_with_extra = (flags & kLseWithExtra) != 0;
  args.mask_group = from.integer32("mask_group");
  memory.caches.resize(static_cast<std::size_t>(from.integer("caches")));
  for (KvCache& cache : memory.caches) {
    cache = cache_from(from);
  }
  args.kv = memory.caches;
  const std::int64_t num_values = from.integer("mask");
  if (num_values != kNoMask) {
    memory.mask_values.resize(std::max<std::size_t>(1, memory.mask_values.size()));
    values_from(from, std::max<std::int64_t>(num_values, 0), memory.mask_values[0]);
    args.mask = MaskValues{.values = memory.mask_values[0], .any = num_values == kAnyMask};
    args.mask->tiles = tiles_from(from);
  }
  values_from(from, -1, memory.params);
  args.params = memory.params;
  self.attention.run(self.plan, args, stream);
  return nullptr;
}

ffi::Any kv_cache(Arguments& from) { return ffi::ObjectRef(ffi::make_object<KvCacheObject>(cache_from(from))); }

/// run() of what nearly every layer has: one format, no params, no mask of its own, no flags.
ffi::Any run_layer(Arguments& from) {
  const PlanObject& self = from.object<PlanObject>();
  const Stream stream = from.stream(self.device);
  RunArgs args;
  args.q = from.tensor("q");
  args.o = from.tensor("out");
  args.lse = from.optional_tensor("lse");
  if (!from.is_none()) {
    args.sm_scale = static_cast<float>(from.number("sm_scale"));
  }
  args.kv = {&from.object<KvCacheObject>().cache, 1};
  self.attention.run(self.plan, args, stream);
  return nullptr;
}

ffi::Any check_pages(Arguments& from) {
  const PlanObject& self = from.object<PlanObject>();
  const std::int32_t mask_group = from.integer32("mask_group");
  std::vector<std::int64_t> num_pages;
  while (!from.done()) {
    num_pages.push_back(from.integer("num_pages"));
  }
  self.attention.check_pages(self.plan, num_pages, mask_group);
  return nullptr;
}

/// tile_q, tile_kv, heads_alike, a batch, one mask -> classes, class_indptr, per_head. The arrays are new tensors.
ffi::Any classify_tiles(Arguments& from) {
  const AttentionObject& self = from.object<AttentionObject>();
  ClassifyOptions options;
  options.tile_q = from.integer32("tile_q");
  options.tile_kv = from.integer32("tile_kv");
  options.heads_alike = from.integer("heads_alike") != 0;
  Lists& memory = lists();
  const Batch batch = batch_from(from, memory.tables);
  const std::span<const MaskValues> masks = masks_from(from, memory);
  const ClassifiedTiles tiles = self.attention.classify_tiles(batch, masks.empty() ? MaskValues{} : masks[0], options);
  ffi::Array<std::int64_t> indptr;
  for (const std::int32_t begin : tiles.class_indptr) {
    indptr.push_back(begin);
  }
  return ffi::Array<ffi::Any>{ffi::Bytes(reinterpret_cast<const char*>(tiles.classes.data()), tiles.classes.size()), indptr,
                              std::int64_t{tiles.per_head}};
}

/// Empty, mixed, full.
ffi::Any count_tiles(Arguments& from) {
  const PlanObject& self = from.object<PlanObject>();
  const TileCounts counts = self.attention.count_tiles(self.plan, from.integer32("mask_group"));
  return ffi::Array<std::int64_t>{counts.empty, counts.mixed, counts.full};
}

ffi::Any explain(Arguments& from) { return ffi::String(from.object<AttentionObject>().attention.explain()); }
ffi::Any workspace_bytes(Arguments& from) { return from.object<AttentionObject>().attention.workspace_bytes(); }
ffi::Any generation(Arguments& from) { return static_cast<std::int64_t>(from.object<PlanObject>().plan.generation()); }

ffi::Any view_plan(Arguments& from) {
  const PlanObject& self = from.object<PlanObject>();
  return ffi::String(self.plan.view(from.integer32("mask_group")).to_string());
}

/// Limits with every default resolved, in the order of the struct.
ffi::Any limits(Arguments& from) {
  const Limits& l = from.object<AttentionObject>().attention.limits();
  return ffi::Array<std::int64_t>{
      l.max_requests,   l.max_query_tokens, l.max_query_tokens_per_request, l.max_kv_tokens_per_request, l.max_kv_tokens,
      l.max_row_groups, l.max_mask_groups};
}

}  // namespace

void register_attention_functions() {
  register_function<new_plan>("fovea.new_plan");
  register_function<plan>("fovea.plan");
  register_function<run>("fovea.run");
  register_function<run_layer>("fovea.run_layer", "run");
  register_function<kv_cache>("fovea.kv_cache", "run");
  register_function<check_pages>("fovea.check_pages");
  register_function<classify_tiles>("fovea.classify_tiles");
  register_function<count_tiles>("fovea.count_tiles");
  register_function<explain>("fovea.explain");
  register_function<workspace_bytes>("fovea.workspace_bytes");
  register_function<generation>("fovea.generation");
  register_function<view_plan>("fovea.view_plan");
  register_function<limits>("fovea.limits");
}

}  // namespace fovea::python
