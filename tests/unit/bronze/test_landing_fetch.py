"""Files go from landing into bronze as copies, each exactly once, and leave landing only when they are safe."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from medallion_defs.bronze.fetching import copying
from medallion_defs.bronze.fetching.copying import FileState
from medallion_defs.bronze.fetching.fetch_time import FetchTime
from medallion_defs.bronze.fetching.report import FetchReport
from medallion_defs.bronze.fetching.taking import groups_of
from medallion_defs.bronze.landing import fetch as landing_fetch
from medallion_defs.bronze.landing.fetch import fetch_landing
from medallion_defs.bronze.landing.scan import LandingFile
from medallion_defs.core.clock import now
from medallion_defs.core.sections import LandingSettings
from medallion_defs.storage.local.publisher import LocalGroup, LocalStore
from medallion_defs.storage.naming import artifact_name
from tests.unit.storage.conftest import NOW, SOURCE, make_removable, tell_nobody

MOVE = LandingSettings(settle_seconds=0)
LEAVE = LandingSettings(settle_seconds=0, after="leave")


def drop(landing: Path, name: str, content: bytes = b"1") -> Path:
    path = landing / "events" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def fetch(store: LocalStore, landing: Path, settings: LandingSettings = MOVE, step: int = 0) -> FetchReport:
    return fetch_landing(store, SOURCE, settings, landing, tell_nobody, time=FetchTime.of(NOW + timedelta(seconds=step)), run_id="run-1")


def taken(landing: Path) -> list[str]:
    folder = landing / ".taken" / "events"
    return sorted(path.relative_to(folder).as_posix().partition("/")[2] for path in folder.rglob("*") if path.is_file())


def test_a_dropped_file_becomes_an_item_and_moves_away(store: LocalStore, landing: Path, bronze: Path) -> None:
    drop(landing, "2024/Fleet.CSV", b"a,b\n")
    report = fetch(store, landing)
    [item] = report.items
    assert (item.external_id, item.filename, item.origin) == ("2024/Fleet.CSV", "Fleet.CSV", "landing/events/2024/Fleet.CSV")
    assert (item.run_id, item.fetched_at, report.bytes) == ("run-1", NOW, 4)
    assert (bronze / item.path / "events.csv").read_bytes() == b"a,b\n"
    assert taken(landing) == ["2024/Fleet.CSV"]
    assert not (landing / "events" / "2024" / "Fleet.CSV").exists()
    assert fetch(store, landing) == FetchReport(seconds=pytest.approx(0, abs=60))


def test_invariant_15_a_file_that_makes_the_code_raise_is_refused_alone(
    store: LocalStore, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(stem: str, filename: str) -> str:
        if filename == "b.csv":
            raise LookupError("unknown encoding: odd")
        return artifact_name(stem, filename)

    monkeypatch.setattr(landing_fetch, "artifact_name", odd)
    for name in ("a.csv", "b.csv", "c.csv"):
        drop(landing, name)
    report = fetch(store, landing)
    assert [item.external_id for item in report.items] == ["a.csv", "c.csv"]
    [refused] = report.left["refused"]
    assert refused.name == "b.csv"
    assert refused.reason.startswith("LookupError: unknown encoding: odd (bronze/test_landing_fetch.py, line ")


def test_bronze_never_shares_an_inode_with_landing(store: LocalStore, landing: Path, bronze: Path) -> None:
    path = drop(landing, "a.csv", b"published")
    with path.open("r+b") as writer:
        [item] = fetch(store, landing).items
        writer.write(b"OVERWRITE")
    assert (bronze / item.path / "events.csv").read_bytes() == b"published"


def test_of_two_files_of_one_fetch_the_later_one_is_younger(store: LocalStore, landing: Path) -> None:
    os.utime(drop(landing, "a.csv"), (2000, 2000))
    os.utime(drop(landing, "b.csv"), (1000, 1000))
    first, second = fetch(store, landing).items
    assert (first.external_id, second.external_id) == ("b.csv", "a.csv")
    assert first.fetched_at < second.fetched_at


def test_the_same_name_again_is_a_revision_and_no_taken_file_is_overwritten(store: LocalStore, landing: Path) -> None:
    for step, content in enumerate((b"A", b"B", b"A")):
        drop(landing, "x.csv", content)
        [item] = fetch(store, landing, step=step).items
        assert item.revision == step + 1
    assert taken(landing) == ["x.csv"] * 3


def test_the_same_bytes_again_are_reported_as_unchanged_and_taken(store: LocalStore, landing: Path) -> None:
    drop(landing, "x.csv", b"A")
    fetch(store, landing)
    drop(landing, "x.csv", b"A")
    report = fetch(store, landing, step=1)
    assert (report.published, [item.revision for item in report.same]) == (0, [1])
    assert taken(landing) == ["x.csv"] * 2


def test_refused_files_are_reported_and_stay_while_the_others_go(store: LocalStore, landing: Path) -> None:
    drop(landing, "good.csv")
    link = landing / "events" / "link.csv"
    link.symlink_to("good.csv")
    report = fetch(store, landing)
    assert [item.external_id for item in report.items] == ["good.csv"]
    assert [left.name for left in report.left["refused"]] == ["link.csv"]
    assert link.is_symlink()


def test_a_damaged_item_in_bronze_stops_its_own_file_only(store: LocalStore, landing: Path, bronze: Path) -> None:
    drop(landing, "a.csv", b"1")
    fetch(store, landing)
    (bronze / "events" / "a.csv").chmod(0o755)
    (bronze / "events" / "a.csv" / "_item.json").unlink()
    drop(landing, "a.csv", b"2")
    drop(landing, "b.csv", b"2")
    report = fetch(store, landing, step=1)
    assert [item.external_id for item in report.items] == ["b.csv"]
    assert "restore the directory" in report.left["refused"][0].reason


def test_markers_are_taken_with_their_files(store: LocalStore, landing: Path) -> None:
    drop(landing, "a.csv")
    drop(landing, "a.csv.done")
    drop(landing, "b.csv")
    report = fetch(store, landing, LandingSettings(done_marker=True))
    assert [item.external_id for item in report.items] == ["a.csv"]
    assert [path.name for path in (landing / "events").iterdir()] == ["b.csv"]


class MeddlingStore(LocalStore):
    """A store during whose work somebody else touches the landing folder."""

    before_publish: Callable[[], object] = staticmethod(lambda: None)
    after_publish: Callable[[], object] = staticmethod(lambda: None)

    @contextmanager
    def group(self, source_type: str) -> Iterator[LocalGroup]:
        with super().group(source_type) as group:
            self.before_publish()
            yield group
        self.after_publish()


@pytest.fixture
def meddling(bronze: Path) -> MeddlingStore:
    return MeddlingStore(bronze)


def test_a_file_that_changes_after_it_was_seen_is_left_for_the_next_time(meddling: MeddlingStore, landing: Path) -> None:
    path = drop(landing, "a.csv", b"half")
    meddling.before_publish = lambda: path.write_bytes(b"half and half")
    report = fetch(meddling, landing)
    assert (report.items, [left.name for left in report.left["waiting"]]) == ([], ["a.csv"])
    meddling.before_publish = lambda: None
    [item] = fetch(meddling, landing).items
    assert item.bytes == 13


def test_a_file_that_grows_while_it_is_copied_is_left_for_the_next_time(
    store: LocalStore, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop(landing, "a.csv", b"half")
    read = os.read

    def read_and_append(fd: int, size: int) -> bytes:
        with path.open("ab") as writer:
            writer.write(b" and half")
        return read(fd, size)

    monkeypatch.setattr(copying.os, "read", read_and_append)
    report = fetch(store, landing)
    monkeypatch.undo()
    assert (report.items, [left.name for left in report.left["waiting"]]) == ([], ["a.csv"])
    assert path.exists()
    assert store.current("events", "a.csv") is None


def test_a_file_that_vanishes_is_reported_as_waiting(meddling: MeddlingStore, landing: Path) -> None:
    path = drop(landing, "a.csv")
    meddling.before_publish = path.unlink
    [left] = fetch(meddling, landing).left["waiting"]
    assert "vanished" in left.reason


def test_a_symlink_that_takes_the_place_of_a_file_is_not_followed(meddling: MeddlingStore, landing: Path, tmp_path: Path) -> None:
    path = drop(landing, "a.csv")

    def swap() -> None:
        path.unlink()
        path.symlink_to("/etc/hostname")

    meddling.before_publish = swap
    report = fetch(meddling, landing)
    assert (report.items, [left.name for left in report.left["refused"]]) == ([], ["a.csv"])


def test_a_delivery_that_replaces_a_file_after_its_copy_is_not_lost(meddling: MeddlingStore, landing: Path, tmp_path: Path) -> None:
    path = drop(landing, "a.csv", b"first")
    newer = tmp_path / "newer.csv"
    newer.write_bytes(b"second")
    meddling.after_publish = lambda: newer.replace(path)
    report = fetch(meddling, landing)
    assert report.published == report.waiting == 1
    assert path.read_bytes() == b"second"
    meddling.after_publish = lambda: None
    [item] = fetch(meddling, landing, step=1).items
    assert (item.revision, item.bytes) == (2, 6)


def test_left_files_are_recognised_without_reading_them_again(store: LocalStore, landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(landing, "a.csv", b"1")
    assert fetch(store, landing, LEAVE).published == 1
    monkeypatch.setattr(copying.os, "read", lambda fd, size: pytest.fail("read again"))
    report = fetch(store, landing, LEAVE, step=1)
    assert [item.external_id for item in report.same] == ["a.csv"]
    assert (landing / "events" / "a.csv").exists()


def test_a_left_file_that_changes_is_a_revision_even_with_its_old_size_and_time(store: LocalStore, landing: Path) -> None:
    path = drop(landing, "a.csv", b"1")
    status = path.stat()
    fetch(store, landing, LEAVE)
    path.write_bytes(b"2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    while path.stat().st_ctime_ns == status.st_ctime_ns:  # file times move in ticks of some ms
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [item.revision for item in fetch(store, landing, LEAVE, step=1).items] == [2]


def test_a_left_file_too_young_to_be_known_by_its_times_is_read_again(
    store: LocalStore, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop(landing, "a.csv", b"1")
    os.utime(path, (NOW.timestamp() - 0.05,) * 2)
    fetch(store, landing, LEAVE)
    reads: list[int] = []
    read = os.read
    monkeypatch.setattr(copying.os, "read", lambda fd, size: reads.append(fd) or read(fd, size))
    assert fetch(store, landing, LEAVE, step=1).unchanged == 1
    assert reads


def test_left_files_are_published_again_when_bronze_was_emptied(store: LocalStore, landing: Path, bronze: Path) -> None:
    drop(landing, "a.csv", b"1")
    fetch(store, landing, LEAVE)
    bronze.rename(bronze.with_name("old"))
    assert fetch(store, landing, LEAVE, step=1).published == 1
    make_removable(bronze.with_name("old"))


def test_a_damaged_memory_of_left_files_costs_work_and_no_answer(store: LocalStore, landing: Path) -> None:
    drop(landing, "a.csv", b"1")
    fetch(store, landing, LEAVE)
    (landing / ".left" / "events.json").write_bytes(b"{")
    report = fetch(store, landing, LEAVE, step=1)
    assert (report.published, report.unchanged) == (0, 1)


def test_many_files_go_in_several_groups(store: LocalStore, landing: Path, bronze: Path) -> None:
    for n in range(250):
        drop(landing, f"{n}.csv", str(n).encode())
    report = fetch(store, landing)
    assert report.published == 250
    assert len((bronze / "events" / "_index.jsonl").read_bytes().splitlines()) == 250
    assert list(store.verify("events")) == []


def test_groups_are_bounded_in_files_and_bytes() -> None:
    def files(*sizes: int) -> list[LandingFile]:
        return [LandingFile(str(n), FileState(size, 0, 0, n)) for n, size in enumerate(sizes)]

    mebibyte = 1024**2
    assert [len(group) for group in groups_of(files(*[1] * 2005))] == [1000, 1000, 5]
    assert [len(group) for group in groups_of(files(200 * mebibyte, 100 * mebibyte, 900 * mebibyte, 1, 2))] == [1, 1, 1, 2]
    assert list(groups_of([])) == []


def _fetch_as_nobody(root: Path) -> None:
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    report = fetch_landing(
        LocalStore(root / "bronze"), SOURCE, MOVE, root / "landing", tell_nobody, time=FetchTime.of(now() + timedelta(seconds=5))
    )
    assert [item.external_id for item in report.items] == ["good.csv"]
    assert {left.name: left.reason for left in report.left["refused"]} == {
        "secret.csv": "this process's user may not read it; give it the right",
        "closed/": "the folder cannot be read: Permission denied",
    }


def test_files_and_folders_that_may_not_be_read_are_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        drop(root / "landing", "good.csv")
        drop(root / "landing", "secret.csv").chmod(0)
        drop(root / "landing", "closed/a.csv").parent.chmod(0)
        for path in (root, root / "landing", root / "landing" / "events"):
            path.chmod(0o777)
        process = multiprocessing.get_context("fork").Process(target=_fetch_as_nobody, args=(root,))
        process.start()
        process.join(timeout=60)
        (root / "landing" / "events" / "closed").chmod(0o755)
        make_removable(root)
        assert process.exitcode == 0
