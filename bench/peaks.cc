#include "bench/peaks.h"

#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fovea::bench {
namespace {

constexpr std::size_t kPieceBytes = 1 << 20;  // what a thread takes at a time: small enough to level out slow cores

std::uint64_t read_scalar(const std::byte* bytes, std::size_t count) {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i + 8 <= count; i += 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes + i, 8);
    total += word;
  }
  return total;
}

#if defined(__x86_64__)

// Eight accumulators: loads are never held up by additions. The distance of the prefetches is that of hardware prefetchers plus a page.
constexpr std::size_t kStep = 256;
constexpr std::size_t kAhead = 4096;

template <ReadLoop Loop>
[[gnu::target("avx2")]] std::uint64_t read_avx2(const std::byte* bytes, std::size_t count) {
  __m256i total[8] = {};
  std::size_t at = 0;
  for (; at + kStep <= count; at += kStep) {
    for (std::size_t i = 0; i < 8; ++i) {
      auto* address = reinterpret_cast<const __m256i*>(bytes + at + 32 * i);
      if (Loop != ReadLoop::sum && i % 2 == 0) {
        const auto* ahead = reinterpret_cast<const char*>(bytes + std::min(at + 32 * i + kAhead, count - 64));
        if (Loop == ReadLoop::prefetched) {
          _mm_prefetch(ahead, _MM_HINT_T0);
        } else {
          _mm_prefetch(ahead, _MM_HINT_NTA);
        }
      }
      const __m256i value =
          Loop == ReadLoop::non_temporal ? _mm256_stream_load_si256(const_cast<__m256i*>(address)) : _mm256_load_si256(address);
      total[i] = _mm256_add_epi64(total[i], value);
    }
  }
  for (std::size_t i = 1; i < 8; ++i) {
    total[0] = _mm256_add_epi64(total[0], total[i]);
  }
  alignas(32) std::uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), total[0]);
  return lanes[0] + lanes[1] + lanes[2] + lanes[3] + read_scalar(bytes + at, count - at);
}

// Twelve independent chains: two FMA ports with a latency of at most five cycles need ten.
constexpr int kChains = 12;

[[gnu::target("avx2,fma")]] float fma_avx2(std::int64_t steps, float factor, float addend) {
  const __m256 a = _mm256_set1_ps(factor);
  const __m256 b = _mm256_set1_ps(addend);
  __m256 chain[kChains];
  for (int i = 0; i < kChains; ++i) {
    chain[i] = _mm256_set1_ps(static_cast<float>(i));
  }
  for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      chain[i] = _mm256_fmadd_ps(chain[i], a, b);
    }
  }
  float total = 0;
  for (const __m256& value : chain) {
    total += _mm256_cvtss_f32(value);
  }
  return total;
}

[[gnu::target("avx512f")]] float fma_avx512(std::int64_t steps, float factor, float addend) {
  const __m512 a = _mm512_set1_ps(factor);
  const __m512 b = _mm512_set1_ps(addend);
  __m512 chain[kChains];
  for (int i = 0; i < kChains; ++i) {
    chain[i] = _mm512_set1_ps(static_cast<float>(i));
  }
  for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      chain[i] = _mm512_fmadd_ps(chain[i], a, b);
    }
  }
  float total = 0;
  for (const __m512& value : chain) {
    total += _mm512_cvtss_f32(value);
  }
  return total;
}

[[gnu::target("avx512f,avx512bf16")]] float dot_avx512_bf16(std::int64_t steps, float factor, float addend) {
  const auto a = (__m512bh)_mm512_castps_si512(_mm512_set1_ps(factor));  // two bf16 in every lane
  const auto b = (__m512bh)_mm512_castps_si512(_mm512_set1_ps(addend));
  __m512 chain[kChains];
  for (int i = 0; i < kChains; ++i) {
    chain[i] = _mm512_set1_ps(static_cast<float>(i));
  }
  for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      chain[i] = _mm512_dpbf16_ps(chain[i], a, b);
    }
  }
  float total = 0;
  for (const __m512& value : chain) {
    total += _mm512_cvtss_f32(value);
  }
  return total;
}

std::uint64_t read_piece(ReadLoop loop, const std::byte* bytes, std::size_t count) {
  if (!__builtin_cpu_supports("avx2")) {
    return read_scalar(bytes, count);
  }
  switch (loop) {
    case ReadLoop::sum:
      return read_avx2<ReadLoop::sum>(bytes, count);
    case ReadLoop::prefetched:
      return read_avx2<ReadLoop::prefetched>(bytes, count);
    case ReadLoop::non_temporal:
      return read_avx2<ReadLoop::non_temporal>(bytes, count);
  }
  return 0;
}

#else

constexpr int kChains = 1;
std::uint64_t read_piece(ReadLoop, const std::byte* bytes, std::size_t count) { return read_scalar(bytes, count); }

#endif

float fma_scalar(std::int64_t steps, float factor, float addend) {
  float chain = 1.0f;
  for (std::int64_t step = 0; step < steps; ++step) {
    chain = chain * factor + addend;
  }
  return chain;
}

float fma_loop(Isa isa, std::int64_t steps, float factor, float addend) {
#if defined(__x86_64__)
  if (isa == Isa::avx512_bf16) {
    return dot_avx512_bf16(steps, factor, addend);
  }
  if (isa == Isa::avx512) {
    return fma_avx512(steps, factor, addend);
  }
  if (isa == Isa::avx2) {
    return fma_avx2(steps, factor, addend);
  }
#endif
  return fma_scalar(steps, factor, addend);
}

}  // namespace

const char* name_of(ReadLoop loop) {
  switch (loop) {
    case ReadLoop::sum:
      return "read_sum";
    case ReadLoop::prefetched:
      return "read_prefetched";
    case ReadLoop::non_temporal:
      return "read_non_temporal";
  }
  return "read";
}

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
  }
  return "scalar";
}

Isa isa_in(const std::string& text) {
  if (text.find("avx512") != std::string::npos) {
    return Isa::avx512;
  }
  return text.find("avx2") != std::string::npos ? Isa::avx2 : Isa::scalar;
}

struct Peaks::Impl {
  explicit Impl(int num_threads)
      : arena(num_threads > 0 ? std::min(num_threads, tbb::info::default_concurrency()) : tbb::task_arena::automatic) {
    arena.initialize();
  }
  mutable tbb::task_arena arena;
  volatile float factor = 0.9999f;  // volatile: the compiler must not know the results
  volatile float addend = 0.0001f;
  std::atomic<float> result = 0;
};

Peaks::Peaks(int num_threads) : impl_(std::make_unique<Impl>(num_threads)) {}
Peaks::~Peaks() = default;
int Peaks::num_threads() const { return impl_->arena.max_concurrency(); }

std::uint64_t Peaks::read(ReadLoop loop, std::span<const std::byte> bytes) const {
  std::atomic<std::uint64_t> total = 0;
  const std::size_t pieces = (bytes.size() + kPieceBytes - 1) / kPieceBytes;
  impl_->arena.execute([&] {
    tbb::parallel_for(
        std::size_t{0}, pieces,
        [&](std::size_t piece) {
          const std::size_t begin = piece * kPieceBytes;
          const std::size_t count = std::min(kPieceBytes, bytes.size() - begin);
          total.fetch_add(read_piece(loop, bytes.data() + begin, count), std::memory_order_relaxed);
        },
        tbb::simple_partitioner());
  });
  return total;
}

double Peaks::multiply_add(Isa isa, std::int64_t steps) const {
  // Many small shares rather than one a thread: a core that is busy elsewhere then holds nobody up.
  constexpr int kSharesPerThread = 16;
  const int shares = num_threads() * kSharesPerThread;
  const std::int64_t steps_per_share = std::max<std::int64_t>(1, steps / kSharesPerThread);
  impl_->arena.execute([&] {
    tbb::parallel_for(
        0, shares,
        [&](int) { impl_->result.store(fma_loop(isa, steps_per_share, impl_->factor, impl_->addend), std::memory_order_relaxed); },
        tbb::simple_partitioner());
  });
  const int lanes = isa == Isa::avx512_bf16 ? 32 : isa == Isa::avx512 ? 16 : isa == Isa::avx2 ? 8 : 1;
  const int chains = isa == Isa::scalar ? 1 : kChains;
  return 2.0 * lanes * chains * static_cast<double>(steps_per_share) * shares;
}

}  // namespace fovea::bench
