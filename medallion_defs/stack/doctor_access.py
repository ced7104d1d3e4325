"""What `medallion doctor` says of who may reach what: the data folder's mode, the logins of Postgres."""

import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg

from medallion_defs.core.settings import Settings
from medallion_defs.stack.databases import embedded_postgres
from medallion_defs.stack.finding import Finding
from medallion_defs.stack.logins import ROLES, describe_login, find_strays, has_all_passwords

_CHECK = "logins"
_LATER = "The next 'medallion up' makes them."


def judge_folder(folder: Path, mode: int) -> Finding:
    """Tell whether other accounts may list or change the data folder."""
    if mode & 0o066:
        detail = f"{folder} is open to other accounts (mode {stat.S_IMODE(mode):04o})"
        return Finding("data folder", "warning", detail, "The next 'medallion up' closes it.")
    return Finding("data folder", "ok", str(folder))


def check_logins(settings: Settings) -> Finding:
    """Tell whether every role has a login of its own that can do nothing else."""
    try:
        return _check_own_server(settings) if settings.database_url else _check_embedded(settings)
    except psycopg.Error as error:
        return Finding(_CHECK, "problem", str(error).strip(), "Correct the URL of this login, or its password.")


def _check_embedded(settings: Settings) -> Finding:
    server = embedded_postgres(settings.data_path)
    if not server.pid():
        return Finding(_CHECK, "ok", "one per role; looked at while Postgres runs")
    if not has_all_passwords(server.folder):
        return Finding(_CHECK, "warning", "the roles have no logins yet", _LATER)
    with psycopg.connect(server.url(), connect_timeout=10) as connection:
        wrong = find_strays(connection)
    if wrong:
        return Finding(_CHECK, "problem", "; ".join(wrong), "Take from each login what is not its own: REVOKE … FROM, ALTER ROLE …")
    return Finding(_CHECK, "ok", "one per role; none is a superuser, none may act as another")


def _check_own_server(settings: Settings) -> Finding:
    missing = [role for role in ROLES if settings.logins.of(role) is None]
    wrong = [words for role in ROLES if role not in missing for words in _look(role, str(settings.logins.of(role)))]
    if wrong:
        return Finding(_CHECK, "problem", "; ".join(wrong), "Give each role a login that is a member of this role only.")
    if missing:
        remedy = "Good enough against mistakes. For a login of its own set " + ", ".join(map(_variable, missing)) + "."
        return Finding(_CHECK, "warning", f"the login of MEDALLION_DATABASE_URL acts as {', '.join(missing)}", remedy)
    return Finding(_CHECK, "ok", "one per role; none is a superuser, none may act as another")


def _look(role: str, url: str) -> Iterator[str]:
    with psycopg.connect(url, connect_timeout=10) as connection:
        is_superuser, others = describe_login(connection, role)
    if is_superuser:
        yield f"the login for {role} is a superuser"
    elif others:
        yield f"the login for {role} may act as {', '.join(others)}"


def _variable(role: str) -> str:
    return f"MEDALLION_LOGINS__{role.removeprefix('medallion_').upper()}"
