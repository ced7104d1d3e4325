"""The silver sensor of one source: discover, claim, and request one run per open microbatch.

A tick writes only to the ledger and can be repeated, cut short, or run beside itself: the ledger decides what is claimed,
and a run key names batch and attempt.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg
import psycopg

from medallion_defs.core import clock, db
from medallion_defs.core.settings import Settings
from medallion_defs.ops.ledger import BatchInUseError, Ledger, OpenBatch
from medallion_defs.ops.run_requests import WORK_TAG, PastRun, past_runs
from medallion_defs.silver.discovery import Discovery, discover
from medallion_defs.silver.load_run import SilverContent

# Dagster gives a tick 60 s; a sensor that takes longer than its interval delays everybody else's.
BUDGET_SECONDS = 3.0
# A backfill starts on what it claimed in a moment. Only then does it hold the lock that says so.
_BACKFILL_STARTS_WITHIN = timedelta(minutes=1)


def build_sensor(content: SilverContent) -> dg.SensorDefinition:
    """Return the sensor of one source."""
    name = content.source.name

    @dg.sensor(
        name=f"discover_{name}",
        job_name=f"silver_{name}",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description=f"Looks for items in `data/bronze/{name}/` that silver has not read, and hands them out in microbatches.",
    )
    def discover_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings: Settings = context.resources.settings
        with db.connect(settings, "medallion_silver") as connection:
            found = discover(connection, settings.bronze_path, name, context.cursor, settings.source(name).discovery, BUDGET_SECONDS)
            connection.commit()
            requests = list(_requests(context, connection, settings, content))
        for problem in found.problems:
            context.log.warning(f"{problem.path}: {problem.message}")
        return dg.SensorResult(run_requests=requests, cursor=found.cursor, skip_reason=None if requests else _idle(name, found))

    return discover_sensor


def _requests(
    context: dg.SensorEvaluationContext, connection: psycopg.Connection, settings: Settings, content: SilverContent
) -> Iterator[dg.RunRequest]:
    name = content.source.name
    ledger, options, now = Ledger(connection), settings.source(name), clock.now()
    with connection.transaction():
        ledger.claim(name, options, content.code_version, now)
        batches = ledger.open_batches(name)
    for batch in batches:
        # The runs first, then the ledger again: what a run that has ended did is committed by then.
        runs = past_runs(context.instance, _work(name, batch))
        if not runs:
            if not _is_at_work(ledger, batch, now):
                yield _request(name, batch)
        elif not any(run.is_live for run in runs):
            _release(context, connection, settings, content, batch, runs[0])


def _is_at_work(ledger: Ledger, batch: OpenBatch, now: datetime) -> bool:
    """Whether a backfill, which is not a run of this sensor, has the batch; one that a killed backfill left is requested."""
    if not batch.is_backfill:
        return False
    is_about_to_start = batch.run_id is None and now - batch.since < _BACKFILL_STARTS_WITHIN
    return is_about_to_start or ledger.is_in_use(batch.batch_id)


def _request(name: str, batch: OpenBatch) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{batch.batch_id}:{batch.attempts + 1}",
        run_config={"ops": {f"silver__{name}": {"config": {"batch_id": batch.batch_id}}}},
        tags={WORK_TAG: _work(name, batch), "medallion/items": str(batch.items)},
    )


def _release(
    context: dg.SensorEvaluationContext,
    connection: psycopg.Connection,
    settings: Settings,
    content: SilverContent,
    batch: OpenBatch,
    run: PastRun,
) -> None:
    """Take back what an ended run left claimed."""
    options = settings.source(content.source.name)
    try:
        with connection.transaction():
            released = Ledger(connection).release_batch(batch.batch_id, options, clock.now())
    except BatchInUseError as error:
        context.log.info(str(error))
        return
    if released:
        context.log.warning(f"{batch.batch_id}: run {run.run_id} ended and left {len(released)} items; they are tried again.")


def _work(name: str, batch: OpenBatch) -> str:
    return f"silver/{name}/{batch.batch_id}"


def _idle(name: str, found: Discovery) -> str:
    more = "" if found.complete else "; the rest at the next tick"
    return f"silver/{name}: nothing to load ({found.mode}: {found.seen} looked at, {found.registered} new{more})"
