#!/usr/bin/env python3
"""Compiles the FlashInfer kernels that the workloads need, for Hopper, where there is nvcc and no GPU; bench/peers/stage.sh calls it.

    stage_flashinfer.py PACKAGE SCRATCH     PACKAGE: the folder flashinfer/, into whose data/aot/ the libraries go (those already there are kept)

FlashInfer loads from data/aot/ without ninja or nvcc. About ten minutes of one core.
"""

import os
import pathlib
import shutil
import subprocess
import sys


def specs():
    import torch
    from flashinfer.jit import xqa
    from flashinfer.jit.attention import modules

    bf16, e4m3, i32 = torch.bfloat16, torch.float8_e4m3fn, torch.int32

    def xqa_spec(page, group, kv=bf16):
        return xqa.gen_xqa_module(bf16, kv, page, 128, group, False, bf16, 1)

    def fa2(kv=bf16):
        return modules._gen_batch_prefill_primary_module("fa2", bf16, kv, bf16, i32, 128, 128, 0, False, False, False)

    yield modules.gen_batch_decode_module(bf16, bf16, bf16, i32, 128, 128, 0, False, False)
    yield modules._gen_batch_attention_primary_module(bf16, bf16, bf16, i32, 128, 128, 0, False, False)
    yield fa2()
    yield fa2(e4m3)
    for page, group, kv in ((16, 4, bf16), (16, 8, bf16), (16, 1, bf16), (16, 16, bf16), (64, 4, bf16), (16, 4, e4m3)):
        yield xqa_spec(page, group, kv)
    yield modules.gen_batch_prefill_module("fa3", bf16, bf16, bf16, i32, 128, 128, 0, False, False, False)


def stub_of_libcuda(folder):
    """A library to link against, so that the kernels' libraries name libcuda.so.1 and find the driver's functions there."""
    source = "int cuGetErrorName(void) { return 1; }\nint cuTensorMapEncodeTiled(void) { return 1; }\n"
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(folder / "libcuda.so"), "-Wl,-soname,libcuda.so.1"]
    subprocess.run(command, input=source, text=True, check=True)


def main():
    package, scratch = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ.update(FLASHINFER_CUDA_ARCH_LIST="9.0a", FLASHINFER_WORKSPACE_BASE=str(scratch), LIBRARY_PATH=str(scratch))
    sys.path.insert(0, str(package.parent))
    stub_of_libcuda(scratch)
    for spec in specs():
        target = package / "data" / "aot" / spec.name / f"{spec.name}.so"
        if not target.exists():
            spec.write_ninja()
            subprocess.run(["ninja", "-C", str(spec.ninja_path.parent)], check=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(spec.jit_library_path, target)
            subprocess.run(["strip", str(target)], check=True)
        print(target.name, target.stat().st_size, flush=True)


main()
