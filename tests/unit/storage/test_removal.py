"""Items taken out of the store: what stays in their place, and what becomes of the same bytes and of the same id later."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from medallion_defs.bronze.fetching.fetch_time import FetchTime
from medallion_defs.bronze.landing.fetch import fetch_landing
from medallion_defs.bronze.landing.removal import delete_copies, find_copies
from medallion_defs.core.sections import LandingSettings
from medallion_defs.storage.item import BronzeItem
from medallion_defs.storage.local import removal
from medallion_defs.storage.local.publisher import LocalStore
from medallion_defs.storage.publishing import ForgottenItemError, Publication
from medallion_defs.storage.tombstone import Tombstone, decode_line, decode_tombstone, forgotten_directory, subject_sha256
from tests.unit.storage.conftest import NOW, SOURCE, Publish, tell_nobody

RULE = "policy max_age_days 30"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def index(bronze: Path) -> list[BronzeItem | Tombstone]:
    return [decode_line(line) for line in (bronze / "events" / "_index.jsonl").read_bytes().splitlines(keepends=True)]


def everything_below(bronze: Path) -> bytes:
    return b"\n".join(path.name.encode() + b" " + (path.read_bytes() if path.is_file() else b"") for path in sorted(bronze.rglob("*")))


def test_a_removed_item_leaves_its_facts_and_no_byte(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("a", b"1"), ("b", b"2"))
    removal = store.remove("events", ["a"], NOW, RULE)
    assert names(bronze / "events" / "a") == ["_removed.json"]
    tombstone = decode_tombstone((bronze / "events" / "a" / "_removed.json").read_bytes())
    assert removal.tombstones == (tombstone,)
    assert (tombstone.item.external_id, tombstone.item.artifacts[0].bytes, tombstone.sentence) == (
        "a",
        1,
        f"removed on 2030-01-02 by {RULE}",
    )
    assert (bronze / "events" / "a").stat().st_mode & 0o222 == 0
    assert list(store.verify("events")) == []


def test_the_same_bytes_are_not_taken_again_and_other_bytes_are_the_next_revision(store: LocalStore, publish: Publish) -> None:
    publish(("a", b"1"))
    store.remove("events", ["a"], NOW, RULE)
    [again] = publish(("a", b"1"))
    assert (again.is_new, again.tombstone and again.tombstone.removed_by) == (False, RULE)
    [other] = publish(("a", b"2"))
    assert (other.is_new, other.item.directory, other.tombstone) == (True, "a@2", None)
    assert list(store.verify("events")) == []


def test_a_removed_item_survives_a_reindex_as_a_tombstone(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("a", b"1"), ("b", b"2"))
    store.remove("events", ["a"], NOW, RULE)
    assert [type(entry) for entry in index(bronze)] == [BronzeItem, BronzeItem, Tombstone]
    assert store.reindex("events") == 2
    assert {type(entry) for entry in index(bronze)} == {BronzeItem, Tombstone}
    assert list(store.verify("events")) == []
    [again] = publish(("a", b"1"))
    assert again.tombstone


def test_removing_twice_is_removing_once(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("a", b"1"))
    first = store.remove("events", ["a"], NOW, RULE)
    before = everything_below(bronze)
    assert store.remove("events", ["a"], NOW + timedelta(days=1), "policy max_items 1") == first
    assert everything_below(bronze) == before


def test_a_half_removed_item_is_reported_and_the_next_call_removes_the_rest(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("a", b"1"))
    store.remove("events", ["a"], NOW, RULE)
    directory = bronze / "events" / "a"
    directory.chmod(0o755)
    (directory / "events.csv").write_bytes(b"1")
    directory.chmod(0o555)
    assert [problem.kind for problem in store.verify("events")] == ["half removed"]
    store.remove("events", ["a"], NOW, RULE)
    assert list(store.verify("events")) == []


def test_a_damaged_item_is_left_alone_and_named(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("a", b"1"), ("b", b"2"))
    (bronze / "events" / "a").chmod(0o755)
    (bronze / "events" / "a" / "_item.json").unlink()
    removal = store.remove("events", ["a", "b"], NOW, RULE)
    assert [tombstone.item.directory for tombstone in removal.tombstones] == ["b"]
    assert len(removal.damaged) == 1
    assert "events/a has no _item.json" in removal.damaged[0]
    assert (bronze / "events" / "a" / "events.csv").read_bytes() == b"1"


def test_of_a_forgotten_id_nothing_is_left_that_a_person_wrote(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("Jane Doe.csv", b"secret"), ("other", b"2"))
    [second] = publish(("Jane Doe.csv", b"more secret"))
    tombstones = store.forget("events", "Jane Doe.csv", NOW)
    assert [tombstone.item.revision for tombstone in tombstones] == [1, 2]
    assert tombstones[1].file_id == second.item.file_id
    left = everything_below(bronze)
    for word in (b"Jane", b"Doe", b"jane", b"secret", b"%20"):
        assert word not in left
    assert subject_sha256("events", "Jane Doe.csv").encode() in left
    assert list(store.verify("events")) == []
    assert store.reindex("events") == 3
    assert list(store.verify("events")) == []


def test_forgetting_again_takes_lines_out_of_an_index_that_was_restored(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("jane", b"1"))
    lines = (bronze / "events" / "_index.jsonl").read_bytes()
    store.forget("events", "jane", NOW)
    with (bronze / "events" / "_index.jsonl").open("ab") as restored:
        restored.write(lines)
    store.forget("events", "jane", NOW)
    assert b"jane" not in everything_below(bronze)


def test_a_tombstone_of_another_source_is_found(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("jane", b"1"))
    store.forget("events", "jane", NOW)
    shutil.copytree(bronze / "events", bronze / "articles")
    assert [problem.kind for problem in store.verify("articles")] == ["changed"]


def test_a_forgotten_id_is_refused_by_a_sentence_that_does_not_name_it(store: LocalStore, publish: Publish) -> None:
    publish(("jane.csv", b"secret"))
    store.forget("events", "jane.csv", NOW)
    with pytest.raises(ForgottenItemError, match="was forgotten and is not taken again") as error:
        publish(("jane.csv", b"other bytes"))
    assert "jane" not in str(error.value)
    [neighbour] = publish(("jane.csv2", b"other bytes"))
    assert neighbour.is_new


def test_an_id_whose_items_a_policy_removed_can_be_forgotten(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("jane", b"1"))
    store.remove("events", ["jane"], NOW, RULE)
    store.forget("events", "jane", NOW)
    assert b"jane" not in everything_below(bronze)
    assert list(store.verify("events")) == []


def test_a_damaged_item_is_forgotten_all_the_same(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("jane", b"1"))
    (bronze / "events" / "jane").chmod(0o755)
    (bronze / "events" / "jane" / "_item.json").write_bytes(b"{")
    [tombstone] = store.forget("events", "jane", NOW)
    assert tombstone.item.content_sha256 == ""
    assert names(bronze / "events") == sorted(["_index.jsonl", forgotten_directory("events", "jane")])
    assert list(store.verify("events")) == []


def test_forgetting_twice_is_forgetting_once(store: LocalStore, publish: Publish, bronze: Path) -> None:
    publish(("jane", b"1"))
    first = store.forget("events", "jane", NOW)
    before = everything_below(bronze)
    assert store.forget("events", "jane", NOW + timedelta(days=1)) == first
    assert everything_below(bronze) == before


def drop(landing: Path, name: str, content: bytes) -> None:
    (landing / "events" / name).write_bytes(content)


@pytest.mark.parametrize("after", ["move", "leave"])
def test_a_landing_file_with_removed_bytes_is_reported_and_not_taken(store: LocalStore, landing: Path, after: str) -> None:
    settings = LandingSettings(settle_seconds=0, after=after)  # type: ignore[arg-type]  # one of the two words
    drop(landing, "a.csv", b"1")
    fetch_landing(store, SOURCE, settings, landing, tell_nobody, time=FetchTime.of(NOW))
    store.remove("events", ["a.csv"], NOW, RULE)
    drop(landing, "a.csv", b"1")
    for _ in range(2 if after == "leave" else 1):
        report = fetch_landing(store, SOURCE, settings, landing, tell_nobody, time=FetchTime.of(NOW))
        assert (report.published, report.unchanged, report.refused) == (0, 0, 0)
        [left] = report.left["removed"]
        assert (left.name, left.reason) == ("a.csv", f"events/a.csv had the same bytes and was removed on 2030-01-02 by {RULE}")


def test_a_forgotten_landing_file_is_refused_by_its_hash_and_its_copies_can_be_deleted(store: LocalStore, landing: Path) -> None:
    settings = LandingSettings(settle_seconds=0)
    drop(landing, "jane.csv", b"1")
    fetch_landing(store, SOURCE, settings, landing, tell_nobody, time=FetchTime.of(NOW))
    store.forget("events", "jane.csv", NOW)
    drop(landing, "jane.csv", b"1")
    [refused] = fetch_landing(store, SOURCE, settings, landing, tell_nobody, time=FetchTime.of(NOW)).left["refused"]
    assert refused.name == f"sha256:{subject_sha256('events', 'jane.csv')}"
    assert "jane" not in refused.reason
    assert len(find_copies(landing, "events", "jane.csv")) == 2
    assert delete_copies(landing, "events", "jane.csv") == 2
    assert find_copies(landing, "events", "jane.csv") == []


def test_what_was_left_in_landing_is_no_longer_remembered(store: LocalStore, landing: Path) -> None:
    drop(landing, "jane.csv", b"1")
    fetch_landing(store, SOURCE, LandingSettings(settle_seconds=0, after="leave"), landing, tell_nobody, time=FetchTime.of(NOW))
    assert "jane" in (landing / ".left" / "events.json").read_text()
    delete_copies(landing, "events", "jane.csv")
    assert "jane" not in (landing / ".left" / "events.json").read_text()


def test_a_copy_that_is_reached_through_a_link_is_not_deleted(landing: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.csv").write_bytes(b"mine")
    (landing / "events" / "sub").symlink_to(elsewhere)
    assert delete_copies(landing, "events", "sub/a.csv") == 0
    assert (elsewhere / "a.csv").exists()


def test_a_publication_of_an_item_that_is_there_has_no_tombstone(publish: Publish) -> None:
    [first] = publish(("a", b"1"))
    assert first == Publication(first.item, is_new=True)
    [again] = publish(("a", b"1"))
    assert again.tombstone is None


def test_without_a_sync_of_the_whole_file_system_each_file_is_synced_by_itself(
    store: LocalStore, publish: Publish, bronze: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(removal, "find_syncfs", lambda: None)
    monkeypatch.setattr(removal, "sync_file", lambda fd: synced.append(fd))
    publish(("a", b"1"), ("jane", b"2"))
    store.remove("events", ["a"], NOW, RULE)
    assert len(synced) == 2, "the tombstone and its directory"
    store.forget("events", "jane", NOW)
    assert len(synced) == 6, "the tombstone, its directory and the folder around it, and that once more when the old one is gone"
    assert list(store.verify("events")) == []
