// Every check of what a caller gives, and its plain form afterwards. Nothing else in the library checks arguments; every FOVEA_CHECK here
// has a test case that triggers it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "fovea/engine.h"
#include "portable/batch_view.h"
#include "portable/tile_map.h"
#include "src/backend.h"

namespace fovea {

/// spec + limits + options with all defaults resolved. Throws InvalidArgument.
Problem check_problem(const AttentionSpec& spec, const Limits& limits, const PrepareOptions& options);

/// What a plan for these limits would have to hold, counted by src/schedule/ in the tiles of the chosen kernel.
struct PlanNeeds {
  std::int64_t row_refs = 0, row_tiles = 0, work_items = 0, partial_states = 0;
  std::int64_t bytes_per_state = 0;
  std::int64_t affordable_states = 0;  // within PrepareOptions::max_workspace_bytes
};
/// Throws InvalidArgument when that is more than there can be.
void check_plan_needs(const Problem& problem, const PlanNeeds& needs);

/// The batch as pointers. `seen_rows` is scratch of at least max_query_tokens bits. Reads lengths, no page ids; allocates nothing, as do
/// all checks below unless they throw.
BatchView check_batch(const Problem& problem, const Batch& batch, Device device, std::uint64_t* seen_rows);

/// Are the batch's integers in device memory?
bool is_on_device(const Batch& batch, Device device);

/// Such a batch as pointers, its shapes checked; its values are the planner's to check.
BatchView check_device_batch(const Problem& problem, const Batch& batch, Device device);

/// What a planner found, as a message.
std::string describe(const PlanStatus& status);

/// Whose fields are filled, and what their tables must fit.
struct FieldsTarget {
  std::string_view where;  // "plan" or "run"
  std::string_view what;   // "mask" or "params"
  const VariantInfo& variant;
  Device device;
  std::int32_t num_qo_heads = 0, num_kv_heads = 0, num_requests = 0, head_dim_qk = 0;

  const FieldList& fields() const { return what == "mask" ? variant.mask_fields : variant.param_fields; }
};

/// Writes named values into a Mask or Params struct (already holding its defaults).
/// Throws for unknown, ambiguous, missing or repeated names and for values of the wrong type, device or shape.
void fill_fields(const FieldsTarget& target, Values values, void* out);

/// Where the lengths of a batch's requests are: what a call is given, or what a plan was made of.
struct RequestLengths {
  const BatchView* view = nullptr;
  const Request* requests = nullptr;  // of a plan; used where there is no view
  std::int32_t num_requests = 0;
  Request at(std::int32_t r) const { return view != nullptr ? make_request(*view, r) : requests[r]; }
};

/// TileClasses as kernels read them; empty where none are given.
TileMap check_tiles(std::string_view where, const TileClasses& tiles, const RequestLengths& requests, std::int32_t num_qo_heads);
void check_classify_options(const ClassifyOptions& options);

/// What run() needs to know of the plan it is given.
struct PlannedBatch {
  std::int32_t num_query_tokens = 0;
  const std::int32_t* tables[kMaxFormats] = {};  // page ids per format; null: ragged
  TensorView page_ids[kMaxFormats];              // the same; not given: ragged
  std::int32_t ragged_tokens[kMaxFormats] = {};  // tokens a ragged format's K and V must hold
  std::int32_t kv_pos_strides[kMaxFormats] = {};
  bool shares_rows = false;  // groups may hold rows of several requests
};
bool shares_rows(const BatchView& view);
PlannedBatch planned_batch(const BatchView& view, const Batch& batch);
PlannedBatch planned_device_batch(const BatchView& view, const Batch& batch);

/// Fills q, out, kv, scales and flags of `params`; leaves the plan's part alone.
void check_run(const Problem& problem, const VariantInfo& variant, const PlannedBatch& planned, const RunArgs& args, Device device,
               KernelParams& params);

AppendParams check_append(const AppendArgs& args, Device device);
MergeStatesParams check_merge_states(std::span<const State> states, const State& out, Device device);

}  // namespace fovea
