"""The change feed of silver: a reader that follows `change_seq` upwards sees every row, whoever writes, in whatever order they commit."""

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from medallion_defs.core.ids import file_id
from medallion_defs.silver.contract import ItemFacts
from medallion_defs.silver.loader import load_items
from medallion_defs.sources.companies.tables import TABLE as COMPANIES

WRITERS, ROUNDS, KEYS = 8, 25, 40
DEADLINE_SECONDS = 60.0
FOLLOW = "SELECT change_seq, company_id, name FROM silver.companies WHERE change_seq > %s ORDER BY change_seq"
ADD = "INSERT INTO silver.companies (company_id, name, file_id, source_record, bronze_at) VALUES (%s, %s, gen_random_uuid(), 1, now())"


class Follower:
    """What gold does: remember the highest position seen, ask for what lies above it."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self.position = 0
        self.seen: dict[str, str] = {}

    def follow(self) -> int:
        rows = self.connection.execute(FOLLOW, (self.position,)).fetchall()
        for position, key, name in rows:
            self.position, self.seen[key] = position, name
        return len(rows)


def write_through_the_loader(connection: psycopg.Connection, writer: int, round_: int, rng: random.Random) -> None:
    facts = ItemFacts(
        file_id("companies", f"{writer}-{round_}", 1), f"{writer}-{round_}", datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=round_)
    )
    rows = [(n, f"k{rng.randrange(KEYS)}", f"loader {writer}-{round_}-{n}", None, None, None, None, "{}", "") for n in range(1, 4)]
    load_items(connection, COMPANIES, [(facts, iter(rows))], max_rejected_share=1.0)


def insert_by_hand(connection: psycopg.Connection, writer: int, round_: int, rng: random.Random) -> None:
    connection.execute(ADD, (f"w{writer}-{round_}", "by hand"))


def update_by_hand(connection: psycopg.Connection, writer: int, round_: int, rng: random.Random) -> None:
    connection.execute(
        "UPDATE silver.companies SET name = %s WHERE company_id = %s", (f"hand {writer}-{round_}", f"k{rng.randrange(KEYS)}")
    )


def run_writer(url: str, number: int, failures: list[BaseException]) -> None:
    rng = random.Random(number)
    write: Callable[[psycopg.Connection, int, int, random.Random], None]
    write = (write_through_the_loader, insert_by_hand, update_by_hand, write_through_the_loader)[number % 4]
    try:
        with psycopg.connect(url, options="-c timezone=UTC -c lock_timeout=30s") as connection:
            for round_ in range(ROUNDS):
                write(connection, number, round_, rng)
                # A transaction that stays open a while is what makes commits overtake each other.
                connection.execute("SELECT pg_sleep(%s)", (rng.random() * 0.01,))
                connection.commit() if rng.random() < 0.9 else connection.rollback()
    except Exception as error:  # noqa: BLE001 - reported by the test, which would otherwise pass without this writer
        failures.append(error)


def test_invariant_7_no_row_passes_the_change_feed_unseen(database_url: str) -> None:
    failures: list[BaseException] = []
    writers = [threading.Thread(target=run_writer, args=(database_url, number, failures)) for number in range(WRITERS)]
    with psycopg.connect(database_url, autocommit=True) as connection:
        follower, reads_while_writing = Follower(connection), 0
        for thread in writers:
            thread.start()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while any(thread.is_alive() for thread in writers):
            reads_while_writing += bool(follower.follow())
            assert time.monotonic() < deadline, "the writers hang"
        follower.follow()
        final = {key: name for key, name in connection.execute("SELECT company_id, name FROM silver.companies")}
    assert failures == []
    assert reads_while_writing > 10
    assert follower.seen == final


@pytest.fixture
def two_writers_and_a_follower(database_url: str) -> tuple[psycopg.Connection, psycopg.Connection, Follower]:
    """Two connections with the row "x" to fight over committed, and a follower that has seen it."""
    slow, fast, reader = (psycopg.connect(database_url, autocommit=number == 2) for number in range(3))
    slow.execute(ADD, ("x", "first"))
    slow.commit()
    follower = Follower(reader)
    follower.follow()
    return slow, fast, follower


def commit_out_of_order(slow: psycopg.Connection, fast: psycopg.Connection, follower: Follower) -> None:
    """`slow` draws its number first and commits last, the reader looks in between: how a plain cursor loses a row."""
    slow.execute(ADD, ("slow", "committed last"))
    fast.execute("SET lock_timeout = '200ms'")
    fast.execute(ADD, ("fast", "committed first"))
    fast.commit()
    follower.follow()
    slow.commit()
    follower.follow()


def test_a_second_writer_draws_no_number_before_the_first_has_committed(
    two_writers_and_a_follower: tuple[psycopg.Connection, psycopg.Connection, Follower],
) -> None:
    slow, fast, follower = two_writers_and_a_follower
    with slow, fast, follower.connection:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            commit_out_of_order(slow, fast, follower)
        fast.rollback()
        slow.commit()
        fast.execute(ADD, ("fast", "after all"))
        fast.commit()
        follower.follow()
        assert set(follower.seen) == {"x", "slow", "fast"}


def test_without_the_lock_the_same_reader_loses_a_row(
    two_writers_and_a_follower: tuple[psycopg.Connection, psycopg.Connection, Follower],
) -> None:
    slow, fast, follower = two_writers_and_a_follower
    with slow, fast, follower.connection:
        slow.execute("DROP TRIGGER lock_change_feed ON silver.companies")
        slow.commit()
        commit_out_of_order(slow, fast, follower)
        assert set(follower.seen) == {"x", "fast"}, "the planted fault was not found: this test can no longer tell"


def test_an_update_by_hand_moves_the_row_on(db: psycopg.Connection) -> None:
    db.execute(ADD, ("x", "first"))
    ((before,),) = db.execute("SELECT change_seq FROM silver.companies")
    db.execute("UPDATE silver.companies SET name = 'second'")
    ((after,),) = db.execute("SELECT change_seq FROM silver.companies")
    assert after > before
