"""The change feed as gold reads it: which silver rows are not in gold yet. Reads only; `enrich.py` does the work.

No position is stored. Of the subject (the events) the data say it: ranges are applied in ascending order and every row gives a
gold row, so all up to the highest `change_seq` in gold is done. Of the lookup (the companies) a cursor says which versions were
seen to be in gold already; a lost or old cursor costs time, never rows.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import psycopg

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sql import load_queries
from medallion_defs.gold.contract import Enrichment
from medallion_defs.ops.cursors import vanished_name

_SQL = load_queries("medallion_defs.gold", "feed.sql")
_VANISHED = load_queries("medallion_defs.gold", "vanished.sql")
_MAX_VANISHED = 20_000


@dataclass(frozen=True)
class Positions:
    """How far gold has come, as `change_seq` of the two silver tables: all rows up to it are in gold."""

    subject: int
    lookup: int


@dataclass(frozen=True)
class Work:
    """What one run enriches: the subject rows and the lookup rows with `after < change_seq <= until`."""

    subject_after: int
    subject_until: int
    lookup_after: int
    lookup_until: int

    def __post_init__(self) -> None:
        for after, until in ((self.subject_after, self.subject_until), (self.lookup_after, self.lookup_until)):
            if not 0 <= after <= until < 2**63:
                raise ConfigurationError(f"{self}: a range needs 0 <= after <= until < 2^63. Take the work that the sensor planned.")

    def to_config(self) -> dict[str, int]:
        """Return the four integers by name: run configuration, and the identity of the work."""
        return asdict(self)

    @property
    def text(self) -> str:
        """The four integers in a run's tag; `from_text` reads them."""
        return "-".join(map(str, self.to_config().values()))

    @classmethod
    def from_text(cls, text: str) -> "Work":
        """Read what `text` gave.

        Raises:
            ConfigurationError: as `from_config`.
        """
        names = [field.name for field in fields(cls)]
        values = [int(part) if part.isdecimal() and part.isascii() else part for part in text.split("-")]
        return cls.from_config(dict(zip(names, values, strict=False)) if len(values) == len(names) else {})

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> "Work":
        """Read what `to_config` gave.

        Raises:
            ConfigurationError: a name is missing, unknown, or its value is no integer of a possible range.
        """
        names = [field.name for field in fields(cls)]
        integers = {name: value for name, value in config.items() if type(value) is int}
        if sorted(config) != sorted(names) or len(integers) != len(names):
            raise ConfigurationError(f"The work of a gold run is the four integers {', '.join(names)}; got {dict(config)}.")
        return cls(**integers)


@dataclass(frozen=True)
class Plan:
    """What a look at the feed found.

    Attributes:
        positions: where gold is; `positions.lookup` is the cursor for the next look.
        work: the next range; None when gold has everything.
    """

    positions: Positions
    work: Work | None


def plan(connection: psycopg.Connection, enrichment: Enrichment, cursor: int, max_rows: int) -> Plan:
    """Find the next range: about `max_rows` subject rows, and lookup rows that touch about `max_rows` gold rows.

    Uses indexes only and takes time in proportion to what is new. One lookup row that touches more than `max_rows`
    gold rows goes alone. Opens a transaction where none is open.

    Args:
        cursor: `positions.lookup` of the last look; 0 when there was none.
    """
    with connection.transaction():
        # While an enrichment is under way its rows cannot be seen, so nothing can be said to be done: the cursor stays.
        sees_all = is_quiet(connection, enrichment)
        subject_after = read_subject_position(connection, enrichment)
        vanished = any(find_vanished(connection, enrichment, table) for table in enrichment.inputs)
        (subject_until,) = _one(connection, enrichment, "subject_until", {"after": subject_after, "max_rows": max_rows})
        lookup_range = _one(connection, enrichment, "lookup_range", {"after": cursor, "max_rows": max_rows})
    newest, stale_rows, first, last, last_but_one = lookup_range
    seen = first - 1 if stale_rows else max(cursor, newest)
    positions = Positions(subject_after, seen if sees_all else cursor)
    lookup_until = _lookup_until(stale_rows, last, last_but_one, newest, max_rows) if stale_rows else positions.lookup
    work = Work(subject_after, subject_until or subject_after, positions.lookup, lookup_until)
    return Plan(positions, work if subject_until or stale_rows or vanished else None)


def find_vanished(connection: psycopg.Connection, enrichment: Enrichment, table: str) -> dict[str, object] | None:
    """Return which deletions from a silver table gold has to follow next, as values of the queries in `vanished.sql`; None: none.

    At most 20,000 keys. Of deletions no cursor is needed: how far gold is stands in the database.
    """
    name = vanished_name(enrichment.qualified_name, table)
    [(after,)] = connection.execute(_VANISHED["position"], {"name": name}).fetchall()
    values: dict[str, object] = {"table": table, "vanished_after": after, "max_keys": _MAX_VANISHED}
    [(until,)] = connection.execute(_VANISHED["next"], values).fetchall()
    return None if until is None else values | {"vanished_until": until}


def is_quiet(connection: psycopg.Connection, enrichment: Enrichment) -> bool:
    """Tell whether no enrichment is under way; if so, none begins before the end of the transaction."""
    return bool(_one(connection, enrichment, "share_lock", {"gold": enrichment.qualified_name})[0])


def read_subject_position(connection: psycopg.Connection, enrichment: Enrichment) -> int:
    """Return the `change_seq` up to which all subject rows are in gold; 0 for an empty table."""
    position: int = _one(connection, enrichment, "subject_position", {})[0]
    return position


def _lookup_until(stale_rows: int, last: int, last_but_one: int | None, newest: int, max_rows: int) -> int:
    """Return where the lookup's range ends, so that no lookup row is cut in two."""
    if stale_rows <= max_rows:
        return newest
    return last if last_but_one is None else last_but_one


def _one(connection: psycopg.Connection, enrichment: Enrichment, name: str, values: Mapping[str, object]) -> tuple[int, ...]:
    [row] = connection.execute(enrichment.compose(_SQL[name]), values).fetchall()
    return row
