"""What became of the sample, read from the ledger, silver and gold, and held against what its generator says."""

from collections import Counter
from dataclasses import dataclass, fields

import psycopg

from medallion_defs.core.sql import load_queries
from medallion_defs.demo.sample import FOLDER, Expected
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.gold.feed import plan

_SQL = load_queries("medallion_defs.demo", "outcome.sql")
_PREFIX = {"prefix": f"{FOLDER}/%"}


@dataclass(frozen=True)
class Outcome:
    """The counts as they are now, and how many items are still on their way to silver."""

    counts: Expected
    open_items: int
    is_gold_current: bool

    def is_settled(self, items: int) -> bool:
        """Tell whether `items` items are known, none is open, and gold has all that silver has."""
        return sum(self.counts.items.values()) >= items and not self.open_items and self.is_gold_current


def read_outcome(connection: psycopg.Connection) -> Outcome:
    """Read the counts of the sample's items; other data in the same project are left out."""
    counts, open_items = Expected(), 0
    with connection.transaction():
        for source, loaded, dead, waiting, read, created, updated, repeated, rejected in connection.execute(_SQL["items"], _PREFIX):
            counts.items[source] = loaded + dead + waiting
            counts.dead += dead
            open_items += waiting
            values = {"read": read, "created": created, "updated": updated, "repeated": repeated, "rejected": rejected}
            for name, value in values.items():
                getattr(counts, name)[source] = value
        counts.reject_codes = _count(connection, "reject_codes")
        counts.flags = _count(connection, "flags")
        counts.matches = _count(connection, "matches")
    current = plan(connection, ENRICHMENT, cursor=0, max_rows=1).work is None
    connection.rollback()
    return Outcome(counts, open_items, current)


def differences(expected: Expected, found: Expected) -> list[str]:
    """Return one sentence per count that is not what the generator says; counts of zero need not be named."""
    wrong = []
    for name in (field.name for field in fields(Expected)):
        want, have = getattr(expected, name), getattr(found, name)
        if isinstance(want, int):
            want, have = Counter({"": want}), Counter({"": have})
        for key in sorted(want.keys() | have.keys()):
            if want[key] != have[key]:
                wrong.append(f"{name} {key}: expected {want[key]}, found {have[key]}".replace(" :", ":"))
    return wrong


def _count(connection: psycopg.Connection, query: str) -> Counter[str]:
    return Counter(dict(connection.execute(_SQL[query], _PREFIX).fetchall()))
