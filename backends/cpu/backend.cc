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
#include "portable/work_iterator.h"
#include "src/support/check.h"

namespace fovea {
namespace cpu {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::int64_t kRowsPerTicket = 16;  // of merges over rows: enough to outweigh a ticket

class CpuModule : public Module {
 public:
  CpuModule(const IsaCode& isa, const VariantCode& variant, const Threads& threads, const Problem& problem, const Choice& choice)
      : isa_(isa), variant_(variant), threads_(threads), scratch_(problem, choice, threads.count()) {}

  void run(const KernelParams& params, Stream) const override {
    run_items(params);
    run_merges(params);
    const std::int64_t composed = std::int64_t{*params.plan.num_composed} * params.num_qo_heads;
    threads_.for_each_ticket(ceil_div(composed, kRowsPerTicket), [&](std::int64_t ticket, int slot) {
      const std::int64_t begin = ticket * kRowsPerTicket;
      isa_.compose_levels(params, variant_, begin, std::min(begin + kRowsPerTicket, composed), scratch_[slot]);
    });
  }

 private:
  /// Tickets: the items of lists, then the workers of ranges. Lists go first: their items are the longer ones.
  void run_items(const KernelParams& params) const {
    std::int64_t list_end[kMaxKernelConfigs] = {}, range_end[kMaxKernelConfigs] = {};
    std::int64_t tickets = 0;
    for (int c = 0; c < params.num_configs; ++c) {
      tickets += params.configs[c].form == PlanForm::list ? *params.plan.schedules[c].num_items : 0;
      list_end[c] = tickets;
    }
    const std::int64_t num_items = tickets;
    for (int c = 0; c < params.num_configs; ++c) {
      tickets += params.configs[c].form == PlanForm::ranges ? params.num_workers : 0;
      range_end[c] = tickets;
    }
    threads_.for_each_ticket(tickets, [&](std::int64_t ticket, int slot) {
      const bool in_list = ticket < num_items;
      const std::int64_t* ends = in_list ? list_end : range_end;
      int c = 0;
      while (ticket >= ends[c]) {
        ++c;
      }
      const std::int64_t index = ticket - (c > 0 ? ends[c - 1] : (in_list ? 0 : num_items));
      if (in_list) {
        isa_.attend(params, variant_, params.plan.schedules[c].items[index], scratch_[slot]);
        return;
      }
      RangeWork work(params, c, static_cast<std::int32_t>(index));
      for (WorkItem item; work.next(item);) {
        isa_.attend(params, variant_, item, scratch_[slot]);
      }
    });
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

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const EngineOptions& options) : isa_(choose_isa(options.isa)), threads_(options.num_threads) {}

  std::string name() const override { return "cpu"; }
  Device device() const override { return {}; }
  std::string describe() const override {
    return fmt::format("cpu ({}, {}, {} thread{})", processor_name(), isa_.name, threads_.count(), threads_.count() == 1 ? "" : "s");
  }
  bool host_accessible() const override { return true; }
  const VariantInfo& variant(const Variant& variant) const override { return builtin_variant(variant.name); }
  std::vector<Candidate> candidates(const Problem& problem) const override { return {attention_simd_candidate(problem)}; }

  std::unique_ptr<Module> load(const Problem& problem, const Choice& choice) const override {
    return std::make_unique<CpuModule>(isa_, variant_code(isa_, problem.spec.variant.name), threads_, problem, choice);
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
    const std::size_t row_floats = static_cast<std::size_t>(params.head_dim) + kRowPadding;
    std::vector<float> scratch(row_floats * static_cast<std::size_t>(threads_.count()));
    threads_.for_each_ticket(ceil_div(rows, kRowsPerTicket), [&](std::int64_t ticket, int slot) {
      const std::int64_t begin = ticket * kRowsPerTicket;
      isa_.merge_states(states, begin, std::min(begin + kRowsPerTicket, rows),
                        scratch.data() + row_floats * static_cast<std::size_t>(slot));
    });
  }

  void append_kv(const AppendParams& params, Stream) const override { cpu::append_kv(params, threads_); }

 private:
  const IsaCode& isa_;
  Threads threads_;
};

}  // namespace
}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend(const EngineOptions& options) {
  FOVEA_CHECK(options.num_threads >= 0, "engine: num_threads = {} is negative; 0 means all the process may use", options.num_threads);
  return std::make_unique<cpu::CpuBackend>(options);
}

}  // namespace fovea
