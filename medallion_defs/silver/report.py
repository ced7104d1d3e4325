"""What a silver run says of itself: the metadata of one materialization, and its manifest."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from psycopg import sql

from medallion_defs.core import db, markdown
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.core.timing import stage_timing
from medallion_defs.ops.manifest import as_metadata, manifest_metadata
from medallion_defs.ops.run_manifest import SHOWN_FILES, Manifest, find_manifest
from medallion_defs.silver.discovery import Reconciliation
from medallion_defs.silver.load_run import LoadReport, SilverContent

_COUNTS = ("read", "created", "updated", "unchanged", "duplicate", "rejected")
# Counting more after each run would cost more than the run.
_MOST_COUNTED = 1_000_000
_SQL = load_queries("medallion_defs.silver", "report.sql")


def read_silver_manifest(settings: Settings, content: SilverContent, run_id: str) -> Manifest | None:
    """Return the manifest of what the run loaded into this source's table; None when there was nothing to load."""
    with db.connect(settings, "medallion_silver") as connection:
        return find_manifest(connection, run_id, f"silver.{content.table.name}", max_files=SHOWN_FILES)


def count_rows(settings: Settings, content: SilverContent) -> int:
    """Return how many rows the source's table has: counted, or, of a large table, as Postgres estimates it."""
    table = sql.Identifier("silver", content.table.name)
    with db.connect(settings, "medallion_silver") as connection:
        [(estimate,)] = connection.execute(_SQL["estimate_rows"], {"table": f"silver.{content.table.name}"}).fetchall()
        if estimate > _MOST_COUNTED:
            return int(estimate)
        [(rows,)] = connection.execute(sql.SQL(_SQL["count_rows"]).format(table=table)).fetchall()
    return int(rows)


def describe_load(
    report: LoadReport, manifest: Manifest | None, asked: Mapping[str, int | str], row_count: int | None
) -> dict[str, dg.MetadataValue[Any]]:
    """Return counts, rates and the manifest: one line per item, flags, rejects by code, failures.

    Args:
        asked: the scope that a person chose, and how much it matched.
        row_count: rows of the whole table; None: of a run for one partition.
    """
    totals = {f"rows_{name}": report.total(f"silver_rows_{name}") for name in _COUNTS}
    size = report.total("bronze_bytes")
    return manifest_metadata(manifest) | as_metadata(
        {
            **asked,
            **({} if row_count is None else {"dagster/row_count": row_count}),
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
