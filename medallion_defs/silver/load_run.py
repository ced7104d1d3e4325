"""One microbatch from bronze to silver: start it in the ledger, read, load and save in one transaction. Knows no Dagster.

What fails for one item fails that item, whatever raises it. When the load of the whole batch fails because of one value, the items
are loaded one by one, so that only the culprit fails. The load runs in a child process (`core/supervision.py`): an item may end that.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from uuid import UUID

import psycopg
from sqlalchemy import Table

from medallion_defs.core import clock, db
from medallion_defs.core.code_version import CodeVersions
from medallion_defs.core.content import Source
from medallion_defs.core.errors import MedallionError, TerminalError, TransientError, UnexpectedError
from medallion_defs.core.isolation import Note, Worker
from medallion_defs.core.sections import SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.core.supervision import Budget, Supervised
from medallion_defs.core.timing import Timer
from medallion_defs.ops.endings import Ending
from medallion_defs.ops.file_ingestion import DatasetIngestion, RowCounts
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.ledger_values import LedgerFilter
from medallion_defs.silver.code import versions_of
from medallion_defs.silver.contract import FileFacts, ItemFacts, RejectedRecord
from medallion_defs.silver.extract import Extraction, Parser, Row, open_extraction
from medallion_defs.silver.file_parser import FileParser, open_file
from medallion_defs.silver.loader import ItemLoad, classify_database_error, load_items
from medallion_defs.silver.recipes import Recipe
from medallion_defs.silver.supervision import StartedBatch
from medallion_defs.silver.together import load_together
from medallion_defs.storage.hashed import DamagedBronzeItemError, blame_bytes
from medallion_defs.storage.item import Artifact
from medallion_defs.storage.readers import open_reader
from medallion_defs.storage.reading import ItemReader

_LOG = logging.getLogger(__name__)


class RefusedFileError(TerminalError):
    """A file that should be one row cannot be one."""


class LostClaimError(TransientError):
    """While a batch was loaded, another run took its items over; what was loaded is rolled back."""


@dataclass(frozen=True)
class SilverContent:
    """What the silver process knows of one source: facts, table, and how its files become rows."""

    source: Source
    table: Table
    parser: Parser | FileParser

    @cached_property
    def code(self) -> CodeVersions:
        """The versions that change when the same bytes might give other rows; failed items are then tried again."""
        return versions_of(self.parser, self.table)


@dataclass(frozen=True)
class LoadReport:
    """What one run loaded: the items' ledger rows as they are now, and the seconds from the claim to the commit."""

    items: Sequence[DatasetIngestion]
    seconds: float

    @property
    def loaded(self) -> list[DatasetIngestion]:
        return [item for item in self.items if item.status == "loaded"]

    @property
    def failed(self) -> list[DatasetIngestion]:
        return [item for item in self.items if item.status != "loaded"]

    def total(self, column: str) -> int:
        """Return the sum of one counting column of the ledger over the items that were loaded."""
        return sum(getattr(item, column) or 0 for item in self.loaded)

    @property
    def has_changed_rows(self) -> bool:
        """Whether silver holds other rows than before."""
        return bool(self.total("silver_rows_created") or self.total("silver_rows_updated"))

    @property
    def rows_by_flag(self) -> dict[str, int]:
        """Rows by quality flag over the items that were loaded, most first."""
        counts: dict[str, int] = {}
        for item in self.loaded:
            for flag, rows in (item.silver_quality_flags or {}).items():
                counts[flag] = counts.get(flag, 0) + rows
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    @classmethod
    def merge(cls, reports: Sequence["LoadReport"]) -> "LoadReport":
        """Return one report for several batches of one run."""
        return cls([item for report in reports for item in report.items], sum(report.seconds for report in reports))


def stopped() -> Ending:
    """Return how a run ends that a signal stops."""
    return Ending("stopped")


def load_batch(
    settings: Settings, content: SilverContent, batch_id: str, run_id: str, why_stopped: Callable[[], Ending] = stopped
) -> LoadReport:
    """Load what is still claimed in the batch; a batch that is done already gives an empty report.

    `why_stopped` is asked when the load is interrupted; its items go back to the ledger then.

    Raises:
        BatchInUseError: another run is loading the batch.
        TransientError: the database went away, or the claim was lost; nothing of the transaction was kept.
    """
    timer = Timer()
    options = settings.source(content.source.name)
    try:
        with db.connect(settings, "medallion_silver", autocommit=True) as connection:
            ledger = Ledger(connection)
            items = ledger.start_batch(batch_id, run_id, content.code, options, clock.now())
            if not items:
                return LoadReport([], timer.seconds)
            batch = StartedBatch(ledger, connection, batch_id, options)
            budget = Budget(options.max_item_seconds, f"sources.{content.source.name}.max_item_seconds")
            with (
                batch.given_back_when_stopped(why_stopped),
                Worker(lambda note: _loading(settings, content, items, note), budget.seconds) as worker,
            ):
                list(Supervised(batch_id, budget, worker.do, batch.left, batch.fail).work())
            ids = tuple(item.file_id for item in items)
            return LoadReport(ledger.list_rows(LedgerFilter(file_ids=ids), limit=len(ids)).rows, timer.seconds)
    except psycopg.OperationalError as error:
        raise classify_database_error(error) from error


@contextmanager
def _loading(
    settings: Settings, content: SilverContent, items: Sequence[DatasetIngestion], note: Note
) -> Iterator[Callable[[Sequence[UUID] | None], None]]:
    """Give what loads items of a started batch, in a process of its own: those with the given ids, or all."""
    with db.connect(settings, "medallion_silver", autocommit=True) as connection:

        def load(ids: Sequence[UUID] | None) -> None:
            asked = {item.file_id for item in items} if ids is None else set(ids)
            _Load(settings, content, connection, note).together([item for item in items if item.file_id in asked])

        yield load


def open_item(settings: Settings, content: SilverContent, item: DatasetIngestion) -> Extraction:
    """Open the artifact of a bronze item with the recipe for it.

    Raises:
        DamagedBronzeItemError: the item is not on the disk as the ledger says.
        MedallionError: what `open_extraction` says of the file. Of a file with other bytes than were published, only that.
    """
    reader, path = open_reader(settings), str(item.bronze_path)
    published = reader.item(path, item.content_sha256)
    artifact = _main_artifact(content, item, published.artifacts)
    extraction = _open_artifact(reader, path, content, item, artifact, published.artifacts)
    return extraction if published.note is None else replace(extraction, records=_flagged(extraction.records, ",fetched_at_adjusted"))


def _open_artifact(
    reader: ItemReader, path: str, content: SilverContent, item: DatasetIngestion, artifact: Artifact, artifacts: tuple[Artifact, ...]
) -> Extraction:
    if isinstance(content.parser, FileParser):
        return open_file(partial(reader.local_path, path, artifacts), content.parser, _file_facts(item, artifact, artifacts))
    check = partial(reader.check, path, artifact)
    with blame_bytes(check):
        extraction = open_extraction(partial(reader.open, path, artifact), content.parser, item_facts(item))
    return replace(extraction, records=_blaming_bytes(extraction.records, check))


def item_facts(item: DatasetIngestion) -> ItemFacts:
    """Return what a transform may know of an item."""
    if item.bronze_ingest_end_time is None:
        raise TerminalError(f"{item.bronze_path}: the ledger has no fetch time for the item; run 'medallion bronze verify'.")
    return ItemFacts(item.file_id, item.bronze_filename or item.external_id, item.bronze_ingest_end_time)


def _main_artifact(content: SilverContent, item: DatasetIngestion, artifacts: Sequence[Artifact]) -> Artifact:
    main = [artifact for artifact in artifacts if len(artifacts) == 1 or artifact.name.partition(".")[0] == content.source.artifact_type]
    if len(main) != 1:
        raise DamagedBronzeItemError(
            f"{item.bronze_path} has {len(main)} files named '{content.source.artifact_type}'; the source reads one. "
            f"Run 'medallion bronze verify {content.source.name}'."
        )
    return main[0]


def _blaming_bytes(records: Iterator[Row | RejectedRecord], check: Callable[[], None]) -> Iterator[Row | RejectedRecord]:
    with blame_bytes(check):
        yield from records


def _flagged(records: Iterator[Row | RejectedRecord], flag: str) -> Iterator[Row | RejectedRecord]:
    for record in records:
        yield record if isinstance(record, RejectedRecord) else (*record[:-1], f"{record[-1]}{flag}".lstrip(","))


def _file_facts(item: DatasetIngestion, artifact: Artifact, artifacts: tuple[Artifact, ...]) -> FileFacts:
    facts = item_facts(item)
    return FileFacts(
        facts.file_id, facts.filename, facts.fetched_at,
        item.external_id, str(item.bronze_path), artifact.name, artifact.bytes, artifact.sha256, artifacts,
    )  # fmt: skip


@dataclass
class _Load:
    """One run's work on one batch."""

    settings: Settings
    content: SilverContent
    connection: psycopg.Connection
    note: Note
    recipes: dict[UUID, Recipe] = field(default_factory=dict)
    verdicts: dict[UUID, RefusedFileError] = field(default_factory=dict)

    def together(self, items: Sequence[DatasetIngestion]) -> list[DatasetIngestion]:
        """Load all items in one transaction; where that fails for a value of one of them, each in its own."""
        # Of no item: the database is away, or the batch is another run's.
        passed_on = (psycopg.OperationalError, psycopg.InterfaceError, LostClaimError)
        return load_together(items, self._in_transaction, self._save_failure, passed_on)

    def _in_transaction(self, items: Sequence[DatasetIngestion]) -> list[DatasetIngestion]:
        with self.connection.transaction():
            opened = ((item_facts(item), self._read(item)) for item in items)
            loads = load_items(self.connection, self.content.table, opened, max_rejected_share=self._options.max_rejected_share)
            self._read_runners_up_again(loads)
            by_id = {load.file_id: load for load in loads}
            return self._save([self._outcome(item, by_id[item.file_id]) for item in items])

    def _read_runners_up_again(self, loads: Sequence[ItemLoad]) -> None:
        """Claim nothing here: the table's lock is held, and the next claim of the source takes them."""
        deleted = sum(load.deleted for load in loads)
        if deleted:
            runners_up = {file_id for load in loads for file_id in load.runners_up}
            again = Ledger(self.connection).read_again(runners_up, clock.now())
            _LOG.info(
                "%d rows went that their items do not make any more; %d other items may have their keys and are read again.", deleted, again
            )  # fmt: skip

    def _save_failure(self, item: DatasetIngestion, error: Exception) -> list[DatasetIngestion]:
        with self.connection.transaction():
            return self._save([item.failed(classify_error(error), clock.now(), self._options)])

    def _save(self, outcomes: list[DatasetIngestion]) -> list[DatasetIngestion]:
        lost = {outcome.file_id for outcome in outcomes} - Ledger(self.connection).save(outcomes)
        if lost:
            raise LostClaimError(f"{len(lost)} items of batch {outcomes[0].batch_id} belong to another run by now. Nothing to do here.")
        return outcomes

    def _read(self, item: DatasetIngestion) -> Iterator[Row | RejectedRecord]:
        # A generator: what is wrong with a file is raised where the loader can tell whose fault it is.
        self.note.begin(item.file_id)
        try:
            extraction = open_item(self.settings, self.content, item)
            self.recipes[item.file_id] = extraction.recipe
            if isinstance(self.content.parser, FileParser):
                yield self._note_verdict(item, *extraction.records)
            else:
                yield from extraction.records
        except (MedallionError, GeneratorExit):
            raise
        except BaseException as error:  # `sys.exit()` in a library, a panic in one of Rust: stops never reach this process
            raise UnexpectedError.of(error) from error
        finally:
            self.note.end()

    def _note_verdict(self, item: DatasetIngestion, record: Row | RejectedRecord) -> Row | RejectedRecord:
        if isinstance(record, RejectedRecord):
            self.verdicts[item.file_id] = RefusedFileError(record.message)
        return record

    def _outcome(self, item: DatasetIngestion, load: ItemLoad) -> DatasetIngestion:
        described = _describe(item, self.recipes.get(item.file_id))
        if load.error is not None:
            # Of a file that is one record, "1 of 1 rejected" says less than the reason.
            failed = described.failed(self.verdicts.get(item.file_id, load.error), clock.now(), self._options)
            return failed.counted(*load.tried, load.flags)
        counts = RowCounts(load.read, load.created, load.updated, load.unchanged, load.duplicate, load.rejected)
        return described.finished(f"{self.content.table.schema}.{self.content.table.name}", counts, load.flags, clock.now())

    @property
    def _options(self) -> SourceSettings:
        return self.settings.source(self.content.source.name)


def classify_error(error: Exception) -> MedallionError:
    """Return the `MedallionError` for what was raised while one item was loaded alone."""
    if isinstance(error, psycopg.Error):
        return classify_database_error(error)
    return error if isinstance(error, MedallionError) else UnexpectedError.of(error)


def _describe(item: DatasetIngestion, recipe: Recipe | None) -> DatasetIngestion:
    """Take over what the recipe knows of the data; an item that no recipe fits keeps what it had."""
    if recipe is None:
        return item
    return item.described(
        domain=recipe.domain, source=recipe.source, dataset=recipe.dataset, discriminator=recipe.discriminator, ticker=recipe.ticker
    )
