"""The code location `bronze`: the only process that fetches and that writes bronze. Imports `source` and `fetch` of each source."""

import dagster as dg

from medallion_defs.bronze.alerts import build_alerts
from medallion_defs.bronze.assets import BronzeContent, build_bronze
from medallion_defs.bronze.contract import LandingFetch
from medallion_defs.bronze.lateness import look_at_landing
from medallion_defs.bronze.openlineage import build_openlineage
from medallion_defs.bronze.retention_job import build_bronze_retention
from medallion_defs.bronze.verify_job import build_verify
from medallion_defs.core.content import load_content, recipe_names
from medallion_defs.genai.exchange import build_exchange
from medallion_defs.ops.base import base_definitions
from medallion_defs.ops.watch import build_watch

_SOURCES = "medallion_defs.sources"


def _contents() -> list[BronzeContent]:
    fetches = load_content(_SOURCES, "fetch", "FETCH")
    sources = load_content(_SOURCES, "source", "SOURCE")
    return [
        BronzeContent(module.SOURCE, fetches[name].FETCH, tuple(recipe_names(_SOURCES, name)))
        for name, module in sources.items()
        if name in fetches
    ]


def _landing_names() -> list[str]:
    return [content.source.name for content in _contents() if isinstance(content.fetch, LandingFetch)]


defs = dg.Definitions.merge(
    base_definitions(),
    build_bronze_retention(),
    build_verify([content.source.name for content in _contents()]),
    *(build_bronze(content) for content in _contents()),
    build_exchange(),
    build_watch("bronze", "medallion_bronze", look_at_landing(_landing_names())),
    build_alerts(),
    build_openlineage(),
)
