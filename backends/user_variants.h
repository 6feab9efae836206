// Variants that are not compiled into the library: compiled for one target by the machine's compiler, kept on disk, loaded, remembered.
// Owned by a backend; what get() returned stays valid as long as it.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "src/backend.h"
#include "src/jit/cache.h"

namespace fovea {

/// What a backend wants of a compile.
struct UserVariantTarget {
  std::string name;                  // "cpu avx2"
  std::vector<std::string> flags;    // of code generation: those of the built-in variants
  std::string_view include;          // the backend's header
  std::string_view folder;           // that the header may reach, beyond portable/ and variants/
  std::string_view code_type, code;  // C++: the type of its code, and the code of `Rule`
  std::size_t exported_bytes;        // sizeof(ExportedVariant<that type>)
};

class UserVariants {
 public:
  explicit UserVariants(UserVariantTarget target);
  ~UserVariants();

  struct Loaded {
    VariantInfo info;
    const ExportedShape* exported;  // of an ExportedVariant<Code>

    template <class Code>
    const Code& code() const {
      return static_cast<const ExportedVariant<Code>*>(exported)->code;
    }
  };

  /// Compiles on first sight. Safe from several threads, which compile different variants at the same time.
  const Loaded& get(const Variant& variant) const;

  /// One that get() has returned before.
  const Loaded& loaded(const Variant& variant) const;

  std::vector<CompileRecord> records() const;

 private:
  struct Entry;
  const Entry* find(const Variant& variant) const;
  std::unique_ptr<Entry> make(const Variant& variant) const;

  UserVariantTarget target_;
  jit::Cache cache_;
  mutable std::mutex mutex_;
  mutable std::deque<std::unique_ptr<Entry>> entries_;
};

/// Is this one of builtin_variants(), alone or as a composition?
bool is_compiled_in(const Variant& variant);

}  // namespace fovea
