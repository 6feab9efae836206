// Views of tensors: DLPack, slices, caches cut from one tensor, and their texts.
#include "fovea/tensor.h"

#include <gtest/gtest.h>

#include <array>

#include "fovea/error.h"
#include "fovea/kv_cache.h"
#include "fovea/limits.h"
#include "fovea/problem.h"

namespace fovea {
namespace {

template <class F>
std::string message_of(F&& call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "(accepted)";
}

std::array<float, 120> memory;

TensorView cube() { return TensorView::contiguous(memory.data(), DType::f32, {2, 3, 4}); }

TEST(TensorView, ContiguousAndStrided) {
  const TensorView t = cube();
  EXPECT_EQ(t.numel(), 24);
  EXPECT_EQ(t.stride(0), 12);
  EXPECT_TRUE(t.is_contiguous());
  EXPECT_FALSE(TensorView::strided(memory.data(), DType::f32, {2, 3}, {4, 1}).is_contiguous());
  EXPECT_TRUE(TensorView::strided(memory.data(), DType::f32, {1, 3}, {99, 1}).is_contiguous());
  EXPECT_FALSE(TensorView{}.defined());
  EXPECT_EQ(TensorView{}.numel(), 0);
  EXPECT_TRUE(TensorView::contiguous(nullptr, DType::f32, {0, 3}).defined());
}

TEST(TensorView, SliceSelectPermute) {
  const TensorView s = cube().slice(1, 1, 3);
  EXPECT_EQ(s.data, memory.data() + 4);
  EXPECT_EQ(s.dim(1), 2);
  const TensorView one = cube().select(1, 2);
  EXPECT_EQ(one.data, memory.data() + 8);
  EXPECT_EQ(one.to_string(), "f32[2, 4] strides [12, 1] on cpu");
  const TensorView p = cube().permute({2, 0, 1});
  EXPECT_EQ(p.to_string(), "f32[4, 2, 3] strides [1, 12, 4] on cpu");
  EXPECT_EQ(TensorView{}.to_string(), "not given");
}

TEST(TensorView, RefusesWhatIsOutOfBounds) {
  EXPECT_EQ(message_of([] { cube().slice(3, 0, 1); }), "TensorView::slice: axis 3 of a tensor with 3 axes");
  EXPECT_EQ(message_of([] { cube().slice(0, 1, 3); }), "TensorView::slice: [1, 3) is not a range of axis 0 with extent 2");
  EXPECT_EQ(message_of([] { cube().slice(0, 2, 1); }), "TensorView::slice: [2, 1) is not a range of axis 0 with extent 2");
  EXPECT_EQ(message_of([] { cube().select(0, 2); }), "TensorView::select: index 2 of axis 0 with extent 2");
  EXPECT_EQ(message_of([] { cube().select(0, 0).select(0, 0).select(0, 0); }),
            "TensorView::select: the tensor has one axis; none would be left");
  EXPECT_EQ(message_of([] { cube().permute({0, 1}); }), "TensorView::permute: 2 axes given for a tensor with 3");
  EXPECT_EQ(message_of([] { cube().permute({0, 1, 1}); }), "TensorView::permute: axis 1 is given twice");
  EXPECT_EQ(message_of([] { cube().permute({0, 1, -1}); }), "TensorView::permute: axis -1 of a tensor with 3 axes");
  EXPECT_EQ(message_of([] { TensorView::contiguous(nullptr, DType::f32, {2, -1}); }), "TensorView: shape[1] = -1 is negative");
  EXPECT_EQ(message_of([] { TensorView::contiguous(nullptr, DType::f32, {1, 1, 1, 1, 1, 1, 1}); }), "TensorView: 7 axes; at most 6");
  EXPECT_EQ(message_of([] { TensorView::strided(nullptr, DType::f32, {1, 1}, {1}); }), "TensorView::strided: 2 extents but 1 strides");
}

struct Dlpack {
  std::array<std::int64_t, 7> shape{2, 3, 4, 1, 1, 1, 1}, strides{1, 2, 6};
  DLTensor tensor{.data = memory.data(),
                  .device = {kDLCPU, 0},
                  .ndim = 3,
                  .dtype = {kDLFloat, 32, 1},
                  .shape = shape.data(),
                  .strides = nullptr,
                  .byte_offset = 0};
};

TEST(FromDlpack, EveryDtypeOfTheTable) {
  for (int i = 0; i < kNumDTypes; ++i) {
    Dlpack d;
    d.tensor.dtype.code = kDTypeTable[i].dlpack_code;
    d.tensor.dtype.bits = static_cast<std::uint8_t>(kDTypeTable[i].bits);
    EXPECT_EQ(TensorView::from_dlpack(d.tensor).dtype, static_cast<DType>(i));
  }
}

TEST(FromDlpack, StridesOffsetAndDevice) {
  Dlpack d;
  d.tensor.byte_offset = 8;
  EXPECT_TRUE(TensorView::from_dlpack(d.tensor).is_contiguous());
  EXPECT_EQ(TensorView::from_dlpack(d.tensor).data, memory.data() + 2);
  d.tensor.strides = d.strides.data();
  d.tensor.device = {kDLCUDA, 3};
  EXPECT_EQ(TensorView::from_dlpack(d.tensor).to_string(), "f32[2, 3, 4] strides [1, 2, 6] on cuda:3");
  d.tensor.device = {kDLCUDAHost, 0};
  EXPECT_EQ(TensorView::from_dlpack(d.tensor).device, Device{});
}

TEST(FromDlpack, RefusesWhatHasNoRow) {
  Dlpack d;
  d.tensor.ndim = 7;
  EXPECT_EQ(message_of([&] { TensorView::from_dlpack(d.tensor); }), "from_dlpack: 7 axes; 1 to 6 are taken");
  d.tensor.ndim = 3;
  d.shape[1] = -2;
  EXPECT_EQ(message_of([&] { TensorView::from_dlpack(d.tensor); }), "from_dlpack: shape[1] = -2 is negative");
  d.tensor.dtype.lanes = 4;
  EXPECT_EQ(message_of([&] { TensorView::from_dlpack(d.tensor); }),
            "from_dlpack: dtype code 2 has 4 lanes; fovea takes one element a lane");
  d.tensor.dtype = {kDLComplex, 64, 1};
  EXPECT_EQ(message_of([&] { TensorView::from_dlpack(d.tensor); }),
            "from_dlpack: complex64 is none of the dtypes that fovea knows; see fovea/dtype.h");
  d.tensor.dtype = {kDLFloat, 32, 1};
  d.tensor.device = {kDLROCM, 0};
  EXPECT_EQ(message_of([&] { TensorView::from_dlpack(d.tensor); }), "from_dlpack: DLPack device type 10 is neither cpu nor cuda");
}

TEST(KvCache, CutFromOneTensor) {
  const TensorView kv = TensorView::contiguous(memory.data(), DType::f32, {2, 2, 3, 2, 4});
  const KvCache alternating = KvCache::interleaved(kv);
  EXPECT_EQ(alternating.k.to_string(), "f32[2, 3, 2, 4] strides [48, 8, 4, 1] on cpu");
  EXPECT_EQ(alternating.v.data, memory.data() + 24);
  const KvCache halves = KvCache::halves(TensorView::contiguous(memory.data(), DType::f32, {2, 3, 2, 10}), 6);
  EXPECT_EQ(halves.k.to_string(), "f32[2, 3, 2, 6] strides [60, 20, 10, 1] on cpu");
  EXPECT_EQ(halves.v.to_string(), "f32[2, 3, 2, 4] strides [60, 20, 10, 1] on cpu");
  EXPECT_EQ(halves.v.data, memory.data() + 6);
  const KvCache latent = KvCache::v_in_k(TensorView::contiguous(memory.data(), DType::f32, {5, 1, 12}), 8);
  EXPECT_EQ(latent.v.to_string(), "f32[5, 1, 8] strides [12, 12, 1] on cpu");
  EXPECT_EQ(message_of([] { KvCache::interleaved(cube()); }),
            "KvCache::interleaved: kv has 3 axes; it needs 5: [pages, 2, page_size, heads, head_dim], or heads before page_size");
  EXPECT_EQ(message_of([] {
              KvCache::interleaved(TensorView::contiguous(memory.data(), DType::f32, {2, 3, 1, 2, 4}));
            }),
            "KvCache::interleaved: axis 1 of kv has extent 3; it needs 2, K and V");
  EXPECT_EQ(message_of([] { KvCache::halves(cube(), 4); }),
            "KvCache::halves: head_dim_qk 4 does not cut the last axis of kv, extent 4, in two");
  EXPECT_EQ(message_of([&] { KvCache::halves(kv, 4); }), "KvCache::halves: kv has 5 axes; a cache has 3 or 4");
  EXPECT_EQ(message_of([] { KvCache::v_in_k(cube(), 5); }), "KvCache::v_in_k: head_dim_vo 5 is not within the last axis of k, extent 4");
  EXPECT_EQ(message_of([&] { KvCache::v_in_k(kv, 4); }), "KvCache::v_in_k: k has 5 axes; a cache has 3 or 4");
}

TEST(Describe, OneLineEach) {
  AttentionSpec spec{
      .num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 192, .head_dim_vo = 128, .k_dtype = DType::e4m3, .kv_quant = KvQuant::head};
  spec.formats = {KvFormat::paged(16),
                  KvFormat::ragged(),
                  KvFormat::block_sparse(64, 16),
                  {.page_size = 2, .by_index = true, .per_kv_head = true},
                  {.block_rows = 3}};
  EXPECT_EQ(
      spec.to_string(),
      "8 qo heads, 2 kv heads, head_dim 192/128, q bf16 k e4m3 v bf16 o bf16, kv_quant head, variant causal, formats [paged(16), ragged, "
      "block_sparse(64, 16), paged(2) by_index per_kv_head, paged(1) block_rows=3]");
  EXPECT_EQ(Limits{}.to_string(), "requests 256, query tokens 0 (0 a request), kv tokens 0 (0 a request), row groups 0, mask groups 1");
}

}  // namespace
}  // namespace fovea
