"""Trees of labelled pages: only the named paths are looked at, in scope, and what changed is read and nothing else."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from medallion_defs.bronze.contract import TreeScope
from medallion_defs.bronze.fetching import taking
from medallion_defs.bronze.fetching.fetch_time import FetchTime
from medallion_defs.bronze.fetching.report import FetchReport, LeftFile
from medallion_defs.bronze.tree import fetch as tree_fetch
from medallion_defs.bronze.tree.fetch import TreeState, fetch_tree
from medallion_defs.bronze.tree.scan import LabelledImage, scan_tree, tree_fingerprint
from medallion_defs.core import clock
from medallion_defs.core.errors import TransientError
from medallion_defs.core.sections import CurricularSettings
from medallion_defs.sources.curricular_pages.fetch import tree_scope
from medallion_defs.storage.item import BronzeItem
from medallion_defs.storage.local.publisher import LocalStore
from tests.unit.storage.conftest import SOURCE

LATER = timedelta(hours=1)


def scope_of(
    labels: Path, images: Path, states: frozenset[str] | None = None, from_year: int | None = None, to_year: int | None = None
) -> TreeScope:
    return tree_scope(CurricularSettings(labels_dir=labels, images_dir=images, states=states, from_year=from_year, to_year=to_year))


@pytest.fixture
def scope(tmp_path: Path) -> TreeScope:
    scope = scope_of(tmp_path / "labels", tmp_path / "images")
    for state in ("Alabama", "Ohio"):
        for year in ("1957", "1987"):
            for page in ("1", "4"):
                put(scope, f"{state}/Lincoln/{year}/{page}")
    return scope


def put(scope: TreeScope, name: str, label: bytes = b'{"text": "Biology"}', image: bytes | None = b"png", extension: str = "png") -> None:
    write(scope.labels_path / f"{name}.json", label)
    if image is not None:
        write(scope.images_path / f"{name}.{extension}", image)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def pages_of(scope: TreeScope) -> list[str]:
    return [page.external_id for page in scan_tree(scope) if isinstance(page, LabelledImage)]


def left_of(scope: TreeScope) -> dict[str, str]:
    return {left.name: left.reason for left in scan_tree(scope) if isinstance(left, LeftFile)}


class Fetcher:
    """Fetches a scope again and again; notes what was told to the ledger."""

    def __init__(self, store: LocalStore, scope: TreeScope, state: Path) -> None:
        self.store, self.scope, self.state = store, scope, TreeState(state, SOURCE.name)
        self.items: list[BronzeItem] = []
        self.refused: dict[str, str] = {}

    def __call__(self, *, rehash: bool = False, settle_seconds: float = 0) -> FetchReport:
        def register(items: Sequence[BronzeItem], refused: Sequence[LeftFile]) -> None:
            self.items += items
            self.refused |= {left.name: left.reason for left in refused}

        return fetch_tree(
            self.store, SOURCE, self.scope, self.state, register,
            time=FetchTime.of(clock.now() + (LATER if not settle_seconds else timedelta(0))), settle_seconds=settle_seconds, run_id="run-1",
            rehash=rehash,
        )  # fmt: skip


@pytest.fixture
def fetch(store: LocalStore, scope: TreeScope, tmp_path: Path) -> Fetcher:
    return Fetcher(store, scope, tmp_path / "memory")


def opened_by(work: Callable[[], object]) -> list[str]:
    """Return the paths that `work` opens or lists, as the interpreter reports them: bare names are relative to an open folder."""
    seen: list[str] = []
    active = [True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if active and event in ("open", "os.scandir", "os.listdir"):
            seen.append(str(arguments[0]))

    sys.addaudithook(hook)
    work()
    active.clear()
    return seen


def test_record_keys_read_state_school_year_page(scope: TreeScope) -> None:
    assert pages_of(scope) == [
        f"{state}:Lincoln:{year}:{page}" for state in ("Alabama", "Ohio") for year in ("1957", "1987") for page in ("1", "4")
    ]


def test_names_keep_their_blanks_and_zeros(scope: TreeScope) -> None:
    put(scope, "New Mexico/St. Mary's/1987/004")
    assert pages_of(scope)[4] == "New Mexico:St. Mary's:1987:004"


def test_scope_filters_states_and_years(scope: TreeScope) -> None:
    narrow = scope_of(scope.labels_path, scope.images_path, frozenset({"Alabama"}), 1960, 1990)
    assert pages_of(narrow) == ["Alabama:Lincoln:1987:1", "Alabama:Lincoln:1987:4"]


def test_only_folders_in_scope_are_opened(scope: TreeScope, tmp_path: Path) -> None:
    put(scope, "Alabama/Lincoln/1987/deeper/5")
    write(scope.images_path / "Texas" / "Lincoln" / "1987" / "1.png", b"no label")
    narrow = scope_of(scope.labels_path, scope.images_path, frozenset({"Alabama"}), from_year=1980)
    opened = opened_by(lambda: list(scan_tree(narrow)))
    assert sorted(str(Path(path).relative_to(tmp_path)) for path in opened) == [
        "images/Alabama/Lincoln/1987", "labels", "labels/Alabama", "labels/Alabama/Lincoln", "labels/Alabama/Lincoln/1987",
    ]  # fmt: skip


def test_a_fetch_opens_the_files_of_pages_and_no_others(fetch: Fetcher, scope: TreeScope) -> None:
    write(scope.labels_path / "Alabama/Lincoln/1987/notes.txt", b"not a page")
    write(scope.images_path / "Alabama/Lincoln/1987/9.png", b"an image without a label")
    opened = Counter(path for path in opened_by(fetch) if path.endswith((".json", ".png", ".txt")) and "/" not in path and path[0] != "_")
    assert opened == {"1.json": 4, "4.json": 4, "1.png": 4, "4.png": 4}
    assert fetch.refused.keys() == {"Alabama/Lincoln/1987/notes.txt"}
    assert len(fetch.items) == 8


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("readme.txt", "it is a file where folders are"),
        ("Alabama/readme.txt", "it is a file where folders are"),
        ("Alabama/Lincoln/index.json", "it is a file where folders are"),
        ("Alabama/Lincoln/1987/cover.json", "a label is {number}.json"),
        ("Alabama/Lincoln/1987/4.json.bak", "a label is {number}.json"),
        ("Alabama/Lincoln/1987/1234567.json", "a label is {number}.json"),
        ("Alabama/Lincoln/year 1987/4.json", "four digits"),
        ("Alabama/St: Mary/1987/4.json", "external ids are made of it"),
    ],
)
def test_what_is_no_page_is_named_with_its_reason(scope: TreeScope, name: str, word: str) -> None:
    write(scope.labels_path / name, b"{}")
    left = left_of(scope)
    assert len(left) == 1
    assert word in next(iter(left.values()))
    assert next(iter(left)) in (name, str(Path(name).parent), str(Path(name).parent.parent))
    assert len(pages_of(scope)) == 8


@pytest.mark.parametrize("name", [".DS_Store", "Alabama/.hidden/x.json", "Alabama/Lincoln/1987/5.json.part", "Alabama/Lincoln/1987/5.tmp"])
def test_what_somebody_is_writing_is_not_looked_at(scope: TreeScope, name: str) -> None:
    write(scope.labels_path / name, b"{}")
    assert left_of(scope) == {}
    assert len(pages_of(scope)) == 8


def test_a_label_needs_exactly_one_image(scope: TreeScope) -> None:
    put(scope, "Ohio/Lincoln/1987/7", image=None)
    put(scope, "Ohio/Lincoln/1987/8", extension="jpg")
    put(scope, "Ohio/Lincoln/1987/8", extension="WEBP")
    put(scope, "Utah/Lincoln/1987/1", image=None)
    assert left_of(scope) == {
        "Ohio:Lincoln:1987:7": "there is no image for it; put one of that name there",
        "Ohio:Lincoln:1987:8": "there are several images for it (8.WEBP, 8.jpg); leave one",
        "Utah:Lincoln:1987:1": "there is no image for it; put one of that name there",
    }


@pytest.mark.parametrize("what", ["label", "image", "year", "image folder"])
def test_nothing_is_read_through_a_symbolic_link(scope: TreeScope, fetch: Fetcher, what: str, tmp_path: Path) -> None:
    root = scope.images_path if what.startswith("image") else scope.labels_path
    path = {
        "label": root / "Ohio/Lincoln/1987/4.json", "image": root / "Ohio/Lincoln/1987/4.png",
        "year": root / "Ohio/Lincoln/1987", "image folder": root / "Ohio/Lincoln/1987",
    }[what]  # fmt: skip
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    report = fetch()
    assert report.published == (7 if what in ("label", "image") else 6)
    assert all("1987" in name for name in fetch.refused)
    assert fetch.refused


def test_roots_that_are_not_there_are_an_error_and_not_an_empty_tree(scope: TreeScope) -> None:
    with pytest.raises(TransientError):
        list(scan_tree(scope_of(scope.labels_path / "nowhere", scope.images_path)))
    with pytest.raises(TransientError):
        list(scan_tree(scope_of(scope.labels_path, scope.images_path / "nowhere")))


def test_a_page_is_one_item_with_label_and_image(fetch: Fetcher, scope: TreeScope, bronze: Path) -> None:
    put(scope, "Ohio/Lincoln/1987/4", label=b'{"text": "Choir"}', image=b"jpeg bytes", extension="JPG")
    (scope.images_path / "Ohio/Lincoln/1987/4.png").unlink()
    assert (report := fetch()).published == 8
    item = next(item for item in fetch.items if item.external_id == "Ohio:Lincoln:1987:4")
    assert [artifact.name for artifact in item.artifacts] == ["label.json", "image.jpg"]
    assert (bronze / item.path / "label.json").read_bytes() == b'{"text": "Choir"}'
    assert (bronze / item.path / "image.jpg").read_bytes() == b"jpeg bytes"
    assert item.origin == "labels/Ohio/Lincoln/1987/4.json"
    assert report.bytes == sum(item.bytes for item in fetch.items)


def test_what_has_not_changed_is_not_read_again(fetch: Fetcher) -> None:
    assert (fetch().read, fetch().read) == (8, 0)
    again = fetch()
    assert (again.unchanged, again.published) == (8, 0)
    assert (full := fetch(rehash=True)).read == 8
    assert (full.unchanged, full.published) == (8, 0)


def test_an_edit_in_place_that_keeps_size_and_mtime_is_a_new_revision(fetch: Fetcher, scope: TreeScope) -> None:
    fetch()
    path = scope.images_path / "Ohio/Lincoln/1987/4.png"
    times = path.stat()
    path.write_bytes(b"gnp")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    report = fetch()
    assert (report.read, report.published) == (1, 1)
    assert (fetch.items[-1].external_id, fetch.items[-1].revision) == ("Ohio:Lincoln:1987:4", 2)


def test_a_page_that_goes_back_to_its_old_bytes_is_a_third_revision(fetch: Fetcher, scope: TreeScope) -> None:
    for label in (b'{"text": "A"}', b'{"text": "B"}', b'{"text": "A"}'):
        put(scope, "Ohio/Lincoln/1987/4", label=label)
        fetch()
    assert fetch.items[-1].revision == 3


def test_bronze_that_was_emptied_is_filled_again_whatever_is_remembered(fetch: Fetcher, tmp_path: Path) -> None:
    fetch()
    fetch.store = LocalStore(tmp_path / "another bronze")
    assert fetch().published == 8


@pytest.mark.parametrize("damage", [b"", b"[1, 2", b'{"Ohio:Lincoln:1987:4": 3}', b"\xff"])
def test_a_damaged_memory_costs_time_and_nothing_else(fetch: Fetcher, damage: bytes) -> None:
    fetch()
    fetch.state.path.write_bytes(damage)
    assert (report := fetch()).read == 8
    assert (report.published, report.unchanged) == (0, 8)


@pytest.mark.parametrize(
    ("label", "image", "word"),
    [
        (b"", b"png", "the label is empty"),
        (b'{"text": ', b"png", "not JSON"),
        (b"[1]", b"png", "not an object"),
        (b"\xff\xfe{}", b"png", "not JSON"),
        (b"{}", b"", "the image is empty"),
        (b'{"a": "' + b"x" * tree_fetch.MAX_LABEL_BYTES + b'"}', b"png", "has more than"),
    ],
)
def test_a_bad_page_is_refused_alone_and_taken_once_it_is_repaired(
    fetch: Fetcher, scope: TreeScope, label: bytes, image: bytes, word: str
) -> None:
    put(scope, "Ohio/Lincoln/1987/4", label=label, image=image)
    report = fetch()
    assert (report.published, report.refused) == (7, 1)
    assert word in fetch.refused["Ohio:Lincoln:1987:4"]
    put(scope, "Ohio/Lincoln/1987/4")
    assert fetch().published == 1


def test_a_page_that_changed_just_now_waits_and_the_sensor_is_told(fetch: Fetcher) -> None:
    report = fetch(settle_seconds=3600)
    assert (report.waiting, report.published) == (8, 0)
    assert fetch.state.waiting_path.exists()
    fetch()
    assert not fetch.state.waiting_path.exists()


def test_groups_are_told_to_the_ledger_as_they_become_durable(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "GROUP_ITEMS", 3)
    told: list[int] = []
    fetch_tree(
        fetch.store, SOURCE, fetch.scope, fetch.state, lambda items, _: told.append(len(items)),
        time=FetchTime.of(clock.now() + LATER), settle_seconds=0,
    )  # fmt: skip
    assert told == [3, 3, 2]


def test_what_was_published_before_a_failure_is_not_read_again(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "GROUP_ITEMS", 3)

    def fail_at_the_second(items: Sequence[BronzeItem], _: Sequence[LeftFile]) -> None:
        fetch.items += items
        if len(fetch.items) > 3:
            raise TransientError("the database went away")

    with pytest.raises(TransientError):
        fetch_tree(
            fetch.store, SOURCE, fetch.scope, fetch.state, fail_at_the_second, time=FetchTime.of(clock.now() + LATER), settle_seconds=0
        )
    assert (report := fetch()).read == 2
    assert (report.published, report.unchanged) == (2, 6)


def test_the_fingerprint_changes_with_names_and_not_with_a_look(scope: TreeScope) -> None:
    at = clock.now() + LATER
    before = tree_fingerprint(scope, at, 0)
    assert tree_fingerprint(scope, at, 0) == before
    put(scope, "Ohio/Lincoln/1987/5", image=None)
    after = tree_fingerprint(scope, at, 0)
    write(scope.images_path / "Ohio/Lincoln/1987/5.png", b"png")
    assert len({before, after, tree_fingerprint(scope, at, 0)}) == 3
    narrow = scope_of(scope.labels_path, scope.images_path, frozenset({"Alabama"}))
    assert tree_fingerprint(narrow, at, 0) != after


def test_a_folder_that_is_being_filled_counts_once_it_rests(scope: TreeScope) -> None:
    now = clock.now()
    busy = tree_fingerprint(scope, now, 3600)
    put(scope, "Ohio/Lincoln/1987/5")
    assert tree_fingerprint(scope, now, 3600) == busy
    assert tree_fingerprint(scope, now + LATER + LATER, 3600) != busy
