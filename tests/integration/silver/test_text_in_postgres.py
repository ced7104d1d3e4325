"""What is read of odd text, as Postgres keeps it: the digits of numbers, one row a record, and every record counted."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from medallion_defs.silver.contract import ItemFacts
from medallion_defs.silver.extract import load_parser, open_extraction
from medallion_defs.silver.loader import ItemLoad, load_items
from medallion_defs.sources.driver_events import tables, transform
from tests.local_files import opener


def load(db: psycopg.Connection, folder: Path, name: str, content: bytes) -> ItemLoad:
    (folder / "artifact").write_bytes(content)
    facts = ItemFacts(UUID(int=1), name, datetime(2026, 2, 1, tzinfo=UTC))
    extraction = open_extraction(opener(folder / "artifact"), load_parser(transform), facts)
    (loaded,) = load_items(db, tables.TABLE, [(facts, extraction.records)], max_rejected_share=1.0)
    assert loaded.error is None
    return loaded


def test_numbers_in_attributes_keep_their_digits_in_jsonb(db: psycopg.Connection, tmp_path: Path) -> None:
    numbers = ["0.1234567890123456789012345", "12345678901234567.89", "123456789012345678901234567890"]
    texts = ", ".join(numbers)
    load(db, tmp_path, "e.jsonl", b'{"event_id":"a","attributes":{"n":[%b, 123e-10000, 0.5]}}\n' % texts.encode())
    ((kept, tiny),) = db.execute("SELECT attributes ->> 'n', attributes -> 'n' ->> 3 FROM silver.driver_events").fetchall()
    assert kept.startswith(f"[{texts}, 0.000")
    assert kept.endswith("000123, 0.5]")
    assert len(tiny) == 10_002


@pytest.mark.parametrize(
    ("name", "content", "read", "rejected", "flags"),
    [
        ("e.json", b'[{"event_id":"e1"}, 5, null, "x", [], {"event_id":"e2"}]', 6, 4, {}),
        ("e.jsonl", b'{"event_id":"a","event_id":"b"}\n{"event_id":"c","attributes":{"k":1,"k":2}}\n', 2, 1, {"repeated_key": 1}),
        ("e.csv", b"event_id,driver_id\na,1\nevent_id,driver_id\nb,\xc3\xbc\nc,\xe9\nd,1,\n", 4, 2, {}),
        ("e.csv", 'event_id,driver_id\na,1\nb,é”\nc,"1\nd,2"\n'.encode("cp1252"), 3, 0, {"guessed_encoding": 1, "swallowed_line": 1}),
    ],
)
def test_every_record_is_counted_once(
    db: psycopg.Connection, tmp_path: Path, name: str, content: bytes, read: int, rejected: int, flags: dict[str, int]
) -> None:
    loaded = load(db, tmp_path, name, content)
    assert (loaded.read, loaded.rejected, loaded.created) == (read, rejected, read - rejected)
    assert {flag: rows for flag, rows in loaded.flags.items() if not flag.startswith("missing")} == flags
