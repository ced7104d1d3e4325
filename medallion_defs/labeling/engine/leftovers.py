"""Rows of tasks that nothing will ever come of: their prompt is retired, or their task or subject is gone, and they have no result.

No worker takes them. Listing changes nothing; what is purged is written again by a plan, should its prompt or
its subject come back.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import dict_row

from medallion_defs.core import db
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.registry import Task

_SQL = load_queries("medallion_defs.labeling.engine", "leftovers.sql")
_CHUNK = 5_000
_SHOWN = 5

Reason = Literal["task gone", "prompt retired", "subject gone", "events of no task"]


class Leftover(msgspec.Struct, frozen=True):
    """Tasks of one key that are left over for one reason; `examples` are some of their ids."""

    task_key: str
    reason: Reason
    tasks: int
    examples: tuple[UUID, ...]


class Purged(msgspec.Struct, frozen=True):
    """Rows that were removed: of `tasks_todo`, and of `tasks_status` and `tasks_history` together."""

    tasks: int
    events: int


class _Row(NamedTuple):
    task_id: UUID
    task_key: str
    subject_key: str
    file_hash: str
    prompt_state: str | None


def find_leftovers(settings: Settings, tasks: Mapping[str, Task]) -> dict[tuple[str, Reason], list[UUID]]:
    """Return the ids of tasks that are left over, by task key and reason. Changes nothing; reads all tasks without a result."""
    found: dict[tuple[str, Reason], list[UUID]] = defaultdict(list)
    with db.connect(settings, "medallion_gold") as connection:
        for rows in _chunks(connection):
            alive = _subjects_alive(connection, tasks, rows)
            for row in rows:
                if reason := _reason(row, tasks, alive):
                    found[row.task_key, reason].append(row.task_id)
        for task_id, task_key in connection.execute(_SQL["of_no_task"]):
            found[task_key, "events of no task"].append(task_id)
    return dict(sorted(found.items()))


def describe(found: Mapping[tuple[str, Reason], Sequence[UUID]]) -> list[Leftover]:
    """Return what was found for a person: numbers, and some ids."""
    return [Leftover(task_key, reason, len(ids), tuple(ids[:_SHOWN])) for (task_key, reason), ids in found.items()]


def purge(settings: Settings, found: Mapping[tuple[str, Reason], Sequence[UUID]]) -> Purged:
    """Remove the rows of these tasks, part by part; what was given a result or a batch since stays."""
    ids = [task_id for part in found.values() for task_id in part]
    tasks = events = 0
    with db.connect(settings, "medallion_gold", autocommit=True) as connection:
        for start in range(0, len(ids), _CHUNK):
            [(gone, told)] = connection.execute(_SQL["purge"], {"task_ids": ids[start : start + _CHUNK]}).fetchall()
            tasks, events = tasks + gone, events + told
    return Purged(tasks, events)


def _chunks(connection: psycopg.Connection) -> Iterator[list[_Row]]:
    after: UUID | None = None
    while rows := [_Row(*row) for row in connection.execute(_SQL["without_result"], {"after": after, "limit": _CHUNK})]:
        yield rows
        after = rows[-1].task_id


def _subjects_alive(connection: psycopg.Connection, tasks: Mapping[str, Task], rows: Sequence[_Row]) -> set[tuple[str, str, str]]:
    """Return `(task key, subject key, hash)` of the subjects that are there with these bytes, as the tasks' own queries say."""
    keys: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        keys[row.task_key].add(row.subject_key)
    alive = set()
    for task_key in keys.keys() & tasks.keys():
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(tasks[task_key].spec.subjects.inputs, {"subject_keys": sorted(keys[task_key])})
            alive |= {(task_key, str(row["subject_key"]), str(row["file_hash"])) for row in cursor}
    return alive


def _reason(row: _Row, tasks: Mapping[str, Task], alive: set[tuple[str, str, str]]) -> Reason | None:
    if row.task_key not in tasks:
        return "task gone"
    if row.prompt_state not in ("primary", "variant"):
        return "prompt retired"
    return None if (row.task_key, row.subject_key, row.file_hash) in alive else "subject gone"
