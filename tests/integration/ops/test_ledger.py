"""The ledger against a real Postgres: what is registered, claimed, started, saved, released and requeued, alone and at once."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medallion_defs.core.code_version import CodeVersions
from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.core.sections import SourceSettings
from medallion_defs.ops.endings import Ending
from medallion_defs.ops.file_ingestion import DatasetIngestion, GoldResult, RowCounts
from medallion_defs.ops.lateness import SourceFacts, read_source_facts
from medallion_defs.ops.ledger import BatchInUseError, Ledger
from medallion_defs.ops.ledger_values import Batch, Extent, LedgerFilter
from medallion_defs.ops.scope import Scope
from tests.integration.bronze_items import NOON, SOURCE, make_item, make_row

SETTINGS = SourceSettings(max_items=10, max_in_flight=2, max_attempts=3, retry_seconds=30)
COUNTS = RowCounts(read=2, created=1, rejected=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def ledger(db: psycopg.Connection) -> Ledger:
    return Ledger(db)


@pytest.fixture
def open_ledger(database_url: str) -> Iterator[Callable[[], tuple[psycopg.Connection, Ledger]]]:
    """Open further sessions on the database of the test."""
    opened: list[psycopg.Connection] = []

    def open_one() -> tuple[psycopg.Connection, Ledger]:
        opened.append(psycopg.connect(database_url))
        return opened[-1], Ledger(opened[-1])

    yield open_one
    for connection in opened:
        connection.close()


def register(db: psycopg.Connection, *names: str, size: int = 10) -> None:
    Ledger(db).register_published(make_row(name, NOON + timedelta(seconds=n), size=size) for n, name in enumerate(names))
    db.commit()


def claim(db: psycopg.Connection, settings: SourceSettings = SETTINGS, at: datetime = NOON, code_version: str = "v1") -> list[Batch]:
    batches = Ledger(db).claim(SOURCE, settings, code_version, at)
    db.commit()
    return batches


def start(db: psycopg.Connection, batch: Batch, code_version: str = "v1", run_id: str = "run-1") -> list[DatasetIngestion]:
    return Ledger(db).start_batch(batch.batch_id, run_id, code_version, SETTINGS, NOON)


def statuses(db: psycopg.Connection) -> dict[str, str]:
    rows = db.execute("SELECT external_id, status FROM ops.file_ingestions ORDER BY external_id").fetchall()
    db.commit()
    return {str(name): str(status) for name, status in rows}


def load_all(db: psycopg.Connection, at: datetime = NOON) -> None:
    for batch in claim(db):
        items = start(db, batch)
        Ledger(db).save(item.finished(SOURCE, COUNTS, {}, at) for item in items)
        Ledger(db).leave_batch(batch.batch_id)
        db.commit()


# -- registration ------------------------------------------------------------------------------------------------------


def test_a_row_comes_back_as_it_was_registered(db: psycopg.Connection, ledger: Ledger) -> None:
    row = make_row("a.csv")
    assert ledger.register_published([row]) == 1
    assert ledger.find_row(row.file_id) == row
    assert ledger.find_row("driver_events/a.csv") == row
    assert ledger.find_row("driver_events/b.csv") is None


def test_registering_again_changes_nothing_and_says_so(db: psycopg.Connection, ledger: Ledger) -> None:
    register(db, "a.csv")
    load_all(db)
    before = ledger.find_row(make_item("a.csv").file_id)
    assert ledger.register_published([make_row("a.csv", NOON + HOUR), make_row("b.csv")]) == 1
    assert ledger.find_row(make_item("a.csv").file_id) == before


def test_a_refusal_is_refreshed_and_settled_when_the_file_is_published(db: psycopg.Connection, ledger: Ledger) -> None:
    for n, reason in enumerate(("a symlink", "too large")):
        ledger.register_refused([DatasetIngestion.refused(SOURCE, "a.csv", "a.csv", TerminalError(reason), NOON + n * HOUR)])
    [row] = ledger.list_rows(LedgerFilter(statuses=("refused",))).rows
    assert (row.bronze_error, row.bronze_ingest_end_time) == ("too large", NOON + HOUR)
    published = DatasetIngestion.published(make_item("a.csv", fetched_at=NOON + 2 * HOUR), NOON)
    ledger.register_published([published])
    assert statuses(db) == {"a.csv": "pending"}


def test_a_refusal_that_is_younger_than_the_published_revision_stands(db: psycopg.Connection, ledger: Ledger) -> None:
    ledger.register_refused([DatasetIngestion.refused(SOURCE, "a.csv", "a.csv", TerminalError("too large"), NOON + HOUR)])
    ledger.register_published([make_row("a.csv")])
    assert {row.status for row in ledger.list_rows(LedgerFilter()).rows} == {"refused", "pending"}


def test_the_known_directories_are_those_of_one_source_only(db: psycopg.Connection, ledger: Ledger) -> None:
    ledger.register_published([make_row("a"), make_row("a", revision=2), make_row("b", source_type="driver_events2")])
    ledger.register_published([make_row("c", source_type="driver"), make_row("d", source_type="driver_events-eu"), make_row("Ω~")])
    assert ledger.known_directories(SOURCE) == {"a", "a@2", "Ω~"}
    assert ledger.unknown_paths(["driver_events/a", "driver_events/z"]) == {"driver_events/z"}


def test_an_incremental_source_goes_on_at_its_highest_day(db: psycopg.Connection, ledger: Ledger) -> None:
    assert ledger.next_from_date(SOURCE) is None
    days = (NOON.date(), NOON.date() + timedelta(days=3), None)
    rows = [msgspec.structs.replace(make_row(f"{n}"), bronze_to_date=day) for n, day in enumerate(days)]
    ledger.register_published(rows)
    assert ledger.next_from_date(SOURCE) == NOON.date() + timedelta(days=3)


# -- claiming ----------------------------------------------------------------------------------------------------------


def test_a_claim_takes_the_oldest_and_keeps_to_the_batches_in_flight(db: psycopg.Connection) -> None:
    register(db, *(f"{n:02}.csv" for n in range(35)))
    batches = claim(db)
    assert [(batch.items, batch.bytes) for batch in batches] == [(10, 100), (10, 100)]
    assert [name for name, status in statuses(db).items() if status == "claimed"] == [f"{n:02}.csv" for n in range(20)]
    assert claim(db) == []
    assert claim(db, settings_with(max_in_flight=1)) == []  # lowered meanwhile
    assert [batch.batch_id for batch in Ledger(db).open_batches(SOURCE)] == sorted(batch.batch_id for batch in batches)


def test_an_item_above_max_bytes_goes_alone(db: psycopg.Connection) -> None:
    register(db, "a.csv", "b.csv", size=1_000)
    settings = settings_with(max_bytes=500)
    assert [batch.items for batch in claim(db, settings)] == [1, 1]


def test_an_item_that_may_not_be_promoted_is_not_claimed(db: psycopg.Connection, ledger: Ledger) -> None:
    ledger.register_published([msgspec.structs.replace(make_row("a.csv"), bronze_can_promote=False)])
    assert claim(db) == []


def test_a_retry_is_claimed_when_it_is_due_and_not_before(db: psycopg.Connection, ledger: Ledger) -> None:
    register(db, "a.csv")
    fail_once(db, TransientError("busy"))
    assert claim(db, at=NOON + timedelta(seconds=29)) == []
    [batch] = claim(db, at=NOON + timedelta(seconds=30))
    [item] = start(db, batch)
    assert item.attempts == 2


def test_invariant_14_two_ticks_at_once_claim_nothing_twice_and_do_not_flood(
    db: psycopg.Connection, open_ledger: Callable[[], tuple[psycopg.Connection, Ledger]]
) -> None:
    register(db, *(f"{n:03}.csv" for n in range(200)))
    sessions = [open_ledger() for _ in range(4)]
    gate = threading.Barrier(len(sessions))

    def tick(session: tuple[psycopg.Connection, Ledger]) -> list[Batch]:
        connection, ledger = session
        gate.wait()
        batches = ledger.claim(SOURCE, SETTINGS, "v1", NOON)
        connection.commit()
        return batches

    with ThreadPoolExecutor(len(sessions)) as pool:
        for _ in range(10):
            batches = [batch for found in pool.map(tick, sessions) for batch in found]
            assert len(batches) == 2
            taken = db.execute(
                "SELECT batch_id, count(*) FROM ops.file_ingestions WHERE status = 'claimed' GROUP BY 1 ORDER BY 1"
            ).fetchall()
            assert taken == sorted((batch.batch_id, batch.items) for batch in batches)
            for batch in batches:
                Ledger(db).save(item.finished(SOURCE, COUNTS, {}, NOON) for item in started_and_committed(db, batch))
            db.commit()
    assert set(statuses(db).values()) == {"loaded"}


def test_invariant_14_rows_that_another_transaction_holds_are_passed_over(
    db: psycopg.Connection, open_ledger: Callable[[], tuple[psycopg.Connection, Ledger]]
) -> None:
    register(db, "a.csv", "b.csv")
    other, _ = open_ledger()
    db.execute("SET lock_timeout = '10s'")
    other.execute("SELECT FROM ops.file_ingestions WHERE external_id = 'a.csv' FOR UPDATE")
    [batch] = claim(db)
    assert (batch.items, statuses(db)) == (1, {"a.csv": "pending", "b.csv": "claimed"})


# -- attempts ----------------------------------------------------------------------------------------------------------


def test_a_started_attempt_is_counted_even_when_the_worker_dies_at_once(
    db: psycopg.Connection, open_ledger: Callable[[], tuple[psycopg.Connection, Ledger]]
) -> None:
    register(db, "a.csv")
    [batch] = claim(db)
    worker, ledger = open_ledger()
    ledger.start_batch(batch.batch_id, "run-1", "v1", SETTINGS, NOON)
    worker.close()
    [released] = release(db, batch)
    assert (released.status, released.attempts, released.batch_id) == ("retrying", 1, None)


def test_invariant_14_a_batch_in_two_runs_at_once_is_worked_on_once(
    db: psycopg.Connection, open_ledger: Callable[[], tuple[psycopg.Connection, Ledger]]
) -> None:
    register(db, "a.csv")
    [batch] = claim(db)
    first, _ = open_ledger()
    second, _ = open_ledger()
    [item] = start(first, batch)
    with pytest.raises(BatchInUseError):
        start(second, batch, run_id="run-2")
    with pytest.raises(BatchInUseError):
        Ledger(second).release_batch(batch.batch_id, SETTINGS, NOON, Ending("died"))
    second.rollback()
    row = Ledger(db).find_row(item.file_id)
    assert row is not None
    assert (row.attempts, row.silver_run_id) == (1, "run-1")
    db.commit()

    assert Ledger(first).save([item.finished(SOURCE, COUNTS, {}, NOON)]) == {item.file_id}
    first.commit()
    Ledger(first).leave_batch(batch.batch_id)
    assert start(second, batch, run_id="run-2") == []
    assert statuses(db) == {"a.csv": "loaded"}


def test_invariant_14_a_worker_that_lost_its_items_cannot_overwrite_what_came_of_them(db: psycopg.Connection) -> None:
    register(db, "a.csv", "b.csv")
    [batch] = claim(db)
    stale = start(db, batch)
    Ledger(db).leave_batch(batch.batch_id)
    release(db, batch)
    fresh = [item for again in claim(db, at=NOON + HOUR) for item in start(db, again)]
    assert Ledger(db).save(item.failed(TransientError("late"), NOON, SETTINGS) for item in stale) == set()
    assert len(Ledger(db).save(item.finished(SOURCE, COUNTS, {}, NOON) for item in fresh)) == 2
    assert statuses(db) == {"a.csv": "loaded", "b.csv": "loaded"}


def test_one_failed_item_does_not_fail_its_batch(db: psycopg.Connection) -> None:
    register(db, "a.csv", "b.csv")
    [batch] = claim(db)
    good, bad = start(db, batch)
    Ledger(db).save([good.finished(SOURCE, COUNTS, {"late": 1}, NOON), bad.failed(TransientError("nul \x00"), NOON, SETTINGS)])
    assert sorted(statuses(db).values()) == ["loaded", "retrying"]
    assert Ledger(db).open_batches(SOURCE) == []
    assert Ledger(db).find_row(good.file_id) == good.finished(SOURCE, COUNTS, {"late": 1}, NOON)


def test_a_batch_whose_run_never_started_is_released_and_tried_again(db: psycopg.Connection) -> None:
    register(db, "a.csv")
    [batch] = claim(db)
    release(db, batch)
    assert claim(db) == []
    [again] = claim(db, at=NOON + HOUR)
    [item] = start(db, again)
    assert item.attempts == 1


def test_a_batch_is_not_started_inside_a_transaction_that_could_roll_the_attempt_back(db: psycopg.Connection) -> None:
    db.execute("SELECT 1")
    with pytest.raises(TerminalError, match="outside of any transaction"):
        Ledger(db).start_batch("b", "r", "v1", SETTINGS, NOON)


def test_claiming_without_a_transaction_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection, pytest.raises(TerminalError, match="need a transaction"):
        Ledger(connection).claim(SOURCE, SETTINGS, "v1", NOON)


def test_invariant_8_a_deterministic_failure_uses_at_most_max_attempts_and_new_code_arms_exactly_the_affected(
    db: psycopg.Connection,
) -> None:
    register(db, "bad.csv", "good.csv", "worse.csv")
    tries: dict[str, int] = {}
    now = NOON

    def run_for_a_day(code_version: str, bad: set[str]) -> None:
        nonlocal now
        for _ in range(24):
            now += HOUR
            for batch in claim(db, at=now, code_version=code_version):
                items = start(db, batch, code_version)
                for item in items:
                    tries[item.external_id] = tries.get(item.external_id, 0) + 1
                Ledger(db).save(
                    item.failed(RuntimeError("boom"), now, SETTINGS) if item.external_id in bad else item.finished(SOURCE, COUNTS, {}, now)
                    for item in items
                )
                db.commit()

    run_for_a_day("v1", {"bad.csv", "worse.csv"})
    assert tries == {"bad.csv": 3, "good.csv": 1, "worse.csv": 3}
    run_for_a_day("v1", {"bad.csv", "worse.csv"})
    assert tries == {"bad.csv": 3, "good.csv": 1, "worse.csv": 3}
    run_for_a_day("v2", {"worse.csv"})
    assert tries == {"bad.csv": 4, "good.csv": 1, "worse.csv": 6}
    assert statuses(db) == {"bad.csv": "loaded", "good.csv": "loaded", "worse.csv": "dead"}


def test_invariant_8_a_new_recipe_arms_the_failed_files_that_it_takes_and_no_other(db: psycopg.Connection) -> None:
    register(db, "fleet_1.csv", "other.csv", "strange.pdf")

    def fail_all(code: CodeVersions) -> set[str]:
        """Return what is tried with this code; all of it fails for good."""
        tried: set[str] = set()
        while batches := Ledger(db).claim(SOURCE, SETTINGS, code, NOON):
            db.commit()
            for batch in batches:
                items = Ledger(db).start_batch(batch.batch_id, "run", code, SETTINGS, NOON)
                tried |= {item.external_id for item in items}
                Ledger(db).save(item.failed(TerminalError("no"), NOON, SETTINGS) for item in items)
                Ledger(db).leave_batch(batch.batch_id)
                db.commit()
        db.commit()
        return tried

    old = CodeVersions((("*.csv", "a1"),), otherwise="00")
    assert fail_all(old) == {"fleet_1.csv", "other.csv", "strange.pdf"}
    assert fail_all(old) == set()
    # The old recipe is as it was; one that is asked before it takes a part of its files.
    more = CodeVersions((("fleet_*.csv", "b1"), *old.by_pattern), otherwise="00")
    assert fail_all(more) == {"fleet_1.csv"}
    assert fail_all(more) == set()
    assert fail_all(CodeVersions((("fleet_*.csv", "b1"), ("*.csv", "a2"), ("*.pdf", "c1")), otherwise="00")) == {"other.csv", "strange.pdf"}


def test_invariant_8_a_run_that_is_started_again_and_again_does_not_pass_the_cap(
    db: psycopg.Connection, open_ledger: Callable[[], tuple[psycopg.Connection, Ledger]]
) -> None:
    register(db, "poison.csv")
    [batch] = claim(db)
    tried = 0
    for _ in range(6):
        worker, _ = open_ledger()
        tried += len(start(worker, batch))
        worker.close()
        wait_for_free_batch(db, batch)
    assert tried == SETTINGS.max_attempts
    assert statuses(db) == {"poison.csv": "dead"}


# -- requeue and reprocessing ------------------------------------------------------------------------------------------


def test_requeue_takes_the_dead_by_glob_and_leaves_the_rest(db: psycopg.Connection, ledger: Ledger) -> None:
    register(db, "a_1.csv", "a_2.csv", "ab1.csv", "b.csv")
    fail_once(db, TerminalError("not a CSV"))
    register(db, "new.csv")
    assert ledger.requeue(LedgerFilter(source_type=SOURCE, external_id="a_*.csv"), NOON) == 2
    assert statuses(db) == {"a_1.csv": "pending", "a_2.csv": "pending", "ab1.csv": "dead", "b.csv": "dead", "new.csv": "pending"}
    [row] = ledger.list_rows(LedgerFilter(external_id="a_1.csv")).rows
    assert (row.attempts, row.silver_errors, row.batch_id) == (0, None, None)


def test_requeue_never_touches_what_a_run_works_on(db: psycopg.Connection, ledger: Ledger) -> None:
    register(db, "a.csv")
    [batch] = claim(db)
    [item] = start(db, batch)
    assert ledger.requeue(LedgerFilter(file_ids=(item.file_id,), statuses=("claimed", "dead", "loaded")), NOON) == 0
    assert ledger.save([item.finished(SOURCE, COUNTS, {}, NOON)]) == {item.file_id}
    assert ledger.requeue(LedgerFilter(file_ids=(item.file_id,)), NOON) == 0
    assert ledger.requeue(LedgerFilter(file_ids=(item.file_id,), statuses=("loaded",)), NOON) == 1


def test_reprocessing_walks_once_through_history_and_goes_on_after_a_crash(db: psycopg.Connection, ledger: Ledger) -> None:
    register(db, *(f"{n:02}.csv" for n in range(20)))
    load_all(db)
    before, later = NOON + HOUR, NOON + 2 * HOUR
    assert ledger.count_done(SOURCE, Scope(), before) == Extent(items=20, bytes=200, rows=20 * COUNTS.read, uncounted_items=0)
    settings = settings_with(max_items=8)
    seen: list[str] = []
    while batch := ledger.claim_done(SOURCE, Scope(), before, settings, later):
        db.commit()
        items = start(db, batch)
        assert [item.attempts for item in items] == [1] * len(items)
        if not seen:
            release_later = batch
            seen.append("crashed")
            Ledger(db).leave_batch(batch.batch_id)
            db.commit()
            continue
        seen += [item.external_id for item in items]
        ledger.save(item.finished(SOURCE, COUNTS, {}, later) for item in items[1:])
        ledger.save([items[0].failed(TransientError("busy"), later, SETTINGS)])
        db.commit()
    assert len(seen) == 1 + 12
    assert len(set(seen)) == len(seen)
    db.commit()
    assert len(ledger.release_batch(release_later.batch_id, SETTINGS, later, Ending("died"))) == 8
    assert sorted(statuses(db).values()) == ["loaded"] * 10 + ["retrying"] * 10


def test_reprocessing_can_be_narrowed_by_time_and_by_file(db: psycopg.Connection, ledger: Ledger) -> None:
    old, young = make_item("old.csv"), make_item("young.csv", fetched_at=NOON + HOUR)
    ledger.register_published([DatasetIngestion.published(item, NOON) for item in (old, young)])
    db.commit()
    load_all(db)
    assert ledger.count_done(SOURCE, Scope(since=NOON + HOUR), NOON + HOUR).items == 1
    assert ledger.count_done(SOURCE, Scope(file_ids=(old.file_id,)), NOON + HOUR).items == 1
    batch = ledger.claim_done(SOURCE, Scope(since=NOON + HOUR), NOON + HOUR, SETTINGS, NOON + HOUR)
    assert batch is not None
    assert statuses(db) == {"old.csv": "loaded", "young.csv": "claimed"}


def test_reprocessing_can_be_narrowed_by_dataset_and_by_code_version(db: psycopg.Connection, ledger: Ledger) -> None:
    register(db, "a.csv", "b.csv", "c.csv")
    load_all(db)
    db.execute("UPDATE ops.file_ingestions SET dataset = 'fhv_dispatch' WHERE external_id IN ('a.csv', 'b.csv')")
    db.execute("UPDATE ops.file_ingestions SET dataset = 'fhvxdispatch', code_version = 'v0' WHERE external_id = 'c.csv'")
    db.commit()
    for scope, items in ((Scope(dataset="fhv_*"), 2), (Scope(dataset="*dispatch"), 3), (Scope(current_code=CodeVersions((), "v1")), 1)):
        assert ledger.count_done(SOURCE, scope, NOON + HOUR).items == items
    assert ledger.claim_done(SOURCE, Scope(current_code=CodeVersions((), "v1")), NOON + HOUR, SETTINGS, NOON + HOUR) is not None
    assert statuses(db) == {"a.csv": "loaded", "b.csv": "loaded", "c.csv": "claimed"}


def test_an_item_is_claimed_alone_whatever_became_of_it(db: psycopg.Connection, ledger: Ledger) -> None:
    register(db, "a.csv", "b.csv")
    load_all(db)
    batch = ledger.claim_item(make_row("a.csv").file_id, NOON + HOUR)
    [claimed] = ledger.open_batches(SOURCE)
    assert (claimed.batch_id, claimed.items, claimed.is_backfill) == (batch.batch_id, 1, True)
    assert statuses(db) == {"a.csv": "claimed", "b.csv": "loaded"}
    with pytest.raises(TerminalError, match="The ledger has no item"):
        ledger.claim_item(make_row("c.csv").file_id, NOON + HOUR)


def test_a_backfill_never_takes_the_room_of_what_arrives(db: psycopg.Connection, ledger: Ledger) -> None:
    settings = settings_with(max_items=1, max_in_flight=1)
    register(db, "a.csv", "b.csv", "c.csv")
    load_all(db)
    again = [ledger.claim_done(SOURCE, Scope(), NOON + HOUR, settings, NOON + HOUR) for _ in range(3)]
    db.commit()
    register(db, "d.csv", "e.csv")
    [arrived] = claim(db, settings)
    assert claim(db, settings) == []  # what arrives is bounded as ever
    is_backfill = {batch.batch_id: batch.is_backfill for batch in ledger.open_batches(SOURCE)}
    assert is_backfill == {**{batch.batch_id: True for batch in again if batch}, arrived.batch_id: False}


# -- gold and reading --------------------------------------------------------------------------------------------------


def test_gold_and_silver_do_not_overwrite_each_others_columns(db: psycopg.Connection, ledger: Ledger) -> None:
    register(db, "a.csv")
    [batch] = claim(db)
    [item] = start(db, batch)
    result = GoldResult(
        file_id=item.file_id, run_id="g1", object_type="table", tablename="driver_events_enriched",
        started_at=NOON, ended_at=NOON, created=5, updated=2,
    )  # fmt: skip
    ledger.save_gold([result])
    ledger.save([item.finished(SOURCE, COUNTS, {}, NOON)])
    ledger.save_gold([result])
    row = ledger.find_row(item.file_id)
    assert row is not None
    assert (row.status, row.gold_rows_created, row.gold_rows_updated) == ("loaded", 10, 4)


def test_pages_show_every_row_once(db: psycopg.Connection, ledger: Ledger) -> None:
    ledger.register_published(make_row(f"{n}.csv") for n in range(25))
    page, names = ledger.list_rows(LedgerFilter(source_type=SOURCE), limit=10), []
    while True:
        names += [row.external_id for row in page.rows]
        if page.next is None:
            break
        page = ledger.list_rows(LedgerFilter(source_type=SOURCE), limit=10, after=page.next)
    assert len(names) == 25
    assert len(set(names)) == 25


def test_counts_and_lag_say_what_waits(db: psycopg.Connection, ledger: Ledger) -> None:
    register(db, "a.csv", "b.csv")
    load_all(db)
    ledger.register_published([make_row("c.csv", NOON + HOUR)])
    ledger.register_refused([DatasetIngestion.refused(SOURCE, "d", "d", TerminalError("a symlink"), NOON)])
    assert [(count.status, count.items, count.bytes) for count in ledger.count_by_status()] == [
        ("loaded", 2, 20), ("pending", 1, 10), ("refused", 1, 0),
    ]  # fmt: skip
    [facts] = read_source_facts(db, [SOURCE])
    assert facts == SourceFacts(SOURCE, arrived_at=NOON + HOUR, waiting=1, waits_since=NOON + HOUR, dead=0, refused=1)


@given(st.lists(st.sampled_from(["claim", "again", "start", "finish", "fail", "kill", "release", "requeue"]), max_size=12))
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_status_in_python_is_the_status_in_the_database(db: psycopg.Connection, steps: list[str]) -> None:
    moves: dict[str, Callable[[DatasetIngestion], DatasetIngestion]] = {
        "claim": lambda row: row.claimed("b", NOON),
        "again": lambda row: row.claimed_again("b", NOON),
        "start": lambda row: row.started("r", "v1", NOON),
        "finish": lambda row: row.finished(SOURCE, COUNTS, {}, NOON),
        "fail": lambda row: row.failed(TransientError("x"), NOON, SETTINGS),
        "kill": lambda row: row.failed(TerminalError("x"), NOON, SETTINGS),
        "release": lambda row: row.released(NOON, SETTINGS, Ending("died")),
        "requeue": lambda row: row.requeued(NOON),
    }
    row = make_row("a.csv")
    for step in steps:
        row = moves[step](row)
    ledger = Ledger(db)
    with db.transaction(force_rollback=True):
        ledger.register_published([row])
        assert db.execute("SELECT status FROM ops.file_ingestions").fetchall() == [(row.status,)]
        assert ledger.find_row(row.file_id) == row


# -- helpers -----------------------------------------------------------------------------------------------------------


def settings_with(**changes: object) -> SourceSettings:
    return SETTINGS.model_copy(update=changes)


def started_and_committed(db: psycopg.Connection, batch: Batch) -> list[DatasetIngestion]:
    db.commit()
    return start(db, batch)


def release(db: psycopg.Connection, batch: Batch) -> list[DatasetIngestion]:
    wait_for_free_batch(db, batch)
    rows = Ledger(db).release_batch(batch.batch_id, SETTINGS, NOON, Ending("died"))
    db.commit()
    return rows


def fail_once(db: psycopg.Connection, error: Exception) -> None:
    for batch in claim(db):
        items = start(db, batch)
        Ledger(db).save(item.failed(error, NOON, SETTINGS) for item in items)
        Ledger(db).leave_batch(batch.batch_id)
        db.commit()


def wait_for_free_batch(db: psycopg.Connection, batch: Batch) -> None:
    """A closed connection's server process gives its locks back a moment later; wait for that, blocking, in the server."""
    db.execute("SET LOCAL lock_timeout = '20s'")
    db.execute("SELECT pg_advisory_xact_lock(hashtextextended('medallion batch ' || %s, 0))", [batch.batch_id])
    db.commit()
