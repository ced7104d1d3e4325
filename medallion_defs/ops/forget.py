"""Forgetting one subject: what is found of it in the database, and the report of what went and of what remains.

A subject is one external id of a source, in all its revisions, and whatever was made because of it. Which tables hold rows of it
is found by looking (`references.py`). Files, and gold's own rules, are the business of their layers; the order of the steps is
the command's.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg

from medallion_defs.core.sql import load_queries
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.references import count_rows, find_derived, find_references, find_task_columns, find_tasks
from medallion_defs.ops.removal_ledger import RemovalLedger
from medallion_defs.storage.tombstone import hashed_id

_SQL = load_queries("medallion_defs.ops", "forget.sql")
_SHOWN = 20


class Subject(msgspec.Struct, frozen=True):
    """An external id of a source, as the source gave it."""

    source: str
    external_id: str

    @property
    def hashed_id(self) -> str:
        """What stands for it once it is forgotten."""
        return hashed_id(self.source, self.external_id)


class Survey(msgspec.Struct, frozen=True):
    """What the database has of a subject.

    Attributes:
        file_ids: its items, those forgotten before included.
        paths: their directories below the bronze root.
        bytes: of the items whose bytes are there.
        rows: rows made of them, and rows of their tasks, by table and column.
        derived: subjects that were made because of it, such as prompts and answers.
        same_content: other items with the same bytes, which stay.
        runs: Dagster runs that worked on it; their events may name its file.
    """

    file_ids: tuple[UUID, ...]
    paths: tuple[str, ...]
    bytes: int
    rows: dict[str, int]
    derived: tuple[Subject, ...]
    same_content: tuple[str, ...]
    runs: tuple[str, ...]


class ForgetReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased of one subject: how many, by place; and what remains, in sentences. It does not name the subject."""

    source: str
    tombstone: str
    at: datetime
    file_ids: tuple[UUID, ...]
    erased: dict[str, int]
    remains: tuple[str, ...]


def survey(connection: psycopg.Connection, subject: Subject) -> Survey:
    """Find what the database has of a subject. Reads only."""
    rows = RemovalLedger(connection).rows_of_subject(subject.source, subject.external_id)
    ids = [row.file_id for row in rows]
    references, tasks = find_references(connection), find_task_columns(connection)
    derived = _subjects(connection, find_derived(connection, references, ids))
    same = connection.execute(_SQL["same_content"], {"file_ids": ids, "limit": _SHOWN}).fetchall()
    return Survey(
        file_ids=tuple(ids),
        paths=tuple(row.bronze_path for row in rows if row.bronze_path),
        bytes=sum(row.bronze_bytes or 0 for row in rows if row.status not in ("removed", "refused")),
        rows=count_rows(connection, references, ids) | count_rows(connection, tasks, find_tasks(connection, references, tasks, ids)),
        derived=tuple(found for found in derived if found != subject),
        same_content=tuple(path for (path,) in same),
        runs=tuple(sorted({run for row in rows for run in _runs(row)})),
    )


def describe_rest(found: Survey) -> list[str]:
    """Return what a forgetting leaves behind, for a person."""
    rest = [
        "The ids of the items and the hashes of the external id and of the contents stay: who knows the external id can tell that it was "
        "here, it cannot be read from them. An id that can be guessed can be found by trying.",
        "All that were sent events, exports or copies has them: an OpenLineage receiver, a model's provider, readers of gold.",
        "Backups, replicas and archived WAL have what they had. In Postgres the space is overwritten after a VACUUM.",
    ]
    if found.runs:
        shown = ", ".join(found.runs[:_SHOWN])
        rest.append(
            f"Dagster's events and logs of these runs may name the file, and so may a partition: {shown}. Delete them, or set runs_days."
        )
    if found.same_content:
        rest.append(f"The same bytes also came as {', '.join(found.same_content)}: other external ids, which stay.")
    return rest


def describe_read_again(items: int) -> list[str]:
    """Return what becomes of the keys whose rows were deleted, for a person."""
    return [f"{items:,} other items have some of its keys: they are read again by the next run, and take over."] if items else []


def _subjects(connection: psycopg.Connection, file_ids: Iterable[UUID]) -> Sequence[Subject]:
    rows = connection.execute(_SQL["subjects"], {"file_ids": list(file_ids)}).fetchall()
    return [Subject(source, external_id) for source, external_id in rows]


def _runs(row: DatasetIngestion) -> Iterable[str]:
    return (run for run in (row.run_id, row.silver_run_id, row.gold_run_id) if run and not run.startswith("cli-"))
