// Finding NVRTC among folders, and reading its logs. Nothing is opened: fake folders do.
#include "backends/cuda/nvrtc.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "src/support/file.h"

namespace fovea::cuda {
namespace {

namespace fs = std::filesystem;

/// A fake file system with environment variables.
struct Machine {
  TemporaryFolder folder;
  std::map<std::string, std::string> variables;

  std::string path(const std::string& below) const { return folder.path() + below; }
  void add(const std::string& below) const {
    fs::create_directories(fs::path(path(below)).parent_path());
    std::ofstream(path(below)) << "x";
  }
  void add_nvrtc(const std::string& below, const std::string& major, const std::string& version) const {
    add(below + "/libnvrtc.so." + major);
    add(below + "/libnvrtc-builtins.so." + version);
  }
  std::vector<NvrtcPlace> find(int driver_version = 0) const {
    const Variables lookup = [this](const char* name) {
      const auto it = variables.find(name);
      return it == variables.end() ? std::nullopt : std::optional<std::string>(it->second);
    };
    return find_nvrtc(nvrtc_folders(lookup, folder.path()), driver_version);
  }
};

TEST(FindNvrtc, NothingAnywhere) { EXPECT_TRUE(Machine().find().empty()); }

TEST(FindNvrtc, NewestOfAllPlaces) {
  Machine m;
  m.add_nvrtc("/usr/local/cuda-12.9/lib64", "12", "12.9");
  m.add_nvrtc("/venv/lib/python3.12/site-packages/nvidia/cu13/lib", "13", "13.5");
  m.add_nvrtc("/conda/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib", "12", "12.8");
  m.add_nvrtc("/home/.local/lib/python3.11/site-packages/nvidia/cu13/lib", "13", "13.0");
  m.variables = {{"VIRTUAL_ENV", m.path("/venv")}, {"CONDA_PREFIX", m.path("/conda")}, {"HOME", m.path("/home")}};
  const std::vector<NvrtcPlace> places = m.find();
  ASSERT_EQ(places.size(), 4u);
  EXPECT_EQ(places[0].version(), 13050);
  EXPECT_EQ(places[0].library, m.path("/venv/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13"));
  EXPECT_EQ(places[0].builtins, m.path("/venv/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc-builtins.so.13.5"));
  EXPECT_NE(places[0].origin.find("Python package in"), std::string::npos);
  EXPECT_EQ(places[1].version(), 13000);
  EXPECT_EQ(places[2].version(), 12090);
  EXPECT_EQ(places[3].version(), 12080);
}

TEST(FindNvrtc, WhatTheDriverTakesComesFirst) {
  Machine m;
  m.add_nvrtc("/usr/local/cuda-13.1/lib64", "13", "13.1");
  m.add_nvrtc("/usr/local/cuda-12.8/lib64", "12", "12.8");
  m.add_nvrtc("/usr/local/cuda-12.2/lib64", "12", "12.2");
  const std::vector<NvrtcPlace> places = m.find(12080);
  ASSERT_EQ(places.size(), 3u);
  EXPECT_EQ(places[0].version(), 12080);
  EXPECT_EQ(places[0].refusal, "");
  EXPECT_EQ(places[1].refusal, "its cubins need a driver of CUDA 13, this one is of 12");
  EXPECT_EQ(places[2].refusal, "older than 12.8");
  EXPECT_EQ(m.find(13000)[0].version(), 13010);
}

TEST(FindNvrtc, PathVariableAlone) {
  Machine m;
  m.add_nvrtc("/usr/local/cuda/lib64", "13", "13.5");
  m.add_nvrtc("/mine", "13", "13.0");
  for (const char* given : {"/mine", "/mine/libnvrtc.so.13"}) {
    m.variables = {{"FOVEA_NVRTC_PATH", m.path(given)}};
    ASSERT_EQ(m.find().size(), 1u) << given;
    EXPECT_EQ(m.find()[0].version(), 13000);
    EXPECT_EQ(m.find()[0].origin, "FOVEA_NVRTC_PATH");
  }
}

TEST(FindNvrtc, PythonOnPath) {
  Machine m;
  m.add("/opt/env/bin/python3");
  m.add_nvrtc("/opt/env/lib/python3.10/site-packages/nvidia/cu13/lib", "13", "13.2");
  m.variables = {{"PATH", "/nowhere:" + m.path("/opt/env/bin") + ":"}};
  ASSERT_EQ(m.find().size(), 1u);
  EXPECT_EQ(m.find()[0].version(), 13020);
}

TEST(FindNvrtc, HalvesAreNone) {
  Machine m;
  m.add("/usr/local/cuda/lib64/libnvrtc.so.13");
  m.add("/usr/local/cuda-12/lib64/libnvrtc-builtins.so.12.9");
  m.add("/usr/lib64/libnvrtc.so.12");
  m.add("/usr/lib64/libnvrtc-builtins.so.13.1");
  m.add("/opt/cuda/lib64/libnvrtc-builtins.so.new");
  EXPECT_TRUE(m.find().empty());
}

TEST(FindNvrtc, OneFileUnderTwoNames) {
  Machine m;
  m.add_nvrtc("/usr/local/cuda-13.0/lib64", "13", "13.0");
  fs::create_directory_symlink(m.path("/usr/local/cuda-13.0"), m.path("/usr/local/cuda"));
  EXPECT_EQ(m.find().size(), 1u);
}

}  // namespace
}  // namespace fovea::cuda
