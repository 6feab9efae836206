#include "serving/replay.h"

#include <fmt/format.h>
#include <tbb/blocked_range.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/parallel_reduce.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <set>

#include "fovea/engine.h"
#include "fovea/error.h"
#include "serving/digest.h"
#include "serving/gpu_step.h"
#include "serving/layer_spec.h"
#include "serving/layer_tensors.h"
#include "serving/step_tables.h"
#include "serving/values.h"

namespace fovea::serving {
namespace {

template <class Function>
double microseconds_of(Function&& function) {
  const auto begin = std::chrono::steady_clock::now();
  function();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

ReplayOptions completed(ReplayOptions options) {
  if (options.num_layers == 0) {
    options.num_layers = static_cast<std::int32_t>(options.model.windows.size());
  }
  options.scheduling.cost_factor = options.shrink;
  return options;
}

LayerSpec layers_of(const ReplayOptions& options) {
  return {.model = options.model, .kv_dtype = options.kv_dtype, .shrink = options.shrink, .seed = options.seed};
}

SchedulerTotals rehearse_checked(std::span<const ServedRequest> requests, const SchedulerOptions& options) {
  const SchedulerTotals totals = rehearse(requests, options);
  if (totals.steps == 0) {
    throw InvalidArgument(fmt::format("replay: none of the {} requests fits into a cache of {} tokens; give it more, or shrink more",
                                      requests.size(), std::int64_t{options.num_pages} * options.page_size));
  }
  return totals;
}

Attention prepare(const Engine& engine, const LayerSpec& layers, const ReplayOptions& options, const SchedulerTotals& totals) {
  const Limits limits{.max_requests = static_cast<std::int32_t>(totals.max_step_requests),
                      .max_query_tokens = static_cast<std::int32_t>(totals.max_step_tokens),
                      .max_kv_tokens_per_request = static_cast<std::int32_t>(totals.max_kv_tokens),
                      .max_mask_groups = static_cast<std::int32_t>(layers.windows().size())};
  return engine.prepare(layers.spec(options.model.num_qo_heads, options.model.num_kv_heads, options.scheduling.page_size), limits);
}

StepTables::Capacity capacity_of(const ReplayOptions& options, const SchedulerTotals& totals) {
  return {.tokens = totals.max_step_tokens,
          .requests = totals.max_step_requests,
          .entries = totals.max_step_requests * (totals.max_kv_tokens / options.scheduling.page_size + 1)};
}

/// What takes a GPU's stream.
void check_device(const ReplayOptions& options, const Engine& engine) {
  if ((options.graphs || options.device_plan) && engine.device().type != DeviceType::cuda) {
    throw InvalidArgument(fmt::format("replay: {} needs a GPU, but the engine's device is the {}; give --device cuda",
                                      options.graphs ? "--graphs on" : "--plan device", engine.device().to_string()));
  }
}

}  // namespace

struct Replay::Impl {
  Impl(const Trace& trace, const ReplayOptions& given);

  void compute(const OnOutputs& on_outputs);
  void make_inputs(std::int32_t layer);
  void plan_step(StepRecord& record);
  void call_layers(StepRecord& record, const OnOutputs& on_outputs, bool checked);
  void launch_graph(StepRecord& record, const OnOutputs& on_outputs, bool checked);
  void call_layer(std::int32_t layer, StepRecord& record);
  void check_status() const;
  void take_outputs(std::int32_t layer, const OnOutputs& on_outputs, bool checked);
  void check_beside(std::int32_t layer);
  void wait_for_checks();
  void add_outcome(const Step& checked, const CheckOutcome& outcome);
  Stream stream() const { return gpu ? gpu->stream() : Stream{}; }
  bool is_checked(std::int64_t step_index) const;
  bool is_checked_layer(std::int32_t layer) const;
  void count_work(StepRecord& record) const;
  std::int64_t num_tokens() const { return step.prefill_tokens + step.decode_tokens; }
  /// Rows of q and o that a run is given, and tokens that an append is: the same in every replay of a graph, and where the host doesn't
  /// know the step's.
  std::int64_t num_run_rows() const { return options.graphs || options.device_plan ? rehearsed.max_step_tokens : num_tokens(); }
  std::int64_t num_append_rows() const { return options.graphs ? rehearsed.max_step_tokens : num_tokens(); }
  std::span<std::uint16_t> outputs(std::int32_t layer) const {
    return {tensors->o(layer).host_as<std::uint16_t>(),
            static_cast<std::size_t>(num_tokens() * options.model.num_qo_heads * options.model.head_dim_vo)};
  }

  ReplayOptions options;
  LayerSpec layers;
  std::vector<ServedRequest> requests;
  SchedulerTotals rehearsed;
  Scheduler scheduler;
  Engine engine;
  std::unique_ptr<GpuStep> gpu;  // null where the engine's device is the host
  tbb::task_arena arena;
  std::optional<Attention> attention;
  std::optional<Plan> plan;
  std::optional<ReferenceCheck> reference;
  StepTables tables;
  std::optional<LayerTensors> tensors;

  Step step;
  std::vector<std::uint64_t> token_hashes;  // of the step
  Latencies latencies;
  std::set<std::int64_t> wrong_steps;
  ReplayResult result;
  std::mutex outcome_mutex;  // of results of checks
  std::int64_t num_checks_begun = 0;
  tbb::task_group checks;  // the last member: what it runs uses the others
};

Replay::Impl::Impl(const Trace& trace, const ReplayOptions& given)
    : options(completed(given)),
      layers(layers_of(options)),
      requests(serve(trace, options.shrink)),
      rehearsed(rehearse_checked(requests, options.scheduling)),
      scheduler(requests, options.scheduling),
      engine(options.engine),
      gpu(GpuStep::make(engine, rehearsed.max_step_tokens, options.num_layers)),
      arena(options.engine.num_threads > 0 ? std::min(options.engine.num_threads, tbb::info::default_concurrency())
                                           : tbb::task_arena::automatic),
      tables(engine, capacity_of(options, rehearsed)),
      latencies(requests) {
  check_device(options, engine);
  result.prepare_us = microseconds_of([&] {
    attention.emplace(prepare(engine, layers, options, rehearsed));
    plan.emplace(attention->new_plan());
  });
  result.compiled = engine.compiled();
  if (options.check_steps > 0) {
    reference.emplace(layers, requests, rehearsed);
  }
  tensors.emplace(engine, options, layers, rehearsed.max_step_tokens, options.graphs);
}

/// Of N steps, check_steps in even distances, the last among them.
bool Replay::Impl::is_checked(std::int64_t step_index) const {
  const std::int64_t wanted = std::min(options.check_steps, rehearsed.steps);
  return (step_index + 1) * wanted / rehearsed.steps > step_index * wanted / rehearsed.steps;
}

/// Of a checked step: one layer, in turn, so that every mask group has its share; and those after it where one has too few pairs.
bool Replay::Impl::is_checked_layer(std::int32_t layer) const {
  const std::int64_t pairs = num_tokens() * options.model.num_qo_heads;
  const std::int64_t wanted = (ReferenceCheck::kMinPairs + pairs - 1) / pairs;
  const std::int64_t first = result.checked_steps % options.num_layers;
  return (layer + options.num_layers - first) % options.num_layers < wanted;
}

void Replay::Impl::make_inputs(std::int32_t layer) {
  const Model& model = options.model;
  if (gpu) {
    gpu->make(Values(options.seed, Tensor::q, layer), model.num_qo_heads, model.head_dim_qk, tensors->q(layer).device());
    gpu->make(Values(options.seed, Tensor::k, layer), model.num_kv_heads, model.head_dim_qk, tensors->k(layer).device());
    gpu->make(Values(options.seed, Tensor::v, layer), model.num_kv_heads, model.head_dim_vo, tensors->v(layer).device());
    return;
  }
  const auto fill = [&](Tensor tensor, const SharedBuffer& buffer, std::int32_t heads, std::int32_t dim, std::size_t token) {
    const Values values(options.seed, tensor, layer);
    std::uint16_t* row = buffer.host_as<std::uint16_t>() + static_cast<std::int64_t>(token) * heads * dim;
    for (std::int32_t head = 0; head < heads; ++head) {
      values.fill(token_hashes[token], head, {row + head * dim, static_cast<std::size_t>(dim)});
    }
  };
  arena.execute([&] {
    tbb::parallel_for(std::size_t{0}, token_hashes.size(), [&](std::size_t token) {
      fill(Tensor::q, tensors->q(layer), model.num_qo_heads, model.head_dim_qk, token);
      fill(Tensor::k, tensors->k(layer), model.num_kv_heads, model.head_dim_qk, token);
      fill(Tensor::v, tensors->v(layer), model.num_kv_heads, model.head_dim_vo, token);
    });
  });
}

/// append_kv() and run() of a layer.
void Replay::Impl::call_layer(std::int32_t layer, StepRecord& record) {
  const AppendArgs append = tensors->append(layer, num_append_rows(), tables.slot_mapping(num_append_rows()));
  const RunArgs run = tensors->run(layer, num_run_rows());
  if (gpu) {
    gpu->mark(layer, GpuStep::Mark::begin);
    record.launch_us += microseconds_of([&] { engine.append_kv(append, stream()); });
    gpu->mark(layer, GpuStep::Mark::appended);
    record.launch_us += microseconds_of([&] { attention->run(*plan, run, stream()); });
    gpu->mark(layer, GpuStep::Mark::end);
    return;
  }
  record.append_us += microseconds_of([&] { engine.append_kv(append); });
  record.run_us += microseconds_of([&] { attention->run(*plan, run); });
}

void Replay::Impl::take_outputs(std::int32_t layer, const OnOutputs& on_outputs, bool checked) {
  const std::span<std::uint16_t> all = outputs(layer);
  const void* const there = tensors->o(layer).device();
  const auto key = mix(static_cast<std::uint64_t>(step.index), static_cast<std::uint64_t>(layer));
  const std::size_t row = all.size() / token_hashes.size();
  if (gpu && (on_outputs || checked)) {
    gpu->copy_to_host(all.data(), there, static_cast<std::int64_t>(all.size_bytes()));
    gpu->synchronise();
  }
  if (on_outputs) {
    on_outputs(step, layer, all);
  }
  if (gpu && !on_outputs) {
    gpu->add_digest(there, static_cast<std::int64_t>(row * sizeof(std::uint16_t)), key);
    if (checked) {
      result.check_us += microseconds_of([&] { check_beside(layer); });
    }
    return;
  }
  result.digest_us += microseconds_of([&] {
    result.output_digest += arena.execute([&] {
      return tbb::parallel_reduce(
          tbb::blocked_range<std::size_t>(0, token_hashes.size(), 16), std::uint64_t{0},
          [&](const tbb::blocked_range<std::size_t>& rows, std::uint64_t sum) {
            for (std::size_t i = rows.begin(); i < rows.end(); ++i) {
              sum += row_digest(std::as_bytes(all.subspan(i * row, row)), mix(key, i));
            }
            return sum;
          },
          std::plus<>());
    });
  });
  if (checked) {
    result.check_us += microseconds_of([&] { add_outcome(step, arena.execute([&] { return reference->check(step, layer, all); })); });
  }
}

void Replay::Impl::add_outcome(const Step& checked, const CheckOutcome& outcome) {
  const std::lock_guard lock(outcome_mutex);
  result.checked_pairs += outcome.pairs;
  result.worst_error = std::max(result.worst_error, outcome.worst);
  if (outcome.wrong > 0 && (wrong_steps.empty() || checked.index < *wrong_steps.begin())) {
    result.first_mismatch = outcome.first;
  }
  if (outcome.wrong > 0) {
    wrong_steps.insert(checked.index);
  }
  result.mismatched_steps = static_cast<std::int64_t>(wrong_steps.size());
}

/// While the GPU goes on with the next steps. Of a copy of the outputs, and never many at a time: a check makes all keys and values anew.
void Replay::Impl::check_beside(std::int32_t layer) {
  constexpr int kMostAtATime = 4;
  if (num_checks_begun++ % kMostAtATime == 0) {
    wait_for_checks();
  }
  const std::span<const std::uint16_t> all = outputs(layer);
  auto copy = std::make_shared<const std::vector<std::uint16_t>>(all.begin(), all.end());
  arena.execute(
      [&] { checks.run([this, layer, copy, of_step = step] { add_outcome(of_step, reference->check(of_step, layer, *copy)); }); });
}

void Replay::Impl::wait_for_checks() {
  arena.execute([&] { checks.wait(); });
}

void Replay::Impl::count_work(StepRecord& record) const {
  const Model& model = options.model;
  for (std::int32_t layer = 0; layer < options.num_layers; ++layer) {
    const std::int32_t window = layers.window_of(layer);
    double pairs = 0, tokens = 0;
    for (const ScheduledWork& work : step.work) {
      pairs += visible_pairs(work.first, work.count, window);
      tokens += static_cast<double>(visible_tokens(work.first, work.count, window));
    }
    record.flops += 2.0 * pairs * model.num_qo_heads * (model.head_dim_qk + model.head_dim_vo);
    record.kv_bytes += tokens * static_cast<double>(
                                    bytes_of(options.kv_dtype, std::int64_t{model.num_kv_heads} * (model.head_dim_qk + model.head_dim_vo)));
  }
}

/// Unless the step's graph does it.
void Replay::Impl::plan_step(StepRecord& record) {
  if (!options.device_plan) {
    record.plan_us = microseconds_of([&] { attention->plan(*plan, tables.batch(), {.masks = tensors->masks()}, stream()); });
    record.host_us += record.plan_us;
  } else if (!options.graphs) {
    gpu->mark_step(GpuStep::StepMark::begin);
    record.launch_us += microseconds_of([&] { attention->plan(*plan, tables.device_batch(), {.masks = tensors->masks()}, stream()); });
    gpu->mark_step(GpuStep::StepMark::end);
    record.plan_us = gpu->step_us();
    record.gpu_us += record.plan_us;
  }
}

/// Layer after layer, each with inputs of its own in the same tensors.
void Replay::Impl::call_layers(StepRecord& record, const OnOutputs& on_outputs, bool checked) {
  for (std::int32_t layer = 0; layer < options.num_layers; ++layer) {
    result.inputs_us += microseconds_of([&] { make_inputs(layer); });
    call_layer(layer, record);
    take_outputs(layer, on_outputs, checked && is_checked_layer(layer));
  }
  for (std::int32_t layer = 0; gpu && layer < options.num_layers; ++layer) {
    record.append_us += gpu->append_us(layer);
    record.run_us += gpu->run_us(layer);
  }
  const double all_us = record.append_us + record.run_us;
  record.host_us += gpu ? record.launch_us : all_us;
  record.gpu_us += gpu ? all_us : 0;
}

/// All layers as one launch of a graph that the first step captures, with the plan in it where the device plans. Every layer has tensors of
/// its own: inputs are made before it, outputs taken after it.
void Replay::Impl::launch_graph(StepRecord& record, const OnOutputs& on_outputs, bool checked) {
  result.inputs_us += microseconds_of([&] {
    for (std::int32_t layer = 0; layer < options.num_layers; ++layer) {
      make_inputs(layer);
    }
  });
  if (!gpu->has_graph()) {
    gpu->capture([&] {
      if (options.device_plan) {
        attention->plan(*plan, tables.device_batch(), {.masks = tensors->masks()}, stream());
      }
      for (std::int32_t layer = 0; layer < options.num_layers; ++layer) {
        engine.append_kv(tensors->append(layer, num_append_rows(), tables.slot_mapping(num_append_rows())), stream());
        attention->run(*plan, tensors->run(layer, num_run_rows()), stream());
      }
    });
  }
  gpu->mark_step(GpuStep::StepMark::begin);
  record.launch_us = microseconds_of([&] { gpu->launch_graph(); });
  gpu->mark_step(GpuStep::StepMark::end);
  record.graph_us = gpu->step_us();
  record.host_us += record.launch_us;
  record.gpu_us += record.graph_us;
  for (std::int32_t layer = 0; layer < options.num_layers; ++layer) {
    take_outputs(layer, on_outputs, checked && is_checked_layer(layer));
  }
}

/// A planner on the device that refuses something tells it after the step.
void Replay::Impl::check_status() const {
  if (options.device_plan) {
    if (const std::vector<std::string> status = engine.status(); !status.empty()) {
      throw InternalError(fmt::format("replay: step {}: {}", step.index, status[0]));
    }
  }
}

void Replay::Impl::compute(const OnOutputs& on_outputs) {
  StepRecord record{.begin_us = step.begin_us,
                    .requests = static_cast<std::int32_t>(step.work.size()),
                    .waiting = step.num_waiting,
                    .prefill_tokens = step.prefill_tokens,
                    .decode_tokens = step.decode_tokens,
                    .hit_tokens = step.hit_tokens,
                    .preempted = step.num_preempted,
                    .pages_used = step.pages_used,
                    .pages_idle = step.pages_idle,
                    .kv_tokens = step.kv_tokens};
  result.inputs_us += microseconds_of([&] {
    tables.set(step, scheduler, options.scheduling.page_size);
    token_hashes.clear();
    for (const ScheduledWork& work : step.work) {
      for (std::int32_t token = 0; token < work.count; ++token) {
        token_hashes.push_back(requests[static_cast<std::size_t>(work.request)].token_hash(work.first + token));
      }
    }
  });
  if (gpu) {
    gpu->set_tokens(token_hashes);
  }
  const bool checked = is_checked(step.index);
  plan_step(record);
  if (options.graphs) {
    launch_graph(record, on_outputs, checked);
  } else {
    call_layers(record, on_outputs, checked);
  }
  check_status();
  result.checked_steps += checked ? 1 : 0;
  count_work(record);
  latencies.add(step, record.step_us());
  result.steps.push_back(record);
}

Replay::Replay(const Trace& trace, const ReplayOptions& options) : impl_(std::make_unique<Impl>(trace, options)) {}
Replay::~Replay() {
  try {
    impl_->wait_for_checks();
  } catch (const std::exception&) {  // NOLINT: nobody asks for its outcome any more
  }
}

bool Replay::step(const OnOutputs& on_outputs) {
  if (!impl_->scheduler.next(impl_->step)) {
    return false;
  }
  impl_->compute(on_outputs);
  impl_->scheduler.finish(impl_->step);
  return true;
}

ReplayResult Replay::result() const {
  impl_->result.check_us += microseconds_of([&] { impl_->wait_for_checks(); });
  ReplayResult result = impl_->result;
  result.output_digest += impl_->gpu ? impl_->gpu->digest() : 0;
  result.totals = impl_->scheduler.totals();
  const std::vector<CompileRecord> compiled = impl_->engine.compiled();
  result.compiles_after_prepare = static_cast<std::int64_t>(compiled.size() - result.compiled.size());
  result.first_token_samples = impl_->latencies.first_token_us();
  result.inter_token_samples = impl_->latencies.inter_token_us();
  result.first_token_us = percentiles(result.first_token_samples);
  result.inter_token_us = percentiles(result.inter_token_samples);
  return result;
}

const SchedulerTotals& Replay::rehearsed() const { return impl_->rehearsed; }
const SchedulerTotals& Replay::totals() const { return impl_->scheduler.totals(); }
std::int64_t Replay::num_layers() const { return impl_->options.num_layers; }
std::int64_t Replay::kv_cache_bytes() const { return layer_cache_bytes(impl_->options) * impl_->options.num_layers; }
std::int64_t Replay::workspace_bytes() const { return impl_->plan->workspace_bytes(); }
std::string Replay::describe_engine() const { return impl_->engine.describe(); }
std::string Replay::explain() const { return impl_->attention->explain(); }

}  // namespace fovea::serving
