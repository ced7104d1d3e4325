"""Gold follows silver from both sides, whatever the order in which things arrive."""

import psycopg
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medallion_defs.core.ids import file_id
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.gold.enrich import enrich, read_unmatched
from medallion_defs.gold.feed import Work, plan
from tests.integration.gold.silver_rows import (
    COMPANIES_FILE,
    EVENTS_FILE,
    count_differences,
    drain,
    put_companies,
    put_events,
    read_gold,
)


def test_events_are_joined_with_their_companies_and_kept_without_one(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_companies(db, {"B1": "Love Corp Car"})
    put_events(db, {"e1": "B1", "e2": "B9", "e3": None})
    [result], _ = drain(gold)
    assert read_gold(db) == {"e1": ("B1", "Love Corp Car", "matched"), "e2": ("B9", None, "unmatched"), "e3": (None, None, "no_company")}
    assert (result.created, result.updated, result.matched, result.unmatched, result.no_lookup) == (3, 0, 1, 1, 1)
    assert result.missing == {"B9": 1}
    assert result.per_file == {EVENTS_FILE: (3, 0)}


def test_a_company_that_arrives_later_completes_its_events(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_events(db, {"e1": "B1", "e2": "B1", "e3": "B2"})
    _, cursor = drain(gold)
    put_companies(db, {"B1": "Love Corp Car"})
    [result], _ = drain(gold, cursor)
    assert (result.created, result.updated, result.matched) == (0, 2, 2)
    assert result.per_file == {COMPANIES_FILE: (0, 2)}
    assert read_gold(db)["e1"] == ("B1", "Love Corp Car", "matched")
    assert count_differences(db) == 0


def test_a_company_that_changes_changes_its_events(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_companies(db, {"B1": "Love Corp Car", "B2": "Liberty"})
    put_events(db, {"e1": "B1", "e2": "B2"})
    _, cursor = drain(gold)
    put_companies(db, {"B1": "Love Corporation"})
    [result], _ = drain(gold, cursor)
    assert result.updated == 1
    assert {event: name for event, (_, name, _) in read_gold(db).items()} == {"e1": "Love Corporation", "e2": "Liberty"}


def test_an_event_that_changes_or_loses_its_company_follows(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_companies(db, {"B1": "Love Corp Car", "B2": "Liberty"})
    put_events(db, {"e1": "B1", "e2": "B1"})
    _, cursor = drain(gold)
    put_events(db, {"e1": "B2", "e2": None})
    drain(gold, cursor)
    assert read_gold(db) == {"e1": ("B2", "Liberty", "matched"), "e2": (None, None, "no_company")}
    assert count_differences(db) == 0


def test_the_same_work_twice_changes_nothing(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_companies(db, {"B1": "Love Corp Car"})
    put_events(db, {"e1": "B1", "e2": "B9"})
    work = plan(gold, ENRICHMENT, 0, 1000).work
    assert work is not None
    enrich(gold, ENRICHMENT, work)
    gold.commit()
    before = db.execute("SELECT * FROM gold.driver_events_enriched ORDER BY 1").fetchall()
    again = enrich(gold, ENRICHMENT, work)
    gold.commit()
    assert (again.created, again.updated, again.unchanged, again.per_file) == (0, 0, 2, {})
    db.commit()
    assert db.execute("SELECT * FROM gold.driver_events_enriched ORDER BY 1").fetchall() == before


def test_nothing_new_is_no_work(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    assert plan(gold, ENRICHMENT, 0, 1000).work is None
    put_companies(db, {"B1": "Love Corp Car"})
    put_events(db, {"e1": "B1"})
    _, cursor = drain(gold)
    found = plan(gold, ENRICHMENT, cursor, 1000)
    assert found.work is None
    assert found.positions.lookup == cursor > 0


def test_a_company_without_events_moves_the_cursor_and_makes_no_work(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_companies(db, {"B1": "Love Corp Car"})
    found = plan(gold, ENRICHMENT, 0, 1000)
    [(newest,)] = db.execute("SELECT max(change_seq) FROM silver.companies").fetchall()
    assert (found.work, found.positions.lookup) == (None, newest)


def test_a_lost_cursor_costs_no_row_and_makes_no_work(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_companies(db, {"B1": "Love Corp Car", "B2": "Liberty"})
    put_events(db, {"e1": "B1", "e2": "B2"})
    _, cursor = drain(gold)
    found = plan(gold, ENRICHMENT, 0, 1000)
    assert (found.work, found.positions.lookup) == (None, cursor)


def test_ranges_are_cut_at_max_rows(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_events(db, {f"e{n:02}": "B1" for n in range(25)})
    results, _ = drain(gold, max_rows=10)
    assert [result.created for result in results] == [10, 10, 5]


def test_a_range_is_full_however_sparse_its_numbers_are(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_events(db, {f"e{n:02}": "B1" for n in range(20)})
    db.execute("SELECT setval('silver.change_seq', 1000000)")
    put_events(db, {f"e{n:02}": "B2" for n in range(0, 20, 2)})
    results, _ = drain(gold, max_rows=20)
    assert [result.created for result in results] == [20]


def test_companies_are_cut_where_their_events_exceed_max_rows_but_none_is_cut_in_two(
    db: psycopg.Connection, gold: psycopg.Connection
) -> None:
    put_events(
        db, {f"{company}-{n:02}": company for company in ("B1", "B2", "B3", "B4") for n in range(4)} | {f"B5-{n}": "B5" for n in range(20)}
    )
    _, cursor = drain(gold)
    put_companies(db, {f"B{n}": "x" for n in range(1, 6)})
    results, _ = drain(gold, cursor, max_rows=10)
    assert [result.updated for result in results] == [8, 8, 20]
    assert count_differences(db) == 0


def test_work_that_starts_beyond_gold_is_widened_so_that_no_hole_is_left(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_events(db, {"e1": None, "e2": None, "e3": None})
    (first, second, third) = (seq for (seq,) in db.execute("SELECT change_seq FROM silver.driver_events ORDER BY 1"))
    assert first < second < third
    enrich(gold, ENRICHMENT, Work(second, third, 0, 0))
    gold.commit()
    assert sorted(read_gold(db)) == ["e1", "e2", "e3"]


def test_a_company_change_does_not_carry_gold_past_events_not_done_yet(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    """e1 changes after e2 appears: if the company's side took e1's new version, gold's position would pass e2."""
    put_companies(db, {"B1": "Love Corp Car"})
    put_events(db, {"e1": "B1"})
    _, cursor = drain(gold)
    put_events(db, {"e2": "B1"})
    put_events(db, {"e1": "B1"})
    put_companies(db, {"B1": "Love Corporation"})
    [(newest,)] = db.execute("SELECT max(change_seq) FROM silver.companies").fetchall()
    enrich(gold, ENRICHMENT, Work(0, 0, cursor, newest))
    gold.commit()
    drain(gold, newest)
    assert count_differences(db) == 0


def test_an_event_deleted_by_hand_leaves_gold_and_does_not_keep_the_sensor_busy(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_events(db, {"e1": "B1"})
    _, cursor = drain(gold)
    db.execute("DELETE FROM silver.driver_events")
    put_companies(db, {"B1": "Love Corp Car"})
    [result], cursor = drain(gold, cursor)
    assert (result.deleted, read_gold(db)) == (1, {})
    assert plan(gold, ENRICHMENT, cursor, 1000).work is None


def test_rows_count_for_the_file_that_caused_them(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    other = file_id("driver_events", "other.csv", 1)
    put_events(db, {"e1": "B1", "e2": "B1"})
    put_events(db, {"e3": "B1"}, file=other)
    results, _ = drain(gold)
    put_events(db, {"e2": "B1", "e4": None}, file=other)
    put_companies(db, {"B1": "Love Corp Car"})
    results += drain(gold)[0]
    assert [dict(result.per_file) for result in results] == [
        {EVENTS_FILE: (2, 0), other: (1, 0)},
        {other: (1, 1), COMPANIES_FILE: (0, 2)},
    ]


def test_the_report_names_the_companies_that_most_events_wait_for(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_companies(db, {"B1": "Love Corp Car"})
    put_events(db, {"e1": "B1", "e2": "B8", "e3": "B9", "e4": "B9", "e5": None})
    drain(gold)
    report = read_unmatched(gold, ENRICHMENT, top=1)
    assert (report.rows, report.naming_rows, report.unmatched_rows, report.share) == (5, 4, 3, 0.75)
    assert report.missing == {"B9": 2}


def test_an_empty_gold_table_has_no_unmatched_share(gold: psycopg.Connection) -> None:
    assert read_unmatched(gold, ENRICHMENT).share == 0


EVENT_IDS = st.sampled_from([f"e{n}" for n in range(6)])
COMPANY_IDS = st.sampled_from(["B1", "B2", "B3"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), EVENT_IDS, st.none() | COMPANY_IDS),
        st.tuples(st.just("company"), COMPANY_IDS, st.text("ab", min_size=1, max_size=2)),
        st.tuples(st.just("enrich"), st.integers(1, 4), st.booleans()),
    ),
    max_size=25,
)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_order_of_arrivals_and_runs_gives_the_plain_join(db: psycopg.Connection, steps: list[tuple[str, object, object]]) -> None:
    db.execute("TRUNCATE silver.driver_events, silver.companies, gold.driver_events_enriched")
    cursor = 0
    abandoned: list[Work] = []
    for kind, first, second in steps:
        if kind == "event":
            put_events(db, {str(first): None if second is None else str(second)})
        elif kind == "company":
            put_companies(db, {str(first): str(second)})
        else:
            found = plan(db, ENRICHMENT, cursor, int(str(first)))
            cursor = found.positions.lookup
            abandoned += [found.work] if found.work else []
            # A run that was delayed comes back later with what it was told then, or never.
            if abandoned and second:
                enrich(db, ENRICHMENT, abandoned.pop(0))
            db.commit()
    drain(db, cursor, max_rows=3)
    assert count_differences(db) == 0
