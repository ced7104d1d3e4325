"""Variant b of driver events: the hour of a truck event from its key, and nothing else otherwise than in variant a."""

import csv
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from medallion_defs.silver.contract import ItemFacts
from medallion_defs.sources.driver_events import transform as a
from medallion_defs.sources.driver_events.variants import b

ITEM = ItemFacts(UUID(int=0), "truck_events.csv", datetime(2026, 2, 1, tzinfo=UTC))
EVENT_AT = datetime(2016, 5, 27, 22, 59, 21, 400_000, tzinfo=UTC)
KEY = "truck:14|25|9223370572464814373"  # 2016-05-27 22:59:21.434


def event(**values: object) -> a.Input:
    return msgspec.convert(
        {"event_id": KEY, "event_at": EVENT_AT, "driver_id": "14", "company_id": "C1", "event_type": "normal"} | values, a.Input
    )


def test_an_event_whose_hour_agrees_with_its_key_is_as_in_variant_a() -> None:
    assert b.transform(event(), ITEM) == a.transform(event(), ITEM)


@pytest.mark.parametrize("hours", [-1, 1, 48, 129, -200_000])
def test_an_hour_that_the_key_contradicts_is_taken_from_the_key_and_flagged(hours: int) -> None:
    row = b.transform(event(event_at=EVENT_AT + timedelta(hours=hours)), ITEM)
    assert row == (*a.transform(event(), ITEM)[:-1], "event_at_from_key")


def test_the_flag_stands_beside_those_of_variant_a() -> None:
    row = b.transform(event(event_at=EVENT_AT + timedelta(hours=1), company_id=None), ITEM)
    assert row[-1] == "missing_company_id,event_at_from_key"


@pytest.mark.parametrize(
    "record",
    [
        event(event_at=EVENT_AT + timedelta(minutes=20)),
        event(event_at=None),
        event(event_at=EVENT_AT.replace(tzinfo=None, hour=3)),
        event(event_id="14|25|9223370572464814373", event_at=EVENT_AT + timedelta(hours=1)),
        event(event_id="truck:14|25|92233705724648143", event_at=EVENT_AT + timedelta(hours=1)),
        event(event_id="truck:14|25|0000000000000000000", event_at=EVENT_AT),
        event(event_id="truck:14|25|92233705724648१४३७", event_at=EVENT_AT),
        event(event_id="truck:", event_at=EVENT_AT),
    ],
)
def test_where_the_key_is_no_clock_or_disagrees_below_the_hour_nothing_is_repaired(record: a.Input) -> None:
    assert b.transform(record, ITEM) == a.transform(record, ITEM)


def test_the_real_file_has_keys_that_agree_with_every_minute_and_contradict_a_quarter_of_the_hours(shared_data: Path) -> None:
    with (shared_data / "fleet/truck_events.csv").open(encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    moved: Counter[float] = Counter()
    for record in records:
        key_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=2**63 - 1 - int(record["eventKey"].split("|")[2]))
        column_at = datetime.strptime(f"{record['eventDate']}:{record['eventTime']}+0000", "%Y-%m-%d-%H:%M:%S.%f%z")
        row = b.transform(event(event_id=f"truck:{record['eventKey']}", event_at=column_at), ITEM)
        repaired = row[5]
        assert isinstance(repaired, datetime)
        assert abs(repaired - key_at) < timedelta(seconds=0.1)
        moved[(repaired - column_at) / timedelta(hours=1)] += 1
    assert moved == {0: 12_478, -48: 3_049, 1: 1_490, -129: 45, -2: 13}
