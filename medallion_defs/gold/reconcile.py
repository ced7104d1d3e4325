"""Compare gold with silver row by row and repair what differs: the safety net under the feed, and the backfill.

Works in chunks in order of the key, each in a transaction of its own. A killed one is simply started again: what is right
already is compared, not written. Rows that the feed has not reached are left to it, so that its position stays true.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg import sql

from medallion_defs.core.sql import load_queries
from medallion_defs.gold.contract import Enrichment
from medallion_defs.gold.enrich import lock
from medallion_defs.gold.feed import read_subject_position
from medallion_defs.gold.written import FileRows, write
from medallion_defs.ops.ledger_values import Extent
from medallion_defs.ops.scope import Scope, like_pattern

_SQL = load_queries("medallion_defs.gold", "reconcile.sql")


@dataclass(frozen=True)
class Repair:
    """What one chunk of a reconciliation found, and repaired.

    Attributes:
        checked: silver rows in the chunk, those that the feed has not reached included.
        missing: rows that gold lacked.
        stale: rows that differed from what silver gives.
        orphan: rows whose silver row is gone; deleted. Looked for when the scope is all.
        per_file: rows written by the subject row's file.
        last_key: where the next chunk begins; None after the last one.
    """

    checked: int
    missing: int
    stale: int
    orphan: int
    per_file: Mapping[UUID, FileRows]
    last_key: str | None


def reconcile(
    connection: psycopg.Connection, enrichment: Enrichment, scope: Scope, *, max_rows: int, after: str | None = None
) -> Iterator[Repair]:
    """Repair chunk after chunk of about `max_rows` rows. The caller commits after each; until it does, the table stays locked.

    A backfill of everything = enrich until the plan is empty, then this.
    """
    while True:
        repair = reconcile_chunk(connection, enrichment, scope, max_rows=max_rows, after=after)
        yield repair
        if repair.last_key is None:
            return
        after = repair.last_key


def reconcile_chunk(connection: psycopg.Connection, enrichment: Enrichment, scope: Scope, *, max_rows: int, after: str | None) -> Repair:
    """Repair the next `max_rows` rows after the key `after` (None: from the start). The caller commits."""
    keys = _keys_in(scope, enrichment)
    values: dict[str, object] = _values(scope) | {"after": after, "max_rows": max_rows}
    lock(connection, enrichment)
    [(rows, last_key)] = connection.execute(enrichment.compose(_SQL["last_key"], scope=keys), values).fetchall()
    # The last chunk has no end: what lies beyond the last silver key can only be an orphan.
    until = last_key if rows == max_rows else None
    values |= {"until": until, "position": read_subject_position(connection, enrichment)}
    orphan = connection.execute(enrichment.compose(_SQL["delete_orphans"]), values).rowcount if scope.is_all else 0
    written = write(connection, enrichment, _SQL["write_different"], values, checked=_SQL["checked"], scope=keys)
    return Repair(written.checked, written.created, written.updated, orphan, written.per_file, until)


def measure(connection: psycopg.Connection, enrichment: Enrichment, scope: Scope) -> Extent:
    """Return what a reconciliation of `scope` would compare: silver rows, and the items that they are made of. Reads only."""
    query = enrichment.compose(_SQL["scope_extent"], scope=_keys_in(scope, enrichment))
    [(items, size, rows)] = connection.execute(query, _values(scope)).fetchall()
    return Extent(items, size, rows, 0)


def _values(scope: Scope) -> dict[str, object]:
    return {"since": scope.since, "file_ids": list(scope.file_ids or ()), "dataset_like": like_pattern(scope.dataset or "")}


def _keys_in(scope: Scope, enrichment: Enrichment) -> sql.Composed:
    """Return the query of the subject keys in scope; the subject's and the lookup's items both count."""
    if scope.file_ids is not None:
        return enrichment.compose(_SQL["scope_file_ids"])
    if scope.dataset is not None:
        return enrichment.compose(_SQL["scope_dataset"])
    return enrichment.compose(_SQL["scope_all" if scope.is_all else "scope_since"])
