"""`medallion forget` and `medallion withdraw` over all layers: nothing of the subject is left, and gold follows."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from medallion_defs.core import clock
from medallion_defs.core.settings import Settings
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.gold.enrich_run import run_work
from medallion_defs.labeling import runner
from medallion_defs.labeling.registry import load_tasks
from medallion_defs.locations import bronze, silver
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.ledger import Ledger
from medallion_defs.storage.local.publisher import LocalStore
from medallion_defs.storage.publishing import NewArtifact, NewItem
from medallion_defs.storage.tombstone import subject_sha256
from tests.folders import make_removable
from tests.integration.commands import call, load_pending
from tests.integration.dagster_assets import drop, materialize
from tests.integration.test_impact import deliver, event

NAME = "people/jane doe/trips.jsonl"


@pytest.fixture(autouse=True)
def removable(tmp_path: Path) -> Any:
    yield
    make_removable(tmp_path)


def forget(source: str, external_id: str, *words: str) -> Any:
    result = call("forget", "--source", source, "--external-id", external_id, "--json", *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def rows(db: psycopg.Connection, query: str) -> list[tuple[Any, ...]]:
    db.rollback()
    return db.execute(query).fetchall()


def dump(db: psycopg.Connection) -> str:
    """Everything that the schemas hold, as text."""
    tables = rows(db, "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('ops', 'silver', 'gold')")
    return "\n".join(str(rows(db, f"SELECT * FROM {table}")) for (table,) in tables)


def everything_below(folder: Path) -> str:
    return "\n".join(f"{path} {path.read_bytes()!r}" if path.is_file() else str(path) for path in folder.rglob("*"))


def deliver_jane(settings: Settings) -> None:
    deliver(settings, "driver_events", "others.jsonl", event("e1", "others"), event("e9", "others"))
    deliver(settings, "driver_events", NAME, event("e1", "janes"), event("e2", "janes"), {"event_id": "", "note": "jane"})
    deliver(settings, "driver_events", NAME, event("e2", "janes"), event("e3", "janes"))


def test_without_yes_it_says_what_would_go_and_changes_nothing(project: Settings, db: psycopg.Connection) -> None:
    deliver_jane(project)
    before = dump(db), everything_below(project.data_path)
    [found] = forget("driver_events", NAME)
    assert len(found["survey"]["paths"]) == 2
    assert found["survey"]["rows"]["silver.driver_events by file_id"] == 3
    assert len(found["files"]) == 2
    assert (dump(db), everything_below(project.data_path)) == before


def test_a_forgotten_subject_is_nowhere_and_the_others_are_untouched(project: Settings, db: psycopg.Connection) -> None:
    deliver_jane(project)
    [report] = forget("driver_events", NAME, "--yes")
    assert report["erased"]["silver.driver_events"] == 3
    assert report["erased"]["silver.rejected_rows"] == 1
    assert report["erased"]["gold.driver_events_enriched"] == 3
    assert report["erased"]["revisions in bronze"] == 2
    assert report["erased"]["files in landing and landing/.taken"] == 2
    assert report["tombstone"] == f"sha256:{subject_sha256('driver_events', NAME)}"
    assert "jane" not in json.dumps(report)
    assert "jane" not in dump(db)
    assert "jane" not in everything_below(project.data_path)
    assert rows(db, "SELECT event_id FROM gold.driver_events_enriched") == [("e9",)]
    assert call("bronze", "verify").exit_code == 0
    output = call("trace", report["file_ids"][0]).output
    assert "removed on" in output
    assert "by forget" in output


def test_what_older_files_had_comes_back_by_itself(project: Settings, db: psycopg.Connection) -> None:
    deliver_jane(project)
    [report] = forget("driver_events", NAME, "--yes")
    assert "1 other items have some of its keys: they are read again by the next run, and take over." in report["remains"]
    load_pending(project)
    assert rows(db, "SELECT event_id, event_type FROM silver.driver_events ORDER BY 1") == [("e1", "others"), ("e9", "others")]


def test_a_forgotten_company_leaves_its_events_without_what_was_known_of_it(project: Settings, db: psycopg.Connection) -> None:
    deliver(project, "companies", "c.jsonl", {"company_id": "C1", "name": "Jane's Cabs"})
    deliver(project, "driver_events", "monday.jsonl", event("e1"), event("e2", company="C2"))
    assert rows(db, "SELECT company_name FROM gold.driver_events_enriched ORDER BY event_id") == [("Jane's Cabs",), (None,)]
    [report] = forget("companies", "c.jsonl", "--yes")
    assert report["erased"]["gold.driver_events_enriched, made again without its values"] == 1
    assert rows(db, "SELECT event_id, match_status, company_name FROM gold.driver_events_enriched ORDER BY 1") == [
        ("e1", "unmatched", None),
        ("e2", "unmatched", None),
    ]
    assert "Jane" not in dump(db)
    deliver(project, "companies", "other.jsonl", {"company_id": "C1", "name": "Cabs"})
    assert rows(db, "SELECT company_name FROM gold.driver_events_enriched ORDER BY event_id") == [("Cabs",), (None,)]


def test_the_same_external_id_is_refused_afterwards_and_its_name_reaches_no_log(
    project: Settings, db: psycopg.Connection, instance: Any
) -> None:
    deliver_jane(project)
    forget("driver_events", NAME, "--yes")
    drop(project, "driver_events", NAME, b'{"event_id": "e7"}\n')
    result = materialize(bronze.defs, ["bronze", "driver_events"], project, instance)
    assert result.success
    assert "jane" not in str([record.message for record in instance.all_logs(result.run_id)])
    assert "jane" not in dump(db)
    [(name, reason)] = rows(db, "SELECT external_id, bronze_error FROM ops.file_ingestions WHERE status = 'refused'")
    assert name == f"sha256:{subject_sha256('driver_events', NAME)}"
    assert "was forgotten and is not taken again" in reason
    assert call("fetch", "driver_events").exit_code == 1
    [report] = forget("driver_events", NAME, "--yes")
    assert report["erased"] == {"files in landing and landing/.taken": 1}
    assert call("fetch", "driver_events").exit_code == 0


def test_a_forgotten_item_stays_forgotten_when_the_ledger_is_lost(project: Settings, db: psycopg.Connection) -> None:
    deliver_jane(project)
    forget("driver_events", NAME, "--yes")
    load_pending(project)  # the other item, which has some of the same keys, is read again
    before = rows(db, "SELECT file_id, external_id, bronze_path, status FROM ops.file_ingestions ORDER BY 1")
    assert "pending" not in [status for *_, status in before]
    db.execute("TRUNCATE ops.file_ingestions")
    db.commit()
    load_pending(project)
    assert rows(db, "SELECT file_id, external_id, bronze_path, status FROM ops.file_ingestions ORDER BY 1") == before


def test_any_table_that_names_items_is_found_and_what_was_made_because_of_the_subject_goes_with_it(
    project: Settings, db: psycopg.Connection
) -> None:
    deliver_jane(project)
    deliver(project, "companies", "answer about jane.jsonl", {"company_id": "C9", "name": "jane says"})
    [(subject,)] = rows(db, "SELECT file_id FROM ops.file_ingestions WHERE external_id LIKE 'people%' AND revision = 2")
    [(answer,)] = rows(db, "SELECT file_id FROM ops.file_ingestions WHERE external_id LIKE 'answer%'")
    db.execute("CREATE TABLE silver.task_results_of_a_test (file_id uuid, answer_file_id uuid, answer text)")
    db.execute("CREATE TABLE gold.labels_of_a_test (file_id uuid, label text)")
    db.execute("INSERT INTO silver.task_results_of_a_test VALUES (%s, %s, 'jane says'), (%s, NULL, 'other')", (subject, answer, uuid4()))
    db.execute("INSERT INTO gold.labels_of_a_test VALUES (%s, 'jane'), (%s, 'other')", (subject, uuid4()))
    db.commit()
    reports = forget("driver_events", NAME, "--yes")
    assert [report["source"] for report in reports] == ["driver_events", "companies"]
    assert reports[0]["erased"]["gold.labels_of_a_test"] == 1
    assert rows(db, "SELECT answer FROM silver.task_results_of_a_test") == [("other",)]
    assert rows(db, "SELECT label FROM gold.labels_of_a_test") == [("other",)]
    assert "jane" not in dump(db)
    assert "jane" not in everything_below(project.data_path)


def ask_about(settings: Settings, db: psycopg.Connection, subject: str, status: str) -> None:
    """A task about the newest revision of `subject`, asked in a batch together with a task about somebody else, and answered."""
    columns = "task_id, task_key, media_type, prompt_id, subject_table, subject_key, file_id, file_hash"
    [(file_id,)] = rows(db, f"SELECT file_id FROM ops.file_ingestions WHERE external_id = '{subject}' ORDER BY revision DESC LIMIT 1")
    for number, (about, text) in enumerate(((file_id, "jane"), (uuid4(), "other"))):
        task = {"task": UUID(int=number), "file": about, "text": text, "hash": f"hash of {number}"}
        db.execute(
            f"INSERT INTO silver.tasks_todo ({columns}, bytes)"
            " VALUES (%(task)s, 't', 'text', 'p', 'silver.x', %(text)s, %(file)s, %(hash)s, 1)", task
        )  # fmt: skip
        db.execute(
            f"INSERT INTO silver.tasks_results ({columns}, output, attempt, batch_id)"
            " VALUES (%(task)s, 't', 'text', 'p', 'silver.x', %(text)s, %(file)s, %(hash)s, to_jsonb(%(text)s::text), 1, 1)",
            task,
        )
        db.execute(
            "INSERT INTO silver.tasks_verdicts (task_key, media_type, file_hash, task_id, output, reason, reviewer)"
            " VALUES ('t', 'text', %(hash)s, %(task)s, to_jsonb(%(text)s::text), 'r', 'r')", task
        )  # fmt: skip
        frame = settings.derived_path / "t" / str(task["task"]) / f"{text}.jpg"
        frame.parent.mkdir(parents=True)
        frame.write_bytes(b"a picture")
        db.execute("INSERT INTO ops.batch_record_keys VALUES ('batch-1', %(text)s, %(task)s, 1, 'token')", task)
        db.execute(
            "INSERT INTO ops.failure_logs (record_key, batch_id, attempt_number, error_type, error_message, model_name, raw_response_text)"
            " VALUES (%(text)s, 'batch-1', 1, 'x', 'x', 'm', %(text)s)", task
        )  # fmt: skip
    db.execute(
        "INSERT INTO ops.active_batches (batch_id, status, mode, task_key, prompt_id, model, fingerprint, request_count, estimated_tokens,"
        " reserved_usd, settled_usd, deadline_at, provider_name)"
        " VALUES ('batch-1', %s, 'batch', 't', 'p', 'm', 'f', 2, 1, 1, 1, now(), 'n')",
        (status,),
    )
    with LocalStore(settings.bronze_path).group("gemini_batch") as group:
        artifact = NewArtifact("responses.jsonl", b"jane says; other says")
        group.stage(NewItem("batch-1", "batch-1.jsonl", "gemini", clock.now(), [artifact]))
        [publication] = group.publish()
    Ledger(db).register_published([DatasetIngestion.published(publication.item, clock.now())])
    db.commit()


def test_prompts_answers_and_task_results_go_with_their_subject_and_those_of_others_stay(project: Settings, db: psycopg.Connection) -> None:
    deliver_jane(project)
    ask_about(project, db, NAME, "completed")
    reports = forget("driver_events", NAME, "--yes")
    assert [report["source"] for report in reports] == ["driver_events", "gemini_batch"]
    assert {name: reports[0]["erased"][name] for name in reports[0]["erased"] if "tasks" in name or "ops" in name} == {
        "ops.failure_logs": 1, "ops.batch_record_keys": 1,
        "silver.tasks_todo": 1, "silver.tasks_results": 1, "silver.tasks_verdicts": 1,
    }  # fmt: skip
    assert "jane" not in dump(db)
    assert "jane" not in everything_below(project.data_path)
    assert reports[0]["erased"]["files in data/derived"] == 1
    assert [path.name for path in project.derived_path.rglob("*.jpg")] == ["other.jpg"]
    for table in ("tasks_todo", "tasks_results"):
        assert rows(db, f"SELECT subject_key FROM silver.{table}") == [("other",)]


def test_a_subject_that_a_model_was_asked_about_is_not_forgotten_before_it_answers(project: Settings, db: psycopg.Connection) -> None:
    deliver_jane(project)
    ask_about(project, db, NAME, "active")
    result = call("forget", "--source", "driver_events", "--external-id", NAME, "--yes")
    assert "A model was asked about it in batch-1" in str(result.exception)
    assert "jane" in everything_below(project.bronze_path)


def test_another_id_with_the_same_bytes_is_named_in_the_report(project: Settings) -> None:
    deliver(project, "driver_events", "jane.jsonl", event("e1"))
    deliver(project, "driver_events", "copy.jsonl", event("e1"))
    [report] = forget("driver_events", "jane.jsonl", "--yes")
    assert "driver_events/copy.jsonl" in str(report["remains"])


def test_an_unknown_subject_is_a_sentence_and_leaves_no_tombstone(project: Settings) -> None:
    result = call("forget", "--source", "driver_events", "--external-id", "nobody.csv", "--yes")
    assert result.exit_code == 1
    assert "Nothing is known of 'nobody.csv'" in str(result.exception)
    assert not list(project.bronze_path.glob("driver_events/~*"))


def test_what_is_being_loaded_is_not_forgotten_now(project: Settings, db: psycopg.Connection) -> None:
    deliver_jane(project)
    db.execute("UPDATE ops.file_ingestions SET silver_ingest_end_time = NULL, batch_id = 'b' WHERE external_id = %s", (NAME,))
    db.commit()
    result = call("forget", "--source", "driver_events", "--external-id", NAME, "--yes")
    assert "is being loaded (microbatch b)" in str(result.exception)
    assert "jane" in everything_below(project.bronze_path)


# -- withdraw ----------------------------------------------------------------------------------------------------------


def test_a_withdrawn_item_leaves_silver_and_gold_and_older_files_take_over(project: Settings, db: psycopg.Connection) -> None:
    deliver(project, "driver_events", "monday.jsonl", event("e1"), event("e2"))
    deliver(project, "driver_events", "monday.jsonl", event("e2", "bad"), event("e3", "bad"), {"event_id": ""})
    result = call("withdraw", "driver_events/monday.jsonl@2", "--reason", "wrong units", "--json")
    done = json.loads(result.output)
    assert done["deleted"] == {"silver.driver_events": 2, "silver.rejected_rows": 1, "gold.driver_events_enriched": 2}
    assert rows(db, "SELECT event_id, event_type FROM gold.driver_events_enriched") == [("e1", "position")]
    assert done["next"] == ["1 other items have some of its keys: they are read again by the next run, and take over."]
    load_pending(project)
    run_work(project, ENRICHMENT, "test", None)
    assert rows(db, "SELECT event_id, event_type FROM gold.driver_events_enriched ORDER BY 1") == [("e1", "position"), ("e2", "position")]
    assert rows(db, "SELECT status, bronze_withdrawn_reason FROM ops.file_ingestions WHERE revision = 2") == [("withdrawn", "wrong units")]
    assert (project.bronze_path / "driver_events" / "monday.jsonl@2" / "events.jsonl").exists()
    assert call("bronze", "verify").exit_code == 0
    assert "wrong units" in call("trace", "driver_events/monday.jsonl@2").output


def test_the_label_of_a_withdrawn_item_goes_at_once_and_comes_back_with_it(project: Settings, db: psycopg.Connection) -> None:
    task = load_tasks()["text.statistics"]
    lines = [f"<p>At {hour} o'clock the ferry left the harbour of island {hour}, with timber and mail.</p>" for hour in range(1, 9)]
    page = f"<html><body><article>{''.join(lines)}</article></body></html>"
    drop(project, "articles", "ferry.html", page.encode())
    call("fetch", "articles")
    load_pending(project)
    runner.run(project, task)
    assert call("tasks", "labels").exit_code == 0
    label = "SELECT subject_key, output FROM gold.media_labels"
    view = "SELECT subject_key, words FROM gold.label_text_statistics"
    before = rows(db, label), rows(db, view)
    assert [subject for subject, _ in before[0] + before[1]] == ["ferry.html", "ferry.html"]
    done = json.loads(call("withdraw", "articles/ferry.html", "--reason", "not ours", "--json").output)
    assert done["deleted"] == {"silver.articles": 1, "gold.media_labels": 1}
    assert (rows(db, label), rows(db, view), rows(db, "SELECT task_key FROM silver.tasks_withdrawn")) == ([], [], [("text.statistics",)])
    call("withdraw", "articles/ferry.html", "--undo")
    load_pending(project)
    assert runner.run(project, task).events == {}
    assert call("tasks", "labels").exit_code == 0
    assert (rows(db, label), rows(db, view)) == before
    [report] = forget("articles", "ferry.html", "--yes")
    assert report["erased"]["gold.media_labels"] == 1
    assert "ferry" not in dump(db)


def test_a_withdrawal_can_be_undone_and_requeue_does_not_undo_it(project: Settings, db: psycopg.Connection) -> None:
    deliver(project, "driver_events", "monday.jsonl", event("e1"))
    assert call("withdraw", "driver_events/monday.jsonl", "--reason", "bad").exit_code == 0
    assert call("requeue", "--status", "loaded", "--status", "dead").output.startswith("0 items")
    load_pending(project)
    assert rows(db, "SELECT count(*) FROM silver.driver_events") == [(0,)]
    assert call("withdraw", "driver_events/monday.jsonl", "--undo").exit_code == 0
    load_pending(project)
    assert rows(db, "SELECT event_id FROM silver.driver_events") == [("e1",)]
    assert "not withdrawn" in str(call("withdraw", "driver_events/monday.jsonl", "--undo").exception)


def test_a_pending_item_that_is_withdrawn_is_never_loaded(project: Settings, db: psycopg.Connection) -> None:
    drop(project, "driver_events", "monday.jsonl", b'{"event_id": "e1"}\n')
    call("fetch", "driver_events")
    assert call("withdraw", "driver_events/monday.jsonl", "--reason", "bad").exit_code == 0
    load_pending(project)
    assert rows(db, "SELECT status FROM ops.file_ingestions") == [("withdrawn",)]


def test_what_cannot_be_withdrawn_says_why(project: Settings) -> None:
    assert "The ledger knows no item" in str(call("withdraw", "driver_events/nobody", "--reason", "x").exception)
    assert "--reason" in str(call("withdraw", "driver_events/nobody").exception)
    deliver(project, "driver_events", "jane.jsonl", event("e1"))
    [report] = forget("driver_events", "jane.jsonl", "--yes")
    assert "is removed" in str(call("withdraw", report["file_ids"][0], "--reason", "x").exception)


def test_the_schedules_of_retention_are_stopped_by_default() -> None:
    found = {schedule.name: schedule.default_status.value for defs in (bronze.defs, silver.defs) for schedule in defs.schedules or ()}
    assert (found["retention_bronze"], found["retention_silver"]) == ("STOPPED", "STOPPED")
