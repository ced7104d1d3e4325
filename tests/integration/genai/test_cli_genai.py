"""`medallion genai …`, on a batch of articles that went through the emulator."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from medallion_defs.core import clock
from medallion_defs.core.settings import Settings, load_settings
from medallion_defs.genai.emulator_faults import CallFault, Faults, ItemFault
from medallion_defs.genai.state import GenaiBatch
from medallion_defs.labeling import runner
from medallion_defs.labeling.registry import Task, load_tasks
from tests.integration.commands import call
from tests.integration.genai.conftest import MODEL, PRICES, Transport, run_round
from tests.integration.labeling.notes import make_due

KEYS = [f"text.summarize:{name}.html" for name in ("one", "two", "three")]
PUT_ARTICLE = """
INSERT INTO silver.articles (article_id, filename, body_text, body_words, body_sha256, file_id, source_record, bronze_at)
VALUES (%(name)s, %(name)s, %(text)s, 3, md5(%(name)s), %(file_id)s, 1, now())
"""


@pytest.fixture
def cli(project: Settings, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> Transport:
    """The transport and the command line share one configuration."""
    prices = json.dumps([price.model_dump(mode="json") for price in PRICES])
    for name, value in {"BASE_URL": str(transport.settings.genai.base_url), "PRICES": prices, "MAX_RETRIES": "0"}.items():
        monkeypatch.setenv(f"MEDALLION_GENAI__{name}", value)
    return replace(transport, settings=load_settings())


@pytest.fixture
def summaries(cli: Transport, db: psycopg.Connection) -> Task:
    """Three articles, and the task that summarizes them with the priced model."""
    for key in KEYS:
        db.execute(PUT_ARTICLE, {"name": key.partition(":")[2], "text": f"The text of {key}.", "file_id": uuid4()})
    db.commit()
    task = load_tasks()["text.summarize"]
    return replace(task, profiles=tuple(profile.model_copy(update={"model": MODEL}) for profile in task.profiles))


def test_a_batch_is_listed_with_its_state_and_its_cost(cli: Transport, summaries: Task) -> None:
    [report] = run_round(cli, summaries)
    [batch] = json.loads(call("genai", "batches", "--json").output)
    assert (batch["batch_id"], batch["status"], batch["request_count"]) == (report.batch_id, "completed", 3)
    assert report.batch_id in call("genai", "batches", "--task", "text.summarize").output
    [day] = json.loads(call("genai", "costs", "--json").output)
    assert (day["task_key"], day["requests"], day["settled_usd"]) == ("text.summarize", 3, batch["settled_usd"])


def test_failures_are_shown_reported_and_asked_again(cli: Transport, summaries: Task, db: psycopg.Connection) -> None:
    cli.provider.faults = Faults(items=[ItemFault(kind="max_tokens", keys=KEYS[:1])])
    [report] = run_round(cli, summaries)
    [failure] = json.loads(call("genai", "failures", "--batch", report.batch_id, "--json").output)
    assert (failure["record_key"], failure["error_type"]) == (KEYS[0], "MaxTokens")
    assert failure["raw_response_json"]["response"]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    shown = json.loads(call("genai", "report", report.batch_id, "--json").output)
    assert (shown["total"], shown["success"], shown["failures"][0]["retry"]) == (3, 2, 1)
    assert "(Maxed)" in call("genai", "report", report.batch_id).output
    assert KEYS[0] in call("genai", "dead").output
    cli.provider.faults = Faults()
    assert "1 records are asked for again" in call("genai", "requeue", KEYS[0]).output
    make_due(db)
    assert [again.success for again in run_round(cli, summaries)] == [1]
    assert json.loads(call("genai", "dead", "--json").output) == []


def test_what_each_record_cost_adds_up_to_what_its_batch_cost(cli: Transport, summaries: Task) -> None:
    cli.provider.faults = Faults(items=[ItemFault(kind="max_tokens", keys=KEYS[:1])])
    [report] = run_round(cli, summaries)
    tasks = json.loads(call("tasks", "list", "--task", summaries.task_key, "--json").output)
    lives = [json.loads(call("tasks", "show", task["task_id"], "--json").output) for task in tasks]
    costs = [Decimal(event["cost_usd"]) for life in lives for event in life["events"] if event["cost_usd"]]
    assert len(costs) == len(KEYS)
    assert sum(costs) == report.cost_usd


def test_a_record_that_is_not_dead_cannot_be_requeued(cli: Transport) -> None:
    result = call("genai", "requeue", "nobody")
    assert "Not among the dead: nobody" in str(result.exception)
    assert "Name records, or say --all." in str(call("genai", "requeue").exception)


def test_a_batch_that_was_not_sent_is_given_up_and_asked_for_again(cli: Transport, summaries: Task, db: psycopg.Connection) -> None:
    for tasks_batch in runner.plan(cli.settings, summaries).batch_ids:
        runner.process(cli.settings, summaries, tasks_batch)
    [batch] = cli.state.list_batches("reserved")
    assert "is given up" in call("genai", "cancel", batch.batch_id).output
    assert cli.state.list_batches("reserved") == []
    assert [report.success for report in run_round(cli, summaries)] == [3]
    assert "is cancelled; one whose answers are not in bronze" in str(call("genai", "cancel", batch.batch_id).exception)


def start(cli: Transport, task: Task, **faults: Any) -> GenaiBatch:
    """Send the task's only batch; return it as the provider has it."""
    cli.provider.faults = Faults.model_validate(faults)
    for tasks_batch in runner.plan(cli.settings, task).batch_ids:
        runner.process(cli.settings, task, tasks_batch)
    cli.send()
    [batch] = cli.state.list_batches("active", "submitting")
    return batch


def free(cli: Transport, batch_id: str) -> tuple[str, int, Decimal]:
    """Status, records in flight, and dollars that are spent or reserved."""
    [(in_flight,)] = cli.connection.execute("SELECT count(*) FROM ops.inflight_records").fetchall()
    return cli.read(batch_id).status, in_flight, cli.state.read_committed("text.summarize", clock.now())[0]


def test_a_batch_under_way_is_cancelled_at_the_provider_and_asked_again(cli: Transport, summaries: Task) -> None:
    batch = start(cli, summaries, polls=100)
    assert "is given up" in call("genai", "cancel", batch.batch_id).output
    assert free(cli, batch.batch_id) == ("cancelled", 0, 0)
    assert [job.state for job in cli.provider.jobs.values()] == ["BATCH_STATE_CANCELLED"]
    cli.provider.faults = Faults()
    assert [report.success for report in run_round(cli, summaries)] == [3]
    assert json.loads(call("genai", "dead", "--json").output) == []


@pytest.mark.parametrize(
    ("called", "fault"),
    [
        ("get", {"status": 503}),
        ("get", {"status": 403}),
        ("get", {"body": "<html>"}),
        ("cancel", {"status": 503}),
        ("cancel", {"status": 403}),
    ],
)
def test_cancel_frees_records_and_dollars_whatever_the_provider_says(
    cli: Transport, summaries: Task, called: str, fault: dict[str, Any]
) -> None:
    batch = start(cli, summaries, polls=100, calls=[{"call": called, "times": 100, **fault}])
    assert "is given up" in call("genai", "cancel", batch.batch_id).output
    assert free(cli, batch.batch_id) == ("cancelled", 0, 0)
    cli.provider.faults = Faults()
    assert [report.success for report in run_round(cli, summaries)] == [3]


def test_answers_that_were_ready_when_a_person_cancelled_are_collected(cli: Transport, summaries: Task) -> None:
    batch = start(cli, summaries, polls=0)
    cli.provider.poll(str(batch.provider_name))
    assert "Its answers are collected" in call("genai", "cancel", batch.batch_id).output
    assert [report.success for report in run_round(cli, summaries)] == [3]
    assert cli.provider.calls.count("create") == 1


def look_for_an_hour(cli: Transport) -> None:
    cli.poll()
    cli.poll()
    cli.connection.execute("UPDATE ops.active_batches SET ended_at = ended_at - interval '1 hour'")
    cli.poll()


def test_a_held_batch_is_resumed_or_given_up_by_a_person(cli: Transport, summaries: Task) -> None:
    batch = start(cli, summaries, polls=0, output="nowhere")
    assert "one that is held can be resumed" in str(call("genai", "resume", batch.batch_id).exception)
    look_for_an_hour(cli)
    assert "no downloaded file" in str(call("genai", "resume", batch.batch_id, "--as-is").exception)
    assert "looked at again" in call("genai", "resume", batch.batch_id).output
    look_for_an_hour(cli)
    assert cli.read(batch.batch_id).status == "held"
    [held] = [each["sentence"] for each in json.loads(call("status", "--json").output)["findings"] if each["kind"] == "held"]
    assert f"text.summarize: batch {batch.batch_id} is held with 3 records" in held
    assert f"'medallion genai resume {batch.batch_id}' looks at it again" in held
    assert f"medallion genai resume {batch.batch_id}" in " ".join(call("status").output.split())
    assert "count as spent" in call("genai", "cancel", batch.batch_id).output
    assert free(cli, batch.batch_id) == ("cancelled", 0, batch.reserved_usd)


def test_a_batch_whose_create_call_was_lost_is_looked_for_before_it_is_given_up(cli: Transport, summaries: Task) -> None:
    cli.provider.faults = Faults(calls=[CallFault(call="create", cut=True)])
    for tasks_batch in runner.plan(cli.settings, summaries).batch_ids:
        runner.process(cli.settings, summaries, tasks_batch)
    cli.send()
    [batch] = cli.state.list_batches("submitting")
    assert "may not show the job" in str(call("genai", "cancel", batch.batch_id).exception)
    cli.connection.execute("UPDATE ops.active_batches SET submitted_at = now() - interval '1 hour'")
    assert "the provider has no job of it" in call("genai", "cancel", batch.batch_id).output
    assert cli.read(batch.batch_id).status == "cancelled"
    assert [report.success for report in run_round(cli, summaries)] == [3]


def test_a_batch_that_a_run_is_at_cannot_be_cancelled_meanwhile(cli: Transport, summaries: Task) -> None:
    for tasks_batch in runner.plan(cli.settings, summaries).batch_ids:
        runner.process(cli.settings, summaries, tasks_batch)
    [batch] = cli.state.list_batches("reserved")
    with cli.state.alone(batch.batch_id):
        assert "A run is at batch" in str(call("genai", "cancel", batch.batch_id).exception)
    assert cli.read(batch.batch_id).status == "reserved"


def test_answers_are_parsed_again_by_task(cli: Transport, summaries: Task) -> None:
    [report] = run_round(cli, summaries)
    assert call("genai", "reparse", "--task", "text.summarize").output.strip() == f"{report.batch_id}: 3 answers given to their tasks"
    assert cli.provider.calls.count("create") == 1


def test_an_unknown_batch_is_named(cli: Transport) -> None:
    assert "No answers in bronze for batch nope" in str(call("genai", "report", "nope").exception)
    assert "There is no batch nope" in str(call("genai", "cancel", "nope").exception)
