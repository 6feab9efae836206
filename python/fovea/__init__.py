"""Fovea: an attention engine for serving large language models.

    engine = fovea.Engine("cuda")                                   # a device
    attention = engine.prepare(spec, limits)                        # once per model
    plan = attention.plan(qo_indptr, tables)                        # once a step
    plan.run(q, fovea.KvCache(k, v), out=out)                       # once a layer

docs/python.md is the quickstart. Importing costs nothing: tvm-ffi and the library are loaded by the first Engine (or by what needs one), and
`python -m fovea.report` needs neither.
"""

from __future__ import annotations

__version__ = "0.1.0"

# Where each public name lives; modules are imported when a name of theirs is first asked for.
_HOME = {
    "Attention": "attention",
    "AttentionSpec": "problem",
    "Engine": "engine",
    "KvCache": "kv_cache",
    "KvFormat": "problem",
    "KvTables": "problem",
    "Limits": "problem",
    "Plan": "attention",
    "TileClasses": "problem",
    "Variant": "variants",
    "attend": "functional",
    "default_engine": "functional",
    "flex_attention": "flex",
    "variant": "variants",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        from importlib import import_module

        value = getattr(import_module("." + _HOME[name], __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"fovea has no attribute '{name}'; it has {', '.join(__all__)}")


def __dir__():
    return sorted(set(globals()) | set(__all__))
