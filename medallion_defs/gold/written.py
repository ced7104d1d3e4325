"""What one writing statement of gold wrote, counted: by outcome of the join, by the item that caused it, by missing lookup key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import LiteralString, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql

from medallion_defs.core.sql import load_queries
from medallion_defs.gold.contract import Enrichment

_SQL = load_queries("medallion_defs.gold", "enrich.sql")
TOP = 20


class FileRows(NamedTuple):
    """Gold rows written because of one bronze item."""

    created: int
    updated: int


@dataclass(frozen=True)
class Written:
    """Gold rows that one statement wrote.

    Attributes:
        checked: subject rows that were looked at.
        created, updated: rows written; an updated row changed its values or which silver rows it is made of.
        matched, unmatched, no_lookup: the same rows by what became of the join; `no_lookup` names no lookup row at all.
        per_file: by the item that caused them, in order of `file_id`: a subject's side row counts for the subject row's file,
            a lookup's side row for the lookup row's file.
        missing: lookup keys that the unmatched rows name, with rows, most first, not more than asked for.
    """

    checked: int
    created: int
    updated: int
    matched: int
    unmatched: int
    no_lookup: int
    per_file: Mapping[UUID, FileRows]
    missing: Mapping[str, int]

    @property
    def unchanged(self) -> int:
        """Subject rows that gold had already."""
        return self.checked - self.created - self.updated


def write(
    connection: psycopg.Connection,
    enrichment: Enrichment,
    query: LiteralString,
    values: Mapping[str, object],
    *,
    checked: LiteralString,
    top: int = TOP,
    **more: sql.Composable,
) -> Written:
    """Run a writing `query` that returns `file_id, lookup_key, lookup_seq, is_new`, and count what it wrote.

    Args:
        checked: the query of how many subject rows are looked at, in the same snapshot.
        more: what further placeholders of the two queries stand for.
    """
    parts = {"write": enrichment.compose(query, **more), "checked": enrichment.compose(checked, **more)}
    [row] = connection.execute(enrichment.compose(_SQL["count_written"], **parts), {**values, "top": top}).fetchall()
    checked_rows, created, updated, matched, unmatched, no_lookup, files, missing = row
    per_file = {UUID(file_id): FileRows(*rows) for file_id, *rows in sorted(files)}
    return Written(checked_rows, created, updated, matched, unmatched, no_lookup, per_file, dict(missing))


def add_per_file(one: Mapping[UUID, FileRows], other: Mapping[UUID, FileRows]) -> dict[UUID, FileRows]:
    """Add up two counts per file, in order of `file_id` (the order in which the ledger's rows are locked)."""
    none = FileRows(0, 0)
    pairs = {file_id: (one.get(file_id, none), other.get(file_id, none)) for file_id in sorted(one.keys() | other.keys())}
    return {file_id: FileRows(a.created + b.created, a.updated + b.updated) for file_id, (a, b) in pairs.items()}
