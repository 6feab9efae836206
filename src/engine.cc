// The spine: prepare, plan and run, each from top to bottom in one screen. Checks are in src/problem/, choice in src/select/, scheduling in
// src/schedule/; devices are behind src/backend.h.
#include "fovea/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "fovea/device_buffer.h"
#include "src/attention.h"
#include "src/describe.h"
#include "src/page_check.h"
#include "src/problem/problem.h"
#include "src/support/check.h"
#include "src/support/env.h"
#include "src/tile_count.h"

namespace fovea {

struct Engine::Impl {
  explicit Impl(const EngineOptions& options) : backend(make_backend(options)) {}
  std::unique_ptr<Backend> backend;
  std::mutex mutex;
  std::vector<std::weak_ptr<Plan::Impl>> device_plans;  // those that a device can write
};

Engine::Engine(const EngineOptions& options) : impl_(std::make_shared<Impl>(options)) {}

Attention Engine::prepare(const AttentionSpec& spec, const Limits& limits, const PrepareOptions& options) const {
  auto attention = std::make_shared<Attention::Impl>();
  attention->engine = impl_;
  attention->backend = impl_->backend.get();
  attention->problem = check_problem(spec, limits, options);
  attention->variant = &impl_->backend->variant(attention->problem.spec.variant);
  check_variant_storage(*attention->variant);
  attention->selection = select_kernel(attention->problem, *impl_->backend);
  attention->capacity = plan_capacity(attention->problem, attention->selection.choice);
  for (const bool shares_rows : {false, true}) {
    attention->most_work[shares_rows] = most_work(attention->problem, attention->selection.choice, attention->capacity, shares_rows);
  }
  attention->module = impl_->backend->load(attention->problem, attention->selection.choice);
  return Attention(std::move(attention));
}

Plan Attention::new_plan() const {
  std::shared_ptr<Plan::Impl> plan = make_plan(impl_);
  if (plan->planner.has_value()) {
    const std::lock_guard lock(impl_->engine->mutex);
    std::erase_if(impl_->engine->device_plans, [](const auto& other) { return other.expired(); });
    impl_->engine->device_plans.push_back(plan);
  }
  return Plan(std::move(plan));
}

std::int64_t Attention::workspace_bytes() const { return workspace_bytes_of(impl_->capacity); }

void Attention::plan(Plan& plan, const Batch& batch, const PlanArgs& args, Stream stream) const {
  Plan::Impl& p = plan_of(plan, *impl_, "plan");
  if (p.planner.has_value() && is_on_device(batch, impl_->backend->device())) {
    const BatchView view = check_device_batch(impl_->problem, batch, impl_->backend->device());
    check_serves_capture(p, view);
    check_masks_for_device(args);
    const std::int32_t num_masks = stage_masks(*impl_, args, view, p.staged_masks);
    p.begin_generation();
    std::copy_n(p.staged_masks.begin(), num_masks, p.masks.begin());
    p.plan_on_device(view, batch, num_masks, stream);
    return;
  }
  check_not_capturing(*impl_->backend, stream);
  // Everything that can be refused comes before the first write to the plan.
  const BatchView view = check_batch(impl_->problem, batch, impl_->backend->device(), p.arrays.seen_rows);
  check_serves_capture(p, view);
  const std::int32_t num_masks = stage_masks(*impl_, args, view, p.staged_masks);

  p.begin_generation();
  make_groups(impl_->problem, view, p.arrays);
  for (std::int32_t m = 0; m < num_masks; ++m) {
    p.masks[m] = p.staged_masks[m];
    p.masks[m].work = schedule(impl_->problem, impl_->selection.choice, impl_->capacity, view, p.masks[m].range, m, p.arrays);
  }
  p.end_generation(view, batch, num_masks, stream);
}

void Attention::run(const Plan& plan, const RunArgs& args, Stream stream) const {
  Plan::Impl& p = plan_of(plan, *impl_, "run");
  check_planned(p, args.mask_group, "run");
  VariantStorage mask;
  VariantStorage variant_params;
  KernelParams params = p.kernel_params(args.mask_group);
  resolve_mask(*impl_, p, args, mask, params);
  params.mask = mask.bytes;
  impl_->variant->fill_default_params(variant_params.bytes);
  fill_fields(fields_target(*impl_, "run", "params", p.num_requests), args.params, variant_params.bytes);
  params.variant_params = variant_params.bytes;
  check_run(impl_->problem, *impl_->variant, p.batch, args, impl_->backend->device(), params);
  if (check_runs_enabled()) {
    check_memory_of_run(*impl_->backend, p.batch, args);
  }
  if (check_runs_enabled() && !(p.planned_by_device && impl_->backend->is_capturing(stream))) {
    p.bring_to_host();
    check_pages_of_run(*impl_, args, params);
  }
  params.plan = p.device_arrays_of(args.mask_group);
  const PlannedMask& planned = p.masks[static_cast<std::size_t>(args.mask_group)];
  const bool captured = impl_->module->run(
      params, {.work = planned.work, .most = impl_->most_work[p.batch.shares_rows], .device_plan = p.device_plan.get()}, stream);
  p.captured_alone = p.captured_alone || (captured && !p.batch.shares_rows);
}

void Attention::attend(Plan& p, const Batch& batch, const RunArgs& args, const PlanArgs& plan_args, Stream stream) const {
  plan(p, batch, plan_args, stream);
  run(p, args, stream);
}

std::vector<std::string> Engine::status() const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<std::string> found;
  for (const std::weak_ptr<Plan::Impl>& watched : impl_->device_plans) {
    const std::shared_ptr<Plan::Impl> plan = watched.lock();
    if (plan == nullptr || plan->planner->status().error == 0) {
      continue;
    }
    volatile PlanStatus& from = plan->planner->status();
    std::atomic_thread_fence(std::memory_order_acquire);
    found.push_back(fovea::describe(PlanStatus{from.error, from.format, from.index, from.value, from.bound}));
    from.error = 0;
  }
  return found;
}

void Engine::merge_states(std::span<const State> states, const State& out, Stream stream) const {
  impl_->backend->merge_states(check_merge_states(states, out, impl_->backend->device()), stream);
}

void Engine::append_kv(const AppendArgs& args, Stream stream) const {
  impl_->backend->append_kv(check_append(args, impl_->backend->device()), stream);
}

void Attention::check_pages(const Plan& plan, std::span<const std::int64_t> num_pages, std::int32_t mask_group) const {
  const Plan::Impl& p = plan_of(plan, *impl_, "check_pages");
  check_planned(p, mask_group, "check_pages");
  FOVEA_CHECK(num_pages.size() == impl_->problem.spec.formats.size(), "check_pages: num_pages has {} entries; the spec has {} formats",
              num_pages.size(), impl_->problem.spec.formats.size());
  p.bring_to_host();
  check_page_ids("check_pages", *impl_->backend, p.kernel_params(mask_group), num_pages.data());
}

std::vector<CompileRecord> Engine::compiled() const { return impl_->backend->compiled(); }

ClassifiedTiles Attention::classify_tiles(const Batch& batch, const MaskValues& mask, const ClassifyOptions& options) const {
  if (!impl_->backend->host_accessible()) {
    throw Unsupported(
        fmt::format("classify_tiles: the host can't read a mask's tables on {}; use the cpu backend", impl_->backend->name()));
  }
  check_classify_options(options);
  FOVEA_CHECK(!mask.any, "classify_tiles: the mask is `any`; give the values of the mask to classify");
  std::vector<std::uint64_t> seen_rows(static_cast<std::size_t>(ceil_div<std::int64_t>(impl_->problem.limits.max_query_tokens, 64)));
  const BatchView view = check_batch(impl_->problem, batch, impl_->backend->device(), seen_rows.data());
  VariantStorage storage;
  const KvRange range = fill_mask(fields_target(*impl_, "classify_tiles", "mask", view.num_requests), mask.values, storage);
  return fovea::classify_tiles(
      {.variant = *impl_->variant, .mask = storage.bytes, .range = range, .view = view, .problem = impl_->problem, .options = options},
      *impl_->backend);
}

TileCounts Attention::count_tiles(const Plan& plan, std::int32_t mask_group) const {
  const Plan::Impl& p = plan_of(plan, *impl_, "count_tiles");
  check_planned(p, mask_group, "count_tiles");
  const FieldList& fields = impl_->variant->mask_fields;
  const bool has_tables = std::any_of(fields.fields, fields.fields + fields.count,
                                      [](const Field& f) { return f.type != FieldType::i32 && f.type != FieldType::f32; });
  if (!impl_->backend->host_accessible() && has_tables) {
    throw Unsupported(fmt::format("count_tiles: the mask of variant '{}' has tables, which the host can't read on {}; use the cpu backend",
                                  impl_->variant->name, impl_->backend->name()));
  }
  FOVEA_CHECK(!p.masks[static_cast<std::size_t>(mask_group)].any,
              "count_tiles: mask group {} was planned as `any`; its mask comes with a run", mask_group);
  KernelParams params = p.kernel_params(mask_group);
  params.mask = p.masks[static_cast<std::size_t>(mask_group)].mask.bytes;
  return fovea::count_tiles(params, *impl_->variant);
}

std::vector<VariantDescription> Engine::variants() const {
  std::vector<VariantDescription> all;
  for (const VariantInfo& variant : impl_->backend->variants()) {
    all.push_back(fovea::describe(variant));
  }
  return all;
}

std::string Engine::describe() const { return impl_->backend->describe(); }
Device Engine::device() const { return impl_->backend->device(); }
void Engine::synchronise(Stream stream) const { impl_->backend->synchronise(stream); }

DeviceBuffer::DeviceBuffer(const Engine& engine, std::size_t bytes)
    : engine_(engine.impl()), memory_(engine.impl()->backend->allocate(bytes)), bytes_(bytes) {}
DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : engine_(std::move(other.engine_)), memory_(std::exchange(other.memory_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
DeviceBuffer::~DeviceBuffer() {
  if (memory_ != nullptr) {
    engine_->backend->free(memory_);
  }
}

void DeviceBuffer::write(const void* from, std::size_t bytes, std::size_t offset) const {
  FOVEA_CHECK(offset <= bytes_ && bytes <= bytes_ - offset, "DeviceBuffer::write: {} bytes at offset {} into a buffer of {}", bytes, offset,
              bytes_);
  engine_->backend->copy_to_device(static_cast<std::byte*>(memory_) + offset, from, bytes);
}

void DeviceBuffer::read(void* to, std::size_t bytes, std::size_t offset) const {
  FOVEA_CHECK(offset <= bytes_ && bytes <= bytes_ - offset, "DeviceBuffer::read: {} bytes at offset {} from a buffer of {}", bytes, offset,
              bytes_);
  engine_->backend->copy_to_host(to, static_cast<const std::byte*>(memory_) + offset, bytes);
}

void DeviceBuffer::fill(unsigned char byte) const { engine_->backend->fill(memory_, byte, bytes_); }

const AttentionSpec& Attention::spec() const { return impl_->problem.spec; }
const Limits& Attention::limits() const { return impl_->problem.limits; }

std::string Attention::explain() const {
  const PlanCapacity& c = impl_->capacity;
  std::string text = fmt::format("problem\n  {}\n  {}\n", impl_->problem.spec.to_string(), impl_->problem.limits.to_string());
  text += fmt::format("kernels on {}\n{}", impl_->backend->describe(), fovea::describe(impl_->selection));
  for (const CompileRecord& record : impl_->backend->compiled()) {
    if (record.variant == impl_->problem.spec.variant.name) {
      text += fmt::format("variant {}\n  {}\n", record.variant, fovea::describe(record));
    }
  }
  text += fmt::format("plan\n  {} workers; room for {} requests, {} row groups, {} mask group{}\n", c.num_workers, c.max_requests,
                      c.max_row_groups, c.max_mask_groups, c.max_mask_groups == 1 ? "" : "s");
  text +=
      c.split_tokens > 0 ? fmt::format("  {}: KV is cut every {} columns\n", name_of(impl_->problem.options.policy), c.split_tokens) : "";
  text += fmt::format("  partial states: {} slots of {} rows x ({} + 1) floats{}, {:.1f} MiB; plan arrays {:.1f} MiB\n", c.max_slots,
                      c.rows_per_slot, impl_->problem.spec.head_dim_vo,
                      impl_->problem.composed()
                          ? fmt::format(" + {} rows of level states", c.partial_rows - std::int64_t{c.max_slots} * c.rows_per_slot)
                          : std::string(),
                      static_cast<double>(c.partial_bytes) / (1 << 20), static_cast<double>(c.plan_bytes) / (1 << 20));
  return text;
}

}  // namespace fovea
