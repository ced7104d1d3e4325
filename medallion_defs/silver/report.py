"""What a silver run says of itself: the metadata and the Markdown manifest of one materialization. Pure."""

from typing import Any

import dagster as dg

from medallion_defs.ops.manifest import as_metadata, markdown_table, rates
from medallion_defs.silver.discovery import Reconciliation
from medallion_defs.silver.load_run import LoadReport

_SHOWN = 200
_COUNTS = ("read", "created", "updated", "unchanged", "duplicate", "rejected")


def describe_load(report: LoadReport) -> dict[str, dg.MetadataValue[Any]]:
    """Return counts, rates and the manifest: one line per item, flags, rejects by code, failures."""
    totals = {f"rows_{name}": report.total(f"silver_rows_{name}") for name in _COUNTS}
    size = report.total("bronze_bytes")
    return as_metadata(
        {
            "items_loaded": len(report.loaded),
            "items_failed": len(report.failed),
            **totals,
            "rows_flagged": sum(report.rows_by_flag.values()),
            "bytes": size,
            **rates(totals["rows_read"], size, report.seconds),
        },
        manifest=_manifest(report),
        flags=markdown_table(["quality flag", "rows"], report.rows_by_flag.items()),
        rejects=markdown_table(["reject code", "records"], report.rejected_by_code.items()),
        failures=markdown_table(
            ["item", "status", "attempt", "why"],
            [(i.bronze_path, i.status, i.attempts, (i.silver_errors or {}).get("message")) for i in report.failed[:_SHOWN]],
        ),
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
        gone=markdown_table(["gone from bronze"], [(path,) for path in found.gone[:_SHOWN]]),
        problems_found=markdown_table(["path", "problem"], [(p.path, p.message) for p in found.problems[:_SHOWN]]),
    )


def _manifest(report: LoadReport) -> str:
    rows = [
        (i.bronze_path, i.dataset or "", *(getattr(i, f"silver_rows_{name}") for name in _COUNTS), (i.content_sha256 or "")[:12])
        for i in report.loaded[:_SHOWN]
    ]
    return markdown_table(["item", "dataset", *_COUNTS, "sha256"], rows)
