"""Neither side of an enrichment misses what the other does at the same moment."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.gold.enrich import EnrichResult, enrich
from medallion_defs.gold.feed import Work, plan
from tests.integration.gold.conftest import AS_GOLD
from tests.integration.gold.silver_rows import count_differences, drain, put_companies, put_events, read_gold

DEADLINE_SECONDS = 60


def test_a_company_that_commits_while_its_events_are_enriched_is_not_missed(
    db: psycopg.Connection, gold: psycopg.Connection, other_gold: psycopg.Connection
) -> None:
    """The events' transaction has read no company and is not visible yet: to the sensor the new company seems to have no events."""
    put_events(db, {"e1": "B1"})
    work = plan(gold, ENRICHMENT, 0, 1000).work
    assert work is not None
    enrich(gold, ENRICHMENT, work)
    put_companies(db, {"B1": "Love Corp Car"})
    cursor = plan(other_gold, ENRICHMENT, 0, 1000).positions.lookup
    other_gold.commit()
    gold.commit()
    drain(other_gold, cursor)
    assert read_gold(db) == {"e1": ("B1", "Love Corp Car", "matched")}


def test_the_companies_side_waits_for_the_events_side_and_then_sees_its_rows(
    db: psycopg.Connection, gold: psycopg.Connection, other_gold: psycopg.Connection
) -> None:
    put_events(db, {"e1": "B1"})
    work = plan(gold, ENRICHMENT, 0, 1000).work
    assert work is not None
    enrich(gold, ENRICHMENT, work)
    put_companies(db, {"B1": "Love Corp Car"})
    [(newest,)] = db.execute("SELECT max(change_seq) FROM silver.companies").fetchall()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(enrich, other_gold, ENRICHMENT, Work(0, 0, 0, newest))
        wait_until_blocked(db, other_gold)
        gold.commit()
        result: EnrichResult = waiting.result(DEADLINE_SECONDS)
    other_gold.commit()
    assert result.updated == 1
    assert read_gold(db) == {"e1": ("B1", "Love Corp Car", "matched")}


def test_an_enrichment_that_rolls_back_leaves_the_same_work(db: psycopg.Connection, gold: psycopg.Connection) -> None:
    put_events(db, {"e1": "B1"})
    work = plan(gold, ENRICHMENT, 0, 1000).work
    assert work is not None
    enrich(gold, ENRICHMENT, work)
    gold.rollback()
    assert plan(gold, ENRICHMENT, 0, 1000).work == work


@pytest.mark.parametrize("seed", range(3))
def test_invariant_7_no_row_passes_gold_unseen_under_eight_writers(database_url: str, db: psycopg.Connection, seed: int) -> None:
    with ThreadPoolExecutor(10) as pool:
        writers = [pool.submit(write_at_random, database_url, seed * 100 + number) for number in range(8)]
        followers = [pool.submit(follow, database_url, writers, max_rows) for max_rows in (7, 50)]
        for writer in writers:
            writer.result(DEADLINE_SECONDS)
        cursors = [follower.result(DEADLINE_SECONDS) for follower in followers]
    # Each of the two cursors alone must do: the greater one is the one that could have passed a row.
    drain(db, max(cursors))
    [(events,)] = db.execute("SELECT count(*) FROM silver.driver_events").fetchall()
    assert len(read_gold(db)) == events > 0
    assert count_differences(db) == 0


def write_at_random(database_url: str, seed: int) -> None:
    """Thirty transactions that put events or companies, in random sizes."""
    dice = random.Random(seed)
    companies = [f"B{n}" for n in range(5)]
    with psycopg.connect(database_url) as db:
        for step in range(30):
            if dice.random() < 0.3:
                put_companies(db, {company: f"{seed}-{step}" for company in sorted(dice.sample(companies, 2))})
            else:
                events = sorted(dice.sample(range(60), dice.randint(1, 10)))
                put_events(db, {f"e{n}": dice.choice([*companies, None]) for n in events})


def follow(database_url: str, writers: list, max_rows: int) -> int:
    """Plan and enrich, as the sensor and its runs do, until the writers have ended; return the cursor."""
    cursor = 0
    with psycopg.connect(database_url, options=AS_GOLD) as gold:
        while not all(writer.done() for writer in writers):
            found = plan(gold, ENRICHMENT, cursor, max_rows)
            gold.commit()
            cursor = found.positions.lookup
            if found.work:
                enrich(gold, ENRICHMENT, found.work)
                gold.commit()
    return cursor


def wait_until_blocked(db: psycopg.Connection, blocked: psycopg.Connection) -> None:
    """Return once the backend of `blocked` waits for a lock."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    query = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
    while db.execute(query, (blocked.info.backend_pid,)).fetchall() == [(0,)]:
        db.commit()
        assert time.monotonic() < deadline, "nothing waits for the gold table's lock"
    db.commit()
