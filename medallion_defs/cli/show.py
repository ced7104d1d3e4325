"""How answers look in a terminal. Pure: from values to rich renderables."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import ByteSize
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from medallion_defs.core.timing import format_duration
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.lateness import Finding, SourceFacts
from medallion_defs.ops.ledger_values import StatusCount
from medallion_defs.ops.lineage import Item, ItemTrace, Record, TableRows, Trace

_STATUSES = ("pending", "claimed", "loaded", "retrying", "dead", "refused", "withdrawn", "removed")


def status(
    counts: Sequence[StatusCount],
    facts: Sequence[SourceFacts],
    expected: Mapping[str, timedelta | None],
    findings: Sequence[Finding],
    troubled: Sequence[DatasetIngestion],
    now: datetime,
) -> RenderableType:
    """Return one line per source, what is late, then the items that need a person."""
    parts: list[RenderableType] = [_sources(counts, {one.source_type: one for one in facts}, expected, now)]
    # The items that failed are in the last table, by name.
    parts += [f"[yellow]{finding.kind}[/yellow]  {escape(finding.sentence)}" for finding in findings if finding.kind != "failed"]
    return Group(*parts, _troubles(troubled)) if troubled else Group(*parts)


def _sources(
    counts: Sequence[StatusCount], facts: Mapping[str, SourceFacts], expected: Mapping[str, timedelta | None], now: datetime
) -> RenderableType:
    if not counts:
        return "Nothing has been ingested yet. Drop files in data/landing/<source>/, or try 'make demo'."
    shown = [name for name in _STATUSES if name == "loaded" or any(count.status == name for count in counts)]
    table = Table(title="Items by status", caption="lag: how long the first item that is not in silver yet has been waiting")
    table.add_column("source")
    for name in (*shown, "size", "lag", "last item", "expected"):
        table.add_column(name, justify="right")
    for source in sorted({count.source_type for count in counts}):
        by_status = {count.status: count for count in counts if count.source_type == source}
        numbers = [f"{by_status[name].items:,}" if name in by_status else "" for name in shown]
        size = ByteSize(sum(count.bytes for count in by_status.values())).human_readable(decimal=True)
        known, every = facts.get(source), expected.get(source)
        lag = format_duration(now - known.waits_since) if known and known.waits_since else ""
        last = f"{format_duration(now - known.arrived_at)} ago" if known and known.arrived_at else ""
        table.add_row(source, *numbers, size, lag, last, f"every {format_duration(every)}" if every else "")
    return table


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
        at_least = "" if found.is_rejects_exact else "at least "
        tree.add(f"{at_least}{number:,} records rejected: {escape(code)}")
    return tree


def _add_record(tree: Tree, record: Record) -> None:
    age = "" if record.is_current else "  [yellow](silver has a newer version by now)[/yellow]"
    branch = tree.add(f"← [bold]{record.table}[/bold] {escape(record.key)}{age}")
    which = "" if record.source_record is None else f"record {record.source_record:,} of "
    item = branch.add(f"← {which}bronze item {escape(str(record.item.bronze_path))}")
    _add_item(item, record.item)


def _add_item(branch: Tree, item: Item) -> None:
    branch.add(f"[dim]file_id[/dim] {item.file_id}  [dim]status[/dim] {item.status}  [dim]revision[/dim] {item.revision}")
    if item.bronze_error:
        branch.add(f"[red]refused[/red] {escape(item.bronze_error)}")
    if item.origin:
        branch.add(f"[dim]origin[/dim] {escape(item.origin)}  [dim]fetched[/dim] {item.fetched_at}")
    if item.note:
        branch.add(f"[yellow]fetched[/yellow] {escape(item.note)}")
    if item.removed:
        branch.add(f"[red]bytes[/red] {escape(item.removed)}; what is known of them:")
    if item.withdrawn_reason:
        branch.add(f"[red]withdrawn[/red] {escape(item.withdrawn_reason)}")
    for artifact in item.artifacts:
        branch.add(f"[dim]file[/dim] {escape(artifact.name)}  {artifact.bytes:,} bytes  [dim]sha256[/dim] {artifact.sha256}")
    for sentence in item.damage:
        branch.add(f"[red]not as published[/red] {escape(sentence)}")


def _rows(rows: TableRows) -> str:
    count = f"{rows.rows:,}" if rows.is_exact else f"more than {rows.rows:,}"
    return f"{rows.table}: {count} by {rows.file_column}, such as {escape(', '.join(rows.examples))}"


def _troubles(troubled: Sequence[DatasetIngestion]) -> Table:
    table = Table(title="Items that need a person, or wait for a retry")
    for name in ("item", "status", "attempts", "why"):
        table.add_column(name, overflow="fold")
    for row in troubled:
        why = row.bronze_error or (row.silver_errors or {}).get("message", "")
        table.add_row(escape(row.bronze_path or row.external_id), row.status, str(row.attempts), escape(why))
    return table
