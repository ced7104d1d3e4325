"""Gold after silver rows were deleted: what was made of them goes, or is made again of what is left.

A deletion is a part of the change feed, whoever deletes: a reload, a withdrawal, a forgetting, a person. Part of each enrichment's
transaction; nothing here opens or commits one.
"""

from dataclasses import dataclass

import psycopg

from medallion_defs.core.sql import load_queries
from medallion_defs.gold.contract import Enrichment
from medallion_defs.gold.feed import find_vanished, read_subject_position
from medallion_defs.gold.written import Written, write
from medallion_defs.ops.cursors import note_cursor, vanished_name

_SQL = load_queries("medallion_defs.gold", "vanished.sql")
_RECONCILE = load_queries("medallion_defs.gold", "reconcile.sql")


@dataclass(frozen=True)
class Followed:
    """Gold rows that went, and rows that were made again without the values of a lookup row that is gone."""

    deleted: int
    remade: Written | None


def follow_vanished(connection: psycopg.Connection, enrichment: Enrichment) -> Followed:
    """Follow the next deletions of either input, part by part. The caller holds the lock, and has enriched before."""
    deleted, remade = 0, None
    for table in dict.fromkeys(enrichment.inputs):
        values = find_vanished(connection, enrichment, table)
        if values is None:
            continue
        if table == enrichment.subject.table:
            deleted += connection.execute(enrichment.compose(_SQL["delete_subjects"]), values).rowcount
        if table == enrichment.lookup.table:
            remade = _remake(connection, enrichment, values)
        note_cursor(connection, vanished_name(enrichment.qualified_name, table), values["vanished_until"])
    return Followed(deleted, remade)


def _remake(connection: psycopg.Connection, enrichment: Enrichment, values: dict[str, object]) -> Written:
    # Rows whose subject is newer in silver than in gold are left to the feed, which joins afresh.
    all_of = {"after": None, "until": None, "position": read_subject_position(connection, enrichment)}
    scope = enrichment.compose(_SQL["keys_of_lookups"])
    return write(connection, enrichment, _RECONCILE["write_different"], values | all_of, checked=_RECONCILE["checked"], scope=scope)
