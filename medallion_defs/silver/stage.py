"""The stage of a load: every record of a microbatch goes through one binary COPY into a temporary table.

Rows and rejected records share the stream, so memory stays flat whatever their mix. What is done with the stage is
`loader.py`'s.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, LiteralString
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import Table

from medallion_defs.core.errors import MedallionError
from medallion_defs.core.sql import load_queries
from medallion_defs.silver.contract import ItemFacts, RejectedRecord
from medallion_defs.silver.tables import REJECTED_ROWS
from medallion_defs.storage.hashed import DamagedBronzeItemError

QUERIES = load_queries(__package__, "load.sql")
RELOAD_QUERIES = load_queries(__package__, "reload.sql")
Record = tuple[Any, ...] | RejectedRecord


@dataclass
class StagedItem:
    """One item of the batch as far as it was read.

    Attributes:
        number: its place in the batch from the oldest to the newest item, as the stage knows it.
        rows, rejected: records staged; as far as it came, where the reading broke off.
        flags: rows by quality flag.
        error: why the item cannot be loaded, if it cannot.
        is_complete: False when the reading broke off.
    """

    number: int
    facts: ItemFacts
    rows: int = 0
    rejected: int = 0
    flags: dict[str, int] = field(default_factory=dict)
    error: MedallionError | None = None
    is_complete: bool = True

    @property
    def is_damaged(self) -> bool:
        """Whether what was read is not what was published, so that not even what was rejected may be shown."""
        return isinstance(self.error, DamagedBronzeItemError)


class StageQueries:
    """The queries of `load.sql` and `reload.sql` for one table."""

    def __init__(self, table: Table) -> None:
        self.own = own_columns(table)
        self.table_name = sql.Identifier(str(table.schema), table.name).as_string()
        # A variant's table is made by one version of the code, and emptied for another: nothing in it is ever unmade.
        self.has_runners_up = table.schema == REJECTED_ROWS.schema
        self.rejects_name = ".".join(rejects_table(table))
        self._names = _names(table, self.own)

    def __getitem__(self, name: str) -> sql.Composed:
        query = QUERIES.get(name) or RELOAD_QUERIES[name]
        return sql.SQL(query).format(**self._names)


def rejects_table(table: Table) -> tuple[str, str]:
    """Return schema and name of the table for rejected records: the one that `table` names in its `info`, or silver's."""
    named: tuple[str, str] | None = table.info.get("rejects")
    return named or (str(REJECTED_ROWS.schema), REJECTED_ROWS.name)


def own_columns(table: Table) -> list[str]:
    """Return the source's own columns of a silver table: those before the common ones, key included."""
    names = [column.name for column in table.columns]
    return names[: names.index("file_id")]


def stage_items(
    connection: psycopg.Connection, queries: StageQueries, items: Iterable[tuple[ItemFacts, Iterator[Record]]]
) -> list[StagedItem]:
    """Copy all records of all items into `pg_temp.stage_rows`; return what was staged, in the order of `items`.

    Raises:
        ValueError: a file comes twice in the batch.
        psycopg.Error: the server refused a value, or is gone.
    """
    batch = list(items)
    numbers = _number_items([facts for facts, _ in batch])
    for name in ("create_stage", "create_reject_index", "create_known"):
        connection.execute(queries[name])
    with connection.cursor() as cursor:
        cursor.adapters.register_dumper(None, _JsonTextDumper)
        types = [column.type_code for column in cursor.execute(queries["describe_stage"]).description or ()]
        with cursor.copy(queries["copy_stage"]) as copy:
            copy.set_types(types)
            nulls = (None,) * len(queries.own)
            return [_stage_item(copy, StagedItem(numbers[facts.file_id], facts), records, nulls) for facts, records in batch]


def _stage_item(copy: psycopg.Copy, item: StagedItem, records: Iterator[Record], nulls: tuple[None, ...]) -> StagedItem:
    flags: Counter[str] = Counter()
    try:
        _copy_records(copy, item, records, flags, nulls)
    except MedallionError as error:
        item.error, item.is_complete = error, False
    item.flags = _count_flags(flags)
    return item


def _copy_records(copy: psycopg.Copy, item: StagedItem, records: Iterator[Record], flags: Counter[str], nulls: tuple[None, ...]) -> None:
    # The hot loop of every load: a local name or a call more here is a few percent.
    write, rows, rejected = copy.write_row, 0, 0
    row_end = (item.number, None)
    try:
        for record in records:
            if type(record) is tuple:
                write(record + row_end)
                rows += 1
                if record[-1]:
                    flags[record[-1]] += 1
            elif isinstance(record, RejectedRecord):
                write((record.source_record, *nulls, "", item.number, _encode_rejection(record)))
                rejected += 1
            else:
                raise TypeError(f"{item.facts.filename}: an extraction yields tuples and RejectedRecords, not {type(record).__name__}.")
    finally:
        item.rows, item.rejected = rows, rejected


def _encode_rejection(record: RejectedRecord) -> str:
    # Postgres takes neither NUL nor half a surrogate pair; a message may quote either, and would cost the whole batch.
    texts = (record.error_code, record.message, record.excerpt)
    code, message, excerpt = (text.replace("\0", "\u2400").encode("utf-8", "replace").decode() for text in texts)
    return msgspec.json.encode({"error_code": code, "message": message, "excerpt": excerpt}).decode()


def _number_items(facts: list[ItemFacts]) -> dict[UUID, int]:
    """Number the files from the oldest to the newest, from 1."""
    numbers = {file_id: number for number, (_, file_id) in enumerate(sorted((each.fetched_at, each.file_id) for each in facts), start=1)}
    if len(numbers) < len(facts):
        raise ValueError("A file comes twice in the batch: which of its rows would win is not defined.")
    return numbers


def _count_flags(joined: Counter[str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for flags, rows in joined.items():
        for flag in flags.split(","):
            counts[flag] += rows
    return dict(sorted(counts.items()))


class _JsonTextDumper(Dumper):
    """JSON text to binary jsonb. Psycopg's own would take the text for a value and quote it."""

    format = Format.BINARY
    oid = psycopg.adapters.types["jsonb"].oid

    def dump(self, obj: str) -> bytes:
        return b"\x01{}" if obj == "{}" else b"\x01" + obj.encode()


_FLAGS: LiteralString = "CASE WHEN staged.quality_flags = '' THEN '{}' ELSE string_to_array(staged.quality_flags, ',') END"


def _names(table: Table, own: list[str]) -> dict[str, sql.Composable]:
    (key,) = [column.name for column in table.primary_key]
    names: dict[str, sql.Composable] = {
        "table": sql.Identifier(str(table.schema), table.name),
        "own": sql.SQL(", ").join(map(sql.Identifier, own)),
        "key": sql.Identifier(key),
        "rejects": sql.Identifier(*rejects_table(table)),
        "staged_flags": sql.SQL(_FLAGS),
        # The table's name and not its oid: that changes when a dump is restored.
        "seed": sql.SQL("hashtextextended({}, 0)").format(sql.Literal(table.name)),
        "any_key": sql.SQL("hashtextextended({}, 1)").format(sql.Literal(table.name)),
    }
    for alias in ("staged", "present", "known"):
        names[f"{alias}_key"] = sql.Identifier(alias, key)
        names[f"{alias}_own"] = sql.SQL(", ").join(sql.Identifier(alias, name) for name in own)
    return names
