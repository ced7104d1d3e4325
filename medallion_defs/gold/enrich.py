"""Bring one range of the change feed into gold, from both sides, and say what gold still misses.

One transaction, which the caller commits together with what it writes to the ledger. The isolation level must be
READ COMMITTED (the default): the lock comes first, and each statement after it sees what was committed before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import psycopg

from medallion_defs.core.sql import load_queries
from medallion_defs.gold.contract import Enrichment
from medallion_defs.gold.feed import Positions, Work, read_subject_position
from medallion_defs.gold.vanished import follow_vanished
from medallion_defs.gold.written import TOP, FileRows, add_per_file, write

_SQL = load_queries("medallion_defs.gold", "enrich.sql")


@dataclass(frozen=True)
class EnrichResult:
    """What one run did to gold. The fields are those of `Written`, both sides together; `positions` holds once committed.

    `deleted`: rows whose silver row was deleted; `remade`: of the updated, those whose lookup row was.
    """

    created: int
    updated: int
    unchanged: int
    matched: int
    unmatched: int
    no_lookup: int
    per_file: Mapping[UUID, FileRows]
    missing: Mapping[str, int]
    positions: Positions
    deleted: int = 0
    remade: int = 0


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


def enrich(connection: psycopg.Connection, enrichment: Enrichment, work: Work, *, top: int = TOP) -> EnrichResult:
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
    followed = follow_vanished(connection, enrichment)
    remade = followed.remade
    return EnrichResult(
        created=subject.created,
        updated=subject.updated + lookup.updated + (remade.updated if remade else 0),
        unchanged=subject.unchanged,
        matched=subject.matched + lookup.matched,
        unmatched=subject.unmatched,
        no_lookup=subject.no_lookup,
        per_file=add_per_file(add_per_file(subject.per_file, lookup.per_file), remade.per_file if remade else {}),
        missing=subject.missing,
        positions=Positions(read_subject_position(connection, enrichment), work.lookup_until),
        deleted=followed.deleted,
        remade=remade.updated if remade else 0,
    )


def read_unmatched(connection: psycopg.Connection, enrichment: Enrichment, *, top: int = TOP) -> Unmatched:
    """Count the gold rows whose lookup row is unknown, and name the `top` lookup keys that most of them wait for."""
    [(rows, naming_rows, unmatched_rows)] = connection.execute(enrichment.compose(_SQL["unmatched"])).fetchall()
    missing = connection.execute(enrichment.compose(_SQL["missing"]), {"top": top}).fetchall()
    return Unmatched(rows, naming_rows, unmatched_rows, dict(missing))


def lock(connection: psycopg.Connection, enrichment: Enrichment) -> None:
    """Become the only writer of the gold table until the transaction ends."""
    connection.execute(_SQL["lock"], {"gold": enrichment.qualified_name})
