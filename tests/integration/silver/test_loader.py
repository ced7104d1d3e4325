"""The silver loader on a real Postgres: what is in silver afterwards, and what each item's counts say."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medallion_defs.core.errors import ConfigurationError, TerminalError, TransientError
from medallion_defs.core.ids import file_id
from medallion_defs.silver.contract import ItemFacts, RejectedRecord
from medallion_defs.silver.digest import digest_table
from medallion_defs.silver.loader import ItemLoad, classify_database_error, load_items
from medallion_defs.silver.stage import Record
from medallion_defs.silver.tables import REJECTED_ROWS
from medallion_defs.sources.companies.tables import TABLE as COMPANIES
from medallion_defs.sources.driver_events.tables import TABLE as EVENTS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class File:
    """A file of companies. `records` are keys with a name, or `name=number` with the number in attributes, or None: a reject."""

    name: str
    records: tuple[tuple[str, str | None], ...]
    minute: int = 0
    breaks_after: int | None = None

    @property
    def facts(self) -> ItemFacts:
        return ItemFacts(file_id("companies", self.name, 1), self.name, NOON + timedelta(minutes=self.minute))

    def read(self) -> Iterator[Record]:
        for number, (key, name) in enumerate(self.records, start=1):
            if self.breaks_after is not None and number > self.breaks_after:
                raise TerminalError(f"{self.name} is damaged")
            name, _, value = (name or "").partition("=")
            yield company(number, key, name, f'{{"n": {value or 0}}}') if name else reject(number, key)


def company(number: int, key: str, name: str | None, attributes: str = "{}", flags: str = "") -> Record:
    return (number, key, name, None, None, None, 1990, attributes, flags)


def reject(number: int, key: str) -> RejectedRecord:
    return RejectedRecord(number, "invalid_value", f"{key} is wrong", key)


def load(db: psycopg.Connection, *files: File, share: float = 1.0) -> list[ItemLoad]:
    loads = load_items(db, COMPANIES, [(file.facts, file.read()) for file in files], max_rejected_share=share)
    db.commit()
    return loads


def load_records(db: psycopg.Connection, name: str, *records: Record, minute: int = 0) -> ItemLoad:
    (result,) = load_items(db, COMPANIES, [(File(name, (), minute).facts, iter(records))], max_rejected_share=1.0)
    db.commit()
    return result


def counts(load: ItemLoad) -> tuple[int, int, int, int, int, int]:
    assert load.error is None
    return load.read, load.created, load.updated, load.unchanged, load.duplicate, load.rejected


def names(db: psycopg.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT company_id, name FROM silver.companies").fetchall())


def empty(db: psycopg.Connection) -> None:
    db.execute("TRUNCATE silver.companies, silver.rejected_rows")
    db.commit()


def oracle(files: Sequence[File]) -> dict[str, tuple[str, UUID, int]]:
    """Who wins each key, said as plainly as can be."""
    rows = sorted(
        (file.facts.fetched_at, file.facts.file_id, number, key, name.partition("=")[0])
        for file in files
        for number, (key, name) in enumerate(file.records, start=1)
        if name is not None
    )
    return {key: (name, file, number) for _, file, number, key, name in rows}


# 1.0 and 1.00 are equal to Postgres and yet not the same text.
keys, contents = st.sampled_from("abcde"), st.sampled_from(["one", "two=1.0", "two=1.00", None])
records = st.lists(st.tuples(keys, contents), max_size=6).map(tuple)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[File], list[list[File]]]:
    """Files with colliding keys, contents and times; and an order in which they arrive, in batches, some more than once."""
    minutes_and_records = draw(st.lists(st.tuples(st.integers(0, 2), records), min_size=1, max_size=5))
    files = [File(f"{number}.csv", rows, minute) for number, (minute, rows) in enumerate(minutes_and_records)]
    arrivals = draw(st.permutations(files)) + draw(st.lists(st.sampled_from(files), max_size=3))
    batches: list[list[File]] = [[]]
    for file in arrivals:
        if file in batches[-1] or draw(st.booleans()):
            batches.append([])
        batches[-1].append(file)
    return files, batches


slow_fixture = hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@slow_fixture
@given(deliveries())
def test_invariant_5_silver_is_a_function_of_bronze(db: psycopg.Connection, delivery: tuple[list[File], list[list[File]]]) -> None:
    files, batches = delivery
    empty(db)
    for file in files:
        load(db, file)
    digests = [digest_table(db, table) for table in (COMPANIES, REJECTED_ROWS)]

    empty(db)
    for batch in batches:
        load(db, *batch)
    assert [digest_table(db, table) for table in (COMPANIES, REJECTED_ROWS)] == digests
    rows = db.execute("SELECT company_id, name, file_id, source_record FROM silver.companies").fetchall()
    assert {key: tuple(rest) for key, *rest in rows} == oracle(files)


@slow_fixture
@given(deliveries())
def test_invariant_6_counts_add_up_per_item(db: psycopg.Connection, delivery: tuple[list[File], list[list[File]]]) -> None:
    empty(db)
    for batch in delivery[1]:
        before = dict((key, rest) for key, *rest in db.execute(SNAPSHOT))
        loads = dict(zip(batch, load(db, *batch), strict=True))
        after = dict((key, rest) for key, *rest in db.execute(SNAPSHOT))
        assert len(after) - len(before) == sum(item.created - item.deleted for item in loads.values())
        for file, item in loads.items():
            assert item.file_id == file.facts.file_id
            assert item.read == len(file.records) == item.created + item.updated + item.unchanged + item.duplicate + item.rejected
            mine = {key for key, row in after.items() if row[1] == item.file_id}
            assert item.created == len(mine - before.keys())
            assert item.updated == len([key for key in mine & before.keys() if before[key][0] != after[key][0]])
            assert item.unchanged == len([key for key in mine & before.keys() if before[key][0] == after[key][0]])
            assert item.rejected == len([key for key, name in file.records if name is None])


SNAPSHOT = "SELECT company_id, name, file_id FROM silver.companies"


def test_a_first_load_creates_every_key(db: psycopg.Connection) -> None:
    (item,) = load(db, File("a.csv", (("x", "one"), ("y", "two"))))
    assert counts(item) == (2, 2, 0, 0, 0, 0)
    assert names(db) == {"x": "one", "y": "two"}


def test_within_a_file_the_last_record_of_a_key_wins(db: psycopg.Connection) -> None:
    (item,) = load(db, File("a.csv", (("x", "one"), ("x", "two"), ("x", "three"))))
    assert counts(item) == (3, 1, 0, 0, 2, 0)
    assert names(db) == {"x": "three"}


def test_across_a_batch_the_file_fetched_last_wins_whatever_its_place(db: psycopg.Connection) -> None:
    new, old = load(db, File("new.csv", (("x", "new"),), minute=2), File("old.csv", (("x", "old"), ("y", "old")), minute=1))
    assert counts(new) == (1, 1, 0, 0, 0, 0)
    assert counts(old) == (2, 1, 0, 0, 1, 0)
    assert names(db) == {"x": "new", "y": "old"}


def test_a_newer_file_updates_what_differs_and_takes_over_what_does_not(db: psycopg.Connection) -> None:
    load(db, File("a.csv", (("x", "one"), ("y", "two")), minute=1))
    later = File("b.csv", (("x", "changed"), ("y", "two"), ("z", "three")), minute=2)
    assert counts(load(db, later)[0]) == (3, 1, 1, 1, 0, 0)
    assert {row[0] for row in db.execute("SELECT file_id FROM silver.companies")} == {later.facts.file_id}


def test_an_older_file_that_comes_late_changes_nothing_but_adds_its_own_keys(db: psycopg.Connection) -> None:
    load(db, File("new.csv", (("x", "new"),), minute=2))
    before = db.execute("SELECT change_seq, updated_at FROM silver.companies").fetchall()
    (item,) = load(db, File("old.csv", (("x", "old"), ("y", "old")), minute=1))
    assert counts(item) == (2, 1, 0, 0, 1, 0)
    assert db.execute("SELECT change_seq, updated_at FROM silver.companies WHERE company_id = 'x'").fetchall() == before


def test_loading_the_same_file_again_writes_nothing(db: psycopg.Connection) -> None:
    file = File("a.csv", (("x", "one"), ("y", "two"), ("x", "three")))
    load(db, file)
    before = db.execute("SELECT company_id, change_seq, updated_at, xmin::text FROM silver.companies ORDER BY 1").fetchall()
    assert counts(load(db, file)[0]) == (3, 0, 0, 2, 1, 0)
    assert db.execute("SELECT company_id, change_seq, updated_at, xmin::text FROM silver.companies ORDER BY 1").fetchall() == before


def test_the_same_file_read_by_a_mended_transform_updates_its_rows(db: psycopg.Connection) -> None:
    load_records(db, "a.csv", company(1, "x", "wrong"))
    assert counts(load_records(db, "a.csv", company(1, "x", "right"))) == (1, 0, 1, 0, 0, 0)
    assert names(db) == {"x": "right"}


def test_a_null_that_stays_null_is_no_change_and_a_flag_that_comes_is_one(db: psycopg.Connection) -> None:
    load_records(db, "a.csv", company(1, "x", None), company(2, "y", None))
    again = load_records(db, "b.csv", company(1, "x", None), company(2, "y", None, flags="missing_name"), minute=1)
    assert counts(again) == (2, 0, 1, 1, 0, 0)
    assert db.execute("SELECT company_id, quality_flags FROM silver.companies ORDER BY 1").fetchall() == [
        ("x", []),
        ("y", ["missing_name"]),
    ]


def test_json_of_another_layout_is_no_change_and_of_another_value_is_one(db: psycopg.Connection) -> None:
    load_records(db, "a.csv", company(1, "x", "n", '{"a": 1, "b": 2}'), company(2, "y", "n", '{"a": 1}'))
    again = load_records(db, "b.csv", company(1, "x", "n", '{"b":2,"a":1}'), company(2, "y", "n", '{"a": null}'), minute=1)
    assert counts(again) == (2, 0, 1, 1, 0, 0)


def test_every_write_moves_the_row_on_in_the_change_feed(db: psycopg.Connection) -> None:
    load(db, File("a.csv", (("x", "one"), ("y", "one")), minute=1))
    ((highest, first_update),) = db.execute("SELECT max(change_seq), max(updated_at) FROM silver.companies").fetchall()
    load(db, File("b.csv", (("x", "one"), ("y", "two")), minute=2))
    assert all(seq > highest and at > first_update for seq, at in db.execute("SELECT change_seq, updated_at FROM silver.companies"))
    assert db.execute("SELECT count(DISTINCT ingested_at) FROM silver.companies WHERE ingested_at = %s", (first_update,)).fetchone() == (1,)


def test_flags_are_counted_for_every_row_that_was_read(db: psycopg.Connection) -> None:
    item = load_records(db, "a.csv", company(1, "x", "n", flags="b,a"), company(2, "x", "n", flags="a"), company(3, "y", "n"))
    assert item.flags == {"a": 2, "b": 1}
    assert db.execute("SELECT quality_flags FROM silver.companies ORDER BY company_id").fetchall() == [(["a"],), ([],)]


def test_rejected_records_are_kept_with_their_reason_and_replaced_by_the_next_load_of_the_file(db: psycopg.Connection) -> None:
    first = File("a.csv", (("x", "one"), ("bad", None), ("worse", None)))
    other = File("b.csv", (("y", "one"), ("other", None)))
    load(db, first, other)
    for _ in range(2):
        assert counts(load(db, replace(first, records=(("x", "one"), ("bad", None), ("good", "two"))))[0])[5] == 1
    assert db.execute(
        "SELECT file_id, source_record, error_code, message, excerpt FROM silver.rejected_rows ORDER BY excerpt"
    ).fetchall() == [
        (first.facts.file_id, 2, "invalid_value", "bad is wrong", "bad"),
        (other.facts.file_id, 2, "invalid_value", "other is wrong", "other"),
    ]


def test_a_reject_that_quotes_what_postgres_cannot_store_costs_only_itself(db: psycopg.Connection) -> None:
    item = load_records(db, "a.csv", company(1, "x", "n"), RejectedRecord(2, "invalid_value", "odd \0 and \ud800", "\0"))
    assert counts(item) == (2, 1, 0, 0, 0, 1)
    assert db.execute("SELECT message, excerpt FROM silver.rejected_rows").fetchall() == [("odd \u2400 and ?", "\u2400")]


def test_an_iterator_that_fails_half_way_fails_its_item_alone(db: psycopg.Connection) -> None:
    load(db, File("bad.csv", (("old reject", None),)))
    rows = (("x", "one"), ("new reject", None), ("y", "two"), ("z", "three"))
    good, bad, also_good = load(
        db,
        File("good.csv", (("x", "kept"),), minute=0),
        File("bad.csv", rows, minute=1, breaks_after=3),
        File("last.csv", (("w", "kept"),)),
    )
    assert counts(good) == counts(also_good) == (1, 1, 0, 0, 0, 0)
    assert str(bad.error) == "bad.csv is damaged"
    assert replace(bad, error=None) == ItemLoad(bad.file_id, tried=(3, 1))
    assert names(db) == {"x": "kept", "w": "kept"}
    assert db.execute("SELECT excerpt FROM silver.rejected_rows").fetchall() == [("new reject",)]


def test_an_item_with_too_many_rejects_is_refused_whole_and_says_why(db: psycopg.Connection) -> None:
    half = File("half.csv", (("x", "one"), ("bad", None)))
    most = File("most.csv", (("y", "one"), ("bad", None), ("worse", None)))
    loaded, refused = load(db, half, most, share=0.5)
    assert counts(loaded) == (2, 1, 0, 0, 0, 1)
    assert isinstance(refused.error, TerminalError)
    assert "most.csv: 2 of 3 records were rejected (66.7%)" in str(refused.error)
    assert replace(refused, error=None) == ItemLoad(refused.file_id, tried=(3, 2))
    assert names(db) == {"x": "one"}
    assert db.execute("SELECT count(*) FROM silver.rejected_rows WHERE file_id = %s", (refused.file_id,)).fetchone() == (2,)


def test_of_a_refused_item_the_rows_with_each_flag_are_told(db: psycopg.Connection) -> None:
    rows = [company(1, "x", "one", flags="a,b"), company(2, "y", "two", flags="a"), *(reject(number, "bad") for number in range(3, 6))]
    (refused,) = load_items(db, COMPANIES, [(File("most.csv", ()).facts, iter(rows))], max_rejected_share=0.5)
    assert refused.error is not None
    assert (refused.tried, refused.flags) == ((5, 3), {"a": 2, "b": 1})


def test_an_empty_file_and_a_file_of_rejects_only_load_without_rows(db: psycopg.Connection) -> None:
    empty_file, rejects = load(db, File("empty.csv", ()), File("rejects.csv", (("bad", None),)))
    assert counts(empty_file) == (0, 0, 0, 0, 0, 0)
    assert counts(rejects) == (1, 0, 0, 0, 0, 1)


def test_any_other_exception_leaves_nothing_behind(db: psycopg.Connection) -> None:
    def broken() -> Iterator[Record]:
        yield company(1, "x", "one")
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        load_items(db, COMPANIES, [(File("a.csv", ()).facts, broken())], max_rejected_share=1.0)
    db.rollback()
    assert names(db) == {}
    assert counts(load(db, File("a.csv", (("x", "one"),)))[0]) == (1, 1, 0, 0, 0, 0)


def test_two_loads_share_one_transaction_and_one_rollback(db: psycopg.Connection) -> None:
    for name in ("a.csv", "b.csv"):
        load_items(db, COMPANIES, [(File(name, ()).facts, iter([company(1, name, name)]))], max_rejected_share=1.0)
    assert set(names(db)) == {"a.csv", "b.csv"}
    db.rollback()
    assert names(db) == {}


def test_the_rights_of_the_silver_role_are_enough(db: psycopg.Connection) -> None:
    db.execute("SET ROLE medallion_silver")
    assert counts(load(db, File("a.csv", (("x", "one"), ("bad", None))))[0]) == (2, 1, 0, 0, 0, 1)
    assert counts(load(db, File("b.csv", (("x", "two"),), minute=1))[0]) == (1, 0, 1, 0, 0, 0)


def test_a_table_with_times_and_numbers_loads_as_declared(db: psycopg.Connection) -> None:
    at = datetime(2015, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    row = (7, "E1", "D1", None, "B1", "dispatch", at, 40.5, -73.25, None, '{"note": "ü"}', "")
    load_items(db, EVENTS, [(File("events.jsonl", ()).facts, iter([row]))], max_rejected_share=1.0)
    assert db.execute(
        "SELECT source_record, event_id, driver_id, vehicle_id, event_at, latitude, longitude, speed_kmh, attributes, bronze_at "
        "FROM silver.driver_events"
    ).fetchall() == [(7, "E1", "D1", None, at, 40.5, -73.25, None, {"note": "ü"}, NOON)]


def test_two_loaders_of_the_same_keys_wait_for_each_other(db: psycopg.Connection, database_url: str) -> None:
    with psycopg.connect(database_url) as other:
        load_items(
            db, COMPANIES, [(File("a.csv", (("x", "one"),), 1).facts, File("a.csv", (("x", "one"),), 1).read())], max_rejected_share=1.0
        )
        other.execute("SET lock_timeout = '100ms'")
        later = File("b.csv", (("x", "two"),), minute=2)
        with pytest.raises(psycopg.errors.LockNotAvailable) as caught:
            load(other, later)
        assert isinstance(classify_database_error(caught.value), TransientError)
        other.rollback()
        db.commit()
        assert counts(load(other, later)[0]) == (1, 0, 1, 0, 0, 0)


def test_a_value_that_the_column_cannot_hold_is_terminal(db: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error) as caught:
        load_records(db, "a.csv", company(1, "x", "n", '{"broken'))
    error = classify_database_error(caught.value)
    assert isinstance(error, TerminalError)
    assert "json" in str(error)


def test_a_lost_connection_is_transient(db: psycopg.Connection, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as killer:
        killer.execute("SELECT pg_terminate_backend(%s)", (db.info.backend_pid,))
    with pytest.raises(psycopg.Error) as caught:
        load(db, File("a.csv", (("x", "one"),)))
    assert isinstance(classify_database_error(caught.value), TransientError)


def test_a_file_twice_in_a_batch_is_refused(db: psycopg.Connection) -> None:
    file = File("a.csv", (("x", "one"),))
    with pytest.raises(ValueError, match="twice"):
        load(db, file, file)


def test_a_snapshot_that_cannot_see_other_loads_is_refused(db: psycopg.Connection) -> None:
    db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with pytest.raises(ConfigurationError, match="READ COMMITTED"):
        load(db, File("a.csv", (("x", "one"),)))


def test_without_a_transaction_nothing_is_loaded(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection, pytest.raises(ConfigurationError, match="open transaction"):
        load_items(connection, COMPANIES, [], max_rejected_share=1.0)


def test_the_digest_sees_every_value_and_no_order(db: psycopg.Connection) -> None:
    rows = [(f"k{number}", f"n{number}") for number in range(50)]
    load(db, File("a.csv", tuple(rows)))
    digest = digest_table(db, COMPANIES)
    assert digest.startswith("50-")
    db.execute("UPDATE silver.companies SET name = name")
    assert digest_table(db, COMPANIES) == digest
    db.execute("UPDATE silver.companies SET city = '' WHERE company_id = 'k7'")
    assert digest_table(db, COMPANIES) != digest


def test_large_random_batches_agree_with_the_plain_rule(db: psycopg.Connection) -> None:
    rng = random.Random(5)
    files = [
        File(f"{number}.csv", tuple((f"k{rng.randrange(3000)}", rng.choice("abc")) for _ in range(2000)), minute=rng.randrange(3))
        for number in range(6)
    ]
    load(db, *files[:2])
    loads = load(db, *files[2:])
    rows = db.execute("SELECT company_id, name, file_id, source_record FROM silver.companies").fetchall()
    assert {key: tuple(rest) for key, *rest in rows} == oracle(files)
    assert all(sum(counts(item)[1:]) == 2000 for item in loads)
