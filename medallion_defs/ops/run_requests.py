"""From work that is open to at most one run for it: what every sensor asks before it requests a run.

A tick can happen twice, a run can die, and Dagster never fires a run key twice, not even after a failure. So each piece of
work has a name, carried by its runs as a tag: a live run means wait, a failed one means the next attempt after a back-off
that doubles up to an hour. It never gives up, for a disk gets freed and a database comes back; it never storms either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg

from medallion_defs.core import clock
from medallion_defs.core.retry import retry_delay

WORK_TAG = "medallion/work"
ATTEMPT_TAG = "medallion/attempt"
LAYER_TAG = "medallion/layer"
LIVE_STATUSES = frozenset({
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
})  # fmt: skip
_LOOK_BACK = 12


@dataclass(frozen=True)
class PastRun:
    """One earlier run for a piece of work, as far as the decision needs it."""

    run_id: str
    attempt: int
    is_live: bool
    is_success: bool
    ended_at: datetime


def past_runs(instance: dg.DagsterInstance, work: str) -> list[PastRun]:
    """Return the latest runs for `work`, newest first."""
    records = instance.get_run_records(filters=dg.RunsFilter(tags={WORK_TAG: work}), limit=_LOOK_BACK)
    return [
        PastRun(
            run_id=record.dagster_run.run_id,
            attempt=int(record.dagster_run.tags.get(ATTEMPT_TAG, "1")),
            is_live=record.dagster_run.status in LIVE_STATUSES,
            is_success=record.dagster_run.status is dg.DagsterRunStatus.SUCCESS,
            ended_at=record.update_timestamp,
        )
        for record in records
    ]


def decide_attempt(runs: Sequence[PastRun], retry_seconds: float, now: datetime, *, again_after_success: bool) -> int | str:
    """Return the number of the attempt to request now, or the reason, for a person, why none is requested.

    Args:
        runs: earlier runs for the work, newest first.
        retry_seconds: the wait after the first failure; it doubles with each further one in a row.
        again_after_success: the work was found open in the data, so a success for it is no reason to stop.
    """
    failures = 0
    for run in runs:
        if run.is_live:
            return f"run {run.run_id} is at it"
        if run.is_success:
            break
        failures += 1
    if failures < len(runs) and not again_after_success:
        return f"run {runs[failures].run_id} did it"
    if failures and now < (due := runs[0].ended_at + retry_delay(failures, retry_seconds)):
        return f"failed {failures} times in a row, last in run {runs[0].run_id}, which says why; tried again at {due:%H:%M:%S} UTC"
    return runs[0].attempt + 1 if runs else 1


def request_run(
    instance: dg.DagsterInstance,
    work: str,
    retry_seconds: float,
    now: datetime,
    *,
    run_config: Mapping[str, Any] | None = None,
    job_name: str | None = None,
    again_after_success: bool = False,
) -> dg.RunRequest | str:
    """Return the run request for `work`, or the reason why there is none. `job_name`: where the sensor has several jobs."""
    attempt = decide_attempt(past_runs(instance, work), retry_seconds, now, again_after_success=again_after_success)
    if isinstance(attempt, str):
        return attempt
    tags = {WORK_TAG: work, ATTEMPT_TAG: str(attempt)}
    return dg.RunRequest(run_key=f"{work}:{attempt}", run_config=run_config or {}, tags=tags, job_name=job_name)


def requested_work(run: dg.DagsterRun, prefix: str) -> str | None:
    """Return what the sensor requested the run for, below `prefix`; None: a person launched it.

    In the tag, and in no field of the run's configuration: the launchpad would offer that to people.
    """
    work = run.tags.get(WORK_TAG, "")
    return work.removeprefix(f"{prefix}/") if work.startswith(f"{prefix}/") else None


def is_retried_by_dagster(run: dg.DagsterRun) -> bool:
    """Whether Dagster itself launched the run again, because the worker of the one before died."""
    return "dagster/retry_number" in run.tags


def is_repeated_by_hand(run: dg.DagsterRun) -> bool:
    """Whether a person launched the run as a re-execution of another."""
    return run.parent_run_id is not None and not is_retried_by_dagster(run)


def first_requested_at(instance: dg.DagsterInstance, run: dg.DagsterRun) -> datetime:
    """Return when the run, or the first that it is a retry of, was requested: a retry then does what the first left."""
    record = instance.get_run_record_by_id(run.root_run_id or run.run_id)
    return record.create_timestamp if record else clock.now()
