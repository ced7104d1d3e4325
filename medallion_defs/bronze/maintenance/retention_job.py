"""The job and schedule that apply the retention policies of bronze, and prune Dagster's old runs. Stopped until somebody starts it."""

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg

from medallion_defs.bronze.maintenance.retention import apply_bronze, plan_bronze
from medallion_defs.core import clock, db, markdown
from medallion_defs.core.markdown import Markdown
from medallion_defs.core.settings import Settings
from medallion_defs.ops.dagster_runs import prune_runs
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.removal_ledger import RemovalLedger
from medallion_defs.ops.retention import RetentionLine
from medallion_defs.ops.run_requests import LAYER_TAG
from medallion_defs.storage.publishers import open_store


def build_bronze_retention() -> dg.Definitions:
    """Return the job and its schedule."""

    @dg.op(required_resource_keys={"settings"}, description="Removes items by `sources.<name>.retention`, runs by `retention.runs_days`.")
    def apply_retention(context: dg.OpExecutionContext) -> None:
        settings: Settings = context.resources.settings
        now = clock.now()
        removed = apply_bronze(settings, open_store(settings), plan_bronze(settings, now), now)
        lines = [*removed.lines, *prune_old_runs(settings, context.instance, apply=True)]
        for line in lines:
            context.log.info(f"{line.what}: {line.number:,} removed by {line.rule}, {line.kept_for_traces:,} kept for rows made of them.")
        for problem in removed.problems:
            context.log.warning(problem)
        context.add_output_metadata(as_metadata(
            {"removed": sum(line.number for line in lines), "bytes": sum(line.bytes or 0 for line in lines)}, rules=_table(lines)
        ))  # fmt: skip

    @dg.job(
        name="retention_bronze", tags={LAYER_TAG: "bronze"}, description="Removes what the retention policies in medallion.yaml let go."
    )
    def retention_bronze() -> None:
        apply_retention()

    schedule = dg.ScheduleDefinition(
        name="retention_bronze",
        job=retention_bronze,
        cron_schedule="20 4 * * *",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Applies the retention policies of bronze, daily; stopped until you start it.",
    )
    return dg.Definitions(jobs=[retention_bronze], schedules=[schedule])


def prune_old_runs(settings: Settings, instance: dg.DagsterInstance, *, apply: bool) -> list[RetentionLine]:
    """Prune Dagster's runs as `retention.runs_days` says; nothing where it is not set."""
    days = settings.retention.runs_days
    if days is None:
        return []
    with db.connect(settings, "medallion_console") as connection:
        open_runs = RemovalLedger(connection).open_runs()
    return [prune_runs(instance, days, clock.now() - timedelta(days=days), open_runs, apply=apply)]


def _table(lines: Sequence[RetentionLine]) -> Markdown:
    rows = [(line.what, line.rule, line.number, line.bytes or 0, line.kept_for_traces) for line in lines]
    return markdown.table(["what", "rule", "removed", "bytes", "kept for traces"], rows)
