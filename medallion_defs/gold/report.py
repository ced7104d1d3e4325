"""What a gold run says of itself: the metadata of one materialization, and its manifest."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import psycopg

from medallion_defs.core import db, markdown
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import stage_timing
from medallion_defs.gold.contract import Enrichment
from medallion_defs.gold.enrich import Unmatched, read_unmatched
from medallion_defs.gold.enrich_run import EnrichReport
from medallion_defs.ops import run_manifest
from medallion_defs.ops.manifest import as_metadata, manifest_metadata
from medallion_defs.ops.run_manifest import Manifest, find_manifest


def column_lineage(enrichment: Enrichment) -> dict[str, dg.MetadataValue[Any]]:
    """Return, as Dagster's page shows it, which silver column each gold column comes from."""
    deps = {
        name: [dg.TableColumnDep(dg.AssetKey(["silver", source.table]), source.column) for source in sources]
        for name, sources in enrichment.sources.items()
    }
    return {"dagster/column_lineage": dg.MetadataValue.column_lineage(dg.TableColumnLineage(deps))}


def read_gold_manifest(settings: Settings, enrichment: Enrichment, run_id: str, report: EnrichReport) -> Manifest | None:
    """Return the manifest of what the run made of this gold table; None when it changed no row."""
    unmatched = {enrichment.qualified_name: _for_manifest(report.unmatched)}
    with db.connect(settings, "medallion_gold") as connection:
        return find_manifest(connection, run_id, enrichment.qualified_name, unmatched=unmatched, max_files=run_manifest.SHOWN_FILES)


def unmatched_of(connection: psycopg.Connection, enrichment: Enrichment) -> run_manifest.Unmatched:
    """Return, for a manifest, how much of the gold table waits for a lookup row now. Reads the whole table."""
    return _for_manifest(read_unmatched(connection, enrichment))


def describe(report: EnrichReport, manifest: Manifest | None, asked: Mapping[str, int | str]) -> dict[str, dg.MetadataValue[Any]]:
    """Return counts, rates, the unmatched companies, one line per transaction, the manifest, and the scope that was `asked` for."""
    created, updated, checked = report.total("created"), report.total("updated"), report.total("checked")
    unmatched = report.unmatched
    return manifest_metadata(manifest) | as_metadata(
        {
            **asked,
            "rows_created": created,
            "rows_updated": updated,
            "rows_unchanged": max(checked - created - updated, 0),
            "rows_orphaned": report.total("orphans"),
            "dagster/row_count": unmatched.rows,
            "unmatched_rows": unmatched.unmatched_rows,
            "unmatched_share": round(unmatched.share, 6),
            **stage_timing(report.seconds, rows=created + updated),
        },
        missing=markdown.table(["missing lookup key", "rows that name it"], unmatched.missing.items()),
        steps=markdown.table(
            ["created", "updated", "checked", "files", "seconds"],
            [(s.created, s.updated, s.checked, s.files, round(s.seconds, 3)) for s in report.steps],
        ),
    )


def _for_manifest(unmatched: Unmatched) -> run_manifest.Unmatched:
    return run_manifest.Unmatched(rows=unmatched.unmatched_rows, share=unmatched.share, by_key=dict(unmatched.missing))
