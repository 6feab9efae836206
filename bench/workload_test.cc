// Workloads: the named ones load and plan, lengths are what the file says, and shared prefixes are the same pages.
#include "bench/workload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "bench/batch_arrays.h"
#include "bench/layer.h"
#include "fovea/engine.h"
#include "fovea/error.h"

namespace fovea::bench {
namespace {

Workload with_requests(const std::string& requests, const std::string& more = "") {
  return parse_workload("test",
                        R"({"spec": {"num_qo_heads": 4, "num_kv_heads": 2, "head_dim_qk": 64}, "requests": )" + requests + more + "}");
}

std::string refusal_of(const std::string& json) {
  try {
    parse_workload("file.json", json);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Workload, EveryNamedOneIsPlannable) {
  const Engine engine({.backend = "reference"});
  ASSERT_GE(workload_names().size(), 7u);
  for (const std::string& name : workload_names()) {
    const Workload workload = load_workload(name);
    EXPECT_EQ(workload.name, name);
    EXPECT_FALSE(workload.about.empty()) << name;
    const Attention attention = engine.prepare(workload.spec, limits_of(workload));
    Plan plan = attention.new_plan();
    const BatchArrays arrays(workload);
    const WorkloadValues values(workload);
    attention.plan(plan, arrays.batch(), values.plan_args());
    EXPECT_EQ(plan.view().num_requests, static_cast<std::int32_t>(workload.requests.size())) << name;
  }
}

TEST(Workload, AGridIsAllItsPoints) {
  const std::vector<Workload> points = parse_workloads("grid.json", R"({
    "spec": {"num_qo_heads": 8, "num_kv_heads": 2, "head_dim_qk": 64},
    "grid": [{"batch": [1, 4], "kv_len": [512, 1024], "max_tokens": 2048},
             {"name": "table2d", "spec": {"num_kv_heads": 8, "format": {"page_size": 4, "table_2d": true}}, "points": [[2, 9]]}]})");
  std::string names;
  for (const Workload& point : points) {
    names += point.name + " ";
  }
  EXPECT_EQ(names, "1x512 1x1k 4x512 2x9_table2d ");
  EXPECT_EQ(points[2].requests.size(), 4u);
  EXPECT_EQ(points[2].spec.num_kv_heads, 2);
  const Workload& last = points.back();
  EXPECT_EQ(last.spec.num_kv_heads, 8);
  EXPECT_EQ(last.spec.num_qo_heads, 8);
  const Engine engine({.backend = "reference"});
  const Attention attention = engine.prepare(last.spec, limits_of(last));
  Plan plan = attention.new_plan();
  const BatchArrays arrays(last);
  EXPECT_EQ(arrays.batch().kv[0].page_table.dim(1), 3);
  attention.plan(plan, arrays.batch());
  EXPECT_EQ(plan.view().num_requests, 2);
  EXPECT_EQ(
      parse_workloads("one.json",
                      R"({"spec": {"num_qo_heads": 4, "num_kv_heads": 2, "head_dim_qk": 64}, "requests": [{"qo_len": 1, "kv_len": 4}]})")
          .size(),
      1u);
  EXPECT_THROW(
      parse_workloads("grid.json", R"({"spec": {"num_qo_heads": 4, "num_kv_heads": 2, "head_dim_qk": 64}, "grid": [{"points": [3]}]})"),
      InvalidArgument);
}

TEST(Workload, RandomLengthsStayInRangeAndAreTheSameEachTime) {
  const std::string json = R"([{"count": 500, "qo_len": 1, "kv_len": {"uniform": [10, 20]}}])";
  const Workload first = with_requests(json);
  std::set<std::int32_t> seen;
  for (std::size_t i = 0; i < first.requests.size(); ++i) {
    EXPECT_EQ(first.requests[i].kv_len, with_requests(json).requests[i].kv_len);
    seen.insert(first.requests[i].kv_len);
  }
  EXPECT_EQ(*seen.begin(), 10);
  EXPECT_EQ(*seen.rbegin(), 20);
  EXPECT_EQ(seen.size(), 11u);
  const Workload other = with_requests(json, R"(, "seed": 2)");
  EXPECT_FALSE(std::equal(first.requests.begin(), first.requests.end(), other.requests.begin(),
                          [](const auto& a, const auto& b) { return a.kv_len == b.kv_len; }));
}

TEST(Workload, ZipfLengthsAreHighOverRank) {
  Workload workload = with_requests(R"([{"count": 5, "qo_len": 1, "kv_len": {"zipf": [25, 120]}}])");
  std::vector<std::int32_t> lengths;
  for (const RequestLengths& request : workload.requests) {
    lengths.push_back(request.kv_len);
  }
  std::sort(lengths.rbegin(), lengths.rend());
  EXPECT_EQ(lengths, (std::vector<std::int32_t>{120, 60, 40, 30, 25}));
}

TEST(Workload, PagesAreUsedOnceAndThePrefixIsCountedOnce) {
  const Workload workload =
      with_requests(R"([{"count": 5, "qo_len": 2, "kv_len": 100}])", R"(, "shared_prefix": {"tokens": 33, "requests": 3})");
  ASSERT_EQ(workload.prefixes.size(), 2u);
  EXPECT_EQ(workload.prefixes[1].num_requests, 2);
  EXPECT_EQ(workload.kv_tokens(), 5 * 100 - 3 * 33);
  const BatchArrays arrays(workload);
  const auto kv = arrays.batch().kv;
  ASSERT_EQ(kv.size(), 2u);
  std::set<std::int32_t> pages;
  std::int64_t count = 0;
  for (const KvTables& table : kv) {
    for (std::int64_t i = 0; i < table.page_indices.numel(); ++i, ++count) {
      pages.insert(table.page_indices.as<const std::int32_t>()[i]);
    }
  }
  EXPECT_EQ(count, arrays.num_pages());
  EXPECT_EQ(static_cast<std::int64_t>(pages.size()), count);
  EXPECT_EQ(*pages.rbegin(), count - 1);
  const auto* rows = kv[0].row_indptr.as<const std::int32_t>();
  EXPECT_EQ((std::vector<std::int32_t>(rows, rows + 3)), (std::vector<std::int32_t>{0, 6, 10}));
}

TEST(Workload, FlopsCountVisiblePairs) {
  Workload workload = with_requests(R"([{"qo_len": 3, "kv_len": 10}])");
  EXPECT_DOUBLE_EQ(flops_of(workload), 2.0 * (8 + 9 + 10) * 4 * 128);
  workload.spec.variant = "full";
  EXPECT_DOUBLE_EQ(flops_of(workload), 2.0 * 30 * 4 * 128);
  workload.spec.variant = "sliding_window";
  workload.mask = {{"window_left", std::int64_t{3}}};
  EXPECT_DOUBLE_EQ(flops_of(workload), 2.0 * 12 * 4 * 128);
  EXPECT_EQ(kv_bytes_of(workload), 10 * 2 * 128 * 2);
}

TEST(Workload, MessagesNameFileKeyAndValue) {
  const std::string spec = R"("spec": {"num_qo_heads": 4, "num_kv_heads": 2, "head_dim_qk": 64})";
  EXPECT_EQ(refusal_of("{" + spec + R"(, "requests": [{"qo_len": 1, "kv_len": -7}]})"),
            "file.json: requests[0].kv_len: -7 is outside 0..536870912; give a number in that range");
  EXPECT_EQ(refusal_of("{" + spec + R"(, "requests": [{"qo_len": 1, "kvlen": 7}]})"),
            "file.json: requests[0].kvlen: unknown key (value 7); known here: count, qo_len, kv_len");
  EXPECT_EQ(refusal_of(R"({"spec": 3, "requests": []})"), "file.json: spec: 3 is not an object; write { ... }");
  EXPECT_EQ(refusal_of("{" + spec + "}"), "file.json: requests: missing; this key is required");
}

}  // namespace
}  // namespace fovea::bench
