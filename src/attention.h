// What stands behind the handles Attention and Plan.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>

#include "fovea/engine.h"
#include "src/backend.h"
#include "src/problem/problem.h"
#include "src/schedule/schedule.h"
#include "src/select/select.h"

namespace fovea {

/// Room for any variant's Mask or Params: fixed, so that plan() and run() need no heap. A larger one is refused at prepare().
struct alignas(16) VariantStorage {
  std::byte bytes[kMaxVariantBytes] = {};
};
void check_variant_storage(const VariantInfo& variant);

struct Attention::Impl {
  std::shared_ptr<Engine::Impl> engine;  // keeps backend alive
  const Backend* backend = nullptr;
  Problem problem;
  const VariantInfo* variant = nullptr;
  Selection selection;
  PlanCapacity capacity;
  WorkBounds most_work[2];  // of any plan whose groups are of one request each, and of any plan at all
  std::unique_ptr<Module> module;
};

/// A mask as planned for.
struct PlannedMask {
  VariantStorage mask;
  KvRange range;  // of the mask; everything for `any`
  TileMap tile_map;
  bool any = false;  // the mask comes with every run
  WorkBounds work;   // what schedule() found there is to do
};

/// Device memory of a backend.
class DeviceMemory {
 public:
  DeviceMemory(const Backend& backend, std::size_t bytes) : backend_(backend), memory_(backend.allocate(bytes)) {}
  ~DeviceMemory() { backend_.free(memory_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* get() const { return memory_; }

 private:
  const Backend& backend_;
  void* memory_;
};

/// Host memory that a device can write.
class SharedMemory {
 public:
  SharedMemory(const Backend& backend, std::size_t bytes) : backend_(backend), memory_(backend.allocate_shared(bytes)) {}
  ~SharedMemory() { backend_.free_shared(memory_); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  void* get() const { return memory_; }

 private:
  const Backend& backend_;
  void* memory_;
};

/// What a plan needs to be written by its device.
struct PlannerMemory {
  PlannerMemory(const Backend& backend, const PlanCapacity& capacity);
  volatile PlanStatus& status() const { return *static_cast<PlanStatus*>(status_memory.get()); }
  DeviceMemory scratch;
  SharedMemory status_memory;
};

/// Where plans are written, 64-byte aligned as planners want it.
class HostMemory {
 public:
  explicit HostMemory(std::size_t bytes) : memory_(::operator new(bytes, kAlignment)) {}
  ~HostMemory() { ::operator delete(memory_, kAlignment); }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  void* get() const { return memory_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  void* memory_;
};

struct Plan::Impl {
  explicit Impl(std::shared_ptr<Attention::Impl> attention);

  /// A plan that is being written is not one that can be run: should scheduling throw (a bug), the plan says "not planned".
  void begin_generation() { generation = 0; }
  void end_generation(const BatchView& view, const Batch& batch, std::int32_t masks_planned, Stream stream);

  /// Has the device plan a batch that only it can read: one launch for up to kMaxMasksOfLaunch masks.
  void plan_on_device(const BatchView& view, const Batch& batch, std::int32_t masks_planned, Stream stream);

  /// For those who read a plan on the host: one that the device wrote is fetched, once the stream is done with it.
  void bring_to_host() const;

  /// The plan's part of a launch; run() adds tensors and parameters.
  KernelParams kernel_params(std::int32_t mask_group) const;

  /// Its arrays as kernels see them.
  PlanArrays device_arrays_of(std::int32_t mask_group) const;

  std::shared_ptr<Attention::Impl> attention;
  HostMemory plan_memory;
  std::unique_ptr<DevicePlan> device_plan;  // null: kernels read plan_memory
  std::optional<PlannerMemory> planner;     // where the device can plan
  DeviceMemory partial_memory;
  PlanArraysMut arrays;            // in plan_memory
  PlanArraysMut device_arrays;     // in device_plan
  std::vector<PlannedMask> masks;  // max_mask_groups
  std::vector<PlannedMask> staged_masks;
  std::vector<PlanBytes> parts;  // of plan_memory that this plan has filled
  PlannedBatch batch;
  std::int32_t num_masks = 0;
  std::int32_t num_requests = 0;  // planned by the device: at most
  bool planned_by_device = false;
  bool captured_alone = false;  // a graph has a run of this plan that needn't work for groups of several requests
  Stream planned_on;
  std::uint64_t generation = 0;  // 0: not planned
  std::uint64_t num_plans = 0;
};

std::int64_t workspace_bytes_of(const PlanCapacity& capacity);

/// Throws DeviceFailed, with the bytes that there was no memory for.
std::shared_ptr<Plan::Impl> make_plan(const std::shared_ptr<Attention::Impl>& attention);

/// The plan's inside, if it was made by this attention. Throws InvalidArgument otherwise.
Plan::Impl& plan_of(const Plan& plan, const Attention::Impl& attention, std::string_view where);

/// Throws InvalidArgument unless the plan has been planned and has that mask group.
void check_planned(const Plan::Impl& plan, std::int32_t mask_group, std::string_view where);

/// Throws InvalidArgument while `stream` is captured: lengths on the host are read once, not at every replay.
void check_not_capturing(const Backend& backend, Stream stream);

/// Throws InvalidArgument for groups of several requests' rows where a captured run was told that there are none.
void check_serves_capture(const Plan::Impl& plan, const BatchView& view);

/// FOVEA_CHECK_RUNS: that tensors are where their views say, as far as the device's driver knows.
void check_memory_of_run(const Backend& backend, const PlannedBatch& batch, const RunArgs& args);

/// Throws InvalidArgument for masks that need lengths on the host.
void check_masks_for_device(const PlanArgs& args);

/// FOVEA_CHECK_RUNS: the page ids a run is about to read, against its cache tensors.
void check_pages_of_run(const Attention::Impl& attention, const RunArgs& args, const KernelParams& params);

/// The mask or params of the variant, for a batch of so many requests.
FieldsTarget fields_target(const Attention::Impl& attention, std::string_view where, std::string_view what, std::int32_t num_requests);

/// Checks the masks of a plan() call into `staged`; returns how many there are.
std::int32_t stage_masks(const Attention::Impl& attention, const PlanArgs& args, const BatchView& view, std::vector<PlannedMask>& staged);

/// Fills `mask` from its defaults and `values`, checked; returns its range.
KvRange fill_mask(const FieldsTarget& target, Values values, VariantStorage& mask);

/// The mask of a run: the plan's, which args.mask may repeat but not change, or for a mask group planned as `any` the run's own. Writes its
/// range and what is known of its tiles into `params`.
void resolve_mask(const Attention::Impl& attention, const Plan::Impl& plan, const RunArgs& args, VariantStorage& mask,
                  KernelParams& params);

}  // namespace fovea
