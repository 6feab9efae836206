// A plain paged batch with random K and V, for tests that change lengths step by step or look at one request alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "check/random.h"
#include "fovea/fovea.h"

namespace fovea::check {

/// f32 throughout: bits say everything.
class PagedBatch {
 public:
  static constexpr int kPageSize = 16;

  PagedBatch(int num_qo_heads, int num_kv_heads, int head_dim, int num_pages, int max_rows, const char* variant = "causal")
      : random_(7, 0),
        spec_{.num_qo_heads = num_qo_heads,
              .num_kv_heads = num_kv_heads,
              .head_dim_qk = head_dim,
              .q_dtype = DType::f32,
              .k_dtype = DType::f32,
              .v_dtype = DType::f32,
              .o_dtype = DType::f32,
              .variant = variant,
              .formats = {KvFormat::paged(kPageSize)}},
        k_(static_cast<std::size_t>(num_pages * kPageSize * num_kv_heads * head_dim)),
        v_(k_.size()),
        q_(static_cast<std::size_t>(max_rows * num_qo_heads * head_dim)),
        o_(q_.size()),
        lse_(static_cast<std::size_t>(max_rows * num_qo_heads)) {
    for (std::vector<float>* values : {&k_, &v_, &q_}) {
      for (float& value : *values) {
        value = static_cast<float>(random_.normal());
      }
    }
    const std::int64_t heads = num_kv_heads;
    cache_.k = TensorView::contiguous(k_.data(), DType::f32, {num_pages, kPageSize, heads, head_dim});
    cache_.v = TensorView::contiguous(v_.data(), DType::f32, {num_pages, kPageSize, heads, head_dim});
    for (int page = 0; page < num_pages; ++page) {
      pages_.push_back(page);
    }
    random_.shuffle(pages_);
    // Room once, so that setting lengths never allocates.
    qo_indptr_.reserve(1024);
    page_indptr_.reserve(1024);
    kv_len_.reserve(1024);
    sinks_.resize(static_cast<std::size_t>(num_qo_heads));
    for (float& sink : sinks_) {
      sink = static_cast<float>(random_.normal());
    }
  }

  AttentionSpec& spec() { return spec_; }
  Random& random() { return random_; }
  const std::vector<float>& o() const { return o_; }
  const std::vector<float>& lse() const { return lse_; }
  const std::vector<float>& sinks() const { return sinks_; }
  int num_rows() const { return qo_indptr_.back(); }

  void clear() {
    qo_indptr_.assign(1, 0);
    page_indptr_.assign(1, 0);
    kv_len_.clear();
    first_row_ = 0;
    first_page_ = 0;
  }
  /// The request takes the next pages of the pool.
  void add(int qo_len, int kv_len) {
    qo_indptr_.push_back(qo_indptr_.back() + qo_len);
    page_indptr_.push_back(page_indptr_.back() + (kv_len + kPageSize - 1) / kPageSize);
    kv_len_.push_back(kv_len);
  }
  /// Only request `r` of what was added, with its rows and pages where they were.
  void keep_only(int r) {
    const auto i = static_cast<std::size_t>(r);
    first_row_ = qo_indptr_[i];
    first_page_ = page_indptr_[i];
    qo_indptr_ = {0, qo_indptr_[i + 1] - qo_indptr_[i]};
    page_indptr_ = {0, page_indptr_[i + 1] - page_indptr_[i]};
    kv_len_ = {kv_len_[i]};
  }

  Batch batch() {
    tables_ = KvTables{.page_indptr = TensorView::of(page_indptr_),
                       .page_indices = TensorView::of(std::span<const std::int32_t>(pages_).subspan(static_cast<std::size_t>(first_page_))),
                       .kv_len = TensorView::of(kv_len_)};
    return {.qo_indptr = TensorView::of(qo_indptr_), .kv = {&tables_, 1}};
  }

  RunArgs args() {
    const std::int64_t rows = num_rows();
    const std::int64_t row = std::int64_t{spec_.num_qo_heads} * spec_.head_dim_qk;
    RunArgs args{.q = TensorView::contiguous(q_.data() + first_row_ * row, DType::f32, {rows, spec_.num_qo_heads, spec_.head_dim_qk}),
                 .kv = {&cache_, 1},
                 .o = TensorView::contiguous(o_.data() + first_row_ * row, DType::f32, {rows, spec_.num_qo_heads, spec_.head_dim_qk}),
                 .lse = TensorView::contiguous(lse_.data() + first_row_ * spec_.num_qo_heads, DType::f32, {rows, spec_.num_qo_heads})};
    return args;
  }

  Value sink_value() { return {"sink", TensorView::contiguous(sinks_.data(), DType::f32, {spec_.num_qo_heads})}; }
  void forget_outputs() {
    std::fill(o_.begin(), o_.end(), NAN);
    std::fill(lse_.begin(), lse_.end(), NAN);
  }

 private:
  Random random_;
  AttentionSpec spec_;
  std::vector<float> k_, v_, q_, o_, lse_, sinks_;
  std::vector<std::int32_t> pages_, qo_indptr_, page_indptr_, kv_len_;
  int first_row_ = 0, first_page_ = 0;
  KvCache cache_;
  KvTables tables_;
};

}  // namespace fovea::check
