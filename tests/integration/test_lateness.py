"""Silence is seen: by the sensors that look, by `medallion status`, and by a webhook, over a real ledger."""

import json
from datetime import timedelta
from typing import Any

import dagster as dg
import psycopg
import pytest

from medallion_defs.core import clock
from medallion_defs.core.sections import AlertSettings, GoldSettings, InvalidSourceSettings, LandingSettings, SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.locations import bronze, gold, silver
from medallion_defs.ops.lateness import read_source_facts, read_verdicts
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.run_requests import WORK_TAG
from medallion_defs.ops.scope import Scope
from tests.integration.commands import call, load_pending
from tests.integration.dagster_assets import drop, materialize
from tests.loopback import loopback_server

EVENT = b'{"event_id": "e1", "company_id": "C1"}\n'
SUBJECT = "silver/driver_events"


def evaluate(defs: dg.Definitions, name: str, settings: Settings, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    """Evaluate a sensor once, as the daemon does."""
    [sensor] = [sensor for sensor in defs.sensors or () if sensor.name == name]
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"settings": settings}, definitions=defs) as context:
        return sensor.evaluate_tick(context)


def with_source(settings: Settings, **options: Any) -> Settings:
    return settings.model_copy(update={"sources": {"driver_events": SourceSettings(**options)}})


def fetch(settings: Settings, instance: dg.DagsterInstance, name: str = "day.jsonl", content: bytes = EVENT) -> None:
    drop(settings, "driver_events", name, content)
    assert materialize(bronze.defs, ["bronze", "driver_events"], settings, instance).success


def age_items(db: psycopg.Connection, age: timedelta) -> None:
    db.execute("UPDATE ops.file_ingestions SET created_at = created_at - %(age)s, updated_at = updated_at - %(age)s", {"age": age})
    db.commit()


def evaluations(tick: Any) -> dict[str, dg.AssetCheckEvaluation]:
    """The evaluations of `on_time`, by asset."""
    return {event.asset_key.to_user_string(): event for event in tick.asset_events if event.check_name == "on_time"}


def failing(tick: Any) -> dict[str, dg.AssetCheckEvaluation]:
    """The evaluations of `no_failed_items`, by asset."""
    return {event.asset_key.to_user_string(): event for event in tick.asset_events if event.check_name == "no_failed_items"}


def test_a_silent_source_fails_its_check_when_that_changes_and_recovers_when_an_item_comes(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    settings = with_source(settings, expect_every="1d")
    fetch(settings, instance)
    load_pending(settings)
    first = evaluate(silver.defs, "watch_silver", settings, instance)
    assert evaluations(first)[SUBJECT].passed
    age_items(db, timedelta(days=2))
    second = evaluate(silver.defs, "watch_silver", settings, instance, first.cursor)
    assert list(evaluations(second)) == [SUBJECT]  # the others said the same a moment ago
    late = evaluations(second)[SUBJECT]
    assert (late.passed, late.check_name) == (False, "on_time")
    assert "no new item for 2d; one is expected every 1d" in str(late.description)
    third = evaluate(silver.defs, "watch_silver", settings, instance, second.cursor)
    assert (third.asset_events, "no new item for 2d" in third.skip_message) == ([], True)
    fetch(settings, instance, "new.jsonl")
    assert evaluations(evaluate(silver.defs, "watch_silver", settings, instance, third.cursor))[SUBJECT].passed


def test_an_item_that_waits_too_long_for_silver_makes_the_source_late(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    fetch(settings, instance)
    age_items(db, timedelta(hours=3))
    late = evaluations(evaluate(silver.defs, "watch_silver", settings, instance))[SUBJECT]
    assert "1 item on the way to silver, the first waits for 3h; 1h is allowed" in str(late.description)
    load_pending(settings)
    assert evaluations(evaluate(silver.defs, "watch_silver", settings, instance))[SUBJECT].passed


def test_files_that_nobody_takes_from_landing_are_seen_whatever_their_time_stamp(settings: Settings, instance: dg.DagsterInstance) -> None:
    path = drop(settings, "driver_events", "day.jsonl", EVENT)  # with the time stamp of an hour ago
    here = "bronze/driver_events"
    assert evaluations(evaluate(bronze.defs, "watch_bronze", settings, instance))[here].passed
    late = evaluations(evaluate(bronze.defs, "watch_bronze", with_source(settings, max_lag=timedelta(microseconds=1)), instance))[here]
    assert not late.passed
    assert "landing/driver_events: 1 complete file not taken" in str(late.description)
    left = with_source(settings, max_lag=timedelta(microseconds=1), landing=LandingSettings(after="leave"))
    assert evaluations(evaluate(bronze.defs, "watch_bronze", left, instance))[here].passed
    path.unlink()


def test_a_check_is_evaluated_again_after_a_materialization_for_the_page_asks_for_the_latest(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    first = evaluate(silver.defs, "watch_silver", settings, instance)
    fetch(settings, instance)
    quiet = evaluate(silver.defs, "watch_silver", settings, instance, first.cursor)
    assert quiet.asset_events == []
    assert materialize(silver.defs, ["silver", "driver_events"], settings, instance).success
    again = evaluate(silver.defs, "watch_silver", settings, instance, quiet.cursor)
    assert list(evaluations(again)) == [SUBJECT]
    assert evaluate(silver.defs, "watch_silver", settings, instance, again.cursor).asset_events == []


def test_history_that_is_loaded_again_waits_for_nothing(settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance) -> None:
    fetch(settings, instance)
    load_pending(settings)
    age_items(db, timedelta(days=30))
    assert Ledger(db).claim_done("driver_events", Scope(), clock.now(), SourceSettings(), clock.now())
    [facts] = read_source_facts(db, ["driver_events"])
    assert (facts.waiting, facts.waits_since) == (0, None)


@pytest.mark.parametrize(("defs", "layer"), [(bronze.defs, "bronze"), (silver.defs, "silver")])
def test_a_source_with_invalid_settings_is_told_and_the_others_are_looked_at(
    settings: Settings, instance: dg.DagsterInstance, defs: dg.Definitions, layer: str
) -> None:
    drop(settings, "driver_events", "day.jsonl", EVENT)
    if layer == "silver":
        assert materialize(bronze.defs, ["bronze", "driver_events"], settings, instance).success
    sources = {
        "companies": InvalidSourceSettings(reason="max_attempts: 0 is too small"),
        "driver_events": SourceSettings(max_lag=timedelta(0, 0, 1)),
    }
    tick = evaluate(defs, f"watch_{layer}", settings.model_copy(update={"sources": sources}), instance)
    assert not evaluations(tick)[f"{layer}/driver_events"].passed
    assert f"{layer}/companies is judged by the default settings: " in tick.skip_message
    assert "sources.companies: max_attempts: 0 is too small" in tick.skip_message


def test_a_dead_item_makes_nobody_late_and_is_told_by_a_check_of_its_own(settings: Settings, instance: dg.DagsterInstance) -> None:
    fetch(settings, instance, "noise.bin", b"\x00\x01")
    load_pending(settings)
    tick = evaluate(silver.defs, "watch_silver", settings, instance)
    on_time, failed = evaluations(tick)[SUBJECT], failing(tick)[SUBJECT]
    assert (on_time.passed, on_time.description) == (True, "on time")
    assert (failed.passed, failed.severity, failed.metadata["items_dead"].value) == (False, dg.AssetCheckSeverity.ERROR, 1)
    assert "driver_events/noise.bin is dead: " in str(failed.description)


def test_gold_is_late_when_silver_rows_wait_for_it_on_either_side(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    name = "gold/driver_events_enriched"
    settings = settings.model_copy(update={"gold": GoldSettings(max_lag=timedelta(microseconds=1))})
    fetch(settings, instance)
    load_pending(settings)
    first = evaluate(gold.defs, "watch_gold", settings, instance)
    assert "silver rows wait for gold" in str(evaluations(first)[name].description)
    assert materialize(gold.defs, ["gold", "driver_events_enriched"], settings, instance).success
    second = evaluate(gold.defs, "watch_gold", settings, instance, first.cursor)
    assert evaluations(second)[name].passed
    drop(settings, "companies", "c.csv", b"company_id,name\nC1,First\n")
    assert materialize(bronze.defs, ["bronze", "companies"], settings, instance).success
    load_pending(settings)
    third = evaluate(gold.defs, "watch_gold", settings, instance, second.cursor)
    assert not evaluations(third)[name].passed
    assert materialize(gold.defs, ["gold", "driver_events_enriched"], settings, instance).success
    assert evaluations(evaluate(gold.defs, "watch_gold", settings, instance, third.cursor))[name].passed


@pytest.mark.parametrize(
    ("defs", "key"),
    [
        (bronze.defs, ["bronze", "driver_events"]),
        (silver.defs, ["silver", "driver_events"]),
        (gold.defs, ["gold", "driver_events_enriched"]),
    ],
)
def test_the_check_can_be_asked_by_hand_and_is_a_step_of_every_run(
    settings: Settings, instance: dg.DagsterInstance, defs: dg.Definitions, key: list[str]
) -> None:
    on_time = dg.AssetCheckKey(dg.AssetKey(key), "on_time")
    [check] = [one for one in defs.asset_checks or () if isinstance(one, dg.AssetChecksDefinition) and on_time in one.check_keys]
    asked = dg.AssetSelection.checks(on_time)
    result = dg.materialize([check], selection=asked, instance=instance, resources={"settings": settings}, raise_on_error=False)
    assert [(one.check_name, one.passed) for one in result.get_asset_check_evaluations()] == [("on_time", True)]
    job = defs.resolve_job_def("_".join(key))
    assert [name for name in job.graph.node_dict if "on_time" in name] == ["__".join(key) + "_on_time"]


def test_verdicts_of_sources_that_are_no_more_go(settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance) -> None:
    db.execute("INSERT INTO ops.verdicts VALUES ('silver/gone', '[]', now()), ('gold/stays', '[]', now())")
    db.commit()
    evaluate(silver.defs, "watch_silver", settings, instance)
    subjects = {verdict.subject for verdict in read_verdicts(db)}
    assert {"gold/stays", SUBJECT} <= subjects
    assert "silver/gone" not in subjects


def test_status_says_what_is_late_and_whether_anybody_looks(
    project: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_SOURCES__DRIVER_EVENTS__EXPECT_EVERY", "1d")
    fetch(project, instance)
    load_pending(project)
    age_items(db, timedelta(days=2, hours=3))
    output = call("status").output
    assert "no new item for 2d 3h; one is expected every 1d" in output
    assert "2d 3h ago" in output
    assert "its sensor watch_silver ticks every minute and never has" in output
    for defs, name in ((bronze.defs, "watch_bronze"), (silver.defs, "watch_silver"), (gold.defs, "watch_gold")):
        evaluate(defs, name, project, instance)
    answer = json.loads(call("status", "--json").output)
    assert [finding["kind"] for finding in answer["findings"]] == ["silent"]
    assert [one["waiting"] for one in answer["sources"] if one["source_type"] == "driver_events"] == [0]


def test_alerts_are_off_by_default(settings: Settings, instance: dg.DagsterInstance) -> None:
    tick = evaluate(bronze.defs, "send_alerts", settings, instance)
    assert tick.skip_message == "no webhook is set (alerts.webhook_url)"


def test_a_late_source_is_posted_once_and_a_webhook_that_is_down_costs_nothing_but_time(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    fetch(settings, instance)
    age_items(db, timedelta(hours=3))
    evaluate(silver.defs, "watch_silver", settings, instance)
    with loopback_server(500, b"down") as server:
        settings = settings.model_copy(update={"alerts": AlertSettings(webhook_url=server.url)})
        down = evaluate(bronze.defs, "send_alerts", settings, instance)
        assert "500 down" in down.skip_message
        server.status = 200
        up = evaluate(bronze.defs, "send_alerts", settings, instance, down.cursor)
        evaluate(bronze.defs, "send_alerts", settings, instance, up.cursor)
        load_pending(settings)
        evaluate(silver.defs, "watch_silver", settings, instance)
        evaluate(bronze.defs, "send_alerts", settings, instance, up.cursor)
    texts = [post["text"] for post in server.posts]
    assert len(texts) == 3
    assert texts[0] == texts[1]
    assert texts[1].startswith(":warning: driver_events: 1 item on the way to silver")
    assert texts[2].startswith(":white_check_mark: silver/driver_events is not behind any more")


def test_a_failed_run_of_any_location_is_posted_with_its_error(settings: Settings, instance: dg.DagsterInstance) -> None:
    @dg.op
    def fail() -> None:
        raise RuntimeError("the disk is full")

    @dg.job(tags={WORK_TAG: "gold/elsewhere/1-2-3-4"})
    def elsewhere() -> None:
        fail()

    failed = [elsewhere.execute_in_process(instance=instance, raise_on_error=False).run_id for _ in range(2)]
    killed = instance.create_run_for_job(elsewhere, tags={WORK_TAG: "silver/killed/batch"})
    instance.report_run_failed(killed, message="The worker is gone.")
    with loopback_server(200, b"ok") as server:
        settings = settings.model_copy(update={"alerts": AlertSettings(webhook_url=server.url)})
        first = evaluate(bronze.defs, "send_alerts", settings, instance)
        evaluate(bronze.defs, "send_alerts", settings, instance, first.cursor)
    [post] = server.posts
    gold_line, silver_line = post["text"].splitlines()
    assert gold_line.startswith(f":x: gold/elsewhere: run {failed[-1]} failed (2 runs within 1h; this is the last).")
    assert gold_line.endswith("RuntimeError: the disk is full")
    assert silver_line == f":x: silver/killed: run {killed.run_id} failed. The worker is gone."


def test_alerts_test_says_what_the_server_answered(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "MEDALLION_ALERTS__WEBHOOK_URL" in str(call("alerts", "test").exception)
    with loopback_server(200, b"ok") as server:
        monkeypatch.setenv("MEDALLION_ALERTS__WEBHOOK_URL", f"{server.url}/SECRET")
        result = call("alerts", "test")
    assert (result.exit_code, result.output) == (0, "The webhook at 127.0.0.1 answered: 200 ok\n")
    assert "medallion alerts test" in server.posts[0]["text"]
