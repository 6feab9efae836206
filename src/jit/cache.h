// The disk cache of compiled artefacts (shared objects, cubins), generic over what they are.
//
//   <folder>/<label>-<digest>/artefact     bytes, log, footer with their digest: one file, so that a rename replaces it whole
//                             source.cc    what it was made from, for reading; build.log where it failed
//
// Many processes may use a folder at once: an entry is locked while it is built, and a file appears by rename alone. A damaged entry is
// built again. A folder that can't be read or written costs speed, never a result; the log says so once.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "src/jit/digest.h"
#include "src/jit/program.h"

namespace fovea::jit {

/// What a compiler made, or why not.
struct Built {
  std::string bytes;
  std::string log;         // what the compiler said; kept, given back on a hit
  std::string error;       // not empty: it failed, and this is what the caller should read
  double cpu_seconds = 0;  // of the compiler
};

struct Artefact {
  std::string bytes;
  std::string log;
  std::string path;        // file that begins with `bytes`; empty: not kept on disk
  bool cached = false;     // found, not built
  bool shipped = false;    // in the library: neither found on disk nor built
  double seconds = 0;      // of wall time, finding or building
  double cpu_seconds = 0;  // of the compiler; 0 where cached
};

struct CacheKey {
  std::string label;  // readable part of the entry's name: "my_cap-cpu-avx2"
  Digest digest;      // key_of(program, ...)
};

class Cache {
 public:
  /// `folder` empty: no cache. It is made on the first write.
  explicit Cache(std::string folder) : folder_(std::move(folder)) {}

  /// FOVEA_CACHE_DIR, else $XDG_CACHE_HOME/fovea, else $HOME/.cache/fovea, else none. FOVEA_CACHE_DIR set to nothing: none.
  static Cache from_environment();

  /// The artefact of `key`, from disk or from build(). Throws CompileFailed with Built::error. Safe from several threads.
  Artefact get_or_build(const CacheKey& key, const Program& program, const std::function<Built()>& build) const;

  /// On disk, and undamaged?
  std::optional<Artefact> find(const CacheKey& key) const;

  const std::string& folder() const { return folder_; }

 private:
  std::string entry_folder(const CacheKey& key) const;
  std::string folder_;
};

}  // namespace fovea::jit
