"""The code location `silver`: discovers, transforms and loads. Imports `source`, `transform` and `tables` of each source.

Whether an asset has partitions must be known here, so the configuration file, and nothing else, is read at import.
"""

import logging

import dagster as dg

from medallion_defs.core.content import Broken, leaving_out, load_content
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
from medallion_defs.silver.variants import DEFAULT_VARIANT, MisconfiguredContent, VariantContent, choose_variant, load_variants

_SOURCES = "medallion_defs.sources"
_LOG = logging.getLogger(__name__)


def load_contents() -> list[SilverContent]:
    """Return what silver knows of every source, with the variant of its transform that the settings name.

    Of a source whose transform or recipes cannot be used, a content comes back that refuses to work, with a sentence that says why.
    One whose facts or table cannot be read is left out, and logged.
    """
    broken: list[Broken] = []
    variants = load_all_variants(broken)
    for each in broken:
        _LOG.error("%s", each.sentence)
    why = {each.folder: each.sentence for each in reversed(broken)}
    tables = load_content(_SOURCES, "tables", "TABLE", [])
    return [
        choose_variant(variants[name], configured_variant(name))
        if name in variants
        else MisconfiguredContent.of(module.SOURCE, tables[name].TABLE, why[f"sources/{name}"])
        for name, module in load_content(_SOURCES, "source", "SOURCE", []).items()
        if name in tables
    ]


def load_all_variants(broken: list[Broken] | None = None) -> dict[str, dict[str, VariantContent]]:
    """Return all variants of every source, by source and variant. What cannot be used is added to `broken`, or logged."""
    sources = load_content(_SOURCES, "source", "SOURCE", broken)
    tables = load_content(_SOURCES, "tables", "TABLE", broken)
    transforms = load_content(_SOURCES, "transform", broken=broken)
    found: dict[str, dict[str, VariantContent]] = {}
    for name in sorted(sources.keys() & tables.keys() & transforms.keys()):
        source = sources[name].SOURCE
        with leaving_out(_SOURCES, name, broken):
            default = SilverContent(source, tables[name].TABLE, load_source_parser(source, transforms[name]))
            found[name] = load_variants(default, _SOURCES, broken)
    return found


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


_CONTENTS = load_contents()

defs = dg.Definitions.merge(
    base_definitions(),
    build_silver_retention(),
    *(build_silver(content, configured_parallelism(content.source.name)) for content in _CONTENTS),
    *(build_experiments(variants, configured_variant(name)) for name, variants in load_all_variants([]).items()),
    build_watch("silver", "medallion_silver", look_at_sources([content.source.name for content in _CONTENTS])),
)
