"""`medallion variants`: another transform beside the one that silver uses. What it does is in `silver/experiments.py` and `compare.py`."""

from dataclasses import replace
from typing import Annotated
from uuid import uuid4

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from medallion_defs.cli.answer import print_rich
from medallion_defs.cli.data import AsJson, open_for_reading
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings, load_settings
from medallion_defs.locations.silver import load_all_variants
from medallion_defs.ops.scope import RunScope, Scope, parse_scope
from medallion_defs.silver.compare import compare_variants
from medallion_defs.silver.compare_report import describe_comparison
from medallion_defs.silver.experiments import SCHEMA, LoadedVariant, VariantChunk, drop_variant, experiment_table, read_loaded, run_variant
from medallion_defs.silver.variants import DEFAULT_VARIANT, VariantContent, find_variant
from medallion_defs.stack.databases import database_at_hand

app = typer.Typer(help="Try another transform beside the one that silver uses, and compare.", no_args_is_help=True)
SourceName = Annotated[str, typer.Argument(metavar="SOURCE", help="A source, such as driver_events.")]
VariantName = Annotated[str, typer.Argument(metavar="VARIANT", help="A variant, as 'medallion variants list' shows them.")]
_SHOWN = 20


class VariantLine(msgspec.Struct, frozen=True):
    """One variant: what it is, whether silver uses it, and what was loaded beside silver (None: nothing)."""

    source: str
    variant: str
    title: str
    is_used: bool
    code_version: str
    experiment: LoadedVariant | None


@app.command("list")
def list_variants(as_json: AsJson = False) -> None:
    """Show the variants of every source, which one silver uses, and what was loaded of the others."""
    everything = load_all_variants()
    with database_at_hand(load_settings()) as settings, open_for_reading(settings) as connection:
        loaded = {(each.source_type, each.variant): each for each in read_loaded(connection)}
    lines = [
        _line(content, settings, loaded.pop((source, name), None))
        for source, variants in everything.items()
        for name, content in variants.items()
    ]
    if as_json:
        typer.echo(msgspec.json.encode(lines).decode())
        return
    print_rich(_show(lines))
    for source, name in loaded:
        typer.echo(f"The code of variant {name} of {source} is gone, its tables are still there: medallion variants drop {source} {name}")


@app.command()
def run(
    source: SourceName,
    variant: VariantName,
    since: Annotated[str | None, typer.Option(help="Items fetched from this time on: 2026-11-01T00:00:00+00:00.")] = None,
    file_id: Annotated[list[str] | None, typer.Option(help="This item; can be repeated.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Items of this dataset of a recipe; * and ? allowed.")] = None,
) -> None:
    """Load a variant beside silver: the items that its present code has not loaded yet. Stopped, it goes on where it was."""
    content = _find(source, variant)
    scope = _scope(since, file_id or [], dataset)
    with database_at_hand(load_settings()) as settings:
        _refuse_used(settings, content)
        chunks = []
        for chunk in run_variant(settings, content, scope, f"cli-{uuid4()}"):
            chunks.append(chunk)
            typer.echo(f"{_describe(chunk)}, {chunk.seconds:.1f} s")
    done = VariantChunk.merge(chunks)
    typer.echo(f"Done: {_describe(done)} into {SCHEMA}.{experiment_table(content).name}.")
    for item, error in done.failed[:_SHOWN]:
        typer.echo(f"failed   {item.bronze_path}: {error}")
    if done.failed:
        raise typer.Exit(1)


@app.command()
def compare(
    source: SourceName,
    a: Annotated[str, typer.Argument(metavar="A", help="A variant; the one that silver uses is read from silver.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another variant.")],
    as_json: AsJson = False,
) -> None:
    """Show which rows two variants make otherwise, column by column with examples, and their flags, rejects and digests."""
    sides = _find(source, a), _find(source, b)
    with database_at_hand(load_settings()) as settings:
        found = compare_variants(settings, *sides)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        Console().print(Markdown(describe_comparison(found)))


@app.command()
def drop(source: SourceName, variant: VariantName) -> None:
    """Drop what was loaded of a variant beside silver. Neither silver nor the variant's code is touched."""
    variants = _variants(source)
    # A variant whose code is gone can still be dropped.
    content = variants.get(variant) or replace(variants[DEFAULT_VARIANT], variant=variant)
    with database_at_hand(load_settings()) as settings:
        was_there = drop_variant(settings, content)
    name = f"{SCHEMA}.{experiment_table(content).name}"
    typer.echo(f"{name} is dropped." if was_there else f"There was no {name}.")


def _variants(source: str) -> dict[str, VariantContent]:
    everything = load_all_variants()
    if source not in everything:
        raise ConfigurationError(f"There is no source '{source}'. There is: {', '.join(everything)}.")
    return everything[source]


def _find(source: str, variant: str) -> VariantContent:
    return find_variant(_variants(source), variant)


def _refuse_used(settings: Settings, content: VariantContent) -> None:
    name = content.source.name
    if settings.source(name).variant == content.variant:
        raise ConfigurationError(
            f"Variant {content.variant} of {name} is the one that silver uses: its rows are in silver.{content.table.name}. "
            f"'medallion backfill silver.{content.table.name}' loads those again."
        )


def _scope(since: str | None, file_ids: list[str], dataset: str | None) -> Scope:
    values = {RunScope.since: since, RunScope.file_ids: file_ids, RunScope.dataset: dataset}
    # Two at once: the first wins here, and parse_scope refuses the other.
    return parse_scope(next((owner for owner, value in values.items() if value), RunScope.all), since, file_ids, dataset)


def _line(content: VariantContent, settings: Settings, experiment: LoadedVariant | None) -> VariantLine:
    used = settings.source(content.source.name).variant
    return VariantLine(
        content.source.name, content.variant, content.title, content.variant == used, content.code.digest, experiment
    )  # fmt: skip


def _show(lines: list[VariantLine]) -> Table:
    table = Table(title="Variants of transforms")
    for name in ("source", "variant", "what it is", "silver uses it", "loaded beside silver"):
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(line.source, line.variant, escape(line.title), "yes" if line.is_used else "", _loaded(line))
    return table


def _loaded(line: VariantLine) -> str:
    loaded = line.experiment
    if loaded is None:
        return ""
    failed = f", {loaded.failed:,} failed" if loaded.failed else ""
    old = ", by older code" if loaded.code_version != line.code_version else ""
    return f"{loaded.items:,} items{failed}, {loaded.rows_read:,} records, {loaded.loaded_at:%Y-%m-%d %H:%M}{old}"


def _describe(chunk: VariantChunk) -> str:
    counts = ("read", "created", "updated", "unchanged", "duplicate", "rejected")
    rows = ", ".join(f"{chunk.total(name):,} {name}" for name in counts)
    return f"{len(chunk.items) - len(chunk.failed):,} items loaded, {len(chunk.failed):,} failed, rows {rows}"
