"""The code location `silver`: discovers, transforms and loads. Imports `source`, `transform` and `tables` of each source.

Whether an asset has partitions must be known here, so the configuration file, and nothing else, is read at import.
"""

import dagster as dg

from medallion_defs.core.content import content_names, load_content
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import ParallelismKind
from medallion_defs.core.settings import read_settings
from medallion_defs.ops.base import base_definitions
from medallion_defs.ops.watch import build_watch
from medallion_defs.silver.assets import build_silver
from medallion_defs.silver.checks import look_at_sources
from medallion_defs.silver.file_parser import load_source_parser
from medallion_defs.silver.load_run import SilverContent
from medallion_defs.silver.retention import build_silver_retention
from medallion_defs.silver.variant_assets import build_experiments
from medallion_defs.silver.variants import DEFAULT_VARIANT, VariantContent, choose_variant, load_variants

_SOURCES = "medallion_defs.sources"


def load_contents() -> list[SilverContent]:
    """Return what silver knows of every source, with the variant of its transform that the settings name."""
    return [choose_variant(variants, configured_variant(name)) for name, variants in load_all_variants().items()]


def load_all_variants() -> dict[str, dict[str, VariantContent]]:
    """Return all variants of every source, by source and variant."""
    transforms, tables = load_content(_SOURCES, "transform"), load_content(_SOURCES, "tables")
    return {
        name: load_variants(SilverContent(module.SOURCE, tables[name].TABLE, load_source_parser(module.SOURCE, transforms[name])))
        for name, module in load_content(_SOURCES, "source").items()
    }


def configured_variant(name: str) -> str:
    """Return the setting `variant` of a source; where the settings cannot be read, the default, for nothing works then anyway."""
    try:
        return read_settings().source(name).variant
    except ConfigurationError:
        return DEFAULT_VARIANT


def configured_parallelism(name: str) -> ParallelismKind:
    """Return the setting `parallelism` of a source, and the default where the settings of the source cannot be read.

    A location that does not load would take every source with it, and show a stack trace. So it loads, and the sensor and the
    runs of what is configured wrongly fail with the sentence that says what is wrong.
    """
    try:
        return read_settings().source(name).parallelism
    except ConfigurationError:
        return "microbatch"


defs = dg.Definitions.merge(
    base_definitions(),
    build_silver_retention(),
    *(build_silver(content, configured_parallelism(content.source.name)) for content in load_contents()),
    *(build_experiments(variants, configured_variant(name)) for name, variants in load_all_variants().items()),
    build_watch("silver", "medallion_silver", look_at_sources(content_names(_SOURCES))),
)
