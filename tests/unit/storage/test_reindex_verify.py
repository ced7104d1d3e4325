"""The index can be rebuilt from the items, and any change to bronze is found and comes with its remedy."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from medallion_defs.storage.local.publisher import LocalStore
from medallion_defs.storage.publishing import DamagedItemError, ProblemKind
from tests.unit.storage.conftest import NOW, Publish, new_item


def index_of(bronze: Path) -> Path:
    return bronze / "events" / "_index.jsonl"


def writable(path: Path) -> Path:
    path.chmod(0o755)
    return path


def test_reindex_rebuilds_the_very_same_index(store: LocalStore, publish: Publish, bronze: Path) -> None:
    with store.group("events") as group:
        for n in range(20):
            group.stage(new_item(f"item{n % 7}", str(n).encode(), NOW + timedelta(seconds=n)))
        group.publish()
    before = index_of(bronze).read_bytes()
    index_of(bronze).unlink()
    assert store.reindex("events") == 20
    assert index_of(bronze).read_bytes() == before
    assert list(store.verify("events")) == []


def test_reindex_adds_the_line_that_a_crash_cost(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("a", b"1"), ("b", b"2"))
    lines = index_of(bronze).read_bytes().splitlines(keepends=True)
    index_of(bronze).write_bytes(lines[0])
    assert [problem.kind for problem in store.verify("events")] == ["unindexed"]
    store.reindex("events")
    assert index_of(bronze).read_bytes() == b"".join(lines)


def test_reindex_refuses_a_damaged_item_and_keeps_the_index(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("a", b"1"))
    before = index_of(bronze).read_bytes()
    (writable(bronze / "events" / "a") / "_item.json").unlink()
    with pytest.raises(DamagedItemError, match=r"a has no _item\.json"):
        store.reindex("events")
    assert index_of(bronze).read_bytes() == before


def test_a_link_among_the_items_is_no_item_and_does_not_hinder_a_reindex(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("a", b"1"))
    (bronze / "events" / "link").symlink_to("a")
    assert store.reindex("events") == 1
    assert [problem.kind for problem in store.verify("events")] == ["extra"]


def test_publishing_goes_on_after_a_reindex(store: LocalStore, publish: Publish) -> None:
    publish(("a", b"1"))
    store.reindex("events")
    publish(("b", b"1"))
    assert list(store.verify("events")) == []


def remove_artifact(item: Path) -> None:
    (writable(item) / "events.csv").unlink()
    item.chmod(0o555)


def change_artifact(item: Path) -> None:
    (item / "events.csv").chmod(0o644)
    (item / "events.csv").write_bytes(b"2")
    (item / "events.csv").chmod(0o444)


def replace_artifact_by_link(item: Path) -> None:
    (writable(item) / "events.csv").unlink()
    (item / "events.csv").symlink_to("/etc/hostname")
    item.chmod(0o555)


def add_file(item: Path) -> None:
    (writable(item) / "notes.txt").touch()
    item.chmod(0o555)


def allow_writing_a_file(item: Path) -> None:
    (item / "events.csv").chmod(0o644)


def allow_writing_the_item(item: Path) -> None:
    item.chmod(0o755)


def break_facts(item: Path) -> None:
    (writable(item) / "_item.json").chmod(0o644)
    (item / "_item.json").write_bytes(b"{")


def forge_facts(item: Path) -> None:
    facts = item / "_item.json"
    facts.chmod(0o644)
    facts.write_bytes(facts.read_bytes().replace(b'"external_id":"a"', b'"external_id":"b"'))
    facts.chmod(0o444)


def rename_item(item: Path) -> None:
    item.rename(item.with_name("z"))


def add_stranger(item: Path) -> None:
    (item.parent / "stray.csv").touch()


def drop_index_line(item: Path) -> None:
    os.truncate(item.parent / "_index.jsonl", 0)


def repeat_index_line(item: Path) -> None:
    index = item.parent / "_index.jsonl"
    index.write_bytes(index.read_bytes() * 2)


def break_index_line(item: Path) -> None:
    index = item.parent / "_index.jsonl"
    index.write_bytes(b"no json\n" + index.read_bytes())


@pytest.mark.parametrize(
    ("damage", "kinds"),
    [
        (remove_artifact, ["missing"]),
        (change_artifact, ["changed"]),
        (replace_artifact_by_link, ["changed"]),
        (add_file, ["extra"]),
        (allow_writing_a_file, ["permission"]),
        (allow_writing_the_item, ["permission"]),
        (break_facts, ["unreadable"]),
        (forge_facts, ["index", "changed"]),
        (rename_item, ["unreadable", "missing"]),
        (add_stranger, ["extra"]),
        (drop_index_line, ["unindexed"]),
        (repeat_index_line, ["index"]),
        (break_index_line, ["index"]),
    ],
)
def test_verify_finds_every_kind_of_damage(
    store: LocalStore, publish: Publish, bronze: Path, damage: Callable[[Path], None], kinds: list[ProblemKind]
) -> None:
    publish(("a", b"1"))
    assert list(store.verify("events")) == []
    damage(bronze / "events" / "a")
    problems = list(store.verify("events"))
    assert [problem.kind for problem in problems] == kinds
    assert all(problem.path.startswith("events/") and problem.message and problem.remedy for problem in problems)


def test_the_remedy_of_an_unindexed_item_is_to_reindex(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("a", b"1"))
    drop_index_line(bronze / "events" / "a")
    [problem] = store.verify("events")
    assert problem.remedy == "Run 'medallion bronze reindex events'."
