"""What lies in staging and was not put there by a publisher neither stops the source nor is lost, and verify tells of it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from medallion_defs.core.errors import TransientError
from medallion_defs.storage.local import recovery
from medallion_defs.storage.local.publisher import LocalStore
from tests.unit.storage.conftest import Publish

PLACE = "0123456789abcdef"


def _file(staging: Path) -> Path:
    path = staging / "notes.txt"
    path.write_text("left by an editor", encoding="utf-8")
    return path


def _link(staging: Path) -> Path:
    path = staging / PLACE
    path.symlink_to("/etc")
    return path


def _dangling_link(staging: Path) -> Path:
    path = staging / "link"
    path.symlink_to("nowhere")
    return path


def _folder(staging: Path) -> Path:
    path = staging / "old stuff"
    path.mkdir()
    (path / "lines.jsonl").write_bytes(b"garbage\n")
    return path


def _fifo(staging: Path) -> Path:
    path = staging / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("plant", [_file, _link, _dangling_link, _folder, _fifo])
def test_a_stray_in_staging_is_left_alone_and_told(
    store: LocalStore, publish: Publish, bronze: Path, plant: Callable[[Path], Path], caplog: pytest.LogCaptureFixture
) -> None:
    publish(("a", b"1"))
    stray = plant(bronze / ".staging" / "events")
    [publication] = publish(("b", b"2"))
    assert publication.is_new
    assert stray.is_symlink() or stray.exists()
    assert f"{stray.name} was not put there by Medallion" in caplog.text
    assert [problem.path for problem in store.verify("events")] == [f".staging/events/{stray.name}"]


def _broken_line(place: Path, line: bytes) -> None:
    (place / "lines.jsonl").write_bytes(b'{"garbage": \xff}\n' + line)


def _line_of_nothing(place: Path, line: bytes) -> None:
    (place / "lines.jsonl").write_bytes(b"[" * 100_000 + b"\n" + line)


@pytest.mark.parametrize("write", [_broken_line, _line_of_nothing])
def test_a_broken_line_of_an_intent_costs_no_other_item_and_its_folder_is_kept(
    store: LocalStore, publish: Publish, bronze: Path, write: Callable[[Path, bytes], None]
) -> None:
    publish(("a", b"1"))
    index = bronze / "events" / "_index.jsonl"
    line = index.read_bytes()
    index.write_bytes(b"")  # as if the publisher had died before it appended its lines
    place = bronze / ".staging" / "events" / PLACE
    place.mkdir()
    write(place, line)
    publish(("b", b"2"))
    assert line in index.read_bytes()
    [problem] = store.verify("events")
    assert problem.path == f".staging/events/{PLACE}.damaged"
    assert "what a dead publisher left" in problem.message
    assert "medallion bronze reindex events" in problem.remedy
    assert (bronze / problem.path / "lines.jsonl").exists()


@pytest.mark.parametrize("plant", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/hostname")])
def test_an_intent_that_is_not_a_regular_file_stops_nothing(
    store: LocalStore, publish: Publish, bronze: Path, plant: Callable[[Path], None]
) -> None:
    publish(("a", b"1"))
    place = bronze / ".staging" / "events" / PLACE
    place.mkdir()
    plant(place / "lines.jsonl")
    assert publish(("b", b"2"))[0].is_new
    assert [problem.path for problem in store.verify("events")] == [f".staging/events/{PLACE}.damaged"]


def test_an_intent_that_the_disk_does_not_give_stops_the_publisher_and_is_finished_by_the_next_one(
    store: LocalStore, publish: Publish, bronze: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(("a", b"1"))
    index = bronze / "events" / "_index.jsonl"
    line = index.read_bytes()
    index.write_bytes(b"")  # as if the publisher had died before it appended its lines
    place = bronze / ".staging" / "events" / PLACE
    place.mkdir()
    (place / "lines.jsonl").write_bytes(line)

    def fail(path: str, folder_fd: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "read_file", fail)
        with pytest.raises(TransientError, match=rf"\.staging/events/{PLACE}/lines\.jsonl: Input/output error.*The disk failed"):
            publish(("b", b"2"))
    assert (place / "lines.jsonl").read_bytes() == line
    publish(("b", b"2"))
    assert index.read_bytes().startswith(line)
    assert list(store.verify("events")) == []
