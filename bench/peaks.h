// What a machine can do at most, measured: how fast it reads memory and how fast it multiplies and adds. Ratios in `fovea bench` are
// against these.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace fovea::bench {

/// Ways to read bytes with 32-byte loads. Which is fastest depends on the machine.
enum class ReadLoop : std::uint8_t {
  sum,           // plain loads, added up
  prefetched,    // plain loads with software prefetch
  non_temporal,  // streaming loads with prefetch around the caches
};
inline constexpr ReadLoop kReadLoops[] = {ReadLoop::sum, ReadLoop::prefetched, ReadLoop::non_temporal};
const char* name_of(ReadLoop loop);

enum class Isa : std::uint8_t { scalar, avx2, avx512, avx512_bf16 };
const char* name_of(Isa isa);

/// The widest instruction set for float32 named in a text such as Engine::describe().
Isa isa_in(const std::string& text);

/// Threads that measure. The number is the engine's budget.
class Peaks {
 public:
  explicit Peaks(int num_threads);  // 0: all this process may use
  ~Peaks();
  int num_threads() const;

  /// Reads all the bytes once, all threads together. The result only keeps the compiler from dropping the loads.
  std::uint64_t read(ReadLoop loop, std::span<const std::byte> bytes) const;

  /// Runs `steps` steps of a loop of multiply-adds in registers on every thread: float32 FMAs, or with avx512_bf16 sums of products of
  /// bf16 pairs. Returns how many floating-point operations that was.
  double multiply_add(Isa isa, std::int64_t steps) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fovea::bench
