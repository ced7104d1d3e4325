"""When a delivery counts as fetched: this machine's clock, held against the database's and against what the source has already.

Of two deliveries of a key the later one wins, so a time that is ahead would win for years. What was dated ahead before, by a clock that
has stepped back since, cannot be dated again: bronze never changes. Deliveries after it are dated after it instead, as a revision is
after the one before it, and say so.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from medallion_defs.core import clock
from medallion_defs.core.sql import load_queries
from medallion_defs.storage.item import AHEAD

_SQL = load_queries(__package__, "fetch_time.sql")


@dataclass(frozen=True, slots=True)
class FetchTime:
    """`now`: this machine's clock, for comparing with the times of its files. `at`: what the items are dated. `note`: why these differ."""

    now: datetime
    at: datetime
    note: str | None = None

    @classmethod
    def of(cls, now: datetime) -> "FetchTime":
        """Return the time of a fetch by a clock that is right, into a source that holds nothing later."""
        return cls(now, now)


def read_fetch_time(connection: psycopg.Connection[Any], source_type: str) -> FetchTime:
    """Return the time of a fetch that begins now."""
    [(database_now, latest)] = connection.execute(_SQL["fetch_time"], {"source_type": source_type}).fetchall()
    return decide_fetch_time(clock.now(), database_now, latest)


def decide_fetch_time(now: datetime, database_now: datetime, latest: datetime | None) -> FetchTime:
    """Return how a delivery is dated. Pure.

    Args:
        latest: of the source's items the latest fetch time.
    """
    at, note = min(now, database_now), None
    if now - database_now > AHEAD:
        note = f"The clock of the machine that fetched was ahead, at {now:%Y-%m-%dT%H:%M:%SZ}: the database's time was taken."
    if latest is not None and latest >= at:
        if latest - at > AHEAD:
            note = (
                f"It came at {at:%Y-%m-%dT%H:%M:%SZ}, and is dated after an item of the source that is dated {latest:%Y-%m-%dT%H:%M:%SZ}, "
                "in the future, so that it wins over that."
            )
        at = latest + timedelta(microseconds=1)
    return FetchTime(now, at, note)


def has_rested(changed_at: float, now: float, settle_seconds: float) -> bool:
    """Whether a file that changed at this time (seconds since the epoch, by this machine's clock) is not being written to any more.

    A time far ahead of now was set before the clock stepped back, and every write since would have set another.
    """
    return changed_at - now > AHEAD.total_seconds() or now - changed_at >= settle_seconds
