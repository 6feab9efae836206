#include "backends/reference/backend.h"

#include <cstdlib>

#include "backends/builtin_variants.h"
#include "backends/user_variants.h"
#include "src/support/check.h"

namespace fovea {
namespace {

constexpr std::size_t kAlignment = 64;

class ReferenceModule : public Module {
 public:
  explicit ReferenceModule(const reference::Hooks& variant) : variant_(variant) {}
  bool run(const KernelParams& params, const RunPlan&, Stream) const override {
    reference::attend(params, variant_);
    return false;
  }

 private:
  const reference::Hooks& variant_;
};

class ReferenceBackend : public Backend {
 public:
  std::string name() const override { return "reference"; }
  Device device() const override { return {}; }
  std::string describe() const override { return "reference (double precision, one thread)"; }
  bool host_accessible() const override { return true; }
  const VariantInfo& variant(const Variant& variant) const override {
    return is_compiled_in(variant) ? builtin_variant(variant.name) : user_variants_.get(variant).info;
  }
  std::vector<CompileRecord> compiled() const override { return user_variants_.records(); }
  std::span<const VariantInfo> variants() const override { return builtin_variants(); }

  /// One kernel for everything. Its configuration only satisfies the planner: run() reads the groups of a plan, never the schedule.
  std::vector<Candidate> candidates(const Problem& problem) const override {
    const KernelConfig config{.tile_q = 64, .tile_kv = 16, .form = PlanForm::list};
    const std::int32_t workers = problem.options.num_workers > 0 ? problem.options.num_workers : 1;
    const std::int32_t split = problem.options.fixed_split;
    return {{.kernel = "reference",
             .refusal = split % config.tile_kv == 0
                            ? ""
                            : fmt::format("fixed_split = {} is no multiple of {}, its kv tile", split, config.tile_kv),
             .cost = 0,
             .choice = {.kernel = "reference", .configs = {config}, .num_workers = workers, .reason = "the only kernel of this backend"}}};
  }

  std::unique_ptr<Module> load(const Problem& problem, const Choice&) const override {
    const Variant& variant = problem.spec.variant;
    return std::make_unique<ReferenceModule>(is_compiled_in(variant) ? reference::builtin_hooks(variant.name)
                                                                     : user_variants_.loaded(variant).code<reference::Hooks>());
  }

  void* allocate(std::size_t bytes) const override {
    void* memory = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
    if (memory == nullptr && bytes > 0) {
      throw DeviceFailed(fmt::format("allocate: the host has no {} bytes left", bytes));
    }
    return memory;
  }
  void free(void* memory) const noexcept override { std::free(memory); }

  void merge_states(const MergeStatesParams& params, Stream) const override { reference::merge_states(params); }
  void append_kv(const AppendParams& params, Stream) const override { reference::append_kv(params); }

 private:
  // Little optimisation: its loops are in the library, and compiling is most of what a small test of a variant costs.
  UserVariants user_variants_{{.name = "reference",
                               .flags = {"-O1", "-ffp-contract=off"},
                               .include = "backends/reference/device/hooks.h",
                               .folder = "backends/reference/device/",
                               .code_type = "fovea::reference::Hooks",
                               .code = "fovea::reference::kHooksOf<Rule>",
                               .exported_bytes = sizeof(ExportedVariant<reference::Hooks>)}};
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace fovea
