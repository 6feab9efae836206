// Fovea's whole public API.
#pragma once

#include "fovea/compile.h"
#include "fovea/device_buffer.h"
#include "fovea/dtype.h"
#include "fovea/engine.h"
#include "fovea/error.h"
#include "fovea/kv_cache.h"
#include "fovea/limits.h"
#include "fovea/plan.h"
#include "fovea/problem.h"
#include "fovea/tensor.h"
#include "fovea/variant.h"
#include "fovea/version.h"
