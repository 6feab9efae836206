"""The package as a whole: what it exports, to people and to type checkers, and that the documentation of calls is there."""

import inspect
import os
import pathlib
import re
import sys

import pytest

import fovea
from fovea import _library

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_stub_names_what_the_package_exports():
    stub = (ROOT / "python/fovea/__init__.pyi").read_text()
    stated = {name: module for module, name in re.findall(r"^from \.(\S+) import (\w+) as", stub, re.MULTILINE)}
    assert stated == fovea._HOME


def test_every_public_call_is_documented():
    for name in fovea.__all__:
        thing = getattr(fovea, name)
        assert thing.__doc__, name
        for member, function in inspect.getmembers(thing, inspect.isfunction) if inspect.isclass(thing) else ():
            if not member.startswith("_") and member not in ("paged", "ragged", "block_sparse", "of"):
                assert function.__doc__, f"{name}.{member}"


def test_every_function_of_the_library_has_a_caller():
    source = "".join(path.read_text() for path in (ROOT / "python/fovea").glob("*.py"))
    called = set(re.findall(r"_library\.(\w+)\(", source)) | {"name_id"}  # called by _library itself
    assert set(_library._FUNCTIONS) <= called


def test_versions_agree():
    header = (ROOT / "include/fovea/version.h").read_text()
    assert fovea.__version__ == ".".join(re.findall(r"FOVEA_VERSION_\w+ (\d+)", header))


@pytest.mark.parametrize("versions, folder", [(["13.0", "12.9"], "cu13/lib"), (["12.8"], "cuda_nvrtc/lib"), (["12.6"], None), ([], None)])
def test_the_nvrtc_of_this_python(monkeypatch, tmp_path, versions, folder):
    for version in versions:
        place = tmp_path / "nvidia" / ("cuda_nvrtc" if version.startswith("12") else "cu13") / "lib"
        place.mkdir(parents=True)
        for name in (version, version + ".88"):
            (place / f"libnvrtc-builtins.so.{name}").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    monkeypatch.setenv("FOVEA_NVRTC_PATH", "given")
    _library._point_to_nvrtc()
    assert os.environ["FOVEA_NVRTC_PATH"] == "given"
    monkeypatch.delenv("FOVEA_NVRTC_PATH")
    _library._point_to_nvrtc()
    assert os.environ.get("FOVEA_NVRTC_PATH") == (folder and str(tmp_path / "nvidia" / folder))
