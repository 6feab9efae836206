#!/bin/bash
# Packs Fovea and its peers for a Hopper machine that has PyTorch (Python 3.12, CUDA 13) and reaches no network: 33 MB.
#   bench/peers/stage.sh BUILD OUT [SCRATCH]      then copy OUT there and run OUT/run.sh ARGUMENTS of bench/peers
# BUILD is a build with -DFOVEA_PYTHON=ON and the command. PYTHON has PyTorch, ninja, apache-tvm-ffi and what `import flashinfer` wants (einops, requests,
# tabulate, tqdm, nvidia-ml-py, click, packaging). nvcc 13 is on PATH; NVRTC is found as `fovea devices` says. SCRATCH keeps wheels and compiled kernels.
set -euo pipefail
tree=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "$1")
out=$(realpath -m "$2")
scratch=$(realpath -m "${3:-$tree/build/peers}")
python=${PYTHON:-python3}
wheels=$scratch/wheels
mkdir -p "$wheels" "$out" "$scratch/flashinfer" "$scratch/vllm"

fetch() {  # name of the wheel's file, requirement
  compgen -G "$wheels/$1-*.whl" > /dev/null && return
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_24_x86_64 --platform manylinux2014_x86_64 --dest "$wheels" "$2"
}
fetch flashinfer_python flashinfer-python==0.7.2.post1
fetch apache_tvm_ffi apache-tvm-ffi==0.1.15.post2
fetch nvidia_cudnn_frontend nvidia-cudnn-frontend==1.32.0
fetch nvidia_curand nvidia-curand
fetch vllm vllm==0.33.0

# FlashInfer: its Python, the templates that it reads to name a kernel, and the kernels, compiled here.
[ -d "$scratch/flashinfer/flashinfer" ] || unzip -q "$wheels"/flashinfer_python-*.whl -d "$scratch/flashinfer"
[ -d "$scratch/curand" ] || unzip -q "$wheels"/nvidia_curand-*.whl -d "$scratch/curand"
CPATH=$(dirname "$(find "$scratch/curand" -name curand_kernel.h)") "$python" "$tree/bench/peers/stage_flashinfer.py" "$scratch/flashinfer/flashinfer" "$scratch/jit"

pack=$(mktemp -d)
trap 'rm -rf "$pack"' EXIT
site=$pack/site
mkdir -p "$site/fovea" "$pack/lib" "$pack/tree/bench" "$pack/tree/workloads" "$pack/vllm/vllm/vllm_flash_attn" "$pack/vllm/vllm/v1/attention/ops"
tar -C "$scratch/flashinfer" --exclude=__pycache__ --exclude=flashinfer/data -cf - . | tar -C "$site" -xf -
mkdir -p "$site/flashinfer/data/csrc/xqa"
cp -r "$scratch/flashinfer/flashinfer/data/aot" "$site/flashinfer/data/"
(cd "$scratch/flashinfer/flashinfer/data/csrc" && cp batch_attention* batch_prefill* batch_decode* "$site/flashinfer/data/csrc/" && cp xqa/*.cu xqa/*.cpp "$site/flashinfer/data/csrc/xqa/" 2> /dev/null || true)
unzip -q "$wheels"/apache_tvm_ffi-*.whl -x 'tvm_ffi/include/*' -d "$site"
unzip -q "$wheels"/nvidia_cudnn_frontend-*.whl 'cudnn/*' '*.dist-info/*' -x 'cudnn/linear_attention/*' 'cudnn/deepseek_sparse_attention/*' 'cudnn/sdpa/bwd/*' 'cudnn/gemm/*' -d "$site"
unzip -q "$wheels"/vllm-*.whl vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so vllm/_flashmla_C.abi3.so 'vllm/v1/attention/ops/triton_unified_attention.py' \
  'vllm/v1/attention/ops/triton_attention_helpers.py' 'vllm-*.dist-info/METADATA' -d "$pack/vllm"

# Fovea: the package, the libraries it uses (not the C and C++ libraries), the kernels of the workloads.
cp -rL "$build/python/fovea/." "$site/fovea/"
strip "$site/fovea/libfovea_python.so"
ldd "$build/python/fovea/libfovea_python.so" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | grep -vE '/(libc|libm|libstdc\+\+|libgcc_s|libdl|libpthread|libtvm_ffi)\.so' |
  xargs -I{} cp -L {} "$pack/lib/"
cp -r "$tree/bench/peers" "$pack/tree/bench/"
cp -r "$tree/workloads/peers" "$pack/tree/workloads/"
"$python" - "$tree" "$scratch/specs" << 'PYTHON'
import json, pathlib, sys
sys.path.insert(0, sys.argv[1] + "/bench")
from peers import workload
folder = pathlib.Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
for found in workload.choose([]):
    if not found.value_columns:
        name = f"{found.group_size}_{found.head_dim_qk}_{found.head_dim_vo}_{found.kv_dtype}_{found.causal}"
        spec = {"num_qo_heads": found.num_qo_heads, "num_kv_heads": found.num_kv_heads, "head_dim_qk": found.head_dim_qk, "head_dim_vo": found.head_dim_vo,
                "dtype": found.dtype, "kv_dtype": found.kv_dtype, "variant": "causal" if found.causal else "full", "format": {"page_size": 16}}
        (folder / f"{name}.json").write_text(json.dumps({"spec": spec, "requests": [{"qo_len": 1, "kv_len": 64}]}))
PYTHON
for spec in "$scratch"/specs/*.json; do
  FOVEA_CACHE_DIR=$pack/kernels "$build/fovea" compile --arch sm_90a --spec "$spec"
done

find "$pack" -name __pycache__ -prune -exec rm -rf {} +
tar -C "$pack" -cf - . | xz -T0 -6 > "$out/peers.tar.xz"
cat > "$out/run.sh" << 'RUN'
#!/bin/bash
# bench/peers with everything beside this file: run.sh decode uneven --json results.json
here=$(cd "$(dirname "$0")" && pwd)
root=$here/unpacked
[ -d "$root" ] || python3 -c "import lzma, sys, tarfile; tarfile.open(fileobj=lzma.open(sys.argv[1])).extractall(sys.argv[2], filter='tar')" "$here/peers.tar.xz" "$root"
export PYTHONPATH=$root/site LD_LIBRARY_PATH=$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} FOVEA_PEERS_VLLM=$root/vllm/vllm FOVEA_CACHE_DIR=$root/kernels
export FLASHINFER_WORKSPACE_BASE=$root/jit FLASHINFER_CUDA_ARCH_LIST=9.0a FLASHINFER_DISABLE_JIT=1 TRITON_CACHE_DIR=$root/triton TORCHINDUCTOR_CACHE_DIR=$root/inductor
exec python3 "$root/tree/bench/peers" "$@"
RUN
chmod +x "$out/run.sh"
(cd "$out" && sha256sum peers.tar.xz && du -sh .)
