"""What holds a batch back, and what ends it: lost files, vanished jobs, wrong keys, deadlines. No batch blocks another, none is stuck."""

import json
import shutil
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from medallion_defs.core import clock
from medallion_defs.genai.client import BusyError, GeminiClient, RefusedError, UnknownOutcomeError
from medallion_defs.genai.emulator_faults import CallFault, Faults
from medallion_defs.genai.emulator_jobs import StoredFile
from medallion_defs.genai.limiter import Limiter
from medallion_defs.genai.online import ask_online
from medallion_defs.genai.outbox import remove_leftovers
from medallion_defs.genai.requests import outbox_path
from medallion_defs.genai.submit import Sent
from medallion_defs.storage.local.publisher import LocalStore
from tests.integration.genai.conftest import Transport


def plant(transport: Transport, *calls: CallFault, **more: Any) -> None:
    transport.provider.faults = Faults(calls=list(calls), **more)


def outbox(transport: Transport, batch_id: str) -> Path:
    return outbox_path(transport.settings.data_path, batch_id).parent


def online(transport: Transport) -> list[Sent]:
    return ask_online(transport.settings, transport.connection, transport.client)


def pass_time(transport: Transport, column: str, interval: str) -> None:
    transport.connection.execute(f"UPDATE ops.active_batches SET {column} = {column} - %s::interval", (interval,))


def end_of(transport: Transport, batch_id: str) -> tuple[str, str | None]:
    batch = transport.read(batch_id)
    return batch.status, batch.provider_state


@pytest.mark.parametrize("mode", ["batch", "online"])
def test_a_batch_whose_outbox_is_gone_ends_and_the_others_go_on(transport: Transport, mode: Any) -> None:
    lost, good = transport.reserve("a", mode=mode), transport.reserve("b", mode=mode)
    shutil.rmtree(outbox(transport, lost))
    sent = transport.send() + online(transport)
    assert {each.batch_id: each.outcome for each in sent}[lost] == "lost"
    while transport.state.list_batches("active"):
        transport.poll()
    assert {item.external_id: len(item.artifacts) for item in transport.collect()} == {lost: 1, good: 3}
    assert list(LocalStore(transport.settings.bronze_path).verify(f"gemini_{mode}")) == []


def test_an_outbox_that_is_not_there_at_all_ends_nothing(transport: Transport) -> None:
    batch_id = transport.reserve("a")
    folder = outbox(transport, batch_id).parent
    folder.rename(folder.with_name("away"))
    assert [sent.outcome for sent in transport.send()] == ["waits"]
    folder.with_name("away").rename(folder)
    assert transport.read(batch_id).status == "reserved"


def test_a_job_that_vanished_is_waited_for_until_its_deadline(transport: Transport) -> None:
    batch_id = transport.reserve("a")
    transport.send()
    transport.provider.jobs.clear()
    assert transport.poll().ended == ()
    pass_time(transport, "deadline_at", "2 days")
    assert transport.poll().ended == (batch_id,)
    assert end_of(transport, batch_id) == ("ended", "VANISHED")
    assert len(transport.collect()) == 1


def test_the_time_of_a_batch_runs_from_when_it_was_sent(transport: Transport) -> None:
    batch_id = transport.reserve("a")
    pass_time(transport, "deadline_at", "10 days")
    plant(transport, polls=3)
    transport.send()
    assert transport.read(batch_id).deadline_at > clock.now() + timedelta(hours=29)
    assert transport.poll().ended == ()


def test_answers_that_were_ready_when_the_deadline_passed_are_kept(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = transport.reserve("a")
    plant(transport, polls=1)
    transport.send()
    pass_time(transport, "deadline_at", "30 hours 30 minutes")
    monkeypatch.setattr(transport.provider, "cancel", lambda name: None)  # too late: the job ends well all the same
    assert transport.poll().ended == (batch_id,)
    assert end_of(transport, batch_id) == ("ended", "SUCCEEDED")
    assert transport.read(batch_id).output_file


def test_a_job_that_ignores_its_cancelling_is_given_up_in_the_end(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = transport.reserve("a")
    plant(transport, polls=1000)
    transport.send()
    monkeypatch.setattr(transport.provider, "cancel", lambda name: None)
    pass_time(transport, "deadline_at", "30 hours 30 minutes")
    assert transport.poll().ended == ()
    pass_time(transport, "deadline_at", "1 hour")
    assert transport.poll().ended == (batch_id,)
    assert end_of(transport, batch_id) == ("ended", "DEADLINE")
    assert transport.provider.calls.count("cancel") == 2


@pytest.mark.parametrize("body", [b"<html>gateway</html>", b"[]", b"null", b'{"metadata": 5}', b"\xff"])
def test_a_state_that_is_not_json_is_a_problem_of_that_batch_alone(transport: Transport, body: bytes) -> None:
    with pytest.raises(UnknownOutcomeError):
        read_answer(transport, 200, body)


def read_answer(transport: Transport, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> object:
    """Read a job from a provider that answers just this."""
    import httpx2

    client = GeminiClient(transport.settings.genai)
    answer = httpx2.MockTransport(lambda request: httpx2.Response(status, content=body, headers=dict(headers or {})))
    client._http = httpx2.Client(transport=answer)
    try:
        return client.read_job("batches/x")
    finally:
        client.close()


def error(code: int, **more: object) -> bytes:
    return json.dumps({"error": {"code": code, "message": "No.", **more}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "is_wrong"),
    [
        (400, error(400), RefusedError, True),
        (400, error(400, message="API key not valid. Please pass a valid API key."), RefusedError, False),
        (400, error(400, status="FAILED_PRECONDITION"), RefusedError, False),
        (400, error(400, details=[{"reason": "API_KEY_INVALID"}]), RefusedError, False),
        (403, error(403), RefusedError, False),
        (408, error(408), UnknownOutcomeError, None),
        (499, error(499), UnknownOutcomeError, None),
        (204, b"", UnknownOutcomeError, None),
        (302, b"", UnknownOutcomeError, None),
        (503, b"<html>", UnknownOutcomeError, None),
        (429, error(429, details=[{"retryDelay": "soon"}, {"retryDelay": "infs"}]), BusyError, None),
        (429, error(429, details="none"), BusyError, None),
    ],
)
def test_what_an_error_says_of_the_call(transport: Transport, status: int, body: bytes, kind: Any, is_wrong: bool | None) -> None:
    with pytest.raises(kind) as caught:
        read_answer(transport, status, body, {"location": "http://example.invalid/"})
    assert getattr(caught.value, "is_wrong_request", None) is is_wrong
    assert getattr(caught.value, "retry_after", None) is None


def test_a_state_that_nobody_has_heard_of_is_over_when_the_provider_says_done(transport: Transport) -> None:
    read: Any = read_answer(transport, 200, b'{"done":true,"metadata":{"state":"BATCH_STATE_NEW"},"response":{"responsesFile":"files/x"}}')
    assert (read.state, read.is_over, read.output_file) == ("NEW", True, "files/x")
    running: Any = read_answer(transport, 200, b'{"metadata":{"state":"BATCH_STATE_NEWER"}}')
    assert not running.is_over


def test_a_duplicate_job_that_cannot_be_cancelled_just_now_is_not_forgotten(transport: Transport) -> None:
    batch_id = transport.reserve("a")
    plant(transport, CallFault(call="create", status=503, after_accept=True), CallFault(call="cancel", status=500), polls=100)
    transport.send()
    [job] = transport.provider.jobs.values()
    transport.client.create(job.model, job.input_file, job.display_name)
    assert [sent.outcome for sent in transport.send()] == ["waits"]
    transport.connection.execute("UPDATE ops.active_batches SET retry_at = NULL")
    assert [sent.outcome for sent in transport.send()] == ["adopted"]
    states = [other.state for other in transport.provider.jobs.values() if other is not job]
    assert states == ["BATCH_STATE_CANCELLED"]
    assert transport.read(batch_id).provider_name == job.name


def test_two_batches_that_may_be_at_the_provider_do_not_wait_for_each_others_room(transport: Transport) -> None:
    transport.reserve("a")
    transport.reserve("b")
    plant(transport, CallFault(call="create", status=503, after_accept=True, times=2))
    transport.send()
    genai = transport.settings.genai.model_copy(update={"max_active_batches": 1})
    transport.settings = transport.settings.model_copy(update={"genai": genai})
    assert [sent.outcome for sent in transport.send()] == ["adopted", "adopted"]


def test_a_batch_that_is_cancelled_while_it_is_uploaded_is_not_created(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled, other = transport.reserve("a"), transport.reserve("b")
    upload = transport.client.upload

    def cancel_meanwhile(path: Path, name: str, mime_type: str) -> str:
        if transport.read(cancelled).status == "reserved":
            transport.state.give_up(cancelled, "reserved", None, None, clock.now())
        return upload(path, name, mime_type)

    monkeypatch.setattr(transport.client, "upload", cancel_meanwhile)
    assert {sent.batch_id: sent.outcome for sent in transport.send()} == {cancelled: "elsewhere", other: "sent"}
    assert len(transport.provider.jobs) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_fails_no_record_that_is_asked_online(transport: Transport, status: int) -> None:
    batch_id = transport.reserve("a", "b", mode="online")
    plant(transport, CallFault(call="generate", status=status, times=2))
    assert [sent.outcome for sent in online(transport)] == ["waits"]
    assert [sent.outcome for sent in online(transport)] == ["waits"], "not at every tick"
    transport.connection.execute("UPDATE ops.active_batches SET retry_at = NULL")
    assert [sent.outcome for sent in online(transport)] == ["asked"]
    lines = (outbox(transport, batch_id) / "responses.jsonl").read_bytes().splitlines()
    assert sorted(json.loads(line)["key"] for line in lines if b'"response"' in line) == ["a", "b"]


def test_a_long_pause_ends_the_run_and_keeps_the_answers(transport: Transport) -> None:
    genai = transport.settings.genai.model_copy(update={"online_workers": 1})
    transport.settings = transport.settings.model_copy(update={"genai": genai})
    batch_id = transport.reserve(*"abc", mode="online")
    plant(transport, CallFault(call="generate", hang_seconds=0.01), CallFault(call="generate", status=429, retry_delay="7200s"))
    assert [sent.outcome for sent in online(transport)] == ["waits"]
    assert len((outbox(transport, batch_id) / "responses.jsonl").read_bytes().splitlines()) == 1
    assert 7000 < Limiter(transport.connection, genai).take_request() <= 7200
    transport.connection.execute("DELETE FROM ops.genai_rate_limits")
    transport.connection.execute("UPDATE ops.active_batches SET retry_at = NULL")
    assert [sent.outcome for sent in online(transport)] == ["asked"]
    assert transport.provider.calls.count("generate") == 4


def test_an_error_in_one_call_loses_no_other_answer(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = transport.reserve(*"abcd", mode="online")
    generate = transport.client.generate

    def generate_but_one(model: str, request: Mapping[str, Any]) -> bytes:
        if "page a" in json.dumps(request):
            raise ZeroDivisionError
        time.sleep(0.2)
        return generate(model, request)

    monkeypatch.setattr(transport.client, "generate", generate_but_one)
    with pytest.raises(ZeroDivisionError):
        online(transport)
    keys = [json.loads(line)["key"] for line in (outbox(transport, batch_id) / "responses.jsonl").read_bytes().splitlines()]
    assert len(keys) == transport.provider.calls.count("generate") > 0


def test_an_online_response_that_is_not_json_is_kept_as_an_error(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = transport.reserve("a", mode="online")
    monkeypatch.setattr(transport.client, "generate", lambda model, request: b"<html>\xff")
    assert [sent.outcome for sent in online(transport)] == ["asked"]
    [line] = (outbox(transport, batch_id) / "responses.jsonl").read_bytes().splitlines()
    assert json.loads(line)["error"]["code"] == 502


def put_medium(transport: Transport, batch_id: str, place: int, medium: Path) -> None:
    """Let a request of a reserved batch carry a medium that is to be uploaded."""
    path = outbox_path(transport.settings.data_path, batch_id)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    lines[place]["request"]["contents"][0]["parts"].insert(0, {"fileData": {"fileUri": f"upload:{medium}", "mimeType": "image/png"}})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    query = "UPDATE ops.active_batches SET fingerprint = encode(sha256(%s::bytea), 'hex') WHERE batch_id = %s"
    transport.connection.execute(query, (path.read_bytes(), batch_id))


def test_large_media_are_uploaded_for_online_calls_too(transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = transport.reserve("a", "b", mode="online")
    (tmp_path / "page.png").write_bytes(b"png" * 1000)
    put_medium(transport, batch_id, 0, tmp_path / "page.png")
    asked: list[str] = []
    generate = transport.client.generate

    def note(model: str, request: Mapping[str, Any]) -> bytes:
        asked.append(json.dumps(request))
        return generate(model, request)

    monkeypatch.setattr(transport.client, "generate", note)
    assert [sent.outcome for sent in online(transport)] == ["asked"]
    assert len(transport.provider.files) == 1
    assert not any("upload:" in request for request in asked)


@pytest.mark.parametrize("mode", ["batch", "online"])
def test_a_medium_that_is_gone_fails_its_record_alone(transport: Transport, tmp_path: Path, mode: Any) -> None:
    batch_id = transport.reserve("a", "b", mode=mode)
    put_medium(transport, batch_id, 0, tmp_path / "gone.png")
    assert {sent.outcome for sent in transport.send() + online(transport)} & {"sent", "asked"}
    while transport.state.list_batches("active"):
        transport.poll()
    [item] = transport.collect()
    lines = (transport.settings.bronze_path / item.path / "responses.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["key"] for line in lines if b'"response"' in line] == ["b"]


def test_an_upload_that_expires_too_soon_or_failed_is_made_again(
    transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"{}\n")
    for odd in ({"expirationTime": (clock.now() + timedelta(hours=5)).isoformat()}, {"state": "FAILED"}):
        transport.client.upload(tmp_path / "in.jsonl", "files/in-1", "application/jsonl")
        stored = transport.provider.files["files/in-1"]
        monkeypatch.setattr(stored, "describe", partial(_describe_oddly, stored, odd))
        transport.client.upload(tmp_path / "in.jsonl", "files/in-1", "application/jsonl")
        assert transport.provider.files["files/in-1"] is not stored


def _describe_oddly(stored: StoredFile, odd: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    return {**StoredFile.describe(stored, base_url), **odd}


def test_what_crashes_left_in_the_outbox_is_swept_after_a_day(transport: Transport) -> None:
    waiting, cancelled = transport.reserve("a"), transport.reserve("b")
    transport.state.give_up(cancelled, "reserved", None, None, clock.now())
    stray = outbox(transport, "never-reserved")
    stray.mkdir()
    remove = partial(remove_leftovers, transport.connection, transport.settings.data_path)
    assert remove(clock.now() - timedelta(days=1)) == []
    assert sorted(remove(clock.now() + timedelta(days=1))) == sorted([cancelled, "never-reserved"])
    assert outbox(transport, waiting).exists()


def test_a_process_whose_clock_is_ahead_starves_nobody(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = Limiter(transport.connection, transport.settings.genai.model_copy(update={"requests_per_minute": 6000}))
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + timedelta(hours=1))
    limiter.take_request()
    monkeypatch.setattr(clock, "now", real)
    assert limiter.take_request() == 0
    [(ahead,)] = transport.connection.execute("SELECT refilled_at > now() FROM ops.genai_rate_limits").fetchall()
    assert not ahead
