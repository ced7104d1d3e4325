"""Cursors of sensors: how they are written, read, and known to be of this database.

Dagster keeps a sensor's cursor in its own storage. A database that was restored from an older dump is then behind its cursors, and
the rows that are written next take the positions that the lost ones had: nothing in the data would tell. So a cursor that speaks of
the database is noted there, in the transaction of what it speaks of, and counts only where the database has the very same one. Any
other (lost, edited, of another database, of a later day) is none: the sensor looks at everything once, and what is known costs
time, not rows. What a cursor means is its sensor's.
"""

import logging
from typing import Annotated, Any

import msgspec
import psycopg

from medallion_defs.core.sql import load_queries

Position = Annotated[int, msgspec.Meta(ge=0)]

_SQL = load_queries(__package__, "cursors.sql")
_LOG = logging.getLogger(__name__)
_SHOWN = 80


def read_cursor(connection: psycopg.Connection[Any], name: str, text: str | None, kind: Any) -> Any:
    """Return the cursor, a `kind`, that Dagster gives the sensor `name`; None where there is none, or none of this database."""
    cursor = decode_cursor(text, kind)
    if cursor is None:
        return None
    if not is_noted(connection, name, cursor):
        _LOG.warning("The cursor of %s is not the one that the database has (restored, edited?): it looks at everything once.", name)
        return None
    return cursor


def is_noted(connection: psycopg.Connection[Any], name: str, cursor: object) -> bool:
    """Whether `cursor` is what was last noted under this name."""
    return connection.execute(_SQL["is_noted"], {"name": name, "cursor": encode_cursor(cursor)}).fetchone() is not None


def note_cursor(connection: psycopg.Connection[Any], name: str, cursor: object) -> str:
    """Note in the database where the sensor `name` is, in the caller's transaction; return the text for Dagster."""
    text = encode_cursor(cursor)
    connection.execute(_SQL["note"], {"name": name, "cursor": text})
    return text


def decode_cursor(text: str | None, kind: Any) -> Any:
    """Return the cursor, a `kind`, of a sensor that speaks of nothing in the database; None for one that cannot be read."""
    try:
        return msgspec.json.decode(text, type=kind) if text else None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        _LOG.warning("The cursor %r cannot be read (%s); it counts as none.", (text or "")[:_SHOWN], error)
        return None


def encode_cursor(cursor: object) -> str:
    """Return a cursor as JSON. Dagster copies it into every tick: keep it under 1 KB."""
    return msgspec.json.encode(cursor).decode()


def vanished_name(consumer: str, table: str) -> str:
    """Return the name under which `consumer` (`gold.driver_events_enriched`) notes how far it has followed deletions from silver."""
    return f"vanished {consumer} silver.{table}"
