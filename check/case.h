// A case: one attention problem as a caller states it, owning its memory, and the same problem as plain dense arrays, from which the oracle
// works.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "check/check.h"
#include "fovea/engine.h"

namespace fovea::check {

/// Memory of a case's tensors: every tensor has an allocation of its own, so that sanitizers see its ends. Filled with 0xff: NaN in every
/// float type, -1 in every integer.
class Memory {
 public:
  void* take(std::int64_t bytes);
  TensorView integers(const std::vector<std::int32_t>& values);
  TensorView floats(const std::vector<float>& values);

  struct Block {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t size;
  };
  const std::vector<Block>& blocks() const { return blocks_; }

 private:
  std::vector<Block> blocks_;
};

/// All tokens of one cache, by storage index (page * page_size + slot), dequantised.
struct DensePool {
  std::int64_t num_tokens = 0;
  std::vector<double> k;  // [num_tokens, num_kv_heads, head_dim_qk]
  std::vector<double> v;  // [num_tokens, num_kv_heads, head_dim_vo]
  std::vector<char> used;
};

struct DenseRequest {
  int qo_begin = 0, qo_len = 0, kv_len = 0, q_pos = 0;
};

/// Rows that see the same columns.
struct DenseGroup {
  int pool = 0;
  int kv_head = -1;                  // -1: all
  bool by_index = false;             // columns at or past the request's kv_len are none
  std::vector<int> rows;             // query tokens
  std::vector<std::int64_t> tokens;  // storage index of each column; -1: no row may see it and its table entry is garbage
  std::vector<int> positions;        // of each column
};

enum class LogitTransform { cap, alibi, temperature, sigmoid };

struct Temperature {
  float temperature = 1, position_scale = 0;
  int position_step = 8192;
};

/// Rotary embedding of the first `num_turned` elements of queries and keys.
struct Rope {
  bool adjacent = false;  // pairs (2 i, 2 i + 1); else (i, i + num_turned / 2)
  int num_turned = 0;
  std::vector<float> cos_sin;  // [positions, num_turned], cosines first; empty: computed
  float theta = 10000, factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  int original_context = 0;

  /// Radians a position of pair i, as Llama's code computes it.
  double frequency(int i) const;
};

/// The attention rule in plain values.
struct Rule {
  bool causal = false;
  std::optional<int> window_left;
  int num_sink_tokens = 0;
  std::vector<std::vector<char>> bits;      // custom mask: [request][qo_idx * kv_len + kv_pos]
  std::vector<std::vector<int>> documents;  // [request][position]
  std::vector<int> prefix_len;              // [request]; not empty: causal after so many tokens
  std::optional<int> chunk_size;
  std::vector<LogitTransform> transforms;  // in the order in which they apply
  std::optional<float> cap;
  std::vector<float> slopes;  // [num_qo_heads]
  std::optional<Temperature> temperature;
  std::optional<Rope> rope;
  std::optional<float> sigmoid_bias;  // set: no softmax
  std::vector<float> sink;            // [num_qo_heads] or empty

  bool use_softmax() const { return !sigmoid_bias.has_value(); }
};

struct Case {
  std::uint64_t seed = 0;
  std::int64_t index = 0;

  // As a caller states it.
  AttentionSpec spec;
  Limits limits;
  PrepareOptions options;
  Batch batch;
  std::vector<MaskValues> masks;
  RunArgs run;  // o and lse undefined: every run gets its own
  bool with_lse = true;

  // The same, dense.
  std::vector<DenseRequest> requests;
  std::vector<int> request_of_row;
  std::vector<DenseGroup> groups;
  std::vector<DensePool> pools;
  std::vector<double> q;  // [query tokens, num_qo_heads, head_dim_qk]
  Rule rule;
  bool own_variant = false;            // spec.variant is the caller's own: `rule` says nothing of it
  double sm_scale = 1;                 // q_scale included
  bool hidden_tokens_are_nan = false;  // tokens that the rule hides from every row hold no values

  int num_rows() const { return static_cast<int>(request_of_row.size()); }
  int group_size() const { return spec.num_qo_heads / spec.num_kv_heads; }
  std::string text() const;  // one line

  // What the views above point into. Moving a case keeps them valid.
  Memory memory;
  std::vector<KvTables> tables;
  std::vector<KvCache> caches;
  std::vector<Value> params;
  std::vector<std::vector<Value>> mask_values;
  std::vector<std::string> notes;  // choices worth printing
};

/// The same case for the same arguments, on every machine.
Case make_case(std::uint64_t seed, std::int64_t index, const CaseFilter& filter = {});

}  // namespace fovea::check
