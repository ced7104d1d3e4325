"""Discovery against real folders and a real ledger: nothing is missed, nothing is registered twice, little is read."""

import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medallion_defs.core import clock
from medallion_defs.core.errors import TransientError
from medallion_defs.core.sections import SourceSettings
from medallion_defs.ops.cursors import encode_cursor
from medallion_defs.ops.ledger import Ledger
from medallion_defs.silver.discovery import Discovery, discover, reconcile
from medallion_defs.storage.item import INDEX_FILE, ITEM_FILE, BronzeItem, encode_item
from medallion_defs.storage.local import entries
from medallion_defs.storage.local.entries import estimate_lines
from medallion_defs.storage.local.reader import LocalReader
from medallion_defs.storage.reading import Cursor
from tests.integration.bronze_items import (
    NOON,
    SOURCE,
    append_to_index,
    make_item,
    publish,
    publish_staged,
    rename_into_place,
    stage,
)  # fmt: skip

Mode = Literal["auto", "scan", "index"]
BOTH = pytest.mark.parametrize("mode", ["scan", "index"])
PLENTY = 60.0


@pytest.fixture
def bronze(tmp_path: Path) -> Path:
    return tmp_path / "bronze"


@pytest.fixture
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder's stamps are old enough to be trusted."""
    at = clock.now() + timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: at)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count what discovery does: names listed, items opened, index bytes read, ledger questions."""
    done = {"listed": 0, "opened": 0, "bytes": 0, "asked": 0}

    def count(owner: object, name: str, key: str, size: Callable[[Any], int]) -> None:
        real = getattr(owner, name)

        def counted(*args: Any) -> Any:
            answer = real(*args)
            done[key] += size(answer)
            return answer

        monkeypatch.setattr(owner, name, counted)

    count(entries, "item_names", "listed", len)
    count(entries, "decode_line", "opened", lambda _: 1)
    count(entries, "read_complete_lines", "bytes", len)
    count(Ledger, "known_directories", "asked", len)
    count(Ledger, "unknown_paths", "asked", len)
    return done


def look(db: psycopg.Connection, bronze: Path, cursor: Cursor | None, mode: Mode, budget: float = PLENTY) -> Discovery:
    found = discover(db, LocalReader(bronze), SOURCE, cursor, mode, budget)
    db.commit()
    assert len(encode_cursor(found.cursor)) < 1024
    return found


def known(db: psycopg.Connection) -> set[str]:
    names = Ledger(db).known_directories(SOURCE)
    db.commit()
    return names


# -- nothing is missed -------------------------------------------------------------------------------------------------


@BOTH
def test_a_source_without_a_folder_has_no_items(db: psycopg.Connection, bronze: Path, mode: Mode) -> None:
    found = look(db, bronze, None, mode)
    assert (found.registered, found.seen, found.complete, found.problems) == (0, 0, True, ())


@BOTH
def test_new_items_are_registered_once_with_what_bronze_says_of_them(db: psycopg.Connection, bronze: Path, mode: Mode) -> None:
    item = msgspec.structs.replace(make_item("a.csv", size=77), run_id="run-0")
    publish(bronze, item)
    first = look(db, bronze, None, mode)
    publish(bronze, make_item("a.csv", revision=2))
    second = look(db, bronze, first.cursor, mode)
    third = look(db, bronze, second.cursor, mode)
    assert [found.registered for found in (first, second, third)] == [1, 1, 0]
    row = Ledger(db).find_row(item.file_id)
    assert row is not None
    assert (row.bronze_bytes, row.run_id, row.bronze_ingest_end_time, row.status) == (77, "run-0", NOON, "pending")
    assert known(db) == {"a.csv", "a.csv@2"}


@BOTH
@pytest.mark.usefixtures("an_hour_later")
def test_invariant_3_an_item_that_was_staged_early_and_renamed_late_is_found(db: psycopg.Connection, bronze: Path, mode: Mode) -> None:
    late = stage(bronze, make_item("late.csv"))
    publish(bronze, make_item("early.csv"))
    os.utime(late, (0, 0))
    first = look(db, bronze, None, mode)
    publish_staged(bronze, make_item("late.csv"), late)
    assert look(db, bronze, first.cursor, mode).registered == 1
    assert known(db) == {"early.csv", "late.csv"}


@pytest.mark.usefixtures("an_hour_later")
def test_invariant_3_items_whose_mtimes_lie_in_the_past_are_found(db: psycopg.Connection, bronze: Path) -> None:
    publish(bronze, make_item("a.csv"))
    first = look(db, bronze, None, "scan")
    before = (bronze / SOURCE).stat()
    os.utime(publish(bronze, make_item("b.csv")), (0, 0))
    # What rsync -t does at the end: the folder's own mtime goes back to what it was.
    os.utime(bronze / SOURCE, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(db, bronze, first.cursor, "scan").registered == 1


def test_invariant_3_an_item_that_shares_the_folders_stamp_with_the_last_listing_is_found(
    db: psycopg.Connection, bronze: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(bronze, make_item("a.csv"))
    stat = (bronze / SOURCE).stat()
    coarse = (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
    monkeypatch.setattr(entries, "_folder_stamps", lambda _: coarse)
    first = look(db, bronze, None, "scan")
    publish(bronze, make_item("b.csv"))
    assert look(db, bronze, first.cursor, "scan").registered == 1


@BOTH
def test_a_crash_between_register_and_cursor_costs_nothing(db: psycopg.Connection, bronze: Path, mode: Mode) -> None:
    for n in range(5):
        publish(bronze, make_item(f"{n}.csv"))
    look(db, bronze, None, mode)
    publish(bronze, make_item("5.csv"))
    again = look(db, bronze, None, mode)
    assert (again.registered, again.seen) == (1, 6)


def test_a_source_can_change_from_scan_to_index_and_back(db: psycopg.Connection, bronze: Path) -> None:
    cursor = None
    modes: list[Mode] = ["scan", "index", "scan", "index"]
    for n, mode in enumerate(modes):
        publish(bronze, make_item(f"{n}.csv"))
        found = look(db, bronze, cursor, mode)
        assert found.registered == 1
        cursor = found.cursor


@BOTH
def test_a_time_budget_stops_early_and_the_next_call_goes_on(
    db: psycopg.Connection, bronze: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "NAMES_PER_PAGE", 3)
    monkeypatch.setattr(entries, "BYTES_PER_PAGE", 3 * len(encode_item(make_item("0.csv"))))
    for n in range(8):
        publish(bronze, make_item(f"{n}.csv"))
    (bronze / SOURCE / "0-broken").mkdir()
    cursor, counts = None, list[int]()
    while True:
        found = look(db, bronze, cursor, mode, budget=-1)
        counts.append(found.registered)
        cursor = found.cursor
        if found.complete:
            break
    assert sum(counts) == 8
    assert len(counts) == 3
    assert max(counts) == 3


@pytest.mark.usefixtures("an_hour_later")
def test_an_item_that_arrives_behind_an_unfinished_scan_is_found(
    db: psycopg.Connection, bronze: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "NAMES_PER_PAGE", 2)
    for n in range(1, 5):
        publish(bronze, make_item(f"{n}.csv"))
    first = look(db, bronze, None, "scan", budget=-1)
    publish(bronze, make_item("0.csv"))
    second = look(db, bronze, first.cursor, "scan")
    third = look(db, bronze, second.cursor, "scan")
    assert [found.registered for found in (first, second, third)] == [2, 2, 1]


# -- little is read (invariant 13, without a clock) --------------------------------------------------------------------


@pytest.mark.usefixtures("an_hour_later")
def test_invariant_13_a_scan_of_a_folder_that_did_not_move_lists_and_asks_nothing(
    db: psycopg.Connection, bronze: Path, work: dict[str, int]
) -> None:
    for n in range(20):
        publish(bronze, make_item(f"{n}.csv"))
    first = look(db, bronze, None, "scan")
    assert work == {"listed": 20, "opened": 20, "bytes": 0, "asked": 0}
    assert look(db, bronze, first.cursor, "scan").seen == 0
    assert work == {"listed": 20, "opened": 20, "bytes": 0, "asked": 0}
    publish(bronze, make_item("new.csv"))
    look(db, bronze, first.cursor, "scan")
    assert work == {"listed": 41, "opened": 21, "bytes": 0, "asked": 20}


def test_a_young_folder_is_listed_again_because_its_stamp_may_still_be_shared(
    db: psycopg.Connection, bronze: Path, work: dict[str, int]
) -> None:
    publish(bronze, make_item("a.csv"))
    first = look(db, bronze, None, "scan")
    look(db, bronze, first.cursor, "scan")
    assert (work["listed"], work["opened"]) == (2, 1)


def test_a_stamp_exactly_as_old_as_the_settling_time_may_still_be_shared() -> None:
    now = 1_000.0
    border = int((now - entries.SETTLE_SECONDS) * 1e9)
    assert not entries.are_settled((1, border, border), now)
    assert not entries.are_settled((1, border - 1, border), now), "the younger of the two stamps counts"
    assert entries.are_settled((1, border - 1, border - 1), now)
    assert not entries.are_settled(None, now)


def test_invariant_13_an_index_is_read_from_where_it_was_left(db: psycopg.Connection, bronze: Path, work: dict[str, int]) -> None:
    for n in range(50):
        publish(bronze, make_item(f"{n:02}.csv"))
    first = look(db, bronze, None, "index")
    line = len(encode_item(make_item("00.csv")))
    assert (work["bytes"], work["opened"]) == (50 * line, 50)
    look(db, bronze, first.cursor, "index")
    assert (work["bytes"], work["opened"]) == (50 * line, 50)
    publish(bronze, make_item("50.csv"))
    found = look(db, bronze, first.cursor, "index")
    assert (found.registered, found.seen) == (1, 1)
    assert (work["bytes"], work["opened"], work["listed"]) == (51 * line, 51, 0)


def test_auto_takes_the_index_from_100000_items_on_and_stays_with_it(
    db: psycopg.Connection, bronze: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(bronze, make_item("0.csv"))
    few = look(db, bronze, None, "auto")
    monkeypatch.setattr(entries, "INDEX_FROM_ITEMS", 2)
    publish(bronze, make_item("1.csv"))
    many = look(db, bronze, few.cursor, "auto")
    monkeypatch.setattr(entries, "INDEX_FROM_ITEMS", 4)
    publish(bronze, make_item("2.csv"))
    still = look(db, bronze, many.cursor, "auto")
    assert [(found.mode, found.registered) for found in (few, many, still)] == [("scan", 1), ("index", 1), ("index", 1)]


def test_auto_goes_back_to_scan_when_the_index_is_gone(db: psycopg.Connection, bronze: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "INDEX_FROM_ITEMS", 1)
    publish(bronze, make_item("0.csv"))
    first = look(db, bronze, None, "auto")
    (bronze / SOURCE / INDEX_FILE).unlink()
    rename_into_place(bronze, make_item("1.csv"), stage(bronze, make_item("1.csv")))
    second = look(db, bronze, first.cursor, "auto")
    assert (first.mode, second.mode, second.registered) == ("index", "scan", 1)


def test_the_number_of_lines_is_estimated_from_the_start_of_the_index() -> None:
    line = encode_item(make_item("0.csv"))
    assert estimate_lines(len(line) * 1_000, line * 10 + line[:20]) == 1_000
    assert estimate_lines(0, b"") == 0
    assert estimate_lines(10, b"torn") == 0


# -- the index ---------------------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_read_when_it_is_whole(db: psycopg.Connection, bronze: Path) -> None:
    publish(bronze, make_item("a.csv"))
    line = encode_item(make_item("b.csv"))
    index = bronze / SOURCE / INDEX_FILE
    with index.open("ab") as file:
        file.write(line[:40])
    first = look(db, bronze, None, "index")
    assert (first.registered, first.problems) == (1, ())
    with index.open("ab") as file:
        file.write(line[40:])
    assert look(db, bronze, first.cursor, "index").registered == 1


def test_a_line_longer_than_a_block_is_read_whole(db: psycopg.Connection, bronze: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "BYTES_PER_PAGE", 64)
    for n in range(3):
        publish(bronze, make_item(f"{n}.csv"))
    assert look(db, bronze, None, "index").registered == 3


def rebuild(index: Path, lines: list[bytes]) -> None:
    new = index.with_name("new")
    new.write_bytes(b"".join(lines))
    new.rename(index)


@pytest.mark.parametrize(
    "change", ["truncated", "truncated and grown again", "replaced", "rebuilt in another order", "overwritten in place"]
)
def test_an_index_that_is_not_the_one_read_before_is_read_from_the_start(db: psycopg.Connection, bronze: Path, change: str) -> None:
    items = [make_item(f"{n}.csv") for n in range(6)]
    for item in items:
        publish(bronze, item)
    first = look(db, bronze, None, "index")
    index = bronze / SOURCE / INDEX_FILE
    lines = [encode_item(item) for item in items]
    news = [encode_item(make_item(f"new-{n}.csv")) for n in range(8)]
    expected = {item.directory for item in items}
    match change:
        case "truncated":
            os.truncate(index, len(lines[0]))
        case "truncated and grown again":
            os.truncate(index, 0)
            with index.open("ab") as file:
                file.write(b"".join(news))
            expected |= {f"new-{n}.csv" for n in range(8)}
        case "replaced":
            rebuild(index, [news[0], *lines])
            expected.add("new-0.csv")
        case "rebuilt in another order":
            rebuild(index, [lines[3], news[0], *lines[:3], *lines[4:]])
            expected.add("new-0.csv")
        case "overwritten in place":
            with index.open("r+b") as file:
                file.write(b"".join(news))
            expected |= {f"new-{n}.csv" for n in range(8)}
    second = look(db, bronze, first.cursor, "index")
    assert second.problems == ()
    assert known(db) == expected
    append_to_index(bronze, make_item("last.csv"))
    third = look(db, bronze, second.cursor, "index")
    assert (third.registered, third.seen) == (1, 1)


def test_a_rebuilt_index_is_read_from_the_start_even_when_it_ends_as_the_old_one_did(db: psycopg.Connection, bronze: Path) -> None:
    items = [make_item(f"{n:02}.csv") for n in range(30)]
    for item in items:
        publish(bronze, item)
    first = look(db, bronze, None, "index")
    rebuild(bronze / SOURCE / INDEX_FILE, [encode_item(item) for item in (make_item("99.csv"), *items[1:])])
    assert look(db, bronze, first.cursor, "index").registered == 1


def test_a_bad_line_is_named_with_its_offset_and_does_not_hold_up_the_rest(db: psycopg.Connection, bronze: Path) -> None:
    publish(bronze, make_item("a.csv"))
    index = bronze / SOURCE / INDEX_FILE
    offset = index.stat().st_size
    bad = [
        b"{torn" + encode_item(make_item("x.csv")),
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        encode_item(make_item("y.csv", source_type="companies")),
        encode_item(msgspec.structs.replace(make_item("z.csv"), directory="../companies/z.csv")),
        encode_item(msgspec.structs.replace(make_item("n.csv"), filename="a\x00b")),
        b"\n",
    ]
    for line in bad:
        with index.open("ab") as file:
            file.write(line)
    publish(bronze, make_item("b.csv"))
    found = look(db, bronze, None, "index")
    assert known(db) == {"a.csv", "b.csv"}
    assert {problem.path for problem in found.problems} == {f"{SOURCE}/{INDEX_FILE}"}
    offsets = [offset + sum(map(len, bad[:n])) for n in range(len(bad))]
    for problem, at in zip(found.problems, offsets, strict=True):
        assert f"line at byte {at} " in problem.message
        assert "medallion bronze reindex" in problem.message
    publish(bronze, make_item("c.csv"))
    again = look(db, bronze, found.cursor, "index")
    assert (again.registered, again.problems) == (1, ())


def test_an_index_that_is_missing_beside_items_is_a_problem_and_not_an_empty_source(db: psycopg.Connection, bronze: Path) -> None:
    publish(bronze, make_item("a.csv"))
    (bronze / SOURCE / INDEX_FILE).unlink()
    found = look(db, bronze, None, "index")
    assert [problem.path for problem in found.problems] == [f"{SOURCE}/{INDEX_FILE}"]


@BOTH
def test_a_folder_that_cannot_be_read_is_an_error_and_not_an_empty_source(db: psycopg.Connection, bronze: Path, mode: Mode) -> None:
    bronze.mkdir()
    (bronze / SOURCE).write_text("not a folder")
    with pytest.raises(TransientError, match=SOURCE):
        look(db, bronze, None, mode)


# -- directories that are no items -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("an_hour_later")
def test_directories_that_are_no_items_are_reported_until_they_are_put_right(db: psycopg.Connection, bronze: Path) -> None:
    publish(bronze, make_item("good.csv"))
    folder = bronze / SOURCE
    (folder / "empty").mkdir()
    (folder / "stray.txt").write_text("x")
    (folder / ".hidden").mkdir()
    (folder / os.fsdecode(b"no\xffutf8")).mkdir()
    shutil.copytree(folder / "good.csv", folder / "copy.csv")
    for name, content in {
        "foreign": encode_item(make_item("foreign", source_type="companies")),
        "torn": b'{"source',
        "deep": b"[" * 10**5,
    }.items():
        (folder / name).mkdir()
        (folder / name / ITEM_FILE).write_bytes(content)
    first = look(db, bronze, None, "scan")
    wrong = {"empty", "stray.txt", "no\\udcffutf8", "copy.csv", "foreign", "torn", "deep"}
    assert known(db) == {"good.csv"}
    assert {problem.path for problem in first.problems} == {f"{SOURCE}/{name}" for name in wrong}
    assert all("Move it" in problem.message or "Restore it" in problem.message for problem in first.problems)

    (folder / "torn" / ITEM_FILE).write_bytes(encode_item(make_item("torn")))
    second = look(db, bronze, first.cursor, "scan")
    assert second.registered == 1
    assert {problem.path for problem in second.problems} == {f"{SOURCE}/{name}" for name in wrong - {"torn"}}


# -- reconcile ---------------------------------------------------------------------------------------------------------


def test_reconcile_registers_what_the_index_never_named_and_reports_what_is_gone(db: psycopg.Connection, bronze: Path) -> None:
    for n in range(4):
        publish(bronze, make_item(f"{n}.csv"))
    cursor = look(db, bronze, None, "index").cursor
    rename_into_place(bronze, make_item("unnamed.csv"), stage(bronze, make_item("unnamed.csv")))
    (bronze / SOURCE / "empty").mkdir()
    shutil.rmtree(bronze / SOURCE / "2.csv")
    assert look(db, bronze, cursor, "index").registered == 0
    found = reconcile(db, LocalReader(bronze), SOURCE)
    assert (found.directories, found.known, found.registered) == (5, 4, 1)
    assert found.gone == (f"{SOURCE}/2.csv",)
    assert [problem.path for problem in found.problems] == [f"{SOURCE}/empty"]
    assert "unnamed.csv" in known(db)
    assert reconcile(db, LocalReader(bronze), SOURCE).registered == 0


# -- random interleavings ----------------------------------------------------------------------------------------------


class Publisher:
    """Publishes items step by step, as several publishers with delays between their steps would."""

    def __init__(self, bronze: Path) -> None:
        self.bronze = bronze
        self.items: list[BronzeItem] = []
        self.staged: list[tuple[BronzeItem, Path]] = []
        self.renamed: list[BronzeItem] = []

    def stage(self) -> None:
        item = make_item(f"{len(self.items)}.csv")
        self.items.append(item)
        self.staged.append((item, stage(self.bronze, item)))

    def rename(self, which: int) -> None:
        if self.staged:
            item, folder = self.staged.pop(which % len(self.staged))
            os.utime(folder, (which, which))
            rename_into_place(self.bronze, item, folder)
            self.renamed.append(item)

    def append(self, which: int) -> None:
        if self.renamed:
            item = self.renamed.pop(which % len(self.renamed))
            append_to_index(self.bronze, item)

    def publish(self) -> None:
        self.stage()
        self.rename(-1)
        self.append(-1)

    def reindex(self, which: int) -> None:
        folder = self.bronze / SOURCE
        if folder.is_dir():
            names = sorted((name for name in os.listdir(folder) if name != INDEX_FILE), key=lambda name: hash((name, which)))  # noqa: PTH208
            self.renamed.clear()
            rebuild(folder / INDEX_FILE, [(folder / name / ITEM_FILE).read_bytes() for name in names])

    def finish(self) -> None:
        while self.staged:
            self.rename(0)
        while self.renamed:
            self.append(0)


STEPS = st.tuples(
    st.sampled_from(["stage", "rename", "append", "publish", "scan", "index", "auto", "lost", "crash", "reindex"]), st.integers(0, 5)
)


class Silver:
    """Ticks as the sensor makes them, and the runs of what they claim; with lost cursors and crashes before the commit."""

    def __init__(self, db: psycopg.Connection, bronze: Path) -> None:
        self.db, self.bronze = db, bronze
        self.cursor: Cursor | None = None
        self.claimed: list[str] = []

    def tick(self, mode: Mode, *, is_cursor_lost: bool = False, is_crash: bool = False) -> None:
        found = discover(self.db, LocalReader(self.bronze), SOURCE, self.cursor, mode, -1)
        batches = Ledger(self.db).claim(SOURCE, FEW_ITEMS, "v1", NOON)
        if is_crash:
            self.db.rollback()
            return
        self.db.commit()
        # A first item that is renamed and not yet in the index is all that may be complained of.
        assert {problem.path for problem in found.problems} <= {f"{SOURCE}/{INDEX_FILE}"}
        self.cursor = self.cursor if is_cursor_lost else found.cursor
        for batch in batches:
            items = Ledger(self.db).start_batch(batch.batch_id, "r", "v1", FEW_ITEMS, NOON)
            self.claimed += [item.external_id for item in items]
            Ledger(self.db).leave_batch(batch.batch_id)


FEW_ITEMS = SourceSettings(max_items=3, max_in_flight=1_000)


@given(steps=st.lists(STEPS, max_size=40), last=st.sampled_from(["scan", "index"]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_order_of_publishing_and_ticks_every_item_is_claimed_exactly_once(
    db: psycopg.Connection, tmp_path: Path, steps: list[tuple[str, int]], last: Mode
) -> None:
    db.rollback()
    db.execute("TRUNCATE ops.file_ingestions")
    db.commit()
    bronze = Path(tempfile.mkdtemp(dir=tmp_path))
    publisher, silver = Publisher(bronze), Silver(db, bronze)
    moves: dict[str, Callable[[int], None]] = {
        "stage": lambda _: publisher.stage(),
        "rename": publisher.rename,
        "append": publisher.append,
        "publish": lambda _: publisher.publish(),
        "reindex": publisher.reindex,
        "scan": lambda _: silver.tick("scan"),
        "index": lambda _: silver.tick("index"),
        "auto": lambda _: silver.tick("auto"),
        "lost": lambda _: silver.tick("scan", is_cursor_lost=True),
        "crash": lambda _: silver.tick("scan", is_crash=True),
    }
    for step, which in steps:
        moves[step](which)
    publisher.finish()
    for _ in range(len(publisher.items) + 2):
        silver.tick(last)
    assert sorted(silver.claimed) == sorted(item.external_id for item in publisher.items)
