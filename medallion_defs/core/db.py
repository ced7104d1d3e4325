"""Connections to Medallion's own database, each with the rights of one role.

A role has a login of its own, which can take no other role; where the settings name none, the login of `database_url` takes
the role (`SET ROLE` at connect), so that a bug in gold cannot write silver. Dagster's own storage is another database and
never goes through here.
"""

from typing import Any, Literal, LiteralString

import psycopg

from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.core.settings import Settings

Role = Literal["medallion_bronze", "medallion_silver", "medallion_gold", "medallion_console", "medallion_review", "owner"]
Connection = psycopg.Connection[tuple[object, ...]]

_NO_JIT: LiteralString = "-c jit=off -c timezone=UTC"
# Where a network swallows what is sent (a cable, a firewall that has forgotten the connection), TCP waits for hours. After so long
# without a sign of the other side's kernel the client gives up, and so does the server, which holds the locks of a lost client.
# Not for a slow statement: a kernel answers while its process works. Of a Unix socket all of this is ignored.
SILENT_SECONDS = 60
CONNECT_SECONDS = 10


def connect(settings: Settings, role: Role, *, autocommit: bool = False) -> psycopg.Connection:
    """Open a connection as `role`; `owner` keeps the rights of the login (migrations and tests only).

    Raises:
        ConfigurationError: no database is configured, or the login may not take the role.
        TransientError: the server does not answer.
    """
    url = settings.logins.of(role) or settings.require_database_url()
    options = f"{_NO_JIT} {_server_options()}" if role == "owner" else f"{_NO_JIT} {_server_options()} -c role={role}"
    try:
        return psycopg.connect(url, options=options, application_name=role, autocommit=autocommit, **_client_options())
    except psycopg.OperationalError as error:
        if "role" in str(error) and role in str(error):
            raise ConfigurationError(f"The database login may not act as {role}: {error} See 'medallion doctor'.") from error
        raise TransientError(f"Postgres does not answer at the address of the login for {role}: {error}") from error


def _client_options() -> dict[str, Any]:
    idle, interval = _probes()
    return {
        "connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 1000 * SILENT_SECONDS,
        "keepalives_idle": idle, "keepalives_interval": interval, "keepalives_count": 3,
    }  # fmt: skip


def _server_options() -> str:
    idle, interval = _probes()
    return (
        f"-c tcp_user_timeout={1000 * SILENT_SECONDS} -c tcp_keepalives_idle={idle} -c tcp_keepalives_interval={interval} "
        "-c tcp_keepalives_count=3"
    )


def _probes() -> tuple[int, int]:
    """Return after how many seconds of silence the first probe goes, and how many lie between two."""
    return max(SILENT_SECONDS // 2, 1), max(SILENT_SECONDS // 6, 1)
