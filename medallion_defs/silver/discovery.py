"""Discovery: which bronze items silver has not heard of. The storage says what is there, the ledger what is known.

Both ways of looking register what is new; claiming is the ledger's. Nothing here opens an artifact.
"""

import time
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import psycopg

from medallion_defs.core import clock
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.ledger import Ledger
from medallion_defs.storage.reading import Cursor, EntryPage, ItemReader, Mode, Problem
from medallion_defs.storage.tombstone import Entry, Tombstone


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """What one call found.

    Attributes:
        cursor: for the next call; under 1 KB as JSON.
        registered: items that are new to the ledger.
        seen: directory names listed or index lines read; 0 when the cursor told that nothing moved.
        mode: how it looked.
        complete: False when the time was up; the next call goes on.
        problems: what could not be registered. Scan reports one at every tick until it is gone, index once.
    """

    cursor: Cursor
    registered: int
    seen: int
    mode: Mode
    complete: bool
    problems: tuple[Problem, ...] = ()


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """All of a source's directories against the ledger. `gone`: bronze paths in the ledger whose directory is not there."""

    directories: int
    known: int
    registered: int
    gone: tuple[str, ...]
    problems: tuple[Problem, ...]


def discover(
    connection: psycopg.Connection[Any],
    items: ItemReader,
    source_type: str,
    cursor: Cursor | None,
    mode: Literal["auto", "scan", "index"],
    budget_seconds: float,
) -> Discovery:
    """Register in the ledger the items of a source that it does not know, in the caller's transaction.

    Each call makes progress, however small the budget; it stops at the first page past it.

    Raises:
        TransientError: the source is there but cannot be read. Never raised for a single item.
    """
    deadline = time.monotonic() + budget_seconds
    ledger, registered, problems = Ledger(connection), 0, list[Problem]()
    for page in items.entries(source_type, cursor, mode, lambda: ledger.known_directories(source_type)):
        registered += _register_page(ledger, page)
        problems += page.problems
        if time.monotonic() > deadline:
            break
    return Discovery(
        cursor=page.cursor, registered=registered, seen=page.seen, mode=page.mode, complete=page.is_last, problems=tuple(problems)
    )  # fmt: skip


def reconcile(connection: psycopg.Connection[Any], items: ItemReader, source_type: str) -> Reconciliation:
    """Compare every directory of a source with the ledger; register what both ways of discovery missed.

    Raises:
        TransientError: the source cannot be read.
    """
    ledger = Ledger(connection)
    # The ledger first: an item published in between is then unknown, which registering puts right, and never "gone".
    known = ledger.known_directories(source_type)
    names = items.directories(source_type)
    registered, problems = 0, list[Problem]()
    for page in items.read_entries(source_type, sorted(set(names) - known)):
        registered += _register(ledger, _as_rows(page.entries))
        problems += page.problems
    gone = tuple(f"{source_type}/{name}" for name in sorted(known - set(names)))
    return Reconciliation(directories=len(names), known=len(known), registered=registered, gone=gone, problems=tuple(problems))


def _register_page(ledger: Ledger, page: EntryPage) -> int:
    rows = _as_rows(page.entries)
    return _register_unknown(ledger, rows) if page.mode == "index" else _register(ledger, rows)


def _register_unknown(ledger: Ledger, rows: Sequence[DatasetIngestion]) -> int:
    # Asking first: after a reindex nearly every line is known, and a refused insert costs ten times a look.
    by_path = {row.bronze_path: row for row in rows if row.bronze_path}
    unknown = ledger.unknown_paths(list(by_path))
    # A tombstone is registered whether or not its path is known: its item's own line, read first, may have made the path known.
    return _register(ledger, [row for path, row in by_path.items() if path in unknown or row.bronze_removed_at])


def _register(ledger: Ledger, rows: Sequence[DatasetIngestion]) -> int:
    removed = [row for row in rows if row.bronze_removed_at]
    registered = ledger.register_published(row for row in rows if not row.bronze_removed_at)
    return registered + (ledger.register_removed(removed) if removed else 0)


def _as_rows(entries: Sequence[Entry]) -> list[DatasetIngestion]:
    now = clock.now()
    return [
        DatasetIngestion.buried(entry, now) if isinstance(entry, Tombstone) else DatasetIngestion.published(entry, now) for entry in entries
    ]
