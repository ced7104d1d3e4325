"""Any value traces to the bytes that it came from, and any item lists what came of it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from medallion_defs.core.errors import TerminalError
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.ops.lineage import LineageSpec, TableRows, item_path, trace_bronze, trace_gold, trace_silver
from medallion_defs.storage.item import ITEM_FILE, Artifact, BronzeItem, encode_item
from medallion_defs.storage.local.reader import LocalReader
from tests.integration.gold.silver_rows import drain, put_companies, put_events

GOLD = ENRICHMENT.lineage
EVENTS = LineageSpec("silver.driver_events", "event_id")
COMPANIES = LineageSpec("silver.companies", "company_id")
FETCHED_AT = datetime(2024, 5, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Bronze:
    """A bronze root on disk and its ledger, written as the layers write them."""

    root: Path
    db: psycopg.Connection

    def publish(self, source_type: str, name: str, data: bytes) -> BronzeItem:
        sha256 = hashlib.sha256(data).hexdigest()
        artifact = Artifact(f"{source_type}.csv", "text/csv", len(data), sha256)
        item = BronzeItem(source_type, name, 1, name, name, f"landing/{source_type}/{name}", FETCHED_AT, "c" * 64, (artifact,))
        directory = self.root / item.path
        directory.mkdir(parents=True)
        (directory / artifact.name).write_bytes(data)
        (directory / ITEM_FILE).write_bytes(encode_item(item))
        self.db.execute(
            """INSERT INTO ops.file_ingestions (file_id, source_type, external_id, revision, bronze_path, content_sha256, bronze_bytes,
                bronze_filename, bronze_ingest_end_time, silver_ingest_end_time) VALUES (%s, %s, %s, 1, %s, %s, %s, %s, %s, now())""",
            (item.file_id, source_type, name, item.path, item.content_sha256, item.bytes, name, FETCHED_AT),
        )
        self.db.commit()
        return item


@pytest.fixture
def bronze(db: psycopg.Connection, tmp_path: Path) -> Bronze:
    return Bronze(tmp_path / "bronze", db)


@pytest.fixture
def console(database_url: str, db: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection with the least rights that lineage must do with: reading."""
    with psycopg.connect(database_url, options="-c timezone=UTC -c role=medallion_console") as connection:
        yield connection


def test_invariant_12_any_gold_value_traces_to_file_record_and_sha256(
    bronze: Bronze, db: psycopg.Connection, console: psycopg.Connection
) -> None:
    events = bronze.publish("driver_events", "fleet.csv", b"event_id,company_id\ne1,B1\ne2,B9\ne3,\n")
    companies = bronze.publish("companies", "companies.csv", b"company_id,name\nB1,Love Corp Car\n")
    put_companies(db, {"B1": "Love Corp Car"}, file=companies.file_id)
    put_events(db, {"e1": "B1", "e2": "B9", "e3": None}, file=events.file_id)
    drain(db)
    of = {"driver_events": events, "companies": companies}
    for (key,) in db.execute("SELECT event_id FROM gold.driver_events_enriched").fetchall():
        trace = trace_gold(console, GOLD, key, LocalReader(bronze.root))
        assert [record.table for record in trace.records] == ["silver.driver_events", *["silver.companies"] * (key == "e1")]
        for record in trace.records:
            item = of[record.item.source_type]
            [artifact] = record.item.artifacts
            stored = (bronze.root / str(record.item.bronze_path) / artifact.name).read_bytes()
            assert hashlib.sha256(stored).hexdigest() == artifact.sha256
            # `put_…` numbers the records from 1, the file has a header: the record's own line is one further down.
            assert stored.splitlines()[record.source_record].decode().split(",")[0] == record.key
            assert (record.item.origin, record.item.fetched_at, record.is_current) == (item.origin, FETCHED_AT, True)
    assert (
        trace_silver(console, COMPANIES, "B1", LocalReader(bronze.root)).records
        == trace_gold(console, GOLD, "e1", LocalReader(bronze.root)).records[1:]
    )


def test_invariant_12_any_bronze_item_lists_all_that_came_of_it(
    bronze: Bronze, db: psycopg.Connection, console: psycopg.Connection
) -> None:
    events = bronze.publish("driver_events", "fleet.csv", b"x")
    companies = bronze.publish("companies", "companies.csv", b"y")
    put_companies(db, {"B1": "Love Corp Car"}, file=companies.file_id)
    put_events(db, {f"e{n}": "B1" for n in range(5)}, file=events.file_id)
    for record, code in ((7, "missing_key"), (8, "missing_key"), (9, "malformed_csv")):
        db.execute("INSERT INTO silver.rejected_rows VALUES (%s, %s, %s, 'message', 'excerpt')", (events.file_id, record, code))
    drain(db)
    trace = trace_bronze(console, events.path, [EVENTS, COMPANIES], [GOLD], LocalReader(bronze.root))
    assert (trace.item.status, trace.ledger["bronze_bytes"], trace.rejects) == ("loaded", 1, {"missing_key": 2, "malformed_csv": 1})
    assert trace.item.artifacts == events.artifacts
    [silver], [gold] = trace.silver, trace.gold
    assert (silver.table, silver.rows, len(silver.examples)) == ("silver.driver_events", 5, 3)
    assert (gold.table, gold.file_column, gold.rows, len(gold.examples)) == ("gold.driver_events_enriched", "event_file_id", 5, 3)
    trace = trace_bronze(console, companies.file_id, [EVENTS, COMPANIES], [GOLD], LocalReader(bronze.root))
    assert trace.silver == (TableRows("silver.companies", "file_id", 1, ("B1",)),)
    assert [(rows.file_column, rows.rows) for rows in trace.gold] == [("company_file_id", 5)]


def test_a_huge_item_is_counted_up_to_a_limit_and_the_answer_says_so(
    bronze: Bronze, db: psycopg.Connection, console: psycopg.Connection
) -> None:
    item = bronze.publish("driver_events", "huge.csv", b"x")
    put_events(db, {f"e{n}": None for n in range(5)}, file=item.file_id)
    for record in range(4):
        db.execute("INSERT INTO silver.rejected_rows VALUES (%s, %s, 'missing_key', 'message', 'excerpt')", (item.file_id, record))
    drain(db)

    def counted(most: int | None) -> list[tuple[int, bool, int]]:
        trace = trace_bronze(console, item.file_id, [EVENTS], [GOLD], examples=2, most_counted=most)
        return [(rows.rows, rows.is_exact, len(rows.examples)) for rows in (*trace.silver, *trace.gold)]

    assert counted(5) == counted(None) == [(5, True, 2)] * 2
    assert counted(4) == [(4, False, 2)] * 2
    assert trace_bronze(console, item.file_id, [EVENTS], [GOLD], most_counted=4).is_rejects_exact
    trace = trace_bronze(console, item.file_id, [EVENTS], [GOLD], most_counted=3)
    assert (sum(trace.rejects.values()), trace.is_rejects_exact) == (4, False)


def test_an_item_whose_rows_lie_at_the_end_of_a_table_is_not_looked_for_from_its_beginning(
    bronze: Bronze, db: psycopg.Connection, console: psycopg.Connection
) -> None:
    """Of an item with a tenth of the table the planner expects a row soon, wherever it begins to read."""
    item = bronze.publish("driver_events", "huge.csv", b"x")
    db.execute(
        """INSERT INTO silver.driver_events (event_id, file_id, source_record, bronze_at)
        SELECT 'e' || n, CASE WHEN n <= 18000 THEN md5((n / 10)::text)::uuid ELSE %s::uuid END, n, now()
        FROM generate_series(1, 20000) AS n""",
        (item.file_id,),
    )
    db.execute("ANALYZE silver.driver_events")
    db.commit()
    read_from_the_start = "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'silver.driver_events'::regclass"
    before = db.execute(read_from_the_start).fetchall()
    db.commit()
    [rows] = trace_bronze(console, item.file_id, [EVENTS], [GOLD]).silver
    assert (rows.rows, len(rows.examples)) == (2000, 3)
    console.execute("SELECT pg_stat_force_next_flush()")
    console.commit()
    assert db.execute(read_from_the_start).fetchall() == before


def test_a_gold_row_older_than_silver_says_so(bronze: Bronze, db: psycopg.Connection, console: psycopg.Connection) -> None:
    old = bronze.publish("driver_events", "old.csv", b"x")
    new = bronze.publish("driver_events", "new.csv", b"y")
    put_events(db, {"e1": None}, file=old.file_id)
    drain(db)
    put_events(db, {"e1": None}, file=new.file_id)
    [record] = trace_gold(console, GOLD, "e1", LocalReader(bronze.root)).records
    assert (record.item.external_id, record.is_current) == ("old.csv", False)
    db.execute("DELETE FROM silver.driver_events")
    db.commit()
    [record] = trace_gold(console, GOLD, "e1", LocalReader(bronze.root)).records
    assert (record.item.external_id, record.is_current, record.row) == ("old.csv", False, None)


def test_an_item_that_nothing_came_of_is_listed_with_its_state(bronze: Bronze, console: psycopg.Connection) -> None:
    item = bronze.publish("driver_events", "empty.csv", b"")
    trace = trace_bronze(console, str(item.file_id), [EVENTS], [GOLD], LocalReader(bronze.root))
    assert (trace.silver, trace.gold, trace.rejects, trace.item.status) == ((), (), {}, "loaded")


def test_a_refused_file_is_listed_with_the_reason(db: psycopg.Connection, bronze: Bronze, console: psycopg.Connection) -> None:
    file_id = uuid4()
    db.execute(
        """INSERT INTO ops.file_ingestions (file_id, source_type, external_id, revision, bronze_error)
        VALUES (%s, 'driver_events', 'x', 0, 'a symlink')""",
        (file_id,),
    )
    db.commit()
    item = trace_bronze(console, file_id, [EVENTS], [GOLD], LocalReader(bronze.root)).item
    assert (item.status, item.bronze_error, item.artifacts) == ("refused", "a symlink", ())


def test_without_a_reader_the_ledger_alone_is_asked(bronze: Bronze, db: psycopg.Connection, console: psycopg.Connection) -> None:
    item = bronze.publish("driver_events", "fleet.csv", b"x")
    put_events(db, {"e1": None}, file=item.file_id)
    [record] = trace_silver(console, EVENTS, "e1").records
    assert (record.item.content_sha256, record.item.fetched_at, record.item.origin) == ("c" * 64, FETCHED_AT, None)


def test_traces_serialise(bronze: Bronze, db: psycopg.Connection, console: psycopg.Connection) -> None:
    item = bronze.publish("driver_events", "fleet.csv", b"x")
    put_events(db, {"e1": None}, file=item.file_id)
    drain(db)
    trace = msgspec.json.decode(msgspec.json.encode(trace_gold(console, GOLD, "e1", LocalReader(bronze.root))))
    assert trace["records"][0]["item"]["file_id"] == str(item.file_id)
    listed = msgspec.json.decode(msgspec.json.encode(trace_bronze(console, item.file_id, [EVENTS], [GOLD], LocalReader(bronze.root))))
    assert listed["gold"][0]["rows"] == 1


@pytest.mark.parametrize("which", ["driver_events/other.csv", UUID(int=0), str(UUID(int=0))])
def test_an_unknown_item_is_an_error(bronze: Bronze, console: psycopg.Connection, which: UUID | str) -> None:
    with pytest.raises(TerminalError, match=r"ledger knows no item .*Check"):
        trace_bronze(console, which, [EVENTS], [GOLD], LocalReader(bronze.root))


def test_an_unknown_key_is_an_error(console: psycopg.Connection) -> None:
    with pytest.raises(TerminalError, match=r"gold\.driver_events_enriched has no row with event_id = 'e1'"):
        trace_gold(console, GOLD, "e1")
    with pytest.raises(TerminalError, match=r"silver\.companies has no row with company_id = 'B1'"):
        trace_silver(console, COMPANIES, "B1")


def test_a_row_whose_item_the_ledger_lost_is_an_error(db: psycopg.Connection, console: psycopg.Connection) -> None:
    put_events(db, {"e1": None})
    with pytest.raises(TerminalError, match="ledger has lost item"):
        trace_silver(console, EVENTS, "e1")


@pytest.mark.parametrize("damage", [None, b"{", b"\xff", b"{}"])
def test_a_damaged_item_file_is_an_error_and_not_an_empty_list(bronze: Bronze, console: psycopg.Connection, damage: bytes | None) -> None:
    item = bronze.publish("driver_events", "fleet.csv", b"x")
    path = bronze.root / item.path / ITEM_FILE
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(TerminalError, match=r"cannot be read.*bronze verify"):
        trace_bronze(console, item.path, [EVENTS], [GOLD], LocalReader(bronze.root))


def test_the_item_file_of_another_item_is_an_error(bronze: Bronze, console: psycopg.Connection) -> None:
    item = bronze.publish("driver_events", "fleet.csv", b"x")
    other = bronze.publish("driver_events", "other.csv", b"y")
    (bronze.root / item.path / ITEM_FILE).write_bytes(encode_item(other))
    with pytest.raises(TerminalError, match="the ledger expects"):
        trace_bronze(console, item.path, [EVENTS], [GOLD], LocalReader(bronze.root))


@pytest.mark.parametrize(
    "text",
    ["driver_events/fleet.csv@2", "driver_events/fleet.csv@2/", "driver_events/fleet.csv@2/events.csv", "{root}/driver_events/fleet.csv@2"],
)
def test_a_path_may_be_written_as_people_write_paths(tmp_path: Path, text: str) -> None:
    assert item_path(text.format(root=tmp_path), LocalReader(tmp_path)) == "driver_events/fleet.csv@2"


@pytest.mark.parametrize("text", ["fleet.csv", "", "/etc/passwd", "driver_events/../companies"])
def test_a_path_that_names_no_item_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(TerminalError, match="names no bronze item"):
        item_path(text, LocalReader(tmp_path))
