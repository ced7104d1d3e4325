"""The code location `silver`: discovers, transforms and loads. Imports `source`, `transform` and `tables` of each source."""

import dagster as dg

from medallion_defs.core.content import load_content
from medallion_defs.ops.base import base_definitions
from medallion_defs.silver.assets import build_silver
from medallion_defs.silver.extract import load_parser
from medallion_defs.silver.load_run import SilverContent

_SOURCES = "medallion_defs.sources"


def load_contents() -> list[SilverContent]:
    """Return what silver knows of every source."""
    transforms, tables = load_content(_SOURCES, "transform"), load_content(_SOURCES, "tables")
    return [
        SilverContent(module.SOURCE, tables[name].TABLE, load_parser(transforms[name]))
        for name, module in load_content(_SOURCES, "source").items()
    ]  # fmt: skip


defs = dg.Definitions.merge(base_definitions(), *(build_silver(content) for content in load_contents()))
