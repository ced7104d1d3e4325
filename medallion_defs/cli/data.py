"""Commands on the data: `fetch`, `status`, `trace`, `requeue`. Each has `--json` where a program may want the answer."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, get_args

import msgspec
import psycopg
import typer

from medallion_defs.bronze.assets import fetch_source, load_bronze_contents
from medallion_defs.bronze.fetching.report import Left
from medallion_defs.cli import show
from medallion_defs.cli.answer import print_rich
from medallion_defs.core import clock, db
from medallion_defs.core.content import Broken, content_names, load_content
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings, load_settings
from medallion_defs.genai.state import BatchState, GenaiBatch
from medallion_defs.labeling.labels import trace as label_trace
from medallion_defs.labeling.outdated import describe_outdated
from medallion_defs.labeling.registry import load_usable_tasks
from medallion_defs.locations.silver import load_contents
from medallion_defs.ops.file_ingestion import Status
from medallion_defs.ops.lateness import LAYERS, Finding, SourceFacts, Verdict, judge_source, judge_watch, read_source_facts, read_verdicts
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.ledger_values import LedgerFilter
from medallion_defs.ops.lineage import EXAMPLES, ItemTrace, LineageSpec, Trace, trace_bronze, trace_gold, trace_silver
from medallion_defs.ops.verifications import read_verifications
from medallion_defs.silver.variants import MisconfiguredContent
from medallion_defs.stack.contents import find_broken
from medallion_defs.stack.databases import database_at_hand
from medallion_defs.storage.readers import open_reader

_LEFT_WORDS: tuple[tuple[str, Left], ...] = (("not taken", "removed"), ("waiting", "waiting"), ("refused", "refused"))
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


def fetch(
    source: Annotated[str, typer.Argument(help="A source, such as driver_events.")],
    rehash: Annotated[bool, typer.Option(help="Read everything again, also what is as it was when it was read last.")] = False,
) -> None:
    """Take what is new for a source into bronze, now."""
    broken = list[Broken]()
    contents = {content.source.name: content for content in load_bronze_contents(broken)}
    if source not in contents:
        wrong = next((each.sentence for each in broken if each.folder == f"sources/{source}"), None)
        raise ConfigurationError(wrong or f"There is no source '{source}'. There is: {', '.join(contents)}.")
    with database_at_hand(load_settings()) as settings:
        report = fetch_source(settings, contents[source], run_id=None, rehash=rehash)
    for item in report.items:
        typer.echo(f"published  {item.filename} as {item.path} ({item.bytes:,} bytes, sha256 {item.content_sha256[:16]}…)")
    for item in report.same:
        typer.echo(f"unchanged  {item.filename}: the bytes of {item.path}")
    for word, kind in _LEFT_WORDS:
        for left in report.left[kind]:
            typer.echo(f"{word:9}  {left.name}: {left.reason}")
    typer.echo(f"{report.published:,} published, {report.unchanged:,} unchanged, {report.refused:,} refused.")
    if report.refused:
        raise typer.Exit(1)


def status(as_json: AsJson = False) -> None:
    """Show, per source, how many items are where, what is late, and what needs a person."""
    now = clock.now()
    with database_at_hand(load_settings()) as settings, open_for_reading(settings) as connection:
        ledger = Ledger(connection)
        counts = ledger.count_by_status()
        facts = read_source_facts(connection, content_names("medallion_defs.sources"))
        findings = [*_broken_content(settings), *_judge(facts, read_verdicts(connection), settings, now), *_outdated(connection, settings)]
        findings += [Finding("held", _explain_held(batch)) for batch in BatchState(connection).list_batches("held")]
        findings += [found for one in read_verifications(connection) if (found := one.judge())]
        troubled = ledger.list_rows(LedgerFilter(statuses=("dead", "retrying", "refused")), limit=20).rows
    if as_json:
        typer.echo(msgspec.json.encode({"counts": counts, "sources": facts, "findings": findings, "troubled": troubled}).decode())
        return
    expected = {one.source_type: settings.source(one.source_type).expect_every for one in facts}
    print_rich(show.status(counts, facts, expected, findings, troubled, now))


def trace(
    what: Annotated[str, typer.Argument(help="A table (gold.driver_events_enriched, silver.companies), or an item's path or file id.")],
    key: Annotated[str | None, typer.Argument(help="With a table: the row's key.")] = None,
    keys: Annotated[int, typer.Option(min=1, help="With an item: how many keys of its rows to show of each table.")] = EXAMPLES,
    as_json: AsJson = False,
) -> None:
    """Show where a row comes from, down to file, record and sha256; or all that came of a bronze item."""
    with database_at_hand(load_settings()) as settings, open_for_reading(settings) as connection:
        found = _trace(connection, settings, what, key, keys)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        print_rich(show.trace(found) if isinstance(found, Trace) else show.item_trace(found))


def requeue(
    source: Annotated[str | None, typer.Option(help="Only items of this source.")] = None,
    item: Annotated[str | None, typer.Option(help="Only external ids that fit this pattern (* and ?).")] = None,
    status: Annotated[list[str] | None, typer.Option(help="dead, retrying or loaded; default: dead and retrying.")] = None,
) -> None:
    """Set items back to pending with all their attempts; the sensor picks them up."""
    wrong = sorted(set(status or ()) - {"dead", "retrying", "loaded"})
    if wrong:
        raise ConfigurationError(f"--status {', '.join(wrong)}: items that are dead, retrying or loaded can be requeued.")
    statuses = tuple(known for known in get_args(Status) if known in status) if status else None
    with database_at_hand(load_settings()) as settings, db.connect(settings, "medallion_silver") as connection:
        count = Ledger(connection).requeue(LedgerFilter(source_type=source, external_id=item, statuses=statuses), clock.now())
    typer.echo(f"{count} items are pending again.")


def _judge(facts: Sequence[SourceFacts], verdicts: Sequence[Verdict], settings: Settings, now: datetime) -> list[Finding]:
    """Judge the sources as they are now, landing and gold as they were last looked at, and whether anybody looks."""
    of_sources = [finding for one in facts for finding in judge_source(one, settings.source(one.source_type), now)]
    of_others = [finding for verdict in verdicts if not verdict.subject.startswith("silver/") for finding in verdict.findings]
    return [*of_sources, *of_others, *judge_watch(LAYERS, verdicts, now)]


def _broken_content(settings: Settings) -> list[Finding]:
    return [Finding("broken", each.sentence) for each in find_broken(settings)]


def _explain_held(batch: GenaiBatch) -> str:
    return (
        f"{batch.task_key}: batch {batch.batch_id} is held with {batch.request_count:,} records and {batch.reserved_usd:.4f} USD: "
        f"{batch.error}. 'medallion genai resume {batch.batch_id}' looks at it again."
    )


def _outdated(connection: psycopg.Connection, settings: Settings) -> list[Finding]:
    contents = [content for content in load_contents() if not isinstance(content, MisconfiguredContent)]
    tables = {f"silver.{content.table.name}": (content.source.name, content.code) for content in contents}
    tasks = load_usable_tasks(settings.tasks, [])
    return [Finding("outdated", sentence) for sentence in describe_outdated(connection, tables, tasks.values()).values()]


def open_for_reading(settings: Settings) -> psycopg.Connection:
    """Open a connection that may only read."""
    return db.connect(settings, "medallion_console")


def _trace(connection: psycopg.Connection, settings: Settings, what: str, key: str | None, keys: int) -> Trace | ItemTrace:
    silver, gold = silver_specs(), gold_specs() | label_specs()
    if key is None:
        if what in silver | gold:
            raise ConfigurationError(f"Name the row, too: medallion trace {what} <{(silver | gold)[what].key}>.")
        return trace_bronze(connection, what, silver.values(), gold.values(), open_reader(settings), examples=keys)
    if what in label_specs():
        return label_trace.trace_label(connection, key, silver, open_reader(settings))
    if what in gold:
        return trace_gold(connection, gold[what], key, open_reader(settings))
    if what in silver:
        return trace_silver(connection, silver[what], key, open_reader(settings))
    raise ConfigurationError(f"There is no table {what} to trace. There is: {', '.join(sorted(silver | gold))}.")


def silver_specs() -> dict[str, LineageSpec]:
    """Return how rows of each silver table are traced, by table."""
    tables = [module.TABLE for module in load_content("medallion_defs.sources", "tables", "TABLE").values()]
    specs = [LineageSpec(f"silver.{table.name}", next(iter(table.primary_key)).name) for table in tables]
    return {spec.table: spec for spec in specs}


def gold_specs() -> dict[str, LineageSpec]:
    """Return how rows of each gold table, and of the views that a source has there, are traced, by name."""
    specs = [module.ENRICHMENT.lineage for module in load_content("medallion_defs.enrichments", "enrichment", "ENRICHMENT").values()]
    for module in load_content("medallion_defs.sources", "tables", "TABLE").values():
        specs.extend(getattr(module, "GOLD_VIEWS", ()))
    return {spec.table: spec for spec in specs}


def label_specs() -> dict[str, LineageSpec]:
    """Return how labels are traced, by table: not like the rows of an enrichment, since a label is about any silver table."""
    return {label_trace.SPEC.table: label_trace.SPEC}
