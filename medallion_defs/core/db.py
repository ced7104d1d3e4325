"""Connections to Medallion's own database, each with the rights of one role.

A role has a login of its own, which can take no other role; where the settings name none, the login of `database_url` takes
the role (`SET ROLE` at connect), so that a bug in gold cannot write silver. Dagster's own storage is another database and
never goes through here.
"""

from typing import Literal, LiteralString

import psycopg

from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.core.settings import Settings

Role = Literal["medallion_bronze", "medallion_silver", "medallion_gold", "medallion_console", "medallion_review", "owner"]
Connection = psycopg.Connection[tuple[object, ...]]

_NO_JIT: LiteralString = "-c jit=off -c timezone=UTC"


def connect(settings: Settings, role: Role, *, autocommit: bool = False) -> psycopg.Connection:
    """Open a connection as `role`; `owner` keeps the rights of the login (migrations and tests only).

    Raises:
        ConfigurationError: no database is configured, or the login may not take the role.
        TransientError: the server does not answer.
    """
    url = settings.logins.of(role) or settings.require_database_url()
    options = _NO_JIT if role == "owner" else f"{_NO_JIT} -c role={role}"
    try:
        return psycopg.connect(url, options=options, application_name=role, autocommit=autocommit, connect_timeout=10)
    except psycopg.OperationalError as error:
        if "role" in str(error) and role in str(error):
            raise ConfigurationError(f"The database login may not act as {role}: {error} See 'medallion doctor'.") from error
        raise TransientError(f"Postgres does not answer at the address of the login for {role}: {error}") from error
