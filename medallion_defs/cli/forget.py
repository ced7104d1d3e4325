"""`medallion forget` and `medallion withdraw`: the order in which the layers take an item out, and what is said about it.

Both can be killed at any step and typed again: each step finds what is left to do. What a step does is its layer's.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
import psycopg
import typer

from medallion_defs.bronze.landing.removal import delete_copies, find_copies
from medallion_defs.bronze.store import open_store
from medallion_defs.cli.data import AsJson, gold_specs, open_for_reading
from medallion_defs.core import clock, db
from medallion_defs.core.content import load_content
from medallion_defs.core.errors import ConfigurationError, TerminalError
from medallion_defs.core.settings import Settings, load_settings
from medallion_defs.gold.contract import Enrichment
from medallion_defs.gold.enrich_run import run_work
from medallion_defs.labeling.contract import TaskSpec
from medallion_defs.labeling.engine.removal import delete_derived, delete_failures, find_exchanges
from medallion_defs.labeling.labels.build import TABLE as LABELS
from medallion_defs.labeling.labels.build import refresh_labels
from medallion_defs.labeling.labels.vanished import followed_tables
from medallion_defs.labeling.registry import load_usable_tasks
from medallion_defs.ops.cursors import vanished_name
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.forget import ForgetReport, Subject, Survey, describe_read_again, describe_rest, survey
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.lineage import item_path
from medallion_defs.ops.references import SCHEMAS, Reference, delete_rows, find_references, find_task_columns, find_tasks
from medallion_defs.ops.removal_ledger import RemovalLedger
from medallion_defs.silver.loader import delete_items, prune_vanished
from medallion_defs.stack.databases import database_at_hand
from medallion_defs.storage.readers import open_reader

_REJECTS = "silver.rejected_rows"


class Withdrawal(msgspec.Struct, frozen=True):
    """A withdrawn item, the rows that went, by table, and which other items take over."""

    file_id: UUID
    path: str
    reason: str
    deleted: dict[str, int]
    next: tuple[str, ...]


def forget(
    source: Annotated[str, typer.Option(help="The source, such as driver_events.")],
    external_id: Annotated[str, typer.Option(help="The external id: the file's path below its landing folder.")],
    yes: Annotated[bool, typer.Option("--yes", help="Erase it. Without, what would go is shown and nothing is changed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase one subject everywhere: landing, bronze, silver, gold, and what was made because of it. Nothing brings it back."""
    subject = Subject(source, external_id)
    with database_at_hand(load_settings()) as settings:
        subjects = _with_derived(settings, subject)
        if not yes:
            _show_survey([(found, *_look(settings, found)) for found in subjects], as_json=as_json)
            return
        # What was made of it first: the rows that name those items are the subject's, and must be there if we are killed.
        reports = [forget_subject(settings, found, clock.now()) for found in reversed(subjects)][::-1]
    if as_json:
        typer.echo(msgspec.json.encode(reports).decode())
        return
    for report in reports:
        typer.echo(f"{report.source}: forgotten, remembered as {report.tombstone}")
        for place, number in report.erased.items():
            typer.echo(f"  {number:>10,} {place}")
        for sentence in report.remains:
            typer.echo(f"  - {sentence}")


def forget_subject(settings: Settings, subject: Subject, at: datetime) -> ForgetReport:
    """Erase one subject, and leave its tombstones; once more changes nothing.

    Raises:
        TransientError: it is being loaded, or a layer's storage failed; the next call goes on.
    """
    before, _ = _look(settings, subject)
    _begin(settings, subject, at)
    erased = {"files in landing and landing/.taken": delete_copies(settings.landing_path, subject.source, subject.external_id)}
    tombstones = open_store(settings).forget(subject.source, subject.external_id, at)
    # Again: what was published while we looked is in the ledger by now, and after the tombstone nothing more comes.
    _begin(settings, subject, at)
    with open_for_reading(settings) as connection:
        ids = sorted({*survey(connection, subject).file_ids, *(tombstone.file_id for tombstone in tombstones)})
        _, _, tasks = _find_columns(connection, ids)
    erased["files in data/derived"] = delete_derived(settings.derived_path, tasks)
    erased["revisions in bronze"] = sum(tombstone.removed_at == at for tombstone in tombstones)
    erased |= _delete_other_gold(settings, ids)
    silver, again = _delete_silver(settings, ids)
    erased |= silver | {table: rows + erased.get(table, 0) for table, rows in _follow(settings).items()}
    _prune_vanished(settings)
    with db.connect(settings, "medallion_bronze") as connection:
        RemovalLedger(connection).finish_forgetting(subject.source, subject.external_id, at)
    rest = (*describe_rest(before), *describe_read_again(again))
    return ForgetReport(
        source=subject.source, tombstone=subject.hashed_id, at=at, file_ids=tuple(ids), erased=_without_zeros(erased), remains=rest
    )  # fmt: skip


def withdraw(
    what: Annotated[str, typer.Argument(help="A bronze item: its path or its file id.")],
    reason: Annotated[str | None, typer.Option(help="Why, for those who ask later.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="It was a mistake: the item is pending again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a bad item back: its rows leave silver and gold, it is never loaded again, its bytes stay in bronze."""
    if (reason is None) != undo:
        raise ConfigurationError("Say why with --reason, or take it back with --undo.")
    with database_at_hand(load_settings()) as settings:
        row = _find(settings, what)
        if reason is None:
            with db.connect(settings, "medallion_silver") as connection:
                RemovalLedger(connection).reinstate(row.file_id, clock.now())
            typer.echo(f"{row.bronze_path} is pending again; the sensor loads it, or 'medallion backfill'.")
            return
        done = withdraw_item(settings, row, reason, clock.now())
    if as_json:
        typer.echo(msgspec.json.encode(done).decode())
        return
    typer.echo(f"{done.path} is withdrawn: {done.reason}")
    for table, number in done.deleted.items():
        typer.echo(f"  {number:>10,} {table}")
    for step in done.next:
        typer.echo(f"  {step}")


def withdraw_item(settings: Settings, row: DatasetIngestion, reason: str, at: datetime) -> Withdrawal:
    """Take an item back; once more finishes what was begun.

    Raises:
        TerminalError: its bytes are gone, or bronze never took it.
        TransientError: it is being loaded.
    """
    with db.connect(settings, "medallion_silver") as connection:
        # In one transaction with the rows: an item is never withdrawn in the ledger and still in silver. The rows first, as a load
        # does: two that lock tables and ledger rows in different orders end each other.
        deleted, again = _delete_records(connection, [row.file_id])
        RemovalLedger(connection).withdraw(row.file_id, reason, at)
        references = [reference for reference in find_references(connection) if reference.qualified_name == _REJECTS]
        deleted |= delete_rows(connection, references, [row.file_id], ["silver"])
    deleted |= _follow(settings)
    return Withdrawal(row.file_id, str(row.bronze_path), reason, _without_zeros(deleted), tuple(describe_read_again(again)))


def _begin(settings: Settings, subject: Subject, at: datetime) -> None:
    with db.connect(settings, "medallion_bronze") as connection:
        RemovalLedger(connection).begin_forgetting(subject.source, subject.external_id, at)


def _delete_records(connection: psycopg.Connection, file_ids: Sequence[UUID]) -> tuple[dict[str, int], int]:
    """Delete the silver rows of items; return how many, by table, and how many other items are read again because of it."""
    deleted: dict[str, int] = {}
    runners_up: set[UUID] = set()
    # In order of name: two that lock several tables wait for each other.
    for _, module in sorted(load_content("medallion_defs.sources", "tables").items()):
        rows, found = delete_items(connection, module.TABLE, file_ids)
        deleted[f"silver.{module.TABLE.name}"] = rows
        runners_up |= found
    return deleted, Ledger(connection).read_again(runners_up, clock.now())


def _delete_silver(settings: Settings, file_ids: Sequence[UUID]) -> tuple[dict[str, int], int]:
    schemas = ("silver", "silver_experiments", "ops")
    with db.connect(settings, "medallion_silver") as connection:
        references, columns, tasks = _find_columns(connection, file_ids, schemas)
        records, again = _delete_records(connection, file_ids)
        # What is found by way of the tasks goes before the rows that say whose tasks they are.
        failures = delete_failures(connection, file_ids)
        of_tasks = delete_rows(connection, columns, tasks, schemas)
        of_items = delete_rows(connection, references, file_ids, schemas)
    return failures | records | of_tasks | {table: rows + of_tasks.get(table, 0) for table, rows in of_items.items()}, again


def _follow(settings: Settings) -> dict[str, int]:
    """Bring gold in line with silver as it is now; return what went because its silver row did."""
    counts: dict[str, int] = {}
    for enrichment in _enrichments():
        report = run_work(settings, enrichment, f"cli-{clock.now():%Y%m%dT%H%M%S}", None)
        counts[enrichment.qualified_name] = report.total("orphans")
        counts[f"{enrichment.qualified_name}, made again without its values"] = report.total("remade")
    counts[LABELS] = refresh_labels(settings, _task_specs()).counts.deleted
    return counts


def _prune_vanished(settings: Settings) -> None:
    """The keys of deleted rows may name the subject; what follows silver has followed by now."""
    followers = [(vanished_name(one.qualified_name, table), table) for one in _enrichments() for table in one.inputs]
    followers += followed_tables(_task_specs())
    with db.connect(settings, "medallion_silver") as connection:
        prune_vanished(connection, followers)


def _delete_other_gold(settings: Settings, file_ids: Sequence[UUID]) -> dict[str, int]:
    """Delete from the gold tables that no enrichment makes; before silver, which knows whose the tasks are."""
    with db.connect(settings, "medallion_gold") as connection:
        references, columns, tasks = _find_columns(connection, file_ids)
        of_tasks = delete_rows(connection, columns, tasks, ["gold"])
        others = [reference for reference in references if reference.qualified_name not in gold_specs()]
        of_items = delete_rows(connection, others, file_ids, ["gold"])
    return of_tasks | {table: rows + of_tasks.get(table, 0) for table, rows in of_items.items()}


def _find_columns(
    connection: psycopg.Connection, file_ids: Sequence[UUID], schemas: Collection[str] = SCHEMAS
) -> tuple[list[Reference], list[Reference], set[UUID]]:
    """Return the columns of `schemas` that name items, those that name tasks, and the tasks about `file_ids` that they know."""
    references = [reference for reference in find_references(connection) if reference.schema in schemas]
    columns = [reference for reference in find_task_columns(connection) if reference.schema in schemas]
    return references, columns, find_tasks(connection, references, columns, file_ids)


def _with_derived(settings: Settings, subject: Subject) -> list[Subject]:
    """Return the subject, then what was made because of it, and so on."""
    found = [subject]
    with open_for_reading(settings) as connection:
        for one in found:
            seen = survey(connection, one)
            exchanges = [Subject(*exchange) for exchange in find_exchanges(connection, seen.file_ids)]
            found += [derived for derived in (*seen.derived, *exchanges) if derived not in found]
    return found


def _look(settings: Settings, subject: Subject) -> tuple[Survey, list[Path]]:
    with open_for_reading(settings) as connection:
        found = survey(connection, subject)
    files = find_copies(settings.landing_path, subject.source, subject.external_id)
    if not found.file_ids and not files and open_store(settings).current(subject.source, subject.external_id) is None:
        raise TerminalError(
            f"Nothing is known of '{subject.external_id}' in source '{subject.source}': not in landing, bronze or the ledger. "
            "Check the spelling; the external id is the file's path below its landing folder."
        )
    return found, files


def _show_survey(found: Sequence[tuple[Subject, Survey, list[Path]]], *, as_json: bool) -> None:
    if as_json:
        answer = [{"subject": subject, "survey": seen, "files": [str(path) for path in files]} for subject, seen, files in found]
        typer.echo(msgspec.json.encode(answer).decode())
        return
    for line in _survey_lines(found):
        typer.echo(line)
    typer.echo("Nothing was changed. Nothing brings it back once it is erased; --yes does it.")


def _survey_lines(found: Iterable[tuple[Subject, Survey, list[Path]]]) -> Iterator[str]:
    for subject, seen, files in found:
        yield f"{subject.source}: {subject.external_id}"
        yield f"  {len(seen.paths):>10,} revisions in bronze, {seen.bytes:,} bytes"
        yield f"  {len(files):>10,} files in landing and landing/.taken"
        yield from (f"  {rows:>10,} {name}" for name, rows in seen.rows.items())


def _find(settings: Settings, what: str) -> DatasetIngestion:
    try:
        which: UUID | str = UUID(what)
    except ValueError:
        which = item_path(what, open_reader(settings))
    with open_for_reading(settings) as connection:
        row = Ledger(connection).find_row(which)
    if row is None:
        raise TerminalError(f"The ledger knows no item '{what}'. Check the spelling below data/bronze.")
    return row


def _enrichments() -> list[Enrichment]:
    return [module.ENRICHMENT for module in load_content("medallion_defs.enrichments", "enrichment", "ENRICHMENT").values()]


def _task_specs() -> list[TaskSpec]:
    return [task.spec for task in load_usable_tasks().values()]


def _without_zeros(counts: dict[str, int]) -> dict[str, int]:
    return {name: number for name, number in counts.items() if number}
