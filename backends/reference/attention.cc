// What attention is: for every query token and head, gather the columns it sees over all formats, weigh them, sum the values, finalise
// once.
#include <cmath>
#include <limits>
#include <vector>

#include "backends/reference/backend.h"
#include "generated/builtin_variants.h"
#include "portable/convert.h"
#include "src/support/check.h"

namespace fovea::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A query token as one group sees it.
struct RowPlace {
  const RowGroup* group;
  int32_t request, q_pos, col_end;
};

struct Row {
  int32_t request = -1, q_pos = 0;
  std::vector<RowPlace> places;
};

/// By query token. A token no group and no composed row names has request -1: nothing is written for it.
std::vector<Row> rows_of(const PlanArrays& plan, bool composed) {
  std::vector<Row> rows;
  const auto add = [&rows](int32_t row, int32_t request, int32_t q_pos) -> Row& {
    if (static_cast<std::size_t>(row) >= rows.size()) {
      rows.resize(static_cast<std::size_t>(row) + 1);
    }
    rows[row].request = request;
    rows[row].q_pos = q_pos;
    return rows[row];
  };
  for (int32_t g = 0; g < *plan.num_groups; ++g) {
    const RowGroup& group = plan.groups[g];
    for (int32_t i = 0; i < group.num_q_rows; ++i) {
      const RowRef ref =
          group.rows >= 0 ? plan.row_refs[group.rows + i] : RowRef{group.q_row_begin + i, group.request, group.q_pos + i, group.num_cols};
      add(ref.row, ref.request, ref.q_pos).places.push_back({&group, ref.request, ref.q_pos, min_(ref.col_end, group.num_cols)});
    }
  }
  for (int32_t i = 0; composed && i < *plan.num_composed; ++i) {
    add(plan.composed[i].row, plan.composed[i].request, plan.composed[i].q_pos);
  }
  return rows;
}

struct Slot {
  int64_t page;
  int32_t slot;
};

Slot slot_of(const KvView& kv, const RowGroup& group, int32_t column) {
  if (kv.table == nullptr) {
    return {group.table_begin + column, 0};
  }
  return {kv.table[group.table_begin + column / kv.page_size], column % kv.page_size};
}

double scale_at(const ScaleView& scale, Slot at, int32_t head) {
  return scale.data == nullptr ? scale.number
                               : scale.data[at.page * scale.page_stride + at.slot * scale.token_stride + head * scale.head_stride];
}

/// Perf: with the dtype known the loop is vector code; a replay's checks spend most of their time here.
template <DType T>
void load_row(const void* data, int64_t index, double scale, std::vector<double>& row) {
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i] = to_double(T, data, index + static_cast<int64_t>(i)) * scale;
  }
}

/// A token's key or value, dequantised.
void load_token(const CacheView& cache, Slot slot, const Position<>& at, int32_t head_dim, std::vector<double>& row) {
  const int64_t index = slot.page * cache.page_stride + slot.slot * cache.token_stride + at.kv_head * cache.head_stride;
  row.resize(static_cast<std::size_t>(head_dim));
  const double scale = scale_at(cache.scale, slot, at.kv_head);
  switch (cache.dtype) {
    case DType::f32:
      return load_row<DType::f32>(cache.data, index, scale, row);
    case DType::f16:
      return load_row<DType::f16>(cache.data, index, scale, row);
    case DType::bf16:
      return load_row<DType::bf16>(cache.data, index, scale, row);
    case DType::e4m3:
      return load_row<DType::e4m3>(cache.data, index, scale, row);
    case DType::e5m2:
      return load_row<DType::e5m2>(cache.data, index, scale, row);
    default:
      FOVEA_ASSERT(false, "K or V of dtype {}", name_of(cache.dtype));
  }
}

/// Keys and values of a token are the same for all queries.
Position<> position_of_token(const Position<>& at) {
  Position<> of_token{};
  of_token.kv_pos = at.kv_pos;
  of_token.kv_head = at.kv_head;
  return of_token;
}

/// One query token's head.
struct Query {
  const Row& places;
  std::vector<double> q;  // dequantised and transformed
  Position<> at;
};

Query load_query(const KernelParams& p, const Hooks& v, const Row& places, int32_t row, const Position<>& at) {
  Query query{places, std::vector<double>(static_cast<std::size_t>(p.head_dim_qk)), at};
  for (int32_t i = 0; i < p.head_dim_qk; ++i) {
    query.q[i] = to_double(p.q.dtype, p.q.data, row * p.q.token_stride + at.qo_head * p.q.head_stride + i) * p.q_scale;
  }
  if (v.transform_query != nullptr) {
    v.transform_query(p.mask, p.variant_params, query.q.data(), p.head_dim_qk, at);
  }
  return query;
}

/// Calls visit(kv, slot, position, logit) for every key that the query sees, format by format, column by column.
template <class Visit>
void for_each_key(const KernelParams& p, const Hooks& v, const Query& query, const Visit& visit) {
  std::vector<double> k;
  Position<> at = query.at;
  const Row& places = query.places;
  for (const RowPlace& place : places.places) {
    const RowGroup& group = *place.group;
    const KvView& kv = p.kv[group.format];
    if (group.kv_head != kAllHeads && group.kv_head != at.kv_head) {
      continue;
    }
    for (int32_t column = 0; column < place.col_end; ++column) {
      at.q_pos = place.q_pos;
      at.kv_pos = group.kv_pos + column * group.kv_pos_stride;
      if (kv.by_index) {
        const Slot slot = slot_of(kv, group, column);
        at.kv_pos = group.kv_pos + static_cast<int32_t>(slot.page * kv.page_size + slot.slot) * group.kv_pos_stride;
        if (at.kv_pos >= at.kv_len) {
          continue;
        }
      }
      if (!v.keep(p.mask, at)) {
        continue;  // before its table entry is read
      }
      const Slot slot = slot_of(kv, group, column);
      load_token(kv.k, slot, at, p.head_dim_qk, k);
      if (v.transform_key != nullptr) {
        v.transform_key(p.mask, p.variant_params, k.data(), p.head_dim_qk, position_of_token(at));
      }
      double dot = 0;
      for (int32_t i = 0; i < p.head_dim_qk; ++i) {
        dot += query.q[i] * k[i];
      }
      visit(kv, slot, at, v.transform_logit(p.mask, p.variant_params, dot * double{p.sm_scale}, at));
    }
  }
}

struct Result {
  std::vector<double> o;
  double lse = -kInfinity, lse_with_extra = -kInfinity;
};

Result attend_row(const KernelParams& p, const Hooks& v, const Query& query) {
  double top = -kInfinity;
  bool empty = v.use_softmax;  // a sum of weights is a sum with nothing in it too: 0, which transform_output() is given
  for_each_key(p, v, query, [&](const KvView&, Slot, const Position<>&, double logit) {
    top = max_(top, logit);
    empty = empty && logit == -kInfinity;  // NaN is something to see: it comes out
  });

  Result r{.o = std::vector<double>(static_cast<std::size_t>(p.head_dim_vo))};
  if (empty) {
    return r;  // nothing to see: o = 0, lse = -inf, with a sink too
  }
  double sum = 0;
  std::vector<double> value;
  for_each_key(p, v, query, [&](const KvView& kv, Slot slot, const Position<>& at, double logit) {
    const double weight = v.use_softmax ? std::exp(logit - top) : logit;
    sum += weight;
    load_token(kv.v, slot, at, p.head_dim_vo, value);
    if (v.transform_value != nullptr) {
      v.transform_value(p.mask, p.variant_params, value.data(), p.head_dim_vo, position_of_token(at));
    }
    for (int32_t i = 0; i < p.head_dim_vo; ++i) {
      r.o[i] += weight * value[i];
    }
  });
  r.lse = top + std::log(sum);  // without softmax nobody asks for it
  r.lse_with_extra = r.lse;
  const double extra = v.extra_logit(p.mask, p.variant_params, query.at);
  if (extra > -kInfinity) {
    const double both = max_(r.lse, extra);
    r.lse_with_extra = both + std::log(std::exp(r.lse - both) + std::exp(extra - both));
  }
  const double total = p.write_states ? r.lse : r.lse_with_extra;
  for (double& o : r.o) {
    o *= v.use_softmax ? std::exp(r.lse - total) / sum : 1.0;
    o = p.write_states ? o : v.transform_output(p.mask, p.variant_params, o, query.at);
  }
  return r;
}

}  // namespace

void attend(const KernelParams& p, const Hooks& v) {
  const std::vector<Row> rows = rows_of(p.plan, p.num_formats > 1);
  for (int32_t row = 0; row < static_cast<int32_t>(rows.size()); ++row) {
    if (rows[row].request < 0) {
      continue;
    }
    const Request& request = p.plan.requests[rows[row].request];
    for (int32_t head = 0; head < p.num_qo_heads; ++head) {
      const Position<> at{.request = rows[row].request,
                          .qo_idx = row - request.qo_begin,
                          .q_pos = rows[row].q_pos,
                          .kv_pos = 0,
                          .qo_head = head,
                          .kv_head = head / p.group_size,
                          .qo_len = request.qo_len,
                          .kv_len = request.kv_len};
      const Result r = attend_row(p, v, load_query(p, v, rows[row], row, at));
      for (int32_t i = 0; i < p.head_dim_vo; ++i) {
        from_double(p.out.dtype, p.out.o, row * p.out.token_stride + head * p.out.head_stride + i, r.o[i]);
      }
      if (p.out.lse != nullptr) {
        const double lse = p.lse_with_extra && !p.write_states ? r.lse_with_extra : r.lse;
        p.out.lse[row * p.out.lse_token_stride + head * p.out.lse_head_stride] =
            static_cast<float>(p.lse_base2 ? lse / std::log(2.0) : lse);
      }
    }
  }
}

const Hooks& builtin_hooks(std::string_view variant_name) {
#define FOVEA_UNPARENTHESISED(...) __VA_ARGS__
#define FOVEA_BUILTIN_VARIANT(name, Type)        \
  if (variant_name == name) {                    \
    return kHooksOf<FOVEA_UNPARENTHESISED Type>; \
  }
#include "generated/builtin_variants.inc"
#undef FOVEA_BUILTIN_VARIANT
#undef FOVEA_UNPARENTHESISED
  FOVEA_ASSERT(false, "variant '{}' is listed but the reference has no hooks of it", variant_name);
}

}  // namespace fovea::reference
