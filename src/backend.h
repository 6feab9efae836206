// What a backend provides: the only door from the core to a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fovea/engine.h"
#include "portable/batch_view.h"
#include "portable/config.h"
#include "portable/params.h"
#include "portable/planner_params.h"
#include "portable/variant_shape.h"

namespace fovea {

/// A problem as selection sees it: checked spec and limits with every default resolved.
struct Problem {
  AttentionSpec spec;
  Limits limits;
  PrepareOptions options;
  std::int32_t group_size = 1;
  bool composed() const { return spec.formats.size() > 1; }
};

/// The functions of a VariantShape for a variant whose code runs on a device alone.
class VariantOnDevice {
 public:
  virtual ~VariantOnDevice() = default;
  virtual void init_mask(void* mask) const = 0;
  virtual void init_params(void* params) const = 0;
  /// May ask the device and wait for it, once for each value of the mask.
  virtual KvRange range_of(const void* mask) const = 0;
};

/// What a variant looks like from outside, wherever it was compiled.
struct VariantInfo : VariantShape {
  std::string name;                            // "causal+soft_cap"
  std::vector<std::string> parts;              // "causal", "soft_cap"
  const VariantOnDevice* on_device = nullptr;  // in place of VariantShape's functions, which are null

  void fill_default_mask(void* mask) const { on_device != nullptr ? on_device->init_mask(mask) : init_mask(mask); }
  void fill_default_params(void* params) const { on_device != nullptr ? on_device->init_params(params) : init_params(params); }
  KvRange range_of_values(const void* mask) const { return on_device != nullptr ? on_device->range_of(mask) : range_of(mask); }
};

/// Configurations chosen for a problem, sorted by tile_q, and the kernel's name.
struct Choice {
  std::string kernel;
  std::vector<KernelConfig> configs;  // 1..kMaxKernelConfigs
  std::int32_t num_workers = 0;
  std::string reason;  // for explain()
};

/// A kernel's answer to a problem: a choice, or why not.
struct Candidate {
  std::string kernel;
  std::string refusal;     // empty: accepted
  std::uint64_t cost = 0;  // lower wins
  Choice choice;
};

inline constexpr std::size_t kMaxVariantBytes = 512;  // of a variant's Mask, and of its Params

/// At most so much is in a plan: where there is nothing, nothing need be launched.
struct WorkBounds {
  std::int32_t items[kMaxKernelConfigs] = {};  // form ranges: workers
  std::int32_t merges = 0;                     // of all configurations
  std::int32_t composed_rows = 0;
};

/// Bytes [begin, end) of a plan's memory.
struct PlanBytes {
  std::size_t begin, end;
};

/// A plan's arrays where kernels read them, on a device whose memory the host can't reach. Plans are written on the host; publish() brings
/// them over in stream order. A plan has one set of partial states: whatever uses it on one stream comes after what used it on another.
class DevicePlan {
 public:
  virtual ~DevicePlan() = default;
  virtual void* memory() const = 0;
  /// Copies those `parts` of `plan`, in ascending order; the caller may write it again at once.
  virtual void publish(const void* plan, std::span<const PlanBytes> parts, Stream stream) = 0;
  /// What `stream` is given next comes after everything the plan has been used for. Streams live until another has been given.
  virtual void continue_on(Stream stream) = 0;
};

/// What a run is told of its plan beside its arrays.
struct RunPlan {
  const WorkBounds& work;   // of this plan, exact where the host wrote it
  const WorkBounds& most;   // of any plan that may take its place: what a graph has to launch, whose replays run other plans
  DevicePlan* device_plan;  // null where the host can reach device memory
};

/// Compiled code and scratch for one prepared attention.
class Module {
 public:
  virtual ~Module() = default;
  /// Room for a plan of so many bytes, and what running it needs; null where the host can reach device memory.
  virtual std::unique_ptr<DevicePlan> new_device_plan(std::size_t) const { return nullptr; }
  /// Runs every schedule of `params`, then merges. Called from several threads with different plans. True: it was captured into a graph.
  virtual bool run(const KernelParams& params, const RunPlan& plan, Stream stream) const = 0;
};

/// Arguments of append_kv after checking. Scales are written for KvQuant::token.
struct AppendParams {
  QView k, v;  // new tokens [tokens, num_kv_heads, head_dim]
  KvView cache;
  KvQuant quant;
  std::int32_t num_tokens, num_kv_heads, head_dim_qk, head_dim_vo;
  const void* slots;  // i32 or i64 [num_tokens]; null: by request
  bool slots_64;
  const std::int32_t* append_indptr;  // by request
  std::int32_t num_requests;
  FormatView tables;
  const std::int32_t* table;
  std::int64_t num_pages;  // of the cache
};

inline constexpr int kMaxStates = 64;

/// merge_states() after checking.
struct MergeStatesParams {
  struct In {
    QView o;
    const float* lse;
    std::int64_t lse_token_stride, lse_head_stride;
  };
  In states[kMaxStates];
  std::int32_t num_states;
  OutView out;
  std::int32_t num_tokens, num_heads, head_dim;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;
  virtual Device device() const = 0;
  virtual std::string describe() const = 0;
  virtual bool host_accessible() const = 0;                             // device memory is host memory
  virtual std::span<const VariantInfo> variants() const { return {}; }  // compiled in
  /// Built in, or compiled now (prepare() alone calls this). Throws InvalidArgument with the known names, or CompileFailed.
  virtual const VariantInfo& variant(const Variant& variant) const = 0;
  virtual std::vector<CompileRecord> compiled() const { return {}; }
  virtual std::vector<Candidate> candidates(const Problem& problem) const = 0;  // every kernel, with its refusal
  virtual std::unique_ptr<Module> load(const Problem& problem, const Choice& choice) const = 0;
  /// f(0) .. f(count - 1), each once, on whatever threads of the host the backend has; returns when all are done.
  virtual void for_each(std::int64_t count, const std::function<void(std::int64_t)>& f) const {
    for (std::int64_t i = 0; i < count; ++i) {
      f(i);
    }
  }
  virtual void* allocate(std::size_t bytes) const = 0;  // 64-byte aligned; throws DeviceFailed
  virtual void free(void* memory) const noexcept = 0;
  virtual void copy_to_device(void* to, const void* from, std::size_t bytes) const { std::memcpy(to, from, bytes); }  // returns when done
  virtual void copy_to_host(void* to, const void* from, std::size_t bytes) const { std::memcpy(to, from, bytes); }
  virtual void fill(void* memory, unsigned char byte, std::size_t bytes) const { std::memset(memory, byte, bytes); }
  virtual void synchronise(Stream) const {}
  /// Empty where this device can read it, as far as is known; else whose memory it is.
  virtual std::string foreign_memory(const void*) const { return {}; }
  virtual bool is_capturing(Stream) const { return false; }  // into a graph
  virtual bool plans_on_device() const { return false; }     // plan_on_device() is there, and device memory isn't the host's
  /// Launches the planner. Compiled by load(); allocates nothing.
  virtual void plan_on_device(const PlannerParams&, Stream) const {}
  /// Host memory that kernels can write.
  virtual void* allocate_shared(std::size_t bytes) const { return allocate(bytes); }
  virtual void free_shared(void* memory) const noexcept { free(memory); }
  virtual void merge_states(const MergeStatesParams& params, Stream stream) const = 0;
  virtual void append_kv(const AppendParams& params, Stream stream) const = 0;
};

/// The explicit list (src/backends.cc). Throws InvalidArgument with the known names.
std::unique_ptr<Backend> make_backend(const EngineOptions& options);

}  // namespace fovea
