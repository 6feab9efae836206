#!/bin/bash
# Packs what testing on a machine with a GPU needs, for one that reaches no network: the command, the GPU tests, the shared libraries they use
# (not the C and C++ libraries), digests, and the script that runs them. NVRTC is that machine's own.
#   tools/stage_gpu_tests.sh build/release out/     then copy out/ there and run out/run_gpu_tests.sh
set -euo pipefail
build=$1
out=$2
mkdir -p "$out/lib"
programs=("$build/fovea" "$build"/tests/conformance/{conformance,append,states,promises}_test "$build"/backends/cuda/cuda_{ops,gpu,ptx,plan,device_plan}_test "$build/backends/cuda/cuda_host_time"
  "$build/serving/serving_gpu_step_test")
cp "${programs[@]}" "$(dirname "$0")/run_gpu_tests.sh" "$out/"
ldd "${programs[@]}" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u | grep -vE '/(libc|libm|libstdc\+\+|libgcc_s|libdl|libpthread)\.so' |
  xargs -I{} cp -L {} "$out/lib/"
(cd "$out" && find . -type f ! -name digests -print0 | sort -z | xargs -0 sha256sum > digests)
du -sh "$out"
