"""`medallion retention`: what the policies in medallion.yaml let go; shown first, done with `--apply`. Each layer does its own part."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import dagster as dg
import msgspec
import typer
from pydantic import ByteSize
from rich.table import Table

from medallion_defs.bronze.maintenance.retention import apply_bronze, plan_bronze
from medallion_defs.bronze.maintenance.retention_job import prune_old_runs
from medallion_defs.bronze.store import open_store
from medallion_defs.cli.answer import print_rich
from medallion_defs.cli.data import AsJson
from medallion_defs.core import clock, db
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings, load_settings, process_environment
from medallion_defs.ops.retention import RetentionLine
from medallion_defs.silver.retention import prune_rejects
from medallion_defs.stack.databases import database_at_hand


def retention(
    apply: Annotated[bool, typer.Option("--apply", help="Remove it. Without, nothing is changed.")] = False, as_json: AsJson = False
) -> None:
    """Show what the retention policies in medallion.yaml let go, or remove it; exit code 1 when something could not be removed."""
    with database_at_hand(load_settings()) as settings:
        lines, problems = run_policies(settings, clock.now(), apply=apply)
    if as_json:
        typer.echo(msgspec.json.encode({"applied": apply, "lines": lines, "problems": problems}).decode())
    else:
        _show(lines, applied=apply)
        for problem in problems:
            typer.echo(f"not removed: {problem}")
    if problems:
        raise typer.Exit(1)


def run_policies(settings: Settings, now: datetime, *, apply: bool) -> tuple[list[RetentionLine], list[str]]:
    """Apply all policies, or look what they would remove; return that, and what could not be removed and why."""
    plans = plan_bronze(settings, now)
    problems: list[str] = []
    lines = [line for plan in plans for line in plan.lines]
    if apply:
        removed = apply_bronze(settings, open_store(settings), plans, now)
        lines, problems = removed.lines, removed.problems
    if settings.retention.rejects_days is not None:
        with db.connect(settings, "medallion_silver" if apply else "medallion_console", autocommit=True) as connection:
            lines.append(prune_rejects(connection, settings.retention.rejects_days, now, apply=apply))
    if settings.retention.runs_days is not None:
        with _dagster() as instance:
            lines += prune_old_runs(settings, instance, apply=apply)
    return lines, problems


@contextmanager
def _dagster() -> Iterator[dg.DagsterInstance]:
    if not {"DAGSTER_HOME", "DAGSTER_PG_URL"} <= process_environment().keys():
        raise ConfigurationError(
            "retention.runs_days is set, and this shell does not know where Dagster keeps its runs. Export DAGSTER_HOME and DAGSTER_PG_URL "
            "as for 'dagster dev', or let the schedule retention_bronze do it. The rest was done."
        )
    with dg.DagsterInstance.get() as instance:
        yield instance


def _show(lines: list[RetentionLine], *, applied: bool) -> None:
    if not lines:
        typer.echo("No policy lets anything go. Policies are set in medallion.yaml; see docs/retention.md.")
        return
    table = Table(title="Removed" if applied else "Would be removed; nothing was changed (--apply does it)")
    for name in ("what", "rule"):
        table.add_column(name, overflow="fold")
    for name in ("number", "bytes", "oldest", "kept: rows are made of it"):
        table.add_column(name, justify="right")
    for line in lines:
        size = "" if line.bytes is None else ByteSize(line.bytes).human_readable(decimal=True)
        oldest = "" if line.oldest_at is None else f"{line.oldest_at:%Y-%m-%d}"
        table.add_row(line.what, line.rule, f"{line.number:,}", size, oldest, f"{line.kept_for_traces:,}" if line.kept_for_traces else "")
    print_rich(table)
