"""Ask the provider how its jobs are: one cheap call per active batch, within a time budget. Downloads nothing. Bronze location only.

active ──over, with answers or without good reason for any──► ended
   │ past its deadline: cancelled; an hour later given up, whatever the provider says or fails to say ──► ended
   ├─ over, and good, but no answers are named: looked at again, then held for a person ──► held
   └─ failed for its model or account, which no record is to blame for ──► held
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import msgspec
import psycopg

from medallion_defs.core import clock
from medallion_defs.core.errors import TransientError
from medallion_defs.core.sections import GenaiSettings
from medallion_defs.genai.client import BusyError, GeminiClient, RefusedError, UnknownOutcomeError
from medallion_defs.genai.jobs import JobState
from medallion_defs.genai.limiter import Limiter
from medallion_defs.genai.state import BatchState, GenaiBatch, LostBatchError

DEADLINE_STATE, VANISHED_STATE = "DEADLINE", "VANISHED"
# What a cancelled job has done by then may still come; after this it is given up whatever the provider says.
GRACE = timedelta(hours=1)
_NOT_FOUND = 404
Trouble = RefusedError | BusyError | UnknownOutcomeError


class NoAnswersError(TransientError):
    """A job is over, and its answers are not to be had."""


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
        if monotonic() > stop_at:
            break
        # The last look at a batch, before it is given up, waits for no quota: the provider could hold it back for ever.
        if limiter.take_request() and not _is_late(batch, clock.now()):
            continue
        asked, last = asked + 1, batch.batch_id
        try:
            if _poll(state, client, settings, batch, clock.now()):
                ended.append(batch.batch_id)
        except BusyError as error:
            limiter.pause(error.retry_after)
            problems.append(f"{batch.batch_id}: {error}")
        except (RefusedError, UnknownOutcomeError, NoAnswersError, LostBatchError) as error:
            problems.append(f"{batch.batch_id}: {error}")
    return Polled(asked, tuple(ended), tuple(problems), last)


def _in_turn(batches: Sequence[GenaiBatch], after: str | None) -> list[GenaiBatch]:
    names = [batch.batch_id for batch in batches]
    start = names.index(after) + 1 if after in names else 0
    return [*batches[start:], *batches[:start]]


def _is_late(batch: GenaiBatch, now: datetime) -> bool:
    return now > batch.deadline_at + GRACE


def _poll(state: BatchState, client: GeminiClient, settings: GenaiSettings, batch: GenaiBatch, now: datetime) -> bool:
    """Return whether the batch has ended."""
    name = str(batch.provider_name)
    job = client.read_job(name) if now <= batch.deadline_at else _end(client, batch, name, now)
    if job.refuses_batch:
        raise NoAnswersError(_hold_refused(state, batch, job, now))
    if job.lacks_answers:
        raise NoAnswersError(_hold(state, settings, batch, job, now))
    if job.is_over:
        state.mark_ended(batch.batch_id, job.state, job.output_file, job.error, now)
    else:
        state.note_state(batch.batch_id, job.state, now)
    return job.is_over


def _hold(state: BatchState, settings: GenaiSettings, batch: GenaiBatch, job: JobState, now: datetime) -> str:
    """Look again for a while at a job whose answers are not named, then hold its batch; return what is known as a sentence.

    Its answers exist and were paid for: its records are not asked again, nor its dollars set free, without a person.
    """
    missing = f"the job {batch.provider_name} ended {job.state} and names no result file"
    if batch.ended_at is None or now < batch.ended_at + timedelta(seconds=settings.adopt_seconds):
        state.note_unfound(batch.batch_id, job.state, f"{missing}; it is looked at again", now)
        return f"{missing}; it is looked at again"
    held = f"{missing}. 'medallion genai resume {batch.batch_id}' looks again, 'medallion genai cancel {batch.batch_id}' gives it up"
    state.hold(batch.batch_id, job.state, held, now)
    return held


def _hold_refused(state: BatchState, batch: GenaiBatch, job: JobState, now: datetime) -> str:
    """Hold a batch whose job failed for what all its requests share: asked again, it would fail again, record by record."""
    said = f"the job {batch.provider_name} ended FAILED: {job.error}. {batch.refused_remedy}"
    state.hold(batch.batch_id, job.state, said, now)
    return said


def _end(client: GeminiClient, batch: GenaiBatch, name: str, now: datetime) -> JobState:
    """Cancel the job of a batch past its deadline; return its state after that. Answers that were ready by then are kept."""
    late = f"not done by its deadline, {batch.deadline_at:%Y-%m-%d %H:%M} UTC (genai.deadline_hours); cancelled"
    job, trouble = _look(client, name)
    if job is None or not job.is_over:
        uncancelled = _cancel(client, name)
        # Its answer to a second look says what came of the cancelling.
        job, trouble = _look(client, name) if uncancelled is None or job is None else (job, uncancelled)
    if job is not None and job.is_over:
        is_empty = job.state == "CANCELLED" and job.output_file is None
        return JobState(DEADLINE_STATE, None, late, is_done=True) if is_empty else job
    if isinstance(trouble, RefusedError) and trouble.code == _NOT_FOUND:
        return JobState(VANISHED_STATE, None, str(trouble), is_done=True)
    if _is_late(batch, now):
        return JobState(DEADLINE_STATE, None, f"{late}; {trouble}" if trouble else late, is_done=True)
    if trouble is not None:
        raise trouble
    assert job is not None, "what was looked at without trouble has a state"
    return job


def _look(client: GeminiClient, name: str) -> tuple[JobState | None, Trouble | None]:
    try:
        return client.read_job(name), None
    except (RefusedError, BusyError, UnknownOutcomeError) as error:
        return None, error


def _cancel(client: GeminiClient, name: str) -> Trouble | None:
    try:
        client.cancel(name)
    except (RefusedError, BusyError, UnknownOutcomeError) as error:
        return error
    return None
