"""Rows of the ledger whose items are taken away: removed, forgotten, withdrawn."""

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.core.sections import SourceSettings
from medallion_defs.ops.file_ingestion import DatasetIngestion, RowCounts
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.ledger_values import LedgerFilter
from medallion_defs.ops.removal_ledger import RemovalLedger
from medallion_defs.ops.scope import Scope
from medallion_defs.storage.tombstone import bury, bury_forgotten, hashed_id
from tests.integration.bronze_items import NOON, SOURCE, make_item, make_row

SETTINGS = SourceSettings()
LATER = NOON + timedelta(days=1)
RULE = "policy max_age_days 30"
JANE = "jane.csv"


@pytest.fixture
def ledger(db: psycopg.Connection) -> RemovalLedger:
    return RemovalLedger(db)


def load(ledger: Ledger, *names: str) -> None:
    """Register items and finish them, as a load does."""
    ledger.register_published(make_row(name) for name in names)
    for batch in ledger.claim(SOURCE, SETTINGS, "v1", NOON):
        ledger._connection.commit()
        rows = ledger.start_batch(batch.batch_id, "run", "v1", SETTINGS, NOON)
        ledger.save([row.finished("silver.driver_events", RowCounts(read=1, created=1), {}, NOON) for row in rows])
        ledger._connection.commit()
        ledger.leave_batch(batch.batch_id)


def row_of(ledger: Ledger, name: str) -> DatasetIngestion:
    [row] = ledger.list_rows(LedgerFilter(external_id=name)).rows
    return row


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda row: row.removal_begun(RULE, LATER), "loaded"),
        (lambda row: row.removal_begun(RULE, LATER).removal_finished(LATER), "removed"),
        (lambda row: row.removal_begun("forget", LATER).forgotten(LATER), "removed"),
        (lambda row: row.withdrawn("bad", LATER), "withdrawn"),
        (lambda row: row.withdrawn("bad", LATER).reinstated(LATER), "pending"),
        (lambda row: row.withdrawn("bad", LATER).removal_finished(LATER), "removed"),
        (lambda row: row.failed(TerminalError("x"), LATER, SETTINGS).withdrawn("bad", LATER), "withdrawn"),
    ],
)
def test_the_status_of_what_is_taken_away_is_the_same_in_python_and_in_the_database(
    ledger: RemovalLedger, db: psycopg.Connection, change: Callable[[DatasetIngestion], DatasetIngestion], status: str
) -> None:
    load(ledger, "a.csv")
    changed = change(row_of(ledger, "a.csv"))
    ledger._write([changed], DatasetIngestion.__struct_fields__)
    assert changed.status == status
    assert db.execute("SELECT status FROM ops.file_ingestions").fetchall() == [(status,)]
    assert ledger.list_rows(LedgerFilter()).rows == [changed]


def test_a_removal_begins_only_for_what_has_not_moved_since_it_was_seen(ledger: RemovalLedger) -> None:
    load(ledger, "a.csv", "b.csv")
    seen = list(ledger.retained(SOURCE))
    assert len(seen) == 2
    ledger.requeue(LedgerFilter(external_id="b.csv", statuses=("loaded",)), LATER)
    assert [row.external_id for row in ledger.begin_removal(seen, RULE, LATER)] == ["a.csv"]
    assert ledger.begin_removal(seen, RULE, LATER) == []
    assert [row.external_id for row in ledger.begun_removals()] == ["a.csv"]
    assert [item.external_id for item in ledger.retained(SOURCE)] == ["b.csv"]


def test_what_is_about_to_go_is_neither_requeued_nor_processed_again(ledger: RemovalLedger) -> None:
    load(ledger, "a.csv")
    ledger.begin_removal(list(ledger.retained(SOURCE)), RULE, LATER)
    assert ledger.requeue(LedgerFilter(statuses=("loaded",)), LATER) == 0
    assert ledger.claim_done(SOURCE, Scope(), LATER, SETTINGS, LATER) is None
    assert ledger.count_done(SOURCE, Scope(), LATER).items == 0


def test_a_tombstone_marks_a_row_that_is_here_and_makes_one_that_is_not(ledger: RemovalLedger) -> None:
    load(ledger, "a.csv")
    rows = [DatasetIngestion.buried(bury(make_item(name), LATER, RULE), LATER) for name in ("a.csv", "b.csv")]
    assert ledger.register_removed(rows) == 2
    assert ledger.register_removed(rows) == 0
    known, new = row_of(ledger, "a.csv"), row_of(ledger, "b.csv")
    assert (known.status, known.silver_rows_created, known.bronze_removed_by) == ("removed", 1, RULE)
    assert (new.status, new.bronze_removed_at, new.bronze_can_promote) == ("removed", LATER, False)


def test_a_forgotten_row_keeps_its_id_and_counts_and_no_text_of_a_person(ledger: RemovalLedger, db: psycopg.Connection) -> None:
    load(ledger, JANE)
    ledger.register_refused([DatasetIngestion.refused(SOURCE, JANE, JANE, TerminalError("jane"), LATER)])
    before = next(row for row in ledger.rows_of_subject(SOURCE, JANE) if row.revision == 1)
    ledger.begin_forgetting(SOURCE, JANE, LATER)
    ledger.finish_forgetting(SOURCE, JANE, LATER)
    [row] = ledger.rows_of_subject(SOURCE, JANE)
    assert (row.file_id, row.silver_rows_created, row.external_id) == (before.file_id, 1, hashed_id(SOURCE, JANE))
    assert "jane" not in str(db.execute("SELECT to_jsonb(row) FROM ops.file_ingestions AS row").fetchall())
    ledger.finish_forgetting(SOURCE, JANE, LATER)
    assert ledger.rows_of_subject(SOURCE, JANE) == [row]


def test_the_row_of_a_forgotten_item_and_that_of_its_tombstone_name_the_same_directory(ledger: RemovalLedger) -> None:
    item = make_item(JANE, revision=3)
    row = DatasetIngestion.published(item, NOON).forgotten(LATER)
    buried = DatasetIngestion.buried(bury_forgotten(item, LATER), LATER)
    assert (row.file_id, row.bronze_path, row.external_id, row.revision) == (
        buried.file_id, buried.bronze_path, buried.external_id, buried.revision,
    )  # fmt: skip


def test_what_is_in_a_microbatch_is_neither_forgotten_nor_withdrawn(ledger: RemovalLedger) -> None:
    ledger.register_published([make_row(JANE)])
    ledger.claim(SOURCE, SETTINGS, "v1", NOON)
    row = row_of(ledger, JANE)
    with pytest.raises(TransientError, match="is being loaded"):
        ledger.begin_forgetting(SOURCE, JANE, LATER)
    with pytest.raises(TransientError, match="is being loaded"):
        ledger.withdraw(row.file_id, "bad", LATER)
    assert row_of(ledger, JANE) == row


def test_a_removed_item_cannot_be_withdrawn_and_a_loaded_one_not_reinstated(ledger: RemovalLedger) -> None:
    load(ledger, "a.csv", "b.csv")
    gone, here = row_of(ledger, "a.csv").file_id, row_of(ledger, "b.csv").file_id
    ledger.finish_removal([gone], LATER)
    with pytest.raises(TerminalError, match="is removed"):
        ledger.withdraw(gone, "bad", LATER)
    with pytest.raises(TerminalError, match="not withdrawn"):
        ledger.reinstate(here, LATER)
