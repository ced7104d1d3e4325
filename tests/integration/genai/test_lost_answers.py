"""Jobs that the provider will not speak of, and answers that are not where they should be: nothing is paid twice, nothing is stuck."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from medallion_defs.core import clock
from medallion_defs.genai.client import RefusedError
from medallion_defs.genai.collect import IncompleteFileError, NotToBeHadError
from medallion_defs.genai.emulator_faults import CallFault, Faults
from medallion_defs.genai.requests import outbox_path
from medallion_defs.labeling.models.answers import give_up
from tests.integration.genai.conftest import Transport, ask, judge_task, parse, run_round
from tests.integration.labeling.notes import outputs, put_notes, states

SILENT = [
    CallFault(call="get", status=503, times=1_000),
    CallFault(call="get", status=403, times=1_000),
    CallFault(call="get", status=429, retry_delay="80000s", times=1_000),
    CallFault(call="get", body="<html>Bad gateway</html>", times=1_000),
]


def plant(transport: Transport, *calls: CallFault, **more: Any) -> None:
    transport.provider.faults = Faults(calls=[call.model_copy() for call in calls], **more)


def pass_time(transport: Transport, column: str, interval: str) -> None:
    transport.connection.execute(f"UPDATE ops.active_batches SET {column} = {column} - %s::interval", (interval,))


def in_flight(transport: Transport) -> int:
    [(count,)] = transport.connection.execute("SELECT count(*) FROM ops.inflight_records").fetchall()
    return int(count)


def committed(transport: Transport) -> Decimal:
    """Dollars that are spent or reserved today."""
    return transport.state.read_committed("page.test", clock.now())[0]


@pytest.mark.parametrize("fault", SILENT, ids=lambda fault: str(fault.status or "html"))
def test_a_job_that_cannot_be_looked_at_is_cancelled_at_its_deadline_and_given_up_an_hour_later(
    transport: Transport, fault: CallFault
) -> None:
    batch_id = transport.reserve("a", "b")
    plant(transport, fault, polls=1_000)
    transport.send()
    assert (transport.poll().ended, transport.provider.calls.count("cancel")) == ((), 0)
    transport.connection.execute("DELETE FROM ops.genai_rate_limits")
    pass_time(transport, "deadline_at", "30 hours 10 minutes")
    polled = transport.poll()
    assert (polled.ended, len(polled.problems)) == ((), 1)
    assert [job.state for job in transport.provider.jobs.values()] == ["BATCH_STATE_CANCELLED"]
    pass_time(transport, "deadline_at", "1 hour")
    assert transport.poll().ended == (batch_id,)
    batch = transport.read(batch_id)
    assert (batch.status, batch.provider_state) == ("ended", "DEADLINE")
    assert str(batch.error).startswith("not done by its deadline")


def test_a_cancel_that_fails_as_well_does_not_keep_a_batch(transport: Transport) -> None:
    batch_id = transport.reserve("a")
    plant(transport, CallFault(call="get", status=500, times=9), CallFault(call="cancel", status=403, times=9), polls=1_000)
    transport.send()
    pass_time(transport, "deadline_at", "32 hours")
    assert transport.poll().ended == (batch_id,)


def test_the_records_of_a_job_that_was_given_up_are_asked_again_and_its_dollars_are_free(
    notes: psycopg.Connection, transport: Transport
) -> None:
    put_notes(notes, "one")
    task = judge_task()
    ask(transport, task, polls=0)
    plant(transport, SILENT[0])
    pass_time(transport, "deadline_at", "32 hours")
    transport.poll()
    transport.collect()
    [report] = parse(transport, task)
    assert (report.failures[0].error_type, report.cost_usd) == ("JobDeadline", 0)
    assert (in_flight(transport), committed(transport)) == (0, 0)
    assert states(notes, "note.judge")["n0"][0] == "retrying"


@pytest.mark.parametrize("place", ["usual", "response", "dest", "inlined"])
def test_answers_are_found_wherever_the_provider_names_them(notes: psycopg.Connection, transport: Transport, place: str) -> None:
    put_notes(notes, "one", "two")
    plant(transport, output=place)
    [report] = run_round(transport, judge_task())
    assert (report.total, report.success) == (2, 2)
    assert set(outputs(notes, "note.judge")) == {"n0", "n1"}


def test_a_job_that_succeeded_without_a_result_file_is_looked_at_again_and_then_held(
    notes: psycopg.Connection, transport: Transport
) -> None:
    put_notes(notes, "one", "two")
    task = judge_task()
    plant(transport, output="nowhere", polls=0)
    ask(transport, task, polls=2)
    [batch] = transport.state.list_latest(None, 10)
    assert batch.status == "held"
    assert f"medallion genai resume {batch.batch_id}" in str(batch.error)
    assert (transport.poll().asked, transport.collect(), parse(transport, task)) == (0, [], [])
    # Paid for, for all that is known: the records are not asked again, the dollars not free.
    assert run_round(transport, task) == []
    assert (transport.provider.calls.count("create"), in_flight(transport)) == (1, 2)
    assert batch.settled_usd is None
    assert committed(transport) == batch.reserved_usd > 0


def test_a_held_batch_that_is_resumed_brings_its_answers_home(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one")
    task = judge_task()
    plant(transport, output="nowhere", polls=0)
    ask(transport, task, polls=2)
    [batch] = transport.state.list_batches("held")
    next(iter(transport.provider.jobs.values())).output = "usual"
    transport.state.resume(batch.batch_id, "active", clock.now())
    assert [report.success for report in run_round(transport, task)] == [1]
    assert transport.provider.calls.count("create") == 1


def test_a_held_batch_that_a_person_gives_up_stays_paid_and_is_asked_again(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one")
    task = judge_task()
    plant(transport, output="nowhere", polls=0)
    ask(transport, task, polls=2)
    [batch] = transport.state.list_batches("held")
    assert give_up(notes, batch) == batch.reserved_usd
    notes.commit()
    assert (in_flight(transport), committed(transport)) == (0, batch.reserved_usd)
    plant(transport)
    assert [report.success for report in run_round(transport, task)] == [1]
    assert committed(transport) > batch.reserved_usd


def test_a_result_file_that_is_gone_holds_its_batch_and_no_other(transport: Transport) -> None:
    bad, good = transport.reserve("a"), transport.reserve("b")
    plant(transport, polls=0)
    transport.send()
    transport.poll()
    del transport.provider.files[str(transport.read(bad).output_file)]
    with pytest.raises(RefusedError):
        transport.collect()
    assert (transport.read(bad).status, transport.read(good).status) == ("ended", "collected")
    pass_time(transport, "ended_at", "49 hours")
    with pytest.raises(NotToBeHadError, match="are gone"):
        transport.collect()
    assert (transport.read(bad).status, transport.collect()) == ("held", [])


@pytest.mark.parametrize(("announce", "bytes_"), [("right", 700), ("nothing", 700)])
def test_a_download_that_ended_early_unnoticed_is_made_again(transport: Transport, announce: str, bytes_: int) -> None:
    transport.settings = transport.settings.model_copy(
        update={"genai": transport.settings.genai.model_copy(update={"adopt_seconds": 3600})}
    )
    transport.reserve("a", "b", "c")
    plant(transport, CallFault(call="download", first_bytes=bytes_), polls=0, announce=announce)
    transport.send()
    transport.poll()
    with pytest.raises(IncompleteFileError, match="announced"):
        transport.collect()
    [item] = transport.collect()
    responses = transport.settings.bronze_path / item.path / "responses.jsonl"
    assert len(responses.read_bytes().splitlines()) == 3


@pytest.mark.parametrize("announce", ["wrong_size", "wrong_sha256"])
def test_a_file_that_never_is_as_announced_is_held_and_can_be_taken_as_it_is(transport: Transport, announce: str) -> None:
    batch_id = transport.reserve("a")
    plant(transport, polls=0, announce=announce)
    transport.send()
    transport.poll()
    with pytest.raises(NotToBeHadError, match="announced"):
        transport.collect()
    assert transport.read(batch_id).status == "held"
    part = outbox_path(transport.settings.data_path, batch_id).with_name("responses.jsonl.part")
    part.rename(part.with_suffix(""))
    transport.state.resume(batch_id, "ended", clock.now())
    [item] = transport.collect()
    assert {part.name for part in item.artifacts} == {"requests.jsonl", "responses.jsonl", "batch.json"}


def test_a_batch_whose_time_is_not_up_waits_for_the_quota(transport: Transport) -> None:
    transport.reserve("a")
    transport.send()
    transport.connection.execute("UPDATE ops.genai_rate_limits SET paused_until = now() + interval '1 hour'")
    assert transport.poll().asked == 0
    assert transport.read(transport.state.list_batches("active")[0].batch_id).deadline_at > clock.now() + timedelta(hours=1)
