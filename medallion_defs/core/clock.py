"""The one place that asks the wall clock, so that tests and transforms never depend on it by accident."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the current instant, timezone-aware, in UTC, in whole microseconds (what Postgres keeps)."""
    return datetime.now(UTC)
