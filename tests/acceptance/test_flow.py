"""Files dropped into landing while a real daemon runs: they come through all layers, whatever happens in between."""

import gzip
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.rows import dict_row

from medallion_defs.core.settings import Settings
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.enrichments.driver_events_enriched.tables import TABLE as GOLD
from medallion_defs.gold.enrich_run import run_work
from medallion_defs.gold.feed import plan
from medallion_defs.locations.silver import load_contents
from medallion_defs.ops.lineage import LineageSpec, trace_bronze, trace_gold
from medallion_defs.silver.digest import digest_table
from medallion_defs.silver.load_run import load_batch
from medallion_defs.silver.wanted import Wanted, which_batches
from medallion_defs.sources.companies.tables import TABLE as COMPANIES
from medallion_defs.sources.driver_events.tables import TABLE as EVENTS
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.running import RunningStack, running_stack
from medallion_defs.storage.readers import open_reader
from tests.conftest import ROOT, create_database
from tests.folders import stack_folder

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1200)]

SECONDS = 900.0


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    with stack_folder() as folder, running_stack(Settings(root=ROOT, data_dir=folder / "data")) as stack:
        yield stack


def drop(stack: RunningStack, source: str, name: str, content: bytes) -> None:
    """Put a file into landing as a careful writer does: under another name first."""
    path = stack.settings.landing_path / source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    growing = path.with_name(path.name + ".part")
    growing.write_bytes(content)
    growing.rename(path)


def lines(*events: dict[str, object]) -> bytes:
    return "".join(json.dumps(event) + "\n" for event in events).encode()


def event(number: int, **values: object) -> dict[str, object]:
    return {
        "event_id": f"e{number:05d}", "driver_id": "D1", "vehicle_id": "V1", "company_id": "C1", "event_type": "position",
        "event_at": "2026-11-01T10:00:00Z", "latitude": 50.0, "longitude": 8.0, "speed_kmh": 40.0, **values,
    }  # fmt: skip


def connect(stack: RunningStack) -> psycopg.Connection:
    return psycopg.connect(stack.databases.medallion_url, options="-c timezone=UTC", autocommit=True)


def status_of(stack: RunningStack, external_id: str, revision: int = 1) -> str | None:
    with connect(stack) as db:
        query = "SELECT status FROM ops.file_ingestions WHERE external_id = %s AND revision = %s"
        row = db.execute(query, (external_id, revision)).fetchone()
    return row[0] if row else None


def wait_for_status(stack: RunningStack, external_id: str, status: str, revision: int = 1) -> None:
    stack.wait_for(f"{external_id} to be {status}", lambda: status_of(stack, external_id, revision) == status, SECONDS)


def is_gold_current(stack: RunningStack) -> bool:
    with connect(stack) as db:
        return plan(db, ENRICHMENT, cursor=0, max_rows=1).work is None


def wait_for_gold(stack: RunningStack) -> None:
    stack.wait_for("gold to have all of silver", lambda: is_gold_current(stack), SECONDS)


def test_files_dropped_while_the_daemon_runs_reach_gold_whatever_they_are(stack: RunningStack) -> None:
    drop(stack, "companies", "companies.csv", b"company_id,name,sector,city,country,founded_year\nC1,First,Logistics,Graz,Austria,1990\n")
    drop(stack, "driver_events", "day1.jsonl", lines(*(event(number) for number in range(20_000))))
    # One more while the first is being processed.
    stack.wait_for("the first file to be taken", lambda: status_of(stack, "day1.jsonl") is not None, SECONDS)
    drop(stack, "driver_events", "day2.jsonl.gz", gzip.compress(lines(event(20_000, company_id="C2"), event(0), event(1, speed_kmh=41.0))))
    drop(stack, "driver_events", "broken.jsonl.gz", gzip.compress(lines(event(1)) * 100)[:-10])
    wait_for_status(stack, "day1.jsonl", "loaded")
    wait_for_status(stack, "day2.jsonl.gz", "loaded")
    wait_for_status(stack, "broken.jsonl.gz", "dead")
    wait_for_gold(stack)

    # The same bytes again, and the first file revised; a company that an event named before it was known.
    drop(stack, "driver_events", "day2.jsonl.gz", taken(stack, "day2.jsonl.gz").read_bytes())
    drop(stack, "driver_events", "day1.jsonl", lines(event(2, speed_kmh=99.0), event(20_001)) + b"not json\n")
    drop(stack, "companies", "late.csv", b"company_id,name\nC2,Second\n")
    wait_for_status(stack, "day1.jsonl", "loaded", revision=2)
    wait_for_status(stack, "late.csv", "loaded")
    wait_for_gold(stack)
    stack.wait_for("landing to be empty", lambda: not any((stack.settings.landing_path / "driver_events").iterdir()), SECONDS)

    with connect(stack) as db:
        db.row_factory = dict_row
        ledger = {
            (row["external_id"], row["revision"]): row
            for row in db.execute("SELECT * FROM ops.file_ingestions WHERE source_type = 'driver_events'").fetchall()
        }
        gold = {row["event_id"]: row for row in db.execute("SELECT * FROM gold.driver_events_enriched").fetchall()}
        rejected = db.execute("SELECT file_id, error_code FROM silver.rejected_rows").fetchall()
    assert set(ledger) == {("day1.jsonl", 1), ("day1.jsonl", 2), ("day2.jsonl.gz", 1), ("broken.jsonl.gz", 1)}
    assert ledger["day1.jsonl", 1]["silver_rows_created"] + ledger["day2.jsonl.gz", 1]["silver_rows_created"] == 20_001
    assert (ledger["day1.jsonl", 2]["silver_rows_created"], ledger["day1.jsonl", 2]["silver_rows_updated"]) == (1, 1)
    assert "broken.jsonl.gz" in ledger["broken.jsonl.gz", 1]["silver_errors"]["message"]
    assert rejected == [{"file_id": ledger["day1.jsonl", 2]["file_id"], "error_code": "malformed_json"}]
    assert len(gold) == 20_002
    assert (gold["e00001"]["speed_kmh"], gold["e00002"]["speed_kmh"]) == (41.0, 99.0)
    assert (gold["e20000"]["match_status"], gold["e20000"]["company_name"]) == ("matched", "Second")
    assert {row["match_status"] for row in gold.values()} == {"matched"}


def taken(stack: RunningStack, name: str) -> Path:
    [path] = (stack.settings.landing_path / ".taken" / "driver_events").glob(f"*/{name}")
    return path


def test_what_came_out_can_be_traced_to_the_file_and_back(stack: RunningStack) -> None:
    with connect(stack) as db:
        trace = trace_gold(db, ENRICHMENT.lineage, "e00002", open_reader(stack.settings))
        records = {record.table: record for record in trace.records}
        assert records["silver.driver_events"].item.bronze_path == "driver_events/day1.jsonl@2"
        assert records["silver.driver_events"].source_record == 1
        assert len(records["silver.driver_events"].item.artifacts[0].sha256) == 64
        assert records["silver.companies"].item.external_id == "companies.csv"
        found = trace_bronze(
            db,
            "driver_events/day1.jsonl@2",
            [LineageSpec("silver.driver_events", "event_id")],
            [ENRICHMENT.lineage],
            open_reader(stack.settings),
        )
    assert [rows.rows for rows in found.silver] == [2]
    assert [rows.rows for rows in found.gold] == [2]
    assert found.rejects == {"malformed_json": 1}


@pytest.mark.parametrize("victim", ["run worker", "daemon", "postgres"])
def test_killing_a_process_in_the_middle_of_a_load_changes_nothing_in_the_end(stack: RunningStack, victim: str) -> None:
    name = f"killed-{victim.replace(' ', '-')}.jsonl"
    drop(stack, "driver_events", name, lines(*(event(number, driver_id=victim) for number in range(60_000))) + b"not json\n")
    kill_during_load(stack, name, victim)
    wait_for_status(stack, name, "loaded")
    wait_for_gold(stack)
    with connect(stack) as db:
        found = {table.name: digest_table(db, table) for table in (EVENTS, COMPANIES, GOLD)}
    assert found == digests_of_a_rebuild(stack)


@contextmanager
def second_daemon(stack: RunningStack) -> Iterator[None]:
    """Run another daemon on the same instance, as a restart that left the old one behind does."""
    first = psutil.Process(stack.pid("daemon"))
    command, folder, environment = first.cmdline(), first.cwd(), first.environ()
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        try:
            yield
            assert daemon.poll() is None, "the second daemon was running all the time"
        finally:
            daemon.terminate()
            daemon.wait(60)


def test_invariant_14_two_daemons_at_once_have_no_double_effect(stack: RunningStack) -> None:
    names = [f"two-daemons-{number}.jsonl" for number in range(6)]
    with second_daemon(stack):
        for number, name in enumerate(names):
            drop(stack, "driver_events", name, lines(*(event(n, driver_id=f"D{number}") for n in range(number, number + 500))))
        for name in names:
            wait_for_status(stack, name, "loaded")
        wait_for_gold(stack)
    with connect(stack) as db:
        rows = db.execute("SELECT attempts, silver_rows_read FROM ops.file_ingestions WHERE external_id = ANY (%s)", (names,)).fetchall()
        found = {table.name: digest_table(db, table) for table in (EVENTS, COMPANIES, GOLD)}
    assert [read for _, read in rows] == [500] * len(names)
    assert {attempts for attempts, _ in rows} == {1}, "no item was tried twice"
    assert found == digests_of_a_rebuild(stack)


def kill_during_load(stack: RunningStack, name: str, victim: str) -> None:
    """Wait until a run has started on the file, then kill -9 the victim."""

    def has_started() -> bool:
        with connect(stack) as db:
            query = "SELECT silver_run_id FROM ops.file_ingestions WHERE external_id = %s AND status = 'claimed'"
            row = db.execute(query, (name,)).fetchone()
        return row is not None and row[0] is not None

    stack.wait_for(f"a run to start on {name}", has_started, SECONDS)
    if victim == "run worker":
        os.kill(run_worker(stack.pid("code-silver")), signal.SIGKILL)
    else:
        stack.kill(victim)


def run_worker(code_server: int) -> int:
    """Return the pid of the run that a code server has started: its one child that is not multiprocessing's own."""
    children = [process for process in psutil.Process(code_server).children() if "resource_tracker" not in " ".join(process.cmdline())]
    assert len(children) == 1, children
    return children[0].pid


def digests_of_a_rebuild(stack: RunningStack) -> dict[str, str]:
    """Load the same bronze into an empty database, nothing killed, and return the digests of its tables."""
    server = stack.databases.embedded
    assert server is not None
    create_database(server, "rebuild")
    try:
        migrate(ROOT, server.url("rebuild"))
        settings = stack.settings.model_copy(update={"database_url": server.url("rebuild")})
        for content in load_contents():
            for batch_id in which_batches(settings, content, Wanted()):
                load_batch(settings, content, batch_id, "rebuild")
        run_work(settings, ENRICHMENT, "rebuild", None)
        with psycopg.connect(server.url("rebuild"), options="-c timezone=UTC") as db:
            return {table.name: digest_table(db, table) for table in (EVENTS, COMPANIES, GOLD)}
    finally:
        with psycopg.connect(server.url("postgres"), autocommit=True) as db:
            db.execute("DROP DATABASE rebuild WITH (FORCE)")
