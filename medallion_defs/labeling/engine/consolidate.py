"""Consolidate: from the events of processed batches to the latest state of each task and to its result, set-based.

One statement per group of batches, in one transaction: outcomes into `tasks_todo` and `tasks_results`, batches done. The same
batch again, or by two at once, changes nothing.
"""

from dataclasses import astuple, dataclass

import psycopg
from psycopg.rows import class_row

from medallion_defs.core.sql import load_queries

_SQL = load_queries("medallion_defs.labeling.engine", "consolidate.sql")
_MAX_BATCHES = 100
_MAX_ITEMS = 10_000


@dataclass(frozen=True)
class Consolidated:
    """Tasks by the state they came to, and what became of the results: a success whose output is the same writes nothing."""

    succeeded: int = 0
    retrying: int = 0
    dead: int = 0
    withdrawn: int = 0
    results_created: int = 0
    results_updated: int = 0

    def __add__(self, other: "Consolidated") -> "Consolidated":
        return Consolidated(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    @property
    def items(self) -> int:
        """Tasks that came to a state."""
        return self.succeeded + self.retrying + self.dead + self.withdrawn


def consolidate_task(connection: psycopg.Connection, task_key: str) -> Consolidated:
    """Consolidate all processed batches of the task; return the totals. Commits each group of batches."""
    total = Consolidated()
    while True:
        with connection.transaction():
            batch_ids = _lock_some(connection, task_key)
            if not batch_ids:
                return total
            connection.execute(_SQL["give_room"])
            with connection.cursor(row_factory=class_row(Consolidated)) as cursor:
                [counts] = cursor.execute(_SQL["consolidate"], {"batch_ids": batch_ids}).fetchall()
        total += counts


def _lock_some(connection: psycopg.Connection, task_key: str) -> list[int]:
    batch_ids: list[int] = []
    items = 0
    for batch_id, batch_items in connection.execute(_SQL["lock_processed"], {"task_key": task_key, "limit": _MAX_BATCHES}):
        if batch_ids and items + batch_items > _MAX_ITEMS:
            break
        batch_ids.append(batch_id)
        items += batch_items
    return batch_ids
