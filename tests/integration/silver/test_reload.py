"""Silver is a function of bronze also after its code has changed: reloading gives what a rebuild would, whatever the order."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medallion_defs.core import clock
from medallion_defs.core.sections import SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.locations.silver import load_contents
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.ledger import Ledger, LedgerFilter
from medallion_defs.ops.scope import Scope
from medallion_defs.silver.backfill import load_history
from medallion_defs.silver.contract import InvalidRecord
from medallion_defs.silver.digest import digest_table
from medallion_defs.silver.load_run import SilverContent, load_batch
from medallion_defs.sources.companies.tables import TABLE
from medallion_defs.storage.item import ITEM_FILE, Artifact, BronzeItem, content_sha256, encode_item
from tests.integration.bronze_items import NOON

SOURCE = "companies"
[CONTENT] = [content for content in load_contents() if content.source.name == SOURCE]
Items = Mapping[str, list[tuple[str, str]]]


def content_of(recipe: int) -> SilverContent:
    """The source as its code is in one of several versions: other keys, other rejects, other values."""

    def transform(record: object, item: object) -> tuple[object, ...]:
        row = CONTENT.parser.transform(record, item)  # type: ignore[union-attr, arg-type]
        number = int(row[0].removeprefix("K"))
        if (number + recipe) % 7 == 0:
            raise InvalidRecord("invalid_value", "not in this version")
        key = row[0] if recipe == 0 else f"K{number % (2 + recipe)}"
        return (key, f"{row[1]} {recipe}", *row[2:])

    return replace(CONTENT, parser=replace(CONTENT.parser, transform=transform))  # type: ignore[type-var]


def publish(settings: Settings, items: Items) -> list[BronzeItem]:
    published = []
    for minute, (name, records) in enumerate(items.items()):
        raw = "".join(json.dumps({"company_id": key, "name": value}) + "\n" for key, value in records).encode()
        artifact = Artifact("companies.jsonl", "", len(raw), sha256(raw).hexdigest())
        at = NOON + timedelta(minutes=minute // 2)  # some at one moment: then the greater id wins
        item = BronzeItem(SOURCE, name, 1, name, f"{name}.jsonl", "test", at, content_sha256([artifact]), (artifact,))
        folder = settings.bronze_path / item.path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / artifact.name).write_bytes(raw)
        (folder / ITEM_FILE).write_bytes(encode_item(item))
        published.append(item)
    return published


def register(db: psycopg.Connection, items: list[BronzeItem]) -> None:
    Ledger(db).register_published([DatasetIngestion.published(item, clock.now()) for item in items])
    db.commit()


def load_pending(settings: Settings, db: psycopg.Connection, content: SilverContent, most: int = 100) -> None:
    options = SourceSettings(max_items=most, max_rejected_share=1.0, max_in_flight=1)
    configured = settings.model_copy(update={"sources": {SOURCE: options}})
    while True:
        with db.transaction():
            batches = Ledger(db).claim(SOURCE, options, content.code, clock.now())
        db.commit()
        if not batches:
            return
        for batch in batches:
            assert not load_batch(configured, content, batch.batch_id, "test").failed


def requeue(db: psycopg.Connection, item: BronzeItem) -> None:
    Ledger(db).read_again([item.file_id], clock.now())
    db.commit()


def digest(db: psycopg.Connection) -> tuple[str, list[tuple[object, ...]]]:
    found = digest_table(db, TABLE)
    rejects = db.execute("SELECT file_id, source_record, error_code FROM silver.rejected_rows ORDER BY 1, 2").fetchall()
    db.commit()
    return found, rejects


def empty(db: psycopg.Connection) -> None:
    db.execute("TRUNCATE silver.companies, silver.rejected_rows, silver.runners_up, silver.vanished_rows, ops.file_ingestions")
    db.commit()


def rebuilt(
    settings: Settings, db: psycopg.Connection, content: SilverContent, items: list[BronzeItem]
) -> tuple[str, list[tuple[object, ...]]]:
    empty(db)
    register(db, items)
    load_pending(settings, db, content)
    return digest(db)


def names(db: psycopg.Connection) -> dict[str, str]:
    found = dict(db.execute("SELECT company_id, name FROM silver.companies").fetchall())
    db.commit()
    return found


# At least one record in each: a reader refuses a file of no bytes.
FILES = st.dictionaries(
    st.sampled_from([f"f{number}" for number in range(5)]),
    st.lists(st.tuples(st.integers(0, 9).map(lambda number: f"K{number}"), st.sampled_from(["a", "b"])), min_size=1, max_size=6),
    min_size=2,
)


@pytest.mark.timeout(900)
@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=FILES, recipes=st.lists(st.integers(0, 3), min_size=1, max_size=3), seed=st.integers(0, 2**16), most=st.sampled_from([1, 2, 100])
)
def test_invariant_5_reloading_in_any_order_after_any_change_of_code_gives_what_a_rebuild_gives(
    settings: Settings, db: psycopg.Connection, files: Items, recipes: list[int], seed: int, most: int
) -> None:
    empty(db)
    items = publish(settings, files)
    shuffled = random.Random(seed)
    register(db, shuffled.sample(items, len(items)))
    load_pending(settings, db, content_of(0), most)
    for recipe in recipes:
        content = content_of(recipe)
        for item in shuffled.sample(items, len(items)):
            requeue(db, item)
            load_pending(settings, db, content, most)
    assert digest(db) == rebuilt(settings, db, content_of(recipes[-1]), items)


def test_a_changed_key_leaves_no_row_of_the_old_one(settings: Settings, db: psycopg.Connection) -> None:
    items = publish(settings, {"old": [("K1", "old"), ("K2", "old")], "new": [("K1", "new"), ("K3", "new")]})
    register(db, items)
    load_pending(settings, db, content_of(0))
    requeue(db, items[1])
    load_pending(settings, db, content_of(2))
    # K1 and K3 were the newer file's; the older file has K1 as well, and is read again by the code of today.
    assert names(db) == {"K1": "new 2", "K3": "new 2", "K2": "old 0"}
    assert db.execute("SELECT count(*) FROM ops.file_ingestions WHERE status = 'loaded'").fetchone() == (2,)


@pytest.mark.parametrize("batches", [["abc"], ["a", "b", "c"], ["c", "b", "a"]], ids=["together", "oldest first", "newest first"])
def test_where_the_newest_file_stops_to_make_a_key_the_older_files_row_returns(
    settings: Settings, db: psycopg.Connection, batches: list[str]
) -> None:
    items = publish(settings, {"a": [("K8", "a")], "b": [("K8", "b")], "c": [("K8", "c")]})
    for batch in batches:
        register(db, [item for item in items if item.external_id in batch])
        load_pending(settings, db, content_of(0))
    assert names(db) == {"K8": "c 0"}
    rejecting = content_of(6)  # (8 + 6) % 7 == 0
    requeue(db, items[2])
    with db.transaction():
        [claimed] = Ledger(db).claim(SOURCE, SourceSettings(), rejecting.code, clock.now())
    db.commit()
    configured = settings.model_copy(update={"sources": {SOURCE: SourceSettings(max_rejected_share=1.0)}})
    load_batch(configured, rejecting, claimed.batch_id, "test")
    assert names(db) == {}
    assert db.execute("SELECT external_id FROM ops.file_ingestions WHERE status = 'pending' ORDER BY 1").fetchall() == [("a",), ("b",)]
    db.commit()
    load_pending(settings, db, content_of(0))
    assert names(db) == {"K8": "b 0"}


def test_a_backfill_also_reads_what_it_has_uncovered_and_reads_no_item_more_than_twice(settings: Settings, db: psycopg.Connection) -> None:
    items = publish(settings, {f"f{number}": [(f"K{key}", "x") for key in range(number + 1)] for number in range(9)})
    register(db, items)
    load_pending(settings, db, content_of(0))
    content = content_of(1)
    configured = settings.model_copy(update={"sources": {SOURCE: SourceSettings(max_items=1, max_rejected_share=1.0)}})
    reports = [report for _, report in load_history(configured, content, Scope(), clock.now(), "test")]
    assert sum(len(report.items) for report in reports) <= 2 * len(items)
    assert digest(db) == rebuilt(settings, db, content, items)


def test_a_failed_retry_shows_its_own_rejects_and_counts(settings: Settings, db: psycopg.Connection) -> None:
    items = publish(settings, {"a": [("K1", "a"), ("K2", "b"), ("K5", "c")]})
    register(db, items)
    options = SourceSettings(max_rejected_share=0.1)
    configured = settings.model_copy(update={"sources": {SOURCE: options}})
    for recipe, rejected in ((6, 1), (2, 1), (1, 0)):
        with db.transaction():
            Ledger(db).requeue(LedgerFilter(source_type=SOURCE), clock.now())
            [batch] = Ledger(db).claim(SOURCE, options, content_of(recipe).code, clock.now())
        db.commit()
        load_batch(configured, content_of(recipe), batch.batch_id, "test")
        [row] = db.execute("SELECT silver_rows_read, silver_rows_rejected, silver_rows_created, status FROM ops.file_ingestions").fetchall()
        rejects = db.execute("SELECT source_record FROM silver.rejected_rows").fetchall()
        db.commit()
        assert row[:2] == (3, rejected)
        assert (row[2] is None) == (row[3] == "dead") == bool(rejected)
        assert rejects == [(record,) for record in {6: [1], 2: [3], 1: []}[recipe]]


def test_a_first_load_of_new_keys_notes_nothing(settings: Settings, db: psycopg.Connection) -> None:
    register(db, publish(settings, {"a": [("K1", "a"), ("K1", "b")], "b": [("K2", "c")]}))
    load_pending(settings, db, content_of(0))
    assert db.execute("SELECT (SELECT count(*) FROM silver.runners_up), (SELECT count(*) FROM silver.vanished_rows)").fetchone() == (0, 0)


def test_items_loaded_before_their_keys_were_noted_count_as_having_any(settings: Settings, db: psycopg.Connection) -> None:
    items = publish(settings, {"a": [("K8", "a")], "b": [("K8", "b")]})
    register(db, items)
    load_pending(settings, db, content_of(0))
    # As the migration leaves a database that was loaded by an older release.
    db.execute("TRUNCATE silver.runners_up")
    db.execute("INSERT INTO silver.runners_up SELECT hashtextextended('companies', 1), file_id FROM ops.file_ingestions")
    db.commit()
    requeue(db, items[1])
    load_pending(settings, db, content_of(6), 1)
    assert db.execute("SELECT count(*) FROM silver.runners_up WHERE key_hash = hashtextextended('companies', 1)").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM silver.rejected_rows").fetchone() == (2,)


def test_a_row_that_a_person_deletes_is_noted_for_gold(settings: Settings, db: psycopg.Connection) -> None:
    register(db, publish(settings, {"a": [("K1", "a"), ("K2", "a")]}))
    load_pending(settings, db, content_of(0))
    db.execute("DELETE FROM silver.companies WHERE company_id = 'K1'")
    assert db.execute("SELECT table_name, key FROM silver.vanished_rows").fetchall() == [("companies", "K1")]
