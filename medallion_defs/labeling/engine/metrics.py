"""How the tasks are doing: throughput, latency, success and what waits, per task; and its errors, grouped. Reads only."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from psycopg.rows import class_row

from medallion_defs.core import db
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries

_SQL = load_queries("medallion_defs.labeling.engine", "metrics.sql")


@dataclass(frozen=True)
class TaskMetrics:
    """One task.

    Attributes:
        attempts, succeeded, failed, discarded: events since the time asked for, as far as they were not compacted.
        outcomes_per_hour: successes and failures over the time since then.
        p50_ms, p95_ms: of the items that were timed; None when none was.
        cost_usd: since then; None when nothing cost.
        pending, batched, retrying, dead: tasks in that state now.
        oldest_open_at: when the oldest task was planned that is neither done nor dead.
    """

    task_key: str
    attempts: int
    succeeded: int
    failed: int
    discarded: int
    outcomes_per_hour: float
    p50_ms: float | None
    p95_ms: float | None
    cost_usd: Decimal | None
    pending: int
    batched: int
    retrying: int
    dead: int
    oldest_open_at: datetime | None

    @property
    def success_rate(self) -> float | None:
        """Successes among successes and failures; None when there is neither."""
        outcomes = self.succeeded + self.failed
        return self.succeeded / outcomes if outcomes else None


@dataclass(frozen=True)
class ErrorGroup:
    """Tasks that are dead or wait for a retry because of the same type of error, with the last one as an example."""

    task_key: str
    error_type: str
    status: Literal["dead", "retrying"]
    tasks: int
    last_at: datetime
    last_task_id: UUID
    last_message: str


def read_metrics(settings: Settings, since: datetime) -> list[TaskMetrics]:
    """Return the metrics of every task that did something since then or has something to do."""
    with db.connect(settings, "medallion_console") as connection, connection.cursor(row_factory=class_row(TaskMetrics)) as cursor:
        return cursor.execute(_SQL["metrics"], {"since": since}).fetchall()


def read_errors(settings: Settings, task_key: str | None = None) -> list[ErrorGroup]:
    """Return the failures that stand, most first."""
    with db.connect(settings, "medallion_console") as connection, connection.cursor(row_factory=class_row(ErrorGroup)) as cursor:
        return cursor.execute(_SQL["errors"], {"task_key": task_key}).fetchall()
