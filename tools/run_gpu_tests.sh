#!/bin/bash
# Runs the GPU tests of a folder that tools/stage_gpu_tests.sh made, on all cores (kernels are compiled as cases need them), and prints a summary.
# The host's own instruction sets run there too: such a machine has AVX-512 where a developer's may not. Logs go into $1 (default ./gpu_test_logs). Ends with 1 when anything failed.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
logs=${1:-gpu_test_logs}
mkdir -p "$logs"
(cd "$here" && sha256sum --quiet --check digests) || exit 1
export LD_LIBRARY_PATH=$here/lib FOVEA_LOG=0
export FOVEA_CACHE_DIR=${FOVEA_CACHE_DIR:-$(mktemp -d)}
shards=$(nproc)
chmod +x "$here"/{fovea,conformance_test,append_test,states_test,promises_test,cuda_ops_test,cuda_gpu_test,cuda_plan_test,cuda_device_plan_test,cuda_host_time,cuda_ptx_test,serving_gpu_step_test}
"$here/fovea" devices | tee "$logs/devices"
"$here/cuda_ops_test" > "$logs/ops" 2>&1
status=$?
"$here/cuda_gpu_test" > "$logs/gpu" 2>&1 || status=1
"$here/cuda_plan_test" > "$logs/plan" 2>&1 || status=1
"$here/cuda_device_plan_test" > "$logs/device_plan" 2>&1 || status=1
"$here/serving_gpu_step_test" > "$logs/gpu_step" 2>&1 || status=1
"$here/cuda_host_time" > "$logs/host_time" 2>&1
"$here/cuda_ptx_test" > "$logs/ptx" 2>&1 || status=1
for test in append states promises; do
  "$here/${test}_test" --gtest_filter='*/cuda' > "$logs/$test" 2>&1 || status=1
done
pids=()
for ((s = 0; s < shards; ++s)); do
  GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$s "$here/conformance_test" --gtest_filter='*Conformance*/cuda*' > "$logs/conformance.$s" 2>&1 &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || status=1; done
pids=()
for ((s = 0; s < shards; ++s)); do
  "$here/fovea" check --backend cuda --seed "$s" --cases "${CASES:-40}" > "$logs/check.$s" 2>&1 &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || status=1; done
for isa in avx512 avx512_bf16; do
  "$here/fovea" check --backend cpu --isa $isa --seed 7 --cases "${HOST_CASES:-1000}" > "$logs/check_host_$isa" 2>&1 || status=1
  echo "host, $isa: $(tail -1 "$logs/check_host_$isa")"
done
"$here/conformance_test" --gtest_filter='*Conformance*/cpu_avx512*' > "$logs/conformance_host" 2>&1 || status=1
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck initcheck synccheck racecheck; do
    compute-sanitizer --tool $tool --error-exitcode 1 "$here/fovea" check --backend cuda --dtype bf16 --seed 1 --cases 6 > "$logs/$tool" 2>&1 || status=1
    echo "$tool: $(tail -1 "$logs/$tool")"
  done
fi
grep -h -E '^\[  (PASSED|FAILED)  \]' "$logs"/{ops,gpu,plan,device_plan,gpu_step,ptx,append,states,promises,conformance*} | sort | uniq -c
grep -h -E 'cases passed' "$logs"/check.* | sort | uniq -c
grep -h -A1 'FAILED case' "$logs"/check.* | cut -c1-400
echo "GPU tests: $([[ $status == 0 ]] && echo all passed || echo FAILED), logs in $logs"
exit $status
