// Plan: a handle with fixed buffers that says who does what in a step. PlanView: the same as a value, for printing and tests.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fovea/variant.h"

namespace fovea {

struct Stream {
  void* handle = nullptr;  // CUstream on cuda; ignored on cpu, where every call has finished when it returns
};

/// How work is cut and spread.
enum class Policy : std::uint8_t {
  throughput,       // balance the batch over all workers
  batch_invariant,  // a request's output bits depend on that request alone: one kernel configuration, split length fixed by prepare(),
                    // KV that rows of several requests may share (row_indptr, block_rows) never split
  fixed_split,      // split KV every PrepareOptions::fixed_split tokens, no more and no less, in groups of at most 64 packed rows
};

/// What a mask makes of tiles, where that is known before plan(): one byte a tile, 0: no query sees any key, the tile is never touched;
/// 1: the mask is asked pair by pair; 2: every query sees every key, the mask is not asked. Tile (i, j) of a request is its query tokens
/// from i * tile_q on x positions from j * tile_kv on. Taken at its word: `fovea check` and the reference backend, which asks the mask for
/// every pair, show a class that is wrong. Skipping is the cpu backend's so far; others leave it unread.
struct TileClasses {
  TensorView classes;       // u8 [>= class_indptr[num_requests]], on the host
  TensorView class_indptr;  // i32 [num_requests + 1]: request r's begin at class_indptr[r], [heads, ceil(qo_len / tile_q), ceil(kv_len /
                            // tile_kv)] of them; heads is 1, or num_qo_heads with per_head
  std::int32_t tile_q = 0, tile_kv = 0;
  bool per_head = false;

  bool given() const { return classes.defined(); }
};

/// One mask planned for: the values of the variant's mask, or `any`: plan the whole KV, give the mask at run().
struct MaskValues {
  Values values;
  bool any = false;
  TileClasses tiles = {};  // optional; of the whole mask, all parts of a composition together. Must stay valid until the plan's last run
};

/// TileClasses with their memory: what Attention::classify_tiles() returns.
struct ClassifiedTiles {
  std::vector<std::uint8_t> classes;
  std::vector<std::int32_t> class_indptr;
  std::int32_t tile_q = 0, tile_kv = 0;
  bool per_head = false;

  TileClasses view() const;
};

struct ClassifyOptions {
  std::int32_t tile_q = 64, tile_kv = 64;
  bool heads_alike = false;  // the mask looks at no head: ask it for one instead of for every one
};

struct PlanArgs {
  std::span<const MaskValues> masks;  // empty: one group with the mask's default values
};

/// One piece of work, as a value. Rows are packed rows (query token x query head of the kv head) of the group; columns are tokens.
struct PlannedWork {
  std::int32_t worker, format, row_group, kv_head;
  std::int32_t row_begin, row_end, col_begin, col_end;
  std::int32_t partial_slot;  // -1: finalises its rows; -2: writes the state of one of several formats
};

/// Everything a plan says, for one mask group.
struct PlanView {
  std::int32_t num_workers = 0;
  std::int32_t num_requests = 0;
  std::int32_t num_row_groups = 0;
  std::int32_t num_partial_slots = 0;  // used
  std::int32_t max_partial_slots = 0;  // available
  std::int32_t num_merges = 0;
  std::vector<PlannedWork> work;           // in worker order; of list form in list order (worker -1: taken by ticket)
  std::vector<std::uint64_t> worker_cost;  // 1/16 tiles; ranges alone
  std::string to_string() const;           // a table; golden-tested
};

/// Handle to the buffers of one plan. Cheap to copy (copies share the buffers); used by one thread at a time.
class Plan {
 public:
  Plan() = default;
  bool planned() const;                  // plan() has succeeded at least once
  std::uint64_t generation() const;      // counts successful plan() calls
  std::int64_t workspace_bytes() const;  // partial states, row groups and work lists together
  PlanView view(std::int32_t mask_group = 0) const;

  struct Impl;
  explicit Plan(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  Impl* impl() const { return impl_.get(); }

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace fovea
