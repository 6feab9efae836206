#include "check/draw_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "check/oracle.h"
#include "check/storage.h"

namespace fovea::check {
namespace {

/// Mask bits of every request, packed as the variant wants them. Some rows are all zero, some columns all one.
void draw_bits(Case& c, Random& random, std::vector<Value>& values) {
  std::vector<int> indptr{0};
  std::vector<std::uint8_t> bytes;
  for (const DenseRequest& r : c.requests) {
    std::vector<char> bits(static_cast<std::size_t>(r.qo_len) * static_cast<std::size_t>(r.kv_len));
    const int density = random.pick({0, 10, 50, 90, 100});
    const int tree_begin = random.percent(50) ? random.below(r.kv_len + 1) : 0;  // as of draft trees: a prefix that all see
    for (std::size_t i = 0; i < bits.size(); ++i) {
      const int row = static_cast<int>(i) / r.kv_len, column = static_cast<int>(i) % r.kv_len;
      bits[i] = row % 7 != 3 && (column < tree_begin || random.percent(density));
    }
    bytes.resize(static_cast<std::size_t>(indptr.back()) + (bits.size() + 7) / 8);
    for (std::size_t i = 0; i < bits.size(); ++i) {
      bytes[static_cast<std::size_t>(indptr.back()) + i / 8] |= static_cast<std::uint8_t>(bits[i] << (i % 8));
    }
    indptr.push_back(static_cast<int>(bytes.size()));
    c.rule.bits.push_back(std::move(bits));
  }
  bytes.push_back(0xff);  // nobody's
  const TensorView packed =
      TensorView::contiguous(c.memory.take(static_cast<std::int64_t>(bytes.size())), DType::u8, {static_cast<std::int64_t>(bytes.size())});
  std::memcpy(packed.data, bytes.data(), bytes.size());
  values.emplace_back("mask_bits", packed);
  values.emplace_back("mask_indptr", c.memory.integers(indptr));
}

/// Documents of every request: runs of tokens with ids that grow, or that are in no order.
void draw_documents(Case& c, Random& random, std::vector<Value>& values) {
  std::vector<int> indptr{0}, ids;
  for (const DenseRequest& r : c.requests) {
    const int change = random.pick({1, 3, 20, 60});  // percent of tokens that begin a document
    const bool sorted = random.percent(70);
    std::vector<int> documents;
    for (int i = 0, id = random.between(-3, 3); i < r.kv_len; ++i) {
      if (random.percent(change)) {
        id = sorted ? id + 1 : random.between(-3, 3);
      }
      documents.push_back(id);
    }
    ids.insert(ids.end(), documents.begin(), documents.end());
    indptr.push_back(static_cast<int>(ids.size()));
    c.rule.documents.push_back(std::move(documents));
  }
  ids.push_back(99);  // nobody's, and never an empty table
  values.emplace_back("document_ids", c.memory.integers(ids));
  values.emplace_back("document_indptr", c.memory.integers(indptr));
}

void draw_prefixes(Case& c, Random& random, std::vector<Value>& values) {
  for (const DenseRequest& r : c.requests) {
    c.rule.prefix_len.push_back(random.percent(30) ? 0 : random.below(r.kv_len + 3));
  }
  values.emplace_back("prefix_len", c.memory.integers(c.rule.prefix_len));
}

void draw_window(Case& c, Random& random, std::vector<Value>& values) {
  c.rule.window_left = random.pick({0, 1, 7, 16, 31, 63, 64, 1000});
  c.rule.num_sink_tokens = random.percent(40) ? random.pick({1, 4, 17}) : 0;
  values.emplace_back("window_left", *c.rule.window_left);
  if (c.rule.num_sink_tokens > 0 || random.percent(30)) {
    values.emplace_back("num_sink_tokens", c.rule.num_sink_tokens);
  }
}

void draw_part_of_mask(Case& c, Random& random, const std::string& part, std::vector<Value>& values) {
  if (part == "causal") {
    c.rule.causal = true;
  } else if (part == "sliding_window") {
    draw_window(c, random, values);
  } else if (part == "custom_mask") {
    draw_bits(c, random, values);
  } else if (part == "document") {
    draw_documents(c, random, values);
  } else if (part == "prefix_lm") {
    draw_prefixes(c, random, values);
  } else if (part == "chunked_local") {
    c.rule.chunk_size = random.pick({1, 2, 7, 16, 64, 100, 5000});
    values.emplace_back("chunk_size", *c.rule.chunk_size);
  }
}

std::vector<float> draw_head_numbers(Random& random, int count, double low, double high) {
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (float& number : numbers) {
    number = static_cast<float>(random.uniform(low, high));
  }
  return numbers;
}

void draw_temperature(Case& c, Random& random) {
  Temperature t;
  if (random.percent(70)) {
    t.temperature = static_cast<float>(random.uniform(0.5, 3.0));
    c.params.emplace_back("temperature", t.temperature);
  }
  if (random.percent(60)) {
    t.position_scale = static_cast<float>(random.uniform(0.05, 0.5));
    c.params.emplace_back("position_scale", t.position_scale);
    if (random.percent(80)) {
      t.position_step = random.pick({1, 16, 100});
      c.params.emplace_back("position_step", t.position_step);
    }
  }
  c.rule.temperature = t;
}

void draw_rope_table(Case& c, Random& random, Rope& rope) {
  const int rows = random.pick({1, 50, 400, 3000}), half = rope.num_turned / 2;
  const TensorView table = padded_tensor(c.memory, random, DType::f32, {rows, rope.num_turned});
  for (int row = 0; row < rows; ++row) {
    for (int i = 0; i < rope.num_turned; ++i) {
      const double angle = row * rope.frequency(i % half);
      rope.cos_sin.push_back(static_cast<float>(i < half ? std::cos(angle) : std::sin(angle)));
      table.as<float>()[row * table.stride(0) + i] = rope.cos_sin.back();
    }
  }
  c.params.emplace_back("cos_sin", table);
}

void draw_rope(Case& c, Random& random, bool adjacent) {
  Rope rope{.adjacent = adjacent, .num_turned = c.spec.head_dim_qk};
  if (random.percent(40)) {
    rope.num_turned = std::min(c.spec.head_dim_qk, 2 * random.between(1, c.spec.head_dim_qk / 2));
  }
  const auto give = [&](std::string_view name, float& number, double low, double high) {
    number = static_cast<float>(random.uniform(low, high));
    c.params.emplace_back(name, number);
  };
  if (random.percent(50)) {
    draw_rope_table(c, random, rope);
  } else {
    if (rope.num_turned < c.spec.head_dim_qk) {
      c.params.emplace_back("rotary_dim", rope.num_turned);
    }
    if (random.percent(60)) {
      give("theta", rope.theta, 100, 500000);
    }
    if (random.percent(60)) {
      give("factor", rope.factor, 1, 8);
    }
    if (random.percent(50)) {
      rope.original_context = random.pick({30, 200, 8192});
      c.params.emplace_back("original_context", rope.original_context);
      give("low_freq_factor", rope.low_freq_factor, 0.5, 2);
      give("high_freq_factor", rope.high_freq_factor, 3, 6);
    }
  }
  c.rule.rope = std::move(rope);
}

void draw_part_of_params(Case& c, Random& random, const std::string& part) {
  Rule& rule = c.rule;
  if (part == "soft_cap") {
    rule.cap = static_cast<float>(random.uniform(1.0, 20.0));
    c.params.emplace_back("cap", *rule.cap);
    rule.transforms.push_back(LogitTransform::cap);
  } else if (part == "alibi") {
    rule.slopes = draw_head_numbers(random, c.spec.num_qo_heads, -0.02, 0.5);
    c.params.emplace_back("slopes", c.memory.floats(rule.slopes));
    rule.transforms.push_back(LogitTransform::alibi);
  } else if (part == "temperature") {
    draw_temperature(c, random);
    rule.transforms.push_back(LogitTransform::temperature);
  } else if (part == "sigmoid") {
    const bool give = random.percent(60);
    rule.sigmoid_bias = give ? static_cast<float>(random.uniform(-3.0, 1.0)) : 0.0f;
    if (give) {
      c.params.emplace_back("bias", *rule.sigmoid_bias);
    }
    rule.transforms.push_back(LogitTransform::sigmoid);
  } else if (part == "rope_neox" || part == "rope_interleaved") {
    draw_rope(c, random, part == "rope_interleaved");
  } else if (part == "sink") {
    for (int head = 0; head < c.spec.num_qo_heads; ++head) {
      rule.sink.push_back(static_cast<float>(2.0 * random.normal()));
    }
    c.params.emplace_back("sink", c.memory.floats(rule.sink));
  }
}

/// Classes of one head, pair by pair: the rules drawn here look at no head.
std::vector<std::uint8_t> classes_of_request(const Case& c, int r, const TileClasses& tiles) {
  const DenseRequest& request = c.requests[static_cast<std::size_t>(r)];
  std::vector<std::uint8_t> classes;
  for (int q = 0; q < request.qo_len; q += tiles.tile_q) {
    for (int k = 0; k < request.kv_len; k += tiles.tile_kv) {
      bool any = false, all = true;
      for (int i = q; i < std::min(q + tiles.tile_q, request.qo_len); ++i) {
        for (int j = k; j < std::min(k + tiles.tile_kv, request.kv_len); ++j) {
          const bool seen = sees(c, r, i, request.q_pos + i, j);
          any |= seen;
          all &= seen;
        }
      }
      classes.push_back(static_cast<std::uint8_t>(all ? 2 : (any ? 1 : 0)));
    }
  }
  return classes;
}

}  // namespace

double Rope::frequency(int i) const {
  constexpr double kPi = 3.14159265358979323846;
  const double base = 1.0 / std::pow(double{theta}, 2.0 * i / num_turned);
  if (original_context == 0) {
    return base / double{factor};
  }
  const double wavelength = 2 * kPi / base;
  if (wavelength < original_context / double{high_freq_factor}) {
    return base;
  }
  if (wavelength > original_context / double{low_freq_factor}) {
    return base / double{factor};
  }
  const double smooth = (original_context / wavelength - double{low_freq_factor}) / (double{high_freq_factor} - double{low_freq_factor});
  return (1 - smooth) * base / double{factor} + smooth * base;
}

void draw_masks(Case& c, Random& random) {
  std::vector<Value> chosen;
  for (const std::string& part : c.spec.variant.parts()) {
    draw_part_of_mask(c, random, part, chosen);
  }
  const int num_masks = random.percent(25) ? random.between(2, 3) : 1;
  c.limits.max_mask_groups = num_masks + (random.percent(20) ? 1 : 0);
  c.run.mask_group = random.below(num_masks);
  c.mask_values.resize(static_cast<std::size_t>(num_masks));
  c.masks.resize(static_cast<std::size_t>(num_masks));
  for (int m = 0; m < num_masks; ++m) {
    std::vector<Value>& values = c.mask_values[static_cast<std::size_t>(m)];
    values = chosen;
    for (Value& value : values) {
      // Masks of other layers: where a number says which, another number.
      if (m != c.run.mask_group && (value.name == "window_left" || value.name == "chunk_size")) {
        value = Value(value.name, random.between(1, 80));
      }
    }
    c.masks[static_cast<std::size_t>(m)].values = values;
  }
  MaskValues& mine = c.masks[static_cast<std::size_t>(c.run.mask_group)];
  const bool any = random.percent(15);
  if (any || random.percent(20)) {
    c.run.mask = MaskValues{.values = mine.values};
  }
  if (any) {
    mine = MaskValues{.any = true};
    c.notes.push_back("mask any");
  }
}

void draw_params(Case& c, Random& random) {
  for (const std::string& part : c.spec.variant.parts()) {
    draw_part_of_params(c, random, part);
  }
  c.run.params = c.params;
}

void put_own_variant(Case& c, const CaseFilter::Own& own) {
  c.own_variant = true;
  c.spec.variant = own.variant;
  c.params = own.params;
  c.run.params = c.params;
  for (std::size_t m = 0; m < c.masks.size(); ++m) {
    c.mask_values[m] = own.mask;
    c.masks[m] = {.values = c.mask_values[m]};
  }
  c.run.mask.reset();
  c.with_lse = c.run.lse_base2 = c.run.lse_with_extra = false;
  c.run.output = Output::finalised;
}

void draw_tiles(Case& c, Random& random) {
  if (!random.percent(30)) {
    return;
  }
  TileClasses tiles{
      .tile_q = random.pick({1, 3, 16, 64, 1000}), .tile_kv = random.pick({1, 5, 16, 64, 64, 128}), .per_head = random.percent(30)};
  const int blurred = random.pick({0, 10, 50});                                        // percent
  std::vector<std::uint8_t> classes(static_cast<std::size_t>(random.below(3)), 0xff);  // nobody's, in front
  std::vector<int> indptr{static_cast<int>(classes.size())};
  for (std::size_t r = 0; r < c.requests.size(); ++r) {
    const std::vector<std::uint8_t> of_head = classes_of_request(c, static_cast<int>(r), tiles);
    for (int head = 0; head < (tiles.per_head ? c.spec.num_qo_heads : 1); ++head) {
      for (const std::uint8_t tile_class : of_head) {
        classes.push_back(random.percent(blurred) ? 1 : tile_class);
      }
    }
    indptr.push_back(static_cast<int>(classes.size()));
  }
  const auto count = static_cast<std::int64_t>(classes.size());
  tiles.classes = TensorView::contiguous(c.memory.take(count), DType::u8, {count});
  std::copy(classes.begin(), classes.end(), tiles.classes.as<std::uint8_t>());
  tiles.class_indptr = c.memory.integers(indptr);
  MaskValues& planned = c.masks[static_cast<std::size_t>(c.run.mask_group)];
  (planned.any ? *c.run.mask : planned).tiles = tiles;
  c.notes.push_back(fmt::format("tiles {}x{}{}", tiles.tile_q, tiles.tile_kv, tiles.per_head ? " per head" : ""));
}

const std::vector<std::string>& variant_names() {
  static const std::vector<std::string> names{"full",
                                              "causal",
                                              "sliding_window",
                                              "soft_cap",
                                              "sink",
                                              "sigmoid",
                                              "custom_mask",
                                              "document",
                                              "prefix_lm",
                                              "chunked_local",
                                              "alibi",
                                              "temperature",
                                              "rope_neox",
                                              "rope_interleaved",
                                              "causal+soft_cap",
                                              "sliding_window+soft_cap",
                                              "causal+sink",
                                              "sliding_window+sink",
                                              "causal+sigmoid",
                                              "causal+custom_mask",
                                              "causal+document",
                                              "causal+alibi",
                                              "causal+rope_neox"};
  return names;
}

}  // namespace fovea::check
