#include "backends/cpu/backend.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "backends/builtin_variants.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/kernels/append_kv/append_kv.h"
#include "backends/cpu/kernels/attention_simd/select.h"
#include "backends/cpu/scratch.h"
#include "backends/cpu/threads.h"
#include "backends/user_variants.h"
#include "portable/work_iterator.h"
#include "src/support/check.h"

namespace fovea {
namespace cpu {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::int32_t kMaxWorkersPerTicket = 8;
constexpr std::int64_t kRowsPerTicket = 16;  // of merges over rows: enough to outweigh a ticket

class CpuModule : public Module {
 public:
  CpuModule(const IsaCode& isa, const VariantCode& variant, const Threads& threads, const Problem& problem, const Choice& choice)
      : isa_(isa), variant_(variant), threads_(threads), scratch_(problem, choice, variant, threads.num_slots()) {}

  bool run(const KernelParams& params, const RunPlan&, Stream) const override {
    run_items(params);
    run_merges(params);
    const std::int64_t composed = std::int64_t{*params.plan.num_composed} * params.num_qo_heads;
    threads_.for_each_ticket(ceil_div(composed, kRowsPerTicket), [&](std::int64_t ticket, int slot) {
      const std::int64_t begin = ticket * kRowsPerTicket;
      isa_.compose_levels(params, variant_, begin, std::min(begin + kRowsPerTicket, composed), scratch_[slot]);
    });
    return false;
  }

 private:
  /// Tickets: the items of lists, then bundles of workers of ranges. Lists go first: their items are the longer ones.
  void run_items(const KernelParams& params) const {
    for (int c = 0; c < params.num_configs; ++c) {
      if (params.configs[c].form == PlanForm::list) {
        const WorkItem* items = params.plan.schedules[c].items;
        threads_.for_each_ticket(*params.plan.schedules[c].num_items,
                                 [&](std::int64_t ticket, int slot) { isa_.attend(params, variant_, items + ticket, 1, scratch_[slot]); });
      }
    }
    // Neighbouring workers have the heads of the same requests. A thread that runs several workers computes those heads side by side; which
    // worker an item belongs to, and so every bit of the result, stays as planned.
    const std::int32_t per_ticket = std::clamp(params.num_workers / (8 * threads_.count()), 1, kMaxWorkersPerTicket);
    for (int c = 0; c < params.num_configs; ++c) {
      if (params.configs[c].form == PlanForm::ranges) {
        threads_.for_each_ticket(ceil_div(params.num_workers, per_ticket), [&](std::int64_t ticket, int slot) {
          const std::int32_t first = static_cast<std::int32_t>(ticket) * per_ticket;
          run_workers(params, c, first, std::min(first + per_ticket, params.num_workers), scratch_[slot]);
        });
      }
    }
  }

  /// Workers [begin, end) of a ranges plan, items of neighbouring heads together.
  void run_workers(const KernelParams& params, int config, std::int32_t begin, std::int32_t end, Scratch& scratch) const {
    WorkItem set[kMaxSetItems];
    std::int32_t count = 0;
    for (std::int32_t worker = begin; worker < end; ++worker) {
      RangeWork work(params, config, worker);
      for (WorkItem item; work.next(item);) {
        const std::int32_t rows = item.row_end - item.row_begin;
        const bool joins = count > 0 && count < kMaxSetItems && (count + 1) * rows <= kMaxSetRows && item.row_group == set[0].row_group &&
                           item.kv_head == set[count - 1].kv_head + 1;
        if (count > 0 && !joins) {
          isa_.attend(params, variant_, set, count, scratch);
          count = 0;
        }
        set[count++] = item;
      }
    }
    if (count > 0) {
      isa_.attend(params, variant_, set, count, scratch);
    }
  }

  void run_merges(const KernelParams& params) const {
    for (int c = 0; c < params.num_configs; ++c) {
      const ScheduleView& schedule = params.plan.schedules[c];
      threads_.for_each_ticket(*schedule.num_merges, [&](std::int64_t ticket, int slot) {
        isa_.merge_partials(params, variant_, schedule.merges[ticket], scratch_[slot]);
      });
    }
  }

  const IsaCode& isa_;
  const VariantCode& variant_;
  const Threads& threads_;
  ScratchPool scratch_;
};

/// What is compiled at run time joins the kernels of `isa`: same flags, same namespace.
UserVariantTarget user_variant_target(const IsaCode& isa) {
  return {.name = fmt::format("cpu {}", isa.name),
          .flags = variant_flags(isa.name),
          .include = "backends/cpu/device/logits.h",
          .folder = "backends/cpu/device/",
          .code_type = "fovea::cpu::VariantCode",
          .code = "fovea::cpu::FOVEA_CPU_ISA::kVariantCodeOf<Rule>",
          .exported_bytes = sizeof(ExportedVariant<VariantCode>)};
}

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const EngineOptions& options)
      : isa_(choose_isa(options.isa)), threads_(options.num_threads), user_variants_(user_variant_target(isa_)) {}

  std::string name() const override { return "cpu"; }
  Device device() const override { return {}; }
  std::string describe() const override {
    return fmt::format("cpu ({}, {}, {} thread{})", processor_name(), isa_.name, threads_.count(), threads_.count() == 1 ? "" : "s");
  }
  bool host_accessible() const override { return true; }
  const VariantInfo& variant(const Variant& variant) const override {
    return is_compiled_in(variant) ? builtin_variant(variant.name) : user_variants_.get(variant).info;
  }
  std::vector<CompileRecord> compiled() const override { return user_variants_.records(); }
  std::span<const VariantInfo> variants() const override { return builtin_variants(); }
  std::vector<Candidate> candidates(const Problem& problem) const override { return {attention_simd_candidate(problem)}; }

  std::unique_ptr<Module> load(const Problem& problem, const Choice& choice) const override {
    const Variant& variant = problem.spec.variant;
    const VariantCode& code =
        is_compiled_in(variant) ? variant_code(isa_, variant.name) : user_variants_.loaded(variant).code<VariantCode>();
    return std::make_unique<CpuModule>(isa_, code, threads_, problem, choice);
  }

  void for_each(std::int64_t count, const std::function<void(std::int64_t)>& f) const override {
    threads_.for_each_ticket(count, [&](std::int64_t ticket, int) { f(ticket); });
  }

  void* allocate(std::size_t bytes) const override {
    void* memory = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
    if (memory == nullptr && bytes > 0) {
      throw DeviceFailed(fmt::format("allocate: the host has no {} bytes left", bytes));
    }
    return memory;
  }
  void free(void* memory) const noexcept override { std::free(memory); }

  void merge_states(const MergeStatesParams& params, Stream) const override {
    StatesView::In in[kMaxStates];
    for (std::int32_t s = 0; s < params.num_states; ++s) {
      const MergeStatesParams::In& from = params.states[s];
      in[s] = {.o = from.o, .lse = from.lse, .lse_token_stride = from.lse_token_stride, .lse_head_stride = from.lse_head_stride};
    }
    const StatesView states{
        .in = in, .num_states = params.num_states, .out = params.out, .num_heads = params.num_heads, .head_dim = params.head_dim};
    const std::int64_t rows = std::int64_t{params.num_tokens} * params.num_heads;
    threads_.for_each_ticket(ceil_div(rows, kRowsPerTicket), [&](std::int64_t ticket, int) {
      alignas(kAlignment) float row[kMaxHeadDim + kRowPadding];
      const std::int64_t begin = ticket * kRowsPerTicket;
      isa_.merge_states(states, begin, std::min(begin + kRowsPerTicket, rows), row);
    });
  }

  void append_kv(const AppendParams& params, Stream) const override { cpu::append_kv(params, threads_); }

 private:
  const IsaCode& isa_;
  Threads threads_;
  UserVariants user_variants_;
};

}  // namespace
}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend(const EngineOptions& options) { return std::make_unique<cpu::CpuBackend>(options); }

}  // namespace fovea
