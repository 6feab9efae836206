// The cache's promises: same bytes from disk, damage is seen, one build for many processes, no disk is no failure.
#include "src/jit/cache.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "fovea/error.h"
#include "src/jit/build.h"
#include "src/support/file.h"

namespace fovea::jit {
namespace {

const Program kProgram{.source_name = "source.cc", .source = "int x;\n", .headers = {{"user/a.h", "// a\n"}}, .embedded = {}};

CacheKey key_named(const std::string& name) {
  const std::string_view texts[] = {name};
  return {.label = name, .digest = digest_of(texts)};
}

/// Counts its calls; bytes with zeros and newlines in them.
struct Builder {
  int calls = 0;
  Built operator()() {
    ++calls;
    return {.bytes = std::string("\0artefact\n\xff", 11), .log = "a warning\n", .error = {}, .cpu_seconds = 0.5};
  }
};

Artefact get(const Cache& cache, const CacheKey& key, Builder& builder) {
  return cache.get_or_build(key, kProgram, [&] { return builder(); });
}

TEST(JitCache, BuildsOnceAndFindsAfterwards) {
  const TemporaryFolder folder;
  const Cache cache(folder.path() + "/deep/er");
  Builder builder;
  const Artefact first = get(cache, key_named("a"), builder);
  const Artefact second = get(Cache(cache.folder()), key_named("a"), builder);
  EXPECT_EQ(builder.calls, 1);
  EXPECT_FALSE(first.cached);
  EXPECT_EQ(first.cpu_seconds, 0.5);
  EXPECT_TRUE(second.cached);
  EXPECT_EQ(second.cpu_seconds, 0);
  EXPECT_EQ(second.bytes, first.bytes);
  EXPECT_EQ(second.bytes.size(), 11u);
  EXPECT_EQ(second.log, "a warning\n");
  EXPECT_EQ(second.path, first.path);
  EXPECT_EQ(read_file(second.path)->substr(0, second.bytes.size()), second.bytes);
  get(cache, key_named("b"), builder);
  EXPECT_EQ(builder.calls, 2);
  const std::string entry = std::filesystem::path(first.path).parent_path();
  EXPECT_EQ(read_file(entry + "/source.cc"), kProgram.source);
  EXPECT_EQ(read_file(entry + "/a.h"), kProgram.headers[0].text);
}

TEST(JitCache, AnyDamageIsSeenAndRepaired) {
  const TemporaryFolder folder;
  const Cache cache(folder.path());
  Builder builder;
  const Artefact whole = get(cache, key_named("a"), builder);
  const std::string file = *read_file(whole.path);
  std::vector<std::string> damaged{"", "x", file.substr(0, file.size() - 1), file.substr(1), file + "x", file.substr(0, file.size() / 2)};
  for (std::size_t i = 0; i < file.size(); ++i) {
    damaged.push_back(file);
    damaged.back()[i] ^= 1;
  }
  int expected = 1;
  for (const std::string& bytes : damaged) {
    ASSERT_EQ(write_file(whole.path, bytes), "");
    EXPECT_EQ(get(cache, key_named("a"), builder).bytes, whole.bytes);
    EXPECT_EQ(builder.calls, ++expected);
    EXPECT_EQ(*read_file(whole.path), file);
  }
}

TEST(JitCache, AFailureIsNotKeptAndNamesItsLog) {
  const TemporaryFolder folder;
  const Cache cache(folder.path());
  const auto fail = [] { return Built{.bytes = "half", .log = "line 3: no\n", .error = "compile: no"}; };
  try {
    cache.get_or_build(key_named("a"), kProgram, fail);
    FAIL();
  } catch (const CompileFailed& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("compile: no\n  source kept in " + folder.path())) << error.what();
  }
  EXPECT_FALSE(cache.find(key_named("a")).has_value());
  Builder builder;
  EXPECT_FALSE(get(cache, key_named("a"), builder).cached);
}

TEST(JitCache, NoFolderAndUnusableFoldersBuildEveryTime) {
  const TemporaryFolder folder;
  ASSERT_EQ(write_file(folder.path() + "/file", "not a folder"), "");
  for (const std::string& unusable : {std::string(), folder.path() + "/file/cache", std::string("/proc/nowhere/cache")}) {
    const Cache cache(unusable);
    Builder builder;
    EXPECT_EQ(get(cache, key_named("a"), builder).bytes.size(), 11u);
    const Artefact again = get(cache, key_named("a"), builder);
    EXPECT_EQ(builder.calls, 2) << unusable;
    EXPECT_EQ(again.path, "");
  }
}

TEST(JitCache, AFullDiskBuildsEveryTime) {
  const TemporaryFolder folder;
  const Cache cache(folder.path());
  Builder builder;
  // Files of this process may have 40 bytes: writes end early and then fail, as on a full disk.
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 40, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const Artefact first = get(cache, key_named("a"), builder);
  const Artefact second = get(cache, key_named("a"), builder);
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_EQ(builder.calls, 2);
  EXPECT_EQ(first.bytes.size(), 11u);
  EXPECT_EQ(second.bytes, first.bytes);
  EXPECT_EQ(second.path, "");
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder.path())) {
    EXPECT_FALSE(file.path().filename().string().starts_with("artefact")) << file.path() << " is left of a failed write";
  }
  EXPECT_NE(get(cache, key_named("a"), builder).path, "");  // there is room again
}

TEST(JitCache, AnEntryThatCannotBeReplacedIsBuiltEveryTime) {
  const TemporaryFolder folder;
  const Cache cache(folder.path());
  Builder builder;
  const Artefact first = get(cache, key_named("a"), builder);
  // A folder in the artefact's place: renaming fails.
  std::filesystem::remove(first.path);
  std::filesystem::create_directories(first.path + "/in the way");
  EXPECT_EQ(get(cache, key_named("a"), builder).path, "");
  EXPECT_EQ(get(cache, key_named("a"), builder).bytes, first.bytes);
  EXPECT_EQ(builder.calls, 3);
}

TEST(JitCache, AFolderThatEveryoneCanWriteIsNotTrusted) {
  const TemporaryFolder folder;
  const Cache cache(folder.path());
  Builder builder;
  get(cache, key_named("a"), builder);
  ASSERT_EQ(chmod(folder.path().c_str(), 0777), 0);
  EXPECT_FALSE(get(cache, key_named("a"), builder).cached);
  EXPECT_EQ(builder.calls, 2);
}

/// Eight processes and two threads each want the same entry: one builds.
TEST(JitCache, ManyProcessesBuildOnce) {
  const TemporaryFolder folder;
  const std::string builds = folder.path() + "/builds";
  std::filesystem::create_directory(builds);
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      const Cache cache(folder.path() + "/cache");
      bool same = true;
      {
        std::vector<std::jthread> threads;
        for (int t = 0; t < 2; ++t) {
          threads.emplace_back([&, t] {
            const Artefact artefact = cache.get_or_build(key_named("a"), kProgram, [&] {
              write_file(builds + "/" + std::to_string(getpid()) + "." + std::to_string(t), "built");
              usleep(100000);
              return Builder()();
            });
            same = same && artefact.bytes.size() == 11;
          });
        }
      }
      _exit(same ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  const auto entries = std::filesystem::directory_iterator(builds);
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

TEST(JitBuild, ArtefactsComeInOrderAndTheFirstFailureIsThrown) {
  const Cache cache("");
  std::vector<BuildRequest> requests;
  for (int i = 0; i < 20; ++i) {
    requests.push_back(
        {.key = key_named(std::to_string(i)), .program = kProgram, .build = [i] { return Built{.bytes = std::to_string(i)}; }});
  }
  const std::vector<Artefact> artefacts = get_or_build_all(cache, requests, "numbers");
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(artefacts[static_cast<std::size_t>(i)].bytes, std::to_string(i));
  }
  requests[7].build = [] { return Built{.error = "seven"}; };
  requests[9].build = [] { return Built{.error = "nine"}; };
  try {
    get_or_build_all(cache, requests, "numbers");
    FAIL();
  } catch (const CompileFailed& error) {
    EXPECT_STREQ(error.what(), "seven");
  }
  EXPECT_TRUE(get_or_build_all(cache, {}, "nothing").empty());
}

TEST(JitBuild, AWaitOfMoreThanASecondIsExplained) {
  testing::internal::CaptureStderr();
  const BuildRequest slow{.key = key_named("slow"), .program = kProgram, .build = [] {
                            usleep(1200000);
                            return Built{.bytes = "x"};
                          }};
  get_or_build_all(Cache(""), {&slow, 1}, "variant slow");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(said.starts_with("fovea: compiling variant slow (0 of 1 done)\nfovea: compiled variant slow in 1.")) << said;
  const BuildRequest quick{.key = key_named("quick"), .program = kProgram, .build = [] { return Built{.bytes = "x"}; }};
  testing::internal::CaptureStderr();
  get_or_build_all(Cache(""), {&quick, 1}, "variant quick");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(JitDigest, TextsAreToldApart) {
  const auto of = [](std::vector<std::string_view> texts) { return digest_of(texts).hex(); };
  EXPECT_EQ(of({"ab", "c"}), of({"ab", "c"}));
  EXPECT_NE(of({"ab", "c"}), of({"a", "bc"}));
  EXPECT_NE(of({"ab", ""}), of({"ab"}));
  EXPECT_NE(of({"", "ab"}), of({"ab", ""}));
  EXPECT_EQ(of({}).size(), 32u);
}

}  // namespace
}  // namespace fovea::jit
