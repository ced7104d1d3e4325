"""Small files of records that people reported as read wrong, and what must come of each: shared by the tests of reading and of loading."""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple


class Reported(NamedTuple):
    """A file of `failing/` in the real input, and its outcome.

    `rows`: by record, the key and the values of `columns`; `attributes` as parsed, with decimals. `rejects`: by record, the code.
    """

    source: str
    columns: tuple[str, ...]
    rows: dict[int, tuple[Any, ...]]
    rejects: Mapping[int, str] = MappingProxyType({})


_NAMED = ("name", "city", "quality_flags")
TWO_COMPANIES = {2: ("C1", "A", None, []), 4: ("C2", "B", None, [])}

REPORTED = {
    "extra_comma_blank_last.csv": Reported("companies", _NAMED, {3: ("C2", "Plain", "Bern", [])}, {2: "malformed_csv"}),
    "one_bad_byte.csv": Reported(
        "companies",
        _NAMED,
        {2: ("C1", "Zürich Cargo", "Zürich", []), 3: ("C2", "Łódź Trans", "Łódź", []), 5: ("C4", "東京運輸", "東京", [])},
        {4: "invalid_encoding"},
    ),
    "cp1252_quotes.csv": Reported("companies", _NAMED, {2: ("C1", "Mike’s “Fast” Freight – €uro", "Köln", ["guessed_encoding"])}),
    "header_again.csv": Reported("companies", _NAMED, TWO_COMPANIES),
    "header_again_bom.csv": Reported("companies", _NAMED, TWO_COMPANIES),
    "quote_pair_merges.csv": Reported(
        "companies", _NAMED, {2: ("C1", "7 inch\nC2,5", None, ["swallowed_line"]), 4: ("C3", "ok", None, [])}
    ),
    "space_before_quote.csv": Reported("companies", _NAMED, {2: ("C1", "Foo, Inc", None, []), 3: ("C2", "Bar", None, [])}),
    "wide_20k.csv": Reported("companies", ("attributes",), {2: ("C1", {f"c{number}": "1" for number in range(20_000)})}),
    "decimal_comma.csv": Reported("driver_events", ("latitude", "longitude", "speed_kmh"), {2: ("e1", 0.051, -0.118, 0.25)}),
    "dup_key.jsonl": Reported("driver_events", (), {}, {1: "repeated_key"}),
    "dup_attr.jsonl": Reported("driver_events", (), {}, {1: "repeated_key"}),
    "decimals.jsonl": Reported(
        "driver_events",
        ("attributes",),
        {
            1: (
                "e1",
                {
                    "price": Decimal("0.1234567890123456789012345"),
                    "amount": Decimal("12345678901234567.89"),
                    "tiny": Decimal("1.23E-9998"),
                },
            )
        },
    ),
    "list_in_array.json": Reported("driver_events", (), {1: ("e1",), 6: ("e2",)}, dict.fromkeys((2, 3, 4, 5), "invalid_value")),
}
