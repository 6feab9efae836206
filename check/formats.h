// The kinds of KV a batch can have, drawn at random: first who sees which tokens, then tables that say so.
#pragma once

#include <string>
#include <vector>

#include "check/case.h"
#include "check/random.h"

namespace fovea::check {

/// Rows that share columns, before there are tables.
struct RowSet {
  std::vector<int> rows;
  int num_cols = 0;
  int kv_pos = 0;
  int kv_head = -1;
};

struct FormatDraft {
  KvFormat format;
  std::vector<RowSet> sets;  // by_index formats: num_cols is a number of whole blocks
  bool two_d = false;
  int stride = 1;
  bool give_kv_pos = false;     // else the default must be what `sets` say
  std::vector<int> row_indptr;  // given when not empty
  std::vector<int> row_indices;
  int num_blocks = 0;  // by_index: storage of this many blocks
};

/// A whole batch: requests (lengths and positions set) and what every format holds.
struct BatchDraft {
  std::string kind;
  std::vector<FormatDraft> formats;
  bool give_kv_len = false;
};

/// What lengths are drawn from.
struct Sizes {
  int page_size = 16;
  int max_kv = 160;
};

int draw_kv_len(Random& random, const Sizes& sizes);

/// `c.requests` have qo_begin and qo_len; this sets kv_len and decides who sees what.
BatchDraft draw_batch(Case& c, Random& random, const Sizes& sizes, const std::string& kind);

/// Tables, positions and dense groups of format `f`, and a pool whose used tokens are marked. Pages no row may see get garbage for a table
/// entry.
void build_tables(Case& c, Random& random, const FormatDraft& draft);

}  // namespace fovea::check
