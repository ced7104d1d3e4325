"""A removal and a forgetting are killed, or their disk fails or fills, at every single os call; then a clean one runs.

The harness is that of the publisher (`test_storage_crash.py`), whose own tests show that it sees broken protocols.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medallion_defs.storage.item import BronzeItem
from medallion_defs.storage.local import removal
from medallion_defs.storage.local.publisher import LocalStore
from medallion_defs.storage.tombstone import Tombstone, decode_line
from tests.folders import fresh_folder
from tests.torture.test_storage_crash import FAULTS, NOW, publish_groups, sweep

RULE = "policy keep_revisions 1"
REMOVED = ("a", "b")


@pytest.fixture
def folder() -> Iterator[Path]:
    with fresh_folder() as folder:
        yield folder


def publish_all(root: Path) -> None:
    publish_groups(root, lambda name: None)


def read_index(root: Path) -> list[BronzeItem | Tombstone]:
    lines = (root / "bronze" / "events" / "_index.jsonl").read_bytes().splitlines(keepends=True)
    return [decode_line(line) for line in lines if line.endswith(b"\n")]


def remove(root: Path, acknowledge: Callable[[str], None]) -> None:
    for tombstone in LocalStore(root / "bronze").remove("events", REMOVED, NOW, RULE).tombstones:
        acknowledge(tombstone.item.directory)


def assert_no_bytes_without_a_tombstone_are_gone(root: Path) -> None:
    """What readers see at any moment: an item with all its bytes, or a tombstone that is in the index as well."""
    for directory in (root / "bronze" / "events").iterdir():
        names = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
        if names and not {"_item.json", "events.csv", "notes.txt"} <= names:
            assert "_removed.json" in names, f"{directory.name} lost bytes and has no tombstone"
            entry = decode_line((directory / "_removed.json").read_bytes())
            assert entry in read_index(root), f"{directory.name} lost bytes before its tombstone was in the index"


def check_removal(root: Path, acknowledged: set[str]) -> None:
    assert_no_bytes_without_a_tombstone_are_gone(root)
    remove(root, lambda name: None)
    for directory in REMOVED:
        assert [path.name for path in (root / "bronze" / "events" / directory).iterdir()] == ["_removed.json"]
    tombstones = [entry.item.directory for entry in read_index(root) if isinstance(entry, Tombstone)]
    assert sorted(tombstones) == sorted(REMOVED), "lost or twice"
    assert (root / "bronze" / "events" / "a@2" / "events.csv").read_bytes() == b"A2"
    assert list(LocalStore(root / "bronze").verify("events")) == []
    publish_groups(root, lambda name: None, start=2)
    assert list((root / "bronze" / ".staging" / "events").iterdir()) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_removal_struck_at_any_call_never_leaves_an_item_that_is_neither_there_nor_removed(folder: Path, fault: str) -> None:
    assert sweep(folder, remove, fault, publish_all, check_removal) > 50


def forget(root: Path, acknowledge: Callable[[str], None]) -> None:
    LocalStore(root / "bronze").forget("events", "a", NOW)


def check_forgetting(root: Path, acknowledged: set[str]) -> None:
    forget(root, lambda name: None)
    folder = root / "bronze" / "events"
    assert not (folder / "a").exists()
    assert not (folder / "a@2").exists()
    entries = read_index(root)
    assert [entry.item.revision for entry in entries if isinstance(entry, Tombstone)] == [1, 2]
    assert [entry.external_id for entry in entries if isinstance(entry, BronzeItem)] == ["b", "c"]
    assert list(LocalStore(root / "bronze").verify("events")) == []
    assert list((root / "bronze" / ".staging" / "events").iterdir()) == []
    left = b"".join(path.read_bytes() for path in (root / "bronze").rglob("*") if path.is_file())
    assert b"A1" not in left
    assert b"A2" not in left


@pytest.mark.parametrize("fault", FAULTS)
def test_a_forgetting_struck_at_any_call_is_finished_by_the_next_one(folder: Path, fault: str) -> None:
    assert sweep(folder, forget, fault, publish_all, check_forgetting) > 50


def remove_hastily(root: Path, acknowledge: Callable[[str], None]) -> None:
    """The planted bug: the bytes go before the tombstone is in the index; in a fork that ends soon after."""
    real = removal._append_lines

    def append_late(folder: removal.SourceFolder, lines: list[bytes]) -> None:
        for line in lines:
            entry = decode_line(line)
            assert isinstance(entry, Tombstone)
            removal._empty(folder, entry.item.directory)
        real(folder, lines)

    removal._append_lines = append_late  # type: ignore[assignment]  # the same call
    remove(root, acknowledge)


def test_the_harness_sees_a_removal_that_deletes_before_the_index_line(folder: Path) -> None:
    with pytest.raises(AssertionError, match="before its tombstone was in the index"):
        sweep(folder, remove_hastily, "kill", publish_all, check_removal)
