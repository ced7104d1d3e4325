"""From the outbox to bronze: every way in which a create can go wrong, and never two paid jobs for one batch."""

import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from medallion_defs.core import clock, db
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import GenaiSettings
from medallion_defs.genai.client import GeminiClient, UnknownOutcomeError
from medallion_defs.genai.cost import Mode
from medallion_defs.genai.emulator_faults import CallFault, Faults
from medallion_defs.genai.match import Matched, Matching
from medallion_defs.genai.requests import outbox_path
from medallion_defs.genai.submit import find_requests, send_batches
from medallion_defs.storage.item import BronzeItem
from medallion_defs.storage.local.publisher import LocalStore
from tests.integration.genai.conftest import Transport

KEYS = ("Alabama:Lincoln:1987:4", "Alabama:Lincoln:1987:5", "Ohio:Mann:1990:1")


def plant(transport: Transport, *calls: CallFault, **more: Any) -> None:
    transport.provider.faults = Faults(calls=list(calls), **more)


def with_settings(transport: Transport, **genai: Any) -> None:
    changed = transport.settings.genai.model_copy(update=genai)
    transport.settings = transport.settings.model_copy(update={"genai": changed})


def run_to_bronze(transport: Transport) -> BronzeItem:
    """Send, poll until the job is over, collect."""
    transport.send()
    while not transport.poll().ended:
        pass
    [item] = transport.collect()
    return item


def artifact(transport: Transport, item: BronzeItem, name: str) -> Path:
    return transport.settings.bronze_path / item.path / name


def test_a_batch_becomes_a_bronze_item_with_its_requests_and_answers(transport: Transport) -> None:
    batch_id = transport.reserve(*KEYS)
    requests = outbox_path(transport.settings.data_path, batch_id).read_bytes()
    item = run_to_bronze(transport)
    assert (item.source_type, item.external_id) == ("gemini_batch", batch_id)
    assert artifact(transport, item, "requests.jsonl").read_bytes() == requests
    tokens = {record.record_key: record.item_token for record in transport.state.read_records(batch_id).values()}
    outcomes = dict(Matching(tokens).outcomes(artifact(transport, item, "responses.jsonl").read_bytes().splitlines()))
    assert all(isinstance(outcome, Matched) for outcome in outcomes.values())
    assert transport.read(batch_id).status == "collected"
    assert not outbox_path(transport.settings.data_path, batch_id).parent.exists()
    [registered] = transport.connection.execute("SELECT status FROM ops.file_ingestions WHERE source_type = 'gemini_batch'").fetchall()
    assert registered == ("pending",)
    assert list(LocalStore(transport.settings.bronze_path).verify("gemini_batch")) == []


@pytest.mark.parametrize(
    "fault",
    [
        CallFault(call="create", status=503, after_accept=True),
        CallFault(call="create", status=500, after_accept=True),
        CallFault(call="create", cut=True, after_accept=True),
        CallFault(call="create", hang_seconds=2.0),
    ],
)
def test_invariant_9_a_job_whose_answer_was_lost_is_adopted_and_not_made_again(transport: Transport, fault: CallFault) -> None:
    with_settings(transport, timeout_seconds=0.5)
    transport.client = GeminiClient(transport.settings.genai)
    batch_id = transport.reserve(*KEYS)
    plant(transport, fault)
    assert [sent.outcome for sent in transport.send()] == ["unknown"]
    assert transport.read(batch_id).status == "submitting"
    assert [sent.outcome for sent in transport.send()] == ["adopted"]
    assert len(transport.provider.jobs) == 1
    assert transport.read(batch_id).provider_name in transport.provider.jobs
    transport.client.close()


def test_invariant_9_a_job_that_does_not_show_in_the_list_yet_is_waited_for(transport: Transport) -> None:
    with_settings(transport, adopt_seconds=3600)
    transport.reserve(*KEYS)
    plant(transport, CallFault(call="create", status=503, after_accept=True), list_lag=2)
    outcomes = [transport.send()[0].outcome]
    for _ in range(3):
        assert [sent.outcome for sent in transport.send()] == ["waits"]  # not at every tick
        transport.connection.execute("UPDATE ops.active_batches SET retry_at = now()")
        outcomes.append(transport.send()[0].outcome)
    assert outcomes == ["unknown", "unknown", "unknown", "adopted"]
    assert len(transport.provider.jobs) == 1


def test_a_create_that_never_arrived_is_made_again_once_the_provider_has_had_time_to_show_it(transport: Transport) -> None:
    transport.reserve(*KEYS)
    plant(transport, CallFault(call="create", cut=True))
    assert [transport.send()[0].outcome for _ in range(2)] == ["unknown", "sent"]
    assert len(transport.provider.jobs) == 1


def test_of_two_jobs_with_one_name_the_older_is_kept_and_the_other_cancelled(transport: Transport) -> None:
    batch_id = transport.reserve(*KEYS)
    plant(transport, CallFault(call="create", status=503, after_accept=True))
    transport.send()
    [job] = transport.provider.jobs.values()
    transport.client.create(job.model, job.input_file, job.display_name)
    [sent] = transport.send()
    assert transport.read(batch_id).provider_name == job.name
    assert "1 more" in sent.note
    assert [other.state for other in transport.provider.jobs.values() if other is not job] == ["BATCH_STATE_CANCELLED"]


def test_a_pause_that_the_provider_asks_for_is_kept_by_everybody(transport: Transport) -> None:
    first, second = transport.reserve("a"), transport.reserve("b")
    plant(transport, CallFault(call="create", status=429, retry_delay="53s"))
    assert [sent.outcome for sent in transport.send()] == ["waits", "waits"]
    batch = transport.read(first)
    assert batch.status == "reserved"
    assert batch.retry_at is not None
    assert timedelta(seconds=40) < batch.retry_at - clock.now() <= timedelta(seconds=53)
    assert transport.read(second).submit_attempts == 0
    assert transport.provider.jobs == {}


def test_a_wrong_key_holds_the_batch_back_and_does_not_fail_its_records(transport: Transport) -> None:
    batch_id = transport.reserve(*KEYS)
    plant(transport, CallFault(call="create", status=403))
    assert [sent.outcome for sent in transport.send()] == ["waits"]
    assert transport.read(batch_id).status == "reserved"


@pytest.mark.parametrize("end_state", ["FAILED", "EXPIRED"])
def test_a_job_without_results_becomes_an_item_that_says_why(transport: Transport, end_state: str) -> None:
    transport.reserve(*KEYS)
    plant(transport, end_state=end_state)
    item = run_to_bronze(transport)
    assert {part.name for part in item.artifacts} == {"requests.jsonl", "batch.json"}
    assert json.loads(artifact(transport, item, "batch.json").read_bytes())["error"]


def test_a_batch_past_its_deadline_is_cancelled(transport: Transport) -> None:
    batch_id = transport.reserve(*KEYS)
    plant(transport, polls=1000)
    transport.send()
    assert transport.poll().ended == ()
    transport.connection.execute("UPDATE ops.active_batches SET deadline_at = now() - interval '1 minute'")
    assert transport.poll().ended == (batch_id,)
    assert [job.state for job in transport.provider.jobs.values()] == ["BATCH_STATE_CANCELLED"]
    assert transport.read(batch_id).provider_state == "DEADLINE"


def test_a_round_of_polling_asks_once_per_batch_and_downloads_nothing(transport: Transport) -> None:
    for key in "abc":
        transport.reserve(key)
    plant(transport, polls=5)
    transport.send()
    before = len(transport.provider.calls)
    assert transport.poll().asked == 3
    assert transport.provider.calls[before:] == ["get"] * 3


def test_a_poll_that_fails_is_named_and_the_others_go_on(transport: Transport) -> None:
    for key in "ab":
        transport.reserve(key)
    plant(transport, CallFault(call="get", status=500), polls=0)
    transport.send()
    polled = transport.poll()
    assert len(polled.problems) == 1
    assert len(polled.ended) == 1
    assert len(transport.poll().ended) == 1


def test_a_download_that_breaks_off_is_made_again(transport: Transport) -> None:
    transport.reserve(*KEYS)
    plant(transport, CallFault(call="download", cut=True), polls=0)
    transport.send()
    transport.poll()
    with pytest.raises(UnknownOutcomeError):
        transport.collect()
    [item] = transport.collect()
    assert len(artifact(transport, item, "responses.jsonl").read_bytes().splitlines()) == 3


def test_a_record_in_flight_is_not_taken_by_another_batch(transport: Transport) -> None:
    transport.reserve("a", "b")
    with transport.connection.transaction():
        assert transport.state.claim_records("other", ["b", "c"]) == {"c"}


def test_two_submitters_make_one_job(transport: Transport) -> None:
    transport.reserve(*KEYS)
    plant(transport, CallFault(call="create", hang_seconds=0.5))
    outcomes: list[str] = []

    def submit() -> None:
        with db.connect(transport.settings, "medallion_bronze", autocommit=True) as connection:
            outcomes.extend(sent.outcome for sent in send_batches(transport.settings, connection, transport.client))

    threads = [threading.Thread(target=submit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "sent" in outcomes
    assert len(transport.provider.jobs) == 1


def test_large_media_are_uploaded_just_before_the_batch_is_sent(transport: Transport, tmp_path: Path) -> None:
    batch_id = transport.reserve("a")
    medium = tmp_path / "page.png"
    medium.write_bytes(b"png" * 1000)
    path = outbox_path(transport.settings.data_path, batch_id)
    line = json.loads(path.read_bytes())
    line["request"]["contents"][0]["parts"].insert(0, {"fileData": {"fileUri": f"upload:{medium}", "mimeType": "image/png"}})
    path.write_text(json.dumps(line) + "\n")
    transport.connection.execute(
        "UPDATE ops.active_batches SET fingerprint = encode(sha256(%s::bytea), 'hex') WHERE batch_id = %s", (path.read_bytes(), batch_id)
    )
    transport.send()
    [job] = transport.provider.jobs.values()
    sent = json.loads(transport.provider.files[job.input_file].content)
    uri = sent["request"]["contents"][0]["parts"][0]["fileData"]["fileUri"]
    assert any(uri.endswith(name) and file.content == medium.read_bytes() for name, file in transport.provider.files.items())


@pytest.mark.parametrize("mode", ["batch", "online"])
def test_invariant_16_a_medium_whose_bytes_changed_since_it_was_published_is_not_uploaded(
    transport: Transport, tmp_path: Path, mode: Mode
) -> None:
    batch_id = transport.reserve("a", "b", mode=mode)
    medium = tmp_path / "page.png"
    medium.write_bytes(b"png" * 1000)
    file_data = {"fileUri": f"upload:{medium}", "mimeType": "image/png", "sha256": "0" * 64}
    path = outbox_path(transport.settings.data_path, batch_id)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    lines[0]["request"]["contents"][0]["parts"].insert(0, {"fileData": file_data})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    transport.connection.execute(
        "UPDATE ops.active_batches SET fingerprint = encode(sha256(%s::bytea), 'hex') WHERE batch_id = %s", (path.read_bytes(), batch_id)
    )
    transport.send()
    transport.ask_online()
    assert all(b"png" * 1000 not in file.content for file in transport.provider.files.values())
    while transport.state.list_batches("active"):
        transport.poll()
    [item] = transport.collect()
    answers = [json.loads(line) for line in artifact(transport, item, "responses.jsonl").read_bytes().splitlines()]
    assert [answer["key"] for answer in answers if "response" in answer] == ["b"]
    if mode == "batch":
        [left_out] = map(json.loads, artifact(transport, item, "left_out.jsonl").read_bytes().splitlines())
        assert (left_out["key"], left_out["error"]["code"]) == ("a", 400)


def test_a_request_file_that_was_changed_is_not_sent_and_its_records_are_free_again(transport: Transport) -> None:
    batch_id = transport.reserve("a")
    for lines in range(1, 9):  # hashes above and below that of the file that was reserved
        outbox_path(transport.settings.data_path, batch_id).write_text("{}\n" * lines)
        assert "is not the file that the batch was reserved with" in str(find_requests(transport.settings, transport.read(batch_id)))
    [sent] = transport.send()
    assert sent.outcome == "lost"
    assert transport.provider.files == {}
    [item] = transport.collect()
    assert json.loads(artifact(transport, item, "batch.json").read_bytes())["provider_state"] == "LOST"


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 30), (2, 120)])
def test_a_batch_whose_upload_fails_waits_longer_the_oftener_it_was_tried(transport: Transport, attempts: int, seconds: int) -> None:
    batch_id = transport.reserve("a")
    transport.connection.execute("UPDATE ops.active_batches SET submit_attempts = %s", (attempts,))
    plant(transport, CallFault(call="upload", status=500, times=20))
    before = clock.now()
    assert [sent.outcome for sent in transport.send()] == ["waits"]
    batch = transport.state.read(batch_id)
    assert batch is not None
    assert batch.retry_at is not None
    assert timedelta(seconds=seconds) <= batch.retry_at - before < timedelta(seconds=1.5 * seconds)


def test_a_batch_waits_while_enough_are_under_way(transport: Transport) -> None:
    with_settings(transport, max_active_batches=1)
    transport.reserve("a")
    transport.reserve("b")
    assert [sent.outcome for sent in transport.send()] == ["sent", "waits"]
    transport.poll()
    transport.poll()
    assert [sent.outcome for sent in transport.send()] == ["sent"]


def test_online_answers_have_the_form_of_a_batchs(transport: Transport) -> None:
    batch_id = transport.reserve(*KEYS, mode="online")
    plant(transport, CallFault(call="generate", status=429, retry_delay="0.01s"), CallFault(call="generate", status=500))
    assert transport.ask_online() == [batch_id]
    [item] = transport.collect()
    assert item.source_type == "gemini_online"
    lines = [json.loads(line) for line in artifact(transport, item, "responses.jsonl").read_bytes().splitlines()]
    assert sorted(line["key"] for line in lines) == sorted(KEYS)
    assert sorted("error" in line for line in lines) == [False, False, True]


def test_an_online_batch_goes_on_after_its_last_whole_answer(transport: Transport) -> None:
    batch_id = transport.reserve("a", "b", mode="online")
    responses = outbox_path(transport.settings.data_path, batch_id).with_name("responses.jsonl")
    responses.write_bytes(b'{"key":"a","response":{"kept":1}}\n{"key":"b","resp')
    transport.ask_online()
    lines = [json.loads(line) for line in responses.read_bytes().splitlines()]
    assert [line["key"] for line in lines] == ["a", "b"]
    assert lines[0]["response"] == {"kept": 1}
    assert transport.provider.calls.count("generate") == 1


def test_without_a_key_and_without_the_emulator_nothing_starts() -> None:
    with pytest.raises(ConfigurationError, match="MEDALLION_GENAI__API_KEY"):
        GeminiClient(GenaiSettings())
    with pytest.raises(ConfigurationError, match="MEDALLION_GENAI__API_KEY"):
        GeminiClient(GenaiSettings(base_url="http://example.invalid"))


def test_what_is_settled_counts_from_midnight_of_the_day_it_was_sent_and_what_is_reserved_on_every_day(transport: Transport) -> None:
    midnight, usd = datetime(2026, 5, 2, tzinfo=UTC), Decimal("0.01")
    settled, _ = transport.reserve("a"), transport.reserve("b")
    transport.connection.execute(
        "UPDATE ops.active_batches SET status = 'completed', settled_usd = 1, submitted_at = %s WHERE batch_id = %s", (midnight, settled)
    )
    for at, spent in ((midnight, 1), (midnight + timedelta(hours=23), 1), (midnight + timedelta(days=1), 0)):
        assert transport.state.read_committed("page.test", at) == (spent + usd, spent + usd)
        assert transport.state.read_committed("page.other", at) == (spent + usd, 0)
