"""Fixtures of the labeling tests: a database that has notes."""

import psycopg
import pytest

from tests.integration.labeling.notes import CREATE_NOTES


@pytest.fixture
def notes(db: psycopg.Connection) -> psycopg.Connection:
    """A connection, as owner, to a fresh migrated database with the table `silver.notes`."""
    db.execute(CREATE_NOTES)
    db.commit()
    return db
