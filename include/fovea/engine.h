// Engine: a device and what runs on it. Attention: one prepared layer shape. The three verbs are prepare, plan and run.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fovea/kv_cache.h"
#include "fovea/limits.h"
#include "fovea/plan.h"
#include "fovea/problem.h"

namespace fovea {

struct EngineOptions {
  std::string backend = "cpu";   // "cpu", "cuda" or "reference"
  std::int32_t device_id = 0;    // cuda: which GPU, counted as the driver does
  std::int32_t num_threads = 0;  // cpu: at most this many at a time; 0: all the process may use. Never changes a result
  std::string isa;               // cpu: "avx2", "avx512", "avx512_bf16", or empty: the fastest this machine runs
};

struct PrepareOptions {
  Policy policy = Policy::throughput;
  std::int32_t fixed_split = 0;  // tokens; a multiple of the kernel's kv tile (explain() prints it); Policy::fixed_split alone
  std::int32_t num_workers = 0;  // 0: the backend's default, a function of spec and limits alone
  std::int64_t max_workspace_bytes =
      -1;  // of partial states: less means fewer splits (batch_invariant: longer ones; fixed_split: refused);
           // -1: as much as helps (batch_invariant: at most 1 GiB; fixed_split: all that the limits allow)
};

/// What run() writes.
enum class Output : std::uint8_t {
  finalised,  // o and, if given, lse
  states,     // o and lse of the KV given, before sink and output transform: merge_states() continues from here
};

/// One layer's tensors. q, o: [num_query_tokens, heads, head_dim], any strides with innermost 1. On the engine's device.
struct RunArgs {
  TensorView q;                   // [tokens, num_qo_heads, head_dim_qk]
  std::span<const KvCache> kv;    // one per format of the spec
  TensorView o;                   // [tokens, num_qo_heads, head_dim_vo]; must not overlap q, K or V
  TensorView lse;                 // f32 [tokens, num_qo_heads], optional (needed for states)
  Values params;                  // the variant's parameters
  std::optional<float> sm_scale;  // factor on q . k; default 1 / sqrt(head_dim_qk)
  float q_scale = 1.0f;           // dequantises q
  Output output = Output::finalised;
  bool lse_base2 = false;          // log2 instead of natural log
  bool lse_with_extra = false;     // count the extra logit (attention sink) in lse
  bool kv_early = false;           // a promise: nothing that the stream is doing when this run's turn comes writes K, V, their scales or
                                   // page ids. A GPU may then read them while the kernel before, which has let others start, still runs
  std::int32_t mask_group = 0;     // which of the plan's masks
  std::optional<MaskValues> mask;  // optional: checked against the plan's; required when that mask group was planned as `any`
};

/// A (o, lse) pair over a subset of the KV. lse is the natural log unless a call says otherwise; (0, -inf) is the empty state.
struct State {
  TensorView o;    // [tokens, heads, head_dim]
  TensorView lse;  // f32 [tokens, heads]
};

/// Where append_kv() puts new tokens: by request (tables as in Batch, kv_len after the append) or by slot. A place outside the cache is an
/// error where the host can read the slots or page ids; on a GPU, which alone can, such a token is skipped.
struct AppendArgs {
  TensorView k;   // [tokens, num_kv_heads, head_dim_qk], f32, f16 or bf16
  TensorView v;   // [tokens, num_kv_heads, head_dim_vo]
  KvCache cache;  // written; quantised with k_scale / v_scale when kv_quant says so. With KvQuant::token the scales are outputs
  KvQuant kv_quant = KvQuant::none;
  TensorView slot_mapping;   // i32 or i64 [tokens]: page * page_size + offset; negative: the token is skipped; no slot twice (unchecked)
  TensorView append_indptr;  // i32 [num_requests + 1]: request i's new tokens; they become the last of its kv_len
  KvTables tables;           // with append_indptr
};

/// Something an engine had compiled at run time, or found compiled: a variant given as text, or a composition that is not built in.
struct CompileRecord {
  std::string variant;     // "causal+my_cap"
  std::string target;      // "cpu avx2"
  std::string compiler;    // "g++ (Debian 12.2.0-14) 12.2.0"
  bool cached = false;     // found in the cache
  double seconds = 0;      // that prepare() waited
  double cpu_seconds = 0;  // of the compiler; 0 where cached
  std::string path;        // where it is kept; empty: nowhere
  std::chrono::system_clock::time_point when;
};

/// Tiles of all row tiles and kv heads of a plan, by what the mask says of them.
struct TileCounts {
  std::int64_t empty = 0;  // no row sees any column: never touched
  std::int64_t mixed = 0;  // the mask is evaluated pair by pair
  std::int64_t full = 0;   // every row sees every column
};

class Attention;

/// A device with its threads, kernels and caches. Copies share it. All members are safe to call from several threads.
class Engine {
 public:
  explicit Engine(const EngineOptions& options = {});
  Engine(const Engine&) = default;  // no moves: what was moved from stays usable, as a copy
  Engine& operator=(const Engine&) = default;

  /// Once per model: checks the problem, chooses kernels, compiles what is missing, sizes every buffer. The only slow call.
  /// Throws InvalidArgument, Unsupported (with every kernel's refusal) or CompileFailed.
  Attention prepare(const AttentionSpec& spec, const Limits& limits, const PrepareOptions& options = {}) const;

  /// out = merge of states with the same rows and heads; n-way; empty states merge. `out` may be one of the inputs. All inputs natural-log
  /// lse.
  void merge_states(std::span<const State> states, const State& out, Stream stream = {}) const;

  /// Writes new tokens into a cache. Nothing is written when an argument is refused.
  void append_kv(const AppendArgs& args, Stream stream = {}) const;

  Device device() const;                       // where its tensors must be
  void synchronise(Stream stream = {}) const;  // returns when the stream has done all it was given; nothing to wait for on the cpu
  /// The variants compiled into the library.
  std::vector<VariantDescription> variants() const;

  /// What planners on the device found wrong with the batches they were given, in words, one entry a plan: the first since the last call.
  /// Reads host memory: costs no wait, and knows what has been found by now (after synchronise(): by all that the stream was given).
  std::vector<std::string> status() const;

  std::string describe() const;  // backend, device, instruction set, threads: what a bug report needs

  std::vector<CompileRecord> compiled() const;  // so far, in order; only prepare() adds to it

  struct Impl;
  const std::shared_ptr<Impl>& impl() const { return impl_; }

 private:
  std::shared_ptr<Impl> impl_;
};

/// One prepared layer shape. Copies share it. plan() and run() are safe from several threads as long as each uses its own Plan.
class Attention {
 public:
  /// Allocates a plan's buffers, all of them; nothing after this allocates. Throws DeviceFailed when there is no memory for them.
  Plan new_plan() const;
  std::int64_t workspace_bytes() const;  // what new_plan() allocates

  /// Once a step: schedules the batch. Reads lengths, no page ids. Throws InvalidArgument with the values that break a rule; `plan` is then
  /// what it was before. No allocation. With lengths on the device (Batch): a launch, which may be captured into a graph.
  void plan(Plan& plan, const Batch& batch, const PlanArgs& args = {}, Stream stream = {}) const;

  /// Once a layer: launches. No allocation, no compilation. Writes o (and lse) of every row below qo_indptr[num_requests].
  void run(const Plan& plan, const RunArgs& args, Stream stream = {}) const;

  /// plan() and run() in one call, for callers whose lengths are on the device alone. The plan serves the other layers of the step: run().
  void attend(Plan& plan, const Batch& batch, const RunArgs& args, const PlanArgs& plan_args = {}, Stream stream = {}) const;

  /// Throws InvalidArgument naming the first page id outside [0, num_pages[format]) that a run of this plan would read. Its own call:
  /// plan() reads no page ids, this reads all that rows can see. FOVEA_CHECK_RUNS=1 makes every run() do it.
  void check_pages(const Plan& plan, std::span<const std::int64_t> num_pages, std::int32_t mask_group = 0) const;

  /// Asks the mask about every tile of a batch, once, for MaskValues::tiles: by intervals where its `keep` answers for them, else pair by
  /// pair (about a nanosecond a pair of one thread; all of the engine's share it). For opaque masks that stay the same for long enough.
  /// Host only; allocates.
  /// Throws InvalidArgument as plan() does, and Unsupported where the host can't read the mask's tables.
  ClassifiedTiles classify_tiles(const Batch& batch, const MaskValues& mask, const ClassifyOptions& options = {}) const;

  /// What the plan's mask makes of its tiles. Walks every tile: for tools. Throws Unsupported where the host can't read the mask's tables.
  TileCounts count_tiles(const Plan& plan, std::int32_t mask_group = 0) const;

  std::string explain() const;  // which kernels, why, and every other kernel's refusal; buffer sizes
  const AttentionSpec& spec() const;
  const Limits& limits() const;

  struct Impl;
  explicit Attention(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  Attention(const Attention&) = default;  // no moves, as for Engine
  Attention& operator=(const Attention&) = default;
  Impl* impl() const { return impl_.get(); }

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace fovea
