"""What a silver run says of itself: the metadata of one materialization, and its manifest."""

from typing import Any

import dagster as dg

from medallion_defs.core import db, markdown
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import stage_timing
from medallion_defs.ops.manifest import as_metadata, manifest_metadata
from medallion_defs.ops.run_manifest import SHOWN_FILES, Manifest, find_manifest
from medallion_defs.silver.discovery import Reconciliation
from medallion_defs.silver.load_run import LoadReport, SilverContent

_COUNTS = ("read", "created", "updated", "unchanged", "duplicate", "rejected")


def read_silver_manifest(settings: Settings, content: SilverContent, run_id: str) -> Manifest | None:
    """Return the manifest of what the run loaded into this source's table; None when there was nothing to load."""
    with db.connect(settings, "medallion_silver") as connection:
        return find_manifest(connection, run_id, f"silver.{content.table.name}", max_files=SHOWN_FILES)


def describe_load(report: LoadReport, manifest: Manifest | None) -> dict[str, dg.MetadataValue[Any]]:
    """Return counts, rates and the manifest: one line per item, flags, rejects by code, failures."""
    totals = {f"rows_{name}": report.total(f"silver_rows_{name}") for name in _COUNTS}
    size = report.total("bronze_bytes")
    return manifest_metadata(manifest) | as_metadata(
        {
            "items_loaded": len(report.loaded),
            "items_failed": len(report.failed),
            **totals,
            "rows_flagged": sum(report.rows_by_flag.values()),
            "bytes": size,
            **stage_timing(report.seconds, rows=totals["rows_read"], bytes=size),
        }
    )


def describe_reconciliation(found: Reconciliation) -> dict[str, dg.MetadataValue[Any]]:
    """Return what the comparison of bronze with the ledger found."""
    return as_metadata(
        {
            "directories": found.directories,
            "known_to_ledger": found.known,
            "registered": found.registered,
            "gone_from_bronze": len(found.gone),
            "problems": len(found.problems),
        },
        gone=markdown.table(["gone from bronze"], [(path,) for path in found.gone[:SHOWN_FILES]]),
        problems_found=markdown.table(["path", "problem"], [(p.path, p.message) for p in found.problems[:SHOWN_FILES]]),
    )
