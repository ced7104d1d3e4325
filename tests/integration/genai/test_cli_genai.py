"""`medallion genai …`, on a batch of articles that went through the emulator."""

import json
from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest

from medallion_defs.core.settings import Settings, load_settings
from medallion_defs.genai.emulator_faults import CallFault, Faults, ItemFault
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
    assert "is cancelled; one that is reserved, submitting or active" in str(call("genai", "cancel", batch.batch_id).exception)


def test_a_batch_under_way_is_cancelled_at_the_provider(cli: Transport, summaries: Task) -> None:
    cli.provider.faults = Faults(polls=100)
    for tasks_batch in runner.plan(cli.settings, summaries).batch_ids:
        runner.process(cli.settings, summaries, tasks_batch)
    cli.send()
    [batch] = cli.state.list_batches("active")
    assert "cancelled by the provider" in call("genai", "cancel", batch.batch_id).output
    assert cli.poll().ended == (batch.batch_id,)


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
