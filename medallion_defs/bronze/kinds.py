"""The kinds of fetch that a source's `fetch.py` may name as its `FETCH`."""

from medallion_defs.bronze.contract import FetchKind, TreeScope
from medallion_defs.bronze.landing.kind import LandingFetch
from medallion_defs.bronze.tree.kind import TreeFetch

__all__ = ["FetchKind", "LandingFetch", "TreeFetch", "TreeScope"]
