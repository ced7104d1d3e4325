"""One microbatch from bronze to silver: start it in the ledger, read, load and save in one transaction. Knows no Dagster.

What fails for one item fails that item. When Postgres refuses the whole batch because of one value, the items are
loaded one by one, so that only the culprit fails.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import Table

from medallion_defs.core import clock, db
from medallion_defs.core.content import Source
from medallion_defs.core.errors import MedallionError, TerminalError, TransientError
from medallion_defs.core.sections import SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import Timer
from medallion_defs.ops.file_ingestion import DatasetIngestion, RowCounts
from medallion_defs.ops.item import ITEM_FILE, Artifact, decode_item
from medallion_defs.ops.ledger import Ledger
from medallion_defs.silver.contract import FileFacts, ItemFacts, RejectedRecord
from medallion_defs.silver.extract import Extraction, Parser, Row, open_extraction
from medallion_defs.silver.file_parser import FileParser, open_file, parser_code_version
from medallion_defs.silver.loader import ItemLoad, classify_database_error, load_items
from medallion_defs.silver.recipes import Recipe

_LOG = logging.getLogger(__name__)


class DamagedBronzeItemError(TerminalError):
    """A bronze item is not on the disk as the ledger says."""


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

    @property
    def code_version(self) -> str:
        """Changes when the same bytes might give other rows; failed items are then tried again."""
        return parser_code_version(self.parser)


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
        """Return the sum of one counting column of the ledger over the items."""
        return sum(getattr(item, column) or 0 for item in self.items)

    @property
    def rows_by_flag(self) -> dict[str, int]:
        """Rows by quality flag over all items, most first."""
        counts: dict[str, int] = {}
        for item in self.items:
            for flag, rows in (item.silver_quality_flags or {}).items():
                counts[flag] = counts.get(flag, 0) + rows
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    @classmethod
    def merge(cls, reports: Sequence["LoadReport"]) -> "LoadReport":
        """Return one report for several batches of one run."""
        return cls([item for report in reports for item in report.items], sum(report.seconds for report in reports))


def load_batch(settings: Settings, content: SilverContent, batch_id: str, run_id: str) -> LoadReport:
    """Load what is still claimed in the batch; a batch that is done already gives an empty report.

    Raises:
        BatchInUseError: another run is loading the batch.
        TransientError: the database went away, or the claim was lost; nothing of the transaction was kept.
    """
    timer = Timer()
    options = settings.source(content.source.name)
    try:
        with db.connect(settings, "medallion_silver", autocommit=True) as connection:
            items = Ledger(connection).start_batch(batch_id, run_id, content.code_version, options, clock.now())
            load = _Load(settings, content, connection)
            outcomes = load.together(items) if items else []
            return LoadReport(outcomes, timer.seconds)
    except psycopg.OperationalError as error:
        raise classify_database_error(error) from error


def open_item(settings: Settings, content: SilverContent, item: DatasetIngestion) -> Extraction:
    """Open the artifact of a bronze item with the recipe for it.

    Raises:
        DamagedBronzeItemError: the item is not on the disk as the ledger says.
        MedallionError: what `open_extraction` says of the file.
    """
    folder = settings.bronze_path / str(item.bronze_path)
    try:
        artifacts = decode_item((folder / ITEM_FILE).read_bytes()).artifacts
        [artifact] = artifacts if len(artifacts) == 1 else _main_artifacts(content, artifacts)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise DamagedBronzeItemError(
            f"{folder / ITEM_FILE} cannot be read ({error}). "
            f"Run 'medallion bronze verify {content.source.name}', restore the item, then requeue it."
        ) from error
    if isinstance(content.parser, FileParser):
        return open_file(folder / artifact.name, content.parser, _file_facts(item, artifact, artifacts))
    return open_extraction(folder / artifact.name, content.parser, item_facts(item))


def item_facts(item: DatasetIngestion) -> ItemFacts:
    """Return what a transform may know of an item."""
    if item.bronze_ingest_end_time is None:
        raise TerminalError(f"{item.bronze_path}: the ledger has no fetch time for the item; run 'medallion bronze verify'.")
    return ItemFacts(item.file_id, item.bronze_filename or item.external_id, item.bronze_ingest_end_time)


def _main_artifacts(content: SilverContent, artifacts: Sequence[Artifact]) -> list[Artifact]:
    return [artifact for artifact in artifacts if artifact.name.partition(".")[0] == content.source.artifact_type]


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
    recipes: dict[UUID, Recipe] = field(default_factory=dict)
    verdicts: dict[UUID, RefusedFileError] = field(default_factory=dict)

    def together(self, items: Sequence[DatasetIngestion]) -> list[DatasetIngestion]:
        """Load all items in one transaction; where Postgres refuses a value, each in its own."""
        try:
            return self._in_transaction(items)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(items) > 1:
                _LOG.warning(
                    "Postgres refused a value of these %d items, so they are loaded one by one: %s", len(items), error,
                    extra={"run_id": items[0].silver_run_id, "batch_id": items[0].batch_id, "source": items[0].source_type},
                )  # fmt: skip
                return [outcome for item in items for outcome in self.together([item])]
            return self._save_failure(items[0], classify_database_error(error))

    def _in_transaction(self, items: Sequence[DatasetIngestion]) -> list[DatasetIngestion]:
        with self.connection.transaction():
            opened = ((item_facts(item), self._read(item)) for item in items)
            loads = load_items(self.connection, self.content.table, opened, max_rejected_share=self._options.max_rejected_share)
            by_id = {load.file_id: load for load in loads}
            return self._save([self._outcome(item, by_id[item.file_id]) for item in items])

    def _save_failure(self, item: DatasetIngestion, error: MedallionError) -> list[DatasetIngestion]:
        with self.connection.transaction():
            return self._save([item.failed(error, clock.now(), self._options)])

    def _save(self, outcomes: list[DatasetIngestion]) -> list[DatasetIngestion]:
        lost = {outcome.file_id for outcome in outcomes} - Ledger(self.connection).save(outcomes)
        if lost:
            raise LostClaimError(f"{len(lost)} items of batch {outcomes[0].batch_id} belong to another run by now. Nothing to do here.")
        return outcomes

    def _read(self, item: DatasetIngestion) -> Iterator[Row | RejectedRecord]:
        # A generator: what is wrong with a file is raised where the loader can tell whose fault it is.
        extraction = open_item(self.settings, self.content, item)
        self.recipes[item.file_id] = extraction.recipe
        if isinstance(self.content.parser, FileParser):
            yield self._note_verdict(item, *extraction.records)
        else:
            yield from extraction.records

    def _note_verdict(self, item: DatasetIngestion, record: Row | RejectedRecord) -> Row | RejectedRecord:
        if isinstance(record, RejectedRecord):
            self.verdicts[item.file_id] = RefusedFileError(record.message)
        return record

    def _outcome(self, item: DatasetIngestion, load: ItemLoad) -> DatasetIngestion:
        described = _describe(item, self.recipes.get(item.file_id))
        if load.error is not None:
            # Of a file that is one record, "1 of 1 rejected" says less than the reason.
            return described.failed(self.verdicts.get(item.file_id, load.error), clock.now(), self._options)
        counts = RowCounts(load.read, load.created, load.updated, load.unchanged, load.duplicate, load.rejected)
        return described.finished(f"{self.content.table.schema}.{self.content.table.name}", counts, load.flags, clock.now())

    @property
    def _options(self) -> SourceSettings:
        return self.settings.source(self.content.source.name)


def _describe(item: DatasetIngestion, recipe: Recipe | None) -> DatasetIngestion:
    """Take over what the recipe knows of the data; an item that no recipe fits keeps what it had."""
    if recipe is None:
        return item
    return item.described(
        domain=recipe.domain, source=recipe.source, dataset=recipe.dataset, discriminator=recipe.discriminator, ticker=recipe.ticker
    )
