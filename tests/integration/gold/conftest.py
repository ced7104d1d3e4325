"""Connections with the rights of the gold location."""

from collections.abc import Iterator

import psycopg
import pytest

AS_GOLD = "-c timezone=UTC -c role=medallion_gold"


@pytest.fixture
def gold(database_url: str, db: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection that may write gold; `db` is the owner's, which fills silver."""
    with psycopg.connect(database_url, options=AS_GOLD) as connection:
        yield connection


@pytest.fixture
def other_gold(database_url: str, db: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A second connection like `gold`."""
    with psycopg.connect(database_url, options=AS_GOLD) as connection:
        yield connection
