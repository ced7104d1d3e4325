"""Bring one range of the change feed into gold, from both sides, and say what gold still misses.

One transaction, which the caller commits together with what it writes to the ledger. The isolation level must be
READ COMMITTED (the default): the lock comes first, and each statement after it sees what was committed before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import LiteralString, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql

from medallion_defs.core.sql import load_queries
from medallion_defs.gold.contract import Enrichment
from medallion_defs.gold.feed import Positions, Work, read_subject_position

_SQL = load_queries("medallion_defs.gold", "enrich.sql")
_TOP = 20


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


@dataclass(frozen=True)
class EnrichResult:
    """What one run did to gold. The fields are those of `Written`, both sides together; `positions` holds once committed."""

    created: int
    updated: int
    unchanged: int
    matched: int
    unmatched: int
    no_lookup: int
    per_file: Mapping[UUID, FileRows]
    missing: Mapping[str, int]
    positions: Positions


@dataclass(frozen=True)
class Unmatched:
    """How much of gold waits for a lookup row: `rows` in all, those that name one, and those whose one is unknown."""

    rows: int
    naming_rows: int
    unmatched_rows: int
    missing: Mapping[str, int]

    @property
    def share(self) -> float:
        """Unmatched rows among those that name a lookup row; 0 when none does."""
        return self.unmatched_rows / self.naming_rows if self.naming_rows else 0.0


def enrich(connection: psycopg.Connection, enrichment: Enrichment, work: Work, *, top: int = _TOP) -> EnrichResult:
    """Apply `work` to gold; waits while another enrichment of the same table is under way. The caller commits.

    The same work again changes nothing. Work that starts beyond what gold has (the range before it failed) is widened
    to begin there, so the order of runs never leaves a hole.
    """
    lock(connection, enrichment)
    position = read_subject_position(connection, enrichment)
    subject_range = {"after": min(work.subject_after, position), "until": work.subject_until}
    subject = write(connection, enrichment, _SQL["write_subject"], subject_range, checked=_SQL["subject_rows"], top=top)
    lookup_range = {"after": work.lookup_after, "until": work.lookup_until}
    lookup = write(connection, enrichment, _SQL["write_lookup"], lookup_range, checked=_SQL["no_rows"], top=top)
    return EnrichResult(
        created=subject.created,
        updated=subject.updated + lookup.updated,
        unchanged=subject.unchanged,
        matched=subject.matched + lookup.matched,
        unmatched=subject.unmatched,
        no_lookup=subject.no_lookup,
        per_file=add_per_file(subject.per_file, lookup.per_file),
        missing=subject.missing,
        positions=Positions(read_subject_position(connection, enrichment), work.lookup_until),
    )


def read_unmatched(connection: psycopg.Connection, enrichment: Enrichment, *, top: int = _TOP) -> Unmatched:
    """Count the gold rows whose lookup row is unknown, and name the `top` lookup keys that most of them wait for."""
    [(rows, naming_rows, unmatched_rows)] = connection.execute(enrichment.compose(_SQL["unmatched"])).fetchall()
    missing = connection.execute(enrichment.compose(_SQL["missing"]), {"top": top}).fetchall()
    return Unmatched(rows, naming_rows, unmatched_rows, dict(missing))


def lock(connection: psycopg.Connection, enrichment: Enrichment) -> None:
    """Become the only writer of the gold table until the transaction ends."""
    connection.execute(_SQL["lock"], {"gold": enrichment.qualified_name})


def write(
    connection: psycopg.Connection,
    enrichment: Enrichment,
    query: LiteralString,
    values: Mapping[str, object],
    *,
    checked: LiteralString,
    top: int = _TOP,
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
