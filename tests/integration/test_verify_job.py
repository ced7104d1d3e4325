"""Bronze is hashed again in slices: all of it in the days that the setting says, whatever restarts, and what is found is told."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from medallion_defs.bronze.maintenance import verify_job
from medallion_defs.bronze.maintenance.verify_job import share_of, verify_slice
from medallion_defs.core import clock
from medallion_defs.core.settings import Settings
from medallion_defs.locations import bronze
from medallion_defs.ops.verifications import read_verification
from medallion_defs.storage.local.publisher import LocalStore
from medallion_defs.storage.publishing import NewArtifact, NewItem
from tests.folders import make_removable
from tests.integration.commands import call

ITEMS = 25


@pytest.fixture
def published(project: Settings, tmp_path: Path) -> Iterator[Settings]:
    with LocalStore(project.bronze_path).group("driver_events") as group:
        for number in range(ITEMS):
            artifact = NewArtifact("events.jsonl", b"%d" % number)
            group.stage(NewItem(f"{number:02}.jsonl", f"{number:02}.jsonl", "test", clock.now(), [artifact]))
        group.publish()
    yield project
    make_removable(tmp_path)


def write(settings: Settings, directory: str, content: bytes) -> None:
    path = settings.bronze_path / "driver_events" / directory / "events.jsonl"
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


def test_slices_come_to_the_end_in_the_days_of_the_setting_and_begin_again(published: Settings) -> None:
    now, seen = clock.now(), list[int]()
    for night in range(10):
        done = verify_slice(published, "driver_events", 10, now + timedelta(days=night))
        seen.append(done.items)
        assert (done.verification.passed_at is not None) == (sum(seen) == ITEMS)
        if sum(seen) == ITEMS:
            break
    assert sum(seen) == ITEMS
    assert max(seen) == 3
    assert done.verification.after == ""
    assert verify_slice(published, "driver_events", 10, now + timedelta(days=11)).items > 0


def test_nights_on_which_nothing_ran_are_made_up_for() -> None:
    now = clock.now()
    assert share_of(None, 30, now) == pytest.approx(1 / 30)
    assert share_of(now - timedelta(hours=2), 30, now) == pytest.approx(1 / 30)
    assert share_of(now - timedelta(days=6), 30, now) == pytest.approx(6 / 30)
    assert share_of(now - timedelta(days=90), 30, now) == 1.0


def test_what_is_found_is_kept_until_the_item_is_right_when_it_is_hashed_again(published: Settings, db: psycopg.Connection) -> None:
    write(published, "01.jsonl", b"!")
    found = verify_slice(published, "driver_events", 1, clock.now()).verification
    assert list(found.problems) == ["01.jsonl"]
    assert "driver_events/01.jsonl/events.jsonl" in str(found.judge())
    assert read_verification(db, "driver_events").problems == found.problems
    findings = json.loads(call("status", "--json").output)["findings"]
    [finding] = [one for one in findings if "as they were published" in one["sentence"]]
    assert "medallion bronze verify driver_events" in finding["sentence"]
    write(published, "01.jsonl", b"1")
    assert verify_slice(published, "driver_events", 1, clock.now()).verification.judge() is None


def test_a_pass_that_is_killed_goes_on_where_it_was(published: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_job, "_COMMIT_ITEMS", 5)
    real, count = verify_job._noted, 0

    def die_at_the_twelfth(*args: object) -> object:
        nonlocal count
        count += 1
        if count == 12:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(verify_job, "_noted", die_at_the_twelfth)
    with pytest.raises(KeyboardInterrupt):
        verify_slice(published, "driver_events", 1, clock.now())
    assert read_verification(db, "driver_events").after == "09.jsonl"
    db.rollback()
    monkeypatch.setattr(verify_job, "_noted", real)
    done = verify_slice(published, "driver_events", 1, clock.now())
    assert (done.items, done.verification.passed_at is not None) == (ITEMS - 10, True)


def test_the_job_fails_the_check_of_the_asset(published: Settings, instance: dg.DagsterInstance) -> None:
    write(published, "00.jsonl", b"!")
    job = bronze.defs.get_job_def("verify_bronze")
    assert job.execute_in_process(instance=instance, resources={"settings": published}).success
    key = dg.AssetCheckKey(dg.AssetKey(["bronze", "driver_events"]), "as_published")
    [record] = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    assert record.status.value == "FAILED"
