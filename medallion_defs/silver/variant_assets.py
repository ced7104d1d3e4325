"""One Dagster asset per variant that silver does not use: materialize it to load the variant beside silver and to compare the two.

Thin: loading is `experiments.py`, comparing `compare.py`. No sensor, schedule or job of silver ever selects these assets.
"""

from collections.abc import Mapping

import dagster as dg
from pydantic import Field

from medallion_defs.core import clock
from medallion_defs.core.settings import Settings
from medallion_defs.ops.dagster_asset import plain_failures
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.run_requests import LAYER_TAG
from medallion_defs.ops.scope import RunScope, parse_scope, require_match
from medallion_defs.ops.scope_config import DatasetScopeConfig
from medallion_defs.silver.backfill import measure
from medallion_defs.silver.compare import compare_variants
from medallion_defs.silver.compare_report import describe_comparison
from medallion_defs.silver.experiments import SCHEMA, VariantChunk, VariantFailedError, experiment_table, run_variant
from medallion_defs.silver.variants import VariantContent

_COUNTS = ("read", "created", "updated", "unchanged", "duplicate", "rejected")


class VariantConfig(DatasetScopeConfig):
    """Which items the variant is loaded with; those that its present code has loaded already are left out."""

    scope: RunScope = Field(
        RunScope.all,
        description="The items to load: all (default; so are pending and outdated); since, file_ids or dataset, each with its field.",
    )


def build_experiments(variants: Mapping[str, VariantContent], used: str) -> dg.Definitions:
    """Return an asset for each variant of a source but the one that silver uses. Touches neither disk nor database."""
    others = [content for name, content in variants.items() if name != used] if used in variants else []
    return dg.Definitions(assets=[_build_asset(content, variants[used]) for content in others])


def _build_asset(content: VariantContent, used: VariantContent) -> dg.AssetsDefinition:
    source, table = content.source, experiment_table(content)

    @dg.asset(
        key=[SCHEMA, table.name],
        deps=[["bronze", source.name]],
        group_name=source.domain,
        kinds={"postgres"},
        tags={LAYER_TAG: "silver"},
        owners=list(source.owners),
        description=f"Variant {content.variant} of `silver.{source.name}`: {content.title}\n\nBeside silver, which uses variant "
        f"{used.variant}; read by nothing else. Materialize loads what the variant's present code has not loaded yet, and compares.",
        metadata={"dagster/table_name": f"{SCHEMA}.{table.name}"},
        required_resource_keys={"settings"},
        pool=f"{SCHEMA}_{table.name}",
    )
    def variant_asset(context: dg.AssetExecutionContext, config: VariantConfig) -> dg.MaterializeResult[None]:
        with plain_failures():
            return _load_and_compare(context, used, content, config)

    return variant_asset


def _load_and_compare(
    context: dg.AssetExecutionContext, used: VariantContent, content: VariantContent, config: VariantConfig
) -> dg.MaterializeResult[None]:
    settings: Settings = context.resources.settings
    # Pending and outdated are what a run takes of all items anyway: what the present code has not loaded.
    scope = parse_scope(config.scope, config.since, config.file_ids, config.dataset, current_code=content.code)
    chunks = []
    for chunk in run_variant(settings, content, scope, context.run.run_id):
        chunks.append(chunk)
        context.log.info(f"{len(chunk.items)} items, {chunk.total('read')} records in {chunk.seconds:.2f} s")
    done = VariantChunk.merge(chunks)
    if not done.items:
        what = f"item of {content.source.name}; 'medallion ops files' shows what there is"
        require_match(measure(settings, content, scope, clock.now()).items, scope, what)
    for item, error in done.failed:
        context.log.warning(f"{item.bronze_path}: {error}")
    if bug := next((error for _, error in done.failed if isinstance(error, VariantFailedError)), None):
        raise dg.Failure(description=str(bug), metadata={"items_failed": len(done.failed)})
    return dg.MaterializeResult(metadata=_describe(settings, used, content, done))


def _describe(settings: Settings, used: VariantContent, content: VariantContent, done: VariantChunk) -> Mapping[str, dg.MetadataValue]:
    found = compare_variants(settings, used, content)
    counts = {f"rows_{name}": done.total(name) for name in _COUNTS}
    return as_metadata(
        {
            "items_loaded": len(done.items) - len(done.failed),
            "items_failed": len(done.failed),
            **counts,
            "seconds": round(done.seconds, 3),
            "rows_different": found.rows_different,
            f"rows_only_{used.variant}": found.a.rows_only,
            f"rows_only_{content.variant}": found.b.rows_only,
            "digest": found.b.digest,
        },
        comparison=describe_comparison(found),
    )
