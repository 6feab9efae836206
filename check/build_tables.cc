#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <span>

#include "check/formats.h"
#include "check/oracle.h"

namespace fovea::check {
namespace {

constexpr int kNoPage = std::numeric_limits<int>::min();  // a table entry that nobody may read

int garbage_entry(Random& random) {
  return random.pick({-1, -7, 1 << 30, std::numeric_limits<int>::max(), std::numeric_limits<int>::min(), 123456789});
}

/// Positions of a set's rows, lowest and highest; false when it has none.
bool row_positions(const Case& c, const RowSet& set, int& lowest, int& highest) {
  lowest = std::numeric_limits<int>::max();
  highest = std::numeric_limits<int>::min();
  for (const int row : set.rows) {
    const DenseRequest& r = c.requests[static_cast<std::size_t>(c.request_of_row[static_cast<std::size_t>(row)])];
    lowest = std::min(lowest, r.q_pos + row - r.qo_begin);
    highest = std::max(highest, r.q_pos + row - r.qo_begin);
  }
  return !set.rows.empty();
}

/// May some row between the set's lowest and highest see this position, by window and causality alone?
bool may_be_seen(const Case& c, const RowSet& set, int position) {
  int lowest, highest;
  if (!row_positions(c, set, lowest, highest)) {
    return false;
  }
  if ((c.rule.causal || c.rule.window_left || c.rule.chunk_size) && position > highest) {
    return false;
  }
  if (c.rule.chunk_size && position / *c.rule.chunk_size < lowest / *c.rule.chunk_size) {
    return false;
  }
  return !c.rule.window_left || position >= lowest - *c.rule.window_left || position < c.rule.num_sink_tokens;
}

/// Pages of one format, and which of them each set has, in column order.
struct Pages {
  int num_pages = 0;
  std::vector<std::vector<int>> of_set;
};

/// Sets take pages in random order; some share their first pages with the set before. Entries that nobody sees may have no page.
Pages deal_pages(const Case& c, Random& random, const FormatDraft& draft) {
  const int page_size = draft.format.page_size;
  const bool garbage = random.percent(60);
  const bool share = random.percent(30);
  Pages pages;
  int wanted = 0;
  for (const RowSet& set : draft.sets) {
    wanted += (set.num_cols + page_size - 1) / page_size;
  }
  pages.num_pages = wanted + random.between(1, 4);
  std::vector<int> free_pages(static_cast<std::size_t>(pages.num_pages));
  std::iota(free_pages.begin(), free_pages.end(), 0);
  random.shuffle(free_pages);
  for (const RowSet& set : draft.sets) {
    std::vector<int> mine((static_cast<std::size_t>(set.num_cols) + static_cast<std::size_t>(page_size) - 1) /
                          static_cast<std::size_t>(page_size));
    const std::size_t num_shared =
        share && !pages.of_set.empty() ? static_cast<std::size_t>(random.below(static_cast<int>(mine.size()) + 1)) : 0;
    for (std::size_t j = 0; j < mine.size(); ++j) {
      bool seen = !garbage;
      const int begin = static_cast<int>(j) * page_size;
      for (int column = begin; column < std::min(begin + page_size, set.num_cols) && !seen; ++column) {
        seen = may_be_seen(c, set, set.kv_pos + column * draft.stride);
      }
      const bool can_share = j < num_shared && j < pages.of_set.back().size() && pages.of_set.back()[j] != kNoPage;
      if (!seen) {
        mine[j] = kNoPage;
      } else if (can_share) {
        mine[j] = pages.of_set.back()[j];
      } else {
        mine[j] = free_pages.back();
        free_pages.pop_back();
      }
    }
    pages.of_set.push_back(std::move(mine));
  }
  return pages;
}

/// by_index: every set picks blocks of one storage, in any order, none twice.
Pages deal_blocks(Random& random, const FormatDraft& draft) {
  Pages pages{.num_pages = draft.num_blocks};
  for (const RowSet& set : draft.sets) {
    std::vector<int> blocks(static_cast<std::size_t>(draft.num_blocks));
    std::iota(blocks.begin(), blocks.end(), 0);
    random.shuffle(blocks);
    blocks.resize(static_cast<std::size_t>(set.num_cols / draft.format.page_size));
    pages.of_set.push_back(std::move(blocks));
  }
  return pages;
}

void write_csr(Case& c, Random& random, const FormatDraft& draft, const Pages& pages, KvTables& t) {
  const int page_size = draft.format.page_size;
  std::vector<int> indptr{0};
  std::vector<int> indices;
  std::vector<int> last_page_len, kv_len;
  bool all_full = true;
  const bool give_kv_len = random.percent(40);
  for (std::size_t s = 0; s < draft.sets.size(); ++s) {
    for (const int page : pages.of_set[s]) {
      indices.push_back(page == kNoPage ? garbage_entry(random) : page);
    }
    for (int spare = give_kv_len && random.percent(30) ? 2 : 0; spare > 0; --spare) {
      indices.push_back(garbage_entry(random));  // kv_len says they hold nothing
    }
    indptr.push_back(static_cast<int>(indices.size()));
    const int cols = draft.sets[s].num_cols;
    last_page_len.push_back(cols == 0 ? 0 : (cols - 1) % page_size + 1);
    kv_len.push_back(cols);
    all_full = all_full && cols % page_size == 0;
  }
  indices.push_back(garbage_entry(random));  // tensors may be larger than what is used
  t.page_indptr = c.memory.integers(indptr);
  t.page_indices = c.memory.integers(indices);
  if (give_kv_len) {
    t.kv_len = c.memory.integers(kv_len);
  } else if (!all_full || random.percent(50)) {
    t.last_page_len = c.memory.integers(last_page_len);
  }
}

void write_2d(Case& c, Random& random, const FormatDraft& draft, const Pages& pages, KvTables& t) {
  const int num_sets = static_cast<int>(draft.sets.size());
  std::size_t width = 1;
  std::vector<int> kv_len;
  for (std::size_t s = 0; s < draft.sets.size(); ++s) {
    width = std::max(width, pages.of_set[s].size());
    kv_len.push_back(draft.sets[s].num_cols);
  }
  width += static_cast<std::size_t>(random.below(3));
  const std::size_t row_stride = width + static_cast<std::size_t>(random.percent(50) ? random.below(4) : 0);
  const bool with_rows = random.percent(50);
  const int num_rows = num_sets + (with_rows ? random.below(4) : 0);
  std::vector<int> row_of(static_cast<std::size_t>(num_rows));
  std::iota(row_of.begin(), row_of.end(), 0);
  if (with_rows) {
    random.shuffle(row_of);
  }
  row_of.resize(static_cast<std::size_t>(num_sets));
  std::vector<int> entries(static_cast<std::size_t>(num_rows) * row_stride);
  for (int& entry : entries) {
    entry = garbage_entry(random);
  }
  for (std::size_t s = 0; s < draft.sets.size(); ++s) {
    for (std::size_t j = 0; j < pages.of_set[s].size(); ++j) {
      if (pages.of_set[s][j] != kNoPage) {
        entries[static_cast<std::size_t>(row_of[s]) * row_stride + j] = pages.of_set[s][j];
      }
    }
  }
  t.page_table = TensorView::strided(c.memory.integers(entries).data, DType::i32, {num_rows, static_cast<std::int64_t>(width)},
                                     {static_cast<std::int64_t>(row_stride), 1});
  if (with_rows) {
    t.table_rows = c.memory.integers(row_of);
  }
  t.kv_len = c.memory.integers(kv_len);
}

/// Tokens of the sets one after the other.
void write_ragged(Case& c, const FormatDraft& draft, KvTables& t) {
  std::vector<int> indptr{0};
  for (const RowSet& set : draft.sets) {
    indptr.push_back(indptr.back() + set.num_cols);
  }
  t.page_indptr = c.memory.integers(indptr);
}

bool seen_by_some_row(const Case& c, const DenseGroup& group, int kv_pos) {
  return std::any_of(group.rows.begin(), group.rows.end(), [&](int row) {
    const int request = c.request_of_row[static_cast<std::size_t>(row)];
    const DenseRequest& r = c.requests[static_cast<std::size_t>(request)];
    const int qo_idx = row - r.qo_begin;
    return (!group.by_index || kv_pos < r.kv_len) && sees(c, request, qo_idx, r.q_pos + qo_idx, kv_pos);
  });
}

void add_group(Case& c, const FormatDraft& draft, const RowSet& set, int pool, const std::vector<std::int64_t>& tokens) {
  DenseGroup group{.pool = pool, .kv_head = set.kv_head, .by_index = draft.format.by_index, .rows = set.rows, .tokens = tokens};
  int longest_kv = 0;
  for (const int row : set.rows) {
    longest_kv = std::max(longest_kv, c.requests[static_cast<std::size_t>(c.request_of_row[static_cast<std::size_t>(row)])].kv_len);
  }
  for (int column = 0; column < set.num_cols; ++column) {
    const std::int64_t token = tokens[static_cast<std::size_t>(column)];
    const int place = draft.format.by_index ? static_cast<int>(token) : column;
    group.positions.push_back(set.kv_pos + place * draft.stride);
    const bool exists = token >= 0 && !set.rows.empty() && (!draft.format.by_index || group.positions.back() < longest_kv);
    if (exists && (!c.hidden_tokens_are_nan || seen_by_some_row(c, group, group.positions.back()))) {
      c.pools[static_cast<std::size_t>(pool)].used[static_cast<std::size_t>(token)] = 1;
    }
  }
  c.groups.push_back(std::move(group));
}

}  // namespace

void build_tables(Case& c, Random& random, const FormatDraft& draft) {
  KvTables t;
  std::vector<std::vector<std::int64_t>> tokens(draft.sets.size());
  std::int64_t num_tokens = 0;
  if (!draft.format.has_table) {
    write_ragged(c, draft, t);
    for (std::size_t s = 0; s < draft.sets.size(); ++s) {
      tokens[s].resize(static_cast<std::size_t>(draft.sets[s].num_cols));
      std::iota(tokens[s].begin(), tokens[s].end(), num_tokens);
      num_tokens += draft.sets[s].num_cols;
    }
    num_tokens += 1 + random.below(4);
  } else {
    const int page_size = draft.format.page_size;
    const Pages pages = draft.format.by_index ? deal_blocks(random, draft) : deal_pages(c, random, draft);
    num_tokens = std::int64_t{pages.num_pages} * page_size;
    for (std::size_t s = 0; s < draft.sets.size(); ++s) {
      for (int column = 0; column < draft.sets[s].num_cols; ++column) {
        const int page = pages.of_set[s][static_cast<std::size_t>(column / page_size)];
        tokens[s].push_back(page == kNoPage ? -1 : std::int64_t{page} * page_size + column % page_size);
      }
    }
    if (draft.two_d) {
      write_2d(c, random, draft, pages, t);
    } else {
      write_csr(c, random, draft, pages, t);
    }
  }
  if (!draft.row_indptr.empty()) {
    t.row_indptr = c.memory.integers(draft.row_indptr);
  }
  if (!draft.row_indices.empty()) {
    t.row_indices = c.memory.integers(draft.row_indices);
  }
  if (draft.give_kv_pos) {
    std::vector<int> kv_pos;
    for (const RowSet& set : draft.sets) {
      kv_pos.push_back(set.kv_pos);
    }
    t.kv_pos = c.memory.integers(kv_pos);
  }
  t.kv_pos_stride = draft.stride;

  const int pool = static_cast<int>(c.pools.size());
  c.pools.push_back({.num_tokens = num_tokens, .used = std::vector<char>(static_cast<std::size_t>(num_tokens), 0)});
  for (std::size_t s = 0; s < draft.sets.size(); ++s) {
    add_group(c, draft, draft.sets[s], pool, tokens[s]);
  }
  c.tables.push_back(t);
  c.spec.formats.push_back(draft.format);
  c.notes.push_back(!draft.format.has_table
                        ? "ragged"
                        : fmt::format("{} page {}{}{}", draft.two_d ? "2d" : "csr", draft.format.page_size,
                                      draft.format.per_kv_head ? " per head" : "",
                                      draft.format.block_rows > 0 ? fmt::format(" rows {}", draft.format.block_rows) : ""));
}

}  // namespace fovea::check
