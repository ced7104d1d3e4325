"""Which tasks have something to do, asked cheaply: what a sensor needs to know before it requests a run. Reads only.

A look costs indexed queries and what is new in the feed. A task whose subjects are few among many others would make it read those
others at each look; so a look remembers, as a hint, how far it has seen nothing. A lost or old hint costs time, never a subject.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import psycopg

from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.engine.promotion import promotes_itself, read_stored
from medallion_defs.labeling.registry import Task

_SQL = load_queries("medallion_defs.labeling.assets", "open_work.sql")
# A shorter stretch of the feed is cheaper to read again than to keep in each tick's cursor.
_WORTH_REMEMBERING = 10_000
# What the feed cannot tell (a subject that an edit by hand made one) is seen once the hints are forgotten.
_FORGET_AFTER = timedelta(hours=1)
CONSOLIDATION = "outcomes to consolidate"


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """Of a prompt that had planned up to `planned_seq`: no subject between there and `seen_seq`."""

    planned_seq: int
    seen_seq: int


class Memory(msgspec.Struct, frozen=True):
    """The hints of earlier looks, by prompt. `promotion`: of the latest prompt; another primary may have other subjects."""

    since: datetime
    promotion: str = ""
    seen: dict[str, Seen] = {}


class States(NamedTuple):
    """What the tables say of one task."""

    task_key: str
    has_processed: bool
    has_batches: bool
    has_pending: bool
    has_due: bool
    has_outdated: bool


class Feed(NamedTuple):
    """How far a task's subjects were read for one prompt. `name`: the prompt's id; the task's key before it has a prompt."""

    name: str
    planned_seq: int


def look(connection: psycopg.Connection, tasks: Sequence[Task], memory: Memory | None, now: datetime) -> tuple[dict[str, str], Memory]:
    """Return, per task with something to do, what that is, for a person; and the hints for the next look.

    Args:
        connection: at read committed: each query must see what was committed before it.
        memory: of the last look; None: there is none.
    """
    promotion: str = _one(connection, "read_promotion")
    memory = _usable(memory, promotion, now)
    found = {row.task_key: reason for row in _read_states(connection, tasks) if (reason := describe(row))}
    # In this order: whoever drew a position up to `end` is done when nobody holds a lock after it.
    end, is_quiet = _one(connection, "feed_end"), _one(connection, "is_feed_quiet")
    feeds, seen = _read_feeds(connection, tasks), dict(memory.seen)
    for task in (task for task in tasks if task.task_key not in found):
        if _has_new_profile(connection, task):
            found[task.task_key] = "an edited profile"
        for feed in feeds[task.task_key]:
            if reason := _look_at_subjects(connection, task, start_of(feed, seen.get(feed.name))):
                found[task.task_key] = reason
            elif is_quiet and end - feed.planned_seq > _WORTH_REMEMBERING:
                seen[feed.name] = Seen(feed.planned_seq, end)
    return found, Memory(memory.since, promotion, {name: hint for name, hint in seen.items() if name in _names(feeds)})


def describe(states: States) -> str | None:
    """Return what a task has to do by its tables, before the feed is asked."""
    if states.has_processed:
        return CONSOLIDATION
    if states.has_batches:
        return "batches to process"
    if states.has_pending:
        return "tasks to batch"
    if states.has_due:
        return "retries that are due"
    return "failures of another code version" if states.has_outdated else None


def start_of(feed: Feed, hint: Seen | None) -> int:
    """Return the position after which a subject would be new; a hint of before a reread is none."""
    return hint.seen_seq if hint and hint.planned_seq == feed.planned_seq else feed.planned_seq


def _usable(memory: Memory | None, promotion: str, now: datetime) -> Memory:
    if memory is None or memory.promotion != promotion or now - memory.since > _FORGET_AFTER:
        return Memory(now, promotion)
    return memory


def _names(feeds: Mapping[str, Sequence[Feed]]) -> set[str]:
    return {feed.name for some in feeds.values() for feed in some}


def _read_feeds(connection: psycopg.Connection, tasks: Sequence[Task]) -> dict[str, list[Feed]]:
    rows = connection.execute(_SQL["read_prompts"]).fetchall()
    feeds = {task.task_key: [Feed(name, planned) for task_key, name, planned in rows if task_key == task.task_key] for task in tasks}
    return {task_key: found or [Feed(task_key, 0)] for task_key, found in feeds.items()}


def _read_states(connection: psycopg.Connection, tasks: Sequence[Task]) -> list[States]:
    # What failed of a task that asks a model is never armed again by new code alone.
    versions = [None if task.spec.model else task.code_version for task in tasks]
    values = {"task_keys": [task.task_key for task in tasks], "code_versions": versions}
    return [States(*row) for row in connection.execute(_SQL["read_states"], values)]


def _has_new_profile(connection: psycopg.Connection, task: Task) -> bool:
    """Whether the next plan makes another profile primary. The very first is no reason for a run: its subjects are."""
    stored = read_stored(connection, task.task_key)
    return bool(stored) and promotes_itself(task, stored)


def _look_at_subjects(connection: psycopg.Connection, task: Task, after: int) -> str | None:
    """Return why the subjects are a reason for a run. That they cannot be read is one: its failure says so, and the other tasks go on."""
    try:
        with connection.transaction():
            row = connection.execute(task.spec.subjects.candidates, {"after": after, "limit": 1}).fetchone()
    except psycopg.Error as error:
        if connection.broken:
            raise
        return f"subjects that cannot be read ({error.diag.message_primary})"
    return "new subjects" if row else None


def _one(connection: psycopg.Connection, query: str) -> Any:
    [(value,)] = connection.execute(_SQL[query]).fetchall()
    return value
