// Models as attention sees them: heads, head dimensions, and which layers see a window. By name, or from a JSON file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fovea/problem.h"

namespace fovea::serving {

struct Model {
  std::string name;
  std::int32_t num_qo_heads = 0, num_kv_heads = 0;
  std::int32_t head_dim_qk = 0, head_dim_vo = 0;
  std::int32_t num_layers = 0;              // of the whole model
  std::vector<std::int32_t> windows = {0};  // layer l sees windows[l % windows.size()] tokens, itself included; 0: all before it
  std::optional<double> soft_cap;
  bool sink = false;               // a learned logit per query head
  std::optional<double> sm_scale;  // default 1 / sqrt(head_dim_qk)

  /// Variant of all layers: a window of a model that has any, even where a layer's is unlimited, so that layers share a plan.
  std::string variant() const;
  std::int32_t window_of(std::int32_t layer) const { return windows[static_cast<std::size_t>(layer) % windows.size()]; }
  /// Distinct windows in order of first use: a mask group each.
  std::vector<std::int32_t> mask_groups() const;
  std::int32_t mask_group_of(std::int32_t layer) const;
};

/// Names of the known models, in the order of the table.
std::vector<std::string> model_names();

/// A known name, also with "/tpN" at its end for one of N ranks of tensor parallelism; or a JSON file (a '/' with ".json", or ".json").
/// Throws InvalidArgument.
Model find_model(const std::string& name_or_path);

}  // namespace fovea::serving
