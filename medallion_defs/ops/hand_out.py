"""The ledger's side of a sensor tick, for every layer that works on bronze items: claim, take back from dead runs, and name the
microbatches that need a run.

A tick writes only to the ledger and can be repeated, cut short, or run beside itself: the ledger decides what is claimed,
and a run key names batch and attempt. What runs a batch is the caller's to say.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg
import psycopg

from medallion_defs.core import clock
from medallion_defs.core.code_version import CodeVersions
from medallion_defs.core.sections import SourceSettings
from medallion_defs.ops.dagster_runs import ending_of
from medallion_defs.ops.ledger import BatchInUseError, Ledger
from medallion_defs.ops.ledger_values import OpenBatch
from medallion_defs.ops.run_requests import WORK_TAG, past_runs

# A backfill starts on what it claimed in a moment. Only then does it hold the lock that says so.
_BACKFILL_STARTS_WITHIN = timedelta(minutes=1)


@dataclass(frozen=True)
class Tick:
    """One evaluation of the sensor of one source, and what it may use.

    Attributes:
        name: the source type.
        options: its settings.
        code: of what will work on the items; what failed under another is tried again.
        layer: the first part of the work's name, by which its runs are found.
    """

    context: dg.SensorEvaluationContext
    connection: psycopg.Connection
    name: str
    options: SourceSettings
    code: CodeVersions
    layer: str = "silver"


@dataclass(frozen=True)
class HandOut:
    """What a tick asks of Dagster. `refusal`: why nothing new is handed out, for a person; None when all is well."""

    requests: list[dg.RunRequest]
    partitions: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]
    refusal: str | None = None


def waiting_batches(tick: Tick, claim_by: SourceSettings | None) -> Iterator[OpenBatch]:
    """Claim what there is room for, and yield the open microbatches that need a run; what a dead run left goes back to the ledger.

    Args:
        claim_by: the limits of a microbatch, and how many may be in flight; None claims nothing new.
    """
    ledger, now = Ledger(tick.connection), clock.now()
    with tick.connection.transaction():
        if claim_by:
            ledger.claim(tick.name, claim_by, tick.code, now)
        batches = ledger.open_batches(tick.name)
    for batch in batches:
        # The runs first, then the ledger again: what a run that has ended did is committed by then.
        runs = past_runs(tick.context.instance, _work(tick, batch))
        if not runs:
            if not _is_at_work(ledger, batch, now):
                yield batch
        elif not any(run.is_live for run in runs):
            _release(tick, batch, runs[0].run_id)


def request_for(tick: Tick, batch: OpenBatch, partition_key: str | None = None) -> dg.RunRequest:
    """Return the request of the one run that works on `batch`: which that is, `requested_work` reads in the run's tag."""
    return dg.RunRequest(
        run_key=f"{batch.batch_id}:{batch.attempts + 1}",
        tags={WORK_TAG: _work(tick, batch), "medallion/items": str(batch.items)},
        partition_key=partition_key,
    )


def _is_at_work(ledger: Ledger, batch: OpenBatch, now: datetime) -> bool:
    """Whether a backfill, which is not a run of this sensor, has the batch; one that a killed backfill left is requested."""
    if not batch.is_backfill:
        return False
    is_about_to_start = batch.run_id is None and now - batch.since < _BACKFILL_STARTS_WITHIN
    return is_about_to_start or ledger.is_in_use(batch.batch_id)


def _release(tick: Tick, batch: OpenBatch, run_id: str) -> None:
    """Take back what an ended run left claimed."""
    ending = ending_of(tick.context.instance, run_id)
    try:
        with tick.connection.transaction():
            released = Ledger(tick.connection).release_batch(batch.batch_id, tick.options, clock.now(), ending)
    except BatchInUseError as error:
        tick.context.log.info(str(error))
        return
    if released:
        again_at = min((row.retry_at for row in released if row.retry_at), default=None)
        when = f"asked for again at {again_at:%H:%M:%S} UTC" if again_at else "dead: 'medallion status' says why"
        who = "was cancelled by a person" if ending.kind == "canceled" else "ended"
        tick.context.log.warning(f"{batch.batch_id}: run {run_id} {who} and left {len(released)} items; they are {when}.")


def _work(tick: Tick, batch: OpenBatch) -> str:
    return f"{tick.layer}/{tick.name}/{batch.batch_id}"
