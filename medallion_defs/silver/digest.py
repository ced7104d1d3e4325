"""The digest of a table: equal when two tables hold the same rows, whatever the order in which they came to be.

What proves that silver is a function of bronze: after a rebuild, a crash or another order of arrival it is the same.
"""

import hashlib

import psycopg
from psycopg import sql
from sqlalchemy import Table

from medallion_defs.core.sql import load_queries

QUERIES = load_queries(__package__, "digest.sql")
_WHEN_WRITTEN = ("ingested_at", "updated_at", "enriched_at", "created_at")


def digest_table(connection: psycopg.Connection, table: Table) -> str:
    """Return `{row count}-{32 hex digits}` over all columns except those that say when a row was written:
    `ingested_at`, `updated_at`, `enriched_at`, `created_at` and positions in the change feed (`change_seq`, `*_change_seq`)."""
    columns = [column.name for column in table.columns if not _says_when_written(column.name)]
    query = sql.SQL(QUERIES["digest_table"]).format(
        table=sql.Identifier(str(table.schema), table.name), columns=sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    ((rows, *sums),) = connection.execute(query)
    content = hashlib.sha256(",".join([*columns, *map(str, sums)]).encode()).hexdigest()
    return f"{rows}-{content[:32]}"


def _says_when_written(name: str) -> bool:
    return name in _WHEN_WRITTEN or name.endswith("change_seq")
