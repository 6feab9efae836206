// append_kv() by slot and by request, against the same bits worked out here: nearest even of value / scale, and not a byte beside them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "check/case.h"
#include "check/number.h"
#include "check/random.h"
#include "check/storage.h"
#include "tests/conformance/on_engine.h"
#include "tests/conformance/targets.h"

namespace fovea::check {
namespace {

constexpr int kPages = 9, kPageSize = 4, kHeads = 3;

struct Kind {
  DType from, to;
  KvQuant quant;
  KvLayout layout;
};

/// New tokens, an empty cache of NaN, and where each token must go.
struct Append {
  Append(Random& random, const Kind& kind, int num_tokens) : kind(kind), num_tokens(num_tokens) {
    const std::int64_t inner = kind.layout == KvLayout::nhd ? kHeads : kPageSize,
                       middle = kind.layout == KvLayout::nhd ? kPageSize : kHeads;
    args.cache.layout = kind.layout;
    args.kv_quant = kind.quant;
    for (const bool is_v : {false, true}) {
      const int dim = head_dim(is_v);
      TensorView& in = is_v ? args.v : args.k;
      TensorView& cache = is_v ? args.cache.v : args.cache.k;
      Scale& scale = is_v ? args.cache.v_scale : args.cache.k_scale;
      in = padded_tensor(memory, random, kind.from, {num_tokens, kHeads, dim});
      for (int t = 0; t < num_tokens; ++t) {
        for (int h = 0; h < kHeads; ++h) {
          for (int i = 0; i < dim; ++i) {
            // A row of zeros now and then: a scale per token has nothing to divide by.
            encode(kind.from, in.data, t * in.stride(0) + h * in.stride(1) + i, t == 2 ? 0.0 : 3 * random.normal());
          }
        }
      }
      // Contiguous: the whole memory is then rows that are compared.
      cache =
          TensorView::contiguous(memory.take(bytes_of(kind.to, kPages * kPageSize * kHeads * dim)), kind.to, {kPages, middle, inner, dim});
      if (kind.quant == KvQuant::tensor) {
        scale = Scale(0.037f);
      } else if (kind.quant == KvQuant::head) {
        scale = Scale(memory.floats({0.02f, 0.05f, 0.11f}));
      } else if (kind.quant == KvQuant::token) {
        scale = Scale(TensorView::contiguous(memory.take(4 * kPages * kPageSize * kHeads), DType::f32, {kPages, middle, inner}));
      }
    }
  }

  static int head_dim(bool is_v) { return is_v ? 24 : 40; }
  std::int64_t row_index(std::int64_t slot, int head) const {
    return kind.layout == KvLayout::nhd ? slot * kHeads + head : (slot / kPageSize * kHeads + head) * kPageSize + slot % kPageSize;
  }

  /// Bytes of the cache and its scales after the call. `slots`: per token, negative: skipped.
  void expect(const std::vector<std::int64_t>& slots) {
    for (const bool is_v : {false, true}) {
      const int dim = head_dim(is_v);
      const TensorView& in = is_v ? args.v : args.k;
      const TensorView& cache = is_v ? args.cache.v : args.cache.k;
      const Scale& scale = is_v ? args.cache.v_scale : args.cache.k_scale;
      std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_of(kind.to, cache.numel())), std::byte{0xff});
      std::vector<float> scales(kPages * kPageSize * kHeads, NAN);
      for (int t = 0; t < num_tokens; ++t) {
        for (int h = 0; h < kHeads && slots[static_cast<std::size_t>(t)] >= 0; ++h) {
          const std::int64_t in_row = t * in.stride(0) + h * in.stride(1);
          const std::int64_t row = row_index(slots[static_cast<std::size_t>(t)], h);
          float divisor = kind.quant == KvQuant::tensor ? scale.number : kind.quant == KvQuant::head ? scale.tensor.as<float>()[h] : 1.0f;
          if (kind.quant == KvQuant::token) {
            float top = 0;
            for (int i = 0; i < dim; ++i) {
              top = std::max(top, static_cast<float>(std::fabs(decode(kind.from, in.data, in_row + i))));
            }
            divisor = top > 0 ? top / static_cast<float>(largest(kind.to)) : 1.0f;
            scales[static_cast<std::size_t>(row)] = divisor;
          }
          for (int i = 0; i < dim; ++i) {
            encode(kind.to, bytes.data(), row * dim + i, static_cast<float>(decode(kind.from, in.data, in_row + i)) / divisor);
          }
        }
      }
      EXPECT_EQ(std::memcmp(bytes.data(), cache.data, bytes.size()), 0)
          << (is_v ? "v " : "k ") << name_of(kind.from) << " to " << name_of(kind.to) << ", quant " << static_cast<int>(kind.quant);
      for (std::size_t i = 0; kind.quant == KvQuant::token && i < scales.size(); ++i) {
        const float got = scale.tensor.as<float>()[i];
        ASSERT_TRUE(got == scales[i] || (std::isnan(got) && std::isnan(scales[i])))
            << "scale " << i << ": " << got << ", expected " << scales[i];
      }
    }
  }

  Kind kind;
  int num_tokens;
  Memory memory;
  AppendArgs args;
};

void append_on(const Engine& engine, const AppendArgs& args) {
  OnEngine on(engine);
  AppendArgs moved = args;
  moved.k = on(args.k);
  moved.v = on(args.v);
  moved.cache = on(args.cache);
  moved.slot_mapping = on(args.slot_mapping);
  moved.append_indptr = on(args.append_indptr);
  KvTables& t = moved.tables;
  for (TensorView* tensor : {&t.page_indptr, &t.page_indices, &t.page_table, &t.table_rows, &t.last_page_len, &t.kv_len}) {
    *tensor = on(*tensor);
  }
  engine.append_kv(moved);
  on.fetch();
}

std::vector<Kind> all_kinds() {
  std::vector<Kind> kinds;
  for (const DType from : {DType::f32, DType::f16, DType::bf16}) {
    for (const DType to : {DType::f32, DType::f16, DType::bf16, DType::e4m3, DType::e5m2}) {
      for (const KvLayout layout : {KvLayout::nhd, KvLayout::hnd}) {
        kinds.push_back({from, to, KvQuant::none, layout});
        for (const KvQuant quant : {KvQuant::tensor, KvQuant::head, KvQuant::token}) {
          if (row_of(to).bits == 8) {
            kinds.push_back({from, to, quant, layout});
          }
        }
      }
    }
  }
  return kinds;
}

class AppendKv : public testing::TestWithParam<Target> {};

TEST_P(AppendKv, BySlot) {
  const Engine engine(GetParam().options);
  Random random(9, 0);
  for (const Kind& kind : all_kinds()) {
    const std::vector<std::int64_t> slots{35, 0, 7, -1, 12, 8, 9, 10, -5, 20, 1};
    Append append(random, kind, static_cast<int>(slots.size()));
    const std::vector<std::int32_t> narrow(slots.begin(), slots.end());
    append.args.slot_mapping = random.percent(50) ? TensorView::of(slots) : TensorView::of(narrow);
    append_on(engine, append.args);
    append.expect(slots);
  }
}

TEST_P(AppendKv, ByRequest) {
  const Engine engine(GetParam().options);
  Random random(10, 0);
  // Three requests: 3 new tokens over a page boundary, none, 2 that are the request's first.
  const std::vector<std::int32_t> append_indptr{0, 3, 3, 5}, kv_len{6, 4, 2}, page_indptr{0, 2, 3, 4}, page_indices{5, 2, 8, 0};
  const std::vector<std::int32_t> last_page_len{2, 4, 2}, table_rows{2, 0, 1}, table{8, -1, 0, -1, 5, 2};
  const std::vector<std::int64_t> slots{5 * 4 + 3, 2 * 4 + 0, 2 * 4 + 1, 0, 1};
  for (const Kind& kind : all_kinds()) {
    for (int form = 0; form < 3; ++form) {
      Append append(random, kind, 5);
      append.args.append_indptr = TensorView::of(append_indptr);
      KvTables& t = append.args.tables;
      if (form < 2) {
        t = {.page_indptr = TensorView::of(page_indptr), .page_indices = TensorView::of(page_indices)};
        (form == 0 ? t.kv_len : t.last_page_len) = TensorView::of(form == 0 ? kv_len : last_page_len);
      } else {
        t.page_table = TensorView::contiguous(const_cast<std::int32_t*>(table.data()), DType::i32, {3, 2});
        t.table_rows = TensorView::of(table_rows);
        t.kv_len = TensorView::of(kv_len);
      }
      append_on(engine, append.args);
      append.expect(slots);
    }
  }
}

// One row for all requests: 2 are the first of its 6 tokens, in its first page; 2 the last, in the second.
TEST_P(AppendKv, ByRequestWithOneTableRow) {
  const Engine engine(GetParam().options);
  Random random(11, 0);
  const std::vector<std::int32_t> append_indptr{0, 2, 4}, kv_len{2, 6}, table{5, 2};
  const std::vector<std::int64_t> slots{5 * 4 + 0, 5 * 4 + 1, 2 * 4 + 0, 2 * 4 + 1};
  for (const Kind& kind : all_kinds()) {
    Append append(random, kind, 4);
    append.args.append_indptr = TensorView::of(append_indptr);
    append.args.tables.page_table = TensorView::strided(const_cast<std::int32_t*>(table.data()), DType::i32, {2, 2}, {0, 1});
    append.args.tables.kv_len = TensorView::of(kv_len);
    append_on(engine, append.args);
    append.expect(slots);
  }
}

INSTANTIATE_TEST_SUITE_P(All, AppendKv, testing::ValuesIn(device_targets()), name_of_target);

}  // namespace
}  // namespace fovea::check
