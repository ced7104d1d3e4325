"""Which records no plan asks a model about any more, for whatever reason, and how to have them asked again."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import class_row

from medallion_defs.core.sql import load_queries
from medallion_defs.genai.state import BatchState
from medallion_defs.labeling.engine.plan import requeue_tasks

_SQL = load_queries("medallion_defs.labeling.models", "dead.sql")
_ALL = 1_000_000


class DeadRecord(msgspec.Struct, frozen=True):
    """A record that is not asked about any more. `count`: its failed answers; `error_type`, `error_message`: of the last try."""

    record_key: str
    task_id: UUID
    task_key: str | None
    count: int
    error_type: str | None
    error_message: str | None
    last_updated: datetime


def list_dead(connection: psycopg.Connection, task_keys: Collection[str], max_retries: int, limit: int = _ALL) -> list[DeadRecord]:
    """Return the dead records of these tasks, and all that failed more than `max_retries` times, latest first."""
    params = {"task_keys": list(task_keys), "max_retries": max_retries, "limit": limit}
    with connection.cursor(row_factory=class_row(DeadRecord)) as cursor:
        return cursor.execute(_SQL["list_dead"], params).fetchall()


def requeue_dead(connection: psycopg.Connection, records: Sequence[DeadRecord]) -> int:
    """Forget the failures of these records and ask for them again; return how many. The caller commits."""
    BatchState(connection).clear_failures([record.record_key for record in records])
    return requeue_tasks(connection, task_ids=[record.task_id for record in records])
