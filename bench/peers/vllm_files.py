"""Where files of vLLM are: in the installed package, or in a folder laid out like it that FOVEA_PEERS_VLLM names (its wheel unpacked in part)."""

import importlib.util
import os
import pathlib

VARIABLE = "FOVEA_PEERS_VLLM"


def vllm_folder():
    """(folder of the package, whether it can be imported whole); (None, False) if there is none."""
    loose = os.environ.get(VARIABLE)
    if loose:
        return pathlib.Path(loose), False
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return None, False
    return pathlib.Path(spec.submodule_search_locations[0]), True


def vllm_file(relative):
    """The file's path, or the reason why it is not there as an error."""
    folder, _ = vllm_folder()
    if folder is None:
        raise FileNotFoundError(f"vllm is not installed (or set {VARIABLE} to its unpacked package)")
    if not (folder / relative).exists():
        raise FileNotFoundError(f"{relative} is not in {folder}")
    return folder / relative


def vllm_version():
    folder, _ = vllm_folder()
    found = sorted(folder.parent.glob("vllm-*.dist-info")) if folder else []
    return f"vllm {found[0].name.split('-')[1].removesuffix('.dist')}" if found else "vllm, version unknown"
