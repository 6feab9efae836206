// What the tests of variants given as text share: environment variables for a while, compilers of this machine, small problems.
#pragma once

#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fovea/fovea.h"
#include "src/support/file.h"
#include "src/support/process.h"

namespace fovea::test {

/// Sets (or, with nothing, removes) an environment variable until destroyed.
class Environment {
 public:
  Environment(const char* name, const std::optional<std::string>& value) : name_(name) {
    if (const char* before = std::getenv(name)) {
      before_ = before;
    }
    set(value);
  }
  ~Environment() { set(before_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  void set(const std::optional<std::string>& value) {
    if (value.has_value()) {
      setenv(name_, value->c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }
  const char* name_;
  std::optional<std::string> before_;
};

/// A cache of this test's own.
struct FreshCache {
  TemporaryFolder folder;
  Environment variable{"FOVEA_CACHE_DIR", folder.path()};
};

inline std::vector<std::string> compilers() {
  std::vector<std::string> found;
  for (const std::string& name : {std::string("g++"), std::string("clang++")}) {
    const std::string arguments[] = {name, "--version"};
    if (run_process(arguments).status == 0) {
      found.push_back(name);
    }
  }
  return found;
}

inline AttentionSpec small_spec(const Variant& variant) {
  return {.num_qo_heads = 2,
          .num_kv_heads = 1,
          .head_dim_qk = 8,
          .q_dtype = DType::f32,
          .k_dtype = DType::f32,
          .v_dtype = DType::f32,
          .o_dtype = DType::f32,
          .variant = variant,
          .formats = {KvFormat::ragged()}};
}

inline std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// The output of one query over three keys whose values are 1, 2 and 3 and whose logits are 0, 1 and 2.
inline float mean_value(const Engine& engine, const Variant& variant, Values params = {}, Values mask = {}) {
  const Attention attention = engine.prepare(small_spec(variant), {.max_requests = 1});
  Plan plan = attention.new_plan();
  std::vector<float> q(16, 0.0f), k(24, 0.0f), v(24), o(16);
  for (std::size_t i = 0; i < v.size(); ++i) {
    v[i] = static_cast<float>(1 + i / 8);
  }
  q[0] = q[8] = 1.0f;
  k[8] = 1.0f;
  k[16] = 2.0f;
  const std::vector<std::int32_t> qo_indptr{0, 1}, kv_indptr{0, 3};
  const KvTables tables = KvTables::ragged(TensorView::of(kv_indptr));
  const MaskValues values{.values = mask};
  attention.plan(plan, {.qo_indptr = TensorView::of(qo_indptr), .kv = {&tables, 1}}, {.masks = {&values, 1}});
  const KvCache cache{.k = TensorView::contiguous(k.data(), DType::f32, {3, 1, 8}),
                      .v = TensorView::contiguous(v.data(), DType::f32, {3, 1, 8})};
  attention.run(plan, {.q = TensorView::contiguous(q.data(), DType::f32, {1, 2, 8}),
                       .kv = {&cache, 1},
                       .o = TensorView::contiguous(o.data(), DType::f32, {1, 2, 8}),
                       .params = params,
                       .sm_scale = 1.0f});
  return o[0];
}

}  // namespace fovea::test
