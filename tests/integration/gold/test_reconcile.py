"""The comparison of gold with silver finds and repairs every kind of damage, and is the backfill."""

from datetime import timedelta

import psycopg

from medallion_defs.core.ids import file_id
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.gold.feed import plan
from medallion_defs.gold.reconcile import Repair, measure, reconcile, reconcile_chunk
from medallion_defs.ops.ledger_values import Extent
from medallion_defs.ops.scope import Scope
from tests.integration.gold.silver_rows import (
    COMPANIES_FILE,
    EVENTS_FILE,
    FETCHED_AT,
    count_differences,
    drain,
    put_companies,
    put_events,
    read_gold,
)

ALL = Scope()


def repair(gold: psycopg.Connection, scope: Scope = ALL, max_rows: int = 1000) -> list[Repair]:
    repairs = []
    for done in reconcile(gold, ENRICHMENT, scope, max_rows=max_rows):
        gold.commit()
        repairs.append(done)
    return repairs


def fill(db: psycopg.Connection, events: int = 20) -> None:
    """Silver and gold with `events` events of four companies, of which one is unknown."""
    put_companies(db, {f"B{n}": f"Company {n}" for n in range(3)})
    put_events(db, {f"e{n:02}": f"B{n % 4}" for n in range(events)})
    drain(db)


def test_gold_that_is_right_is_only_read(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    fill(db)
    before = db.execute("SELECT ctid, xmin, xmax, * FROM gold.driver_events_enriched ORDER BY event_id").fetchall()
    assert repair(gold) == [Repair(checked=20, missing=0, stale=0, orphan=0, per_file={}, last_key=None)]
    assert db.execute("SELECT ctid, xmin, xmax, * FROM gold.driver_events_enriched ORDER BY event_id").fetchall() == before


def test_missing_stale_and_orphan_rows_are_counted_and_repaired(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    fill(db)
    db.execute("DELETE FROM gold.driver_events_enriched WHERE event_id IN ('e03', 'e04', 'e05')")
    db.execute("UPDATE gold.driver_events_enriched SET company_name = 'forged' WHERE event_id IN ('e08', 'e09')")
    db.execute("DELETE FROM silver.driver_events WHERE event_id = 'e00'")
    db.commit()
    [done] = repair(gold)
    assert (done.checked, done.missing, done.stale, done.orphan) == (19, 3, 2, 1)
    assert done.per_file == {EVENTS_FILE: (3, 2)}
    assert count_differences(db) == 0


def test_an_orphan_beyond_the_last_silver_key_is_found(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    fill(db)
    db.execute("DELETE FROM silver.driver_events WHERE event_id = 'e19'")
    db.commit()
    assert sum(done.orphan for done in repair(gold, max_rows=19)) == 1
    assert count_differences(db) == 0


def test_rows_that_the_feed_has_not_reached_are_left_to_it(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    """A repair that ran ahead would carry gold's position past the events between."""
    fill(db)
    put_events(db, {"e90": "B1"})
    put_events(db, {"e00": "B2"})
    [done] = repair(gold)
    assert (done.missing, done.stale) == (0, 0)
    assert plan(gold, ENRICHMENT, 0, 1000).work is not None
    drain(gold)
    assert count_differences(db) == 0


def test_silver_set_back_to_an_older_copy_is_followed(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    fill(db)
    db.execute("ALTER TABLE silver.driver_events DISABLE TRIGGER advance_change_seq")
    db.execute("UPDATE silver.driver_events SET change_seq = change_seq - 10, company_id = 'B2'")
    db.commit()
    repair(gold)
    assert count_differences(db) == 0


def test_a_backfill_in_chunks_covers_everything_once(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    fill(db)
    db.execute("UPDATE gold.driver_events_enriched SET company_name = 'computed by older code'")
    db.commit()
    repairs = repair(gold, max_rows=6)
    assert [done.stale for done in repairs] == [6, 6, 6, 2]
    assert [done.checked for done in repairs] == [6, 6, 6, 2]
    assert count_differences(db) == 0


def test_a_killed_backfill_starts_again_and_writes_only_what_is_left(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    fill(db)
    db.execute("UPDATE gold.driver_events_enriched SET company_name = 'computed by older code'")
    db.commit()
    chunks = reconcile(gold, ENRICHMENT, ALL, max_rows=6)
    assert next(chunks).stale == 6
    gold.commit()
    assert next(chunks).stale == 6
    gold.rollback()
    repairs = repair(gold, max_rows=6)
    assert [done.stale for done in repairs] == [0, 6, 6, 2]
    assert count_differences(db) == 0


def test_a_backfill_can_go_on_behind_a_key(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    fill(db)
    done = reconcile_chunk(gold, ENRICHMENT, ALL, max_rows=6, after="e11")
    assert (done.checked, done.last_key) == (6, "e17")


def test_a_scope_of_items_takes_the_rows_made_of_them_from_either_side(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    fill(db)
    other = file_id("driver_events", "other.csv", 1)
    put_events(db, {"e50": "B3", "e51": None}, file=other)
    drain(db)
    db.execute("UPDATE gold.driver_events_enriched SET event_type = 'damaged'")
    db.commit()
    [done] = repair(gold, Scope(file_ids=(other,)))
    assert (done.checked, done.stale) == (2, 2)
    [done] = repair(gold, Scope(file_ids=(COMPANIES_FILE,)))
    assert (done.checked, done.stale) == (15, 15)
    assert db.execute("SELECT DISTINCT company_id FROM gold.driver_events_enriched WHERE event_type = 'damaged'").fetchall() == [("B3",)]


def test_a_scope_of_a_dataset_takes_the_rows_made_of_its_items_from_either_side(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    fill(db)
    other = file_id("driver_events", "other.csv", 1)
    put_events(db, {"e50": "B3", "e51": None}, file=other)
    drain(db)
    for item, source, dataset in ((other, "driver_events", "uber_2015"), (COMPANIES_FILE, "companies", "bases")):
        db.execute(
            """INSERT INTO ops.file_ingestions (file_id, source_type, external_id, revision, dataset, bronze_bytes)
                VALUES (%s, %s, %s, 9, %s, 70) ON CONFLICT (file_id) DO UPDATE SET dataset = excluded.dataset""",
            (item, source, dataset, dataset),
        )
    db.execute("UPDATE gold.driver_events_enriched SET event_type = 'damaged'")
    db.commit()
    assert measure(gold, ENRICHMENT, Scope(dataset="uber*")) == Extent(items=1, bytes=70, rows=2, uncounted_items=0)
    assert measure(gold, ENRICHMENT, Scope(dataset="bases")).rows == 15
    assert measure(gold, ENRICHMENT, ALL).rows == 22
    [done] = repair(gold, Scope(dataset="uber*"))
    assert (done.checked, done.stale) == (2, 2)
    [done] = repair(gold, Scope(dataset="bas?s"))
    assert (done.checked, done.stale) == (15, 15)


def test_a_scope_since_an_instant_takes_what_was_fetched_from_then_on(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    fill(db)
    later = FETCHED_AT + timedelta(days=1)
    put_events(db, {"e50": "B3"}, fetched_at=later)
    put_companies(db, {"B0": "Company 0"}, fetched_at=later)
    drain(db)
    db.execute("UPDATE gold.driver_events_enriched SET event_type = 'damaged'")
    db.commit()
    assert sum(done.stale for done in repair(gold, Scope(since=later), max_rows=4)) == 6
    rows = db.execute("SELECT event_id, company_id FROM gold.driver_events_enriched WHERE event_type <> 'damaged'").fetchall()
    assert {company for _, company in rows} == {"B0", "B3"}


def test_a_gold_table_made_empty_is_filled_by_the_feed(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    fill(db)
    gold.execute("DELETE FROM gold.driver_events_enriched")
    gold.commit()
    drain(gold)
    assert len(read_gold(db)) == 20
    assert count_differences(db) == 0
