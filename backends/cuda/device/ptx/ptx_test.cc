// Every wrapper of this folder, with exact integers: compiled on any machine that has NVRTC (no spills, no serialised wgmma), run where
// there is a GPU.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <optional>
#include <random>

#include "backends/cuda/compiler.h"
#include "backends/cuda/device/ptx/ptx_test_kernels.h"
#include "backends/cuda/memory.h"
#include "backends/cuda/tensor_map.h"
#include "portable/convert.h"
#include "src/jit/compile_log.h"

namespace fovea::cuda {
namespace {

CompileRequest request_for(std::string_view label, std::string_view source) {
  const std::string_view folders[] = {"fovea/", "portable/", "backends/cuda/device/"};
  return {.label = std::string(label),
          .program = {
              .source_name = "source.cu", .source = std::string(source), .headers = {}, .embedded = jit::embedded_sources_under(folders)}};
}

struct Source {
  const char* name;
  std::string_view text;
  const char* oldest;  // architecture
};
constexpr Source kSources[] = {
    {"ptx_warp", kWarpKernels, "sm_80"}, {"ptx_hopper", kHopperKernels, "sm_90a"}, {"ptx_wgmma", kWgmmaKernels, "sm_90a"}};

bool has_nvrtc(const Compiler& compiler) { return compiler.describe().find("no usable NVRTC") == std::string::npos; }

TEST(PtxCompile, WithoutSpillsOrSerialisedProducts) {
  for (const Source& source : kSources) {
    for (const std::string architecture : {"sm_80", "sm_90a"}) {
      const Compiler compiler(architecture, 0);
      if (!has_nvrtc(compiler)) {
        GTEST_SKIP() << compiler.describe();
      }
      if (architecture < source.oldest) {
        continue;
      }
      const CompileRequest request = request_for(source.name, source.text);
      const jit::CompileReport report = jit::read_compile_log(compiler.compile({&request, 1}, source.name)[0].log);
      EXPECT_EQ(report.spilled_bytes, 0) << source.name << " for " << architecture;
      EXPECT_TRUE(report.clean() && report.warnings.empty()) << source.name << " for " << architecture << ": " << report.warnings[0];
    }
  }
}

/// Bytes on the GPU while the test lasts.
class Memory {
 public:
  Memory(const Gpu& gpu, const void* bytes, std::size_t count) : gpu_(gpu), count_(count), memory_(allocate(gpu, count)) {
    const ContextScope scope(gpu.context());
    checked("cuMemcpyHtoD", driver().api.cuMemcpyHtoD(device_pointer(memory_), bytes, count), "{} bytes", count);
  }
  ~Memory() { free_memory(gpu_, memory_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* get() const { return memory_; }
  template <class T>
  std::vector<T> read() const {
    const ContextScope scope(gpu_.context());
    checked("cuStreamSynchronize", driver().api.cuStreamSynchronize(nullptr), "a kernel under test");
    std::vector<T> values(count_ / sizeof(T));
    checked("cuMemcpyDtoH", driver().api.cuMemcpyDtoH(values.data(), device_pointer(memory_), count_), "{} bytes", count_);
    return values;
  }

 private:
  const Gpu& gpu_;
  std::size_t count_;
  void* memory_;
};

class Ptx : public testing::Test {
 protected:
  void SetUp() override {
    try {
      gpu_.emplace(0);
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
  /// Skips the test on GPUs that don't have the instructions.
  void use(const Source& source) {
    if (source.oldest == std::string_view("sm_90a") && gpu_->architecture() != "sm_90a") {
      GTEST_SKIP() << "on " << gpu_->architecture() << " there is nothing of " << source.name;
    }
    const Compiler compiler(gpu_->architecture(), driver().version);
    const CompileRequest request = request_for(source.name, source.text);
    const jit::Artefact cubin = compiler.compile({&request, 1}, source.name)[0];
    module_ = std::make_unique<CubinModule>(*gpu_, cubin.bytes, source.name);
  }
  template <class T>
  Memory& memory(const std::vector<T>& values) {
    return memory_.emplace_back(*gpu_, values.data(), values.size() * sizeof(T));
  }
  template <class T>
  Memory& poisoned(std::size_t count) {
    return memory(std::vector<std::uint8_t>(count * sizeof(T), 0xa5));
  }
  /// Pointers, ints and TensorMaps, as the kernel takes them.
  template <class... Arguments>
  void run(const char* kernel, int grid, int threads, int shared_bytes, Arguments... arguments) {
    const ContextScope scope(gpu_->context());
    void* parameters[] = {&arguments...};
    launch(*gpu_,
           {.kernel = kernel,
            .function = module_->function(kernel, shared_bytes),
            .grid = grid,
            .threads = threads,
            .shared_bytes = shared_bytes},
           nullptr, parameters);
  }
  std::vector<int> integers(std::size_t count, int lowest, int highest) {
    std::vector<int> values(count);
    for (int& value : values) {
      value = std::uniform_int_distribution<int>(lowest, highest)(random_);
    }
    return values;
  }
  static std::vector<std::uint8_t> as(DType dtype, const std::vector<int>& values) {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(bytes_of(dtype, static_cast<long long>(values.size()))));
    for (std::size_t i = 0; i < values.size(); ++i) {
      from_float(dtype, bytes.data(), static_cast<std::int64_t>(i), static_cast<float>(values[i]));
    }
    return bytes;
  }

  std::optional<Gpu> gpu_;
  std::unique_ptr<CubinModule> module_;
  std::deque<Memory> memory_;
  std::mt19937 random_{11};
};

std::vector<std::uint8_t> random_bytes(std::size_t count) {
  std::vector<std::uint8_t> bytes(count);
  std::mt19937 random(3);
  for (std::uint8_t& byte : bytes) {
    byte = static_cast<std::uint8_t>(random() >> 7);
  }
  return bytes;
}

TEST_F(Ptx, AsynchronousCopies) {
  use(kSources[0]);
  const std::vector<std::uint8_t> in = random_bytes(512);
  Memory& out = poisoned<std::uint8_t>(640);
  run("copies", 1, 32, 0, memory(in).get(), out.get());
  const auto got = out.read<std::uint8_t>();
  for (std::size_t i = 0; i < 640; ++i) {
    const std::size_t lane = i < 512 ? i / 16 : (i - 512) / 4;
    const bool read = i < 512 ? i % 16 < lane / 2 : lane % 2 == 1;
    EXPECT_EQ(got[i], read ? in[i < 512 ? i : i - 512] : 0) << i;
  }
}

TEST_F(Ptx, MatricesLoaded) {
  use(kSources[0]);
  std::vector<std::uint16_t> in(256);
  for (std::size_t i = 0; i < in.size(); ++i) {
    in[i] = static_cast<std::uint16_t>(i);
  }
  Memory& out = poisoned<std::uint16_t>(32 * 24);
  run("load_matrices", 1, 32, 0, memory(in).get(), out.get());
  const auto got = out.read<std::uint16_t>();
  for (std::size_t lane = 0; lane < 32; ++lane) {
    for (std::size_t i = 0; i < 24; ++i) {
      const std::size_t word = i / 2, matrix = word < 8 ? word % 4 : word % 2, g = lane / 4, j = 2 * (lane % 4) + i % 2;
      const bool transposed = (word >= 4 && word < 8) || word >= 10;
      EXPECT_EQ(got[24 * lane + i], 64 * matrix + (transposed ? 8 * j + g : 8 * g + j)) << lane << ", " << i;
    }
  }
}

TEST_F(Ptx, WarpProducts) {
  use(kSources[0]);
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const std::vector<int> a = integers(256, -8, 8), b = integers(128, -8, 8);
    Memory& out = poisoned<float>(128);
    run(dtype == DType::f16 ? "multiply_f16" : "multiply_bf16", 1, 32, 0, memory(as(dtype, a)).get(), memory(as(dtype, b)).get(),
        out.get());
    const auto got = out.read<float>();
    for (std::size_t i = 0; i < 128; ++i) {
      int sum = 0;
      for (std::size_t k = 0; k < 16; ++k) {
        sum += a[i / 8 * 16 + k] * b[k * 8 + i % 8];
      }
      EXPECT_EQ(got[i], static_cast<float>(sum)) << i;
    }
  }
}

TEST_F(Ptx, BytesWidened) {
  use(kSources[0]);
  Memory& out = poisoned<std::uint32_t>(1024);
  run("widen", 1, 256, 0, out.get());
  const auto got = out.read<std::uint16_t>();
  for (std::size_t i = 0; i < 256; ++i) {
    for (std::size_t n = 0; n < 8; ++n) {
      const std::uint8_t byte = static_cast<std::uint8_t>(n % 2 ? i ^ 0x80 : i);
      const float expected = to_float(n < 4 ? DType::e4m3 : DType::e5m2, &byte, 0);
      const float value = to_float(n / 2 % 2 ? DType::bf16 : DType::f16, got.data(), static_cast<std::int64_t>(8 * i + n));
      EXPECT_TRUE(value == expected || (std::isnan(value) && std::isnan(expected))) << i << ", " << n << ": " << value << ", " << expected;
    }
  }
}

TEST_F(Ptx, MatricesStored) {
  use(kSources[1]);
  std::vector<std::uint16_t> in(256);
  for (std::size_t i = 0; i < in.size(); ++i) {
    in[i] = static_cast<std::uint16_t>(i + 1);
  }
  Memory& out = poisoned<std::uint16_t>(768);
  run("store_matrices", 1, 32, 0, memory(in).get(), out.get());
  const auto got = out.read<std::uint16_t>();
  for (std::size_t i = 0; i < 768; ++i) {
    const std::size_t part = i / 256, place = part < 2 ? i % 256 : i % 128;
    const bool transposed = part == 1 || i >= 640;
    const std::size_t from = transposed ? place / 64 * 64 + place % 8 * 8 + place % 64 / 8 : place;
    EXPECT_EQ(got[i], from + 1) << i;
  }
}

TEST_F(Ptx, BulkCopies) {
  use(kSources[1]);
  const std::vector<std::uint8_t> in = random_bytes(4096);
  Memory& out = poisoned<std::uint8_t>(4096);
  run("copy_bytes", 1, 64, 0, memory(in).get(), out.get());
  const auto got = out.read<std::uint8_t>();
  for (std::size_t i = 0; i < in.size(); ++i) {
    ASSERT_EQ(got[i], static_cast<std::uint8_t>(in[i] + 1)) << i;
  }
}

TEST_F(Ptx, ArrivalsCounted) {
  use(kSources[1]);
  const std::vector<int> in = integers(512, 0, 1000000);
  Memory& out = poisoned<int>(640);
  run("arrivals", 1, 128, 0, memory(in).get(), out.get());
  const auto got = out.read<int>();
  for (std::size_t i = 0; i < 640; ++i) {
    EXPECT_EQ(got[i], i < 512 ? in[i] : 0) << i;
  }
}

TEST_F(Ptx, BarriersOfSomeThreads) {
  use(kSources[1]);
  Memory& out = poisoned<int>(128);
  run("barriers", 1, 128, 0, out.get());
  const auto got = out.read<int>();
  for (int i = 0; i < 128; ++i) {
    EXPECT_EQ(got[static_cast<std::size_t>(i)], i < 64 ? 1 : 127 - i) << i;
  }
}

/// Byte of a row of 128 bytes after the 128-byte swizzle.
std::size_t swizzled(std::size_t row, std::size_t byte) { return row * 128 + ((byte / 16) ^ (row & 7)) * 16 + byte % 16; }

// A cache [pages][slots][heads][128] of 16-bit elements, 16 slots and 3 heads; boxes of 16 slots, one half of the elements or both.
TEST_F(Ptx, BoxesOfTensors) {
  use(kSources[1]);
  constexpr std::size_t kPages = 5, kSlots = 16, kHeads = 3;
  const std::vector<std::uint8_t> cache = random_bytes(kPages * kSlots * kHeads * 256);
  const std::vector<std::uint8_t> matrix = random_bytes(32 * 128);
  Memory &cache_memory = memory(cache), &matrix_memory = memory(matrix), &stored = poisoned<std::uint8_t>(32 * 128);
  const std::uint64_t extents4[] = {128, kSlots, kHeads, kPages}, strides4[] = {kHeads * 256, 256, kSlots * kHeads * 256};
  const std::uint64_t extents5[] = {64, kSlots, 2, kHeads, kPages}, strides5[] = {kHeads * 256, 128, 256, kSlots * kHeads * 256};
  const std::uint64_t extents2[] = {32, 32}, strides2[] = {128};
  const unsigned box4[] = {64, 16, 1, 1}, box5[] = {64, 16, 2, 1, 1}, box2[] = {32, 8};
  const ContextScope scope(gpu_->context());
  const TensorMap map4 =
      tensor_map(cache_memory.get(), {.dtype = DType::bf16, .extents = extents4, .strides_bytes = strides4, .box = box4});
  const TensorMap map5 = tensor_map(cache_memory.get(), {.dtype = DType::f16, .extents = extents5, .strides_bytes = strides5, .box = box5});
  const TensorMap in2 = tensor_map(matrix_memory.get(), {.dtype = DType::f32, .extents = extents2, .strides_bytes = strides2, .box = box2});
  const TensorMap out2 = tensor_map(stored.get(), {.dtype = DType::f32, .extents = extents2, .strides_bytes = strides2, .box = box2});
  // Slots from `slot` on; a page that is none gives zeros, and so do slots past the page's end.
  for (const auto& [slot, head, page] : {std::array{0, 1, 3}, std::array{5, 2, 0}, std::array{0, 0, -1}, std::array{8, 2, 5}}) {
    Memory& out = poisoned<std::uint8_t>(3 * 4096);
    run("boxes", 1, 64, 0, map4, map5, in2, out2, out.get(), slot, head, page);
    const auto got = out.read<std::uint8_t>();
    for (std::size_t row = 0; row < 16; ++row) {
      for (std::size_t byte = 0; byte < 256; ++byte) {
        const bool inside = page >= 0 && page < static_cast<int>(kPages) && row + static_cast<std::size_t>(slot) < kSlots;
        const std::size_t from =
            ((static_cast<std::size_t>(page) * kSlots + static_cast<std::size_t>(slot) + row) * kHeads + static_cast<std::size_t>(head)) *
                256 +
            byte;
        const int expected = inside ? cache[from] : 0;
        ASSERT_EQ(got[4096 + byte / 128 * 2048 + swizzled(row, byte % 128)], expected) << "5-D, page " << page << ", row " << row;
        if (byte >= 128) {
          ASSERT_EQ(got[swizzled(row, byte - 128)], expected) << "4-D, page " << page << ", row " << row;
        }
      }
    }
    const auto back = stored.read<std::uint8_t>();
    for (std::size_t row = 0; row < 8; ++row) {
      for (std::size_t byte = 0; byte < 128; ++byte) {
        const std::size_t from = (static_cast<std::size_t>(slot) + row) * 128 + byte;
        ASSERT_EQ(got[8192 + swizzled(row, byte)], matrix[from]) << "2-D, row " << row;
        ASSERT_EQ(back[(8 + row) * 128 + byte], matrix[from]) << "stored, row " << row;
      }
    }
  }
}

TEST_F(Ptx, Clusters) {
  use(kSources[1]);
  const std::vector<int> matrix = integers(32 * 32, 0, 1000000);
  const std::uint64_t extents[] = {32, 32}, strides[] = {128};
  const unsigned box[] = {32, 8};
  const ContextScope scope(gpu_->context());
  const TensorMap map =
      tensor_map(memory(matrix).get(), {.dtype = DType::f32, .extents = extents, .strides_bytes = strides, .box = box, .swizzle_bytes = 0});
  Memory& out = poisoned<int>(8 * 36);
  run("clusters", 8, 32, 0, map, out.get());
  const auto got = out.read<int>();
  for (int cta = 0; cta < 8; ++cta) {
    const int* mine = got.data() + 36 * cta;
    EXPECT_EQ(mine[0], cta % 4);
    EXPECT_EQ(mine[1], 4);
    EXPECT_EQ(mine[2], 100 + (cta + 1) % 4);
    EXPECT_EQ(mine[3], 2 * 0x1111);
    for (std::size_t i = 0; i < 32; ++i) {
      EXPECT_EQ(mine[4 + i], cta % 4 == 2 ? 7 : matrix[8 * 32 + i]) << cta << ", " << i;
    }
  }
}

TEST_F(Ptx, GridsWaitForTheOneBefore) {
  use(kSources[1]);
  constexpr int kLinks = 20;
  Memory& values = memory(std::vector<int>((kLinks + 1) * 1024, 0));
  for (int n = 0; n < kLinks; ++n) {
    run("link", 8, 128, 0, values.get(), n);
  }
  const auto got = values.read<int>();
  for (int i = 0; i < 1024; ++i) {
    ASSERT_EQ(got[static_cast<std::size_t>(kLinks * 1024 + i)], kLinks) << i;
  }
}

struct Products {
  const char* kernel;
  DType dtype;
  int first, last, step;
};

TEST_F(Ptx, WarpgroupProducts) {
  use(kSources[2]);
  std::vector<Products> all = {{"f16_keys", DType::f16, 8, 64, 8},
                               {"a_mn_major", DType::bf16, 8, 64, 8},
                               {"a_mn_major_b_cores", DType::bf16, 8, 64, 8},
                               {"f16_a_mn_major_b_cores", DType::f16, 8, 64, 8},
                               {"b_mn_major", DType::bf16, 64, 192, 64},
                               {"a_in_registers", DType::bf16, 8, 256, 248},
                               {"a_in_registers_b_mn_major", DType::f16, 64, 128, 64},
                               {"e4m3_keys", DType::e4m3, 8, 256, 248},
                               {"e5m2_in_registers", DType::e5m2, 32, 64, 32}};
  const std::string names[] = {"n_from_8", "n_from_40", "n_from_72", "n_from_104", "n_from_136", "n_from_168", "n_from_200", "n_from_232"};
  for (int i = 0; i < 8; ++i) {
    all.push_back({names[i].c_str(), DType::bf16, 8 + 32 * i, 32 + 32 * i, 8});
  }
  for (const Products& p : all) {
    const std::vector<int> a = integers(64 * 128, -4, 4), b = integers(256 * 128, -4, 4);
    std::size_t columns = 0;
    for (int n = p.first; n <= p.last; n += p.step) {
      columns += static_cast<std::size_t>(n);
    }
    Memory& out = poisoned<float>(64 * columns);
    run(p.kernel, 1, 128, 32768 + 65536, memory(as(p.dtype, a)).get(), memory(as(p.dtype, b)).get(), out.get());
    const auto got = out.read<float>();
    std::size_t begin = 0;
    for (int n = p.first; n <= p.last; n += p.step) {
      const std::size_t width = static_cast<std::size_t>(n);
      int wrong = 0;
      for (std::size_t i = 0; i < 64 * width; ++i) {
        int sum = 0;
        for (std::size_t k = 0; k < 128; ++k) {
          sum += a[i / width * 128 + k] * b[i % width * 128 + k];
        }
        wrong += got[64 * begin + i] != static_cast<float>(sum);
      }
      EXPECT_EQ(wrong, 0) << p.kernel << ", N = " << n << ", of " << 64 * n;
      begin += width;
    }
  }
}

// ptxas has overwritten registers that wgmma was still reading in loops like this one; see wgmma.cuh.
TEST_F(Ptx, RegistersOfAWarpgroupProductStay) {
  use(kSources[2]);
  constexpr std::size_t kTiles = 12;
  const int ctas = gpu_->num_multiprocessors;
  const std::vector<int> q = integers(4096, -2, 2), kv = integers(4096 * kTiles, -2, 2);
  std::vector<int> expected(4096, 0);
  for (std::size_t n = 0; n < kTiles; ++n) {
    for (std::size_t row = 0; row < 64; ++row) {
      for (std::size_t token = 0; token < 64; ++token) {
        int score = 0;
        for (std::size_t k = 0; k < 64; ++k) {
          score += q[row * 64 + k] * kv[n * 4096 + token * 64 + k];
        }
        const int weight = ((score % 3) + 3) % 3 - 1;
        for (std::size_t k = 0; k < 64; ++k) {
          expected[row * 64 + k] += weight * kv[n * 4096 + token * 64 + k];
        }
      }
    }
  }
  Memory &q_memory = memory(as(DType::bf16, q)), &kv_memory = memory(as(DType::bf16, kv));
  for (int repeat = 0; repeat < 3; ++repeat) {
    Memory& out = poisoned<float>(static_cast<std::size_t>(ctas) * 3 * 4096);
    run("overlapped", ctas, 384, static_cast<int>(8192 * (kTiles + 1)), q_memory.get(), kv_memory.get(), out.get(),
        static_cast<int>(kTiles));
    const auto got = out.read<float>();
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      wrong += got[i] != static_cast<float>(expected[i % 4096]);
    }
    EXPECT_EQ(wrong, 0u) << "of " << got.size();
  }
}

TEST_F(Ptx, RegistersMoved) {
  use(kSources[2]);
  std::vector<float> values(640);
  const std::vector<int> given = integers(256, -4, 4);
  for (std::size_t i = 0; i < 256; ++i) {
    values[384 + i] = static_cast<float>(given[i]);
  }
  Memory& out = memory(values);
  constexpr int kSteps = 3;
  run("moved_registers", 1, 384, 0, out.get(), kSteps);
  const auto got = out.read<float>();
  for (std::size_t t = 128; t < 384; ++t) {
    float x[200], sum = 0.0f;
    for (std::size_t i = 0; i < 200; ++i) {
      x[i] = values[384 + (t * 7 + i) % 256];
    }
    for (int step = 0; step < kSteps; ++step) {
      for (std::size_t i = 0; i < 200; ++i) {
        x[i] = x[i] + x[(i + 77) % 200];
      }
    }
    for (const float value : x) {
      sum += value;
    }
    EXPECT_EQ(got[t], sum) << t;
  }
}

}  // namespace
}  // namespace fovea::cuda
