"""Retention of silver: rejected records that are old. Their number stays in the ledger; a load of the item writes them again."""

from datetime import datetime, timedelta

import dagster as dg
import psycopg

from medallion_defs.core import clock, db
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.retention import RetentionLine
from medallion_defs.ops.run_requests import LAYER_TAG

_SQL = load_queries("medallion_defs.silver", "retention.sql")
_CHUNK_ROWS = 50_000


def prune_rejects(connection: psycopg.Connection, days: int, now: datetime, *, apply: bool) -> RetentionLine:
    """Delete rejects that were written more than `days` ago, in chunks that commit, or, without `apply`, count them."""
    params = {"before": now - timedelta(days=days), "limit": _CHUNK_ROWS}
    with connection.transaction():
        [(number, oldest_at)] = connection.execute(_SQL["count_rejects"], params).fetchall()
    if apply:
        number = 0
        while deleted := _delete_chunk(connection, params):
            number += deleted
    return RetentionLine(what="silver.rejected_rows", rule=f"policy rejects_days {days}", number=number, oldest_at=oldest_at)


def build_silver_retention() -> dg.Definitions:
    """Return the job that prunes rejects, and its schedule."""

    @dg.op(required_resource_keys={"settings"}, description="Deletes rejected records older than `retention.rejects_days`.")
    def prune_old_rejects(context: dg.OpExecutionContext) -> None:
        settings: Settings = context.resources.settings
        days = settings.retention.rejects_days
        if days is None:
            context.log.info("retention.rejects_days is not set in medallion.yaml: nothing is deleted.")
            return
        with db.connect(settings, "medallion_silver", autocommit=True) as connection:
            line = prune_rejects(connection, days, clock.now(), apply=True)
        context.log.info(f"{line.number:,} rejected records deleted: {line.rule}.")
        context.add_output_metadata(as_metadata({"rejects_deleted": line.number}))

    @dg.job(name="retention_silver", tags={LAYER_TAG: "silver"}, description="Prunes rejected records by the policy in medallion.yaml.")
    def retention_silver() -> None:
        prune_old_rejects()

    schedule = dg.ScheduleDefinition(
        name="retention_silver",
        job=retention_silver,
        cron_schedule="50 4 * * *",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Prunes rejected records by the policy in medallion.yaml, daily; stopped until you start it.",
    )
    return dg.Definitions(jobs=[retention_silver], schedules=[schedule])


def _delete_chunk(connection: psycopg.Connection, params: dict[str, object]) -> int:
    with connection.transaction():
        return connection.execute(_SQL["delete_rejects"], params).rowcount
