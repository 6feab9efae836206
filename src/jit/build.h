// Several artefacts at once: found in the cache or built in parallel, with a line on the log when that takes more than a second.
#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "src/jit/cache.h"

namespace fovea::jit {

struct BuildRequest {
  CacheKey key;
  Program program;
  std::function<Built()> build;  // called on a thread of its own, at most once
};

/// In the order of `requests`. `what` names the whole in the log ("variant my_cap on cpu avx2"). Throws the first failure, after all have
/// ended.
std::vector<Artefact> get_or_build_all(const Cache& cache, std::span<const BuildRequest> requests, std::string_view what);

}  // namespace fovea::jit
