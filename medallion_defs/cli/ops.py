"""Commands on the ledger: `ops runs`, `ops run`, `ops files`, and `manifest`. They read and change nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar, get_args

import msgspec
import psycopg
import typer

from medallion_defs.cli import show_ops
from medallion_defs.cli.answer import print_rich
from medallion_defs.cli.data import AsJson, open_for_reading
from medallion_defs.core.content import load_content
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import load_settings
from medallion_defs.gold.report import unmatched_of
from medallion_defs.ops.file_ingestion import Status
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.ledger_values import LedgerFilter
from medallion_defs.ops.run_manifest import Unmatched, read_manifest
from medallion_defs.ops.summary import RunStatus, list_runs, summarize_run
from medallion_defs.stack.databases import database_at_hand

app = typer.Typer(help="What the ledger knows of runs and files.", no_args_is_help=True)

T = TypeVar("T")
Source = Annotated[str | None, typer.Option(help="Only runs or items of this source.")]
Limit = Annotated[int, typer.Option(help="At most so many lines.", min=1)]
RunId = Annotated[str, typer.Argument(help="A Dagster run id.")]


@app.command()
def runs(
    since: Annotated[datetime | None, typer.Option("--from", help="Began at this time (UTC) or later.")] = None,
    until: Annotated[datetime | None, typer.Option("--to", help="Began before this time (UTC).")] = None,
    source: Source = None,
    status: Annotated[str | None, typer.Option(help="open, done, partial or failed.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Show the run calendar, latest first: which run worked on what, when, and with what outcome."""
    wanted: RunStatus | None = _one_of(status, get_args(RunStatus)) if status else None
    with database_at_hand(load_settings()) as settings, open_for_reading(settings) as connection:
        page = list_runs(connection, since=_utc(since), until=_utc(until), source_type=source, status=wanted, limit=limit)
    if as_json:
        typer.echo(msgspec.json.encode(page).decode())
    else:
        print_rich(show_ops.calendar(page))


@app.command()
def run(run_id: RunId, as_json: AsJson = False) -> None:
    """Show one run of any layer: its counts and seconds, where its items are by now, and what failed."""
    with database_at_hand(load_settings()) as settings, open_for_reading(settings) as connection:
        summary = summarize_run(connection, run_id)
    if as_json:
        typer.echo(msgspec.json.encode(summary).decode())
    else:
        print_rich(show_ops.summary(summary))


@app.command()
def files(
    source: Source = None,
    status: Annotated[list[str] | None, typer.Option(help="pending, claimed, loaded, retrying, dead or refused.")] = None,
    item: Annotated[str | None, typer.Option(help="Only external ids that fit this pattern (* and ?).")] = None,
    run: Annotated[str | None, typer.Option(help="Only items of this run, of any layer.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Show the items of the ledger, oldest first."""
    statuses: tuple[Status, ...] | None = tuple(_one_of(text, get_args(Status)) for text in status) if status else None
    which = LedgerFilter(source_type=source, statuses=statuses, external_id=item, run_id=run)
    with database_at_hand(load_settings()) as settings, open_for_reading(settings) as connection:
        page = Ledger(connection).list_rows(which, limit)
    if as_json:
        typer.echo(msgspec.json.encode(page).decode())
    else:
        print_rich(show_ops.files(page))


def manifest(run_id: RunId) -> None:
    """Print the manifest of a silver or gold run as JSON, with all of its files."""
    with database_at_hand(load_settings()) as settings, open_for_reading(settings) as connection:
        found = read_manifest(connection, run_id)
        found = found.model_copy(update={"unmatched": _unmatched(connection, found.tables)})
    typer.echo(found.model_dump_json(indent=2))


def _unmatched(connection: psycopg.Connection, tables: list[str]) -> dict[str, Unmatched]:
    enrichments = [module.ENRICHMENT for module in load_content("medallion_defs.enrichments", "enrichment", "ENRICHMENT").values()]
    return {one.qualified_name: unmatched_of(connection, one) for one in enrichments if one.qualified_name in tables}


def _utc(naive: datetime | None) -> datetime | None:
    return None if naive is None else naive.replace(tzinfo=UTC)


def _one_of(text: str, known: Sequence[T]) -> T:
    for one in known:
        if one == text:
            return one
    raise ConfigurationError(f"--status {text}: there is {', '.join(map(str, known))}.")
