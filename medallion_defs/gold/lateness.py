"""Whether gold is late: the silver rows that a gold table does not have yet, and since when the first of them waits."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import psycopg

from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.core.timing import format_duration
from medallion_defs.gold.contract import Enrichment
from medallion_defs.gold.feed import is_quiet, plan
from medallion_defs.ops.lateness import Verdict, judge_feed
from medallion_defs.ops.watch import Look, Looker

_SQL = load_queries("medallion_defs.gold", "lateness.sql")


def look_at_feeds(enrichments: Sequence[Enrichment]) -> Looker:
    """Return the look at these gold tables; a position is the one of the lookup's change feed."""

    def look(connection: psycopg.Connection, settings: Settings, positions: Mapping[str, int], now: datetime) -> list[Look]:
        return [_look(connection, settings, one, positions.get(f"gold/{one.name}", 0), now) for one in enrichments]

    return look


def read_wait(connection: psycopg.Connection, enrichment: Enrichment, position: int) -> tuple[datetime | None, int]:
    """Return since when the first row that gold lacks waits (None: gold has everything), and the position for the next look.

    While an enrichment is under way, which lookup rows are new to gold cannot be seen; only the subject's side counts then.
    """
    with connection.transaction():
        lookup_counts = is_quiet(connection, enrichment)
        found = plan(connection, enrichment, position, max_rows=1)
        if found.work is None:
            return None, found.positions.lookup
        params = {
            "subject_after": found.work.subject_after,
            "lookup_after": found.work.lookup_after if lookup_counts else found.work.lookup_until,
            "lookup_until": found.work.lookup_until,
        }
        [(since,)] = connection.execute(enrichment.compose(_SQL["waits_since"]), params).fetchall()
    return since, found.positions.lookup


def _look(connection: psycopg.Connection, settings: Settings, enrichment: Enrichment, position: int, now: datetime) -> Look:
    subject = f"gold/{enrichment.name}"
    since, position = read_wait(connection, enrichment, position)
    verdict = Verdict(subject, judge_feed(subject, since, settings.gold.max_lag, now), now)
    lag_seconds = 0.0 if since is None else (now - since).total_seconds()
    return Look(verdict, {"lag_seconds": lag_seconds, "max_lag": format_duration(settings.gold.max_lag)}, position)
