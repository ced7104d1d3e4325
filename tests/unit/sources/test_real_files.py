"""The real files, row by row, against an independent reading with Python's csv module."""

import csv
import io
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from medallion_defs.silver.contract import ItemFacts, RejectedRecord
from medallion_defs.silver.extract import load_parser, open_extraction
from tests.local_files import opener

NEW_YORK = ZoneInfo("America/New_York")
Row = dict[str, Any]


def read(source: str, path: Path) -> tuple[str, list[Row]]:
    """Return the recipe's name and the rows; no real file has a record that cannot be one."""
    module = import_module(f"medallion_defs.sources.{source}.transform")
    extraction = open_extraction(opener(path), load_parser(module), ItemFacts(UUID(int=0), path.name, datetime(2026, 2, 1, tzinfo=UTC)))
    names = ("source_record", *module.Row.__struct_fields__, "quality_flags")
    rows = []
    for record in extraction.records:
        assert not isinstance(record, RejectedRecord), record
        rows.append(dict(zip(names, record, strict=True)) | {"attributes": json.loads(record[-2])})
    return extraction.recipe.name, rows


def by_csv(path: Path, header_line: int = 1) -> list[tuple[int, dict[str, str]]]:
    """Return (line, record) of every record that is not blank; the real files have no line end within a cell."""
    cells = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    header = cells[header_line - 1]
    lines = enumerate(cells[header_line:], start=header_line + 1)
    return [(line, dict(zip(header, row, strict=True))) for line, row in lines if any(cell.strip() for cell in row)]


def count_flags(rows: list[Row]) -> dict[str, int]:
    return dict(Counter(flag for row in rows for flag in row["quality_flags"].split(",") if flag))


def count(name: str, text: str) -> dict[str, int]:
    """Read a spreadsheet's count; `-` is none."""
    bare = text.strip().replace(",", "")
    return {} if bare == "-" else {name: int(bare)}


def test_fhv_dispatch_as_driver_events(shared_data: Path) -> None:
    path = shared_data / "fleet/fhv_dispatch_2015.csv"
    recipe, rows = read("driver_events", path)
    truth = by_csv(path, header_line=6)
    assert recipe == "fhv_dispatch"
    assert len(rows) == len(truth) == 26_181
    for row, (line, record) in zip(rows, truth, strict=True):
        company = record["Base Number"].strip().upper()
        day = datetime.strptime(record["Pick Up Date"], "%m/%d/%Y").replace(tzinfo=NEW_YORK)
        assert (row["source_record"], row["event_id"], row["company_id"]) == (line, f"fhv:{company}:{day:%Y-%m-%d}", company)
        assert (row["event_type"], row["event_at"]) == ("dispatch_report", day)
        assert row["attributes"] == {
            "company_name": record["Base Name"].strip(),
            **count("trips", record["Number of Trips"]),
            **count("vehicles", record["Number of Vehicles"]),
        }
    assert count_flags(rows) == {"company_id_normalized": 1010}
    assert len({row["event_id"] for row in rows}) == 26_181
    assert len({row["company_id"] for row in rows}) == 329
    assert sum("vehicles" not in row["attributes"] for row in rows) == 1716


def test_fhv_dispatch_as_companies(shared_data: Path) -> None:
    path = shared_data / "fleet/fhv_dispatch_2015.csv"
    recipe, rows = read("companies", path)
    assert recipe == "fhv_dispatch"
    assert len(rows) == 26_181
    names = {record["Base Number"].strip().upper(): record["Base Name"].strip() for _, record in by_csv(path, header_line=6)}
    assert {row["company_id"]: row["name"] for row in rows} == names
    assert len(names) == 329
    assert count_flags(rows) == {"company_id_normalized": 1010}
    assert all(row["attributes"] == {} for row in rows)


def test_uber_dispatch(shared_data: Path) -> None:
    path = shared_data / "fleet/uber_dispatch_2015.csv"
    recipe, rows = read("driver_events", path)
    truth = by_csv(path)
    assert recipe == "uber_dispatch"
    assert len(rows) == len(truth) == 354
    for row, (line, record) in zip(rows, truth, strict=True):
        day = datetime.strptime(record["date"], "%m/%d/%Y").replace(tzinfo=NEW_YORK)
        assert (row["source_record"], row["event_id"]) == (line, f"fhv:{record['dispatching_base_number']}:{day:%Y-%m-%d}")
        assert row["event_at"] == day
        assert row["attributes"] == {"trips": int(record["trips"]), "vehicles": int(record["active_vehicles"])}
    assert count_flags(rows) == {}
    assert {row["company_id"] for row in rows} == {"B02512", "B02598", "B02617", "B02682", "B02764", "B02765"}
    assert len({row["event_id"] for row in rows}) == 354


def test_truck_events(shared_data: Path) -> None:
    path = shared_data / "fleet/truck_events.csv"
    recipe, rows = read("driver_events", path)
    truth = by_csv(path)
    assert recipe == "truck_events"
    assert len(rows) == len(truth) == 17_075
    for row, (line, record) in zip(rows, truth, strict=True):
        minutes, seconds = record["eventTime"].split(":")
        hour = datetime.strptime(record["eventDate"], "%Y-%m-%d-%H").replace(tzinfo=UTC)
        assert (row["source_record"], row["event_id"]) == (line, f"truck:{record['eventKey']}")
        assert row["event_at"] == hour + timedelta(minutes=int(minutes), milliseconds=round(float(seconds) * 1000))
        assert (row["driver_id"], row["vehicle_id"], row["company_id"]) == (record["driverId"], record["truckId"], None)
        assert (row["latitude"], row["longitude"]) == (float(record["latitude"]), float(record["longitude"]))
        assert row["attributes"] == {
            "driver_name": record["driverName"],
            "route_id": record["routeId"],
            "route_name": record["routeName"].strip(),
            "correlation_id": record["CorrelationId"],
        }
    assert count_flags(rows) == {"missing_company_id": 17_075}
    assert len({row["event_id"] for row in rows}) == 17_075
    assert Counter(row["event_type"] for row in rows) == {
        "normal": 17_041, "lane_departure": 11, "overspeed": 9, "unsafe_tail_distance": 7, "unsafe_following_distance": 7,
    }  # fmt: skip


def test_sp500_constituents(shared_data: Path) -> None:
    path = shared_data / "companies/sp500_constituents.csv"
    recipe, rows = read("companies", path)
    truth = by_csv(path)
    assert recipe == "sp500_constituents"
    assert len(rows) == len(truth) == len({row["company_id"] for row in rows}) == 503
    for row, (line, record) in zip(rows, truth, strict=True):
        assert (row["source_record"], row["company_id"], row["name"], row["sector"]) == (
            line, record["Symbol"], record["Security"], record["GICS Sector"],
        )  # fmt: skip
        assert row["founded_year"] == int(record["Founded"][:4])
        assert row["attributes"]["founded"] == record["Founded"]
        assert row["attributes"]["headquarters"] == record["Headquarters Location"]
        assert row["attributes"]["ticker"] == record["Symbol"]
    assert count_flags(rows) == {}
    assert Counter(row["country"] for row in rows) == {
        "United States": 478, "Ireland": 11, "United Kingdom": 5, "Switzerland": 3, "Bermuda": 2, "Netherlands": 2, "Canada": 1, None: 1,
    }  # fmt: skip
    places = {row["attributes"]["headquarters"]: (row["city"], row["country"]) for row in rows}
    assert places["none"] == (None, None)
    assert places["Warmley, Bristol, United Kingdom"] == ("Warmley", "United Kingdom")
    assert places["Columbus, Ohio; Detroit, Michigan"] == ("Columbus", "United States")
    assert places["Washington, D.C."] == ("Washington", "United States")
    assert [place for text, place in places.items() if "[" in text] == [
        (place[0], "United States") for text, place in places.items() if "[" in text
    ]
