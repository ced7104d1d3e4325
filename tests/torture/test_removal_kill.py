"""Retention, forget and withdraw are killed before and after every step and every commit, in database and files; then run again.

The command runs in a fork that counts the crossings of its steps and kills itself at the N-th, for N = 1, 2, … until it gets through.
"""

import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from medallion_defs.bronze.maintenance.retention import apply_bronze, plan_bronze
from medallion_defs.cli import forget
from medallion_defs.core import clock
from medallion_defs.core.sections import SourceRetention, SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.ops.forget import Subject
from medallion_defs.ops.ledger import Ledger
from medallion_defs.storage.local.publisher import LocalStore
from tests.conftest import ROOT
from tests.folders import make_removable
from tests.integration.commands import call
from tests.integration.test_forget import dump, everything_below, rows
from tests.integration.test_impact import deliver, event

SOURCE = "driver_events"
STEPS: list[tuple[Any, str]] = [
    (LocalStore, "remove"),
    (LocalStore, "forget"),
    (forget, "delete_copies"),
    (forget, "delete_rows"),
    (forget, "delete_items"),
    (forget, "run_work"),
    (forget, "prune_vanished"),
    (psycopg.Connection, "commit"),
]


@pytest.fixture
def project(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A project that the command line finds; what the store made read-only can be removed at the end."""
    monkeypatch.setenv("MEDALLION_ROOT", str(ROOT))
    monkeypatch.setenv("MEDALLION_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("MEDALLION_DATABASE_URL", str(settings.database_url))
    yield settings
    make_removable(tmp_path)


def die_at_crossing(number: int) -> None:
    """Make this process kill itself at the `number`-th beginning or end of a step."""
    crossings = count(1)

    def cross() -> None:
        if next(crossings) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            cross()
            answer = real(*args, **kwargs)
            cross()
            return answer

        return call

    for owner, name in STEPS:
        setattr(owner, name, wrap(getattr(owner, name)))


def is_killed_at(number: int, command: Callable[[], object]) -> bool:
    """Run the command in a fork; return whether it came to the crossing, and so died."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            die_at_crossing(number)
            command()
            status = 0
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL), f"crossing {number}: the command failed instead of dying"
    return code != 0


def sweep(prepare: Callable[[int], Callable[[], object]], check: Callable[[int], None]) -> int:
    """For each crossing: prepare a command, kill it there, check. Return the number of crossings."""
    for number in count(1):
        command = prepare(number)
        was_killed = is_killed_at(number, command)
        check(number)
        if not was_killed:
            return number - 1
    raise AssertionError("unreachable")


def assert_bytes_are_there(settings: Settings, db: psycopg.Connection) -> None:
    """Whatever may be loaded has its bytes: no kill leaves an item that a run would stumble over."""
    paths = rows(db, "SELECT bronze_path FROM ops.file_ingestions WHERE bronze_can_promote AND status <> 'refused'")
    for (path,) in paths:
        assert (settings.bronze_path / path / "events.jsonl").exists(), path


def test_a_retention_killed_at_any_step_is_finished_by_the_next_one(project: Settings, db: psycopg.Connection) -> None:
    settings = project.model_copy(update={"sources": {SOURCE: SourceSettings(retention=SourceRetention(keep_revisions=1))}})

    def apply() -> None:
        now = clock.now()
        assert apply_bronze(settings, LocalStore(settings.bronze_path), plan_bronze(settings, now), now).problems == []

    def prepare(number: int) -> Callable[[], None]:
        for kind in ("first", "second"):
            deliver(project, SOURCE, f"file{number}.jsonl", event(f"e{number}", kind))
        return apply

    def check(number: int) -> None:
        assert_bytes_are_there(project, db)
        apply()
        query = "SELECT revision, status, bronze_removed_by FROM ops.file_ingestions"
        found = rows(db, f"{query} WHERE external_id = 'file{number}.jsonl' ORDER BY 1")
        assert found == [(1, "removed", "policy keep_revisions 1"), (2, "loaded", None)]
        folder = project.bronze_path / SOURCE
        assert [path.name for path in (folder / f"file{number}.jsonl").iterdir()] == ["_removed.json"]
        assert (folder / "_index.jsonl").read_text().count('{"removed_at":') == number
        assert list(LocalStore(project.bronze_path).verify(SOURCE)) == []

    assert sweep(prepare, check) >= 6


def test_a_forgetting_killed_at_any_step_is_finished_by_the_next_one(project: Settings, db: psycopg.Connection) -> None:
    def prepare(number: int) -> Callable[[], None]:
        deliver(project, SOURCE, f"jane{number}.jsonl", event("e1", f"jane{number}"), event(f"e{number + 1}", "jane"))
        return lambda: forget.forget_subject(project, Subject(SOURCE, f"jane{number}.jsonl"), clock.now()) and None

    def check(number: int) -> None:
        assert_bytes_are_there(project, db)
        result = call("forget", "--source", SOURCE, "--external-id", f"jane{number}.jsonl", "--yes")
        assert result.exit_code == 0, result.exception
        assert "jane" not in dump(db)
        assert "jane" not in everything_below(project.data_path)
        assert list(LocalStore(project.bronze_path).verify(SOURCE)) == []
        assert rows(db, "SELECT count(*) FROM ops.file_ingestions WHERE status = 'removed'") == [(number,)]

    assert sweep(prepare, check) >= 14


def test_a_withdrawal_killed_at_any_step_is_finished_by_the_next_one(project: Settings, db: psycopg.Connection) -> None:
    def withdraw(number: int) -> None:
        row = Ledger(db).find_row(f"{SOURCE}/bad{number}.jsonl")
        db.rollback()
        assert row is not None
        forget.withdraw_item(project, row, "bad", clock.now())

    def prepare(number: int) -> Callable[[], None]:
        deliver(project, SOURCE, f"bad{number}.jsonl", event("e1", "bad"))
        row = Ledger(db).find_row(f"{SOURCE}/bad{number}.jsonl")
        db.rollback()
        assert row is not None
        return lambda: forget.withdraw_item(project, row, "bad", clock.now()) and None

    def check(number: int) -> None:
        withdrawn = rows(db, f"SELECT status FROM ops.file_ingestions WHERE external_id = 'bad{number}.jsonl'") == [("withdrawn",)]
        in_silver = bool(rows(db, "SELECT FROM silver.driver_events"))
        assert withdrawn != in_silver
        withdraw(number)
        assert rows(db, "SELECT FROM silver.driver_events") == rows(db, "SELECT FROM gold.driver_events_enriched") == []

    assert sweep(prepare, check) >= 6
