// What `bench` launches on GPUs compiles without spills; the load-only kernel is given every token once.
#include "bench/gpu.h"

#include <gtest/gtest.h>

#include <set>

#include "backends/cuda/compiler.h"
#include "bench/batch_arrays.h"
#include "bench/gpu_workloads.h"
#include "fovea/error.h"
#include "src/jit/compile_log.h"

namespace fovea::bench {
namespace {

class GpuKernels : public testing::TestWithParam<const char*> {};

TEST_P(GpuKernels, CompileWithoutSpills) {
  const cuda::Compiler compiler(GetParam(), 0);
  std::vector<std::string_view> folders{"fovea/", "portable/", "backends/cuda/probe/"};
  folders.insert(folders.end(), std::begin(cuda::kDeviceFolders), std::end(cuda::kDeviceFolders));
  const cuda::CompileRequest request{
      .label = "bench",
      .program = {
          .source_name = "source.cu", .source = gpu_kernels_source(), .headers = {}, .embedded = jit::embedded_sources_under(folders)}};
  try {
    const std::vector<jit::Artefact> cubins = compiler.compile({&request, 1}, "bench");
    const jit::CompileReport report = jit::read_compile_log(cubins[0].log);
    EXPECT_EQ(report.spilled_bytes, 0) << cubins[0].log;
    EXPECT_TRUE(report.warnings.empty()) << cubins[0].log;
  } catch (const Unsupported& error) {
    GTEST_SKIP() << error.what();
  }
}
INSTANTIATE_TEST_SUITE_P(Architectures, GpuKernels, testing::Values("sm_80", "sm_90a"));

TEST(GpuWorkloads, PiecesCoverEveryTokenOnce) {
  for (const GpuPoint& point : gpu_decode_points()) {
    const BatchArrays arrays(point.workload);
    const KvFormat& format = point.workload.spec.formats[0];
    std::int64_t tokens = 0;
    std::set<std::int32_t> seen;
    for (const BatchArrays::Piece& piece : arrays.pieces(4)) {
      ASSERT_TRUE(1 <= piece.num_tokens && piece.num_tokens <= 4);
      ASSERT_LE(piece.slot + piece.num_tokens, arrays.num_pages() * format.page_size);
      ASSERT_TRUE(seen.insert(piece.slot).second) << point.workload.name << " slot " << piece.slot;
      tokens += piece.num_tokens;
    }
    EXPECT_EQ(tokens, point.workload.kv_tokens()) << point.workload.name;
  }
}

TEST(GpuWorkloads, PiecesOfAWindowAreTheLastTokens) {
  for (const KvFormat& format : {KvFormat::paged(16), KvFormat::paged(1), KvFormat::ragged()}) {
    Workload workload = gpu_decode_points()[0].workload;
    workload.spec.formats = {format};
    workload.requests = {{.qo_len = 1, .kv_len = 100}, {.qo_len = 1, .kv_len = 0}, {.qo_len = 1, .kv_len = 20}};
    const BatchArrays arrays(workload, false);  // pages in order: slots of a request are adjacent
    std::set<std::int32_t> slots;
    for (const BatchArrays::Piece& piece : arrays.pieces(5, 30)) {
      for (std::int32_t i = 0; i < piece.num_tokens; ++i) {
        slots.insert(piece.slot + i);
      }
    }
    const std::int32_t second = format.page_size == 16 && format.has_table ? 112 : 100;
    EXPECT_EQ(slots.size(), 50u);
    EXPECT_EQ(*slots.begin(), 70);
    EXPECT_TRUE(slots.contains(99) && slots.contains(second) && !slots.contains(second - 1 == 99 ? 69 : second - 1));
    EXPECT_EQ(*slots.rbegin(), second + 19);
  }
}

TEST(GpuWorkloads, SkewedBatchesHaveAnEvenOneOfAsManyTokens) {
  std::int64_t skewed = 0;
  const std::vector<GpuPoint> points = gpu_decode_points();
  for (const GpuPoint& point : points) {
    for (const GpuPoint& other : points) {
      if (other.workload.name == point.even) {
        ++skewed;
        const auto requests = static_cast<std::int64_t>(point.workload.requests.size());
        EXPECT_LT(point.workload.kv_tokens() - other.workload.kv_tokens(), requests) << point.workload.name;
      }
    }
  }
  EXPECT_EQ(skewed, 2);
}

}  // namespace
}  // namespace fovea::bench
