"""A database restored from an older dump, an orchestrator that forgot everything, a data folder that moved: all of it is caught up.

The sensors are ticked as the daemon does, each with the cursor that it gave last, and what they ask for is run.
"""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from medallion_defs.core.sections import SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.enrichments.driver_events_enriched.tables import TABLE as GOLD
from medallion_defs.locations import bronze, gold, silver
from medallion_defs.ops import cursors
from medallion_defs.silver.digest import digest_table
from medallion_defs.sources.companies.tables import TABLE as COMPANIES
from medallion_defs.sources.driver_events.tables import TABLE as EVENTS
from medallion_defs.stack.postgres import binaries
from tests.integration.commands import call
from tests.integration.dagster_assets import drop, materialize
from tests.integration.test_sensors import run_request, tick

SENSORS = (
    (silver.defs, "discover_companies", ["silver", "companies"]),
    (silver.defs, "discover_driver_events", ["silver", "driver_events"]),
    (gold.defs, "follow_driver_events_enriched", ["gold", "driver_events_enriched"]),
)
FIRST = {"companies": b"company_id,name\nC1,First\n", "driver_events": b'{"event_id": "e1", "company_id": "C1"}\n'}
SECOND = {"companies": b"company_id,name\nC1,Renamed\nC2,Second\n", "driver_events": b'{"event_id": "e2", "company_id": "C2"}\n'}
ENDINGS = {"companies": "csv", "driver_events": "jsonl"}


@dataclass
class Stack:
    """The sensors of a project and their runs. `cursors`: what Dagster keeps, by sensor."""

    settings: Settings
    instance: dg.DagsterInstance
    cursors: dict[str, str | None] = field(default_factory=dict)

    def deliver(self, name: str, files: dict[str, bytes]) -> None:
        for source, content in files.items():
            drop(self.settings, source, f"{name}.{ENDINGS[source]}", content)
            assert materialize(bronze.defs, ["bronze", source], self.settings, self.instance).success

    def work(self) -> None:
        """Tick and run until no sensor asks for anything."""
        while sum([self._step(*sensor) for sensor in SENSORS]):
            pass

    def _step(self, defs: dg.Definitions, name: str, key: list[str]) -> int:
        requests, self.cursors[name], _ = tick(defs, name, self.settings, self.instance, self.cursors.get(name))
        return sum(run_request(defs, self.settings, self.instance, request, key) for request in requests)

    def digests(self) -> dict[str, str]:
        with psycopg.connect(str(self.settings.database_url)) as connection:
            return {table.fullname: digest_table(connection, table) for table in (EVENTS, COMPANIES, GOLD)}


@pytest.fixture
def stack(settings: Settings, instance: dg.DagsterInstance) -> Stack:
    """By index: its cursor says how far the file was read, whatever the time."""
    by_index = SourceSettings(discovery="index")
    return Stack(settings.model_copy(update={"sources": dict.fromkeys(ENDINGS, by_index)}), instance)


def dump(settings: Settings, path: Path) -> None:
    command = [str(binaries() / "pg_dump"), "--format=custom", f"--file={path}", "--dbname", str(settings.database_url)]
    subprocess.run(command, check=True, capture_output=True)


def restore(settings: Settings, path: Path) -> None:
    command = [str(binaries() / "pg_restore"), "--clean", "--if-exists", "--exit-on-error", "--single-transaction"]
    subprocess.run([*command, "--dbname", str(settings.database_url), str(path)], check=True, capture_output=True)


def dump_work_on_and_restore(stack: Stack, folder: Path) -> dict[str, str]:
    """Return the digests of before the restore. The restored database has the first delivery only; bronze and the cursors have both."""
    stack.deliver("first", FIRST)
    stack.work()
    dump(stack.settings, folder / "medallion.dump")
    stack.deliver("second", SECOND)
    stack.work()
    before = stack.digests()
    restore(stack.settings, folder / "medallion.dump")
    assert stack.digests() != before
    return before


def test_a_database_restored_from_an_older_dump_is_caught_up_although_the_cursors_are_newer(stack: Stack, tmp_path: Path) -> None:
    before = dump_work_on_and_restore(stack, tmp_path)
    stack.work()
    assert stack.digests() == before
    # New rows take the positions that the lost ones had; the cursors are of this database again.
    stack.deliver("third", {"companies": b"company_id,name\nC2,Renamed\n"})
    stack.work()
    with psycopg.connect(str(stack.settings.database_url)) as connection:
        names = connection.execute("SELECT event_id, company_name FROM gold.driver_events_enriched ORDER BY 1").fetchall()
    assert names == [("e1", "Renamed"), ("e2", "Renamed")]


def test_without_the_note_in_the_database_newer_cursors_would_pass_over_what_was_lost(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above sees it when any cursor counts."""
    monkeypatch.setattr(cursors, "is_noted", lambda *_: True)
    before = dump_work_on_and_restore(stack, tmp_path)
    stack.work()
    assert stack.digests() != before


def test_a_lost_storage_of_the_orchestrator_costs_nothing(stack: Stack) -> None:
    stack.deliver("first", FIRST)
    stack.work()
    stack.deliver("second", SECOND)
    # Claimed and asked for, and the run is forgotten before it began.
    assert tick(silver.defs, "discover_companies", stack.settings, stack.instance, stack.cursors["discover_companies"])[0]
    with dg.DagsterInstance.ephemeral() as empty:
        forgetful = Stack(stack.settings, empty)
        forgetful.work()
        after = forgetful.digests()
        forgetful.work()
        assert forgetful.digests() == after
    with psycopg.connect(str(stack.settings.database_url)) as connection:
        rows = connection.execute("SELECT status, attempts, count(*) FROM ops.file_ingestions GROUP BY 1, 2").fetchall()
    assert rows == [("loaded", 1, 4)]


def test_a_data_folder_that_moved_goes_on_where_it_was(stack: Stack, tmp_path: Path) -> None:
    stack.deliver("first", FIRST)
    stack.work()
    before, elsewhere = stack.digests(), tmp_path / "elsewhere"
    stack.settings.data_path.rename(elsewhere)
    moved = Stack(stack.settings.model_copy(update={"data_dir": elsewhere}), stack.instance, stack.cursors)
    moved.work()
    assert moved.digests() == before
    moved.deliver("second", SECOND)
    moved.work()
    with psycopg.connect(str(moved.settings.database_url)) as connection:
        assert connection.execute("SELECT count(*) FROM ops.file_ingestions WHERE status = 'loaded'").fetchone() == (4,)
        assert connection.execute("SELECT count(*) FROM gold.driver_events_enriched WHERE match_status = 'matched'").fetchone() == (2,)
        # Paths in the database are below the data folder: nothing names where that is.
        named = "SELECT count(*) FROM ops.file_ingestions AS item WHERE strpos(item::text, %s) > 0"
        assert connection.execute(named, (str(tmp_path),)).fetchone() == (0,)


def test_a_person_forgotten_after_the_dump_is_forgotten_again_by_the_same_command(
    project: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    stack = Stack(project, instance)
    stack.deliver("first", FIRST)
    stack.work()
    dump(project, tmp_path / "medallion.dump")
    forget = ("forget", "--source", "driver_events", "--external-id", "first.jsonl", "--yes")
    assert call(*forget).exit_code == 0
    restore(project, tmp_path / "medallion.dump")
    assert stack.digests()[EVENTS.fullname].startswith("1-")
    stack.work()
    assert call(*forget).exit_code == 0
    stack.work()
    assert {name: digest.partition("-")[0] for name, digest in stack.digests().items()} == {
        EVENTS.fullname: "0", COMPANIES.fullname: "1", GOLD.fullname: "0",
    }  # fmt: skip
