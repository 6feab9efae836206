#include <algorithm>
#include <numeric>

#include "check/formats.h"
#include "fovea/error.h"

namespace fovea::check {
namespace {

std::vector<int> rows_of(const DenseRequest& r) {
  std::vector<int> rows(static_cast<std::size_t>(r.qo_len));
  std::iota(rows.begin(), rows.end(), r.qo_begin);
  return rows;
}

KvFormat draw_paged(Random& random, const Sizes& sizes, bool may_be_ragged, FormatDraft& draft) {
  if (may_be_ragged && random.percent(35)) {
    return KvFormat::ragged();
  }
  draft.two_d = random.percent(45);
  return KvFormat::paged(sizes.page_size);
}

/// One set per request.
FormatDraft by_request(const Case& c, KvFormat format, const std::vector<int>& lengths, const std::vector<int>& kv_pos = {}) {
  FormatDraft draft{.format = format};
  for (std::size_t r = 0; r < c.requests.size(); ++r) {
    draft.sets.push_back({.rows = rows_of(c.requests[r]), .num_cols = lengths[r], .kv_pos = kv_pos.empty() ? 0 : kv_pos[r]});
  }
  return draft;
}

/// In some batches every kv head has a table of its own, shorter for some. True: heads differ in tokens, so that kv_len must be given.
bool maybe_per_head(const Case& c, Random& random, FormatDraft& draft) {
  if (!draft.format.has_table || draft.format.by_index || !random.percent(25)) {
    return false;
  }
  draft.format.per_kv_head = true;
  std::vector<RowSet> by_head;
  bool differ = false;
  for (const RowSet& set : draft.sets) {
    for (int head = 0; head < c.spec.num_kv_heads; ++head) {
      RowSet own = set;
      own.kv_head = head;
      own.num_cols = random.percent(60) ? set.num_cols : random.below(set.num_cols + 1);
      differ = differ || own.num_cols != set.num_cols;
      by_head.push_back(std::move(own));
    }
  }
  draft.sets = std::move(by_head);
  return differ;
}

std::vector<int> draw_lengths(Random& random, const Sizes& sizes, std::size_t count) {
  std::vector<int> lengths(count);
  for (int& length : lengths) {
    length = draw_kv_len(random, sizes);
  }
  return lengths;
}

void set_kv_len(Case& c, const std::vector<int>& lengths) {
  for (std::size_t r = 0; r < c.requests.size(); ++r) {
    c.requests[r].kv_len = lengths[r];
  }
}

/// Cuts the requests into runs; returns each run's first request, and the number of requests at the end.
std::vector<int> draw_runs(Random& random, int num_requests) {
  std::vector<int> begins{0};
  for (int r = 1; r < num_requests; ++r) {
    if (random.percent(40)) {
      begins.push_back(r);
    }
  }
  begins.push_back(num_requests);
  return begins;
}

/// Runs of requests that share columns, by row_indptr. `covers` says whether the last run may be left out.
FormatDraft by_run(const Case& c, KvFormat format, const std::vector<int>& runs, const std::vector<int>& lengths,
                   std::vector<int>& end_of_request, bool covers) {
  FormatDraft draft{.format = format};
  const std::size_t num_sets = runs.size() - 1 - (!covers && runs.size() > 2 ? 1 : 0);
  draft.row_indptr.push_back(c.requests.front().qo_begin);
  for (std::size_t s = 0; s < num_sets; ++s) {
    int first = runs[s];  // the request of the run's first row: columns start where its earlier formats end
    while (first + 1 < runs[s + 1] && c.requests[static_cast<std::size_t>(first)].qo_len == 0) {
      ++first;
    }
    RowSet set{.num_cols = lengths[s], .kv_pos = end_of_request[static_cast<std::size_t>(first)]};
    for (int r = runs[s]; r < runs[s + 1]; ++r) {
      const std::vector<int> rows = rows_of(c.requests[static_cast<std::size_t>(r)]);
      set.rows.insert(set.rows.end(), rows.begin(), rows.end());
      // The default position is where earlier formats end; requests that disagree about it need it said.
      draft.give_kv_pos = draft.give_kv_pos || (!rows.empty() && end_of_request[static_cast<std::size_t>(r)] != set.kv_pos);
      end_of_request[static_cast<std::size_t>(r)] += lengths[s];
    }
    draft.row_indptr.push_back(draft.row_indptr.back() + static_cast<int>(set.rows.size()));
    draft.sets.push_back(std::move(set));
  }
  return draft;
}

BatchDraft plain(Case& c, Random& random, const Sizes& sizes, const std::string& kind) {
  const std::vector<int> lengths = draw_lengths(random, sizes, c.requests.size());
  set_kv_len(c, lengths);
  FormatDraft draft = by_request(c, kind == "ragged" ? KvFormat::ragged() : KvFormat::paged(sizes.page_size), lengths);
  draft.two_d = kind == "table_2d";
  return {.kind = kind, .formats = {draft}, .give_kv_len = random.percent(25)};
}

/// Every kv head has tokens of its own, of requests or of runs of them.
BatchDraft per_head(Case& c, Random& random, const Sizes& sizes, const std::string& kind) {
  FormatDraft draft{.format = {.page_size = sizes.page_size, .per_kv_head = true}};
  draft.two_d = random.percent(50);
  const bool by_runs = random.percent(60);
  std::vector<int> begins = by_runs ? draw_runs(random, static_cast<int>(c.requests.size())) : std::vector<int>(c.requests.size() + 1);
  if (!by_runs) {
    std::iota(begins.begin(), begins.end(), 0);
  }
  int end = 0;
  for (std::size_t s = 0; s + 1 < begins.size(); ++s) {
    const int longest = draw_kv_len(random, sizes);
    std::vector<int> rows;
    for (int r = begins[s]; r < begins[s + 1]; ++r) {
      DenseRequest& request = c.requests[static_cast<std::size_t>(r)];
      const std::vector<int> more = rows_of(request);
      rows.insert(rows.end(), more.begin(), more.end());
      request.kv_len = longest;
    }
    for (int head = 0; head < c.spec.num_kv_heads; ++head) {
      draft.sets.push_back({.rows = rows, .num_cols = random.percent(50) ? longest : random.below(longest + 1), .kv_head = head});
    }
    if (by_runs) {
      draft.row_indptr.resize(s + 1, end);
      end += static_cast<int>(rows.size());
      draft.row_indptr.push_back(end);
    }
  }
  return {.kind = kind, .formats = {draft}, .give_kv_len = true};
}

/// Blocks of query tokens see some blocks of one storage, whose index is the position.
FormatDraft draw_sparse(Case& c, Random& random, const Sizes& sizes, bool blocks_are_requests) {
  const int num_rows = c.num_rows();
  const int num_blocks = std::max(1, sizes.max_kv / sizes.page_size / 2);
  const int block_rows = blocks_are_requests ? 0 : random.pick({1, 2, 3, 16});
  FormatDraft draft{.format = KvFormat::block_sparse(block_rows, sizes.page_size), .num_blocks = num_blocks};
  draft.two_d = blocks_are_requests && random.percent(40);
  const int num_sets = blocks_are_requests ? static_cast<int>(c.requests.size()) : (num_rows + block_rows - 1) / block_rows;
  draft.give_kv_pos = random.percent(30);
  for (int s = 0; s < num_sets; ++s) {
    RowSet set{.num_cols = random.below(num_blocks + 1) * sizes.page_size, .kv_pos = draft.give_kv_pos ? random.below(9) : 0};
    if (blocks_are_requests) {
      set.rows = rows_of(c.requests[static_cast<std::size_t>(s)]);
    } else {
      for (int row = s * block_rows; row < std::min((s + 1) * block_rows, num_rows); ++row) {
        set.rows.push_back(row);
      }
    }
    draft.sets.push_back(std::move(set));
  }
  return draft;
}

BatchDraft sparse(Case& c, Random& random, const Sizes& sizes, const std::string& kind) {
  FormatDraft draft = draw_sparse(c, random, sizes, kind == "index_by_request");
  for (DenseRequest& r : c.requests) {
    r.kv_len = random.below(draft.num_blocks * sizes.page_size + 4);
  }
  return {.kind = kind, .formats = {draft}, .give_kv_len = true};
}

/// Old tokens through a sparse matrix, the request's newest through a format of its own.
BatchDraft sparse_and_local(Case& c, Random& random, const Sizes& sizes, const std::string& kind) {
  FormatDraft old = draw_sparse(c, random, sizes, false);
  const std::vector<int> lengths = draw_lengths(random, {sizes.page_size, sizes.max_kv / 3}, c.requests.size());
  std::vector<int> begins(c.requests.size());
  for (std::size_t r = 0; r < begins.size(); ++r) {
    begins[r] = random.below(old.num_blocks * sizes.page_size + 1);
    c.requests[r].kv_len = begins[r] + lengths[r];
  }
  FormatDraft recent = by_request(c, {}, lengths, begins);
  recent.format = draw_paged(random, sizes, true, recent);
  recent.give_kv_pos = true;
  maybe_per_head(c, random, recent);
  return {.kind = kind, .formats = {old, recent}, .give_kv_len = true};
}

/// Several requests attend to the same tokens and have none of their own.
BatchDraft row_sets(Case& c, Random& random, const Sizes& sizes, const std::string& kind) {
  const std::vector<int> runs = draw_runs(random, static_cast<int>(c.requests.size()));
  std::vector<int> ends(c.requests.size(), 0);
  FormatDraft draft = by_run(c, {}, runs, draw_lengths(random, sizes, runs.size()), ends, true);
  draft.format = draw_paged(random, sizes, true, draft);
  set_kv_len(c, ends);
  return {.kind = kind, .formats = {draft}, .give_kv_len = random.percent(30)};
}

/// One or two levels of prefixes shared by runs of adjacent requests, then every request's own tokens.
BatchDraft shared_prefix(Case& c, Random& random, const Sizes& sizes, const std::string& kind) {
  BatchDraft batch{.kind = kind};
  std::vector<int> ends(c.requests.size(), 0);
  const int levels = kind == "three_levels" ? 2 : 1;
  for (int level = 0; level < levels; ++level) {
    const std::vector<int> runs = draw_runs(random, static_cast<int>(c.requests.size()));
    const bool covers = random.percent(60);
    FormatDraft draft = by_run(c, {}, runs, draw_lengths(random, sizes, runs.size()), ends, covers);
    draft.format = draw_paged(random, sizes, true, draft);
    batch.formats.push_back(std::move(draft));
  }
  const std::vector<int> lengths = draw_lengths(random, {sizes.page_size, sizes.max_kv / 2}, c.requests.size());
  FormatDraft own = by_request(c, {}, lengths, ends);
  own.format = draw_paged(random, sizes, true, own);
  own.give_kv_pos = random.percent(30);
  const bool heads_differ = maybe_per_head(c, random, own);
  batch.formats.push_back(std::move(own));
  batch.give_kv_len = heads_differ || random.percent(30);
  for (std::size_t r = 0; r < ends.size(); ++r) {
    c.requests[r].kv_len = ends[r] + lengths[r];
  }
  // Requests of one run may have prefixes of different lengths before it: then its columns stand past the sum of some.
  for (const FormatDraft& draft : batch.formats) {
    for (const RowSet& set : draft.sets) {
      for (const int row : set.rows) {
        DenseRequest& request = c.requests[static_cast<std::size_t>(c.request_of_row[static_cast<std::size_t>(row)])];
        batch.give_kv_len = batch.give_kv_len || set.kv_pos + set.num_cols > request.kv_len;
        request.kv_len = std::max(request.kv_len, set.kv_pos + set.num_cols);
      }
    }
  }
  return batch;
}

/// Prefixes shared by rows that are not adjacent; some rows have none.
BatchDraft prefix_by_rows(Case& c, Random& random, const Sizes& sizes, const std::string& kind) {
  const int num_sets = random.between(1, 3);
  const std::vector<int> prefix_lengths = draw_lengths(random, sizes, static_cast<std::size_t>(num_sets));
  FormatDraft prefix;
  prefix.format = draw_paged(random, sizes, true, prefix);
  prefix.sets.resize(static_cast<std::size_t>(num_sets));
  std::vector<int> ends(c.requests.size(), 0);
  std::vector<int> order(c.requests.size());
  std::iota(order.begin(), order.end(), 0);
  random.shuffle(order);
  for (const int r : order) {
    const std::size_t s = static_cast<std::size_t>(random.below(num_sets));
    ends[static_cast<std::size_t>(r)] = prefix_lengths[s];
    for (const int row : rows_of(c.requests[static_cast<std::size_t>(r)])) {
      if (random.percent(85)) {
        prefix.sets[s].rows.push_back(row);
      }
    }
  }
  prefix.row_indptr.push_back(0);
  for (std::size_t s = 0; s < prefix.sets.size(); ++s) {
    RowSet& set = prefix.sets[s];
    set.num_cols = prefix_lengths[s];
    prefix.row_indices.insert(prefix.row_indices.end(), set.rows.begin(), set.rows.end());
    prefix.row_indptr.push_back(static_cast<int>(prefix.row_indices.size()));
  }
  if (prefix.row_indices.empty()) {
    prefix.row_indices.push_back(0);  // a tensor of one element that no set uses
  }
  const std::vector<int> lengths = draw_lengths(random, {sizes.page_size, sizes.max_kv / 2}, c.requests.size());
  for (std::size_t r = 0; r < ends.size(); ++r) {
    c.requests[r].kv_len = ends[r] + lengths[r];
  }
  FormatDraft own = by_request(c, {}, lengths, ends);
  own.format = draw_paged(random, sizes, true, own);
  own.give_kv_pos = true;
  maybe_per_head(c, random, own);
  return {.kind = kind, .formats = {prefix, own}, .give_kv_len = true};
}

/// Context parallelism: this rank, or two of them as formats, hold every second or third token.
BatchDraft striped(Case& c, Random& random, const Sizes& sizes, const std::string& kind) {
  const int stride = random.between(2, 3);
  const int num_ranks = random.between(1, 2);
  const int first_rank = random.below(stride - num_ranks + 1);
  set_kv_len(c, draw_lengths(random, sizes, c.requests.size()));
  BatchDraft batch{.kind = kind, .give_kv_len = true};
  for (int rank = first_rank; rank < first_rank + num_ranks; ++rank) {
    std::vector<int> lengths;
    for (const DenseRequest& r : c.requests) {
      lengths.push_back(std::max(0, (r.kv_len - rank + stride - 1) / stride));
    }
    FormatDraft draft = by_request(c, {}, lengths, std::vector<int>(c.requests.size(), rank));
    draft.format = draw_paged(random, sizes, true, draft);
    draft.give_kv_pos = true;
    draft.stride = stride;
    batch.formats.push_back(std::move(draft));
  }
  return batch;
}

/// StreamingLLM: a request's first tokens and, after a gap of tokens that are gone, its last.
BatchDraft streaming(Case& c, Random& random, const Sizes& sizes, const std::string& kind) {
  const std::vector<int> first = draw_lengths(random, {sizes.page_size, 8}, c.requests.size());
  const std::vector<int> last = draw_lengths(random, sizes, c.requests.size());
  std::vector<int> begins(c.requests.size());
  for (std::size_t r = 0; r < begins.size(); ++r) {
    begins[r] = first[r] + random.below(40);
    c.requests[r].kv_len = begins[r] + last[r];
  }
  FormatDraft sinks = by_request(c, {}, first);
  sinks.format = draw_paged(random, sizes, true, sinks);
  FormatDraft window = by_request(c, {}, last, begins);
  window.format = draw_paged(random, sizes, true, window);
  window.give_kv_pos = true;
  maybe_per_head(c, random, window);
  return {.kind = kind, .formats = {sinks, window}, .give_kv_len = true};
}

using Draw = BatchDraft (*)(Case&, Random&, const Sizes&, const std::string&);

struct Kind {
  const char* name;
  int weight;
  Draw draw;
};

constexpr Kind kKinds[] = {
    {"csr", 5, plain},
    {"table_2d", 5, plain},
    {"ragged", 3, plain},
    {"per_head", 4, per_head},
    {"block_sparse", 3, sparse},
    {"index_by_request", 2, sparse},
    {"row_sets", 2, row_sets},
    {"shared_prefix", 4, shared_prefix},
    {"three_levels", 2, shared_prefix},
    {"prefix_by_rows", 3, prefix_by_rows},
    {"striped", 3, striped},
    {"streaming", 2, streaming},
    {"sparse_and_local", 2, sparse_and_local},
};

}  // namespace

const std::vector<std::string>& format_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Kind& kind : kKinds) {
      all.emplace_back(kind.name);
    }
    return all;
  }();
  return names;
}

int draw_kv_len(Random& random, const Sizes& sizes) {
  const int page = sizes.page_size;
  const int tile = random.pick({16, 32, 64, 128});
  int length = 0;
  switch (random.below(8)) {
    case 0:
      length = random.pick({0, 1, 2});
      break;
    case 1:
      length = page * random.between(1, 3);
      length += random.between(-1, 1);  // a statement of its own: operands are evaluated in any order
      break;
    case 2:
      length = tile + random.between(-1, 1);
      break;
    case 3:
      length = tile * 2 + random.between(-1, 1);
      break;
    default:
      length = random.below(sizes.max_kv + 1);
      break;
  }
  return std::clamp(length, 0, sizes.max_kv);
}

BatchDraft draw_batch(Case& c, Random& random, const Sizes& sizes, const std::string& kind) {
  int total = 0;
  for (const Kind& k : kKinds) {
    total += k.weight;
  }
  int ticket = random.below(total);
  for (const Kind& k : kKinds) {
    ticket -= k.weight;
    if (kind.empty() ? ticket < 0 : kind == k.name) {
      return k.draw(c, random, sizes, k.name);
    }
  }
  throw InvalidArgument("check: no format is named '" + kind + "'");
}

}  // namespace fovea::check
