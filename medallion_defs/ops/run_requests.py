"""From work that is open to at most one run for it: what every sensor asks before it requests a run.

A tick can happen twice, a run can die, and Dagster never fires a run key twice, not even after a failure. So each piece of
work has a name, carried by its runs as a tag: a live run means wait, a failed one means the next attempt after a back-off,
and too many failed ones mean stop and say so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

WORK_TAG = "medallion/work"
LAYER_TAG = "medallion/layer"
_LIVE = frozenset({
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
})  # fmt: skip
_LOOK_BACK = 20


@dataclass(frozen=True)
class PastRun:
    """One earlier run for a piece of work, as far as the decision needs it."""

    run_id: str
    is_live: bool
    is_success: bool
    ended_at: datetime


@dataclass(frozen=True)
class RetryRule:
    """How often, and how long after a failure, work is tried again. The wait doubles with each failure."""

    max_attempts: int
    retry_seconds: float


def past_runs(instance: dg.DagsterInstance, work: str) -> list[PastRun]:
    """Return the latest runs for `work`, newest first."""
    records = instance.get_run_records(filters=dg.RunsFilter(tags={WORK_TAG: work}), limit=_LOOK_BACK)
    return [
        PastRun(
            run_id=record.dagster_run.run_id,
            is_live=record.dagster_run.status in _LIVE,
            is_success=record.dagster_run.status is dg.DagsterRunStatus.SUCCESS,
            ended_at=record.update_timestamp,
        )
        for record in records
    ]


def decide_attempt(runs: Sequence[PastRun], rule: RetryRule, now: datetime, *, again_after_success: bool) -> int | str:
    """Return the number of the attempt to request now, or the reason, for a person, why none is requested.

    Args:
        runs: earlier runs for the work, newest first.
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
    if failures >= rule.max_attempts:
        return f"failed {failures} times, last in run {runs[0].run_id}: mend the cause, then launch the asset by hand"
    if failures and now < (due := runs[0].ended_at + timedelta(seconds=rule.retry_seconds * 2 ** (failures - 1))):
        return f"failed in run {runs[0].run_id}; tried again at {due:%H:%M:%S} UTC"
    return len(runs) + 1


def request_run(
    instance: dg.DagsterInstance,
    work: str,
    rule: RetryRule,
    now: datetime,
    *,
    run_config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    again_after_success: bool = False,
) -> dg.RunRequest | str:
    """Return the run request for `work`, or the reason why there is none."""
    attempt = decide_attempt(past_runs(instance, work), rule, now, again_after_success=again_after_success)
    if isinstance(attempt, str):
        return attempt
    return dg.RunRequest(run_key=f"{work}:{attempt}", run_config=run_config or {}, tags={**(tags or {}), WORK_TAG: work})
