#include "backends/cpu/scratch.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "src/support/check.h"

namespace fovea::cpu {
namespace {

constexpr std::size_t kAlignment = 128;  // two cache lines: neighbours' writes don't pull each other's lines
/// Arrays that are walked together are powers of two apart without this, and fight for the same cache sets.
constexpr std::size_t kStagger = 5 * kAlignment;

/// Hands out adjacent arrays; without a base it only counts.
class Layout {
 public:
  explicit Layout(std::byte* base) : base_(base) {}
  template <class T>
  void place(T*& array, std::int64_t count) {
    array = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + bytes_);
    bytes_ += (static_cast<std::size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment + kStagger;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* base_;
  std::size_t bytes_ = 0;
};

std::int64_t padded(std::int64_t head_dim) { return (head_dim + kRowPadding - 1) / kRowPadding * kRowPadding; }

void lay_out(const Problem& problem, const Choice& choice, const VariantCode& variant, Scratch& s, Layout& layout) {
  std::int64_t columns = 0;
  for (const KernelConfig& config : choice.configs) {
    columns = std::max<std::int64_t>(columns, config.tile_kv);
  }
  const std::int64_t dim_qk = padded(problem.spec.head_dim_qk), dim_vo = padded(problem.spec.head_dim_vo);
  float* q = nullptr;
  layout.place(q, kMaxSetRows * dim_qk);
  s.q = q;
  layout.place(s.o, kMaxSetRows * dim_vo);
  layout.place(s.scores, kMaxSetRows * columns);
  layout.place(s.k_panels, columns * dim_qk);
  layout.place(s.v_panels, columns * dim_vo);
  layout.place(s.k_stage, variant.transform_key != nullptr ? columns * dim_qk : 0);
  layout.place(s.v_stage, variant.transform_value != nullptr ? columns * dim_vo : 0);
  layout.place(s.row_max, kMaxSetRows);
  layout.place(s.row_sum, kMaxSetRows);
  layout.place(s.rows, kMaxSetRows);
  for (TileColumns& tile : s.tiles) {
    layout.place(tile.k_scale, columns);
    layout.place(tile.v_scale, columns);
    for (ColumnTable& head : tile.heads) {
      layout.place(head.k_rows, columns);
      layout.place(head.v_rows, columns);
      layout.place(head.k_scale, columns);
      layout.place(head.v_scale, columns);
    }
    layout.place(tile.table.k_rows, columns);
    layout.place(tile.table.v_rows, columns);
    layout.place(tile.table.kv_pos, columns);
    layout.place(tile.table.live, columns);
  }
  float* zeros = nullptr;
  layout.place(zeros, std::max(dim_qk, dim_vo));
  s.zeros = zeros;
}

}  // namespace

void ScratchPool::Free::operator()(void* memory) const noexcept { std::free(memory); }

ScratchPool::ScratchPool(const Problem& problem, const Choice& choice, const VariantCode& variant, int num_slots)
    : scratch_(static_cast<std::size_t>(num_slots)) {
  Layout counter(nullptr);
  for (Scratch& s : scratch_) {
    lay_out(problem, choice, variant, s, counter);
  }
  bytes_ = (counter.bytes() + kAlignment - 1) / kAlignment * kAlignment;
  memory_.reset(std::aligned_alloc(kAlignment, bytes_));
  if (memory_ == nullptr) {
    throw DeviceFailed(fmt::format("prepare: the host has no {} bytes left for the scratch of {} threads", bytes_, num_slots));
  }
  std::memset(memory_.get(), 0, bytes_);  // touched now, not in the first run; and `zeros` is all zeros
  Layout layout(static_cast<std::byte*>(memory_.get()));
  for (Scratch& s : scratch_) {
    lay_out(problem, choice, variant, s, layout);
  }
}

}  // namespace fovea::cpu
