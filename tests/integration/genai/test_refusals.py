"""What the provider refuses as a whole fails no record; what it refused after taking it is found and not paid twice."""

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from medallion_defs.core import clock
from medallion_defs.core.sections import ModelPrice
from medallion_defs.genai.emulator_faults import CallFault, Faults
from medallion_defs.genai.jobs import read_job
from medallion_defs.genai.limiter import Limiter
from medallion_defs.labeling import runner
from medallion_defs.labeling.models.answers import give_up
from tests.integration.genai.conftest import MODEL, PRICES, Transport, judge_task, parse, run_round
from tests.integration.labeling.notes import outputs, put_notes, states


def plant(transport: Transport, *calls: CallFault, **more: Any) -> None:
    transport.provider.faults = Faults(calls=list(calls), **more)


def with_genai(transport: Transport, **changes: Any) -> None:
    genai = transport.settings.genai.model_copy(update=changes)
    transport.settings = transport.settings.model_copy(update={"genai": genai})


def reserve_notes(notes: psycopg.Connection, transport: Transport, count: int) -> None:
    put_notes(notes, *(f"note {number}" for number in range(count)))
    for batch_id in runner.plan(transport.settings, judge_task()).batch_ids:
        runner.process(transport.settings, judge_task(), batch_id)


def let_time_pass(transport: Transport) -> None:
    transport.connection.execute("UPDATE ops.active_batches SET retry_at = NULL")


def finish(transport: Transport) -> int:
    """Bring home what is at the provider; return the successes."""
    while transport.state.list_batches("active"):
        transport.poll()
    transport.collect()
    return sum(report.success for report in parse(transport, judge_task()))


@pytest.mark.parametrize(("call", "status", "times"), [("create", 400, 2), ("create", 404, 2), ("upload", 400, 1)])
def test_a_refused_batch_waits_with_a_sentence_and_fails_no_record(
    notes: psycopg.Connection, transport: Transport, call: Any, status: int, times: int
) -> None:
    fault = CallFault(call=call, status=status, times=times)
    reserve_notes(notes, transport, 2)
    plant(transport, fault)
    for _ in range(times):
        assert [sent.outcome for sent in transport.send()] == ["waits"]
        let_time_pass(transport)
    [batch] = transport.state.list_batches("reserved")
    assert "No record failed" in str(batch.error)
    assert f"medallion genai cancel {batch.batch_id}" in str(batch.error)
    [(failures,)] = notes.execute("SELECT count(*) FROM ops.failure_counts").fetchall()
    assert (failures, transport.collect()) == (0, [])
    assert [sent.outcome for sent in transport.send()] == ["sent"]
    assert finish(transport) == 2


def test_a_wrong_model_name_fails_no_record(notes: psycopg.Connection, transport: Transport) -> None:
    reserve_notes(notes, transport, 1)
    plant(transport, models=["another"])
    transport.send()
    [batch] = transport.state.list_batches("reserved")
    assert f"models/{MODEL} is not found" in str(batch.error)
    assert f"Check the model ({MODEL})" in str(batch.error)


def test_a_job_that_failed_for_its_model_is_held_and_fails_no_record(notes: psycopg.Connection, transport: Transport) -> None:
    reserve_notes(notes, transport, 2)
    plant(transport, end_state="FAILED", failure=f"models/{MODEL} is not supported for batches.", polls=0)
    transport.send()
    assert "is not supported for batches" in transport.poll().problems[0]
    [batch] = transport.state.list_batches("held")
    assert f"Check the model ({MODEL})" in str(batch.error)
    assert f"medallion genai cancel {batch.batch_id}" in str(batch.error)
    [(failures,)] = notes.execute("SELECT count(*) FROM ops.failure_counts").fetchall()
    assert (failures, transport.collect()) == (0, [])
    assert {status for status, *_ in states(notes, "note.judge").values()} == {"batched"}
    assert give_up(notes, batch) == 0, "a job that failed was not paid for"
    notes.commit()
    plant(transport)
    assert [report.success for report in run_round(transport, judge_task())] == [2]


@pytest.mark.parametrize(
    ("code", "message", "is_of_all"),
    [
        (3, "Line 7: invalid request", False),
        (3, "models/x is not found for API version v1beta", True),
        (5, "not here", True),
        (9, "billing is off", True),
        (13, "internal", False),
        (13, "The model is overloaded", False),
    ],
)
def test_which_failed_jobs_no_record_is_to_blame_for(code: int, message: str, is_of_all: bool) -> None:
    job = {"metadata": {"state": "BATCH_STATE_FAILED"}, "done": True, "error": {"code": code, "message": message}}
    assert read_job(json.dumps(job).encode(), "batches/1").refuses_batch == is_of_all


def test_a_batch_that_is_too_large_is_cut_until_it_fits(notes: psycopg.Connection, transport: Transport) -> None:
    reserve_notes(notes, transport, 5)
    [whole] = transport.state.list_batches("reserved")
    plant(transport, max_requests=2)
    outcomes = [sent.outcome for _ in range(4) for sent in transport.send()]
    assert (outcomes.count("cut"), outcomes.count("sent")) == (2, 3)
    parts = transport.state.list_batches("active")
    assert sorted(part.request_count for part in parts) == [1, 2, 2]
    assert sum(part.reserved_usd for part in parts) == pytest.approx(whole.reserved_usd)
    assert "cut in two" in str(transport.read(whole.batch_id).error)
    assert finish(transport) == 5
    runner.consolidate(transport.settings, judge_task())
    assert len(outputs(notes, "note.judge")) == 5
    assert {(status, attempts) for status, attempts, _ in states(notes, "note.judge").values()} == {("succeeded", 1)}


def test_one_request_that_is_too_large_waits(notes: psycopg.Connection, transport: Transport) -> None:
    reserve_notes(notes, transport, 1)
    plant(transport, max_requests=0)
    assert [sent.outcome for sent in transport.send()] == ["waits"]
    assert "too large" in str(transport.state.list_batches("reserved")[0].error)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 429])
def test_invariant_9_a_job_that_was_made_and_refused_all_the_same_is_adopted(transport: Transport, status: int) -> None:
    transport.reserve("a", "b")
    plant(transport, CallFault(call="create", status=status, after_accept=True, message="Planted", retry_delay="0s"))
    if status == 413:
        transport.connection.execute("UPDATE ops.active_batches SET request_count = 1")
    transport.send()
    let_time_pass(transport)
    transport.connection.execute("DELETE FROM ops.genai_rate_limits")
    assert [sent.outcome for sent in transport.send()] == ["adopted"]
    assert len(transport.provider.jobs) == 1


@pytest.mark.parametrize("cut_names", [0, 20])
def test_invariant_9_a_job_whose_name_was_cut_is_found_by_its_request_file(transport: Transport, cut_names: int) -> None:
    transport.reserve("a")
    transport.reserve("b")
    plant(transport, CallFault(call="create", status=503, after_accept=True, times=2), cut_names=cut_names)
    assert [sent.outcome for sent in transport.send()] == ["unknown", "unknown"]
    assert [sent.outcome for sent in transport.send()] == ["adopted", "adopted"]
    jobs = {job.name: job.input_file for job in transport.provider.jobs.values()}
    assert {batch.provider_name: batch.input_file for batch in transport.state.list_batches("active")} == jobs


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles"])
def test_prices_are_those_of_the_day_of_submission(
    notes: psycopg.Connection, transport: Transport, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    put_notes(notes, "one")
    dearer = [price.model_copy(update={"valid_from": date(2026, 12, 2), "output_usd": Decimal(1000)}) for price in PRICES]
    with_genai(transport, prices=[*PRICES, *dearer])
    monkeypatch.setenv("TZ", zone)
    for at in ("2026-12-01T23:59:00+00:00", "2026-12-02T00:01:00+00:00"):
        monkeypatch.setattr(clock, "now", lambda at=at: datetime.fromisoformat(at))
        if at.startswith("2026-12-01"):
            for batch_id in runner.plan(transport.settings, judge_task()).batch_ids:
                runner.process(transport.settings, judge_task(), batch_id)
        else:
            transport.send()
    monkeypatch.undo()
    with_genai(transport, prices=[*PRICES, *dearer, *(_of_another_day(price) for price in PRICES)])
    assert finish(transport) == 1
    [(settled,)] = notes.execute("SELECT settled_usd FROM ops.active_batches").fetchall()
    [(usage,)] = notes.execute("SELECT usage FROM silver.tasks_status WHERE usage IS NOT NULL").fetchall()
    tokens = usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]
    assert Decimal(tokens) / 1000 < settled < Decimal(tokens) / 1000 + Decimal("0.001")


@pytest.mark.parametrize("mode", ["batch", "online"])
def test_what_is_reserved_follows_a_price_that_rises_before_the_batch_is_sent(
    notes: psycopg.Connection, transport: Transport, mode: str
) -> None:
    with_genai(transport, online_requests=10 if mode == "online" else 0)
    reserve_notes(notes, transport, 2)
    [before] = transport.state.list_batches("reserved")
    with_genai(
        transport,
        prices=[price.model_copy(update={"input_usd": 10 * price.input_usd, "output_usd": 10 * price.output_usd}) for price in PRICES],
    )
    send = transport.ask_online if mode == "online" else transport.send
    with_genai(transport, max_usd_per_day=5 * before.reserved_usd)
    send()
    waiting = transport.read(before.batch_id)
    assert (waiting.status, waiting.reserved_usd) == ("reserved", before.reserved_usd)
    assert "At today's price" in str(waiting.error)
    assert "genai.max_usd_per_day" in str(waiting.error)
    let_time_pass(transport)
    with_genai(transport, max_usd_per_day=Decimal(10))
    send()
    sent = transport.read(before.batch_id)
    assert sent.status == ("ended" if mode == "online" else "active")
    assert sent.reserved_usd == pytest.approx(10 * before.reserved_usd)


def _of_another_day(price: ModelPrice) -> ModelPrice:
    return price.model_copy(update={"valid_from": date(2026, 12, 3), "output_usd": Decimal(5000)})


# -- limits that hold for all processes ----------------------------------------------------------------------------------


def test_a_batch_that_is_being_sent_counts_as_under_way(transport: Transport) -> None:
    with_genai(transport, max_active_batches=1)
    first, second = transport.reserve("a"), transport.reserve("b")
    transport.state.mark_submitting(first, "files/in-1", clock.now())
    limiter = Limiter(transport.connection, transport.settings.genai)
    assert "1 batches are under way" in str(limiter.room_for(transport.read(second)))
    with_genai(transport, max_active_batches=2, max_enqueued_tokens=150)
    limiter = Limiter(transport.connection, transport.settings.genai)
    assert "100 prompt tokens" in str(limiter.room_for(transport.read(second)))


def test_a_short_pause_does_not_shorten_a_longer_one(transport: Transport) -> None:
    limiter = Limiter(transport.connection, transport.settings.genai)
    limiter.pause(3_600)
    limiter.pause(1)
    limiter.pause(None)
    assert 3_500 < limiter.take_request() <= 3_600
    limiter.pause(7_200)
    assert 7_100 < limiter.take_request() <= 7_200


def test_a_bucket_holds_a_minutes_worth_however_long_it_rests(transport: Transport) -> None:
    with_genai(transport, requests_per_minute=5)
    limiter = Limiter(transport.connection, transport.settings.genai)
    assert limiter.take_request() == 0
    transport.connection.execute("UPDATE ops.genai_rate_limits SET refilled_at = now() - interval '1 day'")
    taken = sum(limiter.take_request() == 0 for _ in range(20))
    # The sixth is the one that goes into debt.
    assert 5 <= taken <= 6
