"""The pure transforms: which row, which flags, which verdict, for one input record."""

from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from typing import Any
from uuid import UUID

import msgspec
import pytest

import medallion_defs.sources.companies.transform as companies
import medallion_defs.sources.driver_events.transform as driver_events
from medallion_defs.core.content import content_names
from medallion_defs.silver.contract import InvalidRecord, ItemFacts

FETCHED_AT = datetime(2026, 2, 1, 12, tzinfo=UTC)
ITEM = ItemFacts(UUID(int=0), "x.jsonl", FETCHED_AT)
COMMON = ["file_id", "source_record", "quality_flags", "bronze_at", "change_seq", "ingested_at", "updated_at"]


@pytest.mark.parametrize("name", content_names("medallion_defs.sources"))
def test_a_row_has_the_tables_own_columns_in_order_and_all_of_an_input(name: str) -> None:
    transform = import_module(f"medallion_defs.sources.{name}.transform")
    table = import_module(f"medallion_defs.sources.{name}.tables").TABLE
    assert [*transform.Row.__struct_fields__, *COMMON] == [column.name for column in table.columns]
    if hasattr(transform, "Input"):
        assert transform.Input.__struct_fields__ == transform.Row.__struct_fields__


def event(**changes: Any) -> tuple[Any, ...]:
    good: dict[str, Any] = {
        "event_id": "e", "driver_id": "d", "company_id": "C", "event_type": "position", "event_at": FETCHED_AT,
        "latitude": 1.0, "longitude": 2.0,
    }  # fmt: skip
    return driver_events.transform(driver_events.Input(**{**good, **changes}), ITEM)


def flags(row: tuple[Any, ...]) -> list[str]:
    return row[-1].split(",") if row[-1] else []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"driver_id": None}, ["missing_driver_id"]),
        ({"driver_id": ""}, ["missing_driver_id"]),
        ({"driver_id": None, "event_type": "dispatch_report"}, []),
        ({"event_type": None}, ["missing_event_type"]),
        ({"event_type": "Position"}, ["unknown_event_type"]),
        ({"company_id": None}, ["missing_company_id"]),
        ({"company_id": "  "}, ["missing_company_id"]),
        ({"company_id": "c "}, ["company_id_normalized"]),
        ({"event_at": None}, ["missing_event_at"]),
        ({"event_at": FETCHED_AT.replace(tzinfo=None)}, ["assumed_utc"]),
        ({"event_at": FETCHED_AT + timedelta(minutes=5)}, []),
        ({"event_at": FETCHED_AT + timedelta(minutes=5, microseconds=1)}, ["future_event_at"]),
        ({"event_at": datetime(1970, 1, 1, 23, 59, tzinfo=UTC)}, ["implausible_event_at"]),
        ({"event_at": datetime(1, 1, 1, tzinfo=UTC).replace(tzinfo=None)}, ["assumed_utc", "implausible_event_at"]),
        ({"latitude": 90.0, "longitude": -180.0}, []),
        ({"latitude": 90.1}, ["bad_coordinate"]),
        ({"longitude": -180.1}, ["bad_coordinate"]),
        ({"latitude": 0.0, "longitude": -0.0}, ["bad_coordinate"]),
        ({"latitude": 0.0}, []),
        ({"latitude": None}, ["bad_coordinate"]),
        ({"longitude": None}, ["bad_coordinate"]),
        ({"latitude": None, "longitude": None}, []),
        ({"speed_kmh": 0.0}, []),
        ({"speed_kmh": 250.0}, []),
        ({"speed_kmh": 250.1}, ["speed_out_of_range"]),
        ({"speed_kmh": -0.1}, ["speed_out_of_range"]),
    ],
)
def test_an_event_is_flagged(changes: dict[str, Any], expected: list[str]) -> None:
    assert flags(event(**changes)) == expected


def test_flagged_values_are_kept_and_ids_normalised() -> None:
    row = event(event_id=" e ", company_id=" b01346 ", latitude=123.0, speed_kmh=999.0, attributes={"a": "ü"}, driver_id="")
    made = dict(zip(driver_events.Row.__struct_fields__, row, strict=False))
    assert (made["event_id"], made["company_id"], made["latitude"], made["speed_kmh"], made["driver_id"]) == (
        "e",
        "B01346",
        123.0,
        999.0,
        None,
    )
    assert made["attributes"] == '{"a":"ü"}'


def test_a_row_of_an_event_fits_its_schema() -> None:
    made = dict(zip(driver_events.Row.__struct_fields__, event(), strict=False))
    made["attributes"] = msgspec.json.decode(made["attributes"])
    assert msgspec.convert(made, driver_events.Row).event_id == "e"


@pytest.mark.parametrize("key", [None, "", " \t"])
def test_a_record_without_its_key_is_refused(key: str | None) -> None:
    with pytest.raises(InvalidRecord, match="event_id is missing") as caught:
        event(event_id=key)
    assert caught.value.error_code == "missing_key"
    with pytest.raises(InvalidRecord, match="company_id is missing"):
        companies.transform(companies.Input(company_id=key), ITEM)


@pytest.mark.parametrize(
    "event_at", [datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2)))]
)
def test_an_instant_that_python_could_not_read_back_is_refused(event_at: datetime) -> None:
    with pytest.raises(InvalidRecord, match="years 1 to 9999"):
        event(event_at=event_at)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"company_id": " c1"}, ["company_id_normalized"]),
        ({"name": None}, ["missing_name"]),
        ({"name": "  "}, ["missing_name"]),
        ({"founded_year": 999}, ["founded_year_out_of_range"]),
        ({"founded_year": 2026}, []),
        ({"founded_year": 2027}, ["founded_year_out_of_range"]),
    ],
)
def test_a_company_is_flagged(changes: dict[str, Any], expected: list[str]) -> None:
    row = companies.transform(companies.Input(**{"company_id": "C1", "name": "One", **changes}), ITEM)
    assert flags(row) == expected
    assert row[0] == "C1"
