"""The unmodified google-genai client against the emulator: what it can do, and each way in which it can fail."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel, ConfigDict

from medallion_defs.genai.emulator import running
from medallion_defs.genai.emulator_faults import CallFault, Faults, ItemFault
from medallion_defs.genai.emulator_jobs import Provider

MODEL = "gemini-3.8-flash"


class Label(BaseModel):
    model_config = ConfigDict(extra="forbid")

    subject: str
    grade: int | None
    tags: list[str]
    item_token: str


@dataclass
class Emulated:
    provider: Provider
    client: genai.Client
    url: str


@pytest.fixture
def emulated() -> Iterator[Emulated]:
    provider = Provider()
    with running(provider) as url:
        client = genai.Client(api_key="key", http_options=types.HttpOptions(base_url=url, timeout=5_000))
        yield Emulated(provider, client, url)
        client.close()


def write_requests(folder: Path, count: int = 4) -> Path:
    config = {"responseMimeType": "application/json", "responseJsonSchema": Label.model_json_schema()}
    lines = [
        {"key": f"k{n}", "request": {"contents": [{"parts": [{"text": f"page {n}, item token: {n:08x}"}]}], "generationConfig": config}}
        for n in range(count)
    ]
    path = folder / "requests.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def start_job(emulated: Emulated, folder: Path) -> str:
    config = types.UploadFileConfig(mime_type="application/jsonl", name="files/in-1")
    file = emulated.client.files.upload(file=write_requests(folder), config=config)
    job = emulated.client.batches.create(model=MODEL, src=file.name, config={"display_name": "fingerprint-1"})
    assert job.name
    return job.name


def end_job(emulated: Emulated, name: str) -> dict[str, list[dict[str, Any]]]:
    """Poll a job to its end; return its result lines by key."""
    while (job := emulated.client.batches.get(name=name)).state != types.JobState.JOB_STATE_SUCCEEDED:
        assert job.state == types.JobState.JOB_STATE_RUNNING
    assert job.dest
    assert job.dest.file_name
    by_key: dict[str, list[dict[str, Any]]] = {}
    for raw in emulated.client.files.download(file=job.dest.file_name).splitlines():
        line = json.loads(raw)
        by_key.setdefault(line["key"], []).append(line)
    return by_key


def answer_text(line: dict[str, Any]) -> str:
    return str(line["response"]["candidates"][0]["content"]["parts"][0]["text"])


def test_an_online_answer_fits_the_schema_and_is_the_same_again(emulated: Emulated) -> None:
    config = types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=Label.model_json_schema())
    contents = ["Label it. item token: ab12cd34", types.Part.from_bytes(data=b"png", mime_type="image/png")]
    first, second = (emulated.client.models.generate_content(model=MODEL, contents=contents, config=config) for _ in range(2))
    assert first.text == second.text
    assert first.text
    assert Label.model_validate_json(first.text).item_token == "ab12cd34"
    assert first.usage_metadata
    assert first.usage_metadata.thoughts_token_count
    assert emulated.client.models.count_tokens(model=MODEL, contents="four char").total_tokens == 2


def test_a_batch_goes_from_upload_to_result_file(emulated: Emulated, tmp_path: Path) -> None:
    lines = end_job(emulated, start_job(emulated, tmp_path))
    answers = {key: Label.model_validate_json(answer_text(line)) for key, [line] in lines.items()}
    assert {key: answer.item_token for key, answer in answers.items()} == {f"k{n}": f"{n:08x}" for n in range(4)}


def test_jobs_are_listed_page_by_page_cancelled_and_deleted(emulated: Emulated, tmp_path: Path) -> None:
    first = start_job(emulated, tmp_path)
    second = emulated.client.batches.create(model=MODEL, src="files/in-1", config={"display_name": "fingerprint-2"}).name
    assert second
    assert [job.name for job in emulated.client.batches.list(config={"page_size": 1})] == [second, first]
    emulated.client.batches.cancel(name=second)
    assert emulated.client.batches.get(name=second).state == types.JobState.JOB_STATE_CANCELLED
    emulated.client.batches.delete(name=second)
    assert [job.display_name for job in emulated.client.batches.list()] == ["fingerprint-1"]


def test_a_file_name_of_ones_own_can_be_used_once(emulated: Emulated, tmp_path: Path) -> None:
    start_job(emulated, tmp_path)
    config = types.UploadFileConfig(mime_type="application/jsonl", name="files/in-1")
    with pytest.raises(errors.ClientError) as raised:
        emulated.client.files.upload(file=tmp_path / "requests.jsonl", config=config)
    assert raised.value.code == 409
    emulated.client.files.delete(name="files/in-1")
    with pytest.raises(errors.ClientError, match="not found"):
        emulated.client.files.get(name="files/in-1")


def test_without_a_key_nothing_is_answered(emulated: Emulated) -> None:
    answer = httpx2.post(f"{emulated.url}/v1/models/{MODEL}:generateContent", json={"contents": []}, trust_env=False)
    assert answer.status_code == 403


def test_a_job_that_was_accepted_and_answered_with_an_error_exists(emulated: Emulated, tmp_path: Path) -> None:
    emulated.provider.faults = Faults(calls=[CallFault(call="create", status=503, after_accept=True)])
    with pytest.raises(errors.ServerError):
        start_job(emulated, tmp_path)
    assert len(emulated.provider.jobs) == 1


def test_a_refused_or_cut_call_starts_nothing(emulated: Emulated, tmp_path: Path) -> None:
    quota = CallFault(call="create", status=429, retry_delay="53s")
    emulated.provider.faults = Faults(calls=[quota, CallFault(call="create", cut=True)])
    with pytest.raises(errors.ClientError) as raised:
        start_job(emulated, tmp_path)
    assert raised.value.details["error"]["details"][0]["retryDelay"] == "53s"
    with pytest.raises(httpx2.RemoteProtocolError):
        emulated.client.batches.create(model=MODEL, src="files/in-1")
    assert emulated.provider.jobs == {}


def test_a_late_answer_is_a_timeout(emulated: Emulated) -> None:
    emulated.provider.faults = Faults(calls=[CallFault(call="count", hang_seconds=1.0)])
    impatient = types.CountTokensConfig(http_options=types.HttpOptions(timeout=100))
    with pytest.raises(httpx2.TimeoutException):
        emulated.client.models.count_tokens(model=MODEL, contents="x", config=impatient)


def test_a_new_job_may_not_show_in_the_list_yet(emulated: Emulated, tmp_path: Path) -> None:
    emulated.provider.faults = Faults(list_lag=2)
    start_job(emulated, tmp_path)
    shown = [[job.display_name for job in emulated.client.batches.list()] for _ in range(3)]
    assert shown == [[], [], ["fingerprint-1"]]


@pytest.mark.parametrize("end_state", ["FAILED", "EXPIRED"])
def test_a_job_can_end_without_results(emulated: Emulated, tmp_path: Path, end_state: str) -> None:
    emulated.provider.faults = Faults.model_validate({"end_state": end_state, "polls": 0})
    name = start_job(emulated, tmp_path)
    operation = httpx2.get(f"{emulated.url}/v1/{name}", headers={"x-goog-api-key": "key"}, trust_env=False).json()
    assert operation["metadata"]["state"] == f"BATCH_STATE_{end_state}"
    assert operation["error"]["message"]
    assert "output" not in operation["metadata"]


def test_each_item_fault_spoils_its_own_lines_only(emulated: Emulated, tmp_path: Path) -> None:
    kinds = ["missing", "duplicate", "foreign", "error", "max_tokens", "safety", "blocked", "empty", "bad_json", "invalid"]
    items = [ItemFault.model_validate({"kind": kind, "keys": [f"k{n}"]}) for n, kind in enumerate(kinds)]
    emulated.provider.faults = Faults(items=[*items, ItemFault(kind="swapped", keys=["k10", "k11"])], shuffle=True)
    write_requests(tmp_path, count=13)
    emulated.client.files.upload(file=tmp_path / "requests.jsonl", config={"mime_type": "application/jsonl", "name": "files/many"})
    name = emulated.client.batches.create(model=MODEL, src="files/many", config={"display_name": "faulty"}).name
    assert name
    lines = end_job(emulated, name)
    assert "k0" not in lines
    assert len(lines["k1"]) == 2
    assert "k2" not in lines
    assert "foreign-k2" in lines
    assert lines["k3"][0]["error"]["code"] == 14
    reasons = [lines[f"k{n}"][0]["response"]["candidates"][0]["finishReason"] for n in (4, 5)]
    assert reasons == ["MAX_TOKENS", "SAFETY"]
    assert lines["k6"][0]["response"]["promptFeedback"]["blockReason"]
    assert "candidates" not in lines["k7"][0]["response"]
    assert answer_text(lines["k8"][0]).startswith("Sure!")
    assert "item_token" not in answer_text(lines["k9"][0])
    assert json.loads(answer_text(lines["k10"][0]))["item_token"] == f"{11:08x}"
    assert json.loads(answer_text(lines["k12"][0]))["item_token"] == f"{12:08x}"
