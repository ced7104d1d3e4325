"""A publisher is killed, or its disk fails or fills, at every single os call; then a clean one runs.

Portable: the calls of a forked child are counted in process, and the N-th is answered with SIGKILL, EIO, ENOSPC or a
short write followed by ENOSPC, for N = 1, 2, … until the child gets through. A publisher that breaks the
protocol on purpose shows that the harness sees such bugs.
"""

import errno
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

from medallion_defs.bronze.fetching.fetch_time import FetchTime
from medallion_defs.bronze.landing.fetch import fetch_landing
from medallion_defs.core.content import Source
from medallion_defs.core.errors import MedallionError, TransientError
from medallion_defs.core.sections import LandingSettings
from medallion_defs.storage.item import BronzeItem, decode_item
from medallion_defs.storage.local import disk, index, publisher
from medallion_defs.storage.local.publisher import LocalGroup, LocalStore
from medallion_defs.storage.publishing import NewArtifact, NewItem
from tests.folders import fresh_folder
from tests.unit.storage.conftest import tell_nobody

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SOURCE = Source(name="events", title="", description="", domain="fleet", artifact_type="events", owners=())
CALLS = (
    "open", "close", "read", "write", "mkdir", "rename", "replace", "link", "unlink", "rmdir", "chmod", "stat", "fstat", "lstat", "scandir",
    "fsync", "ftruncate", "lseek", "pread",
)  # fmt: skip
FAULTS = ("kill", "eio", "enospc", "short")
SETTINGS = LandingSettings(settle_seconds=0)
UNTOUCHED, STRUCK, BROKEN = 0, 3, 4

Child = Callable[[Path, Callable[[str], None]], None]


@pytest.fixture
def folder() -> Iterator[Path]:
    with fresh_folder() as folder:
        yield folder


def install_fault(fault: str, at: int) -> Callable[[], bool]:
    """Make the `at`-th os call of this process fail, for a fork that ends soon after; return how to ask whether it came to that."""
    calls, is_full, real_write, real_close = 0, False, os.write, os.close

    def wrap(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls, is_full
            calls += 1
            is_write = real is real_write
            if is_full and is_write:
                raise OSError(errno.ENOSPC, "injected")
            # Closing what was only read or is already synced does not fail; a process can die there.
            if calls != at or (fault == "short" and not is_write) or (fault != "kill" and real is real_close):
                return real(*args, **kwargs)
            if fault == "short":
                is_full = True
                return real(args[0], bytes(args[1])[: len(bytes(args[1])) // 2])
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.EIO if fault == "eio" else errno.ENOSPC, "injected")

        return call

    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name)))
    # shutil.rmtree knows by the identity of the os functions whether they take open folders.
    shutil.rmtree.__globals__["_use_fd_functions"] = True
    publisher.sync_file_system = wrap(disk.sync_file_system)  # type: ignore[assignment] # the same signature
    return lambda: calls >= at


def run_child(child: Child, root: Path, fault: str, at: int) -> tuple[bool, set[str]]:
    """Run `child` in a fork with the fault; return whether the fault struck, and what was acknowledged before (by a pipe)."""
    reader, writer = os.pipe()
    real_write, pid = os.write, os.fork()
    if pid == 0:
        status = BROKEN
        try:
            struck = install_fault(fault, at)
            with suppress(MedallionError):
                child(root, lambda name: real_write(writer, f"{name}\n".encode()) and None)
            status = STRUCK if struck() else UNTOUCHED
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        acknowledged = set(pipe.read().split())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (UNTOUCHED, STRUCK, -signal.SIGKILL), f"call {at}: an error that no caller can understand"
    return status != UNTOUCHED, acknowledged


def sweep(folder: Path, child: Child, fault: str, prepare: Callable[[Path], None], check: Callable[[Path, set[str]], None]) -> int:
    """Run `child` with the fault at every call, each time in a fresh tree, then `check`; return the number of calls."""
    for at in count(1):
        root = folder / str(at)
        root.mkdir()
        prepare(root)
        struck, acknowledged = run_child(child, root, fault, at)
        check(root, acknowledged)
        if not struck:
            return at - 1
    raise AssertionError("unreachable")


def read_index(root: Path) -> list[BronzeItem]:
    path = root / "bronze" / "events" / "_index.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [decode_item(line) for line in lines if line.endswith(b"\n")]


def assert_whole(root: Path) -> None:
    """What readers see at any moment: complete items, and an index that names no other."""
    for item in read_index(root):
        assert (root / "bronze" / item.path / "_item.json").exists(), f"index names {item.path}, which is not there"
    for directory in (root / "bronze" / "events").glob("*/"):
        item = decode_item((directory / "_item.json").read_bytes())
        for artifact in item.artifacts:
            assert sha256((directory / artifact.name).read_bytes()).hexdigest() == artifact.sha256


# The publisher: two groups, in the second a new revision and a no-op.


def item(external_id: str, content: bytes, seconds: int) -> NewItem:
    artifacts = [NewArtifact("events.csv", content), NewArtifact("notes.txt", [content, content])]
    return NewItem(external_id, external_id, "test", NOW + timedelta(seconds=seconds), artifacts)


GROUPS = ((item("a", b"A1", 1), item("b", b"B1", 2)), (item("a", b"A2", 3), item("b", b"B1", 4), item("c", b"C1", 5)))
EXPECTED = {"a": (1, b"A1"), "a@2": (2, b"A2"), "b": (1, b"B1"), "c": (1, b"C1")}


def publish_groups(root: Path, acknowledge: Callable[[str], None], *, group_sync: bool = True, start: int = 0) -> None:
    store = LocalStore(root / "bronze", group_sync=group_sync)
    for news in GROUPS[start:]:
        with store.group("events") as group:
            for new in news:
                group.stage(new)
            publications = group.publish()
            for publication in publications:
                acknowledge(publication.item.directory)


def publish_with_single_syncs(root: Path, acknowledge: Callable[[str], None]) -> None:
    publish_groups(root, acknowledge, group_sync=False)


def check_publisher(root: Path, acknowledged: set[str]) -> None:
    assert_whole(root)
    assert acknowledged <= {item.directory for item in read_index(root)}
    # A caller starts again with the group that it had no answer for.
    publish_groups(root, lambda name: None, start=1 if {"a", "b"} <= acknowledged else 0)
    items = read_index(root)
    assert sorted(item.directory for item in items) == sorted(EXPECTED), "lost or twice"
    for item in items:
        assert (item.revision, (root / "bronze" / item.path / "events.csv").read_bytes()) == EXPECTED[item.directory]
    store = LocalStore(root / "bronze")
    assert list(store.verify("events")) == []
    assert list((root / "bronze" / ".staging" / "events").iterdir()) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_publisher_struck_at_any_call_loses_nothing_and_doubles_nothing(folder: Path, fault: str) -> None:
    assert sweep(folder, publish_groups, fault, lambda root: None, check_publisher) > 100


def test_invariant_2_a_publisher_with_single_syncs_killed_at_any_call_keeps_every_published_hash(folder: Path) -> None:
    assert sweep(folder, publish_with_single_syncs, "kill", lambda root: None, check_publisher) > 100


class HastyGroup(LocalGroup):
    """The planted bug: the index line before the rename."""

    def _rename_all(self) -> None:
        index_fd = index.open_index(self._folder.fd)
        index.append_lines(index_fd, [line for _, _, line in self._staged])
        os.close(index_fd)
        super()._rename_all()


def publish_hastily(root: Path, acknowledge: Callable[[str], None]) -> None:
    publisher.LocalGroup = HastyGroup  # type: ignore[misc] # in a fork that ends soon after
    publish_groups(root, acknowledge)


def test_the_harness_sees_a_publisher_that_writes_the_index_line_before_the_rename(folder: Path) -> None:
    with pytest.raises(AssertionError, match="which is not there"):
        sweep(folder, publish_hastily, "kill", lambda root: None, check_publisher)


# The whole way of a dropped file, and repair commands, under the same faults.


def drop_files(root: Path) -> None:
    (root / "landing" / "events" / "sub").mkdir(parents=True)
    for name in ("a.csv", "b.csv", "sub/c.csv"):
        (root / "landing" / "events" / name).write_bytes(name.encode())


def fetch(root: Path, acknowledge: Callable[[str], None], settings: LandingSettings = SETTINGS) -> None:
    fetch_landing(LocalStore(root / "bronze"), SOURCE, settings, root / "landing", tell_nobody, time=FetchTime.of(NOW))


def fetch_and_leave(root: Path, acknowledge: Callable[[str], None]) -> None:
    fetch(root, acknowledge, SETTINGS.model_copy(update={"after": "leave"}))


def files_of(root: Path, folder: str) -> list[bytes]:
    return sorted(path.read_bytes() for path in (root / "landing" / folder).rglob("*") if path.is_file())


def check_fetch(root: Path, acknowledged: set[str]) -> None:
    assert_whole(root)
    assert sorted(files_of(root, "events") + files_of(root, ".taken/events")) == [b"a.csv", b"b.csv", b"sub/c.csv"]
    fetch(root, lambda name: None)
    assert sorted(item.external_id for item in read_index(root)) == ["a.csv", "b.csv", "sub/c.csv"], "lost or twice"
    assert files_of(root, "events") == []
    assert list(LocalStore(root / "bronze").verify("events")) == []


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("child", [fetch, fetch_and_leave])
def test_a_fetch_struck_at_any_call_takes_every_file_exactly_once(folder: Path, fault: str, child: Child) -> None:
    assert sweep(folder, child, fault, drop_files, check_fetch) > 60


def reindex(root: Path, acknowledge: Callable[[str], None]) -> None:
    LocalStore(root / "bronze").reindex("events")


def publish_all(root: Path) -> None:
    publish_groups(root, lambda name: None)


def check_index_is_whole(root: Path, acknowledged: set[str]) -> None:
    assert sorted(item.directory for item in read_index(root)) == sorted(EXPECTED)
    assert list(LocalStore(root / "bronze").verify("events")) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_reindex_struck_at_any_call_leaves_the_old_index_or_the_new_one(folder: Path, fault: str) -> None:
    assert sweep(folder, reindex, fault, publish_all, check_index_is_whole) > 15


def die_before_the_index_line(root: Path, acknowledge: Callable[[str], None]) -> None:
    index.append_lines = lambda fd, lines: os.kill(os.getpid(), signal.SIGKILL)
    publish_groups(root, acknowledge)


def prepare_crashed_publisher(root: Path) -> None:
    run_child(die_before_the_index_line, root, "none", -1)
    assert (root / "bronze" / "events" / "a").is_dir()
    assert read_index(root) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_repair_struck_at_any_call_is_repaired_by_the_next_one(folder: Path, fault: str) -> None:
    assert sweep(folder, publish_groups, fault, prepare_crashed_publisher, check_publisher) > 100


def stage_many(group: LocalGroup) -> None:
    for n in range(100):
        group.stage(item(f"x{n}", b"x" * 2000, n))


def test_a_disk_that_is_really_full_gives_one_clear_error_and_publishing_goes_on_when_there_is_space(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = folder / "small"
    mount.mkdir()
    if os.system(f"mount -t tmpfs -o size=256k tmpfs {mount}") != 0:
        pytest.skip("this machine does not let us mount a small file system")
    try:
        ballast = mount / "ballast"
        ballast.write_bytes(b"x" * 180_000)
        store = LocalStore(mount / "bronze")
        with store.group("events") as group, pytest.raises(TransientError, match=r"bronze/events: No space left.*Free disk space"):
            stage_many(group)
        ballast.unlink()
        check_publisher(mount, set())
    finally:
        os.system(f"umount {mount}")


def open_with(root: Path, descriptors: int) -> bool:
    """Publish with so few free descriptors; whether they were enough. What is not must be one clear error."""

    def child(root: Path, acknowledge: Callable[[str], None]) -> None:
        highest = max(int(path.name) for path in Path("/dev/fd").iterdir())
        while (last := os.open(os.devnull, os.O_RDONLY)) < highest:
            pass  # numbers that are free below the highest would not count
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        publish_groups(root, acknowledge)
        acknowledge("all")

    struck, acknowledged = run_child(child, root, "none", -1)
    assert struck  # with a call number below zero that only says that the child ended as it should
    check_publisher(root, acknowledged - {"all"})
    return "all" in acknowledged


def test_a_publisher_out_of_file_descriptors_fails_in_one_sentence_and_loses_nothing(folder: Path) -> None:
    results = []
    for descriptors in range(1, 20):
        root = folder / str(descriptors)
        root.mkdir()
        results.append(open_with(root, descriptors))
    assert results == sorted(results), "more descriptors never hurt"
    assert (results[0], results[-1]) == (False, True)
