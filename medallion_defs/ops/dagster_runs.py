"""What Dagster knows of runs: how one ended, which old ones may go with their events, and their deletion.

Dagster keeps runs and events for ever; ticks it prunes itself, as `retention` in dagster.yaml says. Deleting rows frees space for
new ones; to give it back to the disk takes a VACUUM FULL of Dagster's database, which locks it.
"""

from collections.abc import Container, Iterator
from datetime import datetime
from functools import cache

import dagster as dg

from medallion_defs.core import clock
from medallion_defs.ops.endings import Ending
from medallion_defs.ops.retention import RetentionLine

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_PAGE = 200
_MAX_RUNTIME_TAG = "dagster/max_runtime"


def ending_of(instance: dg.DagsterInstance, run_id: str) -> Ending:
    """Return how a run ended, or is ending: by a person's act, for it took longer than runs may, by a stop of Medallion, or unknown."""
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        return Ending("died", run_id=run_id)
    if _is_overtime(instance, record):
        return Ending("overtime", run_id=run_id)
    status = record.dagster_run.status
    if status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED):
        return Ending("canceled", run_id=run_id)
    return Ending("stopped" if status is dg.DagsterRunStatus.STARTED else "died", run_id=run_id)


def _is_overtime(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    # Dagster cancels such a run as a person does; only the time tells them apart.
    limit = float(record.dagster_run.tags.get(_MAX_RUNTIME_TAG) or instance.run_monitoring_max_runtime_seconds or 0)
    ended_at = record.end_time or clock.now().timestamp()
    return bool(limit and record.start_time and ended_at - record.start_time >= limit)


def prune_runs(instance: dg.DagsterInstance, days: int, before: datetime, open_runs: Container[str], *, apply: bool) -> RetentionLine:
    """Delete the runs that ended and began before `before`, or, without `apply`, count them.

    Kept are runs that are under way, those in `open_runs`, and the latest successful one of each job: the page would forget when
    an asset was last made.
    """
    # All ids first: a page begins after a run, and not when that one is gone.
    old = [record for record in _old_runs(instance, before) if record.dagster_run.run_id not in open_runs]
    if apply:
        for record in old:
            instance.delete_run(record.dagster_run.run_id)
    oldest_at = min((record.create_timestamp for record in old), default=None)
    return RetentionLine(what="dagster runs with their events", rule=f"policy runs_days {days}", number=len(old), oldest_at=oldest_at)


def _old_runs(instance: dg.DagsterInstance, before: datetime) -> Iterator[dg.RunRecord]:
    @cache
    def latest_success(job_name: str) -> str | None:
        filters = dg.RunsFilter(job_name=job_name, statuses=[dg.DagsterRunStatus.SUCCESS])
        return next((record.dagster_run.run_id for record in instance.get_run_records(filters, limit=1)), None)

    cursor: str | None = None
    filters = dg.RunsFilter(statuses=_ENDED, created_before=before)
    while page := instance.get_run_records(filters, limit=_PAGE, cursor=cursor):
        yield from (record for record in page if latest_success(record.dagster_run.job_name) != record.dagster_run.run_id)
        cursor = page[-1].dagster_run.run_id
