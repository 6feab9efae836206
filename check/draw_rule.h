// The rule of a case: the variant's mask and parameters, drawn, as values for the library and in plain form for the oracle.
#pragma once

#include "check/case.h"
#include "check/random.h"

namespace fovea::check {

/// The mask the case runs with, and others that are planned beside it. Requests and positions are drawn.
void draw_masks(Case& c, Random& random);

void draw_params(Case& c, Random& random);

/// The caller's own variant in place of the drawn one: its values for every mask, no lse (it may be without a softmax).
void put_own_variant(Case& c, const CaseFilter::Own& own);

/// For some cases, what the rule makes of tiles, some of them called mixed though they aren't. After everything else is drawn.
void draw_tiles(Case& c, Random& random);

}  // namespace fovea::check
