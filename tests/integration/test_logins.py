"""Each role has a login of its own that can do nothing else; a cluster of an earlier Medallion gets them at its next start."""

import shutil
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from medallion_defs.core import db
from medallion_defs.core.settings import Settings
from medallion_defs.stack.databases import DAGSTER_SCHEME
from medallion_defs.stack.logins import DAGSTER_LOGIN, LOGINS, ROLES, find_strays
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.postgres import DAGSTER_DATABASE, DATABASE, EmbeddedPostgres
from tests.conftest import ROOT
from tests.folders import fresh_server

DENIED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with fresh_server() as server:
        server.start()
        migrate(ROOT, server.url())
        yield server


def login_as(server: EmbeddedPostgres, login: str) -> psycopg.Connection:
    return psycopg.connect(server.url(DAGSTER_DATABASE if login == DAGSTER_LOGIN else DATABASE, login=login))


@pytest.mark.parametrize("login", LOGINS)
def test_a_login_is_its_role_and_can_leave_it_for_none(server: EmbeddedPostgres, login: str) -> None:
    with login_as(server, login) as connection:
        found = connection.execute("SELECT current_user, session_user, rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        assert found == (login, login, False)
        for other in {*LOGINS, "medallion", "pg_read_server_files", "postgres"} - {login}:
            for statement in ("SET ROLE {}", "SET SESSION AUTHORIZATION {}"):
                with pytest.raises(psycopg.errors.Error), connection.transaction():
                    connection.execute(sql.SQL(statement).format(sql.Identifier(other)))  # type: ignore[arg-type]
        with pytest.raises(DENIED), connection.transaction():
            connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")
        with pytest.raises(DENIED), connection.transaction():
            connection.execute(sql.SQL("ALTER ROLE {} SUPERUSER").format(sql.Identifier(login)))


def test_every_password_is_another_and_the_owners_only(server: EmbeddedPostgres) -> None:
    files = [server.folder / "logins" / login for login in LOGINS]
    assert len({file.read_text() for file in files}) == len(LOGINS)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (server.folder / "logins").stat().st_mode & 0o077 == 0
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.url(login="medallion_gold"), password=files[0].read_text().strip())


@pytest.mark.parametrize("login", ROLES)
def test_dagsters_database_is_closed_to_the_layers_and_theirs_to_dagster(server: EmbeddedPostgres, login: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(server.url(DAGSTER_DATABASE, login=login))
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(server.url(DATABASE, login=DAGSTER_LOGIN))


@pytest.mark.parametrize(
    ("login", "statement"),
    [
        ("medallion_bronze", "SELECT * FROM silver.driver_events"),
        ("medallion_bronze", "DELETE FROM gold.driver_events_enriched"),
        ("medallion_silver", "DELETE FROM gold.driver_events_enriched"),
        ("medallion_gold", "DELETE FROM silver.driver_events"),
        ("medallion_console", "UPDATE ops.file_ingestions SET attempts = 0"),
        ("medallion_sql", "DELETE FROM silver.driver_events"),
        ("medallion_sql", "CREATE TABLE silver.mine (a int)"),
        ("medallion_review", "DELETE FROM silver.tasks_verdicts"),
        ("medallion_review", "UPDATE silver.tasks_results SET output = NULL"),
    ],
)
def test_a_login_writes_its_own_layer_only(server: EmbeddedPostgres, login: str, statement: str) -> None:
    with (
        login_as(server, login) as connection,
        pytest.raises(DENIED),
    ):
        connection.execute(statement)  # type: ignore[call-overload]


@pytest.mark.parametrize("table", ["ops.file_ingestions", "silver.tasks_results", "silver.rejected_rows", "gold.driver_events_enriched"])
@pytest.mark.parametrize("login", ["medallion_console", "medallion_sql", "medallion_review"])
def test_readers_read_every_layer(server: EmbeddedPostgres, login: str, table: str) -> None:
    with login_as(server, login) as connection:
        assert connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.SQL(table))).fetchone() == (0,)  # type: ignore[arg-type]


def test_a_connection_logs_in_as_its_role(settings: Settings) -> None:
    for role in ("medallion_bronze", "medallion_silver", "medallion_gold", "medallion_console", "medallion_review"):
        with db.connect(settings, role) as connection:
            assert connection.execute("SELECT session_user, current_user").fetchone() == (role, role)


def test_with_one_url_the_login_takes_the_role(database_url: str, settings: Settings) -> None:
    with db.connect(Settings(root=ROOT, database_url=database_url), "medallion_gold") as connection:
        assert connection.execute("SELECT session_user, current_user").fetchone() == ("medallion", "medallion_gold")
    assert database_url not in repr(settings)
    assert (settings.logins.of("medallion_gold") or "") not in repr(settings)


def test_a_cluster_without_logins_gets_them_at_its_next_start() -> None:
    """As an earlier Medallion left it: roles that cannot log in, and Dagster's tables made by the administrator."""
    with fresh_server() as server:
        server.start()
        with psycopg.connect(server.url(DAGSTER_DATABASE)) as dagster:
            dagster.execute("ALTER DATABASE dagster OWNER TO medallion")
            dagster.execute("CREATE TABLE runs (id bigserial PRIMARY KEY, status text)")
            dagster.execute("INSERT INTO runs (status) VALUES ('SUCCESS')")
            for login in LOGINS:
                dagster.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(sql.Identifier(login)))
        shutil.rmtree(server.folder / "logins")
        server.start()
        with psycopg.connect(server.url(DAGSTER_DATABASE, login=DAGSTER_LOGIN)) as dagster:
            dagster.execute("INSERT INTO runs (status) VALUES ('STARTED')")
            dagster.execute("ALTER TABLE runs ADD COLUMN more text")
            assert dagster.execute("SELECT count(*) FROM runs").fetchone() == (2,)
        for login in ROLES:
            psycopg.connect(server.url(login=login)).close()


def test_a_login_that_may_do_more_is_found(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url()) as connection:
        assert find_strays(connection) == []
        connection.execute("GRANT medallion_silver TO medallion_gold")
        connection.execute("ALTER ROLE medallion_sql SUPERUSER")
        connection.execute("ALTER ROLE medallion_review NOLOGIN")
        assert find_strays(connection) == [
            "medallion_gold may act as medallion_silver", "medallion_review cannot log in", "medallion_sql is a superuser",
        ]  # fmt: skip
        connection.rollback()


def test_dagsters_url_is_of_its_own_login(server: EmbeddedPostgres) -> None:
    url = server.url(DAGSTER_DATABASE, DAGSTER_SCHEME, login=DAGSTER_LOGIN)
    assert url.startswith("postgresql+psycopg2://medallion_dagster:")
