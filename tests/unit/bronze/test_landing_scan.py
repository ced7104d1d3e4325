"""What lies in landing: complete, still being written, or refused with a reason."""

import os
import socket
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from medallion_defs.bronze.landing.scan import landing_fingerprint, scan_landing
from medallion_defs.core.sections import LandingSettings
from tests.unit.storage.conftest import NOW

SETTLE = LandingSettings(settle_seconds=2)
MARKER = LandingSettings(done_marker=True)


def drop(landing: Path, name: str, content: bytes = b"1", age: float = 10) -> Path:
    path = landing / "events" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    set_age(path, age)
    return path


def set_age(path: Path, age: float) -> None:
    moment = (NOW - timedelta(seconds=age)).timestamp()
    os.utime(path, (moment, moment))


def ready(landing: Path, settings: LandingSettings, now: datetime = NOW) -> list[str]:
    return [file.external_id for file in scan_landing(landing, "events", settings, now).ready]


def refused(landing: Path, settings: LandingSettings = SETTLE) -> dict[str, str]:
    return {left.name: left.reason for left in scan_landing(landing, "events", settings, NOW).refused}


def test_a_folder_that_is_not_there_holds_no_files(tmp_path: Path) -> None:
    assert ready(tmp_path, SETTLE) == []
    assert landing_fingerprint(tmp_path, "events", SETTLE, NOW) is None


def test_a_file_is_ready_when_it_has_rested(landing: Path) -> None:
    drop(landing, "old.csv", age=3)
    drop(landing, "young.csv", age=1)
    assert ready(landing, SETTLE) == ["old.csv"]
    assert ready(landing, SETTLE, NOW + timedelta(seconds=2)) == ["old.csv", "young.csv"]


def test_a_file_with_a_past_mtime_is_ready(landing: Path) -> None:
    drop(landing, "rsynced.csv", age=10 * 365 * 86_400)
    assert ready(landing, SETTLE) == ["rsynced.csv"]


def test_a_file_with_an_mtime_of_the_future_is_ready_once_the_file_itself_rests(landing: Path) -> None:
    drop(landing, "skewed.csv", age=-86_400)
    assert ready(landing, SETTLE) == ["skewed.csv"]


def test_files_come_oldest_first(landing: Path) -> None:
    drop(landing, "a.csv", age=10)
    drop(landing, "b.csv", age=30)
    drop(landing, "c.csv", age=20)
    assert ready(landing, SETTLE) == ["b.csv", "c.csv", "a.csv"]


def test_subfolders_become_part_of_the_id(landing: Path) -> None:
    drop(landing, "2024/05/a.csv")
    assert ready(landing, SETTLE) == ["2024/05/a.csv"]


@pytest.mark.parametrize("name", [".hidden.csv", ".rsync/a.csv", "a.csv.part", "a.csv.tmp", "sub.tmp/a.csv"])
def test_files_in_progress_are_not_looked_at(landing: Path, name: str) -> None:
    drop(landing, name)
    assert ready(landing, SETTLE) == []
    assert refused(landing) == {}


def test_with_markers_a_file_waits_for_its_own(landing: Path) -> None:
    drop(landing, "a.csv", age=100)
    drop(landing, "b.csv", age=100)
    drop(landing, "b.csv.done", age=99)
    assert ready(landing, MARKER) == ["b.csv"]


def test_a_marker_older_than_its_file_vouches_for_nothing(landing: Path) -> None:
    drop(landing, "a.csv", age=10)
    drop(landing, "a.csv.done", age=20)
    assert ready(landing, MARKER) == []
    assert "write the marker again" in refused(landing, MARKER)["a.csv"]


def test_symlinks_fifos_and_sockets_are_refused_with_a_reason(landing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = landing / "events"
    (folder / "link.csv").symlink_to("/etc/hostname")
    (folder / "linked_folder").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo.csv")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.csv")
    reasons = refused(landing)
    assert "symbolic link" in reasons["link.csv"]
    assert "symbolic link" in reasons["linked_folder"]
    assert "not a regular file" in reasons["fifo.csv"]
    assert "not a regular file" in reasons["socket.csv"]
    assert ready(landing, SETTLE) == []


def test_names_that_break_lines_or_are_not_utf8_are_refused_and_printable(landing: Path) -> None:
    drop(landing, "two\nlines.csv")
    drop(landing, "folder\r/a.csv")
    Path(os.fsdecode(os.fsencode(landing / "events") + b"/latin-\xe9.csv")).write_bytes(b"1")
    reasons = refused(landing)
    assert "line break" in reasons["two\nlines.csv"]
    assert "line break" in reasons["folder\r"]
    assert "not UTF-8" in reasons["latin-\\xe9.csv"]


def test_folders_nested_without_end_do_not_stop_the_others(landing: Path) -> None:
    drop(landing, "a.csv")
    fd = os.open(landing / "events", os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    assert ready(landing, SETTLE) == ["a.csv"]
    assert any("cannot be read" in reason for reason in refused(landing).values())
    for _ in range(2500):
        parent = os.open("..", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        os.rmdir("d", dir_fd=parent)
        fd = parent
    os.close(fd)


def test_the_fingerprint_changes_with_what_a_fetch_would_do(landing: Path) -> None:
    def fingerprint() -> str | None:
        return landing_fingerprint(landing, "events", SETTLE, NOW)

    assert fingerprint() is None
    drop(landing, "young.csv", age=1)
    assert fingerprint() is None
    path = drop(landing, "a.csv")
    first = fingerprint()
    assert first is not None
    assert fingerprint() == first
    set_age(path, 20)
    second = fingerprint()
    assert second not in (None, first)
    (landing / "events" / "link").symlink_to("a.csv")
    assert fingerprint() not in (None, first, second)


def test_the_same_file_dropped_again_has_another_fingerprint(landing: Path) -> None:
    path = drop(landing, "a.csv")
    first = landing_fingerprint(landing, "events", SETTLE, NOW)
    path.rename(landing / "kept.csv")
    drop(landing, "a.csv")
    assert landing_fingerprint(landing, "events", SETTLE, NOW) != first
