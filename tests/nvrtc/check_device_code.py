#!/usr/bin/env python3
"""Compiles portable/ and variants/ as CUDA device code with NVRTC. Needs no GPU; exit code 77 where there is no NVRTC.

Every header is handed over in memory under its repository path, as the library will do. A warning about one of our files is a failure:
what NVRTC warns about is rare and real. Four programs per architecture:
    headers     every header of portable/ and variants/, each also on its own
    variants    every variant and composition, all hooks in a kernel
    plan        tests/nvrtc/plan.cu: the planner's functions and the kernels' iterators, instantiated in kernels
"""

import argparse
import ctypes
import glob
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SKIPPED = 77  # ctest's SKIP_RETURN_CODE
ARCHITECTURES = ["sm_80", "sm_90a"]


def load_nvrtc():
    """The newest libnvrtc of this Python's packages or of the system; None if there is none."""
    found = []
    for folder in sys.path:
        found += glob.glob(f"{folder}/nvidia/**/libnvrtc.so.*", recursive=True)
    found = sorted(path for path in found if "builtins" not in path)
    for path in reversed(found + ["libnvrtc.so"]):
        for builtins in glob.glob(str(pathlib.Path(path).parent / "libnvrtc-builtins.so.*")):
            ctypes.CDLL(builtins, mode=ctypes.RTLD_GLOBAL)
        try:
            return ctypes.CDLL(path)
        except OSError:
            continue
    return None


class Nvrtc:
    def __init__(self, library):
        self.library = library
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def call(self, name, *args):
        code = getattr(self.library, name)(*args)
        if code != 0:
            raise RuntimeError(f"{name}: {self.library.nvrtcGetErrorString(code).decode()}")

    def compile(self, name, source, headers, architecture):
        """(succeeded, log)"""
        names = (ctypes.c_char_p * len(headers))(*[key.encode() for key in headers])
        texts = (ctypes.c_char_p * len(headers))(*[text.encode() for text in headers.values()])
        program = ctypes.c_void_p()
        self.call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), name.encode(), len(headers), texts, names)
        # -default-device: plain constexpr functions (fovea/dtype.h, the field lists) are device functions as well.
        options = [f"--gpu-architecture={architecture}", "--std=c++20", "-default-device", "--display-error-number"]
        c_options = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        code = self.library.nvrtcCompileProgram(program, len(options), c_options)
        log_bytes = ctypes.c_size_t()
        self.call("nvrtcGetProgramLogSize", program, ctypes.byref(log_bytes))
        log = ctypes.create_string_buffer(log_bytes.value)
        self.call("nvrtcGetProgramLog", program, log)
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return code == 0, log.value.decode()


def read_headers():
    """Repository path -> text, of everything device code may include. fovea/dtype.h goes by its public name."""
    headers = {f"{path.parent.name}/{path.name}": path.read_text() for folder in ("portable", "variants") for path in sorted((ROOT / folder).glob("*.h"))}
    headers["fovea/dtype.h"] = (ROOT / "include/fovea/dtype.h").read_text()
    return headers


def variant_types():
    """C++ types of all built-in variants, named as cmake/Variants.cmake names them."""
    def pascal(name):
        return "fovea::" + "".join(word.capitalize() for word in name.split("_"))

    types = [pascal(path.stem) for path in sorted((ROOT / "variants").glob("*.h"))]
    compositions = ROOT / "variants/compositions.txt"
    if compositions.exists():
        for line in compositions.read_text().splitlines():
            if line and not line.startswith("#"):
                types.append(f"fovea::Compose<{', '.join(pascal(part) for part in line.split('+'))}>")
    return types


def variants_program(headers):
    lines = [f'#include "{name}"' for name in headers if name.startswith("variants/")]
    lines.append("""#include "portable/compose.h"
#include "portable/state.h"
#include "portable/tile_class.h"

template <class V>
__device__ float all_hooks(const typename V::Mask& mask, const typename V::Params& params, const fovea::Position<>& at, float logit) {
  const V v = fovea::make_variant<V>(mask, params);
  const fovea::KvRange range = mask.range();
  const fovea::Position<fovea::Interval> tile{at.request, {0, at.qo_len}, {0, at.q_pos}, {0, at.kv_pos}, at.qo_head, at.kv_head, at.qo_len, at.kv_len};
  if (!mask.keep(at) || at.kv_pos > at.q_pos + range.right || fovea::classify(mask, tile) == fovea::TileClass::empty) {
    return 0.0f;
  }
  const float x = fovea::transformed_logit(v, logit, at);
  return fovea::transformed_output(v, x * fovea::finalise(v, x, at).scale, at);
}
""")
    for i, variant in enumerate(variant_types()):
        lines.append(f"""using V{i} = {variant};
extern "C" __global__ void kernel_{i}(V{i}::Mask mask, V{i}::Params params, const fovea::Position<>* at, float* x) {{
  x[threadIdx.x] = all_hooks<V{i}>(mask, params, at[threadIdx.x], x[threadIdx.x]);
}}
""")
    return "\n".join(lines)


def programs(headers):
    yield "headers.cu", "\n".join(f'#include "{name}"' for name in headers)
    for name in headers:
        yield f"{pathlib.PurePath(name).stem}_alone.cu", f'#include "{name}"\n'
    yield "variants.cu", variants_program(headers)
    plan = pathlib.Path(__file__).with_name("plan.cu")
    yield plan.name, plan.read_text()


def complaints(log):
    """Lines of the log that speak of our files."""
    return [line for line in log.splitlines() if re.search(r"(warning|error)", line)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", action="append", help=f"default: {' '.join(ARCHITECTURES)}")
    parser.add_argument("--require", action="store_true", help="fail, instead of skip, where there is no NVRTC")
    args = parser.parse_args()
    library = load_nvrtc()
    if library is None:
        print("no libnvrtc found; `make deps` installs it into .venv")
        return 1 if args.require else SKIPPED
    nvrtc = Nvrtc(library)
    headers = read_headers()
    failed = count = 0
    for architecture in args.arch or ARCHITECTURES:
        for name, source in programs(headers):
            count += 1
            succeeded, log = nvrtc.compile(name, source, headers, architecture)
            if not succeeded or complaints(log):
                failed += 1
                print(f"--- {name} for {architecture}\n{log}")
    print(f"NVRTC {nvrtc.version}: {count - failed} of {count} programs compile without a warning ({' '.join(args.arch or ARCHITECTURES)})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
