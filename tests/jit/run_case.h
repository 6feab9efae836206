// A case of check/ with its variant exchanged for another.
#pragma once

#include "check/case.h"
#include "check/compare.h"
#include "fovea/fovea.h"

namespace fovea::test {

inline check::Outputs run_case(const Engine& engine, const check::Case& c, const Variant& variant) {
  AttentionSpec spec = c.spec;
  spec.variant = variant;
  const Attention attention = engine.prepare(spec, c.limits, c.options);
  Plan plan = attention.new_plan();
  check::Outputs outputs = check::make_outputs(c, c.spec.o_dtype);
  RunArgs args = c.run;
  args.o = outputs.o;
  args.lse = outputs.lse;
  attention.plan(plan, c.batch, {.masks = c.masks});
  attention.run(plan, args);
  return outputs;
}

}  // namespace fovea::test
