// Logs as NVRTC 13.0 and 13.5 wrote them.
#include "src/jit/compile_log.h"

#include <gtest/gtest.h>

namespace fovea::jit {
namespace {

TEST(CompileLog, ACleanKernel) {
  const CompileReport report = read_compile_log(
      "ptxas info    : 0 bytes gmem\n"
      "ptxas info    : Compiling entry function 'attention' for 'sm_90a'\n"
      "ptxas info    : Function properties for attention\n"
      "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
      "ptxas info    : Used 226 registers, used 1 barriers\n"
      "ptxas info    : Compile time = 414.600 ms\n");
  EXPECT_EQ(report.registers, 226);
  EXPECT_TRUE(report.clean());
  EXPECT_TRUE(report.warnings.empty());
  EXPECT_EQ(report.complaints(), "");
}

TEST(CompileLog, SpillsOfAllKernelsAreAdded) {
  const CompileReport report = read_compile_log(
      "ptxas info    : Compiling entry function 'spill' for 'sm_80'\n"
      "ptxas info    : Function properties for spill\n"
      "ptxas         .     880 bytes stack frame, 1252 bytes spill stores, 1312 bytes spill loads\n"
      "ptxas info    : Used 32 registers, used 0 barriers, 880 bytes cumulative stack size, 364 bytes cmem[0]\n"
      "ptxas info    : Compiling entry function 'append_kv' for 'sm_90a'\n"
      "ptxas         .     8 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads\n"
      "ptxas info    : Used 40 registers, used 0 barriers\n");
  EXPECT_EQ(report.registers, 40);
  EXPECT_EQ(report.spilled_bytes, 1252 + 1312 + 4 + 8);
  EXPECT_FALSE(report.clean());
  EXPECT_EQ(report.complaints(), "spills 2576 bytes of registers");
}

TEST(CompileLog, WhatSlowsWgmmaDown) {
  const CompileReport of_13_5 = read_compile_log(
      "ptxas info    : (C7517) wgmma.wait_group is injected in around line 62 by compiler to allow use of registers defined by GMMA in "
      "function 'k'\n"
      "ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized due to insufficient register "
      "resources for the wgmma pipeline in the function 'k' in line 75\n"
      "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
      "ptxas info    : Used 30 registers, used 0 barriers\n");
  ASSERT_EQ(of_13_5.slow.size(), 2u);
  EXPECT_FALSE(of_13_5.clean());
  EXPECT_TRUE(of_13_5.complaints().starts_with("ptxas info    : (C7517) wgmma.wait_group is injected")) << of_13_5.complaints();
  // 13.0 also says where it put an arrive: every wgmma needs one.
  const CompileReport of_13_0 = read_compile_log(
      "ptxas info    : (C7519) warpgroup.arrive is injected in around line 60 by compiler to allow use of registers in GMMA in function "
      "'k'\n"
      "ptxas info    : Used 30 registers, used 0 barriers\n");
  EXPECT_TRUE(of_13_0.clean());
  for (const char* code : {"(C7512)", "(C7513)", "(C7515)"}) {
    EXPECT_EQ(read_compile_log(std::string("ptxas info    : ") + code + " Potential Performance Loss").slow.size(), 1u) << code;
  }
}

TEST(CompileLog, WarningsOfTheFrontEnd) {
  const CompileReport report = read_compile_log("k.cu(3): warning #177-D: variable \"x\" was declared but never referenced\n\n");
  ASSERT_EQ(report.warnings.size(), 1u);
  EXPECT_TRUE(report.clean());
  EXPECT_EQ(read_compile_log("").registers, 0);
}

}  // namespace
}  // namespace fovea::jit
