"""Which run did what: the run calendar and the summary of one run, read from the ledger when somebody asks. Nothing is stored.

The ledger says of each item which run fetched it, and which silver and which gold run touched it **last**. So a summary is the
work of a run that still stands: an item that a later silver run has loaded again is in that run's summary and no longer in the
first one's; a run all of whose items were done again is not in the calendar at all, nor is one that found nothing to do. Gold's
created and updated rows are added up per item over all gold runs up to the last. Dagster's event log has each run as it was.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, LiteralString
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import class_row

from medallion_defs.core.errors import TerminalError
from medallion_defs.core.sql import load_queries
from medallion_defs.core.timing import per_second

Layer = Literal["bronze", "silver", "gold"]
RunStatus = Literal["open", "done", "partial", "failed"]

_SQL = load_queries("medallion_defs.ops", "summary.sql")
_SHOWN_ERRORS = 100


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What one layer did with some items.

    Attributes:
        started_at, ended_at, seconds: the first start, the last end and the time between; None while an item is open.
        items_failed: refused by bronze, or failed in silver or gold.
        items_open: begun and not ended. A killed run leaves such items until its microbatch is released.
        bytes: size of the items in bronze.
        rows_per_second, bytes_per_second: rows read (silver) or written (gold), and `bytes`, over `seconds`; None where there is none.
        rows_read, …: None where the layer does not count such rows: bronze counts none, gold only created and updated ones.
    """

    layer: Layer
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    items: int
    items_failed: int
    items_open: int
    bytes: int
    rows_read: int | None
    rows_created: int | None
    rows_updated: int | None
    rows_unchanged: int | None
    rows_duplicate: int | None
    rows_rejected: int | None
    rows_per_second: float | None = None
    bytes_per_second: float | None = None

    def __post_init__(self) -> None:
        rows = rows_done(self.rows_read, self.rows_created, self.rows_updated)
        msgspec.structs.force_setattr(self, "rows_per_second", per_second(rows, self.seconds))
        msgspec.structs.force_setattr(self, "bytes_per_second", per_second(self.bytes, self.seconds))


class RunLine(Stage, frozen=True, kw_only=True):
    """One line of the run calendar.

    Attributes:
        tables: the tables written; empty for bronze.
        status: `open` (an item has not ended), `done`, `partial` (some items failed), `failed` (all did).
    """

    run_id: str
    source_types: list[str]
    tables: list[str]
    status: RunStatus


class RunPage(msgspec.Struct, frozen=True):
    """Lines of the calendar, latest start first; `next` continues after them, None at the end."""

    runs: list[RunLine]
    next: tuple[datetime, str, Layer] | None


class ItemError(msgspec.Struct, frozen=True, kw_only=True):
    """Why an item failed in a layer. `run_id` is None for an item that its run never reached; `status` is the item's, now."""

    layer: Layer
    run_id: str | None
    file_id: UUID
    source_type: str
    item: str
    status: str
    attempts: int
    error_type: str
    message: str


class RunSummary(msgspec.Struct, frozen=True):
    """What is known of one run.

    Attributes:
        runs: the run itself; one line, unless one Dagster run worked in several layers.
        stages: where the items of the run are by now, layer by layer, whichever runs took them there.
        errors: of those items in every layer, oldest first, at most 100; `Stage.items_failed` counts all.
    """

    run_id: str
    runs: tuple[RunLine, ...]
    stages: tuple[Stage, ...]
    errors: tuple[ItemError, ...]


def list_runs(
    connection: psycopg.Connection[Any],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    source_type: str | None = None,
    status: RunStatus | None = None,
    limit: int = 100,
    after: tuple[datetime, str, Layer] | None = None,
) -> RunPage:
    """Return one page of the runs that began at or after `since` and before `until`. Reads the whole ledger.

    Args:
        source_type: only runs that had an item of it; the counts stay those of the whole run.
        after: `next` of the page before.
    """
    after_at, after_run, after_layer = after or (None, None, None)
    params = {
        "since": since, "until": until, "source_type": source_type, "status": status, "limit": limit + 1,
        "after_at": after_at, "after_run": after_run, "after_layer": after_layer,
    }  # fmt: skip
    with connection.cursor(row_factory=class_row(RunLine)) as cursor:
        runs = cursor.execute(compose("list_runs", which="item_any"), params).fetchall()
    shown = runs[:limit]
    is_last = len(runs) <= limit or not shown
    return RunPage(shown, None if is_last else _position(shown[-1]))


def summarize_run(connection: psycopg.Connection[Any], run_id: str) -> RunSummary:
    """Return what is known of a Dagster run of any layer.

    Raises:
        TerminalError: the ledger names no such run.
    """
    params = {"run_id": run_id, "limit": _SHOWN_ERRORS}
    with connection.cursor(row_factory=class_row(RunLine)) as cursor:
        runs = cursor.execute(compose("lines_of_run"), params).fetchall()
    if not runs:
        raise unknown_run(run_id)
    with connection.cursor(row_factory=class_row(Stage)) as cursor:
        stages = cursor.execute(compose("stages_of_run"), params).fetchall()
    with connection.cursor(row_factory=class_row(ItemError)) as cursor:
        errors = cursor.execute(compose("errors_of_run"), params).fetchall()
    return RunSummary(run_id, tuple(runs), tuple(stages), tuple(errors))


def rows_done(rows_read: int | None, rows_created: int | None, rows_updated: int | None) -> int | None:
    """Return the rows by which a stage's speed is told: those read, where they are counted, else those written; None for bronze."""
    if rows_read is not None:
        return rows_read
    return None if rows_created is None and rows_updated is None else (rows_created or 0) + (rows_updated or 0)


def unknown_run(run_id: str) -> TerminalError:
    """Return the error for a run that the ledger does not name, with the reasons there can be."""
    return TerminalError(
        f"The ledger names no run '{run_id}'. Give the whole id, as 'medallion ops runs' or the page shows it. A run that found "
        "nothing to do is not in the ledger, nor is one whose items a later run has done again; Dagster's page has its log."
    )


def compose(name: LiteralString, which: LiteralString = "item_of_run") -> sql.Composed:
    """Return a query of `summary.sql` over the items that the block `which` selects."""
    parts: Mapping[str, sql.Composable] = {"counts": sql.SQL(_SQL["counts"])}
    stages = sql.SQL(_SQL["stages"]).format(which=sql.SQL(_SQL[which]))
    runs = sql.SQL(_SQL["runs"]).format(stages=stages, **parts)
    return sql.SQL(_SQL[name]).format(stages=stages, runs=runs, **parts)


def _position(run: RunLine) -> tuple[datetime, str, Layer] | None:
    return (run.started_at, run.run_id, run.layer) if run.started_at else None
