// What is said where there is no usable driver.
#include "backends/cuda/driver.h"

#include <gtest/gtest.h>

#include "fovea/engine.h"

namespace fovea::cuda {
namespace {

std::string error_of(const std::vector<const char*>& libraries) {
  try {
    open_driver(libraries);
  } catch (const DeviceFailed& error) {
    return error.what();
  }
  return "opened";
}

TEST(Driver, NoneIsThere) {
  const std::string text = error_of({"libfovea_none.so.1", "/nowhere/libcuda.so"});
  EXPECT_EQ(text.find("engine: there is no CUDA driver here; a GPU's driver brings libcuda.so.1; tried:\n"), 0u) << text;
  EXPECT_NE(text.find("libfovea_none.so.1: cannot open"), std::string::npos) << text;
  EXPECT_NE(text.find("/nowhere/libcuda.so: cannot open"), std::string::npos) << text;
}

TEST(Driver, ALibraryThatIsNone) {
  EXPECT_NE(error_of({"libm.so.6"}).find("libm.so.6: has no function cuInit; it is too old, or no CUDA driver"), std::string::npos);
}

TEST(Driver, EngineSaysSoEveryTime) {
  for (int i = 0; i < 2; ++i) {
    try {
      const Engine engine({.backend = "cuda", .device_id = 1000});
      FAIL() << "there are not that many GPUs";
    } catch (const Error& error) {
      const std::string text = error.what();
      const bool said = text.find("no CUDA driver") != std::string::npos || text.find("device_id = 1000") != std::string::npos ||
                        text.find("sees no GPU") != std::string::npos || text.find("does not start") != std::string::npos;
      EXPECT_TRUE(said) << text;
    }
  }
}

TEST(Driver, Versions) {
  EXPECT_EQ(version_text(13000), "13.0");
  EXPECT_EQ(version_text(12080), "12.8");
}

}  // namespace
}  // namespace fovea::cuda
