"""How answers look in a terminal. Pure: from values to rich renderables."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import ByteSize
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.ledger import Lag, StatusCount
from medallion_defs.ops.lineage import Item, ItemTrace, Record, TableRows, Trace

_STATUSES = ("pending", "claimed", "loaded", "retrying", "dead", "refused")


def status(counts: Sequence[StatusCount], lags: Sequence[Lag], troubled: Sequence[DatasetIngestion], now: datetime) -> RenderableType:
    """Return one line per source, then the items that need a person."""
    if not counts:
        return "Nothing has been ingested yet. Drop files in data/landing/<source>/, or try 'make demo'."
    shown = [name for name in _STATUSES if name == "loaded" or any(count.status == name for count in counts)]
    table = Table(title="Items by status", caption="lag: age of the oldest item that is not in silver yet")
    table.add_column("source")
    for name in (*shown, "size", "lag"):
        table.add_column(name, justify="right")
    waits = {lag.source_type: now - lag.oldest_at for lag in lags}
    for source in sorted({count.source_type for count in counts}):
        by_status = {count.status: count for count in counts if count.source_type == source}
        numbers = [f"{by_status[name].items:,}" if name in by_status else "" for name in shown]
        wait = str(waits[source]).partition(".")[0] if source in waits else ""
        size = ByteSize(sum(count.bytes for count in by_status.values())).human_readable(decimal=True)
        table.add_row(source, *numbers, size, wait)
    return Group(table, _troubles(troubled)) if troubled else table


def trace(found: Trace) -> Tree:
    """Return the tree: row ← silver rows ← bronze item ← file, record and hashes."""
    tree = Tree(f"[bold]{escape(found.table)}[/bold] {escape(found.key)}")
    for column, value in found.row.items():
        if value is not None and not column.endswith(("_file_id", "_source_record", "_change_seq")):
            tree.add(f"[dim]{column}[/dim] {escape(str(value))}")
    for record in found.records:
        _add_record(tree, record)
    return tree


def item_trace(found: ItemTrace) -> Tree:
    """Return the tree: bronze item → ledger → silver rows, rejects and gold rows."""
    tree = Tree(f"[bold]{escape(found.item.bronze_path or found.item.external_id)}[/bold]")
    _add_item(tree, found.item)
    ledger = tree.add("ledger")
    for column, value in found.ledger.items():
        if value is not None and column.startswith(("silver_", "gold_", "batch_id", "attempts", "dataset")):
            ledger.add(f"[dim]{column}[/dim] {escape(str(value))}")
    for name, tables in (("silver", found.silver), ("gold", found.gold)):
        branch = tree.add(f"rows in {name} now" if tables else f"no rows in {name}")
        for rows in tables:
            branch.add(_rows(rows))
    for code, number in found.rejects.items():
        tree.add(f"{number:,} records rejected: {escape(code)}")
    return tree


def _add_record(tree: Tree, record: Record) -> None:
    age = "" if record.is_current else "  [yellow](silver has a newer version by now)[/yellow]"
    branch = tree.add(f"← [bold]{record.table}[/bold] {escape(record.key)}{age}")
    item = branch.add(f"← record {record.source_record:,} of bronze item {escape(str(record.item.bronze_path))}")
    _add_item(item, record.item)


def _add_item(branch: Tree, item: Item) -> None:
    branch.add(f"[dim]file_id[/dim] {item.file_id}  [dim]status[/dim] {item.status}  [dim]revision[/dim] {item.revision}")
    if item.bronze_error:
        branch.add(f"[red]refused[/red] {escape(item.bronze_error)}")
    if item.origin:
        branch.add(f"[dim]origin[/dim] {escape(item.origin)}  [dim]fetched[/dim] {item.fetched_at}")
    for artifact in item.artifacts:
        branch.add(f"[dim]file[/dim] {escape(artifact.name)}  {artifact.bytes:,} bytes  [dim]sha256[/dim] {artifact.sha256}")


def _rows(rows: TableRows) -> str:
    return f"{rows.table}: {rows.rows:,} by {rows.file_column}, such as {escape(', '.join(rows.examples))}"


def _troubles(troubled: Sequence[DatasetIngestion]) -> Table:
    table = Table(title="Items that need a person, or wait for a retry")
    for name in ("item", "status", "attempts", "why"):
        table.add_column(name, overflow="fold")
    for row in troubled:
        why = row.bronze_error or (row.silver_errors or {}).get("message", "")
        table.add_row(escape(row.bronze_path or row.external_id), row.status, str(row.attempts), escape(why))
    return table
