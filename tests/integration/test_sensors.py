"""Ticks and runs that happen twice, late or beside each other: the effect is that of one."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from medallion_defs.bronze.fetching.copying import FileRefusedError, FileState, read_unchanged
from medallion_defs.bronze.landing import fetch as landing_fetch
from medallion_defs.core import clock
from medallion_defs.core.sections import SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.locations import bronze, gold, silver
from medallion_defs.ops.ledger import BatchInUseError, Ledger
from medallion_defs.ops.run_requests import WORK_TAG
from medallion_defs.silver.load_run import load_batch
from tests.integration.dagster_assets import drop, materialize


def tick(
    defs: dg.Definitions, name: str, settings: Settings, instance: dg.DagsterInstance, cursor: str | None = None
) -> tuple[list[dg.RunRequest], str | None, str]:
    """Evaluate a sensor once; return its run requests, its cursor and why it skipped."""
    [sensor] = [sensor for sensor in defs.sensors or () if sensor.name == name]
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"settings": settings}, definitions=defs)
    with context:
        data = sensor.evaluate_tick(context)
    return list(data.run_requests or ()), data.cursor, data.skip_message or ""


def tick_until_it_asks(defs: dg.Definitions, name: str, settings: Settings, instance: dg.DagsterInstance) -> dg.RunRequest:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        requests, _, _ = tick(defs, name, settings, instance)
        if requests:
            return requests[0]
    raise AssertionError(f"{name} asked for no run within 30 s")


def run_request(defs: dg.Definitions, settings: Settings, instance: dg.DagsterInstance, request: dg.RunRequest, key: list[str]) -> bool:
    """Run what a sensor asked for, with its tags, as the daemon would."""
    [asset] = [asset for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition) and asset.keys == {dg.AssetKey(key)}]
    result = dg.materialize(
        [asset],
        instance=instance,
        resources={"settings": settings},
        run_config=request.run_config,
        tags=dict(request.tags),
        raise_on_error=False,
    )
    return result.success


def publish(settings: Settings, instance: dg.DagsterInstance, name: str = "day.jsonl") -> None:
    drop(settings, "driver_events", name, b'{"event_id": "' + name.encode() + b'", "company_id": "C1"}\n')
    assert materialize(bronze.defs, ["bronze", "driver_events"], settings, instance).success


def test_invariant_14_a_tick_that_happens_twice_asks_for_the_same_run(settings: Settings, instance: dg.DagsterInstance) -> None:
    publish(settings, instance)
    first, _, _ = tick(silver.defs, "discover_driver_events", settings, instance)
    again, _, _ = tick(silver.defs, "discover_driver_events", settings, instance)
    assert len(first) == 1
    assert [request.run_key for request in again] == [request.run_key for request in first]


def test_invariant_14_one_batch_in_two_runs_at_once_is_loaded_once(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    publish(settings, instance)
    [request], _, _ = tick(silver.defs, "discover_driver_events", settings, instance)
    batch_id = request.tags[WORK_TAG].removeprefix("silver/driver_events/")
    content = next(content for content in silver.load_contents() if content.source.name == "driver_events")
    outcomes: list[int | str] = []
    gate = threading.Barrier(2)

    def load(run_id: str) -> None:
        gate.wait()
        try:
            outcomes.append(len(load_batch(settings, content, batch_id, run_id).items))
        except BatchInUseError:
            outcomes.append("in use")

    workers = [threading.Thread(target=load, args=(name,)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert outcomes.count(1) == 1
    assert db.execute("SELECT attempts, silver_rows_created FROM ops.file_ingestions").fetchall() == [(1, 1)]


def test_a_run_that_died_is_taken_back_and_its_items_come_again(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    settings = settings.model_copy(update={"sources": {"driver_events": SourceSettings(retry_seconds=0)}})
    publish(settings, instance)
    [request], _, _ = tick(silver.defs, "discover_driver_events", settings, instance)
    run = instance.create_run_for_job(silver.defs.resolve_job_def("silver_driver_events"), tags=dict(request.tags))
    assert tick(silver.defs, "discover_driver_events", settings, instance)[0] == []
    instance.report_run_failed(run)
    assert tick(silver.defs, "discover_driver_events", settings, instance)[0] == []  # takes it back
    again = tick_until_it_asks(silver.defs, "discover_driver_events", settings, instance)
    assert again.run_key != request.run_key
    assert run_request(silver.defs, settings, instance, again, ["silver", "driver_events"])
    assert db.execute("SELECT status FROM ops.file_ingestions").fetchall() == [("loaded",)]


def test_the_landing_sensor_asks_once_for_what_lies_there_and_again_when_that_changes(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    assert "nothing complete" in tick(bronze.defs, "landing_driver_events", settings, instance)[2]
    drop(settings, "driver_events", "a.jsonl", b'{"event_id": "a"}\n')
    [first], _, _ = tick(bronze.defs, "landing_driver_events", settings, instance)
    assert tick(bronze.defs, "landing_driver_events", settings, instance)[0][0].run_key == first.run_key
    drop(settings, "driver_events", "b.jsonl", b'{"event_id": "b"}\n')
    [second], _, _ = tick(bronze.defs, "landing_driver_events", settings, instance)
    assert second.run_key != first.run_key


@pytest.mark.parametrize("kind", ["a link", "a file that cannot be read whole"])
def test_what_was_refused_and_lies_on_is_no_reason_for_another_run(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def refuse(root: Path, name: str, state: FileState, what: str) -> Iterator[bytes]:
        if name == "bad.jsonl":
            raise FileRefusedError("it cannot be read: Input/output error")
        yield from read_unchanged(root, name, state, what)

    drop(settings, "driver_events", "good.jsonl", b'{"event_id": "a"}\n')
    if kind == "a link":
        (settings.landing_path / "driver_events" / "bad.jsonl").symlink_to("good.jsonl")
    else:
        monkeypatch.setattr(landing_fetch, "read_unchanged", refuse)
        drop(settings, "driver_events", "bad.jsonl", b'{"event_id": "b"}\n')
    [first], _, _ = tick(bronze.defs, "landing_driver_events", settings, instance)
    assert run_request(bronze.defs, settings, instance, first, ["bronze", "driver_events"])
    requests, _, why = tick(bronze.defs, "landing_driver_events", settings, instance)
    assert requests == []
    assert "holds only what was refused" in why
    assert db.execute("SELECT external_id, status FROM ops.file_ingestions ORDER BY 1").fetchall() == [
        ("bad.jsonl", "refused"), ("good.jsonl", "pending"),
    ]  # fmt: skip
    drop(settings, "driver_events", "more.jsonl", b'{"event_id": "c"}\n')
    [second], _, _ = tick(bronze.defs, "landing_driver_events", settings, instance)
    assert run_request(bronze.defs, settings, instance, second, ["bronze", "driver_events"])
    assert tick(bronze.defs, "landing_driver_events", settings, instance)[0] == []
    (settings.landing_path / "driver_events" / "bad.jsonl").unlink()
    assert "nothing complete" in tick(bronze.defs, "landing_driver_events", settings, instance)[2]


def test_the_gold_sensor_hands_out_a_range_until_gold_has_it(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    publish(settings, instance)
    assert materialize(silver.defs, ["silver", "driver_events"], settings, instance).success
    [first], cursor, _ = tick(gold.defs, "follow_driver_events_enriched", settings, instance)
    [again], _, _ = tick(gold.defs, "follow_driver_events_enriched", settings, instance, cursor)
    assert again.run_key == first.run_key
    for _ in range(2):  # the same run twice: the second finds nothing to write
        assert run_request(gold.defs, settings, instance, first, ["gold", "driver_events_enriched"])
    requests, _, why = tick(gold.defs, "follow_driver_events_enriched", settings, instance, cursor)
    assert (requests, why) == ([], "gold/driver_events_enriched has everything")
    assert db.execute("SELECT gold_rows_created, gold_rows_updated FROM ops.file_ingestions").fetchall() == [(1, 0)]


def test_an_unreadable_cursor_costs_time_and_no_rows(settings: Settings, instance: dg.DagsterInstance) -> None:
    publish(settings, instance)
    requests, cursor, _ = tick(silver.defs, "discover_driver_events", settings, instance, cursor="rubbish")
    assert len(requests) == 1
    assert cursor != "rubbish"
    assert run_request(silver.defs, settings, instance, requests[0], ["silver", "driver_events"])
    assert len(tick(gold.defs, "follow_driver_events_enriched", settings, instance, cursor="rubbish")[0]) == 1


@pytest.mark.parametrize("defs", [bronze.defs, silver.defs, gold.defs], ids=["bronze", "silver", "gold"])
def test_every_schedule_asks_for_a_run_that_its_job_accepts(defs: dg.Definitions, settings: Settings) -> None:
    for schedule in defs.schedules or ():
        if isinstance(schedule, dg.ScheduleDefinition):
            context = dg.build_schedule_context(
                scheduled_execution_time=datetime(2026, 11, 22, 3, tzinfo=UTC), resources={"settings": settings}
            )
            data = schedule.evaluate_tick(context)
            requests = data.run_requests or []
            assert len(requests) == (0 if data.skip_message else 1)
            for request in requests:
                dg.validate_run_config(defs.resolve_job_def(schedule.job_name), request.run_config)


def test_runs_carry_the_name_of_their_work(settings: Settings, instance: dg.DagsterInstance) -> None:
    publish(settings, instance)
    [request], _, _ = tick(silver.defs, "discover_driver_events", settings, instance)
    dg.validate_run_config(silver.defs.resolve_job_def("silver_driver_events"), request.run_config)
    assert request.tags[WORK_TAG].startswith("silver/driver_events/")


def test_a_person_who_terminates_a_run_costs_its_items_nothing_however_often(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    settings = settings.model_copy(update={"sources": {"driver_events": SourceSettings(retry_seconds=0)}})
    publish(settings, instance)
    content = next(content for content in silver.load_contents() if content.source.name == "driver_events")
    for _ in range(SourceSettings().max_attempts + 1):
        request = tick_until_it_asks(silver.defs, "discover_driver_events", settings, instance)
        run = instance.create_run_for_job(silver.defs.resolve_job_def("silver_driver_events"), tags=dict(request.tags))
        batch_id = request.tags[WORK_TAG].removeprefix("silver/driver_events/")
        with psycopg.connect(settings.require_database_url()) as worker:
            Ledger(worker).start_batch(batch_id, run.run_id, content.code, settings.source("driver_events"), clock.now())
        instance.report_run_canceling(run)
        instance.report_run_canceled(run)
        assert tick(silver.defs, "discover_driver_events", settings, instance)[0] == []  # takes it back
        [row] = db.execute("SELECT status, attempts, silver_errors ->> 'message' FROM ops.file_ingestions").fetchall()
        db.rollback()
        assert row[:2] == ("retrying", 0)
        assert f"A person cancelled run {run.run_id} in Dagster" in row[2]
        assert "it is asked for again at " in row[2]
    again = tick_until_it_asks(silver.defs, "discover_driver_events", settings, instance)
    assert run_request(silver.defs, settings, instance, again, ["silver", "driver_events"])
    assert db.execute("SELECT status, attempts FROM ops.file_ingestions").fetchall() == [("loaded", 1)]
