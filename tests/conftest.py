"""Fixtures shared by all tests: the real input, and real Postgres databases of the embedded server."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from medallion_defs.core.access_settings import LoginSettings
from medallion_defs.core.settings import Settings
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.postgres import EmbeddedPostgres
from tests.browser import Browser, open_browser
from tests.folders import fresh_server

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "medallion_template"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real input: `shared/data` beside the checkout, or MEDALLION_SHARED_DATA."""
    folder = Path(os.environ.get("MEDALLION_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"REAL INPUT MISSING: no folder {folder}; this test says nothing without it.")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium for the tests of one module; see `tests/browser.py`."""
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One embedded server for the session, with a migrated template database."""
    with fresh_server() as server:
        server.start()
        create_database(server, TEMPLATE)
        migrate(ROOT, server.url(TEMPLATE))
        yield server


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a fresh, migrated database of its own."""
    name = f"test_{uuid4().hex}"
    create_database(postgres, name, template=TEMPLATE)
    yield postgres.url(name)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection, as owner, to a fresh migrated database."""
    with psycopg.connect(database_url, options="-c timezone=UTC") as connection:
        yield connection


@pytest.fixture
def settings(postgres: EmbeddedPostgres, database_url: str, tmp_path: Path) -> Settings:
    """Settings of a project whose data folder is `tmp_path/data` and whose database is fresh and migrated; every role logs in itself."""
    logins = {role.removeprefix("medallion_"): url for role, url in postgres.login_urls(urlsplit(database_url).path[1:]).items()}
    return Settings(root=ROOT, data_dir=tmp_path / "data", database_url=database_url, logins=LoginSettings.model_validate(logins))


def create_database(server: EmbeddedPostgres, name: str, template: str = "template1") -> None:
    """Create a database on `server` as a copy of `template`."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
