#include <cmath>

#include "src/problem/error_cases.h"

namespace fovea::test {
namespace {

/// Two parts with a parameter of the same name, beside those that have names of their own.
VariantInfo twin_variant() {
  VariantInfo variant{{}, "a+b", {"a", "b"}};
  variant.param_fields = {{{"slope", FieldType::f32, true, 0, 0},
                           {"slope", FieldType::f32, false, 4, 1},
                           {"count", FieldType::i32, false, 8, 1},
                           {"table", FieldType::table_i32, false, 16, 0},
                           {"bits", FieldType::bit_mask, false, 32, 1},
                           {"angles", FieldType::table_2d_i32, false, 48, 0}},
                          6,
                          72};
  variant.mask_fields = {{{"window", FieldType::i32, false, 0, 0}}, 1, 4};
  return variant;
}

VariantInfo causal() { return {{}, "causal", {"causal"}}; }

VariantInfo sliding_window() {
  VariantInfo variant{{}, "sliding_window", {"sliding_window"}};
  variant.mask_fields = {{{"window_left", FieldType::i32, true, 0, 0}}, 1, 4};
  return variant;
}

struct Fill {
  VariantInfo variant = twin_variant();
  std::vector<Value> values = {{"a.slope", 1.5}};
  std::string_view what = "params";
  Ints numbers = Ints(8);
  alignas(16) std::byte bytes[80] = {};
  void check() {
    fill_fields({.where = what == "mask" ? "plan" : "run", .what = what, .variant = variant, .num_qo_heads = 12, .num_requests = 9}, values,
                bytes);
  }
};

using F = Fill;

std::vector<ErrorCase> name_cases() {
  return {
      wrong<F>("run: variant 'a+b' has no params named 'cuont'; known: a.slope, b.slope, count, table, bits, angles; did you mean 'count'?",
               [](F& f) {
                 f.values.push_back({"cuont", 1});
               }),
      wrong<F>("run: variant 'a+b' has no params named 'temperature'; known: a.slope, b.slope, count, table, bits, angles",
               [](F& f) {
                 f.values.push_back({"temperature", 1});
               }),
      wrong<F>("run: variant 'causal' has no params named 'cap'; it has none",
               [](F& f) {
                 f.variant = causal(), f.values = {{"cap", 30.0f}};
               }),
      wrong<F>("run: 'window' is in the mask of variant 'a+b', not in its params; give it to plan()",
               [](F& f) {
                 f.values.push_back({"window", 1});
               }),
      wrong<F>("plan: 'count' is in the params of variant 'a+b', not in its mask; give it to run()",
               [](F& f) {
                 f.what = "mask", f.values = {{"count", 1}};
               }),
      wrong<F>("run: params 'slope' of variant 'a+b' is a name of two parts; write 'a.slope' or 'b.slope'",
               [](F& f) {
                 f.values = {{"slope", 1.0}};
               }),
      wrong<F>("run: params 'a.slope' is given twice",
               [](F& f) {
                 f.values.push_back({"a.slope", 2.0});
               }),
      wrong<F>("run: params 'b.count' is given twice",
               [](F& f) {
                 f.values.push_back({"count", 1}), f.values.push_back({"b.count", 1});
               }),
      wrong<F>("run: params 'slope' of variant 'a+b' is not given; it has no default", [](F& f) { f.values.clear(); }),
      wrong<F>("plan: mask 'window_left' of variant 'sliding_window' is not given; it has no default",
               [](F& f) { f.variant = sliding_window(), f.what = "mask", f.values.clear(); }),
  };
}

std::vector<ErrorCase> type_cases() {
  return {
      wrong<F>("run: params 'b.slope' is a number but a tensor is given (i32[8] strides [1] on cpu)",
               [](F& f) {
                 f.values.push_back({"b.slope", TensorView::of(f.numbers)});
               }),
      wrong<F>("run: params 'b.slope' = nan; it must be a finite float",
               [](F& f) {
                 f.values.push_back({"b.slope", std::nan("")});
               }),
      wrong<F>("run: params 'b.slope' = 0; it must be above 0",
               [](F& f) {
                 f.variant.param_fields.fields[1].above_zero = true, f.values.push_back({"b.slope", 0.0});
               }),
      wrong<F>("run: params 'b.slope' = 1e+39; it must be a finite float",
               [](F& f) {
                 f.values.push_back({"b.slope", 1e39});
               }),
      wrong<F>("run: params 'count' = 2.5; it must be an integer",
               [](F& f) {
                 f.values.push_back({"count", 2.5});
               }),
      wrong<F>("run: params 'count' = nan; it must be an integer",
               [](F& f) {
                 f.values.push_back({"count", std::nan("")});
               }),
      wrong<F>("run: params 'count' = 4294967296; it must fit 32 bits",
               [](F& f) {
                 f.values.push_back({"count", std::int64_t{1} << 32});
               }),
      wrong<F>("run: params 'count' = 0; it must be at least 1",
               [](F& f) {
                 f.variant.param_fields.fields[2].at_least = 1, f.values.push_back({"count", 0});
               }),
      wrong<F>("run: params 'table' is a tensor of i32 but a number is given",
               [](F& f) {
                 f.values.push_back({"table", 3});
               }),
      wrong<F>("run: params.table has dtype i64; it needs i32",
               [](F& f) {
                 f.values.push_back({"table", TensorView::contiguous(f.numbers.data(), DType::i64, {4})});
               }),
      wrong<F>("run: params.table has 2 axes; it needs one axis",
               [](F& f) {
                 f.values.push_back({"table", TensorView::contiguous(f.numbers.data(), DType::i32, {2, 4})});
               }),
      wrong<F>("run: params.table has innermost stride 2; it must be 1",
               [](F& f) {
                 f.values.push_back({"table", TensorView::strided(f.numbers.data(), DType::i32, {4}, {2})});
               }),
      wrong<F>("run: params 'table' has 0 entries; a table has 1 to 2147483647",
               [](F& f) {
                 f.values.push_back({"table", TensorView::of(f.numbers).slice(0, 0, 0)});
               }),
      wrong<F>("run: params 'table' has 8 entries; it needs num_qo_heads = 12",
               [](F& f) {
                 f.variant.param_fields.fields[3].extent = Extent::qo_heads, f.values.push_back({"table", TensorView::of(f.numbers)});
               }),
      wrong<F>("run: params 'table' has 8 entries; it needs num_requests + 1 = 10",
               [](F& f) {
                 f.variant.param_fields.fields[3].extent = Extent::request_bounds, f.values.push_back({"table", TensorView::of(f.numbers)});
               }),
      wrong<F>("run: params.bits has dtype i32; it needs u8",
               [](F& f) {
                 f.values.push_back({"bits", TensorView::of(f.numbers)});
               }),
      wrong<F>("run: params.bits is on cuda:0 but the engine runs on cpu",
               [](F& f) {
                 f.values.push_back({"bits", TensorView::contiguous(f.numbers.data(), DType::u8, {4}, {DeviceType::cuda, 0})});
               }),
  };
}

std::vector<ErrorCase> matrix_cases() {
  return {
      wrong<F>("run: params 'angles' is a tensor of i32 with two dimensions but a number is given",
               [](F& f) {
                 f.values.push_back({"angles", 3});
               }),
      wrong<F>("run: params.angles has 1 axes; it needs two axes",
               [](F& f) {
                 f.values.push_back({"angles", TensorView::of(f.numbers)});
               }),
      wrong<F>("run: params.angles has dtype i64; it needs i32",
               [](F& f) {
                 f.values.push_back({"angles", TensorView::contiguous(f.numbers.data(), DType::i64, {2, 2})});
               }),
      wrong<F>("run: params.angles has innermost stride 4; it must be 1",
               [](F& f) {
                 f.values.push_back({"angles", TensorView::strided(f.numbers.data(), DType::i32, {4, 2}, {1, 4})});
               }),
      wrong<F>("run: params 'angles' has 2 columns; it needs an even number, at most head_dim_qk = 0",
               [](F& f) {
                 f.variant.param_fields.fields[5].extent = Extent::rotary;
                 f.values.push_back({"angles", TensorView::contiguous(f.numbers.data(), DType::i32, {4, 2})});
               }),
      wrong<F>("run: params 'angles' has 0 x 4 entries; a table has 1 to 2147483647 each way",
               [](F& f) {
                 f.values.push_back({"angles", TensorView::contiguous(f.numbers.data(), DType::i32, {0, 4})});
               }),
  };
}

}  // namespace

std::vector<ErrorCase> values_error_cases() {
  std::vector<ErrorCase> cases = name_cases();
  for (const std::vector<ErrorCase>& more : {type_cases(), matrix_cases()}) {
    cases.insert(cases.end(), more.begin(), more.end());
  }
  return cases;
}

}  // namespace fovea::test
