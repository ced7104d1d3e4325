"""What a person sees who lives in the Dagster page: failed items, scopes that match nothing, runs that did nothing, sentences first."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml

from medallion_defs.core import clock
from medallion_defs.core.sections import SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.locations import bronze, gold, silver
from medallion_defs.silver.assets import build_silver
from tests.conftest import ROOT
from tests.integration.dagster_assets import drop, materialize

NAME, GOLD = "driver_events", "driver_events_enriched"
KEY, GOLD_KEY = ["silver", NAME], ["gold", GOLD]
UNKNOWN = "00000000-0000-0000-0000-000000000000"
NOTHING_IN = [
    {"scope": "file_ids", "file_ids": [UNKNOWN]},
    {"scope": "dataset", "dataset": "no_such*"},
    {"scope": "since", "since": "2099-01-01T00:00:00+00:00"},
]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on disk, as a stack has one."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


def publish(settings: Settings, home: dg.DagsterInstance, name: str, content: bytes | None = None) -> None:
    event = {"event_id": name, "company_id": "C1"}
    drop(settings, NAME, name, json.dumps(event).encode() + b"\n" if content is None else content)
    assert materialize(bronze.defs, ["bronze", NAME], settings, home).success


def run_job(settings: Settings, home: dg.DagsterInstance, config: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:
    """Run the job `silver_driver_events`, with its checks, as the page and the sensor do."""
    content = next(content for content in silver.load_contents() if content.source.name == NAME)
    resources = dg.Definitions(resources={"settings": dg.ResourceDefinition.hardcoded_resource(settings)}, executor=dg.in_process_executor)
    job = dg.Definitions.merge(build_silver(content, "microbatch"), resources).resolve_job_def(f"silver_{NAME}")
    return job.execute_in_process(instance=home, run_config=config, raise_on_error=False)


def first_line(result: dg.ExecuteInProcessResult) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.error is not None
    return event.step_failure_data.error.message.splitlines()[0]


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def version(home: dg.DagsterInstance, key: list[str]) -> str:
    event = home.get_latest_materialization_event(dg.AssetKey(key))
    assert event is not None
    assert event.asset_materialization is not None
    return (event.asset_materialization.tags or {})["dagster/data_version"]


def check(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    [found] = [one for one in result.get_asset_check_evaluations() if one.check_name == name]
    return found


def loaded_by(db: psycopg.Connection) -> set[str]:
    rows = db.execute("SELECT silver_run_id FROM ops.file_ingestions WHERE status = 'loaded'").fetchall()
    db.rollback()
    return {run_id for (run_id,) in rows}


def test_a_dead_file_stays_in_sight_when_a_good_one_is_loaded_and_what_the_check_says_can_be_pasted(
    settings: Settings, db: psycopg.Connection, home: dg.DagsterInstance
) -> None:
    publish(settings, home, "noise.bin", b"\x00\x01")
    assert not check(run_job(settings, home), "no_failed_items").passed
    publish(settings, home, "good.jsonl")
    later = run_job(settings, home)
    assert check(later, "all_items_loaded").passed  # that one is of the run
    found = check(later, "no_failed_items")
    [(file_id, reason)] = db.execute("SELECT file_id, silver_errors ->> 'message' FROM ops.file_ingestions WHERE status = 'dead'")
    db.rollback()
    assert (found.passed, found.severity, found.metadata["items_dead"].value) == (False, dg.AssetCheckSeverity.ERROR, 1)
    assert "noise.bin is dead" in str(found.description)
    assert str(file_id) in str(found.metadata["items"].value)
    assert reason[:30] in str(found.description)
    on_time = check(later, "on_time")  # green, and so it must not speak of the dead item
    assert (on_time.passed, on_time.description) == (True, "on time")
    pasted = yaml.safe_load(str(found.metadata["load_again"].value).split("```")[1].removeprefix("yaml"))
    again = run_job(settings, home, pasted)
    assert (again.success, metadata(again)["items_matched"], metadata(again)["items_failed"]) == (True, 1, 1)
    assert str(file_id) in metadata(again)["failures"]


def test_refused_and_retrying_items_are_named_by_the_check_as_well(
    settings: Settings, db: psycopg.Connection, home: dg.DagsterInstance, tmp_path: Path
) -> None:
    publish(settings, home, "good.jsonl")
    (settings.landing_path / NAME / "link.csv").symlink_to(tmp_path / "elsewhere.csv")
    publish(settings, home, "late.jsonl")
    db.execute(
        "UPDATE ops.file_ingestions SET silver_errors = '{\"message\": \"the disk was full\"}', retry_at = now() + interval '1 hour',"
        " silver_ingest_end_time = now() WHERE external_id = 'late.jsonl'"
    )
    db.commit()
    found = check(run_job(settings, home), "no_failed_items")
    assert (found.metadata["items_refused"].value, found.metadata["items_retrying"].value) == (1, 1)
    table = str(found.metadata["items"].value)
    assert "the disk was full" in table
    assert "UTC, by itself" in table
    assert "Drop a corrected file under the same name" in str(found.metadata["load_again"].value)


def test_a_removed_partition_does_not_hide_its_dead_item(settings: Settings, home: dg.DagsterInstance) -> None:
    chosen = SourceSettings.model_validate({"parallelism": "item"})
    by_item = settings.model_copy(update={"sources": {NAME: chosen}})
    publish(by_item, home, "noise.bin", b"\x00\x01")
    run_job(by_item, home)
    home.add_dynamic_partitions(f"silver_{NAME}_items", ["noise.bin"])
    home.delete_dynamic_partition(f"silver_{NAME}_items", "noise.bin")
    [sensor] = [sensor for sensor in silver.defs.sensors or () if sensor.name == "watch_silver"]
    with dg.build_sensor_context(instance=home, resources={"settings": by_item}, definitions=silver.defs) as context:
        events = sensor.evaluate_tick(context).asset_events
    [found] = [one for one in events if one.check_name == "no_failed_items" and one.asset_key.path[-1] == NAME]
    assert "noise.bin is dead" in str(found.description)
    assert "without a partition" in str(found.metadata["load_again"].value)


@pytest.mark.parametrize("config", [*NOTHING_IN, {"scope": "all", "before": "2001-01-01T00:00:00+00:00"}])
def test_a_scope_that_matches_nothing_fails_and_says_so(settings: Settings, home: dg.DagsterInstance, config: dict[str, Any]) -> None:
    publish(settings, home, "a.jsonl")
    assert materialize(silver.defs, KEY, settings, home).success
    result = materialize(silver.defs, KEY, settings, home, **config)
    assert not result.success
    assert f"Failure: nothing matches: scope {config['scope']}" in first_line(result)


@pytest.mark.parametrize("config", NOTHING_IN)
def test_a_scope_of_gold_that_matches_nothing_fails_and_says_so(
    settings: Settings, home: dg.DagsterInstance, config: dict[str, Any]
) -> None:
    result = materialize(gold.defs, GOLD_KEY, settings, home, **config)
    assert "Failure: nothing matches: scope" in first_line(result)


def test_a_backfill_before_a_time_that_lies_ahead_ends_and_loads_each_item_once(
    settings: Settings, db: psycopg.Connection, home: dg.DagsterInstance
) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        publish(settings, home, name)
    assert materialize(silver.defs, KEY, settings, home).success
    ahead = (clock.now() + timedelta(days=7)).isoformat()
    result = materialize(silver.defs, KEY, settings, home, scope="all", before=ahead)
    found = metadata(result)
    assert (found["scope"], found["items_matched"], found["items_loaded"]) == ("all", 2, 2)
    assert found["before"] < clock.now().isoformat()
    assert loaded_by(db) == {result.run_id}


def test_the_backfill_schedule_previewed_for_a_future_tick_names_no_time(settings: Settings) -> None:
    [schedule] = [one for one in silver.defs.schedules or () if one.name == f"backfill_silver_{NAME}"]
    assert isinstance(schedule, dg.ScheduleDefinition)
    at = clock.now() + timedelta(days=7)
    [request] = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=at)).run_requests or []
    assert request.run_config == {"ops": {f"silver__{NAME}": {"config": {"scope": "all"}}}}


def test_a_run_with_nothing_to_do_leaves_no_trace_on_any_layer(settings: Settings, home: dg.DagsterInstance) -> None:
    publish(settings, home, "a.jsonl")
    layers = [(bronze.defs, ["bronze", NAME]), (silver.defs, KEY), (gold.defs, GOLD_KEY)]
    for defs, key in layers[1:]:
        assert materialize(defs, key, settings, home).get_asset_materialization_events()
    for defs, key in layers:
        result = materialize(defs, key, settings, home)
        assert result.success
        assert (result.get_asset_materialization_events(), result.get_asset_check_evaluations()) == ([], [])
    job = run_job(settings, home)
    assert (job.success, job.get_asset_check_evaluations()) == (True, [])


def test_data_versions_change_with_the_data_and_only_then(settings: Settings, home: dg.DagsterInstance) -> None:
    publish(settings, home, "a.jsonl")
    for defs, key in ((silver.defs, KEY), (gold.defs, GOLD_KEY)):
        assert materialize(defs, key, settings, home).success
        before = version(home, key)
        again = materialize(defs, key, settings, home, scope="all")
        assert len(again.get_asset_materialization_events()) == 1
        assert version(home, key) == before
    publish(settings, home, "b.jsonl")
    before = version(home, KEY)
    assert materialize(silver.defs, KEY, settings, home).success
    assert version(home, KEY) != before


def test_gold_that_took_its_rows_before_silver_said_so_comes_into_sync_by_a_run_that_writes_nothing(
    settings: Settings, home: dg.DagsterInstance
) -> None:
    publish(settings, home, "a.jsonl")
    assert materialize(silver.defs, KEY, settings, home).success
    assert materialize(gold.defs, GOLD_KEY, settings, home).success
    # Silver's event comes after gold has its rows: a long backfill tells of itself at its end.
    home.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(KEY), tags={"dagster/data_version": "later"}))
    before = version(home, GOLD_KEY)
    assert len(materialize(gold.defs, GOLD_KEY, settings, home).get_asset_materialization_events()) == 1
    assert version(home, GOLD_KEY) == before
    assert materialize(gold.defs, GOLD_KEY, settings, home).get_asset_materialization_events() == []


def test_repeating_a_finished_microbatch_says_that_it_is_done_and_how_to_load_it_again(
    settings: Settings, db: psycopg.Connection, home: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    publish(settings, home, "a.jsonl")
    [sensor] = [sensor for sensor in silver.defs.sensors or () if sensor.name == f"discover_{NAME}"]
    with dg.build_sensor_context(instance=home, resources={"settings": settings}, definitions=silver.defs) as context:
        [request] = sensor.evaluate_tick(context).run_requests or []
    [asset] = [one for one in silver.defs.assets or () if isinstance(one, dg.AssetsDefinition) and one.key == dg.AssetKey(KEY)]

    def run() -> dg.ExecuteInProcessResult:
        return dg.materialize([asset], instance=home, resources={"settings": settings}, tags=dict(request.tags))

    assert metadata(run())["items_loaded"] == 1
    capfd.readouterr()
    assert run().get_asset_materialization_events() == []
    said = capfd.readouterr().err
    [(file_id,)] = db.execute("SELECT file_id FROM ops.file_ingestions").fetchall()
    assert "is done (items: 1 loaded)" in said
    assert "scope: file_ids" in said
    assert str(file_id) in said


def test_silver_says_how_many_rows_its_table_has_and_the_manifest_names_file_ids(
    settings: Settings, db: psycopg.Connection, home: dg.DagsterInstance
) -> None:
    publish(settings, home, "a.jsonl")
    found = metadata(materialize(silver.defs, KEY, settings, home))
    assert found["dagster/row_count"] == 1
    [(file_id,)] = db.execute("SELECT file_id FROM ops.file_ingestions").fetchall()
    assert str(file_id) in found["manifest"]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"scope": "since"}, "Failure: The setting 'since' is missing"),
        ({"file_ids": [UNKNOWN]}, "Failure: The setting 'file_ids' is for scope file_ids"),
        ({"scope": "all", "before": "yesterday"}, "Failure: before: 'yesterday' is no"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_the_first_line(
    settings: Settings, home: dg.DagsterInstance, config: dict[str, Any], sentence: str
) -> None:
    assert sentence in first_line(materialize(silver.defs, KEY, settings, home, **config))


def test_validating_the_definitions_without_the_environment_names_the_variable_that_is_missing() -> None:
    missing = ("DAGSTER_HOME", "DAGSTER_PG_URL", "MEDALLION_DATABASE_URL")
    environment = {name: value for name, value in os.environ.items() if name not in missing}
    dagster = Path(sys.executable).parent / "dagster"
    ended = subprocess.run([dagster, "definitions", "validate"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert ended.returncode != 0
    assert 'environment variable "DAGSTER_PG_URL" which is not set' in ended.stdout + ended.stderr
