"""Which Postgres the stack uses: the embedded one, or the servers named in the environment."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from medallion_defs.core.access_settings import LoginSettings
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings, process_environment
from medallion_defs.stack.lock import lock_holder, stack_lock
from medallion_defs.stack.logins import DAGSTER_LOGIN, ROLES
from medallion_defs.stack.postgres import DAGSTER_DATABASE, DATABASE, EmbeddedPostgres

DAGSTER_SCHEME = "postgresql+psycopg2"


@dataclass(frozen=True)
class Databases:
    """The two databases of a stack, and the embedded server when they are on it.

    Attributes:
        medallion_url: with the login that migrates; on a server without own logins also that of every role.
        dagster_url: with the login that owns Dagster's database.
        logins: URL by role (`medallion_bronze`), of those roles that have a login of their own.
    """

    medallion_url: str
    dagster_url: str
    embedded: EmbeddedPostgres | None
    logins: Mapping[str, str] = field(default_factory=dict)


def embedded_postgres(data_path: Path) -> EmbeddedPostgres:
    """Return the embedded server of a data folder, running or not."""
    return EmbeddedPostgres(data_path / "postgres")


def open_databases(settings: Settings) -> Databases:
    """Start the embedded server, unless the settings name servers.

    Raises:
        ConfigurationError: one of the two URLs is missing or names the wrong driver.
        TransientError: the embedded server does not start.
    """
    dagster_url = check_urls(settings, process_environment())
    if dagster_url is not None:
        named = {role: url for role in ROLES if (url := settings.logins.of(role))}
        return Databases(settings.require_database_url(), dagster_url, None, named)
    server = embedded_postgres(settings.data_path)
    server.start()
    dagster_url = server.url(DAGSTER_DATABASE, DAGSTER_SCHEME, login=DAGSTER_LOGIN)
    return Databases(server.url(DATABASE), dagster_url, server, server.login_urls())


@contextlib.contextmanager
def database_at_hand(settings: Settings) -> Iterator[Settings]:
    """Yield `settings` with the URL of a database that answers, for one command.

    A running stack's embedded server is shared. Without a stack the command starts the server, holds the lock of the
    data folder, and stops the server again.
    """
    if settings.database_url:
        yield settings
        return
    server = embedded_postgres(settings.data_path)
    with contextlib.ExitStack() as cleanup:
        if lock_holder(settings.data_path) is None:
            cleanup.enter_context(stack_lock(settings.data_path))
            cleanup.callback(server.stop)
        server.start()
        yield with_logins(settings, server)


def with_logins(settings: Settings, server: EmbeddedPostgres) -> Settings:
    """Return `settings` with the URLs of the embedded server: its administrator's, and those of all logins."""
    logins = {role.removeprefix("medallion_"): url for role, url in server.login_urls().items()}
    return settings.model_copy(update={"database_url": server.url(), "logins": LoginSettings.model_validate(logins)})


def is_dagster_database_ready(dagster_url: str) -> bool:
    """Tell whether Dagster has made all its tables. It makes them itself, but two processes that try at once both fail."""
    with psycopg.connect(dagster_url.replace(f"{DAGSTER_SCHEME}://", "postgresql://", 1), connect_timeout=10) as connection:
        row = connection.execute("SELECT to_regclass('runs'), to_regclass('event_logs'), to_regclass('job_ticks')").fetchone()
    return row is not None and None not in row


def check_urls(settings: Settings, environment: Mapping[str, str]) -> str | None:
    """Return the URL of Dagster's own database, None where the embedded server serves both.

    Raises:
        ConfigurationError: one of the two URLs is missing or names the wrong driver.
    """
    dagster_url = environment.get("DAGSTER_PG_URL")
    if not settings.database_url and not dagster_url:
        return None
    if not settings.database_url:
        raise ConfigurationError("DAGSTER_PG_URL is set but MEDALLION_DATABASE_URL is not. Set both, or none for the embedded Postgres.")
    settings.require_database_url()
    if not dagster_url:
        raise ConfigurationError(
            "MEDALLION_DATABASE_URL is set but DAGSTER_PG_URL is not. Dagster keeps its runs in a database of its own: set "
            f"DAGSTER_PG_URL={DAGSTER_SCHEME}://user:password@host/dagster, or unset both for the embedded Postgres."
        )
    scheme = urlsplit(dagster_url).scheme
    if scheme != DAGSTER_SCHEME:
        # With SQLAlchemy 2.1 a bare postgresql:// means psycopg 3, with which every page of the Dagster UI is an error 500.
        raise ConfigurationError(f"DAGSTER_PG_URL starts with '{scheme}://'; Dagster needs '{DAGSTER_SCHEME}://'.")
    return dagster_url
