"""The logins of the embedded server: one per role, each with a password of its own in a file of its own.

A login *is* its role, so it has nothing to leave: no login is a superuser, none may take another role. The server's
administrator (`medallion`, made by initdb) migrates and makes logins, and serves no location. Whose login a process gets is
`environment.py`'s.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from medallion_defs.core.sql import load_queries

ROLES = ("medallion_bronze", "medallion_silver", "medallion_gold", "medallion_console", "medallion_sql", "medallion_review")
"""The logins of the database `medallion`; the names of `core.db.Role`, and medallion_sql for people."""

DAGSTER_LOGIN = "medallion_dagster"
LOGINS = (*ROLES, DAGSTER_LOGIN)
_QUERIES = load_queries("medallion_defs.stack", "logins.sql")


def read_password(folder: Path, login: str) -> str:
    """Return the password of a login of the server in `folder`."""
    return (folder / "logins" / login).read_text(encoding="ascii").strip()


def has_all_passwords(folder: Path) -> bool:
    """Tell whether every login was made."""
    return all((folder / "logins" / login).exists() for login in LOGINS)


def ensure_logins(folder: Path, medallion: psycopg.Connection, dagster: psycopg.Connection) -> None:
    """Make the logins that are missing, and give each what it owns and may enter. May be repeated.

    Args:
        folder: of the server; the passwords go to `logins/` in it.
        medallion: an administrator's connection to the database `medallion`.
        dagster: the same to the database `dagster`.
    """
    (folder / "logins").mkdir(mode=0o700, exist_ok=True)
    for login in LOGINS:
        _ensure_login(folder / "logins" / login, medallion, login)
    medallion.execute(_QUERIES["medallion"])
    medallion.commit()
    dagster.execute(_QUERIES["dagster"])
    dagster.commit()


def find_strays(connection: psycopg.Connection, logins: Sequence[str] = LOGINS) -> list[str]:
    """Return in words which logins may do more than their own role, or cannot log in."""
    return [f"{login} {what}" for login, what in connection.execute(_QUERIES["strays"], {"logins": list(logins)}).fetchall()]


def describe_login(connection: psycopg.Connection, role: str) -> tuple[bool, list[str]]:
    """Return whether the login of `connection` is a superuser, and which of Medallion's roles besides `role` it may take."""
    [(is_superuser, roles)] = connection.execute(_QUERIES["itself"], {"role": role}).fetchall()
    return bool(is_superuser), list(roles)


def _ensure_login(path: Path, connection: psycopg.Connection, login: str) -> None:
    row = connection.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (login,)).fetchone()
    if row == (True,) and path.exists():
        return
    name = sql.Identifier(login)
    if row is None:
        connection.execute(sql.SQL("CREATE ROLE {}").format(name))
    password, unfinished = secrets.token_urlsafe(24), path.with_name(f".{login}.new")
    _write_private(unfinished, password)
    connection.execute(
        sql.SQL("ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}").format(name, password)
    )
    # The file last: without it the next start does this again, with another password.
    connection.commit()
    unfinished.rename(path)


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
