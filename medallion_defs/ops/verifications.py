"""How far bronze is verified, and what was found: kept in the database, so that a pass of a month survives restarts.

Hashing is bronze's; here is what was found of each source, for the check of its asset and for `medallion status`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from medallion_defs.core.sql import load_queries
from medallion_defs.ops.lateness import Finding

_SQL = load_queries("medallion_defs.ops", "verifications.sql")
_SHOWN = 3


class Verification(msgspec.Struct, frozen=True):
    """Of one source: `problems` by item directory, as of when each was last hashed. `passed_at`: the end of the last whole pass."""

    source_type: str
    after: str = ""
    problems: Mapping[str, list[str]] = msgspec.field(default_factory=dict)
    sliced_at: datetime | None = None
    passed_at: datetime | None = None

    def judge(self) -> Finding | None:
        """Return what a person must know; None when everything that was hashed is as it was published."""
        if not self.problems:
            return None
        sentences = [sentence for found in self.problems.values() for sentence in found]
        more = f" And {len(sentences) - _SHOWN} more." if len(sentences) > _SHOWN else ""
        return Finding(
            "failed",
            f"{self.source_type}: {len(self.problems)} items in bronze are not as they were published. "
            f"{' '.join(sentences[:_SHOWN])}{more} "
            f"'medallion bronze verify {self.source_type}' names all, with what to do.",
        )


def read_verification(connection: psycopg.Connection[Any], source_type: str) -> Verification:
    """Return how far a source is verified."""
    found = [one for one in read_verifications(connection) if one.source_type == source_type]
    return found[0] if found else Verification(source_type)


def read_verifications(connection: psycopg.Connection[Any]) -> list[Verification]:
    """Return how far each source is verified that was verified at all, in order of name."""
    with connection.cursor(row_factory=class_row(Verification)) as cursor:
        return cursor.execute(_SQL["read"]).fetchall()


def save_verification(connection: psycopg.Connection[Any], verification: Verification) -> None:
    """Write down how far a source is verified. The caller commits."""
    connection.execute(_SQL["save"], msgspec.structs.asdict(verification) | {"problems": Jsonb(dict(verification.problems))})
