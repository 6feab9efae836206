"""The compiled library and the functions it exports. Nothing is loaded before `load()`, which the first Engine calls.

Every function takes its arguments by position, in the order in which python/binding/ reads them; keywords, defaults and checks of types are the
business of the modules beside this one.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

_FUNCTIONS = (
    "append_kv", "check_pages", "classify_tiles", "compiled", "count_tiles", "describe", "device", "engine", "explain", "generation", "limits",
    "kv_cache", "merge_states", "name_id", "new_plan", "plan", "prepare", "run", "run_layer", "status", "synchronise", "variants", "view_plan", "workspace_bytes",
)

_loading = threading.RLock()
loaded = False
torch = None  # the module, where there is one (tvm-ffi imports it)
Tensor = None  # torch.Tensor
is_compiling = is_grad_enabled = bool  # bool() is False; torch's functions, where there is torch


def __getattr__(name: str) -> Any:
    """A function of the library before load() has set it."""
    raise AttributeError(f"fovea: '{name}' is called before the library is loaded" if name in _FUNCTIONS else f"fovea._library has no attribute '{name}'")


def load() -> None:
    """Loads tvm-ffi and the library, once."""
    if not loaded:
        with _loading:
            if not loaded:
                _load()


def _load() -> None:
    global Tensor, is_compiling, is_grad_enabled, loaded, torch
    path = Path(__file__).with_name("libfovea_python.so")
    if not path.exists():
        raise RuntimeError(f"fovea: {path} is missing; this is a source tree: `pip install .`, or build with -DFOVEA_PYTHON=ON and use <build>/python")
    import tvm_ffi

    tvm_ffi.register_error("NotImplementedError", NotImplementedError)  # a kind that tvm-ffi does not know
    _point_to_nvrtc()
    version = tvm_ffi.load_module(str(path), keep_module_alive=True).fovea_register()
    from . import __version__

    if version != __version__:
        raise RuntimeError(f"fovea: the library is of version {version}, the Python files of {__version__}; install them together")
    for name in _FUNCTIONS:
        globals()[name] = tvm_ffi.get_global_func("fovea." + name)
    torch = sys.modules.get("torch")
    if torch is not None:
        Tensor, is_compiling, is_grad_enabled = torch.Tensor, torch.compiler.is_compiling, torch.is_grad_enabled
        from . import torch_ops  # noqa: F401: torch.compile finds the ops registered
    loaded = True


def _point_to_nvrtc() -> None:
    """Names this Python's NVRTC to the library, which by itself knows activated environments and those on PATH."""
    if "FOVEA_NVRTC_PATH" in os.environ:
        return
    from importlib.util import find_spec

    spec = find_spec("nvidia")  # a namespace package: several folders
    found = []
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        for builtins in (*Path(root).glob("cu[0-9]*/lib/libnvrtc-builtins.so.*"), *Path(root).glob("cuda_nvrtc/lib/libnvrtc-builtins.so.*")):
            version = builtins.name.partition(".so.")[2].split(".")
            if len(version) == 2 and all(part.isdigit() for part in version):
                found.append((int(version[0]), int(version[1]), str(builtins.parent)))
    if found and max(found) >= (12, 8):  # the oldest that compiles our kernels
        os.environ["FOVEA_NVRTC_PATH"] = max(found)[2]


_name_ids: dict[str, int] = {}


def id_of(name: str) -> int:
    """The library's number of a parameter's name: a call hands over no strings."""
    found = _name_ids.get(name)
    if found is None:
        found = _name_ids[name] = name_id(name)  # noqa: F821: set by load()
    return found


def stream_of(stream, device_id: int | None):
    """A stream as the library takes it: None (tvm-ffi asks where the call's CUDA tensors come from), or an address.

    device_id: the CUDA device of the engine; None on the CPU, where streams mean nothing.
    """
    if stream is None or device_id is None:
        return None
    if isinstance(stream, int) and not isinstance(stream, bool):
        return stream
    of_torch = getattr(stream, "cuda_stream", None)
    if of_torch is not None:
        if stream.device.index != device_id:
            raise ValueError(f"stream is one of {stream.device}; the engine is on cuda:{device_id}")
        return of_torch
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        return protocol()[1]
    of_cupy = getattr(stream, "ptr", None)
    if isinstance(of_cupy, int):
        return of_cupy
    raise TypeError(f"stream is {type(stream).__name__}; it must be a torch or CuPy stream, an object with __cuda_stream__, or an address (int)")


_stream_of_torch = None  # device -> address of torch's current stream; None: no torch with CUDA


def ask_for_streams() -> None:
    """Called by the first engine on a GPU."""
    global _stream_of_torch
    if torch is not None and torch.cuda.is_available():
        _stream_of_torch = torch._C._cuda_getCurrentRawStream


def current_stream(device_id: int | None):
    """For calls that may come without a CUDA tensor: torch's current stream, the default stream where there is no torch."""
    if device_id is None:
        return None
    return 0 if _stream_of_torch is None else _stream_of_torch(device_id)


def refuse(where: str, named: dict) -> None:
    """Raises ValueError for torch tensors whose meaning a pointer does not carry."""
    if torch is None:
        return
    grad = torch.is_grad_enabled()
    for name, tensor in named.items():
        if isinstance(tensor, torch.Tensor):
            if grad and tensor.requires_grad:
                raise ValueError(f"{where}: {name} requires grad; fovea computes no gradients: call it under torch.no_grad(), or detach()")
            if tensor.is_neg():
                raise ValueError(f"{where}: {name} is a lazily negated view; call resolve_neg() on it")
            if tensor.is_meta:
                raise ValueError(f"{where}: {name} has no memory behind it (a meta tensor)")


def refuse_unreachable(where: str, named: dict) -> None:
    """After PyTorch refused to hand over a tensor: says which, with ValueError, where it is known."""
    refuse(where, named)
    for name, tensor in named.items():
        if torch is not None and isinstance(tensor, torch.Tensor):
            try:
                tensor.data_ptr()
            except RuntimeError as error:
                raise ValueError(f"{where}: {name} has no memory that can be read (a sparse tensor, or one inside a transform of torch.func?)") from error


def refuse_buffers(where: str, error: BufferError, named: dict) -> None:
    """Says of which argument it was that its memory could not be borrowed."""
    for name, tensor in named.items():
        flags = getattr(tensor, "flags", None)
        if flags is not None and not getattr(flags, "writeable", True):
            raise ValueError(f"{where}: {name} is a read-only array, which DLPack can't hand over; give a writable one (or a copy)") from error
    raise ValueError(f"{where}: an argument's memory can't be borrowed: {error}") from error
