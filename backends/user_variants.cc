#include "backends/user_variants.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "backends/builtin_variants.h"
#include "backends/host_compiler.h"
#include "src/jit/build.h"
#include "src/support/check.h"
#include "src/support/file.h"

namespace fovea {
namespace {

/// Of every compile. Hidden: two texts may define the same names, and neither may meet the other's or the library's.
constexpr std::string_view kCommonFlags[] = {"-std=c++20", "-fPIC", "-shared", "-fvisibility=hidden", "-fvisibility-inlines-hidden"};

std::vector<std::string> all_flags(const std::vector<std::string>& of_target) {
  std::vector<std::string> flags(std::begin(kCommonFlags), std::end(kCommonFlags));
  flags.insert(flags.end(), of_target.begin(), of_target.end());
  return flags;
}

jit::Program program_of(const jit::VariantProgram& variant, const UserVariantTarget& target) {
  const std::array<std::string_view, 1> includes{target.include};
  const std::array<std::string_view, 1> folders{target.folder};
  const std::string last_lines = fmt::format(
      "extern \"C\" __attribute__((visibility(\"default\"))) const fovea::ExportedVariant<{0}> fovea_variant;\n"
      "const fovea::ExportedVariant<{0}> fovea_variant{{{{sizeof(fovea_variant), fovea::kVariantShapeOf<Rule>}}, {1}}};",
      target.code_type, target.code);
  return jit::generate_program({.variant = variant,
                                .target = target.name,
                                .source_name = "source.cc",
                                .includes = includes,
                                .last_lines = last_lines,
                                .folders = folders});
}

/// A shared object in memory of this process, until destroyed.
class Library {
 public:
  Library(const jit::Artefact& artefact, std::string_view what) {
    if (!artefact.path.empty()) {
      open(artefact.path, what);
      return;
    }
    const TemporaryFolder folder;  // a file may go once it is mapped
    const std::string path = folder.path() + "/variant.so";
    if (const std::string error = write_file(path, artefact.bytes); !error.empty()) {
      throw DeviceFailed(fmt::format("compile: {} can't be loaded: {}; set TMPDIR to a folder with room", what, error));
    }
    open(path, what);
  }
  ~Library() { dlclose(library_); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  const void* symbol(const char* name) const { return dlsym(library_, name); }

 private:
  void open(const std::string& path, std::string_view what) {
    library_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) {
      throw DeviceFailed(fmt::format("compile: {} can't be loaded: {}; code must be executable where it is kept, FOVEA_CACHE_DIR moves it",
                                     what, dlerror()));
    }
  }
  void* library_ = nullptr;
};

}  // namespace

struct UserVariants::Entry {
  Variant variant;
  std::unique_ptr<Library> library;
  Loaded loaded;
  CompileRecord record;
};

UserVariants::UserVariants(UserVariantTarget target) : target_(std::move(target)), cache_(jit::Cache::from_environment()) {}
UserVariants::~UserVariants() = default;

const UserVariants::Entry* UserVariants::find(const Variant& variant) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const auto& entry) { return entry->variant == variant; });
  return found == entries_.end() ? nullptr : found->get();
}

const UserVariants::Loaded& UserVariants::get(const Variant& variant) const {
  if (const Entry* entry = find(variant)) {
    return entry->loaded;
  }
  std::unique_ptr<Entry> made = make(variant);
  if (const Entry* entry = find(variant)) {
    return entry->loaded;  // another thread was first
  }
  const std::lock_guard lock(mutex_);
  return entries_.emplace_back(std::move(made))->loaded;
}

const UserVariants::Loaded& UserVariants::loaded(const Variant& variant) const {
  const Entry* entry = find(variant);
  FOVEA_ASSERT(entry != nullptr, "variant '{}' is loaded before it was asked for", variant.name);
  return entry->loaded;
}

std::unique_ptr<UserVariants::Entry> UserVariants::make(const Variant& variant) const {
  const jit::VariantProgram resolved = jit::resolve_variant(variant);
  const std::string what = fmt::format("variant '{}' on {}", variant.name, target_.name);
  const HostCompiler compiler = find_host_compiler(what);
  const std::vector<std::string> flags = all_flags(target_.flags);
  const std::string joined = fmt::format("{}", fmt::join(flags, " "));
  const std::array<std::string_view, 2> decides{compiler.version, joined};

  jit::BuildRequest request;
  request.program = program_of(resolved, target_);
  request.key = {.label = fmt::format("{}-{}", variant.name, target_.name), .digest = jit::key_of(request.program, decides)};
  request.build = [&] { return compile_shared_object(compiler, request.program, flags, what); };
  const auto when = std::chrono::system_clock::now();
  const jit::Artefact artefact = std::move(jit::get_or_build_all(cache_, {&request, 1}, what).front());

  auto entry = std::make_unique<Entry>();
  entry->variant = variant;
  entry->library = std::make_unique<Library>(artefact, what);
  const auto* exported = static_cast<const ExportedShape*>(entry->library->symbol("fovea_variant"));
  FOVEA_ASSERT(exported != nullptr && exported->struct_bytes == target_.exported_bytes, "{} exports {} bytes, {} are expected", what,
               exported == nullptr ? 0 : exported->struct_bytes, target_.exported_bytes);
  entry->loaded = {.info = variant_info(variant.name, exported->shape), .exported = exported};
  entry->record = {.variant = variant.name,
                   .target = target_.name,
                   .compiler = compiler.version,
                   .cached = artefact.cached,
                   .seconds = artefact.seconds,
                   .cpu_seconds = artefact.cpu_seconds,
                   .path = artefact.path,
                   .when = when};
  return entry;
}

std::vector<CompileRecord> UserVariants::records() const {
  const std::lock_guard lock(mutex_);
  std::vector<CompileRecord> records;
  for (const std::unique_ptr<Entry>& entry : entries_) {
    records.push_back(entry->record);
  }
  return records;
}

bool is_compiled_in(const Variant& variant) {
  const std::span<const VariantInfo> known = builtin_variants();
  const auto found = std::find_if(known.begin(), known.end(), [&](const VariantInfo& info) { return info.name == variant.name; });
  // A text with a built-in's name must be refused, not ignored.
  return found != known.end() && std::none_of(variant.sources.begin(), variant.sources.end(), [&](const VariantSource& source) {
           return std::find(found->parts.begin(), found->parts.end(), source.name) != found->parts.end();
         });
}

}  // namespace fovea
