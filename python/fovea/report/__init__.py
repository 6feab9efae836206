"""A page with plots from what `fovea replay --json FILE` writes. Needs matplotlib alone; the page needs nothing, not even a network."""

from .page import ReportError, make_page, read_replay

__all__ = ["ReportError", "make_page", "read_replay"]
