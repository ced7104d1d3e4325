"""Bytes that are not those that were published are not loaded, not processed, not sent and not shown as if they were right."""

import gzip
import json
from pathlib import Path

import psycopg
import pytest

from medallion_defs.core.settings import Settings
from medallion_defs.labeling import runner
from medallion_defs.labeling.registry import load_tasks
from tests.folders import make_removable
from tests.integration.commands import call, load_pending
from tests.integration.dagster_assets import drop
from tests.media_files import make_image

CSV = b"event_id,event_type,event_at,speed_kmh\n" + b"".join(
    b"e%03d,position,2026-01-01T00:00:%02dZ,%d\n" % (number, number % 60, 10 + number % 80) for number in range(300)
)
LINES = b"".join(b'{"event_id":"e%03d","event_type":"position","speed_kmh":%d}\n' % (number, 10 + number) for number in range(300))
ARRAY = b"[" + b",\n".join(LINES.splitlines()) + b"]"
COUNT = "SELECT (SELECT count(*) FROM silver.driver_events) + (SELECT count(*) FROM silver.rejected_rows)"


@pytest.fixture(autouse=True)
def removable(tmp_path: Path) -> object:
    yield
    make_removable(tmp_path)


def publish(settings: Settings, source: str, name: str, content: bytes) -> Path:
    """Bring a file into bronze; return its artifact there."""
    drop(settings, source, name, content)
    assert call("fetch", source).exit_code == 0
    [path] = [path for path in (settings.bronze_path / source).glob("*/*") if path.name != "_item.json"]
    return path


def flip(path: Path, old: bytes, new: bytes) -> None:
    """Change bytes in place, behind the store's back."""
    path.chmod(0o644)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def why(db: psycopg.Connection) -> tuple[str, str, str]:
    db.rollback()
    [(status, error)] = db.execute("SELECT status, silver_errors FROM ops.file_ingestions").fetchall()
    return status, error["error_type"], error["message"]


@pytest.mark.parametrize(
    ("name", "content", "old", "new"),
    [
        ("events.csv", CSV, b"e299,", b"e298,"),
        ("no-header.csv", CSV, b"event_id", b"event-id"),
        ("latin.csv", CSV, b"e299,position", b"e299,posit\xe9on"),
        ("events.jsonl", LINES, b'"e000"', b'"e001"'),
        ("broken.jsonl", LINES, b'{"event_id":"e299"', b'#"event_id":"e299"'),
        ("events.json", ARRAY, b'"e000"', b'"e001"'),
        ("cut.json", ARRAY, b"309}]", b"309} "),
        ("events.jsonl.gz", gzip.compress(LINES, mtime=0), b"\x1f\x8b\x08\x00\x00", b"\x1f\x8b\x08\x00\x01"),
    ],
)
def test_invariant_16_a_file_of_records_whose_bytes_changed_gives_no_row(
    project: Settings, db: psycopg.Connection, name: str, content: bytes, old: bytes, new: bytes
) -> None:
    path = publish(project, "driver_events", name, content)
    flip(path, old, new)
    load_pending(project)
    status, error_type, message = why(db)
    assert (status, error_type) == ("dead", "ChangedBytesError")
    assert str(path) in message
    assert "medallion bronze verify driver_events" in message
    assert db.execute(COUNT).fetchone() == (0,)
    path.write_bytes(content)
    db.commit()
    assert call("requeue", "--source", "driver_events").exit_code == 0
    load_pending(project)
    assert db.execute("SELECT count(*) FROM silver.driver_events").fetchone() == (300,)


def test_invariant_16_another_item_description_is_not_believed(project: Settings, db: psycopg.Connection) -> None:
    path = publish(project, "driver_events", "events.jsonl", LINES)
    description = path.with_name("_item.json")
    sha256 = json.loads(description.read_bytes())["artifacts"][0]["sha256"]
    flip(description, sha256.encode(), b"0" * 64)
    load_pending(project)
    assert why(db)[:2] == ("dead", "ChangedBytesError")


def test_invariant_16_a_whole_file_whose_bytes_changed_gives_no_row(project: Settings, db: psycopg.Connection, tmp_path: Path) -> None:
    make_image(tmp_path / "photo.png")
    path = publish(project, "media", "photo.png", (tmp_path / "photo.png").read_bytes())
    flip(path, b"IEND", b"IENE")
    load_pending(project)
    status, error_type, _ = why(db)
    assert (status, error_type) == ("dead", "ChangedBytesError")
    assert db.execute("SELECT count(*) FROM silver.media").fetchone() == (0,)


def test_invariant_16_a_task_does_not_open_a_subject_whose_bytes_changed(project: Settings, db: psycopg.Connection, tmp_path: Path) -> None:
    make_image(tmp_path / "photo.png")
    path = publish(project, "media", "photo.png", (tmp_path / "photo.png").read_bytes())
    load_pending(project)
    flip(path, b"IEND", b"IENE")
    task = load_tasks()["image.thumbnail_phash"]
    for batch_id in runner.plan(project, task).batch_ids:
        runner.process(project, task, batch_id, "test")
    runner.consolidate(project, task)
    found = db.execute("SELECT status, error_type, error_message FROM silver.tasks_todo").fetchall()
    assert [row[:2] for row in found] == [("dead", "ChangedBytesError")]
    assert str(path) in found[0][2]


def test_invariant_16_a_trace_says_that_the_bytes_are_not_those_that_were_published(project: Settings) -> None:
    path = publish(project, "driver_events", "events.jsonl", LINES)
    load_pending(project)
    assert json.loads(call("trace", "silver.driver_events", "e000", "--json").output)["records"][0]["item"]["damage"] == []
    flip(path, b'"e000"', b'"e001"')
    [sentence] = json.loads(call("trace", "silver.driver_events", "e000", "--json").output)["records"][0]["item"]["damage"]
    assert str(path) in sentence
    assert "not as published" in call("trace", "silver.driver_events", "e000").output
