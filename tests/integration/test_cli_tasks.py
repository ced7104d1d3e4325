"""`medallion tasks`, `medallion prompts` and the trace of a label, from an article in the landing folder to gold."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import Result

from medallion_defs.core.settings import Settings
from tests.integration.commands import call, load_pending
from tests.integration.dagster_assets import drop

PAGE = "<html lang='en'><head><title>Bridge {number}</title></head><body><article>{body}</article></body></html>"
BODY = (
    "<p>After two years of work the old bridge over the harbour opens to traffic on Monday, number {number}.</p>"
    "<p>Lorries of more than twelve tonnes still have to take the tunnel.</p>"
    "<p>The city spent nine million on new steel and on a path for bicycles.</p>"
)
TASK = "text.statistics"


@pytest.fixture
def articles(project: Settings) -> Settings:
    """A project with two articles in silver."""
    for number in range(2):
        drop(project, "articles", f"{number}.html", PAGE.format(number=number, body=BODY.format(number=number)).encode())
    assert call("fetch", "articles").exit_code == 0
    load_pending(project)
    return project


def good(*words: str) -> str:
    result = call(*words)
    assert result.exit_code == 0, result.output
    return result.output


def answer(*words: str) -> Any:
    return json.loads(good(*words, "--json"))


def refusal(result: Result) -> str:
    assert result.exit_code != 0
    return f"{result.exception} {result.output}"


def test_an_article_goes_through_the_three_steps_to_gold_and_is_traced_back_to_its_bytes(articles: Settings, tmp_path: Path) -> None:
    assert answer("tasks", "plan", "--task", TASK, "--dry-run")["planned"] == 2
    planned = answer("tasks", "plan", "--task", TASK, "--limit", "1")
    assert (planned["planned"], len(planned["batch_ids"])) == (1, 1)
    batch = str(planned["batch_ids"][0])
    assert answer("tasks", "process", "--task", TASK, "--batch-id", batch)["events"] == {"succeeded": 1}
    assert "nothing was done" in good("tasks", "process", "--task", TASK, "--batch_id", batch), "both spellings"
    assert answer("tasks", "consolidate", "--task", TASK)["counts"]["results_created"] == 1
    assert "1 new tasks" in good("tasks", "run", "--task", TASK)
    assert "There is no batch to process." in good("tasks", "process", "--task", TASK)
    assert answer("tasks", "labels")["labels"] == {TASK: {"processor": 2}}
    [first, _] = answer("tasks", "list", "--task", TASK, "--status", "succeeded")
    trace = answer("trace", "gold.media_labels", first["task_id"])
    [record] = trace["records"]
    assert (record["table"], record["key"], record["is_current"], record["source_record"]) == (
        "silver.articles",
        first["subject_key"],
        True,
        1,
    )
    assert len(record["item"]["artifacts"][0]["sha256"]) == 64
    assert record["item"]["artifacts"][0]["sha256"] in good("trace", "gold.media_labels", first["task_id"])
    item = answer("trace", record["item"]["bronze_path"])
    assert ("gold.media_labels", 1) in [(rows["table"], rows["rows"]) for rows in item["gold"]]
    assert "gold.media_labels" in good("impact", record["item"]["bronze_path"])


def test_a_label_whose_article_has_changed_since_still_names_its_item(articles: Settings) -> None:
    good("tasks", "run", "--task", TASK)
    good("tasks", "labels")
    [task] = [row for row in answer("tasks", "list", "--task", TASK) if row["subject_key"] == "0.html"]
    drop(articles, "articles", "0.html", PAGE.format(number=9, body=BODY.format(number="nine")).encode())
    good("fetch", "articles")
    load_pending(articles)
    [record] = answer("trace", "gold.media_labels", task["task_id"])["records"]
    assert (record["item"]["file_id"], record["is_current"], record["source_record"]) == (task["file_id"], False, None)
    assert "silver has a newer version" in good("trace", "gold.media_labels", task["task_id"])


def test_a_verdict_is_given_shown_and_withdrawn(articles: Settings, db: psycopg.Connection) -> None:
    good("tasks", "run", "--task", TASK)
    [task, _] = answer("tasks", "list", "--task", TASK)
    output = answer("tasks", "show", task["task_id"])["result"]["output"] | {"language": "fr"}
    said = ("--reason", "read it", "--reviewer", "ada")
    assert "0.0%" in good("tasks", "verdict", "give", task["task_id"], "--output", json.dumps(output), *said)
    good("tasks", "labels")
    assert db.execute("SELECT source FROM gold.media_labels ORDER BY 1").fetchall() == [("processor",), ("verdict",)]
    db.commit()
    verdict = answer("tasks", "show", task["task_id"])["verdict"]
    assert (verdict["reviewer"], verdict["output"]["language"]) == ("ada", "fr")
    [agreement] = answer("tasks", "verdict", "agreement")
    assert (agreement["verdicts"], agreement["rate"]) == (1, 0.0)
    good("tasks", "verdict", "withdraw", str(verdict["verdict_id"]))
    assert answer("tasks", "labels")["labels"] == {TASK: {"processor": 2}}


def test_failures_are_listed_requeued_and_counted(articles: Settings, db: psycopg.Connection) -> None:
    db.execute("UPDATE silver.articles SET body_text = ''")
    db.commit()
    good("tasks", "plan", "--task", TASK)
    db.execute(
        "UPDATE silver.tasks_todo SET status = 'dead', batch_id = 0, error_type = 'TerminalError', error_message = 'as if' "
        "WHERE subject_key = '0.html'"
    )
    db.commit()
    assert [row["subject_key"] for row in answer("tasks", "dead")] == ["0.html"]
    [metrics] = answer("tasks", "metrics")["tasks"]
    assert (metrics["task_key"], metrics["dead"]) == (TASK, 1)
    assert "TerminalError" in good("tasks", "metrics")
    assert "Say which" in refusal(call("tasks", "requeue"))
    assert "1 tasks are pending again" in good("tasks", "requeue", "--task", TASK)
    assert answer("tasks", "dead") == []


def test_what_succeeded_is_done_again_on_request_and_old_events_are_folded(articles: Settings) -> None:
    good("tasks", "run", "--task", TASK)
    assert "2 tasks about" in good("tasks", "backfill", "--task", TASK, "--dry-run")
    assert "2 tasks are to be done again" in good("tasks", "backfill", "--task", TASK)
    assert "0 tasks about" in good("tasks", "backfill", "--task", TASK, "--dry-run"), "what is pending is not counted twice"
    assert answer("tasks", "run", "--task", TASK)["consolidated"]["counts"]["succeeded"] == 2
    assert "0 tasks are to be done again" in good("tasks", "backfill", "--task", TASK, "--outdated")
    assert "at a time" in refusal(call("tasks", "backfill", "--task", TASK, "--outdated", "--since", "2026-01-01T00:00:00+00:00"))
    kept = answer("tasks", "housekeeping", "--keep-days", "0", "--reconcile")
    assert (kept["compacted"]["batches"], kept["repaired"]["orphans"]) == (2, 0)
    assert TASK in kept["reconciled"]


@pytest.mark.parametrize(
    "words",
    [
        ("tasks", "run", "--task", "no.such"),
        ("tasks", "list", "--task", "no.such"),
        ("prompts", "show", "no.such"),
        ("prompts", "promote", "no.such", "default"),
    ],
)
def test_an_unknown_task_is_refused_with_the_names_of_those_there_are(project: Settings, words: tuple[str, ...]) -> None:
    assert "There is no task 'no.such'. There are: audio.probe" in refusal(call(*words))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("tasks", "show", "x"), "'x' is no id"),
        (("tasks", "list", "--status", "lost"), "--status lost: there is pending, batched"),
        (("trace", "gold.media_labels"), "Name the row, too"),
        (("trace", "gold.media_labels", "x"), "'x' is no task id"),
        (("prompts", "promote", "text.summarize", "bold"), "has no profile 'bold'"),
        (("prompts", "rollback", "text.summarize"), "nothing to go back to"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(project: Settings, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refusal(call(*words))


def test_a_profile_is_shown_priced_promoted_compared_and_rolled_back(articles: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    task = "text.summarize"
    good("tasks", "plan", "--task", task)
    monkeypatch.setenv("MEDALLION_TASKS", json.dumps({task: {"model": "gemini-3.5-flash", "generation": {"temperature": 1}}}))
    assert "waiting for a decision" in good("tasks", "plan", "--task", task)
    lines = answer("prompts", "list", "--task", task)
    assert [(line["model"], line["state"]) for line in lines] == [("gemini-2.5-flash", "primary"), ("gemini-3.5-flash", "waiting")]
    differences = answer("prompts", "diff", task)["differences"]
    assert {each["field"]: each["is_semantic"] for each in differences} == {"model": True, "generation": True}
    assert "model (changes the answer)" in good("prompts", "diff", task)
    plan = answer("prompts", "plan", task)
    assert (plan["inputs"], plan["to_ask"], plan["reused"], plan["model"]) == (2, 2, 0, "gemini-3.5-flash")
    assert 100 < plan["prompt_tokens"] < 2_000
    assert "at most" in good("prompts", "plan", task)
    assert "is primary now" in good("prompts", "promote", task, "default")
    assert answer("tasks", "plan", "--task", task)["planned"] == 2
    old, new = lines[0]["prompt_id"], lines[1]["prompt_id"]
    assert answer("prompts", "compare", task, old, new)["inputs"] == 0
    assert "0 inputs answered by both" in good("prompts", "compare", task, old, new)
    assert old in good("prompts", "rollback", task)
    assert "is variant now" in good("prompts", "promote", task, new, "--as-variant")
    assert "is retired now" in good("prompts", "retire", task, new)
    assert "gemini-3.5-flash" in good("prompts", "show", task)
    assert answer("prompts", "show", task, old)["model"] == "gemini-2.5-flash"
