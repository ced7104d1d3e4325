"""`medallion retention` over all layers: what goes, what stays because rows are made of it, and what a trace says afterwards."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from medallion_defs.bronze.maintenance.retention import apply_bronze, plan_bronze
from medallion_defs.bronze.maintenance.retention_job import build_bronze_retention
from medallion_defs.core import clock
from medallion_defs.core.sections import RetentionSettings, SourceRetention, SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.locations.silver import load_contents
from medallion_defs.ops.dagster_runs import prune_runs
from medallion_defs.silver.retention import build_silver_retention
from medallion_defs.silver.wanted import Wanted, which_batches
from medallion_defs.storage.local.publisher import LocalStore
from tests.folders import make_removable
from tests.integration.commands import call, load_pending
from tests.integration.dagster_assets import drop
from tests.integration.test_impact import deliver, event


@pytest.fixture
def monday(project: Settings) -> Settings:
    """Three revisions of one file: the first is superseded whole, the second keeps one key, the third is current."""
    deliver(project, "driver_events", "monday.jsonl", event("e1", "first"), event("e2", "first"))
    deliver(project, "driver_events", "monday.jsonl", event("e1", "second"), event("e2", "second"))
    deliver(project, "driver_events", "monday.jsonl", event("e1", "third"))
    return project


def set_policy(monkeypatch: pytest.MonkeyPatch, settings: Settings, **policy: Any) -> Settings:
    """As if medallion.yaml said so: for this process's settings, and for those that the command line reads."""
    sources = {"driver_events": SourceSettings(retention=SourceRetention(**policy))}
    changed = settings.model_copy(update={"sources": sources})
    monkeypatch.setattr("medallion_defs.cli.retention.load_settings", lambda: changed)
    return changed


def retention(*words: str) -> Any:
    result = call("retention", "--json", *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def statuses(db: psycopg.Connection) -> dict[str, str]:
    db.rollback()
    return dict(db.execute("SELECT bronze_path, status FROM ops.file_ingestions").fetchall())


def gold(db: psycopg.Connection) -> list[tuple[Any, ...]]:
    db.rollback()
    return db.execute("SELECT event_id, event_type FROM gold.driver_events_enriched ORDER BY 1").fetchall()


def test_nothing_goes_without_a_policy(monday: Settings, db: psycopg.Connection) -> None:
    assert retention("--apply")["lines"] == []
    assert set(statuses(db).values()) == {"loaded"}


def test_a_superseded_revision_goes_and_one_that_a_live_row_is_made_of_stays(
    monday: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = set_policy(monkeypatch, monday, keep_revisions=1)
    before = statuses(db)
    [line] = retention()["lines"]
    assert (line["rule"], line["number"], line["kept_for_traces"]) == ("policy keep_revisions 1", 1, 1)
    assert statuses(db) == before
    [line] = retention("--apply")["lines"]
    assert (line["number"], line["kept_for_traces"]) == (1, 1)
    assert statuses(db) == {
        "driver_events/monday.jsonl": "removed",
        "driver_events/monday.jsonl@2": "loaded",
        "driver_events/monday.jsonl@3": "loaded",
    }
    assert call("bronze", "verify").exit_code == 0
    folder = settings.bronze_path / "driver_events" / "monday.jsonl"
    assert [path.name for path in folder.iterdir()] == ["_removed.json"]
    [line] = retention("--apply")["lines"]
    assert line["number"] == 0


def test_a_trace_of_a_removed_item_says_when_and_by_which_policy(monday: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    set_policy(monkeypatch, monday, keep_revisions=1)
    found = json.loads(call("trace", "driver_events/monday.jsonl", "--json").output)
    sha256 = found["item"]["artifacts"][0]["sha256"]
    retention("--apply")
    output = call("trace", "driver_events/monday.jsonl").output
    assert f"removed on {clock.now():%Y-%m-%d} by policy keep_revisions 1" in output
    assert sha256 in output


def test_even_if_traced_takes_the_bytes_and_the_row_traces_to_their_hash(
    monday: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_policy(monkeypatch, monday, keep_revisions=1, even_if_traced=True)
    before = gold(db)
    [line] = retention("--apply")["lines"]
    assert (line["number"], line["rule"]) == (2, "policy keep_revisions 1 even_if_traced")
    assert gold(db) == before
    output = call("trace", "gold.driver_events_enriched", "e2").output
    assert "by policy keep_revisions 1 even_if_traced" in output
    assert "sha256" in output


def test_a_removed_item_is_not_fetched_discovered_requeued_or_backfilled_again(
    monday: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(monday, "driver_events", "tuesday.jsonl", event("e1", "fourth"), event("e2", "fourth"))
    settings = set_policy(monkeypatch, monday, max_age_days=1)
    monkeypatch.setattr("medallion_defs.cli.retention.clock.now", lambda: clock_in_a_week)
    retention("--apply")
    removed = {path for path, status in statuses(db).items() if status == "removed"}
    assert removed == {f"driver_events/monday.jsonl{suffix}" for suffix in ("", "@2", "@3")}
    monkeypatch.undo()
    monkeypatch.setenv("MEDALLION_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("MEDALLION_DATABASE_URL", str(settings.database_url))
    drop(settings, "driver_events", "monday.jsonl", (json.dumps(event("e1", "third")) + "\n").encode())
    output = call("fetch", "driver_events").output
    assert "not taken  monday.jsonl: driver_events/monday.jsonl@3 had the same bytes and was removed on" in output
    assert call("requeue", "--status", "loaded").output.startswith("1 items")
    load_pending(settings)
    assert call("backfill", "silver.driver_events").exit_code == 0
    call("bronze", "reindex")
    for mode in ("scan", "index"):
        again = settings.model_copy(update={"sources": {"driver_events": SourceSettings(discovery=mode)}})
        load_pending(again)
    assert {path for path, status in statuses(db).items() if status == "removed"} == removed
    assert gold(db) == [("e1", "fourth"), ("e2", "fourth")]


clock_in_a_week = clock.now() + timedelta(days=7)


@pytest.mark.parametrize("mode", ["scan", "index"])
def test_a_ledger_that_was_lost_learns_of_removed_items_from_bronze(
    monday: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    settings = set_policy(monkeypatch, monday, keep_revisions=1)
    retention("--apply")
    before = statuses(db)
    db.execute("TRUNCATE ops.file_ingestions, silver.driver_events, gold.driver_events_enriched")
    db.commit()
    again = settings.model_copy(update={"sources": {"driver_events": SourceSettings(discovery=mode)}})
    load_pending(again)
    assert statuses(db) == before
    [(by,)] = db.execute("SELECT bronze_removed_by FROM ops.file_ingestions WHERE status = 'removed'").fetchall()
    assert by == "policy keep_revisions 1"
    db.rollback()
    assert db.execute("SELECT event_id, event_type FROM silver.driver_events ORDER BY 1").fetchall() == [("e1", "third"), ("e2", "second")]


def test_an_item_that_is_loaded_again_between_the_plan_and_the_removal_stays(monday: Settings, db: psycopg.Connection) -> None:
    settings = monday.model_copy(update={"sources": {"driver_events": SourceSettings(retention=SourceRetention(keep_revisions=1))}})
    plans = plan_bronze(settings, clock.now())
    [removable] = plans[0].removable
    assert call("backfill", "silver.driver_events", "--file-id", str(removable.item.file_id)).exit_code == 0
    [line] = apply_bronze(settings, LocalStore(settings.bronze_path), plans, clock.now()).lines
    assert line.number == 0
    assert set(statuses(db).values()) == {"loaded"}


def test_an_item_that_failed_or_waits_is_never_removed(project: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(project, "driver_events", "noise.bin", b"\x00\x01")
    call("fetch", "driver_events")
    for content in load_contents():
        list(which_batches(project, content, Wanted()))
    deliver(project, "driver_events", "noise.jsonl", event("e1"))
    set_policy(monkeypatch, project, max_age_days=1)
    monkeypatch.setattr("medallion_defs.cli.retention.clock.now", lambda: clock_in_a_week)
    [line] = retention("--apply")["lines"]
    assert (line["number"], line["kept_for_traces"]) == (0, 1)
    assert statuses(db)["driver_events/noise.bin"] == "claimed"


def test_rejects_go_by_age_and_the_ledger_keeps_their_number(
    project: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(project, "driver_events", "a.jsonl", event("e1"), {"event_id": ""})
    deliver(project, "driver_events", "b.jsonl", event("e2"), {"event_id": ""})
    db.execute(
        "UPDATE silver.rejected_rows SET created_at = now() - interval '40 days' WHERE ctid = (SELECT min(ctid) FROM silver.rejected_rows)"
    )
    db.commit()
    changed = project.model_copy(update={"retention": RetentionSettings(rejects_days=30)})
    monkeypatch.setattr("medallion_defs.cli.retention.load_settings", lambda: changed)
    assert [(line["what"], line["number"]) for line in retention()["lines"]] == [("silver.rejected_rows", 1)]
    assert db.execute("SELECT count(*) FROM silver.rejected_rows").fetchone() == (2,)
    assert retention("--apply")["lines"][0]["number"] == 1
    db.rollback()
    assert db.execute("SELECT count(*) FROM silver.rejected_rows").fetchone() == (1,)
    assert db.execute("SELECT sum(silver_rows_rejected) FROM ops.file_ingestions").fetchone() == (2,)


def test_old_runs_go_but_not_live_ones_open_ones_or_the_last_success_of_a_job(instance: dg.DagsterInstance) -> None:
    @dg.op
    def succeed() -> None: ...

    @dg.job
    def work() -> None:
        succeed()

    ended = [work.execute_in_process(instance=instance).run_id for _ in range(4)]
    live = instance.create_run_for_job(work).run_id
    later = clock.now() + timedelta(days=1)
    line = prune_runs(instance, 1, later, {ended[1]}, apply=False)
    assert (line.number, len(instance.get_runs())) == (2, 5)
    assert prune_runs(instance, 1, later, {ended[1]}, apply=True).number == 2
    assert {run.run_id for run in instance.get_runs()} == {ended[1], ended[3], live}
    assert instance.all_logs(ended[0]) == []
    assert prune_runs(instance, 1, datetime.fromtimestamp(0, tz=later.tzinfo), set(), apply=True).number == 0


def test_runs_days_without_an_instance_is_a_sentence(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = project.model_copy(update={"retention": RetentionSettings(runs_days=30)})
    monkeypatch.setattr("medallion_defs.cli.retention.load_settings", lambda: changed)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    result = call("retention")
    assert result.exit_code == 1
    assert "Export DAGSTER_HOME" in str(result.exception)


@pytest.fixture(autouse=True)
def removable(tmp_path: Path) -> Any:
    yield
    make_removable(tmp_path)


def test_the_jobs_of_the_schedules_do_the_same_and_say_so(monday: Settings, db: psycopg.Connection, instance: dg.DagsterInstance) -> None:
    settings = monday.model_copy(
        update={
            "sources": {"driver_events": SourceSettings(retention=SourceRetention(keep_revisions=1))},
            "retention": RetentionSettings(rejects_days=30, runs_days=30),
        }
    )
    for defs, name in ((build_bronze_retention(), "retention_bronze"), (build_silver_retention(), "retention_silver")):
        [job] = [job for job in defs.jobs or () if isinstance(job, dg.JobDefinition) and job.name == name]
        result = job.execute_in_process(instance=instance, resources={"settings": settings})
        assert result.success
    messages = [entry.user_message for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
    assert "bronze/driver_events: 1 removed by policy keep_revisions 1, 1 kept for rows made of them." in messages
    assert "0 rejected records deleted: policy rejects_days 30." in messages
    assert statuses(db)["driver_events/monday.jsonl"] == "removed"
