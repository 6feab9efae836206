// ReferenceCheck: are a step's outputs right? Sampled (row, head) pairs are computed again by the reference backend, from keys and values
// made anew from the tokens' hashes: a page that was lost, shared wrongly or overwritten shows up as much as a wrong kernel.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fovea/engine.h"
#include "serving/layer_spec.h"
#include "serving/scheduler.h"

namespace fovea::serving {

/// What was compared, and how it went. Sums of several checks add up.
struct CheckOutcome {
  std::int64_t pairs = 0;
  std::int64_t wrong = 0;
  double worst = 0;   // largest error over its bound
  std::string first;  // the first wrong pair
};

class ReferenceCheck {
 public:
  static constexpr std::int64_t kMinPairs = 256;

  /// Borrows the requests. `largest`: what steps have at most.
  ReferenceCheck(const LayerSpec& layers, std::span<const ServedRequest> requests, const SchedulerTotals& largest);

  /// `o`: the step's outputs of a layer, bf16 [tokens, num_qo_heads, head_dim_vo], on the host. Compared are the first and last row of
  /// every request, and more up to kMinPairs pairs where the step has so many.
  CheckOutcome check(const Step& step, std::int32_t layer, std::span<const std::uint16_t> o) const;

 private:
  struct Pair {
    std::int32_t head = 0, work = 0, row = 0;  // row of the work
    friend auto operator<=>(const Pair&, const Pair&) = default;
  };
  /// Keys and values of some heads of a step's requests, in pages in order.
  struct Dense;

  std::vector<Pair> pick(const Step& step, std::int32_t layer) const;
  void make_dense(const Step& step, std::int32_t layer, std::span<const Pair> pairs, Dense& dense) const;
  /// Results of the reference for pairs of one head.
  struct Expected {
    std::vector<float> o;             // [pairs, head_dim_vo]
    std::vector<double> weight_norm;  // [pairs]: root of the sum of squared weights
  };

  Expected expected_of(const Step& step, std::int32_t layer, std::span<const Pair> pairs, const Dense& dense) const;
  CheckOutcome compare(const Step& step, std::int32_t layer, std::span<const Pair> pairs, const Expected& expected,
                       std::span<const std::uint16_t> o) const;

  LayerSpec layers_;
  std::span<const ServedRequest> requests_;
  std::vector<float> sinks_;
  Engine engine_;
  Attention attention_;
};

}  // namespace fovea::serving
