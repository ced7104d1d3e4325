"""Where a value comes from, and what came of an item. Reads only.

A gold row names the silver rows that it is made of, a silver row its item and record, the ledger the item's directory, and the
item's own `_item.json` the bytes: there is no edge table to keep in step. Which tables there are is told by the caller
(`LineageSpec`), since content lies above; showing a trace is the caller's as well.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import LiteralString
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql

from medallion_defs.core.errors import TerminalError
from medallion_defs.core.sql import load_queries
from medallion_defs.storage.item import Artifact
from medallion_defs.storage.reading import ItemReader
from medallion_defs.storage.tombstone import Entry, Tombstone

_SQL = load_queries("medallion_defs.ops", "lineage.sql")
EXAMPLES = 3
MOST_COUNTED = 100_000

Row = dict[str, object]


class Parent(msgspec.Struct, frozen=True):
    """How a gold row names one silver row: by `key`, with file, record and version in columns `{prefix}_…`.

    Attributes:
        table: `silver.driver_events`.
        key: that table's key, and the gold column that holds it.
        prefix: of the gold columns `{prefix}_file_id`, `{prefix}_source_record`, `{prefix}_change_seq`.
    """

    table: str
    key: str
    prefix: str


class LineageSpec(msgspec.Struct, frozen=True):
    """A table that can be traced: `silver.x` (no parents: the row itself names file and record) or `gold.x`."""

    table: str
    key: str
    parents: tuple[Parent, ...] = ()

    @property
    def file_columns(self) -> tuple[str, ...]:
        """The columns that name a bronze item."""
        return tuple(f"{parent.prefix}_file_id" for parent in self.parents) or ("file_id",)


class Item(msgspec.Struct, frozen=True):
    """A bronze item as a trace shows it.

    `origin` and `artifacts` (with the sha256 of each) are read from the item's directory; None and empty where the caller gave no
    reader, or the file was refused (`bronze_error`) and never became an item. Then the files are hashed as well: `damage` says
    what is not as it was published, and so cannot vouch for the value any more.
    """

    file_id: UUID
    source_type: str
    external_id: str
    revision: int
    status: str
    bronze_path: str | None
    bronze_filename: str | None
    bronze_error: str | None
    content_sha256: str | None
    fetched_at: datetime | None
    origin: str | None = None
    artifacts: tuple[Artifact, ...] = ()
    damage: tuple[str, ...] = ()
    note: str | None = None
    removed: str | None = None
    withdrawn_reason: str | None = None


class Record(msgspec.Struct, frozen=True):
    """One record of an item, and the silver row that was made of it.

    `row` is the silver row as it is now, None when it is gone; `is_current` tells whether it is still the version in question.
    `source_record` is None where that version's record is not known any more.
    """

    table: str
    key: str
    source_record: int | None
    is_current: bool
    row: Row | None
    item: Item


class Trace(msgspec.Struct, frozen=True):
    """A row, as JSON values by column, and the records it is made of."""

    table: str
    key: str
    row: Row
    records: tuple[Record, ...]


class TableRows(msgspec.Struct, frozen=True):
    """Rows of one table that name the item in column `file_column`, and some of their keys, in no order.

    Unless the count `is_exact`, there are more rows than `rows`: counting went no further.
    """

    table: str
    file_column: str
    rows: int
    examples: tuple[str, ...]
    is_exact: bool = True


class ItemTrace(msgspec.Struct, frozen=True):
    """All that came of an item. `ledger` is its row there; tables without rows of the item are left out.

    `silver` and `gold` count rows that are made of the item now: a row that a newer item has replaced is the newer one's.
    `rejects` are records by error code; of more than were counted unless `is_rejects_exact`, and the ledger's row has their number.
    """

    item: Item
    ledger: Row
    silver: tuple[TableRows, ...]
    rejects: dict[str, int]
    gold: tuple[TableRows, ...]
    is_rejects_exact: bool = True


def trace_gold(connection: psycopg.Connection, spec: LineageSpec, key: str, bronze: ItemReader | None = None) -> Trace:
    """Trace one gold row to the records it is made of.

    Raises:
        TerminalError: no such row; or the trail is broken, and where.
    """
    row = read_row(connection, spec, key)
    named = [parent for parent in spec.parents if row[f"{parent.prefix}_file_id"] is not None]
    items = read_items(connection, [UUID(str(row[f"{parent.prefix}_file_id"])) for parent in named], bronze)
    return Trace(spec.table, key, row, tuple(_gold_record(connection, row, parent, items) for parent in named))


def trace_silver(connection: psycopg.Connection, spec: LineageSpec, key: str, bronze: ItemReader | None = None) -> Trace:
    """Trace one silver row to its record.

    Raises:
        TerminalError: no such row; or the trail is broken, and where.
    """
    row = read_row(connection, spec, key)
    file_id = UUID(str(row["file_id"]))
    item = read_items(connection, [file_id], bronze)[file_id]
    return Trace(spec.table, key, row, (Record(spec.table, key, _int(row["source_record"]), True, row, item),))


def trace_bronze(
    connection: psycopg.Connection,
    which: UUID | str,
    silver: Iterable[LineageSpec],
    gold: Iterable[LineageSpec],
    bronze: ItemReader | None = None,
    *,
    examples: int = EXAMPLES,
    most_counted: int | None = MOST_COUNTED,
) -> ItemTrace:
    """List all that came of one item, in bounded time: an item of millions of rows is counted up to `most_counted` a table.

    Args:
        which: its `file_id`, or its path: below the bronze root, or with the root in front, or of a file in the directory.
        examples: keys to give of each table, at most.
        most_counted: None counts all rows, in time that grows with them.

    Raises:
        TerminalError: the ledger knows no such item, or its directory cannot be read.
    """
    ledger = _find_ledger_row(connection, which, bronze)
    item = _build_item(ledger, bronze)
    params = {"file_id": item.file_id, "examples": examples, "most": None if most_counted is None else most_counted + 1}
    rejects: dict[str, int] = dict(connection.execute(_SQL["rejects_of_item"], params).fetchall())
    return ItemTrace(
        item,
        ledger,
        tuple(_count_rows(connection, silver, params, most_counted)),
        rejects,
        tuple(_count_rows(connection, gold, params, most_counted)),
        most_counted is None or sum(rejects.values()) <= most_counted,
    )


def item_path(text: str, bronze: ItemReader | None = None) -> str:
    """Return `{source_type}/{directory}` of a path to an item, or to a file in it, as a person may write it.

    Raises:
        TerminalError: the path names no item, or lies outside the bronze root.
    """
    path = Path(text)
    # Both with links followed: the data folder may be one, and a person may have come to it by another way.
    if bronze is not None and (found := bronze.path_of(path)) is not None:
        path = Path(found)
    if len(path.parts) < 2 or ".." in path.parts or path.is_absolute():
        raise TerminalError(f"'{text}' names no bronze item. Give a file_id, or a path below data/bronze like 'driver_events/fleet.csv'.")
    return "/".join(path.parts[:2])


def read_row(connection: psycopg.Connection, spec: LineageSpec, key: str) -> Row:
    """Return one row of a table that can be traced.

    Raises:
        TerminalError: there is none.
    """
    query = _compose("row", table=spec.table, key=spec.key)
    found = connection.execute(query, {"key": key}).fetchone()
    if found is None:
        raise TerminalError(f"{spec.table} has no row with {spec.key} = '{key}'. Keys are compared letter by letter.")
    row: Row = found[0]
    return row


def _gold_record(connection: psycopg.Connection, row: Row, parent: Parent, items: dict[UUID, Item]) -> Record:
    key = str(row[parent.key])
    found = connection.execute(_compose("row", table=parent.table, key=parent.key), {"key": key}).fetchone()
    silver: Row | None = found[0] if found else None
    is_current = silver is not None and silver["change_seq"] == row[f"{parent.prefix}_change_seq"]
    item = items[UUID(str(row[f"{parent.prefix}_file_id"]))]
    return Record(parent.table, key, _int(row[f"{parent.prefix}_source_record"]), is_current, silver, item)


def read_items(connection: psycopg.Connection, file_ids: Sequence[UUID], bronze: ItemReader | None) -> dict[UUID, Item]:
    """Return these items as a trace shows them.

    Raises:
        TerminalError: the ledger has lost one.
    """
    rows: dict[UUID, Row] = dict(connection.execute(_SQL["items"], {"file_ids": list(file_ids)}).fetchall())
    for file_id in file_ids:
        if file_id not in rows:
            raise TerminalError(
                f"The ledger has lost item {file_id}, which a row names. Reconcile bronze with the ledger to enter it again."
            )
    return {file_id: _build_item(row, bronze) for file_id, row in rows.items()}


def _find_ledger_row(connection: psycopg.Connection, which: UUID | str, bronze: ItemReader | None) -> Row:
    file_id = _as_uuid(which)
    if file_id is not None:
        found = connection.execute(_SQL["items"], {"file_ids": [file_id]}).fetchone()
    else:
        found = connection.execute(_SQL["item_at"], {"path": item_path(str(which), bronze)}).fetchone()
    if found is None:
        raise TerminalError(
            f"The ledger knows no item '{which}'. Check the spelling below data/bronze; an item that is there was not discovered yet: "
            "the source's sensor, or reconciling bronze with the ledger, will."
        )
    row: Row = found[-1]
    return row


def _as_uuid(which: UUID | str) -> UUID | None:
    try:
        return which if isinstance(which, UUID) else UUID(which)
    except ValueError:
        return None


def _build_item(ledger: Row, bronze: ItemReader | None) -> Item:
    fields = {"fetched_at": ledger["bronze_ingest_end_time"], **ledger}
    fields |= {"withdrawn_reason": ledger["bronze_withdrawn_reason"], "removed": None}
    if ledger["bronze_removed_at"] is not None:
        fields["removed"] = f"removed on {str(ledger['bronze_removed_at'])[:10]} by {ledger['bronze_removed_by']}"
    if bronze is not None and ledger["bronze_path"] is not None:
        path = str(ledger["bronze_path"])
        entry = _read_entry(bronze, path, UUID(str(ledger["file_id"])))
        item = entry.item if isinstance(entry, Tombstone) else entry
        fields |= {"fetched_at": item.fetched_at, "origin": item.origin, "artifacts": msgspec.to_builtins(item.artifacts)}
        fields["note"] = item.note
        if isinstance(entry, Tombstone):
            fields["removed"] = entry.sentence
        else:
            fields["damage"] = bronze.find_damage(path, item, str(ledger["content_sha256"]))
    return msgspec.convert(fields, Item)


def _read_entry(bronze: ItemReader, path: str, file_id: UUID) -> Entry:
    entry = bronze.entry(path)
    if entry.file_id != file_id:
        raise TerminalError(
            f"{path} holds the item {entry.file_id}; the ledger expects {file_id} there. Run 'medallion bronze verify' to see what else is "
            "damaged, and restore the directory from a copy."
        )
    return entry


def _count_rows(
    connection: psycopg.Connection, specs: Iterable[LineageSpec], params: dict[str, object], most: int | None
) -> Iterable[TableRows]:
    for spec in specs:
        for column in spec.file_columns:
            query = _compose("rows_of_item", table=spec.table, key=spec.key, file_id=column)
            [(rows, examples)] = connection.execute(query, params).fetchall()
            if rows:
                is_exact = most is None or rows <= most
                yield TableRows(spec.table, column, rows if is_exact else rows - 1, tuple(examples), is_exact)


def _compose(name: LiteralString, *, table: str, **columns: str) -> sql.Composed:
    names = {placeholder: sql.Identifier(column) for placeholder, column in columns.items()}
    return sql.SQL(_SQL[name]).format(table=sql.Identifier(*table.split(".")), **names)


def _int(value: object) -> int:
    return int(str(value))
