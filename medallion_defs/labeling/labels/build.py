"""`gold.media_labels` kept in line with the answers, the verdicts and the profiles that count. Knows no Dagster.

The position in the change feeds of `silver.tasks_results` and `silver.tasks_verdicts` is what gold's own rows say, so it can never
disagree with them. A promotion or a rollback decides all inputs of its task again. What holds for an input is decided in one
place, the view `silver.tasks_current`. A label goes when its subject does (`vanished.py`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from medallion_defs.core import db
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.core.timing import Timer
from medallion_defs.labeling.contract import TaskSpec
from medallion_defs.labeling.labels.vanished import follow_deletions

TABLE = "gold.media_labels"
_SQL = load_queries("medallion_defs.labeling.labels", "build.sql")
_MAX_ROWS = 20_000


@dataclass(frozen=True)
class LabelWork:
    """What gold has not seen, as far as one step takes it.

    Attributes:
        result_after, result_until: range in the feed of the answers; `result_until` is None when there is none that counts.
        verdict_after, verdict_until: the same of the verdicts.
        task_keys: tasks whose profiles are in another order than when gold was written.
    """

    result_after: int
    result_until: int | None
    verdict_after: int
    verdict_until: int | None
    task_keys: Sequence[str]

    @property
    def is_none(self) -> bool:
        """Gold has seen everything."""
        return self.result_until is None and self.verdict_until is None and not self.task_keys

    @property
    def range(self) -> dict[str, int]:
        """The four positions; an empty range ends where it begins."""
        return {
            "result_after": self.result_after,
            "result_until": self.result_after if self.result_until is None else self.result_until,
            "verdict_after": self.verdict_after,
            "verdict_until": self.verdict_after if self.verdict_until is None else self.verdict_until,
        }


@dataclass(frozen=True)
class LabelCounts:
    """Inputs looked at, and labels written. `updated`: those that say something else than before."""

    checked: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0

    def __add__(self, other: "LabelCounts") -> "LabelCounts":
        return LabelCounts(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class LabelsReport:
    """What one refresh did.

    Attributes:
        counts: in all.
        decided_anew: tasks of which every input was decided again.
        labels: rows now, by task and by who said so (`model`, `processor`, `verdict`).
        seconds: from the first look to the last commit.
    """

    counts: LabelCounts
    decided_anew: tuple[str, ...]
    labels: Mapping[str, Mapping[str, int]]
    seconds: float


def refresh_labels(
    settings: Settings, specs: Collection[TaskSpec] = (), *, is_full: bool = False, max_rows: int = _MAX_ROWS
) -> LabelsReport:
    """Bring `gold.media_labels` up to date; commits step by step, so that a refresh that was stopped goes on where it was.

    Args:
        specs: tasks of which deleted subjects are followed.
        is_full: look at every input of every task, too: finds labels whose answer was deleted by hand.
        max_rows: most answers read in one step.
    """
    timer, total, decided = Timer(), LabelCounts(), list[str]()
    with db.connect(settings, "medallion_gold") as connection:
        while (deleted := _follow_deletions(connection, specs)) is not None:
            total += LabelCounts(checked=deleted, deleted=deleted)
        while True:
            counts, task_keys, is_done = _step(connection, max_rows)
            total, decided = total + counts, [*decided, *task_keys]
            if is_done:
                break
        for task_key in _all_tasks(connection) if is_full else ():
            total += _decide_anew(connection, task_key)
            decided.append(task_key)
        return LabelsReport(total, tuple(sorted(set(decided))), _count(connection), timer.seconds)


def find_work(connection: psycopg.Connection, max_rows: int = _MAX_ROWS) -> LabelWork:
    """Return what gold has not seen; takes time in proportion to that. Reads only."""
    with connection.cursor(row_factory=class_row(LabelWork)) as cursor:
        [work] = cursor.execute(_SQL["pending"], {"max_rows": max_rows}).fetchall()
    return work


def _follow_deletions(connection: psycopg.Connection, specs: Collection[TaskSpec]) -> int | None:
    with connection.transaction():
        connection.execute(_SQL["lock"])
        return follow_deletions(connection, specs)


def _step(connection: psycopg.Connection, max_rows: int) -> tuple[LabelCounts, Sequence[str], bool]:
    with connection.transaction():
        connection.execute(_SQL["lock"])
        work = find_work(connection, max_rows)
        if work.is_none:
            return LabelCounts(), (), True
        counts = _write(connection, _SQL["touched_by_feeds"], work.range)
        for task_key in work.task_keys:
            counts += _write(connection, _SQL["touched_by_task"], work.range | {"task_key": task_key})
    return counts, work.task_keys, False


def _decide_anew(connection: psycopg.Connection, task_key: str) -> LabelCounts:
    with connection.transaction():
        connection.execute(_SQL["lock"])
        work = find_work(connection)
        # Not beyond what gold has read: what has come in since is the next refresh's.
        read = {"result_until": work.result_after, "verdict_until": work.verdict_after}
        return _write(connection, _SQL["touched_by_task"], read | {"task_key": task_key})


def _write(connection: psycopg.Connection, touched: LiteralString, values: Mapping[str, object]) -> LabelCounts:
    query = sql.SQL(_SQL["write"]).format(touched=sql.SQL(touched))
    with connection.cursor(row_factory=class_row(LabelCounts)) as cursor:
        [counts] = cursor.execute(query, values).fetchall()
    return counts


def _all_tasks(connection: psycopg.Connection) -> list[str]:
    with connection.transaction():
        return [task_key for (task_key,) in connection.execute(_SQL["task_keys"])]


def _count(connection: psycopg.Connection) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    with connection.transaction():
        for task_key, source, labels in connection.execute(_SQL["counts"]):
            counts.setdefault(task_key, {})[source] = labels
    return counts
