"""Which tables hold rows made of bronze items, found by looking, and what those rows are: asked for, and deleted.

The contract that a table joins by its columns, without being registered anywhere: in the schemas below, a uuid column `file_id` or
`{role}_file_id` names a bronze item that the row is made of. A table with both `file_id` and `{role}_file_id` says more: the items
in the latter were made because of the former, as a prompt and its answer are made of the text that they are about. A table with both
`file_id` and a uuid column `task_id` says which tasks are about an item; all rows of any table with a `task_id` follow their task.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql

from medallion_defs.core.sql import load_queries

SCHEMAS = ("silver", "silver_experiments", "gold", "ops")
_LEDGER = "ops.file_ingestions"
_SQL = load_queries("medallion_defs.ops", "references.sql")
# A reject holds an excerpt of its own; the other says what was tried.
# Who made a key that another item has is no row, either.
_NOT_TRACED = frozenset({"silver.rejected_rows", "silver.runners_up", "silver_experiments.variant_loads"})


class Reference(msgspec.Struct, frozen=True, order=True):
    """A column that names bronze items."""

    schema: str
    table: str
    column: str

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.table}"

    def compose(self, name: str, **columns: str) -> sql.Composed:
        """Fill in the table and the column in one of the queries of `references.sql`."""
        names = {key: sql.Identifier(column) for key, column in columns.items()}
        return sql.SQL(_SQL[name]).format(table=sql.Identifier(self.schema, self.table), column=sql.Identifier(self.column), **names)


def find_references(connection: psycopg.Connection) -> list[Reference]:
    """Return every column that names bronze items, in order of name; the ledger's own apart."""
    return [found for found in _find_columns(connection, "^(.*_)?file_id$") if found.qualified_name != _LEDGER]


def find_task_columns(connection: psycopg.Connection) -> list[Reference]:
    """Return every column that names a task, in order of name."""
    return _find_columns(connection, "^task_id$")


def find_tasks(
    connection: psycopg.Connection, references: Iterable[Reference], tasks: Iterable[Reference], file_ids: Sequence[UUID]
) -> set[UUID]:
    """Return the tasks that are about `file_ids`, as the tables say that have both."""
    found: set[UUID] = set()
    for reference in references:
        for task in tasks:
            if (reference.qualified_name, reference.column) == (task.qualified_name, "file_id"):
                query = reference.compose("derived", role=task.column)
                found |= {task_id for (task_id,) in connection.execute(query, {"file_ids": list(file_ids)})}
    return found


def _find_columns(connection: psycopg.Connection, name: str) -> list[Reference]:
    rows = connection.execute(_SQL["find_references"], {"schemas": list(SCHEMAS), "name": name}).fetchall()
    return sorted(Reference(*row) for row in rows)


def find_traced(connection: psycopg.Connection, references: Iterable[Reference], file_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of `file_ids` that some row is made of: one look into an index for each and table."""
    traced: set[UUID] = set()
    for reference in references:
        if reference.schema != "ops" and reference.qualified_name not in _NOT_TRACED:
            left = [file_id for file_id in file_ids if file_id not in traced]
            traced |= {file_id for (file_id,) in connection.execute(reference.compose("traced"), {"file_ids": left})}
    return traced


def find_derived(connection: psycopg.Connection, references: Sequence[Reference], file_ids: Sequence[UUID]) -> set[UUID]:
    """Return the items that were made because of `file_ids`, such as prompts and answers about them."""
    derived: set[UUID] = set()
    for reference, role in _roles(references):
        query = reference.compose("derived", role=role)
        derived |= {file_id for (file_id,) in connection.execute(query, {"file_ids": list(file_ids)})}
    return derived - set(file_ids)


def delete_rows(
    connection: psycopg.Connection, references: Iterable[Reference], ids: Collection[UUID], schemas: Collection[str]
) -> dict[str, int]:
    """Delete the rows of the tables in `schemas` that name one of `ids`; return how many, by table, zeros left out."""
    deleted: dict[str, int] = {}
    for reference in references:
        if reference.schema in schemas:
            rows = connection.execute(reference.compose("delete"), {"ids": list(ids)}).rowcount
            deleted[reference.qualified_name] = deleted.get(reference.qualified_name, 0) + rows
    return {table: rows for table, rows in deleted.items() if rows}


def count_rows(connection: psycopg.Connection, references: Iterable[Reference], ids: Collection[UUID]) -> dict[str, int]:
    """Return how many rows name one of `ids`, by table and column, zeros left out."""
    counts = {
        f"{reference.qualified_name} by {reference.column}": _count(connection, reference, ids) for reference in references
    }  # fmt: skip
    return {name: rows for name, rows in counts.items() if rows}


def _count(connection: psycopg.Connection, reference: Reference, ids: Collection[UUID]) -> int:
    [(rows,)] = connection.execute(reference.compose("count"), {"ids": list(ids)}).fetchall()
    return int(rows)


def _roles(references: Sequence[Reference]) -> Iterator[tuple[Reference, str]]:
    """Yield each `file_id` column with each `{role}_file_id` column of the same table."""
    for reference in references:
        if reference.column == "file_id":
            yield from (
                (reference, other.column)
                for other in references
                if other.qualified_name == reference.qualified_name and other.column != "file_id"
            )
