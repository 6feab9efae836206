// What the generator draws: the same on every machine, and everything that has ever mattered often enough in 500 cases.
#include "check/case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "check/compare.h"
#include "check/number.h"
#include "check/oracle.h"
#include "portable/convert.h"

namespace fovea::check {
namespace {

TEST(Case, SameSeedSameCase) {
  for (std::int64_t index = 0; index < 20; ++index) {
    const Case a = make_case(3, index), b = make_case(3, index);
    EXPECT_EQ(a.text(), b.text());
    EXPECT_EQ(a.q, b.q);
  }
  EXPECT_NE(make_case(3, 0).text(), make_case(4, 0).text());
}

/// Features of a case that tests rely on coming up.
std::set<std::string> features_of(const Case& c) {
  std::set<std::string> features{c.notes.front(),
                                 c.spec.variant.name,
                                 std::string("q ") + name_of(c.spec.q_dtype),
                                 std::string("k ") + name_of(c.spec.k_dtype),
                                 "quant " + std::to_string(static_cast<int>(c.spec.kv_quant)),
                                 "policy " + std::to_string(static_cast<int>(c.options.policy))};
  const auto add_if = [&features](bool condition, const char* name) {
    if (condition) {
      features.insert(name);
    }
  };
  for (const DenseRequest& r : c.requests) {
    add_if(r.qo_len == 0, "request without queries");
    add_if(r.qo_len > 0 && r.kv_len == 0, "request without keys");
    add_if(r.qo_len > r.kv_len, "more queries than keys");
    add_if(r.kv_len > 512, "long request");
  }
  for (const DenseGroup& g : c.groups) {
    add_if(std::any_of(g.tokens.begin(), g.tokens.end(), [](std::int64_t token) { return token < 0; }), "garbage entries");
  }
  for (const DensePool& pool : c.pools) {
    add_if(std::count(pool.used.begin(), pool.used.end(), 0) > 0, "unused slots");
  }
  const int group_size = c.group_size();
  add_if(group_size > 1 && group_size % 2 == 1, "odd group size");
  add_if(c.num_rows() * group_size > 64, "many rows");
  add_if(c.spec.head_dim_qk != c.spec.head_dim_vo, "head_dim_qk != head_dim_vo");
  add_if(c.spec.k_dtype != c.spec.v_dtype, "k dtype != v dtype");
  add_if(row_of(c.spec.q_dtype).bits == 8, "q of 8 bits");
  const bool per_head = std::any_of(c.spec.formats.begin(), c.spec.formats.end(), [](const KvFormat& f) { return f.per_kv_head; });
  add_if(per_head && c.spec.formats.size() > 1, "tables per head in a composed batch");
  add_if(c.hidden_tokens_are_nan && (!c.rule.bits.empty() || !c.rule.documents.empty()), "hidden tokens of NaN");
  add_if(c.run.output == Output::states, "states");
  add_if(c.run.lse_base2, "lse base 2");
  add_if(c.run.lse_with_extra, "lse with extra");
  add_if(!c.with_lse, "no lse");
  add_if(c.masks.size() > 1, "several masks");
  add_if(c.masks[static_cast<std::size_t>(c.run.mask_group)].any, "mask any");
  add_if(c.batch.q_pos.defined(), "q_pos");
  add_if(c.batch.kv_len.defined(), "kv_len");
  add_if(c.options.max_workspace_bytes >= 0, "bounded workspace");
  add_if(c.options.num_workers == 1 || c.options.num_workers == 2 || c.options.num_workers == 7, "1, 2 or 7 workers");
  for (const std::string& note : c.notes) {
    for (const char* word : {"2d", "csr", "ragged", "page 1", "separate", "interleaved", "halves", "v_in_k", "3d", "nhd", "hnd"}) {
      add_if(note.find(word) != std::string::npos, word);
    }
  }
  const Dense exact = exact_result(c);
  add_if(std::any_of(exact.lse.begin(), exact.lse.end(), [](double lse) { return std::isinf(lse); }) && c.rule.use_softmax(),
         "row that sees nothing");
  return features;
}

TEST(Case, EverythingComesUp) {
  std::map<std::string, int> counts;
  for (std::int64_t index = 0; index < 500; ++index) {
    for (const std::string& feature : features_of(make_case(1, index))) {
      ++counts[feature];
    }
  }
  std::vector<std::string> wanted{"request without queries",
                                  "request without keys",
                                  "more queries than keys",
                                  "long request",
                                  "garbage entries",
                                  "unused slots",
                                  "odd group size",
                                  "many rows",
                                  "head_dim_qk != head_dim_vo",
                                  "k dtype != v dtype",
                                  "q of 8 bits",
                                  "tables per head in a composed batch",
                                  "hidden tokens of NaN",
                                  "states",
                                  "lse base 2",
                                  "lse with extra",
                                  "no lse",
                                  "several masks",
                                  "mask any",
                                  "q_pos",
                                  "kv_len",
                                  "bounded workspace",
                                  "1, 2 or 7 workers",
                                  "row that sees nothing",
                                  "2d",
                                  "csr",
                                  "ragged",
                                  "page 1",
                                  "separate",
                                  "interleaved",
                                  "halves",
                                  "v_in_k",
                                  "3d",
                                  "nhd",
                                  "hnd",
                                  "quant 0",
                                  "quant 1",
                                  "quant 2",
                                  "quant 3",
                                  "policy 0",
                                  "policy 1",
                                  "policy 2"};
  wanted.insert(wanted.end(), variant_names().begin(), variant_names().end());
  for (const std::string& format : format_names()) {
    wanted.push_back(format + ":");
  }
  for (const std::string& feature : wanted) {
    EXPECT_GE(counts[feature], 8) << feature;
  }
}

TEST(Number, AgreesWithConvertOnEveryPattern) {
  for (const DType dtype : {DType::f16, DType::bf16, DType::e4m3, DType::e5m2}) {
    const int bits = row_of(dtype).bits;
    for (std::uint32_t pattern = 0; pattern < (1u << bits); ++pattern) {
      const double value = decode(dtype, &pattern, 0);
      const float converted = to_float(dtype, &pattern, 0);
      ASSERT_TRUE(value == converted || (std::isnan(value) && std::isnan(converted))) << name_of(dtype) << " " << pattern;
      if (std::isfinite(value)) {
        std::uint32_t back = 0;
        encode(dtype, &back, 0, value);
        ASSERT_EQ(back, pattern) << name_of(dtype);
        // Between this number and the next: both must round alike, ties included.
        for (const double fraction : {0.25, 0.5, 0.75}) {
          const double between = value + fraction * ulp_at(dtype, value);
          std::uint32_t ours = 0, theirs = 0;
          encode(dtype, &ours, 0, between);
          from_double(dtype, &theirs, 0, between);
          ASSERT_EQ(ours, theirs) << name_of(dtype) << " at " << between;
        }
      }
    }
  }
}

/// The comparison itself: a wrong element, an unwritten one and a write beside the outputs are all seen.
TEST(Compare, SeesWhatIsWrong) {
  const Case c = make_case(1, 0, {.variant = "causal", .format = "csr", .dtype = DType::f32});
  const Dense exact = exact_result(c);
  const Bounds bounds = backend_bounds(c, exact);
  Outputs right = make_outputs(c, DType::f32);
  EXPECT_TRUE(compare(c, exact, bounds, right).failed()) << "nothing was written";
  for (int row = 0; row < c.num_rows(); ++row) {
    for (int head = 0; head < c.spec.num_qo_heads; ++head) {
      const std::size_t at = static_cast<std::size_t>(row * c.spec.num_qo_heads + head);
      for (int i = 0; i < c.spec.head_dim_vo; ++i) {
        right.o.as<float>()[row * right.o.stride(0) + head * right.o.stride(1) + i] =
            static_cast<float>(exact.o[at * static_cast<std::size_t>(c.spec.head_dim_vo) + static_cast<std::size_t>(i)]);
      }
      if (right.lse.defined()) {
        const double lse = exact.lse[at];
        right.lse.as<float>()[row * right.lse.stride(0) + head * right.lse.stride(1)] =
            static_cast<float>(c.run.lse_base2 ? lse / std::log(2.0) : lse);
      }
    }
  }
  EXPECT_FALSE(compare(c, exact, bounds, right).failed()) << compare(c, exact, bounds, right).text;
  float& last = right.o.as<float>()[(c.num_rows() - 1) * right.o.stride(0) + c.spec.head_dim_vo - 1];
  const float kept = last;
  last = kept * 1.0001f;
  EXPECT_TRUE(compare(c, exact, bounds, right).failed());
  last = NAN;
  EXPECT_TRUE(compare(c, exact, bounds, right).failed());
  last = kept;
  right.o.as<float>()[c.spec.head_dim_vo] = 1;  // a gap between heads
  EXPECT_TRUE(compare(c, exact, bounds, right).failed());
}

}  // namespace
}  // namespace fovea::check
