"""Ask the provider how its jobs are: one cheap call per active batch, within a time budget. Downloads nothing. Bronze location only."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import msgspec
import psycopg

from medallion_defs.core import clock
from medallion_defs.core.sections import GenaiSettings
from medallion_defs.genai.client import BusyError, GeminiClient, JobState, RefusedError, UnknownOutcomeError
from medallion_defs.genai.limiter import Limiter
from medallion_defs.genai.state import BatchState, GenaiBatch, LostBatchError

DEADLINE_STATE, VANISHED_STATE = "DEADLINE", "VANISHED"
# What a cancelled job has done by then may still come; after this it is given up whatever the provider says.
_GRACE = timedelta(hours=1)
_NOT_FOUND = 404


class Polled(msgspec.Struct, frozen=True):
    """What a round of polling found. `last`: the batch to go on after; `problems`: calls that failed, for a person."""

    asked: int
    ended: tuple[str, ...]
    problems: tuple[str, ...]
    last: str | None


def poll_batches(
    connection: psycopg.Connection[Any], client: GeminiClient, settings: GenaiSettings, after: str | None, budget_seconds: float
) -> Polled:
    """Ask for each active batch, beginning after the one named `after`, until all are asked or the time is up.

    `connection`: in autocommit mode. A job that is over is marked ended; one past its deadline is cancelled first, and one that the
    provider does not know is waited for until then: perhaps the key is another project's for a while.
    """
    state, limiter = BatchState(connection), Limiter(connection, settings)
    ended: list[str] = []
    problems: list[str] = []
    asked, last, stop_at = 0, after, monotonic() + budget_seconds
    for batch in _in_turn(state.list_batches("active"), after):
        if monotonic() > stop_at or limiter.take_request():
            break
        asked, last = asked + 1, batch.batch_id
        try:
            if _poll(state, client, batch, clock.now()):
                ended.append(batch.batch_id)
        except BusyError as error:
            limiter.pause(error.retry_after)
            problems.append(f"{batch.batch_id}: {error}")
        except (RefusedError, UnknownOutcomeError, LostBatchError) as error:
            problems.append(f"{batch.batch_id}: {error}")
    return Polled(asked, tuple(ended), tuple(problems), last)


def _in_turn(batches: Sequence[GenaiBatch], after: str | None) -> list[GenaiBatch]:
    names = [batch.batch_id for batch in batches]
    start = names.index(after) + 1 if after in names else 0
    return [*batches[start:], *batches[:start]]


def _poll(state: BatchState, client: GeminiClient, batch: GenaiBatch, now: datetime) -> bool:
    """Return whether the batch has ended."""
    try:
        job = client.read_job(str(batch.provider_name))
    except RefusedError as error:
        if error.code != _NOT_FOUND or now <= batch.deadline_at:
            raise
        job = JobState(VANISHED_STATE, None, str(error), is_done=True)
    if not job.is_over and now > batch.deadline_at:
        job = _cancel(client, batch, job, now)
    if job.is_over:
        state.mark_ended(batch.batch_id, job.state, job.output_file, job.error, now)
    else:
        state.note_state(batch.batch_id, job.state, now)
    return job.is_over


def _cancel(client: GeminiClient, batch: GenaiBatch, job: JobState, now: datetime) -> JobState:
    """Cancel a job past its deadline; return its state after that. Answers that were ready by then are kept."""
    error = f"not done by its deadline, {batch.deadline_at:%Y-%m-%d %H:%M} UTC (genai.deadline_hours); cancelled"
    is_late = now > batch.deadline_at + _GRACE
    try:
        client.cancel(str(batch.provider_name))
        job = client.read_job(str(batch.provider_name))
    except RefusedError:
        if not is_late:
            raise
    is_given_up = is_late and not job.is_over
    is_empty = job.state == "CANCELLED" and job.output_file is None
    return JobState(DEADLINE_STATE, None, error, is_done=True) if is_given_up or is_empty else job
