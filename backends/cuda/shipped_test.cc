// What is compiled ahead: cubins for the models of `replay`, whatever the limits, and smaller tiles for texts that spill.
#include "backends/cuda/shipped.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "backends/builtin_variants.h"
#include "backends/cuda/ahead.h"
#include "backends/cuda/module.h"
#include "serving/layer_spec.h"
#include "serving/model.h"

namespace fovea::cuda {
namespace {

class Shipped : public testing::TestWithParam<const char*> {};

TEST_P(Shipped, AKnownModelCompilesNothing) {
  const std::string architecture = GetParam();
  const GpuLimits gpu = limits_of_architecture(architecture);
  std::vector<std::string> shipped;
  for (const CompileRequest& request : shipped_requests(architecture)) {
    shipped.push_back(digest_of(request, architecture).hex());
  }
  for (const std::string& name : serving::model_names()) {
    for (const std::string& model : {name, name + "/tp2"}) {
      for (const DType kv_dtype : {DType::bf16, DType::e4m3}) {
        const serving::LayerSpec layer{.model = serving::find_model(model), .kv_dtype = kv_dtype};
        const AttentionSpec spec = layer.spec(layer.model.num_qo_heads, layer.model.num_kv_heads, 16);
        for (const Problem& problem : problems_of(spec)) {
          const Choice choice = choice_for(problem, builtin_variant(spec.variant.name), gpu);
          for (const CompileRequest& request : attention_programs(problem, choice, gpu)) {
            EXPECT_NE(std::find(shipped.begin(), shipped.end(), digest_of(request, architecture).hex()), shipped.end())
                << model << " needs " << request.label << "; add its layer to shipped.cc";
          }
        }
      }
    }
  }
}

/// A library with cubins of sm_80 and sm_86 has all for GPUs of any 8.x: those of 8.6 and 8.9 have less shared memory, and other tiles.
TEST(ShippedForOlder, LaterMinorVersionsTakeThem) {
  for (const auto& [architecture, older] : {std::pair{"sm_87", "sm_80"}, {"sm_89", "sm_86"}}) {
    ASSERT_FALSE(older_architectures(architecture).empty());
    EXPECT_EQ(older_architectures(architecture).front(), older);
    std::vector<std::string> shipped;
    for (const CompileRequest& request : shipped_requests(older)) {
      shipped.push_back(digest_of(request, older).hex());
    }
    for (const CompileRequest& request : shipped_requests(architecture)) {
      EXPECT_NE(std::find(shipped.begin(), shipped.end(), digest_of(request, older).hex()), shipped.end())
          << request.label << " of " << architecture;
    }
  }
  EXPECT_EQ(older_architectures("sm_86").size(), 1u);
  for (const char* architecture : {"sm_80", "sm_90a", "sm_100"}) {
    EXPECT_TRUE(older_architectures(architecture).empty()) << architecture;
  }
}

TEST_P(Shipped, TheLibraryHasWhatIsListed) {
  if (shipped_cubins().cubins.empty()) {
    GTEST_SKIP() << "built without cubins (FOVEA_SHIP_CUBINS)";
  }
  for (const CompileRequest& request : shipped_requests(GetParam())) {
    const ShippedCubin* found = find_shipped(digest_of(request, GetParam()), 0);
    ASSERT_NE(found, nullptr) << request.label;
    EXPECT_EQ(found->bytes.substr(0, 4),
              "\x7f"
              "ELF")
        << request.label;
  }
  // A driver of an older CUDA can't load them.
  const jit::Digest first = digest_of(shipped_requests(GetParam()).front(), GetParam());
  EXPECT_EQ(find_shipped(first, 12080) == nullptr, shipped_cubins().major > 12);
  EXPECT_NE(find_shipped(first, 1000 * shipped_cubins().major), nullptr);
}

struct Fit {
  std::vector<int> spills;  // with tiles of 64, 32 and 16 columns
  std::int32_t smallest, expected_tile;
  int expected_spills;
  std::size_t expected_compiles;
};

TEST(FitTiles, FallsWhileThatHelps) {
  for (const Fit& fit :
       {Fit{{0, 9, 9}, 16, 64, 0, 1}, Fit{{100, 0, 9}, 16, 32, 0, 2}, Fit{{100, 40, 60}, 16, 32, 40, 3}, Fit{{100, 100, 8}, 16, 16, 8, 3},
        Fit{{100, 100, 100}, 16, 64, 100, 3}, Fit{{100, 0, 0}, 0, 64, 100, 1}, Fit{{100, 50, 0}, 32, 32, 50, 2}}) {
    Choice choice{.kernel = "k", .configs = {{.tile_q = 16, .tile_kv = 64}, {.tile_q = 64, .tile_kv = 64}}, .num_workers = 1, .reason = {}};
    std::size_t compiles = 0;
    const int spilled = fit_tiles(choice, fit.smallest, [&](const Choice& c) {
      EXPECT_EQ(c.configs[0].tile_kv, c.configs[1].tile_kv);
      ++compiles;
      return fit.spills[c.configs[0].tile_kv == 64 ? 0 : c.configs[0].tile_kv == 32 ? 1 : 2];
    });
    EXPECT_EQ(choice.configs[1].tile_kv, fit.expected_tile) << fit.spills[0] << " " << fit.spills[1] << " " << fit.spills[2];
    EXPECT_EQ(spilled, fit.expected_spills);
    EXPECT_EQ(compiles, fit.expected_compiles);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Shipped, testing::Values("sm_80", "sm_90a"));

}  // namespace
}  // namespace fovea::cuda
