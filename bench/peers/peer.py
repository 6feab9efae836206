"""What a peer is. One file in contestants/ with one class; the folder is the list."""

import dataclasses
import importlib
import importlib.metadata
import inspect
import pkgutil
from typing import Any, Callable


@dataclasses.dataclass
class Call:
    """What is timed. `run(copy)` launches on the current stream over that copy of K and V, allocates nothing that could be made before, and returns a
    tensor; `output` makes [tokens, qo heads, head_dim_vo] of it, outside the timing. `layout` is what it reads: "paged", "ragged" or "dense"."""

    run: Callable[[int], Any]
    layout: str = "paged"
    output: Callable[[Any], Any] = lambda result: result
    note: str = ""


class Peer:
    """Names are short, for they are columns. Imports of other packages belong into the methods: the class must load anywhere."""

    name = ""
    about = ""
    devices = ("cuda",)

    def missing(self):
        """Why it can't run on this machine, in words; None: it can. An exception of an import is an answer too."""
        return None

    def version(self):
        return ""

    def refuses(self, workload):
        """Why it does not take this workload; None: it does. What only the peer itself knows comes out of prepare, as its exception."""
        return None

    def prepare(self, batch):
        """Plans, buffers, compilation: everything that a server does once a step or less. Returns a Call."""
        raise NotImplementedError


class Refused(Exception):
    """For prepare: this batch is not taken, and the reason is no defect."""


def package_version(*names):
    """Version of the first of these distributions that is installed, as "name 1.2"; "" if none is."""
    for name in names:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def reason(error):
    """An exception in one line: its first lines, for some put the cause into the second."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])}"[:400]


def find_peers(package="peers.contestants"):
    """One of each class in the folder that has a name, fovea first, then as the files are called."""
    folder = importlib.import_module(package)
    found = []
    for module in sorted(entry.name for entry in pkgutil.iter_modules(folder.__path__)):
        loaded = importlib.import_module(f"{package}.{module}")
        for _, kind in inspect.getmembers(loaded, inspect.isclass):
            if issubclass(kind, Peer) and kind.name and kind.__module__ == loaded.__name__:
                found.append(kind())
    names = [peer.name for peer in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two peers are called {', '.join(sorted(twice))}")
    return sorted(found, key=lambda peer: peer.name != "fovea")


def why_missing(peer, device):
    """The reason why a peer can't run here; None if it can."""
    if device not in peer.devices:
        return f"runs on {' and '.join(peer.devices)} only"
    try:
        return peer.missing()
    except Exception as error:  # a broken installation must not stop the others
        return reason(error)
