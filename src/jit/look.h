// A look at a variant's text before a compiler sees it: the mistakes a compiler would accept in silence (a misspelt hook is a function that
// nobody calls) or report far from their cause.
#pragma once

#include <string>
#include <vector>

#include "src/jit/program.h"

namespace fovea::jit {

/// Throws InvalidArgument naming the file and the line.
void check_text(const VariantPart& part);

}  // namespace fovea::jit
