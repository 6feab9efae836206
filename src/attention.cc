#include "src/attention.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "src/page_check.h"
#include "src/schedule/planner.h"
#include "src/support/check.h"

namespace fovea {

void check_variant_storage(const VariantInfo& variant) {
  const std::size_t room = sizeof(VariantStorage::bytes);
  if (variant.mask_fields.struct_bytes > room || variant.param_fields.struct_bytes > room) {
    throw Unsupported(
        fmt::format("prepare: variant '{}' has a mask of {} bytes and params of {} bytes; at most {} each; put long lists into a Table",
                    variant.name, variant.mask_fields.struct_bytes, variant.param_fields.struct_bytes, room));
  }
}

Plan::Impl::Impl(std::shared_ptr<Attention::Impl> owner)
    : attention(std::move(owner)),
      plan_memory(static_cast<std::size_t>(attention->capacity.plan_bytes)),
      device_plan(attention->module->new_device_plan(static_cast<std::size_t>(attention->capacity.plan_bytes))),
      partial_memory(*attention->backend, static_cast<std::size_t>(attention->capacity.partial_bytes)),
      arrays(lay_out_plan(attention->capacity, plan_memory.get())),
      device_arrays(lay_out_plan(attention->capacity, device_plan != nullptr ? device_plan->memory() : plan_memory.get())),
      masks(static_cast<std::size_t>(attention->capacity.max_mask_groups)),
      staged_masks(masks.size()) {
  parts.reserve(max_parts(attention->capacity));
  if (attention->backend->plans_on_device()) {
    planner.emplace(*attention->backend, attention->capacity);
  }
}

PlannerMemory::PlannerMemory(const Backend& backend, const PlanCapacity& capacity)
    : scratch(backend, static_cast<std::size_t>(planner_scratch_bytes(capacity) * std::min(capacity.max_mask_groups, kMaxMasksOfLaunch))),
      status_memory(backend, sizeof(PlanStatus)) {
  new (status_memory.get()) PlanStatus;
}

std::int64_t workspace_bytes_of(const PlanCapacity& capacity) { return capacity.partial_bytes + capacity.plan_bytes; }

std::shared_ptr<Plan::Impl> make_plan(const std::shared_ptr<Attention::Impl>& attention) {
  std::string cause = "the host has no memory left";
  try {
    return std::make_shared<Plan::Impl>(attention);
  } catch (const std::bad_alloc&) {
  } catch (const DeviceFailed& error) {
    cause = error.what();
  }
  throw DeviceFailed(
      fmt::format("new_plan: no room for {} bytes of partial states and {} bytes of row groups and work lists ({}); both follow from "
                  "the limits: lower them, or PrepareOptions::max_workspace_bytes; explain() says what they are made of",
                  attention->capacity.partial_bytes, attention->capacity.plan_bytes, cause));
}

void Plan::Impl::end_generation(const BatchView& view, const Batch& b, std::int32_t masks_planned, Stream stream) {
  if (device_plan != nullptr) {
    used_bytes(attention->capacity, arrays, view, masks_planned, parts);
    device_plan->publish(plan_memory.get(), parts, stream);
  }
  batch = planned_batch(view, b);
  num_masks = masks_planned;
  num_requests = view.num_requests;
  planned_by_device = false;
  generation = ++num_plans;
}

void Plan::Impl::plan_on_device(const BatchView& view, const Batch& b, std::int32_t masks_planned, Stream stream) {
  const Backend& backend = *attention->backend;
  const PlanCapacity& capacity = attention->capacity;
  if (!backend.is_capturing(stream)) {
    device_plan->continue_on(stream);
  }
  PlannerParams launch = planner_params(attention->problem, attention->selection.choice, capacity, view, device_arrays);
  launch.num_requests = b.num_requests.as<const std::int32_t>();
  launch.status = static_cast<PlanStatus*>(planner->status_memory.get());
  launch.scratch = static_cast<char*>(planner->scratch.get());
  launch.scratch_bytes = planner_scratch_bytes(capacity);
  for (std::int32_t m = 0; m < masks_planned; ++m) {
    masks[static_cast<std::size_t>(m)].work = attention->most_work[shares_rows(view)];
    add_mask(launch, capacity, device_arrays, m, masks[static_cast<std::size_t>(m)].range);
    if (launch.num_masks == kMaxMasksOfLaunch || m + 1 == masks_planned) {
      backend.plan_on_device(launch, stream);
      launch.num_masks = launch.write_groups = 0;
    }
  }
  batch = planned_device_batch(view, b);
  num_masks = masks_planned;
  num_requests = view.num_requests;
  planned_by_device = true;
  planned_on = stream;
  generation = ++num_plans;
}

void Plan::Impl::bring_to_host() const {
  if (planned_by_device) {
    const auto bytes = reinterpret_cast<const std::byte*>(arrays.work) - static_cast<const std::byte*>(plan_memory.get());
    attention->backend->synchronise(planned_on);
    attention->backend->copy_to_host(plan_memory.get(), device_plan->memory(), static_cast<std::size_t>(bytes));
  }
}

KernelParams Plan::Impl::kernel_params(std::int32_t mask_group) const {
  const Problem& problem = attention->problem;
  const Choice& choice = attention->selection.choice;
  const PlanCapacity& capacity = attention->capacity;
  KernelParams p{};
  p.plan = plan_arrays(arrays, mask_group, capacity.num_configs);
  p.num_configs = static_cast<std::int32_t>(choice.configs.size());
  for (std::int32_t c = 0; c < p.num_configs; ++c) {
    p.configs[c] = choice.configs[static_cast<std::size_t>(c)];
  }
  p.num_formats = static_cast<std::int32_t>(problem.spec.formats.size());
  for (std::int32_t f = 0; f < p.num_formats; ++f) {
    const KvFormat& format = problem.spec.formats[static_cast<std::size_t>(f)];
    p.kv[f].page_size = format.page_size;
    p.kv[f].by_index = format.by_index;
    p.kv[f].table = batch.tables[f];
  }
  p.num_workers = choice.num_workers;
  p.num_qo_heads = problem.spec.num_qo_heads;
  p.num_kv_heads = problem.spec.num_kv_heads;
  p.group_size = problem.group_size;
  p.head_dim_qk = problem.spec.head_dim_qk;
  p.head_dim_vo = problem.spec.head_dim_vo;
  p.range = p.plan_range = masks[static_cast<std::size_t>(mask_group)].range;
  p.tile_map = masks[static_cast<std::size_t>(mask_group)].tile_map;
  p.partial.o = static_cast<float*>(partial_memory.get());
  p.partial.lse2 = p.partial.o + capacity.partial_rows * problem.spec.head_dim_vo;
  p.partial.rows_per_slot = capacity.rows_per_slot;
  p.partial.level_rows = capacity.max_composed_rows;
  p.partial.level_begin = std::int64_t{capacity.max_slots} * capacity.rows_per_slot;
  return p;
}

PlanArrays Plan::Impl::device_arrays_of(std::int32_t mask_group) const {
  return plan_arrays(device_arrays, mask_group, attention->capacity.num_configs);
}

Plan::Impl& plan_of(const Plan& plan, const Attention::Impl& attention, std::string_view where) {
  FOVEA_CHECK(plan.impl() != nullptr, "{}: the plan is empty; make it with Attention::new_plan()", where);
  FOVEA_CHECK(plan.impl()->attention.get() == &attention,
              "{}: the plan belongs to another Attention ({}); a plan is used with the Attention that made it", where,
              plan.impl()->attention->problem.spec.to_string());
  return *plan.impl();
}

void check_planned(const Plan::Impl& plan, std::int32_t mask_group, std::string_view where) {
  FOVEA_CHECK(plan.generation > 0, "{}: the plan has not been planned; call Attention::plan() first", where);
  FOVEA_CHECK(mask_group >= 0 && mask_group < plan.num_masks, "{}: mask_group = {}; the plan has {} mask group{}, counted from 0", where,
              mask_group, plan.num_masks, plan.num_masks == 1 ? "" : "s");
}

void check_not_capturing(const Backend& backend, Stream stream) {
  FOVEA_CHECK(!backend.is_capturing(stream),
              "plan: the stream is being captured into a graph, which would repeat this plan whatever the lengths are by then; call plan() "
              "before each replay instead, outside the graph (docs/cuda-graphs.md)");
}

void check_serves_capture(const Plan::Impl& plan, const BatchView& view) {
  FOVEA_CHECK(!plan.captured_alone || !shares_rows(view),
              "plan: row_indptr is given, but a run of this plan was captured when its batch had none; such a run has no kernel for rows "
              "that requests share: plan a batch with row_indptr before the capture, or take another Plan");
}

void check_memory_of_run(const Backend& backend, const PlannedBatch& batch, const RunArgs& args) {
  const auto check = [&](const TensorView& tensor, std::string_view name, int format) {
    if (!tensor.defined() || tensor.numel() == 0) {
      return;
    }
    const std::string found = backend.foreign_memory(tensor.data);
    FOVEA_CHECK(found.empty(), "run: {}{} is said to be on {}, but its data is {}; a device reads its own memory",
                format < 0 ? "" : fmt::format("kv[{}].", format), name, tensor.device.to_string(), found);
  };
  check(args.q, "q", -1);
  check(args.o, "o", -1);
  check(args.lse, "lse", -1);
  for (std::size_t f = 0; f < args.kv.size(); ++f) {
    check(args.kv[f].k, "k", static_cast<int>(f));
    check(args.kv[f].v, "v", static_cast<int>(f));
    check(args.kv[f].k_scale.tensor, "k_scale", static_cast<int>(f));
    check(args.kv[f].v_scale.tensor, "v_scale", static_cast<int>(f));
    check(batch.page_ids[f], "page_ids", static_cast<int>(f));
  }
}

void check_masks_for_device(const PlanArgs& args) {
  for (std::size_t m = 0; m < args.masks.size(); ++m) {
    FOVEA_CHECK(!args.masks[m].tiles.given(),
                "plan: mask group {} has classes of tiles, which are laid out by lengths that the host doesn't know here; leave them out",
                m);
  }
}

void check_pages_of_run(const Attention::Impl& attention, const RunArgs& args, const KernelParams& params) {
  std::int64_t num_pages[kMaxFormats] = {};
  for (std::size_t f = 0; f < args.kv.size(); ++f) {
    num_pages[f] = args.kv[f].k.dim(0);
  }
  check_page_ids("run", *attention.backend, params, num_pages);
}

FieldsTarget fields_target(const Attention::Impl& attention, std::string_view where, std::string_view what, std::int32_t num_requests) {
  return {.where = where,
          .what = what,
          .variant = *attention.variant,
          .device = attention.backend->device(),
          .num_qo_heads = attention.problem.spec.num_qo_heads,
          .num_kv_heads = attention.problem.spec.num_kv_heads,
          .num_requests = num_requests,
          .head_dim_qk = attention.problem.spec.head_dim_qk};
}

KvRange fill_mask(const FieldsTarget& target, Values values, VariantStorage& mask) {
  target.variant.fill_default_mask(mask.bytes);
  fill_fields(target, values, mask.bytes);
  KvRange range = target.variant.range_of_values(mask.bytes);
  FOVEA_CHECK(range.left >= 0 && range.right >= 0 && range.num_sink >= 0 && range.chunk >= 0,
              "{}: the mask of variant '{}' reaches {} tokens to the left, {} to the right, with {} sink tokens and chunks of {}; none may "
              "be negative",
              target.where, target.variant.name, range.left, range.right, range.num_sink, range.chunk);
  range.left = min_(range.left, kUnbounded);
  range.right = min_(range.right, kUnbounded);
  range.chunk = min_(range.chunk, kUnbounded);
  return range;
}

std::int32_t stage_masks(const Attention::Impl& attention, const PlanArgs& args, const BatchView& view, std::vector<PlannedMask>& staged) {
  const std::size_t num_masks = args.masks.empty() ? 1 : args.masks.size();
  FOVEA_CHECK(num_masks <= staged.size(), "plan: {} mask groups are over Limits::max_mask_groups = {}", num_masks, staged.size());
  for (std::size_t m = 0; m < num_masks; ++m) {
    const MaskValues given = args.masks.empty() ? MaskValues{} : args.masks[m];
    PlannedMask& mask = staged[m];
    mask.any = given.any;
    mask.tile_map = {};
    if (given.any) {
      FOVEA_CHECK(given.values.empty(), "plan: mask group {} is `any` and has {} values; a mask planned as `any` comes with every run", m,
                  given.values.size());
      FOVEA_CHECK(!given.tiles.given(), "plan: mask group {} is `any` and has tiles; what is known of a mask's tiles comes with the mask",
                  m);
      mask.range = KvRange{};
      continue;
    }
    mask.range = fill_mask(fields_target(attention, "plan", "mask", view.num_requests), given.values, mask.mask);
    mask.tile_map =
        check_tiles("plan", given.tiles, {.view = &view, .num_requests = view.num_requests}, attention.problem.spec.num_qo_heads);
  }
  return static_cast<std::int32_t>(num_masks);
}

namespace {

/// Bytes of a field that say which mask it is; a table's padding is not among them.
std::size_t bytes_to_compare(FieldType type) {
  switch (type) {
    case FieldType::f32:
    case FieldType::i32:
      return sizeof(std::int32_t);
    case FieldType::table_f32:
    case FieldType::table_i32:
      return sizeof(void*) + sizeof(std::int32_t);
    case FieldType::table_2d_f32:
    case FieldType::table_2d_i32:
      return sizeof(Table2D<float>);
    case FieldType::bit_mask:
      return sizeof(BitMask);
  }
  return 0;
}

void check_same_mask(const VariantInfo& variant, const VariantStorage& planned, const VariantStorage& given) {
  for (std::int32_t i = 0; i < variant.mask_fields.count; ++i) {
    const Field& field = variant.mask_fields.fields[i];
    const std::byte* a = planned.bytes + field.offset;
    const std::byte* b = given.bytes + field.offset;
    if (field.type == FieldType::i32) {
      std::int32_t planned_number = 0;
      std::int32_t given_number = 0;
      std::memcpy(&planned_number, a, sizeof planned_number);
      std::memcpy(&given_number, b, sizeof given_number);
      FOVEA_CHECK(
          planned_number == given_number,
          "run: mask {} = {} but the plan was made with {}; a mask belongs to the plan: plan again, or plan this mask group as `any`",
          field.name, given_number, planned_number);
    }
    FOVEA_CHECK(
        std::memcmp(a, b, bytes_to_compare(field.type)) == 0,
        "run: mask {} is not the one the plan was made with; a mask belongs to the plan: plan again, or plan this mask group as `any`",
        field.name);
  }
}

}  // namespace

void resolve_mask(const Attention::Impl& attention, const Plan::Impl& plan, const RunArgs& args, VariantStorage& mask,
                  KernelParams& params) {
  const PlannedMask& planned = plan.masks[static_cast<std::size_t>(args.mask_group)];
  if (!args.mask.has_value()) {
    FOVEA_CHECK(!planned.any, "run: mask group {} was planned as `any` and this run brings no mask; set RunArgs::mask", args.mask_group);
    mask = planned.mask;
    return;
  }
  FOVEA_CHECK(!args.mask->any, "run: RunArgs::mask is `any`; a run has one mask: give its values");
  params.range = fill_mask(fields_target(attention, "run", "mask", plan.num_requests), args.mask->values, mask);
  const TileClasses& tiles = args.mask->tiles;
  if (planned.any) {
    params.tile_map = check_tiles("run", tiles, {.requests = plan.arrays.requests, .num_requests = plan.num_requests},
                                  attention.problem.spec.num_qo_heads);
    return;
  }
  check_same_mask(*attention.variant, planned.mask, mask);
  FOVEA_CHECK(!tiles.given() || tiles.classes.data == planned.tile_map.classes,
              "run: the mask's tiles are not those the plan was made with; a mask belongs to the plan: plan again, or plan this mask group "
              "as `any`");
}

bool Plan::planned() const { return impl_ != nullptr && impl_->generation > 0; }
std::uint64_t Plan::generation() const { return impl_ == nullptr ? 0 : impl_->generation; }
std::int64_t Plan::workspace_bytes() const { return impl_ == nullptr ? 0 : workspace_bytes_of(impl_->attention->capacity); }

PlanView Plan::view(std::int32_t mask_group) const {
  FOVEA_CHECK(impl_ != nullptr, "view: the plan is empty; make it with Attention::new_plan()");
  check_planned(*impl_, mask_group, "view");
  impl_->bring_to_host();
  return describe_plan(impl_->kernel_params(mask_group), impl_->attention->capacity, *impl_->arrays.num_requests,
                       *impl_->arrays.mask_groups[static_cast<std::size_t>(mask_group)].num_slots);
}

}  // namespace fovea
