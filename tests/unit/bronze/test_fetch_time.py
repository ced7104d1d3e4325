"""A wrong clock: a delivery that is dated ahead does not win for years, and files are taken after the clock stepped back."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from medallion_defs.bronze.fetching.fetch_time import FetchTime, decide_fetch_time, has_rested
from medallion_defs.bronze.landing.fetch import fetch_landing
from medallion_defs.bronze.landing.scan import scan_landing
from medallion_defs.core import clock
from medallion_defs.core.content import Source
from medallion_defs.core.sections import LandingSettings
from medallion_defs.storage.local.publisher import LocalStore
from tests.folders import make_removable
from tests.unit.storage.conftest import tell_nobody

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
YEARS = timedelta(days=1500)
SOURCE = Source("driver_events", "", "", "", "events", ())


@pytest.mark.parametrize(
    ("now", "database_now", "latest", "at", "words"),
    [
        (NOON, NOON, None, NOON, None),
        (NOON, NOON + timedelta(seconds=5), NOON - timedelta(hours=1), NOON, None),
        (NOON + timedelta(seconds=5), NOON, None, NOON, None),
        (NOON + YEARS, NOON, None, NOON, "was ahead, at 2030-06-09T12:00:00Z"),
        (NOON, NOON, NOON, NOON + timedelta(microseconds=1), None),
        (NOON, NOON, NOON + YEARS, NOON + YEARS + timedelta(microseconds=1), "It came at 2026-05-01T12:00:00Z, and is dated after"),
    ],
)
def test_a_delivery_is_dated_by_the_database_and_after_what_the_source_has(
    now: datetime, database_now: datetime, latest: datetime | None, at: datetime, words: str | None
) -> None:
    time = decide_fetch_time(now, database_now, latest)
    assert (time.now, time.at) == (now, at)
    assert (time.note is None) == (words is None)
    assert (words or "") in (time.note or "")


@pytest.mark.parametrize(
    ("seconds_ago", "is_at_rest"), [(10, True), (5, True), (4, False), (0, False), (-30, False), (-61, True), (-86_400, True)]
)
def test_a_time_far_ahead_was_set_before_the_clock_stepped_back(seconds_ago: int, is_at_rest: bool) -> None:
    assert has_rested(1_000_000 - seconds_ago, 1_000_000, 5) is is_at_rest


def test_a_file_of_before_the_clock_stepped_back_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "landing" / "driver_events" / "day.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}\n")
    os.utime(path, (2_000_000_000, 2_000_000_000))
    an_hour_earlier = clock.now() - timedelta(hours=1)  # its ctime, which nobody can set, is then in the future as well
    [file] = scan_landing(tmp_path / "landing", "driver_events", LandingSettings(settle_seconds=5), an_hour_earlier).ready
    assert file.external_id == "day.jsonl"


def test_an_item_says_why_it_is_not_dated_by_the_clock_and_verify_names_what_is_dated_ahead(tmp_path: Path) -> None:
    store, landing = LocalStore(tmp_path / "bronze"), tmp_path / "landing"
    path = landing / "driver_events" / "day.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}\n")
    time = decide_fetch_time(clock.now(), clock.now(), clock.now() + YEARS)
    [item] = fetch_landing(
        store, SOURCE, LandingSettings(settle_seconds=0), landing, tell_nobody, time=FetchTime(clock.now() + YEARS, time.at, time.note)
    ).items
    assert item.note == time.note
    [problem] = store.verify("driver_events")
    assert (problem.kind, problem.path) == ("future", "driver_events/day.jsonl")
    make_removable(tmp_path)
