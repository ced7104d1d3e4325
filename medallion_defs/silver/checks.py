"""Asset checks of silver: of a load, and whether a source is on time.

They show; the gate is the load itself (an item above `max_rejected_share` is refused).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import dagster as dg
import psycopg

from medallion_defs.core.markdown import Markdown, code_block, fill, join
from medallion_defs.core.sections import ParallelismKind, SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import format_duration
from medallion_defs.ops.failing import Failing, answer, config_to_paste, read_failing
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.lateness import Finding, SourceFacts, Verdict, expected_of, judge_source, read_source_facts
from medallion_defs.ops.watch import Answer, Look, Looker
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


def look_at_sources(names: Sequence[str]) -> Looker:
    """Return the look at these sources: the ledger's facts, compared with what the settings expect."""

    def look(connection: psycopg.Connection, settings: Settings, _positions: Mapping[str, int], now: datetime) -> list[Look]:
        return [_look_at(connection, settings, facts, now) for facts in read_source_facts(connection, names)]

    return look


def _look_at(connection: psycopg.Connection, settings: Settings, facts: SourceFacts, now: datetime) -> Look:
    options, invalid = expected_of(settings, f"silver/{facts.source_type}", facts.source_type)
    failing = read_failing(connection, facts.source_type)
    return _look(facts, options, now, answer(failing, _how_again(failing, options.parallelism)), invalid)


def _how_again(failing: Failing, parallelism: ParallelismKind) -> Markdown:
    """Return what a person does about failing items."""
    name, ids = failing.source_type, [item.file_id for item in failing.items if item.status != "refused"]
    parts = []
    if ids and parallelism == "item":
        words = "Materialize the partitions of these items, or launch the job silver_{name}, without a partition, with"
        parts.append(fill(words, name=name))
    elif ids:
        parts.append(fill("Shift-click *Materialize* on silver/{name} and paste", name=name))
    if ids:
        parts.append(code_block(config_to_paste(f"silver__{name}", ids), "yaml"))
        parts.append(fill("From the shell: `medallion requeue`. With other bytes or other code they are tried again by themselves."))
    if failing.refused:
        words = "What was refused is not in bronze. Drop a corrected file under the same name in landing/{name}: it settles the refusal."
        parts.append(fill(words, name=name))
    return join(parts, "\n\n")


def _look(facts: SourceFacts, options: SourceSettings, now: datetime, failing: Answer, invalid: tuple[Finding, ...]) -> Look:
    numbers: dict[str, int | float | str] = {
        "lag_seconds": 0.0 if facts.waits_since is None else (now - facts.waits_since).total_seconds(),
        "max_lag": format_duration(options.max_lag),
        "items_waiting": facts.waiting,
        "last_item_at": "never" if facts.arrived_at is None else facts.arrived_at.isoformat(),
        "expect_every": "no expectation" if options.expect_every is None else format_duration(options.expect_every),
    }
    return Look(Verdict(f"silver/{facts.source_type}", (*invalid, *judge_source(facts, options, now)), now), numbers, more=(failing,))


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
