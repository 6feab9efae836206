// append_kv and merge_states on a GPU, against the reference. Skipped where there is none.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <optional>
#include <random>

#include "fovea/fovea.h"

namespace fovea {
namespace {

class CudaOps : public testing::Test {
 protected:
  void SetUp() override {
    try {
      gpu_.emplace(EngineOptions{.backend = "cuda"});
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }

  /// Bytes on the host, and a copy on the GPU.
  struct Pair {
    std::vector<std::byte> host;
    DeviceBuffer device;
    std::vector<std::byte> fetched() const {
      std::vector<std::byte> bytes(host.size());
      device.read(bytes.data(), bytes.size());
      return bytes;
    }
  };
  template <class T>
  Pair& pair_of(const std::vector<T>& values) {
    std::vector<std::byte> bytes(values.size() * sizeof(T));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    Pair& pair = pairs_.emplace_back(Pair{bytes, DeviceBuffer(*gpu_, bytes.size())});
    pair.device.write(bytes.data(), bytes.size());
    return pair;
  }
  TensorView view(Pair& pair, bool on_gpu, DType dtype, std::initializer_list<std::int64_t> shape) const {
    return TensorView::contiguous(on_gpu ? pair.device.data() : pair.host.data(), dtype, shape, on_gpu ? gpu_->device() : Device{});
  }
  std::vector<float> normal(std::size_t count) {
    std::vector<float> values(count);
    for (float& value : values) {
      value = distribution_(random_);
    }
    return values;
  }

  std::optional<Engine> gpu_;
  Engine reference_{EngineOptions{.backend = "reference"}};
  std::deque<Pair> pairs_;
  std::mt19937 random_{7};
  std::normal_distribution<float> distribution_;
};

TEST_F(CudaOps, AppendBySlotGivesTheSameBits) {
  constexpr int kTokens = 11, kHeads = 3, kDim = 40, kPages = 9, kPageSize = 4;
  for (const DType to : {DType::f32, DType::f16, DType::bf16, DType::e4m3, DType::e5m2}) {
    for (const KvQuant quant : {KvQuant::none, KvQuant::tensor, KvQuant::token}) {
      if (quant != KvQuant::none && row_of(to).bits != 8) {
        continue;
      }
      Pair& k = pair_of(normal(kTokens * kHeads * kDim));
      Pair& v = pair_of(normal(kTokens * kHeads * kDim));
      const std::vector<std::byte> empty(static_cast<std::size_t>(bytes_of(to, kPages * kPageSize * kHeads * kDim)), std::byte{0xff});
      Pair& k_cache = pair_of(empty);
      Pair& v_cache = pair_of(empty);
      Pair& k_scale = pair_of(std::vector<float>(kPages * kPageSize * kHeads, -1.0f));
      Pair& v_scale = pair_of(std::vector<float>(kPages * kPageSize * kHeads, -1.0f));
      Pair& slots = pair_of(std::vector<std::int64_t>{35, 0, 7, -1, 12, 8, 9, 10, -5, 20, 1});
      for (const bool on_gpu : {false, true}) {
        AppendArgs args{.k = view(k, on_gpu, DType::f32, {kTokens, kHeads, kDim}),
                        .v = view(v, on_gpu, DType::f32, {kTokens, kHeads, kDim})};
        args.cache.k = view(k_cache, on_gpu, to, {kPages, kPageSize, kHeads, kDim});
        args.cache.v = view(v_cache, on_gpu, to, {kPages, kPageSize, kHeads, kDim});
        args.kv_quant = quant;
        if (quant == KvQuant::tensor) {
          args.cache.k_scale = args.cache.v_scale = Scale(0.037f);
        } else if (quant == KvQuant::token) {
          args.cache.k_scale = Scale(view(k_scale, on_gpu, DType::f32, {kPages, kPageSize, kHeads}));
          args.cache.v_scale = Scale(view(v_scale, on_gpu, DType::f32, {kPages, kPageSize, kHeads}));
        }
        args.slot_mapping = view(slots, on_gpu, DType::i64, {kTokens});
        (on_gpu ? *gpu_ : reference_).append_kv(args);
      }
      for (Pair* pair : {&k_cache, &v_cache, &k_scale, &v_scale}) {
        EXPECT_EQ(pair->fetched(), pair->host) << name_of(to) << ", quant " << static_cast<int>(quant);
      }
    }
  }
}

TEST_F(CudaOps, AppendByRequestGivesTheSameBits) {
  constexpr int kTokens = 5, kHeads = 2, kDim = 64, kPages = 9, kPageSize = 4;
  Pair& k = pair_of(normal(kTokens * kHeads * kDim));
  Pair& cache = pair_of(std::vector<std::byte>(2 * kPages * kPageSize * kHeads * kDim * 2, std::byte{0xff}));
  // Three requests: 3 new tokens over a page boundary, none, 2 that are the request's first.
  Pair& append_indptr = pair_of(std::vector<std::int32_t>{0, 3, 3, 5});
  Pair& kv_len = pair_of(std::vector<std::int32_t>{6, 4, 2});
  Pair& page_indptr = pair_of(std::vector<std::int32_t>{0, 2, 3, 4});
  Pair& page_indices = pair_of(std::vector<std::int32_t>{5, 2, 8, 0});
  for (const bool on_gpu : {false, true}) {
    const TensorView new_tokens = view(k, on_gpu, DType::f32, {kTokens, kHeads, kDim});
    AppendArgs args{.k = new_tokens, .v = new_tokens};
    args.cache = KvCache::interleaved(view(cache, on_gpu, DType::bf16, {kPages, 2, kPageSize, kHeads, kDim}));
    args.append_indptr = view(append_indptr, on_gpu, DType::i32, {4});
    args.tables = {.page_indptr = view(page_indptr, on_gpu, DType::i32, {4}), .page_indices = view(page_indices, on_gpu, DType::i32, {4})};
    args.tables.kv_len = view(kv_len, on_gpu, DType::i32, {3});
    (on_gpu ? *gpu_ : reference_).append_kv(args);
  }
  EXPECT_EQ(cache.fetched(), cache.host);
}

TEST_F(CudaOps, MergeStates) {
  constexpr int kTokens = 7, kHeads = 3, kDim = 80, kStates = 4;
  std::vector<State> states[2];
  for (int s = 0; s < kStates; ++s) {
    Pair& o = pair_of(normal(kTokens * kHeads * kDim));
    std::vector<float> lse = normal(kTokens * kHeads);
    for (int i = 0; i < kTokens * kHeads; ++i) {
      lse[static_cast<std::size_t>(i)] = i == 4 || (i + s) % 3 == 0 ? -INFINITY : lse[static_cast<std::size_t>(i)];
    }
    Pair& lse_pair = pair_of(lse);
    for (const bool on_gpu : {false, true}) {
      states[on_gpu].push_back(
          {.o = view(o, on_gpu, DType::f32, {kTokens, kHeads, kDim}), .lse = view(lse_pair, on_gpu, DType::f32, {kTokens, kHeads})});
    }
  }
  Pair& o = pair_of(std::vector<float>(kTokens * kHeads * kDim, NAN));
  Pair& lse = pair_of(std::vector<float>(kTokens * kHeads, NAN));
  for (const bool on_gpu : {false, true}) {
    (on_gpu ? *gpu_ : reference_)
        .merge_states(states[on_gpu],
                      {.o = view(o, on_gpu, DType::f32, {kTokens, kHeads, kDim}), .lse = view(lse, on_gpu, DType::f32, {kTokens, kHeads})});
  }
  for (Pair* pair : {&o, &lse}) {
    const std::vector<std::byte> got = pair->fetched();
    for (std::size_t i = 0; i < got.size(); i += sizeof(float)) {
      float actual, expected;
      std::memcpy(&actual, got.data() + i, sizeof actual);
      std::memcpy(&expected, pair->host.data() + i, sizeof expected);
      ASSERT_TRUE(actual == expected || std::fabs(actual - expected) < 2e-6f) << i << ": " << actual << ", expected " << expected;
    }
  }
}

TEST_F(CudaOps, DeviceBufferPartsAndFill) {
  Pair& pair = pair_of(normal(1000));
  pair.device.fill(0x3c);
  std::fill(pair.host.begin(), pair.host.end(), std::byte{0x3c});
  const std::vector<std::byte> part(777, std::byte{5});
  pair.device.write(part.data(), part.size(), 1234);
  std::copy(part.begin(), part.end(), pair.host.begin() + 1234);
  EXPECT_EQ(pair.fetched(), pair.host);
  std::vector<std::byte> tail(100);
  pair.device.read(tail.data(), tail.size(), pair.host.size() - tail.size());
  EXPECT_TRUE(std::equal(tail.begin(), tail.end(), pair.host.end() - 100));
}

}  // namespace
}  // namespace fovea
