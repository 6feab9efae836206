// The cache as people manage it: listed by use, pruned from the end, nothing else touched.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "fovea/compile.h"
#include "src/jit/cache.h"
#include "tests/jit/fixture.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

class CacheFiles : public testing::Test {
 protected:
  /// An entry of about `bytes`, last used so many hours ago.
  void add(const std::string& label, std::uint64_t digest, std::size_t bytes, int hours) {
    const jit::Cache cache = jit::Cache::from_environment();
    const jit::Program program{.source_name = "source.cu", .source = "x", .headers = {}, .embedded = {}};
    const jit::Artefact made = cache.get_or_build({.label = label, .digest = {digest, 1}}, program, [&] {
      jit::Built built;
      built.bytes = std::string(bytes, 'c');
      return built;
    });
    const fs::path folder = fs::path(made.path).parent_path();
    for (const fs::directory_entry& file : fs::directory_iterator(folder)) {
      fs::last_write_time(file.path(), fs::file_time_type::clock::now() - std::chrono::hours(hours));
    }
  }
  test::FreshCache cache_;
};

TEST_F(CacheFiles, ListedByUse) {
  EXPECT_TRUE(cache_entries().empty());
  add("old", 1, 100, 50);
  add("new", 2, 3000, 1);
  const std::vector<CacheEntry> entries = cache_entries();
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_TRUE(entries[0].name.starts_with("new-"));
  EXPECT_GE(entries[0].bytes, 3000);
  EXPECT_LT(entries[0].bytes, 4000);
  EXPECT_TRUE(entries[1].name.starts_with("old-"));
}

TEST_F(CacheFiles, PrunedFromTheLongestUnused) {
  add("a", 1, 1000, 10);
  add("b", 2, 1000, 30);
  add("c", 3, 1000, 20);
  const std::int64_t all = cache_entries()[0].bytes * 3;
  EXPECT_TRUE(prune_cache(all).empty());
  const std::vector<CacheEntry> removed = prune_cache(all - 1);
  ASSERT_EQ(removed.size(), 1u);
  EXPECT_TRUE(removed[0].name.starts_with("b-"));
  EXPECT_EQ(prune_cache(0).size(), 2u);
  EXPECT_TRUE(cache_entries().empty());
}

TEST_F(CacheFiles, AHitCountsAsUse) {
  add("a", 1, 10, 100);
  add("b", 2, 10, 50);
  jit::Cache::from_environment().find({.label = "a", .digest = {1, 1}});
  EXPECT_TRUE(cache_entries()[0].name.starts_with("a-"));
}

TEST_F(CacheFiles, WhatIsNotOursStays) {
  add("a", 1, 10, 1);
  const fs::path folder = cache_folder();
  fs::create_directories(folder / "notes-of-mine");
  std::ofstream(folder / "notes-of-mine" / "keep") << "x";
  fs::create_directory_symlink(folder / "notes-of-mine", folder / "link-0123456789abcdef0123456789abcdef");
  EXPECT_EQ(cache_entries().size(), 1u);
  EXPECT_EQ(prune_cache(0).size(), 1u);
  EXPECT_TRUE(fs::exists(folder / "notes-of-mine" / "keep"));
  EXPECT_TRUE(fs::is_symlink(folder / "link-0123456789abcdef0123456789abcdef"));
}

TEST(CacheFilesWithoutACache, NothingToList) {
  const test::Environment none("FOVEA_CACHE_DIR", "");
  EXPECT_EQ(cache_folder(), "");
  EXPECT_TRUE(cache_entries().empty());
  EXPECT_TRUE(prune_cache(0).empty());
}

}  // namespace
}  // namespace fovea
