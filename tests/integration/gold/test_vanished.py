"""Gold follows the deletion of silver rows by the change feed, whoever deletes: no comparison of whole tables is needed."""

import psycopg

from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.gold.feed import plan
from medallion_defs.silver.loader import prune_vanished
from tests.integration.gold.silver_rows import count_differences, drain, put_companies, put_events, read_gold


def fill(db: psycopg.Connection) -> None:
    put_companies(db, {"B1": "One", "B2": "Two"})
    put_events(db, {"e1": "B1", "e2": "B2", "e3": "B1"})
    drain(db)


def delete(db: psycopg.Connection, query: str) -> None:
    db.execute(query)
    db.commit()


def test_a_row_whose_event_is_gone_goes_and_the_plan_says_so(db: psycopg.Connection) -> None:
    fill(db)
    assert plan(db, ENRICHMENT, 0, 1000).work is None
    delete(db, "DELETE FROM silver.driver_events WHERE event_id = 'e1'")
    assert plan(db, ENRICHMENT, 0, 1000).work is not None
    [result], _ = drain(db)
    assert (result.deleted, result.created, result.updated) == (1, 0, 0)
    assert sorted(read_gold(db)) == ["e2", "e3"]
    assert plan(db, ENRICHMENT, 0, 1000).work is None


def test_rows_whose_company_is_gone_are_made_again_without_it(db: psycopg.Connection) -> None:
    fill(db)
    delete(db, "DELETE FROM silver.companies WHERE company_id = 'B1'")
    [result], _ = drain(db)
    assert (result.deleted, result.updated, result.remade) == (0, 2, 2)
    assert {event: row[1] for event, row in read_gold(db).items()} == {"e1": None, "e2": "Two", "e3": None}
    assert count_differences(db) == 0


def test_a_key_that_comes_back_is_in_gold_again_whatever_gold_has_seen(db: psycopg.Connection) -> None:
    fill(db)
    for with_a_look_between in (True, False):
        delete(db, "DELETE FROM silver.driver_events WHERE event_id = 'e1'")
        delete(db, "DELETE FROM silver.companies WHERE company_id = 'B2'")
        if with_a_look_between:
            drain(db)
        put_events(db, {"e1": "B1"})
        put_companies(db, {"B2": "Two again"})
        drain(db)
        assert count_differences(db) == 0
        assert len(read_gold(db)) == 3


def test_positions_of_one_table_do_not_hide_deletions_of_the_other_that_commit_later(db: psycopg.Connection, database_url: str) -> None:
    fill(db)
    with psycopg.connect(database_url) as slow:
        slow.execute("DELETE FROM silver.driver_events WHERE event_id = 'e1'")
        delete(db, "DELETE FROM silver.companies WHERE company_id = 'B2'")  # a later position, committed first
        drain(db)
        slow.commit()
    drain(db)
    assert count_differences(db) == 0
    assert len(read_gold(db)) == 2


def test_keys_are_forgotten_once_all_that_follow_have_followed(db: psycopg.Connection) -> None:
    fill(db)
    followers = [(f"vanished gold.driver_events_enriched silver.{table}", table) for table in ENRICHMENT.inputs]
    delete(db, "DELETE FROM silver.driver_events WHERE event_id = 'e1'")
    assert prune_vanished(db, followers) == 0
    drain(db)
    assert prune_vanished(db, [*followers, ("somebody else", "driver_events")]) == 0
    assert prune_vanished(db, followers) == 1
