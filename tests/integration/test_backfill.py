"""A backfill does a part of history once more, beside what arrives, and only the rest of it after it was killed.

The process that gets killed is this file run as a script: `medallion backfill` with a deadly step in one of its chunks.
"""

import json
import os
import re
import signal
import subprocess
import sys
from datetime import timedelta

import dagster as dg
import psycopg
import pytest

from medallion_defs.cli import main as cli
from medallion_defs.core import clock
from medallion_defs.core.settings import Settings, load_settings
from medallion_defs.enrichments.driver_events_enriched.tables import TABLE as GOLD
from medallion_defs.locations import bronze, gold, silver
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.run_requests import WORK_TAG, first_requested_at
from medallion_defs.ops.scope import Scope
from medallion_defs.silver import backfill, load_run
from medallion_defs.silver.digest import digest_table
from medallion_defs.sources.driver_events.tables import TABLE as EVENTS
from tests.conftest import ROOT
from tests.integration.commands import call
from tests.integration.dagster_assets import drop, materialize
from tests.integration.test_sensors import tick

FILES, PER_CHUNK, DEADLY_CHUNK = 10, 2, 3
STEPS = ("claimed", "loading", "loaded")


@pytest.fixture
def small_batches(project: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The project with microbatches of two items, one in flight."""
    monkeypatch.setenv("MEDALLION_SOURCES", json.dumps({"driver_events": {"max_items": PER_CHUNK, "max_in_flight": 1}}))
    return load_settings()


def publish(settings: Settings, instance: dg.DagsterInstance, *names: str) -> None:
    for name in names:
        lines = [{"event_id": f"{name}-{number}", "company_id": "C1"} for number in range(3)]
        drop(settings, "driver_events", name, "".join(json.dumps(line) + "\n" for line in lines).encode())
    assert materialize(bronze.defs, ["bronze", "driver_events"], settings, instance).success


def load_history_once(settings: Settings, instance: dg.DagsterInstance) -> None:
    publish(settings, instance, *(f"{number}.jsonl" for number in range(FILES)))
    assert materialize(silver.defs, ["silver", "driver_events"], settings, instance).success
    assert materialize(gold.defs, ["gold", "driver_events_enriched"], settings, instance).success


def ledger_rows(db: psycopg.Connection) -> list[tuple[object, ...]]:
    rows = db.execute("SELECT * FROM ops.file_ingestions ORDER BY file_id").fetchall()
    db.commit()
    return rows


def items_of(db: psycopg.Connection, run_id: str) -> set[str]:
    rows = db.execute("SELECT external_id FROM ops.file_ingestions WHERE silver_run_id = %s AND status = 'loaded'", (run_id,)).fetchall()
    db.commit()
    return {name for (name,) in rows}


def content_of(name: str) -> load_run.SilverContent:
    return next(content for content in silver.load_contents() if content.source.name == name)


def test_a_dry_run_says_how_much_there_is_and_changes_nothing(
    small_batches: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    load_history_once(small_batches, instance)
    before = ledger_rows(db)
    result = call("backfill", "silver.driver_events", "--dry-run")
    assert "10 items" in result.output
    assert "30 rows" in result.output
    result = call("backfill", "gold.driver_events_enriched", "--dry-run", "--dataset", "even??")
    assert "with 30 silver rows, made of 10 items" in result.output
    assert "0 items" in call("backfill", "silver.driver_events", "--dry-run", "--dataset", "uber*").output
    assert ledger_rows(db) == before


def test_a_backfill_takes_the_part_that_is_named_and_says_what_it_did(
    small_batches: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    load_history_once(small_batches, instance)
    [(file_id,)] = db.execute("SELECT file_id FROM ops.file_ingestions WHERE external_id = '3.jsonl'").fetchall()
    db.execute("DELETE FROM silver.driver_events WHERE event_id = '3.jsonl-1'")
    db.execute("UPDATE ops.file_ingestions SET code_version = 'old' WHERE external_id IN ('5.jsonl', '6.jsonl')")
    db.commit()
    one = call("backfill", "silver.driver_events", "--file-id", str(file_id))
    assert (one.exit_code, "Done: 1 items loaded, 0 failed, rows 3 read, 1 created, 0 updated" in one.output) == (0, True)
    assert items_of(db, one.output.split(":")[0]) == {"3.jsonl"}
    outdated = call("backfill", "silver.driver_events", "--scope", "outdated")
    assert items_of(db, outdated.output.split(":")[0]) == {"5.jsonl", "6.jsonl"}
    assert "Done: 0 items" in call("backfill", "silver.driver_events", "--scope", "outdated").output
    db.execute("UPDATE gold.driver_events_enriched SET event_type = 'forged' WHERE event_file_id = %s", (file_id,))
    db.commit()
    assert "2 updated" in call("backfill", "gold.driver_events_enriched", "--file-id", str(file_id)).output


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("silver.weather",), "There is: gold.driver_events_enriched, silver.articles, silver.companies"),
        (("silver.driver_events", "--scope", "pending"), "a backfill takes all, since"),
        (("silver.driver_events", "--scope", "dataset"), "needs the setting 'dataset'"),
        (("silver.driver_events", "--scope", "all", "--dataset", "x"), "Set scope: dataset"),
        (("silver.driver_events", "--before", "yesterday"), "before: 'yesterday' is no time"),
        (("gold.driver_events_enriched", "--scope", "outdated"), "scope outdated is for silver"),
        (("gold.driver_events_enriched", "--before", "2026-11-01T00:00:00+00:00"), "--before is for silver"),
    ],
)
def test_a_backfill_that_is_not_clear_does_nothing(small_batches: Settings, words: tuple[str, ...], hint: str) -> None:
    result = call("backfill", *words)
    assert result.exit_code == 1
    assert hint in str(result.exception)


@pytest.mark.parametrize("step", STEPS)
def test_a_backfill_killed_in_the_middle_does_the_rest_when_resumed_and_not_all_again(
    small_batches: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, step: str
) -> None:
    load_history_once(small_batches, instance)
    digests = {table.name: digest_table(db, table) for table in (EVENTS, GOLD)}
    db.execute("TRUNCATE silver.driver_events, gold.driver_events_enriched")
    db.commit()
    killed = subprocess.run(
        [sys.executable, "-m", "tests.integration.test_backfill", step], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    first_run = killed.stdout.split(":")[0]
    done = items_of(db, first_run)
    assert len(done) == PER_CHUNK * (DEADLY_CHUNK if step == "loaded" else DEADLY_CHUNK - 1)
    resume = re.search(r"medallion (backfill .* --before \S+)", killed.stdout)
    assert resume is not None
    result = call(*resume[1].split())
    assert result.exit_code == 0, result.output
    assert items_of(db, result.output.split(":")[0]) == {f"{number}.jsonl" for number in range(FILES)} - done
    assert items_of(db, first_run) == done
    assert call("backfill", "gold.driver_events_enriched").exit_code == 0
    assert {table.name: digest_table(db, table) for table in (EVENTS, GOLD)} == digests


def test_the_sensor_hands_out_what_arrives_while_a_backfill_is_at_work(
    small_batches: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    load_history_once(small_batches, instance)
    before = clock.now()
    with psycopg.connect(str(small_batches.database_url)) as worker:
        ledger, options = Ledger(worker), small_batches.source("driver_events")
        batches = [ledger.claim_done("driver_events", Scope(), before, options, clock.now()) for _ in range(2)]
        worker.commit()
        assert batches[0] is not None
        assert ledger.start_batch(batches[0].batch_id, "backfill", "v1", options, clock.now())
        publish(small_batches, instance, "new.jsonl")
        # One claimed and in work, one just claimed; the source has room for one microbatch, and it is free.
        [request], _, _ = tick(silver.defs, "discover_driver_events", small_batches, instance)
    [(batch_id,)] = db.execute("SELECT batch_id FROM ops.file_ingestions WHERE external_id = 'new.jsonl'").fetchall()
    assert request.run_key == f"{batch_id}:1"


def test_what_a_killed_backfill_left_is_handed_out_by_the_sensor(
    small_batches: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    load_history_once(small_batches, instance)
    with psycopg.connect(str(small_batches.database_url)) as worker:
        ledger, options = Ledger(worker), small_batches.source("driver_events")
        batch = ledger.claim_done("driver_events", Scope(), clock.now(), options, clock.now() - timedelta(minutes=5))
    assert batch is not None
    [request], _, _ = tick(silver.defs, "discover_driver_events", small_batches, instance)
    assert request.run_key == f"{batch.batch_id}:1"


def test_a_run_that_holds_the_pool_for_history_does_between_chunks_what_arrived(
    small_batches: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    load_history_once(small_batches, instance)
    publish(small_batches, instance, "new.jsonl")
    [request], _, _ = tick(silver.defs, "discover_driver_events", small_batches, instance)
    result = materialize(silver.defs, ["silver", "driver_events"], small_batches, instance, scope="all")
    assert result.success
    ends = db.execute("SELECT external_id FROM ops.file_ingestions ORDER BY silver_ingest_end_time").fetchall()
    assert ends.index(("new.jsonl",)) == PER_CHUNK
    assert "silver/driver_events/" in request.tags[WORK_TAG]
    assert items_of(db, result.run_id) == {f"{number}.jsonl" for number in range(FILES)} | {"new.jsonl"}


def test_what_a_killed_backfill_left_is_charged_nothing_when_another_takes_it(
    small_batches: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    load_history_once(small_batches, instance)
    content, options = content_of("driver_events"), small_batches.source("driver_events")
    with psycopg.connect(str(small_batches.database_url)) as worker:
        batch = Ledger(worker).claim_done("driver_events", Scope(), clock.now(), options, clock.now())
    assert batch is not None
    for attempt in range(options.max_attempts + 1):
        assert backfill.take_left_behind(small_batches, content) == [batch.batch_id]
        with psycopg.connect(str(small_batches.database_url)) as worker:
            assert len(Ledger(worker).start_batch(batch.batch_id, f"run-{attempt}", "v1", options, clock.now())) == PER_CHUNK
            assert backfill.take_left_behind(small_batches, content) == []
    assert call("backfill", "silver.driver_events", "--dataset", "none").exit_code == 0
    assert db.execute("SELECT attempts, count(*) FROM ops.file_ingestions GROUP BY 1").fetchall() == [(1, FILES)]


def test_a_run_that_dagster_retries_takes_over_the_before_of_the_first(instance: dg.DagsterInstance) -> None:
    job = silver.defs.resolve_job_def("silver_driver_events")
    first = instance.create_run_for_job(job)
    retry = instance.create_run_for_job(job, root_run_id=first.run_id, parent_run_id=first.run_id)
    record = instance.get_run_record_by_id(first.run_id)
    assert record is not None
    assert first_requested_at(instance, retry) == first_requested_at(instance, first) == record.create_timestamp


def run_and_die(step: str) -> None:
    """Run `medallion backfill silver.driver_events`; die by SIGKILL at `step` of chunk DEADLY_CHUNK."""
    chunks, backfill_pid = 0, os.getpid()
    load_batch, load_items = load_run.load_batch, load_run.load_items

    def die(here: str) -> None:
        if here == step and chunks == DEADLY_CHUNK:
            sys.stdout.flush()
            # The load has a process of its own, which dies with the backfill's.
            os.kill(backfill_pid, signal.SIGKILL)
            signal.pause()

    def deadly_batch(*arguments: object) -> object:
        nonlocal chunks
        chunks += 1
        die("claimed")
        report = load_batch(*arguments)  # type: ignore[arg-type]  # passed on as they came
        die("loaded")
        return report

    def deadly_items(*arguments: object, **options: object) -> object:
        loads = load_items(*arguments, **options)  # type: ignore[arg-type]  # passed on as they came
        die("loading")
        return loads

    backfill.load_batch, load_run.load_items = deadly_batch, deadly_items  # type: ignore[assignment]  # the deadly ones
    cli.app(["backfill", "silver.driver_events"])


if __name__ == "__main__":
    run_and_die(sys.argv[1])
