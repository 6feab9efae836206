// Requests, row groups and row refs against a naive model that expands every group into its rows and table entries. The views come from
// check_batch(), so that valid batches of every format must also pass its checks.
#include "portable/batch_view.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "src/problem/problem.h"

namespace fovea {
namespace {

using Ints = std::vector<std::int32_t>;

struct TruthRow {
  std::int32_t row, request, q_pos;
  auto operator<=>(const TruthRow&) const = default;
};

/// One group, spelled out.
struct TruthGroup {
  std::vector<std::int32_t> rows;
  std::int32_t tokens = 0;
  std::int64_t table_begin = 0;
  std::int32_t kv_pos = 0;
  std::int32_t kv_head = kAllHeads;
};

enum class Rows { requests, aligned_sets, any_sets, listed, blocks };
enum class Form { csr_last, csr_len, csr_full, table, table_with_rows, ragged };

struct TruthFormat {
  KvFormat format;
  Rows rows = Rows::requests;
  Form form = Form::csr_last;
  std::vector<TruthGroup> groups;
  Ints page_indptr, page_indices, last_page_len, kv_len, page_table, table_rows, row_indptr, row_indices, kv_pos;
  std::int32_t width = 0, table_height = 0, kv_pos_stride = 1;
  bool kv_pos_given = false;
};

struct Truth {
  Ints qo_indptr{0}, kv_len, q_pos;
  bool kv_len_given = false, q_pos_given = false;
  std::vector<TruthFormat> formats;
  std::int32_t num_requests() const { return static_cast<std::int32_t>(qo_indptr.size()) - 1; }
  std::int32_t request_of(std::int32_t row) const {
    std::int32_t r = 0;
    while (!(qo_indptr[static_cast<std::size_t>(r)] <= row && row < qo_indptr[static_cast<std::size_t>(r) + 1])) {
      ++r;
    }
    return r;
  }
};

class Draw {
 public:
  explicit Draw(unsigned seed) : random_(seed) {}
  std::int32_t in(std::int32_t lo, std::int32_t hi) { return std::uniform_int_distribution<std::int32_t>(lo, hi)(random_); }
  bool one_in(int n) { return in(1, n) == 1; }
  void shuffle(Ints& values) { std::shuffle(values.begin(), values.end(), random_); }

 private:
  std::mt19937 random_;
};

constexpr std::int32_t kHeads = 3;

/// Which query tokens are in which row set.
std::vector<Ints> draw_sets(Draw& draw, const Truth& truth, TruthFormat& f, bool all) {
  std::vector<Ints> sets;
  const std::int32_t num_tokens = truth.qo_indptr.back();
  const auto range = [](std::int32_t begin, std::int32_t end) {
    Ints rows(static_cast<std::size_t>(end - begin));
    std::iota(rows.begin(), rows.end(), begin);
    return rows;
  };
  if (f.rows == Rows::requests) {
    for (std::int32_t r = 0; r < truth.num_requests(); ++r) {
      sets.push_back(range(truth.qo_indptr[static_cast<std::size_t>(r)], truth.qo_indptr[static_cast<std::size_t>(r) + 1]));
    }
    return sets;
  }
  if (f.rows == Rows::blocks) {
    for (std::int32_t begin = 0; begin < num_tokens; begin += f.format.block_rows) {
      sets.push_back(range(begin, std::min(num_tokens, begin + f.format.block_rows)));
    }
    return sets;
  }
  Ints order = range(0, all || f.rows == Rows::aligned_sets ? num_tokens : draw.in(0, num_tokens));
  if (f.rows == Rows::listed) {
    draw.shuffle(order);
  }
  f.row_indptr = {0};
  if (f.rows == Rows::aligned_sets) {
    for (const std::int32_t end : truth.qo_indptr) {
      if (draw.one_in(2) || end == num_tokens) {
        f.row_indptr.push_back(end);
      }
    }
  } else {
    while (f.row_indptr.back() < static_cast<std::int32_t>(order.size()) || draw.one_in(4)) {
      f.row_indptr.push_back(std::min(static_cast<std::int32_t>(order.size()), f.row_indptr.back() + draw.in(0, 4)));
    }
  }
  for (std::size_t s = 0; s + 1 < f.row_indptr.size(); ++s) {
    sets.emplace_back(order.begin() + f.row_indptr[s], order.begin() + f.row_indptr[s + 1]);
  }
  if (f.rows == Rows::listed) {
    f.row_indices = order;
    f.row_indices.push_back(-7);  // more than are used
  }
  return sets;
}

void draw_tables(Draw& draw, TruthFormat& f) {
  const std::int32_t page_size = f.format.page_size;
  f.page_indptr = {f.form == Form::table || f.form == Form::table_with_rows ? -1 : 0};
  f.width = 0;
  for (TruthGroup& group : f.groups) {
    group.tokens = f.form == Form::csr_full ? page_size * draw.in(0, 3) : draw.in(0, 20);
    f.width = std::max(f.width, ceil_div(group.tokens, page_size) + draw.in(0, 1));
  }
  f.table_height = static_cast<std::int32_t>(f.groups.size()) + draw.in(0, 3);
  std::int32_t entries = 0;
  for (std::size_t g = 0; g < f.groups.size(); ++g) {
    TruthGroup& group = f.groups[g];
    if (f.form == Form::table || f.form == Form::table_with_rows) {
      f.table_rows.push_back(f.form == Form::table ? static_cast<std::int32_t>(g) : draw.in(0, f.table_height - 1));
      group.table_begin = std::int64_t{f.table_rows.back()} * (f.width + 5);
      f.kv_len.push_back(group.tokens);
      continue;
    }
    group.table_begin = entries;
    entries += f.form == Form::ragged ? group.tokens : ceil_div(group.tokens, page_size) + (f.form == Form::csr_len ? draw.in(0, 2) : 0);
    f.page_indptr.push_back(entries);
    f.last_page_len.push_back(group.tokens == 0 ? draw.in(-5, 99) : (group.tokens - 1) % page_size + 1);
    f.kv_len.push_back(group.tokens);
  }
  f.page_indices.assign(static_cast<std::size_t>(entries) + 2, -1);
  f.page_table.assign(static_cast<std::size_t>(f.table_height) * static_cast<std::size_t>(f.width + 5) + 8, -1);
}

/// Tokens of request r's group in format f: that of its first row; a format of requests has one for a request without rows too.
std::int32_t tokens_in(const Truth& truth, const TruthFormat& f, std::int32_t r) {
  const std::int32_t heads = f.format.per_kv_head ? kHeads : 1;
  if (f.rows == Rows::requests) {
    return f.groups[static_cast<std::size_t>(r * heads)].tokens;
  }
  const std::int32_t row = truth.qo_indptr[static_cast<std::size_t>(r)];
  for (const TruthGroup& group : f.groups) {
    if (row < truth.qo_indptr[static_cast<std::size_t>(r) + 1] && std::count(group.rows.begin(), group.rows.end(), row) > 0) {
      return group.tokens;
    }
  }
  return 0;
}

TruthFormat draw_format(Draw& draw, const Truth& truth, bool composed) {
  TruthFormat f;
  f.rows = static_cast<Rows>(draw.in(0, 4));
  f.form = static_cast<Form>(draw.in(0, 5));
  f.format.page_size = f.form == Form::ragged ? 1 : draw.in(1, 4);
  f.format.has_table = f.form != Form::ragged;
  f.format.per_kv_head = f.format.has_table && draw.one_in(4);
  f.format.block_rows = f.rows == Rows::blocks ? draw.in(1, 5) : 0;
  f.format.by_index = f.format.has_table && draw.one_in(4);
  f.kv_pos_stride = draw.one_in(3) ? draw.in(2, 4) : 1;
  const std::int32_t heads = f.format.per_kv_head ? kHeads : 1;
  for (const Ints& rows : draw_sets(draw, truth, f, !composed)) {
    for (std::int32_t head = 0; head < heads; ++head) {
      f.groups.push_back({.rows = rows, .kv_head = heads > 1 ? head : kAllHeads});
    }
  }
  draw_tables(draw, f);
  return f;
}

/// Positions of keys: given, or where the formats before end, when those say so for every row alike.
void draw_positions(Draw& draw, Truth& truth, std::size_t i) {
  TruthFormat& f = truth.formats[i];
  bool default_is_defined = f.rows == Rows::requests;
  for (std::size_t before = 0; before < i; ++before) {
    const TruthFormat& b = truth.formats[before];
    default_is_defined =
        default_is_defined && (b.rows == Rows::requests || b.rows == Rows::aligned_sets) && !b.format.by_index && !b.format.per_kv_head;
  }
  f.kv_pos_given = draw.one_in(2) || (i > 0 && !default_is_defined && !f.format.by_index);
  for (std::size_t g = 0; g < f.groups.size(); ++g) {
    TruthGroup& group = f.groups[g];
    if (f.kv_pos_given) {
      group.kv_pos = draw.in(0, 50);
    } else if (i > 0 && !f.format.by_index) {
      const std::int32_t r = static_cast<std::int32_t>(g) / (f.format.per_kv_head ? kHeads : 1);
      for (std::size_t before = 0; before < i; ++before) {
        group.kv_pos += tokens_in(truth, truth.formats[before], r);
      }
    }
    f.kv_pos.push_back(group.kv_pos);
  }
}

Truth draw_truth(Draw& draw) {
  Truth truth;
  for (std::int32_t r = draw.in(0, 6); r > 0; --r) {
    truth.qo_indptr.push_back(truth.qo_indptr.back() + draw.in(0, 5));
  }
  const std::int32_t num_formats = draw.one_in(2) ? 1 : draw.in(2, 3);
  for (std::int32_t i = 0; i < num_formats; ++i) {
    truth.formats.push_back(draw_format(draw, truth, num_formats > 1));
  }
  bool sum_is_defined = true;
  for (std::size_t i = 0; i < truth.formats.size(); ++i) {
    const TruthFormat& f = truth.formats[i];
    sum_is_defined =
        sum_is_defined && (f.rows == Rows::requests || f.rows == Rows::aligned_sets) && !f.format.by_index && !f.format.per_kv_head;
    draw_positions(draw, truth, i);
  }
  truth.kv_len_given = !sum_is_defined || draw.one_in(2);
  truth.q_pos_given = draw.one_in(3);
  for (std::int32_t r = 0; r < truth.num_requests(); ++r) {
    std::int32_t tokens = 0;
    for (const TruthFormat& f : truth.formats) {
      tokens += tokens_in(truth, f, r);
    }
    truth.kv_len.push_back(tokens + (truth.kv_len_given ? draw.in(0, 9) : 0));
    const std::int32_t qo_len = truth.qo_indptr[static_cast<std::size_t>(r) + 1] - truth.qo_indptr[static_cast<std::size_t>(r)];
    truth.q_pos.push_back(truth.q_pos_given ? draw.in(-20, 99) : truth.kv_len.back() - qo_len);
  }
  return truth;
}

TensorView view_of(const Ints& values, std::size_t count) {
  static const std::int32_t none = 0;
  return TensorView::of(std::span(values.empty() ? &none : values.data(), count));
}

KvTables tables_of(const TruthFormat& f) {
  KvTables t;
  const std::size_t groups = f.groups.size();
  if (f.form == Form::table || f.form == Form::table_with_rows) {
    t.page_table =
        TensorView::strided(const_cast<std::int32_t*>(f.page_table.data()), DType::i32, {f.table_height, f.width}, {f.width + 5, 1});
    t.kv_len = view_of(f.kv_len, groups);
    if (f.form == Form::table_with_rows) {
      t.table_rows = view_of(f.table_rows, groups);
    }
  } else {
    t.page_indptr = view_of(f.page_indptr, groups + 1);
    if (f.form != Form::ragged) {
      t.page_indices = view_of(f.page_indices, f.page_indices.size());
    }
    if (f.form == Form::csr_last) {
      t.last_page_len = view_of(f.last_page_len, groups);
    } else if (f.form == Form::csr_len) {
      t.kv_len = view_of(f.kv_len, groups);
    }
  }
  if (!f.row_indptr.empty()) {
    t.row_indptr = view_of(f.row_indptr, f.row_indptr.size());
  }
  if (!f.row_indices.empty()) {
    t.row_indices = view_of(f.row_indices, f.row_indices.size());
  }
  if (f.kv_pos_given) {
    t.kv_pos = view_of(f.kv_pos, groups);
  }
  t.kv_pos_stride = f.kv_pos_stride;
  return t;
}

Problem problem_of(const Truth& truth) {
  AttentionSpec spec{.num_qo_heads = 2 * kHeads, .num_kv_heads = kHeads, .head_dim_qk = 8};
  spec.formats.clear();
  for (const TruthFormat& f : truth.formats) {
    spec.formats.push_back(f.format);
  }
  return check_problem(spec, Limits{.max_requests = 8, .max_query_tokens = 64, .max_kv_tokens_per_request = 256, .max_row_groups = 1000},
                       {});
}

std::vector<TruthRow> rows_of(const BatchView& view, const Request* requests, const RowGroup& group) {
  std::vector<TruthRow> rows;
  for (std::int32_t n = 0; n < group.num_q_rows; ++n) {
    if (group.rows < 0) {
      rows.push_back({group.q_row_begin + n, group.request, group.q_pos + n});
    } else {
      const FormatView& f = view.formats[group.format];
      const RowRef ref = make_row_ref(view, requests, f, group, group.rows - f.first_row_ref + n);
      EXPECT_EQ(ref.col_end, group.num_cols);
      rows.push_back({ref.row, ref.request, ref.q_pos});
    }
  }
  return rows;
}

void expect_group(const Truth& truth, const BatchView& view, const Request* requests, std::int32_t i, std::int32_t g) {
  const TruthFormat& f = truth.formats[static_cast<std::size_t>(i)];
  const TruthGroup& expected = f.groups[static_cast<std::size_t>(g)];
  const RowGroup group = make_row_group(view, requests, i, g);
  ASSERT_EQ(group.num_cols, expected.tokens);
  ASSERT_EQ(group.format, i);
  ASSERT_EQ(group.kv_head, expected.kv_head);
  ASSERT_EQ(group.kv_pos_stride, f.kv_pos_stride);
  if (group.num_cols > 0) {
    ASSERT_EQ(group.table_begin, expected.table_begin);
    ASSERT_EQ(group.kv_pos, expected.kv_pos);
  }
  ASSERT_EQ(group.request >= 0 || group.num_q_rows == 0, group.rows < 0);
  std::vector<TruthRow> rows;
  for (const std::int32_t row : expected.rows) {
    const std::int32_t r = truth.request_of(row);
    rows.push_back({row, r, truth.q_pos[static_cast<std::size_t>(r)] + row - truth.qo_indptr[static_cast<std::size_t>(r)]});
  }
  ASSERT_EQ(rows_of(view, requests, group), rows);
}

TEST(BatchView, GroupsAreThoseOfTheModel) {
  Draw draw(11);
  for (int n = 0; n < 6000; ++n) {
    SCOPED_TRACE(n);
    const Truth truth = draw_truth(draw);
    const Problem problem = problem_of(truth);
    std::vector<KvTables> tables;
    for (const TruthFormat& f : truth.formats) {
      tables.push_back(tables_of(f));
    }
    Batch batch{.qo_indptr = TensorView::of(truth.qo_indptr), .kv = tables};
    const std::size_t num_requests = truth.kv_len.size();
    batch.kv_len = truth.kv_len_given ? view_of(truth.kv_len, num_requests) : TensorView{};
    batch.q_pos = truth.q_pos_given ? view_of(truth.q_pos, num_requests) : TensorView{};
    std::uint64_t seen_rows[1];
    const BatchView view = check_batch(problem, batch, Device{}, seen_rows);

    std::vector<Request> requests;
    for (std::int32_t r = 0; r < view.num_requests; ++r) {
      requests.push_back(make_request(view, r));
      ASSERT_EQ(requests.back().qo_begin, truth.qo_indptr[static_cast<std::size_t>(r)]);
      ASSERT_EQ(requests.back().qo_begin + requests.back().qo_len, truth.qo_indptr[static_cast<std::size_t>(r) + 1]);
      ASSERT_EQ(requests.back().kv_len, truth.kv_len[static_cast<std::size_t>(r)]);
      ASSERT_EQ(requests.back().q_pos, truth.q_pos[static_cast<std::size_t>(r)]);
    }
    std::int32_t num_groups = 0;
    for (std::int32_t i = 0; i < view.num_formats; ++i) {
      const FormatView& f = view.formats[i];
      ASSERT_EQ(f.num_groups(), static_cast<std::int32_t>(truth.formats[static_cast<std::size_t>(i)].groups.size()));
      ASSERT_EQ(f.first_group, num_groups);
      num_groups += f.num_groups();
      for (std::int32_t g = 0; g < f.num_groups(); ++g) {
        expect_group(truth, view, requests.data(), i, g);
        if (HasFatalFailure()) {
          return;
        }
      }
    }
  }
}

}  // namespace
}  // namespace fovea
