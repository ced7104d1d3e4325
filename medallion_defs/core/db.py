"""Connections to Medallion's own database, each with the rights of one layer.

The URL names a login; every connection then takes the role of its layer (`SET ROLE` at connect), so that a
bug in gold cannot write silver. Dagster's own storage is another database and never goes through here.
"""

from typing import Literal, LiteralString

import psycopg

from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.core.settings import Settings

Role = Literal["medallion_bronze", "medallion_silver", "medallion_gold", "medallion_console", "owner"]
Connection = psycopg.Connection[tuple[object, ...]]

_NO_JIT: LiteralString = "-c jit=off -c timezone=UTC"


def connect(settings: Settings, role: Role, *, autocommit: bool = False) -> psycopg.Connection:
    """Open a connection as `role`; `owner` keeps the rights of the login (migrations and tests only).

    Raises:
        ConfigurationError: no database is configured, or the login may not take the role.
        TransientError: the server does not answer.
    """
    url = settings.require_database_url()
    options = _NO_JIT if role == "owner" else f"{_NO_JIT} -c role={role}"
    try:
        return psycopg.connect(url, options=options, application_name=role, autocommit=autocommit, connect_timeout=10)
    except psycopg.OperationalError as error:
        if "role" in str(error) and role in str(error):
            raise ConfigurationError(f"The database login may not act as {role}. Run 'medallion migrate' as the owner.") from error
        raise TransientError(f"Postgres does not answer at the address in MEDALLION_DATABASE_URL: {error}") from error
