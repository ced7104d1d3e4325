"""Publishing: whole items or none, revisions instead of changes, two publishers at once, and what failures mean."""

import errno
import fcntl
import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from medallion_defs.core.errors import ConfigurationError, TerminalError, TransientError
from medallion_defs.storage.item import BronzeItem, decode_item
from medallion_defs.storage.local import disk, publisher
from medallion_defs.storage.local.publisher import LocalStore
from medallion_defs.storage.publishing import BronzeStore, DamagedItemError, NewArtifact, NewItem
from tests.unit.storage.conftest import NOW, Publish, make_removable, new_item


def index_items(bronze: Path) -> list[BronzeItem]:
    return [decode_item(line) for line in (bronze / "events" / "_index.jsonl").read_bytes().splitlines()]


def test_an_item_lies_where_the_design_says_with_its_facts_beside_it(store: LocalStore, bronze: Path) -> None:
    new = NewItem(
        "a.csv", "a.csv", "landing/events/a.csv", NOW, [NewArtifact("events.csv", b"1"), NewArtifact("notes.json", b"{}")], "run-1"
    )
    with store.group("events") as group:
        group.stage(new)
        [publication] = group.publish()
    folder = bronze / "events" / "a.csv"
    assert sorted(path.name for path in folder.iterdir()) == ["_item.json", "events.csv", "notes.json"]
    assert (folder / "_item.json").read_bytes() == (bronze / "events" / "_index.jsonl").read_bytes()
    item = decode_item((folder / "_item.json").read_bytes())
    assert item == publication.item
    assert [artifact.sha256 for artifact in item.artifacts] == [sha256(b"1").hexdigest(), sha256(b"{}").hexdigest()]
    assert (item.revision, item.run_id, item.bytes) == (1, "run-1", 3)


def test_published_files_and_folders_cannot_be_written(publish: Publish, bronze: Path) -> None:
    publish(("a", b"1"))
    folder = bronze / "events" / "a"
    assert folder.stat().st_mode & 0o777 == 0o555
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}


def test_large_contents_come_in_chunks(store: LocalStore, bronze: Path) -> None:
    chunks: Iterator[bytes] = iter([b"x" * 100_000] * 30)
    with store.group("events") as group:
        group.stage(NewItem("big", "big", "test", NOW, [NewArtifact("events.bin", chunks)]))
        [publication] = group.publish()
    assert publication.item.artifacts[0].sha256 == sha256(b"x" * 3_000_000).hexdigest()
    assert (bronze / "events" / "big" / "events.bin").stat().st_size == 3_000_000


def test_the_same_bytes_again_change_nothing_and_say_so(publish: Publish, bronze: Path) -> None:
    [first] = publish(("a", b"1"))
    [again] = publish(("a", b"1"))
    assert (first.is_new, again.is_new) == (True, False)
    assert again.item == first.item
    assert len(index_items(bronze)) == 1


def test_invariant_4_a_then_b_then_a_gives_three_revisions_and_the_current_one_is_a(
    store: LocalStore, publish: Publish, bronze: Path
) -> None:
    for content in (b"A", b"B", b"A"):
        publish(("x", content))
    assert [item.directory for item in index_items(bronze)] == ["x", "x@2", "x@3"]
    assert [(bronze / "events" / name / "events.csv").read_bytes() for name in ("x", "x@2", "x@3")] == [b"A", b"B", b"A"]
    current = store.current("events", "x")
    assert current is not None
    assert current.revision == 3


def test_revisions_within_one_group_follow_each_other(publish: Publish, bronze: Path) -> None:
    publications = publish(("x", b"A"), ("x", b"B"), ("x", b"B"), ("x", b"A"))
    assert [(p.item.revision, p.is_new) for p in publications] == [(1, True), (2, True), (2, False), (3, True)]
    assert len(index_items(bronze)) == 3


def test_a_revision_is_younger_than_the_one_before_even_when_the_clock_went_back(store: LocalStore) -> None:
    with store.group("events") as group:
        group.stage(new_item("x", b"A", NOW))
        group.stage(new_item("x", b"B", NOW - timedelta(days=1)))
        first, second = group.publish()
    assert second.item.fetched_at > first.item.fetched_at


def test_invariant_2_published_bytes_keep_their_hash_whatever_is_published_after(store: LocalStore, publish: Publish, bronze: Path) -> None:
    seen: dict[Path, bytes] = {}
    for step in range(12):
        publish(*((f"item{n}", f"{step // (n + 1)}".encode()) for n in range(4)))
        for path, content in seen.items():
            assert path.read_bytes() == content
        seen |= {path: path.read_bytes() for path in bronze.glob("events/*/*")}
    for item in index_items(bronze):
        for artifact in item.artifacts:
            assert sha256((bronze / item.path / artifact.name).read_bytes()).hexdigest() == artifact.sha256
    assert list(store.verify("events")) == []


def test_the_current_item_is_none_before_anything_was_published(store: LocalStore) -> None:
    assert store.current("events", "x") is None
    assert store.source_types() == []


def test_source_types_are_the_folders_and_nothing_else(store: LocalStore, publish: Publish) -> None:
    publish(("a", b"1"))
    assert store.source_types() == ["events"]


def test_an_unpublished_group_leaves_no_trace(store: LocalStore, bronze: Path) -> None:
    with store.group("events") as group:
        group.stage(new_item("a", b"1"))
    assert store.current("events", "a") is None
    assert list((bronze / ".staging" / "events").iterdir()) == []


def test_an_item_whose_content_fails_is_not_part_of_its_group(store: LocalStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("the source broke off")

    with store.group("events") as group:
        group.stage(new_item("a", b"1"))
        with pytest.raises(ValueError, match="broke off"):
            group.stage(NewItem("b", "b", "test", NOW, [NewArtifact("events.csv", broken())]))
        group.stage(new_item("c", b"3"))
        assert [p.item.external_id for p in group.publish()] == ["a", "c"]
    assert store.current("events", "b") is None
    assert list(store.verify("events")) == []


@pytest.mark.parametrize("name", ["_item.json", "../x", "a/b", "", ".hidden", "Upper.csv"])
def test_artifact_names_that_could_hurt_are_refused(store: LocalStore, name: str) -> None:
    with store.group("events") as group, pytest.raises(TerminalError, match="artifacts"):
        group.stage(NewItem("a", "a", "test", NOW, [NewArtifact(name, b"1")]))


@pytest.mark.parametrize("names", [[], ["events.csv", "events.csv"]])
def test_an_item_needs_files_of_different_names(store: LocalStore, names: list[str]) -> None:
    with store.group("events") as group, pytest.raises(TerminalError, match="It needs at least one, each with its own name"):
        group.stage(NewItem("a", "a", "test", NOW, [NewArtifact(name, b"1") for name in names]))


@pytest.mark.parametrize("source_type", ["", "..", ".staging", "a/b", "Events"])
def test_source_types_that_are_no_plain_names_are_refused(store: LocalStore, source_type: str) -> None:
    with pytest.raises(TerminalError, match="plain name"), store.group(source_type):
        pass


def test_a_time_without_a_zone_is_refused(store: LocalStore) -> None:
    with store.group("events") as group, pytest.raises(TerminalError, match="time zone"):
        group.stage(new_item("a", b"1", NOW.replace(tzinfo=None)))


def test_a_damaged_current_revision_is_an_error_and_not_an_absent_item(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("a", b"1"))
    (bronze / "events" / "a").chmod(0o755)
    (bronze / "events" / "a" / "_item.json").unlink()
    with pytest.raises(DamagedItemError, match="verify"):
        store.current("events", "a")


def test_what_a_group_means_to_append_is_part_of_what_its_sync_makes_durable(
    publish: Publish, bronze: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[tuple[bool, bool]] = []
    real = disk.sync_file_system

    def look_and_sync(fd: int) -> None:
        there.append(("lines.jsonl" in os.listdir(fd), (bronze / "events" / "a").exists()))
        real(fd)

    monkeypatch.setattr(publisher, "sync_file_system", look_and_sync)
    publish(("a", b"1"))
    assert there == [(True, False)], "the intent is written before the sync, and the sync comes before the first rename"


def test_an_intent_whose_line_is_not_that_of_the_item_in_place_is_not_appended(publish: Publish, bronze: Path) -> None:
    [published] = publish(("a", b"1"))
    line = (bronze / "events" / "_index.jsonl").read_bytes()
    left = bronze / ".staging" / "events" / "0123456789abcdef"
    left.mkdir()
    (left / "lines.jsonl").write_bytes(line.replace(published.item.content_sha256.encode(), b"0" * 64))
    publish(("b", b"2"))
    assert index_items(bronze)[0].content_sha256 == published.item.content_sha256
    assert [item.external_id for item in index_items(bronze)] == ["a", "b"]


def test_a_torn_last_index_line_is_cut_before_the_next_append(publish: Publish, bronze: Path, store: LocalStore) -> None:
    publish(("a", b"1"))
    with (bronze / "events" / "_index.jsonl").open("ab") as index:
        index.write(b'{"source_type":"ev')
    publish(("b", b"2"))
    assert [item.external_id for item in index_items(bronze)] == ["a", "b"]


def test_a_torn_tail_longer_than_a_block_is_cut_too(publish: Publish, bronze: Path) -> None:
    publish(("a", b"1"))
    with (bronze / "events" / "_index.jsonl").open("ab") as index:
        index.write(b"x" * 200_000)
    publish(("b", b"2"))
    assert [item.external_id for item in index_items(bronze)] == ["a", "b"]


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "Free disk space"), (errno.EROFS, "The file system is read-only"), (errno.EIO, "The disk failed")]
)
def test_a_full_or_failing_disk_is_one_transient_error_that_names_the_folder_and_the_remedy(
    store: LocalStore, bronze: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def fail(fd: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    with store.group("events") as group:
        monkeypatch.setattr(os, "write", fail)
        with pytest.raises(TransientError, match=re.escape(f"{bronze / 'events'}: {os.strerror(number)}. {remedy}")):
            group.stage(new_item("a", b"1"))
        monkeypatch.undo()
    assert store.current("events", "a") is None


def test_a_folder_without_rights_is_a_matter_of_configuration() -> None:
    error = disk.explain_os_error(PermissionError(errno.EACCES, "Permission denied"), "/bronze")
    assert isinstance(error, ConfigurationError)
    assert "/bronze" in str(error)


def test_a_short_write_is_completed(publish: Publish, bronze: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:7]))
    publish(("a", b"0123456789" * 10))
    monkeypatch.undo()
    assert (bronze / "events" / "a" / "events.csv").read_bytes() == b"0123456789" * 10
    assert len(index_items(bronze)) == 1


def publish_one(store: LocalStore) -> None:
    with store.group("events") as group:
        group.stage(new_item("a", b"1"))
        group.publish()


def test_a_failed_sync_publishes_nothing_and_the_next_group_writes_again(
    publish: Publish, bronze: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    store = LocalStore(bronze, group_sync=True)
    monkeypatch.setattr(publisher, "sync_file_system", fail)
    with pytest.raises(TransientError, match="kernel log"):
        publish_one(store)
    assert store.current("events", "a") is None
    [failed] = (bronze / ".staging" / "events").iterdir()
    monkeypatch.undo()
    [publication] = publish(("a", b"1"))
    assert publication.is_new
    assert not failed.exists()
    assert list(store.verify("events")) == []


def test_without_a_group_sync_every_file_and_folder_is_synced(bronze: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def record(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("names of open files are read from /proc")
    store = LocalStore(bronze, group_sync=False)
    with store.group("events") as group:
        monkeypatch.setattr(os, "fsync", record)
        group.stage(new_item("a", b"1"))
        group.publish()
    assert synced[:3] == ["events.csv", "_item.json", "0"]
    assert synced[-2:] == ["events", "_index.jsonl"]


@pytest.mark.skipif(sys.platform != "linux", reason="syncfs(2) is Linux's")
@pytest.mark.parametrize(
    ("release", "platform", "is_used"),
    [
        ("5.7.19", "linux", False),
        ("5.8.0-rc1", "linux", True),
        ("6.1.0", "linux", True),
        ("unknown", "linux", False),
        ("25.1", "darwin", False),
    ],
)
def test_a_sync_of_the_whole_file_system_is_used_only_where_it_reports_failed_writes(
    monkeypatch: pytest.MonkeyPatch, release: str, platform: str, is_used: bool
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    monkeypatch.setattr(sys, "platform", platform)
    assert (disk.find_syncfs.__wrapped__() is not None) is is_used


def _publish_many(root: Path, worker: int) -> None:
    store = LocalStore(root)
    for step in range(15):
        with store.group("events") as group:
            group.stage(new_item(f"own{worker}-{step}", b"1"))
            group.stage(new_item("shared", f"{worker}-{step}".encode()))
            group.publish()


def test_two_publishers_at_once_lose_nothing_and_overwrite_nothing(bronze: Path, store: LocalStore) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_publish_many, args=(bronze, worker)) for worker in range(3)]
    for process in workers:
        process.start()
    for process in workers:
        process.join(timeout=120)
    assert [process.exitcode for process in workers] == [0, 0, 0]
    items = index_items(bronze)
    assert len(items) == 90
    shared = [item for item in items if item.external_id == "shared"]
    assert [item.revision for item in shared] == list(range(1, 46))
    contents = {(bronze / item.path / "events.csv").read_bytes() for item in shared}
    assert contents == {f"{worker}-{step}".encode() for worker in range(3) for step in range(15)}
    assert list(store.verify("events")) == []


def test_a_publisher_waits_for_the_lock_of_its_source_type_only(store: LocalStore, bronze: Path) -> None:
    with store.group("events") as group:
        group.stage(new_item("a", b"1"))
        with store.group("companies") as other:
            other.stage(new_item("a", b"1"))
            other.publish()
        with (bronze / ".staging" / "events.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        group.publish()


def _publish_as_nobody(root: Path) -> None:
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    store: BronzeStore = LocalStore(root)
    for content in (b"1", b"2"):
        with store.group("events") as group:
            group.stage(new_item("a", content))
            group.publish()
    assert list(store.verify("events")) == []


def test_an_ordinary_user_can_publish() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o777)
        process = multiprocessing.get_context("fork").Process(target=_publish_as_nobody, args=(root / "bronze",))
        process.start()
        process.join(timeout=60)
        make_removable(root)
        assert process.exitcode == 0
        assert (root / "bronze" / "events" / "a@2" / "events.csv").read_bytes() == b"2"
