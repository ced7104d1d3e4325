"""A fetch under a wrong clock does not win for years."""

from datetime import timedelta

import psycopg
import pytest

from medallion_defs.core import clock
from medallion_defs.core.settings import Settings
from tests.integration.commands import call, load_pending
from tests.integration.dagster_assets import drop

YEARS = timedelta(days=1500)


def deliver(settings: Settings, name: str, value: str) -> None:
    drop(settings, "companies", name, f'{{"company_id": "C1", "name": "{value}"}}\n'.encode())
    assert call("fetch", "companies").exit_code == 0


def flags_by_file(db: psycopg.Connection) -> dict[str, dict[str, int]]:
    """Rows by quality flag, as the ledger has them for each file."""
    return dict(db.execute("SELECT external_id, silver_quality_flags FROM ops.file_ingestions").fetchall())


def test_a_fetch_under_a_clock_that_is_ahead_is_dated_by_the_database(
    project: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + YEARS)
    deliver(project, "first.jsonl", "one")
    monkeypatch.setattr(clock, "now", real)
    deliver(project, "second.jsonl", "two")
    load_pending(project)
    assert db.execute("SELECT name, bronze_at < now() FROM silver.companies").fetchall() == [("two", True)]
    assert flags_by_file(db) == {"first.jsonl": {"fetched_at_adjusted": 1}, "second.jsonl": {}}
    assert "was ahead" in call("trace", "companies/first.jsonl").output.replace("\n", " ")


def test_a_delivery_wins_over_an_item_that_is_dated_in_the_future(project: Settings, db: psycopg.Connection) -> None:
    deliver(project, "first.jsonl", "one")
    # As when machine and database shared a clock that has stepped back since.
    db.execute("UPDATE ops.file_ingestions SET bronze_ingest_end_time = now() + interval '1500 days'")
    db.commit()
    load_pending(project)
    deliver(project, "second.jsonl", "two")
    load_pending(project)
    assert db.execute("SELECT name, quality_flags FROM silver.companies").fetchall() == [("two", ["fetched_at_adjusted"])]
    assert flags_by_file(db) == {"first.jsonl": {}, "second.jsonl": {"fetched_at_adjusted": 1}}
