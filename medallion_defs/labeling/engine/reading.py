"""What people ask about tasks: which there are, in which state, and all of the life of one. Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg.rows import class_row, dict_row

from medallion_defs.core.errors import TerminalError
from medallion_defs.core.sql import load_queries

_SQL = load_queries("medallion_defs.labeling.engine", "reading.sql")

Status = Literal["pending", "batched", "succeeded", "retrying", "dead", "withdrawn"]


@dataclass(frozen=True)
class TaskRow:
    """One row of `silver.tasks_todo`."""

    task_id: UUID
    task_key: str
    media_type: str
    prompt_id: str
    subject_table: str
    subject_key: str
    file_id: UUID
    file_hash: str
    bytes: int
    depends_on: Sequence[UUID]
    status: Status
    batch_id: int | None
    attempts: int
    retry_at: datetime | None
    error_type: str | None
    error_message: str | None
    code_version: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks a person asks for; what is None does not narrow."""

    task_key: str | None = None
    statuses: tuple[Status, ...] | None = None
    error_type: str | None = None
    subject_key: str | None = None
    file_id: UUID | None = None
    task_id: UUID | None = None


@dataclass(frozen=True)
class TaskLife:
    """All there is of one task.

    Attributes:
        row: its latest state.
        events: attempts and outcomes, oldest first, that were not compacted.
        history: totals of those that were; None when none was.
        result: its output, with usage, cost and where it came from; None before the first success.
        verdict: what a person said about its input instead; None when nobody did.
    """

    row: TaskRow
    events: Sequence[Mapping[str, Any]]
    history: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    verdict: Mapping[str, Any] | None


@dataclass(frozen=True)
class StatusCount:
    task_key: str
    status: Status
    tasks: int
    bytes: int


def list_rows(connection: psycopg.Connection, which: TaskFilter, limit: int) -> list[TaskRow]:
    """Return the tasks that match, those that changed last first."""
    values = {**vars(which), "statuses": None if which.statuses is None else list(which.statuses), "limit": limit}
    with connection.cursor(row_factory=class_row(TaskRow)) as cursor:
        return cursor.execute(_SQL["list_tasks"], values).fetchall()


def read_life(connection: psycopg.Connection, task_id: UUID) -> TaskLife:
    """Return all there is of one task. Reads every event that was not compacted: for a person, not for a loop.

    Raises:
        TerminalError: there is no such task.
    """
    rows = list_rows(connection, TaskFilter(task_id=task_id), limit=1)
    if not rows:
        raise TerminalError(f"There is no task {task_id}. 'medallion tasks list' shows which there are.")
    read = {name: _read(connection, name, task_id) for name in ("read_events", "read_history", "read_result", "read_verdict")}
    history, result, verdict = (next(iter(read[name]), None) for name in ("read_history", "read_result", "read_verdict"))
    return TaskLife(rows[0], read["read_events"], history, result, verdict)


def count_by_status(connection: psycopg.Connection, task_key: str | None = None) -> list[StatusCount]:
    """Return tasks and bytes of each task key in each status. Reads the whole table."""
    with connection.cursor(row_factory=class_row(StatusCount)) as cursor:
        return cursor.execute(_SQL["count_by_status"], {"task_key": task_key}).fetchall()


def _read(connection: psycopg.Connection, name: str, task_id: UUID) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_SQL[name], {"task_id": task_id}).fetchall()
