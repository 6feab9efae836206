// Models by name and from JSON, with what is said about wrong ones.
#include "serving/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <variant>

#include "fovea/error.h"
#include "serving/layer_spec.h"

namespace fovea::serving {
namespace {

std::string message_of(const std::string& name) {
  try {
    find_model(name);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "(no error)";
}

TEST(Model, NamesAndRanks) {
  const Model llama = find_model("llama-3.1-70b/tp4");
  EXPECT_EQ(llama.num_qo_heads, 16);
  EXPECT_EQ(llama.num_kv_heads, 2);
  EXPECT_EQ(find_model("llama-3.1-70b/tp16").num_kv_heads, 1);
  EXPECT_EQ(llama.variant(), "causal");
  const Model gemma = find_model("gemma-3-27b");
  EXPECT_EQ(gemma.variant(), "sliding_window");
  EXPECT_EQ(gemma.mask_groups(), (std::vector<std::int32_t>{1024, 0}));
  EXPECT_EQ(gemma.mask_group_of(4), 0);
  EXPECT_EQ(gemma.mask_group_of(5), 1);
  EXPECT_EQ(gemma.mask_group_of(6), 0);
  EXPECT_EQ(find_model("gpt-oss-20b").variant(), "sliding_window+sink");
  EXPECT_EQ(find_model("gemma-2-9b").variant(), "sliding_window+soft_cap");
  EXPECT_NE(message_of("llama").find("--model: 'llama' is not known; known: tiny, llama-3.1-8b,"), std::string::npos);
  for (const std::string ranks : {"0", "3", "-1", "x", "", "4x", "128"}) {
    EXPECT_NE(
        message_of("llama-3.1-70b/tp" + ranks).find("is not possible; the number after /tp must divide 64 query heads, and 8 KV heads"),
        std::string::npos)
        << ranks;
  }
}

TEST(LayerSpec, WindowsCountTheTokenItselfAndShrink) {
  const auto window_left = [](const char* name, std::int32_t shrink, std::int32_t layer) {
    const LayerSpec layers{.model = find_model(name), .shrink = shrink};
    const std::vector<Value> values = layers.mask_values(layers.window_of(layer));
    return values.empty() ? -1 : std::get<std::int64_t>(values[0].value);
  };
  EXPECT_EQ(window_left("gpt-oss-20b", 1, 0), 127);  // 128 tokens: itself and 127 before it
  EXPECT_EQ(window_left("gpt-oss-20b", 16, 0), 7);
  EXPECT_EQ(window_left("gpt-oss-20b", 256, 2), 0);  // itself alone
  EXPECT_GT(window_left("gpt-oss-20b", 1, 1), 1 << 25) << "more than any request has";
  EXPECT_EQ(window_left("llama-3.1-8b", 1, 0), -1) << "no mask to give";
  EXPECT_EQ((LayerSpec{.model = find_model("gemma-3-12b"), .shrink = 8}.windows()), (std::vector<std::int32_t>{128, 0}));
}

TEST(LayerSpec, SinksAreOneForEveryHead) {
  const LayerSpec layers{.model = find_model("gpt-oss-20b")};
  const std::vector<float> sinks = layers.sinks();
  EXPECT_EQ(sinks.size(), 64u);
  EXPECT_EQ(std::set<float>(sinks.begin(), sinks.end()).size(), 64u);
  EXPECT_TRUE(std::all_of(sinks.begin(), sinks.end(), [](float sink) { return sink >= -2 && sink < 2; }));
  EXPECT_TRUE((LayerSpec{.model = find_model("tiny")}.sinks().empty()));
}

TEST(Model, FromJson) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "model_test.json";
  const auto message = [&](const std::string& text) {
    std::ofstream(path) << text;
    const std::string said = message_of(path.string());
    return said.starts_with(path.string() + ": ") ? said.substr(path.string().size() + 2) : said;
  };
  const std::string heads = R"("num_qo_heads": 8, "num_kv_heads": 2, "head_dim_qk": 64)";
  EXPECT_EQ(message("{" + heads + R"(, "windows": [128, 0], "soft_cap": 30, "num_layers": 4})"), "(no error)");
  const Model model = find_model(path.string());
  EXPECT_EQ(model.head_dim_vo, 64);
  EXPECT_EQ(model.num_layers, 4);
  EXPECT_EQ(model.windows, (std::vector<std::int32_t>{128, 0}));
  EXPECT_EQ(model.variant(), "sliding_window+soft_cap");
  EXPECT_EQ(message("{"), "it is no JSON (wrong at byte 2 of 1); docs/json.md shows a model");
  EXPECT_EQ(message(R"({"num_qo_heads": 1e999})"), "it is no JSON (a number in it is too large); docs/json.md shows a model");
  EXPECT_EQ(message(std::string(200'000, '[') + std::string(200'000, ']')),
            "a list more than 16 levels deep is not an object; write { ... }");
  EXPECT_EQ(message("[]"), "[] is not an object; write { ... }");
  EXPECT_EQ(message("{}"), "num_qo_heads: missing; this key is required");
  EXPECT_EQ(message(R"({"num_qo_heads": 8, "num_kv_heads": 3, "head_dim_qk": 64})"),
            "num_kv_heads: 3 does not divide num_qo_heads 8; it must");
  EXPECT_EQ(message(R"({"num_qo_heads": 8, "num_kv_heads": 2, "head_dim_qk": 66})"), "head_dim_qk: 66 is no multiple of 4; it must be");
  EXPECT_EQ(message("{" + heads + R"(, "windows": []})"),
            "windows: [] is not a list of numbers; one window per layer of a period; 0: unlimited");
  EXPECT_EQ(message("{" + heads + R"(, "windows": [-1]})"), "windows: -1 is outside 0..16777216; give a number in that range");
  EXPECT_EQ(message("{" + heads + R"(, "windows": [1, 2, 3], "num_layers": 2})"),
            "windows: 3 for 2 layers; one window per layer of a period; num_layers counts them all");
  EXPECT_EQ(message("{" + heads + R"(, "soft_cap": 0})"), "soft_cap: 0 is not a number above 0; leave the key out for none");
  EXPECT_EQ(message("{" + heads + R"(, "soft_cap": 1e300})"), "soft_cap: 1e+300 is not a float; give 1.18e-38..3.4e+38");
  EXPECT_EQ(message("{" + heads + R"(, "sink": 1})"), "sink: 1 is neither true nor false; give one of them");
  EXPECT_EQ(message("{" + heads + R"(, "sink": true, "soft_cap": 3})"), "(no error)");
  EXPECT_EQ(find_model(path.string()).variant(), "causal+soft_cap+sink");
  EXPECT_EQ(message("{" + heads + R"(, "window": 3})").substr(0, 28), "window: unknown key (value 3");
  std::filesystem::remove(path);
  EXPECT_NE(message_of(path.string()).find("can't be read; give a file or one of tiny"), std::string::npos);
}

}  // namespace
}  // namespace fovea::serving
