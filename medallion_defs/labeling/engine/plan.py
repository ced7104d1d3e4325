"""Plan: which silver rows a task has not been asked about, written to `tasks_todo`, and open work cut into batches.

Each prompt has read its subjects' change feed up to `planned_seq`; a plan reads on from there, so it costs what is new. Ids are
deterministic, so what is read twice is planned once. Nothing here calls a processor.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Literal, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from medallion_defs.core import ids
from medallion_defs.core.batching import cut
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.contract import BatchStrategy, Candidate, TaskSpec
from medallion_defs.labeling.engine import leases
from medallion_defs.labeling.engine.promotion import register_profiles
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task
from medallion_defs.ops.scope import Scope

_SQL = load_queries("medallion_defs.labeling.engine", "plan.sql")
CHUNK_ROWS = 5_000
_CANDIDATE = tuple(field.name for field in fields(Candidate))

Requeuable = Literal["dead", "retrying", "withdrawn"]


@dataclass(frozen=True)
class PlanReport:
    """What a plan did, or, dry, would have done.

    Attributes:
        task_key: of the task.
        planned: tasks that were not there, or whose bytes came back.
        rearmed: failed tasks that are tried again because the code has changed.
        batched: tasks put into batches: the new ones, the re-armed, and those due for a retry.
        batch_ids: every batch that a worker can claim now, those that an earlier run left included.
        waiting_profiles: ids of profiles in the task's folder that wait to be promoted; they are not planned.
        promoted: the profile that replaced the primary in this plan; None: none did.
        note: what that means, for a person.
    """

    task_key: str
    planned: int
    rearmed: int
    batched: int
    batch_ids: tuple[int, ...]
    waiting_profiles: tuple[str, ...]
    promoted: PromptProfile | None = None
    note: str = ""


@dataclass(frozen=True)
class RedoExtent:
    """What a backfill would do again, or has set to pending.

    Attributes:
        usd: what the answers that are there have cost; 0 without a model.
        marked: tasks in the scope that stay as they are, because a success marker keeps their subject from being asked.
    """

    tasks: int
    bytes: int
    usd: Decimal
    marked: int


class OpenItem(NamedTuple):
    """A task that waits for a batch."""

    task_id: UUID
    prompt_id: str
    bytes: int
    group_key: str | None


def plan_task(connection: psycopg.Connection, task: Task, limit: int | None = None, *, dry_run: bool = False) -> PlanReport:
    """Write new tasks, then cut what is open into batches. Commits part by part: a crash loses nothing, and the next plan goes on.

    Args:
        connection: one with no transaction open.
        limit: most tasks written, and most put into batches; None: all. Subjects of one position of the feed are planned together.
        dry_run: count, and leave the database as it is.

    Raises:
        ConfigurationError: the candidates query does not return what it should.
    """
    with connection.transaction(force_rollback=True) if dry_run else nullcontext():
        profiles = register_profiles(connection, task)
        rearmed = 0 if task.spec.model else _rearm(connection, task)
        planned = _plan_prompts(connection, task.spec, profiles.active, limit)
        batched = sum(_make_batches(connection, task.spec, profiles.active, limit))
    with connection.transaction():
        batch_ids = leases.claimable(connection, task.task_key)
    return PlanReport(task.task_key, planned, rearmed, batched, batch_ids, profiles.waiting, profiles.promoted)


def reread_subjects(connection: psycopg.Connection, task_key: str) -> None:
    """Let the next plan read all subjects again: finds what a feed read by position cannot have shown. The caller commits."""
    connection.execute(_SQL["reread"], {"task_key": task_key})


def redo(connection: psycopg.Connection, task_key: str, scope: Scope, before: datetime, *, keep_marked: bool = False) -> int:
    """Set tasks that succeeded before `before` to pending, to be done again; return how many. Commits part by part.

    The old results stay until the new ones are there. With the same `before`, a backfill that was stopped goes on where it was.

    Args:
        scope: `since` means tasks planned at that time or later; `dataset` is for bronze items and refused.
        keep_marked: leave what has a success marker as it is.
    """
    values = _redo_values(task_key, scope, before, keep_marked=keep_marked)
    total = 0
    after: UUID | None = None
    while True:
        with connection.transaction():
            [(after, redone)] = connection.execute(_SQL["redo"], {**values, "after": after, "limit": CHUNK_ROWS}).fetchall()
        total += int(redone)
        if after is None:
            return total


def count_redo(connection: psycopg.Connection, task_key: str, scope: Scope, before: datetime, *, keep_marked: bool = False) -> RedoExtent:
    """Return what `redo` with the same arguments still has before it."""
    with connection.cursor(row_factory=class_row(RedoExtent)) as cursor:
        [extent] = cursor.execute(_SQL["count_redo"], _redo_values(task_key, scope, before, keep_marked=keep_marked)).fetchall()
    return extent


def _redo_values(task_key: str, scope: Scope, before: datetime, *, keep_marked: bool) -> dict[str, object]:
    if scope.dataset is not None:
        raise ConfigurationError("Tasks know no dataset: narrow a backfill by task, since, file_ids or outdated.")
    code = None if scope.current_code is None else scope.current_code.otherwise
    file_ids = None if scope.file_ids is None else list(scope.file_ids)
    return {
        "task_key": task_key, "before": before, "since": scope.since, "file_ids": file_ids, "current_code": code,
        "keep_marked": keep_marked,
    }  # fmt: skip


def requeue_tasks(
    connection: psycopg.Connection,
    task_key: str | None = None,
    task_ids: Sequence[UUID] | None = None,
    error_type: str | None = None,
    statuses: Sequence[Requeuable] = ("dead", "retrying"),
) -> int:
    """Set failed tasks back to pending with all their attempts; return how many. The caller commits."""
    ids_ = None if task_ids is None else list(task_ids)
    values = {"task_key": task_key, "task_ids": ids_, "error_type": error_type, "statuses": list(statuses)}
    [(count,)] = connection.execute(_SQL["requeue"], values).fetchall()
    return int(count)


def cut_batches(items: Sequence[OpenItem], strategy: BatchStrategy) -> Iterator[list[OpenItem]]:
    """Cut `items` into batches of one prompt, and of one group where the strategy asks for it; one item above `max_bytes` goes alone."""
    kind = partial(_kind, strategy=strategy)
    for _, alike in groupby(sorted(items, key=kind), kind):
        yield from cut(alike, attrgetter("bytes"), most_items=strategy.max_items, most_bytes=strategy.max_bytes)


def whole_positions(candidates: Sequence[Candidate], limit: int) -> Sequence[Candidate]:
    """Return the candidates without those of the last position, when the limit may have cut that in two; empty: all are of one."""
    if len(candidates) < limit:
        return candidates
    last = candidates[-1].change_seq
    return [candidate for candidate in candidates if candidate.change_seq < last]


def _rearm(connection: psycopg.Connection, task: Task) -> int:
    """Arm again what failed under other code. Not of a task that asks a model: new code must not spend money by itself."""
    with connection.transaction():
        values = {"task_key": task.task_key, "code_version": task.code_version}
        return connection.execute(_SQL["rearm_outdated"], values).rowcount


def _plan_prompts(connection: psycopg.Connection, spec: TaskSpec, prompt_ids: Sequence[str], limit: int | None) -> int:
    planned = 0
    for prompt_id in prompt_ids:
        more = True
        while more and (limit is None or planned < limit):
            rows = CHUNK_ROWS if limit is None else min(CHUNK_ROWS, limit - planned)
            with connection.transaction():
                new, more = _plan_chunk(connection, spec, prompt_id, rows)
            planned += new
    return planned


def _plan_chunk(connection: psycopg.Connection, spec: TaskSpec, prompt_id: str, rows: int) -> tuple[int, bool]:
    """Plan the next subjects of a prompt; return how many tasks are new, and whether there may be more subjects."""
    row = connection.execute(_SQL["lock_prompt"], {"prompt_id": prompt_id}).fetchone()
    if row is None:
        return 0, False  # retired since the plan began
    candidates, more = _read_candidates(connection, spec, row[0], rows)
    if not candidates:
        return 0, False
    new = _insert(connection, spec, prompt_id, candidates)
    connection.execute(_SQL["advance"], {"prompt_id": prompt_id, "planned_seq": candidates[-1].change_seq})
    return new, more


def _read_candidates(connection: psycopg.Connection, spec: TaskSpec, after: int, rows: int) -> tuple[Sequence[Candidate], bool]:
    limit = rows + 1
    while True:
        with connection.cursor(row_factory=class_row(Candidate)) as cursor:
            try:
                found = cursor.execute(spec.subjects.candidates, {"after": after, "limit": limit}).fetchall()
            except TypeError as error:
                raise ConfigurationError(
                    f"Task {spec.task_key}: the candidates query of its subjects '{spec.subjects.name}' must return the columns "
                    f"{', '.join(_CANDIDATE)} (group_key and depends_on may be left out), and no others."
                ) from error
        whole = whole_positions(found, limit)
        if whole or not found:
            return whole, len(found) == limit
        limit *= 2


def _insert(connection: psycopg.Connection, spec: TaskSpec, prompt_id: str, candidates: Sequence[Candidate]) -> int:
    # One statement cannot write a row twice: of several subjects with the same bytes the last is the one that is read.
    rows = {row["task_id"]: row for row in (_todo_row(spec, prompt_id, candidate) for candidate in candidates)}
    values = {"rows": json.dumps(list(rows.values()))}
    written = connection.execute(_SQL["insert_todo"], values).rowcount
    return written - connection.execute(_SQL["restore"], values).rowcount


def _todo_row(spec: TaskSpec, prompt_id: str, candidate: Candidate) -> Mapping[str, object]:
    return {
        "task_id": str(ids.task_id(spec.task_key, spec.media_type, candidate.file_hash, prompt_id)),
        "task_key": spec.task_key,
        "media_type": spec.media_type,
        "prompt_id": prompt_id,
        "subject_table": candidate.subject_table,
        "subject_key": candidate.subject_key,
        "file_id": str(candidate.file_id),
        "file_hash": candidate.file_hash,
        "bytes": candidate.bytes,
        "group_key": candidate.group_key,
        "depends_on": [str(task_id) for task_id in candidate.depends_on],
    }


def _make_batches(connection: psycopg.Connection, spec: TaskSpec, prompt_ids: Sequence[str], limit: int | None) -> Iterator[int]:
    """Put what is due or pending into batches; yield the items of each part once it is committed."""
    left = limit
    for query in ("lock_due", "lock_pending"):
        while left is None or left > 0:
            with connection.transaction():
                most = CHUNK_ROWS if left is None else min(CHUNK_ROWS, left)
                items = _lock_open(connection, query, {"task_key": spec.task_key, "prompt_ids": list(prompt_ids), "limit": most})
                for batch in cut_batches(items, spec.batch_strategy):
                    _make_batch(connection, spec.task_key, batch)
            if not items:
                break
            yield len(items)
            left = None if left is None else left - len(items)


def _lock_open(connection: psycopg.Connection, query: str, values: Mapping[str, object]) -> list[OpenItem]:
    rows = connection.execute(_SQL[query], values)
    return [OpenItem(*row) for row in rows]


def _make_batch(connection: psycopg.Connection, task_key: str, batch: Sequence[OpenItem]) -> None:
    values = {
        "task_key": task_key,
        "prompt_id": batch[0].prompt_id,
        "items": len(batch),
        "bytes": sum(item.bytes for item in batch),
        "task_ids": [item.task_id for item in batch],
    }
    connection.execute(_SQL["make_batch"], values)


def _kind(item: OpenItem, strategy: BatchStrategy) -> tuple[str, str]:
    return item.prompt_id, (item.group_key or "") if strategy.by_group else ""
