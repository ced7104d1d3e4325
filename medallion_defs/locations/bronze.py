"""The code location `bronze`: the only process that fetches and that writes bronze. Imports `source` and `fetch` of each source."""

import dagster as dg

from medallion_defs.bronze.assets import BronzeContent, build_bronze
from medallion_defs.core.content import load_content
from medallion_defs.ops.base import base_definitions

_SOURCES = "medallion_defs.sources"


def _contents() -> list[BronzeContent]:
    fetches = load_content(_SOURCES, "fetch")
    return [BronzeContent(module.SOURCE, fetches[name].FETCH) for name, module in load_content(_SOURCES, "source").items()]


defs = dg.Definitions.merge(base_definitions(), *(build_bronze(content) for content in _contents()))
