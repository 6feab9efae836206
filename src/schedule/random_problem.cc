#include "src/schedule/random_problem.h"

#include <algorithm>
#include <numeric>

namespace fovea::test {

namespace {

using Values = std::vector<std::int32_t>;

Values indptr_of(const Values& counts) {
  Values indptr = {0};
  for (const std::int32_t count : counts) {
    indptr.push_back(indptr.back() + count);
  }
  return indptr;
}

/// Query and kv lengths: mostly short, sometimes none, sometimes long enough to be cut.
std::int32_t random_length(Random& random, std::int32_t longest) {
  switch (random.between(0, 5)) {
    case 0:
      return 0;
    case 1:
      return random.between(0, 4);
    case 2:
      return random.between(0, longest);
    default:
      return random.between(0, longest / 3);
  }
}

KvFormat random_format(Random& random) {
  KvFormat format = random.one_in(4) ? KvFormat::ragged() : KvFormat::paged(random.pick({1, 3, 16}));
  if (random.one_in(6)) {
    format = KvFormat::block_sparse(random.pick({1, 4, 8}), random.pick({1, 4, 16}));
    format.by_index = random.one_in(2);
  }
  format.per_kv_head = random.one_in(6);
  return format;
}

/// Cuts all query tokens, in order, into sets; with several formats the last tokens may be in none.
Values random_row_sets(Random& random, std::int32_t num_tokens, bool all) {
  Values indptr = {0};
  const std::int32_t end = all ? num_tokens : random.between(0, num_tokens);
  while (indptr.back() < end) {
    indptr.push_back(min_(end, indptr.back() + random.between(0, 12)));
  }
  return indptr;
}

FormatArrays random_tables(Random& random, const Problem& problem, const KvFormat& format, const Values& qo_indptr, std::int32_t longest) {
  FormatArrays a;
  const std::int32_t num_tokens = qo_indptr.back();
  std::int32_t num_sets = static_cast<std::int32_t>(qo_indptr.size()) - 1;
  if (format.block_rows > 0) {
    num_sets = ceil_div(num_tokens, format.block_rows);
  } else if (random.one_in(3)) {
    a.row_indptr = random_row_sets(random, num_tokens, !problem.composed());
    num_sets = static_cast<std::int32_t>(a.row_indptr.size()) - 1;
    if (random.one_in(2)) {
      a.row_indices.resize(static_cast<std::size_t>(num_tokens));
      std::iota(a.row_indices.begin(), a.row_indices.end(), 0);
      for (std::size_t i = a.row_indices.size(); i > 1; --i) {
        std::swap(a.row_indices[i - 1], a.row_indices[static_cast<std::size_t>(random.between(0, static_cast<std::int32_t>(i) - 1))]);
      }
      a.row_indices.push_back(0);  // never null
    }
  }
  const std::int32_t num_groups = num_sets * (format.per_kv_head ? problem.spec.num_kv_heads : 1);
  Values tokens, entries;
  for (std::int32_t g = 0; g < num_groups; ++g) {
    tokens.push_back(random_length(random, longest));
    entries.push_back(format.has_table ? ceil_div(tokens.back(), format.page_size) : tokens.back());
    a.kv_pos.push_back(random.between(0, longest));
  }
  a.page_indptr = indptr_of(entries);
  if (random.one_in(2)) {
    a.kv_pos.clear();
  }
  a.kv_pos_stride = random.one_in(4) ? random.between(2, 5) : 1;
  if (format.has_table) {
    a.kv_len = tokens;
    a.kv_len.push_back(0);  // never null
    if (random.one_in(3)) {
      a.page_indptr.clear();
    }
  }
  return a;
}

KernelConfig random_config(Random& random, std::int32_t tile_q, bool last) {
  KernelConfig config{.tile_q = tile_q, .tile_kv = random.pick({8, 16, 24, 64}), .form = PlanForm::list};
  if (!last && random.one_in(2)) {
    config.form = PlanForm::ranges;
  }
  config.cost = {.fixed = static_cast<std::uint32_t>(random.between(1, 40)),
                 .per_tile = static_cast<std::uint32_t>(random.between(1, 20)),
                 .per_partial = static_cast<std::uint32_t>(random.between(0, 40))};
  config.cost.least_share = static_cast<std::uint32_t>(random.one_in(3) ? random.between(0, 200) : 1);
  return config;
}

Choice random_choice(Random& random, Policy policy) {
  Choice choice{.kernel = "test"};
  const std::int32_t num_configs = policy == Policy::batch_invariant ? 1 : random.between(1, kMaxKernelConfigs);
  std::int32_t tile_q = random.pick({1, 4, 8, 16});
  for (std::int32_t c = 0; c < num_configs; ++c) {
    choice.configs.push_back(random_config(random, tile_q, c + 1 == num_configs || policy != Policy::throughput));
    choice.configs.back().tile_kv = policy == Policy::throughput ? choice.configs.back().tile_kv : random.pick({8, 16});
    tile_q *= random.pick({2, 4});
  }
  choice.num_workers = random.one_in(5) ? 1 : random.between(2, 40);
  return choice;
}

KvRange random_range(Random& random) {
  KvRange range{.left = kUnbounded, .right = random.one_in(3) ? kUnbounded : 0, .num_sink = 0, .exact = 1};
  if (random.one_in(2)) {
    range.chunk = random.one_in(3) ? random.pick({1, 7, 64, 200}) : 0;
    range.left = random.pick({0, 3, 16, 100});
    range.num_sink = random.pick({0, 0, 1, 5, 30});
  }
  return range;
}

}  // namespace

Limits limits_of(const Problem& problem, const TestBatch& batch, std::int32_t slack) {
  const BatchView view = batch.view(problem);
  Limits limits{.max_requests = max_(1, view.num_requests + slack), .max_query_tokens = max_(1, batch.qo_indptr.back() + slack)};
  limits.max_query_tokens_per_request = 1 + slack;
  for (std::size_t r = 1; r < batch.qo_indptr.size(); ++r) {
    limits.max_query_tokens_per_request = max_(limits.max_query_tokens_per_request, batch.qo_indptr[r] - batch.qo_indptr[r - 1]);
  }
  limits.max_kv_tokens_per_request = 1 + slack;
  std::int64_t columns = 0;  // as check_batch counts them: once per kv head
  for (std::int32_t i = 0; i < view.num_formats; ++i) {
    const FormatView& f = view.formats[i];
    for (std::int32_t g = 0; g < f.num_groups(); ++g) {
      limits.max_kv_tokens_per_request = max_(limits.max_kv_tokens_per_request, tokens_of_group(f, g));
      columns += tokens_of_group(f, g) * (f.heads_per_set > 1 ? 1 : problem.spec.num_kv_heads);
    }
    limits.max_row_groups = max_(1, f.first_group + f.num_groups() + slack);
  }
  limits.max_kv_tokens = ceil_div<std::int64_t>(columns, problem.spec.num_kv_heads) + slack;
  return limits;
}

RandomCase random_case(Random& random) {
  RandomCase c;
  Problem& p = c.problem;
  p.group_size = random.pick({1, 2, 3, 4, 8, 20});
  p.spec.num_kv_heads = random.between(1, 4);
  p.spec.num_qo_heads = p.spec.num_kv_heads * p.group_size;
  p.spec.head_dim_qk = p.spec.head_dim_vo = 64;
  p.spec.formats.clear();
  for (std::int32_t i = random.one_in(3) ? random.between(2, 3) : 1; i > 0; --i) {
    p.spec.formats.push_back(random_format(random));
  }
  p.options.policy = random.pick({Policy::throughput, Policy::throughput, Policy::batch_invariant, Policy::fixed_split});
  c.choice = random_choice(random, p.options.policy);
  c.range = random_range(random);

  Values q_lengths;
  for (std::int32_t r = random.between(0, 8); r > 0; --r) {
    q_lengths.push_back(random.one_in(2) ? random.between(0, 2) : random_length(random, 24));
  }
  c.batch.qo_indptr = indptr_of(q_lengths);
  const std::int32_t longest = random.pick({20, 100, 400});
  for (const KvFormat& format : p.spec.formats) {
    c.batch.formats.push_back(random_tables(random, p, format, c.batch.qo_indptr, longest));
  }
  if (random.one_in(2)) {
    for (std::size_t r = 0; r < q_lengths.size(); ++r) {
      c.batch.q_pos.push_back(random.between(-5, 2 * longest));
    }
    c.batch.q_pos.push_back(0);  // never null
  }
  c.batch.kv_len.assign(q_lengths.size() + 1, 3 * longest);  // what three formats may hold
  p.limits = limits_of(p, c.batch, random.one_in(2) ? 0 : random.between(0, 30));
  p.options.fixed_split = p.options.policy == Policy::fixed_split ? 16 * random.between(1, 4) : 0;
  if (random.one_in(3) && p.options.policy == Policy::throughput) {
    p.options.max_workspace_bytes = random.between(0, 40) * 64 * 65 * 4;
  }
  return c;
}

}  // namespace fovea::test
