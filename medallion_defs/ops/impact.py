"""What a bad file has done: the rows to redo or recall, what may take their place, and what to type next. Reads only.

Rests on `trace_bronze`; which tables there are, the caller says. What nobody recorded is said to be unknown, never guessed.
"""

import shlex
from collections.abc import Iterable
from uuid import UUID

import msgspec
import psycopg

from medallion_defs.core.sql import load_queries
from medallion_defs.ops.lineage import Item, LineageSpec, TableRows, trace_bronze
from medallion_defs.storage.reading import ItemReader

_SQL = load_queries("medallion_defs.ops", "impact.sql")
_MOST_COUNTED = 10_000

UNKNOWN = (
    "Silver keeps one version of a key. With which values older files have these keys is not recorded: only reading them again tells.",
    "Who has read the gold rows since they were written is not recorded.",
)


class GoldRows(msgspec.Struct, frozen=True):
    """Gold rows made of the item. `role`: `subject` (they exist because of it) or `lookup` (values that they took from it)."""

    table: str
    role: str
    file_column: str
    rows: int
    examples: tuple[str, ...]


class Older(msgspec.Struct, frozen=True):
    """Loaded items of the source that would win where this one is gone and they have the key.

    `same_dataset`: those of them of its dataset; `revisions`: the file ids of earlier revisions of the same file, oldest first.
    Unless the count `is_exact`, there are at least that many of both: counting went no further.
    """

    items: int
    same_dataset: int
    revisions: tuple[UUID, ...]
    is_exact: bool = True


class LastLoad(msgspec.Struct, frozen=True):
    """What the last load of the item counted: `updated` keys had another version in silver at that time, `created` had none."""

    run_id: str | None
    read: int | None
    created: int | None
    updated: int | None
    unchanged: int | None
    duplicate: int | None


class Impact(msgspec.Struct, frozen=True):
    """All that a bad item touches now. `newer`: paths of later revisions; `unknown`: what cannot be told; `next`: steps to take."""

    item: Item
    silver: tuple[TableRows, ...]
    gold: tuple[GoldRows, ...]
    rejects: dict[str, int]
    last_load: LastLoad
    older: Older
    newer: tuple[str, ...]
    unknown: tuple[str, ...]
    next: tuple[str, ...]


def find_impact(
    connection: psycopg.Connection,
    which: UUID | str,
    silver: Iterable[LineageSpec],
    gold: Iterable[LineageSpec],
    bronze: ItemReader | None = None,
) -> Impact:
    """Return what must be redone or recalled when an item is bad. Time grows with the rows of the item and the source's items.

    Args:
        which: as for `trace_bronze`.

    Raises:
        TerminalError: the ledger knows no such item, or its directory cannot be read.
    """
    gold = tuple(gold)
    trace = trace_bronze(connection, which, silver, gold, bronze, most_counted=None)
    newer = connection.execute(_SQL["newer_revisions"], {"file_id": trace.item.file_id}).fetchall()
    found = Impact(
        item=trace.item,
        silver=trace.silver,
        gold=tuple(_with_role(rows, gold) for rows in trace.gold),
        rejects=trace.rejects,
        last_load=msgspec.convert({name.removeprefix("silver_rows_"): value for name, value in _load_columns(trace.ledger)}, LastLoad),
        older=_read_older(connection, trace.item.file_id),
        newer=tuple(path for (path,) in newer),
        unknown=UNKNOWN if trace.silver or trace.gold else (),
        next=(),
    )
    return msgspec.structs.replace(found, next=tuple(next_steps(found)))


def next_steps(impact: Impact) -> Iterable[str]:
    """Yield what to do, in order; commands as they are typed. Pure."""
    item, tables = impact.item, [rows.table for rows in impact.silver]
    if not (impact.silver or impact.gold):
        if item.status in ("pending", "claimed", "retrying"):
            yield f"The item is {item.status}: what it will bring is not in silver yet. Ask again when it is loaded."
        else:
            yield "No row is made of the item now. There is nothing to redo."
        return
    landing = shlex.quote(f"data/landing/{item.source_type}/{item.external_id}")
    yield f"medallion bronze verify {item.source_type}    # damaged on the disk, or bad as it was delivered?"
    yield f"cp <corrected file> {landing} && medallion fetch {item.source_type}    # a new revision wins every key that it has"
    yield f"medallion impact {item.file_id}    # afterwards: what still names the bad file, for a new revision deletes nothing of the old"
    for table in tables:
        yield f"medallion backfill {table} --file-id {item.file_id}    # when the transform was bad, not the file, and is mended"
    yield f"medallion withdraw {item.file_id} --reason '…'    # where nothing corrects it: its rows leave silver and gold, its bytes stay"
    if impact.older.items:
        yield "Older files that have the same keys take over then: they are read again by themselves, and gold follows."


def _read_older(connection: psycopg.Connection, file_id: UUID) -> Older:
    [(items, same_dataset)] = connection.execute(_SQL["older_items"], {"file_id": file_id, "most": _MOST_COUNTED}).fetchall()
    revisions = connection.execute(_SQL["older_revisions"], {"file_id": file_id}).fetchall()
    return Older(items, same_dataset, tuple(revision for (revision,) in revisions), items < _MOST_COUNTED)


def _with_role(rows: TableRows, specs: Iterable[LineageSpec]) -> GoldRows:
    [spec] = [spec for spec in specs if spec.table == rows.table]
    role = "subject" if rows.file_column == spec.file_columns[0] else "lookup"
    return GoldRows(rows.table, role, rows.file_column, rows.rows, rows.examples)


def _load_columns(ledger: dict[str, object]) -> Iterable[tuple[str, object]]:
    names = ("silver_rows_read", "silver_rows_created", "silver_rows_updated", "silver_rows_unchanged", "silver_rows_duplicate")
    return [("run_id", ledger["silver_run_id"]), *((name, ledger[name]) for name in names)]
