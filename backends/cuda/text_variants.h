// Variants that are no part of the library: a caller's text, or a composition that is not built in. NVRTC compiles what the host must know
// of them (fields, defaults, range); kernels compile the same text.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "backends/cuda/compiler.h"
#include "src/backend.h"

namespace fovea::cuda {

/// Throws InvalidArgument or CompileFailed for what a look at the text finds (src/jit/look.h).
CompileRequest variant_program(const Variant& variant, std::string_view architecture);

/// What a cubin of variant_program() says of its variant.
class TextVariant {
 public:
  /// `gpu` null: its range can't be asked for.
  TextVariant(const Variant& variant, const jit::Artefact& cubin, const Gpu* gpu);
  ~TextVariant();
  TextVariant(const TextVariant&) = delete;
  TextVariant& operator=(const TextVariant&) = delete;

  const Variant& variant() const { return variant_; }
  const VariantInfo& shape() const { return shape_; }

 private:
  struct Names;
  class OnGpu;
  Variant variant_;
  std::unique_ptr<Names> names_;
  std::unique_ptr<OnGpu> on_gpu_;
  VariantInfo shape_;
};

/// The text variants of a backend. What get() returned stays valid as long as it. Safe from several threads.
class TextVariants {
 public:
  TextVariants(const Gpu* gpu, const Compiler& compiler) : gpu_(gpu), compiler_(compiler) {}
  const VariantInfo& get(const Variant& variant) const;

 private:
  const Gpu* gpu_;
  const Compiler& compiler_;
  mutable std::mutex mutex_;
  mutable std::deque<TextVariant> variants_;
};

}  // namespace fovea::cuda
