"""A load that is killed leaves nothing half done: after the next run silver is what it would have been without the kill.

The loading process is this file run as a script: it loads three batches, each with its ledger entry in one transaction, and
kills itself, or is killed, where the test says. The ledger here is a bare table, so that only the loader is under test.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from medallion_defs.core.errors import TerminalError
from medallion_defs.core.ids import file_id
from medallion_defs.silver import loader
from medallion_defs.silver.contract import ItemFacts, RejectedRecord
from medallion_defs.silver.digest import digest_table
from medallion_defs.silver.stage import QUERIES, Record, StageQueries
from medallion_defs.silver.tables import REJECTED_ROWS
from medallion_defs.sources.companies.tables import TABLE as COMPANIES
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.postgres import EmbeddedPostgres
from tests.folders import fresh_server

ROOT = Path(__file__).resolve().parents[2]
BATCHES, FILES, KEYS = 3, 3, 500
KILL_IN_BATCH = 1
STEPS = [*QUERIES, "a_record", "commit", "next_batch"]
READY = b"ready\n"


def items_of_batch(batch: int, records: int) -> list[tuple[ItemFacts, Iterator[Record]]]:
    names = [f"{batch}-{number}.csv" for number in range(FILES)] + [f"{batch}-damaged.csv"]
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=batch % 2)
    return [(ItemFacts(file_id("companies", name, 1), name, at), read(name, records)) for name in names]


def read(name: str, records: int) -> Iterator[Record]:
    rng = random.Random(name)
    for number in range(1, records + 1):
        key = f"k{rng.randrange(KEYS)}"
        if number % 50 == 0:
            yield RejectedRecord(number, "invalid_value", "planted", key)
        else:
            yield (number, key, rng.choice(("one", "two")), None, None, None, 1990, "{}", "")
    if "damaged" in name:
        raise TerminalError(f"{name} ends in the middle of a record")


def load_batches(url: str, records: int, step: str = "none", *, ledger_first: bool = False) -> None:
    """Load every batch that the ledger does not have; die by SIGKILL at `step` of batch KILL_IN_BATCH."""
    with psycopg.connect(url) as connection:
        for batch in range(BATCHES):
            if connection.execute("SELECT 1 FROM public.ledger WHERE batch = %s", (batch,)).fetchone():
                continue
            if ledger_first:
                connection.execute("INSERT INTO public.ledger VALUES (%s, 0)", (batch,))
                connection.commit()
            deadly = step if batch == KILL_IN_BATCH else "none"
            created = load_batch(connection, batch, records, deadly)
            if not ledger_first:
                connection.execute("INSERT INTO public.ledger VALUES (%s, %s)", (batch, created))
            die_at("commit", deadly)
            connection.commit()
            die_at("next_batch", deadly)


def load_batch(connection: psycopg.Connection, batch: int, records: int, deadly: str) -> int:
    class DeadlyQueries(StageQueries):
        def __getitem__(self, name: str) -> psycopg.sql.Composed:
            die_at(name, deadly)
            return super().__getitem__(name)

    def deadly_read(rows: Iterator[Record]) -> Iterator[Record]:
        for number, row in enumerate(rows):
            if number == records // 2:
                die_at("a_record", deadly)
            yield row

    items = [(facts, deadly_read(rows)) for facts, rows in items_of_batch(batch, records)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "StageQueries", DeadlyQueries)
        return sum(item.created for item in loader.load_items(connection, COMPANIES, items, max_rejected_share=0.5))


def die_at(step: str, deadly: str) -> None:
    if step == deadly:
        os.kill(os.getpid(), signal.SIGKILL)


def start_loading(url: str, records: int, *options: str) -> "subprocess.Popen[bytes]":
    """Start a loading process; return when it is about to load."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.torture.test_load_crash", url, str(records), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == READY
    return process


def digests(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [digest_table(connection, table) for table in (COMPANIES, REJECTED_ROWS)]


def empty(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS public.ledger (batch integer PRIMARY KEY, created bigint NOT NULL)")
        connection.execute("TRUNCATE silver.companies, silver.rejected_rows, public.ledger")


def load_undisturbed(url: str, records: int) -> list[str]:
    empty(url)
    load_batches(url, records)
    expected = digests(url)
    empty(url)
    return expected


def assert_whole(url: str, expected: list[str]) -> None:
    """Silver is as without the kill, and no row was counted as created twice."""
    assert digests(url) == expected
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT sum(created), count(*) FROM public.ledger").fetchone() == (KEYS, BATCHES)


@pytest.mark.parametrize("step", STEPS)
def test_a_load_killed_at_any_step_is_whole_after_the_next_run(database_url: str, step: str) -> None:
    expected = load_undisturbed(database_url, 1000)
    with start_loading(database_url, 1000, step) as process:
        assert process.wait(60) == -signal.SIGKILL
    load_batches(database_url, 1000)
    assert_whole(database_url, expected)


def test_a_load_killed_at_random_moments_is_whole_after_the_next_run(database_url: str) -> None:
    records, rng = 5000, random.Random(11)
    expected = load_undisturbed(database_url, records)
    started = time.monotonic()
    load_batches(database_url, records)
    usual_seconds = time.monotonic() - started
    for _ in range(6):
        empty(database_url)
        with start_loading(database_url, records) as process:
            time.sleep(rng.random() * usual_seconds)
            process.kill()
        load_batches(database_url, records)
        assert_whole(database_url, expected)


def test_the_harness_sees_a_ledger_that_is_committed_before_its_rows(database_url: str) -> None:
    expected = load_undisturbed(database_url, 1000)
    with start_loading(database_url, 1000, "insert_new", "ledger_first") as process:
        assert process.wait(60) == -signal.SIGKILL
    load_batches(database_url, 1000)
    assert digests(database_url) != expected


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, migrated, to be killed."""
    with fresh_server() as server:
        server.start()
        migrate(ROOT, server.url())
        yield server


def test_a_load_whose_postgres_is_killed_is_whole_after_the_next_run(own_server: EmbeddedPostgres) -> None:
    url, records = own_server.url(), 20_000
    expected = load_undisturbed(url, records)
    started = time.monotonic()
    load_batches(url, records)
    usual_seconds = time.monotonic() - started
    for share in (0.2, 0.5, 0.8):
        empty(url)
        with start_loading(url, records) as process:
            time.sleep(share * usual_seconds)
            postmaster = own_server.pid()
            assert postmaster is not None
            os.kill(postmaster, signal.SIGKILL)
            process.wait(60)
        own_server.start()
        load_batches(url, records)
        assert_whole(url, expected)


if __name__ == "__main__":
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()
    load_batches(sys.argv[1], int(sys.argv[2]), *sys.argv[3:4], ledger_first="ledger_first" in sys.argv)
