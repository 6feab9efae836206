// The warpgroup that attends. Operands are swapped: tokens of a kv tile are the rows of a wgmma, packed query rows its columns, so that a
// few query rows waste nothing:  s (64 tokens x rows) = k . q,  o (head_dim x rows) += v transposed . weights.
// Warp w of the four, lane l = 4 g + j, holds of s and of a chunk of o elements [4 n + i]: row 16 w + g + 8 (i / 2), column 8 n + 2 j + i
// % 2.
#pragma once

#include "backends/cuda/device/ptx/barrier.cuh"
#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/device/ptx/wgmma.cuh"
#include "backends/cuda/kernels/attention_sm90_decode/load.cuh"
#include "backends/cuda/kernels/attention_sm90_decode/narrow.cuh"

namespace fovea::cuda::attention_sm90_decode {

/// A top follows a larger logit at once only when it is larger by this much (base 2); else weights may be as large as 2^8, which rounds
/// them no worse and spares a reduction over all warps.
inline constexpr float kSlack = 8.0f;

/// Rows whose weights are made at once: those of 64 together, beside o, would take more registers than there are.
template <Config C>
inline constexpr int32_t kPartRows = C.tile_q > 48 ? C.tile_q / 16 * 8 : C.tile_q;
template <Config C, int32_t kFirstRow>
inline constexpr int32_t kRowsOfPart = kFirstRow == 0 ? kPartRows<C> : C.tile_q - kPartRows<C>;
template <Config C, int32_t kFirstRow>
using Scores = float[kRowsOfPart<C, kFirstRow> / 2];

template <Config C>
struct States {
  float o[num_chunks(C.head_dim_vo)][C.tile_q / 2];
  float top[C.tile_q / 4], sum[C.tile_q / 4];  // of columns 8 n + 2 j + e at 2 n + e; sums of this lane's tokens alone
};

/// Whose thread this is.
struct Place {
  int32_t warp, lane, g, j;
  __device__ __forceinline__ Place() {
    const uint32_t thread = ptx::thread_index();
    lane = static_cast<int32_t>(thread % 32);
    warp = static_cast<int32_t>(thread / 32);
    g = lane / 4;
    j = lane % 4;
  }
  __device__ __forceinline__ int32_t token(int32_t half) const { return 16 * warp + g + 8 * half; }
  /// Of o: the element whose values are in row 16 warp + g + 8 half of a chunk's product. See value_fragments().
  template <bool kNarrow>
  __device__ __forceinline__ int32_t element(int32_t half) const {
    return kNarrow ? 16 * warp + 2 * g + half : token(half);
  }
  __device__ __forceinline__ int32_t column(int32_t c) const { return 8 * (c / 2) + 2 * j + c % 2; }  // of States::top[c]
};

/// An item on its way through the warpgroup.
template <Config C, class V>
struct ItemWork {
  const KernelParams& params;
  const V& v;
  const typename V::Mask& mask;
  const Maps<C.num_formats>& maps;
  const ItemRecord& record;  // in shared memory
  char* shared;
  float scale;  // of products: sm_scale * k scale; times log2(e) where no hook looks at logits

  __device__ __forceinline__ int32_t format() const { return C.num_formats == 1 ? 0 : record.group.format; }
  __device__ __forceinline__ const KvView& kv() const { return params.kv[format()]; }
  /// Were tiles written by threads?
  __device__ __forceinline__ bool gathered() const { return maps.formats[format()].box_rows == 0; }
  __device__ __forceinline__ Row* rows() const { return reinterpret_cast<Row*>(shared + layout_of(C).rows); }
  __device__ __forceinline__ float* exchange() const { return reinterpret_cast<float*>(shared + layout_of(C).exchange); }
  __device__ __forceinline__ int32_t kv_pos(int32_t column) const { return record.columns.kv_pos + column * record.columns.kv_pos_stride; }
};

/// Queries of an item as they are multiplied: chunks of 64 elements, swizzled.
template <Config C>
__device__ __forceinline__ void load_queries(const KernelParams& params, const Row* rows, int32_t num_rows, char* shared) {
  constexpr int32_t kPieces = 8 * num_chunks(C.head_dim_qk);
  const bool whole =
      params.head_dim_qk % 8 == 0 && ((reinterpret_cast<uint64_t>(params.q.data) | static_cast<uint64_t>(params.q.token_stride * 2) |
                                       static_cast<uint64_t>(params.q.head_stride * 2)) &
                                      15) == 0;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < C.tile_q * kPieces; i += kAttendThreads) {
    const int32_t r = i / kPieces;
    const int32_t piece = i - r * kPieces;
    uint4 bits{0, 0, 0, 0};
    if (r < num_rows && 8 * piece < params.head_dim_qk) {
      const Row& row = rows[r];
      const uint16_t* from =
          static_cast<const uint16_t*>(params.q.data) + row.token * params.q.token_stride + row.qo_head * params.q.head_stride + 8 * piece;
      if (whole) {
        bits = *reinterpret_cast<const uint4*>(from);
      } else {
        uint32_t words[4];
        for (int32_t e = 0; e < 8; e += 2) {
          words[e / 2] = (8 * piece + e < params.head_dim_qk ? from[e] : 0u) |
                         (8 * piece + e + 1 < params.head_dim_qk ? static_cast<uint32_t>(from[e + 1]) << 16 : 0u);
        }
        bits = {words[0], words[1], words[2], words[3]};
      }
    }
    const int32_t to = piece / 8 * C.tile_q * kChunkBytes + r * kChunkBytes + ((piece % 8) ^ (r & 7)) * 16;
    *reinterpret_cast<uint4*>(shared + layout_of(C).q + to) = bits;
  }
}

/// Rows of the item and their queries, zeros behind them, into shared memory. Returns what products of them have to be multiplied by.
template <Config C, class V>
__device__ __forceinline__ float load_rows(const ItemWork<C, V>& work) {
  const KernelParams& params = work.params;
  const WorkItem item = work.record.item;
  const RowGroup group = work.record.group;
  const int32_t num_rows = item.row_end - item.row_begin;
  for (int32_t r = static_cast<int32_t>(threadIdx.x); r < C.tile_q; r += kAttendThreads) {
    Row row{};  // sees nothing
    if (r < num_rows) {
      row = make_row(params, group, item.kv_head, item.row_begin + r, ReadEarly());
      row.col_end = min_(row.col_end, item.col_end);
    }
    work.rows()[r] = row;
  }
  ptx::barrier_sync<kItemBarrier, kAttendThreads>();
  ptx::wait_for_previous_grid();  // up to here, in the first item, it has read nothing but the plan; later it returns at once
  float unit = 1.0f;
  if constexpr (is_narrow(C)) {
    unit = load_queries_for_narrow<C>(params, work.rows(), num_rows, work.shared);
  } else {
    load_queries<C>(params, work.rows(), num_rows, work.shared);
  }
  ptx::fence_shared_for_async();
  ptx::barrier_sync<kItemBarrier, kAttendThreads>();
  return unit;
}
/// s = k . q, of the rows of a part; `q` is where the first of them begins.
template <Config C, int32_t kFirstRow>
__device__ __forceinline__ void multiply_keys(uint32_t k, uint32_t q, Scores<C, kFirstRow>& s) {
  if constexpr (is_narrow(C)) {
    multiply_narrow_keys<C>(k, q, s);
    return;
  }
  ptx::keep(s);
  ptx::wgmma_fence();
#pragma unroll
  for (int32_t d = 0; d < C.head_dim_qk; d += 16) {
    const int32_t step = d % 64 * 2;
    ptx::wgmma<C.k, false, false>(s, ptx::wgmma_operand(k + d / 64 * kTileChunkBytes + step, 16, 1024, ptx::Swizzle::bytes_128),
                                  ptx::wgmma_operand(q + d / 64 * C.tile_q * kChunkBytes + step, 16, 1024, ptx::Swizzle::bytes_128), d > 0);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::keep(s);
}

/// o += v transposed . weights
template <Config C>
__device__ __forceinline__ void multiply_values(uint32_t v, uint32_t p, States<C>& states) {
#pragma unroll
  for (int32_t chunk = 0; chunk < num_chunks(C.head_dim_vo); ++chunk) {
    ptx::keep(states.o[chunk]);
  }
  ptx::wgmma_fence();
#pragma unroll
  for (int32_t t = 0; t < kTileKv; t += 16) {
#pragma unroll
    for (int32_t chunk = 0; chunk < num_chunks(C.head_dim_vo); ++chunk) {
      ptx::wgmma<C.v, true, true>(states.o[chunk],
                                  ptx::wgmma_operand(v + chunk * kTileChunkBytes + t * kChunkBytes, 16, 1024, ptx::Swizzle::bytes_128),
                                  ptx::wgmma_operand(p + t * 16, 128, kTileKv * 16, ptx::Swizzle::none), true);
    }
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
#pragma unroll
  for (int32_t chunk = 0; chunk < num_chunks(C.head_dim_vo); ++chunk) {
    ptx::keep(states.o[chunk]);
  }
}

/// Dot products become logits in base 2 (weights where the variant has no softmax). kMasked: some row may not see some column; `seen` then
/// says of this thread's two tokens whether one of its own rows sees them.
template <bool kMasked, int32_t kFirstRow, Config C, class V>
__device__ __forceinline__ void apply_rule(const ItemWork<C, V>& work, const Place& place, int32_t first_column, Scores<C, kFirstRow>& s,
                                           bool (&seen)[2]) {
  constexpr float kUnseen = V::use_softmax ? -math::infinity<float>() : 0.0f;
#pragma unroll
  for (int32_t c = 0; c < kRowsOfPart<C, kFirstRow> / 4; ++c) {
    Row row;
    if constexpr (kMasked || HasTransformLogit<V>) {
      row = work.rows()[kFirstRow + place.column(c)];
    }
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      const int32_t column = first_column + place.token(half);
      float& x = s[4 * (c / 2) + 2 * half + c % 2];
      x *= work.scale;
      if constexpr (HasTransformLogit<V>) {
        x = transformed_logit(work.v, x, position_of(row, work.record.item.kv_head, work.kv_pos(column)));
        x = V::use_softmax ? x * math::kLog2e : x;
      }
      if constexpr (kMasked) {
        const bool visible = column < row.col_end && work.mask.keep(position_of(row, work.record.item.kv_head, work.kv_pos(column)));
        seen[half] = seen[half] || visible;
        x = visible ? x : kUnseen;
      }
    }
  }
}

/// V rows of a masked tile that no row saw become zeros: they may hold anything, and 0 * NaN is NaN. A token's rows are in four lanes.
template <Config C>
__device__ __forceinline__ void drop_unseen(const Place& place, const bool (&seen)[2], char* v) {
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    const uint32_t lanes = __ballot_sync(kAllLanes, seen[half]);
    if ((lanes >> (4 * place.g) & 0xfu) == 0) {
      for (int32_t i = place.j; i < 8 * num_kv_chunks(C, C.head_dim_vo); i += 4) {
        *reinterpret_cast<uint4*>(v + i / 8 * kTileChunkBytes + place.token(half) * kChunkBytes + i % 8 * 16) = uint4{0, 0, 0, 0};
      }
    }
  }
}

/// Moves the tops to the largest logits so far, and the states with them. All four warps.
template <int32_t kFirstRow, Config C, class V>
__device__ __forceinline__ void raise_tops(const ItemWork<C, V>& work, const Place& place, const Scores<C, kFirstRow>& s,
                                           States<C>& states) {
  float* exchange = work.exchange();
#pragma unroll
  for (int32_t c = 0; c < kRowsOfPart<C, kFirstRow> / 4; ++c) {
    float top = fmaxf(s[4 * (c / 2) + c % 2], s[4 * (c / 2) + 2 + c % 2]);
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 4));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 8));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 16));
    if (place.g == 0) {
      exchange[place.warp * C.tile_q + kFirstRow + place.column(c)] = top;
    }
  }
  ptx::barrier_sync<kTileBarrier, kAttendThreads>();
#pragma unroll
  for (int32_t c = 0; c < kRowsOfPart<C, kFirstRow> / 4; ++c) {
    float top = states.top[kFirstRow / 4 + c];
#pragma unroll
    for (int32_t w = 0; w < kAttendWarps; ++w) {
      top = fmaxf(top, exchange[w * C.tile_q + kFirstRow + place.column(c)]);
    }
    const float keep = top == -math::infinity<float>() ? 1.0f : ptx::exp2_approx(states.top[kFirstRow / 4 + c] - top);
    states.top[kFirstRow / 4 + c] = top;
    states.sum[kFirstRow / 4 + c] *= keep;
#pragma unroll
    for (int32_t chunk = 0; chunk < num_chunks(C.head_dim_vo); ++chunk) {
      states.o[chunk][kFirstRow / 2 + 4 * (c / 2) + c % 2] *= keep;
      states.o[chunk][kFirstRow / 2 + 4 * (c / 2) + 2 + c % 2] *= keep;
    }
  }
}

/// Logits become weights in units of 2^top.
template <int32_t kFirstRow, Config C, class V>
__device__ __forceinline__ void update_states(const ItemWork<C, V>& work, const Place& place, Scores<C, kFirstRow>& s, States<C>& states) {
  bool grows = false;
#pragma unroll
  for (int32_t c = 0; c < kRowsOfPart<C, kFirstRow> / 4; ++c) {
    grows = grows || fmaxf(s[4 * (c / 2) + c % 2], s[4 * (c / 2) + 2 + c % 2]) > states.top[kFirstRow / 4 + c] + kSlack;
  }
  if (ptx::barrier_any<kTileBarrier, kAttendThreads>(grows)) {
    raise_tops<kFirstRow>(work, place, s, states);
  }
#pragma unroll
  for (int32_t c = 0; c < kRowsOfPart<C, kFirstRow> / 4; ++c) {
    const float base =
        states.top[kFirstRow / 4 + c] == -math::infinity<float>() ? 0.0f : states.top[kFirstRow / 4 + c];  // -inf - (-inf) is NaN
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      float& x = s[4 * (c / 2) + 2 * half + c % 2];
      x = ptx::exp2_approx(x - base);
      states.sum[kFirstRow / 4 + c] += x;
    }
  }
}

/// Weights of a kv tile for the rows from kFirstRow on.
template <int32_t kFirstRow, Config C, class V>
__device__ __forceinline__ void weigh_tile(const ItemWork<C, V>& work, const Place& place, int32_t first_column, bool full,
                                           const RingPlace<C>& ring, bool (&seen)[2], States<C>& states) {
  constexpr Layout kLayout = layout_of(C);
  Scores<C, kFirstRow> s;
  multiply_keys<C, kFirstRow>(ring.k(), ring.shared + kLayout.q + kFirstRow * kChunkBytes, s);
  if (full) {
    apply_rule<false, kFirstRow>(work, place, first_column, s, seen);
  } else {
    apply_rule<true, kFirstRow>(work, place, first_column, s, seen);
  }
  if constexpr (V::use_softmax) {
    update_states<kFirstRow>(work, place, s, states);
  } else {
    ptx::barrier_sync<kTileBarrier, kAttendThreads>();  // Order: all warps are done with the weights before
  }
  char* p = work.shared + kLayout.p + kFirstRow * kTileKv * 2;
#pragma unroll
  for (int32_t i = 0; i < kRowsOfPart<C, kFirstRow> / 4; ++i) {  // a pair of columns of a token at a time
    *reinterpret_cast<uint32_t*>(p + i / 2 * kTileKv * 16 + place.token(i % 2) * 16 + place.j * 4) =
        ptx::pack_pair<product_type(C)>(s[2 * i], s[2 * i + 1]);
  }
}

template <Config C, class V>
__device__ __forceinline__ void attend_tile(const ItemWork<C, V>& work, const Place& place, int32_t n, const RingPlace<C>& ring, bool last,
                                            States<C>& states) {
  const int32_t first_column = work.record.tiles.tiles.tile(n) * kTileKv;
  const bool full = work.record.tiles.full.contains(Span{first_column, first_column + kTileKv});
  bool seen[2] = {false, false};
  ptx::mbarrier_wait(ring.k_full(), ring.parity);
  if (work.gathered()) {
    ptx::fence_shared_for_async();
  }
  weigh_tile<0>(work, place, first_column, full, ring, seen, states);
  if constexpr (kPartRows<C> < C.tile_q) {
    weigh_tile<kPartRows<C>>(work, place, first_column, full, ring, seen, states);
  }
  if (place.lane == 0 && !last) {
    ptx::mbarrier_arrive(ring.k_empty());
  }
  ptx::mbarrier_wait(ring.v_full(), ring.parity);
  if (!full) {
    drop_unseen<C>(place, seen, work.shared + (ring.v() - ring.shared));
    if constexpr (is_narrow(C)) {
      ptx::barrier_sync<kTileBarrier, kAttendThreads>();  // Order: a warp's values are of all tokens
    }
  }
  if constexpr (is_narrow(C)) {
    multiply_narrow_values<C>(ring.v(), ring.shared + layout_of(C).p, states.o);
  } else {
    ptx::fence_shared_for_async();
    ptx::barrier_sync<kTileBarrier, kAttendThreads>();
    multiply_values<C>(ring.v(), ring.shared + layout_of(C).p, states);
  }
  if (place.lane == 0 && !last) {
    ptx::mbarrier_arrive(ring.v_empty());
  }
}

/// Does o of an item leave through the values of its last tile's stage? Keys are read before anybody multiplies values.
template <Config C>
inline constexpr bool kLeavesThroughValues = out_in_stage(C) && out_bytes(C) > k_tile_bytes(C);

/// Sums of every warp's tokens, tops and o to where write_rows() reads them: o to `out`, the others into `exchange`.
template <Config C, class V>
__device__ __forceinline__ void store_states(const ItemWork<C, V>& work, const Place& place, States<C>& states, float* out) {
  float* exchange = work.exchange();
  if constexpr (kLeavesThroughValues<C> || is_narrow(C)) {
    ptx::barrier_sync<kItemBarrier, kAttendThreads>();  // Order: all warps are done with values and tops
  }
#pragma unroll
  for (int32_t c = 0; c < C.tile_q / 4; ++c) {
    float sum = states.sum[c];
    sum += __shfl_xor_sync(kAllLanes, sum, 4);
    sum += __shfl_xor_sync(kAllLanes, sum, 8);
    sum += __shfl_xor_sync(kAllLanes, sum, 16);
    if (place.g == 0) {
      exchange[place.warp * C.tile_q + place.column(c)] = sum;
      if (place.warp == 0) {
        exchange[kAttendWarps * C.tile_q + place.column(c)] = states.top[c];
      }
    }
#pragma unroll
    for (int32_t i = 0; i < 2 * num_chunks(C.head_dim_vo); ++i) {
      const int32_t d = 64 * (i / 2) + place.element<is_narrow(C)>(i % 2);
      if (out != nullptr && d < out_row_floats(C)) {
        out[place.column(c) * out_row_floats(C) + (d ^ 8 * place.j)] = states.o[i / 2][4 * (c / 2) + 2 * (i % 2) + c % 2];
      }
    }
  }
  ptx::barrier_sync<kItemBarrier, kAttendThreads>();
}

/// A warp a row: what store_states() left, to where the item says.
template <Config C, class V>
__device__ __forceinline__ void write_rows(const ItemWork<C, V>& work, const Place& place, const float* out) {
  const float* exchange = work.exchange();
  const WorkItem item = work.record.item;
  const float v_scale = head_scale(work.kv().v.scale, item.kv_head);
  const int32_t head_dim = work.params.head_dim_vo;
#pragma unroll 1
  for (int32_t r = place.warp; r < item.row_end - item.row_begin; r += kAttendWarps) {
    float sum = 0.0f;
#pragma unroll
    for (int32_t w = 0; w < kAttendWarps; ++w) {
      sum += exchange[w * C.tile_q + r];
    }
    const float top = exchange[kAttendWarps * C.tile_q + r];
    const bool empty = V::use_softmax && sum == 0.0f;  // NaN is no empty state
    const float factor = empty ? 0.0f : V::use_softmax ? v_scale / sum : v_scale;
    const float lse2 = empty ? -math::infinity<float>() : V::use_softmax ? top + math::log2(sum) : 0.0f;
    const Row row = work.rows()[r];
    const RowTarget target = target_of_row(work.params, work.v, item, work.record.group.format, row, r, lse2);
    if (place.lane == 0) {
      write_lse(target);
    }
    const Position<> at = position_of(row, item.kv_head, 0);
#pragma unroll
    for (int32_t d = 4 * place.lane; d < out_row_floats(C); d += 128) {
      float4 o{0.0f, 0.0f, 0.0f, 0.0f};
      if (out != nullptr) {
        o = *reinterpret_cast<const float4*>(out + r * out_row_floats(C) + (d ^ 8 * (r % 8 / 2)));
      }
      if (d < head_dim) {
        write_four(target, work.v, at, d, head_dim, float4{o.x * factor, o.y * factor, o.z * factor, o.w * factor});
      }
    }
  }
}

template <Config C, class V>
__device__ __forceinline__ void attend_item(const KernelParams& params, const Maps<C.num_formats>& maps, const V& v,
                                            const typename V::Mask& mask, const ItemRecord& record, char* shared, RingPlace<C>& ring) {
  const int32_t format = C.num_formats == 1 ? 0 : record.group.format;
  ItemWork<C, V> work{.params = params, .v = v, .mask = mask, .maps = maps, .record = record, .shared = shared, .scale = 0.0f};
  const float unit = load_rows<C>(work);
  work.scale =
      unit * params.sm_scale * head_scale(params.kv[format].k.scale, record.item.kv_head) * (HasTransformLogit<V> ? 1.0f : math::kLog2e);
  const Place place;
  States<C> states;
#pragma unroll
  for (int32_t c = 0; c < C.tile_q / 4; ++c) {
    states.top[c] = -math::infinity<float>();
    states.sum[c] = 0.0f;
#pragma unroll
    for (int32_t i = 0; i < 2 * num_chunks(C.head_dim_vo); ++i) {
      states.o[i / 2][2 * c + i % 2] = 0.0f;
    }
  }
  const int32_t count = work.record.tiles.tiles.count();
  for (int32_t n = 0; n < count; ++n) {
    const bool last = n + 1 == count;
    attend_tile<C>(work, place, n, ring, last, states);
    if (!last) {
      ring.advance();
    }
  }
  constexpr Layout kLayout = layout_of(C);
  float* out = count == 0 ? nullptr : reinterpret_cast<float*>(shared + (out_in_stage(C) ? ring.k() - ring.shared : kLayout.out));
  const Place anew;  // registers
  store_states<C>(work, anew, states, out);
  write_rows<C>(work, anew, out);
  ptx::fence_shared_for_async();                      // Order: o is read before the stage is loaded again
  ptx::barrier_sync<kItemBarrier, kAttendThreads>();  // Order: rows and factors are read before the next item's take their place
  if (count > 0) {
    if (place.lane == 0) {
      ptx::mbarrier_arrive(ring.k_empty());
      ptx::mbarrier_arrive(ring.v_empty());
    }
    ring.advance();
  }
}

/// The attending warpgroup.
template <Config C, class V>
__device__ __forceinline__ void attend(const KernelParams& params, const Maps<C.num_formats>& maps, const V& v,
                                       const typename V::Mask& mask, char* shared) {
  RingPlace<C> ring{ptx::shared_address(shared)};
  QueuePlace<C> queue{shared};
  while (true) {
    ptx::mbarrier_wait(queue.full(), queue.parity());
    const ItemRecord& record = queue.record();
    if (record.item.row_group < 0) {
      return;
    }
    attend_item<C>(params, maps, v, mask, record, shared, ring);
    if (threadIdx.x % 32 == 0) {  // all of the warp are behind a barrier
      ptx::mbarrier_arrive(queue.empty());
    }
    queue.advance();
  }
}

}  // namespace fovea::cuda::attention_sm90_decode
