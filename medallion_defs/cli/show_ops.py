"""How the run calendar, the summary of a run and the list of items look in a terminal. Pure: from values to rich renderables."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import ByteSize
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from medallion_defs.ops.ledger_values import Page
from medallion_defs.ops.summary import ItemError, RunLine, RunPage, RunSummary, Stage

_COUNTS = ("read", "created", "updated", "unchanged", "duplicate", "rejected")


def calendar(page: RunPage) -> RenderableType:
    """Return one line per run, latest first."""
    if not page.runs:
        return "No run fits. The ledger names the last run of each layer for every item; 'medallion ops runs --help' says how to ask."
    more = "There are more: raise --limit, or go on with --to." if page.next else None
    table = Table(title="Runs by start (UTC)", caption=more)
    for name in ("run", "layer", "what", "status", "start"):
        table.add_column(name, overflow="fold")
    for name in ("seconds", "items", "failed", "read", "created", "updated", "rejected"):
        table.add_column(name, justify="right")
    for run in page.runs:
        rows = (run.rows_read, run.rows_created, run.rows_updated, run.rows_rejected)
        table.add_row(*_head(run), _seconds(run), f"{run.items:,}", _number(run.items_failed or None), *map(_number, rows))
    return table


def summary(found: RunSummary) -> RenderableType:
    """Return the run, its items layer by layer, and the errors."""
    parts: list[RenderableType] = [
        _stages(f"Run {found.run_id}: {', '.join(_what(run))}, {run.status}, began {_time(run.started_at)}", [run]) for run in found.runs
    ]
    parts.append(_stages("Its items by now, whichever runs took them there", found.stages))
    if found.errors:
        parts.append(_errors(found.errors))
    return Group(*parts)


def files(page: Page) -> RenderableType:
    """Return one line per item."""
    if not page.rows:
        return "No item fits."
    table = Table(title="Items by registration", caption="There are more: raise --limit, or narrow the question." if page.next else None)
    for name in ("item", "status", "fetched"):
        table.add_column(name, overflow="fold")
    for name in ("size", "attempts", "read", "created", "updated", "rejected"):
        table.add_column(name, justify="right")
    table.add_column("silver run", overflow="fold")
    for row in page.rows:
        counts = (row.silver_rows_read, row.silver_rows_created, row.silver_rows_updated, row.silver_rows_rejected)
        table.add_row(
            escape(row.bronze_path or row.external_id), row.status, _time(row.bronze_ingest_end_time), _size(row.bronze_bytes),
            str(row.attempts), *map(_number, counts), row.silver_run_id or "",
        )  # fmt: skip
    return table


def _head(run: RunLine) -> tuple[str, ...]:
    return run.run_id, run.layer, ", ".join(_what(run)), run.status, _time(run.started_at)


def _what(run: RunLine) -> list[str]:
    return run.tables or [f"bronze.{name}" for name in run.source_types]


def _stages(title: str, stages: Sequence[Stage]) -> Table:
    table = Table(title=title)
    table.add_column("layer")
    for name in ("items", "failed", "open", "size", "seconds", "rows/s", "bytes/s", *_COUNTS):
        table.add_column(name, justify="right")
    for stage in stages:
        counts = (getattr(stage, f"rows_{name}") for name in _COUNTS)
        numbers = (stage.items, stage.items_failed or None, stage.items_open or None)
        speed = _seconds(stage), _rate(stage.rows_per_second), _size_rate(stage.bytes_per_second)
        table.add_row(stage.layer, *map(_number, numbers), _size(stage.bytes), *speed, *map(_number, counts))
    return table


def _errors(errors: Sequence[ItemError]) -> Table:
    table = Table(title="What failed")
    for name in ("item", "layer", "status now", "attempts", "why"):
        table.add_column(name, overflow="fold")
    for error in errors:
        table.add_row(
            escape(error.item), error.layer, error.status, str(error.attempts), escape(f"{error.error_type}: {error.message}")
        )  # fmt: skip
    return table


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _size(size: int | None) -> str:
    return "" if size is None else ByteSize(size).human_readable(decimal=True)


def _seconds(stage: Stage) -> str:
    return "" if stage.seconds is None else f"{stage.seconds:,.2f}"


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.0f}"


def _size_rate(rate: float | None) -> str:
    return "" if rate is None else ByteSize(rate).human_readable(decimal=True)


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
