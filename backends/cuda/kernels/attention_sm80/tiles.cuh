// The kv tiles of an item on their way through a CTA. A warp's strips follow each other: while the products of keys of the next one are
// made, so are the weights of this one; while this one's values are multiplied, the tops of the next one are found.
#pragma once

#include "backends/cuda/kernels/attention_sm80/rule.cuh"

namespace fovea::cuda::attention_sm80 {

/// Columns that some row of a warp may see, and that every row of it sees for certain.
struct alignas(16) WarpColumns {
  Span shortcut;  // the longer one of `all`: tiles inside need no closer look. Empty where all tiles need one
  SpanPair some, all;
};

/// An item on its way through a CTA: what is asked for now and then, in shared memory.
template <Config C>
struct ItemData {
  // The beginning is read for every tile, by address.
  VisibleTiles tiles;  // the same as the source's
  int32_t aligned;     // both caches are
  int32_t count;       // of tiles
  int32_t format;
  int32_t round;  // of for_each_item
  WarpColumns columns[C.warps_q];
  float scale;  // sm_scale * k scale
  WorkItem item;
  TileSource source;
  bool negative;       // the sign of a scale that raise_states() is to see positive went into the queries
  bool may_be_unseen;  // a column that the closed form shows to some row may be seen by none
};
inline constexpr int32_t kAlignedOfItem = 16, kCountOfItem = 20, kColumnsOfWarps = 32;  // places in ItemData
constexpr int32_t scale_of_item(const Config& c) { return kColumnsOfWarps + 48 * c.warps_q; }

template <Config C, class V>
struct ItemWork {
  const KernelParams& params;
  const V& v;
  const typename V::Mask& mask;
  char* shared;

  __device__ __forceinline__ ItemData<C>& data() const { return *reinterpret_cast<ItemData<C>*>(shared + layout_of(C).item); }
  __device__ __forceinline__ const TileSource& source() const { return data().source; }
  __device__ __forceinline__ const KvView& kv() const { return params.kv[data().format]; }
  __device__ __forceinline__ const Row* rows() const { return reinterpret_cast<const Row*>(shared + layout_of(C).rows); }
  __device__ __forceinline__ int32_t num_rows() const { return data().item.row_end - data().item.row_begin; }
};

/// V rows of tile n that no row saw become zeros: they may hold anything, and 0 * NaN is NaN. The whole team takes part; all its warps have
/// marked what they see.
template <Config C>
__device__ __forceinline__ void drop_unseen(const Team<C>& team, int32_t* seen, char* v) {
  constexpr int32_t kPieces = v_row_bytes(C) / 16;
  for (int32_t i = team.thread; i < kWarpCols<C> * kPieces; i += team.kThreads) {
    if (seen[team.first_col() + i / kPieces] == 0) {
      *reinterpret_cast<uint4*>(v + team.first_col() * v_row_bytes(C) + 16 * i) = uint4{0, 0, 0, 0};
    }
  }
  team.sync();
  for (int32_t c = team.thread; c < kWarpCols<C>; c += team.kThreads) {
    seen[team.first_col() + c] = 0;
  }
  team.sync();
}

/// n % kDivisor of n >= 0.
template <int32_t kDivisor>
__device__ __forceinline__ constexpr int32_t remainder(int32_t n) {
  return static_cast<int32_t>(static_cast<uint32_t>(n) % static_cast<uint32_t>(kDivisor));
}

constexpr bool overlap(Span a, Span b) { return a.begin < b.end && b.begin < a.end; }

/// First column of the n-th tile. `item`: shared address of ItemData.
template <Config C>
__device__ __forceinline__ int32_t first_column_of(uint32_t item, int32_t n) {
  const int4 t = ptx::load_shared_16(item);
  return VisibleTiles{{t.x, t.y}, {t.z, t.w}}.tile(n) * C.tile_kv;
}

/// Tiles into shared memory: places are looked up some tiles ahead, keys are copied a tile before values.
template <Config C, class V>
struct TileLoads {
  static constexpr Layout kLayout = layout_of(C);
  static constexpr int32_t kLookup = lookup_tiles(C), kKeysAhead = keys_ahead(C);
  const ItemWork<C, V>& work;
  uint32_t base;
  AskedColumn asked;  // of tiles kKeysAhead + 1 behind a multiple of kLookup, and so on: this thread's column of one of kLookup tiles

  __device__ __forceinline__ bool has_tile(int32_t n) const { return n < ptx::load_shared_4(base + kLayout.item + kCountOfItem); }
  __device__ __forceinline__ AskedColumn ask(int32_t n) const {
    const Team<C> team;
    n += team.lookup_tile();
    if (!has_tile(n)) {
      return AskedColumn{0, -1};
    }
    return ask_for_column(work.source(), first_column_of<C>(base + kLayout.item, n) + team.lookup_col());
  }
  __device__ __forceinline__ void set_places(int32_t n) const {
    const Team<C> team;
    n += team.lookup_tile();
    if (has_tile(n)) {
      place_column<C>(work.kv(), work.source(), asked, remainder<place_tiles(C)>(n) * C.tile_kv + team.lookup_col(),
                      remainder<detail_tiles(C)>(n) * C.tile_kv + team.lookup_col(), work.shared);
    }
  }
  template <bool kValues>
  __device__ __forceinline__ void load(int32_t n) const {
    if (has_tile(n)) {
      load_part<C, kValues>(work.params, ptx::load_shared_4(base + kLayout.item + kAlignedOfItem) != 0, Team<C>{},
                            remainder<place_tiles(C)>(n), remainder<C.stages>(n), work.shared, base);
    }
  }
  /// Queries and the keys of tile 0 in one group, what else has room behind them in another. `rows` of the item are being written.
  __device__ __forceinline__ void begin() {
    static_assert(ceil_div(kKeysAhead + 1, kLookup) * kLookup <= place_tiles(C), "places of the first tiles");
    constexpr int32_t kFirst = ceil_div(C.stages, kLookup) * kLookup;
#pragma unroll 1
    for (int32_t n = 0; n < kFirst; n += kLookup) {
      asked = ask(n);
      set_places(n);
    }
    asked = ask(min_(kFirst, kKeysAhead + 1));
    __syncthreads();  // Order: places are written before they are read
    load_queries<C>(work.params, work.rows(), work.num_rows(), work.data().negative, work.shared + kLayout.q);
    load<false>(0);
    ptx::commit_copies();
    load<true>(0);
    if constexpr (C.stages > 1) {
      load<false>(1);
    }
#pragma unroll 1
    for (int32_t n = kFirst; n <= kKeysAhead; n += kLookup) {
      set_places(n);
      asked = ask(n + kLookup <= kKeysAhead ? n + kLookup : kKeysAhead + 1);
    }
    ptx::commit_copies();
  }
  /// After the last products with the keys of tile n (num_strips > 1) or n + 1, before the first with the values of n: these are there, and
  /// keys of n + 1 or n + 2.
  __device__ __forceinline__ void advance(int32_t n) {
    ptx::wait_for_copies<0>();
    Team<C>{}.sync();  // Order: the team's copies are there, and nobody in it needs what is overwritten next
    load<false>(n + kKeysAhead);
    if (C.stages > 1 && n >= 0) {
      load<true>(n + 1);
    }
    if (n >= 0 && n % kLookup == 0) {
      set_places(n + kKeysAhead + 1);
      asked = ask(n + kKeysAhead + 1 + kLookup);
    }
    ptx::commit_copies();
  }
  /// With one stage, after the last products with the values of tile n: the next ones take their place.
  __device__ __forceinline__ void release_values(int32_t n) const {
    if constexpr (C.stages == 1) {
      ptx::wait_for_copies<0>();
      Team<C>{}.sync();  // Order: as above
      if (n >= 0) {
        load<true>(n + 1);
      }
      ptx::commit_copies();
    }
  }
};

/// What a strip is to a warp.
struct StripView {
  int32_t first_column;
  bool full;   // all its rows see all columns
  bool used;   // some may see some
  bool drops;  // columns of the tile that nobody sees have to be found
};

/// Strip `strip` of tile n.
template <Config C, class V>
__device__ __forceinline__ StripView view_of_strip(const ItemWork<C, V>& work, const Place<C>& place, uint32_t base, int32_t n,
                                                   int32_t strip) {
  constexpr Layout kLayout = layout_of(C);
  const int32_t tile = first_column_of<C>(base + kLayout.item, n);
  const int32_t first = tile + place.first_col + strip * kStripCols<C>;
  const Span columns{first, first + kStripCols<C>};
  const uint64_t shortcut =
      ptx::load_shared_8(base + kLayout.item + kColumnsOfWarps + place.warp_q * static_cast<int32_t>(sizeof(WarpColumns)));
  StripView view{.first_column = first, .full = true, .used = true, .drops = false};
  if (columns.begin < static_cast<int32_t>(shortcut) || static_cast<int32_t>(shortcut >> 32) < columns.end) {
    const ItemData<C>& data = work.data();
    const WarpColumns& mine = data.columns[place.warp_q];
    view.drops = data.may_be_unseen && !data.source.tiles.full.contains({tile, tile + C.tile_kv});
    view.full = !view.drops && mine.all.contains(columns);
    view.used = view.drops || overlap(columns, mine.some.first) || overlap(columns, mine.some.second);
  }
  return view;
}

/// Places of strip `strip` of tile n.
template <Config C, class V>
__device__ __forceinline__ StripRule<C, V> rule_of_strip(const ItemWork<C, V>& work, const Place<C>& place, const StripView& view,
                                                         int32_t n, int32_t strip) {
  constexpr Layout kLayout = layout_of(C);
  const ItemData<C>& data = work.data();
  const int32_t column = place.first_col + strip * kStripCols<C>;
  const int32_t detail = remainder<detail_tiles(C)>(n) * C.tile_kv + column;
  return {.v = work.v,
          .mask = work.mask,
          .range = work.params.range,
          .rows = work.rows(),
          .columns = data.source.columns,
          .positions = reinterpret_cast<const int32_t*>(work.shared + kLayout.positions) + detail,
          .k_scale = reinterpret_cast<const float*>(work.shared + kLayout.k_scale) + detail,
          .seen = view.drops ? reinterpret_cast<int32_t*>(work.shared + kLayout.seen) + n % 2 * C.tile_kv + column : nullptr,
          .first_column = view.first_column,
          .kv_head = data.source.kv_head,
          .scale = data.scale};
}

/// All tiles of the item. `rows` of the item are being written to shared memory.
template <Config C, class V>
__device__ __forceinline__ void attend_tiles(const ItemWork<C, V>& work, States<C>& states) {
  constexpr Layout kLayout = layout_of(C);
  constexpr int32_t kStrips = num_strips(C);
  const uint32_t base = ptx::opaque(ptx::shared_address(work.shared));  // in a register, and not found anew every time
  TileLoads<C, V> loads{.work = work, .base = base};
  loads.begin();
  ptx::wait_for_copies<1>();
  __syncthreads();  // Order: everybody's part of the queries and of the first keys is there
  Queries<C> queries;
  queries.begin(Place<C>{}, base + kLayout.q);
  Scores<C> scores, logits;
  Weights<C> weights;
  drop_logits<C, V>(logits);
  StripView view{.used = false, .drops = false};  // of the strip whose logits are there
  // Before the first strip there is one that nobody needs.
  int32_t n = -1, strip = kStrips - 1;
#pragma unroll 1
  while (true) {
    const Place<C> place;
    const int32_t next_n = strip + 1 < kStrips ? n : n + 1;
    const int32_t next_strip = strip + 1 < kStrips ? strip + 1 : 0;
    const bool more = loads.has_tile(next_n);
    StripView next{.used = false, .drops = false};
    if (more) {
      next = view_of_strip(work, place, base, next_n, next_strip);
    }
    const float* v_scale = reinterpret_cast<const float*>(work.shared + kLayout.v_scale) +
                           remainder<detail_tiles(C)>(max_(n, 0)) * C.tile_kv + place.first_col + strip * kStripCols<C>;
    const auto weigh = [&](int32_t step, int32_t steps) {
      share_of_step<kPairs<C>>(step, steps, [&](int32_t i) { make_weights<C, V>(place, i, v_scale, logits, states, weights); });
    };
    if (next.used) {
      const uint32_t keys = base + kLayout.ring + remainder<C.stages>(next_n) * stage_bytes(C) +
                            (place.first_col + next_strip * kStripCols<C>)*k_row_bytes(C);
      multiply_keys<C>(place, queries, base + kLayout.q, keys, scores, weigh);
      if (!kScalesLate<V> || C.token_scales != 0 || !next.full) {
        apply_rule<C, V>(place, rule_of_strip(work, place, next, next_n, next_strip), next.full, scores);
      }
    } else {
      drop_logits<C, V>(scores);  // nobody looks at them; but they would take registers as long as they may be those of the strip before
      weigh(0, 1);
    }
    if (strip == 0) {
      loads.advance(n);
      if (view.drops) {
        drop_unseen<C>(Team<C>{}, reinterpret_cast<int32_t*>(work.shared + kLayout.seen) + n % 2 * C.tile_kv,
                       work.shared + kLayout.ring + remainder<C.stages>(n) * stage_bytes(C) + C.tile_kv * k_row_bytes(C));
      }
    }
    Tops<C> tops;
    clear<C>(tops);
    const auto find_tops = [&](int32_t step, int32_t steps) {
      if constexpr (V::use_softmax) {
        share_of_step<kPairs<C>>(2 * step, steps, [&](int32_t i) { raise_top<C>(i, scores, tops); });
        share_of_step<kPairs<C>>(2 * step + 1, steps, [&](int32_t i) { raise_top<C>(i, scores, tops); });
        if (step == steps / 2) {
          spread_tops<C>(tops);
        }
      }
    };
    if (view.used) {
      const uint32_t values = base + kLayout.ring + remainder<C.stages>(n) * stage_bytes(C) + C.tile_kv * k_row_bytes(C) +
                              (place.first_col + strip * kStripCols<C>)*v_row_bytes(C);
      multiply_values<C>(place, values, weights, states, find_tops);
    } else if (next.used) {
      find_tops(0, 1);
    }
    if (strip == kStrips - 1) {
      loads.release_values(n);
    }
    if (next.used) {
      const float scale =
          kScalesLate<V> ? __int_as_float(ptx::load_shared_4(base + kLayout.item + scale_of_item(C))) * math::kLog2e : math::kLog2e;
      if constexpr (V::use_softmax) {
        raise_states<C>(scale, tops, states);
      }
      take_logits<C, V>(scale, scores, states, logits);
    } else if (!more) {
      break;
    } else {
      drop_logits<C, V>(logits);
    }
    view = next;
    n = next_n;
    strip = next_strip;
  }
  ptx::wait_for_copies<0>();
}

}  // namespace fovea::cuda::attention_sm80
