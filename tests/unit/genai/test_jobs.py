"""What the provider says of a job and of a file is read wherever it is written on the wire, and what is odd counts as not said."""

import base64
import json
from typing import Any

import pytest

from medallion_defs.genai.jobs import FileFacts, JobState, ListedJob, inlined_lines, read_file_facts, read_job, read_page

NAME = "batches/b1"
ANSWER = {"response": {"candidates": []}, "metadata": {"key": "k1"}}
SHA256 = "ab" * 32


def job(**operation: Any) -> JobState:
    return read_job(json.dumps(operation).encode(), NAME)


def file_facts(**file: Any) -> FileFacts:
    return read_file_facts(json.dumps(file).encode())


@pytest.mark.parametrize(
    ("operation", "state", "is_over"),
    [
        ({"metadata": {"state": "BATCH_STATE_RUNNING"}}, "RUNNING", False),
        ({"metadata": {"state": "JOB_STATE_SUCCEEDED"}}, "SUCCEEDED", True),
        ({"state": "BATCH_STATE_EXPIRED"}, "EXPIRED", True),
        ({"metadata": {"state": "BATCH_STATE_RUNNING"}, "done": True}, "SUCCEEDED", True),
        ({"metadata": {"state": "BATCH_STATE_RUNNING"}, "done": True, "error": {"message": "no"}}, "FAILED", True),
        ({"metadata": {"state": "BATCH_STATE_RUNNING"}, "done": False}, "RUNNING", False),
        ({"metadata": {"state": "BATCH_STATE_NEW"}, "done": "yes"}, "NEW", False),
        ({"metadata": {"state": "BATCH_STATE_NEW"}, "done": True}, "NEW", True),
    ],
)
def test_a_job_is_in_the_state_that_it_names_and_over_when_it_says_so(operation: dict[str, Any], state: str, is_over: bool) -> None:
    read = job(**operation)
    assert (read.state, read.is_over) == (state, is_over)


@pytest.mark.parametrize(
    "place",
    [
        {"metadata": {"output": {"responsesFile": "files/out-1"}}}, {"response": {"responsesFile": "files/out-1"}},
        {"metadata": {"dest": {"file_name": "files/out-1"}}}, {"dest": {"fileName": "https://host/v1beta/files/out-1:download"}},
        {"response": {"inlinedResponses": [], "output": {"responses_file": "files/out-1"}}},
    ],
)  # fmt: skip
def test_the_file_of_answers_is_found_in_each_of_its_places(place: dict[str, Any]) -> None:
    assert job(state="SUCCEEDED", **place).output_file == "files/out-1"


@pytest.mark.parametrize(
    "place",
    [
        {"response": {"inlinedResponses": {"inlinedResponses": [ANSWER, "odd"]}}}, {"dest": {"inlined_responses": [ANSWER]}},
        {"metadata": {"output": {"inlinedResponses": [{"response": {"candidates": []}, "key": "k1", "other": 1}]}}},
    ],
)  # fmt: skip
def test_answers_inside_a_job_become_lines_with_the_keys_that_they_name(place: dict[str, Any]) -> None:
    operation = {"state": "SUCCEEDED"} | place
    assert job(**operation).output_file == NAME
    assert [json.loads(line) for line in inlined_lines(json.dumps(operation).encode())] == [{"response": {"candidates": []}, "key": "k1"}]


@pytest.mark.parametrize(
    ("operation", "lacks_answers"),
    [
        ({"state": "SUCCEEDED"}, True),
        ({"state": "SUCCEEDED", "error": {"message": "of one record"}}, True),
        ({"state": "NEW", "done": True}, True),
        ({"state": "NEW", "done": True, "error": {"message": "of the job"}}, False),
        ({"state": "FAILED"}, False),
        ({"state": "RUNNING"}, False),
        ({"state": "SUCCEEDED", "dest": {"fileName": "files/out-1"}}, False),
    ],
)
def test_a_job_that_did_not_end_badly_and_names_no_answers_lacks_them(operation: dict[str, Any], lacks_answers: bool) -> None:
    assert job(**operation).lacks_answers is lacks_answers


def test_the_error_is_read_in_both_of_its_places_and_the_count_of_answers_where_it_is_said() -> None:
    stats = {"batchStats": {"successfulRequestCount": "2", "failedRequestCount": 1}}
    read = job(metadata={"state": "FAILED", "error": {"message": "quota", "code": 8}} | stats)
    assert (read.error, read.error_code, read.announced_lines) == ("quota", 8, 3)
    assert job(state="FAILED", error={"message": "first"}, metadata={"error": {"message": "second"}}).error == "first"
    assert job(state="SUCCEEDED").announced_lines is None
    with pytest.raises(ValueError, match="names no state"):
        job(metadata={})


@pytest.mark.parametrize(
    ("operation", "refuses_batch"),
    [
        ({"state": "FAILED", "error": {"message": "no", "code": 403}}, True),
        ({"state": "FAILED", "error": {"message": "Model gemini-1 is not supported.", "code": 3}}, True),
        ({"state": "FAILED", "error": {"message": "a line is wrong", "code": 3}}, False),
        ({"state": "FAILED"}, False),
        ({"state": "EXPIRED", "error": {"message": "no", "code": 403}}, False),
        ({"state": "SUCCEEDED", "error": {"message": "no", "code": 403}}, False),
        ({"state": "FAILED", "error": {"message": "no", "code": 403}, "dest": {"fileName": "files/out-1"}}, False),
    ],
)
def test_a_job_that_failed_for_what_all_its_requests_share_refuses_the_batch(operation: dict[str, Any], refuses_batch: bool) -> None:
    assert job(**operation).refuses_batch is refuses_batch


@pytest.mark.parametrize("name", ["operations", "batches", "batchJobs"])
def test_a_list_of_jobs_is_found_under_each_of_its_names(name: str) -> None:
    assert [listed.name for listed in read_page(json.dumps({name: [{"name": NAME}]}).encode())[0]] == [NAME]
    assert read_page(b"{}") == ([], "")


@pytest.mark.parametrize("config", ["inputConfig", "src"])
@pytest.mark.parametrize("is_inside", [True, False])
def test_a_listed_job_is_known_by_its_name_and_by_its_file_of_requests(config: str, is_inside: bool) -> None:
    facts = {"createTime": "2026-01-01", "displayName": "b-1", config: {"fileName": "files/in-1"}}
    listed = {"name": NAME, "metadata": facts} if is_inside else {"name": NAME} | facts
    page = {"operations": [listed, "odd", {"metadata": {}}], "nextPageToken": "more"}
    assert read_page(json.dumps(page).encode()) == ([ListedJob(NAME, "2026-01-01", "b-1", "files/in-1")], "more")


@pytest.mark.parametrize(
    ("stated", "sha256"),
    [
        (SHA256.upper(), SHA256),
        (base64.b64encode(bytes.fromhex(SHA256)).decode(), SHA256),
        (base64.b64encode(SHA256.encode()).decode(), SHA256),
        ("!" + base64.b64encode(bytes.fromhex(SHA256)).decode(), None),
        (base64.b64encode(b"a" * 33).decode(), None),
        ("unknown", None),
        (7, None),
    ],
)
def test_a_hash_is_read_in_each_of_its_spellings(stated: object, sha256: str | None) -> None:
    assert file_facts(sizeBytes="12", sha256Hash=stated) == FileFacts(12, sha256)
