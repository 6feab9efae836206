// Selection: ask every kernel of the backend, take the cheapest that accepts. Uses spec, limits and options alone; comes before scheduling,
// because a schedule counts the tiles selection chose.
#pragma once

#include <string>
#include <vector>

#include "src/backend.h"

namespace fovea {

struct Selection {
  Choice choice;
  std::vector<Candidate> candidates;  // every kernel's answer, for explain()
};

/// Throws Unsupported with every refusal when no kernel accepts.
Selection select_kernel(const Problem& problem, const Backend& backend);

/// One line per kernel: chosen, accepted or refused, and why.
std::string describe(const Selection& selection);

}  // namespace fovea
