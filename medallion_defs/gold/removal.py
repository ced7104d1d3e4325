"""Gold after silver rows were deleted: what was made of them goes, or is made again of what is left.

The change feed cannot see a deletion, and the nightly reconciliation compares whole tables. This looks at the rows of a few items
only, by the indexes on the columns that name them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg

from medallion_defs.core.sql import load_queries
from medallion_defs.gold.contract import Enrichment
from medallion_defs.gold.enrich import lock, write
from medallion_defs.gold.feed import read_subject_position

_SQL = load_queries("medallion_defs.gold", "removal.sql")
_RECONCILE = load_queries("medallion_defs.gold", "reconcile.sql")


@dataclass(frozen=True)
class Followed:
    """Gold rows that went, and rows that were made again without the values that came of the items."""

    deleted: int
    rewritten: int


def follow_deletion(connection: psycopg.Connection, enrichment: Enrichment, file_ids: Sequence[UUID]) -> Followed:
    """Bring the gold rows that are made of `file_ids` in line with silver as it is now. The caller commits. Once more changes nothing.

    Rows whose subject row is newer in silver than in gold are left to the feed: run that first.
    """
    values: dict[str, object] = {"file_ids": list(file_ids), "after": None, "until": None}
    lock(connection, enrichment)
    values["position"] = read_subject_position(connection, enrichment)
    deleted = connection.execute(enrichment.compose(_SQL["delete_orphans_of"]), values).rowcount
    scope = enrichment.compose(_SQL["keys_of"])
    written = write(connection, enrichment, _RECONCILE["write_different"], values, checked=_RECONCILE["checked"], scope=scope)
    return Followed(deleted, written.created + written.updated)
