// The picture of `fovea plan`: a bar per worker, made of the pieces of work it does.
#pragma once

#include <string>

#include "bench/workload.h"
#include "fovea/plan.h"

namespace fovea::cli {

struct PictureStyle {
  int columns = 100;  // 72 at least
  bool colour = false;
  int max_rows = 24;  // workers drawn; more are drawn as a skyline, and of the bars every n-th
};

/// Most loaded worker over the mean. Cost where the plan says it, else KV tokens.
double imbalance_of(const PlanView& view);

/// Bars, axis and legend; ends with a newline. Capital letters: rows that a worker finalises; small letters: partial states, merged later.
std::string draw_plan(const bench::Workload& workload, const PlanView& view, const PictureStyle& style);

}  // namespace fovea::cli
