"""What the tests of the package share: which device they run on, and the printed word on what is left out."""

import os
import pathlib
import sys

PYTHON = pathlib.Path(__file__).resolve().parents[1]
DEVICE = os.environ.get("FOVEA_TEST_DEVICE", "cpu")  # "cuda" on a machine with a GPU

try:
    import fovea

    fovea.Engine(DEVICE)
except Exception as error:  # a source tree without a build
    raise SystemExit(f"python/tests: no library ({error}); PYTHONPATH=<build>/python, or pip install .") from error

try:
    import torch
except ImportError:
    torch = None

collect_ignore_glob = [] if torch is not None else ["flex_standard_test.py"]  # a script too, which ends where there is no torch


def pytest_report_header():
    where = pathlib.Path(fovea.__file__).parent
    return f"fovea {fovea.__version__} from {where}, on {DEVICE}; torch " + (torch.__version__ if torch else "is not here: its tests are left out")
