"""Fovea: an attention engine for serving large language models.

What needs the compiled binding loads it on first use; `python -m fovea.report` doesn't need it.
"""


def __getattr__(name):
    raise AttributeError(f"fovea has no attribute '{name}'; this build has no Python binding, only fovea.report")
