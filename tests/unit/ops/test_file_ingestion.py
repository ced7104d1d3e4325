"""The life of one ledger row: transitions, back-off and microbatches, without a database."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.core.retry import LONGEST, retry_delay
from medallion_defs.core.sections import SourceSettings
from medallion_defs.ops.endings import MESSAGE_CHARACTERS, WORKER_DIED, Ending, describe_error
from medallion_defs.ops.file_ingestion import DatasetIngestion, GoldResult, RowCounts
from medallion_defs.ops.microbatches import plan_batches
from tests.integration.bronze_items import NOON, make_item, make_row

SETTINGS = SourceSettings(max_attempts=3, retry_seconds=30)
COUNTS = RowCounts(read=10, created=4, updated=3, unchanged=1, duplicate=1, rejected=1)


def running(attempt: int = 1) -> DatasetIngestion:
    row = make_row("a.csv").claimed("b1", NOON)
    for _ in range(attempt):
        row = row.started("run-1", "v1", NOON)
    return row


def test_a_published_item_waits_for_a_microbatch() -> None:
    item = msgspec.structs.replace(make_item("a.csv", size=7), run_id="run-0", from_date=date(2026, 4, 1), to_date=date(2026, 4, 30))
    row = DatasetIngestion.published(item, NOON, started_at=NOON - timedelta(minutes=1))
    assert row.status == "pending"
    assert (row.file_id, row.bronze_path, row.bronze_bytes, row.run_id) == (item.file_id, "driver_events/a.csv", 7, "run-0")
    assert (row.bronze_from_date, row.bronze_to_date) == (date(2026, 4, 1), date(2026, 4, 30))
    assert (row.bronze_ingest_start_time, row.bronze_ingest_end_time) == (NOON - timedelta(minutes=1), item.fetched_at)


@pytest.mark.parametrize(
    "change",
    [
        {"filename": "a\x00b"}, {"revision": 0}, {"revision": 2**31}, {"fetched_at": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"artifacts": make_item("a.csv", size=-1).artifacts}, {"artifacts": make_item("a.csv", size=2**63).artifacts},
    ],
    ids=["nul", "revision 0", "huge revision", "no time zone", "fewer bytes than none", "too many bytes"],
)  # fmt: skip
def test_an_item_that_no_ledger_can_hold_is_refused_by_name(change: dict[str, object]) -> None:
    with pytest.raises(TerminalError, match=r"driver_events/a\.csv"):
        DatasetIngestion.published(msgspec.structs.replace(make_item("a.csv"), **change), NOON)


def test_an_item_of_no_bytes_is_registered() -> None:
    assert DatasetIngestion.published(make_item("a.csv", size=0), NOON).bronze_bytes == 0


def test_a_refused_file_has_revision_0_and_says_why_even_when_its_name_is_no_utf8() -> None:
    row = DatasetIngestion.refused("driver_events", "bad\udcff.csv", "bad\udcff.csv", TerminalError("a symlink"), NOON)
    assert (row.status, row.revision, row.bronze_error, row.external_id) == ("refused", 0, "a symlink", "bad\\udcff.csv")
    assert row.file_id != make_item("bad\\udcff.csv").file_id


def test_a_finished_item_is_loaded_with_counts_and_flags() -> None:
    row = running().finished("driver_events", COUNTS, {"speed_out_of_range": 2}, NOON)
    assert (row.status, row.silver_rows_read, row.silver_rows_rejected) == ("loaded", 10, 1)
    assert (row.bronze_rows, row.silver_quality_flags, row.silver_can_promote) == (10, {"speed_out_of_range": 2}, True)


def test_invariant_6_counts_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(TerminalError, match="lost count"):
        running().finished("driver_events", msgspec.structs.replace(COUNTS, read=11), {}, NOON)


def test_a_transient_failure_is_retried_with_growing_waits_and_then_dead() -> None:
    first = running(1).failed(TransientError("no connection"), NOON, SETTINGS)
    second = running(2).failed(TransientError("no connection"), NOON, SETTINGS)
    third = running(3).failed(TransientError("no connection"), NOON, SETTINGS)
    assert [row.status for row in (first, second, third)] == ["retrying", "retrying", "dead"]
    assert first.retry_at == NOON + timedelta(seconds=30)
    assert second.retry_at == NOON + timedelta(seconds=60)
    assert third.silver_errors == {"error_type": "TransientError", "message": "no connection"}


def test_a_terminal_failure_is_not_tried_again() -> None:
    assert running().failed(TerminalError("not a CSV"), NOON, SETTINGS).status == "dead"


def test_an_item_whose_worker_died_says_so_and_is_retried_until_its_attempts_are_used_up() -> None:
    alone = Ending("died", items=1, run_id="run-1")
    first, last = running(1).released(NOON, SETTINGS, alone), running(3).released(NOON, SETTINGS, alone)
    assert (first.status, first.batch_id, first.attempts) == ("retrying", None, 1)
    assert (last.status, last.attempts) == ("dead", 3)
    assert last.silver_errors is not None
    assert "Run run-1 died and left no word why, and this item was its only one" in last.silver_errors["message"]


@pytest.mark.parametrize("attempt", [1, 3])
def test_of_several_items_whose_run_died_none_is_charged_and_they_come_back_in_halves(attempt: int) -> None:
    row = running(attempt).released(NOON, SETTINGS, Ending("died", items=5, run_id="run-1"))
    assert (row.status, row.attempts, row.retry_at) == ("retrying", attempt - 1, NOON + timedelta(seconds=30))
    assert row.silver_errors is not None
    assert row.silver_errors["together"] == "3"
    assert "Which of them did it is not known, so no attempt is counted" in row.silver_errors["message"]


@pytest.mark.parametrize("items", [1, 5])
def test_a_person_who_cancels_costs_nothing_is_named_and_the_item_says_when_it_comes_again(items: int) -> None:
    row = running(3).released(NOON, SETTINGS, Ending("canceled", items=items, run_id="run-1"))
    assert (row.status, row.attempts, row.retry_at) == ("retrying", 2, NOON + timedelta(seconds=30))
    assert row.silver_errors is not None
    assert row.silver_errors["message"] == (
        "A person cancelled run run-1 in Dagster before it came to the end of this item. "
        "No attempt is counted; it is asked for again at 2026-05-01 12:00:30 UTC."
    )


def test_a_stop_of_medallion_costs_nothing_and_the_item_waits_for_nothing() -> None:
    row = running(3).released(NOON, SETTINGS, Ending("stopped", items=1))
    assert (row.status, row.attempts, row.silver_errors, row.batch_id) == ("pending", 2, None, None)


def test_a_run_that_took_too_long_is_halved_and_charges_an_item_that_is_alone() -> None:
    several = running(1).released(NOON, SETTINGS, Ending("overtime", items=2, run_id="run-1"))
    alone = running(1).released(NOON, SETTINGS, Ending("overtime", items=1, run_id="run-1"))
    assert (several.attempts, alone.attempts) == (0, 1)
    assert alone.silver_errors is not None
    assert "took longer than runs may" in alone.silver_errors["message"]
    unstarted = make_row("a.csv").claimed("b1", NOON).released(NOON, SETTINGS, Ending("overtime", items=1, run_id="run-1"))
    assert unstarted.silver_errors == alone.silver_errors


def test_an_item_whose_run_never_started_waits_but_spends_no_attempt() -> None:
    row = make_row("a.csv").claimed("b1", NOON).released(NOON, SETTINGS, Ending("died", run_id="run-1"))
    assert (row.status, row.attempts) == ("retrying", 0)
    assert row.silver_errors is not None
    assert row.silver_errors["error_type"] != WORKER_DIED


def test_a_requeued_item_has_all_its_attempts_and_no_trace_of_the_last() -> None:
    row = running(3).failed(TransientError("x"), NOON, SETTINGS).requeued(NOON)
    assert (row.status, row.attempts, row.silver_errors, row.batch_id) == ("pending", 0, None, None)


def test_an_attempt_is_ours_only_in_the_same_batch_and_the_same_attempt() -> None:
    mine = running(1)
    outcome = mine.finished("driver_events", COUNTS, {}, NOON)
    assert mine.is_held_by(outcome)
    assert not mine.started("run-2", "v1", NOON).is_held_by(outcome)
    assert not any(msgspec.structs.replace(mine, batch_id=other).is_held_by(outcome) for other in ("b0", "b2"))
    assert not outcome.is_held_by(outcome)


def test_gold_adds_up_what_its_runs_made_of_a_file() -> None:
    result = GoldResult(
        file_id=make_item("a.csv").file_id, run_id="g1", object_type="table", tablename="driver_events_enriched",
        started_at=NOON, ended_at=NOON, created=5, updated=1,
    )  # fmt: skip
    row = make_row("a.csv").gold_finished(result).gold_finished(msgspec.structs.replace(result, run_id="g2", error=TerminalError("x")))
    assert (row.gold_rows_created, row.gold_rows_updated, row.gold_run_id) == (10, 2, "g2")
    assert row.gold_errors == {"error_type": "TerminalError", "message": "x"}


@given(st.integers(0, 10_000), st.floats(0, 1e6))
def test_a_wait_never_shrinks_and_never_passes_the_cap(attempts: int, seconds: float) -> None:
    assert timedelta(0) <= retry_delay(attempts, seconds) <= retry_delay(attempts + 1, seconds) <= LONGEST


def test_an_error_text_is_cut_and_holds_nothing_that_postgres_refuses() -> None:
    text = describe_error(ValueError("\x00\udc80" + "x" * 10_000))["message"]
    assert len(text) == MESSAGE_CHARACTERS
    assert text.startswith("␀\\udc80x")


# -- microbatches ------------------------------------------------------------------------------------------------------


@dataclass
class Limits:
    items: int
    bytes: int


@example(sizes=[0, 5, 1], limits=Limits(6, 5), room=2)
@given(
    sizes=st.lists(st.integers(0, 50), max_size=40),
    limits=st.builds(Limits, st.integers(1, 6), st.integers(1, 60)),
    room=st.integers(1, 5),
)
def test_batches_keep_to_their_limits_lose_nothing_and_take_the_oldest_first(sizes: list[int], limits: Limits, room: int) -> None:
    settings = SourceSettings(max_items=limits.items, max_bytes=limits.bytes)
    rows = [make_row(f"{n}.csv", NOON + timedelta(seconds=n), size=size) for n, size in enumerate(sizes)]
    batches = plan_batches(reversed(rows), settings, room)
    taken = [row for batch in batches for row in batch]
    assert taken == rows[: len(taken)]
    assert len(batches) == room or len(taken) == len(rows)
    for batch in batches:
        assert len(batch) <= limits.items
        assert len(batch) == 1 or sum(row.bronze_bytes or 0 for row in batch) <= limits.bytes


def test_one_poison_item_does_not_take_its_499_neighbours_down_with_it() -> None:
    settings = SourceSettings(max_items=500, max_attempts=3, retry_seconds=0)
    waiting = [make_row(f"{n}.csv", NOON + timedelta(seconds=n)) for n in range(500)]
    deaths = 0
    loaded: list[DatasetIngestion] = []
    dead: list[DatasetIngestion] = []
    while waiting:
        batches = plan_batches(waiting, settings, room=1_000)
        waiting = []
        for batch in batches:
            started = [row.claimed("b", NOON).started("r", "v1", NOON) for row in batch]
            if any(row.external_id == "250.csv" for row in started):
                deaths += 1
                ended = [row.released(NOON, settings, Ending("died", items=len(started), run_id="r")) for row in started]
                waiting += [row for row in ended if row.status == "retrying"]
                dead += [row for row in ended if row.status == "dead"]
            else:
                loaded += started
    assert [row.external_id for row in dead] == ["250.csv"]
    assert len(loaded) == 499
    assert {row.attempts for row in loaded} == {1}  # the others were charged for none of its deaths
    assert deaths == 9 + 3  # nine halvings of 500, then its own three attempts
