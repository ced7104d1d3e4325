"""Parallelism `item`: one run and one partition an item, whatever happens twice, dies, or is changed in between."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from medallion_defs.core import clock
from medallion_defs.core.sections import ParallelismKind, SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.locations import bronze, silver
from medallion_defs.ops.base import base_definitions, settings_resource
from medallion_defs.ops.endings import Ending
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.ledger_values import LedgerFilter
from medallion_defs.ops.run_requests import WORK_TAG
from medallion_defs.silver import partitions
from medallion_defs.silver.assets import build_silver
from medallion_defs.stack.doctor import examine
from medallion_defs.stack.health import find_free_port
from tests.conftest import ROOT
from tests.integration.commands import call
from tests.integration.dagster_assets import drop, materialize

NAME = "driver_events"
PARTITIONS = "silver_driver_events_items"
KEY = ["silver", NAME]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance with a home on disk: run requests for partitions need one."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


def with_options(settings: Settings, **options: object) -> Settings:
    chosen = SourceSettings.model_validate({"parallelism": "item", "max_in_flight": 10, "retry_seconds": 0, **options})
    return settings.model_copy(update={"sources": {NAME: chosen}})


@pytest.fixture
def by_item(settings: Settings) -> Settings:
    return with_options(settings)


def definitions(kind: ParallelismKind) -> dg.Definitions:
    return dg.Definitions.merge(base_definitions(), build_silver(CONTENT, kind))


CONTENT = next(content for content in silver.load_contents() if content.source.name == NAME)
BY_ITEM, IN_BATCHES = definitions("item"), definitions("microbatch")


def publish(settings: Settings, home: dg.DagsterInstance, *names: str, broken: bool = False) -> None:
    for name in names:
        event = {"event_id": name, "company_id": "C1"}
        drop(settings, NAME, name, b"\x00 no event\n" if broken else json.dumps(event).encode() + b"\n")
    assert materialize(bronze.defs, ["bronze", NAME], settings, home).success


def tick(settings: Settings, home: dg.DagsterInstance, defs: dg.Definitions = BY_ITEM) -> tuple[list[dg.RunRequest], str]:
    """Evaluate the sensor once and do with its partitions what the daemon does; return its run requests and why it skipped."""
    [sensor] = [sensor for sensor in defs.sensors or () if sensor.name == f"discover_{NAME}"]
    resources = {"settings": settings}
    with dg.build_sensor_context(instance=home, instance_ref=home.get_ref(), resources=resources, definitions=defs) as context:
        data = sensor.evaluate_tick(context)
    for change in data.dynamic_partitions_requests or ():
        if isinstance(change, dg.AddDynamicPartitionsRequest):
            home.add_dynamic_partitions(change.partitions_def_name, change.partition_keys)
        else:
            for key in change.partition_keys:
                home.delete_dynamic_partition(change.partitions_def_name, key)
    return list(data.run_requests or ()), data.skip_message or ""


def run(settings: Settings, home: dg.DagsterInstance, request: dg.RunRequest, defs: dg.Definitions = BY_ITEM) -> dg.ExecuteInProcessResult:
    """Run what the sensor asked for, with its tags, as the daemon would."""
    [asset] = [asset for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition) and asset.key == dg.AssetKey(KEY)]
    return dg.materialize(
        [asset], instance=home, resources={"settings": settings}, run_config=request.run_config, tags=dict(request.tags),
        partition_key=request.partition_key, raise_on_error=False,
    )  # fmt: skip


def launch(settings: Settings, home: dg.DagsterInstance, key: str, **config: object) -> dg.ExecuteInProcessResult:
    """Do what *Materialize* does on the page for one partition."""
    return run(settings, home, dg.RunRequest(partition_key=key, run_config={"ops": {"silver__driver_events": {"config": config}}}))


def load_all(settings: Settings, home: dg.DagsterInstance, *names: str) -> None:
    publish(settings, home, *names)
    for request in tick(settings, home)[0]:
        assert run(settings, home, request).success


def statuses(db: psycopg.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT external_id, status FROM ops.file_ingestions ORDER BY external_id").fetchall())


def loaded_by(db: psycopg.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT external_id, silver_run_id FROM ops.file_ingestions").fetchall())


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    error = event.step_failure_data.error
    assert error is not None
    return f"{error} {error.cause}"


def test_each_item_is_claimed_alone_and_loaded_by_a_run_with_its_partition(
    by_item: Settings, db: psycopg.Connection, home: dg.DagsterInstance
) -> None:
    publish(by_item, home, "a.jsonl", "b.jsonl", "Ünï/c d.jsonl")
    requests, _ = tick(by_item, home)
    directories = {path.partition("/")[2] for (path,) in db.execute("SELECT bronze_path FROM ops.file_ingestions").fetchall()}
    assert {request.partition_key for request in requests} == directories == set(home.get_dynamic_partitions(PARTITIONS))
    assert db.execute("SELECT count(DISTINCT batch_id) FROM ops.file_ingestions").fetchone() == (3,)
    results = [run(by_item, home, request) for request in requests]
    assert all(result.success for result in results)
    assert set(statuses(db).values()) == {"loaded"}
    assert set(loaded_by(db).values()) == {result.run_id for result in results}
    events = home.fetch_materializations(dg.AssetKey(KEY), limit=10).records
    assert {event.partition_key for event in events} == directories
    assert db.execute("SELECT count(*) FROM silver.driver_events").fetchone() == (3,)


def test_no_more_items_are_in_flight_than_allowed(settings: Settings, home: dg.DagsterInstance) -> None:
    few = with_options(settings, max_in_flight=2)
    publish(few, home, "a.jsonl", "b.jsonl", "c.jsonl")
    first, _ = tick(few, home)
    assert len(first) == 2
    assert run(few, home, first[0]).success
    keys = [request.partition_key for request in tick(few, home)[0]]
    assert keys == [first[1].partition_key, ({"a.jsonl", "b.jsonl", "c.jsonl"} - {r.partition_key for r in first}).pop()]


def test_a_tick_or_a_run_that_happens_twice_has_no_double_effect(
    by_item: Settings, db: psycopg.Connection, home: dg.DagsterInstance
) -> None:
    publish(by_item, home, "a.jsonl", "b.jsonl")
    first, _ = tick(by_item, home)
    again, _ = tick(by_item, home)
    assert [(r.run_key, r.partition_key) for r in again] == [(r.run_key, r.partition_key) for r in first]
    for request in [*first, *again]:
        assert run(by_item, home, request).success
    assert db.execute("SELECT attempts, silver_rows_created FROM ops.file_ingestions").fetchall() == [(1, 1)] * 2
    assert sorted(home.get_dynamic_partitions(PARTITIONS)) == ["a.jsonl", "b.jsonl"]


def test_an_item_whose_run_was_killed_comes_again_with_the_same_partition(
    by_item: Settings, db: psycopg.Connection, home: dg.DagsterInstance
) -> None:
    publish(by_item, home, "a.jsonl")
    [request], _ = tick(by_item, home)
    killed = home.create_run_for_job(BY_ITEM.resolve_job_def("silver_driver_events"), tags=dict(request.tags))
    batch_id = batch_of(request)
    with psycopg.connect(str(by_item.database_url)) as worker:
        assert Ledger(worker).start_batch(batch_id, killed.run_id, CONTENT.code, by_item.source(NAME), clock.now())
        home.report_run_failed(killed)
        assert tick(by_item, home)[0] == []  # Dagster says that it ended, the database that its worker lives
        assert statuses(db) == {"a.jsonl": "claimed"}
        db.rollback()
    assert tick(by_item, home)[0] == []  # taken back
    assert statuses(db) == {"a.jsonl": "retrying"}
    [again], _ = tick(by_item, home)
    assert (again.partition_key, again.run_key != request.run_key) == ("a.jsonl", True)
    assert run(by_item, home, again).success
    db.rollback()
    assert db.execute("SELECT status, attempts FROM ops.file_ingestions").fetchall() == [("loaded", 2)]


def test_an_item_that_cannot_be_loaded_leaves_its_partition_red_and_the_others_alone(
    by_item: Settings, db: psycopg.Connection, home: dg.DagsterInstance
) -> None:
    publish(by_item, home, "bad.jsonl", broken=True)
    publish(by_item, home, "good.jsonl")
    results = {str(request.partition_key): run(by_item, home, request) for request in tick(by_item, home)[0]}
    assert {key: result.success for key, result in results.items()} == {"bad.jsonl": False, "good.jsonl": True}
    assert "bad.jsonl" in failure_of(results["bad.jsonl"])
    assert statuses(db) == {"bad.jsonl": "dead", "good.jsonl": "loaded"}
    assert tick(by_item, home)[0] == []


@pytest.mark.parametrize("state", ["pending", "claimed", "loaded", "retrying"])
def test_materialize_on_one_partition_loads_that_item_whatever_its_state(
    by_item: Settings, db: psycopg.Connection, home: dg.DagsterInstance, state: str
) -> None:
    load_all(by_item, home, "a.jsonl", "b.jsonl")
    before = loaded_by(db)
    if state != "loaded":
        assert call_requeue(by_item) == 2
    if state in ("claimed", "retrying"):
        waiting, _ = tick(by_item, home)
    if state == "retrying":
        with psycopg.connect(str(by_item.database_url)) as connection:
            for request in waiting:
                Ledger(connection).release_batch(batch_of(request), by_item.source(NAME), clock.now(), Ending("died"))
    db.rollback()
    assert statuses(db)["a.jsonl"] == state
    result = launch(by_item, home, "a.jsonl")
    assert result.success
    db.rollback()
    assert statuses(db) == {"a.jsonl": "loaded", "b.jsonl": state}
    assert loaded_by(db)["a.jsonl"] == result.run_id
    if state == "loaded":
        assert loaded_by(db)["b.jsonl"] == before["b.jsonl"]
    if state == "claimed":  # the runs that waited find one item done and load the other
        assert [run(by_item, home, request).success for request in waiting] == [True, True]
        db.rollback()
        assert loaded_by(db)["a.jsonl"] == result.run_id
        assert statuses(db)["b.jsonl"] == "loaded"


def test_materialize_on_a_partition_that_is_at_work_says_so_and_changes_nothing(
    by_item: Settings, db: psycopg.Connection, home: dg.DagsterInstance
) -> None:
    publish(by_item, home, "a.jsonl")
    [request], _ = tick(by_item, home)
    with psycopg.connect(str(by_item.database_url)) as worker:
        assert Ledger(worker).start_batch(batch_of(request), "the-other-run", "v1", by_item.source(NAME), clock.now())
        result = launch(by_item, home, "a.jsonl")
    assert not result.success
    assert "driver_events/a.jsonl is being loaded by run the-other-run" in failure_of(result)
    assert db.execute("SELECT batch_id, attempts FROM ops.file_ingestions").fetchall() == [(batch_of(request), 1)]


def test_a_partition_that_is_no_item_and_one_with_a_scope_are_refused_with_a_sentence(by_item: Settings, home: dg.DagsterInstance) -> None:
    load_all(by_item, home, "a.jsonl")
    home.add_dynamic_partitions(PARTITIONS, ["nothing"])
    assert "The partition 'nothing' stands for no item of driver_events" in failure_of(launch(by_item, home, "nothing"))
    assert "Leave the scope out" in failure_of(launch(by_item, home, "a.jsonl", scope="all"))


@pytest.mark.parametrize(("tags", "is_loaded_again"), [({}, True), ({"dagster/retry_number": "1"}, False)], ids=["by hand", "by Dagster"])
def test_a_run_that_is_repeated_by_hand_loads_its_item_again_and_a_retry_of_dagster_finds_its_batch_done(
    by_item: Settings, db: psycopg.Connection, home: dg.DagsterInstance, tags: dict[str, str], is_loaded_again: bool
) -> None:
    publish(by_item, home, "a.jsonl")
    [request], _ = tick(by_item, home)
    first = run(by_item, home, request)
    resources = dg.Definitions(resources={"settings": dg.ResourceDefinition.hardcoded_resource(by_item)}, executor=dg.in_process_executor)
    job = dg.Definitions.merge(build_silver(CONTENT, "item"), resources).resolve_job_def("silver_driver_events")
    again = home.create_run_for_job(
        job, run_config=request.run_config, parent_run_id=first.run_id, root_run_id=first.run_id,
        tags={**request.tags, **tags, "dagster/partition": "a.jsonl"},
    )  # fmt: skip
    assert execute_run(InMemoryJob(job), again, home).success
    assert loaded_by(db)["a.jsonl"] == (again if is_loaded_again else first).run_id


def test_the_weekly_backfill_asks_for_a_run_without_partition_that_the_job_accepts(home: dg.DagsterInstance) -> None:
    [schedule] = [schedule for schedule in BY_ITEM.schedules or () if schedule.name == "backfill_silver_driver_events"]
    assert isinstance(schedule, dg.ScheduleDefinition)
    at = datetime(2026, 11, 22, 3, tzinfo=UTC)
    with dg.build_schedule_context(instance=home, scheduled_execution_time=at, repository_def=BY_ITEM.get_repository_def()) as context:
        [request] = schedule.evaluate_tick(context).run_requests or []
    assert request.partition_key is None
    dg.validate_run_config(BY_ITEM.resolve_job_def("silver_driver_events"), request.run_config)


def test_a_run_without_partition_loads_history_in_chunks_and_the_command_line_does_too(
    by_item: Settings, db: psycopg.Connection, home: dg.DagsterInstance, project: Settings
) -> None:
    load_all(by_item, home, "a.jsonl", "b.jsonl")
    result = materialize(BY_ITEM, KEY, by_item, home, scope="all")
    assert result.success
    assert set(loaded_by(db).values()) == {result.run_id}
    assert call("backfill", "silver.driver_events").exit_code == 0
    db.rollback()
    assert all(run_id.startswith("cli-") for run_id in loaded_by(db).values())


def test_old_partitions_go_and_those_that_somebody_needs_stay(settings: Settings, db: psycopg.Connection, home: dg.DagsterInstance) -> None:
    few = with_options(settings, keep_partitions=2)
    publish(few, home, "0-dead.jsonl", broken=True)
    for request in tick(few, home)[0]:
        run(few, home, request)
    load_all(few, home, "1.jsonl")
    load_all(few, home, "2-queued.jsonl", "3.jsonl")
    load_all(few, home, "4.jsonl", "5.jsonl")
    job = BY_ITEM.resolve_job_def("silver_driver_events")
    queued = home.create_run_for_job(job, tags={"dagster/partition": "2-queued.jsonl"})
    tick(few, home)
    kept = ["0-dead.jsonl", "2-queued.jsonl", "4.jsonl", "5.jsonl"]
    assert sorted(home.get_dynamic_partitions(PARTITIONS)) == kept
    home.report_run_failed(queued)
    tick(few, home)
    assert sorted(home.get_dynamic_partitions(PARTITIONS)) == [kept[0], *kept[2:]]
    assert {event.partition_key for event in home.fetch_materializations(dg.AssetKey(KEY), limit=99).records} >= {"1.jsonl", "3.jsonl"}

    assert call_requeue(few, "1.jsonl") == 1
    [request], _ = tick(few, home)
    assert "1.jsonl" in home.get_dynamic_partitions(PARTITIONS)
    assert run(few, home, request).success
    db.rollback()
    assert statuses(db)["1.jsonl"] == "loaded"


def test_no_partition_goes_while_a_backfill_of_the_page_may_want_it(settings: Settings, home: dg.DagsterInstance) -> None:
    few = with_options(settings, keep_partitions=1)
    load_all(few, home, "1.jsonl", "2.jsonl")
    backfill = PartitionBackfill(
        backfill_id="mine", status=BulkActionStatus.REQUESTED, from_failure=False, tags={}, backfill_timestamp=clock.now().timestamp()
    )
    home.add_backfill(backfill)
    tick(few, home)
    assert len(home.get_dynamic_partitions(PARTITIONS)) == 2
    home.update_backfill(backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS))
    tick(few, home)
    assert len(home.get_dynamic_partitions(PARTITIONS)) == 1


def test_a_directory_that_dagster_would_not_take_as_a_key_is_named_by_its_file_id(
    by_item: Settings, db: psycopg.Connection, home: dg.DagsterInstance
) -> None:
    load_all(by_item, home, "and...so on.jsonl")
    [(file_id, run_id)] = db.execute("SELECT file_id, silver_run_id FROM ops.file_ingestions").fetchall()
    assert home.get_dynamic_partitions(PARTITIONS) == [str(file_id)]
    assert launch(by_item, home, str(file_id)).success
    db.rollback()
    assert db.execute("SELECT status, silver_run_id <> %s FROM ops.file_ingestions", (run_id,)).fetchall() == [("loaded", True)]


def test_above_the_limit_the_sensor_and_the_doctor_say_what_to_set_and_what_is_claimed_is_finished(
    by_item: Settings, db: psycopg.Connection, home: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(by_item, home, "a.jsonl", "b.jsonl")
    claimed, _ = tick(by_item, home)
    monkeypatch.setattr(partitions, "MOST_ITEMS", 2)
    publish(by_item, home, "c.jsonl")
    assert {request.run_key for request in tick(by_item, home)[0]} == {request.run_key for request in claimed}
    for request in claimed:
        assert run(by_item, home, request).success
    requests, why = tick(by_item, home)
    sentence = "Set sources.driver_events.parallelism to microbatch in medallion.yaml"
    assert (requests, sentence in why, "more than 2 items" in why) == ([], True, True)
    [finding] = [finding for finding in examine(by_item, find_free_port()) if finding.check == "parallelism"]
    assert (finding.verdict, sentence in finding.remedy) == ("problem", True)
    db.rollback()
    assert statuses(db)["c.jsonl"] == "pending"

    [request], _ = tick(with_options(by_item, parallelism="microbatch"), home, IN_BATCHES)
    assert run(by_item, home, request, IN_BATCHES).success
    db.rollback()
    assert set(statuses(db).values()) == {"loaded"}


def test_changing_the_setting_back_and_forth_loses_nothing(by_item: Settings, db: psycopg.Connection, home: dg.DagsterInstance) -> None:
    in_batches = with_options(by_item, parallelism="microbatch")
    publish(in_batches, home, "a.jsonl", "b.jsonl")
    [batch], _ = tick(in_batches, home, IN_BATCHES)

    # A microbatch from before the change: requested again under the same key, as one run without a partition.
    publish(by_item, home, "c.jsonl")
    requests = {request.run_key: request for request in tick(by_item, home)[0]}
    assert {key: request.partition_key for key, request in requests.items()}[batch.run_key] is None
    assert sorted(str(request.partition_key) for request in requests.values()) == ["None", "c.jsonl"]

    # And back, with the run for one item still queued: its tag names a partition that the asset has no more.
    publish(in_batches, home, "d.jsonl")
    again = {request.run_key: request for request in tick(in_batches, home, IN_BATCHES)[0]}
    assert set(requests) < set(again)
    [single] = [request for request in requests.values() if request.partition_key]
    tagged = dg.RunRequest(run_config=single.run_config, tags={**single.tags, "dagster/partition": "c.jsonl"})
    assert run(in_batches, home, tagged, IN_BATCHES).success
    assert statuses(db)["c.jsonl"] == "loaded"
    assert run(by_item, home, requests[batch.run_key]).success  # the microbatch, in a process that has read the setting anew
    for request in again.values():
        assert run(in_batches, home, request, IN_BATCHES).success
    db.rollback()
    assert set(statuses(db).values()) == {"loaded"}
    assert db.execute("SELECT attempts FROM ops.file_ingestions").fetchall() == [(1,)] * 4


@pytest.mark.parametrize(
    ("configuration", "companies", "told_by_both"),
    [
        ("sources: {driver_events: {parallelism: itme}, companies: {parallelism: item}}", "silver_companies_items", False),
        ("sources: {driver_events: [", None, True),
    ],
    ids=["one source", "the file"],
)
def test_a_broken_configuration_is_one_sentence_at_the_source_it_belongs_to(
    settings: Settings, tmp_path: Path, configuration: str, companies: str | None, told_by_both: bool
) -> None:
    (tmp_path / "medallion.yaml").write_text(configuration + "\n")
    environment = {
        **os.environ,
        "MEDALLION_ROOT": str(tmp_path),
        "MEDALLION_DATA_DIR": str(settings.data_dir),
        "MEDALLION_DATABASE_URL": str(settings.database_url),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "tests.integration.test_partitions"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["driver_events"]["partitions"] is None
    assert told["companies"]["partitions"] == companies
    assert "medallion.yaml or the MEDALLION_ environment" in told["driver_events"]["sensor"]
    if told_by_both:
        assert "cannot be read" in told["companies"]["sensor"]
    else:
        assert "sources.driver_events: parallelism: Input should be 'microbatch' or 'item'" in told["driver_events"]["sensor"]
        assert "nothing to load" in told["companies"]["sensor"]


def batch_of(request: dg.RunRequest) -> str:
    return request.tags[WORK_TAG].removeprefix("silver/driver_events/")


def call_requeue(settings: Settings, external_id: str | None = None) -> int:
    with psycopg.connect(str(settings.database_url)) as connection:
        return Ledger(connection).requeue(LedgerFilter(external_id=external_id, statuses=("loaded",)), clock.now())


def say_how_the_location_loads() -> None:
    """Load the location as a code server does, tick two sensors, and print what became of it."""
    told = {}
    repository = silver.defs.get_repository_def()
    with dg.DagsterInstance.ephemeral() as instance:
        for name in (NAME, "companies"):
            definition = repository.assets_defs_by_key[dg.AssetKey(["silver", name])].partitions_def
            sensor = repository.get_sensor_def(f"discover_{name}")
            try:
                with dg.build_sensor_context(
                    instance=instance, repository_def=repository, sensor_name=sensor.name, resources={"settings": settings_resource}
                ) as context:
                    said = sensor.evaluate_tick(context).skip_message
            except Exception as error:  # noqa: BLE001  whatever a tick fails with, the page shows it and its cause
                said = f"{error} {error.__cause__}"
            told[name] = {"partitions": getattr(definition, "name", None), "sensor": said}
    print(json.dumps(told))  # noqa: T201  read by the test


if __name__ == "__main__":
    say_how_the_location_loads()
