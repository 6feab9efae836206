// What append_kv's kernel is given: AppendParams (src/backend.h) without what only the host knows.
#pragma once

#include "portable/batch_view.h"
#include "portable/params.h"

namespace fovea::cuda::append_kv {

/// KvQuant, as device code knows it.
enum class Quant : uint8_t { none, tensor, head, token };

struct Params {
  QView k, v;  // new tokens
  KvView cache;
  Quant quant;
  int32_t slots_64;  // `slots` are int64
  int32_t num_tokens, num_kv_heads, head_dim_qk, head_dim_vo, num_requests;
  int64_t num_pages;  // places outside [0, num_pages) are left alone
  const void* slots;  // null: by request
  const int32_t* append_indptr;
  FormatView tables;
  const int32_t* table;
};

inline constexpr int32_t kWarps = 4;

}  // namespace fovea::cuda::append_kv
