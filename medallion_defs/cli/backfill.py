"""`medallion backfill`: a part of history once more, in this process, by the engines that the assets use.

Words in, sentences out: which part is `ops/scope.py`, the work is `silver/backfill.py` and `gold/enrich_run.py`.
"""

import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated
from uuid import uuid4

import typer
from pydantic import ByteSize

from medallion_defs.core import clock, db
from medallion_defs.core.content import load_content
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings, load_settings
from medallion_defs.gold.contract import Enrichment
from medallion_defs.gold.enrich_run import Step, follow_scope
from medallion_defs.gold.reconcile import measure as measure_gold
from medallion_defs.locations.silver import load_contents
from medallion_defs.ops.ledger_values import Extent
from medallion_defs.ops.scope import RunScope, Scope, parse_before, parse_scope
from medallion_defs.silver.backfill import left_behind, load_history, measure
from medallion_defs.silver.load_run import LoadReport, SilverContent
from medallion_defs.stack.databases import database_at_hand

_SCOPES = [scope.name for scope in RunScope if scope is not RunScope.pending]
_SHOWN = 20


def backfill(
    table: Annotated[str, typer.Argument(help="A silver or gold table, such as silver.driver_events.")],
    scope: Annotated[str | None, typer.Option(help=f"{', '.join(_SCOPES)}; default: what the other options say, else all.")] = None,
    since: Annotated[str | None, typer.Option(help="What was fetched from this time on: 2026-11-01T00:00:00+00:00.")] = None,
    file_id: Annotated[list[str] | None, typer.Option(help="This item; can be repeated.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Items of this dataset of a recipe; * and ? allowed.")] = None,
    before: Annotated[str | None, typer.Option(help="Silver: only what was last processed before this time; to do the rest.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how much there is to do, and do nothing.")] = False,
) -> None:
    """Load a part of history again, or compare gold with silver again; what is right already is not written."""
    chosen = _choose_scope(scope, since, file_id or [], dataset)
    silver = {f"silver.{content.table.name}": content for content in load_contents()}
    gold = _enrichments()
    if table not in silver.keys() | gold.keys():
        raise ConfigurationError(f"There is no table {table} to backfill. There is: {', '.join(sorted(silver.keys() | gold.keys()))}.")
    code = silver[table].code if table in silver else None
    part = parse_scope(chosen, since, file_id or [], dataset, current_code=code)
    until = parse_before(before, clock.now())
    if table in gold and before:
        raise ConfigurationError("--before is for silver. Gold is compared again from the start, and only what differs is written.")
    with database_at_hand(load_settings()) as settings:
        if table in gold:
            _measure_gold(settings, gold[table], part) if dry_run else _backfill_gold(settings, gold[table], part)
        elif dry_run:
            _measure_silver(settings, silver[table], part, until)
        else:
            _backfill_silver(settings, silver[table], part, until, again=_words(table, scope, since, file_id or [], dataset, until))


def _choose_scope(scope: str | None, since: str | None, file_ids: list[str], dataset: str | None) -> RunScope:
    """Return the scope that was named, or that the given values belong to."""
    if scope is not None:
        if scope not in _SCOPES:
            raise ConfigurationError(f"--scope {scope}: a backfill takes {', '.join(_SCOPES)}.")
        return RunScope[scope]
    values = {RunScope.since: since, RunScope.file_ids: file_ids, RunScope.dataset: dataset}
    # Two at once: the first wins here, and parse_scope refuses the other.
    return next((owner for owner, value in values.items() if value), RunScope.all)


def _enrichments() -> dict[str, Enrichment]:
    found = [module.ENRICHMENT for module in load_content("medallion_defs.enrichments", "enrichment", "ENRICHMENT").values()]
    return {enrichment.qualified_name: enrichment for enrichment in found}


def _words(table: str, scope: str | None, since: str | None, file_ids: list[str], dataset: str | None, before: datetime) -> str:
    """Return the command that does the rest of this one."""
    options: Mapping[str, str | None] = {"--scope": scope, "--since": since, "--dataset": dataset}
    words = ["medallion", "backfill", table, *(word for name, value in options.items() if value for word in (name, value))]
    words += [word for file_id in file_ids for word in ("--file-id", file_id)]
    return shlex.join([*words, "--before", before.isoformat()])


def _measure_silver(settings: Settings, content: SilverContent, part: Scope, before: datetime) -> None:
    extent, left = measure(settings, content, part, before), left_behind(settings, content)
    typer.echo(f"Would process {_describe(extent)} as last counted.")
    if extent.uncounted_items:
        typer.echo(f"{extent.uncounted_items:,} of the items were never read to their end: how many rows they have is not known.")
    if left:
        typer.echo(f"And first what a killed backfill left: {sum(batch.items for batch in left):,} items.")


def _measure_gold(settings: Settings, enrichment: Enrichment, part: Scope) -> None:
    with db.connect(settings, "medallion_console") as connection:
        extent = measure_gold(connection, enrichment, part)
    typer.echo(f"Would compare gold with {extent.rows:,} silver rows, made of {extent.items:,} items; only what differs is written.")


def _describe(extent: Extent) -> str:
    return f"{extent.items:,} items, {ByteSize(extent.bytes).human_readable(decimal=True)}, {extent.rows:,} rows"


def _backfill_silver(settings: Settings, content: SilverContent, part: Scope, before: datetime, *, again: str) -> None:
    extent, run_id = measure(settings, content, part, before), f"cli-{uuid4()}"
    typer.echo(f"{run_id}: {_describe(extent)}. If it is stopped, this does the rest:\n  {again}")
    for batch in left_behind(settings, content):
        typer.echo(f"{batch.batch_id}, {batch.items:,} items that a killed backfill left, comes first")
    reports: list[LoadReport] = []
    for batch_id, report in load_history(settings, content, part, before, run_id):
        reports.append(report)
        typer.echo(f"{batch_id}: {_describe_load(report)}; {sum(len(done.items) for done in reports):,} items done")
    total = LoadReport.merge(reports)
    typer.echo(f"Done: {_describe_load(total)}.")
    for item in total.failed[:_SHOWN]:
        typer.echo(f"{item.status:9}{item.bronze_path}: {(item.silver_errors or {}).get('message')}")
    if total.failed:
        typer.echo(f"{len(total.failed):,} items failed. 'medallion status' says what became of them.")
        raise typer.Exit(1)


def _describe_load(report: LoadReport) -> str:
    counts = {name: report.total(f"silver_rows_{name}") for name in ("read", "created", "updated")}
    rows = ", ".join(f"{number:,} {name}" for name, number in counts.items())
    return f"{len(report.loaded):,} items loaded, {len(report.failed):,} failed, rows {rows}, {report.seconds:.1f} s"


def _backfill_gold(settings: Settings, enrichment: Enrichment, part: Scope) -> None:
    run_id = f"cli-{uuid4()}"
    typer.echo(f"{run_id}: if it is stopped, start it again; what is right already is not written.")
    steps: list[Step] = []
    for step in follow_scope(settings, enrichment, run_id, part):
        steps.append(step)
        typer.echo(f"{step.checked:,} rows compared: {step.created:,} created, {step.updated:,} updated, {step.orphans:,} orphans removed")
    checked, created, updated = (sum(getattr(step, name) for step in steps) for name in ("checked", "created", "updated"))
    typer.echo(f"Done: {checked:,} rows compared, {created:,} created, {updated:,} updated.")
