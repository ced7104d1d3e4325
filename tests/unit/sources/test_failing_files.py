"""Real faults that people reported, each in a small file: what must come of it, through the reader that the engine uses."""

import json
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from medallion_defs.silver.contract import ItemFacts, RejectedRecord
from medallion_defs.silver.extract import load_parser, open_extraction

Outcome = list[tuple[Any, ...]]  # (record, key, …) of a row, (record, code) of a reject


def read(source: str, path: Path, *columns: str) -> Outcome:
    """Return record, key, the asked columns and the flags of each row, and record and code of each reject, in the file's order."""
    module = import_module(f"medallion_defs.sources.{source}.transform")
    names = ("source_record", *module.Row.__struct_fields__, "quality_flags")
    item = ItemFacts(UUID(int=0), path.name, datetime(2026, 7, 1, tzinfo=UTC))
    outcome: Outcome = []
    for record in open_extraction(path, load_parser(module), item).records:
        if isinstance(record, RejectedRecord):
            outcome.append((record.source_record, record.error_code))
        else:
            row = dict(zip(names, record, strict=True))
            outcome.append((*record[:2], *(row[column] for column in columns)))
    return outcome


COMPANIES: dict[str, Outcome] = {
    "extra_comma_blank_last.csv": [(2, "malformed_csv"), (3, "C2", "Plain", "Bern", "")],
    "one_bad_byte.csv": [
        (2, "C1", "Zürich Cargo", "Zürich", ""), (3, "C2", "Łódź Trans", "Łódź", ""),
        (4, "invalid_encoding"), (5, "C4", "東京運輸", "東京", ""),
    ],
    "cp1252_quotes.csv": [(2, "C1", "Mike’s “Fast” Freight – €uro", "Köln", "guessed_encoding")],
    "header_again.csv": [(2, "C1", "A", None, ""), (4, "C2", "B", None, "")],
    "header_again_bom.csv": [(2, "C1", "A", None, ""), (4, "C2", "B", None, "")],
    "quote_pair_merges.csv": [(2, "C1", "7 inch\nC2,5", None, "swallowed_line"), (4, "C3", "ok", None, "")],
    "space_before_quote.csv": [(2, "C1", "Foo, Inc", None, ""), (3, "C2", "Bar", None, "")],
}  # fmt: skip


@pytest.mark.parametrize("name", COMPANIES)
def test_companies(shared_data: Path, name: str) -> None:
    assert read("companies", shared_data / "failing" / name, "name", "city", "quality_flags") == COMPANIES[name]


def test_a_wide_file(shared_data: Path) -> None:
    [(_, key, attributes)] = read("companies", shared_data / "failing" / "wide_20k.csv", "attributes")
    assert key == "C1"
    assert len(json.loads(attributes)) == 20_000


def test_decimal_commas(shared_data: Path) -> None:
    path = shared_data / "failing" / "decimal_comma.csv"
    assert read("driver_events", path, "latitude", "longitude", "speed_kmh") == [(2, "e1", 0.051, -0.118, 0.25)]


@pytest.mark.parametrize("name", ["dup_key.jsonl", "dup_attr.jsonl"])
def test_repeated_keys(shared_data: Path, name: str) -> None:
    assert read("driver_events", shared_data / "failing" / name) == [(1, "repeated_key")]


def test_decimals_keep_their_digits(shared_data: Path) -> None:
    [(_, _, attributes)] = read("driver_events", shared_data / "failing" / "decimals.jsonl", "attributes")
    assert attributes == '{"price":0.1234567890123456789012345,"amount":12345678901234567.89,"tiny":1.23E-9998}'


def test_elements_are_counted_once(shared_data: Path) -> None:
    outcome = read("driver_events", shared_data / "failing" / "list_in_array.json")
    assert [one[:2] for one in outcome] == [(1, "e1"), *((n, "invalid_value") for n in (2, 3, 4, 5)), (6, "e2")]
