"""Asset checks of a silver load. They show; the gate is the load itself (an item above `max_rejected_share` is refused)."""

import dagster as dg

from medallion_defs.core.settings import SourceSettings
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.silver.load_run import LoadReport

RECONCILES, FAILED, REJECTED, FLAGGED = "counts_reconcile", "all_items_loaded", "rejected_share", "flagged_share"


def check_specs(name: str) -> list[dg.AssetCheckSpec]:
    """Return the checks that every run of `silver/{name}` answers."""
    key = ["silver", name]
    return [
        dg.AssetCheckSpec(
            RECONCILES, asset=key, blocking=True, description="read = created + updated + unchanged + duplicate + rejected, for every item"
        ),
        dg.AssetCheckSpec(FAILED, asset=key, description="every item of the run reached silver"),
        dg.AssetCheckSpec(REJECTED, asset=key, description="the share of rejected records is below warn_rejected_share"),
        dg.AssetCheckSpec(FLAGGED, asset=key, description="the share of flagged rows is below warn_flagged_share"),
    ]


def check_results(report: LoadReport, options: SourceSettings) -> list[dg.AssetCheckResult]:
    """Answer the checks for one run. A run that had nothing to do passes them all."""
    read = report.total("silver_rows_read")
    kept = read - report.total("silver_rows_rejected")
    lost = [item.bronze_path for item in report.loaded if not _reconciles(item)]
    worst = max((rows for rows in report.rows_by_flag.values()), default=0)
    return [
        dg.AssetCheckResult(
            check_name=RECONCILES, passed=not lost, severity=dg.AssetCheckSeverity.ERROR, metadata={"items": ", ".join(map(str, lost))}
        ),
        dg.AssetCheckResult(
            check_name=FAILED, passed=not report.failed, severity=dg.AssetCheckSeverity.WARN, metadata={"items_failed": len(report.failed)}
        ),
        _share(REJECTED, read - kept, read, options.warn_rejected_share),
        _share(FLAGGED, worst, kept, options.warn_flagged_share),
    ]


def _reconciles(item: DatasetIngestion) -> bool:
    counts = (
        item.silver_rows_created,
        item.silver_rows_updated,
        item.silver_rows_unchanged,
        item.silver_rows_duplicate,
        item.silver_rows_rejected,
    )
    return item.silver_rows_read == sum(count or 0 for count in counts)


def _share(name: str, part: int, whole: int, limit: float) -> dg.AssetCheckResult:
    share = part / whole if whole else 0.0
    return dg.AssetCheckResult(
        check_name=name, passed=share <= limit, severity=dg.AssetCheckSeverity.WARN, metadata={"share": share, "limit": limit, "rows": part}
    )
